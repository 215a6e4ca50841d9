"""BSA, TTSA, stocBiO, SMB, ALSET, ALSET† and AmIGO against their lines written out, and what is promised of them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import refimpl as ri
from refimpl.algorithms import FSLA, Diverged, run
from refimpl.algorithms.arbel2021amigo import AmIGO
from refimpl.algorithms.chen2021alset import ALSET
from refimpl.algorithms.chen2021alset_dagger import ALSETDagger
from refimpl.algorithms.ghadimi2018bsa import BSA, neumann_terms
from refimpl.algorithms.guo2021smb import SMB
from refimpl.algorithms.hong2020ttsa import TTSA
from refimpl.algorithms.ji2021stocbio import StocBiO, hessian_batches
from refimpl.approximate.inverse import ProductNeumann, SumNeumann
from refimpl.arrays import backend, to_numpy
from refimpl.errors import BadInput
from refimpl.exact import hyperobjective_hessian
from refimpl.lengths import Fixed, Growing, Logarithmic
from refimpl.rates import Constant, Harmonic, Power
from refimpl.sets import Ball, Box
from refimpl.zoo import logistic, quadratic
from tests import table1_a_things
from tests.algorithm_things import pick
from tests.backends import everywhere, on_cpu, round_trip
from tests.rounding import assert_rounded
from tests.table1_a_things import ETA, K, L, Lines, Q

PLAIN = replace(
    quadratic.random(n=2, d=3, seed=0, terms=4), upper=quadratic.random(n=2, d=3, seed=1, terms=3).lower
)
GROUPS = {"lam": (0, 1), "w": (1, 0, 1)}
MASKED = PLAIN.with_dropout(lower={"lam": 0.9, "w": 0.75}, upper={"lam": 0.8, "w": 0.5}, groups=GROUPS)
START = (PLAIN.start(), np.array([1.0, -2.0, 0.5]), np.array([0.25, 1.0, -1.0]))
ITERATIONS = 4

# Schedules that change, every one another; exact over the rationals.
ALPHA, BETA = Power(Fraction(1, 8), 1), Harmonic(Fraction(1), Fraction(4))
GAMMA, B = Power(Fraction(1, 4), 1, shift=2), Power(Fraction(3, 2), 1)
BATCHES = {"lower_batch": 2, "upper_batch": 3}
PRODUCT, SUM = ProductNeumann(K, L), SumNeumann(ETA, Q, (3, 1))

CASES = {
    "bsa": BSA(alpha=ALPHA, beta=BETA, steps=Growing(1, 1), terms=Growing(1, 1), inverse=PRODUCT, **BATCHES),
    "ttsa": TTSA(alpha=ALPHA, beta=BETA, inverse=PRODUCT, **BATCHES),
    "stocbio": StocBiO(alpha=ALPHA, beta=BETA, steps=3, inverse=SUM, **BATCHES),
    "smb": SMB(alpha=ALPHA, beta=BETA, b=B, inverse=PRODUCT, **BATCHES),
    "alset": ALSET(alpha=ALPHA, beta=BETA, steps=Growing(1, 1), inverse=PRODUCT, **BATCHES),
    "alset-dagger": ALSETDagger(alpha=ALPHA, beta=BETA, gamma=GAMMA, **BATCHES),
    "amigo": AmIGO(alpha=ALPHA, beta=BETA, gamma=GAMMA, steps=2, linear_steps=Growing(1, 1), **BATCHES),
}
ESTIMATING = {name: a for name, a in CASES.items() if hasattr(a, "inverse")}
LINES = {name: getattr(table1_a_things, name.replace("-", "_")) for name in CASES}
every_case = pytest.mark.parametrize("name", CASES)


# -- helpers -------------------------------------------------------------------------------------------------------
def drawn(algorithm, problem, steps=ITERATIONS, shape=(), seed=5):
    rng = np.random.default_rng(seed)
    return [algorithm.space(problem, k).sample(rng, shape) for k in range(steps)]


def begun(algorithm, problem, start):
    lam, w, v = start
    return algorithm.init(problem, lam, w, v) if keeps_v(algorithm) else algorithm.init(problem, lam, w)


def keeps_v(algorithm):
    return algorithm.warm_start[1]


def stepped(algorithm, problem, start, samples):
    state = begun(algorithm, problem, start)
    for sample in samples:
        state = algorithm.step(problem, state, sample)
        yield state


def on(B, start):
    return tuple(B.asarray(x) for x in start)


def same(state, arrays):
    found = state.arrays
    return found.keys() == arrays.keys() and all((found[name] == x).all() for name, x in arrays.items())


# -- the update ----------------------------------------------------------------------------------------------------
@every_case
def test_every_iteration_is_the_papers(name):
    """Equal in rationals, for the same samples.

    Kills: a sample used twice, the Hessian's or the cross derivative's at another w, a step size of another k or j, a
    sign, a dropped η, a warm start where there is none, τ off by one, the momentum of another iteration.
    """
    R, a = backend("rational"), CASES[name]
    exact, start, samples = MASKED.to("rational"), on(R, START), drawn(a, MASKED)
    lines = LINES[name](Lines(exact, R.scalar), *start, samples)
    for state, expected in zip(stepped(a, exact, start, samples), lines, strict=True):
        assert same(state, expected)


@every_case
def test_where_the_derivatives_are_taken(name):
    """Where Hessian and cross derivative depend on λ and w, in the problem's words, bit for bit: L is a power of 2."""
    problem = logistic.random(d=3, seed=5, rows=9)
    a = replace(CASES[name], lower_batch=None, upper_batch=None)
    if name == "stocbio":
        a = replace(a, inverse=replace(a.inverse, batches=None))
    start, samples = (problem.start(), *START[1:]), drawn(a, problem)
    lines = LINES[name](Lines(problem), *start, samples)
    for state, expected in zip(stepped(a, problem, start, samples), lines, strict=True):
        assert same(state, expected)


@everywhere
@every_case
def test_all_backends_round_the_same_iterates(place, name):
    """Against the transcription, allowed the rounding of its terms' sizes."""
    a, samples = CASES[name], drawn(CASES[name], MASKED)
    *_, expected = LINES[name](Lines(MASKED), *START, samples)
    sizes = replace(MASKED, upper=_absolute(MASKED.upper), lower=_absolute(MASKED.lower))
    *_, terms = LINES[name](Lines(sizes, sign=1), *map(np.abs, START), samples)
    *_, end = stepped(a, place.move(MASKED), tuple(map(place.array, START)), samples)
    # in the longest iteration: this many maps one after the other, each a mean of 2 or 3 products, masked, and a sum
    maps, each = 2 * ITERATIONS + 2, 2 * (PLAIN.n + PLAIN.d) + 3 + 4 + 2
    for key, x in expected.items():
        assert_rounded(end.arrays[key], x, terms=terms[key], count=ITERATIONS * maps * each)


def _absolute(level):
    sizes = {name: np.abs(getattr(level.f, name)) for name in ("ww", "lw", "ll", "w1", "l1")}
    return replace(level, f=replace(level.f, **sizes))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (CASES["ttsa"], ALSET(alpha=ALPHA, beta=BETA, inverse=PRODUCT, **BATCHES)),
        (
            CASES["alset-dagger"],
            AmIGO(alpha=ALPHA, beta=BETA, gamma=GAMMA, steps=1, linear_steps=1, **BATCHES),
        ),
    ],
    ids=["ttsa-is-alset", "alset-dagger-is-amigo"],
)
def test_one_step_of_the_loop_is_the_single_loop(one, other):
    """Bit for bit, the stream of randomness included: with T = 1, and T = N = 1."""
    ends = [run(a, MASKED, START[0], steps=5, rng=3, replicates=(2,)).state.arrays for a in (one, other)]
    assert ends[0].keys() == ends[1].keys()
    assert all((x == ends[1][name]).all() for name, x in ends[0].items())


# -- the parts that have schedules of their own ----------------------------------------------------------------------
def test_stocbios_batches():
    """|B_{Q+1−j}| = B Q (1 − ημ)^{j−1}, and B_Q comes first; |S|, D_F and D_G as the fields say.

    Kills: the batches growing in the order of their use, Q left out, another power.
    """
    scale, products, factor = 3, 4, 0.5
    size = {products + 1 - j: scale * products * factor ** (j - 1) for j in range(1, products + 1)}
    expected = tuple(math.ceil(size[i]) for i in range(products, 0, -1))
    assert hessian_batches(scale, products, factor) == expected == (12, 6, 3, 2)
    ((loop, (xi, zeta, inner)),) = drawn(CASES["stocbio"], PLAIN, steps=1)
    assert loop[1].shape == (3, 2)
    assert [len(data) for _, data in (xi, zeta, *inner)] == [3, 2, 3, 1]
    for wrong in ({"scale": 0}, {"scale": math.inf}, {"factor": 1}, {"factor": 0.0}):
        with pytest.raises(BadInput, match="would not shrink"):
            hessian_batches(**{"scale": 1, "products": 3, "factor": 0.5, **wrong})
    with pytest.raises(BadInput, match="number of products"):
        hessian_batches(1, 0, 0.5)


def test_bsas_terms_make_the_bias_fall_as_its_step():
    """K_k is the smallest K with (1 − μ/L)^K <= 1/√(k+1), in rationals, but 1 at least. Kills: a factor 2, the root."""
    factor = 1 - Fraction(3, 10)
    a = BSA(beta=0.1, inverse=ProductNeumann(1, 10), terms=neumann_terms(3.0, 10.0))
    for k in range(1, 60):
        (_, (_, _, (_, *points))) = a.space(PLAIN, k).sample(0, ())
        terms = 1 + len(points)
        assert factor ** (2 * terms) * (k + 1) <= 1 < factor ** (2 * terms - 2) * (k + 1)
    assert len(a.space(PLAIN, 0).sample(0, ())[1][2]) == 1  # K_0 = 1: τ alone
    assert neumann_terms(2, 2) == Fixed(1)
    for wrong in ((0, 1), (2, 1), (-1, 1)):
        with pytest.raises(BadInput, match="0 < mu <= L"):
            neumann_terms(*wrong)


def test_bsas_loop_has_the_papers_length():
    a = BSA(beta=0.1, inverse=PRODUCT)
    lengths = [a.space(PLAIN, k).factors[0].times for k in range(11)]
    assert lengths == [
        math.isqrt(k) + (math.isqrt(k + 1) > math.isqrt(k) or 1) for k in range(11)
    ]  # ⌈√(k+1)⌉


def test_a_loop_of_no_steps():
    """A schedule may begin with none: w, and v, stay."""
    a = AmIGO(alpha=0.1, beta=0.1, gamma=0.1, steps=Logarithmic(1.0), linear_steps=Logarithmic(1.0))
    state = next(stepped(a, PLAIN, START, drawn(a, PLAIN, 1)))
    assert (state.w == START[1]).all()
    assert (state.v == START[2]).all()
    assert (state.lam != START[0]).all()


def test_a_momentum_above_one_is_no_momentum():
    """b_k >= 1: d is h, whatever d was; in rationals."""
    a, exact = replace(CASES["smb"], b=4), MASKED.to("rational")
    first, second = drawn(a, MASKED, 2)
    state = a.step(exact, begun(a, exact, on(backend("rational"), START)), first)
    assert (a.step(exact, state, second).d == a.step(exact, replace(state, k=0), second).d).all()


# -- what the attributes say -----------------------------------------------------------------------------------------
@every_case
def test_the_warm_start_is_measured(name):
    """Does the next λ depend on the w, on the v, that the iteration before left?"""
    a, found = CASES[name], []
    *_, state = stepped(a, PLAIN, START, drawn(a, PLAIN, 2))
    sample = drawn(a, PLAIN, 3)[2]
    for key in ("w", "v"):
        other = replace(state, **({key: state.arrays[key] + 1} if key in state.arrays else {}))
        found.append(bool((a.step(PLAIN, other, sample).lam != a.step(PLAIN, state, sample).lam).any()))
    assert tuple(found) == type(a).warm_start
    table = {"bsa": (False, False), "alset-dagger": (True, True), "amigo": (True, True)}
    assert tuple(found) == table.get(name, (True, False))


def test_what_is_taken_unless_given_is_the_papers():
    """The exponents of the step sizes: two time scales, one, and 1/√k with loops of √k."""
    ttsa, alset, bsa = TTSA(inverse=PRODUCT), ALSET(inverse=PRODUCT), BSA(beta=1.0, inverse=PRODUCT)
    assert (ttsa.alpha, ttsa.beta) == (Power(1.0, 3 / 5), Power(1.0, 2 / 5))
    assert (alset.alpha, alset.beta, alset.steps) == (Power(1.0, 1 / 2), Power(1.0, 1 / 2), Fixed(1))
    assert len({ALSETDagger().alpha, ALSETDagger().beta, ALSETDagger().gamma, alset.alpha, bsa.alpha}) == 1
    assert (bsa.terms, ttsa.lower_batch, ttsa.upper_batch) == (None, None, None)


def test_how_the_linear_system_is_solved():
    kinds = {name: type(a).linear_system for name, a in CASES.items()}
    others = {"stocbio": "sum", "alset-dagger": "steps", "amigo": "steps"}
    assert kinds == dict.fromkeys(CASES, "product") | others
    for name, a in ESTIMATING.items():
        assert isinstance(a.inverse, SumNeumann if kinds[name] == "sum" else ProductNeumann)
    assert (ALSETDagger().deterministic, ALSETDagger(lower_batch=4).deterministic) == (True, False)


@every_case
def test_an_iteration_is_affine(name):
    """f(2x − y) = 2f(x) − f(y) for states x, y and one sample, in rationals: what ``affine`` promises."""
    a, exact, two = CASES[name], MASKED.to("rational"), backend("rational").scalar(2)
    assert a.affine is None
    x, y = (replace(_state(a, exact, seed), k=2) for seed in (7, 8))
    along = replace(x, **{key: two * x.arrays[key] - y.arrays[key] for key in x.arrays})
    sample = drawn(a, MASKED, 3)[2]
    ends = [a.step(exact, s, sample).arrays for s in (x, y, along)]
    for key in x.arrays:
        assert (two * ends[0][key] - ends[1][key] == ends[2][key]).all()


def _state(a, exact, seed):
    """A state with numbers in all its arrays."""
    R, rng = backend("rational"), np.random.default_rng(seed)
    state = begun(a, exact, on(R, START))
    return replace(state, **{key: R.asarray(rng.standard_normal(len(x))) for key, x in state.arrays.items()})


@every_case
def test_from_when_on_all_iterations_are_one_map(name):
    """Kills: a first iteration that differs and does not say so, a schedule forgotten."""
    a, exact = CASES[name], MASKED.to("rational")
    fields = {f.name for f in dataclasses.fields(a)}
    rates = {key: Constant(Fraction(1, 4)) for key in {"alpha", "beta", "gamma", "b"} & fields}
    lengths = {key: Fixed(3) for key in {"steps", "linear_steps", "terms"} & fields}
    if name == "bsa":
        rates["beta"] = a.beta  # over the steps of a loop, the same in all
    still = replace(a, **rates, **lengths)
    assert still.constant_from == (1 if name == "smb" else 0)
    for key in {**rates, **lengths}.keys() - ({"beta"} if name == "bsa" else set()):
        moving = Power(0.1, 1 / 2) if key in rates else Growing(1, 1 / 2)
        assert replace(still, **{key: moving}).constant_from is None
    assert name != "bsa" or replace(still, terms=None).constant_from == 0
    state, (sample,) = _state(still, exact, 3), drawn(still, MASKED, 1)
    first, second, later = (still.step(exact, replace(state, k=k), sample) for k in (0, 1, 5))
    assert same(second, later.arrays)
    assert same(first, second.arrays) == (name != "smb")


@pytest.mark.parametrize(
    ("name", "draws", "calls"),
    [  # over iterations k = 0, 1, 2: draws of the lower level; ∇_wG, products with the Hessian
        ("bsa", (1 + 2 + 3) + (1 + 2 + 3), (1 + 2 + 3, 0 + 1 + 2)),
        ("ttsa", 3 * (1 + K), (3, 3 * (K - 1))),
        ("stocbio", 3 * (3 + 1 + Q), (3 * 3, 3 * Q)),
        ("smb", 3 * (1 + K), (3, 3 * (K - 1))),
        ("alset", (1 + 2 + 3) + 3 * K, (1 + 2 + 3, 3 * (K - 1))),
        ("alset-dagger", 3 * 3, (3, 3)),
        ("amigo", 3 * 2 + (1 + 2 + 3) + 3, (3 * 2, 1 + 2 + 3)),
    ],
)
def test_counts(name, draws, calls):
    """As the docstrings say. Kills: a draw for every use of the upper level, factors of PROD that are not drawn."""
    half = PLAIN.with_dropout(lower=0.5, upper=None)
    counts = run(CASES[name], half, START[0], steps=3, rng=0, replicates=(2,)).counts
    assert counts == {
        "lower.grad_w": calls[0],
        "lower.hess_ww": calls[1],
        "lower.cross": 3,
        "upper.grad_w": 3,
        "upper.grad_lam": 3,
        "lower.data": 3 * (2 * (3 + 1) + 3 + 1) if name == "stocbio" else 2 * draws,
        "lower.masks": draws,
        "upper.data": 3 * 3,
        "upper.masks": 0,
    }


# -- replicates, dropout ---------------------------------------------------------------------------------------------
@every_case
def test_replicates_are_single_runs(name):
    """In rationals, equal. Kills: one mask, one batch or one τ for all replicates."""
    a, exact, start = CASES[name], MASKED.to("rational"), on(backend("rational"), START)
    samples = drawn(a, MASKED, 3, shape=(4,))
    *_, together = stepped(a, exact, start, samples)
    together = together.broadcast(exact.backend, (4,))
    for i in range(4):
        *_, alone = stepped(a, exact, start, [pick(s, i) for s in samples])
        assert all((together.arrays[key][i] == x).all() for key, x in alone.arrays.items())
    assert len({tuple(map(str, row)) for row in together.lam}) == 4


@on_cpu
@every_case
def test_runs_with_dropout_and_replicates(place, name):
    problem = place.move(PLAIN.with_dropout(lower=0.8, upper=0.9))
    done = run(CASES[name], problem, problem.start(), steps=6, rng=0, replicates=(2, 3), every=6)
    lam = to_numpy(done.trajectory["lam"])
    assert lam.shape == (2, 2, 3, PLAIN.n)
    assert np.isfinite(to_numpy(done.state.w)).all()
    assert len(np.unique(lam[1].reshape(6, PLAIN.n), axis=0)) == 6


@every_case
def test_runs_on_other_families(name):
    problem = ri.zoo.weighted_softmax.digits(train=20, validation=10, seed=0)
    a = replace(CASES[name], lower_batch=5, upper_batch=5)
    problem = problem.with_dropout(lower=0.8, upper=0.9)
    done = run(a, problem, problem.start(), steps=3, rng=0, replicates=(2,))
    assert np.isfinite(done.state.w).all()
    assert not np.array_equal(done.state.lam[0], done.state.lam[1])


@every_case
def test_lam_stays_in_its_set(name):
    """λ⁺ = P_Λ(λ − αh) and nothing else changes; in rationals. The unconstrained step leaves this box on both sides."""
    a, exact, R = CASES[name], PLAIN.to("rational"), backend("rational")
    start, (sample,) = on(R, START), drawn(a, PLAIN, 1)
    free = next(stepped(a, exact, start, [sample]))
    move = np.array([Fraction(int(e.p), int(e.q)) for e in free.lam - start[0]])
    assert (move != 0).all()
    low, high = (np.array([Fraction(x) for x in START[0]]) + side * move for side in (-1, Fraction(1, 2)))
    box = Box(
        R.asarray([R.scalar(e) for e in np.minimum(low, high)]),
        R.asarray([R.scalar(e) for e in np.maximum(low, high)]),
    )
    held = next(stepped(a, replace(exact, domain=box), start, [sample]))
    assert (held.lam == R.asarray([R.scalar(e) for e in high])).all()
    assert same(held, {**free.arrays, "lam": held.lam})
    inside = replace(PLAIN, domain=Box(PLAIN.start() - 0.01, PLAIN.start() + 0.01))
    done = run(a, inside, PLAIN.start(), steps=5, rng=0, replicates=(2,))  # it looks itself
    assert (np.abs(done.state.lam - PLAIN.start()) > 0.0099).any()


# -- without noise ---------------------------------------------------------------------------------------------------
QUIET = quadratic.random(n=2, d=3, seed=18, L=2.0)
TERMS, LIPSCHITZ = 4, 2
SIZES = {"alpha": 0.05, "beta": 0.6, "gamma": 0.6, "b": 0.5, "steps": 50, "linear_steps": 3}
TRUNCATED = SumNeumann(1 / LIPSCHITZ, TERMS - 1)  # the exact mean of ProductNeumann(TERMS, LIPSCHITZ)


def quiet(name):
    """Constant steps, all data, the product's exact mean; of BSA a loop that ends at w(λ) to rounding."""
    cls = type(CASES[name])
    sizes = {f.name: SIZES[f.name] for f in dataclasses.fields(cls) if f.name in SIZES}
    return cls(**sizes, **({"inverse": TRUNCATED} if name in ESTIMATING else {}))


def stationary(problem, terms, number, lower=None):
    """(λ, w, v) with ∇_wG = 0, v the ``terms`` terms of Neumann's series (None: all) of ∇_wF, ∇_λF = ∇²_λwG v;
    and the derivative of ∇_λF − ∇²_λwG v by λ. lower: w = lower(G, λ) instead."""
    F, G = (
        {key: _numbers(getattr(level, key)[0], number) for key in ("ww", "lw", "ll", "w1", "l1")}
        for level in (problem.upper, problem.lower)
    )

    def series(r):
        if terms is None:
            return _solved(G["ww"], r)
        total, part = 0 * r, r / LIPSCHITZ
        for _ in range(terms):
            total, part = total + part, part - G["ww"] @ part / LIPSCHITZ
        return total

    def at(lam):
        w = _solved(G["ww"], -(G["lw"].T @ lam + G["w1"])) if lower is None else lower(G, lam)
        v = series(F["ww"] @ w + F["lw"].T @ lam + F["w1"])
        return w, v, F["lw"] @ w + F["ll"] @ lam + F["l1"] - G["lw"] @ v

    basis = _numbers(np.eye(problem.n), number)
    h = at(0 * basis[0])[2]
    slope = np.stack([at(e)[2] - h for e in basis], axis=-1)
    lam = _solved(slope, -h)
    return (lam, *at(lam)[:2]), slope


def _numbers(x, number):
    return np.array([number(e) for e in x.ravel().tolist()]).reshape(x.shape)


def _solved(a, b):
    """a⁻¹ b by elimination, in any kind of number, with the largest pivots."""
    m = np.concatenate([a, b[:, None]], axis=1)
    for i in range(len(b)):
        p = i + int(np.argmax([abs(x) for x in m[i:, i]]))
        m[[i, p]] = m[[p, i]]
        m[i] = m[i] / m[i, i]
        for j in range(len(b)):
            if j != i:
                m[j] = m[j] - m[j, i] * m[i]
    return m[:, -1]


def rests_at(name):
    """Terms of Neumann's series in the hypergradient whose zero the algorithm rests at; None: all."""
    return TERMS if name in ESTIMATING else None


@every_case
def test_without_noise_it_stays_where_it_is_stationary(name):
    """Over the rationals not one number moves, in floats nothing by 1e-8 relative over 50 iterations.

    Kills: Neumann's index, a sign, a dropped factor: where another truncation is stationary it does not stay.
    """
    a, R, exact = quiet(name), backend("rational"), QUIET.to("rational")
    for terms in (TERMS - 1, TERMS, TERMS + 1, None):
        start = on(R, stationary(QUIET, terms, Fraction)[0])
        if name == "bsa":
            a = replace(a, steps=2)  # from w(λ) it need not go on
        state = begun(a, exact, start)
        moved = next(stepped(a, exact, start, drawn(a, QUIET, 1)))
        arrays = {
            key: x for key, x in moved.arrays.items() if key != "d"
        }  # SMB's d begins with 0 and is h = 0
        stays = all((x == state.arrays[key]).all() for key, x in arrays.items())
        assert stays == (terms == rests_at(name))
    point, _ = stationary(QUIET, rests_at(name), float)
    done = run(quiet(name), QUIET, begun(a, QUIET, point), steps=50, rng=0, every=50)
    for key, x in zip(("lam", "w", "v"), point, strict=True):
        if key in done.state.arrays:
            assert np.linalg.norm(done.state.arrays[key] - x) <= 1e-8 * np.linalg.norm(x)


def test_bsa_rests_where_its_own_loop_ends():
    """h_K(λ, w_t(λ)) = 0 with three steps from w_0, in rationals. Kills: a warm start, β_j of another step."""
    exact, R = QUIET.to("rational"), backend("rational")
    w_0 = _numbers(START[1], Fraction)

    def loop(G, lam):
        w = w_0
        for j in range(3):
            w = w - Fraction(1, 4 + j) * (G["ww"] @ w + G["lw"].T @ lam + G["w1"])
        return w

    a = replace(quiet("bsa"), steps=3, beta=BETA)
    (lam, w, _), _ = stationary(QUIET, TERMS, Fraction, loop)
    start = on(R, (lam, w_0, w_0))
    for state in stepped(a, exact, start, drawn(a, QUIET, 2)):
        assert (state.lam == start[0]).all()
        assert (state.w == R.asarray(w)).all()


@every_case
def test_without_noise_it_comes_to_the_stationary_point(name):
    a = quiet(name)
    (lam, w, v), slope = stationary(QUIET, rests_at(name), float)
    assert np.linalg.eigvals(slope).real.min() > 0  # else it need not
    done = run(a, QUIET, QUIET.start(), steps=800, rng=0, every=800)
    first, last = (np.linalg.norm(x - lam) for x in done.trajectory["lam"])
    assert last <= 1e-8 * first
    assert np.linalg.norm(done.state.w - w) <= 1e-8 * np.linalg.norm(w)
    if keeps_v(a):
        assert np.linalg.norm(done.state.v - v) <= 1e-8 * np.linalg.norm(v)


def test_the_truncated_point_is_within_the_bias_of_the_true_one():
    """At the K-truncated hypergradient's zero the true one is ∇²_λwG times the bias: ((1 − μ/L)^K/μ)‖∇_wF‖ at most."""
    mu = float(np.linalg.eigvalsh(QUIET.lower.ww[0])[0])
    cross = np.linalg.norm(QUIET.lower.lw[0], 2)
    modulus = float(np.linalg.eigvalsh(hyperobjective_hessian(QUIET, QUIET.start()))[0])
    true, previous = stationary(QUIET, None, float)[0][0], np.inf
    for terms in (1, 4, 16):
        lam, w, _ = stationary(QUIET, terms, float)[0]
        gradient = np.linalg.norm(ri.exact_hypergradient(QUIET, lam, certify="never").value)
        bound = cross * (1 - mu / LIPSCHITZ) ** terms / mu * np.linalg.norm(QUIET.upper.grad_w(lam, w))
        assert bound / 100 <= gradient <= bound  # the bound is of the right size
        assert np.linalg.norm(lam - true) <= bound / modulus  # the hyperobjective is that strongly convex
        assert gradient < previous
        previous = gradient


# -- bad input -------------------------------------------------------------------------------------------------------
@every_case
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "fast", None])
def test_step_sizes_are_positive_numbers_or_schedules(name, value):
    for key in type(CASES[name]).rates:
        with pytest.raises(BadInput, match=f"{key}: the step size is out of range"):
            replace(CASES[name], **{key: value})


@every_case
@pytest.mark.parametrize("value", [-1, 1.5, "1"])
def test_lengths_are_whole_numbers_or_schedules(name, value):
    lengths = [*type(CASES[name]).lengths, *(["terms"] if name == "bsa" else [])]
    for key in lengths:
        with pytest.raises(BadInput, match="how many in every iteration"):
            replace(CASES[name], **{key: value})


@every_case
@pytest.mark.parametrize("key", ["lower_batch", "upper_batch"])
@pytest.mark.parametrize("value", [0, 1.5])
def test_batches_are_whole_numbers(name, key, value):
    with pytest.raises(BadInput, match=f"{key} must be a whole number"):
        replace(CASES[name], **{key: value})


@pytest.mark.parametrize("name", ESTIMATING)
def test_the_inverse_is_an_estimator(name):
    with pytest.raises(BadInput, match="how is the linear system solved"):
        replace(CASES[name], inverse=3)


def test_stocbio_is_a_sum():
    """What its class says of it: with the product estimator it is ALSET, which takes either."""
    with pytest.raises(BadInput, match="solved by a sum") as caught:
        replace(CASES["stocbio"], inverse=PRODUCT)
    assert (caught.value.measured, StocBiO.linear_system) == ("ProductNeumann", "sum")
    for inverse in (PRODUCT, SUM):
        assert replace(CASES["alset"], inverse=inverse).inverse is inverse


@every_case
def test_what_it_does_not_run_on(name):
    a = CASES[name]
    with pytest.raises(BadInput, match=f"{type(a).__name__} needs a lower objective"):
        run(a, PLAIN.as_fixed_point(0.1), START[0], steps=1, rng=0)
    twice = replace(MASKED, lower=MASKED.lower.with_dropout(0.5))
    with pytest.raises(BadInput, match="a minibatch of what"):
        a.init(twice, START[0])
    with pytest.raises(BadInput, match="w has the wrong shape"):
        a.init(PLAIN, START[0], START[1][:2])
    with pytest.raises(Diverged, match="diverged"):
        run(replace(quiet(name), alpha=1e9), QUIET, QUIET.start(), steps=400, rng=0, every=400)
    in_ball = replace(QUIET, domain=Ball(1e300))
    with pytest.raises(Diverged, match="diverged") as caught:  # the projection takes no NaN
        run(replace(quiet(name), alpha=1e9), in_ball, QUIET.start(), steps=400, rng=0, every=400)
    assert caught.value.result.state.k < 400


@pytest.mark.parametrize("name", ["bsa", "smb", "alset-dagger", "amigo"])
def test_states_are_its_own(name):
    a = CASES[name]
    wrong, (sample,) = CASES["ttsa"].init(PLAIN, START[0]), drawn(a, PLAIN, 1)
    with pytest.raises(BadInput, match="not a state of this algorithm") as caught:
        a.step(PLAIN, wrong, sample)
    assert f"start with {type(a).__name__}.init" in caught.value.advice
    if keeps_v(a):
        assert (a.init(PLAIN, START[0]).v == 0).all()
        with pytest.raises(BadInput, match="v has the wrong shape"):
            a.init(PLAIN, START[0], v=START[1][:2])
        a.step(PLAIN, FSLA(delta=0.1).init(PLAIN, *START), sample)  # it has w and v


def test_algorithms_are_values():
    for name, a in CASES.items():
        assert round_trip(a) == a
        year = "JMLR 2023" if name == "alset-dagger" else {"bsa": "2018", "ttsa": "2020"}.get(name, "2021")
        assert year in type(a).source
