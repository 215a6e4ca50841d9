r"""Stationary points for *given* labels, exact over the rationals: networks with one hidden layer.

While no unit changes sides at a sample, f = Σ_j κ_ij v_j·x̃_i + c with v_j = w_j (u_j, b_j), x̃ = (x, 1) and slopes
κ_ij, so

    2n E_ηR = Σ_i (f_i − y_i)² + Σ_i Σ_j s_j (κ_ij v_j·x̃_i)²

is a convex quadratic in (v_1, …, v_m, c). Solve it, take the sides of the solution, solve again, until they stay:
the solution is then a local minimum of E_ηR (the global one where the activation is linear). Where they do not, the
point is no stationary one: the hypotheses reject it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import flint
import numpy as np
from hypothesis import strategies as st

from refimpl.networks import MLP
from refimpl.networks.activations import LEAK
from verification.claims.dropout_flatness._noise import Noise, build, keeps
from verification.claims.dropout_flatness._planted import PARTS, point, reduced

TURNS = 8
STARTS = 8
SLOPES = {"linear": Fraction(1), "leaky_relu": Fraction(1, LEAK), "relu": Fraction(0)}  # left of the kink


def minimum(params: Mapping[str, Any]) -> Noise:
    """A network (d, m, 1) with w_j = ±1, inputs in halves and labels 0 or 1, at a minimum of E_ηR.

    ``d``, ``m``, ``n``, ``activation``, ``keep`` (eighths, repeated to fit) or ``p`` ("1/3"), ``seed``; ``X`` and ``y``
    where they are not drawn from it.
    """
    d, m, n = params["d"], params["m"], params["n"]
    rng = np.random.default_rng(params["seed"])
    drawn = rng.integers(-6, 7, (n, d))
    side = (
        drawn @ rng.integers(-2, 3, d) + rng.integers(-3, 4, n) > 0
    )  # labels that have to do with the inputs
    X = [[Fraction(x) for x in row] for row in params.get("X", (drawn / 2).tolist())]
    y = [Fraction(k) for k in params.get("y", side.astype(int).tolist())]
    given = params.get("keep", [4])
    keep = [
        Fraction(params["p"]) if "p" in params else Fraction(given[j % len(given)], PARTS) for j in range(m)
    ]
    signs = [1 - 2 * (j % 2) for j in range(m)]
    pieces = _Pieces(X, y, signs, keep, SLOPES[params["activation"]])
    for _ in range(STARTS):
        v, c, at_rest = pieces.descend(rng.integers(-3, 4, (m, d + 1)).tolist())
        if at_rest:
            break
    theta = [x / w for row, w in zip(v, signs, strict=True) for x in row] + signs + [c]
    return Noise(point(MLP((d, m, 1), params["activation"]).to("rational"), theta, X, y, keep, params))


@dataclass(frozen=True)
class _Pieces:
    """The quadratics in (v, c), one for every choice of sides; ``left``: the slope left of the kink."""

    X: list[list[Fraction]]
    y: list[Fraction]
    signs: list[int]
    keep: list[Fraction]
    left: Fraction

    def descend(self, v: Any) -> tuple[Any, Fraction, bool]:
        """v (m, d + 1), c, and whether the sides came to rest."""
        c, sides = Fraction(0), None
        for _ in range(TURNS):
            now = [[self._slope(row, w, x) for x in self.X] for row, w in zip(v, self.signs, strict=True)]
            if now == sides:
                return v, c, True
            sides = now
            v, c = self._solved(sides)
        return v, c, False

    def _slope(self, row: Any, w: int, x: Any) -> Fraction:
        z = w * sum(a * b for a, b in zip(row, [*x, 1], strict=True))
        return Fraction(1) if z > 0 else self.left

    def _solved(self, sides: Any) -> tuple[Any, Fraction]:
        """A minimiser of the quadratic; free variables are 0."""
        width, m = len(self.X[0]) + 1, len(sides)
        rows = [
            [k * e for e in [*x, 1]] for own in sides for k, x in zip(own, self.X, strict=True)
        ]  # κ_ij x̃_i
        n = len(self.X)
        plain = [[e for j in range(m) for e in rows[j * n + i]] + [Fraction(1)] for i in range(n)]
        alone = []
        for j, p in enumerate(self.keep):
            for row in rows[j * n : (j + 1) * n]:
                padded = [Fraction(0)] * (width * m + 1)
                padded[j * width : (j + 1) * width] = row
                alone.append([(1 - p) / p * e for e in padded])
                alone.append(padded)
        R, S, L = _exact(plain), _exact(alone[::2]), _exact(alone[1::2])
        A, right = R.transpose() * R + S.transpose() * L, R.transpose() * _exact([[t] for t in self.y])
        joined = [[*left, b] for left, (b,) in zip(A.tolist(), right.tolist(), strict=True)]
        lines, pivots = reduced(np.array(joined, dtype=object))
        found = [Fraction(0)] * (width * m + 1)
        for line, pivot in zip(lines, pivots, strict=True):
            found[pivot] = Fraction(int(line[-1].p), int(line[-1].q))
        return [found[j * width : (j + 1) * width] for j in range(m)], found[-1]


def _exact(rows: Any) -> flint.fmpq_mat:
    return flint.fmpq_mat([[flint.fmpq(x.numerator, x.denominator) for x in row] for row in rows])


def minima(n: tuple[int, int] = (2, 4), d: int = 2, m: int = 2, **more: Any) -> Any:
    """Strategy over such minima."""
    boxes = {
        "d": st.integers(1, d),
        "m": st.integers(1, m),
        "n": st.integers(*n),
        "activation": st.sampled_from(["linear", "leaky_relu"]),
        "seed": st.integers(0, 999),
        "keep": keeps(),
    }
    return st.fixed_dictionaries({**boxes, **more})


def pair(p: str, **more: Any) -> dict[str, Any]:
    """x = ±1 with labels 1 and 0, one linear unit: f = ½ ± p/2 at the global minimum, both |ε_i| = (1−p)/2."""
    return {
        "d": 1,
        "m": 1,
        "n": 2,
        "activation": "linear",
        "seed": 0,
        "X": [[1], [-1]],
        "y": [1, 0],
        "p": p,
        **more,
    }


def one_sided(p: str) -> dict[str, Any]:
    """x = ±1 with labels 1 and 0, a ReLU unit that sees the first sample alone: u = 1, w = 1/(1+2s), c = sw."""
    s = (1 - Fraction(p)) / Fraction(p)
    w = 1 / (1 + 2 * s)
    theta = [1, 0, str(w), str(s * w)]
    return {"widths": [1, 1, 1], "activation": "relu", "theta": theta, "X": [[1], [-1]], "y": [1, 0], "p": p}


def either(params: Mapping[str, Any]) -> Noise:
    """A point written out, or a minimum that is looked for."""
    return build(params) if "widths" in params else minimum(params)
