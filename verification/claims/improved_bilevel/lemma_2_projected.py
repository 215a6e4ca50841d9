r"""Lemma 2 where y_k is projected: y_k = P_W(w_{k−1} − s∇G), w_λ the best minimiser of G on W.

P is nonexpansive and fixes w_λ with w ↦ P(w − s∇G), so the ball is the same; the prox inequality G(y) − G(w_λ) <=
⟨w − y, w − w_λ⟩/s gives the same value bound, with ‖w_{k−1} − y_k‖ <= 8γ²C/((2γ−1)(1−β)k) in place of s‖∇G‖. With
growth G − min_W G >= (σ/2)dist² on W, D = dist(y_k, S) and r = ‖w_{k−1} − y_k‖: (sσ)D² <= 2rD + r², so
D <= (1 + √(1 + sσ)) r/(sσ).

Instances: W = [0, ∞)^d, G = ½ Σ x_i(w_i − b_i)², F = (q/2)‖w − a‖²: S is {max(b_i, 0)} where x_i > 0 and [0, ∞)
elsewhere, and the growth constant is the least positive x_i.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.problem import BilevelProblem
from refimpl.sets import Box
from refimpl.solvers import Averaging, BiGSAM, Projection, contraction_of
from refimpl.zoo import quadratic
from verification.claims.improved_bilevel._instances import EPS, three, worst
from verification.claims.improved_bilevel.lemma_2 import SOURCE
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, reals


@dataclass(frozen=True)
class Orthant:
    """One problem and the library's run on it."""

    params: Mapping[str, Any]

    @property
    def d(self) -> int:
        return int(self.params["d"])

    def entries(self, name: str) -> np.ndarray:
        return np.array(self.params[name][: self.d], dtype=float)

    @cached_property
    def t(self) -> float:
        """share/q: β² = 1 − share."""
        return float(self.params["share"] / self.params["q"])

    @cached_property
    def beta(self) -> float:
        return contraction_of(self.params["q"], self.params["q"], self.t)

    @property
    def c(self) -> float:
        return float(2 * self.params["gamma"] / (1 - self.beta))

    @cached_property
    def solution(self) -> np.ndarray:
        x, b, a = self.entries("x"), self.entries("b"), self.entries("a")
        return np.maximum(np.where(x > 0, b, a), 0)

    @cached_property
    def w0(self) -> np.ndarray:
        return np.asarray(self.solution + self.entries("start"))

    @cached_property
    def C(self) -> float:
        slope = self.t * self.params["q"] * float(np.linalg.norm(self.solution - self.entries("a")))
        return max(float(np.linalg.norm(self.w0 - self.solution)), slope / (1 - self.beta))

    @property
    def ks(self) -> np.ndarray:
        return np.arange(1, self.params["K"] + 1)

    @cached_property
    def states(self) -> np.ndarray:
        """w_0 … w_K."""
        x, b, a, p = self.entries("x"), self.entries("b"), self.entries("a"), self.params
        upper = quadratic.objective(ww=p["q"] * np.eye(self.d), w1=-p["q"] * a, n=1)
        problem = BilevelProblem(upper, quadratic.objective(ww=np.diag(x), w1=-x * b, n=1))
        alpha = Averaging(self.beta, p["gamma"])
        solver = BiGSAM(p["K"], s=p["s"], t=self.t, alpha=alpha, prox=Projection(Box(0.0, None)))
        return np.array(solver.run(problem, np.zeros(1), self.w0, keep=None).states)

    @cached_property
    def lower(self) -> np.ndarray:
        """y_1 … y_K."""
        w = self.states[:-1]
        return np.maximum(w - self.params["s"] * self.entries("x") * (w - self.entries("b")), 0)

    def gap(self, w: np.ndarray) -> np.ndarray:
        """G − min G on W."""
        x, b = self.entries("x"), self.entries("b")
        return ((w - b) ** 2 - (self.solution - b) ** 2) @ x / 2

    @cached_property
    def rounding(self) -> float:
        size = self.C + sum(
            float(np.linalg.norm(v)) for v in (self.entries("a"), self.entries("b"), self.solution)
        )
        return 10 * self.d * self.params["K"] * EPS * size

    @property
    def growth(self) -> float:
        """σ as ``stated``: that times the least positive x_i, 1 where nothing is said."""
        x = self.entries("x")
        return float(x[x > 0].min()) * self.params.get("stated", 1.0)


def bounded(radius: Callable[[Orthant], float] = lambda case: case.C) -> Callable[[Orthant], Measurement]:
    """‖w_k − w_λ‖, k = 1 … K."""

    def measure(case: Orthant) -> Measurement:
        found = np.linalg.norm(case.states[1:] - case.solution, axis=1)
        return worst(found, np.full(len(found), radius(case)), case.rounding)

    return measure


def slow(case: Orthant) -> np.ndarray:
    """8γ²C/((2γ − 1)(1 − β)k)."""
    gamma = case.params["gamma"]
    return np.asarray(8 * gamma**2 * case.C / ((2 * gamma - 1) * (1 - case.beta) * case.ks))


def value(share: Callable[[Orthant], Any] = lambda case: 1.0) -> Callable[[Orthant], Measurement]:
    """G(y_k) − min G."""

    def measure(case: Orthant) -> Measurement:
        size = float(np.abs(case.entries("b")).sum()) + 2 * case.C
        bound = slow(case) * case.C / case.params["s"] * share(case)
        return worst(case.gap(case.lower), bound, size * case.rounding)

    return measure


def distance(
    root: Callable[[float], float] = lambda u: 1 + np.sqrt(1 + u),
) -> Callable[[Orthant], Measurement]:
    """dist(y_k, S) against (1 + √(1 + sσ))‖w_{k−1} − y_k‖/(sσ)."""

    def measure(case: Orthant) -> Measurement:
        y, x = case.lower, case.entries("x")
        nearest = np.where(x > 0, case.solution, y)
        u = case.params["s"] * case.growth
        moved = np.linalg.norm(case.states[:-1] - y, axis=1)
        return worst(np.linalg.norm(y - nearest, axis=1), root(u) * moved / u, case.rounding * (1 + 3 / u))

    return measure


def _touches(case: Orthant) -> tuple[bool, float]:
    return case.c < case.params["K"], case.c


def _lower_step(case: Orthant) -> tuple[bool, float]:
    reached = case.params["s"] * float(case.entries("x").max())
    return 0 < reached <= 1, reached


HYPOTHESES = (
    Hypothesis("the schedule touches G", r"\tfrac{2\gamma}{1-\beta} < K", _touches),
    Hypothesis("step on G", r"0 < s \le 1/L_G", _lower_step),
    Hypothesis("not at the solution already", "C > 0", lambda case: (case.C > 0, case.C)),
)
GROWTH = Hypothesis(
    "growth",
    r"G - \min_WG \ge \tfrac\sigma2\operatorname{dist}(\cdot,S)^2",
    lambda case: (case.params.get("stated", 1.0) <= 1, case.growth),
)
GAMMA = Hypothesis(
    "γ above one half", r"\tfrac12 < \gamma \le 1", lambda c: (c.params["gamma"] > 0.5, c.params["gamma"])
)


def orthants(least: float) -> Any:
    """Strategy; γ > ``least``."""
    return st.fixed_dictionaries(
        {
            "d": st.integers(1, 3),
            "x": three(st.one_of(st.just(0.0), reals(1e-2, 1, log=True))).filter(lambda x: x[0] > 0),
            "b": three(reals(-2, 2)),
            "a": three(reals(-3, 3)),
            "q": st.sampled_from([1.0, 0.25, 4.0]),
            "start": three(reals(-2, 2)),
            "s": st.sampled_from([1.0, 0.5, 0.1]),
            "share": st.sampled_from([1.0, 0.75, 0.5]),
            "gamma": reals(least + (1 - least) / 64, 1),
            "K": st.just(60),
        }
    )


CORNER = {
    "d": 1,
    "x": [1.0],
    "b": [-1.0],
    "a": [1.0],
    "q": 1.0,
    "start": [0.0],
    "s": 1.0,
    "share": 1.0,
    "gamma": 1.0,
    "K": 20,
}
PLANE = {
    **CORNER,
    "d": 2,
    "x": [0.1, 0.0],
    "b": [1.0, 0.0],
    "a": [-1.0, -1.0],
    "start": [1.0, 1.0],
    "share": 0.75,
}
TIGHT = {**CORNER, "x": [0.05], "b": [0.0], "start": [1.0], "K": 60}
COMMON: dict[str, Any] = {
    "source": SOURCE + ", with constraints",
    "build": Orthant,
    "grade": "exact",
    "explicit": ({**CORNER, "x": [0.5]}, PLANE, TIGHT),
}
NOTED = " $W = [0,\\infty)^d$, $G = \\frac12\\sum x_i(w_i-b_i)^2$, $F = \\frac q2\\|w-a\\|^2$; the library's solver."
LONG = Control("a step of 3/L_G", params={**CORNER, "b": [1.0], "a": [2.0], "s": 3.0, "start": [0.5]})

CLAIMS = (
    Claim(
        id="improved-bilevel/lemma-2@projected",
        title="With projected steps the iterates stay in the same ball",
        statement=r"y_k = P_W(w_{k-1}-s\nabla G): \quad \|w_k-w_\lambda\| \le C = \max\left\{\|w_0-w_\lambda\|,\ "
        r"\tfrac{t\|\nabla F(w_\lambda)\|}{1-\beta}\right\}",
        hypotheses=HYPOTHESES,
        strategy=orthants(0.0),
        measure=bounded(),
        controls=(
            Control(
                "a step of 3/L_G",
                params={
                    **CORNER,
                    "b": [3.0],
                    "a": [3.0],
                    "s": 3.0,
                    "start": [0.5],
                    "share": 0.75,
                    "gamma": 0.1,
                },
            ),
            Control(
                "C without t‖∇F‖/(1 − β)",
                kind="formula",
                params=CORNER,
                measure=bounded(lambda c: float(np.linalg.norm(c.w0 - c.solution))),
            ),
            Control("half of C", kind="formula", measure=bounded(lambda c: c.C / 2), params=CORNER),
        ),
        equality=Equality(params=CORNER, reaches=0.999),
        budget=Budget(quick=20, full=1500),
        notes="The projection is nonexpansive, and $w_\\lambda$ is a fixed point of the projected step. $w_k$ itself "
        "may leave W: $z_k$ is not projected." + NOTED,
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/lemma-2@projected-value",
        title="With projected steps the lower value obeys the same bound",
        statement=r"\gamma > \tfrac12: \quad G(y_k) - \min_WG \le \frac{8\gamma^2C^2}{(2\gamma-1)s(1-\beta)k}",
        hypotheses=(*HYPOTHESES, GAMMA),
        strategy=orthants(0.5),
        measure=value(),
        controls=(
            LONG,
            Control("k² for k", kind="formula", measure=value(lambda c: 1 / c.ks), params=TIGHT),
            Control("a fiftieth", kind="formula", measure=value(lambda c: 1 / 50), params=TIGHT),
        ),
        budget=Budget(quick=20, full=1500),
        notes="The prox inequality, and $\\|w_{k-1}-y_k\\| \\le 8\\gamma^2C/((2\\gamma-1)(1-\\beta)k)$ as without "
        "constraints, though this is no longer $s\\|\\nabla G\\|$." + NOTED,
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/lemma-2@projected-distance",
        title="With quadratic growth the length of a projected step bounds the distance to the minimisers",
        statement=r"\operatorname{dist}(y_k, S) \le \frac{1+\sqrt{1+s\sigma}}{s\sigma}\|w_{k-1}-y_k\|",
        hypotheses=(*HYPOTHESES, GROWTH),
        strategy=orthants(0.0),
        measure=distance(),
        controls=(
            Control("σ stated four times too large", params={**TIGHT, "stated": 4.0}),
            Control(
                "a quarter",
                kind="formula",
                measure=distance(lambda u: (1 + np.sqrt(1 + u)) / 4),
                params=TIGHT,
            ),
        ),
        budget=Budget(quick=20, full=1500),
        notes="$s\\sigma D^2 \\le 2rD + r^2$ with $D = \\operatorname{dist}(y_k,S)$, $r = \\|w_{k-1}-y_k\\|$."
        + NOTED,
        **COMMON,
    ),
)
