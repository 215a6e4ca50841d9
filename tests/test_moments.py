"""Moments of affine random recursions, judged by sample paths, fractions, closed forms and draws."""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest

from refimpl.arrays import backend, to_numpy
from refimpl.errors import BadInput, HypothesisViolated, TooLarge
from refimpl.moments import (
    AffineStep,
    Moments,
    PackedStep,
    Relaxed,
    Schedule,
    affine_step,
    curve,
    mean_and_second,
    mean_square_curve,
    paths,
    spectral_radius,
    stationary,
)
from refimpl.spaces import Bernoulli, Indices, Product
from tests.backends import everywhere, on_cpu, read_only, round_trip
from tests.rounding import EPS, assert_rounded

SEEDS = [0, 1]
POINTS, D, STARTS = 3, 5, 2  # pairwise different
WEIGHTS = [Fraction(1, 8), Fraction(5, 8), Fraction(1, 4)]  # unequal, and floats hold them
SIZES = [Fraction(1, 2), Fraction(1), Fraction(3, 8), Fraction(-1, 4), Fraction(3, 2)]


def numbers(shape, seed, size=8):
    """Eighths in [-1, 1]: the floats are the rationals."""
    return np.random.default_rng(seed).integers(-size, size + 1, shape) / 8.0


def transitions(seed, points=POINTS, dimension=D):
    T = numbers((points, dimension, dimension), seed)
    T[:, -1] = np.eye(dimension)[-1]
    return T


def exact_step(seed=0, **shape):
    B = backend("rational")
    return AffineStep(B, B.asarray(transitions(seed, **shape)), B.asarray([B.scalar(p) for p in WEIGHTS]))


def only_operator(step):
    """The same step without its transitions, so that every way goes through the operator and its powers."""
    return PackedStep(step.backend, step.D, step.operator)


RECURSIONS = {
    "constant": lambda s: s(0),
    "schedule": lambda s: Schedule([s(k) for k in range(5)]),
    "relaxed": lambda s: Relaxed(s(0), SIZES),
}
recursions = pytest.mark.parametrize("name", RECURSIONS)


# -- the literal recursion, in fractions ---------------------------------------------------------------------
def fractions(x):
    out = np.empty(np.size(x), dtype=object)
    out[:] = [Fraction(e) for e in np.ravel(x).tolist()]
    return out.reshape(np.shape(x))


def outer(x):
    z = np.append(x, 1)
    return np.outer(z, z)


def literal(steps, S):
    """S after every step of [(T, p), …], the start first: Σ_s p_s T_s S T_sᵀ as it is written."""
    found = [S]
    for T, p in steps:
        found.append(sum(p_s * (T_s @ found[-1] @ T_s.T) for T_s, p_s in zip(T, p, strict=True)))
    return np.array(found)


def floats(x):
    return np.array([float(e) for e in x.ravel()]).reshape(x.shape)


# -- against all sample paths, exactly -----------------------------------------------------------------------
@recursions
@pytest.mark.parametrize("time", [0, 1, 2, 5])
@pytest.mark.parametrize("way", [lambda s: s, only_operator], ids=["transitions", "operator"])
def test_moments_are_those_of_all_sample_paths(name, time, way):
    # kills: E x E xᵀ for E xxᵀ, probabilities forgotten, b dropped, T transposed, T S T for T S Tᵀ, the sizes' index
    B, x0 = backend("rational"), numbers((STARTS, D - 1), 7)
    every = paths(RECURSIONS[name](exact_step), x0, time)
    found = mean_and_second(RECURSIONS[name](lambda seed: way(exact_step(seed))), x0, time)
    assert every.ends.shape == (POINTS**time, STARTS, D - 1)
    assert every.probabilities.sum() == B.scalar(1)
    assert (found.mean == every.mean()).all()
    assert (found.second == every.second()).all()
    assert found.kind == "exact"


MUTANTS = {
    "mean outer product": lambda T, p, S: _drift(T, p) @ S @ _drift(T, p).T,
    "probabilities forgotten": lambda T, p, S: sum(t @ S @ t.T for t in T) * Fraction(1, len(p)),
    "b dropped": lambda T, p, S: sum(q * (t @ S @ t.T) for t, q in zip(_without_b(T), p, strict=True)),
    "T transposed": lambda T, p, S: sum(q * (t.T @ S @ t) for t, q in zip(T, p, strict=True)),
    "second factor not transposed": lambda T, p, S: sum(q * (t @ S @ t) for t, q in zip(T, p, strict=True)),
}


def _drift(T, p):
    return sum(q * t for t, q in zip(T, p, strict=True))


def _without_b(T):
    T = T.copy()
    T[:, :-1, -1] = Fraction(0)
    return T


@pytest.mark.parametrize("name", MUTANTS)
def test_the_instance_tells_mutants_apart(name):
    """A control: on the instance above each mistaken recursion gives other second moments."""
    T, x0 = fractions(transitions(0)), fractions(numbers((STARTS, D - 1), 7)[0])
    every, mistaken = paths(exact_step(), numbers((STARTS, D - 1), 7)[0], 2).second(), outer(x0)
    for _ in range(2):
        mistaken = MUTANTS[name](T, WEIGHTS, mistaken)
    right = literal([(T, WEIGHTS)] * 2, outer(x0))[-1][:-1, :-1]
    assert (to_numpy(every) == floats(right)).all()
    assert not (floats(mistaken)[:-1, :-1] == floats(right)).all()


# -- the curve -----------------------------------------------------------------------------------------------
@recursions
@pytest.mark.parametrize("times", [0, 1, 4, 5])
def test_the_curve_is_every_time_of_it(name, times):
    # kills: times instead of times + 1, blocks in the wrong order, a start's axis taken for the time's
    x0 = numbers((STARTS, D - 1), 8)
    for way in (lambda s: s, only_operator):
        recursion = RECURSIONS[name](lambda seed, way=way: way(exact_step(seed)))
        found = curve(recursion, x0, times)
        each = [mean_and_second(recursion, x0, t) for t in range(times + 1)]
        assert found.mean.shape == (times + 1, STARTS, D - 1)
        assert (found.homogeneous == np.stack([m.homogeneous for m in each])).all()


@pytest.mark.parametrize("times", [7, 8, 21, 40])
@pytest.mark.parametrize("starts", [(), (STARTS,)], ids=str)
def test_blocks_and_powers_of_many_steps_are_exact(times, starts):
    B, x0 = backend("rational"), numbers((*starts, 1), 3)
    step = AffineStep(B, B.asarray(transitions(5, dimension=2)), B.asarray([B.scalar(p) for p in WEIGHTS]))
    T = fractions(transitions(5, dimension=2))
    found, squares = curve(only_operator(step), x0, times), mean_square_curve(only_operator(step), x0, times)
    for index in np.ndindex(*starts):
        expected = literal([(T, WEIGHTS)] * times, outer(fractions(x0[index])))
        exactly = B.asarray(expected)
        assert (found.homogeneous[(slice(None), *index)] == exactly).all()
        assert (squares[(slice(None), *index)] == exactly[:, 0, 0]).all()
        last = mean_and_second(only_operator(step), x0, times).homogeneous
        assert (last[index] == exactly[-1]).all()


@recursions
@pytest.mark.parametrize("way", [lambda s: s, only_operator], ids=["transitions", "operator"])
def test_the_mean_square_distance_is_that_of_all_paths(name, way):
    # kills: a point subtracted from x but not from b, the wrong sign, distances to the origin
    B, x0, point = backend("rational"), numbers((STARTS, D - 1), 9), numbers((D - 1,), 10)
    recursion = RECURSIONS[name](lambda seed: way(exact_step(seed)))
    found = mean_square_curve(recursion, x0, 4, point=point)
    for t in range(5):
        every = paths(RECURSIONS[name](exact_step), x0, t)
        away = every.ends - B.asarray(point)
        assert (found[t] == ((away * away).sum(-1) * every.probabilities[:, None]).sum(0)).all()
        assert (mean_and_second(recursion, x0, t).about(B.asarray(point)).mean_square == found[t]).all()


# -- in floating point, on every backend ---------------------------------------------------------------------
def step_at(place, seed=0):
    probabilities = np.array([float(p) for p in WEIGHTS])
    return AffineStep(backend(place.backend), place.array(transitions(seed)), place.array(probabilities))


def relaxed(T, eta):
    return fractions(np.eye(T.shape[-1])) * (1 - eta) + eta * T


STEPS = {  # what each recursion of RECURSIONS does at step k, and the sizes of its terms
    "constant": lambda k: (fractions(transitions(0)), abs(transitions(0))),
    "schedule": lambda k: (fractions(transitions(k)), abs(transitions(k))),
    "relaxed": lambda k: (
        relaxed(fractions(transitions(0)), SIZES[k]),
        abs(1 - float(SIZES[k])) * np.eye(D) + abs(float(SIZES[k])) * abs(transitions(0)),
    ),
}


@everywhere
@recursions
@pytest.mark.parametrize("way", [lambda s: s, only_operator], ids=["transitions", "operator"])
def test_floats_are_right_to_the_stated_rounding(place, name, way):
    """time·(p + points + 4)·eps times the recursion of absolute values (evolve's docstring)."""
    x0, weights, times = numbers((STARTS, D - 1), 7), [float(p) for p in WEIGHTS], len(SIZES)
    recursion = RECURSIONS[name](lambda seed: way(step_at(place, seed)))
    right, large = (
        [(STEPS[name](k)[0], WEIGHTS) for k in range(times)],
        [(STEPS[name](k)[1], weights) for k in range(times)],
    )
    truth = np.stack([literal(right, outer(x)) for x in fractions(x0)], axis=1)
    size = np.stack([literal(large, outer(x)) for x in abs(x0)], axis=1)
    found = curve(recursion, place.array(x0), times)
    for t in range(times + 1):
        count = max(t, 1) * (D * (D + 1) // 2 + POINTS + 4)
        assert_rounded(found.homogeneous[t, ...], floats(truth[t]), terms=size[t], count=count)
        one = mean_and_second(recursion, place.array(x0), t)
        assert_rounded(one.homogeneous, floats(truth[t]), terms=size[t], count=count)


@everywhere
def test_many_steps_in_floats_are_right_to_the_stated_rounding(place):
    """200 steps by powers, blocks and split traces; the damped recursion of absolute values contracts as well."""
    T, x0, weights, times = (
        transitions(6, dimension=3),
        numbers((STARTS, 2), 7),
        [float(p) for p in WEIGHTS],
        200,
    )
    T[:, :-1] *= 0.5
    step = only_operator(AffineStep(backend(place.backend), place.array(T), place.array(weights)))
    truth = np.stack([literal([(fractions(T), WEIGHTS)] * times, outer(x)) for x in fractions(x0)], axis=1)
    size = np.stack([literal([(abs(T), weights)] * times, outer(x)) for x in abs(x0)], axis=1)
    assert size[-1].max() < 10  # the tolerance below is worth something
    per_step, start = 6 + POINTS + 4, place.array(x0)
    count = per_step * times
    one = mean_and_second(step, start, times).homogeneous
    assert_rounded(one, floats(truth[-1]), terms=size[-1], count=count)
    assert_rounded(curve(step, start, times).homogeneous, floats(truth), terms=size, count=count)
    squares, terms = (x[..., 0, 0] + x[..., 1, 1] for x in (floats(truth), size))
    assert_rounded(mean_square_curve(step, start, times), squares, terms=terms, count=count)


@everywhere
@pytest.mark.parametrize("way", [lambda s: s, only_operator], ids=["transitions", "operator"])
def test_distances_in_floats_are_right_to_rounding(place, way):
    """Moving the origin rounds b + A·point − point, which the recursion of absolute values has at its full size."""
    x0, point, times, weights = numbers((D - 1,), 7), numbers((D - 1,), 10), 6, [float(p) for p in WEIGHTS]
    T = transitions(0)
    moved, size = fractions(T), abs(T)
    moved[:, :-1, -1] += fractions(T)[:, :-1, :-1] @ fractions(point) - fractions(point)
    size[:, :-1, -1] += size[:, :-1, :-1] @ abs(point) + abs(point)
    truth = literal([(moved, WEIGHTS)] * times, outer(fractions(x0) - fractions(point)))
    terms = literal([(size, weights)] * times, outer(abs(x0) + abs(point)))
    if way is only_operator:  # then the operator is moved: C⊗C on its left, C⁻¹⊗C⁻¹ on its right
        back = np.eye(D)
        back[:-1, -1] = abs(point)
        size = np.stack([back @ abs(t) @ back for t in T])
        terms = literal([(size, weights)] * times, outer(abs(x0) + abs(point)))
    found = mean_square_curve(way(step_at(place)), place.array(x0), times, point=place.array(point))
    count = (times + 1) * 3 * (D * (D + 1) // 2 + POINTS + 4)
    squares = [float(np.trace(S) - 1) for S in truth]
    assert_rounded(found, squares, terms=np.trace(terms, axis1=1, axis2=2), count=count)


@everywhere
def test_a_long_walk_takes_no_long_time(place):
    """E x² = t after t steps ±1: integers below 2⁵³, so that floats are exact; a million steps by powers."""
    B = backend(place.backend)
    T = np.array([[[1.0, 1.0], [0.0, 1.0]], [[1.0, -1.0], [0.0, 1.0]]])
    walk = AffineStep(B, place.array(T), place.array([0.5, 0.5]))
    found = mean_and_second(walk, place.array([3.0]), 10**6)
    assert float(found.second[0, 0]) == 10**6 + 9
    assert float(found.mean[0]) == 3
    assert float(found.covariance[0, 0]) == 10**6
    assert to_numpy(mean_square_curve(walk, place.array([3.0]), 1000)).tolist() == list(range(9, 1010))
    assert to_numpy(
        mean_square_curve(walk, place.array([3.0]), 999, point=place.array([3.0]))
    ).tolist() == list(range(1000))


# -- closed forms --------------------------------------------------------------------------------------------
def scalar_step(name="rational"):
    """x⁺ = a x + b, a ∈ {1/2, −1/4} and b ∈ {1, 3, −1} independent; E a = 3/8·…, all in closed form below."""
    B = backend(name)
    a, b = B.asarray([[0.5], [-0.25]]), B.asarray([[1.0], [3.0], [-1.0]])
    space = Product((Bernoulli([Fraction(1, 8)]), Indices(3)))
    return affine_step(
        space, lambda s: (B.take(a, B.indices(s[0][:, 0]))[:, :, None], B.take(b, B.indices(s[1]))), B
    )


@pytest.mark.parametrize("time", [1, 2, 10])
def test_the_scalar_recursion_has_its_closed_form(time):
    """m_t = α^t x + β(1−α^t)/(1−α); s⁺ = α₂ s + 2αβ m + β₂ solved by the sum of two geometric series."""
    keep, x = Fraction(1, 8), Fraction(3)
    alpha = (1 - keep) * Fraction(1, 2) + keep * Fraction(-1, 4)
    alpha2 = (1 - keep) * Fraction(1, 4) + keep * Fraction(1, 16)
    beta, beta2 = Fraction(3, 3), Fraction(11, 3)
    limit = beta / (1 - alpha)
    mean = alpha**time * (x - limit) + limit
    settles = (2 * alpha * beta * limit + beta2) / (1 - alpha2)
    slow = 2 * alpha * beta * (x - limit) / (alpha - alpha2)  # the response to α^t
    second = alpha2**time * (x**2 - settles - slow) + settles + slow * alpha**time
    B, found = backend("rational"), mean_and_second(scalar_step(), [3], time)
    assert found.mean[0] == B.scalar(mean)
    assert found.second[0, 0] == B.scalar(second)
    end = stationary(scalar_step())
    assert end.moments.mean[0] == B.scalar(limit)
    assert end.moments.second[0, 0] == B.scalar(settles)
    assert abs(end.radius - float(alpha2)) <= 10 * EPS["float64"] * float(alpha2)


def lemma_2(B):
    """w⁺ = w − γ m∘∇G(m∘w), G = ½(w−a)ᵀH(w−a), keep probability 4/5, γ = 1/10, and the minimiser of E G(m∘w)."""
    H, a, keep, gamma = B.asarray([[2, 1], [1, 2]]), B.asarray([1.0, -0.5]), Fraction(4, 5), Fraction(1, 10)
    space, g, p = Bernoulli([keep, keep]), B.scalar(gamma), B.scalar(keep)

    def coefficients(points):
        m = B.asarray(points)
        return B.eye(2) - g * (m[:, :, None] * H * m[:, None, :]), g * m * B.matvec(H, a)

    # (p H + …) w̄ = p H a: E mHm has p on the diagonal and p² off it
    diagonal, off = 2 * p, p * p
    rhs = p * B.matvec(H, a)
    determinant = diagonal * diagonal - off * off
    w_bar = B.xp.stack(
        [
            (diagonal * rhs[0] - off * rhs[1]) / determinant,
            (diagonal * rhs[1] - off * rhs[0]) / determinant,
        ]
    )
    return affine_step(space, coefficients, B), w_bar


def test_lemma_2_has_a_floor():
    """dropout-bilevel/lemma-2, σ = 0 and λ fixed: E‖w − w̄‖² settles at 0.00506431, not at 0; exactly a rational."""
    step, w_bar = lemma_2(backend("rational"))
    end = stationary(step.about(w_bar)).moments
    assert not end.mean.any()
    floor = end.mean_square
    assert Fraction(int(floor.p), int(floor.q)) == Fraction(6845, 1351616)
    assert f"{float(Fraction(6845, 1351616)):.8f}" == "0.00506431"


@on_cpu
def test_lemma_2_settles_in_floats(place):
    """From w = 0 the distance falls to the floor and stays; what is left shrinks at the slower of two rates."""
    B = backend(place.backend)
    step, w_bar = lemma_2(B)
    end, floor = stationary(step.about(w_bar)), 6845 / 1351616
    condition = 1 / (1 - end.radius)
    # p = 6 packed entries, 4 points; each solve passes 1/(1 − radius) on
    assert_rounded(end.moments.mean_square, floor, terms=floor, count=6 + 4, condition=condition**2)
    rate = max(
        end.radius, abs(np.linalg.eigvals(to_numpy(step.mean_matrix[:-1, :-1]))).max()
    )  # with the mean's
    after = math.ceil(math.log(EPS["float64"]) / math.log(rate))
    distances = to_numpy(mean_square_curve(step, B.zeros((2,)), 2 * after, point=w_bar))
    assert np.all(np.diff(distances[:20]) < 0)
    late = distances[after:]
    assert_rounded(late, np.full(late.shape, floor), terms=distances[0], count=6 + 4, condition=condition)


def test_lemma_2s_floor_is_seen_in_draws():
    """20 000 replicates, 150 steps of the masked gradient itself: the mean of ‖w − w̄‖² in its 99 % interval."""
    H, a, keep, gamma = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([1.0, -0.5]), 0.8, 0.1
    rng, w, steps = np.random.default_rng(21), np.zeros((20_000, 2)), 150
    for _ in range(steps):
        m = rng.random(w.shape) < keep
        w = w - gamma * m * ((m * w - a) @ H)
    step, w_bar = lemma_2(backend())
    squares = ((w - w_bar) ** 2).sum(1)
    half = NormalDist().inv_cdf(1 - 0.01 / 2) * squares.std() / math.sqrt(len(w))
    assert abs(squares.mean() - float(mean_square_curve(step, [0.0, 0.0], steps, point=w_bar)[-1])) < half
    assert abs(squares.mean() - 6845 / 1351616) < half  # 150 steps have settled as far as draws can see
    assert half < 6845 / 1351616 / 20  # so that the printed limit 0 is 20 half-widths away


def test_without_dropout_the_floor_is_gone():
    """A control of lemma-2: with keep probability 1 the same recursion converges to the minimiser."""
    B = backend("rational")
    H, a, g = B.asarray([[2, 1], [1, 2]]), B.asarray([1.0, -0.5]), B.scalar(Fraction(1, 10))
    step = affine_step(Indices(1), lambda s: ((B.eye(2) - g * H)[None], (g * B.matvec(H, a))[None]), B)
    assert stationary(step.about(a)).moments.mean_square == B.scalar(0)


# -- against draws -------------------------------------------------------------------------------------------
def test_draws_lie_inside_their_interval():
    """10 000 replicates of 12 steps: each first and second moment inside its 99.9 % interval (all 9 together)."""
    T, p, x0 = transitions(3, dimension=4) * 0.5, np.array([float(q) for q in WEIGHTS]), numbers((3,), 4)
    T[:, -1, -1] = 1
    replicates, rng = 10_000, np.random.default_rng(20)
    z = np.broadcast_to(np.append(x0, 1.0), (replicates, 4))
    for _ in range(12):
        z = (T[rng.choice(POINTS, size=replicates, p=p)] @ z[..., None])[..., 0]
    found = mean_and_second(AffineStep(backend(), T, p), x0, 12)
    i, k = np.triu_indices(3)
    values = np.concatenate([z[:, :3], z[:, i] * z[:, k]], axis=1)
    exact = np.concatenate([found.mean, found.second[i, k]])
    quantile = NormalDist().inv_cdf(1 - 0.001 / (2 * 9))  # Bonferroni over nine intervals
    error, half = abs(values.mean(0) - exact), quantile * values.std(0) / math.sqrt(replicates)
    assert np.all(error < half)
    drift = np.linalg.matrix_power(np.einsum("s,sij->ij", p, T), 12) @ np.append(x0, 1.0)
    mistaken = np.outer(drift, drift)[i, k]  # the mean's outer product is far outside
    assert np.any(abs(values.mean(0)[3:] - mistaken) > 3 * half[3:])


# -- starts --------------------------------------------------------------------------------------------------
def test_a_random_start_is_the_mean_over_sure_ones():
    B, x = backend("rational"), numbers((STARTS, D - 1), 11)
    rows = B.asarray(x)
    second = (rows[:, :, None] * rows[:, None, :]).sum(0) / B.scalar(STARTS)
    start = Moments.of(B, rows.sum(0) / B.scalar(STARTS), second)
    sure = mean_and_second(exact_step(), x, 3).homogeneous.sum(0) / B.scalar(STARTS)
    assert (mean_and_second(exact_step(), start, 3).homogeneous == sure).all()


def test_runs_can_be_continued():
    step, x0 = exact_step(), numbers((D - 1,), 12)
    half = mean_and_second(step, x0, 2)
    assert (mean_and_second(step, half, 3).homogeneous == mean_and_second(step, x0, 5).homogeneous).all()


def test_a_relaxed_step_is_the_schedule_of_its_steps():
    B, base = backend("rational"), exact_step()
    sizes = [Fraction(2, 3 + k) for k in range(5)]
    steps = [
        AffineStep(B, (1 - B.scalar(s)) * B.eye(D) + B.scalar(s) * base.transitions, base.probabilities)
        for s in sizes
    ]
    x0 = numbers((D - 1,), 13)
    found, literally = curve(Relaxed(base, sizes), x0, 5), curve(Schedule(steps), x0, 5)
    assert (found.homogeneous == literally.homogeneous).all()


def test_moments_take_themselves_apart():
    B, x = backend("rational"), numbers((STARTS, 3), 14)
    rows = B.asarray(x)
    m = Moments.at(B, x)
    assert (m.mean == rows).all()
    assert (m.second == rows[:, :, None] * rows[:, None, :]).all()
    assert not m.covariance.any()
    assert (m.mean_square == (rows * rows).sum(-1)).all()
    assert (m.about(rows[0]).mean == rows - rows[0]).all()
    assert m.d == 3


# -- the stationary state ------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("way", [lambda s: s, only_operator], ids=["transitions", "operator"])
def test_the_stationary_moments_stay(seed, way):
    B, T = backend("rational"), transitions(seed, dimension=4) * 0.5
    T[:, -1, -1] = 1
    step = way(AffineStep(B, B.asarray(T), B.asarray([B.scalar(p) for p in WEIGHTS])))
    end = stationary(step)
    assert (step.second(end.moments.homogeneous) == end.moments.homogeneous).all()
    assert end.moments.kind == "exact"
    A = T[:, :-1, :-1]
    kron = sum(float(p) * np.kron(a, a) for p, a in zip(WEIGHTS, A, strict=True))
    vectors = np.linalg.cond(np.linalg.eig(kron)[1])  # Bauer-Fike
    assert_rounded(
        end.radius,
        abs(np.linalg.eigvals(kron)).max(),
        terms=np.linalg.norm(kron),
        count=len(kron),
        condition=vectors,
    )
    assert spectral_radius(step) == end.radius


@everywhere
def test_the_spectral_radius_needs_the_host_only(place):
    """E a² = 1/4·7/8 + 1/16·1/8 of x⁺ = a x + b."""
    B = backend(place.backend)
    T = np.array([[[0.5, 1.0], [0.0, 1.0]], [[-0.25, 3.0], [0.0, 1.0]]])
    step = AffineStep(B, place.array(T), place.array([0.875, 0.125]))
    assert spectral_radius(step) == 0.875 / 4 + 0.125 / 16


@pytest.mark.parametrize("name", ["numpy", "strict", "rational", "interval"])
@pytest.mark.parametrize("scale", [Fraction(1), Fraction(2)], ids=str)
def test_what_does_not_settle_is_refused(name, scale):
    # kills: only the mean's spectral radius asked for: E a = 0 here
    B = backend(name)
    T = B.asarray([[[float(scale), 1.0], [0.0, 1.0]], [[-float(scale), -1.0], [0.0, 1.0]]])
    step = AffineStep(B, T, B.asarray([0.5, 0.5]))
    with pytest.raises(HypothesisViolated, match="do not settle") as caught:
        stationary(step)
    assert f"spectral radius {float(scale) ** 2:.17g} " in str(caught.value.measured)
    assert mean_and_second(step, [0.0], 0).mean.shape == (1,)


def test_over_the_rationals_the_border_is_sharp():
    """E a² = 1 ∓ 2⁻⁸⁰: floats see 1 in both."""
    B = backend("rational")
    for sign in (-1, 1):
        square = 1 + sign * Fraction(1, 2**80)
        T = B.asarray([[[1, 1], [0, 1]], [[-1, -1], [0, 1]], [[0, 0], [0, 1]], [[2, 0], [0, 1]]])
        quarter = sign * Fraction(1, 2**82)  # moved from a = ±1 to a = 2, or to a = 0
        p = [
            (1 - abs(quarter)) / 2,
            (1 - abs(quarter)) / 2,
            *((abs(quarter), 0) if sign < 0 else (0, abs(quarter))),
        ]
        step = AffineStep(B, T, B.asarray([B.scalar(Fraction(q)) for q in p]))
        assert step.operator[0, 0] == B.scalar(1 - abs(quarter) if sign < 0 else 1 + 3 * abs(quarter)), square
        assert spectral_radius(step) == 1.0
        if sign < 0:
            end = stationary(step).moments
            assert (step.second(end.homogeneous) == end.homogeneous).all()
        else:
            with pytest.raises(HypothesisViolated):
                stationary(step)


def test_floats_refuse_what_rounding_leaves_open():
    """E a² = 1 − 2⁻⁵²: p·eps·‖Y‖ = 3, so that no digit of the solution would be right; fractions have it."""
    share = 2.0**-52
    for name in ("numpy", "rational"):
        B = backend(name)
        T = B.asarray([[[1.0, 1.0], [0.0, 1.0]], [[-1.0, -1.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]]])
        step = AffineStep(B, T, B.asarray([(1 - share) / 2, (1 - share) / 2, share]))
        if B.exact:
            assert stationary(step).moments.mean_square > 2**51
        else:
            with pytest.raises(HypothesisViolated, match="do not settle"):
                stationary(step)


def test_balls_enclose_what_the_rationals_say():
    B, Q = backend("interval"), backend("rational")
    T, x0, p = transitions(0) * 0.25, numbers((D - 1,), 7), [float(q) for q in WEIGHTS]
    T[:, -1, -1] = 1
    enclosed, exact = (AffineStep(A, A.asarray(T), A.asarray(p)) for A in (B, Q))
    for found, true in (
        (mean_and_second(enclosed, x0, 9), mean_and_second(exact, x0, 9)),
        (stationary(enclosed).moments, stationary(exact).moments),
    ):
        assert found.kind == "bounded"
        for ball, number in zip(found.homogeneous.ravel(), true.homogeneous.ravel(), strict=True):
            assert ball.contains(number)
            assert float(ball.rad()) < 2.0**-30


# -- spaces --------------------------------------------------------------------------------------------------
def test_large_spaces_keep_their_operator_alone():
    # kills: a chunk counted twice or left out, weights of the wrong chunk
    B, space = backend("rational"), Product((Bernoulli([Fraction(1, 3), Fraction(3, 4)]), Indices(5)))
    rows = B.asarray(numbers((5, 2), 1))

    def coefficients(points):
        m, a = B.asarray(points[0]), B.take(rows, B.indices(points[1]))
        return m[:, :, None] * a[:, None, :], a - m

    kept = affine_step(space, coefficients, B)
    assert isinstance(kept, AffineStep)
    packed = affine_step(
        Product((space, Indices(5))), lambda s: coefficients(s[0]), B, max_bytes=2000, chunk=7
    )
    assert isinstance(packed, PackedStep)
    assert (packed.operator == kept.operator).all()
    assert (packed.mean_matrix == kept.mean_matrix).all()


def test_what_fits_is_kept():
    # kills: moments/step-fits-exactly
    def coefficients(points):
        return np.zeros((len(points), 2, 2)), np.zeros((len(points), 2))

    kept = affine_step(Indices(100), coefficients, max_bytes=8 * 100 * 3**2)
    assert isinstance(kept, AffineStep)
    assert isinstance(affine_step(Indices(100), coefficients, max_bytes=8 * 100 * 3**2 - 1), PackedStep)


def test_what_fits_nowhere_is_refused():
    with pytest.raises(TooLarge, match="neither") as caught:
        affine_step(Indices(100), lambda s: (np.zeros((len(s), 2, 2)), np.zeros((len(s), 2))), max_bytes=100)
    assert "100 points" in str(caught.value.measured)
    with pytest.raises(TooLarge, match="sample paths") as caught:
        paths(exact_step(), np.zeros(D - 1), 5, max_paths=3**5 - 1)
    assert "243" in str(caught.value.measured)


def test_steps_pickle_and_arrays_are_not_written_to():
    B = backend()
    T, p = read_only((transitions(0), np.array([float(q) for q in WEIGHTS])))
    step = round_trip(AffineStep(B, T, p))
    assert (mean_and_second(step, numbers((D - 1,), 1), 3).mean).shape == (D - 1,)


# -- bad input -----------------------------------------------------------------------------------------------
def _bad_start():
    return mean_and_second(exact_step(), numbers((D,), 1), 1)


BAD = {
    "a last row that is none": lambda: AffineStep(backend(), np.ones((1, 2, 2)), np.ones(1)),
    "transposed": lambda: AffineStep(backend(), transitions(0).swapaxes(1, 2), np.full(3, 1 / 3)),
    "no probabilities": lambda: AffineStep(backend(), transitions(0), np.array([0.5, 0.5, 0.5])),
    "a negative one": lambda: AffineStep(backend(), transitions(0), np.array([-0.5, 0.5, 1.0])),
    "too few of them": lambda: AffineStep(backend(), transitions(0), np.array([0.5, 0.5])),
    "NaN probabilities": lambda: AffineStep(backend(), transitions(0), np.array([0.5, np.nan, 0.5])),
    "A without its axis of points": lambda: affine_step(
        Indices(3), lambda s: (np.eye(2), np.zeros((len(s), 2)))
    ),
    "b a number": lambda: affine_step(Indices(3), lambda s: (np.eye(2), np.float64(0.0))),
    "a start of another length": _bad_start,
    "a negative time": lambda: mean_and_second(exact_step(), np.zeros(D - 1), -1),
    "half a step": lambda: mean_and_second(exact_step(), np.zeros(D - 1), 1.5),
    "a curve of half a step": lambda: curve(exact_step(), np.zeros(D - 1), 1.5),
    "distances of half a step": lambda: mean_square_curve(exact_step(), np.zeros(D - 1), 1.5),
    "paths of half a step": lambda: paths(exact_step(), np.zeros(D - 1), 1.5),
    "a time after the schedule": lambda: curve(Relaxed(exact_step(), SIZES), np.zeros(D - 1), 6),
    "an empty schedule": lambda: Schedule([]),
    "steps of two sizes": lambda: Schedule([exact_step(), exact_step(dimension=3)]),
    "a skew second moment": lambda: Moments.of(backend(), np.zeros(2), np.array([[1.0, 2.0], [0.0, 1.0]])),
    "a covariance's shape": lambda: Moments.of(backend(), np.zeros(2), np.eye(3)),
    "NaN moments": lambda: Moments.of(backend(), np.zeros(2), np.full((2, 2), np.nan)),
    "moments of another backend": lambda: mean_and_second(
        exact_step(), Moments.at(backend(), np.zeros(4)), 1
    ),
    "paths without transitions": lambda: paths(only_operator(exact_step()), np.zeros(D - 1), 1),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_advice(name):
    with pytest.raises(BadInput) as caught:
        BAD[name]()
    assert caught.value.advice
    assert caught.value.required is not None
