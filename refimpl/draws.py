"""What a stochastic algorithm draws of one level, once: masks where it has dropout, and a minibatch of its data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refimpl.counting import CountedMap, CountedObjective
from refimpl.errors import BadInput
from refimpl.masks import Dropout
from refimpl.objective import Level, Made, Map, Objective
from refimpl.solvers.lower import require_count
from refimpl.spaces import Indices, Minibatch, Product, Space

SURE = Indices(1)  # nothing random; its sample takes nothing from the generator


@dataclass(frozen=True, eq=False)
class Draws:
    """One draw of a level: ``space`` is masks × data, ``at`` the level under the masks on the data drawn.

    level: an objective, or the map of a fixed-point problem. batch: that many independent data, or None for all of
    them, whose mean then is exact; a level that is no finite sum, such as a bare function, is one datum, and a batch
    of it is refused (``BadInput``). Where no mask is random none is drawn: keep probabilities of 1 leave the
    generator's stream as it is without dropout.
    """

    level: Objective | Map
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.batch is None:
            return
        require_count(self.batch, "the batch size", least=1)
        if not isinstance(self._data, Indices) or _undivided(self._inner):
            raise BadInput(
                "a minibatch of what?",
                measured=f"{type(self._inner).__name__} over {type(self._data).__name__}",
                required="a level that is a finite sum over the indices of its data",
                advice="a batch of None takes all of the data; a level of your own needs space and batch(sample)",
            )

    @property
    def space(self) -> Product:
        masks = self._masks
        data = SURE if self.batch is None else Minibatch(self._data.size, self.batch)
        return Product((SURE if masks is None else masks, data))

    def at(self, point: Any) -> Any:
        """The level at a point of ``space``, whose axes are leading axes; a counted level counts what is drawn."""
        if isinstance(self.level, CountedObjective | CountedMap):
            tally, role = self.level.tally, self.level.role
            tally[f"{role}.data"] += self._data.size if self.batch is None else self.batch
            tally[f"{role}.masks"] += self._masks is not None
            return replace(self.level, inner=replace(self, level=self.level.inner).at(point))
        masks, data = point
        if not isinstance(self.level, Dropout):
            return self.level if self.batch is None else self.level.batch(data)
        if self._masks is None:
            masks = self.level.masks.points(np.zeros((), dtype=np.int64))
        return self.level.masked(masks) if self.batch is None else self.level.batch((masks, data))

    @property
    def _inner(self) -> Objective | Map:
        return self.level.inner if isinstance(self.level, CountedObjective | CountedMap) else self.level

    @property
    def _masks(self) -> Space | None:
        """The masks' space, where a mask is random."""
        inner = self._inner
        return inner.masks if isinstance(inner, Dropout) and inner.masks.size > 1 else None

    @property
    def _data(self) -> Space:
        inner = self._inner
        return inner.f.space if isinstance(inner, Dropout) else inner.space


def _undivided(level: Level) -> bool:
    """Does it not say what a minibatch is? A bare function does not; what is made of a level is as it."""
    while isinstance(level, Made):
        level = level.f
    return type(level).batch is Level.batch
