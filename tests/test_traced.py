"""Traced networks against literal loops, the explicit MLP, the complex step, and the symmetries they must have."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from refimpl.arrays import backend, to_numpy
from refimpl.checks import STEP, check_derivatives
from refimpl.errors import BadInput
from refimpl.networks import ACTIVATIONS, MLP, loss
from refimpl.networks.traced import Convolutional, Residual, TracedLoss, Transformer, traced_loss
from refimpl.networks.traced.images import convolve, mean_pool
from refimpl.networks.traced.transformer import attention, normalise
from tests.backends import Place, everywhere, round_trip
from tests.network_things import INPUTS, OUTPUTS, SAMPLES, by_hand, data, point
from tests.rounding import EPS, assert_rounded
from tests.traced_things import at, by_loops, convolved, images, networks, pooled, sentences, traced
from tests.zoo_things import quantities

NAMES = list(networks("tanh"))
B = backend()


def _rounding(f: Any, w: np.ndarray, *results: Any) -> float:
    """What a chain of d + N operations may lose: 10 (d + N) eps times the sizes of the point and the results."""
    size = sum(float(np.linalg.norm(to_numpy(x))) for x in results)
    return 10 * (f.d + f.count) * EPS["float64"] * (1 + float(np.linalg.norm(w))) * (1 + size)


def _masks(f: Any, seed: int, *lead: int) -> np.ndarray:
    return np.random.default_rng([seed, 11]).standard_normal((*lead, f.units))


# -- building blocks --------------------------------------------------------------------------------------
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize(("planes", "side"), [(1, 1), (2, 4), (3, 2)])
def test_a_convolution_is_scipys_correlation(kernel: int, planes: int, side: int) -> None:
    # kills: a flipped kernel, rows for columns, planes behind taps, wrap-around, a lost bias
    rng = np.random.default_rng(0)
    W, h = rng.standard_normal((2, planes * kernel**2 + 1)), rng.standard_normal((planes, side, side, 3))
    found = convolve(B, W, h, kernel)
    for i in range(3):
        terms = convolved(np.abs(W), np.abs(h[..., i]))
        assert_rounded(found[..., i], convolved(W, h[..., i]), terms=terms, count=planes * kernel**2 + 1)


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_a_pooling_is_the_mean_of_each_square(pool: int) -> None:
    h = np.random.default_rng(1).standard_normal((2, 4, 4, 3))
    for i in range(3):
        terms = pooled(np.abs(h[..., i]), pool)
        assert_rounded(mean_pool(B, h, pool)[..., i], pooled(h[..., i], pool), terms=terms, count=pool**2 + 1)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_attention_is_its_double_loop(causal: bool, heads: int) -> None:
    # kills: a softmax over queries, a lost √d, heads interleaved, a mask the wrong way round
    d, size, T, N = 4, 2, 3, 2
    S = T if causal else 5
    rng = np.random.default_rng(2)
    *inner, out = (rng.standard_normal(s) for s in [(heads * size, d)] * 3 + [(d, heads * size)])
    x, to = rng.standard_normal((d, T, N)), rng.standard_normal((d, S, N))
    found = attention(B, (*inner, out), x, to, heads, causal=causal)
    for t, i in itertools.product(range(T), range(N)):
        total, terms = np.zeros(d), np.zeros(d)
        seen = range(t + 1) if causal else range(S)
        for k in range(heads):
            rows = slice(k * size, k * size + size)
            query, key, value = (W[rows] for W in inner)
            e = [math.exp((query @ x[:, t, i]) @ (key @ to[:, s, i]) / math.sqrt(size)) for s in seen]
            for s, weight in zip(seen, e, strict=True):
                total += weight / sum(e) * (out[:, rows] @ (value @ to[:, s, i]))
                size_of = np.abs(out[:, rows]) @ (np.abs(value) @ np.abs(to[:, s, i]))
                logit = np.abs(query) @ np.abs(x[:, t, i]) @ (np.abs(key) @ np.abs(to[:, s, i]))
                terms += size_of * (1 + logit)  # exp turns an absolute error of the logit into a relative one
        assert_rounded(found[:, t, i], total, terms=terms, count=2 * d + S + heads * size)


def test_a_normalised_position_has_mean_0_and_variance_almost_1() -> None:
    x = np.random.default_rng(3).standard_normal((5, 3, 2))
    found = normalise(B, x, np.ones(5), np.zeros(5))
    assert_rounded(found.mean(axis=0), np.zeros((3, 2)), terms=np.abs(found).max(), count=10)
    known = x.var(axis=0) / (x.var(axis=0) + 2.0**-17)
    assert_rounded(found.var(axis=0), known, terms=known, count=20, condition=float(1 / x.var(axis=0).min()))


# -- values: literal loops --------------------------------------------------------------------------------
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masked", ["no", "units", "each"])
def test_scores_and_losses_are_those_of_literal_loops(name: str, activation: str, masked: str) -> None:
    # kills: a site before the activation, masks in another order than the sites, a stage not halved, √d_model lost
    f = traced(name, activation, reg=0.0, smoothing=0.25)
    _, w, _, _ = at(f, 0)
    masks = np.ones((f.count, f.units))
    if masked == "units":
        masks = np.broadcast_to(_masks(f, 0), masks.shape)
        f = f.drop_units(masks[0])
    if masked == "each":
        masks = _masks(f, 0, f.count)
        f = f.drop_each(masks)
    total = 0.0
    for i in range(f.count):
        z, value = by_loops(f, w, i, masks[i])
        assert np.abs(f.scores(w)[..., i] - z).max() <= _rounding(f, w, z, masks[i])
        assert abs(f.losses(w)[i] - value) <= _rounding(f, w, z, masks[i])
        total += value / f.count
    assert abs(f.value(np.zeros(0), w) - total) <= _rounding(f, w, total, masks)


@pytest.mark.parametrize("name", NAMES)
def test_masks_of_ones_change_nothing(name: str) -> None:
    f = traced(name, weighted=True)
    lam, w, u, v = at(f, 1)
    for whole in (f.drop_units(np.ones(f.units)), f.drop_each(np.ones((f.count, f.units)))):
        for quantity, of in quantities(f).items():
            if quantity.endswith("dense"):
                continue
            one, other = of(f, lam, w, u, v), of(whole, lam, w, u, v)
            if quantity == "value":
                assert one == other
            assert np.abs(one - other).max() <= _rounding(f, w, u, v, one), (
                quantity
            )  # autograd adds in another order


def test_a_smoothed_loss_mixes_the_labels_with_all_classes() -> None:
    f, smooth = traced("transformer", reg=0.0), traced("transformer", reg=0.0, smoothing=0.25)
    _, w, _, _ = at(f, 2)
    z = f.scores(w)
    logs = np.log(np.exp(z).sum(axis=1)) - z.mean(axis=1)  # the cross entropy with all classes alike
    expected = 0.75 * f.losses(w) + 0.25 * logs.mean(axis=0)
    assert_rounded(smooth.losses(w), expected, terms=1 + np.abs(z).max(), count=f.d)


# -- derivatives ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masked", [False, True])
def test_derivatives_agree_with_the_complex_step(name: str, masked: bool) -> None:
    """Of holomorphic networks: the value's step judges the gradient, the gradient's step all second derivatives."""
    f = traced(name, weighted=True, smoothing=0.125)
    f = f.drop_units(_masks(f, 3)) if masked else f
    lam, w, u, v = at(f, 3)
    g, Hv, Cv, Cu = f.grad_w(lam, w), f.hess_ww(lam, w) @ v, f.cross(lam, w) @ v, f.cross(lam, w).T @ u
    allowed = _rounding(f, w, f.value(lam, w), g, Hv, Cv, Cu, v, u)
    basis = np.eye(f.d)[:: max(1, f.d // 40)]  # each block of parameters is met
    steps = np.array([f.value(lam, w + 1j * STEP * e).imag / STEP for e in basis])
    assert np.abs(steps - basis @ g).max() <= allowed
    assert abs(f.value(lam, w + 1j * STEP * v).imag / STEP - v @ g) <= allowed
    assert np.abs(f.grad_w(lam, w + 1j * STEP * v).imag / STEP - Hv).max() <= allowed
    assert np.abs(f.grad_lam(lam, w + 1j * STEP * v).imag / STEP - Cv).max() <= allowed
    assert np.abs(f.grad_w(lam + 1j * STEP * u, w + 0j).imag / STEP - Cu).max() <= allowed
    ones = np.array([f.value(lam + 1j * STEP * e, w + 0j).imag / STEP for e in np.eye(f.n)])
    assert np.abs(ones - f.grad_lam(lam, w)).max() <= allowed


TINY = {
    "convolutional": lambda: traced_loss(
        Convolutional(2, ((2,),), 3, activation="tanh"), *images(2, 1), reg=REG_, weighted=True
    ),
    "transformer": lambda: traced_loss(WORDS, *sentences(WORDS), n=2),
}
REG_, WORDS = 0.25, Transformer(2, 1, 2, d_model=2, d_ff=1, heads=1, d_head=1, activation="tanh")


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("of", ["all", "batch", "masks of a batch"])
def test_all_checks_of_an_objective_pass(name: str, of: str) -> None:
    f = TINY[name]()
    f = f if of == "all" else f.batch([3, 0, 3])
    f = f.drop_units(_masks(f, 4)) if of == "masks of a batch" else f
    lam, w, _, _ = at(f, 4)
    rows = check_derivatives(f, lam, w, seed=4)
    judged = {row.quantity for row in rows if row.channel == "complex step"}
    assert judged == {"grad_w", "grad_lam", "hess_ww", "cross", "cross.T"}


@pytest.mark.parametrize("name", ["convolved", "deep transformer"])
def test_leading_axes_are_single_points(name: str) -> None:
    """λ (2, 1), w (3,), masks (3,), vectors in front: every entry is the single point's, and dense is the products."""
    f = traced(name, weighted=True)
    lam, w, u, v = at(f, 5, (3,), (2, 1))
    masks = _masks(f, 5, 3)
    both = f.drop_units(masks)
    assert (both.leading, both.lead) == ((3,), 1)
    for quantity, of in quantities(f).items():
        if quantity.endswith("dense"):
            continue
        got = of(both, lam, w, u, v)
        own = np.ndim(of(f, lam[0, 0], w[0], u, v))
        got = np.broadcast_to(got, (2, 3, *got.shape[got.ndim - own :]))
        for i, j in np.ndindex(2, 3):
            expected = of(f.drop_units(masks[j]), lam[i, 0], w[j], u, v)
            assert np.abs(got[i, j] - expected).max() <= _rounding(f, w[j], u, v, masks[j], expected), (
                quantity
            )
    H, V = both.hess_ww(lam[0], w), np.stack([v, -v])[:, None, None, :]
    products = H @ V
    assert products.shape == (2, 1, 3, f.d)
    single = f.drop_units(masks[1]).hess_ww(lam[0, 0], w[1])
    allowed = _rounding(f, w[1], v, masks[1], single @ v)
    assert np.abs(products[1, 0, 1] + single @ v).max() <= allowed
    if (
        name == "convolved"
    ):  # column by column whatever the network is, and the transformer has thrice as many
        assert np.abs(single.dense() @ v - single @ v).max() <= allowed


def test_no_points_give_no_values() -> None:
    f = traced("convolved", weighted=True)
    w = np.zeros((0, f.d))
    assert f.value(np.zeros(f.n), w).shape == (0,)
    assert f.grad_w(np.zeros(f.n), w).shape == (0, f.d)


def test_a_second_derivative_passes_through_the_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # kills: a trace in every product
    f = traced("transformer", weighted=True)
    lam, w, _, v = at(f, 6)
    calls, run = [], Transformer.run
    monkeypatch.setattr(Transformer, "run", lambda *a: calls.append(1) or run(*a))
    hess, cross = f.hess_ww(lam, w), f.cross(lam, w)
    for _ in range(3):
        assert np.isfinite(hess @ v).all()
        assert np.isfinite(hess @ np.stack([v, v])).all()
        assert np.isfinite(cross @ v).all()
    assert len(calls) == 2


# -- special cases that are explicit elsewhere ---------------------------------------------------------------
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["softmax", "squared"])
@pytest.mark.parametrize("masked", ["no", "units", "each"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_images_of_one_pixel_are_a_perceptron(activation: str, kind: str, masked: str, kernel: int) -> None:
    """A convolution of one pixel is a dense layer: every quantity, weighted samples; taps off the image are dead."""
    explicit = loss(
        MLP((INPUTS, 3, 2, OUTPUTS), activation), *data(kind, 1), loss=kind, reg=0.25, weighted=True
    )
    net = Convolutional(
        1,
        ((3, 2),),
        OUTPUTS,
        planes=INPUTS,
        kernel=kernel,
        pool=1,
        activation=activation,
        dropout="convolution",
    )
    f = traced_loss(net, *data(kind, 1), loss=kind, reg=0.25, weighted=True)
    (lam, w), rng = point(explicit, 7), np.random.default_rng(7)
    if masked == "units":
        mask = _masks(f, 7)
        explicit, f = explicit.drop_units(mask), f.drop_units(mask)
    elif masked == "each":
        mask = _masks(f, 7, SAMPLES)
        explicit, f = explicit.drop_each(mask), f.drop_each(mask)
    u, v = rng.standard_normal(f.n), rng.standard_normal(explicit.d)
    known = by_hand(explicit, lam, w, u, v)
    here = _middle(net, explicit.net)
    W, V = np.zeros(f.d), np.zeros(f.d)
    W[here], V[here] = w, v
    for quantity, expected in known.items():
        got = quantities(f)[quantity](f, lam, W, u, V)
        if got.shape == (f.d,):
            dead = np.setdiff1d(np.arange(f.d), here)
            assert not got[dead].any(), quantity
            got = got[here]
        assert_rounded(got, expected.value, terms=expected.terms, count=f.n + f.d + SAMPLES)


def _middle(net: Convolutional, mlp: MLP) -> np.ndarray:
    """Where the perceptron's parameters stand in θ: the middle taps, the biases, the dense layer."""
    taps = net.kernel**2
    found = []
    for (rows, columns), span in zip(mlp.shapes, net.spans.values(), strict=True):
        width = (span.stop - span.start) // rows
        own = np.arange(columns - 1) * taps + taps // 2 if width > columns else np.arange(columns - 1)
        found += [span.start + r * width + np.append(own, width - 1) for r in range(rows)]
    return np.concatenate(found)


def test_a_residual_network_whose_blocks_are_zero_is_its_first_layer() -> None:
    explicit = loss(MLP((INPUTS, 3, OUTPUTS), "relu"), *data("softmax", 1))
    net = Residual(1, (3,), OUTPUTS, planes=INPUTS, kernel=1)
    f = traced_loss(net, *data("softmax", 1))
    lam, w = point(explicit, 8)
    here = np.r_[net.spans["stem"], net.spans["dense"]]
    W = np.zeros(f.d)
    W[here] = w
    v = np.random.default_rng(8).standard_normal(explicit.d)
    V = np.zeros(f.d)
    V[here] = v
    known = by_hand(explicit, lam, w, lam, v)
    for quantity, got in (
        ("value", f.value(lam, W)),
        ("grad_w", f.grad_w(lam, W)[here]),
        ("hess_ww @", (f.hess_ww(lam, W) @ V)[here]),
    ):
        expected = known[quantity]
        assert_rounded(got, expected.value, terms=expected.terms, count=f.d + SAMPLES)


# -- symmetries -------------------------------------------------------------------------------------------
def test_channels_may_be_permuted() -> None:
    """Rows of one convolution, planes of the next, and the masks: the same function."""
    f = traced("convolved")
    net = f.architecture
    lam, w, _, _ = at(f, 9)
    order, first, last = np.array([1, 0]), net.spans["convolution 1"], net.spans["convolution 2"]
    moved = w.copy()
    moved[first] = w[first].reshape(2, -1)[order].ravel()
    second = w[last].reshape(3, 2 * 9 + 1).copy()
    second[:, :-1] = second[:, :-1].reshape(3, 2, 9)[:, order].reshape(3, 18)
    moved[last] = second.ravel()
    mask = _masks(f, 9)
    other = np.append(mask[:2][order], mask[2:])
    f, g = f.drop_units(mask), f.drop_units(other)
    assert f.value(lam, w) != g.value(lam, w)
    assert abs(f.value(lam, w) - g.value(lam, moved)) <= _rounding(f, w, f.scores(w))


def test_a_decoder_does_not_see_later_tokens() -> None:
    f = traced("transformer")
    net = f.architecture
    _, w, _, _ = at(f, 10)
    rows = f.X.copy()
    rows[:, -1] = (rows[:, -1] + 1) % net.words
    later = traced_loss(net, rows, np.argmax(f.y, axis=1).T)
    assert np.array_equal(f.scores(w)[:-1], later.scores(w)[:-1])
    assert not np.array_equal(f.scores(w)[-1], later.scores(w)[-1])


# -- samples and masks ------------------------------------------------------------------------------------
@everywhere
@pytest.mark.parametrize("name", NAMES)
def test_values_on_every_backend(name: str, place: Place) -> None:
    # kills: writing in place, implicit conversion to the host, tokens turned into floats
    f = traced(name, "relu", weighted=True)
    lam, w, _, _ = at(f, 11, (2,))
    masks = _masks(f, 11, 3, 1)
    there = place.move(f).drop_units(place.array(masks)).batch([[0, 3, 3], [2, 1, 0]])
    here = f.drop_units(masks).batch([[0, 3, 3], [2, 1, 0]])
    assert there.leading == here.leading == (2, 3, 1)
    arrays = place.array(lam), place.array(w)
    for got, expected in (
        (there.value(*arrays), here.value(lam, w)),
        (there.losses(arrays[1]), here.losses(w)),
        (there.scores(arrays[1]), here.scores(w)),
        (there.grad_lam(*arrays), here.grad_lam(lam, w)),
    ):
        got = to_numpy(got)
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= _rounding(f, w, expected, masks)
    assert np.array_equal(there.accuracy(*arrays), here.accuracy(lam, w))
    assert np.allclose(
        there.kink_distance(*arrays), here.kink_distance(lam, w), rtol=0, atol=_rounding(f, w, masks)
    )


@pytest.mark.parametrize("name", ["strict", "rational", "interval"])
def test_derivatives_are_refused_where_autograd_does_not_work(name: str) -> None:
    f = traced("residual").to(name)
    w = f.backend.zeros((f.d,))
    for ask in (lambda: f.grad_w(w[:0], w), lambda: f.hess_ww(w[:0], w)):
        with pytest.raises(BadInput, match="not differentiated") as caught:
            ask()
        assert "numpy" in caught.value.advice
    with pytest.raises(BadInput, match="not differentiated"):
        traced("residual").to("numpy", dtype="float32").grad_w(
            np.zeros(0, np.float32), np.zeros(f.d, np.float32)
        )


def test_single_precision_stays_single() -> None:
    f = traced("residual").to("numpy", dtype="float32")
    w = at(f, 12)[1].astype(np.float32)
    assert f.losses(w).dtype == f.value(np.zeros(0, np.float32), w).dtype == np.float32


def test_a_piecewise_linear_network_is_exact_over_the_rationals() -> None:
    net = Convolutional(2, ((2,),), 2, activation="relu")
    X, y = np.array([[1, -2, 0, 3], [2, 1, 1, -1]]) / 4, np.array([[1.0, 2.0], [0.0, -1.0]])
    f = traced_loss(net, X, y, loss="squared", reg=0.5)
    w = np.round(8 * at(f, 13)[1]) / 8
    exact = f.to("rational")
    found = exact.value(exact.backend.zeros((0,)), exact.backend.asarray(w))
    total = Fraction(0)
    for i in range(2):
        h = _exact_image(X[i], w[:20].reshape(2, 10))
        dense = w[20:].reshape(2, 3)
        for k in range(2):
            row = [Fraction(t) for t in dense[k].tolist()]
            z = row[0] * h[0] + row[1] * h[1] + row[2]
            total += (z - Fraction(y[i, k])) ** 2 / 4
    total += sum(Fraction(t) ** 2 for t in w.tolist()) / 4
    assert Fraction(int(found.p), int(found.q)) == total


def _exact_image(x: np.ndarray, W: np.ndarray) -> list[Fraction]:
    """Per channel, the mean over the four pixels of ReLU of the correlation, term by term."""
    image, found = x.reshape(2, 2), []
    for row in W:
        total = Fraction(0)
        for i, j in np.ndindex(2, 2):
            z = Fraction(row[-1])
            for s, t in np.ndindex(3, 3):
                if 0 <= i + s - 1 < 2 and 0 <= j + t - 1 < 2:
                    z += Fraction(row[3 * s + t]) * Fraction(image[i + s - 1, j + t - 1])
            total += max(z, Fraction(0)) / 4
        found.append(total)
    return found


@pytest.mark.parametrize("name", ["pooled", "transformer"])
def test_balls_enclose_the_value(name: str) -> None:
    import flint

    f = traced(name, weighted=True)
    lam, w, _, _ = at(f, 14)
    with flint.ctx.workprec(120):
        balls = f.to("interval")
        found = balls.value(balls.backend.asarray(lam), balls.backend.asarray(w))
        value = np.asarray(found, dtype=object).ravel()[0]
        assert float(value.rad()) <= 2.0**-80
        assert abs(float(value.mid()) - f.value(lam, w)) <= _rounding(f, w, f.scores(w))


@pytest.mark.parametrize("name", NAMES)
def test_minibatches_and_masks_of_each_sample_are_their_terms(name: str) -> None:
    # kills: λ_0 for λ_i, a batch's 1/N for 1/b, the mask of another sample
    f = traced(name, weighted=True)
    lam, w, u, v = at(f, 15)
    masks = _masks(f, 15, f.count)
    batches = np.array([[3, 0, 1], [2, 2, 1]])
    each = f.drop_each(masks)
    for g, again in ((each.batch(batches), each.batch([3, 2, 1, 0]).batch(3 - batches)),):
        assert g.leading == again.leading == (2,)
        for quantity, of in quantities(f).items():
            if quantity.endswith("dense"):
                continue
            term = [of(f.at(i).drop_units(masks[i]), lam, w, u, v) for i in range(f.count)]
            means = np.stack([np.mean([term[i] for i in batch], axis=0) for batch in batches])
            allowed = _rounding(f, w, u, v, masks, *term)
            assert np.abs(of(g, lam, w, u, v) - means).max() <= allowed, quantity
            assert np.abs(of(again, lam, w, u, v) - means).max() <= allowed, quantity


@pytest.mark.parametrize("name", ["convolved", "deep transformer"])
def test_expected_losses_are_sums_over_masks(name: str) -> None:
    """with_dropout enumerates: value and gradient by their definition, unequal keep probabilities of the sites."""
    f = traced(name)
    lam, w, _, _ = at(f, 16)
    keep = [Fraction(3, 4) if k < 2 else 1 for k in range(len(f.architecture.sites))]
    masks = f.architecture.unit_masks(keep)
    dropped = f.with_dropout(masks, site="activations", scale="inverse")
    free = [u for u, p in enumerate(masks.keep_prob) if p < 1]
    assert masks.size == dropped.enumerated == 2 ** len(free)
    value, gradient = 0.0, np.zeros(f.d)
    for kept in itertools.product((0, 1), repeat=len(free)):
        mask = np.ones(f.units)
        mask[free] = np.array(kept) * 4 / 3
        share = math.prod(0.75 if k else 0.25 for k in kept)
        g = f.drop_units(mask)
        value += share * g.value(lam, w)
        gradient += share * g.grad_w(lam, w)
    allowed = masks.size * _rounding(f, w, value, gradient)
    assert abs(dropped.value(lam, w) - value) <= allowed
    assert np.abs(dropped.grad_w(lam, w) - gradient).max() <= allowed


# -- for users ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_named_and_covered_once(name: str) -> None:
    net = networks("relu")[name]
    assert np.array_equal(np.concatenate([np.arange(net.size)[s] for s in net.filters]), np.arange(net.size))
    assert [s.start for s in net.spans.values()][1:] == [s.stop for s in net.spans.values()][:-1]
    theta = net.random(3, gain=1.5)
    assert np.array_equal(theta, net.random(np.random.default_rng(3), gain=1.5))
    parts = net.split(np.arange(net.size))
    for block in net.blocks:
        inside = set(net.weights(block.name).tolist())
        values = parts[block.name]
        biases = values[..., -1:] if block.bias else values if block.constant == 0 else values[:0]
        assert inside == set(values.ravel().tolist()) - set(biases.ravel().tolist())
        assert set(biases.ravel().tolist()) <= set(net.biases.tolist())
        rows = [s for s in net.filters if net.spans[block.name].start <= s.start < net.spans[block.name].stop]
        assert len(rows) == (block.shape[0] if block.rows else 1)


def test_random_parameters_have_the_stated_variance() -> None:
    net = Convolutional(1, ((400,),), 200, planes=4, kernel=1, pool=1)
    theta = net.random(0, gain=2.0)
    drawn = theta[net.weights("dense")]  # 80000 numbers: the variance within 6 standard errors √(2/n)
    assert abs(drawn.var() * 400 / 4 - 1) <= 6 * math.sqrt(2 / drawn.size)
    first = theta[net.spans["convolution 1"]]
    assert abs(first.var() * 4 / 4 - 1) <= 6 * math.sqrt(2 / first.size)
    assert not theta[net.spans["dense"]].reshape(200, 401)[:, -1].any()
    scales = Transformer(2, 1, 1, d_model=2, d_ff=1)
    theta = scales.random(0)
    assert np.all(theta[scales.spans["encoder 1.self.scale"]] == 1)
    assert not theta[scales.biases].any()


def test_kinks_are_measured_where_parameters_move_them() -> None:
    f = traced("convolved", "relu")
    lam, w, _, _ = at(f, 17)
    before: list[Any] = []
    f.architecture.run(w, f.X, None, before)
    assert f.kink_distance(lam, w) == min(np.abs(z).min() for z, _ in before) > 0
    assert traced("convolved").kink_distance(lam, w) == np.inf
    g = traced("deep residual", "relu")
    lam, w, _, _ = at(g, 17)
    nothing = g.drop_units(
        np.zeros(g.units)
    )  # every sum in a block is held at 0: not a kink that θ could cross
    assert nothing.kink_distance(lam, w) > 0
    assert nothing.kink_distance(lam, np.stack([w, w])).shape == (2,)
    shorter = traced("residual", "relu")  # a new channel is 0 in the shortcut: there C₂ alone moves it
    lam, w, _, _ = at(shorter, 17)
    sites, mask = shorter.architecture.sites, np.ones(shorter.units)
    mask[-sites[-1].units :] = 0
    assert shorter.drop_units(mask).kink_distance(lam, w) > 0
    w[shorter.architecture.spans["block 2.second"]] = 0
    assert shorter.kink_distance(lam, w) == 0


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_counts_positions(name: str) -> None:
    f = traced(name, smoothing=0.25)
    lam, w, _, _ = at(f, 18, (3,))
    labels = np.argmax(f.y, axis=-2)
    for r in range(3):
        right = np.argmax(f.scores(w)[r], axis=-2) == labels
        assert f.accuracy(lam, w)[r] == right.mean()
        assert np.array_equal(f.predictions(w)[r], np.argmax(f.scores(w)[r], axis=-2))


def test_pickles_after_use() -> None:
    for name in NAMES:
        f = traced(name)
        lam, w, _, _ = at(f, 19)
        before = f.grad_w(lam, w)
        assert np.array_equal(round_trip(f).grad_w(lam, w), before)


CNN, ROWS, LABELS = Convolutional(2, ((2,),), 3), np.ones((4, 4)), [0, 1, 2, 0]
REFUSED: dict[str, tuple[str, Callable[[], Any]]] = {
    "a side that pooling does not divide": ("no network", lambda: Convolutional(6, ((2,), (2,)), 3)),
    "no stages": ("no network", lambda: Convolutional(4, (), 3)),
    "an empty stage": ("no network", lambda: Convolutional(4, ((),), 3)),
    "stages that are no tuples": ("no network", lambda: Convolutional(4, (2,), 3)),  # type: ignore[arg-type]  # refused
    "a number of stages": ("no network", lambda: Convolutional(4, 2, 3)),  # type: ignore[arg-type]  # refused
    "a number of channels": ("no residual network", lambda: Residual(4, 2, 3)),  # type: ignore[arg-type]  # refused
    "a multi-layer perceptron": ("not an architecture", lambda: traced_loss(MLP((4, 3)), ROWS, LABELS)),  # type: ignore[arg-type]  # refused
    "no channels": ("no network", lambda: Convolutional(4, ((0,),), 3)),
    "half a class": ("no network", lambda: Convolutional(4, ((2,),), 2.5)),  # type: ignore[arg-type]  # refused
    "an even kernel": ("no middle", lambda: Convolutional(4, ((2,),), 3, kernel=2)),
    "an unknown site": ("no dropout site", lambda: Convolutional(4, ((2,),), 3, dropout="dense")),  # type: ignore[arg-type]  # refused
    "an unknown unit": ("no kind of unit", lambda: Residual(4, (2,), 3, drop="rows")),  # type: ignore[arg-type]  # refused
    "an unknown activation": ("no activation", lambda: Convolutional(4, ((2,),), 3, activation="gelu")),
    "fewer channels": ("no residual network", lambda: Residual(4, (3, 2), 3)),
    "a side that is not halved": ("no residual network", lambda: Residual(3, (2, 2), 3)),
    "one word": ("no network", lambda: Transformer(1, 2, 2, 4, 4)),
    "one entry": ("cannot be normalised", lambda: Transformer(2, 2, 2, 1, 4)),
    "features": ("does not take", lambda: traced_loss(CNN, np.ones((4, 5)), LABELS)),
    "labels out of range": ("out of range", lambda: traced_loss(CNN, ROWS, [0, 1, 2, 3])),
    "too few labels": ("do not fit", lambda: traced_loss(CNN, ROWS, [0, 1])),
    "labels of positions": ("do not fit", lambda: traced_loss(WORDS, *sentences(WORDS)[:1] * 2)),
    "one label": ("y is not a real array", lambda: traced_loss(WORDS, sentences(WORDS)[0], 1)),
    "real tokens": ("no tokens", lambda: traced_loss(WORDS, np.ones((4, 3)), np.zeros((4, 2), int))),
    "a token too large": ("no tokens", lambda: traced_loss(WORDS, np.full((4, 3), 3), np.zeros((4, 2), int))),
    "smoothing": ("smoothing is out of range", lambda: traced_loss(CNN, ROWS, LABELS, smoothing=1.0)),
    "smoothed targets": (
        "softmax", lambda: traced_loss(CNN, ROWS, np.ones((4, 3)), loss="squared", smoothing=0.1)
    ),
    "two lengths of λ": ("one weight", lambda: traced_loss(CNN, ROWS, LABELS, weighted=True, n=3)),
    "negative ridge": ("must not be negative", lambda: traced_loss(CNN, ROWS, LABELS, reg=-1.0)),
    "a mask of parameters": ("does not fit", lambda: traced_loss(CNN, ROWS, LABELS).drop_units(np.ones(CNN.size))),
    "masks of other samples": (
        "mask for every sample", lambda: traced_loss(CNN, ROWS, LABELS).drop_each(np.ones((3, CNN.units)))
    ),
    "keep for too many sites": ("do not fit the dropout sites", lambda: CNN.unit_masks([0.5, 0.5])),
    "too few parameters": ("wrong shape", lambda: traced_loss(CNN, ROWS, LABELS).losses(np.zeros(CNN.size - 1))),
    "an unknown block": ("no block", lambda: CNN.weights("query")),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    match, make = REFUSED[name]
    with pytest.raises(BadInput, match=match) as caught:
        make()
    assert caught.value.measured is not None
    assert caught.value.required
    assert caught.value.advice


def test_the_class_is_the_one_that_is_made() -> None:
    assert type(traced_loss(CNN, ROWS, LABELS)) is TracedLoss
    moved = traced_loss(CNN.to("strict"), ROWS, LABELS)
    assert moved.backend.name == moved.architecture.backend.name == "strict"
