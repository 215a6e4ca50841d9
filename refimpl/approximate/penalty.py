"""Penalty method and augmented Lagrangian: hypergradients without a linear system, at a fixed λ.

min over w of F(λ, w) subject to ∇_wG(λ, w) = 0 (reweighting, (18)), by (reweighting, (19), (21))

    φ(w) = F(λ, w) − vᵀ∇_wG(λ, w) + (μ/2)‖∇_wG(λ, w)‖²;    v ← v − μ∇_wG(λ, w) at its minimiser.

With v₊ = v − μ∇_wG, ∇φ = ∇_wF − ∇²_wwG v₊ and ∂φ/∂λ = ∇_λF − ∇²_λwG v₊: where ∇φ = 0, v₊ solves the adjoint system
exactly and ∂φ/∂λ is the hypergradient's formula there; what is left is that ∇_wG = −(v₊ − v)/μ is not 0.

In the variable y = ∇_wG, F has the Hessian S = H⁻¹(∇²_wwF − Σ_j v_j ∇³_wwG_j)H⁻¹, H = ∇²_wwG, v = H⁻¹∇_wF; S = H⁻¹QH⁻¹,
Q = ∇²_wwF, where ∇_wG is affine in w. All rates are about S: it may be indefinite even where F is convex.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refimpl.approximate.result import (
    Approximation,
    errors_against,
    finished,
    reference,
    require_solvers,
    start_point,
)
from refimpl.arrays import factor_spd, to_numpy
from refimpl.arrays.backend import Array
from refimpl.combined import Combined
from refimpl.counting import counted
from refimpl.errors import BadInput, HypothesisViolated, NotConverged
from refimpl.operators import Operator
from refimpl.problem import BilevelProblem, Problem
from refimpl.solvers import Cholesky, LinearSolver
from refimpl.solvers.lower import overflow_allowed, require_count, require_finite, require_positive
from refimpl.solvers.newton import ARMIJO, HALVINGS


@dataclass(frozen=True, eq=False)
class AugmentedLagrangian:
    """φ(w) = F − vᵀ∇_wG + (μ/2)‖∇_wG‖² at (λ, w); v = 0 is the penalty function."""

    problem: BilevelProblem
    lam: Array
    v: Array
    mu: Any

    def multiplier(self, w: Array) -> Array:
        """v₊ = v − μ∇_wG."""
        return self.v - self.mu * self.problem.lower.grad_w(self.lam, w)

    def value(self, w: Array) -> Array:
        B, slope = self.problem.backend, self.problem.lower.grad_w(self.lam, w)
        return self.problem.upper.value(self.lam, w) + B.dot(slope, self.mu * slope / 2 - self.v)

    def grad(self, w: Array) -> Array:
        """∇φ = ∇_wF − ∇²_wwG v₊: one product with the Hessian."""
        upper, lower = self.problem.upper, self.problem.lower
        return upper.grad_w(self.lam, w) - lower.hess_ww(self.lam, w) @ self.multiplier(w)

    def gauss_newton(self, w: Array) -> Operator:
        """∇²_wwF + μ(∇²_wwG)²: φ's Hessian where ∇_wG is affine in w; else it lacks −Σ_j v₊_j ∇³_wwG_j."""
        B = self.problem.backend
        Q, H = self.problem.upper.hess_ww(self.lam, w), self.problem.lower.hess_ww(self.lam, w)

        def apply(x: Array) -> Array:
            return Q @ x + self.mu * (H @ (H @ x))

        def assemble() -> Array:
            return Q.dense() + self.mu * (H.dense() @ H.dense())

        d = self.problem.d
        return Operator(B, (d, d), apply, apply, max(Q.lead, H.lead), assemble, symmetric=True)


class Inner(ABC):
    """A method that minimises φ over w, from a starting point."""

    @abstractmethod
    def minimise(self, phi: AugmentedLagrangian, w: Array) -> Array:
        """The last iterate; its ‖∇φ‖ is the result's ``residual_adjoint``."""


@dataclass(frozen=True)
class InnerDescent(Inner):
    """w ← w − step ∇φ, ``steps`` times: per step ∇_wF, ∇_wG and one product with the Hessian.

    On quadratics it converges for step < 2/(L_F + μL_G²) where Q + μH² is positive definite. ‖∇φ‖ <= ε at the end costs
    the multiplier at most ε/m, m the least eigenvalue of H: v₊ = H⁻¹(∇_wF − ∇φ).
    """

    steps: int
    step: Any

    def __post_init__(self) -> None:
        require_count(self.steps, "steps")
        require_positive(self.step, "step", "take a step below 2/(L_F + mu L_G²)")

    def minimise(self, phi: AugmentedLagrangian, w: Array) -> Array:
        step = phi.problem.backend.scalar(self.step)
        with overflow_allowed():
            for _ in range(self.steps):
                w = w - step * phi.grad(w)
        require_finite(phi.problem.backend, w, f"φ's descent after {self.steps} steps")
        return w


@dataclass(frozen=True)
class InnerGaussNewton(Inner):
    """w ← w − τ(∇²_wwF + μ(∇²_wwG)²)⁻¹∇φ, τ = 1, 1/2, … until φ decreases: at most ``steps`` times.

    One step is exact where F is quadratic and ∇_wG affine in w (over the rationals take it there only). Ends where ‖∇φ‖
    decreases no further: to rounding where F is convex and the minimiser is near. linear: how the step's system is
    solved, ``Cholesky`` or conjugate gradients. ``HypothesisViolated`` where its matrix is not positive definite.
    """

    steps: int = 100
    linear: LinearSolver = field(default_factory=Cholesky)

    def __post_init__(self) -> None:
        require_count(self.steps, "steps", least=1)
        require_solvers(self.linear, LinearSolver)

    def minimise(self, phi: AugmentedLagrangian, w: Array) -> Array:
        B, slope = phi.problem.backend, phi.grad(w)
        w = w + 0 * slope
        for _ in range(self.steps):
            if B.exact and not bool((slope != 0).any()):
                break
            try:
                direction = self.linear.solve(phi.gauss_newton(w), slope).v
            except HypothesisViolated as e:
                raise HypothesisViolated(
                    "the penalised problem is not convex here: no Gauss-Newton step",
                    measured=e.measured,
                    required="∇²_wwF + μ(∇²_wwG)² positive definite",
                    advice="take a larger mu, or a w0 nearer a solution of the lower level",
                ) from None
            w, slope, moved = _searched(phi, w, slope, direction)
            if not moved:
                break
        return w


def _searched(
    phi: AugmentedLagrangian, w: Array, slope: Array, direction: Array
) -> tuple[Array, Array, bool]:
    """w − τ direction, its ∇φ, and whether any lane moved: τ is halved separately in every lane.

    A step counts where φ decreases by Armijo's share. Where that share is below φ's rounding only the whole step is
    tried, and it must decrease ‖∇φ‖: the steps gain a fixed factor there, which may be near 1, so no less ends them.
    """
    B = phi.problem.backend
    before, gain, size = phi.value(w), B.dot(slope, direction), B.dot(slope, slope)
    rounding = 0 * gain if B.exact else 10 * phi.problem.d * B.eps * (1 + B.xp.abs(before))
    flat = gain <= ARMIJO * rounding
    t = 0 * gain + 1
    for _ in range(HALVINGS):
        trial = w - (t[..., None] if getattr(t, "ndim", 0) else t) * direction
        after, there = phi.value(trial), phi.grad(trial)
        enough = B.where(flat, B.dot(there, there) < size, after <= before - t * gain / ARMIJO)
        if bool(B.xp.all(enough | flat)):
            break
        t = B.where(enough | flat, t, t / 2)
    moved = enough[..., None] if getattr(enough, "ndim", 0) else enough
    return B.where(moved, trial, w), B.where(moved, there, slope), bool(B.xp.any(enough))


def augmented_lagrangian(
    problem: Problem,
    lam: Any,
    *,
    mu: Any,
    steps: int,
    inner: Inner | None = None,
    w0: Any = None,
    v0: Any = None,
    exact: Any = None,
    check: bool = True,
) -> Approximation:
    """∇_λF − ∇²_λwG v_K at w_K after K = ``steps`` multiplier updates v ← v − μ∇_wG (reweighting, (21)).

    After every update v is the adjoint H⁻¹∇_wF at that w (H = ∇²_wwG, Q = ∇²_wwF; S as above). On quadratics v's error
    is multiplied by S(S + μI)⁻¹, that is (I + μ H Q⁻¹ H)⁻¹ where Q is invertible: at once 0 where F is affine in w. φ
    is strictly convex for Q + μH² ≻ 0, but the updates converge (from every v0) only for Q + (μ/2)H² ≻ 0: at every μ
    where F is convex. On others they do for μ > 2 s, S ⪰ −sI, and near the solution iff S + (μ/2)I ≻ 0; a fixed μ may
    diverge though F is affine. (This μ is no strong convexity constant.)

    inner : minimises φ in every update; ``InnerGaussNewton()`` by default, to rounding.
    w0, v0 : where the first update begins; the origin. Where G is not convex take w0 from a lower solver.
    exact : an ``exact_hypergradient`` (or its value) asks for ``curve``, the error after 1 … K updates.
    check : whether H is factorised at w_K: ∇_wG = 0 also admits maximisers of G (reweighting, (18)), near which φ has
        minimisers too. What passes is near a strict local minimiser of G, no more.

    residual_adjoint is ‖∇φ‖, what the last inner minimisation left; residual_lower tells divergence. Raises
    ``HypothesisViolated`` where φ's matrix ∇²_wwF + μH² (InnerGaussNewton) or H is not positive definite, ``BadInput``,
    ``NotConverged`` where the iterates overflow. Cost: that of ``inner``, a gradient ∇_wG per update, a product with
    ∇²_λwG; check: H as a matrix, and d³/3.

    >>> import refimpl as ri
    >>> problem = ri.zoo.quadratic.random(n=2, d=3, seed=0)
    >>> lam = problem.start()
    >>> near = augmented_lagrangian(problem, lam, mu=100.0, steps=20)
    >>> bool(abs(near.value - ri.exact_hypergradient(problem, lam).value).max() < 1e-12)
    True
    """
    require_count(steps, "steps", least=1)
    require_positive(mu, "mu", "mu = 10/L_G² is a start; the larger, the fewer updates and the harder each")
    inner = InnerGaussNewton() if inner is None else inner
    require_solvers(inner, Inner)
    problem = _require_objective(problem, "the constraint ∇_wG = 0")
    lam, exact = problem.lam(lam), reference(problem, exact)
    w, _ = start_point(problem, lam, w0)
    v = problem.w(v0)
    watched, tally = counted(problem)
    assert isinstance(watched, BilevelProblem)
    values = []
    for k in range(steps):
        phi = AugmentedLagrangian(watched, lam, v, problem.backend.scalar(mu))
        with overflow_allowed():
            w = inner.minimise(phi, w)
            v = phi.multiplier(w)
            size = problem.backend.dot(v, v)  # φ holds squares: they overflow first
        if not problem.backend.exact and not bool(problem.backend.xp.all(problem.backend.xp.isfinite(size))):
            raise NotConverged(
                "the multiplier's updates diverged",
                measured=f"‖v‖² is not finite after update {k + 1}",
                required="∇²_wwF + (μ/2)(∇²_wwG)² positive definite, where G is quadratic",
                advice="take a larger mu; where the first update overflows, a smaller one",
            )
        if exact is not None:
            values.append(problem.hypergradient_at(lam, w, v))
    if check:
        _require_minimum(problem, lam, w)
    value = watched.hypergradient_at(lam, w, v)
    left = problem.upper.grad_w(lam, w) - problem.lower.hess_ww(lam, w) @ v
    curve = None if exact is None else errors_against(problem, exact, problem.backend.xp.stack(values))
    return finished(problem, lam, value, w, tally, v=v, adjoint_residual=left, curve=curve)


def _require_objective(problem: Any, what: str) -> BilevelProblem:
    if isinstance(problem, BilevelProblem):
        return problem
    raise BadInput(
        f"{what} needs a lower objective",
        measured=type(problem).__name__,
        required="BilevelProblem",
        advice="approximate.implicit takes fixed-point problems",
    )


def _require_minimum(problem: BilevelProblem, lam: Array, w: Array) -> None:
    """∇²_wwG positive definite at (λ, w), in every lane."""
    hessian = problem.lower.hess_ww(lam, w).dense()
    try:
        factor_spd(problem.backend, hessian)
    except HypothesisViolated:
        least = float(np.linalg.eigvalsh(to_numpy(hessian).astype(np.float64))[..., 0].min())
        raise HypothesisViolated(
            "the penalised problem ended where the lower level has no strict minimum",
            measured=f"smallest eigenvalue of ∇²_wwG {least:.6g}",
            required="> 0: ∇_wG = 0 admits maximisers and saddle points too",
            advice="begin at a lower solution, w0=..., or take a convex lower level; check=False passes flat ones",
        ) from None


def penalty(
    problem: Problem,
    lam: Any,
    *,
    gamma: Any,
    inner: Inner | None = None,
    w0: Any = None,
    check: bool = True,
) -> Approximation:
    """The hypergradient's formula at a minimiser of F + (γ/2)‖∇_wG‖² (reweighting, (18)–(20)): one update from v = 0.

    At every stationary point v = −γ∇_wG solves the adjoint system there exactly, value is the derivative of
    λ ↦ min_w F + (γ/2)‖∇_wG‖², and ‖w − w(λ)‖ <= ‖∇_wF(λ, w)‖/(γm²) for G m-strongly convex in w. Exact for every γ
    where F is affine in w, ∇_λF free of w and G quadratic. Small γ may leave several stationary points. Errors, cost,
    and ``check`` as for :func:`augmented_lagrangian`; ‖∇_wG‖ = ‖v‖/γ is the result's ``residual_lower``.

    The error falls like 1/γ, while v = −γ∇_wG magnifies the rounding of ∇_wG to about γ eps: of levels of the order of
    1 the best γ is about eps^(−1/2), 10⁸ in float64, and about half of the digits are right.
    """
    require_positive(gamma, "gamma", "gamma = 1e4 is a start; the error falls like 1/gamma")
    return augmented_lagrangian(problem, lam, mu=gamma, steps=1, inner=inner, w0=w0, check=check)


def tikhonov(problem: BilevelProblem, eps: Any) -> BilevelProblem:
    """The problem whose lower level is G + εF (improved-bilevel, (12)): strongly convex where F is.

    Its solution tends to w_λ = argmin of F over Argmin G as ε → 0, on quadratics with an error of O(ε); so does its
    ``exact_hypergradient`` where the rank of ∇²_wwG is constant. Its condition number grows like 1/ε.
    """
    require_positive(eps, "eps", "eps = 1e-6 ‖∇²_wwG‖/‖∇²_wwF‖ loses about six digits to conditioning")
    B = _require_objective(problem, "G + εF").backend
    return problem.with_level(Combined(B.scalar(1), problem.lower, B.scalar(eps), problem.upper, B))
