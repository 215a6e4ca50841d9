"""A toy language pair with a stated rule: sentences to translate by networks from sequences to sequences."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import numpy as np

from refimpl.errors import BadInput

MOST = 2**62  # sentences that are numbered by 64-bit integers

Order = Literal["swap", "reverse"]


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class Translation:
    """Sentences ``source`` (N, length) and their translations ``target`` (N, length), integers 0 … words − 1.

    Each word has one translation, ``mapping`` (words,), a permutation; word order changes by ``order``: "swap"
    exchanges positions 2k and 2k + 1 (the last of an odd number stays), "reverse" turns the sentence round. A target
    word depends on one source word alone. No sentence occurs twice: any split into train and test is disjoint.
    """

    source: np.ndarray
    target: np.ndarray
    words: int
    mapping: np.ndarray
    order: Order

    @property
    def rows(self) -> np.ndarray:
        """(N, 2 length): the source, then what a decoder sees, the target shifted by one behind the token ``words``."""
        begin = np.full((len(self.source), 1), self.words)
        return np.concatenate([self.source, begin, self.target[:, :-1]], axis=1)

    def translate(self, sentences: Any) -> np.ndarray:
        """Sentences (..., length) by the rule."""
        return self.mapping[np.asarray(sentences)[..., _places(self.source.shape[1], self.order)]]


def translation(
    rng: np.random.Generator | int, *, count: int, length: int, words: int, order: Order = "swap"
) -> Translation:
    """``count`` different sentences of ``length`` words and their translations; the mapping is drawn first.

    rng: a generator, or a seed. Raises ``BadInput`` where there are fewer than ``count`` sentences.

    >>> pair = translation(0, count=3, length=4, words=5)
    >>> bool((pair.target[:, 0] == pair.mapping[pair.source[:, 1]]).all()), pair.rows.shape
    (True, (3, 8))
    """
    _check(count, length, words, order)
    rng = np.random.default_rng(rng)
    mapping = rng.permutation(words)
    numbers = rng.choice(words**length, size=count, replace=False)
    source = (numbers[:, None] // words ** np.arange(length)) % words
    target = mapping[source[:, _places(length, order)]]
    return Translation(source, target, words, mapping, order)


def _places(length: int, order: Order) -> np.ndarray:
    """The position in the source of each position in the target."""
    places = np.arange(length)
    if order == "reverse":
        return places[::-1]
    paired = length - length % 2
    places[:paired] ^= 1
    return places


def _check(count: int, length: int, words: int, order: str) -> None:
    if order not in ("swap", "reverse"):
        raise BadInput(
            "no word order of that name",
            measured=order,
            required="swap, reverse",
            advice="pick one of the names above",
        )
    sizes = (count, length, words)
    if not all(isinstance(k, Integral) and k >= 1 for k in sizes) or not count <= words**length <= MOST:
        raise BadInput(
            "there are not so many different sentences",
            measured=f"{count} sentences of {length} out of {words} words",
            required=f"whole numbers >= 1, count <= words^length <= {MOST}",
            advice="ask for fewer sentences, or more words",
        )
