r"""Theorem 2 as printed, with an upper level that meets assumption 2: its gradient is bounded.

F = √(1+(λ₁+λ₂−1)²), whose gradient is bounded as assumption 2 (iii) wants: φ = 2p²g(c) + p(1−p)(g(a)+g(b)) with
g(s) = s²/(1+s²). Put R² = 2p/(1+3p). Where |a| >= R or |b| >= R, φ >= p(1−p)R²/(1+R²) = 2p²(1−p)/(1+5p); where
|c| >= R, φ >= 2p²R²/(1+R²), no less for p >= 1/3; elsewhere g(s) >= s²/(1+R²), and the bound above divided by
1+R² = (1+5p)/(1+3p) is the same number. So φ >= 2p²(1−p)/(1+5p) everywhere; boxes give 3/50 for p = 4/5.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from verification.claims.dropout_bilevel.theorem_2 import SOURCE, floor
from verification.model import Budget, Claim, Control, Hypothesis, Measurement


def g(s: Fraction) -> Fraction:
    """s²/(1+s²), the square of the derivative of √(1+s²)."""
    return s * s / (1 + s * s)


def bounded_phi(p: Fraction, a: Fraction, b: Fraction) -> Fraction:
    """φ for F = √(1+(λ₁+λ₂−1)²) at λ = (1+a, 1+b)."""
    return 2 * p**2 * g(1 + a + b) + p * (1 - p) * (g(a) + g(b))


def least(low: Fraction, high: Fraction) -> Fraction:
    """min g on an interval."""
    return Fraction(0) if low <= 0 <= high else g(min(abs(low), abs(high)))


def boxes(p: Fraction, target: Fraction, most: int) -> tuple[Fraction, int]:
    """A lower bound of φ over the plane, >= target if at most ``most`` boxes show it; and the number of boxes.

    Outside |a|, |b| <= 1: φ >= p(1−p)/2. Inside, the box of the least bound is halved until that is ``target``.
    """
    unit = (Fraction(-1), Fraction(1))

    def bound(x: Any, y: Any) -> Fraction:
        sums = least(1 + x[0] + y[0], 1 + x[1] + y[1])
        return 2 * p**2 * sums + p * (1 - p) * (least(*x) + least(*y))

    heap = [(bound(unit, unit), unit, unit)]
    while heap[0][0] < target and len(heap) < most:
        _, x, y = heap[0]
        if x[1] - x[0] >= y[1] - y[0]:
            middle = (x[0] + x[1]) / 2
            halves = [((x[0], middle), y), ((middle, x[1]), y)]
        else:
            middle = (y[0] + y[1]) / 2
            halves = [(x, (y[0], middle)), (x, (middle, y[1]))]
        first, second = [(bound(*half), *half) for half in halves]
        heapq.heapreplace(heap, first)
        heapq.heappush(heap, second)
    return min(heap[0][0], p * (1 - p) / 2), len(heap)


def by_hand(p: Fraction) -> Fraction:
    """2p²(1−p)/(1+5p)."""
    return 2 * p**2 * (1 - p) / (1 + 5 * p)


def bounded(stated: Callable[[Fraction], Fraction] = by_hand) -> Callable[[dict[str, Any]], Measurement]:
    """The stated floor against φ at a point of a grid."""

    def measure(case: dict[str, Any]) -> Measurement:
        a, b = (Fraction(x, 64) for x in case["offset"])
        p = Fraction(*case["p"])
        return Measurement(observed=stated(p), bound=bounded_phi(p, a, b))

    return measure


def certified(target: Fraction) -> Callable[[dict[str, Any]], Measurement]:
    """The target against a lower bound that boxes give."""

    def measure(case: dict[str, Any]) -> Measurement:
        bound, count = boxes(Fraction(*case["p"]), target, 2000)
        return Measurement(observed=target, bound=bound, detail={"boxes": count})

    return measure


CLAIMS = (
    Claim(
        id="dropout-bilevel/theorem-2@lipschitz",
        title="Masked hypergradients stay away from zero: an upper level of bounded gradient",
        source=SOURCE + ", derived here",
        statement=r"$$F = \sqrt{1+(\lambda_1+\lambda_2-1)^2},\ p \ge \tfrac13: \quad E\|\nabla F_M(\lambda)\|^2 \ge "
        r"\frac{2p^2(1-p)}{1+5p} \text{ for every } \lambda$$",
        hypotheses=(
            Hypothesis(
                "p at least one third", r"p \ge \tfrac13", lambda c: (3 * c["p"][0] >= c["p"][1], c["p"])
            ),
        ),
        strategy=st.fixed_dictionaries(
            {
                "p": st.integers(7, 19).map(lambda k: [k, 20]),
                "offset": st.lists(st.integers(-128, 64), min_size=2, max_size=2),
            }
        ),
        explicit=({"p": [4, 5], "offset": [-31, -31]}, {"p": [1, 2], "offset": [-26, -26]}),
        build=dict,
        measure=bounded(),
        grade="proved",
        controls=(
            Control("p = 1/10", params={"p": [1, 10], "offset": [0, 0]}),
            Control(
                "the quadratic's floor",
                kind="formula",
                measure=bounded(floor),
            ),
            Control("1+p for 1+5p", kind="formula", measure=bounded(lambda p: 2 * p**2 * (1 - p) / (1 + p))),
        ),
        budget=Budget(quick=300, full=4000),
        notes="$|\\partial_iF| < 1$, so that assumption 2 (iii) is met; 32/625 for p = 4/5, where the minimum is "
        "0.06197 (see @certified).",
    ),
    Claim(
        id="dropout-bilevel/theorem-2@certified",
        title="The bounded case at p = 4/5, certified over the whole plane",
        source=SOURCE + ", derived here",
        statement=r"$$F = \sqrt{1+(\lambda_1+\lambda_2-1)^2},\ p = \tfrac45: \quad E\|\nabla F_M(\lambda)\|^2 \ge "
        r"\tfrac{3}{50} \text{ for every } \lambda$$",
        explicit=({"p": [4, 5]},),
        build=dict,
        measure=certified(Fraction(3, 50)),
        grade="certified",
        complete="boxes cover the square |λ_i − 1| <= 1, on each a rational lower bound holds by monotony, and "
        "outside the square φ >= p(1−p)/2 = 2/25",
        controls=(Control("1/16", kind="formula", measure=certified(Fraction(1, 16))),),
        budget=Budget(quick=0, full=0),
        notes="Rational arithmetic throughout. The minimum is 0.0619666, at $\\lambda_1 = \\lambda_2 = "
        "0.51988$, so 1/16 is not shown by any number of boxes.",
    ),
)
