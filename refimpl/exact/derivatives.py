"""The Jacobian of the lower-level solution; the hyperobjective's Hessian where it is quadratic."""

from __future__ import annotations

from typing import Any

from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.exact.lower import require_solved, solve_lower
from refimpl.problem import BilevelProblem, Problem
from refimpl.zoo.quadratic import Quadratic


def solution_jacobian(problem: Problem, lam: Any, *, w: Any = None) -> Array:
    """w'(λ) = −(∂_w r)⁻¹ ∂_λ r, (d, n), at w(λ), for a single λ (contraction, (4)).

    w : the lower-level solution where it is known (then checked: ``NotConverged``), else it is computed.
    Cost: one factorisation and n solves.

    >>> import refimpl as ri
    >>> problem = ri.zoo.quadratic.random(n=2, d=3, seed=0)
    >>> ri.exact.solution_jacobian(problem, problem.start()).shape
    (3, 2)
    """
    lam = _single(problem, lam)
    lower = solve_lower(problem, lam) if w is None else require_solved(problem, lam, problem.w(w))
    B = problem.backend
    columns = B.moveaxis(problem.residual_lam(lam, lower.w).dense(), -1, 0)  # n right-hand sides
    return B.moveaxis(-lower.factor.solve(columns), 0, -1)


def hyperobjective_hessian(problem: BilevelProblem, lam: Any) -> Array:
    """∇²f(λ) = F_λλ + F_λw w' + (F_λw w')ᵀ + w'ᵀ F_ww w', (n, n), for jointly quadratic F and G.

    Then w(λ) is affine, f is quadratic, and this is its constant Hessian, exactly. Other lower levels add
    −Σ_k v_k ∇²_λ(∂G/∂w_k along w(λ)), third derivatives of G, which no objective here carries: ``BadInput``.
    """
    upper, lower = problem.upper, getattr(problem, "lower", None)
    if not (isinstance(upper, Quadratic) and isinstance(lower, Quadratic)):
        raise BadInput(
            "the Hessian of the hyperobjective needs third derivatives of this lower level",
            measured=f"{type(upper).__name__} over {type(lower).__name__}",
            required="both levels quadratic in (λ, w) jointly: zoo.quadratic.Quadratic",
            advice="take finite differences of exact_hypergradient, whose error you know from its bound",
        )
    lam = _single(problem, lam)
    B = problem.backend
    jacobian = solution_jacobian(problem, lam)
    ww, lw, ll, _, _ = upper.mean
    mixed = lw @ jacobian
    return ll + mixed + B.mT(mixed) + B.mT(jacobian) @ ww @ jacobian


def _single(problem: Problem, lam: Any) -> Array:
    lam = problem.lam(lam)
    if lam.ndim != 1:
        raise BadInput(
            "one λ at a time",
            measured=f"shape {tuple(lam.shape)}",
            required=f"({problem.n},)",
            advice="loop over the λ, or use exact_hypergradient, which takes leading axes",
        )
    return lam
