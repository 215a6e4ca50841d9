"""TTSA, two-timescale stochastic approximation: M. Hong, H.-T. Wai, Z. Wang, Z. Yang, arXiv 2020.

    w⁺ = w − β_k ∇_wG(λ, w; ζ)
    h = ∇_λF(λ, w⁺; ξ) − ∇²_λwG(λ, w⁺; ζ⁰) z,  z = PROD_K of ∇_wF(λ, w⁺; ξ)         the same ξ twice, else fresh draws
    λ⁺ = P_Λ(λ − α_k h)

Samples: 1 + K draws of the lower level, one of the upper; of the K − 1 in PROD it uses τ, uniform below K.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from refimpl.algorithms.pieces import Alternating
from refimpl.lengths import Fixed, Length
from refimpl.rates import Power

SLOW, FAST = Power(1.0, 3 / 5), Power(1.0, 2 / 5)


@dataclass(frozen=True, kw_only=True)
class TTSA(Alternating):
    """α_k and β_k on two time scales: the paper's exponents are 3/5 and 2/5; a β_k below 1/L is stable.

    Cost of an iteration: a gradient ∇_wG, ``inverse.products`` products with the Hessian, one with the cross
    derivative, ∇_λF and ∇_wF.
    """

    alpha: Any = SLOW
    beta: Any = FAST

    source: ClassVar[str] = "Hong, Wai, Wang, Yang, arXiv 2020"
    linear_system: ClassVar[str] = "product"
    lengths: ClassVar[tuple[str, ...]] = ()
    steps: ClassVar[Length] = Fixed(1)  # type: ignore[misc]  # a field of the others, which so is none here
