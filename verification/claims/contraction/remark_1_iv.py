r"""Remark 1 (iv): biased regularisation keeps the starting distance bounded although λ runs over all of R^m.

ℓ(w, λ) = g(w) + (β/2)‖w − λ‖² has ∇g(w(λ)) + β(w(λ) − λ) = 0, so ‖w(λ) − λ‖ = ‖∇g(w(λ))‖/β <= L_g/β for an
L_g-Lipschitz g: w_0(λ) = λ meets B(iii) with B = L_g/β, whatever λ. The text asks g to be smooth, which is not enough:
g = ‖w‖²/2 has w(λ) = βλ/(1+β) and ‖w(λ) − λ‖ = ‖λ‖/(1+β). Smooth is what makes Φ a contraction; ∂₂Φ = ηβ I is B(iv).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import BilevelProblem
from refimpl.arrays.backend import Array
from refimpl.datasets import Episode
from refimpl.exact import solve_lower
from refimpl.objective import descent_map
from refimpl.zoo import biased, quadratic
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement, identity

EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Pulled:
    """A lower level g(w) + (β/2)‖w − (λ, …, λ)‖² (its mean over the tasks), L_g as stated, ∇g's slope, and a λ."""

    problem: BilevelProblem
    strength: float
    tasks: int
    L_g: float
    bend: float  # no less than ‖∇²g‖
    lam: Array

    @cached_property
    def centre(self) -> Array:
        """λ for every task: where w starts."""
        return np.tile(self.lam, self.tasks)

    @cached_property
    def solution(self) -> Array:
        """w(λ)."""
        return solve_lower(self.problem, self.lam, start=self.centre).w

    def own_gradient(self, w: Array) -> Array:
        """∇g(w): the level's gradient (a mean over tasks) without the pull."""
        return self.tasks * self.problem.lower.grad_w(self.lam, w) - self.strength * (w - self.centre)

    @cached_property
    def rounding(self) -> float:
        """10 d eps/β of what adds up to ∇g(w) + β(w − λ): so far off is a w with no residual but rounding.

        It does not look at the residual that was reached: a w that solves nothing is not excused by it.
        """
        size = float(np.linalg.norm(self.solution) + np.linalg.norm(self.centre))
        summed = (self.bend + self.strength) * size + self.L_g
        return 10 * self.problem.d * EPS * summed / self.strength


def episodes(tasks: int, seed: int) -> Episode:
    """Three classes, four samples of two features per task."""
    rng = np.random.default_rng(seed)
    X, X_query = (rng.standard_normal((tasks, 4, 2)) for _ in range(2))
    y = np.tile(np.array([0, 1, 2, 0]), (tasks, 1))
    return Episode(X, y, X_query, y)


def build(p: dict[str, Any]) -> Pulled:
    """g linear, softmax cross entropy of some tasks, or a square; λ = ``far`` times a random vector."""
    rng, beta = np.random.default_rng(p["seed"]), p["strength"]
    if p["g"] == "softmax":
        data = episodes(p["tasks"], p["seed"])
        problem = biased.problem(data, ways=3, strength=beta)
        # the gradient of one sample is (softmax − one-hot) xᵀ, and ‖softmax − one-hot‖ <= √2
        each = np.sqrt(2) * np.mean(np.linalg.norm(data.support_X, axis=2), axis=1)
        tasks, L_g = p["tasks"], float(np.linalg.norm(each))
        bend = float(np.max(np.mean(np.sum(data.support_X**2, axis=2), axis=1)))  # ‖diag s − ssᵀ‖ <= 1
    else:
        n, tasks = 2, 1
        slope = rng.standard_normal(n) if p["seed"] else np.array([1.0, 0.0])
        bend = 1.0 if p["g"] == "square" else 0.0
        lower = quadratic.objective(
            ww=(bend + beta) * np.eye(n), lw=-beta * np.eye(n), ll=beta * np.eye(n), w1=slope
        )
        problem = BilevelProblem(quadratic.objective(ww=np.eye(n), n=n), lower)
        L_g = float(np.linalg.norm(slope))
    way = rng.standard_normal(problem.n)
    lam = p["far"] * way / np.linalg.norm(way)
    return Pulled(problem, beta, tasks, p.get("stated", 1.0) * L_g, bend, lam)


def distance(start: Callable[[Pulled], Array] = lambda one: one.centre) -> Callable[[Pulled], Measurement]:
    """‖w(λ) − w_0(λ)‖ against L_g/β."""

    def measure(one: Pulled) -> Measurement:
        away = float(np.linalg.norm(one.solution - start(one)))
        return Measurement(observed=away, bound=one.L_g / one.strength, rounding=one.rounding)

    return measure


def by_formula(one: Pulled) -> Measurement:
    """w(λ) − λ against −(λ + a)/(1 + β), g = ‖w‖²/2 + ⟨a, w⟩."""
    a = one.problem.lower.grad_w(0 * one.lam, 0 * one.solution)
    exact = -(one.lam + a) / (1 + one.strength)
    return identity(one.solution - one.centre, exact, rounding=2 * one.rounding)


def jacobian(power: int = 1) -> Callable[[Pulled], Measurement]:
    """‖∂₂Φ‖ of Φ = w − η∇₁ℓ against ηβ^power, η = 1/(1 + β)."""

    def measure(one: Pulled) -> Measurement:
        eta = 1 / (1 + one.strength)
        found = descent_map(one.problem.lower, eta).d_lam(one.lam, one.solution).dense()
        exact = eta * one.strength**power / one.tasks * np.tile(np.eye(one.problem.n), (one.tasks, 1))
        size = 10 * one.problem.d * EPS * eta * one.strength
        return identity(found, exact, rounding=size)

    return measure


def _lipschitz(one: Pulled) -> tuple[bool, float]:
    """‖∇g‖ at w(λ), at λ, and far along both directions of λ."""
    points = (one.solution, one.centre, 100 * one.centre, -100 * one.centre)
    most = max(float(np.linalg.norm(one.own_gradient(w))) for w in points)
    size = one.strength * 200 * float(np.linalg.norm(one.centre))  # what cancels when the pull is taken off
    return most <= one.L_g + 10 * one.problem.d * EPS * (one.L_g + size), most


LINEAR = {"g": "linear", "seed": 0, "tasks": 1, "strength": 2.0, "far": 1.0}  # ½ for every λ
TASKS = {"g": "softmax", "seed": 1, "tasks": 2, "strength": 0.5, "far": 4.0}
SQUARE = {**LINEAR, "g": "square", "strength": 1.0, "far": 8.0}
LIPSCHITZ = Hypothesis("g Lipschitz", r"\|\nabla g(w)\|\le L_g", _lipschitz)
_boxes = {
    "seed": st.integers(1, 200),
    "tasks": st.integers(1, 3),
    "strength": st.sampled_from([0.125, 0.5, 2.0]),
    "far": st.sampled_from([0.0, 0.5, 4.0, 64.0, 1024.0]),
}
COMMON: dict[str, Any] = {"build": build, "grade": "exact"}
CLAIMS = (
    Claim(
        id="contraction/remark-1-iv",
        title="Biased regularisation bounds the starting distance over all of R^m",
        source="contraction, Remark 1 (iv), reading: g Lipschitz; its formulas are lost, restored",
        statement=r"\ell=g(w)+\tfrac\beta2\|w-\lambda\|^2,\;\|\nabla g\|\le L_g,\;w_0(\lambda)=\lambda:\quad"
        r"\|w(\lambda)-w_0(\lambda)\|\le\frac{L_g}\beta\text{ for every }\lambda\in\mathbb R^m",
        hypotheses=(LIPSCHITZ,),
        strategy=st.fixed_dictionaries({"g": st.sampled_from(["linear", "softmax"]), **_boxes}),
        explicit=(LINEAR, TASKS, {**TASKS, "far": 1024.0}),
        measure=distance(),
        controls=(
            Control("g = ‖w‖²/2 + a linear term", params=SQUARE),
            Control("L_g stated too small", params={**LINEAR, "stated": 0.5}),
            Control(
                "w₀ = 0",
                kind="formula",
                measure=distance(lambda one: 0 * one.centre),
                params={**LINEAR, "far": 64.0},
            ),
        ),
        equality=Equality(params={**LINEAR, "far": 64.0}, reaches=0.999),
        budget=Budget(quick=25, full=600),
        notes=r"Few-shot episodes with a softmax head per task and one shared $\lambda$ "
        r"(`refimpl.zoo.biased`), up to $\|\lambda\|=1024$; equality for linear $g$. So $B=L_g/\beta$ "
        r"holds on $\Lambda=\mathbb R^m$, and $L_\Phi=\eta\beta$ (@jacobian). From $w_0=0$ the distance "
        r"grows like $\|\lambda\|$.",
        **COMMON,
    ),
    Claim(
        id="contraction/remark-1-iv@smooth",
        title="Biased regularisation with a g that is smooth only",
        source="contraction, Remark 1 (iv), reading: g smooth, as the surviving words have it; the bound is put "
        "here for the lost one",
        statement=r"\ell=g(w)+\tfrac\beta2\|w-\lambda\|^2,\;\nabla g\text{ Lipschitz}:\quad\|w("
        r"\lambda)-\lambda\|\le\frac{\|\nabla g(0)\|}\beta\text{ for every }\lambda\in\mathbb R^m",
        strategy=st.fixed_dictionaries({"g": st.just("square"), **_boxes}),
        explicit=({**SQUARE, "far": 4.0}, SQUARE, {**SQUARE, "far": 64.0}),
        measure=distance(),
        corrected=Correction(
            tex=r"g=\tfrac12\|w\|^2+\langle a,w\rangle:\quad w(\lambda)-\lambda=-\frac{\lambda+a}{1+\beta}",
            measure=by_formula,
            proof=r"The lower level's first-order condition is $w+a+\beta(w-\lambda)=0$. In general "
            r"$w(\lambda)-\lambda=-\tfrac1\beta\nabla g(w(\lambda))$, bounded in $\lambda$ where $\nabla g$ is: see "
            r"remark-1-iv. Here no constant bounds it.",
        ),
        budget=Budget(quick=15, full=200),
        notes=r"The remark's sentence keeps the word smooth before its lost formula; $\|\nabla g(0)\|/\beta$ is "
        r"printed nowhere and stands for any constant. Smooth alone does not bound the distance: for "
        r"$g=\|w\|^2/2+w_1$ it grows like $\|\lambda\|/(1+\beta)$, whatever constant is put there.",
        **COMMON,
    ),
    Claim(
        id="contraction/remark-1-iv@jacobian",
        title="Biased regularisation's map has the derivative ηβ in λ everywhere",
        source="contraction, Remark 1 (iv): B(iv) for biased regularisation",
        statement=r"\Phi=w-\eta\nabla_1\ell:\quad\partial_2\Phi=\eta\beta I\text{ for each task (a mean "
        r"over }T\text{ tasks: }\tfrac{\eta\beta}TI)",
        strategy=st.fixed_dictionaries({"g": st.sampled_from(["linear", "softmax"]), **_boxes}),
        explicit=(LINEAR, TASKS),
        measure=jacobian(),
        controls=(
            Control("β² for β", kind="formula", measure=jacobian(2), params=LINEAR),
            Control("without β", kind="formula", measure=jacobian(0), params=LINEAR),
        ),
        budget=Budget(quick=20, full=300),
        notes=r"So the uniform bound on $\partial_2\Phi$ that other works ask for holds here, too.",
        **COMMON,
    ),
)
