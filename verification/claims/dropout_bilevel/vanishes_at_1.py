"""Every term that dropout alone brings tends to 0 with 1 − p: its order, over the rationals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from verification.claims.dropout_bilevel._dropout_terms import (
    Term,
    of_adjoint,
    of_floor,
    of_gradient,
    of_hessian,
    of_hypergradient,
    of_jacobian,
    of_masked_hypergradient,
    of_shared_masks,
    of_solution,
)
from verification.claims.dropout_bilevel._masks import Law, Model, at, model
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, rate

WINDOW = range(
    30, 41, 2
)  # q = 2^-k: the second order is below 1e-9 × its ratio to the first, which LEAST keeps small
LEAST = Fraction(1, 100)  # of T(q)/q near 0
NEAR = Fraction(1, 2**60)
HALF_WIDTH = 0.01


@dataclass(frozen=True)
class Family:
    """One quadratic problem under masks that keep with 1 − q what ``params`` marks, for any q."""

    plain: Model
    masked: tuple[tuple[int, ...], tuple[int, ...]]

    def at(self, q: Fraction) -> Model:
        lam, w = (tuple(1 - q * c for c in marks) for marks in self.masked)
        law = Law(lam, w, tuple(range(len(lam))), tuple(range(len(w))))
        return Model(self.plain.plain, law, self.plain.lam, self.plain.params)


def build(params: Mapping[str, Any]) -> Family:
    """``drop_lam``, ``drop_w``: how many times q each coordinate is dropped with."""
    n, d = params["n"], params["d"]
    return Family(model(params), (tuple(params["drop_lam"][:n]), tuple(params["drop_w"][:d])))


def size(term: Term, case: Family, q: Fraction, root: bool) -> float:
    """T(q) as a float, though T² may be far below the smallest one."""
    value = term(case.at(q))
    value = Fraction(int(value.p), int(value.q))
    if value <= 0:
        return 0.0
    log = math.log2(value.numerator) - math.log2(value.denominator)
    return float(2 ** (log / 2 if root else log))


def order(term: Term, root: bool, predicted: float = 1.0) -> Callable[[Family], Measurement]:
    """The slope of log T(q) against log q over the fixed window."""

    def measure(case: Family) -> Measurement:
        sizes = [size(term, case, Fraction(1, 2**k), root) for k in WINDOW]
        if min(sizes) == 0:  # no order at all: a distance of 1 from every one that could be stated
            return Measurement(observed=1.0, bound=HALF_WIDTH, detail={"fitted": "identically zero"})
        slope = np.polyfit([-k for k in WINDOW], np.log2(sizes), 1)[0]
        return rate(float(slope), predicted, HALF_WIDTH, window=f"q = 2^-{WINDOW[0]} … 2^-{WINDOW[-1]}")

    return measure


def curve(term: Term, root: bool) -> Callable[[Family], dict[str, Any]]:
    """T(q), and the straight line through its value near 0."""

    def draw(case: Family) -> dict[str, Any]:
        slope = size(term, case, NEAR, root) / float(NEAR)
        q = [Fraction(1, 2**k) for k in range(2, 13)]
        return {
            "x": [float(x) for x in q],
            "predicted": [slope * float(x) for x in q],
            "measured": [max(size(term, case, x, root), 1e-300) for x in q],
            "xlabel": "1 − p",
            "ylabel": "size",
            "logx": True,
            "logy": True,
        }

    return draw


def first_order(term: Term, root: bool) -> Hypothesis:
    """What is excluded: problems that this term does not feel to first order."""

    def predicate(case: Family) -> tuple[bool, Any]:
        slope = size(term, case, NEAR, root) / float(NEAR)
        return slope >= LEAST, slope

    return Hypothesis("dropout is felt", r"T(q)/q \ge \tfrac1{100} \text{ near } q = 0", predicate)


STRATEGY = st.fixed_dictionaries(
    {
        "n": st.integers(1, 2),
        "d": st.integers(1, 2),
        "seed": st.integers(0, 999),
        "drop_lam": st.lists(st.integers(0, 1), min_size=2, max_size=2),
        "drop_w": st.lists(st.integers(0, 2), min_size=2, max_size=2),
    }
)


def _at(seed: int, drop: int = 1) -> dict[str, Any]:
    return {**at(2, 2, seed), "drop_lam": [drop, drop], "drop_w": [drop, drop]}


def vanishing(name: str, title: str, tex: str, term: Term, *, root: bool, notes: str) -> Claim:
    """The claim of one term; ``root``: the term is given by its square."""
    return Claim(
        id=f"dropout-bilevel/vanishes-at-1@{name}",
        title=f"{title} is of first order in 1 − p",
        source="dropout-bilevel, remark 3",
        statement=rf"{tex} = O(1-p), \text{{ of order exactly one where dropout is felt to first order}}",
        hypotheses=(first_order(term, root),),
        strategy=STRATEGY,
        explicit=(_at(1), _at(2)),
        build=build,
        measure=order(term, root),
        grade="exact",
        controls=(
            Control("nothing is masked", params=_at(1, 0)),
            Control("second order", kind="formula", measure=order(term, root, 2.0)),
            Control("order one half", kind="formula", measure=order(term, root, 0.5)),
        ),
        curve=curve(term, root),
        budget=Budget(quick=15, full=200),
        notes=notes
        + " Every number is rational; only the logarithms are rounded. Each mask's probabilities are "
        "affine in $q = 1 - p$, so T is a rational function of q (or the root of one) that vanishes at q = "
        "0. Some coordinates are never dropped, others twice as often. Refuted would be any order below 0.99; a "
        "problem of a higher order has $T(q)/q \\to 0$ and is excluded by the hypothesis, not counted as a failure.",
    )


CLAIMS = (
    vanishing(
        "hypergradient",
        "The distance between the dropout problem's hypergradient and the plain one",
        r"\|\nabla\bar F(\lambda) - \nabla f(\lambda)\|",
        of_hypergradient,
        root=True,
        notes="Both levels masked.",
    ),
    vanishing(
        "solution",
        "The bias of the lower solution",
        r"\|\bar w(\lambda) - w(\lambda)\|",
        of_solution,
        root=True,
        notes="The dropout problem's solution by literal normal equations, the plain one by the library.",
    ),
    vanishing(
        "jacobian",
        "The distance between the Jacobians of the two lower solutions",
        r"\|J(\bar w) - J(w)\|_F",
        of_jacobian,
        root=True,
        notes="The left by central differences of literal solutions.",
    ),
    vanishing(
        "gradient-variance",
        "The variance of the masked lower gradient at the solution",
        r"E\|m_w\nabla_wG(M W) - E\,m_w\nabla_wG(MW)\|^2",
        of_gradient,
        root=False,
        notes="The part of the noise that is not the data's; its root, the standard deviation, is of order "
        "½.",
    ),
    vanishing(
        "hessian-variance",
        "The variance of the masked Hessian",
        r"E\|m_w\nabla^2_{ww}G\,m_w - E\,m_w\nabla^2_{ww}G\,m_w\|_F^2",
        of_hessian,
        root=False,
        notes="The left side of (14), its block of w.",
    ),
    vanishing(
        "hypergradient-variance",
        "The variance of the masked hypergradient",
        r"E\|\nabla F_M(\lambda) - \nabla\bar F(\lambda)\|^2",
        of_masked_hypergradient,
        root=False,
        notes="What separates the sufficient condition of section 4 from stationarity.",
    ),
    vanishing(
        "adjoint-variance",
        "The variance of the masked adjoint",
        r"E\|v_m - E\,v_m\|^2",
        of_adjoint,
        root=False,
        notes="$v_m = (\\nabla^2_{ww}\\bar G)^{-1}m_w\\nabla_wF(MW)$ over the upper masks: the moving target of "
        "theorem 1.",
    ),
    vanishing(
        "shared-mask-bias",
        "The bias of a step that uses one lower mask twice",
        r"\|E[(\hat C - \bar C)\hat H]\,\bar v\|",
        of_shared_masks,
        root=True,
        notes="$\\hat C = m_\\lambda\\nabla^2_{\\lambda w}G\\,m_w$ and $\\hat H = m_w\\nabla^2_{ww}G\\,m_w$ of one "
        "draw, "
        "$\\bar v = E\\,v_m$: what $v^+ = v + \\beta(b - \\hat Hv)$ adds to the mean of $-\\hat Cv^+$ at the "
        "solution, per "
        "$\\beta$ and for $\\gamma \\to 0$.",
    ),
    vanishing(
        "floor",
        "The floor of the lower iterates",
        r"\lim_kE\|w_k - \bar w(\lambda)\|^2",
        of_floor,
        root=False,
        notes="λ held, constant step, full data: the stationary second moment, one linear system in $d^2$ "
        "unknowns.",
    ),
)
