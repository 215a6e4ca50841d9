"""The flatness experiments: statistics that mean what they say, places that are what they stand for, three outcomes."""

import dataclasses
import json

import numpy as np
import pytest

from refimpl import networks
from refimpl.curvature import hessian, noise
from refimpl.curvature.alignment import alignment
from refimpl.curvature.directions import EigenDirections, eigen_directions, embedded
from refimpl.curvature.flatness import interval_flatness
from refimpl.errors import BadInput
from refimpl.networks import MLP
from tests.rounding import EPS, assert_rounded
from tests.toy_registration import toy
from verification import ledger
from verification.claims import _figures
from verification.claims.dropout_flatness import figures
from verification.claims.dropout_flatness._figures_minima import SCORES
from verification.claims.dropout_flatness._figures_trajectory import beyond
from verification.experiments import (
    flatness_alignment,
    flatness_digits,
    flatness_minima,
    flatness_place,
    flatness_relations,
    flatness_trajectory,
    flatness_variance,
    registration,
)
from verification.plots import picture
from verification.verdict import judge

CLAIMS = {claim.id.removeprefix("dropout-flatness/"): claim for claim in figures.CLAIMS}
NAMES = (flatness_alignment.NAME, flatness_minima.NAME, flatness_trajectory.NAME, flatness_variance.NAME)
NO_LAM = np.zeros(0)
SIZES = {
    flatness_alignment.NAME: {"train": 20, "fnn": [64, 6, 5, 10], "steps": [0, 2, 5], "samples": 8},
    flatness_minima.NAME: {"train": 20, "fnn": [64, 6, 5, 10], "steps": 4, "directions": 3, "points": 5},
    flatness_trajectory.NAME: {
        "train": 20,
        "fnn": [64, 6, 5, 10],
        "steps": 4,
        "samples": 32,
        "directions": 12,
    }
    | {"probes": 6},
    flatness_variance.NAME: {"train": 20, "fnn": [64, 6, 8, 10], "steps": 4, "samples": 64, "directions": 12}
    | {"masks": 2},
}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """All registrations at toy size; no cached run of another is met."""
    names = {name: toy(name, SIZES[name], tmp_path) for name in NAMES}
    monkeypatch.setattr(registration, "FOLDER", tmp_path)
    return names


# -- registrations and claims ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_a_registration_fixes_what_it_must(name):
    plan = registration.load(name)
    assert len(plan.seeds) >= 5
    assert not set(plan.seeds) & set(plan["pilot"]["seeds"])
    assert 0 < plan["decision"]["confidence"] < 1
    assert all(effect >= 0 for effect in plan["decision"]["smallest_effect"].values())
    assert plan["algorithm"]["runs"]


def test_every_claim_is_registered_and_too_dear_for_quick():
    assert len(CLAIMS) == len(figures.CLAIMS) == 29
    for claim in figures.CLAIMS:
        assert claim.budget.quick is None
        assert claim.grade == "illustrative"
        assert "$" in claim.statement  # without it the whole sentence would be typeset as a formula
        assert "$" in claim.corrected.tex
        assert claim.registration == registration.load(claim.explicit[0]["registration"]).path


@pytest.mark.parametrize(
    "claim_id",  # one of every form: the others differ in what they read from the same runs
    [
        "alignment@layer-1",
        "exploration-phase@loss",
        "flatter-minima@equal-loss-adam",
        "flatter-minima@profile-adam",
        "gradients-more-linear@hessian",
        "inverse-variance-flatness@hessian-gradients-own-masks",
        "inverse-variance-flatness@hessian-trajectory-own-masks",
        "inverse-variance-flatness@interval-gradients-under-dropout",
        "inverse-variance-flatness@interval-trajectory",
        "like-sgd@hessian",
        "like-sgd@interval",
        "prefactor@trained",
    ],
)
def test_claims_run_at_toy_size(small, claim_id):
    """Two steps of training decide nothing; whatever the verdict, it has numbers, a plot and no error."""
    claim = CLAIMS[claim_id]
    params = {"registration": small[claim.explicit[0]["registration"]]}
    judged = judge(dataclasses.replace(claim, explicit=(params,)), budget=1, seed=0)
    assert "error" not in judged.reason, judged.reason
    assert judged.verdict in ("not refuted", "refuted", "undecided", "vacuous")
    json.dumps(ledger.entry(claim, judged, level="full", seed=0), allow_nan=False)
    assert picture(ledger.figure(judged)).uri
    assert all(control.as_required for control in judged.controls if "isotropic" in control.name)


def planted(effect, noise, switched_off=False):
    plan = registration.load(flatness_minima.NAME)
    experiment = _figures.Experiment(plan, lambda case, seed: effect + noise * (-1) ** seed)
    claim = _figures.registered(
        id="dropout-flatness/planted",
        title="Planted",
        source="a test",
        statement="$x > 0$",
        otherwise="$x < 0.1$",
        effects=lambda e: {"x": e.interval(lambda found: found, 0)},
        effect="interval",
        control=("off", lambda e: {"x": e.interval(lambda found: found * switched_off, 0)}),
        detail=lambda e: {},
        params={"registration": flatness_minima.NAME},
        build=lambda _: experiment,
    )
    return judge(claim, budget=1, seed=0)


@pytest.mark.parametrize(
    ("effect", "noise", "verdict"),
    [
        (0.3, 0.01, "not refuted"),
        (0.05, 0.01, "not refuted"),  # small, but seen
        (0.02, 0.05, "refuted"),  # not seen, and what would matter is left out
        (-0.3, 0.01, "refuted"),
        (0.05, 1.0, "undecided"),
    ],
)
def test_the_three_outcomes(effect, noise, verdict):
    judged = planted(effect, noise)
    assert judged.verdict == verdict, judged.reason


def test_an_effect_where_it_is_switched_off_makes_the_claim_vacuous():
    assert planted(0.3, 0.01, switched_off=True).verdict == "vacuous"


# -- statistics -----------------------------------------------------------------------------------------------------
def test_a_power_law_is_found():
    """Kills x for y, logarithms forgotten, pairs left out not counted."""
    x = np.geomspace(1e-6, 10, 40)
    found = flatness_relations.relation(
        np.concatenate([x, [0, 1, 1]]), np.concatenate([3 * x**-0.5, [1, np.inf, -1]])
    )
    assert found.left_out == 3
    assert found.rank == -1
    assert_rounded(found.slope, -0.5, terms=1, count=len(x) * 10)  # ten: logarithms up to 14 are centred
    assert_rounded(found.r2, 1.0, terms=1, count=len(x) * 10)
    assert np.array_equal(found.x, x)


def test_a_relation_of_few_pairs_is_refused():
    x = np.arange(1.0, 10.0)
    with pytest.raises(BadInput, match="too few directions"):
        flatness_relations.relation(x, x)


def test_principal_directions_are_the_covariances():
    """Population covariance (kills S − 1), means taken off, rank S − 1 at most."""
    samples = np.random.default_rng(0).standard_normal((6, 9)) + 5
    found = flatness_relations.principal(samples, 9)
    known = eigen_directions(np.cov(samples, rowvar=False, bias=True), most=5)
    assert found.values.shape == (5,)
    size = float((samples**2).sum())
    assert_rounded(found.values, known.values, terms=size, count=samples.size)
    projections = np.abs(np.sum(found.vectors * known.vectors, axis=-1))
    gaps = np.abs(np.diff([*known.values, 0.0])).min()
    assert_rounded(projections, np.ones(5), terms=size / gaps, count=samples.size)
    assert len(flatness_relations.principal(samples, 2).values) == 2


def test_leading_eigenvectors_are_those_above_rounding():
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    H = Q @ np.diag([4.0, 3.0, 1.0, 0, 0, 0]) @ Q.T
    found = flatness_relations.leading((H + H.T) / 2, 5)
    assert_rounded(found.values, np.array([4.0, 3.0, 1.0]), terms=4, count=36)
    assert_rounded(found.vectors @ H, found.values[:, None] * found.vectors, terms=4, count=36)
    assert len(flatness_relations.leading((H + H.T) / 2, 2).values) == 2


def test_thinning_keeps_both_ends():
    found = EigenDirections(np.arange(10.0), np.eye(10))
    thin = flatness_relations.thinned(found, 4)
    assert thin.values.tolist() == [0, 3, 6, 9]
    assert np.array_equal(thin.vectors, np.eye(10)[[0, 3, 6, 9]])
    assert len(flatness_relations.thinned(found, 50).values) == 10


def test_alignment_needs_no_covariance():
    rng = np.random.default_rng(2)
    A, samples = rng.standard_normal((7, 7)), rng.standard_normal((5, 7)) + 3
    H = A @ A.T
    found = flatness_relations.aligned(H, samples)
    known = alignment(H, np.cov(samples, rowvar=False, bias=True))
    size = np.abs(H).sum() * (samples**2).sum()
    for name in ("trace", "noise", "hessian", "ratio"):
        assert_rounded(
            getattr(found, name), getattr(known, name), terms=max(size, abs(getattr(known, name))), count=100
        )
    assert_rounded(found.noise_squared, known.noise_squared, terms=(samples**2).sum() ** 2, count=100)
    assert found.dimension == 7


# -- places ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def task():
    rng = np.random.default_rng(3)
    net = MLP((7, 6, 5, 4), "relu")
    f = networks.loss(net, rng.standard_normal((9, 7)), rng.integers(0, 4, 9))
    return f, net.random(rng, gain=2**0.5)


def test_the_cut_network_is_the_network(task):
    """Value, gradient, Hessian and widths of the measured layer; masks of the last hidden layer mean the same."""
    f, w = task
    net, place = f.net, flatness_place.between_layers(f, w, 1, 0.5)
    scale, span = 100 * f.count, net.spans[1]
    assert_rounded(place.plain.value(NO_LAM, place.w), f.value(NO_LAM, w), terms=10, count=scale)
    keep = np.r_[np.ones(6), np.array([2.0, 0, 2, 0, 2])]
    whole = f.drop_units(keep).grad_w(NO_LAM, w)[span]
    cut = place.plain.drop_units(keep[6:]).grad_w(NO_LAM, place.w)[place.rows]
    assert_rounded(cut, whole, terms=10, count=scale)
    assert_rounded(place.hessian(), hessian(f, w, layers=(1,)), terms=10, count=scale)
    V = EigenDirections(np.ones(3), np.eye(place.rows.size)[[0, 8, 20]])
    known = interval_flatness(f, w, embedded(V.vectors, span, f.d), start=2.0**-6).width
    # a width's condition: its loss changes by slope · width, rounding by eps · loss; slopes here are above 1e-4
    assert np.array_equal(np.isinf(place.widths(V)), np.isinf(known))
    finite = np.isfinite(known)
    assert_rounded(place.widths(V)[finite], known[finite], terms=known[finite] * 1e4, count=scale)


def test_gradients_are_drawn_under_masks_of_the_stated_kind(task):
    """Shared masks: some unit's row is wholly without gradient; own masks and one sample: seeds decide, sizes fit."""
    f, w = task
    place = flatness_place.between_layers(f, w, 1, 0.5)
    drawn = place.gradients("shared mask", 30, np.random.default_rng(0))
    rows = drawn.reshape(30, 5, 7)
    alive = np.any(
        place.gradients("one sample", 200, np.random.default_rng(0)).reshape(200, 5, 7), axis=(0, 2)
    )
    share = np.mean(~np.any(rows[:, alive], axis=2))
    spread = (0.25 / (30 * alive.sum())) ** 0.5
    assert abs(share - 0.5) < 5 * spread
    own = place.gradients("own masks", 30, np.random.default_rng(0)).reshape(30, 5, 7)
    assert np.mean(~np.any(own[:, alive], axis=2)) < share
    again = place.gradients("shared mask", 30, np.random.default_rng(0))
    assert np.array_equal(drawn, again)


def test_dropout_behind_the_first_layer_masks_what_the_layer_sees(task):
    """A dropped unit of layer 1 leaves its column of the next layer without gradient; the bias's has one."""
    f, w = task
    place = flatness_alignment.added(f, w, 1, 0.5)
    drawn = place.gradients("shared mask", 20, np.random.default_rng(1)).reshape(20, 5, 7)
    zero = ~np.any(drawn, axis=1)
    assert 0 < zero[:, :-1].sum() < zero[:, :-1].size
    assert not zero[:, -1].any()
    assert_rounded(place.hessian(), hessian(f, w, layers=(1,)), terms=10, count=1000)
    behind = flatness_alignment.added(f, w, 2, 0.5)
    assert behind.plain.net.widths == (6, 5, 4)


def test_the_loss_under_dropout_is_a_mean_over_fixed_masks(task):
    """A loop over masks and samples; the same masks at every point."""
    f, w = task
    place = flatness_place.between_layers(f, w, 1, 0.8)
    points = place.dropped.w.sample(np.random.default_rng(4), (3 * f.count,))
    masks = place.dropped.w.mask(points, f.backend, "inverse")
    one_by_one = [
        place.plain.batch(np.array([i % f.count])).drop_units(mask).value(NO_LAM, place.w)
        for i, mask in enumerate(masks)
    ]
    found = place.under(3, 4).value(NO_LAM, place.w)
    assert_rounded(found, np.mean(one_by_one), terms=10, count=100 * f.count)
    assert set(np.unique(masks)) == {0.0, 1.25}


def test_weights_are_the_layer_without_its_last_column():
    places = flatness_alignment.of_weights(MLP((7, 3, 2, 4), "relu"))
    assert places.tolist() == [0, 1, 2, 4, 5, 6]


def test_splits_are_disjoint_and_runs_start_alike(small):
    X, y, rest, rest_y = flatness_digits.split(7001, 20)
    assert len(X) == len(y) == 20
    assert len(rest) == len(rest_y) == 1777
    assert not {x.tobytes() for x in X} & {x.tobytes() for x in rest}
    plan = registration.load(small[flatness_minima.NAME])
    first, second = (flatness_digits.task(plan, seed) for seed in (7001, 7002))
    assert not np.array_equal(first.start, second.start)
    assert np.array_equal(first.start, flatness_digits.task(plan, 7001).start)


# -- what is measured ------------------------------------------------------------------------------------------------
def test_drift_is_the_difference_in_standard_errors():
    falling = np.linspace(1, 0, 32)
    assert flatness_variance.drift(falling, 32) == pytest.approx(8 * (6 / 9) ** 0.5, rel=1e3 * EPS["float64"])
    noise = np.random.default_rng(5).standard_normal(32)
    assert flatness_variance.drift(noise, 32) < 3


def test_the_control_of_the_minima_is_another_run_without_dropout(small):
    """Another start, hence another end; one seed's is always the same."""
    name = small[flatness_minima.NAME]
    without, dropped = flatness_minima.measured(0, 7001, name=name)
    off = flatness_minima.switched_off(0, 7001, name=name)
    assert len({off.width, without.width, dropped.width}) == 3
    flatness_minima.switched_off.cache_clear()
    assert flatness_minima.switched_off(0, 7001, name=name).width == off.width


def test_flatness_at_equal_loss_is_a_parabolas_curvature():
    """F = 2 √(2 L/h) gives 8 L/F² = h, whatever L is."""
    score = SCORES["equal-loss"][2]
    ends = [
        flatness_minima.End(2 * (2 * loss / 3) ** 0.5, 0.0, 0.0, np.zeros(1), loss, 1.0, 1.0)
        for loss in (0.01, 1)
    ]
    for end in ends:
        assert_rounded(score(end), np.log(8 / 3), terms=10, count=10)


def test_the_sharpest_curvature_is_the_hessians(task):
    f, w = task
    known = np.linalg.eigvalsh(np.asarray(f.hess_ww(NO_LAM, w).dense()))[-1]
    assert_rounded(flatness_minima.sharpest(f, w), known, terms=known, count=10 * f.d)


def test_a_run_is_a_function_of_its_seed(small):
    name = small[flatness_variance.NAME]
    found = []
    for _ in range(2):
        flatness_variance.measured.cache_clear()
        found.append(flatness_variance.measured(0, 7001, name=name))
    first, second = found
    assert np.array_equal(first.loss, second.loss)
    assert set(first.scatters) == {*flatness_variance.NOISES, *flatness_variance.HALVES}
    halves = set(flatness_variance.HALVES)
    assert set(flatness_variance.measured(1, 7001, name=name).scatters) == {"trajectory", "dropout"} | halves
    for kind in first.scatters:
        assert first.scatters[kind].hessian.slope == second.scatters[kind].hessian.slope
    assert set(first.scatters["dropout"].interval) == {"plain", "dropout", "1.5", "4"}
    assert not np.array_equal(first.loss, flatness_variance.measured(2, 7001, name=name).loss)


def test_isotropic_noise_has_the_ratio_one(small):
    name = small[flatness_alignment.NAME]
    found = flatness_alignment.measured(0, 7001, name=name)
    assert found.step.tolist() == [0, 2, 5]
    assert np.all(np.diff(found.loss) < 0)
    for reading in flatness_alignment.READINGS:
        isotropic = found.along["isotropic", reading]
        assert np.all(np.abs(np.log(isotropic.ratio)) < np.log(5))  # eight samples in 35 dimensions
        assert np.all(found.along["site 2", reading].trace > 0)


def test_the_excess_over_the_drift_is_signed_and_paired(small):
    """Sharper directions have the larger variance and the smaller width; the drift less itself is 0."""
    name = small[flatness_trajectory.NAME]
    e = _figures.experiment(flatness_trajectory.measured)({"registration": name})
    found = [e.measured(0, seed).scatters for seed in e.plan.seeds]
    assert list(found[0]) == list(flatness_trajectory.WAYS)
    for kind, sign in (("hessian", 1), ("interval", -1)):
        each = [(one["dropout"], one["drift"]) for one in found]
        ranks = [
            [s.hessian.rank if kind == "hessian" else s.interval["plain"].rank for s in pair] for pair in each
        ]
        known = np.mean([sign * (dropout - drift) for dropout, drift in ranks])
        assert_rounded(beyond(kind, "dropout", {"x": 0})(e)["x"].mean, known, terms=1, count=10)
        assert known != 0
        assert beyond(kind, "drift", {"x": 0})(e)["x"].mean == 0


def test_probes_have_the_noises_trace(task):
    """Of masks on the last hidden layer: the exact covariance's trace, to 5 standard errors of the probes' own."""
    f, w = task
    D = flatness_place.with_dropout(f, f.net.last_masks(0.5))
    known = float(np.trace(noise(D, w, draw="shared mask")))
    found = [flatness_trajectory.spread(D, w, "shared mask", 50, np.random.default_rng(k)) for k in range(20)]
    assert abs(np.mean(found) - known) < 5 * np.std(found, ddof=1) / len(found) ** 0.5
    assert np.mean(found) > 0
