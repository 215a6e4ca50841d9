r"""Lemma 2, what of its rate can be decided exactly: e >= 2γ, products of factors 1 − e/i, and never faster than 1/k.

e = 2γtq/(1−β), q = λ_min(NᵀQN), is the exponent along the null space of H: see ``lemma_2_rate``. With β² = 1 −
2tσL/(σ+L), 1 − β <= tσ_F wherever t <= 2/(σ+L), with equality there at its end, and q >= σ_F: so e >= 2γ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.solvers import Averaging
from verification.claims.improved_bilevel._instances import EPS, Case, bigsam, cases, plane
from verification.claims.improved_bilevel.lemma_2 import SOURCE
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, reals

# -- products, over the rationals where e is whole ----------------------------------------------------------------


def product(case: Mapping[str, Any]) -> tuple[float, float, float]:
    """Π_{m<i<=k}(1 − e/i) and its bounds below and above."""
    e, m, k = case["e"], case["m"], case["k"]
    found = math.exp(math.fsum(math.log1p(-e / i) for i in range(m + 1, k + 1)))
    if e >= 1:
        return found, ((m + 1 - e) / (k + 1 - e)) ** e, (m / k) ** e
    return found, (m / k) ** e, ((m + 1) / (k + 1)) ** e


def two_sided(power: float = 1.0) -> Callable[[Mapping[str, Any]], Measurement]:
    """The worse of product/upper and lower/product, both at most 1."""

    def measure(case: Mapping[str, Any]) -> Measurement:
        found, low, high = product(case)
        used = max(found / high**power, low**power / found)
        return Measurement(
            observed=used, bound=1.0, rounding=10 * (1 + case["e"]) * (case["k"] - case["m"]) * EPS * used
        )

    return measure


# -- no better than 1/k -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneDimension:
    """G = ½hw², F = ½(w − a)², t = 1 − β², β a rational, w_0 = r_0, over the rationals."""

    params: Mapping[str, Any]

    @cached_property
    def states(self) -> list[Fraction]:
        p = self.params
        h, a, s, beta = (Fraction(*p[name]) for name in ("h", "a", "s", "beta"))
        w0, gamma = Fraction(*p["start"]), Fraction(*p["gamma"])
        alpha = Averaging(beta, gamma)
        states, _ = bigsam(
            lambda w: h * w, lambda w: w - a, w0, s=s, t=1 - beta**2, alpha=alpha, steps=p["K"]
        )
        return states

    def least(self, k: int, power: int = 1) -> Fraction:
        """α_kt‖∇F(w_λ)‖."""
        beta, gamma = Fraction(*self.params["beta"]), Fraction(*self.params["gamma"])
        alpha = Fraction(Averaging(beta, gamma)(k - 1))
        return alpha**power * (1 - beta**2) * abs(Fraction(*self.params["a"]))


def no_faster(factor: Fraction = Fraction(1)) -> Callable[[OneDimension], Measurement]:
    """α_kt|g| against |w_k|, at the k where they are nearest."""

    def measure(case: OneDimension) -> Measurement:
        pairs = [(factor * case.least(k), abs(w)) for k, w in enumerate(case.states) if k]
        low, found = max(pairs, key=lambda pair: pair[0] / pair[1] if pair[1] else math.inf)
        return Measurement(observed=low, bound=found)

    return measure


def _begun(case: OneDimension) -> tuple[bool, Any]:
    start, a = Fraction(*case.params["start"]), Fraction(*case.params["a"])
    return start * a >= 0 and a != 0, str(start)


def _steps(case: OneDimension) -> tuple[bool, Any]:
    reached = Fraction(*case.params["s"]) * Fraction(*case.params["h"])
    return reached <= 1, str(reached)


THIRDS = {"h": [1, 1], "a": [1, 1], "s": [1, 1], "beta": [1, 2], "gamma": [1, 2], "start": [0, 1], "K": 12}


# -- e >= 2γ ------------------------------------------------------------------------------------------------------


def least_exponent(factor: float = 2.0, shift: float = 0.0) -> Callable[[Case], Measurement]:
    """2γ against e."""

    def measure(case: Case) -> Measurement:
        N = case.flat
        q = float(np.linalg.eigvalsh(N.T @ case.Q @ N)[0])
        e = 2 * case.gamma * case.t * q / (1 - case.beta)
        rounding = 10 * case.d * EPS * (case.smoothness / q + 1 / (1 - case.beta)) * e
        return Measurement(observed=factor * case.gamma + shift, bound=e, rounding=rounding)

    return measure


def _flat(case: Case) -> tuple[bool, int]:
    return case.flat.shape[1] > 0, int(case.flat.shape[1])


def _upper(case: Case) -> tuple[bool, float]:
    return 0 < case.params["share"] <= 1, case.params["share"]


SHORTEST = {**plane(q=[1.0, 4.0], tilt=0, x=[0.0, 1.0])}
COMMON: dict[str, Any] = {"source": SOURCE + ", (40); its rate derived here", "grade": "exact"}
CLAIMS = (
    Claim(
        id="improved-bilevel/lemma-2@exponent",
        title="The exponent along the null space is at least 2γ",
        statement=r"e = \frac{2\gamma tq}{1-\beta} \ge 2\gamma",
        hypotheses=(
            Hypothesis("flat directions", r"\operatorname{rank}H < d", _flat),
            Hypothesis("step on F", r"0 < t \le 2/(\sigma_F+L_F)", _upper),
        ),
        strategy=cases(("quadratic",), share=reals(0.01, 1)),
        explicit=(SHORTEST, plane()),
        build=Case,
        measure=least_exponent(),
        controls=(
            Control("t = 5/(2σ + 2L)", params={**SHORTEST, "share": 1.25}),
            Control("4γ", kind="formula", measure=least_exponent(4.0)),
        ),
        equality=Equality(params=SHORTEST, reaches=0.999),
        budget=Budget(quick=60, full=4000),
        notes="$1-\\beta \\le t\\sigma_F$, with equality at $t = 2/(\\sigma_F+L_F)$, and $q \\ge \\sigma_F$. So for "
        "γ > ½ "
        "the null space is never slower than 1/k, and e <= 1 needs γ <= ½. The sharp contraction factor is "
        "$1-t\\sigma_F$, not β.",
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/lemma-2@null",
        title="Along the null space the error is a product, bounded on both sides by powers of k",
        statement=r"m \ge \lceil e\rceil,\ e \ge 1: \left(\tfrac{m+1-e}{k+1-e}\right)^e \le "
        r"\prod_{i=m+1}^k\left(1-\tfrac ei\right) \le "
        r"\left(\tfrac mk\right)^e; \quad e \le 1: \left(\tfrac mk\right)^e \le \prod \le "
        r"\left(\tfrac{m+1}{k+1}\right)^e",
        strategy=st.builds(
            lambda e, m, more: {"e": e, "m": m + math.ceil(e), "k": m + math.ceil(e) + more},
            reals(0.05, 4),
            st.integers(0, 12),
            st.integers(1, 300),
        ),
        explicit=({"e": 1.0, "m": 1, "k": 4}, {"e": 2.5, "m": 3, "k": 40}, {"e": 0.5, "m": 1, "k": 40}),
        build=dict,
        measure=two_sided(),
        controls=(
            Control("power e + 1", kind="formula", measure=lambda c: two_sided((c["e"] + 1) / c["e"])(c)),
        ),
        equality=Equality(params={"e": 1.0, "m": 1, "k": 4}, reaches=0.999),
        budget=Budget(quick=60, full=4000),
        notes="The null part of $w_k - w_\\lambda$ is $\\prod(1-\\alpha_itq)$ times its start where Q does not couple "
        "it to the range; $\\alpha_itq = e/i$ for $i > c$. Bernoulli's inequality for each factor.",
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/lemma-2@lower",
        title="Not faster than 1/k: the distance is at least α_k t times the gradient at the solution",
        source=SOURCE + ", (40); derived here",
        statement=r"d = 1,\ G = \tfrac12hw^2,\ F = \tfrac12(w-a)^2,\ w_0a \ge 0: \quad |w_k - w_\lambda| \ge "
        r"\alpha_kt|\nabla F(w_\lambda)|",
        hypotheses=(
            Hypothesis("on the side of F's minimiser", r"w_0a \ge 0,\ a \neq 0", _begun),
            Hypothesis("step on G", r"sh \le 1", _steps),
        ),
        strategy=st.fixed_dictionaries(
            {
                "h": st.integers(1, 8).map(lambda i: [i, 8]),
                "a": st.integers(-4, 4).map(lambda i: [i or 5, 2]),
                "s": st.integers(1, 8).map(lambda i: [i, 8]),
                "beta": st.integers(0, 5).map(lambda i: [i, 6]),
                "gamma": st.integers(1, 8).map(lambda i: [i, 8]),
                "start": st.integers(-4, 4).map(lambda i: [i, 2]),
                "K": st.integers(1, 12),
            }
        ),
        explicit=(THIRDS, {**THIRDS, "h": [1, 2], "beta": [0, 1]}),
        build=OneDimension,
        measure=no_faster(),
        grade="proved",
        controls=(
            Control("from the other side", params={**THIRDS, "start": [-1, 2]}),
            Control("twice as much", kind="formula", measure=no_faster(Fraction(2))),
        ),
        equality=Equality(params=THIRDS, reaches=0.999),
        budget=Budget(quick=60, full=3000),
        notes="$w_k = $ (a number $\\ge 0$) $w_{k-1} + \\alpha_kta$. Equality: $w_1 = ta$ from $w_0 = 0$.",
    ),
)
