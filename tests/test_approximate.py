"""Approximate hypergradients: against exact derivatives of the iterates, plain loops, and their stated costs.

Comments name the mutants that a test kills.
"""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

import refimpl as ri
from refimpl import approximate, solvers
from refimpl.arrays import to_numpy
from refimpl.errors import BadInput
from refimpl.problem import FixedPointProblem
from refimpl.zoo import maps, quadratic
from tests.backends import everywhere
from tests.rounding import assert_rounded
from tests.solver_things import (
    AFFINE,
    KAPPA,
    LOGISTIC,
    QUADRATIC,
    TANH,
    D,
    Shrink,
    dense_sum,
    fractions,
    solved,
    start_of,
)

T = 4
SQUARE = quadratic.random(n=3, d=3, seed=6)  # n = d: w_0 = λ is possible
DESCENT = solvers.GradientDescent(T, 0.125)
BALL = solvers.HeavyBall(T, 0.125, 0.25)
POINT = solvers.FixedPoint(T)
STEPPED = {"descent": (QUADRATIC, DESCENT), "heavy ball": (QUADRATIC, BALL), "map": (AFFINE, POINT)}
NONLINEAR = {
    "descent": (LOGISTIC, solvers.GradientDescent(T, 1.0)),
    "heavy ball": (LOGISTIC, solvers.HeavyBall(T, 1.0, 0.4)),
    "map": (TANH, POINT),
}
BOTH = pytest.mark.parametrize("mode", [approximate.reverse, approximate.forward])
STARTS = pytest.mark.parametrize("start", ["origin", "point", "map of λ"])


# -- the derivative of the iterate ------------------------------------------------------------------


@BOTH
@STARTS
@pytest.mark.parametrize("kind", STEPPED)
def test_unrolling_gives_the_exact_derivative_of_the_iterate(mode, start, kind):
    """λ ↦ F(λ, w_T(λ)) is quadratic here, so a central difference over the rationals is its derivative."""
    # kills: reverse-product-order, -A-not-transposed, -A-before-B, -direct-gradient-dropped, -start-term-dropped,
    # forward-B-dropped, -A-dropped, -start-term-dropped, -direct-gradient-dropped, cotangent-in-both-halves
    problem, solver = STEPPED[kind][0].to("rational"), STEPPED[kind][1]
    lam, (w0, at) = problem.start(), start_of(problem, start)

    def value(lam):
        return problem.upper.value(lam, solver.run(problem, lam, at(lam)).w)

    wanted = [(value(lam + e) - value(lam - e)) / 2 for e in problem.backend.eye(problem.n)]
    found = mode(problem, lam, lower=solver, w0=w0)
    assert list(found.value) == wanted
    assert (found.w == solver.run(problem, lam, at(lam)).w).all()
    assert found.v is None
    assert found.residual_adjoint is None


@BOTH
def test_unrolling_where_the_jacobians_change_from_step_to_step(mode):
    """w ← q w + λ(1 + νw): the iterate as a polynomial in λ, differentiated by its coefficients."""
    # kills: reverse-state-off-by-one, reverse-product-order, forward-after-step
    q, nu, lam, w0, steps = Fraction(1, 2), Fraction(3, 4), Fraction(1, 4), Fraction(2), 5
    w = [w0]  # coefficients, the constant one first
    for _ in range(steps):
        shifted = [Fraction(0), *(nu * c for c in w)]
        shifted[1] += 1
        w = [a + q * b for a, b in zip(shifted, [*w, Fraction(0)], strict=True)]
    wanted = sum(k * c * lam ** (k - 1) for k, c in enumerate(w) if k)
    problem = maps.bent_line(0.5, 0.75).to("rational")
    B = problem.backend
    found = mode(problem, B.asarray([0.25]), lower=solvers.FixedPoint(steps), w0=B.asarray([2.0]))
    assert fractions(found.value)[0] == wanted


@BOTH
@STARTS
@pytest.mark.parametrize("kind", NONLINEAR)
def test_unrolling_by_the_complex_step_through_the_loop(mode, start, kind):
    problem, solver = NONLINEAR[kind]
    lam, (w0, at) = problem.start() / 2, start_of(problem, start)

    def value(lam):
        before = w = at(lam) + 0j
        for _ in range(T):
            if kind == "map":
                w = problem.phi.value(lam, w)
            else:
                beta = 0.4 if kind == "heavy ball" else 0.0
                before, w = w, w - problem.lower.grad_w(lam, w) + beta * (w - before)
        return problem.upper.value(lam, w)

    wanted = np.array([value(lam + 1e-200j * e).imag / 1e-200 for e in np.eye(problem.n)])
    found = mode(problem, lam, lower=solver, w0=w0)
    assert_rounded(found.value, wanted, terms=100 * (1 + np.abs(wanted).max()), count=T * problem.d)


@everywhere
@pytest.mark.parametrize("kind", STEPPED)
def test_reverse_and_forward_everywhere(place, kind):
    problem, solver = STEPPED[kind]
    exact = dense_sum(problem, solver, problem.start(), problem.w(None), T)
    for mode in (approximate.reverse, approximate.forward):
        found = mode(place.move(problem), place.array(problem.start()), lower=solver)
        assert_rounded(found.value, exact, terms=1e3, count=T * D)


def test_maml():
    """w_0 = λ: with a lower level that ignores λ all that is left is the start's own term."""
    rng = np.random.default_rng(0)
    lower = quadratic.objective(ww=quadratic.spectrum_matrix([1, 2, 4], rng), w1=[1, 2, 3], n=3)
    problem = ri.BilevelProblem(SQUARE.upper, lower)
    A = np.eye(3) - 0.125 * lower.mean[0]
    for mode in (approximate.reverse, approximate.forward):
        found = mode(problem, SQUARE.start(), lower=DESCENT, w0=solvers.IdentityStart(3))
        direct, through = (
            problem.upper.grad_lam(SQUARE.start(), found.w),
            problem.upper.grad_w(SQUARE.start(), found.w),
        )
        assert_rounded(found.value, direct + np.linalg.matrix_power(A, T) @ through, terms=100.0, count=T * 3)
    with pytest.raises(BadInput, match="needs n = d"):
        approximate.reverse(QUADRATIC, QUADRATIC.start(), lower=DESCENT, w0=solvers.IdentityStart(2))


# -- truncation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", range(T + 1))
@pytest.mark.parametrize("kind", STEPPED)
def test_truncation_is_the_sum_over_the_last_steps(kind, last):
    # kills: truncated-one-more, truncated-one-less, truncated-keeps-start-term
    problem, solver = STEPPED[kind][0].to("rational"), STEPPED[kind][1]
    lam, (w0, at) = problem.start(), start_of(problem, "map of λ")
    found = approximate.truncated(problem, lam, lower=solver, last=last, w0=w0)
    assert (found.value == dense_sum(problem, solver, lam, at(lam), last)).all()
    point = at(lam)
    if last == T:
        assert (approximate.reverse(problem, lam, lower=solver, w0=point).value == found.value).all()
    if last == 1:  # kills: one-step-is-two
        assert (approximate.one_step(problem, lam, lower=solver, w0=w0).value == found.value).all()


def test_states_kept_are_what_the_docstrings_say():
    """Reverse O(T d), K steps O(K d), forward O(n d): peaks of allocation, against the states' own size."""
    d, steps = 2000, 400
    problem = FixedPointProblem(ri.zoo.uppers.linear(np.ones(d), n=1), Shrink(d))

    def peak(mode, **options):
        tracemalloc.start()
        mode(problem, np.ones(1), lower=solvers.FixedPoint(steps), **options)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak / (8 * d)  # in vectors

    assert steps <= peak(approximate.reverse) <= steps + 40
    assert 20 <= peak(approximate.truncated, last=20) <= 60
    assert peak(approximate.forward) <= 40
    assert peak(approximate.one_step) <= 40


# -- implicit ---------------------------------------------------------------------------------------

LINEAR = {
    "cg": (QUADRATIC, DESCENT, solvers.ConjugateGradient(D)),
    "cholesky": (LOGISTIC, solvers.Newton(), solvers.Cholesky()),
    "normal cg": (AFFINE, POINT, solvers.NormalCG(3)),
    "lu": (TANH, POINT, solvers.LU()),
    "newton-cg": (TANH, solvers.NewtonCG(), solvers.LU()),
}


@everywhere
@pytest.mark.parametrize("kind", LINEAR)
def test_implicit_is_its_formula_at_the_iterate(place, kind):
    # kills: system-not-transposed, adjoint-at-start, residual-lower-missing
    problem, lower, linear = LINEAR[kind]
    lam, w0 = problem.start(), np.ones(problem.d)
    w = solved(problem) if isinstance(lower, solvers.Newton) else lower.run(problem, lam, w0).w
    v = np.linalg.solve(problem.residual_w(lam, w).dense().T, problem.upper.grad_w(lam, w))
    wanted = problem.upper.grad_lam(lam, w) - problem.residual_lam(lam, w).dense().T @ v
    found = approximate.implicit(
        place.move(problem), place.array(lam), lower=lower, linear=linear, w0=place.array(w0)
    )
    # condition of the systems at most 400, squared by the normal equations
    for mine, theirs in ((found.value, wanted), (found.v, v), (found.w, w)):
        assert_rounded(mine, theirs, terms=10 * (1 + np.abs(theirs).max()), count=D, condition=400.0)
    rest = np.linalg.norm(problem.residual(lam, to_numpy(found.w)))
    assert_rounded(found.residual_lower, np.asarray(rest), terms=10.0, count=D * T)
    assert found.kind == "estimated"


def test_implicit_stages_stop_where_they_are_told():
    """Both stages unconverged: two lower steps, two adjoint steps from v_0, by loops on dense matrices."""
    # kills: v0-ignored, system-not-transposed, adjoint-at-start, residual-adjoint-missing
    lam, w0, v0 = TANH.start(), np.ones(3), np.array([1.0, -2.0, 0.5])
    w = TANH.phi.value(lam, TANH.phi.value(lam, w0))
    A, B = TANH.phi.d_w(lam, w).dense(), TANH.phi.d_lam(lam, w).dense()
    rhs, v = TANH.upper.grad_w(lam, w), v0
    for _ in range(2):
        v = A.T @ v + rhs
    found = approximate.implicit(
        TANH, lam, lower=solvers.FixedPoint(2), linear=solvers.FixedPointAdjoint(2), w0=w0, v0=v0
    )
    assert_rounded(found.v, v, terms=10.0, count=6)
    assert_rounded(found.value, TANH.upper.grad_lam(lam, w) + B.T @ v, terms=100.0, count=6)
    rest = np.linalg.norm(rhs - v + A.T @ v)
    assert rest > 0.01
    assert_rounded(found.residual_adjoint, np.asarray(rest), terms=10.0, count=6)


@pytest.mark.parametrize("problem", [QUADRATIC, AFFINE])
def test_implicit_with_exact_stages_is_the_exact_hypergradient(problem):
    """Over the rationals, the two kinds of lower level, and their residuals exactly 0."""
    exact = problem.to("rational")
    lam = exact.start()
    linear = solvers.ConjugateGradient() if problem is QUADRATIC else solvers.NormalCG()
    found = approximate.implicit(exact, lam, lower=solvers.Newton(), linear=linear)
    wanted = ri.exact_hypergradient(exact, lam)
    assert (found.value == wanted.value).all()
    assert (found.v == wanted.v).all()
    assert found.residual_lower == found.residual_adjoint == 0
    again = approximate.implicit(
        exact, lam, lower=solvers.Newton(steps=0), linear=solvers.NormalCG(0), w0=found.w, v0=found.v
    )
    assert (again.value == wanted.value).all()


# -- curves, counts, axes ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STEPPED)
def test_each_curves_index_is_its_methods(kind):
    """implicit: v_i; forward: t steps; reverse: the last K steps, w_0's own term in the last entry only."""
    # kills: curve-of-last, forward-curve-off-by-one, reverse-curve-off-by-one
    problem, solver = STEPPED[kind]
    lam, (w0, _) = problem.start(), start_of(problem, "map of λ")
    exact = ri.exact_hypergradient(problem, lam, certify="never")

    def error(found):
        return np.linalg.norm(found.value - exact.value)

    def with_steps(t):
        return type(solver)(t, *list(vars(solver).values())[1:])

    forward = approximate.forward(problem, lam, lower=solver, w0=w0, exact=exact)
    wanted = [error(approximate.forward(problem, lam, lower=with_steps(t), w0=w0)) for t in range(T + 1)]
    assert_rounded(forward.curve, wanted, terms=100.0, count=T * D)
    reverse = approximate.reverse(problem, lam, lower=solver, w0=w0, exact=exact)
    wanted = [error(approximate.truncated(problem, lam, lower=solver, last=k, w0=w0)) for k in range(T)]
    assert_rounded(reverse.curve, [*wanted, error(reverse)], terms=100.0, count=T * D)
    short = approximate.truncated(problem, lam, lower=solver, last=2, w0=w0, exact=exact)
    assert_rounded(short.curve, wanted[:3], terms=100.0, count=T * D)
    implicit = approximate.implicit(
        problem, lam, lower=solver, linear=solvers.NormalCG(3), w0=w0, exact=exact.value
    )
    wanted = [
        error(approximate.implicit(problem, lam, lower=solver, linear=solvers.NormalCG(k), w0=w0))
        for k in range(4)
    ]
    assert_rounded(implicit.curve, wanted, terms=100.0, count=D, condition=KAPPA**2)
    assert error(implicit) == implicit.curve[-1]
    for mode in (approximate.forward, approximate.reverse):
        assert mode(problem, lam, lower=solver).curve is None


OTHER = ri.zoo.quadratic.random(n=QUADRATIC.n, d=QUADRATIC.d + 1, seed=1)


@pytest.mark.parametrize(
    ("exact", "said"),
    [
        (lambda: ri.exact_hypergradient(OTHER, OTHER.start(), certify="never"), "another problem's"),
        (0.0, "wrong shape"),
        ([1.0], "wrong shape"),
        (True, "truth values"),
        ([True, False], "truth values"),
        (np.full(QUADRATIC.n, np.nan), "not finite"),
        (np.zeros(QUADRATIC.n, np.float32), "wrong dtype"),
        (np.zeros((3, QUADRATIC.n)), "does not fit"),
    ],
)
@pytest.mark.parametrize("method", ["forward", "reverse", "implicit", "augmented_lagrangian"])
def test_what_a_curve_is_measured_against_is_checked(method, exact, said):
    # kills: reference-of-another-problem, reference-unchecked, reference-broadcast
    options = {
        "implicit": {"lower": DESCENT, "linear": solvers.ConjugateGradient(2)},
        "augmented_lagrangian": {"mu": 10.0, "steps": 2},
    }.get(method, {"lower": DESCENT})
    with pytest.raises(BadInput, match=said):
        getattr(approximate, method)(
            QUADRATIC, QUADRATIC.start(), exact=exact() if callable(exact) else exact, **options
        )


def test_a_curve_against_the_improved_model():
    problem = ri.zoo.overparametrised.random(d=6, rank=3, seed=0)
    exact = ri.improved_hypergradient(problem, problem.start(), certify="never")
    t = 2 / 5.5
    bigsam = solvers.BiGSAM(40, s=2.0, t=t, alpha=solvers.Averaging(solvers.contraction_of(0.5, 5.0, t)))
    found = approximate.reverse(problem, problem.start(), lower=bigsam, exact=exact)
    assert_rounded(
        found.curve[-1], np.linalg.norm(found.value - exact.value), terms=found.curve[-1], count=problem.n
    )


def test_curves_over_the_rationals_are_floats():
    problem = QUADRATIC.to("rational")
    exact = ri.exact_hypergradient(problem, problem.start())
    here = approximate.reverse(problem, problem.start(), lower=DESCENT, exact=exact).curve
    there = approximate.reverse(
        QUADRATIC, QUADRATIC.start(), lower=DESCENT, exact=to_numpy(exact.value)
    ).curve
    assert_rounded(here, there, terms=100.0, count=T * D)


def test_counts_of_derivative_calls():
    # kills: counting/double, counting/products-double, -transposed-products-free, -map-free
    once = {"upper.grad_w": 1, "upper.grad_lam": 1}
    lam, point = QUADRATIC.start(), AFFINE.start()
    runs = {
        "cg": approximate.implicit(QUADRATIC, lam, lower=DESCENT, linear=solvers.ConjugateGradient(3)),
        "neumann": approximate.implicit(QUADRATIC, lam, lower=DESCENT, linear=solvers.Neumann(3, 0.1)),
        "newton": approximate.implicit(QUADRATIC, lam, lower=solvers.Newton(), linear=solvers.Cholesky()),
        "fixed point": approximate.implicit(AFFINE, point, lower=POINT, linear=solvers.FixedPointAdjoint(3)),
        "normal cg": approximate.implicit(AFFINE, point, lower=POINT, linear=solvers.NormalCG(2)),
        "reverse": approximate.reverse(QUADRATIC, lam, lower=DESCENT),
        "heavy ball": approximate.reverse(QUADRATIC, lam, lower=BALL),
        "of a start": approximate.reverse(SQUARE, SQUARE.start(), lower=DESCENT, w0=solvers.IdentityStart(3)),
        "truncated": approximate.truncated(AFFINE, point, lower=POINT, last=2),
        "one step": approximate.one_step(AFFINE, point, lower=POINT),
        "forward": approximate.forward(QUADRATIC, lam, lower=DESCENT),
    }
    assert {name: found.calls for name, found in runs.items()} == {
        "cg": {**once, "lower.grad_w": T, "lower.hess_ww": 3, "lower.cross": 1},
        "neumann": {**once, "lower.grad_w": T, "lower.hess_ww": 2, "lower.cross": 1},
        "newton": {**once, "lower.grad_w": 2, "lower.hess_ww dense": 2, "lower.cross": 1},
        "fixed point": {**once, "phi.value": T, "phi.d_w": 2, "phi.d_lam": 1},
        "normal cg": {**once, "phi.value": T, "phi.d_w": 5, "phi.d_lam": 1},
        "reverse": {**once, "lower.grad_w": T, "lower.hess_ww": T - 1, "lower.cross": T},
        "heavy ball": {**once, "lower.grad_w": T, "lower.hess_ww": T - 1, "lower.cross": T},
        "of a start": {**once, "lower.grad_w": T, "lower.hess_ww": T, "lower.cross": T},
        "truncated": {**once, "phi.value": T, "phi.d_w": 1, "phi.d_lam": 2},
        "one step": {**once, "phi.value": T, "phi.d_lam": 1},
        "forward": {**once, "lower.grad_w": T, "lower.hess_ww": T, "lower.cross dense": T},
    }


METHODS = {
    "reverse": approximate.reverse,
    "forward": approximate.forward,
    "truncated": partial(approximate.truncated, last=2),
    "implicit": partial(approximate.implicit, linear=solvers.NormalCG(3)),
}


@pytest.mark.parametrize("lead", [((3,), ()), ((), (3,)), ((3,), (3,)), ((2, 1), (3,)), ((3,), (2, 1))])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", STEPPED)
def test_leading_axes_equal_single_runs(kind, method, lead):
    problem, solver = STEPPED[kind]
    run, rng = METHODS[method], np.random.default_rng(2)
    lam, w0 = rng.standard_normal((*lead[0], problem.n)), rng.standard_normal((*lead[1], problem.d))
    exact = rng.standard_normal(problem.n)
    batch = run(problem, lam, lower=solver, w0=w0, exact=exact)
    full = np.broadcast_shapes(*lead)
    lams, starts = np.broadcast_to(lam, (*full, problem.n)), np.broadcast_to(w0, (*full, problem.d))
    assert batch.value.shape == (*full, problem.n)
    for index in np.ndindex(*full):
        single = run(problem, lams[index], lower=solver, w0=starts[index], exact=exact)
        for name in ("value", "w", "residual_lower"):
            mine = np.broadcast_to(getattr(batch, name), (*full, *np.shape(getattr(single, name))))
            assert_rounded(mine[index], getattr(single, name), terms=1e3, count=T * D, condition=KAPPA**2)
        curve = batch.curve[(slice(None), *index)]
        assert_rounded(curve, single.curve, terms=1e3, count=T * D, condition=KAPPA**2)


@BOTH
def test_data_with_leading_axes(mode):
    """The maps of all samples at once, each with its own iterates."""
    problem = maps.random(n=2, d=3, seed=8, terms=4)
    every = FixedPointProblem(problem.upper, problem.phi.at(np.arange(4)))
    found = mode(every, problem.start(), lower=POINT)
    assert found.value.shape == (4, 2)
    for k in range(4):
        single = mode(FixedPointProblem(problem.upper, problem.phi.at(k)), problem.start(), lower=POINT)
        assert_rounded(found.value[k], single.value, terms=1e3, count=T * 3)


@pytest.mark.parametrize("method", METHODS)
def test_no_hyperparameters(method):
    problem = quadratic.random(n=0, d=2, seed=0)
    assert METHODS[method](problem, np.zeros(0), lower=DESCENT).value.shape == (0,)


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_stays_single(method):
    problem = QUADRATIC.to("numpy", dtype="float32")
    lam = QUADRATIC.start().astype(np.float32)
    found = METHODS[method](problem, lam, lower=DESCENT)
    assert found.value.dtype == found.w.dtype == np.float32
    double = METHODS[method](QUADRATIC, lam.astype(float), lower=DESCENT)
    assert_rounded(found.value, double.value, terms=100.0, count=T * D, condition=KAPPA, dtype="float32")
