"""The truth about the certificate's instances: lower levels, gradients and solutions at 400 bits (120 digits).

Everything is written out here on the instances' own floats: nothing of the zoo, of the operators or of the
certificate enters it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flint
import numpy as np
from flint import arb, arb_mat

BITS = 400


def _m(x: Any) -> arb_mat:
    """A matrix of the floats themselves; a vector is a column."""
    x = np.asarray(x, dtype=float)
    x = x[:, None] if x.ndim == 1 else x
    return arb_mat(x.shape[0], x.shape[1], x.ravel().tolist())


def _col(entries: list[arb]) -> arb_mat:
    return arb_mat(len(entries), 1, entries)


def _list(x: arb_mat) -> list[arb]:
    return list(x.entries())


def _diagonal(entries: list[arb]) -> arb_mat:
    return arb_mat([[e if i == j else arb(0) for j in range(len(entries))] for i, e in enumerate(entries)])


def _rows(x: arb_mat, scale: list[arb]) -> arb_mat:
    """diag(scale) x."""
    c = x.ncols()
    return arb_mat(x.nrows(), c, [e * scale[i // c] for i, e in enumerate(x.entries())])


@dataclass(frozen=True)
class Truth:
    """The lower level r(w) and its Jacobians, and the upper level's gradients, at 400 bits and one λ."""

    residual: Callable[[arb_mat], arb_mat]
    jacobian: Callable[[arb_mat], arb_mat]
    by_lam: Callable[[arb_mat, arb_mat], arb_mat]  # (∂_λ r)ᵀ v
    upper: Callable[[arb_mat], tuple[arb_mat, arb_mat]]  # ∇_λF, ∇_wF


def _quadratic_upper(F: Any, lam: Any) -> Callable[[arb_mat], tuple[arb_mat, arb_mat]]:
    P, Q, M, b, c, x = _m(F.ww[0]), _m(F.lw[0]), _m(F.ll[0]), _m(F.w1[0]), _m(F.l1[0]), _m(lam)
    return lambda w: (Q * w + M * x + c, P * w + Q.transpose() * x + b)


def quadratic_truth(problem: Any, lam: Any, step: Any = 1) -> Truth:
    G, step = getattr(problem, "lower", None) or problem.phi.lower, arb(step)
    A, K, a, x = _m(G.ww[0]), _m(G.lw[0]), _m(G.w1[0]), _m(lam)
    return Truth(
        lambda w: (A * w + K.transpose() * x + a) * step,
        lambda w: A * step,
        lambda w, v: K * v * step,
        _quadratic_upper(problem.upper, lam),
    )


def descent_truth(problem: Any, lam: Any) -> Truth:
    return quadratic_truth(problem, lam, problem.phi.step)


def _squares_upper(F: Any, n: int) -> Callable[[arb_mat], tuple[arb_mat, arb_mat]]:
    X, y, N = _m(F.X), _m(F.y), len(F.y)
    return lambda w: (arb_mat(n, 1), X.transpose() * (X * w - y) * (1 / arb(N)))


def ridge_truth(problem: Any, lam: Any) -> Truth:
    X, y, N, x = (
        _m(problem.lower.data.X),
        _m(problem.lower.data.y),
        len(problem.lower.data.y),
        arb(float(lam[0])),
    )
    eye = _diagonal([arb(1)] * X.ncols())
    return Truth(
        lambda w: X.transpose() * (X * w - y) * (1 / arb(N)) + w * x,
        lambda w: X.transpose() * X * (1 / arb(N)) + eye * x,
        lambda w, v: w.transpose() * v,
        _squares_upper(problem.upper, 1),
    )


def log_ridge_truth(problem: Any, lam: Any) -> Truth:
    X, y, N = _m(problem.lower.data.X), _m(problem.lower.data.y), len(problem.lower.data.y)
    penalty = [arb(e).exp() for e in lam.tolist()]
    return Truth(
        lambda w: X.transpose() * (X * w - y) * (1 / arb(N)) + _rows(w, penalty),
        lambda w: X.transpose() * X * (1 / arb(N)) + _diagonal(penalty),
        lambda w, v: _col([p * a * b for p, a, b in zip(penalty, _list(w), _list(v), strict=True)]),
        _squares_upper(problem.upper, len(lam)),
    )


def _logistic_gradient(X: arb_mat, y: list[arb], w: arb_mat) -> arb_mat:
    slopes = [-t / (1 + (t * z).exp()) / len(y) for t, z in zip(y, _list(X * w), strict=True)]
    return X.transpose() * _col(slopes)


def logistic_truth(problem: Any, lam: Any) -> Truth:
    G, F = problem.lower.data, problem.upper
    X, y, X_val, y_val = _m(G.X), _list(_m(G.y)), _m(F.X), _list(_m(F.y))
    penalty = [arb(e).exp() for e in lam.tolist()]

    def jacobian(w: arb_mat) -> arb_mat:
        curvature = [1 / (2 + z.exp() + (-z).exp()) / len(y) for z in _list(X * w)]
        return X.transpose() * _rows(X, curvature) + _diagonal(penalty)

    return Truth(
        lambda w: _logistic_gradient(X, y, w) + _rows(w, penalty),
        jacobian,
        lambda w, v: _col([p * a * b for p, a, b in zip(penalty, _list(w), _list(v), strict=True)]),
        lambda w: (arb_mat(len(lam), 1), _logistic_gradient(X_val, y_val, w)),
    )


def _probabilities(X: arb_mat, w: arb_mat, classes: int) -> list[list[arb]]:
    """Softmax of each sample's scores, w class by class."""
    features = X.ncols()
    W = arb_mat(classes, features, _list(w))
    scores = (X * W.transpose()).tolist()
    exps = [[z.exp() for z in row] for row in scores]
    return [[e / sum(row, arb(0)) for e in row] for row in exps]


def _softmax_gradient(X: arb_mat, y: Any, w: arb_mat, weights: list[arb]) -> arb_mat:
    """(1/N) Σ_i s_i (p_i − e_{y_i}) ⊗ x_i."""
    classes, N = len(y), X.nrows()
    p = _probabilities(X, w, classes)
    excess = [[(p[i][k] - int(y[k][i])) * weights[i] / N for i in range(N)] for k in range(classes)]
    return _col(_list(arb_mat(excess) * X))


def softmax_truth(problem: Any, lam: Any) -> Truth:
    G, F = problem.lower, problem.upper
    X, y, N, classes, reg = _m(G.X), G.y, len(G.X), G.classes, arb(G.reg)
    weights = [1 / (1 + (-arb(e)).exp()) for e in lam.tolist()]

    def jacobian(w: arb_mat) -> arb_mat:
        p = _probabilities(X, w, classes)
        f = X.ncols()
        out = [[arb(0)] * (classes * f) for _ in range(classes * f)]
        for k in range(classes):
            for m in range(classes):
                share = [weights[i] * (int(k == m) * p[i][k] - p[i][k] * p[i][m]) / N for i in range(N)]
                block = (X.transpose() * _rows(X, share)).tolist()
                for a in range(f):
                    for b in range(f):
                        out[k * f + a][m * f + b] = block[a][b] + reg * int(k == m and a == b)
        return arb_mat(out)

    def by_lam(w: arb_mat, v: arb_mat) -> arb_mat:
        p, V = _probabilities(X, w, classes), arb_mat(classes, X.ncols(), _list(v))
        through = (X * V.transpose()).tolist()
        slopes = [s * (1 - s) / N for s in weights]
        return _col(
            [
                slopes[i] * sum(((p[i][k] - int(y[k][i])) * through[i][k] for k in range(classes)), arb(0))
                for i in range(N)
            ]
        )

    ones = [arb(1)] * len(F.X)
    return Truth(
        lambda w: _softmax_gradient(X, y, w, weights) + w * reg,
        jacobian,
        by_lam,
        lambda w: (arb_mat(N, 1), _softmax_gradient(_m(F.X), F.y, w, ones)),
    )


def affine_truth(problem: Any, lam: Any) -> Truth:
    A, B, c, x = _m(problem.phi.A[0]), _m(problem.phi.B[0]), _m(problem.phi.c[0]), _m(lam)
    eye = _diagonal([arb(1)] * A.nrows())
    return Truth(
        lambda w: w - (A * w + B * x + c),
        lambda w: eye - A,
        lambda w, v: B.transpose() * v * -1,
        _quadratic_upper(problem.upper, lam),
    )


def tanh_truth(problem: Any, lam: Any) -> Truth:
    A, B, c, x = _m(problem.phi.A), _m(problem.phi.B), _m(problem.phi.c), _m(lam)
    eye = _diagonal([arb(1)] * A.nrows())

    def slopes(w: arb_mat) -> list[arb]:
        return [1 / u.cosh() ** 2 for u in _list(A * w + B * x + c)]

    return Truth(
        lambda w: w - _col([u.tanh() for u in _list(A * w + B * x + c)]),
        lambda w: eye - _rows(A, slopes(w)),
        lambda w, v: B.transpose() * _rows(v, slopes(w)) * -1,
        _quadratic_upper(problem.upper, lam),
    )


def solved(truth: Truth, w: Any) -> tuple[list[arb], arb_mat]:
    """∇f and ∂_w r at w(λ), by Newton at 400 bits from floats; 60 digits are checked, not assumed."""
    at = _m(w)
    for _ in range(100):
        step = truth.jacobian(at).solve(truth.residual(at)).mid()
        at = (at - step).mid()
        size = max(abs(e) for e in _list(step))
        if size <= max(abs(e) for e in _list(at)) * arb(2) ** (-BITS // 2):
            break
    jacobian = truth.jacobian(at)
    # the last step was below 2^-200 of w, and Newton squares it: what is left of r is rounding
    by_lam, by_w = truth.upper(at)
    v = jacobian.transpose().solve(by_w)
    value = _list(by_lam - truth.by_lam(at, v))
    scale = max(abs(e.mid()) for e in value)
    assert all(e.rad() <= scale * arb(10) ** -60 for e in value), "the truth has less than 60 digits"
    return value, jacobian


def condition_number(jacobian: arb_mat) -> float:
    """Largest over smallest singular value, from the eigenvalues of JᵀJ at 400 bits."""
    eigenvalues = flint.acb_mat((jacobian.transpose() * jacobian).mid()).eig(algorithm="approx")
    squares = [float(e.real.mid()) for e in eigenvalues]
    return float((max(squares) / min(squares)) ** 0.5)
