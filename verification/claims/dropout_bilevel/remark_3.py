"""Remark 3: a sequence along which the mean of the masked gradients vanishes while the plain gradient does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.dropout_bilevel._masks import Law, rationals
from verification.claims.dropout_bilevel._polynomials import Polynomial
from verification.model import Budget, Claim, Control, Correction, Measurement, identity

THOUSAND = Fraction(1000)
F = Polynomial(rationals([Fraction(1, 2), THOUSAND]), ((2, 1), (1, 0)), 0, 2)  # ½x₁²x₂ + 1000x₁
NO_LAM = rationals([])


@dataclass(frozen=True)
class Sequence:
    """x_k = (a/k, k) under masks that keep with probability p."""

    p: Fraction
    law: Law


def build(params: Mapping[str, Any]) -> Sequence:
    """``p``: numerator and denominator; a numerator above the denominator is cut to it."""
    above, below = params["p"]
    p = Fraction(min(above, below), below)
    return Sequence(p, Law((), (p, p), (), (0, 1)))


def printed_a(p: Fraction) -> Fraction:
    """k times the first entry of the printed sequence."""
    return -(THOUSAND * p**2 + 2 * THOUSAND * (1 - p) * p)


def right_a(p: Fraction) -> Fraction:
    """The same of the corrected one."""
    return -THOUSAND / p


def x_of(t: Fraction, a: Fraction) -> Array:
    """x_k at t = 1/k."""
    return rationals([a * t, 1 / t])


def limit(along: Callable[[Fraction], Array]) -> Array:
    """Value at t = 1/k → 0 of what is a polynomial of degree two in t: x₁x₂ has degree 0, x₁² degree 2, and no
    other products enter ∇f. Extrapolated from k = 1, 2, 3; a fourth point must lie on the same polynomial."""
    nodes = [Fraction(1, k) for k in (1, 2, 3)]
    values = [along(t) for t in nodes]

    def at(t: Fraction) -> Array:
        total = 0 * values[0]
        for i, value in enumerate(values):
            others = [s for j, s in enumerate(nodes) if j != i]
            share = (t - others[0]) * (t - others[1]) / ((nodes[i] - others[0]) * (nodes[i] - others[1]))
            total = total + rationals([share]) * value
        return total

    if (at(Fraction(1, 7)) != along(Fraction(1, 7))).any():
        raise ValueError("not a polynomial of degree two in 1/k")
    return at(Fraction(0))


def mean_gradient(of: Law, x: Array, *, outer: bool) -> Array:
    """E_m[m∇f(mx)], the gradient of E_m f(m·), or without the ``outer`` mask."""

    def term(_: Array, m: Array) -> Array:
        g = F.grad_w(NO_LAM, m * x)
        return m * g if outer else g

    return of.mean(term)


def mean_limit(a: Callable[[Fraction], Fraction], outer: bool) -> Callable[[Sequence], Array]:
    """The limit of the mean of masked gradients along (a/k, k)."""
    return lambda case: limit(lambda t: mean_gradient(case.law, x_of(t, a(case.p)), outer=outer))


def plain_limit(a: Callable[[Fraction], Fraction]) -> Callable[[Sequence], Array]:
    """The limit of the plain gradient."""
    return lambda case: limit(lambda t: F.grad_w(NO_LAM, x_of(t, a(case.p))))


def zero(found: Callable[[Sequence], Array]) -> Callable[[Sequence], Measurement]:
    """The limit is 0; what it is instead stands in the details."""

    def measure(case: Sequence) -> Measurement:
        value = found(case)
        return identity(value, 0 * value, detail={"limit": [str(v) for v in value]})

    return measure


def equals(found: Callable[[Sequence], Array], first: Callable[[Fraction], Fraction]) -> Any:
    """The limit is (first(p), 0)."""
    return lambda case: identity(found(case), rationals([first(case.p), 0]))


def for_every_k(outer: bool) -> Callable[[Sequence], Measurement]:
    """The limit along the printed sequence, and the first entry at k = 1, 2, 3: a polynomial of degree two in 1/k."""

    def measure(case: Sequence) -> Measurement:
        first = stated(outer)(case.p)
        points = [x_of(Fraction(1, k), printed_a(case.p)) for k in (1, 2, 3)]
        entries = [mean_gradient(case.law, x, outer=outer)[:1] for x in points]
        found = [mean_limit(printed_a, outer)(case), *entries]
        return identity(np.concatenate(found), rationals([first, 0, first, first, first]))

    return measure


def stated(outer: bool) -> Callable[[Fraction], Fraction]:
    """The first entry of the limit along the printed sequence: the same for every k."""
    return lambda p: (THOUSAND * p if outer else THOUSAND) - THOUSAND * p**3 * (2 - p)


def rate(power: int = 2, size: Callable[[Fraction], Fraction] | None = None) -> Any:
    """E_m[m∇f(mx_k)] = (0, ½·10⁶/k²) along the corrected sequence, for k = 1, 2, 3."""

    def measure(case: Sequence) -> Measurement:
        found, expected = [], []
        for k in (1, 2, 3):
            found.append(mean_gradient(case.law, x_of(Fraction(1, k), right_a(case.p)), outer=True))
            of_p = size(case.p) if size else THOUSAND**2 / 2
            expected.append(rationals([0, of_p / k**power]))
        return identity(np.array(found), np.array(expected))

    return measure


POINTS = [{"p": [k, 8]} for k in range(1, 9)]
SHARED: dict[str, Any] = {
    "source": "dropout-bilevel, remark 3",
    "build": build,
    "grade": "proved",
    "budget": Budget(quick=40, full=400),
}
STRATEGY = st.fixed_dictionaries({"p": st.tuples(st.integers(1, 8), st.integers(2, 9)).map(list)})
ENOUGH = (
    "times p² both sides are polynomials in p of degree at most six, and in 1/k of degree two: "
    "eight keep probabilities and three indices k decide them; for p = 1 there is no dropout and the "
    "sequence is the same."
)


def _printed(reading: str, outer: bool) -> Claim:
    mask = "m" if outer else ""
    return Claim(
        id=f"dropout-bilevel/remark-3@{reading}",
        title=f"The printed sequence, {'with' if outer else 'without'} the outer mask: the mean gradient tends to 0",
        statement=rf"\lim_k E_m\left[{mask}\nabla f(mx_k)\right] = 0, \quad f = \tfrac12x_1^2x_2 + 1000x_1,\quad x_k = "
        r"\left(-\tfrac{1000p^2 + 2000(1-p)p}{k}, k\right)",
        printed=r"\lim_k E_m\nabla f(mx_k) = 0",
        strategy=STRATEGY,
        explicit=({"p": [1, 2]},),
        measure=zero(mean_limit(printed_a, outer)),
        corrected=Correction(
            tex=rf"\lim_k E_m\left[{mask}\nabla f(mx_k)\right] = \left(1000{'p' if outer else ''} - 1000p^3(2-p),\ "
            r"0\right),\ \text{the first entry for every } k",
            measure=for_every_k(outer),
            proof=f"$E[{'m_1' if outer else ''}(m_1m_2x_1x_2 + 1000)] = p^2x_1x_2 + 1000{'p' if outer else ''}$, and "
            "$x_1x_2 = -1000p(2-p)$ for every k; the other entry is a multiple of $x_1^2 \\to 0$.",
        ),
        notes=f"At p = ½ the first entry is {'312.5' if outer else '812.5'} for every k, so the limit is not 0: "
        f"{'$p - p^3(2-p) = p(1-p)(1+p-p^2)$' if outer else '$1 - p^3(2-p) = (1-p)(1+p+p^2-p^3)$'} vanishes at p = 1 "
        "only. The remark's conclusion survives with another sequence: @corrected.",
        **SHARED,
    )


CLAIMS = (
    _printed("outer", True),
    _printed("inner", False),
    Claim(
        id="dropout-bilevel/remark-3@plain-limit",
        title="The printed limit of the plain gradient along the printed sequence",
        statement=r"\lim_k\nabla f(x_k) = (-1000p^2 - 2000(1-p)p + 1000,\ 0) = (1000(1-p)^2, 0)",
        explicit=POINTS,
        measure=equals(plain_limit(printed_a), lambda p: THOUSAND * (1 - p) ** 2),
        complete=ENOUGH,
        controls=(
            Control(
                "1 − p for (1 − p)²",
                kind="formula",
                measure=equals(plain_limit(printed_a), lambda p: THOUSAND * (1 - p)),
            ),
        ),
        notes="Right as printed: $x_1x_2 + 1000$ is the same for every k, and $\\frac12x_1^2 \\to 0$.",
        **SHARED,
    ),
    Claim(
        id="dropout-bilevel/remark-3@corrected",
        title="A sequence that shows what remark 3 says",
        statement=r"x_k = \left(-\tfrac{1000}{pk}, k\right):\quad E_m[m\nabla f(mx_k)] = \left(0,\ "
        r"\tfrac{10^6}{2k^2}\right) \to 0",
        explicit=POINTS,
        measure=rate(),
        complete=ENOUGH,
        controls=(
            Control("rate 1/k for 1/k²", kind="formula", measure=rate(power=1)),
            Control(
                "p² lost in the second entry",
                kind="formula",
                measure=rate(size=lambda p: (THOUSAND / p) ** 2 / 2),
            ),
        ),
        notes="$p^2x_1x_2 + 1000p = 0$ for every k, and $\\frac12p^2x_1^2 = \\frac{10^6}{2k^2}$.",
        **SHARED,
    ),
    Claim(
        id="dropout-bilevel/remark-3@conclusion",
        title="Along that sequence the plain gradient stays away from 0 unless p approaches 1",
        statement=r"x_k = \left(-\tfrac{1000}{pk}, k\right):\quad \lim_k\nabla f(x_k) = \left(1000 - "
        r"\tfrac{1000}{p},\ 0\right)",
        explicit=POINTS,
        measure=equals(plain_limit(right_a), lambda p: THOUSAND - THOUSAND / p),
        complete=ENOUGH,
        controls=(
            Control(
                "the printed limit",
                kind="formula",
                measure=equals(plain_limit(right_a), lambda p: THOUSAND * (1 - p) ** 2),
            ),
        ),
        notes="So the convergence of the mean of masked gradients does not imply that of the plain "
        "gradient; the gap $1000(1-p)/p$ closes to first order in $1 - p$.",
        **SHARED,
    ),
)
