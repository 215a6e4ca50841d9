"""The backends' vocabulary: the same numbers everywhere; exact over rationals, enclosures over balls."""

from __future__ import annotations

from fractions import Fraction

import flint
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.arrays import backend, factor, factor_spd, solve_spd, to_numpy
from refimpl.arrays.balls import Balls, balls
from refimpl.arrays.kinds import BY_NAME
from refimpl.errors import BadInput, HypothesisViolated
from tests.backends import everywhere, on_cpu, round_trip
from tests.rounding import assert_rounded, condition_number

GRID = np.array([-700.0, -40.0, -1.5, -1e-8, 0.0, 1e-8, 0.3, 1.5, 40.0, 700.0])


def _mp(name, x):
    x = mpmath.mpf(x)
    return {
        "exp": lambda: mpmath.exp(x),
        "tanh": lambda: mpmath.tanh(x),
        "sigmoid": lambda: 1 / (1 + mpmath.exp(-x)),
        "softplus": lambda: mpmath.log1p(mpmath.exp(x)),
        "logcosh": lambda: mpmath.log(mpmath.cosh(x)),
        "log": lambda: mpmath.log(mpmath.mpf(float(abs(x)) + 1.0)),  # of the rounded sum
        "sqrt": lambda: mpmath.sqrt(abs(x)),
    }[name]()


def _reference(name):
    with mpmath.workdps(400):  # log(cosh x) near 0 and at 700 cancels hundreds of digits
        return np.array([float(_mp(name, x)) for x in GRID.tolist()])


def _call(B, name, x):
    if name == "log":
        return B.log(B.where(x >= 0, x, -x) + 1) if B.ordered else B.log(x)
    return B.sqrt(B.where(x >= 0, x, -x)) if name == "sqrt" else getattr(B, name)(x)


@everywhere
@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sqrt", "sigmoid", "softplus"])
def test_functions_have_full_relative_accuracy_on_both_sides(place, name):
    # kills: 1/(1+exp(-x)) with overflow, log(1+exp(x)) which loses the left side, a sign of the argument
    B = backend(place.backend)
    expected = _reference(name)
    assert_rounded(_call(B, name, place.array(GRID)), expected, terms=np.abs(expected), count=1)


@everywhere
def test_logcosh_is_accurate_absolutely_and_even(place):
    B = backend(place.backend)
    expected = _reference("logcosh")
    found = B.logcosh(place.array(GRID))
    assert_rounded(found, expected, terms=1 + np.abs(expected), count=1)
    assert np.array_equal(to_numpy(B.logcosh(place.array(-GRID))), to_numpy(found))


@everywhere
@pytest.mark.parametrize("axis", [-1, -2, 0])
def test_softmax_and_logsumexp_are_shifted(place, axis):
    # kills: no shift (overflow), shift along the wrong axis, shift not added back
    B = backend(place.backend)
    z = np.random.default_rng(0).standard_normal((3, 4, 2)) * 5 + 800.0
    with mpmath.workdps(50):
        terms = np.array([mpmath.exp(v) for v in z.ravel().tolist()], dtype=object).reshape(z.shape)
        total = terms.sum(axis=axis, keepdims=True)
        share = (terms / total).astype(float)
        log = np.array([float(mpmath.log(t)) for t in total.ravel()]).reshape(np.delete(z.shape, axis))
    # the exponent z − max z carries eps |z| absolutely, which is relative in exp
    assert_rounded(B.softmax(place.array(z), axis), share, terms=share, count=4, condition=np.abs(z).max())
    assert_rounded(B.logsumexp(place.array(z), axis), log, terms=np.abs(log), count=4)


@everywhere
def test_products_are_bilinear_over_leading_axes(place):
    # kills: a.T for the last two axes, matvec for rmatvec, a leading axis taken for the vector's
    B, rng = backend(place.backend), np.random.default_rng(1)
    for lead_a, lead_x in (((), ()), ((), (2, 3)), ((2,), (2,)), ((2, 1), (3,)), ((3,), ())):
        a, x = rng.standard_normal((*lead_a, 4, 5)), rng.standard_normal((*lead_x, 5))
        y = rng.standard_normal((*lead_x, 4))
        assert_rounded(
            B.matvec(place.array(a), place.array(x)),
            np.einsum("...ij,...j->...i", a, x),
            terms=np.einsum("...ij,...j->...i", abs(a), abs(x)),
            count=5,
        )
        assert_rounded(
            B.rmatvec(place.array(a), place.array(y)),
            np.einsum("...ij,...i->...j", a, y),
            terms=np.einsum("...ij,...i->...j", abs(a), abs(y)),
            count=4,
        )
        assert to_numpy(B.mT(place.array(a))).shape == (*lead_a, 5, 4)
    x, y = rng.standard_normal((2, 5)), rng.standard_normal((3, 1, 5))
    assert_rounded(B.dot(place.array(x), place.array(y)), (x * y).sum(-1), terms=abs(x * y).sum(-1), count=5)
    norms = np.sqrt((x * x).sum(-1))
    assert_rounded(B.norm(place.array(x)), norms, terms=norms, count=5)


def test_nothing_conjugates():
    # kills: vdot for dot, abs for the norm's square; both would make the complex step return garbage
    B, x = backend(), np.array([1j, 2.0])
    assert B.dot(x, x) == 3
    assert B.rmatvec(x[:, None], x) == B.matvec(x[None], x) == 3
    assert B.norm(np.array([3j, 5.0])) == 4


@everywhere
def test_shapes(place):
    # kills: take along the last axis, flattening the index, broadcast that adds the axis behind
    B = backend(place.backend)
    x = np.arange(24.0).reshape(4, 3, 2)
    there, index = place.array(x), np.array([[0, 3], [1, 1], [2, 0]])
    assert np.array_equal(to_numpy(B.take(there, B.indices(index))), x[index])
    assert np.array_equal(to_numpy(B.moveaxis(there, 0, -1)), np.moveaxis(x, 0, -1))
    assert np.array_equal(to_numpy(B.reshape(there, (2, 12))), x.reshape(2, 12))
    assert np.array_equal(to_numpy(B.concat([there, there])), np.concatenate([x, x], axis=-1))
    assert np.array_equal(to_numpy(B.broadcast(there, (5, 4, 3, 2))), np.broadcast_to(x, (5, 4, 3, 2)))
    assert np.array_equal(to_numpy(B.mean(there, -2)), x.mean(-2))  # sums of small integers are exact
    assert np.array_equal(to_numpy(B.sum(there, 0)), x.sum(0))
    assert np.array_equal(to_numpy(B.eye(3)), np.eye(3))
    assert np.array_equal(to_numpy(B.zeros((2, 0))), np.zeros((2, 0)))


# -- linear algebra -----------------------------------------------------------------------------------
def _spd(lead, d, seed):
    a = np.random.default_rng(seed).standard_normal((*lead, d, d))
    return a @ np.swapaxes(a, -1, -2) + d * np.eye(d)


LEADS = [((), ()), ((), (3,)), ((), (2, 3)), ((2,), ()), ((2,), (2,)), ((2, 1), (3,))]


@everywhere
@pytest.mark.parametrize(("lead_a", "lead_b"), LEADS)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_factorisations_solve_over_leading_axes(place, lead_a, lead_b, d):
    # kills: Aᵀ for A in the LU solves, b.T over two leading axes, a batch solved with its first matrix
    B, rng = backend(place.backend), np.random.default_rng(d)
    b = rng.standard_normal((*lead_b, d))
    for make, a in ((factor_spd, _spd(lead_a, d, 7)), (factor, rng.standard_normal((*lead_a, d, d)))):
        full, rhs = (
            np.broadcast_arrays(a, b[..., None])[0],
            np.broadcast_to(b, (*np.broadcast_shapes(lead_a, lead_b), d)),
        )
        full = np.broadcast_to(a, (*rhs.shape[:-1], d, d))
        found = make(B, place.array(a))
        for solve, matrix in ((found.solve, full), (found.solve_T, np.swapaxes(full, -1, -2))):
            x = np.linalg.solve(matrix, rhs[..., None])[..., 0]
            size = np.linalg.norm(x, axis=-1, keepdims=True)
            assert_rounded(solve(place.array(b)), x, terms=size, count=d, condition=condition_number(a))


@everywhere
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_rcond_is_the_one_norm_condition(place, lead):
    B, a = backend(place.backend), _spd(lead, 4, 3)
    true = 1 / np.linalg.cond(a, 1)
    for make in (factor, factor_spd):
        found = to_numpy(make(B, place.array(a)).rcond())
        assert found.shape == lead
        # LAPACK estimates ‖A⁻¹‖ from below, at worst by a factor of order d
        assert np.all(found >= true * (1 - 1e3 * B.eps))
        assert np.all(found <= 4 * true)


def test_rcond_of_a_matrix_that_is_singular_in_floats_only():
    B = backend("rational")
    a = B.asarray([[1, 1], [1, Fraction(10**30 + 1, 10**30)]])
    found = factor_spd(B, a)
    assert found.rcond() == 0.0
    assert (B.matvec(a, found.solve(B.asarray([1, 2]))) == B.asarray([1, 2])).all()


@on_cpu
@pytest.mark.parametrize("lead", [(), (2,)])
@pytest.mark.parametrize("spectrum", [(1.0, 0.0), (1.0, -1.0)])
def test_indefinite_and_singular_matrices_are_refused(place, lead, spectrum):
    a = np.stack([np.eye(2), np.diag(spectrum)]) if lead else np.diag(spectrum)  # one bad lane is enough
    with pytest.raises(HypothesisViolated, match="not positive definite") as caught:
        factor_spd(backend(place.backend), place.array(a))
    assert caught.value.measured
    assert caught.value.advice


@pytest.mark.parametrize("spectrum", [(1, 0), (1, -1), (0, 1)])
def test_exact_pivots_decide_definiteness(spectrum):
    B = backend("rational")
    q = B.asarray([[Fraction(3, 5), Fraction(-4, 5)], [Fraction(4, 5), Fraction(3, 5)]])
    a = q @ B.asarray(np.diag(spectrum)) @ B.mT(q)  # in floats its determinant would round to ±1e-17
    with pytest.raises(HypothesisViolated, match="not positive definite"):
        factor_spd(B, a)


@pytest.mark.parametrize("name", ["numpy", "strict", "rational", "interval"])
def test_a_singular_system_has_no_solution(name):
    B = backend(name)
    a = B.asarray(np.zeros((2, 2)) + 1.0)
    with pytest.raises(HypothesisViolated, match="singular"):
        factor(B, a).solve(B.asarray([1.0, 2.0]))


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
    assert all(ball.contains(exact) for ball, exact in zip(enclosed, x, strict=True))


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "softplus", "logcosh"])
def test_balls_enclose_the_true_value(name):
    B = backend("interval")
    found = getattr(B, name)(B.asarray(GRID))
    with mpmath.workdps(400):
        for ball, x in zip(found, GRID.tolist(), strict=True):
            true = _mp(name, x)
            low, high = (mpmath.mpf(str(e.str(40, radius=False))) for e in (ball.lower(), ball.upper()))
            slack = mpmath.mpf(10) ** -35 * (1 + abs(true))  # of the 40 printed digits
            assert low - slack <= true <= high + slack
            assert high - low <= 1e-9 * (1 + abs(true))  # an enclosure, and a useful one


def test_softmax_over_balls_needs_no_decision():
    B, z = backend("interval"), np.array([[1e4, 1e4 - 1], [0.5, 3.0]])
    p = B.softmax(B.asarray(z), 0)
    assert all(s.contains(flint.arb(1)) and float(s.rad()) < 1e-9 for s in B.sum(p, 0))
    top = B.logsumexp(B.asarray(z), 0)
    assert all(float(t.rad()) < 1e-9 for t in top)
    assert abs(float(top[0].mid()) - 1e4) <= 1e-12 * 1e4


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


# -- names --------------------------------------------------------------------------------------------
def test_a_backend_is_its_names():
    assert backend("numpy") == backend() != backend(dtype="float32")
    assert backend("strict").device == "device1"
    assert backend(backend("rational")) == backend("rational")
    for name in ("numpy", "strict", "autograd", "rational", "interval"):
        B = backend(name)
        assert round_trip(B) == B
        assert hash(round_trip(B)) == hash(B)
    assert set(BY_NAME) == {"numpy", "cupy", "jax", "torch", "strict", "autograd", "rational", "interval"}


@on_cpu
def test_single_precision_stays_single(place):
    B = backend(place.backend, dtype="float32")
    x = B.asarray([1.0, 2.0])
    assert str(x.dtype).endswith("float32")
    assert str(B.vector([1.0, 2.0], 2, "x").dtype).endswith("float32")
    assert str(B.sigmoid(x).dtype).endswith("float32")
    assert B.eps == 2.0**-23


def test_solve_spd_is_the_definition():
    a, b = _spd((), 3, 0), np.ones(3)
    x = solve_spd(backend(), a, b)
    assert_rounded(a @ x, b, terms=np.abs(a) @ np.abs(x), count=3)
