"""Approximate hypergradients: what everyone computes, with its residuals and its number of derivative calls."""

from refimpl.approximate.implicit import implicit as implicit
from refimpl.approximate.inverse import HessianInverse as HessianInverse
from refimpl.approximate.inverse import ProductNeumann as ProductNeumann
from refimpl.approximate.inverse import SumNeumann as SumNeumann
from refimpl.approximate.iteration import StochasticIteration as StochasticIteration
from refimpl.approximate.penalty import InnerDescent as InnerDescent
from refimpl.approximate.penalty import InnerGaussNewton as InnerGaussNewton
from refimpl.approximate.penalty import augmented_lagrangian as augmented_lagrangian
from refimpl.approximate.penalty import penalty as penalty
from refimpl.approximate.penalty import tikhonov as tikhonov
from refimpl.approximate.result import Approximation as Approximation
from refimpl.approximate.sampled import SampledHypergradient as SampledHypergradient
from refimpl.approximate.sid_moments import SIDMoments as SIDMoments
from refimpl.approximate.sid_moments import linear_curve as linear_curve
from refimpl.approximate.sid_moments import lower_curve as lower_curve
from refimpl.approximate.sid_moments import sid_moments as sid_moments
from refimpl.approximate.stochastic import SID as SID
from refimpl.approximate.stochastic import SIDEstimate as SIDEstimate
from refimpl.approximate.stochastic import SIDRun as SIDRun
from refimpl.approximate.unrolled import forward as forward
from refimpl.approximate.unrolled import one_step as one_step
from refimpl.approximate.unrolled import reverse as reverse
from refimpl.approximate.unrolled import truncated as truncated
