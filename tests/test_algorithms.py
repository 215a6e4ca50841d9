"""FSLA and FSLA with dropout against Algorithm 1 written out, and the loop that runs algorithms."""

from __future__ import annotations

import dataclasses
import itertools as it
import re
from fractions import Fraction

import numpy as np
import pytest

import refimpl as ri
from refimpl.algorithms import (
    BSGM,
    FSLA,
    Algorithm,
    Diverged,
    DropoutFSLA,
    Improved,
    State,
    fixed_lambda,
    run,
    whole_state,
)
from refimpl.arrays import backend, to_numpy
from refimpl.draws import Draws
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.exact import hyperobjective_hessian
from refimpl.lengths import Growing
from refimpl.sets import Box
from refimpl.solvers import BiGSAM, GradientDescent
from refimpl.spaces import Minibatch
from refimpl.zoo import logistic, quadratic, ridge
from refimpl.zoo.uppers import Scaled
from tests.algorithm_things import algorithm_1, drawn, pick, stepped
from tests.backends import everywhere, on_cpu, round_trip
from tests.rounding import assert_rounded

PLAIN = quadratic.random(n=2, d=3, seed=0, terms=4)
OTHER = quadratic.random(n=2, d=2, seed=0)
GROUPS = {"lam": (0, 1), "w": (1, 0, 1)}
MASKED = PLAIN.with_dropout(lower={"lam": 0.9, "w": 0.75}, upper={"lam": 0.8, "w": 0.5}, groups=GROUPS)
START = (PLAIN.start(), np.array([1.0, -2.0, 0.5]), np.array([0.25, 1.0, -1.0]))
HYPER = {"delta": 0.25, "gamma": 0.5, "beta": 0.375, "eta": 1.5}
EVERY_USE = list(it.product(("shared", "fresh", "fresh-cross"), ("new", "old")))
every_use = pytest.mark.parametrize(("randomness", "reading"), EVERY_USE)


def in_rationals():
    return MASKED.to("rational")


def on(B, start):
    return tuple(B.asarray(x) for x in start)


# -- the update ----------------------------------------------------------------------------------------------------
@every_use
@pytest.mark.parametrize("schedule", ["sqrt", "constant"])
def test_every_iteration_is_algorithm_1(randomness, reading, schedule):
    """Equal in rationals, for the same samples.

    Kills: masks shared where they must be independent and the reverse, a missing outer mask, the reading swapped, η_k
    or α_k of another k, h(prev) with the previous masks, beta for β_k in either place, w for w⁺ in line 7, λ⁺ from d.
    """
    B = backend("rational")
    a = DropoutFSLA(
        **HYPER, schedule=schedule, randomness=randomness, reading=reading, lower_batch=2, upper_batch=1
    )
    samples = drawn(a, MASKED, 4)
    start = on(B, START)
    expected = algorithm_1(in_rationals(), *start, samples, a, number=B.scalar)
    for state, literal in zip(stepped(a, in_rationals(), start, samples), expected, strict=True):
        found = (state.lam, state.w, state.v, state.d)
        assert all((x == y).all() for x, y in zip(found, literal, strict=True))


def test_the_choices_differ():
    """Each pair of choices gives another λ, else the test above could not tell them apart."""
    ends = set()
    for randomness, reading in EVERY_USE:
        a = FSLA(**HYPER, randomness=randomness, reading=reading)
        samples = drawn(dataclasses.replace(a, randomness="fresh"), MASKED, 3)
        *_, end = stepped(a, MASKED, START, samples)
        ends.add(tuple(end.lam))
    assert len(ends) == len(EVERY_USE)


@pytest.mark.parametrize("reading", ["new", "old"])
@pytest.mark.parametrize("family", ["logistic", "ridge"])
def test_where_the_derivatives_are_taken(family, reading):
    """Lines 6 to 11 in the problem's own words, bit for bit; Hessian and cross derivative depend on λ and w here.

    Kills: the Hessian at w⁺, the cross derivative at w, either at the other λ.
    """
    problem = {"logistic": logistic.random(d=3, seed=5, rows=9), "ridge": ridge.random(d=3, seed=5, rows=9)}[
        family
    ]
    problem = dataclasses.replace(problem, domain=None)
    F, G, a = problem.upper, problem.lower, FSLA(**HYPER, reading=reading)
    start = (problem.start(), START[1], START[2])
    lam, w, v = start
    lam_prev = v_prev = d = None
    for k, state in enumerate(stepped(a, problem, start, drawn(a, problem, 3))):
        alpha, gamma, beta, eta = a.sizes(k)
        new_w = w - gamma * G.grad_w(lam, w)
        new_v = beta * F.grad_w(lam, new_w) + v - beta * (G.hess_ww(lam, w) @ v)
        h = F.grad_lam(lam, new_w) - G.cross(lam, new_w) @ (new_v if reading == "new" else v)
        if k:
            before = F.grad_lam(lam_prev, w) - G.cross(lam_prev, w) @ (v if reading == "new" else v_prev)
            d = h + (1 - eta) * (d - before)
        else:
            d = h
        lam_prev, v_prev = lam, v
        lam, w, v = lam - alpha * d, new_w, new_v
        for found, expected in ((state.lam, lam), (state.w, w), (state.v, v), (state.d, d)):
            assert np.array_equal(found, expected)


@everywhere
@every_use
def test_all_backends_round_the_same_iterates(place, randomness, reading):
    """Against the literal transcription, allowed the rounding of its terms' sizes."""
    a = FSLA(**HYPER, randomness=randomness, reading=reading, lower_batch=3)
    samples = drawn(a, MASKED, 5)
    expected = algorithm_1(MASKED, *START, samples, a)[-1]
    size = dataclasses.replace(MASKED, upper=_absolute(MASKED.upper), lower=_absolute(MASKED.lower))
    terms = algorithm_1(size, *map(np.abs, START), samples, a, sign=1)[-1]
    *_, end = stepped(a, place.move(MASKED), tuple(map(place.array, START)), samples)
    per_iteration = 4 * (PLAIN.n + PLAIN.d) + 4 + 10  # products, terms, sums of lines 6 to 11
    for found, literal, most in zip((end.lam, end.w, end.v, end.d), expected, terms, strict=True):
        assert_rounded(found, literal, terms=most, count=5 * per_iteration)


def _absolute(level):
    f = level.f
    sizes = {name: np.abs(getattr(f, name)) for name in ("ww", "lw", "ll", "w1", "l1")}
    return dataclasses.replace(level, f=dataclasses.replace(f, **sizes))


@on_cpu
def test_sure_masks_change_nothing(place):
    """keep_prob 1 and no projection is FSLA bit for bit, stream and minibatches included."""
    problem = place.move(PLAIN)
    sure = problem.with_dropout(lower={"lam": 1, "w": 1}, upper=1)
    ends = []
    for algorithm, of in (
        (FSLA(delta=0.1, lower_batch=2), problem),
        (DropoutFSLA(delta=0.1, lower_batch=2), sure),
    ):
        done = run(algorithm, of, of.start(), steps=6, rng=np.random.default_rng(3), replicates=(2,))
        ends.append([to_numpy(x) for x in done.state.arrays.values()])
    assert all((x == y).all() for x, y in zip(*ends, strict=True))


def test_masks_that_never_keep_are_masks():
    """keep_prob 0 is sure, but no identity."""
    gone = PLAIN.with_dropout(lower=None, upper={"lam": 0, "w": 1})
    *_, end = stepped(FSLA(delta=0.1), gone, START, drawn(FSLA(delta=0.1), gone, 2))
    level = Draws(gone.upper).at((np.asarray(0), np.asarray(0)))
    assert not level.grad_lam(*START[:2]).any()
    assert level.grad_w(*START[:2]).all()
    assert not np.array_equal(
        end.lam, [*stepped(FSLA(delta=0.1), PLAIN, START, drawn(FSLA(delta=0.1), PLAIN, 2))][-1].lam
    )


def test_step_sizes():
    a = FSLA(delta=Fraction(1, 2), gamma=3, beta=Fraction(1, 3), eta=5)
    assert a.sizes(3) == (Fraction(1, 4), Fraction(3, 4), Fraction(1, 12), 1)  # √4 = 2, and η_k is capped
    assert a.sizes(24)[3] == Fraction(1, 2)
    assert a.sizes(1)[0] == 0.5 / np.sqrt(2)
    assert dataclasses.replace(a, schedule="constant").sizes(24)[0] == Fraction(1, 2)
    assert a.frozen(3).sizes(7) == a.sizes(3)


def test_a_capped_momentum_is_h_itself():
    """η_k = 1: d⁺ = h, whatever d was; in rationals. Kills: the cap at another number."""
    a, B = FSLA(delta=0.25, eta=400, schedule="constant"), backend("rational")
    (first, second) = drawn(a, MASKED, 2)
    state = a.step(in_rationals(), a.init(in_rationals(), *on(B, START)), first)
    fresh = dataclasses.replace(state, k=0)
    assert (a.step(in_rationals(), state, second).d == a.step(in_rationals(), fresh, second).d).all()


# -- line 8 --------------------------------------------------------------------------------------------------------
@on_cpu
def test_the_projection_is_onto_the_ball(place):
    """Kills: the entries clipped, the ball of radius r², a projection of what is inside."""
    problem, B = place.move(PLAIN), backend(place.backend)
    a = DropoutFSLA(delta=1, r=2.0)
    v = np.array([[3.0, 0.0, 4.0], [0.3, 0.0, 0.4], [0.0, 0.0, 0.0], [0.0, -2.0, 0.0]])
    found = to_numpy(a.constrained(problem.backend, place.array(v)))
    assert_rounded(found[0], [1.2, 0.0, 1.6], terms=2.0, count=6)
    assert (found[1:] == v[1:]).all()
    free, held = (
        next(stepped(x, problem, on(B, START), drawn(a, PLAIN, 1)))
        for x in (FSLA(delta=1), dataclasses.replace(a, r=0.5))
    )
    norm = np.linalg.norm(to_numpy(free.v))
    assert norm > 0.5
    assert_rounded(held.v, to_numpy(free.v) * (0.5 / norm), terms=np.abs(to_numpy(free.v)), count=PLAIN.d + 4)


def test_the_projection_acts_before_line_9():
    a = DropoutFSLA(**HYPER, r=0.5)
    samples = drawn(a, MASKED, 4)
    expected = algorithm_1(MASKED, *START, samples, a, r=0.5)
    without = algorithm_1(MASKED, *START, samples, a)
    size = dataclasses.replace(MASKED, upper=_absolute(MASKED.upper), lower=_absolute(MASKED.lower))
    terms = algorithm_1(size, *map(np.abs, START), samples, a, sign=1)
    for state, literal, most, free in zip(
        stepped(a, MASKED, START, samples), expected, terms, without, strict=True
    ):
        assert np.abs(literal[3] - free[3]).max() > 1e-3 * np.abs(free[3]).max()  # it matters for d
        # the projection is 1-Lipschitz: it adds the rounding of a norm and a quotient
        assert_rounded(state.d, literal[3], terms=most[3], count=4 * 40)
        assert_rounded(state.lam, literal[0], terms=most[0], count=4 * 40)


def test_over_the_rationals_only_what_is_inside_the_ball():
    B = backend("rational")
    inside = DropoutFSLA(delta=1, r=5)
    v = B.asarray(np.array([[3.0, 4.0, 0.0], [0.0, 1.0, 0.0]]))
    assert (inside.constrained(B, v) == v).all()
    assert (inside.constrained(B, v[0]) == v[0]).all()
    with pytest.raises(BadInput, match="square root"):
        DropoutFSLA(delta=1, r=Fraction(49, 10)).constrained(B, v)


# -- what it is for ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("reading", ["new", "old"])
def test_without_noise_it_reaches_the_stationary_point(reading):
    """Kills: any wrong sign or factor that a transcription could share: the judge is exact_hypergradient."""
    problem = quadratic.random(n=2, d=3, seed=18, L=4.0)
    curvature = np.linalg.eigvalsh(hyperobjective_hessian(problem, problem.start()))
    assert curvature[0] > 0
    alpha = 0.1 / curvature[-1]
    a = DropoutFSLA(
        delta=alpha,
        gamma=0.25 / alpha,
        beta=0.25 / alpha,
        eta=0.5 / alpha,
        schedule="constant",
        reading=reading,
        r=1e3,
    )
    done = run(a, problem, problem.start(), steps=4000, rng=np.random.default_rng(0), every=4000)
    first, last = (
        np.linalg.norm(ri.exact_hypergradient(problem, lam, certify="never").value)
        for lam in done.trajectory["lam"]
    )
    assert last <= 1e-8 * first  # relative, as it is promised of every algorithm without noise
    found = ri.exact_hypergradient(problem, done.state.lam, certify="never")
    assert np.linalg.norm(done.state.w - found.w) <= 1e-8 * np.linalg.norm(found.w)
    assert np.linalg.norm(done.state.v - found.v) <= 1e-8 * np.linalg.norm(found.v)


def test_runs_on_other_families():
    problem = ri.zoo.weighted_softmax.digits(train=20, validation=10, seed=0).with_dropout(
        lower=0.9, upper=None
    )
    a = DropoutFSLA(delta=0.5, r=100.0, lower_batch=5, upper_batch=5)
    done = run(a, problem, problem.start(), steps=5, rng=np.random.default_rng(0), replicates=(2,), every=5)
    assert done.trajectory["lam"].shape == (2, 2, problem.n)
    assert np.isfinite(done.state.w).all()
    assert not np.array_equal(done.state.lam[0], done.state.lam[1])


# -- the loop ------------------------------------------------------------------------------------------------------
def test_replicates_are_single_runs():
    """In rationals, equal. Kills: one mask, or one batch, for all replicates."""
    B = backend("rational")
    a = FSLA(**HYPER, lower_batch=2, upper_batch=2, randomness="fresh-cross", reading="old")
    samples = drawn(a, MASKED, 3, shape=(4,))
    *_, together = stepped(a, in_rationals(), on(B, START), samples)
    for i in range(4):
        *_, alone = stepped(a, in_rationals(), on(B, START), [pick(s, i) for s in samples])
        for name, x in alone.arrays.items():
            assert (together.arrays[name][i] == x).all()
    assert len({tuple(map(str, row)) for row in together.lam}) == 4


def test_counts():
    """Kills: a draw counted once per use, an h before the first iteration, masks of a level without dropout."""
    half = PLAIN.with_dropout(lower=0.5, upper=None)
    for randomness, lower, upper in (("shared", 1, 1), ("fresh", 3, 2), ("fresh-cross", 2, 1)):
        a = FSLA(delta=0.01, randomness=randomness, lower_batch=3)
        counts = run(a, half, half.start(), steps=5, rng=np.random.default_rng(0), replicates=(2,)).counts
        products = {
            "lower.grad_w": 5,
            "lower.hess_ww": 5,
            "lower.cross": 9,
            "upper.grad_w": 5,
            "upper.grad_lam": 9,
        }
        data = {"lower.data": 15 * lower, "lower.masks": 5 * lower, "upper.data": 5 * upper, "upper.masks": 0}
        assert counts == products | data
    turned = dataclasses.replace(
        half, lower=PLAIN.upper, upper=half.lower
    )  # now the upper level has four terms
    counts = run(FSLA(delta=0.01), turned, START[0], steps=1, rng=np.random.default_rng(0)).counts
    keys = ("lower.data", "lower.masks", "upper.data", "upper.masks")
    assert [counts[name] for name in keys] == [1, 0, 4, 1]


@dataclasses.dataclass(frozen=True)
class Toy(Algorithm):
    """The smallest algorithm: iteration k adds up the indices of a minibatch of k + 1."""

    def space(self, problem, k=0):
        return Minibatch(4, k + 1)

    def step(self, problem, state, sample):
        assert sample.shape[-1] == state.k + 1
        added = problem.backend.asarray(sample.sum(axis=-1)[..., None])
        return State(state.k + 1, state.lam + added, state.w)


@pytest.mark.parametrize(
    ("returned", "measured"),
    [
        (lambda s: s, "(0, (2,), (3,))"),
        (lambda s: None, "NoneType"),
        (lambda s: State(s.k + 1, s.lam[:, None], s.w), "(1, (2, 1), (3,))"),
        (lambda s: State(s.k + 1, s.lam, s.w[:2]), "(1, (2,), (2,))"),
    ],
    ids=["k forgotten", "None", "an axis more", "another length"],
)
def test_what_is_no_next_state_is_refused_by_name(returned, measured):
    class Forgetful(Toy):
        def step(self, problem, state, sample):
            return returned(state)

    for use in (
        lambda: run(Forgetful(), PLAIN, START[0], steps=2, rng=0),
        lambda: whole_state(Forgetful(), PLAIN, START[0], steps=2),
    ):
        with pytest.raises(BadInput, match=r"Forgetful\.step returned no next state") as caught:
            use()
        assert str(caught.value.measured) == measured


def test_exact_moments_look_at_every_iteration_prepared():
    # kills: exact-moments/step-not-looked-at, exact-moments/arrays-lost
    class Late(Toy):
        def step(self, problem, state, sample):
            new = super().step(problem, state, sample)
            return dataclasses.replace(new, k=state.k) if state.k == 2 else new

    whole_state(Late(), PLAIN, START[0], steps=2)
    with pytest.raises(BadInput, match=r"Late\.step returned no next state"):
        whole_state(Late(), PLAIN, START[0], steps=3)

    class Loses(FSLA):
        def step(self, problem, state, sample):
            new = super().step(problem, state, sample)
            return State(new.k, new.lam, new.w)

    loses = Loses(delta=0.1, schedule="constant")
    for use in (whole_state, fixed_lambda):
        with pytest.raises(BadInput, match="State without v, d, lam_prev"):
            use(loses, PLAIN, START[0])


def test_an_algorithm_is_a_space_and_a_step():
    """It starts at (λ, w), each of its steps may be another map, and whether they are affine is tested."""
    start = Toy().init(PLAIN, START[0], START[1])
    assert (start.k, *start.arrays) == (0, "lam", "w")
    assert (start.lam == START[0]).all()
    assert (start.w == START[1]).all()
    with pytest.raises(BadInput, match="of how many iterations"):
        whole_state(Toy(), PLAIN, START[0])
    known = whole_state(Toy(), PLAIN, np.zeros(2), steps=2).curve(2)
    assert known.mean("lam").tolist() == [[0, 0], [1.5, 1.5], [4.5, 4.5]]


def test_each_iteration_draws_from_its_own_space():
    """Kills: the first iteration's space for all."""
    done = run(Toy(), PLAIN, np.zeros(2), steps=4, rng=np.random.default_rng(2), replicates=(3,))
    rng = np.random.default_rng(2)
    literal = sum(rng.integers(0, 4, size=(3, k + 1)).sum(axis=-1) for k in range(4))
    assert done.state.lam.tolist() == [[x, x] for x in literal]
    with pytest.raises(BadInput, match="not a state of this algorithm"):
        run(FSLA(delta=0.1), PLAIN, done.state, steps=1, rng=rng)
    with pytest.raises(BadInput, match="not a state of this algorithm"):
        run(FSLA(delta=0.1, reading="old"), PLAIN, FSLA(delta=0.1).init(PLAIN, START[0]), steps=1, rng=rng)


def test_what_is_recorded():
    seen = []
    done = run(
        FSLA(delta=0.1, lower_batch=1),
        MASKED,
        START[0],
        steps=7,
        rng=np.random.default_rng(0),
        replicates=(3, 1),
        every=3,
        keep=("lam", "d"),
        callback=lambda state: seen.append(state.k),
    )
    assert (done.times, seen, done.interrupted) == ((0, 3, 6, 7), [3, 6, 7], False)
    assert {name: x.shape for name, x in done.trajectory.items()} == {"lam": (4, 3, 1, 2), "d": (4, 3, 1, 2)}
    assert (done.trajectory["lam"][-1] == done.state.lam).all()
    assert (done.trajectory["lam"][0] == START[0]).all()
    nothing = run(FSLA(delta=0.1), MASKED, START[0], steps=0, rng=np.random.default_rng(0))
    assert (nothing.times, nothing.state.k) == ((0,), 0)


def test_a_budget_of_samples():
    """As many iterations as it buys, bit for bit those of so many steps; growing ones too, and none that it does not.

    Kills: the budget of one level, an iteration more, one that is counted and not made, and an end not looked at.
    """
    seen = []
    a, growing = FSLA(delta=0.1, lower_batch=3, upper_batch=2), BSGM(t=Growing(1), k=0, J=1, alpha=0.1)
    for algorithm, cost in ((a, lambda k: 5), (growing, lambda k: k + 1 + 1 + 1)):
        for samples in (0, 4, 5, 23, 25):
            steps = max(s for s in range(20) if sum(map(cost, range(s))) <= samples)
            found = run(algorithm, PLAIN, START[0], samples=samples, rng=0, replicates=(2,), every=3)
            same = run(algorithm, PLAIN, START[0], steps=steps, rng=0, replicates=(2,), every=3)
            assert (found.times, found.counts, found.samples) == (same.times, same.counts, same.samples)
            assert found.samples == sum(map(cost, range(steps)))
            assert (found.trajectory["lam"] == same.trajectory["lam"]).all()
    run(a, PLAIN, START[0], samples=24, rng=0, every=3, callback=lambda state: seen.append(state.k))
    assert seen == [3, 4]
    assert run(a, PLAIN, START[0], samples=24, steps=2, rng=0).state.k == 2
    with pytest.raises(BadInput, match="draws no data"):
        run(Toy(), PLAIN, START[0], samples=10, rng=0)
    assert run(Toy(), PLAIN, START[0], samples=10, steps=2, rng=0).state.k == 2


BARE = ri.BilevelProblem(
    ri.from_function(lambda lam, w: ((w - lam) ** 2).sum(), n=1, d=2),
    ri.from_function(lambda lam, w: (w**2).sum(), n=1, d=2),
)
BARE_MAP = ri.FixedPointProblem(BARE.upper, ri.map_from_function(lambda lam, w: w / 2, n=1, d=2))


def test_what_is_no_finite_sum_has_no_minibatches():
    """Else all data would be used, and a batch of them counted. Without a batch a level is one datum."""
    for level in (
        BARE.lower,
        BARE_MAP.phi,
        BARE.as_fixed_point(0.1).phi,
        ri.zoo.uppers.Scaled(2.0, BARE.lower),
        BARE.lower.with_dropout({"lam": 1, "w": 0.5}),
    ):
        assert Draws(level).space.factors[1].size == 1
        for batch in (1, 5):
            with pytest.raises(BadInput, match="a minibatch of what") as caught:
                Draws(level, batch)
            assert "None" in caught.value.advice
    for problem, algorithm in (
        (BARE, FSLA(delta=0.1, lower_batch=1)),
        (BARE, FSLA(delta=0.1, upper_batch=1)),
        (BARE_MAP, BSGM(t=1, k=1, J=1, alpha=0.1)),
    ):
        with pytest.raises(BadInput, match="a minibatch of what"):
            run(algorithm, problem, np.zeros(1), steps=1, rng=0)
    assert run(FSLA(delta=0.1), BARE, np.zeros(1), steps=3, rng=0).samples == 6


@pytest.mark.parametrize("reading", ["new", "old"])
def test_a_run_is_gone_on_with(reading):
    """Bit for bit, also from a pickled state and after Ctrl-C."""
    a = FSLA(delta=0.1, lower_batch=2, reading=reading)

    def stop(state):
        if state.k == 4:
            raise KeyboardInterrupt

    whole = run(a, MASKED, START[0], steps=9, rng=np.random.default_rng(1), replicates=(2,))
    rng = np.random.default_rng(1)
    part = run(a, MASKED, START[0], steps=9, rng=rng, replicates=(2,), every=2, callback=stop)
    assert (part.interrupted, part.times, part.state.k) == (True, (0, 2, 4), 4)
    rest = run(a, MASKED, round_trip(part.state), steps=5, rng=rng)
    assert rest.times == (4, 5, 6, 7, 8, 9)
    assert (rest.trajectory["lam"] == whole.trajectory["lam"][4:]).all()
    for name, x in whole.state.arrays.items():
        assert (rest.state.arrays[name] == x).all()


def test_divergence_keeps_what_was_computed():
    with pytest.raises(Diverged, match="diverged") as caught:
        run(
            FSLA(delta=1e3, schedule="constant"),
            PLAIN,
            START[0],
            steps=500,
            rng=np.random.default_rng(0),
            every=50,
        )
    done = caught.value.result
    assert round_trip(caught.value).result.state.k == done.state.k
    assert done.state.k == done.times[-1] < 500
    assert np.isfinite(done.trajectory["lam"][0]).all()


INNER = {  # of λ and of w: step sizes that are too long
    "Improved": lambda outer, inner: Improved(lower=GradientDescent(20, inner), nu=outer, warm=True),
    "Improved, BiG-SAM": lambda outer, inner: Improved(
        lower=BiGSAM(20, s=inner, t=inner, alpha=0.5), nu=outer
    ),
    "BSGM": lambda outer, inner: BSGM(t=20, k=20, J=1, alpha=outer, rate=inner),
}


@pytest.mark.parametrize("every", [1, 100])  # later looked at, a λ that is infinite has become an argument
@pytest.mark.parametrize(("outer", "inner"), [(1e100, 0.1), (0.1, 1e100)])
@pytest.mark.parametrize("name", INNER)
def test_inner_runs_that_diverge_name_the_iteration(name, outer, inner, every):
    with pytest.raises(Diverged, match=r"in iteration \d+|after iteration \d+") as caught:
        run(INNER[name](outer, inner), PLAIN, START[0], steps=100, rng=0, every=every)
    last = caught.value.result.state
    told = int(re.findall(r"iteration (\d+)", caught.value.measured)[0])
    assert told == last.k + ("in iteration" in caught.value.measured)
    assert ("2/L" if inner > 1 else "short") in caught.value.advice


def test_other_refusals_of_a_step_stay_what_they_are():
    class Refuses(FSLA):
        def step(self, problem, state, sample):
            raise BadInput("no", advice="none")

    with pytest.raises(BadInput, match=r"^no"):
        run(Refuses(delta=0.1), PLAIN, START[0], steps=1, rng=0)


@pytest.mark.parametrize("every", [1, 100])
def test_a_right_side_that_overflowed_is_a_divergence(every):
    """At a finite w, about 10¹⁶⁰, ∇_wF of 10²⁰⁰ times a quadratic is infinite. Kills: BadInput, no result."""
    steep = dataclasses.replace(PLAIN, upper=Scaled(1e200, PLAIN.upper))
    with pytest.raises(Diverged, match="right side of the linear system") as caught:
        run(BSGM(t=1, k=2, J=1, alpha=0.1, rate=1e160), steep, START[0], steps=3, rng=0, every=every)
    assert caught.value.result.state.k == caught.value.result.times[-1] == 0
    assert "in iteration 1" in caught.value.measured


def test_a_number_that_no_float_holds():
    """Python's floats raise where arrays become infinite. Kills: a bare OverflowError."""

    class Steep(Toy):
        def step(self, problem, state, sample):
            new = super().step(problem, state, sample)
            return dataclasses.replace(new, lam=new.lam * 1e200**state.k)

    with pytest.raises(Diverged, match="too large for a float in iteration 3") as caught:
        run(Steep(), PLAIN, START[0], steps=9, rng=0)
    assert caught.value.result.times == (0, 1, 2)
    with pytest.raises(Diverged, match="int too large to convert to float"):
        run(FSLA(delta=10**400, schedule="constant"), PLAIN, START[0], steps=1, rng=0)


def test_leaving_the_set_of_lam_is_said():
    boxed = dataclasses.replace(PLAIN, domain=Box(PLAIN.start() - 1e-9, PLAIN.start() + 1e-9))
    with pytest.raises(HypothesisViolated, match="λ is outside its set"):
        run(Toy(), boxed, boxed.start(), steps=3, rng=np.random.default_rng(0))


@pytest.mark.parametrize("a", [FSLA(delta=0.1), DropoutFSLA(delta=0.1)], ids=["FSLA", "dropout"])
def test_fsla_has_no_projection(a):
    """Refused before its first step, with what its user can do. Kills: "project λ onto the set" said to its user."""
    boxed = dataclasses.replace(PLAIN, domain=Box(-1e6, 1e6))
    for ask in (
        lambda: a.init(boxed, boxed.start()),
        lambda: run(a, boxed, boxed.start(), steps=1, rng=0),
    ):
        with pytest.raises(BadInput, match="no projection onto the problem's set") as caught:
            ask()
        assert "dataclasses.replace(problem, domain=None)" in caught.value.advice
    free = dataclasses.replace(boxed, domain=None)
    assert (a.init(free, free.start()).lam == free.start()).all()


def test_a_run_is_gone_on_with_from_its_state():
    """Kills: another backend's λ said of a run."""
    a = FSLA(delta=0.1)
    first = run(a, PLAIN, PLAIN.start(), steps=2, rng=0)
    with pytest.raises(BadInput, match="a run starts from a λ or from a state") as caught:
        run(a, PLAIN, first, steps=2, rng=0)
    assert "found.state" in caught.value.advice
    assert run(a, PLAIN, first.state, steps=2, rng=0).state.k == 4


# -- bad input -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["delta", "gamma", "beta", "eta", "r"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "1", np.ones(2), 1j])
def test_numbers_are_positive(name, value):
    with pytest.raises(BadInput, match=f"{name} is out of range") as caught:
        DropoutFSLA(**{"delta": 0.1, name: value})
    assert "2/L" not in caught.value.advice  # no bound of a radius, nor of a momentum
    assert ("ball" if name == "r" else "positive") in caught.value.advice


@pytest.mark.parametrize("name", ["randomness", "reading", "schedule"])
def test_choices_are_known(name):
    with pytest.raises(BadInput, match=f"no such {name}"):
        FSLA(delta=0.1, **{name: "other"})


def test_what_it_does_not_run_on():
    rng = np.random.default_rng(0)
    with pytest.raises(BadInput, match="FSLA needs a lower objective"):
        run(FSLA(delta=0.1), PLAIN.as_fixed_point(0.1), START[0], steps=1, rng=rng)
    twice = dataclasses.replace(MASKED, lower=MASKED.lower.with_dropout(0.5))
    with pytest.raises(BadInput, match="a minibatch of what"):
        run(FSLA(delta=0.1, lower_batch=2), twice, START[0], steps=1, rng=rng)
    run(FSLA(delta=0.1), twice, START[0], steps=1, rng=rng)  # the inner expectation is exact
    with pytest.raises(BadInput, match="batch size must be a whole number"):
        Draws(PLAIN.lower, 0)


@pytest.mark.parametrize("name", ["lower_batch", "upper_batch"])
@pytest.mark.parametrize("value", [0, 1.5])
def test_a_batch_is_refused_by_its_name(name, value):
    with pytest.raises(BadInput, match=f"{name} must be a whole number"):
        FSLA(delta=0.1, **{name: value})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": -1}, "steps must be"),
        ({"every": 0}, "every must be"),
        ({"keep": ("lam", "z")}, "no such array"),
        ({"replicates": 3.5}, "replicates do not fit"),
        ({"start": START[0][:1]}, "lam has the wrong shape"),
        ({"start": np.zeros((2, 2)), "replicates": (3,)}, "replicates do not fit"),
        ({"start": FSLA(delta=0.1).init(OTHER, OTHER.start())}, "of another problem"),
        ({"keep": "z"}, "no such array"),
        ({"keep": (3,)}, "no such array"),
        ({"rng": None}, "randomness without a source"),
        ({"rng": -1}, "randomness without a source"),
        ({"rng": "0"}, "randomness without a source"),
        ({"steps": None}, "a run of what length"),
        ({"samples": -1}, "samples must be"),
        ({"samples": 2.5}, "samples must be"),
        ({"algorithm": FSLA}, "the class FSLA and BilevelProblem"),
        ({"algorithm": PLAIN, "problem": FSLA(delta=0.1)}, "BilevelProblem and FSLA"),
        ({"problem": PLAIN.lower}, "FSLA and Quadratic"),
    ],
)
def test_bad_runs(wrong, said):
    given = {"algorithm": FSLA(delta=0.1), "problem": PLAIN, "start": START[0], "steps": 1, "rng": 0, **wrong}
    with pytest.raises(BadInput, match=said):
        run(**given)


def test_a_state_of_another_backend():
    exact = PLAIN.to("rational")
    state = FSLA(delta=0.1).init(exact, exact.start())
    with pytest.raises(BadInput, match="lam has the wrong dtype"):
        run(FSLA(delta=0.1), PLAIN, state, steps=1, rng=0)
    with pytest.raises(BadInput, match="another backend"):
        run(FSLA(delta=0.1), exact, FSLA(delta=0.1).init(PLAIN, START[0]), steps=1, rng=0)


def test_a_seed_is_a_generator():
    a = FSLA(delta=0.1, lower_batch=1)
    seeded, drawn = (run(a, MASKED, START[0], steps=4, rng=r) for r in (3, np.random.default_rng(3)))
    assert (seeded.trajectory["lam"] == drawn.trajectory["lam"]).all()
    apart = np.diff(seeded.trajectory["lam"], axis=0)
    assert len(np.unique(apart, axis=0)) == 4  # one stream for the run, not one seed for every iteration


def test_one_name_to_keep_may_stand_alone():
    done = run(FSLA(delta=0.1), PLAIN, START[0], steps=2, rng=0, keep="lam")
    assert list(done.trajectory) == ["lam"]
    assert list(run(FSLA(delta=0.1), PLAIN, START[0], steps=2, rng=0, keep="w").trajectory) == ["w"]


def test_replicates_broadcast():
    """As the docstring says: a start's own leading axes stay, and no axis is added to what fits already."""
    for lead, replicates, expected in (((), (3,), (3,)), ((2, 1), (3,), (2, 3)), ((3,), (3,), (3,))):
        start = np.broadcast_to(START[0], (*lead, 2))
        done = run(FSLA(delta=0.1), MASKED, start, steps=1, rng=0, replicates=replicates)
        assert done.state.leading == expected


def test_an_algorithm_says_what_it_is():
    assert (FSLA.warm_start, DropoutFSLA.warm_start) == ((True, True), (True, True))
    assert "AAAI 2022" in FSLA.source
    assert "ICLR 2024" in DropoutFSLA.source
    assert round_trip(DropoutFSLA(delta=Fraction(1, 3), r=2)) == DropoutFSLA(delta=Fraction(1, 3), r=2)
