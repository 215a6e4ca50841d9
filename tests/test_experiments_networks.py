"""Experiments on convolutional, residual and transformer networks: what is trained, where it is measured, toy runs."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from refimpl.datasets import load_digits
from refimpl.training import Adam, GradientDescent, Nesterov, train
from tests.toy_registration import toy
from verification import ledger
from verification.claims.dropout_bilevel import figures_conv
from verification.claims.dropout_flatness import figures_networks
from verification.experiments import data_cleaning_conv, flatness_networks, flatness_relations, registration
from verification.experiments.flatness_place import Place
from verification.plots import picture
from verification.verdict import judge

CLAIMS = {c.id.partition("/")[2]: c for c in (*figures_networks.CLAIMS, *figures_conv.CLAIMS)}
NAMES = (flatness_networks.NAME, data_cleaning_conv.NAME)
NETWORKS = list(figures_networks.NETWORKS)
NO_LAM = np.zeros(0)
SIZES = {
    flatness_networks.NAME: {"train": 12, "sentences": 8, "test_sentences": 6, "steps": 30, "drops": [10, 20]}
    | {"samples": 24, "directions": 5, "profiles": 2, "points": 3, "stages": [[4], [4]], "channels": [4, 4]}
    | {"d_model": 4, "d_ff": 3, "factor": 1.001, "warm": 10},
    data_cleaning_conv.NAME: {"train": 30, "validation": 20, "iterations": 6, "every": 2}
    | {"lower_batch": 10, "upper_batch": 10, "stages": [[2], [2]]},
}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """All registrations at toy size; no cached run of another is met."""
    names = {name: toy(name, SIZES[name], tmp_path) for name in NAMES}
    monkeypatch.setattr(registration, "FOLDER", tmp_path)
    monkeypatch.setattr(flatness_relations, "FEWEST", 3)
    return names


@pytest.mark.parametrize("name", NAMES)
def test_a_registration_fixes_what_it_must(name):
    plan = registration.load(name)
    assert len(plan.seeds) >= (4 if name == flatness_networks.NAME else 5)
    assert not set(plan.seeds) & set(plan["pilot"]["seeds"])
    assert 0 < plan["decision"]["confidence"] < 1
    assert all(effect >= 0 for effect in plan["decision"]["smallest_effect"].values())
    assert plan["statistic"]


def test_every_claim_is_registered_and_too_dear_for_quick():
    assert len(CLAIMS) == len(figures_networks.CLAIMS) + len(figures_conv.CLAIMS) == 30 + 4
    for claim in CLAIMS.values():
        assert claim.budget.quick is None
        assert claim.grade == "illustrative"
        assert "$" in claim.statement
        assert claim.registration == registration.load(claim.explicit[0]["registration"]).path


# -- flatness --------------------------------------------------------------------------------------------------------
def test_every_network_has_the_documents_optimiser():
    plan = registration.load(flatness_networks.NAME)
    kinds = [type(flatness_networks.optimiser(plan["algorithm"][network], 8)) for network in NETWORKS]
    assert kinds == [Nesterov, GradientDescent, Adam]
    rate = flatness_networks.optimiser(plan["algorithm"]["convolutional"], 1).rate
    assert [round(0.1 / rate(k)) for k in (0, 149, 150, 225, 275)] == [1, 1, 10, 100, 1000]


def test_sentences_are_split_without_overlap_and_digits_too():
    plan = registration.load(flatness_networks.NAME)
    data = flatness_networks.task(plan, "transformer", 7001)
    assert (data.train.count, data.test.count) == (plan["data"]["sentences"], plan["data"]["test_sentences"])
    seen = {row.tobytes() for row in data.train.X[:, :4]}
    assert not seen & {row.tobytes() for row in data.test.X[:, :4]}
    images = flatness_networks.task(plan, "residual", 7001)
    assert images.train.count + images.test.count == len(load_digits().y)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_measured_block_is_a_parameter_matrix_without_biases(small, network):
    plan = registration.load(small[flatness_networks.NAME])
    data = flatness_networks.task(plan, network, 7001)
    f, net = data.train, data.train.architecture
    rows = net.weights(plan["networks"][network]["measured"])
    place = Place(f, flatness_networks.masked(f, 0.5), data.start, rows)
    assert not set(rows) & set(net.biases)
    block, signs = place.hessian(), np.zeros(f.d)
    signs[rows] = np.random.default_rng(0).choice([-1.0, 1.0], len(rows))
    product = f.hess_ww(NO_LAM, data.start) @ signs
    # a sum of columns, each of them one product; symmetrising rounds once more
    allowed = len(rows) ** 2 * np.finfo(float).eps * max(np.abs(block).max(), np.abs(product).max())
    assert np.abs(block @ signs[rows] - product[rows]).max() <= allowed
    assert np.abs(block - block.T).max() == 0
    assert np.abs(product[rows]).max() > allowed


@pytest.mark.parametrize("network", NETWORKS)
def test_masks_of_ones_change_nothing_and_masks_change_the_run(small, network):
    plan = registration.load(small[flatness_networks.NAME])
    data = flatness_networks.task(plan, network, 7001)
    plain, ones, dropped = (
        flatness_networks.trained(plan, network, data, np.random.default_rng(7001), p)
        for p in (None, 1.0, 0.5)
    )
    assert plain.k == plan["algorithm"][network]["steps"]
    assert np.array_equal(plain.w, ones.w)
    assert not np.array_equal(plain.w, dropped.w)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_run_is_a_function_of_its_seed(small, network):
    def run(seed, of=flatness_networks.measured):
        return of(NETWORKS.index(network), seed, name=small[flatness_networks.NAME])

    first, second, other = run(7001), run(7001, flatness_networks.measured.__wrapped__), run(7002)
    assert first.dropped.loss == second.dropped.loss != other.dropped.loss
    assert first.without.loss != first.dropped.loss
    assert set(first.scatters) == set(figures_networks.NOISES)
    for kind, scatter in first.scatters.items():
        assert scatter.along == second.scatters[kind].along
        assert np.array_equal(scatter.hessian.y, second.scatters[kind].hessian.y)


@pytest.fixture
def scattered(small, monkeypatch):
    """Runs the first seed of a network and returns its plan, what it found, and what ``scatter`` was given, by turn."""

    def run(network):
        seen, inner = [], flatness_networks.scatter

        def spy(place, H, top, samples, wanted):
            seen.append((place, H, samples, wanted))
            return inner(place, H, top, samples, wanted)

        monkeypatch.setattr(flatness_networks, "scatter", spy)
        name = small[flatness_networks.NAME]
        found = flatness_networks.measured.__wrapped__(NETWORKS.index(network), 7001, name=name)
        return registration.load(name), found, dict(zip(found.scatters, seen, strict=True))

    return run


@pytest.mark.parametrize("network", NETWORKS)
def test_all_ways_go_on_from_where_dropout_ended(scattered, network):
    """The first step of the drift is the optimiser's, from the state that one longer run under dropout passes."""
    plan, _, given = scattered(network)
    data, keep = (
        flatness_networks.task(plan, network, 7001),
        flatness_networks.keep_prob(plan, network),
    )
    place, _, path, wanted = given["trajectory"]
    steps, samples = plan["algorithm"][network]["steps"], plan["statistic"]["samples"]
    longer = train(
        flatness_networks.masked(data.train, keep),
        data.start,
        flatness_networks.schedule(plan, network),
        steps=steps + samples,
        rng=np.random.default_rng([7001, flatness_networks.TRAINING]),
        draw="shared mask",
        every=steps,
        last=samples + 1,
    )
    assert np.array_equal(longer.path[0], place.w)
    assert np.array_equal(longer.path[1:, place.rows], path)
    state = flatness_networks.trained(
        plan, network, data, np.random.default_rng([7001, flatness_networks.TRAINING]), keep
    )
    once = flatness_networks.schedule(plan, network).step(state, data.train.grad_w(NO_LAM, state.w))
    assert np.array_equal(once.w[place.rows], given["drift"][2][0])
    assert {one[0].w.tobytes() for one in given.values()} == {state.w.tobytes()}
    assert all(len(one[2]) == samples for one in given.values())
    assert wanted["factor"] == (1.001 if network == "transformer" else 2.0)
    assert not np.array_equal(given["isotropic"][2], given["drift"][2])


def test_another_initialisation_is_another_one_on_the_same_data(small):
    plan = registration.load(small[flatness_networks.NAME])
    one, other = (flatness_networks.task(plan, "residual", 7001, initial=k) for k in (0, 1))
    assert np.array_equal(one.train.X, other.train.X)
    assert np.array_equal(one.test.X, other.test.X)
    assert not np.array_equal(one.start, other.start)


def test_directions_that_rounding_made_are_left_out():
    """A straight line of points far from 0 has one direction; what rounding adds is some 13 digits smaller."""
    rng = np.random.default_rng(7001)
    line = 1e3 * rng.standard_normal(12) + 1e-3 * np.linspace(0, 1, 30)[:, None] * rng.standard_normal(12)
    assert len(flatness_relations.principal(line, 12).values) > 1
    assert len(flatness_networks.above_rounding(line, 12).values) == 1


def test_too_few_pairs_are_no_relation_and_no_error():
    found = flatness_networks.related(np.arange(1.0, 30), np.full(29, np.inf))
    assert np.isnan([found.rank, found.slope, found.r2]).all()
    assert found.left_out == 29


def test_along_is_the_trace_for_a_covariance_like_the_identity():
    rng = np.random.default_rng(7001)
    H, samples = (rng.standard_normal(shape) for shape in ((5, 5), (40, 5)))
    H += H.T
    centred = samples - samples.mean(axis=0)
    sigma = centred.T @ centred / 40
    size = 40 * np.abs(H).sum() * np.finfo(float).eps
    assert abs(flatness_networks.along(H, samples) - 5 * np.trace(H @ sigma) / np.trace(sigma)) <= 5 * size
    white = samples @ np.linalg.inv(np.linalg.cholesky(sigma)).T
    spread = np.linalg.cond(sigma) * 5 * size
    assert abs(flatness_networks.along(H, white) - np.trace(H)) <= spread


def planted(claim, scatters, trace):
    """The claim on runs that found these scatters, functions of the seed, and this trace of H."""

    def measured(case, seed):
        found = {noise: of(seed) for noise, of in scatters.items()}
        return SimpleNamespace(scatters=found, trace=trace(seed))

    plan = registration.load(flatness_networks.NAME)
    claim = dataclasses.replace(claim, build=lambda _: figures_networks.Cautious(plan, measured))
    return judge(claim, budget=1, seed=0)


@pytest.mark.parametrize(
    ("ratio", "bad", "verdict"),
    [
        (30.0, None, "not refuted"),
        (1.5, None, "refuted"),
        (3.0, None, "undecided"),
        (30.0, 0.0, "undecided"),
        (1.5, -1.0, "undecided"),
    ],
)
def test_the_outcomes_of_alignment(ratio, bad, verdict):
    """Ratios that scatter by turns of the seed, above the factor, below it, around it; and one run with Tr H <= 0."""

    def of(x):
        return lambda seed: SimpleNamespace(along=x * 1.2 ** (-1) ** seed)

    drawn = {
        noise: of(ratio if noise in ("gradients", "trajectory") else 1.0) for noise in figures_networks.NOISES
    }
    judged = planted(
        CLAIMS["alignment@residual"], drawn, lambda seed: bad if seed == 12 and bad is not None else 1.0
    )
    assert judged.verdict == verdict, judged.reason
    assert "error" not in judged.reason
    shown = (judged.hunt.counterexample or judged.hunt.worst).measurement.detail
    assert shown["runs without a ratio"] == (bad is not None)
    json.dumps(ledger.entry(CLAIMS["alignment@residual"], judged, level="full", seed=0), allow_nan=False)


@pytest.mark.parametrize(("kind", "sign"), [("hessian", 1), ("interval", -1)])
@pytest.mark.parametrize(
    ("dropout", "drift", "verdict"),
    [(0.9, 0.4, "not refuted"), (0.4, 0.9, "refuted"), (0.5, 0.5, "undecided")],
)
def test_a_trajectory_must_beat_the_drift(kind, sign, dropout, drift, verdict):
    """A strong relation that descent alone has too is none of dropout's."""

    def of(rank):
        def relation(seed):
            one = SimpleNamespace(
                rank=sign * rank + 0.2 * (-1) ** (seed // 2) * (rank == dropout),
                slope=1.0,
                r2=0.5,
                left_out=0,
                x=np.arange(1.0, 4),
                y=np.arange(1.0, 4),
            )
            return SimpleNamespace(interval={"plain": one}, hessian=one)

        return relation

    drawn = {"trajectory": of(dropout), "drift": of(drift - 1e-9), "isotropic": of(0.1)}
    judged = planted(CLAIMS[f"inverse-variance-flatness@{kind}-trajectory-residual"], drawn, lambda seed: 1.0)
    assert judged.verdict == verdict, judged.reason


# -- data cleaning ----------------------------------------------------------------------------------------------------
def test_the_split_is_disjoint_and_pixels_are_centred():
    plan = registration.load(data_cleaning_conv.NAME)
    noisy, clean = (data_cleaning_conv.task(plan, "convolutional", 7001, share) for share in (0.6, 0.0))
    assert np.array_equal(noisy.train.X, clean.train.X)
    assert noisy.corrupted.sum() == round(0.6 * plan["data"]["train"])
    assert clean.corrupted.sum() == 0
    wrong = np.any(noisy.train.y != noisy.clean.y, axis=0)
    assert np.array_equal(wrong, noisy.corrupted)
    size = plan["data"]["scale"] * len(noisy.train.X) * np.finfo(float).eps
    assert np.abs(noisy.train.X.mean(axis=0)).max() <= size
    counts = [loss.count for loss in (noisy.train, noisy.validation, noisy.test)]
    assert sum(counts) == len(load_digits().y)


def test_the_mean_network_scales_the_outputs_of_both_convolutions(small):
    """By hand: ReLU is positively homogeneous, so p goes into the weights behind each convolution."""
    plan, p = registration.load(small[data_cleaning_conv.NAME]), 0.25
    f = data_cleaning_conv.task(plan, "convolutional", 7001, 0.0).test
    net, w = f.architecture, f.architecture.random(0)
    scaled = w.copy()
    for name in ("convolution 1", "convolution 2"):
        scaled[net.spans[name]] *= p  # weights and biases: p·relu(z) = relu(p·z)
    found = f.drop_units(np.full(net.units, p)).scores(w)
    assert np.abs(found - f.scores(scaled)).max() <= net.size * np.finfo(float).eps * np.abs(found).max()


def test_a_cleaning_run_is_a_function_of_its_seed(small):
    first, second = (
        of("convolutional", 0.8, 7001, name=small[data_cleaning_conv.NAME])
        for of in (data_cleaning_conv.curves, data_cleaning_conv.curves.__wrapped__)
    )
    for field in dataclasses.fields(first):
        assert np.array_equal(getattr(first, field.name), getattr(second, field.name))
    assert first.iteration.tolist() == [0, 2, 4, 6]


# -- claims at toy size ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "claim_id",  # one of every form, and of every network
    [
        "flatter-minima@accuracy-residual",
        "flatter-minima@equal-loss-transformer",
        "inverse-variance-flatness@interval-gradients-convolutional",
        "inverse-variance-flatness@hessian-trajectory-transformer",
        "alignment@convolutional",
        "figure-1@convolutional",
        "figure-2@f1-convolutional",
    ],
)
def test_claims_run_at_toy_size(small, claim_id):
    claim = CLAIMS[claim_id]
    params = {**claim.explicit[0], "registration": small[claim.explicit[0]["registration"]]}
    judged = judge(dataclasses.replace(claim, explicit=(params,)), budget=1, seed=0)
    assert "error" not in judged.reason
    assert judged.verdict in ("not refuted", "refuted", "undecided", "vacuous")
    json.dumps(ledger.entry(claim, judged, level="full", seed=0), allow_nan=False)
    drawn = picture(ledger.figure(judged))
    assert all(name in drawn.alt for name in judged.figure["lines"])
