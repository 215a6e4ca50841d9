"""Objectives and maps from bare functions, differentiated by autograd."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.objective import Map, Objective
from refimpl.operators import Operator, matrix

ANP = Backend()


def from_function(f: Callable[[Array, Array], Array], *, n: int, d: int) -> Objective:
    """The objective of a scalar function ``f(lam, w)`` written with ``autograd.numpy``, lam (n,), w (d,).

    Derivatives are autograd's: exact to rounding, one pass per gradient or product. Leading axes are
    looped over, as a bare function need not broadcast. Raises ``BadInput`` if f is not scalar.
    """
    _require_sizes(n, d)
    return FunctionObjective(f, n, d)


def map_from_function(phi: Callable[[Array, Array], Array], *, n: int, d: int) -> Map:
    """The map of a function ``phi(lam, w)`` -> (d,) written with ``autograd.numpy``."""
    _require_sizes(n, d)
    return FunctionMap(phi, n, d)


def _require_sizes(n: int, d: int) -> None:
    if not (isinstance(n, int) and isinstance(d, int) and n >= 0 and d >= 1):
        raise BadInput(
            "impossible sizes", measured=f"n = {n}, d = {d}", required="n >= 0, d >= 1", advice="give lengths"
        )


def _require_shape(out: Array, shape: tuple[int, ...], what: str, advice: str) -> None:
    plain: Any = getattr(out, "_value", out)  # of an autograd box
    found = np.shape(plain)
    if found != shape:
        raise BadInput(
            f"{what} has the wrong shape", measured=f"shape {found}", required=f"shape {shape}", advice=advice
        )


@dataclass(frozen=True, eq=False)
class FunctionObjective(Objective):
    """f(λ, w) and autograd's derivatives of it."""

    f: Callable[[Array, Array], Array]
    n: int
    d: int
    backend: Backend = ANP

    def _scalar(self, lam: Array, w: Array) -> Array:
        out = self.f(lam, w)
        _require_shape(out, (), "the objective", "sum or average inside the function")
        return out

    def value(self, lam: Array, w: Array) -> Array:
        return _over_leading(self._scalar, (), lam, w)

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return _over_leading(_grad(self._scalar, 0), (self.n,), lam, w)

    def grad_w(self, lam: Array, w: Array) -> Array:
        return _over_leading(_grad(self._scalar, 1), (self.d,), lam, w)

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        apply = self._derivative_of_product(1, 1, lam, w)
        return Operator(self.backend, (self.d, self.d), apply, apply, self.lead_of(lam, w), symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        apply = self._derivative_of_product(1, 0, lam, w)
        apply_T = self._derivative_of_product(0, 1, lam, w)
        return Operator(self.backend, (self.n, self.d), apply, apply_T, self.lead_of(lam, w))

    def _derivative_of_product(
        self, first: int, second: int, lam: Array, w: Array
    ) -> Callable[[Array], Array]:
        """u ↦ ∂_second (∂_first f · u)."""

        def product(lam: Array, w: Array, u: Array) -> Array:
            def directional(lam: Array, w: Array) -> Array:
                return (_grad(self._scalar, first)(lam, w) * u).sum()

            return _grad(directional, second)(lam, w)

        shape = ((self.n,), (self.d,))[second]
        return lambda u: _over_leading(product, shape, lam, w, u)


@dataclass(frozen=True, eq=False)
class FunctionMap(Map):
    """Φ(λ, w) and autograd's Jacobians of it."""

    phi: Callable[[Array, Array], Array]
    n: int
    d: int
    backend: Backend = ANP

    def _vector(self, lam: Array, w: Array) -> Array:
        out = self.phi(lam, w)
        _require_shape(out, (self.d,), "the map", "return a vector of length d")
        return out

    def value(self, lam: Array, w: Array) -> Array:
        return _over_leading(self._vector, (self.d,), lam, w)

    def d_w(self, lam: Array, w: Array) -> Operator:
        return self._jacobian(1, self.d, lam, w)

    def d_lam(self, lam: Array, w: Array) -> Operator:
        return self._jacobian(0, self.n, lam, w)

    def _jacobian(self, which: int, size: int, lam: Array, w: Array) -> Operator:
        from autograd import jacobian

        return matrix(self.backend, _over_leading(jacobian(self._vector, which), (self.d, size), lam, w))


def _grad(f: Callable[..., Array], which: int) -> Callable[..., Array]:
    from autograd import grad

    derivative = grad(f, which)

    def quietly(*args: Array) -> Array:
        with warnings.catch_warnings():  # a level may ignore λ or w, and zero is then the right derivative
            warnings.filterwarnings("ignore", message="Output seems independent of input")
            return derivative(*args)

    return quietly


def _over_leading(f: Callable[..., Any], shape: tuple[int, ...], *vectors: Array) -> Array:
    """f, with values of that shape, at every index of the broadcast leading axes; f sees plain vectors."""
    if all(v.ndim == 1 for v in vectors):
        return f(*vectors)
    lead = np.broadcast_shapes(*(v.shape[:-1] for v in vectors))
    full = [np.broadcast_to(v, (*lead, v.shape[-1])) for v in vectors]
    values = [np.asarray(f(*(v[index] for v in full))) for index in np.ndindex(*lead)]
    return np.reshape(values, (*lead, *shape))
