"""Data hyper-cleaning by softmax regression: every training sample i has the weight σ(λ_i), learnt on clean data.

lower G(λ, w) = (1/N) Σ_i σ(λ_i) ℓ_i(w) + (reg/2)‖w‖², upper F(w) = mean of ℓ over validation samples, where
ℓ_i(w) = logsumexp(z) − z_{y_i}, z = W x_i. W is class-major, (classes, features), flattened in C order inside w.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.constants import Bounds, Region
from refimpl.datasets import corrupt_labels, load_digits
from refimpl.errors import BadInput
from refimpl.objective import Objective
from refimpl.operators import Operator, zero
from refimpl.problem import BilevelProblem
from refimpl.spaces import Indices, Space

# The largest third central moment of a variable u_k under probabilities p, over all p and ‖u‖₂ = 1: see `bounds`.
THIRD = (2 / 27) ** 0.5
SIGMOID_CURVATURE = 1 / (6 * 3**0.5)  # sup |σ''|, at σ = (1 ± 1/√3)/2


@dataclass(frozen=True)
class SoftmaxLoss(Objective):
    """(1/N) Σ_i ℓ_i(w) + (reg/2)‖w‖², a finite sum over samples; it does not depend on λ ∈ Rⁿ.

    x (..., N, features), y (..., classes, N) one-hot columns. Products cost 4 N d operations, no Hessian stored.
    """

    x: Array
    y: Array
    reg: Any
    n: int  # type: ignore[misc]  # a field here, a property elsewhere
    backend: Backend = Backend()

    @property
    def classes(self) -> int:
        return int(self.y.shape[-2])

    @property
    def features(self) -> int:
        return int(self.x.shape[-1])

    @property
    def count(self) -> int:
        """N, the number of samples."""
        return int(self.x.shape[-2])

    @property
    def d(self) -> int:  # type: ignore[override]
        return self.classes * self.features

    @property
    def lead(self) -> int:
        return int(self.x.ndim) - 2

    @property
    def space(self) -> Space:
        return Indices(self.count)

    def at(self, sample: Any) -> SoftmaxLoss:
        index = self.backend.indices(sample)
        return dataclasses.replace(self, x=self._taken(self.x, -2, index), y=self._taken(self.y, -1, index))

    def _taken(self, data: Array, axis: int, index: Array) -> Array:
        """Samples of ``data`` along ``axis``, which keeps length 1; the index's axes come first."""
        B = self.backend
        rows = B.take(B.moveaxis(data, axis, 0), index)
        return rows[..., None, :] if axis == -2 else rows[..., None]

    def pack(self, weights: Array) -> Array:
        """w (..., d) from weights (..., features, classes)."""
        flat = self.backend.mT(weights)
        return self.backend.reshape(flat, (*flat.shape[:-2], self.d))

    def unpack(self, w: Array) -> Array:
        """Weights (..., features, classes), so that ``x @ unpack(w)`` are the scores."""
        return self.backend.mT(self._matrix(w))

    def _matrix(self, w: Array) -> Array:
        return self.backend.reshape(w, (*w.shape[:-1], self.classes, self.features))

    def _flat(self, m: Array) -> Array:
        return self.backend.reshape(m, (*m.shape[:-2], self.d))

    @cached_property
    def _xt(self) -> Array:
        return self.backend.mT(self.x)

    def _scores(self, w: Array) -> Array:
        return self._matrix(w) @ self._xt  # (..., classes, N)

    def _weights(self, lam: Array) -> Array:
        """What every sample counts, (..., N) or a number."""
        return 1

    def _coefficients(self, lam: Array) -> Array:
        """The same over N, (..., 1, N) or a number: what multiplies columns of scores."""
        weights = self._weights(lam) / self.backend.scalar(self.count)
        return weights[..., None, :] if hasattr(weights, "ndim") else weights

    def losses(self, w: Array) -> Array:
        """ℓ_i(w), (..., N)."""
        B, z = self.backend, self._scores(w)
        return B.logsumexp(z, -2) - B.sum(self.y * z, -2)

    def _excess(self, w: Array) -> Array:
        """∂ℓ_i/∂z = p_i − y_i in columns, (..., classes, N)."""
        return self.backend.softmax(self._scores(w), -2) - self.y

    def value(self, lam: Array, w: Array) -> Array:
        B = self.backend
        return B.mean(self._weights(lam) * self.losses(w)) + self.reg * B.dot(w, w) / 2

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return 0 * lam

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self._flat((self._excess(w) * self._coefficients(lam)) @ self.x) + self.reg * w

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        """(1/N) Σ_i σ_i (diag p_i − p_i p_iᵀ) ⊗ x_i x_iᵀ + reg I; the probabilities are computed here, once."""
        B = self.backend
        p = B.softmax(self._scores(w), -2)
        scaled = p * self._coefficients(lam)

        def apply(v: Array) -> Array:
            u = self._scores(v)
            centred = u - B.sum(p * u, -2)[..., None, :]
            return self._flat((scaled * centred) @ self.x) + self.reg * v

        return Operator(
            B,
            (self.d, self.d),
            apply,
            apply,
            self.lead_of(lam, w),
            lambda: self._dense_hessian(p, scaled),
            symmetric=True,
        )

    def _dense_hessian(self, p: Array, scaled: Array) -> Array:
        """(..., d, d) from one symmetric product g gᵀ, g_i = √c_i p_i ⊗ x_i; cost N d² operations.

        Off the diagonal blocks ∇² is −g gᵀ. Σ_l p_l = 1, so every row of blocks sums to zero: a diagonal block
        is minus the sum of the others in its row, which loses no digits where p_k is near 1 as p_k − p_k² does.
        """
        B, c, f = self.backend, self.classes, self.features
        g = (B.sqrt(p * scaled)[..., None, :] * self._xt[..., None, :, :])
        g = B.reshape(g, (*g.shape[:-3], self.d, self.count))
        outer = g @ B.mT(g)
        return outer
