"""Binary logistic regression whose ridge penalty exp(λ) is learnt on validation data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.problem import BilevelProblem
from refimpl.zoo.rows import LinearModelLoss, Penalised, design, require_same_features, samples


@dataclass(frozen=True, eq=False)
class LogisticLoss(LinearModelLoss):
    """f(λ, w) = (1/N) Σ_i log(1 + exp(−y_i x_i·w)) with labels y = ±1.

    ℓ' = −y σ(−yz), |ℓ'| < 1; ℓ'' = σ(z)(1 − σ(z)), 1/4 at z = 0; ℓ''' = ℓ''(1 − 2σ), and with σ = (1 + s)/2
    it is −s(1 − s²)/4, largest in size at s² = 1/3, where it is 1/(6√3).
    """

    third: ClassVar[float] = 1 / (6 * sqrt(3))

    def loss(self, z: Array) -> Array:
        return self.backend.softplus(-self.y * z)

    def slope(self, z: Array) -> Array:
        return -self.y * self.backend.sigmoid(-self.y * z)

    def curvature(self, z: Array) -> Array:
        return self.backend.sigmoid(z) * self.backend.sigmoid(-z)  # y² = 1

    def peak(self) -> Array:
        return 0 * self.y


@dataclass(frozen=True, eq=False)
class SoftLabelLoss(LinearModelLoss):
    """f(λ, w) = (1/N) Σ_i y_i log(1 + exp(−z_i)) + (1 − y_i) log(1 + exp(z_i)), z = Xw, labels y in [0, 1].

    The cross entropy of σ(z) against y: ℓ' = σ(z) − y; higher derivatives are those of :class:`LogisticLoss`. Where
    0 < y < 1 it grows without bound in both directions of z, so a sum of such terms has a minimiser whatever X is.
    """

    third: ClassVar[float] = 1 / (6 * sqrt(3))

    def loss(self, z: Array) -> Array:
        return self.y * self.backend.softplus(-z) + (1 - self.y) * self.backend.softplus(z)

    def slope(self, z: Array) -> Array:
        return self.backend.sigmoid(z) - self.y

    def curvature(self, z: Array) -> Array:
        return self.backend.sigmoid(z) * self.backend.sigmoid(-z)

    def peak(self) -> Array:
        return 0 * self.y


def problem(
    X: Any, y: Any, X_val: Any, y_val: Any, *, per_feature: bool = False, name: str = ""
) -> BilevelProblem:
    """min_λ of the validation loss at w(λ) = argmin (1/N) Σ_i log(1 + exp(−y_i x_i·w)) + ½ Σ_j exp(λ_j) w_j².

    X, y (N, d), (N,) with labels ±1; X_val, y_val likewise; ``per_feature``: n = d instead of n = 1.
    Starts at λ = −3, a penalty of 1/20. Raises ``BadInput``.

    >>> p = problem([[1.0], [2.0]], [1, -1], [[1.0]], [1])
    >>> p.upper.value(p.start(), p.w([0.0])).round(6) == round(np.log(2), 6)
    np.True_
    """
    X, y = samples(X, y, "training")
    X_val, y_val = samples(X_val, y_val, "validation")
    require_same_features(X, X_val)
    _require_signs(y, "training")
    _require_signs(y_val, "validation")
    d = X.shape[1]
    n = d if per_feature else 1
    lower = Penalised(LogisticLoss(X, y, n), True)
    return BilevelProblem(
        LogisticLoss(X_val, y_val, n),
        lower,
        name=name or f"logistic (n={n}, d={d})",
        initial=np.full(n, -3.0),
    )


def random(
    *,
    d: int,
    seed: int,
    rows: int | None = None,
    per_feature: bool = False,
    spectrum: Sequence[float] | None = None,
) -> BilevelProblem:
    """A random logistic problem: XᵀX/N has the given eigenvalues (log-spaced in [1/100, 1] by default).

    Label i is +1 with probability σ(x_i·w̄), w̄ standard normal; validation data are drawn likewise.

    >>> random(d=3, seed=0).lower.d
    3
    """
    rng = np.random.default_rng(seed)
    rows = 4 * d + 4 if rows is None else rows
    spectrum = np.geomspace(1 / 100, 1, d).tolist() if spectrum is None else spectrum
    truth = rng.standard_normal(d)

    def drawn() -> tuple[np.ndarray, np.ndarray]:
        X = design(rows, spectrum, rng)
        return X, np.where(X @ truth + rng.logistic(size=rows) > 0, 1.0, -1.0)

    n = d if per_feature else 1
    return problem(*drawn(), *drawn(), per_feature=per_feature, name=f"logistic (n={n}, d={d}, seed={seed})")


def _require_signs(y: np.ndarray, name: str) -> None:
    if not set(np.unique(y)) <= {-1.0, 1.0}:
        raise BadInput(
            f"{name} labels are not signs",
            measured=f"values {np.unique(y)[:5].tolist()}",
            required="-1 and 1",
            advice="for labels 0 and 1 pass 2 * y - 1; for more classes use zoo.weighted_softmax",
        )
