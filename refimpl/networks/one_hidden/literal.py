"""The literal enumeration: one row of bits per mask, one product per chunk of masks. The judge of the other ways."""

from __future__ import annotations

import functools
import math
from concurrent.futures import Executor

import numpy as np

from refimpl.arrays.backend import Array
from refimpl.networks.one_hidden.tables import Moments, Sums, bits, ordered_sum, require_one

CHUNK = 2048  # masks per product: their bits, sums and slopes for some tens of samples stay in the cache


def moments(sums: Sums, executor: Executor | None = None) -> Moments:
    """Σ_m P(m) · (ℓ, ℓ', ℓ' m_j)(z_b(m)), where every z_b(m) is a sum over the n units.

    Any backend, without rounding over the rationals; 4 n B 2ⁿ flops. Chunks and their order are fixed:
    bitwise the same for every executor.
    """
    chunks = list((executor.map if executor else map)(functools.partial(_chunk, sums), _starts(sums.n)))
    require_one(ordered_sum(part[0] for part in chunks), sums.n)
    return Moments(*(ordered_sum(part[i] for part in chunks) for i in (1, 2, 3)))


def held(n: int, batch: int) -> int:
    """Bytes: a chunk's bits and a few numbers per mask and sample."""
    return 8 * min(CHUNK, 2**n) * (3 * n + 6 * batch)


def _starts(n: int) -> range:
    return range(0, 2**n, CHUNK)


def _chunk(sums: Sums, start: int) -> tuple[float, Array, Array, Array]:
    """Σ P, Σ P ℓ, Σ P ℓ', Σ P ℓ' m over the masks from ``start`` on."""
    B, host = sums.backend, bits(sums.n, start, min(start + CHUNK, 2**sums.n))
    # np.longdouble: the relative error of a product of n factors in plain precision is the same for all masks with
    # equally many units kept, so it would not average out
    rounded = sums.keep.dtype != object
    kept = sums.keep.astype(np.longdouble) if rounded else sums.keep
    probability = np.where(host == 1, kept, 1 - kept).prod(axis=1)
    probability = probability.astype(np.float64) if rounded else probability
    masks, p = B.asarray(host), B.asarray(probability)
    z = B.matvec(sums.terms, masks) + sums.offset  # (masks, B)
    value, slope = loss_and_slope(sums, z)
    weighted = p[:, None] * slope
    return (
        math.fsum(probability.tolist()),
        B.sum(B.sum(p[:, None] * value, axis=0), axis=0),
        B.sum(weighted, axis=0),
        B.mT(weighted) @ masks,
    )


def loss_and_slope(sums: Sums, z: Array) -> tuple[Array, Array]:
    """ℓ(z) and ℓ'(z), each to full relative accuracy in z."""
    B, y = sums.backend, sums.y
    if sums.loss == "squared":
        return (z - y) * (z - y) / 2, z - y
    return B.softplus(-y * z), -y * B.sigmoid(-y * z)
