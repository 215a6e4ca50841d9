r"""Theorem 1, corrected: V̄^k = v^k − v̄(λ_{k−1}) against the mean target v̄(λ) = E v_{m,λ}, one step, explicit
constants.

Let x = βμ̄, e = v − v̄(λ_k), Â = m∇²_wwG(MW; ξ)m at w_k, Ā = E Â, b = m∇_wF(M(λ_k, w_{k+1}); ζ). Without projection
    v⁺ − v̄ = (I − βÂ)e + β(b − Âv̄) = (I − βĀ)e + βΔ + βν,   Δ = E b − Āv̄,   ν = (b − E b) − (Â − Ā)v,  E ν = 0.
So E‖v⁺ − v̄‖² = ‖(I − βĀ)e + βΔ‖² + β²E‖ν‖², and ‖I − βĀ‖ <= 1 − x for β <= 2/(μ̄ + L̄). As b̄ = ∇²_wwḠ v̄ at w(λ_k),
    ‖Δ‖ <= K_b E‖w_{k+1} − w(λ_k)‖ + K_H‖v̄‖‖w_k − w(λ_k)‖,
K_b and K_H Lipschitz constants in w of ∇_wF̄ and ∇²_wwḠ: the second, the Hessian's at the old w_k, is not printed.
e = V̄^k + (v̄(λ_{k−1}) − v̄(λ_k)), the last at most L_v α‖d‖ with L_v = (K_bλ + K_bL_w + ‖v̄‖(K_Hλ + K_HL_w))/μ̄, v̄ at
λ_k everywhere: A'(v̄ − v̄') = b − b' + (A' − A)v̄ with A, b at w(λ_k) and A', b' at w(λ_{k−1}). So the mean part is
at most
    (1 − x)‖V̄^k‖ + S,   S = (1 − x)L_vα‖d‖ + βK_bE‖w_{k+1} − w(λ_k)‖ + βK_H‖v̄‖‖w_k − w(λ_k)‖,
and ((1 − x)a + x·S/x)² <= (1 − x)a² + S²/x, with equality iff a = S/x: convexity of the square.
The projection onto B(0, r) shortens distances to v̄(λ_k) if that lies in the ball. ν: with independent lower draws in
the w-step and the v-step b and Âv are independent and E‖ν‖² = V_A + V_b; with one draw at most (√V_A + √V_b)².
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from refimpl.arrays.backend import Array
from verification.claims.dropout_bilevel._iterates_mean import CERTAIN, EPS, Iteration, at, build, iterations
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement


def square(z: Array) -> float:
    """‖z‖²."""
    return float(z @ z)


def added(iteration: Iteration) -> float:
    """E‖ν‖² for independent lower draws of the w-step and the v-step."""
    return float(iteration.case.hessian_noise + iteration.case.gradient_noise)


def at_worst(iteration: Iteration) -> float:
    """E‖ν‖² for one draw, from above."""
    return float(iteration.case.hessian_noise**0.5 + iteration.case.gradient_noise**0.5) ** 2


def contracts(
    noise: Callable[[Iteration], float],
    power: float = 1,
    drift: float = 1,
    new: float = 1,
    old: float = 1,
    weight: float = 1,
) -> Callable[[Iteration], Measurement]:
    """The statement; ``power`` and ``weight`` mutate 1 − x and 1/x, ``drift``, ``new`` and ``old`` the terms of S."""

    def measure(it: Iteration) -> Measurement:
        case, x, seen = it.case, it.x, it.case.outcomes
        moved = it.target_by_lam * float(np.linalg.norm(case.lam - it.before))
        of_new = it.upper.gradient_by_w * float(seen.mean(np.linalg.norm(seen.w - case.w_star, axis=-1)))
        of_old = it.lower.hessian_by_w * float(
            np.linalg.norm(case.v_star) * np.linalg.norm(case.w - case.w_star)
        )
        terms = (1 - x) * drift * moved + case.beta * (new * of_new + old * of_old)
        bound = (1 - x) ** power * square(case.v - it.target_before) + weight / x * terms**2
        observed = seen.mean_square(seen.v - case.v_star)
        return Measurement(observed=observed, bound=bound + case.beta**2 * noise(it), rounding=it.rounding)

    return measure


def steps_of_w(variance: bool = True) -> Callable[[Iteration], Measurement]:
    """Lemma 2's step: E‖w⁺ − w(λ)‖² <= max(|1 − γμ̄|, |1 − γL̄|)²‖w − w(λ)‖² + γ²V(w)."""

    def measure(it: Iteration) -> Measurement:
        case, seen = it.case, it.case.outcomes
        g = case.lower_gradients(case.lam, case.w)
        centre = case.mean(case.lower_law, g)
        V = case.mean(case.lower_law, ((g - centre) ** 2).sum(axis=-1)) if variance else 0.0
        factor = max((1 - case.gamma * c) ** 2 for c in (it.lower.low, it.lower.high))
        bound = factor * square(case.w - case.w_star) + case.gamma**2 * V
        observed = seen.mean_square(seen.w - case.w_star)
        return Measurement(observed=observed, bound=bound, rounding=it.rounding)

    return measure


def _ball(it: Iteration) -> tuple[bool, Any]:
    size = float(np.linalg.norm(it.case.v_star))
    return it.r is None or it.r >= size, [it.r, size]


def _short(it: Iteration) -> tuple[bool, Any]:
    # a multiple of eps: β is rounded where it is defined as that quotient
    scaled = float(it.case.beta * (it.lower.low + it.lower.high))
    return it.lower.low > 0 and scaled <= 2 * (1 + 4 * EPS), scaled


def _curvature(it: Iteration) -> tuple[bool, Any]:
    """At w and at w(λ), up to the rounding of a sum of so many terms and of eigenvalues."""
    case = it.case
    seen = np.array([np.linalg.eigvalsh(case.mean_hessian(case.lam, w)) for w in (case.w, case.w_star)])
    slack = 100 * len(case.w) * EPS * it.lower.high
    fits = it.lower.low - slack <= seen.min() and seen.max() <= it.lower.high + slack
    return bool(fits), [float(seen.min()), float(seen.max())]


CORRELATED = {
    **at(1, 1, 117, beta=0.875, gamma=0.625, e=0.3, u=0.0, ball=0.0),
    "lower_lam": [1, 8],
    "upper_lam": [8, 8],
    "upper_w": [8, 8],
}
BALL = Hypothesis("ball", r"r \ge \|\bar v(\lambda_k)\|", _ball)
SHORT = Hypothesis("step size", r"0 < \bar\mu,\ \beta \le 2/(\bar\mu + \bar L)", _short)
CURVATURE = Hypothesis("curvature of Ḡ", r"\bar\mu I \preceq \nabla^2_{ww}\bar G \preceq \bar LI", _curvature)
# one coordinate each, where V̄ = S/x and all terms point one way, to the four digits of ``u``
TIGHT = {**at(1, 1, 15, e=1.0, move=0.3, u=0.619, ball=0.0), **CERTAIN}
TIGHT_MASKED = {**TIGHT, "lower_w": [4, 4], "upper_w": [4, 4]}
# a small κ at the steepest point of tanh': the step is stiffer than 1 − x by κa² only
TIGHT_OLD = {**at(0, 1, 245, e=0.02, u=-2.204e-4, kappa=1e-3, curve=0.0, ball=0.0), **CERTAIN}
BOUND = (
    r"$$E\|\bar V^{k+1}\|^2 \le (1-x)\,\|\bar V^k\|^2 + \frac1x\Bigl[(1-x)L_v\alpha_{k-1}\|d^k\| + "
    r"\beta K_bE\|w_{k+1}-w(\lambda_k)\| + \beta K_H\|\bar v\|\|w_k-w(\lambda_k)\|\Bigr]^2 + \beta^2N$$ "
)
CONSTANTS = (
    "Given the past; every outcome of masks and data is enumerated through the algorithm, projection included, on "
    "quadratics and with log cosh in both levels. $L_v = (K_{b\\lambda} + K_bL_w + \\|\\bar v\\|(K_{H\\lambda} + "
    "K_HL_w))/\\bar\\mu$, $K$ the Lipschitz constants of $\\nabla_w\\bar F$ (b) and $\\nabla^2_{ww}\\bar G$ (H) in w "
    "and in λ. $v^+ - \\bar v = (I-\\beta\\bar A)e + \\beta\\Delta + \\beta\\nu$ with $e = v - \\bar v(\\lambda_k)$; "
    "with S for the bracket the mean is at most $(1-x)\\|\\bar V^k\\| + S$, then convexity of the square. "
    "Equality where "
    "$\\|\\bar V^k\\| = S/x$ and all terms point one way: one coordinate. Over the past too, each term of S in "
    "mean square (Minkowski), $\\bar v$ from above. $V_A = E\\|(\\hat A - \\bar A)v\\|^2$, $V_b = E\\|b - "
    "E\\,b\\|^2$; $V_A$ is at most $r^2$ times the right side of lemma 1, corrected, on "
    "the block of w. "
)


def claim(which: str, randomness: list[str], noise: Callable[[Iteration], float], **fields: Any) -> Claim:
    """The corrected theorem for one use of randomness."""
    first = randomness[0]
    return Claim(
        id=f"dropout-bilevel/theorem-1@mean-{which}",
        source="dropout-bilevel, theorem 1; corrected here",
        hypotheses=(BALL, SHORT, CURVATURE),
        strategy=iterations(randomness),
        explicit=(
            at(0, 1, randomness=first),
            at(1, 2, noise=1, move=0.1, randomness=first),
            at(1, 2, kappa=1.0, kappa_upper=1.0, move=0.1, randomness=first),
        ),
        build=build,
        measure=contracts(noise),
        grade="exact",
        equality=Equality(
            params={**(TIGHT_MASKED if first == "fresh" else TIGHT), "randomness": first}, reaches=0.999
        ),
        **fields,
    )


def mutants(noise: Callable[[Iteration], float], randomness: str) -> tuple[Control, ...]:
    """What both claims share."""
    at_rest = {"u": 0.0, "e": 0.0, "randomness": randomness, **CERTAIN}
    noisy = at(0, 1, u=0.0, e=0.0, ball=0.0, randomness=randomness)
    tight = {**TIGHT, "randomness": randomness}
    return (
        Control("target outside the ball", params=at(0, 1, ball=0.5, **at_rest)),
        Control("step too long", params=at(0, 1, beta=3.0, ball=0.0, **{**at_rest, "u": 1.0})),
        Control("no noise", kind="formula", measure=contracts(lambda it: 0.0), params=noisy),
        *(
            Control(
                f"nine tenths of {name}", kind="formula", measure=contracts(noise, **{of: 0.9}), params=case
            )
            for name, of, case in (
                ("L_v", "drift", tight),
                ("K_b", "new", tight),
                ("1/x", "weight", tight),
                ("K_H", "old", {**TIGHT_OLD, "randomness": randomness}),
            )
        ),
        Control("(1 − x)² for 1 − x", kind="formula", measure=contracts(noise, power=2), params=tight),
    )


CLAIMS = (
    claim(
        "fresh",
        ["fresh"],
        added,
        title="Towards the mean adjoint: one step of v with independent draws",
        statement=BOUND
        + r"with $x = \beta\bar\mu$, $N = V_A + V_b$, $\bar V^k = v^k - \bar v(\lambda_{k-1})$, else $\bar v = "
        r"\bar v(\lambda_k)$",
        controls=(
            *mutants(added, "fresh"),
            Control(
                "no noise of the Hessian",
                kind="formula",
                measure=contracts(lambda it: it.case.gradient_noise),
            ),
            Control("no noise of ∇_wF", kind="formula", measure=contracts(lambda it: it.case.hessian_noise)),
        ),
        budget=Budget(quick=40, full=1000),
        notes=CONSTANTS
        + "Independent lower draws in the w-step and the v-step make b and $\\hat Av$ independent.",
    ),
    claim(
        "shared",
        ["shared", "fresh-cross"],
        at_worst,
        title="Towards the mean adjoint: one step of v that shares its draw with the step of w",
        statement=BOUND
        + r"with $x = \beta\bar\mu$, $N = (\sqrt{V_A} + \sqrt{V_b})^2$, $\bar V^k = v^k - \bar v(\lambda_{k-1})$, "
        r"else $\bar v = \bar v(\lambda_k)$",
        controls=(
            *mutants(at_worst, "shared"),
            Control(
                "noises taken as independent", kind="formula", measure=contracts(added), params=CORRELATED
            ),
        ),
        budget=Budget(quick=40, full=1000),
        notes=CONSTANTS
        + "One lower draw correlates b, through $w_{k+1}$, with $\\hat Av$: by $O(\\gamma)$ at most. The draw of the "
        "cross derivative and that of $\\nabla_\\lambda F$ do not enter v.",
    ),
    Claim(
        id="dropout-bilevel/lemma-2@corrected-nonquadratic",
        title="One step of w where the lower level is not quadratic",
        source="dropout-bilevel, lemma 2; corrected here",
        statement=r"E\|w^+ - w(\lambda)\|^2 \le \max(|1-\gamma\bar\mu|, |1-\gamma\bar L|)^2\,\|w - w(\lambda)\|^2 + "
        r"\gamma^2V(w)",
        hypotheses=(CURVATURE,),
        strategy=iterations(["shared"]),
        explicit=(at(0, 1, kappa=1.0), at(1, 2, kappa=1.0, noise=1)),
        build=build,
        measure=steps_of_w(),
        grade="exact",
        controls=(
            Control("curvature stated too large", params=at(0, 1, claimed=2.0, **CERTAIN)),
            Control("no variance", kind="formula", measure=steps_of_w(variance=False)),
        ),
        equality=Equality(params=at(0, 1), reaches=0.999),
        budget=Budget(quick=40, full=1000),
        notes="As @corrected: $\\nabla_w\\bar G(w) = A(w - w(\\lambda))$ with the mean Hessian A between the two "
        "points, whose spectrum is in $[\\bar\\mu, \\bar L]$.",
    ),
)
