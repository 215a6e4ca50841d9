"""What has no certificate says so: kinks, batches, sizes, formulas that do not run over balls, bad input."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import flint
import numpy as np
import pytest

import refimpl as ri
from refimpl.arrays import Backend
from refimpl.arrays.balls import upper_norm
from refimpl.errors import BadInput, HypothesisViolated, NotCertified, TooLarge
from refimpl.exact import certify, enclose
from refimpl.exact.certificate import LIMIT
from refimpl.objective import Objective
from refimpl.operators import identity, matrix
from refimpl.zoo import degenerate, quadratic, ridge, uppers

NUMPY = Backend()


# -- what has no certificate says so ------------------------------------------------------------------------
def test_a_stationary_point_that_is_no_minimiser_has_no_certificate():
    case = degenerate.indefinite_hessian()
    with pytest.raises(HypothesisViolated, match="not positive definite at the solution") as caught:
        enclose(case.problem, case.lam, case.w)
    assert "-1.000e+00" in caught.value.measured
    singular = degenerate.singular_hessian()
    with pytest.raises(HypothesisViolated, match="singular"):
        enclose(singular.problem, singular.lam, singular.w)


def test_a_kink_has_no_certificate():
    """Its formula compares, so over balls it is refused; a branch taken blindly would enclose nothing."""
    case = degenerate.kink()
    lam = np.array([3.0, 2.0])  # away from the kink the float result is right, and only estimated
    found = ri.exact_hypergradient(case.problem, lam, start=[2.0, 1.0])
    assert found.kind == "estimated"
    assert "compar" in found.why_not_bounded
    with pytest.raises(NotCertified):
        ri.exact_hypergradient(case.problem, lam, start=[2.0, 1.0], certify="always")


@dataclass(frozen=True)
class Own(Objective):
    """½‖w − λ‖² written by a user with whatever ``twist`` does to w."""

    twist: str
    n: int = 2
    d: int = 2
    backend: Backend = NUMPY

    def _twisted(self, w):
        xp = self.backend.xp
        return {
            "relu": lambda: w * (w > 0),
            "abs": lambda: xp.abs(w),
            "maximum": lambda: xp.maximum(w, -w),
            "float": lambda: xp.asarray(w, dtype=float),
            "hypot": lambda: xp.hypot(w, 0 * w),
            "attribute": lambda: w.flatten().no_such_method(),
        }[self.twist]()

    def value(self, lam, w):
        return self.backend.dot(w - lam, w - lam) / 2

    def grad_lam(self, lam, w):
        return lam - w

    def grad_w(self, lam, w):
        if self.backend.name == "numpy":
            return w - lam
        return self._twisted(w) - lam

    def hess_ww(self, lam, w):
        return identity(self.backend, self.d)

    def cross(self, lam, w):
        return -1 * identity(self.backend, self.d)


@pytest.mark.parametrize("twist", ["relu", "abs", "maximum", "float", "hypot", "attribute"])
def test_formulas_that_do_not_run_over_balls_cost_the_certificate_and_nothing_else(twist):
    # kills: an unsound branch on balls; a TypeError of the certificate that takes the float result with it
    lower = Own(twist)
    problem = ri.BilevelProblem(quadratic.objective(ww=np.eye(2), w1=[1.0, 2.0], n=2), lower)
    found = ri.exact_hypergradient(problem, [1.0, 2.0])
    assert found.kind == "estimated"
    assert found.why_not_bounded
    assert found.value.tolist() == [2.0, 4.0]
    with pytest.raises(NotCertified):
        ri.exact_hypergradient(problem, [1.0, 2.0], certify="always")


@dataclass(frozen=True)
class OffDomain(Objective):
    """F = Σ w_j √(s + w_j): at w = 0 and s = 0 the ball around 0 leaves the root's domain."""

    n: int = 2
    d: int = 2
    backend: Backend = NUMPY

    def value(self, lam, w):
        return self.backend.sum(self.backend.sqrt(w * w + w))

    def grad_lam(self, lam, w):
        return self.backend.sqrt(w * w * w)

    def grad_w(self, lam, w):
        return w

    def hess_ww(self, lam, w):
        return identity(self.backend, self.d)

    def cross(self, lam, w):
        return 0 * identity(self.backend, self.d)


def test_an_unbounded_enclosure_is_no_bound():
    # kills: kind "bounded" with bound NaN
    lower = quadratic.objective(ww=[[3.0, 1.0], [1.0, 4.0]], lw=np.array([[0.1, 0.2], [0.3, 0.4]]), n=2)
    problem = ri.BilevelProblem(OffDomain(), lower)
    found = ri.exact_hypergradient(problem, [0.0, 0.0])
    assert found.kind == "estimated"
    assert found.why_not_bounded


@dataclass(frozen=True)
class Absorbed(OffDomain):
    """∇_λF loses w in a sum that is 1e16 times larger, then divides by what is left."""

    def grad_lam(self, lam, w):
        return 1 / ((w + 1e20) - 1e20)


def test_a_formula_that_rounds_without_limit_allows_nothing():
    # kills: an infinite allowance, within which every value would be certified
    lower = quadratic.objective(ww=np.eye(2), lw=-np.eye(2))
    problem = ri.BilevelProblem(Absorbed(), lower)
    found = ri.exact_hypergradient(problem, [1e4, 1e4])
    assert np.isfinite(found.value).all()
    assert found.kind == "estimated"
    assert "required: <= inf" in found.why_not_bounded


def test_sizes_and_batches_have_a_limit():
    large = quadratic.random(n=1, d=LIMIT + 1, seed=0)
    found = ri.exact_hypergradient(large, large.start())
    assert (found.kind, f"d = {LIMIT + 1}" in found.why_not_bounded) == ("estimated", True)
    with pytest.raises(TooLarge, match="too large to enclose"):
        ri.exact_hypergradient(large, large.start(), certify="always")
    small = quadratic.random(n=1, d=2, seed=0)
    batch = ri.exact_hypergradient(small, [[0.0], [1.0]])
    assert (batch.kind, "single λ" in batch.why_not_bounded) == ("estimated", True)
    at_limit = quadratic.random(n=1, d=LIMIT, seed=0)
    assert ri.exact_hypergradient(at_limit, at_limit.start()).kind == "bounded"


def test_a_condition_beyond_the_proof_is_declined_and_not_crashed():
    problem = quadratic.random(n=1, d=4, seed=0, L=1e18)
    try:
        found = ri.exact_hypergradient(problem, problem.start())
    except HypothesisViolated:
        return  # in floats the Hessian may fail to be positive definite: also an answer
    assert found.kind in ("bounded", "estimated")


@pytest.mark.parametrize("option", ["auto", "always"])
def test_a_bare_function_has_no_certificate(option):
    f = ri.from_function(lambda lam, w: (w - lam) @ (w - lam), n=2, d=2)
    problem = ri.BilevelProblem(f, f)
    if option == "auto":
        assert ri.exact_hypergradient(problem, [0.0, 1.0]).kind == "estimated"
    else:
        with pytest.raises(NotCertified, match="bare function"):
            ri.exact_hypergradient(problem, [0.0, 1.0], certify="always")


def test_inputs_are_checked():
    problem = quadratic.random(n=2, d=3, seed=0)
    r = ri.exact_hypergradient(problem, problem.start())
    good = {"w": r.w, "v": r.v, "value": r.value}
    for name in good:
        with pytest.raises(BadInput, match=f"^{name} has the wrong shape"):
            certify(problem, problem.start(), **good | {name: np.zeros(7)})
        with pytest.raises(BadInput, match=f"^{name} is not finite"):
            certify(problem, problem.start(), **good | {name: np.full_like(good[name], np.nan)})
    certificate = certify(problem, problem.start(), **good)
    assert certificate.bound == r.bound
    assert all(0 <= x < np.inf for x in dataclasses.astuple(certificate))


@pytest.mark.parametrize("place", ["strict", "autograd"])
def test_a_certificate_from_another_backend_is_the_same(place):
    problem = ridge.random(d=4, seed=0)
    there = problem.to(place)
    here, found = (ri.exact_hypergradient(p, p.start(), certify="always") for p in (problem, there))
    assert found.bound <= here.bound + 4 * np.spacing(np.linalg.norm(here.value))


def test_nothing_to_learn_is_certified_too():
    """n = 0: the value is empty and its bound 0, while w and v are judged as ever."""
    problem = quadratic.random(n=0, d=3, seed=0)
    r = ri.exact_hypergradient(problem, problem.start(), certify="always")
    assert (r.value.size, r.bound) == (0, 0.0)
    with pytest.raises(NotCertified, match="v is further"):
        certify(problem, problem.start(), w=r.w, v=r.v + 1e-9, value=r.value)


def test_upper_norm_is_an_upper_bound():
    # kills: rounding to nearest, a radius forgotten
    B = ri.zoo.quadratic.objective(ww=np.eye(1), n=1).to("interval").backend
    assert upper_norm(B.asarray([3, 4])) >= 5
    assert upper_norm(B.asarray([])) == 0
    third = B.asarray(np.array([flint.arb(0, 1), flint.arb(1) / 3], dtype=object))
    assert flint.arb(upper_norm(third)) ** 2 > flint.fmpq(10, 9)
    assert np.isinf(upper_norm(B.asarray(np.array([flint.arb("inf")], dtype=object))))


def test_a_singular_matrix_of_floats_is_no_proof():
    eye = matrix(NUMPY, np.eye(2))
    assert eye.shape == (2, 2)
    almost = quadratic.objective(ww=np.array([[1.0, 1.0], [1.0, 1.0 + 2**-52]]), w1=[1.0, 0.0], n=1)
    problem = ri.BilevelProblem(uppers.linear([1.0, 0.0], n=1), almost)
    w = np.linalg.solve(almost.ww[0], -almost.w1[0])
    try:
        enclosed = enclose(problem, np.zeros(1), w)
    except (NotCertified, HypothesisViolated):
        return
    assert enclosed.w[0].contains(flint.arb(-(2**52) - 1))  # the exact solution of the rounded system
