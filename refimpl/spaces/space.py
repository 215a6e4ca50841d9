"""A finite set with probabilities, its points numbered; the indices of a data set; products.

Points travel as arrays whose first axes are the points' own: (*points, *what one point is).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from refimpl.arrays.numbers import is_whole
from refimpl.errors import BadInput

LARGEST = np.iinfo(np.int64).max  # the largest number of a point
AS_FLOAT = 10**300  # what stands for a longer length where floats are multiplied


def generator(rng: Any) -> np.random.Generator:
    """The generator, or that of a seed; ``BadInput`` for what is neither, None too: the system would draw a seed."""
    try:
        if rng is not None and not isinstance(rng, bool):
            return np.random.default_rng(rng)
    except (TypeError, ValueError):
        pass
    raise BadInput(
        "randomness without a source",
        measured=f"rng={rng!r}",
        required="a seed, a whole number >= 0, or a numpy Generator",
        advice="pass rng=0: results that cannot be repeated cannot be refuted",
    )


class Space(ABC):
    """A finite set with probabilities; its points are numbered 0 … size − 1."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of points of positive probability."""

    @property
    def log10_size(self) -> float:
        """log₁₀ of it: spaces whose size may have millions of digits give it without building that number."""
        return math.log10(self.size)

    def at_most(self, most: int) -> bool:
        """Is the size at most this? A size that is more than ten times as large is not built."""
        return self.log10_size <= 1 + math.log10(max(most, 1)) and self.size <= most

    @property
    def how_many(self) -> str:
        """The size, as an error tells it."""
        digits = self.log10_size
        return str(self.size) if digits < 9 else f"about 10^{digits:{'.1f' if digits < 10**6 else '.3g'}}"

    @abstractmethod
    def points(self, index: np.ndarray) -> Any:
        """The points of these numbers (any shape)."""

    @abstractmethod
    def probabilities(self, index: np.ndarray) -> np.ndarray:
        """Their probabilities in float64, of the same shape, each good to a few eps relative."""

    @abstractmethod
    def exact_probabilities(self, index: np.ndarray) -> list[Fraction]:
        """The exact ones, for index (points,)."""

    @abstractmethod
    def sample(self, rng: np.random.Generator | int, shape: tuple[int, ...]) -> Any:
        """Independent points, as an array of that shape, from a generator or a seed."""

    def ahead(self, points: Any, lead: int) -> Any:
        """Points with ``lead`` axes of length 1 behind their own: they go in front of other leading axes."""
        return points.reshape(*points.shape, *(1,) * lead)


@dataclass(frozen=True)
class Indices(Space):
    """{0, …, count-1} with equal probabilities: the terms of a finite sum. A point is an integer."""

    count: int

    def __post_init__(self) -> None:
        if not (is_whole(self.count) and self.count >= 1):
            raise BadInput(
                "a finite sum needs at least one term",
                measured=repr(self.count),
                required="a whole number >= 1",
                advice="check that the data set is not empty",
            )

    @property
    def size(self) -> int:
        return int(self.count)  # NumPy's would overflow in a power

    def points(self, index: np.ndarray) -> np.ndarray:
        return index

    def probabilities(self, index: np.ndarray) -> np.ndarray:
        return np.full(index.shape, 1 / self.count)

    def exact_probabilities(self, index: np.ndarray) -> list[Fraction]:
        return [Fraction(1, self.count)] * index.size

    def sample(self, rng: np.random.Generator | int, shape: tuple[int, ...]) -> np.ndarray:
        return generator(rng).integers(0, self.count, size=shape)


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
        return math.prod(factor.size for factor in self.factors)

    @property
    def log10_size(self) -> float:
        return math.fsum(factor.log10_size for factor in self.factors)

    def _own(self, index: np.ndarray) -> list[np.ndarray]:
        """Each factor's numbers of these points."""
        own: list[np.ndarray] = []
        for factor in reversed(self.factors):
            numbered = factor.at_most(LARGEST)
            index, of_factor = np.divmod(index, factor.size) if numbered else (0 * index, index)
            own.insert(0, of_factor)
        return own

    def points(self, index: np.ndarray) -> tuple[Any, ...]:
        return tuple(f.points(i) for f, i in zip(self.factors, self._own(index), strict=True))

    def probabilities(self, index: np.ndarray) -> np.ndarray:
        own = zip(self.factors, self._own(index), strict=True)
        return np.asarray(math.prod(f.probabilities(i) for f, i in own))

    def exact_probabilities(self, index: np.ndarray) -> list[Fraction]:
        own = [f.exact_probabilities(i) for f, i in zip(self.factors, self._own(index), strict=True)]
        return [math.prod(of_point, start=Fraction(1)) for of_point in zip(*own, strict=True)]

    def sample(self, rng: np.random.Generator | int, shape: tuple[int, ...]) -> tuple[Any, ...]:
        rng = generator(rng)  # one stream for all factors
        return tuple(factor.sample(rng, shape) for factor in self.factors)

    def ahead(self, points: Any, lead: int) -> tuple[Any, ...]:
        return tuple(f.ahead(p, lead) for f, p in zip(self.factors, points, strict=True))
