"""Theorem 17: the deterministic hypergradient's error ‖δ‖ <= C qᵗ with t = k, and over the iterations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import Hypergradient, approximate, solvers
from refimpl.approximate import Approximation
from refimpl.arrays.backend import Array
from refimpl.constants import Constants
from verification.claims.contraction._assumptions import IN_W, assumptions, too_small
from verification.claims.contraction._instances import (
    Case,
    Place,
    case,
    cases,
    point_region,
    rounding,
    scalar,
    unit,
)
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement

Factor = Callable[[Constants], float]


@dataclass(frozen=True)
class Estimate:
    """t lower and t adjoint steps with η = 1 from w_0 and v_0 = 0; B(iii) promises ‖w_0 − w(λ)‖ <= ``B``."""

    of: Case
    place: Place
    w0: Array
    B: float
    t: int
    answer: Hypergradient | None
    s: int = 0
    pace: float = 1.0

    @property
    def grid(self) -> tuple[Sequence[Array], Sequence[Array]]:
        """λ, and w(λ) with w_0."""
        return [self.of.lam], [self.place.region.w, self.w0]

    def constants(self) -> Constants:
        """L_Φ is the norm at w(λ), all that B(iv) asks for at this λ."""
        assert self.answer is not None  # the hypotheses have been checked
        at_solution = self.of.problem.phi.d_lam(self.of.lam, self.answer.w).dense()
        return replace(self.place.constants, L_Phi=float(np.linalg.norm(at_solution, 2)), B=self.B)

    def after(self, t: int) -> Approximation:
        """The hypergradient of the method after t + t steps."""
        lower, linear = solvers.FixedPoint(t), solvers.FixedPointAdjoint(t)
        return approximate.implicit(self.of.problem, self.of.lam, lower=lower, linear=linear, w0=self.w0)

    def measured(self, t: int, bound: float) -> Measurement:
        """The error after t steps against a bound; an iterate's rounding adds up to κ_q times a step's."""
        c, e, near = self.constants(), self.answer, self.after(t)
        assert e is not None
        ends = ((near.w, near.v), (e.w, e.v))
        errors = [rounding(self.of, c, self.of.lam, w, v).value for w, v in ends]
        observed = float(np.linalg.norm(near.value - e.value))
        return Measurement(observed=observed, bound=bound, rounding=sum(errors))


def build(p: dict[str, Any]) -> Estimate:
    """w_0 lies ``reach`` times B from w(λ)."""
    of = case(p)
    place = point_region(of, p["B"]).stated(p)
    answer = None if place.proved is None else of.exact(of.lam)
    w0 = place.region.w + p["reach"] * p["B"] * unit(of.problem.d, p["direction"])
    return Estimate(of, place, w0, p["B"], p.get("t", 0), answer, p.get("s", 0), p.get("pace", 1.0))


# -- the bound --------------------------------------------------------------------------------------


def lower_part(c: Constants) -> float:
    """c₁B."""
    return c.c1 * c.B


def adjoint_part(c: Constants) -> float:
    """L_ΦL_Eκ_q."""
    return c.L_Phi * c.L_E * c.kappa_q


def product_part(c: Constants) -> float:
    """ν₂BL_Eκ_q."""
    return c.nu2 * c.B * c.L_E * c.kappa_q


def sharp(c: Constants) -> float:
    """C without the product's term: enough where v_0 = 0."""
    return lower_part(c) + adjoint_part(c)


def printed(c: Constants) -> float:
    """C = c₁B + L_ΦL_Eκ_q + ν₂BL_Eκ_q."""
    return sharp(c) + product_part(c)


def error(one: Estimate, factor: Factor = printed, power: Callable[[int], float] = float) -> Measurement:
    """‖δ‖ against factor · q^power."""
    c = one.constants()
    return one.measured(one.t, factor(c) * c.q ** power(one.t))


def _mutant(name: str, factor: Factor, power: Callable[[int], float] = float) -> Control:
    return Control(name, kind="formula", measure=lambda one: error(one, factor, power))


def _curve(one: Estimate) -> dict[str, Any]:
    seen = [error(replace(one, t=t), sharp) for t in range(0, 41, 2)]
    return {
        "x": list(range(0, 41, 2)),
        "predicted": [m.bound + m.rounding for m in seen],
        "measured": [m.observed for m in seen],
        "xlabel": "t = k",
        "ylabel": "‖δ‖",
        "logy": True,
    }


# -- the schedule -----------------------------------------------------------------------------------


def steps(one: Estimate, s: float, rounded: Callable[[float], int] = math.ceil) -> int:
    """t_s = ⌈c₃ log(s + 1)⌉ with c₃ = pace/log(1/q)."""
    return rounded(one.pace * math.log(s + 1) / -math.log(one.place.constants.q))  # 1/q may overflow


def schedule(one: Estimate, count: Callable[[Estimate], int] = lambda one: steps(one, one.s)) -> Measurement:
    """‖δ_s‖ after t_s steps against C/(s + 1)."""
    return one.measured(count(one), printed(one.constants()) / (one.s + 1))


# -- hypotheses, instances --------------------------------------------------------------------------


def _contracts(one: Estimate) -> tuple[bool, Any]:
    return one.place.contracts(one.of, (one.of.lam, one.place.region.w))


def _near(one: Estimate) -> tuple[bool, float]:
    r = one.place.region
    distance = float(np.linalg.norm(one.w0 - r.w))
    eps = 10 * one.of.problem.d * one.of.problem.backend.eps  # w_0 = w(λ) + offset was rounded
    return distance <= one.B + eps * (one.B + float(np.linalg.norm(r.w))), distance


def _slow_enough(one: Estimate) -> tuple[bool, Any]:
    if one.place.proved is not None and one.place.proved.q == 0:
        return False, "q = 0: c₃ = 0 takes no step at all"
    return one.pace >= 1, one.pace


A_AND_B = (
    Hypothesis("A(i)", r"\|\partial_1\Phi(w,\lambda)\|\le q<1\ \text{on the ball of radius }B", _contracts),
    Hypothesis("B(iii)", r"\|w_0-w(\lambda)\|\le B", _near),
    *assumptions(*IN_W),
)
SLOW = Hypothesis("c₃", r"q>0,\;c_3\log(1/q)\ge1", _slow_enough)
BALL = {"B": st.floats(1e-3, 1), "reach": st.floats(0, 1), "direction": st.integers(0, 9)}
_AT = {"B": 0.5, "reach": 1.0, "direction": 0}
LINE = {**scalar(b=1.0, e=1.0), **_AT}
ONLY_LOWER = {**scalar(m2=1.0), **_AT, "t": 1}  # E = wλ at λ = 0: the error is μ₂qᵗB
ONLY_CROSS = {**scalar(nu2=1.0, e=1.0), **_AT, "t": 20}  # ∂₂Φ = w at w(λ) = 0: what c₁ holds of ν₂
COMMON: dict[str, Any] = {"build": build, "grade": "exact", "budget": Budget(quick=120, full=2400)}
TIGHT: tuple[tuple[str, dict[str, Any]], ...] = (("L_E", {**LINE, "t": 5}), ("mu2", ONLY_LOWER))
BEYOND = Control("‖w₀ − w(λ)‖ above B", params={**ONLY_LOWER, "reach": 3.0})

CLAIMS = (
    Claim(
        id="contraction/theorem-17@error",
        title="Deterministic error of the hypergradient after t lower and t adjoint steps",
        source="contraction, Theorem 17, proof: (34) and the line after it; the constants are lost, restored",
        statement=r"t=k,\;\eta=1,\;v_0=0:\quad\|\delta\|\le Cq^t,\quad C=c_1B+L_\Phi "
        r"L_E\kappa_q+\nu_2BL_E\kappa_q",
        hypotheses=A_AND_B,
        strategy=cases(**BALL, t=st.integers(0, 40)),
        explicit=({**LINE, "t": 1}, ONLY_LOWER, {**ONLY_CROSS, "t": 1}),
        measure=error,
        controls=(
            BEYOND,
            *(too_small(*of) for of in TIGHT),
            _mutant("without c₁B", lambda c: adjoint_part(c) + product_part(c)),
            _mutant("without κ_q", lambda c: lower_part(c) + adjoint_part(c) * (1 - c.q) + product_part(c)),
            _mutant("t + 1 for t", printed, lambda t: t + 1),
            _mutant("q²ᵗ for qᵗ", printed, lambda t: 2 * t),
        ),
        equality=Equality(params={**LINE, "t": 5}, reaches=0.999),
        curve=_curve,
        notes=r"theorem-4-i@deterministic at $t=k$, with $\sqrt{\rho(t)}=q^tB$, $\sqrt{\sigma(k)}=q^kL_E\kappa_q$ and "
        r"$q^{2t}\le q^t$. Equality: $\Phi=qw+\lambda$, $E=w$. No control drops $\nu_2BL_E\kappa_q$, because that term "
        r"is not needed: see the reading error-sharp. The constants hold on the ball of radius $B$ around "
        r"$w(\lambda)$.",
        **COMMON,
    ),
    Claim(
        id="contraction/theorem-17@error-sharp",
        title="Deterministic error without the product's term, which a start at v₀ = 0 makes superfluous",
        source="contraction, Theorem 17, sharpened here",
        statement=r"t=k,\;\eta=1,\;v_0=0:\quad\|\delta\|\le(c_1B+L_\Phi L_E\kappa_q)\,q^t",
        hypotheses=A_AND_B,
        strategy=cases(**BALL, t=st.integers(0, 40)),
        explicit=({**LINE, "t": 1}, ONLY_LOWER, ONLY_CROSS),
        measure=lambda one: error(one, sharp),
        controls=(
            BEYOND,
            *(too_small(*of) for of in TIGHT),
            too_small("nu2", ONLY_CROSS),
            _mutant("without c₁B", adjoint_part),
            _mutant("without L_ΦL_Eκ_q", lower_part),
            _mutant("without ν₂ in c₁", lambda c: sharp(replace(c, nu2=0.0))),
            _mutant("t + 1 for t", sharp, lambda t: t + 1),
        ),
        equality=Equality(params=ONLY_CROSS, reaches=0.999),
        curve=_curve,
        notes=r"From $v_0=0$ the iterate is the partial sum "
        r"$v_k=\sum_{i<k}(\partial_1\Phi^{\top})^i\nabla_1E$, so $\|v_k\|\le L_E\kappa_q(1-q^k)$ instead of "
        r"$L_E\kappa_q(1+q^k)$: in the proof of Theorem 4 the term $\nu_2\delta\varepsilon$ disappears. Two "
        r"equality cases: $\Phi=qw+\lambda$ with $E=w$, and $\Phi=qw+\lambda w$ with $E=w$ at $\lambda=0$.",
        **COMMON,
    ),
    Claim(
        id="contraction/theorem-17@schedule",
        title="Logarithmically many inner steps make the error of the s-th hypergradient O(1/s)",
        source="contraction, Theorem 17: t_s = k_s = ⌈c₃ log(s + 1)⌉",
        statement=r"t_s=k_s=\lceil "
        r"c_3\log(s+1)\rceil,\;c_3\ge\tfrac1{\log(1/q)}\;\Rightarrow\;\|\delta_s\|\le "
        r"\frac{C}{s+1}",
        hypotheses=(*A_AND_B, SLOW),
        strategy=cases(**BALL, s=st.integers(0, 100), pace=st.floats(1, 2)),
        explicit=({**LINE, "s": 0}, {**LINE, "s": 2}, {**LINE, "s": 99}),
        measure=schedule,
        controls=(
            Control("c₃ half as large", params={**LINE, "s": 99, "pace": 0.5}),
            too_small("L_E", {**LINE, "s": 7}),
            Control(
                "rounded down",
                kind="formula",
                measure=lambda one: schedule(one, lambda o: steps(o, o.s, math.floor)),
            ),
            Control(
                "log s for log(s + 1)",
                kind="formula",
                measure=lambda one: schedule(one, lambda o: steps(o, max(o.s - 1, 0))),
            ),
        ),
        equality=Equality(params={**LINE, "s": 7}, reaches=0.999),
        notes=r"The reading @error with $q^{t_s}\le e^{-\log(s+1)}$. It follows that "
        r"$\sum_s\|\delta_s\|^2\le\tfrac{\pi^2}{6}C^2$, since $\sum_s(s+1)^{-2}=\tfrac{\pi^2}{6}$; that sum is "
        r"not measured. Equality at $q=\tfrac12$, $s+1$ a power of 2. Half the $c_3$ "
        r"gives $\|\delta_s\|\approx C/\sqrt{s+1}$, whose squares are not summable.",
        **COMMON,
    ),
)
