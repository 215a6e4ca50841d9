"""Affine random recursions x⁺ = A(s) x + b(s), s drawn afresh at every step from a finite space: their exact moments.

In homogeneous coordinates z = (x, 1) a step is z⁺ = T(s) z, T = [[A, b], [0, 1]], and with D = d + 1
    E z⁺ = (E T) E z,      E z⁺z⁺ᵀ = E[T S Tᵀ]  for  S = E zzᵀ,
since s is independent of z. The second line is linear in S and contains the first in its last column.
Nothing is sampled or truncated: results are exact up to rounding, and over the rationals without it.
"""

from refimpl.moments.averaged import AffineDraw, affine_draw, averaged, mixture
from refimpl.moments.evolve import curve, mean_and_second, mean_square_curve
from refimpl.moments.paths import Paths, paths
from refimpl.moments.schedules import Relaxed, Schedule
from refimpl.moments.state import Moments
from refimpl.moments.stationary import Stationary, spectral_radius, stationary
from refimpl.moments.step import AffineStep, PackedStep, affine_step

__all__ = [
    "AffineDraw",
    "AffineStep",
    "Moments",
    "PackedStep",
    "Paths",
    "Relaxed",
    "Schedule",
    "Stationary",
    "affine_draw",
    "affine_step",
    "averaged",
    "curve",
    "mean_and_second",
    "mean_square_curve",
    "mixture",
    "paths",
    "spectral_radius",
    "stationary",
]
