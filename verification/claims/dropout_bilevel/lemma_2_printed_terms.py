r"""What else lemma 2 prints: one ι for all k, γμ < 1, and a drift of order α².

ι. With p = 1, σ = 0, λ at rest, G = ½w²: w_{k+1} = (1 − γ_k)w_k, and γ_k = γδ/√(k+1) → 0. Given ι < 1 take k + 1 = s²
with s > 2γδ/(1−ι): then (1 − γ_k)² >= 1 − 2γδ/s > ι, at this k and at all later ones.

Drift. G = ½(w − λ)², p = 1: w_{k+1} − λ_k = (1 − γ_k)(e + t), e = w_k − λ_{k−1}, t = α_{k−1}d^k. If (1−γ)²(e+t)² <=
(1−cγ)e² + Kt² for all e, t, then t = 2γe gives 2 + c <= (4K + 3 + 4γ)γ, false once γ <= 1/(2K+2), so at all late k:
the coefficient of the drift is of order α²/γ, not α².
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl import BilevelProblem
from refimpl.algorithms import DropoutFSLA
from refimpl.zoo import quadratic
from verification.claims.dropout_bilevel._iterates import COUPLED, CURVATURE, Step, small, step, steps
from verification.claims.dropout_bilevel._masks import RATIONAL, rationals
from verification.claims.dropout_bilevel.lemma_2_step import contracts
from verification.model import Budget, Claim, Correction, Hypothesis, Measurement

# -- one iteration of G = ½(w − λ)² without dropout -------------------------------------------------------------


@dataclass(frozen=True)
class Plain:
    """‖w_k − w(λ_{k−1})‖, ‖w_{k+1} − w(λ_k)‖, α_{k−1}d^k and γ_k of one iteration of the algorithm."""

    before: fmpq
    after: fmpq
    move: fmpq
    gamma: fmpq
    constant: fmpq


def iteration(s: int, gamma: Fraction, move: fmpq, constant: fmpq) -> Plain:
    """Iteration k = s² − 1 from w_k = 1, λ_{k−1} = 0, λ_k = −``move``; δ = 1."""
    lower = quadratic.objective(ww=[[1.0]], lw=[[-1.0]], ll=[[1.0]])
    problem = BilevelProblem(quadratic.objective(ww=[[0.0]], n=1), lower).to("rational")
    algorithm = DropoutFSLA(delta=Fraction(1), gamma=gamma, beta=1, eta=1)
    lam = RATIONAL.asarray([-move])
    state = algorithm.init(problem, lam, rationals([1]))
    state = type(state)(s * s - 1, state.lam, state.w, state.v, state.d, state.lam_prev, state.v_prev)
    sample = algorithm.space(problem).points(np.array(0))
    after = algorithm.step(problem, state, sample).w[0] - lam[0]
    return Plain(fmpq(1), after, move, fmpq(gamma.numerator, gamma.denominator) / s, constant)


def iota(params: Mapping[str, Any]) -> Plain:
    """ι = 1 − 1/``one_in``; k from it."""
    gamma = Fraction(params["gamma"], 8)
    s = math.floor(2 * gamma * params["one_in"]) + 1
    return iteration(s, gamma, fmpq(0), 1 - fmpq(1, params["one_in"]))


def ordered(params: Mapping[str, Any]) -> Plain:
    """γ_k = 1/(2K + 2) and α d = −2γ_k, so that w(λ) moves away from w_k."""
    s = 2 * params["K"] + 2
    return iteration(s, Fraction(1), fmpq(2, s), fmpq(params["K"]))


def constant_factor(case: Plain) -> Measurement:
    """ι e²."""
    return Measurement(observed=case.after**2, bound=case.constant * case.before**2)


def varying_factor(case: Plain) -> Measurement:
    """(1 − γ)² e²."""
    return Measurement(observed=case.after**2, bound=(1 - case.gamma) ** 2 * case.before**2)


def squared_drift(case: Plain) -> Measurement:
    """(1 − γ) e² + K t²."""
    return Measurement(
        observed=case.after**2,
        bound=(1 - case.gamma) * case.before**2 + case.constant * case.move**2,
    )


def weighted_drift(case: Plain) -> Measurement:
    """(1 − γ) e² + ((1−γ)²/γ) t²."""
    weight = (1 - case.gamma) ** 2 / case.gamma
    return Measurement(
        observed=case.after**2, bound=(1 - case.gamma) * case.before**2 + weight * case.move**2
    )


SOURCE = "dropout-bilevel, lemma 2, (15)"


def _below_short(case: Step) -> tuple[bool, Any]:
    return case.gamma * case.ends[0] < 1, float(case.gamma * case.ends[0])


CLAIMS = (
    Claim(
        id="dropout-bilevel/lemma-2@constant-iota",
        title="As printed: one factor below 1 serves all iterations",
        source=SOURCE,
        statement=r"$$\text{there is } \iota < 1:\quad \|w_{k+1} - w(\lambda)\|^2 \le \iota\,\|w_k - w(\lambda)\|^2 "
        r"\text{ for all } k$$ with $p = 1$, $\sigma = 0$, $\lambda$ at rest, $\gamma_k = \gamma\delta/\sqrt{k+1}$",
        printed=r"\gamma\mu < 1 \;\Rightarrow\; \exists\,\iota \in (0, 1)",
        strategy=st.fixed_dictionaries({"one_in": st.integers(1, 10**6), "gamma": st.integers(1, 7)}),
        explicit=({"one_in": 2, "gamma": 4}, {"one_in": 1000, "gamma": 4}),
        build=iota,
        measure=constant_factor,
        grade="proved",
        corrected=Correction(
            tex=r"\|w_{k+1} - w(\lambda)\|^2 \le (1-\gamma_k\bar\mu)^2\|w_k - w(\lambda)\|^2",
            measure=varying_factor,
            proof="$G = \\frac12w^2$: $w_{k+1} = (1-\\gamma_k)w_k$ exactly. Given $\\iota$, every $k$ with "
            "$\\sqrt{k+1} > 2\\gamma\\delta/(1-\\iota)$ has $(1-\\gamma_k)^2 \\ge 1-2\\gamma_k > \\iota$.",
        ),
        budget=Budget(quick=100, full=1000),
        notes="The instance is a proposed ι = 1 − 1/``one_in``; the iteration k = s² − 1 that contradicts it is "
        "computed from it, and every later one does too. With constant steps one ι exists, for γ < 2/L̄.",
    ),
    Claim(
        id="dropout-bilevel/lemma-2@gamma-mu",
        title="As printed: γμ < 1 makes the step of w contract",
        source=SOURCE,
        statement=r"\gamma\bar\mu < 1 \;\Rightarrow\; E\|w^+ - w(\lambda)\|^2 \le \|w - w(\lambda)\|^2 + \gamma^2V(w)",
        printed=r"\text{Let } \gamma \text{ be small enough such that } \gamma\mu < 1",
        hypotheses=(CURVATURE, Hypothesis("step size", r"\gamma\bar\mu < 1", _below_short)),
        strategy=steps(40),
        explicit=(
            small(),
            small(0, 2, root=[[0, 0], [0, 2]], e=[0, 1], keep_w=[8, 8], step=[1, 2]),
            small(0, 2, root=[[0, 0], [0, 1]], e=[0, 1], keep_w=[8, 8], step=[7, 8]),
            {**COUPLED, "e": [1, 1]},
        ),
        build=step,
        measure=contracts(lambda case: fmpq(1)),
        grade="proved",
        corrected=Correction(
            tex=r"\gamma < 2/\bar L:\quad E\|w^+ - w(\lambda)\|^2 \le \max(|1-\gamma\bar\mu|, |1-\gamma\bar "
            r"L|)^2\,\|w - w(\lambda)\|^2 + \gamma^2V(w)",
            measure=contracts(),
            proof="The factor is attained by eigenvectors of a quadratic; it is below 1 iff $0 < \\gamma < 2/\\bar "
            "L$. $G = \\frac12(w_1^2 + 5w_2^2)$, $p = 1$, $\\gamma = \\frac12$: the second coordinate is multiplied "
            "by $-\\frac32$ at every step.",
        ),
        budget=Budget(quick=40, full=400),
        notes="Stated with μ̄ <= μ of the dropout problem; the counterexamples have p = 1, where both are the same.",
    ),
    Claim(
        id="dropout-bilevel/lemma-2@drift-order",
        title="As printed: the drift of λ enters by O(α²)",
        source=SOURCE,
        statement=r"$$\text{there is } K: \quad \|w_{k+1} - w(\lambda_k)\|^2 \le (1-\gamma_k\bar\mu)\|w_k - "
        r"w(\lambda_{k-1})\|^2 + K\alpha_{k-1}^2\|d^k\|^2 \text{ for all } k$$ with $p = 1$, $\sigma = 0$",
        printed=r"O(\alpha_k^2)E\|d^{k-1}\|^2",
        explicit=tuple({"K": K} for K in (1, 2, 10, 1000)),
        strategy=st.fixed_dictionaries({"K": st.integers(1, 10**6)}),
        build=ordered,
        measure=squared_drift,
        grade="proved",
        corrected=Correction(
            tex=r"\|w_{k+1} - w(\lambda_k)\|^2 \le (1-\gamma_k\bar\mu)\|w_k - w(\lambda_{k-1})\|^2 + "
            r"\frac{(1-\gamma_k\bar\mu)^2}{\gamma_k\bar\mu}L_w^2\alpha_{k-1}^2\|d^k\|^2",
            measure=weighted_drift,
            proof="Convexity of the square; see @drift. $G = \\frac12(w-\\lambda)^2$: $w_{k+1}-\\lambda_k = "
            "(1-\\gamma_k)(e + t)$; $t = 2\\gamma_ke$ contradicts K once $\\gamma_k \\le 1/(2K+2)$.",
        ),
        budget=Budget(quick=100, full=1000),
        notes="With constant steps, and so a constant factor, $O(\\alpha^2)$ is right; then @constant-iota is no "
        "objection either. Other factors $1-c\\gamma_k\\bar\\mu$, $c < 2$, need $K \\ge "
        "(1-\\gamma)^2(1-c\\gamma)/((2-c)\\gamma - \\gamma^2)$, which is sharp.",
    ),
)
