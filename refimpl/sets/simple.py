"""Boxes, balls, and balls of the spectral norm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.arrays.numbers import require_number
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.sets.base import (
    ConvexSet,
    bounds_of,
    entries,
    everywhere,
    nonzero,
    refuse_numbers,
    refuse_outside,
    refuse_parts,
    require_count,
    scaled_to_one,
    shape_of,
)


@dataclass(frozen=True, eq=False)
class Box(ConvexSet):
    """{x : low <= x <= high}, open=True: {low < x < high}; bounds are (n,), (rows, n), numbers, or None (none).

    P(x) = min(max(x, low), high) (contraction, (20)); a point outside an open box has no nearest one.
    """

    low: Any
    high: Any
    open: bool = False

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            object.__setattr__(self, name, bounds_of(getattr(self, name), name))
        if self.low is None or self.high is None:
            return
        low, high = to_numpy(self.low), to_numpy(self.high)
        try:
            np.broadcast_shapes(low.shape, high.shape)
        except ValueError:
            refuse_parts(f"bounds of shapes {low.shape} and {high.shape}", "one length")
        if not np.all(low < high if self.open else low <= high):
            raise BadInput(
                "the box is empty",
                measured=f"the smallest side is {float(np.min(high - low)):.6g}",
                required="low < high" if self.open else "low <= high",
                advice="exchange the bounds; None is no bound",
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(np.broadcast_shapes(shape_of(self.low), shape_of(self.high)))

    def _contains(self, x: Array, backend: Backend) -> Array:
        inside, all_of = everywhere(backend, x), partial(backend.xp.all, axis=-1)
        x, low, high = (backend.comparable(b) for b in (x, self.low, self.high))
        if low is not None:
            inside = inside & all_of(x > low if self.open else x >= low)
        if high is not None:
            inside = inside & all_of(x < high if self.open else x <= high)
        return inside

    def _project(self, x: Array, backend: Backend) -> Array:
        if self.open or not backend.ordered:
            if bool(backend.xp.all(self._contains(x, backend))):
                return x
            if not self.open:
                refuse_outside(backend)
            raise HypothesisViolated(
                "an open set has no nearest point",
                measured=f"a point outside {self}",
                required="a closed set to project onto (contraction, section 1)",
                advice="close the box at a bound that the theory allows, Box(1e-3, None) say, or shorten the step",
            )
        low, high = (None if b is None else entries(backend, b) for b in (self.low, self.high))
        x = x if low is None else backend.where(x < low, low, x)
        return x if high is None else backend.where(x > high, high, x)

    def _closed(self) -> Box:
        return replace(self, open=False)


@dataclass(frozen=True, eq=False)
class Ball(ConvexSet):
    """{x : ‖x − centre‖ <= radius}, centre (n,) or None, the origin; P(x) = c + (x − c) min(1, R/‖x − c‖).

    Accepted: distances up to R + (n + 8) eps (R + ‖c‖), twice what rounding makes of a projection's.
    """

    radius: Any
    centre: Any = None

    def __post_init__(self) -> None:
        require_number(self.radius, "the radius", "None is the set without bounds", closed=True)
        object.__setattr__(self, "centre", bounds_of(self.centre, "the centre"))
        if self.centre is not None and (self.shape == () or not np.isfinite(to_numpy(self.centre)).all()):
            raise BadInput(
                "a centre is a point",
                measured=self.centre,
                required="finite numbers (n,), or None, the origin",
                advice="[0.5] * n is a centre with equal entries",
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.centre)

    def offset(self, x: Array) -> Array:
        """x − c."""
        return x if self.centre is None else x - self.centre

    def _contains(self, x: Array, backend: Backend) -> Array:
        offset = self.offset(x)
        if backend.exact or not backend.ordered:
            squares = backend.dot(offset, offset), self.radius * self.radius
            return backend.comparable(squares[0]) <= backend.comparable(squares[1])
        scaled, size = scaled_to_one(backend, offset)
        slack = (x.shape[-1] + 8) * backend.eps * (self.radius + self._distance(backend))
        return backend.norm(scaled) * size[..., 0] <= self.radius + slack

    def _distance(self, backend: Backend) -> Any:
        """‖c‖."""
        if self.centre is None:
            return 0.0
        scaled, size = scaled_to_one(backend, self.centre)
        return backend.norm(scaled) * size[..., 0]

    def _project(self, x: Array, backend: Backend) -> Array:
        inside = self._contains(x, backend)
        if backend.exact or not backend.ordered:
            return x if bool(backend.xp.all(inside)) else refuse_outside(backend)
        scaled, _ = scaled_to_one(backend, self.offset(x))
        on_sphere = scaled * (self.radius / nonzero(backend, backend.norm(scaled)[..., None]))
        on_sphere = on_sphere if self.centre is None else on_sphere + self.centre
        return backend.where(inside[..., None], x, on_sphere)


@dataclass(frozen=True, eq=False)
class SpectralBall(ConvexSet):
    """Matrices (rows, columns), flattened, with ‖X‖₂ <= radius: P(U diag(s) Vᵀ) = U diag(min(s, radius)) Vᵀ.

    Accepted: norms up to radius (1 + 10 (rows + columns) eps), a computed decomposition's accuracy. Floats only.
    """

    rows: int
    columns: int
    radius: Any

    def __post_init__(self) -> None:
        require_count(self.rows, "rows")
        require_count(self.columns, "columns")
        require_number(self.radius, "the radius", "None is the set without bounds", closed=True)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rows * self.columns,)

    def _decomposed(self, x: Array, backend: Backend) -> tuple[Array, Array, Array, Array]:
        """Is it finite (...), U, s, Vᵀ; of 0 in place of what is not finite, as LAPACK raises there."""
        if backend.exact or not backend.ordered:
            refuse_numbers(backend, "a singular value decomposition", "a spectral norm asked for")
        finite = backend.xp.all(backend.xp.isfinite(x), axis=-1)
        x = backend.where(finite[..., None], x, backend.zeros(x.shape))
        matrices = backend.reshape(x, (*x.shape[:-1], self.rows, self.columns))
        return finite, *backend.xp.linalg.svd(matrices, full_matrices=False)

    def _small(self, s: Array, backend: Backend) -> Array:
        return s[..., 0] <= self.radius * (1 + 10 * (self.rows + self.columns) * backend.eps)

    def _contains(self, x: Array, backend: Backend) -> Array:
        finite, _, s, _ = self._decomposed(x, backend)
        return finite & self._small(s, backend)

    def _project(self, x: Array, backend: Backend) -> Array:
        finite, u, s, vt = self._decomposed(x, backend)
        clipped = backend.where(s > self.radius, entries(backend, self.radius), s)
        nearest = backend.reshape((u * clipped[..., None, :]) @ vt, x.shape)
        return backend.where((finite & ~self._small(s, backend))[..., None], nearest, x)
