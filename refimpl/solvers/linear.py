"""Solvers of the adjoint system A v = b: A = ∇²_ww G, or (I − ∂_wΦ)ᵀ.

All act over leading axes, one system per lane; a lane that has converged stays as it is. The residual that each
returns is the true one, b − A v, recomputed: the one that conjugate gradients update drifts away from it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refimpl.arrays import Backend, factor, factor_spd
from refimpl.arrays.backend import Array
from refimpl.arrays.numbers import require_number
from refimpl.constants import Constants
from refimpl.errors import HypothesisViolated
from refimpl.operators import Operator
from refimpl.solvers.lower import (
    overflow_allowed,
    require_count,
    require_finite,
    require_tolerance,
    steps_taken,
)
from refimpl.solvers.stated import (
    Start,
    condition,
    first_share,
    relative_step,
    relaxed_factor,
    require_square,
    unstated,
)


@dataclass(frozen=True, eq=False)
class LinearSolution:
    """v (..., d), the steps taken, and v_0 … v_steps where they were asked for."""

    v: Array
    check: Callable[[], Array]
    steps: int
    iterates: tuple[Array, ...] = ()

    @property
    def residual(self) -> Array:
        """b − A v (..., d), recomputed when asked for: one product, which is not the solver's."""
        return self.check()


class LinearSolver(ABC):
    """A solver of A v = b from v_0 (the origin by default)."""

    @abstractmethod
    def solve(
        self, a: Operator, b: Array, start: Array | None = None, *, keep: bool = False
    ) -> LinearSolution:
        """Solve; ``keep`` returns every iterate."""

    def sigma(self, constants: Constants, square: Any, *, k: int | None = None, start: Start = "zero") -> Any:
        """σ(k): what E‖v_k − v̄‖² is at most where E‖∇_wĒ_J‖² <= ``square``, in Φ scaling; see ``solvers.stated``.

        square: G² = L_E² + σ_{1,E}/J, ``guarantees.gradient_square``. k: the solver's own number of steps unless given.
        start: v_0 = 0, or ∇_wĒ_J. Exact arithmetic, evaluated. Raises ``HypothesisViolated`` where no rate is proved.
        """
        raise unstated(
            self,
            "none that is proved here",
            "a bound of E‖v_k − v̄‖² from the constants",
            "every solver of refimpl.solvers states one; a class of your own gets one with a method "
            'sigma(constants, square, *, k=None, start="zero")',
        )


def _begin(a: Operator, b: Array, start: Array | None) -> tuple[Array, Array]:
    """v_0 and b − A v_0, in the full leading shape."""
    if start is None:
        residual = a.backend.zeros(()) * (a @ b) + b if a.lead > b.ndim - 1 else b
        return 0 * residual, residual
    residual = b - a @ start
    return start + 0 * residual, residual


def _end(a: Operator, b: Array, v: Array, steps: int, iterates: list[Array]) -> LinearSolution:
    require_finite(a.backend, v, f"the adjoint iterate after {steps} steps")
    return LinearSolution(v, lambda: b - a @ v, steps, tuple(iterates))


def _any(B: Backend, condition: Any) -> bool:
    return bool(B.xp.any(condition)) if getattr(condition, "ndim", 0) else bool(condition)


def _column(x: Any) -> Array:
    """One number per lane, with a vector axis to multiply by."""
    return x[..., None] if getattr(x, "ndim", 0) else x


@dataclass(frozen=True)
class ConjugateGradient(LinearSolver):
    """Conjugate gradients for symmetric positive definite A (Hestenes and Stiefel 1952).

    Stops after ``steps``, or when ‖residual‖ <= tol ‖b‖, at the latest at eps² ‖b‖, below which only underflow is
    left. The A-norm of the error decreases at every step, by 2((√κ−1)/(√κ+1))^k in all, and it is 0 after as many
    steps as there are distinct eigenvalues of A represented in b; the residual need not decrease. Refuses a
    direction of non-positive curvature.
    """

    steps: int = 1000
    tol: float = 0.0

    def __post_init__(self) -> None:
        require_count(self.steps, "steps")
        require_tolerance(self.tol)

    def solve(
        self, a: Operator, b: Array, start: Array | None = None, *, keep: bool = False
    ) -> LinearSolution:
        if not a.symmetric:
            raise HypothesisViolated(
                "conjugate gradients need a symmetric matrix",
                measured="an operator not known to be symmetric (the Jacobian of a fixed-point map)",
                required="A = Aᵀ, positive definite",
                advice="use NormalCG, FixedPointAdjoint or LU",
            )
        B = a.backend
        x, r = _begin(a, b, start)
        p, rr = r, B.dot(r, r)
        enough = B.scalar(self.tol) ** 2 * B.dot(b, b) + B.scalar(B.eps) ** 4 * B.dot(b, b)
        iterates = [x] if keep else []
        k = 0
        while k < self.steps:
            active = rr > enough
            if not _any(B, active):
                break
            # 1 in the lanes that go on, 0 in those that stay; a single system goes on
            on = B.where(active, 0 * rr + 1, 0 * rr) if getattr(rr, "ndim", 0) else 1
            ap = a @ p
            curvature = B.dot(p, ap)
            _require_positive(B, curvature, active, p)
            step = _column(on * rr / (on * curvature + (1 - on)))
            x = x + step * p
            r = r - step * ap
            new = B.dot(r, r)
            p = r + _column(on * new / (on * rr + (1 - on))) * p
            rr = new
            k += 1
            if keep:
                iterates.append(x)
        return _end(a, b, x, k, iterates)

    def sigma(self, constants: Constants, square: Any, *, k: int | None = None, start: Start = "zero") -> Any:
        """4κ((√κ−1)/(√κ+1))^{2k} κ_q²G², κ = (1 + q)/(1 − q), of a symmetric system; at least tol²κ_q²G²."""
        require_square(square)
        root = math.sqrt(condition(constants))
        factor, k = (root - 1) / (root + 1), steps_taken(k, self.steps)
        falls = 4 * root**2 * factor ** (2 * k) * first_share(self, constants, start)
        return max(falls, self.tol**2) * constants.kappa_q**2 * square


def _require_positive(B: Backend, curvature: Array, active: Array, p: Array) -> None:
    bad = active & ~(curvature > 0) if not B.exact else active & (curvature <= 0)
    if _any(B, bad):
        pp = B.dot(p, p)
        lowest = float(B.xp.min(B.where(active, curvature / B.where(active, pp, 0 * pp + 1), 0 * pp)))
        raise HypothesisViolated(
            "the matrix is not positive definite",
            measured=f"curvature pᵀAp/pᵀp = {lowest:.3e} along a conjugate direction",
            required="> 0",
            advice="the lower level is not strongly convex here; NormalCG solves indefinite invertible systems",
        )


@dataclass(frozen=True)
class NormalCG(LinearSolver):
    """Conjugate gradients on AᵀA v = Aᵀb: for non-symmetric or indefinite A; condition κ², a waste for SPD ones.

    Stops after ``steps``, or when ‖Aᵀ(b − Av)‖ <= tol ‖Aᵀb‖. Two products per step.
    """

    steps: int = 1000
    tol: float = 0.0

    def __post_init__(self) -> None:
        require_count(self.steps, "steps")
        require_tolerance(self.tol)

    def solve(
        self, a: Operator, b: Array, start: Array | None = None, *, keep: bool = False
    ) -> LinearSolution:
        normal = Operator(
            a.backend, a.shape, lambda v: a.T @ (a @ v), lambda v: a.T @ (a @ v), a.lead, symmetric=True
        )
        found = ConjugateGradient(self.steps, self.tol).solve(normal, a.T @ b, start, keep=keep)
        return _end(a, b, found.v, found.steps, list(found.iterates))

    def sigma(self, constants: Constants, square: Any, *, k: int | None = None, start: Start = "zero") -> Any:
        """4κ²q^{2k} κ_q²G², κ = (1 + q)/(1 − q), of any system; at least tol²κ²κ_q²G².

        Conjugate gradients for AᵀA, of condition κ²: (κ − 1)/(κ + 1) = q, and ‖A(v_k − v̄)‖ is what decreases.
        """
        require_square(square)
        kappa, k = condition(constants), steps_taken(k, self.steps)
        falls = 4 * constants.q ** (2 * k) * first_share(self, constants, start)
        return max(falls, self.tol**2) * kappa**2 * constants.kappa_q**2 * square


@dataclass(frozen=True)
class Neumann(LinearSolver):
    """v = η Σ_{i<K} (I − ηA)^i b: K = ``terms`` terms, K − 1 products, the step η on every term.

    Error <= (1 − ημ)^K ‖b‖/μ for μI <= A <= LI, 0 < η <= 2/(L + μ). From v_0: K steps of v ← v + η(b − A v).
    """

    terms: int
    step: float

    def __post_init__(self) -> None:
        require_count(self.terms, "terms")
        require_number(self.step, "step", "0 is no step: take step below 2/L")

    def solve(
        self, a: Operator, b: Array, start: Array | None = None, *, keep: bool = False
    ) -> LinearSolution:
        eta = a.backend.scalar(self.step)
        v, term = _begin(a, b, start)
        iterates = [v] if keep else []
        with overflow_allowed():
            for i in range(self.terms):
                if i:
                    term = term - eta * (a @ term)
                v = v + eta * term
                if keep:
                    iterates.append(v)
        return _end(a, b, v, self.terms, iterates)

    def sigma(self, constants: Constants, square: Any, *, k: int | None = None, start: Start = "zero") -> Any:
        """(|1 − η| + ηq)^{2k} κ_q²G², η = step/s."""
        require_square(square)
        factor = relaxed_factor(self, constants, relative_step(constants, self.step))
        share = factor ** (2 * steps_taken(k, self.terms)) * first_share(self, constants, start)
        return share * constants.kappa_q**2 * square


@dataclass(frozen=True)
class FixedPointAdjoint(LinearSolver):
    """v ← ∂_wΦᵀ v + ∇_wF, ``steps`` times (contraction, (7) with η = 1): Neumann for A = (I − ∂_wΦ)ᵀ with step 1."""

    steps: int

    def __post_init__(self) -> None:
        require_count(self.steps, "steps")

    def solve(
        self, a: Operator, b: Array, start: Array | None = None, *, keep: bool = False
    ) -> LinearSolution:
        return Neumann(self.steps, 1).solve(a, b, start, keep=keep)

    def sigma(self, constants: Constants, square: Any, *, k: int | None = None, start: Start = "zero") -> Any:
        """That of Neumann with step 1: q^{2k}κ_q²G² for a map."""
        return Neumann(self.steps, 1).sigma(constants, square, k=k, start=start)


@dataclass(frozen=True)
class Cholesky(LinearSolver):
    """Dense factorisation of a symmetric positive definite A: exact up to rounding. d³/3 operations."""

    def solve(
        self, a: Operator, b: Array, start: Array | None = None, *, keep: bool = False
    ) -> LinearSolution:
        if not a.symmetric:
            raise HypothesisViolated(
                "Cholesky needs a symmetric matrix",
                measured="an operator not known to be symmetric",
                required="A = Aᵀ, positive definite",
                advice="use LU",
            )
        v = factor_spd(a.backend, a.dense()).solve(b)
        return _end(a, b, v, 1, [v] if keep else [])

    def sigma(self, constants: Constants, square: Any, *, k: int | None = None, start: Start = "zero") -> Any:
        """0, whatever k and v_0 are."""
        require_square(square)
        return 0 * square


@dataclass(frozen=True)
class LU(LinearSolver):
    """Dense factorisation of any invertible A: exact up to rounding. 2d³/3 operations."""

    def solve(
        self, a: Operator, b: Array, start: Array | None = None, *, keep: bool = False
    ) -> LinearSolution:
        v = factor(a.backend, a.dense()).solve(b)
        return _end(a, b, v, 1, [v] if keep else [])

    def sigma(self, constants: Constants, square: Any, *, k: int | None = None, start: Start = "zero") -> Any:
        """0, whatever k and v_0 are."""
        require_square(square)
        return 0 * square
