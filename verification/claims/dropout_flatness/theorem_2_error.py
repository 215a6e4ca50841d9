r"""How far the printed matrix of theorem 2 is from E ggᵀ: leading term, rate, bounds.

Fixed θ and y, one sample. With μ₃ = s² − s and μ₄ − 3s² = s − 4s² + s³ the exact second moment minus the printed
matrix is sΔ₁ + s²Δ₂ + s³Δ₃ without remainder, Δ₁ = 2ε(Gg₀ᵀ + g₀Gᵀ) − (Qg₀ᵀ + g₀Qᵀ) + Σ(f_j² − 2εf_j)g_jg_jᵀ.

First order. In g = m + Ση_jc_j + Ση_jη_lN_jl write c_j = k_j + s f_jg_j with k_j = f_jg₀ + (ε − f_j)g_j, minus the
change of the gradient when unit j is dropped. Then E ggᵀ = ε²g₀g₀ᵀ + s[ε(Gg₀ᵀ + g₀Gᵀ) + Σk_jk_jᵀ] + R with R =
s²[GGᵀ + Σf_j(k_jg_jᵀ + g_jk_jᵀ) + Σ_{j<l}N_jlN_jlᵀ] + s³Σf_j²g_jg_jᵀ: bound it term by term.

Printed. E ggᵀ = aM + Cov(ε_η², ∇f_η∇f_ηᵀ) exactly, so E ggᵀ − printed = s(a − ε²)Σg_jg_jᵀ + Cov, a − ε² = sF; the
covariance is at most the product of the standard deviations (Cauchy–Schwarz, entry by entry), with equality for m =
1, where η has two values.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays import to_numpy
from refimpl.arrays.backend import Array
from verification.claims.dropout_flatness._noise import (
    Noise,
    Sample,
    both,
    build,
    outer,
    points,
    size,
    weighted,
)
from verification.claims.dropout_flatness._planted import at
from verification.claims.dropout_flatness.theorem_2_exact import SOURCE
from verification.claims.dropout_flatness.theorem_2_limits import first_error
from verification.instances import EPS
from verification.model import (
    Budget,
    Claim,
    Control,
    Equality,
    Hypothesis,
    Measurement,
    rate,
)

WINDOW = range(6, 13)  # s = 2^-6, …, 2^-12
DOMINATED = 0.05  # the leading term's share that the rest may reach at the window's start


# -- the rate ------------------------------------------------------------------------------------------------------


def error_at(of: Noise, s: Fraction) -> Array:
    """(1/n) Σ E ggᵀ − printed at keep probability 1/(1+s)."""
    there = of.kept(1 / (1 + s))
    return there.second - there.printed


def dominated(of: Noise) -> tuple[bool, float]:
    """‖error − sΔ₁‖ <= 0.05 ‖sΔ₁‖ where the window starts."""
    s = Fraction(1, 2 ** WINDOW[0])
    leading = of.sum(first_error)
    rest, known = size(error_at(of, s) / s.numerator * s.denominator - leading), size(leading)
    share = rest / known if known else 1.0
    return share <= DOMINATED, share


def norms(of: Noise, *, first: bool = False) -> tuple[list[float], list[float]]:
    """s and ‖error‖ over the window; ``first``: what the leading term leaves."""
    steps = [Fraction(1, 2**k) for k in WINDOW]
    leading = of.sum(first_error)
    gaps = [
        error_at(of, s) - (leading * s.numerator / s.denominator if first else 0 * leading) for s in steps
    ]
    return [float(s) for s in steps], [size(gap) for gap in gaps]


def exponent(predicted: float) -> Callable[[Noise], Measurement]:
    """The slope of log ‖error‖ against log s."""

    def measure(of: Noise) -> Measurement:
        s, gaps = norms(of)
        fitted = float(np.polyfit(np.log(s), np.log(np.maximum(gaps, 1e-300)), 1)[0])
        return rate(fitted, predicted, 0.05, window="s = 2^-6 … 2^-12")

    return measure


def rate_curve(of: Noise) -> dict[str, Any]:
    """Over the window, with the leading term and what it leaves."""
    s, gaps = norms(of)
    rest = norms(of, first=True)[1]
    known = size(of.sum(first_error))
    lines = {"error of the printed matrix": gaps, "s‖Δ₁‖": [known * x for x in s], "what sΔ₁ leaves": rest}
    return {"x": s, "lines": lines, "xlabel": "s", "ylabel": "Frobenius norm", "logx": True, "logy": True}


# -- bounds ----------------------------------------------------------------------------------------------------------


def rounding(of: Noise, bound: float) -> float:
    """Exact matrices; norms of floats: (P² + terms) eps of sums of positive terms."""
    return 4 * (of.at.net.size**2 + of.at.n * of.at.m**2) * EPS * bound


def changes(x: Sample) -> Array:
    """k_j = f_jg₀ + (ε − f_j)g_j."""
    return x.singles(0 * x.s - 1)


def first_order(x: Sample, *, mean: bool = True, step: Callable[[Sample], Array] = changes) -> Array:
    """ε²g₀g₀ᵀ + s[ε(Gg₀ᵀ + g₀Gᵀ) + Σ k_jk_jᵀ]."""
    found = x.e**2 * outer(x.g0) + weighted(x.s, step(x))
    return found + x.e * both(x.q, x.g0) if mean else found


def remainder(x: Sample) -> float:
    """The bound of ‖R‖ term by term."""
    s, f, g = float(x.s[0]), to_numpy(x.f), np.linalg.norm(to_numpy(x.g), axis=1)
    k = np.linalg.norm(to_numpy(changes(x)), axis=1)
    q = size(x.q) / s if s else 0.0
    pairs = sum(size(N) ** 2 for _, N in x.pairs())
    return float(s**2 * (q**2 + 2 * (np.abs(f) * k * g).sum() + pairs) + s**3 * (f**2 * g**2).sum())


def within_remainder(**mutated: Any) -> Callable[[Noise], Measurement]:
    """‖E ggᵀ − first order‖ <= the remainder's bound."""

    def measure(of: Noise) -> Measurement:
        gap = size(of.second - of.sum(lambda x: first_order(x, **mutated)))
        bound = sum(remainder(x) for x in of.samples) / of.at.n
        return Measurement(observed=gap, bound=bound, rounding=rounding(of, bound))

    return measure


def square_variance(x: Sample) -> Any:
    """Var ε_η² = 4ε²sF + 4εμ₃Σf_j³ + (μ₄ − 3s²)Σf_j⁴ + 2s²F²."""
    s, F = x.s[0], (x.f**2).sum()
    cubes, fourths = (x.f**3).sum(), (x.f**4).sum()
    mu3, excess = s * (s - 1), s * (s * s - 4 * s + 1)
    return 4 * x.e**2 * s * F + 4 * x.e * mu3 * cubes + excess * fourths + 2 * s * s * F * F


def spread_of_matrix(of: Noise) -> Array:
    """E‖∇f_η∇f_ηᵀ − M‖_F² of every sample, (n,)."""
    chances, _, slopes = of.masked
    fourth = np.einsum("kip,kip->ki", slopes, slopes, optimize=False) ** 2
    squared = np.array([(x.M * x.M).sum() for x in of.samples], dtype=object)
    return (chances[:, None] * fourth).sum(axis=0) - squared


def within_bound(units: int = 1, deviations: int = 1) -> Callable[[Noise], Measurement]:
    """‖E ggᵀ − printed‖ <= s²‖(1/n)ΣFΣgg‖ + (1/n)Σ sd(ε_η²) sd(∇f_η∇f_ηᵀ)."""

    def measure(of: Noise) -> Measurement:
        gap = size(of.second - of.printed)
        own = size(of.sum(lambda x: (x.a - x.e**2) * weighted(x.s, x.g)))
        spreads = zip(of.samples, spread_of_matrix(of), strict=True)
        random = sum(float(square_variance(x) * spread) ** 0.5 for x, spread in spreads) / of.at.n
        bound = units * own + deviations * random
        return Measurement(observed=gap, bound=bound, rounding=rounding(of, bound + size(of.second)))

    return measure


ONE_KEEP = points((1, 2), keep=st.integers(1, 7).map(lambda k: [k]))
TINY = at((1, 1, 1), "linear", theta=[1, 0, 1, 0], X=[[1]], y=[-1], keep=[4])
STEEP = at((1, 1, 1), "linear", theta=[1, 0, 1000, 0], X=[[1000]], y=["-1000000000"], keep=[4])
SMALL_PART = at((1, 1, 1), "linear", theta=[1, 0, "1/10000", 0], X=[[1]], y=[-1], keep=[4])


CLAIMS = (
    Claim(
        id="dropout-flatness/theorem-2@rate",
        title="The printed matrix's error is of the first order in s, as its dropout part is",
        source=SOURCE + ", derived here",
        statement=r"$$\Bigl\|\frac1n\sum_iE_\eta\,gg^\top - \Sigma_{\text{printed}}\Bigr\| = s\,\|\Delta_1\| + "
        r"O(s^2), \quad "
        r"\Delta_1 = \frac1n\sum_i\Bigl[2\varepsilon(Gg_0^\top + g_0G^\top) - (Qg_0^\top + g_0Q^\top) + "
        r"\sum_j(f_j^2 - "
        r"2\varepsilon f_j)g_jg_j^\top\Bigr]$$: the exponent fitted on $s = 2^{-6} \dots 2^{-12}$ is 1 ± 0.05",
        hypotheses=(
            Hypothesis(
                "the leading term leads",
                r"\|\text{error} - s\Delta_1\| \le 0.05\,\|s\Delta_1\| \text{ at } s = 2^{-6}",
                dominated,
            ),
        ),
        strategy=points((1, 2)),
        explicit=(TINY,),
        build=build,
        measure=exponent(1),
        grade="exact",
        controls=(
            Control(
                "f_j = 2ε, where Δ₁ vanishes",
                params=at((1, 1, 1), "linear", theta=[1, 0, 1, 0], X=[[1]], y=["1/2"], keep=[4]),
            ),
            Control("second order", kind="formula", measure=exponent(2)),
        ),
        curve=rate_curve,
        budget=Budget(quick=12, full=48),
        notes="θ and y are fixed while p → 1; matrices are rational, norms float. For one unit and one sample "
        "$\\Delta_1 = (2\\varepsilon f - f^2)(g_1g_0^\\top + g_0g_1^\\top - g_1g_1^\\top)$ vanishes at f = 2ε: "
        "the control.",
    ),
    Claim(
        id="dropout-flatness/theorem-2@first-order",
        title="The covariance of dropout gradients to first order in s, with an explicit remainder",
        source=SOURCE + ", corrected",
        statement=r"\begin{aligned} \frac1n\sum_iE_\eta\,gg^\top &= "
        r"\frac1n\sum_i\left\{\varepsilon^2g_0g_0^\top + s\left[\varepsilon"
        r"(Gg_0^\top + g_0G^\top) + \sum_jk_jk_j^\top\right]\right\} + R, \quad k_j = f_jg_0 + (\varepsilon - "
        r"f_j)g_j, \\ \|R\|_F &\le "
        r"\frac1n\sum_i\left\{s^2\left[\|G\|^2 + 2\sum_j|f_j|\|k_j\|\|g_j\| + \sum_{j<l}\|N_{jl}\|^2\right] + "
        r"s^3\sum_jf_j^2\|g_j\|^2\right\} \end{aligned}",
        strategy=ONE_KEEP,
        explicit=(TINY, at((1, 2, 1), "relu", n=2, seed=1, keep=[7])),
        build=build,
        measure=within_remainder(),
        grade="exact",
        controls=(
            Control(
                "Taylor's f_jg₀ + εg_j for k_j",
                kind="formula",
                measure=within_remainder(step=lambda x: x.singles(0 * x.s)),
                params={**TINY, "p": "63/64"},
            ),
            Control(
                "mean part left out",
                kind="formula",
                measure=within_remainder(mean=False),
                params={**TINY, "p": "63/64"},
            ),
        ),
        equality=Equality(params=STEEP, reaches=0.999),
        budget=Budget(quick=60, full=300),
        notes="Frobenius norm. At stationary points the left side is $\\Sigma_{\\text{one}}$. $-k_j$ is the "
        "change of the gradient "
        "when unit j is dropped. Equality in the limit where one unit's $g_1$ and ε are large.",
    ),
    Claim(
        id="dropout-flatness/theorem-2@bound",
        title="How far the printed matrix can be from the second moment of dropout gradients",
        source=SOURCE + ", corrected",
        statement=r"\Bigl\|\frac1n\sum_iE_\eta\,gg^\top - \Sigma_{\text{printed}}\Bigr\|_F \le "
        r"s^2\Bigl\|\frac1n\sum_iF_i\sum_j"
        r"g_jg_j^\top\Bigr\|_F + \frac1n\sum_i\sqrt{\operatorname{Var}(\varepsilon_\eta^2)\;E\|\nabla "
        r"f_\eta\nabla f_\eta^\top - "
        r"M_i\|_F^2}, \quad F_i = \sum_jf_j^2",
        strategy=ONE_KEEP,
        explicit=(TINY, at((1, 2, 1), "relu", n=2, seed=1, keep=[7])),
        build=build,
        measure=within_bound(),
        grade="exact",
        controls=(
            Control("first term alone", kind="formula", measure=within_bound(deviations=0)),
            Control(
                "second term alone, subtracted first",
                kind="formula",
                measure=within_bound(units=-1),
            ),
        ),
        equality=Equality(params=SMALL_PART, reaches=0.999),
        budget=Budget(quick=60, full=300),
        notes="$\\operatorname{Var}\\varepsilon_\\eta^2 = 4\\varepsilon^2sF + 4\\varepsilon\\mu_3\\sum f_j^3 + "
        "(\\mu_4-3s^2)\\sum f_j^4 + "
        "2s^2F^2$. Small beside the printed matrix where outputs $f^j$ of single units are small beside the "
        "error: far from the end "
        "of training, or in wide networks. Equality in the limit of one unit with small $f^j$.",
    ),
)
