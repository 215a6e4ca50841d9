"""A map of one variable and one parameter in which every constant of the document can be tight at once."""

from __future__ import annotations

from dataclasses import dataclass

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.constants import MapBounds, Region
from refimpl.objective import Map
from refimpl.operators import Operator, matrix


@dataclass(frozen=True)
class ScalarMap(Map):
    """Φ = c + q w + b λ + ν₁w²/2 + ν₂λw + ν̄₂λ²/2 + ν₃λw²/2 on R, n = d = 1.

    Near a point where all derivatives are positive every term of the paper's constants is attained at once.
    """

    c: float
    q: float
    b: float
    nu1: float
    nu2: float
    nu2_bar: float
    nu3: float
    backend: Backend = Backend()

    n = 1
    d = 1

    def value(self, lam: Array, w: Array) -> Array:
        second = self.nu1 * w * w + 2 * self.nu2 * lam * w + self.nu2_bar * lam * lam + self.nu3 * lam * w * w
        return self.c + self.q * w + self.b * lam + second / 2

    def d_w(self, lam: Array, w: Array) -> Operator:
        slope = self.q + self.nu1 * w + self.nu2 * lam + self.nu3 * lam * w
        return matrix(self.backend, slope[..., None])

    def d_lam(self, lam: Array, w: Array) -> Operator:
        slope = self.b + self.nu2 * w + self.nu2_bar * lam + self.nu3 * w * w / 2
        return matrix(self.backend, slope[..., None])

    def bounds(self, region: Region) -> MapBounds:
        """Taylor at the centre: ∂²_ww = ν₁ + ν₃λ, ∂²_wλ = ν₂ + ν₃w and ∂²_λλ = ν̄₂, ν₃ the only third one."""
        r, R, lam, w = region.w_radius, region.lam_radius, float(region.lam[0]), float(region.w[0])
        in_w, in_lam = (abs(float(at(region.lam, region.w).dense()[0, 0])) for at in (self.d_w, self.d_lam))
        ww, wl, ll, third = (
            abs(self.nu1 + self.nu3 * lam),
            abs(self.nu2 + self.nu3 * w),
            abs(self.nu2_bar),
            abs(self.nu3),
        )
        return MapBounds(
            d_w=in_w + ww * r + wl * R + third * r * R,
            d_lam=in_lam + wl * r + ll * R + third * r * r / 2,
            d_w_by_w=ww + third * R,
            d_w_by_lam=wl + third * r,
            d_lam_by_w=wl + third * r,
            d_lam_by_lam=ll,
        )
