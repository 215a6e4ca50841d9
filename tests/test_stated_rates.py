"""The rates that solvers state: never exceeded by what is left, attained where they say so, refused where not proved.

Errors are measured over the rationals, by the solvers themselves; the bounds are formulas of the constants alone.
Comments name the mutants that a test kills.
"""

from __future__ import annotations

import dataclasses
import itertools as it
import math
from fractions import Fraction as Fr

import numpy as np
import pytest

import refimpl as ri
from refimpl import solvers
from refimpl.approximate import SID, sid_moments, stated_rates
from refimpl.approximate import guarantees as g
from refimpl.arrays import backend
from refimpl.constants import Constants, Noise, Region, constants, noise
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.operators import matrix
from refimpl.problem import BilevelProblem
from refimpl.rates import Harmonic
from refimpl.zoo import maps, quadratic
from tests.rounding import EPS
from tests.sid_things import MAP, MINIMISATION, VALLEY

NAMES = ("q", "L_E", "L_Phi", "nu1", "nu2", "mu1", "mu2", "nu1_bar", "nu2_bar", "mu1_bar", "mu2_bar", "B")
HALF = Fr(1, 2)


def of(**given):
    """Constants, 0 unless given."""
    return Constants(**({name: Fr(0) for name in NAMES} | given))


def of_spectrum(h, step, **given):
    """Constants of w − step ∇_wG for ∇²_wwG = diag(h)."""
    return of(q=max(abs(1 - step * x) for x in h), step=step, **given)


def valley(h):
    """G = ½wᵀ diag(h) w over the rationals, w(λ) = 0."""
    n = {"n": 1}
    levels = quadratic.objective(ww=np.diag([float(x) for x in h]), **n)
    return BilevelProblem(quadratic.objective(ww=np.eye(len(h)), **n), levels).to("rational")


def square(x):
    return sum((Fr(int(e.p), int(e.q)) ** 2 for e in x.tolist()), Fr(0))


def left(solver, problem, w0):
    """‖w_t − w(λ)‖², exactly."""
    w0 = problem.backend.asarray(w0)
    return square(solver.run(problem, problem.backend.zeros((1,)), w0).w)


def above(bound, count):
    """What a bound that floats evaluate in ``count`` operations, each relative to its size, is at most."""
    return bound if isinstance(bound, Fr | int) else Fr(bound) * (1 + 10 * count * Fr(EPS["float64"]))


# -- lower solvers -----------------------------------------------------------------------------------------------------
SPECTRA = [(Fr(1), Fr(4)), (Fr(1), Fr(2), Fr(9)), (Fr(4), Fr(25)), (Fr(1), Fr(100)), (Fr(3),)]
STARTS = [(1, 1, 1), (3, -1, 0), (0, 0, 2), (1, 0, 0)]


@pytest.mark.parametrize("h", SPECTRA)
@pytest.mark.parametrize("eta", [Fr(1), Fr(1, 3), Fr(21, 20)])
def test_gradient_descent_keeps_its_rate(h, eta):
    # kills: gradient-descent-without-1−η, -exponent, -own-steps
    s = 2 / (h[0] + h[-1])
    for w0, t in it.product(STARTS, (0, 1, 2, 7)):
        w0 = w0[: len(h)]
        c = of_spectrum(h, s, B=Fr(1))
        if eta * (1 + c.q) >= 2:
            continue
        solver = solvers.GradientDescent(t, eta * s)
        assert left(solver, valley(h), np.array(w0, dtype=float)) <= solver.rho(c) * sum(x * x for x in w0)


@pytest.mark.parametrize("h", SPECTRA)
def test_gradient_descent_attains_it(h):
    """At either end of the spectrum with s = step = 2/(μ + L); a shorter step at μ, a longer one at L."""
    s, ends = 2 / (h[0] + h[-1]), np.eye(len(h))[[0, -1]]
    for eta, end in ((Fr(1), 0), (Fr(1), -1), (Fr(1, 3), 0), (Fr(21, 20), -1)):
        c = of_spectrum(h, s, B=Fr(1))
        if eta * (1 + c.q) >= 2:
            continue
        for t in range(4):
            solver = solvers.GradientDescent(5, eta * s)
            ran = left(dataclasses.replace(solver, steps=t), valley(h), ends[end])
            assert ran == solver.rho(c, t=t)


def test_a_fixed_point_attains_its_rate():
    """Φ = qw: q^{2t}B²."""
    for t in range(5):
        problem = maps.line(0.5).to("rational")
        w = solvers.FixedPoint(t).run(problem, problem.backend.zeros((1,)), problem.backend.asarray([3.0])).w
        assert square(w) == solvers.FixedPoint(t).rho(of(q=HALF, B=Fr(3))) == HALF ** (2 * t) * 9
        assert solvers.FixedPoint(9).rho(of(q=HALF, B=Fr(3)), t=t) == HALF ** (2 * t) * 9


def polyak(h):
    """Step and momentum of the heavy ball for squares μ, L."""
    low, high = (Fr(math.isqrt(int(x))) for x in (h[0], h[-1]))
    return 4 / (high + low) ** 2, ((high - low) / (high + low)) ** 2


BALLS = [(h, *polyak(h)) for h in SPECTRA if len(h) > 1] + [
    ((Fr(1), Fr(4)), Fr(1, 4), Fr(1, 4)),  # μ's error on the way to no oscillation, x = 1; then x > 1
    ((Fr(1), Fr(4)), Fr(1, 8), Fr(1, 10)),
    ((Fr(1), Fr(4)), Fr(1, 2), Fr(1, 10)),  # the other end: x < −1
    ((Fr(1), Fr(4)), Fr(3, 5), Fr(1, 2)),
    ((Fr(2), Fr(3)), Fr(1, 10), Fr(81, 100)),  # too much momentum: |x| < 1
    ((Fr(1), Fr(3)), Fr(2, 5), Fr(0)),
]


@pytest.mark.parametrize(("h", "step", "momentum"), BALLS)
def test_the_heavy_ball_keeps_its_rate(h, step, momentum):
    # kills: heavy-ball-asymptotic, -u-without-older, -x-of-one-end
    s = 2 / (h[0] + h[-1])
    for w0, t in it.product(STARTS, (0, 1, 2, 3, 12, 40)):
        solver = solvers.HeavyBall(t, step, momentum)
        bound = solver.rho(of_spectrum(h, s, B=Fr(1)))
        w0 = w0[: len(h)]
        size = sum(x * x for x in w0)
        assert left(solver, valley(h), np.array(w0, dtype=float)) <= above(bound, 4 * t + 10) * size


@pytest.mark.parametrize("h", SPECTRA[:4])
def test_the_heavy_ball_attains_it(h):
    """Polyak's at L, where the two roots are one: β^t (1 + t + t√β)² to rounding, many times β^t."""
    step, momentum = polyak(h)
    low, high = (Fr(math.isqrt(int(x))) for x in (h[0], h[-1]))
    root = (high - low) / (high + low)
    s, end = 2 / (h[0] + h[-1]), np.eye(len(h))[-1]
    for t in (0, 1, 5, 30):
        solver = solvers.HeavyBall(t, step, momentum)
        ran = left(solver, valley(h), end)
        assert ran == momentum**t * (1 + t + t * root) ** 2
        assert above(ran, 0) <= above(solver.rho(of_spectrum(h, s, B=Fr(1))), 4 * t + 10)
        # x = 1 to 10 eps, of which U_t(x), whose logarithm's derivative is at most t(t + 2)/3, makes t(t + 2) times it
        spread = 10 * Fr(EPS["float64"]) * (4 * t + 10 + 2 * t * (t + 2))
        assert Fr(solver.rho(of_spectrum(h, s, B=Fr(1)))) <= ran * (1 + spread)


@pytest.mark.parametrize("t", [100, 1100, 5000])
def test_the_heavy_ball_is_stated_after_any_number_of_steps(t):
    """U_t(1.24) is above 1.97^t, which floats do not hold; 2⁻ᵗU_t they do."""
    # kills: heavy-ball-overflow
    q, x = 0.99, Fr(5, 4) - (1 - Fr(0.99))  # x = (1 + β − h)/(2√β), β = 1/4, at h = 1 − q
    y = float(x) + math.sqrt(float(x * x - 1))  # U_t = (y^{t+1} − y^{−t−1})/(y − 1/y)
    logs = [(t + 1 - i) * math.log(y) + math.log1p(-(y ** (-2 * (t + 1 - i)))) for i in (0, 1)]
    expected = 2 * (
        logs[0] - math.log(y - 1 / y) - t * math.log(2) + math.log1p(math.exp(logs[1] - logs[0]) / 2)
    )
    found = math.log(solvers.HeavyBall(t, 1.0, 0.25).rho(of(q=q, B=1.0)))
    # t roundings and y's, each to 10 eps, and t times that of log y
    assert abs(found - expected) <= 10 * EPS["float64"] * (4 * t + 10) * (1 + y / (y - 1 / y))


def test_newton_is_there_after_a_step():
    # kills: newton-before-its-step
    solver, c = solvers.Newton(tol=0, steps=1), of(q=HALF, B=Fr(3))
    assert left(solver, valley((1, 4)), np.array([1.0, -2.0])) == solver.rho(c) == 0
    assert solver.rho(c, t=0) == 9
    assert solvers.Newton(tol=0, steps=0).rho(c) == 9


# -- linear solvers ----------------------------------------------------------------------------------------------------
RIGHT = [(1, 1, 1), (1, -3, 2), (0, 1, 4), (1, 0, 0), (30, 3, 1)]


def missed(solver, a, b, *, start=None):
    """‖v_k − v̄‖², exactly."""
    B = backend("rational")
    of_a = matrix(B, B.asarray(a), symmetric=bool((np.asarray(a) == np.asarray(a).T).all()))
    b = B.asarray(np.array(b, dtype=float))
    found = solver.solve(of_a, b, b if start == "gradient" else None).v
    return square(found - solvers.LU().solve(of_a, b).v)


@pytest.mark.parametrize("h", SPECTRA)
@pytest.mark.parametrize("kind", ["cg", "normal", "neumann", "short neumann"])
def test_symmetric_systems(h, kind):
    """v of ∇²_wwG is s times that of Φ."""
    # kills: neumann-without-κ_q, cg-…, in-the-scale-of-the-problem
    s = 2 / (h[0] + h[-1])
    c = of_spectrum(h, s)
    for b, k in it.product(RIGHT, (0, 1, 2, 3)):
        b = b[: len(h)]
        solver = {
            "cg": solvers.ConjugateGradient(k),
            "normal": solvers.NormalCG(k),
            "neumann": solvers.Neumann(k, s),
            "short neumann": solvers.Neumann(k, s / 3),
        }[kind]
        bound = solver.sigma(c, sum(x * x for x in b))
        assert missed(solver, np.diag([float(x) for x in h]), b) / s**2 <= above(bound, 4 * k + 20)


def test_neumann_attains_it():
    """b along the smallest eigenvalue: (|1 − η| + ηq)^{2k}κ_q²."""
    h = (Fr(1), Fr(3))
    for eta, k in it.product((Fr(1), HALF), range(4)):
        solver = solvers.Neumann(7, eta / 2)  # s = 1/2
        c = of_spectrum(h, HALF)
        ran = missed(dataclasses.replace(solver, terms=k), np.diag([1.0, 3.0]), (1, 0))
        assert ran / HALF**2 == solver.sigma(c, 1, k=k) == (1 - eta / 2) ** (2 * k) * 4


ROTATION = np.array([[0.0, -1.0], [1.0, 0.0]]) / 2  # ‖·‖ = 1/2
MAPS = {"rotation": ROTATION, "shear": np.array([[0.0, 0.5], [0.0, 0.0]]), "line": np.diag([0.5, -0.5])}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("start", ["zero", "gradient"])
def test_systems_of_a_map(name, start):
    """(I − ∂_wΦ)ᵀ, symmetric or not, from both starts."""
    # kills: start-q-for-q²
    c, a = of(q=HALF), np.eye(2) - MAPS[name].T
    for b, k in it.product(RIGHT, range(4)):
        b = b[:2]
        for solver in (
            solvers.FixedPointAdjoint(k), solvers.Neumann(k, 1), solvers.NormalCG(k), solvers.LU(),
            *([solvers.ConjugateGradient(k), solvers.Cholesky()] if name == "line" else []),
        ):  # fmt: skip
            bound = solver.sigma(c, sum(x * x for x in b), start=start)
            assert missed(solver, a, b, start=start) <= above(bound, 4 * k + 20)


def test_the_start_from_the_gradient_attains_it():
    """Φ = qw: v̄ − ∇E = qv̄, a step ahead of 0."""
    for k in range(4):
        solver = solvers.FixedPointAdjoint(k)
        assert missed(solver, [[0.5]], (3,), start="gradient") == solver.sigma(
            of(q=HALF), 9, start="gradient"
        )
        assert solver.sigma(of(q=HALF), 9, start="gradient") == solver.sigma(of(q=HALF), 9, k=k + 1)


def test_in_numbers():
    """κ = 4 and 9: (√κ − 1)/(√κ + 1) = 1/3 and 1/2, κ_q = 5/2 and 5."""
    # kills: cg-condition, cg-without-4κ, normal-…
    four, nine, size = of(q=Fr(3, 5)), of(q=Fr(4, 5)), Fr(7)
    assert float(solvers.ConjugateGradient(2).sigma(four, size)) == pytest.approx(
        float(4 * 4 * Fr(1, 3) ** 4 * Fr(25, 4) * 7), rel=40 * EPS["float64"]
    )
    assert float(solvers.ConjugateGradient().sigma(nine, size, k=3)) == pytest.approx(
        float(4 * 9 * Fr(1, 2) ** 6 * 25 * 7), rel=40 * EPS["float64"]
    )
    assert solvers.NormalCG(3).sigma(four, size) == 4 * 16 * Fr(3, 5) ** 6 * Fr(25, 4) * 7
    assert (
        solvers.NormalCG(3, tol=Fr(9, 10)).sigma(four, size)
        == max(4 * Fr(3, 5) ** 6, Fr(81, 100)) * 16 * Fr(25, 4) * 7
    )
    for exact in (solvers.LU(), solvers.Cholesky()):
        assert exact.sigma(four, size) == exact.sigma(four, size, k=3, start="gradient") == 0
    # one step of two, b = (1, 1): r²‖v̄‖² with r = (κ−1)/(κ+1) = 2ρ/(1 + ρ²), of the bound (1 + κ⁻²)/(2κ(1 + ρ²)²)
    ran = missed(solvers.ConjugateGradient(1), np.diag([1.0, 4.0]), (1, 1)) / Fr(2, 5) ** 2
    share = (1 + Fr(1, 16)) / (8 * (1 + Fr(1, 9)) ** 2)
    found = solvers.ConjugateGradient(1).sigma(of_spectrum((Fr(1), Fr(4)), Fr(2, 5)), 2)
    assert found == pytest.approx(float(ran / share), rel=40 * EPS["float64"])


@pytest.mark.parametrize("kind", [solvers.ConjugateGradient, solvers.NormalCG])
def test_a_tolerance_leaves_what_it_leaves(kind):
    # kills: cg-tolerance-forgotten
    h = (Fr(1), Fr(4), Fr(9))
    s = 2 / (h[0] + h[-1])
    c, seen = of_spectrum(h, s), 0
    for tol, b in it.product((0.5, 0.25, 2.0), RIGHT):
        size = sum(x * x for x in b)
        left_over = missed(kind(1000, tol), np.diag([1.0, 4.0, 9.0]), b) / s**2
        assert left_over <= above(kind(1000, tol).sigma(c, size), 20)
        seen += left_over > kind(1000).sigma(c, size)
    assert seen


# -- who states none ---------------------------------------------------------------------------------------------------
class Own(solvers.LowerSolver):
    def run(self, problem, lam, w0, *, keep=0):
        raise NotImplementedError


class OwnLinear(solvers.LinearSolver):
    def solve(self, a, b, start=None, *, keep=False):
        raise NotImplementedError


CURVED = of(q=HALF, nu1=Fr(1), B=Fr(1))


@pytest.mark.parametrize(
    ("solver", "c", "said"),
    [
        (Own(), of(q=HALF), "Own states no rate"),
        (solvers.NewtonCG(tol=0), of(q=HALF), "NewtonCG states no rate"),
        (solvers.BiGSAM(1, s=0.1, t=0.1, alpha=0.5), of(q=HALF), "BiGSAM states no rate"),
        (solvers.Newton(), of(q=HALF), "tol = 1e-10"),
        (solvers.Newton(tol=0), CURVED, "ν₁ = 1"),
        (solvers.HeavyBall(3, 0.5, 0.5), CURVED, "ν₁ = 1"),
        (solvers.HeavyBall(3, 2, 0.5), of(q=HALF), "momentum 0.5"),  # η(1 + q) = 2(1 + β)
        (solvers.HeavyBall(3), of(q=HALF), "step=None"),
        (solvers.GradientDescent(3), of(q=HALF), "step=None"),
        (solvers.GradientDescent(3, Fr(4, 3)), of(q=HALF), "= 1$"),  # 1/3 + 2/3
    ],
    ids=lambda x: type(x).__name__,
)
def test_lower_solvers_without_a_rate(solver, c, said):
    with pytest.raises(HypothesisViolated, match="states no rate") as caught:
        solver.rho(c)
    assert said.rstrip("$") in str(caught.value)
    assert caught.value.advice


@pytest.mark.parametrize(
    ("solver", "c", "said"),
    [
        (OwnLinear(), of(q=HALF), "OwnLinear states no rate"),
        (solvers.Neumann(3, 1.5), of(q=HALF), "|1 − η| + ηq = 1.25"),
        (solvers.FixedPointAdjoint(3), of(q=HALF, step=HALF), "|1 − η| + ηq = 2"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_linear_solvers_without_a_rate(solver, c, said):
    with pytest.raises(HypothesisViolated, match="states no rate") as caught:
        solver.sigma(c, 1)
    assert said in str(caught.value)
    assert caught.value.advice


@pytest.mark.parametrize("square", ["1", None, -1, math.nan, True])
def test_a_square_that_is_none_is_refused(square):
    # kills: square-unchecked
    for solver in (
        solvers.LU(), solvers.Cholesky(), solvers.ConjugateGradient(3), solvers.NormalCG(3), solvers.Neumann(3, HALF),
        solvers.FixedPointAdjoint(3),
    ):  # fmt: skip
        with pytest.raises(BadInput, match="square"):
            solver.sigma(of(q=HALF), square)


def test_what_else_is_refused():
    with pytest.raises(BadInput, match="number of steps"):
        solvers.FixedPoint(3).rho(of(q=HALF), t=-1)
    for solver in (solvers.Neumann(3, HALF), solvers.ConjugateGradient(3), solvers.NormalCG(3)):
        with pytest.raises(BadInput, match="number of steps"):
            solver.sigma(of(q=HALF), 1, k=1.5)
        with pytest.raises(BadInput, match="no such start"):
            solver.sigma(of(q=HALF), 1, start="one")
        with pytest.raises(HypothesisViolated, match="adjoint's first step"):
            solver.sigma(of(q=HALF, step=HALF), 1, start="gradient")


# -- SID ---------------------------------------------------------------------------------------------------------------
def radius(problem, lam, w0):
    """The region around w(λ) that w_0 is in."""
    exact = ri.exact_hypergradient(problem, lam, certify="never")
    return Region(lam, exact.w, 0.0, float(np.linalg.norm(w0 - exact.w)))


LOWER = {
    MAP: [None, solvers.FixedPoint(3), solvers.Newton(tol=0, steps=1)],
    MINIMISATION: [None, solvers.GradientDescent(3, 0.1), solvers.HeavyBall(3, 0.1, 0.25)],
    VALLEY: [None, solvers.GradientDescent(2, 0.5), solvers.Newton(tol=0, steps=1)],
}
LINEAR = {
    MAP: [None, solvers.FixedPointAdjoint(3), solvers.LU()],
    MINIMISATION: [None, solvers.Neumann(3, 0.1), solvers.ConjugateGradient(3), solvers.Cholesky()],
    VALLEY: [None, solvers.Neumann(2, 0.5), solvers.ConjugateGradient(1)],
}


@pytest.mark.parametrize("problem", [MAP, MINIMISATION, VALLEY], ids=["map", "minimisation", "valley"])
def test_what_sid_leaves_is_at_most_what_is_stated(problem):
    """Exact moments of SID with every pair of solvers; theorem 4 and theorem 7 with the rates stated."""
    # kills: sid-linear-rate-of-the-other-stage, sid-J-forgotten
    lam, w0 = np.linspace(0.5, -1.0, problem.n), np.linspace(1.0, -2.0, problem.d)
    region = radius(problem, lam, w0)
    c, n = constants(problem, region), noise(problem, region, growth=2)
    eta = 1 / (1 + max(n.sigma2, 2 * n.d_sigma1 * c.kappa_q**2)) * c.step
    for lower, linear, J in it.product(LOWER[problem], LINEAR[problem], (1, 3)):
        t, k = (None if solver else 4 for solver in (lower, linear))
        sid = SID(t=t, k=k, lower=lower, linear=linear, J=J, rate=0.9 * eta, linear_rate=0.7 * eta)
        rates, found = stated_rates(sid, c, n), sid_moments(sid, problem, lam, w0=w0)
        rounding = (
            1 + 1000 * problem.d**2 * EPS["float64"] * c.kappa_q
        )  # ~ 20 steps of d² operations, a system solved
        # a solver that ends leaves the rounding of w(λ) and of the adjoint
        floor = (100 * problem.d * EPS["float64"] * c.kappa_q * (1 + region.w_radius + c.L_E)) ** 2
        assert found.rho <= rates.rho * rounding + floor
        assert found.sigma / c.step**2 <= rates.sigma * rounding + floor * c.kappa_q**2
        assert found.bias_square**0.5 <= g.theorem_4(c, rates.rho, rates.sigma) * rounding + floor**0.5
        assert found.mean_square_error <= g.theorem_7(c, n, rates.rho, rates.sigma, J) * rounding + floor


def test_stated_rates_are_those_of_each_stage():
    """(6) and (7) by theorem 8, whose conditions are asked of what is run only; a solver by its own formula."""
    # kills: sid-lower-conditions-of-a-solver, sid-start
    c = of(q=HALF, B=Fr(3), L_E=Fr(2))
    n = Noise(sigma1=Fr(1), sigma2=Fr(1), d_sigma1=Fr(1, 8), sigma1_E=Fr(5))
    sid = SID(t=3, k=2, J=5, rate=Fr(1, 2), linear_rate=Fr(1, 3))
    eight = g.theorem_8(c, n, rate=Fr(1, 2), linear_rate=Fr(1, 3), J=5)
    rho, sigma = eight.rho(3), eight.sigma(2)
    assert stated_rates(sid, c, n) == ri.approximate.StatedRates(rho, sigma)
    solved = dataclasses.replace(sid, t=None, lower=solvers.FixedPoint(2))
    assert stated_rates(solved, c, n) == ri.approximate.StatedRates(Fr(9, 16), sigma)
    wild = dataclasses.replace(n, sigma2=Fr(99))  # no step of (6) is short enough, and none is made
    assert stated_rates(dataclasses.replace(solved, rate=2), c, wild).sigma == sigma
    solved = dataclasses.replace(sid, k=None, linear=solvers.FixedPointAdjoint(2), start="gradient")
    assert stated_rates(solved, c, n) == ri.approximate.StatedRates(rho, HALF**6 * 4 * (4 + 1))
    wild = dataclasses.replace(n, d_sigma1=Fr(99))
    assert stated_rates(dataclasses.replace(solved, linear_rate=2), c, wild).rho == rho
    both = SID(lower=solvers.FixedPoint(0), linear=solvers.LU(), J=1, rate=1)
    assert stated_rates(both, c, wild) == ri.approximate.StatedRates(Fr(9), 0)
    decreasing = SID(t=3, k=2, J=5, rate=Harmonic(Fr(2), Fr(8)), start="gradient")
    eight = g.theorem_8(c, n, rate=Harmonic(Fr(2), Fr(8)), J=5, start="gradient")
    assert stated_rates(decreasing, c, n) == ri.approximate.StatedRates(eight.rho(3), eight.sigma(2))


def test_stated_rates_refuse():
    """Steps outside theorem 8, of either stage; noise of another map; solvers without a rate."""
    c, n = of(q=HALF, B=Fr(1), L_E=Fr(1)), Noise(sigma2=1, d_sigma1=1)
    for sid in (
        SID(t=1, k=1, rate=1), SID(lower=solvers.FixedPoint(1), k=1, rate=1),
        SID(t=1, linear=solvers.LU(), rate=1), SID(t=1, k=1, rate=0.1, linear_rate=1),
    ):  # fmt: skip
        with pytest.raises(HypothesisViolated, match="theorem 8"):
            stated_rates(sid, c, n)
    with pytest.raises(BadInput, match="two maps"):
        stated_rates(SID(lower=solvers.FixedPoint(1), linear=solvers.LU()), c, dataclasses.replace(n, step=2))
    with pytest.raises(HypothesisViolated, match="states no rate"):
        stated_rates(SID(lower=Own(), linear=solvers.LU()), c, n)


def test_a_contraction_that_bends():
    """tanh: a fixed point keeps q^{2t}B² on its ball."""
    problem = maps.random(n=2, d=3, seed=4, q=0.8, kind="tanh")
    lam, w0 = np.array([0.5, -1.0]), np.array([1.0, -2.0, 0.5])
    region = radius(problem, lam, w0)
    c = constants(problem, region)
    for t in range(6):
        error = solvers.FixedPoint(t).run(problem, lam, w0).w - region.w
        assert float(error @ error) <= solvers.FixedPoint(t).rho(c) * (1 + 100 * EPS["float64"])
