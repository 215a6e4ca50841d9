"""``benchmarks.enumeration.t3`` with every mask visited, for harnesses that take one contender per module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import enumeration


def t3(problem: Any) -> Callable[[], Any]:
    """A problem with fields X, y, W, b, a, c, q, kind to a function that returns [loss, dW, db, da, dc]."""
    return enumeration.t3(problem, "split")
