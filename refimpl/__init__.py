"""refimpl: exact hypergradients, exact dropout moments, and the means to check others against them."""

from refimpl import zoo as zoo
from refimpl.exact import Hypergradient as Hypergradient
from refimpl.exact import exact_hypergradient as exact_hypergradient
from refimpl.functions import from_function as from_function
from refimpl.objective import Map as Map
from refimpl.objective import Objective as Objective
from refimpl.problem import BilevelProblem as BilevelProblem
from refimpl.problem import FixedPointProblem as FixedPointProblem

__version__ = "0.1.0"
