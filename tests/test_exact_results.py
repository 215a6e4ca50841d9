"""What an exact hypergradient carries, and what its two stages refuse: batches, paths, precision, degenerate cases."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import refimpl as ri
from refimpl.arrays import Backend, to_numpy
from refimpl.errors import BadInput, HypothesisViolated, NotConverged
from refimpl.exact.hypergradient import adjoint
from refimpl.exact.lower import require_solved, solve_lower
from refimpl.objective import Objective
from refimpl.operators import matrix, zero
from refimpl.zoo import degenerate, logistic, maps, quadratic, ridge, uppers
from tests.backends import everywhere, on_cpu, round_trip
from tests.rounding import EPS, assert_rounded, condition_number, exactly, squared_distance

NUMPY = Backend()


# -- what comes back ----------------------------------------------------------------------------------
@everywhere
@pytest.mark.parametrize("lead", [(3,), (2, 3)], ids=str)
@pytest.mark.parametrize("kind", ["minimisation", "fixed point", "nonlinear", "ridge"])
def test_a_batch_is_its_single_runs(place, lead, kind):
    # kills: b.T over two leading axes in the LU solve, one lane's line search deciding for all
    problem = {
        "minimisation": lambda: quadratic.random(n=2, d=3, seed=1),
        "fixed point": lambda: quadratic.random(n=2, d=3, seed=1).as_fixed_point(0.125),
        "nonlinear": lambda: maps.random(n=2, d=3, seed=1, kind="tanh"),
        "ridge": lambda: ridge.random(d=3, seed=1, per_feature=True),
    }[kind]()
    rng = np.random.default_rng(2)
    lams = problem.start() + rng.random((*lead, problem.n)) * np.geomspace(0.01, 3, lead[-1])[:, None]
    there = place.move(problem)
    batch = ri.exact_hypergradient(there, place.array(lams), certify="never")
    assert batch.kind == "estimated"
    for index in np.ndindex(*lead):
        one = ri.exact_hypergradient(there, place.array(lams[index]), certify="never")
        single = {name: to_numpy(getattr(one, name)) for name in ("value", "w", "v")}
        condition = 1 / float(one.rcond)
        for name, expected in single.items():
            size = 1 + np.linalg.norm(single["v"]) * (1 + np.linalg.norm(single["w"]))
            found = to_numpy(getattr(batch, name))[index]
            assert_rounded(found, expected, terms=size, count=problem.d, condition=condition)
    for name in ("bound", "rcond", "residual_lower", "residual_adjoint"):
        assert np.broadcast_shapes(np.shape(to_numpy(getattr(batch, name))), lead) == lead


def test_a_solved_lane_waits_for_the_others():
    # kills: a step applied to lanes at their rounding floor, which only adds noise there
    problem = logistic.random(d=3, seed=2)
    lams = np.array([[-3.0], [2.0]])
    at_first = ri.exact_hypergradient(problem, lams[0], certify="never").w
    start = np.stack([at_first, np.zeros(3)])
    batch = ri.exact_hypergradient(problem, lams, start=start, certify="never")
    H = problem.lower.hess_ww(lams[0], at_first).dense()
    condition = condition_number(H)
    assert_rounded(batch.w[0], at_first, terms=np.linalg.norm(at_first), count=16, condition=condition)


def test_starting_from_the_previous_solution_saves_newton_steps():
    problem = logistic.random(d=6, seed=3, per_feature=True)
    path = problem.start() + np.linspace(0, 1, 12)[:, None]
    cold = [ri.exact_hypergradient(problem, lam, certify="never") for lam in path]
    warm, previous = [], None
    for lam in path:
        previous = ri.exact_hypergradient(problem, lam, start=previous, certify="never")
        warm.append(previous)
    assert sum(r.newton_steps for r in warm[1:]) < sum(r.newton_steps for r in cold[1:])
    for a, b in zip(cold, warm, strict=True):
        size = np.linalg.norm(a.value) + np.linalg.norm(a.v) * np.linalg.norm(a.w)
        assert_rounded(b.value, a.value, terms=size, count=60, condition=1 / a.rcond)
    again = ri.exact_hypergradient(problem, path[-1], start=previous.w, certify="never")
    assert again.newton_steps == 0


@pytest.mark.parametrize("name", ["numpy", "strict", "rational"])
def test_results_pickle_and_are_frozen(name):
    problem = quadratic.random(n=2, d=3, seed=0).to(name)
    found = ri.exact_hypergradient(problem, problem.start())
    again = round_trip(found)
    for field in dataclasses.fields(found):
        a, b = getattr(found, field.name), getattr(again, field.name)
        assert np.array_equal(to_numpy(a), to_numpy(b)) if hasattr(a, "ndim") else a == b
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.value = None
    assert dict(found.versions)["refimpl"] == ri.__version__
    assert {"numpy", "scipy", "python-flint"} <= set(dict(found.versions))


@on_cpu
@pytest.mark.parametrize("kind", ["minimisation", "fixed point"])
def test_single_precision(place, kind):
    # kills: a result silently in float64, a bound or an allowance at float64's eps
    problem = quadratic.random(n=2, d=4, seed=4)
    problem = (problem if kind == "minimisation" else problem.as_fixed_point(0.125)).to(
        "numpy", dtype="float32"
    )
    exact = problem.to("rational")
    true = exactly(ri.exact_hypergradient(exact, exact.start()).value)  # of the rounded data: they define it
    there = problem.to(place.backend, dtype="float32")
    found = ri.exact_hypergradient(there, there.start())
    assert (found.kind, found.dtype) == ("bounded", "float32")
    for x in (found.value, found.w, found.v):
        assert str(x.dtype).endswith("float32")
    assert squared_distance(to_numpy(found.value).tolist(), true) <= Fraction(float(found.bound)) ** 2
    double = problem.to(place.backend)
    fine = ri.exact_hypergradient(double, double.start())
    assert found.bound > 1e3 * fine.bound  # eps is 5e8 times larger


def test_reported_numbers_are_what_they_say():
    problem = quadratic.random(n=2, d=5, seed=6, L=1e4)
    lam = problem.start()
    found = ri.exact_hypergradient(problem, lam)
    r = problem.residual(lam, found.w)
    H = problem.lower.hess_ww(lam, found.w).dense()
    assert found.residual_lower == pytest.approx(np.linalg.norm(r), rel=10 * EPS["float64"])
    left = problem.upper.grad_w(lam, found.w) - H @ found.v
    allowed = 50 * EPS["float64"] * np.linalg.norm(H) * np.linalg.norm(found.v)
    assert abs(found.residual_adjoint - np.linalg.norm(left)) <= allowed
    cond = np.linalg.cond(H, 1)
    assert 1 / cond <= found.rcond * (1 + 50 * cond * EPS["float64"])
    assert found.rcond <= 5 / cond  # LAPACK's estimate, within a factor d
    assert found.newton_steps == 1
    assert found.why_not_bounded == ""


def test_the_estimate_follows_the_bound():
    """kind "estimated" promises an order of magnitude: never 10 times too small over these fifty."""
    for seed in range(50):
        problem = quadratic.random(n=2, d=1 + seed % 8, seed=seed, L=10.0 ** (seed % 11))
        for p in (problem, problem.as_fixed_point(10.0 ** -(seed % 11))):
            bounded = ri.exact_hypergradient(p, p.start(), certify="always")
            estimated = ri.exact_hypergradient(p, p.start(), certify="never")
            assert np.array_equal(bounded.value, estimated.value)
            assert bounded.bound <= 10 * estimated.bound
            assert estimated.why_not_bounded == "certify='never'"


# -- the stages ---------------------------------------------------------------------------------------
def test_the_adjoint_alone():
    problem = quadratic.random(n=2, d=3, seed=7)
    lam = problem.start()
    found = ri.exact_hypergradient(problem, lam)
    assert np.array_equal(adjoint(problem, lam, found.w), found.v)
    mapped = maps.random(n=2, d=3, seed=7)  # not symmetric
    fixed = ri.exact_hypergradient(mapped, mapped.start())
    assert np.array_equal(adjoint(mapped, mapped.start(), fixed.w), fixed.v)
    with pytest.raises(NotConverged, match="not solved") as caught:
        adjoint(problem, lam, found.w + 1e-9)
    assert "‖r‖" in caught.value.measured


def test_jacobian_of_the_solution_and_hessian_of_the_hyperobjective():
    """w(λ) is affine and f quadratic: their differences are their derivatives, over the rationals exactly."""
    problem = quadratic.random(n=2, d=3, seed=8).to("rational")
    lam = problem.start()
    base = ri.exact_hypergradient(problem, lam)
    J, H = ri.exact.solution_jacobian(problem, lam), ri.exact.hyperobjective_hessian(problem, lam)
    for i, e in enumerate(problem.backend.eye(2)):
        moved = ri.exact_hypergradient(problem, lam + e)
        assert (moved.w - base.w == J[:, i]).all()
        assert (moved.value - base.value == H[:, i]).all()


def _assert_nothing(problem, X, y, w, penalty):
    """w = 0 up to rounding: terms of size ‖X‖‖y‖/N, divided by the smallest eigenvalue, which is at least π."""
    terms = np.linalg.norm(X) * np.linalg.norm(y) / len(y)
    found = to_numpy(w)
    assert_rounded(found, np.zeros(found.shape), terms=terms, count=len(y), condition=1 / penalty)


def test_centred_data_are_solved():
    """w(λ) = 0 up to rounding: the residual's terms cancel, and nothing near 0 tells their size but they."""
    rng = np.random.default_rng(9)
    for _ in range(10):
        X = rng.standard_normal((12, 3))
        y = rng.standard_normal(12)
        y = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]  # no signal
        for problem in (ridge.problem(X, y, X, y), ridge.problem(X, y, X, y).as_fixed_point(0.1)):
            found = ri.exact_hypergradient(problem, [0.1])
            assert found.kind == "bounded"
            _assert_nothing(problem, X, y, found.w, 0.1)
            require_solved(problem, np.array([0.1]), found.w)
            assert problem.check([0.1], found.w).solved


@everywhere
def test_centred_data_are_solved_in_batches(place):
    # kills: a terms' floor whose axis is taken for λ's (as many terms as λ), a floor of one lane for all
    rng = np.random.default_rng(10)
    X = rng.standard_normal((12, 3))
    y = rng.standard_normal(12)
    y = y - X @ np.linalg.lstsq(X, y, rcond=None)[0]
    problem = place.move(ridge.problem(X, y, X, y))
    for lead in ((12,), (2, 3)):
        lams = 0.1 + rng.random((*lead, 1))
        found = ri.exact_hypergradient(problem, place.array(lams), certify="never")
        assert tuple(found.w.shape) == (*lead, 3)
        _assert_nothing(problem, X, y, found.w, 0.1)


def test_a_short_step_leaves_a_fixed_point_solvable():
    # kills: a floor below eps‖w‖, which w − Φ(λ, w) cannot reach where Φ is nearly the identity
    for seed in range(20):
        problem = quadratic.random(n=2, d=1 + seed % 6, seed=seed).as_fixed_point(10.0 ** -(seed % 9))
        assert ri.exact_hypergradient(problem, problem.start()).kind == "bounded"


@dataclass(frozen=True)
class Quartic(Objective):
    """Σ w⁴/4 + w²/2 − λ w on R: polynomial, but its gradient is not affine."""

    shift: Any = 0.0
    n: int = 1
    d: int = 1
    backend: Backend = NUMPY

    def value(self, lam, w):
        return self.backend.dot(w * w, w * w) / 4 + self.backend.dot(w, w) / 2 - self.backend.dot(lam, w)

    def grad_lam(self, lam, w):
        return -w

    def grad_w(self, lam, w):
        return w * w * w + w - lam

    def hess_ww(self, lam, w):
        return matrix(self.backend, (3 * w * w + 1)[..., None], symmetric=True)

    def cross(self, lam, w):
        return -1 * (zero(self.backend, 1, 1) + matrix(self.backend, self.backend.eye(1)))


def test_rationals_solve_affine_equations_only():
    problem = ri.BilevelProblem(uppers.linear([1.0], n=1), Quartic())
    assert ri.exact_hypergradient(problem, [2.0]).w[0] == pytest.approx(1.0, rel=10 * EPS["float64"])
    there = problem.to("rational")
    with pytest.raises(BadInput, match="no closed form"):
        ri.exact_hypergradient(there, [2])


def test_the_iteration_has_an_end():
    problem = ri.BilevelProblem(uppers.linear([1.0], n=1), Quartic())
    with pytest.raises(NotConverged):
        solve_lower(problem, np.array([1e6]), max_steps=1)


@pytest.mark.parametrize("case", degenerate.cases(), ids=lambda case: case.label)
def test_degenerate_cases_are_refused_or_right(case):
    if case.label in ("singular", "indefinite", "rank changes"):
        with pytest.raises(HypothesisViolated, match="not positive definite"):
            ri.exact_hypergradient(case.problem, case.lam)
    elif case.label == "kink":
        with pytest.raises(NotConverged):
            ri.exact_hypergradient(case.problem, case.lam)
    else:
        found = ri.exact_hypergradient(case.problem, case.lam, certify="always")
        condition = condition_number(case.problem.residual_w(case.lam, case.w).dense())
        assert_rounded(found.w, case.w, terms=np.linalg.norm(case.w), count=3, condition=condition)


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("scipy", "autograd", "flint"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
import numpy as np
import refimpl as ri

for make in (
    lambda: ri.zoo.quadratic.random(n=2, d=3, seed=0),
    lambda: ri.zoo.quadratic.random(n=2, d=3, seed=0).as_fixed_point(0.1),
    lambda: ri.zoo.ridge.random(d=3, seed=0, log=True),
    lambda: ri.zoo.logistic.random(d=3, seed=0),
    lambda: ri.zoo.maps.random(n=2, d=3, seed=0, kind="tanh"),
):
    problem = make().to("strict")
    found = ri.exact_hypergradient(problem, problem.start(), certify="never")
    assert found.kind == "estimated"
    without = ri.exact_hypergradient(problem, problem.start())
    assert "python-flint is not installed" in without.why_not_bounded, without
    print(*(float(x).hex() for x in found.value))
assert not {"scipy", "autograd", "flint"} & {name.split(".")[0] for name in sys.modules}
"""


def test_device_backends_need_neither_scipy_autograd_nor_flint():
    """What runs on a GPU machine that has NumPy and the array library only."""
    ran = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 5
