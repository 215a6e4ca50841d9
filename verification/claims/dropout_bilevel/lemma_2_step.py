r"""Lemma 2, corrected: what one step of w does, with explicit constants.

Let e = w − w(λ), g = m∇_wG(MW; ξ), E g = ∇_wḠ(λ, w), V(w) = E‖g − E g‖², and μ̄I ⪯ ∇²_wwḠ ⪯ L̄I.

Factor. g − E g has mean zero, so E‖w⁺ − w(λ)‖² = ‖e − γ∇_wḠ(λ, w)‖² + γ²V(w), exactly. As ∇_wḠ vanishes at w(λ), it is
Ae at w with A = ∫₀¹ ∇²_wwḠ(λ, w(λ) + te) dt, symmetric with spectrum in [μ̄, L̄]; hence ‖e − γAe‖ <= ρ‖e‖ with
ρ = max(|1 − γμ̄|, |1 − γL̄|), attained by eigenvectors of a quadratic. ρ < 1 iff γ < 2/L̄, and ρ = 1 − γμ̄ iff
γ <= 2/(μ̄ + L̄). There (1 − γμ̄)² <= 1 − 2γμ̄L̄/(μ̄ + L̄), as the difference is γμ̄²(2/(μ̄ + L̄) − γ).

Drift. λ_k = λ_{k−1} − α d moves the solution by δ = w(λ_{k−1}) − w(λ_k), ‖δ‖ <= L_w α‖d‖. With x = γμ̄ and
e = w_k − w(λ_{k−1}), convexity of the square gives
    (1−x)²‖e + δ‖² = ‖(1−x)e + x·((1−x)/x)δ‖² <= (1−x)‖e‖² + ((1−x)²/x)‖δ‖²,
with equality iff e = ((1−x)/x)δ. So the drift enters by L_w²α²/(γμ̄): O(α_k), as γ_k ∝ α_k, and not O(α_k²).
"""

from __future__ import annotations

from collections.abc import Callable

from flint import fmpq
from hypothesis import strategies as st

from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from verification.claims.dropout_bilevel._iterates import (
    COUPLED,
    CURVATURE,
    DATA,
    RATIONAL,
    SHORT,
    THEORY,
    Step,
    small,
    spectrum,
    step,
    steps,
)
from verification.model import Budget, Claim, Control, Equality, Measurement

Number = Callable[[Step], fmpq]


def best(case: Step) -> fmpq:
    """max(|1 − γμ̄|, |1 − γL̄|)²."""
    return case.shrink


def slower(case: Step) -> fmpq:
    """1 − 2γμ̄L̄/(μ̄ + L̄)."""
    low, high = case.ends
    return 1 - 2 * case.gamma * low * high / (low + high)


def unmasked(case: Step) -> fmpq:
    """The factor with the curvature of G for that of Ḡ."""
    return max((1 - case.gamma * c) ** 2 for c in spectrum(case.plain.mean[0]))


def noise(case: Step) -> fmpq:
    """V(w)."""
    return case.variance(case.w)


def of_data(case: Step) -> fmpq:
    """The part of V(w) that is there under each mask."""
    return case.variance(case.w, data_only=True)


def contracts(shrink: Number = best, variance: Number = noise) -> Callable[[Step], Measurement]:
    """E‖w⁺ − w(λ)‖² <= factor·‖w − w(λ)‖² + γ²V."""

    def measure(case: Step) -> Measurement:
        error = (case.error**2).sum()
        allowed = shrink(case) * error + case.gamma**2 * variance(case)
        return Measurement(observed=case.mean_square_after, bound=allowed)

    return measure


def jacobian(case: Step) -> Array:
    """dw/dλ = −(∇²_wwḠ)⁻¹∇²_wλḠ, d x n."""
    cross = case.law.mean(lambda mlam, m: mlam[:, :, None] * case.plain.mean[1] * m[:, None, :])
    return -factor(RATIONAL, case.mean_hessian).solve(cross).T


def drifts(power: int = 2, variance: Number = noise, drift: bool = True) -> Callable[[Step], Measurement]:
    """The same between two λ; ``move`` is α d, and L_w is the Frobenius norm of the Jacobian."""

    def measure(case: Step) -> Measurement:
        move = RATIONAL.asarray([RATIONAL.scalar(k) for k in case.params["move"][: case.plain.n]])
        J, x = jacobian(case), case.gamma * case.ends[0]
        before = ((case.error - J @ move) ** 2).sum()
        size = (J**2).sum() * (move**2).sum() if drift else fmpq(0)
        allowed = (1 - x) * before + (1 - x) ** power / x * size + case.gamma**2 * variance(case)
        return Measurement(observed=case.mean_square_after, bound=allowed)

    return measure


MOVES = {"n": st.integers(1, 2), "move": st.lists(st.integers(-2, 2), min_size=2, max_size=2)}
TOO_LONG = {**COUPLED, "e": [1, 1], "gamma": 28}
SOURCE = "dropout-bilevel, lemma 2; corrected here"

CLAIMS = (
    Claim(
        id="dropout-bilevel/lemma-2@corrected",
        title="One step of w: the sharp factor, and the variance of the masked gradient",
        source=SOURCE,
        statement=r"E\|w^+ - w(\lambda)\|^2 \le \max(|1-\gamma\bar\mu|, |1-\gamma\bar L|)^2\,\|w - w(\lambda)\|^2 + "
        r"\gamma^2V(w), \quad V(w) = E\|m_w\nabla_wG(MW;\xi) - \nabla_w\bar G(W)\|^2",
        hypotheses=(CURVATURE,),
        strategy=steps(28, **DATA),
        explicit=(small(), small(1), COUPLED, THEORY, {**small(1, 2), "noise": [1, 0], "noise_ww": 1}),
        build=step,
        measure=contracts(),
        grade="proved",
        controls=(
            Control("μ̄ stated too large", params={**COUPLED, "claimed": 2}),
            Control("variance of the data alone", kind="formula", measure=contracts(variance=of_data)),
            Control(
                "variance at w(λ)",
                kind="formula",
                measure=contracts(variance=lambda case: case.variance(case.solution)),
            ),
            Control("curvature of G for that of Ḡ", kind="formula", measure=contracts(unmasked)),
            Control(
                "1 − γμ̄ for every γ",
                kind="formula",
                measure=contracts(lambda case: (1 - case.gamma * case.ends[0]) ** 2),
            ),
        ),
        equality=Equality(params=COUPLED, reaches=1.0),
        budget=Budget(quick=60, full=1500),
        notes="The left side enumerates Algorithm 1's own step over masks and data; the right side is a literal sum. "
        "The noise has mean zero, so $E\\|w^+ - w(\\lambda)\\|^2 = \\|e - \\gamma\\nabla_w\\bar G(w)\\|^2 + "
        "\\gamma^2V(w)$ with $e = w - w(\\lambda)$, and $\\nabla_w\\bar G(w) = Ae$ with the spectrum of $A$ in "
        "$[\\bar\\mu, \\bar L]$. Equality: eigenvectors of a quadratic. It contracts iff $\\gamma < 2/\\bar L$; up "
        "to $2/(\\bar\\mu+\\bar L)$ the factor is $(1-\\gamma\\bar\\mu)^2$.",
    ),
    Claim(
        id="dropout-bilevel/lemma-2@theory",
        title="One step of w with the factor of co-coercivity",
        source=SOURCE,
        statement=r"\gamma \le \frac{2}{\bar\mu+\bar L}: \quad E\|w^+ - w(\lambda)\|^2 \le \Bigl(1 - "
        r"\frac{2\gamma\bar\mu\bar L}{\bar\mu+\bar L}\Bigr)\|w - w(\lambda)\|^2 + \gamma^2V(w)",
        hypotheses=(CURVATURE, SHORT),
        strategy=steps(16, **DATA),
        explicit=(small(), COUPLED, THEORY, {**small(1, 2), "noise": [1, 0], "noise_ww": 1}),
        build=step,
        measure=contracts(slower),
        grade="proved",
        controls=(
            Control("step too long", params=TOO_LONG),
            Control("variance of the data alone", kind="formula", measure=contracts(slower, of_data)),
            Control(
                "1 − 2γμ̄",
                kind="formula",
                measure=contracts(lambda case: 1 - 2 * case.gamma * case.ends[0]),
            ),
        ),
        equality=Equality(params={**COUPLED, "gamma": 16}, reaches=1.0),
        budget=Budget(quick=60, full=1500),
        notes="Looser than the square of $1-\\gamma\\bar\\mu$ by $\\gamma\\bar\\mu^2(2/(\\bar\\mu+\\bar "
        "L)-\\gamma)$: the two agree at $\\gamma = 2/(\\bar\\mu+\\bar L)$ alone, which is the equality case.",
    ),
    Claim(
        id="dropout-bilevel/lemma-2@drift",
        title="From one λ to the next: the moving solution costs α²/γ",
        source=SOURCE,
        statement=r"$$\gamma_k \le \tfrac{2}{\bar\mu+\bar L},\ \lambda_k = \lambda_{k-1} - \alpha_{k-1}d^k:$$ "
        r"$$E\|w_{k+1} - w(\lambda_k)\|^2 \le (1-\gamma_k\bar\mu)\,E\|w_k - w(\lambda_{k-1})\|^2 + "
        r"\frac{(1-\gamma_k\bar\mu)^2}{\gamma_k\bar\mu}L_w^2\alpha_{k-1}^2E\|d^k\|^2 + \gamma_k^2E\,V(w_k)$$",
        hypotheses=(CURVATURE, SHORT),
        strategy=steps(16, **DATA, **MOVES),
        explicit=(
            small(1, 1, move=[1]),
            small(1, 2, move=[1]),
            {**small(2, 2), "noise": [1, 0], "move": [1, -1]},
        ),
        build=step,
        measure=drifts(),
        grade="proved",
        controls=(
            Control(
                "step too long",
                params={**TOO_LONG, "n": 1, "lw": [[0, 0]], "lam": [0], "keep_lam": [4], "move": [0]},
            ),
            Control("no drift", kind="formula", measure=drifts(drift=False)),
            Control("cube for square", kind="formula", measure=drifts(power=3)),
            Control("variance of the data alone", kind="formula", measure=drifts(variance=of_data)),
        ),
        equality=Equality(params=small(1, 1, keep_lam=[8], e=[2], move=[1], gamma=8), reaches=1.0),
        budget=Budget(quick=60, full=1500),
        notes="Given the past; expectations follow. With $x = \\gamma_k\\bar\\mu$ and $\\delta = w(\\lambda_{k-1}) - "
        "w(\\lambda_k)$, convexity of the square gives $(1-x)^2\\|e+\\delta\\|^2 \\le (1-x)\\|e\\|^2 + "
        "\\frac{(1-x)^2}{x}\\|\\delta\\|^2$, equality iff $e = \\frac{1-x}{x}\\delta$. As $\\gamma_k \\propto "
        "\\alpha_k$ the drift's coefficient is of order $\\alpha_k$, not $\\alpha_k^2$: see @drift-order.",
    ),
)
