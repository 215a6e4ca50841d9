"""Any loss under dropout of the last hidden layer: moments of u by visiting every mask, with the bits split in two.

A sample's scores are a sum over mask variables, so all of them are an outer sum of two tables, of the masks of the
first and of the second half of the variables. With R = P(mask) e_o e_o' as a matrix over the two halves, M and M' the
halves' values of ξ_v = (mask variable)/p_v with a column of ones,

    E[e_o e_o' ξ_v ξ_v'] = (Mᵀ R M')_vv'  across the halves,   Mᵀ diag(R 1) M  within one.

Every mask's e is evaluated once; the moments cost a product of R with the small tables, not one of (masks, variables).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.curvature.last_layer import LastLayer
from refimpl.errors import TooLarge
from refimpl.networks.losses import OutputLoss
from refimpl.spaces import Bernoulli


@dataclass(frozen=True, eq=False)
class Variables:
    """The random mask variables of m units: ``space`` has them alone; unit j carries ``carried[j]``, their number if
    it is never random."""

    space: Bernoulli
    carried: np.ndarray

    @classmethod
    def of_last(cls, masks: Bernoulli, m: int) -> Variables | None:
        """Those of the last m units; None where others are random too."""
        first = masks.coordinates - m
        free = sorted(set(masks.free))
        if any(g in free for g in masks.groups[:first]):
            return None
        own = [g for g in free if g in masks.groups[first:]]
        number = {g: v for v, g in enumerate(own)}
        carried = np.array([number.get(g, len(own)) for g in masks.groups[first:]], dtype=np.int64)
        return cls(Bernoulli([masks.keep_prob[g] for g in own]), carried)


def moments(
    last: LastLayer, loss: OutputLoss, y: Array, variables: Variables, max_masks: int
) -> tuple[Array, Array]:
    """E u (N, k (m + 1)) and E u uᵀ (N, k (m + 1), k (m + 1)) of every sample; y (k, N). Raises ``TooLarge``."""
    B, (k, m) = last.run.net.backend, last.sizes
    space = variables.space
    if space.size > max_masks:
        raise TooLarge(
            "too many masks to visit",
            measured=f"2^{len(space.keep_prob)} masks for every sample",
            required=f"<= max_masks = {max_masks}",
            advice="estimate it with a stated confidence (estimated_noise), or raise max_masks",
        )
    v = len(space.keep_prob)
    halves = [_Half.of(B, space, range(v // 2)), _Half.of(B, space, range(v // 2, v))]
    to_variables = B.asarray((variables.carried[:, None] == np.arange(v + 1)).astype(np.float64))
    grouped = last.parts @ to_variables  # (N, k, v + 1); the last column is what is not random
    fixed = grouped[..., v] + last.run.layers[-1][..., -1]
    first, second = halves
    scores = (
        (grouped[..., : v // 2] @ B.mT(first.values))[..., :, None]
        + (grouped[..., v // 2 : v] @ B.mT(second.values))[..., None, :]
        + fixed[..., None, None]
    )  # (N, k, masks of the first half, of the second)
    shape = scores.shape
    flat = B.reshape(scores, (*shape[:2], shape[2] * shape[3]))
    e = last.weights[:, None, None] * (loss.mean(B, flat) - B.mT(y)[..., None])
    e = B.reshape(e, shape)
    p = first.probabilities[:, None] * second.probabilities
    weighted = e * p
    mean = _mean(B, weighted, first, second)
    R = weighted[:, :, None, :, :] * e[:, None, :, :, :]
    moment = _second(B, R, first, second)  # (N, k, k, v + 1, v + 1)
    index = B.indices(np.append(variables.carried, v))  # the bias is multiplied by 1
    mean = B.moveaxis(B.take(B.moveaxis(mean, -1, 0), index), 0, -1)
    moment = B.moveaxis(B.take(B.moveaxis(moment, -1, 0), index), 0, -1)
    moment = B.moveaxis(B.take(B.moveaxis(moment, -2, 0), index), 0, -2)
    u = k * (m + 1)
    return B.reshape(mean, (last.count, u)), B.reshape(B.moveaxis(moment, 2, 3), (last.count, u, u))


@dataclass(frozen=True, eq=False)
class _Half:
    """Every mask of some of the variables: ``values`` (masks, variables) are 0 or 1/p, ``probabilities`` (masks,)."""

    values: Array
    probabilities: Array
    backend: Backend

    @classmethod
    def of(cls, B: Backend, space: Bernoulli, which: range) -> _Half:
        own = Bernoulli([space.keep_prob[v] for v in which])
        index = np.arange(own.size)
        exact = B.exact or not B.ordered
        p: Any = [B.scalar(x) for x in own.exact_probabilities(index)] if exact else own.probabilities(index)
        return cls(own.mask(own.points(index), B, "inverse"), B.asarray(p), B)

    @property
    def pairs(self) -> Array:
        """Products of two variables' values, flat: (masks, variables²)."""
        both = self.values[:, :, None] * self.values[:, None, :]
        return self.backend.reshape(both, (both.shape[0], both.shape[1] ** 2))


def _mean(B: Backend, weighted: Array, first: _Half, second: _Half) -> Array:
    """E e_o ξ_v, (N, k, v + 1), the last entry E e_o."""
    rows, columns = B.sum(weighted), B.sum(weighted, -2)
    parts = [rows @ first.values, columns @ second.values, B.sum(rows)[..., None]]
    return B.concat(parts)


def _second(B: Backend, R: Array, first: _Half, second: _Half) -> Array:
    """The second moments of (ξ, 1) under R, (N, k, k, v + 1, v + 1)."""
    rows, columns = B.sum(R), B.sum(R, -2)
    a, b = first.values.shape[-1], second.values.shape[-1]
    lead = R.shape[:-2]
    within = B.reshape(rows @ first.pairs, (*lead, a, a))
    beyond = B.reshape(columns @ second.pairs, (*lead, b, b))
    across = B.mT(first.values) @ (R @ second.values)
    one_a, one_b = (rows @ first.values)[..., None], (columns @ second.values)[..., None]
    total = B.sum(rows)[..., None, None]
    above = B.concat([within, across, one_a])
    middle = B.concat([B.mT(across), beyond, one_b])
    below = B.concat([B.mT(one_a), B.mT(one_b), total])
    return B.concat([above, middle, below], axis=-2)
