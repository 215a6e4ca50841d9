"""The constants that families state, against the formulas in their docstrings, written out term by term.

Hunting (test_constants) shows that a constant is not too small. It cannot show that it is as small as the family
says: one that is needlessly large is a bound too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from math import cosh, exp, sqrt, tanh
from typing import Any

import numpy as np
import pytest

import refimpl as ri
from refimpl.constants import Bounds, MapBounds, Region
from refimpl.errors import BadInput
from refimpl.zoo import degenerate, maps, quadratic, ridge, rows, uppers

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
    "log-cosh": (
        lambda z, y: tanh(z - y),
        lambda z, y: cosh(z - y) ** -2,
        lambda y: y,
        2 * T * (1 - T * T),
    ),
}


def _loss(name: str, X: np.ndarray, n: int = 1) -> Any:
    y = np.where(np.arange(len(X)) % 2, -1.0, 1.0) * (1.0 if name == "logistic" else 3.0)
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


# -- softmax ------------------------------------------------------------------------------------------
def _softmax(f: Any, region: Region) -> Stated:
    N, reg, r, R, w = len(f.X), f.reg, region.w_radius, region.lam_radius, region.w
    weighted = isinstance(f, ri.zoo.weighted_softmax.WeightedSoftmax)
    up, slopes, bent, losses, gradient = [], [], [], [], np.zeros(f.d)
    length = [_norm(x) for x in f.X]
    for i, (x, hot) in enumerate(zip(f.X, f.y.T, strict=True)):
        scores = np.array([w[k * len(x) : (k + 1) * len(x)] @ x for k in range(len(hot))])
        p = np.exp(scores) / np.exp(scores).sum()
        weight = 1.0
        if weighted:
            own = region.lam[i] if f.pick is None else region.lam[int(np.argmax(f.pick[i]))]
            nearest = max(abs(own) - R, 0.0)
            weight = 1 / (1 + exp(-own))
            up.append(1 / (1 + exp(-own - R)))
            slopes.append(1 / (2 + exp(nearest) + exp(-nearest)))
            bent.append(S * (1 - S * S) / 4)
        else:
            up, slopes, bent = [*up, 1.0], [*slopes, 0.0], [*bent, 0.0]
        losses.append(-np.log(p @ hot) + sqrt(2) * length[i] * r)
        gradient += weight * np.outer(p - hot, x).ravel() / N
    hess_ww = reg + _largest(sum(a * np.outer(x, x) for a, x in zip(up, f.X, strict=True))) / 2 / N
    both = _norm([a * x for a, x in zip(slopes, f.X, strict=True)]) / N
    q = (1 - 1 / sqrt(3)) / 2  # where q(1 − q)(1 − 2q) is largest
    third = q * (1 - q) * (1 - 2 * q) * 2**1.5
    ridge_part = reg * (_norm(w) + r)
    cubed = sum(a * b * np.outer(x, x) for a, b, x in zip(up, length, f.X, strict=True))
    return {
        "hess_ww": hess_ww,
        "hess_ww_min": reg,
        "cross": sqrt(2) * both,
        "hess_ll": max(a * b for a, b in zip(bent, losses, strict=True)) / N,
        "hess_ww_by_w": third * _largest(cubed) / N,
        "hess_ww_by_lam": max(length) * both / 2,
        "cross_by_w": max(length) * both / 2,
        "cross_by_lam": sqrt(2) * max(a * b for a, b in zip(bent, length, strict=True)) / N,
    }, [
        _norm(gradient + reg * w) + hess_ww * r + sqrt(2) * both * R,
        ridge_part + sqrt(2) * sum(a * b for a, b in zip(up, length, strict=True)) / N,
        ridge_part + sqrt(2) * sqrt(sum(a * a for a in up)) * _norm(f.X) / N,
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
    return found


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
    if isinstance(thing, rows.Penalised) and not thing.log and size == "large":
        lam = lam - 6.0  # a penalty so negative that the most negative eigenvalue is the largest in size
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
