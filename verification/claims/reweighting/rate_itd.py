"""Iterative differentiation: its error bound with the factor t, and that this is its rate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

import refimpl as ri
from refimpl.constants import Constants
from refimpl.solvers import FixedPoint
from verification.claims.reweighting._attaining import Attaining, bent, ratios
from verification.claims.reweighting._shared import CONTRACTION, Alter, dropped, unaltered, worst
from verification.instances import Case, case, cases, point
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, identity

SOURCE = "reweighting, (16) and (17), in the constants of contraction, section 3"
KINDS = ("line", "bent", "parabola", "rotation", "affine", "tanh", "quadratic", "logistic")


def unrolled(c: Constants, t: np.ndarray) -> np.ndarray:
    """(μ₂ + μ₁L_w) q^t B + L_E [q^t L_w + t q^{t−1} (ν₂ + ν₁L_w) B]."""
    late = t * c.q ** np.maximum(t - 1, 0) * (c.nu2 + c.nu1 * c.L_w) * c.B
    return (c.mu2 + c.mu1 * c.L_w) * c.q**t * c.B + c.L_E * (c.q**t * c.L_w + late)


def by_steps(case: Case) -> np.ndarray:
    """Errors after 0 … t steps, in forward mode."""
    found = ri.approximate.forward(
        case.as_map, case.lam, lower=FixedPoint(case.t), w0=case.w0, exact=case.exact
    )
    return np.asarray(found.curve)


def itd(
    alter: Alter = unaltered,
    bound: Callable[[Constants, np.ndarray], np.ndarray] = unrolled,
) -> Callable[[Case], Measurement]:
    """The measure: the worst of 0 … t steps."""

    def measure(case: Case) -> Measurement:
        limit = bound(alter(case.constants), np.arange(case.t + 1))
        return worst(by_steps(case), limit, case.rounding)

    return measure


def curve_steps(case: Case) -> Mapping[str, Any]:
    """Errors after every number of steps, and their bound."""
    t = np.arange(case.t + 1)
    labels = {"xlabel": "steps t", "ylabel": "error of the hypergradient", "logy": True}
    return {"x": t, "predicted": unrolled(case.constants, t), "measured": by_steps(case), **labels}


# -- rates -------------------------------------------------------------------------------------------------

STEPS = (0, 1, 2, 3, 6, 12, 24)


def late(q: fmpq, nu: fmpq, B: fmpq, t: int) -> fmpq:
    """q^t L_w + t q^{t−1} ν₂B, L_w = 1/(1 − q)."""
    return q**t / (1 - q) + t * nu * B * q**t / q


def by_closed_form(
    error: Callable[[fmpq, fmpq, fmpq, int], fmpq] = late,
) -> Callable[[Attaining], Measurement]:
    """The error after every number of steps, in forward mode, against ``error``(q, ν, B, t)."""

    def measure(case: Attaining) -> Measurement:
        q, nu, B = (case.number(name) for name in ("q", "nu", "B"))
        runs = (
            ri.approximate.forward(case.problem, case.lam, lower=FixedPoint(t), w0=case.w0).value
            for t in STEPS
        )
        return identity(
            [case.exact.value[0] - value[0] for value in runs], [error(q, nu, B, t) for t in STEPS]
        )

    return measure


def on_the_line(q: tuple[int, int], B: tuple[int, int], nu: tuple[int, int], **more: Any) -> dict[str, Any]:
    """Parameters of one bent line."""
    return {"q": list(q), "B": list(B), "nu": list(nu), "lam": [0, 1], **more}


def _no_factor(c: Constants, t: np.ndarray) -> np.ndarray:
    return unrolled(c, np.minimum(t, 1)) * c.q ** np.maximum(t - 1, 0)


ATTAINING = (
    point("bent", t=20),
    point("line", t=10),
    point("line", upper="square", t=10),
    point("line", upper="product", t=10),
    point("parabola", nu=0.1, B=0.1, t=10),
    point("line", upper="bowl", B=20.0, t=15),
)
STRATEGY = cases(KINDS, t=30)

CLAIMS = (
    Claim(
        id="reweighting/rate-itd",
        title="Iterative differentiation, reverse or forward",
        source=SOURCE,
        statement=r"$$\left\|\frac{d}{d\lambda}F(\lambda, w_t(\lambda)) - \nabla f(\lambda)\right\|$$ "
        r"$$\quad \le (\mu_2 + \mu_1 L_w) q^t B + L_E\left[q^t L_w + t\, q^{t-1}(\nu_2 + \nu_1 L_w) "
        r"B\right]$$ $$w_0'(\lambda) = 0$$",
        hypotheses=CONTRACTION,
        strategy=STRATEGY,
        explicit=ATTAINING,
        build=case,
        measure=itd(),
        grade="exact",
        controls=(
            Control("B stated too small", params=point("bent", t=20, halved="B")),
            Control("q stated too small", params=point("line", t=10, halved="q")),
            Control("factor t dropped", kind="formula", measure=itd(bound=_no_factor)),
            Control(
                "q^t for q^{t−1}",
                kind="formula",
                measure=itd(
                    bound=lambda c, t: unrolled(dataclasses.replace(c, nu1=c.nu1 * c.q, nu2=c.nu2 * c.q), t)
                ),
            ),
            dropped("nu2", itd),
            dropped("mu1", itd),
            dropped("mu2", itd),
            Control("t + 1 for t", kind="formula", measure=itd(bound=lambda c, t: unrolled(c, t + 1))),
        ),
        equality=Equality(params=point("bent", t=20), reaches=0.999),
        curve=curve_steps,
        budget=Budget(quick=100, full=1000),
        notes="$D_t = w_t' - w'$ obeys $\\|D_{t+1}\\| \\le q\\|D_t\\| + (\\nu_2 + \\nu_1L_w)q^tB$ with "
        "$\\|D_0\\| = \\|w'\\| \\le L_w$: the factor $t$ is the convolution of two sequences of ratio $q$. "
        "Equality: $\\Phi = qw + \\lambda(1+\\nu_2w)$, $E = w$, $\\lambda = 0$, $w_0 = -B$. All $t' \\le t$ "
        "are held to their own bound.",
    ),
    Claim(
        id="reweighting/rate-itd@rate",
        title="Iterative differentiation converges like t times q to the t",
        source=SOURCE,
        statement=r"$$\Phi = qw + \lambda(1 + \nu_2w),\ F = w,\ \lambda = 0,\ w_0 = -B:$$ "
        r"$$\left|\tfrac{d}{d\lambda}F(\lambda, w_t(\lambda)) - \nabla f(\lambda)\right| = t\,q^{t-1}\nu_2B + "
        r"q^tL_w, \quad L_w = \tfrac{1}{1-q}$$",
        hypotheses=(
            Hypothesis(
                "attaining",
                r"\lambda = 0",
                lambda case: (case.params["lam"][0] == 0, str(case.number("lam"))),
            ),
        ),
        strategy=st.fixed_dictionaries(
            {
                "q": st.integers(1, 19).map(lambda i: [i, 20]),
                "B": ratios((1, 20), (10, 10)),
                "nu": ratios((0, 30), (1, 4)),
                "lam": st.just([0, 1]),
            }
        ),
        explicit=(on_the_line((1, 2), (1, 1), (1, 1)), on_the_line((1, 2), (1, 1), (100, 1))),
        build=bent,
        measure=by_closed_form(),
        grade="proved",
        controls=(
            Control("λ not 0", params=on_the_line((1, 2), (1, 1), (1, 1), lam=[1, 10])),
            Control(
                "the late term absent",
                kind="formula",
                measure=by_closed_form(lambda q, nu, B, t: late(q, 0 * nu, B, t)),
            ),
            Control(
                "no factor t",
                kind="formula",
                measure=by_closed_form(lambda q, nu, B, t: late(q, nu, B, min(t, 1)) * q ** max(t - 1, 0)),
            ),
            Control("t²", kind="formula", measure=by_closed_form(lambda q, nu, B, t: late(q, t * nu, B, t))),
            Control(
                "q^{2t}", kind="formula", measure=by_closed_form(lambda q, nu, B, t: late(q, nu, B, t) * q**t)
            ),
        ),
        budget=Budget(quick=30, full=400),
        notes="$w_s - w(\\lambda) = -q^sB$ at $\\lambda = 0$, so that the terms of $w_t' = \\sum_{s<t} "
        "q^{t-1-s}(1 - \\nu_2q^sB)$ are a geometric series and $t$ equal numbers. It is the bound of rate-itd, "
        "attained at every t. With $c = qL_w/(\\nu_2B)$ the error is $(1 + c/t)$ times $t\\,q^{t-1}\\nu_2B$: "
        "beside $q^t$, a secant of its logarithm over $\\log t$ in $[t, t']$ has a slope between $1 - "
        "\\log(1+c/t)/\\log(t'/t)$ and 1. Nothing is fitted.",
    ),
)
