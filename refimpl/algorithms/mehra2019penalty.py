"""The penalty method, A. Mehra, J. Hamm, arXiv 2019, and the augmented Lagrangian that reweighting proposes instead.

    φ_γ(λ, w; v) = F(λ, w) − vᵀ∇_wG(λ, w) + (γ/2)‖∇_wG(λ, w)‖²,    v = 0 throughout in the penalty method

In iteration k = 0, 1, …, descent on φ of γ = γ_k in both levels' variables in turn:

    w ← w − β_k ∂φ/∂w,  T times, from the w of the iteration before
    λ⁺ = P_Λ(λ − α_k ∂φ/∂λ)
    v⁺ = v − γ_k ∇_wG(λ⁺, w)                                                     the augmented Lagrangian alone

∂φ/∂w = ∇_wF − ∇²_wwG v₊ and ∂φ/∂λ = ∇_λF − ∇²_λwG v₊ with v₊ = v − γ_k∇_wG. On minibatches v₊ has a batch of its own:
both are unbiased. The penalty method's limit is off by O(1/γ), and its condition number grows as γ: let γ_k grow,
Drops(γ_0, at=…, factor < 1), and α_k, β_k fall like 1/γ_k. v tends to the adjoint, and a bounded γ suffices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from refimpl.algorithms.pieces import Scheduled, adjoint_start, constant, moved, require_state
from refimpl.algorithms.protocol import AdjointState, State
from refimpl.approximate.penalty import AugmentedLagrangian
from refimpl.arrays.backend import Array
from refimpl.draws import Draws
from refimpl.problem import BilevelProblem
from refimpl.spaces import Product, Repeated


@dataclass(frozen=True, kw_only=True)
class Penalty(Scheduled):
    """alpha, beta: the step sizes of λ and w. gamma: γ_k, a number or a schedule. steps: T.

    Cost of an iteration: T + 1 gradients ∇_wG, T gradients ∇_wF, T products with the Hessian, one with the cross
    derivative, one ∇_λF.
    """

    alpha: Any
    beta: Any
    gamma: Any
    steps: Any = 1

    source: ClassVar[str] = "Mehra, Hamm, arXiv 2019"
    warm_start: ClassVar[tuple[bool, bool]] = (True, False)
    linear_system: ClassVar[str] = "none"
    rates: ClassVar[tuple[str, ...]] = ("alpha", "beta", "gamma")
    lengths: ClassVar[tuple[str, ...]] = ("steps",)

    @property
    def constant_from(self) -> int | None:
        return 0 if constant(self.alpha, self.beta, self.gamma, self.steps) else None

    def space(self, problem: BilevelProblem, k: int = 0) -> Product:
        """T + 1 times: (a draw of the lower level for v₊, another for the product with it, one of the upper level)."""
        lower, upper = Draws(problem.lower, self.lower_batch), Draws(problem.upper, self.upper_batch)
        return Product((Repeated(Product((lower.space, lower.space, upper.space)), self.steps(k) + 1),))

    def step(self, problem: BilevelProblem, state: Any, sample: Any) -> State:
        state = require_state(state, State, self)
        lam, w = self._descended(problem, state.k, state.lam, state.w, 0 * state.w, sample[0])
        return State(state.k + 1, lam, w)

    def _descended(
        self, problem: BilevelProblem, k: int, lam: Array, w: Array, v: Array, points: Any
    ) -> tuple[Array, Array]:
        """λ⁺ and w."""
        lower, upper = Draws(problem.lower, self.lower_batch), Draws(problem.upper, self.upper_batch)
        gamma, beta = problem.backend.scalar(self.gamma(k)), problem.backend.scalar(self.beta(k))
        space = Product((lower.space, lower.space, upper.space))
        *inner, last = Repeated(space, self.steps(k) + 1).each(points)

        def drawn(point: Any) -> tuple[BilevelProblem, Array]:
            """The levels of a draw, and v₊ at (λ, w) from the lower level of another."""
            first, second, above = point
            phi = AugmentedLagrangian(problem.with_level(lower.at(first)), lam, v, gamma)
            return replace(problem, upper=upper.at(above), lower=lower.at(second)), phi.multiplier(w)

        for point in inner:
            at, v_plus = drawn(point)
            w = w - beta * (at.upper.grad_w(lam, w) - at.lower.hess_ww(lam, w) @ v_plus)
        at, v_plus = drawn(last)
        return moved(problem, lam, self.alpha(k), at.hypergradient_at(lam, w, v_plus)), w


@dataclass(frozen=True, kw_only=True)
class AugmentedLagrangianMethod(Penalty):
    """The same with the multiplier v, updated once in every iteration: a gradient ∇_wG more."""

    source: ClassVar[str] = "reweighting, (21)"
    warm_start: ClassVar[tuple[bool, bool]] = (True, True)

    def init(self, problem: BilevelProblem, lam: Any, w: Any = None, v: Any = None) -> AdjointState:
        state = super().init(problem, lam, w)
        return AdjointState(0, state.lam, state.w, adjoint_start(problem, v))

    def space(self, problem: BilevelProblem, k: int = 0) -> Product:
        """The penalty method's, and a draw of the lower level for the multiplier."""
        return Product((*super().space(problem, k).factors, Draws(problem.lower, self.lower_batch).space))

    def step(self, problem: BilevelProblem, state: Any, sample: Any) -> AdjointState:
        state = require_state(state, AdjointState, self)
        k, (points, last) = state.k, sample
        lam, w = self._descended(problem, k, state.lam, state.w, state.v, points)
        drawn = problem.with_level(Draws(problem.lower, self.lower_batch).at(last))
        gamma = problem.backend.scalar(self.gamma(k))
        return AdjointState(k + 1, lam, w, AugmentedLagrangian(drawn, lam, state.v, gamma).multiplier(w))
