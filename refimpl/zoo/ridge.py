"""Ridge regression whose penalty is learnt on validation data; both losses are half mean squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refimpl.arrays.backend import Array
from refimpl.problem import BilevelProblem
from refimpl.sets import Box
from refimpl.zoo.rows import LinearModelLoss, Penalised, design, require_same_features, samples


@dataclass(frozen=True, eq=False)
class HalfSquares(LinearModelLoss):
    """f(λ, w) = (1/(2N)) ‖Xw − y‖²; ℓ'' = 1 and ℓ''' = 0. Polynomial: runs on every backend."""

    third: ClassVar[float] = 0.0

    def loss(self, z: Array) -> Array:
        return (z - self.y) * (z - self.y) / 2

    def slope(self, z: Array) -> Array:
        return z - self.y

    def curvature(self, z: Array) -> Array:
        return 1 + 0 * z

    def peak(self) -> Array:
        return self.y


def problem(
    X: Any,
    y: Any,
    X_val: Any,
    y_val: Any,
    *,
    per_feature: bool = False,
    log: bool = False,
    lowest: float = 0.0,
    name: str = "",
) -> BilevelProblem:
    """min_λ (1/(2N_v)) ‖X_v w(λ) − y_v‖² with w(λ) = argmin (1/(2N)) ‖Xw − y‖² + ½ Σ_j π_j w_j².

    Parameters
    ----------
    X, y : (N, d), (N,) training data;  X_val, y_val : validation data with the same columns.
    per_feature : one λ_j for each weight (n = d) instead of one for all (n = 1).
    log : False, "ridge.penalty": π = λ on the set λ > 0, or λ >= lowest where that is given (a penalty that
        may come arbitrarily near 0 has no uniform constants); polynomial, so it runs over the rationals.
        True, "ridge.log_penalty": π = exp(λ), any λ.

    Raises ``BadInput``.

    >>> p = problem([[1.0], [2.0]], [1.0, 2.0], [[1.0]], [2.0])
    >>> float(p.residual(p.lam([0.5]), p.w([1.0]))[0])  # at w = 1 the data fit, and π w = 1/2 is left
    0.5
    """
    X, y = samples(X, y, "training")
    X_val, y_val = samples(X_val, y_val, "validation")
    require_same_features(X, X_val)
    d = X.shape[1]
    n = d if per_feature else 1
    lower = Penalised(HalfSquares(X, y, n), log)
    domain = None if log else Box(lowest, None, open=lowest == 0)
    return BilevelProblem(
        HalfSquares(X_val, y_val, n),
        lower,
        domain,
        name or f"ridge.{'log_penalty' if log else 'penalty'} (n={n}, d={d})",
        np.zeros(n) if log else np.full(n, max(1.0, lowest)),
    )


def random(
    *,
    d: int,
    seed: int,
    rows: int | None = None,
    per_feature: bool = False,
    log: bool = False,
    lowest: float = 0.0,
    spectrum: Sequence[float] | None = None,
    noise: float = 0.5,
) -> BilevelProblem:
    """A random ridge problem: XᵀX/N has the given eigenvalues (log-spaced in [1/100, 1] by default).

    Targets are X w̄ + noise with w̄ and the noise standard normal; validation data are drawn likewise.

    >>> random(d=3, seed=0, per_feature=True, log=True).n
    3
    """
    rng = np.random.default_rng(seed)
    rows = 2 * d + 1 if rows is None else rows
    spectrum = np.geomspace(1 / 100, 1, d).tolist() if spectrum is None else spectrum
    truth = rng.standard_normal(d)

    def drawn() -> tuple[np.ndarray, np.ndarray]:
        X = design(rows, spectrum, rng)
        return X, X @ truth + noise * rng.standard_normal(rows)

    kind = "log_penalty" if log else "penalty"
    return problem(
        *drawn(),
        *drawn(),
        per_feature=per_feature,
        log=log,
        lowest=lowest,
        name=f"ridge.{kind} (n={d if per_feature else 1}, d={d}, seed={seed})",
    )
