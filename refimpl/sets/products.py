"""Products of sets: consecutive blocks of a vector, and the rows of a matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.sets.base import ConvexSet, refuse_parts, require_count


@dataclass(frozen=True, eq=False)
class Blocks(ConvexSet):
    """Consecutive blocks of x, each with its set: pairs (size, set), a set of None being everything."""

    blocks: tuple[tuple[int, ConvexSet | None], ...]

    def __post_init__(self) -> None:
        for size, inner in self.blocks:
            require_count(size, "a block's size")
            if inner is not None and inner.shape not in ((), (size,)):
                refuse_parts(f"a block of size {size} with a set of shape {inner.shape}", "sizes that agree")
        if all(inner is None for _, inner in self.blocks):
            refuse_parts("no block that has a set", "at least one; a domain of None is everything")

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(size for size, _ in self.blocks),)

    def _parts(self, x: Array) -> Iterator[tuple[Array, ConvexSet | None]]:
        begin = 0
        for size, inner in self.blocks:
            yield x[..., begin : begin + size], inner
            begin += size

    def _contains(self, x: Array, backend: Backend) -> Array:
        each = [inner._contains(part, backend) for part, inner in self._parts(x) if inner is not None]
        return reduce(backend.xp.logical_and, each)

    def _project(self, x: Array, backend: Backend) -> Array:
        parts = self._parts(x)
        return backend.concat(
            [part if inner is None else inner._project(part, backend) for part, inner in parts]
        )


@dataclass(frozen=True, eq=False)
class Rows(ConvexSet):
    """x as a matrix of this many rows, flattened, every row in the set ``inner``, whose arrays may differ by row.

    A ``Box`` with bounds (rows, n), say, or a ``Ball`` with centres (rows, n).
    """

    rows: int
    inner: ConvexSet

    def __post_init__(self) -> None:
        require_count(self.rows, "rows")
        if self.inner.shape[:-1] not in ((), (self.rows,)):
            refuse_parts(
                f"{self.rows} rows and a set of shape {self.inner.shape}", f"(n,) or ({self.rows}, n)"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.rows * n for n in self.inner.shape[-1:])

    def _each(self, x: Array, backend: Backend) -> Array:
        if x.shape[-1] % self.rows:
            refuse_parts(f"vectors of length {x.shape[-1]}", f"a multiple of the {self.rows} rows")
        return backend.reshape(x, (*x.shape[:-1], self.rows, x.shape[-1] // self.rows))

    def _contains(self, x: Array, backend: Backend) -> Array:
        return backend.xp.all(self.inner._contains(self._each(x, backend), backend), axis=-1)

    def _project(self, x: Array, backend: Backend) -> Array:
        return backend.reshape(self.inner._project(self._each(x, backend), backend), x.shape)
