"""Algorithm 2 where nothing is affine: over-parametrised logistic regression, weights σ(λ), in floats.

F has a term λᵀCw besides, so that a step on F depends on λ too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

import refimpl as ri
from refimpl import BilevelProblem
from refimpl.combined import Combined
from refimpl.solvers import Averaging, BiGSAM
from refimpl.zoo import quadratic
from verification.claims.improved_bilevel.algorithm_2 import SOURCE, STATEMENT
from verification.instances import EPS, size
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, reals

TINY = 1e-30  # of the complex step, whose own error is its square times a third derivative


@dataclass(frozen=True)
class Floats:
    """One run on cross entropies at λ = 0 + noise; ``follows``: w_0 + λ_1, where it should not depend on λ."""

    params: Mapping[str, Any]

    @cached_property
    def problem(self) -> BilevelProblem:
        p = self.params
        of = ri.zoo.overparametrised.random(
            d=p["d"], rank=p["rank"], seed=p["seed"], loss="logistic", reg_upper=p["ridge"]
        )
        C = np.random.default_rng([p["seed"], 1]).uniform(-1, 1, (of.n, of.d))
        bilinear = quadratic.objective(ww=np.zeros((of.d, of.d)), lw=C)
        return replace(of, upper=Combined(1.0, of.upper, 1.0, bilinear))

    @cached_property
    def lam(self) -> np.ndarray:
        rng = np.random.default_rng(self.params["seed"])
        return np.asarray(rng.uniform(-1, 1, self.problem.n))

    @cached_property
    def solver(self) -> BiGSAM:
        """s <= 1/L_G, as the singular values of X/√N are at most 1; t = 1/4."""
        p = self.params
        alpha = Averaging(0.5, p["gamma"])
        return BiGSAM(p["K"], s=4.0, t=0.25, alpha=alpha, every=p["every"])

    def start(self, lam: Any) -> Any:
        return np.ones(self.problem.d) + (lam[0] if self.params.get("follows") else 0 * lam[0])

    def result(self, problem: BilevelProblem) -> Callable[[Any], Any]:
        """λ ↦ F(λ, w_K(λ)), values of the steps only."""

        def value(lam: Any) -> Any:
            w = w0 = self.start(lam)
            for k in range(1, self.solver.steps + 1):
                w = self.solver.map(problem, lam, w0, k).value(lam, w)
            return problem.upper.value(lam, w)

        return value

    def by_autograd(self) -> np.ndarray:
        from autograd import grad

        return np.asarray(grad(self.result(self.problem.to("autograd")))(self.lam))

    def by_complex_step(self) -> np.ndarray:
        directions, value = np.eye(self.problem.n), self.result(self.problem)
        return np.array([np.imag(value(self.lam + 1j * TINY * e)) / TINY for e in directions])

    @cached_property
    def rounding(self) -> float:
        """10·d·eps × steps × what the steps may amplify × the sizes of the terms: no contraction is assumed."""
        lam, w0, d = self.lam, self.start(self.lam), self.problem.d
        path = self.solver.run(self.problem, lam, w0, keep=None).states
        maps = [self.solver.map(self.problem, lam, w0, k) for k in range(1, self.solver.steps + 1)]
        pairs = list(zip(maps, path[:-1], strict=True))
        growth = float(np.prod([max(1.0, float(np.linalg.norm(m.d_w(lam, w).dense(), 2))) for m, w in pairs]))
        B = max([0.0, *(size(m.d_lam(lam, w).dense()) for m, w in pairs)])
        gradient = max(size(self.problem.upper.grad_w(lam, w)) for w in (path[-1], 0 * path[-1]))
        moved = 1 + sum(map(size, path))
        return 10 * d * EPS * (1 + len(maps)) * growth**2 * moved * (1 + B) ** 2 * (1 + gradient)


def against(
    judge: Callable[[Floats], np.ndarray], *found: Callable[[Floats], np.ndarray]
) -> Callable[[Floats], Measurement]:
    """The largest distance of ``found`` from ``judge``."""

    def measure(run: Floats) -> Measurement:
        expected = judge(run)
        gap = max(size(f(run) - expected) for f in found)
        return Measurement(observed=gap, bound=0.0, rounding=run.rounding, detail={"scale": size(expected)})

    return measure


def swept(mode: Callable[..., Any], **options: Any) -> Callable[[Floats], np.ndarray]:
    """One of the library's modes."""

    def value(run: Floats) -> np.ndarray:
        found = mode(run.problem, run.lam, lower=run.solver, w0=run.start(run.lam), **options)
        return np.asarray(found.value)

    return value


REVERSE, FORWARD = swept(ri.approximate.reverse), swept(ri.approximate.forward)


def one_step(run: Floats) -> np.ndarray:
    """The last step alone."""
    return swept(ri.approximate.one_step)(run)


def late(run: Floats) -> np.ndarray:
    """Reverse mode along the same states with α_{k+1} for α_k."""
    lam, w0, q = run.lam, run.start(run.lam), None
    path = run.solver.run(run.problem, lam, w0, keep=None).states
    q, g = run.problem.upper.grad_w(lam, path[-1]), run.problem.upper.grad_lam(lam, path[-1])
    for k in range(run.solver.steps, 0, -1):
        step = run.solver.map(run.problem, lam, w0, k + 1)
        q, g = step.d_w(lam, path[k - 1]).T @ q, g + step.d_lam(lam, path[k - 1]).T @ q
    return np.asarray(g)


def lower_alone(run: Floats) -> np.ndarray:
    """Reverse mode with B_k = −(1−α_k)s∇²_λwG: a step on F as if F did not depend on λ."""
    lam, w0 = run.lam, run.start(run.lam)
    path = run.solver.run(run.problem, lam, w0, keep=None).states
    q, g = run.problem.upper.grad_w(lam, path[-1]), run.problem.upper.grad_lam(lam, path[-1])
    for k in range(run.solver.steps, 0, -1):
        step, w = run.solver.map(run.problem, lam, w0, k), path[k - 1]
        of_F = run.solver.weight(k) * run.solver.t * run.problem.upper.cross(lam, w).dense()
        q, g = step.d_w(lam, w).T @ q, g + step.d_lam(lam, w).T @ q + of_F @ q
    return np.asarray(g)


def _fixed_start(run: Floats) -> tuple[bool, Any]:
    moved = size(run.start(run.lam + 1) - run.start(run.lam))
    return moved == 0, moved


def at(d: int, rank: int, K: int, **more: Any) -> dict[str, Any]:
    """Parameters of one run."""
    return {"d": d, "rank": rank, "K": K, "seed": 0, "every": 1, "gamma": 0.25, "ridge": 0.5, **more}


CLAIMS = (
    Claim(
        id="improved-bilevel/algorithm-2@float",
        title="The reverse sweep against automatic differentiation and the complex step, on logistic "
        "regression",
        source=SOURCE,
        statement=STATEMENT,
        hypotheses=(Hypothesis("w_0 does not depend on λ", r"dw_0/d\lambda = 0", _fixed_start),),
        strategy=st.fixed_dictionaries(
            {
                "d": st.integers(2, 5),
                "rank": st.integers(1, 2),
                "K": st.integers(1, 12),
                "seed": st.integers(0, 99),
                "every": st.integers(1, 3),
                "gamma": reals(0.05, 1),
                "ridge": reals(0.1, 2),
            }
        ),
        explicit=(at(2, 1, 1), at(3, 2, 6), at(4, 2, 12, every=3)),
        build=lambda params: Floats(dict(params)),
        measure=lambda run: max(
            (against(judge, REVERSE, FORWARD)(run) for judge in (Floats.by_autograd, Floats.by_complex_step)),
            key=lambda m: m.observed,
        ),
        grade="exact",
        controls=(
            Control("a start that follows λ", params=at(2, 1, 6, follows=True)),
            Control("the last step only", kind="formula", measure=against(Floats.by_autograd, one_step)),
            Control("α_{k+1} for α_k", kind="formula", measure=against(Floats.by_autograd, late)),
            Control(
                "F's term of B_k left out",
                kind="formula",
                measure=against(Floats.by_autograd, lower_alone),
                params=at(3, 2, 6),
            ),
        ),
        budget=Budget(quick=12, full=400),
        notes="F is a cross entropy and a ridge, plus $\\lambda^\\top Cw$. "
        "Two judges that see values of the step only: autograd through the whole loop, and the "
        "imaginary part of the loop run at $\\lambda + i10^{-30}e_j$.",
    ),
)
