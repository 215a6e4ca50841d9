"""Finite probability spaces: all randomness of the package lives here.

A space can be enumerated (``expect``: exact), sampled (``Space.sample``: what an algorithm does; ``estimate``: a mean
with a stated confidence), or handed to an objective (``objective.at(points)``).
"""

from refimpl.spaces.bernoulli import Bernoulli
from refimpl.spaces.expectation import CHUNK, Estimate, covariance, estimate, expect, second_moment
from refimpl.spaces.minibatch import Minibatch
from refimpl.spaces.repeated import Repeated
from refimpl.spaces.space import Indices, Product, Space

__all__ = [
    "CHUNK",
    "Bernoulli",
    "Estimate",
    "Indices",
    "Minibatch",
    "Product",
    "Repeated",
    "Space",
    "covariance",
    "estimate",
    "expect",
    "second_moment",
]
