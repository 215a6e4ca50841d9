"""Object arrays of ``flint.arb`` that refuse to be compared.

A comparison of balls that overlap is False either way round, so a formula that branches on one would be
evaluated on a branch that the exact number need not take, and its result would enclose nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.errors import BadInput

COMPARING = (
    "greater greater_equal less less_equal equal not_equal maximum minimum fmax fmin clip absolute fabs sign "
    "heaviside floor ceil trunc rint logical_and logical_or logical_not where sort argsort argmax argmin "
    "partition argpartition lexsort searchsorted unique median percentile nonzero isclose allclose"
)
UNDECIDED = frozenset(COMPARING.split())


class Balls(np.ndarray):
    """What the interval backend computes with; ``decided()`` where only a certain answer is taken for yes."""

    def decided(self) -> np.ndarray:
        """The same balls, to be compared: True only where it holds for every number in them."""
        return self.view(np.ndarray)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        _refuse(ufunc.__name__)
        plain = [x.view(np.ndarray) if isinstance(x, Balls) else x for x in inputs]
        return _wrapped(getattr(ufunc, method)(*plain, **options))

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> Any:
        _refuse(function.__name__)
        return _wrapped(super().__array_function__(function, types, inputs, options))

    def argsort(self, *args: Any, **options: Any) -> Any:
        """Refused; so are the other methods that NumPy runs without its ufuncs."""
        return _refuse("argsort")

    sort = argmax = argmin = nonzero = argsort


def balls(x: np.ndarray) -> Balls:
    """A view of an object array of arb."""
    return x.view(Balls)


def _wrapped(x: Any) -> Any:
    return x.view(Balls) if isinstance(x, np.ndarray) and x.dtype == object else x


def _refuse(name: str) -> None:
    if name in UNDECIDED:
        raise BadInput(
            "balls cannot be compared",
            measured=f"numpy.{name} in a formula over the interval backend",
            required="formulas without comparisons, absolute values or branches",
            advice="such a problem has no certificate; its first-order estimate stands",
        )
