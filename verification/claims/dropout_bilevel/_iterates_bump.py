"""A quadratic with a log cosh on top, whose derivatives' Lipschitz constants under masks are known in closed form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.objective import Objective
from refimpl.operators import Operator, matrix
from refimpl.spaces import Space
from refimpl.zoo.quadratic import Quadratic
from verification.claims.dropout_bilevel._masks import Law

STEEPEST = 4 / 3**1.5  # largest |(tanh)''|


@dataclass(frozen=True)
class Bump(Objective):
    """f(λ, w) = q(λ, w) + κ log cosh(aᵀw + bᵀλ): q a finite sum, κ >= 0, a (d,), b (n,)."""

    q: Quadratic
    a: Array
    b: Array
    kappa: float
    backend: Backend = Backend()

    @property
    def n(self) -> int:
        return self.q.n

    @property
    def d(self) -> int:
        return self.q.d

    @property
    def leading(self) -> tuple[int, ...]:
        return self.q.leading

    @property
    def lead(self) -> int:
        return self.q.lead

    @property
    def space(self) -> Space:
        return self.q.space

    def batch(self, sample: Any) -> Bump:
        return dataclasses.replace(self, q=self.q.batch(sample))

    def _at(self, lam: Array, w: Array) -> Array:
        return w @ self.a + lam @ self.b

    def value(self, lam: Array, w: Array) -> Array:
        return self.q.value(lam, w) + self.kappa * np.log(np.cosh(self._at(lam, w)))

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return self.q.grad_lam(lam, w) + self.kappa * np.tanh(self._at(lam, w))[..., None] * self.b

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self.q.grad_w(lam, w) + self.kappa * np.tanh(self._at(lam, w))[..., None] * self.a

    def _bend(self, lam: Array, w: Array) -> Array:
        return (self.kappa * (1 - np.tanh(self._at(lam, w)) ** 2))[..., None, None]

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        dense = self.q.hess_ww(lam, w).dense() + self._bend(lam, w) * np.outer(self.a, self.a)
        return matrix(self.backend, dense, symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        dense = self.q.cross(lam, w).dense() + self._bend(lam, w) * np.outer(self.b, self.a)
        return matrix(self.backend, dense)


@dataclass(frozen=True)
class Moduli:
    """Of f̄ under a law of masks: bounds of ∇²_ww f̄ from below and in norm, Lipschitz constants in w and in λ of
    ∇_w f̄ and of ∇²_ww f̄.
    """

    low: float
    high: float
    gradient_by_w: float
    gradient_by_lam: float
    hessian_by_w: float
    hessian_by_lam: float

    @classmethod
    def of(cls, f: Bump, law: Law) -> Moduli:
        """(tanh)' is in [0, 1] and its own Lipschitz constant 4/3^{3/2}: for every mask ∇²_ww varies by at most that
        times κ‖m_wa‖²(‖m_wa‖‖w − w'‖ + ‖m_λb‖‖λ − λ'‖).
        """
        chances, mlam, m = (np.asarray(x, dtype=object).astype(float) for x in law.literal)
        mlam = mlam.reshape(len(chances), -1)
        H, B = f.q.mean[0], f.q.mean[1]
        flat = np.einsum("k,ki,kj->ij", chances, m, m) * H
        bent = f.kappa * np.einsum("k,ki,kj->ij", chances, m * f.a, m * f.a)
        cross = np.einsum("k,ki,kj->ij", chances, mlam, m) * B
        in_w, in_lam = np.linalg.norm(m * f.a, axis=1), np.linalg.norm(mlam * f.b, axis=1)
        low, high = np.linalg.eigvalsh(flat)[0], np.linalg.eigvalsh(flat + bent)[-1]
        return cls(
            low=float(low),
            high=float(high),
            gradient_by_w=float(max(abs(low), high)),
            gradient_by_lam=float(_norm(cross) + f.kappa * (chances @ (in_w * in_lam))),
            hessian_by_w=float(STEEPEST * f.kappa * (chances @ in_w**3)),
            hessian_by_lam=float(STEEPEST * f.kappa * (chances @ (in_w**2 * in_lam))),
        )


def _norm(A: Array) -> float:
    return float(np.linalg.norm(A, 2)) if A.size else 0.0
