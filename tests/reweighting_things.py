"""L2RW, Meta-Weight-Net and the improved model's algorithm written out: loops over samples, Python's fractions.

G(ω, w) = (1/(2N)) Σ_i ω_i (x_i·w − y_i)² and F(w) = (1/(2M)) Σ_j (x_j·w − y_j)², N = 4, M = 3, d = 2; for the improved
model F(λ, w) = ½ wᵀQw + λᵀKw + ½ λᵀMλ + a·w + c·λ.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

import refimpl as ri
from refimpl.zoo import quadratic
from refimpl.zoo.ridge import HalfSquares
from refimpl.zoo.weighted_rows import WeightedRows
from refimpl.zoo.weights import SampleWeights

X = np.array([[2.0, 1.0], [-1.0, 1.0], [1.0, 3.0], [0.0, -2.0]])
Y = np.array([1.0, -2.0, 4.0, 1.0])
X_VAL = np.array([[1.0, 1.0], [2.0, -1.0], [-3.0, 1.0]])
Y_VAL = np.array([3.0, -4.0, 1.0])
N, D = X.shape
START = (np.array([0.5, 0.25, 1.0, 0.75]), np.array([1.0, -0.5]))

LOWER = WeightedRows(HalfSquares(X, Y, N), SampleWeights("identity"))
WEIGHTED = ri.BilevelProblem(HalfSquares(X_VAL, Y_VAL, N), LOWER, name="weighted least squares")
UPPER = quadratic.random(n=N, d=D, seed=3).lower
COUPLED = ri.BilevelProblem(UPPER, LOWER, name="weighted least squares, F of both")

ROWS, LABELS, ROWS_VAL, LABELS_VAL = (
    np.array([[Fraction(v) for v in np.atleast_1d(row)] for row in rows], dtype=object)
    for rows in (X, Y, X_VAL, Y_VAL)
)


def gradient(i, w):
    """∇ℓ_i(w) on the training data."""
    return (ROWS[i] @ w - LABELS[i, 0]) * ROWS[i]


def descended(weights, w, train, alpha):
    """w − (α/b) Σ_i ω_i ∇ℓ_i(w) over the batch."""
    return w - alpha * sum(weights[i] * gradient(i, w) for i in train) / len(train)


def derivative(weights, w, train, val, alpha):
    """∂F(ŵ(ω))/∂ω_i = −(α/b) ∇F(ŵ)·∇ℓ_i(w), once for every time that i is in the batch; reweighting, (4)."""
    ahead = descended(weights, w, train, alpha)
    dF = sum((ROWS_VAL[j] @ ahead - LABELS_VAL[j, 0]) * ROWS_VAL[j] for j in val) / len(val)
    return np.array([-alpha / len(train) * list(train).count(i) * (dF @ gradient(i, w)) for i in range(N)])


def l2rw(lam, w, batches, *, at, alpha, eta):
    """Ren et al.; η is the note's."""
    for k, (train, val) in enumerate(batches):
        start = 0 * lam if at == "zero" else lam
        tilde = [max(-eta * h, Fraction(0)) for h in derivative(start, w, train, val, alpha(k))]
        total = sum(tilde)
        lam = np.array([x / (total + (total == 0)) for x in tilde])
        w = descended(lam, w, train, alpha(k))
        yield lam, w


def meta_weight_net(lam, w, batches, *, alpha, eta, highest=None):
    """Shu et al. with free weights, or weights between 0 and ``highest``."""
    for k, (train, val) in enumerate(batches):
        lam = lam - eta(k) * derivative(lam, w, train, val, alpha(k))
        if highest is not None:
            lam = np.array([min(max(x, Fraction(0)), highest) for x in lam])
        w = descended(lam, w, train, alpha(k))
        yield lam, w


def improved(lam, start, *, iterations, K, s, t, weight, nu, warm=False):
    """Algorithms 1 and 2, lines as in the document, on ``COUPLED``; weight: α_k, k = 1, …, K."""
    Q, C, M, a, c = (
        np.array([[Fraction(v) for v in np.atleast_1d(row)] for row in x], dtype=object)
        for x in (UPPER.ww[0], UPPER.lw[0], UPPER.ll[0], UPPER.w1[0], UPPER.l1[0])
    )
    a, c, eye = a[:, 0], c[:, 0], np.array([[Fraction(int(i == j)) for j in range(D)] for i in range(D)])
    w = start
    for k in range(iterations):
        ws = [w if warm else start]
        for j in range(1, K + 1):
            w = ws[-1]
            y = w - s * sum(lam[i] * gradient(i, w) for i in range(N)) / N
            z = w - t * (Q @ w + C.T @ lam + a)
            ws.append(weight(j) * z + (1 - weight(j)) * y)
        w = ws[-1]
        q, g = Q @ w + C.T @ lam + a, C @ w + M @ lam + c
        for j in range(K, 0, -1):
            alpha, before = weight(j), ws[j - 1]
            hess = sum(lam[i] * np.outer(ROWS[i], ROWS[i]) for i in range(N)) / N
            by_lam = np.array([gradient(i, before) for i in range(N)]).T / N  # ∇²_wλG, d × n
            A = alpha * (eye - t * Q) + (1 - alpha) * (eye - s * hess)
            B = -alpha * t * C.T - (1 - alpha) * s * by_lam
            g, q = g + B.T @ q, A.T @ q
        lam = lam - nu(k) * g
        yield lam, w
