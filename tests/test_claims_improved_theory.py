"""The claims of ``improved-bilevel`` on sets of minimisers, BiG-SAM and theorem 1: formulas by a second channel."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from flint import fmpq

import refimpl as ri
from refimpl.solvers import Averaging
from verification.claims.improved_bilevel import (
    _families,
    _instances,
    _intervals,
    _rates,
    lemma_2,
    lemma_2_descent,
    lemma_2_limit,
    lemma_2_powers,
    lemma_2_projected,
    lemma_2_rate,
    lemma_2_rate_value,
    lemma_3,
    proof_29,
    prop_1,
    theorem_1,
    theorem_1_uniform,
)

EPS = float(np.finfo(float).eps)
KINDS = _instances.KINDS


def case(kind: str = "quadratic", **more):
    """Three dimensions, one flat; a slab needs Q = I."""
    q = [1.0, 1.0, 1.0] if kind == "slab" else [1.0, 2.0, 5.0]
    params = {"kind": kind, "d": 3, "x": [0.5, 0.0, 0.1], "q": q, "knee": 0.3, "turn": 2, "tilt": 3}
    return _instances.Case(
        _instances.line(**{**params, "a": [1.0, -2.0, 3.0], "start": [1.0, 0.5, -1.0], **more})
    )


# -- the instances ------------------------------------------------------------------------------------------------


def test_the_three_lines_are_the_librarys_solver():
    of = case(share=0.75, gamma=0.6)
    states = lemma_2_limit.library(of)
    assert np.abs(states - of.run[0]).max() <= of.rounding


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_derivatives(kind):
    of = case(kind)
    rng, h = np.random.default_rng(0), 1e-6
    for w in rng.uniform(-2, 2, (20, 3)):
        for value, grad in ((of.G, of.grad_G), (of.F, of.grad_F)):
            found = [(value(w + h * e) - value(w - h * e)) / (2 * h) for e in np.eye(3)]
            assert np.abs(found - grad(w)).max() <= 40 * (h + EPS * (1 + value(w)) / h)  # h'' jumps at a knee


@pytest.mark.parametrize("kind", KINDS)
def test_the_solution_minimises_F_among_minimisers_of_G(kind):
    of = case(kind)
    w = of.solution
    assert np.linalg.norm(of.grad_G(w)) <= of.rounding
    rng = np.random.default_rng(1)
    for step in rng.uniform(-1, 1, (200, 3)):
        other = w + step
        if kind == "slab":  # its projection on the slab
            u = other @ of.R
            other = of.R @ np.where(of.x > 0, np.clip(u, -0.3, 0.3), u)
        else:
            other = w + of.flat @ (of.flat.T @ step)
        assert of.G(other) <= of.G(w) + of.rounding
        assert of.F(other) >= of.F(w) - of.rounding


def test_the_printed_beta():
    of = case(share=0.75)
    low, high = 1.0, 5.0
    assert of.beta == pytest.approx(math.sqrt(1 - 2 * of.t * low * high / (low + high)), rel=10 * EPS)
    longest = case(share=1.0)
    assert longest.beta == pytest.approx((high - low) / (high + low), rel=100 * EPS)


def test_where_the_printed_bound_is_tightest_in_one_dimension():
    """(ξ − 1 + e^{−ξ})²/(4ξ³) at its largest, ξ = sHk, as sH → 0."""
    xi = np.linspace(0.5, 6, 100001)
    limit = float(((xi - 1 + np.exp(-xi)) ** 2 / (4 * xi**3)).max())
    ratios = []
    for x in (0.04, 0.02, 0.01):
        of = _instances.Case(_instances.line(x=[x], start=[1.0], K=int(4 / x)))
        observed, _ = lemma_2.gaps(of)
        ratios.append(float((observed / lemma_2.printed(of)).max()))
    errors = [abs(r - limit) for r in ratios]
    assert errors[2] < errors[1] < errors[0] < 0.1 * limit  # first order in sH
    assert limit == pytest.approx(0.04035, abs=5e-6)


def test_the_tightest_case_found_of_the_printed_bound():
    """G = δ|w| but for a small knee, δ = 3/(2k): 3/32 of the bound as k grows."""
    ratios = []
    for k in (60, 240, 960):
        of = _instances.Case(_instances.line(kind="huber", knee=1.5 / k, K=k))
        ratios.append(float((lemma_2.gaps(of)[0] / lemma_2.printed(of)).max()))
    errors = [3 / 32 - r for r in ratios]
    assert 0 < errors[2] < errors[1] / 3 < errors[0] / 9  # first order in 1/k


# -- lemma 2 ------------------------------------------------------------------------------------------------------


def test_the_energy_is_its_definition():
    of = case(within=True, share=0.9, gamma=0.4, K=60)
    values, _ = lemma_2_descent.energy(of)
    first = math.floor(of.c)
    A = 0.0
    assert values[0] == pytest.approx(0.5 * np.sum((of.run[0][first] - of.solution) ** 2), rel=100 * EPS)
    for place, k in enumerate(range(first + 1, 61), start=1):
        alpha = of.c / k
        A += 1 - alpha
        epsilon = of.t * alpha / (1 - alpha)
        w = of.run[0][k]
        psi = of.s * (of.G(w) - of.G(of.solution)) + epsilon * (of.F(w) - of.F(of.solution))
        expected = A * psi + 0.5 * np.sum((w - of.solution) ** 2)
        assert values[place] == pytest.approx(expected, abs=1e4 * EPS * (1 + abs(A * psi)))


def test_the_constant_of_the_energy():
    assert lemma_2_descent.kappa(case(gamma=0.5, share=1.0)) == 0.5  # m >= 2γ
    of = _instances.Case(_instances.line(gamma=0.1, share=1.0))
    m = 0.2  # β = 0
    assert lemma_2_descent.kappa(of) == pytest.approx(0.5 * math.exp(m * (1 - m)), rel=10 * EPS)


def test_the_fixed_points_of_the_steps_stay_within_the_tracking_constant():
    of = case(share=0.75, gamma=0.8)
    Y, D = lemma_2_limit.tracking(of)
    H = (of.R * of.x) @ of.R.T
    before = None
    for k in (int(2 * of.c) + 3, 200, 2000):
        epsilon = of.t * (of.c / k) / (1 - of.c / k)
        p = np.linalg.solve(of.s * H + epsilon * of.Q, epsilon * of.Q @ of.a)
        assert np.linalg.norm(p - of.solution) <= D * epsilon
        if before is not None:
            assert np.linalg.norm(p - before[0]) <= D * (before[1] - epsilon)
        before = (p, epsilon)
    assert Y > 2 * D * of.t * of.c


@pytest.mark.parametrize("seed", range(20))
def test_the_selected_corner_or_face_is_the_best_of_a_grid(seed):
    rng = np.random.default_rng(seed)
    params = {
        "Q": [int(rng.integers(1, 5)), int(rng.integers(1, 5)), int(rng.integers(-6, 7))],
        "box": rng.integers(-3, 4, (2, 2)).tolist(),
        "a": rng.integers(-9, 10, 2).tolist(),
    }
    of = lemma_2_limit.Boxed(params)
    best = of.value(of.selected)
    grids = [[low + Fraction(i, 12) * (high - low) for i in range(13)] for low, high in of.box]
    assert all(of.value((x, y)) >= best for x in grids[0] for y in grids[1])


BOTH = [[1, 4], [-1, 2]]
SPATIALS = [
    _rates.spatial((1, 2), b=BOTH, turn=[3, 4, 5]),
    _rates.spatial((2, 1), b=[[-1, 2], [1, 8]], r0=[1, 1], h=[1, 2], ratio=[3, 2]),
    _rates.spatial((1, 1), b=[[1, 2], [1, 4]], p=[3, 2], late=4, least=[1, 2], turn=[-4, 3, 5]),
    _rates.spatial((5, 4), share=[1, 1], turn=[0, 1, 1]),
    _rates.spatial((3, 2), b=[[0, 1], [1, 8]], late=1, n0=[[1, 1], [50, 1]], ratio=[4, 1]),
    _rates.spatial((1, 4), b=[[1, 8], [1, 2]], ratio=[4, 1], least=[3, 2]),  # ctλ_2 = 1
]


def minimum_of_F(of):
    """∇F(w_λ) = (g, 0, 0)."""
    Q = np.array([[float(entry) for entry in row] for row in of.matrix])
    solution = np.array([0.0, 2.0, -1.0])
    return Q, solution, solution - np.linalg.solve(Q, np.array([float(of.g), 0.0, 0.0]))


@pytest.mark.parametrize("params", SPATIALS)
def test_spatial_errors_are_the_librarys(params):
    """γ from e and eigenvalues found anew. Kills: λ_max in e, c without t, the middle root in β, −g, an unturned Q."""
    of = _rates.Spatial(params)
    Q, solution, a = minimum_of_F(of)
    assert a[0] == pytest.approx(float(of.a), rel=100 * EPS)  # what the family says it is
    low, high = np.linalg.eigvalsh(Q)[[0, -1]]
    s, t, q = float(of.s), float(of.t), np.linalg.eigvalsh(Q[1:, 1:])
    assert q == pytest.approx([float(x) for x in of.flat], rel=100 * EPS)
    for vector, value in zip(of.axes, of.flat, strict=True):
        v = np.array([float(x) for x in vector])
        assert Q[1:, 1:] @ v == pytest.approx(float(value) * v, abs=100 * EPS)
    assert t * (low + high) <= 2 * (1 + 10 * EPS)
    beta = ri.solvers.contraction_of(low, high, t)
    assert beta**2 == pytest.approx(float(of.beta_squared.mid()), abs=100 * EPS)
    upper = ri.zoo.quadratic.objective(ww=Q, w1=-Q @ a, n=1)
    problem = ri.BilevelProblem(upper, ri.zoo.quadratic.objective(ww=np.diag([float(of.h), 0.0, 0.0]), n=1))
    alpha = Averaging(beta, float(of.e) * (1 - beta) / (2 * t * q[0]))
    start = solution + np.array([float(x) for x in of.errors[0]])
    states = ri.solvers.BiGSAM(of.K, s=s, t=t, alpha=alpha).run(problem, np.zeros(1), start, keep=None).states
    found = np.array([[float(x) for x in entries] for entries in of.errors])
    size = 1 + np.abs(start).max()
    assert np.abs(np.array(states) - solution - found).max() <= of.K * 100 * EPS * size


@pytest.mark.parametrize("params", SPATIALS)
def test_the_scalar_recursions_of_the_spatial_family(params):
    """What the enclosure rests on, exactly at every k > l. Kills: κ without c, a sign in ρ, e_2 for e_1."""
    of = _rates.Spatial(params)
    for k in of.ks:
        (r, *_), (before, *_) = of.errors[k], of.errors[k - 1]
        now, flat = of.flats(k), of.flats(k - 1)
        pushed = of.tau * (of.b[0] * flat[0] + of.b[1] * flat[1])
        assert k * r == (1 - of.x + of.kappa / (k - 1)) * (k - 1) * before + of.x * of.rho - pushed
        assert k * abs(r) <= of.S
        low, high = of.range(k)
        assert low <= abs(r) <= high
        for i, e in enumerate(of.exponents):
            assert now[i] == (1 - e / k) * flat[i] - of.tau * of.b[i] / k * before
            assert abs(now[i] - of.products[i][k] * of.flats(of.first)[i]) <= of.added(i, k)
        assert now[0] ** 2 + now[1] ** 2 == sum(x**2 for x in of.errors[k][1:])


@pytest.mark.parametrize("params", SPATIALS)
def test_what_is_added_along_the_null_space_is_the_telescoped_sum(params):
    """Z_ik = ct|b_i|S Σ P_ik/P_ij /(j(j−1)): no term is lost. Kills: 1 − e for e − 1, l for k, P_1 for P_2."""
    of = _rates.Spatial(params)
    for i in _rates.FLAT:
        for k in (of.first + 1, of.K):
            P = of.products[i]
            terms = [P[k] / P[j] / (j * (j - 1)) for j in range(of.first + 1, k + 1)]
            assert of.added(i, k) == of.tau * abs(of.b[i]) * of.S * sum(terms)


@pytest.mark.parametrize("params", SPATIALS)
def test_what_bounds_the_range_obeys_its_recursion(params):
    """v_k >= (1 − x + |κ|/(k−1))v_{k−1} + Φ/(k−1). Kills: 1 for 2 in A, x for x/2."""
    of = _rates.Spatial(params)
    for forced in (of.at_first[2] / 100, of.at_first[2], 50 * of.at_first[2]):
        assert of.strays(of.first, forced) >= of.at_first[2]
        for k in of.ks:
            grown = (1 - of.x + abs(of.kappa) / (k - 1)) * of.strays(k - 1, forced)
            assert of.strays(k, forced) >= grown + forced / (k - 1)


@pytest.mark.parametrize("params", SPATIALS)
def test_the_constants_of_the_enclosure_pass_their_own_induction(params):
    """S, Φ and V_k. Kills: |ρ| for 2|ρ| in S, l|n_l| or what is coupled left out of Φ, the start left out of V."""
    of = _rates.Spatial(params)
    most = [of.at_first[0][i] + abs(of.b[i]) * of.S / (of.flat[i] * of.first) for i in _rates.FLAT]
    assert of.S >= of.at_first[1]
    pushed = of.tau * sum(abs(of.b[i]) * most[i] for i in _rates.FLAT)
    assert of.S >= (1 - of.x / 2) * of.S + of.x * abs(of.rho) + pushed
    for k in (of.first + 1, of.K):
        flat = [max(j * of.null(i, j)[1] for j in range(of.first, k + 1)) for i in _rates.FLAT]
        pushed = of.tau * sum(abs(of.b[i]) * flat[i] for i in _rates.FLAT)
        assert of.forcing(k) >= abs(of.kappa * of.rho) + pushed
    start = dataclasses.replace(of)
    for u_l in (of.at_first[2], 100 * of.at_first[2]):
        start.__dict__["at_first"] = (of.at_first[0], of.at_first[1], u_l)
        strays = [start.strays(j, start.forcing(of.K)) / j for j in range(of.first, of.K)]
        assert start.drift(of.K) >= sum(strays)


@pytest.mark.parametrize(
    "params",
    [*SPATIALS, _rates.spatial((1, 4), b=BOTH), _rates.spatial((1, 5)), _rates.spatial((3, 4), ratio=[3, 2])],
)
def test_no_state_within_the_enclosure_has_a_value_off_its_own(params):
    """At the ends of r, n_1 and n_2, all signs. Kills: a product or a square left out of the rest, λ_2 before n_1²."""
    of = _rates.Spatial(params)
    for k in (of.first + 1, of.K):
        ranged, flat, rest = lemma_2_rate_value.around(of, k)
        top, v = of.range(k)[1], of.strays(k, of.forcing(k))
        tips = [(of.rho - v) / k, (of.rho + v) / k, -top, top]
        inside = [r for r in tips if abs(r) <= top and abs(k * r - of.rho) <= v]
        assert inside
        (few, many), (least, most) = (of.null(i, k) for i in _rates.FLAT)
        signed = [(n, m) for n in (-many, -few, few, many) for m in (-most, -least, least, most)]
        for r, (n, m) in itertools.product(inside, signed):
            squares = of.p * r * r + of.flat[0] * n * n + of.flat[1] * m * m
            value = of.g * r + squares / 2 + r * (of.b[0] * n + of.b[1] * m)
            assert abs(value - ranged - flat) <= rest


@pytest.mark.parametrize("turn", [[1, 0, 1], [3, 4, 5], [0, 1, 1]])
@pytest.mark.parametrize(
    ("e", "b", "ratio"),
    [((1, 2), [1, 8], [2, 1]), ((2, 1), [1, 4], [2, 1]), ((3, 4), [1, 8], [2, 1]), ((1, 4), [0, 1], [3, 1])],
)
def test_the_secants_exponent_lies_where_the_enclosure_says(e, b, ratio, turn):
    """min(1, e) with e of λ_min lies there as well, and that of λ_max does not, where the two differ."""
    of = _rates.Spatial(_rates.spatial(e, b=[b, b], ratio=ratio, turn=turn, late=8, times=16))
    k, K = of.K // 4, of.K
    (low, high), (least, most) = of.squares(k), of.squares(K)
    ends = [math.log(float(x)) / math.log(16) for x in (low / most, high / least)]
    secant = math.log(float(lemma_2_rate.square(of, k) / lemma_2_rate.square(of, K))) / math.log(16)
    exponents = np.linalg.eigvalsh(minimum_of_F(of)[0][1:, 1:]) * float(of.tau)
    # Π(1 − e/i) is at most ((k + 1)/(K + 1))^e, not (k/K)^e
    shift = exponents[0] * math.log((1 + 1 / k) / (1 + 1 / K)) / math.log(4)
    assert ends[0] <= secant <= ends[1]
    assert ends[0] < min(1, exponents[0]) < ends[1] + shift
    assert ends[1] + shift < min(1, exponents[1]) or exponents[0] >= 1


@pytest.mark.parametrize("turn", [[1, 0, 1], [3, 4, 5], [-4, 3, 5]])
@pytest.mark.parametrize("e", [(1, 4), (1, 2), (3, 4)])
def test_no_other_eigenvalue_encloses_the_distance(e, turn):
    """The negative control of the exponent: λ_max, the mean or a diagonal entry for λ_min, and λ_min for λ_max."""
    of = _rates.Spatial(_rates.spatial(e, turn=turn, late=4))
    both = _rates.Spatial(_rates.spatial(e, turn=turn, late=4, n0=[[1, 100], [5, 1]]))
    measure = lemma_2_rate.of_distance()
    assert not measure(of).exceeds()
    assert not measure(both).exceeds()
    mean = sum(of.flat) / 2
    assert lemma_2_rate.told(lemma_2_rate.largest, measure)(of).exceeds()
    assert lemma_2_rate.told(lambda case: (mean, mean), measure)(of).exceeds()
    assert lemma_2_rate.told(lemma_2_rate.smallest, measure)(both).exceeds()
    if turn[0] * turn[1]:
        assert lemma_2_rate.told(lemma_2_rate.diagonal, measure)(of).exceeds()


@pytest.mark.parametrize("e", [(1, 4), (1, 3), (1, 2), (2, 3), (1, 1), (2, 1)])
def test_what_leads_in_the_value(e):
    """The rest falls faster than what leads over a factor of 4 in k, up to its share O(1/l) of the second term."""
    of = _rates.Spatial(_rates.spatial(e, late=32, times=16))
    shares = []
    for k in (of.K // 16 + 1, of.K // 4, of.K):
        ranged, flat, rest = lemma_2_rate_value.around(of, k)
        assert ranged < 0 < flat
        leads = max(-ranged, flat)
        assert (leads == flat) == (of.e <= fmpq(1, 2)) or k < of.K  # at ½ it is the start that decides
        shares.append(float(rest / leads))
    assert shares[2] < shares[1] < shares[0]


@pytest.mark.parametrize("params", SPATIALS)
def test_values_of_the_spatial_family(params):
    of = _rates.Spatial(params)
    Q, solution, a = minimum_of_F(of)

    def F(w):
        return (w - a) @ Q @ (w - a) / 2

    for k in (0, 1, of.first, of.K):
        w = solution + np.array([float(x) for x in of.errors[k]])
        assert F(w) - F(solution) == pytest.approx(float(of.gap(k)), abs=1e3 * EPS * (F(w) + F(solution)))


@pytest.mark.parametrize(("e", "allowed"), [((2, 1), True), ((5, 2), True), ((3, 1), False)])
def test_gamma_is_decided_by_squares(e, allowed):
    """Q = diag(2, 1, 2), t = 1/4: γ = 2e(1 − √(2/3)) is at most 1 up to e = 2.725."""
    of = _rates.Spatial(_rates.spatial(e))
    assert lemma_2_rate.ALLOWED.predicate(of)[0] is allowed
    assert (2 * float(of.e) * (1 - (2 / 3) ** 0.5) <= 1) is allowed


def test_shares_are_rounded_up_and_never_to_the_other_side_of_1():
    tiny = fmpq(1, 10**30)
    assert lemma_2_rate.tightest([(fmpq(1) - tiny, fmpq(1))]).observed == 1
    assert lemma_2_rate.tightest([(fmpq(1) + tiny, fmpq(1))]).exceeds()
    assert not lemma_2_rate.tightest([(fmpq(0), fmpq(0))]).exceeds()
    assert lemma_2_rate.tightest([(tiny, fmpq(0)), (fmpq(1, 2), fmpq(1))]).exceeds()


@pytest.mark.parametrize(("e", "m"), [(2, 2), (3, 5), (1, 1)])
def test_products_telescope(e, m):
    k = m + 20
    exact = Fraction(1)
    for i in range(m + 1, k + 1):
        exact *= 1 - Fraction(e, i)
    assert exact == Fraction(math.perm(m, e), math.perm(k, e))
    found, low, high = lemma_2_powers.product({"e": float(e), "m": m, "k": k})
    assert found == pytest.approx(float(exact), rel=100 * EPS)
    assert low <= found * (1 + 100 * EPS) <= high * (1 + 200 * EPS)


def test_the_orthants_minimisers():
    of = lemma_2_projected.Orthant(lemma_2_projected.PLANE)
    grid = np.linspace(0, 3, 61)
    points = np.array([[x, y] for x in grid for y in grid])
    gaps = of.gap(points)
    assert gaps.min() >= -of.rounding
    best = points[gaps <= of.rounding]
    F = ((best - of.entries("a")) ** 2).sum(axis=1)
    assert np.array_equal(best[np.argmin(F)], of.solution)
    off = points - np.where(of.entries("x") > 0, of.solution, points)
    assert (gaps >= of.growth / 2 * (off**2).sum(axis=1) - of.rounding).all()


# -- proposition 1, lemmas 1 and 3 --------------------------------------------------------------------------------

GRID = [Fraction(i, 24) for i in range(-24, 25)]


@pytest.mark.parametrize("h", [0, 1, 3])
@pytest.mark.parametrize("e", [-4, -1, 0, 2])
def test_minimisers_and_growth_of_the_interval_family(h, e):
    of = _intervals.Lower(Fraction(h), Fraction(e), Fraction(1))
    assert min(of(w) for w in GRID) >= of.least
    assert all(of.distance(w) == 0 for w in GRID if of(w) == of.least)
    quotients = [2 * (of(w) - of.least) / of.distance(w) ** 2 for w in GRID if of.distance(w)]
    if of.growth is None:
        assert not quotients
    else:
        assert all(q >= of.growth for q in quotients)
        if h == 0 or abs(e) <= h or (h, e) == (0, -1):
            assert min(quotients) == of.growth  # attained at the far end or at every one


@pytest.mark.parametrize("seed", range(30))
def test_delta_and_hausdorff_of_the_interval_family(seed):
    rng = np.random.default_rng(seed)
    of = _intervals.Pair(
        {
            "h": [int(rng.integers(0, 3)), int(rng.integers(0, 3))],
            "e": rng.integers(-3, 4, 2).tolist() if seed % 2 else [0, int(rng.integers(-2, 3))],
            "k": rng.integers(-3, 4, 2).tolist(),
            "q": 1,
            "a": 3,
            "lam": [0, 1],
            "mu": [1, 1],
        }
    )
    if seed % 3 == 0:
        of = _intervals.Pair({**of.params, "h": [0, of.params["h"][1]], "e": [0, of.params["e"][1]]})
    sets = [one.argmin for one in (of.first, of.second)]
    inside = [w for w in GRID + [x for s in sets for x in s] if any(low <= w <= high for low, high in sets)]
    assert of.delta >= max(abs(of.first(w) - of.second(w)) for w in inside)
    points = [[w for w in inside if low <= w <= high] for low, high in sets]
    far = max(
        *(min(abs(x - y) for y in points[1]) for x in points[0]),
        *(min(abs(x - y) for y in points[0]) for x in points[1]),
    )
    assert of.hausdorff == far


def test_what_the_sets_approach():
    """Against the sets at λ_n = 2^{−n}, exact from the first n on for a family through 0."""
    for slope in (-3, -1, 0, 1):
        of = _intervals.Pair(_intervals.pair(h=[0, 2], e=[0, slope]))
        near = of.at(Fraction(1, 2**20)).argmin
        assert of.approached.argmin == near
    kept = _intervals.Pair(_intervals.pair(h=[1, 1], e=[1, 0]))
    assert kept.approached is kept.first


@pytest.mark.parametrize("seed", range(30))
def test_growth_of_a_staircase(seed):
    rng = np.random.default_rng(seed)
    params = {"widths": rng.integers(1, 7, 3).tolist(), "slopes": rng.integers(0, 9, 3).tolist()}
    of = prop_1.Staircase({**params, "last": int(rng.integers(1, 9))})
    us = [*(Fraction(i, 60) for i in range(1, 1200)), Fraction(10**6)]

    def value(u):
        start, at, slope, curvature = [p for p in of.pieces if p[0] <= u][-1]
        return at + slope * (u - start) + curvature * (u - start) ** 2 / 2

    quotients = [2 * value(u) / u**2 for u in us]
    assert all(q >= of.sigma for q in quotients)
    assert min(quotients) <= of.sigma + Fraction(
        1, 1000
    )  # the grid is 1/60 from the minimum, or it is far out
    knots = [p[0] for p in of.pieces if p[0]]
    assert all(value(u) == p[1] for u, p in zip(knots, [p for p in of.pieces if p[0]], strict=True))


@pytest.mark.parametrize("slopes", [[4, 4, 4, 4], [1, 8, 0, 3], [8, 1, 5, 2]])
def test_the_smallest_curvature_beside_a_disc(slopes):
    """Second differences in the plane of an antiderivative by sums. Kills: one of the eigenvalues, ρ without r."""
    eps, widths, r, h = 0.5, [1, 3, 2], 1.0, 1e-3
    found = prop_1.disc({"r": 4, "eps": [1, 2], "widths": widths, "slopes": slopes})
    starts = np.cumsum([0.0, *(eps * width / 4 for width in widths)])
    steps = np.diff([0.0, *np.array(slopes) / 4])

    def G(x, y):
        beyond = np.maximum(np.hypot(x, y) - r - starts, 0.0)  # φ'' is a sum of steps
        return float(steps @ beyond**2) / 2

    smallest = []
    for dist in np.linspace(eps, 2 * eps, 401)[2:-2]:
        if np.abs(dist - starts).min() > 2 * h:  # no kink of φ' within the differences
            x = r + dist
            across = (G(x + h, 0) - 2 * G(x, 0) + G(x - h, 0)) / h**2
            smallest.append(min(across, (G(x, h) - 2 * G(x, 0) + G(x, -h)) / h**2))
    # the grid is 2 h = eps/400 from the end where the smallest is: a slope of at most 2L/ρ there
    assert min(smallest) == pytest.approx(
        float(found.smallest), abs=3 * h * 2 * float(found.L) / r + 10 * EPS / h**2
    )
    kinked = {"r": 4, "eps": [1, 8], "widths": [1, 1, 4], "slopes": [4, 4, 4, 4], "kink": 4}
    assert prop_1.disc(kinked).smallest == 1  # ½max(‖w‖² − 1, 0)


def test_tables_that_escape():
    """Closed forms of what the claim evaluates; the other f's sets by hand."""
    away, broken = lemma_3.Escape(Fraction(1), False), lemma_3.Escape(Fraction(1), True)
    for K in (1, 2, 7):
        for of in (away, broken):
            assert of.chosen(K) == K
            assert of.f_K(K)[K] == -Fraction(1, K)
        assert away.lams[K] == K
        assert broken.lams[K] == Fraction(1, K)
    assert lemma_3.limits(broken).observed == 1  # f(0) − inf f
    assert lemma_3.limits(away).observed == 1  # |λ_1 − 0|, the nearest


def test_the_smallest_case_of_29_by_hand():
    of = proof_29.Quartic(proof_29.SMALLEST)
    assert of.difference == (Fraction(8, 3), Fraction(7, 3))
    # ξ² + (ξ + 1)² = 8/3 and (ξ + 1)² = 7/3: ξ² = 1/3, so 2ξ = 1
    (a, b, c), (p, q, r) = of.coefficients(0), of.coefficients(1)
    assert (a, b, c) == (2, 2, Fraction(-5, 3))
    assert (p, q, r) == (1, 2, Fraction(-4, 3))
    assert of.resultant != 0
    one_term = proof_29.Quartic({**proof_29.SMALLEST, "terms": [[1, 1, 0, 0], [1, 1, 0, 0]]})
    assert one_term.resultant == 0  # one direction: the theorem on the line


# -- theorem 1 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stairs", [False, True])
def test_the_turning_family(stairs):
    of = _families.Turning(theorem_1_uniform.turning(d=3, q=[1.0, 2.0, 4.0], tilt=2, stairs=stairs))
    across = (of.normals * of.solutions).sum(axis=1) - of.levels
    assert np.abs(across).max() <= of.rounding
    g = of.grad_F(of.solutions)
    assert np.abs(g - (g * of.normals).sum(axis=1)[:, None] * of.normals).max() <= of.rounding  # g along n
    u = np.linspace(-5, 5, 2001)
    slope = np.abs(_families.staircase(u)) if stairs else np.abs(u)
    assert (np.abs(u) <= slope * of.h / of.rho * (1 + 10 * EPS)).all()


TURNINGS = [
    theorem_1_uniform.turning(),
    theorem_1_uniform.turning(stairs=True, gamma=0.6, s=0.5),
    theorem_1_uniform.turning(d=3, q=[1.0, 2.0, 4.0], tilt=2, share=0.5, a=[2.0, -1.0, 1.0]),
    theorem_1.ALONG,
    theorem_1.SLOW,
    theorem_1.UNEVEN,
]


@pytest.mark.parametrize("params", TURNINGS)
def test_the_majorants_are_above_the_distances(params):
    """Both, at every k and λ. Kills: X without t‖g‖, α_k for 1 − α_k, 1 − sσ for its root."""
    of = _families.Turning(params)
    X, D = of.majorants
    across = np.abs((of.states[1:] * of.normals).sum(axis=-1) - of.levels)
    assert (across <= X + of.rounding).all()
    assert (np.linalg.norm(of.states[1:] - of.solutions, axis=-1) <= D + of.rounding).all()


def test_where_the_majorants_are_the_distances():
    """ν = 0, sσ = 1: X_k = α_kt‖g‖; g = 0: D_k is the product of 1 − α_jtσ_F."""
    of = _families.Turning(theorem_1_uniform.turning())
    alphas = np.minimum(of.c / of.ks, 1.0)[:, None]
    assert of.majorants[0] == pytest.approx(alphas * of.t * of.slopes, rel=100 * EPS)
    along = _families.Turning(theorem_1.ALONG)
    alphas = np.minimum(along.c / along.ks, 1.0)
    left = np.cumprod(1 - alphas * along.t)
    assert along.majorants[1] == pytest.approx(np.outer(left, np.ones(17)), rel=100 * EPS * along.K)
    assert along.above == pytest.approx(along.errors, rel=100 * EPS * along.K)


@pytest.mark.parametrize("stairs", [False, True])
@pytest.mark.parametrize("s", [1.0, 0.3])
def test_what_is_left_of_the_distance_after_a_step_on_G(stairs, s):
    """√(1 − sσ), σ the growth: φ by sums of φ'."""
    of = _families.Turning(theorem_1_uniform.turning(stairs=stairs, s=s, h=0.5))
    u = np.linspace(0, 4, 40001)
    slope = _families.staircase(u) if stairs else u
    value = np.concatenate([[0.0], np.cumsum((slope[1:] + slope[:-1]) / 2 * np.diff(u))])
    quotients = 2 * of.h * value[1:] / u[1:] ** 2
    # the trapezoid's error at a jump of φ'' by 1: at most 1/8 of a square of the grid's step at each of three
    assert (quotients >= of.growth - 2 * of.h * (3 / 8) * (u[1] ** 2) / u[1:] ** 2).all()
    left = np.abs(u - of.s * of.h * slope)
    assert (left <= math.sqrt(max(0.0, 1 - of.s * of.growth)) * u + 100 * EPS).all()


@pytest.mark.parametrize("params", [theorem_1_uniform.WEAK, theorem_1_uniform.turning(stairs=True)])
def test_the_majorant_of_the_distance_has_the_limit_that_is_stated(params):
    """K X_K → ct‖g‖/(1 − √(1 − sσ)), like K^{−½}: the error halves where K is four times as large."""
    ratios = []
    for K in (2000, 8000, 32000):
        of = _families.Turning({**params, "K": K, "omega": 0.0})
        limit = of.c * of.t * of.slopes / (1 - math.sqrt(1 - of.s * of.growth))
        ratios.append(float(np.abs(K * of.majorants[0][-1] / limit - 1).max()))
    assert ratios[2] < 0.6 * ratios[1] < 0.36 * ratios[0]


def test_the_floor_is_below_every_point_that_is_nearly_minimal():
    of = _families.Fading(theorem_1.fading(K=64))
    for w in np.linspace(-2, 2, 401):
        feasible = of.lams * w * w / 2 <= of.gap
        assert (of.F(np.full(len(of.lams), w))[feasible] >= of.floor[feasible] - of.rounding).all()


def test_the_drop_in_rationals_and_in_floats():
    """f_K(0) and f_K at a λ beside 0, against the float family."""
    params = {"q": [1, 1], "a": [1, 1], "w0": [3, 1], "beta": [1, 2]}
    exact = theorem_1_uniform.Drop(params)
    for place, K in enumerate(theorem_1_uniform.KS):
        of = _families.Fading(theorem_1.fading(mu=0.0, w0=3.0, share=0.75, gamma=1.0, K=K))
        assert of.beta == 0.5
        for lam in (Fraction(0), Fraction(1)):
            at = int(np.flatnonzero(of.lams == float(lam))[0])
            assert of.reached[at] == pytest.approx(float(exact.reached(lam)[place]), abs=of.rounding)
