"""BiG-SAM: steps, schedule and derivatives against the loop written out: in fractions, complex numbers, autograd."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction as Q

import numpy as np
import pytest

import refimpl as ri
from refimpl import approximate, solvers
from refimpl.arrays import backend, to_numpy
from refimpl.combined import Combined
from refimpl.errors import BadInput
from refimpl.rates import Constant, Harmonic
from refimpl.sets import Ball, Box
from refimpl.solvers import Averaging, BiGSAM
from refimpl.zoo import logistic, quadratic
from tests.backends import everywhere
from tests.rounding import assert_rounded, exactly
from tests.solver_things import dense_sum

K = 6


def integers(seed, n=2, d=4, rank=2):
    """Whole numbers: H = XᵀX of that rank, ∇_wG in its range, F strongly convex, and both mention λ."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.integers(-2, 3, shape).astype(float)  # noqa: E731 (one expression)
    X, A = draw(rank, d), draw(d, d)
    lower = quadratic.objective(ww=X.T @ X, lw=draw(n, rank) @ X, w1=X.T @ draw(rank), n=n)
    upper = quadratic.objective(ww=A.T @ A + np.eye(d), lw=draw(n, d), ll=np.eye(n), w1=draw(d), n=n)
    return ri.BilevelProblem(upper, lower, initial=draw(n))


SINGULAR = integers(1)
LOGISTIC = logistic.random(d=3, seed=5, rows=9)  # both levels the mean of softplus: holomorphic
S, T = Q(1, 64), Q(1, 128)
RATE = Averaging(Q(1, 2), Q(3, 8))  # weights min(3/(2k), 1): 1, 3/4, 1/2, 3/8, …
WEIGHTS = [min(Q(3, 2 * k), Q(1)) for k in range(1, K + 1)]
SOLVERS = {
    "BiG-SAM": (BiGSAM(K, s=S, t=T, alpha=RATE), WEIGHTS),
    "every third": (BiGSAM(K, s=S, t=T, alpha=RATE, every=3), [0, 0, WEIGHTS[2], 0, 0, WEIGHTS[5]]),
    "constant": (BiGSAM(K, s=S, t=T, alpha=Q(1, 4)), [Q(1, 4)] * K),
    "descent on G": (BiGSAM(K, s=S, t=T, alpha=0), [0] * K),
    "descent on F": (BiGSAM(K, s=S, t=T, alpha=1), [1] * K),
}
each = pytest.mark.parametrize("kind", SOLVERS)


def loop(F, G, lam, w, weights, s=S, t=T, number=float, prox=lambda y: y):
    """algorithm 1 / 3, line by line; all iterates."""
    states = [w]
    for a in weights:
        y = prox(w - number(s) * G.grad_w(lam, w))
        z = w - number(t) * F.grad_w(lam, w)
        w = number(a) * z + number(1 - a) * y
        states.append(w)
    return states


def terms(problem, lam, states):
    """What rounding in K steps can be multiplied by: no step's A_k expands here, so K errors of the size of an iterate,

    through F's second derivatives and the cross ones, each once.
    """
    w = to_numpy(states[-1])
    second = sum(
        np.linalg.norm(x.dense())
        for f in (problem.upper, problem.lower)
        for x in (f.hess_ww(lam, w), f.cross(lam, w))
    )
    gradients = np.linalg.norm(problem.upper.grad_w(lam, w)) + np.linalg.norm(problem.upper.grad_lam(lam, w))
    return (1 + second) ** 2 * (1 + max(np.linalg.norm(to_numpy(x)) for x in states)) * (1 + gradients)


# -- the schedule -----------------------------------------------------------------------------------
def test_the_weights_are_the_papers():
    """α_k = min{2γ/(k(1 − β)), 1}, k = 1, 2, …, exactly."""
    # kills: bigsam/alpha-index, bigsam/alpha-index-in-weight, bigsam/alpha-without-1-minus-beta, -without-2
    solver = BiGSAM(9, s=1, t=1, alpha=Averaging(Q(1, 3), Q(1, 2)))
    assert [solver.weight(k) for k in range(1, 6)] == [1, Q(3, 4), Q(1, 2), Q(3, 8), Q(3, 10)]
    assert all(isinstance(solver.weight(k), Q) for k in range(1, 6))
    assert [Averaging(0.5)(k) for k in range(5)] == [1.0, 1.0, 1.0, 1.0, 0.8]
    exact = RATE.to("rational")
    assert [str(exact(k)) for k in range(4)] == ["1", "3/4", "1/2", "3/8"]


def test_the_ablation_takes_every_third():
    # kills: bigsam/every-off-by-one, bigsam/every-counts-its-own
    assert [BiGSAM(9, s=1, t=1, alpha=RATE, every=3).weight(k) for k in range(1, 10)] == [
        *(0, 0, Q(1, 2)),
        *(0, 0, Q(1, 4)),
        *(0, 0, Q(1, 6)),
    ]
    assert [BiGSAM(3, s=1, t=1, alpha=Q(1, 2)).weight(k) for k in range(1, 4)] == [Q(1, 2)] * 3


@pytest.mark.parametrize(
    ("sigma", "L"), [(1.0, 3.0), (0.3, 0.3), (4.463762510870775, 4.463762510870778), (1e-3, 1e3)]
)
def test_the_contraction_of_the_step_on_F(sigma, L):
    """β² = 1 − 2tσL/(σ + L) is attained by the longest t, and is no less than the true factor of a shorter one."""
    # kills: bigsam/contraction-formula, bigsam/contraction-of-rounding
    longest = 2 / (sigma + L)
    attained = solvers.contraction_of(sigma, L, longest)
    # β² is known to rounding; so β to its root where β = 0
    assert abs(attained**2 - ((L - sigma) / (L + sigma)) ** 2) <= 10 * 2.0**-52
    for share in (0.25, 0.5, 0.75):
        t = share * longest
        true = max(abs(1 - t * sigma), abs(1 - t * L))
        assert true <= solvers.contraction_of(sigma, L, t) * (1 + 10 * 2.0**-52)
    assert math.isclose(solvers.contraction_of(1, 3, 0.25) ** 2, 1 - 0.375, rel_tol=10 * 2.0**-52)


@pytest.mark.parametrize("kind", ["Fraction", "fmpq"])
def test_the_contraction_of_rationals(kind):
    """(σ, L, t) = (1, 4, 2/5): β = 3/5, the root of an exact 9/25; a step longer by 10⁻⁴⁰⁰ is refused."""
    exact = Q if kind == "Fraction" else pytest.importorskip("flint").fmpq
    sigma, L, t = exact(1), exact(4), exact(2, 5)
    assert solvers.contraction_of(sigma, L, t) == 3 / 5
    with pytest.raises(BadInput, match="not proved to contract"):
        solvers.contraction_of(sigma, L, t + exact(1, 10**400))


@pytest.mark.parametrize(
    "wrong", ["1", True, None, [1.0], math.nan, math.inf, 1j, 10**400, -(10**400), 0, "a ball"]
)
def test_the_contraction_of_what_is_no_number(wrong):
    # kills: bigsam/contraction-at-the-midpoint
    wrong = pytest.importorskip("flint").arb(1) if wrong == "a ball" else wrong
    for given in ((wrong, 3, 0.25), (1, wrong, 0.25), (1, 3, wrong)):
        with pytest.raises(BadInput, match="not proved to contract"):
            solvers.contraction_of(*given)


# -- the iterates -----------------------------------------------------------------------------------
@each
def test_iterates_are_the_loops_exactly(kind):
    # kills: bigsam/steps-swapped, bigsam/alpha-weighs-y, bigsam/levels-swapped, bigsam/averages-after
    solver, weights = SOLVERS[kind]
    problem = SINGULAR.to("rational")
    lam, w0 = problem.start(), problem.backend.asarray([1.0, -2.0, 0.0, 3.0])
    states = solver.run(problem, lam, w0, keep=None).states
    wanted = loop(problem.upper, problem.lower, lam, w0, weights, number=problem.backend.scalar)
    assert len(states) == K + 1
    for mine, true in zip(states, wanted, strict=True):
        assert exactly(mine) == exactly(true)


@everywhere
@each
def test_everywhere(place, kind):
    solver, weights = SOLVERS[kind]
    lam = SINGULAR.start()
    states = loop(SINGULAR.upper, SINGULAR.lower, lam, np.zeros(4), weights)
    size = terms(SINGULAR, lam, states)
    wanted = dense_sum(SINGULAR, solver, lam, np.zeros(4), K)
    for mode in (approximate.reverse, approximate.forward):
        found = mode(place.move(SINGULAR), place.array(lam), lower=solver)
        assert_rounded(found.w, states[-1], terms=size, count=K * 4)
        assert_rounded(found.value, wanted, terms=size, count=K * 4)


@pytest.mark.parametrize("prox", [None, solvers.Projection(Box(-0.25, 0.25))], ids=["free", "box"])
def test_alpha_0_is_gradient_descent_bit_for_bit(prox):
    """The basic model through the same code: equal iterates, derivatives and counts; F is not evaluated on the way."""
    # kills: bigsam/F-evaluated-for-nothing
    lam = SINGULAR.start()
    basic = BiGSAM(K, s=0.015625, t=0.5, alpha=0, prox=prox)
    never = BiGSAM(K, s=0.015625, t=0.5, alpha=RATE, every=K + 1, prox=prox)
    descent = solvers.GradientDescent(K, 0.015625)
    w0 = np.array([0.1, -0.2, 0.0, 0.2])
    first, second = (approximate.reverse(SINGULAR, lam, lower=x, w0=w0) for x in (basic, never))
    assert (first.w == second.w).all()
    assert (first.value == second.value).all()
    assert first.calls["upper.grad_w"] == second.calls["upper.grad_w"] == 1
    if prox is None:
        found = approximate.reverse(SINGULAR, lam, lower=descent, w0=w0)
        assert found.calls == first.calls == second.calls
        assert (found.w == first.w).all()
        assert (found.value == first.value).all()
        forward = (approximate.forward(SINGULAR, lam, lower=x, w0=w0).value for x in (descent, basic))
        assert np.array_equal(*forward)


def test_it_converges_to_the_solution_and_a_constant_weight_to_the_tikhonov_point():
    lam = SINGULAR.start()
    wanted = ri.exact.solve_simple(SINGULAR, lam).w
    q = np.linalg.eigvalsh(SINGULAR.upper.mean[0])
    t = 2 / (q[0] + q[-1])
    s = 1 / np.linalg.eigvalsh(SINGULAR.lower.mean[0])[-1]
    rate = Averaging(solvers.contraction_of(q[0], q[-1], t))
    distances = [
        np.linalg.norm(BiGSAM(k, s=s, t=t, alpha=rate).run(SINGULAR, lam, np.zeros(4)).w - wanted)
        for k in (200, 400, 800, 1600)
    ]
    assert all(later < earlier for earlier, later in itertools.pairwise(distances))
    assert distances[-1] < distances[0] / 4  # O(1/k): 8 up to a logarithm
    # ε = αt/((1 − α)s), exactly, by the equation of the fixed point
    alpha, problem = Q(1, 3), SINGULAR.to("rational")
    tikhonov = Combined(1, problem.lower, alpha * T / ((1 - alpha) * S), problem.upper, problem.backend)
    w = ri.exact.solve_lower(ri.BilevelProblem(problem.upper, tikhonov), problem.start()).w
    step = BiGSAM(1, s=S, t=T, alpha=alpha)
    assert exactly(step.run(problem, problem.start(), w).w) == exactly(w)


# -- derivatives ------------------------------------------------------------------------------------
@each
def test_reverse_equals_forward_and_the_central_difference_exactly(kind):
    """w_K is affine in λ and F quadratic: over the rationals a central difference of the loop is the derivative."""
    # kills: every bigsam/A- and bigsam/B- mutant
    solver, weights = SOLVERS[kind]
    problem = SINGULAR.to("rational")
    lam, w0 = problem.start(), problem.backend.asarray([1.0, -2.0, 0.0, 3.0])
    F, G, number = problem.upper, problem.lower, problem.backend.scalar

    def value(lam):
        return F.value(lam, loop(F, G, lam, w0, weights, number=number)[-1])

    wanted = [(value(lam + e) - value(lam - e)) / 2 for e in problem.backend.eye(2)]
    reverse = approximate.reverse(problem, lam, lower=solver, w0=w0)
    forward = approximate.forward(problem, lam, lower=solver, w0=w0)
    assert list(reverse.value) == list(forward.value) == wanted


@each
@pytest.mark.parametrize("kept", range(K + 1))
def test_truncation_sums_the_last_steps(kind, kept):
    """Σ_{k > K − K₀} B_kᵀ A_{k+1}ᵀ … A_Kᵀ ∇_wF, with A_k and B_k from the coefficients."""
    # kills: bigsam/A- and B- mutants; unrolled: k of a truncated sweep
    solver, weights = SOLVERS[kind]
    problem = SINGULAR.to("rational")
    number, eye = problem.backend.scalar, problem.backend.eye(4)
    lam, w0 = problem.start(), problem.backend.asarray([1.0, -2.0, 0.0, 3.0])
    (P, p, *_), (H, h, *_) = problem.upper.mean, problem.lower.mean
    states = loop(problem.upper, problem.lower, lam, w0, weights, number=number)
    q = problem.upper.grad_w(lam, states[-1])
    value = problem.upper.grad_lam(lam, states[-1])
    for a in weights[::-1][:kept]:
        alpha, rest = number(a), number(1 - a)
        A = alpha * (eye - number(T) * P) + rest * (eye - number(S) * H)
        B = -alpha * number(T) * p.T - rest * number(S) * h.T
        value, q = value + B.T @ q, A.T @ q
    found = approximate.truncated(problem, lam, lower=solver, last=kept, w0=w0)
    assert list(found.value) == list(value)


LOGISTIC_SOLVER = BiGSAM(K, s=0.5, t=0.25, alpha=RATE)


@pytest.mark.parametrize("mode", [approximate.reverse, approximate.forward])
@pytest.mark.parametrize("problem", [SINGULAR, LOGISTIC], ids=["quadratic", "logistic"])
def test_complex_step_and_autograd_through_the_loop(problem, mode):
    """The A_k differ from step to step, by α_k and, for the logistic loss, by the iterate."""
    from autograd import grad

    s, t = (S, T) if problem is SINGULAR else (0.5, 0.25)
    solver, lam, zero = BiGSAM(K, s=s, t=t, alpha=RATE), problem.start() / 2, np.zeros(problem.d)
    there = problem.to("autograd")

    def value(F, G, lam, w0):
        return F.value(lam, loop(F, G, lam, w0, WEIGHTS, s, t)[-1])

    F, G = problem.upper, problem.lower
    by_complex = [value(F, G, lam + 1e-200j * e, zero + 0j).imag / 1e-200 for e in np.eye(problem.n)]
    by_autograd = grad(lambda x: value(there.upper, there.lower, x, zero))(lam)
    found = mode(problem, lam, lower=solver)
    size = terms(problem, lam, loop(F, G, lam, zero, WEIGHTS, s, t))
    assert_rounded(found.value, by_complex, terms=size, count=K * problem.d)
    assert_rounded(found.value, by_autograd, terms=size, count=K * problem.d)


def box(y):
    return np.where(y.real < -0.25, -0.25, np.where(y.real > 0.25, 0.25, y))


def soft(y):
    return np.where(y.real > 0.125, y - 0.125, np.where(y.real < -0.125, y + 0.125, 0 * y))


def ball(y):
    return y if np.linalg.norm(y.real) <= 0.5 else 0.5 * y / np.sqrt(np.sum(y * y))


PROXIMALS = {
    "box": (solvers.Projection(Box(-0.25, 0.25)), box),
    "ball": (solvers.Projection(Ball(0.5)), ball),
    "soft": (solvers.SoftThreshold(0.25), soft),
}


@pytest.mark.parametrize("mode", [approximate.reverse, approximate.forward])
@pytest.mark.parametrize("kind", PROXIMALS)
def test_through_proximal_steps(kind, mode):
    """Away from kinks; every case has steps that leave the set and coordinates that stay."""
    # kills: bigsam/prox-missing, bigsam/jacobian-missing, -at-w, -on-F, -not-in-B
    prox, written = PROXIMALS[kind]
    problem, w0 = LOGISTIC, np.array([0.7, -0.4, 0.2])
    lam, F, G = problem.start() / 2, problem.upper, problem.lower
    solver = BiGSAM(K, s=0.5, t=0.25, alpha=RATE, prox=prox)

    def states(lam, w0):
        return loop(F, G, lam, w0, WEIGHTS, 0.5, 0.25, prox=written)

    kinds = set()
    for w in states(lam, w0)[:-1]:
        y = w - 0.5 * G.grad_w(lam, w)
        kinds.add(str(np.round(prox.jacobian(y, 0.5, backend()).dense(), 6)))
    assert len(kinds) > 1  # the derivative of prox changes on the way
    wanted = [
        F.value(lam + 1e-200j * e, states(lam + 1e-200j * e, w0 + 0j)[-1]).imag / 1e-200
        for e in np.eye(problem.n)
    ]
    found = mode(problem, lam, lower=solver, w0=w0)
    size = terms(problem, lam, states(lam, w0))
    assert_rounded(found.w, states(lam, w0)[-1], terms=size, count=K * 3)
    assert_rounded(found.value, wanted, terms=size, count=K * 3)


@pytest.mark.parametrize("prox", [None, *(p for p, _ in PROXIMALS.values())], ids=["none", *PROXIMALS])
@pytest.mark.parametrize("alpha", [0, 0.25, 1])
def test_a_step_is_a_map_with_right_derivatives(alpha, prox):
    for problem in (SINGULAR, LOGISTIC):
        solver = BiGSAM(1, s=0.125, t=0.0625, alpha=alpha, prox=prox)
        step = solver.map(problem, problem.start(), problem.w(None), 1)
        w = np.linspace(0.5, -0.7, problem.d)
        channels = {row.channel for row in ri.check_derivatives(step, problem.start(), w)}
        assert {"autograd", "adjoint"} <= channels


# -- costs, shapes, kinds of numbers ------------------------------------------------------------------
def calls(solver, mode=approximate.reverse):
    return mode(SINGULAR, SINGULAR.start(), lower=solver).calls


def test_cost_is_linear_in_the_steps_and_a_bounded_multiple_of_the_basic_models(capsys):
    """Exactly: per step a gradient and two products of each level, no Hessian at w_0; twice the basic model's."""
    rows = {}
    for steps in (1, 2, 5, 10, 20):
        improved = calls(BiGSAM(steps, s=S, t=T, alpha=RATE))
        assert {"lower.hess_ww": 0, "upper.hess_ww": 0} | improved == {
            "lower.grad_w": steps,
            "lower.hess_ww": steps - 1,
            "lower.cross": steps,
            "upper.grad_w": steps + 1,
            "upper.hess_ww": steps - 1,
            "upper.cross": steps,
            "upper.grad_lam": 1,
        }
        basic = calls(BiGSAM(steps, s=S, t=T, alpha=0))
        assert basic == calls(solvers.GradientDescent(steps, float(S)))
        rows[steps] = sum(improved.values()), sum(basic.values())
        assert rows[steps] == (6 * steps, 3 * steps + 1)
    ablation = calls(BiGSAM(10, s=S, t=T, alpha=RATE, every=5))
    assert (ablation["upper.grad_w"], ablation["upper.hess_ww"], ablation["upper.cross"]) == (3, 2, 2)
    forward = calls(BiGSAM(10, s=S, t=T, alpha=RATE), approximate.forward)
    assert forward == {
        "lower.grad_w": 10,
        "lower.hess_ww": 10,
        "lower.cross dense": 10,
        "upper.grad_w": 11,
        "upper.hess_ww": 10,
        "upper.cross dense": 10,
        "upper.grad_lam": 1,
    }
    projected = calls(BiGSAM(10, s=S, t=T, alpha=RATE, prox=solvers.Projection(Box(-1, 1))))
    assert projected["lower.grad_w"] == 3 * 10 - 1  # each derivative of a step finds its own y
    with capsys.disabled():
        print("\ncalls (improved, basic, ratio):", {k: (*r, round(r[0] / r[1], 3)) for k, r in rows.items()})


@pytest.mark.parametrize("mode", [approximate.reverse, approximate.forward])
@pytest.mark.parametrize("lead", [((3,), ()), ((), (3,)), ((3,), (3,)), ((2, 1), (3,))])
def test_leading_axes_equal_single_runs(lead, mode):
    rng = np.random.default_rng(2)
    solver = BiGSAM(3, s=0.015625, t=0.0078125, alpha=RATE, every=2, prox=solvers.Projection(Ball(0.75)))
    lam, w0 = rng.standard_normal((*lead[0], 2)), rng.standard_normal((*lead[1], 4))
    found, full = mode(SINGULAR, lam, lower=solver, w0=w0), np.broadcast_shapes(*lead)
    lams, starts = np.broadcast_to(lam, (*full, 2)), np.broadcast_to(w0, (*full, 4))
    for index in np.ndindex(*full):
        single = mode(SINGULAR, lams[index], lower=solver, w0=starts[index])
        size = terms(SINGULAR, lams[index], [starts[index], single.w])
        value = np.broadcast_to(found.value, (*full, 2))[index]
        assert_rounded(value, single.value, terms=size, count=3 * 4)


@pytest.mark.parametrize("mode", [approximate.reverse, approximate.forward])
@pytest.mark.parametrize("data", ["lower", "upper", "upper, twice", "both"])
def test_data_with_leading_axes(mode, data):
    """One level carries an axis of samples, or two; a first step without F must not lose them."""
    problem = quadratic.random(n=2, d=3, seed=8, terms=6)
    index = np.arange(6) if data in ("lower", "upper") else np.arange(6).reshape(2, 3)
    flat = index.reshape(-1)
    many = problem.lower.at(index)
    one = [problem.lower.at(int(i)) for i in flat]
    if data == "lower":
        every = ri.BilevelProblem(problem.upper, many)
        singles = [ri.BilevelProblem(problem.upper, x) for x in one]
    elif data == "both":  # F with two axes, G with one
        every = ri.BilevelProblem(many, problem.lower.at(np.arange(3)))
        singles = [ri.BilevelProblem(x, problem.lower.at(k % 3)) for k, x in enumerate(one)]
    else:
        every = ri.BilevelProblem(many, problem.upper)
        singles = [ri.BilevelProblem(x, problem.upper) for x in one]
    solver, lam = BiGSAM(4, s=0.0625, t=0.03125, alpha=RATE, every=2), np.array([0.5, -1.0])
    found = mode(every, lam, lower=solver)
    assert found.value.shape == (*index.shape, 2)
    for value, single in zip(found.value.reshape(-1, 2), singles, strict=True):
        wanted = mode(single, lam, lower=solver)
        size = terms(single, lam, [0 * wanted.w, wanted.w])
        assert_rounded(value, wanted.value, terms=size, count=4 * 3)


def test_no_hyperparameters_and_single_precision():
    nothing = quadratic.random(n=0, d=2, seed=0)
    solver = BiGSAM(3, s=0.1, t=0.1, alpha=RATE)
    for mode in (approximate.reverse, approximate.forward):
        assert mode(nothing, np.zeros(0), lower=solver).value.shape == (0,)
        single = SINGULAR.to("numpy", dtype="float32")
        lam = SINGULAR.start()
        for prox in (None, solvers.Projection(Ball(0.5, np.ones(4)))):
            moved = BiGSAM(K, s=S, t=T, alpha=RATE, prox=prox)
            found = mode(single, lam.astype(np.float32), lower=moved)
            assert found.value.dtype == found.w.dtype == np.float32
            double = mode(SINGULAR, lam, lower=moved)
            size = terms(SINGULAR, lam, [0 * double.w, double.w])
            assert_rounded(found.value, double.value, terms=size, count=K * 4, dtype="float32")


def test_dropout_problems_and_w0_of_lambda():
    """Levels that are expectations over masks; and w_0 = λ adds its own term."""
    problem = quadratic.random(n=3, d=3, seed=6).with_dropout(lower=0.5, upper=0.75).to("rational")
    solver = BiGSAM(K, s=S, t=T, alpha=RATE)
    lam, F, G, number = problem.start(), problem.upper, problem.lower, problem.backend.scalar

    def value(lam):
        return F.value(lam, loop(F, G, lam, lam, WEIGHTS, number=number)[-1])

    wanted = [(value(lam + e) - value(lam - e)) / 2 for e in problem.backend.eye(3)]
    for mode in (approximate.reverse, approximate.forward):
        found = mode(problem, lam, lower=solver, w0=solvers.IdentityStart(3).to("rational"))
        assert list(found.value) == wanted


# -- refusals ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, "measured: 1.5"),
        ({"alpha": -0.1}, "measured: -0.1"),
        ({"alpha": float("nan")}, "measured: nan"),
        ({"alpha": "1/k"}, "measured: '1/k'"),
        ({"every": 0}, "whole number >= 1"),
        ({"s": 0}, "s is out of range\n  measured: 0"),
        ({"t": float("inf")}, "t is out of range\n  measured: inf"),
        ({"steps": -1}, "whole number >= 0"),
        ({"prox": Ball(1.0)}, "measured: Ball"),
    ],
    ids=str,
)
def test_what_no_method_is(options, message):
    with pytest.raises(BadInput, match=message.replace("(", r"\(")):
        BiGSAM(**{"steps": 3, "s": 0.1, "t": 0.1, "alpha": 0.5, **options})


def test_schedules_and_problems_that_do_not_fit():
    lam, w0 = SINGULAR.start(), np.zeros(4)
    # kills: bigsam/weights-above-1
    with pytest.raises(BadInput, match=r"alpha in step 1 is out of range\n  measured: 2\.0"):
        BiGSAM(1, s=0.1, t=0.1, alpha=Harmonic(2.0, 1.0)).run(SINGULAR, lam, w0)
    BiGSAM(1, s=0.1, t=0.1, alpha=Constant(1.0)).run(SINGULAR, lam, w0)
    for contraction, gamma in ((1.0, 1), (-0.5, 1), (0.5, 1.5), ("b", 1)):
        with pytest.raises(BadInput, match=f"contraction = {contraction}, gamma = {gamma}"):
            Averaging(contraction, gamma)
    with pytest.raises(BadInput, match="gamma is out of range\n  measured: 0"):
        Averaging(0.5, 0)
    with pytest.raises(BadInput, match=r"sigma = 0, smoothness = 1, t = 0\.5"):
        solvers.contraction_of(0, 1, 0.5)
    with pytest.raises(BadInput, match=r"t = 0\.6"):
        solvers.contraction_of(1, 3, 0.6)
    with pytest.raises(BadInput, match="measured: FixedPointProblem"):
        BiGSAM(1, s=0.1, t=0.1, alpha=0).run(SINGULAR.as_fixed_point(0.1), lam, w0)
    with pytest.raises(ri.errors.NotConverged, match="after 400 steps"):
        BiGSAM(400, s=1e3, t=1e3, alpha=0.5).run(SINGULAR, lam, w0)
