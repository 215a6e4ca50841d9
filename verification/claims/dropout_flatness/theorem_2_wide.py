r"""Theorem 2 in wide networks at interpolation.

One unit copied m times, ε = 0, φ = f^j, r = ‖g_j‖² (all equal, g_j orthogonal, g₀ = Σg_j + e_c): insert into
the exact sum, tr E ggᵀ = s m φ² (1 + (1+s) r (m+s−1)), tr Σ_printed = s m φ² (1 + m r): their ratio tends to
1/(1+s) = p, not to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from verification.claims.dropout_flatness._noise import Noise, build, equal_weights
from verification.claims.dropout_flatness._planted import at
from verification.claims.dropout_flatness.theorem_2_exact import SOURCE
from verification.model import Budget, Claim, Control, Measurement, identity


def copied(params: Mapping[str, Any]) -> Noise:
    """One linear unit u = 1, copied m times with w = f/(m x), interpolating y = f at one sample x."""
    m, x, f = params["m"], Fraction(params["x"]), Fraction(params["f"])
    theta = [1, 0] * m + [str(f / (m * x))] * m + [0]
    return build({**at((1, m, 1), "linear", theta=theta, X=[[str(x)]], y=[str(f)]), "p": params["p"]})


def trace_ratio(of: Noise) -> Any:
    """tr Σ_printed / tr E ggᵀ."""
    return np.trace(of.printed) / np.trace(of.second)


def ratio_formula(of: Noise, *, width: int = 0) -> Any:
    """(1 + m r)/(1 + (1+s) r (m+s−1)); ``width`` moves the m of the denominator."""
    x, m = of.samples[0], of.at.m
    s, r = x.s[0], (x.g[0] * x.g[0]).sum()
    return (1 + m * r) / (1 + (1 + s) * r * (m + s - 1 + width))


def ratio_is(formula: Callable[[Noise], Any]) -> Callable[[Noise], Measurement]:
    """The ratio of traces is this number."""
    return lambda of: identity(trace_ratio(of), formula(of))


def wide_curve(of: Noise) -> dict[str, Any]:
    """Ratios of traces for one to eight copies."""
    widths = range(1, 9)
    cases = [copied({**WIDE, "m": m}) for m in widths]
    printed = [float(trace_ratio(case)) for case in cases]
    again = [float(np.trace(case.sum(equal_weights)) / np.trace(case.second)) for case in cases]
    lines = {"printed": printed, "aᵢ for bᵢ": again, "p": [float(case.at.keep[0]) for case in cases]}
    return {"x": list(widths), "lines": lines, "xlabel": "copies m", "ylabel": "trace / true trace"}


WIDE = {"m": 2, "x": 2, "f": 1, "p": "2/3"}

CLAIMS = (
    Claim(
        id="dropout-flatness/theorem-2@wide",
        title="In wide interpolating networks the printed trace is p times the true one",
        source=SOURCE + ", derived here",
        statement=r"\frac{\operatorname{tr}\Sigma_{\text{printed}}}{\operatorname{tr}E_\eta\,gg^\top} = "
        r"\frac{1 + m r}{1 + (1+s)\,r\,(m "
        r"+ s - 1)} \;\to\; p \quad (m \to \infty), \quad \varepsilon = 0, \quad r = \|\nabla f^j\|^2",
        strategy=st.fixed_dictionaries(
            {
                "m": st.integers(1, 5),
                "x": st.integers(1, 4),
                "f": st.integers(1, 5),
                "p": st.integers(1, 7).map(lambda k: f"{k}/8"),
            }
        ),
        explicit=(WIDE, {**WIDE, "m": 1}),
        build=copied,
        measure=ratio_is(ratio_formula),
        grade="proved",
        controls=(
            Control(
                "p itself",
                kind="formula",
                measure=ratio_is(lambda of: 1 / (1 + of.samples[0].s[0])),
            ),
            Control("m for m−1", kind="formula", measure=ratio_is(lambda of: ratio_formula(of, width=1))),
        ),
        curve=wide_curve,
        budget=Budget(quick=40, full=300),
        notes="One unit copied m times. In this trace, $a_i$ in both sums is right in the limit, $b_i = "
        "2\\ell(f,y) = 0$ is not: what "
        "is missing is $s^2F\\sum g_jg_j^\\top$, small in operator norm (one of m directions each) and not in "
        "the trace.",
    ),
)
