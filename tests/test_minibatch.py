"""Minibatches as a space: every tuple of indices once, and the mean over them of a batch is the mean of all terms."""

from __future__ import annotations

import itertools as it
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.arrays import backend
from refimpl.errors import BadInput
from refimpl.spaces import Minibatch, Product, expect
from refimpl.zoo import quadratic
from tests.backends import round_trip


@given(st.integers(1, 5), st.integers(1, 4))
def test_every_batch_once(count, length):
    # kills: without replacement, unordered batches with equal probabilities, count and length exchanged
    space = Minibatch(count, length)
    index = np.arange(space.size)
    assert space.points(index).tolist() == [list(b) for b in it.product(range(count), repeat=length)]
    assert space.exact_probabilities(index) == [Fraction(1, count**length)] * space.size
    assert set(space.probabilities(index)) == {1 / count**length}
    assert round_trip(space) == space


def test_points_keep_their_axes():
    space = Minibatch(3, 2)
    index = np.arange(9).reshape(3, 3)
    assert space.points(index).shape == (3, 3, 2)
    assert (space.ahead(space.points(index), 2) == space.points(index)[:, :, None, None]).all()
    both = Product((space, space)).ahead((space.points(index),) * 2, 1)
    assert [points.shape for points in both] == [(3, 3, 1, 2)] * 2


def test_samples_are_independent_draws_with_replacement():
    drawn = Minibatch(4, 3).sample(np.random.default_rng(0), (5, 7))
    assert drawn.shape == (5, 7, 3)
    assert set(np.unique(drawn)) == {0, 1, 2, 3}
    assert any(len(set(row)) < 3 for row in drawn.reshape(-1, 3).tolist())
    beyond = Minibatch(10**6, 40)  # more batches than an integer of 64 bits counts, yet easy to draw
    assert beyond.size == 10**240
    assert beyond.sample(np.random.default_rng(0), ()).shape == (40,)


def test_the_mean_of_a_batch_is_unbiased():
    """Exactly, in rationals; its second moment is not that of all data: (f̄² + (E f² − f̄²)/b)."""
    problem = quadratic.random(n=1, d=2, seed=1, terms=3).to("rational")
    B, f, space = backend("rational"), problem.lower, Minibatch(3, 2)
    lam, w = problem.start(), B.asarray(np.array([1.0, -2.0]))
    value = lambda s: f.batch(s).value(lam, w)  # noqa: E731 (one term of the mean)
    one = [f.at(np.asarray(k)).value(lam, w) for k in range(3)]
    assert expect(space, value, B) == f.value(lam, w) == sum(one) / 3
    spread = sum((x - f.value(lam, w)) ** 2 for x in one) / 3
    assert expect(space, lambda s: value(s) ** 2, B) - f.value(lam, w) ** 2 == spread / 2


@pytest.mark.parametrize(("count", "length"), [(0, 1), (3, 0), (3, -1), (3, 1.5), (3, True)])
def test_bad_batches(count, length):
    with pytest.raises(BadInput, match="no minibatch has this"):
        Minibatch(count, length)
