"""Descent with noise on a quadratic, with exact moments: θ⁺ = θ − γ(Hθ + ξ), and with dropout in a linear model.

ξ = Σ_k η_k b_k, one dropout variable η_k (two values, mean 0, variance s = (1 − p)/p) for each row b_k, so that Cov ξ =
s Σ_k b_kb_kᵀ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.arrays import Backend, factor
from refimpl.arrays.backend import Array
from refimpl.moments import AffineStep, Moments, affine_step, mean_and_second, stationary
from refimpl.spaces import Bernoulli
from verification.claims.dropout_flatness._planted import PARTS, RATIONAL


def rational(x: Any) -> Array:
    """Nested lists of whole numbers and Fractions, on the rationals."""
    given = np.asarray(x, dtype=object)
    return RATIONAL.reshape(RATIONAL.asarray([RATIONAL.scalar(e) for e in given.ravel()]), given.shape)


@dataclass(frozen=True, eq=False)
class Descent:
    """H (d, d), rows b_k (K, d), keep probability p, step γ."""

    H: Array
    rows: Array
    p: Fraction
    step: Any

    @property
    def noise(self) -> Array:
        """Cov ξ."""
        return RATIONAL.scalar((1 - self.p) / self.p) * (self.rows.T @ self.rows)

    @property
    def contraction(self) -> Array:
        """A = I − γH."""
        return RATIONAL.eye(len(self.H)) - self.step * self.H

    @cached_property
    def recursion(self) -> AffineStep:
        """All masks of the η_k."""
        space = Bernoulli([self.p] * len(self.rows))

        def coefficients(points: Any) -> tuple[Array, Array]:
            eta = space.mask(points, RATIONAL, "inverse") - 1
            A = self.contraction + RATIONAL.zeros((len(eta), 1, 1))
            return A, -self.step * (eta @ self.rows)

        made = affine_step(space, coefficients, RATIONAL)
        assert isinstance(made, AffineStep)
        return made

    @cached_property
    def covariance(self) -> Array:
        """Of θ in the long run, by the library's solver of moments."""
        return stationary(self.recursion).moments.covariance

    def window(self, N: int) -> Any:
        """E of the population variance of N consecutive θ, d = 1: moments of (θ, θ_1 + … + θ), step by step."""
        walk = self.recursion
        d = 1
        T = RATIONAL.zeros((walk.points, d + 2, d + 2))
        T[:, 0, 0] = T[:, 1, 0] = walk.transitions[:, 0, 0]
        T[:, 0, 2] = T[:, 1, 2] = walk.transitions[:, 0, 1]
        T[:, 1, 1] = T[:, 2, 2] = RATIONAL.scalar(1)
        c = self.covariance[0, 0]
        start = Moments.of(RATIONAL, RATIONAL.zeros((2,)), c + RATIONAL.zeros((2, 2)))
        end = mean_and_second(AffineStep(RATIONAL, T, walk.probabilities), start, N - 1)
        return c - end.second[1, 1] / N**2


def descent(params: Mapping[str, Any]) -> Descent:
    """H = GᵀG, G upper triangular with 1, 2, … and ``upper`` above; noise from ``noise``'s rows, else from G's.

    ``p`` in eighths; the step is ``step`` eighths of 1/Tr H, so below 1/λ_max(H) where ``step`` < 8.
    """
    d, upper = params["d"], params["upper"]
    G = np.diag(np.arange(1, d + 1))
    G[np.triu_indices(d, 1)] = upper[: d * (d - 1) // 2]
    H = rational((G.T @ G).tolist())
    rows = rational(params.get("noise", G.tolist()))
    step = RATIONAL.scalar(Fraction(params["step"], 8)) / sum(H[i, i] for i in range(d))
    return Descent(H, rows, Fraction(params["p"], PARTS), step)


@dataclass(frozen=True, eq=False)
class Regression:
    """f_η = θ·((1 + η) ∘ x, 1), the squared loss over samples, descent on R_η with one mask for the batch a step.

    designs (K, n, d) of all masks and their probabilities (K,): every step is affine in θ.
    """

    designs: np.ndarray
    chances: np.ndarray
    y: np.ndarray

    @cached_property
    def curvatures(self) -> np.ndarray:
        """∇²R_η, (K, d, d)."""
        return np.swapaxes(self.designs, 1, 2) @ self.designs / len(self.y)

    @cached_property
    def hessian(self) -> np.ndarray:
        """∇²E_ηR."""
        return np.tensordot(self.chances, self.curvatures, 1)

    @cached_property
    def minimum(self) -> np.ndarray:
        pull = np.tensordot(self.chances, np.swapaxes(self.designs, 1, 2) @ self.y, 1) / len(self.y)
        return np.linalg.solve(self.hessian, pull)

    @cached_property
    def gradients(self) -> np.ndarray:
        """∇R_η at the minimum, (K, d)."""
        errors = self.designs @ self.minimum - self.y
        return np.einsum("kni,kn->ki", self.designs, errors) / len(self.y)

    @cached_property
    def noise(self) -> np.ndarray:
        """Their covariance."""
        return (self.gradients * self.chances[:, None]).T @ self.gradients

    def covariance(self, step: float) -> np.ndarray:
        """Of θ in the long run, by the library's solver of moments, around the minimum."""
        B, d = Backend(), len(self.minimum)
        T = np.zeros((len(self.chances), d + 1, d + 1))
        T[:, :d, :d] = np.eye(d) - step * self.curvatures
        T[:, :d, d] = -step * self.gradients
        T[:, d, d] = 1
        return np.asarray(stationary(AffineStep(B, T, self.chances)).moments.covariance)

    def lyapunov(self) -> np.ndarray:
        """X with HX + XH = Σ at the minimum."""
        d, eye = len(self.minimum), np.eye(len(self.minimum))
        system = np.kron(self.hessian, eye) + np.kron(eye, self.hessian)
        return np.asarray(factor(Backend(), system).solve(self.noise.ravel())).reshape(d, d)


def regression(params: Mapping[str, Any]) -> Regression:
    """m inputs and a bias, n samples from ``seed``, keep probability ``p`` in eighths."""
    m, n = params["m"], params["n"]
    rng = np.random.default_rng(params["seed"])
    X, y = rng.standard_normal((n, m)), rng.standard_normal(n)
    space = Bernoulli([Fraction(params["p"], PARTS)] * m)
    index = np.arange(space.size)
    masks = space.mask(space.points(index), Backend(), "inverse")
    designs = np.concatenate([masks[:, None] * X, np.ones((space.size, n, 1))], axis=-1)
    return Regression(designs, np.asarray(space.probabilities(index)), y)
