"""SID against Algorithm 1 of contraction written out; its samples, its counts, its families and its refusals."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

import refimpl as ri
from refimpl.approximate import SID, StochasticIteration, implicit
from refimpl.arrays import backend, to_numpy
from refimpl.counting import counted
from refimpl.errors import BadInput, Diverged, NotConverged
from refimpl.problem import FixedPointProblem
from refimpl.rates import Drops, Harmonic
from refimpl.solvers import LU, Cholesky, ConjugateGradient, FixedPoint, Newton, NormalCG
from refimpl.spaces import expect
from refimpl.zoo import logistic, maps, ridge
from refimpl.zoo.uppers import Scaled
from tests.algorithm_things import pick
from tests.backends import everywhere, on_cpu, round_trip
from tests.rounding import assert_rounded
from tests.sid_things import DROPOUT, MAP, MINIMISATION, PROBLEMS, absolute, algorithm_1

LAM, W0, V0 = np.array([0.5, -1.0]), np.array([1.0, -2.0, 0.5]), np.array([0.25, 1.0, -1.0])
RATE, LINEAR = Harmonic(Fraction(3, 8), Fraction(3, 2)), Drops(Fraction(1, 4), at=(1, 3), factor=2)


def literal(problem, sid, sample, w0=W0, v0=V0, lam=LAM, number=lambda x: x, sign=-1):
    rates, linear_rates = (
        [number(rate(i)) for i in range(steps)]
        for rate, steps in ((sid.rate, sid.t), (sid.linear_rate, sid.k))
    )
    shape = {"t": sid.t, "k": sid.k, "J": sid.J, "start": sid.start, "sign": sign}
    return algorithm_1(problem, lam, sample, w0, v0, rates=rates, linear_rates=linear_rates, **shape)


def found(estimate):
    return estimate.value, estimate.w, estimate.v, estimate.rhs


def exactly(*xs):
    return [None if x is None else backend("rational").asarray(x) for x in xs]


# -- the estimate --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("batch", [1, 2, None])
@pytest.mark.parametrize("v0", [None, V0])
def test_the_estimate_is_algorithm_1(name, batch, v0):
    """Equal in rationals, for the same sample.

    Kills: a sign, the rate of another step or of the other iteration, a draw used twice or in another group's place,
    ξ drawn anew for ∇_λÊ, the right side of another w, w_0 in place of w_t, the mean over J left out or taken twice.
    """
    problem = PROBLEMS[name].to("rational")
    sid = SID(t=3, k=4, J=3, rate=RATE, linear_rate=LINEAR, batch=batch, start="gradient")
    sample = sid.space(problem).sample(np.random.default_rng(5), ())
    lam, w0, v0 = exactly(LAM, W0, v0)
    expected = literal(problem, sid, sample, w0, v0, lam, number=problem.backend.scalar)
    for x, y in zip(found(sid.estimate(problem, lam, sample, w0, v0)), expected, strict=True):
        assert (x == y).all()


@pytest.mark.parametrize("name", PROBLEMS)
def test_where_v_starts(name):
    """start="gradient" is one step of size 1 more from zero: the same last draws, whatever the first is."""
    problem, (lam, w0) = PROBLEMS[name].to("rational"), exactly(LAM, W0)
    one, other = SID(t=2, k=3, J=2, start="gradient"), SID(t=2, k=4, J=2)
    sample = other.space(problem).sample(np.random.default_rng(1), ())
    fewer = _from_second(sample[1])
    near = one.estimate(problem, lam, (sample[0], fewer, *sample[2:]), w0)
    far = other.estimate(problem, lam, sample, w0)
    assert all((x == y).all() for x, y in zip(found(near), found(far), strict=True))
    zero = SID(t=2, k=3, J=2).estimate(problem, lam, (sample[0], fewer, *sample[2:]), w0)
    assert (zero.v != near.v).any()


def _from_second(group):
    return tuple(map(_from_second, group)) if isinstance(group, tuple) else group[1:]


def test_where_derivatives_are_taken():
    """All at w_t, on a family whose Hessian and cross derivative depend on it, bit for bit; no noise."""
    problem = logistic.random(d=3, seed=5, rows=9)
    F, G, lam, eta = problem.upper, problem.lower, problem.start(), 0.5
    w = W0
    for _ in range(2):
        w = w - eta * G.grad_w(lam, w)
    rhs = F.grad_w(lam, w)
    v = rhs
    for _ in range(2):
        v = v - eta * (G.hess_ww(lam, w) @ v - rhs)
    sid = SID(t=2, k=2, rate=eta, batch=None, start="gradient")
    done = sid.run(problem, lam, rng=0, w0=W0)
    for x, y in zip(found(done), (F.grad_lam(lam, w) - G.cross(lam, w) @ v, w, v, rhs), strict=True):
        assert (x == y).all()


def test_no_steps_are_legal():
    """t = 0 returns w_0 and k = 0 returns v_0, by default zero: then the estimate is ∇_λĒ_J."""
    sid = SID(t=0, k=0, J=2)
    done = sid.run(MAP, LAM, rng=0, replicates=(3,), w0=W0)
    assert (done.w == W0).all()
    assert not done.v.any()
    assert done.v.shape == done.w.shape == (3, 3)
    assert done.counts["phi.data"] == 2
    done = sid.run(MAP, LAM, rng=0, w0=W0, v0=V0)
    assert (done.v == V0).all()
    assert done.w.shape == (3,)
    gradient = dataclasses.replace(sid, start="gradient").run(MAP, LAM, rng=0, w0=W0)
    assert (gradient.v == gradient.rhs).all()


# -- the iterations ------------------------------------------------------------------------------------------------
def test_the_iterations_alone():
    """(6) and (7) with draws given as arrays of indices: data on an axis of their own, no masks."""
    problem, (lam, w, v, rhs) = MAP.to("rational"), exactly(LAM, W0, V0, np.array([1.0, 0.5, -2.0]))
    iteration = StochasticIteration(3, RATE)
    assert iteration.space(problem).size == 5**3
    index = np.array([4, 0, 2])
    sample = (np.zeros(3, dtype=int), index[:, None])
    phi, w_i, v_i = problem.phi, w, v
    for i, s in enumerate(index):
        eta = problem.backend.scalar(RATE(i))
        w_i = (1 - eta) * w_i + eta * (phi.A[s] @ w_i + phi.B[s] @ lam + phi.c[s])
        v_i = (1 - eta) * v_i + eta * (phi.A[s].T @ v_i + rhs)
    assert (iteration.run(problem, lam, w, sample) == w_i).all()
    assert (iteration.adjoint(problem, lam, w, rhs, v, sample) == v_i).all()
    from_origin = iteration.adjoint(problem, lam, w, rhs, None, sample)
    assert (from_origin == iteration.adjoint(problem, lam, w, rhs, 0 * v, sample)).all()


def test_every_replicate_has_its_own_path():
    """Leading axes of the sample, of λ and of the start: each entry is the single estimate, in rationals."""
    problem = DROPOUT.to("rational")
    sid = SID(t=2, k=2, J=2, rate=RATE, linear_rate=LINEAR, batch=2)
    lams, starts = exactly(np.array([LAM, -LAM]), np.array([[W0], [V0], [W0 + V0]]))
    sample = sid.space(problem).sample(np.random.default_rng(2), (3, 2))
    together = sid.estimate(problem, lams, sample, starts)
    values = set()
    for i in range(3):
        for j in range(2):
            alone = sid.estimate(problem, lams[j], pick(pick(sample, i), j), starts[i, 0])
            for x, y in zip(found(together), found(alone), strict=True):
                assert (x[i, j] == y).all()
            values.add(str(alone.value))
    assert len(values) == 6


@everywhere
@pytest.mark.parametrize("name", PROBLEMS)
def test_all_backends_round_the_same_estimate(place, name):
    """Against the transcription, allowed the rounding of its terms' sizes."""
    problem = PROBLEMS[name]
    sid = SID(t=3, k=3, J=2, rate=0.25, linear_rate=Harmonic(0.5, 2.0), start="gradient")
    sample = sid.space(problem).sample(np.random.default_rng(3), ())
    expected = literal(problem, sid, sample, v0=None)
    terms = literal(absolute(problem), sid, sample, np.abs(W0), None, np.abs(LAM), sign=1)
    estimate = sid.estimate(place.move(problem), place.array(LAM), sample, place.array(W0))
    per_step = 4 * (problem.n + problem.d) + 8  # two products, the terms of a mean, the step
    for x, y, most in zip(found(estimate), expected, terms, strict=True):
        assert_rounded(x, y, terms=most, count=8 * per_step)


@pytest.mark.parametrize("name", PROBLEMS)
def test_balls_enclose_the_rationals(name):
    problem = PROBLEMS[name]
    sid = SID(t=3, k=2, J=2, rate=0.25, start="gradient")
    sample = sid.space(problem).sample(0, (2,))
    balls, exact = (
        sid.estimate(problem.to(B), backend(B).asarray(LAM), sample, backend(B).asarray(W0))
        for B in ("interval", "rational")
    )
    for x, y in zip(found(balls), found(exact), strict=True):
        assert all(ball.contains(number) for ball, number in zip(x.ravel(), y.ravel(), strict=True))


@on_cpu
@pytest.mark.parametrize("family", ["ridge", "logistic", "hyper-cleaning", "tanh", "cleaning with dropout"])
def test_runs_on_every_family(place, family):
    """Replicates stacked are the replicates alone, and differ. Kills: one draw for all replicates, or for all steps."""
    problem = _family(family)
    sid = SID(t=4, k=3, J=3, rate=0.25, batch=None if family == "tanh" else 2)  # its map is no finite sum
    start = problem.start()
    sample = sid.space(problem).sample(np.random.default_rng(0), (3,))
    together = sid.estimate(place.move(problem), place.array(start), sample)
    for i in range(3):
        alone = sid.estimate(problem, start, pick(sample, i))
        for x, y in zip(found(together), found(alone), strict=True):
            # the same products, in another order: of as many terms, in each of the steps
            size = 1 + np.abs(y).max()
            assert_rounded(to_numpy(x)[i], y, terms=size, count=30 * (problem.n + problem.d))
    assert to_numpy(together.value).shape == (3, problem.n)
    if family != "tanh":  # whose map is not random, nor its upper level
        assert len({str(row) for row in to_numpy(together.value)}) == 3


def _family(name):
    if name == "ridge":
        return ridge.random(d=3, seed=5, rows=9, per_feature=True)
    if name == "logistic":
        return logistic.random(d=3, seed=5, rows=13)
    if name == "tanh":
        return maps.random(n=2, d=3, seed=0, kind="tanh")
    digits = ri.zoo.weighted_softmax.digits(train=12, validation=9, seed=0, classes=(1, 4), pool=4)
    return digits if name == "hyper-cleaning" else digits.with_dropout(lower=0.75, upper=0.875)


# -- independence --------------------------------------------------------------------------------------------------
def test_the_groups_are_independent():
    """Φ̂ = (q + ζs)w + (1 + ζr)λ, ζ = ±1, E = w: where (7) and the cross derivative share ζ the limit is 2.8, not 2.

    With q = 1/2, s = 2/5, r = 1: E v_k tends to 1/(1 − q) = 2 and E[(1 + ζr)((q + ζs)v + 1)] = q·2 + 1 + rs·2. Kills:
    the last draw of (7) used for the cross derivative, or one draw for both groups.
    """
    half, s, r, k = Fraction(1, 2), Fraction(2, 5), 1, 7
    Q = backend("rational")
    A, B = (Q.asarray([[[x]], [[y]]]) for x, y in ((half + s, half - s), (1 + r, 1 - r)))
    phi = maps.AffineMap(A, B, Q.asarray(np.zeros((2, 1))), Q)
    problem = FixedPointProblem(maps.line(0.5).upper.to("rational"), phi)
    sid, lam = SID(t=0, k=k, J=1), Q.asarray(np.zeros(1))
    mean = expect(sid.space(problem), lambda z: sid.estimate(problem, lam, z).value, Q)
    assert mean[0] == Q.scalar(2 - 2 * half**k)

    def shared(sample):
        lower, linear, _, upper = sample
        return sid.estimate(problem, lam, (lower, linear, _last(linear), upper)).value

    biased = expect(sid.space(problem), shared, Q)
    # E[(1 + ζr)((q + ζs) v + 1)] = 1 + (q + rs) E v, and E v = 2 − 2^(2−k) after k − 1 steps
    assert biased[0] == Q.scalar(Fraction(14, 5) - (half + r * s) * 4 * half**k)


def _last(group):
    return tuple(map(_last, group)) if isinstance(group, tuple) else group[:, -1:]


# -- without noise -------------------------------------------------------------------------------------------------
def test_without_noise_it_is_implicit_differentiation():
    """batch=None, η = 1: fixed-point iterations of Φ and of the adjoint, bit for bit; J changes nothing."""
    sid = SID(t=6, k=5, batch=None)
    done = sid.run(MAP, LAM, rng=0, w0=W0)
    w = W0
    for _ in range(6):
        w = w - (w - MAP.phi.value(LAM, w))
    assert (done.w == w).all()
    many = dataclasses.replace(sid, J=7).run(MAP, LAM, rng=1, w0=W0)
    assert (done.value == many.value).all()
    near = implicit(MAP, LAM, lower=FixedPoint(6), linear=ri.solvers.FixedPointAdjoint(5), w0=W0)
    size = 1 + np.abs(near.value).max()
    assert_rounded(done.value, near.value, terms=size, count=12 * 2 * MAP.d + MAP.n)


@pytest.mark.parametrize("seed", range(3))
def test_without_noise_it_converges_as_predicted(seed):
    """‖∇̂f − ∇f‖ <= c₁ q^t B + L_Φ q^k ‖v̄(w_t)‖ <= C q^min(t,k), with no noise and η = 1 (theorem 4, affine Φ)."""
    q = 0.6
    problem = maps.random(n=2, d=4, seed=seed, q=q)
    exact, (ww, lw, *_) = (
        ri.exact_hypergradient(problem, problem.start(), certify="never"),
        problem.upper.mean,
    )
    mu_1, mu_2, L_phi = (np.linalg.norm(x, 2) for x in (ww, lw, problem.phi.mean[1]))
    B, kappa = np.linalg.norm(exact.w), 1 / (1 - q)
    L_E = np.linalg.norm(exact.v) * (1 + q) + mu_1 * B  # ‖∇_wE‖ wherever w_t may be
    c_1 = mu_2 + mu_1 * L_phi * kappa
    C = c_1 * B + L_phi * kappa * L_E
    for t, k in ((0, 0), (1, 5), (5, 1), (8, 8), (20, 12), (30, 30)):
        error = np.linalg.norm(
            SID(t=t, k=k, batch=None).run(problem, problem.start(), rng=0).value - exact.value
        )
        rounding = 10 * (t + k + 2) * 4 * problem.d * 2.0**-52 * (C + np.linalg.norm(exact.value))
        assert error <= C * q ** min(t, k) + rounding
        if min(t, k) <= 8:
            assert error >= 1e-3 * C * (q / 2) ** min(
                t, k
            )  # it is no exact solver: singular values down to q/2


# -- any solver ----------------------------------------------------------------------------------------------------
def test_any_solver_in_place_of_an_iteration():
    """A Newton step and a factorisation, and no draws but J: the exact adjoint of the drawn right side at w(λ)."""
    exact = ri.exact_hypergradient(MINIMISATION, LAM, certify="never")
    for linear in (Cholesky(), LU(), ConjugateGradient()):
        sid = SID(lower=Newton(), linear=linear, J=4)
        assert sid.space(MINIMISATION).size == (4 * 3) ** 4
        done = sid.run(MINIMISATION, LAM, rng=0, replicates=(5,))
        assert done.counts["lower.data"] == done.counts["upper.data"] == 4
        H = MINIMISATION.lower.hess_ww(LAM, exact.w).dense()
        condition = np.linalg.cond(H)
        expected = np.linalg.solve(H, done.rhs.T).T
        assert_rounded(done.v, expected, terms=np.linalg.norm(expected), count=40 * 3, condition=condition)
        assert_rounded(done.w[0], exact.w, terms=np.linalg.norm(exact.w), count=40 * 3, condition=condition)
    half = SID(t=2, linear=LU(), J=1).run(MAP, LAM, rng=0)
    assert half.counts["phi.data"] == 3
    start = SID(lower=FixedPoint(0), k=0, J=1).run(MAP, LAM, rng=0, w0=W0)
    assert (start.w == W0).all()


# -- counts --------------------------------------------------------------------------------------------------------
def test_samples_are_counted():
    """t + k + J of the lower level, J of the upper one, each times the data per draw; masks, a pair for each draw."""
    for batch in (1, 4):
        sid = SID(t=5, k=3, J=2, rate=0.1, batch=batch)
        counts = sid.run(MAP, LAM, rng=0, replicates=(2,)).counts
        assert (counts["phi.data"], counts["upper.data"]) == (10 * batch, 2 * batch)
        assert (counts["phi.value"], counts["phi.d_w"], counts["phi.d_lam"]) == (5, 3, 1)
        assert (counts["upper.grad_lam"], counts["upper.grad_w"]) == (1, 1)
        assert not counts["phi.masks"]
        counts = sid.run(DROPOUT, LAM, rng=0).counts
        assert (counts["lower.data"], counts["upper.data"]) == (10 * batch, 2 * batch)
        assert (counts["lower.masks"], counts["upper.masks"]) == (10, 2)
        assert (counts["lower.grad_w"], counts["lower.hess_ww"], counts["lower.cross"]) == (5, 3, 2)
    watched, tally = counted(MAP)
    iteration = StochasticIteration(4, batch=None)
    iteration.run(watched, LAM, None, iteration.space(MAP).sample(0, ()))
    assert (tally["phi.data"], tally["phi.value"]) == (4 * 5, 4)


def test_sure_masks_change_nothing():
    """keep_prob 1 is the problem without dropout, its stream of draws included."""
    sure = MINIMISATION.with_dropout(lower={"lam": 1, "w": 1}, upper=1)
    sid = SID(t=3, k=2, J=2, rate=0.1)
    one, other = (sid.run(problem, LAM, rng=4, replicates=(3,)) for problem in (MINIMISATION, sure))
    assert all((x == y).all() for x, y in zip(found(one), found(other), strict=True))


# -- refusals ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "either t steps or a solver"),
        ({"t": 1}, "either k steps or a solver"),
        ({"t": 1, "k": 1, "lower": Newton()}, "either t steps or a solver"),
        ({"t": 1, "linear": Newton()}, "either k steps or a solver"),
        ({"t": 1, "k": 1, "linear": LU()}, "either k steps or a solver"),
        ({"t": -1, "k": 1}, "t must be a whole number"),
        ({"t": 1, "k": 1.5}, "k must be a whole number"),
        ({"t": 1, "k": 1, "J": 0}, "J must be a whole number"),
        ({"t": 1, "k": 1, "batch": 0}, "batch must be a whole number"),
        ({"t": 1, "k": 1, "start": "ones"}, "no such start"),
        ({"t": 1, "k": 1, "rate": 0}, "step size is out of range"),
        ({"t": 1, "k": 1, "linear_rate": -0.5}, "step size is out of range"),
        ({"t": 1, "k": 1, "rate": float("nan")}, "step size is out of range"),
    ],
)
def test_bad_parameters(options, match):
    with pytest.raises(BadInput, match=match):
        SID(**options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"steps": -1}, "number of steps must be"),
        ({"steps": 1, "batch": 0}, "batch size must be"),
        ({"steps": 1, "rate": 0.0}, "out of range"),
    ],
)
def test_bad_iterations(options, match):
    with pytest.raises(BadInput, match=match):
        StochasticIteration(**options)


def test_samples_of_another_sid():
    sid = SID(t=2, k=2, J=2, rate=0.1)
    good = sid.space(MAP).sample(0, ())
    for bad in (
        good[:3],
        list(good),
        SID(t=3, k=2, J=2).space(MAP).sample(0, ()),
        SID(t=2, k=3, J=2).space(MAP).sample(0, ()),
        SID(t=2, k=2, J=1).space(MAP).sample(0, ()),
    ):
        with pytest.raises(BadInput):
            sid.estimate(MAP, LAM, bad)
    beyond = (good[0][0], good[0][1] + 5)
    with pytest.raises(BadInput, match="numbers of the objective's terms"):
        sid.estimate(MAP, LAM, (beyond, *good[1:]))


def test_bad_points_and_replicates():
    sid = SID(t=1, k=1, rate=0.1)
    for options, match in (
        ({"w0": np.zeros(2)}, "w has the wrong shape"),
        ({"v0": np.full(3, np.nan)}, "not finite"),
        ({"replicates": (2,), "w0": np.zeros((3, 3))}, "replicates do not fit"),
    ):
        with pytest.raises(BadInput, match=match):
            sid.run(MAP, LAM, rng=0, **options)
    with pytest.raises(BadInput, match="randomness without a source"):
        sid.run(MAP, LAM, rng=None)
    with pytest.raises(BadInput, match="right side"):
        StochasticIteration(1).adjoint(
            MAP, LAM, W0, np.zeros(2), None, StochasticIteration(1).space(MAP).sample(0, ())
        )


def test_divergence_is_an_error():
    with pytest.raises(NotConverged, match="diverged"):
        SID(t=4000, k=1, rate=3.0).run(MAP, LAM, rng=0)
    with pytest.raises(NotConverged, match="diverged"):
        SID(t=1, k=4000, rate=3.0).run(MAP, LAM, rng=0)


def test_a_right_side_that_overflowed():
    """∇_wF at a finite w_t, for (7) and for a solver in its place. Kills: BadInput, a solver that is handed it."""
    steep = dataclasses.replace(MAP, upper=Scaled(1e300, MAP.upper))
    for linear in ({"k": 2}, {"linear": NormalCG(3)}, {"k": 2, "start": "gradient"}):
        with pytest.raises(Diverged, match="right side of the linear system"):
            SID(t=2, rate=1e5, **linear).run(steep, LAM, rng=0, w0=1e10 * W0)


# -- what it promises ----------------------------------------------------------------------------------------------
def test_the_same_seed_gives_the_same_run():
    sid = SID(t=3, k=2, J=2, rate=RATE)
    assert round_trip(sid) == sid
    one, other, third = (
        sid.run(DROPOUT, LAM, rng=seed, replicates=(4,)) for seed in (3, np.random.default_rng(3), 4)
    )
    assert all((x == y).all() for x, y in zip(found(one), found(other), strict=True))
    assert (one.value != third.value).any()
    assert one.value.shape == (4, 2)
    assert len({str(row) for row in one.value}) == 4


def test_a_step_of_one_datum_does_not_divide():
    """Kills: rounding that depends on how a single row is multiplied, in Backend.rmatvec and in the mean over it."""
    problem = ridge.random(d=3, seed=5, rows=9)
    lam, w = problem.start(), W0
    one = problem.lower.batch(np.array([4]))
    x, y = problem.lower.data.X[4], problem.lower.data.y[4]
    assert (one.grad_w(lam, w) == x * ((problem.lower.data.X[4:5] @ w)[0] - y) + lam * w).all()
    several = problem.lower.batch(np.array([[4], [1]]))
    assert (several.grad_w(lam, np.stack([w, w]))[0] - one.grad_w(lam, w)).any() == 0


def test_terms_of_data_that_have_leading_axes():
    """A minibatch of minibatches: its points go in front of all axes, its terms in their own."""
    level, first, second = (
        MINIMISATION.lower,
        np.array([[0, 3, 1], [2, 2, 0]]),
        np.array([[1, 0], [2, 2], [0, 1]]),
    )
    taken = level.batch(first).batch(second)
    assert taken.ww.shape == (3, 2, 2, 3, 3)
    for i, rows in enumerate(second):
        for j in range(2):
            assert (taken.ww[i, j] == level.ww[first[j, rows]]).all()
            assert (taken.w1[i, j] == level.w1[first[j, rows]]).all()
