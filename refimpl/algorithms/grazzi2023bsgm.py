"""BSGM, the bilevel stochastic gradient method: R. Grazzi, M. Pontil, S. Salzo, JMLR 2023, Algorithm 2 (contraction).

    g_s = SID(λ_s; t_s, k_s, J_s, w_0)                           w_0 is the same in every iteration, and v_0 = 0
    λ_{s+1} = P_Λ(λ_s − α_s g_s)                                                                            (20)

Theorem 16 (i): t_s = k_s = J_s = ⌈c₃(s + 1)⌉, lengths.Growing(c₃), and η_i = β/(γ + i), rates.Harmonic(β, γ), with
α <= 1/L_f; (ii): ⌈c₃S⌉ in all of S iterations. Theorem 17, deterministic (batch=None, J = 1, η_i = 1): t_s = k_s =
⌈c₃ log(s + 1)⌉, lengths.Logarithmic(c₃), c₃ >= 1/log(1/q). ``bsgm_guarantee`` holds a BSGM to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from refimpl.algorithms.pieces import moved, require_state
from refimpl.algorithms.protocol import Algorithm, State
from refimpl.approximate.stochastic import SID
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.exact import exact_hypergradient
from refimpl.lengths import as_length
from refimpl.problem import Problem
from refimpl.rates import as_rate
from refimpl.sets import gradient_mapping
from refimpl.solvers import LinearSolver, LowerSolver
from refimpl.spaces import Space


@dataclass(frozen=True, eq=False)
class BSGMState(State):
    """Also the last estimate d of the hypergradient, 0 before the first, and w_0; w is the last w_t, never read."""

    d: Array
    start: Array


@dataclass(frozen=True, kw_only=True)
class BSGM(Algorithm):
    """t, k, J: steps for w and for v, draws of ξ and of ζ for ∂_λΦ; numbers, or schedules over s (``refimpl.lengths``).

    alpha: α_s. rate: η_i over the steps inside an iteration, for w and, unless linear_rate is given, for v. batch: data
    per draw of either level, one unless given, where the other algorithms draw all; None: all. start: "zero", or
    "gradient" for v_0 = ∇_wF. lower, linear: deterministic solvers in place of t and the steps for w, of k and those
    for v, the same in every iteration, as ``SID`` takes them.
    It works on fixed-point problems and on minimisations, for which Φ = w − ∇_wG; it refuses what ``SID`` does.
    Samples of an iteration: t_s + k_s + J_s draws of the lower level, J_s of the upper; a solver, which works on all
    data, draws none. Cost: t_s values of Φ, k_s products with ∂_wΦ, J_s with ∂_λΦ and J_s gradients of F in each
    variable, less where draws are stacked.
    """

    t: Any = None
    k: Any = None
    J: Any
    alpha: Any
    rate: Any = 1
    linear_rate: Any = None
    batch: int | None = 1
    start: Literal["zero", "gradient"] = "zero"
    lower: LowerSolver | None = None
    linear: LinearSolver | None = None

    source: ClassVar[str] = "Grazzi, Pontil, Salzo, JMLR 2023, Algorithm 2"
    warm_start: ClassVar[tuple[bool, bool]] = (False, False)
    linear_system: ClassVar[str] = "SID"

    def __post_init__(self) -> None:
        for name in ("t", "k", "J"):
            if name == "J" or getattr(self, name) is not None:
                object.__setattr__(self, name, as_length(getattr(self, name)))
        for name in ("alpha", "rate"):
            object.__setattr__(self, name, as_rate(getattr(self, name)))
        object.__setattr__(
            self, "linear_rate", self.rate if self.linear_rate is None else as_rate(self.linear_rate)
        )
        self.sid(0)  # refuses the rest

    @property
    def constant_from(self) -> int | None:
        changing = (x for x in (self.t, self.k, self.J, self.alpha) if x is not None)
        return 0 if all(x.constant for x in changing) else None  # η_i starts anew

    def sid(self, s: int) -> SID:
        """Algorithm 1 as iteration s calls it."""
        return SID(
            t=None if self.t is None else self.t(s),
            k=None if self.k is None else self.k(s),
            J=self.J(s),
            rate=self.rate,
            linear_rate=self.linear_rate,
            batch=self.batch,
            start=self.start,
            lower=self.lower,
            linear=self.linear,
        )

    def init(self, problem: Problem, lam: Any, w: Any = None) -> BSGMState:
        """w: the w_0 of every iteration."""
        state = super().init(problem, lam, w)
        return BSGMState(0, state.lam, state.w, 0 * state.lam, state.w)

    def space(self, problem: Problem, k: int = 0) -> Space:
        """That of ``SID``: the four groups of draws."""
        return self.sid(k).space(problem)

    def step(self, problem: Problem, state: Any, sample: Any) -> BSGMState:
        state = require_state(state, BSGMState, self)
        found = self.sid(state.k).estimate(problem, state.lam, sample, w0=state.start)
        lam = moved(problem, state.lam, self.alpha(state.k), found.value)
        return BSGMState(state.k + 1, lam, found.w, found.value, state.start)


def mean_square_mapping(problem: Problem, lams: Any, alpha: Any) -> Array:
    """(1/S) Σ_s ‖G_α(λ_s)‖² with exact hypergradients, the quantity of theorems 12, 16 and 17: (...).

    lams (S, ..., n): λ_0, …, λ_{S−1}, the points where steps were made, not the last one. Raises ``BadInput``, and
    what ``exact_hypergradient`` does. Cost: one hypergradient for each.

    >>> import refimpl as ri
    >>> float(mean_square_mapping(ri.zoo.maps.line(0.5), [[3.0], [1.0]], 0.1))  # f' = 2 everywhere
    4.0
    """
    B = problem.backend
    lams = problem.lam(lams)
    if lams.ndim < 2 or not lams.shape[0]:
        raise BadInput(
            "the mean over which points?",
            measured=f"an array of shape {tuple(lams.shape)}",
            required=f"(S, ..., {problem.n}) with S >= 1",
            advice='without its last entry, run(...).trajectory["lam"] is one; a single λ is lam[None]',
        )
    gradients = exact_hypergradient(problem, lams, certify="never").value
    mapping = gradient_mapping(problem.domain, lams, gradients, alpha, B)
    return B.mean(B.dot(mapping, mapping), axis=0)
