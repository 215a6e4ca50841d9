"""Means over terms that lie along one axis of their arrays."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Self

import numpy as np

from refimpl.arrays import to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.objective import Level
from refimpl.spaces import Indices, Space


class Terms(Level):
    """A level that is the mean of N terms. along: every array that has the terms' axis, and this axis from the end.

    What stands before that axis are the data's leading axes.
    """

    along: ClassVar[dict[str, int]]

    @property
    def count(self) -> int:
        """N, the number of terms."""
        return int(self._first[0].shape[self._first[1]])

    @property
    def leading(self) -> tuple[int, ...]:
        x, axis = self._first
        return tuple(x.shape[:axis])

    @property
    def lead(self) -> int:
        x, axis = self._first
        return int(x.ndim) + axis

    @property
    def _first(self) -> tuple[Array, int]:
        name, axis = next(iter(self.along.items()))
        return getattr(self, name), axis

    @property
    def space(self) -> Space:
        return Indices(self.count)

    def batch(self, sample: Any) -> Self:
        """The terms of the last axis of the samples, whose other axes go in front of the data's."""
        B, index = self.backend, self.backend.indices(self._terms_of(sample))
        taken: Self = unchecked(
            self, {k: B.terms(getattr(self, k), index, axis) for k, axis in self.along.items()}
        )
        return taken


class OverRows(Terms):
    """A mean over the rows of X (..., N, features), with labels y whose last axis are the rows."""

    X: Array
    along: ClassVar[dict[str, int]] = {"X": -2, "y": -1}

    def host_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """X (N, features) on the host and the norms of its rows, for constants."""
        if self.lead:
            raise BadInput(
                "constants are stated for a whole data set",
                measured=f"data with leading axes {self.leading}",
                required="no leading axes",
                advice="call bounds before at(...), or for one sample at a time with at(i)",
            )
        X = to_numpy(self.X)
        return X, np.linalg.norm(X, axis=1)


def unchecked(level: Any, parts: dict[str, Any]) -> Any:
    """A copy with these fields, taken from its own: checking every minibatch would cost more than drawing it."""
    made = object.__new__(type(level))
    for field in dataclasses.fields(level):
        object.__setattr__(made, field.name, parts.get(field.name, getattr(level, field.name)))
    return made
