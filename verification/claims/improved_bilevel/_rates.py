r"""BiG-SAM on quadratics with one curved and two flat directions over the rationals: its error enclosed at all k > l.

H = diag(h, 0, 0). Along the eigenvectors v_1, v_2 of NᵀQN, eigenvalues λ_1 < λ_2, Q = [[p, b_1, b_2], [b_1, λ_1, 0],
[b_2, 0, λ_2]]; the iteration runs in coordinates turned against these. e_k = w_k − w_λ = (r_k, n_1k, n_2k), g =
∇F(w_λ) = (g, 0, 0); with x = sh, τ = ct, e_i = τλ_i, e = e_1, ρ = −τg/x, κ = 1 − x − c(tp − x), u_k = kr_k − ρ,
wherever α_k = c/k:

    kr_k = (1 − x + κ/(k−1))(k−1)r_{k−1} + xρ − τΣb_in_{i,k−1},
    u_k = (1 − x + κ/(k−1))u_{k−1} + κρ/(k−1) − τΣb_in_{i,k−1},    n_ik = (1 − e_i/k)n_{i,k−1} − (τb_i/k)r_{k−1}.

Let 0 < x <= 1, A = (2 + |κ|)/x and l >= max{c, 2A − 1}, l > e_2, ω = (2τ/(xl))Σb_i²/λ_i < 1. Then |κ|/l <= x/2, and
for k >= l:

- **S.** k|r_k| <= S = max{l|r_l|, (2|ρ| + (2τ/x)Σ|b_in_il|)/(1−ω)}, together with |n_ik| <= |n_il| + |b_i|S/(λ_il),
  by induction: |n_ik| is at most a mean of |n_{i,k−1}| and |b_ir_{k−1}|/λ_i, and the first factor is at most 1 − x/2.
- **Null space.** With P_ik = Π_{l<j<=k}(1 − e_i/j) and 1/((k−1)P_{i,k−1}) − 1/(kP_ik) = (1−e_i)/(k(k−1)P_ik) the sum of
  what r adds telescopes: |n_ik − P_ikn_il| <= Z_ik = τ|b_i|S(1/k − P_ik/l)/(e_i−1); for e_i = 1, τ|b_i|Sη_k/k,
  η_k = Σ_{l<=j<k}1/j. So j|n_ij| <= T_ik for l <= j <= k: T_ik = k(P_ik|n_il| + Z_ik) for e_i <= 1, where this grows
  with k; for e_i > 1 kP_ik <= l, and T_ik = max{l|n_il|, τ|b_i|S/(e_i−1)}.
- **Range.** With Φ_k = |κρ| + τΣ|b_i|T_ik, |u_k| <= v_k = Φ_k/(x(k−A)) + υ_k(1−x/2)^{k−l}, υ_k = max{0, |u_l| −
  Φ_k/(x(l−A))}: up to k, with j >= l before it, the first term obeys its recursion as xA − |κ| = 2 >= j/(j+1−A), which
  is j >= 2A − 2, and the second bounds what is left of the start.
- **Logarithm.** e = 1: kn_1k − ln_1l + τb_1ρη_k = −τb_1Σ_{l<=j<k}u_j/j, at most τ|b_1|V_k, V_k = Φ_k/x(1/(l−A) −
  1/(k−A)) + 2υ_k/(xl), as 1/(j(j−A)) <= 1/(j−A) − 1/(j+1−A).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flint import arb, fmpq, fmpq_mat
from hypothesis import strategies as st

Q = fmpq
ZERO, ONE = Q(0), Q(1)
FLAT = (0, 1)
Pair = tuple[fmpq, fmpq]


def up(x: Q) -> int:
    """The least integer >= x."""
    return int(-((-x.p) // x.q))


@dataclass(frozen=True)
class Spatial:
    """Parameters h, p, a, s, share, e, least, ratio, r0: [numerator, denominator]; ``b``, ``n0``: two along v_1, v_2.

    λ_1 is ``least``, λ_2 = ``ratio``·λ_1; ``turn`` [i, j, m]: v_1 = (i, j)/m; ``late``: l over its least; ``times``:
    K/l. t = share·2/(p + λ_2) and c = e/(tλ_1) are rational; γ = c(1−β)/2 is what makes e what it is told to be.
    ``told``: what the enclosure takes for λ_1 and λ_2, to be caught with others.
    """

    params: Mapping[str, Any]
    told: Pair | None = None

    def __getattr__(self, name: str) -> Q:
        if name in ("h", "p", "a", "s", "share", "e", "least", "ratio", "r0"):
            return Q(*self.params[name])
        raise AttributeError(name)

    def along(self, name: str) -> Pair:
        """Two rational parameters."""
        first, second = self.params[name]
        return Q(*first), Q(*second)

    @cached_property
    def flat(self) -> Pair:
        """λ_1 and λ_2."""
        return self.least, self.ratio * self.least

    @cached_property
    def b(self) -> Pair:
        return self.along("b")

    @cached_property
    def axes(self) -> tuple[Pair, Pair]:
        """v_1 and v_2."""
        i, j, m = self.params["turn"]
        return (Q(i, m), Q(j, m)), (Q(-j, m), Q(i, m))

    @cached_property
    def matrix(self) -> list[list[Q]]:
        """Q in the coordinates of the iteration."""
        mixed = [sum((self.b[i] * self.axes[i][m] for i in FLAT), ZERO) for m in FLAT]
        rows = [
            [sum((self.flat[i] * self.axes[i][m] * self.axes[i][n] for i in FLAT), ZERO) for n in FLAT]
            for m in FLAT
        ]
        return [[self.p, *mixed], *([mixed[m], *rows[m]] for m in FLAT)]

    @cached_property
    def t(self) -> Q:
        """At most 2/(σ_F + L_F): the eigenvalue of Q between these two is at least λ_1, of the trace p + λ_1 + λ_2."""
        return self.share * 2 / (self.p + self.flat[1])

    @cached_property
    def tau(self) -> Q:
        """ct."""
        return self.e / self.flat[0]

    @cached_property
    def c(self) -> Q:
        return self.tau / self.t

    @cached_property
    def exponents(self) -> Pair:
        """e_1 and e_2."""
        low, high = self.told or self.flat
        return self.tau * low, self.tau * high

    @property
    def beta_squared(self) -> arb:
        """1 − 2tσL/(σ+L), enclosed."""
        entries = [entry for row in self.matrix for entry in row]
        found: Any = fmpq_mat(3, 3, entries).charpoly().complex_roots()  # each with its multiplicity
        roots = [root.real for root, _ in found]
        return 1 - 2 * self.t / (1 / min(roots) + 1 / max(roots))

    @cached_property
    def g(self) -> Q:
        """First entry of ∇F(w_λ), a the first of F's minimiser; the others are 0."""
        return self.a * (sum((self.b[i] ** 2 / self.flat[i] for i in FLAT), ZERO) - self.p)

    @cached_property
    def x(self) -> Q:
        return self.s * self.h

    @cached_property
    def rho(self) -> Q:
        """lim kr_k = −(ct/s)H⁺g."""
        return -self.tau * self.g / self.x

    @cached_property
    def kappa(self) -> Q:
        return 1 - self.x - self.c * (self.t * self.p - self.x)

    @cached_property
    def shift(self) -> Q:
        """A."""
        return (2 + abs(self.kappa)) / self.x

    @cached_property
    def mixing(self) -> Q:
        """ωl."""
        return 2 * self.tau / self.x * sum((self.b[i] ** 2 / self.flat[i] for i in FLAT), ZERO)

    @cached_property
    def first(self) -> int:
        """l."""
        quarter = 4 * self.mixing  # ω <= 1/4
        steepest = self.tau * self.flat[1]
        least = max(up(self.c), up(2 * self.shift - 1), up(steepest) + 1, up(quarter))
        return int(self.params["late"]) * least

    @property
    def K(self) -> int:
        return int(self.params["times"]) * self.first

    @cached_property
    def ks(self) -> range:
        return range(self.first + 1, self.K + 1)

    @cached_property
    def errors(self) -> list[tuple[Q, Q, Q]]:
        """w_k − w_λ, k = 0 … K; with ``frozen`` α_k = 1/4, no schedule of BiG-SAM."""
        start = self.along("n0")
        w = [self.r0, *(sum((start[i] * self.axes[i][m] for i in FLAT), ZERO) for m in FLAT)]
        found = [(w[0], w[1], w[2])]
        for k in range(1, self.K + 1):
            weight = Q(1, 4) if self.params.get("frozen") else min(self.c / k, ONE)
            step = weight * self.t
            moved = [
                [(i == j) - step * entry for j, entry in enumerate(row)] for i, row in enumerate(self.matrix)
            ]
            moved[0][0] -= (1 - weight) * self.x
            w = [row[0] * w[0] + row[1] * w[1] + row[2] * w[2] for row in moved]
            w[0] -= step * self.g
            found.append((w[0], w[1], w[2]))
        return found

    def flats(self, k: int) -> Pair:
        """n_1k and n_2k."""
        _, *n = self.errors[k]
        first, second = (axis[0] * n[0] + axis[1] * n[1] for axis in self.axes)
        return first, second

    def gap(self, k: int) -> Q:
        """f_k − f = gr + ½eᵀQe."""
        w = self.errors[k]
        curved = sum((w[i] * row[j] * w[j] for i, row in enumerate(self.matrix) for j in range(3)), ZERO)
        return self.g * w[0] + curved / 2

    # -- the enclosure --

    @cached_property
    def at_first(self) -> tuple[Pair, Q, Q]:
        """|n_1l| and |n_2l|, l|r_l| and |u_l|."""
        (n, m), r = self.flats(self.first), self.errors[self.first][0]
        return (abs(n), abs(m)), self.first * abs(r), abs(self.first * r - self.rho)

    @cached_property
    def S(self) -> Q:
        n, r, _ = self.at_first
        pushed = 2 * self.tau / self.x * sum((abs(self.b[i]) * n[i] for i in FLAT), ZERO)
        return max(r, (2 * abs(self.rho) + pushed) / (1 - self.mixing / self.first))

    @cached_property
    def products(self) -> tuple[dict[int, Q], dict[int, Q]]:
        """P_1k and P_2k, k >= l."""
        found = ({self.first: ONE}, {self.first: ONE})
        for k in self.ks:
            for i in FLAT:
                found[i][k] = found[i][k - 1] * (1 - self.exponents[i] / k)
        return found

    @cached_property
    def harmonics(self) -> dict[int, Q]:
        """η_k, k >= l."""
        found = {self.first: ZERO}
        for k in self.ks:
            found[k] = found[k - 1] + Q(1, k - 1)
        return found

    def centre(self, i: int, k: int) -> Q:
        """P_ik|n_il|."""
        return self.products[i][k] * self.at_first[0][i]

    def added(self, i: int, k: int) -> Q:
        """Z_ik."""
        pushed, e = self.tau * abs(self.b[i]) * self.S, self.exponents[i]
        if e == 1:
            return pushed * self.harmonics[k] / k
        return pushed * (Q(1, k) - self.products[i][k] / self.first) / (e - 1)

    def null(self, i: int, k: int) -> Pair:
        """|n_ik| from below and above."""
        centre, around = self.centre(i, k), self.added(i, k)
        return max(centre - around, ZERO), centre + around

    def most(self, i: int, k: int) -> Q:
        """T_ik."""
        e = self.exponents[i]
        if e <= 1:
            return k * self.null(i, k)[1]
        return max(self.first * self.at_first[0][i], self.tau * abs(self.b[i]) * self.S / (e - 1))

    def forcing(self, k: int) -> Q:
        """Φ_k."""
        pushed = sum((abs(self.b[i]) * self.most(i, k) for i in FLAT if self.b[i]), ZERO)
        return abs(self.kappa * self.rho) + self.tau * pushed

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
        """υ_k."""
        return max(ZERO, self.at_first[2] - forcing / (self.x * (self.first - self.shift)))

    def drift(self, k: int) -> Q:
        """V_k."""
        forced, between = self.forcing(k), 1 / (self.first - self.shift) - 1 / (k - self.shift)
        return (forced * between + 2 * self.left(forced) / self.first) / self.x

    def range(self, k: int) -> Pair:
        """|r_k| from below and above."""
        v = self.strays(k, self.forcing(k))
        return max(abs(self.rho) - v, ZERO) / k, min(self.S, abs(self.rho) + v) / k

    def squares(self, k: int) -> Pair:
        """‖e_k‖² from below and above."""
        (low, high), parts = self.range(k), [self.null(i, k) for i in FLAT]
        return low**2 + sum((n**2 for n, _ in parts), ZERO), high**2 + sum((n**2 for _, n in parts), ZERO)


def fractions(*values: str) -> Any:
    """One of these numbers, as [numerator, denominator]."""
    pairs = [[int(i) for i in (*value.split("/"), "1")[:2]] for value in values]
    return st.sampled_from(pairs)


def two(of: Any) -> Any:
    """Two of them."""
    return st.tuples(of, of).map(list)


def spatials(*exponents: str, **fixed: Any) -> Any:
    """Strategy: e one of these."""
    boxes = {
        "h": fractions("1", "3/4", "1/2"),
        "p": fractions("2", "1", "3/2", "3"),
        "b": two(fractions("0", "1/8", "-1/8", "1/4", "-1/4", "1/2", "-1/2")),
        "a": fractions("1", "1/2", "2"),
        "s": fractions("1", "3/4"),
        "share": fractions("1/2", "3/4", "1"),
        "e": fractions(*exponents),
        "least": fractions("1", "1/2", "3/2"),
        "ratio": fractions("2", "3", "3/2"),
        "turn": st.sampled_from([[1, 0, 1], [3, 4, 5], [-4, 3, 5], [0, 1, 1]]),
        "n0": two(fractions("5", "-5", "1", "-1")),
        "r0": fractions("0", "1", "-1"),
        "late": st.integers(1, 4),
        "times": st.integers(2, 4),
    }
    return st.fixed_dictionaries({**boxes, **fixed})


def spatial(e: tuple[int, int], **more: Any) -> dict[str, Any]:
    """H = diag(1, 0, 0), Q of p = 2 and NᵀQN = diag(1, 2), t half as long as it may be, w_0 = w_λ + (0, 5, 1)."""
    return {
        "h": [1, 1],
        "p": [2, 1],
        "b": [[0, 1], [0, 1]],
        "a": [1, 1],
        "s": [1, 1],
        "share": [1, 2],
        "e": list(e),
        "least": [1, 1],
        "ratio": [2, 1],
        "turn": [1, 0, 1],
        "n0": [[5, 1], [1, 1]],
        "r0": [0, 1],
        "late": 2,
        "times": 4,
        **more,
    }
