"""Simple bilevel problems in which everything depends on λ, over the rationals: G = ½‖A(λ)w − c(λ)‖², F alike.

A(λ) = A_0 + Σ_j λ_j A_j of r <= d independent rows: H = AᵀA has rank r at λ and near it, b = Aᵀc lies in its range, and
Argmin G = {w : A(λ)w = c(λ)}. F's matrix is (I; B(λ)), so Q = I + BᵀB and σ_F >= 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq_mat
from hypothesis import strategies as st

from refimpl import BilevelProblem
from refimpl.arrays import Backend, backend
from refimpl.arrays.backend import Array
from refimpl.objective import Objective
from refimpl.operators import Operator, matrix
from verification.claims.improved_bilevel._dual import along, solve
from verification.model import Hypothesis

RATIONAL = backend("rational")
SIGNS = (1, -1, -1, 1)


@dataclass(frozen=True)
class Residuals(Objective):
    """½‖A(λ)w − c(λ)‖²: A (1 + n, r, d) and c (1 + n, r), the first entries constant, entry 1 + j times λ_j."""

    A: Array
    c: Array
    backend: Backend = Backend()

    @property
    def n(self) -> int:
        return int(self.c.shape[0]) - 1

    @property
    def d(self) -> int:
        return int(self.A.shape[-1])

    def at_lam(self, lam: Any) -> tuple[Any, Any]:
        """A(λ), c(λ), whatever the numbers of λ are."""
        A, c = self.A[0, ...], self.c[0, ...]
        for j in range(self.n):
            at = lam[..., j : j + 1]
            A, c = A + self.A[j + 1, ...] * at[..., None], c + self.c[j + 1, ...] * at
        return A, c

    def _parts(self, lam: Array, w: Array) -> tuple[Array, Array, Array]:
        """A(λ), the residuals, and row by row their derivatives in λ at a fixed w."""
        B, (A, c) = self.backend, self.at_lam(lam)
        return A, B.matvec(A, w) - c, B.matvec(self.A[1:, ...], w[..., None, :]) - self.c[1:, ...]

    def value(self, lam: Array, w: Array) -> Array:
        _, residual, _ = self._parts(lam, w)
        return self.backend.dot(residual, residual) / 2

    def grad_lam(self, lam: Array, w: Array) -> Array:
        _, residual, slopes = self._parts(lam, w)
        return self.backend.matvec(slopes, residual)

    def grad_w(self, lam: Array, w: Array) -> Array:
        A, residual, _ = self._parts(lam, w)
        return self.backend.rmatvec(A, residual)

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        A = self.at_lam(lam)[0]
        return matrix(self.backend, self.backend.mT(A) @ A, symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        """Row j: A_jᵀ(Aw − c) + Aᵀ(A_jw − c_j)."""
        A, residual, slopes = self._parts(lam, w)
        return matrix(
            self.backend, self.backend.rmatvec(self.A[1:, ...], residual[..., None, :]) + slopes @ A
        )


@dataclass(frozen=True)
class Moving:
    """One problem at λ; ``params`` as in :func:`at`."""

    problem: BilevelProblem
    lam: Array
    params: Mapping[str, Any]

    @property
    def lower(self) -> Residuals:
        assert isinstance(self.problem.lower, Residuals)
        return self.problem.lower

    @property
    def upper(self) -> Residuals:
        assert isinstance(self.problem.upper, Residuals)
        return self.problem.upper

    @cached_property
    def rank(self) -> int:
        """Of A(λ)."""
        return rank(self.lower.at_lam(self.lam)[0])

    def selected(self, lam: Any) -> tuple[np.ndarray, Any]:
        """w_λ and F(λ, w_λ) in the arithmetic of λ (duals: with their derivative), from [Q Aᵀ; A 0](w, μ) = (Qa, c)."""
        (A, c), (M, m) = self.lower.at_lam(lam), self.upper.at_lam(lam)
        r, d = A.shape
        zero = 0 * self.lam[0]
        system = np.full((d + r, d + r), zero, dtype=object)
        system[:d, :d], system[:d, d:], system[d:, :d] = M.T @ M, A.T, A
        w = solve(system, np.concatenate([M.T @ m, c]))[:d]
        return w, half_square(M @ w - m)

    @cached_property
    def derivative(self) -> np.ndarray:
        """dF(λ, w_λ)/dλ."""
        n = self.problem.n
        return np.array([self.selected(along(self.lam, j))[1].slope for j in range(n)], dtype=object)


def rank(A: np.ndarray) -> int:
    return int(fmpq_mat(A.tolist()).rank()) if A.size else 0


def inverse(a: np.ndarray) -> np.ndarray:
    return np.array(fmpq_mat(a.tolist()).inv().tolist(), dtype=object)


def constrained(M: np.ndarray, m: np.ndarray, A: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, Any]:
    """argmin and min of ½‖Mx − m‖² subject to Ax = c, consistent; of dependent equations a basis is kept."""
    Q = inverse(M.T @ M)
    x = Q @ M.T @ m
    reduced, rows = fmpq_mat(np.column_stack([A, c]).tolist()).rref()
    if rows:
        kept = np.array(reduced.tolist(), dtype=object)[:rows]
        A, c = kept[:, :-1], kept[:, -1]
        x = x + Q @ A.T @ inverse(A @ Q @ A.T) @ (c - A @ x)
    return x, half_square(M @ x - m)


def half_square(x: np.ndarray) -> Any:
    return (x * x).sum() / 2


def moving(params: Mapping[str, Any]) -> Moving:
    """Small integers; ``drop``: A's first row is λ_1 (1, …), and λ_1 = 0, so that the rank falls by one at λ.

    "row": c's entry is a multiple of λ_1 too, and S_λ grows at once; "matrix": it is 1, and S_λ comes from infinity.
    "signs": as "row" with a·λ for λ_1, a = SIGNS and a·λ = 0, and the rank is the same along many patterns of signs.
    """
    n, d, r = params["n"], params["d"], min(params["r"], params["d"])
    rng = np.random.default_rng(params["seed"])

    def small(*shape: int) -> np.ndarray:
        return rng.integers(-2, 3, shape).astype(float)

    A, c, B, a = small(1 + n, r, d), small(1 + n, r), small(1 + n, d, d), small(1 + n, 2 * d)
    lam = small(n) / 2
    while np.linalg.matrix_rank(A[0] + np.tensordot(lam, A[1:], 1)) < r:
        A[0] = small(r, d)
    if params.get("drop"):
        lam[0], A[0, 0], A[2:, 0], c[0, 0], c[2:, 0] = 0, 0, 0, params["drop"] == "matrix", 0
        A[1, 0, 0] = 1
    if params.get("drop") == "signs":
        signs = np.array(SIGNS[:n], dtype=float)
        lam[0] = -signs[1:] @ lam[1:]
        A[:, 0], c[:, 0] = 0, 0
        A[1:, 0, 0], c[1:, 0] = signs, signs
    ones = np.zeros((1 + n, d, d))
    ones[0] = np.eye(d)
    if not params.get("upper", True):
        B[1:], a[1:] = 0, 0
    upper = Residuals(np.concatenate([ones, B], axis=1), a)
    problem = BilevelProblem(upper, Residuals(A, c)).to("rational")
    return Moving(problem, RATIONAL.asarray(lam), dict(params))


def at(n: int, d: int, r: int, seed: int = 0, **more: Any) -> dict[str, Any]:
    """Parameters of one problem: n hyperparameters, d weights, rank r (at most d)."""
    return {"n": n, "d": d, "r": r, "seed": seed, **more}


def sizes(**more: Any) -> Any:
    """Strategy: n <= 2, d <= 3, 1 <= r <= d."""
    boxes = {
        "n": st.integers(1, 2),
        "d": st.integers(1, 3),
        "r": st.integers(1, 3),
        "seed": st.integers(0, 999),
    }
    return st.fixed_dictionaries({**boxes, **more})


def _rank_kept(case: Moving) -> tuple[bool, Any]:
    rows = case.lower.c.shape[-1]
    return case.rank == rows, f"rank {case.rank} of {rows} rows"


CONSTANT_RANK = Hypothesis(
    "constant rank", r"\mathrm{rank}\,\nabla^2_{ww}G \text{ constant near } \lambda", _rank_kept
)
