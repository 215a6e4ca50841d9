"""Exact moments of FSLA, with dropout or without, on quadratic problems: nothing sampled, in rationals nothing rounded.

Given the sample, an iteration is there an affine map of the state. Its matrices are read off the algorithm's own
``step`` on basis states, put on leading axes, for every point of its space; ``refimpl.moments`` does the rest:

- ``fixed_lambda``: λ held, line 11 switched off; what w, v and the direction h do. Means are compared with the exact
  w(λ), the adjoint v = E_m v_m and ∇F̄(λ): the mean error of h is the bias of the hypergradient estimate.
- ``whole_state``: λ moves; all arrays of the state.

Affinity is tested, exactly: at two states, for up to 64 points of the space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np

from refimpl.algorithms.li2022fsla import FSLA, FSLAState
from refimpl.algorithms.yu2024dropout import DropoutFSLA
from refimpl.arrays import Backend, backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.exact import Hypergradient, exact_hypergradient
from refimpl.moments import (
    AffineStep,
    Moments,
    PackedStep,
    Schedule,
    affine_step,
    curve,
    stationary,
)
from refimpl.problem import BilevelProblem
from refimpl.solvers.lower import require_count
from refimpl.spaces import Product

TESTED = 64  # points at which affinity is tested


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

    recursion: AffineStep | PackedStep | Schedule
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
    """All arrays of the state as an affine random recursion; the first iteration differs, see line 10."""

    first: AffineStep | PackedStep
    later: AffineStep | PackedStep | Schedule
    start: FSLAState

    @property
    def sizes(self) -> dict[str, int]:
        return self.start.sizes(tuple(self.start.arrays))

    def stationary(self) -> Joint:
        """Where they settle, for a constant schedule. Raises ``HypothesisViolated`` where they do not settle."""
        return Joint(stationary(_constant(self.later)).moments, self.sizes)

    def curve(self, times: int) -> Joint:
        """After 0, …, ``times`` iterations from the start."""
        B = self.first.backend
        begun = Moments.at(B, self.start.vector(B, tuple(self.start.arrays)))
        if times == 0:
            return Joint(replace(begun, homogeneous=begun.homogeneous[None]), self.sizes)
        after = curve(self.later, Moments(B, self.first.second(begun.homogeneous)), times - 1)
        both = B.concat([begun.homogeneous[None], after.homogeneous], axis=0)
        return Joint(Moments(B, both), self.sizes)


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
    state = _one(algorithm.init(problem, lam))
    exact = exact_hypergradient(problem, state.lam, certify="never")
    names = ("w", "v", "d") if direction else ("w", "v")
    point = problem.backend.concat([{"w": exact.w, "v": exact.v, "d": exact.value}[name] for name in names])
    made = [_step(algorithm.frozen(k), problem, state, names) for k in _iterations(algorithm, steps)]
    return FixedLambda(_recursion(algorithm, made).about(point), exact, state.sizes(names))


def whole_state(
    algorithm: FSLA,
    problem: BilevelProblem,
    lam: Any,
    w: Any = None,
    v: Any = None,
    *,
    steps: int | None = None,
) -> WholeState:
    """What all arrays of the state do from λ, w, v (the origin unless given) on; arguments as for ``fixed_lambda``."""
    start = _one(algorithm.init(problem, lam, w, v))
    names = tuple(start.arrays)
    made = [
        _step(algorithm, problem, replace(start, k=1 + k), names)
        for k in _iterations(algorithm, None if steps is None else max(1, steps - 1))
    ]
    return WholeState(_step(algorithm, problem, start, names), _recursion(algorithm, made), start)


def _one(state: FSLAState) -> FSLAState:
    """The state, which must be a single one: the coefficients of a recursion belong to one λ."""
    if state.leading:
        raise BadInput(
            "moments are of one start at a time",
            measured=f"leading axes {state.leading}",
            required="one λ (n,), one w and one v (d,)",
            advice="loop over the starts",
        )
    return state


def _iterations(algorithm: FSLA, steps: int | None) -> range:
    """The iterations whose recursions differ."""
    if algorithm.schedule == "constant":
        return range(1)
    if steps is None:
        raise BadInput(
            "the step sizes of how many iterations?",
            measured="schedule 'sqrt' and no steps",
            required="steps=...",
            advice='or take schedule="constant"',
        )
    require_count(steps, "steps", least=1)
    return range(steps)


def _recursion(
    algorithm: FSLA, made: Sequence[AffineStep | PackedStep]
) -> AffineStep | PackedStep | Schedule:
    return made[0] if algorithm.schedule == "constant" else Schedule(tuple(made))


def _constant(recursion: AffineStep | PackedStep | Schedule) -> AffineStep | PackedStep:
    if isinstance(recursion, Schedule):
        raise BadInput(
            "nothing is stationary under steps that change",
            measured="schedule 'sqrt'",
            required="schedule 'constant'",
            advice="ask for the curve, or freeze one iteration's sizes: algorithm.frozen(k)",
        )
    return recursion


def _vector(B: Backend, x: Any, size: int, name: str) -> Array:
    return B.zeros((size,)) if x is None else B.vector(x, size, name)


@dataclass(frozen=True)
class _Coefficients:
    """points -> A, b of iteration ``state.k`` as a map of the named arrays; the others stay as in ``state``."""

    algorithm: FSLA
    problem: BilevelProblem
    state: FSLAState
    names: tuple[str, ...]

    @property
    def space(self) -> Product:
        return self.algorithm.space(self.problem, self.state.k)

    def image(self, points: Any, x: Array, count: int) -> Array:
        """Of states x (m, size): (count, m, size), count the number of points."""
        B = self.problem.backend
        state = self.state.with_vector(x, self.names)
        new = self.algorithm.step(self.problem, state, self.space.ahead(points, 1))
        return B.broadcast(new.vector(B, self.names), (count, *x.shape))

    def __call__(self, points: Any) -> tuple[Array, Array]:
        B, size = self.problem.backend, sum(self.state.sizes(self.names).values())
        count = len(points[0][0][1])  # the data of the lower level's first draw
        images = self.image(points, B.concat([B.zeros((1, size)), B.eye(size)], axis=0), count)
        b = images[:, 0, :]
        return B.mT(images[:, 1:, :] - images[:, :1, :]), b


def _step(
    algorithm: FSLA, problem: BilevelProblem, state: FSLAState, names: tuple[str, ...]
) -> AffineStep | PackedStep:
    coefficients = _Coefficients(algorithm, problem, state, names)
    if isinstance(algorithm, DropoutFSLA) and algorithm.r is not None:
        raise _not_affine(
            "a projection onto a ball", "analyse r=None, and run the algorithm to see what r does"
        )
    _require_affine(coefficients)
    return affine_step(coefficients.space, coefficients, problem.backend)


def _require_affine(coefficients: _Coefficients) -> None:
    """image(x) = A x + b over the rationals, floats taken as the rationals that they are."""
    B, state = backend("rational"), coefficients.state
    try:
        moved = replace(
            coefficients,
            problem=coefficients.problem.to(B),
            state=replace(state, **{name: B.asarray(x) for name, x in state.arrays.items()}),
        )
        space = moved.space
        index = np.array(sorted({i * space.size // TESTED for i in range(TESTED)}))
        points = space.points(index)
        A, b = moved(points)
        i = np.arange(b.shape[-1])
        x = B.asarray(np.stack([1.0 + i, 2.0 - 3.0 * (i % 2) + i * i]))
        left = moved.image(points, x, len(index)) - (x @ B.mT(A) + b[:, None])
    except BadInput as e:
        raise _not_affine(str(e.what), "run the algorithm with replicates instead") from e
    if (left != 0).any():
        where = np.argwhere(left != 0)[0][-1]
        raise _not_affine(
            f"entry {where} of ({', '.join(coefficients.names)}) is not",
            "where ∇²_λwG depends on w, fixed_lambda(direction=False) leaves h out; else run with replicates",
        )


def _not_affine(measured: str, advice: str) -> HypothesisViolated:
    return HypothesisViolated(
        "an iteration is not an affine map of the state, given the sample",
        measured=measured,
        required="levels that are quadratic, without projection",
        advice=advice,
    )
