"""Rationals are exact, balls enclose, and the vocabulary can be differentiated: what host arithmetic promises."""

from __future__ import annotations

import math
from fractions import Fraction

import flint
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refimpl as ri
from refimpl.arrays import backend, factor, factor_spd, to_numpy
from refimpl.arrays.balls import Balls, balls
from refimpl.arrays.numbers import as_number, require_number
from refimpl.errors import BadInput, HypothesisViolated
from tests.rounding import GRID, assert_rounded, decimals


def test_rcond_of_a_matrix_that_is_singular_in_floats_only():
    B = backend("rational")
    a = B.asarray([[1, 1], [1, Fraction(10**30 + 1, 10**30)]])
    found = factor_spd(B, a)
    assert found.rcond() == 0.0
    assert (B.matvec(a, found.solve(B.asarray([1, 2]))) == B.asarray([1, 2])).all()


@pytest.mark.parametrize("spectrum", [(1, 0), (1, -1), (0, 1)])
def test_exact_pivots_decide_definiteness(spectrum):
    B = backend("rational")
    q = B.asarray([[Fraction(3, 5), Fraction(-4, 5)], [Fraction(4, 5), Fraction(3, 5)]])
    a = q @ B.asarray(np.diag(spectrum)) @ B.mT(q)  # in floats its determinant would round to ±1e-17
    with pytest.raises(HypothesisViolated, match="not positive definite"):
        factor_spd(B, a)


# -- limits ---------------------------------------------------------------------------------------------
BALL = flint.arb(1, 2)  # [-1, 3], around 1


@pytest.mark.parametrize(
    "kind", [int, float, np.float32, np.array, Fraction, flint.fmpz, flint.fmpq, flint.arb]
)
def test_a_number_of_any_kind_has_its_limits(kind):
    require_number(kind(1), "x", "")
    require_number(kind(0), "x", "", closed=True)
    for wrong in ({"x": 0}, {"x": -1, "closed": True}, {"x": 1, "high": 1}, {"x": 1, "low": 1, "high": 2}):
        with pytest.raises(BadInput, match="x is out of range"):
            require_number(kind(wrong.pop("x")), "x", "", **wrong)
    for wrong in (
        math.inf,
        math.nan,
        "1",
        b"1",
        True,
        np.True_,
        1j,
        None,
        [1],
        np.ones(1),
        BALL,
        flint.arb("inf"),
    ):
        with pytest.raises(BadInput, match="required: a finite number > 0"):
            require_number(wrong, "x", "")
    for tiny in (Fraction(1, 10**400), flint.fmpq(1, 10**400), 10**400):  # no float holds them
        require_number(tiny, "x", "")
        assert as_number(tiny) == Fraction(str(tiny))


def test_every_schedule_step_and_probability_takes_rationals_as_fractions():
    # kills: limits that compare a rational with the float inf, keep probabilities of Fractions alone
    half, same = Fraction(1, 2), flint.fmpq(1, 2)
    for make in (
        ri.rates.Constant,
        ri.sets.Ball,
        lambda x: ri.solvers.Neumann(3, x),
        lambda x: ri.solvers.Newton(tol=x),
    ):
        make(half), make(same)
    assert ri.spaces.Bernoulli((same, 1)) == ri.spaces.Bernoulli((half, 1))
    problem = ri.zoo.quadratic.random(n=2, d=3, seed=0).to("rational")
    lam = problem.start()
    found = [
        ri.approximate.implicit(
            problem, lam, lower=ri.solvers.GradientDescent(2, x), linear=ri.solvers.Neumann(2, x)
        ).value
        for x in (half, same)
    ]
    assert (found[0] == found[1]).all()


# -- exact and enclosing arithmetic -------------------------------------------------------------------
small = st.integers(-9, 9)


@given(
    a=st.lists(st.lists(small, min_size=3, max_size=3), min_size=3, max_size=3),
    b=st.lists(small, min_size=3, max_size=3),
)
def test_rational_solves_are_exact_and_balls_enclose_them(a, b):
    # kills: a float in the rational path, an enclosure of the transposed or the mid-point system
    Q, arb = backend("rational"), backend("interval")
    host = np.array(a) + 30 * np.eye(3, dtype=int)  # diagonally dominant, so invertible
    x = factor(Q, Q.asarray(host)).solve(Q.asarray(b))
    assert (Q.matvec(Q.asarray(host), x) == Q.asarray(b)).all()
    x_T = factor(Q, Q.asarray(host)).solve_T(Q.asarray(b))
    assert (Q.rmatvec(Q.asarray(host), x_T) == Q.asarray(b)).all()
    enclosed = factor(arb, arb.asarray(host)).solve(arb.asarray(b))
    with flint.ctx.workprec(
        1000
    ):  # contains() rounds a rational to a ball first: to one that is far narrower
        assert all(ball.contains(flint.arb(exact)) for ball, exact in zip(enclosed, x, strict=True))


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "softplus", "logcosh"])
def test_balls_enclose_the_true_value(name):
    B = backend("interval")
    found = getattr(B, name)(B.asarray(GRID))
    with mpmath.workdps(400):
        for ball, x in zip(found, GRID.tolist(), strict=True):
            true = mpmath.mpf(str(decimals(name, x)))
            low, high = (mpmath.mpf(str(e.str(40, radius=False))) for e in (ball.lower(), ball.upper()))
            slack = mpmath.mpf(10) ** -35 * (1 + abs(true))  # of the 40 printed digits
            assert low - slack <= true <= high + slack
            assert high - low <= 20 * B.eps * (1 + abs(x)) * (1 + abs(true))  # an enclosure, and a useful one


def test_softmax_over_balls_needs_no_decision():
    B, z = backend("interval"), np.array([[1e4, 1e4 - 1], [0.5, 3.0]])
    p = B.softmax(B.asarray(z), 0)
    assert all(s.contains(flint.arb(1)) for s in B.sum(p, 0))
    top = B.logsumexp(B.asarray(z), 0)
    assert [float(t.mid()) for t in top] == [1e4, 9999.0]  # e^-9996 is far below their last place
    for ball in (*p.ravel(), *top):  # ten operations on exponents of size 1e4
        assert float(ball.rad()) <= 10 * B.eps * 1e4 * (1 + abs(float(ball.mid())))


def test_floats_convert_exactly_and_back_to_the_nearest():
    Q, arb = backend("rational"), backend("interval")
    assert Q.asarray([0.1])[0] == flint.fmpq(*(0.1).as_integer_ratio())
    assert Q.scalar(Fraction(1, 3)) == flint.fmpq(1, 3)
    assert Q.scalar(np.float64(0.5)) == flint.fmpq(1, 2)
    assert arb.scalar(0.1) == flint.arb(0.1)
    assert arb.scalar(Fraction(1, 3)).contains(flint.fmpq(1, 3))
    assert arb.asarray(Q.asarray([Fraction(1, 3)]))[0].contains(flint.fmpq(1, 3))
    assert to_numpy(Q.asarray([Fraction(1, 3)]))[0] == 1 / 3
    assert to_numpy(arb.asarray([0.1]))[0] == 0.1
    assert to_numpy(Q.asarray([10**400 + 1, 10**400]) / Q.scalar(10**400)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "huge", [10**400, -(10**400), Fraction(10**400)], ids=["1e400", "-1e400", "Fraction"]
)
@pytest.mark.parametrize("name", ["numpy", "strict", "autograd"])
def test_a_number_that_no_float_holds(name, huge):
    # kills: numbers/overflow
    with pytest.raises(BadInput, match="more than 1024 binary places"):
        backend(name).scalar(huge)
    assert as_number(backend("rational").scalar(huge)) == huge


@pytest.mark.parametrize("bad", ["1", None, 1j, flint.arb(1)])
def test_rationals_refuse_what_does_not_convert_exactly(bad):
    with pytest.raises(BadInput, match="converts exactly"):
        backend("rational").scalar(bad)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sqrt", "sigmoid", "softplus", "logcosh", "norm"])
def test_rationals_refuse_what_is_not_polynomial(name):
    B = backend("rational")
    with pytest.raises(BadInput, match="rational") as caught:
        getattr(B, name)(B.asarray([1]))
    assert "polynomial" in str(caught.value)


COMPARING = {
    ">": lambda x: x > 0,
    "<=": lambda x: x <= 1,
    "==": lambda x: x == 0,
    "reflected <": lambda x: 0 < x,
    "abs": abs,
    "max": np.max,
    "max method": lambda x: x.max(),
    "maximum": lambda x: np.maximum(x, 0),
    "sign": np.sign,
    "clip": lambda x: np.clip(x, 0, 1),
    "where": lambda x: np.where(np.ones(x.shape, bool), x, x),
    "sort": np.sort,
    "sort method": lambda x: x.sort(),
    "argmax method": lambda x: x.argmax(),
    "any": lambda x: x.any(),
}


@pytest.mark.parametrize("name", COMPARING)
@pytest.mark.parametrize("derived", ["itself", "product", "view", "stacked", "broadcast"])
def test_balls_refuse_to_be_compared(name, derived):
    """A comparison of overlapping balls is False both ways: a branch on it would enclose nothing."""
    x = backend("interval").asarray(np.array([[flint.arb(0, 1), flint.arb(1)]], dtype=object))
    x = {
        "itself": x,
        "product": 2 * (x @ np.eye(2)),
        "view": x[..., 0],
        "stacked": np.stack([x, x]),
        "broadcast": np.broadcast_to(x, (3, 1, 2)),
    }[derived]
    assert isinstance(x, Balls)
    with pytest.raises(BadInput, match="cannot be compared"):
        COMPARING[name](x)


@pytest.mark.parametrize("k", [0, 1, 2, 3, 5])
def test_whole_powers_of_balls_that_hold_zero(k):
    # kills: flint's own power, which is NaN there
    x = balls(np.array([flint.arb(0, 1), flint.arb(2), flint.arb(-3)], dtype=object))
    found = x**k
    assert [float(e) for e in found[1:]] == [2**k, (-3) ** k]
    assert found[0].is_finite()
    assert all(found[0].contains(flint.fmpq(s, 2) ** k) for s in (-2, -1, 0, 1, 2))
    assert (x[1:] ** -1)[0].contains(flint.fmpq(1, 2))


def test_decided_takes_only_a_certain_answer_for_yes():
    x = balls(np.array([flint.arb(0, 1), flint.arb(1)], dtype=object))
    assert (x.decided() > 0).tolist() == [False, True]
    assert (backend("interval").comparable(x) > 0).tolist() == [False, True]


# -- autograd -----------------------------------------------------------------------------------------
VOCABULARY = {
    "sigmoid": lambda B, x: B.sum(B.sigmoid(3 * x)),
    "softplus": lambda B, x: B.sum(B.softplus(3 * x)),
    "logcosh": lambda B, x: B.sum(B.logcosh(3 * x)),
    "softmax": lambda B, x: B.dot(B.softmax(x, -1), x),
    "logsumexp": lambda B, x: B.logsumexp(x * x, -1),
    "norm": lambda B, x: B.norm(x),
    "mean": lambda B, x: B.mean(x * x * x),
    "matvec": lambda B, x: B.dot(x, B.matvec(B.asarray(np.arange(16.0).reshape(4, 4)), x)),
    "rmatvec": lambda B, x: B.dot(x, B.rmatvec(B.asarray(np.arange(16.0).reshape(4, 4)), x)),
    "take": lambda B, x: B.sum(B.take(x, B.indices([1, 1, 3])) ** 2),
    "broadcast": lambda B, x: B.sum(B.sum(B.broadcast(x, (3, 4)) ** 2)),
    "reshape": lambda B, x: B.sum(B.sum(B.mT(B.reshape(x, (2, 2))) @ B.reshape(x, (2, 2)))),
    "concat": lambda B, x: B.dot(B.concat([x, x * x]), B.concat([x * x, x])),
    "where": lambda B, x: B.sum(B.where(B._real(x) >= 0, x * x, x)),
}


@pytest.mark.parametrize("name", VOCABULARY)
def test_the_vocabulary_is_differentiable_in_two_ways(name):
    # kills: a helper that leaves the box (autograd sees a constant) or conjugates (the complex step does)
    from autograd import grad

    f, x, step = VOCABULARY[name], np.array([0.7, -0.4, 1.1, -2.0]), 1e-200
    reverse = grad(lambda x: f(backend("autograd"), x))(x)
    complex_step = np.array([np.imag(f(backend(), x + 1j * step * e)) / step for e in np.eye(4)])
    assert np.any(reverse != 0)
    assert_rounded(reverse, complex_step, terms=np.abs(complex_step).sum() + 40, count=16)


@pytest.mark.parametrize("value", [True, np.True_, np.array(True), np.timedelta64(3, "s"), np.complex64(1)])
def test_what_is_no_number_is_none_in_an_array_either(value):
    assert math.isnan(as_number(value))
    with pytest.raises(BadInput, match="alpha is out of range"):
        ri.solvers.BiGSAM(3, s=0.5, t=0.5, alpha=value)
