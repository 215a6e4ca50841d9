"""Conditions of theorems, missed or met: with the numbers, and with what rounding allows; limits in print.

A limit is printed on its safe side, so that the number, typed in, meets the condition.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import Any

from refimpl.arrays.numbers import as_number

# Roundings between a float limit and its formula. κ_q takes 2, κ_q² 6 with a power that is good to one unit, 2σ'₁κ_q²
# 7, 1 + it 8; γ's limit with β and s takes 10, a constant step's as many with η = rate/s. Whoever types the formula
# makes those once more, hence 20; 2 are for what is of higher order. A rounding is at most 2⁻⁵³ of its result.
ROUNDED = 22 * 2.0**-53


@dataclass(frozen=True)
class Miss:
    """A condition that a schedule misses: what it has, what the condition compares that with, their difference."""

    condition: str
    measured: Any
    limit: Any = None
    by: Any = None

    def __str__(self) -> str:
        if self.by is None:
            return f"{self.condition}: {self.measured}"
        measured, limit, by = (f"{float(x):.6g}" for x in (self.measured, self.limit, self.by))
        return f"{self.condition}: {measured} against {limit}, missed by {by}"


def beyond(condition: str, x: Any, limit: Any, by: Any) -> list[Miss]:
    """The miss where ``by`` is above 0; of floats, above ``ROUNDED`` times the limit. Exact numbers have no leeway."""
    exact = isinstance(as_number(x), Fraction) and isinstance(as_number(limit), Fraction)
    return [Miss(condition, x, limit, by)] if not by <= (0 if exact else ROUNDED * limit) else []


def at_most(x: Any) -> str:
    """x to six digits, rounded down.

    >>> at_most(2 / 3), at_least(2 / 3), above(0.5)
    ('0.666666', '0.666667', '0.500001')
    """
    return _printed(_digits().divide(*_decimals(x)))


def at_least(x: Any) -> str:
    """x to six digits, rounded up."""
    return _printed(-_digits().divide(*_decimals(-x)))


def above(x: Any) -> str:
    """The next number of six digits above x and what is ``ROUNDED`` off it."""
    return _printed(_digits().next_plus(_digits().divide(*_decimals(as_number(x) * (1 + ROUNDED)))))


def _digits() -> Context:
    """Six digits, rounded down."""
    return Context(prec=6, rounding=ROUND_FLOOR)


def _decimals(x: Any) -> tuple[Decimal, Decimal]:
    """Numerator and denominator, whatever their size."""
    x = as_number(x)
    if isinstance(x, Fraction):
        return Decimal(x.numerator), Decimal(x.denominator)
    return Decimal(float(x)), Decimal(1)


def _printed(x: Decimal) -> str:
    return f"{float(x):.6g}"
