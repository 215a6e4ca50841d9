r"""The rate of Theorem 17's error: exactly one power of q per step, enclosed from both sides over the rationals.

Φ = Aw + bλ(1, …, 1), A = diag(q, others <= q²), E = e Σw_i + m₁‖w‖²/2 + m₂ λw_1, at λ = 0 = w(0). From w_0 = δ(1, …, 1)
the error is, with κ_i = 1/(1 − a_i) and up to its sign,

    Σ_i bκ_i(e − m₁δ)a_iᵗ + Σ_i bκ_i m₁δ a_i²ᵗ − m₂δ qᵗ.

Let c be the factor of qᵗ and R the sum of the other factors' sizes, each of which multiplies at most q²ᵗ. Where
|c| >= R, | ‖δ‖ − |c|qᵗ | <= Rq²ᵗ <= |c|q²ᵗ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl import FixedPointProblem, approximate, exact_hypergradient, solvers
from refimpl.arrays import backend
from refimpl.zoo import maps, quadratic
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement

RATIONAL = backend("rational")
TIMES = (1, 2, 4, 8)  # t at which the error is judged


@dataclass(frozen=True)
class Line:
    """The problem of the module's docstring; ``leading`` is |c|, ``rest`` R."""

    problem: FixedPointProblem
    q: fmpq
    w0: Any
    leading: fmpq
    rest: fmpq

    def errors(self, ts: Iterable[int]) -> list[fmpq]:
        """‖δ‖ after t + t steps, for each t."""
        lam, found = RATIONAL.zeros((1,)), []
        exact = exact_hypergradient(self.problem, lam, certify="never").value
        for t in ts:
            lower, linear = solvers.FixedPoint(t), solvers.FixedPointAdjoint(t)
            near = approximate.implicit(self.problem, lam, lower=lower, linear=linear, w0=self.w0)
            found.append(abs(near.value[0] - exact[0]))
        return found


def build(p: Mapping[str, Any]) -> Line:
    """q, b, e, m1, m2, delta and ``others`` (shares of q²) in sixteenths."""
    q, b, e, m1, m2, delta = (fmpq(p[name], 16) for name in ("q", "b", "e", "m1", "m2", "delta"))
    a = [q, *(q * q * x / 16 for x in p["others"])]
    d = len(a)
    eye, (to_b, to_e, to_m1, to_m2) = np.eye(d), (float(x) for x in (b, e, m1, m2))  # sixteenths are floats
    upper = quadratic.objective(ww=to_m1 * eye, lw=to_m2 * eye[:1], w1=np.full(d, to_e))
    phi = maps.affine(np.diag([float(x) for x in a]), np.full((d, 1), to_b))
    problem = FixedPointProblem(upper, phi).to("rational")
    each = [b / (1 - x) for x in a]
    leading = abs(each[0] * (e - m1 * delta) - m2 * delta)
    rest = sum((abs(x * (e - m1 * delta)) for x in each[1:]), fmpq(0))
    rest += sum((abs(x * m1 * delta) for x in each), fmpq(0))
    return Line(problem, q, delta + RATIONAL.zeros((d,)), leading, rest)


def enclosed(line: Line, halves: int = 2) -> Measurement:
    """The error below what is above it and above what is below it, as squares; q^(t·halves/2) in place of qᵗ."""
    pairs = []
    for t, error in zip(TIMES, line.errors(TIMES), strict=True):
        centre = line.leading**2 * line.q ** (halves * t)
        low, high = (centre * (1 + sign * line.q**t) ** 2 for sign in (-1, 1))
        pairs += [(error**2, high), (low, error**2)]
    if any(bound == 0 < observed for observed, bound in pairs):
        return Measurement(observed=1, bound=0)
    return Measurement(observed=max((x / y for x, y in pairs if y), default=fmpq(0)), bound=1)


def curve(line: Line) -> dict[str, Any]:
    """The error within its enclosure."""
    ts = range(1, TIMES[-1] + 1)
    lines = {
        "above": [float(line.leading * line.q**t * (1 + line.q**t)) for t in ts],
        "‖δ‖": [float(x) for x in line.errors(ts)],
        "below": [float(line.leading * line.q**t * (1 - line.q**t)) for t in ts],
    }
    return {"x": list(ts), "lines": lines, "xlabel": "t = k", "ylabel": "‖δ‖", "logy": True}


def _leads(line: Line) -> tuple[bool, str]:
    return line.leading >= line.rest and line.leading > 0, str(line.leading)


_positive, _signed = st.integers(1, 16), st.integers(-16, 16)
SIMPLE = {"q": 8, "b": 16, "e": 16, "m1": 0, "m2": 0, "delta": 16, "others": []}
HALF = {**SIMPLE, "m1": 8}  # c = R: the error is c(qᵗ + q²ᵗ)

CLAIMS = (
    Claim(
        id="contraction/theorem-17@rate",
        title="The deterministic error loses exactly one factor q per step where the bound is attained",
        source="contraction, Theorem 17, as a rate",
        statement=r"|c|\,q^t(1-q^t)\le\|\delta\|\le|c|\,q^t(1+q^t),\quad c=b\kappa_q(e-m_1\delta)-m_2\delta",
        hypotheses=(
            Hypothesis(
                "the leading coefficient does not cancel",
                r"|c|\ge\text{the sizes of all other coefficients},\;c\ne0",
                _leads,
            ),
        ),
        strategy=st.fixed_dictionaries(
            {
                "q": st.integers(1, 13),
                "b": _positive,
                "e": _positive,
                "m1": _signed,
                "m2": _signed,
                "delta": _signed,
                "others": st.lists(st.integers(0, 16), max_size=3),
            }
        ),
        explicit=(SIMPLE, {**SIMPLE, "m2": -16}, {**SIMPLE, "others": [8]}),
        build=build,
        measure=enclosed,
        grade="proved",
        controls=(
            Control("the coefficient of qᵗ cancels", params={**SIMPLE, "m1": 16}),
            Control(
                "predicted q²ᵗ",
                kind="formula",
                measure=lambda line: enclosed(line, 4),
                params={**SIMPLE, "q": 4},
            ),
            Control("predicted √qᵗ", kind="formula", measure=lambda line: enclosed(line, 1), params=SIMPLE),
            Control(
                "half of c",
                kind="formula",
                measure=lambda line: enclosed(
                    Line(line.problem, line.q, line.w0, line.leading / 2, line.rest)
                ),
                params=SIMPLE,
            ),
        ),
        equality=Equality(params=HALF, reaches=1),
        curve=curve,
        budget=Budget(quick=20, full=1200),
        notes=rf"$t=k$ in {TIMES}, over the rationals: nothing is fitted. So the exponent of $q$ between $t$ and "
        r"$t'$ is one up to $\log\tfrac{1+q^t}{1-q^{t'}}\big/\big((t'-t)\log\tfrac1q\big)$. Instances: "
        r"diagonal $\partial_1\Phi$ with one eigenvalue $q$ and the others at most $q^2$. Where the "
        r"coefficient of $q^t$ cancels the error decays like $q^{2t}$.",
    ),
)
