"""Judgements as data: one JSON object per claim (``schema.json``), the whole ledger, the terminal table."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.table import Table

from verification.hunt import Hunt, Outcome, canonical
from verification.model import Claim, Measurement
from verification.verdict import ControlResult, Judgement

SCHEMA = "refimpl-ledger-1"
_LONGEST = 60  # characters of an exact number; a longer fraction is shown by its nearest float
_COLOURS = {"holds": "green", "not refuted": "cyan", "refuted": "red", "loose": "yellow", "vacuous": "yellow"}


def entry(
    claim: Claim, judgement: Judgement, *, level: str, seed: int, options: Sequence[str] = ()
) -> dict[str, Any]:
    """The object of a claim judged in this run; ``options`` are the further options of its commands."""
    found = judgement.hunt
    return {
        **describe(claim),
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "level": level,
        "seed": seed,
        "rerun": True,
        "recorded": None,
        "instances": found.used,
        "rejected": found.rejected,
        "worst": _shown(found.worst),
        "worst_ratio": _ratio(found.worst),
        "lowered": judgement.lowered,
        "attained": None if judgement.attained is None else _finite(judgement.attained),
        "controls": [_control(control) for control in judgement.controls],
        "counterexample": _counterexample(claim, found, options),
        "corrected": _corrected(claim, judgement.correction),
        "command": shlex.join([*command(claim, options), "--level", level, "--seed", str(seed)]),
    }


def describe(claim: Claim) -> dict[str, Any]:
    """The part of the object that does not depend on any run."""
    return {
        "id": claim.id,
        "document": claim.document,
        "title": claim.title,
        "source": claim.source,
        "statement": claim.statement,
        "printed": claim.printed,
        "hypotheses": [{"name": hypothesis.name, "tex": hypothesis.tex} for hypothesis in claim.hypotheses],
        "grade": claim.grade,
        "registration": claim.registration,
        "notes": claim.notes,
    }


EVIDENCE = ("worst", "lowered", "attained", "controls", "counterexample", "corrected")


def not_rerun(
    claim: Claim,
    recorded: dict[str, Any] | None,
    evidence: dict[str, Any] | None = None,
    *,
    level: str,
    seed: int,
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """The object of a claim too dear for this level: its last full result with its evidence, or *undecided*."""
    last = recorded or {}
    shown = {name: evidence[name] for name in EVIDENCE} if last and evidence else {}
    return {
        **describe(claim),
        "verdict": last.get("verdict", "undecided"),
        "grade": last.get("grade", claim.grade),
        "reason": "" if last else "too dear for this level, and no full result is recorded",
        "level": level,
        "seed": seed,
        "rerun": False,
        "recorded": {name: last[name] for name in ("date", "versions", "reason") if name in last} or None,
        "instances": last.get("instances", 0),
        "rejected": last.get("rejected", 0),
        "worst": None,
        "worst_ratio": last.get("worst_ratio"),
        "lowered": None,
        "attained": None,
        "controls": [],
        "counterexample": None,
        "corrected": _corrected(claim, None),
        "command": shlex.join([*command(claim, options), "--level", "full", "--seed", str(seed)]),
        **shown,
    }


def command(claim: Claim, options: Sequence[str] = ()) -> list[str]:
    """The words of the command that runs this claim alone."""
    return ["python", "-m", "verification", *options, "--claim", claim.id]


def figure(judgement: Judgement) -> dict[str, Any]:
    """The data of the plot: the claim's curve, else allowed against observed, instance by instance."""
    if judgement.figure is not None:
        return {"kind": "curve", **judgement.figure}
    cloud = judgement.hunt.cloud
    return {"kind": "cloud", "allowed": [pair[0] for pair in cloud], "observed": [pair[1] for pair in cloud]}


def numbers(measurement: Measurement) -> dict[str, Any]:
    """A measurement as JSON: exact numbers as fractions, ``ratio`` null where the bound is 0 and exceeded."""
    return {
        "observed": _number(measurement.observed),
        "bound": _number(measurement.bound),
        "rounding": measurement.rounding,
        "exact": measurement.exact,
        "ratio": _finite(measurement.ratio),
        "used": _finite(measurement.used),
        "digits": None if measurement.digits is None else _finite(measurement.digits),
        "detail": {name: _number(value) for name, value in measurement.detail.items()},
    }


def ledger(
    entries: Iterable[dict[str, Any]], *, level: str, seed: int, versions: dict[str, str]
) -> dict[str, Any]:
    """The whole ledger; claims in the order of their ids."""
    claims = sorted(entries, key=lambda claim: claim["id"])
    return {"schema": SCHEMA, "level": level, "seed": seed, "versions": versions, "claims": claims}


def write(path: Path, data: Any) -> None:
    """Write ``data`` as JSON (sorted keys, floats by repr), atomically."""
    write_text(path, json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def table(claims: Iterable[dict[str, Any]], seconds: dict[str, float]) -> Table:
    """The terminal's view of the ledger."""
    grid = Table("claim", "verdict", "grade", title="ledger", title_style="bold", header_style="bold")
    for name in ("instances", "worst", "controls", "s"):
        grid.add_column(name, justify="right")
    for claim in claims:
        verdict = claim["verdict"] + ("" if claim["rerun"] else " (not rerun)")
        required = [control["as_required"] for control in claim["controls"]]
        cells = [claim["id"], f"[{_COLOURS.get(claim['verdict'], 'magenta')}]{verdict}[/]", claim["grade"]]
        cells += [str(claim["instances"]), slack(claim), f"{sum(required)}/{len(required)}"]
        grid.add_row(*cells, f"{seconds[claim['id']]:.1f}" if claim["id"] in seconds else "–")
    return grid


def slack(claim: Mapping[str, Any]) -> str:
    """The worst case in a few characters: digits of agreement, *exact*, or the share of what is allowed."""
    if claim["worst"] is None:
        return "–" if claim["worst_ratio"] is None else f"{claim['worst_ratio']:.3g}"
    worst = claim["worst"]["measured"]
    if worst["bound"] in (0, "0") and worst["observed"] in (0, "0"):
        return "exact"
    if worst["digits"] is not None:
        return f"{worst['digits']:.1f} digits"
    return "above 0" if worst["ratio"] is None else f"{worst['ratio']:.3g}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: Any) -> Any:
    """A JSON value: fractions as text while they are short, other objects by ``str``."""
    if isinstance(value, Fraction):
        text = str(value)
        with contextlib.suppress(OverflowError):  # a fraction beyond the floats keeps its text
            return text if len(text) <= _LONGEST else float(value)
        return text
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    try:
        return _finite(float(value))
    except (TypeError, ValueError):
        return str(value)


def _shown(outcome: Outcome | None) -> dict[str, Any] | None:
    if outcome is None or outcome.measurement is None:
        return None
    return {"params": outcome.params, "measured": numbers(outcome.measurement)}


def _ratio(outcome: Outcome | None) -> float | None:
    return None if outcome is None or outcome.measurement is None else _finite(outcome.measurement.ratio)


def _control(control: ControlResult) -> dict[str, Any]:
    measured = None if control.measurement is None else numbers(control.measurement)
    shown = {"params": control.params, "measured": measured}
    return {
        "name": control.name,
        "kind": control.kind,
        "as_required": control.as_required,
        "says": control.says,
        **shown,
    }


def _counterexample(claim: Claim, found: Hunt, options: Sequence[str]) -> dict[str, Any] | None:
    shown = _shown(found.counterexample)
    if shown is None:
        return None
    words = [*command(claim, options), "--instance", canonical(shown["params"])]
    return {**shown, "shrinks": found.shrinks, "command": shlex.join(words)}


def _corrected(claim: Claim, hunt: Hunt | None) -> dict[str, Any] | None:
    if claim.corrected is None:
        return None
    tried: dict[str, Any] = {"instances": None, "worst_ratio": None}
    if hunt is not None:
        tried = {"instances": hunt.used, "worst_ratio": _ratio(hunt.worst)}
    return {"statement": claim.corrected.tex, "proof": claim.corrected.proof, **tried}
