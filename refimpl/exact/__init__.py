"""Exact quantities: lower solution, adjoint, hypergradient, and their certificates."""

from refimpl.exact.hypergradient import Hypergradient as Hypergradient
from refimpl.exact.hypergradient import exact_hypergradient as exact_hypergradient
from refimpl.exact.lower import LowerSolution as LowerSolution
from refimpl.exact.lower import solve_lower as solve_lower
