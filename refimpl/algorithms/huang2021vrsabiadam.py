"""VR-saBiAdam: F. Huang, H. Huang, "BiAdam: fast adaptive bilevel optimization methods", arXiv 2021.

saBiAdam, see ``huang2021sabiadam``, with STORM in place of the averages:

    e⁺ = ∇_wG(λ, w; ζ) + (1 − b_k)(e − ∇_wG(λ_prev, w_prev; ζ)),  in the first iteration ∇_wG
    d⁺ = h(λ, w) + (1 − a_k)(d − h(λ_prev, w_prev)),  in the first iteration h

with a_k = min(1, c_f η_{k−1}²), b_k = min(1, c_g η_{k−1}²). Both h have the same draws; A and B are
made at (λ, w) only. Samples: as saBiAdam.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from refimpl.algorithms.huang2021sabiadam import Drawn, SaBiAdam, SaBiAdamState
from refimpl.algorithms.pieces import capped
from refimpl.algorithms.storm import storm
from refimpl.arrays.backend import Array
from refimpl.rates import Power

CUBE_ROOT = Power(1.0, 1 / 3)


@dataclass(frozen=True, kw_only=True)
class VRSaBiAdam(SaBiAdam):
    """The fields are saBiAdam's; eta: η_k ∝ (m + k)^(−1/3), capped at 1; c_f, c_g multiply its square.

    Cost of an iteration: twice saBiAdam's (in the first: the same).
    """

    eta: Any = CUBE_ROOT

    source: ClassVar[str] = "Huang, Huang, arXiv 2021, VR-saBiAdam"
    kept: ClassVar[tuple[str, ...]] = ("lam_prev", "w_prev")

    def weights(self, k: int) -> tuple[Any, Any]:
        before = min(1, self.eta(k - 1))
        return capped(self.c_f, before, 2), capped(self.c_g, before, 2)

    def averaged(
        self, state: SaBiAdamState, values: Callable[[Array, Array], Drawn], now: Drawn, a: Any, b: Any
    ) -> tuple[Array, Array]:
        _, h, g = values(state.lam_prev, state.w_prev)
        return storm(now[1], h, state.d, a), storm(now[2], g, state.e, b)
