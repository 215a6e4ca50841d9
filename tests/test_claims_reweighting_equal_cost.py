"""The claims on equal numbers of gradients and products: their helper formulas by a second channel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refimpl as ri
from refimpl.approximate import InnerGaussNewton
from refimpl.approximate.penalty import AugmentedLagrangian
from refimpl.solvers import ConjugateGradient, GradientDescent
from verification.claims.reweighting import (
    _priced,
    equal_cost,
    equal_cost_adjoint,
    equal_cost_inside,
    equal_cost_penalty,
    equal_cost_race,
    equal_cost_radius,
    equal_cost_stopped,
)
from verification.claims.reweighting._penalty import square
from verification.instances import EPS

seeds = st.integers(0, 999)


@pytest.mark.parametrize("j", [1, 2, 3])
def test_the_map_by_descent_is_the_recursion_of_every_eigenvector(j):
    # kills: a power of ρ, δ's coefficient: spectra of 2 × 2 blocks against the method's own map
    p = _priced.priced(_priced.point(kappa=3.0, q=0.5, mu=2.0, j=j, share=0.7, d=3, seed=4))
    expected = []
    for h in np.geomspace(1, p.kappa, p.d):
        rho = (1 - p.share * 2 * h * h / (p.kappa**2 + 1)) ** j
        a = (1 - rho) / (p.q + p.mu)
        expected += np.linalg.eigvals([[rho, a], [-p.mu * rho, 1 - p.mu * a]]).tolist()
        assert np.linalg.det([[rho, a], [-p.mu * rho, 1 - p.mu * a]]) == pytest.approx(rho, abs=1e-14)
    by_size = lambda values: np.sort_complex(np.round(values, 9))  # noqa: E731 (one order for both)
    assert by_size(np.linalg.eigvals(p.map)) == pytest.approx(by_size(np.array(expected)), abs=1e-8)


def test_a_run_that_does_not_converge_is_rejected_and_grows():
    # kills: a predicate that lets every step pass, or none
    growing, settling = (_priced.priced(_priced.point(q=1.0, j=j)) for j in (3, 4))
    assert not equal_cost_radius.CONVERGENT.predicate(growing)[0]
    assert equal_cost_radius.CONVERGENT.predicate(settling)[0]
    exact = ri.exact_hypergradient(growing.problem, np.zeros(2)).value
    for p, grows in ((growing, True), (settling, False)):
        first, last = (
            np.linalg.norm(p.updated(np.zeros(p.d), np.zeros(p.d), k).value - exact) for k in (1, 60)
        )
        assert (last > first) == grows


def test_the_methods_spend_what_they_were_allowed():
    p = _priced.priced(_priced.point(kappa=4.0, q=1.0, d=3, j=4))
    errors, spent = equal_cost.errors(p)
    for name, units in spent.items():
        assert all(
            0.5 * n <= used <= n + 2 * p.j + 2 for n, used in zip(equal_cost.UNITS, units, strict=True)
        ), name
    assert all(
        used <= n for n, used in zip(equal_cost.UNITS, spent["augmented Lagrangian, CG inside"], strict=True)
    )
    assert errors["reverse mode"][-1] < 1e-9
    assert errors["penalty, γ = 100μ"][-1] > 1e-4  # its floor
    assert set(equal_cost.curve(p)["lines"]) == set(errors)


@pytest.mark.parametrize(("d", "units", "ahead"), [(8, 69, True), (60, 160, False)])
def test_in_floats_conjugate_gradients_inside_are_ahead_of_unrolling_for_few_variables_only(d, units, ahead):
    p = replace(_priced.priced(_priced.point(kappa=10.0, q=1.0, mu=100.0)), d=d)
    inner = InnerGaussNewton(1, ConjugateGradient(d))
    lagrangian = p.updated(np.zeros(d), np.zeros(d), units // (2 * d + 7), inner)
    unrolled = ri.approximate.reverse(
        p.problem, np.zeros(2), lower=GradientDescent((units + 1) // 2, 2 / (p.kappa + 1))
    )
    exact = ri.exact_hypergradient(p.problem, np.zeros(2), certify="never").value
    assert all(_priced.spent(x.calls) <= units for x in (lagrangian, unrolled))
    mine, theirs = (np.linalg.norm(x.value - exact) for x in (lagrangian, unrolled))
    assert (mine < theirs) == ahead


@given(st.integers(1, 4), seeds)
def test_what_reverse_mode_returns_is_minus_the_adjoint_that_it_used(T, seed):
    # kills: a cross derivative of F, another sign or another matrix in place of ∇²_λwG = I
    p = equal_cost_adjoint.compared(equal_cost_adjoint.at(T, d=3, seed=seed))
    found = ri.approximate.reverse(p.problem, p.lam, lower=equal_cost_adjoint.descent(p))
    term = p.problem.upper.grad_w(p.lam, found.w)
    total = 0 * term
    for _ in range(T):
        total, term = total + term / 4, term - (p.H @ term) / 4
    assert not (found.value + total != 0).any()


races = st.fixed_dictionaries(
    {
        "h": st.lists(st.integers(1, 9), min_size=1, max_size=4),
        "rival": st.sampled_from(["unrolling", "descent, CG"]),
        "q": st.sampled_from([[1, 2], [3, 1]]),
        "mu": st.sampled_from([[1, 1], [9, 1]]),
        "K": st.integers(1, 2),
        "seed": seeds,
    }
)


@given(races)
def test_the_errors_of_a_race_are_in_their_brackets_and_its_units_are_equal(params):
    # kills: a wrong sign in v*, 2 for 3 in the bracket, T or K off by one, λ* from another formula
    r = equal_cost_race.race(params)
    curved, straight = r.adjoint
    exact = ri.exact_hypergradient(r.problem, r.lam)
    assert not (r.a.reflection @ exact.v != curved + straight).any()
    inside = equal_cost_inside.updated(r.problem, r.lam, r.mu, r.K, r.m)
    factor, descent = r.factors
    size = square(exact.v)
    assert square(inside.value - exact.value) == factor ** (2 * r.K) * size
    error = square(r.rivals.value - exact.value)
    shrunk = descent ** (2 * r.steps(r.units))
    assert shrunk * r.slowest <= error <= 9 * shrunk * size
    for found in (inside, r.rivals):
        assert _priced.spent(found.calls) <= r.units
    assert r.units - _priced.spent(r.rivals.calls) <= 1 or r.rivals.calls["lower.hess_ww"] < r.m


def test_a_race_that_is_close_is_not_judged():
    close = equal_cost_race.race(equal_cost_race.at([1, 10], "unrolling", [1, 1]))
    assert not equal_cost_race.APART.predicate(close)[0]
    many = equal_cost_race.race(equal_cost_race.at(equal_cost_inside.MANY, "unrolling", [100, 1], 3))
    assert equal_cost_race.APART.predicate(many)[0]
    assert (many.m, len(many.H)) == (3, 21)


@given(seeds, st.booleans())
def test_the_stopped_update_ends_where_it_says(seed, hardest):
    # kills: a spectrum of H where that of H² was meant, a weight that is not M's
    s = equal_cost_stopped.stopped(equal_cost_stopped.at(3.0, 2, hardest=hardest, seed=seed, d=3))
    phi = AugmentedLagrangian(s.problem, np.zeros(1), 0 * s.a, s.mu)
    M = phi.gauss_newton(0 * s.a).dense()
    assert np.linalg.cond(M) == pytest.approx(s.kappa**2, rel=100 * EPS * s.kappa**2)
    assert np.abs(phi.grad(s.solved)).max() <= 10 * len(s.h) * EPS * s.kappa * np.abs(s.a).max()
    assert s.size(s.a) ** 2 == pytest.approx(s.a @ M @ s.a, rel=100 * EPS)


@given(seeds, st.integers(1, 30), st.sampled_from(["descent", "CG"]))
def test_the_error_of_the_penalty_is_its_floor_and_what_is_left(seed, steps, method):
    # kills: another sign of what the inner method left, γ for γ + q, H for H⁻¹
    p = equal_cost_penalty.penalty(equal_cost_penalty.at(steps, method, d=3, seed=seed))
    problem, lam, gamma, q = p.of.problem, np.zeros(2), p.of.mu, p.of.q
    found = ri.approximate.penalty(problem, lam, gamma=gamma, inner=p.inner, check=False)
    exact = ri.exact_hypergradient(problem, lam)
    H, C = problem.lower.hess_ww(lam, found.w).dense(), problem.lower.cross(lam, found.w).dense()
    left = problem.upper.grad_w(lam, found.w) - H @ found.v
    expected = (q * C @ exact.v + gamma * C @ np.linalg.solve(H, left)) / (gamma + q)
    measured = equal_cost_penalty.above()(p)
    assert np.abs(found.value - exact.value - expected).max() <= measured.rounding
    assert measured.bound == pytest.approx(np.linalg.norm(expected), abs=measured.rounding)
