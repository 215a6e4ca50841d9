"""Hessians assembled by structure against products, hyper-dual numbers, autograd and exact fractions."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from refimpl.arrays import to_numpy
from refimpl.curvature import hessian
from refimpl.errors import BadInput, HypothesisViolated, TooLarge
from refimpl.networks import ACTIVATIONS, MLP, loss
from refimpl.zoo import quadratic
from tests.backends import Place, everywhere, on_cpu
from tests.curvature_things import all_masks, expected_by_hand, second_by_hand, small_case, under
from tests.network_things import SAMPLES, THINGS, Known, network, point
from tests.rounding import assert_rounded, exactly

THREE = (2, 3, 2)  # hidden layers: blocks of neighbours, of layers further apart, and of the last layer
KINDS = list(itertools.product(ACTIVATIONS, ("squared", "softmax")))
NONE = np.zeros(0)


def _close(found: Any, known: Known, f: Any, dtype: str = "float64") -> None:
    assert_rounded(found, known.value, terms=known.terms, count=2 * f.d + f.count, dtype=dtype)


# -- plain losses ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", THINGS)
def test_a_hessian_is_the_definition_and_its_products(name: str) -> None:
    # kills: a bend lost, δ for its transpose, a layer's output for its input, the cross-layer term at the bias
    f = THINGS[name]()
    lam, w = point(f, 41)
    known, H = second_by_hand(f, lam, w)["hess_ww"], f.hess_ww(lam, w)
    _close(H.dense(), known, f)
    _close(np.stack([H @ e for e in np.eye(f.d)], axis=1), known, f)
    assert np.array_equal(hessian(f, w, lam=lam), H.dense())


@pytest.mark.parametrize(("activation", "kind"), KINDS)
def test_four_layers_have_every_kind_of_block(activation: str, kind: str) -> None:
    """Blocks of layers 0 and 2, 0 and 3, 1 and 3 go through motions of several layers; masks scale every slope."""
    f = network(activation, kind, THREE, True)
    lam, w = point(f, 42)
    masks = np.array([1.0, 0.5, 2.0, 1.0, 0.0, -0.5, 3.0])
    for g in (f, f.drop_units(masks)):
        _close(g.hess_ww(lam, w).dense(), second_by_hand(g, lam, w)["hess_ww"], g)


def test_layers_and_blocks_are_the_whole_matrix_s() -> None:
    # kills: rows of another layer, blocks transposed
    f = network("tanh", "softmax", THREE, True)
    lam, w = point(f, 43)
    known, net = second_by_hand(f, lam, w)["hess_ww"], f.net
    assert [(s.start, s.stop) for s in net.spans] == [(0, 6), (6, 15), (15, 23), (23, 32)]
    for size in (1, 2, 3, 4):
        for chosen in itertools.combinations(range(4), size):
            rows = np.concatenate([np.arange(32)[net.spans[k]] for k in chosen])
            part = Known(*(x[np.ix_(rows, rows)] for x in (known.value, known.terms)))
            _close(hessian(f, w, lam=lam, layers=chosen), part, f)
    H = hessian(f, w, lam=lam)
    assert np.shares_memory(net.block(H, 1, 3), H)
    assert np.array_equal(net.block(H, 1, 3), H[6:15, 23:])
    assert np.array_equal(net.block(H[None], 3, 1)[0], net.block(H, 1, 3).T)
    assert np.array_equal(net.layer(H, 2), H[15:23, 15:23])


@everywhere
@pytest.mark.parametrize("kind", ["squared", "softmax"])
@pytest.mark.parametrize("lead", [((), ()), ((), (2,)), ((2,), ()), ((2, 1), (3,))], ids=str)
def test_the_same_on_every_backend_and_over_leading_axes(
    place: Place, kind: str, lead: tuple[Any, Any]
) -> None:
    f = network("sigmoid", kind, (3, 2), kind == "softmax")  # the other's λ does not enter, but has its axes
    lam, w = point(f, 44, *lead)
    H = to_numpy(place.move(f).hess_ww(place.array(lam), place.array(w)).dense())
    shape = np.broadcast_shapes(*lead)
    assert H.ndim == len(shape) + 2
    H = np.broadcast_to(H, (*shape, f.d, f.d))
    LAM, W = np.broadcast_to(lam, (*shape, f.n)), np.broadcast_to(w, (*shape, f.d))
    for at in np.ndindex(*shape):
        _close(H[at], second_by_hand(f, LAM[at], W[at])["hess_ww"], f)


@on_cpu
def test_minibatches_and_masks_have_matrices_of_their_own(place: Place) -> None:
    f = network("softplus", "softmax", (3, 2), True)
    lam, w = point(f, 45)
    masks = np.random.default_rng(46).standard_normal((2, f.units))
    there, at = place.move(f), (place.array(lam), place.array(w))
    found = to_numpy(there.drop_units(place.array(masks)).hess_ww(*at).dense())
    for k in range(2):
        g = f.drop_units(masks[k])
        _close(found[k], second_by_hand(g, lam, w)["hess_ww"], f)
    batch = to_numpy(there.batch([3, 0, 3]).hess_ww(*at).dense())
    _close(batch, second_by_hand(f, lam, w, samples=[3, 0, 3])["hess_ww"], f)
    one_each = np.random.default_rng(47).standard_normal((SAMPLES, f.units))
    g = f.drop_each(one_each)
    _close(
        to_numpy(there.drop_each(place.array(one_each)).hess_ww(*at).dense()),
        second_by_hand(g, lam, w)["hess_ww"],
        f,
    )


def test_single_precision_stays_single() -> None:
    f = network("tanh", "squared", THREE, False).to("numpy", dtype="float32")
    lam, w = (x.astype(np.float32) for x in point(f, 48))
    H = hessian(f, w, lam=lam)
    assert H.dtype == np.float32
    _close(H, second_by_hand(f, lam, w)["hess_ww"], f, dtype="float32")


@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu"])
def test_piecewise_linear_networks_are_exact_over_the_rationals(activation: str) -> None:
    # kills: everything that rounding would hide, and a division that leaves the rationals
    case = small_case(activation, hidden=(2, 1, 2))
    f, B = case.f.to("rational"), case.f.to("rational").backend
    known = second_by_hand(case.f, [], [Fraction(x) / 3 for x in case.w.tolist()], Fraction)["hess_ww"].value
    w = B.asarray(case.w) / 3
    for H in (hessian(f, w), f.hess_ww(B.zeros((0,)), w).dense()):
        assert exactly(H.ravel()) == known.ravel().tolist()
    for k in range(4):
        assert exactly(hessian(f, w, layers=[k]).ravel()) == f.net.layer(known, k).ravel().tolist()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("kind", ["squared", "softmax"])
def test_autograd_differentiates_the_literal_expectation_twice(activation: str, kind: str) -> None:
    """Written anew over autograd's NumPy: a loop over masks and samples, no line of the library."""
    import autograd
    import autograd.numpy as anp

    case = small_case(activation, kind, hidden=(2, 3), outputs=3)
    f, net = case.f, case.f.net

    def expected(w: Any) -> Any:
        A, B, C = (anp.reshape(w[a:b], (-1, c)) for a, b, c in ((0, 4, 2), (4, 13, 3), (13, 25, 4)))
        bend = anp.tanh if activation == "tanh" else lambda z: anp.maximum(z, 0.0)
        total = 0.0
        for chance, mask in all_masks(case.keep, "inverse"):
            for x, y in zip(f.X, f.y.T, strict=True):
                h = bend(A @ anp.append(x, 1.0))
                h = bend(B @ anp.append(h, 1.0)) * np.array([float(m) for m in mask])
                z = C @ anp.append(h, 1.0)
                of = (
                    anp.sum((z - y) ** 2) / 2
                    if kind == "squared"
                    else anp.log(anp.sum(anp.exp(z))) - anp.sum(z * y)
                )
                total = total + float(chance) / 3 * of
        return total + f.reg / 2 * anp.sum(w * w)

    assert net.size == 25
    by_hand = expected_by_hand(f, case.lam, case.w, case.masks)["hess_ww"]
    _close(autograd.hessian(expected)(case.w), by_hand, f)
    _close(hessian(case.dropped, case.w), by_hand, f)


# -- expectations over masks ------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", ["none", "inverse"])
@pytest.mark.parametrize(("activation", "kind"), KINDS)
def test_expected_hessians_are_sums_over_masks(activation: str, kind: str, scale: str) -> None:
    # kills: s for 1/p, the ½ of the penalty twice or never, s at units that are kept
    case = small_case(activation, kind, hidden=(2, 3), scale=scale, weighted=True)
    known = expected_by_hand(case.f, case.lam, case.w, case.masks)
    D = case.dropped
    assert (D.closed is None) == (kind == "softmax")
    _close(hessian(D, case.w, lam=case.lam), known["hess_ww"], case.f)
    _close(D.grad_w(case.lam, case.w), known["grad_w"], case.f)
    for layers in ([0], [1], [2], [0, 2], [0, 1]):
        rows = np.concatenate([np.arange(case.f.d)[case.f.net.spans[k]] for k in layers])
        part = Known(*(x[np.ix_(rows, rows)] for x in (known["hess_ww"].value, known["hess_ww"].terms)))
        _close(hessian(D, case.w, lam=case.lam, layers=layers), part, case.f)


@pytest.mark.parametrize("scale", ["none", "inverse"])
@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_expected_hessians_are_exact_over_the_rationals(activation: str, scale: str) -> None:
    case = small_case(activation, hidden=(1, 2), scale=scale)
    known = expected_by_hand(case.f, [], [Fraction(x) for x in case.w.tolist()], case.masks, Fraction)
    D = case.dropped.to("rational")
    w = D.backend.asarray(case.w)
    assert exactly(hessian(D, w).ravel()) == known["hess_ww"].value.ravel().tolist()
    assert exactly(D.grad_w(D.backend.zeros((0,)), w)) == known["grad_w"].value.tolist()


def test_masks_elsewhere_are_visited_one_by_one() -> None:
    f = small_case("tanh", "softmax", hidden=(2, 2)).f
    w = small_case("tanh", "softmax", hidden=(2, 2)).w
    D = f.with_dropout(f.net.unit_masks((0.5, 0.75)), site="activations", scale="inverse")
    known = expected_by_hand(f, [], w, all_masks((0.5, 0.5, 0.75, 0.75), "inverse"))["hess_ww"]
    _close(hessian(D, w), known, f)
    _close(hessian(D, w, layers=[1]), Known(f.net.layer(known.value, 1), f.net.layer(known.terms, 1)), f)
    rows = f.net.rows((0.5, 1))
    E = f.with_dropout({"w": rows})
    value, terms = np.zeros((f.d, f.d)), np.zeros((f.d, f.d))
    for chance, row in all_masks(rows.keep_prob, "none", rows.groups):
        m = np.array([float(x) for x in row])
        known = second_by_hand(f, [], m * w)["hess_ww"]
        value += float(chance) * m[:, None] * known.value * m
        terms += float(chance) * m[:, None] * known.terms * m
    _close(hessian(E, w), Known(value, terms), f)


def test_a_plain_objective_has_a_hessian_too() -> None:
    f = quadratic.objective(ww=np.diag([1.0, 3.0]), n=0)
    assert np.array_equal(hessian(f, np.zeros(2)), np.diag([1.0, 3.0]))


@pytest.mark.parametrize(
    ("match", "error", "call"),
    [
        ("λ is missing", BadInput, lambda: hessian(network("tanh", "softmax", (2,), True), np.zeros(15))),
        ("no such layers", BadInput, lambda: hessian(_line(), np.ones(4), layers=[2])),
        ("no such layers", BadInput, lambda: hessian(_line(), np.ones(4), layers=[])),
        ("layers of what", BadInput, lambda: hessian(quadratic.objective(ww=np.eye(2), n=0), np.ones(2), layers=[0])),
        ("kink", HypothesisViolated, lambda: hessian(_line("relu"), np.array([1.0, -1.0, 1.0, 0.0]))),
        ("wrong shape", BadInput, lambda: hessian(_line(), np.ones(5))),
        ("too many points", TooLarge, lambda: hessian(_wide(), np.ones(_wide().d))),
    ],
)  # fmt: skip
def test_what_is_refused(match: str, error: Any, call: Any) -> None:
    with pytest.raises(error, match=match) as caught:
        call()
    assert caught.value.measured is not None
    assert caught.value.required
    assert caught.value.advice


def _line(activation: str = "linear") -> Any:
    return loss(MLP((1, 1, 1), activation), [[1.0]], [0.0], loss="squared")


def _wide() -> Any:
    net = MLP((1, 4, 2), "tanh")
    f = loss(net, [[1.0]], [1])
    return f.with_dropout(net.unit_masks(0.5), site="activations", max_masks=8)


def test_close_to_a_kink_is_no_kink() -> None:
    f = _line("relu")
    for side, expected in ((2.0**-40, 1.0), (-(2.0**-40), 0.0)):
        assert hessian(f, np.array([1.0, -1.0 + side, 1.0, 0.0]))[1, 1] == expected


def test_twins_of_masks_are_those_of_the_library() -> None:
    """``under`` is drop_units."""
    case = small_case(hidden=(1, 2))
    for _, mask in case.masks:
        m = np.array([float(x) for x in mask])
        a, b = (
            second_by_hand(g, [], case.w)["hess_ww"].value
            for g in (under(case.f, mask), case.f.drop_units(m))
        )
        assert np.array_equal(a, b)
