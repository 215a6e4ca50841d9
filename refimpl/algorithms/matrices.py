"""Estimates of second derivatives as matrices: flattened for the state, projected onto what bounds them."""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.algorithms.protocol import SHORTER
from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.sets import SpectralBall
from refimpl.solvers.lower import require_finite


def rows(B: Backend, x: Array, length: int) -> Array:
    """The matrices (..., m, length) whose rows x (..., m length) holds one after the other."""
    return B.reshape(x, (*x.shape[:-1], x.shape[-1] // length, length))


def flat(B: Backend, a: Array) -> Array:
    """The rows of a (..., m, n) one after the other, (..., m n)."""
    return B.reshape(a, (*a.shape[:-2], a.shape[-2] * a.shape[-1]))


def at_least(B: Backend, a: Array, mu: Any) -> Array:
    """P_{· ⪰ μI}: of symmetric a (..., d, d) every eigenvalue below mu becomes mu.

    Where none is, up to the rounding 10 d eps ‖a‖ of a projection, a stays as it is, bit for bit; a smaller mu than
    that leaves nothing to spare, else what is accepted would not be positive definite.
    """
    d, mu = a.shape[-1], B.scalar(mu)
    if B.exact and semidefinite(a - mu * B.eye(d)):
        return a
    _require_floats(B, a, f"every eigenvalue >= mu = {mu}")
    values, vectors = B.xp.linalg.eigh(a)
    clipped = (vectors * B.where(values < mu, mu + 0 * values, values)[..., None, :]) @ B.mT(vectors)
    norm = B.xp.max(B.xp.abs(values), axis=-1)
    slack = 10 * d * B.eps * norm
    outside = values[..., 0] < mu - B.where(slack < mu, slack, 0 * slack)
    return B.where(outside[..., None, None], clipped, a)


def at_most(B: Backend, a: Array, radius: Any) -> Array:
    """P_{‖·‖ ≤ r}: of a (..., m, n) every singular value above the radius becomes the radius; None changes nothing."""
    m, n = a.shape[-2:]
    if radius is None or m * n == 0:
        return a
    radius = B.scalar(radius)
    if B.exact and semidefinite(radius * radius * B.eye(m) - a @ B.mT(a)):
        return a
    _require_floats(B, a, f"every singular value <= radius = {radius}")
    return rows(B, SpectralBall(m, n, radius).project(flat(B, a), B), n)


def semidefinite(a: Array) -> bool:
    """Are all of these symmetric matrices of exact numbers positive semidefinite? LDLᵀ decides."""
    for index in np.ndindex(*a.shape[:-2]):
        m = a[index].copy()
        for i in range(len(m)):
            pivot, rest = m[i, i], m[i, i + 1 :].copy()
            if pivot < 0 or (pivot == 0 and np.any(rest != 0)):
                return False
            if pivot > 0:
                m[i + 1 :, i + 1 :] = m[i + 1 :, i + 1 :] - np.outer(rest / pivot, rest)
    return True


def _require_floats(B: Backend, a: Array, inside: str) -> None:
    if B.exact or not B.ordered:
        raise BadInput(
            f"backend {B.name!r} cannot project this estimate",
            measured="a matrix outside its set, or not known to be inside",
            required=inside,
            advice="use the floating-point backends, or a weaker bound: eigenvalues are irrational",
        )
    require_finite(B, a, "the estimate of a second derivative", SHORTER)
