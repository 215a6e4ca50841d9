r"""Lemma 3: minima and minimisers under uniform convergence of f_K to f.

min f_K <= f_K(λ*) <= f(λ*) + sup|f_K − f| at a minimiser λ* of f, and the same with f and f_K exchanged. A minimiser
λ_K of f_K has f(λ_K) <= f_K(λ_K) + sup <= f_K(λ*) + sup <= min f + 2 sup. If the λ_K have a limit point, f at it is no
more than the limit of f(λ_K) where f is lower semicontinuous: it minimises. Compactness of Λ gives the limit point, no
more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement

SOURCE = "improved-bilevel, Lemma 3"


@dataclass(frozen=True)
class Tables:
    """f and f_K on finitely many λ, over the rationals."""

    params: Mapping[str, Any]

    @property
    def f(self) -> list[Fraction]:
        return [Fraction(x, 4) for x in self.params["f"]]

    @property
    def f_K(self) -> list[Fraction]:
        return [x + Fraction(e, 4) for x, e in zip(self.f, self.params["error"], strict=True)]

    @property
    def apart(self) -> Fraction:
        """sup |f_K − f|, or what is said to be."""
        if "said" in self.params:
            return Fraction(self.params["said"], 4)
        return max(abs(a - b) for a, b in zip(self.f, self.f_K, strict=True))


def minima(factor: Fraction = Fraction(1)) -> Callable[[Tables], Measurement]:
    """|min f_K − min f|."""
    return lambda of: Measurement(observed=abs(min(of.f_K) - min(of.f)), bound=factor * of.apart)


def minimisers(factor: int = 2) -> Callable[[Tables], Measurement]:
    """f − min f at the worst minimiser of f_K."""

    def measure(of: Tables) -> Measurement:
        chosen = [x for x, y in zip(of.f, of.f_K, strict=True) if y == min(of.f_K)]
        return Measurement(observed=max(chosen) - min(of.f), bound=factor * of.apart)

    return measure


def _uniform(of: Tables) -> tuple[bool, str]:
    found = max(abs(a - b) for a, b in zip(of.f, of.f_K, strict=True))
    return of.apart >= found, str(found)


# -- without compactness, without semicontinuity ----------------------------------------------------------------------


@dataclass(frozen=True)
class Escape:
    """Λ = {0, 1, 2, …}: f(0) = 0, f(k) = c/k, f_K = f but f_K(K) = −c/K; or, with ``broken``, Λ = [0, 1]:
    f(0) = c, f(λ) = cλ elsewhere, f_K = max{f, c/K}, whose minimisers fill (0, 1/K]."""

    c: Fraction
    broken: bool

    def minimiser(self, K: int) -> Fraction:
        """argmin f_K (its largest)."""
        return Fraction(1, K) if self.broken else Fraction(K)

    def apart(self, K: int) -> Fraction:
        """sup |f_K − f|."""
        return self.c / K if self.broken else 2 * self.c / K

    def f(self, lam: Fraction) -> Fraction:
        if self.broken:
            return self.c * lam if lam else self.c
        return self.c / lam if lam else Fraction(0)

    @property
    def least(self) -> Fraction:
        return Fraction(0)  # an infimum where ``broken``


def limits(of: Escape) -> Measurement:
    """f − inf f at the limit point of the minimisers; where they have none, their distance from argmin f = {0}."""
    if of.broken:
        return Measurement(observed=of.f(Fraction(0)) - of.least, bound=0)
    return Measurement(observed=min(of.minimiser(K) for K in range(1, 50)), bound=0)


def values(factor: int = 2) -> Callable[[Escape], Measurement]:
    """f(λ_K) − inf f against 2 sup |f_K − f|, at the K = 1 … 49 where it is nearest."""

    def measure(of: Escape) -> Measurement:
        pairs = [(of.f(of.minimiser(K)) - of.least, factor * of.apart(K)) for K in range(1, 50)]
        found, bound = max(pairs, key=lambda pair: pair[0] / pair[1])
        return Measurement(observed=found, bound=bound)

    return measure


TIE = {"f": [0, 2, 9], "error": [1, -1, 0]}
SHIFT = {"f": [3, 1, 2], "error": [2, 2, 2]}
five = st.tuples(*[st.integers(-8, 8)] * 5).map(list)
UNIFORM = Hypothesis("uniformly near", r"\sup|f_K - f| \le \epsilon", _uniform)
COMMON: dict[str, Any] = {
    "strategy": st.fixed_dictionaries({"f": five, "error": five}),
    "build": Tables,
    "grade": "proved",
    "hypotheses": (UNIFORM,),
    "budget": Budget(quick=60, full=4000),
}
CLAIMS = (
    Claim(
        id="improved-bilevel/lemma-3",
        title="Minima are stable under uniform convergence",
        source=SOURCE + " (i)",
        statement=r"|\min f_K - \min f| \le \sup|f_K - f|",
        explicit=(TIE, SHIFT),
        measure=minima(),
        controls=(
            Control("sup stated too small", params={**SHIFT, "said": 1}),
            Control("half of it", kind="formula", measure=minima(Fraction(1, 2))),
        ),
        equality=Equality(params=SHIFT, reaches=0.999),
        notes="Right as printed. Equality: $f_K = f + c$.",
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/lemma-3@minimisers",
        title="A minimiser of f_K nearly minimises f, without compactness",
        source=SOURCE + " (ii), quantified here",
        statement=r"f(\lambda_K) - \min f \le 2\sup|f_K - f| \text{ for every minimiser } \lambda_K \text{ of } f_K",
        explicit=(TIE, SHIFT),
        measure=minimisers(),
        controls=(
            Control("sup stated too small", params={**TIE, "said": 0}),
            Control("1 for 2", kind="formula", measure=minimisers(1)),
        ),
        equality=Equality(params=TIE, reaches=0.999),
        notes="So every limit point of the $\\lambda_K$ minimises a lower semicontinuous f: no compactness is needed, "
        "except for there to be a limit point, see @compact. Equality: f_K ties a point where f is least with one "
        "where it is not.",
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/lemma-3@compact",
        title="Minimisers tend to minimisers without compactness, or without lower semicontinuity",
        source=SOURCE + " (ii), its hypotheses dropped",
        statement=r"\sup|f_K-f| \to 0 \ \Rightarrow\ \text{ the minimisers of } f_K \text{ tend to minimisers of } f",
        strategy=st.fixed_dictionaries({"c": st.integers(1, 9), "broken": st.booleans()}),
        explicit=({"c": 1, "broken": False}, {"c": 1, "broken": True}),
        build=lambda p: Escape(Fraction(p["c"]), p["broken"]),
        measure=limits,
        grade="proved",
        corrected=Correction(
            tex=r"f(\lambda_K) - \inf f \le 2\sup|f_K-f|",
            measure=values(),
            proof="$f(\\lambda_K) \\le f_K(\\lambda_K)+\\sup \\le f_K(\\lambda^*)+\\sup \\le f(\\lambda^*)+2\\sup$.",
        ),
        budget=Budget(quick=10, full=18),
        notes="Λ = {0, 1, 2, …}, $f(0) = 0$, $f(k) = 1/k$, $f_K = f - \\frac2K1_{\\{K\\}}$: uniform error 2/K, and "
        "$\\lambda_K = K$ escapes. On [0, 1] with $f(0) = 1$, $f(\\lambda) = \\lambda$, not lower semicontinuous: "
        "$f_K = \\max\\{f, 1/K\\}$ has minimisers (0, 1/K], whose limit 0 is no minimiser.",
    ),
)
