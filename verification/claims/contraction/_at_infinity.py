"""Rational functions of κ with rational coefficients, ordered as they are for all large κ: an exact degree at infinity.

They are an ordered field: x > y where x(κ) > y(κ) for every κ large enough. So a formula of sums, products, quotients
and maxima, evaluated on them, is what it is for large κ, and its power of κ is ``degree``.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import total_ordering
from typing import Any

from flint import fmpq, fmpq_poly


@total_ordering
@dataclass(frozen=True, eq=False)
class AtInfinity:
    """above(κ)/below(κ), in lowest terms, below's leading coefficient 1."""

    above: fmpq_poly
    below: fmpq_poly

    @classmethod
    def of(cls, x: Any) -> AtInfinity:
        """A constant, or x itself."""
        if isinstance(x, AtInfinity):
            return x
        exact = Fraction(x)
        return cls(fmpq_poly([fmpq(exact.numerator, exact.denominator)]), fmpq_poly([1]))

    @classmethod
    def ratio(cls, above: fmpq_poly, below: fmpq_poly) -> AtInfinity:
        """Reduced; raises ``ZeroDivisionError`` where below is 0."""
        if not below:
            raise ZeroDivisionError("a quotient by the zero function")
        common = above.gcd(below)
        above, below = above // common, below // common
        lead = below[below.degree()]
        return cls(above / lead, below / lead)

    @property
    def degree(self) -> int:
        """p where x(κ)/κ^p has a limit that is not 0; raises ``ZeroDivisionError`` for 0."""
        if not self.above:
            raise ZeroDivisionError("the zero function has no degree")
        return int(self.above.degree() - self.below.degree())

    @property
    def limit(self) -> fmpq:
        """Of x(κ)/κ^degree."""
        return self.above[self.above.degree()] if self.above else fmpq(0)

    def __call__(self, kappa: fmpq) -> fmpq:
        """x(κ)."""
        return self.above(kappa) / self.below(kappa)

    def __add__(self, other: Any) -> AtInfinity:
        y = self.of(other)
        return self.ratio(self.above * y.below + y.above * self.below, self.below * y.below)

    def __mul__(self, other: Any) -> AtInfinity:
        y = self.of(other)
        return self.ratio(self.above * y.above, self.below * y.below)

    def __truediv__(self, other: Any) -> AtInfinity:
        y = self.of(other)
        return self.ratio(self.above * y.below, self.below * y.above)

    def __pow__(self, power: int) -> AtInfinity:
        return self.ratio(self.above**power, self.below**power)

    def __neg__(self) -> AtInfinity:
        return AtInfinity(-self.above, self.below)

    def __sub__(self, other: Any) -> AtInfinity:
        return self + (-self.of(other))

    def __rsub__(self, other: Any) -> AtInfinity:
        return self.of(other) - self

    def __rtruediv__(self, other: Any) -> AtInfinity:
        return self.of(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def __eq__(self, other: object) -> bool:
        return bool((self - other).limit == 0)

    def __lt__(self, other: Any) -> bool:
        return bool((self - other).limit < 0)

    __hash__ = None  # type: ignore[assignment]  # equal to numbers, whose hashes it does not have


KAPPA = AtInfinity(fmpq_poly([0, 1]), fmpq_poly([1]))
