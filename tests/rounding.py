"""Tolerances: every comparison of floats is allowed what rounding explains, stated here once."""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.arrays import to_numpy

EPS = {"float64": 2.0**-52, "float32": 2.0**-23}


def assert_rounded(
    actual: Any, expected: Any, *, terms: Any, count: int, condition: float = 1.0, dtype: str = "float64"
) -> None:
    """|actual − expected| <= 10 · count · eps · condition · terms, entry by entry, and equal shapes.

    ``terms`` is the size of what is summed (Σ|terms|, or a norm product that bounds it), ``count`` the number
    of operations on the longest chain, ``condition`` that of a solved system, by SVD and not the code tested.
    """
    actual, expected = to_numpy(actual), np.asarray(expected)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    allowed = 10 * count * EPS[dtype] * condition * np.asarray(terms, dtype=float)
    error = np.abs(actual - expected)
    assert np.all(error <= allowed), f"error {error.max():.3e}, allowed {np.max(allowed):.3e}"


def condition_number(a: Any) -> float:
    """Largest over smallest singular value, the worst over leading axes."""
    values = np.linalg.svd(np.asarray(a, dtype=float), compute_uv=False)
    return float((values[..., 0] / values[..., -1]).max())
