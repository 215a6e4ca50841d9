"""Solvers of the adjoint system: against their definitions, SciPy, predicted rates, and what they refuse.

Comments name the mutants that a test kills.
"""

from __future__ import annotations

import itertools
import re
from fractions import Fraction

import numpy as np
import pytest

from refimpl import solvers
from refimpl.arrays import backend, to_numpy
from refimpl.errors import BadInput, HypothesisViolated, NotConverged
from refimpl.zoo import maps, quadratic
from tests.backends import everywhere
from tests.rounding import EPS, assert_rounded, condition_number
from tests.solver_things import (
    B0,
    KAPPA,
    SHIFTED,
    SPD,
    SPECTRUM,
    STEP,
    D,
    exactly,
    fractions,
    operator,
    tallied,
)

ITERATIVE = {
    "cg": (solvers.ConjugateGradient(D), SPD),
    "normal cg": (solvers.NormalCG(D), SHIFTED),
    "neumann": (solvers.Neumann(160, STEP), SPD),
    "fixed point": (solvers.FixedPointAdjoint(400), SHIFTED),
}
SOLVERS = {**ITERATIVE, "cholesky": (solvers.Cholesky(), SPD), "lu": (solvers.LU(), SHIFTED)}
each = pytest.mark.parametrize("name", SOLVERS)


# -- linear systems ---------------------------------------------------------------------------------


@everywhere
@each
def test_solves_and_returns_the_true_residual(place, name):
    # kills: lu-transposed, normal-cg-not-transposed, residual-not-true, normal-cg-residual-of-normal
    solver, a = SOLVERS[name]
    found = solver.solve(operator(a, place.backend), place.array(B0))
    condition = condition_number(a) ** (2 if name == "normal cg" else 1)
    # the contractions: 0.9^400 and (9/11)^160 are below eps
    assert_rounded(
        found.v,
        np.linalg.solve(a, B0),
        terms=np.linalg.norm(np.linalg.solve(a, B0)),
        count=D,
        condition=condition,
    )
    early = solvers.ConjugateGradient(2) if name == "cholesky" else solvers.NormalCG(2)
    found = early.solve(operator(a, place.backend), place.array(B0))
    left = B0 - a @ to_numpy(found.v)
    assert np.linalg.norm(left) > 0.01
    assert_rounded(found.residual, left, terms=np.linalg.norm(a) * np.linalg.norm(B0), count=D)


@pytest.mark.parametrize("lanes", [((), (3,)), ((3,), ()), ((3,), (3,)), ((3,), (2, 1)), ((4, 1), (3,))])
@each
def test_leading_axes_equal_single_runs(name, lanes):
    """Each lane of a batch, of equal and of different lengths, is the run of that lane alone."""
    # kills: cg-lanes-not-frozen, cg-tolerance-absolute (lanes of different size stop at different steps)
    solver, a = SOLVERS[name]
    if name in ("cg", "normal cg"):
        solver = type(solver)(D, tol=1e-3)
    of_a, of_b = lanes
    rng = np.random.default_rng(1)
    sizes = rng.permutation(np.geomspace(1, 3, int(np.prod(of_a))).reshape(of_a or (1,))).reshape(of_a)
    a = (
        sizes[..., None, None] * a
        if name in ("cg", "cholesky", "lu", "normal cg")
        else a + 0 * sizes[..., None, None]
    )
    b = rng.standard_normal((*of_b, D)) * 10.0 ** rng.integers(-3, 3, (*of_b, 1))
    b[(0,) * len(of_b)] = np.linalg.eigh(SPD)[1][:, 0]  # for CG done after one step
    start = rng.standard_normal(D)
    batch = solver.solve(operator(a), b, start, keep=True)
    lead = np.broadcast_shapes(of_a, of_b)
    assert batch.v.shape == (*lead, D) == batch.residual.shape
    all_a, all_b = np.broadcast_to(a, (*lead, D, D)), np.broadcast_to(b, (*lead, D))
    for index in np.ndindex(*lead):
        single = solver.solve(operator(all_a[index]), all_b[index], start, keep=True)
        size = np.linalg.norm(start) + np.linalg.norm(single.v)
        assert_rounded(
            batch.v[index], single.v, terms=size, count=100 * D, condition=condition_number(all_a[index])
        )


@pytest.mark.parametrize("name", ITERATIVE)
def test_every_iterate_on_request(name):
    """keep: v_0 … v_k, which are the results of 0 … k steps."""
    # kills: cg-one-step-more, neumann-one-term-more, neumann-one-term-less
    a = ITERATIVE[name][1]
    make = {
        "cg": solvers.ConjugateGradient,
        "normal cg": solvers.NormalCG,
        "neumann": lambda k: solvers.Neumann(k, STEP),
        "fixed point": solvers.FixedPointAdjoint,
    }[name]
    start = np.arange(1.0, D + 1)
    found = make(4).solve(operator(a), B0, start, keep=True)
    assert found.steps == 4
    assert len(found.iterates) == 5
    assert not make(4).solve(operator(a), B0, start).iterates
    for k, iterate in enumerate(found.iterates):
        assert (iterate == make(k).solve(operator(a), B0, start).v).all()
    assert (found.iterates[0] == start).all()
    assert (found.iterates[-1] == found.v).all()


def test_scipys_conjugate_gradients_take_the_same_iterates():
    # kills: cg-beta-inverted, cg-beta-dropped, cg-step-wrong, cg-residual-sign
    linalg = pytest.importorskip("scipy.sparse.linalg")
    for start in (np.zeros(D), np.ones(D)):
        theirs = []
        linalg.cg(
            SPD, B0, x0=start.copy(), rtol=0, maxiter=4, callback=lambda x, to=theirs: to.append(x.copy())
        )
        ours = solvers.ConjugateGradient(4).solve(operator(SPD), B0, start, keep=True).iterates[1:]
        assert_rounded(np.stack(ours), np.stack(theirs), terms=10.0, count=4 * D, condition=KAPPA)


def test_scipys_lsqr_takes_the_iterates_of_normal_cg():
    linalg = pytest.importorskip("scipy.sparse.linalg")
    for k in range(1, 5):
        theirs = linalg.lsqr(SHIFTED, B0, atol=0, btol=0, conlim=0, iter_lim=k)[0]
        ours = solvers.NormalCG(k).solve(operator(SHIFTED), B0).v
        condition = condition_number(SHIFTED) ** 2
        assert_rounded(ours, theirs, terms=10.0, count=k * D, condition=condition)


@pytest.mark.parametrize(
    "spectrum", [SPECTRUM, [1, 1, 1, 10, 10], [1, 100, 100, 100, 100], [3] * 5, [1e-3, 1, 1, 1, 1e3]]
)
def test_conjugate_gradients_within_their_rate(spectrum):
    """The A-norm of the error decreases, by 2((√κ−1)/(√κ+1))^k in all."""
    a = quadratic.spectrum_matrix(spectrum, np.random.default_rng(8))
    truth, root = np.linalg.solve(a, B0), np.sqrt(max(spectrum) / min(spectrum))
    found = solvers.ConjugateGradient(D).solve(operator(a), B0, keep=True)
    errors = [float(np.sqrt((v - truth) @ a @ (v - truth))) for v in found.iterates]
    floor = 10 * D * EPS["float64"] * root**2 * errors[0]
    for k, error in enumerate(errors):
        assert error <= 2 * ((root - 1) / (root + 1)) ** k * errors[0] + floor
    assert all(after <= before + floor for before, after in itertools.pairwise(errors))


@pytest.mark.parametrize(
    ("eigenvalues", "represented"),
    [([2], 1), ([3, 3, 3, 3], 1), ([1, 2, 2, 5], 3), ([1, 2, 4, 8], 4), ([1, 2, 4, 8], 2)],
)
def test_conjugate_gradients_end_exactly_over_the_rationals(eigenvalues, represented):
    """Residual exactly 0 after as many steps as distinct eigenvalues represented in b; n = 1 and H = cI included."""
    # kills: every change of α, β or r, which leaves a residual; cg-one-step-more
    d, xp = len(eigenvalues), backend("rational")
    u = np.ones(d)
    reflection = np.eye(d) - 2 * np.outer(u, u) / (u @ u)  # rational for d = 1, 2, 4
    a = reflection @ np.diag(eigenvalues).astype(float) @ reflection
    b = (
        reflection[:, :represented].sum(axis=1)
        if represented < len(set(eigenvalues))
        else reflection.sum(axis=1)
    )
    assert np.array_equal(a, a.T)
    found = solvers.ConjugateGradient().solve(operator(a, "rational"), xp.asarray(b))
    assert found.steps == represented
    assert all(e == 0 for e in found.residual)
    if represented > 1:
        early = solvers.ConjugateGradient(represented - 1).solve(operator(a, "rational"), xp.asarray(b))
        assert any(e != 0 for e in early.residual)


def test_a_zero_right_side_and_a_solved_start_take_no_step():
    system, calls = tallied(SPD)
    assert solvers.ConjugateGradient().solve(system, 0 * B0).steps == len(calls) == 0
    exact = operator(np.diag([1.0, 2.0]), "rational")
    xp = exact.backend
    found = solvers.ConjugateGradient().solve(exact, xp.asarray([1.0, 1.0]), xp.asarray([1.0, 0.5]))
    assert found.steps == 0
    assert (found.v == xp.asarray([1.0, 0.5])).all()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("tol", [1e-1, 1e-2, 1e-4])
def test_conjugate_gradients_stop_at_the_first_small_residual(scale, tol):
    # kills: cg-tolerance-not-squared, cg-tolerance-absolute
    b = scale * B0
    every = solvers.ConjugateGradient(D).solve(operator(SPD), b, keep=True).iterates
    small = [np.linalg.norm(b - SPD @ v) <= tol * np.linalg.norm(b) for v in every]
    assert solvers.ConjugateGradient(D, tol).solve(operator(SPD), b).steps == small.index(True)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0])
@pytest.mark.parametrize("solver", [solvers.ConjugateGradient(), solvers.NormalCG()])
def test_no_tolerance_is_no_refusal(scale, solver):
    """With tol = 0 the recursive residual falls on until pᵀAp would underflow to 0: not a curvature of the matrix."""
    found = solver.solve(operator(scale * SPD), B0)
    assert found.steps < 100
    assert np.linalg.norm(found.residual) <= 10 * D * EPS["float64"] * KAPPA**2 * np.linalg.norm(B0)


@pytest.mark.parametrize("name", ["numpy", "strict", "rational"])
def test_curvature_that_is_not_positive_is_measured_and_refused(name):
    # kills: cg-curvature-unchecked
    xp = backend(name)
    b = np.array([[1.0, 1.0], [0.0, 1.0]])  # the second lane sees the second direction alone
    with pytest.raises(HypothesisViolated, match=re.escape("-2.000e+00")):
        solvers.ConjugateGradient().solve(operator(np.diag([5.0, -2.0]), name), xp.asarray(b))
    with pytest.raises(HypothesisViolated, match=re.escape("0.000e+00")):
        solvers.ConjugateGradient().solve(operator(np.diag([1.0, 0.0]), name), xp.asarray(b[1]))


def test_normal_cg_solves_what_is_indefinite_or_not_symmetric():
    """‖v − v_k‖ <= 2κ((κ−1)/(κ+1))^k ‖v‖, exactly 0 after d steps over the rationals."""
    for a in (SHIFTED, SPD - 4 * np.eye(D)):
        truth, kappa = np.linalg.solve(a, B0), condition_number(a)
        found = solvers.NormalCG(D).solve(operator(a), B0, keep=True)
        for k, v in enumerate(found.iterates):
            bound = 2 * kappa * ((kappa - 1) / (kappa + 1)) ** k + 10 * D * EPS["float64"] * kappa**2
            assert np.linalg.norm(v - truth) <= bound * np.linalg.norm(truth)
    rotation = operator(np.array([[0.0, 2.0], [-1.0, 1.0]]), "rational")
    found = solvers.NormalCG().solve(rotation, rotation.backend.asarray([1.0, 3.0]))
    assert all(e == 0 for e in found.residual)


@pytest.mark.parametrize("terms", range(6))
@pytest.mark.parametrize("start", [None, [1.0, -2.0]])
def test_neumann_is_the_sum_with_the_step_on_every_term(terms, start):
    # kills: neumann-first-term-without-step, neumann-without-step, neumann-sign, neumann-one-term-more/-less
    a, b, eta = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([1.0, -1.0]), 0.25
    A, total = exactly(a), exactly(start or [0.0, 0.0])
    power = exactly(b) - A @ total
    for _ in range(terms):
        total = total + Fraction(eta) * power
        power = power - Fraction(eta) * A @ power
    system, xp = operator(a, "rational"), backend("rational")
    v0 = None if start is None else xp.asarray(start)
    found = solvers.Neumann(terms, eta).solve(system, xp.asarray(b), v0)
    assert (fractions(found.v) == total).all()
    assert (fractions(found.residual) == power).all()


def test_neumann_within_its_rate():
    truth = np.linalg.solve(SPD, B0)
    found = solvers.Neumann(40, STEP).solve(operator(SPD), B0, keep=True)
    for k, v in enumerate(found.iterates):
        bound = (1 - STEP) ** k * np.linalg.norm(B0)  # μ = 1
        assert np.linalg.norm(v - truth) <= bound + 10 * D * EPS["float64"] * KAPPA * np.linalg.norm(truth)


@pytest.mark.parametrize("steps", range(5))
def test_the_fixed_point_adjoint_iterates_the_transpose(steps):
    # kills: fixed-point-adjoint-not-transposed, fixed-point-adjoint-half-step
    problem = maps.random(n=2, d=3, seed=2).to("rational")
    lam, w = problem.start(), problem.w(None)
    jacobian = fractions(problem.phi.d_w(lam, w).dense())
    assert (jacobian != jacobian.T).any()
    rhs = problem.upper.grad_w(lam, w)
    v = 0 * fractions(rhs)
    for _ in range(steps):
        v = jacobian.T @ v + fractions(rhs)
    found = solvers.FixedPointAdjoint(steps).solve(problem.residual_w(lam, w).T, rhs)
    assert (fractions(found.v) == v).all()


def test_products_taken():
    """CG one per step, normal CG two and one for Aᵀb, Neumann none for its first term; the residual is one more."""
    for solver, start, products in [
        (solvers.ConjugateGradient(3), None, 3),
        (solvers.ConjugateGradient(3), B0, 4),
        (solvers.NormalCG(3), None, 7),
        (solvers.Neumann(3, STEP), None, 2),
        (solvers.Neumann(0, STEP), None, 0),
        (solvers.Neumann(3, STEP), B0, 3),
    ]:
        system, calls = tallied(SPD)
        found = solver.solve(system, B0, start)
        assert len(calls) == products, solver
        assert found.residual.shape == (D,)
        assert len(calls) == products + 1


# -- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [solvers.FixedPoint, solvers.GradientDescent, solvers.HeavyBall, solvers.ConjugateGradient, solvers.NormalCG,
     solvers.FixedPointAdjoint, lambda k: solvers.Neumann(k, 0.1), lambda k: solvers.Newton(steps=k),
     lambda k: solvers.NewtonCG(steps=k)],
)  # fmt: skip
@pytest.mark.parametrize("count", [-1, 2.0, True, None])
def test_counts_are_whole_numbers(make, count):
    with pytest.raises(BadInput, match="whole number"):
        make(count)


@pytest.mark.parametrize(
    "make",
    [lambda: solvers.ConjugateGradient(tol=-1e-9), lambda: solvers.NormalCG(tol=float("nan")),
     lambda: solvers.Newton(tol=float("inf")), lambda: solvers.NewtonCG(tol=-1.0),
     lambda: solvers.Neumann(3, 0.0), lambda: solvers.Neumann(3, float("nan"))],
)  # fmt: skip
def test_tolerances_and_steps_are_in_range(make):
    with pytest.raises(BadInput, match="out of range") as refusal:
        make()
    assert refusal.value.measured is not None


def test_symmetric_solvers_refuse_other_systems():
    # kills: cg-any-matrix, cholesky-any-matrix
    for solver in (solvers.ConjugateGradient(), solvers.Cholesky()):
        with pytest.raises(HypothesisViolated, match="symmetric"):
            solver.solve(operator(SHIFTED), B0)
    with pytest.raises(HypothesisViolated, match="not positive definite"):
        solvers.Cholesky().solve(operator(SPD - 4 * np.eye(D)), B0)


@pytest.mark.parametrize("name", ["numpy", "strict"])
@pytest.mark.parametrize("solver", [solvers.Neumann(3000, 1.0), solvers.FixedPointAdjoint(3000)])
def test_divergence_is_an_error_and_warns_of_nothing(name, solver):
    with pytest.raises(NotConverged, match="adjoint iterate after 3000 steps"):
        solver.solve(operator(SPD, name), backend(name).asarray(B0))
