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
        if ufunc is np.power and isinstance(inputs[1], int):
            return _power(inputs[0], inputs[1])
        if "out" in options:  # in place: u += v
            options["out"] = tuple(_plain(x) for x in options["out"])
        plain = [_plain(x) for x in inputs]
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


def upper_norm(x: np.ndarray) -> float:
    """A float >= the 2-norm of every vector in the balls x."""
    import flint

    total = sum((e.abs_upper() ** 2 for e in x.ravel()), flint.arb(0))
    largest = total.sqrt().abs_upper()  # NaN, where a ball is indeterminate, is neither 0 nor unequal to it
    return 0.0 if largest == 0 else float(np.nextafter(float(largest), np.inf))


def radius(x: np.ndarray) -> float:
    """2-norm of the balls' radii."""
    return float(np.linalg.norm([float(e.rad()) for e in x.ravel()]))


def midpoints(x: np.ndarray) -> Balls:
    """The balls' midpoints, as balls of radius 0."""
    out = np.empty(x.size, dtype=object)
    out[:] = [e.mid() for e in x.ravel().tolist()]
    return balls(out.reshape(x.shape))


def around(x: np.ndarray, radii: list[Any]) -> Balls:
    """Balls around a vector of balls, widened by non-negative arb radii."""
    import flint

    out = np.empty(x.size, dtype=object)
    out[:] = [e + flint.arb(0, r.abs_upper()) for e, r in zip(x.tolist(), radii, strict=True)]
    return balls(out)


def _power(x: Any, k: int) -> Any:
    """x^k by products: flint's power of a ball that holds 0 goes through the logarithm and is NaN."""
    if k < 0:
        return 1 / _power(x, -k)
    out = 0 * x + 1
    for _ in range(k):
        out = out * x
    return out


def _plain(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, Balls) else x


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
