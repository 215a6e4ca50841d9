"""The squared loss under dropout of the last hidden layer: moments of u in closed form, without enumeration.

Each η_j takes two values, s_j = (1 − p_j)/p_j and −1, so that η² = s + (s − 1)η. For a sample with errors ε, in the
coordinates of :mod:`.last_layer` (g₀ = Σ_o all of o's, g_j the j-th of each o),

    u = ε + Σ s_j F_j + Σ_j η_j c_j + Σ_{j<l} η_j η_l N_jl,
    c_j = Σ_o F_oj g₀_o + ε_o g_oj + (s_j − 1) F_oj g_oj,      N_jl = Σ_o F_oj g_ol + F_ol g_oj,

and η_j, η_jη_l are orthogonal: Cov u = Σ_j s_j c_j c_jᵀ + Σ_{j<l} s_j s_l N_jl N_jlᵀ, a sum of positive semidefinite
terms (dropout-flatness, exact per-sample gradient noise, where the moments μ₃, μ₄ are written out).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.curvature.last_layer import CELLS, LastLayer


def mean(last: LastLayer, spread: Array) -> Array:
    """E u of every sample, (N, k (m + 1)): u_oj has mean ε_o + s_j F_oj, the bias's has ε_o."""
    B, (k, m) = last.run.net.backend, last.sizes
    moved = last.weights[:, None, None] * spread * last.parts
    inner = last.errors[..., None] + B.concat([moved, 0 * last.errors[..., None]])
    return B.reshape(inner, (last.count, k * (m + 1)))


def single(last: LastLayer, spread: Array) -> Array:
    """c_j of every sample, (N, m, k (m + 1))."""
    B, (k, m) = last.run.net.backend, last.sizes
    parts = last.weights[:, None, None] * last.parts
    own = last.errors[..., None] + (spread - 1) * parts  # (N, k, m)
    eye = B.concat([B.eye(m), B.zeros((m, 1))])
    c = B.mT(parts)[..., None] + B.mT(own)[..., None] * eye[:, None, :]  # (N, m, k, m + 1)
    return B.reshape(c, (last.count, m, k * (m + 1)))


def covariance(last: LastLayer, spread: Array) -> Array:
    """Cov u of every sample, (N, k (m + 1), k (m + 1))."""
    B, c = last.run.net.backend, single(last, spread)
    return B.mT(c) @ (spread[:, None] * c) + _pairs(last, spread)


def _pairs(last: LastLayer, spread: Array) -> Array:
    """Σ_{j<l} s_j s_l N_jl N_jlᵀ: at (oj, o'l) s_j s_l F_ol F_o'j, and at (oj, o'j) s_j Σ_{l≠j} s_l F_ol F_o'l."""
    B, (k, m) = last.run.net.backend, last.sizes
    F = last.weights[:, None, None] * last.parts  # (N, k, m)
    scaled = spread * F
    crossed = F[:, :, None, None, :] * scaled[:, None, :, :, None]  # o, o', j, l: F_ol s_j F_o'j
    crossed = crossed * spread
    total = scaled @ B.mT(F)  # Σ_l s_l F_ol F_o'l
    rest = total[..., None] - 2 * scaled[:, :, None, :] * F[:, None, :, :]
    both = crossed + (spread * rest)[..., None] * B.eye(m)
    both = B.concat([both, 0 * both[..., :1]])
    both = B.concat([both, 0 * both[..., :1, :]], axis=-2)  # the bias is in no pair
    return B.reshape(B.moveaxis(both, 2, 3), (last.count, k * (m + 1), k * (m + 1)))


def shared(last: LastLayer, spread: Array, layers: Sequence[int]) -> Array:
    """The covariance of the batch's mean gradient where one mask serves all samples: (P, P).

    c_j and N_jl are averaged over the batch before their outer products are taken: m (m + 1)/2 vectors of length P.
    """
    B, (k, m) = last.run.net.backend, last.sizes
    first = last.pull(B.moveaxis(single(last, spread), 0, 1), layers) / last.count
    found = B.mT(first) @ (spread[:, None] * first)
    j, l = np.triu_indices(m, 1)  # noqa: E741  # a pair of units
    step = max(1, CELLS // (last.count * k * (m + 1)))
    for start in range(0, len(j), step):
        pair = slice(start, start + step)
        found = found + _of_pairs(B, last, spread, layers, (j[pair], l[pair]))
    return found


def _of_pairs(
    B: Backend, last: LastLayer, spread: Array, layers: Sequence[int], pairs: tuple[np.ndarray, np.ndarray]
) -> Array:
    """Their terms of the sum over pairs."""
    k, m = last.sizes
    unit = np.eye(m, m + 1)
    F = B.moveaxis(last.weights[:, None, None] * last.parts, -1, 0)  # (m, N, k)
    j, l = (B.indices(x) for x in pairs)  # noqa: E741  # as above
    at_j, at_l = (B.asarray(unit[x])[:, None, None, :] for x in pairs)
    N = B.take(F, j)[..., None] * at_l + B.take(F, l)[..., None] * at_j
    vectors = last.pull(B.reshape(N, (len(pairs[0]), last.count, k * (m + 1))), layers) / last.count
    weights = B.take(spread, j) * B.take(spread, l)
    return B.mT(vectors) @ (weights[:, None] * vectors)
