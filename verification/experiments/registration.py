"""Registrations: what an experiment asks, runs and decides by, in a file that is committed before the result is."""

from __future__ import annotations

import functools
import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refimpl.errors import BadInput

FOLDER = Path(__file__).parent
CLONE = FOLDER.parents[1]
RECORDED = "verification/recorded.toml"
HEADER = re.compile(r'\[(?P<level>\w+)\."(?P<claim>[^"]+)"\]')
REQUIRED = ("question", "data", "seeds", "networks", "algorithm", "statistic", "decision", "pilot")


@dataclass(frozen=True)
class Registration:
    """The content of ``<name>.toml``; ``path`` is relative to the clone, with slashes."""

    name: str
    content: dict[str, Any]

    @property
    def path(self) -> str:
        return f"{FOLDER.relative_to(CLONE).as_posix()}/{self.name}.toml"

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.content["seeds"])


@functools.cache  # a file that is not changed while its experiment runs
def load(name: str) -> Registration:
    """The registration of that name; ``BadInput`` when something that it must fix is missing."""
    with (FOLDER / f"{name}.toml").open("rb") as file:
        content = tomllib.load(file)
    if missing := [key for key in REQUIRED if key not in content]:
        raise BadInput(
            f"{name}.toml registers too little",
            measured=f"no {', '.join(missing)}",
            required=", ".join(REQUIRED),
            advice="what is not fixed before the run may be chosen after it",
        )
    if shared := sorted(set(content["seeds"]) & set(content["pilot"]["seeds"])):
        raise BadInput(
            f"{name}.toml registers seeds that its pilot runs have seen",
            measured=shared,
            required="disjoint seeds",
            advice="register seeds that nothing has been tried on",
        )
    return Registration(name, content)


@dataclass(frozen=True)
class Commit:
    """A commit's full hash and its author's date, YYYY-MM-DD."""

    id: str
    date: str

    @property
    def short(self) -> str:
        return self.id[:12]


@dataclass(frozen=True)
class History:
    """The commit that last changed a registration, and the one that recorded the claim's result; None: there is none.

    ``unknown`` says why nothing can be known (no clone, no git), else it is empty; ``changed``: the file differs from
    its last commit.
    """

    registered: Commit | None = None
    recorded: Commit | None = None
    changed: bool = False
    unknown: str = ""


def history(path: str, claim_id: str, *, clone: Path = CLONE) -> History:
    """Asks git in ``clone``; two processes, some milliseconds each, and what all claims share once per commit."""
    if not (clone / ".git").exists():
        return History(unknown="this is no git clone")
    try:
        head = _git(clone, "rev-parse", "HEAD")
        changed = bool(_git(clone, "status", "--porcelain", "--", path))
        return History(_registered(clone, head, path), _record(clone, head).get(claim_id), changed)
    except (OSError, subprocess.CalledProcessError) as error:
        return History(unknown=f"git cannot be asked: {error}")


@functools.cache
def _registered(clone: Path, head: str, path: str) -> Commit | None:
    """The commit that last changed the file."""
    return next(iter(_commits(clone, head, "-1", "--", path)), None)


@functools.cache
def _record(clone: Path, head: str) -> dict[str, Commit]:
    """Of each claim with a full result in the record, the commit that last changed a line of it."""
    if not _git(clone, "ls-tree", head, "--", RECORDED):
        return {}
    newest_first = _commits(clone, head, "--full-history", "--", RECORDED)
    age = {commit.id: i for i, commit in enumerate(newest_first)}
    youngest: dict[str, int] = {}
    own = None  # the claim whose entry the lines belong to
    for line in _git(clone, "blame", "--root", "-s", "-l", head, "--", RECORDED).splitlines():
        commit, _, text = line.partition(" ")
        text = text.partition(") ")[2]
        if header := HEADER.fullmatch(text):
            own = header["claim"] if header["level"] == "full" else None
        if own is not None and text:
            i = age[commit]
            youngest[own] = min(i, youngest.get(own, i))
    return {claim: newest_first[i] for claim, i in youngest.items()}


def is_ancestor(first: Commit, second: Commit, *, clone: Path = CLONE) -> bool:
    """Whether ``second`` came after ``first``."""
    done = subprocess.run(
        ["git", "merge-base", "--is-ancestor", first.id, second.id],
        cwd=clone,
        check=False,
        capture_output=True,
    )
    return done.returncode == 0 and first.id != second.id


def _commits(clone: Path, *selection: str) -> list[Commit]:
    """The newest first."""
    return [Commit(*line.split()) for line in _git(clone, "log", "--format=%H %as", *selection).splitlines()]


def _git(clone: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=clone, check=True, capture_output=True, text=True)
    return done.stdout.strip()
