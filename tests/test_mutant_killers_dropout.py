"""What the tests of networks, of one hidden layer under masks, and of FSLA let pass, each on a case that tells."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest

import refimpl as ri
from refimpl.algorithms import FSLA, DropoutFSLA, run
from refimpl.arrays import Backend, backend, to_numpy
from refimpl.errors import TooLarge
from refimpl.networks import MLP, loss, shared
from refimpl.networks.one_hidden import expected_one_hidden, literal, nodes, tables
from refimpl.networks.one_hidden.tables import Sums
from refimpl.zoo import quadratic
from tests.algorithm_things import algorithm_1
from tests.backends import everywhere
from tests.rounding import assert_rounded

EPS = 2.0**-52
EXTENDED = np.finfo(np.longdouble).eps < EPS  # else products in it round as floats do


# -- networks: data, kinks ------------------------------------------------------------------------------
def test_targets_stand_in_columns_of_their_own_samples() -> None:
    # kills: a reshape for a transpose, labels of other tasks
    net, body = MLP((2, 3)), MLP((2, 3), "relu", body=True)
    X, y, classes = (
        np.ones((2, 4, 2)),
        np.arange(24.0).reshape(2, 4, 3),
        np.array([[0, 2, 1, 1], [2, 2, 0, 1]]),
    )
    single = loss(net, X[0], y[0], loss="squared").y
    several = shared(body, X, y, outputs=3, loss="squared").y
    one_hot = shared(body, X, classes, outputs=3).y
    alone = loss(net, X[0], classes[0]).y
    for i in range(4):
        for k in range(3):
            assert single[k, i] == y[0, i, k]
            assert alone[k, i] == (classes[0, i] == k)
            for j in range(2):
                assert several[j, k, i] == y[j, i, k]
                assert one_hot[j, k, i] == (classes[j, i] == k)


@everywhere
def test_slopes_of_kinked_activations_are_arrays_like_their_arguments(place: Any) -> None:
    # kills: a number in place of ones, whose kind a backend does not know
    B = backend(place.backend)
    for name in ("relu", "leaky_relu"):
        a = ri.networks.ACTIVATIONS[name]
        z = place.array(np.array([[-1.5, 0.75]]))
        slope = a.first(B, z, a.value(B, z))
        assert (slope.dtype, slope.shape) == (z.dtype, z.shape)


def test_slopes_of_kinked_activations_are_rationals_where_their_arguments_are() -> None:
    exact = backend("rational")
    thirds = exact.asarray(np.array([-1.0, 1.0])) / 3
    for name in ("relu", "leaky_relu"):
        a = ri.networks.ACTIVATIONS[name]
        assert all(type(x) is type(thirds[0]) for x in a.first(exact, thirds, a.value(exact, thirds)))


def test_the_distance_from_kinks_of_several_tasks_is_the_nearest() -> None:
    # kills: the farthest task's
    body = MLP((1, 1), "relu", body=True)
    f = shared(body, [[[1.0], [2.0]], [[5.0], [7.0]]], [[0.0, 0.0]] * 2, outputs=1, loss="squared")
    assert f.kink_distance(np.array([1.0, -0.5]), np.zeros(f.d)) == 0.5  # z = 0.5, 1.5 and 4.5, 6.5
    assert f.kink_distance(np.array([1.0, -6.0]), np.zeros(f.d)) == 1.0  # z = −5, −4 and −1, 1


# -- masks ----------------------------------------------------------------------------------------------
def test_sure_masks_may_drop() -> None:
    """Keep probabilities 0 and 1 alone: nothing is random, and f is not left as it is."""
    # kills: f itself wherever no mask is random
    f = quadratic.random(n=1, d=3, seed=3).upper
    dropped = f.with_dropout([1, 0, 1])
    lam, w, mask = np.array([0.5]), np.array([1.0, -2.0, 3.0]), np.array([1.0, 0.0, 1.0])
    assert dropped.value(lam, w) == f.value(lam, mask * w) != f.value(lam, w)
    assert np.array_equal(dropped.grad_w(lam, w), mask * f.grad_w(lam, mask * w))


# -- one hidden layer -----------------------------------------------------------------------------------
def _layer(n: int, batch: int, seed: int = 0) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    X, W, b = rng.standard_normal((batch, 3)), rng.standard_normal((n, 3)), rng.standard_normal(n)
    return X, np.sign(rng.standard_normal(batch)), W, b, rng.standard_normal(n), 0.25


def test_as_many_masks_as_allowed_and_no_more() -> None:
    # kills: another limit
    args = _layer(5, 2)
    half = nodes.MOST * 2**3  # pairs of a node and a mask of the three units of one half
    for method, visits in (("literal", 2**5), ("split", 2**5), ("nodes", half)):
        options: dict[str, Any] = {"keep_prob": 0.5, "loss": "logistic", "method": method}
        assert expected_one_hidden(*args, **options, max_masks=visits).method == method
        with pytest.raises(TooLarge):
            expected_one_hidden(*args, **options, max_masks=visits - 1)


def test_tables_are_centred_before_their_exponentials() -> None:
    """z of −650, −649, 650 and 651: within the range of exp, but the sum of one half alone, 1300, is not."""
    # kills: tables without a centre
    layer = ([[1.0]], [1.0], [[1.0], [1.0]], [0.0, 0.0], [1300.0, 1.0], -650.0)
    options: dict[str, Any] = {"keep_prob": [0.25, 0.5], "loss": "logistic", "activation": "linear"}
    split, every = (expected_one_hidden(*layer, method=m, **options) for m in ("split", "literal"))
    assert np.isfinite(split.flat).all()
    # 1300 eps: rounding z once; entries are sums of terms of one sign
    assert np.all(np.abs(split.flat - every.flat) <= 1300 * EPS * np.abs(every.flat))


def test_bounds_on_errors_are_not_negative() -> None:
    """The chain rule is applied to them in absolute values, also for outgoing weights < 0."""
    # kills: signs of a, of X, of h in the bounds
    X, y, W, b, a, c = _layer(6, 3)
    assert min(a) < 0 < max(a)
    found = expected_one_hidden(X, y, W, b, a, c, keep_prob=0.75, loss="logistic", method="nodes")
    moved = expected_one_hidden(X, y, W, b, a, c, keep_prob=0.75, loss="logistic", method="literal")
    assert found.bound is not None
    assert (found.bound > 0).all()
    # the enumeration's own rounding: 2⁶ masks of 6 terms each
    rounding = 2**6 * 6 * EPS * (1 + np.abs(found.flat))
    assert np.all(np.abs(found.flat - moved.flat) <= found.bound + rounding)


def _sums(n: int, seed: int = 1) -> Sums:
    rng = np.random.default_rng(seed)
    terms = 0.1 * rng.standard_normal((3, n))
    return Sums(terms, np.full(3, 0.5), np.full(n, 0.75), np.array([1.0, -1.0, 1.0]), "logistic", Backend())


def test_the_bound_of_the_nodes_is_relative_to_the_largest_slope() -> None:
    """At least (δ + 4 eps + (1 + Λ)(2N + K Λ + 14) eps) P D(hi), D(hi) by its definition, at the interval's end."""
    # kills: D at another node, a bound relative to the smallest slope
    sums = _sums(4)
    order = np.argsort(np.abs(sums.terms).sum(0), kind="stable")
    x = -sums.y[:, None] * sums.terms[:, order]  # of −y z
    left = [
        sorted(sum(t for t, m in zip(row, bits, strict=True) if m) for bits in np.ndindex(2, 2))
        for row in x[:, :2]
    ]
    radius = max(row[-1] - row[0] for row in left) / 2
    K = nodes.node_count(radius)
    lebesgue = 1 + 2 / math.pi * math.log(K)
    relative = nodes.truncation(radius, K) + 4 * EPS + (1 + lebesgue) * (2 * 4 + K * lebesgue + 14) * EPS
    _, bound = nodes.moments(sums)
    for b in range(3):
        hi = left[b][0] + 2 * radius - sums.y[b] * sums.offset[b]
        D = 0.0
        for m in np.ndindex(2, 2):
            p = math.prod(0.75 if bit else 0.25 for bit in m)
            D += p / (1 + math.exp(-hi - sum(t for t, bit in zip(x[b, 2:], m, strict=True) if bit)))
        assert bound.slope[b] >= relative * D * (1 - 100 * EPS)
        assert bound.slope[b] <= 2 * relative * D * math.exp(2 * radius)


@pytest.mark.parametrize(("radius", "K"), [(0.1, 4), (nodes.RADIUS, 23), (3.0, 12)])
def test_the_truncation_is_its_formula(radius: float, K: int) -> None:
    """δ = 8 e^η ρ^(1−K)/(S (ρ − 1)), the least over the grid of heights H."""
    # kills: η without − r, any factor left out, conservative or not
    found = []
    for H in nodes._HEIGHTS.tolist():
        rho = H / radius + math.sqrt(1 + (H / radius) ** 2)
        eta = radius * ((rho + 1 / rho) / 2 - 1)
        S = 1.0 if H <= math.pi / 2 else math.sin(H)
        found.append(8 * math.exp(eta) * rho ** (1 - K) / (S * (rho - 1)))
    # powers and exponentials of sums of at most K log ρ: that many eps
    assert abs(nodes.truncation(radius, K) / min(found) - 1) <= 10 * K * math.log(70 / radius) * EPS


def test_a_sum_that_is_a_node_takes_the_value_there() -> None:
    """The barycentric basis at its own nodes is the identity, though each quotient there is 1/0."""
    # kills: infinite quotients left as they are
    rule = nodes._rule(0.5, 5)
    weights = np.random.default_rng(2).standard_normal((2, 5))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = nodes._barycentric(rule.nodes.copy(), weights, rule, nodes._Work.of(5, 5, 1))
    assert_rounded(found, weights.T, terms=np.abs(weights.T), count=1)


@pytest.mark.skipif(not EXTENDED, reason="no extended precision on this platform")
def test_probabilities_of_masks_are_rounded_once() -> None:
    """Rounding that equal masks share does not average out: each product is right to one rounding, and so is Σ P."""
    # kills: products in plain precision, in either place
    keep = np.full(12, 0.3)  # 1 − 0.3 takes more digits than a float has
    exact = [Fraction(0.3) ** k * (1 - Fraction(0.3)) ** (12 - k) for k in range(13)]
    for p, m in zip(tables.probabilities(keep), tables.bits(12), strict=True):
        q = exact[int(m.sum())]
        assert abs(Fraction(float(p)) - q) <= q * Fraction(EPS) * Fraction(51, 100)
    sums = Sums(np.zeros((1, 12)), np.zeros(1), keep, np.ones(1), "logistic", Backend())
    assert abs(literal._chunk(sums, 0)[0] + literal._chunk(sums, 2048)[0] - 1) <= EPS * 51 / 100


def test_exponentials_of_tabled_sums_keep_their_digits() -> None:
    """e^(± sum) for sums of some hundred: the rounded sum alone would cost that many units of the last place."""
    # kills: the low part left out, its sign
    terms = np.array([[300.1, 70.7, 1e-3, 33.3]])
    table = tables.subset_sums(terms, np.array([0.1]))
    with mpmath.workdps(40):
        for sign in (1, -1):
            for value, m in zip(table.exp(sign)[0], tables.bits(4), strict=True):
                true = mpmath.exp(
                    sign * (mpmath.mpf(0.1) + mpmath.fsum(mpmath.mpf(t) for t in terms[0][m > 0]))
                )
                assert abs(mpmath.mpf(float(value)) / true - 1) <= 4 * EPS


def test_ordered_sums_are_compensated() -> None:
    # kills: what is lost not added back
    small = [EPS / 8] * 64
    assert tables.ordered_sum([1.0, *small]) == 1 + 8 * EPS
    assert np.array_equal(
        tables.ordered_sum([np.ones(2)] + [np.array([s, 0.0]) for s in small]), [1 + 8 * EPS, 1.0]
    )


# -- FSLA -----------------------------------------------------------------------------------------------
PLAIN = quadratic.random(n=2, d=3, seed=0, terms=4)
START = (PLAIN.start(), np.array([1.0, -2.0, 0.5]), np.array([0.25, 1.0, -1.0]))
HYPER: dict[str, Any] = {
    "delta": Fraction(1, 4),
    "gamma": Fraction(1, 2),
    "beta": Fraction(3, 8),
    "eta": Fraction(3, 2),
}


@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("randomness", ["shared", "fresh", "fresh-cross"])
def test_levels_without_dropout_have_minibatches_too(batch: Any, randomness: Any) -> None:
    """In rationals, Algorithm 1 written out, equal: every gradient is the mean over the batch, or over all data."""
    # kills: one term of a batch for its mean, a sample where all of the data are taken
    B = backend("rational")
    problem, start = PLAIN.to(B), tuple(B.asarray(x) for x in START)
    a = FSLA(**HYPER, schedule="constant", randomness=randomness, lower_batch=batch, upper_batch=batch)
    rng = np.random.default_rng(4)
    samples = [a.space(PLAIN, k).sample(rng, ()) for k in range(3)]
    state = a.init(problem, *start)
    for sample, known in zip(samples, algorithm_1(problem, *start, samples, a, number=B.scalar), strict=True):
        state = a.step(problem, state, sample)
        for found, expected in zip((state.lam, state.w, state.v, state.d), known, strict=True):
            assert (found == expected).all()


def test_every_replicate_of_a_run_draws_its_own() -> None:
    """The run is that of the samples which the space draws with the replicates' axes."""
    # kills: one draw for all replicates
    a = FSLA(delta=0.1, lower_batch=1)
    done = run(a, PLAIN, START[0], steps=2, rng=np.random.default_rng(6), replicates=(5,))
    rng, state = np.random.default_rng(6), a.init(PLAIN, START[0])
    for _ in range(2):
        state = a.step(PLAIN, state, a.space(PLAIN).sample(rng, (5,)))
    assert np.array_equal(done.state.w, state.w)
    assert len({tuple(row) for row in done.state.w.tolist()}) > 1


def test_masks_without_randomness_are_not_counted_as_drawn() -> None:
    # kills: a pair of masks per draw wherever the level has a dropout
    sure = PLAIN.with_dropout(lower=1, upper=[1, 0, 1])
    counts = run(FSLA(delta=0.1), sure, START[0], steps=3, rng=np.random.default_rng(0)).counts
    assert (counts["lower.masks"], counts["upper.masks"]) == (0, 0)
    assert counts["lower.data"] == 3 * 4


@pytest.mark.parametrize(("r", "inside", "outside"), [(2.0, 1.5, 3.0), (0.5, 0.375, 0.75)])
def test_the_ball_ends_at_its_radius(r: float, inside: float, outside: float) -> None:
    # kills: r² compared with a norm
    a = DropoutFSLA(delta=1, r=r)
    v = np.array([[inside, 0.0, 0.0], [0.0, -outside, 0.0]])
    found = to_numpy(a.constrained(Backend(), v))
    assert np.array_equal(found[0], v[0])
    assert_rounded(found[1], [0.0, -r, 0.0], terms=r, count=6)


def test_a_unit_behind_a_dropped_one_stands_still() -> None:
    """Layer 2's row stands still, layer 1's moves: unit 2 sees a moving output, unless unit 1 is dropped.

    Kills: dropped units forgotten among what stands still, masks asked for where there are none.
    """
    net = MLP((1, 1, 1, 1), "relu")
    f = loss(net, [[1.0]], [0.0], loss="squared")
    w = net.pack([np.array([[1.0, 1.0]]), np.array([[1.0, 0.25]]), np.array([[1.0, 0.0]])])
    moves = net.pack([np.ones((1, 2)), np.zeros((1, 2)), np.ones((1, 2))])
    lam = np.zeros(0)
    assert f.kink_distance(lam, w) == 2.0  # z = 2 and 2.25
    assert (
        f.kink_distance(
            lam, w - net.pack([np.array([[0.0, 2.0]]), *(0 * x for x in net.layers(w)[1:])]), None, moves
        )
        == 0.0
    )
    dropped = f.drop_units(np.array([0.0, 1.0]))
    assert dropped.kink_distance(lam, w) == 0.25
    assert dropped.kink_distance(lam, w, None, moves) == np.inf


def test_rows_of_a_shared_body_that_stand_still_have_no_kink() -> None:
    # kills: lam_moves ignored
    body = MLP((1, 2), "relu", body=True)
    f = shared(body, [[[1.0]], [[2.0]]], [[0.0], [0.0]], outputs=1, loss="squared")
    lam = body.pack([np.array([[0.5, 0.0], [3.0, 0.0]])])
    moves = body.pack([np.array([[0.0, 0.0], [1.0, 1.0]])])
    assert f.kink_distance(lam, np.zeros(f.d)) == 0.5
    assert f.kink_distance(lam, np.zeros(f.d), moves) == 3.0


def test_masks_go_in_front_of_the_samples_of_shared_tasks() -> None:
    """Two masks, minibatches (3, 4): every entry is its mask's loss on its samples. Kills: axes lost or misplaced."""
    rng, body = np.random.default_rng(5), MLP((2, 3), "tanh", body=True)
    f = shared(body, rng.standard_normal((2, 5, 2)), rng.standard_normal((2, 5)), outputs=1, loss="squared")
    masks, samples = rng.random((2, 3)), rng.integers(0, 5, (3, 4))
    lam, w = rng.standard_normal(f.n), rng.standard_normal(f.d)
    together = f.drop_units(masks).batch(samples).value(lam, w)
    assert together.shape == (3, 2)
    for i, k in np.ndindex(3, 2):
        one = f.drop_units(masks[k]).batch(samples[i]).value(lam, w)
        assert abs(together[i, k] - one) <= 10 * f.n * 2.0**-52 * (1 + abs(one))
