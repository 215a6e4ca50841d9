"""What a mutant is, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["killed", "survived", "error"]


@dataclass(frozen=True)
class Mutant:
    """One change of one function or constant, and what must notice it.

    name: unique. formula: what is broken, in words. target: "package.module:Class.method".
    install: applies the change to the running process.
    tests: patterns of pytest node ids, see ``run.resolved``; at least one of these tests must fail.
    judge: a check tried before them; it raises ``Noticed`` where it notices, and its message says what noticed.
    """

    name: str
    formula: str
    target: str
    install: Callable[[], None] = field(repr=False)
    tests: tuple[str, ...] = ()
    judge: Callable[[], None] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Outcome:
    """killed ``by`` a test or check; survived; or error: the mutant or its tests could not be run (``by`` says why)."""

    status: Status
    by: str
    seconds: float


class Noticed(Exception):
    """Raised by a judge that tells the mutant from the original."""


class Unusable(Exception):
    """The mutant does not fit the source any more, or its tests do not run."""


def called(test: Callable[..., None], *parameters: object) -> None:
    """Run a test without pytest; ``Noticed`` where it fails."""
    try:
        test(*parameters)
    except Exception as error:
        raise Noticed(f"{test.__name__}[{'-'.join(map(str, parameters))}]") from error
