"""Newton's method on r(λ, w) = 0 with a line search: direct (Newton) or with inner conjugate gradients (Newton-CG)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refimpl.arrays import factor, factor_spd
from refimpl.arrays.backend import Array
from refimpl.constants import Constants
from refimpl.errors import NotConverged
from refimpl.problem import Problem
from refimpl.solvers.linear import ConjugateGradient, NormalCG
from refimpl.solvers.lower import LowerSolver, Run, require_count, require_tolerance, steps_taken
from refimpl.solvers.stated import require_constant_jacobian, unstated

ARMIJO = 10_000  # a step must give 1/ARMIJO of the decrease that Newton's model predicts
HALVINGS = 30


@dataclass(frozen=True)
class Newton(LowerSolver):
    """w ← w − t (∂_w r)⁻¹ r with t halved until ‖r‖² decreases; stops when max |r_i| <= tol, or after ``steps``."""

    tol: float = 1e-10
    steps: int = 50

    def __post_init__(self) -> None:
        require_count(self.steps, "steps")
        require_tolerance(self.tol)

    def direction(self, problem: Problem, lam: Array, w: Array, r: Array) -> Array:
        """The Newton direction −(∂_w r)⁻¹ r."""
        fact = factor_spd if problem.symmetric else factor
        return fact(problem.backend, problem.residual_w(lam, w).dense()).solve(-r)

    def rho(self, constants: Constants, *, t: int | None = None) -> Any:
        """0 after a step, of a quadratic G or an affine map, with tol = 0; B² before."""
        require_constant_jacobian(self, constants)
        if self.tol > 0:
            raise unstated(
                self,
                f"tol = {float(self.tol):.3g}: it stops where the residual is so small, short of w(λ)",
                "tol = 0",
                "Newton(tol=0, steps=1) is all that a quadratic G needs",
            )
        return 0 * constants.B if steps_taken(t, self.steps) else constants.B**2

    def run(self, problem: Problem, lam: Array, w0: Array, *, keep: int | None = 0) -> Run:
        B = problem.backend
        r = problem.residual(lam, w0)
        w, states = w0 + 0 * r, [w0]
        for k in range(self.steps):
            done = _largest(B, r) <= B.scalar(self.tol)
            if bool(B.xp.all(done)):
                return Run(w, k, _last(states, keep))
            w, r = line_search(problem, lam, w, r, self.direction(problem, lam, w, r), done)
            states.append(w)
            if keep is not None:
                del states[: -keep - 1]
        return Run(w, self.steps, _last(states, keep))


@dataclass(frozen=True)
class NewtonCG(Newton):
    """Newton with the system solved by conjugate gradients to max(min(0.1, ρ), 0.1 tol/ρ), ρ = max |r_i|.

    The tightening tolerance keeps superlinear convergence without solving early systems needlessly well
    (R. Dembo, S. Eisenstat, T. Steihaug 1982). CG on the normal equations for a fixed-point problem.
    """

    def direction(self, problem: Problem, lam: Array, w: Array, r: Array) -> Array:
        size = max(float(problem.backend.xp.max(_largest(problem.backend, r))), self.tol, 1e-300)
        relative = max(min(0.1, size), 0.1 * self.tol / size)
        inner = (ConjugateGradient if problem.symmetric else NormalCG)(10 * problem.d, relative)
        return inner.solve(problem.residual_w(lam, w), -r).v

    def rho(self, constants: Constants, *, t: int | None = None) -> Any:
        """None is proved here: the systems are not solved to the end."""
        return LowerSolver.rho(self, constants, t=t)


def _largest(B: Any, r: Array) -> Array:
    return B.xp.max(B.xp.abs(r), axis=-1)


def _last(states: list[Array], keep: int | None) -> tuple[Array, ...]:
    return tuple(states if keep is None else states[-keep - 1 :])


def line_search(
    problem: Problem, lam: Array, w: Array, r: Array, p: Array, done: Array
) -> tuple[Array, Array]:
    """w + t p and its residual, t halved separately in every lane until ‖r‖² decreases by Armijo's share.

    Lanes that are ``done`` stay where they are. Where no t helps, ``NotConverged``.
    """
    B, xp = problem.backend, problem.backend.xp
    before = B.dot(r, r)
    t = B.where(done, 0 * before, 0 * before + 1)
    for _ in range(HALVINGS):
        trial = w + t[..., None] * p
        r_trial = problem.residual(lam, trial)
        enough = done | (B.dot(r_trial, r_trial) <= (1 - 2 * t / ARMIJO) * before)
        if bool(xp.all(enough)):
            return trial, r_trial
        t = B.where(enough, t, t / 2)
    if not bool(xp.all(xp.isfinite(before))):
        raise NotConverged(
            "the lower-level residual is not finite",
            measured=f"‖r‖ = {float(xp.max(B.norm(r)))}",
            required="a finite gradient at the starting point",
            advice="start where G is defined, or look for an overflow in λ",
        )
    raise NotConverged(
        "no step along the Newton direction decreases the residual",
        measured=f"‖r‖ = {float(xp.max(B.norm(r))):.3e} after {HALVINGS} halvings",
        required="a decrease of ‖r‖²",
        advice="loosen tol if the residual is at its rounding floor; else the Jacobian is not that of r: "
        "check_derivatives",
    )
