"""One iteration as an affine map of the state given the sample: read off the algorithm's own ``step``, and tested.

Column i of A(s) is the image of basis state i minus that of the origin; basis states and the points of the space are
leading axes, so that one call of ``step`` gives the matrices of a whole chunk of points.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.affinity import second_differences
from refimpl.algorithms.protocol import Algorithm, State
from refimpl.algorithms.staged import stages_of
from refimpl.algorithms.stages import Arrays, Part, Stage, Stages, whole
from refimpl.arrays import Backend, backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, HypothesisViolated, TooLarge
from refimpl.moments import AffineStep, PackedStep, affine_step, averaged, mixture
from refimpl.moments.packed import length, pack, unpack
from refimpl.problem import Problem

TESTED = 64  # points at which affinity is tested
Step = AffineStep | PackedStep
Known = dict[Hashable, Step]


@dataclass(frozen=True, eq=False)
class Iteration:
    """Iteration ``state.k`` as a map of the named arrays; the state's others stay as they are."""

    algorithm: Algorithm
    problem: Problem
    state: State
    names: tuple[str, ...]

    @cached_property
    def staged(self) -> Stages | None:
        """Its stages, where the algorithm has some."""
        return stages_of(self.algorithm, self.problem, self.state.k)

    @cached_property
    def stages(self) -> list[Stage]:
        """The same, else the iteration as one."""
        if self.staged is not None:
            return list(self.staged.stages)
        return [whole(None, Part(self.algorithm.space(self.problem, self.state.k), self._move))]

    def _move(self, arrays: Arrays, sample: Any) -> Arrays:
        moving = {name: arrays[name] for name in self.names}
        return self.algorithm.step(self.problem, replace(self.state, **moving), sample).arrays

    def recursion(self, known: Known, *, tested: bool = True) -> Step:
        """What it does to second moments; ``known``: stages that were read off before, added to.

        tested: affinity is. Raises ``HypothesisViolated`` where an iteration is not affine, and ``TooLarge``.
        """
        if tested:
            self._require_affine(known)
        steps = [averaged(self._step(stage, known), stage.copies) for stage in self.stages]
        return steps[0] if self.staged is None else self._composed(steps)

    def _step(self, stage: Stage, known: Known) -> Step:
        if stage.key is not None and stage.key in known:
            return known[stage.key]
        try:
            weights, parts = zip(*stage.parts, strict=True)
            step: Step = mixture(
                weights, [affine_step(part.space, self._read(part), self.problem.backend) for part in parts]
            )
        except TooLarge as e:
            raise TooLarge(
                "an iteration draws from too large a space",
                measured=e.measured,
                required=e.required,
                advice="draw less: smaller batches, None for all of the data, fewer terms of an inverse, problems of "
                "two or three data; or run the algorithm with replicates",
            ) from None
        if stage.key is not None:
            known[stage.key] = step
        return step

    def _read(self, part: Part) -> Coefficients:
        sizes = self.state.sizes(self.names) | ({} if self.staged is None else self.staged.scratch)
        held = {name: x for name, x in self.state.arrays.items() if name not in self.names}
        return Coefficients(part, self.problem.backend, sizes, held)

    def _composed(self, steps: list[Step]) -> PackedStep:
        """One after the other, applied to a basis of the symmetric matrices."""
        B, D = self.problem.backend, 1 + sum(self.state.sizes(self.names).values())
        inside = steps[0].D - D  # the scratch arrays stand between the named ones and the 1
        top = B.concat([B.eye(D)[:-1, :], B.zeros((inside, D))], axis=0)
        put = B.concat([top, B.eye(D)[-1:, :]], axis=0)
        S = put @ unpack(B, B.eye(length(D)), D) @ B.mT(put)
        for step in steps:
            S = step.second(S)
        return PackedStep(B, D, B.mT(pack(B, B.mT(put) @ S @ put)))

    def _require_affine(self, known: Known) -> None:
        """Every stage is, over the rationals, floats taken as the rationals that they are."""
        B = backend("rational")
        try:
            arrays = {name: B.asarray(x) for name, x in self.state.arrays.items()}
            moved = replace(self, problem=self.problem.to(B), state=replace(self.state, **arrays))
            for stage in moved.stages:
                if stage.key is None or stage.key not in known:
                    for _, part in stage.parts:
                        moved._read(part).require_affine()
        except BadInput as e:
            raise not_affine(str(e.what), "run the algorithm with replicates instead") from e


@dataclass(frozen=True, eq=False)
class Coefficients:
    """points -> A, b of a part of an iteration as a map of the arrays of ``sizes``; ``held`` are the others."""

    part: Part
    backend: Backend
    sizes: dict[str, int]
    held: Arrays

    def image(self, points: Any, x: Array, count: int) -> Array:
        """Of states x (m, size): (count, m, size), count the number of points."""
        B, arrays, begin = self.backend, dict(self.held), 0
        for name, size in self.sizes.items():
            arrays[name] = x[..., begin : begin + size]
            begin += size
        new = {**arrays, **self.part.move(arrays, self.part.space.ahead(points, 1))}
        leading = (count, int(x.shape[0]))
        return B.concat([B.broadcast(new[name], (*leading, size)) for name, size in self.sizes.items()])

    def __call__(self, points: Any) -> tuple[Array, Array]:
        B, size = self.backend, sum(self.sizes.values())
        images = self.image(points, B.concat([B.zeros((1, size)), B.eye(size)], axis=0), _number_of(points))
        return B.mT(images[:, 1:, :] - images[:, :1, :]), images[:, 0, :]

    def require_affine(self) -> None:
        """Refuse where ``refimpl.affinity`` finds that it is not, at up to ``TESTED`` points; exact numbers only."""
        space = self.part.space
        size = space.size if space.at_most(2**62) else 2**62  # larger numbers are no int64; refused later
        index = np.array(sorted({i * size // TESTED for i in range(TESTED)}))
        D = sum(self.sizes.values())

        def of(numbers: np.ndarray, states: Array) -> Array:
            return self.image(space.points(numbers), states, len(numbers))

        for left in second_differences(self.backend, of, index, np.zeros((1, D)), D):
            if (left != 0).any():
                raise not_affine(
                    f"entry {np.argwhere(left != 0)[0][-1]} of ({', '.join(self.sizes)}) is not",
                    "where ∇²_λwG depends on w, fixed_lambda(direction=False) leaves h out; else run with replicates",
                )


def _number_of(points: Any) -> int:
    """How many points: every array of a tuple has their axis first."""
    while isinstance(points, tuple):
        points = points[0]
    return len(points)


def not_affine(measured: str, advice: str) -> HypothesisViolated:
    """The error of what is not affine."""
    return HypothesisViolated(
        "an iteration is not an affine map of the state, given the sample",
        measured=measured,
        required="levels that are quadratic, without projection",
        advice=advice,
    )
