"""Coverage: every element of the five documents, where it lives, and what the ledger says of it.

``python -m verification.coverage --write`` renders ``coverage.toml`` to ``docs/coverage.md`` and
``docs/stand-ins.md``; ``--check`` fails on a row that answers to nothing, on a claim that no row names, and
on a page that is out of date.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from refimpl.errors import BadInput
from verification import record
from verification.runner import discover

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = {
    "dropout-bilevel": "Dropout methods for bilevel training task",
    "improved-bilevel": "Improved bilevel model",
    "dropout-flatness": "Dropout in training neural networks: flatness of solution and noise structure",
    "reweighting": "Learning to reweight and bilevel optimization",
    "contraction": "Bilevel optimization with a lower-level contraction",
}
KINDS = ("system", "algorithm", "claim", "figure", "table", "dataset", "baseline")
REASONS = ("data not distributable", "hardware", "text lost")
NOT_YET = "not yet"
LEVELS = ("quick", "full")

Claims = Mapping[str, str]  # claim id -> the module that registers it, as a path from the root
Verdicts = Mapping[str, Mapping[str, str]]  # claim id -> level -> verdict with its grade
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """A data set of the documents, what runs here in its place, and how to run the original."""

    name: str
    title: str
    here: str
    original: str
    runs: str = ""
    loader: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One element of a document; ``coverage.toml`` says what each field means."""

    id: str
    document: str
    kind: str
    title: str
    claims: tuple[str, ...] = ()
    where: str = ""
    status: str = ""
    reason: str = ""
    instead: str = ""
    stand_in: str = ""

    def found(self, claims: Claims) -> list[str]:
        """The registered claims that judge this element, sorted."""
        return sorted(claim for claim in claims if any(names(pattern, claim) for pattern in self.claims))

    def missing(self, claims: Claims) -> list[str]:
        """The patterns of this row that no registered claim answers to."""
        return [pattern for pattern in self.claims if not any(names(pattern, claim) for claim in claims)]

    def unfinished(self, claims: Claims) -> bool:
        """Whether the row is marked "not yet" and something of it is indeed not there."""
        return self.status == NOT_YET and (not self.claims or bool(self.missing(claims)))

    def standing(self, claims: Claims) -> str:
        """How the element stands in the summary: judged, judged in part, explained, or not yet."""
        if self.unfinished(claims):
            return "judged in part" if self.found(claims) else NOT_YET
        return "judged" if self.claims else "explained"


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """All rows and stand-ins, in the order of the file."""

    rows: tuple[Row, ...]
    stand_ins: Mapping[str, StandIn]


def names(pattern: str, claim: str) -> bool:
    """Whether ``pattern`` stands for ``claim``: equal, a reading ``pattern@…`` of it, or a glob's match."""
    return claim.startswith(pattern + "@") or fnmatchcase(claim, pattern)


def load(path: Path) -> Coverage:
    """Read ``coverage.toml``; raises BadInput at an unknown array, an unknown or absent key, a wrong type."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    tables = data.pop("stand-in", {})
    stand_ins = {name: _build(StandIn, {"name": name, **entry}) for name, entry in tables.items()}
    if unknown := sorted(data.keys() - DOCUMENTS.keys()):
        advice = "file the row under one of the five documents"
        raise BadInput("unknown arrays", measured=unknown, required=list(DOCUMENTS), advice=advice)
    entries = [{**entry, "document": document} for document in data for entry in data[document]]
    return Coverage(rows=tuple(_build(Row, entry) for entry in entries), stand_ins=stand_ins)


def _build(kind: type[T], entry: Mapping[str, Any]) -> T:
    """Make a Row or a StandIn of a TOML table, whose keys are spelt with hyphens."""
    values = {key.replace("-", "_"): value for key, value in entry.items()}
    claims = values.pop("claims", [])
    if not isinstance(claims, list) or any(not isinstance(text, str) for text in [*claims, *values.values()]):
        advice = "every key is a line of text, `claims` a list of them"
        raise BadInput(f"a {kind.__name__} is not made of text", measured=dict(entry), advice=advice)
    if claims:
        values["claims"] = tuple(claims)
    try:
        return kind(**values)
    except TypeError as error:  # the message names the key that is unknown or absent
        advice = f"{error}; the head of the file lists the keys"
        raise BadInput(
            f"a {kind.__name__} is not well formed", measured=dict(entry), advice=advice
        ) from error


def registered() -> dict[str, str]:
    """Every registered claim: its id -> the path of its module. What hinders the ledger hinders this too."""
    return {name: _path(entry.module) for name, entry in discover().items()}


def _path(module: str) -> str:
    return Path(str(sys.modules[module].__file__)).relative_to(ROOT).as_posix()


def recorded(root: Path = ROOT) -> dict[str, dict[str, str]]:
    """The recorded verdicts: claim id -> level -> "verdict (grade)"; empty while nothing is recorded."""
    verdicts: dict[str, dict[str, str]] = {}
    for level, entries in record.load(root / "verification" / "recorded.toml").items():
        for claim, entry in entries.items():
            verdicts.setdefault(claim, {})[level] = f"{entry['verdict']} ({entry['grade']})"
    return verdicts


def problems(coverage: Coverage, claims: Claims, verdicts: Verdicts, root: Path = ROOT) -> list[str]:
    """All that is wrong between rows, registered claims, recorded verdicts and files, one sentence each."""
    uses = Counter(row.id for row in coverage.rows)
    found = [f"row {name}: the id is used {count} times" for name, count in uses.items() if count > 1]
    for row in coverage.rows:
        found += [f"row {row.id}: {sentence}" for sentence in _faults(row, claims, coverage.stand_ins, root)]
    for claim in sorted(claims):
        if not any(names(pattern, claim) for row in coverage.rows for pattern in row.claims):
            found.append(
                f"claim {claim}: no row names it; add it to the element of a document that it judges"
            )
    for claim in sorted(verdicts.keys() - claims.keys()):
        found.append(f"claim {claim}: its verdict is recorded, but no module registers it any more")
    return found


def _faults(row: Row, claims: Claims, stand_ins: Mapping[str, StandIn], root: Path) -> list[str]:
    """What is wrong with one row."""
    faults = []
    if not row.id.startswith(row.document + "/") or not row.title.strip():
        faults.append("its id must begin with its document, and its title must say something")
    if row.kind not in KINDS:
        faults.append(f"its kind {row.kind!r} is none of {', '.join(KINDS)}")
    if row.status not in ("", NOT_YET):
        faults.append(f'its status {row.status!r} is not "{NOT_YET}"')
    if not (row.claims or row.reason or row.status):
        faults.append(f'it has neither a claim, nor a reason, nor "{NOT_YET}"')
    if row.reason and row.reason not in REASONS:
        faults.append(f"its reason {row.reason!r} is none of {', '.join(REASONS)}")
    if bool(row.reason) != (bool(row.instead) or bool(row.stand_in)) or (row.instead and row.stand_in):
        faults.append("a reason comes with one of `instead` and `stand-in`, and these only with a reason")
    if row.status != NOT_YET:
        faults += [f'{name} is neither registered nor marked "{NOT_YET}"' for name in row.missing(claims)]
    if row.kind == "dataset" and not row.stand_in:
        faults.append("a data set names its stand-in")
    paths = [row.where]
    if row.stand_in and row.stand_in not in stand_ins:
        faults.append(f"there is no [stand-in.{row.stand_in}]")
    elif row.stand_in:
        paths += [stand_ins[row.stand_in].runs, stand_ins[row.stand_in].loader]
        if not stand_ins[row.stand_in].runs and row.status != NOT_YET:
            faults.append(f'nothing runs in place of {row.stand_in} yet, so the row must say "{NOT_YET}"')
    faults += [f"{path} does not exist" for path in paths if path and not (root / path).is_file()]
    return faults


def pages(coverage: Coverage, claims: Claims, verdicts: Verdicts) -> dict[str, str]:
    """The generated pages: path from the root -> text. The same arguments give the same bytes."""
    return {
        "docs/coverage.md": _coverage_page(coverage, claims, verdicts),
        "docs/stand-ins.md": _stand_ins_page(coverage),
    }


def _coverage_page(coverage: Coverage, claims: Claims, verdicts: Verdicts) -> str:
    standings = ("judged", "judged in part", "explained", NOT_YET)
    counts = {
        document: Counter(row.standing(claims) for row in coverage.rows if row.document == document)
        for document in DOCUMENTS
    }
    summary = [
        [f"[{document}](#{document})", sum(count.values()), *(count[standing] for standing in standings)]
        for document, count in counts.items()
    ]
    parts = [
        "# Coverage",
        "Generated by `python -m verification.coverage --write` from `verification/coverage.toml`, the "
        "registered claims and the recorded verdicts. Do not edit.",
        "Every system, algorithm, numbered statement, figure, table, data set and baseline of the five "
        "documents, and the statements that they make without a number; in reading order, experiments and "
        "data last. *Judged*: the ledger executes claims on it; [verdicts.md](verdicts.md) has the words. "
        "*Explained*: it cannot run as it stands, for a reason from a closed list, and what runs instead is "
        "named; [stand-ins.md](stand-ins.md) has the data sets. *Not run*: the claim exists, and no verdict "
        "is recorded.",
        _table(["document", "elements", *standings], summary),
    ]
    for document, name in DOCUMENTS.items():
        lines = [_line(row, coverage, claims, verdicts) for row in coverage.rows if row.document == document]
        parts += [f"## {document}", f"*{name}*"]
        parts.append(_table(["element", "kind", "what it is", "lives in", "verdict"], lines))
    return "\n\n".join(parts) + "\n"


def _line(row: Row, coverage: Coverage, claims: Claims, verdicts: Verdicts) -> list[str]:
    """The cells of one row."""
    found = row.found(claims)
    cells = [f"`{_short(claim, row)}` {_verdict(verdicts.get(claim, {}))}" for claim in found]
    paths = [row.where, *(claims[claim] for claim in found)]
    if row.unfinished(claims):
        missing = ", ".join(f"`{_short(pattern, row)}`" for pattern in row.missing(claims))
        cells.append(f"{NOT_YET}: {missing}" if missing else NOT_YET)
    if row.reason:
        planned = "planned" if row.unfinished(claims) else "here"
        instead = row.instead
        if row.stand_in:
            data = coverage.stand_ins[row.stand_in]
            instead = f"{data.here} ([stand-ins](stand-ins.md))"
            paths += [data.runs, data.loader]
        cells.append(f"{row.reason}; {planned}: {instead}")
    lives = "<br>".join(f"`{path}`" for path in dict.fromkeys(paths) if path) or "–"
    return [f"`{_short(row.id, row)}`", row.kind, row.title, lives, "<br>".join(cells)]


def _short(claim: str, row: Row) -> str:
    return claim.removeprefix(row.document + "/")


def _verdict(levels: Mapping[str, str]) -> str:
    """One phrase for a claim's recorded verdicts: one if full does not differ, else each level."""
    if not levels:
        return "*not run*"
    if set(levels.values()) == {levels.get("quick")}:
        return f"**{levels['quick']}**"
    return ", ".join(f"**{levels[level]}** ({level})" for level in LEVELS if level in levels)


def _stand_ins_page(coverage: Coverage) -> str:
    lines = []
    for name, data in coverage.stand_ins.items():
        uses = [f"{row.document}: {row.title}" for row in coverage.rows if row.stand_in == name]
        here = f"{data.here} (`{data.runs}`)" if data.runs else f"{NOT_YET}; planned: {data.here}"
        original = f"{data.original} (`{data.loader}`)" if data.loader else data.original
        lines.append([data.title, "<br>".join(uses), here, original])
    parts = [
        "# Stand-ins for the documents' data",
        "Generated by `python -m verification.coverage --write`. Do not edit.",
        "None of the documents' data sets is shipped with this project, and nothing is fetched when it runs. "
        "What runs here is small: it shows what a statement says, not what a large network scores. Loaders "
        "read files that are already on the disk, without pickle.",
        _table(["the documents' data", "used as", "what runs here", "how to run the original"], lines),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[object], lines: Iterable[Sequence[object]]) -> str:
    table = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in table)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def main(argv: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Write or check the pages; returns 1, after a line for each thing that is wrong, if anything is."""
    parser = argparse.ArgumentParser(prog="python -m verification.coverage", description=__doc__)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--write", action="store_true", help="write docs/coverage.md and docs/stand-ins.md")
    group.add_argument("--check", action="store_true", help="fail if a row is wrong or a page is out of date")
    options = parser.parse_args(argv)
    coverage = load(root / "verification" / "coverage.toml")
    claims, verdicts = registered(), recorded(root)
    found = problems(coverage, claims, verdicts, root)
    if not found:
        found = _write_or_compare(pages(coverage, claims, verdicts), root, write=options.write)
    for problem in found:
        print(problem, file=sys.stderr)
    for row in coverage.rows:
        if row.status == NOT_YET and not row.unfinished(claims):
            print(f'row {row.id}: all its claims are registered, its mark "{NOT_YET}" may go')
    return int(bool(found))


def _write_or_compare(texts: Mapping[str, str], root: Path, *, write: bool) -> list[str]:
    """Write the pages, or name those whose file differs."""
    stale = []
    for name, text in texts.items():
        path = root / name
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(f"{name} is out of date: run `python -m verification.coverage --write`")
    return stale


if __name__ == "__main__":
    sys.exit(main())
