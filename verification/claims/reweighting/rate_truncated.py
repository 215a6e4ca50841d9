"""Iterative differentiation truncated to its last K steps, or to the last one: error bounds and rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flint import fmpq

import refimpl as ri
from refimpl.constants import Constants
from refimpl.solvers import FixedPoint
from verification.claims.reweighting._attaining import (
    CONFORMAL,
    Attaining,
    cosine_and_sine,
    falls,
    turn,
    turning,
    turns,
)
from verification.claims.reweighting._penalty import rational, square
from verification.claims.reweighting._shared import (
    CONTRACTION,
    Alter,
    apart,
    dropped,
    unaltered,
    worst,
)
from verification.claims.reweighting.rate_itd import ATTAINING, SOURCE, STRATEGY, unrolled
from verification.instances import Case, case, point
from verification.model import Budget, Claim, Control, Equality, Measurement, identity


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

STEPS = 12


def by_kept_terms(case: Attaining) -> list[fmpq]:
    """Squared errors of the last 0 … 12 terms of 12 steps."""
    lower = FixedPoint(STEPS)
    runs = (
        ri.approximate.truncated(case.problem, case.lam, lower=lower, last=K, w0=case.w0)
        for K in range(STEPS + 1)
    )
    return [case.off(run.value) for run in runs]


def in_q(power: int = 1, turned: bool = True) -> Callable[[Attaining], Measurement]:
    """(squared) error × |1 − qe^{iθ}|² = q² ‖g‖²; ``turned=False`` takes θ = 0."""

    def measure(case: Attaining) -> Measurement:
        q, m = case.number("q"), case.number("m")
        found = ri.approximate.one_step(case.problem, case.lam, lower=FixedPoint(STEPS), w0=case.w0).value
        cosine, sine = cosine_and_sine(m if turned else 0 * m)
        gain = (1 - q * cosine) ** 2 + (q * sine) ** 2
        return identity(case.off(found) * gain, q ** (2 * power) * square(rational(case.params["g"])))

    return measure


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
        statement=r"\Phi = qRw + \lambda,\ R^\top R = I,\ F = g^\top w:\quad \|h_{t-K} - \nabla f(\lambda)\| = "
        r"q^K\,\|\nabla f(\lambda)\|, \quad 0 \le K \le t",
        hypotheses=(CONFORMAL,),
        strategy=turns(),
        explicit=(turn(m=[0, 1]), turn()),
        build=turning,
        measure=falls(by_kept_terms, lambda case, K: case.number("q") ** K),
        grade="proved",
        controls=(
            Control("a faster direction than q", params=turn(other=[1, 2])),
            Control(
                "twice as fast",
                kind="formula",
                measure=falls(by_kept_terms, lambda case, K: case.number("q") ** (2 * K)),
            ),
            Control("no rate at all", kind="formula", measure=falls(by_kept_terms, lambda case, K: 1)),
            Control(
                "K + 1 for K",
                kind="formula",
                measure=falls(by_kept_terms, lambda case, K: case.number("q") ** (K + 1)),
            ),
        ),
        budget=Budget(quick=40, full=400),
        notes="F is linear and $\\Phi$ affine, so that no iterate plays a part: what is left out is $\\sum_{i "
        "\\ge K} (qR^\\top)^ig = (qR^\\top)^K\\nabla f$, and the logarithm of the error is a straight line of "
        "slope $\\log q$ in K. Exact; nothing is fitted, and t need not be large.",
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
        statement=r"\Phi = qRw + \lambda,\ R \text{ a rotation by } \theta,\ F = g^\top w:\quad \|e\| = "
        r"\frac{q\,\|g\|}{|1 - qe^{i\theta}|} \in \left[\frac{q}{1+q}, \frac{q}{1-q}\right]\|g\|",
        hypotheses=(CONFORMAL,),
        strategy=turns(),
        explicit=(turn(m=[0, 1], q=[1, 20]), turn()),
        build=turning,
        measure=in_q(),
        grade="proved",
        controls=(
            Control("a slower direction than q", params=turn(other=[3, 2])),
            Control("q²", kind="formula", measure=in_q(2)),
            Control("not small at all", kind="formula", measure=in_q(0)),
            Control("θ = 0 whatever R is", kind="formula", measure=in_q(turned=False)),
        ),
        budget=Budget(quick=60, full=400),
        notes="The error is $\\|\\sum_{i \\ge 1} (qR^\\top)^i g\\|$, whatever the number of steps. The "
        "exponent of q between $q' < q$ is within $\\log\\frac{1+q}{1-q}/\\log\\frac q{q'}$ of 1, for all $q < "
        "1$. Maps that are not conformal only have it as a bound: a first term that happens to be small lets "
        "the second one show.",
    ),
)
