"""The rate of Theorem 17's error: exactly one power of q per step, on instances that attain the bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import FixedPointProblem, approximate, exact_hypergradient, solvers
from refimpl.arrays.backend import Array
from refimpl.zoo import maps, quadratic
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, rate

# What decays like q²ᵗ is at most 1e-2 of the leading term at the first point and less at the others; a least
# squares line over log 1e4 turns that into an error of the exponent below 1e-3. Twice that:
HALF_WIDTH = 0.002
FIRST, LAST, POINTS = 1e-2, 1e-6, 8  # the window: 1e-2 >= qᵗ >= 1e-6


@dataclass(frozen=True)
class Line:
    """Φ = Aw + bλ(1, …, 1), A = diag(q, others <= q²), E = e Σw_i + m1‖w‖²/2 + m2 λw_1, at λ = 0 = w(0).

    From w_0 = δ(1, …, 1) the error is, with κ_i = 1/(1 − a_i) and up to its sign,
    Σ_i bκ_i(e − m1 δ)a_iᵗ + Σ_i bκ_i m1 δ a_i²ᵗ − m2 δ qᵗ: ``leading`` is qᵗ's factor, ``rest`` the others'.
    """

    problem: FixedPointProblem
    q: float
    w0: Array
    leading: float
    rest: float

    def errors(self, ts: list[int]) -> list[float]:
        """‖δ‖ after t + t steps, for each t."""
        lam, found = np.zeros(1), []
        exact = exact_hypergradient(self.problem, lam, certify="never").value
        for t in ts:
            lower, linear = solvers.FixedPoint(t), solvers.FixedPointAdjoint(t)
            near = approximate.implicit(self.problem, lam, lower=lower, linear=linear, w0=self.w0)
            found.append(float(np.linalg.norm(near.value - exact)))
        return found


def build(p: dict[str, Any]) -> Line:
    """The line of the parameters q, b, e, m1, m2, delta and ``others`` (shares of q²)."""
    q, b, e, m1, m2, delta = (p[name] for name in ("q", "b", "e", "m1", "m2", "delta"))
    a = np.array([q, *(q * q * x for x in p["others"])])
    d = len(a)
    upper = quadratic.objective(ww=m1 * np.eye(d), lw=m2 * np.eye(d)[:1], w1=np.full(d, e))
    problem = FixedPointProblem(upper, maps.affine(np.diag(a), np.full((d, 1), b)))
    each = b / (1 - a)
    leading = abs(each[0] * (e - m1 * delta) - m2 * delta)
    rest = np.abs(each[1:] * (e - m1 * delta)).sum() + np.abs(each * m1 * delta).sum()
    return Line(problem, q, np.full(d, delta), float(leading), float(rest))


def slope(line: Line, predicted: float = 1.0) -> Measurement:
    """Least squares of log‖δ‖ against t log q over the window."""
    first, last = (math.log(x) / math.log(line.q) for x in (FIRST, LAST))
    ts = sorted({math.ceil(t) for t in np.linspace(first, last, POINTS)})
    fitted = np.polyfit(np.array(ts) * math.log(line.q), np.log(line.errors(ts)), 1)[0]
    return rate(float(fitted), predicted, HALF_WIDTH, window=[ts[0], ts[-1]])


def curve(line: Line) -> dict[str, Any]:
    """The error and its leading term, from the start to the end of the window."""
    ts = list(range(round(math.log(LAST) / math.log(line.q)) + 1))
    return {
        "x": ts,
        "predicted": [line.leading * line.q**t for t in ts],
        "measured": line.errors(ts),
        "xlabel": "t = k",
        "ylabel": "‖δ‖",
        "logy": True,
    }


def _leads(line: Line) -> tuple[bool, float]:
    return line.leading >= max(line.rest, 1e-3), line.leading


_positive, _signed = st.floats(0.1, 1), st.floats(-1, 1)
SIMPLE = {"q": 0.5, "b": 1.0, "e": 1.0, "m1": 0.0, "m2": 0.0, "delta": 1.0, "others": []}

CLAIMS = (
    Claim(
        id="contraction/theorem-17@rate",
        title="The deterministic error loses exactly one factor q per step where the bound is attained",
        source="contraction, Theorem 17, as a rate",
        statement=r"\log\|\delta\|\sim t\log q:\quad\text{the fitted exponent of }q\text{ is }t,\text{ "
        r"within 0.2\,\%}",
        hypotheses=(
            Hypothesis(
                "the leading coefficient does not cancel",
                r"|b\kappa_q(e-m_1\delta)-m_2\delta|\ge\text{the sizes of all other coefficients}",
                _leads,
            ),
        ),
        strategy=st.fixed_dictionaries(
            {
                "q": st.floats(0.1, 0.8),
                "b": _positive,
                "e": _positive,
                "m1": _signed,
                "m2": _signed,
                "delta": _signed,
                "others": st.lists(st.floats(0, 1), max_size=3),
            }
        ),
        explicit=(SIMPLE, {**SIMPLE, "m2": -1.0}, {**SIMPLE, "others": [0.5]}),
        build=build,
        measure=slope,
        grade="exact",
        controls=(
            Control("the coefficient of qᵗ cancels", params={**SIMPLE, "m1": 1.0}),
            Control("predicted q²ᵗ", kind="formula", measure=lambda line: slope(line, 2.0)),
            Control("predicted √qᵗ", kind="formula", measure=lambda line: slope(line, 0.5)),
        ),
        curve=curve,
        budget=Budget(quick=60, full=1200),
        notes=r"Fit window fixed beforehand: 8 values of $t$ with $10^{-2}\ge q^t\ge10^{-6}$. Instances: "
        r"diagonal $\partial_1\Phi$ with one eigenvalue $q$ and the others at most $q^2$. Where the "
        r"coefficient of $q^t$ cancels the error decays like $q^{2t}$.",
    ),
)
