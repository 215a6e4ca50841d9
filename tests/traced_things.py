"""Small convolutional, residual and transformer networks, and their literal twins: loops over samples and positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from refimpl.networks.traced import Convolutional, Residual, Transformer, traced_loss
from refimpl.networks.traced.transformer import EPSILON

SAMPLES, CLASSES, REG = 4, 3, 0.25


def images(side: int, planes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((SAMPLES, planes * side**2)), rng.integers(0, CLASSES, SAMPLES)


def sentences(net: Transformer, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, net.words, (SAMPLES, net.features))
    rows[:, net.source] = net.words
    return rows, rng.integers(0, net.words, (SAMPLES, net.target))


def networks(activation: str) -> dict[str, Any]:
    """One of each architecture, with every option once."""
    return {
        "pooled": Convolutional(4, ((2, 2), (1,)), CLASSES, planes=2, activation=activation),
        "convolved": Convolutional(
            4, ((2,), (3,)), CLASSES, activation=activation, dropout="convolution", drop="channels"
        ),
        "residual": Residual(4, (2, 3), CLASSES, planes=2, activation=activation),
        "deep residual": Residual(2, (2, 2), CLASSES, depth=2, activation=activation, drop="channels"),
        "transformer": Transformer(
            3, source=2, target=3, d_model=4, d_ff=3, heads=2, d_head=2, activation=activation
        ),
        "deep transformer": Transformer(
            2, 3, 2, d_model=2, d_ff=2, heads=1, d_head=3, layers=2, activation=activation, drop="channels"
        ),
    }


def traced(name: str, activation: str = "tanh", **options: Any) -> Any:
    """The loss of one of these networks over four samples."""
    net = networks(activation)[name]
    data = sentences(net) if net.tokens else images(net.side, net.planes)
    return traced_loss(net, *data, **{"reg": REG, **options})


def at(f: Any, seed: int, w_lead: tuple[int, ...] = (), lam_lead: tuple[int, ...] = ()) -> Any:
    """λ, w and two vectors u, v."""
    rng = np.random.default_rng([seed, 7])
    lam, u = rng.standard_normal((*lam_lead, f.n)), rng.standard_normal(f.n)
    w, v = rng.standard_normal((*w_lead, f.d)) / 2, rng.standard_normal(f.d)
    return lam, w, u, v


# -- the twins ----------------------------------------------------------------------------------------------
def act(name: str, z: Any) -> np.ndarray:
    return np.vectorize({"tanh": math.tanh, "relu": lambda x: max(x, 0.0)}[name])(z)


def convolved(W: np.ndarray, h: np.ndarray) -> np.ndarray:
    """SciPy's correlation of every plane, zero outside."""
    from scipy.signal import correlate

    kernel = round(((W.shape[1] - 1) / len(h)) ** 0.5)
    found = []
    for row in W:
        taps = row[:-1].reshape(len(h), kernel, kernel)
        planes = [correlate(p, t, mode="full", method="direct") for p, t in zip(h, taps, strict=True)]
        r = kernel // 2
        found.append(sum(planes)[r : r + h.shape[1], r : r + h.shape[2]] + row[-1])
    return np.array(found)


def pooled(h: np.ndarray, k: int) -> np.ndarray:
    planes, side = len(h), h.shape[1] // k
    found = np.empty((planes, side, side))
    for c, i, j in np.ndindex(*found.shape):
        found[c, i, j] = h[c, k * i : k * i + k, k * j : k * j + k].mean()
    return found


def masks_of(net: Any, mask: np.ndarray) -> dict[str, np.ndarray]:
    """One sample's mask (units,), cut into the sites' shapes."""
    cuts = np.split(mask, np.cumsum([math.prod(s.shape) for s in net.sites])[:-1])
    return {s.name: cut.reshape(s.shape) for s, cut in zip(net.sites, cuts, strict=True)}


def scores(net: Any, theta: np.ndarray, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """One sample's scores (*positions, outputs)."""
    W = {b.name: theta[net.spans[b.name]].reshape(b.shape) for b in net.blocks}
    m = masks_of(net, mask)
    if isinstance(net, Transformer):
        return _translated(net, W, x, m)
    h = x.reshape(net.planes, net.side, net.side)
    h = _vgg(net, W, h, m) if isinstance(net, Convolutional) else _residual(net, W, h, m)
    return W["dense"] @ np.append(h.ravel(), 1.0)


def _vgg(net: Convolutional, W: Any, h: np.ndarray, m: Any) -> np.ndarray:
    number = 0
    for stage in net.stages:
        for _ in stage:
            number += 1
            h = act(net.activation, convolved(W[f"convolution {number}"], h))
            if net.dropout == "convolution":
                h = h * m[f"convolution {number}"]
        h = pooled(h, net.pool)
        if net.dropout == "pooling":
            h = h * m[f"convolution {number}"]
    return h


def _residual(net: Residual, W: Any, h: np.ndarray, m: Any) -> np.ndarray:
    h = m["stem"] * act(net.activation, convolved(W["stem"], h))
    for number in range(len(net.channels) * net.depth):
        name, stage = f"block {number + 1}", number // net.depth
        if stage and number % net.depth == 0:
            h = pooled(h, 2)
        inner = m[f"{name}.first"] * act(net.activation, convolved(W[f"{name}.first"], h))
        moved = m[f"{name}.second"] * convolved(W[f"{name}.second"], inner)
        short = np.zeros_like(moved)
        short[: len(h)] = h
        h = act(net.activation, short + moved)
    return pooled(h, h.shape[1])


def _translated(net: Transformer, W: Any, x: np.ndarray, m: Any) -> np.ndarray:
    """Columns are positions, as in the masks (d, T)."""

    def embedded(name: str, words: np.ndarray) -> np.ndarray:
        found = np.empty((net.d_model, len(words)))
        for t, word in enumerate(words):
            for i in range(net.d_model):
                angle = t / 10000 ** (2 * (i // 2) / net.d_model)
                wave = math.sin(angle) if i % 2 == 0 else math.cos(angle)
                found[i, t] = W[name][word, i] * math.sqrt(net.d_model) + wave
        return found * m[name]

    def summed(name: str, h: np.ndarray, moved: np.ndarray) -> np.ndarray:
        z = h + m[name] * moved
        for t in range(z.shape[1]):
            deviation = math.sqrt(z[:, t].var() + EPSILON)
            z[:, t] = (z[:, t] - z[:, t].mean()) / deviation * W[f"{name}.scale"] + W[f"{name}.shift"]
        return z

    def attended(name: str, h: np.ndarray, to: np.ndarray, causal: bool) -> np.ndarray:
        found = np.zeros_like(h)
        for t in range(h.shape[1]):
            heads = []
            for k in range(net.heads):
                rows = slice(k * net.d_head, (k + 1) * net.d_head)
                q = W[f"{name}.query"][rows] @ h[:, t]
                seen = range(t + 1) if causal else range(to.shape[1])
                weights = [
                    math.exp(q @ (W[f"{name}.key"][rows] @ to[:, s]) / math.sqrt(net.d_head)) for s in seen
                ]
                values = [W[f"{name}.value"][rows] @ to[:, s] for s in seen]
                mixed = sum(a * v for a, v in zip(weights, values, strict=True)) / sum(weights)
                heads.append(mixed)
            found[:, t] = W[f"{name}.output"] @ np.concatenate(heads)
        return found

    def forward(name: str, h: np.ndarray) -> np.ndarray:
        columns = []
        for t in range(h.shape[1]):
            inner = act(net.activation, W[f"{name}.in"] @ np.append(h[:, t], 1.0))
            columns.append(W[f"{name}.out"] @ np.append(inner, 1.0))
        return np.array(columns).T

    h = embedded("source embedding", x[: net.source])
    for k in range(net.layers):
        name = f"encoder {k + 1}"
        h = summed(f"{name}.self", h, attended(f"{name}.self", h, h, causal=False))
        h = summed(f"{name}.forward", h, forward(f"{name}.forward", h))
    g = embedded("target embedding", x[net.source :])
    for k in range(net.layers):
        name = f"decoder {k + 1}"
        g = summed(f"{name}.self", g, attended(f"{name}.self", g, g, causal=True))
        g = summed(f"{name}.source", g, attended(f"{name}.source", g, h, causal=False))
        g = summed(f"{name}.forward", g, forward(f"{name}.forward", g))
    return np.array([W["output"] @ np.append(g[:, t], 1.0) for t in range(net.target)])


def by_loops(f: Any, w: np.ndarray, i: int, mask: np.ndarray) -> tuple[np.ndarray, float]:
    """Scores (*positions, outputs) of sample i and its softmax loss, the mean over positions."""
    z = scores(f.architecture, w, f.X[i], mask)
    pairs = zip(np.atleast_2d(z), np.atleast_2d(f.y[..., i]), strict=True)
    logs = [np.log(np.exp(row).sum()) - t @ row for row, t in pairs]
    return z, float(np.mean(logs))
