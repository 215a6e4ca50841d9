"""For which keep probabilities lemma 1 holds as printed, for constant Hessians; proof in ``hessian_variance``."""

from __future__ import annotations

import itertools as it
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from verification.claims.dropout_bilevel._bounds import BOUNDED, CONVEX, Wave, wave, waves
from verification.claims.dropout_bilevel._hessian_variance import curve, excess, printed, total
from verification.claims.dropout_bilevel.hessian_variance import (
    CUBE,
    FLAT,
    HALF,
    MUTE,
    ONE_EACH,
    PRINTED,
    SQUARE,
    waving,
)
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, identity


def golden(g: Wave) -> Any:
    """Σ p_i(1 − p_i)(1 − p_i − p_i²) over all coordinates."""
    return (g.p * (1 - g.p) * (1 - g.p - g.p**2)).sum()


def _kept_enough(g: Wave) -> tuple[bool, float]:
    return golden(g) <= 0, float(golden(g))


KEPT = Hypothesis(
    "probabilities above the golden section on average",
    r"\textstyle\sum_ip_i(1-p_i)(1-p_i-p_i^2) \le 0",
    _kept_enough,
)
# three λ under one mask weigh nine entries, and the condition counts three; all |H_ij| are 26 or (six) 25
SHARED = {
    "n": 3,
    "d": 3,
    "parts": 10,
    "keep_lam": [5],
    "groups_lam": [0, 0, 0],
    "keep_w": [8, 8, 8],
    "ll": [26] * 9,
    "cross": [26] * 9,
    "root": [5, 5, 5],
}


def constant_excess(sign: int = 1) -> Callable[[Wave], Measurement]:
    """The excess where all |H_ij| are C_G."""

    def measure(g: Wave) -> Measurement:
        return identity(excess(g), g.C**2 * (g.p * (1 - sign * g.p) * (1 - g.p - g.p**2)).sum())

    return measure


CLAIMS = (
    Claim(
        id="dropout-bilevel/lemma-1@golden-section",
        title="The printed bound holds for constant Hessians where enough is kept",
        source="dropout-bilevel, lemma 1, (14); condition derived here",
        statement=r"$$\nabla^2G \text{ constant},\ \textstyle\sum_ip_i(1-p_i)(1-p_i-p_i^2) \le 0:$$ $$"
        + PRINTED
        + "$$",
        hypotheses=(CONVEX, BOUNDED, ONE_EACH, FLAT, KEPT),
        strategy=waves(**MUTE, keep_lam=st.lists(st.integers(4, 8), min_size=3, max_size=3)),
        explicit=({**HALF, "keep_w": [5]}, {**SQUARE, "keep_lam": [5], "keep_w": [5]}),
        build=wave,
        measure=total(printed),
        grade="proved",
        curve=curve,
        controls=(
            Control("p = 3/5", params={**HALF, "parts": 5, "keep_w": [3]}),
            Control("varying Hessian", params=waving(7)),
            Control("one variable for three λ", params=SHARED),
            Control(
                "a factor p more",
                kind="formula",
                measure=total(lambda g: printed(g) * g.p),
            ),
        ),
        equality=Equality(params={**HALF, "parts": 55, "keep_w": [34]}, reaches=0.999),
        budget=Budget(quick=100, full=600),
        notes="For one common p: $p \\ge \\varphi = \\frac{\\sqrt5-1}{2} \\approx 0.618$ (or 0). Nearly attained at "
        "the Fibonacci quotient $\\frac{34}{55}$, just above $\\varphi$. Sufficient for the spectral norm too, the "
        "smaller "
        "one; necessary for the Frobenius norm, shown for $n = 2$, $d = 1$: @golden-section-sharp.",
    ),
    Claim(
        id="dropout-bilevel/lemma-1@golden-section-sharp",
        title="By how much the printed bound fails where less is kept",
        source="dropout-bilevel, lemma 1, (14)",
        statement=r"$$G = \tfrac{C_G}{2}(\lambda_1 + \lambda_2 + w)^2:\quad E\|X - EX\|_F^2 - "
        r"\sum_{i,j}p_ip_j(1-p_ip_j)C_G^2 = C_G^2\sum_ip_i(1-p_i)(1-p_i-p_i^2)$$ with $n = 2$, $d = 1$",
        hypotheses=(CONVEX, BOUNDED, ONE_EACH, FLAT),
        explicit=[
            {**CUBE, "keep_lam": [a, b], "keep_w": [c]} for a, b, c in it.product(range(1, 6), repeat=3)
        ],
        build=wave,
        measure=constant_excess(),
        grade="proved",
        complete="both sides are polynomials of degree at most four in each keep probability, compared at five "
        "values of each; scaling G scales both by C_G².",
        controls=(
            Control("1 + p for 1 − p", kind="formula", measure=constant_excess(sign=-1)),
            Control(
                "one variable for both λ",
                params={**CUBE, "keep_lam": [2], "keep_w": [2], "groups_lam": [0, 0]},
            ),
        ),
        notes="So for constant Hessians, the Frobenius norm and $n = 2$, $d = 1$ the condition of @golden-section is "
        "necessary: where the sum is positive this G breaks the printed bound; the spectral norm may still be "
        "below it, "
        "and other sizes are not executed. An entry $|H_{ij}| = C_G$ off the diagonal contributes exactly what is "
        "printed.",
    ),
)
