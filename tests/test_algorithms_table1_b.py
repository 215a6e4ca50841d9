"""STABLE, STABLE-VR, SUSTAIN, MRBO, VRBO, saBiAdam and VR-saBiAdam against their lines written out, and what is
promised of them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import refimpl as ri
from refimpl.algorithms import Diverged, State, run
from refimpl.algorithms.chen2022stable import STABLE
from refimpl.algorithms.guo2021stablevr import STABLEVR
from refimpl.algorithms.huang2021sabiadam import SaBiAdam
from refimpl.algorithms.huang2021vrsabiadam import VRSaBiAdam
from refimpl.algorithms.khanduri2021sustain import SUSTAIN
from refimpl.algorithms.matrices import at_least, at_most, flat, rows, semidefinite
from refimpl.algorithms.pieces import capped
from refimpl.algorithms.yang2021mrbo import MRBO
from refimpl.algorithms.yang2021vrbo import VRBO
from refimpl.approximate.inverse import ProductNeumann, SumNeumann
from refimpl.approximate.sampled import SampledHypergradient
from refimpl.arrays import backend, factor_spd, to_numpy
from refimpl.errors import BadInput
from refimpl.exact import hyperobjective_hessian
from refimpl.masks import Dropout
from refimpl.rates import Constant, Power
from refimpl.sets import Ball, Box
from refimpl.zoo import logistic, quadratic, ridge
from tests.algorithm_things import drawn, pick, stepped
from tests.backends import everywhere, on_cpu, round_trip
from tests.rounding import assert_rounded
from tests.table1_b_things import TRANSCRIBED, K, L, Lines, Q

PLAIN = replace(
    quadratic.random(n=2, d=3, seed=0, terms=4), upper=quadratic.random(n=2, d=3, seed=1, terms=3).lower
)
GROUPS = {"lam": (0, 1), "w": (1, 0, 1)}
MASKED = PLAIN.with_dropout(lower={"lam": 0.9, "w": 0.75}, upper={"lam": 0.8, "w": 0.5}, groups=GROUPS)
START = (PLAIN.start(), np.array([1.0, -2.0, 0.5]))

# Polynomial, with a Hessian that depends on λ and a cross derivative that depends on w, on a small box.
RIDGE = replace(
    ridge.problem(
        [[2.0, 1.0], [-1.0, 1.0], [1.0, 3.0], [0.0, -2.0]],
        [1.0, -2.0, 4.0, 1.0],
        [[1.0, 1.0], [2.0, -1.0], [-3.0, 1.0]],
        [3.0, -4.0, 1.0],
        per_feature=True,
    ),
    domain=Box(0.5, 0.75),
)
RIDGE_START = (np.array([0.5625, 0.71875]), np.array([1.0, -0.5]))

PRODUCT, SUM = ProductNeumann(K, L), SumNeumann(Fraction(1, L), Q)
BATCHES = {"lower_batch": 2, "upper_batch": 2}
ETA = Power(Fraction(1), 1, shift=2)  # 1/(k + 2), exact over the rationals
STEPS = {"alpha": Fraction(1, 8), "beta": Fraction(1, 4), "c_f": Fraction(1, 2), "c_g": 3, "eta": ETA}
ITERATIONS = 4

CASES = {
    "stable": STABLE(
        mu=Fraction(1, 100),
        radius=9,
        alpha=Power(Fraction(1, 4), 1),
        beta=Power(Fraction(1, 8), 1),
        tau=ETA,
        **BATCHES,
    ),
    "stable-vr": STABLEVR(
        mu=Fraction(1, 100), alpha=Fraction(1, 8), beta=Fraction(1, 4), c=3, eta=ETA, **BATCHES
    ),
    "sustain": SUSTAIN(
        inverse=PRODUCT, alpha=Power(Fraction(1, 4), 1, shift=2), c_beta=2, c_f=8, c_g=40, **BATCHES
    ),
    "mrbo": MRBO(inverse=SUM, **STEPS, **BATCHES),
    "vrbo": VRBO(
        inverse=SUM,
        alpha=Power(Fraction(1, 8), 1),
        beta=Power(Fraction(1, 4), 1),
        period=3,
        inner=1,
        lower_batch=1,
        upper_batch=2,
        large_lower_batch=3,
    ),
    "sabiadam": SaBiAdam(inverse=PRODUCT, adaptive=False, rho=2, **{**STEPS, "alpha": 1}, **BATCHES),
    "vr-sabiadam": VRSaBiAdam(inverse=PRODUCT, adaptive=False, rho=2, **{**STEPS, "alpha": 1}, **BATCHES),
}
ADAPTIVE = {
    name: replace(CASES[name], adaptive=True, rho=0.5, decay=0.75) for name in ("sabiadam", "vr-sabiadam")
}
INVERTING = {name: CASES[name] for name in ("stable", "stable-vr")}
ESTIMATING = {name: a for name, a in CASES.items() if name not in INVERTING}
every_case = pytest.mark.parametrize("name", CASES)


# -- the lines written out -----------------------------------------------------------------------------------------
def exactly_as(name, problem, start, samples):
    """Every array of every state, over the rationals."""
    B = backend("rational")
    moved, start = problem.to("rational"), tuple(map(B.asarray, start))
    expected = TRANSCRIBED[name](Lines(moved, B.scalar), *start, samples)
    for state, literal in zip(stepped(CASES[name], moved, start, samples), expected, strict=True):
        assert state.arrays.keys() == literal.keys()
        for key, x in state.arrays.items():
            assert (x == literal[key]).all(), (state.k, key)
    return state


@every_case
def test_every_iteration_is_its_lines(name):
    """Equal in rationals, for the same samples, on the ridge problem, on a small box and without.

    Kills: any sign, factor, step size, order; momentum of another k; STORM with two samples, or at one point; the
    Hessian, the cross derivative or a gradient elsewhere; a draw used twice; a length off by one; no projection.
    """
    samples = drawn(CASES[name], RIDGE, ITERATIONS)
    end = exactly_as(name, RIDGE, RIDGE_START, samples)
    free = exactly_as(name, replace(RIDGE, domain=None), RIDGE_START, samples)
    assert (end.lam != free.lam).any()  # the projection has something to do


@pytest.mark.parametrize("name", ESTIMATING)
def test_every_iteration_is_its_lines_under_masks(name):
    """And with ∇_λF ≠ 0. Kills: a mask or ξ of another draw; ∇_λF left out."""
    exactly_as(name, MASKED, START, drawn(CASES[name], MASKED, ITERATIONS))


def test_the_direct_gradient_of_the_inverting_ones():
    """Without masks their matrices are positive definite over the rationals for these draws."""
    tame = replace(PLAIN, lower=replace(PLAIN.lower, ww=PLAIN.lower.ww + 4 * np.eye(3)))
    for name in INVERTING:
        exactly_as(name, tame, START, drawn(CASES[name], tame, 3))


# -- the projections, the adaptive steps, other numbers ------------------------------------------------------------
def absolute(problem):
    """The same with the sizes of its coefficients."""

    def sizes(level):
        if isinstance(level, Dropout):
            return replace(level, f=sizes(level.f))
        return replace(
            level, **{name: np.abs(getattr(level, name)) for name in ("ww", "lw", "ll", "w1", "l1")}
        )

    return replace(problem, upper=sizes(problem.upper), lower=sizes(problem.lower))


def projected(mu, radius, lowest, largest):
    """Singular values clipped, eigenvalues clipped; the lists remember the extreme ones before."""

    def bounded(C, H):
        u, s, vt = np.linalg.svd(C, full_matrices=False)
        largest.append(s[0])
        if radius is not None:
            C = (u * np.minimum(s, radius)) @ vt
        values, vectors = np.linalg.eigh(H)
        lowest.append(values[0])
        return C, (vectors * np.maximum(values, mu)) @ vectors.T

    return bounded


def unpacked(state, d):
    """The arrays that an inverting one keeps, matrices as such."""
    names = ("f_lam", "f_w", "cross", "hess", "g_w", "lam_prev", "w_prev")
    kept = {name: to_numpy(state.arrays[name]) for name in names if name in state.arrays}
    return [x.reshape(-1, d) if name in ("cross", "hess") else x for name, x in kept.items()]


@everywhere
@pytest.mark.parametrize("name", INVERTING)
def test_the_inverting_ones_round_and_project(place, name):
    """One iteration after the other from where the algorithm is, under masks, which make Hessians singular.

    With κ = ‖H‖/μ: a solve, and a change of H by its rounding, cost κ of a solution's size ‖r‖/μ; projections are
    nonexpansive. Kills: no projection, another radius, the unprojected estimates kept, a clip from above.
    """
    mu, radius = 1.5, 1.0
    options = {"radius": radius} if name == "stable" else {}
    a = replace(CASES[name], mu=mu, **options)
    samples, moved, d = drawn(a, MASKED, ITERATIONS), place.move(MASKED), PLAIN.d
    state, lowest, largest = a.init(moved, *map(place.array, START)), [], []
    for k, sample in enumerate(samples):
        point = to_numpy(state.lam), to_numpy(state.w)
        more = {"first": k, "kept": unpacked(state, d) if k else (None,) * len(unpacked(state, d))}
        at, size = Lines(MASKED), Lines(absolute(MASKED), sign=1)
        bounded = projected(mu, options.get("radius"), lowest, largest)
        (expected,) = TRANSCRIBED[name](at, *point, [sample], bounded, np.linalg.solve, **more)
        more["kept"] = [None if x is None else np.abs(x) for x in more["kept"]]

        def most(H, r):
            return np.full(d, np.linalg.norm(r) / mu)

        (terms,) = TRANSCRIBED[name](size, *map(np.abs, point), [sample], solve=most, **more)
        state = a.step(moved, state, sample)
        kappa = max(np.linalg.norm(terms["hess"]) / mu, 1.0)
        for key, x in state.arrays.items():
            top = np.linalg.norm(terms[key]) * np.ones(expected[key].shape)
            condition = kappa if key in ("lam", "w") else 1.0
            assert_rounded(x, expected[key], terms=top, count=d * d * 10, condition=condition)
    assert min(lowest) < mu
    assert name == "stable-vr" or max(largest) > radius


@everywhere
@pytest.mark.parametrize("name", ESTIMATING)
def test_all_backends_round_the_same_iterates(place, name):
    """Against the literal transcription, allowed the rounding of its terms' sizes."""
    samples = drawn(CASES[name], MASKED, 3)
    *_, expected = TRANSCRIBED[name](Lines(MASKED), *START, samples)
    *_, most = TRANSCRIBED[name](Lines(absolute(MASKED), sign=1), *map(np.abs, START), samples)
    *_, end = stepped(CASES[name], place.move(MASKED), tuple(map(place.array, START)), samples)
    products = (K + 3) * 2 * (2 + CASES["vrbo"].inner)  # at most: of each h, at two points, refreshed
    for key, x in end.arrays.items():
        assert_rounded(x, expected[key], terms=most[key], count=3 * products * (4 * (PLAIN.n + PLAIN.d) + 10))


@everywhere
@pytest.mark.parametrize("name", ADAPTIVE)
def test_adaptive_steps(place, name):
    """A = diag(√s⁺ + ρ), B = (t⁺ + ρ)I from the draws of h and of e, on a box and without; d and e as in the lines.

    Kills: the moments before, the root forgotten, ρ inside it, the square of the norm, ∇̄F for ∇_λF, another draw.
    """
    a, reach = ADAPTIVE[name], 0.01
    near = Box(START[0] - reach, START[0] + reach)
    for problem in (MASKED, replace(MASKED, domain=near)):
        moved, size = place.move(problem), Lines(absolute(MASKED), sign=1)
        state = a.init(moved, *map(place.array, START))
        for k, sample in enumerate(drawn(a, problem, ITERATIONS)):
            lam, w, s, t = (to_numpy(state.arrays[key]) for key in ("lam", "w", "s", "t"))
            new, (zeta, (xi, *_)) = a.step(moved, state, sample), sample
            at = Lines(problem)
            gx, gy = at.F(xi).grad_lam(lam, w), at.G(zeta).grad_w(lam, w)
            gx_terms = size.F(xi).grad_lam(np.abs(lam), np.abs(w))
            gy_terms = np.linalg.norm(size.G(zeta).grad_w(np.abs(lam), np.abs(w)))
            count = 2 * (4 + PLAIN.n + PLAIN.d) + 8
            assert_rounded(new.s, 0.75 * s + 0.25 * gx**2, terms=s + gx_terms**2, count=count)
            assert_rounded(new.t, 0.75 * t + 0.25 * np.linalg.norm(gy), terms=t + gy_terms, count=count)
            new_s, new_t, d, e = (to_numpy(new.arrays[key]) for key in ("s", "t", "d", "e"))
            eta, move, fall = 1 / (k + 2), d / (np.sqrt(new_s) + 0.5), 0.25 * e / (new_t + 0.5)
            target = lam - move if problem.domain is None else np.clip(lam - move, near.low, near.high)
            terms = np.abs(lam) + np.abs(move)
            assert_rounded(new.lam, lam + eta * (target - lam), terms=terms, count=10)
            assert_rounded(new.w, w - eta * fall, terms=np.abs(w) + np.abs(fall), count=10)
            state = new
    assert (to_numpy(new.lam) >= near.low).all()
    assert (to_numpy(new.lam) <= near.high).all()


@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_directions_of_adaptive_ones(name):
    """d and e at an adaptive one's own points are those of a fixed scaling at these points, bit for bit."""
    a, samples = ADAPTIVE[name], drawn(ADAPTIVE[name], MASKED, ITERATIONS)
    plain, state = CASES[name], a.init(MASKED, *START)
    for sample in samples:
        new = a.step(MASKED, state, sample)
        other = plain.step(MASKED, replace(state, s=None, t=None), sample)
        assert (new.d == other.d).all()
        assert (new.e == other.e).all()
        assert not (new.lam == other.lam).all()
        state = new


@pytest.mark.parametrize("name", ADAPTIVE)
def test_no_adaptation_where_the_upper_level_does_not_see_lam(name):
    """s is made of ∇_λF, not of ∇̄F: on ridge problems, as on most of the zoo, it is 0, and A = ρI."""
    (sample,) = drawn(ADAPTIVE[name], RIDGE, 1)
    state = ADAPTIVE[name].init(RIDGE, *RIDGE_START)
    new = ADAPTIVE[name].step(RIDGE, state, sample)
    plain = replace(ADAPTIVE[name], adaptive=False)
    assert not new.s.any()
    assert new.d.all()
    assert (new.lam == plain.step(RIDGE, replace(state, s=None, t=None), sample).lam).all()


@on_cpu
def test_projections_of_matrices(place):
    """Known spectra in a known basis; what is inside stays bit for bit; leading axes. Kills: |·|, symmetrised, all."""
    B = place.move(PLAIN).backend
    basis = np.linalg.qr(np.arange(9.0).reshape(3, 3) ** 2 + np.eye(3))[0]
    spectra = np.array([[-2.0, 0.5, 3.0], [1.0, 2.0, 3.0], [0.25, 0.25, 0.25], [1.0, 1.0, 7.0]])
    symmetric = np.array([(basis * s) @ basis.T for s in spectra])
    symmetric = (symmetric + np.swapaxes(symmetric, -1, -2)) / 2
    found = to_numpy(at_least(B, place.array(symmetric), 1))
    for x, s, given in zip(found, spectra, symmetric, strict=True):
        assert_rounded(x, (basis * np.maximum(s, 1.0)) @ basis.T, terms=7.0, count=30)
        if s.min() >= 1:
            assert (x == given).all()
    assert (to_numpy(at_least(B, place.array(found), 1)) == found).all()

    left = np.array([[0.6, -0.8], [0.8, 0.6]])
    values = np.array([[5.0, 1.0], [2.0, 0.5], [9.0, 3.0]])
    wide = np.array([(left * s) @ basis[:, :2].T for s in values])
    found = to_numpy(at_most(B, place.array(wide), 2))
    for x, s, given in zip(found, values, wide, strict=True):
        assert_rounded(x, (left * np.minimum(s, 2.0)) @ basis[:, :2].T, terms=9.0, count=30)
        if s.max() < 2:
            assert (x == given).all()
    assert at_most(B, place.array(wide), None) is not None
    assert (to_numpy(rows(B, flat(B, place.array(wide)), 3)) == wide).all()
    assert at_most(B, place.array(np.zeros((2, 0, 3))), 1).shape == (2, 0, 3)


@on_cpu
def test_a_bound_below_rounding_is_a_bound(place):
    """mu below 10 d eps ‖a‖: what is below it is clipped, so that what comes out has a Cholesky factor.

    Kills: a slack larger than mu, with which negative eigenvalues are accepted.
    """
    B = place.move(PLAIN).backend
    for low in (-1e-15, 0.0):
        found = at_least(B, place.array(np.diag([1.0, low])), 1e-16)
        assert_rounded(found, np.diag([1.0, 1e-16]), terms=np.diag([1.0, 1e-16]), count=2)
        factor_spd(B, found)


def test_over_the_rationals_only_what_is_inside():
    """Decided exactly, on the boundary too. Kills: strict, the pivot 0 not looked at, C for CCᵀ."""
    B = backend("rational")
    edge = B.asarray([[[2, 1], [1, 2]], [[1, 0], [0, 5]]])  # eigenvalues 1, 3 and 1, 5
    assert (at_least(B, edge, 1) == edge).all()
    for mu, a in (
        (Fraction(101, 100), edge),
        (0, B.asarray([[0, 1], [1, 0]])),
        (1, B.asarray([[2, 2], [2, 2]])),
    ):
        with pytest.raises(BadInput, match="eigenvalues are irrational"):
            at_least(B, a, mu)
    C = B.asarray([[3, 4, 0], [0, 0, 5]])  # singular values 5, 5
    assert (at_most(B, C, 5) == C).all()
    with pytest.raises(BadInput, match="radius"):
        at_most(B, C, Fraction(499, 100))
    assert semidefinite(B.asarray([[0, 0], [0, 0]]))
    assert not semidefinite(B.asarray([[-1]]))


def test_estimates_that_are_not_finite():
    with pytest.raises(Diverged, match="second derivative"):
        at_least(backend("numpy"), np.array([[np.nan]]), 1)
    problem = logistic.random(d=3, seed=5, rows=9)
    with pytest.raises(Diverged) as caught:
        run(STABLE(mu=1e-3, alpha=1e6, beta=1e6, tau=0.5), problem, problem.start(), steps=60, rng=0)
    assert caught.value.result.state.k >= 1


# -- what they are for ---------------------------------------------------------------------------------------------
QUIET = quadratic.random(n=2, d=3, seed=18, L=4.0)  # noise-free: one term per level
TERMS = 6
FIXED = {"alpha": 1 / 16, "beta": 1 / 4, "eta": 1 / 2, "c_f": 1, "c_g": 2}  # α a tenth of 1/L_f, β = 1/L
EXACT_MEAN = SumNeumann(1 / 4, TERMS - 1)  # the mean of ProductNeumann(TERMS, 4)
SETTLED = {
    "stable": STABLE(mu=0.5, radius=50, alpha=1 / 16, beta=1 / 4, tau=1 / 2),
    "stable-vr": STABLEVR(mu=0.5, alpha=1 / 8, beta=1 / 2, c=2, eta=1 / 2),
    "sustain": SUSTAIN(inverse=EXACT_MEAN, alpha=1 / 16, c_beta=4, c_f=128, c_g=64),
    "mrbo": MRBO(inverse=EXACT_MEAN, **FIXED),
    "vrbo": VRBO(inverse=EXACT_MEAN, alpha=1 / 16, beta=1 / 4, period=3, inner=2),
    "sabiadam": SaBiAdam(inverse=EXACT_MEAN, rho=1, **FIXED),
    "vr-sabiadam": VRSaBiAdam(inverse=EXACT_MEAN, rho=1, **FIXED),
}


def stationary_point(inverse):
    """(λ, w) with ∇_wG = 0 and ∇_λF − ∇²_λwG P ∇_wF = 0, a linear system on a quadratic problem."""
    ww, lw, ll, w1, l1 = QUIET.upper.mean
    G_ww, G_lw, _, G_w1, _ = QUIET.lower.mean
    through = G_lw @ inverse
    A = np.block([[G_lw.T, G_ww], [ll - through @ lw.T, lw - through @ ww]])
    found = np.linalg.solve(A, -np.concatenate([G_w1, l1 - through @ w1]))
    return found[:2], found[2:]


def truncated():
    """(1/L) Σ_{i<K} (I − H/L)^i."""
    H = QUIET.lower.mean[0]
    return sum(np.linalg.matrix_power(np.eye(3) - H / 4, i) for i in range(TERMS)) / 4


@every_case
def test_without_noise_it_is_stationary_where_it_should_be(name):
    """It stays at, and reaches, the zero of the truncated hypergradient; those that invert, of the exact one.

    Within 1e-8, relative, as it is promised of every algorithm. Kills: any factor or sign that transcriptions share.
    """
    H = QUIET.lower.mean[0]
    assert np.linalg.eigvalsh(hyperobjective_hessian(QUIET, QUIET.start()))[0] > 0
    lam, w = stationary_point(np.linalg.inv(H) if name in INVERTING else truncated())
    a = SETTLED[name]
    stays = run(a, QUIET, a.init(QUIET, lam, w), steps=50, rng=0, every=50).state
    comes = run(a, QUIET, QUIET.start(), steps=800, rng=0, every=800).state
    for state in (stays, comes):
        assert np.linalg.norm(state.lam - lam) <= 1e-8 * np.linalg.norm(lam)
        assert np.linalg.norm(state.w - w) <= 1e-8 * np.linalg.norm(w)
    assert np.linalg.norm(QUIET.start() - lam) > 0.1 * np.linalg.norm(lam)

    exact = ri.exact_hypergradient(QUIET, comes.lam, certify="never")
    first = ri.exact_hypergradient(QUIET, QUIET.start(), certify="never").value
    size = np.linalg.norm(exact.value)
    if name in INVERTING:
        assert size <= 1e-8 * np.linalg.norm(first)
    else:  # Neumann's bias: ‖∇²_λwG‖ ((1 − μ/L)^K/μ) ‖∇_wF‖, and it is not zero
        r = np.linalg.norm(QUIET.upper.grad_w(comes.lam, exact.w))
        mu = np.linalg.eigvalsh(H)[0]
        bound = np.linalg.norm(QUIET.lower.mean[1], 2) * EXACT_MEAN.bias_bound(mu, r)
        assert bound / 1000 < size <= bound


def test_stable_follows_the_solution():
    """w⁺ − w(λ⁺) = (I − βH)(w − w(λ)) without noise, with a projection of λ or not; exactly, on a quadratic problem.

    The correction takes w along. Kills: its sign, its absence, λ⁺ before the projection, the cross derivative's shape.
    """
    B, box = backend("rational"), Box(QUIET.start() - 0.1, QUIET.start() + 0.1)
    for problem in (QUIET.to("rational"), replace(QUIET, domain=box).to("rational")):
        a, H = (
            STABLE(mu=Fraction(1, 2), alpha=Fraction(1, 4), beta=Fraction(1, 8), tau=1),
            problem.lower.mean[0],
        )
        state = a.init(problem, problem.start(), B.asarray(START[1]))
        for k in range(3):
            new = a.step(problem, state, drawn(a, QUIET, 1)[0])
            before, after = (
                x.w - ri.exact_hypergradient(problem, x.lam, certify="never").w for x in (state, new)
            )
            assert (after == before - H @ before / 8).all()
            assert (new.lam != state.lam).any() or k > 0
            state = new


# -- STORM ---------------------------------------------------------------------------------------------------------
def own(name, problem, start, steps=2, **changes):
    """An algorithm with changed fields, on rationals, and its state after some steps."""
    a, B = replace(CASES[name], **changes), backend("rational")
    samples = drawn(a, problem, steps + 1)
    *_, state = stepped(a, problem.to("rational"), tuple(map(B.asarray, start)), samples[:steps])
    return a, state, samples[steps]


WHOLE = {
    "stable": {"tau": 40, "alpha": Fraction(1, 8), "beta": Fraction(1, 8)},
    "stable-vr": {"c": 400, "eta": 1},
    "sustain": {"c_f": 4000, "c_g": 4000, "alpha": Fraction(1, 16)},
    "mrbo": {"c_f": 40, "c_g": 40, "eta": 1},
    "sabiadam": {"c_f": 40, "c_g": 40, "eta": 1},
    "vr-sabiadam": {"c_f": 40, "c_g": 40, "eta": 1},
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_weight_of_one_forgets(name):
    """Weights above 1 count as 1, and then an iteration is a first one; in rationals. Kills: other caps."""
    a, state, sample = own(name, RIDGE, RIDGE_START, **WHOLE[name])
    problem = RIDGE.to("rational")
    new, fresh = a.step(problem, state, sample), a.step(problem, replace(state, k=0), sample)
    for key, x in new.arrays.items():
        assert (x == fresh.arrays[key]).all(), key
    b, state, sample = own(name, RIDGE, RIDGE_START)
    new, fresh = b.step(problem, state, sample), b.step(problem, replace(state, k=0), sample)
    assert not all((x == fresh.arrays[key]).all() for key, x in new.arrays.items())


@pytest.mark.parametrize("size", [1e160, 1e200, 1e308])
@pytest.mark.parametrize("name", CASES)
def test_steps_whose_square_no_float_holds(name, size):
    """Weights of momenta are then 1, and what diverges says so. Kills: a bare OverflowError."""
    a, long = CASES[name], Constant(size)
    a = replace(a, **dict.fromkeys(a.rates, long))
    if hasattr(a, "weights"):
        assert a.weights(1)[1] == 1
    if isinstance(a, SaBiAdam):  # whose steps are capped
        assert np.isfinite(run(a, PLAIN, START[0], steps=9, rng=0).state.lam).all()
        return
    with pytest.raises(Diverged) as caught:
        run(a, PLAIN, START[0], steps=9, rng=0)
    assert caught.value.result.times[0] == 0


def test_weights_of_what_no_float_holds():
    # kills: pieces/weight-of-what-overflows
    tiny = Fraction(1, 10**500)
    assert capped(1.0, 1e200, 2) == capped(0.5, Fraction(10**400)) == 1
    assert capped(tiny, 1e200, 2) == tiny * Fraction(1e200) ** 2 < 1
    assert capped(tiny, 0.5, 2) == 0.0


def test_vrbo_begins_anew_in_every_period():
    """Iterations that q divides do not look at d and e, the others do."""
    a, state, _ = own("vrbo", RIDGE, RIDGE_START)
    problem, other = RIDGE.to("rational"), replace(state, d=state.d + 1, e=state.e + 1)
    for k in range(8):
        sample = a.space(problem, k).sample(k, ())
        one, two = (a.step(problem, replace(x, k=k), sample) for x in (state, other))
        same = all((x == two.arrays[key]).all() for key, x in one.arrays.items())
        assert same == (k % 3 == 0)


@every_case
def test_without_noise_storm_is_exact(name):
    """All data drawn: after any number of iterations the estimates are the derivatives where they were last taken.

    In rationals, with Hessians that move; the average of saBiAdam is not. Kills: STORM across two samples or points.
    """
    changes = {"lower_batch": None, "upper_batch": None}
    changes |= {"large_lower_batch": None} if name == "vrbo" else {}
    changes |= {} if name in INVERTING else {"inverse": SUM}
    a, B, problem = replace(CASES[name], **changes), backend("rational"), RIDGE.to("rational")
    *_, before, state = stepped(a, problem, tuple(map(B.asarray, RIDGE_START)), drawn(a, RIDGE, 4))
    at, F, G = (before.lam, before.w), problem.upper, problem.lower
    if name in INVERTING:
        expected = {"cross": flat(B, G.cross(*at).dense()), "hess": flat(B, G.hess_ww(*at).dense())}
        if name == "stable-vr":
            expected |= {"f_lam": F.grad_lam(*at), "f_w": F.grad_w(*at), "g_w": G.grad_w(*at)}
    else:
        at = (state.lam, state.w) if name == "vrbo" else at
        expected = {"d": SampledHypergradient(SUM).mean(problem, *at), "e": G.grad_w(*at)}
    for key, x in expected.items():
        assert (state.arrays[key] == x).all() == (name != "sabiadam"), key


# -- warm starts, counts, replicates, other problems ---------------------------------------------------------------
@every_case
def test_warm_start(name):
    """Measured: does the next λ depend on the w before; there is no v to depend on."""
    a, state, sample = own(name, RIDGE, RIDGE_START)
    problem = replace(RIDGE, domain=None).to("rational")
    moved = replace(state, w=state.w + 1, k=0 if name == "vrbo" else state.k)
    state = replace(state, k=moved.k)
    sample = a.space(problem, state.k).sample(1, ())
    depends = (a.step(problem, state, sample).lam != a.step(problem, moved, sample).lam).any()
    assert (depends, "v" in state.arrays) == a.warm_start == (True, False)


@every_case
def test_counts(name):
    """Samples and calls of five iterations, as the docstrings say. Kills: STORM's sample counted twice."""
    half = PLAIN.with_dropout(lower=0.5, upper=None)
    steps, inner, products = 5, CASES["vrbo"].inner, {"vrbo": Q, "mrbo": Q}.get(name, K - 1)
    problem = half if name not in INVERTING else PLAIN.with_dropout(lower={"lam": 0.5, "w": 1}, upper=None)
    a = replace(CASES[name], mu=1e-3) if name in INVERTING else CASES[name]
    counts = run(a, problem, problem.start(), steps=steps, rng=0, replicates=(2,)).counts
    if name in INVERTING:
        doubled = 2 * steps - 1
        once = steps if name == "stable" else doubled
        expected = {
            "lower.cross dense": doubled,
            "lower.hess_ww dense": doubled,
            "lower.grad_w": once,
            "upper.grad_lam": once,
            "upper.grad_w": once,
        }
        draws = {"lower": 2 * steps, "upper": steps, "lower.data": 4 * steps, "upper.data": 2 * steps}
    else:
        evaluations = {"sabiadam": steps, "vrbo": 2 * steps * (inner + 2) + 2}.get(name, 2 * steps - 1)
        expected = {
            "lower.grad_w": evaluations,
            "lower.cross": evaluations,
            "lower.hess_ww": products * evaluations,
            "upper.grad_lam": evaluations,
            "upper.grad_w": evaluations,
        }
        calls = steps * (inner + 2) + 2 if name == "vrbo" else steps  # the large ones in iterations 0 and 3
        data = (calls - 2 + 2 * 3, 2 * (calls - 2) + 2 * 3) if name == "vrbo" else (2 * calls, 2 * calls)
        draws = {
            "lower": (2 + products) * calls,
            "lower.data": (2 + products) * data[0],
            "upper.data": data[1],
        }
    expected |= {"lower.masks": draws["lower"], "upper.masks": 0}
    expected |= {key: draws[key] for key in ("lower.data", "upper.data")}
    assert counts == expected


@every_case
def test_replicates_are_single_runs(name):
    """In rationals, equal. Kills: one batch, mask or τ for all replicates."""
    a, B = CASES[name], backend("rational")
    problem, start = RIDGE.to("rational"), tuple(map(B.asarray, RIDGE_START))
    samples = drawn(a, RIDGE, 3, shape=(4,), seed=6)
    *_, together = stepped(a, problem, start, samples)
    for i in range(4):
        *_, alone = stepped(a, problem, start, [pick(s, i) for s in samples])
        for key, x in alone.arrays.items():
            assert (together.arrays[key][i] == x).all()
    assert len({tuple(map(str, row)) for row in together.w}) == 4


@every_case
def test_on_a_dropout_problem(name):
    """Masks and data drawn anew for every replicate, also where the lower level is no quadratic."""
    a = SETTLED[name]
    small = {"lower_batch": 2, "upper_batch": 2}
    for problem in (PLAIN, logistic.random(d=3, seed=5, rows=9)):
        dropped = problem.with_dropout(lower=0.8, upper=0.9)
        done = run(
            replace(a, **small),
            dropped,
            dropped.start(),
            steps=6,
            rng=0,
            replicates=(2, 3),
            every=6,
            keep="w",
        )
        assert done.trajectory["w"].shape == (2, 2, 3, 3)
        assert len(np.unique(done.state.w[..., 0])) == 6
        assert done.counts["lower.masks"] > 0
        assert done.counts["upper.masks"] > 0


def test_a_level_without_lam():
    """n = 0 is legal."""
    problem = ri.BilevelProblem(
        quadratic.objective(ww=np.eye(2), w1=[1.0, 2.0], n=0), quadratic.objective(ww=2 * np.eye(2), n=0)
    )
    for a in SETTLED.values():
        done = run(a, problem, np.zeros(0), steps=3, rng=0)
        assert done.state.lam.shape == (0,)


# -- what they say of themselves -----------------------------------------------------------------------------------
@every_case
def test_affine_where_it_says_so(name):
    """A step of the midpoint is the midpoint of the steps, in rationals; of those that say why not, it is not."""
    B, rng = backend("rational"), np.random.default_rng(3)
    tame = replace(PLAIN, lower=replace(PLAIN.lower, ww=PLAIN.lower.ww + 4 * np.eye(3))).to("rational")
    a = CASES[name]
    state = a.init(tame, *map(B.asarray, START))
    sample = a.space(tame, 2).sample(rng, ())

    def random():
        arrays = {key: B.asarray(rng.integers(-4, 5, x.shape)) for key, x in state.arrays.items()}
        if "hess" in arrays:
            half = rng.integers(-2, 3, (3, 3))
            arrays["hess"] = flat(B, B.asarray(half @ half.T + 9 * np.eye(3)))
            arrays["cross"] = B.asarray(rng.integers(-2, 3, 6))
        return replace(state, k=2, **arrays)

    one, two = random(), random()
    middle = replace(one, **{key: (x + two.arrays[key]) / B.scalar(2) for key, x in one.arrays.items()})
    images = [a.step(tame, x, sample) for x in (one, two, middle)]
    affine = all(
        (images[2].arrays[key] == (x + images[1].arrays[key]) / B.scalar(2)).all()
        for key, x in images[0].arrays.items()
    )
    assert affine == (a.affine is None)
    assert (a.affine is None) == (name not in INVERTING)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_adaptive_ones_are_not_affine(name):
    a = ADAPTIVE[name]
    assert "second moment" in a.affine
    (sample,) = drawn(a, PLAIN, 1)
    lams = [a.step(PLAIN, a.init(PLAIN, t * START[0], START[1]), sample).lam for t in (0.0, 1.0, 2.0)]
    assert np.abs(lams[1] - (lams[0] + lams[2]) / 2).max() > 1e-6 * np.abs(lams[1]).max()


@every_case
def test_from_when_on_iterations_are_the_same_map(name):
    """constant_from is measured; a schedule that falls, and VRBO's period, have none."""
    a = replace(SETTLED[name], lower_batch=1, upper_batch=1, **({"period": 1} if name == "vrbo" else {}))
    assert CASES[name].constant_from is None
    assert SETTLED["vrbo"].constant_from is None
    state = run(a, PLAIN, START[0], steps=2, rng=0).state
    first = a.constant_from
    sample = a.space(PLAIN, 1).sample(2, ())
    at = {k: a.step(PLAIN, replace(state, k=k), sample) for k in (0, 1, 2, 7)}
    same = {k: all((x == at[7].arrays[key]).all() for key, x in at[k].arrays.items()) for k in (0, 1, 2)}
    assert same == {0: first == 0, 1: True, 2: True}


def test_attributes():
    """Of table 1, and the papers' exponents. Kills: another exponent, a weight of this iteration's step size."""
    for name, a in CASES.items():
        assert a.warm_start == (True, False)
        assert a.linear_system == {"mrbo": "sum", "vrbo": "sum"}.get(
            name, "inversion" if name in INVERTING else "product"
        )
        assert "20" in a.source
        assert round_trip(a) == a
    plain = STABLE(mu=1)
    assert (plain.alpha(3), plain.beta(3), plain.tau(3)) == (1 / 2, 1 / 2, 1 / 2)
    assert STABLEVR(mu=1, alpha=1, beta=1).eta(7) == 1 / 2
    sustain = SUSTAIN(inverse=PRODUCT, c_beta=3, c_f=2, c_g=3)
    assert (sustain.sizes(7), sustain.weights(8)) == ((1 / 2, 3 / 2), (1 / 2, 3 / 4))
    mrbo = MRBO(inverse=SUM, alpha=2, beta=3, c_f=2, c_g=3)
    assert (mrbo.sizes(7), mrbo.weights(8)) == ((1, 3 / 2), (1 / 2, 3 / 4))
    adam = SaBiAdam(inverse=PRODUCT, alpha=1, beta=1, c_f=1 / 4, c_g=5)
    assert (adam.eta(3), adam.weights(4)) == (1 / 2, (1 / 8, 1))
    faster = VRSaBiAdam(inverse=PRODUCT, alpha=1, beta=1, c_f=1 / 4, c_g=5)
    assert (faster.eta(7), faster.weights(8)) == (1 / 2, (1 / 16, 1))
    long = replace(adam, eta=Constant(3))
    assert long.weights(1) == (1 / 4, 1)
    short = replace(adam, eta=Constant(1))
    (sample,) = drawn(adam, PLAIN, 1)
    ends = [a.step(PLAIN, a.init(PLAIN, *START), sample) for a in (long, short)]
    assert (ends[0].lam == ends[1].lam).all()  # η is capped at 1, or λ could leave Λ
    assert (ends[0].w == ends[1].w).all()


# -- bad input -----------------------------------------------------------------------------------------------------
@every_case
@pytest.mark.parametrize("field", ["lower_batch", "upper_batch"])
def test_batches_are_counts(name, field):
    with pytest.raises(BadInput, match=field):
        replace(CASES[name], **{field: 0})


WRONG = {
    "stable": ({"mu": 0}, {"mu": "1"}, {"radius": -1}, {"alpha": 0}, {"beta": -1}, {"tau": float("nan")}),
    "stable-vr": ({"mu": -1}, {"alpha": 0}, {"beta": 0}, {"c": 0}, {"eta": 0}),
    "sustain": ({"inverse": 3}, {"alpha": 0}, {"c_beta": 0}, {"c_f": -1}, {"c_g": float("inf")}),
    "mrbo": ({"inverse": None}, {"alpha": 0}, {"beta": 0}, {"c_f": 0}, {"c_g": 0}, {"eta": -1}),
    "vrbo": ({"period": 0}, {"inner": -1}, {"large_lower_batch": 0}, {"large_upper_batch": 1.5}, {"beta": 0}),
    "sabiadam": ({"rho": 0}, {"decay": 1}, {"decay": 0}, {"alpha": 0}, {"beta": -2}, {"c_f": 0}, {"eta": 0}),
    "vr-sabiadam": ({"rho": -1}, {"decay": 2}, {"c_g": 0}),
}


@every_case
def test_bad_hyperparameters(name):
    for wrong in WRONG[name]:
        (field,) = wrong
        with pytest.raises(BadInput, match="linear system" if field == "inverse" else field):
            replace(CASES[name], **wrong)


@every_case
def test_bad_problems_and_states(name):
    a = SETTLED[name]
    with pytest.raises(BadInput, match="needs a lower objective"):
        a.init(QUIET.as_fixed_point(0.1), START[0])
    with pytest.raises(BadInput, match="not a state of this algorithm"):
        a.step(QUIET, State(0, *START), drawn(a, QUIET, 1)[0])
    with pytest.raises(BadInput, match="lam"):
        a.init(QUIET, np.zeros(3))


def test_states_of_variants():
    """Arrays that the variant does not have, or needs."""
    state = SETTLED["sabiadam"].init(PLAIN, *START)
    (sample,) = drawn(SETTLED["sabiadam"], PLAIN, 1)
    for other in (SETTLED["vr-sabiadam"], CASES["sabiadam"], CASES["vr-sabiadam"]):
        with pytest.raises(BadInput, match="another variant"):
            other.step(PLAIN, state, sample)


def test_adaptive_steps_know_boxes_alone():
    """x̃ minimises in the norm of A: on a ball that is no Euclidean projection. Of a fixed scaling it is one."""
    around = replace(QUIET, domain=Ball(radius=10.0))
    for name in ADAPTIVE:
        with pytest.raises(BadInput, match="no adaptive step on this set"):
            SETTLED[name].init(around, START[0])
        assert run(replace(SETTLED[name], adaptive=False), around, START[0], steps=2, rng=0).state.k == 2
    a, moved, B = ADAPTIVE["sabiadam"], PLAIN.to("rational"), backend("rational")
    state, (sample,) = a.init(moved, *map(B.asarray, START)), drawn(a, PLAIN, 1)
    with pytest.raises(BadInput, match="square root"):
        a.step(moved, state, sample)


@every_case
def test_iterates_stay_in_their_set(name):
    """Far below a face, λ + (x̃ − λ) rounds to a number above it. Kills: no projection; that number kept."""
    box = Box(-1 / 3, 0.1)
    starts = box.low + np.random.default_rng(0).random((400, 2)) * (box.high - box.low)
    whole = {"eta": 1, "alpha": 4} if "sabiadam" in name else {}
    done = run(replace(SETTLED[name], **whole), replace(QUIET, domain=box), starts, steps=6, rng=0)
    lams = done.trajectory["lam"]
    assert ((lams >= box.low) & (lams <= box.high)).all()
    assert ((lams[-1] == box.low) | (lams[-1] == box.high)).any()
