"""Pictures of theorem 2: distances of the printed matrix from the true one, and of the one with a_i for b_i."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from refimpl.networks import MLP
from verification.claims.dropout_flatness._minima import either, pair
from verification.claims.dropout_flatness._noise import Noise, equal_weights, size
from verification.claims.dropout_flatness._planted import point


def training(of: Noise) -> dict[str, Any]:
    """Gradient descent on E_ηR of a (2, 8, 1) ReLU network, p = 0.8: relative distances from Σ_one."""
    rng, net = np.random.default_rng(0), MLP((2, 8, 1), "relu")
    X = rng.standard_normal((16, 2))
    start = point(net, net.random(rng), X, np.sin(X[:, 0]) + X[:, 1] / 2, [0.8] * 8, {})
    theta, times = start.theta, []
    found: dict[str, list[float]] = {"printed": [], "aᵢ for bᵢ": []}
    for step in range(1001):
        if step % 40 == 0:
            here = Noise(replace(start, theta=theta))
            exact = here.exact("one sample")
            times.append(step)
            found["printed"].append(size(here.printed - exact) / size(exact))
            found["aᵢ for bᵢ"].append(size(here.sum(equal_weights) - exact) / size(exact))
        theta = theta - 0.1 * start.dropout.grad_w(start.lam, theta)
    return {"x": times, "lines": found, "xlabel": "step", "ylabel": "‖Σ printed − Σ‖ / ‖Σ‖"}


def towards_one(of: Noise) -> dict[str, Any]:
    """The minimum of the docstring as p → 1."""
    cases = [either(pair(f"{2**k - 1}/{2**k}")) for k in range(1, 13)]
    exact = [case.exact("one sample") for case in cases]
    gaps = [size(case.printed - true) / size(true) for case, true in zip(cases, exact, strict=True)]
    again = [
        size(case.sum(equal_weights) - true) / size(true) for case, true in zip(cases, exact, strict=True)
    ]
    lines = {"printed": gaps, "aᵢ for bᵢ": again}
    return {
        "x": [2.0**-k for k in range(1, 13)],
        "lines": lines,
        "xlabel": "1 − p",
        "ylabel": "relative distance",
        "logx": True,
    }
