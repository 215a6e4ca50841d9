"""Rows for `enumeration`: the sum over all masks as plain code writes it, one product per chunk of masks.

Each takes a `Task` and returns a function of no arguments that gives [E loss, dW by rows, db, da, dc]. None of them
splits the bits of the masks; scale 1/keep_prob, hidden units tanh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Run = Callable[[], Any]
CHUNK = 2048  # masks; the fastest of the powers of two for the NumPy row on the machine of the figures


@dataclass(frozen=True)
class Task:
    """8–n–1 tanh network, batch 32."""

    X: np.ndarray
    y: np.ndarray
    W: np.ndarray
    b: np.ndarray
    a: np.ndarray
    c: float
    keep: float
    loss: str

    @property
    def n(self) -> int:
        return len(self.a)

    @property
    def weights(self) -> tuple[Any, ...]:
        return self.W, self.b, self.a, self.c


def task(n: int, loss: str, *, factor: float = 1.0, batch: int = 32, width: int = 8, seed: int = 0) -> Task:
    """Standard normal data and weights of standard deviation 1/sqrt(inputs), times ``factor``; keep_prob 0.8."""
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((batch, width)), rng.standard_normal(batch)
    W = rng.standard_normal((n, width)) / width**0.5
    b, a = 0.1 * rng.standard_normal(n), rng.standard_normal(n) / n**0.5
    labels = np.where(y > 0, 1.0, -1.0) if loss == "logistic" else y
    return Task(X, labels, factor * W, factor * b, factor * a, 0.1 * factor, 0.8, loss)


def masks_of(xp: Any, start: Any, n: int) -> Any:
    """The masks start … start + CHUNK − 1 and their bits, with any library that has arange."""
    return (start + xp.arange(min(CHUNK, 2**n)))[:, None] >> xp.arange(n)[None, :] & 1


def chunked_numpy(t: Task, absolute: bool = False) -> Run:
    """Forward and backward pass by hand; ``absolute``: the sum of the terms' absolute values instead."""

    def run() -> np.ndarray:
        h = np.tanh(t.X @ t.W.T + t.b)
        batch, scaled = len(t.y), h * t.a / t.keep
        value, slope, joint = 0.0, np.zeros(batch), np.zeros((batch, t.n))
        for start in range(0, 2**t.n, CHUNK):
            masks = masks_of(np, start, t.n).astype(float)
            kept = masks.sum(1)
            p = t.keep**kept * (1 - t.keep) ** (t.n - kept)
            z = scaled @ masks.T + t.c
            if t.loss == "squared":
                first = z - t.y[:, None]
                terms = first * first / 2
            else:
                e = np.exp(-t.y[:, None] * z)
                terms, first = np.log1p(e), -t.y[:, None] * (e / (1 + e))
            weighted = p * (np.abs(first) if absolute else first)
            value += (terms @ p).sum()
            slope += weighted.sum(1)
            joint += weighted @ masks
        X, a, h0 = (np.abs(v) if absolute else v for v in (t.X, t.a, h))
        outer = joint / (t.keep * batch)
        inner = outer * a * (1 - h * h)
        parts = (
            [value / batch],
            (inner.T @ X).ravel(),
            inner.sum(0),
            (outer * h0).sum(0),
            [slope.sum() / batch],
        )
        return np.concatenate(parts)

    return run


def _loss(xp: Any, softplus: Callable[[Any], Any], t: Task, X: Any, y: Any, weights: Any, masks: Any) -> Any:
    """Mean loss of every mask of a chunk: (masks,)."""
    W, b, a, c = weights
    z = masks @ (xp.tanh(X @ W.T + b) * a / t.keep).T + c
    terms = (z - y) ** 2 / 2 if t.loss == "squared" else softplus(-y * z)
    return terms.mean(1)


def chunked_autograd(t: Task) -> Run:
    """The loss of a chunk under autograd."""
    import autograd
    import autograd.numpy as anp

    shapes = [np.shape(w) for w in t.weights]
    ends = np.cumsum([int(np.prod(s)) for s in shapes])

    def chunk(theta: Any, masks: Any, p: Any) -> Any:
        parts = [theta[e - int(np.prod(s)) : e].reshape(s) for s, e in zip(shapes, ends, strict=True)]
        W, b, a, c = parts
        z = anp.dot(masks, (anp.tanh(anp.dot(t.X, W.T) + b) * a / t.keep).T) + c
        terms = (z - t.y) ** 2 / 2 if t.loss == "squared" else anp.logaddexp(0.0, -t.y * z)
        return anp.dot(p, anp.mean(terms, 1))

    both = autograd.value_and_grad(chunk)
    theta = np.concatenate([np.ravel(w) for w in t.weights])

    def run() -> np.ndarray:
        total: Any = 0.0
        for start in range(0, 2**t.n, CHUNK):
            masks = masks_of(np, start, t.n).astype(float)
            kept = masks.sum(1)
            value, gradient = both(theta, masks, t.keep**kept * (1 - t.keep) ** (t.n - kept))
            total = total + np.concatenate([[value], gradient])
        return total

    return run


def chunked_jax(t: Task, per_mask: bool = False) -> Run:
    """One compiled scan over the chunks; ``per_mask``: a network per mask under vmap, instead of one product."""
    import jax
    import jax.numpy as jnp

    X, y = jnp.asarray(t.X), jnp.asarray(t.y)

    def one(weights: Any, mask: Any) -> Any:
        W, b, a, c = weights
        z = (jnp.tanh(X @ W.T + b) * mask / t.keep) @ a + c
        return ((z - y) ** 2 / 2 if t.loss == "squared" else jax.nn.softplus(-y * z)).mean()

    def chunk(weights: Any, start: Any) -> Any:
        masks = masks_of(jnp, start, t.n).astype(float)
        kept = masks.sum(1)
        p = t.keep**kept * (1 - t.keep) ** (t.n - kept)
        if per_mask:
            return p @ jax.vmap(one, (None, 0))(weights, masks)
        return p @ _loss(jnp, jax.nn.softplus, t, X, y, weights, masks)

    @jax.jit
    def run(weights: Any) -> Any:
        def step(total: Any, start: Any) -> Any:
            return jax.tree.map(jnp.add, total, jax.value_and_grad(chunk)(weights, start)), None

        zero = jax.tree.map(jnp.zeros_like, (jnp.asarray(0.0), weights))
        return jax.lax.scan(step, zero, jnp.arange(0, 2**t.n, CHUNK))[0]

    weights = tuple(jnp.asarray(w) for w in t.weights)

    def flat() -> np.ndarray:
        value, gradient = run(weights)
        return np.concatenate([np.ravel(v) for v in (value, *gradient)])

    return flat


def chunked_torch(t: Task) -> Run:
    """A backward pass per chunk."""
    import torch

    torch.set_num_threads(1)
    X, y = torch.from_numpy(t.X), torch.from_numpy(t.y)

    def run() -> np.ndarray:
        weights = [torch.tensor(w, dtype=torch.float64, requires_grad=True) for w in t.weights]
        total = 0.0
        for start in range(0, 2**t.n, CHUNK):
            masks = masks_of(torch, start, t.n).double()
            kept = masks.sum(1)
            p = t.keep**kept * (1 - t.keep) ** (t.n - kept)
            value = p @ _loss(torch, torch.nn.functional.softplus, t, X, y, weights, masks)
            value.backward()
            total += value.item()
        return np.concatenate([[total], *(np.ravel(w.grad.numpy()) for w in weights)])

    return run
