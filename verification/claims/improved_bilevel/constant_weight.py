"""BiG-SAM with a constant weight: where it stops, how fast, and that this is not w_λ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import rates
from refimpl.approximate.penalty import tikhonov
from refimpl.exact.lower import solve_lower
from refimpl.solvers import BiGSAM
from verification.claims.improved_bilevel._instances import (
    EPS,
    LOWER_STEP,
    UPPER_STEP,
    Case,
    bigsam,
    cases,
    line,
    worst,
)
from verification.claims.improved_bilevel._moving import Moving, at, moving, sizes
from verification.model import Budget, Claim, Control, Correction, Equality, Measurement, identity, reals

SOURCE = "improved-bilevel, (12) and algorithm 1 with one α"


@dataclass(frozen=True)
class Constant:
    """One problem, s = 1/8, t = 1/4 and a constant α, a pair."""

    case: Moving
    params: Mapping[str, Any]

    @property
    def alpha(self) -> Fraction:
        return Fraction(*self.params["alpha"])

    @property
    def s(self) -> Fraction:
        return Fraction(1, 8)

    @property
    def t(self) -> Fraction:
        return Fraction(1, 4)

    def step(self, w: np.ndarray) -> np.ndarray:
        solver = BiGSAM(1, s=self.s, t=self.t, alpha=self.alpha)
        return np.asarray(solver.run(self.case.problem, self.case.lam, w).w)

    def proxy(self, eps: Fraction) -> np.ndarray:
        return np.asarray(solve_lower(tikhonov(self.case.problem, eps), self.case.lam).w)

    @property
    def matched(self) -> Fraction:
        """αt/((1 − α)s)."""
        return self.alpha * self.t / ((1 - self.alpha) * self.s)

    @cached_property
    def solution(self) -> np.ndarray:
        return np.array([x.value for x in self.case.selected(self.case.lam)[0]], dtype=object)


def stays(point: Callable[[Constant], np.ndarray]) -> Callable[[Constant], Measurement]:
    """The step from a point against the point."""

    def measure(c: Constant) -> Measurement:
        w = point(c)
        return identity(c.step(w), w)

    return measure


def at_eps(eps: Callable[[Constant], Fraction] = lambda c: c.matched) -> Callable[[Constant], Measurement]:
    """The step from the Tikhonov point of ε against that point; mutants: another ε."""
    return stays(lambda c: c.proxy(eps(c)))


def constant(params: Mapping[str, Any]) -> Constant:
    """The problem and method of these parameters."""
    return Constant(moving(params), dict(params))


# -- speed ---------------------------------------------------------------------------------------------------------


def tikhonov_point(case: Case, alpha: float) -> np.ndarray:
    """argmin G + εF at ε = αt/((1 − α)s), G = ½wᵀHw."""
    eps = alpha * case.t / ((1 - alpha) * case.s)
    H = (case.R * case.x) @ case.R.T
    return np.asarray(np.linalg.solve(H + eps * case.Q, eps * case.Q @ case.a))


def contracts(
    factor: Callable[[float, float], float] = lambda alpha, beta: 1 - alpha * (1 - beta),
    to_solution: bool = False,
) -> Callable[[Case], Measurement]:
    """‖w_k − w_ε‖ <= (1 − α(1 − β))^k ‖w_0 − w_ε‖ for every k <= K; mutants: the factor, w_λ for w_ε."""

    def measure(case: Case) -> Measurement:
        alpha, K = case.params["alpha"], case.params["K"]
        states, _ = bigsam(
            case.grad_G,
            case.grad_F,
            case.w0,
            s=case.s,
            t=case.t,
            alpha=rates.Constant(alpha),
            steps=K,
        )
        target = case.solution if to_solution else tikhonov_point(case, alpha)
        distances = np.linalg.norm(np.array(states) - target, axis=1)
        size = float(distances[0] + np.linalg.norm(target) + np.linalg.norm(case.a))
        # the solve for w_ε has condition number at most (1 + εL_F)/(εσ_F), ε = αt/((1 − α)s)
        eps = alpha * case.t / ((1 - alpha) * case.s)
        rounding = 10 * case.d * EPS * size * (K + (1 + eps * case.smoothness) / (eps * case.sigma))
        bounds = factor(alpha, case.beta) ** np.arange(K + 1) * distances[0]
        return worst(distances[1:], bounds[1:], rounding)

    return measure


def of(n: int, d: int, r: int, alpha: tuple[int, int] = (1, 2), **more: Any) -> dict[str, Any]:
    """Parameters of one problem with its α."""
    return at(n, d, r, alpha=list(alpha), **more)


ALPHAS = st.sampled_from(([1, 2], [1, 10], [1, 100], [9, 10]))
COMMON: dict[str, Any] = {
    "source": SOURCE,
    "strategy": sizes(alpha=ALPHAS),
    "build": constant,
    "grade": "proved",
}
FLAT = line(d=2, x=[1.0, 0.0], q=[1.0, 1.0], a=[0.0, 1.0], start=[0.0, 1.0], alpha=0.5, K=20)

CLAIMS = (
    Claim(
        id="improved-bilevel/constant-weight",
        title="With a constant weight BiG-SAM stops at the Tikhonov point of ε = αt/((1−α)s)",
        statement=r"w_\varepsilon = \alpha(w_\varepsilon - t\nabla_wF) + (1-\alpha)(w_\varepsilon - "
        r"s\nabla_wG), \quad \varepsilon = \frac{\alpha t}{(1-\alpha)s}",
        **COMMON,
        explicit=(of(1, 1, 1), of(1, 2, 1), of(2, 3, 2, (1, 100))),
        measure=at_eps(),
        controls=(
            Control("1 − α left out", kind="formula", measure=at_eps(lambda c: c.alpha * c.t / c.s)),
            Control(
                "s and t exchanged",
                kind="formula",
                measure=at_eps(lambda c: c.alpha * c.s / ((1 - c.alpha) * c.t)),
            ),
            Control("half of ε", kind="formula", measure=at_eps(lambda c: c.matched / 2)),
        ),
        budget=Budget(quick=40, full=1000),
        notes="$\\alpha t\\nabla_wF + (1-\\alpha)s\\nabla_wG = 0$, multiplied out. How far that is from "
        "$w_\\lambda$: see tikhonov; a constant weight trades that bias against speed.",
    ),
    Claim(
        id="improved-bilevel/constant-weight@solution",
        title="Nobody prints this: with a constant weight BiG-SAM's iterates tend to the solution",
        statement=r"w_\lambda = \alpha(w_\lambda - t\nabla_wF) + (1-\alpha)(w_\lambda - s\nabla_wG)",
        **COMMON,
        explicit=(of(1, 1, 1, seed=1), of(1, 2, 1), of(2, 3, 2, (1, 100))),
        measure=stays(lambda c: c.solution),
        controls=(Control("half of ε", kind="formula", measure=at_eps(lambda c: c.matched / 2)),),
        corrected=Correction(
            tex=r"w_\varepsilon = \alpha(w_\varepsilon - t\nabla_wF) + (1-\alpha)(w_\varepsilon - "
            r"s\nabla_wG)",
            measure=at_eps(),
            proof="At $w_\\lambda$ the step moves by $-\\alpha t\\nabla_wF(w_\\lambda)$, which is 0 only "
            "where $w_\\lambda$ minimises $F$ without any constraint. Weights with $\\alpha_k \\to 0$, "
            "$\\sum\\alpha_k = \\infty$ are what brings $w_\\lambda$.",
        ),
        budget=Budget(quick=40, full=600),
        notes="Nobody prints this: a reading that lets the weight be a constant. "
        "A limit of the iterates is a fixed point of the step, so it is enough to look at "
        "$w_\\lambda$.",
    ),
    Claim(
        id="improved-bilevel/constant-weight@rate",
        title="With a constant weight the Tikhonov point is reached linearly",
        source=SOURCE,
        statement=r"\|w_k - w_\varepsilon\| \le (1 - \alpha(1-\beta))^k\,\|w_0 - w_\varepsilon\|",
        hypotheses=(LOWER_STEP, UPPER_STEP),
        strategy=cases(("quadratic",), K=20, alpha=reals(0.05, 0.9)),
        explicit=(FLAT, line(alpha=0.25, K=20, start=[1.0])),
        build=lambda params: Case(dict(params)),
        measure=contracts(),
        grade="exact",
        controls=(
            Control("a step on F of four times its limit", params=FLAT | {"share": 4.0}),
            Control(
                "β² for β", kind="formula", measure=contracts(lambda alpha, beta: 1 - alpha * (1 - beta**2))
            ),
            Control("to the solution", kind="formula", measure=contracts(to_solution=True)),
        ),
        equality=Equality(params=FLAT, reaches=0.999),
        budget=Budget(quick=40, full=1500),
        notes="$\\alpha Z + (1-\\alpha)T$, $Z$ a $\\beta$-contraction and $T$ nonexpansive. So it is faster "
        "than the vanishing weights' $1/k$, to the wrong point. Equality: $\\beta = 0$, a flat coordinate.",
    ),
)
