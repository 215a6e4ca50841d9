"""Assumption C's constants (contraction, section 3): the variances of one draw, where draws are affine in w.

V[X] = E‖X − EX‖². A variance of something affine in w is quadratic in w, so its suprema are computed, not estimated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from refimpl.arrays import backend, to_numpy
from refimpl.arrays.numbers import as_number, require_number
from refimpl.bounds import Region, best_step
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.objective import Level, Map, Objective, descent_map
from refimpl.problem import BilevelProblem, FixedPointProblem
from refimpl.spaces import Indices, expect

TESTED = 8  # draws whose affinity is tested
Drawn = Callable[[Any], np.ndarray]  # levels at points -> (points, rows, columns)


@dataclass(frozen=True)
class Noise:
    """Assumption C, for every w; Φ scaling throughout, ``step`` as in ``Constants``; Noise() is the deterministic case.

    V[Φ̂(w)] <= sigma1 + sigma2 ‖Φ(w) − w‖², V[∂_wΦ̂] <= d_sigma1, V[∂_λΦ̂] <= d_sigma2 (spectral norm),
    V[∇_wÊ] <= sigma1_E, V[∇_λÊ] <= sigma2_E. Raises ``BadInput`` for what is no variance, and for step <= 0.
    """

    sigma1: Any = 0.0
    sigma2: Any = 0.0
    d_sigma1: Any = 0.0
    d_sigma2: Any = 0.0
    sigma1_E: Any = 0.0
    sigma2_E: Any = 0.0
    step: Any = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value, variance = getattr(self, field.name), field.name != "step"
            require_number(value, field.name, "noise(problem, lam, growth=2) is one", closed=variance)


def noise(
    problem: BilevelProblem | FixedPointProblem,
    place: Any,
    *,
    growth: float,
    step: float | None = None,
    batch: int | None = 1,
    matrices: Literal["spectral", "operator"] = "spectral",
) -> Noise:
    """Assumption C's constants at one λ, exact up to rounding: maxima over w.

    Parameters
    ----------
    place : λ (n,); or a ``Region`` around one λ, over whose ball of w the maxima of V[∇_wÊ] and V[∇_λÊ] are taken.
        Without a ball they must not depend on w.
    growth : sigma2 over the smallest one that leaves sigma1 finite, >= 1. With V[Φ̂(w)] = wᵀQw + … and
        ‖Φ(w) − w‖² = wᵀMw + … that is λ_max(M⁻¹Q); sigma1 is the maximum of V[Φ̂(w)] − sigma2 ‖Φ(w) − w‖².
    step : a minimisation is the map w − step ∇_wG, with the step of ``constants`` by default.
    batch : independent data per draw, which divide every variance; None: all of them, so no noise.
    matrices : d_sigma1 = E‖N‖₂², N = ∂_wΦ̂ − ∂_wΦ; or "operator", ‖E[NNᵀ]‖₂, which is smaller and all that the
        theorems use, E‖Nᵀv‖² <= d_sigma1 ‖v‖². Only that one is divided by ``batch``: the other is, at most, as a bound
        of the operator's (contraction, section 3). d_sigma2 likewise.

    Cost: a few passes over the level's space, eigendecompositions of d x d. Raises ``BadInput``, and
    ``HypothesisViolated`` where draws are not affine in w, the map does not contract, or a maximum is infinite.
    """
    region = place if isinstance(place, Region) else _everywhere(problem, place)
    _require_sound(region, growth, matrices)
    host, lam = problem.to("numpy"), np.asarray(region.lam, dtype=float)
    if isinstance(host, FixedPointProblem):
        phi, step = host.phi, 1
    else:
        of_lower = host.lower.bounds(Region(lam, np.zeros(host.d)))
        step = best_step(of_lower) if step is None else step
        phi = descent_map(host.lower, step)
    below, above = _share(phi, batch), _share(host.upper, batch)
    lower = _of_map(phi, lam, growth, matrices) if below else (0.0,) * 4
    upper = _of_upper(host.upper, lam, region) if above else (0.0,) * 2
    found = Noise(*(below * x for x in lower), *(above * x for x in upper))
    return replace(found, step=step)


def _everywhere(problem: BilevelProblem | FixedPointProblem, lam: Any) -> Region:
    return Region(to_numpy(problem.lam(lam)), np.zeros(problem.d), 0.0, math.inf)


def _share(level: Level, batch: int | None) -> float:
    """The variance of a mean of ``batch`` data over that of one; 0 where nothing is random."""
    if level.space.size == 1:
        return 0.0
    finite_sum = isinstance(level.space, Indices)
    if batch is None and finite_sum:
        return 0.0
    if batch is not None and (batch == 1 or (finite_sum and isinstance(batch, int) and batch > 1)):
        return 1 / batch
    raise BadInput(
        "a minibatch of what?",
        measured=f"batch {batch!r} of a level over {type(level.space).__name__}",
        required="a whole number >= 1, or None, of a finite sum over the indices of its data",
        advice="all data of a minibatch have one mask, whose variance nothing divides: with dropout take batch=1",
    )


def _of_map(phi: Map, lam: np.ndarray, growth: float, matrices: str) -> tuple[float, float, float, float]:
    """sigma1, sigma2, d_sigma1, d_sigma2 of one draw."""
    _require_affine(phi, lam, ("d_w",), differences=("d_lam",))
    d, origin = phi.d, np.zeros(phi.d)
    A = phi.d_w(lam, origin).dense()
    if not np.linalg.norm(A, 2) < 1:
        raise HypothesisViolated(
            "the lower-level map does not contract",
            measured=f"‖∂_wΦ‖ = {np.linalg.norm(A, 2):.6g}",
            required="< 1 (assumption A (i))",
            advice="take a step below 2/L, or a strongly convex lower level",
        )
    inverse = np.linalg.inv(np.eye(d) - A)
    w = inverse @ phi.value(lam, origin)  # w(λ)
    S = _second_moment(phi, lambda one: _beside(one.d_w(lam, w).dense(), one.value(lam, w)))
    # V[Φ̂(w(λ) + u)] = (uᵀ, 1) S (u, 1), and ‖Φ(w) − w‖ = ‖y‖ for y = (I − A) u
    theta, basis = np.linalg.eigh(inverse.T @ S[:d, :d] @ inverse)
    slope = basis.T @ (inverse.T @ S[:d, d])
    sigma2 = growth * max(float(theta[-1]), 0.0)
    theta, slope = theta[slope != 0], slope[slope != 0]
    if np.any(theta >= sigma2):
        raise HypothesisViolated(
            "no sigma1 is finite with the smallest sigma2",
            measured=f"growth = {growth}, and noise that does not vanish at w(λ)",
            required="growth > 1",
            advice="try 2",
        )
    sigma1 = float(S[d, d] + np.sum(slope**2 / (sigma2 - theta)))
    variance = _spectral if matrices == "spectral" else _operator
    return (
        sigma1,
        sigma2,
        variance(phi, lambda one: one.d_w(lam, w).dense()),
        variance(phi, lambda one: one.d_lam(lam, w).dense()),
    )


def _of_upper(upper: Objective, lam: np.ndarray, region: Region) -> tuple[float, float]:
    """sigma1_E and sigma2_E of one draw."""
    _require_affine(upper, lam, ("hess_ww", "cross"))
    w = np.asarray(region.w, dtype=float)
    by_w = _second_moment(upper, lambda one: _beside(one.hess_ww(lam, w).dense(), one.grad_w(lam, w)))
    by_lam = _second_moment(upper, lambda one: _beside(one.cross(lam, w).dense(), one.grad_lam(lam, w)))
    return largest_on_ball(by_w, region.w_radius), largest_on_ball(by_lam, region.w_radius)


def largest_on_ball(S: np.ndarray, radius: float) -> float:
    """max of (uᵀ, 1) S (u, 1) over ‖u‖ <= radius, S >= 0 symmetric, (d + 1, d + 1).

    With the eigenvalues θ of S without its last row and column, p that column's entries in their basis, s its last,
    the Lagrangian dual is D(μ) = s + (θ_max + μ)r² + Σ p_i²/(μ + θ_max − θ_i), μ >= 0. There is no gap, and every D(μ)
    is an upper bound; the least is at Σ p_i²/(μ + θ_max − θ_i)² = r², or at μ = 0 where that sum is below r² there.
    """
    if radius == math.inf:
        if (S[:-1] == 0).all():
            return float(S[-1, -1])
        raise HypothesisViolated(
            "a variance of the upper level's gradient has no maximum over w",
            measured="draws with different second derivatives",
            required="a ball of w (assumption C (iv))",
            advice="pass constants.around(problem, lam, w_star, w0), whose ball holds the iterates",
        )
    theta, basis = np.linalg.eigh(S[:-1, :-1])
    p = basis.T @ S[:-1, -1]
    gap, p = (theta[-1] - theta)[p != 0], p[p != 0]

    def beyond(mu: float) -> bool:
        """Is μ at the minimum or above?"""
        return bool(np.all(mu + gap > 0)) and float(np.linalg.norm(p / (mu + gap))) <= radius

    if radius == 0:
        return float(S[-1, -1])
    low, high = 0.0, 2 * float(np.linalg.norm(p)) / radius
    for _ in range(200):  # to the last digit, or to 0
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    largest = max(float(theta[-1]), 0.0) + high
    return float(S[-1, -1]) + largest * radius**2 + float(np.sum(p**2 / (high + gap)))


def _second_moment(level: Level, f: Drawn) -> np.ndarray:
    """E[DᵀD], D the deviation from the mean."""

    def squares(D: np.ndarray) -> np.ndarray:
        return np.swapaxes(D, -1, -2) @ D

    return _expected(level, f, squares)


def _spectral(level: Level, f: Drawn) -> float:
    """E‖D‖₂²."""

    def squares(D: np.ndarray) -> np.ndarray:
        return np.linalg.norm(D, 2, axis=(-2, -1)) ** 2 if D.size else np.zeros(len(D))

    return float(_expected(level, f, squares))


def _operator(level: Level, f: Drawn) -> float:
    """‖E[DDᵀ]‖₂."""

    def squares(D: np.ndarray) -> np.ndarray:
        return D @ np.swapaxes(D, -1, -2)

    return float(np.linalg.norm(_expected(level, f, squares), 2))


def _expected(level: Level, f: Drawn, g: Drawn) -> np.ndarray:
    """E g(f − E f). f is taken minus its first draw's: where all draws are the same, the deviations are exactly 0."""
    space = level.space
    first = f(level.at(space.points(np.zeros(1, dtype=np.int64))))

    def of(points: Any) -> np.ndarray:
        shifted = f(level.at(points)) - first
        return np.broadcast_to(shifted, (_count(points), *shifted.shape[-2:]))

    mean = expect(space, of)
    return np.asarray(expect(space, lambda points: g(of(points) - mean)))


def _count(points: Any) -> int:
    return _count(points[0]) if isinstance(points, tuple) else len(points)


def _beside(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(A | b), (..., rows, columns + 1)."""
    lead = np.broadcast_shapes(A.shape[:-2], b.shape[:-1])
    return np.concatenate([np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (A, b[..., None])], axis=-1)


def _require_sound(region: Region, growth: float, matrices: str) -> None:
    if region.lam_radius or np.ndim(region.lam) != 1:
        raise BadInput(
            "these constants belong to one λ",
            measured=f"λ of shape {np.shape(region.lam)}, radius {region.lam_radius}",
            required="(n,), radius 0",
            advice="ask at several λ and take the largest of every number",
        )
    if not 1 <= as_number(growth) < math.inf:
        raise BadInput("no sigma1 is finite", measured=growth, required="growth >= 1, finite", advice="try 2")
    if matrices not in ("spectral", "operator"):
        raise BadInput(
            "no such variance of a matrix",
            measured=repr(matrices),
            required="'spectral' or 'operator'",
            advice="the document's is spectral",
        )


def _require_affine(
    level: Level, lam: np.ndarray, jacobians: tuple[str, ...], differences: tuple[str, ...] = ()
) -> None:
    """Over the rationals: drawn Jacobians do not depend on w; of ``differences``, those between draws do not.

    Up to ``TESTED`` draws, w = 0, every unit vector, and along a ray: that decides for Jacobians affine in w.
    """
    B, d = backend("rational"), level.d
    try:
        drawn = level.to(B).at(level.space.points(np.arange(min(level.space.size, TESTED))))
        at = B.asarray(lam)
        rays = [B.asarray([Fraction(k * (7 + i), 3 + 2 * i) for i in range(d)]) for k in (0, 1, -2)]
        rays += [B.asarray(unit) for unit in np.eye(d)]

        def same(name: str, between_draws: bool) -> bool:
            seen = [getattr(drawn, name)(at, w).dense() for w in rays]
            seen = [x - x[:1] if between_draws and x.ndim > 2 else x for x in seen]
            return all(bool((x == seen[0]).all()) for x in seen[1:])

        affine = all(same(name, False) for name in jacobians) and all(
            same(name, True) for name in differences
        )
        why = "a drawn Jacobian that depends on w"
    except BadInput as refusal:
        affine, why = False, refusal.what
    if not affine:
        raise HypothesisViolated(
            "the draws are not affine in w",
            measured=f"{type(level).__name__}: {why}",
            required="affine maps, or descent maps of quadratics; quadratic or linear upper levels",
            advice="bound the variances by hand and write them down: Noise(sigma1=..., ...)",
        )
