"""Weights of samples that λ sets: ω_i = σ(λ_i), or λ_i itself. Every per-sample loss that has some holds them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.bounds import Region
from refimpl.errors import BadInput
from refimpl.objective import Movable
from refimpl.sets import Box

Kind = Literal["sigmoid", "identity"]


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class WeightBounds:
    """On a region, each (N,): low <= ω_i <= high, |ω_i'| <= slope, |ω_i''| <= bend, each in its own entry of λ alone.

    ``times``: how many samples at most share an entry of λ; a minibatch may hold a sample twice.
    """

    low: np.ndarray
    high: np.ndarray
    slope: np.ndarray
    bend: np.ndarray
    times: float = 1.0

    @property
    def size(self) -> np.ndarray:
        """|ω_i| <= size."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


@dataclass(frozen=True, eq=False)
class SampleWeights(Movable):
    """ω_i of λ ∈ R^N: σ(λ_i) where ``kind`` is "sigmoid", λ_i where it is "identity" (polynomial; λ_i < 0 is legal).

    ``pick`` (..., 1, N), rows of the identity, says which entries of λ the samples have after ``batch``; None: all,
    in order. Raises ``BadInput`` for another kind.
    """

    kind: Kind = "sigmoid"
    pick: Array | None = None
    backend: Backend = Backend()

    def __post_init__(self) -> None:
        if self.kind not in ("sigmoid", "identity"):
            raise BadInput(
                "no such weights",
                measured=repr(self.kind),
                required="'sigmoid' or 'identity'",
                advice="'sigmoid': σ(λ_i), any λ; 'identity': λ_i itself",
            )

    def batch(self, sample: Any, *, n: int, lead: int) -> SampleWeights:
        """Those of some of the n samples, in front of the data's ``lead`` axes."""
        if self.pick is not None:
            pick = self.backend.terms(self.pick, self.backend.indices(sample), -2)
        else:
            index = np.asarray(to_numpy(sample))
            rows = (index[..., None] == np.arange(n)).astype(np.float64)
            before, last = index.shape[:-1], index.shape[-1]
            pick = self.backend.asarray(rows.reshape(*before, *(1,) * lead, last, n))
        return dataclasses.replace(self, pick=pick)

    def own(self, lam: Array) -> Array:
        """Each sample's entry of λ, (..., N)."""
        return lam if self.pick is None else self.backend.matvec(self.pick, lam)

    def own_T(self, terms: Array) -> Array:
        """The transpose: (..., N) -> (..., n)."""
        return terms if self.pick is None else self.backend.rmatvec(self.pick, terms)

    def rows(self, matrix: Array) -> Array:
        """The transpose of ``own`` times a matrix (..., N, d): its rows where their entries of λ stand."""
        return matrix if self.pick is None else self.backend.mT(self.pick) @ matrix

    def value(self, lam: Array) -> Array:
        """ω_i, (..., N)."""
        own = self.own(lam)
        return self.backend.sigmoid(own) if self.kind == "sigmoid" else own

    def slope(self, lam: Array) -> Array:
        """dω_i/dλ_i, (..., N): σ(λ_i) σ(−λ_i), accurate at both ends, or 1."""
        B, own = self.backend, self.own(lam)
        return B.sigmoid(own) * B.sigmoid(-own) if self.kind == "sigmoid" else 1 + 0 * own

    def bounds(self, region: Region) -> WeightBounds:
        """σ increases; σ' = σ(1 − σ) <= 1/4 falls with |λ|; |σ''| <= 1/(6√3), where σ = (1 ± 1/√3)/2."""
        own = np.asarray(region.lam, dtype=float)
        times = 1.0
        if self.pick is not None:
            pick = to_numpy(self.pick)
            own, times = pick @ own, float(pick.sum(axis=0).max())
        low, high = own - region.lam_radius, own + region.lam_radius
        if self.kind == "identity":
            return WeightBounds(low, high, np.ones(own.shape), np.zeros(own.shape), times)
        nearest = 1 / (1 + np.exp(-np.maximum(np.abs(own) - region.lam_radius, 0.0)))
        bend = np.full(own.shape, 1 / (6 * 3**0.5))
        return WeightBounds(
            1 / (1 + np.exp(-low)), 1 / (1 + np.exp(-high)), nearest * (1 - nearest), bend, times
        )


SIGMOID = SampleWeights()


def initial(weights: SampleWeights, n: int) -> np.ndarray:
    """λ (n,) where every weight is 1/2."""
    return np.full(n, 0.0 if weights.kind == "sigmoid" else 0.5)


def domain(weights: SampleWeights, *, zero: bool) -> Box | None:
    """The λ whose weights are > 0, or >= 0 where ``zero``; None: all of them."""
    return None if weights.kind == "sigmoid" else Box(0.0, None, open=not zero)
