r"""Theorem 8, lower level: ρ(t) for constant and decreasing steps, (13) and (14), in rational arithmetic.

One step of (11), a = w − w(λ), b = Φ(w) − w(λ): the noise has mean zero, so
E‖w⁺ − w(λ)‖² = ‖(1−η)a + ηb‖² + η²V[Φ̂(w)] and ‖(1−η)a + ηb‖² = (1−η)‖a‖² + η‖b‖² − η(1−η)‖a − b‖². With ‖b‖ <= q‖a‖
and V <= σ₁ + σ₂‖a − b‖² this is at most (1 − η(1−q²))‖a‖² + η²σ₁ − η(1 − η(1+σ₂))‖a − b‖², whose last term is not
positive where η <= 1/(1+σ₂). Then (13) sums a geometric series, and (14) is an induction: with τ = γ + t,
d(1 − β(1−q²)/τ)/τ + β²σ₁/τ² <= d(τ−1)/τ² <= d/(τ+1) for d >= β²σ₁/(β(1−q²) − 1).
"""

from __future__ import annotations

from collections.abc import Callable

from flint import fmpq
from hypothesis import strategies as st

from verification.claims.contraction._noise import LOWER, QUIET, Noisy, halved, noisy
from verification.claims.contraction._two_solvers import LOWER_SOLVER, constant_steps
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, identity

STEPS = Hypothesis(
    "the steps",
    r"\eta\le\tfrac1{1+\sigma_2},\quad\text{or }\eta_i=\tfrac\beta{\gamma+i},\;\beta>\tfrac1{1-q^2},\;"
    r"\gamma\ge\beta(1+\sigma_2)",
    LOWER_SOLVER.short,
)
rho, case, mutant = LOWER_SOLVER.bound, LOWER_SOLVER.case, LOWER_SOLVER.mutant


# -- one step -----------------------------------------------------------------------------------------


def one_step(
    cross: Callable[[fmpq], fmpq] = lambda eta: eta * (1 - eta),
    noise: Callable[[fmpq], fmpq] = lambda eta: eta**2,
) -> Callable[[Noisy], Measurement]:
    """E‖w_1 − w(λ)‖² against (1−η)‖a‖² + η‖b‖² − η(1−η)‖a − b‖² + η²V[Φ̂(w_0)]."""

    def measure(one: Noisy) -> Measurement:
        eta, a = one.rate(0), one.w0 - one.centre
        b = one.problem.phi.value(one.lam, one.w0) - one.centre
        squares = (1 - eta) * (a**2).sum() + eta * (b**2).sum() - cross(eta) * ((a - b) ** 2).sum()
        return identity(one.lower(1)[1], squares + noise(eta) * one.variance(one.w0))

    return measure


# -- claims -------------------------------------------------------------------------------------------

TIGHT = {**QUIET, "plain": 2}  # Φ̂ = w/2 ± 1, η = 1: 1, 5/4, 21/16, 85/64
RELATIVE = {**QUIET, "strength": 4, "q": 0}  # Φ̂ = w(λ) ± (w − w(λ)): σ₂ = 1
DECREASING = {**QUIET, "decreasing": True, "plain": 2}
SPREAD = {
    **TIGHT, "d": 2, "left": 1, "right": 2, "low": 1, "twist": 1, "strength": 3, "skew": True, "same": True,
}  # fmt: skip
STRATEGY = noisy(
    steps=st.integers(1, 8),
    share=st.integers(1, 8),
    decreasing=st.booleans(),
    beta=st.integers(1, 8),
    gamma=st.integers(0, 8),
)


CLAIMS = (
    Claim(
        id="contraction/theorem-8-ll",
        title="Rate of the stochastic lower solver with constant and with decreasing steps",
        source="contraction, Theorem 8, (11), (13), (14); the formulas are lost, restored from the "
        "theorems that its proof applies",
        statement=r"\mathbb E\|w_t-w(\lambda)\|^2\le(1-\eta(1-q^2))^t\Bigl(B^2-\frac{\eta\sigma_1}{1-q^2}"
        r"\Bigr)+\frac{\eta\sigma_1}{1-q^2},\qquad\text{or}\quad\frac1{\gamma+t}\max\left\{\gamma "
        r"B^2,\;\frac{\beta^2\sigma_1}{\beta(1-q^2)-1}\right\}",
        hypotheses=(*LOWER, STEPS),
        strategy=STRATEGY,
        explicit=(TIGHT, DECREASING, RELATIVE, SPREAD, {**SPREAD, "decreasing": True}),
        build=case,
        measure=LOWER_SOLVER.measure(),
        grade="proved",
        controls=(
            halved("sigma1", "σ₁", TIGHT),
            halved("sigma2", "σ₂", {**RELATIVE, "steps": 1}),
            halved("start", "B²", {**QUIET, "steps": 1}),
            halved("q", "q", QUIET),
            Control("a step of 1 where σ₂ = 1", params={**RELATIVE, "share": 16}),
            Control("γ below its bound", params={**RELATIVE, "decreasing": True, "gamma": -6, "steps": 1}),
            mutant("half of σ₁", lambda one: rho(one.but(sigma1=one.stated.sigma1 / 2)), TIGHT),
            mutant(
                "twice 1 − q²",
                lambda one: constant_steps(2 * one.rate(0), one.stated, one.steps),
                {**QUIET, "q": 15, "share": 4},
            ),
            mutant(
                "t + 1 for t",
                lambda one: rho(one, one.steps + 1),
                {**DECREASING, "plain": 0, "q": 15, "beta": 1, "gamma": 400},
            ),
            mutant("without γB²", lambda one: rho(one.but(start=fmpq(0))), {**DECREASING, "plain": 0}),
        ),
        equality=Equality(params=TIGHT, reaches=1.0),
        curve=LOWER_SOLVER.curve(),
        budget=Budget(quick=25, full=1250),
        notes=r"Exact second moments of SID's own lower iteration, $d\le2$; C(ii) is decided for every "
        r"$w$, as a quadratic form. Equality for every $t$: $\hat\Phi=w/2\pm1$, $\eta=1$ "
        r"($\rho=1,\tfrac54,\tfrac{21}{16},\dots$); with $\sigma_2>0$ at $\eta(1+\sigma_2)=1$, "
        r"$\hat\Phi=(q\pm s)w$. With decreasing steps equality is never attained for $t\ge1$, since "
        r"$(\tau-1)/\tau^2<1/(\tau+1)$: only as $\gamma\to\infty$. There, and in between, @sharp and "
        r"@sharp-decreasing say more. Of A(i) the proof uses $\|\Phi(w)-w(\lambda)\|\le q\|w-w(\lambda)\|$ "
        r"alone (@quasi).",
    ),
    Claim(
        id="contraction/theorem-8-ll@step",
        title="One step of the lower solver as an identity",
        source="contraction, Theorem 8, the step that its proof rests on; restored",
        statement=r"\mathbb E\|w_{i+1}-w(\lambda)\|^2=(1-\eta)\|a\|^2+\eta\|b\|^2-\eta(1-\eta)\|a-b\|^2+"
        r"\eta^2\,\mathbb V[\hat\Phi(w_i)],\quad a=w_i-w(\lambda),\;b=\Phi(w_i)-w(\lambda)",
        strategy=STRATEGY,
        explicit=(TIGHT, RELATIVE, SPREAD),
        build=case,
        measure=one_step(),
        grade="proved",
        controls=(
            Control("η for η(1 − η)", kind="formula", measure=one_step(cross=lambda eta: eta)),
            Control("η for η²", kind="formula", measure=one_step(noise=lambda eta: eta)),
            Control(
                "without the noise", kind="formula", measure=one_step(noise=lambda eta: 0 * eta), params=TIGHT
            ),
        ),
        budget=Budget(quick=25, full=600),
        notes=r"Left: the recursion of moments, from the code's own step. Right: a literal sum over the "
        r"draws. It needs no contraction, and any $\eta$.",
    ),
)
