"""Iterations for the lower level and for the adjoint system; ours, because SciPy's take NumPy arrays only."""

from refimpl.solvers.bigsam import Averaging, BiGSAM, contraction_of
from refimpl.solvers.descent import FixedPoint, GradientDescent, HeavyBall
from refimpl.solvers.linear import (
    LU,
    Cholesky,
    ConjugateGradient,
    FixedPointAdjoint,
    LinearSolution,
    LinearSolver,
    Neumann,
    NormalCG,
)
from refimpl.solvers.lower import LowerSolver, Run
from refimpl.solvers.newton import Newton, NewtonCG
from refimpl.solvers.proximal import Projection, Proximal, SoftThreshold
from refimpl.solvers.start import IdentityStart

__all__ = [
    "LU",
    "Averaging",
    "BiGSAM",
    "Cholesky",
    "ConjugateGradient",
    "FixedPoint",
    "FixedPointAdjoint",
    "GradientDescent",
    "HeavyBall",
    "IdentityStart",
    "LinearSolution",
    "LinearSolver",
    "LowerSolver",
    "Neumann",
    "Newton",
    "NewtonCG",
    "NormalCG",
    "Projection",
    "Proximal",
    "Run",
    "SoftThreshold",
    "contraction_of",
]
