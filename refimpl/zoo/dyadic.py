"""Matrices of chosen spectrum whose entries are floats without rounding: the same matrix over the rationals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refimpl.errors import BadInput

SIGNS = np.array([[1.0, a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)])
LAYERS = 4  # of reflections: each adds one bit to the entries
BITS = 36  # of a chosen value: with those of two orthogonal matrices, and of their sums, fewer than 53


def orthogonal(d: int, rng: np.random.Generator) -> np.ndarray:
    """UᵀU = I exactly: a product of reflections I − ½ v vᵀ, v with four entries ±1, over random blocks of four.

    Of the eight v (up to sign) each block takes one that leaves the fewest zeros: two drawn blindly may cancel.
    Entries are multiples of 1/16. Below d = 4 only signed permutations have such entries, and U is one.
    """
    U = np.eye(d)[rng.permutation(d)] * rng.choice([-1.0, 1.0], d)
    for _ in range(LAYERS):
        blocks = rng.permutation(d)[: d - d % 4].reshape(-1, 4)
        for block in blocks:
            reflected = [U[block] - np.outer(v, v @ U[block]) / 2 for v in rng.permutation(SIGNS)]
            U[block] = max(reflected, key=np.count_nonzero)
    return U


def rounded(values: Sequence[float], name: str, count: int) -> np.ndarray:
    """``count`` positive numbers, each rounded to 36 bits below the largest's leading one; else ``BadInput``."""
    found: Any = np.asarray(values, dtype=float)
    if found.shape != (count,) or not (np.isfinite(found).all() and (found > 0).all()):
        raise BadInput(
            f"{name} cannot be chosen so",
            measured=f"{np.ndim(found)} axes, {found.size} values from {found.min(initial=np.inf):.3g}",
            required=f"{count} positive numbers",
            advice="one for each dimension of the subspace",
        )
    unit = 2.0 ** (np.ceil(np.log2(found.max(initial=1.0))) - BITS)
    if found.min(initial=np.inf) < 2.0**10 * unit:
        raise BadInput(
            f"{name} spreads too far to be exact",
            measured=f"smallest {found.min():.3g}, largest {found.max():.3g}",
            required=f"a ratio of at most 2^{BITS - 10}",
            advice="matrices over the rationals would not have the same rank",
        )
    return np.asarray(np.rint(found / unit) * unit)
