"""Numbers a + b ε with ε² = 0 over the rationals: b is an exact derivative, and no derivative formula is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


def _entrywise(operation: Callable[[Dual, Dual], Dual]) -> Callable[[Dual, Any], Any]:
    """Between two duals or a dual and a number; an array's entries are left to the array."""

    def apply(a: Dual, b: Any) -> Any:
        return NotImplemented if isinstance(b, np.ndarray) else operation(a, dual(b))

    return apply


@dataclass(frozen=True)
class Dual:
    """value + slope ε; an operation's other side may be any rational number."""

    value: Any
    slope: Any

    @_entrywise
    def __add__(self, b: Dual) -> Dual:
        return Dual(self.value + b.value, self.slope + b.slope)

    @_entrywise
    def __sub__(self, b: Dual) -> Dual:
        return Dual(self.value - b.value, self.slope - b.slope)

    @_entrywise
    def __mul__(self, b: Dual) -> Dual:
        return Dual(self.value * b.value, self.value * b.slope + self.slope * b.value)

    @_entrywise
    def __truediv__(self, b: Dual) -> Dual:
        ratio = self.value / b.value
        return Dual(ratio, (self.slope - ratio * b.slope) / b.value)

    @_entrywise
    def __rsub__(self, b: Dual) -> Dual:
        return b - self

    @_entrywise
    def __rtruediv__(self, b: Dual) -> Dual:
        return b / self

    __radd__ = __add__
    __rmul__ = __mul__


def dual(x: Any) -> Dual:
    """A number as a constant."""
    return x if isinstance(x, Dual) else Dual(x, 0 * x)


def along(lam: np.ndarray, j: int) -> np.ndarray:
    """λ + ε e_j."""
    return np.array([Dual(x, 0 * x + (i == j)) for i, x in enumerate(lam)], dtype=object)


def clipped(x: np.ndarray, low: Any, high: Any) -> np.ndarray:
    """The projection onto a box, a constant where it binds."""
    ends = [(max(min(e.value, high), low), e) for e in map(dual, x)]
    return np.array([e if nearest == e.value else dual(nearest) for nearest, e in ends], dtype=object)


def solve(matrix: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    """Gauss elimination over dual numbers; ``StopIteration`` where the values' matrix is singular."""
    rows = [[*map(dual, row), dual(b)] for row, b in zip(matrix, rhs, strict=True)]
    size = len(rows)
    for i in range(size):
        pivot = next(k for k in range(i, size) if rows[k][i].value != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for k in range(size):
            if k != i:
                factor = rows[k][i]
                rows[k] = [x - factor * y for x, y in zip(rows[k], rows[i], strict=True)]
    return np.array([row[size] for row in rows], dtype=object)
