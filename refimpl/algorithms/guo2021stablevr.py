"""STABLE-VR, that is SVRB: Z. Guo, T. Yang, "Randomized stochastic variance-reduced methods for … bilevel …", 2021.

    u, v, C, H, q: STORM's estimates of ∇_λF, ∇_wF, ∇²_λwG, ∇²_wwG, ∇_wG at (λ, w), that is, of each X,
        x⁺ = X(λ, w; s) + (1 − a_k)(x − X(λ_prev, w_prev; s)),  in the first iteration X(λ, w; s);  H is projected: ⪰ μI
    λ⁺ = P_Λ(λ − α η_k (u⁺ − C⁺ (H⁺)⁻¹ v⁺))
    w⁺ = w − β η_k q⁺                                                                    both from the old (λ, w)

with a_k = min(1, c η_{k−1}²). Samples: ξ for u and v, ζ for C and H, ζ′ for q: two draws of the lower level, one of
the upper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from refimpl.algorithms.matrices import at_least, flat, rows
from refimpl.algorithms.pieces import Scheduled, capped, constant, moved, require_state
from refimpl.algorithms.protocol import State
from refimpl.algorithms.storm import storm
from refimpl.arrays import solve_spd
from refimpl.arrays.backend import Array
from refimpl.draws import Draws
from refimpl.problem import BilevelProblem
from refimpl.rates import Power
from refimpl.solvers.lower import require_positive
from refimpl.spaces import Product

CUBE_ROOT = Power(1.0, 1 / 3)


@dataclass(frozen=True, eq=False)
class STABLEVRState(State):
    """Also the five estimates, matrices flattened, 0 before the first iteration; and the λ and w before."""

    f_lam: Array
    f_w: Array
    cross: Array
    hess: Array
    g_w: Array
    lam_prev: Array
    w_prev: Array


@dataclass(frozen=True, kw_only=True)
class STABLEVR(Scheduled):
    """mu: strong convexity of G. alpha, beta, c: numbers; eta: η_k ∝ (m + k)^(−1/3).

    Over the rationals a projection that has something to do is refused (``BadInput``): its result is irrational.
    Cost of an iteration: two each (in the first: one) of ∇_λF, ∇_wF, ∇_wG, assembled Hessians and cross derivatives;
    an eigendecomposition, a Cholesky factorisation and a solve.
    """

    mu: Any
    alpha: Any
    beta: Any
    c: Any = 1.0
    eta: Any = CUBE_ROOT

    source: ClassVar[str] = "Guo, Yang, arXiv 2021"
    warm_start: ClassVar[tuple[bool, bool]] = (True, False)
    linear_system: ClassVar[str] = "inversion"
    rates: ClassVar[tuple[str, ...]] = ("eta",)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self.mu, "mu", "a modulus of strong convexity of the lower level")
        for name in ("alpha", "beta", "c"):
            require_positive(getattr(self, name), name, "it multiplies η_k, or for the momentum η_{k−1}²")

    @property
    def constant_from(self) -> int | None:
        return 1 if constant(self.eta) else None

    @property
    def affine(self) -> str | None:
        return "inverts an estimate of the Hessian"

    def init(self, problem: BilevelProblem, lam: Any, w: Any = None) -> STABLEVRState:
        state, zeros = super().init(problem, lam, w), problem.backend.zeros
        n, d = problem.n, problem.d
        u, v, cross, hess, q = (zeros((size,)) for size in (n, d, n * d, d * d, d))
        return STABLEVRState(0, state.lam, state.w, u, v, cross, hess, q, state.lam, state.w)

    def space(self, problem: BilevelProblem, k: int = 0) -> Product:
        """(ζ of the matrices, ζ′ of ∇_wG, ξ); the same for every k."""
        del k
        lower, upper = Draws(problem.lower, self.lower_batch), Draws(problem.upper, self.upper_batch)
        return Product((lower.space, lower.space, upper.space))

    def step(self, problem: BilevelProblem, state: Any, sample: Any) -> STABLEVRState:
        state = require_state(state, STABLEVRState, self)
        B, k, lam, w = problem.backend, state.k, state.lam, state.w
        lower, upper = Draws(problem.lower, self.lower_batch), Draws(problem.upper, self.upper_batch)
        G, G_w, F = lower.at(sample[0]), lower.at(sample[1]), upper.at(sample[2])

        def drawn(lam: Array, w: Array) -> tuple[Array, ...]:
            matrices = (G.cross(lam, w).dense(), G.hess_ww(lam, w).dense())
            return F.grad_lam(lam, w), F.grad_w(lam, w), *(flat(B, a) for a in matrices), G_w.grad_w(lam, w)

        estimates = drawn(lam, w)
        if k > 0:
            a = B.scalar(capped(self.c, self.eta(k - 1), 2))
            kept = (state.f_lam, state.f_w, state.cross, state.hess, state.g_w)
            before = drawn(state.lam_prev, state.w_prev)
            estimates = tuple(storm(*three, a) for three in zip(estimates, before, kept, strict=True))
        f_lam, f_w, cross, hess, g_w = estimates
        H = at_least(B, rows(B, hess, problem.d), self.mu)

        h = f_lam - B.matvec(rows(B, cross, problem.d), solve_spd(B, H, f_w))
        new_lam = moved(problem, lam, self.alpha * self.eta(k), h)
        new_w = w - B.scalar(self.beta * self.eta(k)) * g_w
        return STABLEVRState(k + 1, new_lam, new_w, f_lam, f_w, cross, flat(B, H), g_w, lam, w)
