"""The generated mutants of the zoo, and the check of derivatives at seeded points that judges them first."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import types
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

import refimpl as ri
from refimpl.objective import Map, Movable, Objective
from tests.mutants.generate import Change, changes
from tests.mutants.model import Mutant, Noticed
from tests.mutants.patch import install

Thing = Objective | Map
KILLERS = "tests/test_mutant_killers.py"
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
    yield from (case.problem for case in zoo.degenerate.cases())


def cases() -> list[Thing]:
    """One small instance at least of every family, built anew: nothing that an original formula cached is left."""
    uppers, rng = ri.zoo.uppers, np.random.default_rng(8)
    X, c = rng.standard_normal((5, 3)), rng.standard_normal((4, 3))
    things: list[Thing] = [
        uppers.linear(c, l=rng.standard_normal((4, 2))),
        uppers.log_cosh(X, rng.standard_normal(5), n=2),
        uppers.cross_entropy(X, [0, 1, 1, 0, 2], classes=3, n=2),
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


def named_tests(selected: Callable[[Thing], bool]) -> tuple[str, ...]:
    """What judges the mutants that the check of derivatives accepts: the family's tests, constants' before values'."""
    constants, families = (
        importlib.import_module("tests.test_constants"),
        importlib.import_module("tests.test_zoo"),
    )
    attained = [name for name, row in constants.ATTAINED.items() if selected(row[0])]
    named = [name for name, make in families.THINGS.items() if selected(make())]
    hunted = [name for name in named if name in constants.SMOOTH]
    file = "tests/test_constants.py::test"
    return (
        KILLERS,
        *(f"{file}_a_lower_constant_is_refuted_where_it_is_attained[{name}-*]" for name in attained),
        *(f"{file}_the_attaining_instances_exceed_nothing[{name}]" for name in attained),
        *(f"{file}_no_point_of_the_region_exceeds_a_constant[{name}-*]" for name in hunted),
        *(f"tests/test_zoo.py::*[*{name}*]" for name in named),
    )


def mutants() -> list[Mutant]:
    """All generated mutants."""
    found: list[Mutant] = []
    for module in modules():
        times: Counter[str] = Counter()
        judges: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {}
        for change in changes(module):
            short = module.__name__.rpartition(".")[2]
            name = f"{short}.{change.where}: {change.old} -> {change.new}"
            times[name] += 1
            if times[name] > 1:
                name += f" (#{times[name]})"
            owner = change.qualname.rpartition(".")[0]
            if owner not in judges:
                judges[owner] = _judges(_users(module, owner))
            found.append(_mutant(name, module, change, *judges[owner]))
    return found


def _users(module: types.ModuleType, owner: str) -> Callable[[Thing], bool]:
    """Does a thing evaluate formulas of this class (of the module's functions for ""): it or a part of it is one?"""

    def selected(thing: Thing) -> bool:
        classes = involved(thing)
        return any(c.__module__ == module.__name__ and owner in ("", c.__name__) for c in classes)

    return selected


def _judges(selected: Callable[[Thing], bool]) -> tuple[Callable[[], None], tuple[str, ...]]:
    return lambda: derivatives_noticed(selected), named_tests(selected)


def _mutant(
    name: str, module: types.ModuleType, change: Change, judge: Callable[[], None], tests: tuple[str, ...]
) -> Mutant:
    target = f"{module.__name__}:{change.qualname}"
    return Mutant(
        name,
        f"{change.old} -> {change.new}",
        target,
        lambda: install(target, change.tree()),
        tests,
        judge,
    )
