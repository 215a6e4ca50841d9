"""The derivative through BiG-SAM tends to the improved model's hypergradient, as 1/K, where the rank is constant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.solvers import Averaging, contraction_of
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, rate, reals

WINDOW = (500, 2000)  # fixed before any run: the fitted exponent is that between its ends
# the error is (κ/K)(1 + O(c/K)), c = 2γ/(1 − β) <= 5 for q <= 4: of the order of 1 % at K = 500, ten times that for the
# smallest κ allowed, and log₄ 1.1 < 0.1
HALF_WIDTH = 0.1
NEARBY = 2.0**-20  # where the slope of f is looked up if it has none at λ itself


@dataclass(frozen=True)
class Turning:
    """R², n = 1, λ = 0: G = ½(n(λ)·w − c(λ))², F = ½(w − a)ᵀQ(λ)(w − a).

    n = (1, λ turn), c = 1 + λ; with ``drop`` λ times both.

    Q(λ) = diag(1, q) + λ k (1 1; 1 1), a(λ) = a + λ (1, 1).
    """

    params: Mapping[str, Any]

    @property
    def gamma(self) -> float:
        return float(self.params["gamma"])

    def row(self, lam: float) -> tuple[np.ndarray, np.ndarray]:
        """n(λ) and its derivative."""
        n, moves = np.array([1.0, lam * self.params["turn"]]), np.array([0.0, self.params["turn"]])
        return (lam * n, n + lam * moves) if self.params.get("drop") else (n, moves)

    def target(self, lam: float) -> tuple[float, float]:
        """n(λ)·w wants this; and its derivative."""
        return (lam * (1 + lam), 1 + 2 * lam) if self.params.get("drop") else (1 + lam, 1.0)

    def upper(self, lam: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Q, Q', a, a'."""
        turned = self.params["k"] * np.ones((2, 2))
        Q = np.diag([1.0, self.params["q"]]) + lam * turned
        return Q, turned, np.array(self.params["a"], dtype=float) + lam, np.ones(2)

    @property
    def sizes(self) -> tuple[float, float]:
        """σ_F and L_F at λ = 0."""
        return min(1.0, float(self.params["q"])), max(1.0, float(self.params["q"]))

    @property
    def t(self) -> float:
        return 2 / sum(self.sizes)

    @property
    def beta(self) -> float:
        return contraction_of(*self.sizes, self.t)

    def solution(self, lam: float) -> np.ndarray:
        """w_λ."""
        (n, _), (c, _), (Q, _, a, _) = self.row(lam), self.target(lam), self.upper(lam)
        N = np.array([-n[1], n[0]])
        p = n * c / (n @ n)
        return np.asarray(p + N * (N @ Q @ (a - p)) / (N @ Q @ N))

    @cached_property
    def kappa(self) -> float:
        """The derivative in λ of −2γt/((1−β)s) gᵀH⁺g, g = ∇_wF(w_λ), H = n nᵀ, s = 1: K(F(w_K) − f) tends to that."""

        def behind(lam: float) -> float:
            (n, _), (Q, _, a, _) = self.row(lam), self.upper(lam)
            return float((n @ Q @ (self.solution(lam) - a)) ** 2 / (n @ n) ** 2)

        at, step = self.at, NEARBY / 2
        slope = (behind(at + step) - behind(at - step)) / (2 * step)
        return -2 * self.gamma * self.t / (1 - self.beta) * slope

    @property
    def at(self) -> float:
        """λ, or beside it where f has no slope there."""
        return NEARBY if self.params.get("drop") else 0.0

    def exact(self, lam: float) -> float:
        """∇f: ∇_λF − cross H⁺∇_wF at w_λ, H = n nᵀ."""
        (n, m), (c, e), (Q, P, a, b) = self.row(lam), self.target(lam), self.upper(lam)
        w = self.solution(lam)
        g, direct = Q @ (w - a), (w - a) @ P @ (w - a) / 2 - b @ Q @ (w - a)
        cross = m * (n @ w - c) + n * (m @ w - e)
        return float(direct - cross @ (n * (n @ g)) / (n @ n) ** 2)

    @cached_property
    def errors(self) -> list[float]:
        """|dF(λ, w_K)/dλ − ∇f| at λ = 0 and the K of the window, in forward mode."""
        (n, m), (c, e), (Q, P, a, b) = self.row(0.0), self.target(0.0), self.upper(0.0)
        t, s, alpha = self.t, 1.0, Averaging(self.beta, self.gamma)
        true, found = self.exact(self.at), []
        w, dw = np.zeros(2), np.zeros(2)
        for k in range(1, WINDOW[1] + 1):
            weight = alpha(k - 1)
            slope = weight * t * (P @ (w - a) - Q @ b) + (1 - weight) * s * (
                m * (n @ w - c) + n * (m @ w - e)
            )
            move = weight * t * (Q @ dw) + (1 - weight) * s * n * (n @ dw)
            w, dw = w - weight * t * Q @ (w - a) - (1 - weight) * s * n * (n @ w - c), dw - move - slope
            if k in WINDOW:
                off = w - a
                value = off @ P @ off / 2 + (dw - b) @ Q @ off
                found.append(abs(float(value) - true))
        return found

    @property
    def size(self) -> float:
        return 1 + abs(self.exact(self.at))


def fitted(power: float = 1.0) -> Any:
    """The exponent between the ends of the window against −``power``."""

    def measure(run: Turning) -> Measurement:
        first, last = run.errors
        slope = float(np.log(last / first) / np.log(WINDOW[1] / WINDOW[0]))
        return rate(slope, -power, HALF_WIDTH, errors=[first, last])

    return measure


def _rank(run: Turning) -> tuple[bool, Any]:
    n, _ = run.row(0.0)
    return bool(n.any()), f"n = {n.tolist()}"


def _coefficient(run: Turning) -> tuple[bool, float]:
    share = abs(run.kappa) / run.size
    return share > 0.1, share


def of(gamma: float = 1.0, **more: Any) -> dict[str, Any]:
    """Parameters of one problem."""
    return {"gamma": gamma, "turn": 1.0, "q": 2.0, "k": 0.5, "a": [3.0, 2.0], **more}


CLAIMS = (
    Claim(
        id="improved-bilevel/improved-hypergradient@bigsam",
        title="The derivative through BiG-SAM tends to the hypergradient like 1/K",
        source="improved-bilevel, algorithm 2 and theorem 1",
        statement=r"\frac{d}{d\lambda}F(\lambda, w_K(\lambda)) - \nabla f(\lambda) \sim \frac{\kappa}{K}, "
        r"\quad \gamma > \tfrac12",
        hypotheses=(
            Hypothesis(
                "constant rank", r"\mathrm{rank}\,\nabla^2_{ww}G \text{ constant near } \lambda", _rank
            ),
            Hypothesis("γ above one half", r"\gamma > \tfrac12", lambda run: (run.gamma > 0.5, run.gamma)),
            Hypothesis(
                "κ is not small",
                r"|\kappa| > \tfrac1{10}(1 + |\nabla f|), \quad \kappa = -\frac{2\gamma t}{(1-\beta)s}"
                r"\frac{d}{d\lambda}\left(g^\top H^+g\right)",
                _coefficient,
            ),
        ),
        strategy=st.fixed_dictionaries(
            {
                "gamma": reals(0.75, 1),
                "turn": reals(-1, 1),
                "q": reals(1, 4),
                "k": reals(-0.5, 0.5),
                "a": st.tuples(reals(2, 4), reals(-3, 3)).map(list),
            }
        ),
        explicit=(of(), of(0.75), of(turn=0.5, q=4.0)),
        build=lambda params: Turning(dict(params)),
        measure=fitted(),
        grade="exact",
        controls=(
            Control("γ = 1/10", params=of(0.1, q=1.0)),
            Control("the rank changes at λ", params=of(drop=True)),
            Control("1/K²", kind="formula", measure=fitted(2.0)),
            Control("1/√K", kind="formula", measure=fitted(0.5)),
        ),
        budget=Budget(quick=2, full=150),
        notes="The null space turns with $\\lambda$. $K(F(\\lambda, w_K) - f)$ tends to $-\\frac{2\\gamma "
        "t}{(1-\\beta)s}g^\\top H^+g$, $g = \\nabla_wF$ at $w_\\lambda$ (Tikhonov's error, at this step's ε), and κ is "
        "its slope. Proof sketch: the null part of the derivative is driven "
        "by $-sN^\\top H'Ue_k$, of order $1/k$ and not $\\alpha_k/k$; it cancels against $-\\alpha_ktN^\\top "
        "g'$, as $N^\\top H' = -N'^\\top H$ and $N^\\top g' = -N'^\\top g$ at $w_\\lambda$, and what is left "
        "is of order $1/k^2$. In general the exponent is $\\min(1, 2e)$, $e = 2\\gamma tq/(1-\\beta) \\ge "
        "2\\gamma$. At a change of rank the derivative is just as smooth in K, finite, and means nothing.",
    ),
)
