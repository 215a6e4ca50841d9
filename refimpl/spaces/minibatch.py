"""Minibatches as a finite space: b independent indices of a finite sum's terms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from refimpl.errors import BadInput
from refimpl.spaces.space import AS_FLOAT, Space, generator


@dataclass(frozen=True)
class Minibatch(Space):
    """``length`` independent indices of {0, …, count − 1}, each with equal probabilities: drawn with replacement.

    A point is the row of its indices, (..., length) integers, what ``Objective.batch`` takes; the last varies fastest.

    >>> space = Minibatch(3, 2)
    >>> space.size, space.points(np.array([0, 5, 8])).tolist()
    (9, [[0, 0], [1, 2], [2, 2]])
    """

    count: int
    length: int

    def __post_init__(self) -> None:
        for name in ("count", "length"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise BadInput(
                    f"no minibatch has this {name}",
                    measured=repr(value),
                    required="a whole number >= 1",
                    advice="a batch of None, where an algorithm asks for one, is all of the data",
                )

    @property
    def size(self) -> int:
        return self.count**self.length

    @property
    def log10_size(self) -> float:
        return min(self.length, AS_FLOAT) * math.log10(self.count)

    def points(self, index: np.ndarray) -> np.ndarray:
        rows = np.empty((*index.shape, self.length), dtype=np.int64)
        for place in reversed(range(self.length)):
            index, rows[..., place] = np.divmod(index, self.count)
        return rows

    def probabilities(self, index: np.ndarray) -> np.ndarray:
        return np.full(index.shape, 1 / self.size)

    def exact_probabilities(self, index: np.ndarray) -> list[Fraction]:
        return [Fraction(1, self.size)] * index.size

    def sample(self, rng: np.random.Generator | int, shape: tuple[int, ...]) -> np.ndarray:
        return generator(rng).integers(0, self.count, size=(*shape, self.length))

    def ahead(self, points: np.ndarray, lead: int) -> np.ndarray:
        return points.reshape(*points.shape[:-1], *(1,) * lead, self.length)
