"""The ablation: the step on F in every T-th iteration only. What lies between the two models, and what does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import BilevelProblem
from refimpl.solvers import Averaging, BiGSAM
from refimpl.zoo import quadratic
from verification.claims.improved_bilevel._instances import EPS
from verification.claims.improved_bilevel._moving import RATIONAL
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement, reals

SOURCE = "improved-bilevel, figure 2"


@dataclass(frozen=True)
class Ablation:
    """G = ½ Σ x_i w_i², F = ½ Σ q_i (w_i − a_i)², w_0 = 0, s = 1, K steps; ``params``: x, q, a, K, and pairs t, c.

    α_k = min{c/k, 1}: γ = c/2 with β = 0, c <= 2; larger c has β > 0.
    """

    params: Mapping[str, Any]

    @property
    def K(self) -> int:
        return int(self.params["K"])

    @cached_property
    def c(self) -> Fraction:
        return Fraction(*self.params["c"])

    @cached_property
    def t(self) -> Fraction:
        return Fraction(*self.params["t"])

    @cached_property
    def problem(self) -> BilevelProblem:
        x, q, a = (np.array(self.params[name], dtype=float) for name in ("x", "q", "a"))
        lower = quadratic.objective(ww=np.diag(x), n=0)
        upper = quadratic.objective(ww=np.diag(q), w1=-q * a, n=0)
        return BilevelProblem(upper, lower).to("rational")

    @cached_property
    def flat(self) -> list[int]:
        return [i for i, x in enumerate(self.params["x"]) if x == 0]

    def end(self, T: int) -> np.ndarray:
        """w_K."""
        gamma = min(self.c / 2, Fraction(1))
        alpha = Averaging(1 - 2 * gamma / self.c, gamma)
        solver = BiGSAM(self.K, s=Fraction(1), t=self.t, alpha=alpha, every=T)
        return solver.run(self.problem, RATIONAL.zeros((0,)), RATIONAL.zeros((self.problem.d,))).w

    def flat_error(self, T: int) -> Any:
        """‖N^T(w_K − w_λ)‖²: in a flat coordinate w_λ is a."""
        w = self.end(T)
        return sum(((w[i] - self.params["a"][i]) ** 2 for i in self.flat), 0 * w[0])

    def error(self, T: int) -> Any:
        """‖w_K − w_λ‖²: in the other coordinates w_λ is 0."""
        w = self.end(T)
        return self.flat_error(T) + sum((w[i] ** 2 for i in range(len(w)) if i not in self.flat), 0 * w[0])

    def value(self, T: int) -> Any:
        """F(w_K) − its constant."""
        return self.problem.upper.value(RATIONAL.zeros((0,)), self.end(T))


def grows(quantity: Callable[[Ablation, int], Any], falls: bool = False) -> Callable[[Ablation], Measurement]:
    """quantity(T) <= quantity(T + 1) for T = 1 … K, at the T that uses most of it; mutant: the other way round."""

    def measure(run: Ablation) -> Measurement:
        found = [quantity(run, T) for T in range(1, run.K + 2)]
        pairs = [(b, a) if falls else (a, b) for a, b in itertools.pairwise(found)]
        at = max(range(len(pairs)), key=lambda i: _share(*pairs[i]))
        return Measurement(observed=pairs[at][0], bound=pairs[at][1], detail={"T": at + 1})

    return measure


def _share(observed: Any, bound: Any) -> Any:
    """What a pair uses of its bound; of a bound of 0, how much it is above it."""
    return observed / bound if bound > 0 else 10**6 * (observed - bound)


def shifted_value(run: Ablation, T: int) -> Any:
    """F(w_K) >= 0 with its constant ½ Σ q_i a_i²."""
    constant = sum(q * a**2 for q, a in zip(run.params["q"], run.params["a"], strict=True))
    return run.value(T) + RATIONAL.scalar(constant) / 2


def table(run: Ablation) -> dict[str, Any]:
    """The flat error and the value of F against T = 1 … K + 1."""
    Ts = list(range(1, run.K + 2))
    lines = {
        "flat error": [float(run.flat_error(T)) ** 0.5 for T in Ts],
        "F(w_K)": [float(shifted_value(run, T)) for T in Ts],
    }
    return {"x": Ts, "lines": lines, "xlabel": "T", "ylabel": "after K steps"}


def _short_step(run: Ablation) -> tuple[bool, Any]:
    steepest = max((run.params["q"][i] for i in run.flat), default=0) * run.t
    return steepest <= 1, str(steepest)


# -- every T reaches w_λ -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Long:
    """The flat coordinate of one long run, Π(1 − α_{jT} t q), through the library; ``params``: T, e, c, J."""

    params: Mapping[str, Any]

    @property
    def exponent(self) -> float:
        """e/T, e = ctq."""
        return float(self.params["e"]) / int(self.params["T"])

    @cached_property
    def m(self) -> int:
        """From step mT + 1 on α_k = c/k."""
        return max(1, int(np.ceil(self.params["c"] / self.params["T"])))

    @cached_property
    def errors(self) -> tuple[float, float]:
        """|w − a| in the flat coordinate after mT and JT steps."""
        T, c, e = (self.params[name] for name in ("T", "c", "e"))
        gamma = min(c / 2, 1.0)
        alpha = Averaging(1 - 2 * gamma / c, gamma)
        upper = quadratic.objective(ww=np.eye(1), w1=[-1.0], n=0)
        problem = BilevelProblem(upper, quadratic.objective(ww=np.zeros((1, 1)), n=0))
        solver = BiGSAM(self.params["J"] * T, s=1.0, t=e / c, alpha=alpha, every=T)
        states = solver.run(problem, np.zeros(0), np.zeros(1), keep=None).states
        return abs(float(states[self.m * T][0]) - 1), abs(float(states[-1][0]) - 1)


def between(lower: float = 1.0, counted: bool = False) -> Callable[[Long], Measurement]:
    """(m/J)^{e/T} <= |error_JT|/|error_mT| <= ((m+1)/(J+1))^{e/T}: the side that is nearer.

    Mutants: a constant on the lower side; e for e/T.
    """

    def measure(run: Long) -> Measurement:
        m, J = run.m, int(run.params["J"])
        power = run.exponent * (run.params["T"] if counted else 1)
        first, last = run.errors
        rounding = 10 * EPS * run.params["T"] * J  # errors and states are at most 1
        sides = (
            (last, first * ((m + 1) / (J + 1)) ** power),
            (lower * first * (m / J) ** power, last),
        )
        observed, bound = max(sides, key=lambda side: side[0] / max(side[1], EPS))
        return Measurement(observed=observed, bound=bound, rounding=rounding)

    return measure


def _slow(run: Long) -> tuple[bool, float]:
    return run.exponent <= 1, run.exponent


def of(x: list[float], q: list[float], a: list[float], K: int, **more: Any) -> dict[str, Any]:
    """Parameters of one run; t = 1/2 and c = 1 by default."""
    return {"x": x, "q": q, "a": a, "K": K, "t": [1, 2], "c": [1, 1], **more}


PLANE = of([1, 0], [1, 1], [1, 1], 4)
SIZES = {
    "x": st.tuples(st.sampled_from([1, 0.5, 0.25]), st.just(0), st.sampled_from([0, 1])).map(list),
    "q": st.tuples(*[st.integers(1, 2)] * 3).map(list),
    "a": st.tuples(st.integers(-2, 2), st.integers(1, 2), st.integers(-2, 2)).map(list),
    "t": st.sampled_from(([1, 2], [1, 4], [1, 8])),
    "c": st.sampled_from(([1, 2], [1, 1], [2, 1], [3, 1])),
    "K": st.integers(1, 8),
}
COMMON: dict[str, Any] = {
    "source": SOURCE,
    "strategy": st.fixed_dictionaries(SIZES),
    "build": lambda params: Ablation(dict(params)),
    "grade": "proved",
}

CLAIMS = (
    Claim(
        id="improved-bilevel/ablation",
        title="The flat error grows with T, from the improved model's to the basic model's",
        statement=r"\|N^\top(w_K^{(T)} - w_\lambda)\| \le \|N^\top(w_K^{(T+1)} - w_\lambda)\|, \quad T = 1, "
        r"\dots, K",
        **COMMON,
        hypotheses=(Hypothesis("step on F", r"t\,\lambda_{\max}(N^\top QN) \le 1", _short_step),),
        explicit=(PLANE, of([1, 0], [1, 1], [1, 1], 1), of([1, 0, 0], [1, 1, 2], [1, 1, -1], 6)),
        measure=grows(Ablation.flat_error),
        controls=(
            Control("t above 1/q", params=of([1, 0], [1, 3], [1, 1], 3, c=[2, 1])),
            Control("falls with T", kind="formula", measure=grows(Ablation.flat_error, falls=True)),
            Control("the error in all coordinates", kind="formula", measure=grows(Ablation.error)),
        ),
        equality=Equality(params=of([1, 0], [1, 1], [1, 1], 12, c=[13, 1]), reaches=1.0),
        curve=table,
        budget=Budget(quick=20, full=600),
        notes="Diagonal $H$ and $Q$: the flat error is multiplied by $1 - \\alpha_{jT}tq$ for $j \\le K/T$, "
        "so a larger $T$ has fewer factors and larger ones. $T = K+1$ is the basic model exactly. Equality "
        "where all weights are 1.",
    ),
    Claim(
        id="improved-bilevel/ablation@value",
        title="Read by the value of F: it grows with T",
        statement=r"F(w_K^{(T)}) \le F(w_K^{(T+1)}), \quad T = 1, \dots, K",
        **COMMON,
        explicit=(of([1], [1], [1], 3, t=[1, 1]), of([1, 0], [1, 1], [1, 1], 3)),
        measure=grows(shifted_value),
        controls=(Control("falls with T", kind="formula", measure=grows(shifted_value, falls=True)),),
        corrected=Correction(
            tex=r"\|N^\top(w_K^{(T)} - w_\lambda)\| \le \|N^\top(w_K^{(T+1)} - w_\lambda)\|",
            measure=grows(Ablation.flat_error),
            proof="What lies in the range of $H$ relaxes during the $K \\bmod T$ steps after the last step "
            "on $F$, which jumps with $T$. Smallest: $G = \\frac12w^2$, $F = \\frac12(w-1)^2$, $s = t = 1$, "
            "$\\alpha_k = 1/k$, $K = 3$: $\\frac29, \\frac12, \\frac29, \\frac12$.",
        ),
        budget=Budget(quick=20, full=400),
        notes="Values below $f$ occur as well, at small $T$ and where $T$ divides $K$: infeasible, not "
        "better.",
    ),
    Claim(
        id="improved-bilevel/ablation@limit",
        title="Every fixed T reaches the same solution, with the exponent divided by T",
        source=SOURCE,
        statement=r"\left(\frac mJ\right)^{e/T} \le \frac{\|N^\top(w_{JT} - w_\lambda)\|}{\|N^\top(w_{mT} - "
        r"w_\lambda)\|} \le \left(\frac{m+1}{J+1}\right)^{e/T}, \quad e = ctq \le T,\ mT \ge c",
        hypotheses=(Hypothesis("slow enough", r"e \le T", _slow),),
        strategy=st.fixed_dictionaries(
            {"T": st.integers(1, 5), "e": reals(0.1, 2), "c": reals(2.5, 6), "J": st.integers(8, 60)}
        ),
        explicit=({"T": 1, "e": 0.5, "c": 2.0, "J": 20}, {"T": 3, "e": 2.0, "c": 4.0, "J": 40}),
        build=lambda params: Long(dict(params)),
        measure=between(),
        grade="exact",
        controls=(
            Control("e above T", params={"T": 1, "e": 1.5, "c": 2.0, "J": 20}),
            Control(
                "e for e/T",
                kind="formula",
                measure=between(counted=True),
                params={"T": 3, "e": 2.0, "c": 4.0, "J": 40},
            ),
            Control("a tenth more below", kind="formula", measure=between(lower=1.1)),
        ),
        equality=Equality(params={"T": 2, "e": 2.0, "c": 4.0, "J": 40}, reaches=0.999),
        budget=Budget(quick=20, full=400),
        notes="Bernoulli's inequality, factor by factor: $(1 - 1/j)^{e/T} \\le 1 - \\frac{e}{jT} \\le (1 - "
        "\\frac1{j+1})^{e/T}$. So T interpolates at a finite K only; as $K \\to \\infty$ it changes the "
        "rate, not the limit. Equality: $e = T$.",
    ),
)
