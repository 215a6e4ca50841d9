"""saBiAdam: F. Huang, H. Huang, "BiAdam: fast adaptive bilevel optimization methods", arXiv 2021, without the inverse.

    h(λ, w) = ∇_λF(λ, w; ξ) − ∇²_λwG(λ, w; ζ⁰) z,  z = PROD_K of ∇_wF(λ, w; ξ)      the same ξ twice, else fresh draws
    e⁺ = b_k ∇_wG(λ, w; ζ) + (1 − b_k) e,  d⁺ = a_k h(λ, w) + (1 − a_k) d,          in the first iteration ∇_wG and h
    s⁺ = τ s + (1 − τ) ∇_λF(λ, w; ξ)²,     A = diag(√s⁺ + ρ)                        entrywise; the ξ of h
    t⁺ = τ t + (1 − τ) ‖∇_wG(λ, w; ζ)‖,    B = (t⁺ + ρ) I                           the ζ of e⁺
    λ⁺ = λ + η_k (x̃ − λ),  x̃ = argmin over x in Λ of ⟨d⁺, x⟩ + (x − λ)ᵀA(x − λ)/(2α), without Λ: λ − α A⁻¹d⁺
    w⁺ = w − η_k β B⁻¹e⁺                                                            both from the old (λ, w)

with a_k = min(1, c_f η_{k−1}), b_k = min(1, c_g η_{k−1}), η_k <= 1. The second moment s is that of the partial
derivative ∇_λF, as printed: where F does not depend on λ, A is ρI. The analysis allows any A and B ⪰ ρI:
adaptive=False takes both as ρI.
Samples: 1 + 1 + K − 1 draws of the lower level, one of the upper (of the K − 1 in PROD it uses τ, uniform below K).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from refimpl.algorithms.pieces import Estimating, capped, constant, require_state
from refimpl.algorithms.protocol import State, projected
from refimpl.arrays.backend import Array
from refimpl.draws import Draws
from refimpl.errors import BadInput
from refimpl.problem import BilevelProblem
from refimpl.rates import Power
from refimpl.sets import Box
from refimpl.solvers.lower import require_positive
from refimpl.spaces import Product

ROOT = Power(1.0, 1 / 2)
Drawn = tuple[Array, Array, Array]  # ∇_λF, h, ∇_wG
OPTIONAL = ("s", "t", "lam_prev", "w_prev")


@dataclass(frozen=True, eq=False)
class SaBiAdamState(State):
    """Also the directions d of λ and e of w, s (..., n) and t (..., 1), the λ and w before: what is used of them.

    Before the first iteration d, e, s and t are 0.
    """

    d: Array
    e: Array
    s: Array | None = None
    t: Array | None = None
    lam_prev: Array | None = None
    w_prev: Array | None = None


@dataclass(frozen=True, kw_only=True)
class SaBiAdam(Estimating):
    """alpha, beta, c_f, c_g: numbers (γ, λ, c₂, c₁ in the paper); eta: η_k ∝ (m + k)^(−1/2), capped at 1.

    rho: ρ > 0; decay: τ in (0, 1). An adaptive one needs square roots, which rationals have not, and of the sets Λ a
    box, on which the minimisation above is entrywise; others are refused (``BadInput``).
    Cost of an iteration: ∇_wG, ∇_λF, ∇_wF, a product with the cross derivative, ``inverse.products`` with the Hessian.
    """

    alpha: Any
    beta: Any
    c_f: Any = 1.0
    c_g: Any = 1.0
    eta: Any = ROOT
    rho: Any = 1e-3
    decay: Any = 0.9
    adaptive: bool = True

    source: ClassVar[str] = "Huang, Huang, arXiv 2021, saBiAdam"
    warm_start: ClassVar[tuple[bool, bool]] = (True, False)
    linear_system: ClassVar[str] = "product"
    rates: ClassVar[tuple[str, ...]] = ("eta",)
    kept: ClassVar[tuple[str, ...]] = ()  # what of the point before it needs

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "beta", "c_f", "c_g"):
            require_positive(getattr(self, name), name, "it multiplies η_k, or a power of η_{k−1}")
        require_positive(self.rho, "rho", "it keeps A and B away from 0")
        require_positive(self.decay, "decay", "τ, the weight of the moments before")
        if not self.decay < 1:
            raise BadInput(
                "decay is out of range",
                measured=repr(self.decay),
                required="a number in (0, 1)",
                advice="adaptive=False has no second moments",
            )

    @property
    def constant_from(self) -> int | None:
        return 1 if constant(self.eta) else None

    @property
    def affine(self) -> str | None:
        return "divides by √(second moment)" if self.adaptive else None

    def weights(self, k: int) -> tuple[Any, Any]:
        """a_k, b_k, for k >= 1."""
        before = min(1, self.eta(k - 1))
        return capped(self.c_f, before), capped(self.c_g, before)

    def init(self, problem: BilevelProblem, lam: Any, w: Any = None) -> SaBiAdamState:
        begun = super().init(problem, lam, w)
        lam, w = begun.lam, begun.w
        if self.adaptive and not (problem.domain is None or isinstance(problem.domain, Box)):
            raise BadInput(
                "no adaptive step on this set",
                measured=type(problem.domain).__name__,
                required="a Box, or no set",
                advice="adaptive=False projects onto any set",
            )
        s, t = (0 * lam, problem.backend.zeros((1,))) if self.adaptive else (None, None)
        return SaBiAdamState(0, lam, w, 0 * lam, 0 * w, s, t, *self._before(lam, w))

    def space(self, problem: BilevelProblem, k: int = 0) -> Product:
        """(ζ of ∇_wG, the estimator's draws); the same for every k."""
        del k
        return Product((Draws(problem.lower, self.lower_batch).space, self.estimator().space(problem)))

    def step(self, problem: BilevelProblem, state: Any, sample: Any) -> SaBiAdamState:
        state = self._own(state)
        B, k, lam, w, s, t = problem.backend, state.k, state.lam, state.w, state.s, state.t
        values = self._drawn(problem, sample)
        direct, d, e = now = values(lam, w)
        if k > 0:
            d, e = self.averaged(state, values, now, *map(B.scalar, self.weights(k)))
        rho, decay, alpha, beta = map(B.scalar, (self.rho, self.decay, self.alpha, self.beta))
        A = of_w = rho
        if self.adaptive:
            s = decay * s + (1 - decay) * direct * direct
            t = decay * t + (1 - decay) * B.norm(now[2])[..., None]
            A, of_w = B.sqrt(s) + rho, t + rho
        eta = B.scalar(min(1, self.eta(k)))
        target = projected(problem, lam - alpha * d / A)
        new_lam = projected(problem, lam + eta * (target - lam))  # inside already, but for rounding
        new_w = w - eta * beta * e / of_w
        return SaBiAdamState(k + 1, new_lam, new_w, d, e, s, t, *self._before(lam, w))

    def averaged(
        self, state: SaBiAdamState, values: Callable[[Array, Array], Drawn], now: Drawn, a: Any, b: Any
    ) -> tuple[Array, Array]:
        """d⁺, e⁺ after the first iteration; values: what is drawn, as a function of (λ, w), now: at the new point."""
        del values
        return a * now[1] + (1 - a) * state.d, b * now[2] + (1 - b) * state.e

    def _drawn(self, problem: BilevelProblem, sample: Any) -> Callable[[Array, Array], Drawn]:
        """(λ, w) -> ∇_λF, h, ∇_wG on these draws: h as ``SampledHypergradient`` has it, but its ∇_λF is needed too."""
        lower, upper = Draws(problem.lower, self.lower_batch), Draws(problem.upper, self.upper_batch)
        gradient, (xi, cross, inverse) = sample
        G_w, F, G, z = lower.at(gradient), upper.at(xi), lower.at(cross), self.inverse.drawn(lower, inverse)

        def values(lam: Array, w: Array) -> Drawn:
            direct = F.grad_lam(lam, w)
            return direct, direct - G.cross(lam, w) @ z(lam, w, F.grad_w(lam, w)), G_w.grad_w(lam, w)

        return values

    def _before(self, lam: Array, w: Array) -> tuple[Array | None, Array | None]:
        return (lam, w) if self.kept else (None, None)

    def _own(self, state: Any) -> SaBiAdamState:
        """The state, with the arrays that this one has."""
        state = require_state(state, SaBiAdamState, self)
        found = tuple(name for name in OPTIONAL if getattr(state, name) is not None)
        wanted = (("s", "t") if self.adaptive else ()) + self.kept
        if found != wanted:
            raise BadInput(
                "this is a state of another variant",
                measured=f"with {', '.join(found) or 'd and e alone'}",
                required=f"with {', '.join(wanted) or 'd and e alone'}",
                advice=f"start with {type(self).__name__}.init(problem, lam, …)",
            )
        return state
