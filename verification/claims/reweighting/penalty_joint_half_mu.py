"""The augmented Lagrangian (21) over both variables: for which μ it is convex, and for which its updates converge.

In (u, y), y = ∇_vg, it is φ(u, y) − λᵀy + (μ/2)‖y‖². With φ_uu ≻ 0 its Hessian is positive definite iff S + μI is, S
the Schur complement of φ_uu. An update multiplies the multiplier's error by S(S + μI)⁻¹, and |σ/(σ + μ)| < 1 iff
μ(2σ + μ) > 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flint import fmpq, fmpq_mat
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.reweighting._penalty import definite, one, scalar, sizes
from verification.claims.reweighting._systems import RATIONAL
from verification.claims.reweighting.penalty_joint import Joint, drawn, shifted
from verification.model import Budget, Claim, Control, Hypothesis, Measurement

HALF, ONE = fmpq(1, 2), fmpq(1)


def contracts(j: Joint) -> bool:
    """I − MᵀM positive definite, the columns of M from updates that begin at λ* + e_i."""
    eye, columns = RATIONAL.eye(len(j.S)), []
    for e in eye:
        v = j.at.adjoint + e
        columns.append(e - j.at.gamma * j.residual(*j.minimiser(v)))
    M = np.stack(columns, axis=-1)
    return definite(eye - M.T @ M)


def convex(j: Joint) -> bool:
    """∇²f + μJᵀJ positive definite, J = ∇(∇_vg)ᵀ over (u, v)."""
    return definite(j.P + j.at.gamma * j.J.T @ j.J)


def thresholds(
    half: fmpq = HALF, whole: fmpq = ONE, S: Callable[[Joint], Array] = lambda j: j.S
) -> Callable[[Joint], Measurement]:
    """How many of the two equivalences fail; mutants change the shares of μ or S."""

    def measure(j: Joint) -> Measurement:
        eye, mu = RATIONAL.eye(len(j.S)), j.at.gamma
        predicted = [definite(S(j) + share * mu * eye) for share in (half, whole)]
        return Measurement(
            observed=sum(x != y for x, y in zip((contracts(j), convex(j)), predicted, strict=True)), bound=0
        )

    return measure


def _nonsingular(j: Joint) -> tuple[bool, Any]:
    determinant = fmpq_mat(shifted(j, j.S).tolist()).det()
    return determinant != 0, str(determinant)


def _hyper(j: Joint) -> tuple[bool, Any]:
    return definite(j.uu), str(j.uu.tolist())


def bilinear(p: int, q: int) -> dict[str, Any]:
    """f = uv − v²/2 + v, g = (v − u)²/2: φ_uu = 1 and S = −1, no coupling."""
    return scalar(1, -1, (p, q), A=[[0]], B=[[1]], raw=True)


def coupled(p: int, q: int) -> dict[str, Any]:
    """f = (3u² − v²)/2 + v, g = (v − u)²/2: φ_uu = 2 and S = −3/2, but −1 at a fixed u."""
    return scalar(1, -1, (p, q), A=[[3]], raw=True)


CLAIMS = (
    Claim(
        id="reweighting/penalty-joint@half-mu",
        title="The joint augmented Lagrangian is convex from one μ on, and its updates converge from twice that on",
        source="reweighting, (20) and (21)",
        statement=r"$$\varphi_{uu} \succ 0:\quad \mathcal L(\cdot, \cdot; \lambda) \text{ strictly convex in } (u, v)"
        r"\;\Leftrightarrow\; S + \mu I \succ 0$$ $$\lambda_k \to \lambda^* \text{ from every } \lambda_0 \;"
        r"\Leftrightarrow\; S + \tfrac\mu2I \succ 0$$ $$S = H^{-1}QH^{-1} - \varphi_{yu}\varphi_{uu}^{-1}"
        r"\varphi_{uy},\quad \det(S + \mu I) \neq 0$$",
        hypotheses=(
            Hypothesis("strongly convex hyperobjective", r"\varphi_{uu} \succ 0", _hyper),
            Hypothesis("one stationary point", r"\det(S + \mu I) \neq 0", _nonsingular),
        ),
        strategy=sizes(convex=st.booleans(), raw=st.just(True)),
        explicit=(
            bilinear(1, 2),
            bilinear(3, 2),
            bilinear(2, 1),
            bilinear(3, 1),
            coupled(2, 1),
            coupled(5, 2),
            coupled(4, 1),
            one((4, 1), n=2, d=2, seed=1, convex=False, raw=True),
        ),
        build=drawn,
        measure=thresholds(),
        grade="proved",
        controls=(
            Control("a concave hyperobjective", params=scalar(1, 1, A=[[-3]], raw=True)),
            Control("μ for μ/2", kind="formula", measure=thresholds(half=ONE)),
            Control("μ/4 for μ/2", kind="formula", measure=thresholds(half=HALF / 2)),
            Control("convex from μ/2 on", kind="formula", measure=thresholds(whole=HALF)),
            Control(
                "S of a fixed u", kind="formula", measure=thresholds(S=lambda j: j.at.S), params=coupled(5, 2)
            ),
        ),
        budget=Budget(quick=20, full=400),
        notes="With $f = uv - \\frac12v^2 + v$, $g = \\frac12(v-u)^2$ one has $\\varphi_{uu} = 1$, $S = -1$: convex "
        "for $\\mu > 1$, convergent for $\\mu > 2$, and at $\\mu = \\frac32$ every update multiplies the error by "
        "$-2$. As $S \\preceq H^{-1}QH^{-1}$, an indefinite $f$ may need a larger $\\mu$ than at a fixed $u$ "
        "(auglag-rate@half-mu): $f = \\frac12(3u^2-v^2) + v$ needs more than 3, there 2. Where $\\mathcal L$ is not "
        "convex its stationary point stands for the minimiser. Beyond quadratics $S$ at the solution decides both "
        "near it, equality aside. The map's columns come from updates that begin at $\\lambda^* + e_i$, and pivots "
        "decide.",
    ),
)
