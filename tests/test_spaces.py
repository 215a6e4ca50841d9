"""Finite spaces: expectations are exact, and bitwise the same for every executor."""

from __future__ import annotations

import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest

from refimpl.arrays import backend, to_numpy
from refimpl.errors import BadInput, TooLarge
from refimpl.spaces import CHUNK, Bernoulli, Indices, Minibatch, Product, covariance, estimate, expect
from tests.backends import everywhere, round_trip
from tests.rounding import EPS, assert_rounded

SPACES = {
    "one point": Indices(1),
    "one chunk": Indices(7),
    "a full chunk": Indices(CHUNK),
    "one more": Indices(CHUNK + 1),
    "three chunks": Indices(2 * CHUNK + 5),
    "product": Product((Indices(3), Indices(5))),
    "product over chunks": Product((Indices(4), Indices(9), Indices(7))),
    "product of products": Product((Indices(2), Product((Indices(3), Indices(11))), Indices(5))),
}


def _leaves(space):
    return [x for f in space.factors for x in _leaves(f)] if isinstance(space, Product) else [space.count]


def _flat(points):
    return [x for p in points for x in _flat(p)] if isinstance(points, tuple) else [points]


@pytest.mark.parametrize("name", SPACES)
def test_points_are_all_there_once_in_order_with_their_probabilities(name):
    # kills: off by one at a chunk's end, last factor slowest, probabilities of the wrong factor
    space = SPACES[name]
    sizes, seen, total = _leaves(space), [], Fraction(0)
    for start in range(0, space.size, CHUNK):
        index = np.arange(start, min(start + CHUNK, space.size))
        columns, probabilities = _flat(space.points(index)), space.exact_probabilities(index)
        assert all(len(c) == len(probabilities) <= CHUNK for c in columns)
        seen += list(zip(*(c.tolist() for c in columns), strict=True))
        total += sum(probabilities)
        assert set(probabilities) == {Fraction(1, space.size)}
        assert_rounded(
            space.probabilities(index), np.full(index.shape, 1 / space.size), terms=1 / space.size, count=3
        )
    assert seen == list(np.ndindex(*sizes))
    assert total == 1


@pytest.mark.parametrize("name", SPACES)
def test_expectations_are_exact_over_the_rationals(name):
    # kills: float weights, a chunk counted twice, a mean of chunk means
    B, space = backend("rational"), SPACES[name]
    sizes = _leaves(space)

    def f(points):
        return B.asarray(sum((i + 2) ** 2 * np.asarray(x) ** 2 for i, x in enumerate(_flat(points))))

    expected = sum((i + 2) ** 2 * Fraction((s - 1) * (2 * s - 1), 6) for i, s in enumerate(sizes))
    assert expect(space, f, B) == B.scalar(expected)


@everywhere
def test_sums_over_chunks_are_compensated(place):
    # kills: total += part, which loses the ones; error added with the wrong sign
    B, count = backend(place.backend), 5 * CHUNK
    values = np.repeat([1e16, 1.0, 1.0, 1.0, -1e16], CHUNK) * 5  # a chunk's sum of equal numbers is exact
    found = expect(Indices(count), lambda k: B.take(place.array(values), B.indices(k)), B)
    assert float(found) == 3.0


@everywhere
@pytest.mark.parametrize("shape", [(), (2,), (3, 2)], ids=str)
def test_values_keep_their_own_axes(place, shape):
    # kills: summing over a value's axis, probabilities broadcast along the wrong one
    B = backend(place.backend)
    values = np.random.default_rng(0).standard_normal((CHUNK + 9, *shape))
    found = expect(Indices(len(values)), lambda k: B.take(place.array(values), B.indices(k)), B)
    assert_rounded(found, values.mean(0), terms=abs(values).mean(0), count=CHUNK)


def _waves(frequency, points):
    return np.sin(frequency * np.asarray(points)[:, None] + np.arange(3.0)) * 10.0 ** (
        np.asarray(points)[:, None] % 7
    )


def test_every_executor_gives_the_same_bits():
    """ThreadPool, ProcessPool and none, with any number of workers: fixed chunks, one order of summation."""
    space, f = Indices(9 * CHUNK + 3), functools.partial(_waves, 1.7)
    alone, matrix = expect(space, f), covariance(space, f)
    with ThreadPoolExecutor(3) as threads:
        assert expect(space, f, executor=threads).tobytes() == alone.tobytes()
        assert covariance(space, f, executor=threads).tobytes() == matrix.tobytes()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        assert expect(space, f, executor=processes).tobytes() == alone.tobytes()
        assert covariance(space, f, executor=processes).tobytes() == matrix.tobytes()


@pytest.mark.parametrize("lead", [(), (2,)], ids=str)
def test_covariance_is_the_direct_one(lead):
    # kills: E ffᵀ − mean meanᵀ (cancels at this offset), a mean over the wrong axis, a lost leading axis
    rng, count = np.random.default_rng(1), CHUNK + 5
    offset = 1e6
    values = offset + rng.standard_normal((count, *lead, 3))
    centred = values - values.mean(0)
    direct = np.einsum("k...i,k...j->...ij", centred, centred) / count
    found = covariance(Indices(count), lambda k: values[k])
    # each deviation carries eps·offset, once per factor
    assert_rounded(found, direct, terms=offset * abs(centred).mean(0).max(), count=count)
    assert np.all(np.linalg.eigvalsh(found) >= 0)


@pytest.mark.parametrize("count", [1, 2, CHUNK + 3])
def test_covariance_is_exact_over_the_rationals(count):
    B = backend("rational")
    rows = np.random.default_rng(count).integers(-9, 10, (count, 2))
    x = B.asarray(rows) / B.scalar(7)
    found = covariance(Indices(len(rows)), lambda k: x[k], B)
    mean = x.sum(axis=0) / B.scalar(len(rows))
    direct = sum(np.outer(r - mean, r - mean) for r in x) / B.scalar(len(rows))
    assert (found == direct).all()


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)], ids=str)
def test_samples_are_points_of_the_space(name, shape):
    space = SPACES[name]
    points = space.sample(np.random.default_rng(0), shape)
    for column, size in zip(_flat(points), _leaves(space), strict=True):
        assert np.shape(column) == shape
        assert np.all((0 <= np.asarray(column)) & (np.asarray(column) < size))
    again = space.sample(np.random.default_rng(0), shape)
    assert all(np.array_equal(a, b) for a, b in zip(_flat(points), _flat(again), strict=True))


def test_samples_are_uniform():
    """Pearson's statistic of 60 000 draws from 2 x 3 points: χ²(5) exceeds 40 with probability 1.5e-7."""
    first, second = Product((Indices(2), Indices(3))).sample(np.random.default_rng(2), (60_000,))
    counts = np.bincount(3 * first + second, minlength=6)
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 40


@pytest.mark.parametrize("rng", [None, -1, "0", 0.5])
def test_randomness_has_a_source(rng):
    indices = Indices(3)
    for space in (indices, Minibatch(3, 2), Bernoulli((0.5,)), Product((indices, indices))):
        with pytest.raises(BadInput, match="without a source"):
            space.sample(rng, (2,))
    with pytest.raises(BadInput, match="without a source"):
        estimate(indices, lambda k: 1.0 * k, rng, samples=5)


def test_too_many_points_are_refused():
    with pytest.raises(TooLarge) as caught:
        expect(Product((Indices(100), Indices(100))), lambda p: p[0], max_points=9_999)
    assert "10000 points" in caught.value.measured


def test_what_is_refused_is_asked_for_one_point():
    """To tell what all would cost. Kills: a whole chunk."""
    asked = []
    with pytest.raises(TooLarge, match=r"8 at a time would be held in 0\.000488 MiB"):  # 64 numbers
        expect(Indices(10**6), lambda k: asked.append(len(k)) or np.ones((len(k), 8)), max_points=9, chunk=8)
    assert asked == [1]


def test_a_large_product_is_enumerated_lazily():
    """A chunk looks at the points it needs of a factor, not at all of them."""
    space = Product((Indices(10**9), Indices(10**6)))
    index = np.arange(10**14, 10**14 + 3)
    (first, second), probabilities = space.points(index), space.exact_probabilities(index)
    assert first.tolist() == [10**8] * 3
    assert second.tolist() == [0, 1, 2]
    assert probabilities == [Fraction(1, 10**15)] * 3


@pytest.mark.parametrize("count", [0, -1])
def test_an_empty_sum_is_refused(count):
    with pytest.raises(BadInput, match="at least one term"):
        Indices(count)


def test_a_product_of_nothing_is_refused():
    with pytest.raises(BadInput, match="factor"):
        Product(())


@pytest.mark.parametrize(
    "f", [lambda k: np.float64(1.0), lambda k: np.ones(5)], ids=["scalar", "wrong length"]
)
def test_a_value_per_point_is_required(f):
    with pytest.raises(BadInput, match="one value per point"):
        expect(Indices(3), f)


def test_points_go_in_front_of_other_leading_axes():
    assert Indices(4).ahead(np.arange(4), 2).shape == (4, 1, 1)
    both = Product((Indices(4), Product((Indices(4), Bernoulli([0.5] * 3)))))
    first, (second, masks) = both.ahead(both.points(np.arange(4)), 1)
    assert first.shape == second.shape == (4, 1)
    assert masks.shape == (4, 1, 3)  # the variables stay behind


def test_spaces_pickle():
    assert all(round_trip(space) == space for space in SPACES.values())


def test_expectation_of_complex_values():
    """The complex step goes through expectations."""
    found = expect(Indices(4), lambda k: (1 + 2j) * np.asarray(k, dtype=float))
    assert abs(found - (1.5 + 3j)) <= 4 * EPS["float64"] * abs(1.5 + 3j)
    assert np.iscomplexobj(to_numpy(found))


def test_a_covariance_of_numbers_is_refused():
    with pytest.raises(BadInput, match="vectors"):
        covariance(Bernoulli([0.3]), lambda m: 1.0 * m[:, 0])
    assert abs(covariance(Bernoulli([0.3]), lambda m: 1.0 * m)[0, 0] - 0.21) <= 4 * EPS["float64"]


@pytest.mark.parametrize("f", [lambda k: 1.0, lambda k: [1.0] * len(k)], ids=["number", "list"])
def test_values_that_are_no_arrays_are_refused(f):
    with pytest.raises(BadInput, match="one value per point"):
        expect(Indices(3), f)


def test_an_empty_chunk_is_refused():
    with pytest.raises(BadInput, match="chunk"):
        expect(Indices(3), lambda k: 1.0 * k, chunk=0)


def test_a_seed_will_do_for_a_generator():
    for space in (*SPACES.values(), Bernoulli([0.5] * 9), Minibatch(5, 3)):
        once, again = space.sample(7, (4,)), space.sample(np.random.default_rng(7), (4,))
        assert all(np.array_equal(a, b) for a, b in zip(_flat(once), _flat(again), strict=True))
    found = estimate(Indices(5), lambda k: 1.0 * k, 0, samples=10)
    assert found.value == estimate(Indices(5), lambda k: 1.0 * k, np.random.default_rng(0), samples=10).value
