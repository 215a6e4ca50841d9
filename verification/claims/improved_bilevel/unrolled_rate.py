r"""The derivative through BiG-SAM tends to the improved hypergradient as κ/K, enclosed over the rationals.

R², n = 1, λ = 0: G = ½(n·w − c)², F = ½(w − a)ᵀQ(w − a), n = (1 + σλ, τλ), c = 1 + λ, Q = diag(1, q) + λχ(1 1; 1 1),
a = a + λ(1, 1). To first order in λ, U = (1, τλ) and N = (−τλ, 1) are a turning orthonormal basis, the range of
H = nnᵀ and its null space; in it w_k − w_λ = (r_k, m_k), ∇F(w_λ) = (g, 0), Q = [[p, b], [b, d]] with b = 0 at λ = 0. A
prime is d/dλ; α_k = v/k (v = 2γ/(1 − β)), e = vtd, x = s|n|², ρ = −vtg/x, u_k = kr_k − ρ, ξ = 1 − x − v(tp − x): where
k > l,

    u_k = φ_ku_{k−1} + ξρ/(k−1) − vtb m_{k−1},   φ_k = 1 − x + ξ/(k−1),
    m_k = (1 − e/k)m_{k−1} − (vtb/k)r_{k−1},     F(λ, w_k) − f = gr_k + ½(pr_k² + 2br_km_k + dm_k²).

Let 0 < x <= 1, e > 1, l >= max{v, e, 2|ξ|/x, 4/x}, η = 1 + 1/l and D = 1 − η(1 − x + |ξ|/l) >= x/4. Differentiate all
of it at λ = 0.

- **Null space.** k|m_k| <= M = l|m_l|, as Π(1 − e/i) <= l/k.
- **Range.** What obeys |u_k| <= |φ_k||u_{k−1}| + Φ/(k−1) has k|u_k| <= V = max{l|u_l|, ηΦ/D}, by induction: k/(k−1) <=
  η, |φ_k| <= 1 − x + |ξ|/l, and (1 − D)V + ηΦ <= V. So k|u_k| <= V for Φ = |ξρ|, and k|r_k| <= S = |ρ| + V/l.
- **Slopes.** Likewise k|u_k'| <= V' for Φ = |x'|V + |ξ'|V/l + |(ξρ)'| + vt|b'|M, and k|r_k'| <= S' = |ρ'| + V'/l;
  k|m_k'| <= T = max{l|m_l'|, vt(|d'|M + |b'|S)/(e − 1)}, as (k − e)T + vt(|d'|M + |b'|S) <= (k − 1)T.
- **Together**, with κ = (gρ)' and E_K the slope of F(λ, w_K) − f: |K E_K − κ| <= C/K,
  C = |g'|V + |g|V' + ½|p'|S² + pSS' + |b'|SM + ½|d'|M² + dMT.

The slopes are taken by dual numbers, through the method and of every constant: no derivative is written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from verification.claims.improved_bilevel._dual import Dual, dual, solve
from verification.claims.improved_bilevel._rates import ONE, ZERO, fractions, up
from verification.claims.improved_bilevel.lemma_2_rate import tightest
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement

EPSILON = Dual(ZERO, ONE)


@dataclass(frozen=True)
class Turning:
    """Parameters q, tau, sigma, chi, a1, a2, s, share, e: [numerator, denominator]; ``late``: l over its least.

    ``doublings``: of l, to K. t = share·2/(σ_F + L_F), and γ is what makes e what it is told to be. ``drop``: n and c
    times λ, so that there is no lower level at λ = 0, while w_λ, f and the enclosure are those beside it.
    """

    params: Mapping[str, Any]

    def number(self, name: str) -> fmpq:
        return fmpq(*self.params[name])

    @property
    def t(self) -> fmpq:
        return self.number("share") * 2 / (self.number("q") + 1)

    @property
    def v(self) -> fmpq:
        """α_k = min{v/k, 1}."""
        return self.number("e") / (self.t * self.number("q"))

    @property
    def beta_squared(self) -> fmpq:
        return 1 - 2 * self.t * self.number("q") / (1 + self.number("q"))

    # -- the problem, in λ = ε --

    @cached_property
    def n(self) -> np.ndarray:
        return np.array([1 + self.number("sigma") * EPSILON, self.number("tau") * EPSILON], dtype=object)

    @property
    def followed(self) -> np.ndarray:
        """The n of the method's own steps."""
        return self.n * 0 if self.params.get("drop") else self.n

    @cached_property
    def target(self) -> Dual:
        return 1 + EPSILON

    @cached_property
    def Q(self) -> np.ndarray:
        turned, diagonal = self.number("chi") * EPSILON, (ONE, self.number("q"))
        return np.array(
            [[turned + (diagonal[i] if i == j else ZERO) for j in (0, 1)] for i in (0, 1)], dtype=object
        )

    @cached_property
    def a(self) -> np.ndarray:
        return np.array([self.number("a1") + EPSILON, self.number("a2") + EPSILON], dtype=object)

    def value(self, w: np.ndarray) -> Dual:
        """F."""
        return dual((w - self.a) @ self.Q @ (w - self.a) / 2)

    @cached_property
    def basis(self) -> tuple[np.ndarray, np.ndarray]:
        """U and N: orthonormal but for λ²."""
        tau = self.number("tau") * EPSILON
        return np.array([dual(ONE), tau], dtype=object), np.array([0 - tau, dual(ONE)], dtype=object)

    @cached_property
    def solution(self) -> np.ndarray:
        """w_λ: n·w = c and N·Q(w − a) = 0."""
        row = self.Q @ self.basis[1]
        return solve(np.stack([self.n, row]), np.array([self.target, row @ self.a], dtype=object))

    @cached_property
    def path(self) -> list[np.ndarray]:
        """w_0 … w_K, by the method itself from 0."""
        s, t, w = self.number("s"), self.t, np.array([dual(ZERO), dual(ZERO)], dtype=object)
        found = [w]
        for k in range(1, self.ks[-1] + 1):
            weight = min(self.v / k, ONE)
            lower = self.followed * (self.n @ w - self.target)
            w = w - weight * t * (self.Q @ (w - self.a)) - (1 - weight) * s * lower
            found.append(w)
        return found

    def error(self, k: int) -> fmpq:
        """dF(λ, w_k)/dλ − ∇f."""
        return (self.value(self.path[k]) - self.value(self.solution)).slope

    # -- the enclosure --

    @cached_property
    def scalars(self) -> tuple[Dual, ...]:
        """g, p, b, d, x and ρ."""
        (U, N), Q = self.basis, self.Q
        g, x = U @ Q @ (self.solution - self.a), self.number("s") * (self.n @ self.n)
        return g, U @ Q @ U, U @ Q @ N, N @ Q @ N, x, -self.v * self.t * g / x

    @cached_property
    def xi(self) -> Dual:
        _, p, _, _, x, _ = self.scalars
        return 1 - x - self.v * (self.t * p - x)

    @cached_property
    def first(self) -> int:
        """l."""
        x = self.scalars[4].value
        least = max(self.v, self.number("e"), 2 * abs(self.xi.value) / x, 4 / x)
        return int(self.params["late"]) * up(least)

    @cached_property
    def ks(self) -> list[int]:
        return [self.first * 2**i for i in range(1, self.params["doublings"] + 1)]

    @cached_property
    def kappa(self) -> fmpq:
        """(gρ)'."""
        return (self.scalars[0] * self.scalars[5]).slope

    @cached_property
    def sizes(self) -> tuple[fmpq, ...]:
        """M, V, V' and T: what k|m_k|, k|u_k|, k|u_k'| and k|m_k'| are at most."""
        _, _, b, d, x, rho = self.scalars
        start, vt, forced = self.first, self.v * self.t, self.xi * rho
        (u, m), eta = self.coordinates(start), 1 + fmpq(1, start)
        D = 1 - eta * (1 - x.value + abs(self.xi.value) / start)
        M, V = start * abs(m.value), max(start * abs(u.value), eta * abs(forced.value) / D)
        moved = (abs(x.slope) + abs(self.xi.slope) / start) * V
        pushed = moved + abs(forced.slope) + vt * abs(b.slope) * M
        Vp = max(start * abs(u.slope), eta * pushed / D)
        coupled = abs(d.slope) * M + abs(b.slope) * (abs(rho.value) + V / start)
        return M, V, Vp, max(start * abs(m.slope), vt * coupled / (self.number("e") - 1))

    def coordinates(self, k: int) -> tuple[Dual, Dual]:
        """u_k and m_k."""
        (U, N), off = self.basis, self.path[k] - self.solution
        return k * (U @ off) - self.scalars[5], N @ off

    @cached_property
    def C(self) -> fmpq:
        g, p, b, d, _, rho = self.scalars
        M, V, Vp, T = self.sizes
        S, Sp = abs(rho.value) + V / self.first, abs(rho.slope) + Vp / self.first
        squares = abs(p.slope) * S * S / 2 + p.value * S * Sp + abs(d.slope) * M * M / 2 + d.value * M * T
        return abs(g.slope) * V + abs(g.value) * Vp + squares + abs(b.slope) * S * M


def tends(share: fmpq = ONE, power: int = 0) -> Callable[[Turning], Measurement]:
    """|K E_K − κ| <= C/K at K = 2l, 4l …; mutated: share × κ, or κ (K/l)^power."""

    def measure(run: Turning) -> Measurement:
        pairs = []
        for K in run.ks:
            lead = share * run.kappa * fmpq(K, run.first) ** power
            pairs.append((abs(K * run.error(K) - lead), run.C / K))
        return tightest(pairs, l=run.first, K=run.ks[-1])

    return measure


def curve(run: Turning) -> dict[str, Any]:
    """K E_K within its enclosure."""
    ks = range(run.first + 1, run.ks[-1] + 1)
    lines = {
        "κ + C/K": [float(run.kappa + run.C / K) for K in ks],
        "K × error": [float(K * run.error(K)) for K in ks],
        "κ − C/K": [float(run.kappa - run.C / K) for K in ks],
    }
    return {
        "x": list(ks),
        "lines": lines,
        "xlabel": "K",
        "ylabel": "K × error of the derivative",
        "logx": True,
    }


def _rank(run: Turning) -> tuple[bool, Any]:
    """H has the rank at λ that it has beside it, which is 1."""
    n = [str(entry.value) for entry in run.followed]
    return n != ["0", "0"], f"n = {n}"


def _allowed(run: Turning) -> tuple[bool, str]:
    """γ <= 1, which is β >= 1 − 2/v, decided by squares."""
    least = 1 - 2 / run.v
    return run.number("share") <= 1 and (least <= 0 or run.beta_squared >= least * least), str(
        run.beta_squared
    )


def of(e: tuple[int, int] = (2, 1), **more: Any) -> dict[str, Any]:
    """Parameters of one problem."""
    base: dict[str, Any] = {
        "q": [2, 1],
        "tau": [1, 1],
        "sigma": [0, 1],
        "chi": [1, 2],
        "a1": [3, 1],
        "a2": [2, 1],
    }
    return {**base, "s": [1, 1], "share": [1, 1], "e": list(e), "late": 2, "doublings": 3, **more}


AT_ONCE = of(
    (5, 4), q=[1, 1], chi=[0, 1], a1=[2, 1], doublings=2
)  # F's step alone and G's lead to their minimisers
FAR = of((3, 1), late=4, doublings=4)  # C/K is below |κ|/10 at the end

CLAIMS = (
    Claim(
        id="improved-bilevel/improved-hypergradient@bigsam",
        title="The derivative through BiG-SAM tends to the hypergradient like 1/K",
        source="improved-bilevel, algorithm 2 and theorem 1",
        statement=r"K > l: \quad \left|\,K\left(\tfrac{d}{d\lambda}F(\lambda, w_K(\lambda)) - \nabla "
        r"f(\lambda)\right) - \kappa\,\right| \le \frac CK, \quad \kappa = -\frac{2\gamma "
        r"t}{(1-\beta)s}\frac{d}{d\lambda}\left(g^\top H^+g\right)",
        hypotheses=(
            Hypothesis(
                "constant rank", r"\mathrm{rank}\,\nabla^2_{ww}G \text{ constant near } \lambda", _rank
            ),
            Hypothesis(
                "e above 1",
                r"e = \tfrac{2\gamma t}{1-\beta}N^\top QN > 1",
                lambda run: (run.number("e") > 1, str(run.number("e"))),
            ),
            Hypothesis("γ at most 1", r"0 < \gamma \le 1,\ t \le 2/(\sigma_F+L_F)", _allowed),
            Hypothesis(
                "step on G",
                r"0 < sh \le 1",
                lambda run: (0 < run.scalars[4].value <= 1, str(run.scalars[4].value)),
            ),
        ),
        strategy=st.fixed_dictionaries(
            {
                "q": fractions("1", "2", "3", "4", "1/2"),
                "tau": fractions("1", "-1", "1/2", "0"),
                "sigma": fractions("0", "1/2", "-1/2"),
                "chi": fractions("0", "1/2", "-1/2"),
                "a1": fractions("2", "3", "4"),
                "a2": fractions("2", "-3", "0"),
                "s": fractions("1", "3/4", "1/2"),
                "share": fractions("1", "3/4", "1/2"),
                "e": fractions("5/4", "3/2", "2", "5/2", "3", "4", "6"),
                "late": st.integers(1, 3),
                "doublings": st.integers(2, 3),
            }
        ),
        explicit=(of(), of((3, 2)), of((3, 1), tau=[1, 2], q=[4, 1])),
        build=lambda params: Turning(dict(params)),
        measure=tends(),
        grade="proved",
        controls=(
            Control("e = 1/4", params=of((1, 4), doublings=5)),
            Control("the rank changes at λ", params=of(drop=True, doublings=4)),
            Control("a step of 3/L_G", params=of(s=[3, 1])),
            Control("1/K²", kind="formula", params=FAR, measure=tends(ZERO)),
            Control("nine tenths of κ", kind="formula", params=FAR, measure=tends(fmpq(9, 10))),
            Control("no decay", kind="formula", params=FAR, measure=tends(power=1)),
        ),
        equality=Equality(params=AT_ONCE, reaches=1.0),
        curve=curve,
        budget=Budget(quick=10, full=300),
        notes=r"Over the rationals, in the plane: $G = \tfrac12(n(\lambda)\cdot w - c(\lambda))^2$, whose null "
        r"space turns with $\lambda$, $F = \tfrac12\|w - a(\lambda)\|^2_{Q(\lambda)}$ without coupling at "
        r"$\lambda$; $g = \nabla_wF$ at $w_\lambda$, $h = |n|^2$. C is made of the problem and of the state at "
        r"l, in the docstring of the module, beside the proof: in a basis that turns with the null space the "
        r"error of $w_K$ obeys a planar recursion whose coefficients move with $\lambda$, and its slope in "
        r"$\lambda$ obeys the recursion's slope. $K(F(\lambda, w_K) - f)$ tends to $-\tfrac{2\gamma "
        r"t}{(1-\beta)s}g^\top H^+g$ (Tikhonov's error, at this step's ε), and κ is its slope. So a secant of "
        r"the logarithm of the error over $[K, K']$ has an exponent within "
        r"$\log\tfrac{|\kappa|+C/K}{|\kappa|-C/K} / \log\tfrac{K'}K$ of $-1$: nothing is fitted. $e \ge "
        r"2\gamma$, so that $\gamma > \tfrac12$ is enough; for $e < 1$ the null space is slower, and the "
        r"exponent is $\min(1, 2e)$. The bound is attained where both steps lead to the minimisers at once. At "
        r"a change of rank the derivative is just as smooth in K, finite, and means nothing.",
    ),
)
