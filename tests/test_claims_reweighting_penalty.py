"""The claims about the penalty method and the augmented Lagrangian: their helper formulas by a second channel."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from flint import fmpq, fmpq_poly
from hypothesis import given
from hypothesis import strategies as st

import refimpl as ri
from refimpl import check_derivatives
from refimpl.arrays import to_numpy
from refimpl.exact import hyperobjective_hessian
from verification.claims.reweighting import (
    _bent,
    _penalty,
    auglag_general,
    auglag_rate,
    non_convex_lower,
    penalty_condition,
    penalty_curvature,
    penalty_global,
    penalty_joint,
    penalty_joint_half_mu,
    penalty_quadratic,
    penalty_rate,
)
from verification.instances import EPS

SIZES = {"n": st.integers(1, 3), "d": st.integers(1, 3), "seed": st.integers(0, 999)}
seeds = st.integers(0, 999)
small = st.fractions(0, 10**6, max_denominator=10**6)


@given(small)
def test_roots_are_rounded_up_and_hardly(x):
    root = _penalty.root_above(fmpq(x.numerator, x.denominator))
    exact = Fraction(int(root.p), int(root.q))
    assert exact**2 >= x
    assert (exact - Fraction(1, 2**60)) ** 2 < x or exact == 0
    assert _penalty.root_above(fmpq(9, 4)) == fmpq(3, 2)


@given(st.fixed_dictionaries({**SIZES, "convex": st.booleans(), "gamma": st.just([1, 2])}))
def test_the_spectra_are_those_stated_and_the_adjoint_is_the_packages(params):
    p = _penalty.penalised(params)
    H, Q = (np.asarray(to_numpy(x), dtype=float) for x in (p.H, p.Q))
    scale = 10 * len(H) * EPS * np.linalg.norm(Q) * np.linalg.cond(H) ** 2 + 1e-300
    assert np.linalg.eigvalsh(H) == pytest.approx(
        sorted(p.h.spectrum), abs=10 * len(H) * EPS * np.linalg.norm(H)
    )
    S = np.linalg.solve(H, np.linalg.solve(H, Q).T)
    assert np.linalg.eigvalsh((S + S.T) / 2) == pytest.approx(sorted(p.s.spectrum), abs=scale)
    exact = ri.exact_hypergradient(p.problem, p.lam)
    assert [*exact.w, *exact.v, *exact.value] == [*p.w_star, *p.adjoint, *p.hypergradient]
    assert p.gamma + min(p.s.spectrum) > 0


@given(seeds, st.integers(1, 3), st.booleans())
def test_the_two_forms_of_the_factor_agree(seed, d, convex):
    # kills: H for H², a side exchanged: S(S + μI)⁻¹ = (I + μHQ⁻¹H)⁻¹ where Q is invertible
    p = _penalty.penalised({"n": 1, "d": d, "seed": seed, "convex": convex, "gamma": [3, 2]})
    eye = auglag_rate.eye(p)
    assert ((auglag_rate.factor(p) @ p.shifted() - p.S) == 0).all()
    assert ((p.shifted() @ auglag_rate.factor(p) - p.S) == 0).all()
    assert ((eye - auglag_rate.factor(p)) @ p.shifted() == p.gamma * eye).all()


@given(seeds, st.integers(1, 3))
def test_derivatives_of_the_bent_level(seed, d):
    # kills: a third, a quarter or the 2 of e lost
    g = _bent.backward(_bent.at(d=d, seed=seed)).lower.to("numpy")
    rng = np.random.default_rng(seed)
    check_derivatives(g, rng.standard_normal(1), rng.standard_normal(d))


@given(seeds, st.integers(1, 3), st.booleans())
def test_the_bent_levels_constants_hold_where_they_are_stated(seed, d, convex):
    """m below every Hessian; −s_ I ⪯ S ⪯ s⁺ I inside the ball, S by differences of y ↦ f(v(y)) along r."""
    b = _bent.backward(_bent.at((1, 1), d=d, seed=seed, over=64, convex=convex))
    rng = np.random.default_rng(seed)
    if b.m <= 0:
        return
    g, Q, p = b.lower.to("numpy"), np.asarray(to_numpy(b.q.a), float), np.asarray(to_numpy(b.p), float)
    low, high = (float(x) for x in b.curvature)
    radius = float(np.linalg.norm(to_numpy(b.r).astype(float))) / float(b.m)
    lam = np.zeros(1)
    for _ in range(5):
        w = rng.standard_normal(d)
        assert np.linalg.eigvalsh(g.hess_ww(lam, 10 * w).dense())[0] >= float(b.m) * (1 - 100 * EPS * 1e4)
        w = w / np.linalg.norm(w) * radius * rng.uniform()
        H = g.hess_ww(lam, w).dense()
        v = np.linalg.solve(H, Q @ w + p)
        # Σ_k v_k ∇²r_k: the derivative of Hv along the coordinates, exact as H is quadratic in w
        bend = np.stack([(g.hess_ww(lam, w + e) @ v - g.hess_ww(lam, w - e) @ v) / 2 for e in np.eye(d)])
        S = np.linalg.solve(H, np.linalg.solve(H, Q - bend).T)
        values = np.linalg.eigvalsh((S + S.T) / 2)
        slack = 1e3 * d * EPS * (1 + np.abs(values).max()) * np.linalg.cond(H) ** 2
        assert -low - slack <= values[0]
        assert values[-1] <= high + slack


@given(seeds, st.integers(1, 3))
def test_backward_instances_are_stationary(seed, d):
    for more in ({}, {"multiplier": True}):
        b = _bent.backward(_bent.at((3, 2), d=d, seed=seed, over=4, **more))
        assert _bent.STATIONARY.predicate(b)[0]
        moved = _bent.backward(_bent.at((3, 2), d=d, seed=seed, over=4, off=1, **more))
        assert not _bent.STATIONARY.predicate(moved)[0]


def test_three_stationary_points_for_an_affine_f_and_a_strongly_convex_g():
    """r = v + 4v/(1 + v²), f = −3v, γ = 1: v = 1 exactly, a maximum; the penalty function needs γ > s_."""
    r = lambda v: v + 4 * v / (1 + v * v)  # noqa: E731 (one formula)
    slope = lambda v: 1 + 4 * (1 - v * v) / (1 + v * v) ** 2  # noqa: E731 (its derivative)
    v = np.linspace(0.01, 5, 5000)
    gradient = r(v) * slope(v) - 3
    assert r(Fraction(1)) * slope(Fraction(1)) == 3
    assert np.count_nonzero(np.diff(np.sign(gradient[np.abs(gradient) > 1e-9]))) == 3
    assert slope(v).min() >= 0.5


def test_local_factors_for_an_affine_f_are_those_of_the_notes():
    """r = v + v² + v³, f = v: S = −2 at v*, factor −2/(μ − 2), from pairs at v = ε.

    The next order is (3/2 + 3/(μ − 2)) ε of it: at most 9ε/2.
    """
    eps = 10**-6
    for mu, factor in ((3, -2), (4, -1), (6, Fraction(-1, 2))):
        b = _bent.backward(auglag_general.bending(gamma=[mu, 1], over=10**6))
        new, old = b.phi.multiplier(b.w)[0] - b.adjoint[0], b.v[0] - b.adjoint[0]
        assert float(new / old) == pytest.approx(float(factor), rel=5 * eps)


def test_the_exponents_interval_is_reached_by_closed_forms():
    g = penalty_quadratic.growing(_penalty.scalar(2, 3, (1, 1)))
    sizes = [0.5 / (float(x) + 3) for x in g.gammas]
    logs = np.log([float(x) for x in g.gammas])
    assert g.slope == pytest.approx(np.polyfit(logs, np.log(sizes), 1)[0], rel=1e-12)
    assert penalty_quadratic.growing({"degenerate": True}).slope == pytest.approx(-3 / 5, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_joint_problem_against_the_package(seed):
    # kills: a factor of W or a transpose in φ_uu, φ_uy; a stationary point that is not the hyperobjective's
    j = penalty_joint.joint(_penalty.one((3, 1), n=2, d=3, seed=seed))
    assert (ri.exact_hypergradient(j.at.problem, j.at.lam).value == 0).all()
    problem = j.at.problem.to("numpy")
    lam = np.asarray(to_numpy(j.at.lam), float)
    uu = np.asarray(to_numpy(j.uu), float)
    assert hyperobjective_hessian(problem, lam) == pytest.approx(uu, rel=1e-10, abs=1e-10 * np.abs(uu).max())
    # S: the Schur complement of u in the Hessian of φ over (u, y)
    p = j.at
    back = np.block([[_floats(np.eye(2)), np.zeros((2, 3))], [_floats(j.W), np.linalg.inv(_floats(p.H))]])
    phi = back.T @ _floats(j.P) @ back
    schur = phi[2:, 2:] - phi[2:, :2] @ np.linalg.solve(phi[:2, :2], phi[:2, 2:])
    size = np.abs(phi).max() * np.linalg.cond(_floats(p.H)) ** 2
    assert schur == pytest.approx(_floats(j.S), abs=1e3 * EPS * size)
    assert phi[:2, 2:] == pytest.approx(_floats(p.coupling), abs=1e3 * EPS * size)


def _floats(x):
    return np.asarray(to_numpy(x), dtype=float)


def test_the_smallest_joint_problem_in_closed_form():
    for gamma in (1, 9, 99):
        j = penalty_joint.joint(_penalty.scalar(1, 1, (gamma, 1), a=[-1]))
        u, w = j.minimiser(0 * j.at.adjoint)
        assert j.at.lam[0] - u[0] == fmpq(1, 2 * (1 + 2 * gamma))
        assert w[0] - u[0] == fmpq(1, 1 + 2 * gamma)
        assert penalty_condition.condition(j, float(gamma))[0] == pytest.approx(1 + 2 * gamma, rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_flat_hyperobjective_is_a_stationary_point(k):
    u = Fraction(1, 2**k)
    s = penalty_joint.measured({"flat": k})
    assert s.gamma == fmpq(12 * (k == 1) + 80 * (k == 2) + 576 * (k == 3))
    assert (Fraction(int(s.error.p), int(s.error.q)), s.hyper) == (u * u, False)


@given(st.lists(st.integers(-3, 3), min_size=3, max_size=3))
def test_derivatives_of_the_wells(roots):
    g = non_convex_lower.Wells(np.array(sorted(roots), dtype=float))
    check_derivatives(g, np.zeros(1), np.array([0.7]))
    assert all(g.grad_w(np.zeros(1), np.array([float(root)]))[0] == 0 for root in roots)


def test_the_notes_counterexample_is_a_maximiser_and_the_penalty_goes_there_from_afar():
    t = non_convex_lower.trapped(non_convex_lower.wells([-1, 0, 1], 1))
    assert t.refused
    assert t.curvature == -1
    inner = ri.approximate.InnerDescent(60, 0.004)
    problem = t.problem.to("numpy")
    end = ri.approximate.penalty(problem, [0.0], gamma=100.0, w0=np.array([0.3]), inner=inner, check=False).w
    assert abs(end[0]) < 1e-9


def test_below_moves_the_point_and_keeps_the_problem():
    whole, half = (penalty_rate.below(_bent.line(1, 1, share=[s, 2])) for s in (2, 1))
    assert half.p[0] == whole.p[0]
    assert 2 * half.w[0] == whole.w[0]


def test_the_largest_share_is_found_beside_bounds_of_zero():
    # kills: 0 · inf, a NaN that hid whatever came after a bound of zero
    assert _penalty.largest((0, 0), (3, 2), (1, 1)).ratio == 1.5
    assert _penalty.largest((-1, 0), (1, 2)).ratio == 0.5
    assert _penalty.largest((3, 2), (1, 0)).bound == 0


@given(seeds, st.integers(1, 3), st.booleans())
def test_the_second_derivative_is_that_of_f_in_the_variable_of_the_constraint(seed, d, convex):
    """S v̇ against d/dt of H⁻¹∇_vf along ẏ = Hv̇, in floats by a complex step."""
    b = _bent.backward(_bent.at(d=d, seed=seed, over=16, convex=convex, multiplier=True))
    if b.m <= 0:
        return
    g, Q, p = b.lower.to("numpy"), np.asarray(to_numpy(b.q.a), float), np.asarray(to_numpy(b.p), float)
    lam, w, H = np.zeros(1), np.asarray(to_numpy(b.w), float), np.asarray(to_numpy(b.H), float)
    S = np.asarray(to_numpy(b.S), float)
    for e in np.eye(d):
        moved = w + 1e-20j * np.linalg.solve(H, e)
        change = np.linalg.solve(g.hess_ww(lam, moved).dense(), Q @ moved + p).imag / 1e-20
        slack = 1e3 * d * EPS * np.linalg.cond(H) ** 2 * (1 + np.abs(S).max())
        assert change == pytest.approx(S @ e, abs=slack)
    least, most = (np.asarray(to_numpy(x), float) for x in penalty_curvature.directions(b.S))
    values = np.linalg.eigvalsh(S)
    for x, value in ((least, values[0]), (most, values[-1])):
        # a rounded direction is off by d/WITNESS at most, its quotient by the square of that
        assert x @ S @ x / (x @ x) == pytest.approx(
            value, abs=2 * np.abs(S).max() * d**3 / penalty_curvature.WITNESS
        )


def test_the_hill_is_the_gradient_of_its_g_and_its_bound_lies_below():
    h = penalty_global.hill(penalty_global.at(kappa=2, j=2, p=(5, 8)))
    eps, k, j, q = float(h.eps), h.k, h.j, float(h.q)

    def g(t, n):
        far = (t - k * n) ** (2 * j + 2) / (2 * j + 2)
        return (t * t + n * n) / 2 + eps * (t + k * n) ** 2 / 2 + eps * far

    def slope(t, n):
        return np.array([g(t + 1e-20j, n).imag, g(t, n + 1e-20j).imag]) / 1e-20

    rng, radius = np.random.default_rng(0), float(h.beyond)
    at_1 = -float(h.p) + (slope(1, 0) ** 2).sum() / 2
    for t, n in rng.uniform(-radius, radius, (200, 2)):
        along = float(h.squared(fmpq(int(t * 2**40), 2**40)))
        assert along == pytest.approx((slope(int(t * 2**40) / 2**40, 0) ** 2).sum() / 2, rel=1e3 * EPS)
        for across in (n, n / 1e3, n / 1e6):  # ∇g's hill is steep: what n gains is gained near 0
            if math.hypot(t, across) < radius:
                value = -float(h.p) * t + q * across**2 / 2 + (slope(t, across) ** 2).sum() / 2
                assert value > at_1
    hessian = np.eye(2) + eps * np.outer([1, k], [1, k])  # on t = kn
    assert np.linalg.eigvalsh(hessian)[0] == pytest.approx(1, rel=1e3 * EPS * k**2)


def test_the_constant_two_is_approached():
    ratios = [
        penalty_global.far()(penalty_global.hill(penalty_global.at(n, n, (n + 1, 2 * n), 2**16))).ratio
        for n in (4, 8, 16)
    ]
    assert ratios == sorted(ratios)
    assert [2 - r for r in ratios] == pytest.approx([2 - (1 - 1 / 128) * 2 * n / (n + 1) for n in (4, 8, 16)])


@given(st.fractions(-4, 4, max_denominator=8), st.fractions(-4, 4, max_denominator=8))
def test_bernstein_coefficients_bound_a_polynomial(a, b):
    p = fmpq_poly([fmpq(a.numerator, a.denominator), fmpq(b.numerator, b.denominator), -1, 2])
    low, high = fmpq(-1, 2), fmpq(3, 4)
    values = [p(low + (high - low) * fmpq(i, 32)) for i in range(33)]
    coefficients = penalty_global.bernstein(p, low, high)
    assert min(coefficients) <= min(values)
    assert max(values) <= max(coefficients)
    assert (coefficients[0], coefficients[-1]) == (values[0], values[-1])
    assert penalty_global.positive(p, low, high) <= (min(values) > 0)
    root = p - p(fmpq(1, 3))
    assert not penalty_global.positive(root, low, high)


@pytest.mark.parametrize(
    ("mu", "expected"), [((1, 2), 2), ((3, 2), -2), ((2, 1), -1), ((3, 1), Fraction(-1, 2))]
)
def test_the_joint_factors_of_the_notes(mu, expected):
    # kills: the update's sign, a column of another start
    j = penalty_joint.drawn(penalty_joint_half_mu.bilinear(*mu))
    assert (j.uu[0, 0], j.S[0, 0]) == (1, -1)
    u, w = j.minimiser(j.at.adjoint + 1)
    factor = 1 - j.at.gamma * j.residual(u, w)[0]
    assert Fraction(int(factor.p), int(factor.q)) == expected
    assert penalty_joint_half_mu.contracts(j) == (abs(expected) < 1)
    assert penalty_joint_half_mu.convex(j) == (Fraction(*mu) > 1)
    assert penalty_joint.drawn(penalty_joint_half_mu.coupled(*mu)).S[0, 0] == fmpq(-3, 2)
