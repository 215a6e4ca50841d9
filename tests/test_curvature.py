"""Covariances of stochastic gradients: closed form, halves and enumeration against literal sums; sampled ones too."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from fractions import Fraction
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.arrays import to_numpy
from refimpl.curvature import estimated_noise, gradient_data, last_layer, noise
from refimpl.errors import BadInput, HypothesisViolated, TooLarge
from refimpl.networks import MLP, loss
from refimpl.spaces import Bernoulli
from refimpl.zoo import logistic, quadratic
from tests.backends import Place, everywhere
from tests.curvature_things import (
    DRAWS,
    Case,
    all_masks,
    covariances,
    exact_covariance,
    gradients,
    gradients_by_hand,
    of_table,
    random_case,
    small_case,
    steps,
)
from tests.network_things import Known
from tests.rounding import EPS, assert_rounded, exactly

EVERY = pytest.mark.parametrize("draw", DRAWS)


def _check(
    case: Case, known: dict[str, Known], draw: str, place: Place | None = None, dtype: str = "float64"
) -> None:
    D = case.dropped if place is None else place.move(case.dropped)
    lam, w = (x if place is None else place.array(x) for x in (case.lam, case.w))
    found, expected = noise(D, w, draw=draw, lam=lam), known[draw]
    count = steps(case.f, len(case.masks))
    assert_rounded(found, expected.value, terms=expected.terms, count=count, dtype=dtype)


# -- last hidden layer ----------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(100))
def test_the_closed_form_is_the_sum_over_masks(seed: int) -> None:
    """Squared loss, 2 to 4 layers, up to 12 masked units, all activations, 1 to 3 outputs, all three draws."""
    # kills: s for 1/p, the terms of μ₃ and μ₄, pairs left out, uncentred, 1/N for 1/N², one mask for all samples
    case = random_case(seed)
    known = covariances(case)
    for draw in DRAWS:
        _check(case, known, draw)


@pytest.mark.parametrize("seed", [*range(14), 24])
def test_another_loss_visits_every_mask_in_halves(seed: int) -> None:
    # kills: the halves swapped, across for within, a weight counted once for two errors
    case = random_case(seed, "softmax")
    known = covariances(case)
    for draw in DRAWS:
        _check(case, known, draw)


@EVERY
@pytest.mark.parametrize("scale", ["none", "inverse"])
@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu"])
def test_exact_over_the_rationals(activation: str, scale: str, draw: str) -> None:
    """Two hidden layers, two outputs, unequal keep probabilities: every digit of every entry."""
    case, G = _table(activation, scale)
    D = case.dropped.to("rational")
    found = noise(D, D.backend.asarray(case.w), draw=draw)
    expected = exact_covariance(G, [p for p, _ in case.masks], draw)
    assert [exactly(row) for row in found] == expected


@functools.cache
def _table(activation: str, scale: str) -> tuple[Case, np.ndarray]:
    case = small_case(activation, hidden=(1, 3), scale=scale, seed=1)
    return case, gradients_by_hand(case.f, case.w.tolist(), case.masks)


@EVERY
@pytest.mark.parametrize("groups", [(0, 1, 2, 2, 3), (0, 1, 3, 2, 3)])
def test_units_that_share_a_variable_are_exact_too(groups: tuple[int, ...], draw: str) -> None:
    """Squared loss without a closed form: halves, with a variable of two units and one that is always kept."""
    # kills: groups ignored, a unit's variable taken for another's, the column of what is not random
    net = MLP((1, 2, 3, 1), "relu")
    rng = np.random.default_rng(61)
    f = loss(net, rng.integers(-8, 9, (2, 1)) / 8, rng.integers(-8, 9, 2) / 8, loss="squared", reg=0.25)
    w = rng.integers(1, 9, f.d) / 8
    keep = (1, 1, Fraction(2, 5), 1) if groups[2] == 2 else (1, 1, 1, Fraction(1, 4))
    space = Bernoulli(keep, groups=groups)
    masks = all_masks(keep, "inverse", groups)
    D = f.with_dropout(space, site="activations", scale="inverse").to("rational")
    assert D.closed is None
    found = noise(D, D.backend.asarray(w), draw=draw)
    expected = exact_covariance(gradients_by_hand(f, w.tolist(), masks), [p for p, _ in masks], draw)
    assert [exactly(row) for row in found] == expected


def test_layers_are_the_whole_matrix_s() -> None:
    # kills: the body's pull for a middle layer
    for kind, hidden in (("squared", (2, 3)), ("softmax", (2, 3)), ("squared", (2,))):
        case = small_case("tanh", kind, hidden=hidden, weighted=True)
        known, net = covariances(case), case.f.net
        for draw, size in itertools.product(DRAWS, (1, 2)):
            for layers in itertools.combinations(range(len(net.shapes)), size):
                rows = np.concatenate([np.arange(net.size)[net.spans[k]] for k in layers])
                found = noise(case.dropped, case.w, draw=draw, lam=case.lam, layers=layers)
                part = np.ix_(rows, rows)
                assert_rounded(found, known[draw].value[part], terms=known[draw].terms[part],
                               count=steps(case.f, len(case.masks)))  # fmt: skip


@everywhere
@pytest.mark.parametrize("kind", ["squared", "softmax"])
@EVERY
def test_the_same_on_every_backend(place: Place, kind: str, draw: str) -> None:
    case = small_case("sigmoid", kind, hidden=(2, 3), weighted=True)
    _check(case, _known(kind), draw, place)


@functools.cache
def _known(kind: str) -> dict[str, Known]:
    return covariances(small_case("sigmoid", kind, hidden=(2, 3), weighted=True))


@pytest.mark.parametrize("kind", ["squared", "softmax"])
@EVERY
def test_single_precision_stays_single(kind: str, draw: str) -> None:
    case = small_case("sigmoid", kind, hidden=(2, 3), weighted=True)
    D = case.dropped.to("numpy", dtype="float32")
    found = noise(D, case.w.astype(np.float32), draw=draw, lam=case.lam.astype(np.float32))
    expected = _known(kind)[draw]
    assert found.dtype == np.float32
    assert_rounded(found, expected.value, terms=expected.terms, count=steps(case.f, 8), dtype="float32")


@pytest.mark.parametrize("kind", ["squared", "softmax"])
def test_samples_in_chunks_are_the_same_samples(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # kills: a chunk's 1/N, the labels of the first samples, pairs of the first chunk only
    case = small_case("sigmoid", kind, hidden=(2, 3), weighted=True)
    for cells in (1, 200):
        monkeypatch.setattr(last_layer, "CELLS", cells)
        monkeypatch.setattr("refimpl.curvature.squared.CELLS", cells)
        for draw in DRAWS:
            _check(case, _known(kind), draw)


def test_masks_of_every_sample_go_with_their_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass cut in parts keeps its samples' masks: one mask for all of them, and one each."""
    case = small_case("sigmoid", "softmax", hidden=(2, 3), weighted=True)
    f, rng = case.f, np.random.default_rng(63)
    for masks, of in ((rng.standard_normal(5), f.drop_units), (rng.standard_normal((3, 5)), f.drop_each)):
        run = of(masks).outputs(case.lam, case.w)[0]
        for part in (slice(0, 1), slice(1, 3)):
            some = run.of(part)
            assert np.array_equal(some.output, run.output[:, part])
            e = rng.standard_normal(some.output.shape)
            alone = of(masks).batch(np.arange(3)[part]).outputs(case.lam, case.w)[0]
            sizes = np.abs(some.pull(np.abs(e))).max() + np.abs(some.pull(e)).max() + 1
            assert_rounded(some.pull(e), alone.pull(e), terms=sizes, count=steps(f, 1))


def test_masks_that_are_there_already_multiply() -> None:
    fixed = np.array([0.5, -1.0, 3.0, 1.0, 2.0])
    for kind in ("squared", "softmax"):
        case = small_case("tanh", kind, hidden=(2, 3), weighted=True)
        net, M = case.f.net, np.array([[float(x) for x in m] for _, m in case.masks])
        p = np.array([float(p) for p, _ in case.masks])
        D = case.f.drop_units(fixed).with_dropout(
            net.last_masks(list(case.keep)), site="activations", scale="inverse"
        )
        known = of_table(gradients(case.f, case.lam, case.w, M * fixed), p)
        for draw in DRAWS:
            found = noise(D, case.w, draw=draw, lam=case.lam)
            assert_rounded(found, known[draw].value, terms=known[draw].terms, count=steps(case.f, len(M)))


# -- other sites, other objectives -----------------------------------------------------------------------
@EVERY
@pytest.mark.parametrize("kind", ["squared", "softmax"])
def test_masks_of_two_layers_are_visited(kind: str, draw: str) -> None:
    """One mask for all samples, or one each: 2⁴ masks in the dimensions of the parameters."""
    # kills: one mask for all samples where each has its own, the mean over samples for each sample's
    case = small_case("tanh", kind, hidden=(2, 2), weighted=True)
    f, keep = case.f, (0.5, 0.5, 0.75, 0.75)
    D = f.with_dropout(f.net.unit_masks((0.5, 0.75)), site="activations", scale="inverse")
    M, p = (np.array([row[k] for row in all_masks(keep, "inverse")], dtype=float) for k in (1, 0))
    known = of_table(gradients(f, case.lam, case.w, M), p)[draw]
    for layers, rows in ((None, slice(None)), ([1], f.net.spans[1])):
        found = noise(D, case.w, draw=draw, lam=case.lam, layers=layers)
        assert_rounded(found, known.value[rows, rows], terms=known.terms[rows, rows], count=steps(f, len(M)))


@EVERY
@pytest.mark.parametrize("scale", ["none", "inverse"])
def test_masks_of_parameters_are_visited(draw: str, scale: str) -> None:
    """∇_w f(m∘w) = m∘∇f(m∘w): rows of weights, each with its bias."""
    case = small_case("tanh", "softmax", hidden=(3,))
    f, rows = case.f, case.f.net.rows(Fraction(3, 4))
    D = f.with_dropout({"w": rows}, scale=scale)
    masks = all_masks(rows.keep_prob, scale, rows.groups)
    tables = []
    for _, m in masks:
        factors = np.array([float(x) for x in m])
        G = gradients(f, case.lam, factors * case.w, np.ones((1, f.units)))
        tables.append((factors * G.value[0], factors * G.terms[0]))
    both = Known(*(np.stack([t[k] for t in tables]) for k in (0, 1)))
    known = of_table(both, np.array([float(p) for p, _ in masks]))[draw]
    found = noise(D, case.w, draw=draw)
    assert_rounded(found, known.value, terms=known.terms, count=steps(f, len(masks)))


def test_without_dropout_it_is_the_noise_of_a_random_sample() -> None:
    for case in (random_case(3), random_case(10, "softmax")):
        ones = np.ones((1, case.f.units))
        known = of_table(gradients(case.f, case.lam, case.w, ones), np.ones(1))["one sample"]
        found = noise(case.f, case.w, draw="one sample", lam=case.lam)
        assert_rounded(found, known.value, terms=known.terms, count=steps(case.f, 1))
    shallow = loss(MLP((2, 2)), [[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], [0, 1, 1])
    w = np.arange(6.0) / 4
    G = gradients(shallow, np.zeros(0), w, np.ones((1, 0)))
    known = of_table(G, np.ones(1))["one sample"]
    assert_rounded(
        noise(shallow, w, draw="one sample"), known.value, terms=known.terms, count=steps(shallow, 1)
    )
    f = logistic.random(d=3, seed=1).lower
    lam, w = np.zeros(f.n), np.ones(3)
    rows = np.stack([f.at(i).grad_w(lam, w) for i in range(f.space.size)])
    found = noise(f, w, draw="one sample", lam=lam)
    assert_rounded(found, np.cov(rows.T, bias=True), terms=np.abs(rows).max() ** 2, count=2 * len(rows))


def test_a_mask_for_every_sample_is_no_random_variable_s() -> None:
    """Masks of the samples' own, already there: no structure of a shared pass; every draw still sums over masks."""
    case = small_case("tanh", hidden=(2, 2))
    fixed = np.random.default_rng(62).standard_normal((3, 4))
    D = case.f.drop_each(fixed).with_dropout(
        case.f.net.last_masks(list(case.keep)), site="activations", scale="inverse"
    )
    M, p = (np.array([row[k] for row in case.masks], dtype=float) for k in (1, 0))
    parts = [gradients(case.f, case.lam, case.w, M * fixed[i]) for i in range(3)]
    G = Known(
        *(np.stack([getattr(g, k)[:, i] for i, g in enumerate(parts)], axis=1) for k in ("value", "terms"))
    )
    known = of_table(G, p)
    for draw in DRAWS:
        found = noise(D, case.w, draw=draw)
        assert_rounded(found, known[draw].value, terms=known[draw].terms, count=steps(case.f, len(M)))


@pytest.mark.parametrize("kind", ["squared", "softmax"])
@pytest.mark.parametrize("site", ["last", "units", "weights"])
def test_nothing_is_random_where_everything_is_kept(kind: str, site: str) -> None:
    """keep 1 everywhere: the noise of a random sample alone; the full batch's gradient is a number."""
    case = small_case("tanh", kind, hidden=(2, 2))
    f, net = case.f, case.f.net
    D = {
        "last": lambda: f.with_dropout(net.last_masks(1), site="activations", scale="inverse"),
        "units": lambda: f.with_dropout(net.unit_masks(1), site="activations"),
        "weights": lambda: f.with_dropout({"w": net.rows(1)}),
    }[site]()
    known = of_table(gradients(f, case.lam, case.w, np.ones((1, f.units))), np.ones(1))
    for draw in DRAWS:
        found = noise(D, case.w, draw=draw)
        assert_rounded(found, known[draw].value, terms=known[draw].terms, count=steps(f, 1))
        if not (site == "weights" and draw == "own masks"):
            assert gradient_data(D, case.w, 0, samples=3, draw=draw).shape == (3, f.d)


def test_masks_that_do_not_enter_are_masks_all_the_same() -> None:
    """Dropout of a λ that is no part of the loss: nothing is random but the sample."""
    case = small_case("tanh", hidden=(2,))
    f = loss(case.f.net, case.f.X, case.f.y.T, loss="squared", n=2)
    D, lam = f.with_dropout({"lam": 0.5}), np.ones(2)
    known = of_table(gradients(f, lam, case.w, np.ones((1, 2))), np.ones(1))
    for draw in DRAWS:
        found = noise(D, case.w, draw=draw, lam=lam)
        assert_rounded(found, known[draw].value, terms=known[draw].terms, count=steps(f, 4))


@EVERY
@pytest.mark.parametrize("keep", [(0, 0.5, 1), (1, 0.5, 0.25), (0, 0, 0)])
def test_units_that_are_always_or_never_kept(keep: tuple[Any, ...], draw: str) -> None:
    for kind in ("squared", "softmax"):
        case = dataclasses.replace(small_case("tanh", kind, hidden=(2, 3), scale="none"), keep=keep)
        _check(case, covariances(case), draw)


# -- properties ----------------------------------------------------------------------------------------------
def _size(case: Case) -> float:
    """What rounding sees of the largest entry of each matrix."""
    known = covariances(case)
    count = steps(case.f, len(case.masks))
    return 10 * count * EPS["float64"] * max(float(k.terms.max()) for k in known.values()) * case.f.d


SEEDS = st.integers(0, 10**6).filter(lambda k: k % 25 != 24)  # not the cases of 12 units
CASES = st.builds(random_case, SEEDS, st.sampled_from(["squared", "softmax"]))


@given(CASES)
def test_relations_between_the_three(case: Case) -> None:
    """All positive semidefinite; N Σ_own is the samples' mean covariance; Σ_one − N Σ_own the covariance of means."""
    # kills: 1/N for 1/N², the data's part of the first one left out
    one, own, shared = (noise(case.dropped, case.w, draw=d, lam=case.lam) for d in DRAWS)
    N, rounding = case.f.count, _size(case)
    for matrix in (one, own, shared, one - N * own):
        assert np.abs(matrix - matrix.T).max() <= N * rounding
        assert np.linalg.eigvalsh((matrix + matrix.T) / 2)[0] >= -N * rounding
    alone = []
    for i in range(N):
        net, f = case.f.net, case.f
        single = loss(net, f.X[[i]], f.y[:, i : i + 1].T if f.loss == "squared" else [int(np.argmax(f.y[:, i]))],
                      loss=f.loss, reg=f.reg, weighted=f.weighted)  # fmt: skip
        D = dataclasses.replace(case, f=single).dropped
        alone.append(noise(D, case.w, draw="shared mask", lam=case.lam[[i]] if f.weighted else None))
    assert np.abs(np.mean(alone, axis=0) - N * own).max() <= N * rounding
    assert np.trace(shared) <= N * np.trace(own) + N * rounding * f.d  # Jensen: Var of a mean <= mean of Var


@given(CASES, st.randoms(use_true_random=False))
def test_units_of_a_layer_have_no_order(case: Case, random: Any) -> None:
    """Units of the last hidden layer in another order, with their keep probabilities: rows and columns likewise."""
    net, m = case.f.net, case.f.net.hidden[-1]
    order = list(range(m))
    random.shuffle(order)
    places = [p.copy() for p in net.layers(np.arange(case.f.d))]
    places[-2] = places[-2][order]
    places[-1] = places[-1][:, [*order, m]]
    index = net.pack(places)
    moved = dataclasses.replace(case, w=case.w[index], keep=tuple(case.keep[j] for j in order))
    for draw in DRAWS:
        a, b = (noise(c.dropped, c.w, draw=draw, lam=c.lam) for c in (case, moved))
        assert np.abs(b - a[np.ix_(index, index)]).max() <= 2 * _size(case)


@given(SEEDS)
def test_doubled_errors_double_the_last_layer_s_gradient(seed: int) -> None:
    """2y, 2W, 2c: ∇_W doubles and the gradient below quadruples, each exactly, since 2 is a power of 2."""
    case = random_case(seed)
    f, net = case.f, case.f.net
    last = net.spans[-1]
    factor, w = np.full(f.d, 4.0), case.w.copy()
    factor[last], w[last] = 2.0, 2 * w[last]
    other = dataclasses.replace(case, f=dataclasses.replace(f, y=2 * f.y), w=w)
    for draw in DRAWS:
        a, b = (noise(c.dropped, c.w, draw=draw, lam=c.lam) for c in (case, other))
        assert np.array_equal(b, factor[:, None] * a * factor)


@given(SEEDS)
def test_the_ridge_is_not_random(seed: int) -> None:
    case = random_case(seed)
    for draw in DRAWS:
        a, b = (
            noise(
                dataclasses.replace(case, f=dataclasses.replace(case.f, reg=r)).dropped,
                case.w,
                draw=draw,
                lam=case.lam,
            )
            for r in (0.0, 3.0)
        )
        assert np.abs(a - b).max() <= 10 * _size(
            dataclasses.replace(case, f=dataclasses.replace(case.f, reg=3.0))
        )


# -- sampled gradients -----------------------------------------------------------------------------------
@EVERY
@pytest.mark.parametrize("kind", ["squared", "softmax"])
def test_gradient_data_are_gradients_under_masks(kind: str, draw: str) -> None:
    """Every row is one of the literal table's (one sample, one mask), or a mean over the batch of such."""
    # kills: masks not scaled, one mask for all samples, 1/N forgotten
    case = small_case("tanh", kind, hidden=(1, 2), weighted=True)
    M = np.array([row for _, row in case.masks], dtype=float)
    G = gradients(case.f, case.lam, case.w, M)
    if draw == "one sample":
        support, terms = G.value.reshape(-1, case.f.d), G.terms.max((0, 1))
    elif draw == "shared mask":
        support, terms = G.value.mean(1), G.terms.max((0, 1))
    else:
        choices = itertools.product(range(len(M)), repeat=3)
        support, terms = np.array([G.value[list(c), [0, 1, 2]].mean(0) for c in choices]), G.terms.max((0, 1))
    rows = gradient_data(case.dropped, case.w, 5, samples=200, draw=draw, lam=case.lam)
    allowed = 10 * steps(case.f, 1) * EPS["float64"] * terms
    near = (np.abs(rows[:, None] - support) <= allowed).all(-1)
    assert near.any(1).all()
    assert near.any(0).sum() > len(support) // 2  # and most of them are seen


@EVERY
def test_gradient_data_depend_on_the_seed_alone(draw: str) -> None:
    case = small_case("tanh", hidden=(2, 3), weighted=True)
    given_ = {"samples": 50, "draw": draw, "lam": case.lam}
    a = gradient_data(case.dropped, case.w, 7, **given_)
    assert np.array_equal(a, gradient_data(case.dropped, case.w, np.random.default_rng(7), **given_))
    assert not np.array_equal(a, gradient_data(case.dropped, case.w, 8, **given_))
    rng = np.random.default_rng(7)
    first, second = (gradient_data(case.dropped, case.w, rng, **given_) for _ in range(2))
    assert np.array_equal(first, a)
    assert not np.array_equal(second, a)
    spans = case.f.net.spans
    part = gradient_data(case.dropped, case.w, 7, layers=[0, 2], **given_)
    assert np.array_equal(part, np.concatenate([a[:, spans[0]], a[:, spans[2]]], axis=1))
    assert gradient_data(case.dropped, case.w, 7, **{**given_, "samples": 1}).shape == (1, case.f.d)


@everywhere
@EVERY
def test_the_same_seed_draws_the_same_on_every_backend(place: Place, draw: str) -> None:
    case = small_case("tanh", "softmax", hidden=(1, 2), weighted=True)
    terms = gradients(
        case.f, case.lam, case.w, np.array([row for _, row in case.masks], dtype=float)
    ).terms.max((0, 1))
    there, lam, w = place.move(case.dropped), place.array(case.lam), place.array(case.w)
    rows = gradient_data(there, w, 5, samples=100, draw=draw, lam=lam)
    expected = gradient_data(case.dropped, case.w, 5, samples=100, draw=draw, lam=case.lam)
    assert_rounded(rows, expected, terms=terms, count=steps(case.f, 1))
    found = estimated_noise(there, w, 5, samples=100, draw=draw, lam=lam)
    expected = estimated_noise(case.dropped, case.w, 5, samples=100, draw=draw, lam=case.lam)
    assert_rounded(found.value, expected.value, terms=4 * np.outer(terms, terms), count=steps(case.f, 20))
    assert found.half_width.shape == expected.value.shape


def test_gradient_data_of_what_is_no_network() -> None:
    f = logistic.random(d=3, seed=1).lower
    lam, w = np.zeros(f.n), np.ones(3)
    rows = gradient_data(f, w, 0, samples=5, draw="one sample", lam=lam)
    drawn = f.space.sample(np.random.default_rng(0), (5,))
    assert np.array_equal(rows, f.at(drawn).grad_w(lam, w))


def test_gradient_data_without_dropout() -> None:
    case = small_case("tanh", "softmax", hidden=(2,))
    rows = gradient_data(case.f, case.w, 1, samples=40, draw="one sample")
    G = gradients(case.f, case.lam, case.w, np.ones((1, 2)))
    allowed = 10 * steps(case.f, 1) * EPS["float64"] * G.terms[0]
    near = (np.abs(rows[:, None] - G.value[0]) <= allowed).all(-1)
    assert near.any(1).all()
    assert near.any(0).all()


@EVERY
@pytest.mark.parametrize("kind", ["squared", "softmax"])
def test_the_interval_holds_the_exact_covariance(kind: str, draw: str) -> None:
    """One run of a fixed seed at confidence 0.99, all entries at once."""
    case = small_case("tanh", kind, hidden=(2, 3), weighted=True)
    exact = noise(case.dropped, case.w, draw=draw, lam=case.lam)
    found = estimated_noise(case.dropped, case.w, 11, samples=4000, draw=draw, lam=case.lam)
    assert (found.confidence, found.samples) == (0.99, 4000)
    slack = 10 * steps(case.f, 8) * EPS["float64"] * covariances(case)[draw].terms
    assert np.all(np.abs(found.value - exact) <= found.half_width + slack)
    assert found.half_width.max() <= np.abs(exact).max()  # and says something
    block = estimated_noise(case.dropped, case.w, 11, samples=4000, draw=draw, lam=case.lam, layers=[1])
    assert np.array_equal(block.value, case.f.net.layer(found.value, 1)) or np.allclose(
        block.value, case.f.net.layer(found.value, 1), rtol=0, atol=float(slack.max())
    )


class _Design(Bernoulli):
    """Draws that are no draws: every pair of the masks once, the pair's first and second half in a row."""

    def sample(self, rng: Any, shape: tuple[int, ...]) -> np.ndarray:
        points = self.points(np.arange(self.size))
        pairs = np.concatenate([np.repeat(points, self.size, 0), np.tile(points, (self.size, 1))])
        assert shape == (len(pairs),)
        return pairs


@pytest.mark.parametrize("chunked", [False, True])
def test_pairs_have_the_covariance_as_their_mean(chunked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all equally likely pairs the estimate is the covariance, and its half-width that of the pairs' spread."""
    monkeypatch.setattr("refimpl.curvature.sampled.LEAST", 2)
    # kills: pairs of neighbours, ½ forgotten, samples − 1 for samples, uncentred spread, one-sided quantile
    case = small_case("tanh", hidden=(1, 2))
    case = dataclasses.replace(case, keep=(0.5, 0.5))
    masks = _Design([1, 0.5, 0.5])
    D = dataclasses.replace(case.dropped, w=masks)
    known = covariances(case)["shared mask"]
    if chunked:  # and a chunk of pairs is never cut
        D = dataclasses.replace(case.dropped, w=Bernoulli([1, 0.5, 0.5]))
        a = estimated_noise(D, case.w, 3, samples=16, draw="shared mask")
        monkeypatch.setattr("refimpl.curvature.sampled.CELLS", 2)
        b = estimated_noise(D, case.w, 3, samples=16, draw="shared mask")
        assert not np.array_equal(a.value, b.value)  # pairs are formed within chunks of two
        rows = gradient_data(D, case.w, 3, samples=32, draw="shared mask")
        table = (rows[0::2] - rows[1::2]) / 2**0.5
        expected = table.T @ table / 16
        assert_rounded(b.value, expected, terms=4 * known.terms.max(), count=steps(case.f, 16))
        return
    found = estimated_noise(D, case.w, 3, samples=16, draw="shared mask", confidence=0.9)
    assert_rounded(found.value, known.value, terms=known.terms, count=steps(case.f, 16))
    M = np.array([row for _, row in case.masks], dtype=float)
    g = gradients(case.f, case.lam, case.w, M)
    mean = g.value.mean(1)
    gap = (mean[:, None] - mean[None]).reshape(16, -1)
    squares = gap[:, :, None] * gap[:, None, :] / 2
    entries = case.f.d * (case.f.d + 1) // 2
    quantile = NormalDist().inv_cdf(1 - 0.1 / (2 * entries))
    variance = (found.half_width * 4 / quantile) ** 2  # its root halves the digits: compared before the root
    sizes = (g.terms.mean(1)[:, None] + g.terms.mean(1)).reshape(16, -1)
    of_squares = (sizes[:, :, None] * sizes[:, None, :]) ** 2
    assert_rounded(variance, squares.var(0, ddof=1), terms=of_squares.sum(0), count=steps(case.f, 16))


# -- refusals --------------------------------------------------------------------------------------------------
SQUARED, SOFTMAX = small_case("tanh", hidden=(2, 3)), small_case("tanh", "softmax", hidden=(2, 3))
WEIGHTED, KINKED = small_case("tanh", hidden=(2,), weighted=True), small_case("relu", hidden=(1, 1))
PAIRS, SHALLOW = SQUARED.f.batch([[0, 1], [1, 2]]), quadratic.objective(ww=np.eye(2), n=0)
ORIGIN = np.zeros(KINKED.f.d)


def _noise(case: Case, draw: Any = "one sample", **options: Any) -> Any:
    return noise(case.dropped, case.w, draw=draw, **options)


def _estimated(**options: Any) -> Any:
    return estimated_noise(SQUARED.dropped, SQUARED.w, 0, draw="one sample", **options)


def _data(f: Any, w: Any, **options: Any) -> Any:
    return gradient_data(f, w, 0, **{"samples": 2, "draw": "one sample", **options})


REFUSED: dict[str, tuple[str, type[Exception], Any]] = {
    "no such draw": ("no such draw", BadInput, lambda: _noise(SQUARED, "each")),
    "no dropout": ("not random", BadInput, lambda: noise(SQUARED.f, SQUARED.w, draw="shared mask")),
    "no data of it": ("not random", BadInput, lambda: _data(SQUARED.f, SQUARED.w, draw="own masks")),
    "points": ("one point", BadInput, lambda: noise(SQUARED.f, np.ones((2, SQUARED.f.d)), draw="one sample")),
    "several λ": ("one point", BadInput, lambda: _noise(WEIGHTED, lam=np.zeros((2, 3)))),
    "minibatches": ("one point", BadInput, lambda: noise(PAIRS, SQUARED.w, draw="one sample")),
    "no λ": ("λ is missing", BadInput, lambda: _noise(WEIGHTED)),
    "no such layer": ("no such layers", BadInput, lambda: _noise(SQUARED, layers=[3])),
    "no layers": ("layers of", BadInput, lambda: noise(SHALLOW, np.ones(2), draw="one sample", layers=[0])),
    "a kink": ("kink", HypothesisViolated, lambda: noise(KINKED.dropped, ORIGIN, draw="one sample")),
    "data at a kink": ("kink", HypothesisViolated, lambda: _data(KINKED.dropped, ORIGIN)),
    "masks in halves": ("too many masks", TooLarge, lambda: _noise(SOFTMAX, max_masks=4)),
    "masks to visit": ("too many points", TooLarge, lambda: _noise(SOFTMAX, "shared mask", max_masks=4)),
    "no gradients": ("no gradients", BadInput, lambda: _data(SQUARED.dropped, SQUARED.w, samples=0)),
    "one pair": ("no confidence", BadInput, lambda: _estimated(samples=1)),
    "certainty": ("no confidence", BadInput, lambda: _estimated(samples=100, confidence=1)),
    "nothing": ("no confidence", BadInput, lambda: _estimated(samples=100, confidence=0)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    match, error, call = REFUSED[name]
    with pytest.raises(error, match=match) as caught:
        call()
    assert caught.value.measured is not None
    assert caught.value.required
    assert caught.value.advice


def test_the_closed_form_visits_no_mask() -> None:
    """2¹⁰⁰ masks and a limit of one: squared loss, last hidden layer."""
    net = MLP((1, 100, 1), "tanh")
    f = loss(net, [[1.0], [2.0]], [0.5, -0.5], loss="squared")
    D = f.with_dropout(net.last_masks(0.5), site="activations", scale="inverse")
    for draw in DRAWS:
        assert np.isfinite(to_numpy(noise(D, net.random(0), draw=draw, max_masks=1))).all()
