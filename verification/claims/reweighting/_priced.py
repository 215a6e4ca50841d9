"""Quadratic problems with Q = qH², and the map that the augmented Lagrangian by gradient descent iterates there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

import refimpl as ri
from refimpl import BilevelProblem
from refimpl.approximate import InnerDescent
from refimpl.approximate.penalty import Inner
from refimpl.zoo import quadratic
from verification.instances import EPS
from verification.model import reals

OURS = "reweighting, (19) and (21); the comparison is the ledger's own, not the document's"


@dataclass(frozen=True)
class Priced:
    """H with eigenvalues 1 … κ, Q = qH²; μ, and j inner steps of length ``share``·2/((q + μ)(κ² + 1))."""

    kappa: float
    q: float
    mu: float
    j: int
    share: float
    d: int
    seed: int

    @cached_property
    def problem(self) -> BilevelProblem:
        rng = np.random.default_rng(self.seed)
        H = quadratic.spectrum_matrix(np.geomspace(1, self.kappa, self.d).tolist(), rng)
        Q = self.q * H @ H
        lower = quadratic.objective(ww=H, lw=rng.standard_normal((2, self.d)), w1=rng.standard_normal(self.d))
        upper = quadratic.objective(ww=(Q + Q.T) / 2, w1=rng.standard_normal(self.d), n=2)
        return BilevelProblem(upper, lower)

    def inner(self, mu: float, steps: int | None = None) -> InnerDescent:
        return InnerDescent(
            self.j if steps is None else steps, self.share * 2 / ((self.q + mu) * (self.kappa**2 + 1))
        )

    @property
    def theta(self) -> float:
        """μ/(q + μ)."""
        return self.mu / (self.q + self.mu)

    @property
    def shrunk(self) -> float:
        """ρ: what an inner step leaves of the eigenvector to κ, the most negative of its factors."""
        return 1 - self.share * 2 * self.kappa**2 / (self.kappa**2 + 1)

    @property
    def settles(self) -> bool:
        """|ρ| < 1 and ρ^j > −(2 − θ)/(2 + θ)."""
        return abs(self.shrunk) < 1 and self.shrunk**self.j > -(2 - self.theta) / (2 + self.theta)

    def updated(self, w: np.ndarray, v: np.ndarray, steps: int = 1, inner: Inner | None = None) -> Any:
        """The package's own; gradient descent inside where no other method is given."""
        return ri.approximate.augmented_lagrangian(
            self.problem,
            np.zeros(2),
            mu=self.mu,
            steps=steps,
            inner=self.inner(self.mu) if inner is None else inner,
            w0=w,
            v0=v,
            check=False,
        )

    @cached_property
    def map(self) -> np.ndarray:
        """(w, v) ↦ (w⁺, v⁺) without its constant, column by column from the method itself."""

        def image(x: np.ndarray) -> np.ndarray:
            found = self.updated(x[: self.d], x[self.d :])
            return np.concatenate([found.w, found.v])

        origin = image(np.zeros(2 * self.d))
        return np.stack([image(e) - origin for e in np.eye(2 * self.d)], axis=-1)

    @cached_property
    def radius(self) -> tuple[float, float]:
        """The map's spectral radius, and its rounding (Bauer–Fike; 10 of a product's length of rounding per step)."""
        values, vectors = np.linalg.eig(self.map)
        size = float(np.linalg.norm(self.map, 2)) + 1 + self.mu * self.kappa
        rounding = 10 * 2 * self.d * self.j * EPS * size * float(np.linalg.cond(vectors))
        return float(np.abs(values).max()), rounding


def spent(calls: Mapping[str, int]) -> int:
    """Lower gradients and products with the lower Hessian."""
    return calls.get("lower.grad_w", 0) + calls.get("lower.hess_ww", 0)


def priced(params: Mapping[str, Any]) -> Priced:
    """The instance of ``params``."""
    return Priced(*(params[k] for k in ("kappa", "q", "mu", "j", "share", "d", "seed")))


def point(**more: Any) -> dict[str, Any]:
    """Parameters of one instance."""
    return {"kappa": 4.0, "q": 0.0, "mu": 1.0, "j": 2, "share": 1.0, "d": 2, "seed": 0, **more}


STRATEGY = st.fixed_dictionaries(
    {
        "kappa": reals(1.5, 12),
        "q": st.one_of(st.sampled_from([1.0, 4.0]), reals(0, 4)),
        "mu": reals(0.05, 20, log=True),
        "j": st.integers(1, 6),
        "share": st.one_of(st.sampled_from([0.75, 1.0, 1.05, 1.2]), reals(0.25, 1.5)),
        "d": st.sampled_from([2, 3, 4, 20]),
        "seed": st.integers(0, 99),
    }
)
EXPLICIT = (
    point(),
    point(q=1.0, j=3, share=0.75),
    point(kappa=10.0, mu=10.0, q=1.0, d=3, j=5, share=0.5),
    point(kappa=10.0, q=1.0, d=20, j=5, share=0.5),
)
