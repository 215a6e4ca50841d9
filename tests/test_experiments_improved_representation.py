"""Hyper-representation: tasks, heads and runs are what they stand for, and claims have three outcomes."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from refimpl.counting import counted
from refimpl.datasets import load_digits
from refimpl.datasets.episodes import rotate_classes, split_classes
from refimpl.exact import improved_hypergradient
from tests.rounding import EPS, assert_rounded
from tests.toy_registration import toy
from verification import ledger
from verification.claims._figures import Experiment
from verification.claims.improved_bilevel import figures_representation
from verification.claims.improved_bilevel.figures_representation import cells
from verification.experiments import improved_representation, registration
from verification.experiments.improved_representation import (
    INITIAL,
    SOLVED,
    SPLIT,
    Case,
    Curves,
    alone,
    body,
    hypergradient,
    inner,
    spent,
    tasks,
)
from verification.plots import picture
from verification.verdict import judge

NAME, CALLS_NAME = improved_representation.NAME, improved_representation.CALLS_NAME
CLAIMS = {claim.id.removeprefix("improved-bilevel/figure-"): claim for claim in figures_representation.CLAIMS}
SIZES = {"body": [64, 3], "queries": 2, "tasks": 3, "new_tasks": 2, "iterations": 2, "every": 2, "late": 1}
SIZES |= {"solved_iterations": 2, "limit": 20, "shots": [1, 2], "inner": [2, 3]}


@pytest.fixture
def both(tmp_path, monkeypatch):
    """The registrations at toy size, by their names; no cached run is met."""
    names = {n: toy(n, SIZES | {"tasks": iter((SIZES["tasks"], 2))}, tmp_path) for n in (NAME, CALLS_NAME)}
    monkeypatch.setattr(registration, "FOLDER", tmp_path)
    return names


@pytest.fixture
def small(both):
    return both[NAME]


def test_the_registration_fixes_what_it_must():
    plan = registration.load(NAME)
    assert plan.seeds == tuple(range(8))
    assert min(plan["pilot"]["seeds"]) >= 100
    for key in ("iterations", "solved_iterations"):
        assert plan["algorithm"][key] % plan["statistic"]["every"] == 0
    assert max(plan["data"]["ways"]) <= min(plan["data"]["classes"])


def test_what_calls_are_compared_with_is_as_registered_before():
    """On seeds that runs at equal numbers of iterations have not seen."""
    old, new = registration.load(NAME), registration.load(CALLS_NAME)
    assert not {*old.seeds, *old["pilot"]["seeds"]} & {*new.seeds}
    for table in ("data", "networks", "algorithm", "statistic"):
        assert new[table] == {key: old[table][key] for key in new[table]}
    assert new["decision"] == old["decision"]


def test_every_claim_is_registered_and_too_dear_for_quick():
    assert len(CLAIMS) == len(figures_representation.CLAIMS) == 15
    for claim in figures_representation.CLAIMS:
        assert claim.budget.quick is None
        assert claim.grade == "illustrative"
        assert "$" in claim.statement  # without it the whole sentence would be typeset as a formula
        assert "$" in claim.corrected.tex
        name = CALLS_NAME if claim.id.endswith("-calls") else NAME
        assert claim.registration == registration.load(name).path
        assert claim.explicit == ({"registration": name},)


@pytest.mark.parametrize("key", ["4@one-shot", "5@seen", "5@solved", "5@sooner-calls"])
def test_claims_run_at_toy_size(both, key):
    """Two iterations decide nothing; whatever the verdict, it has numbers, a plot and no error."""
    (params,) = CLAIMS[key].explicit
    claim = dataclasses.replace(CLAIMS[key], explicit=({"registration": both[params["registration"]]},))
    judged = judge(claim, budget=1, seed=0)
    assert "error" not in judged.reason, judged.reason
    assert judged.verdict in ("not refuted", "refuted", "undecided", "vacuous")
    json.dumps(ledger.entry(claim, judged, level="full", seed=0), allow_nan=False)
    assert picture(ledger.figure(judged)).uri


def verdict(key, of):
    """Of accuracies that depend on the case and the seed by ``of``."""

    def measured(case, seed):
        value = np.full(5, of(case, seed))
        return Curves(np.arange(5), value, value, np.arange(5.0), np.zeros(5))

    made = Experiment(registration.load(NAME), measured)
    return judge(dataclasses.replace(CLAIMS[key], build=lambda _: made, curve=None), budget=1, seed=0).verdict


def noise(case, seed):
    """Its mean over the registered seeds is 0, and that of its differences."""
    return 1e-4 * (-1) ** seed * (case.improved or case.stream == 1) / case.shots


@pytest.mark.parametrize(
    "key",
    [
        "4@accuracy",
        "4@every-setting",
        "4@one-shot",
        "5@sooner",
        "5@seen",
        "5@solved",
        "4@accuracy-calls",
        "5@sooner-calls",
    ],
)
def test_claims_have_three_outcomes(key):
    gain = lambda size: lambda c, s: size * c.improved / c.shots**2 + noise(c, s)  # noqa: E731  # a line
    assert verdict(key, gain(0.05)) == "not refuted"
    assert verdict(key, gain(-0.05)) == "refuted"
    assert verdict(key, lambda c, s: 1e4 * noise(c, s)) == "undecided"
    assert verdict(key, lambda c, s: gain(0.05)(c, s) + 0.05 * (c.stream == 1) / c.shots**2) == "vacuous"


def test_one_setting_alone_refutes_all_of_them():
    worst = list(cells("softmax").values())[3]
    of = lambda c, s: 0.05 * c.improved * (c != worst) + noise(c, s)  # noqa: E731  # a line
    assert verdict("4@every-setting", of) == "refuted"
    assert verdict("4@accuracy", of) == "not refuted"


@pytest.mark.parametrize("key", ["4@accuracy", "4@sooner", "5@accuracy", "5@sooner"])
def test_calls_are_compared_where_they_are_claimed(key):
    """The basic model is better where it may spend as many calls, and nowhere else. Kills: runs of the other kind."""
    of = lambda c, s: 0.05 * (c.improved != c.per_call) + noise(c, s)  # noqa: E731  # a line
    assert verdict(f"{key}-calls", of) == "refuted"
    assert verdict(key, of) == "not refuted"


# -- tasks and runs ------------------------------------------------------------------------------------------------
def test_new_tasks_are_of_other_digits(small):
    """Every image of a task is a turned digit of the seed's own set of classes."""
    plan, data = registration.load(small), rotate_classes(load_digits())
    images = {x.tobytes(): set() for x in data.X}
    for x, y in zip(data.X, data.y, strict=True):
        images[x.tobytes()].add(int(y) % 10)
    train, new = tasks(plan, Case("softmax", 2, 1, 2))
    for i, seed in enumerate(plan.seeds):
        sets = split_classes(40, plan["data"]["classes"], np.random.default_rng([seed, SPLIT]), copies=4)
        for part, classes in zip((train, new), sets, strict=True):
            digits = {int(c) % 10 for c in classes}
            for loss in (part.query, part.support):
                assert all(images[x.tobytes()] & digits for x in loss.X[i].reshape(-1, 64))
    assert train.query.y.shape == (2, 3, 2, 4)
    squared, _ = tasks(plan, Case("squared", 2, 1, 2))
    assert set(np.unique(squared.support.y)) == {-1, 1}


def head_by_hand(plan, case, problem, lam, weights):
    """BiG-SAM on every task alone, with steps of one task, and α_k = ``weights``."""
    steps, heads, T = plan["algorithm"][case.heads], [], problem.lower.X.shape[-3]
    for j in range(T):
        levels = [
            dataclasses.replace(loss, X=loss.X[j : j + 1], y=loss.y[j : j + 1], reg=reg)
            for loss, reg in ((problem.upper, plan["algorithm"]["ridge"]), (problem.lower, 0.0))
        ]
        w = np.zeros(levels[0].d)
        for alpha in weights:
            z = w - steps["t"] * levels[0].grad_w(lam, w)
            y = w - steps["s"] * levels[1].grad_w(lam, w)
            w = alpha * z + (1 - alpha) * y
        heads.append(w)
    return np.concatenate(heads)


@pytest.mark.parametrize("heads", ["softmax", "squared"])
@pytest.mark.parametrize("improved", [True, False])
def test_an_inner_step_is_that_of_one_task(small, heads, improved):
    """Kills: steps of the mean over tasks, F's ridge divided once too often, another schedule, F on new tasks."""
    plan, case = registration.load(small), Case(heads, 2, 1, 3)
    problem = tasks(plan, case)[0].some(np.array([[0, 2], [1, 2]]))
    lam = np.stack([body(plan).random(np.random.default_rng([seed, INITIAL])) for seed in plan.seeds])
    found = inner(plan, case, 2, improved=improved).run(problem, lam, np.zeros((2, problem.d))).w
    weights = [1.0, 1.0, 2 / 3] if improved else [0.0] * 3
    for i in range(2):
        w = head_by_hand(plan, case, alone(problem, i), lam[i], weights)
        assert_rounded(found[i], w, terms=1 + np.abs(w).max(), count=500)


def test_one_iteration_descends_on_the_query_loss_through_the_heads(small):
    """λ's move against central differences. Kills: another sign, the loss without its heads' motion."""
    plan, case = registration.load(small), Case("softmax", 2, 1, 2)
    problem = tasks(plan, case)[0].some(np.array([[0, 2], [1, 2]]))
    lam = np.stack([body(plan).random(np.random.default_rng([seed, INITIAL])) for seed in plan.seeds])
    lower, zero = inner(plan, case, 2, improved=True), np.zeros((2, problem.d))
    way = np.random.default_rng(0).standard_normal(lam.shape) / lam.shape[1] ** 0.5
    h = EPS["float64"] ** (1 / 3)
    ends = [problem.upper.value(x, lower.run(problem, x, zero).w) for x in (lam + h * way, lam - h * way)]
    slope = (hypergradient(plan, case, problem, lam).value * way).sum(-1)
    assert np.abs((ends[0] - ends[1]) / (2 * h) - slope).max() <= 1e3 * h**2  # third derivatives below 6000


def solved_by_hand(plan, problem, lam):
    """F at the best of the heads that solve least squares on the support: bases by SVD, F minimised along them."""
    total, T = 0.0, problem.lower.X.shape[0]
    net = body(plan)
    for j in range(T):
        A, Q = (
            np.c_[net.forward(lam, loss.X[j].T).output.T, np.ones(loss.X.shape[1])]
            for loss in (problem.lower, problem.upper)
        )
        for k in range(problem.lower.y.shape[1]):
            u, values, vt = np.linalg.svd(A)
            rank = int((values > 1e-9 * values[0]).sum())
            w = vt[:rank].T @ ((u.T @ problem.lower.y[j, k])[:rank] / values[:rank])
            N, ridge = vt[rank:].T, plan["algorithm"]["ridge"]
            curved = N.T @ (Q.T @ Q / len(Q) + ridge * np.eye(len(w))) @ N
            slope = N.T @ (Q.T @ (Q @ w - problem.upper.y[j, k]) / len(Q) + ridge * w)
            w = w - N @ np.linalg.solve(curved, slope)
            total += np.mean((Q @ w - problem.upper.y[j, k]) ** 2) / 2 + ridge * w @ w / 2
    return total / T


def test_solved_heads_are_the_best_of_those_that_fit(small):
    """The hypergradient at K = ∞ against central differences of that value. Kills: the nearest heads for the best."""
    plan, case = registration.load(small), Case("squared", 2, 1, SOLVED)
    problem = tasks(plan, case)[0].some(np.array([[0, 2], [1, 2]]))
    lam = np.stack([body(plan).random(np.random.default_rng([seed, INITIAL])) for seed in plan.seeds])
    exact, rng = hypergradient(plan, case, problem, lam).value, np.random.default_rng(0)
    for i in range(2):
        way, h = rng.standard_normal(lam.shape[1]) / lam.shape[1] ** 0.5, 1e-5
        ends = [solved_by_hand(plan, alone(problem, i), lam[i] + sign * h * way) for sign in (1, -1)]
        slope = float(exact[i] @ way)
        # eps/h from rounding and h² third derivatives, of what may be 1e4 times as large where supports are near
        assert abs((ends[0] - ends[1]) / (2 * h) - slope) <= 1e4 * (EPS["float64"] / h + h**2) * (
            1 + abs(slope)
        )
    basic = hypergradient(plan, case._replace(improved=False), problem, lam).value
    assert np.linalg.norm(basic - exact) > 1e-2 * np.linalg.norm(exact)


def test_runs_share_tasks_and_starts(small):
    case = Case("softmax", 2, 1, 2)
    runs = [improved_representation.curves(c, name=small) for c in (case, case._replace(improved=False))]
    for improved, basic in zip(*runs, strict=True):
        assert improved.iteration.tolist() == [0, 2]
        assert improved.accuracy[0] == basic.accuracy[0]
        assert np.array_equal(basic.seen, basic.accuracy)


# -- what it costs ---------------------------------------------------------------------------------------------------
def test_the_calls_of_the_basic_model_are_those_of_the_improved_one(both):
    """To within one iteration, in more iterations and as many records. Kills: equal iterations, calls of one level."""
    case = Case("squared", 2, 1, 3, per_call=True)
    found = {
        improved: improved_representation.curves(case._replace(improved=improved), name=both[CALLS_NAME])
        for improved in (True, False)
    }
    for improved, basic in zip(found[True], found[False], strict=True):
        each = basic.calls[-1] / basic.iteration[-1]
        assert improved.calls[-1] - each < basic.calls[-1] <= improved.calls[-1]
        assert improved.iteration.tolist() == [0, 2]
        assert basic.iteration[-1] > improved.iteration[-1]
        assert len(basic.calls) == len(improved.calls)
        # of both levels, or of G alone: K gradients, K products with cross derivatives, and with Hessians K or, as the
        # first step's is not needed, K − 1; and F's two gradients in the end
        for levels, calls in ((2, improved.calls[-1] / 2), (1, each)):
            assert levels * (3 * 3 - 1) + 2 <= calls <= levels * 3 * 3 + 2
        assert not basic.matrices.any()
    equal = improved_representation.curves(
        case._replace(improved=False, per_call=False), name=both[CALLS_NAME]
    )
    assert equal[0].iteration.tolist() == [0, 2]


def test_all_gradients_and_products_are_counted():
    """Matrices apart. Kills: a role or a kind that is left out."""
    kinds = ("grad_w", "grad_lam", "hess_ww", "cross")
    counts = {f"{role}.{kind}": 1 for role in ("upper", "lower") for kind in kinds}
    assert spent(counts) == (8, 0)
    assert spent(counts | {"lower.hess_ww dense": 3, "upper.hess_ww dense": 2}) == (8, 5)


def test_solved_heads_have_counts(small):
    """The mean of the seeds'; the matrices that are assembled are told apart."""
    plan, case = registration.load(small), Case("squared", 2, 1, SOLVED)
    problem = tasks(plan, case)[0].some(np.array([[0, 2], [1, 2]]))
    lam = np.stack([body(plan).random(np.random.default_rng([seed, INITIAL])) for seed in plan.seeds])
    found, costs = hypergradient(plan, case, problem, lam), []
    for i, x in enumerate(lam):
        watched, counts = counted(alone(problem, i))
        improved_hypergradient(watched, x)
        costs.append(spent(counts))
    assert np.mean(costs, 0).tolist() == [found.calls, found.matrices]
    assert np.min(costs) > 0
