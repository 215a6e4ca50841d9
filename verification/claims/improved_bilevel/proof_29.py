r"""Step (29) of Proposition 1's proof: the mean value theorem taken for the vector-valued ∇G.

G = Σ_i p_i (a_i·w + b_i)⁴/12, convex with ∇²G = Σ p_i (a_i·w + b_i)² a_ia_iᵀ. From u to v = u + h a single ξ would
have to solve ∇²G(u + ξh)h = ∇G(v) − ∇G(u); with independent a_i these are one equation in ξ for each i, α_i(ξ) =
a_i·(u + ξh) + b_i: α_i(ξ)² = ∫₀¹α_i(τ)²dτ = (α_i(0)² + α_i(0)α_i(1) + α_i(1)²)/3. The average of ∇²G over the segment
does solve it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from hypothesis import strategies as st

from verification.model import Budget, Claim, Control, Correction, Equality, Measurement

SOURCE = "improved-bilevel, (29), in the proof of Proposition 1"
Vector = tuple[Fraction, Fraction]
GAUSS = 3  # Simpson's nodes: exact for the squares that ∇²G is made of


def dot(x: Any, y: Any) -> Fraction:
    """x·y."""
    return sum((Fraction(a) * b for a, b in zip(x, y, strict=True)), Fraction(0))


@dataclass(frozen=True)
class Quartic:
    """``terms``: [p, a_1, a_2, b]; ``u`` and ``h``: the segment."""

    params: Mapping[str, Any]

    @cached_property
    def terms(self) -> list[tuple[Fraction, Vector, Fraction]]:
        return [(Fraction(p), (Fraction(x), Fraction(y)), Fraction(b)) for p, x, y, b in self.params["terms"]]

    @property
    def u(self) -> Vector:
        x, y = self.params["u"]
        return Fraction(x), Fraction(y)

    @property
    def h(self) -> Vector:
        x, y = self.params["h"]
        return Fraction(x), Fraction(y)

    def at(self, tau: Fraction) -> Vector:
        return self.u[0] + tau * self.h[0], self.u[1] + tau * self.h[1]

    def grad(self, w: Vector) -> Vector:
        found = [(p * (dot(a, w) + b) ** 3 / 3, a) for p, a, b in self.terms]
        return sum(c * a[0] for c, a in found), sum(c * a[1] for c, a in found)  # type: ignore[return-value]  # 0 is int

    def product(self, w: Vector) -> Vector:
        """∇²G(w)h."""
        found = [(p * (dot(a, w) + b) ** 2 * dot(a, self.h), a) for p, a, b in self.terms]
        return sum(c * a[0] for c, a in found), sum(c * a[1] for c, a in found)  # type: ignore[return-value]  # as above

    @cached_property
    def difference(self) -> Vector:
        (x, y), (p, q) = self.grad(self.at(Fraction(1))), self.grad(self.u)
        return x - p, y - q

    @cached_property
    def averaged(self) -> Vector:
        """∫₀¹∇²G(u + τh)h dτ by Simpson's rule, exact for squares of τ."""
        found = [self.product(self.at(Fraction(i, 2))) for i in range(GAUSS)]
        weights = (Fraction(1, 6), Fraction(4, 6), Fraction(1, 6))
        return tuple(sum(w * x[i] for w, x in zip(weights, found, strict=True)) for i in range(2))  # type: ignore[return-value]  # two of them

    def coefficients(self, i: int) -> tuple[Fraction, Fraction, Fraction]:
        """(∇²G(u + ξh)h − (∇G(v) − ∇G(u)))_i = Aξ² + Bξ + C, from three values."""
        at = [self.product(self.at(Fraction(k)))[i] - self.difference[i] for k in range(3)]
        A = (at[2] - 2 * at[1] + at[0]) / 2
        return A, at[1] - at[0] - A, at[0]

    @property
    def resultant(self) -> Fraction:
        """Of the two equations in ξ: 0 exactly when they have a root in common (or both lose their square)."""
        (a, b, c), (p, q, r) = self.coefficients(0), self.coefficients(1)
        return (a * r - c * p) ** 2 - (a * q - b * p) * (b * r - c * q)


def single_point(case: Quartic) -> Measurement:
    """|resultant|: not 0 where no ξ, real or complex, solves both."""
    return Measurement(observed=abs(case.resultant), bound=0)


def average(shift: Fraction = Fraction(0)) -> Callable[[Quartic], Measurement]:
    """Largest entry of ∇G(v) − ∇G(u) − ∫∇²G h; ``shift`` mutates it to one value at the point τ = shift."""

    def measure(case: Quartic) -> Measurement:
        stated = case.product(case.at(shift)) if shift else case.averaged
        return Measurement(
            observed=max(abs(x - y) for x, y in zip(case.difference, stated, strict=True)), bound=0
        )

    return measure


def along(share: Fraction = Fraction(1)) -> Callable[[Quartic], Measurement]:
    """min over the segment of ⟨h, ∇²G h⟩ against ⟨h, ∇G(v) − ∇G(u)⟩: each α_i² is least at an end or where it is 0."""

    def measure(case: Quartic) -> Measurement:
        lowest = [Fraction(0), Fraction(1)]
        squares = [(p * dot(a, case.h) ** 2, dot(a, case.u) + b, dot(a, case.h)) for p, a, b in case.terms]
        A, B = sum(c * s * s for c, _, s in squares), sum(c * x * s for c, x, s in squares)
        if A:
            lowest.append(min(max(-B / A, Fraction(0)), Fraction(1)))
        values = [dot(case.h, case.product(case.at(tau))) for tau in lowest]
        return Measurement(observed=min(values), bound=share * dot(case.h, case.difference))

    return measure


SMALLEST = {"terms": [[1, 1, 0, 0], [1, 1, 1, 1]], "u": [0, 0], "h": [1, 0]}
small = st.integers(-3, 3)
COMMON: dict[str, Any] = {
    "source": SOURCE,
    "build": Quartic,
    "grade": "proved",
    "strategy": st.fixed_dictionaries(
        {
            "terms": st.tuples(*[st.tuples(st.integers(1, 3), small, small, small).map(list)] * 2).map(list),
            "u": st.tuples(small, small).map(list),
            "h": st.tuples(small, small).map(list),
        }
    ),
    "budget": Budget(quick=60, full=4000),
}
CLAIMS = (
    Claim(
        id="improved-bilevel/proof-29",
        title="A mean value theorem for the gradient at a single point",
        statement=r"\nabla G(v) - \nabla G(u) = \nabla^2G(u+\xi(v-u))(v-u) \text{ for some } \xi \in [0, 1]",
        explicit=(SMALLEST,),
        measure=single_point,
        corrected=Correction(
            tex=r"\nabla G(v) - \nabla G(u) = \left[\int_0^1\nabla^2G(u+\tau(v-u))\,d\tau\right](v-u)",
            measure=average(),
            proof="The fundamental theorem along the segment; the average is $\\succeq\\sigma I$ where every "
            "$\\nabla^2G$ "
            "on the segment is.",
        ),
        notes="$G = (x^4+(x+y+1)^4)/12$ from (0, 0) to (1, 0): the difference is (8/3, 7/3), so $\\xi^2 = \\frac13$ "
        "and "
        "$(\\xi+1)^2 = \\frac73$, hence $\\xi = \\frac12$, and $\\frac14 \\neq \\frac13$. Decided by the resultant "
        "of the "
        "two quadratic equations for ξ. Two dimensions are the fewest: on the line the theorem is true. The conclusion "
        "(31) survives where the whole segment is off the minimisers.",
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/proof-29@integral",
        title="The integral form of the mean value theorem holds for the gradient",
        statement=r"\nabla G(v) - \nabla G(u) = \left[\int_0^1\nabla^2G(u+\tau(v-u))\,d\tau\right](v-u)",
        explicit=(SMALLEST, {**SMALLEST, "h": [2, -1]}),
        measure=average(),
        controls=(
            Control("at the middle", kind="formula", measure=average(Fraction(1, 2))),
            Control("at the end", kind="formula", measure=average(Fraction(1))),
        ),
        notes="Exact: Simpson's rule integrates the squares of which $\\nabla^2G$ consists, and $\\nabla G$ is "
        "evaluated by "
        "itself.",
        **COMMON,
    ),
    Claim(
        id="improved-bilevel/proof-29@scalar",
        title="What the step needs follows along the segment alone",
        statement=r"\langle\nabla G(v)-\nabla G(u), v-u\rangle \ge \min_\tau\langle v-u, "
        r"\nabla^2G(u+\tau(v-u))(v-u)\rangle",
        explicit=(SMALLEST, {**SMALLEST, "u": [9, 9]}),
        measure=along(),
        controls=(
            Control("the other sign", kind="formula", measure=along(Fraction(-1)), params=SMALLEST),
            Control(
                "half of it", kind="formula", measure=along(Fraction(1, 2)), params={**SMALLEST, "u": [9, 9]}
            ),
        ),
        equality=Equality(params={**SMALLEST, "u": [9999, 9999]}, reaches=0.999),
        notes="The mean value theorem for $\\tau \\mapsto \\langle\\nabla G(u+\\tau(v-u)), v-u\\rangle$. With "
        "curvature σ on "
        "the segment: $\\|\\nabla G(u)\\| \\ge \\sigma\\|u-v\\|$ for v with $\\nabla G(v) = 0$; at a minimiser on the "
        "boundary of W that gradient need not vanish.",
        **COMMON,
    ),
)
