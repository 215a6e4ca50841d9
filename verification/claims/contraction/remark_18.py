r"""Remark 18: powers of the condition number κ = 1/(1 − q) in the sample complexities, as degrees of functions of κ.

With theorem 16 (ii), α = 1/L_f and S = ⌈K/ε⌉, K = 8Δ_fL_f + 10W/c₃: T = 4S⌈c₃S⌉. c₃ = W/L_f balances K's two terms.
Theorem 17: S = ⌈K/ε⌉, K = 8Δ_fL_f + (10π²/6)C², and T <= 2S(c₃ log S + 2); its logarithm is not counted: c₃S.
What is no rational function of κ is enclosed by two: x <= ⌈x⌉ < x + 1, κ − 1 < 1/log(1/q) < κ, 3/2 < π²/6 < 5/3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from refimpl.approximate.sid_moments import sid_moments
from refimpl.approximate.stochastic import SID
from refimpl.constants import Constants, Noise
from verification.claims.contraction import _closed_loop
from verification.claims.contraction._at_infinity import KAPPA, AtInfinity
from verification.claims.contraction._closed_loop import CONTRACTS, EPS, PLAIN, Loop
from verification.claims.contraction._powers import (
    CONSTANTS,
    NOISES,
    Family,
    Rates,
    Steps,
    build,
    corollary_10,
    theorem_8,
    without_loss,
)
from verification.model import Budget, Claim, Control, Hypothesis, Measurement

ACCURACY = Fraction(1, 100)
Enclosed = Mapping[str, tuple[Any, ...]]  # a quantity, or what is below and above it
Read = Callable[[Family, Any], Enclosed]


def samples(f: Family, c: Constants, W: Any) -> Enclosed:
    """c₃ = W/L_f and T."""
    c3 = W / c.L_f
    S = (8 * f.drop * c.L_f + 10 * W / c3) / ACCURACY
    return {"c3": (c3,), "T": (4 * S * c3 * S, 4 * (S + 1) * (c3 * (S + 1) + 1))}


def steps(c: Constants, x: Noise) -> tuple[Steps, Steps]:
    """η_i of (6) and of (7): β = 2/(1 − q²), γ = β(1 + σ₂) and β(1 + 2σ'₁κ²)."""
    beta = 2 / (1 - c.q**2)
    return Steps(beta, beta * (1 + x.sigma2)), Steps(beta, beta * (1 + 2 * x.d_sigma1 * c.kappa_q**2))


def equal(f: Family, kappa: Any) -> Enclosed:
    """The larger γ for both; W = 2c_b + c_I."""
    c, x = f.at(kappa)
    both = max(steps(c, x), key=lambda r: r.gamma)
    rates = theorem_8(c, x, both, both)
    c_b, c_I = corollary_10(c, x, rates)
    return {"γ": (both.gamma,), "L_f": (c.L_f,), **known(f, c, rates, 2 * c_b + c_I)}


def different(f: Family, kappa: Any, **reading: bool) -> Enclosed:
    """Each its own γ; W = c_b + c_I."""
    c, x = f.at(kappa)
    rates = theorem_8(c, x, *steps(c, x))
    return known(f, c, rates, sum(corollary_10(c, x, rates, **reading)))


def lossless(f: Family, kappa: Any) -> Enclosed:
    """``without_loss``."""
    c, x = f.at(kappa)
    rates = without_loss(c, x)
    return {"γ": (rates.lower.gamma,), **known(f, c, rates, sum(corollary_10(c, x, rates)))}


def known(f: Family, c: Constants, rates: Rates, W: Any) -> Enclosed:
    """d_w, d_v, W and what depends on W."""
    return {"d_w": (rates.d_w,), "d_v": (rates.d_v,), "W": (W,), **samples(f, c, W)}


def deterministic(f: Family, kappa: Any, factor: bool = False) -> Enclosed:
    """C, c₃ = 1/log(1/q), S and c₃S; with the factor κ in the logarithm C/κ takes the place of C."""
    c, _ = f.at(kappa)
    C = c.c1 * c.B + c.L_Phi * c.L_E * c.kappa_q + c.nu2 * c.B * c.L_E * c.kappa_q
    used, c3 = C / kappa if factor else C, (kappa - 1, kappa)
    low, high = ((8 * f.drop * c.L_f + 10 * basel * used**2) / ACCURACY for basel in BASEL)
    return {"C²": (C**2,), "c3": c3, "S": (low, high + 1), "T": (c3[0] * low, c3[1] * (high + 1))}


BASEL = (Fraction(3, 2), Fraction(5, 3))  # π²/6 is between


def degrees(read: Read, predicted: Mapping[str, int]) -> Callable[[Family], Measurement]:
    """How far the farthest power is from what is predicted; what is below and above a quantity have to have one."""

    def measure(f: Family) -> Measurement:
        found = {name: [AtInfinity.of(x).degree for x in ends] for name, ends in read(f, KAPPA).items()}
        off = max(abs(degree - power) for name, power in predicted.items() for degree in found[name])
        return Measurement(observed=off, bound=0, detail={"powers": found})

    return measure


def _positive(f: Family) -> tuple[bool, str]:
    zero = [name for name in (*CONSTANTS, *NOISES) if not f.fixed[name] > 0]
    return not zero, ", ".join(zero) or "all positive"


POSITIVE = Hypothesis("no constant vanishes", r"L_E,L_\Phi,\nu_i,\mu_i,\dots,\sigma_{2,E},B>0", _positive)


def _claim(
    name: str, title: str, statement: str, read: Read, predicted: dict[str, int], notes: str, **more: Any
) -> Claim:
    wrong = {**predicted, "T": predicted["T"] - 1}
    controls = (
        Control("one power less", kind="formula", measure=degrees(read, wrong)),
        Control("ν₁ = 0 and μ₁ = 0", params={"seed": 0, "zero": ["nu1", "mu1"]}),
        *more.pop("controls", ()),
    )
    return Claim(
        id=f"contraction/remark-18{name}",
        title=title,
        source="contraction, Remark 18" + more.pop("extra", ""),
        statement=statement,
        hypotheses=(POSITIVE,),
        strategy=st.fixed_dictionaries({"seed": st.integers(0, 10**6)}),
        explicit=({"seed": 0}, {"seed": 1}),
        build=build,
        measure=degrees(read, predicted),
        grade="proved",
        controls=controls,
        budget=Budget(quick=20, full=2000),
        notes=notes
        + r" Exact as $\kappa\to\infty$: degrees of rational functions of $\kappa$ ($\lceil\cdot\rceil$, $\log$ and "
        r"$\pi^2$ between two of them). All other constants of assumptions A, B, C are rational, between $\tfrac14$ "
        r"and 4; $\varepsilon=\tfrac1{100}$. They are powers of bounds.",
    )


SLOPES = {"d_w": 3, "d_v": 5, "W": 7, "c3": 4, "T": 10, "γ": 3, "L_f": 3}
TWO = {"d_w": 2, "d_v": 5, "W": 6, "c3": 3, "T": 9}


# -- the equal steps' own bound -----------------------------------------------------------------------


NOISY: dict[str, Any] = {**PLAIN, "growing": True, "dl": 1.0}


def _together(one: Loop) -> tuple[bool, int]:
    J = one.params.get("J", one.params["t"])
    return J == one.params["t"], J


def error(share: float = 1.0) -> Callable[[Loop], Measurement]:
    """t E‖∇̂f − ∇f‖² for t = k = J with the steps of ``without_loss``, against W."""

    def measure(one: Loop) -> Measurement:
        c, x, t = one.constants, one.noise, one.params["t"]
        rates = without_loss(c, x)
        sid = SID(t=t, k=t, J=one.params.get("J", t), rate=rates.lower.rate)
        found = sid_moments(sid, one.unconfined, one.lam0, w0=one.w0)
        W = share * float(sum(corollary_10(c, x, rates)))
        value = t * float(found.mean_square_error)
        size = 1 + float(found.exact.value @ found.exact.value)
        return Measurement(
            observed=value, bound=W, rounding=10 * t * (3 * t + 4) * EPS * (len(one.w0) + one.n) * size
        )

    return measure


CLAIMS = (
    _claim(
        "",
        "Equal steps for both solvers cost ten powers of the condition number",
        r"\gamma,d_w,L_f\propto\kappa^3,\;d_v\propto\kappa^5,\;W\propto\kappa^7,\;c_3\propto\kappa^4:\quad "
        r"T\propto\kappa^{10}\varepsilon^{-2}",
        equal,
        SLOPES,
        r"$\beta=2/(1-q^2)$ and $\gamma$ the smallest of Theorem 8 for both iterations.",
        controls=(
            Control("σ'₁ = 0", params={"seed": 0, "zero": ["d_sigma1"]}),
            Control("each its own γ", kind="formula", measure=degrees(different, {"T": 10})),
        ),
    ),
    _claim(
        "@two-steps",
        "Steps of their own for both solvers, with a derivative in λ bounded everywhere: nine powers",
        r"\|\partial_2\Phi(w,\lambda)\|\le L_\Phi\ \forall w:\quad "
        r"d_w\propto\kappa^2,\;d_v\propto\kappa^5,\;W\propto\kappa^6,\;c_3\propto\kappa^3,\;T\propto\kappa^9"
        r"\varepsilon^{-2}",
        lambda f, kappa: different(f, kappa, everywhere=True),
        TWO,
        r"$\gamma=\beta(1+\sigma_2)$ in (6) and $\beta(1+2\sigma_1'\kappa^2)$ in (7). The stronger assumption "
        r"takes $\nu_2$ out of Theorems 4 and 5, but not out of $c_1$.",
    ),
    _claim(
        "@b-iv",
        "Nine powers with assumption B (iv) alone",
        r"\|\partial_2\Phi(w(\lambda),\lambda)\|\le L_\Phi:\quad "
        r"W\propto\kappa^6,\;c_3\propto\kappa^3,\;T\propto\kappa^9\varepsilon^{-2}",
        different,
        TWO,
        r"The same steps. $\rho(t)\sigma(t)\le\tfrac{d_wd_v}{(\gamma+1)t}$ with the larger "
        r"$\gamma\propto\kappa^3$ keeps the product's term at $\kappa^4$: the stronger assumption of the "
        r"remark is not needed.",
        extra=", derived here",
        controls=(
            Control(
                "γ + 1 dropped in the product",
                kind="formula",
                measure=degrees(lambda f, kappa: different(f, kappa, product=False), TWO),
            ),
        ),
    ),
    _claim(
        "@equal-steps",
        "Nine powers with equal steps, from a weaker condition on them",
        r"\gamma=\beta\max\{1+\sigma_2,\tfrac{m^2+\sigma_1'}m\},\;m=\tfrac1\kappa:\quad\gamma,d_w\propto"
        r"\kappa^2,\;d_v\propto\kappa^4,\;W\propto\kappa^6,\;T\propto\kappa^9\varepsilon^{-2}",
        lossless,
        {"γ": 2, "d_w": 2, "d_v": 4, "W": 6, "c3": 3, "T": 9},
        r"Theorem 8's condition on the steps of (7) is sufficient, not necessary: $\eta(m^2+\sigma_1')\le m$ "
        r"is enough, and the loss of one power by equal steps disappears. That the bound holds with these "
        r"steps: see @equal-steps-bound.",
        extra=", derived here",
    ),
    Claim(
        id="contraction/remark-18@equal-steps-bound",
        title="Mean square error O(1/t) with equal steps under the weaker condition",
        source="contraction, Remark 18, derived here",
        statement=r"\beta=\tfrac2m,\;\gamma=\beta\max\{1+\sigma_2,\tfrac{m^2+\sigma_1'}m\},\;t=k=J\ge1:\quad"
        r"\mathbb E\|\hat\nabla f-\nabla f\|^2\le\frac{c_b+c_I}t",
        hypotheses=(CONTRACTS, Hypothesis("t = k = J", "t=k=J", _together)),
        strategy=_closed_loop.instances(True, "moments", t=st.integers(1, 12)),
        explicit=(
            {**NOISY, "t": 1},
            {**NOISY, "p": 8.0, "A": 0.5, "dA": 0.25, "B": 1.0, "dB": 0.5, "m": 1.0, "dm": 0.5, "t": 4},
        ),
        build=_closed_loop.build,
        measure=error(),
        grade="exact",
        controls=(
            Control("J = 1", params={**NOISY, "t": 12, "J": 1}),
            Control("a third of W", kind="formula", measure=error(1 / 3), params={**NOISY, "t": 1}),
        ),
        budget=Budget(quick=15, full=600),
        notes=r"$c_b$, $c_I$ of Corollary 10 with $d_v=\kappa_q^2(L_E^2+\sigma_{1,E})\big(\gamma+\tfrac{"
        r"\beta^2\sigma_1'}{\beta m-1}\big)$. Exact moments of SID.",
    ),
    _claim(
        "@deterministic",
        "The deterministic method costs five powers of the condition number",
        r"C^2\propto\kappa^4,\;c_3\propto\kappa,\;S\propto\kappa^4\varepsilon^{-1}:\quad T=\tilde "
        r"O(\kappa^5\varepsilon^{-1})",
        deterministic,
        {"C²": 4, "c3": 1, "S": 4, "T": 5},
        r"$c_3=1/\log(1/q)$.",
    ),
    _claim(
        "@deterministic-factor",
        "Four powers where the deterministic schedule has κ inside its logarithm",
        r"t_s=\lceil c_3\log(\kappa(s+1))\rceil:\quad S\propto\kappa^3\varepsilon^{-1},\;T=\tilde "
        r"O(\kappa^4\varepsilon^{-1})",
        lambda f, kappa: deterministic(f, kappa, factor=True),
        {"C²": 4, "c3": 1, "S": 3, "T": 4},
        r"$\|\delta_s\|\le\tfrac C{\kappa(s+1)}$; $C^2/\kappa^2$ and $L_f$ are then of lower order than "
        r"$\kappa^4$.",
    ),
)
