"""The hypergradient of the improved model: the formula of the basic one, at w_λ, with H⁺ for H⁻¹."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flint import fmpq, fmpq_mat
from hypothesis import strategies as st

import refimpl as ri
from refimpl.errors import HypothesisViolated
from verification.claims.improved_bilevel._moving import (
    CONSTANT_RANK,
    Moving,
    at,
    constrained,
    inverse,
    moving,
    sizes,
)
from verification.model import Budget, Claim, Control, Correction, Measurement, identity

SOURCE = "improved-bilevel, (3) and (4)"

Formula = Callable[[Moving], np.ndarray]


def pseudo(case: Moving) -> np.ndarray:
    """H⁺ = Aᵀ(AAᵀ)⁻²A, A of independent rows."""
    A = case.lower.at_lam(case.lam)[0]
    gram = inverse(A @ A.T)
    return np.asarray(A.T @ gram @ gram @ A)


def weighted(case: Moving) -> np.ndarray:
    """Q⁻¹Aᵀ(AQ⁻¹Aᵀ)⁻¹(AAᵀ)⁻¹A: solves H v = g in Q⁻¹ range H instead of range H."""
    A, Q = case.lower.at_lam(case.lam)[0], case.upper.hess_ww(case.lam, case.lam).dense()
    to = inverse(Q) @ A.T
    return np.asarray(to @ inverse(A @ to) @ inverse(A @ A.T) @ A)


def printed(
    generalised: Formula = pseudo, sign: int = -1, direct: int = 1, nearest: bool = False, still: bool = False
) -> Formula:
    """∇_λF − ∇²_λwG H⁺∇_wF at w_λ.

    Mutants: another inverse, sign, no ∇_λF, ``nearest``: at the least-norm minimiser, ``still``: without ∂H/∂λ.
    """

    def formula(case: Moving) -> np.ndarray:
        lam, (A, c) = case.lam, case.lower.at_lam(case.lam)
        w = A.T @ inverse(A @ A.T) @ c if nearest else case.selected(lam)[0]
        w = np.array([getattr(x, "value", x) for x in w], dtype=object)
        v = generalised(case) @ case.upper.grad_w(lam, w)
        cross = case.lower.cross(lam, 0 * w if still else w).dense()
        return np.asarray(direct * case.upper.grad_lam(lam, w) + sign * (cross @ v))

    return formula


def library(case: Moving) -> np.ndarray:
    """The package's own."""
    return np.asarray(ri.exact.improved_hypergradient(case.problem, case.lam, certify="never").value)


def equals(*formulas: Formula) -> Callable[[Moving], Measurement]:
    """Each formula against dF(λ, w_λ)/dλ by dual numbers through the KKT system."""
    return lambda case: identity([f(case) for f in formulas], [case.derivative] * len(formulas))


# -- where the rank changes ----------------------------------------------------------------------------------------

STEP = fmpq(1, 2**30)


def best(case: Moving, lam: Any) -> tuple[np.ndarray, fmpq]:
    """w_λ and f(λ), whatever the rank."""
    A, c = case.lower.at_lam(lam)
    return constrained(*case.upper.at_lam(lam), A.T @ A, A.T @ c)


def pseudo_of_any_rank(H: np.ndarray) -> np.ndarray:
    """H⁺ = Rᵀ(CᵀHRᵀ)⁻¹Cᵀ of a full-rank factorisation H = C R; zero for H = 0."""
    reduced, rows = fmpq_mat(H.tolist()).rref()
    if not rows:
        return 0 * H
    R = np.array(reduced.tolist(), dtype=object)[:rows]
    pivots = [next(j for j in range(len(H)) if row[j] != 0) for row in R]
    C = H[:, pivots]
    return np.asarray(R.T @ inverse(C.T @ H @ R.T) @ C.T)


def formula_of_any_rank(case: Moving) -> np.ndarray:
    """The formula, evaluated as if nothing happened to the rank."""
    lam, w = case.lam, best(case, case.lam)[0]
    v = pseudo_of_any_rank(case.lower.hess_ww(lam, w).dense()) @ case.upper.grad_w(lam, w)
    return np.asarray(case.upper.grad_lam(lam, w) - case.lower.cross(lam, w).dense() @ v)


def quotient(case: Moving) -> Measurement:
    """(f(λ + h e_1) − f(λ))/h against the formula's first entry, h = 2⁻³⁰: within √h where f is smooth."""
    moved = case.lam.copy()
    moved[0] += STEP
    slope = (best(case, moved)[1] - best(case, case.lam)[1]) / STEP
    allowed = fmpq(1, 2**15) * (1 + abs(slope))
    return Measurement(observed=abs(slope - formula_of_any_rank(case)[0]), bound=allowed)


def flat_part(shifted: int = 0, other: bool = False) -> Callable[[Moving], Measurement]:
    """∇²_λwG N against 0 at a point of Argmin G; mutants: off it, and with ∇²_λwF."""

    def measure(case: Moving) -> Measurement:
        lam, w = case.lam, best(case, case.lam)[0]
        H = case.lower.hess_ww(lam, w).dense()
        off = np.eye(len(w), dtype=int) - pseudo_of_any_rank(H) @ H
        along = w + off @ np.arange(1, len(w) + 1) + shifted
        cross = (case.upper if other else case.lower).cross(lam, along).dense()
        return identity(cross @ off, 0 * (cross @ off))

    return measure


def refused(case: Moving) -> Measurement:
    """0 where the library refuses the problem."""
    try:
        ri.exact.improved_hypergradient(case.problem, case.lam)
    except HypothesisViolated:
        return Measurement(observed=0, bound=0)
    return Measurement(observed=1, bound=0)


EXPLICIT = (at(1, 1, 1), at(1, 2, 1), at(2, 2, 1), at(1, 3, 2), at(2, 3, 1), at(1, 2, 2))
DROP = at(1, 1, 1, drop="row")

CLAIMS = (
    Claim(
        id="improved-bilevel/improved-hypergradient",
        title="The improved model's hypergradient is the basic formula with the pseudo-inverse",
        source=SOURCE,
        statement=r"\nabla f(\lambda) = \nabla_\lambda F - \nabla^2_{\lambda "
        r"w}G\,(\nabla^2_{ww}G)^+\,\nabla_wF \text{ at } (\lambda, w_\lambda)",
        hypotheses=(CONSTANT_RANK,),
        strategy=sizes(),
        explicit=EXPLICIT,
        build=moving,
        measure=equals(printed(), printed(weighted), library),
        grade="proved",
        controls=(
            Control("the rank changes at λ", params=DROP, measure=quotient),
            Control("the other sign", kind="formula", measure=equals(printed(sign=1))),
            Control("∇_λF left out", kind="formula", measure=equals(printed(direct=0))),
            Control("at the least-norm minimiser", kind="formula", measure=equals(printed(nearest=True))),
            Control(
                "∂H/∂λ left out of the cross derivative", kind="formula", measure=equals(printed(still=True))
            ),
        ),
        budget=Budget(quick=25, full=1000),
        notes="Proof: $\\nabla_wF = Hv$ at $w_\\lambda$ (optimality along $\\ker H$), and differentiating "
        "$\\nabla_wG(\\lambda, w_\\lambda) = 0$ gives $H\\,dw_\\lambda/d\\lambda = -(\\nabla^2_{\\lambda "
        "w}G)^\\top$; multiply by $v$. $H$, $b$, $Q$ and $a$ all depend on $\\lambda$ here. Neither a "
        "derivative of $H^+$ nor a $Q$-weighted inverse is needed: at $w_\\lambda$ both inverses give the "
        "same, since $\\nabla^2_{\\lambda w}G$ vanishes on $\\ker H$. The judge differentiates the KKT "
        "system's solution by dual numbers.",
    ),
    Claim(
        id="improved-bilevel/improved-hypergradient@flat",
        title="The cross derivative vanishes along the flat directions, at every minimiser of G",
        source=SOURCE,
        statement=r"\nabla^2_{\lambda w}G(\lambda, w)\,N = 0 \quad\text{for } w \in "
        r"\mathrm{Argmin}\,G(\lambda,\cdot),\ \mathrm{range}\,N = \ker\nabla^2_{ww}G",
        hypotheses=(CONSTANT_RANK,),
        strategy=sizes(),
        explicit=EXPLICIT,
        build=moving,
        measure=flat_part(),
        grade="proved",
        controls=(
            Control("the rank changes at λ", params=at(1, 1, 1, drop="matrix")),
            Control("off the minimisers", kind="formula", measure=flat_part(shifted=1)),
            Control("the cross derivative of F", kind="formula", measure=flat_part(other=True)),
        ),
        budget=Budget(quick=60, full=1500),
        notes="Differentiate $N^\\top\\nabla_wG \\equiv 0$. So the adjoint is free along the flat "
        "directions, and a product that is not 0 tells of a change of rank from one point alone. It need "
        "not: $G = \\frac12\\lambda^2(w - 1)^2$ at $\\lambda = 0$ has none, $G = \\frac12(\\lambda w - 1)^2$ "
        "has.",
    ),
    Claim(
        id="improved-bilevel/improved-hypergradient@any-rank",
        title="Read without constant rank: the formula's number is the slope of f where the rank changes too",
        source=SOURCE,
        statement=r"\left|\frac{f(\lambda + he_1) - f(\lambda)}{h} - (\nabla f)_1\right| \le \sqrt h\,(1 + "
        r"|\cdot|), \quad h = 2^{-30}, \ \nabla f \text{ by the formula}",
        strategy=st.one_of(
            sizes(drop=st.sampled_from(("", "row", "matrix"))), sizes(n=st.just(4), drop=st.just("signs"))
        ),
        explicit=(
            DROP,
            at(1, 1, 1, drop="matrix"),
            at(1, 2, 1, drop="row"),
            at(2, 3, 2, drop="row"),
            at(4, 2, 1, drop="signs"),
        ),
        build=moving,
        measure=quotient,
        grade="proved",
        controls=(
            Control(
                "no refusal where the rank is constant",
                kind="formula",
                measure=refused,
                params=at(1, 2, 1),
            ),
        ),
        corrected=Correction(
            tex=r"\text{where the rank is constant; elsewhere no number is returned}",
            measure=lambda case: quotient(case) if refused(case).observed else refused(case),
            proof="See improved-hypergradient for constant rank. At a change of rank $f$ jumps: $G = "
            "\\frac12\\lambda^2(w - 1)^2$ leaves $F$ all of $\\mathbb R$ at $\\lambda = 0$ and one point "
            "beside it.",
        ),
        budget=Budget(quick=40, full=500),
        notes="The formula sees nothing: at $\\lambda = 0$ it returns $\\nabla_\\lambda F$. The package "
        "measures the rank at neighbours of $\\lambda$ and refuses; also where $H$ drops with $(a^\\top\\lambda)^2$, "
        "$a = (1, -1, -1, 1)$, which many neighbours do not show.",
    ),
)
