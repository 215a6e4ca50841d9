"""The lower-level solution w(λ), to rounding: Newton with a line search on ‖r(λ, w)‖²."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refimpl.arrays import Factor, factor, factor_spd, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, HypothesisViolated, NotConverged
from refimpl.problem import Problem
from refimpl.solvers.lower import overflow_allowed
from refimpl.solvers.newton import line_search
from refimpl.spaces import expect


@dataclass(frozen=True, eq=False)
class LowerSolution:
    """w, its residual r(λ, w), the Newton correction −(∂_w r)⁻¹ r left there, and ∂_w r factorised there."""

    w: Array
    residual: Array
    correction: Array
    factor: Factor
    jacobian: Array
    steps: int


def factorised(problem: Problem, lam: Array, w: Array) -> tuple[Array, Factor]:
    """∂_w r at (λ, w), dense, and its factorisation: Cholesky for a minimisation, LU for a fixed point."""
    jacobian = problem.residual_w(lam, w).dense()
    return jacobian, (factor_spd if problem.symmetric else factor)(problem.backend, jacobian)


def rounding_floor(problem: Problem, lam: Array, w: Array, jacobian: Array) -> Array:
    """Size to which floats can bring ‖r‖: 10 d eps (‖∂_w r‖_F ‖w‖ + ρ); 0 where exact.

    ρ is ‖r(λ, 0)‖, the size of what does not depend on w, but at most ‖∂_w r‖_F (1 + ‖w‖): r may be steep, or
    not even defined, far from its solution, and that says nothing about rounding here.
    ‖w‖ is added for a fixed point, where w − Φ(λ, w) cancels.
    """
    B = problem.backend
    if B.exact or not B.ordered:
        return 0 * B.sum(w)
    flat = B.reshape(jacobian, (*jacobian.shape[:-2], 1, problem.d**2))
    frobenius = B.sqrt((flat @ B.mT(flat))[..., 0, 0])  # a product, since squaring would copy the matrix
    with overflow_allowed():
        constant = B.norm(problem.residual(lam, 0 * w))
    most = frobenius * (1 + B.norm(w))
    constant = B.where(constant < most, constant, most)  # also where it is not a number
    return 10 * problem.d * B.eps * ((frobenius + problem.cancels) * B.norm(w) + constant)


def terms_floor(problem: Problem, lam: Array, w: Array) -> Array:
    """10 d eps E‖r_k(λ, w)‖ over a finite sum: what its terms' cancellation hides from ``rounding_floor``.

    It matters where w(λ) is near 0, as with centred data. Cost: every term's residual; so it is asked last.
    """
    if problem.space.size == 1:
        return 0 * problem.backend.sum(w)
    B, lead = problem.backend, max(lam.ndim, w.ndim) - 1

    def sizes(points: Any) -> Array:
        return B.norm(problem.at(problem.space.ahead(points, lead)).residual(lam, w))

    return 10 * problem.d * B.eps * expect(problem.space, sizes, B)


def floor_at(problem: Problem, lam: Array, w: Array, jacobian: Array, r: Array) -> Array:
    """The size of ‖r‖ that counts as solved at (λ, w): the terms are asked only where r is above ``rounding_floor``."""
    B = problem.backend
    floor = rounding_floor(problem, lam, w, jacobian)
    if B.exact or not B.ordered or bool(B.xp.all(B.dot(r, r) <= floor * floor)):
        return floor
    return floor + terms_floor(problem, lam, w)


def require_smooth(problem: Problem, lam: Array, w: Array) -> None:
    """No level may have a kink at (λ, w): derivatives there are one-sided, and w may be no minimiser at all.

    Nearer than 10 d eps (1 + ‖w‖) counts as at it, as rounding may have moved w there.
    """
    distance = problem.kink_distance(lam, w)
    if np.all(np.isinf(distance)):
        return
    size = 1 + float(np.linalg.norm(to_numpy(w), axis=-1).max())
    if np.min(distance) <= 10 * problem.d * problem.backend.eps * size:
        raise HypothesisViolated(
            "a unit of a network stands at its kink, where the problem has no derivative",
            measured=f"smallest pre-activation {float(np.min(distance)):.3g}",
            required="none at 0",
            advice="start elsewhere (start=...: from the origin all ReLU units stay at 0), or take a smooth activation",
        )


def solve_lower(
    problem: Problem, lam: Array, *, start: Array | None = None, max_steps: int = 100
) -> LowerSolution:
    """w(λ) from ``start`` (the origin by default), over any leading axes of λ.

    Stops at the rounding floor of r, and polishes once; ``NotConverged`` where that is not reached. Where
    ∂_w r is not positive definite for a minimisation, ``HypothesisViolated``.
    On exact backends two Newton steps must give r = 0 exactly, which holds where r is affine in w.
    Cost per step: one dense Jacobian, one factorisation, a few residuals.
    """
    B = problem.backend
    if not B.ordered:
        raise BadInput(
            "an iteration cannot be judged over balls",
            measured=f"backend {B.name!r}",
            required="numbers that can be compared",
            advice="solve in floats, then enclose the solution: refimpl.exact.enclose(problem, lam, w)",
        )
    w = problem.w(start)
    w = B.broadcast(w, (*lam.shape[:-1], problem.d)) if w.ndim < lam.ndim else w
    r = problem.residual(lam, w)
    hidden = None
    for step in range(max_steps + 1):
        jacobian, fact = factorised(problem, lam, w)
        correction = -fact.solve(r)
        floor = rounding_floor(problem, lam, w, jacobian)
        floor = floor if hidden is None else floor + hidden
        if bool(B.xp.all(B.dot(r, r) <= floor * floor)):
            found = LowerSolution(w, r, correction, fact, jacobian, step)
            found = found if B.exact else _polished(problem, lam, found)
            require_smooth(problem, lam, found.w)
            return found
        if step == (2 if B.exact else max_steps):
            break
        if B.exact:  # nothing to search: an affine r is solved by the full step
            w = w + correction
            r = problem.residual(lam, w)
            continue
        try:
            w, r = line_search(problem, lam, w, r, correction, B.dot(r, r) <= floor * floor)
        except NotConverged:
            if hidden is not None:
                raise
            hidden = terms_floor(problem, lam, w)
    if B.exact:
        raise BadInput(
            "the lower level has no closed form over the rationals",
            measured="r(λ, w) != 0 after two Newton steps",
            required="r affine in w (quadratic lower levels)",
            advice="use float64; its certificate evaluates the same formulas over balls",
        )
    raise _not_converged(problem, r, floor)


def _polished(problem: Problem, lam: Array, found: LowerSolution) -> LowerSolution:
    """One more correction with the factorisation at hand, kept in the lanes where it decreases ‖r‖.

    Where it moves w by more than rounding does, ∂_w r has moved too, and is factorised again.
    """
    B = problem.backend
    w = found.w + found.correction
    r = problem.residual(lam, w)
    better = (B.dot(r, r) < B.dot(found.residual, found.residual))[..., None]
    if not bool(B.xp.any(better)):
        return found
    w, r = B.where(better, w, found.w), B.where(better, r, found.residual)
    jacobian, fact = found.jacobian, found.factor
    if bool(B.xp.any(B.norm(found.correction) > 10 * problem.d * B.eps * B.norm(w))):
        jacobian, fact = factorised(problem, lam, w)
    return replace(found, w=w, residual=r, correction=-fact.solve(r), factor=fact, jacobian=jacobian)


def require_solved(problem: Problem, lam: Array, w: Array) -> LowerSolution:
    """w checked to solve r(λ, w) = 0 to its rounding floor, and left as it is; else ``NotConverged``."""
    B = problem.backend
    r = problem.residual(lam, w)
    jacobian, fact = factorised(problem, lam, w)
    floor = floor_at(problem, lam, w, jacobian, r)
    if not bool(B.xp.all(B.dot(r, r) <= floor * floor)):
        raise _not_converged(problem, r, floor)
    require_smooth(problem, lam, w)
    return LowerSolution(w, r, -fact.solve(r), fact, jacobian, 0)


def _not_converged(problem: Problem, r: Array, floor: Array) -> NotConverged:
    B = problem.backend
    return NotConverged(
        "the lower level is not solved",
        measured=f"‖r‖ = {float(B.xp.max(B.norm(r))):.3e}",
        required=f"‖r‖ <= {float(B.xp.max(floor)):.3e}, its rounding floor",
        advice="iterate further, start nearer, or look at problem.check(lam, w): is G strongly convex?",
    )
