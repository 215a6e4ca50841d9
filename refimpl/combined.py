"""Objectives made of others: a f + b g, and f on an affine subspace of w."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.bounds import Bounds, Region
from refimpl.errors import BadInput
from refimpl.objective import Around, Objective
from refimpl.operators import Operator


@dataclass(frozen=True, eq=False)
class Combined(Around):
    """a f(λ, w) + b g(λ, w) for numbers a and b. Its terms are those of f, and g stays whole.

    Tikhonov's objective of a simple bilevel problem is G + εF: ``Combined(1, G, ε, F)`` (improved-bilevel, (12)).
    """

    a: Any
    f: Objective
    b: Any
    g: Objective
    backend: Backend = Backend()

    def __post_init__(self) -> None:
        here = (self.f.n, self.f.d, self.backend)
        if not (self.f.n, self.f.d, self.f.backend) == (self.g.n, self.g.d, self.g.backend) == here:
            raise BadInput(
                "the two objectives do not fit together",
                measured=f"n = {self.f.n} and {self.g.n}, d = {self.f.d} and {self.g.d}, backends "
                f"{self.f.backend.name!r} and {self.g.backend.name!r} in a sum on {self.backend.name!r}",
                required="the same n, d and backend",
                advice="build all over the same (λ, w), and move the sum with .to(...)",
            )
        for name in ("a", "b"):  # a Fraction would make arrays of objects, a NumPy number double precision
            object.__setattr__(self, name, self.backend.scalar(getattr(self, name)))

    @property
    def leading(self) -> tuple[int, ...]:
        return tuple(np.broadcast_shapes(self.f.leading, self.g.leading))

    @property
    def lead(self) -> int:
        return max(self.f.lead, self.g.lead)

    @property
    def enumerated(self) -> int:
        return max(self.f.enumerated, self.g.enumerated)

    def batch(self, sample: Any) -> Combined:
        return dataclasses.replace(self, f=self.f.batch(sample))

    def kink_distance(self, lam: Array, w: Array, lam_moves: Any = None, w_moves: Any = None) -> Any:
        moves = (lam_moves, w_moves)
        return np.minimum(self.f.kink_distance(lam, w, *moves), self.g.kink_distance(lam, w, *moves))

    def value(self, lam: Array, w: Array) -> Array:
        return self.a * self.f.value(lam, w) + self.b * self.g.value(lam, w)

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return self.a * self.f.grad_lam(lam, w) + self.b * self.g.grad_lam(lam, w)

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self.a * self.f.grad_w(lam, w) + self.b * self.g.grad_w(lam, w)

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        return self.a * self.f.hess_ww(lam, w) + self.b * self.g.hess_ww(lam, w)

    def cross(self, lam: Array, w: Array) -> Operator:
        return self.a * self.f.cross(lam, w) + self.b * self.g.cross(lam, w)

    def bounds(self, region: Region) -> Bounds:
        """|a| f's + |b| g's; the smallest eigenvalue of a multiple c h is c μ_h, or −|c| ‖∇²h‖ where c < 0."""
        parts = [(float(to_numpy(c)), h.bounds(region)) for c, h in ((self.a, self.f), (self.b, self.g))]
        names = [field.name for field in dataclasses.fields(Bounds)]
        summed = {name: sum(abs(c) * getattr(h, name) for c, h in parts) for name in names}
        least = sum(c * (h.hess_ww_min if c > 0 else h.hess_ww) for c, h in parts)
        return Bounds(**{**summed, "hess_ww_min": least})


@dataclass(frozen=True, eq=False)
class Restricted(Around):
    """f(λ, o + C x) as a function of λ and x: origin o (..., d), columns C (..., d, k); k = 0 is legal."""

    f: Objective
    origin: Array
    columns: Array
    backend: Backend = Backend()

    @property
    def d(self) -> int:
        return int(self.columns.shape[-1])

    @property
    def leading(self) -> tuple[int, ...]:
        return tuple(np.broadcast_shapes(self.f.leading, self.columns.shape[:-2], self.origin.shape[:-1]))

    @property
    def lead(self) -> int:
        return max(self.f.lead, self.columns.ndim - 2, self.origin.ndim - 1)

    def batch(self, sample: Any) -> Restricted:
        return dataclasses.replace(self, f=self.f.batch(sample))

    def point(self, x: Array) -> Array:
        """w = o + C x."""
        return self.origin + self.backend.matvec(self.columns, x)

    def kink_distance(self, lam: Array, w: Array, lam_moves: Any = None, w_moves: Any = None) -> Any:
        return self.f.kink_distance(lam, self.point(w), lam_moves)

    def value(self, lam: Array, w: Array) -> Array:
        return self.f.value(lam, self.point(w))

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return self.f.grad_lam(lam, self.point(w))

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self.backend.rmatvec(self.columns, self.f.grad_w(lam, self.point(w)))

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        B, C, inner = self.backend, self.columns, self.f.hess_ww(lam, self.point(w))

        def apply(v: Array) -> Array:
            return B.rmatvec(C, inner @ B.matvec(C, v))

        def assemble() -> Array:
            return B.mT(C) @ inner.dense() @ C

        lead = max(inner.lead, C.ndim - 2)
        return Operator(B, (self.d, self.d), apply, apply, lead, assemble, symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        B, C, inner = self.backend, self.columns, self.f.cross(lam, self.point(w))
        return Operator(
            B,
            (self.n, self.d),
            lambda v: inner @ B.matvec(C, v),
            lambda u: B.rmatvec(C, inner.T @ u),
            max(inner.lead, C.ndim - 2),
            lambda: inner.dense() @ C,
        )
