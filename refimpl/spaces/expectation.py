"""Expectations over a finite space: exact by enumeration, or estimated with a stated confidence."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, TooLarge
from refimpl.spaces.space import Space, generator

CHUNK = 64  # points per call of f: large enough to vectorise, small enough to stay in the cache
DIGITS = 10**5  # of a size whose points are not even sampled to tell what they cost
CLOCK = 1e-9  # s: no clock tells less


def expect(
    space: Space,
    f: Callable[[Any], Array],
    backend: Backend | None = None,
    *,
    executor: Executor | None = None,
    max_points: int = 2**22,
    chunk: int = CHUNK,
) -> Array:
    """Σ_k p_k f(s_k), exactly: f maps a chunk of points to an array with that leading axis.

    Chunks and the order of the compensated sum are fixed, so the result is bitwise the same for every
    executor and number of workers. Cost: one evaluation of f per point. Raises ``TooLarge``, after that of a
    single point, which tells what all would cost.
    """
    return _over(_Weighted(f, space, backend or Backend()), executor, max_points, chunk)


def _over(one_chunk: _Weighted, executor: Executor | None, max_points: int, chunk: int) -> Array:
    """The sum over all chunks of a space."""
    space = one_chunk.space
    if chunk < 1:
        raise BadInput("no points in a chunk", measured=chunk, required=">= 1", advice="leave chunk out")
    if not space.at_most(max_points):
        raise _too_large(space, one_chunk.f, max_points, chunk)
    parts = (executor.map if executor else map)(one_chunk, _chunks(space, chunk))
    total, lost = _sum((values for values, _ in _watched(parts, space, chunk)), one_chunk.backend)
    return total + lost


def _chunks(space: Space, length: int) -> Iterator[np.ndarray]:
    for start in range(0, space.size, length):
        yield np.arange(start, min(start + length, space.size))


def _sum(parts: Iterator[Array], backend: Backend) -> tuple[Array, Array]:
    """The sum in order, and what rounding took from it; exact numbers and balls need no compensation."""
    total = next(parts)
    error = 0 * total
    plain = backend.exact or not backend.ordered
    for part in parts:
        new = total + part
        if not plain:  # Knuth's two-sum: total + part = new + lost exactly
            virtual = new - total
            error = error + ((total - (new - virtual)) + (part - virtual))
        total = new
    return total, error


def _watched(parts: Iterator[tuple[Array, float]], space: Space, chunk: int) -> Iterator[tuple[Array, float]]:
    """The parts as they come; at the end their probabilities must sum to 1, to the rounding of each of them.

    A probability carries at most 2 eps for each factor of at least two points, a chunk's sum one eps per term.
    """
    seen: list[float] = []
    for part in parts:
        seen.append(part[1])
        yield part
    allowed = (chunk + 4 * space.size.bit_length()) * 2.0**-52
    if not abs(math.fsum(seen) - 1) <= allowed:
        raise BadInput(
            "the probabilities of a space do not sum to 1",
            measured=f"{math.fsum(seen)!r}",
            required=f"1 to within {allowed:.1e}",
            advice=f"look at {type(space).__name__}.probabilities and size",
        )


def _too_large(space: Space, f: Callable[[Any], Array], max_points: int, chunk: int) -> TooLarge:
    """The error, with what one point (any: it only tells the cost) says about the time and memory of all.

    A point has at least log₂ size bits: from ``DIGITS`` digits of the size on not even one is looked at.
    """
    cost = ""
    if space.log10_size < DIGITS:
        begun = time.perf_counter()
        values = f(space.sample(np.random.default_rng(0), (1,)))
        log_seconds = math.log10(max(time.perf_counter() - begun, CLOCK)) + space.log10_size
        held = math.prod(getattr(values, "shape", ())) * chunk * 8 / 2**20
        cost = (
            f", of which {chunk} at a time would be held in {held:.3g} MiB and all, one by one, take about "
            f"{_duration(log_seconds)}"
        )
    return TooLarge(
        "too many points to enumerate",
        measured=f"{space.how_many} points{cost}",
        required=f"<= max_points = {max_points}",
        advice="use a closed form (squared losses, quadratics, refimpl.networks.one_hidden), sample with a stated "
        "confidence (refimpl.spaces.estimate, refimpl.curvature.estimated_noise), or raise the limit (max_points; "
        "max_masks of with_dropout) and share the chunks among the workers of an executor (refimpl.spaces.expect)",
    )


def _duration(log_seconds: float) -> str:
    """In the largest unit of which there is at least one; counts of masks leave the range of floats."""
    for unit, length in (("years", 31557600.0), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if (log := log_seconds - math.log10(length)) >= 0:
            return f"{10**log:.3g} {unit}" if log < 6 else f"10^{log:.0f} {unit}"
    return f"{10**log_seconds:.3g} s"


@dataclass(frozen=True)
class _Weighted:
    """Picklable ``numbers of a chunk -> Σ p f, Σ p``, so that process pools can be executors."""

    f: Callable[[Any], Array]
    space: Space
    backend: Backend

    def __call__(self, index: np.ndarray) -> tuple[Array, float]:
        B, values = self.backend, self.f(self.space.points(index))
        shape = tuple(getattr(values, "shape", ()))
        if not shape or shape[0] != index.size:
            raise BadInput(
                "f must return one value per point",
                measured=f"{type(values).__name__} of shape {shape} for {index.size} points",
                required=f"({index.size}, ...)",
                advice="broadcast a value that does not depend on the point; points come first of all axes",
            )
        weights: Any
        if B.exact or not B.ordered:
            exact = self.space.exact_probabilities(index)
            weights, total = [B.scalar(p) for p in exact], float(sum(exact))
        else:
            weights = self.space.probabilities(index)
            total = math.fsum(weights)
        p = B.reshape(B.asarray(weights), (-1, *(1,) * (values.ndim - 1)))
        return self.reduce(p, values), total

    def reduce(self, p: Array, values: Array) -> Array:
        """What one chunk adds: values (points, ...), p (points, 1 …)."""
        return self.backend.sum(p * values, axis=0)


def covariance(
    space: Space, f: Callable[[Any], Array], backend: Backend | None = None, **options: Any
) -> Array:
    """E (f - Ef)(f - Ef)ᵀ for f with values (..., d): two exact passes, (..., d, d)."""
    return second_moment(space, _Deviation(f, expect(space, f, backend, **options)), backend, **options)


def second_moment(
    space: Space,
    f: Callable[[Any], Array],
    backend: Backend | None = None,
    *,
    executor: Executor | None = None,
    max_points: int = 2**22,
    chunk: int = CHUNK,
) -> Array:
    """E f fᵀ for f with values (..., d), (..., d, d): as :func:`expect`, one matrix product for each chunk."""
    backend = backend or Backend()
    return _over(_Squares(f, space, backend), executor, max_points, chunk)


@dataclass(frozen=True, eq=False)
class _Deviation:
    """Picklable ``points -> f − mean``."""

    f: Callable[[Any], Array]
    mean: Array

    def __call__(self, points: Any) -> Array:
        return self.f(points) - self.mean


@dataclass(frozen=True)
class _Squares(_Weighted):
    """``numbers of a chunk -> Σ p f fᵀ, Σ p``."""

    def reduce(self, p: Array, values: Array) -> Array:
        B = self.backend
        if values.ndim < 2:
            raise BadInput(
                "a covariance is one of vectors",
                measured=f"values of shape {tuple(values.shape)}",
                required="(points, ..., d)",
                advice="for the variance of a number return it with a last axis of length 1: values[:, None]",
            )
        columns = B.moveaxis(values, 0, -1)  # (..., d, points)
        return columns @ B.mT(B.moveaxis(p * values, 0, -1))


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class Estimate:
    """A sample mean: every entry is within ``half_width`` of the truth, all at once, with that confidence.

    The intervals are normal approximations, Bonferroni-corrected for the number of entries.
    """

    value: Array
    half_width: Array
    confidence: float
    samples: int


def estimate(
    space: Space,
    f: Callable[[Any], Array],
    rng: np.random.Generator | int,
    *,
    samples: int,
    confidence: float = 0.99,
    backend: Backend | None = None,
    chunk: int = CHUNK,
) -> Estimate:
    """E f from independent points, for spaces too large to enumerate: kind *estimated*, confidence stated.

    >>> from refimpl.spaces import Indices
    >>> found = estimate(Indices(10), lambda k: 1.0 * k, np.random.default_rng(0), samples=1000)
    >>> bool(abs(found.value - 4.5) <= found.half_width)
    True
    """
    backend, rng = backend or Backend(), generator(rng)
    if samples < 2 or not 0 < confidence < 1:
        raise BadInput(
            "no confidence can be stated",
            measured=f"{samples} samples, confidence {confidence}",
            required="samples >= 2, 0 < confidence < 1",
            advice="the half-width falls as 1/sqrt(samples)",
        )
    sizes = [min(chunk, samples - k) for k in range(0, samples, chunk)]
    values = backend.concat([f(space.sample(rng, (k,))) for k in sizes], axis=0)
    mean = backend.mean(values, axis=0)
    deviation = values - mean
    spread = backend.sqrt(backend.sum(deviation * deviation, axis=0) / (samples - 1))
    entries = max(to_numpy(mean).size, 1)
    quantile = NormalDist().inv_cdf(1 - (1 - confidence) / (2 * entries))
    return Estimate(mean, spread * (quantile / samples**0.5), confidence, samples)
