"""The exact projection onto the intersection of a ball and a box."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.sets.base import ConvexSet, entries, nonzero, refuse_outside, refuse_parts, scaled_to_one
from refimpl.sets.simple import Ball, Box


@dataclass(frozen=True, eq=False)
class BallInBox(ConvexSet):
    """The intersection of a ball and a closed box; projecting onto one, then onto the other, is something else.

    With c the centre, P(x) = c + p(θ), p_i(θ) = min(max(θ(x_i − c_i), low_i − c_i), high_i − c_i), θ = 1/(1 + t) with
    the ball's multiplier t: ‖p‖ grows with θ, so θ = 1 where ‖p(1)‖ <= R, else ‖p(θ)‖ = R. Between the sorted θ at
    which coordinates meet their bounds, ‖p‖² = θ²S + C: bisection over them finds the piece, in which the free
    coordinates have norm √(R² − C). Exact for a radius R(1 + O(n eps)). Cost: sorting, and 2 log₂ n passes.
    """

    ball: Ball
    box: Box

    def __post_init__(self) -> None:
        if not isinstance(self.ball, Ball) or not isinstance(self.box, Box) or self.box.open:
            refuse_parts(f"{self.ball} and {self.box}", "a Ball and a Box that is not open")
        try:
            shape = self.shape
        except ValueError:
            refuse_parts(f"a ball of shape {self.ball.shape}, a box of shape {self.box.shape}", "one length")
        # bounds given as numbers fit any length n; their distance from the centre grows with it
        _require_meeting(self.ball, self.box, shape or (1,))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(np.broadcast_shapes(self.ball.shape, self.box.shape))

    def _contains(self, x: Array, backend: Backend) -> Array:
        return backend.xp.logical_and(self.ball._contains(x, backend), self.box._contains(x, backend))

    def _project(self, x: Array, backend: Backend) -> Array:
        if not self.shape:
            _require_meeting(self.ball, self.box, (x.shape[-1],))
        nearest = self.box._project(x, backend)
        inside = self.ball._contains(nearest, backend)
        if backend.exact or not backend.ordered:
            return nearest if bool(backend.xp.all(inside)) else refuse_outside(backend)
        return backend.where(inside[..., None], nearest, self._on_sphere(x, backend))

    def _on_sphere(self, x: Array, backend: Backend) -> Array:
        """P(x) where t > 0, and so ‖p‖ = R."""
        where, zero, one = backend.where, 0 * x, 1 + 0 * x
        offset, R = self.ball.offset(x), entries(backend, self.ball.radius) + zero
        side = where(offset < 0, -one, one)  # mirrored, θ moves every coordinate up
        reach = side * offset
        low, high = self._around_centre(R, side, backend)
        start = where(low > 0, low, where(high < 0, high, zero))  # p(0)

        def clipped(p: Array) -> Array:
            return where(p > high, high, where(p < start, start, p))

        def met(bound: Array) -> Array:
            """The θ in [0, 1] from which on θ reach is at this bound or above; 1 where it never is."""
            before = bound < reach
            divisor = nonzero(backend, where(before, reach, one))  # 0 at the centre, where the box is beside
            return where(before, where(bound > 0, bound, zero) / divisor, one)

        leaves, ends = met(start), met(high)
        edges = backend.concat([zero[..., :1], leaves, ends, one[..., :1]])
        edges = backend.xp.sort(edges, axis=-1)

        def edge(k: Array) -> Array:
            return backend.xp.take_along_axis(edges, k[..., None], axis=-1)

        unit = _unit(self.ball.radius)  # squares of what is at most 4: they neither overflow nor vanish

        def square(p: Array) -> Array:
            return backend.dot(unit * p, unit * p)

        whole = (unit * R) * (unit * R)
        first = backend.indices(np.zeros(x.shape[:-1], dtype=np.int64))  # ‖p‖ <= R there, and > R at last
        last = first + (edges.shape[-1] - 1)
        for _ in range((edges.shape[-1] - 2).bit_length()):  # log₂ of their distance, rounded up
            middle = (first + last) // 2
            p = clipped(edge(middle) * reach)
            short = square(p) <= whole[..., 0]
            first, last = where(short, middle, first), where(short, last, middle)
        left, right = edge(first), edge(last)
        free = (leaves <= left) & (ends >= right) & (left < right)
        fixed = where(free, zero, where(ends <= left, high, start))
        room = whole - square(fixed)[..., None]
        free_part, _ = scaled_to_one(backend, where(free, reach, zero))
        length = backend.sqrt(where(room > 0, room, zero)) / unit
        direction = free_part / nonzero(backend, backend.norm(free_part)[..., None])
        p = side * clipped(where(free, direction * length, fixed))
        return self.box._project(p if self.ball.centre is None else p + self.ball.centre, backend)

    def _around_centre(self, R: Array, side: Array, backend: Backend) -> tuple[Array, Array]:
        """The bounds seen from the centre, mirrored, and at most 2R: that bounds no point of the ball."""
        low, high = -2 * R, 2 * R
        if self.box.low is not None:
            offset = self.ball.offset(entries(backend, self.box.low))
            low = backend.where(offset > low, offset, low)
        if self.box.high is not None:
            offset = self.ball.offset(entries(backend, self.box.high))
            high = backend.where(offset < high, offset, high)
        return backend.where(side > 0, low, -high), backend.where(side > 0, high, -low)


def _unit(radius: Any) -> float:
    """The power of two that brings the radius into [1/2, 1); of the powers that floats have on both sides of 1."""
    return float(2.0 ** -min(max(math.frexp(float(radius))[1], -1000), 1000))


def _require_meeting(ball: Ball, box: Box, shape: tuple[int, ...]) -> None:
    """The box's nearest point to the centre lies in the ball; else ``BadInput``."""
    host, ball, box = Backend(), ball.to("numpy"), box.to("numpy")
    centre = np.zeros(shape) if ball.centre is None else np.broadcast_to(ball.centre, shape)
    nearest = box._project(centre, host)
    if not np.all(ball._contains(nearest, host)):
        raise BadInput(
            "the ball and the box do not meet",
            measured=f"the box is {np.linalg.norm(nearest - centre, axis=-1).max():.6g} away from the centre",
            required=f"at most the radius {float(ball.radius):.6g}",
            advice="move the centre, or widen one of them",
        )
