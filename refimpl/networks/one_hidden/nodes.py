"""To rounding, without visiting the masks: Chebyshev nodes in place of one half's sums (logistic loss).

With x = −y z and z split over two halves of the units, x = u_i + v_j, what is wanted of each left sum u is

    D(u) = Σ_j Q_j σ(u + v_j),   D_g(u) = Σ_j Q_j m_g σ(u + v_j),   G(u) = Σ_j Q_j log(1 + e^(u + v_j)),   G' = D.

D and D_g are analytic in the strip |Im u| < π, so K values at Chebyshev points of an interval give them at all the
left sums in it, and G at the nodes is G(lo) plus the integral of D's interpolant: logarithms at the interval's left end
only. The interpolant enters through Σ_i P_i D(u_i) = Σ_k μ_k D(x_k), μ_k = Σ_i P_i ℓ_k(s_i), with the barycentric
ℓ_k(s) = (w_k/(s − s_k)) / Σ_l w_l/(s − s_l), w_k = (−1)^k sin θ_k, s_k = cos θ_k, θ_k = π (k + ½)/K; alike for P_i m_g.

**Bound.** Let r be the half-width of the interval, H < π, ρ − 1/ρ = 2H/r, η = r ((ρ + 1/ρ)/2 − 1) how far the ellipse
E_ρ reaches beyond it. For w = x + iy with |y| <= H, |1 + e^(−w)| >= S max(1, e^(−x)) with S = 1 if H <= π/2, else sin
H. So on E_ρ |σ(· + v)| <= min(1, e^(hi + η + v))/S <= 2 e^η σ(hi + v)/S =: M. A Chebyshev coefficient of order k is
at most 2 M ρ^(−k), and each of order >= K is aliased to a lower one of the same size, so interpolation at the K roots
of T_K errs by at most 4 M ρ^(1−K)/(ρ − 1). Averaged over j, which keeps the form since σ > 0:

    |D − its interpolant| <= δ D(hi) <= δ e^(2r) D(u) on the interval,   δ = 8 e^η ρ^(1−K) / (S (ρ − 1)),

since (log σ)' <= 1. This is *relative*, whatever the weights' size: K depends on r alone, and is the least for which
δ e^(2r) <= eps/8 for some H. The integral of D's interpolant errs by at most 2r δ D(hi), and as a polynomial of
degree K with leading coefficient c_{K−1}/(2K) it differs from its own interpolant by at most r 2 M ρ^(1−K)/(2K) <= δ
π/(2K) D(hi), because r (ρ − 1) <= 2H < 2π.

**Large ranges** take several intervals of half-width at most RADIUS. K ≈ log(1/tol)/asinh(π/r), so nodes per unit of
range K/(2r) never fall below log(1/tol)/(2π), since asinh(x) <= x: they are 14.6, 10.8, 9.4, 9.4, 9.7 for r = π/4,
π/2, π, 3π/2, 2π. Wide intervals would hence save a third of the work at the right masks (at the left masks, K each,
they cost more), but rounding is relative to the largest D in an interval, e^(2r) times the least: 5 at π/4, 23 at
π/2, 535 at π. RADIUS = π/4 keeps entries within a few eps of their own size for weights of any size, and K <= 23. For
the same reason u and v are tabled as unevaluated sums of two floats, and the interpolant is taken around its value at
the middle node.

**Rounding**, to first order and worst case, with at most N masks per half and Λ = 1 + (2/π) log K: a node value errs
by (N + 8) eps (exponentials, sum, quotient, dot products), a left sum by 4 eps, ℓ_k by (K Λ + 6) eps (the second
barycentric form; Higham 2004), μ_k by N/2 eps more. With Σ_k |ℓ_k| <= Λ the bound on an entry is (δ + 4 eps + (1 + Λ)
e) P D(hi), e = (2N + K Λ + 14) eps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.networks.one_hidden.tables import (
    EPS,
    Moments,
    Sums,
    Table,
    bits,
    ordered_sum,
    probabilities,
    subset_sums,
)

RADIUS = np.pi / 4
MOST = 23  # nodes of an interval of that half-width: node_count(RADIUS)
GROUP = 2**13  # sums tabled at a time: 64 KiB, below what an allocator maps anew at every call
SMALLEST = 2.0**-10  # half-width of an interval that holds one left sum


def moments(sums: Sums, nodes: int | None = None) -> tuple[Moments, Moments]:
    """(ℓ, ℓ', ℓ' m_j) over all 2ⁿ masks, and bounds on their errors: about 2 K B 2^(n/2) numbers. NumPy only.

    ``nodes``: K, instead of the one chosen from the bound.
    """
    left = sums.n // 2
    order = np.argsort(np.abs(sums.terms).sum(0), kind="stable")  # a small range of u takes few nodes
    keep, terms = sums.keep[order], -sums.y[:, None] * sums.terms[:, order]  # of x = −y z
    offset = -sums.y * sums.offset
    p, q = _joint(keep[:left]), _joint(keep[left:])  # (1 + units, 2^·)
    width = np.abs(terms[:, :left]).sum(1)
    radius = float(max((width / np.maximum(np.ceil(width / (2 * RADIUS)), 1)).max() / 2, SMALLEST))
    rule = _rule(radius, nodes or node_count(radius))
    work = _Work.of(len(rule.nodes), p.shape[1], q.shape[1])
    rows = []
    # infinity is right: σ underflows to 0 there, and a left sum that is a node is noticed by it
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        few = max(1, GROUP // q.shape[1])
        for some in (slice(start, start + few) for start in range(0, sums.batch, few)):
            u = subset_sums(terms[some, :left], np.zeros(len(terms[some])))
            rows += _samples(u, subset_sums(terms[some, left:], offset[some]), p, q, rule, work)
    found, errors = (np.array([row[i] for row in rows]) for i in (0, 1))  # (B, 2 + n): loss, slope, joint
    back = 2 + np.argsort(order)
    return (
        Moments(ordered_sum(found[:, 0]), -sums.y * found[:, 1], -sums.y[:, None] * found[:, back]),
        Moments(ordered_sum(errors[:, 0]), errors[:, 1], errors[:, back]),
    )


def held(n: int, batch: int) -> int:
    """Bytes: the nodes' values of both halves, the masks' probabilities, and the tables of some samples."""
    size = 2 ** (n - n // 2)
    return 8 * (size * (2 * MOST + n) + 16 * min(max(GROUP, size), batch * size))


def _joint(keep: np.ndarray) -> np.ndarray:
    """P and P m_g of every mask of these units: (1 + units, 2^·)."""
    p = probabilities(keep)
    # rows contiguous in memory: NumPy then sums them pairwise, and equal probabilities do not round alike
    return np.ascontiguousarray(np.concatenate([p[None], p * bits(len(keep)).T]))


def _samples(
    u: Table, v: Table, p: np.ndarray, q: np.ndarray, rule: _Rule, work: _Work
) -> list[tuple[np.ndarray, np.ndarray]]:
    """``_sample`` of each; what takes few numbers is done for all at once."""
    lowest, span = u.high.min(1)[:, None], 2 * rule.radius
    last = np.maximum(np.ceil(np.ptp(u.high, axis=1) / span), 1)[:, None] - 1
    where = np.minimum((u.high - lowest) / span, last).astype(int)
    inside = u.shifted(-(lowest + span * (where + 0.5)))
    s = (inside.high + inside.low) / rule.radius
    first = _right(v, lowest + span * 0.5, q, rule)
    whole, rows = p.sum(1), []
    for b in range(len(s)):
        pieces = [(s[b], p, whole, first[0][b], first[1][b])]
        if last[b, 0]:
            pieces = []
            for i in np.unique(where[b]):  # intervals that hold a left sum
                members = np.flatnonzero(where[b] == i)
                here = np.take(p, members, axis=1)
                right = _right(v[b], lowest[b, 0] + span * (i + 0.5), q, rule)
                pieces.append((s[b, members], here, here.sum(1), *right))
        rows.append(_sample(pieces, q, rule, work))
    return rows


def _right(v: Table, middle: Any, q: np.ndarray, rule: _Rule) -> tuple[np.ndarray, Any]:
    """e^(−(v_j + middle)), and G at the left end of the interval around that middle."""
    around = v.shifted(middle)
    e = around.exp(-1)
    return e, _softplus(around.high - rule.radius, np.exp(-rule.radius) / e) @ q[0]


def _sample(pieces: list[Any], q: np.ndarray, rule: _Rule, work: _Work) -> tuple[np.ndarray, np.ndarray]:
    """(E ℓ, E σ(x), E σ(x) m_1, …) of one sample, and bounds on the errors of these; a piece is an interval with its
    left sums s, their P m_g and the sums of these, and ``_right``."""
    K, centre, span = len(rule.nodes), len(rule.nodes) // 2, 2 * rule.radius
    lebesgue = 1 + 2 / np.pi * np.log(K)
    at_node = (2 * max(work.basis.shape[1], q.shape[1]) + K * lebesgue + 14) * EPS
    at_sum = rule.truncation + 4 * EPS + (1 + lebesgue) * at_node  # relative to D(hi)
    loss = loss_error = 0.0
    left, left_error, right = np.zeros(1), np.zeros(1), np.zeros(1)
    for s, here, mass, e, G in pieces:
        mu = _barycentric(s, here, rule, work)
        slopes = _sigmoids(e, rule, work)
        D = slopes @ q[0]
        # around their values in the middle of the interval, so that Σ_k μ_k = P is not left to rounding
        rise = rule.radius * (rule.integral @ D)  # G at the nodes, less G(lo)
        loss += mass[0] * (G + rise[centre]) + (rise - rise[centre]) @ mu[:, 0]
        left = left + mass * D[centre] + (D - D[centre]) @ mu
        right = right + mu[:, 0] @ slopes
        highest = D[0] * np.exp(rule.radius * (1 - rule.nodes[0]))  # at least D(hi)
        left_error = left_error + at_sum * highest * mass
        loss_error += mass[0] * (at_node * G + at_sum * (span + np.pi / (2 * K)) * highest)
    joint = q[1:] @ right
    return (
        np.concatenate([[loss], left, joint]),
        np.concatenate([[loss_error], left_error, np.full(joint.shape, left_error[0])]),
    )


def _barycentric(s: np.ndarray, weights: np.ndarray, rule: _Rule, work: _Work) -> np.ndarray:
    """Σ_i ℓ_k(s_i) weights_gi, (K, groups)."""
    pair, inverse = work.pair[:, : s.size], work.basis[:, : s.size]
    pair[0] = s
    np.divide(
        1.0, np.matmul(rule.minus, pair, out=inverse), out=inverse
    )  # s − s_k by a thin product: rounded once
    total = rule.weights @ inverse
    if (met := ~np.isfinite(total)).any():  # s_i is a node: the basis is a unit vector
        inverse[:, met] = (s[met] == rule.nodes[:, None]) / rule.weights[:, None]
        total[met] = 1.0
    return rule.weights[:, None] * (inverse @ (weights * (1 / total)).T)


def _sigmoids(e: np.ndarray, rule: _Rule, work: _Work) -> np.ndarray:
    """σ(x_k + v_j) = 1/(1 + e^(−x_k) e_j), (K, 2^·), with no exponential per pair; e_j = e^(−v_j)."""
    work.other_pair[0] = e
    np.matmul(rule.exponentials, work.other_pair, out=work.slopes)
    return np.divide(1.0, work.slopes, out=work.slopes)


def _softplus(x: np.ndarray, e: np.ndarray) -> np.ndarray:
    """log(1 + e^x), e = e^x to all its digits, or infinite."""
    out = np.log1p(e)
    return out if np.isfinite(e.max()) else np.where(np.isinf(e), x, out)


@dataclass(frozen=True, eq=False)
class _Work:
    """Arrays used again and again: they stay in the cache. The pairs' second rows are ones."""

    basis: np.ndarray
    slopes: np.ndarray
    pair: np.ndarray
    other_pair: np.ndarray

    @classmethod
    def of(cls, nodes: int, left: int, right: int) -> _Work:
        return cls(np.empty((nodes, left)), np.empty((nodes, right)), np.ones((2, left)), np.ones((2, right)))


@dataclass(frozen=True, eq=False)
class _Rule:
    """K nodes of [−1, 1], highest first."""

    radius: float
    nodes: np.ndarray  # (K,)
    weights: np.ndarray  # (K,), barycentric
    minus: np.ndarray  # (K, 2): times (s, 1) it is s − s_k
    exponentials: np.ndarray  # (K, 2): times (e, 1) it is 1 + e^(−x_k) e
    integral: np.ndarray  # (K, K): values at the nodes to those of the interpolant's integral from −1
    truncation: float  # δ


def _rule(radius: float, count: int) -> _Rule:
    angle = np.pi * (np.arange(count) + 0.5) / count
    coefficients = np.cos(np.arange(count)[:, None] * angle) * (2 / count)
    coefficients[0] /= 2
    values = np.cos(angle[:, None] * np.arange(count + 1))
    nodes, one = np.cos(angle), np.ones(count)
    return _Rule(
        radius,
        nodes,
        (-1.0) ** np.arange(count) * np.sin(angle),
        np.stack([one, -nodes], axis=1),
        np.stack([np.exp(-radius * nodes), one], axis=1),
        values @ _integration(count) @ coefficients,
        truncation(radius, count),
    )


def _integration(count: int) -> np.ndarray:
    """∫_{−1}^s T_k = T_{k+1}/(2(k + 1)) − T_{k−1}/(2(k − 1)) + a constant, as a (K + 1, K) matrix."""
    out = np.zeros((count + 1, count))
    for k in range(count):
        out[k + 1, k] = 0.5 / (k + 1) if k else 1.0
        if k > 1:
            out[k - 1, k] = -0.5 / (k - 1)
        out[0, k] -= (-1.0) ** np.arange(count + 1) @ out[:, k]  # so that it vanishes at −1
    return out


_HEIGHTS = np.pi * np.array([0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.96, 0.98, 0.99])


def truncation(radius: float, nodes: int) -> float:
    """δ at its least over a grid of H: the interpolant errs by at most δ D(hi)."""
    return float(np.exp(_log_truncation(radius, nodes).min()))


def node_count(radius: float) -> int:
    """The least K with δ e^(2r) <= eps/8: log δ is linear in K."""
    excess = _log_truncation(radius, 1) + 2 * radius - np.log(EPS / 8)
    return 1 + max(1, int(np.ceil(excess / np.log(_rho(radius, _HEIGHTS))).min()))


def _log_truncation(radius: float, nodes: int) -> np.ndarray:
    rho = _rho(radius, _HEIGHTS)
    least = np.where(_HEIGHTS <= np.pi / 2, 1.0, np.sin(_HEIGHTS))
    first = np.log(8 / (least * (rho - 1))) + _beyond(radius, _HEIGHTS)
    return np.asarray(first + (1 - nodes) * np.log(rho))


def _rho(radius: float, height: np.ndarray | float) -> np.ndarray:
    """ρ of the ellipse around an interval of half-width r that is H high: ρ − 1/ρ = 2H/r."""
    return np.asarray(height / radius + np.hypot(1, height / radius))


def _beyond(radius: float, height: np.ndarray | float) -> np.ndarray:
    """η: its half-length √(r² + H²), less r."""
    return np.asarray(np.hypot(radius, height) - radius)
