"""The expectation of an objective over random masks, exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.bounds import Bounds, Region
from refimpl.errors import BadInput, TooLarge
from refimpl.masks.masked import Masked
from refimpl.objective import Around, Objective, Site
from refimpl.operators import Operator
from refimpl.spaces import CHUNK, Bernoulli, Product, expect
from refimpl.spaces.bernoulli import Scale

MAX_MASKS = 2**22  # enumerated in seconds to minutes


@dataclass(frozen=True, eq=False)
class Dropout(Around):
    """f̄(λ, w) = E f(m_λ λ, m_w w), exactly: by f's closed form where it has one, else over every mask.

    lam, w: the masks' spaces, over the coordinates of λ and of w (of the hidden units for site "activations").
    ``space`` is masks × f's own terms; ``at((masks, s))`` is what an algorithm samples, f.at(s) under those masks.
    Cost of a quantity: f's own, times 2^(number of free mask variables); ``TooLarge`` above ``max_masks``.
    """

    f: Objective
    lam: Bernoulli
    w: Bernoulli
    scale: Scale = "none"
    site: Site = "weights"
    max_masks: int = MAX_MASKS
    backend: Backend = Backend()

    @property
    def masks(self) -> Product:
        """The pairs (m_λ, m_w)."""
        return Product((self.lam, self.w))

    @property
    def space(self) -> Product:
        return Product((self.masks, self.f.space))

    def at(self, sample: Any) -> Objective:
        masks, s = sample
        return self._under(self.f.at(s), masks)

    def batch(self, sample: Any) -> Objective:
        """One pair of masks for each minibatch: masks (*points), the batch (*points, b)."""
        masks, s = sample
        return self._under(self.f.batch(s), masks)

    def masked(self, masks: Any) -> Objective:
        """f, with all of its own terms, under these pairs of masks (points of ``masks``)."""
        return self._under(self.f, masks)

    def masked_each(self, masks: Any) -> Objective:
        """f with a pair of masks of its own for every sample: points (..., N) of ``masks``; hidden units only."""
        dropped = sum(p < 1 for p in self.lam.keep_prob)
        if self.site != "activations" or dropped:
            raise BadInput(
                "masks of their own for every sample are ones of hidden units",
                measured=f"site {self.site!r}, {dropped} mask variables of λ",
                required='site "activations", λ not masked',
                advice="take the terms one by one, at((masks, s)), and average them",
            )
        return self.f.drop_each(self.w.mask(masks[1], self.backend, self.scale))

    def _under(self, f: Objective, masks: Any) -> Objective:
        """Masks that are not random stand without the points' axes, so that what they leave alone is computed once."""
        spaces = (self.lam, self.w)
        points = [
            s.ahead(m, self.f.lead) if s.free else s.points(_FIRST)
            for s, m in zip(spaces, masks, strict=True)
        ]
        lam, w = (s.mask(m, self.backend, self.scale) for s, m in zip(spaces, points, strict=True))
        if self.site == "activations":
            return Masked(f.drop_units(w), lam, 1 + self.backend.zeros((self.d,)), self.backend)
        return Masked(f, lam, w, self.backend)

    @cached_property
    def closed(self) -> Objective | None:
        """The expectation as an objective of its own, where no mask needs to be enumerated."""
        if all(p == 1 for p in (*self.lam.keep_prob, *self.w.keep_prob)):
            return self.f
        if self.masks.size == 1:
            return self.masked(self.masks.points(_FIRST))
        if self.site == "weights":
            return self.f.dropout_mean(self.lam, self.w, self.scale)
        return self.f.units_mean(self.w, self.scale) if all(p == 1 for p in self.lam.keep_prob) else None

    @property
    def enumerated(self) -> int:
        return self.masks.size * self.f.enumerated if self.closed is None else self.closed.enumerated

    def mean(
        self,
        quantity: Callable[[Objective], Array],
        own: int,
        lead: int,
        *,
        executor: Executor | None = None,
    ) -> Array:
        """E of a quantity of the masked f by enumeration, whatever closed form there is.

        The quantity has ``own`` axes of its own behind ``lead`` leading ones (points and data together). An executor
        shares the masks among its workers, bitwise the same for any number of them.
        """
        term = _Term(self, quantity, own, max(lead, self.f.lead))
        return expect(self.masks, term, self.backend, executor=executor, max_points=self.max_masks)

    def value(self, lam: Array, w: Array) -> Array:
        if self.closed is not None:
            return self.closed.value(lam, w)
        return self.mean(lambda f: f.value(lam, w), 0, self.lead_of(lam, w))

    def grad_lam(self, lam: Array, w: Array) -> Array:
        if self.closed is not None:
            return self.closed.grad_lam(lam, w)
        return self.mean(lambda f: f.grad_lam(lam, w), 1, self.lead_of(lam, w))

    def grad_w(self, lam: Array, w: Array) -> Array:
        if self.closed is not None:
            return self.closed.grad_w(lam, w)
        return self.mean(lambda f: f.grad_w(lam, w), 1, self.lead_of(lam, w))

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        if self.closed is not None:
            return self.closed.hess_ww(lam, w)
        return self._expected(
            lambda f: f.hess_ww(lam, w), (self.d, self.d), self.lead_of(lam, w), symmetric=True
        )

    def cross(self, lam: Array, w: Array) -> Operator:
        if self.closed is not None:
            return self.closed.cross(lam, w)
        return self._expected(lambda f: f.cross(lam, w), (self.n, self.d), self.lead_of(lam, w))

    def kink_distance(self, lam: Array, w: Array, lam_moves: Any = None, w_moves: Any = None) -> Any:
        """The smallest over the masks: E f has a kink wherever one of its terms has."""
        if self.closed is not None:
            return self.closed.kink_distance(lam, w, lam_moves, w_moves)
        if np.all(np.isinf(self.f.kink_distance(lam, w, lam_moves, w_moves))):
            return math.inf  # no kinks, whatever the masks
        if self.masks.size > self.max_masks:
            raise TooLarge(
                "too many masks to ask each for its kinks",
                measured=f"2^{math.log2(self.masks.size):.0f} masks",
                required=f"<= max_masks = {self.max_masks}",
                advice="sample the masks, or raise max_masks of with_dropout",
            )
        lead, nearest = self.lead_of(lam, w), math.inf
        for start in range(0, self.masks.size, CHUNK):
            masks = self.masks.points(np.arange(start, min(start + CHUNK, self.masks.size)))
            under = self.masked(self.masks.ahead(masks, lead - self.f.lead))
            found = under.kink_distance(lam, w, lam_moves, w_moves)
            if np.ndim(found) == 0:  # smooth under every mask, or one number for all of them
                return found
            nearest = np.minimum(nearest, np.min(found, axis=0))
        return nearest

    def _expected(
        self, of: Callable[[Objective], Operator], shape: tuple[int, int], lead: int, symmetric: bool = False
    ) -> Operator:
        """E of an operator: each of its products visits every mask."""

        def apply(v: Array) -> Array:
            return self.mean(lambda f: of(f) @ v, 1, max(lead, v.ndim - 1))

        def apply_T(u: Array) -> Array:
            return self.mean(lambda f: of(f).T @ u, 1, max(lead, u.ndim - 1))

        def assemble() -> Array:
            return self.mean(lambda f: of(f).dense(), 2, lead)

        return Operator(self.backend, shape, apply, apply_T, lead, assemble, symmetric)

    def bounds(self, region: Region) -> Bounds:
        """f's bounds on a ball that holds every masked point, times what the masks do to each derivative.

        With a mask's values 0 and s_i: m∘w − s∘w/2 has length ‖s∘w‖/2 for every mask, so that m∘(ball) lies in the
        ball of centre s∘w/2 and radius ‖s∘w‖/2 + max s · radius. With c = max_i p_i s_i²: E‖m∘v‖² = Σ p_i s_i² v_i² <=
        c‖v‖² for a fixed v, hence uᵀE[m∘∇f] = E⟨m∘u, ∇f⟩ <= √c‖u‖ sup‖∇f‖ (not so E‖m∘∇f‖: ∇f depends on m),
        vᵀE[M∇²f M]v <= c L‖v‖², and >= μ min_i p_i s_i² (where μ < 0: μ c);
        uᵀE[M_λ C M_w]v <= ‖C‖√(c_λ c_w) (Cauchy–Schwarz). A difference in w (λ) under a mask is at most max s times
        that of w (λ).
        """
        if self.site == "activations":
            return self.f.bounds(region)  # refuses: networks state no constants
        lam, w = (_Reach.of(space, self.scale) for space in (self.lam, self.w))
        inner = self.f.bounds(
            Region(
                lam.s * region.lam / 2,
                w.s * region.w / 2,
                float(np.linalg.norm(lam.s * region.lam)) / 2 + lam.most * region.lam_radius,
                float(np.linalg.norm(w.s * region.w)) / 2 + w.most * region.w_radius,
            )
        )
        both = (lam.c * w.c) ** 0.5
        return Bounds(
            grad_w=w.c**0.5 * inner.grad_w,
            hess_ww=w.c * inner.hess_ww,
            hess_ww_min=(w.least if inner.hess_ww_min > 0 else w.c) * inner.hess_ww_min,
            cross=both * inner.cross,
            hess_ll=lam.c * inner.hess_ll,
            hess_ww_by_w=w.c * w.most * inner.hess_ww_by_w,
            hess_ww_by_lam=w.c * lam.most * inner.hess_ww_by_lam,
            cross_by_w=both * w.most * inner.cross_by_w,
            cross_by_lam=both * lam.most * inner.cross_by_lam,
        )


_FIRST = np.array(0)  # the number of a space's only point


@dataclass(frozen=True, eq=False)
class _Term:
    """masks -> the quantity of f under them, with the masks' axis in front also where no mask enters it."""

    dropout: Dropout
    quantity: Callable[[Objective], Array]
    own: int
    lead: int

    def __call__(self, masks: Any) -> Array:
        ahead = self.dropout.masks.ahead(masks, self.lead - self.dropout.f.lead)
        B, count = self.dropout.backend, len(masks[0])
        values = self.quantity(self.dropout.masked(ahead))
        if not hasattr(values, "ndim"):  # a bare rational or ball
            values = B.reshape(B.asarray([values]), ())
        missing = 1 + self.lead + self.own - values.ndim
        if missing:
            return B.broadcast(values, (count, *(1,) * (missing - 1), *values.shape))
        return values if values.shape[0] == count else B.broadcast(values, (count, *values.shape[1:]))


@dataclass(frozen=True, eq=False)
class _Reach:
    """Of masks with values 0 and s_i: s (coordinates), its largest entry, and the ends of p_i s_i²."""

    s: np.ndarray
    most: float
    least: float
    c: float

    @classmethod
    def of(cls, space: Bernoulli, scale: Scale) -> _Reach:
        keep = space.of_coordinates(scale)
        s = [1 / p if scale == "inverse" else int(p > 0) for p in keep]
        square = [float(p * t * t) for p, t in zip(keep, s, strict=True)]
        of_each = np.array([float(t) for t in s])
        return cls(of_each, max(of_each, default=1.0), min(square, default=1.0), max(square, default=1.0))
