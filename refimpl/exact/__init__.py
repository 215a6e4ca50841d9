"""Exact quantities: lower solution, adjoint, hypergradient and its derivatives, and their certificates."""

from refimpl.exact.certificate import Certificate as Certificate
from refimpl.exact.certificate import Enclosure as Enclosure
from refimpl.exact.certificate import certify as certify
from refimpl.exact.certificate import enclose as enclose
from refimpl.exact.derivatives import hyperobjective_hessian as hyperobjective_hessian
from refimpl.exact.derivatives import solution_jacobian as solution_jacobian
from refimpl.exact.hypergradient import Hypergradient as Hypergradient
from refimpl.exact.hypergradient import adjoint as adjoint
from refimpl.exact.hypergradient import exact_hypergradient as exact_hypergradient
from refimpl.exact.improved import ImprovedHypergradient as ImprovedHypergradient
from refimpl.exact.improved import improved_hypergradient as improved_hypergradient
from refimpl.exact.lower import LowerSolution as LowerSolution
from refimpl.exact.lower import solve_lower as solve_lower
from refimpl.exact.simple import SimpleSolution as SimpleSolution
from refimpl.exact.simple import solve_simple as solve_simple
