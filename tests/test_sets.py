"""Projections: by the variational inequality, by independent formulas, and at the corners of what is legal."""

from __future__ import annotations

from fractions import Fraction
from math import inf, nan, sqrt

import numpy as np
import pytest

from refimpl.arrays import Backend, backend, to_numpy
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.sets import Ball, BallInBox, Blocks, Box, Rows, SpectralBall, gradient_mapping
from tests.backends import everywhere, round_trip
from tests.rounding import EPS, assert_rounded

NUMPY = backend()
LOW, HIGH, CENTRE = (
    np.array([-1.0, 0.25, -3.0, 0.0]),
    np.array([0.5, 2.0, -1.0, 0.0]),
    np.array([0.5, -1.0, -2.0, 1.0]),
)
SETS = {
    "box": Box(LOW, HIGH),
    "half-line": Box(0.25, None),
    "ball": Ball(1.5),
    "ball elsewhere": Ball(0.75, CENTRE),
    "point": Ball(0.0, CENTRE),
    "spectral": SpectralBall(2, 2, 0.75),
    "blocks": Blocks(((1, Box(0.0, 1.0)), (2, None), (1, Ball(0.5)))),
    "rows": Rows(2, Ball(1.0, np.array([[0.5, 0.0], [-1.0, 2.0]]))),
    "ball in box": BallInBox(Ball(2.5, CENTRE), Box(LOW, HIGH)),
    "ball in box, scalars": BallInBox(Ball(1.0), Box(-0.75, 0.5)),
}
SIZE = 2 + sum(float(np.linalg.norm(x)) for x in (LOW, HIGH, CENTRE))  # of every number in these sets
each = pytest.mark.parametrize("name", SETS)


def points(seed, *shape, size=3.0):
    return size * np.random.default_rng(seed).standard_normal(shape)


# -- what a projection is --------------------------------------------------------------------------------------
@each
def test_a_projection_satisfies_the_variational_inequality(name):
    """⟨x − P(x), y − P(x)⟩ <= 0 for every y of the set: with P(x) in the set this is the projection's definition."""
    # kills: a box clipped twice at one end, the radius forgotten, ‖x‖ for ‖x − c‖, a spectral norm without Vᵀ,
    # one projection after the other
    S, x = SETS[name], points(0, 200, 4)
    P, y = S.project(x, NUMPY), S.project(points(1, 300, 4), NUMPY)
    assert S.contains(P, NUMPY).all()
    products = (x - P) @ (y[:, None, :] - P).swapaxes(-1, -2)  # (y, x, x): the pairs of one x on its diagonal
    size = np.linalg.norm(x - P, axis=-1) * SIZE
    assert np.all(np.diagonal(products, axis1=-2, axis2=-1) <= 10 * 4 * EPS["float64"] * size)


@each
def test_projecting_twice_is_projecting_once(name):
    # kills: a projection that lands where `contains` refuses
    P = SETS[name].project(points(2, 50, 4), NUMPY)
    assert (SETS[name].project(P, NUMPY) == P).all()
    SETS[name].require(P, NUMPY)


@each
def test_projections_bring_points_no_further_apart(name):
    S, x, y = SETS[name], points(3, 200, 4), points(4, 200, 4)
    before, after = (
        np.linalg.norm(a - b, axis=-1) for a, b in ((x, y), (S.project(x, NUMPY), S.project(y, NUMPY)))
    )
    assert np.all(after <= before + 10 * 4 * EPS["float64"] * SIZE)
    assert np.any(after < before)


@each
def test_what_is_inside_stays_as_it_is(name):
    # kills: an interior point recomputed
    S = SETS[name]
    centre = S.project(np.zeros(4), NUMPY)
    inside = centre + 0.5 * (S.project(points(5, 50, 4), NUMPY) - centre)  # halfway to the boundary or beyond
    kept = S.contains(inside, NUMPY)
    assert kept.sum() >= 40
    assert (S.project(inside, NUMPY)[kept] == inside[kept]).all()


@each
@everywhere
def test_every_backend_projects_alike(place, name):
    # kills: an operation that only NumPy allows
    S, x = place.move(SETS[name]), points(6, 3, 2, 4)
    P = S.project(place.array(x), backend(place.backend))
    assert tuple(P.shape) == x.shape
    assert_rounded(P, SETS[name].project(x, NUMPY), terms=SIZE, count=4)
    S.require(P, backend(place.backend))


@each
def test_leading_axes_are_a_loop(name):
    S, x = SETS[name], points(7, 3, 2, 4)
    P = S.project(x, NUMPY)
    for at in np.ndindex(3, 2):
        assert_rounded(S.project(x[at], NUMPY), P[at], terms=SIZE, count=4)
        assert bool(S.contains(x[at], NUMPY)) == S.contains(x, NUMPY)[at]


# -- each by a formula of its own --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["box", "half-line"])
def test_boxes_are_exact_over_the_rationals(name):
    # kills: low and high exchanged, one of them left out
    B, S = backend("rational"), SETS[name]
    x = [Fraction(3, 7), Fraction(-1, 3), Fraction(5, 2), Fraction(1, 9)]
    low = LOW if name == "box" else np.full(4, 0.25)
    high = HIGH if name == "box" else np.full(4, 10.0)
    expected = [min(max(a, Fraction(b)), Fraction(c)) for a, b, c in zip(x, low, high, strict=True)]
    P = S.to("rational").project(B.asarray(x), B)
    assert [Fraction(int(e.p), int(e.q)) for e in P] == expected
    assert Box(Fraction(1, 3), None).to("rational").project(B.asarray([0]), B)[0] == B.scalar(Fraction(1, 3))


def test_a_ball_in_closed_form():
    # kills: ‖x‖² for ‖x‖, the centre added once too often
    assert_rounded(Ball(1.0).project(np.array([3.0, 4.0]), NUMPY), [0.6, 0.8], terms=1, count=2)
    moved = Ball(2.5, np.array([1.0, -2.0])).project(np.array([4.0, 2.0]), NUMPY)
    assert_rounded(moved, [2.5, 0.0], terms=6, count=2)


def test_exact_numbers_go_as_far_as_they_can():
    B = backend("rational")
    unit = BallInBox(Ball(1.0), Box(-1.0, 0.625)).to("rational")
    x = B.asarray([Fraction(3, 5), Fraction(4, 5)])
    assert (Ball(1.0).to("rational").project(x, B) == x).all()  # on the sphere, exactly
    assert unit.project(x, B).tolist() == [x[0], B.scalar(0.625)]
    out = B.asarray([Fraction(3, 5), Fraction(4, 5) + Fraction(1, 2**60)])
    assert not Ball(0.75).to("rational").contains(B.asarray([Fraction(4, 5)]), B)
    for S in (Ball(1.0).to("rational"), BallInBox(Ball(1.0), Box(-1.0, 1.0)).to("rational")):
        with pytest.raises(BadInput, match="nearest point is not available on backend 'rational'"):
            S.project(out, B)
        with pytest.raises(HypothesisViolated, match="outside its set"):
            S.require(out, B)


def test_a_spectral_projection_is_proved_by_duality():
    """R‖X − P‖_* = ⟨X − P, P⟩ with ‖P‖₂ <= R: X − P lies in the normal cone at P (of the nuclear norm's duality)."""
    # kills: U for Vᵀ, rows and columns exchanged, singular values clipped from below
    S, X = SpectralBall(3, 5, 1.25), points(8, 20, 15)
    P = S.project(X, NUMPY)
    rest = (X - P).reshape(20, 3, 5)
    nuclear = np.linalg.svd(rest, compute_uv=False).sum(axis=-1)
    assert (nuclear > 1).all()
    assert np.linalg.norm(P.reshape(20, 3, 5), 2, axis=(-2, -1)).max() <= 1.25 * (1 + 10 * 8 * EPS["float64"])
    assert_rounded(((X - P) * P).sum(axis=-1), 1.25 * nuclear, terms=1.25 * nuclear.max(), count=15)


def test_a_diagonal_matrix_is_clipped():
    D = np.array([3.0, 0.0, 0.0, 0.0, -0.5, 0.0])
    assert_rounded(SpectralBall(2, 3, 1.0).project(D, NUMPY), [1, 0, 0, 0, -0.5, 0], terms=1, count=2)


def test_parts_are_projected_one_by_one():
    # kills: a block shifted by one, rows taken for columns
    x = points(9, 5, 4)
    P = SETS["blocks"].project(x, NUMPY)
    assert (P[:, :1] == Box(0.0, 1.0).project(x[:, :1], NUMPY)).all()
    assert (P[:, 1:3] == x[:, 1:3]).all()
    assert (P[:, 3:] == Ball(0.5).project(x[:, 3:], NUMPY)).all()
    rows = SETS["rows"].project(x, NUMPY)
    for i, centre in enumerate(SETS["rows"].inner.centre):
        assert_rounded(
            rows[:, 2 * i : 2 * i + 2],
            Ball(1.0, centre).project(x[:, 2 * i : 2 * i + 2], NUMPY),
            terms=SIZE,
            count=2,
        )


def test_three_rows_of_two():
    # kills: columns for rows where the matrix is not square
    x = points(18, 6)
    P = Rows(3, Ball(1.0)).project(x, NUMPY)
    for i in range(3):
        assert (P[2 * i : 2 * i + 2] == Ball(1.0).project(x[2 * i : 2 * i + 2], NUMPY)).all()


@pytest.mark.parametrize("S", [Rows(2, Box(0.0, 1.0)), Blocks(((2, Box(0.0, 1.0)), (2, Box(0.0, None))))])
def test_parts_have_to_be_inside_all(S):
    x = np.array(
        [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, -1.0], [-1.0, 0.5, 0.5, 0.5], [2.0, -1.0, -1.0, -1.0]]
    )
    assert S.contains(x, NUMPY).tolist() == [True, False, False, False]


# -- ball and box ------------------------------------------------------------------------------------------------
def test_one_projection_after_the_other_is_not_the_projection():
    """Data x = (0.9, 0) in [0, 1]², perturbed by z = (3, 4) within a ball of radius 1 (contraction, 6.3)."""
    # kills: the ball, then the box; the box, then the ball
    x, z = np.array([0.9, 0.0]), np.array([3.0, 4.0])
    ball, box = Ball(1.0), Box(0 - x, 1 - x)
    sequential = box.project(ball.project(z, NUMPY), NUMPY)
    assert_rounded(sequential, [1 - 0.9, 0.8], terms=1, count=2)
    exact = BallInBox(ball, box).project(z, NUMPY)
    assert_rounded(exact, [1 - 0.9, sqrt(1 - (1 - 0.9) ** 2)], terms=1, count=2)
    distances = [round(float(np.linalg.norm(z - p)), 3) for p in (sequential, exact)]
    assert distances == [4.319, 4.176]


def by_bisection(x, ball, box):
    """P(x) and the norm of its free part: θ by bisection of the dual equation over the rationals, to 2^-90."""
    centre = [Fraction(0)] * len(x) if ball.centre is None else [Fraction(float(c)) for c in ball.centre]
    target = Fraction(float(ball.radius)) ** 2
    low, high = (
        [Fraction(float(b)) - c for b, c in zip(np.broadcast_to(bound, len(x)), centre, strict=True)]
        for bound in (box.low, box.high)
    )
    reach = [Fraction(float(a)) - c for a, c in zip(x, centre, strict=True)]

    def p(theta):
        return [min(max(theta * r, a), b) for r, a, b in zip(reach, low, high, strict=True)]

    def norm2(theta):
        return sum(e * e for e in p(theta))

    left, right = (Fraction(1), Fraction(1)) if norm2(Fraction(1)) <= target else (Fraction(0), Fraction(1))
    for _ in range(90 if left < right else 0):
        middle = (left + right) / 2
        left, right = (middle, right) if norm2(middle) <= target else (left, middle)
    free = sum(e * e for e, a, b in zip(p(left), low, high, strict=True) if a < e < b)
    return np.array([float(e + c) for e, c in zip(p(left), centre, strict=True)]), sqrt(free)


@pytest.mark.parametrize("seed", range(60))
def test_the_dual_equation_is_solved_to_rounding(seed):
    """The norm's rounding n eps R moves the free part by n eps R²/‖free part‖ at most."""
    # kills: a piece too early or too late, the fixed coordinates left out of C, bounds seen from the origin,
    # a coordinate held at its lower end when it should be free
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    centre = rng.standard_normal(n) if seed % 3 else None
    low = rng.standard_normal(n)
    box = Box(low, low + rng.exponential(size=n) * (rng.random(n) > 0.1))
    origin = np.zeros(n) if centre is None else centre
    away = float(np.linalg.norm(box.project(origin, NUMPY) - origin))
    ball = Ball(away * (1 + 1e-9) + rng.exponential() * (seed % 5 > 0), centre)
    x = 4 * rng.standard_normal((3, n))
    P = BallInBox(ball, box).project(x, NUMPY)
    for found, at in zip(P, x, strict=True):
        expected, free = by_bisection(at, ball, box)
        scale = ball.radius + float(np.linalg.norm(origin)) + float(np.abs([box.low, box.high]).max())
        condition = max(1.0, scale / free) if free > 0 else 1.0
        assert_rounded(found, expected, terms=scale, count=n, condition=condition)


@pytest.mark.parametrize("power", [-1000, -700, -565, 0, 532, 1000])
def test_a_ball_in_a_box_of_any_size_is_the_same_one(power):
    """Scaled by a power of two, projections are scaled, bit for bit. Kills: R² and ‖p‖² of numbers of that size."""
    v = 2.0**power
    for box, centre in (
        (Box(-2.0, 0.9), None),
        (Box(0.25, 0.5), None),
        (Box(-1.0, 0.5), np.array([0.25, -0.5])),
    ):
        x = np.array([3.0, 2.0])
        moved = None if centre is None else v * centre
        one = BallInBox(Ball(1.0, centre), box).project(x, Backend())
        other = BallInBox(Ball(v, moved), Box(v * box.low, v * box.high)).project(v * x, Backend())
        assert (other == v * one).all()


def test_scipy_finds_no_nearer_point():
    from scipy.optimize import minimize

    S, rng = SETS["ball in box"], np.random.default_rng(10)
    middle = S.box.project(CENTRE, NUMPY)  # inside the ball, so points drawn towards it come into it
    for x in 3 * rng.standard_normal((5, 4)):
        P = S.project(x, NUMPY)
        found = minimize(
            lambda y, x=x: ((y - x) ** 2).sum(),
            S.project(rng.standard_normal(4), NUMPY),
            jac=lambda y, x=x: 2 * (y - x),
            bounds=list(zip(LOW, HIGH, strict=True)),
            constraints={"type": "ineq", "fun": lambda y: 2.5**2 - ((y - CENTRE) ** 2).sum()},
            method="SLSQP",
        )
        assert found.success
        y = S.box.project(found.x, NUMPY)
        while not S.contains(y, NUMPY):  # SciPy's constraints hold to a tolerance
            y = middle + (1 - 2.0**-20) * (y - middle)
        assert np.linalg.norm(P - x) <= np.linalg.norm(y - x) + 10 * 4 * EPS["float64"] * SIZE


@pytest.mark.parametrize(
    ("ball", "box", "x", "expected"),
    [
        (Ball(1.0), Box(None, None), [3.0, 4.0], [0.6, 0.8]),  # the ball alone
        (Ball(1.0), Box(None, 0.0), [3.0, -4.0], [0.0, -1.0]),
        (Ball(9.0), Box(-1.0, 1.0), [3.0, -4.0], [1.0, -1.0]),  # the box alone
        (Ball(0.0), Box(-1.0, 1.0), [3.0, -4.0], [0.0, 0.0]),
        (Ball(5.0), Box(np.array([3.0, 4.0]), None), [9.0, 9.0], [3.0, 4.0]),  # they touch
        (Ball(1.0), Box(-2.0, 2.0), [0.0, 5.0], [0.0, 1.0]),  # a coordinate that does not move
        (Ball(1.0), Box(np.array([0.5, -inf]), np.array([inf, inf])), [-3.0, 4.0], [0.5, sqrt(0.75)]),
        (Ball(1.0), Box(np.array([-2.0, -0.5]), np.array([-0.5, 2.0])), [3.0, 4.0], [-0.5, sqrt(0.75)]),
        (Ball(1.0), Box(-0.5, 0.5), [1e200, 1.0], [0.5, 0.5]),
        (Ball(1.0), Box(np.array([-0.5, -2.0]), np.array([0.5, 2.0])), [1e300, 1.0], [0.5, sqrt(0.75)]),
        (Ball(1.0), Box(-1.0, 1.0), [1e200, 1e-200], [1.0, 0.0]),
        (Ball(2.0), Box([-3.0, -9.0], [-1.0, 9.0]), [0.0, 5.0], [-1.0, sqrt(3)]),  # x_0 = c_0, outside
    ],
)
def test_balls_in_boxes_in_closed_form(ball, box, x, expected):
    P = BallInBox(ball, box).project(np.array(x), NUMPY)
    assert_rounded(P, expected, terms=5.0, count=2)
    assert_rounded(BallInBox(ball, box).project(np.array([x, x]), NUMPY)[1], P, terms=1.0, count=2)


def test_rounding_leaves_no_point_outside_the_box():
    """(high − c) + c is above high for some of these."""
    rng = np.random.default_rng(19)
    centre, high = rng.standard_normal(500), rng.standard_normal(500)
    assert (high - centre + centre > high).any()
    S = BallInBox(Ball(30.0, centre), Box(-9.0, high))
    P = S.project(50 * rng.standard_normal((20, 500)), NUMPY)
    assert (P <= high).all()
    assert (P == high).any()


# -- numbers at the edge -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e160, 1e300])
def test_squares_neither_overflow_nor_vanish(size):
    # kills: ‖x‖² computed as it stands
    x = size * np.array([3.0, 4.0])
    ball = Ball(min(1.0, size / 1e9))
    assert_rounded(ball.project(x, NUMPY) / ball.radius, [0.6, 0.8], terms=1, count=2)
    assert (ball.project(0 * x, NUMPY) == 0).all()


@each
def test_what_is_no_real_number_has_no_nearest_point(name):
    # kills: NaN handed on, the imaginary part compared or dropped
    x = np.array([[nan, 1.0, 2.0, 3.0], [9.0, 9.0, 9.0, 9.0]])
    S = SETS[name]
    for bad, what in ((x, "not finite"), (x[1] + 1j, "dtype"), (x[1] * inf, "not finite")):
        with pytest.raises(BadInput, match=what):
            S.project(bad)
    with pytest.raises(BadInput, match="not finite"):
        gradient_mapping(S, x[1], x[0], 0.5, NUMPY)
    assert S.contains(x, NUMPY).tolist() == [False, False] or name in ("half-line",)
    with pytest.raises(HypothesisViolated):
        S.require(x[:1], NUMPY)


@each
def test_lists_are_points_and_numpy_is_the_default(name):
    """Kills: a list taken for an array, a backend that has to be named."""
    S, x = SETS[name], points(20, 2, 4)
    P = S.project(x, NUMPY)
    for given in (x, x.tolist(), tuple(x.tolist())):
        assert (S.project(given) == P).all()
        assert S.contains(given).tolist() == S.contains(x, NUMPY).tolist()
    S.require(P.tolist())
    with pytest.raises(HypothesisViolated, match="outside its set"):
        S.require([[-99.0] * 4, [99.0] * 4])
    whole = np.arange(4) - 2
    assert (S.project(whole) == S.project(whole * 1.0)).all()


def test_lists_are_bounds_and_centres():
    """One axis, not one more: exactly what arrays give, on every backend."""
    assert Box([-1.0, 0.25, -3.0, 0.0], (0.5, 2.0, -1.0, 0.0)).shape == (4,)
    pairs = (
        (Box(LOW.tolist(), HIGH.tolist()), SETS["box"]),
        (Ball(0.75, CENTRE.tolist()), SETS["ball elsewhere"]),
        (Rows(2, Ball(1.0, [[0.5, 0.0], [-1.0, 2.0]])), SETS["rows"]),
        (BallInBox(Ball(2.5, tuple(CENTRE)), Box(LOW.tolist(), HIGH.tolist())), SETS["ball in box"]),
        (Box([-1, 0, -3, 0], np.array([1, 2, -1, 0])), Box(np.floor(LOW), np.ceil(HIGH))),
    )
    x = points(21, 5, 4)
    for listed, same in pairs:
        assert (listed.project(x) == same.project(x)).all()
        B = backend("strict")
        assert (to_numpy(listed.to("strict").project(B.asarray(x), B)) == same.project(x)).all()


def test_single_precision_has_its_own_rounding():
    B = backend("numpy", dtype="float32")
    S = SETS["ball elsewhere"].to("numpy", dtype="float32")
    P = S.project(B.asarray(points(11, 50, 4)), B)
    assert P.dtype == np.float32
    S.require(P, B)
    assert (S.project(P, B) == P).all()


@pytest.mark.parametrize("name", ["ball elsewhere", "spectral", "ball in box"])
def test_the_rounding_allowed_is_the_one_stated(name):
    # kills: a slack so wide that it hides a wrong radius
    S = SETS[name]
    P = S.project(points(12, 50, 4, size=9.0), NUMPY)
    centre = CENTRE if name != "spectral" else np.zeros(4)
    outside = centre + (P - centre) * (1 + 10 * 2 * 10 * 4 * EPS["float64"] * (1 + np.linalg.norm(centre)))
    assert not S.contains(outside, NUMPY).any()
    with pytest.raises(HypothesisViolated, match=r"distance \d"):
        S.require(outside[0], NUMPY)


def test_the_distance_is_measured():
    # kills: another point's distance, the distance inside
    for S, x, distance in (
        (Ball(1.0), [[0.0, 3.0], [0.0, 0.5]], "distance 2;"),
        (Box(0.0, 1.0), [[4.0, 5.0], [0.0, 0.0]], "distance 5;"),
        (Box(0.0, 1.0, open=True), [4.0, 5.0], "distance 5;"),
        (SpectralBall(1, 2, 1.0), [3.0, 4.0], "distance 4;"),
    ):
        with pytest.raises(HypothesisViolated) as caught:
            S.require(np.array(x), NUMPY)
        assert distance in caught.value.measured


def test_an_open_set_says_that_its_boundary_is_excluded():
    with pytest.raises(HypothesisViolated, match="distance 0, on the boundary, which an open set excludes;"):
        Box(0.0, None, open=True).require(np.array([0.0, 1.0]), NUMPY)
    with pytest.raises(HypothesisViolated) as caught:
        Box(0.0, None, open=True).require(np.array([-1.0, 1.0]), NUMPY)
    assert "boundary" not in str(caught.value)


@pytest.mark.parametrize("S", [Box(0.0, 1.0), Ball(1.0), BallInBox(Ball(1.0), Box(0.0, 1.0))])
def test_no_lambda_is_always_inside(S):
    empty = np.zeros((3, 0))
    S.require(empty, NUMPY)
    assert S.project(empty, NUMPY) is empty
    assert S.contains(empty, NUMPY).tolist() == [True] * 3


@each
def test_sets_are_values(name):
    S = SETS[name]
    x = points(13, 2, 4)
    assert (round_trip(S).project(x, NUMPY) == S.project(x, NUMPY)).all()
    S.to("interval")
    S.to("rational")


# -- balls of the interval backend ---------------------------------------------------------------------------------
def test_a_ball_of_numbers_is_projected_where_it_is_proved_inside():
    from flint import arb

    B = backend("interval")
    inside = B.asarray([0.25, 0.5])
    across = B.asarray(np.array([arb(0.25), arb(0.5, 0.6)], dtype=object))
    for S in (
        Box(0.0, 1.0),
        Ball(1.0),
        BallInBox(Ball(1.0), Box(0.0, 1.0)),
        Rows(2, Box(0.0, 1.0)),
        Box(None, None),
    ):
        S = S.to("interval")
        S.require(inside, B)
        assert S.project(inside, B) is inside or (S.project(inside, B).decided() == inside.decided()).all()
        if isinstance(S, Box) and S.low is None:
            continue
        with pytest.raises(HypothesisViolated):
            S.require(across, B)
        with pytest.raises(BadInput, match="not available on backend 'interval'"):
            S.project(across, B)


@pytest.mark.parametrize("name", ["rational", "interval"])
def test_singular_values_need_floats(name):
    B = backend(name)
    for call in ("project", "require", "contains"):
        with pytest.raises(BadInput, match="singular value decomposition") as caught:
            getattr(SETS["spectral"].to(name), call)(B.zeros((4,)), B)
        assert '"numpy"' in caught.value.advice


# -- boxes, open and closed ----------------------------------------------------------------------------------------
BOXES = {  # box, inside, outside
    "closed": (Box(0.0, 1.0), [0.0, 1.0], [0.5, 1.0 + 2**-52]),
    "open": (Box(0.0, 1.0, open=True), [2.0**-60, 1 - 2**-53], [0.0, 0.5]),
    "open above": (Box(0.0, 1.0, open=True), [0.5, 0.5], [0.5, 1.0]),
    "from below": (Box(0.0, None), [0.0, 1e300], [0.0, -1e-300]),
    "from above": (Box(None, 2.0), [-1e300, 2.0], [3.0, 0.0]),
    "each its own": (Box(np.array([0.0, 5.0]), np.array([1.0, 6.0])), [1.0, 5.0], [5.0, 1.0]),
    "everything": (Box(None, None), [-1e300, 1e300], None),
}


@pytest.mark.parametrize("name", ["numpy", "strict", "rational", "interval"])
@pytest.mark.parametrize("case", BOXES)
def test_boxes(name, case):
    # kills: < for <= either way, any for all, low for high
    box, inside, outside = BOXES[case]
    B, box = backend(name), box.to(name)
    box.require(B.asarray(inside), B)
    if outside is None:
        return
    with pytest.raises(HypothesisViolated, match="outside its set") as caught:
        box.require(B.asarray(outside), B)
    assert f"{min(outside):.6g}" in caught.value.measured
    with pytest.raises(HypothesisViolated):
        box.require(B.asarray([inside, outside]), B)  # one λ of a batch


def test_an_open_box_has_no_nearest_point():
    # kills: the closed box's projection onto an open one
    S = Box(0.0, None, open=True)
    inside = np.array([[1.0, 2.0], [2.0**-1000, 3.0]])
    assert S.project(inside, NUMPY) is inside
    for outside in ([0.0, 1.0], [-1.0, 1.0]):
        with pytest.raises(HypothesisViolated, match="no nearest point"):
            S.project(np.array(outside), NUMPY)


# -- refusals ----------------------------------------------------------------------------------------------------
REFUSED = {
    "a bound that is not a number": lambda: Box(nan, None),
    "a complex bound": lambda: Box(None, np.array([1j, 0.0])),
    "bounds of unequal length": lambda: Box([[1.0], [1.0, 2.0]], None),
    "bounds of two lengths": lambda: Box([0.0, 0.0], [1.0, 1.0, 1.0]),
    "a bound that is a text": lambda: Box("0", None),
    "a centre that is a number": lambda: Ball(1.0, 0.5),
    "a centre that is not finite": lambda: Ball(1.0, [0.0, inf]),
    "a centre that is not real": lambda: Ball(1.0, [0.0, 1j]),
    "a list of unequal rows": lambda: SETS["ball"].project([[1.0], [1.0, 2.0]]),
    "a number for a point": lambda: SETS["ball"].project(3.0),
    "points of another backend": lambda: SETS["ball"].project(np.array([3.0, 4.0]), backend("strict")),
    "negative radius": lambda: Ball(-1.0),
    "radius not a number": lambda: Ball(nan),
    "radius infinite": lambda: SpectralBall(2, 2, inf),
    "radius a text": lambda: Ball("one"),
    "box empty": lambda: Box(1.0, 0.0),
    "box without a number": lambda: Box(nan, 0.0),
    "open box of one point": lambda: Box(1.0, 1.0, open=True),
    "one entry of a box": lambda: Box(np.zeros(3), np.array([1.0, -1.0, 1.0])),
    "no rows": lambda: Rows(0, Ball(1.0)),
    "rows not whole": lambda: SpectralBall(2.0, 2, 1.0),
    "columns negative": lambda: SpectralBall(2, -2, 1.0),
    "rows of another number": lambda: Rows(3, Box(np.zeros((2, 2)), None)),
    "block of another size": lambda: Blocks(((2, Box(np.zeros(3), None)),)),
    "block of size 0": lambda: Blocks(((0, None), (1, Ball(1.0)))),
    "blocks without a set": lambda: Blocks(((2, None),)),
    "no blocks": lambda: Blocks(()),
    "an open box in a ball": lambda: BallInBox(Ball(1.0), Box(0.0, 1.0, open=True)),
    "box and ball exchanged": lambda: BallInBox(Box(0.0, 1.0), Ball(1.0)),
    "two lengths": lambda: BallInBox(Ball(1.0, np.zeros(2)), Box(np.zeros(3), None)),
    "they do not meet": lambda: BallInBox(Ball(1.0), Box(np.array([0.8, 0.8]), None)),
    "they meet at no length": lambda: BallInBox(Ball(1.0), Box(1.5, None)),
    "they do not meet at this length": lambda: BallInBox(Ball(1.0), Box(0.8, None)).project(
        np.zeros(2), NUMPY
    ),
    "another length": lambda: Ball(1.0, np.zeros(3)).project(np.zeros(2), NUMPY),
    "one entry for three": lambda: Box(np.zeros(3), None).project(np.zeros(1), NUMPY),
    "one bound for three": lambda: Box(np.zeros(1), None).require(np.zeros(3), NUMPY),
    "rows that would be added": lambda: Box(np.zeros((2, 3)), None).project(np.zeros(3), NUMPY),
    "rows of unequal length": lambda: Rows(2, Ball(1.0)).project(np.zeros(3), NUMPY),
    "a matrix of another size": lambda: SETS["spectral"].require(np.zeros(5), NUMPY),
    "too many blocks": lambda: SETS["blocks"].project(np.zeros(3), NUMPY),
    "a number": lambda: SETS["box"].project(np.zeros(()), NUMPY),
    "a step of 0": lambda: gradient_mapping(None, np.zeros(2), np.ones(2), 0.0, NUMPY),
    "a step that is no number": lambda: gradient_mapping(None, np.zeros(2), np.ones(2), nan, NUMPY),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_to_do(case):
    with pytest.raises(BadInput) as caught:
        REFUSED[case]()
    assert caught.value.advice
    assert caught.value.measured is not None


def test_a_single_bound_meets_a_ball_where_the_length_allows():
    """(0.8, …) is 0.8 √n from the origin."""
    S = BallInBox(Ball(1.0), Box(0.8, None))
    assert_rounded(S.project(np.array([3.0]), NUMPY), [1.0], terms=1, count=1)


# -- the gradient mapping ------------------------------------------------------------------------------------------
def test_without_a_set_the_mapping_is_the_gradient():
    g = points(14, 3, 4)
    assert gradient_mapping(None, points(15, 3, 4), g, 0.25, NUMPY) is g


def test_the_gradient_mapping_is_exact_over_the_rationals():
    # kills: λ + αg, the division by α left out, λ projected and not the step
    B, box = backend("rational"), Box(0.0, 1.0).to("rational")
    lam, g = B.asarray([Fraction(1, 4), Fraction(1, 2), 1]), B.asarray([2, Fraction(1, 3), -5])
    found = gradient_mapping(box, lam, g, B.scalar(0.5), B)
    assert found.tolist() == B.asarray([Fraction(1, 2), Fraction(1, 3), 0]).tolist()


@each
def test_the_gradient_mapping_shrinks_and_descends(name):
    """⟨∇f, G_α⟩ >= ‖G_α‖² (contraction, (21)), and ‖G_α‖ falls with α."""
    # kills: λ − P without 1/α
    S, g = SETS[name], points(16, 100, 4)
    lam = S.project(points(17, 100, 4), NUMPY)
    sizes = []
    for alpha in (0.25, 1.0, 4.0):
        G = gradient_mapping(S, lam, g, alpha, NUMPY)
        rounding = 10 * 4 * EPS["float64"] * SIZE / alpha * np.linalg.norm(g, axis=-1)
        assert np.all((g * G).sum(axis=-1) >= (G * G).sum(axis=-1) - rounding)
        sizes.append(np.linalg.norm(G, axis=-1))
    assert np.all(sizes[1] <= sizes[0] + 10 * 4 * EPS["float64"] * SIZE * 4)
    assert np.all(sizes[2] <= sizes[1] + 10 * 4 * EPS["float64"] * SIZE)


def test_it_is_zero_where_the_gradient_points_out_of_the_set():
    ball = Ball(1.0)
    at = np.array([0.6, 0.8])
    assert_rounded(gradient_mapping(ball, at, -3 * at, 0.5, NUMPY), [0, 0], terms=2, count=2)
    assert to_numpy(gradient_mapping(ball, 0 * at, at, 0.5, NUMPY)).tolist() == at.tolist()
