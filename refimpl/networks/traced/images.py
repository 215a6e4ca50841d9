"""Operations on images in columns, (planes, side, side, N), as few matrix products that autograd is quick at."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.networks.traced.architecture import Block


def as_images(B: Backend, X: Array, planes: int, side: int) -> Array:
    """Rows X (N, planes · side²) as (planes, side, side, N), one plane after the other."""
    return B.reshape(B.mT(X), (planes, side, side, X.shape[0]))


def convolution_block(name: str, planes: int, channels: int, kernel: int) -> Block:
    """Its parameters, a row for each output channel: (planes, kernel, kernel) in C order, then the bias."""
    inputs = planes * kernel**2
    return Block(name, (channels, inputs + 1), inputs, bias=True, rows=True)


def convolve(B: Backend, W: Array, h: Array, kernel: int) -> Array:
    """z[c, i, j] = b_c + Σ_{p, s, t} W[c, p, s, t] h[p, i + s − r, j + t − r], r = (kernel − 1)/2, zero outside.

    W (channels, planes · kernel² + 1); h (planes, side, side, N). The matrix (channels · side², planes · side²) that W
    stands for, times h: channels · planes · side⁴ · N operations, side²/kernel² times those of the sum, but for small
    images less than the copies that a gather of patches makes, and its adjoint needs no addition entry by entry.
    """
    planes, side, N = h.shape[0], h.shape[1], h.shape[-1]
    channels, pixels = W.shape[0], side * side
    shared = B.reshape(W[:, :-1], (channels * planes, kernel * kernel)) @ B.asarray(taps(kernel, side))
    matrix = B.moveaxis(B.reshape(shared, (channels, planes, pixels, pixels)), 1, 2)
    z = B.reshape(matrix, (channels * pixels, planes * pixels)) @ B.reshape(h, (planes * pixels, N))
    return B.reshape(z, (channels, side, side, N)) + W[:, -1][:, None, None, None]


@lru_cache(maxsize=16)
def taps(kernel: int, side: int) -> np.ndarray:
    """(kernel², side⁴): row (s, t) is a matrix, 1 where pixel (i, j) sees (i + s − r, j + t − r) and else 0."""
    shifts = [np.eye(side, k=s) for s in range(-(kernel // 2), kernel // 2 + 1)]
    found = np.stack([np.kron(rows, columns).ravel() for rows in shifts for columns in shifts])
    found.setflags(write=False)  # shared by all calls
    return found


def mean_pool(B: Backend, h: Array, pool: int) -> Array:
    """Means over pool × pool squares: (planes, side/pool, side/pool, N)."""
    if pool == 1:
        return h
    planes, side, N = h.shape[0], h.shape[1] // pool, h.shape[-1]
    cut = B.reshape(h, (planes, side, pool, side, pool, N))
    return B.sum(B.sum(cut, axis=4), axis=2) / pool**2


def dense(B: Backend, W: Array, h: Array) -> Array:
    """W (h, 1) for h (..., N), flattened in C order: (out, N)."""
    flat = B.reshape(h, (W.shape[-1] - 1, h.shape[-1]))
    return W[:, :-1] @ flat + W[:, -1:]


def require_kernel(kernel: int) -> None:
    """An odd kernel has a middle."""
    if kernel % 2 == 0:
        raise BadInput(
            "the kernel has no middle",
            measured=kernel,
            required="an odd number",
            advice="3 is usual; 1 acts on every pixel alone",
        )
