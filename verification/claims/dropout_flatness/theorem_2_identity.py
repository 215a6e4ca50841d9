r"""What survives of theorem 2: E ggᵀ = aM + Cov(ε_η², ∇f_η∇f_ηᵀ), and what follows from it.

g = ε_η∇f_η, so E ggᵀ = E[ε_η² · ∇f_η∇f_ηᵀ] = E ε_η² · E∇f_η∇f_ηᵀ + Cov: the definition of a covariance. E ε_η² = ε²
+ sF = a (loss identity) and E∇f_η∇f_ηᵀ = g₀g₀ᵀ + sΣg_jg_jᵀ = M, as the η_j are uncorrelated with variance s. The
averages of M_i are H as theorem 1 prints it; so the identity suggests b_i = a_i, and the printed b_i = ε_i² leaves
s²FΣg_jg_jᵀ out besides the covariance.

Cauchy–Schwarz: ‖Cov(ε_η², A)‖_F² <= Var(ε_η²) E‖A − EA‖_F² for a random matrix A; equality where A − EA is a
multiple of ε_η² − Eε_η², as for one unit, whose η has two values.

Pathwise: m² <= ε_η² <= M² for all masks and samples gives m²∇f_η∇f_ηᵀ ⪯ ggᵀ ⪯ M²∇f_η∇f_ηᵀ; average.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.dropout_flatness._noise import Noise, below, build, points
from verification.claims.dropout_flatness._planted import at
from verification.claims.dropout_flatness.theorem_2_error import spread_of_matrix, square_variance
from verification.model import Budget, Claim, Control, Equality, Measurement, identity

SOURCE = "dropout-flatness, Theorem 2"
Second = Callable[[Noise], Array]


def covariance_terms(of: Noise) -> Array:
    """Cov_η(ε_η², ∇f_η∇f_ηᵀ) of every sample: E(ε_η² − Eε_η²) ∇f_η∇f_ηᵀ."""
    chances, errors, _ = of.masked
    mean = (chances[:, None] * errors**2).sum(axis=0)
    return of.mean_of(lambda errors: errors**2 - mean)


def split(
    factor: Callable[[Any], Any] = lambda x: x.a, *, units: bool = True
) -> Callable[[Noise], Measurement]:
    """E ggᵀ = a_iM_i + Cov for every sample; ``units``: M with its sum over units."""

    def measure(of: Noise) -> Measurement:
        M = [x.M if units else np.outer(x.g0, x.g0) for x in of.samples]
        first = np.stack([factor(x) * m for x, m in zip(of.samples, M, strict=True)])
        return identity(first + covariance_terms(of), of.seconds)

    return measure


def by_deviations(of_square: Callable[[Any], Any] = square_variance) -> Callable[[Noise], Measurement]:
    """‖E ggᵀ − aM‖² <= Var(ε_η²) E‖∇f_η∇f_ηᵀ − M‖², the worst sample."""

    def measure(of: Noise) -> Measurement:
        found = []
        for x, second, spread in zip(of.samples, of.seconds, spread_of_matrix(of), strict=True):
            gap = second - x.a * x.M
            found.append(Measurement(observed=(gap * gap).sum(), bound=of_square(x) * spread))
        return max(found, key=lambda measured: measured.used)

    return measure


def pathwise(
    least: Callable[[Noise], Any] = lambda of: of.errors_squared[0],
    most: Callable[[Noise], Any] = lambda of: of.errors_squared[1],
) -> Callable[[Noise], Measurement]:
    """m² H ⪯ E ggᵀ ⪯ M² H, the worse side in its worst direction."""

    def measure(of: Noise) -> Measurement:
        H, second = of.at.printed, of.second
        return max(below(least(of) * H, second), below(second, most(of) * H), key=lambda found: found.used)

    return measure


TINY = at((1, 1, 1), "linear", theta=[1, 0, 1, 0], X=[[1]], y=[3], keep=[2])
STRATEGY = points()

CLAIMS = (
    Claim(
        id="dropout-flatness/theorem-2-identity",
        title="The second moment of a dropout gradient splits into a multiple of theorem 1's matrix and a "
        "covariance",
        source=SOURCE + ", derived here",
        statement=r"E_\eta\,gg^\top = a_iM_i + \operatorname{Cov}_\eta(\varepsilon_\eta^2, \nabla f_\eta\nabla "
        r"f_\eta^\top), \quad a_i = "
        r"2E_\eta\ell(f_\eta, y_i), \quad M_i = \nabla f\nabla f^\top + \sum_js_j\nabla f^j\nabla f^{j\top}",
        strategy=STRATEGY,
        explicit=(TINY, at((2, 2, 2, 1), "relu", n=2, seed=1, keep=[2, 6])),
        build=build,
        measure=split(),
        grade="proved",
        controls=(
            Control("b_i for a_i", kind="formula", measure=split(lambda x: x.e**2)),
            Control("∇f∇fᵀ for M", kind="formula", measure=split(units=False)),
        ),
        budget=Budget(quick=50, full=300),
        notes="Any keep probabilities. It suggests $b_i = a_i$; what is then left out is the covariance alone.",
    ),
    Claim(
        id="dropout-flatness/theorem-2-identity@bound",
        title="With the expected loss in both sums the error is at most a product of two standard deviations",
        source=SOURCE + ", corrected",
        statement=r"\|E_\eta\,gg^\top - a_iM_i\|_F^2 \le "
        r"\operatorname{Var}(\varepsilon_\eta^2)\;E_\eta\|\nabla f_\eta\nabla f_\eta^\top - "
        r"M_i\|_F^2, \quad \operatorname{Var}(\varepsilon_\eta^2) = 4\varepsilon^2sF + "
        r"4\varepsilon\mu_3\sum_jf_j^3 + (\mu_4 - "
        r"3s^2)\sum_jf_j^4 + 2s^2F^2",
        strategy=points((1, 2), least=2, keep=st.integers(1, 7).map(lambda k: [k])),  # one unit: equality
        explicit=(TINY, at((1, 2, 1), "relu", n=2, seed=1, keep=[7])),
        build=build,
        measure=by_deviations(),
        grade="proved",
        controls=(
            Control(
                "2s²F² left out",
                kind="formula",
                measure=by_deviations(lambda x: square_variance(x) - 2 * (x.s[0] * (x.f @ x.f)) ** 2),
            ),
            Control(
                "μ₃ left out",
                kind="formula",
                measure=by_deviations(
                    lambda x: square_variance(x) - 4 * x.e * x.s[0] * (x.s[0] - 1) * (x.f**3).sum()
                ),
            ),
        ),
        equality=Equality(params=TINY, reaches=1.0),
        budget=Budget(quick=60, full=300),
        notes="Equality for one unit, whose η has two values.",
    ),
    Claim(
        id="dropout-flatness/theorem-2-identity@pathwise",
        title="The second moment lies between multiples of theorem 1's matrix, by the errors of all masked "
        "outputs",
        source=SOURCE + ", corrected",
        statement=r"\min_{i,\eta}\varepsilon_{\eta,i}^2\;H \preceq \frac1n\sum_iE_\eta\,gg^\top \preceq "
        r"\max_{i,\eta}\varepsilon_{\eta,i}^2\;H, \quad H = \frac1n\sum_i\left[\nabla f\nabla f^\top + "
        r"\sum_js_j\nabla f^j\nabla "
        r"f^{j\top}\right]",
        strategy=STRATEGY,
        explicit=(TINY, at((1, 2, 1), "relu", n=2, seed=1, keep=[7])),
        build=build,
        measure=pathwise(),
        grade="proved",
        controls=(
            Control(
                "errors without masks below",
                kind="formula",
                measure=pathwise(least=lambda of: min(of.at.errors**2)),
            ),
            Control(
                "errors without masks above",
                kind="formula",
                measure=pathwise(most=lambda of: max(of.at.errors**2)),
            ),
        ),
        equality=Equality(
            params=at((1, 1, 1), "linear", theta=[1, 0, 0, 0], X=[[1]], y=[2], keep=[4]), reaches=1.0
        ),
        budget=Budget(quick=60, full=300),
        notes="H as theorem 1 prints it. At stationary points the middle is $\\Sigma_{\\text{one}}$. Equality "
        "where w = 0: all masked "
        "outputs are equal.",
    ),
)
