"""Where mean and second moment settle, and how fast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refimpl.arrays import factor, to_numpy
from refimpl.arrays.backend import Array
from refimpl.arrays.linalg import require_positive_pivots
from refimpl.errors import HypothesisViolated
from refimpl.moments.packed import length, pack, unpack
from refimpl.moments.state import Moments
from refimpl.moments.step import AffineStep, PackedStep


@dataclass(frozen=True, eq=False)
class Stationary:
    """The limit's moments, and the spectral radius ρ of X -> E[A X Aᵀ].

    Two runs with the same s approach each other as ρ^t in the mean square. The second moment approaches its limit as
    max(ρ, ρ(E A))^t: the mean's error, of order ρ(E A)^t, enters through E[A m bᵀ], and ρ(E A)² <= ρ only.
    """

    moments: Moments
    radius: float


def spectral_radius(step: AffineStep | PackedStep) -> float:
    """Spectral radius of X -> E[A X Aᵀ] on symmetric matrices, by float64 eigenvalues; about 10·(d(d+1)/2)³ operations.

    Second moments converge from every start iff it is below 1; then so do means: ρ(E A)² <= ρ(E A⊗A).
    """
    first = length(step.D - 1)
    return float(abs(np.linalg.eigvals(to_numpy(step.operator[:first, :first]))).max())


def stationary(step: AffineStep | PackedStep) -> Stationary:
    """The fixed point of mean and second moment, by two linear solves; every start converges to it.

    m = (I − E A)⁻¹ E b; E xxᵀ solves (I − 𝓐)X = E[bmᵀAᵀ + Ambᵀ + bbᵀ], 𝓐X = E[A X Aᵀ]. ρ(𝓐) < 1 is decided by Y with
    Y − 𝓐Y = I: it is positive definite iff ρ(𝓐) < 1 (𝓐 maps positive semidefinite matrices to such), then
    ρ <= 1 − 1/‖Y‖. Over the rationals the decision is exact; in floating point it is as good as p·eps·‖Y‖ is small.
    Raises ``HypothesisViolated`` with the radius. Cost (2/3)p³ and the eigenvalues.
    """
    B, d, first = step.backend, step.D - 1, length(step.D - 1)
    radius = spectral_radius(step)
    one, zero = B.zeros((1,)) + B.scalar(1), B.zeros((d, 1))
    corner = B.concat([B.concat([B.eye(d), zero]), B.zeros((1, d + 1))], axis=0)
    try:
        system = factor(B, B.eye(first) - step.operator[:first, :first])
        Y = unpack(B, B.concat([system.solve(pack(B, corner)[:first]), B.zeros((d + 1,))]), d + 1)[:-1, :-1]
        _require_positive(step, Y)
        drift = step.mean_matrix[:-1, :-1]
        mean = factor(B, B.eye(d) - drift).solve(step.mean_matrix[:-1, -1])
    except HypothesisViolated as e:
        raise HypothesisViolated(
            "second moments do not settle",
            measured=f"spectral radius {radius:.17g} of X -> E[A X Aᵀ]; {e.measured}",
            required="a spectral radius below 1",
            advice="take a smaller step; with radius 1 or more the second moment grows, or depends on the start",
        ) from None
    tail = B.concat([mean, one])
    second = system.solve(B.matvec(step.operator[:first, first:], tail))
    return Stationary(Moments(B, unpack(B, B.concat([second, tail]), d + 1)), radius)


def _require_positive(step: AffineStep | PackedStep, Y: Array) -> None:
    """Refuse where Y is not positive definite, or rounding leaves that open."""
    B = step.backend
    if B.exact or not B.ordered:
        return require_positive_pivots(Y)
    eigenvalues = np.linalg.eigvalsh(to_numpy(Y))
    hidden = (
        length(step.D) * B.eps * abs(eigenvalues).max()
    )  # relative error of a system with inverse of that size
    if not (eigenvalues[0] > 0 and hidden < 1):
        raise HypothesisViolated(
            "not contracting in the mean square", measured=f"smallest eigenvalue of Y {eigenvalues[0]:.3g}"
        )
    return None
