"""The exact hypergradient against rational closed forms, autograd, and complex steps through the solution."""

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
from tests.backends import everywhere, installed, on_cpu, round_trip
from tests.rounding import EPS, assert_rounded, condition_number

STEP = 1e-200
NUMPY = Backend()


# -- quadratics: exact over the rationals -------------------------------------------------------------
def _fractions(x):
    """An object array of the floats' exact values."""
    x = np.asarray(x)
    return np.array([Fraction(e) for e in x.ravel().tolist()] + [None])[:-1].reshape(x.shape)


def _solve(a, b):
    """Gauss's elimination over the rationals."""
    a = np.concatenate([a, b[:, None]], axis=1)
    for i in range(len(a)):
        pivot = next(k for k in range(i, len(a)) if a[k, i] != 0)
        a[[i, pivot]] = a[[pivot, i]]
        a[i] = a[i] / a[i, i]
        for k in range(len(a)):
            if k != i:
                a[k] = a[k] - a[k, i] * a[i]
    return a[:, -1]


def _mean(x):
    """The exact mean over the terms' axis."""
    return _fractions(x).sum(axis=0) / Fraction(len(x))


def _closed_form(problem, lam):
    """(w, v, ∇f) of a quadratic problem, from its coefficients alone."""
    G, F, lam = problem.lower, problem.upper, _fractions(lam)
    A, K, a = _mean(G.ww), _mean(G.lw), _mean(G.w1)
    w = _solve(A, -(_dot(K.T, lam) + a))
    P, Q, M = _mean(F.ww), _mean(F.lw), _mean(F.ll)
    v = _solve(A, _dot(P, w) + _dot(Q.T, lam) + _mean(F.w1))
    return w.tolist(), v.tolist(), (_dot(Q, w) + _dot(M, lam) + _mean(F.l1) - _dot(K, v)).tolist()


def _dot(a, x):
    """A product of fractions, of which there may be none."""
    return (a * x).sum(axis=-1) + Fraction(0) if a.size else np.array([Fraction(0)] * len(a), dtype=object)


def _exactly(x):
    """The fractions that an array of flint's rationals holds."""
    return [Fraction(int(e.p), int(e.q)) for e in x.tolist()]


def _squares(computed, true):
    return sum((Fraction(float(c)) - t) ** 2 for c, t in zip(computed, true, strict=True))


SIZES = [(n, d, terms) for n in (0, 1, 3) for d in (1, 2, 5) for terms in (1, 4)]


@pytest.mark.parametrize(("n", "d", "terms"), SIZES)
def test_over_the_rationals_there_is_no_error(n, d, terms):
    # kills: every mutant of the hypergradient's formula (sign, transpose, dropped term) and of exact solves
    problem = quadratic.random(n=n, d=d, seed=10 * n + d, terms=terms)
    w, v, value = _closed_form(problem, problem.start())
    there = problem.to("rational")
    found = ri.exact_hypergradient(there, there.start())
    assert (_exactly(found.w), _exactly(found.v), _exactly(found.value)) == (w, v, value)
    assert (found.kind, found.bound, found.dtype) == ("exact", 0.0, "rational")
    assert found.residual_lower == found.residual_adjoint == 0.0


@everywhere
@pytest.mark.parametrize(("n", "d", "terms"), SIZES)
@pytest.mark.parametrize("kind", ["minimisation", "fixed point"])
def test_quadratics_to_rounding_and_within_the_bound(place, n, d, terms, kind):
    # kills: an adjoint solved with the untransposed matrix, a bound that is an estimate
    problem = quadratic.random(n=n, d=d, seed=10 * n + d, terms=terms)
    step, certify = 0.125, "always" if installed("flint") else "never"
    true_w, true_v, true_value = _closed_form(problem, problem.start())
    asked = problem if kind == "minimisation" else problem.as_fixed_point(step)
    there = place.move(asked)
    found = ri.exact_hypergradient(there, there.start(), certify=certify)
    v = to_numpy(found.v) * (1 if kind == "minimisation" else step)  # v_Φ = v/step, exactly for a power of 2
    H = problem.lower.mean[0]
    condition = condition_number(H) * 100  # of I − ∂_wΦ for entries 1 − step·H, at worst
    size = 1 + sum(np.linalg.norm([float(e) for e in x]) for x in (true_w, true_v, true_value))
    size *= 1 + np.linalg.norm(problem.lower.mean[1])
    for computed, true in ((found.w, true_w), (v, true_v), (found.value, true_value)):
        expected = np.array([float(t) for t in true])
        assert_rounded(computed, expected, terms=size, count=d + terms, condition=condition)
    if certify == "always":
        assert found.kind == "bounded"
        assert _squares(to_numpy(found.value), true_value) <= Fraction(float(found.bound)) ** 2


def test_both_kinds_of_problem_agree_exactly():
    problem = quadratic.random(n=2, d=4, seed=5).to("rational")
    step = 0.125
    first = ri.exact_hypergradient(problem, problem.start())
    second = ri.exact_hypergradient(problem.as_fixed_point(step), problem.start())
    assert (first.value == second.value).all()
    assert (first.w == second.w).all()
    assert (first.v == second.v * problem.backend.scalar(step)).all()


def test_a_nonsymmetric_map_over_the_rationals():
    # kills: (I − A) for its transpose in the adjoint, which every symmetric problem would forgive
    problem = maps.random(n=2, d=3, seed=3)
    lam = problem.start()
    A, B, c, x = _mean(problem.phi.A), _mean(problem.phi.B), _mean(problem.phi.c), _fractions(lam)
    eye, F = _fractions(np.eye(3)), problem.upper
    w = _solve(eye - A, _dot(B, x) + c)
    v = _solve((eye - A).T, _dot(_mean(F.ww), w) + _dot(_mean(F.lw).T, x) + _mean(F.w1))
    value = _dot(_mean(F.lw), w) + _dot(_mean(F.ll), x) + _mean(F.l1) + _dot(B.T, v)
    there = problem.to("rational")
    found = ri.exact_hypergradient(there, there.start())
    for mine, true in ((found.w, w), (found.v, v), (found.value, value)):
        assert _exactly(mine) == true.tolist()


# -- other families: total derivatives by autograd and by complex steps -------------------------------
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("per_feature", [False, True])
@pytest.mark.parametrize("d", [1, 4])
def test_ridge_by_autograd_through_the_closed_form(log, per_feature, d):
    import autograd.numpy as anp
    from autograd import grad

    problem = ridge.random(d=d, seed=d, log=log, per_feature=per_feature)
    X, y = problem.lower.data.X, problem.lower.data.y
    Xv, yv = problem.upper.X, problem.upper.y

    def f(lam):
        penalty = (anp.exp(lam) if log else lam) * anp.ones(d)
        w = anp.linalg.solve(X.T @ X / len(y) + anp.diag(penalty), X.T @ y / len(y))
        return anp.sum((Xv @ w - yv) ** 2) / (2 * len(yv))

    lam = problem.start() + 0.3
    found = ri.exact_hypergradient(problem, lam)
    expected = grad(f)(lam)
    H = problem.lower.hess_ww(lam, found.w).dense()
    size = np.linalg.norm(expected) + np.linalg.norm(Xv) * np.linalg.norm(yv)
    assert_rounded(found.value, expected, terms=size, count=len(y), condition=condition_number(H) ** 2)


def _through_the_solution(gradient, hessian, upper, lam, w):
    """∇f by complex steps: Newton on the gradient in the complex plane from w(λ), then Im F/h."""
    out = []
    for e in np.eye(len(lam)):
        shifted, at = lam + 1j * STEP * e, w + 0j
        for _ in range(3):  # each step squares the error, and it starts at h
            at = at - np.linalg.solve(hessian(shifted, at), gradient(shifted, at))
        out.append(np.imag(upper(at)) / STEP)
    return np.array(out)


@pytest.mark.parametrize("per_feature", [False, True])
@pytest.mark.parametrize("d", [1, 4])
def test_logistic_by_complex_steps_through_the_solution(d, per_feature):
    problem = logistic.random(d=d, seed=d, per_feature=per_feature)
    X, y = problem.lower.data.X, problem.lower.data.y
    Xv, yv = problem.upper.X, problem.upper.y
    lam = problem.start() + 1

    def gradient(lam, w):
        return -(X.T @ (y / (1 + np.exp(y * (X @ w))))) / len(y) + np.exp(lam) * w

    def hessian(lam, w):
        s = 1 / (1 + np.exp(-(X @ w)))
        return (X.T * (s * (1 - s))) @ X / len(y) + np.diag(np.exp(lam) * np.ones(d))

    def upper(w):
        return np.mean(np.log(1 + np.exp(-yv * (Xv @ w))))

    found = ri.exact_hypergradient(problem, lam)
    expected = _through_the_solution(gradient, hessian, upper, lam, found.w)
    size = np.linalg.norm(expected) + np.linalg.norm(Xv)
    condition = condition_number(hessian(lam, found.w))
    assert_rounded(found.value, expected, terms=size, count=len(y), condition=condition**2)


@pytest.mark.parametrize("d", [1, 4])
def test_a_tanh_map_by_complex_steps_through_the_fixed_point(d):
    problem = maps.random(n=2, d=d, seed=d, kind="tanh")
    A, B, c, F = problem.phi.A, problem.phi.B, problem.phi.c, problem.upper
    lam = problem.start()

    def equation(lam, w):
        return w - np.tanh(A @ w + B @ lam + c)

    def jacobian(lam, w):
        return np.eye(d) - (1 - np.tanh(A @ w + B @ lam + c) ** 2)[:, None] * A

    found = ri.exact_hypergradient(problem, lam)
    out = []
    for e in np.eye(2):
        shifted, at = lam + 1j * STEP * e, found.w + 0j
        for _ in range(3):
            at = at - np.linalg.solve(jacobian(shifted, at), equation(shifted, at))
        ww, lw, ll, w1, l1 = (x[0] for x in (F.ww, F.lw, F.ll, F.w1, F.l1))
        value = at @ ww @ at / 2 + shifted @ lw @ at + shifted @ ll @ shifted / 2 + w1 @ at + l1 @ shifted
        out.append(np.imag(value) / STEP)
    size = np.linalg.norm(out) + np.linalg.norm(B) * np.linalg.norm(found.v)
    assert_rounded(
        found.value, out, terms=size, count=d + 2, condition=condition_number(jacobian(lam, found.w))
    )


def test_a_bare_function_is_estimated_and_says_why():
    import autograd.numpy as anp

    G = ri.from_function(
        lambda lam, w: anp.sum((w * anp.exp(lam[0]) - lam[1]) ** 2) + anp.sum(w**4), n=2, d=3
    )
    F = ri.from_function(lambda lam, w: anp.sum((w - 1) ** 2) + anp.sum(lam**2), n=2, d=3)
    found = ri.exact_hypergradient(ri.BilevelProblem(F, G), [0.1, 0.2])
    assert found.kind == "estimated"
    assert "bare function" in found.why_not_bounded

    def gradient(lam, w):
        s = np.exp(lam[0])
        return 2 * s * (w * s - lam[1]) + 4 * w**3

    def hessian(lam, w):
        return np.diag(2 * np.exp(2 * lam[0]) + 12 * w**2)

    lam = np.array([0.1, 0.2])
    expected = (
        _through_the_solution(gradient, hessian, lambda w: np.sum((w - 1) ** 2), lam, found.w) + 2 * lam
    )
    assert_rounded(found.value, expected, terms=np.linalg.norm(expected) + 10, count=5)


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
    assert_rounded(batch.w[0], at_first, terms=np.linalg.norm(at_first), count=3, condition=30)


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
    true = _exactly(ri.exact_hypergradient(exact, exact.start()).value)  # of the rounded data: they define it
    there = problem.to(place.backend, dtype="float32")
    found = ri.exact_hypergradient(there, there.start())
    assert (found.kind, found.dtype) == ("bounded", "float32")
    for x in (found.value, found.w, found.v):
        assert str(x.dtype).endswith("float32")
    assert _squares(to_numpy(found.value).tolist(), true) <= Fraction(float(found.bound)) ** 2
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
    assert 1 / np.linalg.cond(H, 1) <= found.rcond * (1 + 1e4 * EPS["float64"])
    assert found.rcond <= 5 / np.linalg.cond(H, 1)  # LAPACK's estimate, within a factor d
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
            assert np.linalg.norm(found.w) <= 1e3 * EPS["float64"]
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
        assert np.abs(to_numpy(found.w)).max() <= 1e3 * EPS["float64"]


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
    if case.label in ("singular", "indefinite"):
        with pytest.raises(HypothesisViolated, match="not positive definite"):
            ri.exact_hypergradient(case.problem, case.lam)
    elif case.label == "kink":
        with pytest.raises(NotConverged):
            ri.exact_hypergradient(case.problem, case.lam)
    else:
        found = ri.exact_hypergradient(case.problem, case.lam, certify="always")
        assert_rounded(found.w, case.w, terms=np.linalg.norm(case.w), count=3, condition=10)


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
