"""Directions in parameter space: a matrix's eigenvectors, a part's own, and random ones of the parameters' size.

A set of directions is (..., k, d), one in each row, as ``interval_flatness`` and ``projected_variance`` take them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.networks.mlp import MLP, require_length

Filters = Sequence[slice | np.ndarray | Sequence[int]]


@dataclass(frozen=True, eq=False)
class EigenDirections:
    """Eigenvalues (..., k), descending, and unit eigenvectors (..., k, d) in rows, of signs that nothing fixes."""

    values: Array
    vectors: Array


def eigen_directions(
    matrix: Array, *, most: int | None = None, backend: Backend | None = None
) -> EigenDirections:
    """The eigenvectors of the largest eigenvalues of a symmetric matrix (..., d, d), at most ``most`` of them.

    Of a Hessian the values are its flatness. (H + Hᵀ)/2 is decomposed; ``BadInput`` where ‖H − Hᵀ‖ > √eps ‖H‖, more
    than rounding makes of a symmetric matrix. Cost about 9 d³.
    """
    B = backend or Backend()
    if B.exact or not B.ordered:
        raise BadInput(
            "eigenvalues are not available on this backend",
            measured=B.name,
            required="floating point: they are roots of polynomials, and eigenvectors are unit vectors",
            advice="convert with refimpl.arrays.to_numpy; traces (alignment, along) stay exact",
        )
    matrix = array_of(B, matrix, "the matrix")
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise BadInput(
            "not a square matrix",
            measured=tuple(matrix.shape),
            required="(..., d, d)",
            advice="pass H.dense()",
        )
    d = int(matrix.shape[-1])
    flat = (*matrix.shape[:-2], d * d)
    asymmetry = B.norm(B.reshape(matrix - B.mT(matrix), flat))
    if not bool(B.xp.all(asymmetry <= B.eps**0.5 * B.norm(B.reshape(matrix, flat)))):
        raise BadInput(
            "the matrix is not symmetric",
            measured=f"‖H − Hᵀ‖ = {float(B.xp.max(asymmetry)):.3g}",
            required="<= √eps ‖H‖",
            advice="Hessians and covariances are symmetric: look at how this one was assembled",
        )
    if most is not None and (not isinstance(most, Integral) or most < 1):
        raise BadInput(
            "no eigenvectors were asked for",
            measured=most,
            required="a whole number >= 1",
            advice="None is all",
        )
    count = d if most is None else min(int(most), d)
    values, columns = B.xp.linalg.eigh((matrix + B.mT(matrix)) / 2)
    vectors = B.mT(columns)
    return EigenDirections(
        B.xp.flip(values, axis=-1)[..., :count], B.xp.flip(vectors, axis=-2)[..., :count, :]
    )


def embedded(
    directions: Array, part: slice | Sequence[int] | np.ndarray, size: int, *, backend: Backend | None = None
) -> Array:
    """Directions (..., m) of the m parameters theta[part], as ones (..., size) in which the others stand still.

    part: what a matrix was restricted to, such as ``net.spans[layer]``. Raises ``BadInput``.
    """
    B = backend or Backend()
    directions = array_of(B, directions, "directions")
    (rows,) = _parts([part], size)
    if rows.size != directions.shape[-1]:
        raise BadInput(
            "the directions are not of this part",
            measured=f"{directions.shape[-1]} entries for {rows.size} parameters",
            required="an entry for each parameter",
            advice="take the part that the matrix was restricted to",
        )
    outside = np.setdiff1d(np.arange(size), rows)
    padded = B.concat([directions, B.zeros((*directions.shape[:-1], outside.size))])
    return B.terms(padded, B.indices(np.argsort(np.concatenate([rows, outside]))), -1)


def network_filters(
    net: MLP, *, per: Literal["layer", "row"] = "layer", biases: Literal["own", "part", "zero"] = "own"
) -> tuple[np.ndarray, ...]:
    """The indices in theta of every filter: the weights of a layer, or of a unit's row (an output channel).

    biases "own": a filter of their own, one for each of the weights' (the default: a rescaling of a whole layer by one
    number, which changes no output, then multiplies every filter by a number, and the profile stays);
    "part": in the filter of their weights; "zero": in none, and they stand still.
    """
    if not isinstance(net, MLP):
        raise BadInput(
            "filters of what?",
            measured=type(net).__name__,
            required="a refimpl.networks.MLP",
            advice="convolutional, residual and transformer networks name theirs: net.filters",
        )
    if per not in ("layer", "row") or biases not in ("own", "part", "zero"):
        raise BadInput(
            "no such filters",
            measured=f"per={per!r}, biases={biases!r}",
            required='per "layer" or "row"; biases "own", "part" or "zero"',
            advice="for other filters, hand their indices to filter_normalised",
        )
    found, start = [], 0
    for rows, columns in net.shapes:
        grid = start + np.arange(rows * columns).reshape(rows, columns)
        start += rows * columns
        for block in [grid] if per == "layer" else list(grid[:, None, :]):
            if biases == "part":
                found.append(block.ravel())
                continue
            found.append(block[:, :-1].ravel())
            if biases == "own":
                found.append(block[:, -1].ravel())
    return tuple(found)


def filter_normalised(
    theta: Array, direction: Array, filters: Filters, *, backend: Backend | None = None
) -> Array:
    """d_f ← d_f ‖θ_f‖/‖d_f‖ on every filter f, and 0 on what is in none (Li et al. 2018, section 4).

    theta (d,), direction (..., d): a random one is ``rng.standard_normal(d)``. filters: index arrays or slices over
    theta, disjoint; for a convolution one for each output channel. A filter whose θ_f is 0 stands still: its scale is
    0. ``BadInput`` where d_f is 0, which has no direction, and where filters overlap. Cost d.
    """
    B = backend or Backend()
    theta, direction = array_of(B, theta, "theta"), array_of(B, direction, "the direction")
    size = int(theta.shape[-1])
    require_length(direction, size, "the directions")
    parts, count = _parts(filters, size), direction.ndim - 1
    scaled = []
    for part in parts:
        index = B.indices(part)
        old, new = B.terms(theta, index, -1), B.terms(direction, index, -1)
        length = B.norm(new)
        if not bool(B.xp.all(length > 0)):
            raise BadInput(
                "the direction vanishes on a filter, and cannot be given the filter's length",
                measured=f"0 in the {part.size} entries from {part[0]}",
                required="d_f ≠ 0 on every filter",
                advice="draw it with rng.standard_normal; leave the filter out for it to stand still",
            )
        scaled.append(new * (B.norm(old) / length)[..., None])
    inside = np.concatenate(parts)
    outside = np.setdiff1d(np.arange(size), inside)
    scaled.append(B.zeros((*direction.shape[:count], outside.size)))
    back = np.argsort(np.concatenate([inside, outside]))
    return B.terms(B.concat(scaled), B.indices(back), -1)


def _parts(filters: Filters, size: int) -> list[np.ndarray]:
    """The filters as index arrays: not empty, inside theta, and no entry in two of them."""
    every = np.arange(size)
    parts = [every[f] if isinstance(f, slice) else np.asarray(f) for f in filters]
    shapes_fit = all(p.ndim == 1 and p.size and p.dtype.kind in "iu" for p in parts)
    entries = np.concatenate(parts) if parts and shapes_fit else np.array([-1])
    if entries.min() < 0 or entries.max() >= size or np.unique(entries).size < entries.size:
        raise BadInput(
            "these are no parts of the parameters",
            measured=f"{len(parts)} with {entries.size} entries from {entries.min()} to {entries.max()}",
            required=f"at least one, none empty, each of the entries 0 … {size - 1} at most once",
            advice="network_filters(net) has those of a multi-layer perceptron",
        )
    return parts


def array_of(B: Backend, x: Any, name: str) -> Array:
    """x (..., k), finite and of this backend, integers as its floats; else ``BadInput``."""
    if not hasattr(x, "ndim"):
        raise BadInput(
            f"{name} must be an array",
            measured=type(x).__name__,
            required=f"an array of backend {B.name!r}",
            advice="numpy.asarray(…) makes one; backend=… says which other backend the arrays are of",
        )
    return B.vector(x, x.shape[-1] if x.ndim else 1, name)


def require_directions(directions: Any, size: int) -> None:
    """(..., k, size); else ``BadInput``."""
    if getattr(directions, "ndim", 0) < 2 or directions.shape[-1] != size:
        raise BadInput(
            "these are no directions",
            measured=tuple(getattr(directions, "shape", ())),
            required=f"(..., k, {size}): one in each row",
            advice="v[None, :] is one direction",
        )
