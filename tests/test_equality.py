"""What holds arrays is equal to itself alone; what holds numbers and names is equal to what holds the same."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from fractions import Fraction

import numpy as np
import pytest

import refimpl as ri
from refimpl import algorithms, approximate, sets, solvers, spaces, zoo
from refimpl.bounds import Region
from refimpl.combined import Combined, Restricted
from refimpl.counting import counted
from refimpl.draws import Draws
from refimpl.exact import improved_hypergradient, solve_simple
from refimpl.objective import Map, Objective, descent_map
from refimpl.operators import Operator
from refimpl.problem import Problem
from refimpl.sets import ConvexSet
from tests.backends import round_trip

FAMILIES = (Objective, Map, Problem, ConvexSet, Operator)
ARRAYS = re.compile(r"\b(Array|ndarray)\b")


def _dataclasses() -> list[type]:
    modules = [importlib.import_module(m.name) for m in pkgutil.walk_packages(ri.__path__, "refimpl.")]
    classes = {c for m in modules for c in vars(m).values() if isinstance(c, type)}
    own = [c for c in classes if dataclasses.is_dataclass(c) and c.__module__.startswith("refimpl")]
    return sorted(own, key=lambda c: (c.__module__, c.__qualname__))


@pytest.mark.parametrize("kind", _dataclasses(), ids=lambda c: f"{c.__module__}.{c.__qualname__}")
def test_what_may_hold_an_array_is_compared_by_identity(kind):
    # kills: a dataclass(frozen=True) that compares arrays field by field
    held = [f.type for f in dataclasses.fields(kind) if not str(f.type).startswith("Callable")]
    if issubclass(kind, FAMILIES) or any(ARRAYS.search(str(t)) for t in held):
        assert (kind.__eq__, kind.__hash__) == (object.__eq__, object.__hash__)


PROBLEM = zoo.quadratic.random(n=2, d=3, seed=0)
LAM = PROBLEM.start()
EXACT = ri.exact_hypergradient(PROBLEM, LAM)
SINGULAR = ri.BilevelProblem(PROBLEM.upper, zoo.quadratic.objective(ww=np.diag([2.0, 1.0, 0.0]), n=2))
SIMPLE = improved_hypergradient(SINGULAR, LAM)
HOLDING = {
    "problem": PROBLEM,
    "fixed point": PROBLEM.as_fixed_point(0.1),
    "equilibrium": zoo.maps.line(0.5),
    "objective": PROBLEM.lower,
    "map": descent_map(PROBLEM.lower, 0.1),
    "dropout": PROBLEM.with_dropout(lower=0.5, upper=None).lower,
    "sum": Combined(1, PROBLEM.upper, 2, PROBLEM.lower),
    "restriction": Restricted(PROBLEM.lower, np.zeros(3), np.eye(3)[:, :2]),
    "counted": counted(PROBLEM)[0],
    "softmax": zoo.weighted_softmax.problem(
        np.eye(4), [0, 1, 0, 1], np.eye(4), [0, 1, 0, 1], classes=2, reg=0.1
    ),
    "ridge": zoo.ridge.random(d=3, seed=0),
    "operator": PROBLEM.lower.hess_ww(LAM, np.zeros(3)),
    "draws": Draws(PROBLEM.lower),
    "box": sets.Box(np.zeros(2), np.ones(2)),
    "ball": sets.Ball(1.0, np.zeros(2)),
    "region": Region(np.zeros(2), np.zeros(3)),
    "hypergradient": EXACT,
    "approximation": approximate.implicit(
        PROBLEM, LAM, lower=solvers.GradientDescent(2, 0.1), linear=solvers.Cholesky()
    ),
    "chosen": SIMPLE,
    "simple solution": solve_simple(SINGULAR, LAM),
    "check": PROBLEM.check(LAM, EXACT.w),
    "run of a solver": solvers.GradientDescent(2, 0.1).run(PROBLEM, LAM, np.zeros(3)),
    "run of an algorithm": algorithms.run(algorithms.FSLA(delta=0.1), PROBLEM, LAM, steps=1, rng=0),
}


def _again(x):
    """The same in new arrays, where it can be taken apart."""
    return dataclasses.replace(
        x,
        **{
            f.name: np.array(value)
            for f in dataclasses.fields(x)
            if f.init and isinstance(value := getattr(x, f.name), np.ndarray)
        },
    )


@pytest.mark.parametrize("name", HOLDING)
def test_equality_of_what_holds_arrays_is_an_answer(name):
    x = HOLDING[name]
    other = _again(x)
    assert x == x
    assert x != other
    assert [x, other].index(other) == 1
    assert {x: 1, other: 2}[other] == 2
    assert x in {x}
    assert other not in {x}


@pytest.mark.parametrize(
    "make",
    [
        lambda: spaces.Repeated(spaces.Minibatch(10, 2), 3),
        lambda: spaces.Bernoulli([0.5, Fraction(1, 3)], groups=(0, 1, 1)),
        lambda: ri.rates.Harmonic(2, 3),
        lambda: ri.lengths.Growing(Fraction(1, 3)),
        lambda: ri.arrays.backend("strict"),
        lambda: solvers.HeavyBall(3, 0.1),
        lambda: solvers.BiGSAM(3, s=0.1, t=0.1, alpha=solvers.Averaging(0.5)),
        lambda: algorithms.FSLA(delta=0.1),
        lambda: algorithms.BSGM(t=1, k=1, J=1, alpha=0.1),
    ],
)
def test_what_holds_numbers_is_compared_by_value(make):
    assert make() == make() == round_trip(make())
    assert hash(make()) == hash(make())


def test_a_value_that_holds_a_set_asks_whether_it_is_the_same_set():
    box = sets.Box(np.zeros(2), np.ones(2))
    assert solvers.Projection(box) == solvers.Projection(box)
    assert solvers.Projection(box) != solvers.Projection(_again(box))
