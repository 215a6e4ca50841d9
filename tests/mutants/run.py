"""Running mutants: each in a process of its own, forked from one that has imported everything."""

from __future__ import annotations

import contextlib
import io
import itertools
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import pytest

from tests.mutants.model import Mutant, Noticed, Outcome, Unusable

LIMIT = 60.0  # seconds until a mutant that hangs counts as killed
# the assertions of what the parent has imported already need no rewriting
QUIET = ("-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")


class _Watcher:
    """A pytest plugin that runs these tests, in this order, and remembers what failed."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.place = {test: i for i, test in enumerate(tests)}
        self.failed: list[str] = []
        self.passed: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.place), key=lambda item: self.place[item.nodeid]
        )

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed.add(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.failed.append(f"collection of {report.nodeid}")


def failures(tests: Sequence[str], most: int = 1) -> list[str]:
    """Those of the tests that fail, ``most`` at most. Raises ``Unusable`` where none runs."""
    watcher, said = _Watcher(tests), io.StringIO()
    functions = dict.fromkeys(test.partition("[")[0] for test in tests)  # ids of parameters may hold anything
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main(
            [*QUIET, "--no-header", "--no-summary", f"--maxfail={most}", *functions], plugins=[watcher]
        )
    if watcher.failed:
        return watcher.failed
    if code != pytest.ExitCode.OK or not watcher.passed:
        raise Unusable(
            f"pytest ends with {code!r} and {len(watcher.passed)} passed: {said.getvalue()[-300:]}"
        )
    return []


class _Collector:
    """A pytest plugin that remembers what there is."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.found = [item.nodeid for item in items if not item.get_closest_marker("gpu")]


def collected(files: Sequence[str]) -> list[str]:
    """The node ids of all tests in these files, imported here so that every process forked later has them."""
    collector, said = _Collector(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main([*QUIET, "--collect-only", *files], plugins=[collector])
    if code != pytest.ExitCode.OK:
        raise Unusable(f"the tests cannot be collected: {said.getvalue()[-2000:]}")
    return collector.found


def resolved(patterns: Sequence[str], ids: Sequence[str]) -> tuple[str, ...]:
    """The ids that the patterns name, in the patterns' order: files, tests, or ids, in which * is anything."""
    found: dict[str, None] = {}
    for pattern in patterns:
        fits = re.compile(re.escape(pattern).replace(r"\*", ".*") + r"($|::|\[)")
        these = [i for i in ids if fits.match(i)]
        if not these:
            raise Unusable(f"no test is named {pattern}")
        found.update(dict.fromkeys(these))
    return tuple(found)


def judged(mutant: Mutant) -> tuple[str, str]:
    """Apply the mutant to this process and see who notices: (status, by)."""
    mutant.install()
    if mutant.judge is not None:
        try:
            mutant.judge()
        except Noticed as seen:
            return "killed", str(seen)
    for _, tests in itertools.groupby(mutant.tests, key=lambda test: test.partition("::")[0]):
        if failed := failures(list(tests)):  # file by file: what the first one kills needs no other collected
            return "killed", failed[0]
    return "survived", ""


def _child(connection: Connection, work: Callable[[], Any]) -> None:
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    try:
        connection.send(work())
    except Unusable as error:
        connection.send(("error", str(error)))
    except BaseException as error:  # the machinery itself failed: never a verdict on the mutant
        connection.send(("error", f"{type(error).__name__}: {error}"))


def in_forks(
    works: Sequence[Callable[[], Any]], jobs: int, limit: float = LIMIT
) -> Iterator[tuple[int, Any, float]]:
    """(index, what the work returned, seconds) as each ends; the answer is "timeout" for one that had to be stopped."""
    context = multiprocessing.get_context("fork")
    running: dict[Any, tuple[int, Any, float]] = {}
    queue = iter(enumerate(works))
    waiting = True
    while running or waiting:
        while waiting and len(running) < jobs:
            following = next(queue, None)
            if following is None:
                waiting = False
                break
            index, work = following
            receive, send = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(send, work))
            process.start()
            send.close()
            running[receive] = (index, process, time.monotonic())
        if not running:
            return
        ready = wait(list(running), timeout=1.0)
        for connection in list(running):
            index, process, since = running[connection]
            seconds = time.monotonic() - since
            if connection in ready:
                try:
                    answer = connection.recv()
                except EOFError:
                    process.join()
                    answer = ("killed", f"the process died (exit code {process.exitcode})")
            elif seconds > limit:
                answer = ("killed", f"timeout of {limit:g} s")
                os.kill(process.pid, signal.SIGKILL)
            else:
                continue
            process.join()
            connection.close()
            del running[connection]
            yield index, answer, seconds


def run(mutants: Sequence[Mutant], jobs: int = 1, limit: float = LIMIT) -> Iterator[tuple[Mutant, Outcome]]:
    """Judge each mutant in its own process; results come as they end."""

    def work(mutant: Mutant) -> Callable[[], Any]:
        return lambda: judged(mutant)

    for index, (status, by), seconds in in_forks([work(m) for m in mutants], jobs, limit):
        yield mutants[index], Outcome(status, by, seconds)


def baseline(mutants: Sequence[Mutant]) -> list[str]:
    """The tests and checks that fail, or cannot run, without any mutant: they cannot judge one."""
    tests = tuple({t: None for m in mutants for t in m.tests})
    judges = {m.judge: None for m in mutants if m.judge is not None}

    def work() -> list[str]:
        try:
            wrong = failures(tests, len(tests)) if tests else []
        except Unusable as error:
            wrong = [str(error)]
        for judge in judges:
            try:
                judge()
            except Noticed as seen:
                wrong.append(str(seen))
        return wrong

    ((_, answer, _),) = list(in_forks([work], 1, 10 * LIMIT))
    return list(answer)
