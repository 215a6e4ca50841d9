"""The generated mutants of the zoo, and the check of derivatives at seeded points that judges them first."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
import types
from collections.abc import Callable, Iterator

import numpy as np

import refimpl as ri
from refimpl.datasets import Episode
from refimpl.objective import Map, Movable, Objective
from tests.mutants.generate import Change, Judges, mutants_of
from tests.mutants.model import Mutant, Noticed, called

Thing = Objective | Map
CONSTANTS = {"hess_between", "peak", "third"}  # of use to `bounds` alone
POINTS = (1, 2)  # seeds of the points (λ, w), per case


def modules() -> list[types.ModuleType]:
    """Every module of the zoo: a family that is added is mutated without being named here."""
    return [
        importlib.import_module(f"{ri.zoo.__name__}.{m.name}") for m in pkgutil.iter_modules(ri.zoo.__path__)
    ]


def _problems() -> Iterator[ri.BilevelProblem | ri.FixedPointProblem]:
    zoo, rng = ri.zoo, np.random.default_rng(7)
    yield zoo.quadratic.random(n=2, d=3, seed=0, terms=3)
    for per_feature in (False, True):
        yield zoo.ridge.random(d=3, seed=0, per_feature=per_feature)
        yield zoo.ridge.random(d=3, seed=0, per_feature=per_feature, log=True)
        yield zoo.logistic.random(d=3, seed=0, per_feature=per_feature)
    yield zoo.maps.random(n=2, d=3, seed=0, terms=3)
    yield zoo.maps.random(n=2, d=3, seed=0, kind="tanh")
    yield zoo.maps.bent_line(0.5, 0.7)
    X, X_val = rng.standard_normal((4, 2)), rng.standard_normal((5, 2))
    yield zoo.weighted_softmax.problem(X, [0, 1, 2, 1], X_val, [2, 1, 0, 0, 1], classes=3, reg=0.3)
    yield zoo.weighted_softmax.problem(
        X, [0, 1, 2, 1], X_val, [2, 1, 0, 0, 1], classes=3, reg=0.3, weights="identity"
    )
    yield zoo.overparametrised.random(d=3, rank=2, rows=4, seed=0)
    yield zoo.overparametrised.random(d=3, rank=2, rows=4, seed=1, loss="logistic", weights="identity")
    yield zoo.weight_function.problem(
        X, [0, 1, 2, 1], X_val, [2, 1, 0, 0, 1], classes=3, hidden=2, step=0.5, reg=0.3, seed=1
    )
    yield zoo.poisoning.problem(X, [0, 1, 2, 1], X_val, [2, 1, 0, 0, 1], classes=3, poisoned=[0, 2], reg=0.3)
    for P, labelled in ((None, None), (zoo.equilibrium.propagation([(0, 1), (2, 3)], 4), [1, 2])):
        options = {"classes": 3, "hidden": 2, "scale": 0.5, "P": P, "labelled": labelled}
        yield zoo.equilibrium.problem(X, [0, 1, 2, 1], **options)
    tasks = np.stack([X, X[::-1] + 1]), np.array([[0, 1, 2, 1], [2, 1, 0, 0]])
    yield zoo.biased.problem(Episode(*tasks, *tasks), ways=3, strength=0.7)
    yield from (case.problem for case in zoo.degenerate.cases())


def cases() -> list[Thing]:
    """One small instance at least of every family, built anew: nothing that an original formula cached is left."""
    uppers, rng = ri.zoo.uppers, np.random.default_rng(8)
    X, c = rng.standard_normal((5, 3)), rng.standard_normal((4, 3))
    things: list[Thing] = [
        uppers.linear(c, l=rng.standard_normal((4, 2))),
        uppers.log_cosh(X, rng.standard_normal(5), n=2),
        uppers.cross_entropy(X, [0, 1, 1, 0, 2], classes=3, n=2),
        ri.zoo.degenerate.SoftThreshold(0.75, 3),
    ]
    for problem in _problems():
        things += [problem.upper, problem.phi if isinstance(problem, ri.FixedPointProblem) else problem.lower]
    return things


def involved(thing: Movable) -> set[type]:
    """The classes whose formulas a thing evaluates: its own, their bases, and those of its parts."""
    own = {c for c in type(thing).__mro__ if issubclass(c, Movable)}
    fields = (getattr(thing, f.name) for f in dataclasses.fields(thing))  # type: ignore[arg-type]  # all are
    return own.union(*(involved(part) for part in fields if isinstance(part, Movable)))


def derivatives_noticed(selected: Callable[[Thing], bool]) -> None:
    """Raise ``Noticed`` if the derivatives of a selected case, or its making, fail ``check_derivatives``."""
    try:
        things = cases()
    except Exception as error:
        raise Noticed(f"building the cases: {type(error).__name__}") from error
    for thing in things:
        if not selected(thing):
            continue
        for seed in POINTS:
            try:
                ri.check_derivatives(thing, seed=seed)
            except Exception as error:
                raise Noticed(f"check_derivatives({type(thing).__name__})") from error


def _judges(selected: Callable[[Thing], bool], *, constant: bool) -> Judges:
    """What judges a formula, or a stated ``constant``: a check in this process, then tests for what that accepts.

    Taken from the tests' own tables of instances, so that a family added there is judged by them. The check of
    derivatives and the tests of definitions are cheap, and kill nearly all: they are called without pytest.
    """
    killers, formulas, constants, things = (
        importlib.import_module(f"tests.{name}")
        for name in ("test_mutant_killers", "test_bound_formulas", "test_constants", "zoo_things")
    )
    defined = [name for name, row in killers.DEFINITIONS.items() if selected(row[0])]
    stated = [name for name, row in formulas.INSTANCES.items() if selected(row[0])]
    attained = [name for name, row in constants.ATTAINED.items() if selected(row[0])]
    named = [name for name, make in things.THINGS.items() if selected(make())]

    def judge() -> None:
        if not constant:
            derivatives_noticed(selected)
            for name in defined:
                called(killers.test_a_value_is_its_definition, name, POINTS[0])
        for name in stated:
            for size in formulas.SIZES:
                called(formulas.test_a_family_states_what_its_docstring_derives, name, size)

    literal = "tests/test_masks.py::test_expectations_are_the_literal_sums_over_the_rationals"
    values, lower = "tests/test_mutant_killers.py::test_", "tests/test_constants.py::test_a_lower_constant_"
    tests = (
        "tests/test_bound_formulas.py::test_a_kink_in_any_coordinate_is_refused",
        f"{values}the_matrix_of_a_term_agrees_with_its_products",
        f"{values}the_assembled_hessian_is_symmetric_to_the_last_bit",
        f"{values}weights_are_packed_class_major",
        *([] if constant else [f"{values}operators_declare_their_leading_axes[*-{name}]" for name in named]),
        *(f"{lower}is_refuted_where_it_is_attained[{name}-*]" for name in attained if constant),
        *(f"tests/test_zoo.py::*[*{name}*]" for name in named if not constant),
        *(
            f"{literal}[{name}-*]" for name in named if name == "quadratic" and not constant
        ),  # its closed form
    )
    return judge, tests


@functools.cache
def mutants() -> list[Mutant]:
    """All generated mutants of the zoo."""
    return [mutant for module in modules() for mutant in mutants_of(module, _judges_in(module))]


def _judges_in(module: types.ModuleType) -> Callable[[Change], Judges]:
    @functools.cache
    def of(owner: str, constant: bool) -> Judges:
        return _judges(_users(module, owner), constant=constant)

    def judges(change: Change) -> Judges:
        owner, _, method = change.qualname.rpartition(".")
        return of(owner, "bounds" in method or method in CONSTANTS or method.isupper())

    return judges


def _users(module: types.ModuleType, owner: str) -> Callable[[Thing], bool]:
    """Does a thing evaluate formulas of this class (of the module's functions for ""): it or a part of it is one?"""

    def selected(thing: Thing) -> bool:
        classes = involved(thing)
        return any(c.__module__ == module.__name__ and owner in ("", c.__name__) for c in classes)

    return selected
