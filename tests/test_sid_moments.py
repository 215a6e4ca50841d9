"""Exact moments of SID: against every path of samples in rationals, a batched run, and forms known in closed form."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np
import pytest

import refimpl as ri
from refimpl.approximate import SID, linear_curve, lower_curve, sid_moments
from refimpl.arrays import Backend, backend, to_numpy
from refimpl.errors import BadInput, HypothesisViolated, NotConverged, TooLarge
from refimpl.objective import Map
from refimpl.operators import matrix
from refimpl.problem import BilevelProblem, FixedPointProblem
from refimpl.rates import Drops, Harmonic
from refimpl.solvers import LU, Cholesky, ConjugateGradient, GradientDescent, Neumann, Newton
from refimpl.zoo import logistic, maps, quadratic, ridge
from refimpl.zoo.terms import Terms
from tests.backends import on_cpu
from tests.sid_things import DROPOUT, LINE, MAP, MINIMISATION, VALLEY

Q = backend("rational")
LAM = np.array([0.5])
MASKED = VALLEY.with_dropout(lower=Fraction(3, 4), upper=Fraction(2, 3))
WIDE = FixedPointProblem(  # two coordinates of each, two data, nothing symmetric
    quadratic.random(n=2, d=2, seed=3, terms=2).lower, maps.random(n=2, d=2, seed=1, terms=2, q=0.75).phi
)
SURE_UPPER = dataclasses.replace(WIDE, upper=quadratic.random(n=2, d=2, seed=3).lower)
WIDE_UPPER = quadratic.random(n=2, d=3, seed=1, terms=3).lower
HARMONIC, DROPS = Harmonic(Fraction(1), Fraction(4, 3)), Drops(Fraction(1, 2), at=(1,), factor=3)
CASES = {
    "one of each": (LINE, SID(t=1, k=1, J=1)),
    "several": (LINE, SID(t=2, k=2, J=2, rate=Fraction(3, 4))),
    "schedules": (LINE, SID(t=2, k=2, J=2, rate=HARMONIC, linear_rate=DROPS)),
    "one schedule": (LINE, SID(t=2, k=3, J=1, rate=Fraction(1, 3), linear_rate=HARMONIC, start="gradient")),
    "from the gradient": (LINE, SID(t=1, k=2, J=2, rate=DROPS, linear_rate=Fraction(2, 3), start="gradient")),
    "no steps": (LINE, SID(t=0, k=0, J=3, start="gradient")),
    "no lower steps": (LINE, SID(t=0, k=2, J=2, rate=Fraction(1, 2))),
    "minibatches": (LINE, SID(t=2, k=1, J=1, rate=Fraction(3, 4), batch=2)),
    "all data": (LINE, SID(t=3, k=2, J=2, rate=Fraction(3, 4), batch=None)),
    "a minimisation": (VALLEY, SID(t=2, k=2, J=2, rate=Fraction(3, 4), linear_rate=HARMONIC)),
    "masks": (MASKED, SID(t=1, k=1, J=1, rate=Fraction(1, 2))),
    "masks, all data": (MASKED, SID(t=2, k=1, J=2, rate=DROPS, batch=None)),
    "masks, minibatches": (MASKED, SID(t=1, k=0, J=1, rate=Fraction(1, 2), batch=2, start="gradient")),
    "two coordinates": (WIDE, SID(t=2, k=2, J=1, rate=Fraction(3, 4), linear_rate=DROPS)),
    "two coordinates, two draws": (WIDE, SID(t=1, k=1, J=2, rate=HARMONIC, start="gradient")),
    "a solver below": (VALLEY, SID(lower=GradientDescent(2, 0.5), k=2, J=2, rate=Fraction(1, 2))),
    "a linear solver": (LINE, SID(t=2, linear=Neumann(2, 0.5), J=2, rate=HARMONIC)),
    "nothing drawn but below": (SURE_UPPER, SID(t=2, linear=LU(), rate=Fraction(3, 4))),
    "solvers only": (WIDE, SID(lower=Newton(1), linear=LU(), J=3)),
    "a linear schedule unused": (
        VALLEY,
        SID(t=2, linear=Cholesky(), J=2, rate=HARMONIC, linear_rate=HARMONIC),
    ),
}
every_case = pytest.mark.parametrize("name", CASES)


@dataclasses.dataclass(frozen=True)
class Paths:
    """What every path of samples gives: no recursion, no propagation."""

    exact: object
    p: np.ndarray  # of each path
    value: np.ndarray
    w: np.ndarray
    error_v: np.ndarray
    v: np.ndarray
    lower: np.ndarray  # the number of the lower path that each belongs to

    @classmethod
    def of(cls, sid, problem, lam, w0=None, v0=None):
        B, groups, space = problem.backend, sid.groups(problem), sid.space(problem)
        index = np.arange(space.size)
        p = B.asarray([B.scalar(x) for x in space.exact_probabilities(index)])
        found = sid.estimate(problem, lam, space.points(index), w0, v0)
        A = problem.residual_w(lam, found.w).dense()
        solution = solve_general(B, np.broadcast_to(A, (space.size, problem.d, problem.d)), found.rhs)
        lower = index // (space.size // groups[0].size)  # the first factor is the slowest
        exact = ri.exact_hypergradient(problem, lam, certify="never")
        return cls(exact, p, found.value, found.w, found.v - solution, found.v, lower)

    def mean(self, x):
        return (self.p[:, None] * x).sum(axis=0)

    def square(self, x):
        return (self.p * (x * x).sum(axis=-1)).sum()

    def second(self, x):
        return (self.p[:, None, None] * x[:, :, None] * x[:, None, :]).sum(axis=0)

    def given_w(self):
        """E[value | lower path], on every path."""
        out = np.empty_like(self.value)
        for path in np.unique(self.lower):
            here = self.lower == path
            weight = self.p[here]
            out[here] = (weight[:, None] * self.value[here]).sum(axis=0) / weight.sum()
        return out


def solve_general(B, A, b):
    """v with Aᵀ v = b."""
    return ri.arrays.factor(B, A).solve_T(b)


def start(problem):
    w0, v0 = np.linspace(1.0, -2.0, problem.d), np.linspace(-0.5, 0.75, problem.d)
    return np.linspace(0.5, -1.0, problem.n), w0, v0


# -- against every path --------------------------------------------------------------------------------------------
@every_case
@pytest.mark.parametrize("given", [False, True])
def test_moments_are_those_of_all_paths(name, given):
    """Equal in rationals: mean, second moment, both variances, ρ and σ, from the origin and from w_0 and v_0.

    Kills: probabilities forgotten, 1/J and 1/b, the schedule's index, a group in another's place, v̄ of another right
    side, the covariance of ∇_λÊ and ∇_wÊ, a conditional mean that is not one.
    """
    problem, sid = CASES[name]
    problem = problem.to("rational")
    lam, w0, v0 = (Q.asarray(x) for x in start(problem))
    w0, v0 = (w0, v0) if given else (None, None)
    paths = Paths.of(sid, problem, lam, w0, v0)
    found = sid_moments(sid, problem, lam, w0=w0, v0=v0)
    target = paths.exact.value
    mean, middle = paths.mean(paths.value), paths.given_w()
    assert (found.mean == mean).all()
    assert (found.bias == mean - target).all()
    assert found.bias_square == ((mean - target) ** 2).sum()
    assert (found.second == paths.second(paths.value)).all()
    assert found.mean_square_error == paths.square(paths.value - target)
    assert found.variance_upper == paths.square(paths.value - middle)
    assert found.variance_lower == paths.square(middle - mean)
    assert found.variance == paths.square(paths.value - mean)
    assert found.rho == paths.square(paths.w - paths.exact.w)
    assert (found.lower.mean == paths.mean(paths.w - paths.exact.w)).all()
    assert found.sigma == paths.square(paths.error_v)
    assert_of_v(found, paths)


def assert_of_v(found, paths):
    """Mean, second moment about v(λ) and covariance of v_k, in rationals."""
    mean = paths.mean(paths.v)
    assert (found.exact.v + found.linear.mean == mean).all()
    assert (found.linear.second == paths.second(paths.v - paths.exact.v)).all()
    assert (found.linear.covariance == paths.second(paths.v - mean)).all()


@every_case
def test_the_decomposition(name):
    """(9) and (10): the mean square error is ‖bias‖² + variance I + variance II; floats round it."""
    problem, sid = CASES[name]
    lam, w0, _ = start(problem)
    found = sid_moments(sid, problem, lam, w0=w0)
    parts = found.bias_square + found.variance_upper + found.variance_lower
    assert abs(parts - found.mean_square_error) <= 10 * 3 * 2.0**-52 * found.mean_square_error
    paths = Paths.of(sid, problem, lam, w0)
    mean, middle = paths.mean(paths.value), paths.given_w()
    terms = [
        ((mean - paths.exact.value) ** 2).sum(),
        paths.square(paths.value - middle),
        paths.square(middle - mean),
    ]
    error = paths.square(paths.value - paths.exact.value)
    size = error + paths.square(
        paths.value
    )  # sums over the paths of products of rounded numbers of these sizes
    assert abs(sum(terms) - error) <= 10 * (len(paths.p) + 8) * 2.0**-52 * size
    expected = (found.bias_square, found.variance_upper, found.variance_lower)
    steps = (sid.t or 2) + (sid.k or 2) + 4
    for one, other in zip(expected, terms, strict=True):
        assert abs(one - other) <= 10 * steps * (len(paths.p) + 8) * 2.0**-52 * size


@on_cpu
@pytest.mark.parametrize(
    "name", ["schedules", "a minimisation", "masks", "two coordinates", "a linear solver"]
)
def test_floats_round_the_rationals(place, name):
    """Allowed: 10 (points + D²) eps of each step, times the size of what is added up, as in ``assert_rounded``.

    Times condition²: w(λ) is the solution of a linear system, and the adjoint of another one at that w(λ).
    """
    problem, sid = CASES[name]
    lam, w0, v0 = start(problem)
    exact = sid_moments(sid, problem.to(Q), Q.asarray(lam), w0=Q.asarray(w0), v0=Q.asarray(v0))
    rounded = sid_moments(sid, place.move(problem), place.array(lam), w0=place.array(w0), v0=place.array(v0))
    steps, D = (sid.t or 2) + (sid.k or 2) + 4, 2 * problem.d + problem.n + 1
    condition = np.linalg.cond(to_numpy(problem.residual_w(lam, w0).dense()))
    true = float(to_numpy(exact.mean_square_error))
    # errors enter relative to the largest of them, and to the solution about which they are taken
    size = true + float(np.sum(to_numpy(exact.exact.v) ** 2) + np.sum(to_numpy(exact.exact.w) ** 2))
    points = max(group.space.size for group in sid.groups(problem))
    allowed = 10 * steps * (points + D**2) * 2.0**-52 * size * condition**2
    for of in ("mean_square_error", "variance_upper", "variance_lower", "bias_square", "rho", "sigma"):
        one, other = (float(to_numpy(getattr(x, of))) for x in (rounded, exact))
        assert abs(one - other) <= allowed, of


# -- against a batched run -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("problem", "sid"),
    [
        (MAP, SID(t=12, k=10, J=5, rate=Harmonic(0.3, 2.0), batch=3, start="gradient")),
        (MINIMISATION, SID(t=15, k=8, J=4, rate=0.01, linear_rate=0.02)),
        (DROPOUT, SID(t=9, k=7, J=2, rate=0.02, batch=2)),
    ],
    ids=["map", "minimisation", "dropout"],
)
def test_a_batched_run_is_inside_its_interval(problem, sid):
    """10,000 replicates, 99.9 % for all numbers at once (Bonferroni)."""
    replicates, (lam, w0, v0) = 10_000, start(problem)
    v0 = None if sid.start == "gradient" else v0
    known = sid_moments(sid, problem, lam, w0=w0, v0=v0)
    done = sid.run(problem, lam, rng=20, replicates=(replicates,), w0=w0, v0=v0)
    jacobian = problem.residual_w(lam, w0).dense()
    v_error = done.v - np.linalg.solve(jacobian.T, done.rhs.T).T
    value_error = done.value - known.exact.value
    numbers = [(done.value[:, i], known.mean[i]) for i in range(problem.n)]
    numbers += [
        (done.value[:, i] * done.value[:, j], known.second[i, j])
        for i in range(problem.n)
        for j in range(i + 1)
    ]
    numbers += [
        ((value_error**2).sum(axis=1), known.mean_square_error),
        (((done.w - known.exact.w) ** 2).sum(axis=1), known.rho),
        ((v_error**2).sum(axis=1), known.sigma),
    ]
    quantile = NormalDist().inv_cdf(1 - 0.001 / (2 * len(numbers)))
    for sampled, true in numbers:
        assert abs(sampled.mean() - true) <= quantile * sampled.std(ddof=1) / replicates**0.5


# -- closed forms --------------------------------------------------------------------------------------------------
def walk(q, B=Q):
    """Φ̂ = q w ± 1 with E = w: theorem 8 with equality."""
    A, ones = B.asarray([[[q]], [[q]]]), B.asarray([[1], [-1]])
    phi = maps.AffineMap(A, B.zeros((2, 1, 1)), ones, B)
    return FixedPointProblem(maps.line(0.5).upper.to(B), phi)


def test_theorem_8_with_equality():
    """ρ(t) = q^{2t} B² + (1 − q^{2t})/(1 − q²) for steps of 1, in rationals; no step of (7) is random."""
    q, t, w0 = Fraction(2, 3), 9, Fraction(5)
    sid = SID(t=t, k=4, J=1)
    found = lower_curve(sid, walk(q), Q.zeros((1,)), w0=Q.asarray([w0]))
    for i in range(t + 1):
        assert found[i] == Q.scalar(q ** (2 * i) * w0**2 + (1 - q ** (2 * i)) / (1 - q**2))
    assert linear_curve(sid, walk(q), Q.zeros((1,))).tolist() == [
        Q.scalar(q ** (2 * i) / (1 - q) ** 2) for i in range(5)
    ]


@every_case
def test_curves_are_the_moments_of_shorter_runs(name):
    """Each entry, in rationals; a solver has no curve. Kills: an index of the schedule or of the curve off by one."""
    problem, sid = CASES[name]
    problem = problem.to("rational")
    lam, w0, v0 = (Q.asarray(x) for x in start(problem))
    for steps, of, curve, options in (
        ("t", "rho", lower_curve, {"w0": w0}),
        ("k", "sigma", linear_curve, {"w0": w0, "v0": v0}),
    ):
        if getattr(sid, steps) is None:
            with pytest.raises(BadInput, match="curve over the iterations of a solver"):
                curve(sid, problem, lam, **options)
            continue
        found = curve(sid, problem, lam, **options)
        assert len(found) == getattr(sid, steps) + 1
        for i, number in enumerate(found):
            shorter = dataclasses.replace(sid, **{steps: i})
            assert number == getattr(sid_moments(shorter, problem, lam, **options), of)


def test_powers_of_an_operator_are_many_steps():
    """A long constant run (powers, a blocked curve) against the same steps written as a schedule (one by one)."""
    lam, w0, _ = start(MAP)
    sid = SID(t=700, k=500, J=3, rate=0.02)
    one_by_one = Drops(0.02, at=(10**6,))
    slow = dataclasses.replace(sid, rate=one_by_one, linear_rate=one_by_one)
    one, other = (sid_moments(s, MAP, lam, w0=w0) for s in (sid, slow))
    allowed = (
        10 * 1200 * (28 + 5 + 4) * 2.0**-52
    )  # moments: time · (p + points + 4) eps, relative: nothing cancels
    for of in ("rho", "sigma", "mean_square_error", "variance_upper", "variance_lower"):
        assert abs(getattr(one, of) - getattr(other, of)) <= allowed * one.mean_square_error
    for curve, of, length in ((lower_curve, "rho", 701), (linear_curve, "sigma", 501)):
        found = curve(sid, MAP, lam, w0=w0)
        assert found.shape == (length,)
        assert abs(found[-1] - getattr(one, of)) <= allowed * found.max()


def test_errors_are_small_where_they_are():
    """Without noise ρ and σ fall as q^{2t}, far below eps: errors are the coordinates, so that nothing cancels."""
    sid = SID(t=30, k=30, batch=None)
    problem = walk(0.5, backend("numpy"))
    rho, sigma = lower_curve(sid, problem, [0.0], w0=[1.0]), linear_curve(sid, problem, [0.0])
    for i in range(31):
        assert abs(rho[i] - 0.25**i) <= 10 * (i + 1) * 8 * 2.0**-52 * 0.25**i
        assert abs(sigma[i] - 4 * 0.25**i) <= 10 * (i + 1) * 8 * 2.0**-52 * 4 * 0.25**i


def test_more_draws_leave_a_floor():
    """With w(λ) and the adjoint solved exactly E‖∇̂f − ∇f‖² = a/J + b/J², no bias: J fixed keeps it (j-floor)."""
    problem, lam = WIDE.to("rational"), Q.asarray(start(WIDE)[0])
    errors = {}
    for J in (1, 2, 4, 10**6):  # the size of the space of J draws is a number of J bits
        found = sid_moments(SID(lower=Newton(), linear=LU(), J=J), problem, lam)
        assert not found.bias.any()
        assert found.variance_lower == 0
        errors[J] = Q.scalar(J) * found.mean_square_error
    b = 2 * (errors[1] - errors[2])
    a = errors[1] - b
    assert a > 0
    assert b > 0  # the noise of ∂_λΦ̂ times that of the right side
    assert all(errors[J] == a + b / Q.scalar(J) for J in errors)


def test_the_floor_is_where_long_runs_end():
    """t = k → ∞ with decreasing steps: the mean square error tends to that of exact solvers, not to 0."""
    lam = start(WIDE)[0]
    floor = sid_moments(SID(lower=Newton(), linear=LU(), J=2), WIDE, lam).mean_square_error
    errors = [
        sid_moments(SID(t=n, k=n, J=2, rate=Harmonic(4.0, 40.0)), WIDE, lam).mean_square_error
        for n in (500, 1000, 2000)
    ]
    gaps = [error - floor for error in errors]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[2] < floor


def test_variances_vanish_with_their_noise():
    """Sure lower draws: variance II is 0; a sure upper level, linear system and cross derivative: variance I is 0."""
    lam = Q.asarray(start(LINE)[0])
    problem = LINE.to("rational")
    still = sid_moments(SID(t=2, k=2, J=2, rate=Fraction(1, 2), batch=None), problem, lam)
    assert still.variance_upper == still.variance_lower == 0
    assert still.mean_square_error == still.bias_square > 0
    problem = walk(Fraction(1, 2))
    found = sid_moments(SID(t=3, k=2, J=2), problem, Q.zeros((1,)))
    assert found.variance_upper == found.variance_lower == 0  # ∇E is constant, so w_t does not matter
    assert found.rho > 0


@pytest.mark.parametrize("t", [3, 20, 200])
@pytest.mark.parametrize("seed", range(3))
def test_without_draws_there_is_no_variance_in_floats(seed, t):
    """batch=None: exactly 0, not the rounding of a difference; solvers below: variance II alone."""
    problem = dataclasses.replace(maps.random(n=2, d=3, seed=seed, terms=4), upper=WIDE_UPPER)
    lam = problem.start()
    still = sid_moments(SID(t=t, k=t, J=2, batch=None), problem, lam)
    assert still.variance == still.variance_upper == still.variance_lower == 0
    assert still.mean_square_error == still.bias_square > 0
    assert not still.linear.covariance.any()
    below = sid_moments(SID(lower=Newton(1), k=t, J=2), problem, lam)
    assert below.variance_lower == 0
    assert below.variance_upper > 0
    assert np.trace(below.linear.covariance) > 0


DIVERGING = {
    "the moments": lambda p: sid_moments(SID(t=500, k=3, J=1, rate=50), p, p.start()),
    "the linear ones alone": lambda p: sid_moments(
        SID(t=3, k=5000, J=1, rate=0.5, linear_rate=50), p, p.start()
    ),
    "the lower curve": lambda p: lower_curve(SID(t=500, k=3, J=1, rate=50), p, p.start()),
    "the linear curve": lambda p: linear_curve(SID(t=3, k=500, J=1, linear_rate=50), p, p.start()),
}


@pytest.mark.parametrize("case", DIVERGING)
def test_moments_that_overflow_are_refused(case):
    """No NaN, and no warning before the error."""
    with pytest.raises(NotConverged, match="diverged"):
        DIVERGING[case](maps.random(n=2, d=3, seed=3, terms=4))


def test_the_hypergradient_is_of_the_kind_it_was_passed_with():
    lam = start(WIDE)[0]
    assert sid_moments(SID(t=2, k=2, J=1), WIDE, lam).exact.kind == "estimated"
    certified = ri.exact_hypergradient(WIDE, lam)
    assert sid_moments(SID(t=2, k=2, J=1), WIDE, lam, exact=certified).exact.kind == "bounded"
    moved = WIDE.to("rational")
    assert sid_moments(SID(t=2, k=2, J=1), moved, Q.asarray(lam)).exact.kind == "exact"


# -- where the cross derivative depends on w -----------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Leaning(quadratic.Quadratic):
    """A quadratic + λw²/2, one coordinate each: the cross derivative K + w is neither constant nor linear in w."""

    def grad_w(self, lam, w):
        return super().grad_w(lam, w) + lam * w

    def hess_ww(self, lam, w):
        return matrix(self.backend, self.mean[0] + lam[..., None], symmetric=True)

    def cross(self, lam, w):
        return matrix(self.backend, self.mean[1] + w[..., None])


BILINEAR = {
    "a leaning valley": (
        BilevelProblem(
            VALLEY.upper, Leaning(**{f: getattr(VALLEY.lower, f) for f in ("ww", "lw", "ll", "w1", "l1")})
        ),
        SID(t=2, k=2, J=1, rate=Fraction(1, 4)),
    ),
    "a penalty": (
        ridge.problem([[1.0], [2.0]], [1.0, -1.0], [[1.0], [0.5]], [2.0, 1.0]),
        SID(t=2, k=2, J=2, rate=Fraction(1, 4)),
    ),
    "penalties": (
        ridge.problem([[1.0, 0.5], [2.0, -1.0]], [1.0, -1.0], [[1.0, 2.0]], [2.0], per_feature=True),
        SID(t=2, k=2, J=1, rate=Harmonic(Fraction(1, 4), 2), start="gradient"),
    ),
    "masks": (
        ridge.problem([[1.0], [2.0]], [1.0, -1.0], [[1.0]], [2.0]).with_dropout(
            lower={"lam": Fraction(2, 3), "w": Fraction(3, 4)}, upper=None
        ),
        SID(t=1, k=1, J=1, rate=Fraction(1, 4)),
    ),
    "minibatches": (
        ridge.problem([[1.0], [2.0]], [1.0, -1.0], [[1.0], [0.5]], [2.0, 1.0]),
        SID(t=1, k=1, J=1, rate=Fraction(1, 4), batch=2),
    ),
    "a linear solver": (
        ridge.problem([[1.0], [2.0]], [1.0, -1.0], [[1.0], [0.5]], [2.0, 1.0]),
        SID(t=3, linear=Cholesky(), J=2, rate=Fraction(1, 4)),
    ),
}


@pytest.mark.parametrize("name", BILINEAR)
def test_a_bilinear_estimate_has_an_exact_bias(name):
    """E[h − C(w_t)v_k] through E[w_t v_kᵀ], equal in rationals to every path; its variance is refused.

    Kills: E[C(w_t)] E[v_k] in its place.
    """
    problem, sid = BILINEAR[name]
    problem = problem.to("rational")
    lam = Q.asarray(np.linspace(0.5, 1.5, problem.n))
    w0, v0 = (Q.asarray(x) for x in start(problem)[1:])
    for options in ({}, {"w0": w0}, {"w0": w0, "v0": v0}):
        paths = Paths.of(sid, problem, lam, **options)
        found = sid_moments(sid, problem, lam, **options)
        assert (found.mean == paths.mean(paths.value)).all()
        assert found.bias_square == ((found.mean - paths.exact.value) ** 2).sum()
        assert found.rho == paths.square(paths.w - paths.exact.w)
        assert found.sigma == paths.square(paths.error_v)
        assert_of_v(found, paths)
    for of in ("second", "mean_square_error", "variance", "variance_upper", "variance_lower"):
        with pytest.raises(HypothesisViolated, match="the variance is not known"):
            getattr(found, of)


@dataclasses.dataclass(frozen=True)
class Penalised(Terms, Map):
    """Φ̂ = w/2 − λ c∘w + 1 ± 1: the cross derivative −c∘w leans in every coordinate, by ``slopes``."""

    slopes: Any
    signs: Any
    backend: Backend = Backend()
    n = 1
    d = 2
    along: ClassVar[dict[str, int]] = {"signs": -2}

    def value(self, lam, w):
        B = self.backend
        return w * B.scalar(Fraction(1, 2)) - lam * self.slopes * w + 1 + B.mean(self.signs, -2)

    def d_w(self, lam, w):
        B = self.backend
        return matrix(B, (B.scalar(Fraction(1, 2)) - lam * self.slopes)[..., None] * B.eye(2))

    def d_lam(self, lam, w):
        return matrix(self.backend, (-self.slopes * w)[..., None])


@pytest.mark.parametrize("slopes", [[7.0, 1.0], [7.0, 2.0], [-1.0, 1.0]])
def test_a_bilinear_form_is_not_affine_wherever_it_vanishes(slopes):
    """Σ c_i w_i v_i depends on w although it is 0 at two states: no variance, the bias of every path all the same.

    Kills: affinity decided at one pair of states, where the first of these vanishes.
    """
    phi = Penalised(np.array(slopes), np.array([[1.0], [-1.0]]))
    problem = FixedPointProblem(ri.zoo.uppers.linear([1.0, 2.0], n=1), phi).to("rational")
    sid, lam = SID(t=2, k=2, J=1), Q.asarray([0.01])
    found, paths = sid_moments(sid, problem, lam), Paths.of(sid, problem, lam)
    assert (found.mean == paths.mean(paths.value)).all()
    with pytest.raises(HypothesisViolated, match="the variance is not known"):
        _ = found.mean_square_error


class Curved(Penalised):
    """Its ∂_λ Φ is quadratic in w: ∂_λ Φᵀv is no longer affine in w, except where v = 0."""

    def d_lam(self, lam, w):
        return matrix(self.backend, (-self.slopes * w * w)[..., None])


def test_a_cross_derivative_that_bends_is_refused():
    """Kills: affinity in w tested at v = 0 alone."""
    phi = Curved(np.array([7.0, 1.0]), np.array([[1.0], [-1.0]]))
    problem = FixedPointProblem(ri.zoo.uppers.linear([1.0, 2.0], n=1), phi).to("rational")
    exact = np.array([Fraction(0)], dtype=object)
    with pytest.raises(HypothesisViolated, match="affine") as caught:
        sid_moments(SID(t=2, k=2, J=1), problem, Q.asarray([0.01]), exact=Q.asarray(exact))
    assert "the cross derivative is not, in w" in str(caught.value)


# -- refusals ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("problem", "match"),
    [
        (logistic.random(d=2, rows=9, seed=0), "sigmoid is not available"),
        (ridge.random(d=2, rows=5, seed=0, log=True), "exp is not available"),
        (maps.random(n=2, d=2, seed=0, kind="tanh"), "tanh is not available"),
        (
            BilevelProblem(
                ri.zoo.uppers.log_cosh(np.eye(2), np.ones(2), n=2), quadratic.random(n=2, d=2, seed=0).lower
            ),
            "tanh is not available",
        ),
    ],
    ids=["logistic", "log ridge", "tanh", "log-cosh"],
)
def test_what_is_not_affine(problem, match):
    for ask in (sid_moments, lower_curve, linear_curve):
        with pytest.raises(HypothesisViolated, match="steps that are affine") as caught:
            ask(SID(t=1, k=1, rate=0.1, batch=None), problem, problem.start())
        assert match in str(caught.value)


@dataclasses.dataclass(frozen=True)
class Cubic(quadratic.Quadratic):
    """Polynomial, but no quadratic: ∇_wf + s w² entry by entry, ∇_λf + c w²; with the derivatives of that."""

    slope: float = 0.0
    bend: float = 0.0

    def grad_w(self, lam, w):
        return super().grad_w(lam, w) + self.slope * w * w

    def grad_lam(self, lam, w):
        return super().grad_lam(lam, w) + self.bend * w[..., : self.n] ** 2


def _cubic(level, **changed):
    return Cubic(*(getattr(level, name) for name in ("ww", "lw", "ll", "w1", "l1")), **changed)


def test_what_is_polynomial_but_not_affine():
    """Kills: affinity not tested for one of the maps, or tested at one state."""
    F, G, lam = VALLEY.upper, VALLEY.lower, start(VALLEY)[0]
    sid = SID(t=1, k=1, rate=0.25)
    exact = ri.exact_hypergradient(VALLEY, lam)
    assert sid_moments(sid, BilevelProblem(_cubic(F), _cubic(G)), lam, exact=exact).bias.shape == (1,)
    for problem, match in (
        (BilevelProblem(F, _cubic(G, slope=1e-9)), "lower iteration"),
        (BilevelProblem(_cubic(F, slope=1e-9), G), "upper level"),
        (BilevelProblem(_cubic(F, bend=1e-9), G), "upper level"),
    ):
        with pytest.raises(HypothesisViolated, match=match):
            sid_moments(sid, problem, lam, exact=exact)
    with pytest.raises(HypothesisViolated, match="linear iteration"):
        # one step of conjugate gradients is not linear in its right side; d of them are
        sid_moments(SID(t=1, linear=ConjugateGradient(1), rate=0.25), MINIMISATION, start(MINIMISATION)[0])


def test_conjugate_gradients_to_the_end_are_linear():
    problem, lam = VALLEY.to("rational"), Q.asarray(start(VALLEY)[0])
    one, other = (
        sid_moments(SID(t=2, linear=solver, J=2, rate=0.25), problem, lam)
        for solver in (ConjugateGradient(1), LU())
    )
    assert one.mean_square_error == other.mean_square_error
    assert one.sigma == other.sigma == 0


def test_one_start_at_a_time():
    sid, lam = SID(t=1, k=1), LAM
    for options in ({"w0": np.zeros((2, 1))}, {"v0": np.zeros((2, 1))}):
        with pytest.raises(BadInput, match="one start at a time"):
            sid_moments(sid, LINE, lam, **options)
    for ask in (sid_moments, lower_curve, linear_curve):
        with pytest.raises(BadInput, match="one start at a time"):
            ask(sid, LINE, np.zeros((2, 1)))
        with pytest.raises(BadInput, match="not the hypergradient of this problem"):
            ask(sid, LINE, lam, exact=np.zeros(1))


def test_no_balls():
    balls = backend("interval")
    for ask in (sid_moments, lower_curve, linear_curve):
        with pytest.raises(BadInput, match="not computed over balls"):
            ask(SID(t=1, k=1), LINE.to("interval"), balls.asarray(LAM))


def test_too_many_masks():
    problem = quadratic.random(n=2, d=40, seed=0).with_dropout(lower={"lam": 1, "w": 0.5}, upper=None)
    with pytest.raises(TooLarge, match="neither the transitions"):
        sid_moments(SID(t=1, k=1, rate=0.1), problem, problem.start())


def test_an_exact_hypergradient_is_taken_as_given():
    lam = start(MAP)[0]
    sid, exact = SID(t=3, k=2, J=2, rate=0.2), ri.exact_hypergradient(MAP, lam)
    one, other = sid_moments(sid, MAP, lam), sid_moments(sid, MAP, lam, exact=exact)
    assert other.exact is exact
    # they differ by the rounding of w(λ) and of the adjoint, about which errors are taken
    allowed = 10 * 7 * (5 + (2 * MAP.d + MAP.n + 1) ** 2) * 2.0**-52
    assert abs(other.mean_square_error - one.mean_square_error) <= allowed * one.mean_square_error
