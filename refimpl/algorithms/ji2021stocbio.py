"""stocBiO: K. Ji, J. Yang, Y. Liang, ICML 2021.

    w ← w − β ∇_wG(λ, w; S_j),  j = 0 … D − 1, from the w of the iteration before           a batch per step
    h = ∇_λF(λ, w; D_F) − ∇²_λwG(λ, w; D_G) z,  z = SUM_{η,Q} of ∇_wF(λ, w; D_F)            the same D_F twice
    λ⁺ = P_Λ(λ − α h)

Samples: D |S| + |B_1| + … + |B_Q| + |D_G| of the lower level, |D_F| of the upper; the Hessians' batches B_i are
``inverse.batches``. Here |S| = |D_G| = lower_batch and |D_F| = upper_batch; all are O(1/ε).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from refimpl.algorithms.pieces import Alternating
from refimpl.approximate.inverse import SumNeumann
from refimpl.arrays.numbers import as_number
from refimpl.errors import BadInput
from refimpl.solvers.lower import require_count


@dataclass(frozen=True, kw_only=True)
class StocBiO(Alternating):
    """alpha, beta: constants. steps: D = O(κ log κ). inverse: SumNeumann(η, Q, batches), η <= 1/L, Q = O(κ log 1/ε).

    Any other inverse is refused (``BadInput``): with the product estimator it is ALSET.
    Cost of an iteration: D gradients ∇_wG, Q products with the Hessian, one with the cross derivative, ∇_λF and ∇_wF.
    """

    source: ClassVar[str] = "Ji, Yang, Liang, ICML 2021"
    linear_system: ClassVar[str] = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.inverse, SumNeumann):
            raise BadInput(
                "stocBiO's linear system is solved by a sum",
                measured=type(self.inverse).__name__,
                required="inverse=SumNeumann(step, terms, batches)",
                advice="ALSET has the same steps, and the product estimator",
            )


def hessian_batches(scale: float, products: int, factor: float) -> tuple[int, ...]:
    """⌈scale Q (1 − ημ)^i⌉, i = 0 … Q − 1, for the Hessians in the order of their use; factor = 1 − ημ.

    The first, which every later term contains, has the largest batch. Raises ``BadInput``.

    >>> hessian_batches(2, 3, 0.5)
    (6, 3, 2)
    """
    require_count(products, "the number of products", least=1)
    if not (0 < as_number(scale) < math.inf and 0 < as_number(factor) < 1):
        raise BadInput(
            "these batches would not shrink",
            measured=f"scale={scale}, factor={factor}",
            required="scale > 0 and 0 < factor < 1",
            advice="factor is 1 − ημ, with 0 < η <= 1/L",
        )
    return tuple(math.ceil(scale * products * factor**i) for i in range(products))
