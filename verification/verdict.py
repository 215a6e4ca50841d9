"""From hunts and controls to the vocabulary of docs/verdicts.md: holds, not refuted, refuted, loose, …"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from verification.hunt import CLOUD, Broken, Hunt, Outcome, canonical, evaluate, hunt, strictly
from verification.model import Claim, Control, Measurement, Verdict

LOWERED = 0.9  # a bound that is not refuted must be refuted at this share of the worst case found
LOOSE = 1e-2  # above this worst ratio a mutated constant can break the bound, so "loose" is no excuse


@dataclass(frozen=True)
class ControlResult:
    """What a control did; ``as_required``: it failed (the correction: it passed), as it must."""

    name: str
    kind: str  # "hypothesis", "formula" or "correction"
    as_required: bool
    says: str
    params: dict[str, Any] | None = None
    measurement: Measurement | None = None


@dataclass(frozen=True)
class Judgement:
    """The verdict on one claim with everything it rests on; ``reason`` is empty when the verdict needs none.

    ``lowered`` is the factor at which the same hunt refuted the bound, ``attained`` the share of the bound
    reached in the equality case, ``correction`` the hunt of the corrected statement, ``figure`` the data of
    the plot.
    """

    verdict: Verdict
    reason: str
    hunt: Hunt
    controls: tuple[ControlResult, ...] = ()
    lowered: float | None = None
    attained: float | None = None
    correction: Hunt | None = None
    figure: dict[str, Any] | None = None


def judge(claim: Claim, *, budget: int, seed: int, control_budget: int | None = None) -> Judgement:
    """Hunt the claim with ``budget`` generated instances and judge it; controls have ``control_budget`` (same
    default).

    Never raises for what a claim does: an error in its code is the verdict *undecided*, its text the reason.
    """
    memo: dict[str, Outcome] = {}
    found = hunt(claim.measure, claim, budget=budget, seed=seed, memo=memo)
    if found.error:
        return Judgement("undecided", f"error: {found.error}", found)
    shown = found.counterexample or found.worst
    if shown is None:
        reason = f"no valid instance: all {found.rejected} instances tried break a hypothesis"
        return Judgement("undecided", reason, found)
    draft = Judgement("undecided", "", found)
    try:
        again = evaluate(claim, claim.measure, canonical(shown.params)).measurement
        if again is None or _numbers(again) != _numbers(shown.measurement):
            return replace(draft, reason="the measure is not a function of its parameters: two runs differ")
        draft = replace(draft, figure=_figure(claim, shown))
        trials = control_budget or budget
        controls = tuple(_control(claim, control, trials, seed) for control in claim.controls)
        draft = replace(draft, controls=controls)
        if found.counterexample is not None:
            return _refuted(claim, draft, found.counterexample, budget, seed)
        return _passed(claim, draft, shown, budget, seed, memo)
    except Broken as error:
        return replace(draft, reason=f"error: {error}")


def _refuted(claim: Claim, draft: Judgement, counterexample: Outcome, budget: int, seed: int) -> Judgement:
    """*refuted* when the corrected statement passes where the stated one fails, else *undecided*."""
    if claim.corrected is None:
        reason = "violated, and no corrected statement shows that the statement fails and not its measure"
        return replace(draft, reason=reason)
    mended = evaluate(claim, claim.corrected.measure, canonical(counterexample.params)).measurement
    passes = mended is not None and mended.holds
    says = "passes" if passes else "fails too"
    name = "corrected statement on the counterexample"
    correction = ControlResult(name, "correction", passes, says, counterexample.params, mended)
    draft = replace(draft, controls=(correction, *draft.controls))
    if not passes:
        return replace(draft, reason="the corrected statement fails on the same counterexample")
    memo: dict[str, Outcome] = {}
    tried = hunt(claim.corrected.measure, claim, budget=budget, seed=seed, memo=memo)
    found = replace(draft.hunt, cloud=_cloud(claim, memo))
    draft = replace(draft, correction=tried, hunt=found)
    if tried.error:
        return replace(draft, reason=f"error in the corrected statement: {tried.error}")
    if tried.counterexample is not None:
        reason = f"the corrected statement is violated at {canonical(tried.counterexample.params)}"
        return replace(draft, reason=reason)
    idle = [control.name for control in draft.controls if not control.as_required]
    if idle:
        return replace(draft, reason=f"violated, but these controls do not fail: {', '.join(idle)}")
    return replace(draft, verdict="refuted")


def _passed(
    claim: Claim, draft: Judgement, worst: Outcome, budget: int, seed: int, memo: dict[str, Outcome]
) -> Judgement:
    """*holds* or *not refuted* when every control fails as it must, else *loose* or *vacuous*."""
    measurement = worst.measurement
    assert measurement is not None  # an outcome becomes the worst only by its measurement
    complaints = list(_missing(claim))
    if claim.equality is not None:
        reached = evaluate(claim, claim.measure, canonical(claim.equality.params))
        if reached.measurement is None:
            raise Broken(f"the equality case breaks {_names(reached)}")
        draft = replace(draft, attained=reached.measurement.used)
        if not reached.measurement.used >= claim.equality.reaches:
            share = f"{reached.measurement.used:.3g} of the bound, not {claim.equality.reaches:.3g}"
            complaints.append(f"the equality case reaches {share}")
    if claim.complete is None and not measurement.identity:
        draft, complaint = _lowered(claim, draft, measurement, budget, seed, memo)
        complaints += complaint
    idle = [control for control in draft.controls if not control.as_required]
    unfailed = [f"control {control.name!r}: {control.says}" for control in idle]
    if complaints:
        return replace(draft, verdict="vacuous", reason="; ".join(complaints + unfailed))
    formulas_only = all(control.kind == "formula" for control in idle)
    if idle and claim.loose and measurement.ratio < LOOSE and formulas_only:
        return replace(draft, verdict="loose", reason=claim.loose)
    if idle:
        return replace(draft, verdict="vacuous", reason="; ".join(unfailed))
    return replace(draft, verdict="holds" if claim.complete else "not refuted", reason=claim.complete or "")


def _missing(claim: Claim) -> Iterator[str]:
    """The controls that a passing claim owes: a mutated formula and, if it has hypotheses, a broken one."""
    kinds = {control.kind for control in claim.controls}
    if "formula" not in kinds:
        yield "no control mutates the formula"
    if claim.hypotheses and "hypothesis" not in kinds:
        yield "no control breaks a hypothesis"


def _lowered(
    claim: Claim, draft: Judgement, worst: Measurement, budget: int, seed: int, memo: dict[str, Outcome]
) -> tuple[Judgement, list[str]]:
    """The same hunt against the bound with its constant lowered by 10 % below the worst case found."""
    if worst.used <= 0:
        return draft, ["no instance rises above its rounding: the bound was never tested"]
    factor = LOWERED * worst.used
    lowered = hunt(claim.measure, claim, budget=budget, seed=seed, factor=factor, shrink=False, memo=memo)
    if lowered.counterexample is None:
        return draft, [f"the same hunt does not refute {factor:.3g} times the bound"]
    return replace(draft, lowered=factor), []


def _control(claim: Claim, control: Control, budget: int, seed: int) -> ControlResult:
    """Run one control: on its own instance when it names one, else by the same hunt; raises ``Broken``."""
    measure = control.measure or claim.measure
    breaking = control.kind == "hypothesis"
    if control.params is not None:
        outcome = evaluate(claim, measure, canonical(control.params), breaking=breaking)
        if outcome.measurement is None:
            says = (
                f"its instance breaks {_names(outcome)}"
                if outcome.broken
                else "its instance breaks no hypothesis"
            )
            return ControlResult(control.name, control.kind, False, says, outcome.params)
        failed = not outcome.measurement.holds
        says = "violates the statement" if failed else "satisfies the statement"
        if breaking:
            says = f"breaks {_names(outcome)} and {says}"
        return ControlResult(control.name, control.kind, failed, says, outcome.params, outcome.measurement)
    options: dict[str, Any] = {"strategy": control.strategy, "breaking": breaking, "shrink": False}
    found = hunt(measure, claim, budget=budget, seed=seed, **options)
    if found.error:
        raise Broken(f"control {control.name!r}: {found.error}")
    counterexample = found.counterexample
    if counterexample is None:
        says = f"not refuted by {found.used} instances"
        return ControlResult(control.name, control.kind, False, says)
    says = f"{'outside the hypotheses, ' if breaking else ''}violated by instance {found.used}"
    return ControlResult(
        control.name, control.kind, True, says, counterexample.params, counterexample.measurement
    )


def _cloud(claim: Claim, memo: dict[str, Outcome]) -> tuple[tuple[float, float], ...]:
    """The refuted statement on the instances that the corrected one passed: its own hunt stopped early."""
    pairs = []
    for key in [key for key, outcome in memo.items() if outcome.measurement is not None][:CLOUD]:
        with contextlib.suppress(Broken):  # a wrong formula may fail to evaluate at all elsewhere
            measurement = evaluate(claim, claim.measure, key).measurement
            if measurement is not None:
                pairs.append(measurement.pair)
    return tuple(pairs)


def _names(outcome: Outcome) -> str:
    return " and ".join(f"“{name}” (measured {measured})" for name, measured in outcome.broken)


def _numbers(measurement: Measurement | None) -> tuple[Any, ...]:
    return () if measurement is None else (measurement.observed, measurement.bound, measurement.rounding)


def _figure(claim: Claim, shown: Outcome) -> dict[str, Any] | None:
    """The data of the claim's curve on its equality case or on the instance shown; raises ``Broken``."""
    if claim.curve is None:
        return None
    key = canonical(claim.equality.params if claim.equality is not None else shown.params)
    params = json.loads(key)
    with strictly(f"drawing the curve on {key}"):
        data = dict(claim.curve(claim.build(params)))
        named = dict(data["lines"]) if "lines" in data else {n: data[n] for n in ("predicted", "measured")}
        drawn = {name: [float(value) for value in values] for name, values in named.items()}
        lines = {"x": [float(value) for value in data["x"]], **drawn}
        if not lines["x"] or not drawn or len({len(values) for values in lines.values()}) != 1:
            raise ValueError(f"x, {' and '.join(drawn)} are empty or differ in length")
        if not all(math.isfinite(value) for values in lines.values() for value in values):
            raise ValueError("the curve holds a number that is not finite")
        axes = {name: str(data.get(name, name[0])) for name in ("xlabel", "ylabel")}
        return {
            "x": lines["x"],
            **({"lines": drawn} if "lines" in data else drawn),
            **axes,
            **{name: bool(data.get(name, False)) for name in ("logx", "logy")},
            "params": params,
        }
