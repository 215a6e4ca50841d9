"""BiG-SAM: an iteration for simple bilevel problems, min F over the minimisers of G (Sabach and Shtern 2017)."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from fractions import Fraction
from typing import Any

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.arrays.numbers import as_number
from refimpl.errors import BadInput
from refimpl.objective import Map, Objective
from refimpl.operators import Operator, identity
from refimpl.problem import BilevelProblem, Problem
from refimpl.rates import Rate
from refimpl.solvers.lower import Iteration, require_count, require_positive
from refimpl.solvers.proximal import Proximal


@dataclass(frozen=True)
class Averaging(Rate):
    """α_{k+1} = min{2γ/((k + 1)(1 − β)), 1}: the weight of the F-step in step k + 1 (improved-bilevel, algorithm 1).

    contraction: β < 1, the factor of the step on F; gamma in (0, 1].

    >>> from fractions import Fraction
    >>> [str(Averaging(Fraction(1, 2), Fraction(1, 4))(k)) for k in range(3)]
    ['1', '1/2', '1/3']
    """

    contraction: Any
    gamma: Any = 1

    def __post_init__(self) -> None:
        require_positive(self.gamma, "gamma", "gamma = 1 takes the largest weights")
        if not (self.gamma <= 1 and _within(self.contraction, 1) and self.contraction < 1):
            raise BadInput(
                "no weights of BiG-SAM",
                measured=f"contraction = {self.contraction}, gamma = {self.gamma}",
                required="0 <= contraction < 1, 0 < gamma <= 1",
                advice="contraction_of(sigma, smoothness, t) gives β for t in (0, 2/(σ + L)]",
            )

    def __call__(self, k: int) -> Any:
        share = 2 * self.gamma / ((k + 1) * (1 - self.contraction))
        return share if share < 1 else 1 + 0 * share


def contraction_of(sigma: Any, smoothness: Any, t: Any) -> float:
    """β = √(1 − 2tσL/(σ + L)): w ↦ w − t∇F contracts by β where F is σ-strongly convex, L-smooth, t <= 2/(σ + L).

    It contracts by 1 − tσ <= β, with equality for the longest t; β is what the method's schedule is stated with.
    """
    given = f"sigma = {sigma}, smoothness = {smoothness}, t = {t}"
    sigma, smoothness, t = (_one_number(x) for x in (sigma, smoothness, t))
    if not (sigma <= smoothness and t * (sigma + smoothness) <= 2):  # False for NaN
        raise BadInput(
            "this step on F is not proved to contract",
            measured=given,
            required="numbers 0 < sigma <= smoothness, 0 < t <= 2/(sigma + smoothness)",
            advice="t = 2/(sigma + smoothness) is the longest; F needs strong convexity, a ridge for example",
        )
    return math.sqrt(
        max(0, 1 - 2 * t * sigma * smoothness / (sigma + smoothness))
    )  # rounding at sigma = smoothness


def _one_number(x: Any) -> Any:
    """x > 0 as what floats are multiplied with; NaN for all else, for a ball too, whose β no float encloses."""
    number = as_number(x)
    return number if isinstance(number, float | Fraction) and 0 < number < 2.0**1000 else math.nan


@dataclass(frozen=True)
class BiGSAM(Iteration):
    """w_k = α_k (w − t∇_wF) + (1 − α_k) prox(w − s∇_wG) at w = w_{k−1}, for k = 1 … steps (improved-bilevel, alg. 1).

    alpha: the weight of the F-step: a ``Rate`` (``Averaging`` is the method's), or a number: 0 is (projected)
    gradient descent on G, the basic model's solver; a constant above 0 ends at the Tikhonov point of
    ε = αt/((1 − α)s), not at the solution. It weighs z, the F-step; some texts weigh y.
    every: the F-step in every T-th iteration k only, with that k's weight; the others are plain steps on G (the
    document's ablation).
    s in (0, 1/L_G]; t in (0, 2/(σ_F + L_F)]. prox: what the step on G ends with, a ``Proximal``. A result's
    ``residual_lower`` is ‖∇_wG‖ all the same, not the prox step's residual: it does not tend to 0 where the constraint
    is active; and ``exact.improved_hypergradient``, which knows no constraint, is no reference for it.

    Take K = ``steps`` well above 2γ/(1 − β): until then ``Averaging`` is 1, and G is never touched. The error after K
    steps is about C/K at best, and C grows with the condition numbers of F (as 1/(1 − β)) and of G on its range.

    Cost of a step: one ∇_wG, and one ∇_wF where α_k > 0; differentiated, a product with each level's two second
    derivatives, and with prox two ∇_wG more. Without prox it is the aggregated step of bi-level descent
    aggregation (Liu et al. 2020).
    """

    steps: int
    _: KW_ONLY
    s: Any
    t: Any
    alpha: Any
    every: int = 1
    prox: Proximal | None = None

    def __post_init__(self) -> None:
        require_count(self.steps, "steps")
        require_count(self.every, "every", least=1)
        require_positive(self.s, "s", "take s = 1/L_G")
        require_positive(self.t, "t", "take t = 2/(sigma_F + L_F)")
        if not isinstance(self.alpha, Rate):
            _require_weight(self.alpha, "alpha")
        if not isinstance(self.prox, Proximal | None):
            raise BadInput(
                "prox is no proximal step",
                measured=type(self.prox).__name__,
                required="a Proximal, or None",
                advice="solvers.Projection(set) projects onto a set; solvers.SoftThreshold(tau)",
            )

    def weight(self, k: int) -> Any:
        """α_k, k = 1, 2, …; raises ``BadInput`` where a rate leaves [0, 1]."""
        if k % self.every:
            return 0
        if not isinstance(self.alpha, Rate):
            return self.alpha
        _require_weight(self.alpha(k - 1), f"alpha in step {k}")
        return self.alpha(k - 1)

    def map(self, problem: Problem, lam: Array, w0: Array, k: int) -> Map:
        if not isinstance(problem, BilevelProblem):
            raise BadInput(
                "BiG-SAM needs a lower objective",
                measured=type(problem).__name__,
                required="BilevelProblem",
                advice="a fixed point leaves nothing to choose from: use FixedPoint",
            )
        B, prox = problem.backend, None if self.prox is None else self.prox.to(problem.backend)
        alpha, s, t = (B.scalar(x) for x in (self.weight(k), self.s, self.t))
        return BiGSAMStep(problem.upper, problem.lower, alpha, s, t, prox, B)


def _within(value: Any, most: Any) -> bool:
    return bool(0 <= as_number(value) <= most)


def _require_weight(value: Any, name: str) -> None:
    if not _within(value, 1):
        raise BadInput(
            f"{name} is out of range",
            measured=repr(value),
            required="a number in [0, 1], or a Rate of such numbers",
            advice="solvers.Averaging(contraction, gamma) is BiG-SAM's; 0 is gradient descent on G",
        )


@dataclass(frozen=True, eq=False)
class BiGSAMStep(Map):
    """w ↦ α (w − t∇_wF) + (1 − α) prox(w − s∇_wG); where α = 0, F is not evaluated."""

    upper: Objective
    lower: Objective
    alpha: Any
    s: Any
    t: Any
    prox: Proximal | None = None
    backend: Backend = Backend()

    @property
    def n(self) -> int:
        return self.lower.n

    @property
    def d(self) -> int:
        return self.lower.d

    @property
    def lead(self) -> int:
        return max(self.upper.lead, self.lower.lead)

    def descended(self, lam: Array, w: Array) -> Array:
        """w − s∇_wG, before prox."""
        return w - self.s * self.lower.grad_w(lam, w)

    def value(self, lam: Array, w: Array) -> Array:
        y = self.descended(lam, w)
        y = y if self.prox is None else self.prox(y, self.s, self.backend)
        if self.alpha == 0:
            return y
        return self.alpha * (w - self.t * self.upper.grad_w(lam, w)) + (1 - self.alpha) * y

    def _on_lower(self, lam: Array, w: Array, inner: Operator) -> Operator:
        """P′ ``inner``, with P′ the derivative of prox."""
        if self.prox is None:
            return inner
        outer = self.prox.jacobian(self.descended(lam, w), self.s, self.backend)
        return Operator(
            self.backend,
            inner.shape,
            lambda v: outer @ (inner @ v),
            lambda u: inner.T @ (outer @ u),
            max(inner.lead, outer.lead),
        )

    def d_w(self, lam: Array, w: Array) -> Operator:
        """A = α(I − t∇²_wwF) + (1 − α)P′(I − s∇²_wwG)."""
        eye = identity(self.backend, self.d)
        on_lower = self._on_lower(lam, w, eye + (-self.s) * self.lower.hess_ww(lam, w))
        if self.alpha == 0:
            return on_lower
        on_upper = eye + (-self.t) * self.upper.hess_ww(lam, w)
        return self.alpha * on_upper + (1 - self.alpha) * on_lower

    def d_lam(self, lam: Array, w: Array) -> Operator:
        """B = −αt∇²_wλF − (1 − α)P′s∇²_wλG."""
        on_lower = self._on_lower(lam, w, (-self.s) * self.lower.cross(lam, w).T)
        if self.alpha == 0:
            return on_lower
        return (-self.alpha * self.t) * self.upper.cross(lam, w).T + (1 - self.alpha) * on_lower
