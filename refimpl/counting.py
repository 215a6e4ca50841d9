"""Counting derivative calls: a problem whose two levels tally every gradient and every product."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.bounds import Bounds, MapBounds, Region
from refimpl.objective import Map, Objective
from refimpl.operators import Operator
from refimpl.problem import BilevelProblem, FixedPointProblem, Problem


def counted(problem: Problem) -> tuple[Problem, Counter[str]]:
    """The same problem, and the counter that its use fills.

    Keys: ``upper.grad_w``, ``lower.grad_w``, ``lower.hess_ww`` (products), ``lower.cross`` (products), ``phi.value``,
    ``phi.d_w``, ``phi.d_lam`` (products); ``… dense`` where a whole matrix was assembled. A call
    over leading axes counts once.
    """
    tally: Counter[str] = Counter()
    upper = CountedObjective(problem.upper, tally, "upper", problem.backend)
    if isinstance(problem, BilevelProblem):
        lower = CountedObjective(problem.lower, tally, "lower", problem.backend)
        return dataclasses.replace(problem, upper=upper, lower=lower), tally
    assert isinstance(problem, FixedPointProblem)
    return dataclasses.replace(
        problem, upper=upper, phi=CountedMap(problem.phi, tally, "phi", problem.backend)
    ), tally


def _counted_operator(a: Operator, tally: Counter[str], key: str) -> Operator:
    def apply(v: Array) -> Array:
        tally[key] += 1
        return a @ v

    def apply_T(u: Array) -> Array:
        tally[key] += 1
        return a.T @ u

    def assemble() -> Array:
        tally[f"{key} dense"] += 1
        return a.dense()

    return dataclasses.replace(a, apply=apply, apply_T=apply_T, assemble=assemble)


def uncounted(level: Objective | Map) -> Objective | Map:
    """The level itself, whose use fills no counter."""
    while isinstance(level, CountedObjective | CountedMap):
        level = level.inner
    return level


@dataclass(frozen=True, eq=False)
class CountedObjective(Objective):
    """An objective that adds 1 to ``tally[role.quantity]`` per call."""

    inner: Objective
    tally: Counter[str]
    role: str
    backend: Backend

    @property
    def n(self) -> int:
        return self.inner.n

    @property
    def d(self) -> int:
        return self.inner.d

    @property
    def lead(self) -> int:
        return self.inner.lead

    def _counted(self, quantity: str, lam: Array, w: Array) -> Any:
        self.tally[f"{self.role}.{quantity}"] += 1
        return getattr(self.inner, quantity)(lam, w)

    def value(self, lam: Array, w: Array) -> Array:
        return self._counted("value", lam, w)

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return self._counted("grad_lam", lam, w)

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self._counted("grad_w", lam, w)

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        return _counted_operator(self.inner.hess_ww(lam, w), self.tally, f"{self.role}.hess_ww")

    def cross(self, lam: Array, w: Array) -> Operator:
        return _counted_operator(self.inner.cross(lam, w), self.tally, f"{self.role}.cross")

    def bounds(self, region: Region) -> Bounds:
        return self.inner.bounds(region)


@dataclass(frozen=True, eq=False)
class CountedMap(Map):
    """A map that adds 1 to ``tally[role.quantity]`` per value and per product with a Jacobian."""

    inner: Map
    tally: Counter[str]
    role: str
    backend: Backend

    @property
    def n(self) -> int:
        return self.inner.n

    @property
    def d(self) -> int:
        return self.inner.d

    @property
    def lead(self) -> int:
        return self.inner.lead

    def value(self, lam: Array, w: Array) -> Array:
        self.tally[f"{self.role}.value"] += 1
        return self.inner.value(lam, w)

    def d_w(self, lam: Array, w: Array) -> Operator:
        return _counted_operator(self.inner.d_w(lam, w), self.tally, f"{self.role}.d_w")

    def d_lam(self, lam: Array, w: Array) -> Operator:
        return _counted_operator(self.inner.d_lam(lam, w), self.tally, f"{self.role}.d_lam")

    def bounds(self, region: Region) -> MapBounds:
        return self.inner.bounds(region)
