"""(16) transcribed literally, with dense Jacobians: the channel that judges both modes, and whose mutants must fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from refimpl.arrays.backend import Array
from refimpl.problem import Problem
from refimpl.solvers.lower import Iteration


def states(problem: Problem, solver: Iteration, lam: Array, w0: Array) -> list[Array]:
    """s_0 … s_T."""
    step, path = solver.map(problem, lam, w0), [solver.lift(w0, problem)]
    for _ in range(solver.steps):
        path.append(step.value(lam, path[-1]))
    return path


def formula_16(
    problem: Problem,
    solver: Iteration,
    lam: Array,
    w0: Array,
    start: Array | None = None,
    *,
    transposed: bool = True,
    late: int = 0,
    moved: bool = True,
    path: Sequence[Array] | None = None,
) -> Array:
    """∇_λF + Σ_{t=0}^T B_tᵀ A_{t+1}ᵀ … A_Tᵀ ∇_wF, with A_t, B_t at s_{t−1} and B_0 = ``start`` (d x n; None: 0).

    Mutants: ``transposed=False`` uses A for Aᵀ, ``late=1`` begins the product one factor too late, ``moved=False``
    does not carry B_0 through the steps.
    """
    path = states(problem, solver, lam, w0) if path is None else path
    step, T, d = solver.map(problem, lam, w0), solver.steps, problem.d
    B = problem.backend
    w = path[-1][..., :d]
    gradient = problem.upper.grad_w(lam, w)
    gradient = B.concat([gradient, B.zeros((path[-1].shape[-1] - d,))]) if path[-1].shape[-1] > d else gradient
    jacobians = [step.d_w(lam, s).dense() for s in path[:-1]]  # A_1 … A_T
    total: Any = problem.upper.grad_lam(lam, w)
    for t in range(T + 1):
        if t == 0 and start is None:
            continue
        u = gradient
        for A in reversed(jacobians[min(t + late, T) :] if t or moved else []):
            u = (A.T if transposed else A) @ u
        total = total + (step.d_lam(lam, path[t - 1]).dense().T @ u if t else start.T @ solver.lift_T(u, problem))
    return total
