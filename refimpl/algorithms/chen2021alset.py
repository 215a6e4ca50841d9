"""ALSET, alternating stochastic gradient descent: T. Chen, Y. Sun, W. Yin, NeurIPS 2021.

    w ← w − β_k ∇_wG(λ, w; ζ_j),  j = 0 … T − 1, from the w of the iteration before
    h = ∇_λF(λ, w; ξ) − ∇²_λwG(λ, w; ζ⁰) z,  z = PROD_K of ∇_wF(λ, w; ξ)           the same ξ twice, else fresh draws
    λ⁺ = P_Λ(λ − α_k h)

Samples: T + K draws of the lower level, one of the upper; of the K − 1 in PROD it uses τ, uniform below K.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from refimpl.algorithms.pieces import Alternating
from refimpl.rates import Power

SINGLE_SCALE = Power(1.0, 1 / 2)


@dataclass(frozen=True, kw_only=True)
class ALSET(Alternating):
    """α_k and β_k on one time scale: the paper's are constants of the order of 1/√iterations; steps: T = O(1).

    Cost of an iteration: T gradients ∇_wG, ``inverse.products`` products with the Hessian, one with the cross
    derivative, ∇_λF and ∇_wF.
    """

    alpha: Any = SINGLE_SCALE
    beta: Any = SINGLE_SCALE
    steps: Any = 1

    source: ClassVar[str] = "Chen, Sun, Yin, NeurIPS 2021"
    linear_system: ClassVar[str] = "product"
