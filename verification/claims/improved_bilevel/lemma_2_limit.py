r"""Lemma 2, its limit: what characterises w_λ, and that BiG-SAM, the library's, reaches it.

On quadratics, γ > ½: step k has the fixed point p_k, the minimiser of ½wᵀHw + ε_kF/s, ε_k = tα_k/(1−α_k), in the ball
of radius C. With g = ∇F(w_λ), h̃ the smallest nonzero eigenvalue of Q^{−½}HQ^{−½} and D = ‖Q^{−½}g‖/(sh̃√σ_F) the path
of the p_k obeys ‖p_k − w_λ‖ <= Dε_k and ‖p_k − p_{k−1}‖ <= D(ε_{k−1} − ε_k), so

    ‖w_k − p_k‖ <= (1 − 2γ/k)(‖w_{k−1} − p_{k−1}‖ + D(ε_{k−1} − ε_k)),

and ε_{k−1} − ε_k <= 4tc/k² where k >= 2c + 2: by induction ‖w_k − w_λ‖ <= Y/k there, Y = max{4C(c+1) + 2C,
4Dtc/(2γ−1)} + 2Dtc.
"""

from __future__ import annotations

import itertools as it
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.problem import BilevelProblem
from refimpl.rates import Rate
from refimpl.solvers import BiGSAM
from refimpl.zoo import quadratic
from verification.claims.improved_bilevel._instances import (
    GAMMA,
    QUADRATIC,
    STEPS,
    Case,
    cases,
    line,
    plane,
    worst,
)
from verification.claims.improved_bilevel.lemma_2 import SOURCE
from verification.model import Budget, Claim, Control, Hypothesis, Measurement

# -- convergence --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summable(Rate):
    """α_k = c/(k + 1)², at most 1: too little in all."""

    c: float

    def __call__(self, k: int) -> float:
        return min(1.0, self.c / (k + 2) ** 2)


def library(case: Case, alpha: Rate | None = None) -> np.ndarray:
    """w_0 … w_K of the library's solver on the library's quadratics."""
    upper = quadratic.objective(ww=(case.Q + case.Q.T) / 2, w1=-case.Q @ case.a, n=1)
    H = (case.R * case.x) @ case.R.T
    problem = BilevelProblem(upper, quadratic.objective(ww=(H + H.T) / 2, n=1))
    solver = BiGSAM(case.params["K"], s=case.s, t=case.t, alpha=alpha or case.alpha)
    return np.array(solver.run(problem, np.zeros(1), case.w0, keep=None).states)


def tracking(case: Case) -> tuple[float, float]:
    """Y, and D."""
    values, vectors = np.linalg.eigh(case.Q)
    root = (vectors / np.sqrt(values)) @ vectors.T
    H = (case.R * case.x) @ case.R.T
    positive = int((case.x > 0).sum())
    smallest = np.linalg.eigvalsh(root @ H @ root)[-positive] if positive else 1.0
    D = float(np.linalg.norm(root @ case.g) / (case.s * smallest * np.sqrt(case.sigma)))
    grown = 4 * D * case.t * case.c / (2 * case.gamma - 1)
    return max(4 * case.C * (case.c + 1) + 2 * case.C, grown) + 2 * D * case.t * case.c, D


def reached(
    alpha: Callable[[Case], Rate | None] = lambda case: None,
    target: Callable[[Case], np.ndarray] = lambda case: case.solution,
    power: int = 1,
) -> Callable[[Case], Measurement]:
    """k‖w_k − w_λ‖ against Y, for k >= 2c + 2."""

    def measure(case: Case) -> Measurement:
        ks = case.ks[case.ks >= 2 * case.c + 2]
        found = np.linalg.norm(library(case, alpha(case))[ks] - target(case), axis=1)
        return worst(found, tracking(case)[0] / ks.astype(float) ** power, case.rounding, Y=tracking(case)[0])

    return measure


def nearest(case: Case) -> np.ndarray:
    """The minimiser of G nearest to w_0: where gradient descent on G ends."""
    return np.asarray(case.flat @ (case.flat.T @ case.w0))


def _long(case: Case) -> tuple[bool, float]:
    return case.params["K"] >= 4 * case.c + 4, case.c


LONG_RUN = Hypothesis("a run long enough", r"K \ge 4c + 4", _long)
ELSEWHERE = plane(K=2000, s=0.5)

# -- characterisation, over the rationals -------------------------------------------------------------------------


@dataclass(frozen=True)
class Boxed:
    """F = ½(w − a)ᵀQ(w − a), Q 2 × 2, over a box S, the minimisers of ½dist(w, S)²; everything rational."""

    params: Mapping[str, Any]

    @cached_property
    def Q(self) -> tuple[tuple[int, int], tuple[int, int]]:
        p, r, e = self.params["Q"]
        return ((p + abs(e), e), (e, r + abs(e)))

    @cached_property
    def box(self) -> list[tuple[Fraction, Fraction]]:
        return [tuple(sorted(map(Fraction, side))) for side in self.params["box"]]  # type: ignore[misc]  # of two

    def grad(self, w: Any) -> list[Fraction]:
        away = [x - Fraction(a, 2) for x, a in zip(w, self.params["a"], strict=True)]
        return [sum((q * x for q, x in zip(row, away, strict=True)), Fraction(0)) for row in self.Q]

    def value(self, w: Any) -> Fraction:
        away = [x - Fraction(a, 2) for x, a in zip(w, self.params["a"], strict=True)]
        return sum((x * g for x, g in zip(away, self.grad(w), strict=True)), Fraction(0)) / 2

    @cached_property
    def selected(self) -> tuple[Fraction, Fraction]:
        """w_λ: the least F over the minimisers on each face that lie in it."""
        centre = [Fraction(a, 2) for a in self.params["a"]]
        found = []
        for pins in it.product((None, 0, 1), repeat=2):
            w = list(centre)
            for i, pin in enumerate(pins):
                if pin is not None:
                    w[i] = self.box[i][pin]
            free = [i for i, pin in enumerate(pins) if pin is None]
            if len(free) == 1:
                (i,) = free
                w[i] = centre[i] - Fraction(self.Q[i][1 - i], self.Q[i][i]) * (w[1 - i] - centre[1 - i])
            if all(low <= x <= high for x, (low, high) in zip(w, self.box, strict=True)):
                found.append((w[0], w[1]))
        return min(found, key=self.value)

    @property
    def corners(self) -> list[tuple[Fraction, Fraction]]:
        return [(x, y) for x in self.box[0] for y in self.box[1]]


Point = Callable[[Boxed], tuple[Fraction, Fraction]]


def selected(case: Boxed) -> tuple[Fraction, Fraction]:
    """w_λ."""
    return case.selected


def inequality(
    point: Point = selected, at: Point = selected, sign: int = 1
) -> Callable[[Boxed], Measurement]:
    """max over S of −⟨∇F(w), v − w⟩, reached at a corner or at w itself, is 0."""

    def measure(case: Boxed) -> Measurement:
        w, g = point(case), case.grad(at(case))
        steepest = max(
            -sign * sum((a * (x - y) for a, x, y in zip(g, v, w, strict=True)), Fraction(0))
            for v in [*case.corners, w]
        )
        return Measurement(observed=steepest, bound=0)

    return measure


def clipped(case: Boxed) -> tuple[Fraction, Fraction]:
    """The projection of F's minimiser on S, which forgets Q."""
    x, y = (
        min(max(Fraction(a, 2), low), high) for a, (low, high) in zip(case.params["a"], case.box, strict=True)
    )
    return x, y


SQUARE = {"Q": [1, 1, 1], "box": [[0, 1], [0, 1]], "a": [4, 1]}

CLAIMS = (
    Claim(
        id="improved-bilevel/lemma-2",
        title="BiG-SAM tends to the minimiser that is best for F",
        source=SOURCE + ", (40); with a rate derived here",
        statement=r"w_k \to w_\lambda;\ \text{on quadratics, } \gamma > \tfrac12,\ k \ge 2c+2: \quad "
        r"\|w_k - w_\lambda\| \le \frac Yk",
        hypotheses=(QUADRATIC, *STEPS, GAMMA, LONG_RUN),
        strategy=cases(("quadratic",), least=0.5, K=100),
        explicit=(line(K=40), plane(K=60), ELSEWHERE),
        build=Case,
        measure=reached(),
        grade="exact",
        controls=(
            Control("a step of 3/L_G", params=line(s=3.0)),
            Control(
                "Σα_k finite", kind="formula", params=ELSEWHERE, measure=reached(lambda c: Summable(c.c))
            ),
            Control(
                "the minimiser nearest to w_0",
                kind="formula",
                measure=reached(target=nearest),
                params=ELSEWHERE,
            ),
            Control("k² for k", kind="formula", measure=reached(power=2), params=ELSEWHERE),
        ),
        budget=Budget(quick=12, full=1200),
        notes=r"$Y = \max\{4C(c+1)+2C,\ \tfrac{4Dtc}{2\gamma-1}\} + 2Dtc$, $D = \|Q^{-1/2}\nabla F(w_\lambda)\|/"
        r"(s\tilde h\sqrt{\sigma_F})$, $c = \tfrac{2\gamma}{1-\beta}$, $\tilde h$ the smallest nonzero eigenvalue of "
        r"$Q^{-1/2}HQ^{-1/2}$. Limits have no counterexample: what is hunted is this rate, by the library's own "
        r"solver. Only $\sum\alpha_k = \infty$, $\alpha_k \to 0$ and the inequality @characterisation are needed for "
        "the limit itself; without growth of G there is no rate ($G = w^{2p}$ gives $k^{-1/(2p-1)}$).",
    ),
    Claim(
        id="improved-bilevel/lemma-2@characterisation",
        title="The selected minimiser solves a variational inequality",
        source=SOURCE + ", (40)",
        statement=r"\langle\nabla_wF(\lambda, w_\lambda),\ w - w_\lambda\rangle \ge 0 \text{ for every } w \in "
        r"\operatorname{Argmin}G(\lambda,\cdot)",
        strategy=st.fixed_dictionaries(
            {
                "Q": st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(-6, 6)).map(list),
                "box": st.tuples(*[st.tuples(*[st.integers(-3, 3)] * 2).map(list)] * 2).map(list),
                "a": st.tuples(st.integers(-9, 9), st.integers(-9, 9)).map(list),
            }
        ),
        explicit=(SQUARE, {"Q": [1, 2, 0], "box": [[0, 0], [-1, 2]], "a": [1, 7]}),
        build=Boxed,
        measure=inequality(),
        grade="proved",
        controls=(
            Control(
                "the projection of F's minimiser",
                kind="formula",
                measure=inequality(clipped, clipped),
                params=SQUARE,
            ),
            Control("the other sign", kind="formula", measure=inequality(sign=-1), params=SQUARE),
        ),
        budget=Budget(quick=60, full=4000),
        notes="S is a box in the plane, the minimisers of $\\frac12\\operatorname{dist}(w,S)^2$; $w_\\lambda$ is the "
        "best of the candidates on its nine faces. The inequality and convexity of F give back that $w_\\lambda$ "
        "minimises, so it characterises; on an affine S it is an equation.",
    ),
)
