"""The two stochastic iterations of SID (contraction, (6) and (7)), on any problem's residual as drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refimpl.arrays.backend import Array
from refimpl.arrays.memory import keep_freed
from refimpl.draws import Draws
from refimpl.problem import Problem
from refimpl.rates import as_rate
from refimpl.solvers.lower import overflow_allowed, require_count, require_finite
from refimpl.spaces import Repeated


def lower_step(problem: Problem, lam: Array, w: Array, eta: Any) -> Array:
    """(6) on a problem as drawn: w − η r(λ, w)."""
    return w - eta * problem.residual(lam, w)


def linear_step(problem: Problem, lam: Array, w: Array, v: Array, rhs: Array, eta: Any) -> Array:
    """(7) on a problem as drawn: v − η (∂_w r(λ, w)ᵀ v − rhs)."""
    return v - eta * (problem.residual_w(lam, w).T @ v - rhs)


@dataclass(frozen=True)
class StochasticIteration:
    """``steps`` steps of (6), or of (7), with a draw of the lower level each.

    rate: η_i as a number or a ``Rate``. batch: data per draw, None for all of them: no randomness but dropout's masks.
    A sample is the draws on an axis of their own, see ``Repeated``: indices of data are (..., steps, batch).
    Cost of a step: one residual, or one product with its Jacobian. Raises ``BadInput``, ``NotConverged``.
    """

    steps: int
    rate: Any = 1
    batch: int | None = 1

    def __post_init__(self) -> None:
        require_count(self.steps, "the number of steps")
        if self.batch is not None:
            require_count(self.batch, "the batch size", least=1)
        object.__setattr__(self, "rate", as_rate(self.rate))

    def draws(self, problem: Problem) -> Draws:
        """One of them."""
        return Draws(problem.level, self.batch)

    def space(self, problem: Problem) -> Repeated:
        """Everything random."""
        return Repeated(self.draws(problem).space, self.steps)

    def run(self, problem: Problem, lam: Any, w0: Any, sample: Any) -> Array:
        """w after all steps of (6) from w0 (..., d); None: the origin. The sample's axes are leading axes of w."""
        lam, w = problem.lam(lam), problem.w(w0)
        return self._iterated(problem, sample, w, lambda drawn, w, eta: lower_step(drawn, lam, w, eta))

    def adjoint(self, problem: Problem, lam: Any, w: Any, rhs: Any, v0: Any, sample: Any) -> Array:
        """v after all steps of (7) at w, from v0 (..., d); None: the origin."""
        lam, w, v = problem.lam(lam), problem.w(w), problem.w(v0)
        rhs = problem.backend.vector(rhs, problem.d, "the right side")
        return self._iterated(
            problem, sample, v, lambda drawn, v, eta: linear_step(drawn, lam, w, v, rhs, eta)
        )

    def _iterated(
        self, problem: Problem, sample: Any, x: Array, step: Callable[[Problem, Array, Any], Array]
    ) -> Array:
        B, draws = problem.backend, self.draws(problem)
        with overflow_allowed():
            for i, point in enumerate(Repeated(draws.space, self.steps).each(sample)):
                x = step(problem.with_level(draws.at(point)), x, B.scalar(self.rate(i)))
                if i == 0:
                    keep_freed(x)
        require_finite(B, x, f"the stochastic iterate after {self.steps} steps")
        return x
