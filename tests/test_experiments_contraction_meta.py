"""Meta-learning: separable problems are what their tasks are, runs are the loops they stand for, three outcomes."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest

from refimpl.datasets import load_digits
from tests.rounding import EPS, assert_rounded
from tests.toy_registration import toy
from verification import ledger
from verification.claims._figures import Experiment
from verification.claims.contraction import eq_5, figures_meta
from verification.claims.contraction.figures_meta import Case
from verification.experiments import meta_learning, registration
from verification.experiments.meta_learning import DRAWS, FAMILIES, NEW, OTHER, TRAIN, Curves, stacked
from verification.plots import picture
from verification.verdict import judge

NAME = meta_learning.NAME
CLAIMS = {claim.id.removeprefix("contraction/figure-2@"): claim for claim in figures_meta.CLAIMS}
SIZES = {"pool": 40, "small_pool": 8, "budget": 64, "new_tasks": 2, "body": [64, 4, 3], "queries": 2}
SIZES |= {"t": 2, "k": 3, "new_steps": 3, "every": 32}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The registration at toy size; no cached run is met."""
    name = toy(NAME, SIZES, tmp_path)
    monkeypatch.setattr(registration, "FOLDER", tmp_path)
    return name


# -- the registration and its claims -----------------------------------------------------------------------------
def test_the_registration_fixes_what_it_must():
    plan = registration.load(NAME)
    assert plan.seeds == (0, 1, 2, 3, 4)
    assert not set(plan.seeds) & set(plan["pilot"]["seeds"])
    assert all(plan["data"]["budget"] % b == 0 for b in plan["algorithm"]["batches"])
    assert all(plan["statistic"]["every"] % b == 0 for b in plan["algorithm"]["batches"])
    assert plan["data"]["small_pool"] >= min(plan["algorithm"]["batches"])


def test_every_claim_is_registered_and_too_dear_for_quick():
    assert len(CLAIMS) == len(figures_meta.CLAIMS) == 10
    for claim in figures_meta.CLAIMS:
        assert claim.budget.quick is None
        assert claim.grade == "illustrative"
        assert "$" in claim.statement  # without it the whole sentence would be typeset as a formula
        assert "$" in claim.corrected.tex
        assert claim.registration == registration.load(NAME).path


@pytest.mark.parametrize("claim_id", ["bias-loss", "bias-warm-start", "representation-scaled"])
def test_claims_run_at_toy_size(small, claim_id):
    """Eight iterations decide nothing; whatever the verdict, it has numbers, a plot and no error."""
    claim = dataclasses.replace(CLAIMS[claim_id], explicit=({"registration": small},))
    judged = judge(claim, budget=1, seed=0)
    assert "error" not in judged.reason, judged.reason
    assert judged.verdict in ("not refuted", "refuted", "undecided", "vacuous")
    json.dumps(ledger.entry(claim, judged, level="full", seed=0), allow_nan=False)
    assert picture(ledger.figure(judged)).uri


def planted(of):
    """Losses and accuracies that depend on the case and the seed by ``of``; the same in all metrics."""

    def measured(case, seed):
        gain = of(case, seed)
        losses, accuracies = np.exp(-np.array([1.0, gain, gain])), np.array([0.0, gain, gain])
        return Curves(np.arange(3), losses, accuracies, losses, accuracies)

    return Experiment(registration.load(NAME), measured)


def verdict(claim, of):
    return judge(
        dataclasses.replace(claim, build=lambda _: planted(of), curve=None), budget=1, seed=0
    ).verdict


def noise(case, seed):
    return 1e-4 * np.random.default_rng([seed, case.batch, case.warm, case.stream]).standard_normal()


def test_batches_have_three_outcomes():
    claim = CLAIMS["bias-loss"]
    assert verdict(claim, lambda c, s: 1 / c.batch + noise(c, s)) == "not refuted"
    assert verdict(claim, lambda c, s: c.batch / 8 + noise(c, s)) == "refuted"
    assert (
        verdict(claim, lambda c, s: -float(c.batch == 32) + noise(c, s)) == "refuted"
    )  # 8 is no faster than 16
    assert verdict(claim, lambda c, s: 1 / c.batch + 1e4 * noise(c, s)) == "undecided"
    assert verdict(claim, lambda c, s: 1 / c.batch + float(c.stream) + noise(c, s)) == "vacuous"


def test_warm_start_has_three_outcomes():
    """0.005 is the smallest effect on accuracy; the control must not overlap."""
    claim, other = CLAIMS["bias-warm-start"], 0.1
    gain = lambda size: lambda c, s: size * c.warm + other * c.warm * (c.pool != "pool") + noise(c, s)  # noqa: E731  # a line
    assert verdict(claim, gain(0.003)) == "not refuted"
    assert verdict(claim, gain(-0.003)) == "not refuted"
    assert verdict(claim, gain(0.007)) == "refuted"
    assert verdict(claim, gain(-0.007)) == "refuted"
    assert verdict(claim, gain(0.005)) == "undecided"
    other = 0.0
    assert verdict(claim, gain(0.003)) == "vacuous"


def test_speed_is_a_mean_without_the_start():
    c = Curves(np.arange(3), np.array([9.0, 1.0, np.e]), np.array([0.9, 0.5, 0.7]), np.ones(3), np.ones(3))
    assert_rounded(figures_meta.speed("loss")(c), -0.5, terms=1, count=10)
    assert_rounded(figures_meta.speed("accuracy")(c), 0.6, terms=1, count=10)


# -- tasks ---------------------------------------------------------------------------------------------------------
def test_a_task_is_its_number():
    plan = registration.load(NAME)
    for family in FAMILIES:
        f, again, other = (FAMILIES[family](plan, seed) for seed in (7001, 7001, 7002))
        assert np.array_equal(f.task(TRAIN, 5).support_X, again.task(TRAIN, 5).support_X)
        assert (
            len(
                {
                    x.task(*y).support_X.tobytes()
                    for x in (f, other)
                    for y in ((TRAIN, 5), (TRAIN, 6), (NEW, 5))
                }
            )
            == 6
        )


def test_biased_tasks_are_digits_with_gains():
    """Up to its gains every row is one of the digits, with its label; unseen tasks share no image with the others."""
    plan, data = registration.load(NAME), load_digits()
    f = FAMILIES["bias"](plan, 7001)

    def rows(kind, number):
        task = f.task(kind, number)
        X, y = np.r_[task.support_X, task.query_X], np.r_[task.support_y, task.query_y]
        assert np.array_equal(np.bincount(y), np.full(10, 7))
        found = []
        for x, label in zip(X, y, strict=True):
            near = np.flatnonzero(((data.X > 0) == (x > 0)).all(1) & (data.y == label))
            gains = [x[x > 0] / data.X[i][x > 0] for i in near]
            found.append((near, gains))
            assert len(near)
        return {int(i) for near, _ in found for i in near if len(near) == 1}

    train = set().union(*(rows(TRAIN, i) for i in range(6)))
    unseen = set().union(*(rows(OTHER, i) for i in range(6)))
    assert train
    assert unseen
    assert not train & unseen


# -- runs ------------------------------------------------------------------------------------------------------------
def by_hand(family, plan, seed, batch, warm, pool):
    """λ after the run: every task on its own, gradients of its losses alone, as sums over the batch."""
    f, rules, steps = FAMILIES[family](plan, seed), plan[family], plan["algorithm"]
    rng, lam, kept = np.random.default_rng([seed, DRAWS, 0]), f.lam, {}
    for _ in range(plan["data"]["budget"] // batch):
        total = 0
        numbers = rng.choice(plan["data"][pool], batch, replace=False).tolist()
        for i in numbers:
            one = f.problem(stacked([f.task(TRAIN, i)]))
            w = kept.get(i, f.w(lam))
            for _ in range(steps["t"]):
                w = w - rules["step"] * one.lower.grad_w(lam, w)
            v, g = 0 * w, one.upper.grad_w(lam, w)
            for _ in range(steps["k"]):
                v = v - rules["step"] * (one.lower.hess_ww(lam, w) @ v - g)
            total = total + one.upper.grad_lam(lam, w) - one.lower.cross(lam, w) @ v
            if warm:
                kept[i] = w
        lam = lam - rules["alpha"] * total / batch
    return f, lam


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("warm", [False, True])
def test_a_run_is_the_loop_over_its_tasks(small, family, warm):
    """Separable (5): the batch as one problem moves λ as the mean over tasks solved one by one."""
    plan = registration.load(small)
    found = meta_learning.curves(family, 8, 7001, warm=warm, pool="small_pool", name=small)
    assert found.tasks.tolist() == [0, 32, 64]
    f, lam = by_hand(family, plan, 7001, 8, warm, "small_pool")
    problem = f.problem(stacked([f.task(NEW, i) for i in range(2)]))
    w = np.tile(f.w(lam), 2)
    for _ in range(plan["algorithm"]["new_steps"]):
        w = w - 2 * plan[family]["step"] * problem.lower.grad_w(lam, w)
    # 8 iterations, each of sums over hundreds of numbers of size 1 and steps that do not expand
    assert found.loss[-1] == pytest.approx(float(problem.upper.value(lam, w)), rel=1e5 * EPS["float64"])


def test_warm_start_and_scaled_steps_are_switches(small):
    run = lambda **options: meta_learning.curves("bias", 16, 7001, name=small, **options)  # noqa: E731  # a line
    base = run()
    assert not np.array_equal(base.loss, run(scaled=True).loss)
    assert not np.array_equal(base.loss, run(stream=1).loss)
    assert not np.array_equal(base.loss, run(warm=True).loss)  # 64 tasks of 40: some come back
    assert base.loss[0] == run(stream=1).loss[0]
    case = Case("bias", 16, warm=True)
    assert figures_meta.measured(case, 7001, name=small).loss.tolist() == run(warm=True).loss.tolist()


# -- equation (5) ----------------------------------------------------------------------------------------------------
def test_one_task_by_hand():
    """G = ww w²/2 + lw λw + w1 w, F likewise with ll, l1: f' = l1 + ll λ + lw w + w'(lw λ + ww w + w1)."""
    t = eq_5.quadratics({"tasks": 1, "n": 1, "d": 1, "seed": 3})
    F, G, lam = (*(t.whole.upper, t.whole.lower), t.whole.lam(t.lam))
    a, b, c = (Fraction(str(x.ravel()[0])) for x in (G.ww, G.lw, G.w1))
    s = Fraction(str(lam[0]))
    A, B, C, D, E = (Fraction(str(x.ravel()[0])) for x in (F.ww, F.lw, F.w1, F.ll, F.l1))
    w, dw = -(b * s + c) / a, -b / a
    known = E + D * s + B * w + dw * (B * s + A * w + C)
    assert str(t.solved("auto")[0].value[0]) == str(known)
    assert eq_5.exactly(t).observed == 0


def test_coupled_tasks_are_noticed():
    params = {"tasks": 3, "n": 2, "d": 2, "seed": 0}
    assert eq_5.quadratics(params).separable == (True, 0.0)
    coupled = eq_5.quadratics({**params, "coupling": 1})
    assert coupled.separable == (False, pytest.approx(1 / 3, rel=EPS["float64"]))
    assert eq_5.exactly(coupled).observed > 0
