"""The augmented Lagrangian with conjugate gradients inside: its error exactly, and against descent at equal units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flint import fmpq
from hypothesis import strategies as st

import refimpl as ri
from refimpl import BilevelProblem
from refimpl.approximate import InnerGaussNewton
from refimpl.arrays.backend import Array
from refimpl.solvers import ConjugateGradient
from verification.claims.reweighting._penalty import (
    Penalised,
    fraction,
    largest,
    one,
    penalised,
    solve,
)
from verification.claims.reweighting._priced import OURS, spent
from verification.model import Budget, Claim, Control, Hypothesis, Measurement


def updated(problem: BilevelProblem, lam: Array, mu: fmpq, updates: int, steps: int) -> Any:
    """The package's own, with ``steps`` of conjugate gradients for each update."""
    inner = InnerGaussNewton(1, ConjugateGradient(steps))
    return ri.approximate.augmented_lagrangian(
        problem, lam, mu=fraction(mu), steps=updates, inner=inner, check=False
    )


# -- the error after K updates -----------------------------------------------------------------------------


def remaining(
    fewer: int = 0, share: Callable[[fmpq, fmpq], fmpq] = lambda q, mu: q / (q + mu), price: int = 7
) -> Callable[[Penalised], Measurement]:
    """The error and the units after K updates against their formulas; mutants: a step fewer, other factors, prices."""

    def measure(p: Penalised) -> Measurement:
        q, m, K = fmpq(p.s.spectrum[0]), len(set(p.h.spectrum)), p.params["K"]
        found = updated(p.problem, p.lam, p.gamma, K, m - fewer)
        left = (q * p.C @ p.adjoint - solve(p.H, p.B.T).T @ p.adjoint) / (q + p.gamma)
        expected = share(q, p.gamma) ** (K - 1) * left
        gap = max(abs(x) for x in found.value - p.hypergradient - expected)
        return largest((gap, 0), (spent(found.calls), (2 * m + price) * K))

    return measure


def multiple(params: Mapping[str, Any]) -> Penalised:
    """S = qI unless ``s`` says otherwise: Q = qH²."""
    return penalised({"s": [params["q"]] * params["d"], **params})


def _one_curvature(p: Penalised) -> tuple[bool, Any]:
    return len(set(p.s.spectrum)) == 1, f"σ: {p.s.spectrum}"


def several(q: int, h: list[int], K: int = 1, **more: Any) -> dict[str, Any]:
    """Parameters for ``multiple``: every eigenvalue of S is q."""
    return {**one((3, 1), d=len(h), seed=1), "q": q, "h": h, "K": K, **more}


MANY = [1, 5, 10] * 7
MULTIPLE = Hypothesis("one curvature", r"H^{-1}QH^{-1} = qI", _one_curvature)

CLAIMS = (
    Claim(
        id="reweighting/equal-cost@cg-inside",
        title="The augmented Lagrangian with conjugate gradients inside: its error and its price",
        source=OURS,
        statement=r"$$\nabla f_K - \nabla f(u) = r^{K-1}\,\frac{q\nabla^2_{uv}g - \nabla^2_{uv}f\,H^{-1}}{q + "
        r"\mu}\,\lambda^*, \quad r = \frac{q}{q+\mu}$$ after at most $(2m + 7)K$ units: $Q = qH^2$, $K$ updates from "
        r"0, each with $m$ steps of conjugate gradients, $m$ the number of distinct eigenvalues of $H$.",
        hypotheses=(MULTIPLE,),
        strategy=st.builds(
            lambda p, q, K: {**p, "q": q, "K": K},
            st.fixed_dictionaries(
                {
                    "n": st.integers(1, 3),
                    "d": st.integers(1, 4),
                    "seed": st.integers(0, 9999),
                    "gamma": st.sampled_from([[1, 4], [1, 1], [10, 1], [100, 1]]),
                }
            ),
            st.integers(0, 4),
            st.integers(1, 3),
        ),
        explicit=(
            several(1, [1]),
            several(1, [1, 2], 2),
            several(2, [1, 5, 10], 3),
            several(1, MANY, 2),
            several(3, list(range(1, 21))),
        ),
        build=multiple,
        measure=remaining(),
        grade="proved",
        controls=(
            Control("two curvatures", params=several(1, [1, 1], s=[0, 3])),
            Control("a step fewer inside", kind="formula", measure=remaining(fewer=1)),
            Control("μ/2 for μ", kind="formula", measure=remaining(share=lambda q, mu: q / (q + mu / 2))),
            Control("a unit forgotten", kind="formula", measure=remaining(price=6)),
        ),
        budget=Budget(quick=25, full=400),
        notes="$Q + \\mu H^2 = (q+\\mu)H^2$ has as many distinct eigenvalues as $H$, so that $m$ steps solve the inner "
        "problem exactly (cg-exact), and auglag-rate with $S = qI$ says the rest. $K = 1$ is the penalty method at "
        "$\\gamma = \\mu$, and this its floor (@floor): each further update takes another factor $r$ from it. A step "
        "costs two products, since $H^2$ is never formed; an update seven units more, two of its gradients being the "
        "line search's. Products with $Q$ are free here: $m + 2$ in each update.",
    ),
)
