"""Curvature and noise: exact Hessians, exact covariances of stochastic gradients, and measures of flatness.

Matrices act on a network's parameters in C order; ``net.block(H, k, l)`` is the view of two layers' block. Nothing here
needs λ: objectives have n = 0, or take it as ``lam=``.
"""

from refimpl.curvature.alignment import Alignment as Alignment
from refimpl.curvature.alignment import alignment as alignment
from refimpl.curvature.directions import EigenDirections as EigenDirections
from refimpl.curvature.directions import eigen_directions as eigen_directions
from refimpl.curvature.directions import embedded as embedded
from refimpl.curvature.directions import filter_normalised as filter_normalised
from refimpl.curvature.directions import network_filters as network_filters
from refimpl.curvature.exploration import Exploration as Exploration
from refimpl.curvature.exploration import stationary_from as stationary_from
from refimpl.curvature.flatness import IntervalFlatness as IntervalFlatness
from refimpl.curvature.flatness import interval_flatness as interval_flatness
from refimpl.curvature.flatness import quadratic_width as quadratic_width
from refimpl.curvature.hessian import hessian as hessian
from refimpl.curvature.noise import noise as noise
from refimpl.curvature.profiles import Profile as Profile
from refimpl.curvature.profiles import Surface as Surface
from refimpl.curvature.profiles import profile as profile
from refimpl.curvature.profiles import surface as surface
from refimpl.curvature.sampled import estimated_noise as estimated_noise
from refimpl.curvature.sampled import gradient_data as gradient_data
from refimpl.curvature.variance import along as along
from refimpl.curvature.variance import projected_variance as projected_variance
