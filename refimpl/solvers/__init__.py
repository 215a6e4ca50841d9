"""Iterations for the lower level and for the adjoint system; ours, because SciPy's take NumPy arrays only."""

from refimpl.solvers.bigsam import Averaging as Averaging
from refimpl.solvers.bigsam import BiGSAM as BiGSAM
from refimpl.solvers.bigsam import contraction_of as contraction_of
from refimpl.solvers.descent import FixedPoint as FixedPoint
from refimpl.solvers.descent import GradientDescent as GradientDescent
from refimpl.solvers.descent import HeavyBall as HeavyBall
from refimpl.solvers.linear import LU as LU
from refimpl.solvers.linear import Cholesky as Cholesky
from refimpl.solvers.linear import ConjugateGradient as ConjugateGradient
from refimpl.solvers.linear import FixedPointAdjoint as FixedPointAdjoint
from refimpl.solvers.linear import LinearSolution as LinearSolution
from refimpl.solvers.linear import LinearSolver as LinearSolver
from refimpl.solvers.linear import Neumann as Neumann
from refimpl.solvers.linear import NormalCG as NormalCG
from refimpl.solvers.lower import LowerSolver as LowerSolver
from refimpl.solvers.lower import Run as Run
from refimpl.solvers.newton import Newton as Newton
from refimpl.solvers.newton import NewtonCG as NewtonCG
from refimpl.solvers.proximal import Projection as Projection
from refimpl.solvers.proximal import Proximal as Proximal
from refimpl.solvers.proximal import SoftThreshold as SoftThreshold
from refimpl.solvers.start import IdentityStart as IdentityStart
