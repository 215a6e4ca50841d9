"""Find the claims, judge them one by one or in processes, keep each result as it comes.

Every claim's seed is hashed from (seed, id), and a claim sees nothing of the others: any number of jobs, any
order and any interruption give the same results.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import json
import multiprocessing
import os
import pkgutil
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import refimpl
from refimpl.errors import BadInput
from verification import ledger
from verification.model import Claim
from verification.verdict import judge

CLAIMS = "verification.claims"
_PACKAGES = ("numpy", "scipy", "autograd", "python-flint", "hypothesis", "scikit-learn")


@dataclass(frozen=True)
class Registered:
    """A claim and its module: claims hold functions, so only their names travel between processes."""

    module: str
    claim: Claim


@dataclass(frozen=True)
class Task:
    """One claim to judge; ``fingerprint`` names everything that its result depends on."""

    module: str
    claim_id: str
    level: str
    seed: int
    options: tuple[str, ...]
    fingerprint: str


def discover(root: str = CLAIMS) -> dict[str, Registered]:
    """Every claim of the module ``root`` and of the modules below it, by id.

    A missing default root is empty. Raises ``BadInput`` when two claims share an id or ``CLAIMS`` holds
    something else; an error on importing a module is passed on.
    """
    found: dict[str, Registered] = {}
    for name in _modules(root):
        for claim in getattr(importlib.import_module(name), "CLAIMS", ()):
            if not isinstance(claim, Claim):
                raise BadInput(f"{name}.CLAIMS", measured=type(claim).__name__, required="Claim objects only")
            if claim.id in found:
                where = (found[claim.id].module, name)
                raise BadInput(
                    f"claim id {claim.id!r} is registered twice", measured=where, required="unique ids"
                )
            found[claim.id] = Registered(name, claim)
    return dict(sorted(found.items()))


def _modules(root: str) -> Iterator[str]:
    try:
        package = importlib.import_module(root)
    except ModuleNotFoundError as error:
        if error.name == root == CLAIMS:
            return
        raise
    yield root
    if hasattr(package, "__path__"):
        for module in pkgutil.walk_packages(package.__path__, f"{root}.", onerror=_reraise):
            yield module.name


def _reraise(_name: str) -> None:
    raise  # walk_packages calls this while it handles the import error, and would swallow it


def claim_seed(seed: int, claim_id: str) -> int:
    """The seed of one claim's hunts: the first 8 bytes of SHA-256 of ``seed`` and the id."""
    return int.from_bytes(hashlib.sha256(f"{seed} {claim_id}".encode()).digest()[:8])


def versions() -> dict[str, str]:
    """Python, machine and packages that a result depends on."""
    known = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "refimpl": refimpl.__version__,
    }
    for package in _PACKAGES:
        try:
            known[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            known[package] = "absent"
    return known


def fingerprint(module: str, *, level: str, seed: int) -> str:
    """Names the sources (claim's package, refimpl, verification), level, seed and versions of a result.

    Experiments and their registrations are sources of the modules whose claims have one.
    """
    return _fingerprints([module], level=level, seed=seed)[module]


def _fingerprints(modules: Iterable[str], *, level: str, seed: int) -> dict[str, str]:
    """The fingerprint of each module; every file is read once."""
    here = Path(__file__).parent
    content = functools.cache(lambda path: hashlib.sha256(path.read_bytes()).hexdigest())
    below = functools.cache(lambda folder: list(folder.rglob("*.py")))
    start = json.dumps([level, seed, versions()]).encode()
    shared = [
        *here.glob("*.py"),
        *(here / "claims").glob("*.py"),
        *(here / "printed").glob("*.py"),
        *Path(str(refimpl.__file__)).parent.rglob("*.py"),
    ]
    marks = {}
    for module in modules:
        source = Path(str(sys.modules[module].__file__))
        own = [*below(source.parent)] if module.startswith(f"{CLAIMS}.") else [source]
        if any(claim.registration for claim in getattr(sys.modules[module], "CLAIMS", ())):
            own += [path for path in (here / "experiments").iterdir() if path.suffix in (".py", ".toml")]
        lines = [f"{path.name} {content(path)}\n" for path in sorted({*shared, *own}, key=str)]
        marks[module] = hashlib.sha256(start + "".join(lines).encode()).hexdigest()
    return marks


def tasks(chosen: Sequence[Registered], *, level: str, seed: int, options: Sequence[str] = ()) -> list[Task]:
    """One task for each claim that has a budget at ``level``."""
    marks = _fingerprints({item.module for item in chosen}, level=level, seed=seed)
    affordable = [item for item in chosen if item.claim.budget.at(level) is not None]
    return [
        Task(item.module, item.claim.id, level, seed, tuple(options), marks[item.module])
        for item in affordable
    ]


def perform(task: Task) -> dict[str, Any]:
    """Judge one claim: its ledger object, the data of its plot, its fingerprint and the seconds it took."""
    start = time.perf_counter()
    claim = {claim.id: claim for claim in importlib.import_module(task.module).CLAIMS}[task.claim_id]
    budget = claim.budget.at(task.level)
    judged = judge(
        claim,
        budget=budget,
        seed=claim_seed(task.seed, claim.id),
        control_budget=claim.budget.quick,  # controls fail within the quick budget where there is one
    )
    return {
        "fingerprint": task.fingerprint,
        "claim": ledger.entry(claim, judged, level=task.level, seed=task.seed, options=task.options),
        "figure": ledger.figure(judged),
        "seconds": time.perf_counter() - start,
    }


def result_path(out: Path, claim_id: str) -> Path:
    """Where the result of one claim is kept."""
    return out / "results" / f"{claim_id}.json"


def reusable(task: Task, out: Path) -> dict[str, Any] | None:
    """The kept result of ``task``, if everything it depends on is unchanged."""
    path = result_path(out, task.claim_id)
    if not path.exists():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    return kept if kept.get("fingerprint") == task.fingerprint else None


def run(
    todo: Sequence[Task], *, out: Path, jobs: int, resume: bool
) -> Iterator[tuple[Task, dict[str, Any], bool]]:
    """Yield (task, result, reused) as each claim ends, each result written before it is yielded.

    Cost: one process per job beyond the first; a worker whose parent dies, even killed, ends itself.
    """
    kept = {task: reusable(task, out) if resume else None for task in todo}
    fresh = []
    for task, result in kept.items():
        if result is None:
            fresh.append(task)
        else:
            yield task, result, True
    for task, result in _perform_all(fresh, min(jobs, len(fresh))):
        ledger.write(result_path(out, task.claim_id), result)
        yield task, result, False


def _perform_all(fresh: Sequence[Task], jobs: int) -> Iterator[tuple[Task, dict[str, Any]]]:
    if jobs <= 1:
        yield from ((task, perform(task)) for task in fresh)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare_worker)
    try:
        pending = {pool.submit(perform, task): task for task in fresh}
        for future in as_completed(pending):
            yield pending[future], future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    pool.shutdown()


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
