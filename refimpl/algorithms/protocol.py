"""What every bilevel algorithm is: a state machine whose randomness is a finite space, and the loop that runs it.

    state = algorithm.init(problem, lam)
    sample = algorithm.space(problem, state.k).sample(rng, replicates)
    state = algorithm.step(problem, state, sample)          # a function: everything random is in the sample

Since ``step`` is deterministic given the sample, one source serves the run (samples drawn), the exact expectation
(the space enumerated) and the moment recursion (``refimpl.algorithms.exact``). Axes of the sample's points are leading
axes of the state: the replicates. ``docs/own-algorithm.md`` writes one.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, ClassVar, Self

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.counting import counted
from refimpl.errors import BadInput, Diverged, RefimplError
from refimpl.problem import BilevelProblem, Problem
from refimpl.solvers.lower import overflow_allowed, require_count, require_finite
from refimpl.spaces import Space
from refimpl.spaces.space import generator

SHORTER = "take shorter steps"


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class State:
    """After k iterations: λ (..., n), the lower iterate w (..., d); and more: a matrix is flattened in C order."""

    k: int
    lam: Array
    w: Array

    @property
    def arrays(self) -> dict[str, Array]:
        """Its arrays by name, in the order of the fields; without those that the algorithm does not use (None)."""
        fields = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {name: value for name, value in fields if name != "k" and value is not None}

    @property
    def leading(self) -> tuple[int, ...]:
        return tuple(np.broadcast_shapes(*(x.shape[:-1] for x in self.arrays.values())))

    def broadcast(self, B: Backend, leading: tuple[int, ...]) -> Self:
        """The same state in every replicate: all arrays with these leading axes."""
        return dataclasses.replace(
            self, **{name: B.broadcast(x, (*leading, x.shape[-1])) for name, x in self.arrays.items()}
        )

    def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """The length of these arrays."""
        return {name: int(self.arrays[name].shape[-1]) for name in names}

    def vector(self, B: Backend, names: Sequence[str]) -> Array:
        """These arrays one after the other, (..., their sizes' sum)."""
        arrays = self.broadcast(B, self.leading).arrays
        return B.concat([arrays[name] for name in names])

    def with_vector(self, x: Array, names: Sequence[str]) -> Self:
        """The state with x, as ``vector`` returns it, in these arrays."""
        parts, begin = {}, 0
        for name, size in self.sizes(names).items():
            parts[name] = x[..., begin : begin + size]
            begin += size
        return dataclasses.replace(self, **parts)


@dataclass(frozen=True, eq=False)
class AdjointState(State):
    """Also the adjoint's iterate v (..., d)."""

    v: Array


class Algorithm(ABC):
    """A bilevel algorithm; its hyperparameters are the fields of a frozen dataclass. It has a ``space`` and a ``step``;
    an ``init`` of its own where its state has more than λ and w.

    Only ``table`` reads source, warm_start (does it keep w, does it keep v, from one λ to the next?) and linear_system:
    ∂_w rᵀ v = ∇_wF by "product", "sum" (unless told otherwise), "steps", "inversion", "SID"; "none": it solves none.
    """

    source: ClassVar[str]
    warm_start: ClassVar[tuple[bool, bool]]
    linear_system: ClassVar[str]

    @property
    def constant_from(self) -> int | None:
        """The first iteration from which all are the same map of state and sample; None: its steps keep changing."""
        return None

    @property
    def affine(self) -> str | None:
        """Why an iteration is no affine map of the state, given the sample, even where the levels are quadratic and
        λ is not projected; None: nothing is known against it, and ``whole_state``, which tests it, has its moments."""
        return None

    def init(self, problem: Any, lam: Any, w: Any = None) -> State:
        """The state before the first iteration; w is the origin unless given. Raises ``BadInput``."""
        self.space(problem)  # refuses batches of what has none
        return State(0, problem.lam(lam), problem.w(w))

    @abstractmethod
    def space(self, problem: Any, k: int = 0) -> Space:
        """Everything random in iteration k, as one finite space."""

    @abstractmethod
    def step(self, problem: Any, state: Any, sample: Any) -> State:
        """Iteration ``state.k`` at a point of its space, whose axes are leading axes of the new state."""


@dataclass(frozen=True, eq=False)
class Run:
    """Where a run ended, and what it recorded on the way.

    state: the last one; ``run`` goes on from it. times: the k recorded, trajectory: those arrays of the state, each
    (times, ..., size). counts: derivative calls (keys of ``refimpl.counting``), data and mask pairs drawn per replicate
    (``lower.data``, ``lower.masks``, ``phi.data``, ``upper.data``, ``upper.masks``). interrupted: stopped by Ctrl-C.
    """

    state: Any
    times: tuple[int, ...]
    trajectory: dict[str, Array]
    counts: dict[str, int]
    interrupted: bool

    @property
    def samples(self) -> int:
        """Data drawn per replicate, of both levels."""
        return _samples(self.counts)


def run(
    algorithm: Algorithm,
    problem: Problem,
    start: Any,
    *,
    steps: int | None = None,
    samples: int | None = None,
    rng: np.random.Generator | int,
    replicates: tuple[int, ...] = (),
    every: int = 1,
    keep: str | tuple[str, ...] = ("lam",),
    callback: Callable[[Any], object] | None = None,
) -> Run:
    """Iterations from ``start``: λ (..., n), or the state of an earlier run, which is gone on with.

    Parameters
    ----------
    steps, samples : how many iterations, and how many data per replicate (``Run.samples``) they may draw at most; one
        may be left out. The iteration that would exceed the samples is drawn, and not made. Data drawn are not data
        used: PROD_K draws K − 1 Hessians in every replicate, and uses τ, (K − 1)/2 of them in the mean, which is what a
        sequential run would draw (``HessianInverse.mean_used``). A draw without a batch counts all of its level's data.
    rng : a generator, or a seed.
    replicates : lengths that the start's leading axes are broadcast to: a λ (n,) gets these axes; a start that has
        leading axes keeps them where they fit. Every entry of the leading axes draws its own randomness.
    every : the state is recorded at the start, then every so many iterations, then at the end.
    keep : names of the state's arrays to record; one name may stand alone.
    callback : called with every state recorded after the start.

    Ctrl-C ends the run early: what was computed is returned. Raises ``BadInput``, ``HypothesisViolated`` where λ leaves
    the problem's set, and ``Diverged``, which holds what was computed. Both are looked for where states are recorded.

    >>> import refimpl as ri
    >>> from refimpl.algorithms import FSLA
    >>> problem = ri.zoo.quadratic.random(n=2, d=3, seed=0)
    >>> found = run(FSLA(delta=0.1), problem, problem.start(), steps=3, rng=np.random.default_rng(0), replicates=(5,))
    >>> found.trajectory["lam"].shape, found.counts["lower.grad_w"]
    ((4, 5, 2), 3)
    """
    require_algorithm(algorithm, problem)
    if isinstance(start, Run):
        raise BadInput(
            "a run starts from a λ or from a state",
            measured="a Run",
            required="λ (..., n), or the state that a run ended in",
            advice="its state goes on: run(algorithm, problem, found.state, ...)",
        )
    _require_length(steps, samples)
    require_count(every, "every", least=1)
    B, rng = problem.backend, generator(rng)
    keep = (keep,) if isinstance(keep, str) else tuple(keep)
    state = start if isinstance(start, State) else algorithm.init(problem, start)
    _require_state_of(problem, state)
    state = state.broadcast(B, _leading(state, replicates))
    if unknown := sorted(map(str, set(keep) - state.arrays.keys())):
        raise BadInput(
            "the state has no such array",
            measured=", ".join(unknown),
            required=", ".join(state.arrays),
            advice="keep names what to record",
        )
    watched, tally = counted(problem)
    records: list[tuple[int, dict[str, Array]]] = []

    def recorded() -> None:
        if not (records and records[-1][0] == state.k):
            records.append((state.k, {name: state.arrays[name] for name in keep}))

    def result(interrupted: bool = False) -> Run:
        recorded()
        stacked = {name: B.xp.stack([r[name] for _, r in records]) for name in keep}
        return Run(state, tuple(k for k, _ in records), stacked, dict(sorted(tally.items())), interrupted)

    def look() -> None:
        recorded()
        _require_sound(problem, state)
        if callback is not None:
            callback(state)

    recorded()
    try:
        with overflow_allowed():
            for i in count(1) if steps is None else range(1, steps + 1):
                before = tally.copy()
                sample = algorithm.space(problem, state.k).sample(rng, state.leading)
                new = _next(algorithm, watched, state, sample)
                require_next(algorithm, state, new)
                if samples is not None and _samples(tally) > samples:
                    tally = before
                    break
                if steps is None and _samples(tally) == _samples(before):
                    raise _bad_length("an iteration that draws no data", "steps=... ends it")
                state = new
                if i % every == 0:
                    look()
            if records[-1][0] != state.k:
                look()
    except KeyboardInterrupt:
        return result(interrupted=True)
    except Diverged as e:
        e.result = result()
        raise
    return result()


def _samples(counts: Mapping[str, int]) -> int:
    return sum(number for name, number in counts.items() if name.endswith(".data"))


def require_algorithm(algorithm: Any, problem: Any, kind: type[Algorithm] = Algorithm) -> None:
    """An algorithm of this kind, and a problem; else ``BadInput``: a class, or the two swapped."""
    if isinstance(algorithm, kind) and isinstance(problem, Problem):
        return
    found = (
        f"the class {x.__name__}" if isinstance(x, type) else type(x).__name__ for x in (algorithm, problem)
    )
    raise BadInput(
        "which algorithm, on which problem?",
        measured=" and ".join(found),
        required=f"{kind.__name__}, then a Problem",
        advice="the algorithm is the first argument; a class becomes one with its hyperparameters",
    )


def _require_length(steps: Any, samples: Any) -> None:
    """One of the two at least, and whole numbers."""
    if steps is None and samples is None:
        raise _bad_length("neither steps nor samples", "steps=1000; samples=1000 to compare at equal samples")
    for value, name in ((steps, "steps"), (samples, "samples")):
        if value is not None:
            require_count(value, name, least=0)


def _bad_length(measured: str, advice: str) -> BadInput:
    return BadInput("a run of what length?", measured=measured, required="an end", advice=advice)


def _require_state_of(problem: Problem, state: State) -> None:
    """Its λ and w, and its v where it has one, are as long as the problem's, on its backend, and finite."""
    wanted = {"lam": problem.n, "w": problem.d} | ({"v": problem.d} if "v" in state.arrays else {})
    if (found := state.sizes(tuple(wanted))) != wanted:
        raise BadInput(
            "the state is of another problem",
            measured=", ".join(f"{name} of length {size}" for name, size in found.items()),
            required=", ".join(f"{name} of length {size}" for name, size in wanted.items()),
            advice="go on with the problem of the earlier run, or start from a λ of this one",
        )
    for name, size in wanted.items():
        problem.backend.vector(state.arrays[name], size, name)


def _next(algorithm: Algorithm, problem: Problem, state: State, sample: Any) -> State:
    """The next state; ``Diverged`` where what an iteration computes is no longer finite, or the state was not."""
    try:
        return algorithm.step(problem, state, sample)
    except Diverged as e:
        at = f"{e.measured}, in iteration {state.k + 1}"
        raise Diverged(e.what, measured=at, required=e.required, advice=e.advice) from None
    except RefimplError:  # of a state that was not looked at: NaN is refused as an argument
        _require_sound(problem, state)
        raise
    except OverflowError as e:  # Python's own numbers, which raise where arrays become infinite
        raise Diverged(
            "the iteration diverged",
            measured=f"a number too large for a float in iteration {state.k + 1} ({e})",
            required="finite step sizes and weights",
            advice=SHORTER,
        ) from None


def require_next(algorithm: Algorithm, old: State, new: Any) -> None:
    """What ``step`` returned is the state after ``old``: counted on, λ and w in the same shapes."""
    wanted = (old.k + 1, np.shape(old.lam), np.shape(old.w))
    found = (new.k, np.shape(new.lam), np.shape(new.w)) if isinstance(new, State) else type(new).__name__
    if found != wanted:
        raise BadInput(
            f"{type(algorithm).__name__}.step returned no next state",
            measured=found,
            required=f"a State with k and the shapes of λ and w {wanted}",
            advice="return the new state, with k + 1; axes of the sample lead, the vectors come last",
        )


def _leading(state: State, replicates: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return tuple(np.broadcast_shapes(replicates, state.leading))
    except (ValueError, TypeError):
        raise BadInput(
            "the replicates do not fit the start",
            measured=f"replicates {replicates!r}, leading axes {state.leading}",
            required="a tuple of lengths that broadcasts with the start's leading axes",
            advice="replicates=(100,) is a hundred times one λ; leave it out to go on with a state",
        ) from None


def _require_sound(problem: Problem, state: State) -> None:
    """Finite, and λ inside its set."""
    for name, x in state.arrays.items():
        require_finite(problem.backend, x, f"{name} after iteration {state.k}", SHORTER)
    if problem.domain is not None:
        problem.domain.require(state.lam, problem.backend)


def projected(problem: Problem, lam: Array) -> Array:
    """P_Λ(λ): the nearest point of the problem's set, λ itself where it has none; ``Diverged`` for NaN and infinity."""
    if problem.domain is None:
        return lam
    require_finite(problem.backend, lam, "λ before its projection", SHORTER)
    return problem.domain.project(lam, problem.backend)


def require_minimisation(
    problem: Any,
    who: str,
    *,
    advice: str = "its linear system is ∇²_wwG v = ∇_wF; SID and BSGM work on fixed-point problems",
) -> BilevelProblem:
    """A ``BilevelProblem``; else ``BadInput``."""
    if isinstance(problem, BilevelProblem):
        return problem
    raise BadInput(
        f"{who} needs a lower objective",
        measured=type(problem).__name__,
        required="BilevelProblem",
        advice=advice,
    )
