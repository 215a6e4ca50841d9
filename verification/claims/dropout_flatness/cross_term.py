r"""The cross term in the proof of theorem 2, after (3): printed one-sided.

∇(εf^j) = ε∇f^j + f^j∇ε, and ∇ε = ∇f: the outer product has the two cross terms εf^j(∇ε∇f^jᵀ + ∇f^j∇εᵀ). Printed is
twice the first. Both give the same quadratic form vᵀ·v; the printed one is no symmetric matrix.
"""

from __future__ import annotations

import numpy as np

from verification.claims.dropout_flatness._noise import Noise, Sample, both, build, outer, points
from verification.claims.dropout_flatness._planted import at
from verification.model import Budget, Claim, Correction, Measurement, identity


def product(x: Sample) -> np.ndarray:
    """Σ_j ∇(εf^j)∇(εf^j)ᵀ."""
    k = x.singles(0 * x.s)
    return k.T @ k


def around(x: Sample) -> np.ndarray:
    """The two terms that are printed right: ε²Σ∇f^j∇f^jᵀ + ∇f∇fᵀ Σ(f^j)²."""
    return x.e**2 * (x.g.T @ x.g) + (x.f @ x.f) * outer(x.g0)


def one_sided(of: Noise) -> Measurement:
    """2Σ εf^j ∇ε ∇f^jᵀ."""
    return identity(of.sum(lambda x: around(x) + 2 * x.e * np.outer(x.g0, x.f @ x.g)), of.sum(product))


def two_sided(of: Noise) -> Measurement:
    """Σ εf^j (∇ε∇f^jᵀ + ∇f^j∇εᵀ)."""
    return identity(of.sum(lambda x: around(x) + x.e * both(x.f @ x.g, x.g0)), of.sum(product))


CLAIMS = (
    Claim(
        id="dropout-flatness/cross-term",
        title="The cross term of the linearised covariance, printed one-sided",
        source="dropout-flatness, proof of Theorem 2, after (3)",
        statement=r"\sum_j\nabla(\varepsilon f^j)\nabla(\varepsilon f^j)^\top = \varepsilon^2\sum_j\nabla "
        r"f^j\nabla f^{j\top} + \nabla "
        r"f\nabla f^\top\sum_j(f^j)^2 + 2\sum_j\varepsilon f^j\,\nabla\varepsilon\,\nabla f^{j\top}",
        strategy=points((1, 2)),
        explicit=(at((1, 1, 1), "linear", theta=[1, 0, 1, 0], X=[[1]], y=[2]),),
        build=build,
        measure=one_sided,
        grade="proved",
        corrected=Correction(
            tex=r"\dots + \sum_j\varepsilon f^j\left(\nabla\varepsilon\,\nabla f^{j\top} + \nabla "
            r"f^j\,\nabla\varepsilon^\top\right) = "
            r"\dots + \tfrac14\sum_j\left(\nabla(\varepsilon^2)\nabla((f^j)^2)^\top + "
            r"\nabla((f^j)^2)\nabla(\varepsilon^2)^\top\right)",
            measure=two_sided,
            proof="$\\nabla(\\varepsilon f^j) = \\varepsilon\\nabla f^j + f^j\\nabla\\varepsilon$, "
            "$\\nabla\\varepsilon = \\nabla f$; "
            "multiply out.",
        ),
        budget=Budget(quick=40, full=300),
        notes="An erratum: a covariance is symmetric. The quadratic forms agree. The proof then drops the term "
        "by ∇(ε²) = 0, see "
        "theorem-2-hypothesis; it is of the order of the terms that stay.",
    ),
)
