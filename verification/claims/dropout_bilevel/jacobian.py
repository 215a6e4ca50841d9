"""(13): the Jacobian of the dropout problem's lower solution, over the rationals."""

from __future__ import annotations

import itertools as it
from collections.abc import Callable
from typing import Any

import numpy as np

from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from refimpl.exact import solution_jacobian
from refimpl.problem import BilevelProblem
from refimpl.zoo import quadratic
from verification.claims.dropout_bilevel._masks import RATIONAL, Model, at, law, model, models
from verification.model import Budget, Claim, Control, Correction, Measurement, identity


def formula_13(problem: BilevelProblem, case: Model, *, sign: int = -1) -> Array:
    """−(∇²_ww)⁻¹ (∇²_λw)ᵀ of ``problem``'s lower level at (λ, w(λ)), d x n."""
    at_solution = (case.lam, case.w)
    H, C = problem.lower.hess_ww(*at_solution).dense(), problem.lower.cross(*at_solution).dense()
    return sign * factor(RATIONAL, H).solve(C).T


def transposed_13(case: Model) -> Array:
    """(13) with ∇²_λw in the layout of (16), n x d, where it conforms (n = d); else the formula."""
    H = case.noisy.lower.hess_ww(case.lam, case.w).dense()
    C = case.noisy.lower.cross(case.lam, case.w).dense()
    return -factor(RATIONAL, H).solve(C.T).T if len(C) == len(H) else formula_13(case.noisy, case)


def jacobian(formula: Callable[[Model], Array]) -> Callable[[Model], Measurement]:
    """A stated Jacobian against central differences of the literal normal equations' solution."""
    return lambda case: identity(formula(case), case.jacobian)


def right_jacobian(case: Model) -> Measurement:
    """(13), and what the library returns."""
    both = [formula_13(case.noisy, case), solution_jacobian(case.noisy, case.lam)]
    return identity(both, [case.jacobian] * 2)


# -- all problems of two variables, from finitely many ----------------------------------------------------------


def grid_point(params: dict[str, Any]) -> Model:
    """G = ½wᵀHw + λ c·w and F = w_1 at λ = 1; n = 1, d = 1 or 2."""
    h, c = params["h"], params["c"]
    H = [[h[0]]] if len(h) == 1 else [[h[0], h[2]], [h[2], h[1]]]
    lower = quadratic.objective(ww=H, lw=[c])
    upper = quadratic.objective(ww=np.zeros((len(H), len(H))), w1=np.eye(len(H))[0], n=1)
    plain = BilevelProblem(upper, lower).to("rational")
    return Model(plain, law({"n": 1, "d": len(H), **params}), RATIONAL.asarray(np.ones(1)), params)


THIRDS = (2, 4, 6)  # three keep probabilities, in eighths
GRID = [
    {"h": [h], "c": [1], "keep_lam": [q], "keep_w": [p]} for h in (3, 4) for q in THIRDS for p in THIRDS
] + [
    {
        "h": list(h),
        "c": list(c),
        "keep_lam": [q],
        "keep_w": list(p),
        "groups_w": list(range(len(p))) * (3 - len(p)),
    }
    for h in it.product((3, 4), (3, 4), (-1, 0, 1))
    for c in ((1, 0), (0, 1))
    for q in THIRDS
    for p in [*it.product(THIRDS, repeat=2), *((k,) for k in THIRDS)]
]

SHARED: dict[str, Any] = {
    "strategy": models(),
    "build": model,
    "grade": "proved",
    "budget": Budget(quick=60, full=1000),
}
SMALL = (at(1, 1), at(1, 1, 1), at(1, 2), at(2, 1), at(2, 2))

CLAIMS = (
    Claim(
        id="dropout-bilevel/prop-1-jacobian",
        title="The Jacobian of the dropout problem's lower solution",
        source="dropout-bilevel, (13)",
        statement=r"J(w(\lambda)) = -\left(\nabla^2_{ww}\bar G\right)^{-1}\left(\nabla^2_{\lambda w}\bar "
        r"G\right)^\top \text{ at } (\lambda, w(\lambda)), \quad \nabla^2_{\lambda w}\bar G \text{ of shape "
        r"} n \times d",
        explicit=SMALL,
        measure=right_jacobian,
        controls=(
            Control("G for Ḡ", kind="formula", measure=jacobian(lambda c: formula_13(c.plain, c))),
            Control("sign", kind="formula", measure=jacobian(lambda c: formula_13(c.noisy, c, sign=1))),
            Control("∇²_λw not transposed", kind="formula", measure=jacobian(transposed_13)),
        ),
        notes="The judge solves $E[m_wHm_w]\\,w = -E[m_w\\nabla_wG(m_\\lambda\\lambda, 0)]$, sums written "
        "out mask by mask, at $\\lambda \\pm e_j$: $w(\\lambda)$ is affine, so the central difference is "
        "its derivative. Masks of both levels, w's also grouped.",
        **SHARED,
    ),
    Claim(
        id="dropout-bilevel/prop-1-jacobian@two-variables",
        title="The Jacobian, proved for quadratic problems of up to two lower-level variables",
        source="dropout-bilevel, (13)",
        statement=r"$J(w(\lambda)) = -\left(\nabla^2_{ww}\bar G\right)^{-1}\left(\nabla^2_{\lambda w}\bar "
        r"G\right)^\top$ for quadratic $G$, $d \le 2$, all keep probabilities, w's two masks independent or "
        r"one",
        explicit=GRID,
        build=grid_point,
        measure=jacobian(lambda c: formula_13(c.noisy, c)),
        grade="proved",
        complete="times det ∇²_wwḠ both sides are polynomials: linear in ∇²_λwG, of degree at most one in "
        "each diagonal entry of H, two in the other and two in each keep probability; they agree on a grid "
        "with one point more than that in every direction (a basis for the linear one). Other coefficients "
        "of G enter neither side, and each λ_j enters separately.",
        controls=(
            Control("G for Ḡ", kind="formula", measure=jacobian(lambda c: formula_13(c.plain, c))),
            Control("sign", kind="formula", measure=jacobian(lambda c: formula_13(c.noisy, c, sign=1))),
        ),
        notes="By the implicit function theorem, which is not executed here, the Jacobian of a smooth "
        "problem depends on these second derivatives at the solution only; see @nonlinear for such problems.",
    ),
    Claim(
        id="dropout-bilevel/erratum-13",
        title="As printed: (13) and (16) use one ∇²_λw, of one shape",
        source="dropout-bilevel, (13) and (16)",
        statement=r"J(w(\lambda)) = -\left(\nabla^2_{ww}\bar G\right)^{-1}\nabla^2_{\lambda w}\bar G \text{ "
        r"with the } \nabla^2_{\lambda w}\bar G \text{ that maps } v \in \mathbb R^d \text{ to } \mathbb "
        r"R^n \text{ in (16), where } n = d",
        printed=r"J(w(\lambda)) = -\nabla^2_{ww}\bar G(\lambda, w(\lambda))^{-1}\,\nabla^2_{\lambda w}\bar "
        r"G(\lambda, w(\lambda))",
        explicit=(at(1, 1, simple=1), at(2, 2, simple=1)),
        measure=jacobian(transposed_13),
        corrected=Correction(
            tex=r"J(w(\lambda)) = -\left(\nabla^2_{ww}\bar G\right)^{-1}\left(\nabla^2_{\lambda w}\bar "
            r"G\right)^\top",
            measure=right_jacobian,
            proof="Differentiate $\\nabla_w\\bar G(\\lambda, w(\\lambda)) = 0$: the derivative of "
            "$\\nabla_w\\bar G$ in λ is d × n, that is $\\nabla^2_{w\\lambda}$, the transpose of what "
            "stands in (16).",
        ),
        notes="A misprint of notation: the products conform in both places only where $n = d$, and then one "
        "is transposed. Right for $n = d = 1$. (The proposition's last line has $J(\\lambda(w))$ for "
        "$J(w(\\lambda))$.)",
        **SHARED,
    ),
)
