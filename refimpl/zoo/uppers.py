"""Lipschitz upper levels: linear, log-cosh regression, and softmax cross entropy of a linear model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.bounds import Bounds, Region
from refimpl.errors import BadInput
from refimpl.objective import Around, Objective
from refimpl.operators import Operator
from refimpl.zoo.rows import LinearModelLoss, numbers, samples, spread, zero_cross
from refimpl.zoo.softmax import SoftmaxLoss, one_hot
from refimpl.zoo.terms import Terms


@dataclass(frozen=True, eq=False)
class Scaled(Around):
    """factor · f: of a level to be maximised, factor −1."""

    factor: Any
    f: Objective
    backend: Backend = Backend()

    def batch(self, sample: Any) -> Scaled:
        return dataclasses.replace(self, f=self.f.batch(sample))

    def value(self, lam: Array, w: Array) -> Array:
        return self.factor * self.f.value(lam, w)

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return self.factor * self.f.grad_lam(lam, w)

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self.factor * self.f.grad_w(lam, w)

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        return self.factor * self.f.hess_ww(lam, w)

    def cross(self, lam: Array, w: Array) -> Operator:
        return self.factor * self.f.cross(lam, w)

    def bounds(self, region: Region) -> Bounds:
        """f's, times |factor|; the smallest eigenvalue of a negative multiple is at least −|factor| f's norm."""
        f, factor = self.f.bounds(region), float(to_numpy(self.factor))
        names = (field.name for field in dataclasses.fields(f))
        scaled = {name: abs(factor) * getattr(f, name) for name in names}
        least = factor * f.hess_ww_min if factor > 0 else factor * f.hess_ww
        return Bounds(**{**scaled, "hess_ww_min": least})


@dataclass(frozen=True, eq=False)
class Linear(Terms, Objective):
    """F(λ, w) = (1/N) Σ_k c_k·w + l_k·λ, c (N, d), l (N, n): polynomial, and every second derivative is 0."""

    c: Array
    l: Array  # noqa: E741  # the name of the coefficient in the formula
    backend: Backend = Backend()

    along: ClassVar[dict[str, int]] = {"c": -2, "l": -2}

    @property
    def n(self) -> int:
        return int(self.l.shape[-1])

    @property
    def d(self) -> int:
        return int(self.c.shape[-1])

    def value(self, lam: Array, w: Array) -> Array:
        B = self.backend
        return B.dot(B.mean(self.c, -2), w) + B.dot(B.mean(self.l, -2), lam)

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return self.backend.mean(self.l, -2) + 0 * lam

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self.backend.mean(self.c, -2) + 0 * w

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        def apply(v: Array) -> Array:
            return spread(self, 0 * v)

        def assemble() -> Array:
            return self.backend.zeros((*self.leading, self.d, self.d))

        return Operator(self.backend, (self.d, self.d), apply, apply, self.lead, assemble, symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        return zero_cross(self)

    def bounds(self, region: Region) -> Bounds:
        """‖∇_w F‖ = ‖mean c‖ everywhere; the second derivatives are 0."""
        grad_w = float(np.linalg.norm(to_numpy(self.c).mean(axis=-2)))
        return Bounds(grad_w=grad_w, hess_ww=0.0, hess_ww_min=0.0, cross=0.0, hess_ll=0.0)


@dataclass(frozen=True, eq=False)
class LogCosh(LinearModelLoss):
    """F(λ, w) = (1/N) Σ_i log cosh(x_i·w − y_i): a smooth absolute deviation, |ℓ'| < 1.

    With t = tanh u: ℓ' = t, ℓ'' = 1 − t² (largest at u = 0), ℓ''' = −2t(1 − t²), and |ℓ'''| is largest at
    t² = 1/3, where it is 4/(3√3).
    """

    third: ClassVar[float] = 4 / (3 * sqrt(3))

    def loss(self, z: Array) -> Array:
        return self.backend.logcosh(z - self.y)

    def slope(self, z: Array) -> Array:
        return self.backend.tanh(z - self.y)

    def curvature(self, z: Array) -> Array:
        u = 2 * (z - self.y)
        return 4 * self.backend.sigmoid(u) * self.backend.sigmoid(-u)  # 1 − tanh² without cancellation

    def peak(self) -> Array:
        return self.y


def linear(c: Any, *, l: Any = None, n: int = 0) -> Linear:  # noqa: E741  # as in the formula
    """F = c·w + l·λ for c (d,) or, as a mean over terms, (N, d); l (n,) or (N, n), zero by default."""
    c = np.atleast_2d(numbers(c, np.ndim(c), "c"))
    l = np.zeros((len(c), n)) if l is None else np.atleast_2d(numbers(l, np.ndim(l), "l"))  # noqa: E741
    if c.ndim != 2 or l.ndim != 2 or len(c) != len(l):
        raise BadInput(
            "the coefficients do not fit",
            measured=f"c {c.shape}, l {l.shape}",
            required="(N, d) and (N, n)",
            advice="one row for each term of the mean",
        )
    return Linear(c, l)


def log_cosh(X: Any, y: Any, *, n: int) -> LogCosh:
    """The log-cosh loss of X w against y, for λ of length n."""
    return LogCosh(*samples(X, y, "validation"), n)


def cross_entropy(X: Any, labels: Any, *, classes: int, n: int) -> SoftmaxLoss:
    """Softmax cross entropy of a linear model, labels 0 … classes − 1; w is (classes, features), flat."""
    X, labels = samples(X, labels, "validation")
    return SoftmaxLoss(X, one_hot(labels, classes), 0, n)
