"""The first part of proposition 1: derivatives of the mean of G(M·) over masks are the means of its derivatives."""

from __future__ import annotations

import dataclasses
import itertools as it
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from refimpl.objective import Objective
from verification.claims.dropout_bilevel._masks import (
    PARTS,
    Law,
    at,
    law,
    rationals,
)
from verification.claims.dropout_bilevel._polynomials import Polynomial, monomials, random_polynomial
from verification.model import Budget, Claim, Control, Measurement, identity

POINT = (2, 3, 5)  # where all monomials are compared; no coordinate is zero


@dataclass(frozen=True)
class Masks:
    """A polynomial at W, and the masks' law."""

    f: Polynomial
    law: Law
    lam: Array
    w: Array


def degree(coordinates: int) -> int:
    """Largest exponent of a coordinate in the complete class."""
    return 3 if coordinates < 3 else 2


def build_all(params: Mapping[str, Any]) -> Masks:
    """Every monomial at once, at the fixed point."""
    n, d = params["n"], params["d"]
    point = rationals(POINT[: n + d])
    return Masks(monomials(n, d, degree(n + d)), law(params), point[:n], point[n:])


def build_random(params: Mapping[str, Any]) -> Masks:
    """A random polynomial of total degree four at a random point."""
    n, d, seed = params["n"], params["d"], params["seed"]
    rng = np.random.default_rng([seed, 1])
    point = rationals([Fraction(int(k), 2) for k in rng.integers(-4, 5, n + d)])
    f = random_polynomial(n, d, seed, terms=params["terms"], degree=4)
    return Masks(f, law(params), point[:n], point[n:])


def gradient(f: Objective, lam: Array, w: Array) -> Array:
    """∇f = (∇_λf, ∇_wf), (..., n + d)."""
    parts = [f.grad_lam(lam, w), f.grad_w(lam, w)]
    lead = np.broadcast_shapes(*(p.shape[:-1] for p in parts))
    return np.concatenate([np.broadcast_to(p, (*lead, p.shape[-1])) for p in parts], axis=-1)


def rows_of_hessian(f: Objective, lam: Array, w: Array) -> Array:
    """The rows of ∇²f that an objective has: ∇²_λw above ∇²_ww, (..., n + d, d)."""
    parts = [f.cross(lam, w).dense(), f.hess_ww(lam, w).dense()]
    lead = np.broadcast_shapes(*(p.shape[:-2] for p in parts))
    return np.concatenate([np.broadcast_to(p, (*lead, *p.shape[-2:])) for p in parts], axis=-2)


def flat(*parts: Array) -> Array:
    """All entries in one vector."""
    return np.concatenate([p.ravel() for p in parts])


def mean_rule(
    outer: bool = True, right_mask: bool = True, keep: Callable[[Law], Law] | None = None
) -> Callable[[Masks], Measurement]:
    """E M∇G(MW), E M∇²G(MW)M, as literal sums and by the library, against derivatives of the polynomial Ḡ."""

    def measure(case: Masks) -> Measurement:
        of = keep(case.law) if keep else case.law
        lam, w, lead = case.lam, case.w, case.f.lead

        def ahead(m: Array) -> Array:
            return m.reshape(len(m), *(1,) * lead, m.shape[-1])

        def first(mlam: Array, mw: Array) -> Array:
            mlam, mw = ahead(mlam), ahead(mw)
            g = gradient(case.f, mlam * lam, mw * w)
            return np.concatenate([mlam + 0 * mlam, mw], axis=-1) * g if outer else g

        def second(mlam: Array, mw: Array) -> Array:
            mlam, mw = ahead(mlam), ahead(mw)
            H = np.concatenate([mlam, mw], axis=-1)[..., :, None] * rows_of_hessian(
                case.f, mlam * lam, mw * w
            )
            return H * mw[..., None, :] if right_mask else H

        literal = flat(of.mean(first), of.mean(second))
        closed = case.f.mean(case.law)
        expected = flat(gradient(closed, lam, w), rows_of_hessian(closed, lam, w))
        if not (outer and right_mask and keep is None):
            return identity(literal, expected)
        over = case.f.with_dropout(case.law.level)
        library = flat(gradient(over, lam, w), rows_of_hessian(over, lam, w))
        return identity(np.concatenate([literal, library]), np.concatenate([expected, expected]))

    return measure


def dropped_for_kept(of: Law) -> Law:
    """p for 1 − p."""
    lam, w = (tuple(1 - p for p in keep) for keep in (of.keep_lam, of.keep_w))
    return dataclasses.replace(of, keep_lam=lam, keep_w=w)


def ungrouped(of: Law) -> Law:
    """One variable per coordinate, with its group's probability."""
    lam, w = (
        tuple(keep[g] for g in groups)
        for keep, groups in ((of.keep_lam, of.groups_lam), (of.keep_w, of.groups_w))
    )
    return Law(lam, w, tuple(range(len(lam))), tuple(range(len(w))))


MUTANTS = (
    Control("outer M missing", kind="formula", measure=mean_rule(outer=False)),
    Control("M on one side of the Hessian", kind="formula", measure=mean_rule(right_mask=False)),
    Control("p for 1 − p", kind="formula", measure=mean_rule(keep=dropped_for_kept)),
)

SIZES = ((0, 1), (1, 1), (0, 2), (2, 1), (1, 2), (0, 3))


def _partitions(count: int) -> list[list[int]]:
    """Every way to let ``count`` coordinates share mask variables, numbered as they appear."""
    found: list[list[int]] = [[]]
    for _ in range(count):
        found = [[*g, new] for g in found for new in range(max(g, default=-1) + 2)]
    return found


GRID = [
    {"n": n, "d": d, "groups_lam": gl, "groups_w": gw, "keep_lam": list(pl), "keep_w": list(pw)}
    for n, d in SIZES
    for gl in _partitions(n)
    for gw in _partitions(d)
    for pl in it.product((2, 6), repeat=max(gl, default=-1) + 1)
    for pw in it.product((2, 6), repeat=max(gw, default=-1) + 1)
]
TEN = {"keep_lam": [4, 6, 3], "keep_w": [4, 7, 2, 5, 1, 6, 3, 8, 4], "terms": 8}


def _many(n: int, d: int, seed: int = 0) -> dict[str, Any]:
    return {"n": n, "d": d, "seed": seed, **TEN}


CLAIMS = (
    Claim(
        id="dropout-bilevel/prop-1-derivatives",
        title="Derivatives of the mean over masks are the means of the masked derivatives",
        source="dropout-bilevel, proposition 1",
        statement=r"$\nabla\bar G(W) = E[M\nabla G(MW)]$ and $\nabla^2\bar G(W) = E[M\nabla^2G(MW)M]$ for "
        r"polynomials of degree $\le 3$ in each of two coordinates or $\le 2$ in each of three, all keep "
        r"probabilities and all groupings",
        explicit=GRID,
        build=build_all,
        measure=mean_rule(),
        grade="proved",
        complete="both sides are linear in G, so monomials suffice; of a monomial both are numbers times "
        "one and the same monomial in W, so one point without zeros suffices; in each variable's keep "
        "probability both are of degree at most one, so the two values 1/4 and 3/4 suffice; all groupings "
        "of λ's and of w's coordinates are visited. Rows of ∇²_λλ are those of ∇²_ww with other names.",
        controls=(
            *MUTANTS,
            Control(
                "groups ignored",
                kind="formula",
                measure=mean_rule(keep=ungrouped),
                params={"n": 0, "d": 2, "groups_w": [0, 0], "keep_w": [4]},
            ),
        ),
        notes="$m^e = m$ for $e \\ge 1$: the mean of a masked monomial is the monomial times the keep "
        "probabilities of the mask variables that it touches, which makes $\\bar G$ a polynomial that is "
        "known without enumeration. Higher exponents enter both sides by the same factors $e$, $e(e-1)$, "
        "and further mask variables by the factor $\\sum P = 1$; @ten-variables has some.",
    ),
    Claim(
        id="dropout-bilevel/prop-1-derivatives@ten-variables",
        title="Derivatives of the masked objective: polynomials of up to ten mask variables",
        source="dropout-bilevel, proposition 1",
        statement=r"\nabla\bar G(W) = E[M\nabla G(MW)],\qquad \nabla^2\bar G(W) = E[M\nabla^2G(MW)M]",
        strategy=st.fixed_dictionaries(
            {
                "n": st.integers(0, 2),
                "d": st.integers(1, 4),
                "seed": st.integers(0, 999),
                "terms": st.integers(1, 8),
                "keep_lam": st.lists(st.integers(1, PARTS), min_size=2, max_size=2),
                "keep_w": st.lists(st.integers(1, PARTS), min_size=4, max_size=4),
                "groups_w": st.sampled_from([[0, 1, 2, 3], [0, 0, 1, 1], [0, 1, 1, 1]]),
            }
        ),
        explicit=(
            at(0, 1, terms=2),
            at(0, 2, terms=4, groups_w=[0, 0]),
            at(1, 2, terms=4),
            _many(2, 8),
            {**_many(0, 10), "groups_w": [*range(9), 0]},
        ),
        build=build_random,
        measure=mean_rule(),
        grade="proved",
        controls=(
            *MUTANTS,
            Control("groups ignored", kind="formula", measure=mean_rule(keep=ungrouped)),
        ),
        budget=Budget(quick=20, full=400),
        notes="Random polynomials of total degree up to four; each instance is decided over the rationals by "
        "enumerating every mask twice: literally, and by the library.",
    ),
)
