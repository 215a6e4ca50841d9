"""The claims on BSGM's rates and samples, their parts by second channels: enumerated paths, literal sums, runs."""

from __future__ import annotations

import math
from fractions import Fraction as Q

import numpy as np
import pytest
from flint import fmpq, fmpq_poly
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.algorithms import run
from refimpl.approximate.guarantees import corollary_10 as guaranteed
from refimpl.approximate.guarantees import (
    theorem_8,
    theorem_12,
    theorem_12_sharp,
    theorem_16_i,
    theorem_16_i_sharp,
    theorem_16_ii,
    theorem_16_ii_sharp,
)
from refimpl.approximate.inverse import ProductNeumann, SumNeumann
from refimpl.approximate.sid_moments import linear_curve, sid_moments
from refimpl.approximate.stochastic import SID
from refimpl.constants import Constants, Noise
from refimpl.draws import Draws
from refimpl.lengths import Logarithmic
from refimpl.problem import FixedPointProblem
from refimpl.zoo import uppers
from refimpl.zoo.maps import AffineMap
from verification.claims.contraction import (
    _closed_loop,
    _deterministic,
    _powers,
    bsa_deterministic,
    footnote_1,
    large_batch,
    product_variance,
    remark_18,
    remark_19,
    samples,
    theorem_16,
    theorem_17_bound,
    theorem_17_steps,
)
from verification.claims.contraction._at_infinity import KAPPA, AtInfinity

EPS = float(np.finfo(float).eps)
BOTH = pytest.mark.parametrize("growing", [True, False], ids=["growing", "fixed"])
RICH = {
    **_closed_loop.PLAIN, "p": 16, "A": 0.5, "dA": 0.25, "B": 0.5, "dB": 0.25, "c": 0.5, "dc": 0.5, "M": 0.5, "N": 0.5,
    "dN": 0.25, "dM": 0.25, "m": 0.5, "dm": 0.5, "l": 0.5, "dl": 0.5, "w0": 0.5, "lam0": 0.25, "steps": 3, "c3": 0.5,
}  # fmt: skip


# -- theorem 16 -------------------------------------------------------------------------------------------------
@BOTH
def test_moments_of_the_closed_loop_are_those_of_all_paths(growing):
    """On a Λ that no path leaves projections move nothing.

    Kills: the recursion of another schedule, a wrong square of ∇f, λ_s counted from 1, a Λ that some path leaves.
    """
    one = _closed_loop.build({**RICH, "growing": growing})
    paths = _closed_loop.build({**RICH, "growing": growing, "mode": "paths", "R": one.radius})
    if not growing:  # 2⁸ draws in every iteration
        one, paths = (_closed_loop.build({**x.params, "steps": 2}) for x in (one, paths))
    assert one.mappings == pytest.approx(paths.mappings, rel=1e3 * EPS)
    assert len(one.mappings) == one.steps
    assert one.drop == pytest.approx(paths.drop, rel=1e3 * EPS)


def test_projections_act_on_a_small_set():
    """Where the first move would leave it, ‖G_α‖ is what is left to the border, over α."""
    p = {**RICH, "growing": True, "mode": "paths", "lam0": 0.0, "l": 20.0, "R": 0.25}
    one = _closed_loop.build(p)
    assert one.mappings[0] == pytest.approx((0.25 / one.alpha) ** 2, rel=10 * EPS)
    assert _closed_loop.build({**p, "R": 10.0}).mappings[0] > one.mappings[0]


@pytest.mark.parametrize("seed", range(4))
def test_no_draw_takes_an_iterate_out_of_the_set(seed):
    """The bound of all draws against runs. Kills: a coefficient's deviation left out of r_0 or r_1."""
    p = {
        "family": "random", "growing": True, "mode": "moments", "n": 2, "d": 2, "seed": seed, "steps": 6, "c3": 1.0,
        "q": 0.5, "noise": 1.0, "b_size": 0.5, "c_size": 0.5, "upper": 0.5, "gap": 0.1, "reach": 0.5, "away": 0.25,
        "share": 1.0, "b": 2.0, "g": 1.0,
    }  # fmt: skip
    one = _closed_loop.build(p)
    assert _closed_loop.LAMBDA.predicate(one)[0]
    start = one.algorithm.init(one.unconfined, one.lam0, one.w0)
    found = run(one.algorithm, one.unconfined, start, steps=6, rng=seed, replicates=(200,), keep=("lam", "d"))
    reached = np.abs(found.trajectory["lam"]).max()
    assert 0.01 * one.radius < reached <= one.radius * (1 + 100 * EPS)


@given(_closed_loop.instances(True, "moments", t=st.integers(1, 10)))
@settings(max_examples=15)
def test_the_sharp_constant_bounds_the_error_and_is_no_larger_than_the_printed_one(p):
    """Kills: any term of W# dropped that an instance needs, γ for √γ, d_w of theorem 8 with a smaller denominator."""
    one = _closed_loop.build(p)
    assert one.sharp <= one.corollary.W_sharp * (1 + 100 * EPS) <= one.corollary.W * (1 + 200 * EPS)
    sid = SID(t=p["t"], k=p["t"], J=p["t"], rate=one.rate)
    for lam in one.corners:
        error = sid_moments(sid, one.problem, lam, w0=one.w0).mean_square_error
        assert p["t"] * error <= one.sharp * (1 + 1e3 * EPS)


@BOTH
def test_the_bounds_are_the_librarys(growing):
    one = _closed_loop.build({**RICH, "growing": growing})
    known = {"L": one.smoothness, "alpha": one.alpha, "c3": 0.5, "drop": one.drop, "steps": one.steps}
    both = (theorem_16_i, theorem_16_i_sharp) if growing else (theorem_16_ii, theorem_16_ii_sharp)
    for mine, library, W in zip(
        (theorem_16.printed, theorem_16.sharp), both, (one.corollary.W, one.sharp), strict=True
    ):
        assert mine(one) / one.steps == pytest.approx(library(W=W, **known), rel=10 * EPS)


def test_the_drop_is_that_of_the_minimum():
    """f on a fine grid of Λ."""
    for p in ({**RICH, "growing": True}, {**RICH, "growing": True, "mode": "paths", "R": 0.25}):
        one = _closed_loop.build(p)
        (h,), (g,) = one.gradient[0].ravel(), one.gradient[1]
        grid = np.linspace(-one.radius, one.radius, 10001)
        values, at = h * grid**2 / 2 + g * grid, float(one.lam0[0])
        step = 2 * one.radius / 10000
        lowest = h * at**2 / 2 + g * at - values.min()
        assert lowest <= one.drop * (1 + 100 * EPS) <= lowest + h * step**2


# -- samples ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("c3", "steps", "total"), [([1, 3], 10, 88), ([1, 1], 3, 24), ([1, 1000], 5, 20)])
def test_samples_of_the_growing_schedule(c3, steps, total):
    assert samples.Run({"schedule": "growing", "steps": steps, "c3": c3}).total == total
    assert samples.Run({"schedule": "growing", "steps": steps, "c3": c3}).drawn[1] == total // 4


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(1e-6, 0.5))
def test_half_of_the_enough_iterations_are_not_always_enough(a, b, eps):
    """S is at most four times the least that is enough, where the logarithm is not negative."""
    one = samples.Enough(a, b, 1.0, eps)
    if one.steps > 8 and 2 * b >= eps:
        S = one.steps // 8
        assert (a + b * (1 + math.log(S))) / S > eps


# -- theorem 17 -------------------------------------------------------------------------------------------------
def test_the_deterministic_bounds_are_theorem_12s():
    one = _deterministic.build({**_deterministic.HALVES, "steps": 9, "behind": 0.25})
    known = {"L": one.place.constants.L_f, "alpha": one.alpha, "drop": one.drop, "steps": one.steps}
    whole, fewer = theorem_17_bound.errors(one), theorem_17_bound.fewer(one)
    assert theorem_17_bound.printed(one) / 9 == pytest.approx(
        theorem_12(errors=math.pi**2 / 6 * whole, **known), rel=10 * EPS
    )
    assert theorem_17_bound.sharp(one) / 9 == pytest.approx(
        theorem_12_sharp(errors=math.pi**2 / 6 * fewer, **known), rel=10 * EPS
    )
    seen = sum(0.25 ** one.length(s) for s in range(9))
    assert theorem_17_bound.summed(one) / 9 == pytest.approx(
        theorem_12_sharp(errors=seen * fewer, **known), rel=10 * EPS
    )


def test_the_deterministic_run_by_hand():
    """Φ = w/2, E = λw + λ²/2, w_0 = 1: λ_{s+1} = −2^(−t_s). Kills: t_s of s for s + 1, w_0 warm-started, α ≠ 1/L_f."""
    one = _deterministic.build({**_deterministic.HALVES, "steps": 9})
    lengths = [math.ceil(math.log2(s + 1)) for s in range(9)]
    assert [one.length(s) for s in range(9)] == lengths
    assert one.lams[:, 0].tolist() == [0.0, *(-(2.0**-t) for t in lengths)]
    assert one.squares == pytest.approx([0.0, *(4.0**-t for t in lengths[:-1])], abs=EPS)
    assert one.drop == pytest.approx(0.0, abs=EPS)


@pytest.mark.parametrize("base", [2, 3, 16])
def test_digits_are_exact_logarithms(base):
    exact, near = theorem_17_steps.Digits(base), Logarithmic(1 / math.log(base))
    assert [exact(base**i - 1) for i in range(6)] == list(range(6))
    assert [exact(base**i) for i in range(6)] == list(range(1, 7))
    inner = [s for s in range(1, 300) if abs(math.log(s + 1, base) - round(math.log(s + 1, base))) > 1e-9]
    assert [exact(s) for s in inner] == [near(s) for s in inner]


def test_the_sum_of_the_threshold_literally():
    for r, power, levels in ((2, 2, 3), (3, 1, 2), (2, 4, 1)):
        one = theorem_17_steps.Threshold(r, power, levels)
        S = one.base**levels + 1
        digits = theorem_17_steps.Digits(one.base)
        assert one.total() == sum(fmpq(1, r ** (2 * digits(s))) for s in range(S - 1))


# -- remark 18 --------------------------------------------------------------------------------------------------
rational_functions = st.lists(st.integers(-3, 3), min_size=1, max_size=4).map(
    lambda k: AtInfinity.ratio(fmpq_poly(k), fmpq_poly([1, 0, 1]))
)


@given(rational_functions, rational_functions, st.integers(0, 3))
def test_functions_of_kappa_are_their_values(x, y, power):
    """A field, ordered as the values at a κ beyond all roots. Kills: any operation, an order by degrees."""
    kappa = fmpq(10**6)
    for found, value in (
        (x + y, x(kappa) + y(kappa)),
        (x - y, x(kappa) - y(kappa)),
        (x * y, x(kappa) * y(kappa)),
        (x**power, x(kappa) ** power),
        (Q(1, 3) - x, fmpq(1, 3) - x(kappa)),
        (2 * x + Q(1, 2), 2 * x(kappa) + fmpq(1, 2)),
    ):
        assert found(kappa) == value
    assert (x < y, x == y, max(x, y)(kappa)) == (
        x(kappa) < y(kappa),
        x(kappa) == y(kappa),
        max(x(kappa), y(kappa)),
    )
    if y != 0:
        assert (x / y)(kappa) == x(kappa) / y(kappa)
        assert (Q(1, 3) / y)(kappa) == fmpq(1, 3) / y(kappa)
        near = y(kappa) / kappa**y.degree / y.limit
        assert abs(near - 1) <= fmpq(10) / kappa


def test_powers_of_monomials():
    at = {
        "a": (KAPPA**3 / 7, 3),
        "b": (AtInfinity.of(5), 0),
        "c": (2 * KAPPA**10 + KAPPA**9, 10),
        "d": (1 / KAPPA, -1),
    }
    assert [x.degree for x, _ in at.values()] == [power for _, power in at.values()]
    with pytest.raises(ZeroDivisionError):
        _ = (KAPPA - KAPPA).degree
    with pytest.raises(ZeroDivisionError):
        _ = KAPPA / (KAPPA - KAPPA)


def test_the_functions_of_kappa_are_what_they_are_at_a_number():
    """The same formulas at κ = 10⁹, beyond where maxima change. Kills: κ_q of another κ, the wrong maximum."""
    family, kappa = _powers.build({"seed": 5}), 10**9
    for read in (remark_18.equal, remark_18.different, remark_18.lossless, remark_18.deterministic):
        functions, numbers = read(family, KAPPA), read(family, Q(kappa))
        for name, ends in numbers.items():
            assert [x(fmpq(kappa)) for x in functions[name]] == [
                fmpq(x.numerator, x.denominator) for x in ends
            ]


@pytest.mark.parametrize("q", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("s", [0.25, 1.0])
def test_equal_steps_without_loss_keep_their_promise(q, s):
    """E‖v_k − v̄‖² on Φ̂ = (q ± s)w, E = w. Kills: m for m² or σ'₁ alone in γ, βm for βm − 1 in d_v."""
    spread, zero = np.array([q + s, q - s]).reshape(2, 1, 1), np.zeros((2, 1, 1))
    problem = FixedPointProblem(uppers.linear([1.0], n=1), AffineMap(spread, zero, np.zeros((2, 1))))
    known = Constants(q, *[1.0] * 11), Noise(d_sigma1=s**2)
    rates = _powers.without_loss(*known)
    sid = SID(t=0, k=60, rate=1, linear_rate=rates.linear.rate)
    found = linear_curve(sid, problem, np.zeros(1), w0=np.zeros(1))
    bound = rates.d_v / (rates.linear.gamma + np.arange(61))
    assert (found <= bound * (1 + 1e3 * EPS)).all()
    assert found[0] == pytest.approx(1 / (1 - q) ** 2, rel=100 * EPS)


def test_the_constants_are_the_librarys():
    """With theorem 8's steps. Kills: any term of ``corollary_10``, of ``theorem_8``."""
    family = _powers.build({"seed": 3})
    c, x = family.at(Q(7))
    for read, one_rate in ((remark_18.equal, True), (remark_18.different, False)):
        lower, linear = remark_18.steps(c, x)
        rate = max((lower, linear), key=lambda r: r.gamma)
        pair = (rate, rate) if one_rate else (lower, linear)
        rates = {"rate": pair[0].rate, "linear_rate": pair[1].rate}
        known, of = guaranteed(c, x, **rates), theorem_8(c, x, **rates, J=1)
        found = _powers.theorem_8(c, x, *pair)
        assert (found.d_w, found.d_v) == (of.d_w, of.d_v)
        assert _powers.corollary_10(c, x, found) == (known.c_b, known.c_I)
        values = read(family, Q(7))
        assert (values["d_w"], values["d_v"]) == ((of.d_w,), (of.d_v,))
        assert values["W"] == (known.W if one_rate else known.W_sharp,)


def test_the_maxima_with_noise_ahead():
    """β just above 1/(1 − q²), where noise leads in d_w and d_v. Kills: a factor of either's second term."""
    c, x = _powers.build({"seed": 3}).at(Q(7))
    beta = Q(101, 100) / (1 - c.q**2)
    steps = _powers.Steps(beta, beta * (1 + max(x.sigma2, 2 * x.d_sigma1 * c.kappa_q**2)))
    of, found = theorem_8(c, x, rate=steps.rate, J=1), _powers.theorem_8(c, x, steps, steps)
    assert (found.d_w, found.d_v) == (of.d_w, of.d_v)
    assert found.d_w > steps.gamma * c.B**2
    assert found.d_v > c.kappa_q**2 * (c.L_E**2 + x.sigma1_E) * steps.gamma


def test_what_is_no_rational_function_is_between_two():
    for kappa in (2, 10, 1000):
        assert kappa - 1 < -1 / math.log1p(-1 / kappa) < kappa
    assert remark_18.BASEL[0] < math.pi**2 / 6 < remark_18.BASEL[1]


# -- remark 19 --------------------------------------------------------------------------------------------------
def test_the_drift_is_its_recursion():
    """e_s = qᵗ(e_{s−1} + L_w‖λ_s − λ_{s−1}‖)."""
    one = remark_19.build({**remark_19.LINE, "t": 2, "straight": False})
    c, e = one.place.constants, float(np.linalg.norm(one.w0 - one.answers[0].w))
    for s in range(len(one.lams)):
        moved = float(np.linalg.norm(one.lams[s] - one.lams[s - 1])) if s else 0.0
        e = c.q**2 * (e + c.L_w * moved)
        assert remark_19.drift(one, s) == pytest.approx(e, rel=100 * EPS)


def test_warm_and_cold_starts():
    """Φ = w/2 + λ: w ← w/2 + λ by hand."""
    for warm in (True, False):
        one = remark_19.build({**remark_19.LINE, "warm": warm, "steps": 3})
        w, found = float(one.w0[0]), []
        for lam in one.lams:
            w = (w if warm else float(one.w0[0])) / 2 + float(lam[0])
            found.append(abs(w - 2 * float(lam[0])))
        assert one.errors == pytest.approx(found, rel=100 * EPS)


# -- footnote 1, large batches, BSA -----------------------------------------------------------------------------
def test_the_directions_of_the_descent():
    gradients = [np.array([1.0, 2.0]), np.array([3.0, -2.0])]
    assert footnote_1.mean(gradients).tolist() == [2.0, 0.0]
    assert footnote_1.total(gradients).tolist() == [4.0, 0.0]
    assert footnote_1.first(gradients).tolist() == [1.0, 2.0]


@given(st.floats(0.05, 0.95), st.floats(0.05, 1), st.integers(1, 40), st.integers(1, 1000))
@settings(max_examples=25)
def test_what_constant_steps_leave(q, eta, t, b):
    """The closed form in the docstring against the moments of SID."""
    one = large_batch.Lower({"q": q, "sigma1": 2.0, "B": 3.0, "eta": eta, "t": t, "b": b})
    m = 1 - q
    a = (1 - eta * m) ** (2 * t)
    expected = a * 9 + (1 - a) * eta * 2 / (b * m * (2 - eta * m))
    assert one.eps == pytest.approx(expected, rel=one.rounding)


def test_the_longest_step_costs_least():
    """x/((2 − x) log(1/(1 − x))) falls."""
    x = np.linspace(1e-3, 1 - 1e-3, 500)
    values = x / ((2 - x) * -np.log1p(-x))
    assert (np.diff(values) < 0).all()


@pytest.mark.parametrize("algorithm", ["bsa", "bsgm"])
def test_pieces_of_geometric_sequences_are_the_run(algorithm):
    """Kills: a piece's length off by one, t_k of the wrong k, samples of the other algorithm."""
    one = bsa_deterministic.Scheduled({**bsa_deterministic.SIMPLE, "algorithm": algorithm})
    start = one.algorithm.init(one.problem, np.array([4.0]), one.start)
    found = run(one.algorithm, one.problem, start, steps=100, rng=0)
    H, g = one.line
    squares = (H * found.trajectory["lam"][:-1, 0] + g) ** 2
    total, used = one.run
    assert total[:100] == pytest.approx(squares.cumsum(), rel=1e4 * EPS)
    lengths = [one.length(k) for k in range(100)]
    counted = sum(lengths) if algorithm == "bsa" else sum(2 * t + 2 for t in lengths)
    assert used[99] == counted
    if algorithm == "bsa":
        assert found.counts["lower.grad_w"] == counted


@pytest.mark.parametrize("algorithm", ["bsa", "bsgm"])
@pytest.mark.parametrize("t", [1, 2, 5])
def test_the_error_of_an_estimate_from_a_fixed_start(algorithm, t):
    """The docstring's formula against the algorithm's own step. Kills: a wrong sign, Eᵗ for E²ᵗ, b left out, Y or Z."""
    one = bsa_deterministic.Scheduled({**bsa_deterministic.SIMPLE, "algorithm": algorithm, "seed": 2})
    H, k = one.problem.lower.ww.reshape(3, 3), one.problem.lower.lw.reshape(-1)
    E, x = np.eye(3) - 2 / (1 + 1 / one.kappa) * H, np.linalg.solve(H, k)
    powers, (M, c), (slope, zero) = np.linalg.matrix_power(E, t), one.piece(t), one.line
    alpha = one.params["share"] / slope
    size, Y, Z = one.error(one.q**t)
    for lam in (-3.0, 0.0, 2.0):
        w, gradient = -lam * x, slope * lam + zero
        off = powers @ (one.start - w)
        if algorithm == "bsgm":
            off = off - powers @ off - powers @ (w + one.problem.upper.w1.reshape(-1))
        found = (lam - M * lam - c) / alpha - gradient
        assert abs(found) == pytest.approx(abs(x @ off), abs=1e3 * EPS * (1 + abs(gradient)))
        assert abs(found) <= size * one.q**t * (Y + Z * abs(gradient)) * (1 + 100 * EPS)


@pytest.mark.parametrize("algorithm", ["bsa", "bsgm"])
def test_samples_are_within_their_enclosure(algorithm):
    """At every N, literally. Kills: ⅔ for the half of it, N/2 left out, the logarithm of N for that of N + 1."""
    one = bsa_deterministic.Scheduled({**bsa_deterministic.SIMPLE, "algorithm": algorithm})
    N = np.arange(1, 4097)
    used = np.cumsum([one.length(k) if algorithm == "bsa" else 2 * one.length(k) + 2 for k in range(4096)])
    low, high = one.spent(N.astype(float))
    assert (low <= used).all()
    assert (used <= high).all()
    if algorithm == "bsa":
        corners = 16 * np.arange(1, 5) ** 4  # there T is known exactly
        exact = low[corners - 1] + 4 / 15 * corners**0.25
        assert used[corners - 1] == pytest.approx(exact, rel=10 * EPS)


@pytest.mark.parametrize("algorithm", ["bsa", "bsgm"])
@pytest.mark.parametrize("lam0", [4.0, 1e6])
@pytest.mark.parametrize("seed", range(3))
def test_the_rest_of_the_sum_is_bounded_after_any_first_iterations(algorithm, lam0, seed):
    """From near, errors lead; from far, the start. Kills: 1/s left out, δ_k of another power of q, F of the errors."""
    p = {**bsa_deterministic.SIMPLE, "algorithm": algorithm, "seed": seed, "share": 0.25, "lam0": lam0}
    one = bsa_deterministic.Scheduled(p)
    total = one.run[0]
    for first in (1, 2, 30, bsa_deterministic.FIRST):
        rounding = bsa_deterministic.LAST * EPS * total[-1]
        assert total[-1] - total[first - 1] <= one.rest(first) + rounding


# -- product variance -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("s", [0, 3])
def test_variances_are_those_of_all_draws(s):
    """Every τ and every factor, over the rationals. Kills: a weight of τ, a draw shared by factors."""
    one = product_variance.Inverse({"h": [4, 9], "r": [1, 2], "L": 10, "K": 3, "s": s})
    B, draws = one.level.backend, Draws(one.level, 1)
    r, zero = np.array(one.r, dtype=object), B.zeros((2,))
    for estimator, variance in ((ProductNeumann(3, Q(5, 4)), one.product), (SumNeumann(Q(4, 5), 2), one.sum)):
        space = estimator.space(draws)
        index = np.arange(space.size)
        z = estimator.apply(draws, space.points(index), B.zeros((1,)), zero, r)
        p = np.array([B.scalar(x) for x in space.exact_probabilities(index)])
        mean = (p[:, None] * z).sum(axis=0)
        assert (p * ((z - mean) ** 2).sum(axis=1)).sum() == variance


def test_the_table_of_the_notes():
    found = [
        f"{float(product_variance.Inverse({**product_variance.ONE, 'r': [2], 'K': K}).product):.4g}"
        for K in (1, 2, 4, 8, 16, 32, 64)
    ]
    assert found == ["0", "0.0625", "0.4492", "1.674", "4.333", "9.667", "20.33"]
