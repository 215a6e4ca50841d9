"""Digits hyper-cleaning by hand in NumPy and SciPy: what a careful person writes for this one problem.

Weights are features x classes (row-major), σ(λ) is computed outside the timing, and nothing is checked: the rows that
refimpl is measured against.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg as sl

from refimpl.zoo.weighted_softmax import Cleaning

Apply = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Task:
    """Arrays of one problem: X (N, d), Y (N, c) one-hot, the same for validation, λ and s = σ(λ)."""

    X: np.ndarray
    Y: np.ndarray
    Xv: np.ndarray
    Yv: np.ndarray
    lam: np.ndarray
    s: np.ndarray
    reg: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.X.shape[1], self.Y.shape[1]

    @property
    def size(self) -> int:
        return self.X.shape[1] * self.Y.shape[1]


def task(data: Cleaning, lam: np.ndarray, reg: float) -> Task:
    """The problem as plain arrays."""
    eye = np.eye(data.classes)
    return Task(data.X, eye[data.y], data.X_val, eye[data.y_val], lam, 1 / (1 + np.exp(-lam)), reg)


def packed(p: Task, w: np.ndarray) -> np.ndarray:
    """refimpl's class-major w in this module's layout."""
    return w.reshape(p.shape[::-1]).T.ravel()


def softmax(Z: np.ndarray) -> np.ndarray:
    """Rows of probabilities."""
    E = np.exp(Z - Z.max(1, keepdims=True))
    return E / E.sum(1, keepdims=True)


def probabilities(p: Task, w: np.ndarray) -> np.ndarray:
    """Of the training samples, (N, c)."""
    return softmax(p.X @ w.reshape(p.shape))


def gradient(p: Task, w: np.ndarray, P: np.ndarray) -> np.ndarray:
    """∇_w of the lower level, given its probabilities."""
    return (p.X.T @ ((p.s / len(p.X))[:, None] * (P - p.Y))).ravel() + p.reg * w


def upper_gradient(p: Task, w: np.ndarray) -> np.ndarray:
    """∇_w of the validation loss, (features, classes)."""
    return p.Xv.T @ (softmax(p.Xv @ w.reshape(p.shape)) - p.Yv) / len(p.Xv)


def value(p: Task, P: np.ndarray, V: np.ndarray) -> np.ndarray:
    """The hypergradient from the adjoint V (features, classes)."""
    return -(p.s * (1 - p.s) / len(p.X)) * ((P - p.Y) * (p.X @ V)).sum(1)


# -- dense: one symmetric product, block diagonal added, Cholesky ---------------------------------
def hessian(p: Task, P: np.ndarray) -> np.ndarray:
    """Lower triangle of the Hessian, classes outermost."""
    d, c = p.shape
    XS = np.sqrt(p.s / len(p.X))[:, None] * p.X
    G = (P[:, :, None] * XS[:, None, :]).reshape(len(p.X), c * d)
    H = sl.blas.dsyrk(-1.0, G.T, lower=1)
    for k in range(c):
        block = slice(k * d, (k + 1) * d)
        H[block, block] += (XS * P[:, k : k + 1]).T @ XS
    H[np.diag_indices(c * d)] += p.reg
    return H


def solve_dense(p: Task, P: np.ndarray, b: np.ndarray) -> np.ndarray:
    """H⁻¹ b by Cholesky, b and the result (features, classes)."""
    factor = sl.cho_factor(hessian(p, P), lower=True, overwrite_a=True, check_finite=False)
    return sl.cho_solve(factor, b.T.ravel(), check_finite=False).reshape(p.shape[::-1]).T


def dense_at(p: Task, w: np.ndarray) -> np.ndarray:
    """The hypergradient at w*, by Cholesky."""
    P = probabilities(p, w)
    return value(p, P, solve_dense(p, P, upper_gradient(p, w)))


def newton(p: Task, tol: float) -> np.ndarray:
    """w* from 0 by full Newton steps."""
    w = np.zeros(p.size)
    for _ in range(50):
        P = probabilities(p, w)
        g = gradient(p, w, P)
        if np.abs(g).max() <= tol:
            break
        w = w - solve_dense(p, P, g.reshape(p.shape)).ravel()
    return w


# -- matrix-free: conjugate gradients -------------------------------------------------------------
def product(p: Task, P: np.ndarray) -> Apply:
    """v ↦ H v."""
    XS = (p.s / len(p.X))[:, None] * p.X

    def apply(v: np.ndarray) -> np.ndarray:
        U = p.X @ v.reshape(p.shape)
        U *= P
        U -= P * U.sum(1, keepdims=True)
        return (XS.T @ U).ravel() + p.reg * v

    return apply


def conjugate_gradients(apply: Apply, b: np.ndarray, tol: float) -> np.ndarray:
    """Until ‖residual‖ <= tol ‖b‖, or for 2000 steps."""
    x, r = np.zeros_like(b), b.copy()
    q, rr, enough = r.copy(), r @ r, tol * tol * (b @ b)
    for _ in range(2000):
        if rr <= enough:
            break
        Aq = apply(q)
        step = rr / (q @ Aq)
        x += step * q
        r -= step * Aq
        rr, before = r @ r, rr
        q *= rr / before
        q += r
    return x


def newton_cg(p: Task, tol: float) -> np.ndarray:
    """w* from 0 by truncated Newton steps, the systems solved ever more tightly."""
    w = np.zeros(p.size)
    for _ in range(50):
        P = probabilities(p, w)
        g = gradient(p, w, P)
        size = np.abs(g).max()
        if size <= tol:
            break
        w = w - conjugate_gradients(product(p, P), g, max(min(0.1, size), 0.1 * tol / size))
    return w


def iterative_at(p: Task, w: np.ndarray, tol: float) -> np.ndarray:
    """The hypergradient at w*, by conjugate gradients."""
    P = probabilities(p, w)
    v = conjugate_gradients(product(p, P), upper_gradient(p, w).ravel(), tol)
    return value(p, P, v.reshape(p.shape))
