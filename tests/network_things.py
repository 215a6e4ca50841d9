"""Network losses by name, and their literal twin: loops over samples, units and weights in hyper-dual numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from refimpl.networks import ACTIVATIONS, MLP, SharedLoss, loss, shared

INPUTS, OUTPUTS, SAMPLES, TASKS, REG = 2, 3, 4, 2, 0.25
DEPTHS = {"linear model": (), "one hidden": (3,), "two hidden": (3, 2)}
FAR = 2.0**-7  # further than this from every kink: finite steps of the checks do not cross one


def data(kind: str, seed: int, lead: tuple[int, ...] = (SAMPLES,)) -> tuple[np.ndarray, np.ndarray]:
    """Rows and their labels or targets, multiples of 1/8: short fractions."""
    rng = np.random.default_rng(seed)
    X, y = (np.round(8 * rng.standard_normal((*lead, k))) / 8 for k in (INPUTS, OUTPUTS))
    return X, rng.integers(0, OUTPUTS, lead) if kind == "softmax" else y


def network(activation: str, kind: str, hidden: tuple[int, ...], weighted: bool, reg: float = REG) -> Any:
    """A loss of a small network; an unweighted one has a λ that does not enter."""
    net = MLP((INPUTS, *hidden, OUTPUTS), activation)
    return loss(net, *data(kind, 1), loss=kind, reg=reg, weighted=weighted, n=0 if weighted else 2)


def tasks(activation: str, kind: str) -> SharedLoss:
    """Two tasks on one small body."""
    body = MLP((INPUTS, 3, 2), activation, body=True)
    return shared(body, *data(kind, 2, (TASKS, SAMPLES)), outputs=OUTPUTS, loss=kind, reg=REG)


THINGS: dict[str, Callable[[], Any]] = {
    f"{a}, {kind}, {depth}{', weighted' if weighted else ''}": lambda a=a, k=kind, h=hidden, s=weighted: (
        network(a, k, h, s)
    )
    for a, kind, (depth, hidden), weighted in itertools.product(
        ACTIVATIONS, ("softmax", "squared"), DEPTHS.items(), (False, True)
    )
    if hidden or a == "linear"
}
SHARED: dict[str, Callable[[], Any]] = {
    f"{a}, {kind}, shared": lambda a=a, k=kind: tasks(a, k)
    for a, kind in itertools.product(ACTIVATIONS, ("softmax", "squared"))
}


def point(f: Any, seed: int, lam_lead: tuple[int, ...] = (), w_lead: tuple[int, ...] = ()) -> Any:
    """λ and w that are ``FAR`` from every kink, at which no layer is dead: the outputs depend on the sample."""
    for attempt in range(1000):
        rng = np.random.default_rng([seed, attempt])
        lam, w = rng.standard_normal((*lam_lead, f.n)), rng.standard_normal((*w_lead, f.d))
        scores = f.scores(lam, w) if isinstance(f, SharedLoss) else f.scores(w)
        if np.min(f.kink_distance(lam, w)) > FAR and np.min(np.ptp(scores, axis=-1)) > FAR:
            return lam, w
    raise AssertionError("no such point")


# -- the twin -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Number:
    """f + f₁ε₁ + f₂ε₂ + f₁₂ε₁ε₂ with ε₁² = ε₂² = 0 (hyper-dual numbers: exact second derivatives).

    ``sizes`` holds Σ|terms| of each part: it grows under sums and products so that k operations in a chain have made
    an error of at most k eps times it (to first order in eps). Fractions make none, and have no sizes.
    """

    parts: tuple[Any, ...]
    sizes: tuple[Any, ...]

    def __add__(self, other: Number) -> Number:
        parts = tuple(a + b for a, b in zip(self.parts, other.parts, strict=True))
        return Number(parts, tuple(p + q for p, q in zip(self.sizes, other.sizes, strict=False)))

    def __sub__(self, other: Number) -> Number:
        return self + other * Number((-1, 0, 0, 0), (1, 0, 0, 0))

    def __mul__(self, other: Number) -> Number:
        a, b, p, q = self.parts, other.parts, self.sizes, other.sizes
        parts = tuple(sum(a[i] * b[j] for i, j in pairs) for pairs in LEIBNIZ)
        if not (p and q):
            return Number(parts, ())
        return Number(
            parts, tuple(sum(abs(a[i]) * q[j] + p[i] * abs(b[j]) for i, j in pairs) for pairs in LEIBNIZ)
        )

    def of(self, g: Callable[[Any], tuple[Any, Any, Any, Any]]) -> Number:
        """g of it; g(x) gives value, two derivatives, and a bound of the third."""
        f, f1, f2, f12 = self.parts
        g0, g1, g2, g3 = g(f)
        parts = (g0, g1 * f1, g1 * f2, g2 * f1 * f2 + g1 * f12)
        if not self.sizes:
            return Number(parts, ())
        m, m1, m2, m12 = self.sizes
        s1, s2 = abs(g1) + abs(g2) * m, abs(g2) + abs(g3) * m  # of the two derivatives
        both = s1 * abs(f12) + s2 * abs(f1 * f2) + abs(g2) * (m1 * abs(f2) + abs(f1) * m2)
        first = (abs(g1) * m1 + s1 * abs(f1), abs(g1) * m2 + s1 * abs(f2))
        return Number(parts, (abs(g0) + abs(g1) * m, *first, abs(g1) * m12 + both))


LEIBNIZ = (((0, 0),), ((1, 0), (0, 1)), ((2, 0), (0, 2)), ((3, 0), (1, 2), (2, 1), (0, 3)))


def leaf(*parts: Any) -> Number:
    """A number that is given, not computed."""
    return Number(parts, () if isinstance(parts[0], Fraction) else tuple(abs(p) for p in parts))


def constant(x: Any) -> Number:
    return leaf(x, 0, 0, 0)


def _sigmoid(x: float) -> tuple[float, float, float, float]:
    e = math.exp(-x)
    return 1 / (1 + e), e / (1 + e) ** 2, e * (e - 1) / (1 + e) ** 3, 1 / 8


def _centred(x: float) -> tuple[float, float, float, float]:
    e = math.exp(-x)
    return (1 - e) / (2 + 2 * e), e / (1 + e) ** 2, e * (e - 1) / (1 + e) ** 3, 1 / 8


def _softplus(x: float) -> tuple[float, float, float, float]:
    return math.log(1 + math.exp(x)), *_sigmoid(x)[:3]


def _tanh(x: float) -> tuple[float, float, float, float]:
    return math.tanh(x), math.cosh(x) ** -2, -2 * math.sinh(x) / math.cosh(x) ** 3, 2.0


BY_HAND: dict[str, Callable[[Any], tuple[Any, Any, Any, Any]]] = {
    "linear": lambda x: (x, 1, 0, 0),
    "relu": lambda x: (x, 1, 0, 0) if x > 0 else (0 * x, 0, 0, 0),
    "leaky_relu": lambda x: (x, 1, 0, 0) if x > 0 else (x / 8, Fraction(1, 8) * type(x)(1), 0, 0),
    "tanh": _tanh,
    "centred_sigmoid": _centred,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
}


def _total(terms: Sequence[Number]) -> Number:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _layer(
    rows: Any, x: Sequence[Number], activation: str | None, mask: Sequence[Any] | None
) -> list[Number]:
    z = [_total([w * h for w, h in zip(row, x, strict=False)]) + row[-1] for row in rows]
    if activation is None:
        return z
    a = [unit.of(BY_HAND[activation]) for unit in z]
    return a if mask is None else [constant(m) * unit for m, unit in zip(mask, a, strict=True)]


def _run(net: MLP, theta: list[Number], x: list[Number], mask: Sequence[Any] | None) -> list[Number]:
    """The network's output: parameters are read in order, row after row, the bias last."""
    used, seen = 0, 0
    for index, (inputs, units) in enumerate(itertools.pairwise(net.widths)):
        rows = [theta[used + k * (inputs + 1) : used + (k + 1) * (inputs + 1)] for k in range(units)]
        used += units * (inputs + 1)
        hidden = index < len(net.activations)
        own = None if mask is None or not hidden else mask[seen : seen + units]
        x = _layer(rows, x, net.activations[index] if hidden else None, own)
        seen += units
    return x


def _sample(kind: str, z: list[Number], y: Sequence[Any]) -> Number:
    if kind == "squared":
        gaps = [a - constant(t) for a, t in zip(z, y, strict=True)]
        return _total([g * g for g in gaps]) * constant(type(y[0])(1) / 2)
    shift = max(a.parts[0] for a in z)
    exps = [(a - constant(shift)).of(lambda x: (math.exp(x),) * 4) for a in z]
    log = _total(exps).of(lambda s: (math.log(s), 1 / s, -1 / s**2, 2 / s**3))
    return log + constant(shift) - z[int(np.argmax(y))]


def _mask_of(f: Any, i: int, number: Any) -> list[Any] | None:
    """The units' factors for sample i: all samples share a network's masks, or each column is one sample's."""
    if f.mask is None:
        return None
    columns = f.mask[:, None] if isinstance(f, SharedLoss) else f.mask
    return [number(m) for m in columns[:, i if columns.shape[-1] > 1 else 0].tolist()]


def evaluate(f: Any, lam: list[Number], w: list[Number], number: Any, samples: Sequence[int]) -> Number:
    """f(λ, w) over the given samples, term by term."""

    def row(values: Any) -> list[Any]:
        return [number(float(t)) for t in values]

    terms = []
    for i in samples:
        mask = _mask_of(f, i, number)
        if isinstance(f, SharedLoss):
            columns, size = f.body.widths[-1] + 1, OUTPUTS * (f.body.widths[-1] + 1)
            for j in range(TASKS):
                x = _run(f.body, lam, [constant(t) for t in row(f.X[j, i])], mask)
                head = [w[j * size + k * columns : j * size + (k + 1) * columns] for k in range(OUTPUTS)]
                terms.append(_sample(f.loss, _layer(head, x, None, None), row(f.y[j, :, i])))
            continue
        x = _run(f.net, w, [constant(t) for t in row(f.X[i])], mask)
        term = _sample(f.loss, x, row(f.y[:, i]))
        terms.append(lam[i].of(_sigmoid) * term if f.weighted else term)
    mean = _total(terms) * constant(number(1) / len(terms))
    return mean + _total([x * x for x in w]) * constant(number(f.reg) / 2)


@dataclass(frozen=True)
class Known:
    """A quantity and the sizes of its terms."""

    value: np.ndarray
    terms: np.ndarray


def by_hand(
    f: Any,
    lam: Any,
    w: Any,
    u: Any,
    v: Any,
    *,
    number: Any = float,
    samples: Sequence[int] = tuple(range(SAMPLES)),
) -> dict[str, Known]:
    """Every quantity at one point: ε₁ runs over all coordinates at once, ε₂ along (0, v) and then (u, 0)."""
    n, length = len(lam), len(lam) + len(w)
    found = []
    for direction in ([0] * n + list(v), list(u) + [0] * len(w)):
        inputs = []
        for k, (x, along) in enumerate(zip([*lam, *w], direction, strict=True)):
            unit = np.array([number(k == i) for i in range(length)])
            inputs.append(leaf(number(x), unit, number(along), 0 * unit))
        out = evaluate(f, inputs[:n], inputs[n:], number, samples)
        along_all = [
            np.array(x + np.zeros(length, dtype=int)) for x in (*out.parts, *(out.sizes or (0,) * 4))
        ]
        found.append(along_all)
    (f0, f1, _, fv, m0, m1, _, mv), (_, _, _, fu, _, _, _, mu) = found
    cut = {
        "value": (f0[0], m0[0]),
        "grad_lam": (f1[:n], m1[:n]),
        "grad_w": (f1[n:], m1[n:]),
        "hess_ww @": (fv[n:], mv[n:]),
        "cross @": (fv[:n], mv[:n]),
        "cross.T @": (fu[n:], mu[n:]),
    }
    return {name: Known(np.asarray(value), np.asarray(terms)) for name, (value, terms) in cut.items()}
