"""The radius of theorem 1's ball; formulas and proofs in ``_adjoint``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from verification.claims.dropout_bilevel._adjoint import FEW, LINE, Adjoint, adjoint, lists
from verification.claims.dropout_bilevel._bounds import CONVEX, GROUPS, waves
from verification.claims.dropout_bilevel._masks import rationals
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement


def longest(radius: Callable[[Adjoint], Any]) -> Callable[[Adjoint], Measurement]:
    """max_m ‖v_m‖² against the square of a radius."""

    def measure(a: Adjoint) -> Measurement:
        return Measurement(observed=max((a.adjoints**2).sum(axis=-1)), bound=radius(a))

    return measure


def mean(radius: Callable[[Adjoint], Any]) -> Callable[[Adjoint], Measurement]:
    """‖E v_m‖² against the square of a radius."""

    def measure(a: Adjoint) -> Measurement:
        return Measurement(observed=(a.g.mean(a.adjoints) ** 2).sum(), bound=radius(a))

    return measure


def printed_radius(a: Adjoint) -> Any:
    """(L₂₂/μ)²."""
    return (a.curvature / a.g.mu) ** 2


def least(a: Adjoint) -> Any:
    """The smallest keep probability of w."""
    return min(a.g.p[a.g.n :])


def of_each(a: Adjoint) -> Any:
    """(C_F/(p_min μ))²."""
    return a.C_F / (least(a) * a.g.mu) ** 2


def some_kept(a: Adjoint) -> Any:
    """P(m_w ≠ 0)."""
    return 1 - math.prod((1 - p for p in rationals(a.g.law.keep_w)), start=rationals(1).item())


def of_mean(a: Adjoint) -> Any:
    """C_F² P(m_w ≠ 0)/(p_min μ²)."""
    return a.C_F * some_kept(a) / (least(a) * a.g.mu**2)


STEEP = Hypothesis(
    "bounded gradient", r"\|\nabla_wF\| \le C_F", lambda a: (a.steepest <= a.C_F, math.sqrt(a.C_F))
)
CURVED = Hypothesis("strongly convex", CONVEX.tex, lambda a: CONVEX.predicate(a.g))
WIDE = {"n": 0, "d": 2, "keep_w": [4, 6], "f": [1, -1], "b": 2, "z": [1, 1], "W": [1, 2], "root": [1, 1]}
RADIUS: dict[str, Any] = {
    "source": "dropout-bilevel, theorem 1",
    "build": adjoint,
    "hypotheses": (CURVED, STEEP),
    "strategy": waves((0, 1), **GROUPS, **lists(f=3, z=6), b=FEW),
    "grade": "proved",
    "budget": Budget(quick=60, full=1000),
}
BREAKERS = (
    Control("C_F stated too small", params={**LINE, "steeper": 4}),
    Control("μ stated too large", params={**LINE, "overstated": 2}),
)

CLAIMS = (
    Claim(
        id="dropout-bilevel/theorem-1-radius",
        title="As printed: the Lipschitz modulus of ∇F over that of convexity bounds the adjoint",
        statement=r"\|v_{m,\lambda}\| \le C_v = \frac{L^F_{22}}{\mu},\qquad v_{m,\lambda} = (\nabla^2_{ww}\bar "
        r"G)^{-1}\,m_w\nabla_wF(m_\lambda\lambda, m_ww(\lambda))",
        printed=r"r \ge C_v := \frac{L^F_{22}}{\mu}",
        explicit=(LINE, {**LINE, "keep_w": [4]}, WIDE),
        measure=longest(printed_radius),
        corrected=Correction(
            tex=r"$\|v_{m,\lambda}\| \le C_F/(p_{\min}\mu)$, where $\|\nabla_wF\| \le C_F$",
            measure=longest(of_each),
            proof="$\\nabla^2_{ww}\\bar G \\succeq \\mu\\operatorname{diag}(p_w)$, and masking shortens "
            "$\\nabla_wF$.",
        ),
        notes="A modulus of $\\nabla_wF$ where a bound of $\\nabla_wF$ is meant: for F linear in w, $L^F_{22} = 0$, "
        "the ball of radius $C_v$ is a point and Algorithm 1 keeps $v = 0$. The factor $1/p_{\\min}$ is missing too.",
        **RADIUS,
    ),
    Claim(
        id="dropout-bilevel/theorem-1-radius@corrected",
        title="A ball that contains every masked adjoint",
        statement=r"\|v_{m,\lambda}\| \le \frac{C_F}{p_{\min}\mu} \text{ for every mask, where } \|\nabla_wF\| \le "
        r"C_F",
        explicit=(LINE, {**LINE, "keep_w": [4]}, WIDE),
        measure=longest(of_each),
        controls=(
            *BREAKERS,
            Control("p_min forgotten", kind="formula", measure=longest(lambda a: a.C_F / a.g.mu**2)),
            Control("√p_min for p_min", kind="formula", measure=longest(lambda a: least(a) * of_each(a))),
        ),
        equality=Equality(params={**LINE, "keep_w": [3]}, reaches=1.0),
        notes="Equality: $G = \\frac{\\mu}{2}w^2$, $F = C_Fw$, $m = 1$. The radius that does Algorithm 1's "
        "projection no harm if $v_m$ itself is the target.",
        **RADIUS,
    ),
    Claim(
        id="dropout-bilevel/theorem-1-radius@mean",
        title="A smaller ball that contains the mean adjoint",
        statement=r"$$\|E_mv_{m,\lambda}\|^2 \le \frac{C_F^2}{p_{\min}\,\mu^2}\Big(1 - \prod_g(1-p_g)\Big)$$ the "
        r"product over the mask "
        "variables of w, upper and lower masks of one law",
        explicit=(LINE, {**LINE, "keep_w": [4]}, WIDE),
        measure=mean(of_mean),
        controls=(
            *BREAKERS,
            Control("p_min forgotten", kind="formula", measure=mean(lambda a: least(a) * of_mean(a))),
            Control("squared chance", kind="formula", measure=mean(lambda a: some_kept(a) * of_mean(a))),
        ),
        equality=Equality(params={**LINE, "keep_w": [3]}, reaches=1.0),
        notes="What the iteration tracks is $\\bar v = E_mv_m$, so this radius is enough. Equality for every p: $G = "
        "\\frac{\\mu}{2}w^2$, $F = C_Fw$, where $\\bar v = C_F/\\mu$ does not depend on p.",
        **RADIUS,
    ),
)
