"""Proximal steps: against their definition by minimisation, and their Jacobians against autograd and complex steps."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.arrays import backend
from refimpl.errors import BadInput
from refimpl.sets import Ball, Box, SpectralBall
from refimpl.solvers import Projection, SoftThreshold
from tests.backends import everywhere
from tests.rounding import EPS, assert_rounded

B = backend()
STEP = 0.5
CENTRE = np.array([0.5, -0.25, 1.0])
POINTS = np.array([[2.0, -0.125, 0.25], [0.125, 3.0, -4.0], [0.5, 0.0, 0.75], [-0.75, 0.625, 9.0]])
PROXIMALS = {
    "soft": SoftThreshold(0.75),
    "box": Projection(Box(-0.5, 1.0)),
    "half box": Projection(Box(None, np.array([1.0, 0.5, 2.0]))),
    "ball": Projection(Ball(1.0)),
    "ball with centre": Projection(Ball(0.75, CENTRE)),
}
each = pytest.mark.parametrize("kind", PROXIMALS)


def literal(kind, x):
    """The same in the complex plane: which piece holds is read off the real part; products are bilinear."""
    if kind == "soft":
        cut = STEP * 0.75
        return np.where(x.real > cut, x - cut, np.where(x.real < -cut, x + cut, 0))
    if kind == "box":
        return np.where(x.real < -0.5, -0.5, np.where(x.real > 1, 1, x))
    if kind == "half box":
        return np.where(x.real > [1, 0.5, 2], [1, 0.5, 2], x)
    radius, centre = (1.0, 0 * CENTRE) if kind == "ball" else (0.75, CENTRE)
    y = x - centre
    return x if np.linalg.norm(y.real) <= radius else centre + radius * y / np.sqrt(np.sum(y * y))


@each
@pytest.mark.parametrize("x", POINTS, ids=str)
def test_the_jacobian_by_complex_steps_and_by_autograd(kind, x):
    # kills: proximal/soft-jacobian-inverted, -box-jacobian-inverted, -ball-share-dropped, -ball-tangent-dropped
    from autograd import jacobian

    wanted = np.array([literal(kind, x + 1e-200j * e).imag / 1e-200 for e in np.eye(3)]).T
    prox = PROXIMALS[kind]
    found = prox.jacobian(x, STEP, B)
    assert_rounded(found.dense(), wanted, terms=10.0, count=3)
    assert_rounded(prox(x, STEP, B), literal(kind, x + 0j).real, terms=10.0, count=3)
    assert_rounded(jacobian(lambda y: prox(y, STEP, backend("autograd")))(x), wanted, terms=10.0, count=3)
    v = np.array([1.0, -2.0, 0.5])
    assert_rounded(found @ v, wanted @ v, terms=10.0, count=3)
    assert_rounded(found.T @ v, wanted.T @ v, terms=10.0, count=3)


@each
def test_the_value_minimises(kind):
    """Nothing near the proximal point is better in h step + ½‖· − x‖², h being ∞ off the set."""
    # kills: proximal/step-not-in-the-threshold
    rng, prox = np.random.default_rng(0), PROXIMALS[kind]

    def objective(y, x):
        if kind != "soft" and not prox.onto.contains(y, B):
            return np.inf
        return (STEP * 0.75 * np.abs(y).sum() if kind == "soft" else 0.0) + ((y - x) ** 2).sum() / 2

    for x in POINTS:
        y = prox(x, STEP, B)
        best = objective(y, x)
        rounding = 10 * 3 * EPS["float64"] * (1 + np.linalg.norm(x)) ** 2
        for _ in range(20):  # the objective is strongly convex
            move = rng.standard_normal(3) / 100
            assert objective(y + move, x) >= best + (move**2).sum() / 2 - rounding


@everywhere
@each
def test_everywhere_and_over_leading_axes(place, kind):
    prox = place.move(PROXIMALS[kind])
    A = backend(place.backend)
    x = place.array(POINTS.reshape(2, 2, 3))
    found, values = prox.jacobian(x, STEP, A), prox(x, STEP, A)
    assert found.lead in (0, 2)
    wanted = np.array([PROXIMALS[kind].jacobian(p, STEP, B).dense() for p in POINTS]).reshape(2, 2, 3, 3)
    assert_rounded(found.dense(), wanted, terms=10.0, count=3)
    exact = np.array([PROXIMALS[kind](p, STEP, B) for p in POINTS]).reshape(2, 2, 3)
    assert_rounded(values, exact, terms=10.0, count=3)


def test_boxes_and_thresholds_over_the_rationals():
    Q = backend("rational")
    x = Q.asarray([2.0, -0.125, 0.375])
    for kind in ("soft", "box"):
        prox = PROXIMALS[kind].to("rational")
        here = PROXIMALS[kind]
        points = x if kind == "soft" else Q.asarray([2.0, -0.125, -3.0])
        host = np.array([2.0, -0.125, 0.375]) if kind == "soft" else np.array([2.0, -0.125, -3.0])
        assert [float(e) for e in prox(points, Q.scalar(STEP), Q)] == here(host, STEP, B).tolist()
        dense = prox.jacobian(points, Q.scalar(STEP), Q).dense()
        assert (dense == Q.asarray(here.jacobian(host, STEP, B).dense())).all()
    inside = Projection(Ball(4.0)).to("rational")
    assert (inside.jacobian(x, 1, Q).dense() == Q.eye(3)).all()
    with pytest.raises(BadInput, match="nearest point is not available"):
        Projection(Ball(1.0)).to("rational")(x, 1, Q)


def test_at_the_kinks_the_piece_that_holds_them_decides():
    """Boundaries count as inside; |x| = step τ as cut off; a coordinate that is held does not move."""
    # kills: proximal/soft-kink, -box-held-coordinate-moves, -ball-point-moves, -ball-slack-outside
    cut = STEP * 0.75
    assert SoftThreshold(0.75).jacobian(np.array([cut, -cut, 2 * cut]), STEP, B).dense().tolist() == [
        [0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0],
        [0.0, 0.0, 1.0],
    ]
    held = Box(np.array([0.0, 1.0, 0.0]), np.array([1.0, 1.0, 1.0]))
    found = Projection(held).jacobian(np.array([0.0, 1.0, 1.0]), STEP, B).dense()
    assert np.diag(found).tolist() == [1.0, 0.0, 1.0]
    sphere = np.array([0.6, 0.8, 0.0])
    assert (Projection(Ball(1.0)).jacobian(sphere, STEP, B).dense() == np.eye(3)).all()
    # what project leaves as it is, rounding outside, moves as it is
    outside = sphere * (1 + 2.0**-51)
    assert (Ball(1.0).project(outside, B) == outside).all()
    assert (Projection(Ball(1.0)).jacobian(outside, STEP, B).dense() == np.eye(3)).all()
    for x in (np.zeros(3), sphere):
        assert (Projection(Ball(0.0)).jacobian(x, STEP, B).dense() == 0).all()
    assert (SoftThreshold(0)(sphere, STEP, B) == sphere).all()


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_balls_of_extreme_sizes(size):
    # kills: proximal/ball-length-overflows
    x = size * np.array([3.0, 4.0])
    found = Projection(Ball(size)).jacobian(x, 1.0, B).dense()
    assert_rounded(found, [[0.128, -0.096], [-0.096, 0.072]], terms=1.0, count=2)


def test_single_precision_stays_single():
    x = POINTS.astype(np.float32)
    single = backend("numpy", dtype="float32")
    for prox in PROXIMALS.values():
        moved = prox.to(single)
        assert moved(x, STEP, single).dtype == moved.jacobian(x, STEP, single).dense().dtype == np.float32


def test_refusals_say_what_they_found():
    with pytest.raises(BadInput, match="measured: -1"):
        SoftThreshold(-1)
    with pytest.raises(BadInput, match="measured: nan"):
        SoftThreshold(float("nan"))
    with pytest.raises(BadInput, match="measured: float"):
        Projection(1.0)
    with pytest.raises(BadInput, match="measured: SpectralBall"):
        Projection(SpectralBall(1, 3, 1.0)).jacobian(POINTS[0], 1.0, B)
