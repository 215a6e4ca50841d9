"""The constants that families state, against the formulas in their docstrings, written out term by term.

Hunting (test_constants) shows that a constant is not too small. It cannot show that it is as small as the family
says: one that is needlessly large is a bound too.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from math import cosh, exp, sqrt, tanh
from typing import Any

import numpy as np
import pytest

import refimpl as ri
from refimpl.constants import Bounds, MapBounds, Region
from refimpl.datasets import Episode
from refimpl.errors import BadInput
from refimpl.zoo import (
    biased,
    degenerate,
    equilibrium,
    logistic,
    maps,
    poisoning,
    quadratic,
    readout,
    ridge,
    rows,
    uppers,
)
from refimpl.zoo.weighted_rows import WeightedRows
from refimpl.zoo.weights import SampleWeights

Stated = tuple[
    dict[str, float], Sequence[float]
]  # the constants, and the bounds of ‖∇_w f‖ whose smallest is taken

RNG = np.random.default_rng(51)
GENERIC = RNG.standard_normal((7, 3))
PARALLEL = np.outer([1.0, -0.5, 2.0, 0.25], [0.6, -0.3, 0.9])  # Σ m_i‖x_i‖ <= ‖X‖‖m‖ here
ORTHOGONAL = np.diag([1.5, -1.25, 1.0])  # … and >= here
DESIGNS = {"generic": GENERIC, "parallel": PARALLEL, "orthogonal": ORTHOGONAL}


def _norm(x: Any) -> float:
    x = np.asarray(x, dtype=float)
    return float(np.linalg.norm(x, 2)) if x.size else 0.0


def _largest(a: np.ndarray) -> float:
    return float(np.linalg.eigvalsh(a)[-1])


def _smallest(a: np.ndarray) -> float:
    return float(np.linalg.eigvalsh(a)[0])


# -- mean losses of a linear model --------------------------------------------------------------------
Loss = tuple[
    Callable[[float, float], float], Callable[[float, float], float], Callable[[float], float], float
]
S, T = 1 / sqrt(3), 1 / sqrt(3)  # where s(1 − s²)/4 and 2t(1 − t²) are largest
LOSSES: dict[str, Loss] = {  # ℓ'(z, y), ℓ''(z, y), where ℓ'' is largest, sup|ℓ'''|
    "squares": (lambda z, y: z - y, lambda z, y: 1.0, lambda y: y, 0.0),
    "logistic": (
        lambda z, y: -y / (1 + exp(y * z)),
        lambda z, y: 1 / (2 + exp(z) + exp(-z)),
        lambda y: 0.0,
        S * (1 - S * S) / 4,
    ),
    "soft logistic": (
        lambda z, y: 1 / (1 + exp(-z)) - y,
        lambda z, y: 1 / (2 + exp(z) + exp(-z)),
        lambda y: 0.0,
        S * (1 - S * S) / 4,
    ),
    "log-cosh": (
        lambda z, y: tanh(z - y),
        lambda z, y: cosh(z - y) ** -2,
        lambda y: y,
        2 * T * (1 - T * T),
    ),
}


VALUES: dict[str, Callable[[float, float], float]] = {
    "squares": lambda z, y: (z - y) ** 2 / 2,
    "soft logistic": lambda z, y: math.log(1 + exp(z)) - y * z,
}
RAW = SampleWeights("identity")


def _loss(name: str, X: np.ndarray, n: int = 1) -> Any:
    y = np.where(np.arange(len(X)) % 2, -1.0, 1.0) * (1.0 if name == "logistic" else 3.0)
    if name == "soft logistic":
        return logistic.SoftLabelLoss(X, 0.5 + y / 10, n)
    make = {
        "squares": ridge.HalfSquares,
        "logistic": ri.zoo.logistic.LogisticLoss,
        "log-cosh": uppers.LogCosh,
    }
    return make[name](X, y, n)


def _curvatures(name: str, f: Any, region: Region) -> tuple[np.ndarray, np.ndarray]:
    """Σ_i (inf ℓ'', sup ℓ'') x_i x_iᵀ / N over the scores that row i reaches."""
    _, curvature, peak, _ = LOSSES[name]
    low, high = np.zeros((f.d, f.d)), np.zeros((f.d, f.d))
    for x, y in zip(f.X, f.y, strict=True):
        first, last = x @ region.w - _norm(x) * region.w_radius, x @ region.w + _norm(x) * region.w_radius
        low += min(curvature(first, y), curvature(last, y)) * np.outer(x, x) / len(f.X)
        high += curvature(min(max(peak(y), first), last), y) * np.outer(x, x) / len(f.X)
    return low, high


def _linear_model(name: str, f: Any, region: Region) -> Stated:
    slope, _, _, third = LOSSES[name]
    low, high = _curvatures(name, f, region)
    N, r = len(f.X), region.w_radius
    scores, reach = [x @ region.w for x in f.X], [_norm(x) * r for x in f.X]
    m = [max(abs(slope(z - a, y)), abs(slope(z + a, y))) for z, a, y in zip(scores, reach, f.y, strict=True)]
    centre = _norm(sum(slope(z, y) * x for z, y, x in zip(scores, f.y, f.X, strict=True)) / N)
    branches = [
        centre + _largest(high) * r,
        sum(a * _norm(x) for a, x in zip(m, f.X, strict=True)) / N,
        _norm(f.X) * sqrt(sum(a * a for a in m)) / N,
    ]
    return {
        "hess_ww": _largest(high),
        "hess_ww_min": max(_smallest(low), 0.0),
        "hess_ww_by_w": third * _largest(sum(_norm(x) * np.outer(x, x) for x in f.X) / N),
    }, branches


def _penalised(name: str, f: rows.Penalised, region: Region) -> Stated:
    """With strengths π_j between those at λ − R and λ + R, s_j = sup dπ_j/dλ and m_j = sup|w_j|."""
    data, branches = _linear_model(name, f.data, region)
    low, high = _curvatures(name, f.data, region)
    d, r, R = f.d, region.w_radius, region.lam_radius
    lam = np.broadcast_to(region.lam, (d,)).tolist()
    weak = [exp(x - R) if f.log else x - R for x in lam]
    strong = [exp(x + R) if f.log else x + R for x in lam]
    now = [exp(x) if f.log else x for x in lam]
    s = [exp(x + R) if f.log else 1.0 for x in lam]
    m = [abs(x) + r if f.n == d else _norm(region.w) + r for x in region.w]
    smallest = _smallest(low + np.diag(weak))
    hess_ww = max(_largest(high + np.diag(strong)), -smallest)
    cross = max(a * b for a, b in zip(s, m, strict=True))
    slope = LOSSES[name][0]
    gradient = [
        sum(slope(x @ region.w, y) * x[j] for x, y in zip(f.data.X, f.data.y, strict=True)) / len(f.data.X)
        + now[j] * region.w[j]
        for j in range(d)
    ]
    size = _norm(region.w) + r
    return {
        "hess_ww": hess_ww,
        "hess_ww_min": smallest,
        "cross": cross,
        "hess_ll": max(a * b * b for a, b in zip(s, m, strict=True)) / 2 if f.log else 0.0,
        "hess_ww_by_w": data["hess_ww_by_w"],
        "hess_ww_by_lam": max(s),
        "cross_by_w": max(s),
        "cross_by_lam": cross if f.log else 0.0,
    }, [
        _norm(gradient) + hess_ww * r + cross * R,
        min(branches) + max(abs(x) for x in (*weak, *strong)) * size,
    ]


# -- weights ------------------------------------------------------------------------------------------
Reach = tuple[float, float, float, float]  # of one weight: smallest, largest, sup|ω'|, sup|ω''|


def _weight(weights: Any, i: int, lam: np.ndarray, R: float) -> tuple[float, Reach, int]:
    """Of sample i: its weight at the centre, what it reaches, and which entry of λ is its own."""
    own = i if weights.pick is None else int(np.argmax(weights.pick[i]))
    if weights.kind == "identity":
        return lam[own], (lam[own] - R, lam[own] + R, 1.0, 0.0), own
    nearest = max(abs(lam[own]) - R, 0.0)
    ends = 1 / (1 + exp(R - lam[own])), 1 / (1 + exp(-R - lam[own]))
    return (
        1 / (1 + exp(-lam[own])),
        (*ends, 1 / (2 + exp(nearest) + exp(-nearest)), S * (1 - S * S) / 4),
        own,
    )


def _most(owners: list[int]) -> int:
    return max(owners.count(i) for i in owners)


def _weighted_rows(name: str, f: WeightedRows, region: Region) -> Stated:
    slope, curvature, peak, third = LOSSES[name]
    N, r, R, X, norms = (
        len(f.data.X),
        region.w_radius,
        region.lam_radius,
        f.data.X,
        list(map(_norm, f.data.X)),
    )
    low, high, gradient = np.zeros((f.d, f.d)), np.zeros((f.d, f.d)), np.zeros(f.d)
    sizes, slopes, seconds, bends, losses, owners = [], [], [], [], [], []
    for i, (x, y, far) in enumerate(zip(X, f.data.y, norms, strict=True)):
        weight, (a, b, first, second), own = _weight(f.weights, i, region.lam, R)
        ends = x @ region.w - far * r, x @ region.w + far * r
        h, H = min(curvature(z, y) for z in ends), curvature(min(max(peak(y), ends[0]), ends[1]), y)
        low += min(a * h, a * H) * np.outer(x, x) / N
        high += max(b * h, b * H) * np.outer(x, x) / N
        m = max(abs(slope(z, y)) for z in ends)
        gradient += weight * slope(x @ region.w, y) * x / N
        owners.append(own)
        sizes.append(max(abs(a), abs(b)) * m)
        slopes.append(first * m * x)
        seconds.append(first * H * x)
        bends.append(second)
        losses.append((max(VALUES[name](z, y) for z in ends), m * far, max(abs(a), abs(b)) * far))
    t, smallest = _most(owners), _smallest(low)
    smallest = (
        max(smallest, 0.0)
        if min(_weight(f.weights, i, region.lam, R)[1][0] for i in range(N)) >= 0
        else smallest
    )
    hess_ww, cross = max(_largest(high), -smallest), sqrt(t) * _norm(slopes) / N
    by_both = sqrt(t) * max(norms) * _norm(seconds) / N
    cubed = sum(far * np.outer(x, x) for x, (_, _, far) in zip(X, losses, strict=True))
    return {
        "hess_ww": hess_ww,
        "hess_ww_min": smallest,
        "cross": cross,
        "hess_ll": t * max(a * b for a, (b, _, _) in zip(bends, losses, strict=True)) / N,
        "hess_ww_by_w": third * _largest(cubed) / N,
        "hess_ww_by_lam": by_both,
        "cross_by_w": by_both,
        "cross_by_lam": t * max(a * b for a, (_, b, _) in zip(bends, losses, strict=True)) / N,
    }, [
        _norm(gradient) + hess_ww * r + cross * R,
        sum(a * b for a, b in zip(sizes, norms, strict=True)) / N,
        _norm(X) * sqrt(sum(a * a for a in sizes)) / N,
    ]


# -- softmax ------------------------------------------------------------------------------------------
def _softmax(f: Any, region: Region) -> Stated:
    N, reg, r, R, w = len(f.X), f.reg, region.w_radius, region.lam_radius, region.w
    weighted = isinstance(f, ri.zoo.weighted_softmax.WeightedSoftmax)
    up, down, size, slopes, bent, losses, gradient = [], [], [], [], [], [], np.zeros(f.d)
    owners: list[int] = []
    length = [_norm(x) for x in f.X]
    for i, (x, hot) in enumerate(zip(f.X, f.y.T, strict=True)):
        scores = np.array([w[k * len(x) : (k + 1) * len(x)] @ x for k in range(len(hot))])
        p = np.exp(scores) / np.exp(scores).sum()
        weight, (low, high, first, second), own = (
            _weight(f.weights, i, region.lam, R) if weighted else (1.0, (1.0, 1.0, 0.0, 0.0), i)
        )
        owners.append(own)
        up.append(max(high, 0.0))
        down.append(max(-low, 0.0))
        size.append(max(abs(low), abs(high)))
        slopes.append(first)
        bent.append(second)
        losses.append(-np.log(p @ hot) + sqrt(2) * length[i] * r)
        gradient += weight * np.outer(p - hot, x).ravel() / N
    smallest = reg - _largest(sum(a * np.outer(x, x) for a, x in zip(down, f.X, strict=True))) / 2 / N
    highest = reg + _largest(sum(a * np.outer(x, x) for a, x in zip(up, f.X, strict=True))) / 2 / N
    hess_ww, t = max(highest, -smallest), _most(owners)
    both = sqrt(t) * _norm([a * x for a, x in zip(slopes, f.X, strict=True)]) / N
    q = (1 - 1 / sqrt(3)) / 2  # where q(1 − q)(1 − 2q) is largest
    third = q * (1 - q) * (1 - 2 * q) * 2**1.5
    ridge_part = reg * (_norm(w) + r)
    cubed = sum(a * b * np.outer(x, x) for a, b, x in zip(size, length, f.X, strict=True))
    return {
        "hess_ww": hess_ww,
        "hess_ww_min": smallest,
        "cross": sqrt(2) * both,
        "hess_ll": t * max(a * b for a, b in zip(bent, losses, strict=True)) / N,
        "hess_ww_by_w": third * _largest(cubed) / N,
        "hess_ww_by_lam": max(length) * both / 2,
        "cross_by_w": max(length) * both / 2,
        "cross_by_lam": t * sqrt(2) * max(a * b for a, b in zip(bent, length, strict=True)) / N,
    }, [
        _norm(gradient + reg * w) + hess_ww * r + sqrt(2) * both * R,
        ridge_part + sqrt(2) * sum(a * b for a, b in zip(size, length, strict=True)) / N,
        ridge_part + sqrt(2) * sqrt(sum(a * a for a in size)) * _norm(f.X) / N,
    ]


# -- quadratic, linear, kink, maps ----------------------------------------------------------------------
def _quadratic(f: quadratic.Quadratic, region: Region) -> Stated:
    ww, lw, ll, w1 = (sum(x) / len(x) for x in (f.ww, f.lw, f.ll, f.w1))
    at_centre = _norm(ww @ region.w + region.lam @ lw + w1)
    return {
        "hess_ww": _norm(ww),
        "hess_ww_min": _smallest(ww),
        "cross": _norm(lw),
        "hess_ll": _norm(ll),
    }, [at_centre + _norm(ww) * region.w_radius + _norm(lw) * region.lam_radius]


def _linear(f: uppers.Linear, region: Region) -> Stated:
    return {}, [_norm(sum(f.c) / len(f.c))]


def _kink(f: degenerate.SoftThreshold, region: Region) -> Stated:
    gradient = [w - lam + (f.tau if w > 0 else -f.tau) for w, lam in zip(region.w, region.lam, strict=True)]
    ones = dict.fromkeys(("hess_ww", "hess_ww_min", "cross", "hess_ll"), 1.0)
    return ones, [_norm(gradient) + region.w_radius + region.lam_radius]


def _affine(f: maps.AffineMap, region: Region) -> Stated:
    return {"d_w": _norm(sum(f.A) / len(f.A)), "d_lam": _norm(sum(f.B) / len(f.B))}, []


def _tanh(f: maps.TanhMap, region: Region) -> Stated:
    slope, a, b = [], [_norm(row) for row in f.A], [_norm(row) for row in f.B]
    for i in range(f.d):
        u = f.A[i] @ region.w + f.B[i] @ region.lam + f.c[i]
        nearest = max(abs(u) - a[i] * region.w_radius - b[i] * region.lam_radius, 0.0)
        slope.append(1 - tanh(nearest) ** 2)
    curved = 2 * T * (1 - T * T)
    return {
        "d_w": _norm(np.diag(slope) @ f.A),
        "d_lam": _norm(np.diag(slope) @ f.B),
        "d_w_by_w": curved * _norm(np.diag(a) @ f.A),
        "d_w_by_lam": curved * _norm(np.diag(b) @ f.A),
        "d_lam_by_w": curved * _norm(np.diag(a) @ f.B),
        "d_lam_by_lam": curved * _norm(np.diag(b) @ f.B),
    }, []


def _bent(f: maps.BentLine, region: Region) -> Stated:
    return {
        "d_w": abs(f.q + f.nu * region.lam[0]) + abs(f.nu) * region.lam_radius,
        "d_lam": abs(1 + f.nu * region.w[0]) + abs(f.nu) * region.w_radius,
        "d_w_by_lam": abs(f.nu),
        "d_lam_by_w": abs(f.nu),
    }, []


# -- tasks ------------------------------------------------------------------------------------------------
THIRD_MOMENT = (
    2 / (6 * sqrt(3)) * sqrt(2)
)  # Δ³/(6√3) at Δ = √2‖u‖: of u under two classes, equally far from 0


def _scaled(inner: Callable[[Any, Region], Stated], f: uppers.Scaled, region: Region) -> Stated:
    """A negative factor turns the spectrum round: its smallest end is the norm's."""
    stated, gradient = inner(f.f, region)
    size = max(f.factor, -f.factor)
    low = size * stated["hess_ww_min"] if f.factor > 0 else -size * stated["hess_ww"]
    return {**{k: size * x for k, x in stated.items()}, "hess_ww_min": low}, [size * x for x in gradient]


def _equilibrium(f: equilibrium.EquilibriumMap, region: Region) -> Stated:
    N, h, p, R, r = len(f.X), f.layout.hidden, f.layout.features, region.lam_radius, region.w_radius
    A, states = region.lam[: h * h].reshape(h, h), region.w.reshape(N, h)
    P = np.eye(N) if f.P is None else f.P
    M = np.array([[*sum(P[i, j] * states[j] for j in range(N)), *f.X[i], 1.0] for i in range(N)])
    assert M.shape == (N, h + p + 1)
    curved, spread = 2 * T * (1 - T * T), _norm(P)
    per_w = curved * (max(_norm(a) for a in A) + R) * max(_norm(row) for row in P)  # of a slope s_ik, in w
    per_lam = curved * (max(_norm(row) for row in M) + max(_norm(row) for row in P) * r)
    d_w, d_lam = (_norm(A) + R) * spread, _norm(M) + spread * r
    return {
        "d_w": d_w,
        "d_lam": d_lam,
        "d_w_by_w": per_w * d_w,
        "d_w_by_lam": per_lam * d_w + spread,  # s moves, and A does
        "d_lam_by_w": per_w * d_lam + spread,  # s moves, and Pw does
        "d_lam_by_lam": per_lam * d_lam,
    }, []


def _readout(f: readout.ReadoutLoss, region: Region) -> Stated:
    h, k = f.layout.hidden, f.layout.classes
    D = _norm(region.lam[-k * (h + 1) : -k].reshape(k, h)) + region.lam_radius
    states = region.w.reshape(-1, h)
    psi = [sqrt((_norm(x) + region.w_radius) ** 2 + 1) for x in states]
    rows = list(zip(f.share, psi, strict=True))
    in_all = [share * (D + THIRD_MOMENT * far * D * D) for share, far in rows]
    return {
        "hess_ww": max(f.share) * D * D / 2,
        "hess_ww_min": 0.0,
        "cross": sqrt(sum((share * (sqrt(2) + far * D / 2)) ** 2 for share, far in rows)),
        "hess_ll": sum(share * far * far for share, far in rows) / 2,
        "hess_ww_by_w": max(f.share) * THIRD_MOMENT * D**3,
        "hess_ww_by_lam": max(in_all),
        "cross_by_w": max(in_all),
        "cross_by_lam": sqrt(sum((share * (far + THIRD_MOMENT * far**2 * D)) ** 2 for share, far in rows)),
    }, [sqrt(2) * D * sqrt(sum(share * share for share in f.share))]


def _poisoned(f: poisoning.PoisonedSoftmax, region: Region) -> Stated:
    N, R, r, w, reg = len(f.X), region.lam_radius, region.w_radius, region.w, f.reg
    noise = region.lam.reshape(f.pick.shape[-1], -1)
    own = [[j for j in range(len(noise)) if row[j]] for row in f.pick]
    times = max(
        sum(j in mine for mine in own) for j in range(len(noise))
    )  # noise j stands in that many samples
    X = np.array([x + sum((noise[j] for j in mine), 0 * x) for x, mine in zip(f.X, own, strict=True)])
    whole = _norm(X) + sqrt(times) * R
    some = _norm([x for x, mine in zip(X, own, strict=True) if mine]) + sqrt(times) * R
    count, omega = sum(map(len, own)), _norm(w) + r
    gradient = np.zeros(f.d)
    for x, hot in zip(X, f.y.T, strict=True):
        p = np.array([exp(w[k * len(x) : (k + 1) * len(x)] @ x) for k in range(len(hot))])
        gradient += np.outer(p / p.sum() - hot, x).ravel() / N
    hess_ww = reg + whole * whole / 2 / N
    cross = sqrt(times) * (sqrt(2) * sqrt(count) + omega / 2 * some) / N
    in_both = sqrt(times) * (some + THIRD_MOMENT * omega * some * some) / N
    reach = [_norm(x) + R * len(mine) for x, mine in zip(X, own, strict=True)]
    farthest = max(a for a, mine in zip(reach, own, strict=True) if mine)
    return {
        "hess_ww": hess_ww,
        "hess_ww_min": reg,
        "cross": cross,
        "hess_ll": times * omega * omega / 2 / N,
        "hess_ww_by_w": THIRD_MOMENT * max(reach) * whole * whole / N,
        "hess_ww_by_lam": in_both,
        "cross_by_w": in_both,
        "cross_by_lam": times * (omega + THIRD_MOMENT * omega * omega * farthest) / N,
    }, [_norm(gradient + reg * w) + hess_ww * r + cross * R]


def _biased(f: biased.BiasedSoftmax, region: Region) -> Stated:
    count, s = len(f.X), f.strength
    own = region.w.reshape(count, -1)
    tasks = []
    for X, hot, row in zip(f.X, f.y, own, strict=True):
        loss = uppers.cross_entropy(X, np.argmax(hot, axis=0), classes=len(hot), n=0)
        tasks.append(_softmax(loss, Region(np.zeros(0), row, 0.0, region.w_radius)))
    apart = sqrt(sum(float(np.sum((row - region.lam) ** 2)) for row in own))
    apart += region.w_radius + sqrt(count) * region.lam_radius
    return {
        "hess_ww": (max(stated["hess_ww"] for stated, _ in tasks) + s) / count,
        "hess_ww_min": s / count,
        "cross": s * sqrt(count) / count,
        "hess_ll": s,
        "hess_ww_by_w": max(stated["hess_ww_by_w"] for stated, _ in tasks) / count,
    }, [(sqrt(sum(min(gradient) ** 2 for _, gradient in tasks)) + s * apart) / count]


# -- instances ------------------------------------------------------------------------------------------
def _quadratics() -> quadratic.Quadratic:
    """Indefinite, with the eigenvalues of largest size negative; a mean of two."""
    ww, ll = np.diag([-5.0, 1.0, 2.0]), np.array([[-3.0, 1.0], [1.0, 1.0]])
    f = quadratic.objective(ww=ww, ll=ll, lw=GENERIC[:2], w1=GENERIC[2])
    pair = {
        k: np.stack([getattr(f, k)[0] * 1.5, getattr(f, k)[0] / 2]) for k in ("ww", "lw", "ll", "w1", "l1")
    }
    return dataclasses.replace(f, **pair)


def _instances() -> dict[str, tuple[Any, Callable[[Any, Region], Stated]]]:
    found: dict[str, tuple[Any, Callable[[Any, Region], Stated]]] = {}
    hot = ri.zoo.softmax.one_hot
    for design, X in DESIGNS.items():
        for name in LOSSES:
            f = _loss(name, X)
            found[f"{name}, {design}"] = (f, lambda f, at, name=name: _linear_model(name, f, at))
            for log in (False, True):
                for n in (1, 3):
                    penalised = rows.Penalised(_loss(name, X, n), log)
                    label = f"{'log ' if log else ''}penalty n={n} of {name}, {design}"
                    found[label] = (penalised, lambda f, at, name=name: _penalised(name, f, at))
        labels = hot(np.arange(len(X)) % 2, 2)
        weighted = ri.zoo.weighted_softmax.problem(
            X, np.arange(len(X)) % 2, X, np.arange(len(X)) % 2, classes=2, reg=0.3
        )
        assert np.array_equal(weighted.lower.y, labels)
        found[f"cross entropy, {design}"] = (weighted.upper, _softmax)
        found[f"weighted softmax, {design}"] = (weighted.lower, _softmax)
        found[f"weighted softmax, one sample, {design}"] = (weighted.lower.at(2), _softmax)
        twice = np.array([2, 0, 2])
        found[f"weighted softmax, a sample twice, {design}"] = (weighted.lower.batch(twice), _softmax)
        raw = dataclasses.replace(weighted.lower, weights=RAW)
        found[f"raw softmax, {design}"] = (raw, _softmax)
        found[f"raw softmax, a sample twice, {design}"] = (raw.batch(twice), _softmax)
        for name in ("squares", "soft logistic"):
            for weights in (SampleWeights(), RAW):
                f = WeightedRows(_loss(name, X, len(X)), weights)
                label = f"{weights.kind} weights of {name}"
                formula = functools.partial(_weighted_rows, name)
                found[f"{label}, {design}"] = (f, formula)
                found[f"{label}, a row twice, {design}"] = (f.batch(twice), formula)
    X = GENERIC
    found["quadratic"] = (_quadratics(), _quadratic)
    found["quadratic, n = 0"] = (quadratic.objective(ww=np.diag([1.0, 2.0]), n=0), _quadratic)
    found["linear"] = (uppers.linear(X, l=X[:, :2]), _linear)
    found["soft threshold"] = (degenerate.SoftThreshold(0.75, 3), _kink)
    found["affine map"] = (maps.random(n=2, d=3, seed=52, terms=3).phi, _affine)
    found["affine map, n = 0"] = (maps.affine(np.eye(2) / 2, np.zeros((2, 0))), _affine)
    found["tanh map"] = (maps.random(n=2, d=3, seed=53, kind="tanh").phi, _tanh)
    found["bent line"] = (maps.BentLine(0.5, 4.0), _bent)
    found["bent line, signs changed"] = (maps.BentLine(-0.5, -4.0), _bent)
    for factor in (-2.0, 3.0):
        found[f"{factor:g} quadratic"] = (
            uppers.Scaled(factor, _quadratics()),
            lambda f, at: _scaled(_quadratic, f, at),
        )
    return found | _of_tasks()


def _of_tasks() -> dict[str, tuple[Any, Callable[[Any, Region], Stated]]]:
    X, labels = GENERIC, np.arange(7) % 3
    graph = RNG.standard_normal((7, 7)) / 3
    model: dict[str, Any] = {"classes": 3, "hidden": 2}
    plain = equilibrium.problem(X, labels, **model)
    connected = equilibrium.problem(X, labels, P=graph, labelled=[1, 4], **model)
    attacked = poisoning.problem(X, labels, X, labels, classes=3, poisoned=[4, 1], reg=0.3)
    tasks = Episode(*(np.stack([x, x[::-1] + 1]) for x in (X, labels % 2, -X, labels % 2)))
    meta = biased.problem(tasks, ways=4, strength=0.7)
    return {
        "equilibrium map": (plain.phi, _equilibrium),
        "graph map": (connected.phi, _equilibrium),
        "readout": (plain.upper, _readout),
        "readout, two labels": (connected.upper, _readout),
        "poisoned": (attacked.lower, _poisoned),
        "poisoned, a sample twice": (attacked.lower.batch(np.array([4, 0, 4, 1])), _poisoned),
        "poisoned, the others longer": (
            poisoning.problem(
                10.0 ** (np.arange(7) % 2)[:, None] * X,
                labels,
                X,
                labels,
                classes=3,
                poisoned=[4, 2],
                reg=0.3,
            ).lower,
            _poisoned,
        ),
        "biased": (meta.lower, _biased),
        "biased queries": (meta.upper, _biased),
    }


INSTANCES = _instances()
SIZES = {"point": (0.0, 0.0), "small": (0.04, 0.07), "large": (1.5, 2.5)}


def _region(thing: Any, size: str) -> Region:
    lam_radius, w_radius = SIZES[size]
    rng = np.random.default_rng(54)
    lam, w = rng.standard_normal(thing.n), rng.standard_normal(thing.d)
    w[0] -= 4.0  # the largest entry in size is negative
    if isinstance(thing, degenerate.SoftThreshold):
        w = np.array([1.0, -2.0, 1.5]) * (w_radius + 1)  # away from the kinks
    if isinstance(thing, maps.TanhMap):
        w = w + 3.0 * np.array([2.0, -1.0, 1.0])  # some of its arguments are negative, some not near 0
    raw = getattr(getattr(thing, "weights", None), "kind", "") == "identity"
    if (raw or (isinstance(thing, rows.Penalised) and not thing.log)) and size == "large":
        lam = (
            lam - 6.0
        )  # weights or a penalty so negative that the most negative eigenvalue is the largest in size
    return Region(lam, w, lam_radius, w_radius)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", INSTANCES)
def test_a_family_states_what_its_docstring_derives(name: str, size: str) -> None:
    # kills: a term, a factor or a radius changed so that the constant is still a bound
    thing, formula = INSTANCES[name]
    region = _region(thing, size)
    expected, branches = formula(thing, region)
    stated = dataclasses.asdict(thing.bounds(region))
    kind = Bounds if "grad_w" in stated else MapBounds
    full = dict.fromkeys((f.name for f in dataclasses.fields(kind)), 0.0) | expected
    if branches:
        full["grad_w"] = min(branches)
    count = (
        10 * (thing.n + thing.d + thing.space.size) * 2.0**-52
    )  # of sums this long, times the largest term
    for constant, value in full.items():
        assert abs(stated[constant] - value) <= count * (1 + max(map(abs, full.values()))) ** 2, constant


@pytest.mark.parametrize(
    "family", ["logistic", "log-cosh", "penalty n=3 of logistic", "cross entropy", "weighted softmax"]
)
def test_each_bound_of_the_gradient_is_the_smallest_somewhere(family: str) -> None:
    # else a mistake in one of them could hide behind the others
    smallest = set()
    for design in DESIGNS:
        thing, formula = INSTANCES[f"{family}, {design}"]
        for size in SIZES:
            _, branches = formula(thing, _region(thing, size))
            smallest.add(int(np.argmin(branches)))
    assert smallest == set(range(len(branches)))


def test_a_kink_in_any_coordinate_is_refused() -> None:
    # kills: the largest |w_j| for the smallest
    f = degenerate.SoftThreshold(0.75, 2)
    with pytest.raises(BadInput, match="kink"):
        f.bounds(Region(np.zeros(2), np.array([0.25, 5.0]), 0.0, 0.5))
