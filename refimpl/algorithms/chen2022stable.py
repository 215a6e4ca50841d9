"""STABLE: T. Chen, Y. Sun, Q. Xiao, W. Yin, "A single-timescale method for stochastic bilevel optimization", 2022.

    C⁺ = P_{‖·‖ ≤ r}[∇²_λwG(λ, w; ζ) + (1 − τ_k)(C − ∇²_λwG(λ_prev, w_prev; ζ))]
    H⁺ = P_{· ⪰ μI}[∇²_wwG(λ, w; ζ) + (1 − τ_k)(H − ∇²_wwG(λ_prev, w_prev; ζ))]
    h = ∇_λF(λ, w; ξ) − C⁺ (H⁺)⁻¹ ∇_wF(λ, w; ξ)
    λ⁺ = P_Λ(λ − α_k h)
    w⁺ = w − β_k ∇_wG(λ, w; ζ′) − (H⁺)⁻¹ (C⁺)ᵀ (λ⁺ − λ)

One ζ serves both matrices at both points, one ξ both gradients of F. The last term makes w follow w(λ), whose
derivative is −H⁻¹Cᵀ. C and H are kept as projected; in the first iteration, and at τ_k = 1, nothing is kept: they are
P[∇²_λwG(λ, w; ζ)] and P[∇²_wwG(λ, w; ζ)].
Samples: two draws of the lower level, one of the upper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from refimpl.algorithms.matrices import at_least, at_most, flat, rows
from refimpl.algorithms.pieces import Scheduled, constant, moved, require_state
from refimpl.algorithms.protocol import State
from refimpl.algorithms.storm import storm
from refimpl.arrays import factor_spd
from refimpl.arrays.backend import Array
from refimpl.draws import Draws
from refimpl.problem import BilevelProblem
from refimpl.rates import Power
from refimpl.solvers.lower import require_positive
from refimpl.spaces import Product

ROOT = Power(1.0, 1 / 2)


@dataclass(frozen=True, eq=False)
class STABLEState(State):
    """Also C (..., n d) and H (..., d d), flattened, 0 before the first iteration; and the λ and w before."""

    cross: Array
    hess: Array
    lam_prev: Array
    w_prev: Array


@dataclass(frozen=True, kw_only=True)
class STABLE(Scheduled):
    """mu: strong convexity of G; radius: r >= ‖∇²_λwG‖, None projects nothing. α, β, τ are Θ(N^(−1/2)) in the paper.

    τ_k is capped at 1. Over the rationals a projection that has something to do is refused (``BadInput``): its result
    is irrational.
    Cost of an iteration: ∇_wG, ∇_wF, ∇_λF; two (in the first: one) assembled Hessians and cross derivatives, an
    eigendecomposition, with a radius singular values, a Cholesky factorisation and two solves.
    """

    mu: Any
    radius: Any = None
    alpha: Any = ROOT
    beta: Any = ROOT
    tau: Any = ROOT

    source: ClassVar[str] = "Chen, Sun, Xiao, Yin, AISTATS 2022"
    warm_start: ClassVar[tuple[bool, bool]] = (True, False)
    linear_system: ClassVar[str] = "inversion"
    rates: ClassVar[tuple[str, ...]] = ("alpha", "beta", "tau")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self.mu, "mu", "a modulus of strong convexity of the lower level")
        if self.radius is not None:
            require_positive(self.radius, "radius", "a bound of ‖∇²_λwG‖; None projects nothing")

    @property
    def constant_from(self) -> int | None:
        return 1 if constant(self.alpha, self.beta, self.tau) else None

    @property
    def affine(self) -> str | None:
        return "inverts an estimate of the Hessian"

    def init(self, problem: BilevelProblem, lam: Any, w: Any = None) -> STABLEState:
        state, zeros = super().init(problem, lam, w), problem.backend.zeros
        n, d = problem.n, problem.d
        return STABLEState(0, state.lam, state.w, zeros((n * d,)), zeros((d * d,)), state.lam, state.w)

    def space(self, problem: BilevelProblem, k: int = 0) -> Product:
        """(ζ of the matrices, ζ′ of ∇_wG, ξ); the same for every k."""
        del k
        lower, upper = Draws(problem.lower, self.lower_batch), Draws(problem.upper, self.upper_batch)
        return Product((lower.space, lower.space, upper.space))

    def step(self, problem: BilevelProblem, state: Any, sample: Any) -> STABLEState:
        state = require_state(state, STABLEState, self)
        B, k, lam, w = problem.backend, state.k, state.lam, state.w
        lower, upper = Draws(problem.lower, self.lower_batch), Draws(problem.upper, self.upper_batch)
        G, G_w, F = lower.at(sample[0]), lower.at(sample[1]), upper.at(sample[2])

        cross, hess = G.cross(lam, w).dense(), G.hess_ww(lam, w).dense()
        if k > 0:
            before, tau = (state.lam_prev, state.w_prev), B.scalar(min(1, self.tau(k)))
            cross = storm(cross, G.cross(*before).dense(), rows(B, state.cross, problem.d), tau)
            hess = storm(hess, G.hess_ww(*before).dense(), rows(B, state.hess, problem.d), tau)
        cross, hess = at_most(B, cross, self.radius), at_least(B, hess, self.mu)

        inverse = factor_spd(B, hess)
        h = F.grad_lam(lam, w) - B.matvec(cross, inverse.solve(F.grad_w(lam, w)))
        new_lam = moved(problem, lam, self.alpha(k), h)
        follow = inverse.solve(B.rmatvec(cross, new_lam - lam))
        new_w = w - B.scalar(self.beta(k)) * G_w.grad_w(lam, w) - follow
        return STABLEState(k + 1, new_lam, new_w, flat(B, cross), flat(B, hess), lam, w)
