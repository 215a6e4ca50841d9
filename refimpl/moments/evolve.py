"""Mean and second moment at one time, or at all times up to it.

Three ways, the cheapest in operations chosen. Per application to one start: the transitions 4·points·D³; their
operator on packed matrices 2p², p = D(D+1)/2, once it is built for 2·points·D⁴; a power of the operator
the same, once it is squared for 2p³. A product of matrices does about ``RATE`` times as many operations per second
as one of matrix by vector, which is what an application to few starts is; the choice affects time only.

Rounding, entry by entry to first order: at most time·(p + points + 4)·eps times the entry that the recursion with
every |entry| of T and of the start in place of it gives (a power's error is that of its factors and of p sums).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.moments.packed import length, pack, unpack
from refimpl.moments.schedules import Recursion, Relaxed, Schedule, require_steps
from refimpl.moments.state import Moments
from refimpl.moments.step import AffineStep, PackedStep

RATE = 4  # measured with one thread, p = 231: 5; on GPUs more
OPERATOR_BYTES = 2**28  # no operator is built whose assembly needs more
ROWS = 16  # rows from which on a product of matrices runs at its own rate


def mean_and_second(recursion: Recursion, start: Any, time: int) -> Moments:
    """Mean and second moment after ``time`` steps from ``start``: points (..., d), or ``Moments``.

    Cost: see above; for constant coefficients it grows as the logarithm of ``time``. Raises ``BadInput``.

    >>> from refimpl.moments import affine_step
    >>> from refimpl.spaces import Indices
    >>> import numpy as np
    >>> walk = affine_step(Indices(2), lambda s: (np.ones((len(s), 1, 1)), 2.0 * s[:, None] - 1))
    >>> mean_and_second(walk, [0.0], 100).second  # E x² = t for a walk of steps ±1
    array([[100.]])
    """
    require_steps(recursion, time)
    S = _start(recursion, start)
    if isinstance(recursion, Schedule | Relaxed):
        move = _moves(recursion, time, _count(S))
        for k in range(time):
            S = move(S, k)
        return Moments(recursion.backend, S)
    B, D, starts = recursion.backend, recursion.D, _count(S)
    squarings = _squarings(length(D), time, starts)
    if not _operator_pays(recursion, time, (time >> squarings) + squarings, squarings, starts):
        for _ in range(time):
            S = recursion.second(S)
        return Moments(B, S)
    v, power, left = pack(B, S), recursion.operator, time
    for _ in range(squarings):
        if left & 1:
            v = B.matvec(power, v)
        left >>= 1
        power = power @ power
    for _ in range(left):
        v = B.matvec(power, v)
    return Moments(B, unpack(B, v, D))


def curve(recursion: Recursion, start: Any, times: int) -> Moments:
    """Mean and second moment after 0, 1, …, ``times`` steps: a leading axis of times + 1.

    Constant coefficients: s_0 … s_{m-1} by doubling, then B^m on m of them at a time, a product of matrices.
    """
    require_steps(recursion, times)
    B, D, S = recursion.backend, recursion.D, _start(recursion, start)
    starts = _count(S)
    doublings = _doublings(length(D), times, starts)
    if isinstance(recursion, Schedule | Relaxed) or not _operator_pays(
        recursion, times, times, doublings, starts * 2**doublings
    ):
        return Moments(B, B.xp.stack([S, *_along(recursion, S, times)]))
    block, power = pack(B, S)[None, ...], recursion.operator
    for _ in range(doublings):
        block = B.concat([block, B.matvec(power, block)], axis=0)
        power = power @ power
    blocks = [block]
    for _ in range(times >> doublings):
        block = B.matvec(power, block)
        blocks.append(block)
    return Moments(B, unpack(B, B.concat(blocks, axis=0)[: times + 1, ...], D))


def mean_square_curve(recursion: Recursion, start: Any, times: int, *, point: Any = None) -> Array:
    """E‖x_t − point‖² for t = 0, …, ``times``: (times + 1, ...); point (d,), the origin unless given.

    The origin is moved to ``point`` first, so that nothing cancels near it. Constant coefficients: with c the trace,
    c B^{jm+i} s_0 = (c B^i)(B^{mj} s_0), i < m: about m + times/m products of the operator with vectors, not times.
    """
    require_steps(recursion, times)
    B, D = recursion.backend, recursion.D
    moments = Moments(B, _start(recursion, start))
    if point is not None:
        point = B.vector(point if B.owns(point) else B.asarray(point), D - 1, "point")
        recursion, moments = recursion.about(point), moments.about(point)
    S = moments.homogeneous
    starts = _count(S)
    squarings = _squarings(length(D), times, starts)
    if isinstance(recursion, Schedule | Relaxed) or not _operator_pays(
        recursion, times, (times >> squarings) + 2**squarings // RATE, squarings, starts
    ):
        found = [m.mean_square for m in (moments, *(Moments(B, S) for S in _along(recursion, S, times)))]
        return B.xp.stack(found)
    corner = B.concat([B.eye(D - 1), B.zeros((D - 1, 1))])
    trace = pack(B, B.concat([corner, B.zeros((1, D))], axis=0))
    left, power = trace[None, :], recursion.operator
    for _ in range(squarings):
        left = B.concat([left, left @ power], axis=0)
        power = power @ power
    right = [pack(B, S)]
    for _ in range(times >> squarings):
        right.append(B.matvec(power, right[-1]))
    values = B.xp.stack(right) @ B.mT(left)  # (times/m, ..., m)
    values = B.moveaxis(values, -1, 1)
    return B.reshape(values, (-1, *values.shape[2:]))[: times + 1, ...]


def _start(recursion: Recursion, start: Any) -> Array:
    moments = start if isinstance(start, Moments) else Moments.at(recursion.backend, start)
    if moments.backend != recursion.backend or moments.d != recursion.D - 1:
        raise BadInput(
            "the start does not fit the recursion",
            measured=f"{moments.d} coordinates on backend {moments.backend.name!r}",
            required=f"{recursion.D - 1} on {recursion.backend.name!r}",
            advice="build both with the same backend and dimension",
        )
    return moments.homogeneous


def _count(S: Array) -> int:
    """Number of starts, counted as one where there is none."""
    return max(1, math.prod(S.shape[:-2]))


def _along(recursion: Recursion, S: Array, times: int) -> Iterator[Array]:
    """S after 1, …, times steps."""
    move = _moves(recursion, times, _count(S))
    for k in range(times):
        S = move(S, k)
        yield S


def _moves(recursion: Recursion, times: int, starts: int) -> Callable[[Array, int], Array]:
    if isinstance(recursion, Schedule):
        return lambda S, k: recursion.steps[k].second(S)
    if isinstance(recursion, Relaxed):
        move = _moves(recursion.step, times, starts)
        return lambda S, k: recursion.mixed(S, move(S, k), k)
    if isinstance(recursion, AffineStep) and _operator_pays(recursion, times, times, 0, starts):
        packed = PackedStep(recursion.backend, recursion.D, recursion.operator)
        return lambda S, k: packed.second(S)
    return lambda S, k: recursion.second(S)


def _operator_pays(
    step: AffineStep | PackedStep, times: int, applications: int, squarings: int, starts: int
) -> bool:
    """Is ``applications`` products with the operator, its powers and itself to build, cheaper than ``times`` steps?"""
    if isinstance(step, PackedStep):
        return True
    D, p = step.D, length(step.D)
    if 24 * D**4 > OPERATOR_BYTES:
        return False
    rate = RATE if starts < ROWS else 1
    with_operator = 2 * step.points * D**4 + 2 * squarings * p**3 + 2 * rate * applications * starts * p**2
    return with_operator < 4 * times * starts * step.points * D**3


def _squarings(p: int, times: int, starts: int) -> int:
    """s >= 0 that minimises s·2p³ + (times/2^s)·2p²·starts: how far to square before applying."""
    rate = RATE if starts < ROWS else 1
    best = min(range(max(times, 1).bit_length()), key=lambda s: s * p + rate * starts * (times >> s))
    return int(best)


def _doublings(p: int, times: int, starts: int) -> int:
    """The smallest s with starts·2^s >= ROWS rows per product, while the squarings cost less than they save."""
    rows = math.ceil(math.log2(ROWS / min(starts, ROWS)))
    worth = (RATE - 1) * times * starts // max(p, 1)
    return min(rows, worth, max(times, 1).bit_length() - 1)
