"""The exact hypergradient against rational closed forms, autograd, and complex steps through the solution."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import refimpl as ri
from refimpl.arrays import to_numpy
from refimpl.zoo import logistic, maps, quadratic, ridge
from tests.backends import everywhere, installed
from tests.rounding import assert_rounded, condition_number, exactly, squared_distance

STEP = 1e-200


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


SIZES = [(n, d, terms) for n in (0, 1, 3) for d in (1, 2, 5) for terms in (1, 4)]


@pytest.mark.parametrize(("n", "d", "terms"), SIZES)
def test_over_the_rationals_there_is_no_error(n, d, terms):
    # kills: every mutant of the hypergradient's formula (sign, transpose, dropped term) and of exact solves
    problem = quadratic.random(n=n, d=d, seed=10 * n + d, terms=terms)
    w, v, value = _closed_form(problem, problem.start())
    there = problem.to("rational")
    found = ri.exact_hypergradient(there, there.start())
    assert (exactly(found.w), exactly(found.v), exactly(found.value)) == (w, v, value)
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
        assert squared_distance(to_numpy(found.value), true_value) <= Fraction(float(found.bound)) ** 2


def test_both_kinds_of_problem_agreeexactly():
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
        assert exactly(mine) == true.tolist()


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
