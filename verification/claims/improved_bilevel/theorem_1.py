r"""Theorem 1: (i) min f_K → min f, (ii) limit points of minimisers of f_K minimise f. Both under convexity alone.

The printed proof goes through uniform convergence, which fails under convexity alone. It is not needed: at a minimiser
λ̄ of f (f is lower semicontinuous) f_K(λ̄) → f(λ̄), so limsup min f_K <= min f; and G(λ, w_K) − min G <= η_K at every
λ, with one η_K → 0, gives f_K(λ) >= φ(λ, η_K) = min of F(λ, ·) where G(λ, ·) − min G <= η_K. φ(·, η) is at least min f
− o(1) as η → 0 by compactness, and a λ with φ(λ, η_K) <= min f + o(1) is near a minimiser of f: for minimisers λ_K of
f_K that is (ii).

On ``Fading`` both ends are explicit: η_K from lemma-2@value-descent, φ in closed form, f_K(λ̄) − f(λ̄) <= ceiling_K.
Under growth −‖g‖X_K <= f_K − f <= ‖g‖D_K + ½L_FD_K² =: U_K at each λ, X and D those of ``theorem_1_uniform``. So
min(f − ‖g‖X_K) <= min f_K <= f_K(λ̄) <= min f + U_K(λ̄), and f(λ_K) <= f_K(λ_K) + sup‖g‖X_K <= min f + U_K(λ̄) +
sup‖g‖X_K: what is of order K^{−½} is wanted at λ̄ alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from verification.claims.improved_bilevel._families import GAMMA, GROWTH, SCHEDULE, TOUCHES, Fading, Turning
from verification.claims.improved_bilevel._instances import worst
from verification.claims.improved_bilevel.theorem_1_uniform import NOTED, WEAK, turning, turnings
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, reals

# -- under convexity alone ----------------------------------------------------------------------------------------


def minimum(below: float = 1.0, above: float = 1.0) -> Callable[[Fading], Measurement]:
    """|min f_K − min f| over the grid, against min f − min φ if f_K's is the lower, else against the ceiling."""

    def measure(case: Fading) -> Measurement:
        gap, least = float(case.reached.min() - case.f.min()), float(case.f.min())
        lowest = below * (least - float(case.floor.min()))
        bound = lowest if gap < 0 else above * case.ceiling
        ends = {"η_K": case.gap, "below": lowest, "above": case.ceiling, "argmin f": case.best}
        return Measurement(observed=abs(gap), bound=bound, rounding=case.rounding, detail=ends)

    return measure


def minimiser(share: float = 1.0) -> Callable[[Fading], Measurement]:
    """Distance of argmin f_K from argmin f, against that of the λ with φ <= min f + ceiling; all on the grid."""

    def measure(case: Fading) -> Measurement:
        best = case.lams[case.f <= case.f.min() + case.rounding]
        away = np.abs(case.lams[:, None] - best).min(axis=1)
        near = case.floor <= case.f.min() + case.ceiling + case.rounding
        found = case.lams[int(np.argmin(case.reached))]
        return Measurement(
            observed=float(np.abs(found - best).min()),
            bound=share * float(away[near].max()),
            rounding=case.rounding,
            detail={"argmin f_K": float(found), "argmin f": best.tolist()},
        )

    return measure


def curve(case: Fading) -> dict[str, Any]:
    """min f − min f_K or the reverse, for K doubled, and what both ends allow."""
    Ks = [K for K in 2 ** np.arange(3, 13) if K > case.c + 1]
    cases = [Fading({**case.params, "K": int(K)}) for K in Ks]
    found = [max(abs(float(c.reached.min() - c.f.min())), 1e-16) for c in cases]
    allowed = [max(float(c.f.min() - c.floor.min()), c.ceiling, 1e-16) for c in cases]
    labels = {"xlabel": "K", "ylabel": "|min f_K − min f|", "logx": True, "logy": True}
    return {"x": Ks, "predicted": allowed, "measured": found, **labels}


def _short(case: Fading) -> tuple[bool, float]:
    return 0 < case.params["share"] <= 1, case.params["share"]


def _lower(case: Fading) -> tuple[bool, float]:
    return 0 < case.s <= 1, case.s


SHORT = Hypothesis("step on F", r"0 < t \le 1/L_F", _short)
LOWER = Hypothesis("step on G", r"0 < s \le 1/L_G", _lower)


def fadings(K: Any) -> Any:
    """Strategy of parameters."""
    return st.fixed_dictionaries(
        {
            "q": st.sampled_from([1.0, 2.0, 0.5]),
            "a": reals(0.5, 3),
            "mu": reals(0.5, 20),
            "c": reals(0.1, 1),
            "w0": reals(-3, 3),
            "s": st.sampled_from([1.0, 0.5]),
            "share": st.sampled_from([1.0, 0.75, 0.5]),
            "gamma": reals(0.1, 1),
            "K": K,
        }
    )


def fading(**more: Any) -> dict[str, Any]:
    """F = ½(w − 1)² + 4(λ − 1)², w_0 = 0, γ = 1, t = ¾: min f = ½ at λ = 1, beside f(0) = 4; ``more`` changes it."""
    return {
        "q": 1.0,
        "a": 1.0,
        "mu": 8.0,
        "c": 1.0,
        "w0": 0.0,
        "s": 1.0,
        "share": 0.75,
        "gamma": 1.0,
        "K": 512,
        **more,
    }


# -- with growth ----------------------------------------------------------------------------------------------------


def minima(below: float = 1.0, above: float = 1.0) -> Callable[[Turning], Measurement]:
    """|min f_K − min f| against what is allowed on its side, every K."""

    def measure(case: Turning) -> Measurement:
        f = case.F(case.solutions)
        gaps = (f + case.errors).min(axis=1) - f.min()
        lowest = below * (f.min() - (f - case.below).min(axis=1))
        highest = above * case.above[:, int(np.argmin(f))]
        rounding = (case.slope + case.smoothness * case.C) * case.rounding
        return worst(np.abs(gaps), np.where(gaps < 0, lowest, highest), rounding)

    return measure


def minimisers(below: float = 1.0, above: float = 1.0) -> Callable[[Turning], Measurement]:
    """f at the minimiser of f_K over min f, every K."""

    def measure(case: Turning) -> Measurement:
        f = case.F(case.solutions)
        chosen = np.argmin(f + case.errors, axis=1)
        allowed = below * case.below.max(axis=1) + above * case.above[:, int(np.argmin(f))]
        rounding = (case.slope + case.smoothness * case.C) * case.rounding
        return worst(f[chosen] - f.min(), allowed, rounding)

    return measure


AT_0 = fading(c=0.0, mu=1.0, gamma=0.1, share=1.0)  # min f is at λ = 0, and w_K(λ) tends to 0 beside it
BESIDE = fading(c=0.1, mu=200.0, w0=-0.1, gamma=0.0005, share=1.0, K=8)  # w_K has yet to cross 0
TIED = fading(
    c=1.0, mu=0.8, K=1024, frozen=True
)  # f(0) = 0.4 against f(1) = 0.5; a constant weight prefers 1
SHALLOW = fading(mu=1.2, K=64)
# f(0) is below f(c) by less than f_K(c) is below f(c)
CLOSE = fading(c=0.5, mu=4 * (1 - 0.9 / 1024), K=1024)
END = fading(c=1.0, mu=1 - 0.9 / 1024, K=1024)
UNEVEN = turning(
    h=0.5, omega=0.85, c=[-0.9, 0.66], a=[1.46, -1.74, 0.0], q=[2.0, 2.0, 1.0], tilt=1, gamma=0.88, K=60
)
# f = ⅛(1 − κ)λ², f_K = ⅛((1 − 2/K)² − κ)λ² for κ = −8ι: for κ a little above (1 − 2/K)² f_K prefers 1
TIE = turning(
    omega=0.0, c=[0.0, 0.5], a=[0.0, 0.0, 0.0], K=1250, lift=-0.125 * (1 - 2 / 1250) ** 2 * (1 + 1e-9)
)
ALONG = turning(
    omega=0.0, c=[0.0, 0.0], a=[0.0, 1.0, 0.0], share=0.5, K=20
)  # g = 0, and w_0 is off w_λ along S
# g = 0 at both ends; at λ = 0 w_K comes along S, slowly, so that f_K prefers the end that f does not
SLOW = turning(omega=0.5, c=[0.0, math.sin(0.5)], a=[0.0, 1.0, 0.0], share=0.1, gamma=0.52, K=60, lift=7.9e-5)
ON_FADING: dict[str, Any] = {
    "build": Fading,
    "grade": "exact",
    "budget": Budget(quick=16, full=1400),
}
ON_TURNING: dict[str, Any] = {
    "hypotheses": (TOUCHES, SCHEDULE, GAMMA, GROWTH),
    "strategy": turnings(),
    "explicit": (turning(), turning(stairs=True), WEAK, UNEVEN),
    "build": Turning,
    "grade": "exact",
    "budget": Budget(quick=20, full=1500),
}
NOTE_FADING = (
    " Instances: $G = \\frac12\\lambda w^2$, $F = \\frac q2(w-a)^2+\\frac\\mu2(\\lambda-c)^2$ on Λ = [0, 1], where "
    "f drops at "
    "0 and $f_K$ does not converge uniformly; the minimum is at 0 or at c. η_K is lemma-2@value-descent's."
)
CLAIMS = (
    Claim(
        id="improved-bilevel/theorem-1-i@a",
        title="Minima of f_K tend to the minimum of f, under convexity alone",
        source="improved-bilevel, Theorem 1 (i); (iv) read as convexity alone",
        statement=r"\min f_K \to \min f: \quad \min_\lambda\varphi(\lambda, \eta_K) \le \min f_K \le \min f + "
        r"\left(f_K(\bar\lambda)-f(\bar\lambda)\right), \quad \varphi(\lambda, \eta) = \min\{F(\lambda, w): "
        r"G(\lambda, w)-\min G \le \eta\}",
        hypotheses=(TOUCHES, SCHEDULE, SHORT, LOWER),
        strategy=fadings(st.sampled_from([64, 256, 512])),
        explicit=(fading(), AT_0, BESIDE, fading(K=64, gamma=0.4)),
        measure=minimum(),
        controls=(
            Control("a constant weight", params=fading(frozen=True, K=1024)),
            Control("a twentieth below", kind="formula", measure=minimum(below=0.05), params=fading()),
            Control("99 % above, at λ = 0", kind="formula", measure=minimum(above=0.99), params=AT_0),
            Control(
                "four fifths above, beside it", kind="formula", measure=minimum(above=0.8), params=BESIDE
            ),
        ),
        equality=Equality(params=AT_0, reaches=0.999),
        curve=curve,
        notes="Both ends tend to min f; the printed proof's uniform convergence is neither true nor needed. $f_K(\\bar"
        "\\lambda)-f(\\bar\\lambda)$ has a closed bound at the one λ̄, by Lemma 2." + NOTE_FADING,
        **ON_FADING,
    ),
    Claim(
        id="improved-bilevel/theorem-1-ii@a",
        title="Limit points of minimisers of f_K minimise f, under convexity alone",
        source="improved-bilevel, Theorem 1 (ii); (iv) read as convexity alone",
        statement=r"\operatorname{dist}(\operatorname{argmin}f_K, \operatorname{argmin}f) \le "
        r"\sup\left\{\operatorname{dist}(\lambda, \operatorname{argmin}f): \varphi(\lambda, \eta_K) \le \min f + "
        r"f_K(\bar\lambda)-f(\bar\lambda)\right\} \to 0",
        hypotheses=(TOUCHES, SCHEDULE, SHORT, LOWER),
        strategy=fadings(st.sampled_from([64, 256, 512])),
        explicit=(fading(), SHALLOW, AT_0, BESIDE, CLOSE),
        measure=minimiser(),
        controls=(
            Control("a constant weight", params=TIED),
            Control("seven tenths", kind="formula", measure=minimiser(0.7), params=CLOSE),
        ),
        equality=Equality(params=END, reaches=0.999),
        notes="A minimiser $\\lambda_K$ of $f_K$ has $\\varphi(\\lambda_K, \\eta_K) \\le f_K(\\lambda_K) \\le "
        "f_K(\\bar\\lambda)$. The set on the right shrinks to argmin f by compactness; for small K it may be all of Λ. "
        "Where f(0) is a little below f(c), $f_K$ prefers c: for c = 1 no point is farther." + NOTE_FADING,
        **ON_FADING,
    ),
    Claim(
        id="improved-bilevel/theorem-1-i@b",
        title="With one growth constant the minima of f_K tend to the minimum of f at a rate",
        source="improved-bilevel, Theorem 1 (i); (iv) read as uniform quadratic growth",
        statement=r"\min_\lambda\left(f - \|g\|X_K\right) \le \min f_K \le \min f + \left(\|g\|D_K + "
        r"\tfrac{L_F}2D_K^2\right)(\bar\lambda), \quad \bar\lambda \in \operatorname{argmin} f",
        measure=minima(),
        controls=(
            Control("a constant weight", params=turning(frozen=True, K=1000)),
            Control("nine tenths below", kind="formula", measure=minima(below=0.9), params=turning()),
            Control("nine tenths above", kind="formula", measure=minima(above=0.9), params=ALONG),
            Control("σ stated a hundred times too large", params=turning(s=0.05, stated=100.0)),
        ),
        equality=Equality(params=turning(K=1200), reaches=0.999),
        notes="$X_K$ and $D_K$ are those of theorem-1-uniform@b-lower: $X_K = O(1/K)$, $D_K = O(K^{-1/2})$, "
        "uniformly; "
        "$\\|g\\|$ at each λ. Above, the closed rate is theorem-1-uniform@b's; both ends are attained."
        + NOTED,
        **ON_TURNING,
    ),
    Claim(
        id="improved-bilevel/theorem-1-ii@b",
        title="With one growth constant minimisers of f_K nearly minimise f: a rate",
        source="improved-bilevel, Theorem 1 (ii); (iv) read as uniform quadratic growth",
        statement=r"f(\lambda_K) - \min f \le \sup_\Lambda\|g\|X_K + "
        r"\left(\|g\|D_K+\tfrac{L_F}2D_K^2\right)(\bar\lambda) "
        r"\text{ for every minimiser } \lambda_K \text{ of } f_K,\ \bar\lambda \in \operatorname{argmin} f",
        measure=minimisers(),
        controls=(
            Control("a constant weight", params={**TIE, "lift": -0.1, "frozen": True}),
            Control("nine tenths below", kind="formula", measure=minimisers(below=0.9), params=TIE),
            Control("nothing above", kind="formula", measure=minimisers(above=0.0), params=SLOW),
        ),
        equality=Equality(params=TIE, reaches=0.998),
        notes="So every limit point of the $\\lambda_K$ minimises f, which is continuous here. $X_K$ and $D_K$ "
        "are those of "
        "theorem-1-uniform@b-lower. Equality, as K grows: $f = \\frac18(1-\\kappa)\\lambda^2$ is all but "
        "constant and $g = 0$ "
        "at its minimiser, while $f_K = \\frac18((1-\\frac2K)^2-\\kappa)\\lambda^2$ prefers λ = 1." + NOTED,
        **ON_TURNING,
    ),
)
