"""Starting points w_0 = Φ_0(λ) that depend on λ: a map that ignores w (reweighting, after (16): B_0 = d_λΦ_0)."""

from __future__ import annotations

from dataclasses import dataclass

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.objective import Map
from refimpl.operators import Operator, identity, zero


@dataclass(frozen=True, eq=False)
class IdentityStart(Map):
    """w_0 = λ, which needs n = d: unrolling from it is MAML (Finn et al. 2017)."""

    n: int
    backend: Backend = Backend()

    @property
    def d(self) -> int:
        return self.n

    def value(self, lam: Array, w: Array) -> Array:
        return lam

    def d_w(self, lam: Array, w: Array) -> Operator:
        return zero(self.backend, self.n, self.n)

    def d_lam(self, lam: Array, w: Array) -> Operator:
        return identity(self.backend, self.n)
