"""What every way of taking the expectation over the masks of hidden units shares.

Mask k of n units has the bits of k: m_j = 1 iff bit j of k is set. Tabled sums are compensated, and probabilities are
multiplied in extended precision where the platform has it: rounding errors that many masks share do not average out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import NotCertified

EPS = 2.0**-52


@dataclass(frozen=True, eq=False)
class Sums:
    """z_b(m) = offset_b + Σ_j terms_bj m_j with P(m_j = 1) = keep_j in (0, 1), and the loss that is taken of it."""

    terms: Array  # (B, n)
    offset: Array  # (B,)
    keep: np.ndarray  # (n,), floats; Fractions where the backend is exact or holds balls
    y: Array  # (B,)
    loss: str  # "squared": (z − y)²/2, or "logistic": log(1 + exp(−y z)) with y = ±1
    backend: Backend

    @property
    def n(self) -> int:
        return len(self.keep)

    @property
    def batch(self) -> int:
        return int(self.offset.shape[0])


@dataclass(frozen=True, eq=False)
class Moments:
    """loss = Σ_b E ℓ(z_b), slope_b = E ℓ'(z_b), joint_bj = E ℓ'(z_b) m_j; or bounds on the errors of these."""

    loss: Any  # a number
    slope: Array  # (B,)
    joint: Array  # (B, n)


def columns(B: Backend, x: Array, index: list[int]) -> Array:
    """x[:, index] on any backend."""
    return B.mT(B.take(B.mT(x), B.indices(np.array(index, dtype=int))))


def bits(n: int, start: int = 0, stop: int | None = None) -> np.ndarray:
    """The masks start..stop-1 of n units, (stop - start, n), entries 0.0 and 1.0."""
    k = np.arange(start, 2**n if stop is None else stop)
    return ((k[:, None] >> np.arange(n)) & 1).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Table:
    """offset_b + Σ_j terms_bj m_j of all masks m, (B, 2ⁿ), as a sum of two floats, of which ``low`` is a few units of
    the last place of ``high``."""

    high: np.ndarray
    low: np.ndarray

    def shifted(self, by: np.ndarray | float) -> Table:
        total = self.high + by
        return Table(total, _lost(self.high, by, total) + self.low)

    def __getitem__(self, b: Any) -> Table:
        return Table(self.high[b], self.low[b])

    def exp(self, sign: int = 1) -> np.ndarray:
        """e^(± sum) to about one unit in the last place: rounding the sum alone would cost |sum| of them."""
        return np.exp(sign * self.high) * (1 + sign * self.low)


def subset_sums(terms: np.ndarray, offset: np.ndarray) -> Table:
    """Two small tables by doubling, then every sum of one of each; each addition compensated."""
    first = terms.shape[1] // 2
    a, b = _doubled(terms[:, :first], 0 * offset), _doubled(terms[:, first:], offset)
    slow, fast = b.high[:, :, None], a.high[:, None, :]
    high = slow + fast
    low = _lost(slow, fast, high) + (b.low[:, :, None] + a.low[:, None, :])
    shape = (len(offset), 2 ** terms.shape[1])
    return Table(high.reshape(shape), low.reshape(shape))


def _doubled(terms: np.ndarray, offset: np.ndarray) -> Table:
    high = offset[:, None]
    low = np.zeros_like(high)
    for term in terms.T[:, :, None]:
        more = high + term
        low = np.concatenate([low, low + _lost(high, term, more)], axis=1)
        high = np.concatenate([high, more], axis=1)
    return Table(high, low)


def probabilities(keep: np.ndarray) -> np.ndarray:
    """P(m) of all masks: (2ⁿ,), by doubling."""
    table = np.ones(1, dtype=np.longdouble)
    for p in keep.astype(np.longdouble):
        table = np.concatenate([table * (1 - p), table * p])
    rounded = table.astype(np.float64)
    require_one(math.fsum(rounded.tolist()), len(keep))
    return rounded


def require_one(total: float, n: int) -> None:
    """The probabilities of n units' masks sum to 1: each is a product of n factors of relative error eps."""
    if not abs(total - 1) <= (n + 1) * EPS:
        raise NotCertified(
            "the probabilities of the masks do not sum to 1",
            measured=f"1 {total - 1:+.1e}",
            required=f"1 to within {(n + 1) * EPS:.1e}",
            advice="report this: the arithmetic of this platform is not IEEE double precision",
        )


def ordered_sum(parts: Iterable[Any]) -> Any:
    """Σ parts in their order, compensated: what each addition rounds away is added back at the end."""
    total: Any = 0  # no float: rationals take none
    lost: Any = 0
    for part in parts:
        new = total + part
        lost = lost + _lost(total, part, new)
        total = new
    return total + lost


def _lost(a: Any, b: Any, total: Any) -> Any:
    """What rounding took from total = a + b: exactly, by Knuth's two-sum."""
    virtual = total - a
    return (a - (total - virtual)) + (b - virtual)
