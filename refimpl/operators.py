"""Linear operators that carry leading axes: ``A @ v``, ``A.T @ u``, ``A.dense()``.

``A @ v`` maps (..., n) to (..., m); the operator's own leading axes broadcast against the vector's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array

Apply = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Operator:
    """An m x n matrix given by its products.

    ``lead`` counts the leading axes that the operator itself carries: a basis, or any other family of
    vectors, goes in front of them. ``assemble`` returns the dense matrix (*lead, m, n) where structure
    gives it faster than products with a basis.
    """

    __array_ufunc__ = None  # numpy arrays defer to __rmul__ instead of looping over this object

    backend: Backend
    shape: tuple[int, int]
    apply: Apply
    apply_T: Apply
    lead: int = 0
    assemble: Callable[[], Array] | None = None
    symmetric: bool = False

    def __matmul__(self, v: Array) -> Array:
        return self.apply(v)

    @property
    def T(self) -> Operator:
        if self.symmetric:
            return self
        dense = None if self.assemble is None else lambda: self.backend.mT(self.dense())
        return replace(self, shape=self.shape[::-1], apply=self.apply_T, apply_T=self.apply, assemble=dense)

    @cached_property
    def _dense(self) -> Array:
        if self.assemble is not None:
            return self.assemble()
        m, n = self.shape
        if m < n and not self.symmetric:
            return self.backend.mT(self._columns(self.apply_T, m))
        return self._columns(self.apply, n)

    def _columns(self, apply: Apply, n: int) -> Array:
        basis = self.backend.reshape(self.backend.eye(n), (n, *(1,) * self.lead, n))
        return self.backend.moveaxis(apply(basis), 0, -1)

    def dense(self) -> Array:
        """The matrix itself, (*lead, m, n), computed once. Cost: n products unless structure helps."""
        return self._dense

    def __add__(self, other: Operator) -> Operator:
        return Operator(
            self.backend,
            self.shape,
            lambda v: self @ v + other @ v,
            lambda u: self.apply_T(u) + other.apply_T(u),
            max(self.lead, other.lead),
            lambda: self.dense() + other.dense(),
            self.symmetric and other.symmetric,
        )

    def __rmul__(self, c: Any) -> Operator:
        """c A for a number c."""
        return replace(
            self,
            apply=lambda v: c * (self @ v),
            apply_T=lambda u: c * self.apply_T(u),
            assemble=lambda: c * self.dense(),
        )


def matrix(backend: Backend, a: Array, *, symmetric: bool = False) -> Operator:
    """The operator of a dense matrix (..., m, n)."""
    return Operator(
        backend,
        (a.shape[-2], a.shape[-1]),
        lambda v: backend.matvec(a, v),
        lambda u: backend.rmatvec(a, u),
        a.ndim - 2,
        lambda: a,
        symmetric,
    )


def identity(backend: Backend, n: int) -> Operator:
    """The identity of Rⁿ."""
    return Operator(backend, (n, n), lambda v: v, lambda u: u, 0, lambda: backend.eye(n), True)


def zero(backend: Backend, m: int, n: int) -> Operator:
    """The zero map from Rⁿ to R^m; keeps the leading axes of what it is applied to."""
    return Operator(
        backend,
        (m, n),
        lambda v: backend.zeros((*v.shape[:-1], m)),
        lambda u: backend.zeros((*u.shape[:-1], n)),
        0,
        lambda: backend.zeros((m, n)),
    )
