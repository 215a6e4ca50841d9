r"""Section 3: the deterministic schedules of BSA and of BSGM, their rates in samples of the lower level, enclosed.

An iteration without noise, from a fixed w_0, is a map of λ alone, affine where the levels are quadratic; it depends on
k through its number t_k of inner steps. For each t it is read off the algorithm's own ``step`` at λ = 0 and λ = 1;
while t_k = t, λ_k moves geometrically. So tens of thousands of iterations cost a few steps.

A(N) is the average of f′(λ_k)² over k < N, T(N) the gradients of G (BSA), or all evaluations (BSGM: 2t + 2), so far.
Let Σ_N = N A(N), and l <= N. Proved of them:

- **Error.** G = ½wᵀHw + λkᵀw, x = H⁻¹k, so w(λ) = −λx; I − E is H times the lower step, ‖E‖ <= q. BSA's estimate is off
  by xᵀEᵗ(w_0 − w(λ)), BSGM's by xᵀ[(I − Eᵗ)Eᵗ(w_0 − w(λ)) − Eᵗ(w(λ) − b)], up to their signs: by at most
  ‖x‖qᵗ(Y + Z|f′(λ)|), where n = 1 (BSA) or 1 + qᵗ, Y = n‖w_0 − w(λ*)‖ (+ ‖w(λ*) − b‖), Z = n‖x‖/f″ (+ ‖x‖/f″).
- **Sum.** s = αf″ <= 1 and f′⁺ = (1 − s)f′ − sδ, so f′⁺² <= (1 − s)f′² + sδ² and Σ_N − Σ_l <= f′(λ_l)²/s +
  Σ_{k>=l} δ_k². There |f′(λ_k)| <= F = max{|f′(λ_l)|, DY/(1 − DZ)}, D = ‖x‖ sup_{k>=l} q^{t_k}, as DZ < 1: f″ >= ‖x‖².
  The stated schedules have q^{t_k} = q^⌈(k+1)^¼/2⌉, and q^{t_k} <= 1/(k + 1), of which Σ_{k>=l} 1/(k + 1)² <= 1/l.
- **Samples.** BSA: h = T − ⅖N^{5/4} − N/2 has the derivative t − x − ½ in N = 16x⁴ where t − 1 < x <= t, and is
  (8/15)t − (16/3)t³ at x = t. It grows until x = t − ½, from t − 1 by ∫(t − ½ − x)64x³dx <= 8x³ = N^¾, then falls; and
  ⅖N^{5/4} + N/2 − ⅔N^¾ + (4/15)N^¼, equal to T at N = 16t⁴, is convex: −⅔N^¾ <= h <= N^¾. BSGM: N log N − N <=
  log N! <= (N + 1) log(N + 1) − N and x <= ⌈x⌉ < x + 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import BilevelProblem, exact_hypergradient
from refimpl.algorithms import BSA, BSGM
from refimpl.approximate.inverse import SumNeumann
from refimpl.arrays.backend import Array
from refimpl.lengths import Fixed, Growing, Length, Logarithmic
from refimpl.zoo import quadratic
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, reals

EPS = float(np.finfo(float).eps)
FIRST, LAST, EVERY = 2**12, 2**16, 2**8  # l, the largest N, and from one N to the next
TERMS = 60  # of BSA's Neumann series, "exact": q <= 1/3 leaves 3⁻⁶⁰


@dataclass(frozen=True)
class Scheduled:
    """G = ½wᵀHw + λkᵀw, spectrum in [1/κ, 1], F = ½‖w − b‖² + ½cλ², n = 1; one of the two algorithms on it."""

    params: Mapping[str, Any]

    @property
    def kappa(self) -> float:
        return float(self.params["kappa"])

    @property
    def q(self) -> float:
        return (self.kappa - 1) / (self.kappa + 1)

    @cached_property
    def problem(self) -> BilevelProblem:
        rng, d = np.random.default_rng(self.params["seed"]), 3
        Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
        H = Q @ np.diag(np.geomspace(1 / self.kappa, 1, d)) @ Q.T
        lower = quadratic.objective(ww=(H + H.T) / 2, lw=rng.standard_normal((1, d)))
        b = rng.standard_normal(d)
        upper = quadratic.objective(
            ww=np.eye(d), ll=[[self.params["curvature"]]], w1=-b / np.linalg.norm(b), n=1
        )
        return BilevelProblem(upper, lower)

    @cached_property
    def line(self) -> tuple[float, float]:
        """f′(λ) = H λ + g."""
        g = exact_hypergradient(self.problem, np.array([[0.0], [1.0]]), certify="never").value[:, 0]
        return float(g[1] - g[0]), float(g[0])

    @cached_property
    def length(self) -> Length:
        """t_k."""
        if "steps" in self.params:
            return Fixed(self.params["steps"])
        if self.params["algorithm"] == "bsa":
            return Growing(0.5, 0.25)
        return Logarithmic(self.params["pace"] / -math.log(self.q))

    @cached_property
    def algorithm(self) -> BSA | BSGM:
        alpha, step = self.params["share"] / self.line[0], 2 / (1 + 1 / self.kappa)
        if self.params["algorithm"] == "bsa":
            return BSA(alpha=alpha, beta=step, steps=self.length, inverse=SumNeumann(step, TERMS))
        return BSGM(t=self.length, k=self.length, J=1, alpha=alpha, rate=step, batch=None)

    def piece(self, t: int) -> tuple[float, float]:
        """λ⁺ = M λ + c in an iteration with t inner steps."""
        a, problem = self.algorithm, self.problem
        fixed = replace(a, steps=t) if isinstance(a, BSA) else replace(a, t=t, k=t)
        state = fixed.init(problem, np.array([[0.0], [1.0]]), self.start)
        sample = fixed.space(problem, 0).points(np.zeros(1, dtype=np.int64))
        x = np.asarray(fixed.step(problem, state, sample).lam).reshape(2)
        return float(x[1] - x[0]), float(x[0])

    @property
    def start(self) -> Array:
        """w_0."""
        return np.ones(self.problem.d)

    def pieces(self, last: int) -> list[tuple[int, int]]:
        """(t, how many of k < last have it), in order: t_k never falls."""
        found, k = [], 0
        while k < last:
            t, low, high = self.length(k), k, last
            while high - low > 1:  # the last k with this t, by bisection
                middle = (low + high) // 2
                low, high = (middle, high) if self.length(middle) == t else (low, middle)
            found.append((t, low + 1 - k))
            k = low + 1
        return found

    @cached_property
    def run(self) -> tuple[Array, Array]:
        """Σ_{k<N} f′(λ_k)² and T(N), N = 1, 2, …, LAST."""
        H, g = self.line
        lam, squares, used = float(self.params["lam0"]), [], []
        for t, count in self.pieces(LAST):
            M, c = self.piece(t)
            rest = c / (1 - M)
            at = rest + M ** np.arange(count) * (lam - rest)
            lam = rest + M**count * (lam - rest)
            squares.append((H * at + g) ** 2)
            used.append(np.full(count, t if self.params["algorithm"] == "bsa" else 2 * t + 2))
        return np.concatenate(squares).cumsum(), np.concatenate(used).cumsum()

    def error(self, power: float) -> tuple[float, float, float]:
        """‖x‖, Y and Z where qᵗ <= power."""
        bsa, (H, g) = self.params["algorithm"] == "bsa", self.line
        lams = np.array([[-g / H], [1 - g / H]])
        best, other = np.asarray(exact_hypergradient(self.problem, lams, certify="never").w)
        x, near = float(np.linalg.norm(other - best)), 1.0 if bsa else 1 + power
        Y, Z = near * float(np.linalg.norm(self.start - best)), near * x / H
        right = np.zeros(self.problem.d) if bsa else np.asarray(self.problem.upper.grad_w(lams[0], best))
        return x, Y + float(np.linalg.norm(right)), Z + (0 if bsa else x / H)

    def rest(self, first: int = FIRST) -> float:
        """What Σ_N − Σ_l is at most for N <= LAST, l = ``first``, with the schedule that is stated."""
        k, bsa = np.arange(first, LAST), self.params["algorithm"] == "bsa"
        powers = self.q ** np.ceil((k + 1) ** 0.25 / 2) if bsa else 1 / (k + 1)
        x, Y, Z = self.error(float(powers[0]))
        D, square = x * powers[0], float(np.diff(self.run[0][first - 1 : first + 1])[0])  # f′(λ_l)²
        F = max(math.sqrt(square), D * Y / (1 - D * Z))
        summed = (powers**2).sum() if bsa else 1 / first
        return float(square / self.params["share"] + (x * (Y + Z * F)) ** 2 * summed)

    def spent(self, N: Array) -> tuple[Array, Array]:
        """What T(N) is between."""
        if self.params["algorithm"] == "bsa":
            main = 0.4 * N**1.25 + N / 2
            return main - 2 / 3 * N**0.75, main + N**0.75
        c3 = self.params["pace"] / -math.log(self.q)
        log = (1 + 1 / N) * np.log(N + 1)
        return 2 * N * (c3 * (np.log(N) - 1) + 1), 2 * N * (c3 * (log - 1) + 2)

    @property
    def rounding(self) -> float:
        """Of Σ_N T(N), relative: LAST sums of positive terms, the iterates and their powers."""
        return 10 * LAST * EPS


def enclosed(
    power: float, wrong: float | None = None, *, still: bool = False
) -> Callable[[Scheduled], Measurement]:
    """A(N) T(N)^power against what follows from Σ_l <= Σ_N <= Σ_l + rest and from T's enclosure, at N = l, …, LAST.

    For controls: ``wrong``: another power of T(N); ``still``: what follows at l stands for every N.
    """

    def measure(one: Scheduled) -> Measurement:
        N = np.arange(FIRST, LAST + 1, EVERY)
        total, used = (x[N - 1] for x in one.run)
        found = total / N * used ** (power if wrong is None else wrong)
        low, high = one.spent(N.astype(float))
        below, above = total[0] * low**power / N, (total[0] + one.rest()) * high**power / N
        if still:
            below, above = below[0], above[0]
        ratio = float(max((below / found).max(), (found / above).max()))
        return Measurement(
            observed=ratio, bound=1.0, rounding=one.rounding * ratio, detail={"N": [FIRST, LAST]}
        )

    return measure


def _schedule(one: Scheduled) -> tuple[bool, str]:
    if one.params["algorithm"] == "bsa" or "steps" in one.params:
        return "steps" not in one.params, str(one.length)
    return one.params["pace"] >= 1, f"c₃ log(1/q) = {one.params['pace']}"


def _short(one: Scheduled) -> tuple[bool, float]:
    return one.params["share"] <= 1, one.params["share"]


def _schedules(tex: str) -> Hypothesis:
    return Hypothesis("the schedule", tex, _schedule)


SHORT = Hypothesis("α", r"\alpha\le1/L_f", _short)
SIMPLE = {"seed": 0, "kappa": 2.0, "curvature": 0.5, "share": 0.5, "lam0": 4.0, "pace": 1.0}
BOXES = {
    "seed": st.integers(0, 10**4),
    "kappa": reals(1.25, 2),
    "curvature": reals(0.1, 1),
    "share": reals(0.25, 1),
    "lam0": reals(2, 8),
}


def _claim(name: str, who: str, power: float, tex: str, **texts: Any) -> Claim:
    controls, notes = texts.pop("controls"), texts.pop("notes")
    return Claim(
        id=f"contraction/bsa-deterministic{name}",
        source="contraction, section 3, the deterministic case",
        hypotheses=(_schedules(tex), SHORT),
        strategy=st.fixed_dictionaries(
            {"algorithm": st.just(who), **BOXES, **({} if who == "bsa" else {"pace": reals(1, 2)})}
        ),
        explicit=({**SIMPLE, "algorithm": who}, {**SIMPLE, "algorithm": who, "seed": 1, "kappa": 1.5}),
        build=Scheduled,
        measure=enclosed(power),
        grade="exact",
        controls=(
            Control("two steps in every iteration", params={**SIMPLE, "algorithm": who, "steps": 2}),
            *controls,
        ),
        budget=Budget(quick=4, full=300),
        notes=notes
        + rf" $N$ from $l={FIRST}$ to {LAST} in steps of {EVERY}, on quadratics with $\kappa\le2$; $R$ bounds "
        r"$\sum_{k\ge l}\|\nabla f(\lambda_k)\|^2$ from the state at $l$ and from $\|\delta_k\|\le Cq^{t_k}$, in the "
        r"docstring of the module, beside the proof. Nothing is fitted.",
        **texts,
    )


def _formula(name: str, measure: Callable[[Scheduled], Measurement], who: str) -> Control:
    return Control(name, kind="formula", measure=measure, params={**SIMPLE, "algorithm": who})


SUM = r"A=\frac1N\sum_{k<N}\|\nabla f(\lambda_k)\|^2,\;\Sigma_l=\sum_{k<l}\|\nabla f(\lambda_k)\|^2"
CLAIMS = (
    _claim(
        "",
        "bsa",
        0.8,
        r"t_k=\lceil(k+1)^{1/4}/2\rceil",
        title="Deterministic BSA: its average squared gradient against the gradients it takes of the lower "
        "level",
        statement=r"t_k=\lceil(k+1)^{1/4}/2\rceil,\;T=\sum_{k<N}t_k,\;u=N^{-1/4}:\quad"
        r"\Sigma_l\bigl(1+\tfrac54u-\tfrac53u^2\bigr)^{4/5}\le A\bigl(\tfrac52T\bigr)^{4/5}\le"
        r"(\Sigma_l+R)\bigl(1+\tfrac54u+\tfrac52u^2\bigr)^{4/5},\quad " + SUM,
        notes=r"BSA with all data and an exactly inverted Hessian, whose products are not counted. So $A\asymp "
        r"T^{-4/5}$, and $\varepsilon^{-5/4}$ gradients for $A\le\varepsilon$: neither more nor fewer.",
        controls=(
            _formula("T⁻¹", enclosed(0.8, 1.0), "bsa"),
            _formula("T^(−2/3)", enclosed(0.8, 2 / 3), "bsa"),
            _formula("T^(−3/4)", enclosed(0.8, 3 / 4), "bsa"),
        ),
    ),
    _claim(
        "@bsgm",
        "bsgm",
        1.0,
        r"t_s=k_s=\lceil c_3\log(s+1)\rceil,\;c_3\log(1/q)\ge1",
        title="A logarithmic schedule improves the deterministic rate to one over the samples, up to a "
        "logarithm",
        statement=r"t_s=k_s=\lceil c_3\log(s+1)\rceil,\;T=\sum_{s<N}(2t_s+2):\quad"
        r"\Sigma_l\bigl(2c_3(\log N-1)+2\bigr)\le A\,T\le"
        r"(\Sigma_l+R)\bigl(2c_3\bigl(\tfrac{N+1}N\log(N+1)-1\bigr)+4\bigr),\quad " + SUM,
        notes=r"So $A\asymp\log T/T$, and $\tilde O(\varepsilon^{-1})$ samples for $A\le\varepsilon$. All samples are "
        r"counted here, and of BSA's only the gradients. At $\kappa=2$ BSGM's total is the "
        r"smaller one from about $5\cdot10^7$ iterations on: $0.4N^{5/4}$ against $(1.82\log N+1.2)N$.",
        controls=(
            Control("a fifth of c₃", params={**SIMPLE, "algorithm": "bsgm", "pace": 0.2}),
            _formula("T^(−4/5)", enclosed(1.0, 0.8), "bsgm"),
            _formula("1/T, without the logarithm", enclosed(1.0, still=True), "bsgm"),
        ),
    ),
)
