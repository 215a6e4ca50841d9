"""The machinery of ``python -m tests.mutants`` on known cases; all mutants together take minutes (`make mutants`)."""

from __future__ import annotations

import ast
import contextlib
import importlib
import itertools
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refimpl.networks import ACTIVATIONS
from refimpl.zoo.quadratic import Quadratic
from tests.mutants import command, generate, networks, patch, table, zoo
from tests.mutants.model import Mutant, Noticed, Outcome, Unusable
from tests.mutants.run import baseline, collected, in_forks, judged, resolved, run

VALUE = "refimpl.zoo.quadratic:Quadratic.value"
TESTS = ("tests/test_mutant_killers.py::test_a_value_is_its_definition[45-quadratic]",)
TOY = '''
from functools import cached_property
from refimpl.objective import Movable

FACTOR = 0.5
TABLE = {"one": 1}

def helper(x):
    return x.max() / 2

def loose(x):
    total = []
    for i in range(3):
        total.append(x * i)
    return total

def unused(x):
    return x + 1

class Base(Movable):
    def grown(self, x):
        return x + 1

class Family(Base):
    third = 1 / 3

    @property
    def lead(self) -> int:
        return 1 - 2

    @property
    def seven(self):
        return 7

    @cached_property
    def eight(self):
        return 8

    @staticmethod
    def nine():
        return 9

    def grown(self, x):
        return super().grown(x) * 2

    def value(self, lam, w) -> Array:
        """Never changed: 1 + 1."""
        if lam > 0:
            raise ValueError(f"{lam - 1}")
        return self.mT(w) - FACTOR * helper(-lam)

    def apply(self, x):
        def inner(v: Array) -> Array:
            return self.matvec(x, v[..., 0 + 1])
        return inner

    def bounds(self, region):
        return Bounds(grad_w=min(region, 2.0), hess_ww_min=region, cross=0.0)
'''
names = (f"toy_formulas_{i}" for i in itertools.count())  # a new module for each test: none sees another's


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    name = next(names)
    (tmp_path / f"{name}.py").write_text("from __future__ import annotations\n" + TOY)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(name)
    del sys.modules[name]


def _mutant(old: str, new: str, tests: tuple[str, ...] = TESTS, target: str = VALUE) -> Mutant:
    return table.Row(f"{old} -> {new}", "formula", target, old, new, tests).mutant()


def _statuses(*mutants: Mutant, **options: Any) -> list[str]:
    found = {m.name: outcome.status for m, outcome in run(mutants, **options)}
    return [found[m.name] for m in mutants]


# -- running ------------------------------------------------------------------------------------------
def test_a_broken_formula_is_killed_and_an_equal_one_survives() -> None:
    broken, equal = _mutant("halves / 2", "halves / 3"), _mutant("halves / 2", "halves / (1 + 1)")
    assert _statuses(broken, equal, jobs=2) == ["killed", "survived"]
    assert _statuses(equal) == ["survived"]  # the broken one left no trace in this process


def test_what_cannot_be_judged_gets_no_verdict() -> None:
    stale, missing = _mutant("no such text", ""), _mutant("halves / 2", "halves", ("tests/nothing.py",))
    assert _statuses(stale, missing) == ["error", "error"]
    with pytest.raises(Unusable, match="no definition"):
        patch.replaced("refimpl.zoo.quadratic:Quadratic.nothing", "a", "b")


def test_a_judge_that_notices_spares_the_tests() -> None:
    def notice() -> None:
        raise Noticed("the judge")

    mutant = Mutant("name", "formula", VALUE, lambda: None, ("tests/nothing.py",), notice)
    assert judged(mutant) == ("killed", "the judge")


def test_tests_that_fail_without_a_mutant_judge_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def notice() -> None:
        raise Noticed("a judge that always notices")

    mutant = _mutant("halves / 2", "halves")
    assert baseline([mutant]) == []
    assert baseline([replace(mutant, judge=notice)]) == ["a judge that always notices"]
    assert "not found" in baseline([replace(mutant, tests=("tests/test_mutants.py::nothing",))])[0]
    monkeypatch.setattr(Quadratic, "value", lambda *_: np.zeros(()))
    assert baseline([mutant]) == list(TESTS)


def test_a_process_that_hangs_or_ends_is_counted() -> None:
    def hang() -> None:
        while True:
            pass

    def end() -> None:
        raise SystemExit(3)

    works: list[Callable[[], Any]] = [hang, end, lambda: ("killed", "itself")]
    answers = {index: answer for index, answer, _ in in_forks(works, 3, limit=0.5)}
    assert answers == {
        0: ("killed", "timeout of 0.5 s"),
        1: ("error", "SystemExit: 3"),
        2: ("killed", "itself"),
    }


def test_patterns_name_tests() -> None:
    ids = ["t/a.py::f[1]", "t/a.py::f[2]", "t/a.py::g", "t/ab.py::f"]
    assert resolved(["t/a.py::g", "t/a.py"], ids) == ("t/a.py::g", "t/a.py::f[1]", "t/a.py::f[2]")
    assert resolved(["t/a.py::f"], ids) == ("t/a.py::f[1]", "t/a.py::f[2]")
    assert resolved(["*[2]"], ids) == ("t/a.py::f[2]",)
    with pytest.raises(Unusable, match=r"no test is named t/a\.py::h"):
        resolved(["t/a.py::h"], ids)


# -- patching -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("qualname", "old", "new", "probe", "before", "after"),
    [
        ("FACTOR", "0.5", "1.5", lambda m: m.FACTOR, 0.5, 1.5),
        (
            "TABLE",
            "1",
            "2",
            lambda m, held=[]: held.append(m.TABLE) or held[0]["one"],
            1,
            2,
        ),  # imported before
        ("Family.third", "1 / 3", "3 / 3", lambda m: m.Family().third, 1 / 3, 1.0),
        ("Family.seven", "7", "70", lambda m: m.Family().seven, 7, 70),
        ("Family.eight", "8", "80", lambda m: m.Family().eight, 8, 80),
        ("Family.nine", "9", "90", lambda m: m.Family.nine(), 9, 90),
        ("unused", "x + 1", "x - 1", lambda m: m.unused(3), 4, 2),
        ("Base.grown", "x + 1", "x", lambda m: m.Family().grown(3), 8, 6),  # inherited, called by super()
        ("Family.grown", "super().grown(x) * 2", "x", lambda m: m.Family().grown(3), 8, 3),  # closes no more
    ],
)
def test_every_kind_of_definition_can_be_changed(
    toy: types.ModuleType, qualname: str, old: str, new: str, probe: Any, before: Any, after: Any
) -> None:
    target = f"{toy.__name__}:{qualname}"

    def changed() -> Any:
        patch.install(target, patch.replaced(target, old, new))
        return probe(toy)

    assert probe(toy) == before
    assert [answer for _, answer, _ in in_forks([changed], 1)] == [after]
    assert probe(toy) == before


# -- generating ---------------------------------------------------------------------------------------
def test_the_mutants_of_a_known_source(toy: types.ModuleType) -> None:
    found = {(c.where, f"{c.old} -> {c.new}") for c in generate.changes(toy)}
    value = "self.mT(w) - FACTOR * helper(-lam)"
    assert found >= {
        ("Family.third", "1 / 3 -> 0.9 * (1 / 3)"),
        ("FACTOR", "0.5 -> 0.9 * 0.5"),
        ("helper", "x.max() / 2 -> x.max()"),
        ("helper", "x.max() / 2 -> x.max() / 3"),
        ("helper", "x.max() -> x.min()"),
        ("Family.value", f"{value} -> -({value})"),
        ("Family.value", f"{value} -> self.mT(w) + FACTOR * helper(-lam)"),
        ("Family.value", f"{value} -> self.mT(w)"),
        ("Family.value", f"{value} -> -(FACTOR * helper(-lam))"),
        ("Family.value", "self.mT(w) -> w"),
        ("Family.value", "FACTOR * helper(-lam) -> FACTOR"),
        ("Family.value", "FACTOR * helper(-lam) -> helper(-lam)"),
        ("Family.value", "-lam -> lam"),
        ("Family.apply.inner", "self.matvec(x, v[..., 0 + 1]) -> self.rmatvec(x, v[..., 0 + 1])"),
        ("Family.bounds", "min(region, 2.0) -> 0.9 * min(region, 2.0)"),
        ("Family.bounds", "min(region, 2.0) -> max(region, 2.0)"),
        ("Family.bounds", "region -> region + 0.01"),
    }
    changed = {where for where, _ in found}
    assert not changed & {"unused", "Family.lead"}  # no formula, sizes
    assert not any("lam > 0" in text or "lam - 1" in text or "0 + 1 ->" in text for _, text in found)
    assert not any(text.startswith("0.0 ->") for _, text in found)
    assert "loose" not in changed
    also = {(c.where, f"{c.old} -> {c.new}") for c in generate.changes(toy, ("loose",))}
    assert also - found == {("loose", "x * i -> x"), ("loose", "x * i -> i")}  # in a loop, in a call


def test_each_generated_mutant_changes_its_module_and_nothing_else(toy: types.ModuleType) -> None:
    original = ast.dump(ast.parse(patch.source_of(toy)))
    trees = [ast.dump(change.tree()) for change in generate.changes(toy)]
    assert original not in trees
    assert len(set(trees)) == len(trees)
    assert ast.dump(ast.parse(patch.source_of(toy))) == original


# -- the real sets ------------------------------------------------------------------------------------
def test_every_row_of_the_table_fits_the_source_and_names_tests(request: pytest.FixtureRequest) -> None:
    """What this run has collected is not collected again: only the files of tests that it leaves out."""
    rows = table.rows()
    there = [item.nodeid for item in request.session.items if not item.get_closest_marker("gpu")]
    named = {test for row in rows for test in row.tests}
    absent = named - _found(named, there)
    again = collected(sorted({test.partition("::")[0] for test in absent})) if absent else []
    assert _found(absent, again) == absent
    for row in rows:
        assert patch.replaced(row.target, row.old, row.new), row.name  # it parses


def _found(patterns: set[str], ids: list[str]) -> set[str]:
    """The patterns that name a test, each looked for in its own file."""
    of_file: dict[str, list[str]] = {}
    for i in ids:
        of_file.setdefault(i.partition("::")[0], []).append(i)
    found = set()
    for pattern in patterns:
        with contextlib.suppress(Unusable):
            resolved([pattern], of_file.get(pattern.partition("::")[0], []))
            found.add(pattern)
    return found


def test_every_family_is_mutated_and_judged() -> None:
    mutants = zoo.mutants()
    covered = {kind for thing in zoo.cases() for kind in zoo.involved(thing)}
    owners = {m.target.partition(":")[2].rpartition(".")[0] for m in mutants} - {""}
    assert owners <= {kind.__name__ for kind in covered}
    assert all(m.tests for m in mutants)
    assert {m.__name__ for m in zoo.modules()} >= {m.target.partition(":")[0] for m in mutants}


def test_every_formula_of_the_networks_is_mutated_and_judged() -> None:
    found = networks.mutants()
    changed = {m.target for m in found}
    for name in (
        "forward:gradient",
        "forward:Forward.hessian",
        "losses:_covariance",
        "shared:SharedLoss.cross",
    ):
        assert f"refimpl.networks.{name}" in changed
    functions = {f.__name__ for a in ACTIVATIONS.values() for f in (a.value, a.first, a.second)}
    assert {f"refimpl.networks.activations:{name}" for name in functions} <= changed
    assert all(m.tests and m.judge for m in found)
    assert len({m.name for m in found}) == len(found)
    for name in functions:  # a formula is judged by losses that use it
        used = [
            a
            for a, row in ACTIVATIONS.items()
            if name in {f.__name__ for f in vars(row).values() if callable(f)}
        ]
        assert {loss.partition(",")[0] for loss in networks.losses_with(name)} == set(used)
    assert networks.losses_with("_covariance") == tuple(
        f"{a}, softmax, {end}" for a in ("tanh", "linear") for end in ("one hidden, weighted", "shared")
    )


def test_reasons_name_mutants_and_say_why() -> None:
    everything = {m.name for m in (*zoo.mutants(), *networks.mutants())}
    assert set(command.reasons()) <= everything
    assert all(len(reason) > 20 for reason in command.reasons().values())


def test_unexplained_survivors_and_stale_reasons_fail() -> None:
    known = next(iter(command.reasons()))
    explained, other = (Mutant(name, "f", VALUE, lambda: None) for name in (known, "other"))
    killed, survived, error = (Outcome(s, "by", 0.0) for s in ("killed", "survived", "error"))
    assert command.unexplained([(explained, survived), (other, killed)]) == []
    assert "survived: other" in command.unexplained([(other, survived)])[0]
    assert "could not be judged: other" in command.unexplained([(other, error)])[0]
    assert f"remove its reason): {known}" in command.unexplained([(explained, killed)])[0]


def test_the_command_fails_for_what_it_cannot_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "no mutant has this name"]) == 2
    assert "no mutant matches" in capsys.readouterr().err
    assert command.main(["--list", "--only", "^operators/"]) == 0
    assert "operators/dense-lead-off-by-one" in capsys.readouterr().out


def test_the_command_reports_one_formula(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", r"^degenerate\.SoftThreshold\._sign: -1 \+ 0 \* w -> -1$"]) == 0
    said = capsys.readouterr().out
    assert "SoftThreshold._sign" in said
    assert "1 equivalent with a reason, 0 unexplained" in said
