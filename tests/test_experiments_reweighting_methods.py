"""Reweighting at equal numbers of calls: budgets, statistics, paths are what they say, claims have three outcomes."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from refimpl.algorithms.ren2018l2rw import clipped, normalised
from refimpl.arrays import backend
from tests.rounding import EPS, assert_rounded
from tests.toy_registration import toy
from verification import ledger
from verification.claims._figures import Experiment
from verification.claims.reweighting import figures_methods
from verification.claims.reweighting.figures_methods import Half
from verification.experiments import registration, reweighting_methods
from verification.experiments.reweighting_methods import Curves, Descent, auc, recorded, spent
from verification.plots import picture
from verification.verdict import judge

NAME, L2RW_NAME = reweighting_methods.NAME, reweighting_methods.L2RW_NAME
CLAIMS = {claim.id.removeprefix("reweighting/"): claim for claim in figures_methods.CLAIMS}
SIZES = {
    "train": 30,
    "validation": 20,
    "hidden": 2,
    "budget": 80,
    "steps": 6,
    "early": 4,
    "records": 4,
    "average": 3,
    "tolerance": 1e-2,
}
REG = 0.05


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The registration at toy size; no cached run is met."""
    name = toy(NAME, SIZES | {"reg": REG}, tmp_path)
    anew = toy(L2RW_NAME, SIZES | {"reg": iter((REG, 0.0))}, tmp_path)
    monkeypatch.setattr(registration, "FOLDER", tmp_path)
    return {NAME: name, L2RW_NAME: anew}


def test_the_registration_fixes_what_it_must():
    plan = registration.load(NAME)
    assert plan.seeds == tuple(range(12))
    assert min(plan["pilot"]["seeds"]) >= 100
    assert plan["statistic"]["early"] <= plan["algorithm"]["half"]["steps"]
    assert set(plan["decision"]["smallest_effect"]) == set(figures_methods.METRICS)


def test_learning_to_reweight_is_registered_anew():
    """Without a ridge, on seeds that its earlier run has not seen; what decides is as it was."""
    old, new = registration.load(NAME), registration.load(L2RW_NAME)
    assert not {*old.seeds, *old["pilot"]["seeds"]} & {*new.seeds}
    assert new["algorithm"]["l2rw"]["reg"] == 0
    assert new["algorithm"]["reg"] == old["algorithm"]["reg"] > 0
    assert new["algorithm"]["cleaning"] == old["algorithm"]["cleaning"]
    assert new["decision"] == old["decision"]
    assert new["statistic"] == {key: old["statistic"][key] for key in ("records", "late", "average")}


def test_every_claim_is_registered_and_too_dear_for_quick():
    assert len(CLAIMS) == len(figures_methods.CLAIMS) == 13
    for claim in figures_methods.CLAIMS:
        assert claim.budget.quick is None
        assert claim.grade == "illustrative"
        assert "$" in claim.statement  # without it the whole sentence would be typeset as a formula
        assert "$" in claim.corrected.tex
        name = L2RW_NAME if "@l2rw-" in claim.id else NAME
        assert claim.registration == registration.load(name).path
        assert claim.explicit == ({"registration": name},)


@pytest.mark.parametrize(
    "key",
    ["methods@l2rw-auc", "methods@mwn-function-f1", "early-stopping@digits", "early-stopping@digits-auc"],
)
def test_claims_run_at_toy_size(small, key):
    """Some twenty iterations decide nothing; whatever the verdict, it has numbers, a plot and no error."""
    (params,) = CLAIMS[key].explicit
    claim = dataclasses.replace(CLAIMS[key], explicit=({"registration": small[params["registration"]]},))
    judged = judge(claim, budget=1, seed=0)
    assert "error" not in judged.reason, judged.reason
    assert judged.verdict in ("not refuted", "refuted", "undecided", "vacuous")
    json.dumps(ledger.entry(claim, judged, level="full", seed=0), allow_nan=False)
    assert picture(ledger.figure(judged)).uri


def planted(of):
    """Metrics that depend on the case and the seed by ``of``."""

    def measured(case, seed):
        value = of(case, seed)
        if isinstance(case, Half):
            return Descent(np.full(1000, value), 0.0)
        return Curves(np.arange(1, 5), *[np.full(4, value)] * 3)

    return Experiment(registration.load(NAME), measured)


def verdict(key, of):
    claim = dataclasses.replace(CLAIMS[key], build=lambda _: planted(of), curve=None)
    return judge(claim, budget=1, seed=0).verdict


def noise(case, seed):
    return 1e-4 * np.random.default_rng([seed, *json.dumps(case).encode()]).standard_normal()


@pytest.mark.parametrize("key", ["methods@l2rw-accuracy", "methods@mwn-auc", "early-stopping@digits-f1"])
def test_methods_have_three_outcomes(key):
    one = key.partition("@")[2].rpartition("-")[0].replace("digits", "cleaning")
    better = lambda size: lambda c, s: size * (c.method == one) + noise(c, s)  # noqa: E731  # a line
    assert verdict(key, better(0.02)) == "not refuted"
    assert verdict(key, better(-0.02)) == "refuted"
    assert verdict(key, lambda c, s: 1e3 * noise(c, s)) == "undecided"
    null = lambda c, s: better(0.02)(c, s) + 0.02 * (c.stream == 1)  # noqa: E731  # a line
    assert verdict(key, null) == "vacuous"


def test_stopping_has_three_outcomes():
    key = "early-stopping@digits"
    assert verdict(key, lambda c, s: 0.05 * (c.corrupted is None) + noise(c, s)) == "not refuted"
    assert verdict(key, lambda c, s: -0.05 + noise(c, s)) == "refuted"
    assert verdict(key, lambda c, s: 0.05 + noise(c, s)) == "vacuous"


def test_area_by_pairs():
    rng = np.random.default_rng(0)
    weights, wrong = rng.integers(0, 4, 20) / 4, rng.random(20) < 0.4
    pairs = [(a < b) + (a == b) / 2 for a in weights[wrong] for b in weights[~wrong]]
    assert_rounded(auc(weights, wrong), np.mean(pairs), terms=1, count=20)
    assert auc(np.where(wrong, 0.0, 1.0), wrong) == 1


@pytest.mark.parametrize("method", ["l2rw", "mwn", "mwn-function", "cleaning"])
def test_every_method_spends_the_budget(small, method):
    """Up to one iteration more. Kills: a kind of call that is not counted."""
    name = small[L2RW_NAME if method == "l2rw" else NAME]
    budget, c = SIZES["budget"], reweighting_methods.curves(method, 7001, name=name)
    iteration = {"l2rw": 4, "mwn": 4, "mwn-function": 4, "cleaning": 3 + 3 + 2}[method]
    assert budget - iteration < c.calls[-1] < budget + iteration
    assert len(c.calls) == SIZES["records"]
    assert (
        spent({"lower.grad_w": 2, "lower.cross": 1, "upper.grad_w": 1, "upper.grad_lam": 1, "lower.data": 9})
        == 4
    )
    assert recorded(registration.load(name), 9).tolist() == [2, 4, 6, 8]


def test_learning_to_reweight_step_by_step(small):
    """Its last record: the mean weights of the last iterations and the last w, from a plain loop without the ridge."""
    plan = registration.load(small[L2RW_NAME])
    t = reweighting_methods.task(plan, 7001)
    assert t.reg == REG
    problem = t.problem(weights="identity", reg=0)
    w = reweighting_methods.start(plan, 7001, problem.d, 0)
    alpha, kept = plan["algorithm"]["l2rw"]["alpha"], []
    for _ in range(SIZES["budget"] // 4):
        zero = np.zeros(problem.n)
        ahead = w - alpha * problem.lower.grad_w(zero, w)
        h = -alpha * (problem.lower.cross(zero, w) @ problem.upper.grad_w(zero, ahead))
        omega = normalised(backend(), clipped(backend(), h))
        w = w - alpha * problem.lower.grad_w(omega, w)
        kept.append(omega)
    found = reweighting_methods.path(
        plan, "l2rw", t, reweighting_methods.start(plan, 7001, problem.d, 0), 7001
    )
    growth = 1e3 * len(kept) * problem.d * EPS["float64"]  # steps of 20 on losses of curvature below 10
    assert np.abs(found.w[-1] - w).max() <= growth * (1 + np.abs(w).max())
    assert np.abs(found.weights[-1] - np.mean(kept[-SIZES["average"] :], 0)).max() <= growth
    assert found.small[-1].tolist() == (found.weights[-1] < 1 / problem.n).tolist()


def test_the_solved_lower_level_is_solved(small):
    """At weights ½ its accuracy is the solution's. Kills: a warm start that is not one."""
    plan = registration.load(small[NAME])
    t = reweighting_methods.task(plan, 7001)
    problem = t.problem()
    found = reweighting_methods.path(plan, "solved", t, np.zeros(problem.d), 7001)
    assert found.calls[-1] >= SIZES["budget"]
    d = reweighting_methods.descent(7001, name=small[NAME])
    assert len(d.steps) == SIZES["steps"] + 1
    w = reweighting_methods.start(plan, 7001, problem.d, 0)
    for _ in range(3):
        w = w - plan["algorithm"]["cleaning"]["step"] * problem.lower.grad_w(np.zeros(problem.n), w)
    assert d.steps[3] == t.accuracy(w)
    clean = reweighting_methods.task(plan, 7001, 0.0)
    assert not clean.data.corrupted.any()
    assert np.array_equal(clean.data.X, t.data.X)
