"""BSA, bilevel stochastic approximation: S. Ghadimi, M. Wang, arXiv 2018. In iteration k = 0, 1, …

    w = w_0;  w ← w − β_j ∇_wG(λ, w; ζ_j),  j = 0 … t_k − 1                      w_0 is the same in every iteration
    h = ∇_λF(λ, w; ξ) − ∇²_λwG(λ, w; ζ⁰) z,  z = PROD_K of ∇_wF(λ, w; ξ), K = K_k   the same ξ twice, else fresh draws
    λ⁺ = P_Λ(λ − α_k h)

Samples: t_k + K_k draws of the lower level, one of the upper; of the K_k − 1 in PROD it uses τ, uniform below K_k.
Its deterministic form: all data, steps=Growing(1/2, 1/4), inverse=SumNeumann(1/L, many).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from refimpl.algorithms.pieces import Estimating, constant, descend, moved, repeated, require_state
from refimpl.algorithms.protocol import State
from refimpl.approximate.inverse import ProductNeumann, SumNeumann
from refimpl.approximate.sampled import SampledHypergradient
from refimpl.arrays.backend import Array
from refimpl.arrays.numbers import as_number
from refimpl.errors import BadInput
from refimpl.lengths import Fixed, Growing, Length, Logarithmic, as_length
from refimpl.problem import BilevelProblem
from refimpl.rates import Power
from refimpl.spaces import Product

ROOT, ROOTS = Power(1.0, 1 / 2), Growing(1, 1 / 2)  # 1/√(k+1) and ⌈√(k+1)⌉


@dataclass(frozen=True, eq=False)
class BSAState(State):
    """Also w_0, where every lower loop starts; w is where the last one ended, and is never read."""

    start: Array


@dataclass(frozen=True, kw_only=True)
class BSA(Estimating):
    """alpha: α_k (the paper's: a constant of the order of 1/√iterations). beta: β_j over the inner steps, of order 1/j:
    Harmonic(2/μ, 2L/μ), whose first is 1/L. steps: t_k. terms: K_k, which replaces ``inverse.terms`` in iteration k,
    1 at least (``neumann_terms(mu, L)``); None: ``inverse`` is the same in all.

    Cost of an iteration: t_k gradients ∇_wG, ``inverse.products`` products with the Hessian, one with the cross
    derivative, ∇_λF and ∇_wF.
    """

    alpha: Any = ROOT
    beta: Any
    steps: Any = ROOTS
    inverse: ProductNeumann | SumNeumann
    terms: Any = None

    source: ClassVar[str] = "Ghadimi, Wang, arXiv 2018"
    warm_start: ClassVar[tuple[bool, bool]] = (False, False)
    linear_system: ClassVar[str] = "product"
    lengths: ClassVar[tuple[str, ...]] = ("steps",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.terms is not None:
            object.__setattr__(self, "terms", as_length(self.terms))

    @property
    def constant_from(self) -> int | None:
        return 0 if constant(self.alpha, self.steps, *(() if self.terms is None else (self.terms,))) else None

    def init(self, problem: BilevelProblem, lam: Any, w: Any = None) -> BSAState:
        """w: the w_0 of every iteration."""
        state = super().init(problem, lam, w)
        return BSAState(0, state.lam, state.w, state.w)

    def space(self, problem: BilevelProblem, k: int = 0) -> Product:
        """(t_k draws of the lower level, the estimator's)."""
        loop = repeated(problem.lower, self.lower_batch, self.steps(k))
        return Product((loop, self.estimator_at(k).space(problem)))

    def step(self, problem: BilevelProblem, state: Any, sample: Any) -> BSAState:
        state = require_state(state, BSAState, self)
        k, lam, (loop, drawn) = state.k, state.lam, sample
        rates = [self.beta(j) for j in range(self.steps(k))]
        w = descend(problem, self.lower_batch, loop, lam, state.start, rates)
        h = self.estimator_at(k).at(problem, lam, w, drawn)
        return BSAState(k + 1, moved(problem, lam, self.alpha(k), h), w, state.start)

    def estimator_at(self, k: int) -> SampledHypergradient:
        """The estimator of iteration k, with K_k terms."""
        if self.terms is None:
            return self.estimator()
        return self.estimator(replace(self.inverse, terms=max(1, self.terms(k))))


def neumann_terms(mu: float, L: float) -> Length:
    """K_k = ⌈log √(k+1) / log(1/(1 − μ/L))⌉: the truncation's bias falls as 1/√(k+1). Raises ``BadInput``."""
    if not 0 < as_number(mu) <= as_number(L) < math.inf:
        raise BadInput(
            "these are no constants of strong convexity and smoothness",
            measured=f"mu={mu}, L={L}",
            required="0 < mu <= L",
            advice="μI ≤ ∇²_wwG ≤ LI: problem.check measures them at a point",
        )
    if mu == L:
        return Fixed(1)  # one term is the inverse
    return Logarithmic(-0.5 / math.log1p(-mu / L))
