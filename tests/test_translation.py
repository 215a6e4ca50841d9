"""The toy language pair: its rule word by word, its decoder rows, its seeds and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from refimpl.datasets.translation import translation
from refimpl.errors import BadInput


@pytest.mark.parametrize("order", ["swap", "reverse"])
@pytest.mark.parametrize("length", [1, 4, 5])
def test_every_word_is_translated_by_the_rule(order: Any, length: int) -> None:
    # kills: a mapping applied twice or the wrong way round, the odd word swapped with nothing
    pair = translation(0, count=5, length=length, words=6, order=order)
    assert sorted(pair.mapping.tolist()) == list(range(6))
    for source, target in zip(pair.source.tolist(), pair.target.tolist(), strict=True):
        expected = [pair.mapping[word] for word in source]
        if order == "reverse":
            expected = expected[::-1]
        else:
            for k in range(0, length - 1, 2):
                expected[k], expected[k + 1] = expected[k + 1], expected[k]
        assert target == expected
    assert np.array_equal(pair.translate(pair.source), pair.target)
    assert np.array_equal(pair.translate(pair.source[2]), pair.target[2])


def test_a_decoder_sees_the_target_one_position_late() -> None:
    pair = translation(1, count=4, length=3, words=5)
    assert pair.rows.shape == (4, 6)
    assert np.array_equal(pair.rows[:, :3], pair.source)
    assert np.all(pair.rows[:, 3] == 5)
    assert np.array_equal(pair.rows[:, 4:], pair.target[:, :2])


def test_sentences_are_all_different_and_can_be_all_there_are() -> None:
    pair = translation(2, count=27, length=3, words=3)
    assert len({tuple(s) for s in pair.source.tolist()}) == 27
    assert (pair.source.min(), pair.source.max()) == (0, 2)


def test_a_seed_is_a_generator_and_fixes_the_rule_before_the_sentences() -> None:
    few, many = (translation(3, count=count, length=4, words=7) for count in (2, 50))
    assert np.array_equal(few.mapping, many.mapping)
    again = translation(np.random.default_rng(3), count=50, length=4, words=7)
    assert np.array_equal(again.source, many.source)
    assert not np.array_equal(translation(4, count=50, length=4, words=7).source, many.source)


REFUSED: dict[str, Callable[[], Any]] = {
    "more sentences than there are": lambda: translation(0, count=9, length=3, words=2),
    "too many to number": lambda: translation(0, count=2, length=63, words=2),
    "no sentence": lambda: translation(0, count=0, length=3, words=2),
    "half a word": lambda: translation(0, count=1, length=1.5, words=2),  # type: ignore[arg-type]  # refused
    "another order": lambda: translation(0, count=1, length=2, words=2, order="sort"),  # type: ignore[arg-type]  # refused
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        REFUSED[name]()
    assert caught.value.measured is not None
    assert caught.value.required
    assert caught.value.advice
