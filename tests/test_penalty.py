"""The penalty method and the augmented Lagrangian: against plain fractions, closed forms and their own definitions.

Comments name the mutants that a test kills.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import refimpl as ri
from refimpl.algorithms import run, whole_state
from refimpl.algorithms.mehra2019penalty import AugmentedLagrangianMethod, Penalty
from refimpl.approximate import InnerDescent, InnerGaussNewton, augmented_lagrangian, penalty, tikhonov
from refimpl.approximate.penalty import AugmentedLagrangian
from refimpl.arrays import backend, to_numpy
from refimpl.errors import BadInput, HypothesisViolated, NotConverged
from refimpl.problem import BilevelProblem
from refimpl.rates import Drops, Power
from refimpl.solvers import ConjugateGradient, Newton
from refimpl.zoo import logistic, quadratic
from tests.backends import everywhere
from tests.rounding import assert_rounded
from tests.solver_things import fractions

QUADRATIC = quadratic.random(n=2, d=3, seed=3, L=4.0)
LOGISTIC = logistic.random(d=3, seed=5, rows=9)
START = QUADRATIC.start()
MU, STEPS = Fraction(3, 2), 3
TIGHT = InnerDescent(400, 0.02)

# f = (u² + (v − 1)²)/2, g = (v − u)²/2: u* = 1/2, λ* = −1/2, everything in closed form
SMALLEST = BilevelProblem(
    quadratic.objective(ww=[[1.0]], ll=[[1.0]], w1=[-1.0]),
    quadratic.objective(ww=[[1.0]], lw=[[-1.0]], ll=[[1.0]]),
)


# -- plain fractions -----------------------------------------------------------------------------------------------
def solved(a, b):
    """a⁻¹b by Gauss and Jordan; b a vector."""
    rows = [[*row, x] for row, x in zip(a.tolist(), b.tolist(), strict=True)]
    for i in range(len(rows)):
        p = next(k for k in range(i, len(rows)) if rows[k][i] != 0)
        rows[i], rows[p] = rows[p], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for k in range(len(rows)):
            if k != i:
                rows[k] = [x - rows[k][i] * y for x, y in zip(rows[k], rows[i], strict=True)]
    return np.array([row[-1] for row in rows], dtype=object)


def plain(problem, lam, v, mu, steps):
    """(value, w, v) after every update, by the normal equations (Q + μH²) w = Hv − μH b − ∇_wF(0), ∇_wG = Hw + b."""
    lam = np.array([Fraction(float(x)) for x in lam], dtype=object)
    (H, C, _, b, _), (Q, K, M, a, c) = (
        [np.array([Fraction(float(x)) for x in m.ravel()], dtype=object).reshape(m.shape) for m in f.mean]
        for f in (problem.lower, problem.upper)
    )
    b, a = b + C.T @ lam, a + K.T @ lam
    for _ in range(steps):
        w = solved(Q + mu * H @ H, H @ v - mu * (H @ b) - a)
        v = v - mu * (H @ w + b)
        yield K @ w + M @ lam + c - C @ v, w, v


@pytest.mark.parametrize("start", [0, 1])
def test_every_update_is_the_exact_minimum_over_the_rationals(start):
    # kills: penalty/half-missing, -hessian-once, -update-sign, -v-kept, -mu-sign, -read-before-update
    problem = QUADRATIC.to("rational")
    v0 = problem.backend.asarray(start * np.array([1.0, -2.0, 0.5]))
    expected = list(plain(QUADRATIC, START, fractions(v0), MU, STEPS))
    for steps, (value, w, v) in enumerate(expected, start=1):
        found = augmented_lagrangian(problem, problem.start(), mu=MU, steps=steps, v0=v0)
        for seen, wanted in ((found.value, value), (found.w, w), (found.v, v)):
            assert list(fractions(seen)) == list(wanted)
        assert found.residual_adjoint == 0


def test_the_penalty_method_is_one_update_from_zero():
    problem = QUADRATIC.to("rational")
    ((value, w, v),) = plain(QUADRATIC, START, np.array([Fraction(0)] * 3, dtype=object), MU, 1)
    found = penalty(problem, problem.start(), gamma=MU)
    assert [list(fractions(x)) for x in (found.value, found.w, found.v)] == [list(value), list(w), list(v)]
    slope = fractions(problem.lower.grad_w(problem.start(), found.w))
    assert list(v) == [-MU * x for x in slope]
    assert found.residual_lower == pytest.approx(float(sum(x * x for x in v)) ** 0.5 / MU, rel=2**-50)


def test_the_value_is_the_derivative_of_the_penalised_minimum():
    # kills: penalty/read-before-update; λ ↦ min φ is quadratic, so differences are exact
    problem, B = QUADRATIC.to("rational"), backend("rational")
    mu = B.scalar(MU)

    def least(lam):
        w = penalty(problem, lam, gamma=MU).w
        return AugmentedLagrangian(problem, lam, problem.w(None), mu).value(w)

    wanted = [(least(problem.start() + e) - least(problem.start() - e)) / 2 for e in B.eye(2)]
    assert list(penalty(problem, problem.start(), gamma=MU).value) == wanted


def test_the_gradient_and_the_matrix_are_those_of_phi():
    # kills: penalty/half-missing (in the value alone), -hessian-once
    problem, B = QUADRATIC.to("rational"), backend("rational")
    phi = AugmentedLagrangian(problem, problem.start(), B.asarray([1.0, 2.0, -1.0]), B.scalar(MU))
    w, eye = B.asarray([1.0, 0.0, 3.0]), B.eye(3)
    assert list(phi.grad(w)) == [(phi.value(w + e) - phi.value(w - e)) / 2 for e in eye]
    assert (phi.gauss_newton(w).dense() == np.stack([phi.grad(w + e) - phi.grad(w) for e in eye])).all()
    assert all(
        (phi.gauss_newton(w) @ e == row).all()
        for e, row in zip(eye, phi.gauss_newton(w).dense(), strict=True)
    )


# -- floats --------------------------------------------------------------------------------------------------------
def amplification(problem, mu):
    """Rounding of ‖v‖ is that of μ∇_wG: a solve with Q + μH², then L/m at most."""
    lam, w = problem.start(), problem.w(None)
    Q, H = (f.hess_ww(lam, w).dense() for f in (problem.upper, problem.lower))
    return np.linalg.cond(Q + mu * H @ H) * np.linalg.cond(H)


@everywhere
@pytest.mark.parametrize("inner", [None, TIGHT, InnerGaussNewton(linear=ConjugateGradient(10))], ids=str)
def test_everywhere_and_by_every_inner_method(place, inner):
    problem, lam = place.move(QUADRATIC), place.array(START)
    found = augmented_lagrangian(problem, lam, mu=1.5, steps=STEPS, inner=inner)
    *_, (value, w, v) = plain(QUADRATIC, START, np.array([Fraction(0)] * 3, dtype=object), MU, STEPS)
    left = float(to_numpy(found.residual_adjoint))
    for seen, wanted in ((found.value, value), (found.w, w), (found.v, v)):
        exact = np.array([float(x) for x in wanted])
        terms = 10 * (1 + np.abs(exact).max()) * (1 + left / np.finfo(float).eps)
        assert_rounded(seen, exact, terms=terms, count=50, condition=amplification(QUADRATIC, 1.5))


@pytest.mark.parametrize("problem", [QUADRATIC, LOGISTIC], ids=lambda p: p.name)
def test_the_updates_reach_the_exact_hypergradient(problem):
    # kills: penalty/update-sign, -v-kept
    exact = ri.exact_hypergradient(problem, problem.start())
    found = augmented_lagrangian(problem, problem.start(), mu=200.0, steps=40, exact=exact)
    terms = 100 * (1 + np.abs(exact.v).max()) * (1 + np.abs(exact.value).max())
    condition = amplification(problem, 200.0)
    assert_rounded(found.value, exact.value, terms=terms, count=50, condition=condition)
    assert_rounded(found.v, exact.v, terms=terms, count=50, condition=condition)
    assert found.curve.shape == (40,)
    assert found.curve[0] > 10 * found.curve[-1]
    assert found.curve[-1] == pytest.approx(np.linalg.norm(found.value - exact.value), abs=terms * 2**-52)


def test_the_multiplier_is_the_adjoint_at_the_point_reached():
    """Where ∇_wG is not affine too. Kills: penalty/read-before-update, a stationarity that is not φ's."""
    for steps in (1, 2):
        found = augmented_lagrangian(LOGISTIC, LOGISTIC.start(), mu=5.0, steps=steps)
        H = LOGISTIC.lower.hess_ww(LOGISTIC.start(), found.w).dense()
        wanted = np.linalg.solve(H, LOGISTIC.upper.grad_w(LOGISTIC.start(), found.w))
        allowed = 100 * (1 + found.residual_adjoint / np.finfo(float).eps)
        assert_rounded(found.v, wanted, terms=allowed, count=3, condition=np.linalg.cond(H) ** 2)
        assert found.residual_adjoint < 1e-6  # it minimised at all; rounding is bounded in the line above


@pytest.mark.parametrize(("q", "p", "factor"), [(1.0, -3.0, 0.603), (0.0, 3000.0, 0.680)])
def test_a_slow_inner_method_goes_on_to_rounding(q, p, factor):
    """f = qw²/2 + pw, ∇_wG = w + w³, γ = 1: Gauss-Newton gains ``factor`` a step, and goes on below φ's rounding.

    Kills: penalty/search-must-halve (ends at ‖∇φ‖ about 1e-8 of p), -search-goes-nowhere (takes all 100 steps).
    """
    bent = ri.from_function(lambda lam, w: w[..., 0] ** 2 / 2 + w[..., 0] ** 4 / 4, n=1, d=1)
    problem = BilevelProblem(quadratic.objective(ww=[[q]], w1=[p], n=1), bent)
    found = penalty(problem, [0.0], gamma=1.0, w0=np.array([0.1]))
    # φ' = qw + p + (w + w³)(1 + 3w²)
    (w,) = (z.real for z in np.roots([3, 0, 4, 0, 1 + q, p]) if z.imag == 0)
    slope, bend = (w + w**3), (1 + 3 * w * w)
    assert round(abs(slope * 6 * w / (q + bend**2)), 3) == factor
    condition = (abs(q * w) + abs(p) + abs(slope * bend)) / abs(w * (q + bend**2 + slope * 6 * w))
    assert_rounded(found.w, [w], terms=abs(w), count=10, condition=1 + condition)
    assert found.calls["upper.hess_ww dense"] < 100


def test_descent_is_the_loop_it_says():
    lam, w, v = START, np.zeros(3), np.array([1.0, 0.0, -1.0])
    F, G = QUADRATIC.upper, QUADRATIC.lower
    for _ in range(3):
        w = w - 0.02 * (F.grad_w(lam, w) - G.hess_ww(lam, w) @ (v - 1.5 * G.grad_w(lam, w)))
    found = augmented_lagrangian(QUADRATIC, lam, mu=1.5, steps=1, inner=InnerDescent(3, 0.02), v0=v)
    assert np.array_equal(found.w, w)
    assert np.array_equal(found.v, v - 1.5 * G.grad_w(lam, w))


def test_the_point_is_kept_between_updates():
    # kills: penalty/w-restarted
    options = {"mu": 1.5, "inner": InnerDescent(2, 0.02)}
    found = augmented_lagrangian(QUADRATIC, START, steps=2, **options)
    w, v, F, G = np.zeros(3), np.zeros(3), QUADRATIC.upper, QUADRATIC.lower
    for _ in range(2):
        for _ in range(2):
            w = w - 0.02 * (F.grad_w(START, w) - G.hess_ww(START, w) @ (v - 1.5 * G.grad_w(START, w)))
        v = v - 1.5 * G.grad_w(START, w)
    assert np.array_equal(found.w, w)
    assert np.array_equal(found.v, v)


def test_calls_are_counted_and_the_check_is_not():
    found = augmented_lagrangian(QUADRATIC, START, mu=1.0, steps=3, inner=InnerDescent(4, 0.02))
    counts = {
        "lower.cross": 1,
        "lower.grad_w": 15,
        "lower.hess_ww": 12,
        "upper.grad_lam": 1,
        "upper.grad_w": 12,
    }
    assert found.calls == counts


def test_lanes_are_their_own_runs():
    # kills: a line search shared by the lanes
    lams = np.stack([LOGISTIC.start() + x for x in (-1.0, 0.0, 0.5)])[:, None]  # (3, 1, n)
    together = augmented_lagrangian(LOGISTIC, lams, mu=2.0, steps=2)
    assert together.value.shape == (3, 1, LOGISTIC.n)
    for lam, value, v in zip(lams[:, 0], together.value[:, 0], together.v[:, 0], strict=True):
        alone = augmented_lagrangian(LOGISTIC, lam, mu=2.0, steps=2)
        H = LOGISTIC.lower.hess_ww(lam, alone.w).dense()
        left = float(together.residual_adjoint.max() + alone.residual_adjoint) / np.finfo(float).eps
        for seen, wanted in ((value, alone.value), (v, alone.v)):
            assert_rounded(seen, wanted, terms=100 * (1 + left), count=3, condition=np.linalg.cond(H) ** 2)


# -- refusals ------------------------------------------------------------------------------------------------------
def saddle(least=-1.0, upper=1.0):
    """G = (w_1² + least w_2²)/2, F = upper ‖w − (1, 1)‖²/2."""
    ones = np.ones(2)
    return BilevelProblem(
        quadratic.objective(ww=upper * np.eye(2), w1=-upper * ones, n=1),
        quadratic.objective(ww=np.diag([1.0, least]), n=1),
    )


@everywhere
@pytest.mark.parametrize("least", [-1.0, -0.25])
def test_an_end_at_a_saddle_point_is_refused(place, least):
    # kills: penalty/check-dropped
    problem, lam = place.move(saddle(least)), place.array([0.0])
    with pytest.raises(HypothesisViolated, match="no strict minimum") as refusal:
        penalty(problem, lam, gamma=10.0)
    assert f"eigenvalue of ∇²_wwG {least:.6g}" in refusal.value.measured
    passed = to_numpy(penalty(problem, lam, gamma=10.0, check=False).w)
    assert passed == pytest.approx([1 / 11, 1 / (1 + 10 * least**2)], rel=1e-14)


def test_a_start_beside_a_maximiser_is_refused_and_beside_a_minimiser_not():
    """g = w⁴/4 − w²/2 with f = (w − 1)²/2: the same φ has a minimiser near every stationary point of g."""
    double = ri.from_function(lambda lam, w: w[..., 0] ** 4 / 4 - w[..., 0] ** 2 / 2, n=1, d=1)
    problem = BilevelProblem(quadratic.objective(ww=[[1.0]], w1=[-1.0], n=1), double)
    inner = InnerDescent(60, 0.004)
    with pytest.raises(HypothesisViolated, match="no strict minimum"):
        penalty(problem, [0.0], gamma=100.0, w0=np.array([0.02]), inner=inner)
    assert penalty(problem, [0.0], gamma=100.0, w0=np.array([0.9]), inner=inner).w == pytest.approx([1.0])


def test_a_penalised_problem_that_is_not_convex_is_refused():
    concave = saddle(least=1.0, upper=-1.0)
    with pytest.raises(HypothesisViolated, match="no Gauss-Newton step") as refusal:
        augmented_lagrangian(concave, [0.0], mu=0.5, steps=1)
    assert "larger mu" in refusal.value.advice


def test_the_updates_diverge_between_the_two_thresholds_and_say_so():
    concave = saddle(least=1.0, upper=-1.0)  # factor −1/(μ − 1): −2, −1/2
    far = augmented_lagrangian(concave, [0.0], mu=1.5, steps=20)
    assert far.residual_lower > 1e5
    near = augmented_lagrangian(concave, [0.0], mu=3.0, steps=60)
    assert near.residual_lower < 1e-12
    with pytest.raises(NotConverged, match="the multiplier's updates diverged") as diverged:
        augmented_lagrangian(concave, [0.0], mu=1.5, steps=30, v0=1e150 * np.ones(2))
    assert "larger mu" in diverged.value.advice


@pytest.mark.parametrize("mu", [0, -1.0, np.nan, np.inf, "1", np.array([1.0, 2.0])])
def test_mu_must_be_a_positive_number(mu):
    for call in (
        lambda: augmented_lagrangian(QUADRATIC, START, mu=mu, steps=1),
        lambda: penalty(QUADRATIC, START, gamma=mu),
        lambda: tikhonov(QUADRATIC, mu),
        lambda: InnerDescent(1, mu),
    ):
        with pytest.raises(BadInput):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: augmented_lagrangian(QUADRATIC, START, mu=1.0, steps=0),
        lambda: augmented_lagrangian(QUADRATIC, START, mu=1.0, steps=1, inner=ConjugateGradient(3)),
        lambda: augmented_lagrangian(QUADRATIC, START, mu=1.0, steps=1, w0=np.zeros(2)),
        lambda: augmented_lagrangian(QUADRATIC, START, mu=1.0, steps=1, v0=np.zeros(2)),
        lambda: augmented_lagrangian(QUADRATIC, np.zeros(3), mu=1.0, steps=1),
        lambda: augmented_lagrangian(QUADRATIC.as_fixed_point(0.1), START, mu=1.0, steps=1),
        lambda: InnerDescent(-1, 0.1),
        lambda: InnerGaussNewton(0),
        lambda: InnerGaussNewton(linear=InnerDescent(1, 0.1)),
    ],
)
def test_bad_input(call):
    with pytest.raises(BadInput):
        call()


def test_the_refusal_of_an_inner_solver_names_those_there_are():
    with pytest.raises(BadInput, match="not an Inner") as caught:
        augmented_lagrangian(QUADRATIC, START, mu=1.0, steps=1, inner=Newton())
    assert caught.value.required == "an Inner of refimpl.approximate"
    assert {"InnerGaussNewton", "InnerDescent"} <= set(re.findall(r"\w+", caught.value.advice))
    with pytest.raises(BadInput, match="not a LinearSolver") as caught:
        InnerGaussNewton(linear=InnerDescent(1, 0.1))
    assert caught.value.required == "a LinearSolver of refimpl.solvers"


def test_tikhonov_needs_a_lower_objective():
    with pytest.raises(BadInput, match="G \\+ εF needs a lower objective"):
        tikhonov(QUADRATIC.as_fixed_point(0.1), 0.1)


def test_an_inner_step_too_long_says_so():
    with pytest.raises(NotConverged, match="φ's descent after 400 steps"):
        penalty(QUADRATIC, START, gamma=1.0, inner=InnerDescent(400, 10.0))


def test_tikhonov_adds_a_multiple_of_the_upper_level():
    # kills: penalty/tikhonov-swapped
    made, w = tikhonov(QUADRATIC, 0.25), np.array([1.0, -1.0, 2.0])
    expected = QUADRATIC.lower.grad_w(START, w) + 0.25 * QUADRATIC.upper.grad_w(START, w)
    assert_rounded(made.lower.grad_w(START, w), expected, terms=100.0, count=3)
    assert made.upper is QUADRATIC.upper


# -- both variables ------------------------------------------------------------------------------------------------
SAMPLED = replace(
    quadratic.random(n=2, d=3, seed=0, terms=4), upper=quadratic.random(n=2, d=3, seed=1, terms=3).lower
)
SIZES = {
    "alpha": Power(Fraction(1, 8), 1),
    "beta": Power(Fraction(1, 16), 1),
    "gamma": Drops(Fraction(3, 2), at=(1, 2), factor=Fraction(1, 2)),  # grows: 3/2, 3, 6
    "steps": 2,
}


@pytest.mark.parametrize("kind", [Penalty, AugmentedLagrangianMethod])
@pytest.mark.parametrize("batches", [{}, {"lower_batch": 2, "upper_batch": 1}], ids=["all", "batches"])
def test_every_iteration_is_what_the_module_says(kind, batches):
    """Equal in rationals, for the same samples.

    Kills: penalty-algorithm/old-lambda, -old-w, -gamma-of-another-k, -multiplier-kept, one batch for both factors.
    """
    problem, B = SAMPLED.to("rational"), backend("rational")
    algorithm, rng = kind(**SIZES, **batches), np.random.default_rng(5)
    with_v = kind is AugmentedLagrangianMethod
    lam, w, v = (
        B.asarray(x) for x in (SAMPLED.start(), [1.0, -2.0, 0.5], [0.25, 1.0, -1.0] if with_v else [0.0] * 3)
    )
    state = algorithm.init(problem, lam, w, v) if with_v else algorithm.init(problem, lam, w)
    for k in range(3):
        sample = algorithm.space(problem, k).sample(rng, ())
        alpha, beta, gamma = (B.scalar(SIZES[name](k)) for name in ("alpha", "beta", "gamma"))

        def level(objective, data, i):
            return objective.batch(np.asarray(data)[i]) if batches else objective

        ((_, first), (_, second), (_, above)) = sample[0]
        for i in range(3):
            G1, G2 = (level(problem.lower, data, i) for data in (first, second))
            F = level(problem.upper, above, i)
            v_plus = v - gamma * G1.grad_w(lam, w)
            if i < 2:
                w = w - beta * (F.grad_w(lam, w) - G2.hess_ww(lam, w) @ v_plus)
            else:
                lam = lam - alpha * (F.grad_lam(lam, w) - G2.cross(lam, w) @ v_plus)
        if with_v:
            v = v - gamma * level(problem.lower, sample[1][1], ()).grad_w(lam, w)
        state = algorithm.step(problem, state, sample)
        assert state.k == k + 1
        assert [*state.lam, *state.w] == [*lam, *w]
        assert not with_v or list(state.v) == list(v)


def test_the_limits_on_the_smallest_problem():
    """u_γ − u* = −1/(2(1 + 2γ)); with the multiplier 0. Kills: penalty-algorithm/multiplier-kept, -half-missing."""
    options = {"alpha": 0.05, "beta": 0.02, "gamma": 10.0, "steps": 3}
    ends = {}
    for kind in (Penalty, AugmentedLagrangianMethod):
        ends[kind] = run(kind(**options), SMALLEST, np.zeros(1), steps=800, rng=0).state
    assert ends[Penalty].lam == pytest.approx([0.5 - 1 / 42], rel=1e-12)
    found = ends[AugmentedLagrangianMethod]
    assert [*found.lam, *found.w, *found.v] == pytest.approx([0.5, 0.5, -0.5], rel=1e-12)


def test_a_growing_penalty_leaves_less():
    shorter = Drops(0.5, at=(50, 100), factor=5)
    grown = Penalty(alpha=shorter, beta=shorter, gamma=Drops(0.4, at=(50, 100), factor=0.2))
    fixed = Penalty(alpha=0.2, beta=0.2, gamma=0.4)
    ends = (run(a, SMALLEST, np.zeros(1), steps=1200, rng=0).state.lam[0] for a in (fixed, grown))
    assert [0.5 - end for end in ends] == pytest.approx([1 / 3.6, 1 / 42], rel=1e-6)


def test_exact_moments_are_the_enumeration_of_the_batches():
    small = replace(quadratic.random(n=1, d=1, seed=0, terms=2), initial=np.array([0.5]))
    algorithm = AugmentedLagrangianMethod(alpha=0.1, beta=0.05, gamma=1.5, lower_batch=1)
    curve = whole_state(algorithm, small, small.start()).curve(1)
    space = algorithm.space(small)
    index = np.arange(space.size)
    start = algorithm.init(small, small.start()).broadcast(small.backend, (space.size,))
    states = algorithm.step(small, start, space.points(index))
    for name in ("lam", "w", "v"):
        mean = space.probabilities(index) @ states.arrays[name][:, 0]
        assert_rounded(curve.mean(name)[1], [mean], terms=10.0, count=space.size)


def test_states_and_sizes_of_another_kind_are_refused():
    with pytest.raises(BadInput, match="gamma"):
        Penalty(alpha=0.1, beta=0.1, gamma=-1.0)
    algorithm = AugmentedLagrangianMethod(alpha=0.1, beta=0.1, gamma=1.0)
    state = Penalty(alpha=0.1, beta=0.1, gamma=1.0).init(SMALLEST, np.zeros(1))
    with pytest.raises(BadInput, match="not a state of this algorithm"):
        algorithm.step(SMALLEST, state, algorithm.space(SMALLEST).sample(0, ()))
    with pytest.raises(BadInput, match="BilevelProblem"):
        algorithm.init(SMALLEST.as_fixed_point(0.1), np.zeros(1))
    assert dataclasses.replace(algorithm, gamma=Drops(1.0, at=(3,), factor=0.5)).constant_from is None
    assert algorithm.constant_from == 0
