r"""What holds of Theorem 2: ‖∇F̄(λ_k)‖² → 0 in the mean like 1/√k, if Ĉ has masks of its own or line h is read @b.

Quadratic levels, n = d = 1, masks on w of both levels, none on λ, α_k = δ/√(k+1), no projection. h_s and h̄ = E h_s are
line h and its mean, h̄(λ, w, v) = ∇_λF̄ − C̄v: as λ is not masked, h_s − h̄ does not depend on λ, and so ε = d −
h̄(λ_prev, w, v) makes (λ, w, v, ε) a chain of its own. **Reading @a.** With
z̃ = (λ, w, v, ε) − (λ*, w*, v*, 0) an iteration is z̃⁺ = A_s(α) z̃ + b_s(α), polynomials in α, A = I + α𝒜 + …, b = O(α).
For randomness fresh and fresh-cross E b_s = 0: the drawn Ĉ is independent of v⁺ and of w⁺, and the mean step at z*
moves nothing. Let 𝒜 be stable, 𝒜ᵀX + X𝒜 = −(e_λe_λᵀ + I/8), V = z̃ᵀXz̃. As E b_s = 0, E[A_sᵀXb_s] is
q := E[(A_s−I)ᵀXb_s] = O(α²), and

    E V⁺ = E z̃ᵀE[A_sᵀXA_s]z̃ + 2q·E z̃ + E b_sᵀXb_s = E V − αE λ̃² − E z̃ᵀWz̃ + 2q·E z̃ + E bᵀXb,
    W = X − αe_λe_λᵀ − E[AᵀXA] = αI/8 + O(α²),

so where α is so small that W ≻ 0, from k_1 on, E V_{k+1} <= E V_k − α_k E λ̃_k² + ν_k with ν = E bᵀXb + qᵀW⁻¹q = O(α²).
Summing, with ∇F̄ = F̄″λ̃: Σ_{k_1 <= k < T} α_k E‖∇F̄(λ_k)‖² <= F̄″² (E V_{k_1} + Σ ν_k) = O(1 + ln T), while Σα_k ~ 2δ√T:
the average with weights α_k is O(ln T/√T).

**Reading @b.** Here ε = d − h̄(λ_prev, w, v_prev), and u = v − v_prev joins the state. u⁺ = O(α), and u enters ε⁺ by
−(C_s − C̄)u, of mean 0 but not small. So E A is I + α𝒜 + … in (λ, w, v, ε) with the same 𝒜, and 0 in u at α = 0. With
V = z̃ᵀXz̃ + X_uu u² and X_uu = X_εε(1 + Var C_s), W_uu = X_εε + O(α), and W between u and the rest is O(α): W ≻ 0 for
small α as before, q_u = O(α), and ν is O(α²) again. E b_s = 0 for shared masks too, as v̂ = v is older than they are.

For shared masks and reading @a E b_s ≠ 0, and the average tends to ‖∇F̄(λ_∞)‖² > 0 instead.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from verification.claims.dropout_bilevel._decay import EPS, Decay
from verification.model import Budget, Claim, Control, Hypothesis, Measurement

TIMES = 2000


def curve(case: Decay, share: float = 1.0) -> tuple[int, np.ndarray, np.ndarray, float]:
    """k_1, and for T = k_1 + 1, …: the averages with weights α_k, their bounds; and the rounding of the former.

    ``share``: of the noise ν.
    """
    X, first, noise = case.lyapunov(TIMES)
    seconds = case.seconds(TIMES)[first:]
    values, alphas = case.curvature**2 * seconds[:, 0], case.alphas(TIMES)[first:]
    allowed = case.energy(seconds[0], X) + share * np.cumsum(noise)
    total = np.cumsum(alphas)
    return (
        first,
        np.cumsum(alphas * values) / total,
        case.curvature**2 * allowed / total,
        case.rounding(seconds),
    )


def averaged(share: float = 1.0) -> Callable[[Decay], Measurement]:
    """The weighted average of E‖∇F̄(λ_k)‖² up to T against the theorem, at the T where it is nearest."""

    def measure(case: Decay) -> Measurement:
        first, found, allowed, rounding = curve(case, share)
        worst = int(np.argmax(found / np.maximum(allowed, np.finfo(float).tiny)))
        return Measurement(
            observed=float(found[worst]),
            bound=float(allowed[worst]),
            rounding=rounding,
            detail={"T": first + worst + 1, "k_1": first},
        )

    return measure


def _unbiased(case: Decay) -> tuple[bool, float]:
    size = 1 + float(np.abs(case.rest).max())
    allowed = 2**10 * EPS * size / case.delta * (1 + float(np.abs(case.algorithm.gamma)))
    return case.mean_error <= allowed, case.mean_error


def _stable(case: Decay) -> tuple[bool, float]:
    return case.abscissa < 0, case.abscissa


def _short(case: Decay) -> tuple[bool, int]:
    first = case.lyapunov(TIMES)[1]
    return first <= TIMES // 4, first


UNBIASED = Hypothesis("the mean rests at the stationary point", r"E\,b_s = 0", _unbiased)
STABLE = Hypothesis("the mean system is stable", r"\operatorname{Re}\,\mathrm{spec}\,\mathcal A < 0", _stable)
SHORT = Hypothesis("short steps soon", r"k_1 \le 500", _short)
SIMPLE = {
    "h": 4,
    "b": 4,
    "a": 0,
    "k": 0,
    "c": 4,
    "e": 4,
    "f": 0,
    "keep": 4,
    "gamma": 2,
    "beta": 2,
    "delta": 8,
}


def at(randomness: str, reading: str = "new", **more: Any) -> dict[str, Any]:
    """G = ½w² − λw, F = w + ½λ² unless told otherwise, kept with probability ½."""
    return {**SIMPLE, "randomness": randomness, "reading": reading, "offset": 0, **more}


def problems(uses: list[str], readings: list[str], deltas: list[int]) -> Any:
    """Strategy over the coefficients, step sizes and keep probabilities."""
    boxes = {
        "h": st.integers(3, 6),
        "b": st.integers(1, 4),
        "a": st.integers(0, 3),
        "k": st.integers(-1, 1),
        "c": st.integers(3, 6),
        "e": st.integers(1, 4),
        "f": st.integers(-2, 2),
        "keep": st.integers(3, 7),
        "gamma": st.integers(2, 4),
        "beta": st.integers(2, 4),
        "delta": st.sampled_from(deltas),
        "offset": st.integers(0, 1),
        "randomness": st.sampled_from(uses),
        "reading": st.sampled_from(readings),
    }
    return st.fixed_dictionaries(boxes)


def drawn(case: Decay) -> dict[str, Any]:
    """The averages and their bounds, for the plot."""
    first, found, allowed, _ = curve(case)
    keep = np.unique(np.geomspace(1, len(found), 60).astype(int)) - 1
    return {
        "x": first + keep + 1,
        "predicted": allowed[keep],
        "measured": found[keep],
        "xlabel": "T",
        "ylabel": "average of E‖∇F̄‖² with weights α_k",
        "logx": True,
        "logy": True,
    }


QUADRATIC = (
    r"n = d = 1, quadratic levels, masks on $w$ of both levels and none on $\lambda$, no projection, $\alpha_k = "
    r"\delta/\sqrt{k+1}$, $\eta\delta = 1$"
)


READ = {
    ("new", "old"): "Both readings of line h; with the v before it, $V$ has a term for $v_k - v_{k-1}$.",
    ("old",): "Line h at the v before; $V$ has a term for $v_k - v_{k-1}$. At v⁺ the control runs.",
}


def bound(name: str, use: str, readings: list[str], share: str, title: str) -> Claim:
    """The theorem for one use of randomness; ``share`` of its noise is too little."""
    return Claim(
        id=f"dropout-bilevel/theorem-2@{name}",
        title=title,
        source="dropout-bilevel, Theorem 2 for $\\nabla\\bar F$; derived here",
        statement=r"$$\sum_{k_1 \le k < T}\alpha_kE\|\nabla\bar F(\lambda_k)\|^2 \le (\bar "
        r"F'')^2\left(E\,V_{k_1} + \sum_{k_1 \le k < T}\nu_k\right) \text{ for every } T, \quad \nu_k = "
        r"O(\alpha_k^2)$$ for "
        + QUADRATIC
        + r", so that the average with weights $\alpha_k$ is $O(\ln T/\sqrt T)$",
        hypotheses=(STABLE, SHORT, UNBIASED),
        strategy=problems([use], readings, [2, 4, 8]),
        explicit=tuple(
            at(use, reading, **more) for more in ({}, {"delta": 4, "offset": 1}) for reading in readings
        ),
        build=Decay,
        measure=averaged(),
        grade="exact",
        controls=(
            Control("one draw of masks for all uses", params=at("shared", beta=4, delta=8)),
            Control("no noise", kind="formula", measure=averaged(0.0)),
            Control(f"{share} of the noise", kind="formula", measure=averaged(float(Fraction(share)))),
        ),
        curve=drawn,
        budget=Budget(quick=4, full=60),
        notes="Exact second moments of the whole state for 2000 iterations of the algorithm's own step; X, "
        "$k_1$ and ν are computed from the same step. "
        + READ[tuple(readings)]
        + " See @"
        + name.removesuffix("-bound")
        + "-rate for the exponent.",
    )


CLAIMS = (
    bound(
        "fresh",
        "fresh",
        ["new", "old"],
        "1/4",
        "With own masks for every use the hypergradient tends to zero",
    ),
    bound(
        "fresh-cross",
        "fresh-cross",
        ["new", "old"],
        "1/4",
        "With own masks for the cross derivative alone the hypergradient tends to zero",
    ),
    bound(
        "shared-old-bound",
        "shared",
        ["old"],
        "1/8",
        "With shared masks and h at the v before the hypergradient tends to zero",
    ),
)
