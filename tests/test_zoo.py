"""The zoo's derivatives, each judged by channels that share no code with them, on every backend."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import refimpl as ri
from refimpl.arrays import backend, to_numpy
from refimpl.checks import check_derivatives
from refimpl.errors import BadInput, HypothesisViolated, NotConverged
from refimpl.objective import Map
from refimpl.spaces import expect
from refimpl.zoo import degenerate, logistic, maps, quadratic, ridge, rows, uppers
from tests.backends import Place, everywhere, on_cpu

EPS = 2.0**-52
ROWS = 7


def _data(seed: int, d: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rows.design(ROWS, np.geomspace(0.1, 2, d).tolist(), rng), rng.standard_normal(ROWS)


def _upper(make: Callable[..., Any], n: int, **options: Any) -> Any:
    X, y = _data(11)
    return make(X, np.arange(ROWS) % 3 if make is uppers.cross_entropy else y, n=n, **options)


THINGS: dict[str, Callable[[], Any]] = {
    "quadratic": lambda: quadratic.random(n=3, d=4, seed=1, terms=5).lower,
    "ridge.penalty": lambda: ridge.random(d=4, seed=2).lower,
    "ridge.penalty per feature": lambda: ridge.random(d=4, seed=3, per_feature=True).lower,
    "ridge.log_penalty": lambda: ridge.random(d=4, seed=4, log=True).lower,
    "ridge.log_penalty per feature": lambda: ridge.random(d=4, seed=5, per_feature=True, log=True).lower,
    "ridge, one weight": lambda: ridge.random(d=1, seed=6).lower,
    "ridge validation": lambda: ridge.random(d=4, seed=7, per_feature=True).upper,
    "logistic": lambda: logistic.random(d=4, seed=8).lower,
    "logistic per feature": lambda: logistic.random(d=4, seed=9, per_feature=True).lower,
    "logistic validation": lambda: logistic.random(d=4, seed=10).upper,
    "linear": lambda: uppers.linear(_data(12)[0], l=_data(13, 2)[0]),
    "linear, n = 0": lambda: uppers.linear(_data(12)[0]),
    "log-cosh": lambda: _upper(uppers.log_cosh, 3),
    "log-cosh, n = 0": lambda: _upper(uppers.log_cosh, 0),
    "cross entropy": lambda: _upper(uppers.cross_entropy, 2, classes=3),
    "cross entropy, n = 0": lambda: _upper(uppers.cross_entropy, 0, classes=3),
    "affine map": lambda: maps.random(n=3, d=4, seed=14, terms=5).phi,
    "tanh map": lambda: maps.random(n=3, d=4, seed=15, kind="tanh").phi,
    "line": lambda: maps.line(0.5).phi,
    "bent line": lambda: maps.bent_line(0.5, 0.75).phi,
    "soft threshold": lambda: degenerate.SoftThreshold(0.75, 3),
}
POLYNOMIAL = {
    "quadratic", "ridge.penalty", "ridge.penalty per feature", "ridge, one weight", "ridge validation",
    "linear", "linear, n = 0", "affine map", "line", "bent line", "soft threshold",
}  # fmt: skip
COMPARES = {"soft threshold"}  # decides a sign: refused over balls, where it may not be decided

every_family = pytest.mark.parametrize("name", THINGS)


def _point(thing: Any, seed: int, lam_lead: tuple[int, ...] = (), w_lead: tuple[int, ...] = ()) -> Any:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((*lam_lead, thing.n)), rng.standard_normal((*w_lead, thing.d))


def _quantities(thing: Any) -> dict[str, Callable[[Any, Any, Any, Any, Any], Any]]:
    """Every quantity, and every product with a vector u (n,) or v (d,), of an objective or map."""
    found: dict[str, Callable[..., Any]] = {"value": lambda f, lam, w, u, v: f.value(lam, w)}
    if not isinstance(thing, Map):
        found["grad_lam"] = lambda f, lam, w, u, v: f.grad_lam(lam, w)
        found["grad_w"] = lambda f, lam, w, u, v: f.grad_w(lam, w)
    first, second = ("d_w", "d_lam") if isinstance(thing, Map) else ("hess_ww", "cross")
    right, left = ("v", "u") if isinstance(thing, Map) else ("u", "v")
    for name in (first, second):
        found[f"{name} dense"] = lambda f, lam, w, u, v, name=name: getattr(f, name)(lam, w).dense()
    found[f"{first} @"] = lambda f, lam, w, u, v: getattr(f, first)(lam, w) @ v
    found[f"{first}.T @"] = lambda f, lam, w, u, v: getattr(f, first)(lam, w).T @ v
    vectors = {"u": lambda u, v: u, "v": lambda u, v: v}
    found[f"{second} @"] = lambda f, lam, w, u, v: getattr(f, second)(lam, w) @ vectors[left](u, v)
    found[f"{second}.T @"] = lambda f, lam, w, u, v: getattr(f, second)(lam, w).T @ vectors[right](u, v)
    return found


def _rounding(thing: Any, lam: Any, w: Any, *results: Any) -> float:
    """10 (n + d + N) eps times the size of the point times that of the data and the results."""
    arrays = [x for x in vars(thing).values() if isinstance(x, np.ndarray)]
    arrays += [x for x in vars(getattr(thing, "data", thing)).values() if isinstance(x, np.ndarray)]
    data = 1 + sum(np.linalg.norm(x) for x in arrays) ** 2  # second derivatives are quadratic in the data
    strengths = np.exp(np.abs(lam).max(initial=0.0))  # exp(λ) where it is the penalty, else generous
    point = (1 + np.linalg.norm(lam) + np.linalg.norm(w)) * data * strengths
    size = point + sum(float(np.abs(to_numpy(x)).max(initial=0.0)) for x in results)
    return float(10 * (thing.n + thing.d + thing.space.size) * EPS * size)


# -- derivatives ------------------------------------------------------------------------------------
@every_family
@on_cpu
@pytest.mark.parametrize("seed", range(3))
def test_every_derivative_agrees_through_two_channels(name: str, place: Place, seed: int) -> None:
    # kills, in every formula: flipped sign, transpose, dropped term, missing 1/N, lost ½, λ for exp(λ)
    thing = THINGS[name]()
    lam, w = _point(thing, seed)
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
    lam, w = _point(thing, 5, lam_lead, w_lead)
    u, v = _point(thing, 6)
    there = [place.array(x) for x in (lam, w, u, v)]
    for quantity, f in _quantities(thing).items():
        mine, other = f(thing, lam, w, u, v), f(place.move(thing), *there)
        assert np.isscalar(other) or place.move(thing).backend.owns(other), quantity
        assert tuple(other.shape) == np.shape(mine), quantity
        gap = np.abs(to_numpy(other) - mine).max(initial=0.0)
        assert gap <= _rounding(thing, lam, w, mine), quantity


@every_family
@everywhere
def test_a_batch_is_its_single_points(name: str, place: Place) -> None:
    # kills: a reduction over the wrong axis, operators that forget their leading axes
    thing = place.move(THINGS[name]())
    host = THINGS[name]()
    for lam_lead, w_lead in (((2, 1), (3,)), ((3,), (3,))):
        lam, w = _point(host, 7, lam_lead, w_lead)
        u, v = _point(host, 8)
        lead = np.broadcast_shapes(lam_lead, w_lead)
        for quantity, f in _quantities(host).items():
            batch = to_numpy(f(thing, *(place.array(x) for x in (lam, w, u, v))))
            for index in np.ndindex(*lead):
                at = np.broadcast_to(lam, (*lead, host.n))[index], np.broadcast_to(w, (*lead, host.d))[index]
                single = f(host, *at, u, v)
                full = np.broadcast_to(batch, (*lead, *np.shape(single)))
                assert np.abs(full[index] - single).max(initial=0.0) <= _rounding(host, lam, w, single), (
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
    points = [_point(host, 9), _point(host, 10)]
    (lam, w), (u, v) = points
    there = [place.array(x) for x in (lam, w, u, v)]
    index = np.arange(6).reshape(2, 3) % host.space.size
    for quantity, f in _quantities(host).items():
        whole = f(host, lam, w, u, v)
        terms = np.stack([to_numpy(f(thing.at(k), *there)) for k in range(host.space.size)])
        allowed = _rounding(host, lam, w, *terms)
        assert np.abs(terms.mean(axis=0) - whole).max(initial=0.0) <= allowed, quantity
        batch = to_numpy(f(thing.at(index), *there))
        assert batch.shape == (2, 3, *np.shape(whole)), quantity
        assert np.abs(batch - terms[index]).max(initial=0.0) <= allowed, quantity


def _stacked(things: list[Any]) -> Any:
    """One objective or map whose data are those of several, on a leading axis."""
    first = things[0]
    arrays = [k for k, x in vars(first).items() if isinstance(x, np.ndarray)]
    fields = {k: np.stack([getattr(thing, k) for thing in things]) for k in arrays}
    if isinstance(first, rows.Penalised):
        fields["data"] = _stacked([thing.data for thing in things])
    return dataclasses.replace(first, **fields)


MANY: dict[str, Callable[[int], Any]] = {
    "ridge": lambda seed: ridge.random(d=4, seed=seed, per_feature=True).lower,
    "logistic": lambda seed: logistic.random(d=4, seed=seed, rows=9).lower,
    "log-cosh": lambda seed: uppers.log_cosh(*_data(seed), n=2),
    "linear": lambda seed: uppers.linear(_data(seed)[0], l=_data(seed, 2)[0]),
    "affine map": lambda seed: maps.random(n=3, d=4, seed=seed, terms=5).phi,
}


@pytest.mark.parametrize("name", MANY)
@everywhere
def test_many_data_sets_at_once(name: str, place: Place) -> None:
    """Data on a leading axis of 2; a sample's axes go in front of it, here 3."""
    # kills: samples taken along the data sets' axis, data axes in front of the sample's
    things = [MANY[name](seed) for seed in (1, 2)]
    both = place.move(_stacked(things))
    lam, w = _point(things[0], 34)
    u, v = _point(things[0], 35)
    there = [place.array(x) for x in (lam, w, u, v)]
    index = np.array([4, 0, 2])
    for quantity, f in _quantities(things[0]).items():
        whole = to_numpy(f(both, *there))
        terms = to_numpy(f(both.at(index), *there))
        for j, thing in enumerate(things):
            allowed = _rounding(thing, lam, w, whole)
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
    lam, w = _point(thing, 12, (lead,), (lead,))
    u, v = _point(thing, 13)
    for quantity, f in _quantities(thing).items():
        whole = np.asarray(f(thing, lam, w, u, v))
        mean = expect(thing.space, functools.partial(_terms, thing, f, (lam, w, u, v), lead))
        assert np.abs(mean - whole).max(initial=0.0) <= _rounding(thing, lam, w, whole), quantity


def _terms(thing: Any, f: Callable[..., Any], at: Any, lead: int, points: Any) -> Any:
    """f of a chunk of terms, (chunk, lead, ...): what does not depend on the point has 1 in its place."""
    terms = np.asarray(f(thing.at(points[:, None]), *at))
    return np.broadcast_to(terms, (len(points), lead, *terms.shape[2:]))


@pytest.mark.parametrize("name", sorted(POLYNOMIAL & set(SUMS)))
def test_finite_sums_are_exact_over_the_rationals(name: str) -> None:
    thing = THINGS[name]().to("rational")
    B = thing.backend
    lam, w = (B.asarray(x) for x in _point(thing, 14))
    u, v = (B.asarray(x) for x in _point(thing, 15))
    for quantity, f in _quantities(thing).items():
        total = sum(np.asarray(f(thing.at(k), lam, w, u, v)) for k in range(thing.space.size))
        whole = np.asarray(f(thing, lam, w, u, v))
        assert np.array_equal(total, thing.space.size * whole), quantity


# -- exact and enclosed ---------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(POLYNOMIAL))
def test_rationals_round_to_the_floats(name: str) -> None:
    thing = THINGS[name]()
    exact = thing.to("rational")
    lam, w = _point(thing, 16)
    u, v = _point(thing, 17)
    there = [exact.backend.asarray(x) for x in (lam, w, u, v)]
    for quantity, f in _quantities(thing).items():
        mine, true = f(thing, lam, w, u, v), to_numpy(f(exact, *there))
        assert np.abs(mine - true).max(initial=0.0) <= _rounding(thing, lam, w, mine), quantity


@pytest.mark.parametrize("name", sorted(set(THINGS) - POLYNOMIAL))
def test_what_is_not_polynomial_refuses_the_rationals(name: str) -> None:
    thing = THINGS[name]().to("rational")
    lam, w = (thing.backend.asarray(x) for x in _point(thing, 18))
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
    lam, w = _point(thing, 19)
    u, v = _point(thing, 20)
    radius = 2.0**-12

    def boxed(x: np.ndarray) -> np.ndarray:
        out = np.empty(x.shape, dtype=object)
        out[...] = np.reshape([arb(e, radius) for e in x.ravel()], x.shape) if x.size else out
        return out

    vectors = [balls.backend.asarray(x) for x in (u, v)]
    rng = np.random.default_rng(21)
    for quantity, f in _quantities(thing).items():
        enclosures = np.asarray(f(balls, boxed(lam), boxed(w), *vectors), dtype=object)
        for _ in range(5):
            inside = [x + radius * rng.uniform(-1, 1, x.shape) for x in (lam, w)]
            values = np.asarray(f(thing, *inside, u, v))
            slack = _rounding(thing, lam, w, values)  # of the float, not of the ball
            for ball, value in zip(enclosures.ravel(), values.ravel(), strict=True):
                assert ball.overlaps(arb(float(value), slack)), quantity


def test_comparisons_are_refused_over_balls() -> None:
    f = THINGS["soft threshold"]().to("interval")
    with pytest.raises(BadInput, match="comparisons"):
        f.grad_w(f.backend.zeros((3,)), f.backend.zeros((3,)))


# -- problems -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("per_feature", [False, True])
@pytest.mark.parametrize("log", [False, True])
def test_ridge_against_the_closed_form(per_feature: bool, log: bool) -> None:
    """∇f through the complex step of λ ↦ F((XᵀX/N + diag π)⁻¹ Xᵀy/N), with no formula of the zoo's."""
    # kills: λ for exp(λ), a ½ in the penalty, N_v for N
    problem = ridge.random(d=4, seed=22, per_feature=per_feature, log=log)
    (X, y), (Xv, yv) = ((f.X, f.y) for f in (problem.lower.data, problem.upper))
    lam = problem.start() * 0.75 + 0.125

    def f(lam: np.ndarray) -> Any:
        pi = (np.exp(lam) if log else lam) * np.ones(4)
        w = np.linalg.solve(X.T @ X / len(X) + np.diag(pi), X.T @ y / len(X))
        return ((Xv @ w - yv) ** 2).sum() / (2 * len(Xv))

    steps = lam + 1e-200j * np.eye(problem.n)
    expected = np.array([f(step).imag / 1e-200 for step in steps])
    result = ri.exact_hypergradient(problem, lam)
    condition = np.linalg.cond(problem.lower.hess_ww(lam, result.w).dense())
    size = np.linalg.norm(result.v) * np.linalg.norm(result.w) * max(1, np.exp(lam).max())
    assert result.kind == "bounded"
    assert np.abs(result.value - expected).max() <= 10 * 4 * EPS * condition * size


@pytest.mark.parametrize("per_feature", [False, True])
def test_log_penalty_is_the_chain_rule_of_the_penalty(per_feature: bool) -> None:
    X, y = _data(23)
    X_val, y_val = _data(24)
    plain = ridge.problem(X, y, X_val, y_val, per_feature=per_feature)
    log = ridge.problem(X, y, X_val, y_val, per_feature=per_feature, log=True)
    assert np.array_equal(plain.start(), np.exp(log.start()))
    lam = plain.start() * 0.5
    a, b = ri.exact_hypergradient(plain, lam), ri.exact_hypergradient(log, np.log(lam))
    assert (
        np.abs(lam * a.value - b.value).max() <= 10 * (a.bound + b.bound) + 10 * EPS * np.abs(b.value).max()
    )
    assert "penalty" in plain.name
    assert "log_penalty" in log.name


def test_the_lower_solutions_minimise() -> None:
    """Every random problem's w(λ) has a lower value than its neighbours, and is certified."""
    rng = np.random.default_rng(25)
    for problem in (
        logistic.random(d=3, seed=26),
        ridge.random(d=3, seed=27),
        logistic.random(d=3, seed=28, per_feature=True),
    ):
        lam = problem.start()
        result = ri.exact_hypergradient(problem, lam)
        around = result.w + rng.standard_normal((50, 3)) / 8
        assert (problem.lower.value(lam, around) > problem.lower.value(lam, result.w)).all()
        assert result.kind == "bounded"


def test_penalty_form_runs_over_the_rationals_with_its_set() -> None:
    problem = ridge.random(d=3, seed=29)
    exact = ri.exact_hypergradient(problem.to("rational"), problem.to("rational").start())
    floating = ri.exact_hypergradient(problem, problem.start())
    assert exact.kind == "exact"
    assert np.abs(to_numpy(exact.value) - floating.value).max() <= floating.bound
    with pytest.raises(HypothesisViolated, match="outside"):
        problem.to("rational").lam([0])


@pytest.mark.parametrize(
    ("lowest", "lam", "inside"),
    [(0.0, 1e-300, True), (0.0, 0.0, False), (0.5, 0.5, True), (0.5, 0.49, False)],
)
def test_the_set_of_the_penalty(lowest: float, lam: float, inside: bool) -> None:
    problem = ridge.random(d=3, seed=30, lowest=lowest)
    if inside:
        assert problem.lam([lam]) == lam
    else:
        with pytest.raises(HypothesisViolated, match="outside"):
            problem.lam([lam])


def test_an_upper_level_without_hyperparameters() -> None:
    """n = 0: the hypergradient is empty, and the lower level is still solved."""
    upper = _upper(uppers.log_cosh, 0)
    lower = quadratic.objective(ww=np.diag([1.0, 2.0, 3.0, 4.0]), w1=np.ones(4), n=0)
    result = ri.exact_hypergradient(ri.BilevelProblem(upper, lower), np.zeros(0))
    assert result.value.shape == (0,)
    assert np.abs(result.w + 1 / np.arange(1.0, 5.0)).max() <= 10 * EPS


@pytest.mark.parametrize("make", [ridge.random, logistic.random])
def test_random_problems_have_their_seed_and_spectrum(make: Callable[..., Any]) -> None:
    spectrum = [1e-3, 0.5, 2.0]
    one, same, other = (make(d=3, seed=seed, rows=8, spectrum=spectrum) for seed in (1, 1, 2))
    assert np.array_equal(one.lower.data.X, same.lower.data.X)
    assert not np.array_equal(one.lower.data.X, other.lower.data.X)
    for X in (one.lower.data.X, one.upper.X):
        found = np.linalg.eigvalsh(X.T @ X / 8)
        assert np.abs(found - spectrum).max() <= 10 * 8 * EPS * max(spectrum)


@pytest.mark.parametrize("kind", ["affine", "tanh"])
def test_random_maps_have_their_norm(kind: str) -> None:
    phi = maps.random(n=2, d=5, seed=31, q=0.75, kind=kind).phi
    A = phi.A.mean(axis=0) if kind == "affine" else phi.A
    assert abs(np.linalg.norm(A, 2) - 0.75) <= 10 * 5 * EPS
    assert np.abs(A - A.T).max() > 0.1


# -- degenerate ---------------------------------------------------------------------------------------
def test_each_degenerate_case_has_its_label_and_reason() -> None:
    found = degenerate.cases()
    assert [case.label for case in found] == [
        "singular",
        "indefinite",
        "non-symmetric",
        "kink",
        "not a contraction",
    ]
    assert all(len(case.reason) > 40 for case in found)


@pytest.mark.parametrize("make", [degenerate.singular_hessian, degenerate.indefinite_hessian])
def test_no_minimiser_no_hypergradient(make: Callable[[], degenerate.Case]) -> None:
    case = make()
    assert not case.problem.residual(case.lam, case.w).any()
    with pytest.raises(HypothesisViolated, match="not positive definite"):
        ri.exact_hypergradient(case.problem, case.lam)


def test_a_non_symmetric_jacobian_needs_its_transpose() -> None:
    # kills: solving with ∂_w r in place of its transpose
    case = degenerate.non_symmetric(d=4, q=0.5)
    result = ri.exact_hypergradient(case.problem, case.lam)
    g = case.problem.upper.grad_w(case.lam, case.w)
    series = sum(0.5**k * np.roll(g, -k) for k in range(60))  # Pᵀ shifts back; 2⁻⁶⁰ is below rounding
    wrong = sum(0.5**k * np.roll(g, k) for k in range(60))
    allowed = 10 * 4 * EPS * np.linalg.norm(g) * 2
    assert np.abs(result.v - series).max() <= allowed
    assert np.abs(result.v - wrong).max() > 1e6 * allowed


def test_newton_cannot_rest_on_a_kink() -> None:
    case = degenerate.kink()
    with pytest.raises(NotConverged):
        ri.exact_hypergradient(case.problem, case.lam)
    smooth = ri.exact_hypergradient(case.problem, np.array([2.0, -3.0]), start=np.array([2.0, -3.0]))
    assert np.abs(smooth.w - [1.0, -2.0]).max() <= 10 * 2 * EPS * 3  # sign(λ)(|λ| − 1)
    assert smooth.kind == "estimated"  # comparisons are not decided over balls, so nothing is certified


def test_iterations_leave_the_fixed_point_of_an_expansion() -> None:
    case = degenerate.not_a_contraction(d=3, q=1.5)
    w = case.w + 2.0**-20
    distances = []
    for _ in range(20):
        w = case.problem.phi.value(case.lam, w)
        distances.append(np.linalg.norm(w - case.w))
    rates = np.array(distances[1:]) / np.array(distances[:-1])
    assert np.abs(rates - 1.5).max() <= 2.0**-20
    assert (
        np.abs(ri.exact_hypergradient(case.problem, case.lam).w - case.w).max()
        <= 10 * 3 * EPS * np.linalg.norm(case.w) * 5
    )


def test_the_lines_that_attain_the_rates() -> None:
    """w(λ) = λ/(1 − q), and λ/(1 − q − νλ), whose derivative is (1 − q)/(1 − q − νλ)²."""
    q, nu, lam = 0.5, 0.25, 0.5
    straight, bent = maps.line(q), maps.bent_line(q, nu)
    assert ri.exact_hypergradient(straight, [lam]).value == 1 / (1 - q)
    result = ri.exact_hypergradient(bent, [lam])
    left = 1 - q - nu * lam
    assert abs(result.w[0] - lam / left) <= 10 * EPS * lam / left
    assert abs(result.value[0] - (1 - q) / left**2) <= 10 * EPS / left**2 / left


# -- refusals -----------------------------------------------------------------------------------------
GOOD = ([[1.0, 2.0], [3.0, 4.0]], [1.0, -1.0])


@pytest.mark.parametrize(
    ("call", "measured"),
    [
        (lambda: ridge.problem([[1.0]], [1.0, 2.0], *GOOD), "1 rows, 2 targets"),
        (lambda: ridge.problem([[1.0]], [1.0], *GOOD), "1 and 2 columns"),
        (lambda: ridge.problem(np.zeros((0, 2)), [], *GOOD), r"\(0, 2\)"),
        (lambda: ridge.problem([[np.nan, 1.0]], [1.0], *GOOD), "1 NaN"),
        (lambda: ridge.problem([[1j, 1.0]], [1.0], *GOOD), "complex"),
        (lambda: ridge.problem([1.0, 2.0], [1.0], *GOOD), r"\(2,\)"),
        (lambda: logistic.problem(GOOD[0], [0, 1], *GOOD), r"\[0.0, 1.0\]"),
        (lambda: logistic.problem(*GOOD, GOOD[0], [1, 2]), r"\[1.0, 2.0\]"),
        (lambda: uppers.linear([[1.0], [2.0]], l=[[1.0]]), r"l \(1, 1\)"),
        (lambda: uppers.cross_entropy(GOOD[0], [0, 2], classes=2, n=1), "2 at index 1"),
        (lambda: rows.Penalised(ridge.HalfSquares(np.eye(3), np.ones(3), 2), False), "n = 2 for 3"),
        (lambda: rows.design(2, [1.0, 1.0, 1.0], np.random.default_rng(0)), "2 rows, 3"),
        (lambda: maps.affine(np.eye(2), np.eye(3)), r"B \(3, 3\)"),
        (lambda: maps.random(n=1, d=2, seed=0, kind="relu"), "relu"),
        (lambda: degenerate.non_symmetric(d=2), "d = 2"),
        (lambda: degenerate.not_a_contraction(q=1.0), "q = 1"),
    ],
)
def test_refusals_say_what_was_found(call: Callable[[], Any], measured: str) -> None:
    with pytest.raises(BadInput, match=measured) as caught:
        call()
    assert caught.value.required is not None
    assert caught.value.advice


def test_data_are_copied_not_shared() -> None:
    X = np.array(GOOD[0])
    problem = ridge.problem(X, GOOD[1], *GOOD)
    X[0, 0] = np.nan
    assert np.isfinite(problem.lower.data.X).all()


def test_single_precision_stays_single() -> None:
    for name, make in THINGS.items():
        thing = make().to("numpy", dtype="float32")
        lam, w = (x.astype(np.float32) for x in _point(thing, 32))
        u, v = (x.astype(np.float32) for x in _point(thing, 33))
        for quantity, f in _quantities(thing).items():
            assert np.asarray(f(thing, lam, w, u, v)).dtype == np.float32, (name, quantity)


def test_backends_are_named_in_every_instance() -> None:
    for make in THINGS.values():
        assert make().backend == backend("numpy")
        assert make().to("strict").backend.name == "strict"
