"""Softmax cross entropy of a linear model, with or without weights on the samples: the one set of formulas.

ℓ_i(w) = logsumexp(z_i) − z_i[label_i] with z_i = W x_i. W is class-major: (classes, features), flattened in C
order inside w. Scores stand in columns, (..., classes, N), so that sums over classes add whole rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.bounds import Bounds, Region
from refimpl.errors import BadInput
from refimpl.objective import Objective
from refimpl.operators import Operator
from refimpl.zoo.rows import spread, zero_cross
from refimpl.zoo.terms import OverRows
from refimpl.zoo.weights import WeightBounds

THIRD = (2 / 27) ** 0.5  # sup over p and ‖u‖₂ = 1 of the third central moment of u under p: see `bounds`


@dataclass(frozen=True, eq=False)
class SoftmaxLoss(OverRows, Objective):
    """f(λ, w) = (1/N) Σ_i s_i(λ) ℓ_i(w) + (reg/2)‖w‖²; every s_i = 1 unless a subclass says otherwise.

    X (..., N, features); y (..., classes, N), one-hot columns. λ ∈ Rⁿ. A mean over samples, each with the whole
    ridge. A gradient or a Hessian product costs 4 N d operations, the dense Hessian N d².
    """

    X: Array
    y: Array
    reg: Any
    n: int
    backend: Backend = Backend()

    @cached_property
    def classes(self) -> int:
        return int(self.y.shape[-2])

    @cached_property
    def features(self) -> int:
        return int(self.X.shape[-1])

    @cached_property
    def d(self) -> int:
        return self.classes * self.features

    def through(self) -> Array | None:
        """Differences of the classes' scores, ((classes − 1) N, d), of one set without a ridge: ℓ sees no others."""
        if self.reg != 0 or self.lead:
            return None
        B, eye = self.backend, self.backend.eye(self.classes)
        apart = (eye[1:, :] - eye[:-1, :])[:, None, :, None]
        return B.reshape(apart * self.X[:, None, :], (-1, self.d))

    def pack(self, weights: Array) -> Array:
        """w (..., d) from weights (..., features, classes), with which ``X @ weights`` are the scores."""
        return self._flat(self.backend.mT(weights))

    def unpack(self, w: Array) -> Array:
        """Weights (..., features, classes) from w (..., d)."""
        return self.backend.mT(self._rows(w))

    def _rows(self, w: Array) -> Array:
        return self.backend.reshape(w, (*w.shape[:-1], self.classes, self.features))

    def _flat(self, rows: Array) -> Array:
        return self.backend.reshape(rows, (*rows.shape[:-2], self.d))

    @cached_property
    def _XT(self) -> Array:
        """Xᵀ as a copy in C order: with the data held both ways round a product takes half the time."""
        B, turned = self.backend, self.backend.mT(self.X)
        return B.reshape(B.reshape(turned, (-1,)), turned.shape)

    @cached_property
    def _over_classes(self) -> Array:
        """A row of ones, (1, classes): its product with columns sums each of them, faster than a reduction."""
        return 1 + self.backend.zeros((1, self.classes))

    def _scores(self, w: Array) -> Array:
        """z_i = W x_i in columns."""
        return self._rows(w) @ self._XT

    def _shares(self, lam: Array) -> Array:
        """s_i(λ)/N, (..., N)."""
        return self._equal_shares

    @cached_property
    def _equal_shares(self) -> Array:
        return (1 + self.backend.zeros((self.count,))) / self.count

    def losses(self, w: Array) -> Array:
        """ℓ_i(w), (..., N)."""
        B, z = self.backend, self._scores(w)
        return B.logsumexp(z, -2) - B.sum(self.y * z, -2)

    def excess(self, w: Array) -> Array:
        """∂ℓ_i/∂z_i = p_i − y_i in columns."""
        return self.backend.softmax(self._scores(w), -2) - self.y

    def value(self, lam: Array, w: Array) -> Array:
        B = self.backend
        return B.dot(self._shares(lam), self.losses(w)) + self.reg * B.dot(w, w) / 2

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return spread(self, 0 * lam)

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self._flat((self.excess(w) * self._shares(lam)[..., None, :]) @ self.X) + self.reg * w

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        """(1/N) Σ_i s_i (diag p_i − p_i p_iᵀ) ⊗ x_i x_iᵀ + reg I; p_i are computed here, once."""
        B = self.backend
        p = B.softmax(self._scores(w), -2)
        shares = self._shares(lam)[..., None, :]
        scaled = p * shares

        def apply(v: Array) -> Array:
            u = scaled * self._scores(v)
            u = u - p * (self._over_classes @ u)
            return self._flat(u @ self.X) + self.reg * v

        def assemble() -> Array:
            return self._dense_hessian(self._outer(p, shares))

        return Operator(B, (self.d, self.d), apply, apply, self.lead_of(lam, w), assemble, symmetric=True)

    def _columns(self, scores: Array) -> Array:
        """scores_i ⊗ x_i in columns, (..., d, N)."""
        columns = scores[..., :, None, :] * self._XT[..., None, :, :]
        return self.backend.reshape(columns, (*columns.shape[:-3], self.d, self.count))

    def _outer(self, p: Array, shares: Array) -> Array:
        """Σ_i s_i/N (p_i ⊗ x_i)(p_i ⊗ x_i)ᵀ, (..., d, d), from one symmetric product: every s_i >= 0."""
        g = self._columns(p * self.backend.sqrt(shares))
        return g @ self.backend.mT(g)

    def _dense_hessian(self, outer: Array) -> Array:
        """(..., d, d) from ``_outer``.

        Without the ridge ∇² is −outer off the diagonal blocks, and as Σ_l p_l = 1 each row of blocks sums to 0: a
        diagonal block is the sum of outer over the others in its row, as p_k − Σ_l p_k p_l = 0.
        """
        B, c, f = self.backend, self.classes, self.features
        outer = B.reshape(outer, (*outer.shape[:-2], c, f, c, f))
        rows = B.sum(outer, -2)
        diagonal = (rows + B.mT(rows)) / 2 + self.reg * B.eye(f)  # symmetric to the last bit
        blocks = diagonal[..., :, :, None, :] * B.eye(c)[:, None, :, None] - outer
        return B.reshape(blocks, (*blocks.shape[:-4], self.d, self.d))

    def cross(self, lam: Array, w: Array) -> Operator:
        return zero_cross(self)

    def bounds(self, region: Region) -> Bounds:
        """On the region a_i <= s_i <= b_i, |s_i| <= S_i, |s_i'| <= S'_i, |s_i''| <= S''_i, in one entry of λ each.

        vᵀ(diag p − ppᵀ)v = Var_p(v) <= (max v − min v)²/4 <= ‖v‖²/2, so 0 <= ∇²ℓ_i <= ½ I ⊗ x_i x_iᵀ (Loewner):
        the parts a_i < 0 lower the spectrum, the parts b_i > 0 raise it. ∇²ℓ_i is 0 along equal shifts of all
        classes, so without negative weights reg is the smallest eigenvalue itself.
        D³ℓ_i[V, V, V] is the third central moment of V x_i under p_i. Over laws on [0, Δ] that is at most
        max q(1−q)(1−2q) Δ³ = Δ³/(6√3), at two points, and Δ² <= 2‖V x_i‖²: THIRD ‖V x_i‖³. A symmetric form is
        largest on its diagonal (Banach 1938), and Σ_i S_i‖x_i‖‖V x_i‖² <= ‖Σ_i S_i‖x_i‖ x_i x_iᵀ‖ ‖V‖².
        ‖p_i − y_i‖ <= √2 bounds ‖∇f‖ by √2 Σ S_i‖x_i‖/N and by √2 ‖S‖‖X‖/N, besides the ridge; so do its value at
        the centre and the second derivatives. CCᵀ is the Hadamard product of the Gram matrices of p_i − y_i and
        of S'_i x_i/N, so ‖C‖ <= √2 ‖diag(S') X‖/N (Schur).
        ∂_λ∇²_ww along δ is <= ½ Σ|δ_i| S'_i (u·x_i)²/N <= ½ max‖x_i‖ ‖diag(S') X‖/N (Cauchy–Schwarz), and
        ∂_w∇²_λw is the same form. In λ, ∇²_λλ and ∂_λ∇²_λw are diagonal; ℓ_i grows by <= √2‖x_i‖ w_radius.
        Where t samples at most share an entry of λ, a unit step in λ moves their entries by <= √t: a factor √t for
        each derivative in λ.
        """
        X, length = self.host_rows()
        host, N, r = self.to("numpy"), self.count, region.w_radius
        lam, w, reg = np.asarray(region.lam, dtype=float), np.asarray(region.w, dtype=float), float(self.reg)
        at = self.weight_bounds(region)
        S, S2, share = at.size, at.bend, at.times**0.5
        smallest = reg - _largest(X, np.maximum(-at.low, 0.0)) / (2 * N)
        hess_ww = max(reg + _largest(X, np.maximum(at.high, 0.0)) / (2 * N), -smallest)
        slopes = share * float(np.linalg.norm(at.slope[:, None] * X, 2)) / N
        ridge = reg * (float(np.linalg.norm(w)) + r)
        by_both = float(length.max()) * slopes / 2
        losses = host.losses(w) + 2**0.5 * length * r
        return Bounds(
            grad_w=min(
                float(np.linalg.norm(host.grad_w(lam, w)))
                + hess_ww * r
                + 2**0.5 * slopes * region.lam_radius,
                ridge + 2**0.5 * float(S @ length) / N,
                ridge + 2**0.5 * float(np.linalg.norm(S) * np.linalg.norm(X, 2)) / N,
            ),
            hess_ww=hess_ww,
            hess_ww_min=smallest,
            cross=2**0.5 * slopes,
            hess_ll=at.times * float((S2 * losses).max()) / N,
            hess_ww_by_w=THIRD * _largest(X, S * length) / N,
            hess_ww_by_lam=by_both,
            cross_by_w=by_both,
            cross_by_lam=at.times * 2**0.5 * float((S2 * length).max()) / N,
        )

    def weight_bounds(self, region: Region) -> WeightBounds:
        """Of every sample's weight."""
        one = np.ones(self.count)
        return WeightBounds(one, one, 0 * one, 0 * one)


def _largest(X: np.ndarray, weights: np.ndarray) -> float:
    """Largest eigenvalue of Σ_i weights_i x_i x_iᵀ."""
    return float(np.linalg.norm(np.sqrt(weights)[:, None] * X, 2)) ** 2


def one_hot(labels: Any, classes: int) -> np.ndarray:
    """One-hot columns (classes, N) of integer labels 0 … classes − 1; else ``BadInput``."""
    labels = np.asarray(labels)
    hot = np.arange(classes)[:, None] == labels[None, :]
    outside = ~hot.any(axis=0)
    if outside.any():
        first = int(np.argmax(outside))
        raise BadInput(
            "labels are out of range",
            measured=f"{labels[first]:g} at index {first}; {outside.sum()} of {labels.size} are out",
            required=f"integers 0 … {classes - 1}",
            advice="number the classes from 0, e.g. numpy.unique(labels, return_inverse=True)[1]",
        )
    return hot.astype(np.float64)
