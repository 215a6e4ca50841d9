r"""Theorem 2 asks for a small δ only. Without any noise, p = 1, that is not enough: γ and β must be large enough too.

F here has unbounded gradients, which breaks assumption 2 (i) and (iii), and λ_k runs away; ``theorem_2_cycle`` has
an F of bounded gradients, for which float runs end in a cycle.

G = ½(w−λ)², F = ½aw² + ½cλ², so that ∇F̄(λ) = (a+c)λ. Without noise d = h in every iteration and α = α_k gives

    w⁺ = (1−γα)w + γαλ,   v⁺ = (1−βα)v + βα a w⁺,   λ⁺ = (1−cα)λ − αv̂,   v̂ = v⁺ (@a) or v (@b).

**It may run away for every δ <= 1.** Put a = 1, c = −½, γ = β = ⅛. The cone 0 <= w <= ½λ, 0 <= v <= ¼λ is invariant
for every α in [0, 1], and λ⁺ >= λ in it: w⁺ <= (½ + α/16)λ, v⁺ <= (¼ + 5α/128)λ, λ⁺ >= (1 + α/2)λ − αv̂ >=
(1 + 27α/128)λ, and α/16 <= 27α/256, 5/128 <= 27/512. From λ_0 = 1, w_0 = v_0 = 0 therefore ‖∇F̄(λ_k)‖² >= ¼ for every k,
for every η, and for every radius of line 8, as clipping only lowers v. Here the cone is any 0 <= w <= ωλ, 0 <= v <= νλ;
what has to hold are polynomials in α that are nonnegative on [0, 1]: so they are if their Bernstein coefficients are.

**What decides.** The step is I + α𝒜 + O(α²), and 𝒜 has the characteristic polynomial
s³ + (γ+β+c)s² + (γβ + c(γ+β))s + γβ(a+c): all roots on the left iff (Routh) γ+β+c > 0, a+c > 0 and
(γ+β+c)(γβ+c(γ+β)) > γβ(a+c). Then X ≻ 0 solves 𝒜ᵀX + X𝒜 = −I, and with the exact polynomial
MᵀXM = X − αI + α²R_2 + … and K = Σ_j Σ|R_j| it follows for α <= min(1, 1/(2K)) that
V⁺ <= V − ½α‖z‖² <= (1 − α/(2 tr X)) V: λ_k → 0. For γ = β = t, c = −½, a = 1 it needs t > (3+√5)/4.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.algorithms import FSLA
from refimpl.arrays import factor
from verification.claims.dropout_bilevel._masks import RATIONAL, rationals
from verification.claims.dropout_bilevel._scales import Scales, scales
from verification.model import Budget, Claim, Control, Correction, Hypothesis, Measurement

RUN = 6


def runs_away(case: Scales) -> Measurement:
    """A lower bound of ‖∇F̄(λ_k)‖² that the cone proves for every k, and the run confirms, against 0."""
    if not case.cone_grows:
        return Measurement(observed=0, bound=0)
    a = FSLA(delta=case.delta, gamma=case.gamma, beta=case.beta, eta=Fraction(1), reading=case.reading)
    slope = RATIONAL.scalar(case.a + case.c)
    least = min(1, *case.run(a, RUN)) * slope
    return Measurement(observed=least * least, bound=0)


def energy(case: Scales, *, wrong: str = "", steps: int = 8) -> Measurement:
    """V > 0, and after ``steps`` constant steps of the algorithm's matrix against (1 − α/(2 tr X))^steps V."""
    X, alpha, z = case.X, case.step_size, rationals([1, 0, 0])
    M = sum(P * alpha**k for k, P in enumerate(case.powers))
    first = z @ X @ z
    if first <= 0:  # V is to be positive
        return Measurement(observed=-first, bound=0)
    for _ in range(steps):
        z = M @ z
    size = {
        "1/4 of the trace": np.trace(X) / 4,
        "least": 1 / np.trace(factor(RATIONAL, X).solve(RATIONAL.eye(3))),
    }
    shrink = 1 - alpha / (2 * size.get(wrong, np.trace(X)))
    return Measurement(observed=z @ X @ z, bound=first * shrink**steps)


def decided(case: Scales) -> Measurement:
    """Routh's numbers positive: V decreases. Not all: nothing. A growing cone where they are is a contradiction."""
    if case.routh <= 0:
        return Measurement(observed=0, bound=0)
    return Measurement(observed=1, bound=0) if case.cone_grows else energy(case)


def _stable(case: Scales) -> tuple[bool, Any]:
    return case.routh > 0, str(case.routh)


def strategy(least: int, most: int) -> Any:
    """γ and β between these sixteenths, F̄ strongly convex."""
    rate = st.integers(least, most)
    return st.fixed_dictionaries(
        {
            "gamma": rate,
            "beta": rate,
            "delta": st.sampled_from([16, 8, 4, 1]),
            "a": st.sampled_from([16, 32]),
            "c": st.sampled_from([-8, 0, 16]),
            "reading": st.sampled_from(["new", "old"]),
        }
    )


def at(rate: int, **more: Any) -> dict[str, Any]:
    """Parameters with γ = β = rate/16 and F = ½w² − ¼λ²."""
    return {"gamma": rate, "beta": rate, "delta": 16, "a": 16, "c": -8, "reading": "new", **more}


SOURCE = "dropout-bilevel, Theorem 2"
ROUTH = r"(\gamma+\beta+c)(\gamma\beta+c(\gamma+\beta)) > \gamma\beta(a+c), \quad \gamma+\beta+c > 0, \quad a+c > 0"

CLAIMS = (
    Claim(
        id="dropout-bilevel/theorem-2@time-scales",
        title="A small δ is enough, whatever γ and β are",
        source=SOURCE + ", “there exist small δ”, executed without noise",
        statement=r"p = 1, \ \sigma = 0: \quad \text{for every } \gamma, \beta, \eta > 0 \text{ and every "
        r"small } \delta \quad \|\nabla\bar F(\lambda_k)\| \to 0, \text{ for } F \text{ with Lipschitz gradients "
        r"alone, without assumption 2 (i), (iii)}",
        printed=r"\text{there exist small } \delta \text{ in Algorithm 1 such that } \dots",
        strategy=strategy(1, 16),
        explicit=(at(2), at(2, reading="old"), at(2, delta=1)),
        build=scales,
        measure=runs_away,
        grade="proved",
        corrected=Correction(
            tex=r"$$G = \tfrac12(w-\lambda)^2,\ F = \tfrac12aw^2 + \tfrac12c\lambda^2: \quad \lambda_k \to 0 \text{ "
            r"for every small } \delta \text{ if } " + ROUTH + "$$",
            measure=decided,
            proof="With $G = (w-\\lambda)^2/2$, $F = w^2/2 - \\lambda^2/4$, $\\gamma = \\beta = 1/8$ the "
            "cone $0 \\le w \\le \\lambda/2$, $0 \\le v \\le \\lambda/4$ is invariant for every $\\alpha_k "
            "\\le 1$ and $\\lambda$ grows in it: $\\|\\nabla\\bar F(\\lambda_k)\\|^2 \\ge 1/4$ for every k, "
            "although $\\bar F = \\lambda^2/4$. Where Routh's conditions hold, a Lyapunov function of the "
            "mean system decreases for all $\\alpha \\le 1/(2K)$. In general γ and β have to be large "
            "against the coupling of the levels.",
        ),
        budget=Budget(quick=150, full=2000),
        notes="Invariance is decided by Bernstein coefficients in exact rationals, for all α in [0, 1] at once, and "
        "compared with a run of the algorithm. F grows quadratically: its gradient is Lipschitz, assumption 2 (ii) and "
        "(iv), but not bounded, so assumption 2 (i) and (iii) do not hold, and it is there that $\\lambda_k$ runs "
        "away. With $10\\tanh(s/10)$ for s in the derivatives, which meets both, float runs end in a cycle with "
        "$|\\nabla\\bar F|$ up to 5 instead of converging: @time-scales-cycle. Line 8 only lowers v.",
    ),
    Claim(
        id="dropout-bilevel/theorem-2@time-scales-corrected",
        title="How large γ and β must be in the scalar case, and how small δ",
        source=SOURCE + ", derived here",
        statement=r"$$" + ROUTH + r", \ \alpha \le \min(1, \tfrac1{2K}): \quad 0 < V(z_{k+1}) \le \left(1 "
        r"- \frac{\alpha}{2\operatorname{tr}X}\right)V(z_k)$$ with $V = z^\top Xz$, $\mathcal A^\top X + X\mathcal A = "
        r"-I$, $z = (\lambda, w, v)$",
        hypotheses=(Hypothesis("Routh's numbers are positive", ROUTH, _stable),),
        strategy=strategy(8, 48),
        explicit=(at(24), at(32, reading="old"), at(21)),
        build=scales,
        measure=energy,
        grade="proved",
        controls=(
            Control("γ = β = 1/8", params=at(2)),
            Control(
                "1/tr(X⁻¹) for tr X",
                kind="formula",
                measure=lambda case: energy(case, wrong="least"),
            ),
        ),
        budget=Budget(quick=80, full=1500),
        notes="Where Routh's conditions fail X exists but is not positive definite: $V(z_0) < 0$ in the control. For "
        "$\\gamma = \\beta = t$, a = 1, c = −½ the third condition is $2t^2 - 3t + 1/2 > 0$, that "
        "is $t > (3+\\sqrt5)/4 = 1.309$: 21/16 is enough, 20/16 is not. Everything in rationals: X by a "
        "linear system, K by the exact polynomial $M(\\alpha)^\\top XM(\\alpha)$.",
    ),
)
