"""Approximate hypergradients: what everyone computes, with its residuals and its number of derivative calls."""

from refimpl.approximate.implicit import implicit as implicit
from refimpl.approximate.result import Approximation as Approximation
from refimpl.approximate.unrolled import forward as forward
from refimpl.approximate.unrolled import one_step as one_step
from refimpl.approximate.unrolled import reverse as reverse
from refimpl.approximate.unrolled import truncated as truncated
