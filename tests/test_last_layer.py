"""Dropout of the last hidden layer under the squared loss: the closed form against masks, one by one."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from refimpl.arrays import to_numpy
from refimpl.checks import check_derivatives
from refimpl.errors import BadInput
from refimpl.networks import ACTIVATIONS, MLP, loss
from refimpl.networks.last_layer import LastLayerDropout
from refimpl.spaces import Bernoulli
from tests.backends import Place, everywhere, on_cpu, round_trip
from tests.curvature_things import Case, all_masks, expected_by_hand, small_case, under
from tests.network_things import Known, by_hand, evaluate, leaf
from tests.rounding import assert_rounded, exactly
from tests.test_masks import enumerated
from tests.zoo_things import quantities

SCALES = ("none", "inverse")


def _count(f: Any) -> int:
    """Operations in a chain: through the layers, over samples and λ."""
    return 2 * (f.n + f.d) + f.count


def _vectors(f: Any) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(51)
    return rng.standard_normal(f.n), rng.standard_normal(f.d)


def _expected(
    case: Case, lam: Any, w: Any, u: Any, v: Any, samples: Any = (0, 1, 2), number: Any = float
) -> dict[str, Known]:
    """Every quantity as a sum over masks of its definition."""
    found: dict[str, Any] = {}
    for chance, mask in case.masks:
        for name, known in by_hand(
            under(case.f, mask, number), lam, w, u, v, number=number, samples=samples
        ).items():
            value, terms = found.get(name, (0, 0))
            found[name] = value + number(chance) * known.value, terms + number(chance) * known.terms
    return {name: Known(*parts) for name, parts in found.items()}


# -- the objective ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_quantity_is_its_sum_over_masks(activation: str, scale: str) -> None:
    # kills: s for 1/p, (1 − p) for (1 − p)/p, the ½ of the penalty, ‖W‖ for its square, outputs that are not masked
    for hidden in ((2,), (2, 3)):
        case = small_case(activation, hidden=hidden, scale=scale, weighted=True)
        D, (u, v) = case.dropped, _vectors(case.f)
        assert isinstance(D.closed, LastLayerDropout)
        known = _expected(case, case.lam, case.w, u, v)
        for quantity, expected in known.items():
            got = quantities(D)[quantity](D, case.lam, case.w, u, v)
            assert_rounded(got, expected.value, terms=expected.terms, count=_count(case.f))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("activation", "hidden"), [("tanh", (2,)), ("softplus", (2, 3)), ("leaky_relu", (1, 2, 2))]
)
def test_every_derivative_agrees_through_two_channels(
    activation: str, hidden: tuple[int, ...], weighted: bool, scale: str
) -> None:
    """value → gradients → products, by autograd and by the complex step; leading axes and the finite sum too."""
    case = small_case(activation, hidden=hidden, scale=scale, weighted=weighted)
    rows = check_derivatives(case.dropped.closed, case.lam, case.w, seed=52)
    for quantity in ("grad_w", "hess_ww", *(("grad_lam", "cross", "cross.T") if weighted else ())):
        assert {"autograd", "complex step"} <= {r.channel for r in rows if r.quantity == quantity}
    assert {"finite sum ()", "leading axes (2,)+(2,)", "adjoint", "dense"} <= {r.channel for r in rows}
    check_derivatives(case.dropped.closed.batch([2, 0, 2]), case.lam, case.w, seed=53)
    check_derivatives(case.dropped, case.lam, case.w, seed=54)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu"])
def test_exact_over_the_rationals(activation: str, scale: str) -> None:
    """Every quantity, every digit, against fractions and against the library's own masks."""
    case = small_case(activation, hidden=(1, 2), scale=scale)
    D = case.dropped.to("rational")
    B, v = D.backend, np.arange(1.0, case.f.d + 1)
    at = (B.zeros((0,)), B.asarray(case.w) / 3, B.zeros((0,)), B.asarray(v))
    w = [Fraction(x) / 3 for x in case.w.tolist()]
    known = _expected(case, [], w, [], [Fraction(x) for x in v.tolist()], number=Fraction)
    for over in (D, enumerated(D)):
        for quantity in ("value", "grad_w", "hess_ww @"):
            got = exactly(np.atleast_1d(quantities(over)[quantity](over, *at)))
            assert got == np.atleast_1d(known[quantity].value).tolist(), quantity


def test_the_penalty_is_the_printed_one() -> None:
    """Appendix B by hand: one unit, a = 3, W = 2, keep 3/4 and so s = 1/3: ½ (6 − 1)² + ½ · ⅓ · 9 · 4."""
    net = MLP((1, 1, 1), "linear")
    f = loss(net, [[3.0]], [1.0], loss="squared").to("rational")
    D = f.with_dropout(net.last_masks(0.75), site="activations", scale="inverse")
    w = D.backend.asarray([1.0, 0.0, 2.0, 0.0])
    assert exactly(np.atleast_1d(D.value(D.backend.zeros((0,)), w))) == [Fraction(25, 2) + 6]


@everywhere
@pytest.mark.parametrize("lead", [((), ()), ((), (2,)), ((2,), ()), ((2, 1), (3,))], ids=str)
def test_the_same_on_every_backend_and_over_leading_axes(place: Place, lead: tuple[Any, Any]) -> None:
    # kills: writing in place, an axis of λ without the one of w in a packed vector
    case = small_case("tanh", hidden=(2, 2), weighted=True)
    rng, (u, v) = np.random.default_rng(55), _vectors(case.f)
    lam, w = (
        x + rng.standard_normal((*axes, x.size)) / 8 for x, axes in zip((case.lam, case.w), lead, strict=True)
    )
    there, arrays = place.move(case.dropped), [place.array(x) for x in (lam, w, u, v)]
    shape = np.broadcast_shapes(*lead)
    LAM, W = np.broadcast_to(lam, (*shape, lam.shape[-1])), np.broadcast_to(w, (*shape, w.shape[-1]))
    known = {at: _expected(case, LAM[at], W[at], u, v) for at in np.ndindex(*shape)}
    for quantity in ("value", "grad_lam", "grad_w", "hess_ww @", "cross @", "cross.T @"):
        got = to_numpy(quantities(there)[quantity](there, *arrays))
        own = 0 if quantity == "value" else 1
        got = np.broadcast_to(got, (*shape, *got.shape[got.ndim - own :]))
        for at, by_quantity in known.items():
            expected = by_quantity[quantity]
            assert_rounded(got[at], expected.value, terms=expected.terms, count=_count(case.f))
    H = to_numpy(there.hess_ww(arrays[0], arrays[1]).dense())
    for at in known:
        expected = expected_by_hand(case.f, LAM[at], W[at], case.masks)["hess_ww"]
        assert_rounded(np.broadcast_to(H, (*shape, case.f.d, case.f.d))[at], expected.value,
                       terms=expected.terms, count=_count(case.f))  # fmt: skip


def test_single_precision_stays_single() -> None:
    case = small_case("tanh", hidden=(2, 2), weighted=True)
    single = case.dropped.to("numpy", dtype="float32")
    at = [x.astype(np.float32) for x in (case.lam, case.w, *_vectors(case.f))]
    for quantity, expected in _expected(case, *at).items():
        got = quantities(single)[quantity](single, *at)
        assert got.dtype == np.float32, quantity
        assert_rounded(got, expected.value, terms=expected.terms, count=_count(case.f), dtype="float32")


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_other_libraries_compute_it_too(name: str) -> None:
    pytest.importorskip(name)
    if name == "jax" and not __import__("jax").config.jax_enable_x64:
        pytest.skip("jax_enable_x64 is False")
    case = small_case("tanh", hidden=(2, 2))
    there = case.dropped.to(name)
    w = there.backend.asarray(case.w)
    known = expected_by_hand(case.f, [], case.w, case.masks)
    for got, quantity in ((there.grad_w(there.backend.zeros((0,)), w), "grad_w"),
                          (there.hess_ww(there.backend.zeros((0,)), w).dense(), "hess_ww")):  # fmt: skip
        assert_rounded(got, known[quantity].value, terms=known[quantity].terms, count=_count(case.f))


# -- its terms ----------------------------------------------------------------------------------------------
@on_cpu
def test_minibatches_are_means_of_their_terms(place: Place) -> None:
    # kills: the shares of all samples for those of a batch, λ_0 for λ_i
    case = small_case("tanh", hidden=(2, 2), weighted=True)
    there, (u, v) = place.move(case.dropped.closed), _vectors(case.f)
    arrays = [place.array(x) for x in (case.lam, case.w, u, v)]
    assert there.space.size == case.f.count
    batches = np.array([[2, 0], [1, 1]])
    made = there.batch(batches)
    assert (made.leading, made.lead) == ((2,), 1)
    for g, at, samples in (
        *((made, j, batches[j]) for j in range(2)),
        (there.at(2), (), [2]),
        (there.batch([0, 1]).batch([1, 1]), (), [1, 1]),
    ):
        for quantity, expected in _expected(case, case.lam, case.w, u, v, samples).items():
            got = np.broadcast_to(
                to_numpy(quantities(g)[quantity](g, *arrays)), (*g.leading, *expected.value.shape)
            )
            assert_rounded(got[at], expected.value, terms=expected.terms, count=_count(case.f))


def test_masks_that_are_there_already_multiply() -> None:
    """Dropout of a loss whose units are masked: the closed form sees the masked unit."""
    case = small_case("tanh", hidden=(2, 2))
    fixed = np.array([0.5, 1.0, 3.0, -2.0])
    D = case.f.drop_units(fixed).with_dropout(
        case.f.net.last_masks(list(case.keep)), site="activations", scale="inverse"
    )
    masks = [(p, [float(a) * b for a, b in zip(m, fixed, strict=True)]) for p, m in case.masks]
    known = expected_by_hand(case.f, [], case.w, masks)
    _, closed = D.value(case.lam, case.w), D.closed
    assert isinstance(closed, LastLayerDropout)
    for got, quantity in (
        (D.grad_w(case.lam, case.w), "grad_w"),
        (closed.hess_ww(case.lam, case.w).dense(), "hess_ww"),
    ):
        assert_rounded(got, known[quantity].value, terms=known[quantity].terms, count=_count(case.f))


@pytest.mark.parametrize("scale", SCALES)
def test_units_that_are_always_or_never_kept(scale: str) -> None:
    """keep 1 has no penalty; keep 0 (unscaled) removes the unit; all kept is the plain loss, bit for bit."""
    base = small_case("relu", hidden=(2, 3), scale=scale)
    for keep in ((1, Fraction(1, 2), 1), *(((0, Fraction(1, 2), 1),) if scale == "none" else ())):
        case = dataclasses.replace(base, keep=keep)
        known = _expected(case, [], case.w, [], np.ones(case.f.d))
        assert isinstance(case.dropped.closed, LastLayerDropout)
        for quantity in ("value", "grad_w", "hess_ww @"):
            got = quantities(case.f)[quantity](case.dropped, case.lam, case.w, [], np.ones(case.f.d))
            assert_rounded(got, known[quantity].value, terms=known[quantity].terms, count=_count(case.f))
    kept = dataclasses.replace(base, keep=(1, 1, 1)).dropped
    assert kept.closed is base.f
    closed = LastLayerDropout(base.f, np.zeros(3))  # no spread is no penalty
    for D in (kept, closed):
        assert D.value(base.lam, base.w) == base.f.value(base.lam, base.w)
        assert np.array_equal(D.grad_w(base.lam, base.w), base.f.grad_w(base.lam, base.w))
        assert np.array_equal(D.hess_ww(base.lam, base.w).dense(), base.f.hess_ww(base.lam, base.w).dense())


def test_where_there_is_no_closed_form() -> None:
    # kills: another loss, another layer, units that share a variable, parameters for units
    net = MLP((1, 2, 2, 1), "tanh")
    f = loss(net, [[1.0], [2.0]], [0.0, 1.0], loss="squared", n=1)
    last = net.last_masks(0.5)
    assert f.with_dropout(last, site="activations").closed is not None
    softmax = loss(MLP((1, 2, 2, 2), "tanh"), [[1.0]], [0])
    assert softmax.with_dropout(last, site="activations").closed is None
    other = Bernoulli([0.5, 1, 0.5, 0.5])
    tied = Bernoulli([1, 1, 0.5], groups=(0, 1, 2, 2))
    for masks in (other, tied, net.unit_masks(0.5)):
        assert f.with_dropout(masks, site="activations").closed is None
    never = Bernoulli([0, 1, 0.5, 0.5])  # dropped for good is not random
    D = f.with_dropout(never, site="activations")
    known = expected_by_hand(f, [], np.ones(f.d), all_masks(never.keep_prob, "none"))["grad_w"]
    assert isinstance(D.closed, LastLayerDropout)
    assert_rounded(D.grad_w(np.zeros(1), np.ones(f.d)), known.value, terms=known.terms, count=_count(f))
    both = f.with_dropout({"lam": 0.5, "w": last}, site="activations")
    assert both.closed is None
    assert f.with_dropout({"w": Bernoulli([0.5] * f.d)}).closed is None


def test_the_nearest_kink_is_that_of_the_loss() -> None:
    case = small_case("relu", hidden=(2, 2))
    assert case.dropped.kink_distance(case.lam, case.w) == case.f.kink_distance(case.lam, case.w)
    moves = np.zeros(case.f.d)
    assert case.dropped.closed.kink_distance(case.lam, case.w, None, moves) == np.inf


def test_pickles_after_use() -> None:
    case = small_case("tanh", hidden=(2, 2), weighted=True)
    closed = case.dropped.closed
    before = closed.hess_ww(case.lam, case.w).dense()
    assert np.array_equal(round_trip(closed).hess_ww(case.lam, case.w).dense(), before)


# -- what it is made of -----------------------------------------------------------------------------------------
def test_masks_of_the_last_layer() -> None:
    net = MLP((2, 3, 2, 1), "relu")
    assert net.last_masks(0.5) == Bernoulli([1, 1, 1, 0.5, 0.5])
    assert net.last_masks([0.25, 1]) == Bernoulli([1, 1, 1, 0.25, 1])
    assert net.last_masks(np.array([0.25, 0.5])).keep_prob[3:] == (Fraction(1, 4), Fraction(1, 2))
    with pytest.raises(BadInput, match="do not fit the last hidden layer"):
        net.last_masks([0.5] * 5)
    with pytest.raises(BadInput, match="no hidden layer"):
        MLP((2, 1)).last_masks(0.5)


def test_a_mask_for_every_sample() -> None:
    # kills: masks of the samples transposed, one mask for all samples, masks that replace one another
    case = small_case("tanh", "softmax", hidden=(2, 3), weighted=True)
    f, rng = case.f, np.random.default_rng(56)
    masks = rng.standard_normal((f.count, f.units))
    g = f.drop_each(masks)
    inputs = [leaf(x, e, 0, 0) for x, e in zip(case.w, np.eye(f.d), strict=True)]
    lam = [leaf(x, 0, 0, 0) for x in case.lam]
    expected = evaluate(g, lam, inputs, float, range(f.count))
    assert_rounded(g.grad_w(case.lam, case.w), expected.parts[1], terms=expected.sizes[1], count=_count(f))
    alone = [f.at(i).drop_units(masks[i]).grad_w(case.lam, case.w) for i in range(f.count)]
    assert_rounded(g.grad_w(case.lam, case.w), np.mean(alone, 0), terms=expected.sizes[1], count=_count(f))
    assert np.array_equal(
        f.drop_each(np.tile(masks[0], (f.count, 1))).scores(case.w), f.drop_units(masks[0]).scores(case.w)
    )
    assert np.array_equal(g.drop_units(masks[0]).scores(case.w), f.drop_each(masks * masks[0]).scores(case.w))
    picked = g.batch([2, 0])
    assert np.array_equal(picked.mask, masks[[2, 0]].T)
    many = rng.standard_normal((4, f.count, f.units))
    found = f.drop_each(many).grad_w(case.lam, case.w)
    for k in range(4):
        expected = evaluate(f.drop_each(many[k]), lam, inputs, float, range(f.count))
        assert_rounded(found[k], expected.parts[1], terms=expected.sizes[1], count=_count(f))


@pytest.mark.parametrize("shape", [(4,), (2, 4), (3, 5), (4, 3), ()])
def test_masks_that_are_none_for_every_sample(shape: tuple[int, ...]) -> None:
    f = small_case(hidden=(2, 2)).f  # 3 samples, 4 units
    with pytest.raises(BadInput, match="mask") as caught:
        f.drop_each(np.ones(shape))
    assert caught.value.required
    assert caught.value.advice


def test_masks_of_their_own_come_from_dropout_of_units() -> None:
    case = small_case("tanh", hidden=(2, 2), scale="inverse")
    D = case.dropped
    points = D.masks.sample(np.random.default_rng(57), (case.f.count,))
    got = D.masked_each(points)
    expected = D.w.mask(points[1], D.backend, "inverse")
    assert np.array_equal(got.mask, expected.T)
    for other in (case.f.with_dropout(0.5), loss(case.f.net, case.f.X, case.f.y.T, loss="squared", n=1).with_dropout(
        {"lam": 0.5, "w": case.f.net.last_masks(0.5)}, site="activations"
    )):  # fmt: skip
        with pytest.raises(BadInput, match="hidden units"):
            other.masked_each(other.masks.sample(0, (3,)))
