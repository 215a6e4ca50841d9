"""Symmetric D x D matrices as vectors of their p = D(D+1)/2 entries on and above the diagonal.

Pairs (i, k), i <= k < D-1, come first, then (0, D-1), …, (D-1, D-1): the second moment of x, then its mean, then 1.
As T's last row is (0, …, 0, 1), the matrix of S -> E[T S Tᵀ] is block triangular in this order.
"""

from __future__ import annotations

import functools

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array


def length(D: int) -> int:
    """p = D(D+1)/2."""
    return D * (D + 1) // 2


@functools.cache
def _pairs(D: int) -> tuple[np.ndarray, np.ndarray]:
    i, k = np.triu_indices(D - 1)
    last = np.arange(D)
    return np.concatenate([i, last]), np.concatenate([k, np.full(D, D - 1)])


@functools.cache
def _where(D: int) -> np.ndarray:
    """Of each of the D² entries, the place of its pair."""
    i, k = _pairs(D)
    place = np.empty((D, D), dtype=np.int64)
    place[i, k] = place[k, i] = np.arange(len(i))
    return place.ravel()


def pack(B: Backend, S: Array) -> Array:
    """(..., D, D) symmetric -> (..., p)."""
    D = S.shape[-1]
    i, k = _pairs(D)
    return B.xp.take(B.reshape(S, (*S.shape[:-2], D * D)), B.indices(i * D + k), axis=-1)


def unpack(B: Backend, v: Array, D: int) -> Array:
    """(..., p) -> (..., D, D)."""
    return B.reshape(B.xp.take(v, B.indices(_where(D)), axis=-1), (*v.shape[:-1], D, D))


def second_operator(B: Backend, T: Array, weights: Array) -> Array:
    """The p x p matrix of S -> Σ_s weights_s T_s S T_sᵀ on packed matrices; T (points, D, D), weights (points,).

    Entry ((i,k), (j,l)) is Σ_s weights_s (T_ij T_kl + T_il T_kj), half of it for j = l. Cost: one product of
    D² x points by points x D², 2·points·D⁴ operations, and about 3·D⁴ numbers of memory.
    """
    points, D = T.shape[0], T.shape[-1]
    flat = B.reshape(T, (points, D * D))
    products = B.mT(flat) @ (weights[:, None] * flat)  # (ij, kl)
    products = B.reshape(B.moveaxis(B.reshape(products, (D, D, D, D)), 1, 2), (D * D, D * D))  # (ik, jl)
    i, k = _pairs(D)
    rows = B.xp.take(products, B.indices(i * D + k), axis=0)
    mirrored = B.asarray((i != k).astype(np.float64)) * B.xp.take(rows, B.indices(k * D + i), axis=1)
    return B.xp.take(rows, B.indices(i * D + k), axis=1) + mirrored
