"""What a convex set is, and the small functions that all of them share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NoReturn

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.arrays.numbers import is_whole
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.objective import Movable

NUMPY = Backend()


class ConvexSet(Movable, ABC):
    """A convex subset of Rⁿ. Every method takes lists, and raises ``BadInput`` for points of another size."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """What the last axes of points must fit: (n,); (rows, n) for rows that differ; () for any n."""

    @abstractmethod
    def _contains(self, x: Array, backend: Backend) -> Array:
        """Is x inside, up to the rounding of a projection? (...)"""

    @abstractmethod
    def _project(self, x: Array, backend: Backend) -> Array:
        """P_Λ(x), and x itself where ``_contains`` accepts it; NaN stays NaN."""

    def contains(self, x: Any, backend: Backend = NUMPY) -> Array:
        """Is x inside, up to the rounding of a projection? (...); NaN is not."""
        x = from_lists(x, "x", backend)
        require_fitting(self.shape, x)
        return self._contains(x, backend) if x.shape[-1] else everywhere(backend, x)

    def project(self, x: Any, backend: Backend = NUMPY) -> Array:
        """The nearest point of the set, (..., n).

        Raises ``HypothesisViolated`` for a point outside an open set, and ``BadInput`` for what is not finite, real and
        of the backend, and where the backend's numbers cannot hold the nearest point or decide where it is.
        """
        x = from_lists(x, "x", backend)
        require_fitting(self.shape, x)
        x = backend.vector(x, x.shape[-1], "x")
        return self._project(x, backend) if x.shape[-1] else x

    def require(self, lam: Any, backend: Backend = NUMPY) -> None:
        """Raises ``HypothesisViolated`` unless all λ are inside, with the largest distance."""
        if bool(backend.xp.all(self.contains(lam, backend))):
            return
        x = to_numpy(from_lists(lam, "λ", NUMPY))
        nearest = self.to("numpy")._closed()._project(x, NUMPY)
        distance = np.max(np.linalg.norm(x - nearest, axis=-1))
        boundary = "" if distance else ", on the boundary, which an open set excludes"
        raise HypothesisViolated(
            "λ is outside its set",
            measured=f"distance {distance:.6g}{boundary}; smallest entry {x.min():.6g}, largest {x.max():.6g}",
            required=str(self),
            advice="project λ onto the set, or take the family's log-parametrised variant: no constraint",
        )

    def _closed(self) -> ConvexSet:
        """Its closure."""
        return self


def everywhere(backend: Backend, x: Array) -> Array:
    """True for every point (...)."""
    return backend.comparable(backend.zeros(x.shape[:-1])) == 0


def shape_of(x: Any) -> tuple[int, ...]:
    """() for numbers and None."""
    return tuple(getattr(x, "shape", ()))


def entries(backend: Backend, x: Any) -> Array:
    """An array as it is, a number as one of one entry, exactly."""
    return x if shape_of(x) else backend.asarray([x])


def nonzero(backend: Backend, x: Array) -> Array:
    """x with 1 in place of 0, to divide by."""
    return backend.where(x == 0, 1 + 0 * x, x)


def scaled_to_one(backend: Backend, x: Array) -> tuple[Array, Array]:
    """x = s m with max|s_i| = 1 (s = 0 for x = 0), (..., n) and (..., 1): ‖s‖² neither overflows nor vanishes."""
    size = nonzero(backend, backend.xp.max(backend.xp.abs(x), axis=-1, keepdims=True))
    return x / size, size


def require_fitting(shape: tuple[int, ...], x: Array) -> None:
    """Points (..., n) fit the set's arrays without being broadcast along them."""
    found = shape_of(x)
    try:
        fits = found != () and (
            not shape or (found[-1] == shape[-1] and np.broadcast_shapes(shape, found) == found)
        )
    except ValueError:
        fits = False
    if not fits:
        raise BadInput(
            "the set lies in another space",
            measured=f"points of shape {found}",
            required=f"(..., {', '.join(map(str, shape or ('n',)))})",
            advice="the last axis holds the vector; bounds given as numbers fit any length",
        )


def from_lists(x: Any, name: str, backend: Backend) -> Any:
    """Lists and tuples as arrays; what is none as it is. Raises ``BadInput``."""
    return backend._from_host(x, name) if isinstance(x, list | tuple) else x


def bounds_of(x: Any, name: str) -> Any:
    """None, a number, or an array of floats: lists and whole numbers become one. Raises ``BadInput``, also for NaN."""
    if isinstance(x, list | tuple) or (isinstance(x, np.ndarray) and x.dtype.kind in "iu"):
        x = NUMPY._from_host(x, name)
    try:
        host = np.zeros(0) if x is None else to_numpy(x)
    except (TypeError, ValueError, OverflowError):
        host = np.array(math.nan)
    if host.dtype.kind not in "iuf" or np.isnan(host).any():
        raise BadInput(
            f"{name} holds no real numbers",
            measured=x,
            required="a real number, or an array of them, on the last axis",
            advice="look for NaN, text, truth values and complex numbers",
        )
    return x


def require_count(value: Any, name: str) -> None:
    """A whole number >= 1; else ``BadInput``."""
    if not (is_whole(value) and value >= 1):
        raise BadInput(f"{name} must be a whole number", measured=value, required=">= 1", advice="count them")


def refuse_parts(measured: str, required: str) -> NoReturn:
    """The error for sets that are not made for each other."""
    raise BadInput(
        "the parts of the set do not fit", measured=measured, required=required, advice="compare the lengths"
    )


def refuse_numbers(backend: Backend, what: str, measured: str) -> NoReturn:
    """The error where exact numbers or balls do not do."""
    raise BadInput(
        f"{what} is not available on backend {backend.name!r}",
        measured=measured,
        required="floating-point numbers",
        advice='project on "numpy" and convert the result; points inside a box or a ball stay as they are',
    )


def refuse_outside(backend: Backend) -> NoReturn:
    """As ``refuse_numbers``, for a projection."""
    refuse_numbers(backend, "the nearest point", "a point that is not proved inside the set")
