"""a f + b g and f on an affine subspace: against their definitions, and every channel of check_derivatives."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

import refimpl as ri
from refimpl.arrays import backend
from refimpl.bounds import Region
from refimpl.combined import Combined, Restricted
from refimpl.errors import BadInput
from refimpl.zoo import logistic, quadratic
from tests.backends import everywhere
from tests.rounding import assert_rounded, exactly

QUADRATIC = quadratic.random(n=2, d=3, seed=3, terms=4)
LOGISTIC = logistic.random(d=3, seed=5, rows=6)
ORIGIN = np.array([1.0, -2.0, 0.5])
COLUMNS = np.array([[1.0, 0.0], [2.0, -1.0], [0.5, 3.0]])
QUANTITIES = ("value", "grad_lam", "grad_w", "hess_ww", "cross")


def dense(x):
    return x.dense() if hasattr(x, "dense") else x


def asked(f, lam, w):
    return [dense(getattr(f, name)(lam, w)) for name in QUANTITIES]


@pytest.mark.parametrize("a", [1, 0.25, -3.0])
@pytest.mark.parametrize("problem", [QUADRATIC, LOGISTIC], ids=["quadratic", "logistic"])
def test_derivatives_by_every_channel(problem, a):
    # kills: combined/one-weight-for-both
    channels = {row.channel for row in ri.check_derivatives(Combined(a, problem.lower, 0.5, problem.upper))}
    assert {"autograd", "complex step", "adjoint"} <= channels
    ri.check_derivatives(Restricted(problem.lower, ORIGIN, COLUMNS))


@everywhere
def test_sums_are_sums_everywhere(place):
    f, g = QUADRATIC.lower, QUADRATIC.upper
    lam, w = QUADRATIC.start(), np.ones(3)
    found = asked(place.move(Combined(-2, f, 0.25, g)), place.array(lam), place.array(w))
    for mine, one, other in zip(found, asked(f, lam, w), asked(g, lam, w), strict=True):
        assert_rounded(mine, -2 * one + 0.25 * other, terms=100.0, count=4 * 3)


@everywhere
def test_restriction_is_composition_everywhere(place):
    # kills: restricted/origin-lost, restricted/columns-on-one-side
    f, x = QUADRATIC.lower, np.array([0.5, -1.0])
    lam = QUADRATIC.start()
    found = asked(place.move(Restricted(f, ORIGIN, COLUMNS)), place.array(lam), place.array(x))
    value, by_lam, by_w, H, cross = asked(f, lam, ORIGIN + COLUMNS @ x)
    wanted = [value, by_lam, COLUMNS.T @ by_w, COLUMNS.T @ H @ COLUMNS, cross @ COLUMNS]
    for mine, true in zip(found, wanted, strict=True):
        assert_rounded(mine, true, terms=1e3, count=4 * 3)


def test_fractions_stay_exact_and_do_not_leave_floats():
    """1/3 over the rationals; in floats no array of objects, and single precision stays single."""
    f, g = QUADRATIC.lower.to("rational"), QUADRATIC.upper.to("rational")
    third, seventh = Fraction(1, 3), Fraction(-1, 7)
    sum_ = Combined(third, f, seventh, g, f.backend)
    lam, w = f.backend.asarray([1.0, 2.0]), f.backend.asarray([1.0, 0.0, -1.0])
    wanted = [
        third * x + seventh * y
        for x, y in zip(exactly(f.grad_w(lam, w)), exactly(g.grad_w(lam, w)), strict=True)
    ]
    assert exactly(sum_.grad_w(lam, w)) == wanted
    floats = Combined(third, QUADRATIC.lower, np.float64(0.1), QUADRATIC.upper)
    assert floats.grad_w(np.ones(2), np.ones(3)).dtype == np.float64
    single = floats.to("numpy", dtype="float32")
    ones = np.ones(2, dtype=np.float32), np.ones(3, dtype=np.float32)
    assert {x.dtype for x in asked(single, *ones)} == {np.dtype("float32")}


def test_terms_are_those_of_the_first():
    """A minibatch of the sum is a minibatch of f, with g whole; shapes carry the points' axes."""
    sum_ = Combined(2, QUADRATIC.lower, 0.5, QUADRATIC.upper)
    lam, w = QUADRATIC.start(), np.ones(3)
    assert sum_.space.size == 4
    every = sum_.at(np.arange(4))
    assert every.lead == 1
    for mine, one, other in zip(
        asked(every, lam, w),
        asked(QUADRATIC.lower.at(np.arange(4)), lam, w),
        asked(QUADRATIC.upper, lam, w),
        strict=True,
    ):
        assert_rounded(mine, 2 * one + 0.5 * other, terms=1e3, count=4)
    parts = Restricted(QUADRATIC.lower, ORIGIN, COLUMNS).at(np.arange(4))
    assert parts.lead == 1
    assert [x.shape for x in asked(parts, lam, np.ones(2))] == [(4,), (4, 2), (4, 2), (4, 2, 2), (4, 2, 2)]


def test_a_subspace_for_each_leading_axis():
    # kills: restricted/lead-of-data-only
    rng = np.random.default_rng(0)
    origins, columns = rng.standard_normal((5, 3)), rng.standard_normal((5, 3, 2))
    many, lam, x = Restricted(QUADRATIC.lower, origins, columns), QUADRATIC.start(), np.array([0.5, -1.0])
    assert many.lead == 1
    for k in range(5):
        single = Restricted(QUADRATIC.lower, origins[k], columns[k])
        for mine, true in zip(asked(many, lam, x), asked(single, lam, x), strict=True):
            mine = np.broadcast_to(mine, (5, *true.shape))
            assert_rounded(mine[k], true, terms=1e3, count=12)


@pytest.mark.parametrize("name", ["numpy", "rational"])
def test_a_subspace_of_one_point(name):
    B = backend(name)
    point = Restricted(QUADRATIC.lower, ORIGIN, np.zeros((3, 0))).to(name)
    lam, x = B.asarray(QUADRATIC.start()), B.zeros((0,))
    assert point.value(lam, x) == QUADRATIC.lower.to(name).value(lam, B.asarray(ORIGIN))
    assert [np.shape(e) for e in asked(point, lam, x)] == [(), (2,), (0,), (0, 0), (2, 0)]


@pytest.mark.parametrize(("a", "b"), [(1, 0.5), (-1.0, 0.5), (2, -3.0), (0, 1)])
def test_constants_bound_what_they_say(a, b):
    # kills: combined/smallest-eigenvalue-of-a-negative-multiple
    sum_ = Combined(a, LOGISTIC.lower, b, LOGISTIC.upper)
    lam, w, rng = LOGISTIC.start(), np.ones(3), np.random.default_rng(0)
    bounds = sum_.bounds(Region(lam, w, 0.5, 1.0))
    for _ in range(50):
        u, v = rng.standard_normal(lam.shape), rng.standard_normal(3)
        at = lam + 0.5 * u / np.linalg.norm(u), w + v / np.linalg.norm(v)
        eigenvalues = np.linalg.eigvalsh(sum_.hess_ww(*at).dense())
        assert bounds.hess_ww_min <= eigenvalues[0]
        assert eigenvalues[-1] <= bounds.hess_ww
        assert np.linalg.norm(sum_.grad_w(*at)) <= bounds.grad_w
        assert np.linalg.norm(sum_.cross(*at).dense(), 2) <= bounds.cross
    # of quadratics the smallest eigenvalue is known: of −f it is −(the largest of f)
    f = quadratic.objective(ww=np.diag([1.0, 4.0]), n=1)
    here = Region(np.zeros(1), np.zeros(2))
    assert Combined(-1, f, 0, f).bounds(here).hess_ww_min == -4.0
    assert Combined(1, f, 2, f).bounds(here).hess_ww_min == 3.0


def test_kinks_are_those_of_both():
    # kills: combined/kinks-of-one
    @dataclasses.dataclass(frozen=True)
    class Kinked(quadratic.Quadratic):
        at: float = 0.0

        def kink_distance(self, lam, w, lam_moves=None, w_moves=None):
            return abs(float(w[0]) - self.at)

    base = quadratic.objective(ww=np.eye(2), n=1)
    one, two = (Kinked(base.ww, base.lw, base.ll, base.w1, base.l1, at=x) for x in (1.0, 3.0))
    lam, w = np.zeros(1), np.array([2.5, 0.0])
    assert Combined(1, one, 1, two).kink_distance(lam, w) == 0.5
    assert Combined(1, two, 1, one).kink_distance(lam, w) == 0.5
    # the restricted point is (1 + 2x, …): x = 1 stands on the kink at 3
    assert Restricted(two, np.ones(2), np.array([[2.0], [0.0]])).kink_distance(lam, np.ones(1)) == 0.0


def test_parts_that_do_not_fit_are_refused():
    f, g = QUADRATIC.lower, QUADRATIC.upper
    with pytest.raises(BadInput, match="n = 2 and 2, d = 3 and 5"):
        Combined(1, f, 1, quadratic.random(n=2, d=5, seed=0).lower)
    with pytest.raises(BadInput, match="'numpy' and 'rational'"):
        Combined(1, f, 1, g.to("rational"))
    with pytest.raises(BadInput, match="in a sum on 'numpy'"):
        Combined(1, f.to("rational"), 1, g.to("rational"))
