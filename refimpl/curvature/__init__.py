"""Curvature and noise: exact Hessians, exact covariances of stochastic gradients, and measures of flatness.

Matrices act on a network's parameters in C order; ``net.block(H, k, l)`` is the view of two layers' block. Nothing here
needs λ: objectives have n = 0, or take it as ``lam=``.
"""

from refimpl.curvature.alignment import Alignment, alignment
from refimpl.curvature.directions import (
    EigenDirections,
    eigen_directions,
    embedded,
    filter_normalised,
    network_filters,
)
from refimpl.curvature.exploration import Exploration, stationary_from
from refimpl.curvature.flatness import IntervalFlatness, interval_flatness, quadratic_width
from refimpl.curvature.hessian import hessian
from refimpl.curvature.noise import noise
from refimpl.curvature.profiles import Profile, Surface, profile, surface
from refimpl.curvature.sampled import estimated_noise, gradient_data
from refimpl.curvature.variance import along, projected_variance

__all__ = [
    "Alignment",
    "EigenDirections",
    "Exploration",
    "IntervalFlatness",
    "Profile",
    "Surface",
    "alignment",
    "along",
    "eigen_directions",
    "embedded",
    "estimated_noise",
    "filter_normalised",
    "gradient_data",
    "hessian",
    "interval_flatness",
    "network_filters",
    "noise",
    "profile",
    "projected_variance",
    "quadratic_width",
    "stationary_from",
    "surface",
]
