"""Losses of a linear model over the rows of a data set, each row with its own weight ω_i(λ)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.bounds import Bounds, Region
from refimpl.objective import Around
from refimpl.operators import Operator
from refimpl.zoo.rows import LinearModelLoss
from refimpl.zoo.weights import SIGMOID, SampleWeights


@dataclass(frozen=True, eq=False)
class WeightedRows(Around):
    """f(λ, w) = (1/N) Σ_i ω_i(λ) ℓ(x_i·w, y_i), λ ∈ R^N: ℓ, X and y those of ``data``.

    Polynomial where ℓ and ω are. There is no ridge: where X has rank < d and every ω_i > 0, ∇²_ww f is 0 exactly
    along null(X), at every λ and w. A gradient or a Hessian product costs 4 N d operations.
    """

    data: LinearModelLoss
    weights: SampleWeights = SIGMOID
    backend: Backend = Backend()

    @property
    def f(self) -> LinearModelLoss:
        return self.data

    @property
    def count(self) -> int:
        """N, the number of rows."""
        return self.data.count

    def through(self) -> Array:
        return self.data.X

    def batch(self, sample: Any) -> WeightedRows:
        weights = self.weights.batch(self._terms_of(sample), n=self.n, lead=self.lead)
        return dataclasses.replace(self, data=self.data.batch(sample), weights=weights)

    def losses(self, w: Array) -> Array:
        """ℓ_i(w), (..., N)."""
        return self.data.loss(self._scores(w))

    def _scores(self, w: Array) -> Array:
        return self.backend.matvec(self.data.X, w)

    def value(self, lam: Array, w: Array) -> Array:
        return self.backend.dot(self.weights.value(lam), self.losses(w)) / self.count

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return self.weights.own_T(self.weights.slope(lam) * self.losses(w)) / self.count

    def grad_w(self, lam: Array, w: Array) -> Array:
        slopes = self.weights.value(lam) * self.data.slope(self._scores(w))
        return self.backend.rmatvec(self.data.X, slopes) / self.count

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        """Xᵀ diag(ω_i ℓ''_i) X/N."""
        B, X, d = self.backend, self.data.X, self.d
        h = self.weights.value(lam) * self.data.curvature(self._scores(w)) / self.count

        def apply(v: Array) -> Array:
            return B.rmatvec(X, h * B.matvec(X, v))

        def assemble() -> Array:
            return B.mT(X) @ (h[..., None] * X)

        return Operator(B, (d, d), apply, apply, self.lead_of(lam, w), assemble, symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        """Row i is ω'_i ℓ'_i/N x_i."""
        B, X, weights = self.backend, self.data.X, self.weights
        c = weights.slope(lam) * self.data.slope(self._scores(w)) / self.count

        def apply(v: Array) -> Array:
            return weights.own_T(c * B.matvec(X, v))

        def apply_T(u: Array) -> Array:
            return B.rmatvec(X, c * weights.own(u))

        def assemble() -> Array:
            return weights.rows(c[..., None] * X)

        return Operator(B, (self.n, self.d), apply, apply_T, self.lead_of(lam, w), assemble)

    def bounds(self, region: Region) -> Bounds:
        """On the region h_i <= ℓ''_i <= H_i with h_i >= 0, |ℓ'_i| <= m_i, ℓ_i <= M_i; a <= ω_i <= b, |ω_i| <= S_i.

        ∇²_ww lies between XᵀDX/N (Loewner) with D_i = min(a h_i, a H_i) and with D_i = max(b h_i, b H_i).
        Where t rows at most share an entry of λ, a unit step in λ moves their entries by √t: diag(S'_i m_i) X/N bounds
        ∇²_λw, times √t. ∂_λ∇²_ww along δ is <= Σ|δ_i| S'_i H_i (u·x_i)²/N <= max‖x_i‖ ‖diag(S'H) X‖/N, times √t
        (Cauchy–Schwarz), and ∂_w∇²_λw is the same form. In λ, ∇²_λλ and ∂_λ∇²_λw are diagonal but for shared entries.
        ‖∇_w f‖ <= its value at the centre and what second derivatives add, Σ S_i m_i‖x_i‖/N, and ‖X‖‖(S m)‖/N.
        """
        X, norms = self.data.host_rows()
        host, at, N, r = self.to("numpy"), self.weights.bounds(region), self.count, region.w_radius
        first, last = self.data.curvature_bounds(region)
        m, M = self.data.slope_bounds(region), self.data.loss_bounds(region)
        least = np.minimum(at.low * first, at.low * last)
        most = np.maximum(at.high * first, at.high * last)
        smallest = float(np.linalg.eigvalsh(X.T @ (least[:, None] * X))[0]) / N
        if (least >= 0).all():
            smallest = max(smallest, 0.0)
        hess_ww = max(float(np.linalg.eigvalsh(X.T @ (most[:, None] * X))[-1]) / N, -smallest)
        share = at.times**0.5
        cross = share * float(np.linalg.norm((at.slope * m)[:, None] * X, 2)) / N
        by_both = share * float(norms.max() * np.linalg.norm((at.slope * last)[:, None] * X, 2)) / N
        third = self.data.third * X.T @ ((at.size * norms)[:, None] * X) / N
        lam, w = np.asarray(region.lam, dtype=float), np.asarray(region.w, dtype=float)
        return Bounds(
            grad_w=min(
                float(np.linalg.norm(host.grad_w(lam, w))) + hess_ww * r + cross * region.lam_radius,
                float((at.size * m) @ norms) / N,
                float(np.linalg.norm(X, 2) * np.linalg.norm(at.size * m)) / N,
            ),
            hess_ww=hess_ww,
            hess_ww_min=smallest,
            cross=cross,
            hess_ll=at.times * float((at.bend * M).max()) / N,
            hess_ww_by_w=float(np.linalg.eigvalsh(third)[-1]),
            hess_ww_by_lam=by_both,
            cross_by_w=by_both,
            cross_by_lam=at.times * float((at.bend * m * norms).max()) / N,
        )
