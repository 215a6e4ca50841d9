"""How many inner steps, or samples, the outer iteration s = 0, 1, 2, … takes.

A new schedule is a frozen dataclass below :class:`Length` with one method, ``__call__``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from refimpl.arrays.numbers import as_number, is_whole
from refimpl.errors import BadInput


class Length(ABC):
    """s ↦ a whole number >= 0."""

    @abstractmethod
    def __call__(self, s: int) -> int:
        """The length in the iteration that s iterations precede."""

    @property
    def constant(self) -> bool:
        """Is it the same for every s?"""
        return False


@dataclass(frozen=True)
class Fixed(Length):
    """The same in every iteration (contraction, theorem 16 (ii): ⌈c₃S⌉, S the iterations planned)."""

    count: int

    def __post_init__(self) -> None:
        if not (is_whole(self.count) and self.count >= 0):
            raise _refusal(self.count, "a whole number >= 0")

    def __call__(self, s: int) -> int:
        return int(self.count)

    @property
    def constant(self) -> bool:
        return True


@dataclass(frozen=True)
class Growing(Length):
    """⌈scale (s + 1)^exponent⌉ (theorem 16 (i): exponent 1; BSA: 1/2, its deterministic form scale 1/2, exponent 1/4).

    Exact for a whole exponent (1.0 is one): a float scale then is the binary fraction that it is, 0.1 a bit more than
    1/10, so pass a Fraction. As good as floats are for any other exponent.

    >>> [Growing(1, Fraction(1, 2))(s) for s in range(5)]
    [1, 2, 2, 2, 3]
    """

    scale: Any
    exponent: Any = 1

    def __post_init__(self) -> None:
        if not (0 < as_number(self.scale) < math.inf and 0 < as_number(self.exponent) < math.inf):
            raise _refusal((self.scale, self.exponent), "a scale and an exponent, finite numbers > 0")
        if self.exponent == int(self.exponent):
            object.__setattr__(self, "exponent", int(self.exponent))

    def __call__(self, s: int) -> int:
        scale, exponent = as_number(self.scale), self.exponent
        exact = isinstance(exponent, int)
        return math.ceil(
            Fraction(scale) * (s + 1) ** exponent if exact else scale * (s + 1) ** as_number(exponent)
        )


@dataclass(frozen=True)
class Logarithmic(Length):
    """⌈scale log(factor (s + 1))⌉, natural logarithm: 0 at s = 0 with factor 1 (theorem 17)."""

    scale: float
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < as_number(self.scale) < math.inf and 1 <= as_number(self.factor) < math.inf):
            raise _refusal((self.scale, self.factor), "a scale > 0 and a factor >= 1, finite")

    def __call__(self, s: int) -> int:
        return math.ceil(as_number(self.scale) * math.log(self.factor * (s + 1)))


def as_length(length: Any) -> Length:
    """A schedule as it is; a whole number as a fixed one. Raises ``BadInput``."""
    return length if isinstance(length, Length) else Fixed(length)


def _refusal(measured: Any, required: str) -> BadInput:
    return BadInput(
        "how many in every iteration?",
        measured=repr(measured),
        required=required,
        advice="a whole number, or a schedule of refimpl.lengths: Fixed, Growing, Logarithmic",
    )
