"""The training loop: drawn gradients against all masks, added noise, and what a run promises."""

from __future__ import annotations

import itertools as it
import math

import numpy as np
import pytest

from refimpl.arrays import to_numpy
from refimpl.errors import BadInput
from refimpl.networks import loss
from refimpl.spaces import Bernoulli
from refimpl.training import Adam, Diverged, Draws, GradientDescent, Isotropic, gaussian, train
from refimpl.zoo import quadratic
from tests.backends import on_cpu
from tests.rounding import EPS, assert_rounded
from tests.training_things import bowl, network, optimisers

# -- the loop -------------------------------------------------------------------------------------------------
CASES = {
    "expected": {},
    "shared mask": {"draw": "shared mask"},
    "own masks": {"draw": "own masks"},
    "one sample": {"draw": "one sample"},
    "own masks of a batch": {"draw": "own masks", "batch": 2},
    "shared mask of a batch": {"draw": "shared mask", "batch": 2},
    "batch of the expectation": {"batch": 2},
    "isotropic": {"noise": Isotropic(0.5)},
}


@optimisers
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_run_is_its_two_halves(case, optimiser):
    """Bit for bit. Kills: a schedule that starts again, momenta that are lost, a second stream."""
    D, start = network()[1], np.random.default_rng(2).standard_normal((4, 12))
    whole = train(D, start, optimiser, steps=6, rng=5, last=3, **case)
    rng = np.random.default_rng(5)
    first = train(D, start, optimiser, steps=3, rng=rng, **case)
    second = train(D, first.state, optimiser, steps=3, rng=rng, last=3, **case)
    assert (whole.w == second.w).all()
    assert (whole.path == second.path).all()
    assert whole.state.k == second.state.k == 6
    assert (whole.records["loss"][3:] == second.records["loss"]).all()
    assert second.times == (3, 4, 5, 6)


def each_mask(D, w, batches, shapes):
    """Gradients under every choice of unit masks (independently for what ``shapes`` counts) and batches, literally."""
    f, keep = D.f, float(D.w.keep_prob[0])
    found = []
    for batch in batches:
        for bits in it.product((0, 1), repeat=shapes(batch) * f.units):
            masks = np.array(bits, dtype=float).reshape(-1, f.units) / keep
            masks = np.broadcast_to(masks, (len(batch), f.units))
            terms = [
                f.at(np.array(i)).drop_units(m).grad_w(np.zeros(0), w)
                for i, m in zip(batch, masks, strict=True)
            ]
            found.append(np.mean(terms, axis=0))
    return np.array(found)


WAYS = {  # draw, batch: minibatches of three samples; how many masks a batch has
    ("shared mask", None): ([(0, 1, 2)], lambda batch: 1),
    ("own masks", None): ([(0, 1, 2)], len),
    ("one sample", None): ([(0,), (1,), (2,)], len),
    ("shared mask", 2): (list(it.product(range(3), repeat=2)), lambda batch: 1),
    ("own masks", 2): (list(it.product(range(3), repeat=2)), len),
}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_gradients_are_drawn_from_all_of_their_law(way):
    """Replicates of one step take every possible gradient, as often as they should, and no other one.

    Kills: one mask for own masks and own masks for one, replicates that share masks or data, masks without 1/p, masks
    drawn from 1 − p, batches without replacement.
    """
    D, (draw, batch), (batches, shapes) = network()[1], way, WAYS[way]
    w, count = np.random.default_rng(3).standard_normal(12), 2**13
    possible = each_mask(D, w, batches, shapes)
    run = train(
        D, np.tile(w, (count, 1)), GradientDescent(1.0), steps=1, rng=7, draw=draw, batch=batch, record={}
    )
    rounding = 10 * 64 * EPS["float64"] * (np.abs(w).max() + np.abs(possible).max())
    near = (
        np.abs((w - run.w)[:, None] - possible).max(axis=-1) <= rounding
    )  # keep = 1/2: all are equally likely
    same = np.abs(possible[:, None] - possible).max(axis=-1) <= rounding
    assert near.any(axis=1).all()
    share, expected = near.mean(axis=0), same.mean(axis=0)
    variance, log = expected * (1 - expected), math.log(2 * len(possible) / 1e-9)  # Bernstein, all at once
    allowed = np.sqrt(2 * variance * log / count) + 2 * log / (3 * count)
    assert (np.abs(share - expected) <= allowed).all()
    assert (near.sum(axis=0) > 0).all()


def test_keep_probabilities_are_kept():
    """Unequal ones: E of the drawn gradient is that of the exact expectation, every draw. Kills: p for 1 − p."""
    _, D = network(keep=0.8)
    w, count, lam = np.random.default_rng(3).standard_normal(12), 2**13, np.zeros(0)
    for draw, batch in it.product(("shared mask", "own masks", "expected", "one sample"), (None, 2)):
        if (draw, batch) in (("expected", None), ("one sample", 2)):
            continue
        gradients = Draws(D, draw, batch).sample(np.random.default_rng(1), (count,)).grad_w(lam, w)
        half = 6.5 * gradients.std(axis=0) / math.sqrt(count)  # of a normal mean: 12 · 5 coordinates, 5e-9
        rounding = count * EPS["float64"] * np.abs(gradients).max()
        assert (np.abs(gradients.mean(axis=0) - D.grad_w(lam, w)) <= half + rounding).all()


def test_masks_are_drawn_in_every_step():
    """Two units, 16 steps: with masks drawn once all increments of a linear loss would be equal."""
    f = quadratic.objective(ww=np.zeros((2, 2)), w1=[1.0, 2.0], n=0)
    run = train(
        f.with_dropout(0.5),
        np.zeros((8, 2)),
        GradientDescent(1.0),
        steps=16,
        rng=0,
        draw="shared mask",
        last=16,
    )
    steps = -np.diff(np.concatenate([np.zeros((1, 8, 2)), run.path]), axis=0)
    assert set(steps[..., 0].ravel()) == {0.0, 1.0}
    assert set(steps[..., 1].ravel()) == {0.0, 2.0}
    kept = (steps > 0).reshape(16, 16)  # step, replicate and coordinate: 16 sequences, no two of them alike
    assert len({tuple(column) for column in kept.T}) == 16
    assert len({tuple(row) for row in kept}) == 16


def test_expected_is_exact_and_draws_nothing():
    f, D = network()
    rng, lam = np.random.default_rng(0), np.zeros(0)
    w = np.ones(12) / 4
    run = train(D, w, GradientDescent(0.25), steps=2, rng=rng, record={"all": lambda w: D.value(lam, w)})
    first = w - 0.25 * D.grad_w(lam, w)
    assert (run.w == first - 0.25 * D.grad_w(lam, first)).all()
    assert run.records["all"].tolist() == [float(D.value(lam, x)) for x in (w, first, run.w)]
    assert rng.random() == np.random.default_rng(0).random()
    plain = train(D, w, GradientDescent(0.25), steps=2)
    assert plain.records["loss"].tolist() == [float(f.value(lam, x)) for x in (w, first, run.w)]


def test_records_path_and_callback():
    seen = []
    run = train(
        bowl(), np.ones((3, 4)), GradientDescent(0.125), steps=7, every=3, last=2, callback=seen.append
    )
    assert run.times == (0, 3, 6, 7)
    assert [s.k for s in seen] == [3, 6, 7]
    assert run.records["loss"].shape == (4, 3)
    assert run.path.shape == (2, 3, 4)
    assert (run.path[0] == train(bowl(), np.ones((3, 4)), GradientDescent(0.125), steps=6).w).all()
    assert (run.path[1] == run.w).all()
    assert train(bowl(), np.ones(4), GradientDescent(0.125), steps=0, last=5).path.shape == (0, 4)
    assert train(bowl(), np.ones(4), GradientDescent(0.125), steps=2, last=5).path.shape == (2, 4)
    host = train(
        bowl().to("strict"), [1.0] * 4, GradientDescent(0.125), steps=1, record={"one": lambda w: 1.0}
    )
    assert host.records["one"].tolist() == [1.0, 1.0]


def test_divergence_is_an_error_that_holds_the_run():
    with pytest.raises(Diverged, match="lower the learning rate") as caught:
        train(bowl(), np.ones(4), GradientDescent(1e200), steps=9, every=1)
    run = caught.value.result
    assert run.times == (0, 1, 2)
    assert not np.isfinite(run.w).all()


def test_interruption_returns_what_there_is():
    def stop(state):
        if state.k == 2:
            raise KeyboardInterrupt

    run = train(bowl(), np.ones(4), GradientDescent(0.125), steps=9, callback=stop)
    assert run.interrupted
    assert run.times == (0, 1, 2)
    assert run.state.k == 2


def test_lambda_is_passed_on_and_its_axes_are_replicates():
    # kills: noise that the replicates of λ share, records whose first entry lacks their axis
    f = quadratic.objective(ww=np.eye(2), lw=[[1.0, -1.0]], n=1)
    options = {"steps": 1, "lam": np.array([[3.0], [5.0]]), "record": {"w": lambda w: w}}
    run = train(f, [0.0, 0.0], GradientDescent(1.0), **options)
    assert run.records["w"].tolist() == [[[0.0, 0.0], [0.0, 0.0]], [[-3.0, 3.0], [-5.0, 5.0]]]
    noisy = train(f, [0.0, 0.0], GradientDescent(1.0), rng=0, noise=Isotropic(1.0), **options)
    assert len(set((noisy.w - run.w).ravel().round(9))) == 4


# -- noise ----------------------------------------------------------------------------------------------------
FLAT = quadratic.objective(ww=np.zeros((3, 3)), n=0)


def squares(values, degrees):
    """Is Σ values² chi-squared of so many degrees? (Laurent & Massart 2000, Lemma 1; wrong with probability 2e-9.)"""
    x = math.log(1e9)
    low, high = -2 * math.sqrt(degrees * x), 2 * math.sqrt(degrees * x) + 2 * x
    return low <= float(np.sum(values**2)) - degrees <= high


@on_cpu
def test_isotropic_noise_has_its_trace(place):
    """Kills: trace for the variance of one coordinate, its square root left out, noise drawn once."""
    f, start = place.move(FLAT), place.array(np.zeros((5000, 3)))
    run = train(f, start, GradientDescent(1.0), steps=2, rng=0, noise=Isotropic(6.0), last=2)
    first, second = to_numpy(run.path)
    for moved in (first, second - first):
        assert squares(moved / math.sqrt(2), 15000)
        assert all(squares(moved[:, i] / math.sqrt(2), 5000) for i in range(3))
    assert squares((first + (second - first)) / 2, 15000)  # independent of one another
    each = train(FLAT, np.zeros((2, 3)), GradientDescent(1.0), steps=1, rng=0, noise=Isotropic([0.0, 3.0])).w
    assert (each[0] == 0).all()
    assert (each[1] != 0).all()


def test_gaussian_noise_has_its_covariance():
    """Of rank 2 in three dimensions. Kills: the transposed root, variances for their roots."""
    directions = np.array([[1.0, 2.0, -1.0], [0.0, 1.0, 1.0]])
    sigma = directions.T @ np.diag([4.0, 0.25]) @ directions
    noise = gaussian(sigma)
    assert noise.root.shape == (3, 2)
    assert_rounded(noise.root @ noise.root.T, sigma, terms=np.linalg.norm(sigma), count=2 * 3)
    run = train(FLAT, np.zeros((5000, 3)), GradientDescent(1.0), steps=1, rng=0, noise=noise)
    white = run.w @ np.linalg.pinv(noise.root).T
    assert squares(white, 10000)
    assert squares(white @ np.array([1.0, 1.0]) / math.sqrt(2), 5000)
    assert_rounded(run.w, white @ noise.root.T, terms=np.abs(run.w).max(), count=4 * 3, condition=8.0)


def test_noise_refuses_what_is_no_covariance():
    for wrong in (np.diag([1.0, -1e-3]), [[1.0, 0.5], [0.0, 1.0]], np.ones(3), [[math.nan]]):
        with pytest.raises(BadInput, match="not a covariance"):
            gaussian(wrong)
    for trace in (-1.0, math.inf, [1.0, math.nan]):
        with pytest.raises(BadInput, match="trace"):
            Isotropic(trace)
    with pytest.raises(BadInput, match="does not fit"):
        train(FLAT, np.zeros(3), GradientDescent(1.0), steps=1, rng=0, noise=gaussian(np.eye(2)))


# -- refusals -------------------------------------------------------------------------------------------------
def test_refusals():
    f, D = network()
    weights = f.with_dropout(Bernoulli(0.5, groups=[0] * 12))
    both = quadratic.objective(ww=np.eye(2), n=1).with_dropout({"lam": 0.5, "w": 0.5})
    masked_lam = loss(f.net, [[1.0, 0.0]], [0], n=1).with_dropout(
        {"lam": 0.5, "w": f.net.unit_masks(0.5)}, site="activations"
    )
    w, gd = np.zeros(12), GradientDescent(0.1)
    for objective, options, message in (
        (f, {"draw": "shared mask", "rng": 0}, "no masks"),
        (f, {"draw": "own masks", "rng": 0}, "no masks"),
        (weights, {"draw": "own masks", "rng": 0}, "masks of weights"),
        (both, {"draw": "own masks", "rng": 0}, "refimpl.networks"),
        (masked_lam, {"draw": "own masks", "rng": 0, "lam": [1.0]}, "random masks of λ"),
        (D, {"draw": "shared masks", "rng": 0}, "pick one"),
        (D, {"draw": "one sample", "batch": 2, "rng": 0}, "no batch"),
        (D, {"draw": "shared mask", "batch": 0, "rng": 0}, "batch size"),
        (D, {"draw": "shared mask"}, "no generator"),
        (D, {"noise": Isotropic(1.0)}, "no generator"),
        (D, {"every": 0}, "every"),
        (D, {"last": -1}, "last"),
        (f.at(np.arange(2)), {"batch": 1, "rng": 0}, "leading axes"),
        (both, {}, "depends on λ"),
    ):
        with pytest.raises(BadInput, match=message):
            train(objective, w, gd, **{"steps": 1, **options})
    for kinds, message in (
        ((f, "sgd", None), "optimiser cannot be trained with"),
        ((f, GradientDescent, None), "optimiser cannot be trained with"),
        ((lambda w: w @ w, gd, None), "objective cannot be trained with"),
        ((f, gd, 0.5), "noise cannot be trained with"),
    ):
        with pytest.raises(BadInput, match=message):
            train(kinds[0], w, kinds[1], steps=1, noise=kinds[2], rng=0)
    with pytest.raises(BadInput, match="steps"):
        train(f, w, gd, steps=-1)
    with pytest.raises(BadInput, match="another optimiser"):
        train(f, Adam(0.1).start(w), gd, steps=1)
    with pytest.raises(BadInput, match="wrong shape"):
        train(f, np.zeros(11), gd, steps=1)
