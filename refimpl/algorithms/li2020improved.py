"""The improved bilevel model by unrolling: J. Li, B. Gu, H. Huang, arXiv 2009.00690. In iteration k = 0, 1, …

    w_0 → w_1 → … → w_K  by K steps of BiG-SAM at λ                                                     algorithm 1
    g = d/dλ F(λ, w_K(λ))  by the reverse sweep through them                                            algorithm 2
    λ⁺ = P_Λ(λ − ν_k g)

With ``lower=BiGSAM(K, s=…, t=…, alpha=Averaging(β, γ))`` these are algorithms 2 and 5. The basic model's, 4 and 6, are
the same with alpha=0: gradient descent on G. Nothing is random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from refimpl.algorithms.pieces import constant, moved, require_state
from refimpl.algorithms.protocol import Algorithm, State
from refimpl.approximate.result import require_solvers
from refimpl.approximate.unrolled import reverse
from refimpl.arrays.backend import Array
from refimpl.draws import SURE
from refimpl.errors import BadInput
from refimpl.problem import Problem
from refimpl.rates import as_rate
from refimpl.solvers.lower import Iteration
from refimpl.spaces import Space


@dataclass(frozen=True, eq=False)
class ImprovedState(State):
    """Also w_0, where every lower loop starts; None: at w, where the last one ended."""

    start: Array | None


@dataclass(frozen=True, kw_only=True)
class Improved(Algorithm):
    """lower: the iteration that is unrolled. nu: ν_k. warm: a loop starts where the last one ended, else all at w_0.

    The derivative takes w_0 as given: that of a warm start does not go on through earlier iterations.
    Cost of an iteration with BiG-SAM: K gradients ∇_wG, K − 1 products with either Hessian and K with either cross
    derivative, K + 1 gradients ∇_wF and one ∇_λF: 6K; of F fewer where α_k = 0. Memory O(K d).
    """

    lower: Iteration
    nu: Any
    warm: bool = False

    source: ClassVar[str] = "Li, Gu, Huang, arXiv 2020"
    warm_start: ClassVar[tuple[bool, bool]] = (False, False)  # as published
    linear_system: ClassVar[str] = "none"

    def __post_init__(self) -> None:
        require_solvers(self.lower, Iteration)
        object.__setattr__(self, "nu", as_rate(self.nu))

    @property
    def constant_from(self) -> int | None:
        return 0 if constant(self.nu) else None

    def init(self, problem: Problem, lam: Any, w: Any = None) -> ImprovedState:
        """w: w_0."""
        lam, w = problem.lam(lam), problem.w(w)
        self.lower.prepared(problem, lam, w).map(problem, lam, w, 1)  # refuses levels that it has no step for
        return ImprovedState(0, lam, w, None if self.warm else w)

    def space(self, problem: Problem, k: int = 0) -> Space:
        """One point."""
        return SURE

    def step(self, problem: Problem, state: Any, sample: Any) -> ImprovedState:
        state = require_state(state, ImprovedState, self)
        if (state.start is None) != self.warm:
            raise BadInput(
                "this is not a state of this algorithm",
                measured=f"a state {'without' if state.start is None else 'with'} start, warm = {self.warm}",
                required="a start unless the loops are warm-started",
                advice="start with algorithm.init(problem, lam, w)",
            )
        w0 = state.w if state.start is None else state.start
        found = reverse(problem, state.lam, lower=self.lower, w0=w0)
        lam = moved(problem, state.lam, self.nu(state.k), found.value)
        return ImprovedState(state.k + 1, lam, found.w, state.start)
