"""Lower levels on which a careless notion of "solved", a stale factor or a wrong derivative would go unnoticed."""

import dataclasses

import autograd.numpy as anp
import numpy as np
import pytest

import refimpl as ri
from refimpl.zoo.quadratic import Quadratic

EPS = np.finfo(float).eps


def _problem(lower, upper, d=1):
    return ri.BilevelProblem(ri.from_function(upper, n=1, d=d), ri.from_function(lower, n=1, d=d))


@pytest.mark.parametrize("lam", [0.8, 1.0, 1.2])
def test_a_steep_lower_level_is_not_solved_where_it_is_steep(lam):
    """w(λ) = λ, f = λ²/2; r(λ, 0) is e^40λ. Kills: a rounding floor that takes the size of r at the origin."""
    problem = _problem(
        lambda lam, w: anp.sum(anp.exp(-40 * (w - lam[0])) / 40 + w),
        lambda lam, w: anp.sum(w**2) / 2 + 0 * lam[0],
    )
    exact = ri.exact_hypergradient(problem, [lam])
    assert abs(exact.value[0] - lam) <= 10 * 40 * EPS * lam  # the Hessian is 40 at the solution
    assert problem.check(np.array([lam]), exact.w).solved
    assert not problem.check(np.array([lam]), 0.9 * exact.w).solved


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_lower_level_that_is_not_defined_at_the_origin():
    """G = e^λ w − log w: w(λ) = e^{−λ}, f = 2e^{−λ}. Kills: an infinite floor, which any w is below."""
    problem = _problem(
        lambda lam, w: anp.sum(anp.exp(lam[0]) * w - anp.log(w)), lambda lam, w: anp.sum(w) + 0 * lam[0], d=2
    )
    exact = ri.exact_hypergradient(problem, [0.0], start=[0.5, 0.5])
    assert np.linalg.norm(exact.w - 1) <= 20 * EPS
    assert abs(exact.value[0] + 2) <= 40 * EPS
    with pytest.raises(ri.errors.NotConverged, match="measured"):
        ri.exact.adjoint(problem, [0.0], [0.5, 0.5])


def test_a_polish_that_moves_w_takes_a_new_factor():
    """Kills: the adjoint of the Hessian before the last correction."""
    problem = _problem(
        lambda lam, w: anp.sum((w - lam[0]) ** 4) + 1e-9 * anp.sum(w**2) / 2,
        lambda lam, w: anp.sum(w**2) / 2 + 0 * lam[0],
    )
    exact = ri.exact_hypergradient(problem, [1.0])
    hessian = problem.lower.hess_ww(np.array([1.0]), exact.w).dense()
    left = problem.upper.grad_w(np.array([1.0]), exact.w) - hessian @ exact.v
    assert np.linalg.norm(left) <= 10 * EPS * np.linalg.norm(hessian) * np.linalg.norm(exact.v)


class _HalfHessian(Quadratic):
    def hess_ww(self, lam, w):
        return self.backend.scalar(0.5) * super().hess_ww(lam, w)


class _CrossWithTheOtherSign(Quadratic):
    def cross(self, lam, w):
        return (-1) * super().cross(lam, w)


class _GradientOfTheSum(Quadratic):
    def grad_w(self, lam, w):
        return 2 * super().grad_w(lam, w)


@pytest.mark.parametrize("wrong", [_HalfHessian, _CrossWithTheOtherSign, _GradientOfTheSum])
def test_a_wrong_derivative_is_not_certified(wrong):
    """Kills: an enclosure that takes ∂_w r and ∂_λ r on trust."""
    right = ri.zoo.quadratic.random(n=2, d=3, seed=0)
    f = right.lower
    problem = dataclasses.replace(right, lower=wrong(f.ww, f.lw, f.ll, f.w1, f.l1))
    with pytest.raises(ri.errors.NotCertified, match="not the derivative"):
        ri.exact_hypergradient(problem, problem.start(), certify="always")
    assert ri.exact_hypergradient(right, right.start(), certify="always").kind == "bounded"


@pytest.mark.parametrize("kappa", [1e2, 1e6])
def test_the_estimate_survives_cancellation(kappa):
    """∂_λ r orthogonal to v: the value is rounding alone. Kills: rounding scaled by what is left after cancelling."""
    worst = 0.0
    for seed in range(20):
        base = ri.zoo.quadratic.random(n=1, d=4, seed=seed, L=kappa)
        v = ri.exact_hypergradient(base, base.start(), certify="never").v
        lw = base.lower.lw[0] - np.outer(base.lower.lw[0] @ v / (v @ v), v)
        problem = dataclasses.replace(base, lower=dataclasses.replace(base.lower, lw=lw[None]))
        found = ri.exact_hypergradient(problem, problem.start(), certify="never")
        rational = problem.to("rational")
        truth = ri.arrays.to_numpy(ri.exact_hypergradient(rational, rational.start()).value)
        worst = max(worst, float(np.linalg.norm(found.value - truth) / found.bound))
    assert worst <= 1


@pytest.mark.parametrize(
    "call",
    [
        lambda p: ri.exact_hypergradient(p.lower, [0.0, 0.0]),
        lambda p: ri.approximate.implicit(p, [0.0, 0.0], lower="newton", linear=ri.solvers.LU()),
        lambda p: ri.approximate.implicit(p, [0.0, 0.0], lower=ri.solvers.LU(), linear=ri.solvers.Newton()),
        lambda p: ri.approximate.reverse(p, [0.0, 0.0], lower=3),
        lambda p: ri.FixedPointProblem(p.upper, p.lower),
        lambda p: ri.BilevelProblem(abs, abs),
        lambda p: ri.from_function(abs, n=1.0, d=2.0),
    ],
    ids=[
        "objective for problem",
        "name for solver",
        "swapped",
        "number for solver",
        "objective for map",
        "functions",
        "sizes",
    ],
)
def test_what_is_no_problem_or_solver_is_refused(call):
    with pytest.raises(ri.errors.BadInput) as refusal:
        call(ri.zoo.quadratic.random(n=2, d=3, seed=0))
    assert refusal.value.measured is not None
    assert refusal.value.advice
