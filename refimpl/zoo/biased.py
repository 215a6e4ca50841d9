"""Meta-learning by biased regularisation (contraction, (5)): each task's weights are pulled towards a shared λ.

lower G(λ, w) = (1/T) Σ_t ℓ_t(w^t) + (strength/2)‖w^t − λ‖²; upper F(w) = (1/T) Σ_t of the query losses. ℓ_t is a task's
softmax cross entropy; w has one row w^t for each task, so the lower level separates over tasks. As
‖w^t(λ) − λ‖ <= ‖∇ℓ_t‖/strength is bounded, starting at w^t = λ keeps ‖w_0 − w(λ)‖ bounded on all of Rⁿ (remark 1 iv).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.bounds import Bounds, Region
from refimpl.datasets import Episode
from refimpl.errors import BadInput
from refimpl.objective import Objective
from refimpl.operators import Operator
from refimpl.problem import BilevelProblem
from refimpl.zoo.softmax import SoftmaxLoss, one_hot


@dataclass(frozen=True, eq=False)
class BiasedSoftmax(Objective):
    """f(λ, w) = (1/T) Σ_t ℓ_t(w^t) + (strength/2)‖w^t − λ‖²: X (T, N, features), y (T, classes, N) one-hot columns.

    strength 0 leaves the pull out. A gradient or a product costs 4 T N classes features operations.
    """

    X: Array
    y: Array
    strength: Any
    backend: Backend = Backend()

    @property
    def tasks(self) -> int:
        return int(self.X.shape[0])

    @property
    def n(self) -> int:
        return int(self.y.shape[-2] * self.X.shape[-1])

    @property
    def d(self) -> int:
        return self.tasks * self.n

    def only(self, index: Any) -> BiasedSoftmax:
        """The objective of these tasks (b,) alone; its w has their rows."""
        B, index = self.backend, self.backend.indices(index)
        return dataclasses.replace(self, X=B.take(self.X, index), y=B.take(self.y, index))

    @cached_property
    def _losses(self) -> SoftmaxLoss:
        """The tasks' losses, which the tasks' axis leads."""
        return SoftmaxLoss(self.X, self.y, self.backend.scalar(0), 0, self.backend)

    def rows(self, w: Array) -> Array:
        """w (..., d) as (..., T, n)."""
        return self.backend.reshape(w, (*w.shape[:-1], self.tasks, self.n))

    def _flat(self, rows: Array) -> Array:
        """(..., T, n) as (..., d), each row divided by T."""
        return self.backend.reshape(rows, (*rows.shape[:-2], self.d)) / self.tasks

    def _apart(self, lam: Array, w: Array) -> Array:
        return self.rows(w) - lam[..., None, :]

    def value(self, lam: Array, w: Array) -> Array:
        B, apart = self.backend, self._apart(lam, w)
        return B.mean(
            self._losses.value(lam[..., :0], self.rows(w)) + self.strength * B.dot(apart, apart) / 2
        )

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return -self.strength * self.backend.mean(self._apart(lam, w), -2)

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self._flat(
            self._losses.grad_w(lam[..., :0], self.rows(w)) + self.strength * self._apart(lam, w)
        )

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        """Block t is (∇²ℓ_t + strength I)/T."""
        curved = self._losses.hess_ww(lam[..., :0], self.rows(w))

        def apply(v: Array) -> Array:
            rows = self.rows(v)
            return self._flat(curved @ rows + self.strength * rows)

        return Operator(self.backend, (self.d, self.d), apply, apply, self.lead_of(lam, w), symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        """Every block is −strength I/T."""
        B, lead = self.backend, self.lead_of(lam, w)

        def apply_T(u: Array) -> Array:
            return self._flat(
                B.broadcast(-self.strength * u[..., None, :], (*u.shape[:-1], self.tasks, self.n))
            )

        return Operator(
            B, (self.n, self.d), lambda v: -self.strength * B.mean(self.rows(v), -2), apply_T, lead
        )

    def bounds(self, region: Region) -> Bounds:
        """Those of the tasks' losses, each on its own row's ball; Hessians have a block for each task.

        ‖w − (λ, …, λ)‖ is at most its value at the centre + w_radius + √T lam_radius.
        """
        host, T = self.to("numpy"), self.tasks
        rows, s = np.asarray(region.w, dtype=float).reshape(T, self.n), float(to_numpy(self.strength))
        each = [
            SoftmaxLoss(X, y, 0.0, 0).bounds(Region(np.zeros(0), row, 0.0, region.w_radius))
            for X, y, row in zip(host.X, host.y, rows, strict=True)
        ]
        apart = float(np.linalg.norm(rows - region.lam)) + region.w_radius + T**0.5 * region.lam_radius
        return Bounds(
            grad_w=(float(np.linalg.norm([of.grad_w for of in each])) + s * apart) / T,
            hess_ww=(max(of.hess_ww for of in each) + s) / T,
            hess_ww_min=(min(of.hess_ww_min for of in each) + s) / T,
            cross=s / T**0.5,
            hess_ll=s,
            hess_ww_by_w=max(of.hess_ww_by_w for of in each) / T,
        )


def problem(
    episodes: Episode, *, ways: int, strength: float, name: str = "biased regularisation"
) -> BilevelProblem:
    """The problem of these tasks (a batch of episodes): support below, queries above. λ begins at 0.

    ``strength`` is the lower level's strong convexity per task. Raises ``BadInput``.

    >>> import refimpl as ri
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((2, 3, 4)), np.tile(np.arange(3), (2, 1))
    >>> small = problem(Episode(X, y, X + 1, y), ways=3, strength=0.5)
    >>> small.n, small.d
    (12, 24)
    """
    if not 0 < strength < np.inf:
        raise BadInput(
            "the lower level would not be strongly convex",
            measured=f"strength = {strength}",
            required="0 < strength < inf",
            advice="without the pull towards λ the tasks' losses ignore equal shifts of all classes",
        )
    if np.ndim(episodes.support_X) != 3:
        raise BadInput(
            "one axis for the tasks",
            measured=f"support {np.shape(episodes.support_X)}",
            required="(tasks, samples, features)",
            advice="sampler.batch(rng, tasks, …) stacks episodes",
        )
    query, support = (
        BiasedSoftmax(np.asarray(X, dtype=float), np.stack([one_hot(of, ways) for of in y]), pull)
        for X, y, pull in (
            (episodes.query_X, episodes.query_y, 0.0),
            (episodes.support_X, episodes.support_y, float(strength)),
        )
    )
    return BilevelProblem(query, support, name=name, initial=np.zeros(support.n))


def only(whole: BilevelProblem, index: Any) -> BilevelProblem:
    """The problem of these tasks alone: averaged over index, its hypergradient is the whole problem's."""
    assert isinstance(whole.upper, BiasedSoftmax)
    assert isinstance(whole.lower, BiasedSoftmax)
    return dataclasses.replace(whole, upper=whole.upper.only(index), lower=whole.lower.only(index))
