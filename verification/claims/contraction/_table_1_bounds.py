r"""Of iterations that repeat themselves: the exact mean of E‖∇f(λ_k)‖² over any N of them, and an upper bound of it.

On packed second moments, s ↦ Ms + b where E f'² is c(s), let s̄ = Ms̄ + b and V(s) = Σ_k (c(s_k) − c(s̄)) along the
recursion from s, which is linear in s − s̄: cᵀ(I − M)⁻¹(s − s̄). So

    (1/N) Σ_{k<N} c(s_k) = c(s̄) + (V(s_0) − V(s_N))/N <= c(s̄) + (V(s_0) − min v)/N,

as V(s_N) is the mean of v(x) = V of the state x, a quadratic function that is bounded below: c is never negative. What
is dropped, V(s_N) − min v >= 0, is a transient: at s̄, the noise that a run has later and not at its start.
Where the iterations differ within a period (VRBO), M is that of a period, c its mean, and the largest of the period's
stationary values takes the place of c(s̄).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.algorithms.affine import Iteration
from refimpl.algorithms.ghadimi2018bsa import BSA
from refimpl.algorithms.yang2021vrbo import VRBO
from refimpl.arrays.backend import Array
from refimpl.moments import Moments
from refimpl.moments.packed import length, pack, unpack
from refimpl.problem import BilevelProblem
from verification.claims._means import moving
from verification.claims.contraction._table_1_plans import SLOPE, START, ZERO
from verification.claims.contraction._table_1_schedules import Grid, grid

EPS = float(np.finfo(float).eps)
CHUNK = 256  # operators that are held at a time


@dataclass(frozen=True)
class Moving:
    """Packed second moments of the state and 1 along a run; STABLE's and STABLE-VR's matrices are the exact ones.

    They are p + 1 long, that of the 1 last.
    """

    algorithm: Any
    problem: BilevelProblem

    @cached_property
    def state(self) -> Any:
        """The first."""
        state = self.algorithm.init(self.problem, [START])
        exact = {"cross": np.array([-1.0]), "hess": np.array([1.0])}
        return replace(state, **{name: x for name, x in exact.items() if name in state.arrays})

    @cached_property
    def _known(self) -> tuple[dict[Any, Any], dict[Any, Array]]:
        return {}, {}

    @cached_property
    def start(self) -> Array:
        B, names = self.problem.backend, moving(self.state)
        return self.packed(Moments.at(B, self.state.vector(B, names)).homogeneous)

    @cached_property
    def basis(self) -> Array:
        """The symmetric matrices that packed unit vectors stand for, (p + 1, D, D)."""
        B, names = self.problem.backend, moving(self.state)
        D = 1 + sum(self.state.sizes(names).values())
        return np.asarray(unpack(B, B.eye(length(D)), D))

    def packed(self, S: Array) -> Array:
        """(..., D, D) -> (..., p + 1)."""
        return np.asarray(pack(self.problem.backend, S))

    def draws(self, k: int) -> Any:
        """What the draws of iteration k depend on of k."""
        return self.key(k) if self.grid is None else min(k, 1)

    def key(self, k: int) -> Any:
        """What iteration k depends on of k."""
        a = self.algorithm
        if a.constant_from is not None:
            return min(k, a.constant_from)
        if isinstance(a, VRBO):
            return min(k, 1 + (k % a.period == 0))
        return (a.steps(k), a.terms(k)) if isinstance(a, BSA) else k

    def operator(self, k: int) -> Array:
        """Of iteration k, (p + 1, p + 1); its last row is (0, …, 0, 1)."""
        operators, key = self._known[1], self.key(k)
        if key not in operators:
            operators[key] = self.read(self.algorithm, k)
        return operators[key]

    def operators(self, N: int) -> Iterator[Array]:
        """Of the first N iterations."""
        first = N if self.grid is None else min(N, self.grid.first)
        for k in range(first):
            yield self.operator(k)
        for k in range(first, N, CHUNK):
            yield from self.of_steps(range(k, min(N, k + CHUNK)))

    def of_steps(self, ks: Sequence[int]) -> Array:
        """Of iterations that differ by their step sizes alone, (len(ks), p + 1, p + 1)."""
        weights = np.zeros((0, 0)) if self.grid is None else self.grid.weights(ks)
        return np.asarray((weights @ self._at_points).reshape(len(ks), len(self.start), -1))

    def read(self, algorithm: Any, k: int) -> Array:
        """The same, read off the algorithm's step; that it is affine is a test of its own."""
        one = Iteration(algorithm, self.problem, replace(self.state, k=k), moving(self.state))
        return np.asarray(one.recursion(self._known[0], tested=False).operator)

    @cached_property
    def grid(self) -> Grid | None:
        """Where iterations differ by their step sizes alone."""
        return grid(self.algorithm)

    @cached_property
    def _at_points(self) -> Array:
        points = [] if self.grid is None else self.grid.points
        return np.array([self.read(self.grid.make(x), 1).ravel() for x in points if self.grid is not None])

    def spread(self, N: int) -> float:
        """By how much rounding in what is read off can be larger in an operator of the first N iterations."""
        if self.grid is None:
            return 1.0
        return float(
            np.abs(self.grid.weights(range(self.grid.first, max(N, self.grid.first + 1)))).sum(axis=1).max()
        )

    @cached_property
    def square(self) -> Array:
        """E f'(λ)² as a functional of the moments, (p + 1,); λ is the first array."""
        S = self.basis
        return np.asarray(SLOPE**2 * S[:, 0, 0] + 2 * SLOPE * ZERO * S[:, 0, -1] + ZERO**2 * S[:, -1, -1])

    @property
    def returns(self) -> tuple[int, int] | None:
        """From which iteration on they repeat themselves, and after how many; None: they do not."""
        if isinstance(self.algorithm, VRBO):
            return 0, self.algorithm.period
        first = self.algorithm.constant_from
        return None if first is None else (first, 1)


@dataclass(frozen=True)
class Steady:
    """A run whose iterations repeat themselves; s has the 1, M and b have not."""

    run: Moving
    first: int
    period: int

    @cached_property
    def cycle(self) -> tuple[list[Array], Array]:
        """Before each iteration of a period the product of those before it in the period, and that of all."""
        M, before = np.eye(len(self.run.start)), []
        for k in range(self.first, self.first + self.period):
            before.append(M)
            M = self.run.operator(k) @ M
        return before, M

    @cached_property
    def costs(self) -> Array:
        """E f'² of the iterations of a period as functionals of the moments before it, (period, p + 1)."""
        before, _ = self.cycle
        return np.array([self.run.square @ M for M in before])

    @cached_property
    def left(self) -> Array:
        """I − M, (p, p)."""
        M = self.cycle[1][:-1, :-1]
        return np.eye(len(M)) - M

    @property
    def condition(self) -> float:
        """Of I − M."""
        return float(np.linalg.cond(self.left))

    @cached_property
    def rest(self) -> Array:
        """s̄, and the 1."""
        return np.append(np.linalg.solve(self.left, self.cycle[1][:-1, -1]), 1.0)

    @cached_property
    def potential(self) -> Array:
        """The gradient of V, (p,)."""
        return np.linalg.solve(self.left.T, self.costs.sum(axis=0)[:-1])

    def V(self, s: Array) -> float:
        """Σ_k (c(s_k) − c(s̄))."""
        return float(self.potential @ (s - self.rest)[:-1])

    @cached_property
    def lowest(self) -> float:
        """min v, v(x) = xᵀPx + 2gᵀx + v_0: at −P⁺g."""
        # an entry off the diagonal stands for two: half of its coefficient each
        each = np.append(self.potential, 0.0) / self.run.basis.sum(axis=(1, 2))
        whole = np.tensordot(each, self.run.basis, axes=1)
        low = np.linalg.lstsq(whole[:-1, :-1], -whole[:-1, -1], rcond=None)[0]
        at = np.append(low, 1.0)
        return self.V(self.run.packed(np.outer(at, at)))

    def mean(self, N: int) -> tuple[float, float]:
        """(1/N) Σ_{k<N} E f'(λ_k)², and its upper bound; N − first a multiple of the period."""
        s, head = self.run.start, 0.0
        for k in range(self.first):
            head += float(self.run.square @ s)
            s = self.run.operator(k) @ s
        count = N - self.first
        values = self.costs @ self.rest
        last = np.linalg.matrix_power(self.cycle[1], count // self.period) @ s
        exact = head + count * float(values.mean()) + self.V(s) - self.V(last)
        above = head + count * float(values.max()) + self.V(s) - self.lowest
        return exact / N, above / N
