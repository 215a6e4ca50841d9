"""One step of an affine random recursion: what it does to mean and second moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, TooLarge
from refimpl.moments.packed import length, pack, second_operator, unpack
from refimpl.moments.state import translation
from refimpl.spaces import Space

Coefficients = Callable[[Any], tuple[Array, Array]]  # points -> A (points, d, d), b (points, d)
MAX_POINTS = 2**26  # enumerated in minutes where D is small


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class AffineStep:
    """z⁺ = T_s z with probability p_s: transitions (points, D, D) of last row (0, …, 0, 1), probabilities (points,).

    Raises ``BadInput`` for wrong shapes, other last rows, or numbers that are no probabilities.
    """

    backend: Backend
    transitions: Array
    probabilities: Array

    def __post_init__(self) -> None:
        _check(self.transitions, self.probabilities, self.backend)

    @property
    def points(self) -> int:
        return int(self.transitions.shape[0])

    @property
    def D(self) -> int:
        """Number of homogeneous coordinates, d + 1."""
        return int(self.transitions.shape[-1])

    @cached_property
    def mean_matrix(self) -> Array:
        """E T, (D, D)."""
        return self.backend.sum(self.probabilities[:, None, None] * self.transitions, axis=0)

    @cached_property
    def operator(self) -> Array:
        """The p x p matrix of S -> E[T S Tᵀ] on packed symmetric matrices, computed once."""
        return second_operator(self.backend, self.transitions, self.probabilities)

    @cached_property
    def _rows(self) -> tuple[Array, Array]:
        """T and p T as (D, points·D): row i holds row i of every transition, one after the other."""
        side_by_side = self.backend.moveaxis(self.transitions, 0, 1)
        weighted = self.probabilities[None, :, None] * side_by_side
        shape = (self.D, self.points * self.D)
        return self.backend.reshape(side_by_side, shape), self.backend.reshape(weighted, shape)

    def second(self, S: Array) -> Array:
        """E[T S Tᵀ] for S (..., D, D): two products of stacked matrices, 4·points·D³ operations."""
        B, (T, weighted) = self.backend, self._rows
        stacked = B.reshape(T, (self.points * self.D, self.D)) @ S  # row (i, s): row i of T_s S
        return B.reshape(stacked, (*S.shape[:-2], *T.shape)) @ B.mT(weighted)

    def about(self, point: Array) -> AffineStep:
        """The same step for x − point: A unchanged, b + A·point − point. What is small near it stays exact there."""
        B = self.backend
        A, b = self.transitions[..., :-1, :-1], self.transitions[..., :-1, -1]
        return AffineStep(B, _homogeneous(B, A, b + (B.matvec(A, point) - point)), self.probabilities)


@dataclass(frozen=True, eq=False)
class PackedStep:
    """A step known by its operator on second moments alone: spaces whose transitions do not fit in memory."""

    backend: Backend
    D: int
    operator: Array

    @property
    def mean_matrix(self) -> Array:
        """E T, (D, D): what the operator does to the last column."""
        first = length(self.D - 1)
        return self.operator[first:, first:]

    def second(self, S: Array) -> Array:
        """E[T S Tᵀ] for S (..., D, D); 2p² operations."""
        B = self.backend
        return unpack(B, B.matvec(self.operator, pack(B, S)), self.D)

    def about(self, point: Array) -> PackedStep:
        """The same step for x − point; rounded at the size of the operator there was: choose the origin first."""
        B, one = self.backend, self.backend.zeros((1,)) + self.backend.scalar(1)
        away = second_operator(B, translation(B, -point)[None, ...], one)
        return PackedStep(
            B, self.D, away @ self.operator @ second_operator(B, translation(B, point)[None, ...], one)
        )


def affine_step(
    space: Space,
    coefficients: Coefficients,
    backend: Backend | None = None,
    *,
    max_bytes: int = 2**28,
    chunk: int = 2**10,
) -> AffineStep | PackedStep:
    """The step x⁺ = A(s) x + b(s) with s from ``space``; coefficients maps points to A (points, d, d), b (points, d).

    Transitions are kept where they fit in ``max_bytes``, else only their operator is, summed up in chunks in the
    space's order. Cost: one evaluation per point, then 2·points·D⁴ operations where they are not kept.
    Raises ``TooLarge``, ``BadInput``.

    >>> from refimpl.spaces import Indices
    >>> step = affine_step(Indices(2), lambda s: (np.full((len(s), 1, 1), 0.5), 2.0 * s[:, None] - 1))
    >>> step.second(np.array([[0.0, 0.0], [0.0, 1.0]]))  # x = 0 goes to ±1
    array([[1., 0.],
           [0., 1.]])
    """
    B = backend or Backend()
    D = int(_transitions(B, coefficients, space, 0, 1).shape[-1])
    if space.at_most(max_bytes // (8 * D**2)):
        starts = range(0, space.size, chunk)
        parts = [_transitions(B, coefficients, space, i, min(i + chunk, space.size)) for i in starts]
        return AffineStep(B, B.concat(parts, axis=0), _probabilities(B, space, 0, space.size))
    if 24 * D**4 > max_bytes or not space.at_most(MAX_POINTS):
        raise TooLarge(
            "neither the transitions nor their operator on second moments can be computed",
            measured=f"{space.how_many} points of {8 * D**2} bytes each; operator {24 * D**4:.3g} bytes",
            required=f"<= max_bytes = {max_bytes}, or an operator within it and at most {MAX_POINTS} points",
            advice="raise max_bytes, split independent factors of the space into steps of their own, or sample",
        )
    operator: Array = None
    for i in range(0, space.size, chunk):
        stop = min(i + chunk, space.size)
        T, weights = _transitions(B, coefficients, space, i, stop), _probabilities(B, space, i, stop)
        part = second_operator(B, T, weights)
        operator = part if operator is None else operator + part
    return PackedStep(B, D, operator)


def _transitions(B: Backend, coefficients: Coefficients, space: Space, start: int, stop: int) -> Array:
    A, b = coefficients(space.points(np.arange(start, stop)))
    d, count = int(b.shape[-1]) if b.ndim else 0, stop - start
    if d == 0 or tuple(b.shape) != (count, d) or tuple(A.shape) != (count, d, d):
        raise BadInput(
            "the coefficients have the wrong shape",
            measured=f"A {tuple(A.shape)}, b {tuple(b.shape)} for {count} points",
            required=f"A ({count}, d, d) and b ({count}, d), d >= 1",
            advice="the points' axis comes first; broadcast what does not depend on the point",
        )
    return _homogeneous(B, A, b)


def _homogeneous(B: Backend, A: Array, b: Array) -> Array:
    top = B.concat([A, b[..., :, None]])
    last = B.zeros((1, 1, top.shape[-1] - 1)), B.zeros((1, 1, 1)) + B.scalar(1)
    row = B.broadcast(B.concat(list(last)), (top.shape[0], 1, top.shape[-1]))
    return B.concat([top, row], axis=-2)


def _probabilities(B: Backend, space: Space, start: int, stop: int) -> Array:
    index = np.arange(start, stop)
    if B.exact or not B.ordered:
        return B.asarray([B.scalar(p) for p in space.exact_probabilities(index)])
    return B.asarray(space.probabilities(index))


def _check(T: Array, p: Array, B: Backend) -> None:
    if T.ndim != 3 or T.shape[-1] != T.shape[-2] or T.shape[-1] < 2 or tuple(p.shape) != (T.shape[0],):
        raise BadInput(
            "transitions and probabilities do not fit together",
            measured=f"shapes {tuple(T.shape)} and {tuple(p.shape)}",
            required="(points, D, D) and (points,), D = d + 1 >= 2",
            advice="affine_step(space, coefficients) builds them from A and b",
        )
    last, e = to_numpy(T[:, -1, :]), np.eye(int(T.shape[-1]))[-1]
    if not np.array_equal(last, np.broadcast_to(e, last.shape)):
        raise BadInput(
            "a transition's last row is not (0, …, 0, 1)",
            measured=last[(last != e).any(axis=1)][0].tolist(),
            required="[[A, b], [0, 1]]",
            advice="is it transposed? affine_step(space, coefficients) builds transitions from A and b",
        )
    weights = to_numpy(p)
    slack = (len(weights) + 16) * Backend(
        dtype=B.dtype
    ).eps  # each probability good to a few eps, and their sum
    if not (weights >= 0).all() or not abs(float(np.sum(weights)) - 1) <= slack:
        raise BadInput(
            "these are no probabilities",
            measured=f"smallest {weights.min()}, sum {np.sum(weights)}",
            required="numbers >= 0 that add up to 1",
            advice="pass every point of the space once, and its probability",
        )
