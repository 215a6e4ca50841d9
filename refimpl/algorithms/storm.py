"""STORM (Cutkosky, Orabona 2019): an estimate carried along a path, corrected at both ends by one and the same draw.

    h = f(x; s) + (1 − a)(h_prev − f(x_prev; s)),   0 <= a <= 1

a = 1 forgets h_prev: the plain estimate f(x; s). The error h − E f(x; s) is (1 − a) times the one before in the mean,
and the draw adds to its covariance that of f(x; s) − (1 − a) f(x_prev; s), little where x is near x_prev and a small.
Two draws for the two ends would add a sum, never little. (algorithms, "STORM".)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.spaces import Space, covariance, expect


def storm(new: Array, old: Array, previous: Array, a: Any) -> Array:
    """new + (1 − a)(previous − old): f at the new and at the old point on the SAME sample, and the estimate before."""
    return new + (1 - a) * (previous - old)


def storm_moments(
    space: Space,
    f: Callable[[Any, Any], Array],
    new_point: Any,
    old_point: Any,
    previous: Array,
    a: Any,
    backend: Backend | None = None,
) -> tuple[Array, Array]:
    """Mean (..., d) and covariance (..., d, d) of one step from a sure ``previous``, by enumeration of the space.

    f maps a point, as ``new_point`` and ``old_point`` are, and a chunk of samples to values (samples, ..., d).
    Cost: two evaluations of f per point of the space, twice. Raises ``TooLarge``.

    >>> import numpy as np
    >>> from refimpl.spaces import Indices
    >>> def f(x, s):  # x with noise of variance x²
    ...     return x * (1 + (2.0 * s[:, None] - 1))
    >>> mean, cov = storm_moments(Indices(2), f, 3.0, 2.0, np.array([5.0]), 0.5)
    >>> mean.tolist(), cov.tolist()  # 3 + (5 − 2)/2 and (3 − 2/2)²
    ([4.5], [[4.0]])
    """
    B = backend or Backend()
    step = _Step(f, new_point, old_point, previous, B.scalar(a))
    return expect(space, step, B), covariance(space, step, B)


@dataclass(frozen=True, eq=False)
class _Step:
    """Picklable ``samples -> h``."""

    f: Callable[[Any, Any], Array]
    new_point: Any
    old_point: Any
    previous: Array
    a: Any

    def __call__(self, samples: Any) -> Array:
        new, old = self.f(self.new_point, samples), self.f(self.old_point, samples)
        return storm(new, old, self.previous, self.a)
