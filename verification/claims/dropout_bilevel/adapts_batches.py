r"""What dropout does to other pieces of other methods: batches, PROD's L, and inverted Hessians.

A minibatch under one mask has the variance V_m + V_s/b, by total variance. PROD's factors I − H_m/L keep vectors short
only where L is that of the masked samples. A masked Hessian is singular.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.approximate.inverse import ProductNeumann
from refimpl.arrays.backend import Array
from refimpl.draws import Draws
from refimpl.problem import BilevelProblem
from refimpl.spaces import Bernoulli, covariance, expect
from refimpl.zoo import quadratic
from verification.claims._algorithms import MAKE, MU, RATIONAL, noisy
from verification.claims._means import Iteration, Levels
from verification.claims.dropout_bilevel._masks import PARTS
from verification.claims.dropout_bilevel.adapts import MASKS, SOURCE
from verification.claims.dropout_bilevel.adapts_estimators import space_count
from verification.model import Budget, Claim, Control, Measurement, identity

# -- batches --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batches:
    """The gradient ∇_wG of a dropout problem with two data, drawn in a batch under one mask."""

    problem: BilevelProblem
    size: int

    def gradient(self, draws: Draws) -> Callable[[Any], Array]:
        lam, w = RATIONAL.zeros((self.problem.n,)) + 1, RATIONAL.zeros((self.problem.d,)) + 1
        return lambda points: draws.at(points).grad_w(lam, w)

    def variance(self, batch: int | None) -> Any:
        """E‖g − Eg‖²; None: of all data, the masks' part."""
        draws = Draws(self.problem.lower, batch)
        return np.trace(covariance(draws.space, self.gradient(draws), RATIONAL))


def batches(p: Mapping[str, Any]) -> Batches:
    """Of the parameters of a problem, with all of w kept with ``keep`` eighths, each for itself."""
    keep = Bernoulli((Fraction(p["keep"], PARTS),) * p["d"])
    return Batches(noisy(p).with_dropout(lower={"w": keep}, upper=None), p["batch"])


def reduced(how: str = "total") -> Callable[[Batches], Measurement]:
    """The variance of a batch: "total", V_m + (V − V_m)/b; "whole", V/b; "data", (V − V_m)/b."""

    def measure(case: Batches) -> Measurement:
        whole, masks, b = case.variance(1), case.variance(None), case.size
        stated = {
            "total": masks + (whole - masks) / b,
            "whole": whole / b,
            "data": (whole - masks) / b,
        }[how]
        return identity([case.variance(b)], [stated], detail={"V": str(whole), "of the masks": str(masks)})

    return measure


# -- which L --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Smooth:
    """G = ½hw², w kept with probability p; PROD_K of r = 1."""

    h: Fraction
    p: Fraction
    terms: int

    def square(self, smooth: Fraction) -> Any:
        """E z², with this L, from every point of PROD's space."""
        plain = BilevelProblem(
            quadratic.objective(ww=[[0.0]], n=1), quadratic.objective(ww=[[float(self.h)]], n=1)
        ).to(RATIONAL)
        problem = plain.with_dropout(lower=Bernoulli((self.p,)), upper=None)
        inverse, draws = ProductNeumann(self.terms, smooth), Draws(problem.lower)
        zero = RATIONAL.zeros((1,))

        def of(points: Any) -> Array:
            z = inverse.apply(draws, points, zero, zero, zero + 1)
            return RATIONAL.broadcast(z * z, (space_count(points), 1))

        return expect(inverse.space(draws), of, RATIONAL)[0]


def smooth(p: Mapping[str, Any]) -> Smooth:
    """Of the parameters."""
    return Smooth(Fraction(p["h"], PARTS), Fraction(p["keep"], PARTS), p["terms"])


def bounded(sampled: bool, factor: int = 1) -> Callable[[Smooth], Measurement]:
    """E z² against (K/L)², L of the mean level, p h, or of the samples, h."""

    def measure(case: Smooth) -> Measurement:
        L = case.h if sampled else case.p * case.h
        return Measurement(observed=case.square(L), bound=Fraction(case.terms, factor) ** 2 / L**2)

    return measure


# -- inverted -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inverted:
    """STABLE's first iteration on G = ½hw² + cλw + gw, F = w + ½λ², w kept with probability p; floats."""

    h: float
    c: float
    p: float

    @cached_property
    def problem(self) -> BilevelProblem:
        lower = quadratic.objective(ww=[[self.h]], lw=[[self.c]], w1=[0.5])
        upper = quadratic.objective(ww=[[0.0]], ll=[[1.0]], w1=[1.0])
        return BilevelProblem(upper, lower).with_dropout(lower=self.p, upper=None)

    @property
    def algorithm(self) -> Any:
        return MAKE["stable"]({"batch": None})

    def direction(self) -> Array:
        """E (λ − λ⁺)/α."""
        a = self.algorithm
        state = a.init(self.problem, [1.0])
        after = Iteration.of(a, self.problem, 0).mean_state(self.problem, state)
        return (state.lam - after["lam"]) / float(a.alpha(0))


def direction(factor: Callable[[Inverted], float]) -> Callable[[Inverted], Measurement]:
    """E of the direction against ∇_λF − factor · C̄H̄⁻¹∇_wF."""

    def measure(case: Inverted) -> Measurement:
        M, lam, w = Levels(case.problem), np.ones(1), np.zeros(1)
        stated = case.problem.upper.grad_lam(lam, w) - factor(case) * (M.C @ M.v(lam, w))
        size = 1 + abs(case.c) / case.h
        eps = float(np.finfo(float).eps)
        # λ − λ⁺ loses the size of λ, which is divided by α; a few operations before
        alpha = float(case.algorithm.alpha(0))
        return identity(case.direction(), stated, rounding=20 * eps * size / alpha)

    return measure


# -- claims ---------------------------------------------------------------------------------------------------------

PAIR = {"n": 1, "d": 1, "seed": 0, "keep": 4, "batch": 2}
CLAIMS = (
    Claim(
        id="dropout-bilevel/adapts@batch",
        title="Minibatches under one mask: a batch of b reduces the noise of the data alone",
        source=SOURCE + "; Algorithm 1, lines 4 and 5",
        statement=r"V_b = V_m + \frac{V_1 - V_m}b,\quad V_b = E\|g_b - E g_b\|^2,\quad g_b = m_w\,\frac1b\sum_{i"
        r"\le b}\nabla_wG(m_\lambda\lambda, m_ww; \xi_i),\quad V_m = V_\infty",
        strategy=st.fixed_dictionaries(
            {
                "n": st.integers(1, 2),
                "d": st.integers(1, 2),
                "seed": st.integers(0, 999),
                "keep": st.integers(1, PARTS - 1),
                "batch": st.integers(2, 4),
            }
        ),
        explicit=(PAIR,),
        build=batches,
        measure=reduced(),
        grade="proved",
        controls=(
            Control("V₁/b", kind="formula", measure=reduced("whole"), params=PAIR),
            Control("without the masks' part", kind="formula", measure=reduced("data"), params=PAIR),
        ),
        budget=Budget(quick=8, full=150),
        notes=MASKS
        + "Total variance: given the mask, the data's mean has variance 1/b of one's; the mask is one for the batch, "
        "as lines 4 and 5 draw it. So a method with batches O(1/ε) (stocBiO, AmIGO, VRBO), which needs $V_1/b$, keeps "
        "a floor on the dropout problem. BSGM's J draws have masks of their own: there 1/J holds.",
    ),
    Claim(
        id="dropout-bilevel/adapts@smoothness",
        title="PROD on the dropout problem: with an L of the masked samples no estimate is longer than K/L",
        source=SOURCE,
        statement=r"E\|z\|^2 \le (K/L)^2\|r\|^2 \text{ for PROD}_K \text{ where every masked sample has } "
        r"\nabla^2_{ww}G \le LI",
        strategy=st.fixed_dictionaries(
            {"h": st.integers(1, 16), "keep": st.integers(1, PARTS), "terms": st.integers(1, 5)}
        ),
        explicit=({"h": 8, "keep": 3, "terms": 2},),
        build=smooth,
        measure=bounded(sampled=True),
        grade="proved",
        controls=(
            Control(
                "an L of the mean level",
                kind="formula",
                measure=bounded(sampled=False),
                params={"h": 8, "keep": 3, "terms": 2},
            ),
            Control(
                "K/2L",
                kind="formula",
                measure=bounded(sampled=True, factor=2),
                params={"h": 8, "keep": 3, "terms": 1},
            ),
        ),
        budget=Budget(quick=8, full=100),
        notes=MASKS
        + "$0 \\le I - H_m/L \\le I$: no factor lengthens r. G = ½hw²: $\\bar H = ph$, and a kept sample has h. With "
        "L = ph the factors' second moment is $(1-p)/p$, above 1 for $p < \\tfrac12$: $E z^2$ then grows like its K-th "
        "power, though the mean is exact. $E[H_m^2] < 2L\\,E[H_m]$ would be enough for a "
        "variance that is bounded for every K; an L of the samples always is.",
    ),
    Claim(
        id="dropout-bilevel/adapts@inverted",
        title="STABLE on the dropout problem: what inverting masked Hessians makes of its first direction",
        source=SOURCE,
        statement=r"E\,d = \nabla_\lambda F - p\,\bar C\bar H^{-1}\nabla_wF,\quad n = d = 1,\; w \text{ kept with "
        r"probability } p",
        strategy=st.fixed_dictionaries(
            {"h": st.floats(1, 4), "c": st.floats(0.25, 2), "p": st.floats(0.25, 0.875)}
        ),
        explicit=({"h": 1.0, "c": -1.0, "p": 0.5},),
        build=lambda p: Inverted(p["h"], p["c"], p["p"]),
        measure=direction(lambda case: case.p),
        grade="exact",
        controls=(Control("unbiased", kind="formula", measure=direction(lambda case: 1.0)),),
        budget=Budget(quick=10, full=200),
        notes="A dropped w leaves $H_m = 0$ and $C_m = 0$: with the projection onto $H \\ge \\mu I$ one can solve, "
        f"for 0, whatever μ is (here {MU}). A kept one has C/H: in the mean p C/H, where the dropout problem has "
        "$\\bar C/\\bar H = C/H$. With small τ the estimates average the masks; what the projection adds stays.",
    ),
)
