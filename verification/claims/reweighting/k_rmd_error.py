"""K-step truncated reverse mode (17): its error against the whole sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

import refimpl as ri
from refimpl.solvers import GradientDescent
from verification.claims.reweighting._shared import apart, lower_bounds, spectrum, worst
from verification.instances import EPS, Case, case, cases, point, size, tidy
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement


def step(case: Case) -> float:
    """α = share/L."""
    return float(case.params["share"]) / spectrum(case)[1]


def left_out(case: Case) -> tuple[np.ndarray, float]:
    """‖h_{T−K} − h_0‖ for K = 0 … T, and ‖∇_wF(w_T)‖."""
    options: dict[str, Any] = {"lower": GradientDescent(case.t, step=step(case)), "w0": case.w0}
    whole = ri.approximate.reverse(case.problem, case.lam, **options)
    curve = ri.approximate.reverse(case.problem, case.lam, exact=whole.value, **options).curve
    return np.asarray(curve), size(case.problem.upper.grad_w(case.lam, whole.w))


def bound(case: Case, gradient: float, K: np.ndarray) -> np.ndarray:
    """C ((1 − αμ)^K − (1 − αμ)^T), C = ‖∇_wF(w_T)‖ sup‖∇²_λwG‖/μ."""
    mu, q = spectrum(case)[0], 1 - step(case) * spectrum(case)[0]
    cross = lower_bounds(case).cross
    return gradient * cross / mu * (q**K - q**case.t)


def bounded(
    plus: int = 0, scale: Callable[[Case], float] = lambda case: 1.0, power: int = 1, fewer: int = 0
) -> Callable[[Case], Measurement]:
    """The measure: the worst K, then (bound 0) how far ``truncated`` is from its entry; mutants change K or C."""

    def measure(case: Case) -> Measurement:
        errors, gradient = left_out(case)
        K = power * np.arange(case.t + 1) + plus
        limit = np.maximum(bound(case, gradient, K), 0) * scale(case)
        # a short step amplifies by 1/(αμ), where the best one amplifies by κ_q
        gap = apart(case, case.problem, fewer, lower=GradientDescent(case.t, step=step(case)))
        return worst([*errors, gap], [*limit, 0.0], case.rounding / min(1.0, case.params["share"]))

    return measure


def curve(case: Case) -> Mapping[str, Any]:
    """What is left out for every K, and its bound."""
    errors, gradient = left_out(case)
    K = np.arange(case.t + 1)
    labels = {"xlabel": f"last K of {case.t} steps", "ylabel": "what truncation leaves out", "logy": True}
    return {"x": K, "predicted": bound(case, gradient, K), "measured": errors, **labels}


def _short(case: Case) -> tuple[bool, Any]:
    return 0 < case.params["share"] <= 1, f"αL = {case.params['share']}"


def _convex(case: Case) -> tuple[bool, Any]:
    ends = (case.exact.w, case.w0)
    least = min(float(np.linalg.eigvalsh(case.problem.residual_w(case.lam, w).dense())[0]) for w in ends)
    mu = spectrum(case)[0]
    return 0 < mu <= least + 10 * case.problem.d * EPS * spectrum(case)[1], f"{least:.6g} against {mu:.6g}"


def start(kind: str, **more: Any) -> dict[str, Any]:
    """Parameters of one case, α = 1/(2L)."""
    return {**point(kind, t=10), "share": 0.5, **more}


CLAIMS = (
    Claim(
        id="reweighting/k-rmd-error",
        title="What K-step truncation leaves out",
        source="reweighting, (17)",
        statement=r"$$\|h_{T-K} - h_0\| \le C\left((1-\alpha\mu)^K - (1-\alpha\mu)^T\right), \quad \alpha "
        r"\le 1/L$$ $$C = \|\nabla_vf(v_T)\|\,\sup\|\nabla^2_{uv}g\| \,/\, \mu$$",
        hypotheses=(
            Hypothesis("step", r"0 < \alpha \le 1/L", _short),
            Hypothesis("strongly convex", r"\nabla^2_{vv}g \succeq \mu I,\ \mu > 0", _convex),
        ),
        strategy=st.builds(
            lambda p, share: {**p, "share": share},
            cases(("well", "eigenvector", "quadratic", "logistic"), t=20),
            st.floats(0.05, 1).map(tidy),
        ),
        explicit=(
            start("well"),
            start("eigenvector", d=2),
            start("quadratic", d=3, n=2),
            start("logistic", d=2),
        ),
        build=case,
        measure=bounded(),
        grade="exact",
        controls=(
            Control("a step of 1.9/L", params=start("quadratic", d=2, kappa=1.5, share=1.9, upper="w")),
            Control("K + 1 for K", kind="formula", measure=bounded(plus=1)),
            Control("2K for K", kind="formula", measure=bounded(power=2)),
            Control(
                "L for μ in C",
                kind="formula",
                measure=bounded(scale=lambda c: spectrum(c)[0] / spectrum(c)[1]),
            ),
            Control(
                "α in place of 1/μ", kind="formula", measure=bounded(scale=lambda c: step(c) * spectrum(c)[0])
            ),
            Control("one term fewer kept", kind="formula", measure=bounded(fewer=1)),
        ),
        equality=Equality(params=start("well"), reaches=0.999),
        curve=curve,
        budget=Budget(quick=100, full=1000),
        notes="The terms left out are $\\sum_{t \\le T-K} B_t^\\top A_{t+1}^\\top … A_T^\\top\\nabla_vf$ "
        "with $\\|B_t\\| \\le \\alpha\\|\\nabla^2_{uv}g\\|$ and $\\|A_t\\| \\le 1-\\alpha\\mu$: a geometric "
        "sum. C does not depend on α, K or T. The error against the exact hypergradient is rate-truncated. "
        "At $K = \\lceil T/2\\rceil$ truncated reverse mode itself must give the vector of that many terms to "
        "rounding. Equality: one variable.",
    ),
)
