"""Step sizes η_k as functions of k, the number of steps made before: the first step has rate(0).

A new schedule is a frozen dataclass below :class:`Rate` with one method, ``__call__``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from refimpl.arrays.numbers import is_whole, require_number
from refimpl.errors import BadInput
from refimpl.objective import Movable


class Rate(Movable, ABC):
    """k ↦ η_k for k = 0, 1, 2, …"""

    @abstractmethod
    def __call__(self, k: int) -> Any:
        """The rate of the step that k steps precede."""

    @property
    def constant(self) -> bool:
        """Is it the same for every k?"""
        return False


@dataclass(frozen=True)
class Constant(Rate):
    """η_k = rate."""

    rate: Any

    def __post_init__(self) -> None:
        _require_positive(self.rate, "the step size")

    def __call__(self, k: int) -> Any:
        return self.rate

    @property
    def constant(self) -> bool:
        return True


@dataclass(frozen=True)
class Harmonic(Rate):
    """η_k = beta/(gamma + k) (contraction, theorem 8), exact where beta and gamma are.

    Theorem 8's conditions, β > 1/(1 − q²) among them, are ``refimpl.approximate.guarantees``' to check.

    >>> from fractions import Fraction
    >>> Harmonic(Fraction(2), Fraction(3))(1)
    Fraction(1, 2)
    """

    beta: Any
    gamma: Any

    def __post_init__(self) -> None:
        _require_positive(self.beta, "beta")
        _require_positive(self.gamma, "gamma")

    def __call__(self, k: int) -> Any:
        return self.beta / (self.gamma + k)


@dataclass(frozen=True)
class Power(Rate):
    """η_k = scale/(shift + k)^exponent, a float unless the exponent is a whole number.

    >>> Power(1.0, 0.5)(3)
    0.5
    """

    scale: Any
    exponent: Any
    shift: Any = 1

    def __post_init__(self) -> None:
        for value, name in (
            (self.scale, "the scale"),
            (self.exponent, "the exponent"),
            (self.shift, "the shift"),
        ):
            _require_positive(value, name)

    def __call__(self, k: int) -> Any:
        return self.scale / (self.shift + k) ** self.exponent


@dataclass(frozen=True)
class Drops(Rate):
    """η_k = rate / factor^(number of entries of ``at`` that are <= k): the first ``at[0]`` steps have the whole rate.

    >>> rate = Drops(0.5, at=(2, 3), factor=2)
    >>> [rate(k) for k in range(5)]
    [0.5, 0.5, 0.25, 0.125, 0.125]
    """

    rate: Any
    at: tuple[int, ...]
    factor: Any = 10

    def __post_init__(self) -> None:
        _require_positive(self.rate, "the step size")
        _require_positive(self.factor, "the factor")
        at: tuple[int, ...] = tuple(self.at) if isinstance(self.at, Iterable) else (0,)  # refused below
        if not all(is_whole(k) and k >= 1 for k in at) or list(at) != sorted(set(at)):
            raise BadInput(
                "the step size drops where?",
                measured=self.at,
                required="increasing whole numbers >= 1",
                advice="at=(150, 225) divides after 150 steps, and again after 225",
            )
        object.__setattr__(self, "at", at)

    def __call__(self, k: int) -> Any:
        return self.rate / self.factor ** sum(k >= drop for drop in self.at)


@dataclass(frozen=True)
class WarmUp(Rate):
    """η = scale width^(−1/2) min(t^(−1/2), t warm^(−3/2)) in step t = k + 1 (Vaswani et al. 2017, (3), scale 1).

    It rises linearly to (width · warm)^(−1/2) in step t = warm, then falls as t^(−1/2). width: the model's.
    """

    width: int
    warm: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        for value, name in ((self.width, "the width"), (self.warm, "the number of warm-up steps")):
            if not (is_whole(value) and value >= 1):
                raise BadInput(
                    f"{name} must be a whole number",
                    measured=value,
                    required=">= 1",
                    advice="the article's are 512 and 4000",
                )
        _require_positive(self.scale, "the scale")

    def __call__(self, k: int) -> Any:
        t = k + 1
        root = min(1 / math.sqrt(t), t / (self.warm * math.sqrt(self.warm)))
        return self.scale * (root / math.sqrt(self.width))


def as_rate(rate: Any) -> Rate:
    """A schedule as it is; a number as a constant one. Raises ``BadInput``."""
    return rate if isinstance(rate, Rate) else Constant(rate)


def _require_positive(value: Any, name: str) -> None:
    advice = "a number, or a schedule of refimpl.rates: Constant, Harmonic, Power, Drops, WarmUp"
    require_number(value, name, advice)
