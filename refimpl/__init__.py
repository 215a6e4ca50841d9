"""refimpl: exact hypergradients, exact dropout moments, and the means to check others against them."""

from refimpl import algorithms as algorithms
from refimpl import approximate as approximate
from refimpl import constants as constants
from refimpl import curvature as curvature
from refimpl import datasets as datasets
from refimpl import draws as draws
from refimpl import errors as errors
from refimpl import exact as exact
from refimpl import lengths as lengths
from refimpl import masks as masks
from refimpl import measure as measure
from refimpl import moments as moments
from refimpl import networks as networks
from refimpl import rates as rates
from refimpl import sets as sets
from refimpl import solvers as solvers
from refimpl import spaces as spaces
from refimpl import training as training
from refimpl import zoo as zoo
from refimpl.checks import check_derivatives as check_derivatives
from refimpl.exact import Hypergradient as Hypergradient
from refimpl.exact import exact_hypergradient as exact_hypergradient
from refimpl.functions import from_function as from_function
from refimpl.functions import map_from_function as map_from_function
from refimpl.objective import Map as Map
from refimpl.objective import Objective as Objective
from refimpl.problem import BilevelProblem as BilevelProblem
from refimpl.problem import FixedPointProblem as FixedPointProblem

__version__ = "0.1.0"
