"""Leading axes, looped over: the one place where a function of plain vectors meets batches of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array

Index = tuple[int, ...]


def each(
    B: Backend, f: Callable[..., Array], own: tuple[int, ...], leading: tuple[int, ...], *vectors: Array
) -> Array:
    """f(index, *plain vectors), of shape ``own``, at every index of the leading axes of data and vectors."""
    lead = np.broadcast_shapes(leading, *(v.shape[:-1] for v in vectors))
    if not lead:
        return f((), *vectors)
    found = [f(index, *(_at(v, index) for v in vectors)) for index in np.ndindex(*lead)]
    return _stacked(B, found, (*lead, *own))


def product(
    B: Backend, make: Callable[..., Any], own: int, leading: tuple[int, ...], *vectors: Array
) -> Callable[[Array], Array]:
    """v ↦ make(index, *plain vectors)(v), of length ``own``, over the leading axes of data, vectors and v.

    What ``make`` returns at an index serves all v there; it is kept from one call to the next where there is one index.
    """
    lead = np.broadcast_shapes(leading, *(v.shape[:-1] for v in vectors))
    at = lru_cache(maxsize=1)(lambda index: make(index, *(_at(v, index) for v in vectors)))

    def apply(v: Array) -> Array:
        full = np.broadcast_shapes(lead, v.shape[:-1])
        if not full:
            return at(())(v)
        ahead = len(full) - len(lead)
        found: dict[Index, Array] = {}
        for point in np.ndindex(*full[ahead:]):
            here = at(entry(point, lead))
            for front in np.ndindex(*full[:ahead]):
                found[(*front, *point)] = here(_at(v, (*front, *point)))
        return _stacked(B, [found[index] for index in np.ndindex(*full)], (*full, own))

    return apply


def entry(index: Index, lead: tuple[int, ...]) -> Index:
    """The index of axes ``lead`` that broadcast to those of index: 0 on an axis of length 1."""
    return tuple(0 if k == 1 else i for i, k in zip(index, lead, strict=True))


def _at(v: Array, index: Index) -> Array:
    """The plain vector of v (..., k) at an index of axes that v's broadcast to."""
    lead = v.shape[:-1]
    here = index[len(index) - len(lead) :]
    return v[(*entry(here, lead), ...)] if lead else v


def _stacked(B: Backend, found: list[Array], shape: tuple[int, ...]) -> Array:
    if not found:
        return B.zeros(shape)
    own = shape[len(shape) - found[0].ndim :]
    return B.reshape(B.concat([B.reshape(x, (1, *own)) for x in found], axis=0), shape)
