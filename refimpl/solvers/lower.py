"""What every lower-level solver is: a run from w_0, and, where its step is a map, that map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.arrays.numbers import is_whole, require_number
from refimpl.constants import Constants
from refimpl.errors import BadInput, Diverged
from refimpl.objective import Map
from refimpl.problem import Problem
from refimpl.solvers.stated import unstated


@dataclass(frozen=True, eq=False)
class Run:
    """The end of a run: w (..., d), steps taken, and the last states that were asked for, oldest first."""

    w: Array
    steps: int
    states: tuple[Array, ...] = ()


class LowerSolver(ABC):
    """A solver of r(λ, w) = 0. No solver promises convergence: callers report ‖r‖ at its result."""

    @abstractmethod
    def run(self, problem: Problem, lam: Array, w0: Array, *, keep: int | None = 0) -> Run:
        """Run from w_0; ``keep`` states before the last one are returned (None: all of them)."""

    def prepared(self, problem: Problem, lam: Array, w0: Array) -> LowerSolver:
        """The solver with everything fixed that it takes from the problem's constants (a proved step)."""
        return self

    def map(self, problem: Problem, lam: Array, w0: Array, k: int) -> Map:
        """Step k = 1, 2, … as a map of states, for differentiation through the solver; refused where it is none."""
        raise BadInput(
            f"{type(self).__name__} cannot be unrolled",
            measured="its step contains the lower level's second derivatives",
            required="a step whose Jacobian needs second derivatives only; this one needs third derivatives",
            advice="use approximate.implicit, which differentiates the solution instead of the solver",
        )

    def rho(self, constants: Constants, *, t: int | None = None) -> Any:
        """ρ(t): what ‖w_t − w(λ)‖² is at most, ‖w_0 − w(λ)‖ <= ``constants.B``; see ``solvers.stated``.

        t: the solver's own number of steps unless given. Exact arithmetic, evaluated: rounding is not in it. Raises
        ``HypothesisViolated`` where no rate is proved.
        """
        raise unstated(
            self,
            "none that is proved here",
            "a bound of ‖w_t − w(λ)‖² from the constants",
            "GradientDescent and FixedPoint state one, HeavyBall and Newton for quadratic G; a class of your own gets "
            "one with a method rho(constants, *, t=None)",
        )


class Iteration(LowerSolver):
    """A solver whose step k is a map of states; the state begins with w. Subclasses give ``steps`` and ``map``."""

    steps: int

    def lift(self, w0: Array, problem: Problem) -> Array:
        """The initial state."""
        return w0

    def lift_T(self, s: Array, problem: Problem) -> Array:
        """Transpose of the derivative of ``lift``."""
        return s

    def run(self, problem: Problem, lam: Array, w0: Array, *, keep: int | None = 0) -> Run:
        state, fixed = self.lift(w0, problem), self.prepared(problem, lam, w0)
        kept: deque[Array] = deque(maxlen=keep)
        with overflow_allowed():
            for k in range(1, self.steps + 1):
                kept.append(state)
                state = fixed.map(problem, lam, w0, k).value(lam, state)
        require_finite(problem.backend, state, f"{type(self).__name__} after {self.steps} steps")
        return Run(state[..., : problem.d], self.steps, (*kept, state))


def overflow_allowed() -> Any:
    """No warnings while an iteration may diverge: ``require_finite`` says it once, as an error."""
    return np.errstate(over="ignore", invalid="ignore")


def require_finite(
    B: Backend,
    x: Array,
    where: str,
    advice: str = "shorten the step: gradient descent and Neumann need step < 2/L, a fixed point ‖∂_wΦ‖ < 1",
) -> None:
    """Divergence is an error, not a result."""
    if B.ordered and not B.exact and not bool(B.xp.all(B.xp.isfinite(x))):
        raise Diverged(
            "the iteration diverged",
            measured=f"NaN or infinite entries in {where}",
            required="finite iterates",
            advice=advice,
        )


def require_positive(value: Any, name: str, advice: str) -> None:
    """A finite number above 0; else ``BadInput``, with what to do."""
    require_number(value, name, advice)


def require_tolerance(tol: Any) -> None:
    """A finite number >= 0; else ``BadInput``."""
    require_number(tol, "tol", "tol=0 asks for all that rounding allows", closed=True)


def steps_taken(given: int | None, own: int) -> int:
    """How many steps a rate is asked for: the solver's own number unless one is given. Raises ``BadInput``."""
    if given is None:
        return own
    require_count(given, "the number of steps")
    return given


def require_count(value: Any, name: str, least: int = 0) -> None:
    """Step counts are whole numbers >= ``least``, Python's or NumPy's."""
    if not is_whole(value) or value < least:
        raise BadInput(
            f"{name} must be a whole number",
            measured=repr(value),
            required=f"a whole number >= {least}",
            advice=f"pass {name}={least} or more",
        )
