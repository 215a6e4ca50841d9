"""Curvature and noise: exact Hessians, exact covariances of stochastic gradients, and measures of flatness.

Matrices act on a network's parameters in C order; ``net.block(H, k, l)`` is the view of two layers' block. Nothing here
needs λ: objectives have n = 0, or take it as ``lam=``.
"""

from refimpl.curvature.hessian import hessian as hessian
from refimpl.curvature.noise import noise as noise
from refimpl.curvature.sampled import estimated_noise as estimated_noise
from refimpl.curvature.sampled import gradient_data as gradient_data
