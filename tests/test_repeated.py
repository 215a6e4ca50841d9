"""Repeated draws: every tuple of points once, on an axis of their own, whatever a point is."""

from __future__ import annotations

import itertools as it
import math
import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.errors import BadInput, TooLarge
from refimpl.moments import affine_draw, affine_step
from refimpl.spaces import Bernoulli, Indices, Minibatch, Product, Repeated, Space, expect
from tests.backends import round_trip

MASKS = Bernoulli([Fraction(1, 3), Fraction(3, 4)])
DRAW = Product((Product((Indices(1), MASKS)), Minibatch(3, 2)))  # nested, as a draw of a level with dropout


@given(st.integers(1, 3), st.integers(0, 4))
def test_every_tuple_once(count, times):
    # kills: the first draw fastest, a draw left out, the power times^count
    space = Repeated(Indices(count), times)
    index = np.arange(space.size)
    assert space.points(index).tolist() == [list(p) for p in it.product(range(count), repeat=times)]
    assert space.exact_probabilities(index) == [Fraction(1, count**times)] * space.size
    assert round_trip(space) == space


def test_it_is_the_product_of_its_draws():
    """Points and probabilities, in the same order. Kills: probabilities of one draw, or of draws that are equal."""
    space, product = Repeated(DRAW, 2), Product((DRAW, DRAW))
    index = np.arange(space.size)
    assert space.size == product.size == 36**2
    assert space.exact_probabilities(index) == product.exact_probabilities(index)
    assert space.probabilities(index).shape == index.shape
    # two numbers of 4 eps each, and their product
    assert abs(space.probabilities(index) - product.probabilities(index)).max() <= 9 * 2.0**-52
    for one, other in zip(space.each(space.points(index)), product.points(index), strict=True):
        assert str(one) == str(other)


def test_points_keep_their_axes():
    """The axis of the draws stands behind the points' own axes, and behind those that ``ahead`` makes room for."""
    space = Repeated(DRAW, 5)
    (sure, masks), data = points = space.points(np.arange(12).reshape(4, 3))
    assert (sure.shape, masks.shape, data.shape) == ((4, 3, 5), (4, 3, 5, 2), (4, 3, 5, 2))
    (sure, masks), data = ahead = space.ahead(points, 2)
    assert (sure.shape, masks.shape, data.shape) == ((4, 3, 1, 1, 5), (4, 3, 1, 1, 5, 2), (4, 3, 1, 1, 5, 2))
    for points_of in (points, ahead):
        assert space.leading(points_of) == points_of[1].shape[:-2]
    for k, ((_, masks_k), data_k) in enumerate(space.each(ahead)):
        assert (masks_k == masks[..., k, :]).all()
        assert (data_k == data[..., k, :]).all()


def test_the_mean_over_it_is_the_product_of_means():
    space = Repeated(MASKS, 3)
    first_of_each = expect(space, lambda p: np.prod(p[..., 0], axis=-1).astype(float)[:, None])
    assert abs(first_of_each[0] - (1 / 3) ** 3) <= 64 * 2.0**-52 / 27


def test_nothing_drawn():
    space = Repeated(DRAW, 0)
    assert space.size == 1
    assert space.exact_probabilities(np.arange(1)) == [1]
    points = space.sample(np.random.default_rng(0), (7,))
    assert space.leading(points) == (7,)
    assert space.each(points) == []


def test_samples_are_independent():
    """Kills: one draw repeated, one draw for all replicates."""
    drawn = Repeated(Minibatch(1000, 1), 4).sample(np.random.default_rng(0), (5,))
    assert drawn.shape == (5, 4, 1)
    assert len(np.unique(drawn)) == 20
    assert len(set(Repeated(DRAW, 9).sample(3, (2,))[1].ravel().tolist())) == 3


def test_whole_numbers_of_numpy_count_as_well():
    # kills: spaces/count-that-overflows
    assert Repeated(Indices(np.int64(10)), 30).size == 10**30


def test_more_points_than_integers_count():
    huge = Repeated(Minibatch(10**6, 40), 3)
    assert huge.size == 10**720
    points = huge.points(np.arange(4))
    assert points.shape == (4, 3, 40)
    assert points[:, 2, 39].tolist() == [0, 1, 2, 3]
    assert not points[:, :2].any()


HUGE = {  # log₁₀ of the size, and a space of it: a number that would take a gigabyte or more
    "repeated": (10**11 * math.log10(2), lambda: Repeated(Indices(2), 10**11)),
    "minibatch": (6.0 * 10**11, lambda: Minibatch(10**6, 10**11)),
    "product": (
        10**11 * math.log10(6),
        lambda: Product((Repeated(Indices(2), 10**11), Minibatch(3, 10**11))),
    ),
    "twice": (10**22 * math.log10(2), lambda: Repeated(Repeated(Indices(2), 10**11), 10**11)),
    "beyond floats": (10**300 * math.log10(2), lambda: Repeated(Indices(2), 10**400)),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_size_of_too_many_digits_is_not_built(name):
    # kills: spaces/huge-*
    log10, make = HUGE[name]
    space = make()
    assert abs(space.log10_size - log10) <= 4 * 2.0**-52 * log10  # two factors, their product and their sum
    assert not space.at_most(2**62)
    assert space.how_many == f"about 10^{log10:.3g}"
    with pytest.raises(TooLarge, match=re.escape(space.how_many)):
        expect(space, lambda p: pytest.fail("a point was asked for"))
    with pytest.raises(TooLarge, match=re.escape(space.how_many)):
        affine_draw(Around(space), lambda s: (np.ones((len(s), 1, 1)), np.ones((len(s), 1))))
    with pytest.raises(TooLarge, match=re.escape(space.how_many)):
        affine_step(Around(space), lambda s: (np.ones((len(s), 1, 1)), np.ones((len(s), 1))))


def test_the_points_of_a_huge_space_are_not_looked_at():
    """A point of it has as many numbers as the size has digits. Kills: one that is sampled all the same."""

    class Watched(Repeated):
        def sample(self, rng, shape):
            pytest.fail("a point was drawn")

    with pytest.raises(TooLarge) as caught:
        expect(Watched(Indices(10), 10**5), lambda p: p)
    assert caught.value.measured == "about 10^100000.0 points"


@dataclass(frozen=True)
class Around(Space):
    """As many points as another space, without their arrays."""

    inner: Space

    @property
    def size(self):
        return self.inner.size

    @property
    def log10_size(self):
        return self.inner.log10_size

    def points(self, index):
        return index

    def probabilities(self, index):
        pytest.fail("too many to ask for")

    exact_probabilities = probabilities

    def sample(self, rng, shape):
        pytest.fail("too many to ask for")


@pytest.mark.parametrize(
    "space",
    [
        Indices(1),
        Indices(10),
        Minibatch(10, 3),
        Repeated(Indices(10), 20),
        Bernoulli([0.5] * 63),
        Repeated(Indices(2), 23),  # 23 log₁₀ 2 is rounded up, log₁₀ 2²³ is not
        Repeated(Indices(3), 0),
        Repeated(Indices(1), 10**400),
        Product((Indices(7), Minibatch(3, 2))),
    ],
)
def test_a_size_has_its_limits(space):
    # kills: spaces/limit-*
    size = space.size if not isinstance(space, Repeated) or space.times < 10**3 else 1
    for most in (size - 1, size, size + 1, 10 * size, size // 20, 0, 2**62):
        assert space.at_most(most) == (size <= most)
    assert space.how_many == (str(size) if size < 10**9 else f"about 10^{math.log10(size):.1f}")


@pytest.mark.parametrize("times", [-1, 1.0, True, None, "2"])
def test_bad_numbers_of_draws(times):
    with pytest.raises(BadInput, match="how many times"):
        Repeated(MASKS, times)


def test_samples_of_another_space():
    space = Repeated(DRAW, 3)
    good = space.sample(0, (2,))
    for bad in (
        Repeated(DRAW, 4).sample(0, (2,)),
        good[1],
        (good[0], good[1], good[1]),
        (good[0], good[1][..., 0]),
        (good[1], good[1]),
        None,
    ):
        for use in (space.each, space.leading, lambda points: space.ahead(points, 1)):
            with pytest.raises(BadInput, match="not so many draws"):
                use(bad)
