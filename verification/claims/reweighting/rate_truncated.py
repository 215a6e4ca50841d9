"""Iterative differentiation truncated to its last K steps, or to the last one: error bounds and rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

import refimpl as ri
from refimpl.constants import Constants
from refimpl.solvers import FixedPoint
from verification.claims.reweighting._shared import (
    CONFORMAL,
    CONTRACTION,
    Alter,
    apart,
    dropped,
    fitted_exponent,
    unaltered,
    worst,
)
from verification.claims.reweighting.rate_itd import ATTAINING, SOURCE, STRATEGY, unrolled
from verification.instances import EPS, Case, case, point, tidy
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, rate


def cut(c: Constants, t: int, K: np.ndarray) -> np.ndarray:
    """The row above + L_E [L_Φ κ_q (q^K − q^t) + ν₂ B (t − K) q^{t−1}]."""
    missing = c.L_Phi * c.kappa_q * (c.q**K - c.q**t) + c.nu2 * c.B * (t - K) * c.q ** max(t - 1, 0)
    return unrolled(c, np.asarray(t)) + c.L_E * missing


def by_terms(case: Case) -> np.ndarray:
    """Errors of the last 0 … t terms, t steps taken, in reverse mode."""
    found = ri.approximate.reverse(
        case.as_map, case.lam, lower=FixedPoint(case.t), w0=case.w0, exact=case.exact
    )
    return np.asarray(found.curve)


def truncated(
    alter: Alter = unaltered,
    bound: Callable[[Constants, int, np.ndarray], np.ndarray] = cut,
    fewer: int = 0,
) -> Callable[[Case], Measurement]:
    """The measure: the worst of the last 0 … t terms, then (bound 0) how far ``truncated`` is from its entry."""

    def measure(case: Case) -> Measurement:
        limit = bound(alter(case.constants), case.t, np.arange(case.t + 1))
        gap = apart(case, case.as_map, fewer, lower=FixedPoint(case.t))
        return worst([*by_terms(case), gap], [*limit, 0.0], case.rounding, t=case.t)

    return measure


def last_step(
    bound: Callable[[Constants, int, np.ndarray], np.ndarray] = cut,
) -> Callable[[Case], Measurement]:
    """The measure for one_step, with the bound at K = 1."""

    def measure(case: Case) -> Measurement:
        found = ri.approximate.one_step(case.as_map, case.lam, lower=FixedPoint(case.t), w0=case.w0)
        error = np.linalg.norm(found.value - case.exact.value)
        return worst([error], bound(case.constants, case.t, np.ones(1)), case.rounding, t=case.t)

    return measure


def curve_terms(case: Case) -> Mapping[str, Any]:
    """Errors of every number of terms, and their bound."""
    K = np.arange(case.t + 1)
    labels = {"xlabel": f"last K of {case.t} steps", "ylabel": "error of the hypergradient", "logy": True}
    return {"x": K, "predicted": cut(case.constants, case.t, K), "measured": by_terms(case), **labels}


# -- rates -------------------------------------------------------------------------------------------------

TERMS = np.arange(1, 11)
HALVINGS = 2.0 ** -np.arange(6)


def in_terms(factor: float) -> Callable[[Case], Measurement]:
    """Slope of the log-error over the K of the window, t = 60, within 1 % of factor × log q."""

    def measure(case: Case) -> Measurement:
        slope = fitted_exponent(TERMS, np.log(by_terms(case)[TERMS]))
        expected = factor * float(np.log(case.constants.q))
        return rate(slope, expected, 0.01 * abs(expected), window=[1, 10])

    return measure


def shrinking(params: Mapping[str, Any]) -> list[Case]:
    """Six cases with q, q/2, …, q/32, t = 40."""
    base = point(params["kind"], n=params["d"], d=params["d"], seed=params["seed"], t=40)
    return [case({**base, "q": params["q"] * h}) for h in HALVINGS]


def in_q(power: float) -> Callable[[list[Case]], Measurement]:
    """Exponent of the one-step error in q as q is halved from at most 0.05, within 0.05 of ``power``."""

    def measure(cases: list[Case]) -> Measurement:
        q = [c.constants.q for c in cases]
        found = [
            ri.approximate.one_step(c.as_map, c.lam, lower=FixedPoint(c.t), w0=c.w0).value for c in cases
        ]
        errors = [np.linalg.norm(value - c.exact.value) for value, c in zip(found, cases, strict=True)]
        return rate(
            fitted_exponent(np.log(q), np.log(errors)), power, 0.05, window=[float(min(q)), float(max(q))]
        )

    return measure


def _small(cases: list[Case]) -> tuple[bool, Any]:
    largest = cases[0].constants.q
    return largest <= 0.05 * (1 + 10 * cases[0].problem.d * EPS), largest  # the norm of q R is rounded


AT_LEAST_ONE = STRATEGY.map(lambda p: {**p, "t": max(1, p["t"])})

CLAIMS = (
    Claim(
        id="reweighting/rate-truncated",
        title="Iterative differentiation truncated to its last K steps",
        source=SOURCE,
        statement=r"$$\|h_{t-K} - \nabla f(\lambda)\|$$ $$\quad \le (\text{the bound of rate-itd}) + "
        r"L_E\left[L_\Phi\kappa_q(q^K - q^t) + \nu_2 B\,(t-K)\, q^{t-1}\right]$$ $$0 \le K \le t$$",
        hypotheses=CONTRACTION,
        strategy=AT_LEAST_ONE,
        explicit=(*ATTAINING, point("line", t=1)),
        build=case,
        measure=truncated(),
        grade="exact",
        controls=(
            Control("q stated too small", params=point("line", t=10, halved="q")),
            Control("B stated too small", params=point("line", upper="product", t=10, halved="B")),
            Control("K + 1 for K", kind="formula", measure=truncated(bound=lambda c, t, K: cut(c, t, K + 1))),
            Control(
                "κ_q dropped",
                kind="formula",
                measure=truncated(
                    bound=lambda c, t, K: unrolled(c, np.asarray(t)) + c.L_E * c.L_Phi * (c.q**K - c.q**t)
                ),
            ),
            Control(
                "the bound of all t steps",
                kind="formula",
                measure=truncated(bound=lambda c, t, K: unrolled(c, np.asarray(t)) + 0 * K),
            ),
            dropped("mu1", truncated),
            Control("one term fewer kept", kind="formula", measure=truncated(fewer=1)),
        ),
        equality=Equality(params=point("line", t=10), reaches=0.999),
        curve=curve_terms,
        budget=Budget(quick=100, full=1000),
        notes="The terms left out, $\\sum_{s \\le t-K} B_s^\\top A_{s+1}^\\top … A_t^\\top\\nabla E$, have "
        "$\\|B_s\\| \\le L_\\Phi + \\nu_2q^{s-1}B$. Equality for every $K$ and $t$: $\\Phi = qw+\\lambda$, "
        "$E = w$. The errors of all K are read from one pass of reverse mode; at $K = \\lceil t/2\\rceil$ truncated "
        "reverse mode itself must give the same vector to rounding.",
    ),
    Claim(
        id="reweighting/rate-truncated@rate",
        title="Truncation costs q per step left out",
        source=SOURCE,
        statement=r"On $\Phi = qRw + \lambda$, R a rotation, after $t = 60$ steps, the slope of the "
        r"logarithm of the error over $K \in [1, 10]$ is $\log q$ within 1 %.",
        hypotheses=(CONFORMAL,),
        strategy=st.fixed_dictionaries(
            {
                **{k: st.just(v) for k, v in point("line", t=60).items()},
                "kind": st.sampled_from(("line", "spiral")),
                "q": st.floats(0.2, 0.7).map(tidy),
                "seed": st.integers(0, 999),
            }
        ),
        explicit=(point("line", t=60), point("spiral", t=60)),
        build=case,
        measure=in_terms(1),
        grade="exact",
        controls=(
            Control("a faster direction than q", params=point("affine", n=2, d=2, q=0.7, seed=1, t=60)),
            Control("twice as fast", kind="formula", measure=in_terms(2)),
            Control("no rate at all", kind="formula", measure=in_terms(0.01)),
        ),
        budget=Budget(quick=60, full=400),
        notes="With 60 steps $q^t$ is out of sight: what is left is $L_EL_\\Phi\\kappa_qq^K$.",
    ),
    Claim(
        id="reweighting/rate-one-step",
        title="The derivative of the last step alone",
        source=SOURCE,
        statement=r"$$\|\nabla_\lambda F(w_t) + \partial_\lambda\Phi(w_{t-1})^\top\nabla_wF(w_t) - \nabla "
        r"f(\lambda)\|$$ $$\quad \le (\text{the bound of rate-itd}) + L_E\left[L_\Phi\kappa_q(q - q^t) + "
        r"\nu_2 B\,(t-1)\, q^{t-1}\right]$$",
        hypotheses=CONTRACTION,
        strategy=AT_LEAST_ONE,
        explicit=(*ATTAINING, point("line", t=1)),
        build=case,
        measure=last_step(),
        grade="exact",
        controls=(
            Control("q stated too small", params=point("line", t=10, halved="q")),
            Control(
                "small whatever q is",
                kind="formula",
                measure=last_step(lambda c, t, K: unrolled(c, np.asarray(t)) + 0 * K),
            ),
            Control("q² for q", kind="formula", measure=last_step(lambda c, t, K: cut(c, t, K + 1))),
        ),
        equality=Equality(params=point("line", t=10), reaches=0.999),
        budget=Budget(quick=100, full=1000),
        notes="K = 1 of the row above: however many steps are taken, an error $L_EL_\\Phi q\\kappa_q$ "
        "remains. Equality: $\\Phi = qw+\\lambda$, $E = w$.",
    ),
    Claim(
        id="reweighting/rate-one-step@rate",
        title="The one-step error is proportional to q, so small only if q is",
        source=SOURCE,
        statement=r"On $\Phi = qRw + \lambda$, $E = w$ along a fixed direction, R a rotation, after $t = 40$ steps, "
        r"the error is proportional to $q^{1 \pm 0.05}$ over $q = q_0 2^{-j}$, $q_0 \le 0.05$.",
        hypotheses=(Hypothesis("small q", r"q_0 \le 0.05", _small),),
        strategy=st.fixed_dictionaries(
            {
                "kind": st.sampled_from(("line", "spiral")),
                "d": st.integers(1, 4),
                "q": st.floats(0.005, 0.05).map(tidy),
                "seed": st.integers(0, 999),
            }
        ),
        explicit=({"kind": "line", "d": 1, "q": 0.05, "seed": 0},),
        build=shrinking,
        measure=in_q(1),
        grade="exact",
        controls=(
            Control("q not small", params={"kind": "line", "d": 1, "q": 0.9, "seed": 0}),
            Control("q²", kind="formula", measure=in_q(2)),
            Control("not small at all", kind="formula", measure=in_q(0)),
        ),
        budget=Budget(quick=30, full=400),
        notes="The error is $\\|\\sum_{i \\ge 1} (qR^\\top)^i g\\| = q\\|g\\|/|1 - qe^{i\\theta}|$, on the line "
        "$q/(1-q)$: the slope is within $2 q_0/\\log(q_0/q_{\\min})$ of 1. Maps that are not conformal "
        "only have it as a bound: a first term that happens to be small lets the second one show.",
    ),
)
