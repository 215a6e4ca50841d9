"""Claims of two documents that are no experiments: complete, runnable, deciding, with controls that fail."""

from __future__ import annotations

import json

import pytest

from verification import runner
from verification.hunt import canonical, evaluate, strictly
from verification.report.tex import faults

CLAIMS = [
    item.claim
    for claim_id, item in sorted(runner.discover().items())
    if claim_id.startswith(("contraction/", "dropout-flatness/", "improved-bilevel/"))
    and not item.claim.registration
]
each = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
MIXED = {  # refuted by some of their explicit instances: the others show where the statement is true
    f"dropout-flatness/{name}"
    for name in (
        "prefactor@any-loss",
        *("alignment@exact", "alignment@full-batch", "alignment@one-layer", "alignment@printed"),
        "invariance@filters-of-units",
    )
}
CURVES = 8  # as many of the explicit instances are drawn
MANY = 40  # of a complete class's instances, as many are looked at here


@each
def test_a_claim_says_what_it_owes(claim):
    assert claim.source.startswith(f"{claim.id.partition('/')[0]}, ")
    assert claim.title[0].isupper()
    assert claim.statement.strip()
    assert claim.notes.strip()
    assert claim.explicit
    formulas = [claim.statement, *(h.tex for h in claim.hypotheses)]
    formulas += [claim.corrected.tex] if claim.corrected else []
    assert not [found for text in formulas for found in faults(text, formula=True)]
    kinds = {control.kind for control in claim.controls}
    if claim.corrected is None:
        assert "formula" in kinds
        assert "hypothesis" in kinds or not claim.hypotheses
    else:
        assert claim.corrected.proof.strip()


@each
def test_the_explicit_instances_are_used_and_decide(claim):
    """A claim with a correction fails on all of them, or, where mixed, on some, and the correction passes; any other
    claim passes on all."""
    instances = [*claim.explicit[:MANY], *([claim.equality.params] if claim.equality else [])]
    found = [evaluate(claim, claim.measure, canonical(params)) for params in instances]
    assert all(outcome.measurement is not None for outcome in found), [o.broken for o in found]
    if claim.corrected is None:
        assert all(outcome.measurement.holds for outcome in found)
        # a tolerance of the bound's own size would let a wrong formula pass
        assert all(o.measurement.rounding <= 1e-6 * float(o.measurement.bound or 1) for o in found)
        return
    held = [outcome.measurement.holds for outcome in found]
    assert any(held) == (claim.id in MIXED)
    assert not all(held)
    for params in claim.explicit:
        assert evaluate(claim, claim.corrected.measure, canonical(params)).measurement.holds


@each
def test_the_equality_case_and_the_curve(claim):
    if claim.equality:
        used = evaluate(claim, claim.measure, canonical(claim.equality.params)).measurement.used
        assert claim.equality.reaches <= used <= 1
    if claim.curve:
        longest = 0
        for params in [*claim.explicit[:CURVES], *([claim.equality.params] if claim.equality else [])]:
            with strictly("drawing"):
                data = claim.curve(claim.build(json.loads(canonical(params))))
            lines = data.get("lines") or {name: data[name] for name in ("predicted", "measured")}
            assert all(len(line) == len(data["x"]) for line in lines.values())
            longest = max(longest, len(data["x"]))
        assert longest > 5  # an instance may be a run of two steps, but not all of them


@each
def test_the_controls_with_an_instance_fail_on_it(claim):
    for control in (control for control in claim.controls if control.params is not None):
        breaking = control.kind == "hypothesis"
        measure = control.measure or claim.measure
        outcome = evaluate(claim, measure, canonical(control.params), breaking=breaking)
        assert outcome.measurement is not None, control.name
        assert not outcome.measurement.holds, control.name
