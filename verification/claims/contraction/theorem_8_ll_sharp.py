r"""Theorem 8, lower level, sharpened: the best factor of one step, and the best constant of decreasing steps.

Factor. With a = w − w(λ), b = Φ(w) − w(λ), ‖b‖ <= q‖a‖, one step leaves at most
    (1−η)‖a‖² + η‖b‖² − η(1 − η(1+σ₂))‖a−b‖² + η²σ₁.
At given ‖b‖ <= q‖a‖, ‖a−b‖ is between (1−q)‖a‖ and (1+q)‖a‖. Where η(1+σ₂) <= 1 its square counts against the error,
and b = qa is worst; beyond, it counts for the error, and b = −qa is worst:
    r(η) = (1 − ηx)² + η²σ₂x²,   x = 1 − q where η(1+σ₂) <= 1, else 1 + q.
Φ̂ = ±qw with noise √σ₂(Φ(w) − w)ε + √σ₁ε' attains it at every step.

Decreasing steps. For η(1+σ₂) <= 1, r = 1 − 2ηm + η²m²(1+σ₂) with m = 1 − q. With τ = γ + i and η = β/τ,
    d r/τ + β²σ₁/τ² <= d/τ − d/τ² <= d/(τ+1)   where d (2βm − 1 − β²m²(1+σ₂)/τ) >= β²σ₁,
and so for τ >= γ where it is so at γ. As γ >= β(1+σ₂), 2βm − β²m²(1+σ₂)/γ >= 2βm − βm² = β(1−q²): no worse than (14).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from flint import fmpq
from hypothesis import strategies as st

from refimpl.rates import Harmonic, Rate
from verification.claims.contraction._noise import LOWER, QUIET, Noisy, Stated, build, halved, noisy
from verification.claims.contraction._two_solvers import LOWER_SOLVER, falling, positive
from verification.claims.contraction._two_solvers import denominator as below_the_noise
from verification.model import Budget, Claim, Control, Equality, Hypothesis

curve, lower, mutant = LOWER_SOLVER.curve, LOWER_SOLVER.measure, LOWER_SOLVER.mutant

# -- any steps ------------------------------------------------------------------------------------------


def any_schedule(known: Stated, p: Mapping[str, Any]) -> Rate:
    """η = ``share``/8, up to 3 times 1/(1 + σ₂); or β/(γ + i) that begins so."""
    return falling(fmpq(p["share"], 8) / (1 + known.sigma2), p)


def factor(eta: fmpq, known: Stated) -> fmpq:
    """r(η)."""
    x = known.m if eta * (1 + known.sigma2) <= 1 else 1 + known.q
    return (1 - eta * x) ** 2 + eta**2 * known.sigma2 * x**2


def always_near(eta: fmpq, known: Stated) -> fmpq:
    """r(η) with 1 − q beyond the bend, too."""
    return (1 - eta * known.m) ** 2 + eta**2 * known.sigma2 * known.m**2


def recursion(one: Noisy, steps: int, step: Callable[[fmpq, Stated], fmpq] = factor) -> fmpq:
    """B², and ρ ← r(η_i)ρ + η_i²σ₁."""
    e = one.stated.start
    for i in range(steps):
        eta = one.rate(i)
        e = step(eta, one.stated) * e + eta**2 * one.stated.sigma1
    return e


def sharp(step: Callable[[fmpq, Stated], fmpq] = factor) -> Callable[[Noisy], fmpq]:
    """The recursion at t."""
    return lambda one: recursion(one, one.steps, step)


# -- decreasing steps -----------------------------------------------------------------------------------


def shorter(known: Stated, p: Mapping[str, Any]) -> Rate:
    """β so that the constant's denominator is ``beta``/8 (β = 1 where it is 0), γ = ``gamma``/8 above its limit."""
    above = fmpq(8 + p["gamma"], 8)
    if not p["beta"]:
        return Harmonic(fmpq(1), above * (1 + known.sigma2))
    beta = fmpq(8 + p["beta"], 8) / (2 * known.m - known.m**2 / above)
    return Harmonic(beta, beta * (1 + known.sigma2) * above)


def denominator(one: Noisy) -> fmpq:
    """2βm − 1 − β²m²(1+σ₂)/γ."""
    return below_the_noise(one.rate, one.stated, one.stated.sigma2)


def decreasing(one: Noisy, t: int | None = None, below: Callable[[Noisy], fmpq] = denominator) -> fmpq:
    """max{γB², β²σ₁/denominator}/(γ + t)."""
    rate, known = one.rate, one.stated
    assert isinstance(rate, Harmonic)
    t = one.steps if t is None else t
    return max(rate.gamma * known.start, rate.beta**2 * known.sigma1 / below(one)) / (rate.gamma + t)


def without_square(one: Noisy) -> fmpq:
    """2βm − 1."""
    assert isinstance(one.rate, Harmonic)
    return 2 * one.rate.beta * one.stated.m - 1


def _positive(one: Noisy) -> tuple[bool, str]:
    assert isinstance(one.rate, Harmonic)
    return positive(denominator(one), one.rate, one.rate.beta * (1 + one.stated.sigma2))


# -- claims ---------------------------------------------------------------------------------------------

ATTAINED = {**QUIET, "strength": 4, "plain": 2, "share": 4}  # η = ¼, σ₁ = σ₂ = 1
BEYOND = {**ATTAINED, "left": 1, "share": 12}  # Φ = −w/2, η = ¾
# E‖w_t‖² = σ₁/(γ + t − 1), bound γσ₁/((γ − 1)(γ + t)): Φ̂ = ±40 with γ = 1601, B = 1
MEAN = {**QUIET, "q": 0, "plain": 80, "beta": 0, "gamma": 12800, "steps": 400}
LEVEL = {**QUIET, "plain": 2, "gamma": 4}
BALANCED = {**MEAN, "plain": 4, "gamma": 24, "steps": 1}  # γ = 4: B² = β²σ₁/(2βm − 1)/γ


CLAIMS = (
    Claim(
        id="contraction/theorem-8-ll@sharp",
        title="The best factor of one step of the lower solver, for every step size",
        source="contraction, Theorem 8, (13); sharpened here",
        statement=r"\mathbb E\|w_t-w(\lambda)\|^2\le\rho_t,\quad\rho_0=B^2,\;\rho_{i+1}=r(\eta_i)\rho_i+"
        r"\eta_i^2\sigma_1,\quad r(\eta)=(1-\eta x)^2+\eta^2\sigma_2x^2,\quad x=\begin{cases}1-q&"
        r"\eta(1+\sigma_2)\le1\\1+q&\text{else}\end{cases}",
        hypotheses=LOWER,
        strategy=noisy(
            steps=st.integers(1, 8),
            share=st.integers(1, 24),
            decreasing=st.booleans(),
            gamma=st.integers(0, 12),
        ),
        explicit=(ATTAINED, BEYOND, {**BEYOND, "decreasing": True, "gamma": 4, "share": 24}),
        build=lambda p: build(p, any_schedule),
        measure=lower(sharp()),
        grade="proved",
        controls=(
            halved("sigma1", "σ₁", ATTAINED),
            halved("sigma2", "σ₂", ATTAINED),
            halved("start", "B²", ATTAINED),
            halved("q", "q", ATTAINED),
            mutant("1 − q beyond the bend", sharp(always_near), BEYOND),
            mutant(
                "without σ₂", sharp(lambda eta, known: factor(eta, replace(known, sigma2=fmpq(0)))), ATTAINED
            ),
            mutant("one step more", lambda one: recursion(one, one.steps + 1), {**QUIET, "share": 4}),
        ),
        equality=Equality(params={**BEYOND, "steps": 5}, reaches=1.0),
        curve=curve(recursion),
        budget=Budget(quick=25, full=700),
        notes=r"Attained at every step by $\hat\Phi=\pm qw$ with noise $\sqrt{\sigma_2}("
        r"\Phi(w)-w)\varepsilon+\sqrt{\sigma_1}\varepsilon'$: the plus sign up to $\eta(1+\sigma_2)=1$, "
        r"the minus sign beyond. There $r(\eta)=1-\eta(1-q^2)$, the printed factor; beyond it exceeds that "
        r"by $\eta(\eta(1+\sigma_2)-1)(1+q)^2$. The floor for small $\eta$ is $\tfrac{1+q}2$ times the "
        r"printed one.",
    ),
    Claim(
        id="contraction/theorem-8-ll@sharp-decreasing",
        title="A better constant of decreasing lower steps, exact in the limit",
        source="contraction, Theorem 8, (14); sharpened here",
        statement=r"\eta_i=\tfrac\beta{\gamma+i},\;\gamma\ge\beta(1+\sigma_2),\;D:=2\beta m-1-"
        r"\tfrac{\beta^2m^2(1+\sigma_2)}{\gamma}>0,\;m=1-q\;\Rightarrow\;\mathbb E\|w_t-w(\lambda)\|^2\le"
        r"\frac1{\gamma+t}\max\left\{\gamma B^2,\frac{\beta^2\sigma_1}{D}\right\}",
        hypotheses=(
            *LOWER,
            Hypothesis("the steps", r"D>0,\;\gamma\ge\beta(1+\sigma_2)", _positive),
        ),
        strategy=noisy(steps=st.integers(1, 8), beta=st.integers(1, 8), gamma=st.integers(0, 8)),
        explicit=(LEVEL, {**LEVEL, "beta": 1, "strength": 2}, {**MEAN, "steps": 20}),
        build=lambda p: build(p, shorter),
        measure=lower(decreasing),
        grade="proved",
        controls=(
            halved("sigma1", "σ₁", BALANCED),
            halved("start", "B²", {**LEVEL, "plain": 0, "steps": 1, "gamma": 80}),
            halved("q", "q", {**LEVEL, "plain": 0, "q": 14, "beta": 1, "gamma": 200}),
            Control(
                "γ below β(1 + σ₂)",
                params={**BALANCED, "plain": 0, "strength": 8, "gamma": -3},
            ),
            mutant("2βm − 1 alone", lambda one: decreasing(one, below=without_square), BALANCED),
            mutant("without γB²", lambda one: decreasing(one.but(start=fmpq(0))), {**LEVEL, "plain": 0}),
            mutant("t + 1 for t", lambda one: decreasing(one, one.steps + 1), {**MEAN, "steps": 2}),
        ),
        equality=Equality(params=MEAN, reaches=0.999),
        curve=curve(decreasing, 60),
        budget=Budget(quick=25, full=700),
        notes=r"$D\ge\beta(1-q^2)-1$, so the bound is never above (14), and it needs less of $\beta$. "
        r"Asymptotically exact: for $\hat\Phi=qw\pm\sqrt{\sigma_1}$ the limit of $t\,\mathbb E\|w_t\|^2$ "
        r"is $\beta^2\sigma_1/(2\beta m-1)$, for $q=0$, $\beta=4$: $\tfrac{16}7$ where the printed "
        r"constant is $\tfrac{16}3$. Near-equality for every $t$ at once: $q=0$, $\sigma_2=0$, $\beta=1$, "
        r"$B^2=\sigma_1/(\gamma-1)$ has $\mathbb E\|w_t\|^2=\sigma_1/(\gamma+t-1)$, a ratio of "
        r"$(1-\tfrac1\gamma)(1+\tfrac1{\gamma+t-1})$; shown at $\gamma=1601$, $t=400$.",
    ),
)
