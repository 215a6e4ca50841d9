"""Exact Hessian and gradient-noise covariances under dropout of the last hidden layer: 10-16-16-1 ReLU, one core.

465 parameters, 64 samples, squared loss, keep_prob 0.8, masks scaled by 1/keep_prob. The public functions beside JAX:
``jax.hessian`` of the expected loss in closed form, and vmap(grad) over the 2^16 masks of one sample.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import harness

EPS = 2.0**-52
WIDTHS, SAMPLES, KEEP = (10, 16, 16, 1), 64, 0.8
CHUNK = 2048  # masks at a time in the rows that form whole gradients
HESSIAN, CLOSED, HALVES = "refimpl hessian", "refimpl noise (closed form)", "refimpl noise (every mask)"
JAX_HESSIAN, JAX_MASKS = "jax.hessian", "jax vmap(grad), ONE sample"
Run = Callable[[], Any]


@dataclass(frozen=True)
class Task:
    """Rows X, targets y, and parameters w: layer after layer (out, in + 1), the bias last."""

    X: np.ndarray
    y: np.ndarray
    w: np.ndarray
    widths: tuple[int, ...]

    def first(self, count: int) -> Task:
        """The first sample, so many times: the mean over copies is that of one, at the cost of all of them."""
        return dataclasses.replace(self, X=np.repeat(self.X[:1], count, 0), y=np.repeat(self.y[:1], count))

    def layers(self, xp: Any, w: Any) -> list[Any]:
        """Each layer's matrix."""
        sizes = [b * (a + 1) for a, b in itertools.pairwise(self.widths)]
        stops = np.cumsum([0, *sizes]).tolist()
        return [
            xp.reshape(w[start:stop], (b, a + 1))
            for start, stop, a, b in zip(stops, stops[1:], self.widths, self.widths[1:], strict=False)
        ]


def task(seed: int = 0, widths: tuple[int, ...] = WIDTHS, samples: int = SAMPLES) -> Task:
    """Standard normal data; weights and biases normal with variance 1/inputs."""
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((samples, widths[0])), rng.standard_normal(samples)
    sizes = itertools.pairwise(widths)
    w = np.concatenate([rng.standard_normal(b * (a + 1)) / a**0.5 for a, b in sizes])
    return Task(X, y, w, widths)


def expected(t: Task) -> Any:
    """The library's expected loss."""
    from refimpl.networks import MLP, loss

    net = MLP(t.widths, "relu")
    f = loss(net, t.X, t.y, loss="squared")
    return f.with_dropout(net.last_masks(KEEP), site="activations", scale="inverse")


def our_hessian(t: Task) -> Run:
    """``hessian``."""
    from refimpl.curvature import hessian

    D = expected(t)
    return lambda: hessian(D, t.w)


def our_closed_form(t: Task) -> Run:
    """``noise`` times N: the samples' mean covariance, without visiting a mask."""
    from refimpl.curvature import noise

    D = expected(t)
    return lambda: noise(D, t.w, draw="own masks") * len(t.y)


def our_halves(t: Task) -> Run:
    """The same by every mask, as ``noise`` does it for a loss without a closed form: the spread is what it lacks."""
    from refimpl.curvature.noise import _LastLayerNoise

    D = expected(t)

    def run() -> Any:
        structure = _LastLayerNoise.of(D, np.zeros(0), t.w, D.max_masks)
        assert structure is not None
        found = dataclasses.replace(structure, spread=None).covariance("own masks", range(len(t.widths) - 1))
        return found * len(t.y)

    return run


def jax_hessian(t: Task) -> Run:
    """jax.hessian of ½‖f − y‖² + ½ Σ_j s_j a_j²‖W_j‖², compiled."""
    import jax
    import jax.numpy as jnp

    X, y = jnp.asarray(t.X), jnp.asarray(t.y)

    def loss(w: Any) -> Any:
        h = X
        *below, last = t.layers(jnp, w)
        for W in below:
            h = jnp.maximum(h @ W[:, :-1].T + W[:, -1], 0)
        parts = h * last[0, :-1]
        gap = parts.sum(1) + last[0, -1] - y
        return 0.5 * jnp.mean(gap**2 + (1 - KEEP) / KEEP * (parts**2).sum(1))

    compiled, w = jax.jit(jax.hessian(loss)), jnp.asarray(t.w)
    return lambda: np.asarray(compiled(w))


def jax_masks(t: Task) -> Run:
    """The first sample's covariance: one compiled scan over chunks of masks, a gradient each, GᵀG."""
    import jax
    import jax.numpy as jnp

    units, size = t.widths[-2], len(t.w)
    bits = (np.arange(2**units)[:, None] >> np.arange(units)) & 1
    kept = bits.sum(1)
    chunk = min(CHUNK, 2**units)
    masks = jnp.asarray(bits / KEEP).reshape(-1, chunk, units)
    chances = jnp.asarray(KEEP**kept * (1 - KEEP) ** (units - kept)).reshape(-1, chunk)

    def loss(w: Any, x: Any, y: Any, mask: Any) -> Any:
        h = x
        *below, last = t.layers(jnp, w)
        for W in below:
            h = jnp.maximum(W[:, :-1] @ h + W[:, -1], 0)
        return 0.5 * ((h * mask) @ last[0, :-1] + last[0, -1] - y) ** 2

    gradients = jax.vmap(jax.grad(loss), (None, None, None, 0))

    @jax.jit
    def covariance(w: Any, x: Any, y: Any) -> Any:
        def step(sums: Any, some: Any) -> Any:
            mask, p = some
            G = gradients(w, x, y, mask)
            return (sums[0] + (G * p[:, None]).T @ G, sums[1] + p @ G), None

        (second, mean), _ = jax.lax.scan(step, (jnp.zeros((size, size)), jnp.zeros(size)), (masks, chances))
        return second - jnp.outer(mean, mean)

    w, x, y = jnp.asarray(t.w), jnp.asarray(t.X[0]), jnp.asarray(t.y[0])
    return lambda: np.asarray(covariance(w, x, y))


def main() -> int:
    """Print the tables and the goals; the number of goals missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds")
    rounds = parser.parse_args().rounds
    harness.pin()
    t = task()
    print(f"# {harness.machine('refimpl', 'numpy', 'jax')}")
    print(f"# matrix products reach {harness.dgemm_rate():.0f} Gflop/s")
    tol = len(t.w) * len(t.y) * EPS
    hessians = harness.compare(
        f"Hessian of the expected loss, {len(t.w)} parameters, {len(t.y)} samples",
        {HESSIAN: lambda: our_hessian(t), JAX_HESSIAN: lambda: jax_hessian(t)},
        tol=tol,
        rounds=rounds,
    )
    print()
    met = [harness.goal(hessians, HESSIAN, JAX_HESSIAN, 0.2)]
    rows = beside(t, rounds)
    print()
    met.append(harness.goal(rows, CLOSED, HESSIAN, 2))
    one = t.first(len(t.y))
    masks = harness.compare(
        f"the samples' mean covariance, 2^{t.widths[-2]} masks, {len(t.y)} copies of one sample",
        {
            HALVES: lambda: our_halves(one),
            CLOSED: lambda: our_closed_form(one),
            JAX_MASKS: lambda: jax_masks(t),
        },
        tol=t.widths[-2] * tol,
        rounds=min(rounds, 3),
    )
    print()
    print(
        f"# all {len(t.y)} samples take JAX {len(t.y)} times its row: a 100th of that is {len(t.y) / 100} of the row"
    )
    met.append(harness.goal(masks, HALVES, JAX_MASKS, len(t.y) / 100))
    return met.count(False)


def beside(t: Task, rounds: int) -> dict[str, harness.Row]:
    """Closed-form covariance and Hessian round by round: two matrices, which are timed but not compared."""

    def timed(run: Run) -> Run:
        def only() -> float:
            run()
            return 1.0

        return only

    contenders = {HESSIAN: lambda: timed(our_hessian(t)), CLOSED: lambda: timed(our_closed_form(t))}
    title = (
        f"the samples' mean covariance in closed form beside the Hessian, {len(t.y)} samples (not compared)"
    )
    return harness.compare(title, contenders, tol=0.0, rounds=rounds)


if __name__ == "__main__":
    sys.exit(main())
