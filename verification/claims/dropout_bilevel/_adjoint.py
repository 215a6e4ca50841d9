r"""The adjoint v_m and the noise of its iteration, for a lower level and an upper level with a wave each.

F = fᵀw + λᵀKw + b c(zᵀW), c as in ``_bounds``: ∇_wF = f + Kᵀλ + b z_w c'(zᵀW). Without K sup‖∇_wF‖ = C_F is attained
at c' = ±¼, and L₂₂ = |b|‖z_w‖². Upper and lower masks have one law and are independent; v_m = (∇²_wwḠ)⁻¹m_w∇_wF(MW).

Radius: ∇²_wwḠ ⪰ μP (P = diag(p_w)), so ‖v_m‖ <= C_F/(p_min μ). For v̄ = E v_m, with K = P^(−½)∇²_wwḠ P^(−½) ⪰ μI,
v̄ = P^(−½)K⁻¹P^(−½)E[mf], and (E m_i f_i)²/p_i <= E[m_i f_i²] sums to E‖mf‖² <= C_F² P(m_w ≠ 0):
‖v̄‖² <= C_F² (1 − Π_g(1−p_g))/(p_min μ²), the product over the mask variables of w.

Noise at p_w = 1: ∇_wF(m̄_λλ, w) and ∇²_wwG(m_λλ, w)v are independent, so their variances add; Efron and Stein bound
each by Σ_k p_k(1−p_k) times the square of what switching m_k changes, at most λ_k²L_k² and λ_k²ℓ_k²‖v‖²:
L_k = sup‖∂_{λ_k}∇_wF‖, ℓ_k the Lipschitz modulus of ∇²_wwG in λ_k. Equality for quadratic F and G: ∇_wF is then linear
in the masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from flint import fmpq
from hypothesis import strategies as st

from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from verification.claims.dropout_bilevel._bounds import Wave, wave
from verification.claims.dropout_bilevel._masks import RATIONAL, rationals


def slope(x: Array) -> Array:
    """c'(x), any shape: y² − |y| with the sign of y, the representative of x in [−1, 1)."""
    reduced = [t - 2 * ((t + 1) / 2).floor() for t in x.ravel()]
    return rationals([(y * y - abs(y)) * (1 if y >= 0 else -1) for y in reduced]).reshape(x.shape)


@dataclass(frozen=True)
class Adjoint:
    """A lower level at W under masks, and F; ``v`` is where the noise is measured."""

    g: Wave
    f: Array
    K: Array
    b: fmpq
    z: Array
    v: Array
    C_F: fmpq  # the square of what is claimed

    @property
    def z_w(self) -> Array:
        return self.z[self.g.n :]

    @cached_property
    def gradients(self) -> Array:
        """m_w∇_wF(MW) of every mask, (masks, d)."""
        m, n = self.g.masks[1], self.g.n
        masked = m * self.g.W
        inner = self.f + masked[:, :n] @ self.K + self.b * slope(masked @ self.z)[:, None] * self.z_w
        return m[:, n:] * inner

    @property
    def hessian(self) -> Array:
        """∇²_wwḠ."""
        n = self.g.n
        return self.g.mean(self.g.masked)[n:, n:]

    @property
    def adjoints(self) -> Array:
        """v_m of every mask, (masks, d)."""
        return factor(RATIONAL, self.hessian).solve(self.gradients)

    @property
    def noise(self) -> Any:
        """Variance of m̄_w∇_wF(M̄W) − m_w∇²_wwG(MW)m_w v, over all pairs of masks."""
        n, g = self.g.n, self.g
        products = g.masked[:, n:, n:] @ self.v
        pairs = self.gradients[:, None, :] - products
        centre = g.mean(g.mean(pairs))
        return g.mean(g.mean(((pairs - centre) ** 2).sum(axis=-1)))

    @property
    def steepest(self) -> fmpq:
        """sup‖∇_wF‖², where K = 0."""
        return max(((self.f + sign * self.b * self.z_w / 4) ** 2).sum() for sign in (1, -1))

    @property
    def curvature(self) -> fmpq:
        """L₂₂ = sup‖∇²_wwF‖."""
        return abs(self.b) * (self.z_w**2).sum()

    @property
    def sensitivities(self) -> tuple[Array, Array]:
        """L_k² and ℓ_k² of every coordinate of λ."""
        n, g = self.g.n, self.g
        rows = [[self.K[k] + sign * self.b * self.z[k] * self.z_w for sign in (1, -1)] for k in range(n)]
        upper = rationals([max((row**2).sum() for row in both) for both in rows])
        return upper, 4 * (g.a * g.u[:n]) ** 2 * (g.u[n:] ** 2).sum() ** 2


def adjoint(params: Mapping[str, Any]) -> Adjoint:
    """A ``wave`` with lists ``f``, ``K``, ``z``, ``v`` and a number ``b``; ``steeper`` divides the claimed C_F²."""
    g = wave(params)
    n, d = g.n, g.size - g.n

    def given(name: str, size: int) -> Array:
        return rationals((list(params.get(name, [])) + [0] * size)[:size])

    K, b, zero = given("K", n * d).reshape(n, d), fmpq(params.get("b", 0)), fmpq(0)
    made = Adjoint(g, given("f", d), K, b, given("z", n + d), given("v", d), zero)
    return replace(made, C_F=made.steepest / params.get("steeper", 1))


FEW = st.integers(-2, 2)


def lists(**sizes: int) -> dict[str, Any]:
    """A box of small integers for each name."""
    return {name: st.lists(FEW, min_size=size, max_size=size) for name, size in sizes.items()}


LINE = {"n": 0, "d": 1, "keep_w": [8], "f": [1]}  # G = w²/2, F = w
