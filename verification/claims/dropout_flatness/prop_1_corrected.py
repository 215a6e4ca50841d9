"""Proposition 1 with the errors of masked outputs: see :mod:`.prop_1`."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st

from verification.claims.dropout_flatness._minima import either, minima, pair
from verification.claims.dropout_flatness._noise import AWAY, STATIONARY, Noise, keeps, points
from verification.claims.dropout_flatness._planted import at
from verification.claims.dropout_flatness.prop_1 import (
    II,
    NOTHING,
    SILENT,
    I,
    own_lower,
    pathwise_lower,
    pathwise_upper,
    smallest_minimum,
)
from verification.claims.dropout_flatness.theorem_1_two_layers import SEMIDEFINITE
from verification.model import Budget, Claim, Control, Equality, Hypothesis

SADDLE = at((1, 1, 1), "linear", theta=[0, 0, 0, "1/2"], X=[[1], [-1]], y=[0, 1])
ONE_INPUT = {**pair("1/2"), "X": [[1], [1]]}  # both labels at one input: f = ½, silent units
ZERO_WEIGHT = at((1, 1, 1), "linear", theta=[1, 0, 0, "1/2"], X=[[1], [1]], y=[1, 0])
MEANS = at(
    (1, 1, 1), "linear", theta=[1, 0, 0, 0], X=[[1]], y=[1]
)  # all masked errors are −1: only the unit's input to w varies


def _second_order(of: Noise) -> tuple[bool, object]:
    """No w_j = 0 makes theorem 1 true at stationary points; else H ⪰ 0 does."""
    if len(of.at.net.shapes) != 2:
        return False, f"{len(of.at.net.shapes)} layers"
    if all(w != 0 for w in of.at.w):
        return True, [float(w) for w in of.at.w]
    return SEMIDEFINITE.predicate(of.at)


SECOND_ORDER = Hypothesis(
    "two layers, w_j ≠ 0 or H ⪰ 0",
    r"L = 2,\; w_j \ne 0 \text{ for all } j, \text{ or } H \succeq 0",
    _second_order,
)
BEFORE = r"L = 2, \; \nabla E_\eta R = 0, \; (w_j \ne 0 \text{ for all } j \text{ or } H \succeq 0) \;\Rightarrow\; "

CLAIMS = (
    Claim(
        id="dropout-flatness/prop-1-i@corrected",
        title="Covariance at least the smallest squared error of a masked output times Hessian",
        source=I + ", corrected",
        statement=BEFORE + r"\Sigma_{\text{one}} \succeq \min_{i,\eta}(f_\eta(x_i) "
        r"- y_i)^2\;H",
        hypotheses=(STATIONARY, AWAY, SECOND_ORDER),
        strategy=minima(),
        explicit=(pair("1/2"), ZERO_WEIGHT),
        build=either,
        measure=pathwise_lower,
        grade="proved",
        controls=(
            Control(
                "errors without masks",
                kind="formula",
                measure=lambda of: pathwise_lower(of, lambda of: min(of.at.errors**2)),
            ),
            Control(
                "not stationary: the mean gradient is subtracted",
                params=SILENT,
            ),
            Control("W = 0, w = 0: stationary, a saddle", params=SADDLE),
        ),
        equality=Equality(params=ONE_INPUT, reaches=1.0),
        budget=Budget(quick=30, full=300),
        notes="H is the true Hessian, which is $E\\nabla f_\\eta\\nabla f_\\eta^\\top$ there (theorem-1). "
        "Where some $w_j = 0$ that takes $H \\succeq 0$ (theorem-1@minima). Equality: both labels at one input, f = ½.",
    ),
    Claim(
        id="dropout-flatness/prop-1-ii@corrected",
        title="Covariance at most the largest squared error of a masked output times Hessian",
        source=II + ", corrected",
        statement=BEFORE + r"\Sigma_{\text{one}} \preceq \max_{i,\eta}(f_\eta(x_i) "
        r"- y_i)^2\;H",
        hypotheses=(STATIONARY, AWAY, SECOND_ORDER),
        strategy=minima(),
        explicit=(pair("1/2"), ZERO_WEIGHT),
        build=either,
        measure=pathwise_upper("one sample"),
        grade="proved",
        controls=(
            Control(
                "errors without masks",
                kind="formula",
                measure=pathwise_upper("one sample", lambda of: max(of.at.errors**2)),
            ),
            Control("W = 0, w = 0: stationary, a saddle", params=SADDLE),
        ),
        equality=Equality(params=ONE_INPUT, reaches=1.0),
        budget=Budget(quick=30, full=300),
        notes="With theorem-2@order also $\\Sigma_{\\text{shared}} \\preceq n\\Sigma_{\\text{own}} \\preceq "
        "\\max\\varepsilon_\\eta^2\\,H$. Equality: "
        "both labels at one input.",
    ),
    Claim(
        id="dropout-flatness/prop-1-i@own-floor",
        title="What bounds the full batch's noise from below when every sample has its own mask",
        source=I + ", corrected",
        statement=r"n\Sigma_{\text{own}} \succeq \min_{i,\eta}(f_\eta(x_i) - y_i)^2\;H_{\text{printed}} - "
        r"\frac1n\sum_im_im_i^\top, \quad m_i = E_\eta\,g_i",
        strategy=st.one_of(points(keep=keeps(7)), minima(keep=keeps(7), activation=st.just("linear"))),
        explicit=(pair("1/2"), MEANS),
        build=either,
        measure=own_lower,
        grade="proved",
        controls=(
            Control(
                "the mean gradients left out", kind="formula", measure=lambda of: own_lower(of, mean=False)
            ),
        ),
        equality=Equality(params=MEANS, reaches=1.0),
        budget=Budget(quick=30, full=300),
        notes="Any θ: no stationarity. It says something where the samples' mean gradients are small one by one. "
        "Equality: w = 0, so that all masked outputs are equal.",
    ),
    Claim(
        id="dropout-flatness/prop-1-i@no-multiple",
        title="At the smallest minimum no multiple of the Hessian bounds the full batch's noise from below",
        source=I + ", for the true matrices of the full batch",
        statement=r"x = \pm1, \; y = (1, 0), \; \text{one linear unit}, \; \nabla E_\eta R = 0: \quad "
        + NOTHING,
        hypotheses=(STATIONARY,),
        strategy=st.integers(1, 64).map(lambda k: pair(f"{k}/64")),
        explicit=(pair("1/2"), pair("63/64")),
        build=either,
        measure=smallest_minimum,
        grade="proved",
        controls=(
            Control(
                "1/4 for 1/8", kind="formula", measure=lambda of: smallest_minimum(of, own=Fraction(1, 4))
            ),
            Control(
                "not stationary",
                params=at((1, 1, 1), "linear", theta=[1, 0, 1, "1/2"], X=[[1], [-1]], y=[1, 0]),
            ),
        ),
        budget=Budget(quick=40, full=64),
        notes="$e_u$: the unit's weight, $e_c$: the output bias. $\\Sigma e_u = 0$ with $e_u^\\top He_u > 0$ excludes "
        "every positive multiple of H, for both masks, for every p.",
    ),
)
