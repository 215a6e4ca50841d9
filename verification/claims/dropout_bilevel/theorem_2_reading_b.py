"""Theorem 2 with the dropout term outside 1/√T: refuted where that term vanishes, empty where it does not.

Its factor p_w²(1−p_w²) + p_w(1−p_w) is 0 at p_w = 1 whatever p_λ is: then the left side would tend to 0, which
``theorem_2`` refutes. For p_w < 1 the term grows like ln T, and exceeds every bounded left side from some T on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from verification.claims.dropout_bilevel._descent import masked_model, random_problems
from verification.claims.dropout_bilevel._masks import Model
from verification.claims.dropout_bilevel.theorem_2 import SOURCE, SPLIT, along, plane, vanishes
from verification.model import Budget, Claim, Control, Hypothesis, Measurement

SIZE = 16 + 45  # points of a space and entries of a packed second moment: the sums that one step adds up


def last_term(case: Model, T: int) -> float:
    """ln(T+1)(p_w²(1−p_w²) + p_w(1−p_w)) as printed."""
    p = float(case.law.keep_w[0])
    return math.log(T + 1) * (p**2 * (1 - p**2) + p * (1 - p))


def average(moving: bool) -> Callable[[Model], Measurement]:
    """The mean of E‖∇F_{M_k}(λ_k)‖² over k < T, of the algorithm or of λ_k = λ_0, against the last term alone."""

    def measure(case: Model) -> Measurement:
        T = case.params["steps"] + 1
        values = along(case, T - 1, 0, "numpy") if moving else along(case, 0, 0, "numpy") * T
        observed = float(np.mean(values))
        bound = last_term(case, T)
        eps = float(np.finfo(float).eps)
        return Measurement(observed=observed, bound=bound, rounding=T * SIZE * eps * (observed + bound))

    return measure


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
        "$p_\\lambda(1-p_\\lambda)$ there. For $p_w < 1$ the term grows with T: see @b-masked-w.",
    ),
    Claim(
        id="dropout-bilevel/theorem-2@b-masked-w",
        title="Theorem 2 with the dropout term outside 1/√T, where w is masked",
        source=SOURCE + ", the last term not multiplied by $1/\\sqrt T$",
        statement=r"$$p_w < 1: \quad \frac1T\sum_{k<T}E\|\nabla F_{M_k}(\lambda_k)\|^2 \le "
        r"\ln(T+1)\left(p_w^2(1-p_w^2) + p_w(1-p_w)\right) + \dots$$",
        explicit=tuple(plane(1, 2, [k, 8], steps=40) for k in (4, 3, 7)),
        build=masked_model,
        measure=average(moving=True),
        grade="exact",
        controls=(
            Control(
                "λ never moved",
                kind="formula",
                measure=average(moving=False),
            ),
        ),
        budget=Budget(quick=0, full=0),
        notes="The last term alone grows like ln T, while the left side is bounded for bounded gradients: it holds "
        "from some T on whatever the iterates do, and says nothing. That is what the control shows, which moves λ "
        "nowhere and passes. Executed for $F = (\\lambda_1+\\lambda_2-1)^2/2$ from $\\lambda_0 = 0$ with T = 41.",
    ),
)
