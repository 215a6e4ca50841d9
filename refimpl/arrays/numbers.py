"""A number of any kind, exact ones too, compared with its limits."""

from __future__ import annotations

import math
from fractions import Fraction
from numbers import Integral
from typing import Any

from refimpl.arrays.backend import to_numpy
from refimpl.errors import BadInput


def as_number(x: Any) -> Any:
    """x as what compares with ints and floats: a Fraction of an exact number, a ball as it is, else a float.

    NaN for what is no number: text, truth values, complex numbers, arrays.

    >>> as_number(Fraction(1, 3)), as_number(2), as_number("2")
    (Fraction(1, 3), Fraction(2, 1), nan)
    """
    if isinstance(x, bool | str | bytes) or getattr(getattr(x, "dtype", None), "kind", "f") in "bcmMSU":
        return math.nan  # arrays of no axes too
    if hasattr(x, "numerator"):  # int, Fraction, NumPy's whole numbers, fmpz, fmpq
        return Fraction(int(x.numerator), int(x.denominator))
    if isinstance(x, float) or hasattr(x, "mid"):
        return x
    try:
        return float(to_numpy(x))
    except (TypeError, ValueError):
        return math.nan


def is_whole(x: Any) -> bool:
    """Is x a whole number of Python or NumPy? A truth value or a time difference, which pass for one, is none.

    >>> [is_whole(x) for x in (3, 3.0, True)]
    [True, False, False]
    """
    kind = getattr(getattr(x, "dtype", None), "kind", "i")
    return isinstance(x, Integral) and not isinstance(x, bool) and kind != "m"


def require_number(
    value: Any, name: str, advice: str, *, low: float = 0, high: float = math.inf, closed: bool = False
) -> None:
    """low < value < high, or low <= value where ``closed``; of a ball all points. Else ``BadInput``.

    Exact numbers are compared exactly, however small or large.
    """
    x = as_number(value)
    if not ((low <= x if closed else low < x) and x < high):
        below = "<=" if closed else "<"
        raise BadInput(
            f"{name} is out of range",
            measured=repr(value),
            required=f"a finite number {below.replace('<', '>')} {low:g}"
            if high == math.inf
            else f"{low:g} {below} {name} < {high:g}",
            advice=advice,
        )
