"""Random gradient data, and what they say of their covariance (dropout-flatness, section 3.4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from refimpl.arrays.backend import Array
from refimpl.curvature.arguments import net_of, one_point, point, rows_of
from refimpl.curvature.last_layer import CELLS
from refimpl.curvature.noise import Draw, require_draw
from refimpl.errors import BadInput
from refimpl.masks import Dropout
from refimpl.objective import Objective
from refimpl.spaces import Estimate
from refimpl.spaces.space import generator

LEAST = 100  # pairs: with 10, normal intervals at 90 % cover less than half of the time


def gradient_data(
    f: Objective,
    w: Any,
    rng: np.random.Generator | int,
    *,
    samples: int,
    draw: Draw,
    lam: Any = None,
    layers: Sequence[int] | None = None,
) -> Array:
    """``samples`` independent gradients of f at w, (samples, P): drawn as :func:`.noise` says.

    rng: a generator or a seed; the data depend on it alone. Cost: one gradient each. Raises ``BadInput``, and
    ``HypothesisViolated`` at a kink (dropout-flatness, section 3.4.2).
    """
    parts = list(_gradients(f, w, generator(rng), samples, draw, lam, layers))
    return f.backend.concat(parts, axis=0)


def estimated_noise(
    f: Objective,
    w: Any,
    rng: np.random.Generator | int,
    *,
    samples: int,
    draw: Draw,
    lam: Any = None,
    layers: Sequence[int] | None = None,
    confidence: float = 0.99,
) -> Estimate:
    """The covariance of a random gradient from ``samples`` independent pairs, for spaces too large to visit.

    ½(g − g')(g − g')ᵀ has the covariance as its exact mean, whatever the mean gradient is: an estimate without bias,
    whose entries' intervals (normal, Bonferroni over the entries of the triangle) hold all at once. The confidence is
    that of many samples: what happens less often than once in ``samples`` draws (a unit dropped at a keep probability
    next to 1) is not seen, and fewer than 100 pairs are refused. Cost: two gradients a pair; the half-width falls as
    1/√samples.
    """
    if samples < LEAST or not 0 < confidence < 1:
        raise BadInput(
            "no confidence can be stated",
            measured=f"{samples} samples, confidence {confidence}",
            required=f"samples >= {LEAST}, 0 < confidence < 1",
            advice="the half-width falls as 1/sqrt(samples)",
        )
    rng, B = generator(rng), f.backend
    first, second = B.zeros(()), B.zeros(())
    for g in _gradients(f, w, rng, 2 * samples, draw, lam, layers):
        pairs = g.shape[0] // 2
        apart = g[:pairs, :] - g[pairs:, :]
        squares = apart * apart
        first, second = first + B.mT(apart) @ apart / 2, second + B.mT(squares) @ squares / 4
    mean = first / samples
    excess = second - samples * mean * mean
    spread = B.sqrt(B.where(excess > 0, excess, 0 * excess) / (samples - 1))
    entries = mean.shape[-1] * (mean.shape[-1] + 1) // 2
    quantile = NormalDist().inv_cdf(1 - (1 - confidence) / (2 * entries))
    return Estimate(mean, spread * (quantile / samples**0.5), confidence, samples)


def _gradients(
    f: Objective, w: Any, rng: np.random.Generator, samples: int, draw: Draw, lam: Any, layers: Any
) -> Iterator[Array]:
    """Chunks (even, P) of them, the last one shorter; a chunk of pairs is never cut."""
    require_draw(f, draw)
    lam, w = point(f, lam, w, sampled=True)
    one_point(f, lam, w)
    if samples < 1:
        raise BadInput("no gradients", measured=samples, required=">= 1", advice="samples=1000")
    rows = slice(None) if layers is None else rows_of(net_of(f), layers)[1]
    length = 2 * max(1, CELLS // (2 * max(f.d, _held(f))))
    for start in range(0, samples, length):
        count = min(length, samples - start)
        found = _drawn(f, rng, count, draw).grad_w(lam, w)
        if found.ndim == 1:  # no mask is random
            found = f.backend.broadcast(found, (count, f.d))
        yield found[..., rows]


def _held(f: Objective) -> int:
    """Numbers that one gradient of a batch needs, roughly: units times samples."""
    inner = f.f if isinstance(f, Dropout) else f
    return inner.units * inner.space.size


def _drawn(f: Objective, rng: np.random.Generator, count: int, draw: Draw) -> Objective:
    """f under ``count`` draws, on a leading axis."""
    if draw == "one sample":
        return f.at(f.space.sample(rng, (count,)))
    assert isinstance(f, Dropout)  # require_draw refuses everything else
    if draw == "shared mask":
        return f.masked(f.masks.sample(rng, (count,)))
    return f.masked_each(f.masks.sample(rng, (count, f.f.space.size)))
