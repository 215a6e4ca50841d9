"""One instance of every family of the zoo, its quantities by name, and what rounding allows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from refimpl.arrays import to_numpy
from refimpl.datasets import Episode
from refimpl.objective import Map
from refimpl.zoo import (
    biased,
    degenerate,
    equilibrium,
    logistic,
    maps,
    overparametrised,
    poisoning,
    quadratic,
    ridge,
    rows,
    uppers,
    weight_function,
)

EPS = 2.0**-52
ROWS = 7


def data(seed: int, d: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rows.design(ROWS, np.geomspace(0.1, 2, d).tolist(), rng), rng.standard_normal(ROWS)


def upper(make: Callable[..., Any], n: int, **options: Any) -> Any:
    X, y = data(11)
    return make(X, np.arange(ROWS) % 3 if make is uppers.cross_entropy else y, n=n, **options)


def equilibrium_problem(*, graph: bool) -> Any:
    """Of 5 examples; with a graph, 2 of them labelled."""
    X, _ = data(16, 3)
    P = equilibrium.propagation([(0, 1), (1, 2), (3, 4)], 5) if graph else None
    labelled = [0, 3] if graph else None
    return equilibrium.problem(
        X[:5], np.arange(5) % 3, classes=3, hidden=2, P=P, labelled=labelled, scale=0.5, seed=17
    )


def poisoned() -> Any:
    X, _ = data(18, 3)
    y = np.arange(ROWS) % 3
    return poisoning.problem(X, y, X[:3] + 1, y[:3], classes=3, poisoned=[1, 4], reg=0.1)


def weighted_by_loss() -> Any:
    X, _ = data(28, 2)
    y = np.arange(ROWS) % 3
    return weight_function.problem(X, y, X + 1, y, classes=3, hidden=2, step=0.5, reg=0.1, seed=29)


def biased_problem() -> Any:
    X, y = np.stack([data(seed, 3)[0] for seed in (19, 20)]), np.tile(np.arange(ROWS) % 3, (2, 1))
    return biased.problem(Episode(X, y, X + 1, y), ways=3, strength=0.5)


def flat(**options: Any) -> Any:
    """Weighted rows of rank 2 in four unknowns."""
    return overparametrised.random(d=4, rank=2, rows=5, **options)


THINGS: dict[str, Callable[[], Any]] = {
    "quadratic": lambda: quadratic.random(n=3, d=4, seed=1, terms=5).lower,
    "ridge.penalty": lambda: ridge.random(d=4, seed=2).lower,
    "ridge.penalty per feature": lambda: ridge.random(d=4, seed=3, per_feature=True).lower,
    "ridge.log_penalty": lambda: ridge.random(d=4, seed=4, log=True).lower,
    "ridge.log_penalty per feature": lambda: ridge.random(d=4, seed=5, per_feature=True, log=True).lower,
    "ridge, one weight": lambda: ridge.random(d=1, seed=6).lower,
    "ridge validation": lambda: ridge.random(d=4, seed=7, per_feature=True).upper,
    "logistic": lambda: logistic.random(d=4, seed=8).lower,
    "logistic per feature": lambda: logistic.random(d=4, seed=9, per_feature=True).lower,
    "logistic validation": lambda: logistic.random(d=4, seed=10).upper,
    "weighted squares": lambda: flat(seed=21).lower,
    "weighted squares, raw": lambda: flat(seed=22, weights="identity").lower,
    "weighted logistic": lambda: flat(seed=23, loss="logistic").lower,
    "weighted logistic, raw": lambda: flat(seed=24, loss="logistic", weights="identity").lower,
    "a row twice": lambda: flat(seed=25, weights="identity").lower.batch(np.array([3, 1, 3])),
    "soft labels": lambda: flat(seed=26, loss="logistic").lower.data,
    "singular quadratic": lambda: quadratic.singular(n=3, d=5, rank=2, seed=27).lower,
    "linear": lambda: uppers.linear(data(12)[0], l=data(13, 2)[0]),
    "linear, n = 0": lambda: uppers.linear(data(12)[0]),
    "log-cosh": lambda: upper(uppers.log_cosh, 3),
    "log-cosh, n = 0": lambda: upper(uppers.log_cosh, 0),
    "cross entropy": lambda: upper(uppers.cross_entropy, 2, classes=3),
    "cross entropy, n = 0": lambda: upper(uppers.cross_entropy, 0, classes=3),
    "affine map": lambda: maps.random(n=3, d=4, seed=14, terms=5).phi,
    "tanh map": lambda: maps.random(n=3, d=4, seed=15, kind="tanh").phi,
    "line": lambda: maps.line(0.5).phi,
    "bent line": lambda: maps.bent_line(0.5, 0.75).phi,
    "equilibrium map": lambda: equilibrium_problem(graph=False).phi,
    "graph map": lambda: equilibrium_problem(graph=True).phi,
    "weight function": lambda: weighted_by_loss().phi,
    "readout": lambda: equilibrium_problem(graph=False).upper,
    "readout, two labels": lambda: equilibrium_problem(graph=True).upper,
    "poisoned": lambda: poisoned().lower,
    "poisoning's validation": lambda: poisoned().upper,
    "biased": lambda: biased_problem().lower,
    "biased queries": lambda: biased_problem().upper,
    "soft threshold": lambda: degenerate.SoftThreshold(0.75, 3),
}
POLYNOMIAL = {
    "quadratic", "ridge.penalty", "ridge.penalty per feature", "ridge, one weight", "ridge validation",
    "weighted squares, raw", "a row twice", "singular quadratic",
    "linear", "linear, n = 0", "affine map", "line", "bent line", "soft threshold",
}  # fmt: skip
COMPARES = {"soft threshold"}  # decides a sign: refused over balls, where it may not be decided


def point(thing: Any, seed: int, lam_lead: tuple[int, ...] = (), w_lead: tuple[int, ...] = ()) -> Any:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((*lam_lead, thing.n)), rng.standard_normal((*w_lead, thing.d))


def quantities(thing: Any) -> dict[str, Callable[[Any, Any, Any, Any, Any], Any]]:
    """Every quantity, and every product with a vector u (n,) or v (d,), of an objective or map."""
    found: dict[str, Callable[..., Any]] = {"value": lambda f, lam, w, u, v: f.value(lam, w)}
    if not isinstance(thing, Map):
        found["grad_lam"] = lambda f, lam, w, u, v: f.grad_lam(lam, w)
        found["grad_w"] = lambda f, lam, w, u, v: f.grad_w(lam, w)
    first, second = ("d_w", "d_lam") if isinstance(thing, Map) else ("hess_ww", "cross")
    right, left = ("v", "u") if isinstance(thing, Map) else ("u", "v")
    for name in (first, second):
        found[f"{name} dense"] = lambda f, lam, w, u, v, name=name: getattr(f, name)(lam, w).dense()
    found[f"{first} @"] = lambda f, lam, w, u, v: getattr(f, first)(lam, w) @ v
    found[f"{first}.T @"] = lambda f, lam, w, u, v: getattr(f, first)(lam, w).T @ v
    vectors = {"u": lambda u, v: u, "v": lambda u, v: v}
    found[f"{second} @"] = lambda f, lam, w, u, v: getattr(f, second)(lam, w) @ vectors[left](u, v)
    found[f"{second}.T @"] = lambda f, lam, w, u, v: getattr(f, second)(lam, w).T @ vectors[right](u, v)
    return found


def rounding(thing: Any, lam: Any, w: Any, *results: Any) -> float:
    """10 (n + d + N) eps times the size of the point times that of the data and the results."""
    arrays = [x for x in vars(thing).values() if isinstance(x, np.ndarray)]
    arrays += [x for x in vars(getattr(thing, "data", thing)).values() if isinstance(x, np.ndarray)]
    data = 1 + sum(np.linalg.norm(x) for x in arrays) ** 2  # second derivatives are quadratic in the data
    strengths = np.exp(np.abs(lam).max(initial=0.0))  # exp(λ) where it is the penalty, else generous
    point = (1 + np.linalg.norm(lam) + np.linalg.norm(w)) * data * strengths
    size = point + sum(float(np.abs(to_numpy(x)).max(initial=0.0)) for x in results)
    return float(10 * (thing.n + thing.d + thing.space.size) * EPS * size)
