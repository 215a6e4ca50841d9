"""Improved hyper-cleaning: a seed's run is algorithm 5 on its own data, runs end by the rule, three outcomes."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest

from refimpl import BilevelProblem
from refimpl.approximate import forward, reverse
from refimpl.networks import MLP
from refimpl.solvers import Averaging
from tests.rounding import assert_rounded
from tests.toy_registration import toy
from verification import ledger
from verification.claims._figures import Experiment
from verification.claims.improved_bilevel import figures_cleaning
from verification.claims.improved_bilevel.figures_cleaning import SHARES, growth, sooner
from verification.experiments import improved_cleaning, registration
from verification.experiments.improved_cleaning import (
    ANEW,
    BASIC,
    INITIAL,
    Case,
    Curves,
    algorithm,
    curves,
    settled,
    task,
)
from verification.plots import picture
from verification.verdict import judge

PLAN = registration.load(improved_cleaning.NAME)
ALONE = "table-1@one-hidden-40-right"  # which has a registration of its own
CLAIMS = {claim.id.removeprefix("improved-bilevel/"): claim for claim in figures_cleaning.CLAIMS}
TINY = {
    "seeds = [0, 1, 2, 3, 4]": "seeds = [7001, 7002]",
    "seeds = [100, 101, 102, 103, 104]": "seeds = [7003]",
    "train = 300": "train = 12",
    "validation = 200": "validation = 10",
    "test = 1000": "test = 20",
    "one-hidden = [64, 16, 10]": "one-hidden = [64, 3, 10]",
    "inner = 100": "inner = 6",
    "iterations = 60": "iterations = 4",
    "gamma = 0.0075": "gamma = 0.002",  # c = 2.7 < 6
    "window = 10": "window = 2",
    "early = 10": "early = 2",
}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The registration at toy size, with seeds neither registered nor the pilots'; no cached run is met."""
    text = (registration.FOLDER / f"{improved_cleaning.NAME}.toml").read_text(encoding="utf-8")
    for line, shorter in TINY.items():
        assert text.count(f"\n{line}") == 1, line
        text = text.replace(f"\n{line}", f"\n{shorter}")
    (tmp_path / "tiny_improved.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(registration, "FOLDER", tmp_path)
    return "tiny_improved"


# -- the registration and its claims ---------------------------------------------------------------------------------
def test_the_registration_fixes_what_it_must():
    assert len(PLAN.seeds) >= 5
    assert all(effect > 0 for effect in PLAN["decision"]["smallest_effect"].values())
    assert SHARES == sorted(SHARES, reverse=True)
    assert PLAN["figures"]["corrupted"] in SHARES
    figures, rules = PLAN["figures"], PLAN["algorithm"]
    assert figures["every"] == sorted(figures["every"])
    assert figures["every"][0] == 1
    assert figures["inner"] == sorted(figures["inner"])
    assert rules["inner"] in figures["inner"]
    assert 0 < PLAN["statistic"]["reach"] <= 1
    assert 0 < PLAN["statistic"]["window"] < rules["iterations"]
    assert sum(PLAN["data"][name] for name in ("train", "validation", "test")) < 1797


def test_the_steps_are_those_of_the_theorem_where_it_applies():
    """On softmax regression: 0 <= ∇²ℓ <= ½ I ⊗ xxᵀ, weights below 1. The weight of F reaches 1, and falls below it."""
    rules = PLAN["algorithm"]
    problem = task(PLAN, "linear", SHARES[0]).problem  # the split is the same at all shares
    for level, ridge in ((problem.upper, rules["ridge"]), (problem.lower, 0.0)):
        for X in level.X:
            inputs = np.column_stack([X, np.ones(len(X))])
            assert np.linalg.norm(inputs, 2) ** 2 / (2 * len(X)) + ridge <= rules["smoothness"]
    assert rules["s"] <= 1 / rules["smoothness"]
    lower = algorithm(PLAN, Case("linear", 0.8)).lower
    weights = [lower.weight(k) for k in range(1, lower.steps + 1)]
    assert weights[0] == 1
    assert 0 < weights[-1] < 1


def test_with_gamma_1_nothing_moves(small):
    """γ = 1: every α_k is 1, w_K does not depend on λ, and the hypergradient is exactly 0."""
    plan = registration.load(small)
    rules = plan["algorithm"]
    lower = algorithm(plan, Case("linear", 0.8)).lower
    longest = dataclasses.replace(lower, steps=100, alpha=Averaging(lower.alpha.contraction, 1))
    assert {longest.weight(k) for k in range(1, 101)} == {1}
    found = task(plan, "linear", 0.8)
    w0 = np.zeros((2, found.problem.d))
    assert not reverse(found.problem, np.zeros((2, 12)), lower=longest, w0=w0).value.any()
    assert reverse(found.problem, np.zeros((2, 12)), lower=lower, w0=w0).value.any()
    assert rules["inner"] == 6


def test_a_cell_is_registered_anew():
    """On seeds that its earlier run has not seen; but for them and the control all is as it was."""
    ((cell, name),) = ANEW.items()
    new = registration.load(name)
    assert cell == ("one-hidden", 0.4, "right")
    assert not {*PLAN.seeds, *PLAN["pilot"]["seeds"]} & {*new.seeds}
    assert new["data"] == PLAN["data"] | {"corrupted": [0.4]}
    assert new["algorithm"] == PLAN["algorithm"]
    for table in ("networks", "statistic"):
        assert new[table] == {key: PLAN[table][key] for key in new[table]}
    assert new["decision"]["confidence"] == PLAN["decision"]["confidence"]
    assert new["decision"]["smallest_effect"] == {"f1": PLAN["decision"]["smallest_effect"]["f1"]}


def test_every_claim_is_registered_and_too_dear_for_quick():
    assert len(CLAIMS) == len(figures_cleaning.CLAIMS) == 24
    for claim in figures_cleaning.CLAIMS:
        assert claim.budget.quick is None
        assert claim.grade == "illustrative"
        assert "$" in claim.statement  # without it the whole sentence would be typeset as a formula
        assert "$" in claim.corrected.tex
        name = ANEW["one-hidden", 0.4, "right"] if claim.id.endswith(ALONE) else PLAN.name
        assert claim.registration == registration.load(name).path
        assert claim.explicit == ({"registration": name},)


@pytest.mark.parametrize(
    "claim_id",
    ["table-1@linear-80-wrong", "table-1@one-hidden-gap-right", "figure-1@linear-calls", "figure-2@degrades"],
)
def test_claims_run_at_toy_size(small, claim_id):
    """Four iterations decide nothing; whatever the verdict, it has numbers, a plot and no error."""
    runs_at_toy_size(claim_id, small)


def test_the_cell_registered_anew_runs_at_toy_size(tmp_path, monkeypatch):
    sizes = {
        "train": 12,
        "validation": 10,
        "test": 20,
        "one-hidden": [64, 3, 10],
        "inner": 6,
        "iterations": 4,
    }
    name = toy(ANEW["one-hidden", 0.4, "right"], sizes | {"window": 2}, tmp_path)
    monkeypatch.setattr(registration, "FOLDER", tmp_path)
    runs_at_toy_size(ALONE, name)


def runs_at_toy_size(claim_id, name):
    claim = dataclasses.replace(CLAIMS[claim_id], explicit=({"registration": name},))
    judged = judge(claim, budget=1, seed=0)
    assert "error" not in judged.reason, judged.reason
    assert judged.verdict in ("not refuted", "refuted", "undecided", "vacuous")
    json.dumps(ledger.entry(claim, judged, level="full", seed=0), allow_nan=False)
    assert picture(ledger.figure(judged)).uri


# -- the run -----------------------------------------------------------------------------------------------------------
def test_a_seed_runs_on_its_own_data(small):
    """All seeds at once, in reverse mode, are each alone, in forward mode; F1 by counting."""
    plan = registration.load(small)
    case = Case("one-hidden", 0.6)
    found, method, ran = task(plan, *case[:2]), algorithm(plan, case), curves(case, name=small)
    net = MLP(tuple(plan["networks"]["one-hidden"]), "relu")
    for i, seed in enumerate(plan.seeds):
        upper, lower = (
            dataclasses.replace(level, X=level.X[i], y=level.y[i])
            for level in (found.problem.upper, found.problem.lower)
        )
        alone = BilevelProblem(upper, lower)
        w0 = net.random(np.random.default_rng([seed, INITIAL, 0]), gain=plan["networks"]["gain"])
        one = forward(alone, np.zeros(12), lower=method.lower, w0=w0)
        value = float(upper.value(np.zeros(12), one.w))
        # each of the inner steps adds the rounding of sums over samples and inputs, on numbers of the size of 1
        count = method.lower.steps * (12 + 64)
        assert_rounded(ran[i].upper[0], value, terms=10.0, count=count)
        residual = np.linalg.norm(lower.grad_w(np.zeros(12), one.w))
        assert_rounded(ran[i].residual[0], residual, terms=10.0, count=count)
        wrong = found.wrong[i]
        assert ran[i].wrong[0] == 0  # λ = 0 flags nothing
        assert ran[i].right[0] == 2 * (~wrong).sum() / (12 + (~wrong).sum())
        flagged = one.value > 0  # λ_1 = −ν times it
        for got, flags, truth in ((ran[i].wrong[1], flagged, wrong), (ran[i].right[1], ~flagged, ~wrong)):
            hits = sum(a and b for a, b in zip(flags, truth, strict=True))
            assert got == float(Fraction(2 * int(hits), int(flags.sum() + truth.sum())))


def test_labels_are_wrong_where_marked_and_the_split_is_the_same_for_all(small):
    plan = registration.load(small)
    few, many = task(plan, "linear", 0.4), task(plan, "linear", 0.8)
    assert np.array_equal(few.problem.lower.X, many.problem.lower.X)
    assert few.wrong.sum(-1).tolist() == [5, 5]
    assert many.wrong.sum(-1).tolist() == [10, 10]
    both = ~few.wrong & ~many.wrong
    equal = (few.problem.lower.y == many.problem.lower.y).all(axis=1)
    assert equal[both].all()
    assert not np.array_equal(few.problem.lower.X[0], few.problem.lower.X[1])


@pytest.mark.parametrize(("every", "steps"), [(BASIC, 0), (1, 6), (2, 3), (5, 1), (20, 0)])
def test_calls_are_those_of_the_steps(small, every, steps):
    """A step on G: a gradient and two products; on F as many, but the last gradient and ∇_λF are in all of them.

    The first step's product with a Hessian is of use to no earlier step.
    """
    expected = 3 * 6 - 1 + 3 * steps - (every == 1) + 2
    assert {c.calls for c in curves(Case("linear", 0.8, every), name=small)} == {expected}


def test_other_streams_are_other_weights(small):
    first, again = (curves(Case("linear", 0.8, stream=i), name=small)[0] for i in range(2))
    assert first.upper[0] != again.upper[0]
    assert curves(Case("linear", 0.8, inner=6), name=small)[0].upper[-1] == first.upper[-1]


# -- statistics --------------------------------------------------------------------------------------------------------
def made(f1: list[float], *, calls: float = 1.0, end: int | None = None) -> Curves:
    """Curves with this F1 in both readings."""
    x = np.array(f1)
    last = len(f1) - 1
    return Curves(x, x, x[1:], x[1:], x[1:], calls, last if end is None else end, end is not None, 2)


def test_a_run_ends_where_the_upper_level_no_longer_falls():
    falling = np.array([8.0, 4.0, 2.0, 1.99, 1.98, 1.0])
    assert settled(falling, 2, 0.02) == 4  # from 2 to 1.98
    assert settled(falling, 1, 0.02) == 3
    assert settled(falling, 2, 0.001) is None
    assert settled(np.array([1.0, 2.0, 3.0]), 1, 0.5) == 1  # F rises: no longer falling


def test_final_is_the_window_before_the_end():
    c = made([0.0, 0.2, 0.4, 0.8, 0.6], end=3)
    assert_rounded(c.final("wrong"), 0.6, terms=1.0, count=2)
    assert_rounded(made([0.0, 0.2, 0.4, 0.8, 0.6]).final("wrong"), 0.7, terms=1.0, count=2)
    assert [c.reaches("wrong", level) for level in (0.0, 0.4, 0.5, 0.9)] == [0, 2, 3, 5]


def planted(of):
    """The registration with made-up runs: ``of(case, seed)``."""
    return Experiment(PLAN, of)


def verdict(claim, of):
    return judge(
        dataclasses.replace(claim, build=lambda _: planted(of), curve=None), budget=1, seed=0
    ).verdict


def noise(case, seed):
    key = [seed, case.every, case.inner, case.stream, round(100 * case.corrupted)]
    return 1e-4 * np.random.default_rng(key).standard_normal()


def level(of):
    """Runs whose F1 is ``of(case)`` from the first iteration on, up to noise."""

    def runs(case, seed):
        x = of(case) + noise(case, seed)
        return made([0.0, x, x, x])

    return runs


def test_table_1_has_three_outcomes():
    claim = CLAIMS["table-1@linear-80-wrong"]
    lead = lambda size: level(lambda c: 0.5 + size * (c.every == 1))  # noqa: E731  # a line
    assert verdict(claim, lead(0.05)) == "not refuted"
    assert verdict(claim, lead(-0.05)) == "refuted"
    assert verdict(claim, lead(0.0)) == "refuted"
    wide = lambda c, s: made([0.0] + 3 * [0.5 + 300 * noise(c, s)])  # noqa: E731  # a line
    assert verdict(claim, wide) == "undecided"
    assert verdict(claim, level(lambda c: 0.5 + 0.05 * (c.every == 1) + 0.02 * c.stream)) == "vacuous"


def test_one_difference_alone_makes_no_control_reproduce():
    """Two of them have to, of four runs. Kills: the same difference twice, one difference only."""
    lead = lambda higher: level(lambda c: 0.5 + 0.05 * (c.every == 1) + 0.02 * (c.stream in higher))  # noqa: E731  # a line
    assert verdict(CLAIMS[ALONE], lead(())) == "not refuted"
    assert verdict(CLAIMS[ALONE], lead((1,))) == "not refuted"
    assert verdict(CLAIMS[ALONE], lead((3,))) == "not refuted"
    assert verdict(CLAIMS[ALONE], lead((1, 3))) == "vacuous"
    assert verdict(CLAIMS[ALONE], lead((1, 2, 3))) == "not refuted"  # 3 is not above 2
    assert verdict(CLAIMS[ALONE], level(lambda c: 0.5 - 0.05 * (c.every == 1))) == "refuted"


def test_the_gap_must_grow_at_every_step():
    claim = CLAIMS["table-1@one-hidden-gap-right"]
    gap = lambda sizes: level(lambda c: 0.5 + sizes[c.corrupted] * (c.every == 1))  # noqa: E731  # a line
    assert verdict(claim, gap({0.8: 0.09, 0.6: 0.06, 0.4: 0.02})) == "not refuted"
    assert verdict(claim, gap({0.8: 0.09, 0.6: 0.02, 0.4: 0.02})) == "refuted"
    found = growth("linear", "wrong", 0)(planted(gap({0.8: 0.09, 0.6: 0.06, 0.4: 0.02})))
    assert [round(x.mean, 2) for x in found.values()] == [0.03, 0.04]


def test_sooner_counts_iterations_and_calls():
    """The improved model reaches 0.6 in 1 iteration of 6 calls, the basic one in 4 of 3."""

    def runs(case, seed):
        if case.every == BASIC:
            return made([0.0, 0.1, 0.2, 0.3, 0.6, 0.6], calls=3, end=5)
        return made([0.0, 0.7, 0.7, 0.7, 0.7, 0.7], calls=6, end=5)

    for per_call, times in ((False, 4), (True, 2)):
        for found in sooner("linear", 0, per_call=per_call)(planted(runs)).values():
            assert_rounded(found.mean, np.log(times), terms=1.0, count=10)


def test_the_ablation_and_longer_loops_have_outcomes():
    claim = CLAIMS["figure-2@degrades"]
    assert verdict(claim, level(lambda c: 0.5 + 0.3 / (c.every or 100))) == "not refuted"
    assert verdict(claim, level(lambda c: 0.5 + 0.01 * c.every)) == "refuted"
    assert verdict(CLAIMS["figure-2@every-20"], level(lambda c: 0.5 + 0.002 * (c.every > 0))) == "not refuted"
    assert verdict(CLAIMS["figure-2@every-20"], level(lambda c: 0.5 - 0.002 * (c.every > 0))) == "refuted"
    for part in ("slower", "worse"):
        assert (
            verdict(CLAIMS[f"figure-3@{part}"], level(lambda c: 0.5 - 0.05 * (c.inner == 200)))
            == "not refuted"
        )
        assert (
            verdict(CLAIMS[f"figure-3@{part}"], level(lambda c: 0.5 + 0.05 * (c.inner == 200))) == "refuted"
        )
