"""What the claims about bounds of ``dropout-bilevel`` are built from, by second channels; the claims themselves are
run by ``test_claims_dropout_bilevel``."""

from __future__ import annotations

import itertools as it
from fractions import Fraction

import numpy as np
import pytest
from flint import fmpq
from hypothesis import given
from hypothesis import strategies as st

from refimpl import BilevelProblem
from refimpl.algorithms.exact import fixed_lambda, whole_state
from refimpl.algorithms.yu2024dropout import DropoutFSLA
from refimpl.arrays import to_numpy
from refimpl.exact import solution_jacobian
from refimpl.spaces import expect
from refimpl.zoo import quadratic
from verification.claims.dropout_bilevel import (
    _adjoint,
    _bounds,
    _gradient_noise,
    _hessian_variance,
    _upper_rate,
)
from verification.claims.dropout_bilevel._jacobian_bound import RARE, jacobian
from verification.claims.dropout_bilevel._masks import RATIONAL, rationals
from verification.claims.dropout_bilevel.hessian_variance import waving

EPS = float(np.finfo(float).eps)
fractions = st.fractions(-5, 5, max_denominator=12)
GROUPED = _bounds.waves((0, 2), **_bounds.GROUPS)


def number(x):
    return fmpq(x.numerator, x.denominator)


def scalar(f, x):
    return f(rationals([x]))[0]


# -- the wave ------------------------------------------------------------------------------------------------------


@given(fractions)
def test_the_wave_is_even_periodic_and_bounded(x):
    x = number(x)
    bend, slope = scalar(_bounds.bend, x), scalar(_adjoint.slope, x)
    assert (bend, slope) == (scalar(_bounds.bend, -x), -scalar(_adjoint.slope, -x))
    assert (bend, slope) == (scalar(_bounds.bend, x + 2), scalar(_adjoint.slope, x + 2))
    assert abs(bend) <= 1
    assert abs(slope) <= fmpq(1, 4)


@given(fractions)
def test_the_waves_slope_has_its_bend_as_derivative(x):
    # kills: a sign of c'', or its kink elsewhere. c' is quadratic between integers, where differences are exact
    x, h = number(x), fmpq(1, 30)
    if (x - h).floor() != (x + h).floor():
        return
    difference = (scalar(_adjoint.slope, x + h) - scalar(_adjoint.slope, x - h)) / (2 * h)
    assert difference == scalar(_bounds.bend, x)


@given(fractions.map(abs))
def test_the_root_lies_above_and_little_above(x):
    root = _bounds.root_above(number(x))
    assert root**2 >= x
    assert (root - Fraction(1, 1 << 64)) ** 2 <= x or root == 0
    assert _bounds.root_above(number(x * x)) == x


@given(GROUPED)
def test_the_chance_that_two_are_kept(params):
    # kills: p_i p_j where one variable covers both
    g = _bounds.wave(params)
    m = g.masks[1]
    assert (g.mean(m[:, :, None] * m[:, None, :]) == g.together).all()
    assert (g.mean(m) == g.p).all()


@given(GROUPED)
def test_the_stated_constants_hold_at_every_mask(params):
    g = _bounds.wave(params)
    assert abs(g.hessians).max() <= g.C
    assert all(h.predicate(g)[0] for h in (_bounds.CONVEX, _bounds.BOUNDED))
    lowest = min(np.linalg.eigvalsh(h[g.n :, g.n :].astype(float)).min() for h in g.hessians)
    assert lowest >= float(g.mu) - 100 * EPS * float(g.C)


@pytest.mark.parametrize("seed", range(6))
def test_the_jacobian_against_differences_of_a_tilted_solution(seed):
    """G with linear terms that make w the solution at λ: w(λ ± h) by Newton steps on literal sums over the masks."""
    rng = np.random.default_rng(seed)
    n, d = 1, 2
    params = _bounds.small(
        n, d, keep=5, a=1, u=rng.integers(1, 3, 3).tolist(), root=rng.integers(-2, 3, 4).tolist()
    )
    g = _bounds.wave({**params, "cross": [2, -1], "W": [1, 3, -2]})
    S, u, W = (np.asarray(x, dtype=float) for x in (g.S, g.u, g.W))
    masks = [(0.625 ** sum(m) * 0.375 ** (3 - sum(m)), np.array(m)) for m in it.product((0, 1), repeat=3)]

    def near(x):
        return x - 2 * np.floor((x + 1) / 2)

    def slope(x):
        y = near(x)
        return np.sign(y) * (y * y - abs(y))

    def derivatives(lam, w):
        full = np.concatenate([lam, w])
        first, second = np.zeros(3), np.zeros((3, 3))
        for p, m in masks:
            at = m * full
            first += p * m * (S @ at + u * slope(u @ at))
            second += p * m[:, None] * (S + np.outer(u, u) * (2 * abs(near(u @ at)) - 1)) * m
        return first[n:], second[n:, n:]

    tilt = derivatives(W[:n], W[n:])[0]

    def solution(lam):
        w = W[n:].copy()
        for _ in range(50):
            first, second = derivatives(lam, w)
            w = w - np.linalg.solve(second, first - tilt)
        return w

    h = 1e-5
    differences = (solution(W[:n] + h) - solution(W[:n] - h)) / (2 * h)
    exact = jacobian(g).astype(float)[:, 0]
    # the kinks of c'' cost a term of order h, rounding eps/h
    assert np.linalg.norm(differences - exact) <= 100 * (h + EPS / h)


@pytest.mark.parametrize("groups", [[0, 1, 2], [0, 0, 1]])
def test_a_quadratic_jacobian_and_variance_by_the_library(groups):
    params = _bounds.small(
        2, 3, keep=3, cross=[1, -2, 0, 3, 1, 1], root=[1, 2, 0, 0, 1, -1, 1, 0, 1], groups_w=groups
    )
    g = _bounds.wave(params)
    S = g.S.astype(float)
    lower = quadratic.objective(ww=S[2:, 2:], lw=S[:2, 2:])
    upper = quadratic.objective(ww=np.eye(3), n=2)
    level = g.law.level
    problem = BilevelProblem(upper, lower).to("rational").with_dropout(lower=level, upper=level)
    assert (solution_jacobian(problem, rationals([1, 2])) == jacobian(g)).all()
    over, lam, w = problem.lower, rationals([1, 2]), rationals([1, 1, 1])

    def hessian(points):
        return over.at(points).hess_ww(lam, w).dense()

    second = expect(over.space, lambda s: hessian(s) ** 2, RATIONAL)
    assert (second - expect(over.space, hessian, RATIONAL) ** 2 == g.variances[2:, 2:]).all()


def test_unequal_probabilities_exceed_the_bound_of_equal_ones():
    """The control of @best: ‖J‖² is above d C_G²/μ² by 0.4 %."""
    g = _bounds.wave(RARE)
    ratio = (jacobian(g) ** 2).sum() / (g.C / g.mu) ** 2
    assert fmpq(602, 100) < ratio < fmpq(603, 100)


# -- the masked Hessian's variance -----------------------------------------------------------------------------------


@given(GROUPED)
def test_what_constants_say_of_a_variance_covers_it(params):
    # kills: p(1−p) halved, the variable k of i or j kept in the sum, ‖W_k‖ for its square
    g = _bounds.wave(params)
    _, spread = _hessian_variance.given_both(g)
    assert (spread <= _hessian_variance.variance_given_both(g)).all()


def test_the_varying_hessian_by_hand():
    """X_11 = −m_1(−1)^(m_2), X_12 = −m_1 m_2 up to one sign for all, λw: m_1, ww: 1."""
    g = _bounds.wave(waving(4))
    signs = [-((-1) ** (a + b)) for a, b in it.product((1, 0), repeat=2)]
    assert sorted(int(h[0, 0]) for h in g.hessians) == sorted(signs)
    assert g.variances.sum() == fmpq(1, 2) * 2 + fmpq(3, 16) * 2 + fmpq(1, 4) * 4
    assert _hessian_variance.printed(g).sum() == fmpq(3, 16) * 4 + fmpq(1, 4) * 4


# -- the gradient's noise ----------------------------------------------------------------------------------------------


@given(_gradient_noise.instances(solution=st.just(True)))
def test_the_solution_is_where_the_mean_gradient_vanishes(params):
    g = _gradient_noise.noise(params)
    H, K, c = g.mean

    def gradient(m_lam, m_w):
        return m_w * ((m_w * g.w) @ H + (m_lam * g.lam) @ K + c)

    assert (g.law.mean(gradient) == 0).all()


def test_the_noise_of_the_example_at_its_solution():
    """p²(1−p)‖w(λ)‖² = 29/245 at p = 4/5, w(λ) = (25, −10)/28."""
    plane = {
        "n": 0,
        "d": 2,
        "parts": 5,
        "keep_w": [4, 4],
        "H": [[2, 1], [1, 2]],
        "K": [],
        "lam": [],
        "w": [0, 0],
    }
    g = _gradient_noise.noise({**plane, "c": [Fraction(-3, 2), 0], "solution": True})
    assert list(g.w) == [fmpq(25, 28), fmpq(-5, 14)]
    assert g.mask_part() == sum(g.literal) == fmpq(29, 245)


# -- the adjoint -------------------------------------------------------------------------------------------------------


def test_the_adjoints_noise_is_that_of_one_step_of_the_algorithm():
    """v after one step of FSLA with dropout of λ alone, β = 1: its variance is the noise at v."""
    params = {
        "n": 2,
        "d": 2,
        "keep_lam": [4, 6],
        "W": [2, -4, 0, 0],
        "K": [1, 2, -1, 1],
        "f": [1, 0],
        "v": [3, 1],
    }
    a = _adjoint.adjoint({**params, "root": [1, 1, 0, 1], "cross": [1, 0, 2, 1]})
    S = a.g.S.astype(float)
    lower = quadratic.objective(ww=S[2:, 2:], lw=S[:2, 2:])
    upper = quadratic.objective(ww=np.zeros((2, 2)), lw=to_numpy(a.K), w1=to_numpy(a.f))
    level = a.g.law.level
    problem = BilevelProblem(upper, lower).to("rational").with_dropout(lower=level, upper=level)
    steps = DropoutFSLA(delta=1, gamma=1, beta=1, eta=1, schedule="constant", randomness="fresh")
    found = fixed_lambda(steps, problem, a.g.W[:2], direction=False).curve(1, a.g.W[2:], a.v)
    second, mean = found.second("v", "v")[1], found.mean("v")[1]
    assert second.trace() - mean @ mean == a.noise
    assert a.noise > 0


def test_the_steepest_gradient_is_attained_or_nearly():
    # kills: ½ for ¼ in sup|c'|
    a = _adjoint.adjoint({"n": 0, "d": 2, "f": [1, -1], "b": 2, "z": [1, 2], "W": [1, 1]})
    points = rationals([Fraction(k, 8) for k in range(-8, 8)])
    lengths = [((a.f + a.b * s * a.z_w) ** 2).sum() for s in _adjoint.slope(points)]
    assert max(lengths) == a.steepest


# -- the rate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("A", "C", "p", "q"), [(1.0, 0.0, 0.5, 0.75), (-0.5, 1.0, 1.0, 0.5), (2.0, 0.5, 0.25, 1.0)]
)
def test_the_mean_matrix_is_that_of_the_algorithm(A, C, p, q):
    """Differences of the means of two runs, FSLA with dropout, fresh masks for the cross derivative."""
    s = _upper_rate.Scalar(A, C, p, q)
    lower = quadratic.objective(ww=[[1.0]], lw=[[-1.0]])
    upper = quadratic.objective(ww=[[A]], lw=[[0.0]], ll=[[C]], w1=[-A])
    level = {"lam": p, "w": q}
    problem = BilevelProblem(upper, lower).with_dropout(lower=level, upper=level)
    scale = _upper_rate.LOWER / _upper_rate.STEP
    steps = DropoutFSLA(
        delta=_upper_rate.STEP,
        gamma=scale,
        beta=scale,
        eta=scale,
        schedule="constant",
        randomness="fresh-cross",
    )
    starts = np.array([1.0, 0.5, -2.0]), np.array([0.0, 1.0, 1.0])
    means = []
    for start in starts:
        joint = whole_state(steps, problem, *(start[i : i + 1] for i in range(3))).curve(8)
        means.append(np.concatenate([joint.mean(name) for name in ("lam", "w", "v")], axis=-1))
    expected = starts[0] - starts[1]
    for found in means[0] - means[1]:
        # 8 steps of sums of at most ten terms of size at most 10
        assert np.abs(found - expected).max() <= 8 * 100 * EPS
        expected = s.mean_matrix @ expected


@given(st.integers(-64, 128), st.integers(0, 128), st.sampled_from(["both", "lam", "w"]))
def test_corrections_stay_within_the_exponents_interval(A, C, path):
    whole = _upper_rate.Scalar(A / 64, C / 64, path=path)
    if whole.curvature <= 0 or whole.correction > 0.5:
        return
    for t in _upper_rate.PATH:
        assert whole.along(t).correction <= _upper_rate.WITHIN
