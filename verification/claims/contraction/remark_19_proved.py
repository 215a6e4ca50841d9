r"""Remark 19 on a line, over the rationals: the sum of remark-19 is attained at every s, without any rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl import FixedPointProblem, solvers
from refimpl.arrays import backend
from refimpl.arrays.backend import Array
from refimpl.exact import solve_lower
from refimpl.zoo.maps import AffineMap
from refimpl.zoo.uppers import linear
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement

RATIONAL = backend("rational")


@dataclass(frozen=True)
class Exact:
    """Φ = qw + bλ on R over the rationals, w(λ) = bλ/(1−q); t steps at each λ_s from where the last ones ended."""

    problem: FixedPointProblem
    q: fmpq
    L_Phi: fmpq
    lams: tuple[fmpq, ...]
    w0: fmpq
    t: int

    @property
    def L_w(self) -> fmpq:
        return self.L_Phi / (1 - self.q)

    def errors(self, warm: bool = True) -> list[fmpq]:
        """|w − w(λ_s)| after iteration s."""
        found, w = [], np.array([self.w0], dtype=object)
        for lam in self.lams:
            at = np.array([lam], dtype=object)
            start = w if warm else np.array([self.w0], dtype=object)
            w = solvers.FixedPoint(self.t).run(self.problem, at, start).w
            found.append(abs(w[0] - solve_lower(self.problem, at).w[0]))
        return found

    def bound(self, first: Any = 1, extra: int = 0) -> fmpq:
        """q^{t(S+1)}|w_0 − w(λ_0)| + L_wΣ_j q^{t(S−j+1)}|λ_j − λ_{j−1}|."""
        S, shrink = len(self.lams) - 1, self.q ** (self.t + extra)
        start = abs(self.w0 - solve_lower(self.problem, np.array([self.lams[0]], dtype=object)).w[0])
        moved = sum(
            (shrink ** (S - j + 1) * abs(self.lams[j] - self.lams[j - 1]) for j in range(1, S + 1)), fmpq(0)
        )
        return first * shrink ** (S + 1) * start + self.L_w * moved


def exact(p: dict[str, Any]) -> Exact:
    """q in 16ths, the rest in halves."""
    q, b = fmpq(p["q"], 16), fmpq(p["b"], 2)

    def matrix(x: fmpq) -> Array:
        return np.array([[[x]]], dtype=object)

    phi = AffineMap(matrix(q), matrix(b), np.array([[fmpq(0)]], dtype=object), RATIONAL)
    problem = FixedPointProblem(linear([1.0], n=1).to(RATIONAL), phi)
    lams = tuple(fmpq(k, 2) for k in p["lams"])
    stated = fmpq(*p.get("stated", [1, 1]))
    return Exact(problem, abs(q), stated * abs(b), lams, fmpq(p["w0"], 2), p["t"])


def tracked(first: Any = 1, extra: int = 0, warm: bool = True) -> Callable[[Exact], Measurement]:
    """The error after the last iteration against the sum."""

    def measure(one: Exact) -> Measurement:
        return Measurement(observed=one.errors(warm)[-1], bound=one.bound(first, extra))

    return measure


def _derivative(one: Exact) -> tuple[bool, str]:
    zero = np.array([fmpq(0)], dtype=object)
    slope = abs(one.problem.phi.d_lam(zero, zero).dense()[0, 0])
    return bool(slope <= one.L_Phi), f"|∂₂Φ| = {slope}"


def _curve(one: Exact) -> dict[str, Any]:
    def upto(S: int) -> Exact:
        return Exact(one.problem, one.q, one.L_Phi, one.lams[: S + 1], one.w0, one.t)

    return {
        "x": list(range(len(one.lams))),
        "predicted": [float(upto(S).bound()) for S in range(len(one.lams))],
        "measured": [float(e) for e in one.errors()],
        "xlabel": "s",
        "ylabel": "|w − w(λ_s)|",
    }


# -- claims -----------------------------------------------------------------------------------------------

MARCH = {
    "q": 8,
    "b": 1,
    "lams": [0, 2, 4, 6, 8, 10, 12],
    "w0": 0,
    "t": 1,
}  # Φ = (w + λ)/2, λ_s = s: 1 − 2^{−s}
_seven = st.tuples(*[st.integers(-12, 12)] * 5).map(list)

CLAIMS = (
    Claim(
        id="contraction/remark-19@proved",
        title="Warm start on a line over the rationals: the first distance is forgotten, old moves of λ are too",
        source="contraction, Remark 19, over the rationals; Remark 9 and Theorem 8 without noise",
        statement=r"\|w-w(\lambda_S)\|\le q^{t(S+1)}\|w_0-w(\lambda_0)\|+L_"
        r"\Phi\kappa_q\sum_{j=1}^Sq^{t(S-j+1)}\|\lambda_j-\lambda_{j-1}\|",
        hypotheses=(Hypothesis("B(iv)", r"\|\partial_2\Phi\|\le L_\Phi", _derivative),),
        strategy=st.fixed_dictionaries(
            {
                "q": st.integers(-15, 15),
                "b": st.integers(-4, 4),
                "lams": _seven,
                "w0": st.integers(-8, 8),
                "t": st.integers(1, 4),
            }
        ),
        explicit=(MARCH, {**MARCH, "w0": -4}, {**MARCH, "q": -8, "lams": [0, 3, -3, 1, 5, 0]}),
        build=exact,
        measure=tracked(),
        grade="proved",
        controls=(
            Control("L_Φ stated too small", params={**MARCH, "stated": [1, 2]}),
            Control("cold start", kind="formula", measure=tracked(warm=False), params=MARCH),
            Control("without w₀", kind="formula", measure=tracked(first=0), params={**MARCH, "w0": -4}),
            Control("t + 1 for t", kind="formula", measure=tracked(extra=1), params=MARCH),
        ),
        equality=Equality(params=MARCH, reaches=1.0),
        curve=_curve,
        budget=Budget(quick=40, full=600),
        notes=r"Equality for every $s$: $\Phi=(w+\lambda)/2$, $w_0=w(\lambda_0)$, $t=1$, $\lambda_s=s$: warm "
        r"$1-2^{-s}<1$, cold $s/2$, unbounded as $B$ would have to be.",
    ),
)
