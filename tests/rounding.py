"""Tolerances: every comparison of floats is allowed what rounding explains, stated here once."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np

from refimpl.arrays import to_numpy

EPS = {"float64": 2.0**-52, "float32": 2.0**-23}


GRID = np.array(
    [-700.0, -40.0, -1.5, -1e-8, 0.0, 1e-8, 0.3, 1.5, 40.0, 700.0]
)  # where formulas cancel or overflow


def decimals(name: str, x: float) -> Decimal:
    """A function of the vocabulary at a float, to 60 digits and more, with the standard library alone."""
    with localcontext(prec=800):  # e^700 + e^-700 takes 600 digits
        t, one = Decimal(x), Decimal(1)
        return {
            "exp": lambda: t.exp(),
            "tanh": lambda: (t.exp() - (-t).exp()) / (t.exp() + (-t).exp()),
            "sigmoid": lambda: one / (one + (-t).exp()),
            "softplus": lambda: (one + t.exp()).ln(),
            "logcosh": lambda: ((t.exp() + (-t).exp()) / 2).ln(),
            "log": lambda: Decimal(abs(x) + 1.0).ln(),  # of the rounded sum
            "sqrt": lambda: abs(t).sqrt(),
        }[name]()


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


def exactly(x: Any) -> list[Fraction]:
    """The fractions that an array of flint's rationals holds."""
    return [Fraction(int(e.p), int(e.q)) for e in x.tolist()]


def squared_distance(computed: Any, true: Any) -> Fraction:
    """‖computed − true‖², exactly."""
    return sum(((Fraction(float(c)) - t) ** 2 for c, t in zip(computed, true, strict=True)), Fraction(0))
