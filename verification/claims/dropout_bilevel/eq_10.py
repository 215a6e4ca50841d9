"""(10): derivatives of G(M·) for given masks."""

from __future__ import annotations

import itertools as it
from collections.abc import Callable

import numpy as np

from refimpl.masks import Masked
from verification.claims.dropout_bilevel._masks import RATIONAL, rationals
from verification.claims.dropout_bilevel.derivatives import (
    SIZES,
    Masks,
    build_all,
    flat,
    gradient,
    rows_of_hessian,
)
from verification.model import Claim, Control, Measurement, identity


def chain_rule(
    outer: bool = True, inner: bool = True, both_sides: bool = True, library: bool = True
) -> Callable[[Masks], Measurement]:
    """M∇G(MW), M∇²G(MW)M for every mask against the derivatives of the polynomial W ↦ G(MW)."""

    def measure(case: Masks) -> Measurement:
        n, left, right = case.f.n, [], []
        for m in it.product((0, 1), repeat=n + case.f.d):
            M = rationals(m)
            mlam, mw = (M[:n], M[n:]) if inner else (M[:n] ** 0, M[n:] ** 0)
            at_mask = (mlam * case.lam, mw * case.w)
            g, H = gradient(case.f, *at_mask), rows_of_hessian(case.f, *at_mask)
            right.append(flat(M * g if outer else g, (M[:, None] * H if both_sides else H) * M[n:]))
            composed = case.f.masked(m)
            own = flat(*(q(composed, case.lam, case.w) for q in (gradient, rows_of_hessian)))
            left.append(own)
            if library:
                masked = Masked(case.f, M[:n], M[n:], RATIONAL)
                left.append(flat(*(q(masked, case.lam, case.w) for q in (gradient, rows_of_hessian))))
                right.append(own)
        return identity(np.concatenate(right), np.concatenate(left))

    return measure


CLAIMS = (
    Claim(
        id="dropout-bilevel/eq-10",
        title="Masks pass through derivatives by the chain rule",
        source="dropout-bilevel, (10)",
        statement=r"$\nabla[G(M\,\cdot)](W) = M\,\nabla G(MW)$ and $\nabla^2[G(M\,\cdot)](W) = "
        r"M\,\nabla^2G(MW)\,M$ for every mask, for polynomials of degree $\le 3$ in each of two coordinates "
        r"or $\le 2$ in each of three",
        explicit=[{"n": n, "d": d} for n, d in SIZES],
        build=build_all,
        measure=chain_rule(),
        grade="proved",
        complete="both sides are linear in G, so monomials suffice; of a monomial both are numbers times "
        "one and the same monomial, so one point W without zeros suffices; all 2^(n+d) masks are visited. "
        "Rows of ∇²_λλ are those of ∇²_ww with other names.",
        controls=(
            Control("outer M missing", kind="formula", measure=chain_rule(outer=False, library=False)),
            Control("G(W) in place of G(MW)", kind="formula", measure=chain_rule(inner=False, library=False)),
            Control(
                "M on one side of the Hessian",
                kind="formula",
                measure=chain_rule(both_sides=False, library=False),
            ),
        ),
        notes="The judge is the polynomial $W \\mapsto G(MW)$ itself: its coefficients are $c_k\\prod_i "
        "m_i^{e_{ki}}$ with $0^0 = 1$, differentiated term by term. The library's masked objective is "
        "compared too.",
    ),
)
