"""Network losses against a literal twin in hyper-dual numbers, against autograd and the complex step, and exactly."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from refimpl.arrays import to_numpy
from refimpl.checks import check_derivatives
from refimpl.constants import Region
from refimpl.errors import BadInput
from refimpl.networks import ACTIVATIONS, MLP, loss, shared
from refimpl.networks import forward as passes
from refimpl.spaces import Bernoulli
from tests.backends import Place, everywhere, round_trip
from tests.network_things import (
    BY_HAND,
    DEPTHS,
    INPUTS,
    OUTPUTS,
    REG,
    SAMPLES,
    SHARED,
    TASKS,
    THINGS,
    by_hand,
    data,
    network,
    point,
    tasks,
)
from tests.rounding import EPS, assert_rounded, decimals, exactly
from tests.zoo_things import quantities

ALL = {**THINGS, **SHARED}
DERIVATIVES = ("grad_lam", "grad_w", "hess_ww", "cross", "cross.T")
PIECEWISE = [name for name, a in ACTIVATIONS.items() if a.homogeneous]
FEW = {  # one of each kind of formula, for what is slower
    **{name: THINGS[name] for name in (
        "linear, softmax, linear model, weighted", "tanh, softmax, two hidden, weighted",
        "softplus, squared, one hidden", "leaky_relu, squared, two hidden", "relu, softmax, two hidden, weighted",
    )},
    "tanh, masked": lambda: network("tanh", "softmax", (3, 2), True).drop_units(MASK),
    "softplus, shared, masked": lambda: tasks("softplus", "softmax").drop_units(MASK),
    **{name: SHARED[name] for name in ("tanh, softmax, shared", "relu, squared, shared")},
}  # fmt: skip
BATCHES, ORDER = np.array([[3, 0, 1], [2, 2, 1]]), np.array([3, 1, 0, 2])
SAME = {"hess_ww.T @": "hess_ww @"}  # it is symmetric
MASK = np.array([1.0, 0.0, 2.5, -0.5, 1.0])  # of 3 + 2 units; any numbers are allowed


def _vectors(f: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, 1])
    return rng.standard_normal(f.n), rng.standard_normal(f.d)


# -- derivatives ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [*ALL, "tanh, masked", "softplus, shared, masked"])
def test_every_quantity_is_the_definition(name: str) -> None:
    # kills: a sign, a transpose, a lost 1/N or ½, a' for a'', a layer's input for its output, a bias left out
    f = (ALL | FEW)[name]()
    (lam, w), (u, v) = point(f, 0), _vectors(f, 0)
    known, found = by_hand(f, lam, w, u, v), quantities(f)
    for quantity, expected in known.items():
        got = found[quantity](f, lam, w, u, v)
        assert_rounded(got, expected.value, terms=expected.terms, count=f.n + f.d + SAMPLES)


@pytest.mark.parametrize("name", ALL)
def test_every_derivative_agrees_through_two_channels(name: str) -> None:
    f = ALL[name]()
    _both_channels(f, *point(f, 1))


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("of", ["sample", "batch", "masks", "masks of a batch"])
def test_terms_and_masked_losses_are_objectives_too(name: str, of: str) -> None:
    """Their data have leading axes: of samples (2,), of a minibatch's (2,) and 3 samples, of masks (2,) and (2, 1)."""
    f = FEW[name]()
    masks = np.random.default_rng(2).standard_normal((2, f.units))
    lam, w = point(f, 2)
    if of == "sample":
        g = f.at(3)
    elif of == "batch":
        g = f.batch([3, 0, 3])
    elif of == "masks":
        g = f.drop_units(masks[0])
    else:
        g = f.drop_units(masks[0]).batch([0, 2, 3])
    _both_channels(g, lam, w)


def _both_channels(f: Any, lam: np.ndarray, w: np.ndarray) -> None:
    found = check_derivatives(f, lam, w, seed=3)
    channels = {row.quantity: {r.channel for r in found if r.quantity == row.quantity} for row in found}
    assert all({"autograd", "complex step"} <= channels[quantity] for quantity in DERIVATIVES)


@pytest.mark.parametrize("name", FEW)
@everywhere
@pytest.mark.parametrize("lead", [((), ()), ((2, 1), (3,)), ((2,), (2,)), ((), (2,)), ((2,), ())], ids=str)
def test_the_same_on_every_backend_and_over_leading_axes(
    name: str, place: Place, lead: tuple[Any, Any]
) -> None:
    # kills: writing in place, implicit conversion to the host, a lost axis, samples on a leading axis
    f, (lam, w, u, v), known = _over(name, lead)
    there, arrays = place.move(f), [place.array(x) for x in (lam, w, u, v)]
    for quantity, of in quantities(f).items():
        if quantity.endswith("dense"):
            continue
        got = to_numpy(of(there, *arrays))
        own = 0 if quantity == "value" else 1
        got = np.broadcast_to(got, (*np.broadcast_shapes(*lead), *got.shape[got.ndim - own :]))
        for index, by_quantity in known.items():
            expected = by_quantity[SAME.get(quantity, quantity)]
            count = f.n + f.d + SAMPLES
            assert_rounded(got[index], expected.value, terms=expected.terms, count=count)


@functools.cache
def _over(name: str, lead: tuple[Any, Any]) -> Any:
    """A loss, a point with leading axes and two vectors, and the definition at each single point."""
    f = FEW[name]()
    (lam, w), (u, v) = point(f, 4, *lead), _vectors(f, 4)
    full = np.broadcast_shapes(*lead)
    LAM, W = np.broadcast_to(lam, (*full, f.n)), np.broadcast_to(w, (*full, f.d))
    return f, (lam, w, u, v), {i: by_hand(f, LAM[i], W[i], u, v) for i in np.ndindex(*full)}


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        *(("relu", name) for name in ("one hidden", "two hidden", "masked", "shared")),
        ("leaky_relu", "masked"),
        ("leaky_relu", "shared"),
        ("relu", "shared, masked"),
        ("linear", "one hidden"),
    ],
)
def test_piecewise_linear_networks_are_exact_over_the_rationals(activation: str, name: str) -> None:
    """Every quantity, every digit: value, gradients and second derivatives of the squared loss."""
    if name.startswith("shared"):
        f = SHARED[f"{activation}, squared, shared"]()
        f = f.drop_units(MASK) if name.endswith("masked") else f
    else:
        f = network(activation, "squared", DEPTHS.get(name, (3, 2)), False)
        f = f.drop_units(MASK) if name == "masked" else f
    exact = f.to("rational")
    short = [np.round(8 * x) / 8 for x in (*point(f, 5), *_vectors(f, 5))]
    thirds = [exact.backend.asarray(x) / 3 for x in short]  # not floats
    known = by_hand(f, *([Fraction(x) / 3 for x in y.tolist()] for y in short), number=Fraction)
    for quantity, expected in known.items():
        got = exactly(np.atleast_1d(quantities(f)[quantity](exact, *thirds)))
        assert got == np.atleast_1d(expected.value).tolist(), quantity


def test_what_is_not_polynomial_refuses_the_rationals() -> None:
    smooth = network("tanh", "squared", (3,), False).to("rational")
    softmax = network("relu", "softmax", (3,), False).to("rational")
    weighted = network("relu", "squared", (3,), True).to("rational")
    for f in (smooth, softmax, weighted):
        with pytest.raises(BadInput, match="polynomial"):
            f.value(f.backend.zeros((f.n,)), f.backend.zeros((f.d,)))


def test_kinks_are_refused_over_balls() -> None:
    for activation in ("relu", "leaky_relu"):
        f = network(activation, "softmax", (3,), False).to("interval")
        with pytest.raises(BadInput, match="compar"):
            f.grad_w(f.backend.zeros((f.n,)), f.backend.zeros((f.d,)))


@pytest.mark.parametrize(
    "name", [name for name in FEW if "relu" not in name] + ["centred_sigmoid, softmax, two hidden, weighted"]
)
def test_balls_enclose_the_definition(name: str) -> None:
    # kills: a formula that drops the radius, and one that is right in floats only
    import flint

    f = (ALL | FEW)[name]()
    (lam, w), (u, v) = point(f, 6), _vectors(f, 6)
    known = by_hand(f, lam, w, u, v)
    with flint.ctx.workprec(120):
        balls = f.to("interval")
        arrays = [balls.backend.asarray(x) for x in (lam, w, u, v)]
        for quantity, expected in known.items():
            got = np.asarray(quantities(f)[quantity](balls, *arrays), dtype=object)
            radii = np.reshape([float(e.rad()) for e in got.ravel()], got.shape)
            assert np.all(radii <= 2.0**-80 * (1 + expected.terms)), quantity
            assert_rounded(to_numpy(got), expected.value, terms=expected.terms, count=f.n + f.d + SAMPLES)


def test_single_precision_stays_single() -> None:
    f = network("tanh", "softmax", (3, 2), True)
    single = f.to("numpy", dtype="float32")
    arrays = [x.astype(np.float32) for x in (*point(f, 7), *_vectors(f, 7))]
    known = by_hand(single, *arrays)
    for quantity, expected in known.items():
        got = quantities(f)[quantity](single, *arrays)
        assert got.dtype == np.float32, quantity
        assert_rounded(got, expected.value, terms=expected.terms, count=f.n + f.d + SAMPLES, dtype="float32")


# -- the finite sum -------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", FEW)
@everywhere
def test_minibatches_are_means_of_their_terms(name: str, place: Place) -> None:
    """at (2, 3) points and batches of 3: each of them is the definition over those samples, with their own weights."""
    # kills: λ_0 for λ_i, a batch's 1/N for 1/b, the ridge counted b times, points behind the data's axes
    f, vectors, known = _over_samples(name)
    there, arrays = place.move(f), [place.array(x) for x in vectors]
    batches, terms = there.batch(BATCHES), there.at(BATCHES)
    again = there.batch(ORDER).batch(np.argsort(ORDER)[BATCHES])
    assert (terms.leading, batches.leading, again.leading) == ((2, 3), (2,), (2,))
    for (g, at), samples in (
        *(((g, (j,)), BATCHES[j]) for g in (batches, again) for j in range(2)),
        *(((terms, (j, k)), BATCHES[j, [k]]) for j in range(2) for k in range(3)),
    ):
        for quantity, expected in known[tuple(samples.tolist())].items():
            got = to_numpy(quantities(f)[quantity](g, *arrays))
            got = np.broadcast_to(got, (*g.leading, *expected.value.shape))[at]
            assert_rounded(got, expected.value, terms=expected.terms, count=f.n + f.d + SAMPLES)


@functools.cache
def _over_samples(name: str) -> Any:
    """A loss, a point and two vectors, and the definition over each minibatch and each sample."""
    f = FEW[name]()
    vectors = (*point(f, 8), *_vectors(f, 8))
    chosen = [*map(tuple, BATCHES.tolist()), *((i,) for i in range(SAMPLES))]
    return f, vectors, {samples: by_hand(f, *vectors, samples=samples) for samples in chosen}


@pytest.mark.parametrize("place", [Place("numpy"), Place("strict")], ids=str)
def test_masks_and_samples_share_leading_axes(place: Place) -> None:
    """f.at(s) under masks pairs them; the samples of a loss under masks stand in front of the masks."""
    f = network("sigmoid", "softmax", (3, 2), True)
    (lam, w), (u, v) = point(f, 9), _vectors(f, 9)
    masks, index = np.random.default_rng(9).standard_normal((2, 5)), np.array([3, 1])
    there, arrays = place.move(f), [place.array(x) for x in (lam, w, u, v)]
    paired = there.at(index).drop_units(place.array(masks))
    crossed = there.drop_units(place.array(masks)).at(np.array([0, 3, 1]))
    assert (paired.leading, crossed.leading) == ((2,), (3, 2))
    for i, k in itertools.product(range(3), range(2)):
        for g, at, sample in ((paired, (k,), index[k]), (crossed, (i, k), (0, 3, 1)[i])):
            known = by_hand(f.drop_units(masks[k]), lam, w, u, v, samples=[int(sample)])
            for quantity, expected in known.items():
                got = to_numpy(quantities(f)[quantity](g, *arrays))[at]
                assert_rounded(got, expected.value, terms=expected.terms, count=f.n + f.d + SAMPLES)


def test_data_with_leading_axes() -> None:
    """Two data sets on one axis: every quantity is that of each set."""
    sets = [loss(MLP((2, 3, 3), "tanh"), *data("softmax", seed), reg=REG) for seed in (10, 11)]
    both = dataclasses.replace(sets[0], X=np.stack([f.X for f in sets]), y=np.stack([f.y for f in sets]))
    (lam, w), (u, v) = point(sets[0], 10), _vectors(sets[0], 10)
    for k, f in enumerate(sets):
        for quantity, expected in by_hand(f, lam, w, u, v).items():
            got = quantities(f)[quantity](both, lam, w, u, v)[k]
            assert_rounded(got, expected.value, terms=expected.terms, count=f.n + f.d + SAMPLES)


# -- dropout: where the two sites agree -----------------------------------------------------------------
@pytest.mark.parametrize("name", FEW)
def test_masks_of_ones_change_no_bit(name: str) -> None:
    f = FEW[name]()
    (lam, w), (u, v) = point(f, 12, (2, 1), (3,)), _vectors(f, 12)
    whole = f.drop_units(np.ones(f.units))
    for quantity, of in quantities(f).items():
        assert np.array_equal(of(f, lam, w, u, v), of(whole, lam, w, u, v)), quantity


def _two_sites(f: Any, unit_mask: Any, row_mask: Any, lam: Any, w: Any) -> dict[str, tuple[Any, Any]]:
    """Value and gradients by unit masks, and by row masks through formula (10)."""
    units = f.drop_units(unit_mask)
    return {
        "value": (units.value(lam, w), f.value(lam, row_mask * w)),
        "grad_lam": (units.grad_lam(lam, w), f.grad_lam(lam, row_mask * w)),
        "grad_w": (units.grad_w(lam, w), row_mask * f.grad_w(lam, row_mask * w)),
        "hess_ww @": (
            units.hess_ww(lam, w) @ w,
            row_mask * (f.hess_ww(lam, row_mask * w) @ (row_mask * w)),
        ),
    }


@pytest.mark.parametrize("activation", PIECEWISE)
@pytest.mark.parametrize("scale", ["none", "inverse"])
def test_piecewise_linear_units_may_be_masked_at_either_site(activation: str, scale: Any) -> None:
    """Over the rationals, for all 2⁵ masks and both scalings: equal in every digit (dropout-bilevel, eq-7)."""
    f = network(activation, "squared", (3, 2), False, reg=0.0)
    lam, w = point(f, 13)
    keep = (Fraction(1, 3), Fraction(3, 4))
    rows, units = f.net.rows(keep), f.net.unit_masks(keep)
    f = f.to("rational")
    B = f.backend
    lam, w = B.asarray(lam), B.asarray(w)
    assert rows.size == units.size == 32
    for k in range(32):
        masks = [space.mask(space.points(np.array(k)), B, scale) for space in (units, rows)]
        for quantity, (left, right) in _two_sites(f, *masks, lam, w).items():
            assert np.array_equal(left, right), (quantity, k)


def test_masked_units_leave_the_ridge_alone() -> None:
    """Masked weights do not: the sites differ by reg/2 (‖w‖² − ‖m_w w‖²), where they agree otherwise."""
    f = network("relu", "squared", (3, 2), False)
    lam, w = point(f, 27)
    rows = f.net.rows(0.5)
    f = f.to("rational")
    B, bits = f.backend, rows.points(np.array(11))
    lam, w, mask = B.asarray(lam), B.asarray(w), rows.mask(bits, B)
    units = f.drop_units(B.asarray(bits[: f.units]))
    ridge = f.reg * (B.dot(w, w) - B.dot(mask * w, mask * w)) / 2
    assert units.value(lam, w) - f.value(lam, mask * w) == ridge != 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("scale", ["none", "inverse"])
def test_the_sites_agree_exactly_where_the_activation_allows_it(activation: str, scale: Any) -> None:
    """Masks 0 or 1: iff a(0) = 0. Masks 0 or 1/p: iff a is positively homogeneous besides."""
    f = network(activation, "softmax", (3, 2), True, reg=0.0)
    lam, w = point(f, 14)
    kind = ACTIVATIONS[activation]
    agree = kind.zero_at_zero and (scale == "none" or kind.homogeneous)
    rows, units = f.net.rows((0.5, 0.25)), f.net.unit_masks((0.5, 0.25))  # 1/p is exact
    largest = 0.0
    for k in range(1, 32, 5):
        u_mask, r_mask = (s.mask(s.points(np.array(k)), f.backend, scale) for s in (units, rows))
        known = by_hand(f.drop_units(u_mask), lam, w, lam, w)
        for quantity, (left, right) in _two_sites(f, u_mask, r_mask, lam, w).items():
            allowed = 10 * (f.n + f.d + SAMPLES) * EPS["float64"] * np.maximum(known[quantity].terms, 1)
            excess = float(np.max(np.abs(left - right) / allowed))
            assert not agree or excess <= 1, (quantity, k)
            largest = max(largest, excess)
    assert agree or largest > 2.0**20  # no rounding explains it


@pytest.mark.parametrize("activation", ["sigmoid", "softplus", "tanh"])
def test_by_how_much_the_sites_differ(activation: str) -> None:
    """A row of zeros gives a(0), which the next layer sees as a bias: its weights of dropped units times a(0)."""
    f = network(activation, "softmax", (3,), False, reg=0.0)
    lam, w = point(f, 15)
    kept = np.array([1.0, 0.0, 0.0])
    space = f.net.rows(0.5)
    rows = space.mask(np.append(kept, np.ones(OUTPUTS)), f.backend)
    first, last = f.net.layers(w)
    last = last.copy()
    last[:, -1] += last[:, :-1] @ (1 - kept) * BY_HAND[activation](0.0)[0]
    moved = f.net.pack([first, last])
    expected = by_hand(f.drop_units(kept), lam, moved, lam, w)["value"]
    assert_rounded(f.value(lam, rows * w), expected.value, terms=expected.terms, count=f.d + SAMPLES)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("scale", ["none", "inverse"])
def test_expected_losses_over_either_site(activation: str, scale: Any) -> None:
    """The exact expectation over 2³ masks: equal at both sites under the same condition, each by its definition."""
    f = network(activation, "softmax", (3,), True, reg=0.0)
    lam, w = point(f, 16)
    kind, keep = ACTIVATIONS[activation], 0.75
    units = f.net.unit_masks(keep)
    sites = [
        f.with_dropout(space, site=site, scale=scale)
        for space, site in ((f.net.rows(keep), "weights"), (units, "activations"))
    ]
    total, terms = 0.0, 0.0
    for k in range(8):
        mask = units.mask(units.points(np.array(k)), f.backend, scale)
        probability = float(units.exact_probabilities(np.array([k]))[0])
        known = by_hand(f.drop_units(mask), lam, w, lam, w)["value"]
        total, terms = total + probability * float(known.value), terms + probability * float(known.terms)
    count = f.d + SAMPLES + 8
    assert_rounded(sites[1].value(lam, w), total, terms=terms, count=count)
    gap = abs(float(sites[0].value(lam, w)) - total) / (10 * count * EPS["float64"] * terms)
    assert (gap <= 1) == (kind.zero_at_zero and (scale == "none" or kind.homogeneous))


# -- masks of a shared body -----------------------------------------------------------------------------
@pytest.mark.parametrize("activation", PIECEWISE)
@pytest.mark.parametrize("scale", ["none", "inverse"])
def test_a_bodys_units_may_be_masked_at_either_site(activation: str, scale: Any) -> None:
    """Rows of λ or outputs of units, over the rationals, for all 2⁵ masks: equal in every digit."""
    f = tasks(activation, "squared")  # with its ridge, on w alone
    (lam, w), (u, v) = point(f, 30), _vectors(f, 30)
    keep = (Fraction(1, 3), Fraction(3, 4))
    rows, units = f.body.rows(keep), f.body.unit_masks(keep)
    f = f.to("rational")
    B = f.backend
    lam, w, u, v = (B.asarray(x) for x in (lam, w, u, v))
    for k in range(32):
        unit, row = (space.mask(space.points(np.array(k)), B, scale) for space in (units, rows))
        g, moved = f.drop_units(unit), row * lam
        for left, right in (
            (g.value(lam, w), f.value(moved, w)),
            (g.grad_lam(lam, w), row * f.grad_lam(moved, w)),
            (g.grad_w(lam, w), f.grad_w(moved, w)),
            (g.hess_ww(lam, w) @ v, f.hess_ww(moved, w) @ v),
            (g.cross(lam, w) @ v, row * (f.cross(moved, w) @ v)),
            (g.cross(lam, w).T @ u, f.cross(moved, w).T @ (row * u)),
        ):
            assert np.array_equal(left, right), k


def test_a_shared_body_under_dropout_is_the_sum_over_masks() -> None:
    """site="activations": the expectation by its definition, and every derivative of it by the checks."""
    f = tasks("softplus", "softmax")  # a(0) is not 0: only this site says what is meant
    (lam, w), (u, v) = point(f, 31), _vectors(f, 31)
    masks = f.body.unit_masks((0.25, 1))
    assert masks.size == 8
    dropped = f.with_dropout(masks, site="activations", scale="inverse")
    index = np.arange(8)
    known = [
        by_hand(f.drop_units(m), lam, w, u, v) for m in masks.mask(masks.points(index), f.backend, "inverse")
    ]
    chances = [float(p) for p in masks.exact_probabilities(index)]
    for quantity, of in quantities(dropped).items():
        if quantity in known[0]:
            value, terms = (
                sum(p * getattr(k[quantity], part) for p, k in zip(chances, known, strict=True))
                for part in ("value", "terms")
            )
            assert_rounded(of(dropped, lam, w, u, v), value, terms=terms, count=f.n + f.d + SAMPLES + 8)
    _both_channels(dropped, lam, w)


def test_masks_and_minibatches_of_a_shared_body_keep_their_axes() -> None:
    # kills: the tasks' axis taken for the masks', a minibatch without the masks' axes
    f = tasks("tanh", "softmax")
    (lam, w), _ = point(f, 32, (2, 1, 1)), None
    masks = np.random.default_rng(33).standard_normal((3, 1, f.units))
    g = f.drop_units(masks[:, 0])
    assert (g.leading, g.lead) == ((3,), 1)
    both = g.batch(BATCHES)  # minibatches (2,), in front of the masks (3,)
    assert both.leading == (2, 3)
    of_both, of_sample = both.grad_lam(lam[:, 0], w), g.at(1).value(lam[0, 0], w)
    for i in range(3):
        one = f.drop_units(masks[i, 0])
        for j, batch in enumerate(BATCHES):
            assert np.allclose(
                of_both[j, i], one.batch(batch).grad_lam(lam[j, 0, 0], w), rtol=1e3 * EPS["float64"]
            )
        assert np.isclose(of_sample[i], one.at(1).value(lam[0, 0, 0], w), rtol=1e3 * EPS["float64"])


# -- the structure --------------------------------------------------------------------------------------
def test_layers_and_parameters_go_round() -> None:
    net = MLP((4, 3, 2, 5), ("relu", "tanh"))
    assert (net.size, net.units, net.hidden) == (4 * 3 + 3 + 3 * 2 + 2 + 2 * 5 + 5, 5, (3, 2))
    theta = np.random.default_rng(17).standard_normal((6, 1, net.size))
    layers = net.layers(theta)
    assert [a.shape for a in layers] == [(6, 1, 3, 5), (6, 1, 2, 4), (6, 1, 5, 3)]
    assert all(np.shares_memory(a, theta) for a in layers)
    assert np.array_equal(net.pack(layers), theta)


def test_a_row_with_its_bias_is_one_run_of_parameters() -> None:
    # kills: column order, a bias layer at the end, groups of columns
    net = MLP((4, 3, 2, 5), "relu")
    space = net.rows((0.25, 0.5))
    positions, groups = net.layers(np.arange(net.size)), np.array(space.groups)
    row = 0
    for layer in positions:
        for of_row in layer:
            assert np.array_equal(np.flatnonzero(groups == row), of_row)
            row += 1
    assert row == space.variables
    assert space.keep_prob == (Fraction(1, 4),) * 3 + (Fraction(1, 2),) * 2 + (Fraction(1),) * 5
    assert net.unit_masks(np.array([0.25, 0.5])) == Bernoulli([0.25] * 3 + [0.5] * 2)
    assert net.unit_masks(0.5).size == 2**5


def test_a_bodys_last_layer_is_hidden_too() -> None:
    body = MLP((4, 3, 2), "sigmoid", body=True)
    assert (body.units, body.hidden) == (5, (3, 2))
    assert body.rows(0.5).free == (0, 1, 2, 3, 4)
    assert body.rows((1, 0.5)).free == (3, 4)
    plain = MLP((4, 3, 2), "sigmoid")
    assert plain.rows(0.5).free == (0, 1, 2)
    X, theta = np.random.default_rng(18).standard_normal((6, 4)), body.random(np.random.default_rng(19))
    assert np.array_equal(body.scores(theta, X), body.backend.sigmoid(plain.scores(theta, X)))


def test_random_parameters() -> None:
    net = MLP((400, 300, 2), "relu")
    theta = net.random(np.random.default_rng(20), gain=2.0)
    assert np.array_equal(theta, net.random(20, gain=2.0))
    assert np.array_equal(theta, net.random(np.random.default_rng(20), gain=2.0))
    first, last = net.layers(theta)
    assert not first[:, -1].any()
    assert not last[:, -1].any()
    count = first[:, :-1].size
    spread = np.std(first[:, :-1]) * 400**0.5 / 2.0
    assert abs(spread - 1) <= 6 / (2 * count) ** 0.5  # six standard deviations of an estimated one


# -- activations ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_what_an_activation_says_of_itself(name: str) -> None:
    a, B = ACTIVATIONS[name], MLP((1, 1)).backend
    assert bool(a.value(B, np.zeros(1)) == 0) == a.zero_at_zero
    z = np.array([-1.5, 0.75])
    assert np.array_equal(a.value(B, 2 * z), 2 * a.value(B, z)) == a.homogeneous
    left, right = (float(a.first(B, x, a.value(B, x))[0]) for x in (np.array([-1e-300]), np.array([1e-300])))
    assert (left != right) == a.kinked
    zero = np.zeros(1)
    slope = a.first(B, zero, a.value(B, zero))
    assert not a.kinked or (slope == left and a.second(a.value(B, zero), slope) == 0)  # the left-hand side's


def test_the_centred_sigmoid_keeps_small_numbers() -> None:
    """σ(z) − ½ computed as written has lost every digit at 1e−17."""
    a, B = ACTIVATIONS["centred_sigmoid"], MLP((1, 1)).backend
    for x in (1e-17, -3e-5, 0.7, 40.0):
        true = float(decimals("tanh", x / 2)) / 2
        assert_rounded(a.value(B, np.array(x)), true, terms=abs(true), count=1)


@pytest.mark.parametrize("name", [name for name, a in ACTIVATIONS.items() if not a.homogeneous])
def test_derivatives_are_accurate_absolutely(name: str) -> None:
    """A few eps of 1, also where the unit saturates and its derivative is far smaller: as the module says."""
    a, B, z = ACTIVATIONS[name], MLP((1, 1)).backend, np.array([-40.0, -9.0, -0.3, 0.0, 2.0, 18.0, 37.0])
    value = a.value(B, z)
    slope = a.first(B, z, value)
    true = np.array([BY_HAND[name](x) for x in z.tolist()])
    assert np.all(np.abs(slope - true[:, 1]) <= 4 * EPS["float64"])
    assert np.all(np.abs(a.second(value, slope) - true[:, 2]) <= 8 * EPS["float64"])


# -- kinks, predictions ---------------------------------------------------------------------------------
def test_the_distance_from_kinks() -> None:
    net = MLP((1, 2, 1), "relu")
    f = loss(net, [[1.0], [2.0]], [0.0, 0.0], loss="squared")
    w = net.pack(
        [np.array([[1.0, 1.0], [-3.0, 5.5]]), np.array([[1.0, 1.0, 0.0]])]
    )  # z = (2, 3), (2.5, −0.5)
    assert f.kink_distance(np.zeros(0), w) == 0.5
    assert f.drop_units(np.array([1.0, 0.0])).kink_distance(np.zeros(0), w) == 2.0
    assert f.kink_distance(np.zeros(0), np.stack([w, 2 * w])).tolist() == [0.5, 1.0]
    assert network("tanh", "softmax", (3,), False).kink_distance(np.zeros(2), np.zeros(21)) == np.inf
    mixed = loss(MLP((1, 1, 1, 1), ("leaky_relu", "tanh")), [[1.0]], [0.0], loss="squared")
    assert mixed.kink_distance(np.zeros(0), np.zeros(mixed.d)) == 0.0
    g = SHARED["relu, squared, shared"]()
    lams, w = point(g, 21, (3,))
    nearest = [float(g.kink_distance(lam, w)) for lam in lams]
    assert g.kink_distance(lams, w).tolist() == nearest


@pytest.mark.parametrize("kind", ["network", "shared"])
def test_rows_that_stand_still_have_no_kink(kind: str) -> None:
    """Masks of rows and of units leave out the same ones: for all 2⁵ masks at once, on a leading axis."""
    shared_body = kind == "shared"
    f = tasks("relu", "squared") if shared_body else network("relu", "squared", (3, 2), False)
    net = f.body if shared_body else f.net
    lam, w = point(f, 34, (), () if shared_body else (4, 1))
    rows, units = net.rows(0.5), net.unit_masks(0.5)
    row, unit = (s.mask(s.points(np.arange(32)), f.backend) for s in (rows, units))
    expected = f.drop_units(unit).kink_distance(lam, w)
    if shared_body:
        found, blind = (f.kink_distance(row * lam, w, *m) for m in ((row, None), (None, np.zeros(f.d))))
        single = f.kink_distance(row[5] * lam, w, lam_moves=row[5])
    else:
        found, blind = (f.kink_distance(lam, row * w, *m) for m in ((None, row), (np.zeros(f.n), None)))
        single = f.kink_distance(lam, row[5] * w[0, 0], w_moves=row[5])
    assert np.array_equal(found, expected)
    assert np.array_equal(single, expected[..., 5].ravel()[0])
    assert np.isinf(found[..., 0]).all()  # everything is dropped
    assert np.isfinite(found[..., 1:]).any()
    assert (blind[..., 0] == 0).all()  # and without the masks each dropped unit looks like one at its kink


def test_a_row_that_stands_still_may_see_units_that_move() -> None:
    net = MLP((1, 1, 1, 1), "relu")
    f = loss(net, [[1.0]], [0.0], loss="squared")
    moves = net.pack([np.ones((1, 2)), np.zeros((1, 2)), np.ones((1, 2))])
    for weight, expected in ((0.0, 3.0), (-1.0, 0.25)):  # the second unit sees the first, or does not
        w = net.pack([np.array([[1.0, 2.0]]), np.array([[weight, 3.25]]), np.ones((1, 2))])
        assert f.kink_distance(np.zeros(0), w, None, moves) == expected
        assert f.kink_distance(np.zeros(0), w, None, np.zeros(1)) == np.inf
        assert f.drop_units(np.array([0.0, 1.0])).kink_distance(np.zeros(0), w, None, moves) == np.inf
    assert f.kink_distance(np.zeros(0), w) == 0.25


def test_predictions_and_accuracy() -> None:
    f = network("relu", "softmax", (3,), True)
    lam, w = point(f, 22, (), (4,))
    labels = np.argmax(f.y, axis=0)
    scores = [[by_hand_scores(f, w[r], i) for i in range(SAMPLES)] for r in range(4)]
    classes = np.argmax(scores, axis=-1)
    assert np.array_equal(f.predictions(w), classes)
    assert f.accuracy(lam, w).tolist() == [float(np.mean(classes[r] == labels)) for r in range(4)]
    g = SHARED["tanh, softmax, shared"]()
    lam, w = point(g, 23)
    for j in range(TASKS):
        right = np.argmax(g.scores(lam, w)[j], axis=0) == np.argmax(g.y[j], axis=0)
        assert g.accuracy(lam, w)[j] == np.mean(right)


def by_hand_scores(f: Any, w: np.ndarray, i: int) -> np.ndarray:
    first, last = f.net.layers(w)
    hidden = np.maximum(first @ np.append(f.X[i], 1.0), 0.0)
    return np.asarray(last @ np.append(hidden, 1.0))


# -- work, errors ---------------------------------------------------------------------------------------
def test_a_second_derivative_passes_through_the_network_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # kills: a forward pass in every product
    f = network("tanh", "softmax", (3, 2), True)
    (lam, w), (u, v) = point(f, 24), _vectors(f, 24)
    calls, forward = [], passes.forward
    monkeypatch.setattr("refimpl.networks.mlp.forward", lambda *a: calls.append(1) or forward(*a))
    hess, cross = f.hess_ww(lam, w), f.cross(lam, w)
    for _ in range(3):
        assert np.isfinite(hess @ v).all()
        assert np.isfinite(cross @ v).all()
        assert np.isfinite(cross.T @ u).all()
    assert np.isfinite(hess.dense()).all()
    assert len(calls) == 2


def test_pickles_after_use() -> None:
    for f in (network("relu", "softmax", (3,), True), SHARED["tanh, softmax, shared"]()):
        lam, w = point(f, 25)
        before = f.grad_w(lam, w)
        assert np.array_equal(round_trip(f).grad_w(lam, w), before)


NET, X2, LABELS = MLP((INPUTS, 3, OUTPUTS), "relu"), np.ones((4, INPUTS)), [0, 1, 2, 0]
BODY, X3 = MLP((INPUTS, 3), "relu", body=True), np.ones((2, 4, INPUTS))
GOOD_SHARED = shared(BODY, X3, [LABELS] * 2, outputs=3)
REFUSED: dict[str, tuple[str, Callable[[], Any]]] = {
    "one width": ("no network", lambda: MLP((3,))),
    "no units": ("no network", lambda: MLP((3, 0, 1), "relu")),
    "no activation": ("needs an activation", lambda: MLP((3, 2, 1))),
    "too many activations": ("needs an activation", lambda: MLP((3, 2, 1), ("relu", "tanh"))),
    "unknown activation": ("no activation of that name", lambda: MLP((3, 2, 1), "gelu")),
    "unknown loss": ("no loss of that name", lambda: loss(NET, X2, LABELS, loss="hinge")),
    "features": ("does not take", lambda: loss(NET, np.ones((4, 5)), LABELS)),
    "labels out of range": ("out of range", lambda: loss(NET, X2, [0, 1, 2, 3])),
    "too few labels": ("do not fit", lambda: loss(NET, X2, [0, 1])),
    "targets of one output": ("y is not a real array", lambda: loss(NET, X2, [0, 1, 2, 0], loss="squared")),
    "infinite data": ("not finite", lambda: loss(NET, np.inf * X2, LABELS)),
    "negative ridge": ("must not be negative", lambda: loss(NET, X2, LABELS, reg=-1.0)),
    "no ridge": ("must not be negative", lambda: loss(NET, X2, LABELS, reg=float("nan"))),
    "two lengths of λ": ("one weight", lambda: loss(NET, X2, LABELS, weighted=True, n=3)),
    "keep for too many layers": ("do not fit the hidden layers", lambda: NET.rows((0.5, 0.5))),
    "mask of parameters": ("does not fit", lambda: loss(NET, X2, LABELS).drop_units(np.ones(NET.size))),
    "not a body": ("no activation", lambda: shared(NET, X3, [LABELS] * 2, outputs=3)),
    "features of a body": ("does not take", lambda: shared(BODY, np.ones((2, 4, 7)), [LABELS] * 2, outputs=3)),
    "tasks": ("do not fit", lambda: shared(BODY, X3, [LABELS] * 3, outputs=3)),
    "a width alone": ("no network", lambda: MLP(3, "relu")),
    "half a unit": ("no network", lambda: MLP((3, 2.5, 1), "relu")),
    "parameters of another network": ("wrong shape", lambda: loss(NET, X2, LABELS).losses(np.zeros(NET.size + 1))),
    "too few parameters": ("wrong shape", lambda: NET.layers(np.zeros(NET.size - 1))),
    "a number for parameters": ("wrong shape", lambda: NET.layers(np.array(1.0))),
    "heads": ("wrong shape", lambda: GOOD_SHARED.losses(np.zeros(GOOD_SHARED.n), np.zeros(GOOD_SHARED.d - 1))),
    "scores of other features": ("does not take", lambda: NET.scores(np.zeros(NET.size), np.ones((4, 5)))),
    "scores of one sample": ("does not take", lambda: NET.scores(np.zeros(NET.size), np.ones(INPUTS))),
    "a pass over rows": ("does not take", lambda: NET.forward(np.zeros(NET.size), np.ones((4, INPUTS)))),
    "a negative length of λ": ("whole number", lambda: loss(NET, X2, LABELS, n=-1)),
    "half a λ": ("whole number", lambda: loss(NET, X2, LABELS, n=1.5)),
    "a body alone": ("would be activated", lambda: loss(BODY, X2, LABELS)),
    "no outputs": ("outputs must be a whole number", lambda: shared(BODY, X3, [LABELS] * 2, outputs=0)),
    "outputs and a half": ("outputs must be a whole number", lambda: shared(BODY, X3, [LABELS] * 2, outputs=2.5)),
    "mask of a body": ("does not fit", lambda: GOOD_SHARED.drop_units(np.ones(GOOD_SHARED.n))),
    "constants": (
        "no constants are known",
        lambda: loss(NET, X2, LABELS).bounds(Region(np.zeros(0), np.zeros(NET.size), 0.0, 1.0)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    match, make = REFUSED[name]
    with pytest.raises(BadInput, match=match) as caught:
        make()
    assert caught.value.measured is not None
    assert caught.value.required
    assert caught.value.advice


def test_one_output_takes_a_vector_of_targets() -> None:
    net = MLP((INPUTS, 3, 1), "tanh")
    X, y = data("squared", 26)[0], np.arange(4.0)
    assert np.array_equal(loss(net, X, y, loss="squared").y, loss(net, X, y[:, None], loss="squared").y)
    moved = loss(net.to("strict"), X, y, loss="squared")
    assert moved.backend.name == moved.net.backend.name == "strict"
