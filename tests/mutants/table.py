"""The table written by hand: what each formula of the core would look like with a known mistake in it.

The rows are data, ``table/*.toml``: in the definition ``target`` the text ``old``, found there once, becomes ``new``,
and one of ``tests`` must fail. ``formula`` says what is broken, in words or in the formula's own notation.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.model import Mutant
from tests.mutants.patch import install, replaced

FOLDER = Path(__file__).with_name("table")


@dataclass(frozen=True)
class Row:
    """One row."""

    name: str
    formula: str
    target: str
    old: str
    new: str
    tests: tuple[str, ...]

    def mutant(self) -> Mutant:
        def change() -> None:
            install(self.target, replaced(self.target, self.old, self.new))

        return Mutant(
            self.name, f"{self.formula}:  {self.old}  ->  {self.new}", self.target, change, self.tests
        )


def rows() -> list[Row]:
    """Every row, file by file."""
    files = sorted(FOLDER.glob("*.toml"))
    read = [row for file in files for row in tomllib.loads(file.read_text(encoding="utf-8"))["mutant"]]
    return [Row(**{**row, "tests": tuple(row["tests"])}) for row in read]


def mutants() -> list[Mutant]:
    """The rows as mutants."""
    return [row.mutant() for row in rows()]
