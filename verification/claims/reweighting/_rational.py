"""Quadratic bilevel problems with small integer coefficients, over the rationals: every comparison is exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import BilevelProblem, exact_hypergradient
from refimpl.arrays import backend
from refimpl.arrays.backend import Array
from refimpl.exact.lower import solve_lower
from refimpl.objective import Map
from refimpl.problem import Problem
from refimpl.solvers.lower import Iteration
from refimpl.zoo import quadratic
from verification.model import Hypothesis

RATIONAL = backend("rational")


@dataclass(frozen=True)
class Exact:
    """A problem over the rationals at an integer λ; ``off`` moves the lower-level point away from w(λ)."""

    problem: BilevelProblem
    lam: Array
    params: Mapping[str, Any]

    @cached_property
    def w_star(self) -> Array:
        return solve_lower(self.problem, self.lam).w

    @property
    def w(self) -> Array:
        return self.w_star + self.params.get("off", 0)

    @cached_property
    def hypergradient(self) -> Any:
        return exact_hypergradient(self.problem, self.lam)

    @cached_property
    def parts(self) -> tuple[Array, Array, Array, Array]:
        """H, C = ∇²_λwG, ∇_λF, ∇_wF at (λ, w)."""
        lower, upper, at = self.problem.lower, self.problem.upper, (self.lam, self.w)
        return lower.hess_ww(*at).dense(), lower.cross(*at).dense(), upper.grad_lam(*at), upper.grad_w(*at)

    @cached_property
    def total_derivative(self) -> Array:
        """dF(λ, w(λ))/dλ by central differences: exact, as λ ↦ F(λ, w(λ)) is a quadratic polynomial."""
        return central_differences(lambda lam: value_at_solution(self.problem, lam), self.lam)


def value_at_solution(problem: Problem, lam: Array) -> Any:
    """F(λ, w(λ))."""
    return problem.upper.value(lam, solve_lower(problem, lam).w)


def value_after_steps(problem: Problem, solver: Iteration, start: Map) -> Callable[[Array], Any]:
    """λ ↦ F(λ, w_T(λ)), w_0 = start(λ)."""

    def value(lam: Array) -> Any:
        w0 = start.value(lam, problem.w(None))
        return problem.upper.value(lam, solver.run(problem, lam, w0).w)

    return value


def central_differences(f: Callable[[Array], Any], x: Array) -> Array:
    """(f(x + e_j) − f(x − e_j))/2 for every j: the gradient, exactly, of a polynomial of degree two."""
    units = RATIONAL.eye(len(x))
    return np.array([(f(x + e) - f(x - e)) / 2 for e in units], dtype=object)


def problem(params: Mapping[str, Any]) -> Exact:
    """H = MᵀM + I, everything else small integers; ``direct=False`` leaves λ out of F."""
    n, d, rng = params["n"], params["d"], np.random.default_rng(params["seed"])

    def small(*shape: int) -> np.ndarray:
        return rng.integers(-2, 3, shape).astype(float)

    root, symmetric = small(d, d), small(d, d)
    lower = quadratic.objective(ww=root.T @ root + np.eye(d), lw=small(n, d), w1=small(d))
    upper = quadratic.objective(
        ww=symmetric + symmetric.T, lw=small(n, d), ll=2 * np.eye(n), w1=small(d), l1=small(n)
    )
    lam = RATIONAL.asarray(small(n))
    return Exact(BilevelProblem(upper, lower).to("rational"), lam, dict(params))


def at(n: int, d: int, seed: int = 0, **more: Any) -> dict[str, Any]:
    """Parameters of one problem."""
    return {"n": n, "d": d, "seed": seed, **more}


def sizes(**more: Any) -> Any:
    """Strategy over problems with up to three variables on each level."""
    boxes = {"n": st.integers(1, 3), "d": st.integers(1, 3), "seed": st.integers(0, 999)}
    return st.fixed_dictionaries({**boxes, **more})


def _solved(case: Exact) -> tuple[bool, Any]:
    residual = case.problem.residual(case.lam, case.w)
    return not (residual != 0).any(), str(max(abs(r) for r in residual))


SOLVED = Hypothesis("lower level solved", r"\nabla_wG(\lambda, w) = 0", _solved)
