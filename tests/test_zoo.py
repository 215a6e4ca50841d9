"""The zoo's derivatives, each judged by channels that share no code with them, on every backend."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from refimpl.arrays import to_numpy
from refimpl.checks import check_derivatives
from refimpl.errors import BadInput
from refimpl.objective import Map
from refimpl.spaces import expect
from refimpl.zoo import degenerate, logistic, maps, ridge, rows, uppers
from refimpl.zoo.weighted_rows import WeightedRows
from tests.backends import Place, everywhere, on_cpu
from tests.zoo_things import COMPARES, POLYNOMIAL, ROWS, THINGS, data, flat, point, quantities, rounding

every_family = pytest.mark.parametrize("name", THINGS)


# -- derivatives ------------------------------------------------------------------------------------
@every_family
@on_cpu
@pytest.mark.parametrize("seed", range(3))
def test_every_derivative_agrees_through_two_channels(name: str, place: Place, seed: int) -> None:
    # kills, in every formula: flipped sign, transpose, dropped term, missing 1/N, lost ½, λ for exp(λ)
    thing = THINGS[name]()
    lam, w = point(thing, seed)
    found = check_derivatives(place.move(thing), lam, w, seed=seed)
    channels = {row.quantity: {r.channel for r in found if r.quantity == row.quantity} for row in found}
    derivatives = (
        {"d_w", "d_lam"} if isinstance(thing, Map) else {"grad_lam", "grad_w", "hess_ww", "cross", "cross.T"}
    )
    assert derivatives <= set(channels)
    assert all({"autograd", "complex step"} <= channels[quantity] for quantity in derivatives)


def test_a_kink_has_no_derivative_to_judge() -> None:
    """At w_j = 0 no channel is missing, and none is right: the two sides of ∇_wG differ by 2τ."""
    f = degenerate.SoftThreshold(0.75, 1)
    lam, tiny = np.zeros(1), np.array([2.0**-40])
    assert f.grad_w(lam, tiny) - f.grad_w(lam, -tiny) == 2 * 0.75 + 2 * tiny
    assert f.grad_w(lam, 0 * tiny) == 0.75  # the right-hand side's, as documented


@every_family
@everywhere
@pytest.mark.parametrize(
    ("lam_lead", "w_lead"), [((), ()), ((2, 1), (3,)), ((2,), (2,)), ((), (2,)), ((2,), ())]
)
def test_the_same_numbers_on_every_backend(
    name: str, place: Place, lam_lead: tuple[int, ...], w_lead: tuple[int, ...]
) -> None:
    # kills: writing in place, implicit conversion to the host, a host array in a device formula, a lost axis
    thing = THINGS[name]()
    lam, w = point(thing, 5, lam_lead, w_lead)
    u, v = point(thing, 6)
    there = [place.array(x) for x in (lam, w, u, v)]
    for quantity, f in quantities(thing).items():
        mine, other = f(thing, lam, w, u, v), f(place.move(thing), *there)
        assert np.isscalar(other) or place.move(thing).backend.owns(other), quantity
        assert tuple(other.shape) == np.shape(mine), quantity
        gap = np.abs(to_numpy(other) - mine).max(initial=0.0)
        assert gap <= rounding(thing, lam, w, mine), quantity


@every_family
@everywhere
def test_a_batch_is_its_single_points(name: str, place: Place) -> None:
    # kills: a reduction over the wrong axis, operators that forget their leading axes
    thing = place.move(THINGS[name]())
    host = THINGS[name]()
    for lam_lead, w_lead in (((2, 1), (3,)), ((3,), (3,))):
        lam, w = point(host, 7, lam_lead, w_lead)
        u, v = point(host, 8)
        lead = np.broadcast_shapes(lam_lead, w_lead)
        for quantity, f in quantities(host).items():
            batch = to_numpy(f(thing, *(place.array(x) for x in (lam, w, u, v))))
            for index in np.ndindex(*lead):
                at = np.broadcast_to(lam, (*lead, host.n))[index], np.broadcast_to(w, (*lead, host.d))[index]
                single = f(host, *at, u, v)
                full = np.broadcast_to(batch, (*lead, *np.shape(single)))
                assert np.abs(full[index] - single).max(initial=0.0) <= rounding(host, lam, w, single), (
                    quantity
                )


# -- finite sums --------------------------------------------------------------------------------------
SUMS = [name for name in THINGS if THINGS[name]().space.size > 1]


@pytest.mark.parametrize("name", SUMS)
@everywhere
def test_the_terms_of_a_finite_sum(name: str, place: Place) -> None:
    """Σ_k p_k f.at(k) = f in every quantity; points (2, 3) give axes (2, 3), the same numbers."""
    # kills: a penalty counted N times, a mean over the wrong axis, data axes behind the point's
    host, thing = THINGS[name](), place.move(THINGS[name]())
    points = [point(host, 9), point(host, 10)]
    (lam, w), (u, v) = points
    there = [place.array(x) for x in (lam, w, u, v)]
    index = np.arange(6).reshape(2, 3) % host.space.size
    for quantity, f in quantities(host).items():
        whole = f(host, lam, w, u, v)
        terms = np.stack([to_numpy(f(thing.at(k), *there)) for k in range(host.space.size)])
        allowed = rounding(host, lam, w, *terms)
        assert np.abs(terms.mean(axis=0) - whole).max(initial=0.0) <= allowed, quantity
        batch = to_numpy(f(thing.at(index), *there))
        assert batch.shape == (2, 3, *np.shape(whole)), quantity
        assert np.abs(batch - terms[index]).max(initial=0.0) <= allowed, quantity


def _stacked(things: list[Any]) -> Any:
    """One objective or map whose data are those of several, on a leading axis."""
    first = things[0]
    arrays = [k for k, x in vars(first).items() if isinstance(x, np.ndarray)]
    fields = {k: np.stack([getattr(thing, k) for thing in things]) for k in arrays}
    if isinstance(first, rows.Penalised | WeightedRows):
        fields["data"] = _stacked([thing.data for thing in things])
    return dataclasses.replace(first, **fields)


MANY: dict[str, Callable[[int], Any]] = {
    "ridge": lambda seed: ridge.random(d=4, seed=seed, per_feature=True).lower,
    "logistic": lambda seed: logistic.random(d=4, seed=seed, rows=9).lower,
    "weighted logistic": lambda seed: flat(seed=seed, loss="logistic", weights="identity").lower,
    "log-cosh": lambda seed: uppers.log_cosh(*data(seed), n=2),
    "linear": lambda seed: uppers.linear(data(seed)[0], l=data(seed, 2)[0]),
    "affine map": lambda seed: maps.random(n=3, d=4, seed=seed, terms=5).phi,
}


@pytest.mark.parametrize("name", MANY)
@everywhere
def test_many_data_sets_at_once(name: str, place: Place) -> None:
    """Data on a leading axis of 2; a sample's axes go in front of it, here 3."""
    # kills: samples taken along the data sets' axis, data axes in front of the sample's
    things = [MANY[name](seed) for seed in (1, 2)]
    both = place.move(_stacked(things))
    lam, w = point(things[0], 34)
    u, v = point(things[0], 35)
    there = [place.array(x) for x in (lam, w, u, v)]
    index = np.array([4, 0, 2])
    for quantity, f in quantities(things[0]).items():
        whole = to_numpy(f(both, *there))
        terms = to_numpy(f(both.at(index), *there))
        for j, thing in enumerate(things):
            allowed = rounding(thing, lam, w, whole)
            assert np.abs(whole[j] - f(thing, lam, w, u, v)).max(initial=0.0) <= allowed, quantity
            for i, k in enumerate(index):
                assert np.abs(terms[i, j] - f(thing.at(k), lam, w, u, v)).max(initial=0.0) <= allowed, (
                    quantity
                )


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("lead", [3, ROWS])
def test_expectations_stand_in_front_of_the_points_axes(name: str, lead: int) -> None:
    """E f.at(s) over a batch of points, of another length than the sum, and of the same length."""
    thing = THINGS[name]()
    lam, w = point(thing, 12, (lead,), (lead,))
    u, v = point(thing, 13)
    for quantity, f in quantities(thing).items():
        whole = np.asarray(f(thing, lam, w, u, v))
        mean = expect(thing.space, functools.partial(_terms, thing, f, (lam, w, u, v), lead))
        assert np.abs(mean - whole).max(initial=0.0) <= rounding(thing, lam, w, whole), quantity


def _terms(thing: Any, f: Callable[..., Any], at: Any, lead: int, points: Any) -> Any:
    """f of a chunk of terms, (chunk, lead, ...): what does not depend on the point has 1 in its place."""
    terms = np.asarray(f(thing.at(points[:, None]), *at))
    return np.broadcast_to(terms, (len(points), lead, *terms.shape[2:]))


@pytest.mark.parametrize("name", sorted(POLYNOMIAL & set(SUMS)))
def test_finite_sums_are_exact_over_the_rationals(name: str) -> None:
    thing = THINGS[name]().to("rational")
    B = thing.backend
    lam, w = (B.asarray(x) for x in point(thing, 14))
    u, v = (B.asarray(x) for x in point(thing, 15))
    for quantity, f in quantities(thing).items():
        total = sum(np.asarray(f(thing.at(k), lam, w, u, v)) for k in range(thing.space.size))
        whole = np.asarray(f(thing, lam, w, u, v))
        assert np.array_equal(total, thing.space.size * whole), quantity


# -- exact and enclosed ---------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(POLYNOMIAL))
def test_rationals_round_to_the_floats(name: str) -> None:
    thing = THINGS[name]()
    exact = thing.to("rational")
    lam, w = point(thing, 16)
    u, v = point(thing, 17)
    there = [exact.backend.asarray(x) for x in (lam, w, u, v)]
    for quantity, f in quantities(thing).items():
        mine, true = f(thing, lam, w, u, v), to_numpy(f(exact, *there))
        assert np.abs(mine - true).max(initial=0.0) <= rounding(thing, lam, w, mine), quantity


@pytest.mark.parametrize("name", sorted(set(THINGS) - POLYNOMIAL))
def test_what_is_not_polynomial_refuses_the_rationals(name: str) -> None:
    thing = THINGS[name]().to("rational")
    lam, w = (thing.backend.asarray(x) for x in point(thing, 18))
    with pytest.raises(BadInput, match="polynomial"):
        thing.value(lam, w)


def _fraction(x: Any) -> Fraction:
    return Fraction(int(x.p), int(x.q))


def _fractions(x: Any) -> Any:
    return [_fractions(e) for e in x] if isinstance(x, np.ndarray) else _fraction(x)


@pytest.mark.parametrize("per_feature", [False, True])
def test_ridge_by_hand_over_the_rationals(per_feature: bool) -> None:
    """(1/(2N)) Σ (x_i·w − y_i)² + ½ Σ λ_j w_j² written out in fractions."""
    X, y = [[1, 2], [3, -1], [0, 5]], [1, 0, -2]
    lam = [Fraction(1, 3), Fraction(2, 5)] if per_feature else [Fraction(1, 3)]
    w, u, v = (
        [Fraction(1, 2), Fraction(-2, 7)],
        [Fraction(k + 1, 3) for k in range(len(lam))],
        [Fraction(3), Fraction(-1, 4)],
    )
    f = ridge.problem(X, y, X, y, per_feature=per_feature).lower.to("rational")
    penalty = lam if per_feature else lam * 2
    left = [sum(a * b for a, b in zip(x, w, strict=True)) - t for x, t in zip(X, y, strict=True)]
    gram = [[sum(Fraction(x[i] * x[j]) for x in X) / 3 for j in range(2)] for i in range(2)]
    hess = [[gram[i][j] + (penalty[i] if i == j else 0) for j in range(2)] for i in range(2)]
    at = [f.backend.asarray(np.array(x, dtype=object)) for x in (lam, w)]
    uu, vv = (f.backend.asarray(np.array(x, dtype=object)) for x in (u, v))
    squares = sum(p * z * z for p, z in zip(penalty, w, strict=True))
    assert _fraction(f.value(*at)) == sum(r * r for r in left) / 6 + squares / 2
    gradient = [sum(r * x[j] for r, x in zip(left, X, strict=True)) / 3 + penalty[j] * w[j] for j in range(2)]
    assert _fractions(f.grad_w(*at)) == gradient
    assert _fractions(f.hess_ww(*at).dense()) == hess
    halves, moved = [z * z / 2 for z in w], [z * t for z, t in zip(w, v, strict=True)]
    assert _fractions(f.grad_lam(*at)) == (halves if per_feature else [sum(halves)])
    assert _fractions(f.cross(*at) @ vv) == (moved if per_feature else [sum(moved)])
    back = [z * t for z, t in zip(w, u if per_feature else u * 2, strict=True)]
    assert _fractions(f.cross(*at).T @ uu) == back


def test_maps_and_linear_by_hand_over_the_rationals() -> None:
    third, half = Fraction(1, 3), Fraction(1, 2)
    bent = maps.BentLine(0.5, 2).to("rational")
    lam, w = (bent.backend.asarray(np.array([x], dtype=object)) for x in (third, half))
    assert _fractions(bent.value(lam, w)) == [half * half + third * (1 + 2 * half)]
    assert _fractions(bent.d_w(lam, w).dense()) == [[half + 2 * third]]
    assert _fractions(bent.d_lam(lam, w).dense()) == [[1 + 2 * half]]
    affine = maps.affine([[0.5, 0.25], [0, 0.5]], [[1], [2]], [3, 4]).to("rational")
    w2 = bent.backend.asarray(np.array([third, half], dtype=object))
    assert _fractions(affine.value(lam, w2)) == [third / 2 + half / 4 + third + 3, half / 2 + 2 * third + 4]
    linear = uppers.linear([[1, 2], [3, 5]], l=[[1], [4]]).to("rational")
    assert _fraction(linear.value(lam, w2)) == 2 * third + Fraction(7, 2) * half + Fraction(5, 2) * third


@pytest.mark.parametrize("name", sorted(set(THINGS) - COMPARES))
def test_balls_enclose_the_values_at_every_point_of_a_box(name: str) -> None:
    # kills: a formula that drops the radius (midpoint arithmetic), or that compares balls
    from flint import arb

    thing = THINGS[name]()
    balls = thing.to("interval")
    lam, w = point(thing, 19)
    u, v = point(thing, 20)
    radius = 2.0**-12

    def boxed(x: np.ndarray) -> np.ndarray:
        out = np.empty(x.shape, dtype=object)
        out[...] = np.reshape([arb(e, radius) for e in x.ravel()], x.shape) if x.size else out
        return out

    vectors = [balls.backend.asarray(x) for x in (u, v)]
    rng = np.random.default_rng(21)
    for quantity, f in quantities(thing).items():
        enclosures = np.asarray(f(balls, boxed(lam), boxed(w), *vectors), dtype=object)
        for _ in range(5):
            inside = [x + radius * rng.uniform(-1, 1, x.shape) for x in (lam, w)]
            values = np.asarray(f(thing, *inside, u, v))
            slack = rounding(thing, lam, w, values)  # of the float, not of the ball
            for ball, value in zip(enclosures.ravel(), values.ravel(), strict=True):
                assert ball.overlaps(arb(float(value), slack)), quantity


def test_comparisons_are_refused_over_balls() -> None:
    f = THINGS["soft threshold"]().to("interval")
    with pytest.raises(BadInput, match="comparisons"):
        f.grad_w(f.backend.zeros((3,)), f.backend.zeros((3,)))
