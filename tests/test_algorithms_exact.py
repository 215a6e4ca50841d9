"""Exact moments of FSLA and Algorithm 1 on quadratics: against every path, a batched run, and formulas of the bias."""

from __future__ import annotations

import dataclasses
import itertools as it
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest

import refimpl as ri
from refimpl.algorithms import BSGM, FSLA, DropoutFSLA, fixed_lambda, whole_state
from refimpl.algorithms.affine import Iteration
from refimpl.algorithms.chen2022stable import STABLE
from refimpl.algorithms.hong2020ttsa import TTSA
from refimpl.algorithms.staged import stages_of
from refimpl.approximate.inverse import ProductNeumann
from refimpl.approximate.sampled import SampledHypergradient
from refimpl.arrays import Backend, backend, to_numpy
from refimpl.errors import BadInput, HypothesisViolated, TooLarge
from refimpl.moments import AffineStep
from refimpl.objective import Map
from refimpl.operators import matrix
from refimpl.problem import BilevelProblem
from refimpl.rates import Harmonic, Power
from refimpl.sets import Box
from refimpl.zoo import logistic, quadratic, ridge
from tests.algorithm_things import algorithm_1
from tests.backends import on_cpu
from tests.exact_things import AFFINE, NOISY, PRODUCT, STEPS, every_path

Q = backend("rational")
ENTRIES = {
    "lower": {"ww": [[2.0, 1.0], [1.0, 2.0]], "lw": [[1.0, -0.5]], "w1": [0.5, -1.0]},
    "upper": {
        "ww": [[1.0, 0.5], [0.5, 1.0]],
        "lw": [[0.25, 1.0]],
        "ll": [[4.0]],
        "w1": [1.0, 0.5],
        "l1": [-2.0],
    },
}
TWO = BilevelProblem(*(quadratic.objective(**ENTRIES[level]) for level in ("upper", "lower")))
ONE = BilevelProblem(
    quadratic.objective(ww=[[1.0]], lw=[[0.5]], ll=[[3.0]], w1=[1.0], l1=[-1.0]),
    quadratic.objective(ww=[[2.0]], lw=[[1.0]], w1=[-1.0]),
)
KEEP = {"lower": Fraction(4, 5), "upper": Fraction(2, 3)}
LAM = np.array([0.5])
EVERY_USE = list(it.product(("shared", "fresh", "fresh-cross"), ("new", "old")))
every_use = pytest.mark.parametrize(("randomness", "reading"), EVERY_USE)


def constant(randomness="shared", reading="new", **changed):
    sizes = {"delta": Fraction(1, 5), "gamma": Fraction(3, 4), "beta": Fraction(1, 2), "eta": Fraction(5, 2)}
    return FSLA(**{**sizes, "schedule": "constant", "randomness": randomness, "reading": reading, **changed})


def every_sample(algorithm, problem):
    space = algorithm.space(problem)
    index = np.arange(space.size)
    points = [space.points(np.asarray(i)) for i in index]
    return list(zip(points, space.exact_probabilities(index), strict=True))


# -- against every path --------------------------------------------------------------------------------------------
@every_use
@pytest.mark.parametrize("schedule", ["sqrt", "constant"])
def test_the_whole_state_against_every_path(randomness, reading, schedule):
    """Mean and second moment of (λ, w, v, d), equal in rationals to Algorithm 1 written out on every path of samples.

    Kills: a mask shared where it must be independent and the reverse, the first iteration's rule in later ones,
    probabilities forgotten, the mean's outer product for the second moment, the previous v left out for "old".
    """
    problem = ONE.with_dropout(**KEEP).to(Q)
    a, steps = constant(randomness, reading, schedule=schedule), 3 if randomness == "shared" else 2
    start = [Q.asarray(np.array([x])) for x in (0.5, 1.0, -1.0)]
    joint = whole_state(a, problem, *start, steps=steps).curve(steps)
    totals = [dict.fromkeys(joint.sizes, 0) for _ in range(steps)]
    seconds = [0] * steps
    samples = every_sample(a, problem)
    for path in it.product(samples, repeat=steps):
        p = Q.scalar(np.prod([q for _, q in path]))
        history = algorithm_1(problem, *start, [s for s, _ in path], a, number=Q.scalar)
        for k, (lam, w, v, d) in enumerate(history):
            for name, x in (("lam", lam), ("w", w), ("v", v), ("d", d)):
                totals[k][name] += p * x
            seconds[k] += p * np.concatenate([lam, w, v, d])[:, None] * np.concatenate([lam, w, v, d])
    names = ("lam", "w", "v", "d")
    for k in range(steps):
        assert all((joint.mean(name)[k + 1] == totals[k][name]).all() for name in names)
        found = np.block([[joint.second(x, y)[k + 1] for y in names] for x in names])
        assert (found == seconds[k]).all()


@pytest.mark.parametrize("reading", ["new", "old"])
def test_a_held_lam_against_every_path(reading):
    """Errors about w(λ), the adjoint and ∇F̄(λ), with two coordinates and a minibatch; rationals, two iterations."""
    problem = (
        dataclasses.replace(TWO, lower=_two_terms(TWO.lower))
        .with_dropout(lower=KEEP["lower"], upper=None)
        .to(Q)
    )
    a, lam = constant(reading=reading, lower_batch=1), Q.asarray(LAM)
    exact = ri.exact_hypergradient(problem, lam)
    w0, v0 = Q.asarray(np.array([1.0, 2.0])), Q.asarray(np.array([-1.0, 0.5]))
    joint = fixed_lambda(a, problem, lam).curve(2, w0, v0)
    squares, bias = [0, 0], 0
    samples = every_sample(a, problem)
    assert len(samples) == 8
    for first, second in it.product(samples, repeat=2):
        p, w, v = Q.scalar(first[1] * second[1]), w0, v0
        for sample in (first[0], second[0]):
            ((_, w, v, d),) = algorithm_1(problem, lam, w, v, [sample], a, number=Q.scalar)
        squares[0] += p * ((w - exact.w) @ (w - exact.w))
        squares[1] += p * ((v - exact.v) @ (v - exact.v))
        bias = bias + p * (d - exact.value)
    assert [joint.mean_square(name)[2] for name in ("w", "v")] == squares
    assert (joint.mean("d")[2] == bias).all()
    assert (joint.mean("d")[0] == 0).all()


def _two_terms(f):
    """Two different terms whose mean is f."""
    shift = np.array([[[0.5, 0.0], [0.0, -0.5]]])
    both = {name: np.concatenate([getattr(f, name)] * 2) for name in ("ww", "lw", "ll", "w1", "l1")}
    return dataclasses.replace(f, **{**both, "ww": np.concatenate([f.ww + shift, f.ww - shift])})


@pytest.mark.parametrize("name", AFFINE)
def test_every_algorithm_against_every_path_of_its_step(name):
    """Mean and second moment of the whole state, equal in rationals, from stages and from every path of ``step``.

    Kills, in the stages: a draw shared or fresh where it must not be, the place of a momentum's weight, a factor too
    many, the length of the product, the mean of J draws, the order of the lines, w_0 warm-started.
    """
    a, problem = AFFINE[name], NOISY.to(Q)
    steps = 2 if a.space(problem).size <= 2**8 else 1
    start = [Q.asarray(np.array([x])) for x in (0.5, 0.25)]
    whole = whole_state(a, problem, *start, steps=steps)
    moments = whole.curve(steps).moments
    assert stages_of(a, problem, 0) is not None
    for k, (mean, second) in enumerate(every_path(a, problem, start, steps, whole.names), 1):
        assert (moments.mean[k] == mean).all()
        assert (moments.second[k] == second).all()


@pytest.mark.parametrize("name", AFFINE)
def test_iterations_are_the_same_from_the_one_that_is_named(name):
    """Bit for bit; and the one before is another, where there is one. A period is no constant."""
    a, names = AFFINE[name], tuple(AFFINE[name].init(NOISY, LAM).arrays)
    states = [dataclasses.replace(a.init(NOISY, LAM), k=k) for k in range(4)]
    found = [Iteration(a, NOISY, state, names).recursion({}, tested=False) for state in states]
    same = [(found[k].operator == found[k + 1].operator).all() for k in range(3)]
    assert same == {0: [True] * 3, 1: [False, True, True], None: [False] * 3}[a.constant_from]


class _Subclass(TTSA):
    """What may have a step of its own."""


def test_a_subclass_is_enumerated():
    """Not in stages that its step may not have; with this step the moments are the same, in rationals."""
    problem, start = NOISY.to(Q), [Q.asarray(np.array([x])) for x in (0.5, 0.25)]
    staged, enumerated = (
        whole_state(kind(inverse=PRODUCT, **STEPS), problem, *start) for kind in (TTSA, _Subclass)
    )
    assert isinstance(enumerated.later, AffineStep)
    assert enumerated.later.points == AFFINE["TTSA"].space(problem).size
    assert (staged.later.operator == enumerated.later.operator).all()


def test_a_start_that_is_never_moved_is_no_part_of_the_recursion():
    """BSA's w_0: else nothing would settle. FSLA's λ before, the same array as λ at first, is moved."""
    problem = NOISY.to(Q)
    whole = whole_state(AFFINE["BSA"], problem, Q.asarray(LAM), Q.asarray(LAM))
    assert (whole.held, whole.names) == (("start",), ("lam", "w"))
    assert whole.stationary().mean_square("lam") > 0
    assert whole_state(constant(), problem, Q.asarray(LAM)).held == ()
    with pytest.raises(BadInput, match="no moments of that array"):
        whole.curve(1).mean("start")


@pytest.mark.parametrize("name", ["TTSA", "ALSET", "stocBiO", "SMB", "SUSTAIN", "MRBO", "saBiAdam"])
def test_where_the_mean_settles(name):
    """w at w(λ), and the truncated hypergradient there at 0: exactly, whatever the noise."""
    a, problem = AFFINE[name], NOISY.to(Q)
    found = whole_state(a, problem, Q.asarray(LAM)).stationary()
    lam, w = found.mean("lam"), found.mean("w")
    assert (problem.lower.grad_w(lam, w) == 0).all()
    assert (SampledHypergradient(a.inverse).mean(problem, lam, w) == 0).all()
    assert (ri.exact_hypergradient(problem, lam).value != 0).all()  # the truncation's bias
    assert found.mean_square("lam") > (lam * lam).sum()


# -- against a batched run -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("randomness", "reading"), [("shared", "new"), ("fresh", "old"), ("fresh-cross", "new")]
)
def test_a_batched_run_is_inside_its_interval(randomness, reading):
    """99.9 % for all numbers at once (Bonferroni), 4000 replicates, decaying steps, minibatches."""
    steps, replicates = 12, 4000
    problem = dataclasses.replace(ONE, lower=_two_rows(ONE.lower)).with_dropout(lower=0.8, upper=0.7)
    a = DropoutFSLA(delta=0.4, eta=2, randomness=randomness, reading=reading, lower_batch=2)
    joint = whole_state(a, problem, LAM, steps=steps).curve(steps)
    done = ri.algorithms.run(
        a, problem, LAM, steps=steps, rng=np.random.default_rng(11), replicates=(replicates,), every=steps
    )
    numbers = []
    for name in ("lam", "w", "v", "d"):
        x = done.state.arrays[name][:, 0]
        numbers += [(x, joint.mean(name)[-1][0]), (x * x, joint.mean_square(name)[-1])]
    numbers.append((done.state.w[:, 0] * done.state.v[:, 0], joint.second("w", "v")[-1][0, 0]))
    quantile = NormalDist().inv_cdf(1 - 0.001 / (2 * len(numbers)))
    for sampled, true in numbers:
        half_width = quantile * sampled.std(ddof=1) / replicates**0.5
        assert abs(sampled.mean() - true) <= half_width


BATCHED = [*AFFINE, "TTSA with 9 terms", "SUSTAIN with 9 terms"]


@pytest.mark.parametrize("name", BATCHED)
def test_batched_runs_are_inside_their_intervals(name):
    """As above for every algorithm, with dropout, two-dimensional, of spaces up to 10¹⁸ points."""
    terms, steps, replicates = name.endswith("9 terms"), 6, 4000
    a = AFFINE[name.split(" with")[0]]
    a = dataclasses.replace(a, alpha=0.1, inverse=ProductNeumann(9, 8.0)) if terms else a
    problem = quadratic.random(n=1, d=2, seed=3, mu=0.5, L=2, terms=3).with_dropout(lower=0.9, upper=0.8)
    joint = whole_state(a, problem, LAM, steps=steps).curve(steps)
    done = ri.algorithms.run(
        a, problem, LAM, steps=steps, rng=np.random.default_rng(5), replicates=(replicates,), every=steps
    )
    numbers = []
    for array, size in joint.sizes.items():
        x = done.state.arrays[array]
        numbers += [(x[:, i], joint.mean(array)[-1][i]) for i in range(size)]
        numbers.append(((x * x).sum(axis=-1), joint.mean_square(array)[-1]))
    numbers.append((done.state.lam[:, 0] * done.state.w[:, 1], joint.second("lam", "w")[-1][0, 1]))
    quantile = NormalDist().inv_cdf(1 - 0.001 / (2 * len(numbers) * len(BATCHED)))
    for sampled, true in numbers:
        half_width = quantile * sampled.std(ddof=1) / replicates**0.5
        assert abs(sampled.mean() - true) <= half_width


def _two_rows(f):
    both = {name: np.concatenate([getattr(f, name)] * 2) for name in ("ww", "lw", "ll", "w1", "l1")}
    return dataclasses.replace(f, **{**both, "w1": f.w1 + np.array([[1.0], [-1.0]])})


# -- what shared masks do ------------------------------------------------------------------------------------------
@every_use
def test_the_bias_of_the_direction(randomness, reading):
    """At rest E h − ∇F̄(λ) is β_k Cov(C, H)v + β_kγ_k Cov(C, F_ww ∇_wG(w(λ))) where cross derivative and v share draws.

    Everywhere else it is 0, exactly. Kills: a mask shared where it must be independent, the readings exchanged.
    """
    problem = TWO.with_dropout(**KEEP).to(Q)
    a, lam = constant(randomness, reading), Q.asarray(LAM)
    settled = fixed_lambda(a, problem, lam)
    found, exact = settled.stationary(), settled.exact
    assert all((found.mean(name) == 0).all() for name in ("w", "v"))
    if (randomness, reading) != ("shared", "new"):
        return _nothing(found)
    _, gamma, beta, _ = (Q.scalar(x) for x in a.sizes(0))
    f, F_ww = problem.lower.f, problem.upper.hess_ww(lam, exact.w).dense()
    expected = 0
    for bits in it.product((0, 1), repeat=2):
        p = Q.scalar(np.prod([KEEP["lower"] if b else 1 - KEEP["lower"] for b in bits]))
        m = np.array(bits)
        H, C = m[:, None] * f.ww[0] * m, f.lw[0] * m
        gradient = m * (f.ww[0] @ (m * exact.w) + f.lw[0].T @ lam + f.w1[0])
        expected = expected + p * C @ (beta * H @ exact.v + beta * gamma * F_ww @ gradient)
    mean = problem.lower
    at_means = mean.cross(lam, exact.w) @ (beta * (mean.hess_ww(lam, exact.w) @ exact.v))  # E∇_wG = 0 at w(λ)
    assert (found.mean("d") == expected - at_means).all()
    assert (found.mean("d") != 0).all()
    return None


def _nothing(found):
    assert (found.mean("d") == 0).all()


@every_use
def test_where_lam_settles(randomness, reading):
    """∇F̄(E λ) = −b/η_k, b the bias at E λ: no step size removes it, as b has a factor β_k; 0 wherever b is."""
    problem = ONE.with_dropout(**KEEP).to(Q)
    rests = []
    for delta in (Fraction(1, 5), Fraction(1, 20)):
        a = constant(randomness, reading, delta=delta)
        lam = whole_state(a, problem, Q.asarray(LAM)).stationary().mean("lam")
        slope = ri.exact_hypergradient(problem, lam).value
        bias = fixed_lambda(a, problem, lam).stationary().mean("d")
        assert (slope == -bias / Q.scalar(a.sizes(0)[3])).all()
        assert (slope != 0).all() == ((randomness, reading) == ("shared", "new"))
        rests.append(float(Fraction(int(slope[0].p), int(slope[0].q))))
    if any(rests):
        assert 0.5 < rests[1] / rests[0] < 2  # a quarter of the step leaves the error as it is


def test_the_floor_of_the_lower_iterate():
    """H = [[2, 1], [1, 2]], a = (1, −½), p = 0.8, γ_k = 0.1: E‖w − w̄‖² settles at 0.00506431 (dropout-bilevel)."""
    H = np.array([[2.0, 1.0], [1.0, 2.0]])
    lower = quadratic.objective(ww=H, w1=-H @ [1.0, -0.5], n=0)
    problem = BilevelProblem(quadratic.objective(ww=np.zeros((2, 2)), n=0), lower)
    noisy = problem.with_dropout(lower=Fraction(4, 5), upper=None).to(Q)
    a = FSLA(delta=Fraction(1, 10), schedule="constant")
    floor = fixed_lambda(a, noisy, Q.asarray(np.zeros(0))).stationary().mean_square("w")
    assert round(float(Fraction(int(floor.p), int(floor.q))), 8) == 0.00506431
    still = fixed_lambda(a, problem.to(Q), Q.asarray(np.zeros(0))).stationary()
    assert still.mean_square("w") == still.mean_square("v") == 0


@on_cpu
def test_floats_round_the_rationals(place):
    """Allowed: what rounding each entry of the recursion may do, (points + D²) eps per iteration, times their sizes."""
    problem = TWO.with_dropout(**KEEP)
    a, times = constant(delta=0.2, gamma=0.75, beta=0.5, eta=2.5), 6
    floats = fixed_lambda(a, place.move(problem), place.array(LAM))
    exact = fixed_lambda(a, problem.to(Q), Q.asarray(LAM))
    for name in ("w", "v", "d"):
        rounded, true = (to_numpy(r.curve(times).mean_square(name)) for r in (floats, exact))
        points, D = floats.recursion.points, floats.recursion.D
        sizes = np.abs(to_numpy(exact.curve(times).moments.homogeneous)).max()
        assert np.abs(rounded - true).max() <= 10 * times * (points + D**2) * 2.0**-52 * sizes


@on_cpu
@pytest.mark.parametrize("name", ["TTSA", "BSGM, J = 2", "SUSTAIN"])
def test_stages_in_floats_round_the_rationals(place, name):
    """On every CPU backend; allowed as above, with the points of all stages."""
    a, times = AFFINE[name], 4
    floats = whole_state(a, place.move(NOISY), place.array(LAM)).curve(times).moments.homogeneous
    exact = whole_state(a, NOISY.to(Q), Q.asarray(LAM)).curve(times).moments.homogeneous
    stages = stages_of(a, NOISY, 1)
    points = sum(part.space.size for stage in stages.stages for _, part in stage.parts)
    D = 1 + sum(stages.scratch.values()) + exact.shape[-1]
    allowed = 10 * times * (points + len(stages.stages) * D**2) * 2.0**-52 * np.abs(to_numpy(exact)).max()
    assert np.abs(to_numpy(floats) - to_numpy(exact)).max() <= allowed


def test_a_decaying_schedule_is_prepared():
    problem = ONE.with_dropout(**KEEP)
    a = FSLA(delta=0.4)
    held = fixed_lambda(a, problem, LAM, steps=3)
    once = fixed_lambda(a.frozen(0), problem, LAM)
    assert (held.curve(1).mean_square("w") == once.curve(1).mean_square("w")).all()
    assert held.curve(3).mean_square("w")[3] != once.curve(3).mean_square("w")[3]
    for steps in (0, 1):
        assert whole_state(a, problem, LAM, steps=steps).curve(0).moments.mean.shape == (1, 5)
    for ask in (lambda: fixed_lambda(a, problem, LAM), lambda: whole_state(a, problem, LAM)):
        with pytest.raises(BadInput, match="step sizes of how many"):
            ask()
    with pytest.raises(BadInput, match="nothing is stationary"):
        held.stationary()
    with pytest.raises(BadInput, match="not so many steps"):
        held.curve(4)
    with pytest.raises(BadInput, match="steps must be"):
        fixed_lambda(a, problem, LAM, steps=0)


# -- where it is not affine ----------------------------------------------------------------------------------------
def test_a_cross_derivative_that_depends_on_w():
    """Ridge: h is not affine in (w, v), but w and v are; with λ moving nothing is."""
    problem = dataclasses.replace(ridge.random(d=2, rows=4, seed=0), domain=None)
    lam, a = problem.start(), FSLA(delta=0.05, schedule="constant", lower_batch=1)
    with pytest.raises(HypothesisViolated, match="not an affine map"):
        fixed_lambda(a, problem, lam)
    found = fixed_lambda(a, problem, lam, direction=False).stationary()
    assert found.mean_square("w") > 0
    with pytest.raises(HypothesisViolated, match="not an affine map"):
        whole_state(a, problem, lam)


@dataclasses.dataclass(frozen=True)
class Bowl(Map):
    """Φ = w/4 + 1 + λ e_1 + wᵀQw/64 e_3."""

    Q: object
    backend: Backend = Backend()
    n = 1
    d = 3
    lead = 0

    def value(self, lam, w):
        first, last = (self.backend.asarray(e) for e in np.eye(3)[[0, 2]])
        return w / 4 + 1 + lam * first + self.backend.dot(w @ self.Q, w)[..., None] * last / 64

    def d_w(self, lam, w):
        B = self.backend
        last = B.asarray(np.eye(3)[2])
        return matrix(B, B.eye(3) / 4 + last[:, None] * (2 * (w @ self.Q))[..., None, :] / 64)

    def d_lam(self, lam, w):
        return matrix(self.backend, (0 * w + self.backend.asarray(np.eye(3)[0]))[..., None])


@pytest.mark.parametrize("entries", [(4, -3, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1)])
def test_a_form_that_vanishes_at_two_states_is_no_affine_iteration(entries):
    """w_1w_2, w_1w_3, w_2w_3 with these factors. Kills: image(x) = A x + b looked at for two states."""
    bowl = np.zeros((3, 3))
    bowl[np.triu_indices(3, 1)] = entries
    a = BSGM(t=1, k=0, J=1, alpha=0.1, rate=1, batch=None)
    linear = ri.zoo.uppers.linear([1.0, 0.0, 0.0], n=1)
    straight = ri.FixedPointProblem(linear, Bowl(np.zeros((3, 3))))
    assert whole_state(a, straight, np.zeros(1)).curve(1).mean("w").shape == (2, 3)
    with pytest.raises(HypothesisViolated, match="not an affine map"):
        whole_state(a, ri.FixedPointProblem(linear, Bowl(bowl + bowl.T)), np.zeros(1))


def test_what_is_not_polynomial_or_projected():
    problem = logistic.random(d=2, rows=4, seed=0)
    with pytest.raises(HypothesisViolated, match="not an affine map"):
        fixed_lambda(FSLA(delta=0.05, schedule="constant"), problem, problem.start(), direction=False)
    with pytest.raises(HypothesisViolated, match="projection"):
        fixed_lambda(DropoutFSLA(delta=0.05, schedule="constant", r=1e6), ONE, LAM)


@pytest.mark.parametrize("ask", [whole_state, fixed_lambda])
@pytest.mark.parametrize("given", [(FSLA, NOISY), (NOISY, FSLA(delta=0.1)), (FSLA(delta=0.1), NOISY.lower)])
def test_what_is_no_algorithm_on_a_problem(ask, given):
    with pytest.raises(BadInput, match="which algorithm"):
        ask(*given, LAM)


def test_only_fsla_is_analysed_at_a_fixed_lambda():
    with pytest.raises(BadInput, match="FSLA, then a Problem"):
        fixed_lambda(AFFINE["TTSA"], NOISY, LAM)


def test_what_says_that_it_is_not_affine():
    """Its own words; and a set for λ, on which a step is projected, even where this start is far inside."""
    stable = STABLE(mu=1.0)
    with pytest.raises(HypothesisViolated, match="not an affine map") as caught:
        whole_state(stable, NOISY, LAM)
    assert caught.value.measured == stable.affine
    boxed = dataclasses.replace(NOISY, domain=Box(-1e6, 1e6))
    with pytest.raises(HypothesisViolated, match="projection onto the set"):
        whole_state(AFFINE["TTSA"], boxed, LAM)


def test_a_cross_derivative_that_depends_on_w_in_stages():
    """The product of the adjoint with it is bilinear in the arrays."""
    problem = ridge.random(d=2, rows=4, seed=0)
    with pytest.raises(HypothesisViolated, match="not an affine map"):
        whole_state(AFFINE["TTSA"], problem, problem.start())


def test_too_large_a_space():
    """FSLA's is enumerated; the advice names what to make smaller."""
    problem = quadratic.random(n=1, d=1, seed=0, terms=4)
    with pytest.raises(TooLarge, match="too large a space") as caught:
        whole_state(FSLA(delta=0.1, schedule="constant", lower_batch=40), problem, LAM)
    assert "smaller batches" in caught.value.advice


def test_too_long_a_step_does_not_settle():
    with pytest.raises(HypothesisViolated, match="do not settle"):
        fixed_lambda(constant(delta=5), ONE.with_dropout(**KEEP), LAM).stationary()


# -- bad input -----------------------------------------------------------------------------------------------------
def test_one_start_at_a_time():
    several, a = np.array([[0.5], [1.0]]), constant()
    for ask in (
        lambda: fixed_lambda(a, ONE, several),
        lambda: whole_state(a, ONE, several),
        lambda: whole_state(a, ONE, LAM, w=np.zeros((2, 1))),
    ):
        with pytest.raises(BadInput, match="one start at a time") as caught:
            ask()
        assert "(2,)" in caught.value.measured


def test_a_v_for_what_keeps_none():
    with pytest.raises(BadInput, match="keeps no v"):
        whole_state(AFFINE["TTSA"], NOISY, LAM, v=np.zeros(1))
    whole = whole_state(AFFINE["AmIGO"], NOISY, LAM, v=np.ones(1))
    assert whole.curve(0).mean("v")[0, 0] == 1


def test_steps_that_change_are_prepared():
    """As many as asked for; each with its own sizes, in rationals: the second iteration's are not the first's."""
    a = dataclasses.replace(AFFINE["TTSA"], alpha=Harmonic(Fraction(1), Fraction(5)))
    problem, start = NOISY.to(Q), [Q.asarray(np.array([x])) for x in (0.5, 0.25)]
    joint = whole_state(a, problem, *start, steps=2).curve(2)
    *_, (mean, second) = every_path(a, problem, start, 2, ("lam", "w"))
    assert (joint.moments.mean[2] == mean).all()
    assert (joint.moments.second[2] == second).all()
    with pytest.raises(BadInput, match="step sizes of how many"):
        whole_state(a, NOISY, LAM)
    with pytest.raises(BadInput, match="not so many steps"):
        whole_state(dataclasses.replace(a, alpha=Power(0.1, 0.6)), NOISY, LAM, steps=4).curve(5)
    with pytest.raises(BadInput, match="times must be"):
        whole_state(AFFINE["TTSA"], NOISY, LAM).curve(-1)


def test_moments_are_asked_for_by_name():
    found = fixed_lambda(constant(), ONE.with_dropout(**KEEP), LAM, direction=False).curve(1)
    for ask in (
        lambda: found.mean("d"),
        lambda: found.second("w", "lam"),
        lambda: found.mean_square("x"),
    ):
        with pytest.raises(BadInput, match="no moments of that array") as caught:
            ask()
        assert caught.value.required == "w, v"
