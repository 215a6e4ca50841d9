"""Iterative differentiation: its error bound with the factor t, and that this is its rate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

import refimpl as ri
from refimpl.constants import Constants
from refimpl.solvers import FixedPoint
from verification.claims.reweighting._shared import CONTRACTION, Alter, dropped, unaltered, worst
from verification.instances import EPS, Case, case, cases, point, tidy
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement

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

STEPS = np.arange(5, 31)


def dominated(params: Mapping[str, Any]) -> Case:
    """The bent line at λ = 0 with ν₂B = share × 100 q κ_q: for share = 1 the term with the factor t dominates."""
    nu = params["share"] * 100 * params["q"] / (1 - params["q"]) / params["B"]
    return case(point("bent", q=params["q"], B=params["B"], nu=nu, t=int(STEPS[-1])))


def two_exponents(slope: float, power: float) -> Callable[[Case], Measurement]:
    """log error = a + s·t + p·log t over the window: s within 1 % of slope × log q, p within 0.05 of ``power``."""

    def measure(case: Case) -> Measurement:
        errors = np.log(by_steps(case)[STEPS])
        design = np.stack([np.ones(len(STEPS)), STEPS, np.log(STEPS)], axis=-1)
        _, s, p = np.linalg.lstsq(design, errors, rcond=None)[0]
        expected = slope * np.log(case.constants.q)
        miss = max(abs(s - expected) / abs(0.01 * expected), abs(p - power) / 0.05)
        detail = {"exponent of q^t": float(s / np.log(case.constants.q)), "power of t": float(p)}
        return Measurement(observed=float(miss), bound=1.0, detail={**detail, "window": [5, 30]})

    return measure


def _late_term(case: Case) -> tuple[bool, Any]:
    c = case.constants
    ratio = c.nu2 * c.B / (c.q * c.L_w)
    return ratio >= 100 * (1 - 10 * EPS) and float(case.lam[0]) == 0, ratio  # nu is rounded a few times


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
        statement=r"Where $\nu_2 B \ge 100\,q L_w$, the fit $\log(\text{error}) = a + s\,t + p\log t$ over "
        r"$t \in [5, 30]$ has $s = \log q$ within 1 % and $p = 1 \pm 0.05$.",
        hypotheses=(
            Hypothesis("the late term dominates", r"\nu_2 B \ge 100\,q L_w,\ \lambda = 0", _late_term),
        ),
        strategy=st.fixed_dictionaries(
            {"q": st.floats(0.5, 0.9).map(tidy), "B": st.floats(0.1, 2).map(tidy), "share": st.just(1.0)}
        ),
        explicit=({"q": 0.5, "B": 1.0, "share": 1.0},),
        build=dominated,
        measure=two_exponents(1, 1),
        grade="exact",
        controls=(
            Control("the late term absent", params={"q": 0.5, "B": 1.0, "share": 0.0}),
            Control("no factor t", kind="formula", measure=two_exponents(1, 0)),
            Control("t²", kind="formula", measure=two_exponents(1, 2)),
            Control("q^{2t}", kind="formula", measure=two_exponents(2, 1)),
        ),
        budget=Budget(quick=60, full=400),
        notes="The window and both intervals were fixed beforehand.",
    ),
)
