r"""Remark 3's rate: the iterations that FSLA with dropout needs in the mean, against the keep probabilities.

n = d = 1, G = ½w² − λw, F = ½A(w − 1)² + ½Cλ²; w(λ) = p_λλ and F̄'' = p_λC + p_λ²p_wA =: c. With fresh masks for the
cross derivative the mean of d is that of h, so that errors of the means obey, with steps κ = γα = βα and α,
    w⁺ = w − κp_w(w − p_λλ),   v⁺ = v − κp_w(v − Aw⁺),   λ⁺ = λ − α(p_λCλ + p_λp_wv⁺).
In a mode of factor 1 − x, with y = x/(κp_w): w = p_λλ/(1 − y), v = A(1 − x)w/(1 − y), and v⁺ = (1 − x)v; inserted,
    x = α{p_λC + p_λ²p_wA [(1−x)/(1−y)]²} = αc(1 + r),   |r| <= R := p_λ²p_w|A|/c · max{2x, (1−y)⁻² − 1}.
Where R <= ½, x <= 2αc, and R may be taken there. N = ln ε/ln(1−x) and x <= −ln(1−x) <= x/(1−x) give
|N αc/ln(1/ε) − 1| <= 2R + x. N falls in x: comparing two N is comparing two x, which ``slowest`` encloses in rationals
(for the float α, κ, A, C as they are). The same with α_k = δ/√(k+1) for Σα_k, about 2δ√N, in place of αN: N grows
like c⁻².
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq, fmpq_mat, fmpq_poly

EPSILON = 1e-6  # the error to reach, relative; fixed beforehand
STEP, LOWER = 1e-4, 0.25  # α and κ
PATH = [2.0**-k for k in range(3, 8)]  # where exponents are fitted
WITHIN = (
    0.01  # half-width of an exponent: along the paths log N is moved by at most ``correction``, below 0.01
)


@dataclass(frozen=True)
class Scalar:
    """The family at one pair of keep probabilities."""

    A: float
    C: float
    p_lam: float = 1.0
    p_w: float = 1.0
    kappa: float = LOWER
    path: str = "both"

    @property
    def curvature(self) -> float:
        """c = F̄''."""
        return self.p_lam * self.C + self.p_lam**2 * self.p_w * self.A

    @cached_property
    def slowest(self) -> tuple[fmpq, fmpq]:
        """x of the slowest mode, between two rationals: the characteristic polynomial changes sign there, and has no
        root farther from 0 than the end towards 1. Found in floats, decided exactly; widened until decided.
        """
        chi, x = characteristic(self), 1 - self.factor
        for more in range(6, 28):
            low, high = (rational(x * (1 + sign * 4.0**more * 2.0**-36)) for sign in (-1, 1))
            if chi(1 - high) <= 0 <= chi(1 - low) and within(chi, 1 - low):
                return low, high
        raise ArithmeticError(f"no real slowest mode near {1 - x}")

    @property
    def mean_matrix(self) -> np.ndarray:
        """The mean recursion's (λ, w, v) -> (λ, w, v)."""
        k, p, q = self.kappa, self.p_lam, self.p_w
        w = np.array([k * q * p, 1 - k * q, 0.0])
        v = np.array([0.0, 0.0, 1 - k * q]) + k * q * self.A * w
        lam = np.array([1 - STEP * p * self.C, 0.0, 0.0]) - STEP * p * q * v
        return np.stack([lam, w, v])

    @property
    def factor(self) -> float:
        """The slowest mode's."""
        return float(np.abs(np.linalg.eigvals(self.mean_matrix)).max())

    @property
    def iterations(self) -> float:
        """N with factor^N = ε."""
        return math.log(EPSILON) / math.log(self.factor)

    @property
    def lag(self) -> float:
        """y = x/(κp_w) at x = αc."""
        return STEP * abs(self.curvature) / (self.kappa * self.p_w)

    @property
    def correction(self) -> float:
        """What |N αc/ln(1/ε) − 1| is bounded by."""
        x, y = 2 * STEP * self.curvature, 2 * self.lag
        share = self.p_lam**2 * self.p_w * abs(self.A) / self.curvature
        return 2 * share * max(2 * x, (1 - y) ** -2 - 1) + x

    def along(self, t: float) -> Scalar:
        """The family at keep probabilities t on its path: of λ, of w or of both."""
        lam, w = (t if self.path in ("both", name) else 1.0 for name in ("lam", "w"))
        return Scalar(self.A, self.C, lam, w, self.kappa, self.path)


def rational(x: float) -> fmpq:
    """A float as what it is."""
    return fmpq(*float(x).as_integer_ratio())


def characteristic(s: Scalar) -> fmpq_poly:
    """Characteristic polynomial of ``mean_matrix`` of the rational family."""
    A, C, p, q, k, a = (rational(x) for x in (s.A, s.C, s.p_lam, s.p_w, s.kappa, STEP))
    w = [k * q * p, 1 - k * q, fmpq(0)]
    v = [k * q * A * w[0], k * q * A * w[1], 1 - k * q]
    lam = [1 - a * p * C - a * p * q * v[0], -a * p * q * v[1], -a * p * q * v[2]]
    return fmpq_mat(3, 3, [*lam, *w, *v]).charpoly()


def within(chi: fmpq_poly, r: fmpq) -> bool:
    """No root of a real monic cubic is farther than r from 0: Jury's conditions for χ(rz)/r³; z = 1 may be a root."""
    a, b, c = (chi[i] / r ** (3 - i) for i in range(3))
    return 1 + c + b + a >= 0 and 1 - c + b - a > 0 and abs(a) < 1 and abs(a * a - 1) > abs(a * c - b)


def scalar(params: Mapping[str, Any]) -> Scalar:
    """The family from its parameters."""
    return Scalar(**params)
