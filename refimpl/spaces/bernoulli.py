"""Dropout masks as a finite space: independent mask variables, each of which may cover a group of coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.arrays.numbers import as_number
from refimpl.errors import BadInput
from refimpl.spaces.space import Space, generator

Scale = Literal["none", "inverse"]


@dataclass(frozen=True, init=False)
class Bernoulli(Space):
    """Mask variable g is 1 with probability keep_prob[g], else 0; coordinate i carries variable groups[i].

    A point is the row of all variables' values, (..., variables) of booleans. Those that are never or always kept
    (keep_prob 0 or 1) are not enumerated: size = 2^(number of the others). The last free variable varies fastest.
    keep_prob: a number for every variable, or one number each (a Fraction stays exact, a float is taken exactly);
    groups: the variable of every coordinate, by default one each.

    A probability is the product of its variables' own, in extended precision where the platform has it: rounding is
    then a single one, else at most 2 eps × the free variables, which masks with equally many ones share, so that it
    does not average out. (A sum of logarithms would lose |log P| eps.)

    >>> space = Bernoulli(0.5, groups=(0, 0, 1))
    >>> space.size, space.mask(space.points(np.arange(4)), Backend()).tolist()
    (4, [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    """

    keep_prob: tuple[Fraction, ...]
    groups: tuple[int, ...]

    def __init__(self, keep_prob: Any, groups: Sequence[int] | None = None) -> None:
        covers = None if groups is None else _groups(groups)
        object.__setattr__(self, "keep_prob", _keep_probs(keep_prob, covers))
        object.__setattr__(self, "groups", tuple(range(len(self.keep_prob))) if covers is None else covers)
        if self.groups and max(self.groups) >= self.variables:
            raise BadInput(
                "a coordinate belongs to a group without a keep probability",
                measured=f"group {max(self.groups)} with {self.variables} keep probabilities",
                required=f"groups 0 … {self.variables - 1}",
                advice="give one keep probability per group",
            )

    @property
    def variables(self) -> int:
        return len(self.keep_prob)

    @property
    def coordinates(self) -> int:
        return len(self.groups)

    @cached_property
    def free(self) -> tuple[int, ...]:
        """The variables that are random."""
        return tuple(g for g, p in enumerate(self.keep_prob) if 0 < p < 1)

    @property
    def size(self) -> int:
        return 1 << len(self.free)

    def _bits(self, index: np.ndarray) -> np.ndarray:
        shifts = np.arange(len(self.free) - 1, -1, -1)
        return ((index[..., None] >> shifts) & 1).astype(bool)

    def points(self, index: np.ndarray) -> np.ndarray:
        return self._rows(self._bits(index))

    def _rows(self, free: np.ndarray) -> np.ndarray:
        """Points from the free variables' values (..., free)."""
        rows = np.empty((*free.shape[:-1], self.variables), dtype=bool)
        rows[...] = self._sure
        rows[..., self._free] = free
        return rows

    @cached_property
    def _sure(self) -> np.ndarray:
        return np.array([p == 1 for p in self.keep_prob], dtype=bool)

    @cached_property
    def _free(self) -> np.ndarray:
        return np.array(self.free, dtype=np.int64)

    def probabilities(self, index: np.ndarray) -> np.ndarray:
        kept, dropped = (np.array([_extended(p) for p in row], dtype=np.longdouble) for row in self._pairs)
        return np.asarray(np.prod(np.where(self._bits(index), kept, dropped), axis=-1), dtype=np.float64)

    def exact_probabilities(self, index: np.ndarray) -> list[Fraction]:
        kept, dropped = self._pairs
        return [
            math.prod((k if b else d for b, k, d in zip(row, kept, dropped, strict=True)), start=Fraction(1))
            for row in self._bits(index).tolist()
        ]

    @cached_property
    def _kept(self) -> np.ndarray:
        return np.array([float(self.keep_prob[g]) for g in self.free])

    @cached_property
    def _pairs(self) -> tuple[list[Fraction], list[Fraction]]:
        """p and 1 − p of the free variables."""
        kept = [self.keep_prob[g] for g in self.free]
        return kept, [1 - p for p in kept]

    def sample(self, rng: np.random.Generator | int, shape: tuple[int, ...]) -> np.ndarray:
        return self._rows(generator(rng).random((*shape, self._free.size)) < self._kept)

    def ahead(self, points: Any, lead: int) -> Any:
        rows = self._checked(points)
        return rows.reshape(*rows.shape[:-1], *(1,) * lead, self.variables)

    def mask(self, points: Any, backend: Backend, scale: Scale = "none") -> Array:
        """What multiplies each coordinate, (..., coordinates): 0 or 1, or (``"inverse"``) 0 or 1/keep_prob."""
        mask = backend.asarray(self._checked(points)[..., self._covers])
        if scale == "none" or all(p == 1 for p in self.keep_prob):
            return mask
        return mask * self._inverse(backend)

    def _checked(self, points: Any) -> np.ndarray:
        rows = np.asarray(points)
        if (
            rows.ndim == 0
            or rows.shape[-1] != self.variables
            or not (rows.dtype == bool or np.all((rows == 0) | (rows == 1)))
        ):
            raise BadInput(
                "not points of a space of masks",
                measured=f"shape {rows.shape} of {rows.dtype}",
                required=f"0 or 1 in (..., {self.variables}), one value per mask variable",
                advice="draw them with sample(rng, shape), or take points(index)",
            )
        return rows

    @cached_property
    def _covers(self) -> np.ndarray:
        return np.array(self.groups, dtype=np.int64)

    def _inverse(self, backend: Backend) -> Array:
        return backend.asarray([backend.scalar(1 / p) for p in self.of_coordinates("inverse")])

    def of_coordinates(self, scale: Scale = "none") -> list[Fraction]:
        """The keep probability of every coordinate; raises ``BadInput`` where ``scale`` would divide by 0."""
        keep = [self.keep_prob[g] for g in self.groups]
        if scale == "inverse" and (never := [i for i, p in enumerate(keep) if p == 0]):
            raise BadInput(
                "a mask scaled by 1/keep_prob divides by zero",
                measured=f"keep_prob 0 at coordinate{_some(never)}",
                required="keep_prob > 0",
                advice='use scale="none", or leave these coordinates out of the model',
            )
        return keep

    def second_moments(self, scale: Scale = "none") -> list[list[Fraction]]:
        """E of the product of every two coordinates' masks, exactly: p_i p_j, or p of the group that they share."""
        keep = self.of_coordinates(scale)
        weight = [1 / p if scale == "inverse" else Fraction(1) for p in keep]
        return [
            [(p if g == h else p * q) * s * t for q, h, t in zip(keep, self.groups, weight, strict=True)]
            for p, g, s in zip(keep, self.groups, weight, strict=True)
        ]


def _extended(p: Fraction) -> np.longdouble:
    """p to more than double precision, where the platform has more."""
    return np.longdouble(float(p)) + np.longdouble(float(p - Fraction(float(p))))


def _some(where: list[int]) -> str:
    """ "s 0, 1, 2, …" or " 7": which ones, without filling the screen."""
    shown = ", ".join(map(str, where[:5])) + (f", … ({len(where)} in all)" if len(where) > 5 else "")
    return f"{'s' if len(where) > 1 else ''} {shown}"


def _groups(groups: Any) -> tuple[int, ...]:
    numbers = np.asarray(groups)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu") or (numbers < 0).any():
        raise BadInput(
            "groups must name each coordinate's mask variable",
            measured=f"shape {numbers.shape} of {numbers.dtype}",
            required="one integer >= 0 per coordinate",
            advice="number the groups from 0",
        )
    return tuple(int(g) for g in numbers)


def _keep_probs(keep_prob: Any, groups: tuple[int, ...] | None) -> tuple[Fraction, ...]:
    if hasattr(keep_prob, "ndim"):  # an array of some backend
        keep_prob = to_numpy(keep_prob).tolist()
    if not isinstance(keep_prob, Sequence):
        if groups is None:
            raise BadInput(
                "one keep probability for how many mask variables?",
                measured=keep_prob,
                required="groups, or a keep probability for each",
                advice="Bernoulli([0.8] * 5), or Bernoulli(0.8, groups=[0, 0, 1])",
            )
        keep_prob = [keep_prob] * (max(groups, default=0) + 1)
    try:
        exact = tuple(Fraction(as_number(p)) for p in keep_prob)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(
            "keep probabilities are not numbers",
            measured=keep_prob,
            required="numbers in [0, 1], one per mask variable",
            advice="look for a nested list, a string or a NaN",
        ) from None
    if outside := [g for g, p in enumerate(exact) if not 0 <= p <= 1]:
        raise BadInput(
            "a keep probability is outside [0, 1]",
            measured=f"{keep_prob[outside[0]]} of mask variable{_some(outside)}",
            required="0 <= keep_prob <= 1",
            advice="keep_prob is the probability that a unit is kept; a dropout rate q is keep_prob = 1 − q",
        )
    return exact
