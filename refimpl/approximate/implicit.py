"""Approximate implicit differentiation (AID): any lower solver, then any solver of the adjoint system at its result."""

from __future__ import annotations

from typing import Any

from refimpl.approximate.result import (
    Approximation,
    errors_against,
    finished,
    reference,
    require_solvers,
    start_point,
)
from refimpl.counting import counted
from refimpl.errors import BadInput
from refimpl.problem import FixedPointProblem, Problem
from refimpl.solvers import FixedPointAdjoint, LinearSolver, LowerSolver


def implicit(
    problem: Problem,
    lam: Any,
    *,
    lower: LowerSolver,
    linear: LinearSolver,
    w0: Any = None,
    v0: Any = None,
    exact: Any = None,
) -> Approximation:
    """∇_λF − (∂_λ r)ᵀ v_k at w_t, with (∂_w r)ᵀ v_k ≈ ∇_wF (reweighting, (11)–(13); contraction, Algorithm 1).

    Parameters
    ----------
    lower, linear : from ``refimpl.solvers``; ``linear`` must fit the system (CG needs a minimisation).
    w0, v0 : starting points, the origin by default; w0 may be a Map of λ, whose Jacobian plays no part here.
    exact : an ``exact_hypergradient`` or ``improved_hypergradient`` (or its value), at this λ, asks for ``curve``: the
        error of every adjoint iterate v_0 … v_k.

    Error <= c₁‖w_t − w(λ)‖ + (L_Φ + ν₂‖w_t − w(λ)‖)·‖v_k − v(w_t)‖ (contraction, Theorem 4 without noise), with v in
    Φ scaling: for a minimisation, divide its v by the step η of the constants (v = ηv_Φ).
    Memory O(d), with ``exact`` O(k d). Raises ``HypothesisViolated``, ``NotConverged``, ``BadInput``.

    >>> import refimpl as ri
    >>> problem = ri.zoo.quadratic.random(n=2, d=3, seed=0)
    >>> lam = problem.start()
    >>> near = implicit(problem, lam, lower=ri.solvers.Newton(), linear=ri.solvers.ConjugateGradient(3))
    >>> exact = ri.exact_hypergradient(problem, lam)
    >>> bool(abs(near.value - exact.value).max() < 1e-12)
    True
    """
    require_solvers(lower, LowerSolver, linear, LinearSolver)
    if isinstance(linear, FixedPointAdjoint) and not isinstance(problem, FixedPointProblem):
        raise BadInput(
            "FixedPointAdjoint iterates v ← ∂_wΦᵀ v + ∇_wF",
            measured=type(problem).__name__,
            required="FixedPointProblem",
            advice="use problem.as_fixed_point(step), or solvers.Neumann(terms, step) for the Hessian system",
        )
    lam, exact = problem.lam(lam), reference(problem, exact)
    w0, _ = start_point(problem, lam, w0)
    watched, tally = counted(problem)
    w = lower.prepared(problem, lam, w0).run(watched, lam, w0).w
    system, rhs = watched.residual_w(lam, w).T, watched.upper.grad_w(lam, w)
    v0 = None if v0 is None else problem.backend.vector(v0, problem.d, "v0")
    found = linear.solve(system, rhs, v0, keep=exact is not None)
    value = watched.hypergradient_at(lam, w, found.v)
    curve = None
    if exact is not None:
        values = [problem.hypergradient_at(lam, w, v) for v in found.iterates]
        curve = errors_against(problem, exact, problem.backend.xp.stack(values))
    left = rhs - problem.residual_w(lam, w).T @ found.v  # found.residual, not counted
    return finished(problem, lam, value, w, tally, v=found.v, adjoint_residual=left, curve=curve)
