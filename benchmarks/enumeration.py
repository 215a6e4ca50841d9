"""Expected dropout loss and gradient over all masks: 8–n–1 tanh, batch 32, keep_prob 0.8, one core.

It times refimpl.networks.one_hidden beside plain NumPy, autograd, JAX and torch code that forms one product per chunk
of masks, and measures in units of eps × condition how far the two ways to the logistic loss are apart.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import harness

EPS = 2.0**-52
MANY, MORE = 20, 24  # hidden units
SPLIT, CLOSED, NODES = "refimpl split (every mask)", "refimpl closed form", "refimpl nodes (to rounding)"


def t3(problem: Any, method: str = "auto") -> Callable[[], Any]:
    """A problem with fields X, y, W, b, a, c, q, kind to a function that returns [loss, dW, db, da, dc].

    ``benchmarks.enumeration_split`` is the same with every mask visited.
    """
    from refimpl.networks.one_hidden import expected_one_hidden

    p = problem
    return lambda: (
        expected_one_hidden(
            *(p.X, p.y, p.W, p.b, p.a, p.c), keep_prob=p.q, scale="inverse", loss=p.kind, method=method
        ).flat
    )


def main() -> int:
    """Print the tables and the goals; the number of goals missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds")
    rounds = parser.parse_args().rounds
    harness.pin()

    import numpy as np

    from benchmarks import mask_rows
    from refimpl.networks.one_hidden import expected_one_hidden

    def ours(t: mask_rows.Task, method: Any) -> mask_rows.Run:
        given = (t.X, t.y, t.W, t.b, t.a, t.c)
        options: dict[str, Any] = {"keep_prob": t.keep, "scale": "inverse", "loss": t.loss, "method": method}
        return lambda: expected_one_hidden(*given, **options).flat

    print(f"# {harness.machine('refimpl', 'numpy', 'autograd', 'jax', 'torch')}")
    print(f"# matrix products reach {harness.dgemm_rate():.0f} Gflop/s")
    met = []
    for loss, fast, method, goals in (
        ("squared", CLOSED, "closed", {SPLIT: 2.5}),
        ("logistic", NODES, "nodes", {SPLIT: 3, NODES: 50}),
    ):
        t = mask_rows.task(MANY, loss)
        plain = {
            "numpy chunks": lambda t=t: mask_rows.chunked_numpy(t),
            "autograd chunks": lambda t=t: mask_rows.chunked_autograd(t),
            "jax chunks": lambda t=t: mask_rows.chunked_jax(t),
            "jax vmap chunks": lambda t=t: mask_rows.chunked_jax(t, per_mask=True),
            "torch chunks": lambda t=t: mask_rows.chunked_torch(t),
        }
        rows = harness.compare(
            f"{loss} loss, 2^{MANY} masks",
            {**plain, SPLIT: lambda t=t: ours(t, "split"), fast: lambda t=t, m=method: ours(t, m)},
            tol=MANY * len(t.y) * EPS,
            rounds=rounds,
        )
        best = fastest(rows, plain)
        print()
        met += [harness.goal(rows, name, best, round(1 / times, 3)) for name, times in goals.items()]
    t = mask_rows.task(MORE, "logistic")
    rows = harness.compare(
        f"logistic loss, 2^{MORE} masks",
        {SPLIT: lambda: ours(t, "split"), NODES: lambda: ours(t, "nodes")},
        tol=MORE * len(t.y) * EPS,
        rounds=min(rounds, 3),
    )
    print()
    met.append(harness.goal(rows, NODES, SPLIT, round(1 / 30, 3)))
    print()
    for factor in (1.0, 15.0):
        t = mask_rows.task(MANY, "logistic", factor=factor)
        terms = mask_rows.chunked_numpy(t, absolute=True)()  # |entry| × condition
        apart = float((np.abs(ours(t, "nodes")() - ours(t, "split")()) / (EPS * terms)).max())
        print(
            f"# weights x {factor:g}: nodes and split differ by {apart:.2f} eps × condition in the worst entry, "
            f"goal <= 4: {'met' if apart <= 4 else 'MISSED'}"
        )
        met.append(apart <= 4)
    return met.count(False)


def fastest(rows: Mapping[str, harness.Row], names: Mapping[str, Any]) -> str:
    """The row of least median among the names that were not skipped."""
    return min((name for name in names if name in rows), key=lambda name: rows[name].median)


if __name__ == "__main__":
    sys.exit(main())
