"""Masks as a finite space: which points, which probabilities, which coordinates they cover."""

from __future__ import annotations

import itertools as it
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.arrays import Backend, backend, to_numpy
from refimpl.errors import BadInput, TooLarge
from refimpl.spaces import CHUNK, Bernoulli, Indices, Product, Space, estimate, expect
from tests.backends import everywhere, round_trip
from tests.rounding import EPS

KEEP = (Fraction(4, 5), Fraction(1), Fraction(1, 2), Fraction(0), Fraction(1, 3))
GROUPS = (2, 0, 0, 4, 1, 3, 2)
keep_probs = st.lists(st.fractions(0, 1, max_denominator=9), min_size=1, max_size=7)


@given(keep_probs)
def test_every_mask_once_with_its_probability(keep):
    """Against the product over variables written as a loop.

    Kills: p for 1 − p, sure variables enumerated, a bit order that is not the probabilities' order.
    """
    space = Bernoulli(keep)
    literal = {}
    for bits in it.product((0, 1), repeat=len(keep)):
        p = Fraction(1)
        for bit, q in zip(bits, keep, strict=True):
            p *= q if bit else 1 - q
        if p:
            literal[bits] = p
    index = np.arange(space.size)
    rows = [tuple(int(b) for b in row) for row in space.points(index)]
    assert dict(zip(rows, space.exact_probabilities(index), strict=True)) == literal
    assert len(rows) == len(literal) == 2 ** sum(0 < q < 1 for q in keep)
    floats = space.probabilities(index)
    for found, p in zip(floats, space.exact_probabilities(index), strict=True):
        assert (
            abs(Fraction(float(found)) - p) <= Fraction(2 * max(len(space.free), 1)) * Fraction(2) ** -52 * p
        )


@everywhere
def test_a_variable_covers_its_group(place):
    # kills: groups ignored, the groups' order taken for the coordinates'
    B, space = backend(place.backend), Bernoulli(KEEP, GROUPS)
    for point in space.points(np.arange(space.size)):
        mask = to_numpy(space.mask(point, B))
        assert mask.tolist() == [float(point[g]) for g in GROUPS]
    assert (space.variables, space.coordinates, space.free) == (5, 7, (0, 2, 4))


@everywhere
def test_inverse_scale_has_mean_one(place):
    # kills: 1/p forgotten, p for 1/p, the scale of another variable
    B, space = backend(place.backend), Bernoulli([0.8, 1, 0.5, 0.3], (1, 0, 0, 2, 3, 3))
    mean = expect(space, lambda m: space.mask(m, B, "inverse"), B)
    assert np.abs(to_numpy(mean) - 1).max() <= 2 * space.size * EPS["float64"]


@given(keep_probs, st.data())
def test_second_moments_are_the_enumerated_ones(keep, data):
    # kills: p² for p on the diagonal, p_i p_j inside a group, the scale once instead of twice
    groups = data.draw(st.lists(st.integers(0, len(keep) - 1), min_size=1, max_size=5))
    scale = data.draw(st.sampled_from(["none"] if 0 in [keep[g] for g in groups] else ["none", "inverse"]))
    B, space = backend("rational"), Bernoulli(keep, groups)

    def outer(points):
        mask = space.mask(points, B, scale)
        return mask[..., :, None] * mask[..., None, :]

    found = expect(space, outer, B)
    assert found.tolist() == [[B.scalar(e) for e in row] for row in space.second_moments(scale)]


def test_samples_have_the_probabilities_of_the_space():
    """Pearson's statistic over the 8 masks of KEEP, 40 000 draws: χ²(7) exceeds 45 with probability 1.4e-7."""
    space = Bernoulli(KEEP)
    rows = space.sample(np.random.default_rng(0), (200, 200))
    assert rows.shape == (200, 200, 5)
    assert rows[..., 1].all()
    assert not rows[..., 3].any()
    codes = rows[..., list(space.free)] @ np.array([4, 2, 1])
    expected = 40_000 * space.probabilities(np.arange(8))
    assert (((np.bincount(codes.ravel(), minlength=8) - expected) ** 2) / expected).sum() < 45


def test_floats_are_taken_exactly_and_fractions_stay():
    assert Bernoulli([0.1, Fraction(1, 10)]).keep_prob == (Fraction(0.1), Fraction(1, 10))
    assert round_trip(Bernoulli(KEEP, GROUPS)) == Bernoulli(KEEP, GROUPS)


@pytest.mark.parametrize(
    ("keep", "groups", "says"),
    [
        (1.5, [0, 1], "outside"),
        ([0.5, -0.1], None, "outside"),
        ([0.5, float("nan")], None, "numbers"),
        ([[0.5], [0.5]], None, "numbers"),
        (0.5, None, "how many"),
        ([0.5], [0, 1], "group"),
        ([0.5], [-1], "groups"),
        ([0.5], [0.0], "groups"),
        ([0.5], [[0]], "groups"),
    ],
)
def test_bad_masks_are_refused(keep, groups, says):
    with pytest.raises(BadInput, match=says):
        Bernoulli(keep, groups)


def test_never_kept_and_scaled_is_refused():
    with pytest.raises(BadInput, match="divides by zero"):
        Bernoulli([0.5, 0]).of_coordinates("inverse")


@pytest.mark.parametrize("count", [30, 5000])
def test_too_many_masks_say_how_many_how_long_and_what_else(count):
    space = Bernoulli([0.5] * count)
    with pytest.raises(TooLarge) as caught:
        expect(space, lambda m: space.mask(m, Backend()))
    text = str(caught.value)
    for word in ("10^", "MiB", "years" if count == 5000 else " ", "closed form", "confidence", "executor"):
        assert word in text, (word, text)


def test_probabilities_must_sum_to_one():
    class Loaded(Space):
        size = 3

        def points(self, index):
            return index

        def probabilities(self, index):
            return np.full(index.shape, 0.3)

        def exact_probabilities(self, index):
            return [Fraction(3, 10)] * index.size

        def sample(self, rng, shape):
            return rng.integers(0, 3, shape)

    for B in (Backend(), backend("rational")):
        with pytest.raises(BadInput, match="sum to 1"):
            expect(Loaded(), lambda k, B=B: B.asarray(1.0 * k), B)


def test_many_masks_keep_the_sum_of_probabilities():
    """2^12 masks of unequal probabilities, and with data in front: the derived allowance holds."""
    rng = np.random.default_rng(0)
    space = Product((Bernoulli(rng.random(12).tolist()), Indices(3)))
    assert abs(expect(space, lambda p: 1.0 + 0 * p[1]) - 1) <= (CHUNK + 4 * 14) * 2.0**-52


def test_an_estimate_covers_at_its_confidence():
    """200 estimates of 3 means at confidence 0.9: fewer than 160 covering (all entries) has probability < 1e-5."""
    space = Bernoulli([0.2, 0.5, 0.9])
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = estimate(space, lambda m: 1.0 * m, rng, samples=400, confidence=0.9)
        covered += bool(np.all(np.abs(found.value - [0.2, 0.5, 0.9]) <= found.half_width))
    assert 160 <= covered < 200
    with pytest.raises(BadInput, match="confidence"):
        estimate(space, lambda m: 1.0 * m, np.random.default_rng(0), samples=1)
