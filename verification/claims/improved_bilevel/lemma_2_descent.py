r"""Lemma 2 for every γ in (0, 1], where t <= 1/L_F: BiG-SAM as descent on a sum that changes with k.

Step k is w ← w − ∇Φ_k(w), Φ_k = (1−α_k)ψ_k, ψ_k = sG + ε_kF, ε_k = tα_k/(1−α_k): 1-smooth, and μ_k-strongly convex with
μ_k = α_ktσ_F. With c = 2γ/(1−β), k_0 = ⌊c⌋, A_k = Σ_{i=k_0+1}^k (1 − c/i), Δ_k = ψ_k(w_k) − ψ_k(w_λ), d_k = ‖w_k −
w_λ‖:

    (1−α_k)Δ_k + ½d_k² <= ½(1−μ_k)d_{k−1}²,    Δ_k <= (1−μ_k)[Δ_{k−1} + (ε_{k−1}−ε_k)(F(w_λ) − F(w_{k−1}))],

the second because a step from w_{k−1} takes ψ_k's gap below its minimum down by 1 − μ_k, and ψ_k(w_λ) is no less than
that minimum. So E_k = A_kΔ_k + ½d_k² obeys E_k <= (1−μ_k)[E_{k−1} + A_{k−1}(ε_{k−1}−ε_k)‖∇F(w_λ)‖²/(2σ_F)].
The summands of A increase, so A_{k−1}(ε_{k−1}−ε_k) <= tc/(k−1); and ‖∇F(w_λ)‖ <= C(1−β)/t <= Cσ_F. With m = ctσ_F:

    E_k <= (1 − m/k)[E_{k−1} + (m/(k−1))C²/2],    E_{k_0} <= C²/2,

and (1 − m/k)(x + m/(k−1)) <= x(1 + m(1−m)/(k(k−1))) for x >= 1: E_k <= κC², κ = ½ exp(max{0, m(1−m)}), which is ½ for
γ >= ½, as m = 2γtσ_F/(1−β) >= 2γ. Finally sA_k(G(w_k) − min G) <= E_k − ½d_k² + A_kε_k(F(w_λ) − F(w_k)), and
ε_k(F(w_λ) − F(w_k)) <= (tc/(k−c))‖∇F(w_λ)‖²/(2σ_F) <= γC²/(k−c).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from verification.claims.improved_bilevel._instances import (
    AWAY,
    EPS,
    LOWER_STEP,
    TOUCHES,
    Case,
    cases,
    line,
    worst,
)
from verification.claims.improved_bilevel.lemma_2 import FAMILIES, HUBER, LONG, SOURCE, STATED
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement


def kappa(case: Case) -> float:
    """½ exp(max{0, m(1 − m)}), m = 2γtσ_F/(1 − β)."""
    m = case.c * case.t * case.sigma
    return 0.5 * math.exp(max(0.0, m * (1 - m)))


def weights(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The k > c, and A_k there."""
    ks = case.ks[case.ks > case.c]
    return ks, np.cumsum(1 - case.c / ks)


def energy(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """E_k for k = ⌊c⌋ and every k > c; the rounding of each."""
    ks, A = weights(case)
    w, star = case.run[0][ks], case.solution
    epsilon = case.t * case.c / (ks - case.c)
    psi = case.s * (case.G(w) - case.G(star)) + epsilon * (case.F(w) - case.F(star))
    first = 0.5 * case.distances[ks[0] - 1] ** 2
    slopes = case.s * np.linalg.norm(case.grad_G(w), axis=1) + epsilon * np.linalg.norm(
        case.grad_F(w), axis=1
    )
    rounding = (A * slopes + case.distances[ks] + case.rounding) * case.rounding
    values = np.concatenate([[first], A * psi + 0.5 * case.distances[ks] ** 2])
    return values, np.concatenate([[case.C * case.rounding], rounding])


def lyapunov(share: Callable[[Case], float] = kappa) -> Callable[[Case], Measurement]:
    """E_k against κC²."""

    def measure(case: Case) -> Measurement:
        values, rounding = energy(case)
        return worst(
            values, np.full(len(values), share(case) * case.C**2), rounding, m=case.c * case.t * case.sigma
        )

    return measure


def bound(case: Case) -> np.ndarray:
    """C² min{½, κ/A_k + γ/(k − c)}/s, k > c."""
    ks, A = weights(case)
    return np.asarray(case.C**2 / case.s * np.minimum(0.5, kappa(case) / A + case.gamma / (ks - case.c)))


def value(of: Callable[[Case], np.ndarray] = bound) -> Callable[[Case], Measurement]:
    """G(w_k) − min G, k > c."""

    def measure(case: Case) -> Measurement:
        ks, _ = weights(case)
        w = case.run[0][ks]
        slope = np.linalg.norm(case.grad_G(w), axis=1)
        gap = case.G(w) - case.G(case.solution)
        return worst(gap, of(case), (slope + case.rounding) * case.rounding, c=case.c)

    return measure


def curve(case: Case) -> dict[str, Any]:
    """The gap against its bound."""
    ks, _ = weights(case)
    gap = np.maximum(case.G(case.run[0][ks]) - case.G(case.solution), 1e-16)
    labels = {"xlabel": "k", "ylabel": "G(w_k) − min G", "logx": True, "logy": True}
    return {"x": ks, "predicted": bound(case), "measured": gap, **labels}


def _short(case: Case) -> tuple[bool, float]:
    return 0 < case.t * case.smoothness <= 1 + 4 * EPS, case.t * case.smoothness


SHORT = Hypothesis("step on F", r"0 < t \le 1/L_F", _short)
HYPOTHESES = (TOUCHES, LOWER_STEP, SHORT, AWAY)
STILL = line(x=[1e-3], start=[1.0], a=[0.0], share=0.5, gamma=1e-4, s=0.1, K=20)
# G = δ|w| but for its knee, its slope as steep as K steps allow: there γ/(k − c) counts, C²κ/A_k alone is too small
STEEP = line(kind="huber", knee=1.5 / 120, K=120)
FAR = line(x=[0.02], share=1.0, gamma=0.25, a=[1.0], start=[1.0], K=200)
COMMON: dict[str, Any] = {
    "source": SOURCE + ", (41), sharpened here",
    "build": Case,
    "grade": "exact",
    "strategy": cases(within=True),
    "hypotheses": HYPOTHESES,
    "explicit": (line(x=[0.1], K=50), FAR, STILL, HUBER, STEEP),
}

CLAIMS = (
    Claim(
        id="improved-bilevel/lemma-2@lyapunov",
        title="A quantity that bounds BiG-SAM's lower gap and its distance at once, for every γ",
        statement=r"E_k = A_k\left(\psi_k(w_k)-\psi_k(w_\lambda)\right) + \tfrac12\|w_k-w_\lambda\|^2 \le \kappa C^2, "
        r"\quad \kappa = \tfrac12 e^{\max\{0,\,m(1-m)\}},\ m = \tfrac{2\gamma t\sigma_F}{1-\beta}",
        measure=lyapunov(),
        controls=(
            LONG,
            Control("1/4 for 1/2", kind="formula", measure=lyapunov(lambda c: kappa(c) / 2), params=STILL),
            Control(
                "C without ‖w_0 − w_λ‖",
                kind="formula",
                params=STILL,
                measure=lyapunov(lambda c: kappa(c) * (c.t * float(np.linalg.norm(c.g)) / c.C) ** 2),
            ),
        ),
        equality=Equality(params=STILL, reaches=0.999),
        budget=Budget(quick=40, full=1600),
        notes=r"$\psi_k = sG + \epsilon_kF$, $\epsilon_k = t\alpha_k/(1-\alpha_k)$, $A_k = \sum_{c<i\le k}(1-c/i)$, "
        r"$c = 2\gamma/(1-\beta)$; κ = ½ for $\gamma \ge \tfrac12$. Proof: the module's docstring. Equality as "
        "$\\gamma, sH \\to 0$, where nothing has moved yet." + FAMILIES,
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/lemma-2@value-descent",
        title="The lower value along BiG-SAM: a bound free of 1/(1 − β), for every γ",
        statement=r"t \le \tfrac1{L_F},\ k > c: \quad s\left(G(w_k)-\min G\right) \le C^2\min\left\{\tfrac12,\ "
        r"\frac{\kappa}{A_k}+\frac{\gamma}{k-c}\right\}, \quad " + STATED,
        measure=value(),
        controls=(
            LONG,
            Control(
                "k² for k", kind="formula", measure=value(lambda c: bound(c) / weights(c)[0]), params=FAR
            ),
            Control(
                "without κ/A_k",
                kind="formula",
                params=line(x=[0.02], share=1.0, gamma=0.02, start=[1.0], a=[0.0]),
                measure=value(lambda c: c.C**2 / c.s * c.gamma / (weights(c)[0] - c.c)),
            ),
            Control(
                "without γ/(k − c)",
                kind="formula",
                params=STEEP,
                measure=value(lambda c: c.C**2 / c.s * np.minimum(0.5, kappa(c) / weights(c)[1])),
            ),
            Control("a third of it", kind="formula", measure=value(lambda c: bound(c) / 3), params=STEEP),
        ),
        curve=curve,
        budget=Budget(quick=40, full=1600),
        notes=r"Tends to $(\kappa+\gamma)C^2/k$: no power of $1/(1-\beta)$, and valid for $\gamma \le \tfrac12$, where "
        r"Sabach and Shtern's recursion gives $k^{-2\gamma}$ only. $A_k$, κ, c as in @lyapunov; $G(y_{k+1}) \le "
        "G(w_k)$. It implies the printed bound for $t \\le 1/L_F$." + FAMILIES,
        **COMMON,
    ),
)
