"""Finite probability spaces: all randomness of the package lives here.

A space can be enumerated (``expect``: exact), sampled (``Space.sample``: what an algorithm does), or
handed to an objective (``objective.at(points)``). Points travel as arrays with one leading axis per chunk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, TooLarge

CHUNK = 64  # points per call of f: large enough to vectorise, small enough to stay in the cache


class Space(ABC):
    """A finite set with probabilities."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of points of positive probability."""

    @abstractmethod
    def block(self, start: int, stop: int) -> tuple[Any, list[Fraction]]:
        """Points start..stop-1 in the space's own order, and their exact probabilities."""

    @abstractmethod
    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        """Independent points, as an array of that shape."""

    def chunks(self, length: int = CHUNK) -> Iterator[tuple[Any, list[Fraction]]]:
        for start in range(0, self.size, length):
            yield self.block(start, min(start + length, self.size))


@dataclass(frozen=True)
class Indices(Space):
    """{0, …, count-1} with equal probabilities: the terms of a finite sum."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise BadInput(
                "a finite sum needs at least one term",
                measured=self.count,
                required=">= 1",
                advice="check that the data set is not empty",
            )

    @property
    def size(self) -> int:
        return self.count

    def block(self, start: int, stop: int) -> tuple[Any, list[Fraction]]:
        return np.arange(start, stop), [Fraction(1, self.count)] * (stop - start)

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        return rng.integers(0, self.count, size=shape)


@dataclass(frozen=True)
class Product(Space):
    """Independent coordinates; a point is the tuple of its factors' points (first factor slowest)."""

    factors: tuple[Space, ...]

    def __post_init__(self) -> None:
        if not self.factors:
            raise BadInput(
                "a product needs a factor",
                measured="no factors",
                required=">= 1",
                advice="Indices(1) is the space of one point",
            )

    @property
    def size(self) -> int:
        size = 1
        for factor in self.factors:
            size *= factor.size
        return size

    def block(self, start: int, stop: int) -> tuple[Any, list[Fraction]]:
        rest, probabilities = np.arange(start, stop), [Fraction(1)] * (stop - start)
        points: list[Any] = []
        for factor in reversed(self.factors):
            rest, index = np.divmod(rest, factor.size)
            first = int(index.min())  # a chunk needs few points of the slow factors
            own, own_probabilities = factor.block(first, int(index.max()) + 1)
            points.insert(0, _pick(own, index - first))
            probabilities = [
                p * own_probabilities[i - first] for p, i in zip(probabilities, index, strict=True)
            ]
        return tuple(points), probabilities

    def sample(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        return tuple(factor.sample(rng, shape) for factor in self.factors)


def _pick(points: Any, index: np.ndarray) -> Any:
    return tuple(_pick(p, index) for p in points) if isinstance(points, tuple) else points[index]


def before(points: Any, lead: int) -> Any:
    """Points with ``lead`` axes of length 1 behind their own: they go in front of other leading axes."""
    if isinstance(points, tuple):
        return tuple(before(p, lead) for p in points)
    return points.reshape(*points.shape, *(1,) * lead)


def expect(
    space: Space,
    f: Callable[[Any], Array],
    backend: Backend | None = None,
    *,
    executor: Executor | None = None,
    max_points: int = 2**22,
) -> Array:
    """Σ_k p_k f(s_k), exactly: f maps a chunk of points to an array with that leading axis.

    Chunks and the order of the compensated sum are fixed, so the result is bitwise the same for every
    executor and number of workers. Cost: one evaluation of f per point. Raises ``TooLarge``.
    """
    backend = backend or Backend()
    if space.size > max_points:
        raise TooLarge(
            "too many points to enumerate",
            measured=space.size,
            required=f"<= max_points = {max_points}",
            advice="use a closed form, sample with a stated confidence, or raise max_points",
        )
    one_chunk = _Weighted(f, backend)
    parts = (executor.map if executor else map)(one_chunk, space.chunks())
    total: Array = None
    error: Array = None
    for part in parts:
        if total is None:
            total, error = part, 0 * part
            continue
        # Knuth's two-sum: total + part = new + lost exactly
        new = total + part
        virtual = new - total
        error = error + ((total - (new - virtual)) + (part - virtual))
        total = new
    return total + error


@dataclass(frozen=True)
class _Weighted:
    """Picklable ``chunk -> Σ p f``, so that process pools can be executors."""

    f: Callable[[Any], Array]
    backend: Backend

    def __call__(self, chunk: tuple[Any, list[Fraction]]) -> Array:
        points, probabilities = chunk
        values = self.f(points)
        if values.ndim == 0 or values.shape[0] != len(probabilities):
            raise BadInput(
                "f must return one value per point",
                measured=f"shape {tuple(values.shape)} for {len(probabilities)} points",
                required=f"({len(probabilities)}, ...)",
                advice="broadcast a value that does not depend on the point; points come first of all axes",
            )
        weights = [self.backend.scalar(p) for p in probabilities]
        p = self.backend.reshape(self.backend.asarray(weights), (-1, *(1,) * (values.ndim - 1)))
        return self.backend.sum(p * values, axis=0)


def covariance(
    space: Space, f: Callable[[Any], Array], backend: Backend | None = None, **options: Any
) -> Array:
    """E (f - Ef)(f - Ef)ᵀ for f with values (..., d): two exact passes, (..., d, d)."""
    return expect(space, _Scatter(f, expect(space, f, backend, **options)), backend, **options)


@dataclass(frozen=True)
class _Scatter:
    """Picklable ``points -> (f − mean)(f − mean)ᵀ``."""

    f: Callable[[Any], Array]
    mean: Array

    def __call__(self, points: Any) -> Array:
        deviation = self.f(points) - self.mean
        return deviation[..., :, None] * deviation[..., None, :]
