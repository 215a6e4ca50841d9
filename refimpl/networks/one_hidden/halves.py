"""Every mask visited, in two halves of its bits: z(m) = u_i + v_j, so that a mask costs O(1) and not O(n).

Left masks i have the first half of the units, right masks j the others (and the offset); P(m) = P_i Q_j. A block is
some left masks times all right ones, small enough for the cache; blocks are summed in order, compensated.

*squared*: r_ij = √(P_i Q_j) (u_i + v_j − y) is a product of a (·, 2) and a (2, ·) matrix; the loss is Σ r²/2.

*logistic*, with x = −y z: e^(−x) is the product of two tabled exponentials, and T = 1 + e^(−x) again a product of two
thin matrices. ℓ'(z) = −y σ(x) with σ(x) = 1/T, a quotient and a sum of positive numbers: full relative accuracy for
every x. ℓ(z) = x + log T, and E x is known in closed form, so only E log T is summed; P(m) does not depend on the
sample, so Σ_b log T_b = log Π_b T_b takes one logarithm per mask for all samples whose product does not overflow.
The sum x + log T cancels where x is very negative. Since ℓ and E log T are at least log(1 + e^(∓E x)) (Jensen) and
E ℓ − E log T = E x, samples with E x >= −1 lose a factor of at most (E log T + |E x|)/E ℓ <= 8, and of at most 3 where
E x >= 0; for the others log1p(e^x) is summed itself, with full relative accuracy for the tiniest e^x.
Tables are centred so that no factor overflows while |x| <= 700; beyond, a sample takes an exponential per mask.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from refimpl.networks.one_hidden.tables import Moments, Sums, bits, ordered_sum, probabilities, subset_sums

BLOCK = 2**15  # masks per block and sample: three arrays of 256 KiB
LARGEST = 700.0  # exp of it, and of minus it, is a normal number


@dataclass(frozen=True, eq=False)
class _Tables:
    """Both halves: sums (B, 2^·), probabilities (2^·,), and how far the samples' x reach."""

    squared: bool
    u: np.ndarray
    v: np.ndarray
    p: np.ndarray
    q: np.ndarray
    units: tuple[int, int]
    groups: tuple[tuple[int, ...], ...]  # samples that share a logarithm
    apart: tuple[int, ...]  # samples whose loss is summed as log1p(e^x)
    wide: tuple[int, ...]  # samples with |x| > LARGEST

    @property
    def rows(self) -> int:
        return max(1, BLOCK // self.q.size)


def moments(sums: Sums, executor: Executor | None = None) -> Moments:
    """(ℓ, ℓ', ℓ' m_j) over all 2ⁿ masks: about five passes over B 2ⁿ numbers, memory B 2^(n/2). NumPy only, for its
    in-place products. Bitwise the same for every executor."""
    tables = _tables(sums)
    starts = range(0, tables.p.size, tables.rows)
    block = functools.partial(_squared_block if tables.squared else _logistic_block, tables)
    parts = list((executor.map if executor else map)(block, starts))
    loss, slope, joint = (ordered_sum(part[i] for part in parts) for i in range(3))
    if not tables.squared:
        mean = -sums.y * (sums.offset + sums.terms @ sums.keep)
        loss = ordered_sum([loss, *(mean[b] for group in tables.groups for b in group)])
        slope, joint = -sums.y * slope, -sums.y[:, None] * joint
    return Moments(loss, slope, joint)


def held(n: int, batch: int) -> int:
    """Bytes: the tables of both halves, their compensation and their matrices, and a block."""
    return 8 * (6 * batch * 2 ** (n - n // 2) + 3 * BLOCK)


def _tables(sums: Sums) -> _Tables:
    left = sums.n // 2
    p, q = probabilities(sums.keep[:left]), probabilities(sums.keep[left:])
    units = (left, sums.n - left)
    zero = np.zeros(sums.batch)
    if sums.loss == "squared":
        u = subset_sums(sums.terms[:, :left], zero).high
        v = subset_sums(sums.terms[:, left:], sums.offset).shifted(-sums.y[:, None]).high
        return _Tables(True, u, v, p, q, units, (), (), ())
    terms, offset = sums.y[:, None] * sums.terms, sums.y * sums.offset  # of −x = y z
    centre = terms[:, :left].sum(1)[:, None] / 2
    of_left = subset_sums(terms[:, :left], zero).shifted(-centre)
    of_right = subset_sums(terms[:, left:], offset).shifted(centre)
    u, v = of_left.high, of_right.high
    top, bottom = u.max(1) + v.max(1), u.min(1) + v.min(1)
    narrow = np.maximum(top, -bottom) <= LARGEST
    shared = narrow & (-(offset + terms @ sums.keep) >= -1)
    groups = tuple(_packed(np.flatnonzero(shared), np.logaddexp(0.0, top)))
    apart, wide = np.flatnonzero(narrow & ~shared), np.flatnonzero(~narrow)
    u[narrow], v[narrow] = of_left[narrow].exp(), of_right[narrow].exp()
    return _Tables(False, u, v, p, q, units, groups, tuple(apart.tolist()), tuple(wide.tolist()))


def _packed(samples: np.ndarray, size: np.ndarray) -> Iterator[tuple[int, ...]]:
    """Consecutive samples in groups whose sizes sum to at most LARGEST."""
    group: list[int] = []
    for b in samples.tolist():
        if group and sum(size[i] for i in group) + size[b] > LARGEST:
            yield tuple(group)
            group = []
        group.append(b)
    if group:
        yield tuple(group)


def _squared_block(t: _Tables, start: int) -> tuple[float, np.ndarray, np.ndarray]:
    some = slice(start, start + t.rows)
    root_p, root_q = np.sqrt(t.p[some]), np.sqrt(t.q)
    left = np.stack([root_p * t.u[:, some], np.broadcast_to(root_p, t.u[:, some].shape)], axis=2)
    right = np.stack([np.broadcast_to(root_q, t.v.shape), root_q * t.v], axis=1)
    r = np.empty((root_p.size, root_q.size))
    loss, over_right, over_left = [], np.empty(left.shape[:2]), np.empty(t.v.shape)
    for b in range(len(t.u)):
        np.matmul(left[b], right[b], out=r)
        loss.append(np.vdot(r, r) / 2)
        np.matmul(r, root_q, out=over_right[b])
        np.matmul(root_p, r, out=over_left[b])
    return ordered_sum(loss), *_joined(t, start, over_right * root_p, over_left * root_q)


def _logistic_block(t: _Tables, start: int) -> tuple[float, np.ndarray, np.ndarray]:
    some = slice(start, start + t.rows)
    p, q = t.p[some], t.q
    left = np.stack([t.u[:, some], np.ones((len(t.u), p.size))], axis=2)
    right = np.stack([t.v, np.ones_like(t.v)], axis=1)
    over_right, over_left = np.empty(left.shape[:2]), np.empty(t.v.shape)
    T, product = np.empty((p.size, q.size)), np.empty((p.size, q.size))

    def expectation(f: np.ndarray) -> float:
        return float(p @ (f @ q))

    def slopes(b: int) -> None:
        """σ(x) = 1/T over both halves; T is overwritten."""
        np.divide(1.0, T, out=T)
        np.matmul(T, q, out=over_right[b])
        np.matmul(p, T, out=over_left[b])

    loss = []
    for group in t.groups:
        product[...] = 1.0
        for b in group:
            np.matmul(left[b], right[b], out=T)
            product *= T
            slopes(b)
        loss.append(expectation(np.log(product, out=product)))
    for b in t.apart:
        np.multiply(1 / t.u[b, some, None], 1 / t.v[b], out=T)
        loss.append(expectation(np.log1p(T, out=T)))
        np.matmul(left[b], right[b], out=T)
        slopes(b)
    for b in t.wide:  # here u and v are the sums themselves
        np.add(t.u[b, some, None], t.v[b], out=T)
        loss.append(expectation(np.logaddexp(0.0, -T)))
        with np.errstate(over="ignore"):  # infinity is right: σ(x) = 1/T underflows to 0 there
            np.exp(T, out=T)
        T += 1.0
        slopes(b)
    return ordered_sum(loss), *_joined(t, start, over_right * p, over_left * q)


def _joined(
    t: _Tables, start: int, over_right: np.ndarray, over_left: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """From the slopes summed over the right masks (B, rows) and over the left ones (B, 2^·): slope and joint."""
    left = over_right @ bits(t.units[0], start, start + over_right.shape[1])
    return over_right.sum(1), np.concatenate([left, over_left @ bits(t.units[1])], axis=1)
