r"""Theorem 8, linear system, sharpened: the exact worst case of (7) from v_0 = 0, for any steps η_i <= 1.

Given the right side g, v̄ its solution: E v_i = v̄ − Π_{j<i}((1−η_j)I + η_j∂₁Φᵀ)v̄ and the factors' norms are at most
a_j = 1 − η_j m, m = 1 − q; so ‖E v_i − v̄‖ <= π_iκ_q‖g‖, π_i = Π a_j. Also E v_i = η_{i−1}g + (…)E v_{i−1}, by which
‖E v_i‖ <= κ_q(1 − π_i)‖g‖. The noise of a step is η_iN_iᵀv_i, centred and independent of v_i: with
V_i = E‖v_i − E v_i‖²,
    V_{i+1} <= a_i²V_i + η_i²σ'₁(V_i + κ_q²(1 − π_i)²‖g‖²),      E‖v_k − v̄‖² = V_k + ‖E v_k − v̄‖².
Φ̂ = (q ± √σ'₁)w attains every inequality. With b = a² + η²σ'₁ and constant steps the sum is closed, and it stays
bounded where b < 1, that is η < 2m/(m² + σ'₁), or b = 1 and σ'₁ = 0.

Decreasing steps: (1 − π)² <= 1 and b_i = 1 − 2η_im + η_i²(m² + σ'₁) give V_k <= c/(γ+k) by the induction of the lower
level, c = β²σ'₁κ_q²G²/(2βm − 1 − β²(m² + σ'₁)/γ); π_k <= (γ/(γ+k))^{βm} as 1 − x <= e^{−x}.

The printed steps, e = π² + V over κ_q²G². From (1 − π)² <= 1, e⁺ <= (a² + η²σ'₁)e + η²σ'₁. Constant, with
η(m² + σ'₁) <= m²: a² + η²σ'₁ = 1 − 2ηm + η²(m² + σ'₁) <= 1 − η(1−q²), whose fixed point with η²σ'₁ is f =
ησ'₁/(1−q²). Decreasing, τ = γ + i: e <= γ/τ gives e⁺ <= γ/τ − (γ/τ²)D, D = 2βm − β²(m² + σ'₁)/τ − β²σ'₁/γ >= 2βm −
βm² = β(1−q²) > 1 as γ >= β(1 + 2σ'₁κ_q²), so e⁺ <= γ(τ−1)/τ² <= γ/(τ+1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from flint import fmpq
from hypothesis import strategies as st

from refimpl.rates import Harmonic, Rate
from verification.claims.contraction._noise import LINEAR, QUIET, Noisy, Stated, build, halved, noisy
from verification.claims.contraction._two_solvers import (
    FROM_ZERO,
    constant_steps,
    falling,
    of_the_linear_system,
    positive,
)
from verification.claims.contraction._two_solvers import denominator as below_the_noise
from verification.claims.contraction.theorem_8_ls import (
    DECREASING,
    NOISY,
    SPREAD,
    STEPS,
    STRATEGY,
    TIGHT,
)
from verification.model import Budget, Claim, Control, Equality, Hypothesis

curve, linear, mutant = FROM_ZERO.curve, FROM_ZERO.measure, FROM_ZERO.mutant

# -- any steps up to 1 ----------------------------------------------------------------------------------


def any_schedule(known: Stated, p: Mapping[str, Any]) -> Rate:
    """η = ``share``/8, or (share/8)(γ/(γ + i)); it does not look at the noise."""
    return falling(fmpq(p["share"], 8), p)


def worst(
    one: Noisy, k: int | None = None, carried: Callable[[fmpq], fmpq] = lambda pi: (1 - pi) ** 2
) -> fmpq:
    """π_k²κ_q²G² + V_k."""
    known, pi, V = one.stated, fmpq(1), fmpq(0)
    for i in range(one.steps if k is None else k):
        eta = one.rate(i)
        a, added = 1 - eta * known.m, eta**2 * known.d_sigma1
        pi, V = a * pi, (a**2 + added) * V + added * carried(pi) * known.size
    return pi**2 * known.size + V


def closed(one: Noisy, k: int | None = None) -> fmpq:
    """The same for a constant step: κ_q²G² {b^k + η²σ'₁[(1 − b^k)/(1 − b) − 2(a^k − b^k)/(a − b)]}, a ≠ b ≠ 1."""
    known, eta = one.stated, one.rate(0)
    k = one.steps if k is None else k
    a = 1 - eta * known.m
    b = a**2 + eta**2 * known.d_sigma1
    sums = (1 - b**k) / (1 - b) - 2 * (a**k - b**k) / (a - b)
    return known.size * (b**k + eta**2 * known.d_sigma1 * sums)


def _at_most_one(one: Noisy) -> tuple[bool, str]:
    return bool(one.rate(0) <= 1), f"η₀ = {one.rate(0)}"


# -- decreasing steps -----------------------------------------------------------------------------------


def shorter(known: Stated, p: Mapping[str, Any]) -> Rate:
    """β = ``beta``/(2m), so that 2βm is whole; γ as the denominator needs, times 1 + ``gamma``/8."""
    beta = p["beta"] / (2 * known.m)
    least = beta**2 * (known.m**2 + known.d_sigma1) / (p["beta"] - 1)
    return Harmonic(beta, max(beta, least) * fmpq(9 + p["gamma"], 8))


def denominator(one: Noisy) -> fmpq:
    """2βm − 1 − β²(m² + σ'₁)/γ."""
    return below_the_noise(one.rate, one.stated, one.stated.d_sigma1 / one.stated.m**2)


def decreasing(one: Noisy, k: int | None = None, power: int | None = None) -> fmpq:
    """κ_q²G² [(γ/(γ+k))^{2βm} + β²σ'₁/(denominator (γ+k))]."""
    known, rate = one.stated, one.rate
    assert isinstance(rate, Harmonic)
    k = one.steps if k is None else k
    decay = (rate.gamma / (rate.gamma + k)) ** (one.params["beta"] if power is None else power)
    return known.size * (decay + rate.beta**2 * known.d_sigma1 / (denominator(one) * (rate.gamma + k)))


def _positive(one: Noisy) -> tuple[bool, str]:
    assert isinstance(one.rate, Harmonic)
    return positive(denominator(one), one.rate, one.rate.beta)


# -- the printed steps -----------------------------------------------------------------------------------


def at_printed_steps(one: Noisy, k: int | None = None, noise: Any = 1, loss: Any = 1) -> fmpq:
    """κ_q²G²[(1 − η(1−q²))^k (1 − f) + f], f = ησ'₁/(1−q²), or κ_q²G²γ/(γ+k); factors of f and of the latter's k."""
    known, k = of_the_linear_system(one.stated), one.steps if k is None else k
    if isinstance(one.rate, Harmonic):
        return known.start * one.rate.gamma / (one.rate.gamma + loss * k)
    return constant_steps(one.rate(0), replace(known, sigma1=noise * known.sigma1 / 2), k)


# -- claims ---------------------------------------------------------------------------------------------

ATTAINED = {**NOISY, "share": 6, "steps": 5}
LONG = {**ATTAINED, "q": 0, "strength": 4, "share": 8, "jitter": 0, "steps": 4}  # k − 1
FLOOR = {**NOISY, "q": 2, "strength": 1, "jitter": 0, "steps": 12}
FALLING = {**NOISY, "beta": 4, "gamma": 8}
EARLY = Hypothesis("η <= 1", r"\eta_i\le1", _at_most_one)


CLAIMS = (
    Claim(
        id="contraction/theorem-8-ls@sharp",
        title="The exact worst case of the stochastic linear-system solver",
        source="contraction, Theorem 8, (13), (15); sharpened here",
        statement=r"v_0=0,\;\eta_i\le1:\quad\mathbb E\|v_k-\bar v\|^2\le\pi_k^2\kappa_q^2G^2+V_k,"
        r"\quad\pi_{i+1}=a_i\pi_i,\;V_{i+1}=(a_i^2+\eta_i^2\sigma_1')V_i+\eta_i^2\sigma_1'\kappa_q^2(1-"
        r"\pi_i)^2G^2,\quad a_i=1-\eta_i(1-q),\;\pi_0=1,\;V_0=0",
        hypotheses=(*LINEAR, EARLY),
        strategy=noisy(
            steps=st.integers(1, 8),
            share=st.integers(1, 8),
            decreasing=st.booleans(),
            gamma=st.integers(0, 12),
        ),
        explicit=(ATTAINED, LONG, SPREAD, {**ATTAINED, "decreasing": True, "gamma": 3}),
        build=lambda p: build(p, any_schedule),
        measure=linear(worst),
        grade="proved",
        controls=(
            halved("d_sigma1", "σ'₁", ATTAINED),
            halved("slope", "L_E²", ATTAINED),
            halved("jitter", "σ_{1,E}", ATTAINED),
            halved("q", "q", ATTAINED),
            Control(
                "a step of 7/4", params={**QUIET, "law": "absolute", "strength": 2, "left": 1, "share": 14}
            ),
            mutant("without V", lambda one: worst(one.but(d_sigma1=fmpq(0))), ATTAINED),
            mutant(
                "(1 − π)³ for (1 − π)²", lambda one: worst(one, carried=lambda pi: (1 - pi) ** 3), ATTAINED
            ),
            mutant("one step more", lambda one: worst(one, one.steps + 1), {**ATTAINED, "steps": 1}),
        ),
        equality=Equality(params=ATTAINED, reaches=1.0),
        curve=curve(worst),
        budget=Budget(quick=25, full=600),
        notes=r"Attained at every $k$ by $\hat\Phi=(q\pm\sqrt{\sigma_1'})w$. With a constant step and "
        r"$b=a^2+\eta^2\sigma_1'$ it is $G^2\kappa_q^2\{b^k+\eta^2\sigma_1'[\frac{1-b^k}{1-b}-2"
        r"\frac{a^k-b^k}{a-b}]\}$, bounded in $k$ where $b<1$: $\eta<2m/(m^2+\sigma_1')$, $m=1-q$, is all "
        r"that is needed of the step; the printed $1/(1+2\sigma_1'\kappa_q^2)$ is sufficient, and shorter "
        r"by a factor of about $m/4$ where the noise is large. From $q=0$, $\sigma_1'=\eta=1$ the error is "
        r"$k-1$.",
    ),
    Claim(
        id="contraction/theorem-8-ls@sharp-decreasing",
        title="Decreasing steps of the linear-system solver: the start is forgotten faster than the noise",
        source="contraction, Theorem 8, (15); sharpened here",
        statement=r"\eta_i=\tfrac\beta{\gamma+i},\;\gamma\ge\beta,\;D:=2\beta m-1-\tfrac{\beta^2(m^2+"
        r"\sigma_1')}\gamma>0\;\Rightarrow\;\mathbb E\|v_k-\bar v\|^2\le\kappa_q^2G^2\Bigl[\Bigl(\frac"
        r"\gamma{\gamma+k}\Bigr)^{2\beta m}+\frac{\beta^2\sigma_1'}{D(\gamma+k)}\Bigr],\quad m=1-q",
        hypotheses=(*LINEAR, Hypothesis("the steps", r"D>0,\;\gamma\ge\beta", _positive)),
        strategy=noisy(steps=st.integers(1, 8), beta=st.integers(2, 6), gamma=st.integers(0, 8)),
        explicit=(FALLING, {**SPREAD, "beta": 3, "gamma": 0}, {**FALLING, "beta": 2, "strength": 1}),
        build=lambda p: build(p, shorter),
        measure=linear(decreasing),
        grade="proved",
        controls=(
            halved("slope", "L_E²", {**FALLING, "jitter": 0, "strength": 1, "steps": 1}, (1, 4)),
            halved("q", "q", {**FALLING, "q": 12, "steps": 1}),
            Control(
                "γ far below its bound",
                params={**DECREASING, "q": 0, "strength": 32, "beta": 4, "gamma": -8, "steps": 4},
            ),
            mutant(
                "without the noise",
                lambda one: decreasing(one.but(d_sigma1=fmpq(0))),
                {**FALLING, "q": 0, "strength": 2, "gamma": 0, "steps": 12},
            ),
            mutant(
                "4βm for 2βm",
                lambda one: decreasing(one, power=2 * one.params["beta"]),
                {**FALLING, "strength": 0, "steps": 2, "gamma": 60},
            ),
        ),
        equality=Equality(params={**FALLING, "strength": 0, "gamma": 8000, "steps": 8}, reaches=0.999),
        curve=curve(decreasing),
        budget=Budget(quick=25, full=600),
        notes=r"Where $\sigma_1'$ is large, (15) asks for $\gamma\ge2\beta\sigma_1'\kappa_q^2$ and this "
        r"for $\gamma>\beta^2\sigma_1'/(2\beta m-1)$, at $\beta=1/m$ a factor $2\kappa_q$ less: with it "
        r"equal steps for both iterations cost no power of $\kappa_q$ in Remark 18. Instances have $2\beta "
        r"m$ whole, so that the bound is rational. Both terms are exact in the limit of large $\gamma$, "
        r"the second one for $k\gg\gamma$; the equality case shows the first.",
    ),
    Claim(
        id="contraction/theorem-8-ls@sharp-printed-steps",
        title="At the printed steps the linear system needs neither a factor 2 nor a maximum",
        source="contraction, Theorem 8, (13), (15); sharpened here",
        statement=r"v_0=0:\;\mathbb E\|v_k-\bar v\|^2\le G^2\kappa_q^2\Bigl[(1-\eta(1-q^2))^k(1-f)+f\Bigr],\;f="
        r"\frac{\eta\sigma_1'}{1-q^2},\quad\text{or}\quad G^2\kappa_q^2\frac\gamma{\gamma+k}",
        hypotheses=(*LINEAR, STEPS),
        strategy=STRATEGY,
        explicit=(TIGHT, NOISY, SPREAD, DECREASING, FLOOR),
        build=FROM_ZERO.case,
        measure=linear(at_printed_steps),
        grade="proved",
        controls=(
            halved("d_sigma1", "σ'₁", {**FLOOR, "q": 0, "strength": 4}, (1, 4)),
            halved("slope", "L_E²", {**TIGHT, "steps": 1}),
            halved("q", "q", {**TIGHT, "steps": 1}),
            Control("a step of 1 where σ'₁ = 1", params={**FLOOR, "q": 0, "strength": 4, "share": 24}),
            Control(
                "γ an eighth of its bound",
                params={**DECREASING, "q": 0, "strength": 8, "beta": 24, "gamma": -7, "steps": 6},
            ),
            mutant("f/2", lambda one: at_printed_steps(one, noise=fmpq(1, 2)), FLOOR),
            mutant("without f", lambda one: at_printed_steps(one, noise=0), FLOOR),
            mutant(
                "twice k",
                lambda one: at_printed_steps(one, loss=2),
                {**DECREASING, "q": 15, "beta": 1, "gamma": 0, "steps": 1},
            ),
        ),
        equality=Equality(params=TIGHT, reaches=1.0),
        curve=curve(at_printed_steps),
        budget=Budget(quick=25, full=1000),
        notes=r"Of the exact worst case (@sharp) $(1-\pi)^2\le1$ is all that is used: $e_{i+1}\le(1-2\eta m+\eta^2(m^2+"
        r"\sigma_1'))e_i+\eta^2\sigma_1'$. With a constant step $\eta(m^2+\sigma_1')\le m^2$ is enough; with "
        r"decreasing ones the printed $\gamma\ge\beta(1+2\sigma_1'\kappa_q^2)$ is used to the full. "
        r"Near-equality with noise, for one step: $q=\frac{15}{16}$.",
    ),
)
