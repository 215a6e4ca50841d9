"""refimpl: exact hypergradients, exact dropout moments, and the means to check others against them.

A room is imported when it is first asked for (PEP 562): ``import refimpl`` alone loads no other module.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refimpl import (
        affinity,
        algorithms,
        approximate,
        arrays,
        bounds,
        checks,
        combined,
        constants,
        counting,
        curvature,
        datasets,
        draws,
        errors,
        exact,
        functions,
        lengths,
        masks,
        measure,
        moments,
        networks,
        objective,
        operators,
        problem,
        rates,
        sets,
        solvers,
        spaces,
        training,
        variances,
        zoo,
    )
    from refimpl.checks import check_derivatives
    from refimpl.exact import Hypergradient, exact_hypergradient, improved_hypergradient
    from refimpl.functions import from_function, map_from_function
    from refimpl.objective import Map, Objective
    from refimpl.problem import BilevelProblem, FixedPointProblem

__version__ = "0.1.0"
# fmt: off
__all__ = [
    "BilevelProblem", "FixedPointProblem", "Hypergradient", "Map", "Objective", "affinity", "algorithms", "approximate",
    "arrays", "bounds", "check_derivatives", "checks", "combined", "constants", "counting", "curvature", "datasets",
    "draws", "errors", "exact", "exact_hypergradient", "from_function", "functions", "improved_hypergradient",
    "lengths", "map_from_function", "masks", "measure", "moments", "networks", "objective", "operators", "problem",
    "rates", "sets", "solvers", "spaces", "training", "variances", "zoo",
]
# fmt: on
_ROOM = {  # of the names that are no rooms themselves
    "BilevelProblem": "problem",
    "FixedPointProblem": "problem",
    "Hypergradient": "exact",
    "Map": "objective",
    "Objective": "objective",
    "check_derivatives": "checks",
    "exact_hypergradient": "exact",
    "from_function": "functions",
    "improved_hypergradient": "exact",
    "map_from_function": "functions",
}

if not TYPE_CHECKING:  # a type checker that saw this function would believe every name

    def __getattr__(name: str):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        room = import_module(f"{__name__}.{_ROOM.get(name, name)}")
        globals()[name] = getattr(room, name) if name in _ROOM else room  # the next time it is found there
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
