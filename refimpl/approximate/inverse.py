"""z ≈ (∇²_wwG)⁻¹ r from drawn Hessians H_i: two unbiased estimators of a truncated Neumann series, and their moments.

    product   z = (K/L) (I − H_τ/L) … (I − H_1/L) r,  τ uniform on {0, …, K − 1}
    sum       z = η Σ_{i=0}^{Q} r_i,  r_0 = r,  r_{i+1} = r_i − η H_{i+1} r_i

Draws are independent, so that E z = (1/L) Σ_{i<K} (I − H/L)^i r, and η Σ_{i<=Q} (I − ηH)^i r for the sum: with η = 1/L
and Q = K − 1 the same. The length τ makes the product's variance grow with K,
noise or none; the sum's is 0 without noise. (algorithms, "Hessian-inverse primitives": PROD_K and SUM_{η,Q}.)
"""

from __future__ import annotations

import itertools as it
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from refimpl.approximate.spread import HessianSpread
from refimpl.arrays.backend import Array
from refimpl.draws import SURE, Draws
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.objective import Objective
from refimpl.operators import Operator
from refimpl.solvers.lower import require_count, require_positive
from refimpl.spaces import Indices, Product

Estimator = Callable[[Array, Array, Array], Array]  # λ, w, r -> z


class HessianInverse(ABC):
    """An estimator of (∇²_wwG)⁻¹ r that is linear in r; all that is random is a finite space of Hessian draws.

    ``draws`` says what one draw of G is: masks × a minibatch. Its level is counted where it counts.
    """

    @property
    @abstractmethod
    def products(self) -> int:
        """Hessians drawn and multiplied with in one call."""

    @property
    def mean_used(self) -> Fraction:
        """How many of them enter z, in the mean: what a sequential run, which knows τ, would have to draw."""
        return Fraction(self.products)

    @abstractmethod
    def space(self, draws: Draws) -> Product:
        """Everything random in one z."""

    @abstractmethod
    def drawn(self, draws: Draws, sample: Any) -> Estimator:
        """(λ, w, r) -> z on these draws, which are counted here, once, at however many points z is then taken.

        The sample's axes are leading axes of z, broadcast against those of λ, w and r.
        """

    def apply(self, draws: Draws, sample: Any, lam: Array, w: Array, r: Array) -> Array:
        """z (..., d): a function, everything random is in the sample."""
        return self.drawn(draws, sample)(lam, w, r)

    @abstractmethod
    def mean(self, level: Objective, lam: Array, w: Array, r: Array) -> Array:
        """E z, (..., d), exactly: the truncated Neumann series with the level's own Hessian. ``products`` products."""

    @abstractmethod
    def spread(self, draws: Draws, lam: Array, w: Array, R: Array) -> Array:
        """E[(Z − EZ) R (Z − EZ)ᵀ], (..., d, d), for z = Z r and R (..., d, d): linear in R, see ``covariance``."""

    def covariance(self, draws: Draws, lam: Array, w: Array, r: Array) -> Array:
        """The covariance of z at one λ (n,), w (d,), for r (..., d), exactly: (..., d, d).

        A recursion over the number of draws. Cost: the points of one draw of one datum times d² numbers of memory,
        times 4 d³ operations for each product. Raises ``TooLarge``, and ``BadInput`` for several λ or w.
        """
        return self.spread(draws, lam, w, r[..., :, None] * r[..., None, :])

    @abstractmethod
    def bias_bound(self, mu: Any, norm: Any) -> Any:
        """What ‖E z − (∇²_wwG)⁻¹ r‖ is at most where ∇²_wwG >= mu I, ‖r‖ <= norm; attained where ∇²_wwG r = mu r."""


@dataclass(frozen=True)
class ProductNeumann(HessianInverse):
    """PROD_K, K = ``terms``, for ∇²_wwG <= L I (Ghadimi, Wang 2018).

    K − 1 Hessians are drawn, of which τ enter: each replicate has its own τ. Refuses (``BadInput``) no terms, and an L
    that is no positive number.

    >>> import refimpl as ri
    >>> level, r = ri.zoo.quadratic.objective(ww=[[2.0]], n=1), np.array([1.0])
    >>> two, at = ProductNeumann(2, 4.0), np.zeros(1)
    >>> two.mean(level, at, at, r).tolist(), two.covariance(Draws(level), at, at, r).tolist()
    ([0.375], [[0.015625]])
    """

    terms: int
    L: Any

    def __post_init__(self) -> None:
        require_count(self.terms, "terms", least=1)
        require_positive(
            self.L,
            "L",
            "take a bound L of the Hessians drawn: with one below half their norm the mean diverges",
        )

    @property
    def products(self) -> int:
        return self.terms - 1

    @property
    def mean_used(self) -> Fraction:
        return Fraction(self.products, 2)

    def space(self, draws: Draws) -> Product:
        """(τ, one draw for each factor)."""
        return Product((Indices(self.terms), *(draws.space,) * self.products))

    def drawn(self, draws: Draws, sample: Any) -> Estimator:
        B, (tau, *points) = draws.level.backend, sample
        levels = [draws.at(point) for point in points]
        # factor i + 1 is there where i < τ; replicates have their own τ, and a factor of 0 leaves the others alone
        there = [B.asarray((i < np.asarray(tau)[..., None]).astype(np.float64)) for i in range(self.products)]
        step = 1 / B.scalar(self.L)

        def z(lam: Array, w: Array, r: Array) -> Array:
            for level, on in zip(levels, there, strict=True):
                r = r - on * step * (level.hess_ww(lam, w) @ r)
            return self.terms * step * r

        return z

    def mean(self, level: Objective, lam: Array, w: Array, r: Array) -> Array:
        step = 1 / level.backend.scalar(self.L)
        return _series(it.repeat(level.hess_ww(lam, w), self.products), r, step)

    def spread(self, draws: Draws, lam: Array, w: Array, R: Array) -> Array:
        """(K/L)² (mean over τ of the spread given τ + spread of the means given τ)."""
        B, H = draws.level.backend, HessianSpread(draws, lam, w)
        step = 1 / B.scalar(self.L)
        factor = B.eye(H.mean.shape[-1]) - step * H.mean
        power, powers = B.eye(H.mean.shape[-1]), []  # E P of the product P of τ factors, for every τ
        given, total = 0 * R, 0 * R  # E[(P − EP) R (P − EP)ᵀ], and its sum over τ
        for tau in range(self.terms):
            if tau:
                noise = step**2 * H(given + power @ R @ B.mT(power), draws.batch)
                given = factor @ given @ B.mT(factor) + noise
                power = factor @ power
            total = total + given
            powers.append(power)
        middle = sum(powers[1:], powers[0]) * (1 / B.scalar(self.terms))
        for power in powers:
            total = total + (power - middle) @ R @ B.mT(power - middle)
        return self.terms * step**2 * total

    def bias_bound(self, mu: Any, norm: Any) -> Any:
        """(1 − mu/L)^K norm/mu, for 0 < mu <= L, exact for fractions. Raises ``HypothesisViolated``."""
        return _tail(1 / _exact(self.L), self.terms, mu, norm)


@dataclass(frozen=True)
class SumNeumann(HessianInverse):
    """SUM_{η,Q} (Ji, Yang, Liang 2021): Q = ``terms`` Hessians are drawn, Q + 1 terms added, each times η = ``step``.

    batches: the size of each Hessian's minibatch, in the order in which they are applied (stocBiO's decrease as
    (1 − ημ)^i), instead of that of ``draws``. Refuses (``BadInput``) a step that is no positive number, a negative
    number of terms, and batches that are not one whole number >= 1 for each product.

    >>> import refimpl as ri
    >>> level, r = ri.zoo.quadratic.objective(ww=[[2.0]], n=1), np.array([1.0])
    >>> SumNeumann(0.25, 1).mean(level, np.zeros(1), np.zeros(1), r).tolist()
    [0.375]
    """

    step: Any
    terms: int
    batches: Sequence[int] | None = None

    def __post_init__(self) -> None:
        require_count(self.terms, "terms")
        require_positive(self.step, "step", "take a step η <= 1/L: with one above 2/L the mean diverges")
        if self.batches is None:
            return
        if not isinstance(self.batches, Sequence) or len(self.batches) != self.terms:
            raise BadInput(
                "the minibatches of which products?",
                measured=repr(self.batches),
                required=f"{self.terms} sizes, one for each product with a Hessian",
                advice="batches[i] is that of the product which i products precede; None: all as the draws say",
            )
        for size in self.batches:
            require_count(size, "a size of batches", least=1)
        object.__setattr__(self, "batches", tuple(self.batches))

    @property
    def products(self) -> int:
        return self.terms

    def each(self, draws: Draws) -> tuple[Draws, ...]:
        """How each Hessian is drawn, in the order of the products."""
        if self.batches is None:
            return (draws,) * self.terms
        return tuple(replace(draws, batch=size) for size in self.batches)

    def space(self, draws: Draws) -> Product:
        """One draw for each product; one point where there is none."""
        return Product(tuple(one.space for one in self.each(draws)) or (SURE,))

    def drawn(self, draws: Draws, sample: Any) -> Estimator:
        levels = [one.at(point) for one, point in zip(self.each(draws), sample, strict=self.terms > 0)]
        step = draws.level.backend.scalar(self.step)
        return lambda lam, w, r: _series((level.hess_ww(lam, w) for level in levels), r, step)

    def mean(self, level: Objective, lam: Array, w: Array, r: Array) -> Array:
        return _series(it.repeat(level.hess_ww(lam, w), self.terms), r, level.backend.scalar(self.step))

    def spread(self, draws: Draws, lam: Array, w: Array, R: Array) -> Array:
        """H_i adds −η(H_i − H) r_{i−1} to r_i, all uncorrelated, and Σ_{j<=Q−i} (I − ηH)^j of that to z/η."""
        B, H = draws.level.backend, HessianSpread(draws, lam, w)
        step, eye = B.scalar(self.step), B.eye(H.mean.shape[-1])
        factor = eye - step * H.mean
        later = [eye]  # Σ_{j<=m} (I − ηH)^j
        for _ in range(self.terms - 1):
            later.append(eye + factor @ later[-1])
        S, total = R, 0 * R  # S = E r_i r_iᵀ
        for one, onwards in zip(self.each(draws), reversed(later[: self.terms]), strict=True):
            noise = step**2 * H(S, one.batch)
            S = factor @ S @ B.mT(factor) + noise
            total = total + onwards @ noise @ B.mT(onwards)
        return step**2 * total

    def bias_bound(self, mu: Any, norm: Any) -> Any:
        """(1 − η mu)^(Q+1) norm/mu, for 0 < mu <= 1/η and ∇²_wwG <= I/η. Raises ``HypothesisViolated``."""
        return _tail(_exact(self.step), self.terms + 1, mu, norm)


def _series(hessians: Iterable[Operator], r: Array, step: Any) -> Array:
    """step Σ_i r_i, r_{i+1} = r_i − step H r_i: the step on every term."""
    total = r
    for hessian in hessians:
        r = r - step * (hessian @ r)
        total = total + r
    return step * total


def _tail(step: Any, terms: int, mu: Any, norm: Any) -> Any:
    """(1 − step mu)^terms norm/mu: a truncated Neumann series' rest, largest at the smallest eigenvalue mu."""
    if not (mu > 0 and step * mu <= 1):
        raise HypothesisViolated(
            "no bias bound for this modulus of strong convexity",
            measured=f"mu = {mu}, 1/step = {1 / step}",
            required="0 < mu <= 1/step: L for the product, 1/η for the sum",
            advice="mu is the smallest eigenvalue of ∇²_wwG and L its largest, or more",
        )
    return (1 - step * mu) ** terms * norm / _exact(mu)


def _exact(x: Any) -> Any:
    """A whole number as a fraction, anything else as it is."""
    return Fraction(x) if isinstance(x, int) else x
