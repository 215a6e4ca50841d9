"""Lower-level solvers: against their recursions, SciPy's minimisers, predicted rates, and what they refuse.

Comments name the mutants that a test kills.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import refimpl as ri
from refimpl import check_derivatives, solvers
from refimpl.arrays import backend, to_numpy
from refimpl.errors import BadInput, NotConverged
from refimpl.problem import BilevelProblem
from refimpl.zoo import rows, uppers
from tests.backends import everywhere
from tests.rounding import EPS, assert_rounded
from tests.solver_things import (
    AFFINE,
    FLAT,
    KAPPA,
    LOGISTIC,
    MISDIRECTED,
    QUADRATIC,
    STEP,
    TANH,
    D,
    solved,
)


def loop(phi, lam, w, steps):
    """w ← Φ(λ, w), as it is written."""
    states = [w]
    for _ in range(steps):
        states.append(phi(lam, states[-1]))
    return states


@everywhere
def test_iterations_are_their_loops(place):
    """States kept: the last K + 1, or all."""
    # kills: iteration-one-step-less, iteration-keeps-wrong-states, gradient-descent-step-ignored
    lam, w0 = QUADRATIC.start(), np.ones(D)
    plain = loop(lambda la, w: w - 0.1 * QUADRATIC.lower.grad_w(la, w), lam, w0, 6)
    problem = place.move(QUADRATIC)
    for keep in (None, 0, 2, 6):
        run = solvers.GradientDescent(6, 0.1).run(problem, place.array(lam), place.array(w0), keep=keep)
        assert run.steps == 6
        assert len(run.states) == (7 if keep is None else keep + 1)
        wanted = np.stack(plain[-len(run.states) :])
        assert_rounded(np.stack([to_numpy(s) for s in run.states]), wanted, terms=10.0, count=6 * D)
        assert (to_numpy(run.w) == to_numpy(run.states[-1])).all()
    lam, w0 = TANH.start(), np.ones(3)
    plain = loop(TANH.phi.value, lam, w0, 6)
    run = solvers.FixedPoint(6).run(place.move(TANH), place.array(lam), place.array(w0), keep=None)
    assert_rounded(np.stack([to_numpy(s) for s in run.states]), np.stack(plain), terms=10.0, count=6 * D)


def test_heavy_ball_is_its_recursion_exactly():
    # kills: heavy-ball-without-momentum, -momentum-sign, -forgets-previous
    problem, ball = QUADRATIC.to("rational"), solvers.HeavyBall(4, 0.125, 0.25)
    lam, w0 = problem.start(), problem.backend.asarray(np.arange(float(D)))
    before, w = w0, w0
    for _ in range(4):
        step = problem.backend.scalar(0.125)
        before, w = w, w - step * problem.lower.grad_w(lam, w) + (w - before) / 4
    run = ball.run(problem, lam, w0, keep=1)
    assert (run.w == w).all()
    assert (run.states[-1] == np.concatenate([w, before])).all()
    assert (ball.lift(w0, problem) == np.concatenate([w0, w0])).all()
    assert (
        ball.lift_T(np.concatenate([w, before]), problem) == w + before
    ).all()  # kills: heavy-ball-lift-transpose


def test_heavy_balls_jacobian_of_both_halves():
    # kills: every heavy-ball-jacobian-, -transpose-, -lambda- mutant
    for problem in (QUADRATIC, LOGISTIC):
        pair = solvers.HeavyBall(1, 0.2, 0.3).map(problem, problem.start(), problem.w(None), 1)
        channels = {row.channel for row in check_derivatives(pair)}
        assert {"autograd", "complex step", "adjoint"} <= channels
    skewed = solvers.descent.HeavyBallMap(TANH.phi, 0.3)  # kills: heavy-ball-not-transposed
    check_derivatives(skewed)
    assert skewed.d_w(TANH.start(), np.ones(6)).dense().shape == (6, 6)


def test_predicted_rates_of_gradient_descent_and_heavy_ball():
    """(κ−1)/(κ+1) per step, attained along the extreme eigenvectors; √β with Polyak's parameters."""
    lam = QUADRATIC.start()
    w_star, vectors = ri.exact_hypergradient(QUADRATIC, lam).w, np.linalg.eigh(QUADRATIC.lower.mean[0])[1]
    q = (KAPPA - 1) / (KAPPA + 1)
    for column in (0, -1):
        w0 = w_star + vectors[:, column]
        states = solvers.GradientDescent(20).run(QUADRATIC, lam, w0, keep=None).states
        distances = np.array([np.linalg.norm(w - w_star) for w in states])
        assert_rounded(distances, q ** np.arange(21), terms=10.0, count=20 * D)
    root = np.sqrt(KAPPA)
    beta = ((root - 1) / (root + 1)) ** 2
    polyak = solvers.HeavyBall(1, 4 / (root + 1) ** 2, beta).map(QUADRATIC, lam, w_star, 1)
    moduli = np.abs(np.linalg.eigvals(polyak.d_w(lam, np.concatenate([w_star, w_star])).dense()))
    # the extreme eigenvalues are double: they move by the square root of rounding
    assert moduli.max() <= np.sqrt(beta) + np.sqrt(10 * 2 * D * EPS["float64"])


def test_the_proved_step_holds_on_a_ball_that_holds_every_iterate():
    """G = log cosh(w + 20) + w²/20 from far out: slope 1 + w_0/10, so the minimum is w_0 + 10 away or less.

    Iterates may pass it by as much again, and so cross w = −20, where the curvature is 1 + 1/10, and not 1/10.
    """
    # kills: proved-step-of-point, proved-step-of-radius
    lam, w0 = np.array([np.log(0.1)]), np.array([400.0])
    lower = rows.Penalised(uppers.log_cosh([[1.0]], [-20.0], n=1), True)
    problem = BilevelProblem(lower.data, lower)
    solver = solvers.GradientDescent(30).prepared(problem, lam, w0)
    assert solver.step == pytest.approx(2 / (0.1 + 1.1), rel=10 * EPS["float64"])
    w_star = ri.exact_hypergradient(problem, lam).w
    distances = [abs(float((w - w_star)[0])) for w in solver.run(problem, lam, w0, keep=None).states]
    assert all(after <= before for before, after in itertools.pairwise(distances))
    quadratics = solvers.HeavyBall(1).prepared(QUADRATIC, QUADRATIC.start(), np.zeros(D)).step
    assert quadratics == pytest.approx(STEP, rel=10 * D * KAPPA * EPS["float64"])


def test_the_proved_step_where_the_convexity_falls_away_from_the_start():
    """μ at w_0 is more than μ on the ball that it asks for: the ball is enlarged until both agree."""
    lam, w0 = LOGISTIC.start(), np.zeros(3)
    step = solvers.GradientDescent(1).prepared(LOGISTIC, lam, w0).step
    states = solvers.GradientDescent(30).run(LOGISTIC, lam, w0, keep=None).states
    largest = max(np.linalg.eigvalsh(LOGISTIC.lower.hess_ww(lam, w).dense())[-1] for w in states)
    assert step * largest < 2
    w_star = ri.exact_hypergradient(LOGISTIC, lam).w
    distances = [np.linalg.norm(w - w_star) for w in states]
    assert all(after < before for before, after in itertools.pairwise(distances))


@everywhere
@pytest.mark.parametrize("solver", [solvers.Newton(), solvers.NewtonCG()])
@pytest.mark.parametrize("problem", [QUADRATIC, LOGISTIC, TANH])
def test_newton_solves_every_lane(place, solver, problem):
    # kills: newton-sign, line-search-moves-done-lanes (a lane that begins solved does not move)
    lam = problem.start()
    w_star = solved(problem)
    w0 = np.stack([w_star, w_star + 1, 0 * w_star])
    run = solver.run(place.move(problem), place.array(lam), place.array(w0))
    moved = place.move(problem)
    assert np.abs(to_numpy(moved.residual(place.array(lam), run.w))).max() <= solver.tol
    assert (to_numpy(run.w)[0] == w_star).all()


def test_newton_stops_at_the_first_residual_within_its_tolerance():
    # kills: newton-tolerance
    lam, w0 = LOGISTIC.start(), np.zeros(3)
    states = solvers.Newton(tol=1e-12).run(LOGISTIC, lam, w0, keep=None).states
    sizes = [np.abs(LOGISTIC.residual(lam, w)).max() for w in states]
    for k in range(1, len(sizes)):
        assert solvers.Newton(tol=0.5 * float(sizes[k - 1])).run(LOGISTIC, lam, w0).steps == k
        assert solvers.Newton(tol=float(sizes[k])).run(LOGISTIC, lam, w0).steps == k
    assert sizes[-1] <= sizes[-2] ** 1.5  # and superlinearly


def test_newtons_line_search_where_full_steps_overshoot():
    # kills: line-search-without-decrease
    lam, w0 = np.array([np.log(1e-3)]), np.array([4.0])
    residual = FLAT.residual(lam, w0)
    full = w0 - residual / FLAT.residual_w(lam, w0).dense()[0]
    assert abs(FLAT.residual(lam, full)) > abs(residual)
    states = solvers.Newton(steps=20).run(FLAT, lam, w0, keep=None).states
    sizes = [abs(float(FLAT.residual(lam, w)[0])) for w in states]
    assert all(after < before for before, after in itertools.pairwise(sizes))
    optimize = pytest.importorskip("scipy.optimize")
    theirs = optimize.minimize_scalar(lambda w: float(FLAT.lower.value(lam, np.array([w]))), bracket=(0, 1))
    # a minimum is found to √eps by values alone
    assert abs(float(states[-1][0]) - theirs.x) <= 10 * np.sqrt(EPS["float64"])


def test_scipys_minimiser_agrees():
    lam = LOGISTIC.start()
    optimize = pytest.importorskip("scipy.optimize")
    theirs = optimize.minimize(
        lambda w: LOGISTIC.lower.value(lam, w),
        np.zeros(3),
        jac=lambda w: LOGISTIC.lower.grad_w(lam, w),
        method="BFGS",
        options={"gtol": 1e-9},
    )
    assert theirs.success
    mu = np.linalg.eigvalsh(LOGISTIC.lower.hess_ww(lam, theirs.x).dense())[0]
    for solver in (solvers.Newton(), solvers.NewtonCG()):
        ours = solver.run(LOGISTIC, lam, np.zeros(3)).w
        assert np.linalg.norm(ours - theirs.x) <= np.sqrt(3) * (1e-9 + solver.tol) / mu


def test_newton_cg_solves_early_systems_no_better_than_needed():
    """On a quadratic ‖r_{k+1}‖ <= max(min(0.1, ρ), 0.1 tol/ρ) ‖r_k‖ with ρ = max |r_k|: the inner tolerance."""
    # kills: newton-cg-forcing-0.9
    lam, solver = QUADRATIC.start(), solvers.NewtonCG()
    states = solver.run(QUADRATIC, lam, 10 * np.ones(D), keep=None).states
    rests = [QUADRATIC.residual(lam, w) for w in states]
    for before, after in itertools.pairwise(rests):
        rho = np.abs(before).max()
        forcing = max(min(0.1, rho), 0.1 * solver.tol / rho)
        floor = 10 * D * EPS["float64"] * KAPPA * 10
        assert np.linalg.norm(after) <= forcing * np.linalg.norm(before) + floor


def test_newton_is_exact_after_one_step_over_the_rationals():
    problem = QUADRATIC.to("rational")
    run = solvers.Newton().run(problem, problem.start(), problem.w(None), keep=None)
    assert run.steps == 1
    assert all(e == 0 for e in problem.residual(problem.start(), run.w))


def test_the_identity_start():
    # kills: identity-start-jacobian
    start = solvers.IdentityStart(3)
    check_derivatives(start)
    lam = np.arange(6.0).reshape(2, 3)
    assert (start.value(lam, np.zeros(3)) == lam).all()


# -- refusals ---------------------------------------------------------------------------------------


def test_refusals_name_what_to_use():
    lam, w0 = QUADRATIC.start(), np.zeros(D)
    with pytest.raises(BadInput, match="as_fixed_point"):
        solvers.FixedPoint(1).run(QUADRATIC, lam, w0)
    for solver in (solvers.GradientDescent(1, 0.1), solvers.HeavyBall(1, 0.1)):
        with pytest.raises(BadInput, match="use FixedPoint"):
            solver.run(TANH, TANH.start(), np.zeros(3))
    with pytest.raises(BadInput, match="the step is out of range"):
        solvers.GradientDescent(1, -0.1).run(QUADRATIC, lam, w0)
    with pytest.raises(BadInput, match="third derivatives"):
        solvers.Newton().map(QUADRATIC, lam, w0, 1)
    with pytest.raises(BadInput, match="pass step"):
        solvers.GradientDescent(1).run(QUADRATIC, np.stack([lam, lam]), w0)
    indefinite = ri.zoo.degenerate.indefinite_hessian().problem
    with pytest.raises(BadInput, match="strong convexity constant"):
        solvers.GradientDescent(1).run(indefinite, indefinite.start(), indefinite.w(None))


@pytest.mark.parametrize("name", ["numpy", "strict"])
def test_divergence_is_an_error_and_warns_of_nothing(name):
    # kills: divergence-silent
    problem, xp = QUADRATIC.to(name), backend(name)
    lam, w0 = xp.asarray(QUADRATIC.start()), xp.asarray(np.ones(D))
    for solver in (solvers.GradientDescent(3000, 1.0), solvers.HeavyBall(3000, 1.0)):
        with pytest.raises(NotConverged, match="after 3000 steps"):
            solver.run(problem, lam, w0)


def test_a_wrong_jacobian_is_not_followed():
    with pytest.raises(NotConverged, match="check_derivatives"):
        solvers.Newton().run(MISDIRECTED, AFFINE.start(), np.ones(3))
