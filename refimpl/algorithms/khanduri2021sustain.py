"""SUSTAIN: P. Khanduri, S. Zeng, M. Hong, H.-T. Wai, Z. Wang, Z. Yang, NeurIPS 2021: STORM on both levels.

    h(λ, w) = ∇_λF(λ, w; ξ) − ∇²_λwG(λ, w; ζ⁰) z,  z = PROD_K of ∇_wF(λ, w; ξ)      the same ξ twice, else fresh draws
    e⁺ = ∇_wG(λ, w; ζ) + (1 − b_k)(e − ∇_wG(λ_prev, w_prev; ζ)),  in the first iteration ∇_wG
    d⁺ = h(λ, w) + (1 − a_k)(d − h(λ_prev, w_prev)),  in the first iteration h
    w⁺ = w − β_k e⁺,  λ⁺ = P_Λ(λ − α_k d⁺)                                          both from the old (λ, w)

with β_k = c_beta α_k, a_k = min(1, c_f α_{k−1}²), b_k = min(1, c_g α_{k−1}²). Both h have the same draws, those inside
z and its length included.
Samples: 1 + 1 + K − 1 draws of the lower level, one of the upper (of the K − 1 in PROD it uses τ, uniform below K).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from refimpl.algorithms.pieces import Estimating, capped, constant, moved, require_state
from refimpl.algorithms.protocol import State
from refimpl.algorithms.storm import storm
from refimpl.arrays.backend import Array
from refimpl.draws import Draws
from refimpl.problem import BilevelProblem
from refimpl.rates import Power
from refimpl.solvers.lower import require_positive
from refimpl.spaces import Product

CUBE_ROOT = Power(1.0, 1 / 3)


@dataclass(frozen=True, eq=False)
class MomentumState(State):
    """Also the directions d of λ and e of w, 0 before the first iteration; and the λ and w before."""

    d: Array
    e: Array
    lam_prev: Array
    w_prev: Array


@dataclass(frozen=True, kw_only=True)
class DoubleMomentum(Estimating):
    """STORM's d and e, then λ⁺ = P_Λ(λ − α_k d⁺), w⁺ = w − β_k e⁺: what SUSTAIN and MRBO share."""

    warm_start: ClassVar[tuple[bool, bool]] = (True, False)

    @abstractmethod
    def sizes(self, k: int) -> tuple[Any, Any]:
        """α_k, β_k."""

    @abstractmethod
    def weights(self, k: int) -> tuple[Any, Any]:
        """a_k, b_k, for k >= 1."""

    def init(self, problem: BilevelProblem, lam: Any, w: Any = None) -> MomentumState:
        state = super().init(problem, lam, w)
        return MomentumState(0, state.lam, state.w, 0 * state.lam, 0 * state.w, state.lam, state.w)

    def space(self, problem: BilevelProblem, k: int = 0) -> Product:
        """(ζ of ∇_wG, the estimator's draws); the same for every k."""
        del k
        return Product((Draws(problem.lower, self.lower_batch).space, self.estimator().space(problem)))

    def step(self, problem: BilevelProblem, state: Any, sample: Any) -> MomentumState:
        state = require_state(state, MomentumState, self)
        B, k, lam, w = problem.backend, state.k, state.lam, state.w
        G = Draws(problem.lower, self.lower_batch).at(sample[0])
        h = self.estimator().drawn(problem, sample[1])

        d, e = h(lam, w), G.grad_w(lam, w)
        if k > 0:
            a, b = map(B.scalar, self.weights(k))
            d = storm(d, h(state.lam_prev, state.w_prev), state.d, a)
            e = storm(e, G.grad_w(state.lam_prev, state.w_prev), state.e, b)
        alpha, beta = self.sizes(k)
        return MomentumState(k + 1, moved(problem, lam, alpha, d), w - B.scalar(beta) * e, d, e, lam, w)


@dataclass(frozen=True, kw_only=True)
class SUSTAIN(DoubleMomentum):
    """alpha: α_k = α₀/(m + k)^(1/3); c_beta, c_f, c_g: numbers, of the problem's constants in the paper.

    Cost of an iteration: two each (in the first: one) of ∇_wG, ∇_λF, ∇_wF, products with the cross derivative and
    ``inverse.products`` products with the Hessian.
    """

    alpha: Any = CUBE_ROOT
    c_beta: Any = 1.0
    c_f: Any = 1.0
    c_g: Any = 1.0

    source: ClassVar[str] = "Khanduri, Zeng, Hong, Wai, Wang, Yang, NeurIPS 2021"
    linear_system: ClassVar[str] = "product"
    rates: ClassVar[tuple[str, ...]] = ("alpha",)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("c_beta", "c_f", "c_g"):
            require_positive(getattr(self, name), name, "it multiplies α_k, or for a momentum α_{k−1}²")

    @property
    def constant_from(self) -> int | None:
        return 1 if constant(self.alpha) else None

    def sizes(self, k: int) -> tuple[Any, Any]:
        return self.alpha(k), self.c_beta * self.alpha(k)

    def weights(self, k: int) -> tuple[Any, Any]:
        before = self.alpha(k - 1)
        return capped(self.c_f, before, 2), capped(self.c_g, before, 2)
