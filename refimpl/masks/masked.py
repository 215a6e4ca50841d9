"""An objective under given masks: formula (10) of dropout-bilevel, each quantity in one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.objective import Objective
from refimpl.operators import Operator


@dataclass(frozen=True, eq=False)
class Masked(Objective):
    """f(m_λ λ, m_w w) for masks (..., n) and (..., d): formula (10), each quantity in one line."""

    f: Objective
    lam_mask: Array
    w_mask: Array
    backend: Backend = Backend()

    @property
    def n(self) -> int:
        return self.f.n

    @property
    def d(self) -> int:
        return self.f.d

    @property
    def leading(self) -> tuple[int, ...]:
        masks = (self.lam_mask.shape[:-1], self.w_mask.shape[:-1])
        return tuple(np.broadcast_shapes(self.f.leading, *masks))

    @property
    def lead(self) -> int:
        return max(self.f.lead, self.lam_mask.ndim - 1, self.w_mask.ndim - 1)

    def value(self, lam: Array, w: Array) -> Array:
        return self.f.value(self.lam_mask * lam, self.w_mask * w)

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return self.lam_mask * self.f.grad_lam(self.lam_mask * lam, self.w_mask * w)

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self.w_mask * self.f.grad_w(self.lam_mask * lam, self.w_mask * w)

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        inner = self.f.hess_ww(self.lam_mask * lam, self.w_mask * w)
        return between(self.backend, self.w_mask, inner, self.w_mask, self.lead_of(lam, w))

    def cross(self, lam: Array, w: Array) -> Operator:
        inner = self.f.cross(self.lam_mask * lam, self.w_mask * w)
        return between(self.backend, self.lam_mask, inner, self.w_mask, self.lead_of(lam, w))

    def kink_distance(self, lam: Array, w: Array, lam_moves: Any = None, w_moves: Any = None) -> Any:
        lam_moves = self.lam_mask if lam_moves is None else self.lam_mask * lam_moves
        w_moves = self.w_mask if w_moves is None else self.w_mask * w_moves
        return self.f.kink_distance(self.lam_mask * lam, self.w_mask * w, lam_moves, w_moves)


def between(B: Backend, left: Array, a: Operator, right: Array, lead: int) -> Operator:
    """diag(left) A diag(right)."""
    return Operator(
        B,
        a.shape,
        lambda v: left * (a @ (right * v)),
        lambda u: right * (a.T @ (left * u)),
        lead,
        lambda: left[..., :, None] * a.dense() * right[..., None, :],
        a.symmetric and left is right,
    )
