"""Gradient descent, heavy ball and fixed-point iteration: solvers whose step is a differentiable map."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.arrays.numbers import require_number
from refimpl.bounds import Region, best_step
from refimpl.constants import Constants
from refimpl.errors import BadInput
from refimpl.objective import Map, descent_map
from refimpl.operators import Operator
from refimpl.problem import BilevelProblem, FixedPointProblem, Problem
from refimpl.solvers.lower import Iteration, require_count, require_positive, steps_taken
from refimpl.solvers.stated import relative_step, relaxed_factor, require_constant_jacobian, unstated


@dataclass(frozen=True)
class FixedPoint(Iteration):
    """w ← Φ(λ, w), ``steps`` times (contraction, (6) with η = 1). Error <= q^t ‖w_0 − w(λ)‖."""

    steps: int

    def __post_init__(self) -> None:
        require_count(self.steps, "steps")

    def map(self, problem: Problem, lam: Array, w0: Array, k: int) -> Map:
        if not isinstance(problem, FixedPointProblem):
            raise BadInput(
                "FixedPoint needs a map",
                measured=type(problem).__name__,
                required="FixedPointProblem",
                advice="use GradientDescent, or problem.as_fixed_point(step)",
            )
        return problem.phi

    def rho(self, constants: Constants, *, t: int | None = None) -> Any:
        """q^{2t}B²."""
        return constants.q ** (2 * steps_taken(t, self.steps)) * constants.B**2


@dataclass(frozen=True)
class GradientDescent(Iteration):
    """w ← w − step ∇_wG(λ, w), ``steps`` times (reweighting, (15) with ∇_v).

    ``step=None`` takes 2/(μ + L) from the family's proved constants on a ball that contains every iterate.
    """

    steps: int
    step: float | None = None

    def __post_init__(self) -> None:
        require_count(self.steps, "steps")
        _require_step(self.step)

    def prepared(self, problem: Problem, lam: Array, w0: Array) -> GradientDescent:
        return self if self.step is not None else replace(self, step=proved_step(problem, lam, w0))

    def map(self, problem: Problem, lam: Array, w0: Array, k: int) -> Map:
        lower = _minimisation(problem, type(self).__name__).lower
        step = self.prepared(problem, lam, w0).step
        assert step is not None
        return descent_map(lower, step)

    def rho(self, constants: Constants, *, t: int | None = None) -> Any:
        """(|1 − η| + ηq)^{2t}B², η = step/s: for s = step = 2/(μ + L) that is ((κ−1)/(κ+1))^{2t}B²."""
        factor = relaxed_factor(self, constants, _known(self, constants))
        return factor ** (2 * steps_taken(t, self.steps)) * constants.B**2


@dataclass(frozen=True)
class HeavyBall(Iteration):
    """w ← w − step ∇_wG(λ, w) + momentum (w − w_prev), on states (w, w_prev), from w_prev = w_0.

    What is linearised is the map of the pair: its Jacobian is 2d x 2d (B. Polyak, 1964). 0 <= momentum < 1.
    """

    steps: int
    step: float | None = None
    momentum: float = 0.5

    def __post_init__(self) -> None:
        require_count(self.steps, "steps")
        _require_step(self.step)
        require_number(self.momentum, "momentum", "0 is gradient descent", high=1, closed=True)

    def prepared(self, problem: Problem, lam: Array, w0: Array) -> HeavyBall:
        return self if self.step is not None else replace(self, step=proved_step(problem, lam, w0))

    def lift(self, w0: Array, problem: Problem) -> Array:
        return problem.backend.concat([w0, w0])

    def lift_T(self, s: Array, problem: Problem) -> Array:
        return s[..., : problem.d] + s[..., problem.d :]

    def map(self, problem: Problem, lam: Array, w0: Array, k: int) -> Map:
        gradient_step = GradientDescent(self.steps, self.step).map(problem, lam, w0, k)
        return HeavyBallMap(gradient_step, problem.backend.scalar(self.momentum), problem.backend)

    def rho(self, constants: Constants, *, t: int | None = None) -> Any:
        """β^t (U_t(x) + √β U_{t−1}(x))² B² of a quadratic G, β = momentum, x = max(1, |1 + β − η(1 ± q)|/(2√β)).

        U: Chebyshev polynomials of the second kind. Along an eigenvector of s∇²_wwG with eigenvalue h the error is
        e_{t+1} = (1 + β − ηh)e_t − βe_{t−1}, e_{−1} = e_0, so that e_t = β^{t/2}(U_t(y) − √β U_{t−1}(y))e_0 for
        y = (1 + β − ηh)/(2√β), and |y| <= x. For Polyak's step and momentum x = 1: β^t (1 + t + t√β)² B², attained at
        y = −1, where η(1 + q) = (1 + √β)². It exceeds B² at first: constants have to hold where the iterates go.
        """
        beta, eta, q = self.momentum, _known(self, constants), constants.q
        t = steps_taken(t, self.steps)
        if beta == 0:
            return GradientDescent(self.steps, self.step).rho(constants, t=t)
        require_constant_jacobian(self, constants)
        if not eta * (1 + q) < 2 * (1 + beta):
            raise unstated(
                self,
                f"η = step/s = {float(eta):.6g}, q = {float(q):.6g}, momentum {float(beta):.6g}",
                "η(1 + q) < 2(1 + momentum), else an error may not vanish",
                "take step <= constants.step, the s of the map w − s ∇_wG that the constants belong to",
            )
        twice = max(2 * math.sqrt(beta), *(abs(1 + beta - eta * h) for h in (1 - q, 1 + q)))  # 2x√β
        newer, older = 1, 0  # β^{t/2}U_t, as U_t alone overflows where its share of B² does not
        for _ in range(t):
            newer, older = twice * newer - beta * older, newer
        return (newer + beta * older) ** 2 * constants.B**2


@dataclass(frozen=True, eq=False)
class HeavyBallMap(Map):
    """(w, u) ↦ (Φ(λ, w) + β(w − u), w)."""

    phi: Map
    momentum: Any
    backend: Backend = Backend()

    @property
    def n(self) -> int:
        return self.phi.n

    @property
    def d(self) -> int:
        return 2 * self.phi.d

    def _halves(self, s: Array) -> tuple[Array, Array]:
        return s[..., : self.phi.d], s[..., self.phi.d :]

    def value(self, lam: Array, w: Array) -> Array:
        w, u = self._halves(w)
        new = self.phi.value(lam, w) + self.momentum * (w - u)
        return self.backend.concat([new, self.backend.broadcast(w, new.shape)])

    def d_w(self, lam: Array, w: Array) -> Operator:
        inner = self.phi.d_w(lam, self._halves(w)[0])
        B, beta = self.backend, self.momentum

        def apply(s: Array) -> Array:
            x, y = self._halves(s)
            top = inner @ x + beta * (x - y)
            return B.concat([top, B.broadcast(x, top.shape)])

        def apply_T(s: Array) -> Array:
            x, y = self._halves(s)
            top = inner.T @ x + beta * x + y
            return B.concat([top, B.broadcast(-beta * x, top.shape)])

        return Operator(B, (self.d, self.d), apply, apply_T, inner.lead)

    def d_lam(self, lam: Array, w: Array) -> Operator:
        inner = self.phi.d_lam(lam, self._halves(w)[0])
        B = self.backend

        def apply(u: Array) -> Array:
            top = inner @ u
            return B.concat([top, 0 * top])

        return Operator(B, (self.d, self.n), apply, lambda s: inner.T @ self._halves(s)[0], inner.lead)


def _require_step(step: Any) -> None:
    """A number above 0, or None; else ``BadInput``."""
    if step is not None:
        require_positive(step, "the step", "2/(mu + L) is the best one; None takes the one that is proved")


def _known(solver: GradientDescent | HeavyBall, constants: Constants) -> Any:
    """η = step/s; ``HypothesisViolated`` where the step is still to be taken from a problem."""
    if solver.step is not None:
        return relative_step(constants, solver.step)
    raise unstated(
        solver,
        "step=None, a step that each run takes from its own problem",
        "a number",
        "solver.prepared(problem, lam, w0) has it",
    )


def _minimisation(problem: Problem, who: str) -> BilevelProblem:
    if not isinstance(problem, BilevelProblem):
        raise BadInput(
            f"{who} needs a lower objective",
            measured=type(problem).__name__,
            required="BilevelProblem",
            advice="use FixedPoint",
        )
    return problem


def proved_step(problem: Problem, lam: Array, w0: Array) -> float:
    """2/(μ + L) from the family's constants on the ball of centre w_0 and radius 2‖∇_wG(λ, w_0)‖/μ.

    That ball holds w(λ), at most ‖∇_wG‖/μ away, and every iterate, no further from w(λ) than w_0 is. μ must hold on
    the ball, which grows as μ falls: it is lowered until both agree.
    """
    lower = _minimisation(problem, "proved_step").lower
    points_lam, points_w = np.atleast_2d(to_numpy(lam)), np.atleast_2d(to_numpy(w0))
    if points_lam.shape[0] > 1 or points_w.shape[0] > 1:
        raise BadInput(
            "one proved step for many points",
            measured=f"λ {np.shape(lam)}, w_0 {np.shape(w0)}",
            required="a single λ and w_0",
            advice="pass step=... explicitly for batches",
        )
    point = Region(points_lam[0], points_w[0])
    mu = lower.bounds(point).hess_ww_min
    gradient = float(np.linalg.norm(to_numpy(lower.grad_w(lam, w0))))
    for _ in range(50):
        if not mu > 0:
            break
        on_ball = lower.bounds(Region(point.lam, point.w, 0.0, 2 * gradient / mu))
        if on_ball.hess_ww_min >= mu:
            return best_step(on_ball)
        mu = 0.9 * on_ball.hess_ww_min
    raise BadInput(
        "no step can be proved for this lower level",
        measured=f"μ >= {mu:.3e} on the ball that μ needs",
        required="a strong convexity constant μ > 0 on a ball of radius 2‖∇_wG(λ, w_0)‖/μ",
        advice="pass step=... explicitly, below 2/L",
    )
