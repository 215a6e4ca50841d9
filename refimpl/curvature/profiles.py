"""Profiles of a loss: its values on a line or a plane through w, as they are plotted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays.backend import Array
from refimpl.curvature.flatness import known_lam, one_point, require_objective, single, some_directions
from refimpl.errors import BadInput
from refimpl.objective import Objective
from refimpl.spaces import CHUNK


@dataclass(frozen=True, eq=False)
class Profile:
    """values (..., A) = L(w + α v), α in alphas (A,), one row for each direction; on the loss's backend."""

    alphas: Array
    values: Array


@dataclass(frozen=True, eq=False)
class Surface:
    """values (A, B) = L(w + α u + β v), α in alphas (A,) and β in betas (B,); on the loss's backend."""

    alphas: Array
    betas: Array
    values: Array


def profile(
    f: Objective, w: Array, directions: Array, alphas: Any, *, lam: Array | None = None, chunk: int = CHUNK
) -> Profile:
    """L(w + α v) for w (d,), directions v (..., d) and numbers α (A,): one value of f each.

    The loss is whatever f is, with or without dropout; for filter-normalised profiles v comes from
    ``filter_normalised``. ``chunk`` points are held at a time. Raises ``BadInput``.

    >>> import refimpl as ri
    >>> f = ri.zoo.quadratic.objective(ww=[[2.0]], n=0)
    >>> profile(f, np.array([1.0]), np.array([1.0]), [-1.0, 0.0, 1.0]).values.tolist()
    [0.0, 1.0, 4.0]
    """
    require_objective(f)
    B, V = f.backend, some_directions(f, directions)
    a = _steps(f, alphas, "alphas")
    lead, count = tuple(V.shape[:-1]), a.shape[0]
    flat = B.reshape(V, (-1, f.d))
    lanes = np.repeat(np.arange(flat.shape[0]), count)
    values = _values(f, lam, w, [(flat, lanes)], [(a, np.tile(np.arange(count), flat.shape[0]))], chunk)
    return Profile(a, B.reshape(values, (*lead, count)))


def surface(
    f: Objective,
    w: Array,
    u: Array,
    v: Array,
    alphas: Any,
    betas: Any,
    *,
    lam: Array | None = None,
    chunk: int = CHUNK,
) -> Surface:
    """L(w + α u + β v) for u, v (d,) and numbers α (A,), β (B,): one value of f each. As :func:`profile`."""
    require_objective(f)
    B = f.backend
    pair = [
        B.reshape(single(B.vector(x, f.d, name), f.d, name), (1, f.d)) for x, name in ((u, "u"), (v, "v"))
    ]
    a, b = _steps(f, alphas, "alphas"), _steps(f, betas, "betas")
    rows, columns = (index.ravel() for index in np.indices((a.shape[0], b.shape[0])))
    none = 0 * rows
    values = _values(f, lam, w, [(x, none) for x in pair], [(a, rows), (b, columns)], chunk)
    return Surface(a, b, B.reshape(values, (a.shape[0], b.shape[0])))


def _values(
    f: Objective,
    lam: Array | None,
    w: Array,
    directions: list[tuple[Array, np.ndarray]],
    steps: list[tuple[Array, np.ndarray]],
    chunk: int,
) -> Array:
    """L(w + Σ step · direction), each step and direction given as a table and which of it every point takes."""
    if chunk < 1:
        raise BadInput("no points in a chunk", measured=chunk, required=">= 1", advice="leave chunk out")
    B, lam, w = f.backend, known_lam(f, lam), one_point(f, w)
    found = []
    for begin in range(0, steps[0][1].size, chunk):
        points = w
        for (V, lanes), (t, numbers) in zip(directions, steps, strict=True):
            some = slice(begin, begin + chunk)
            step = B.take(t, B.indices(numbers[some]))
            points = points + step[:, None] * B.take(V, B.indices(lanes[some]))
        found.append(f.value(lam, points))
    return B.concat(found, axis=0)


def _steps(f: Objective, x: Any, name: str) -> Array:
    """Numbers (k,), k >= 1, on the loss's backend; finite."""
    B = f.backend
    a = x if B.owns(x) else B.asarray(x)
    if a.ndim != 1 or a.shape[0] < 1:
        raise BadInput(
            f"{name} are no steps",
            measured=tuple(a.shape),
            required="(k,) with k >= 1",
            advice="numpy.linspace(-1, 1, 51) is a line of them",
        )
    return B.vector(a, a.shape[0], name)
