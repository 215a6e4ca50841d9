"""The command: select, run, compare the survivors with the reasons on file, say what to do."""

from __future__ import annotations

import argparse
import re
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.mutants import networks, table, zoo
from tests.mutants.model import Mutant, Outcome
from tests.mutants.run import LIMIT, baseline, collected, resolved, run

REASONS = Path(__file__).with_name("equivalents.toml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the selected mutants; 0 if every one is killed or has a reason on file, 1 if not, 2 for a bad call."""
    options = _parser().parse_args(arguments)
    everything = [*table.mutants(), *zoo.mutants(), *networks.mutants()]
    selected = [m for m in everything if re.search(options.only, m.name)]
    if not selected:
        print(f"no mutant matches {options.only!r}; --list shows all {len(everything)}", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{m.name}\n    {m.formula}" for m in selected))
        return 0
    began = time.monotonic()
    wrong = _mistakes(everything)
    ids = collected(sorted({pattern.partition("::")[0] for m in selected for pattern in m.tests}))
    selected = [replace(m, tests=resolved(m.tests, ids)) for m in selected]
    wrong += [f"fails or does not run without any mutant: {t}" for t in baseline(selected)]
    outcomes = _run(selected, options.jobs, options.limit)
    wrong += unexplained(outcomes)
    _summary(outcomes, time.monotonic() - began)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="regular expression searched in the names"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes side by side (1)")
    parser.add_argument(
        "--limit",
        type=float,
        default=LIMIT,
        metavar="S",
        help=f"seconds until a hanging mutant is killed ({LIMIT:g})",
    )
    parser.add_argument("--list", action="store_true", help="print the names and formulas, run nothing")
    return parser


def reasons() -> dict[str, str]:
    """name of a mutant -> why no test can notice it."""
    groups = tomllib.loads(REASONS.read_text(encoding="utf-8")).get("equivalent", [])
    return {name: group["reason"] for group in groups for name in group["mutants"]}


def _mistakes(mutants: Sequence[Mutant]) -> list[str]:
    times = Counter(m.name for m in mutants)
    twice = [f"two mutants have one name: {name}" for name, count in times.items() if count > 1]
    return twice + [f"equivalents.toml names no mutant: {name}" for name in reasons() if name not in times]


def _run(selected: Sequence[Mutant], jobs: int, limit: float) -> list[tuple[Mutant, Outcome]]:
    """One line per mutant of the table, one per generated formula, and one per survivor."""
    outcomes: list[tuple[Mutant, Outcome]] = []
    known = reasons()
    left = Counter(_group(m) for m in selected)
    print(f"{len(selected)} mutants of {len(left)} formulas")
    for mutant, outcome in run(selected, jobs, limit):
        outcomes.append((mutant, outcome))
        group = _group(mutant)
        left[group] -= 1
        if outcome.status == "survived" and mutant.name in known:
            _line("equal", outcome.seconds, mutant.name, f"no test can notice: {known[mutant.name]}", "")
        elif outcome.status != "killed" or group == mutant.name:
            word = outcome.status if outcome.status == "killed" else outcome.status.upper()
            formula = mutant.formula if group == mutant.name else ""  # the name of a generated one says it
            _line(word, outcome.seconds, mutant.name, formula, outcome.by)
        if left[group] == 0 and group != mutant.name:
            done = [o for m, o in outcomes if _group(m) == group]
            killed = sum(o.status == "killed" for o in done)
            by = Counter(o.by.partition("[")[0].rpartition("::")[2] for o in done if o.status == "killed")
            said = ", ".join(f"{name} {count}" for name, count in by.most_common())
            _line(f"{killed}/{len(done)}", sum(o.seconds for o in done), group, "", said)
        sys.stdout.flush()
    return outcomes


def _group(mutant: Mutant) -> str:
    """The formula of a generated mutant; a mutant of the table is its own group."""
    if mutant.judge is None:
        return mutant.name
    module, _, qualname = mutant.target.partition(":")
    return f"{module.rpartition('.')[2]}.{qualname}"


def _line(status: str, seconds: float, name: str, formula: str, by: str) -> None:
    print(f"{status:>8} {seconds:6.2f} s  {name}")
    for said in (" ".join(formula.split()), f"by {by}" if by else ""):
        if said:
            print(f"{'':19}{said}")


def unexplained(outcomes: Sequence[tuple[Mutant, Outcome]]) -> list[str]:
    """What is wrong with a run: survivors without a reason, reasons without a survivor, mutants without a verdict."""
    known, wrong = reasons(), []
    for mutant, outcome in outcomes:
        if outcome.status == "error":
            wrong.append(f"could not be judged: {mutant.name}: {outcome.by}")
        elif outcome.status == "survived" and mutant.name not in known:
            wrong.append(f"survived: {mutant.name}")
        elif outcome.status == "killed" and mutant.name in known:
            wrong.append(f"not equivalent, {outcome.by} notices it (remove its reason): {mutant.name}")
    if any(line.startswith("survived") for line in wrong):
        wrong.append(
            "for each survivor write a test that fails with it, or its reason in tests/mutants/equivalents.toml"
        )
    return wrong


def _summary(outcomes: Sequence[tuple[Mutant, Outcome]], seconds: float) -> None:
    known, count = reasons(), Counter(o.status for _, o in outcomes)
    explained = sum(o.status == "survived" and m.name in known for m, o in outcomes)
    derivatives = sum(o.by.startswith("check_derivatives") for _, o in outcomes)
    print(
        f"\n{len(outcomes)} mutants in {seconds:.0f} s: {count['killed']} killed ({derivatives} by check_derivatives), "
        f"{explained} equivalent with a reason, {count['survived'] - explained} unexplained survivors, "
        f"{count['error']} errors"
    )
