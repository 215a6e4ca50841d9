"""Conjugate gradients inside the augmented Lagrangian, stopped before their end: the condition number is squared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import refimpl as ri
from refimpl import BilevelProblem
from refimpl.approximate import InnerGaussNewton
from refimpl.solvers import ConjugateGradient
from refimpl.zoo import quadratic
from verification.claims.reweighting._priced import OURS, spent
from verification.instances import EPS
from verification.model import Budget, Claim, Control, Equality, Measurement, reals


@dataclass(frozen=True)
class Stopped:
    """H = diag(h), Q = qH², g = ½vᵀHv and f = ½vᵀQv + a·v: one update from 0, with ``k`` steps inside."""

    h: np.ndarray
    a: np.ndarray
    q: float
    mu: float
    k: int

    @property
    def kappa(self) -> float:
        return float(self.h[-1] / self.h[0])

    @property
    def solved(self) -> np.ndarray:
        """The inner minimiser."""
        return -self.a / ((self.q + self.mu) * self.h**2)

    def size(self, x: np.ndarray) -> float:
        """‖x‖ in the norm of Q + μH²."""
        return float(np.linalg.norm(np.sqrt(self.q + self.mu) * self.h * x))

    @property
    def problem(self) -> BilevelProblem:
        lower = quadratic.objective(ww=np.diag(self.h), n=1)
        return BilevelProblem(quadratic.objective(ww=self.q * np.diag(self.h**2), w1=self.a, n=1), lower)


def stopped(params: Mapping[str, Any]) -> Stopped:
    """Log-spaced h and a drawn; ``hardest``: h² at the k + 1 extrema of T_k on [1, κ²], as in rate-aid-cg@sharp."""
    kappa, d, k = (params[name] for name in ("kappa", "d", "k"))
    if params["hardest"]:
        h = np.sqrt((kappa**2 + 1) / 2 - (kappa**2 - 1) / 2 * np.cos(np.pi * np.arange(k + 1) / k))
        a = np.ones(k + 1)
        a[[0, -1]] = 0.5**0.5
    else:
        h, a = np.geomspace(1, kappa, d), np.random.default_rng(params["seed"]).standard_normal(d)
    return Stopped(h, a, params["q"], params["mu"], k)


def remains(
    condition: Callable[[float], float] = lambda kappa: kappa, plus: int = 0
) -> Callable[[Stopped], Measurement]:
    """The inner error after k steps against 2ρ^k/(1 + ρ^{2k}) of it; mutants: κ's root for κ, a step more."""

    def measure(s: Stopped) -> Measurement:
        inner = InnerGaussNewton(1, ConjugateGradient(s.k))
        found = ri.approximate.augmented_lagrangian(
            s.problem, np.zeros(1), mu=s.mu, steps=1, inner=inner, check=False
        )
        kappa, start = condition(s.kappa), s.size(s.solved)
        left = ((kappa - 1) / (kappa + 1)) ** (s.k + plus)
        return Measurement(
            observed=s.size(found.w - s.solved),
            bound=2 * left / (1 + left**2) * start,
            rounding=10 * len(s.h) * EPS * s.kappa**2 * start,
            detail={"units": spent(found.calls)},
        )

    return measure


def at(kappa: float, k: int, *, hardest: bool = True, **more: Any) -> dict[str, Any]:
    """Parameters of one instance."""
    return {"kappa": kappa, "k": k, "hardest": hardest, "d": 20, "q": 1.0, "mu": 1.0, "seed": 0, **more}


CLAIMS = (
    Claim(
        id="reweighting/equal-cost@stopped",
        title="Conjugate gradients inside the augmented Lagrangian gain in two products what unrolling gains",
        source=OURS,
        statement=r"$$\|v_k - v_\mu\|_M \le \frac{2\rho^k}{1 + \rho^{2k}}\,\|v_0 - v_\mu\|_M, \quad \rho = "
        r"\frac{\kappa-1}{\kappa+1},\quad M = Q + \mu H^2,\ Q = qH^2$$ after $2k + 7$ units of one update; $v_\mu$ its "
        r"exact inner solution.",
        strategy=st.fixed_dictionaries(
            {
                "kappa": reals(1.5, 12),
                "k": st.integers(1, 8),
                "hardest": st.booleans(),
                "d": st.sampled_from([2, 3, 20]),
                "q": reals(0, 4),
                "mu": reals(0.05, 100, log=True),
                "seed": st.integers(0, 99),
            }
        ),
        explicit=(at(4.0, 1), at(10.0, 8, mu=100.0), at(10.0, 8, hardest=False), at(10.0, 20)),
        build=stopped,
        measure=remains(),
        grade="exact",
        controls=(
            Control("the condition number not squared", kind="formula", measure=remains(lambda k: k**0.5)),
            Control("a step more", kind="formula", measure=remains(plus=1)),
        ),
        equality=Equality(params=at(4.0, 4), reaches=0.999),
        budget=Budget(quick=40, full=1000),
        notes="$M = (q+\\mu)H^2$ has the condition number $\\kappa^2$, and its root takes the place of "
        "$\\sqrt\\kappa$ in rate-aid-cg@sharp. So where the spectrum is the hardest, $2k$ products leave $2\\rho^k$ of "
        "the error of one subproblem, and unrolling's $2k$ units $\\rho^k$ of the whole; on the adjoint system itself "
        "$k$ products leave $2\\left(\\frac{\\sqrt\\kappa-1}{\\sqrt\\kappa+1}\\right)^k$. Few or clustered eigenvalues "
        "are what conjugate gradients inside gain by (@cg-inside, @ahead). Equality: the hardest spectrum for each "
        "$k$.",
    ),
)
