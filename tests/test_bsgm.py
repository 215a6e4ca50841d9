"""BSGM against Algorithms 1 and 2 written out, its samples counted, its moments, and the quantity it is judged by."""

from __future__ import annotations

import dataclasses
import itertools as it
from fractions import Fraction as Q
from statistics import NormalDist

import numpy as np
import pytest

import refimpl as ri
from refimpl.algorithms import run
from refimpl.algorithms.exact import whole_state
from refimpl.algorithms.grazzi2023bsgm import BSGM, BSGMState, mean_square_mapping
from refimpl.arrays import backend, to_numpy
from refimpl.errors import BadInput
from refimpl.lengths import Growing, Logarithmic
from refimpl.problem import BilevelProblem, FixedPointProblem
from refimpl.rates import Harmonic, Power
from refimpl.sets import Box
from refimpl.solvers import LU, FixedPoint, GradientDescent, Neumann, Newton
from refimpl.zoo import maps, quadratic
from tests.algorithm_things import Literal
from tests.backends import everywhere
from tests.exact_things import NOISY
from tests.exact_things import quadratic as terms_of
from tests.rounding import assert_rounded

UPPER = terms_of(
    ww=[[[1.0, 0.5], [0.5, 1.0]], [[0.5, 0.0], [0.0, 1.5]]],
    lw=[[[0.25, 1.0]], [[0.5, -0.5]]],
    ll=[[[3.0]], [[2.0]]],
    w1=[[1.0, 0.5], [-0.5, 0.25]],
    l1=[[-2.0], [0.5]],
)
MAP = FixedPointProblem(
    UPPER,
    maps.AffineMap(
        np.array([[[0.5, 0.25], [-0.125, 0.25]], [[0.25, 0.0], [0.25, 0.5]], [[-0.25, 0.5], [0.0, 0.25]]]),
        np.array([[[1.0], [0.5]], [[0.5], [-1.0]], [[0.25], [0.5]]]),
        np.array([[0.5, 1.0], [-1.0, 0.25], [0.0, -0.5]]),
    ),
)
MASKED = BilevelProblem(
    UPPER,
    terms_of(
        ww=[[[1.0, 0.25], [0.25, 0.75]], [[0.5, 0.0], [0.0, 1.0]]],
        lw=[[[1.0, -0.5]], [[0.5, 0.25]]],
        ll=[[[1.0]], [[0.0]]],
        w1=[[0.5, -1.0], [0.25, 1.0]],
        l1=[[0.0], [0.0]],
    ),
).with_dropout(lower={"w": Q(4, 5)}, upper={"lam": Q(3, 4), "w": Q(1, 2)})
PROBLEMS = {"map": MAP, "masked minimisation": MASKED}
LAM, W = np.array([0.5]), np.array([1.0, -2.0])
STEPS = {"t": Growing(1), "k": Growing(Q(1, 2)), "J": Growing(Q(3, 4)), "alpha": Q(1, 8)}
RATES = {"rate": Harmonic(Q(2), Q(3)), "linear_rate": Harmonic(Q(1), Q(2))}


def rational():
    """The backend; not at the top, where machines without its library import this module."""
    return backend("rational")


class LiteralMap:
    """Φ̂ and its products, raw coefficients; of a map as it is, of a minimisation for Φ̂ = w − ∇_wĜ."""

    def __init__(self, level, draw):
        self.level, self.terms = level, draw[1] if np.ndim(draw[1]) else None
        self.G = None if isinstance(level, maps.AffineMap) else Literal(level, draw)

    def mean(self, of):
        terms = range(len(self.level.c)) if self.terms is None else self.terms
        return sum(of(k) for k in terms) / len(terms)

    def value(self, lam, w):
        if self.G:
            return w - self.G.grad_w(lam, w)
        return self.mean(lambda k: self.level.A[k] @ w + self.level.B[k] @ lam + self.level.c[k])

    def by_w(self, v):
        return v - self.G.hess(v) if self.G else self.mean(lambda k: self.level.A[k].T @ v)

    def by_lam(self, v):
        return -self.G.cross(v) if self.G else self.mean(lambda k: self.level.B[k].T @ v)


def algorithm_2(problem, lam, w0, samples, a, *, number=lambda x: x, sign=-1):
    """(λ, w_t, estimate) after every iteration; ``a`` only hands over the hyperparameters.

    sign=+1 on absolute values adds up where the algorithm subtracts: the sizes of all terms that are summed.
    """
    history = []
    for s, sample in enumerate(samples):
        groups = zip(a.space(problem, s).factors, sample, strict=True)
        zeta, zeta_hat, zeta_prime, xi = (factor.each(points) for factor, points in groups)
        assert [len(group) for group in (zeta, zeta_hat, zeta_prime, xi)] == [a.t(s), a.k(s), a.J(s), a.J(s)]
        w = w0
        for i, draw in enumerate(zeta):  # Algorithm 1, line 1
            eta = number(a.rate(i))
            w = (1 - eta) * w + eta * LiteralMap(problem.level, draw).value(lam, w)
        E = [Literal(problem.upper, draw) for draw in xi]  # line 2
        by_lam = sum(e.grad_lam(lam, w) for e in E) / len(E)
        by_w = sum(e.grad_w(lam, w) for e in E) / len(E)
        v = by_w if a.start == "gradient" else 0 * w
        for i, draw in enumerate(zeta_hat):  # line 3
            eta = number(a.linear_rate(i))
            v = (1 - eta) * v + eta * (LiteralMap(problem.level, draw).by_w(v) + by_w)
        cross = [LiteralMap(problem.level, draw).by_lam(v) for draw in zeta_prime]
        g = by_lam + sum(cross) / len(cross)  # line 4
        lam = lam + sign * number(a.alpha(s)) * g  # Algorithm 2
        history.append((lam, w, g))
    return history


def drawn(a, problem, steps, seed=7):
    rng = np.random.default_rng(seed)
    return [a.space(problem, s).sample(rng, ()) for s in range(steps)]


def stepped(a, problem, lam, w, samples):
    state = a.init(problem, lam, w)
    for sample in samples:
        state = a.step(problem, state, sample)
        yield state


# -- the update ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("batch", [1, 2, None])
@pytest.mark.parametrize("start", ["zero", "gradient"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_every_iteration_is_algorithm_2(name, start, batch):
    """Equal in rationals, for the same samples; lengths, steps of w and of v all different, and growing.

    Kills: w_0 warm-started, lengths of another iteration, t and k exchanged, the steps of w for v, a step size
    carried on from the iteration before, the sign of the move, the estimate not kept.
    """
    problem, a = PROBLEMS[name].to(rational()), BSGM(**STEPS, **RATES, start=start, batch=batch)
    samples = drawn(a, problem, 4)
    lam, w = rational().asarray(LAM), rational().asarray(W)
    expected = algorithm_2(problem, lam, w, samples, a, number=rational().scalar)
    for state, literal in zip(stepped(a, problem, lam, w, samples), expected, strict=True):
        found = (state.lam, state.w, state.d)
        assert all((x == y).all() for x, y in zip(found, literal, strict=True))
        assert (state.start == w).all()


def test_changing_step_sizes():
    """α_s of iteration s, in rationals."""
    problem, a = MAP.to(rational()), BSGM(**{**STEPS, "alpha": Harmonic(Q(1), Q(4))}, **RATES)
    samples, start = drawn(a, problem, 3), (rational().asarray(LAM), rational().asarray(W))
    expected = algorithm_2(problem, *start, samples, a, number=rational().scalar)
    found = stepped(a, problem, *start, samples)
    assert all((x.lam == lam).all() for x, (lam, _, _) in zip(found, expected, strict=True))


def test_one_schedule_serves_both_iterations():
    """Unless there is a linear_rate of its own."""
    a = BSGM(t=2, k=3, J=1, alpha=0.1, rate=Harmonic(2, 3))
    both = dataclasses.replace(a, linear_rate=Harmonic(2, 3))
    (sample,) = drawn(a, MAP, 1)
    first, second = (x.step(MAP, x.init(MAP, LAM), sample).d for x in (a, both))
    assert (first == second).all()
    other = dataclasses.replace(a, linear_rate=1)
    assert (other.step(MAP, other.init(MAP, LAM), sample).d != first).all()


def test_the_choices_differ():
    """Else the test above could not tell them apart."""
    base = BSGM(**STEPS, **RATES)
    others = [
        dataclasses.replace(base, **change)
        for change in (
            {"t": base.k, "k": base.t},
            {"linear_rate": base.rate},
            {"start": "gradient"},
            {"alpha": Power(0.125, 0.5)},
        )
    ]
    ends = {
        float([*stepped(a, MAP, LAM, W, drawn(dataclasses.replace(a, batch=None), MAP, 3))][-1].lam[0])
        for a in [dataclasses.replace(x, batch=None) for x in (base, *others)]
    }
    assert len(ends) == 5


@everywhere
def test_all_backends_round_the_same_iterates(place):
    """Against the literal transcription, allowed the rounding of its terms' sizes."""
    a = BSGM(**STEPS, **RATES)
    samples = drawn(a, MAP, 4)
    expected = algorithm_2(MAP, LAM, W, samples, a, number=float)[-1]
    sizes = algorithm_2(_absolute(MAP), np.abs(LAM), np.abs(W), samples, a, number=float, sign=1)[-1]
    *_, end = stepped(a, place.move(MAP), place.array(LAM), place.array(W), samples)
    chain = sum(a.t(s) + a.k(s) + 2 * a.J(s) for s in range(4)) * (2 * (MAP.n + MAP.d) + 6)
    for found, literal, most in zip((end.lam, end.w, end.d), expected, sizes, strict=True):
        assert_rounded(found, literal, terms=most, count=chain)


def _absolute(problem):
    def of(level, *names):
        return dataclasses.replace(level, **{name: np.abs(getattr(level, name)) for name in names})

    upper = of(problem.upper, "ww", "lw", "ll", "w1", "l1")
    return dataclasses.replace(problem, upper=upper, phi=of(problem.phi, "A", "B", "c"))


def test_replicates_are_runs():
    """Leading axes of the sample are replicates: each is what it would be alone, in rationals."""
    a, problem = BSGM(**STEPS, **RATES), MASKED.to(rational())
    lam, w = rational().asarray(LAM), rational().asarray(W)
    rng = np.random.default_rng(1)
    samples = [a.space(problem, s).sample(rng, (3, 2)) for s in range(3)]
    *_, together = stepped(a, problem, lam, w, samples)
    assert together.lam.shape == (3, 2, 1)
    for at in it.product(range(3), range(2)):
        alone = [_pick(sample, at) for sample in samples]
        expected = algorithm_2(problem, lam, w, alone, a, number=rational().scalar)[-1]
        assert (together.lam[at] == expected[0]).all()


def _pick(points, at):
    return tuple(_pick(p, at) for p in points) if isinstance(points, tuple) else points[at]


def test_nothing_is_warm_started():
    """The next λ depends on λ and w_0 alone; and warm_start says so. Kills: w kept from one λ to the next."""
    a = BSGM(**STEPS, **RATES)
    (sample,) = drawn(a, MAP, 1)
    state = a.init(MAP, LAM, W)
    next_lam = a.step(MAP, state, sample).lam
    for change in ({"w": state.w + 1}, {"d": state.d + 1}):
        assert (a.step(MAP, dataclasses.replace(state, **change), sample).lam == next_lam).all()
    assert (a.step(MAP, dataclasses.replace(state, start=W + 1), sample).lam != next_lam).any()
    assert (a.warm_start, a.linear_system) == ((False, False), "SID")
    assert (a.init(MAP, LAM).start == 0).all()


# -- samples -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("c3", [Q(1), Q(1, 2), Q(7, 3)])
@pytest.mark.parametrize(("problem", "role"), [(MAP, "phi"), (NOISY, "lower")])
def test_counts(problem, role, c3):
    """t_s + k_s + J_s of ζ and J_s of ξ; with ⌈c₃(s+1)⌉ for all three the total is in [2c₃S(S+1), that + 4S)."""
    S, length = 5, Growing(c3)
    a = BSGM(t=length, k=length, J=length, alpha=Q(1, 8), rate=0.5)
    counts = run(a, problem, LAM, steps=S, rng=0, replicates=(3,)).counts
    planned = sum(length(s) for s in range(S))
    assert (counts[f"{role}.data"], counts["upper.data"]) == (3 * planned, planned)
    total = counts[f"{role}.data"] + counts["upper.data"]
    assert 2 * c3 * S * (S + 1) <= total < 2 * c3 * S * (S + 1) + 4 * S
    fixed = BSGM(t=2, k=3, J=4, alpha=Q(1, 8), rate=0.5, batch=2)
    counts = run(fixed, problem, LAM, steps=S, rng=0).counts
    assert (counts[f"{role}.data"], counts["upper.data"]) == (S * 2 * (2 + 3 + 4), S * 2 * 4)


def test_lengths_of_theorem_17():
    """t_0 = k_0 = 0: the first estimate is ∇_λE at w_0, and nothing but E's data is needed for it."""
    a = BSGM(t=Logarithmic(2.0), k=Logarithmic(2.0), J=1, alpha=Q(1, 8), batch=None)
    done = run(a, MAP, LAM, steps=1, rng=0)
    assert (done.state.d == MAP.upper.grad_lam(LAM, 0 * W)).all()
    assert (done.state.w == 0).all()
    assert [(a.sid(s).t, a.sid(s).k) for s in (0, 1, 2)] == [(0, 0), (2, 2), (3, 3)]


# -- where it settles ----------------------------------------------------------------------------------------------
def test_without_noise_it_rests_where_the_truncated_hypergradient_is_zero():
    """Φ = qw + λ, E = ½(w − 1)² + ½λ²: w_t = κ_tλ, v_k = κ_k(w_t − 1), κ_t = (1 − q^t)/(1 − q); λ = κ_k/(1 + κ_kκ_t).

    Exactly, in rationals; in floats 50 iterations stay within 1e-8 of it, and lead to it from elsewhere. With t and k
    the point tends to the true one: the difference is within the bound of the lost powers of q.
    """
    q = 0.5
    upper = quadratic.objective(ww=[[1.0]], ll=[[1.0]], w1=[-1.0])
    problem = FixedPointProblem(upper, maps.affine([[q]], [[1.0]]))
    for t, k in ((1, 3), (4, 2), (20, 20)):
        a = BSGM(t=t, k=k, J=1, alpha=Q(1, 4), batch=None)
        kappa_t, kappa_k = ((1 - Q(1, 2) ** i) * 2 for i in (t, k))
        rest = kappa_k / (1 + kappa_k * kappa_t)
        at = rational().asarray([rational().scalar(rest)])
        exactly = run(a, problem.to(rational()), at, steps=2, rng=0).state
        assert (exactly.lam == at).all()
        assert (exactly.d == 0).all()
        for start in (float(rest), 3.0):
            lam = run(a, problem, np.array([start]), steps=50, rng=0).state.lam[0]
            factor = abs(1 - (1 + float(kappa_k * kappa_t)) / 4)
            assert abs(lam - float(rest)) <= 1e-8 * float(rest) + factor**50 * abs(start - float(rest))
        true = Q(
            2, 5
        )  # κ/(1 + κ²), κ = 2; neither derivative of κ_k/(1 + κ_kκ_t) exceeds 1, and κ − κ_t = κq^t
        assert 0 < abs(rest - true) <= 2 * (Q(1, 2) ** k + Q(1, 2) ** t)


# -- exact moments -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("sizes", "steps"), [((1, 1, 1), 2), ((1, 0, 2), 1), ((0, 2, 1), 2)])
@pytest.mark.parametrize("start", ["zero", "gradient"])
def test_moments_against_every_path_written_out(sizes, steps, start):
    """Of (λ, w, d), mean and second moment, equal in rationals: moments from stages, paths from Algorithm 2 literally.

    Kills: J draws of which each counts whole, the draws of w and v shared, the right side drawn anew.
    """
    t, k, J = sizes
    a = BSGM(t=t, k=k, J=J, alpha=Q(1, 5), rate=Q(1, 2), linear_rate=Q(1, 3), start=start)
    problem, lam, w = NOISY.to(rational()), rational().asarray(LAM), rational().asarray(W[:1])
    space = a.space(problem)
    samples = [space.points(np.asarray(i)) for i in range(space.size)]
    mean, second = np.zeros((steps, 3), dtype=object), np.zeros((steps, 3, 3), dtype=object)
    for path in it.product(samples, repeat=steps):
        for s, end in enumerate(algorithm_2(problem, lam, w, path, a, number=rational().scalar)):
            x = np.concatenate(end)
            mean[s] = mean[s] + x
            second[s] = second[s] + x[:, None] * x
    found = whole_state(a, problem, lam, w).curve(steps)
    assert tuple(found.sizes) == ("lam", "w", "d")
    paths = rational().scalar(space.size**steps)
    assert (found.moments.mean[1:] * paths == mean).all()
    assert (found.moments.second[1:] * paths == second).all()


def test_growing_lengths_have_exact_moments():
    """t_s = k_s = J_s = s + 1 up to 25, of more than 10⁴⁰ points; inside the 99.9 % interval of 4000 runs."""
    S, replicates = 25, 4000
    a = BSGM(t=Growing(1), k=Growing(1), J=Growing(1), alpha=0.1, rate=Harmonic(2.0, 4.0))
    joint = whole_state(a, MAP, LAM, steps=S).curve(S)
    assert a.space(MAP, S - 1).size > 10**40
    done = run(a, MAP, LAM, steps=S, rng=3, replicates=(replicates,), every=S)
    numbers = []
    for name in ("lam", "w", "d"):
        x = done.state.arrays[name]
        numbers += [(x[:, i], joint.mean(name)[-1][i]) for i in range(x.shape[-1])]
        numbers.append(((x * x).sum(axis=-1), joint.mean_square(name)[-1]))
    quantile = NormalDist().inv_cdf(1 - 0.001 / (2 * len(numbers)))
    for sampled, true in numbers:
        assert abs(sampled.mean() - true) <= quantile * sampled.std(ddof=1) / replicates**0.5


SOLVERS = {  # in place of t and of k
    "both": {"lower": Newton(tol=0, steps=1), "linear": LU()},
    "below": {"lower": GradientDescent(2, Q(1, 3)), "k": 2},
    "the linear system": {"t": 1, "linear": Neumann(2, Q(1, 3))},
}


@pytest.mark.parametrize("start", ["zero", "gradient"])
@pytest.mark.parametrize("name", SOLVERS)
def test_moments_with_solvers_against_every_path(name, start):
    """Stages against every path of the step, in rationals; w and v solved by what ``SID`` is given, w from w_0.

    Kills: a solver that is not passed on, or starts elsewhere; the iteration left in its place.
    """
    problem, lam, w = NOISY.to(rational()), rational().asarray(LAM), rational().asarray(W[:1])
    a = BSGM(**SOLVERS[name], J=1, alpha=Q(1, 5), rate=Q(1, 2), linear_rate=Q(1, 3), start=start)
    space = a.space(problem)
    samples = [space.points(np.asarray(i)) for i in range(space.size)]
    mean, second = np.zeros((2, 3), dtype=object), np.zeros((2, 3, 3), dtype=object)
    for path in it.product(samples, repeat=2):
        for s, end in enumerate(stepped(a, problem, lam, w, path)):
            x = np.concatenate([end.lam, end.w, end.d])
            mean[s] = mean[s] + x
            second[s] = second[s] + x[:, None] * x
    found = whole_state(a, problem, lam, w).curve(2)
    paths = rational().scalar(space.size**2)
    assert (found.moments.mean[1:] * paths == mean).all()
    assert (found.moments.second[1:] * paths == second).all()


def test_solvers_in_place_of_the_iterations():
    """Solved to the end the estimate is ∇f on the data drawn; on all data ∇f itself, in rationals.

    Kills: lower or linear not passed on, a solver's data counted as drawn.
    """
    for problem, role in ((MAP, "phi"), (NOISY, "lower")):
        exact = problem.to(rational())
        lam = rational().asarray(LAM)
        solved = BSGM(lower=Newton(tol=0, steps=1), linear=LU(), J=1, alpha=Q(1, 8), batch=None)
        state = solved.init(exact, lam)
        state = solved.step(exact, state, solved.space(exact).points(np.asarray(0)))
        w = ri.exact_hypergradient(exact, lam).w
        v = LU().solve(exact.residual_w(lam, w).T, exact.upper.grad_w(lam, w)).v
        assert (state.w == w).all()
        assert (state.d == exact.hypergradient_at(lam, w, v)).all()
        counts = run(dataclasses.replace(solved, batch=1, J=3), problem, LAM, steps=2, rng=0).counts
        assert (counts[f"{role}.data"], counts["upper.data"]) == (6, 6)
        half = BSGM(t=2, linear=LU(), J=1, alpha=Q(1, 8))
        assert run(half, problem, LAM, steps=2, rng=0).counts[f"{role}.data"] == 6


@pytest.mark.parametrize(
    "given",
    [
        {"k": 1},
        {"t": 1},
        {"t": 1, "k": 1, "lower": FixedPoint(1)},
        {"t": 1, "k": 1, "linear": LU()},
        {"lower": LU(), "k": 1},
        {"t": 1, "linear": FixedPoint(1)},
    ],
    ids=str,
)
def test_steps_or_a_solver(given):
    """One of the two, for either stage."""
    with pytest.raises(BadInput, match="steps or a solver"):
        BSGM(**given, J=1, alpha=0.1)


def test_the_mean_settles_where_the_truncated_hypergradient_is_zero():
    """Noise moves the mean nowhere on quadratics, as the four groups of draws are independent; in rationals."""
    problem = MASKED.to(rational())
    a = BSGM(t=2, k=3, J=2, alpha=Q(1, 8), rate=Q(1, 2), linear_rate=Q(1, 3))
    rest = whole_state(a, problem, rational().asarray(LAM), rational().asarray(W)).stationary()
    unmasked = BilevelProblem(problem.upper.closed, problem.lower.closed)
    sure = dataclasses.replace(a, batch=None)
    state = sure.init(unmasked, rest.mean("lam"), rational().asarray(W))
    found = sure.step(unmasked, state, sure.space(unmasked).points(np.asarray(0)))
    assert (found.d == 0).all()
    assert (found.w == rest.mean("w")).all()
    assert (rest.mean("d") == 0).all()
    assert rest.mean_square("d") > 0


# -- the quantity it is judged by ----------------------------------------------------------------------------------
def test_mean_square_mapping():
    """Without a set the mean of ‖∇f‖² over times; each replicate's own. Kills: a sum, a norm, the wrong axis."""
    lams = np.random.default_rng(0).standard_normal((4, 3, 1))
    found = mean_square_mapping(MAP, lams, 0.5)
    value = [[ri.exact_hypergradient(MAP, lam).value for lam in row] for row in lams]
    expected = (np.array(value) ** 2).sum(axis=-1).mean(axis=0)
    assert_rounded(found, expected, terms=expected, count=50, condition=4.0)


@pytest.mark.parametrize("shape", [(MAP.n,), (0, MAP.n), (2, MAP.n + 1)])
def test_mean_square_mapping_is_a_mean_over_points(shape):
    with pytest.raises(BadInput, match="shape"):
        mean_square_mapping(MAP, np.zeros(shape), 0.5)


def test_mean_square_mapping_on_a_box():
    """∇f > 0 where λ sits on the lower side: the mapping is 0 there; half-way it is what is left of the step."""
    upper = quadratic.objective(ww=[[0.0]], ll=[[0.0]], l1=[1.0])  # f = λ
    boxed = dataclasses.replace(
        FixedPointProblem(upper, maps.affine([[0.5]], [[1.0]])), domain=Box(0.0, 10.0)
    ).to(rational())
    lams = rational().asarray(np.array([[0.0], [1.0], [8.0]]))
    found = mean_square_mapping(boxed, lams, rational().scalar(2))
    assert found == rational().scalar((0 + Q(1, 4) + 1) / 3)


def test_iterates_are_projected():
    """λ⁺ = P_Λ(λ − α g), at every step. Kills: the move without its projection."""
    a = BSGM(t=1, k=1, J=1, alpha=2, rate=0.5)
    boxed = dataclasses.replace(MAP, domain=Box(-0.25, 0.5))
    (sample,) = drawn(a, MAP, 1)
    free, held = (next(stepped(a, problem, LAM, W, [sample])) for problem in (MAP, boxed))
    assert (held.d == free.d).all()
    assert abs(free.lam[0]) > 0.5
    assert held.lam[0] == np.clip(free.lam[0], -0.25, 0.5)
    lams = run(a, boxed, LAM, steps=20, rng=0).trajectory["lam"]
    assert lams.min() >= -0.25
    assert lams.max() <= 0.5


# -- bad input, small things ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "change",
    [
        {"J": 0},
        {"t": -1},
        {"k": 1.5},
        {"alpha": 0},
        {"alpha": "x"},
        {"rate": -1},
        {"batch": 0},
        {"start": "one"},
    ],
    ids=str,
)
def test_refusals(change):
    with pytest.raises(BadInput):
        BSGM(**{"t": 1, "k": 1, "J": 1, "alpha": 0.1, **change})


def test_more_refusals():
    a = BSGM(t=1, k=1, J=1, alpha=0.1)
    with pytest.raises(BadInput, match="not a state"):
        a.step(MAP, ri.algorithms.FSLA(delta=1.0).init(NOISY, LAM), None)
    with pytest.raises(BadInput, match="not a sample"):
        a.step(MAP, a.init(MAP, LAM), (0, 1))
    with pytest.raises(BadInput, match="wrong shape"):
        a.init(MAP, np.zeros(2))


def test_when_iterations_are_the_same():
    """η_i starts anew in every iteration, so that it may change along it."""
    a = BSGM(t=1, k=1, J=1, alpha=0.1, rate=Harmonic(2, 3))
    assert a.constant_from == 0
    assert a.affine is None
    for change in ({"alpha": Power(1.0, 0.5)}, {"t": Growing(1)}, {"k": Growing(1)}, {"J": Growing(1)}):
        assert dataclasses.replace(a, **change).constant_from is None
    solved = BSGM(lower=FixedPoint(1), linear=LU(), J=1, alpha=0.1)
    assert solved.constant_from == 0
    assert dataclasses.replace(solved, J=Growing(1)).constant_from is None


def test_the_state():
    state = BSGM(t=1, k=1, J=1, alpha=0.1).init(MAP, LAM, W)
    assert isinstance(state, BSGMState)
    assert (state.sizes(tuple(state.arrays)), state.k) == ({"lam": 1, "w": 2, "d": 1, "start": 2}, 0)
    assert not to_numpy(state.d).any()
