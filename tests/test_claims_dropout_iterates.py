"""The formulas beneath the claims about lemma 2 and theorem 1 of ``dropout-bilevel``, each by a second channel."""

from __future__ import annotations

import dataclasses
import itertools as it
from fractions import Fraction

import numpy as np
import pytest
from flint import fmpq
from hypothesis import given
from hypothesis import strategies as st

from refimpl import check_derivatives, exact_hypergradient
from refimpl.algorithms.exact import fixed_lambda
from refimpl.arrays import to_numpy
from refimpl.exact import solution_jacobian
from refimpl.spaces import covariance
from verification.claims.dropout_bilevel import (
    _iterates,
    _iterates_mean,
    lemma_2,
    lemma_2_data,
    lemma_2_step,
    theorem_1,
    theorem_1_mean,
)
from verification.claims.dropout_bilevel._iterates_bump import Moduli

EPS = float(np.finfo(float).eps)
FEW = [
    _iterates.small(),
    _iterates.small(1),
    _iterates.THEORY,
    _iterates.small(
        2, 3, root=[[1, 2, 0], [0, 1, -1], [2, 0, 1]], noise=[1, 0, -1], noise_ww=1, keep_w=[3, 5, 8]
    ),
    _iterates.small(1, 3, root=[[1, 0, 1], [0, 1, 1], [0, 0, 0]], groups_w=[0, 0, 1], keep_w=[3, 5]),
]
each = pytest.mark.parametrize("params", FEW)
SIZES = [(0, 1), (1, 1), (1, 2)]


def test_the_floor_of_the_example_by_plain_arithmetic():
    # kills: a mask missing in the step, γ for γ², the mean instead of the second moment
    H, a, p, gamma = [[2, 1], [1, 2]], [Fraction(1), Fraction(-1, 2)], Fraction(4, 5), Fraction(1, 10)
    w, S = [Fraction(25, 28), Fraction(-5, 14)], np.zeros((3, 3))
    S[2, 2] = 1.0
    steps = []
    for m in it.product((0, 1), repeat=2):
        chance = float(np.prod([p if b else 1 - p for b in m]))
        A = np.array(
            [[(i == j) - gamma * m[i] * H[i][j] * m[j] for j in range(2)] for i in range(2)], dtype=float
        )
        shift = [-gamma * m[i] * sum(H[i][j] * (m[j] * w[j] - a[j]) for j in range(2)) for i in range(2)]
        T = np.block([[A, np.array(shift, dtype=float)[:, None]], [np.zeros((1, 2)), np.ones((1, 1))]])
        steps.append((chance, T))
    for _ in range(400):
        S = sum(chance * T @ S @ T.T for chance, T in steps)
    assert S[0, 0] + S[1, 1] == pytest.approx(
        6845 / 1351616, rel=1000 * EPS
    )  # 400 steps, each good to a few eps
    case = _iterates.step(_iterates.THEORY)
    assert lemma_2.floor(case) == fmpq(6845, 1351616)
    assert lemma_2.at_solution(case) == fmpq(29, 245)
    assert [*case.solution] == [fmpq(25, 28), fmpq(-5, 14)]


@each
def test_the_step_of_w_is_its_mean_and_its_variance(params):
    # kills: a variance around the wrong mean, data left out of it, masks of λ left out
    case = _iterates.step(params)
    moved = case.error - case.gamma * (case.mean_hessian @ case.error)
    assert case.mean_square_after == (moved**2).sum() + case.gamma**2 * case.variance(case.w)


@each
def test_the_literal_sums_of_a_step_of_w_agree_with_the_library(params):
    case = _iterates.step(params)
    problem, w = case.problem, case.w
    exact = exact_hypergradient(problem, case.lam)
    assert (exact.w == case.solution).all()
    assert (problem.lower.hess_ww(case.lam, w).dense() == case.mean_hessian).all()
    lower = problem.lower

    def gradients(points):
        of = lower.at(points)
        return np.broadcast_to(of.grad_w(case.lam, w), (len(points[1]), case.plain.d))

    spread = covariance(lower.space, gradients, problem.backend)
    assert case.variance(w) == sum(spread[i, i] for i in range(case.plain.d))
    if case.plain.n:
        assert (lemma_2_step.jacobian(case) == solution_jacobian(problem, case.lam)).all()


@each
def test_the_floor_is_that_of_the_joint_recursion_of_w_and_v(params):
    case = _iterates.step({**params, "step": [1, 20]})
    algorithm = dataclasses.replace(case.algorithm, beta=Fraction(1, 20))  # that of w: v must settle too
    joint = fixed_lambda(algorithm, case.problem.to("numpy"), to_numpy(case.lam), direction=False)
    found = float(joint.stationary().mean_square("w"))
    size = 1 + float((case.solution**2).sum())
    # systems of at most 28 unknowns and condition 1/(γμ̄)
    allowed = 1000 * EPS * size / float(case.gamma * case.ends[0])
    assert found == pytest.approx(float(lemma_2.floor(case)), abs=allowed)


def test_the_floor_vanishes_where_no_two_free_coordinates_are_coupled():
    case = _iterates.step(_iterates.small(0, 2, root=[[2, 0], [0, 1]], w1=[1, -1]))
    assert lemma_2.floor(case) == lemma_2.at_solution(case) == 0


@given(st.lists(st.integers(-3, 3), min_size=6, max_size=6))
def test_semidefinite_and_spectrum(entries):
    # kills: leading minors only, the wrong end, rounding outwards at one end only
    a, b, c, d, e, f = entries
    M = _iterates.rationals([[a, b, c], [b, d, e], [c, e, f]])
    values = np.linalg.eigvalsh(to_numpy(M))
    size = 1 + abs(values).max()
    if abs(values[0]) > 100 * EPS * size:
        assert _iterates.semidefinite(M) == (values[0] > 0)
    low, high = _iterates.spectrum(M)
    one = _iterates.RATIONAL.eye(3)
    assert _iterates.semidefinite(M - low * one)
    assert _iterates.semidefinite(high * one - M)
    # a fraction of denominator <= 5000 is within 1/5000, and the steps away stop before 4 times what was missing
    assert float(low) == pytest.approx(values[0], abs=5 / 5000)
    assert float(high) == pytest.approx(values[-1], abs=5 / 5000)


def test_the_noise_of_the_data_part_is_that_of_its_function():
    case = lemma_2_data.radial({**lemma_2_data.point(2, 2), "groups_w": [0, 1]})
    assert case.masked == fmpq(28, 45)

    def noise(w, h=1e-5):
        root = [np.sqrt(1 + ((w + s) ** 2).sum()) for s in (h * np.eye(2)[0], -h * np.eye(2)[0])]
        return (root[0] - root[1]) / (2 * h)

    w = np.array([2.0, 1.0])
    # h² of truncation, eps/h of rounding
    assert float(case.at(_iterates.rationals([[2, 1]]))[0, 0]) == pytest.approx(
        noise(w) ** 2, abs=1e-10 + EPS / 1e-5 * 10
    )
    other = lemma_2_data.bilinear({"w": [0, 1], "keep_w": [4, 6]})
    assert other.masked == fmpq(1, 2) * fmpq(1, 4)
    assert other.sigma == 0


# -- theorem 1 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("randomness", ["shared", "fresh"])
def test_the_printed_recursion_by_its_closed_form(randomness):
    # kills: the mask of another iteration in v_m, β_{k+1} for β_k
    case = theorem_1.line(theorem_1.coin(c=2, one_in=8, C=20, randomness=randomness))
    p, A, q = case.p, case.c**2 * (1 - case.p) / case.p, fmpq(0)
    assert len(case.squares) > 2
    for beta, seen in zip(case.betas, case.squares, strict=True):
        q = (1 - 2 * beta * p + beta**2 * p) * q + 2 * p * (1 - p) * beta**2 * case.c**2
        assert seen == q + A * (1 - 2 * beta * p)
        assert seen >= A * (1 - beta * p) ** 2


def test_at_a_fair_coin_the_bound_for_all_k_is_the_square_of_1_minus_half_beta():
    case = theorem_1.line(theorem_1.coin())
    assert case.squares[0] >= (2 - case.betas[0]) ** 2 / 4
    assert case.squares[-1] > case.claimed(len(case.squares) - 1)


@pytest.mark.parametrize("randomness", ["shared", "fresh-cross", "fresh"])
@pytest.mark.parametrize(("n", "d"), SIZES)
def test_the_step_of_v_is_its_mean_and_its_variance(n, d, randomness):
    """E‖v⁺ − v̄‖² = ‖(I − βĀ)e + βΔ‖² + β²E‖ν‖², over the rationals; E‖ν‖² = V_A + V_b for independent draws."""
    params = theorem_1.moving(n, d, 3, curve=1, e=[1, -1], u=[2, 1], randomness=randomness)
    case = theorem_1.adjoint(params)
    seen, error = case.outcomes, case.v - case.v_star
    assert sum(seen.chances) == 1
    mean = seen.mean(seen.v)
    A, (b, g) = case.mean_hessian(case.lam, case.w), (case.upper_gradients, case.lower_gradients)
    of_w = case.mean(case.lower_law, case.w - case.gamma * g(case.lam, case.w))
    drift = (
        case.mean(case.upper_law, b(case.lam, of_w)) - A @ case.v_star
    )  # F is quadratic: b is affine in w⁺
    assert (mean == case.v_star + error - case.beta * (A @ error) + case.beta * drift).all()
    noise = seen.mean_square(seen.v - mean) / case.beta**2
    if randomness == "fresh":
        assert noise == case.hessian_noise + case.gradient_noise
    assert float(noise) <= (float(case.hessian_noise) ** 0.5 + float(case.gradient_noise) ** 0.5) ** 2 * (
        1 + 10 * EPS
    )


@pytest.mark.parametrize(("n", "d"), SIZES)
def test_the_mean_of_the_moving_target_is_the_adjoint_of_the_dropout_problem(n, d):
    case = theorem_1.adjoint(theorem_1.moving(n, d, 5, curve=1))
    exact = exact_hypergradient(case.problem, case.lam)
    seen = case.outcomes
    assert (exact.w == case.w_star).all()
    assert (exact.v == case.v_star).all()
    assert (seen.mean(case.adjoints_of(seen.upper)) == case.v_star).all()


@pytest.mark.parametrize("kappa", [0.0, 2.0])
@pytest.mark.parametrize(("n", "d"), SIZES)
def test_the_solutions_in_floats_agree_with_the_library(n, d, kappa):
    it_ = _iterates_mean.build(_iterates_mean.at(n, d, 4, kappa=kappa, kappa_upper=1.0, noise=1, move=0.1))
    exact = exact_hypergradient(it_.case.problem, it_.case.lam, certify="never")
    for mine, theirs in ((it_.case.w_star, exact.w), (it_.case.v_star, exact.v)):
        assert np.linalg.norm(mine - theirs) <= it_.rounding**0.5 * 10 * EPS**0.5
    assert it_.case.outcomes.chances.sum() == pytest.approx(1, abs=100 * EPS)


@given(st.integers(0, 20), st.sampled_from([(1, 1), (1, 2), (0, 2)]), st.floats(0, 2))
def test_derivatives_of_the_bump(seed, size, kappa):
    it_ = _iterates_mean.build(_iterates_mean.at(*size, seed, kappa=kappa, kappa_upper=1.0))
    for f in (it_.case.plain.lower, it_.case.plain.upper):
        check_derivatives(f, it_.case.lam, it_.case.w)


@given(st.integers(0, 20), st.sampled_from(SIZES), st.floats(0, 2), st.floats(0, 1))
def test_no_difference_exceeds_the_moduli(seed, size, kappa, far):
    # kills: κ or a mask's norm dropped in a modulus, the curvature of tanh' halved
    it_ = _iterates_mean.build(_iterates_mean.at(*size, seed, kappa=kappa, kappa_upper=1.0))
    case, rng = it_.case, np.random.default_rng(seed)
    n, d = size
    for f, modulus in ((case.problem.lower, it_.lower), (case.problem.upper, it_.upper)):
        dlam, dw = far * rng.standard_normal(n), far * rng.standard_normal(d)
        here, moved = (case.lam, case.w), (case.lam + dlam, case.w + dw)
        by = np.linalg.norm(dlam), np.linalg.norm(dw)
        allowed = 1e3 * EPS * (1 + modulus.high) * (1 + np.linalg.norm(case.w))  # a few dozen operations
        gradient = np.linalg.norm(f.grad_w(*here) - f.grad_w(*moved))
        assert gradient <= modulus.gradient_by_lam * by[0] + modulus.gradient_by_w * by[1] + allowed
        H = [f.hess_ww(*at).dense() for at in (here, moved)]
        assert (
            np.linalg.norm(H[0] - H[1], 2)
            <= modulus.hessian_by_lam * by[0] + modulus.hessian_by_w * by[1] + allowed
        )
        assert modulus.low - allowed <= np.linalg.eigvalsh(H[0])[0]
        assert np.linalg.eigvalsh(H[0])[-1] <= modulus.high + allowed


def test_the_moduli_are_attained():
    """One coordinate, no masks: tanh' is steepest where tanh² = 1/3."""
    it_ = _iterates_mean.build(_iterates_mean.at(0, 1, 1, kappa=2.0, **_iterates_mean.CERTAIN))
    f, law = it_.case.plain.lower, it_.case.lower_law
    found, h = Moduli.of(f, law), 1e-4
    steepest = np.array([np.arctanh(3**-0.5) / f.a[0]])
    H = [f.hess_ww(np.zeros(0), steepest + s).dense()[0, 0] for s in (h, -h)]
    slope = abs(H[0] - H[1]) / (2 * h)
    assert slope == pytest.approx(
        found.hessian_by_w, rel=20 * (h * f.a[0]) ** 2 + EPS / h
    )  # third derivative times h²
    flat = f.hess_ww(np.zeros(0), np.zeros(1)).dense()[0, 0]
    assert flat == pytest.approx(found.high, rel=10 * EPS)


def test_one_draw_for_both_steps_correlates_their_noises():
    """The control of @mean-shared: a bound for independent noises fails there by more than rounding."""
    it_ = _iterates_mean.build(theorem_1_mean.CORRELATED)
    found = theorem_1_mean.contracts(theorem_1_mean.added)(it_)
    assert found.used > 1.1
    assert theorem_1_mean.contracts(theorem_1_mean.at_worst)(it_).holds
