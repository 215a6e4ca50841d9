"""Interleaved timing of contenders that compute the same array, in one process, on one core, in CPU time."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Run = Callable[[], Any]
ROUND_S = 0.05  # a round repeats a fast contender for at least this long
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
JAX = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}


@dataclass(frozen=True)
class Row:
    """Seconds of one contender: first call (compilation included) and rounds; distance from the base, of ``tol``."""

    name: str
    first: float
    rounds: tuple[float, ...]
    difference: float
    tol: float

    @property
    def agrees(self) -> bool:
        return self.difference <= self.tol

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


def one_thread() -> dict[str, str]:
    """The environment of a process with one BLAS thread, in which JAX computes in float64 on the CPU."""
    one = dict.fromkeys(THREADS, "1")
    return {**os.environ, **one, **JAX}


def pin() -> None:
    """Keep this process, and the pools that libraries size by it, on one core; refuse other BLAS threads.

    JAX, which reads the environment when it is imported, will compute in float64 on the CPU.
    """
    if any(os.environ.get(name) != "1" for name in THREADS):
        sys.exit(f"set {', '.join(THREADS)} to 1 before Python starts; `make bench` does")
    os.environ.update(JAX)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def timed(run: Run, times: int) -> float:
    """CPU seconds per call: the least disturbed clock on a shared machine."""
    begin = time.process_time()
    for _ in range(times):
        run()
    return (time.process_time() - begin) / times


def compare(
    title: str, contenders: Mapping[str, Callable[[], Run]], *, tol: float, rounds: int
) -> dict[str, Row]:
    """Time the contenders round by round and print a table; the first one is the base.

    Each value is a factory: what it does before it returns the function is not timed. An ImportError, there or
    in the first call, skips the contender with a line. ``tol``: difference from the base, relative, max norm.
    """
    import numpy as np

    runs: dict[str, Run] = {}
    first: dict[str, float] = {}
    arrays: dict[str, Any] = {}
    for name, factory in contenders.items():
        try:
            run = factory()
            begin = time.perf_counter()
            arrays[name] = np.asarray(run())
        except ImportError as error:
            print(f"# {name}: skipped ({error})")
            continue
        first[name], runs[name] = time.perf_counter() - begin, run
    times = {name: max(1, int(ROUND_S / timed(run, 1))) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seconds[name].append(timed(run, times[name]))
    base = next(iter(arrays.values()))
    rows = {
        name: Row(
            name,
            first[name],
            tuple(seconds[name]),
            float(np.abs(arrays[name] - base).max() / np.abs(base).max()),
            tol,
        )
        for name in runs
    }
    _print(title, rows)
    return rows


def dgemm_rate(n: int = 1536) -> float:
    """Gflop/s of NumPy's matrix product: what the machine could do at best.

    Measured before any row, it also brings glibc's allocator into the state of a process that has used large
    arrays: blocks up to this size are kept, so that no row pays page faults for them at every call.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((n, n)), rng.standard_normal((n, n))
    return 2 * n**3 / min(timed(lambda: a @ b, 1) for _ in range(7)) / 1e9


def ratio(rows: Mapping[str, Row], name: str, base: str) -> float:
    """Median over the rounds of name's time / base's time in the same round."""
    pairs = zip(rows[name].rounds, rows[base].rounds, strict=True)
    return statistics.median(a / b for a, b in pairs)


def goal(rows: Mapping[str, Row], name: str, base: str, most: float) -> bool:
    """Print whether ``name`` takes at most ``most`` of the time of ``base``; False where not, or if they disagree."""
    if name not in rows or base not in rows:
        print(f"# goal not measured: {name!r} or {base!r} was skipped")
        return True
    if not (rows[name].agrees and rows[base].agrees):
        print(f"# goal not judged: {name!r} and {base!r} compute different things")
        return False
    found = ratio(rows, name, base)
    print(f"# {name} / {base} = {found:.3f}, goal <= {most}: {'met' if found <= most else 'MISSED'}")
    return found <= most


def _print(title: str, rows: Mapping[str, Row]) -> None:
    base = next(iter(rows))
    print(f"\n## {title}")
    print(
        f"{'contender':34s}{'first':>11s}{'median':>11s}{'min':>11s}{'x first row':>13s}{'rel. diff.':>12s}"
    )
    for row in sorted(rows.values(), key=lambda r: r.median):
        print(
            f"{row.name:34s}{_s(row.first):>11s}{_s(row.median):>11s}{_s(min(row.rounds)):>11s}"
            f"{ratio(rows, row.name, base):13.3f}{row.difference:12.1e}"
            + ("" if row.agrees else "   DISAGREES")
        )
    sys.stdout.flush()


def _s(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"


def machine(*distributions: str) -> str:
    """CPU model, cores and versions, in one line."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        cpu = models[0] if models else cpu
    found = [f"Python {platform.python_version()}"]
    for name in distributions:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return f"{cpu}, {os.cpu_count()} cores, one thread used; {', '.join(found)}"
