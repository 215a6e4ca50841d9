"""What dropout alone brings to a quadratic problem: squared distances to the plain problem, and variances; rational."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from refimpl import exact_hypergradient
from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from refimpl.exact import solution_jacobian
from verification.claims.dropout_bilevel._masks import RATIONAL, Model
from verification.claims.dropout_bilevel.hypergradient import adjoints, each_mask

Term = Callable[[Model], Any]


def norm2(x: Array) -> Any:
    """‖x‖² of an array of any shape."""
    return (x * x).sum()


def variance(of: Model, values: Array) -> Any:
    """Σ_m P(m)‖values_m − mean‖², values (K, …)."""
    flat = values.reshape(len(values), -1)
    chances, _, _ = of.law.literal
    return (chances * ((flat - chances @ flat) ** 2).sum(axis=-1)).sum()


def of_hypergradient(case: Model) -> Any:
    """‖∇F̄ − ∇f‖²."""
    return norm2(
        exact_hypergradient(case.noisy, case.lam).value - exact_hypergradient(case.plain, case.lam).value
    )


def of_solution(case: Model) -> Any:
    """‖w̄(λ) − w(λ)‖², w̄ from the literal normal equations."""
    return norm2(case.w - exact_hypergradient(case.plain, case.lam).w)


def of_jacobian(case: Model) -> Any:
    """‖J(w̄) − J(w)‖_F²."""
    return norm2(case.jacobian - solution_jacobian(case.plain, case.lam))


def of_gradient(case: Model) -> Any:
    """The variance of m_w∇_wG(m_λλ, m_ww) at w̄(λ)."""
    _, of_lam, of_w = case.law.literal
    return variance(case, of_w * case.plain.lower.grad_w(of_lam * case.lam, of_w * case.w))


def of_hessian(case: Model) -> Any:
    """The variance of m_w∇²_wwG m_w: the part of (14) that belongs to w."""
    _, _, of_w = case.law.literal
    H = case.plain.lower.hess_ww(case.lam, case.w).dense()
    return variance(case, of_w[:, :, None] * H * of_w[:, None, :])


def of_masked_hypergradient(case: Model) -> Any:
    """The variance of ∇F_M: the gap of Jensen's inequality."""
    return variance(case, each_mask(case))


def of_adjoint(case: Model) -> Any:
    """Var(v_m): the variance of the adjoint over the upper masks."""
    return variance(case, adjoints(case, case.noisy)[2])


def of_shared_masks(case: Model) -> Any:
    """‖E[(Ĉ − C̄)Ĥv̄]‖², Ĉ = m_λ∇²_λwG m_w and Ĥ = m_w∇²_wwG m_w of one draw, v̄ the mean adjoint: literal sums."""
    _, of_lam, of_w = case.law.literal
    v = case.law.mean(lambda m, w: adjoints(case, case.noisy)[2])
    C = of_lam[:, :, None] * case.plain.lower.cross(case.lam, case.w).dense() * of_w[:, None, :]
    H = of_w[:, :, None] * case.plain.lower.hess_ww(case.lam, case.w).dense() * of_w[:, None, :]
    off = C - case.law.mean(lambda m, w: C)
    return norm2(case.law.mean(lambda m, w: (off @ (H @ v)[..., None])[..., 0]))


def of_floor(case: Model) -> Any:
    """E‖w − w̄(λ)‖² of the stationary w-line with λ held, step 1/trace(H), no noise but the masks'.

    z⁺ = (I − γmHm)z − γ m∇_wG(m_λλ, m_ww̄), whose second term has mean 0: so Ez = 0 and S = E AS Aᵀ + E ccᵀ.
    """
    G, d = case.plain.lower, case.plain.d
    H = G.hess_ww(case.lam, case.w).dense()
    step = 1 / sum(np.diag(H))
    chances, of_lam, of_w = case.law.literal
    A = RATIONAL.eye(d) - step * of_w[:, :, None] * H * of_w[:, None, :]
    c = -step * of_w * G.grad_w(of_lam * case.lam, of_w * case.w)
    both = (A[:, :, None, :, None] * A[:, None, :, None, :]).reshape(len(A), d * d, d * d)
    system = RATIONAL.eye(d * d) - (chances[:, None, None] * both).sum(axis=0)
    source = (chances[:, None, None] * (c[:, :, None] * c[:, None, :])).sum(axis=0)
    return sum(np.diag(factor(RATIONAL, system).solve(source.ravel()).reshape(d, d)))
