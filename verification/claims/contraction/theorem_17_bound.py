r"""Theorem 17: the average squared gradient mapping of deterministic BSGM, in runs.

Theorem 12 with ‖δ_s‖ <= C q^{t_s}: the readings @error, @error-sharp and @schedule are its errors.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from verification.claims.contraction._deterministic import (
    ASSUMED,
    EXACT,
    HALVES,
    PACE,
    STEP,
    STRATEGY,
    Bound,
    Descent,
    build,
    product_free,
    total,
)
from verification.model import Budget, Claim, Control, Equality

BASEL = math.pi**2 / 6  # Σ 1/s²
ROUNDED = 1 - math.sqrt(
    np.finfo(float).eps
)  # of a share that is attained: rounding takes less than half of the digits


def descent(one: Descent) -> float:
    """Δ_f/α, with what of Δ_f the run has seen."""
    return one.drop / one.alpha


def errors(one: Descent) -> float:
    """C² with C = c₁B + L_ΦL_Eκ_q + ν₂BL_Eκ_q."""
    c = one.place.constants
    return (product_free(c) + c.nu2 * c.B * c.L_E * c.kappa_q) ** 2


def fewer(one: Descent) -> float:
    """C² without the product's term: enough where v_0 = 0."""
    return product_free(one.place.constants) ** 2


def powers(one: Descent) -> float:
    """Σ_{s<S} q^{2t_s}."""
    q = one.place.constants.q
    return sum(q ** (2 * one.length(s)) for s in range(one.steps))


def first_errors(m: int) -> float:
    """Σ_{s<2ᵐ} 4^(−⌈log₂(s+1)⌉) = 3/2 − 2^(−m−1): S = 2ᵐ + 1 iterations but the last, at q = ½."""
    return 3 / 2 - 2 ** -(m + 1)


def _fourth(one: Descent) -> float:
    q = one.place.constants.q
    return sum(q ** (4 * one.length(s)) for s in range(one.steps))


def printed(one: Descent) -> float:
    """S times the bound."""
    return 8 * descent(one) + 10 * BASEL * errors(one)


def sharp(one: Descent) -> float:
    """2 for 8, 1 for 10."""
    return 2 * descent(one) + BASEL * fewer(one)


def summed(one: Descent) -> float:
    """And the schedule's own sum for π²/6."""
    return 2 * descent(one) + powers(one) * fewer(one)


def _mutant(name: str, bound: Bound, params: dict[str, Any]) -> Control:
    return Control(name, kind="formula", measure=total(bound), params=params)


def curve(one: Descent) -> dict[str, Any]:
    """Sums of the squared mappings over the first S iterations, and their bounds."""
    q, found, sums = one.place.constants.q, 0.0, 0.0
    measured, predicted = [], []
    for s, square in enumerate(one.squares):
        found += square
        sums += q ** (2 * one.length(s))
        measured.append(found / (s + 1))
        predicted.append((2 * descent(one) + sums * fewer(one)) / (s + 1))
    return {
        "x": list(range(1, one.steps + 1)),
        "predicted": predicted,
        "measured": measured,
        "xlabel": "S",
        "ylabel": "average of ‖G_α(λ_s)‖²",
        "logx": True,
        "logy": True,
    }


FAR = {**HALVES, "reach": 4.0, "radius": 8.0, "stated": 0.25, "steps": 17}
LONG = Control("α = 3/L_f", params={**EXACT, "share": 3.0, "steps": 6, "radius": 200.0, "behind": 0.005})
COMMON: dict[str, Any] = {
    "strategy": STRATEGY,
    "build": build,
    "grade": "exact",
    "budget": Budget(quick=8, full=600),
}
LEFT = r"\frac1S\sum_{s<S}\|G_\alpha(\lambda_s)\|^2"
SCHEDULE = r"t_s=k_s=\lceil c_3\log(s+1)\rceil,\;\eta=1"
FALL = {**EXACT, "steps": 2}
NOTED = (
    r" In place of $\Delta_f$ the instances have $f(\lambda_0)-\min_{s\le S}f(\lambda_s)$, which is no larger. "
    r"$\Lambda$ is a ball around a solution's $\lambda$ and the constants hold on all that a run can reach."
)

CLAIMS = (
    Claim(
        id="contraction/theorem-17@bound",
        title="Deterministic BSGM with logarithmically many inner steps",
        source="contraction, Theorem 17; constants lost, restored",
        statement=rf"{SCHEDULE},\;c_3\ge\tfrac1{{\log(1/q)}},\;\alpha\le\tfrac1{{L_f}}:\quad "
        rf"{LEFT}\le\frac1S\Big"
        r"[\frac{8\Delta_f}\alpha+\frac{10\pi^2}6C^2\Big]",
        hypotheses=(*ASSUMED, STEP, PACE),
        explicit=({**HALVES, "steps": 2}, FALL, {**HALVES, "steps": 17}),
        measure=total(printed),
        controls=(
            LONG,
            Control("‖w₀ − w(λ)‖ above B", params=FAR),
            _mutant("without Δ_f", lambda one: printed(one) - 8 * descent(one), FALL),
            _mutant("without C", lambda one: 8 * descent(one), {**HALVES, "steps": 2}),
            _mutant("1/S² for 1/S", lambda one: printed(one) / one.steps, {**EXACT, "steps": 8}),
        ),
        notes=r"$C=c_1B+L_\Phi L_E\kappa_q+\nu_2BL_E\kappa_q$."
        + NOTED
        + r" On the instance that attains the errors, "
        r"$\Phi=w/2$, $E=\lambda w+\lambda^2/2$, one eleventh of the bound is used; half of $c_3$ would "
        r"violate it only after about $4^{21}$ iterations. Samples: see @samples.",
        **COMMON,
    ),
    Claim(
        id="contraction/theorem-17@sharp",
        title="Deterministic BSGM: the constants 2 and π²/6, and no product term",
        source="contraction, Theorem 17, sharpened here",
        statement=rf"{SCHEDULE},\;v_0=0,\;c_3\ge\tfrac1{{\log(1/q)}},\;\alpha\le\tfrac1{{L_f}}:\quad "
        rf"{LEFT}\le\frac1S"
        r"\Big[\frac{2\Delta_f}\alpha+\frac{\pi^2}6(c_1B+L_\Phi L_E\kappa_q)^2\Big]",
        hypotheses=(*ASSUMED, STEP, PACE),
        explicit=({**HALVES, "steps": 2}, FALL, {**HALVES, "steps": 17}),
        measure=total(sharp),
        controls=(
            LONG,
            Control("‖w₀ − w(λ)‖ above B", params=FAR),
            Control("c₃ half as large", params={**HALVES, "pace": 0.5, "steps": 5}),
            _mutant("Δ_f for 2Δ_f", lambda one: sharp(one) - descent(one), FALL),
            _mutant(
                "π²/8 for π²/6",
                lambda one: sharp(one) - (BASEL - math.pi**2 / 8) * fewer(one),
                {**HALVES, "steps": 17},
            ),
            _mutant("without c₁B", lambda one: sharp(one) - BASEL * fewer(one), {**HALVES, "steps": 2}),
        ),
        equality=Equality(params={**HALVES, "steps": 17}, reaches=first_errors(4) / BASEL * ROUNDED),
        curve=curve,
        notes=r"Theorem 12 with the constants $(2,1)$ and the reading @error-sharp."
        + NOTED
        + r" Attained is the share "
        r"$(\tfrac32-2^{-5})\big/\tfrac{\pi^2}6=0.893$ at $S=17$, and $0.912$ as $S\to\infty$, "
        r"by $\Phi=w/2$, $w_0=1$, $E=\lambda w+\lambda^2/2$, $\alpha=1$, "
        r"$\lambda_0=0$, where $\delta_s=2^{-t_s}$; half of $c_3$ makes the sum $\tfrac74>\tfrac{\pi^2}6$ "
        r"within 5 iterations.",
        **COMMON,
    ),
    Claim(
        id="contraction/theorem-17@sum",
        title="Deterministic BSGM with any logarithmic schedule: the sum of its errors, attained",
        source="contraction, Theorem 17, derived here",
        statement=rf"{SCHEDULE},\;v_0=0,\;c_3>0,\;\alpha\le\tfrac1{{L_f}}:\quad "
        rf"{LEFT}\le\frac1S\Big[\frac{{2\Delta_f}}"
        r"\alpha+(c_1B+L_\Phi L_E\kappa_q)^2\sum_{s<S}q^{2t_s}\Big]",
        hypotheses=(*ASSUMED, STEP),
        explicit=(
            {**HALVES, "steps": 2},
            FALL,
            {**HALVES, "steps": 17},
            {**HALVES, "steps": 17, "pace": 0.5},
        ),
        measure=total(summed),
        controls=(
            LONG,
            Control("‖w₀ − w(λ)‖ above B", params=FAR),
            _mutant(
                "q^{4t} for q^{2t}",
                lambda one: summed(one) - (powers(one) - _fourth(one)) * fewer(one),
                {**HALVES, "steps": 17},
            ),
            _mutant("Δ_f for 2Δ_f", lambda one: summed(one) - descent(one), FALL),
        ),
        equality=Equality(
            params={**HALVES, "steps": 65}, reaches=first_errors(6) / (first_errors(6) + 4**-7) * ROUNDED
        ),
        notes=r"The sum is bounded in $S$ where $c_3\log(1/q)>\tfrac12$ and not where it is $\tfrac12$ or "
        r"less: see "
        r"@summable and @threshold. Attained at $S=2^m+1$ but for the last term, $4^{-m-1}$." + NOTED,
        **COMMON,
    ),
)
