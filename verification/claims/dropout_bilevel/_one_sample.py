"""FSLA without dropout, with one training sample per iteration: where its means settle. See ``shared_draws``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refimpl import BilevelProblem, exact_hypergradient
from refimpl.arrays.backend import Array
from refimpl.zoo import quadratic
from verification.claims.dropout_bilevel._bias import Watched, algorithm, watched
from verification.claims.dropout_bilevel._descent import gradient, line_levels, masked_model, random_levels
from verification.claims.dropout_bilevel._masks import RATIONAL, Model
from verification.model import Measurement, identity


def samples(params: dict[str, Any]) -> Watched:
    """A lower level of several quadratics and no masks: ``law`` keeps everything."""
    n, d, N = params["n"], params["d"], params["N"]
    rng = np.random.default_rng(params["seed"])
    mean_lower, upper = random_levels(n, d, params["seed"], bent=params.get("bent", 0))
    if params.get("line"):
        mean_lower, upper = line_levels(params)
        of_H, of_C = np.array([[[-0.5]], [[0.5]]]), np.array([[[0.5]], [[-0.5]]])
    else:
        of_H, of_C = (rng.integers(-1, 2, (N, k, d)) / 4 for k in (d, n))
        of_H = of_H + of_H.swapaxes(1, 2)
        of_H, of_C = (np.concatenate([x, -x.sum(axis=0, keepdims=True)]) for x in (of_H, of_C))
    count = len(of_H)
    lower = quadratic.Quadratic(
        mean_lower.ww + of_H,
        mean_lower.lw + of_C,
        np.zeros((count, n, n)),
        np.repeat(mean_lower.w1, count, axis=0),
        np.zeros((count, n)),
    )
    of = masked_model({"n": n, "d": d, "seed": 0, "keep_lam": [1, 1], "keep_w": [1, 1]})
    problem = BilevelProblem(upper, lower).to("rational")
    return watched(replace(of, plain=problem, params=params))


def covariances(case: Model, lam: Array, w: Array, v: Array) -> tuple[Array, Array]:
    """E[(C−C̄)(H−H̄)] v and E[(C−C̄) F̄_ww g] over the samples."""
    G, bent = case.plain.lower, case.plain.upper.hess_ww(lam, w).dense()
    assert isinstance(G, quadratic.Quadratic)
    of_C = G.lw - G.lw.sum(axis=0) / len(G.lw)
    g = (G.ww @ w) + G.lw.swapaxes(1, 2) @ lam + G.w1
    first = (of_C @ (G.ww @ v)[..., None])[..., 0].sum(axis=0)
    second = (of_C @ (g @ bent)[..., None])[..., 0].sum(axis=0)
    return first / len(g), second / len(g)


def sample_limit(wrong: str = "", **changed: Any) -> Callable[[Watched], Measurement]:
    """∇F̄ where the means of FSLA with one sample per iteration settle, against −(β Cov + βγα Cov)/η."""

    def measure(case: Watched) -> Measurement:
        a = algorithm(case, lower_batch=1, **changed)
        lam = case.means(a).limit["lam"]
        found = gradient(case.plain, lam)
        exact = exact_hypergradient(case.plain, lam, certify="never")
        first, second = covariances(case, lam, exact.w, exact.v)
        _, gamma, beta, eta = (RATIONAL.scalar(size) for size in a.sizes(0))
        stated = -(beta / eta) * (first + (0 if wrong == "first" else gamma) * second)
        return identity(found, {"none": 0 * found, "sign": -stated}.get(wrong, stated))

    return measure
