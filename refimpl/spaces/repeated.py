"""The same space drawn from several times, independently."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.errors import BadInput
from refimpl.spaces.space import AS_FLOAT, LARGEST, Space


@dataclass(frozen=True)
class Repeated(Space):
    """``times`` independent draws from a space: its points with an axis ``times`` behind their own leading axes.

    Where a point of the space is an array (*points, *own), one of this is (*points, times, *own); where it is a tuple,
    a tuple of such arrays. times = 0 is legal: one point, nothing drawn. The last draw varies fastest.

    >>> from refimpl.spaces import Minibatch
    >>> space = Repeated(Minibatch(10, 2), 3)
    >>> space.size, space.points(np.arange(4)).shape, space.points(np.array(123456))[1].tolist()
    (1000000, (4, 3, 2), [3, 4])
    """

    space: Space
    times: int

    def __post_init__(self) -> None:
        if not isinstance(self.times, int) or isinstance(self.times, bool) or self.times < 0:
            raise BadInput(
                "drawn how many times?",
                measured=repr(self.times),
                required="a whole number >= 0",
                advice="0 draws nothing",
            )

    @property
    def size(self) -> int:
        return self.space.size**self.times

    @property
    def log10_size(self) -> float:
        return min(self.times, AS_FLOAT) * self.space.log10_size

    def points(self, index: np.ndarray) -> Any:
        return self.space.points(self._of_each(index))

    def probabilities(self, index: np.ndarray) -> np.ndarray:
        return np.asarray(np.prod(self.space.probabilities(self._of_each(index)), axis=-1))

    def exact_probabilities(self, index: np.ndarray) -> list[Fraction]:
        of_each = self._of_each(index)
        flat = self.space.exact_probabilities(of_each.reshape(-1))
        rows = (flat[i * self.times : (i + 1) * self.times] for i in range(index.size))
        return [math.prod(row, start=Fraction(1)) for row in rows]

    def sample(self, rng: np.random.Generator | int, shape: tuple[int, ...]) -> Any:
        return self.space.sample(rng, (*shape, self.times))

    def ahead(self, points: Any, lead: int) -> Any:
        def moved(x: np.ndarray, place: int) -> np.ndarray:
            return x.reshape(*x.shape[:place], *(1,) * lead, *x.shape[place:])

        return self._of_arrays(points, moved)

    def each(self, points: Any) -> list[Any]:
        """The draws one after the other, ``times`` points of the space. Raises ``BadInput`` for another number."""
        return _transposed(self._of_arrays(points, lambda x, place: list(np.moveaxis(x, place, 0))))

    def leading(self, points: Any) -> tuple[int, ...]:
        """The points' own leading axes."""
        shapes: list[tuple[int, ...]] = []
        self._of_arrays(points, lambda x, place: shapes.append(x.shape[:place]))
        return tuple(np.broadcast_shapes(*shapes))

    def _of_arrays(self, points: Any, f: Callable[[np.ndarray, int], Any]) -> Any:
        """f of every array of the points and of where its axis ``times`` is."""

        def walk(x: Any, one: Any) -> Any:
            if isinstance(one, tuple) and isinstance(x, tuple) and len(one) == len(x):
                return tuple(walk(of_x, of_one) for of_x, of_one in zip(x, one, strict=True))
            array = np.asarray(x) if not isinstance(x, tuple) and not isinstance(one, tuple) else None
            place = -1 if array is None else array.ndim - np.ndim(one) - 1
            if array is None or place < 0 or array.shape[place] != self.times:
                raise BadInput(
                    "these are not so many draws",
                    measured=type(x).__name__ if array is None else f"an array of shape {array.shape}",
                    required=f"an axis of length {self.times} in front of a point's own; tuples where points are",
                    advice="draw them with space.sample(rng, shape)",
                )
            return f(array, place)

        return walk(points, self._one)

    @cached_property
    def _one(self) -> Any:
        """A point of the space."""
        return self.space.points(np.zeros((), dtype=np.int64))

    def _of_each(self, index: np.ndarray) -> np.ndarray:
        """The numbers of the draws, (*index.shape, times)."""
        index = np.asarray(index)
        numbers = np.zeros((*index.shape, self.times), dtype=np.int64)
        for place in reversed(range(self.times)):
            if not self.space.at_most(LARGEST):
                numbers[..., place] = index
                break
            index, numbers[..., place] = np.divmod(index, self.space.size)
        return numbers


def _transposed(x: Any) -> list[Any]:
    """A tree of tuples of equally long lists as a list of trees."""
    return list(zip(*map(_transposed, x), strict=True)) if isinstance(x, tuple) else x
