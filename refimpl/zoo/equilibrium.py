"""Equilibrium models (contraction, (24)), and graph networks that are fixed points: one map, with a graph or without.

Row i of w (N, hidden) is the state of example i, the fixed point of w_i = tanh(A Σ_j P_ij w_j + B x_i + c); P = I in an
equilibrium model, a graph's propagation matrix in a graph network (Scarselli et al. 2009). The upper level is the mean
cross entropy of the scores D w_i + b. λ = (A, B, c, D, b), each flattened in C order, one after the other.

v ← ∂_wΦᵀ v + ∇_wF, row by row v_i = Σ_j P_ji Aᵀ(s_j ∘ v_j) + ∇_{w_i}F with s = tanh', is recurrent back-propagation
(Almeida 1987; Pineda 1987).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.bounds import MapBounds, Region
from refimpl.datasets import load_digits
from refimpl.errors import BadInput
from refimpl.objective import Map
from refimpl.operators import Operator
from refimpl.problem import FixedPointProblem
from refimpl.zoo.maps import TANH_CURVATURE, spectral_norm
from refimpl.zoo.readout import Layout, ReadoutLoss, require_one
from refimpl.zoo.rows import samples
from refimpl.zoo.softmax import one_hot


@dataclass(frozen=True, eq=False)
class EquilibriumMap(Map):
    """Φ(λ, w)_i = tanh(A Σ_j P_ij w_j + B x_i + c): X (..., N, features), P (N, N), None for the identity.

    A contraction in w where ‖A‖‖P‖ < 1. A value or a product costs 2 N hidden (hidden + features) operations.
    """

    X: Array
    layout: Layout
    P: Array | None = None
    backend: Backend = Backend()

    @property
    def n(self) -> int:
        return self.layout.n

    @property
    def d(self) -> int:
        return int(self.X.shape[-2]) * self.layout.hidden

    @property
    def lead(self) -> int:
        return int(self.X.ndim) - 2

    def rows(self, w: Array) -> Array:
        """w (..., d) as (..., N, hidden)."""
        return self.backend.reshape(w, (*w.shape[:-1], -1, self.layout.hidden))

    def flat(self, rows: Array) -> Array:
        """Back again."""
        return self.backend.reshape(rows, (*rows.shape[:-2], self.d))

    def _mixed(self, rows: Array) -> Array:
        """P w."""
        return rows if self.P is None else self.P @ rows

    def _mixed_T(self, rows: Array) -> Array:
        return rows if self.P is None else self.backend.mT(self.P) @ rows

    def _inner(self, lam: Array, w: Array) -> Array:
        """A Σ_j P_ij w_j + B x_i + c in rows."""
        mT, part = self.backend.mT, self.layout.split(lam)
        return self._mixed(self.rows(w)) @ mT(part["A"]) + self.X @ mT(part["B"]) + part["c"]

    def _slope(self, lam: Array, w: Array) -> Array:
        """tanh' = 4 σ(2u) σ(−2u), without cancellation."""
        B, u = self.backend, self._inner(lam, w)
        return 4 * B.sigmoid(2 * u) * B.sigmoid(-2 * u)

    def value(self, lam: Array, w: Array) -> Array:
        return self.flat(self.backend.tanh(self._inner(lam, w)))

    def d_w(self, lam: Array, w: Array) -> Operator:
        s, A = self._slope(lam, w), self.layout.split(lam)["A"]

        def apply(v: Array) -> Array:
            return self.flat(s * (self._mixed(self.rows(v)) @ self.backend.mT(A)))

        def apply_T(v: Array) -> Array:
            return self.flat(self._mixed_T((s * self.rows(v)) @ A))

        return Operator(self.backend, (self.d, self.d), apply, apply_T, s.ndim - 2)

    def d_lam(self, lam: Array, w: Array) -> Operator:
        B, s, mixed = self.backend, self._slope(lam, w), self._mixed(self.rows(w))

        def apply(u: Array) -> Array:
            part = self.layout.split(u)
            return self.flat(s * (mixed @ B.mT(part["A"]) + self.X @ B.mT(part["B"]) + part["c"]))

        def apply_T(v: Array) -> Array:
            q = s * self.rows(v)
            turned, row = B.mT(q), B.sum(q, -2)[..., None, :]
            return self.layout.join(q.shape[:-2], A=turned @ mixed, B=turned @ self.X, c=row)

        return Operator(B, (self.d, self.n), apply, apply_T, s.ndim - 2)

    def bounds(self, region: Region) -> MapBounds:
        """With u = M(A, B, c)ᵀ, M = (Pw, X, 1), slopes s = tanh'(u) <= 1 and T = sup|tanh''|.

        ∂_wΦ V = s∘(PVAᵀ) and ∂_λΦ δ = s∘(Mδᵀ), so ‖∂_wΦ‖ <= ‖A‖‖P‖, ‖∂_λΦ‖ <= ‖M‖. An entry of u moves by at most
        max‖a_k‖ max‖p_i‖ ‖Δw‖ (rows of A and of P), and by max‖m_i‖‖Δλ‖; s by T times that. M moves by PΔw, A by ΔA.
        """
        require_one(self.lead)
        host, R, r = self.to("numpy"), region.lam_radius, region.w_radius
        lam, w = np.asarray(region.lam, dtype=float), np.asarray(region.w, dtype=float)
        A, mixed = host.layout.split(lam)["A"], host._mixed(host.rows(w))
        M = np.concatenate([mixed, host.X, np.ones((len(mixed), 1))], axis=1)
        P, row = (1.0, 1.0) if host.P is None else (spectral_norm(host.P), _longest(host.P))
        alpha, a = spectral_norm(A) + R, _longest(A) + R
        norm, m = spectral_norm(M) + P * r, _longest(M) + row * r
        return MapBounds(
            d_w=alpha * P,
            d_lam=norm,
            d_w_by_w=TANH_CURVATURE * a * row * alpha * P,
            d_w_by_lam=TANH_CURVATURE * m * alpha * P + P,
            d_lam_by_w=TANH_CURVATURE * a * row * norm + P,
            d_lam_by_lam=TANH_CURVATURE * m * norm,
        )


def _longest(M: np.ndarray) -> float:
    """The largest norm of a row."""
    return float(np.linalg.norm(M, axis=1).max())


@dataclass(frozen=True, eq=False)
class Equilibrium(FixedPointProblem):
    """The problem, which knows what a minibatch of its examples is."""

    phi: EquilibriumMap
    upper: ReadoutLoss

    def examples(self, index: Any) -> Self:
        """The problem of these examples alone, index (..., b): w then has their states, and λ is the same.

        Averaged over index, drawn uniformly from all N examples, its hypergradient is the whole problem's: without a
        graph the states do not meet, and an example counts N/b times its share of the whole (0 without a label).
        """
        if self.phi.P is not None:
            raise BadInput(
                "the examples of a graph do not stand alone",
                measured="a propagation matrix P",
                required="P = None",
                advice="take the whole graph",
            )
        B = self.backend
        index = B.indices(index)
        count, N = int(index.shape[-1]), int(self.upper.share.shape[-1])
        upper = dataclasses.replace(
            self.upper,
            Y=B.terms(self.upper.Y, index, -2),
            share=B.scalar(N) / count * B.terms(self.upper.share, index, -1),
        )
        return dataclasses.replace(
            self, phi=dataclasses.replace(self.phi, X=B.terms(self.phi.X, index, -2)), upper=upper
        )


def problem(
    X: Any,
    y: Any,
    *,
    classes: int,
    hidden: int,
    radius: float | None = 0.5,
    P: Any = None,
    labelled: Any = None,
    scale: float = 0.01,
    seed: int = 0,
    name: str = "equilibrium model",
) -> Equilibrium:
    """(24) on any data: X (N, features), y (N,) in 0 … classes − 1; Λ: ‖A‖₂ <= radius, None for no constraint.

    P (N, N): a graph; labelled: the rows whose labels count, their numbers or N truths, all by default. λ begins at
    A, B, c, D ~ N(0, scale²), b = 0. Raises ``BadInput``.

    >>> import refimpl as ri
    >>> small = problem([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [0, 1, 1], classes=2, hidden=2)
    >>> small.n, small.d
    (16, 6)
    >>> ri.exact_hypergradient(small, small.start()).value.shape
    (16,)
    """
    X, y = samples(X, y, "training")
    N = len(X)
    layout = Layout(hidden, X.shape[1], classes)
    where = np.arange(N) if labelled is None else np.asarray(labelled)
    where, share = _numbers(where, N), np.zeros(N)
    share[where] = 1 / len(where)
    if P is not None and np.shape(P) != (N, N):
        raise BadInput(
            "the graph does not fit the data",
            measured=f"P {np.shape(P)}, {N} examples",
            required=f"({N}, {N})",
            advice="one row and one column for each example",
        )
    phi = EquilibriumMap(X, layout, None if P is None else np.asarray(P, dtype=float))
    upper = ReadoutLoss(one_hot(y, classes).T, share, layout)
    initial = scale * np.random.default_rng(seed).standard_normal(layout.n)
    initial[layout.n - classes :] = 0
    return Equilibrium(upper, phi, None if radius is None else layout.domain(radius), name, initial)


def _numbers(where: np.ndarray, N: int) -> np.ndarray:
    """Of the labelled rows, at least one, each once; else ``BadInput``."""
    if where.dtype == bool and where.shape == (N,):
        where = np.flatnonzero(where)
    whole = where.ndim == 1 and where.size > 0 and np.issubdtype(where.dtype, np.integer)
    if not whole or np.any((where < 0) | (where >= N)) or len(np.unique(where)) < len(where):
        raise BadInput(
            "which rows are labelled?",
            measured=f"{where.dtype} {where.shape}, {N} examples",
            required=f"numbers 0 … {N - 1}, each once and at least one; or {N} truths",
            advice="None takes all of them; np.flatnonzero(mask) are the numbers of a mask",
        )
    return where


def digits(
    *,
    examples: int = 500,
    hidden: int = 20,
    first: int = 0,
    classes: Sequence[int] = tuple(range(10)),
    radius: float | None = 0.5,
    P: Any = None,
    labelled: Any = None,
    scale: float = 0.01,
    seed: int = 0,
) -> Equilibrium:
    """(24) on scikit-learn's digits, ``examples`` of them from number ``first`` on in an order fixed by seed 0.

    All of them are in both levels: none are split off for validation. The rest as for ``problem``; seed is that of λ.
    """
    data, kept = load_digits(), list(classes)
    order = np.random.default_rng(0).permutation(len(data.y))
    order = order[np.isin(data.y[order], kept)][first : first + examples]
    y = np.array([kept.index(label) for label in data.y[order]])
    return problem(
        data.X[order],
        y,
        classes=len(kept),
        hidden=hidden,
        radius=radius,
        P=P,
        labelled=labelled,
        scale=scale,
        seed=seed,
        name="equilibrium model of digits",
    )


def propagation(edges: Any, count: int) -> np.ndarray:
    """S^(−1/2)(M + I)S^(−1/2) of an undirected graph on ``count`` nodes, S its degrees (M + I)1: spectral norm 1."""
    M = np.eye(count)
    for i, j in edges:
        M[i, j] = M[j, i] = 1
    root = 1 / np.sqrt(M.sum(axis=1))
    return root[:, None] * M * root[None, :]
