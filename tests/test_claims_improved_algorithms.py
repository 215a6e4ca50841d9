"""What the claims on algorithm 2 and the two models are built from: formulas twice, instances that differ."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from flint import fmpq, fmpq_mat, fmpq_poly

import refimpl as ri
from refimpl import check_derivatives
from refimpl.errors import HypothesisViolated
from refimpl.solvers import Averaging, BiGSAM
from verification.claims.improved_bilevel import (
    ablation,
    algorithm_2,
    bda,
    certificate,
    complexity,
    constant_weight,
    hypergradient,
    settings_printed,
    theorem_2,
    theorem_2_worst,
    tikhonov,
    unrolled_rate,
)
from verification.claims.improved_bilevel._dual import Dual, along, clipped, solve
from verification.claims.improved_bilevel._moving import RATIONAL, Residuals, at, constrained, moving

EPS = float(np.finfo(float).eps)
SEEDS = range(6)
SMALL = fmpq(1, 2**60)  # a difference quotient's step: its own error is as small


def numbers(rng, *shape):
    return np.asarray(RATIONAL.asarray(rng.integers(-3, 4, shape).astype(float)))


def rational(pairs):
    return np.array([fmpq(*pair) for pair in pairs], dtype=object)


# -- dual numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_dual_numbers_differentiate_as_polynomials_do(seed):
    # kills: a sign in the quotient rule, a reflected operation with its sides exchanged
    a, b, c = numbers(np.random.default_rng(seed), 3)
    x, p = Dual(a, fmpq(1)), fmpq_poly([a, 1])
    square = 1 + (b - x) * (b - x)
    expected = 1 + (b - p) ** 2
    assert (square.value, square.slope) == (expected[0], expected[1])
    ratio = (c + x) / square
    back = ratio * square
    assert (back.value, back.slope) == (c + a, 1)
    assert (2 / square * square).slope == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_elimination_over_dual_numbers(seed):
    # kills: a row that is not exchanged with its pivot, a factor read after it was overwritten
    rng = np.random.default_rng(seed)
    A, B, b = numbers(rng, 3, 3), numbers(rng, 3, 3), numbers(rng, 3)
    A[0, 0] = fmpq(0)
    while fmpq_mat(A.tolist()).det() == 0:
        A[1:] = numbers(rng, 2, 3)
    found = solve(A + B * Dual(fmpq(0), fmpq(1)), b)
    value = np.array([x.value for x in found], dtype=object)
    slope = np.array([x.slope for x in found], dtype=object)
    assert not (A @ value - b).any()
    assert not (A @ slope + B @ value).any()


def test_a_projection_of_dual_numbers_is_a_constant_where_it_binds():
    x = np.array([Dual(fmpq(v), fmpq(1)) for v in (-3, 0, 3)], dtype=object)
    assert [(e.value, e.slope) for e in clipped(x, fmpq(-1), fmpq(2))] == [(-1, 0), (0, 1), (2, 0)]


# -- instances -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_derivatives_of_the_residuals(seed):
    # kills: A_jᵀ(Aw − c) or Aᵀ(A_jw − c_j) left out of the cross derivative, c_j out of ∇_λ
    rng = np.random.default_rng(seed)
    f = Residuals(rng.uniform(-1, 1, (3, 2, 4)), rng.uniform(-1, 1, (3, 2)))
    check_derivatives(f, rng.uniform(-1, 1, 2), rng.uniform(-1, 1, 4))


@pytest.mark.parametrize("seed", SEEDS)
def test_three_ways_to_the_selected_minimiser(seed):
    case = moving(at(2, 3, 2, seed))
    w = ri.exact.solve_simple(case.problem, case.lam).w
    assert (
        [x.value for x in case.selected(case.lam)[0]]
        == w.tolist()
        == hypergradient.best(case, case.lam)[0].tolist()
    )


@pytest.mark.parametrize("p", hypergradient.EXPLICIT)
def test_the_difference_quotient_of_a_control_passes_where_the_rank_is_constant(p):
    # else the control at a change of rank would show nothing
    case = moving(p)
    assert hypergradient.quotient(case).holds
    assert hypergradient.formula_of_any_rank(case).tolist() == hypergradient.printed()(case).tolist()
    assert hypergradient.refused(case).observed == 1


@pytest.mark.parametrize(
    "params", [at(1, 2, 2, 3, drop="row"), at(1, 2, 2, 3, drop="matrix"), at(4, 3, 2, 3, drop="signs")]
)
def test_where_the_rank_falls(params):
    case = moving(params)
    assert not hypergradient.CONSTANT_RANK.predicate(case)[0]
    assert not hypergradient.quotient(case).holds
    with pytest.raises(HypothesisViolated):
        ri.exact.improved_hypergradient(case.problem, case.lam)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_pseudo_inverse_of_any_rank(seed):
    # kills: C and R exchanged in the factorisation
    A = numbers(np.random.default_rng(seed), 1 + seed % 3, 4)
    H = A.T @ A
    P = hypergradient.pseudo_of_any_rank(H)
    for left, right in ((H @ P @ H, H), (P @ H @ P, P), ((H @ P).T, H @ P), ((P @ H).T, P @ H)):
        assert not (left - right).any()


@pytest.mark.parametrize("moves", ["", "s", "t", "gamma", "start"])
@pytest.mark.parametrize("box", [False, True])
def test_the_loops_derivative_is_that_of_its_values(moves, box):
    # kills: a quantity that is frozen where it should move, or moves where it should be frozen
    params = algorithm_2.steps(2, 3, 2, 4, (1, 8), seed=2, moves=moves, box=box)
    run = algorithm_2.loop(params)
    for j in range(2):
        ahead, behind = (run.case.lam.copy() for _ in range(2))
        ahead[j], behind[j] = ahead[j] + SMALL, behind[j] - SMALL
        ends = [getattr(end, "value", end) for end in (run.run(lam)[1] for lam in (ahead, behind))]
        quotient = (ends[0] - ends[1]) / (2 * SMALL)
        assert abs(quotient - run.derivative[j]) <= fmpq(1, 2**60) * (1 + abs(run.derivative[j]))
    assert algorithm_2.both_modes(run).holds == (not moves)


def test_along_moves_one_coordinate():
    assert [x.slope for x in along(rational([(1, 2), (3, 1)]), 1)] == [0, 1]


# -- the two models ------------------------------------------------------------------------------------------------


def test_the_printed_numbers_of_theorem_2():
    one = theorem_2.models(theorem_2.ONE_STEP)
    assert (theorem_2.after(one).observed, theorem_2.after(one).bound) == (Fraction(1, 2), 0)
    strict = theorem_2.ordered()(theorem_2.models(theorem_2.of(1, 2, 1, plain=True)))
    assert (strict.observed, strict.bound) == (Fraction(1, 2), 1)
    worst = theorem_2_worst.below()(theorem_2_worst.Segments(theorem_2_worst.case([1, 0], [1, 1], [0, 0])))
    assert (worst.observed, worst.bound) == (Fraction(1, 2), Fraction(5, 2))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_minimum_from_differences_is_the_minimum(seed):
    # kills: a Hessian without its mixed entries, a half in the wrong place
    m = theorem_2.models(theorem_2.of(2, 3, 1, seed))
    bottom = theorem_2.least(m.improved, 2)
    around = [m.improved(numbers(np.random.default_rng([seed, i]), 2) / 3) for i in range(5)]
    assert all(value >= bottom for value in around)
    rest = theorem_2.least(lambda lam: lam @ lam + 2 * lam[0] * lam[1] / 3 - lam[0] + 5, 2)
    x = np.linalg.solve([[2, 2 / 3], [2 / 3, 2]], [1, 0])
    assert float(rest) == pytest.approx(5 - x[0] / 2, rel=10 * EPS)


@pytest.mark.parametrize("seed", SEEDS)
def test_gradient_descent_tends_to_the_reached_minimiser(seed):
    m = theorem_2.models(theorem_2.of(1, 3, 2, seed, w0=[1, -2, 2]))
    lam = rational([(1, 2)])
    A, c = (np.array(x.tolist(), dtype=float) for x in m.case.lower.at_lam(lam))
    w = m.start.astype(float) - np.linalg.pinv(A) @ (A @ m.start.astype(float) - c)
    assert np.allclose([float(x) for x in m.reached(lam)], w, rtol=0, atol=100 * EPS * np.linalg.cond(A) ** 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_values_on_a_segment_lie_between_its_best_and_its_worst(seed):
    # kills: a share that is not clipped, an end outside the box
    rng = np.random.default_rng(seed)
    a = [1, 0] if seed == 0 else rng.integers(1, 3, 2).tolist()
    params = theorem_2_worst.case(a, rng.integers(-2, 3, 2).tolist(), rng.integers(-4, 5, 2).tolist())
    s = theorem_2_worst.Segments({**params, "q": [1, 3]})
    (p,) = s.points
    first, last = s.ends(p)
    assert all(abs(x) <= 1 for x in (*first, *last))
    assert max(map(abs, first)) == max(map(abs, last)) == 1
    assert {a[0] * x + a[1] * y for x, y in (p, first, last)} == {a[0] * p[0] + a[1] * p[1]}
    inner = [[x + fmpq(k, 16) * (y - x) for x, y in zip(first, last, strict=True)] for k in range(17)]
    assert s.best(p) <= min(map(s.F, inner))
    assert max(map(s.F, inner)) == s.worst(p)


def test_constrained_keeps_a_basis_of_dependent_equations():
    eye = np.asarray(RATIONAL.eye(2))
    A, c = rational([(1, 1), (1, 1)])[None].repeat(2, axis=0), rational([(2, 1), (2, 1)])
    w, value = constrained(eye, rational([(0, 1), (0, 1)]), A, c)
    assert (w.tolist(), value) == ([1, 1], 1)


# -- runs ----------------------------------------------------------------------------------------------------------


def test_the_ablations_table():
    line = ablation.Ablation(ablation.of([1], [1], [1], 3, t=[1, 1]))
    table = [ablation.shifted_value(line, T) for T in range(1, 5)]
    assert table == [fmpq(2, 9), fmpq(1, 2), fmpq(2, 9), fmpq(1, 2)]
    plane = ablation.Ablation(ablation.of([0.25, 0], [1, 1], [1, 1], 5, c=[2, 1]))
    assert not plane.end(6).any()  # T > K: descent on G stays at 0
    assert plane.flat_error(6) == 1


@pytest.mark.parametrize("T", [1, 2, 5])
def test_long_runs_are_products(T):
    long = ablation.Long({"T": T, "e": 0.7, "c": 3.0, "J": 20})
    factors = [1 - min(3.0 / (j * T), 1.0) * 0.7 / 3.0 for j in range(1, 21)]
    products = [np.prod(factors[: long.m]), np.prod(factors)]
    assert long.errors == pytest.approx(products, rel=10 * EPS * 20 * T)


def test_states_alive_are_seen():
    costs = complexity.Costs(complexity.of(7))
    assert costs.stored(ri.approximate.reverse) == 8
    assert costs.stored(ri.approximate.forward) == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_aggregated_steps_leave_the_box_only_where_they_are_not_projected(seed):
    pair = bda.pair(bda.run(1, 2, 1, 3, seed=seed, low=0))
    assert all((w >= 0).all() for w in pair.aggregated())
    assert bda.same(inside=False)(pair).holds


# -- Tikhonov ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_stated_eigenvalues_are_those_of_the_pencil(seed):
    # kills: R on the wrong side of L
    s = tikhonov.spectral(tikhonov.of(4, 1, 0, seed=seed))
    w = s.solution
    Q, H = (
        np.array(f.hess_ww(s.lam, w).dense().tolist(), dtype=float)
        for f in (s.problem.upper, s.problem.lower)
    )
    found = np.sort(np.linalg.eigvals(np.linalg.solve(Q, H)).real)
    assert np.allclose(found, [0, 1, 4], rtol=0, atol=1000 * EPS * np.linalg.cond(Q))


def test_the_powers_are_stationary():
    assert all(tikhonov.Power({"p": p}).slope(m) == 0 for p in (1, 2, 5) for m in (2, 3, 9))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_linear_programs_proxy_is_a_minimiser(seed):
    # kills: the sign of c, ε in the numerator, a threshold over the wrong coordinates
    rng = np.random.default_rng(seed)
    p = tikhonov.Program(
        tikhonov.lp(rng.integers(-3, 4, 3).tolist(), rng.integers(-3, 4, 3).tolist(), (3, 2))
    )

    def value(i, x):
        return p.c[i] * x + p.eps * (x - p.a[i]) ** 2 / 2

    for i, best in enumerate(p.proxy()):
        assert all(value(i, best) <= value(i, fmpq(k, 48)) for k in range(49))
    assert p.step(p.proxy(), fmpq(1, 7)) == p.proxy()
    sharp = any(c * (w - a) < 0 for c, w, a in zip(p.c, p.solution, p.a, strict=True))
    assert (p.proxy() != p.solution) == sharp


def test_the_constant_weights_point_is_not_the_solution():
    c = constant_weight.constant(constant_weight.of(1, 2, 1))
    w = c.proxy(c.matched)
    assert w.tolist() != c.solution.tolist()
    for _ in range(3):
        assert c.step(w).tolist() == w.tolist()


# -- certificates and rates ----------------------------------------------------------------------------------------


def test_five_quarters_are_attained():
    near = certificate.Near(certificate.WORST)
    r, rho = near.residuals
    gap = float(np.linalg.norm(near.near - near.solution))
    assert rho <= 100 * EPS
    assert gap == pytest.approx(5 / 4 * r, rel=100 * EPS)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_certificates_derivative_is_that_of_f(seed):
    """H(λ) = (I + λM)H(I + λMᵀ) and b(λ) = H(λ)(p + λm) have the H' and b' stated, and a constant rank."""
    # kills: a sign, m left out of b', the adjoint's projection
    rng = np.random.default_rng(seed)
    params = certificate.of(
        [1.0, 0.0, 0.5], [0.0] * 3, [1.0, 3.0, 2.0], 0.4 + seed, tilt=seed, a=rng.uniform(-2, 2, 3).tolist()
    )
    near = certificate.Near(params)
    M = np.random.default_rng(seed).uniform(-1, 1, (3, 3))
    U = near.basis[0]

    def f(lam):
        turn = np.eye(3) + lam * M
        rows = (turn @ near.H @ U).T
        A, c = rows, rows @ (near._numbers("p") + lam * M[0])  # range H(λ) = turn range H, so these span it
        system = np.block([[near.Q, A.T], [A, np.zeros((2, 2))]])
        w = np.linalg.solve(system, np.concatenate([near.Q @ near._numbers("a"), c]))[:3]
        return (w - near._numbers("a")) @ near.Q @ (w - near._numbers("a")) / 2

    h = EPS ** (1 / 3)
    value, cross, _ = near.hypergradient(near.solution)
    assert value == pytest.approx((f(h) - f(-h)) / (2 * h), rel=1000 * h * h, abs=1000 * h * h)
    assert np.linalg.norm(cross @ near.basis[1]) <= 100 * EPS * (1 + np.linalg.norm(cross))


def turning_problem(run):
    """The same problem from two bare functions."""
    q, tau, sigma, chi, a1, a2 = (
        float(run.number(name)) for name in ("q", "tau", "sigma", "chi", "a1", "a2")
    )

    def upper(lam, w):
        off = w - np.array([a1, a2]) - lam[0]
        return (off[0] ** 2 + q * off[1] ** 2 + lam[0] * chi * (off[0] + off[1]) ** 2) / 2

    def lower(lam, w):
        return ((1 + lam[0] * sigma) * w[0] + lam[0] * tau * w[1] - 1 - lam[0]) ** 2 / 2

    F, G = (ri.from_function(f, n=1, d=2) for f in (upper, lower))
    return ri.BilevelProblem(F, G)


TURNED = [
    unrolled_rate.of(),
    unrolled_rate.of((5, 4), sigma=[1, 2], s=[3, 4]),
    unrolled_rate.of((3, 1), tau=[1, 2], q=[4, 1], chi=[-1, 2], share=[1, 2]),
]


@pytest.mark.parametrize("params", TURNED)
def test_the_turning_problems_derivative_is_the_librarys(params):
    # kills: a term of B_k, the weight of the wrong step, a term of F or of n without its slope
    run = unrolled_rate.Turning(params)
    problem, lam = turning_problem(run), np.zeros(1)
    exact = ri.exact.improved_hypergradient(problem, lam).value[0]
    assert float(run.value(run.solution).slope) == pytest.approx(exact, rel=1000 * EPS)
    t, s, v = (float(x) for x in (run.t, run.number("s"), run.v))
    beta = ri.solvers.contraction_of(*sorted((1.0, float(run.number("q")))), t)
    assert beta**2 == pytest.approx(float(run.beta_squared), abs=10 * EPS)
    for K in (4, 12):
        solver = BiGSAM(K, s=s, t=t, alpha=Averaging(beta, v * (1 - beta) / 2))
        found = ri.approximate.reverse(problem, lam, lower=solver).value[0]
        assert float(run.error(K)) == pytest.approx(found - exact, abs=1000 * K * EPS * (1 + abs(exact)))


@pytest.mark.parametrize("params", TURNED)
def test_the_coefficient_of_the_rate_is_known_before_a_run(params):
    """κ is the slope of −v t/s gᵀH⁺g, which is made of w_λ alone. Kills: v, t or s left out, H⁺ for (H⁺)²."""
    run = unrolled_rate.Turning(params)

    def behind(lam):
        q, tau, sigma, chi = (run.number(name) for name in ("q", "tau", "sigma", "chi"))
        n, c = np.array([1 + lam * sigma, lam * tau], dtype=object), 1 + lam
        Q = np.array([[1 + lam * chi, lam * chi], [lam * chi, q + lam * chi]], dtype=object)
        a, N = np.array([run.number("a1") + lam, run.number("a2") + lam]), np.array([-n[1], n[0]])
        p = n * c / (n @ n)
        w = p + N * (N @ Q @ (a - p)) / (N @ Q @ N)
        return (n @ Q @ (w - a)) ** 2 / (n @ n) ** 2

    slope = (behind(SMALL) - behind(-SMALL)) / (2 * SMALL)
    expected = -run.v * run.t / run.number("s") * slope
    assert abs(run.kappa - expected) < SMALL * (
        1 + abs(expected)
    )  # the quotient's own error is of the order of SMALL²


def test_the_coordinates_of_the_rate_are_the_recursion_stated():
    """u_k and m_k with their slopes, from the method's own path, against the docstring's two lines."""
    # kills: ξ without its v, U or N that do not turn, b left out of either line
    run = unrolled_rate.Turning(unrolled_rate.of((5, 4), sigma=[1, 2], s=[3, 4], chi=[-1, 2]))
    g, p, b, d, x, rho = run.scalars
    U, N = run.basis
    assert ((U @ N).value, (U @ N).slope, (U @ U).slope, (N @ N).slope, b.value) == (0, 0, 0, 0, 0)
    for k in range(run.first + 1, run.ks[-1] + 1, 7):
        before, vt = k - 1, run.v * run.t
        (u, m), (after, null) = run.coordinates(before), run.coordinates(k)
        phi = 1 - x + run.xi / before
        gap = phi * u + run.xi * rho / before - vt * b * m - after
        assert (gap.value, gap.slope) == (0, 0)
        gap = m - vt * d * m / k - vt * b * ((u + rho) / before) / k - null
        assert (gap.value, gap.slope) == (0, 0)
        r, m = (after + rho) / k, null
        gap = (
            run.value(run.path[k])
            - run.value(run.solution)
            - g * r
            - (p * r * r + 2 * b * r * m + d * m * m) / 2
        )
        assert (gap.value, gap.slope) == (0, 0)


NAMES = ("q", "tau", "sigma", "chi", "a1", "a2", "s", "share", "e")
NEAR = [  # where one term is needed: the numbers in the order of NAMES, l over its least, and the term
    ("8/1 1/1 -4/1 1/2 3/1 40/1 3/4 1/2 2/1", 1),  # ξρ in V, and V' in C
    ("1/4 1/2 3/1 -1/2 1/1 -40/1 1/2 1/4 101/100", 1),  # d' in T, and T in C
    ("1/4 1/1 3/1 0/1 2/1 2/1 1/2 1/1 3/2", 2),  # x' in V'
    ("8/1 -4/1 -4/1 3/1 0/1 -40/1 1/1 1/4 3/1", 3),  # V in C
    ("1/1 -4/1 -1/2 1/2 0/1 0/1 1/2 1/1 5/4", 2),  # p in C
    ("1/1 3/1 0/1 -1/2 -5/1 -40/1 3/4 3/4 5/2", 1),  # η and ξ' in V'
    ("1/2 3/1 1/2 3/1 1/1 2/1 3/4 1/2 5/2", 1),  # b' in V'
    ("3/1 1/2 0/1 -4/1 2/1 2/1 1/4 1/1 6/1", 3),  # p' in C
]


def near(row, late):
    numbers = ([*map(int, ratio.split("/"))] for ratio in row.split())
    return {**dict(zip(NAMES, numbers, strict=True)), "late": late, "doublings": 2}


@pytest.mark.parametrize("params", [*TURNED, unrolled_rate.AT_ONCE, *(near(*of) for of in NEAR)])
def test_every_step_of_the_rates_proof_holds_at_every_k(params):
    # kills: each of the terms of NEAR left out, l|.| of the start left out
    run = unrolled_rate.Turning(params)
    M, V, Vp, T = run.sizes
    most = [fmpq(0)] * 4
    for k in range(run.first, run.ks[-1] + 1):
        u, m = run.coordinates(k)
        found = [k * abs(x) for x in (m.value, u.value, u.slope, m.slope)]
        most = [max(pair) for pair in zip(most, found, strict=True)]
    assert all(hypothesis.predicate(run)[0] for hypothesis in unrolled_rate.CLAIMS[0].hypotheses)
    assert all(reached <= bound for reached, bound in zip(most, (M, V, Vp, T), strict=True))
    assert all(K * abs(K * run.error(K) - run.kappa) <= run.C for K in run.ks)
    assert (
        abs((run.scalars[4] * run.scalars[5] + run.v * run.t * run.scalars[0]).slope) == 0
    )  # xρ = −vtg, moved


def test_at_a_change_of_rank_the_derivative_tends_to_a_number_that_is_no_slope():
    """G = ½λw₁² + ½w₂² at λ = 0: f jumps from 3/4 to 3, and f_K'(0) → −3/5."""

    Q, a = np.array([[2.0, 1.0], [1.0, 2.0]]), np.ones(2)
    ends = [(w - a) @ Q @ (w - a) / 2 for w in np.array([[1.5, 0.0], [0.0, 0.0]])]  # w_λ at 0, and beside it
    assert ends == [0.75, 3.0]
    errors = []
    for K in (1000, 4000):
        w, dw = np.zeros(2), np.zeros(2)
        for k in range(1, K + 1):
            alpha = min(4 / k, 1.0)  # γ = 1, β = ½
            pulled = (1 - alpha) * 0.5 * np.array([w[0], 0.0])  # ∇²_λwG
            dw = dw - alpha * 0.5 * Q @ dw - (1 - alpha) * 0.5 * np.array([0.0, dw[1]]) - pulled
            w = w - alpha * 0.5 * Q @ (w - a) - (1 - alpha) * 0.5 * np.array([0.0, w[1]])
        errors.append(abs(Q @ (w - a) @ dw + 0.6))
    assert errors[1] < 0.01
    assert 3 < errors[0] / errors[1] < 5


# -- settings ------------------------------------------------------------------------------------------------------


def test_the_printed_schedules_first_weight_below_one():
    # 2/(1 − β): 3998 and 2198 where the document's settings are s = t = 0.001, γ = 1
    for L, steps in ((1.0, 3998), (10.0, 2198)):
        run = settings_printed.Schedule(settings_printed.settings(L=L))
        weights = [run.solver.alpha(k - 1) for k in (int(run.c), int(run.c) + 1)]
        assert weights[0] == 1 > weights[1]
        assert int(run.c) == steps


@pytest.mark.parametrize("seed", SEEDS)
def test_weights_matter_once_labels_contradict_each_other(seed):
    data = {"rows": 3, "seed": seed, "lam": [1, 5, 2]}
    assert settings_printed.no_effect()(settings_printed.Weighted(data)).holds
    assert not settings_printed.no_effect()(settings_printed.Weighted({**data, "repeated": 1})).holds
