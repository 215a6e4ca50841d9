"""Episodes: the right samples under the right labels, disjoint sets, nothing drawn but from the rng given."""

from __future__ import annotations

import numpy as np
import pytest

from refimpl.datasets import Dataset, EpisodeSampler, load_digits, rotate_classes, split_classes
from refimpl.errors import BadInput

WAYS, SHOTS, QUERIES, TASKS = 3, 2, 4, 5  # pairwise different
CLASSES, EACH = 7, 9


def samples():
    """Sample i of class c has the features (100 c + i, −c), in shuffled order: X says what it is."""
    order = np.random.default_rng(0).permutation(CLASSES * EACH)
    c, i = order // EACH, order % EACH
    return np.column_stack([100.0 * c + i, -1.0 * c]), c


def sampler(classes=None):
    return EpisodeSampler(*samples(), classes)


def drawn(tasks=None, seed=1, **options):
    own = {"ways": WAYS, "shots": SHOTS, "queries": QUERIES} | options
    rng = np.random.default_rng(seed)
    return sampler().episode(rng, **own) if tasks is None else sampler().batch(rng, tasks, **own)


def test_an_episode_has_its_shape():
    episode = drawn()
    assert episode.support_X.shape == (WAYS * SHOTS, 2)
    assert episode.query_X.shape == (WAYS * QUERIES, 2)
    assert episode.support_y.tolist() == [0, 0, 1, 1, 2, 2]
    assert episode.query_y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert episode.support_y.dtype == episode.query_y.dtype == np.int64


@pytest.mark.parametrize("seed", range(20))
def test_a_label_is_one_class_and_no_sample_comes_twice(seed):
    # kills: replacement, a query that is a support sample, labels of another order than the samples
    episode = drawn(seed=seed)
    X = np.concatenate([episode.support_X, episode.query_X])
    y = np.concatenate([episode.support_y, episode.query_y])
    meant = {label: set((-X[y == label, 1]).tolist()) for label in range(WAYS)}
    assert all(len(classes) == 1 for classes in meant.values())
    assert len(set.union(*meant.values())) == WAYS
    assert len(set(X[:, 0].tolist())) == WAYS * (SHOTS + QUERIES)


def test_every_class_and_sample_is_drawn_in_every_role():
    """2000 episodes; a class gets label l with probability 1/7: 5 standard deviations of the count around the mean."""
    rng, own = np.random.default_rng(3), sampler()
    counts, seen = np.zeros((WAYS, CLASSES)), {"support": set(), "query": set()}
    for _ in range(2000):
        episode = own.episode(rng, ways=WAYS, shots=SHOTS, queries=QUERIES)
        counts[np.arange(WAYS), (-episode.support_X[::SHOTS, 1]).astype(int)] += 1
        seen["support"] |= set(episode.support_X[:, 0].tolist())
        seen["query"] |= set(episode.query_X[:, 0].tolist())
    assert np.all(abs(counts - 2000 / CLASSES) < 5 * np.sqrt(2000 * (1 / CLASSES) * (1 - 1 / CLASSES)))
    assert len(seen["support"]) == len(seen["query"]) == CLASSES * EACH


def test_only_the_classes_given_are_drawn():
    rng = np.random.default_rng(4)
    batch = sampler([6, 1, 3]).batch(rng, 30, ways=2, shots=1, queries=1)
    assert set((-batch.support_X[..., 1]).ravel().tolist()) == {1.0, 3.0, 6.0}


def test_a_batch_is_its_episodes_stacked():
    # kills: one set of classes for the whole batch, the tasks' axis behind the samples'
    batch, rng = drawn(TASKS), np.random.default_rng(1)
    one_by_one = [sampler().episode(rng, ways=WAYS, shots=SHOTS, queries=QUERIES) for _ in range(TASKS)]
    assert batch.support_X.shape == (TASKS, WAYS * SHOTS, 2)
    assert batch.query_y.shape == (TASKS, WAYS * QUERIES)
    for name, stacked in vars(batch).items():
        np.testing.assert_array_equal(stacked, np.stack([getattr(e, name) for e in one_by_one]))
    assert len({tuple(x) for x in batch.support_X[..., 1].tolist()}) > 1


def test_nothing_is_drawn_but_from_the_generator():
    for name in ("support_X", "query_X"):
        np.testing.assert_array_equal(getattr(drawn(TASKS), name), getattr(drawn(TASKS), name))
    assert not np.array_equal(drawn(TASKS).query_X, drawn(TASKS, seed=2).query_X)


def test_a_seed_is_a_generator():
    own, numbers = sampler(), {"ways": WAYS, "shots": SHOTS, "queries": QUERIES}
    assert np.array_equal(own.episode(5, **numbers).query_X, drawn(seed=5).query_X)
    tasks = own.batch(5, 3, **numbers).query_X
    assert np.array_equal(tasks, drawn(3, seed=5).query_X)
    assert not np.array_equal(tasks[0], tasks[1])  # one stream for the batch
    for seeded, made in zip(
        split_classes(40, (24, 8), 5), split_classes(40, (24, 8), np.random.default_rng(5)), strict=True
    ):
        assert np.array_equal(seeded, made)


def test_episodes_own_their_memory():
    own, rng = sampler(), np.random.default_rng(5)
    before = own.X.copy()
    batch = own.batch(rng, 2, ways=2, shots=1, queries=1)
    for array in vars(batch).values():
        array[...] = -7
    np.testing.assert_array_equal(own.X, before)


# -- rotations -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("channels", [1, 2])
def test_rotations_turn_pixels_and_shift_classes(channels):
    # kills: a transpose or a flip for a turn, clockwise, turned across channels, classes interleaved
    rng, count, side = np.random.default_rng(6), 5, 3
    data = Dataset(rng.random((count, channels * side**2)), np.array([0, 1, 1, 0, 1]), 2, "small")
    turned = rotate_classes(data, channels=channels)
    assert (turned.X.shape, turned.classes, turned.name) == ((4 * count, channels * 9), 8, "small, rotated")
    assert turned.y.tolist() == [c + 2 * r for r in range(4) for c in data.y.tolist()]
    images = data.X.reshape(count, channels, side, side)
    for r in range(4):
        got = turned.X[r * count : (r + 1) * count].reshape(images.shape)
        for i, j in np.ndindex(side, side):
            k, m = i, j
            for _ in range(r):
                k, m = side - 1 - m, k  # the pixel of row k, column m moves here, counter-clockwise
            np.testing.assert_array_equal(got[..., k, m], images[..., i, j])


def test_digits_have_forty_classes():
    data = rotate_classes(load_digits())
    assert (data.X.shape, data.classes) == ((4 * 1797, 64), 40)
    assert np.bincount(data.y).min() == 174  # the fewest of any digit, an 8
    sets = split_classes(40, (24, 8, 8), np.random.default_rng(0), copies=4)
    batch = EpisodeSampler(data.X, data.y, sets[0]).batch(
        np.random.default_rng(1), 4, ways=5, shots=1, queries=10
    )
    assert batch.support_X.shape == (4, 5, 64)
    assert batch.query_X.shape == (4, 50, 64)


# -- sets of classes -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("copies", [1, 4])
def test_sets_are_disjoint_and_keep_turns_together(copies):
    sets = split_classes(40, (24, 8, 4), np.random.default_rng(7), copies=copies)
    assert [s.size for s in sets] == [24, 8, 4]
    together = np.concatenate(sets)
    assert len(set(together.tolist())) == 36
    assert 0 <= together.min()
    assert together.max() < 40
    assert all((np.diff(s) > 0).all() for s in sets)
    if copies == 4:
        kinds = [set((s % 10).tolist()) for s in sets]
        assert [len(k) for k in kinds] == [6, 2, 1]
        assert not kinds[0] & kinds[1]
        assert not (kinds[0] | kinds[1]) & kinds[2]
    other = split_classes(40, (24, 8, 4), np.random.default_rng(8), copies=copies)
    assert not np.array_equal(sets[0], other[0])


# -- bad input -----------------------------------------------------------------------------------------------
def _small(features):
    return Dataset(np.zeros((2, features)), np.array([0, 1]), 2, "small")


X, Y = samples()
BAD = {
    # name: (call, what the message measures)
    "too few samples": (lambda: drawn(shots=5, queries=5), "9 samples of class 0"),
    "too few classes": (lambda: drawn(ways=8), "7 classes for 8 ways"),
    "no way": (lambda: drawn(ways=0), "ways = 0"),
    "no shot, no query": (lambda: drawn(shots=0, queries=-1), "shots = 0, queries = -1"),
    "ways that are no integer": (lambda: drawn(ways=2.0), "ways = 2.0"),
    "a shot and a half": (lambda: drawn(shots=1.5), "shots = 1.5"),
    "half a task": (lambda: drawn(0.5), "tasks = 0.5"),
    "one pixel": (lambda: rotate_classes(_small(1)), "1 features"),
    "one pixel per channel": (lambda: rotate_classes(_small(3), channels=3), "3 channels"),
    "channels that are no integer": (lambda: rotate_classes(_small(4), channels=1.0), "1.0 channels"),
    "half a class": (lambda: split_classes(40, (2.5,), 0), "[2.5]"),
    "no task": (lambda: drawn(0), "tasks = 0"),
    "not square": (lambda: rotate_classes(_small(8)), "8 features"),
    "square in all, not by channel": (lambda: rotate_classes(_small(9), channels=3), "3 channels"),
    "no channel": (lambda: rotate_classes(_small(9), channels=0), "0 channels"),
    "no feature": (lambda: rotate_classes(_small(0)), "0 features"),
    "one label too few": (lambda: EpisodeSampler(X, Y[1:]), "(62,)"),
    "labels in rows": (lambda: EpisodeSampler(X, np.eye(CLASSES)[Y]), "(63, 7)"),
    "float labels": (lambda: EpisodeSampler(X, Y * 1.0), "float64"),
    "no samples": (lambda: EpisodeSampler(X[:0], Y[:0]), "(0, 2)"),
    "images": (lambda: EpisodeSampler(X[:, :, None], Y), "(63, 2, 1)"),
    "a class twice": (lambda: sampler([1, 2, 1]), "[1, 2, 1]"),
    "no class": (lambda: sampler([]), "[]"),
    "an absent class": (lambda: sampler([1, 7]), "[7]"),
    "sets too large": (lambda: split_classes(40, (36, 8), np.random.default_rng(0)), "[36, 8]"),
    "turns torn apart": (lambda: split_classes(40, (6, 4), np.random.default_rng(0), copies=4), "[6, 4]"),
    "a negative set": (lambda: split_classes(40, (-4, 4), np.random.default_rng(0)), "[-4, 4]"),
    "copies that do not divide": (lambda: split_classes(10, (4,), np.random.default_rng(0), copies=4), "10 classes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_with_advice(name):
    call, measured = BAD[name]
    with pytest.raises(BadInput) as caught:
        call()
    assert measured in str(caught.value.measured)
    assert caught.value.required
    assert caught.value.advice
