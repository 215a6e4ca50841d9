r"""What holds of Theorem 2: ‖∇F̄(λ_k)‖² → 0 in the mean, at the rate 1/√k, if the cross derivative has masks of its own.

Quadratic levels, α_k = δ/√(k+1), no projection; h̄(λ, w, v) = ∇_λF̄ − C̄v and ε = d − h̄(λ_prev, w, v). With
z̃ = (λ, w, v, ε) − (λ*, w*, v*, 0) an iteration is z̃⁺ = A_s(α) z̃ + b_s(α), polynomials in α, A = I + α𝒜 + …, b = O(α).
For randomness fresh and fresh-cross E b_s = 0: the drawn Ĉ is independent of v⁺ and of w⁺, and the mean step at z*
moves nothing. Let 𝒜 be stable, 𝒜ᵀX + X𝒜 = −(e_λe_λᵀ + I/8), V = z̃ᵀXz̃. As E b_s = 0, E[A_sᵀXb_s] is
q := E[(A_s−I)ᵀXb_s] = O(α²), and

    E V⁺ = E z̃ᵀE[A_sᵀXA_s]z̃ + 2q·E z̃ + E b_sᵀXb_s = E V − αE λ̃² − E z̃ᵀWz̃ + 2q·E z̃ + E bᵀXb,
    W = X − αe_λe_λᵀ − E[AᵀXA] = αI/8 + O(α²),

so where α is so small that W ≻ 0, from k_1 on, E V_{k+1} <= E V_k − α_k E λ̃_k² + ν_k with ν = E bᵀXb + qᵀW⁻¹q = O(α²).
Summing, with ∇F̄ = F̄″λ̃: Σ_{k_1 <= k < T} α_k E‖∇F̄(λ_k)‖² <= F̄″² (E V_{k_1} + Σ ν_k) = O(1 + ln T), while Σα_k ~ 2δ√T:
the average with weights α_k is O(ln T/√T).

For shared masks and reading @a E b_s ≠ 0, and the average tends to ‖∇F̄(λ_∞)‖² > 0 instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from verification.claims.dropout_bilevel._decay import EPS, Decay
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, rate

TIMES = 2000
WINDOW = (
    1000,
    4000,
)  # of the fit, fixed beforehand; the variance lags behind α_k by 1/(4|Re 𝒜|δ√k) of itself


def curve(case: Decay, wrong: str = "") -> tuple[int, np.ndarray, np.ndarray, float]:
    """k_1, and for T = k_1 + 1, …: the averages with weights α_k, their bounds; and the rounding of the former."""
    X, first, noise = case.lyapunov(TIMES)
    seconds = case.seconds(TIMES)[first:]
    values, alphas = case.curvature**2 * seconds[:, 0], case.alphas(TIMES)[first:]
    factor = {"no noise": 0.0, "a quarter of the noise": 0.25}.get(wrong, 1.0)
    allowed = case.energy(seconds[0], X) + factor * np.cumsum(noise)
    total = np.cumsum(alphas)
    return (
        first,
        np.cumsum(alphas * values) / total,
        case.curvature**2 * allowed / total,
        case.rounding(seconds),
    )


def averaged(wrong: str = "") -> Callable[[Decay], Measurement]:
    """The weighted average of E‖∇F̄(λ_k)‖² up to T against the theorem, at the T where it is nearest."""

    def measure(case: Decay) -> Measurement:
        first, found, allowed, rounding = curve(case, wrong)
        worst = int(np.argmax(found / np.maximum(allowed, np.finfo(float).tiny)))
        return Measurement(
            observed=float(found[worst]),
            bound=float(allowed[worst]),
            rounding=rounding,
            detail={"T": first + worst + 1, "k_1": first},
        )

    return measure


def fitted(predicted: float = -0.5) -> Callable[[Decay], Measurement]:
    """The slope of log E‖∇F̄(λ_k)‖² against log(k+1) in the window."""

    def measure(case: Decay) -> Measurement:
        low, high = WINDOW
        k = np.unique(np.geomspace(low, high - 1, 40).astype(int))
        values = np.log(case.squares(high)[k])
        slope = float(np.polyfit(np.log(k + 1.0), values, 1)[0])
        return rate(slope, predicted, 0.1, window=list(WINDOW))

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


def _settled(case: Decay) -> tuple[bool, float]:
    transient = float(np.exp(4 * case.abscissa * case.delta * np.sqrt(WINDOW[0])))
    return transient < 1e-8, transient


UNBIASED = Hypothesis("the mean rests at the stationary point", r"E\,b_s = 0", _unbiased)
STABLE = Hypothesis("the mean system is stable", r"\operatorname{Re}\,\mathrm{spec}\,\mathcal A < 0", _stable)
SHORT = Hypothesis("short steps soon", r"k_1 \le 500", _short)
SETTLED = Hypothesis(
    "transients are over", r"e^{4\operatorname{Re}\mathcal A\,\delta\sqrt k} < 10^{-8}", _settled
)

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


def bound(use: str, title: str) -> Claim:
    """The theorem for one use of randomness."""
    return Claim(
        id=f"dropout-bilevel/theorem-2@{use}",
        title=title,
        source="dropout-bilevel, Theorem 2 for $\\nabla\\bar F$; derived here",
        statement=r"$$\sum_{k_1 \le k < T}\alpha_kE\|\nabla\bar F(\lambda_k)\|^2 \le (\bar "
        r"F'')^2\left(E\,V_{k_1} + \sum_{k_1 \le k < T}\nu_k\right) \text{ for every } T, \quad \nu_k = "
        r"O(\alpha_k^2)$$ so that the average with weights $\alpha_k$ is $O(\ln T/\sqrt T)$",
        hypotheses=(STABLE, SHORT, UNBIASED),
        strategy=problems([use], ["new"], [2, 4, 8]),
        explicit=(at(use), at(use, delta=4, offset=1)),
        build=Decay,
        measure=averaged(),
        grade="exact",
        controls=(
            Control("one draw of masks for all uses", params=at("shared", beta=4, delta=8)),
            Control("no noise", kind="formula", measure=averaged("no noise")),
            Control("a quarter of the noise", kind="formula", measure=averaged("a quarter of the noise")),
        ),
        curve=drawn,
        budget=Budget(quick=4, full=60),
        notes="Exact second moments of the whole state for 2000 iterations of the algorithm's own step; X, "
        "$k_1$ and ν are computed from the same step. n = d = 1, masks on w on both levels, line h at v⁺. See "
        "@" + use + "-rate for the exponent, with both readings.",
    )


CLAIMS = (
    bound("fresh", "With own masks for every use the hypergradient tends to zero"),
    bound("fresh-cross", "With own masks for the cross derivative alone the hypergradient tends to zero"),
    *(
        Claim(
            id=f"dropout-bilevel/theorem-2@{name}-rate",
            title=title,
            source="dropout-bilevel, Theorem 2 for $\\nabla\\bar F$; derived here",
            statement=r"E\|\nabla\bar F(\lambda_k)\|^2 \sim k^{-1/2}",
            hypotheses=(SETTLED, UNBIASED),
            strategy=problems([use], readings, [8]),
            explicit=tuple(at(use, reading) for reading in readings),
            build=Decay,
            measure=fitted(),
            grade="exact",
            controls=(
                Control("shared, h at v⁺", params=at("shared", beta=4)),
                Control("1/k", kind="formula", measure=fitted(-1.0)),
                Control("1/√√k", kind="formula", measure=fitted(-0.25)),
            ),
            budget=Budget(quick=4, full=60),
            notes="Slope of the exact curve between k = 1000 and 4000. $\\nabla\\bar F$ is the noise of λ, "
            "whose variance is of the order of the step size. The controls' shared masks with h at v⁺ leave "
            "a constant.",
        )
        for use, readings, name, title in (
            ("fresh", ["new", "old"], "fresh", "The rate with own masks for every use"),
            (
                "fresh-cross",
                ["new", "old"],
                "fresh-cross",
                "The rate with own masks for the cross derivative",
            ),
            ("shared", ["old"], "shared-old", "The rate with shared masks and h at the v before"),
        )
    ),
)
