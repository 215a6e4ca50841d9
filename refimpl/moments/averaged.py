"""Means of independent draws, mixtures, and affine maps drawn once, as far as mean and second moment can see them.

For T̄ the mean of J independent copies of T,
    E T̄ = E T,      E[T̄ S T̄ᵀ] = E[T S Tᵀ]/J + (1 − 1/J) (E T) S (E T)ᵀ:
to second moments T̄ is T with probability 1/J and E T otherwise, whatever J is. Its points need not be enumerated, and
are not there: ``paths`` knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, TooLarge
from refimpl.moments.packed import second_operator
from refimpl.moments.state import Moments
from refimpl.moments.step import Coefficients, PackedStep, _homogeneous, _probabilities
from refimpl.spaces import Space


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class AffineDraw:
    """y = A(s) x + b(s) from R^d to R^e, drawn once: transitions (points, e+1, d+1), probabilities (points,)."""

    backend: Backend
    transitions: Array
    probabilities: Array

    @cached_property
    def mean_matrix(self) -> Array:
        """E T, (e+1, d+1)."""
        return self.backend.sum(self.probabilities[:, None, None] * self.transitions, axis=0)

    def second(self, S: Array) -> Array:
        """E[T S Tᵀ] for S (d+1, d+1): (e+1, e+1). Cost 2·points·(d+1)(e+1)(d+e+2) operations."""
        T = self.transitions
        moved = T @ S @ self.backend.mT(T)
        return self.backend.sum(self.probabilities[:, None, None] * moved, axis=0)

    def moments(self, x: Moments) -> Moments:
        """Of y, for x independent of the draw."""
        return Moments(self.backend, self.second(x.homogeneous))


def affine_draw(
    space: Space, coefficients: Coefficients, backend: Backend | None = None, *, max_bytes: int = 2**28
) -> AffineDraw:
    """y = A(s) x + b(s) with s from ``space``; coefficients maps points to A (points, e, d), b (points, e).

    Raises ``TooLarge`` where the transitions do not fit in ``max_bytes``.
    """
    B = backend or Backend()
    first = _homogeneous(B, *coefficients(space.points(np.arange(1))))
    if not space.at_most(max_bytes // (each := 8 * int(first.shape[-1] * first.shape[-2]))):
        raise TooLarge(
            "the transitions do not fit",
            measured=f"{space.how_many} points of {each} bytes each",
            required=f"<= max_bytes = {max_bytes}",
            advice="raise max_bytes, draw fewer masks, or sample",
        )
    T = _homogeneous(B, *coefficients(space.points(np.arange(space.size))))
    return AffineDraw(B, T, _probabilities(B, space, 0, space.size))


def mixture(weights: Sequence[Any], steps: Sequence[Any]) -> Any:
    """One of the steps, drawn with these weights: all steps of recursions, or all ``AffineDraw``s, of one shape.

    >>> from refimpl.moments import affine_step
    >>> from refimpl.spaces import Indices
    >>> walk = affine_step(Indices(2), lambda s: (np.ones((len(s), 1, 1)), 2.0 * s[:, None] - 1))
    >>> stay = affine_step(Indices(1), lambda s: (np.ones((1, 1, 1)), np.zeros((1, 1))))
    >>> mixture((0.25, 0.75), (walk, stay)).second(np.array([[0.0, 0.0], [0.0, 1.0]]))[0, 0]
    np.float64(0.25)
    """
    shapes = {step.mean_matrix.shape for step in steps}
    if len(weights) != len(steps) or len(shapes) != 1 or sum(weights) != 1 or min(weights) < 0:
        raise BadInput(
            "not a mixture",
            measured=f"weights {tuple(weights)} of {len(steps)} steps of shapes {sorted(shapes)}",
            required="as many numbers >= 0 as steps, with sum 1, and steps of one shape",
            advice="pass fractions.Fraction: floats need not add up to 1",
        )
    first = steps[0]
    B = first.backend
    parts = [(B.scalar(weight), step) for weight, step in zip(weights, steps, strict=True)]
    if any(isinstance(step, PackedStep) for step in steps):
        operators = [weight * step.operator for weight, step in parts]
        return PackedStep(B, first.D, sum(operators[1:], operators[0]))
    transitions = B.concat([step.transitions for _, step in parts], axis=0)
    return replace(
        first,
        transitions=transitions,
        probabilities=B.concat([weight * step.probabilities for weight, step in parts]),
    )


def averaged(step: Any, draws: int) -> Any:
    """The mean of ``draws`` independent copies of a step, or of an ``AffineDraw``: the number costs nothing.

    >>> from refimpl.moments import affine_step
    >>> from refimpl.spaces import Indices
    >>> walk = affine_step(Indices(2), lambda s: (np.ones((len(s), 1, 1)), 2.0 * s[:, None] - 1))
    >>> averaged(walk, 4).second(np.array([[0.0, 0.0], [0.0, 1.0]]))[0, 0]  # the variance of ±1 over 4
    np.float64(0.25)
    """
    if not isinstance(draws, int) or isinstance(draws, bool) or draws < 1:
        raise BadInput(
            "the mean of how many draws?",
            measured=repr(draws),
            required="an int >= 1",
            advice="1 is the step",
        )
    if draws == 1:
        return step
    B, weights = step.backend, (Fraction(1, draws), Fraction(draws - 1, draws))
    mean, sure = step.mean_matrix[None, ...], B.zeros((1,)) + B.scalar(1)
    if isinstance(step, PackedStep):
        return mixture(weights, (step, PackedStep(B, step.D, second_operator(B, mean, sure))))
    return mixture(weights, (step, replace(step, transitions=mean, probabilities=sure)))
