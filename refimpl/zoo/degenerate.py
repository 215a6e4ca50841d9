"""Hard cases, each with the hypothesis that it breaks and a point where that shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.bounds import Bounds, Region
from refimpl.errors import BadInput
from refimpl.objective import Objective
from refimpl.operators import Operator, identity
from refimpl.problem import BilevelProblem, FixedPointProblem
from refimpl.sets import Box
from refimpl.zoo import quadratic
from refimpl.zoo.maps import affine
from refimpl.zoo.ridge import HalfSquares
from refimpl.zoo.weighted_rows import WeightedRows
from refimpl.zoo.weights import SampleWeights

Label = Literal["singular", "indefinite", "non-symmetric", "kink", "not a contraction", "rank changes"]


@dataclass(frozen=True, eq=False)
class Case:
    """A problem, what is hard about it, why that matters, and a solution (λ, w(λ)) where it shows."""

    problem: BilevelProblem | FixedPointProblem
    label: Label
    reason: str
    lam: Any
    w: Any


@dataclass(frozen=True, eq=False)
class SoftThreshold(Objective):
    """G(λ, w) = ½‖w − λ‖² + τ Σ_j |w_j|, n = d: minimised at w_j = sign(λ_j) max(|λ_j| − τ, 0).

    The derivatives hold away from the kinks w_j = 0; there they are those of the right-hand side.
    Comparisons decide the sign: not available on backend "interval".
    """

    tau: Any
    d: int
    backend: Backend = Backend()

    @property
    def n(self) -> int:
        return self.d

    def _sign(self, w: Array) -> Array:
        return self.backend.where(w >= 0, 1 + 0 * w, -1 + 0 * w)

    def value(self, lam: Array, w: Array) -> Array:
        B = self.backend
        return B.dot(w - lam, w - lam) / 2 + self.tau * B.sum(self._sign(w) * w)

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return lam - w

    def grad_w(self, lam: Array, w: Array) -> Array:
        return w - lam + self.tau * self._sign(w)

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        return identity(self.backend, self.d)

    def cross(self, lam: Array, w: Array) -> Operator:
        return (-1) * identity(self.backend, self.d)

    def bounds(self, region: Region) -> Bounds:
        """‖∇_w G‖ <= ‖w − λ + τ sign(w)‖ at the centre + r + R, the rest is constant, if no kink is inside.

        Raises ``BadInput`` where one is.
        """
        nearest = float(np.abs(region.w).min())
        if nearest <= region.w_radius:
            raise BadInput(
                "the region holds a kink",
                measured=f"smallest |w_j| at the centre {nearest:.3g}, radius {region.w_radius:.3g}",
                required="a radius below the smallest |w_j|",
                advice="no Hessian exists at w_j = 0: take a smaller ball",
            )
        tau = float(to_numpy(self.tau))
        centre = float(np.linalg.norm(region.w - region.lam + tau * np.sign(region.w)))
        return Bounds(
            grad_w=centre + region.w_radius + region.lam_radius,
            hess_ww=1.0,
            hess_ww_min=1.0,
            cross=1.0,
            hess_ll=1.0,
        )


def singular_hessian() -> Case:
    """G = ½ w_1² − λ w_1 on R²: every (λ, w_2) is a solution, so w(λ) is not a function.

    >>> case = singular_hessian()
    >>> case.problem.lower.hess_ww(case.lam, case.w).dense().tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    lower = quadratic.objective(ww=[[1.0, 0.0], [0.0, 0.0]], lw=[[-1.0, 0.0]])
    return Case(
        BilevelProblem(_half_square(n=1, d=2), lower, name="singular lower Hessian"),
        "singular",
        "The flat direction w_2 leaves the solution and the adjoint undetermined: no one hypergradient.",
        np.array([1.0]),
        np.array([1.0, 0.0]),
    )


def indefinite_hessian() -> Case:
    """G = ½ w_1² − ½ w_2² − λ w_1 on R²: its stationary point (λ, 0) is a saddle; G has no minimiser.

    >>> indefinite_hessian().label
    'indefinite'
    """
    lower = quadratic.objective(ww=[[1.0, 0.0], [0.0, -1.0]], lw=[[-1.0, 0.0]])
    return Case(
        BilevelProblem(_half_square(n=1, d=2), lower, name="indefinite lower Hessian"),
        "indefinite",
        "∇_wG = 0 has a unique solution and the formula a value there, but it is a saddle and not argmin G.",
        np.array([1.0]),
        np.array([1.0, 0.0]),
    )


def non_symmetric(*, d: int = 3, q: float = 0.5) -> Case:
    """Φ = q P w + λ with P the cyclic shift of R^d, d >= 3: a valid contraction with ‖∂_wΦ‖ = q.

    (I − qP)⁻¹ = Σ q^k P^k, so v is known: v = Σ_k q^k (Pᵀ)^k ∇_wE.

    >>> case = non_symmetric()
    >>> case.problem.phi.d_w(case.lam, case.w).dense().tolist()
    [[0.0, 0.0, 0.5], [0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]
    """
    if d < 3 or not 0 < q < 1:
        raise BadInput(
            "no such case",
            measured=f"d = {d}, q = {q}",
            required="d >= 3, 0 < q < 1",
            advice="d = 3, q = 1/2",
        )
    return _shift(
        d,
        q,
        "non-symmetric",
        "∂_wΦ is not symmetric: the adjoint takes its transpose, conjugate gradients the normal equations.",
    )


def not_a_contraction(*, d: int = 3, q: float = 1.5) -> Case:
    """Φ = q P w + λ with q > 1: a unique fixed point from which every iteration w ← Φ(λ, w) moves away.

    >>> not_a_contraction(q=2.0).problem.phi.bounds(None).d_w
    2.0
    """
    if d < 1 or not q > 1:
        raise BadInput(
            "no such case", measured=f"d = {d}, q = {q}", required="d >= 1, q > 1", advice="d = 3, q = 3/2"
        )
    return _shift(
        d,
        q,
        "not a contraction",
        "I − ∂_wΦ is invertible and direct solves work, but fixed-point and Neumann iterations diverge, q^t.",
    )


def kink() -> Case:
    """G = ½‖w − λ‖² + Σ|w_j| on R²: at λ = (2, 1/2) the second weight rests on the kink of |.|.

    w(λ) = (1, 0); it is smooth in λ_1, flat in λ_2 there, and not differentiable where |λ_j| = 1.

    >>> case = kink()
    >>> case.problem.residual(case.lam, case.w).tolist()  # the right-hand derivative at w_2 = 0 is not 0
    [0.0, 0.5]
    """
    return Case(
        BilevelProblem(_half_square(n=2, d=2), SoftThreshold(1, 2), name="kink in the lower level"),
        "kink",
        "The solution sits where ∇_wG jumps, so no w makes it 0, and no Hessian exists there: Newton fails.",
        np.array([2.0, 0.5]),
        np.array([1.0, 0.0]),
    )


def rank_changes() -> Case:
    """G = ¼(λ_1 w_1² + λ_2 (w_2 − 1)²) on R², λ >= 0: at λ_2 = 0 its Hessian loses a rank.

    w_λ = (0, 1) for λ > 0, but (0, −1) at λ = (1, 0), where F = ½‖w‖² + w_1 + w_2 chooses w_2: f jumps there.

    >>> case = rank_changes()
    >>> case.problem.lower.hess_ww(case.lam, case.w).dense().tolist()
    [[0.5, 0.0], [0.0, 0.0]]
    """
    lower = WeightedRows(HalfSquares(np.eye(2), np.array([0.0, 1.0]), 2), SampleWeights("identity"))
    return Case(
        BilevelProblem(_half_square(n=2, d=2), lower, Box(0, None), name="rank of the lower Hessian changes"),
        "rank changes",
        "Where a weight reaches 0 its row is free: the solution that F chooses jumps, and has no derivative.",
        np.array([1.0, 0.0]),
        np.array([0.0, -1.0]),
    )


def cases() -> tuple[Case, ...]:
    """All of them, once each."""
    return (
        *(singular_hessian(), indefinite_hessian(), non_symmetric(), kink()),
        *(not_a_contraction(), rank_changes()),
    )


def _half_square(*, n: int, d: int) -> quadratic.Quadratic:
    """F = ½‖w‖² + Σ w_j."""
    return quadratic.objective(ww=np.eye(d), w1=np.ones(d), n=n)


def _shift(d: int, q: float, label: Label, reason: str) -> Case:
    lam = np.arange(1.0, d + 1)
    A = q * np.roll(np.eye(d), 1, axis=0)
    problem = FixedPointProblem(_half_square(n=d, d=d), affine(A, np.eye(d)), name=f"{label} (d={d}, q={q})")
    return Case(problem, label, reason, lam, np.linalg.solve(np.eye(d) - A, lam))
