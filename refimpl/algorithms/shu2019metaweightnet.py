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
    """alpha: α_k, the steps of w; eta: η_k, those of λ, which go with the derivative's own factor α_k.

    With a weight function η has a range: where it is small no samples are told apart, where it is large V saturates,
    at 1 or at 0 for all of them. The steps on w, and a small ridge, must let the losses differ first.

    >>> from refimpl.algorithms import run
    >>> from refimpl.zoo import weight_function
    >>> data = {"train": 200, "validation": 100, "corrupted": 0.4, "classes": (1, 4, 7, 8), "pool": 2}
    >>> task = weight_function.digits(**data, step=5.0, reg=0.001)
    >>> found = run(MetaWeightNet(alpha=1, eta=3), task, task.start(), steps=200, rng=0).state
    >>> weights = task.phi.weights(found.lam, found.w)  # ω_i = V(ℓ_i(w); λ)
    >>> wrong = weight_function.digits_data(**data).corrupted
    >>> bool(weights[wrong].mean() < weights[~wrong].mean() / 2)
    True
    """

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
