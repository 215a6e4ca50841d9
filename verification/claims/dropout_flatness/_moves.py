"""A network's point before and after a symmetry T of its parameters: rescaled or permuted hidden units."""

from __future__ import annotations

import itertools as it
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from refimpl.networks.symmetries import permute, rescale
from verification.claims.dropout_flatness._noise import Noise, build
from verification.claims.dropout_flatness._planted import RATIONAL
from verification.model import Hypothesis


@dataclass(frozen=True, eq=False)
class Move:
    """``before`` at θ and ``after`` at Tθ, over the rationals; ``factors`` of the units of a hidden layer, or None."""

    before: Noise
    after: Noise
    factors: tuple[Fraction, ...] | None
    T: Array

    @cached_property
    def inverse(self) -> Array:
        """T⁻¹."""
        return np.swapaxes(factor(RATIONAL, self.T).solve(RATIONAL.eye(len(self.T))), 0, 1)

    @cached_property
    def pairs(self) -> tuple[Matrices, Matrices, Matrices]:
        """H and Σ at θ, at Tθ, and T⁻ᵀHT⁻¹, T⁻ᵀΣT⁻¹."""
        at, moved = (Matrices(x.at.hessian, x.exact("one sample")) for x in (self.before, self.after))
        back = self.inverse
        return at, moved, Matrices(back.T @ at.H @ back, back.T @ at.noise @ back)


@dataclass(frozen=True, eq=False)
class Matrices:
    """H and Σ."""

    H: Array
    noise: Array


def move(params: Mapping[str, Any]) -> Move:
    """A point of ``build``; units of hidden layer ``layer`` times ``factors`` (halves), or in ``reverse`` order."""
    before = build(params)
    net, layer = before.at.net, params.get("layer", 0) % len(before.at.net.hidden)
    units = net.hidden[layer]
    factors = tuple(Fraction(k, 2) for k in it.islice(it.cycle(params.get("factors", [2])), units))
    order = list(range(units))[::-1]

    def moved(theta: Array) -> Array:
        if params.get("reverse"):
            return permute(net, theta, layer, order)
        return rescale(net, theta, layer, [RATIONAL.scalar(c) for c in factors])

    keep = before.at.keep
    if params.get("reverse") and layer == len(net.hidden) - 1:
        keep = tuple(keep[k] for k in order)
    after = Noise(replace(before.at, theta=moved(before.at.theta), keep=keep))
    T = np.swapaxes(
        moved(RATIONAL.eye(net.size)), 0, 1
    )  # T is linear: its columns are what it makes of unit vectors
    return Move(before, after, None if params.get("reverse") else factors, T)


PERMUTED = Hypothesis(
    "units permuted",
    r"T \text{ permutes hidden units}",
    lambda case: (case.factors is None, [str(c) for c in case.factors or ()]),
)
NOISY = Hypothesis(
    "noise",
    r"\Sigma \ne 0",
    lambda case: (case.pairs[0].noise.trace() > 0, float(case.pairs[0].noise.trace())),
)
