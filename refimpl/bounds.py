"""Regions of (λ, w), and bounds of an objective's or a map's derivatives on them.

Proved in exact arithmetic; the numbers are then evaluated in float64, so they hold up to rounding of the size of
eps times the largest of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refimpl.arrays.numbers import as_number
from refimpl.errors import BadInput, HypothesisViolated


@dataclass(frozen=True, eq=False)
class Region:
    """{λ : ‖λ − lam‖ <= lam_radius} x {w : ‖w − w_centre‖ <= w_radius}, centres (n,) and (d,) on the host."""

    lam: Any
    w: Any
    lam_radius: float = 0.0
    w_radius: float = 0.0

    def __post_init__(self) -> None:
        if not (as_number(self.lam_radius) >= 0 and as_number(self.w_radius) >= 0):
            raise BadInput(
                "a radius is negative",
                measured=(self.lam_radius, self.w_radius),
                required="numbers >= 0",
                advice="0 is a point",
            )


@dataclass(frozen=True)
class Bounds:
    """Suprema over a region of derivatives of an objective f(λ, w) (spectral and Euclidean norms).

    ``hess_ww_min`` is a lower bound of the smallest eigenvalue. ``X_by_y`` is a Lipschitz constant of X in y,
    the other variable held fixed. Lipschitz constants of the gradients are the norms of the second derivatives.
    """

    grad_w: float
    hess_ww: float
    hess_ww_min: float
    cross: float
    hess_ll: float
    hess_ww_by_w: float = 0.0
    hess_ww_by_lam: float = 0.0
    cross_by_w: float = 0.0
    cross_by_lam: float = 0.0


@dataclass(frozen=True)
class MapBounds:
    """Suprema over a region for a map Φ(λ, w): ``d_w`` = q; ``X_by_y`` Lipschitz constants of the Jacobians."""

    d_w: float
    d_lam: float
    d_w_by_w: float = 0.0
    d_w_by_lam: float = 0.0
    d_lam_by_w: float = 0.0
    d_lam_by_lam: float = 0.0


def best_step(bounds: Bounds) -> float:
    """2/(μ + L), the step of the smallest contraction factor (κ − 1)/(κ + 1) (contraction, (3))."""
    if not bounds.hess_ww_min > 0:
        raise HypothesisViolated(
            "the lower level is not proved strongly convex on this region",
            measured=f"eigenvalues of the Hessian >= {bounds.hess_ww_min:.6g}",
            required="> 0",
            advice="add a ridge term or take a smaller region; no step makes such a gradient step contract",
        )
    return 2 / (bounds.hess_ww_min + bounds.hess_ww)
