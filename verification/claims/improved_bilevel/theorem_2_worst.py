"""Theorem 2 with the worst minimiser in the basic model: two weights, one equation, a box, finitely many λ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flint import fmpq
from hypothesis import strategies as st

from verification.claims.improved_bilevel.theorem_2 import SOURCE
from verification.model import Budget, Claim, Control, Equality, Measurement

Point = tuple[fmpq, fmpq]


@dataclass(frozen=True)
class Segments:
    """G = ½(a·w − λ)², W = [−1, 1]²: Argmin G in W is a segment; F = ½ Σ q_i (w_i − e_i)².

    ``params``: integers a, e, q, two each; ``through``: points of W in quarters, one of each S_λ.
    """

    params: Mapping[str, Any]

    @property
    def points(self) -> list[Point]:
        return [(fmpq(x, 4), fmpq(y, 4)) for x, y in self.params["through"]]

    def F(self, w: Sequence[fmpq]) -> fmpq:
        return (
            sum(
                (q * (x - e) ** 2 for q, x, e in zip(self.params["q"], w, self.params["e"], strict=True)),
                fmpq(0),
            )
            / 2
        )

    def ends(self, p: Point) -> tuple[Point, Point]:
        """p + s (a_2, −a_1) at the least and the largest s that keep it in W."""
        way = (self.params["a"][1], -self.params["a"][0])
        spans = [sorted(((-1 - x) / fmpq(v), (1 - x) / fmpq(v))) for x, v in zip(p, way, strict=True) if v]
        shares = max(low for low, _ in spans), min(high for _, high in spans)
        first, last = ((p[0] + s * way[0], p[1] + s * way[1]) for s in shares)
        return first, last

    def best(self, p: Point) -> fmpq:
        """min of F on the segment: its parabola's minimum, or the nearer end."""
        first, last = self.ends(p)
        way = [y - x for x, y in zip(first, last, strict=True)]
        q, e = self.params["q"], self.params["e"]
        length = sum((q[i] * way[i] ** 2 for i in range(2)), fmpq(0))
        if not length:
            return self.F(first)
        share = sum((q[i] * way[i] * (e[i] - first[i]) for i in range(2)), fmpq(0)) / length
        share = max(fmpq(0), min(fmpq(1), share))
        return self.F([x + share * v for x, v in zip(first, way, strict=True)])

    def worst(self, p: Point) -> fmpq:
        """max of the convex F on the segment: at an end."""
        return max(map(self.F, self.ends(p)))


def below(swapped: bool = False) -> Callable[[Segments], Measurement]:
    """min over λ of min F against min over λ of max F; mutant: the other way round."""

    def measure(s: Segments) -> Measurement:
        pair = min(map(s.best, s.points)), min(map(s.worst, s.points))
        observed, bound = pair[::-1] if swapped else pair
        return Measurement(observed=observed, bound=bound)

    return measure


def first_end(s: Segments) -> Measurement:
    """The worst minimiser's value against that of one end: not every end is the worst."""
    return Measurement(observed=min(map(s.worst, s.points)), bound=min(s.F(s.ends(p)[0]) for p in s.points))


INTEGERS = st.tuples(*[st.integers(-2, 2)] * 2).map(list)
INSIDE = st.tuples(*[st.integers(-4, 4)] * 2).map(list)


def case(a: list[int], e: list[int], *through: list[int]) -> dict[str, Any]:
    """Parameters of one problem, one λ for every point."""
    return {"a": a, "e": e, "q": [1, 1], "through": list(through)}


CLAIMS = (
    Claim(
        id="improved-bilevel/theorem-2@pessimistic",
        title="Read with the worst minimiser in the basic model: the improved minimum is at most the basic "
        "one",
        source=SOURCE,
        statement=r"\min_\lambda\min_{w \in S_\lambda}F \le \min_\lambda\max_{w \in S_\lambda}F, \qquad "
        r"S_\lambda = \mathrm{Argmin}_{w \in W}\,G(\lambda, w)",
        strategy=st.fixed_dictionaries(
            {
                "a": INTEGERS.filter(any),
                "e": INTEGERS,
                "q": st.tuples(*[st.integers(1, 3)] * 2).map(list),
                "through": st.tuples(*[INSIDE] * 3).map(list),
            }
        ),
        explicit=(
            case([1, 0], [1, 1], [0, 0]),
            case([1, 0], [1, 1], [0, 0], [4, 0]),
            case([1, 1], [2, 0], [0, 0], [2, 2]),
        ),
        build=lambda params: Segments(dict(params)),
        measure=below(),
        grade="proved",
        controls=(
            Control("the other way round", kind="formula", measure=below(swapped=True)),
            Control("one end for the worst point", kind="formula", measure=first_end),
        ),
        equality=Equality(params=case([1, 1], [0, 0], [4, 4]), reaches=1.0),
        budget=Budget(quick=60, full=3000),
        notes="Without the box the right side is $+\\infty$ as soon as $G$ has two minimisers, $F$ being "
        "strongly convex: this reading makes the basic model worthless, not worse. Strict, smallest: $G = "
        "\\frac12w_1^2$, $F = \\frac12\\|w - (1, 1)\\|^2$: $\\frac12$ against $\\frac52$. Equality: one "
        "minimiser, here a corner of the box.",
    ),
)
