r"""Families over λ ∈ Λ = [0, 1] for theorem 1, BiG-SAM run at all λ of a grid at once, in floats.

``Turning``: G(λ, w) = h φ(n(λ)·w − c(λ)), n = (cos ωλ, sin ωλ, 0 …), c = c_0 + c_1λ: the minimisers are a turning
hyperplane. φ = ½u² (growth h) or the staircase φ' = u, 1/3, 1/3 + (u − 1), u/2 with knots 1/3, 1, 4/3, growth ½ and
φ'' <= 1: dist(w, S) <= ‖∇_wG‖/ρ with ρ = h, or 1/ρ = 2/σ − 1/L = 3/h. F = ½(w − a)ᵀQ(w − a) + ιλ².

``Fading``: d = 1, G = ½λw², F = ½q(w − a)² + ½μ(λ − c)²: S_0 is everything, S_λ = {0} beside it, so f drops at λ = 0.
Growth is λ: there is no σ for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.rates import Rate
from refimpl.solvers import Averaging, contraction_of
from verification.claims.improved_bilevel._instances import EPS, bigsam, orthogonal
from verification.model import Hypothesis


@dataclass(frozen=True)
class Frozen(Rate):
    """α_k = 1/4: no schedule of BiG-SAM."""

    def __call__(self, k: int) -> float:
        return 0.25


@dataclass(frozen=True)
class Scheduled:
    """The method's constants from σ_F, L_F and ``share`` of the longest t that is allowed."""

    params: Mapping[str, Any]

    @property
    def sigma(self) -> float:
        raise NotImplementedError

    @property
    def smoothness(self) -> float:
        raise NotImplementedError

    @cached_property
    def t(self) -> float:
        return float(self.params["share"]) / self.smoothness

    @cached_property
    def beta(self) -> float:
        return contraction_of(self.sigma, self.smoothness, self.t)

    @property
    def gamma(self) -> float:
        return float(self.params["gamma"])

    @property
    def c(self) -> float:
        return 2 * self.gamma / (1 - self.beta)

    @property
    def alpha(self) -> Rate:
        return Frozen() if self.params.get("frozen") else Averaging(self.beta, self.gamma)

    @property
    def K(self) -> int:
        return int(self.params["K"])


def staircase(u: np.ndarray) -> np.ndarray:
    """φ' of ``Turning``."""
    x = np.abs(u)
    steps = np.where(x < 1 / 3, x, np.where(x < 1, 1 / 3, np.where(x < 4 / 3, x - 2 / 3, x / 2)))
    return np.sign(u) * steps


@dataclass(frozen=True)
class Turning(Scheduled):
    """Parameters h, omega, c (two numbers), a, q, tilt, s (times 1/h), share, gamma, stairs, K, d; ``lift`` "
    "is ι, or 0."""

    @property
    def d(self) -> int:
        return int(self.params["d"])

    @cached_property
    def spectrum(self) -> np.ndarray:
        return np.array(self.params["q"][: self.d], dtype=float)

    @property
    def sigma(self) -> float:
        return float(self.spectrum.min())

    @property
    def smoothness(self) -> float:
        return float(self.spectrum.max())

    @cached_property
    def Q(self) -> np.ndarray:
        S = orthogonal(self.d, self.params["tilt"])
        return (S * self.spectrum) @ S.T

    @cached_property
    def lams(self) -> np.ndarray:
        return np.linspace(0, 1, 17)

    @cached_property
    def normals(self) -> np.ndarray:
        found = np.zeros((len(self.lams), self.d))
        found[:, 0], found[:, 1] = (
            np.cos(self.params["omega"] * self.lams),
            np.sin(self.params["omega"] * self.lams),
        )
        return found

    @cached_property
    def levels(self) -> np.ndarray:
        first, slope = self.params["c"]
        return first + slope * self.lams

    @property
    def h(self) -> float:
        return float(self.params["h"])

    @property
    def s(self) -> float:
        return float(self.params["s"]) / self.h

    @property
    def rho(self) -> float:
        """dist <= ‖∇G‖/ρ; times ``stated``, if that is told."""
        return (self.h / 3 if self.params["stairs"] else self.h) * self.params.get("stated", 1.0)

    @property
    def growth(self) -> float:
        """σ: G − min G >= ½σdist²; times ``stated``, if that is told."""
        return (self.h / 2 if self.params["stairs"] else self.h) * self.params.get("stated", 1.0)

    @cached_property
    def a(self) -> np.ndarray:
        return np.array(self.params["a"][: self.d], dtype=float)

    def grad_G(self, w: np.ndarray) -> np.ndarray:
        u = (self.normals * w).sum(axis=-1) - self.levels
        return self.h * (staircase(u) if self.params["stairs"] else u)[..., None] * self.normals

    def grad_F(self, w: np.ndarray) -> np.ndarray:
        return (w - self.a) @ self.Q

    def F(self, w: np.ndarray) -> np.ndarray:
        lift = self.params.get("lift", 0.0) * self.lams**2
        return np.asarray(((w - self.a) @ self.Q * (w - self.a)).sum(axis=-1) / 2 + lift)

    @cached_property
    def solutions(self) -> np.ndarray:
        """w_λ = a + Q⁻¹n (c − n·a)/(nᵀQ⁻¹n)."""
        towards = np.linalg.solve(self.Q, self.normals.T).T
        missing = (self.levels - self.normals @ self.a) / (self.normals * towards).sum(axis=1)
        return np.asarray(self.a + towards * missing[:, None])

    @cached_property
    def states(self) -> np.ndarray:
        """w_0 … w_K, (K + 1, Λ, d)."""
        start = np.zeros((len(self.lams), self.d))
        states, _ = bigsam(
            self.grad_G, self.grad_F, start, s=self.s, t=self.t, alpha=self.alpha, steps=self.K
        )
        return np.array(states)

    @cached_property
    def slopes(self) -> np.ndarray:
        """‖∇F(w_λ)‖, at every λ."""
        return np.asarray(np.linalg.norm(self.grad_F(self.solutions), axis=1))

    @property
    def slope(self) -> float:
        """sup_λ ‖∇F(w_λ)‖."""
        return float(self.slopes.max())

    @cached_property
    def majorants(self) -> tuple[np.ndarray, np.ndarray]:
        """X_k >= dist(w_k, S_λ) and D_k >= ‖w_k − w_λ‖, k = 1 … K, at every λ: (K, Λ) each.

        D_0 = X_0 = ‖w_0 − w_λ‖; the recursions are those of ``theorem_1_uniform``'s docstring.
        """
        pushed, radius = self.t * self.slopes, np.linalg.norm(self.solutions, axis=1)
        kept = 1 - self.t * self.sigma
        most = np.maximum(radius, pushed / (1 - kept))
        shrunk = np.sqrt(max(0.0, 1 - self.s * self.growth))
        X, D, found = radius, radius, []
        schedule = Averaging(self.beta, self.gamma)
        for k in range(self.K):
            alpha = schedule(k)
            drawn = np.minimum(X + self.t * self.smoothness * D, kept * D)
            X = np.minimum(most, alpha * (drawn + pushed) + (1 - alpha) * shrunk * X)
            D = np.minimum(most, np.sqrt(((1 - alpha * (1 - kept)) * D) ** 2 + 2 * alpha * pushed * X))
            found.append((X, D))
        return np.array([x for x, _ in found]), np.array([d for _, d in found])

    @property
    def below(self) -> np.ndarray:
        """‖g‖X_k >= f − f_k, (K, Λ)."""
        return np.asarray(self.slopes * self.majorants[0])

    @property
    def above(self) -> np.ndarray:
        """‖g‖D_k + ½L_FD_k² >= f_k − f, (K, Λ)."""
        D = self.majorants[1]
        return np.asarray(self.slopes * D + self.smoothness * D * D / 2)

    @cached_property
    def C(self) -> float:
        far = float(np.linalg.norm(self.solutions, axis=1).max())
        return max(far, self.t * self.slope / (1 - self.beta))

    @property
    def R(self) -> float:
        """8γ²C/((2γ − 1)(1 − β)sρ)."""
        return 8 * self.gamma**2 * self.C / ((2 * self.gamma - 1) * (1 - self.beta) * self.s * self.rho)

    @cached_property
    def tracking(self) -> float:
        """Y of lemma 2, for every λ; of the quadratic case."""
        values, vectors = np.linalg.eigh(self.Q)
        roots = self.normals @ ((vectors / np.sqrt(values)) @ vectors.T)
        least = self.h * float((roots**2).sum(axis=1).min())
        g = self.grad_F(self.solutions) @ ((vectors / np.sqrt(values)) @ vectors.T)
        D = float(np.linalg.norm(g, axis=1).max()) / (self.s * least * np.sqrt(self.sigma))
        pushed = D * self.t * self.c
        return max(4 * self.C * (self.c + 1) + 2 * self.C, 4 * pushed / (2 * self.gamma - 1)) + 2 * pushed

    @cached_property
    def ks(self) -> np.ndarray:
        return np.arange(1, self.K + 1)

    @property
    def squares(self) -> np.ndarray:
        """sup_λ ‖w_k − w_λ‖², k = 1 … K."""
        return np.asarray(((self.states[1:] - self.solutions) ** 2).sum(axis=-1).max(axis=1))

    @property
    def allowed(self) -> np.ndarray:
        """4γCR/((2γ − 1)k)."""
        return np.asarray(4 * self.gamma * self.C * self.R / ((2 * self.gamma - 1) * self.ks))

    @property
    def uniform(self) -> np.ndarray:
        """What the distances allow sup|f_k − f| to be: ‖g‖D + ½L_FD²."""
        D = np.sqrt(self.allowed)
        return self.slope * D + self.smoothness * D * D / 2

    @property
    def errors(self) -> np.ndarray:
        """f_k − f, (K, Λ)."""
        return np.asarray(self.F(self.states[1:]) - self.F(self.solutions))

    @cached_property
    def rounding(self) -> float:
        return (
            10
            * self.d
            * self.K
            * EPS
            * (self.C + float(np.linalg.norm(self.a)))
            * self.smoothness
            / self.sigma
        )


@dataclass(frozen=True)
class Fading(Scheduled):
    """Parameters q, a, mu, c, w0, s, share, gamma, K; L_G = 1."""

    @property
    def sigma(self) -> float:
        return float(self.params["q"])

    @property
    def smoothness(self) -> float:
        return self.sigma

    def __getattr__(self, name: str) -> float:
        if name in ("a", "mu", "s", "w0"):
            return float(self.params[name])
        raise AttributeError(name)

    @property
    def at(self) -> float:
        """The λ at which F would like to be."""
        return float(self.params["c"])

    @cached_property
    def lams(self) -> np.ndarray:
        return np.unique(
            np.concatenate([[0.0, self.at, 1.0], np.geomspace(1e-7, 1, 141), np.linspace(0, 1, 60)])
        )

    def F(self, w: np.ndarray) -> np.ndarray:
        return self.sigma * (w - self.a) ** 2 / 2 + self.mu * (self.lams - self.at) ** 2 / 2

    @cached_property
    def reached(self) -> np.ndarray:
        """f_K on the grid."""
        lams, q = self.lams, self.sigma
        start = np.full(len(lams), self.w0)
        states, _ = bigsam(
            lambda w: lams * w,
            lambda w: q * (w - self.a),
            start,
            s=self.s,
            t=self.t,
            alpha=self.alpha,
            steps=self.K,
        )
        return self.F(states[-1])

    @property
    def f(self) -> np.ndarray:
        return self.F(np.where(self.lams > 0, 0.0, self.a))

    @cached_property
    def C(self) -> float:
        return max(abs(self.w0 - self.a), abs(self.w0), self.t * self.sigma * abs(self.a) / (1 - self.beta))

    @cached_property
    def gap(self) -> float:
        """η_K: G(λ, w_K) − min <= η_K at every λ, as Lemma 2's value-descent has it (L_G = 1, t <= 1/L_F)."""
        later = np.arange(math.floor(self.c) + 1, self.K + 1)
        A, m = float((1 - self.c / later).sum()), self.c * self.t * self.sigma
        kappa = 0.5 * math.exp(max(0.0, m * (1 - m)))
        late = kappa / A + self.gamma / (self.K - self.c) if A > 0 else math.inf
        return self.C**2 / self.s * min(0.5, late)

    @property
    def floor(self) -> np.ndarray:
        """min of F(λ, ·) where G(λ, ·) − min <= η_K, at every λ of the grid: no more than f_K."""
        with np.errstate(divide="ignore"):
            reach = np.sqrt(2 * self.gap / self.lams)
        return self.F(self.a - np.sign(self.a) * np.maximum(abs(self.a) - reach, 0))

    @property
    def best(self) -> float:
        """A minimiser of f."""
        return float(self.lams[int(np.argmin(self.f))])

    @cached_property
    def left(self) -> float:
        """Π(1 − α_ktq − (1 − α_k)sλ̄), k = 1 … K, at a minimiser λ̄ of f: how much of w_0 is left in w_K(λ̄)."""
        alphas = np.array([self.alpha(k) for k in range(self.K)])
        return float(np.prod(1 - alphas * self.t * self.sigma - (1 - alphas) * self.s * self.best))

    @cached_property
    def ceiling(self) -> float:
        """f_K(λ̄) − f(λ̄) is at most this; exactly this at λ̄ = 0, where no step sees G.

        For λ̄ > 0 w_K = left w_0 + θa with θ >= 0 and left + θ <= 1, w_λ̄ = 0, and F(λ̄, ·) is convex.
        """
        if self.best > 0:
            return self.left * max(0.0, self.sigma * ((self.w0 - self.a) ** 2 - self.a**2) / 2)
        return self.sigma * (self.left * (self.w0 - self.a)) ** 2 / 2

    @cached_property
    def rounding(self) -> float:
        return 10 * self.K * EPS * (1 + self.C) ** 2 * (self.sigma + self.mu)


def _touches(case: Scheduled) -> tuple[bool, float]:
    return case.c < case.K, case.c


def _scheduled(case: Scheduled) -> tuple[bool, str]:
    return not case.params.get("frozen"), "constant" if case.params.get("frozen") else "c/k"


TOUCHES = Hypothesis("the schedule touches G", r"\tfrac{2\gamma}{1-\beta} < K", _touches)
SCHEDULE = Hypothesis("the schedule is BiG-SAM's", r"\alpha_k = \min\{\tfrac{c}{k}, 1\}", _scheduled)
GAMMA = Hypothesis(
    "γ above one half", r"\tfrac12 < \gamma \le 1", lambda case: (0.5 < case.gamma <= 1, case.gamma)
)
GROWTH = Hypothesis(
    "one growth constant",
    r"G(\lambda,\cdot)-\min \ge \tfrac\sigma2\operatorname{dist}(\cdot,S_\lambda)^2 \text{ for every } \lambda",
    lambda case: (case.params.get("stated", 1.0) <= 1, case.rho),
)
