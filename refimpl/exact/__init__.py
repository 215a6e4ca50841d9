"""Exact quantities: lower solution, adjoint, hypergradient and its derivatives, and their certificates."""

from refimpl.exact.certificate import Certificate, Enclosure, certify, enclose
from refimpl.exact.derivatives import hyperobjective_hessian, solution_jacobian
from refimpl.exact.hypergradient import Hypergradient, adjoint, exact_hypergradient
from refimpl.exact.improved import ImprovedHypergradient, improved_hypergradient
from refimpl.exact.lower import LowerSolution, solve_lower
from refimpl.exact.simple import SimpleSolution, solve_simple

__all__ = [
    "Certificate",
    "Enclosure",
    "Hypergradient",
    "ImprovedHypergradient",
    "LowerSolution",
    "SimpleSolution",
    "adjoint",
    "certify",
    "enclose",
    "exact_hypergradient",
    "hyperobjective_hessian",
    "improved_hypergradient",
    "solution_jacobian",
    "solve_lower",
    "solve_simple",
]
