"""MRBO: J. Yang, K. Ji, Y. Liang, "Provably faster algorithms for bilevel optimization", NeurIPS 2021, algorithm 1.

    h(λ, w) = ∇_λF(λ, w; ξ) − ∇²_λwG(λ, w; ζ⁰) z,  z = SUM_{η,Q} of ∇_wF(λ, w; ξ)   the same ξ twice, else fresh draws
    e⁺ = ∇_wG(λ, w; ζ) + (1 − b_k)(e − ∇_wG(λ_prev, w_prev; ζ)),  in the first iteration ∇_wG
    d⁺ = h(λ, w) + (1 − a_k)(d − h(λ_prev, w_prev)),  in the first iteration h
    λ⁺ = P_Λ(λ − α η_k d⁺),  w⁺ = w − β η_k e⁺                                      both from the old (λ, w)

with a_k = min(1, c_f η_{k−1}²), b_k = min(1, c_g η_{k−1}²). Both h have the same draws.
Samples: 1 + 1 + Q draws of the lower level, one of the upper, each a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from refimpl.algorithms.khanduri2021sustain import CUBE_ROOT, DoubleMomentum
from refimpl.algorithms.pieces import capped, constant
from refimpl.solvers.lower import require_positive


@dataclass(frozen=True, kw_only=True)
class MRBO(DoubleMomentum):
    """alpha, beta, c_f, c_g: numbers (γ, λ, c₁, c₂ in the paper); eta: η_k = η₀/(m + k)^(1/3).

    Cost of an iteration: two each (in the first: one) of ∇_wG, ∇_λF, ∇_wF, products with the cross derivative and
    ``inverse.products`` products with the Hessian.
    """

    alpha: Any
    beta: Any
    c_f: Any = 1.0
    c_g: Any = 1.0
    eta: Any = CUBE_ROOT

    source: ClassVar[str] = "Yang, Ji, Liang, NeurIPS 2021, algorithm 1"
    linear_system: ClassVar[str] = "sum"
    rates: ClassVar[tuple[str, ...]] = ("eta",)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "beta", "c_f", "c_g"):
            require_positive(getattr(self, name), name, "it multiplies η_k, or for a momentum η_{k−1}²")

    @property
    def constant_from(self) -> int | None:
        return 1 if constant(self.eta) else None

    def sizes(self, k: int) -> tuple[Any, Any]:
        return self.alpha * self.eta(k), self.beta * self.eta(k)

    def weights(self, k: int) -> tuple[Any, Any]:
        before = self.eta(k - 1)
        return capped(self.c_f, before, 2), capped(self.c_g, before, 2)
