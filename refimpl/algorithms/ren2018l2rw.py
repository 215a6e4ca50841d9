"""L2RW, learning to reweight examples: M. Ren, W. Zeng, B. Yang, R. Urtasun, ICML 2018. In iteration k = 0, 1, …

    h_i = ∂/∂ω_i F(w − α_k ∇_wG(ω, w))  at ω = 0                             one virtual step; reweighting, (3)
    ω̃_i = max(−h_i, 0),  ω⁺ = ω̃/(Σ_i ω̃_i + [Σ_i ω̃_i = 0])                    first clip, then normalise
    w⁺ = w − α_k ∇_wG(ω⁺, w)

λ = ω are the weights themselves: G(ω, w) = (1/N) Σ_i ω_i ℓ_i(w), linear in ω. Clipped derivatives are scaled to the sum
1, so the note's step η in max(−η h_i, 0) cancels, whatever η > 0 is. The article steps on Σ ω_i ℓ_i; G divides by N
besides, or by the batch's b, so a step α of the article is Nα here, or bα.

With ω = 0 and no ridge the virtual step stays at w: both gradients of h are taken at w, and (4) of the note is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from refimpl.algorithms.pieces import constant
from refimpl.algorithms.protocol import State
from refimpl.algorithms.virtual_step import VirtualStep, through_one_step
from refimpl.approximate.iteration import lower_step
from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.problem import BilevelProblem


@dataclass(frozen=True, kw_only=True)
class L2RW(VirtualStep):
    """at: where h is taken, "zero" as in the article, or "current", the ω of the iteration before.

    Of a minibatch only the samples drawn have derivatives: the others' weights become 0. A sample drawn twice has one
    weight, and its derivative counts both. λ in the state is the last ω⁺; where at="zero" it is never read.
    """

    at: Literal["zero", "current"] = "zero"

    source: ClassVar[str] = "Ren, Zeng, Yang, Urtasun, ICML 2018"
    rates: ClassVar[tuple[str, ...]] = ("alpha",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.at not in ("zero", "current"):
            raise BadInput(
                "the derivative is taken where?",
                measured=repr(self.at),
                required="'zero' or 'current'",
                advice="the article takes it at ω = 0",
            )

    @property
    def constant_from(self) -> int | None:
        return 0 if constant(self.alpha) else None

    @property
    def affine(self) -> str | None:
        return "clips and divides by the weights' sum"

    def step(self, problem: BilevelProblem, state: State, sample: Any) -> State:
        B, lam, w = problem.backend, state.lam, state.w
        drawn, F = self.drawn(problem, sample)
        alpha = B.scalar(self.alpha(state.k))
        h = through_one_step(drawn, F, 0 * lam if self.at == "zero" else lam, w, alpha)
        lam = normalised(B, clipped(B, h))
        return State(state.k + 1, lam, lower_step(drawn, lam, w, alpha))


def clipped(B: Backend, h: Array) -> Array:
    """max(−h, 0), entry by entry; what is no number stays none."""
    return B.where(h >= 0, 0 * h, -h)


def normalised(B: Backend, weights: Array) -> Array:
    """Weights >= 0 over their sum on the last axis; all 0 where it is 0."""
    total = B.xp.sum(weights, axis=-1, keepdims=True)
    return weights / B.where(total == 0, 1 + total, total)
