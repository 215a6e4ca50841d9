"""FSLA with dropout: P. Yu, J. Li, H. Huang, ICLR 2024, Algorithm 1 (dropout-bilevel).

The update is FSLA's (``li2022fsla``, whose lines are Algorithm 1's) on ``problem.with_dropout(...)``, whose levels are
drawn under masks (line 4) and on data (line 5); line 8 keeps v in a ball. Signs are restored, and β_k stands in both
places of line 7: with the printed β before ∇_wF the limit of v would be multiplied by β/β_k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refimpl.algorithms.li2022fsla import FSLA
from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.solvers.lower import require_positive


@dataclass(frozen=True, kw_only=True)
class DropoutFSLA(FSLA):
    """FSLA with line 8, v ← Proj_{B(0,r)} v; r=None: no projection, which is FSLA.

    The ball does no harm where it contains v(λ): ‖v(λ)‖ <= C_F/(p_min μ), with ‖∇_wF‖ <= C_F.
    """

    r: Any = None

    source: ClassVar[str] = "Yu, Li, Huang, ICLR 2024, Algorithm 1"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.r is not None:
            require_positive(
                self.r,
                "r",
                "the radius of a ball that contains v(λ): C_F/(p_min μ) will do; None projects nothing",
            )

    @property
    def affine(self) -> str | None:
        return None if self.r is None else "a projection onto a ball"

    def constrained(self, B: Backend, v: Array) -> Array:
        """The nearest point of the ball of radius r; over the rationals refused outside it (a square root)."""
        if self.r is None:
            return v
        r = B.scalar(self.r)
        if B.exact and not np.any(B.dot(v, v) > r * r):
            return v
        norm = B.norm(v)
        return v * (r / B.where(norm > r, norm, r + 0 * norm))[..., None]
