"""N-way K-shot episodes over any (X, y): classes multiplied by rotations, split into sets, drawn with the rng given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import isqrt
from numbers import Integral
from typing import Any

import numpy as np

from refimpl.datasets.dataset import Dataset
from refimpl.errors import BadInput


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class Episode:
    """Support X (..., ways·shots, features), y (..., ways·shots); query likewise with ways·queries samples.

    Labels 0 … ways-1 in this order, all samples of one before the next; leading axes are tasks. No sample is in both.
    """

    support_X: np.ndarray
    support_y: np.ndarray
    query_X: np.ndarray
    query_y: np.ndarray


@dataclass(frozen=True, eq=False)
class EpisodeSampler:
    """Draws episodes from the samples X (N, features), y (N,) of the classes listed; by default of all.

    Raises BadInput when X and y do not fit together, or a class is listed twice or has no sample.

    >>> sampler = EpisodeSampler(np.arange(12.0)[:, None], np.arange(12) % 3)
    >>> episode = sampler.episode(np.random.default_rng(0), ways=2, shots=1, queries=3)
    >>> episode.support_X.shape, episode.query_y.tolist()
    ((2, 1), [0, 0, 0, 1, 1, 1])
    """

    X: np.ndarray
    y: np.ndarray
    classes: Sequence[int] | np.ndarray | None = None

    def __post_init__(self) -> None:
        X, y = np.asarray(self.X), np.asarray(self.y)
        if X.ndim != 2 or y.shape != X.shape[:1] or y.size == 0 or y.dtype.kind not in "iu":
            raise BadInput(
                "X and y are no labelled samples",
                measured=f"X {X.shape}, y {y.shape} of {y.dtype}",
                required="X (N, features) and integers y (N,), N >= 1",
                advice="one row per sample; class indices, not one-hot rows",
            )
        classes = np.unique(y) if self.classes is None else np.asarray(self.classes)
        if classes.ndim != 1 or classes.size == 0 or len(np.unique(classes)) != classes.size:
            raise BadInput(
                "the classes are no set",
                measured=classes.tolist(),
                required="at least one class, none twice",
                advice="pass one of the arrays that split_classes returns",
            )
        for field, value in {"X": X, "y": y, "classes": classes}.items():
            object.__setattr__(self, field, value)
        if empty := [int(c) for c, own in zip(classes, self._members, strict=True) if not own.size]:
            raise BadInput(
                "a class has no sample",
                measured=f"classes {empty}",
                required="classes that occur in y",
                advice="do the classes count the rotations too? rotate the data set first",
            )

    @cached_property
    def _members(self) -> tuple[np.ndarray, ...]:
        """Of each class, the indices of its samples."""
        return tuple(np.flatnonzero(self.y == c) for c in np.asarray(self.classes))

    def episode(self, rng: np.random.Generator | int, *, ways: int, shots: int, queries: int) -> Episode:
        """One episode: ways classes, then shots + queries samples of each, all without replacement.

        rng: a generator, or a seed.
        Raises BadInput when there are fewer classes, or any class of the sampler has fewer samples.
        """
        return self._gather(self._draw(np.random.default_rng(rng), ways, shots, queries), shots)

    def batch(
        self, rng: np.random.Generator | int, tasks: int, *, ways: int, shots: int, queries: int
    ) -> Episode:
        """``tasks`` independent episodes, one after the other from ``rng``, stacked along a leading axis."""
        _require_positive(tasks=tasks)
        rng = np.random.default_rng(rng)
        drawn = [self._draw(rng, ways, shots, queries) for _ in range(tasks)]
        return self._gather(np.stack(drawn), shots)

    def _draw(self, rng: np.random.Generator, ways: int, shots: int, queries: int) -> np.ndarray:
        """Indices (ways, shots + queries) of the samples."""
        _require_positive(ways=ways, shots=shots, queries=queries)
        sizes = [own.size for own in self._members]
        if ways > len(sizes):
            raise BadInput(
                "too few classes",
                measured=f"{len(sizes)} classes for {ways} ways",
                required=f"at least {ways}",
                advice="ask for fewer ways, or multiply the classes by rotations",
            )
        if min(sizes) < shots + queries:
            smallest = int(np.argmin(sizes))
            raise BadInput(
                "too few samples of a class",
                measured=f"{sizes[smallest]} samples of class {np.asarray(self.classes)[smallest]}",
                required=f"{shots} shots + {queries} queries = {shots + queries}",
                advice="ask for fewer, or leave the small classes out",
            )
        chosen = rng.choice(len(sizes), size=ways, replace=False)
        return np.stack([rng.choice(self._members[c], size=shots + queries, replace=False) for c in chosen])

    def _gather(self, index: np.ndarray, shots: int) -> Episode:
        parts: list[Any] = []
        for part in (index[..., :shots], index[..., shots:]):
            lead, (ways, count) = part.shape[:-2], part.shape[-2:]
            labels = np.repeat(np.arange(ways), count)
            parts += [
                self.X[part.reshape(*lead, ways * count)],
                np.broadcast_to(labels, (*lead, labels.size)).copy(),
            ]
        return Episode(*parts)


def rotate_classes(data: Dataset, *, channels: int = 1) -> Dataset:
    """Four times the classes: class c turned by 90°·r counter-clockwise is class c + r·classes, r = 0 … 3.

    X (4N, features), the unturned samples first; images are square, plane by plane for several channels. A turn
    is a class of its own even where it looks the same (a 0); ``split_classes(copies=4)`` keeps the turns together.
    Raises BadInput when the images are not square, or are single pixels.
    """
    features = data.X.shape[1]
    side = isqrt(features // channels) if isinstance(channels, Integral) and channels >= 1 else 0
    if side < 2 or channels * side**2 != features:
        raise BadInput(
            "the images are not square, or have nothing to turn",
            measured=f"{features} features in {channels} channels",
            required="channels · side² features, side >= 2",
            advice="pass the number of channels; crop images that are not square first",
        )
    images = data.X.reshape(-1, channels, side, side)
    turned = [np.rot90(images, r, axes=(2, 3)).reshape(data.X.shape) for r in range(4)]
    labels = [data.y + r * data.classes for r in range(4)]
    return Dataset(np.concatenate(turned), np.concatenate(labels), 4 * data.classes, f"{data.name}, rotated")


def split_classes(
    classes: int, sizes: Sequence[int], rng: np.random.Generator | int, *, copies: int = 1
) -> tuple[np.ndarray, ...]:
    """Disjoint random sets of the classes 0 … classes-1, one of each size (training, validation, test), sorted.

    copies = 4 after ``rotate_classes``: the turns of one class stay together, so that no test image is a training image
    turned; sizes then count classes with their turns and are multiples of 4. rng: a generator, or a seed.
    Raises BadInput when they do not fit.

    >>> [s.size for s in split_classes(40, (24, 8, 8), np.random.default_rng(0), copies=4)]
    [24, 8, 8]
    """
    whole = all(isinstance(k, Integral) for k in (classes, copies, *sizes))
    fits = whole and classes >= 1 and copies >= 1 and classes % copies == 0
    if not fits or any(size < 0 or size % copies for size in sizes) or sum(sizes) > classes:
        raise BadInput(
            "the sets do not fit the classes",
            measured=f"sizes {list(sizes)} of {classes} classes in {copies} copies",
            required="whole sizes >= 0 that add up to at most the classes, all multiples of copies",
            advice="digits with rotations: classes=40, sizes=(24, 8, 8), copies=4",
        )
    base, rng = classes // copies, np.random.default_rng(rng)
    order = rng.permutation(base)
    ends = np.cumsum([0, *(size // copies for size in sizes)])
    sets = [order[start:stop] for start, stop in pairwise(ends)]
    return tuple(np.sort((own[None, :] + base * np.arange(copies)[:, None]).ravel()) for own in sets)


def _require_positive(**counts: int) -> None:
    wrong = {name: n for name, n in counts.items() if not isinstance(n, Integral) or n < 1}
    if wrong:
        raise BadInput(
            "an episode needs at least one of each",
            measured=", ".join(f"{name} = {count}" for name, count in wrong.items()),
            required="whole numbers >= 1",
            advice="ways classes, shots and queries samples of each of them",
        )
