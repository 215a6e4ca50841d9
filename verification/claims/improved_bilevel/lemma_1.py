r"""Lemma 1: is f(λ) = min of F over S_λ continuous, does it attain its minimum? Under each reading of (iv).

The lower half, f(λ) <= liminf f(λ_n), holds under convexity alone: w_{λ_n} is bounded (F is strongly convex), its limit
points are minimisers of G(λ, ·). With growth σ at the limit λ alone, p the projection of w_μ on S_λ: f(λ) <= F(p) <=
f(μ) + ‖∇F(p)‖dist(w_μ, S_λ), and dist <= 2√(δ/σ). The upper half needs S_λ to be near S_μ: growth at μ, as μ → λ.
With one σ for both sides the same with λ and μ exchanged.

Adding ⟨∇F(w_λ), P_λw_μ − w_λ⟩ >= 0 and ⟨∇F(w_μ), P_μw_λ − w_μ⟩ >= 0 (F without λ):
σ_F‖w_λ − w_μ‖² <= (‖∇F(w_λ)‖ + ‖∇F(w_μ)‖) Haus(S_λ, S_μ).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from verification.claims.improved_bilevel._intervals import (
    CONVEX,
    GROWTH,
    Lower,
    Pair,
    cut,
    pair,
    pairs,
    stated,
)
from verification.claims.improved_bilevel._intervals import CURVED as CURVATURE
from verification.claims.improved_bilevel.prop_1 import ATTAINED, DROP
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement

SOURCE = "improved-bilevel, Lemma 1"


def jump(case: Pair) -> Measurement:
    """|f(λ) − lim f(λ_n)|, λ_n → λ from μ's side: 0 if f is continuous."""
    return Measurement(observed=abs(case.f(case.first) - case.f(case.approached)), bound=0)


def drop(sign: int = 1) -> Callable[[Pair], Measurement]:
    """f(λ) against lim f(λ_n): no larger if f is lower semicontinuous."""
    return lambda case: Measurement(observed=sign * case.f(case.first), bound=sign * case.f(case.approached))


def below(
    case: Pair, of: Lower, other: Lower, sigma: Fraction, factor: Fraction | int
) -> tuple[Fraction, Fraction]:
    """(f(of) − f(other))₊² and ‖∇F(p)‖²·4δ/σ, p the projection of the other's selected point on S."""
    rise = max(case.f(of) - case.f(other), Fraction(0))
    p = cut(case.selected(other), *of.argmin)
    return rise**2, case.slope(p) ** 2 * factor * case.delta / sigma


def lower_half(factor: Fraction | int = 4, swap: bool = False) -> Callable[[Pair], Measurement]:
    """f(λ) − f(μ) from above; only the growth at λ (with ``swap``: at μ) enters."""

    def measure(case: Pair) -> Measurement:
        growth = (case.second if swap else case.first).growth
        sigma = Fraction(*case.params["stated"]) if "stated" in case.params else growth
        if sigma is None:  # S_λ = W, to which the distance is 0
            rise, _ = below(case, case.first, case.second, Fraction(1), factor)
            return Measurement(observed=rise, bound=0)
        rise, bound = below(case, case.first, case.second, sigma, factor)
        return Measurement(observed=rise, bound=bound)

    return measure


def both_halves(factor: Fraction | int = 4) -> Callable[[Pair], Measurement]:
    """|f(λ) − f(μ)|², the larger of both directions, each with its own point p."""

    def measure(case: Pair) -> Measurement:
        ways = ((case.first, case.second), (case.second, case.first))
        found = [below(case, of, other, stated(case), factor) for of, other in ways]
        rise, bound = max(found)
        return Measurement(observed=rise, bound=bound)

    return measure


def modulus(case: Pair) -> Fraction:
    """σ_F as stated, or q."""
    return Fraction(case.params.get("sigma_F", case.q))


def selection(factor: Fraction = Fraction(1), one_sided: bool = False) -> Callable[[Pair], Measurement]:
    """σ_F|w_λ − w_μ|² against (|F'(w_λ)| + |F'(w_μ)|) Haus."""

    def measure(case: Pair) -> Measurement:
        u, v = case.selected(case.first), case.selected(case.second)
        slopes = case.slope(u) + (0 if one_sided else case.slope(v))
        return Measurement(observed=modulus(case) * (u - v) ** 2, bound=factor * slopes * case.hausdorff)

    return measure


def _grows_here(case: Pair) -> tuple[bool, Any]:
    growth = case.first.growth
    wanted = Fraction(*case.params["stated"]) if "stated" in case.params else growth
    return growth is None or (wanted is not None and 0 < wanted <= growth), str(growth)


HERE = Hypothesis(
    "growth at λ",
    r"G(\lambda,\cdot) - \min \ge \tfrac\sigma2\operatorname{dist}(\cdot,S_\lambda)^2",
    _grows_here,
)
STRONG = Hypothesis(
    "F strongly convex",
    r"\nabla^2_{ww}F \succeq \sigma_FI",
    lambda case: (0 < modulus(case) <= case.q, [str(modulus(case)), str(case.q)]),
)
# F nearly linear on W, and S_λ = {1} against S_μ = W
STEEP = {**ATTAINED, "lam": [1, 1], "mu": [0, 1], "a": -(10**4)}
CURVED = pair(h=[1, 1], e=[1, -1], a=3)
COMMON: dict[str, Any] = {
    "build": Pair,
    "grade": "proved",
    "strategy": pairs(),
    "budget": Budget(quick=60, full=4000),
}


def continuous(reading: str, said: str, extra: str, *more: Hypothesis) -> Claim:
    """The modulus of f under a reading that gives growth."""
    return Claim(
        id=f"improved-bilevel/lemma-1@{reading}",
        title=f"{said} the improved hyperobjective is continuous",
        source=SOURCE + f", (iv) read as @{reading} of Proposition 1",
        statement=r"|f(\lambda)-f(\mu)| \le \ell\cdot2\sqrt{\delta/\sigma}, \quad f(\lambda) = \min_{S_\lambda}F, \ "
        r"\ell = \max\{\|\nabla F(P_{S_\lambda}w_\mu)\|, \|\nabla F(P_{S_\mu}w_\lambda)\|\}",
        hypotheses=(GROWTH, *more),
        explicit=(CURVED, STEEP, DROP) if reading == "c" else (CURVED, STEEP),
        measure=both_halves(),
        controls=(
            Control("σ stated twice too large", params={**STEEP, "stated": [4, 1]}),
            Control("3 for 4 below the root", kind="formula", measure=both_halves(3), params=STEEP),
        ),
        equality=Equality(params=STEEP, reaches=0.999),
        notes=extra
        + " δ as in Proposition 1; compared squared, over the rationals, on an interval W. Continuous and Λ "
        "compact: the minimum is attained. In gradients f is Lipschitz: $\\ell(\\frac2\\sigma-\\frac1L)M$ with M the "
        "Lipschitz constant of $\\nabla_wG$ in λ. If F depends on λ its own modulus is added.",
        **COMMON,
    )


CLAIMS = (
    Claim(
        id="improved-bilevel/lemma-1@a",
        title="Under convexity alone the improved hyperobjective is continuous",
        source=SOURCE + ", (iv) read as convexity alone",
        statement=r"\lambda_n \to \lambda \ \Rightarrow\ f(\lambda_n) \to f(\lambda), \quad f(\lambda) = "
        r"\min_{S_\lambda}F(\lambda, \cdot)",
        printed=r"f \text{ is continuous, and attains its minimum}",
        hypotheses=(CONVEX,),
        explicit=(DROP, pair(h=[0, 0], e=[0, 1])),
        measure=jump,
        corrected=Correction(
            tex=r"f(\lambda) \le \lim f(\lambda_n): \text{ f is lower semicontinuous, and attains its minimum}",
            measure=drop(),
            proof="$w_{\\lambda_n}$ is bounded, by the strong convexity of F, and its limit points lie in "
            "$S_\\lambda$.",
        ),
        notes="$G = \\frac12\\lambda w^2$, $F = \\frac12(w-1)^2$: $f(0) = 0$ and $f(\\lambda) = \\frac12$ for λ > "
        "0. The "
        "limit along λ_n is exact: h and e go to 0 together, and their ratio selects the point.",
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/lemma-1@a-attained",
        title="The half that survives: the improved hyperobjective is lower semicontinuous, so attains its minimum",
        source=SOURCE + ", the half that convexity alone gives",
        statement=r"f(\lambda) \le \liminf f(\lambda_n) \text{ for } \lambda_n \to \lambda",
        explicit=(pair(a=0), pair(h=[0, 0], e=[0, 1], a=1), CURVED),
        measure=drop(),
        controls=(Control("upper semicontinuous", kind="formula", measure=drop(-1), params=DROP),),
        equality=Equality(params=CURVED, reaches=0.999),
        notes="On a compact Λ a minimising sequence has a limit λ, where f is no larger. No compact W and no growth "
        "are "
        "needed, but one $\\sigma_F$ is: $G = 0$, $F = (\\lambda w-1)^2$ has $f(\\lambda) = 0$ for λ > 0 and $f(0) "
        "= 1$.",
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/lemma-1@a-lower",
        title="The lower half has a modulus that rests on the growth at the limit alone",
        source=SOURCE + ", the half that convexity alone gives; modulus derived here",
        statement=r"f(\lambda) - f(\mu) \le \|\nabla F(P_{S_\lambda}w_\mu)\|\cdot2\sqrt{\delta/\sigma(\lambda)}",
        hypotheses=(HERE,),
        explicit=(CURVED, STEEP, DROP),
        measure=lower_half(),
        controls=(
            Control("σ stated twice too large", params={**STEEP, "stated": [4, 1]}),
            Control(
                "growth at μ, where S = W, instead",
                kind="formula",
                measure=lower_half(swap=True),
                params=STEEP,
            ),
            Control("3 for 4 below the root", kind="formula", measure=lower_half(3), params=STEEP),
        ),
        equality=Equality(params=STEEP, reaches=0.999),
        notes="At $\\mu = \\lambda_n \\to \\lambda$ the growth at $\\lambda_n$ may die, as in @a: it is the upper "
        "half that "
        "needs it. Equality as F becomes linear on W.",
        **COMMON,
    ),
    continuous(
        "b", "With one growth constant", "The upper half uses the growth at μ as μ → λ: one σ for all."
    ),
    continuous(
        "c",
        "With curvature off the minimisers",
        "@c implies growth with the same σ, so this is @b.",
        CURVATURE,
    ),
    Claim(
        id="improved-bilevel/lemma-1@selection",
        title="The selected minimiser moves at most like the root of the sets' distance",
        source=SOURCE + ", (35)–(39); modulus derived here",
        statement=r"\sigma_F\|w_\lambda-w_\mu\|^2 \le \left(\|\nabla F(w_\lambda)\|+\|\nabla F(w_\mu)\|\right)"
        r"\operatorname{Haus}(S_\lambda, S_\mu)",
        hypotheses=(STRONG,),
        explicit=(pair(h=[0, 0], e=[-1, 2], a=0), CURVED),
        measure=selection(),
        controls=(
            Control("σ_F stated twice too large", params={**pair(h=[0, 0], e=[-1, 2], a=0), "sigma_F": 2}),
            Control("half of it", kind="formula", measure=selection(Fraction(1, 2))),
            Control("one gradient of the two", kind="formula", measure=selection(one_sided=True)),
        ),
        equality=Equality(params=pair(h=[0, 0], e=[-1, 2], a=0), reaches=0.999),
        notes="Both variational inequalities, each tested with a projection of the other's point. Equality: "
        "$S_\\lambda = "
        "\\{1\\}$, $S_\\mu = \\{-1\\}$, $F = \\frac12w^2$. The root is the truth for d >= 2, where S may be curved; "
        "on the "
        "line $|w_\\lambda-w_\\mu| \\le \\operatorname{Haus}$.",
        **COMMON,
    ),
)
