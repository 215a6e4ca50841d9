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

KS = range(1, 25)
WINDOW = 2 * KS[-1]


@dataclass(frozen=True)
class Escape:
    """Λ = {λ_0, λ_1, …}, λ_0 = 0, λ_j = j, f = (0, c, c/2, c/3, …); or, with ``broken``, λ_j = 1/j and f(0) = c.

    f_K = f but at λ_K, where it is 2c/K less. Beyond ``WINDOW`` f_K = f > 0 and f decreases to 0, so that what f_K
    and |f_K − f| are largest or smallest at is in the window.
    """

    c: Fraction
    broken: bool

    @property
    def lams(self) -> list[Fraction]:
        return [Fraction(0), *(Fraction(1, j) if self.broken else Fraction(j) for j in range(1, WINDOW))]

    @property
    def f(self) -> list[Fraction]:
        return [self.c if self.broken else Fraction(0), *(self.c / j for j in range(1, WINDOW))]

    def f_K(self, K: int) -> list[Fraction]:
        return [x - (2 * self.c / K if j == K else 0) for j, x in enumerate(self.f)]

    def chosen(self, K: int) -> int:
        """The place of argmin f_K."""
        values = self.f_K(K)
        return values.index(min(values))

    @property
    def least(self) -> Fraction:
        """inf f: attained at 0, or the limit of c/j."""
        return Fraction(0)


def limits(of: Escape) -> Measurement:
    """f − inf f at 0 if argmin f_K tends to it like 1/K, else the least distance of argmin f_K from argmin f."""
    found = {K: of.lams[of.chosen(K)] for K in KS}
    if all(K * abs(lam - of.lams[0]) <= 1 for K, lam in found.items()):
        return Measurement(observed=of.f[0] - of.least, bound=0)
    best = of.lams[of.f.index(min(of.f))]
    return Measurement(observed=min(abs(lam - best) for lam in found.values()), bound=0)


def values(factor: int = 2) -> Callable[[Escape], Measurement]:
    """f(λ_K) − inf f against 2 sup |f_K − f|, at the K where it is nearest."""

    def measure(of: Escape) -> Measurement:
        pairs = []
        for K in KS:
            apart = max(abs(a - b) for a, b in zip(of.f, of.f_K(K), strict=True))
            pairs.append((of.f[of.chosen(K)] - of.least, factor * apart))
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
        title="Nobody prints this: minimisers tend to minimisers without compactness or lower semicontinuity",
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
        notes="Nobody prints this: a reading that drops the hypotheses, to see what each is for. Λ = {0, 1, 2, …}, "
        "$f(0) = 0$, $f(j) = 1/j$, $f_K = f - \\frac2K1_{\\{K\\}}$: uniform error 2/K, and "
        "$\\lambda_K = K$ escapes. On $\\{0\\} \\cup \\{1/j\\}$, compact, with $f(0) = 1$, $f(1/j) = 1/j$, not lower "
        "semicontinuous, and $f_K = f - \\frac2K1_{\\{1/K\\}}$: $\\lambda_K = 1/K$, whose limit 0 is no minimiser.",
    ),
)
