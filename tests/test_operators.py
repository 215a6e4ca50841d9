"""Linear operators: products, transposes and dense matrices agree, whatever the leading axes."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.arrays import backend, to_numpy
from refimpl.operators import Operator, identity, matrix, zero
from tests.backends import CPU, everywhere
from tests.rounding import assert_rounded

SHAPES = [(3, 5), (5, 3), (4, 4), (1, 1), (0, 3), (3, 0)]
LEADS = [(), (2,), (2, 3)]


def _free(a, B, symmetric=False):
    """The operator of a matrix that only knows its products."""
    lead = a.ndim - 2
    return Operator(
        B, a.shape[-2:], lambda v: B.matvec(a, v), lambda u: B.rmatvec(a, u), lead, None, symmetric
    )


def _made(place, shape, lead):
    """Operators of every kind, the matrices they stand for, and the size of their terms."""
    B, rng = backend(place.backend), np.random.default_rng(3)
    a, b = rng.standard_normal((*lead, *shape)), rng.standard_normal(shape)
    half = np.float64(0.5) if B.name == "numpy" else 0.5  # the strict library takes no NumPy numbers
    A, free, other = matrix(B, place.array(a)), _free(place.array(a), B), matrix(B, place.array(b))
    found = {
        "matrix": (A, a),
        "matrix-free": (free, a),
        "transposed": (A.T, np.swapaxes(a, -1, -2)),
        "matrix-free, transposed": (free.T, np.swapaxes(a, -1, -2)),
        "transposed twice": (free.T.T, a),
        "scaled": (-3 * free, -3 * a),
        "scaled by a numpy number": (half * A, a / 2),
        "sum": (A + other, a + b),
        "sum, fewer axes first": (other + free, a + b),
        "zero": (zero(B, *shape), np.zeros(shape)),
    }
    if shape[0] == shape[1]:
        s = a + np.swapaxes(a, -1, -2)
        found["identity"] = (identity(B, shape[0]), np.eye(shape[0]))
        found["symmetric"] = (_free(place.array(s), B, True), s)
        found["I - A"] = (identity(B, shape[0]) + (-1) * free, np.eye(shape[0]) - a)
    return {name: (A, a, abs(a) + abs(b) if "sum" in name else abs(a)) for name, (A, a) in found.items()}


KINDS = {shape: list(_made(CPU[0], shape, ())) for shape in SHAPES}


@everywhere
@pytest.mark.parametrize("lead", LEADS, ids=str)
@pytest.mark.parametrize(
    ("kind", "shape"), [(kind, shape) for shape in SHAPES for kind in KINDS[shape]], ids=str
)
def test_products_and_dense_are_the_matrix(place, kind, shape, lead):
    # kills: dense without moving the basis axis back, a transposed product, a basis behind the leading axes
    A, a, size = _made(place, shape, lead)[kind]
    m, n = a.shape[-2:]
    assert A.shape == (m, n)
    assert A.lead in (len(lead), 0)
    if "sum" in kind:
        assert A.lead == len(lead)
    dense = to_numpy(A.dense())
    assert_rounded(np.broadcast_to(dense, a.shape), a, terms=size, count=max(m, n, 1))
    rng = np.random.default_rng(4)
    for front in ((), (6,)):  # a family of vectors goes in front of all the operator's own axes
        x, y = rng.standard_normal((*front, *lead, n)), rng.standard_normal((*front, *lead, m))
        for found, expected, terms in (
            (A @ place.array(x), (a @ x[..., None])[..., 0], (size @ abs(x)[..., None])[..., 0]),
            (
                A.T @ place.array(y),
                (y[..., None, :] @ a)[..., 0, :],
                (abs(y)[..., None, :] @ size)[..., 0, :],
            ),
        ):
            assert_rounded(found, expected, terms=terms, count=max(m, n, 1))


@everywhere
@pytest.mark.parametrize("kind", KINDS[4, 4])
def test_adjoint_identity(place, kind):
    # kills: apply_T = apply, a T that swaps the shape only, a sum that transposes one of its terms
    A, _, size = _made(place, (4, 4), (2, 3))[kind]
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((7, 2, 3, 4)), rng.standard_normal((7, 2, 3, 4))
    left = (y * to_numpy(A @ place.array(x))).sum(-1)
    right = (x * to_numpy(A.T @ place.array(y))).sum(-1)
    assert_rounded(left, right, terms=(abs(y) * (size @ abs(x)[..., None])[..., 0]).sum(-1), count=16)


@everywhere
def test_leading_axes_of_operator_and_vector_broadcast(place):
    B, rng = backend(place.backend), np.random.default_rng(6)
    for lead_a, lead_x in (((2, 1), (3,)), ((2,), (2,)), ((), (2, 3)), ((3,), ())):
        a, x = rng.standard_normal((*lead_a, 2, 4)), rng.standard_normal((*lead_x, 4))
        for A in (matrix(B, place.array(a)), _free(place.array(a), B)):
            found = A @ place.array(x)
            assert_rounded(
                found, (a @ x[..., None])[..., 0], terms=(abs(a) @ abs(x)[..., None])[..., 0], count=4
            )


def test_a_symmetric_operator_is_its_own_transpose():
    A = matrix(backend(), np.eye(3), symmetric=True)
    assert A.T is A
    assert not (A + matrix(backend(), np.eye(3))).symmetric
    assert (A + 2 * A).symmetric


def test_the_matrix_is_assembled_once_with_the_fewer_products():
    calls = []

    def apply(v):
        calls.append(v.shape)
        return np.concatenate([v, v], axis=-1)

    def apply_T(u):
        calls.append(u.shape)
        return u[..., :2] + u[..., 2:]

    tall = Operator(backend(), (4, 2), apply, apply_T)
    assert np.array_equal(tall.dense(), np.vstack([np.eye(2), np.eye(2)]))
    assert tall.dense() is tall.dense()
    assert calls == [(2, 2)]  # one call, two columns
    wide = Operator(backend(), (2, 4), apply_T, apply)
    assert np.array_equal(wide.dense(), np.hstack([np.eye(2), np.eye(2)]))
    assert calls == [(2, 2), (2, 2)]


def test_an_array_does_not_swallow_an_operator():
    """Without ``__array_ufunc__ = None`` NumPy would loop over the array and multiply it entry by entry."""
    with pytest.raises(TypeError):
        np.eye(2) @ identity(backend(), 2)


@pytest.mark.parametrize("seed", range(5))
def test_products_are_exact_over_the_rationals(seed):
    B = backend("rational")
    a = B.asarray(np.random.default_rng(seed).integers(-5, 6, (3, 2))) / B.scalar(7)
    for A in (matrix(B, a), _free(a, B)):
        assert (A.dense() == a).all()
        assert (A.T.dense() == B.mT(a)).all()
        assert ((2 * A + (-1) * A).dense() == a).all()
