"""Solvers to differentiate through, over the rationals and in floats, and the channels that judge both modes.

One is (16) transcribed literally, with dense Jacobians; its mutants must fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import refimpl as ri
from refimpl.arrays.backend import Array
from refimpl.objective import Map
from refimpl.problem import FixedPointProblem, Problem
from refimpl.solvers import FixedPoint, GradientDescent, HeavyBall
from refimpl.solvers.lower import Iteration
from refimpl.zoo import maps
from verification.claims.reweighting._rational import (
    Exact,
    central_differences,
    problem,
    value_after_steps,
)
from verification.instances import EPS, case, size


@dataclass(frozen=True)
class Unrolled:
    """A problem, a solver of T steps, and the start as a map of λ."""

    problem: Problem
    solver: Iteration
    lam: Array
    start: Map
    params: Mapping[str, Any]

    @cached_property
    def w0(self) -> Array:
        return self.start.value(self.lam, self.problem.w(None))

    @cached_property
    def jacobian(self) -> Array:
        """B_0."""
        return self.start.d_lam(self.lam, self.w0).dense()

    def reverse(self, w0: Any) -> Array:
        return ri.approximate.reverse(self.problem, self.lam, lower=self.solver, w0=w0).value

    def forward(self, w0: Any) -> Array:
        return ri.approximate.forward(self.problem, self.lam, lower=self.solver, w0=w0).value


def over_rationals(params: Mapping[str, Any]) -> Unrolled:
    """Gradient descent (1/8), heavy ball (1/8, 1/2) or an affine map that is not symmetric, T steps each.

    w_0 = Sλ + s with integer S; ``slope`` multiplies S.
    """
    inner: Exact = problem(params)
    rng = np.random.default_rng(params["seed"] + 1)
    n, d, T = params["n"], params["d"], params["T"]

    def small(*shape: int) -> np.ndarray:
        return rng.integers(-2, 3, shape).astype(float)

    S = small(d, n)
    S[0, 0] += 3  # never 0
    start = maps.affine(np.zeros((d, d)), params["slope"] * S, small(d)).to("rational")
    if params["solver"] == "map":
        phi = maps.affine(small(d, d) / 4, small(d, n), small(d)).to("rational")
        posed: Problem = FixedPointProblem(inner.problem.upper, phi)
        return Unrolled(posed, FixedPoint(T), inner.lam, start, dict(params))
    solver = HeavyBall(T, 0.125, 0.5) if params["solver"] == "heavy ball" else GradientDescent(T, 0.125)
    return Unrolled(inner.problem, solver, inner.lam, start, dict(params))


def judged(u: Unrolled) -> Array:
    """d/dλ F(λ, w_T(λ)) by central differences of a quadratic polynomial, w_0(λ) included."""
    return central_differences(value_after_steps(u.problem, u.solver, u.start), u.lam)


def in_floats(params: Mapping[str, Any]) -> Unrolled:
    """A family of ``instances`` with its solver; the start is w_0, or λ itself where ``slope`` is 1 and n = d."""
    made = case({**params, "n": params["d"]} if params["slope"] else params)
    T, lam = params["t"], made.lam
    inner: Problem = made.problem
    if isinstance(inner, ri.BilevelProblem):
        solver: Iteration = HeavyBall(T, made.step, 0.5) if params["heavy"] else GradientDescent(T, made.step)
    else:
        solver = FixedPoint(T)
    zero = np.zeros((inner.d, inner.d))
    S = np.eye(inner.d, inner.n) if params["slope"] else np.zeros((inner.d, inner.n))
    return Unrolled(
        inner, solver, lam, maps.affine(zero, S, 0 * made.w0 if params["slope"] else made.w0), params
    )


def through_the_loop(u: Unrolled) -> np.ndarray:
    """Autograd's derivative of the whole loop, values of the step only."""
    from autograd import grad

    boxed, start = u.problem.to("autograd"), u.start.to("autograd")

    def value(lam: Array) -> Any:
        w0 = start.value(lam, np.zeros(u.problem.d))
        state = u.solver.lift(w0, boxed)
        for k in range(1, u.solver.steps + 1):
            state = u.solver.map(boxed, lam, w0, k).value(lam, state)
        return boxed.upper.value(lam, state[..., : u.problem.d])

    return np.asarray(grad(value)(u.lam))


def rounding(u: Unrolled) -> float:
    """10·d·eps × steps × what a step may amplify × the sizes of the terms: no contraction is assumed."""
    step, path = u.solver.map(u.problem, u.lam, u.w0, 1), states(u.problem, u.solver, u.lam, u.w0)
    growth = np.prod([max(1.0, float(np.linalg.norm(step.d_w(u.lam, s).dense(), 2))) for s in path])
    B = max([size(u.jacobian), *(size(step.d_lam(u.lam, s).dense()) for s in path)])
    w, zero = path[-1][..., : u.problem.d], np.zeros(u.problem.d)
    gradients = sum(size(u.problem.upper.grad_w(u.lam, x)) for x in (w, zero))
    direct = sum(size(u.problem.upper.grad_lam(u.lam, x)) for x in (w, zero))
    # one factor more for the states, whose rounding the derivatives of F and Φ pass on
    moved = 1 + sum(size(s) for s in path)
    return float(
        10
        * u.problem.d
        * EPS
        * (1 + u.solver.steps)
        * growth**2
        * moved
        * (direct + (1 + B) ** 2 * (1 + gradients))
    )


def states(problem: Problem, solver: Iteration, lam: Array, w0: Array) -> list[Array]:
    """s_0 … s_T."""
    path = [solver.lift(w0, problem)]
    for k in range(1, solver.steps + 1):
        path.append(solver.map(problem, lam, w0, k).value(lam, path[-1]))
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
    T, d = solver.steps, problem.d
    steps = [solver.map(problem, lam, w0, k) for k in range(1, T + 1)]
    B = problem.backend
    w = path[-1][..., :d]
    gradient = problem.upper.grad_w(lam, w)
    gradient = (
        B.concat([gradient, B.zeros((path[-1].shape[-1] - d,))]) if path[-1].shape[-1] > d else gradient
    )
    jacobians = [step.d_w(lam, s).dense() for step, s in zip(steps, path[:-1], strict=True)]  # A_1 … A_T
    total: Any = problem.upper.grad_lam(lam, w)
    for t in range(T + 1):
        u = gradient
        for A in reversed(jacobians[min(t + late, T) :] if t or moved else []):
            u = (A.T if transposed else A) @ u
        if t:
            total = total + steps[t - 1].d_lam(lam, path[t - 1]).dense().T @ u
        elif start is not None:
            total = total + start.T @ solver.lift_T(u, problem)
    return total
