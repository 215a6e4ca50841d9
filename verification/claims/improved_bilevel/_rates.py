r"""BiG-SAM on quadratics of the plane over the rationals, its error enclosed from both sides at every k > l.

H = diag(h, 0), Q = [[p, b], [b, 1]], a = (a, 2): e_k = w_k − w_λ = (r_k, n_k), g = ∇F(w_λ) = (g, 0), and with x = sh,
e = ct, ρ = −eg/x, κ = 1 − x − c(tp − x), u_k = kr_k − ρ, wherever α_k = c/k:

    kr_k = (1 − x + κ/(k−1))(k−1)r_{k−1} + xρ − ebn_{k−1},   u_k = (1 − x + κ/(k−1))u_{k−1} + κρ/(k−1) − ebn_{k−1},
    n_k = (1 − e/k)n_{k−1} − (eb/k)r_{k−1}.

Let 0 < x <= 1, A = (2 + |κ|)/x and l >= max{c, 2A − 1}, l > e, ω = 2eb²/(xl) < 1. Then |κ|/l <= x/2, and for k >= l:

- **S.** k|r_k| <= S = max{l|r_l|, 2|ρ|/(1−ω), 2|ρ| + 2e|b||n_l|/x}, together with |n_k| <= max{|n_l|, |b|S/l}, by
  induction: |n_k| is at most a mean of |n_{k−1}| and |b||r_{k−1}|, and the first factor is at most 1 − x/2.
- **Null space.** With P_k = Π_{l<i<=k}(1 − e/i) and 1/((k−1)P_{k−1}) − 1/(kP_k) = (1−e)/(k(k−1)P_k) the sum of what
  r adds telescopes: |n_k − P_kn_l| <= Z_k = e|b|S(1/k − P_k/l)/(e−1); for e = 1, |b|Sη_k/k, η_k = Σ_{l<=j<k}1/j.
  As kP_k <= l for e > 1, k|n_k| <= T = max{l|n_l|, e|b|S/(e−1)} there; for e = 1 k|n_k| <= l|n_l| + |b|Sη_k.
- **Range.** Where |κρ − eb(j−1)n_{j−1}| <= Φ for l < j <= k, |u_k| <= v_k = Φ/(x(k−A)) + υ(1−x/2)^{k−l}, υ =
  max{0, |u_l| − Φ/(x(l−A))}: with j = k−1 >= l the first term obeys its recursion as xA − |κ| = 2 >= j/(j+1−A), which
  is j >= 2A − 2, and the second bounds what is left of the start.
- **Logarithm.** e = 1: kn_k − ln_l + bρη_k = −bΣ_{l<=j<k}u_j/j, at most |b|V_k, V_k = Φ/x(1/(l−A) − 1/(k−A)) +
  2υ/(xl), as 1/(j(j−A)) <= 1/(j−A) − 1/(j+1−A).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flint import fmpq
from hypothesis import strategies as st

Q = fmpq
ZERO, ONE = Q(0), Q(1)


def up(x: Q) -> int:
    """The least integer >= x."""
    return int(-((-x.p) // x.q))


@dataclass(frozen=True)
class Planar:
    """Parameters h, p, b, a, s, share, e, n0, r0: [numerator, denominator]; ``late``: l over its least; ``times``: K/l.

    t = share·2/(σ_F + L_F) and c = e/t are rational; γ = e(1−β)/(2t) is what makes e what it is told to be.
    """

    params: Mapping[str, Any]

    def __getattr__(self, name: str) -> Q:
        if name in ("h", "p", "b", "a", "s", "share", "e", "n0", "r0"):
            return Q(*self.params[name])
        raise AttributeError(name)

    @cached_property
    def t(self) -> Q:
        return self.share * 2 / (self.p + 1)

    @cached_property
    def c(self) -> Q:
        return self.e / self.t

    @property
    def beta_squared(self) -> Q:
        """1 − 2tσL/(σ+L), of the determinant and the trace of Q."""
        return 1 - 2 * self.t * (self.p - self.b * self.b) / (self.p + 1)

    @property
    def g(self) -> Q:
        """First entry of ∇F(w_λ) at w_λ = (0, 2 + ba); the second is 0."""
        return self.a * (self.b * self.b - self.p)

    @cached_property
    def x(self) -> Q:
        return self.s * self.h

    @cached_property
    def rho(self) -> Q:
        """lim kr_k = −(ct/s)H⁺g."""
        return -self.e * self.g / self.x

    @cached_property
    def kappa(self) -> Q:
        return 1 - self.x - self.c * (self.t * self.p - self.x)

    @cached_property
    def shift(self) -> Q:
        """A."""
        return (2 + abs(self.kappa)) / self.x

    @cached_property
    def first(self) -> int:
        """l."""
        mixed = 8 * self.e * self.b * self.b / self.x  # ω <= 1/4
        least = max(up(self.c), up(2 * self.shift - 1), up(self.e) + 1, up(mixed))
        return int(self.params["late"]) * least

    @property
    def K(self) -> int:
        return int(self.params["times"]) * self.first

    @cached_property
    def ks(self) -> range:
        return range(self.first + 1, self.K + 1)

    @cached_property
    def errors(self) -> list[tuple[Q, Q]]:
        """w_k − w_λ, k = 0 … K; with ``frozen`` α_k = 1/4, no schedule of BiG-SAM."""
        p, b, g, t, x = self.p, self.b, self.g, self.t, self.x
        r, n = self.r0, self.n0
        found = [(r, n)]
        for k in range(1, self.K + 1):
            weight = Q(1, 4) if self.params.get("frozen") else min(self.c / k, ONE)
            step = weight * t
            r, n = r - step * (p * r + b * n + g) - (1 - weight) * x * r, n - step * (b * r + n)
            found.append((r, n))
        return found

    def gap(self, k: int) -> Q:
        """f_k − f = gr + ½eᵀQe."""
        r, n = self.errors[k]
        return self.g * r + (self.p * r * r + 2 * self.b * r * n + n * n) / 2

    # -- the enclosure --

    @cached_property
    def at_first(self) -> tuple[Q, Q, Q]:
        """|n_l|, l|r_l| and |u_l|."""
        r, n = self.errors[self.first]
        return abs(n), self.first * abs(r), abs(self.first * r - self.rho)

    @cached_property
    def S(self) -> Q:
        n, r, _ = self.at_first
        mixed = 2 * self.e * abs(self.b) / self.x
        omega = mixed * abs(self.b) / self.first
        return max(r, 2 * abs(self.rho) / (1 - omega), 2 * abs(self.rho) + mixed * n)

    @cached_property
    def products(self) -> dict[int, Q]:
        """P_k, k >= l."""
        found = {self.first: ONE}
        for k in self.ks:
            found[k] = found[k - 1] * (1 - self.e / k)
        return found

    @cached_property
    def harmonics(self) -> dict[int, Q]:
        """η_k, k >= l."""
        found = {self.first: ZERO}
        for k in self.ks:
            found[k] = found[k - 1] + Q(1, k - 1)
        return found

    def added(self, k: int) -> Q:
        """Z_k."""
        if self.e == 1:
            return abs(self.b) * self.S * self.harmonics[k] / k
        return self.e * abs(self.b) * self.S * (Q(1, k) - self.products[k] / self.first) / (self.e - 1)

    def forcing(self, k: int) -> Q:
        """Φ, for j <= k; e >= 1 or b = 0."""
        n, pushed = self.first * self.at_first[0], self.e * abs(self.b)
        if self.b == 0:
            return abs(self.kappa * self.rho)
        most = (
            n + pushed * self.S * self.harmonics[k] if self.e == 1 else max(n, pushed * self.S / (self.e - 1))
        )
        return abs(self.kappa * self.rho) + pushed * most

    @cached_property
    def faded(self) -> dict[int, Q]:
        """(1 − x/2)^{k−l}, k >= l."""
        found = {self.first: ONE}
        for k in self.ks:
            found[k] = found[k - 1] * (1 - self.x / 2)
        return found

    def strays(self, k: int, forcing: Q) -> Q:
        """v_k."""
        return forcing / (self.x * (k - self.shift)) + self.left(forcing) * self.faded[k]

    def left(self, forcing: Q) -> Q:
        """υ."""
        return max(ZERO, self.at_first[2] - forcing / (self.x * (self.first - self.shift)))

    def drift(self, k: int) -> Q:
        """V_k."""
        forced, between = self.forcing(k), 1 / (self.first - self.shift) - 1 / (k - self.shift)
        return (forced * between + 2 * self.left(forced) / self.first) / self.x

    def null(self, k: int) -> tuple[Q, Q]:
        """|n_k| from below and above."""
        centre, around = self.products[k] * self.at_first[0], self.added(k)
        return max(centre - around, ZERO), centre + around

    def range(self, k: int) -> tuple[Q, Q]:
        """|r_k| from below and above."""
        if self.e < 1:
            return ZERO, self.S / k
        v = self.strays(k, self.forcing(k))
        return max(abs(self.rho) - v, ZERO) / k, min(self.S, abs(self.rho) + v) / k

    def squares(self, k: int) -> tuple[Q, Q]:
        """‖e_k‖² from below and above."""
        (r, r_top), (n, n_top) = self.range(k), self.null(k)
        return r * r + n * n, r_top * r_top + n_top * n_top


def fractions(*values: str) -> Any:
    """One of these numbers, as [numerator, denominator]."""
    pairs = [[int(i) for i in (*value.split("/"), "1")[:2]] for value in values]
    return st.sampled_from(pairs)


def planars(*exponents: str, **fixed: Any) -> Any:
    """Strategy: e one of these."""
    boxes = {
        "h": fractions("1", "3/4", "1/2"),
        "p": fractions("2", "1", "3/2", "3"),
        "b": fractions("0", "1/8", "-1/8", "1/4", "-1/4", "1/2", "-1/2"),
        "a": fractions("1", "1/2", "2"),
        "s": fractions("1", "3/4"),
        "share": fractions("1/2", "3/4", "1"),
        "e": fractions(*exponents),
        "n0": fractions("5", "-5", "1", "-1"),
        "r0": fractions("0", "1", "-1"),
        "late": st.integers(1, 4),
        "times": st.integers(2, 4),
    }
    return st.fixed_dictionaries({**boxes, **fixed})


def planar(e: tuple[int, int], **more: Any) -> dict[str, Any]:
    """H = diag(1, 0), Q = diag(2, 1), a = (1, 2), t half as long as it may be, w_0 = w_λ + (0, 5)."""
    return {
        "h": [1, 1],
        "p": [2, 1],
        "b": [0, 1],
        "a": [1, 1],
        "s": [1, 1],
        "share": [1, 2],
        "e": list(e),
        "n0": [5, 1],
        "r0": [0, 1],
        "late": 2,
        "times": 4,
        **more,
    }
