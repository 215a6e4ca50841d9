"""Paired differences over seeds, their confidence intervals, and the three outcomes that these allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from verification.model import Measurement

POWER = 0.8  # the smallest effect that a budget would have seen is one whose interval leaves 0 out this often


@dataclass(frozen=True)
class Interval:
    """Mean and half-width of Student's interval, and the smallest effect that it would have seen."""

    mean: float
    half: float
    seen: float

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half


def interval(differences: np.ndarray, confidence: float, comparisons: int = 1) -> Interval:
    """Of the mean of independent differences (seeds,), two-sided, at 1 − (1 − confidence)/comparisons.

    With se the standard error, half = t·se and seen = (t + t_power)·se.
    """
    from scipy.stats import t

    count = len(differences)
    se = float(np.std(differences, ddof=1)) / count**0.5
    tail = (1 - confidence) / (2 * comparisons)
    quantile, power = float(t.ppf(1 - tail, count - 1)), float(t.ppf(POWER, count - 1))
    return Interval(float(np.mean(differences)), quantile * se, (quantile + power) * se)


def some(intervals: Mapping[str, Interval], **detail: Any) -> Measurement:
    """*Reproduces*: one of the effects has its whole interval above 0, half-width < mean."""
    best = max(intervals.values(), key=lambda found: found.low)
    return _shown(_positive(best.half), best.mean, intervals, detail)


def every(intervals: Mapping[str, Interval], **detail: Any) -> Measurement:
    """*Reproduces*: all of the effects have their whole intervals above 0."""
    worst = min(intervals.values(), key=lambda found: found.low)
    return _shown(_positive(worst.half), worst.mean, intervals, detail)


def none_matters(intervals: Mapping[str, Interval], smallest: float, **detail: Any) -> Measurement:
    """*Does not reproduce*: the whole interval of each effect is below the smallest effect of interest."""
    largest = max(intervals.values(), key=lambda found: found.high)
    return _shown(largest.high, smallest, intervals, detail)


def one_does_not_matter(
    intervals: Mapping[str, Interval], smallest: Mapping[str, float], **detail: Any
) -> Measurement:
    """*Does not reproduce*, where all effects are claimed: one of them lies below its smallest effect of interest."""
    name = min(intervals, key=lambda name: intervals[name].high - smallest[name])
    return _shown(intervals[name].high, smallest[name], intervals, detail)


def _positive(half: float) -> float:
    """A measurement allows equality: an interval that is the point 0 must not count as above it."""
    return max(half, float(np.finfo(float).tiny))


def _shown(
    observed: float, bound: float, intervals: Mapping[str, Interval], detail: Mapping[str, Any]
) -> Measurement:
    shown = {name: f"{found.mean:+.4f} ± {found.half:.4f}" for name, found in intervals.items()}
    least = max(found.seen for found in intervals.values())
    return Measurement(observed=observed, bound=bound, detail={**shown, "smallest effect": least, **detail})
