"""What reweighting's methods share: one virtual step ŵ = w − α r(λ, w), and the derivative of F(λ, ŵ) in λ through it.

λ are weights ω of the samples, and r = ∇_wG of G(ω, w) = (1/N) Σ_i ω_i ℓ_i(w): then ŵ is (3) of the note, and the
derivative is −(α/N) ∇F(ŵ)·∇ℓ_i(w). Or λ are the parameters of a weight function, and r = w − Φ(λ, w).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from refimpl.algorithms.pieces import Scheduled
from refimpl.approximate.iteration import lower_step
from refimpl.arrays.backend import Array
from refimpl.draws import Draws
from refimpl.objective import Objective
from refimpl.problem import Problem
from refimpl.spaces import Product


def through_one_step(problem: Problem, F: Objective, lam: Array, w: Array, alpha: Any) -> Array:
    """∇_λF(λ, ŵ) − α (∂_λr(λ, w))ᵀ ∇_wF(λ, ŵ), ŵ = w − α r(λ, w): reweighting, (4), each gradient at its point.

    What ``approximate.one_step`` gives from w_0 = w, for levels as drawn.
    """
    ahead = lower_step(problem, lam, w, alpha)
    return F.grad_lam(lam, ahead) - alpha * (problem.residual_lam(lam, w).T @ F.grad_w(lam, ahead))


@dataclass(frozen=True, kw_only=True)
class VirtualStep(Scheduled):
    """alpha: α_k of the steps on w, the virtual one and the true one, which share a draw of the lower level.

    Cost of an iteration: two residuals (∇_wG, or Φ), one product with the cross derivative, ∇_λF and ∇_wF.
    """

    alpha: Any

    warm_start: ClassVar[tuple[bool, bool]] = (True, False)
    linear_system: ClassVar[str] = "none"

    def space(self, problem: Problem, k: int = 0) -> Product:
        """(one draw of the lower level, one of the upper)."""
        return Product(tuple(draws.space for draws in self._draws(problem)))

    def drawn(self, problem: Problem, sample: Any) -> tuple[Problem, Objective]:
        """The problem with its lower level as drawn, and the upper level as drawn."""
        level, upper = (draws.at(point) for draws, point in zip(self._draws(problem), sample, strict=True))
        return problem.with_level(level), upper

    def _draws(self, problem: Problem) -> tuple[Draws, Draws]:
        return Draws(problem.level, self.lower_batch), Draws(problem.upper, self.upper_batch)
