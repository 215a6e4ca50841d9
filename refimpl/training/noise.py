"""Noise that is added to gradients: isotropic of a given trace, or Gaussian of a given covariance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import to_numpy
from refimpl.errors import BadInput


class Noise(ABC):
    """A random vector ξ(w) of R^d with mean 0, on the host; its law may depend on w."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, w: Any) -> np.ndarray:
        """ξ of w's shape (..., d), independent in all replicates."""


@dataclass(frozen=True, eq=False)
class Isotropic(Noise):
    """N(0, (trace/d) I): E‖ξ‖² = trace, whatever d is. trace: a number >= 0, or one for every replicate.

    >>> like_dropout = Isotropic(2.0)
    >>> like_dropout.draw(np.random.default_rng(0), np.zeros((4, 3))).shape
    (4, 3)
    """

    trace: Any

    def __post_init__(self) -> None:
        trace = np.asarray(self.trace, dtype=np.float64)
        if not (np.all(trace >= 0) and np.all(np.isfinite(trace))):
            raise BadInput(
                "the trace of no covariance",
                measured=self.trace,
                required="finite numbers >= 0",
                advice="take the trace of an exact covariance: np.trace(Σ)",
            )

    def draw(self, rng: np.random.Generator, w: Any) -> np.ndarray:
        spread = np.sqrt(np.asarray(self.trace, dtype=np.float64) / w.shape[-1])
        return np.asarray(spread[..., None] * rng.standard_normal(w.shape))


@dataclass(frozen=True, eq=False)
class Gaussian(Noise):
    """N(0, root rootᵀ), root (d, r); :func:`gaussian` makes it from a covariance."""

    root: np.ndarray

    def draw(self, rng: np.random.Generator, w: Any) -> np.ndarray:
        d, r = self.root.shape
        if w.shape[-1] != d:
            raise BadInput(
                "the noise does not fit the parameters",
                measured=f"a covariance of {d} coordinates, w of {w.shape[-1]}",
                required="a covariance of all parameters",
                advice="put the covariance of one layer into a d x d matrix that is zero elsewhere",
            )
        return np.asarray(rng.standard_normal((*w.shape[:-1], r)) @ self.root.T)


def gaussian(covariance: Any) -> Gaussian:
    """N(0, Σ) from Σ (d, d), symmetric and positive semidefinite up to the rounding of its eigenvalues.

    Directions whose eigenvalue is no more than rounding, 10 d eps times the largest, have no noise. Cost: one
    eigendecomposition here, d² operations for each draw and replicate. Raises ``BadInput``.
    """
    sigma = np.asarray(to_numpy(covariance), dtype=np.float64)
    if sigma.ndim != 2 or sigma.shape[0] != sigma.shape[1] or not np.all(np.isfinite(sigma)):
        raise BadInput(
            "not a covariance",
            measured=f"shape {sigma.shape}",
            required="a finite matrix (d, d)",
            advice="one matrix serves all replicates",
        )
    values, vectors = np.linalg.eigh((sigma + sigma.T) / 2)
    allowed = 10 * len(sigma) * 2.0**-52 * np.abs(values).max(initial=0.0)
    skew = np.abs(sigma - sigma.T).max(initial=0.0)
    if skew > allowed or values.min(initial=0.0) < -allowed:
        raise BadInput(
            "not a covariance",
            measured=f"smallest eigenvalue {values.min():.3e}, largest |Σ − Σᵀ| {skew:.3e}",
            required=f"symmetric and positive semidefinite to within {allowed:.1e}",
            advice="the printed formula of a covariance need not be one: look at its eigenvalues",
        )
    kept = values > allowed
    return Gaussian(vectors[:, kept] * np.sqrt(values[kept]))
