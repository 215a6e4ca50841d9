"""The backends' vocabulary and their linear algebra: the same numbers everywhere, to rounding."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest

from refimpl.arrays import backend, factor, factor_spd, solve_spd, to_numpy
from refimpl.arrays.kinds import BY_NAME
from refimpl.errors import HypothesisViolated
from tests.backends import everywhere, on_cpu, round_trip
from tests.rounding import GRID, assert_rounded, condition_number, decimals


def _reference(name):
    return np.array([float(decimals(name, x)) for x in GRID.tolist()])


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
    with localcontext(prec=60):
        terms = np.array([Decimal(v).exp() for v in z.ravel().tolist()], dtype=object).reshape(z.shape)
        total = terms.sum(axis=axis, keepdims=True)
        share = (terms / total).astype(float)
        log = np.array([float(t.ln()) for t in total.ravel()]).reshape(np.delete(z.shape, axis))
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
        assert np.all(found >= true * (1 - 40 * B.eps / true))
        assert np.all(found <= 4 * true)


@on_cpu
@pytest.mark.parametrize("lead", [(), (2,)])
@pytest.mark.parametrize("spectrum", [(1.0, 0.0), (1.0, -1.0)])
def test_indefinite_and_singular_matrices_are_refused(place, lead, spectrum):
    a = np.stack([np.eye(2), np.diag(spectrum)]) if lead else np.diag(spectrum)  # one bad lane is enough
    with pytest.raises(HypothesisViolated, match="not positive definite") as caught:
        factor_spd(backend(place.backend), place.array(a))
    assert caught.value.measured
    assert caught.value.advice


@pytest.mark.parametrize("name", ["numpy", "strict", "rational", "interval"])
def test_a_singular_system_has_no_solution(name):
    B = backend(name)
    a = B.asarray(np.zeros((2, 2)) + 1.0)
    with pytest.raises(HypothesisViolated, match="singular"):
        factor(B, a).solve(B.asarray([1.0, 2.0]))


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


def test_balls_in_place():
    """Kills: an in-place operation that meets its own override again and never returns."""
    B = backend("interval")
    x, y = B.asarray([1.0, 2.0]), B.asarray([0.5, 0.25])
    expected = x - y
    x -= y
    assert isinstance(x, type(y))
    assert [str(e) for e in x.tolist()] == [str(e) for e in expected.tolist()]
