"""Literal twins of curvature under dropout: every mask and sample in turn, by loops, and what rounding allows them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from refimpl.networks import ACTIVATIONS, MLP, loss
from tests.network_things import BY_HAND, Known, constant, evaluate, leaf

DRAWS = ("one sample", "own masks", "shared mask")
ROUGH = {name for name, a in ACTIVATIONS.items() if a.homogeneous}  # a'' = 0 away from kinks


# -- cases ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    """A loss, a point, and keep probabilities of its last hidden layer's units."""

    f: Any
    lam: np.ndarray
    w: np.ndarray
    keep: tuple[Any, ...]
    scale: str

    @property
    def dropped(self) -> Any:
        """The library's expectation over masks of the last hidden layer."""
        masks = self.f.net.last_masks(list(self.keep))
        return self.f.with_dropout(masks, site="activations", scale=self.scale)

    @property
    def masks(self) -> list[tuple[Any, list[Any]]]:
        """(probability, what multiplies each unit) of every mask."""
        return all_masks([*[1] * (self.f.units - len(self.keep)), *self.keep], self.scale)


def random_case(seed: int, kind: str = "squared") -> Case:
    """2 to 4 layers, 1 to 8 masked units or 12, 1 to 3 outputs: the kinds take turns, numbers are drawn."""
    rng = np.random.default_rng([seed, 17])
    activation = list(ACTIVATIONS)[seed % 7]
    hidden = (*rng.integers(1, 5, seed // 7 % 3).tolist(), 12 if seed % 25 == 24 else 1 + seed % 8)
    outputs = (2 if kind == "softmax" else 1) + seed % (2 if kind == "softmax" else 3)
    net = MLP((int(rng.integers(1, 4)), *hidden, outputs), activation)
    N = 2 + seed % 4
    y = rng.integers(0, outputs, N) if kind == "softmax" else rng.standard_normal((N, outputs))
    X, weighted = rng.standard_normal((N, net.widths[0])), seed // 2 % 2 == 1
    f = loss(net, X, y, loss=kind, reg=0.25 * (seed % 3), weighted=weighted)
    keep = rng.uniform(0.2, 0.95, hidden[-1]).tolist()
    if seed % 5 == 0:
        keep[-1] = 1
    w = rng.standard_normal(f.d)
    return Case(f, rng.standard_normal(f.n), w, tuple(keep), ("none", "inverse")[seed % 2])


def small_case(
    activation: str = "relu",
    kind: str = "squared",
    hidden: tuple[int, ...] = (2, 2),
    outputs: int = 2,
    scale: str = "inverse",
    weighted: bool = False,
    seed: int = 0,
) -> Case:
    """Few parameters, short fractions everywhere, three samples, unequal keep probabilities."""
    rng = np.random.default_rng([seed, 18])
    net = MLP((1, *hidden, outputs), activation)
    X, targets = _eighths(rng, (3, 1)), _eighths(rng, (3, outputs))
    y = np.arange(3) % outputs if kind == "softmax" else targets
    f = loss(net, X, y, loss=kind, reg=0.5, weighted=weighted)
    keep = tuple(Fraction(k + 1, 5) for k in range(hidden[-1]))
    for _ in range(1000):
        w, lam = _eighths(rng, (f.d,)), _eighths(rng, (f.n,))
        alive = np.ptp(f.scores(w), axis=-1).min() > 0 and f.net.layers(w)[-1].all()
        if alive and f.kink_distance(lam, w) > 0:
            return Case(f, lam, w, keep, scale)
    raise AssertionError("no such point")


def _eighths(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.round(8 * rng.standard_normal(shape)) / 8


def all_masks(
    keep: Sequence[Any], scale: str, groups: Sequence[int] | None = None
) -> list[tuple[Any, list[Any]]]:
    """Every row of zeros and ones, one bit for each variable, its probability, and its units' factors."""
    found = []
    choices = [(1,) if p == 1 else (0,) if p == 0 else (0, 1) for p in keep]
    for bits in itertools.product(*choices):
        chance = 1
        for bit, p in zip(bits, keep, strict=True):
            chance = chance * (p if bit else 1 - p)
        factors = [
            bit / p if scale == "inverse" else bit * (p / p if p else 1)
            for bit, p in zip(bits, keep, strict=True)
        ]
        found.append((chance, factors if groups is None else [factors[g] for g in groups]))
    return found


# -- first and second derivatives, in hyper-dual numbers ---------------------------------------------------------
def second_by_hand(f: Any, lam: Any, w: Any, number: Any = float, samples: Any = None) -> dict[str, Known]:
    """Gradient (d,) and Hessian (d, d) in w: ε₁ runs over the rows, ε₂ over the columns, all at once."""
    d = len(w)
    eye = np.array([[number(i == k) for k in range(d)] for i in range(d)])
    inputs = [leaf(number(x), eye[:, i : i + 1], eye[i : i + 1], 0) for i, x in enumerate(w)]
    every = range(f.count) if samples is None else samples
    out = evaluate(f, [constant(number(x)) for x in lam], inputs, number, every)
    _, first, _, both = out.parts
    _, of_first, _, of_both = out.sizes or (0, 0 * first, 0, 0 * both)
    return {"grad_w": Known(first[:, 0], of_first[:, 0]), "hess_ww": Known(both, of_both)}


def expected_by_hand(
    f: Any, lam: Any, w: Any, masks: list[tuple[Any, list[Any]]], number: Any = float
) -> dict[str, Known]:
    """E over masks of the units, one after the other."""
    found: dict[str, Any] = {}
    for chance, mask in masks:
        one = second_by_hand(under(f, mask, number), lam, w, number)
        for name, known in one.items():
            value, terms = found.get(name, (0, 0))
            found[name] = (value + number(chance) * known.value, terms + number(chance) * known.terms)
    return {name: Known(*parts) for name, parts in found.items()}


def under(f: Any, mask: Sequence[Any], number: Any = float) -> Any:
    """f whose twin multiplies the units by these numbers, fractions too."""
    return dataclasses.replace(f, mask=np.array([number(m) for m in mask])[:, None])


# -- gradients of every sample under every mask --------------------------------------------------------------------
def gradients_by_hand(f: Any, w: Any, masks: list[tuple[Any, list[Any]]]) -> np.ndarray:
    """(masks, N, P) in fractions: ε₁ runs over the parameters."""
    d, N = len(w), f.count
    eye = np.array([[Fraction(i == k) for k in range(d)] for i in range(d)])
    inputs = [leaf(Fraction(x), eye[i], 0, 0) for i, x in enumerate(w)]
    found = [
        [evaluate(under(f, mask, Fraction), [], inputs, Fraction, [i]).parts[1] for i in range(N)]
        for _, mask in masks
    ]
    return np.array(found)


def gradients(f: Any, lam: Any, w: Any, masks: np.ndarray) -> Known:
    """(masks, N, P) by backpropagation as in a textbook, sample after sample; masks (M, units).

    ``terms`` carries Σ|terms| through the same formulas: each step's error is eps times it.
    """
    found = [_gradient(f, lam, w, masks, i) for i in range(f.count)]
    value, terms = (np.stack([x[k] for x in found], axis=1) for k in (0, 1))
    return Known(value + f.reg * w, terms + abs(f.reg * w))


def _gradient(f: Any, lam: Any, w: Any, masks: np.ndarray, i: int) -> tuple[np.ndarray, np.ndarray]:
    widths, used, seen = f.net.widths, 0, 0
    h = f.X[i][None]
    H = abs(h)
    steps = []
    for l, (inputs, units) in enumerate(itertools.pairwise(widths)):  # noqa: E741  # the layer
        A = w[used : used + units * (inputs + 1)].reshape(units, inputs + 1)
        used += units * (inputs + 1)
        before, Before = h, H
        z = h @ A[:, :-1].T + A[:, -1]
        Z = H @ abs(A[:, :-1]).T + abs(A[:, -1])
        if l == len(widths) - 2:
            steps.append((A, before, Before, 1.0, 1.0))
            break
        name = f.net.activations[l]
        value, slope, bend, _ = np.vectorize(BY_HAND[name], otypes=[float] * 4)(z)
        mask = masks[:, seen : seen + units]
        seen += units
        mask = np.ones((1, 1)) if (mask == 1).all() else mask
        # |a'| <= 1 and |a''| <= 1 for every activation: errors of z move a and a' by no more
        h, H = mask * value, abs(mask) * (abs(value) + Z)
        slopes = abs(slope) + (0 if name in ROUGH else abs(bend) + Z)
        steps.append((A, before, Before, mask * slope, abs(mask) * slopes))
    weight = 1 / (1 + np.exp(-lam[i])) if f.weighted else 1.0
    y = f.y[:, i]
    if f.loss == "squared":
        delta, Delta = weight * (z - y), weight * (Z + abs(y))
    else:
        e = np.exp(z - z.max(-1, keepdims=True))
        p = e / e.sum(-1, keepdims=True)
        delta, Delta = weight * (p - y), weight * (p * (1 + 2 * Z.max(-1, keepdims=True)) + y)
    parts, sizes = [], []
    for l in reversed(range(len(steps))):  # noqa: E741  # as above
        A, x, X, _, _ = steps[l]
        parts.insert(0, _outer(delta, x, len(masks)))
        sizes.insert(0, _outer(Delta, X, len(masks)))
        if l:
            delta, Delta = (delta @ A[:, :-1]) * steps[l - 1][3], (Delta @ abs(A[:, :-1])) * steps[l - 1][4]
    return np.concatenate(parts, axis=-1), np.concatenate(sizes, axis=-1)


def _outer(delta: np.ndarray, x: np.ndarray, count: int) -> np.ndarray:
    one = np.concatenate([x, np.ones((len(x), 1))], axis=-1)
    both = delta[:, :, None] * one[:, None, :]
    return np.broadcast_to(both.reshape(len(both), -1), (count, both.shape[1] * both.shape[2]))


# -- covariances -----------------------------------------------------------------------------------------
def covariances(case: Case) -> dict[str, Known]:
    """The three matrices as literal sums over masks and samples of outer products."""
    masks = case.masks
    chances, M = np.array([float(p) for p, _ in masks]), np.array([[float(x) for x in m] for _, m in masks])
    return of_table(gradients(case.f, case.lam, case.w, M), chances)


def of_table(G: Known, chances: np.ndarray) -> dict[str, Known]:
    """The same of gradients (masks, N, P) that are there."""
    N, P = G.value.shape[1:]
    mean = [Known(g, t) for g, t in zip(G.value.swapaxes(0, 1), G.terms.swapaxes(0, 1), strict=True)]
    own = [_covariance(g, chances) for g in mean]
    every = Known(G.value.reshape(-1, P), G.terms.reshape(-1, P))
    return {
        "one sample": _covariance(every, np.repeat(chances / N, N)),
        "own masks": Known(sum(k.value for k in own) / N**2, sum(k.terms for k in own) / N**2),
        "shared mask": _covariance(Known(G.value.mean(1), G.terms.mean(1)), chances),
    }


def _covariance(g: Known, chances: np.ndarray) -> Known:
    """Σ p (g − Eg)(g − Eg)ᵀ, and Σ p |·||·|ᵀ of what rounding sees; summed in runs of about √masks."""
    value, terms = g.value - chances @ g.value, g.terms + chances @ g.terms
    return Known(_in_runs(value, chances), _in_runs(terms, chances))


def _in_runs(x: np.ndarray, chances: np.ndarray) -> np.ndarray:
    step = runs(len(x))
    parts = [(x[k : k + step].T * chances[k : k + step]) @ x[k : k + step] for k in range(0, len(x), step)]
    return np.sum(parts, axis=0)


def runs(count: int) -> int:
    """Their length."""
    return max(1, round(count**0.5))


def exact_covariance(G: np.ndarray, chances: Sequence[Fraction], draw: str) -> list[list[Fraction]]:
    """The same in fractions, entry by entry; G (masks, N, P)."""
    N = G.shape[1]
    if draw == "shared mask":
        rows, p = list(G.sum(1) / Fraction(N)), list(chances)
        return _moment(rows, p).tolist()
    if draw == "own masks":
        return sum(_moment(list(G[:, i]), list(chances)) / Fraction(N * N) for i in range(N)).tolist()
    rows = [g for table in G for g in table]
    return _moment(rows, [c / N for c in chances for _ in range(N)]).tolist()


def _moment(rows: list[np.ndarray], p: list[Fraction]) -> Any:
    mean = sum(c * g for c, g in zip(p, rows, strict=True))
    return sum(c * np.outer(g - mean, g - mean) for c, g in zip(p, rows, strict=True))


def steps(f: Any, masks: int) -> int:
    """Operations in the longest chain from the data to a covariance: passes, samples, masks in runs."""
    return 3 * (sum(f.net.widths) + len(f.net.widths)) + f.count + 2 * runs(masks * f.count)
