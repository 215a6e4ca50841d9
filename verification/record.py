"""``recorded.toml``: the verdicts that a run must reproduce; only ``--record REASON`` alters it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from refimpl.errors import BadInput
from verification.ledger import write_text

DEFAULT = Path(__file__).with_name("recorded.toml")
NOTHING = "nothing"  # what drift says was recorded where nothing was
_HEADER = """\
# The verdicts that `python -m verification` must reproduce, per level; only `--record REASON` writes it.
# Each entry keeps the reason of its last change; claims too dear for quick also keep their last full result.
"""

Record = dict[str, dict[str, dict[str, Any]]]


def load(path: Path = DEFAULT) -> Record:
    """Level -> claim id -> recorded fields; empty when there is no file; ``BadInput`` when it is not TOML."""
    if not path.exists():
        return {"quick": {}, "full": {}}
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        advice = "restore the file, or name another by --recorded"
        raise BadInput(
            f"{path} is not TOML", measured=error, required="recorded verdicts", advice=advice
        ) from error
    return {level: found.get(level, {}) for level in ("quick", "full")}


def expected(record: Record, claim_id: str, level: str, *, dear: bool) -> dict[str, Any] | None:
    """What ``claim_id`` must show at ``level``; a claim too dear for quick answers to its full result."""
    return record["full" if dear else level].get(claim_id)


def drift(record: Record, claims: Iterable[Mapping[str, Any]], level: str) -> list[tuple[str, str, str]]:
    """(id, recorded, found) wherever verdict or grade differ from the record or there is none."""
    changes = []
    for claim in claims:
        known = expected(record, claim["id"], level, dear=not claim["rerun"])
        now = f"{claim['verdict']} ({claim['grade']})"
        before = NOTHING if known is None else f"{known['verdict']} ({known['grade']})"
        if now != before:
            changes.append((claim["id"], before, now))
    return changes


def vanished(record: Record, known_ids: Iterable[str], level: str) -> list[str]:
    """Recorded ids of ``level`` that no registered claim bears any more."""
    return sorted(set(record[level]) - set(known_ids))


def updated(
    record: Record,
    claims: Iterable[Mapping[str, Any]],
    *,
    level: str,
    reason: str,
    dear: Iterable[str],
    known_ids: Iterable[str],
    date: str,
    versions: Mapping[str, str],
) -> Record:
    """The record after this run: changed claims take ``reason``, claims that no longer exist are dropped.

    At level full, claims of ``dear`` (too dear for quick) also keep this result, ``date`` and ``versions``.
    """
    alive, costly = set(known_ids), set(dear)
    new = {name: {key: value for key, value in rows.items() if key in alive} for name, rows in record.items()}
    for claim in claims:
        if not claim["rerun"]:
            continue
        known = new[level].get(claim["id"])
        now = {"verdict": claim["verdict"], "grade": claim["grade"]}
        changed = known is None or {name: known[name] for name in now} != now
        row = {**now, "reason": reason if changed or known is None else known["reason"]}
        if level == "full" and claim["id"] in costly:
            evidence = {name: claim[name] for name in ("instances", "rejected", "worst_ratio")}
            row |= {  # the reason is of this run: its commit must be found though nothing else may have changed
                "reason": reason,
                "date": date,
                "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
            }
            row |= {name: value for name, value in evidence.items() if value is not None}
        new[level][claim["id"]] = row
    return new


def evidence_path(path: Path) -> Path:
    """Where the evidence of claims too dear for quick lies: beside the record."""
    return path.with_name(f"{path.stem}_evidence.json")


def load_evidence(path: Path) -> dict[str, dict[str, Any]]:
    """Claim id -> {"claim": its object, "figure": data of its plot}, of the full run that recorded it."""
    beside = evidence_path(path)
    found: dict[str, dict[str, Any]] = json.loads(beside.read_text("utf-8")) if beside.exists() else {}
    return found


def save_evidence(
    path: Path, results: Mapping[str, Mapping[str, Any]], *, dear: Iterable[str], known_ids: Iterable[str]
) -> None:
    """Keep the results of these claims too, and drop those of claims that no longer exist."""
    alive, costly = set(known_ids), set(dear)
    fresh = {key: dict(value) for key, value in results.items() if key in costly}
    kept = {key: value for key, value in (load_evidence(path) | fresh).items() if key in alive}
    if kept or evidence_path(path).exists():
        text = json.dumps(kept, ensure_ascii=False, indent=1, sort_keys=True)
        write_text(evidence_path(path), f"{text}\n")


def save(record: Record, path: Path = DEFAULT) -> None:
    """Write the record: levels, ids and fields sorted."""
    lines = [_HEADER]
    for level in sorted(record):
        for claim_id, row in sorted(record[level].items()):
            lines.append(f"[{level}.{_text(claim_id)}]")
            lines += [f"{name} = {_text(value)}" for name, value in sorted(row.items())]
            lines.append("")
    write_text(path, "\n".join(lines))


def _text(value: Any) -> str:
    """A TOML value: JSON's strings and numbers are TOML's."""
    return json.dumps(value, ensure_ascii=False)
