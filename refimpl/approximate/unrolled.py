"""Iterative differentiation (ITD): the derivative of the solver's own result w_T(λ), in reverse or forward mode.

With A_t = ∂_sΦ, B_t = ∂_λΦ at the state s_{t−1}, and s_0 = s_0(λ) with Jacobian B_0 (reweighting, (14)–(16)):

    dF(λ, w_T(λ))/dλ = ∇_λF + Σ_{t=0}^{T} B_tᵀ A_{t+1}ᵀ … A_Tᵀ ∇_wF.
"""

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
from refimpl.arrays.backend import Array
from refimpl.counting import counted
from refimpl.errors import BadInput
from refimpl.operators import Operator
from refimpl.problem import Problem
from refimpl.solvers.lower import (
    Iteration,
    LowerSolver,
    overflow_allowed,
    require_count,
    require_finite,
)


def reverse(
    problem: Problem, lam: Any, *, lower: LowerSolver, w0: Any = None, exact: Any = None
) -> Approximation:
    """The derivative through all T steps and through w_0(λ), from the last step back.

    Memory O(T d): every state is kept. Cost: one product with each B_tᵀ and each A_tᵀ, without A_1ᵀ where w_0 is given.
    w0 : the origin, an array (..., d), or a Map of λ (solvers.IdentityStart: MAML).
    exact : an ``exact_hypergradient`` or ``improved_hypergradient`` (or its value) asks for ``curve``, whose entry K is
    the error of the sum over the last K steps (K = 0 … T; the full result, with w_0's own term, is the last entry).
    """
    return _backward(problem, lam, lower, w0, None, exact)


def truncated(
    problem: Problem, lam: Any, *, lower: LowerSolver, last: int, w0: Any = None, exact: Any = None
) -> Approximation:
    """K-step truncated reverse mode: the ``last`` K terms of the sum only (reweighting, (17)); w_0's term is not one.

    Memory O(K d): the K + 1 last states are kept. Cost: K products with B_tᵀ, K − 1 with A_tᵀ. ``last`` at most the
    steps taken. For ‖A_t‖ <= q the part left out is at most ‖∇_wF‖ sup‖B_t‖ (q^K − q^T)/(1 − q).
    """
    require_count(last, "last")
    return _backward(problem, lam, lower, w0, last, exact)


def one_step(problem: Problem, lam: Any, *, lower: LowerSolver, w0: Any = None) -> Approximation:
    """The derivative of the last step alone, ``truncated(last=1)``: ∇_λF + B_Tᵀ∇_wF; not small an error unless q is."""
    return truncated(problem, lam, lower=lower, last=1, w0=w0)


def _backward(
    problem: Problem, lam: Any, lower: LowerSolver, w0: Any, last: int | None, exact: Any
) -> Approximation:
    lam, exact = problem.lam(lam), reference(problem, exact)
    w0, start = start_point(problem, lam, w0)
    require_solvers(lower, LowerSolver)
    lower = lower.prepared(problem, lam, w0)
    watched, tally = counted(problem)
    lower.map(watched, lam, w0, 1)  # refuses solvers whose step is no differentiable map
    assert isinstance(lower, Iteration)
    run = lower.run(watched, lam, w0, keep=last)
    if last is not None and last > run.steps:
        raise BadInput(
            "more steps to differentiate than were taken",
            measured=f"last = {last}, steps = {run.steps}",
            required="last <= steps",
            advice="use reverse for all of them",
        )
    w, states = run.w, run.states
    cotangent = _pad(problem, watched.upper.grad_w(lam, w), states[-1].shape[-1])
    value = watched.upper.grad_lam(lam, w)
    values, begin = [value], start if last is None else None
    first = 1 if last is None else run.steps - last + 1
    with overflow_allowed():
        for k, state in zip(range(run.steps, first - 1, -1), reversed(states[:-1]), strict=True):
            step = lower.map(watched, lam, w0, k)
            value = value + step.d_lam(lam, state).T @ cotangent
            if k > first or begin is not None:  # of use to an earlier term alone
                cotangent = step.d_w(lam, state).T @ cotangent
            values.append(value)
    if begin is not None:
        value = value + begin.d_lam(lam, 0 * w).T @ lower.lift_T(cotangent, problem)
        values[-1] = value
    curve = None if exact is None else errors_against(problem, exact, _stacked(problem, values))
    return finished(problem, lam, value, w, tally, curve=curve)


def forward(
    problem: Problem, lam: Any, *, lower: LowerSolver, w0: Any = None, exact: Any = None
) -> Approximation:
    """The same derivative from the first step on: Z_t = A_t Z_{t−1} + B_t, then ∇_λF + Z_Tᵀ∇_wF.

    Memory O(n d), whatever T. Cost: per step n products with A_t and one dense B_t.
    exact : as in ``reverse``; asks for ``curve``, whose entry t is the error of t steps (t = 0 … T).
    """
    lam, exact = problem.lam(lam), reference(problem, exact)
    w0, start = start_point(problem, lam, w0)
    require_solvers(lower, LowerSolver)
    lower = lower.prepared(problem, lam, w0)
    watched, tally = counted(problem)
    step = lower.map(watched, lam, w0, 1)
    assert isinstance(lower, Iteration)
    B = problem.backend
    state = lower.lift(w0, problem)
    # row j of Z is ∂s_t/∂λ_j: the n directions are a leading axis in front of all others
    ones = (1,) * max(lam.ndim - 1, w0.ndim - 1, step.lead)
    jacobian = B.zeros((problem.n, *ones, problem.d))

    def columns_first(a: Operator) -> Array:
        columns = B.moveaxis(
            a.dense(), -1, 0
        )  # with fewer leading axes than the state's where the step has fewer
        return B.reshape(columns, (problem.n, *ones[columns.ndim - 2 :], *columns.shape[1:]))

    if start is not None:
        jacobian = jacobian + columns_first(start.d_lam(lam, 0 * w0))
    jacobian = lower.lift(jacobian, problem)
    values = []

    def assembled(state: Array, jacobian: Array) -> Array:
        w = state[..., : problem.d]
        through = B.dot(jacobian[..., : problem.d], problem.upper.grad_w(lam, w))
        return problem.upper.grad_lam(lam, w) + B.moveaxis(through, 0, -1)

    with overflow_allowed():
        for k in range(1, lower.steps + 1):
            step = lower.map(watched, lam, w0, k)
            if exact is not None:
                values.append(assembled(state, jacobian))
            at_step = columns_first(step.d_lam(lam, state))
            jacobian = step.d_w(lam, state) @ jacobian + at_step
            state = step.value(lam, state)
        value = assembled(state, jacobian)
    require_finite(B, value, f"{type(lower).__name__} after {lower.steps} steps, or its derivative")
    tally.update({"upper.grad_w": 1, "upper.grad_lam": 1})
    curve = None if exact is None else errors_against(problem, exact, _stacked(problem, [*values, value]))
    return finished(problem, lam, value, state[..., : problem.d], tally, curve=curve)


def _pad(problem: Problem, gradient: Array, size: int) -> Array:
    """∇_wF as a cotangent of the state, which begins with w."""
    extra = size - problem.d
    if not extra:
        return gradient
    B = problem.backend
    return B.concat([gradient, B.zeros((*gradient.shape[:-1], extra))])


def _stacked(problem: Problem, values: list[Array]) -> Array:
    shape = values[-1].shape
    return problem.backend.xp.stack([problem.backend.broadcast(v, shape) for v in values])
