"""The formulas beneath the claims on Theorem 2 and on shared draws, each by a second channel.

What every claim owes is asked of them, as of all of the document, in ``test_claims_dropout_bilevel``.
"""

from __future__ import annotations

import itertools as it
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from flint import fmpq
from hypothesis import given
from hypothesis import strategies as st

from refimpl import check_derivatives
from refimpl.algorithms import FSLA, DropoutFSLA
from refimpl.algorithms.exact import whole_state
from refimpl.arrays import Backend, to_numpy
from verification.claims.dropout_bilevel import (
    _bias,
    _decay,
    _descent,
    _one_sample,
    _scales,
    shared_draws,
    shared_harmless,
    theorem_2,
    theorem_2_bounded,
    theorem_2_cycle,
    theorem_2_rates,
    theorem_2_reading_b,
    theorem_2_time_scales,
    varying_cross,
)
from verification.claims.dropout_bilevel._masks import RATIONAL

EPS = float(np.finfo(float).eps)


# -- Theorem 2 as printed --------------------------------------------------------------------------------------------
def test_the_numbers_of_the_document():
    assert theorem_2.smallest(_descent.masked_model(theorem_2.plane(4, 5))) == fmpq(32, 425)
    assert theorem_2.floor(Fraction(4, 5)) == Fraction(32, 425)
    assert theorem_2_bounded.by_hand(Fraction(4, 5)) == Fraction(32, 625)


@given(st.integers(1, 9), st.lists(st.integers(-8, 8), min_size=2, max_size=2))
def test_both_masked_gradients_against_every_mask_in_a_loop(tenths, point):
    # kills: a mask outside forgotten, both kept counted once, (1−p) for p
    p, (x, y) = Fraction(tenths, 10), (Fraction(z, 4) for z in point)
    bounded, quadratic = Fraction(0), Fraction(0)
    for m in it.product((0, 1), repeat=2):
        chance = math.prod(p if k else 1 - p for k in m)
        s = m[0] * x + m[1] * y - 1
        bounded += chance * sum(m) * s * s / (1 + s * s)
        quadratic += chance * sum(m) * s * s
    assert theorem_2_bounded.bounded_phi(p, x - 1, y - 1) == bounded
    case = _descent.masked_model(theorem_2.plane(tenths, 10, lam=[float(x), float(y)]))
    chances, L, a = theorem_2.masked_gradients(case)
    g = L @ case.lam + a
    assert (chances * (g * g).sum(axis=1)).sum() == fmpq(quadratic.numerator, quadratic.denominator)


def test_the_boxes_bound_from_below_and_cover_the_square():
    # kills: an interval's minimum at the wrong end, a half forgotten, the outside left out
    p = Fraction(4, 5)
    low, count = theorem_2_bounded.boxes(p, Fraction(1), 200)
    grid = [Fraction(k, 16) for k in range(-40, 41)]
    assert low <= min(theorem_2_bounded.bounded_phi(p, a, b) for a, b in it.product(grid, repeat=2))
    assert count == 200
    assert theorem_2_bounded.least(Fraction(-1), Fraction(2)) == 0
    assert theorem_2_bounded.least(Fraction(-2), Fraction(-1)) == Fraction(1, 2)
    assert theorem_2_bounded.boxes(Fraction(9, 10), Fraction(1), 50)[0] <= Fraction(9, 200)


def test_the_mean_along_the_algorithm_against_every_path():
    # kills: the first moment's term dropped, the second moment of another iteration
    case = _descent.masked_model(theorem_2.plane(1, 2, [1, 1], lam=[0.5, -1.0]))
    values = theorem_2.along(case, 2, 0)
    a = FSLA(delta=Fraction(1, 4), eta=4)
    problem = case.plain.with_dropout(lower=None, upper={"lam": case.law.level["lam"]})
    space, expected = a.space(problem), []
    states = [a.init(problem, case.lam)]
    chances, L, shift = theorem_2.masked_gradients(case)
    for _ in range(3):
        gradients = [L @ s.lam + shift for s in states]
        expected.append(sum((chances * (g * g).sum(axis=1)).sum() for g in gradients) / len(states))
        points = [space.points(np.asarray(i)) for i in range(space.size)]
        states = [a.step(problem, s, point) for s in states for point in points]  # p = ½: all equally likely
    assert values == expected


def test_the_last_term_reaches_the_supremum_when_it_is_said_to():
    # kills: a factor of the printed term, the threshold of another p, T for T + 1
    for k in (1, 10, 16, 19):
        case = theorem_2_reading_b.soonest(k)
        p = k / 20
        assert theorem_2_reading_b.last_term(p, case["T"]) >= 2 * p
        assert theorem_2_reading_b.last_term(p, case["T"] - 1) < 2 * p
        far = float(theorem_2_bounded.bounded_phi(Fraction(k, 20), Fraction(10**6), Fraction(10**6)))
        assert far == pytest.approx(2 * p, rel=1e-10)
    assert theorem_2_reading_b.soonest(16)["T"] == 60
    assert theorem_2_reading_b.soonest(10)["T"] == 9


# -- shared draws ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("r", [1, 2])
@pytest.mark.parametrize("v", [-1.0, 0.25, 1.0])
def test_the_counterexample_of_shared_masks_survives_line_8(r, v):
    """Every path of four iterations: E∇F̄(λ_k) = ¼ for all k, and λ in [−1, 0], where F may be continued at will."""
    case = _descent.masked_model(shared_draws.HALF)
    problem = case.plain.to("numpy").with_dropout(lower=case.law.level, upper=case.law.level)
    a = DropoutFSLA(delta=1.0, r=r)
    state = a.init(problem, np.full((1, 1), -0.25), np.full((1, 1), 3.0), np.full((1, 1), v))
    space = a.space(problem)
    for _ in range(4):
        paths = len(state.lam)
        index = np.tile(np.arange(space.size), paths)
        state = replace(state, **{n: np.repeat(x, space.size, axis=0) for n, x in state.arrays.items()})
        state = a.step(problem, state, space.points(index)).broadcast(problem.backend, (len(index),))
        assert float(state.lam.mean()) == pytest.approx(-0.25, abs=100 * EPS)
        assert state.lam.min() >= -1 - 100 * EPS
        assert state.lam.max() <= 100 * EPS
        assert float(abs(state.v).max()) <= r * (1 + EPS)


def test_the_means_along_the_algorithm_are_those_of_the_whole_state():
    case = _descent.masked_model({**shared_draws.HALF, "keep_lam": [1, 2]})
    a = FSLA(delta=1, gamma=Fraction(1, 2))
    w, v = RATIONAL.asarray(np.array([2.0])), RATIONAL.asarray(np.array([-1.0]))
    found = _descent.Means(a, case.noisy, case.lam).along(3, w, v)
    expected = whole_state(a, case.noisy, case.lam, w, v, steps=3).curve(3).mean("lam")
    assert [x[0] for x in found] == [x[0] for x in expected]


@pytest.mark.parametrize("bent", [0, 1])
def test_where_the_means_settle_is_where_a_long_run_is(bent):
    params = shared_draws.point(1, 2, bent=bent)
    case = _bias.watched_model(params)
    means = case.means(_bias.algorithm(case))
    names = tuple(means.algorithm.init(case.noisy, case.lam).arrays)
    T = to_numpy(means.matrix)
    x = np.zeros(len(T) - 1)
    for _ in range(4000):
        x = T[:-1, :-1] @ x + T[:-1, -1]
    limit = np.concatenate([to_numpy(means.limit[name]) for name in names])
    assert means.radius < 1
    assert np.allclose(x, limit, rtol=0, atol=4000 * len(T) * EPS * (1 + abs(limit).max()))


def test_a_fixed_point_that_does_not_exist_is_not_invented():
    case = _bias.watched_model({**shared_draws.HALF, "flat": 1})
    means = case.means(_bias.algorithm(case))
    assert not _bias.settles().predicate(case)[0]
    assert _descent.gradient(case.noisy, means.limit["lam"])[0] == fmpq(1, 2)


def test_the_covariances_of_one_sample_against_a_loop():
    # kills: the mean of g subtracted from C's product only, N − 1 for N, H forgotten
    case = _one_sample.samples({"n": 2, "d": 2, "N": 2, "seed": 5, "bent": 1})
    G, bent = case.plain.lower, case.plain.upper.hess_ww(case.lam, case.lam).dense()
    lam, w, v = (RATIONAL.asarray(np.array(x)) for x in ([1.0, -0.5], [0.5, 2.0], [1.0, 1.0]))
    first, second = _one_sample.covariances(case, lam, w, v)
    terms = [G.batch(np.array([k])) for k in range(G.space.size)]
    C_mean, H_mean = G.cross(lam, w).dense(), G.hess_ww(lam, w).dense()
    expected = [0, 0]
    for f in terms:
        off = (f.cross(lam, w).dense() - C_mean) / len(terms)
        expected[0] = expected[0] + off @ ((f.hess_ww(lam, w).dense() - H_mean) @ v)
        expected[1] = expected[1] + off @ (bent @ f.grad_w(lam, w))
    assert (first == expected[0]).all()
    assert (second == expected[1]).all()


@pytest.mark.parametrize(
    ("randomness", "expected"), [("fresh", (-15, 64)), ("fresh-cross", (-121, 512)), ("shared", (-49, 256))]
)
def test_a_cross_derivative_that_depends_on_w_tells_fresh_from_fresh_cross(randomness, expected):
    """E d⁺ by hand: C = ½w⁺, w⁺ = 1 − m/8, v⁺ = 9/8 − m/4; each of C, w⁺ and v⁺ with its own m or a common one."""
    case = _descent.masked_model(shared_harmless.BENT)
    problem = case.plain.with_dropout(lower=case.law.level, upper=None)
    a = FSLA(delta=Fraction(1, 8), randomness=randomness)
    one = RATIONAL.asarray(np.ones(1))
    state, chances = _descent.one_step(a, problem, 0 * one, one, one)
    assert _descent.mean(chances, state.d)[0] == fmpq(*expected)


@pytest.mark.parametrize("reading", ["new", "old"])
def test_the_next_means_are_those_of_the_affine_map(reading):
    case = _descent.masked_model(shared_draws.point(1, 1, reading=reading))
    a = _bias.algorithm(case)
    T = _descent.Means(a, case.noisy, case.lam).matrix
    x = np.concatenate([RATIONAL.eye(len(T) - 1), 0 * RATIONAL.eye(len(T) - 1)[:1] + 2])
    assert (_bias.next_means(a, case.noisy, case.lam, x) == x @ T[:-1, :-1].T + T[:-1, -1]).all()


# -- time scales -----------------------------------------------------------------------------------------------------
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=4))
def test_a_polynomial_said_to_be_nonnegative_is(p):
    coefficients = [Fraction(c) for c in p]
    values = [sum(c * x**k for k, c in enumerate(coefficients)) for x in (Fraction(i, 16) for i in range(17))]
    if _scales.nonnegative(coefficients):
        assert min(values) >= 0
    if all(c >= 0 for c in p):
        assert _scales.nonnegative(coefficients)


@pytest.mark.parametrize("reading", ["new", "old"])
def test_the_step_matrix_of_the_scales_is_the_algorithms(reading):
    # kills: a power of α misplaced, w for w⁺ in line v, readings swapped
    case = _scales.scales({"a": 8, "c": -4, "gamma": 5, "beta": 7, "delta": 6, "reading": reading})
    a = FSLA(delta=case.delta, gamma=case.gamma, beta=case.beta, eta=1, schedule="constant", reading=reading)
    problem, z = case.problem, [fmpq(1), fmpq(-2), fmpq(3)]
    state = a.init(problem, *(np.array([x], dtype=object) for x in z))
    after = a.step(problem, state, _scales.only(a.space(problem)))
    alpha = RATIONAL.scalar(case.delta)
    M = sum(P * alpha**k for k, P in enumerate(case.powers))
    assert (M @ np.array(z, dtype=object) == [after.lam[0], after.w[0], after.v[0]]).all()


def test_the_lyapunov_matrix_solves_its_equation_and_routh_agrees_with_eigenvalues():
    for gamma, beta, c in it.product((4, 12, 13, 24), (4, 13, 24), (-8, 0, 8)):
        case = _scales.scales({"a": 16, "c": c, "gamma": gamma, "beta": beta, "delta": 16, "reading": "new"})
        A = case.powers[1]
        stable = np.linalg.eigvals(to_numpy(A)).real.max() < 0
        assert stable == (case.routh > 0)
        if stable:
            assert (A.T @ case.X + case.X @ A == -RATIONAL.eye(3)).all()
            assert np.linalg.eigvalsh(to_numpy(case.X)).min() > 0
    assert [_scales.scales(theorem_2_time_scales.at(rate)).routh > 0 for rate in (20, 21)] == [False, True]


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_derivatives_of_the_saturated_objective(lam, w):
    check_derivatives(theorem_2_cycle.Saturated(Backend()), np.array([lam]), np.array([w]))


@pytest.mark.parametrize("reading", ["new", "old"])
@pytest.mark.parametrize("schedule", ["constant", "sqrt"])
def test_the_run_of_bounded_gradients_against_three_lines(reading, schedule):
    # kills: w for w⁺ in line v, readings swapped, a gradient of another scale, step sizes that do not fall
    case = theorem_2_cycle.build(theorem_2_cycle.at(3, delta=4.0, reading=reading, schedule=schedule))
    found, lam, w, v = case.gradients()[:50], 1.0, 0.0, 0.0
    for k, g in enumerate(found):
        alpha = 4.0 / (math.sqrt(k + 1) if schedule == "sqrt" else 1)
        w = w - 3 / 16 * alpha * (w - lam)
        new = v + 3 / 16 * alpha * (10 * math.tanh(w / 10) - v)
        lam, v = lam - alpha * (-5 * math.tanh(lam / 10) + (new if reading == "new" else v)), new
        assert g == pytest.approx(5 * math.tanh(lam / 10), abs=1e4 * EPS)


# -- a cross derivative that depends on w ------------------------------------------------------------------------------
@given(st.floats(-1, 1), st.floats(-1, 1), st.integers(0, 1))
def test_derivatives_of_the_bent_objective(lam, w, k):
    f = varying_cross.Bent(np.array([-1.0, 1.0]), np.array([0.7]), Backend())
    check_derivatives(f.batch(np.array([k])), np.array([lam]), np.array([w]))
    check_derivatives(f, np.array([lam]), np.array([w]))


# -- rates -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("randomness", "reading"), list(it.product(("shared", "fresh", "fresh-cross"), ("new", "old")))
)
def test_the_interpolated_moments_are_the_exact_ones(randomness, reading):
    # kills: a polynomial of too low a degree, step sizes off by one, the first iteration treated as a later one
    case = _decay.Decay(theorem_2_rates.at(randomness, reading, offset=1, keep=5, a=1, k=1, f=1))
    problem = case.problem
    lam, w, v = (case.rest + case.start)[:3, None]
    joint = whole_state(case.algorithm, problem, lam, w, v, steps=12).curve(12)
    errors = (
        joint.second("lam", "lam")[:, 0, 0] - 2 * case.rest[0] * joint.mean("lam")[:, 0] + case.rest[0] ** 2
    )
    values = case.squares(13) / case.curvature**2
    scale = 1 + float(np.abs(joint.moments.homogeneous).max())
    assert np.allclose(values, errors, rtol=0, atol=13 * (_decay.ENTRIES + _decay.DEGREE) * EPS * scale**2)


@pytest.mark.parametrize(
    ("randomness", "reading"), list(it.product(("fresh", "fresh-cross", "shared"), ("new", "old")))
)
def test_the_error_of_the_direction_forgets_the_previous_lambda(randomness, reading):
    """ε⁺ and the rest depend on d and λ_prev through ε alone: the map in (λ, w, v, ε), and u, is complete."""
    case = _decay.Decay(theorem_2_rates.at(randomness, reading, keep=5, a=1, k=1))
    out, size = case.to_error, len(case.rest)
    T = np.stack([step.transitions for step in case.steps])[..., :size, :size]
    direction = np.zeros(size)
    direction[[3, 4]] = case.h_mean[0], 1.0  # d and λ_prev changed, ε not
    assert np.allclose(out @ direction, 0, atol=10 * EPS)
    assert np.allclose((out @ T) @ direction, 0, atol=100 * EPS / case.delta)
    assert np.allclose(out @ case.from_error, np.eye(size - 1), atol=10 * EPS)


@pytest.mark.parametrize("randomness", ["fresh", "fresh-cross", "shared"])
def test_both_readings_have_one_mean_system(randomness):
    case = _decay.Decay(theorem_2_rates.at(randomness, "old", keep=5, a=1, k=1))
    assert np.allclose(case.drift, case.plainest.drift, atol=1000 * EPS / case.delta**2)


def test_the_mean_rests_only_with_an_own_draw_for_the_cross_derivative():
    errors = {
        use: _decay.Decay(theorem_2_rates.at(use)).mean_error for use in ("fresh", "fresh-cross", "shared")
    }
    assert max(errors["fresh"], errors["fresh-cross"]) <= 1000 * EPS
    assert errors["shared"] == pytest.approx(0.5, rel=1e3 * EPS)  # β p(1−p) with β = 2


@pytest.mark.parametrize(
    ("randomness", "reading"), [("fresh-cross", "new"), ("fresh-cross", "old"), ("shared", "old")]
)
def test_one_step_of_the_lyapunov_inequality_by_brute_force(randomness, reading):
    # kills: X_uu too small, W without α e_λe_λᵀ, q of the wrong size, ν of another iteration
    case = _decay.Decay(theorem_2_rates.at(randomness, reading, offset=1))
    X, first, noise = case.lyapunov(300)
    seconds = case.seconds(300)
    V = np.array([case.energy(s, X) for s in seconds])
    allowed = V[first:-1] - case.alphas(300)[first:-1] * seconds[first:-1, 0] + noise[:-1]
    assert (V[first + 1 :] <= allowed + 300 * _decay.ENTRIES * EPS).all()
    assert first < 100
