"""Exact moments of algorithms that are affine on quadratic problems: nothing sampled, in rationals nothing rounded.

Given the sample, an iteration is there an affine map of the state. Its matrices are read off the algorithm's own
``step`` for every point of its space (``refimpl.algorithms.affine``); ``refimpl.moments`` does the rest:

- ``whole_state``: all arrays of the state, of every algorithm that says it is affine, with dropout or without.
- ``fixed_lambda``: FSLA with λ held, line 11 switched off; what w, v and the direction h do. Means are compared with
  the exact w(λ), the adjoint v = E_m v_m and ∇F̄(λ): the mean error of h is the bias of the hypergradient estimate.

Affinity is tested, exactly: at two states, for up to 64 points of the space, in the first iterations and in the last.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np

from refimpl.algorithms.affine import Iteration, Known, Step, not_affine
from refimpl.algorithms.li2022fsla import FSLA
from refimpl.algorithms.protocol import Algorithm, State, require_algorithm, require_next
from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.exact import Hypergradient, exact_hypergradient
from refimpl.moments import Moments, Schedule, curve, stationary
from refimpl.problem import BilevelProblem, Problem
from refimpl.solvers.lower import require_count


@dataclass(frozen=True, eq=False)
class Joint:
    """First and second moments of several arrays together; the leading axes are those of ``moments``: times."""

    moments: Moments
    sizes: dict[str, int]

    def mean(self, name: str) -> Array:
        """E x, (..., size)."""
        return self.moments.mean[..., self._places(name)]

    def second(self, name: str, other: str) -> Array:
        """E x yᵀ, (..., size, size)."""
        return self.moments.second[..., self._places(name), self._places(other)]

    def mean_square(self, name: str) -> Array:
        """E‖x‖², (...)."""
        B, square = self.moments.backend, self.second(name, name)
        return B.sum(B.sum(square * B.eye(self.sizes[name])))

    def _places(self, name: str) -> slice:
        if name not in self.sizes:
            raise BadInput(
                "no moments of that array",
                measured=repr(name),
                required=", ".join(self.sizes),
                advice="pick one of the names above",
            )
        ends = dict(zip(self.sizes, accumulate(self.sizes.values()), strict=True))
        return slice(ends[name] - self.sizes[name], ends[name])


@dataclass(frozen=True, eq=False)
class FixedLambda:
    """The errors w − w(λ), v − v(λ) and d − ∇F̄(λ) as an affine random recursion; d is the h of the last iteration."""

    recursion: Step | Schedule
    exact: Hypergradient
    sizes: dict[str, int]

    def stationary(self) -> Joint:
        """Where they settle: mean("d") is the bias. Raises ``HypothesisViolated`` where they do not settle."""
        return Joint(stationary(_constant(self.recursion)).moments, self.sizes)

    def curve(self, times: int, w: Any = None, v: Any = None) -> Joint:
        """After 0, …, ``times`` iterations from w and v, by default the origin. Before the first, d is exact."""
        B = self.recursion.backend
        start = {"w": self.exact.w, "v": self.exact.v, "d": self.exact.value}
        given = {"w": _vector(B, w, self.sizes["w"], "w"), "v": _vector(B, v, self.sizes["v"], "v")}
        errors = [given.get(name, start[name]) - start[name] for name in self.sizes]
        return Joint(curve(self.recursion, B.concat(errors), times), self.sizes)


@dataclass(frozen=True, eq=False)
class WholeState:
    """The arrays of the state as an affine random recursion: the first iterations, then all later ones.

    held: arrays that no iteration moves (a fixed start); they are no part of the recursion, nor of its moments.
    """

    opening: tuple[Step, ...]
    later: Step | Schedule
    start: State
    held: tuple[str, ...] = ()

    @property
    def first(self) -> Step:
        """The first iteration."""
        return (*self.opening, *(self.later.steps if isinstance(self.later, Schedule) else (self.later,)))[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays that move."""
        return tuple(name for name in self.start.arrays if name not in self.held)

    @property
    def sizes(self) -> dict[str, int]:
        return self.start.sizes(self.names)

    def stationary(self) -> Joint:
        """Where they settle, for a constant schedule. Raises ``HypothesisViolated`` where they do not settle."""
        return Joint(stationary(_constant(self.later)).moments, self.sizes)

    def curve(self, times: int) -> Joint:
        """After 0, …, ``times`` iterations from the start."""
        require_count(times, "times", least=0)
        B = self.later.backend
        S = Moments.at(B, self.start.vector(B, self.names)).homogeneous
        passed = []
        for step in self.opening[:times]:
            passed.append(S[None, ...])
            S = step.second(S)
        left = times - len(passed)
        rest = S[None, ...] if left == 0 else curve(self.later, Moments(B, S), left).homogeneous
        return Joint(Moments(B, B.concat([*passed, rest], axis=0)), self.sizes)


def fixed_lambda(
    algorithm: FSLA,
    problem: BilevelProblem,
    lam: Any,
    *,
    steps: int | None = None,
    direction: bool = True,
) -> FixedLambda:
    """What w, v and the direction do while λ is held.

    Parameters
    ----------
    steps : for a decaying schedule, how many iterations to prepare; a constant one needs none.
    direction : False leaves h out, which is affine in (w, v) only where ∇²_λwG does not depend on w.

    Raises ``HypothesisViolated`` where an iteration is not affine. Cost: per step size the points of the algorithm's
    space times 2d + n + 1 iterations.

    >>> import refimpl as ri
    >>> problem = ri.zoo.quadratic.random(n=1, d=2, seed=0).with_dropout(lower=0.8, upper=None)
    >>> for reading in ("new", "old"):
    ...     settled = fixed_lambda(FSLA(delta=0.1, schedule="constant", reading=reading), problem, problem.start())
    ...     print(abs(round(float(settled.stationary().mean("d")[0]), 6)))
    0.000814
    0.0
    """
    require_algorithm(algorithm, problem, FSLA)
    _require_affine(algorithm)
    state = _one(algorithm.init(problem, lam))
    _stepped(algorithm, problem, state)  # refuses a step of a subclass that is none
    exact = exact_hypergradient(problem, state.lam, certify="never")
    names = ("w", "v", "d") if direction else ("w", "v")
    point = problem.backend.concat([{"w": exact.w, "v": exact.v, "d": exact.value}[name] for name in names])
    count = 1 if algorithm.schedule == "constant" else _prepared(algorithm, steps)
    made = [Iteration(algorithm.frozen(k), problem, state, names).recursion({}) for k in range(count)]
    return FixedLambda(_recursion(algorithm, made).about(point), exact, state.sizes(names))


def whole_state(
    algorithm: Algorithm,
    problem: Problem,
    lam: Any,
    w: Any = None,
    v: Any = None,
    *,
    steps: int | None = None,
) -> WholeState:
    """What all arrays of the state do from λ, w, v (where it has one; the origin unless given) on.

    Parameters
    ----------
    algorithm : any whose ``affine`` is None, on quadratic levels and affine maps, without a set for λ.
    steps : how many iterations to prepare where they keep changing (``constant_from`` is None).

    Raises ``HypothesisViolated`` where an iteration is not affine, ``TooLarge``, ``BadInput``, also where ``step``
    returns no next state, which is looked at at one point of every iteration prepared. Cost: for every
    iteration that differs the points of its space times D iterations, D the length of the state; up to 2^26 points
    where D <= 57. An algorithm in stages (``refimpl.algorithms.staged``) costs the points of its stages, added up.

    >>> import refimpl as ri
    >>> problem = ri.zoo.quadratic.random(n=1, d=2, seed=0).with_dropout(lower=0.8, upper=None)
    >>> found = whole_state(FSLA(delta=0.1, schedule="constant"), problem, problem.start()).curve(30)
    >>> found.mean("lam").shape, found.second("lam", "w").shape
    ((31, 1), (31, 1, 2))
    """
    require_algorithm(algorithm, problem)
    _require_affine(algorithm)
    if problem.domain is not None:
        raise not_affine(
            "a projection onto the set of λ",
            "where λ stays inside anyway take it away: dataclasses.replace(problem, domain=None)",
        )
    start = _one(_begun(algorithm, problem, lam, w, v))
    constant = algorithm.constant_from
    count = 1 if constant is None else constant  # of the opening
    last = max(2, _prepared(algorithm, steps, least=0)) - 1 if constant is None else count
    states = [replace(start, k=k) for k in range(last + 1)]
    held = tuple(sorted(set.intersection(*(_untouched(algorithm, problem, state) for state in states))))
    names, known = tuple(name for name in start.arrays if name not in held), Known()
    made = [
        Iteration(algorithm, problem, state, names).recursion(known, tested=state.k in (0, count, last))
        for state in states
    ]
    return WholeState(tuple(made[:count]), _recursion(algorithm, made[count:]), start, held)


def _begun(algorithm: Algorithm, problem: Problem, lam: Any, w: Any, v: Any) -> State:
    if v is None:
        return algorithm.init(problem, lam, w)
    init: Any = algorithm.init  # of its own signature
    if "v" not in inspect.signature(init).parameters:
        raise BadInput(
            "this algorithm keeps no v",
            measured=f"a v for {type(algorithm).__name__}",
            required="λ and w",
            advice="leave v out",
        )
    return init(problem, lam, w, v)


def _untouched(algorithm: Algorithm, problem: Problem, state: State) -> set[str]:
    """The arrays that an iteration hands on themselves: not others of the same value."""
    B, names = problem.backend, tuple(state.arrays)
    state = state.with_vector(state.vector(B, names), names)  # a start may have one array in two places
    new = _stepped(algorithm, problem, state)
    return {name for name in names if new.arrays[name] is state.arrays[name]}


def _stepped(algorithm: Algorithm, problem: Problem, state: State) -> State:
    """The state after this one, at the first point of the space; ``BadInput`` where ``step`` returns none."""
    new = algorithm.step(problem, state, algorithm.space(problem, state.k).points(np.asarray(0)))
    require_next(algorithm, state, new)
    if lost := [name for name in state.arrays if name not in new.arrays]:
        raise BadInput(
            f"{type(algorithm).__name__}.step returned no next state",
            measured=f"{type(new).__name__} without {', '.join(lost)}",
            required=f"the arrays {', '.join(state.arrays)}",
            advice="return a state of the class that init returns, every array in it",
        )
    return new


def _require_affine(algorithm: Algorithm) -> None:
    if algorithm.affine is not None:
        raise not_affine(algorithm.affine, "run the algorithm with replicates instead")


def _one(state: Any) -> Any:
    """The state, which must be a single one: the coefficients of a recursion belong to one λ."""
    if state.leading:
        raise BadInput(
            "moments are of one start at a time",
            measured=f"leading axes {state.leading}",
            required="one λ (n,), one w and one v (d,)",
            advice="loop over the starts",
        )
    return state


def _prepared(algorithm: Algorithm, steps: int | None, *, least: int = 1) -> int:
    """How many iterations to prepare where all differ."""
    if steps is None:
        raise BadInput(
            "the step sizes of how many iterations?",
            measured=f"{type(algorithm).__name__} with iterations that keep changing, and no steps",
            required="steps=...",
            advice="or take constant step sizes and lengths",
        )
    require_count(steps, "steps", least=least)
    return steps


def _recursion(algorithm: Algorithm, made: Sequence[Step]) -> Step | Schedule:
    return made[0] if algorithm.constant_from is not None else Schedule(tuple(made))


def _constant(recursion: Step | Schedule) -> Step:
    if isinstance(recursion, Schedule):
        raise BadInput(
            "nothing is stationary under steps that change",
            measured="iterations that keep changing",
            required="constant step sizes and lengths",
            advice="ask for the curve, or give numbers in place of schedules (FSLA: algorithm.frozen(k))",
        )
    return recursion


def _vector(B: Backend, x: Any, size: int, name: str) -> Array:
    return B.zeros((size,)) if x is None else B.vector(x, size, name)
