"""Experiments: registrations that come first, statistics that mean what they say, three outcomes, both commits."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from refimpl.datasets import load_digits
from refimpl.errors import BadInput
from refimpl.networks import MLP
from refimpl.spaces import Bernoulli
from verification import ledger, runner
from verification.claims.dropout_bilevel import figures
from verification.experiments import data_cleaning, few_shot, registration, statistics
from verification.plots import picture
from verification.report import render
from verification.verdict import judge

CLAIMS = {item.claim.id: item.claim for item in runner.discover().values() if item.claim.registration}
NAMES = ("data_cleaning", "few_shot")
SIZES = {
    "data_cleaning": {"train": 30, "validation": 20, "iterations": 8, "every": 2, "lower_batch": 10}
    | {"upper_batch": 10, "one-hidden": [64, 4, 10], "three-hidden": [64, 4, 3, 4, 10]},
    "few_shot": {"iterations": 4, "every": 2, "body": [64, 5, 4], "test_tasks": 3, "tasks": 2, "queries": 3},
}


def tiny(text, sizes):
    """A registration's text with other sizes, and seeds that are neither registered nor the pilots'."""
    lines = []
    for line in text.splitlines():
        name = line.partition(" = ")[0]
        if name in sizes:
            line = f"{name} = {sizes[name]}"
        elif name == "seeds":
            line = "seeds = [7001, 7002]" if "[pilot]" not in "\n".join(lines) else "seeds = [7003]"
        lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Both registrations at toy size; the names are new, so no cached run of another plan is met."""
    for name in NAMES:
        text = (registration.FOLDER / f"{name}.toml").read_text(encoding="utf-8")
        (tmp_path / f"tiny_{name}.toml").write_text(tiny(text, SIZES[name]), encoding="utf-8")
    monkeypatch.setattr(registration, "FOLDER", tmp_path)
    return {name: f"tiny_{name}" for name in NAMES}


# -- registrations ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_a_registration_fixes_what_it_must(name):
    plan = registration.load(name)
    assert (registration.CLONE / plan.path).is_file()
    assert len(plan.seeds) >= 5
    assert not set(plan.seeds) & set(plan["pilot"]["seeds"])
    assert 0 < plan["decision"]["confidence"] < 1
    assert all(0 < p < 1 for p in plan["algorithm"]["keep_probs"])
    assert all(effect > 0 for effect in plan["decision"]["smallest_effect"].values())


@pytest.mark.parametrize(
    ("name", "change", "needle"),
    [
        ("without", lambda text: text.replace("[decision", "[other"), "no decision"),
        ("seen", lambda text: text.replace("[7003]", "[7002]"), "pilot runs have seen"),
    ],
)
def test_a_registration_is_refused(small, name, change, needle):
    path = registration.FOLDER / f"{small['data_cleaning']}.toml"
    path.with_stem(name).write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(BadInput, match=needle):
        registration.load(name)


def test_every_claim_of_the_figures_is_registered_and_too_dear_for_quick():
    assert {claim.id for claim in figures.CLAIMS} <= CLAIMS.keys()
    for claim in CLAIMS.values():
        assert claim.budget.quick is None
        assert claim.grade == "illustrative"
        assert "$" in claim.statement  # without it the whole sentence would be typeset as a formula
        assert "$" in claim.corrected.tex
    for claim in figures.CLAIMS:
        assert claim.registration == registration.load(claim.explicit[0]["registration"]).path
    for number in (1, 2, 3):
        assert any(claim.startswith(f"dropout-bilevel/figure-{number}@") for claim in CLAIMS)


def git(folder, *words):
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder, path, text):
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_text(text, encoding="utf-8")
    git(folder, "add", path)
    git(folder, "commit", "-m", path)
    return git(folder, "rev-parse", "HEAD")


def row(claim_id, verdict):
    return f'[full."{claim_id}"]\ngrade = "illustrative"\nverdict = "{verdict}"\n\n'


def test_both_commits_are_found_and_ordered(tmp_path):
    git(tmp_path, "init", "-q")
    plan, claim = "plan.toml", "d/figure@a"
    first = commit(tmp_path, plan, "seeds = [1]\n")
    assert registration.history(plan, claim, clone=tmp_path).recorded is None
    commit(tmp_path, registration.RECORDED, row("d/figure@ab", "refuted"))
    assert (
        registration.history(plan, claim, clone=tmp_path).recorded is None
    )  # the other id only begins alike
    recorded = row(claim, "refuted") + row("d/figure@ab", "refuted")
    commit(tmp_path, registration.RECORDED, recorded)
    again = commit(tmp_path, registration.RECORDED, recorded.replace("refuted", "undecided", 1))
    commit(tmp_path, registration.RECORDED, row("a/b", "holds") + recorded.replace("refuted", "undecided"))
    known = registration.history(plan, claim, clone=tmp_path)
    assert (known.registered.id, known.recorded.id) == (first, again)
    assert registration.is_ancestor(known.registered, known.recorded, clone=tmp_path)
    assert not registration.is_ancestor(known.recorded, known.registered, clone=tmp_path)
    assert not registration.is_ancestor(known.registered, known.registered, clone=tmp_path)
    (tmp_path / plan).write_text("seeds = [2]\n", encoding="utf-8")
    assert registration.history(plan, claim, clone=tmp_path).changed
    late = commit(tmp_path, plan, "seeds = [2]\n")
    known = registration.history(plan, claim, clone=tmp_path)
    assert known.registered.id == late
    assert not known.changed
    assert not registration.is_ancestor(known.registered, known.recorded, clone=tmp_path)


def test_the_first_commit_may_record(tmp_path):
    git(tmp_path, "init", "-q")
    commit(
        tmp_path, registration.RECORDED, "# two lines\n\n" + row("d/x", "refuted").replace("full", "quick")
    )
    assert (
        registration.history("plan.toml", "d/x", clone=tmp_path).recorded is None
    )  # a quick result is not asked
    second = commit(tmp_path, registration.RECORDED, row("d/y", "refuted") + row("d/x", "refuted"))
    assert registration.history("plan.toml", "d/y", clone=tmp_path).recorded.id == second
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    first = commit(other, registration.RECORDED, row("d/x", "refuted"))
    assert registration.history("plan.toml", "d/x", clone=other).recorded.id == first


def test_without_git_the_report_says_so(tmp_path, monkeypatch):
    assert "no git clone" in registration.history("plan.toml", "d/x", clone=tmp_path).unknown
    (tmp_path / ".git").mkdir()
    assert "git cannot be asked" in registration.history("plan.toml", "d/x", clone=tmp_path).unknown
    monkeypatch.setattr("verification.report.history", lambda *_: registration.History(unknown="no clone"))
    assert "cannot be named: no clone" in page(next(iter(CLAIMS.values())))


@pytest.mark.parametrize("claim_id", sorted(CLAIMS))
def test_the_registration_came_before_its_result(claim_id):
    known = registration.history(CLAIMS[claim_id].registration, claim_id)
    if known.unknown:
        pytest.skip(known.unknown)
    if known.recorded is None:
        pytest.skip("no result is committed yet")
    assert known.registered is not None
    assert registration.is_ancestor(known.registered, known.recorded)


def page(claim):
    entry = ledger.not_rerun(claim, None, level="quick", seed=0)
    return render(ledger.ledger([entry], level="quick", seed=0, versions={}), {})


def test_the_report_names_both_commits(monkeypatch):
    ids = [registration.Commit(letter * 40, "2030-01-02") for letter in "ab"]
    monkeypatch.setattr("verification.report.history", lambda *_: registration.History(*ids, changed=True))
    text = page(CLAIMS["dropout-bilevel/figure-2@f1-linear"])
    for needle in (
        "verification/experiments/data_cleaning.toml",
        "a" * 12,
        "b" * 12,
        "not committed as it is",
    ):
        assert needle in text
    monkeypatch.setattr("verification.report.history", lambda *_: registration.History())
    assert "The registration is not committed. No result is committed" in page(next(iter(CLAIMS.values())))


def test_a_fingerprint_names_the_registrations(monkeypatch):
    from pathlib import Path

    read = Path.read_bytes

    def marks(module):
        return runner.fingerprint(module, level="full", seed=0)

    modules = [figures.__name__, "verification.claims.contraction.lemma_28"]
    before = [marks(module) for module in modules]
    edited = lambda path: read(path) + (b"#" if path.name == "few_shot.toml" else b"")  # noqa: E731  # a stand-in
    monkeypatch.setattr(Path, "read_bytes", edited)
    after = [marks(module) for module in modules]
    assert before[0] != after[0]
    assert before[1] == after[1]


# -- statistics ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("comparisons", [1, 3])
def test_intervals_are_students(comparisons):
    x = np.random.default_rng(0).standard_normal(8) + 0.3
    found = statistics.interval(x, 0.95, comparisons)
    known = stats.ttest_1samp(x, 0).confidence_interval(1 - 0.05 / comparisons)
    size = 10 * 8 * np.finfo(float).eps * np.abs(known).max() * 100  # 100: scipy's own quantiles, to 1e-13
    assert abs(found.low - known.low) <= size
    assert abs(found.high - known.high) <= size


def test_the_smallest_effect_is_seen_as_often_as_stated():
    """Noise of one size, effects of the size stated for it: the interval leaves 0 out in about 80 % of the trials."""
    noise = np.random.default_rng(1).standard_normal((4000, 8))
    seen = np.mean([statistics.interval(x, 0.95, 3).seen / np.std(x, ddof=1) for x in noise[:20]])
    hits = np.mean([statistics.interval(x + seen, 0.95, 3).low > 0 for x in noise])
    assert 0.7 < hits < 0.9
    false = np.mean([statistics.interval(x, 0.95, 3).low > 0 for x in noise])
    assert abs(false - 0.05 / 6) < 5 * (0.05 / 6 / 4000) ** 0.5


STEPS = np.linspace(0, 1, 11)


def planted(effects, noise=0.002, spread=0.0):
    """An experiment whose statistics are planted: keep probability -> effect on everything late in the run.

    The noise is plus and minus the same size, by turns of the seed: differences from keep probability 1 have it.
    """
    plan = registration.load("data_cleaning")

    def run(keep_prob, seed, *, stream=0, corrupted=None):
        differs = keep_prob < 1 or stream or 1.0 in effects
        effect = 0.0 if corrupted == 0.0 else effects.get(keep_prob, 0.0)
        late = STEPS >= 0.8
        shift = differs * noise * (-1) ** seed
        level = 0.5 + late * (effect + shift)
        wobble = np.where(np.arange(11) % 2, 1, -1) * (spread - effect + shift if spread else 0)
        values = dict.fromkeys(("train", "clean", "test", "f1"), level + late * wobble)
        if 1.0 in effects:  # overfitting: training accuracy rises by what test accuracy falls
            values["test"] = 1 - values["train"]
        return data_cleaning.Curves(100 * STEPS, **values)

    return figures.Experiment(plan, run)


@pytest.mark.parametrize(
    ("claim_id", "effects", "options", "verdict"),
    [
        ("figure-2@accuracy-linear", {0.8: 0.05}, {}, "not refuted"),
        ("figure-2@accuracy-linear", {0.9: -0.05, 0.8: -0.05, 0.5: -0.05}, {}, "refuted"),
        ("figure-2@accuracy-linear", {0.9: -0.005, 0.8: -0.005, 0.5: -0.005}, {}, "refuted"),
        ("figure-2@accuracy-linear", {}, {"noise": 0.05}, "undecided"),
        ("figure-2@f1-linear", {0.5: 0.05}, {}, "not refuted"),
        ("figure-2@stable-linear", {0.5: 0.05}, {"spread": 0.1}, "not refuted"),
        ("figure-2@stable-linear", {0.5: -0.05}, {"spread": 0.1, "noise": 0.0005}, "refuted"),
        ("figure-1@linear", {1.0: 0.05}, {}, "not refuted"),
        ("figure-1@linear", {1.0: -0.05}, {}, "refuted"),
        ("figure-1@linear", {1.0: 0.001}, {"noise": 0.05}, "undecided"),
    ],
)
def test_the_three_outcomes(claim_id, effects, options, verdict):
    claim = dataclasses.replace(
        CLAIMS[f"dropout-bilevel/{claim_id}"], build=lambda _: planted(effects, **options)
    )
    judged = judge(claim, budget=1, seed=0)
    assert judged.verdict == verdict, judged.reason
    shown = (judged.hunt.counterexample or judged.hunt.worst).measurement.detail
    assert shown["smallest effect"] > 0
    assert judged.figure["lines"]


def test_no_difference_at_all_is_no_effect():
    """The interval is the point 0: not above it."""
    same = {"keep 0.5": statistics.interval(np.zeros(5), 0.95)}
    assert not statistics.some(same).holds
    assert not statistics.every(same).holds


def test_an_effect_where_it_is_switched_off_makes_the_claim_vacuous():
    e = planted({0.8: 0.05})

    def drifting(keep_prob, seed, *, stream=0, corrupted=None):
        return e.run(0.8 if stream else keep_prob, seed, corrupted=corrupted)

    claim = CLAIMS["dropout-bilevel/figure-2@accuracy-linear"]
    judged = judge(
        dataclasses.replace(claim, build=lambda _: dataclasses.replace(e, run=drifting)), budget=1, seed=0
    )
    assert judged.verdict == "vacuous"


# -- data cleaning -----------------------------------------------------------------------------------------------
def test_the_split_is_disjoint_and_the_same_for_every_share():
    plan = registration.load("data_cleaning")
    with_noise, clean = (data_cleaning.task(plan, "linear", 7001, share) for share in (0.6, 0.0))
    assert np.array_equal(with_noise.train.X, clean.train.X)
    assert with_noise.corrupted.sum() == round(0.6 * plan["data"]["train"])
    assert clean.corrupted.sum() == 0
    wrong = np.any(with_noise.train.y != with_noise.clean.y, axis=0)
    assert np.array_equal(wrong, with_noise.corrupted)
    rows = np.concatenate([loss.X for loss in (clean.train, clean.validation, clean.test)])
    whole = load_digits().X
    assert np.array_equal(rows[np.lexsort(rows.T)], whole[np.lexsort(whole.T)])


def test_f1_is_its_definition():
    rng = np.random.default_rng(0)
    flagged, wrong = rng.random((5, 12)) < 0.5, rng.random(12) < 0.5
    for row_, value in zip(flagged, data_cleaning.f1(flagged, wrong), strict=True):
        pairs = list(zip(row_.tolist(), wrong.tolist(), strict=True))
        hit, false, missed = (pairs.count(pair) for pair in ((True, True), (True, False), (False, True)))
        precision, recall = hit / (hit + false), hit / (hit + missed)
        assert value == pytest.approx(2 * precision * recall / (precision + recall), rel=1e-14)
    nothing = np.zeros(4, dtype=bool)
    assert data_cleaning.f1(nothing, nothing) == 1
    assert data_cleaning.f1(~nothing, nothing) == 0


def test_masks_cover_rows_or_input_features():
    linear, hidden = MLP((3, 2)), MLP((3, 4, 2), "relu")
    space = data_cleaning.masks(linear, 0.5)
    drawn = space.mask(np.array([0, 1, 0, 1]), linear.backend).reshape(2, 4)
    assert np.array_equal(drawn, [[0, 1, 0, 1]] * 2)
    assert [float(p) for p in space.keep_prob] == [0.5, 0.5, 0.5, 1]  # the bias is kept
    assert data_cleaning.masks(hidden, 0.5) == hidden.rows(0.5)
    assert isinstance(space, Bernoulli)


def test_the_mean_network_scales_every_hidden_output():
    """Masked rows times p are hidden ReLU outputs times p: what the accuracies are taken of."""
    net, p, rng = MLP((3, 4, 5, 2), ("relu", "relu")), 0.25, np.random.default_rng(0)
    w = net.random(rng)
    scaled = w * [float(q) for q in data_cleaning.masks(net, p).of_coordinates()]
    h = x = rng.standard_normal((3, 6))
    for i, W in enumerate(net.layers(w)):
        z = W[:, :-1] @ h + W[:, -1:]
        h = p * np.maximum(z, 0) if i < 2 else z
    difference = np.abs(net.scores(scaled, x.T) - h).max()
    assert difference <= 10 * net.size * np.finfo(float).eps * np.abs(h).max()


def test_a_run_is_a_function_of_its_seed(small):
    plan = registration.load(small["data_cleaning"])

    def both(*words, **options):
        runs = []
        for _ in range(2):
            data_cleaning.curves.cache_clear()
            runs.append(data_cleaning.curves(*words, name=plan.name, **options))
        return runs

    first, second = both("one-hidden", 0.8, 7001)
    for field in dataclasses.fields(first):
        assert np.array_equal(getattr(first, field.name), getattr(second, field.name))
    assert first.iteration.tolist() == [0, 2, 4, 6, 8]
    assert first.window([0.2, 0.5]).tolist() == [False, True, True, False, False]
    others = [both("one-hidden", *case, **options)[0] for case, options in (
        ((0.8, 7002), {}), ((0.5, 7001), {}), ((1.0, 7001), {}), ((1.0, 7001), {"stream": 1}),
        ((1.0, 7001), {"corrupted": 0.0}))]  # fmt: skip
    signatures = {tuple(np.round(run.test, 12)) + tuple(np.round(run.train, 12)) for run in [first, *others]}
    assert len(signatures) == 6


# -- few-shot --------------------------------------------------------------------------------------------------------
def test_test_tasks_come_from_other_digits():
    """Every rotation of a digit is on the same side."""
    plan = registration.load("few_shot")
    train, test = few_shot.tasks(plan, 7001)
    sizes = plan["data"]
    assert train.support_X.shape == (sizes["tasks"], sizes["ways"] * sizes["shots"], 64)
    assert test.query_X.shape == (sizes["test_tasks"], sizes["ways"] * sizes["queries"], 64)
    turned = np.concatenate(
        [
            np.rot90(x.reshape(-1, 8, 8), r, axes=(1, 2)).reshape(-1, 64)
            for r in range(4)
            for x in train.query_X
        ]
    )
    seen = {row_.tobytes() for row_ in turned}
    assert not seen & {row_.tobytes() for row_ in test.query_X.reshape(-1, 64)}


def test_new_heads_are_solved_one_task_at_a_time(small):
    """All tasks at once on a leading axis, and each alone by SciPy."""
    from scipy.optimize import minimize

    plan = registration.load(small["few_shot"])
    body = MLP(tuple(plan["networks"]["body"]), "relu", body=True)
    lam = body.random(np.random.default_rng(0), gain=2**0.5)
    queries, support = few_shot.losses(plan, body, few_shot.tasks(plan, 7001)[1])
    right = []
    for j in range(plan["data"]["test_tasks"]):
        one, ask = (dataclasses.replace(f, X=f.X[j : j + 1], y=f.y[j : j + 1]) for f in (support, queries))
        found = minimize(
            lambda w, f=one: f.value(lam, w), np.zeros(one.d), jac=lambda w, f=one: f.grad_w(lam, w),
            method="BFGS", options={"gtol": 1e-7},
        )  # fmt: skip
        right.append(ask.accuracy(lam, found.x).mean())
    assert few_shot.on_new_tasks(queries, support, lam) == pytest.approx(np.mean(right), abs=1e-12)


def test_a_layer_without_dropout_is_no_layer(small):
    base = few_shot.curves(None, 1.0, 7001, name=small["few_shot"])
    masked = few_shot.curves(1, 0.5, 7001, name=small["few_shot"])
    assert base.iteration.tolist() == [0, 2, 4]
    assert not np.array_equal(base.train, masked.train)
    e = figures.episodes({"registration": small["few_shot"], "layer": 2})
    assert e.run(1.0, 7001) is base
    assert e.run(0.5, 7001) is masked


@pytest.mark.parametrize("claim_id", ["figure-1@one-hidden", "figure-2@stable-linear", "figure-3@layer-1"])
def test_claims_run_at_toy_size(small, claim_id):
    claim = CLAIMS[f"dropout-bilevel/{claim_id}"]
    params = {
        **claim.explicit[0],
        "registration": small["few_shot" if "layer" in claim_id else "data_cleaning"],
    }
    judged = judge(dataclasses.replace(claim, explicit=(params,)), budget=1, seed=0)
    assert "error" not in judged.reason
    assert judged.verdict in ("not refuted", "refuted", "undecided", "vacuous")
    json.dumps(ledger.entry(claim, judged, level="full", seed=0), allow_nan=False)
    drawn = picture(ledger.figure(judged))
    assert all(name in drawn.alt for name in judged.figure["lines"])


def test_lines_that_do_not_fit_are_refused():
    claim = dataclasses.replace(
        CLAIMS["dropout-bilevel/figure-2@f1-linear"],
        build=lambda _: planted({}),
        curve=lambda _: {"x": [1, 2], "lines": {"a": [1.0]}},
    )
    assert "differ in length" in judge(claim, budget=1, seed=0).reason


def test_git_is_asked_only_when_the_report_is_built():
    """Importing the claims starts no process: a ledger does not depend on the clone's history."""
    program = (
        "import subprocess, verification.claims.dropout_bilevel.figures as f\n"
        "subprocess.run = None; print(len(f.CLAIMS))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=registration.CLONE, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(len(figures.CLAIMS))
