"""Proximal steps: projections onto convex sets, and soft thresholding, with their Jacobians."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.arrays.numbers import require_number
from refimpl.errors import BadInput
from refimpl.objective import Movable
from refimpl.operators import Operator, identity
from refimpl.sets import Ball, Box, ConvexSet
from refimpl.sets.base import nonzero, scaled_to_one


class Proximal(Movable, ABC):
    """x ↦ argmin_y step h(y) + ½‖y − x‖² for a convex h."""

    @abstractmethod
    def __call__(self, x: Array, step: Any, backend: Backend) -> Array:
        """The proximal point, (..., d)."""

    @abstractmethod
    def jacobian(self, x: Array, step: Any, backend: Backend) -> Operator:
        """Its derivative in x, symmetric d x d; at a kink that of the piece which holds it."""


@dataclass(frozen=True)
class SoftThreshold(Proximal):
    """h = τ‖·‖₁: sign(x_j) max(|x_j| − step τ, 0); |x_j| = step τ counts as cut off."""

    tau: Any

    def __post_init__(self) -> None:
        require_number(self.tau, "tau", "0 thresholds nothing", closed=True)

    def __call__(self, x: Array, step: Any, backend: Backend) -> Array:
        cut = step * self.tau
        return backend.where(x > cut, x - cut, backend.where(x < -cut, x + cut, 0 * x))

    def jacobian(self, x: Array, step: Any, backend: Backend) -> Operator:
        cut = step * self.tau
        return _diagonal(backend, backend.where((x > cut) | (x < -cut), 1 + 0 * x, 0 * x))


@dataclass(frozen=True)
class Projection(Proximal):
    """h = 0 on a set, ∞ off it: the nearest point, whatever the step. The Jacobian is known for boxes and balls.

    The boundary counts as inside, except of a set that is a single point there.
    """

    onto: ConvexSet

    def __post_init__(self) -> None:
        if not isinstance(self.onto, ConvexSet):
            raise BadInput(
                "no set to project onto",
                measured=type(self.onto).__name__,
                required="a set of refimpl.sets",
                advice="Projection(Box(0, 1)), say",
            )

    def __call__(self, x: Array, step: Any, backend: Backend) -> Array:
        return self.onto.project(x, backend)

    def jacobian(self, x: Array, step: Any, backend: Backend) -> Operator:
        if isinstance(self.onto, Box):
            low, high = self.onto.low, self.onto.high
            moves = self.onto.project(x, backend) == x
            if low is not None and high is not None:  # a coordinate may be held
                moves = moves & ((low + 0 * x) < (high + 0 * x))
            return _diagonal(backend, backend.where(moves, 1 + 0 * x, 0 * x))
        if isinstance(self.onto, Ball):
            return _of_ball(backend, self.onto, x)
        raise BadInput(
            "the derivative of this projection is not known here",
            measured=type(self.onto).__name__,
            required="a Box or a Ball",
            advice="the iteration itself runs with any convex set; only its derivative does not",
        )


def _diagonal(backend: Backend, entries: Array) -> Operator:
    def apply(v: Array) -> Array:
        return entries * v

    d = int(entries.shape[-1])

    def assemble() -> Array:
        return backend.eye(d) * entries[..., None, :]

    return Operator(backend, (d, d), apply, apply, entries.ndim - 1, assemble, symmetric=True)


def _of_ball(backend: Backend, ball: Ball, x: Array) -> Operator:
    """I inside; (r/‖y‖)(I − y yᵀ/‖y‖²) at y = x − centre outside."""
    inside, d = ball.contains(x, backend) & (ball.radius > 0), int(x.shape[-1])
    if bool(backend.xp.all(inside)):
        return identity(backend, d)
    scaled, size = scaled_to_one(backend, ball.offset(x))
    length = nonzero(backend, backend.norm(scaled)[..., None])
    share = backend.where(inside[..., None], 1 + 0 * size, ball.radius / (length * size))
    unit = backend.where(inside[..., None], 0 * scaled, scaled / length)

    def apply(v: Array) -> Array:
        return share * (v - unit * backend.dot(unit, v)[..., None])

    return Operator(backend, (d, d), apply, apply, x.ndim - 1, symmetric=True)
