"""Approximate hypergradients: what everyone computes, with its residuals and its number of derivative calls."""

from refimpl.approximate import guarantees
from refimpl.approximate.implicit import implicit
from refimpl.approximate.inverse import HessianInverse, ProductNeumann, SumNeumann
from refimpl.approximate.iteration import StochasticIteration
from refimpl.approximate.penalty import (
    InnerDescent,
    InnerGaussNewton,
    augmented_lagrangian,
    penalty,
    tikhonov,
)
from refimpl.approximate.result import Approximation
from refimpl.approximate.sampled import SampledHypergradient
from refimpl.approximate.sid_moments import SIDMoments, linear_curve, lower_curve, sid_moments
from refimpl.approximate.stated import StatedRates, stated_rates
from refimpl.approximate.stochastic import SID, SIDEstimate, SIDRun
from refimpl.approximate.unrolled import forward, one_step, reverse, truncated

__all__ = [
    "SID",
    "Approximation",
    "HessianInverse",
    "InnerDescent",
    "InnerGaussNewton",
    "ProductNeumann",
    "SIDEstimate",
    "SIDMoments",
    "SIDRun",
    "SampledHypergradient",
    "StatedRates",
    "StochasticIteration",
    "SumNeumann",
    "augmented_lagrangian",
    "forward",
    "guarantees",
    "implicit",
    "linear_curve",
    "lower_curve",
    "one_step",
    "penalty",
    "reverse",
    "sid_moments",
    "stated_rates",
    "tikhonov",
    "truncated",
]
