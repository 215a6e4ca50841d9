"""Meta-Weight-Net: J. Shu, Q. Xie, L. Yi, Q. Zhao, S. Zhou, Z. Xu, D. Meng, NeurIPS 2019. In iteration k = 0, 1, …

    λ⁺ = P_Λ(λ − η_k d/dλ F(λ, ŵ)),  ŵ = w − α_k r(λ, w)                      through one virtual step; reweighting, (5)
    w⁺ = w − α_k r(λ⁺, w)                                                     with the new λ; (6)

On a ``BilevelProblem`` r = ∇_wG, and λ may be free weights ω of the samples. On a ``FixedPointProblem``
r = w − Φ(λ, w): with α = 1 both steps are Φ, which may hold a weight function of the loss, of parameters λ
(``refimpl.zoo.weight_function``), as in the article. No weight is clipped unless Λ says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from refimpl.algorithms.pieces import constant, moved
from refimpl.algorithms.protocol import State
from refimpl.algorithms.virtual_step import VirtualStep, through_one_step
from refimpl.approximate.iteration import lower_step
from refimpl.problem import Problem


@dataclass(frozen=True, kw_only=True)
class MetaWeightNet(VirtualStep):
    """alpha: α_k, the steps of w; eta: η_k, those of λ, which go with the derivative's own factor α_k."""

    eta: Any

    source: ClassVar[str] = "Shu, Xie, Yi, Zhao, Zhou, Xu, Meng, NeurIPS 2019"
    rates: ClassVar[tuple[str, ...]] = ("alpha", "eta")

    @property
    def constant_from(self) -> int | None:
        return 0 if constant(self.alpha, self.eta) else None

    def init(self, problem: Problem, lam: Any, w: Any = None) -> State:
        self.space(problem)  # refuses batches of what has none
        return State(0, problem.lam(lam), problem.w(w))

    def step(self, problem: Problem, state: State, sample: Any) -> State:
        k, lam, w = state.k, state.lam, state.w
        drawn, F = self.drawn(problem, sample)
        alpha = problem.backend.scalar(self.alpha(k))
        lam = moved(problem, lam, self.eta(k), through_one_step(drawn, F, lam, w, alpha))
        return State(k + 1, lam, lower_step(drawn, lam, w, alpha))
