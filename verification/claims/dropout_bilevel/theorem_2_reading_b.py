"""Theorem 2 with the dropout term outside 1/√T: refuted where that term vanishes, no restriction where it does not.

Its factor p_w²(1−p_w²) + p_w(1−p_w) is 0 at p_w = 1 whatever p_λ is: then the left side would tend to 0, which
``theorem_2`` refutes. For p_w < 1 the term grows like ln T, and exceeds every bounded left side from some T on: for
F = √(1+(λ₁+λ₂−1)²) and p_w = p_λ = p that side is below 2p, and the term is ln(T+1) p(1−p³) >= 2p as soon as
T + 1 >= exp(2/(1−p³)).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from verification.claims.dropout_bilevel._descent import masked_model, random_problems
from verification.claims.dropout_bilevel._masks import Model
from verification.claims.dropout_bilevel.theorem_2 import SOURCE, SPLIT, plane, vanishes
from verification.claims.dropout_bilevel.theorem_2_bounded import bounded_phi
from verification.model import Budget, Claim, Control, Hypothesis, Measurement

Params = dict[str, Any]
EPS = float(np.finfo(float).eps)
OPERATIONS = 16  # of last_term and the conversion, each of one rounding


def last_term(p: float, T: int, *, first: float = 1.0) -> float:
    """ln(T+1)(p²(1−p²) + p(1−p)) as printed, p_w = p; ``first``: a factor of its first part."""
    return math.log(T + 1) * (first * p**2 * (1 - p**2) + p * (1 - p))


def threshold(p: float) -> float:
    """exp(2/(1−p³)): as p²(1−p²) + p(1−p) = p(1−p³), the last term is 2p at T + 1 equal to it."""
    return math.exp(2 / (1 - p**3))


def outgrown(first: float = 1.0) -> Callable[[Params], Measurement]:
    """E‖∇F_M(λ)‖² at a point of the plane against the printed last term alone."""

    def measure(case: Params) -> Measurement:
        p, (a, b) = Fraction(*case["p"]), (Fraction(x) for x in case["offset"])
        observed, bound = float(bounded_phi(p, a, b)), last_term(float(p), case["T"], first=first)
        return Measurement(observed=observed, bound=bound, rounding=OPERATIONS * EPS * (1 + bound))

    return measure


def _long(case: Params) -> tuple[bool, int]:
    return case["T"] + 1 >= threshold(case["p"][0] / case["p"][1]), case["T"]


def soonest(k: int, offset: tuple[int, int] = (512, 512), later: int = 0) -> Params:
    """p = k/20, λ − 1 = ``offset``, and the first T that is long enough, or ``later``."""
    return {"p": [k, 20], "offset": list(offset), "T": math.ceil(threshold(k / 20)) - 1 + later}


def _w_not_masked(case: Model) -> tuple[bool, Any]:
    p = case.law.keep_w[0]
    return p == 1, str(p)


CLAIMS = (
    Claim(
        id="dropout-bilevel/theorem-2@b",
        title="Theorem 2 with the dropout term outside 1/√T, where w is not masked",
        source=SOURCE + ", the last term not multiplied by $1/\\sqrt T$",
        statement=r"$$p_w = 1: \text{ the last term is } 0 \text{ and } \frac1T\sum_{k=1}^TE\|\nabla "
        r"F_{M_k}(\lambda_k)\|^2 \to 0$$",
        printed=r"\frac{1}{\sqrt T}\left(\dots\right) + \ln(T+1)\left(p_w^2(1-p_w^2) + p_w(1-p_w)\right)",
        hypotheses=(Hypothesis("no masks on w", r"p_w = 1", _w_not_masked),),
        strategy=random_problems(keep_w=st.just([1, 1])),
        explicit=(plane(4, 5, [1, 1]), {"kind": "line", "keep_lam": [1, 2], "keep_w": [1, 1]}),
        build=masked_model,
        measure=vanishes,
        grade="proved",
        controls=(Control("masks on w too", params=plane(1, 2)),),
        corrected=SPLIT,
        budget=Budget(quick=40, full=800),
        notes="The printed factor of Theorem 2 vanishes at $p_w = 1$ whatever $p_\\lambda$ is; that of Theorem 1 is "
        "$p_\\lambda(1-p_\\lambda)$ there. For $p_w < 1$ the term grows with T: see @b-excludes-nothing.",
    ),
    Claim(
        id="dropout-bilevel/theorem-2@b-excludes-nothing",
        title="Where w is masked, the dropout term outside 1/√T outgrows every masked hypergradient",
        source=SOURCE + ", the last term not multiplied by $1/\\sqrt T$",
        statement=r"$$T + 1 \ge e^{2/(1-p^3)}: \quad \sup_\lambda E\|\nabla F_M(\lambda)\|^2 \le "
        r"\ln(T+1)\left(p^2(1-p^2) + p(1-p)\right)$$ for $F = \sqrt{1+(\lambda_1+\lambda_2-1)^2}$, $p = p_w "
        r"= p_\lambda < 1$: the printed bound excludes no sequence of $\lambda_k$",
        printed=r"\frac{1}{\sqrt T}\left(\dots\right) + \ln(T+1)\left(p_w^2(1-p_w^2) + p_w(1-p_w)\right)",
        hypotheses=(Hypothesis("T is large", r"T + 1 \ge e^{2/(1-p^3)}", _long),),
        strategy=st.builds(
            soonest,
            st.integers(1, 19),
            st.tuples(st.integers(-64, 64), st.integers(-64, 64)),
            st.integers(0, 50),
        ),
        explicit=tuple(soonest(k) for k in (10, 16, 19)),
        build=dict,
        measure=outgrown(),
        grade="exact",
        controls=(
            Control("T = 2", params={**soonest(16), "T": 2}),
            Control("p²(1−p²) dropped", kind="formula", measure=outgrown(0.0)),
            Control("half of p²(1−p²)", kind="formula", measure=outgrown(0.5)),
        ),
        budget=Budget(quick=200, full=2000),
        notes="$|\\partial_iF| < 1$, so $E\\|\\nabla F_M\\|^2 < E\\|m_\\lambda\\|^2 = 2p$, the supremum; and "
        "$p^2(1-p^2) + p(1-p) = p(1-p^3)$. So from T = 60 on for p = 4/5, T = 9 for p = ½, the last term alone is no "
        "less than the average of $E\\|\\nabla F_{M_k}(\\lambda_k)\\|^2$ for any $\\lambda_k$, one that never moves "
        "among them. For every F of bounded gradient, assumption 2 (iii), the same happens from some T on: "
        "reading @b is then true and says nothing about the algorithm.",
    ),
)
