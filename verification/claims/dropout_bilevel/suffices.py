"""Section 4: is a small mean square of masked hypergradients sufficient, and can it be had? And what ε measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from refimpl.zoo import quadratic
from verification.claims.dropout_bilevel._masks import (
    RATIONAL,
    Law,
    Model,
    at,
    central_differences,
    model,
    models,
    rationals,
)
from verification.claims.dropout_bilevel.hypergradient import each_mask, hyperobjective
from verification.model import Budget, Claim, Control, Correction, Equality, Measurement, identity

# -- sufficient ------------------------------------------------------------------------------------------------


def jensen(share: Fraction = Fraction(1), squared: bool = True) -> Callable[[Model], Measurement]:
    """‖∇F̄‖² <= share · E‖∇F_M‖², both from values alone."""

    def measure(case: Model) -> Measurement:
        chances, _, _ = case.law.literal
        each, whole = each_mask(case), hyperobjective(case)
        spread = (each * each).sum(axis=-1) if squared else abs(each).max(axis=-1)
        return Measurement(
            observed=(whole * whole).sum(), bound=RATIONAL.scalar(share) * (chances * spread).sum()
        )

    return measure


# -- attainable ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Residual:
    """F = ½(Σ_i λ_i − 1)², no lower level to speak of, every λ_i kept with probability p."""

    p: Fraction
    count: int

    @property
    def law(self) -> Law:
        n = self.count
        return Law((self.p,) * n, (Fraction(1),), tuple(range(n)), (0,))

    def mean_square(self, lam: Array) -> Any:
        """E‖m∇F(mλ)‖², a literal sum."""
        ones = np.ones((self.count, self.count))
        F = quadratic.objective(ww=[[0.0]], ll=ones, l1=-ones[0]).to("rational")
        g = self.law.mean(lambda m, w: (m * F.grad_lam(m * lam, 0 * w)) ** 2)
        return g.sum()

    def smallest(self) -> tuple[Any, Array]:
        """min over λ of the mean square and its place: a quadratic function, whose gradient and Hessian are
        central differences and whose stationarity is one linear system."""
        zero = RATIONAL.zeros((self.count,))

        def gradient(lam: Array) -> Array:
            return central_differences(self.mean_square, lam)

        H = central_differences(gradient, zero)
        lam = -factor(RATIONAL, H).solve(gradient(zero))
        return self.mean_square(lam), lam

    def of_mean(self, lam: Array) -> Array:
        """∇F̄."""
        zero = RATIONAL.zeros((1,))
        ones = np.ones((self.count, self.count))
        F = quadratic.objective(ww=[[0.0]], ll=ones, l1=-ones[0]).to("rational")
        return F.with_dropout(self.law.level).grad_lam(lam, zero)


def residual(params: Mapping[str, Any]) -> Residual:
    """``p``: in tenths."""
    return Residual(Fraction(params["p"], 10), params["n"])


def vanishing(case: Residual) -> Measurement:
    """inf_λ E‖∇F_M(λ)‖² = 0; the minimum is attained, so nothing smaller can be."""
    least, lam = case.smallest()
    return Measurement(observed=least, bound=0, detail={"least": str(least), "at": [str(x) for x in lam]})


def least_value(n: int, p: Fraction) -> Fraction:
    """n p² (1 − p) (…): with λ_i = x, E = n p [((n−1)p(1−p))x² + ((1+(n−1)p)x − 1)²]; minimised over x."""
    a, b = (n - 1) * p * (1 - p), 1 + (n - 1) * p
    return n * p * a / (a + b * b)


def formula_and_zero(formula: Callable[[int, Fraction], Fraction]) -> Callable[[Residual], Measurement]:
    """The minimum by formula; and at λ_i = 1/(1 + (n−1)p) the dropout problem is stationary all the same."""

    def measure(case: Residual) -> Measurement:
        n, p = case.count, case.p
        least, _ = case.smallest()
        stationary = rationals([Fraction(1) / (1 + (n - 1) * p)] * n)
        found = np.concatenate([rationals([least]), case.of_mean(stationary)])
        return identity(found, rationals([formula(n, p)] + [0] * n))

    return measure


# -- the norm --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stationary:
    """A gradient and the smallest ε that section 4 accepts for it, ‖∇F̄‖² = ε."""

    gradient: Array


def stationary(params: Mapping[str, Any]) -> Stationary:
    """``gradient``: numerators over ``below``: of F = ½Σ(λ_i + g_i)² at λ = 0."""
    g = [Fraction(k, params["below"]) for k in params["gradient"]]
    n = len(g)
    F = quadratic.objective(ww=[[0.0]], ll=np.eye(n), l1=[float(x) for x in g]).to("rational")
    return Stationary(F.grad_lam(RATIONAL.zeros((n,)), RATIONAL.zeros((1,))))


def within(power: int) -> Callable[[Stationary], Measurement]:
    """‖∇f‖² <= ε^power for ε = ‖∇F̄‖²: section 2 (‖∇f‖ <= ε) is power 2."""

    def measure(case: Stationary) -> Measurement:
        square = (case.gradient**2).sum()
        return Measurement(observed=square, bound=square**power)

    return measure


CLAIMS = (
    Claim(
        id="dropout-bilevel/suffices",
        title="A small mean square of the masked hypergradients suffices for stationarity",
        source="dropout-bilevel, section 4, before theorem 2",
        statement=r"E\|\nabla F_M(\lambda)\|^2 \le \epsilon \;\Rightarrow\; \|\nabla\bar F(\lambda)\|^2 \le "
        r"\epsilon: \quad \|\nabla\bar F\|^2 \le E\|\nabla F_M\|^2",
        strategy=models(),
        explicit=(at(1, 1), at(1, 1, 1), at(1, 2), at(2, 2)),
        build=model,
        measure=jensen(),
        grade="proved",
        equality=Equality(params=at(1, 1, keep_lam=[8], keep_w=[8]), reaches=1.0),
        controls=(
            Control("half of it", kind="formula", measure=jensen(Fraction(1, 2))),
            Control("largest entries for squares", kind="formula", measure=jensen(squared=False)),
        ),
        budget=Budget(quick=60, full=1000),
        notes="Jensen's inequality and (11); the gap is the total variance of $\\nabla F_M$ over the upper "
        "masks. Sufficient, therefore; whether it can be had is @attainable.",
    ),
    Claim(
        id="dropout-bilevel/suffices@attainable",
        title="As the text implies: some λ makes the mean square of the masked hypergradients as small as "
        "one likes",
        source="dropout-bilevel, section 4 and theorem 2",
        statement=r"\inf_\lambda E\|\nabla F_M(\lambda)\|^2 = 0",
        printed=r"\text{it suffices to find } \lambda \text{ that satisfies } E\|\nabla F_M(\lambda)\|^2 "
        r"\le \epsilon",
        strategy=st.fixed_dictionaries({"p": st.integers(1, 9), "n": st.integers(1, 3)}),
        explicit=({"p": 5, "n": 1}, {"p": 5, "n": 2}),
        build=residual,
        measure=vanishing,
        grade="proved",
        corrected=Correction(
            tex=r"\min_\lambda E\|\nabla F_M\|^2 = \frac{npa}{a + b^2},\ a = (n-1)p(1-p),\ b = 1 + (n-1)p, "
            r"\text{ while } \nabla\bar F = 0 \text{ at } \lambda_i = \tfrac1b",
            measure=formula_and_zero(least_value),
            proof="$\\nabla F_M = m(m^\\top\\lambda - 1)$. The mean square is a convex quadratic that is "
            "symmetric in the coordinates, so a minimiser has $\\lambda_i = x$; given $m_i = 1$, "
            "$m^\\top\\lambda$ has mean bx and variance $ax^2$: $E\\|\\nabla F_M\\|^2 = np[ax^2 + "
            "(bx-1)^2]$, least at $x = b/(a+b^2)$. For n = 2 it is $\\frac{2p^2(1-p)}{1+3p}$, 32/425 at p = "
            "4/5.",
        ),
        controls=(
            Control(
                "p for 1 − p in the minimum",
                kind="formula",
                measure=formula_and_zero(lambda n, p: least_value(n, 1 - p)),
                params={"p": 8, "n": 2},
            ),
            Control(
                "the minimum is 32/425 whatever p is",
                kind="formula",
                measure=formula_and_zero(lambda n, p: Fraction(32, 425)),
                params={"p": 5, "n": 2},
            ),
        ),
        budget=Budget(quick=30, full=30),
        notes="$F = \\frac12(\\sum\\lambda_i - 1)^2$. The smallest instance has two coordinates, and p = ½ "
        "gives 1/10: the masked gradients of $m = (1,0), (0,1), (1,1)$ have no common zero. A single "
        "coordinate has one. No bound of theorem 2 on the average of $E\\|\\nabla F_M\\|^2$ that tends to 0 "
        "can hold here; $\\|\\nabla\\bar F\\|$ can.",
    ),
    Claim(
        id="dropout-bilevel/suffices@norm",
        title="As printed: ε-stationary means one thing in sections 2 and 4",
        source="dropout-bilevel, section 2 and section 4",
        statement=r"\|\nabla\bar F(\lambda)\|^2 \le \epsilon \;\Rightarrow\; \|\nabla\bar F(\lambda)\| \le "
        r"\epsilon",
        printed=r"\text{“}\epsilon\text{ stationary”: } \|\nabla f(x)\| \le \epsilon \text{ in section 2, } "
        r"\|\nabla\bar F(\lambda)\|^2 \le \epsilon \text{ in section 4}",
        strategy=st.fixed_dictionaries(
            {
                "gradient": st.lists(st.integers(-8, 8), min_size=1, max_size=3),
                "below": st.sampled_from([1, 2, 4, 8]),
            }
        ),
        explicit=({"gradient": [1], "below": 1}, {"gradient": [1], "below": 2}),
        build=stationary,
        measure=within(2),
        grade="proved",
        corrected=Correction(
            tex=r"\|\nabla\bar F(\lambda)\|^2 \le \epsilon \iff \|\nabla\bar F(\lambda)\| \le \sqrt\epsilon",
            measure=within(1),
            proof="Section 4's ε is the square of section 2's: a complexity of $O(\\epsilon^{-2})$ in the "
            "one is $O(\\epsilon^{-4})$ in the other.",
        ),
        budget=Budget(quick=40, full=200),
        notes="A gradient of ½ has ‖·‖² = ¼ ≤ ε = ¼, and ½ > ¼. The two agree at ε = 1 (and 0) only; for ε "
        "> 1 the implication goes the other way.",
    ),
)
