"""SID's four maps on one draw each, as matrices: read off the code's own step, and tested to be affine.

Column j of A is the image of P e_j minus that of the origin, b the image of ``at`` minus ``to``: y − to = A z + b for
x = at + P z. Points of the space and the states are leading axes: one call gives the matrices of a chunk of points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from refimpl.affinity import second_differences
from refimpl.approximate.stochastic import SID
from refimpl.arrays import backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.problem import Problem
from refimpl.rates import Constant
from refimpl.spaces import Repeated

TESTED = 64  # points at which affinity is tested


@dataclass(frozen=True, eq=False)
class OneDraw:
    """SID with one draw in each group; steps that change with i are taken as 1, and relaxed later."""

    sid: SID
    problem: Problem
    lam: Array
    v0: Array | None

    @classmethod
    def of(cls, sid: SID, problem: Problem, lam: Array, v0: Array | None) -> OneDraw:
        """Of any SID; the data per draw stay."""
        t, k = (None if solver else 1 for solver in (sid.lower, sid.linear))
        rate, linear_rate = (x if x.constant else Constant(1) for x in (sid.rate, sid.linear_rate))
        return cls(replace(sid, t=t, k=k, J=1, rate=rate, linear_rate=linear_rate), problem, lam, v0)

    @property
    def parts(self) -> Iterator[tuple[Fraction, OneDraw]]:
        """To second moments the mean of b data is one datum with probability 1/b, else all, under the same masks."""
        batch = self.sid.batch
        share = Fraction(1, batch) if batch else Fraction(0)
        for weight, size in ((share, 1), (1 - share, None)):
            if weight:
                yield weight, replace(self, sid=replace(self.sid, batch=size))

    def lower(self, points: Any, w: Array) -> Array:
        """w ↦ w⁺."""
        return self.sid.solve_lower(self.problem, self.lam, w, points)

    def upper(self, points: Any, w: Array) -> Array:
        """w ↦ (h, g, v_0)."""
        h, g = self.sid.upper_gradients(self.problem, self.lam, w, points)
        return self._joined(h, g, self.sid.first(self.problem, g, self.v0))

    def linear(self, points: Any, x: Array) -> Array:
        """(w, g, v) ↦ (g, v⁺)."""
        d = self.problem.d
        w, g, v = x[..., :d], x[..., d : 2 * d], x[..., 2 * d :]
        return self._joined(g, self.sid.solve_linear(self.problem, self.lam, w, g, v, points))

    def cross(self, points: Any, x: Array) -> Array:
        """(w, h, v) ↦ h − ∂_λ r̂(w)ᵀ v."""
        d, n = self.problem.d, self.problem.n
        w, h, v = x[..., :d], x[..., d : d + n], x[..., d + n :]
        return h - self.sid.indirect(self.problem, self.lam, w, v, points)

    def _joined(self, *xs: Array) -> Array:
        B, leading = self.problem.backend, np.broadcast_shapes(*(x.shape[:-1] for x in xs))
        return B.concat([B.broadcast(x, (*leading, x.shape[-1])) for x in xs])

    def group(self, number: int) -> Repeated:
        """The space of a group of draws."""
        return self.sid.groups(self.problem)[number]


GROUPS = {"lower": 0, "linear": 1, "cross": 2, "upper": 3}


@dataclass(frozen=True, eq=False)
class Reading:
    """points -> A, b of one of the four maps; see the module."""

    one: OneDraw
    name: str
    P: Array
    at: Array
    Q: Array
    to: Array

    @property
    def space(self) -> Repeated:
        return self.one.group(GROUPS[self.name])

    def __call__(self, points: Any) -> tuple[Array, Array]:
        B = self.one.problem.backend
        x = B.concat([self.at[None, :], 0 * self.at[None, :], B.mT(self.P)], axis=0)
        y = image(self.one, self.name, points, x)
        A = B.mT(y[:, 2:, :] - y[:, 1:2, :])
        return self.Q @ A, B.matvec(self.Q, y[:, 0, :] - self.to)


def image(one: OneDraw, name: str, points: Any, x: Array) -> Array:
    """Of states x (m, size in) at every point: (points, m, size out)."""
    ahead = one.group(GROUPS[name]).ahead(points, 1)
    y = getattr(one, name)(ahead, x)
    return one.problem.backend.broadcast(y, (_number_of(points), x.shape[0], y.shape[-1]))


def _number_of(points: Any) -> int:
    while isinstance(points, tuple):
        points = points[0]
    return len(points)


def require_affine(one: OneDraw) -> bool:
    """Refuse where a map is not affine given the sample; does the last one not depend on w?

    Decided over the rationals, floats taken as the rationals that they are, by second differences at up to ``TESTED``
    points of each group: see ``refimpl.affinity``. Raises ``HypothesisViolated``.
    """
    B = backend("rational")
    _, part = next(one.parts)
    try:
        lam, v0 = (None if x is None else B.asarray(x) for x in (one.lam, one.v0))
        part = replace(part, problem=part.problem.to(B), lam=lam, v0=v0)
        d, n = part.problem.d, part.problem.n
        for name, size, what in (
            ("lower", d, "the step of the lower iteration is not, in w"),
            ("upper", d, "the upper level's gradients are not, in w"),
            ("linear", 3 * d, "the step of the linear iteration is not, in (w, rhs, v)"),
        ):
            replaced = name == "lower" and part.sid.lower is not None  # by a solver, from a sure start
            if not replaced and not _additive(part, name, size, size):
                raise not_affine(what)
        if _additive(part, "cross", 2 * d + n, 2 * d + n):
            return True
        if not _additive(part, "cross", 2 * d + n, d):
            raise not_affine("the cross derivative is not, in w")
    except BadInput as e:
        raise not_affine(str(e.what)) from e
    return False


def _additive(part: OneDraw, name: str, size: int, moving: int) -> bool:
    """Is it affine in its first ``moving`` entries, at 0, at each unit vector of the others, and in general?"""
    space = part.group(GROUPS[name])
    count = space.size if space.at_most(2**62) else 2**62  # larger numbers are no int64; refused later
    index = np.array(sorted({i * count // TESTED for i in range(TESTED)}))
    bases = np.concatenate([np.zeros((1, size)), np.eye(size)[moving:]])

    def of(numbers: np.ndarray, states: Array) -> Array:
        return image(part, name, space.points(numbers), states)

    found = second_differences(part.problem.backend, of, index, bases, moving)
    return all(bool((f == 0).all()) for f in found)


def not_affine(measured: str) -> HypothesisViolated:
    """The error of what is not affine."""
    return HypothesisViolated(
        "the exact moments of SID need steps that are affine, given the sample",
        measured=measured,
        required="a quadratic or affine lower level and a quadratic upper one, in formulas that rationals can evaluate",
        advice="run it with replicates: sid.run(problem, lam, rng=0, replicates=(1000,))",
    )
