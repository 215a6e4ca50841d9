"""FSLA, a fully single loop algorithm: J. Li, B. Gu, H. Huang, AAAI 2022; lines as in dropout-bilevel, Algorithm 1.

    w⁺ = w − γ_k ∇_wG(λ, w)                                                          line 6
    v⁺ = β_k ∇_wF(λ, w⁺) + (I − β_k ∇²_wwG(λ, w)) v                                  line 7
    h(λ, w⁺, v⁺) = ∇_λF(λ, w⁺) − ∇²_λwG(λ, w⁺) v̂                                    line 9
    d⁺ = h(λ, w⁺, v⁺) + (1 − η_k)(d − h(λ_prev, w, v)),  in the first iteration h     line 10
    λ⁺ = λ − α_k d⁺                                                                  line 11

Every F and G is drawn: on a minibatch, under masks where the level has dropout. Both h of line 10 use this iteration's
draw. Two choices that the text leaves open, or that matter, are fields:

- ``reading`` of line 9: "new", v̂ = v⁺, the argument of h; "old", v̂ = v, as the line is printed (dropout-bilevel).
  The second h of line 10 then has v̂ = v, and the v before it.
- ``randomness``: which of the uses of a level share one draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from refimpl.algorithms.protocol import AdjointState, Algorithm, State, require_minimisation
from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.draws import Draws
from refimpl.errors import BadInput
from refimpl.objective import Objective
from refimpl.problem import BilevelProblem
from refimpl.solvers.lower import require_count, require_positive
from refimpl.spaces import Product

# The draw of each use. Lower level: ∇_wG of line 6, ∇²_wwG of 7, ∇²_λwG of 9; upper level: ∇_wF of 7, ∇_λF of 9.
USES = {
    "shared": ((0, 0, 0), (0, 0)),
    "fresh": ((0, 1, 2), (0, 1)),
    "fresh-cross": ((0, 0, 1), (0, 0)),
}
CHOICES = {"randomness": tuple(USES), "reading": ("new", "old"), "schedule": ("sqrt", "constant")}


@dataclass(frozen=True, eq=False)
class FSLAState(AdjointState):
    """Also the direction d, the λ before and, for reading "old", the v before. Before the first iteration d is 0."""

    d: Array
    lam_prev: Array
    v_prev: Array | None


@dataclass(frozen=True, kw_only=True)
class FSLA(Algorithm):
    """Step sizes α_k = delta/√(k+1), k = 0, 1, … (line 3), γ_k = gamma α_k, β_k = beta α_k, η_k = min(1, eta α_k).

    schedule="constant": α_k = delta. Where √(k+1) is irrational its float is taken, over the rationals too.
    lower_batch, upper_batch: data per draw of that level; None, unless given: all of them, where SID and BSGM draw one.
    It refuses (``BadInput``) step sizes that are no positive numbers, batches below 1, unknown choices, what is no
    ``BilevelProblem``, and a problem with a set for λ: line 11 does not project.
    Cost of an iteration: two gradients in w, a product with the Hessian, two with cross derivatives, two ∇_λF.
    """

    delta: Any
    gamma: Any = 1.0
    beta: Any = 1.0
    eta: Any = 1.0
    schedule: Literal["sqrt", "constant"] = "sqrt"
    randomness: Literal["shared", "fresh", "fresh-cross"] = "shared"
    reading: Literal["new", "old"] = "new"
    lower_batch: int | None = None
    upper_batch: int | None = None

    source: ClassVar[str] = "Li, Gu, Huang, AAAI 2022"
    warm_start: ClassVar[tuple[bool, bool]] = (True, True)
    linear_system: ClassVar[str] = "steps"

    def __post_init__(self) -> None:
        for name in ("delta", "gamma", "beta", "eta"):
            require_positive(
                getattr(self, name),
                name,
                "take a positive number: α_k is delta/√(k+1), and the others multiply it",
            )
        for name in ("lower_batch", "upper_batch"):
            if getattr(self, name) is not None:
                require_count(getattr(self, name), name, least=1)
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise BadInput(
                    f"no such {name}",
                    measured=repr(getattr(self, name)),
                    required=" or ".join(map(repr, known)),
                    advice="the module's docstring says what they are",
                )

    @property
    def constant_from(self) -> int | None:
        return 1 if self.schedule == "constant" else None  # line 10 is h alone in the first iteration

    def sizes(self, k: int) -> tuple[Any, Any, Any, Any]:
        """α_k, γ_k, β_k, η_k: line 3."""
        root = math.isqrt(k + 1)
        alpha = self.delta
        if self.schedule == "sqrt":
            alpha = alpha / (root if root * root == k + 1 else math.sqrt(k + 1))
        return alpha, self.gamma * alpha, self.beta * alpha, min(1, self.eta * alpha)

    def frozen(self, k: int) -> Self:
        """The same with the step sizes of iteration k in every iteration."""
        return replace(self, delta=self.sizes(k)[0], schedule="constant")

    def init(self, problem: BilevelProblem, lam: Any, w: Any = None, v: Any = None) -> FSLAState:
        self._draws(problem)
        if problem.domain is not None:
            raise BadInput(
                f"{type(self).__name__} has no projection onto the problem's set for λ",
                measured=type(problem.domain).__name__,
                required="domain=None: line 11 is λ − α d",
                advice="most others project, TTSA and ALSET for example; where λ may leave the set, or stays inside, "
                "take it away: dataclasses.replace(problem, domain=None)",
            )
        lam, w = problem.lam(lam), problem.w(w)
        v = problem.w(None) if v is None else problem.backend.vector(v, problem.d, "v")
        return FSLAState(0, lam, w, v, 0 * lam, lam, v if self.reading == "old" else None)

    def space(self, problem: BilevelProblem, k: int = 0) -> Product:
        """(draws of the lower level, draws of the upper level), each (masks, data); the same for every k."""
        del k
        drawn = zip(self._draws(problem), USES[self.randomness], strict=True)
        return Product(tuple(Product((draws.space,) * (1 + max(uses))) for draws, uses in drawn))

    def step(self, problem: BilevelProblem, state: State, sample: Any) -> FSLAState:
        old = self.reading == "old"
        if not isinstance(state, FSLAState) or (state.v_prev is not None) != old:
            raise BadInput(
                "this is not a state of this algorithm",
                measured=f"{type(state).__name__} with {', '.join(state.arrays)}",
                required=f"FSLAState {'with' if old else 'without'} v_prev, for reading {self.reading!r}",
                advice="start with algorithm.init(problem, lam, w, v)",
            )
        B, lam, w, v = problem.backend, state.lam, state.w, state.v
        alpha, gamma, beta, eta = (B.scalar(size) for size in self.sizes(state.k))
        (G_w, G_v, G_cross), (F_v, F_lam) = self._drawn(problem, sample)

        new_w = w - gamma * G_w.grad_w(lam, w)
        new_v = beta * F_v.grad_w(lam, new_w) + v - beta * (G_v.hess_ww(lam, w) @ v)
        new_v = self.constrained(B, new_v)

        def h(lam: Array, w: Array, v: Array) -> Array:
            return F_lam.grad_lam(lam, w) - G_cross.cross(lam, w) @ v

        d = h(lam, new_w, v if old else new_v)
        if state.k > 0:
            d = d + (1 - eta) * (state.d - h(state.lam_prev, w, state.v_prev if old else v))
        return FSLAState(state.k + 1, lam - alpha * d, new_w, new_v, d, lam, v if old else None)

    def constrained(self, B: Backend, v: Array) -> Array:
        """What line 8 makes of v: FSLA has none."""
        return v

    def _draws(self, problem: BilevelProblem) -> tuple[Draws, Draws]:
        require_minimisation(problem, type(self).__name__)
        return Draws(problem.lower, self.lower_batch), Draws(problem.upper, self.upper_batch)

    def _drawn(self, problem: BilevelProblem, sample: Any) -> tuple[list[Objective], list[Objective]]:
        """The objective of each use."""
        of_level: list[list[Objective]] = []
        for draws, points, uses in zip(self._draws(problem), sample, USES[self.randomness], strict=True):
            drawn = [draws.at(point) for point in points]
            of_level.append([drawn[use] for use in uses])
        return of_level[0], of_level[1]
