"""Proposition 1 with the errors of masked outputs: see :mod:`.prop_1`."""

from __future__ import annotations

from verification.claims.dropout_flatness._minima import either, minima, pair
from verification.claims.dropout_flatness._noise import AWAY, STATIONARY
from verification.claims.dropout_flatness._planted import at
from verification.claims.dropout_flatness.prop_1 import II, SILENT, I, pathwise_lower, pathwise_upper
from verification.model import Budget, Claim, Control, Equality, Hypothesis

SADDLE = at((1, 1, 1), "linear", theta=[0, 0, 0, "1/2"], X=[[1], [-1]], y=[0, 1])
ONE_INPUT = {**pair("1/2"), "X": [[1], [1]]}  # both labels at one input: f = ½, silent units

NONZERO = Hypothesis(
    "two layers, w_j ≠ 0",
    r"L = 2,\; w_j \ne 0",
    lambda of: (len(of.at.net.shapes) == 2 and all(w != 0 for w in of.at.w), [float(w) for w in of.at.w]),
)


CLAIMS = (
    Claim(
        id="dropout-flatness/prop-1-i@corrected",
        title="Covariance at least the smallest squared error of a masked output times Hessian",
        source=I + ", corrected",
        statement=r"\nabla E_\eta R = 0 \;\Rightarrow\; \Sigma_{\text{one}} \succeq \min_{i,\eta}(f_\eta(x_i) "
        r"- y_i)^2\;H",
        hypotheses=(STATIONARY, AWAY, NONZERO),
        strategy=minima(),
        explicit=(pair("1/2"),),
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
        "Equality: both labels at one input, f = ½.",
    ),
    Claim(
        id="dropout-flatness/prop-1-ii@corrected",
        title="Covariance at most the largest squared error of a masked output times Hessian",
        source=II + ", corrected",
        statement=r"\nabla E_\eta R = 0 \;\Rightarrow\; \Sigma_{\text{one}} \preceq \max_{i,\eta}(f_\eta(x_i) "
        r"- y_i)^2\;H",
        hypotheses=(STATIONARY, AWAY, NONZERO),
        strategy=minima(),
        explicit=(pair("1/2"),),
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
)
