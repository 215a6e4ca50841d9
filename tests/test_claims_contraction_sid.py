"""What the claims about SID's error rest on, by second channels: loops over paths, closed forms, other formulas."""

from __future__ import annotations

import dataclasses
import itertools as it
import math
from fractions import Fraction

import numpy as np
import pytest
from flint import fmpq
from hypothesis import given
from hypothesis import strategies as st

from refimpl import check_derivatives
from refimpl.approximate import SID, guarantees
from refimpl.approximate.sid_moments import sid_moments
from refimpl.arrays import to_numpy
from refimpl.constants import Constants, Noise, Region, noise
from refimpl.problem import FixedPointProblem
from refimpl.rates import Constant, Harmonic
from refimpl.solvers import LU, Newton
from verification.claims.contraction import (
    _matched,
    _sid,
    _sizes,
    _spaces,
    _trials,
    any_solver,
    corollary_10,
    eq_3,
    eq_4,
    independence,
    j_floor,
    lemmas_22_24_iv,
    lemmas_22_27,
    spectral_variance,
    theorem_5,
    theorem_7,
)
from verification.claims.contraction._curved_map import CurvedMap
from verification.claims.contraction._sid import mean, square
from verification.claims.contraction._sid_instances import LAWS, UNIT, build, steps
from verification.claims.contraction._trials import FULL, LOWER_ONLY, ONE, SMALL, line
from verification.claims.contraction.decomposition import BENT, NOISY
from verification.hunt import canonical, evaluate
from verification.runner import discover

EPS = float(np.finfo(float).eps)
MODULES = (
    "theorem_4_stochastic",
    *("theorem_5", "theorem_6", "theorem_7", "corollary_10", "decomposition", "independence", "any_solver"),
    *("j_floor", "spectral_variance", "lemmas_22_27", "lemmas_22_24_iv", "eq_3", "eq_4"),
)
CLAIMS = [
    found.claim
    for found in discover("verification.claims.contraction").values()
    if found.module.rsplit(".", 1)[-1] in MODULES
]


# -- SID on a line, path by path, in Fractions -------------------------------------------------------------------


def number(p, name):
    return Fraction(p.get(name, 0), UNIT)


COEFFICIENTS = ("q", "s", "n", "b", "r", "nu1", "g", "nu2", "h", "e", "a", "m1", "l", "x", "m2", "y")


def literal(p):
    """∇̂f, v_k − v̄ and the path of (6) on every path; Algorithm 1 in scalars."""
    law = [z for (z,) in zip(*LAWS["signs"], strict=True)]
    of = {name: number(p, name) for name in COEFFICIENTS}
    rate = steps(p["steps"])
    found = []
    t, k, J = p["t"], p["k"], p["J"]
    shared = p.get("share", ())
    for zs, hs, cs, xs in it.product(*(it.product(law, repeat=m) for m in (t, k, J, J))):
        groups = {"lower": list(zs), "linear": list(hs), "cross": list(cs), "upper": list(xs)}
        if shared and shared[0] == shared[1]:
            groups[shared[0]] = [groups[shared[0]][-1]] * len(groups[shared[0]])
        elif shared:
            groups[shared[1]][0] = groups[shared[0]][-1]
        w = number({"w0": p["w0"][0]}, "w0")
        for i, z in enumerate(groups["lower"]):
            phi = of["n"] * z + (of["q"] + of["s"] * z) * w + (of["nu1"] + of["g"] * z) * w * w / 2
            w = (1 - rate(i)) * w + rate(i) * phi
        rhs = sum(of["e"] + of["a"] * x + (of["m1"] + of["l"] * x) * w for x in groups["upper"]) / J
        direct = sum(of["x"] * x + (of["m2"] + of["y"] * x) * w for x in groups["upper"]) / J
        v = Fraction(p["v0"][0], UNIT) if "v0" in p else Fraction(0)
        for i, z in enumerate(groups["linear"]):
            slope = of["q"] + of["s"] * z + (of["nu1"] + of["g"] * z) * w
            v = (1 - rate(i)) * v + rate(i) * (slope * v + rhs)
        exact = rhs / (1 - of["q"] - of["nu1"] * w)
        cross = sum(of["b"] + of["r"] * z + (of["nu2"] + of["h"] * z) * w for z in groups["cross"]) / J
        found.append((zs, w, direct + cross * v, (v - exact) ** 2))
    return found, of["b"] * of["e"] / (1 - of["q"])


def by_hand(p):
    """bias, error, variance I, variance II, ρ and σ of the definitions."""
    found, truth = literal(p)
    groups = {}
    for zs, w, value, off in found:
        groups.setdefault(zs, []).append((w, value - truth, off))
    means = {zs: Fraction(sum(e for _, e, _ in rows), len(rows)) for zs, rows in groups.items()}
    bias = sum(means.values()) / len(means)
    upper = [sum((e - means[zs]) ** 2 for _, e, _ in rows) / len(rows) for zs, rows in groups.items()]
    return (
        bias,
        sum((value - truth) ** 2 for _, _, value, _ in found) / len(found),
        sum(upper) / len(upper),
        sum((m - bias) ** 2 for m in means.values()) / len(means),
        sum(w * w for _, w, _, _ in found) / len(found),
        max(sum(off for *_, off in rows) / len(rows) for rows in groups.values()),
    )


def of_trial(trial):
    parts = (trial.error, trial.variance_upper, trial.variance_lower, trial.rho, trial.sigma)
    return tuple(Fraction(int(x.p), int(x.q)) for x in (trial.bias[0], *parts))


EVERY = {**BENT, "J": 1}  # every coefficient, with draws of both levels


@pytest.mark.parametrize(
    "p",
    [
        EVERY,
        {**EVERY, "v0": [ONE]},
        {**NOISY, "t": 1, "k": 3},
        {**EVERY, "share": ["linear", "cross"]},
        {**EVERY, "share": ["upper", "cross"], "J": 2, "k": 1},
        {**EVERY, "share": ["cross", "cross"], "J": 2, "k": 1},
        {**NOISY, "t": 0, "J": 1},
        {**NOISY, "k": 0, "J": 1},
    ],
    ids=["every", "v0", "affine", "linear-cross", "upper-cross", "copies", "t=0", "k=0"],
)
def test_a_trial_is_algorithm_1_path_by_path(p):
    """Kills: an axis of another group, a draw shared at the other end, a conditional mean over one axis too many, σ
    about v instead of v̄, the truth at w_t."""
    assert of_trial(build(p)) == by_hand(p)


def test_a_solver_that_is_off_and_two_minibatches():
    """Kills: the sign of what ``off`` adds, a second ξ that is the first."""
    p = line(n=ONE, b=ONE, r=ONE // 2, e=ONE, a=ONE, x=ONE, t=1, off=ONE // 2)
    trial = build(p)
    # w_1 = ±1, v = 1 + ξ ± ½: ∇̂f = ξ + (1 + ζ'/2)(1 + ξ ± ½), less 1
    values = [
        x + (1 + Fraction(z, 2)) * (1 + x + Fraction(s, 2)) - 1 for s, z, x in it.product((1, -1), repeat=3)
    ]
    assert of_trial(trial)[1] == sum(v * v for v in values) / 8
    assert trial.sigma == fmpq(1, 4)
    both = build({**line(b=ONE, r=ONE, e=ONE, a=ONE, x=ONE), "split": 1})
    values = [y + (1 + z) * (1 + x) - 1 for x, y, z in it.product((1, -1), repeat=3)]
    assert of_trial(both)[1] == Fraction(sum(v * v for v in values), 8)


def test_the_values_that_are_quoted():
    """Kills: any change of the instances whose numbers the notes state."""
    full = build(FULL)
    assert (full.variance_upper, full.error) == (fmpq(63551, 36864), fmpq(146495, 36864))
    small, s = build(SMALL), build(SMALL).sizes
    assert small.variance_upper == 6
    assert [theorem_5.printed(s), _sizes.theorem_5_b(s), theorem_5.sharp(s)] == [18, 14, 10]
    assert theorem_5.linear(s) == _sizes.theorem_5_any(s) == 6
    assert theorem_5.separate(s) == 4
    assert build({**SMALL, "split": 1}).variance_upper == 4
    assert build(LOWER_ONLY).variance_lower == build(LOWER_ONLY).rho == fmpq(21, 16)
    best = build(theorem_5.BEST)
    assert float(best.variance_upper) / theorem_5.printed(best.sizes) == 5 / 8


def test_the_bias_vanishes_where_the_linear_solvers_error_does_not():
    """The numbers of theorem-4-ii@sharp's note."""
    runs = [build(line(q=ONE // 2, s=ONE // 4, b=ONE, e=ONE, k=k)) for k in range(9)]
    assert [run.bias[0] for run in runs] == [-fmpq(2) / 2**k for k in range(9)]
    assert min(math.sqrt(run.sigma) for run in runs) > 0.47
    assert 4 < theorem_7.printed(build(FULL).sizes) / float(build(FULL).error) < 5


# -- the map ------------------------------------------------------------------------------------------------------

signed = st.floats(-1, 1)
maps = st.integers(0, 1000).map(
    lambda seed: (lambda rng: CurvedMap(*(rng.uniform(-1, 1, (3, *s)) for s in _shapes(rng))))(
        np.random.default_rng(seed)
    )
)


def _shapes(rng):
    d, n = rng.integers(1, 3), rng.integers(1, 3)
    return (d,), (d, d), (d, n), (d, d, d), (d, n, d)


def symmetric(phi):
    return CurvedMap(phi.c, phi.A, phi.B, (phi.T + np.swapaxes(phi.T, -1, -2)) / 2, phi.E)


@given(maps, st.integers(0, 9))
def test_derivatives_of_the_curved_map(phi, seed):
    """Kills: the ½ of T, E in one Jacobian only, E contracted with the other variable."""
    rng = np.random.default_rng(seed)
    check_derivatives(symmetric(phi), rng.uniform(-1, 1, phi.n), rng.uniform(-1, 1, phi.d))


@given(maps, st.integers(0, 9))
def test_a_minibatch_of_the_curved_map_is_the_mean_of_its_terms(phi, seed):
    """Kills: a wrong axis of any coefficient."""
    rng = np.random.default_rng(seed)
    lam, w = rng.uniform(-1, 1, phi.n), rng.uniform(-1, 1, phi.d)
    terms = phi.at(np.arange(3))
    for each, whole in (
        (terms.value, phi.value),
        (lambda *x: terms.d_w(*x).dense(), lambda *x: phi.d_w(*x).dense()),
    ):
        assert np.allclose(each(lam, w).mean(axis=0), whole(lam, w), atol=100 * EPS)
    assert np.allclose(phi.batch(np.array([[0, 1, 2]])).value(lam, w), phi.value(lam, w), atol=100 * EPS)


@given(maps, st.floats(0, 1), st.floats(0, 1), st.integers(0, 9))
def test_bounds_of_the_curved_map(phi, lam_radius, w_radius, seed):
    """Kills: a radius dropped, T's bound for E's, the norm of one slice for that of all."""
    phi, rng = symmetric(phi), np.random.default_rng(seed)
    bounds = phi.bounds(Region(np.zeros(phi.n), np.zeros(phi.d), lam_radius, w_radius))

    def point():
        lam, w = rng.standard_normal(phi.n), rng.standard_normal(phi.d)
        return lam_radius * lam / np.linalg.norm(lam), w_radius * w / np.linalg.norm(w)

    for _ in range(5):
        (lam, w), (lam2, w2) = point(), point()
        for name in ("d_w", "d_lam"):
            at = getattr(phi, name)
            here, there = at(lam, w).dense(), at(lam, w2).dense()
            gap = np.linalg.norm(w - w2)
            allowed = 100 * EPS  # sums of at most ten terms of size 1
            assert np.linalg.norm(here, 2) <= getattr(bounds, name) + allowed
            assert np.linalg.norm(here - there, 2) <= getattr(bounds, f"{name}_by_w") * gap + allowed
        moved = np.linalg.norm(phi.d_w(lam, w).dense() - phi.d_w(lam2, w).dense(), 2)
        assert moved <= bounds.d_w_by_lam * np.linalg.norm(lam - lam2) + 100 * EPS


def test_the_noise_of_a_trial_is_that_of_the_library_where_it_is_affine():
    """Kills: a variance about the wrong mean, the squared norm of the mean, ‖E[NᵀN]‖ for ‖E[NNᵀ]‖."""
    p = {
        "kind": "random",
        "seed": 5,
        "d": 2,
        "n": 2,
        "q": 24,
        "bent": 0,
        "noise": 24,
        "law": "three",
        "upper_law": "three",
    }
    trial = build({**p, "t": 1, "k": 0, "J": 1, "steps": [1, 1], "w0": [12, -24]})
    for found, matrices in zip(trial.noise, ("spectral", "operator"), strict=True):
        expected = noise(affine(trial.problem).to("numpy"), np.zeros(2), growth=2, matrices=matrices)
        for name in ("d_sigma1", "d_sigma2", "sigma1_E", "sigma2_E"):
            assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=100 * EPS)


def affine(problem):
    """The same with the library's own family of maps."""
    from refimpl.zoo.maps import AffineMap

    phi = problem.phi
    return FixedPointProblem(problem.upper, AffineMap(phi.A, phi.B, phi.c, phi.backend))


# -- bounds -------------------------------------------------------------------------------------------------------

positive = st.floats(0, 2)


@given(
    st.builds(lambda q, *x: Constants(q, *x), st.floats(0, 0.9), *[positive] * 11),
    st.builds(Noise, *[positive] * 6),
    positive,
    positive,
    st.integers(1, 5),
)
def test_the_forms_are_ordered(c, n, rho, sigma, J):
    """Each sharper form is at most the one before it. Kills: a factor, a power of κ_q, J in the wrong place in
    reading b or in the form for any solver."""
    s = _sizes.Sizes(of=c, noise=n, operator=n, rho=rho, sigma=sigma, J=J, k=3, rate=Constant(1))
    printed = theorem_5.printed(s)
    up = 1 + 100 * EPS
    assert _sizes.theorem_5_any(s) <= printed * up
    assert theorem_5.sharp(s) <= _sizes.theorem_5_b(s) * up <= printed * up * up
    assert guarantees.theorem_4(c, rho, sigma) ** 2 <= guarantees.theorem_6(c, rho, sigma) * up
    s = dataclasses.replace(s, sigma=s.stage.sigma)
    half = guarantees.theorem_5_sharp(c, n, rho, s.sigma, J, independent=True)
    assert theorem_5.separate(s) <= half * up
    assert theorem_5.linear(s) <= theorem_5.sharp(s) * up
    assert theorem_7.linear(s) <= theorem_7.sharp(s) * up <= theorem_7.printed(s) * up * up
    twice = _sizes.changed(s, "d_sigma2", "sigma2_E", factor=2)
    assert (twice.noise.d_sigma2, twice.operator.sigma2_E, twice.of, twice.rho) == (
        2 * n.d_sigma2,
        2 * n.sigma2_E,
        c,
        rho,
    )


def test_the_constant_of_corollary_10():
    """Kills: any term of W_#, the wrong maximum in d, β² dropped."""
    one = corollary_10.Matched({**corollary_10.ALL, "t": 1})
    assert one.error() == 7
    c, n = one.stated
    assert (c.c1, c.kappa_q, c.L_Phi, c.L_E, n.sigma1, c.B) == (1, 1, 1, 1, 1, 0)
    assert corollary_10.printed(c, n, one.rate) == 114
    assert corollary_10.joint(c, n, one.rate) == 90
    assert corollary_10.sharp(c, n, one.rate) == pytest.approx(12 + 4 * math.sqrt(2), rel=10 * EPS)
    # q = 0, β = γ = 2, s = 1: σ₂ = σ'₁ = 1 and d = max{2B², …}: d_V = 4, κ = 1
    noisy = Noise(sigma1=0.5, sigma2=0.25, d_sigma1=1.0, d_sigma2=0.25, sigma1_E=3.0, sigma2_E=4.0)
    c = Constants(0.0, 1.0, 1.0, 0, 0, 0, 2.0, 0, 0, 0, 0, 0.5)
    d = max(2 * 0.25, 4 * 0.5 / (4 - 1 - 4 * 1.25 / 2))
    expected = (2 * math.sqrt(d) + math.sqrt(2)) ** 2 + (2 + math.sqrt(3)) ** 2 + 16 + 0.25 * (16 / 3 + 4)
    assert corollary_10.sharp(c, noisy, Harmonic(2, 2)) == pytest.approx(expected, rel=20 * EPS)


@given(st.integers(-36, 36), st.integers(0, 12), st.integers(-48, 48), st.integers(0, 12), st.integers(1, 6))
def test_no_iterate_leaves_the_ball_of_a_matched_run(q, s, w0, n, t):
    """Kills: s with one sign only, n left out, the step of another iteration."""
    p = corollary_10.at(t, (2, 5, 1), q=q, s=s, n=n, w0=[w0])
    reach, most = corollary_10.Matched(p).reach, Fraction(0)
    ws = {Fraction(w0, UNIT)}
    for i in range(t):
        eta = Fraction(2, 5 + i)
        most = max([most, *map(abs, ws)])
        ws = {
            (1 - eta) * w + eta * (Fraction(q + z * s, UNIT) * w + z * Fraction(n, UNIT))
            for w in ws
            for z in (1, -1)
        }
    assert max([most, *map(abs, ws)]) <= Fraction(reach) * (1 + Fraction(EPS))


@pytest.mark.parametrize(
    "p", [corollary_10.ALL, corollary_10.SCATTER, corollary_10.START, corollary_10.NOISE]
)
@pytest.mark.parametrize("t", [1, 2])
def test_every_path_of_a_matched_run_gives_its_moments_and_its_constants(p, t):
    """Kills: t, k and J mixed up, another schedule, σ₁ or σ₂ of one draw."""
    affine, curved = (kind({**p, "t": t}) for kind in (_matched.Matched, _matched.Curved))
    assert curved.mean_square_error == affine.mean_square_error
    assert curved.reach <= affine.reach
    for own, other in zip(curved.least, affine.least, strict=True):
        for name, value in vars(other).items():
            assert getattr(own, name) == pytest.approx(value, rel=10 * EPS), name


def test_the_noise_of_a_curved_matched_run_is_within_what_is_stated():
    """Kills: σ₂ without κ_q², one growth for two noises."""
    one = corollary_10.case(corollary_10.CURVED)
    n = one.least[1]
    phi = one.trial.problem.phi
    for w in np.linspace(-one.reach, one.reach, 9):
        values = [to_numpy(phi.at(k).value(one.trial.lam, _sid.Q.asarray([w])))[0] for k in ([0], [1])]
        moved = sum(values) / 2 - w
        assert (values[0] - values[1]) ** 2 / 4 <= (n.sigma1 + n.sigma2 * moved**2) * (1 + 10 * EPS)


# -- floors, solvers, shared draws --------------------------------------------------------------------------------


@pytest.mark.parametrize("J", [1, 2])
def test_the_floor_is_that_of_all_paths(J):
    """With q = s = 0 one step of (7) solves it. Kills: b without the noise of ζ', a with it twice, v(λ) for v."""
    p = line(b=ONE, r=ONE // 2, e=ONE, a=ONE // 3, x=ONE // 4, J=J)
    one = j_floor.floor({**p, "other": J})
    a, b = one.parts
    assert build(p).error == one.solved(J) == a / J + b / J**2


def test_the_error_with_solvers_is_that_of_the_moments():
    """Kills: draws on one axis, the adjoint in the other scale."""
    p = any_solver.DRAWN | {"lower": "newton", "linear": "direct"}
    one = any_solver.build(p)
    sid = SID(lower=Newton(), linear=LU(), J=p["J"])
    assert one.error == sid_moments(sid, one.problem, one.lam).mean_square_error
    assert one.reached == (0, 0)


@given(any_solver.STRATEGY)
def test_every_solver_keeps_to_the_rates_it_states(p):
    """Kills: q^t for q^{2t}, κ for 4κ, κ_q forgotten."""
    one = any_solver.build(p)
    assert all(hypothesis.predicate(one)[0] for hypothesis in any_solver.HYPOTHESES)


def test_the_error_of_one_samples_hessian():
    """5/9 of the squared adjoint, in the scale of the minimisation."""
    one = any_solver.build(any_solver.SAMPLED)
    assert one.error == fmpq(5, 9)


def test_the_bias_that_a_shared_draw_leaves_in_the_limit():
    """q = ½, s = ⅖, r = 1, η = 1: 2.8 in place of 2. Kills: the sign of the shift, the step before the last."""
    p = {"q": 60, "s": 48, "b": 120, "r": 120, "e": 120}
    scale = Fraction(UNIT, 120)  # in these units every coefficient is a rational over 48
    p = line(**{name: int(value * scale) for name, value in p.items() if value * scale == int(value * scale)})
    shift = independence.linear_cross(build({**p, "s": 24, "k": 12, "share": ["linear", "cross"]}))[0]
    assert float(shift) == pytest.approx(0.5 * 2 * (1 - 2.0**-11), rel=10 * EPS)


# -- lemmas -------------------------------------------------------------------------------------------------------


def test_symbolic_spaces_hold_every_rational_one():
    """A wrong identity's difference, evaluated, is what the numbers give. Kills: weights that do not add up to 1."""
    pair = _spaces.build({"outcomes": [2, 3], "shapes": [[1], [1]]})
    difference = lemmas_22_27.of_a_sum(pair, sign=-1)
    values = [fmpq(1, 3), fmpq(1, 2), fmpq(1, 4), *map(fmpq, (2, -1, 0, 3, 5))]
    p = {"weights": [[6, 3, 3], [12, 6, 6]], "x": [[2], [-1]], "y": [[0], [3], [5]]}
    assert difference(*values) == lemmas_22_27.of_a_sum(_spaces.build(p), sign=-1)
    assert _spaces.largest(difference) > 0


def test_variances_by_hand():
    p = {"weights": [[1, 0], [0, 1]], "x": [[1], [-1]], "y": [[1], [-1]]}
    pair = _spaces.build(p)
    assert _spaces.variance(pair, pair.X) == 1
    assert _spaces.variance(pair, pair.X + pair.y) == 4
    assert not pair.independent[0]
    assert lemmas_22_27.total_variance(pair) == 0
    assert lemmas_22_27.total_variance(pair, drop="between") == 1


def test_uncorrelated_is_not_enough_for_lemma_27():
    claim = next(claim for claim in CLAIMS if claim.id == "contraction/lemma-27")
    params = claim.controls[0].params
    assert lemmas_22_27.centred_factor(_spaces.build(params)) == fmpq(2, 9)
    pair = _spaces.build(params)
    assert pair.mean(pair.X[..., 1, :] * pair.y[..., 0, :])[0] == fmpq(2, 3)


@given(st.integers(0, 3), st.integers(0, 3), st.lists(st.integers(-5, 5), min_size=4, max_size=4))
def test_the_norms_of_lemma_24_iv(i, j, s):
    """Kills: a rotation that is none, the larger diagonal entry without its sign."""
    p = {"weights": [[1, 2], [2, 4]], "diagonals": [s[:2], s[2:]], "x": [[1, 0], [0, 1]], "turns": [i, j]}
    one = lemmas_22_24_iv.product(p)
    A = to_numpy(one.pair.x)
    centre = (A[0] + 2 * A[1]) / 3
    spread = (np.linalg.norm(A[0] - centre, 2) ** 2 + 2 * np.linalg.norm(A[1] - centre, 2) ** 2) / 3
    found = [float(x) for x in one.sizes]
    assert found == pytest.approx([spread, np.linalg.norm(centre, 2) ** 2], rel=100 * EPS, abs=1000 * EPS)


@given(st.integers(1, 3), st.integers(1, 3))
def test_the_variance_of_a_mean_of_sign_diagonals(d, J):
    """Kills: draws without replacement, the mean not divided by J."""
    one = spectral_variance.build({"signs": d, "J": J})
    N = to_numpy(one.means)
    assert float(spectral_variance.spectral(one.means)) == pytest.approx(
        (np.linalg.norm(N, 2, axis=(1, 2)) ** 2).mean(), rel=100 * EPS
    )


# -- (3) and (4) --------------------------------------------------------------------------------------------------


def test_derivatives_of_the_line():
    """w = λ/(1 − q): Kills: differences of another step, a transposed Jacobian."""
    one = eq_4.affine({"n": 2, "d": 2, "seed": 3, "sum": 2})
    A, B, *_ = (to_numpy(x) for x in one.parts)
    dw = to_numpy(one.differences[0])
    assert np.allclose(dw, np.linalg.solve(np.eye(2) - A, B), atol=100 * EPS)


@pytest.mark.parametrize("share", [0.3, 1.0, 1.7])
def test_the_norm_of_a_gradient_step(share):
    """q is the norm of I − ηH on a quadratic whose spectrum has the stated ends."""
    one = eq_3.descent(eq_3.WELL | {"share": share})
    assert np.linalg.norm(np.eye(2) - one.eta * one.hessian, 2) == pytest.approx(one.q, rel=100 * EPS)


# -- hypotheses and verdicts --------------------------------------------------------------------------------------

OWNER = {
    **dict.fromkeys(("d_sigma1", "d_sigma2"), "C(iii)"),
    **dict.fromkeys(("sigma1_E", "sigma2_E"), "C(iv)"),
    **dict.fromkeys(("nu1", "nu2"), "A(ii)"),
    **dict.fromkeys(("mu1", "mu2"), "A(iii)"),
    "q": "A(i)",
    "L_E": "A(iv)",
    "L_Phi": "B(iv)",
    "rho": "D: ρ(t)",
    "sigma": "D: σ(k)",
}
UNDERSTATED = [
    (claim, c)
    for claim in CLAIMS
    for c in claim.controls
    if "understated" in (c.params or {}) and "theorem" in claim.id
]


@pytest.mark.parametrize(
    ("claim", "control"),
    UNDERSTATED,
    ids=[f"{claim.id} {c.params['understated'][0]}" for claim, c in UNDERSTATED],
)
def test_a_constant_stated_too_small_is_noticed_by_its_own_assumption(claim, control):
    """Kills: a predicate that looks at another constant; an instance that breaks something else as well."""
    broken = evaluate(claim, claim.measure, canonical(control.params)).broken
    assert [name for name, _ in broken] == [OWNER[control.params["understated"][0]]]
    honest = {name: value for name, value in control.params.items() if name != "understated"}
    assert evaluate(claim, claim.measure, canonical(honest)).broken == ()


SHARED = [
    (claim, c)
    for claim in CLAIMS
    for c in claim.controls
    if (c.params or {}).get("share") and "theorem" in claim.id
]


@pytest.mark.parametrize(
    ("claim", "control"), SHARED, ids=[f"{claim.id} {c.params['share']}" for claim, c in SHARED]
)
def test_with_independent_draws_the_same_instance_passes(claim, control):
    """The shared draw alone breaks the bound."""
    honest = {name: value for name, value in control.params.items() if name != "share"}
    outcome = evaluate(claim, claim.measure, canonical(honest))
    assert outcome.broken == ()
    assert outcome.measurement.holds


REFUTED = [claim for claim in CLAIMS if claim.corrected is not None]


@pytest.mark.parametrize("claim", REFUTED, ids=lambda claim: claim.id)
def test_a_refuted_claim_fails_where_its_correction_passes(claim):
    for params in claim.explicit:
        assert not evaluate(claim, claim.measure, canonical(params)).measurement.holds
        assert evaluate(claim, claim.corrected.measure, canonical(params)).measurement.holds
    assert claim.corrected.proof.strip()


def test_every_kind_of_instance_occurs():
    """Kills: a strategy that never draws one of its kinds."""
    seen = set()

    @given(_trials.trials())
    def look(p):
        seen.add((p["kind"], "off" in p, "v0" in p))

    look()
    assert seen == {
        ("line", False, False),
        ("line", True, False),
        ("line", False, True),
        ("random", False, False),
    }


def test_means_and_squares():
    x = np.array([[fmpq(1), fmpq(2)], [fmpq(3), fmpq(4)]], dtype=object)
    assert square(x).tolist() == [5, 25]
    assert mean(x, 0).tolist() == [2, 3]
    assert theorem_7.linear_bias(build(FULL).sizes) == pytest.approx(2.25, rel=10 * EPS)
