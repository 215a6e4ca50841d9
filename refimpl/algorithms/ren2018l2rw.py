"""L2RW, learning to reweight examples: M. Ren, W. Zeng, B. Yang, R. Urtasun, ICML 2018. In iteration k = 0, 1, …

    h_i = ∂/∂ω_i F(w − α_k ∇_wG(ω, w))  at ω = 0                             one virtual step; reweighting, (3)
    ω̃_i = max(−h_i, 0),  ω⁺ = ω̃/(Σ_i ω̃_i + [Σ_i ω̃_i = 0])                    first clip, then normalise
    w⁺ = w − α_k ∇_wG(ω⁺, w)

λ = ω are the weights themselves: G(ω, w) = (1/N) Σ_i ω_i ℓ_i(w), linear in ω. Clipped derivatives are scaled to the sum
1, so the note's step η in max(−η h_i, 0) cancels, whatever η > 0 is. The article steps on Σ ω_i ℓ_i; G divides by N
besides, or by the batch's b, so a step α of the article is Nα here, or bα.

Leave out the ridge, (reg/2)‖w‖² in G: as Σ ω⁺ = 1 it outweighs the data N-fold, being N reg in the article's units,
and the longer step multiplies w by 1 − Nα reg; the weights then hardly matter. With ω = 0 and no ridge the virtual
step stays at w: both gradients of h are taken at w, and (4) of the note is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from refimpl.algorithms.pieces import constant
from refimpl.algorithms.protocol import State, require_minimisation
from refimpl.algorithms.virtual_step import VirtualStep, through_one_step
from refimpl.approximate.iteration import lower_step
from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.objective import Objective
from refimpl.problem import BilevelProblem


@dataclass(frozen=True, kw_only=True)
class L2RW(VirtualStep):
    """at: where h is taken, "zero" as in the article, or "current", the ω of the iteration before.

    Of a minibatch only the samples drawn have derivatives: the others' weights become 0. A sample drawn twice has one
    weight, and its derivative counts both. λ in the state is the last ω⁺; where at="zero" it is never read.
    ``init`` raises ``HypothesisViolated`` where λ are no weights: unless, but for a ridge, ∇_wG is linear in λ.
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

    def init(self, problem: Any, lam: Any, w: Any = None) -> State:
        require_minimisation(
            problem, "L2RW", advice="weights that are a function of the loss, a map, are MetaWeightNet's"
        )
        lower, _ = self._draws(problem)
        _require_weights(lower.at(lower.space.sample(0, ())))
        return super().init(problem, lam, w)

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


def _require_weights(G: Objective) -> None:
    """∇²_λwG is the same at two λ; and ∇_wG(0, ·) is a ridge: every entry scales with its own entry of w, exactly.

    At generic points; powers of two scale floats without rounding.
    """
    B, rng = G.backend, np.random.default_rng(0)
    lam, along, w = (B.asarray(rng.uniform(0.5, 1, size)) for size in (G.n, G.n, G.d))
    scales = B.asarray(2.0 ** -(1 + np.arange(G.d) % 13))
    first, second = (to_numpy(G.cross(x, w).T @ along) for x in (0 * lam, lam))
    allowed = 0.0 if B.exact else 10 * (G.n + G.d) * B.eps * np.max(abs(first) + abs(second))
    bent = np.max(abs(first - second))
    left = np.max(abs(to_numpy(G.grad_w(0 * lam, scales * w) - scales * G.grad_w(0 * lam, w))))
    if bent > allowed or left != 0:
        raise HypothesisViolated(
            "λ are not the weights of the samples",
            measured=f"∇²_λwG changes by {float(bent):.3g} with λ; ∇_wG at ω = 0 is {float(left):.3g} from a ridge's",
            required="G(ω, w) = (1/N) Σ_i ω_i ℓ_i(w), and a ridge at most",
            advice='zoo.weighted_softmax has it with weights="identity", reg=0; MetaWeightNet takes any λ',
        )
