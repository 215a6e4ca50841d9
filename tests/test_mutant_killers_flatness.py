"""What no other test of training, flatness and traced networks says: each kills a mutant that survived them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from refimpl.arrays import backend
from refimpl.networks import MLP
from refimpl.networks.last_layer import spread_of
from refimpl.networks.traced import Convolutional, Residual, Transformer
from refimpl.networks.traced.transformer import normalise
from refimpl.spaces import Bernoulli
from refimpl.training import Draws
from tests.rounding import EPS
from tests.traced_things import at, traced
from tests.training_things import network


# -- training -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("masked", [False, True])
def test_batches_of_the_expectation_and_of_plain_losses(masked: bool) -> None:
    """Batches of one sample: every sample's gradient is drawn, and nothing else; with masks its mean over them."""
    plain, dropped = network()
    w, lam = np.random.default_rng(3).standard_normal(plain.d), np.zeros(0)
    masks = 2.0 * np.array(list(itertools.product((0, 1), repeat=plain.units))) if masked else np.ones((1, 2))
    terms = [[plain.at(np.array(i)).drop_units(m).grad_w(lam, w) for m in masks] for i in range(3)]
    possible = np.mean(terms, axis=1)
    f: Any = dropped if masked else plain
    drawn = Draws(f, batch=1).sample(np.random.default_rng(0), (64,)).grad_w(lam, np.tile(w, (64, 1)))
    rounding = 10 * 64 * EPS["float64"] * (np.abs(w).max() + np.abs(possible).max())
    near = np.abs(drawn[:, None] - possible).max(axis=-1) <= rounding
    assert (near.sum(axis=1) == 1).all()
    assert near.any(axis=0).all()


# -- dropout of the last hidden layer -------------------------------------------------------------------------
def test_without_hidden_units_there_is_no_spread() -> None:
    assert spread_of(MLP((2, 1)), Bernoulli([0.5])) is None


# -- traced networks ----------------------------------------------------------------------------------------
def test_units_are_entries_or_channels() -> None:
    """A channel is one unit, whatever the side or the number of positions; an entry is a unit of its own."""
    made: dict[Any, tuple[Any, list[int], list[int]]] = {
        Convolutional: ({"side": 4, "stages": ((2, 5), (3,)), "classes": 2}, [5, 3], [4, 1]),
        Residual: ({"side": 4, "channels": (2, 3), "classes": 2}, [2, 2, 2, 3, 3], [16, 16, 16, 4, 4]),
        Transformer: (
            {"words": 2, "source": 3, "target": 4, "d_model": 2, "d_ff": 1},
            [2] * 7,
            [3, 4, 3, 3, 4, 4, 4],
        ),
    }
    for kind, (options, channels, places) in made.items():
        assert [site.units for site in kind(**options, drop="channels").sites] == channels
        entries = [c * k for c, k in zip(channels, places, strict=True)]
        assert [site.units for site in kind(**options, drop="entries").sites] == entries


def test_every_site_has_its_keep_probability() -> None:
    net = Convolutional(2, ((2,), (1,)), 2, pool=1)
    assert [float(p) for p in net.unit_masks([0.5, 0.25]).keep_prob] == 8 * [0.5] + 4 * [0.25]
    assert [float(p) for p in net.unit_masks(0.75).keep_prob] == 12 * [0.75]


def test_biases_of_filters_are_drawn() -> None:
    """With the variance of the weights; the dense layer's are 0."""
    net = Convolutional(1, ((20_000,),), 2, kernel=1, pool=1)
    theta = net.random(0, gain=3.0)
    biases = theta[net.spans["convolution 1"]].reshape(-1, 2)[:, 1]
    assert abs(biases.var() / 9 - 1) <= 6 * (2 / biases.size) ** 0.5  # standard errors of a variance
    assert not theta[net.spans["dense"]].reshape(2, -1)[:, -1].any()


def test_a_position_without_variance_is_normalised_to_0() -> None:
    assert (normalise(backend(), np.ones((4, 2, 3)), np.ones(4), np.full(4, 0.5)) == 0.5).all()


@pytest.mark.parametrize("name", ["convolved", "transformer"])
def test_masks_are_picked_and_multiplied(name: str) -> None:
    """Masks of every sample times one for all: picked with their samples."""
    f, rng = traced(name), np.random.default_rng(20)
    lam, w, _, _ = at(f, 20)
    each, one = rng.integers(0, 3, (f.count, f.units)), rng.integers(1, 3, f.units)  # products are exact
    both = f.drop_each(1.0 * each).drop_units(1.0 * one)
    assert np.array_equal(both.mask, (each * one).T)
    picked = both.batch([3, 0, 3])
    assert np.array_equal(picked.mask, (each * one).T[:, [3, 0, 3]])
    alone = [f.batch([i]).drop_units(1.0 * each[i] * one).value(lam, w) for i in (3, 0, 3)]
    rounding = 10 * (f.d + 3) * EPS["float64"] * (1 + max(alone))
    assert abs(picked.value(lam, w) - sum(alone) / 3) <= rounding


def test_batches_stand_in_front_of_masks() -> None:
    """Batches (2, 3), then masks (3, 1) for all samples: every entry is of its own batch under its own mask."""
    f = traced("convolved")
    _, w, _, _ = at(f, 22)
    masks, batches = np.random.default_rng(22).standard_normal((3, 1, f.units)), [[0, 3, 3], [2, 1, 0]]
    found = f.drop_units(masks).batch(batches).losses(w)
    for i, j in np.ndindex(2, 3):
        assert np.array_equal(found[i, j, 0], f.drop_units(masks[j, 0]).batch(batches[i]).losses(w))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("name", ["residual", "deep residual"])
def test_what_stands_still_in_a_residual_network(name: str, activation: str) -> None:
    """Of every pre-activation at a kink: it is said to stand still where no small motion of all parameters moves it."""
    f, rng = traced(name, activation), np.random.default_rng(21)
    _, w, _, _ = at(f, 21)
    mask = 1.0 * (rng.random((f.units, f.count)) < 0.25)
    runs: list[list[Any]] = [[], []]
    for found, theta in zip(runs, (w, w + 2.0**-20 * rng.standard_normal(f.d)), strict=True):
        f.architecture.run(theta, f.X, mask, found)
    held = 0
    for (z, still), (moved, _) in zip(*runs, strict=True):
        assert np.array_equal(np.broadcast_to(still, z.shape), z == moved)
        held += np.count_nonzero(z == moved)
    assert held > 0
