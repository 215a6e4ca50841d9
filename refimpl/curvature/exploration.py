"""When a run has stopped descending and only moves about, so that samples of it describe one place: a measured rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.errors import BadInput


@dataclass(frozen=True, eq=False)
class Exploration:
    """``first``: where the first stationary window starts, or None. Of each window tried, from ``starts`` (K,):

    differences: the mean of its second half minus that of its first, (K,); errors: what noise like that of the second
    half makes of that difference (one standard error), (K,). A drift of less than z · errors in half a window goes
    unseen. ``later``: the share of stationary windows from ``first`` on; far below 1 it says that the run moved on,
    and first was a plateau.
    """

    first: int | None
    later: float
    window: int
    z: float
    starts: np.ndarray
    differences: np.ndarray
    errors: np.ndarray


def stationary_from(losses: Any, window: int, *, batches: int = 8, z: float = 3.0) -> Exploration:
    """The first window of losses (steps,) whose two halves have the same mean to within z standard errors.

    A half is cut into m = ``batches`` runs of equal length, and s² is the sample variance of the runs' means: s²/m is
    the squared standard error of the half's mean, right for correlated losses too where a run is longer than the
    correlation (batch means). The second half's s gives that of the difference, √(2/m) s: a descent that ends in the
    first half must not excuse itself by the spread it makes. Windows start at every multiple of a run's length.

    A straight descent has a difference of m √(6/(m + 1)) of its standard errors, which z must stay below. Stationary
    independent normal losses fail with the probability P(|t| > z) of Student's t with m − 1 degrees of freedom: 2 % by
    default. Raises ``BadInput``. Cost: the number of steps.

    >>> stationary_from([4.0, 3.0, 2.0, 1.0] + 12 * [0.0], 8, batches=4).first
    4
    """
    x = np.asarray(losses, dtype=np.float64)
    _require(x, window, batches, z)
    run = window // (2 * batches)
    means = x[: x.size // run * run].reshape(-1, run).mean(axis=1)
    halves = np.lib.stride_tricks.sliding_window_view(means, 2 * batches).reshape(-1, 2, batches)
    differences = halves[:, 1].mean(axis=-1) - halves[:, 0].mean(axis=-1)
    errors = np.sqrt(2 * halves[:, 1].var(axis=-1, ddof=1) / batches)
    still = np.abs(differences) <= z * errors
    first = int(np.argmax(still)) if still.any() else None
    return Exploration(
        None if first is None else first * run,
        0.0 if first is None else float(still[first:].mean()),
        window,
        z,
        run * np.arange(still.size),
        differences,
        errors,
    )


def _require(losses: np.ndarray, window: int, batches: int, z: float) -> None:
    if losses.ndim != 1 or not np.all(np.isfinite(losses)) or losses.size < window:
        raise BadInput(
            "no window of these losses can be judged",
            measured=f"shape {losses.shape}, {np.count_nonzero(~np.isfinite(losses))} not finite",
            required=f"(steps,) with steps >= the window's {window}, all finite",
            advice="record the loss at every step; a run that diverged explores nothing",
        )
    if batches < 2 or window < 2 * batches or window % (2 * batches):
        raise BadInput(
            "the window does not fall into runs of equal length",
            measured=f"window {window}, {batches} batches in each half",
            required="a multiple of 2 · batches, batches >= 2",
            advice="take a window of 2 · batches · (a few correlation lengths)",
        )
    if not 0 < z < batches * (6 / (batches + 1)) ** 0.5:
        raise BadInput(
            "with this z a straight descent would be stationary",
            measured=z,
            required=f"0 < z < {batches * (6 / (batches + 1)) ** 0.5:.3g} for {batches} batches",
            advice="take more batches, or a smaller z",
        )
