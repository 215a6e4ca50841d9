"""Stochastic implicit differentiation, SID (contraction, Algorithm 1), for maps and for minimisations.

With r̂ the residual of the lower level as drawn (w − Φ̂, or ∇_wĜ), Ê the upper level as drawn, η_i steps:

    w_{i+1} = w_i − η_i r̂(λ, w_i; ζ_i)                                       i < t      line 1, (6)
    ∇_aĒ_J = (1/J) Σ_j ∇_aÊ(λ, w_t; ξ_j),  a = λ, w: the same ξ_j for both              line 2
    v_{i+1} = v_i − η_i (∂_w r̂(λ, w_t; ζ̂_i)ᵀ v_i − ∇_wĒ_J)                   i < k      line 3, (7)
    ∇̂f(λ) = ∇_λĒ_J − (1/J) Σ_j ∂_λ r̂(λ, w_t; ζ'_j)ᵀ v_k                                line 4

For a map this is (1 − η_i)w + η_iΦ̂ and (1 − η_i)v + η_i(∂_wΦ̂ᵀv + ∇_wĒ_J). A minimisation is the map w − ∇_wG: its
η_i are the steps of the gradient descent, its v is (∇²_wwG)⁻¹∇_wF. (Theory that takes it through w − s ∇_wG, as
``refimpl.constants`` does, has η_i/s and v/s; ``guarantees.theorem_8`` converts.) All draws are independent: within
each of the four groups, and between them. The right side ∇_wĒ_J of (7) is one, for all of its steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from refimpl.approximate.iteration import StochasticIteration
from refimpl.approximate.iteration import linear_step as linear_step
from refimpl.approximate.iteration import lower_step as lower_step
from refimpl.arrays.backend import Array
from refimpl.counting import counted
from refimpl.draws import Draws
from refimpl.errors import BadInput
from refimpl.problem import Problem
from refimpl.rates import as_rate
from refimpl.solvers import LinearSolver, LowerSolver
from refimpl.solvers.lower import overflow_allowed, require_count, require_finite
from refimpl.spaces import Product, Repeated


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class SIDEstimate:
    """∇̂f(λ) (..., n), w_t (..., d), v_k (..., d) and its right side ∇_wĒ_J (..., d)."""

    value: Array
    w: Array
    v: Array
    rhs: Array


@dataclass(frozen=True, eq=False)
class SIDRun(SIDEstimate):
    """Also the derivative calls (keys of ``refimpl.counting``), and data and mask pairs drawn per replicate."""

    counts: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class SID:
    """Algorithm 1 of contraction: t steps of (6), k of (7), and J draws of each level for the estimate.

    Parameters
    ----------
    rate, linear_rate : η_i of (6) and of (7), numbers or schedules; those of (7) are those of (6) unless given.
        Both are ``Rate``s once it is made: a copy with another rate keeps its linear_rate.
    batch : data per draw, of either level: one unless given, where the algorithms other than BSGM draw all. None: all
        of them, so that nothing but dropout's masks is random.
    start : where (7) starts, unless v0 is given: "zero", or "gradient", v_0 = ∇_wĒ_J; with steps of 1 that is one step
        more from zero.
    lower, linear : deterministic solvers of ``refimpl.solvers`` in place of (6) and t, of (7) and k, on all data;
        ``stated_rates`` has what they, or (6) and (7), leave at most.

    Samples: (t + k + J) · batch data of the lower level (phi.data, lower.data), J · batch of the upper (upper.data); a
    solver draws none, and its passes over all data are none of these samples.
    Derivatives: t residuals, k products with its Jacobian in w, J with that in λ, and J of each ∇Ê; these J are counted
    as one where no mask is drawn, since the draws are then one minibatch of J · batch data. Raises ``BadInput``.
    """

    t: int | None = None
    k: int | None = None
    J: int = 1
    rate: Any = 1
    linear_rate: Any = None
    batch: int | None = 1
    start: Literal["zero", "gradient"] = "zero"
    lower: LowerSolver | None = None
    linear: LinearSolver | None = None

    def __post_init__(self) -> None:
        for steps, solver, kind, names in (
            (self.t, self.lower, LowerSolver, ("t", "lower")),
            (self.k, self.linear, LinearSolver, ("k", "linear")),
        ):
            if (steps is None) == (solver is None) or not (solver is None or isinstance(solver, kind)):
                raise BadInput(
                    f"either {names[0]} steps or a solver",
                    measured=f"{names[0]}={steps!r}, {names[1]}={solver!r}",
                    required=f"{names[0]} a whole number >= 0, or {names[1]} a {kind.__name__}",
                    advice=f"leave out one of them; SID({names[0]}=10, ...) iterates",
                )
            if steps is not None:
                require_count(steps, names[0])
        require_count(self.J, "J", least=1)
        if self.batch is not None:
            require_count(self.batch, "batch", least=1)
        if self.start not in ("zero", "gradient"):
            raise BadInput(
                "no such start of the linear iteration",
                measured=repr(self.start),
                required="'zero' or 'gradient'",
                advice="any other start is an argument: v0=...",
            )
        object.__setattr__(self, "rate", as_rate(self.rate))
        linear_rate = self.rate if self.linear_rate is None else as_rate(self.linear_rate)
        object.__setattr__(self, "linear_rate", linear_rate)

    @property
    def lower_iteration(self) -> StochasticIteration:
        """(6); without steps where a solver stands in its place."""
        return StochasticIteration(self.t or 0, self.rate, self.batch)

    @property
    def linear_iteration(self) -> StochasticIteration:
        """(7), likewise."""
        return StochasticIteration(self.k or 0, self.linear_rate, self.batch)

    def groups(self, problem: Problem) -> tuple[Repeated, Repeated, Repeated, Repeated]:
        """The draws ζ of (6), ζ̂ of (7), ζ' of the J cross derivatives, and ξ of the J upper levels."""
        lower, upper = Draws(problem.level, self.batch).space, Draws(problem.upper, self.batch).space
        t, k, J = self.t or 0, self.k or 0, self.J
        return Repeated(lower, t), Repeated(lower, k), Repeated(lower, J), Repeated(upper, J)

    def space(self, problem: Problem) -> Product:
        """Everything random: the four groups, independent."""
        return Product(self.groups(problem))

    def estimate(
        self, problem: Problem, lam: Any, sample: Any, w0: Any = None, v0: Any = None
    ) -> SIDEstimate:
        """∇̂f(λ) at a point of ``space``: a function, everything random is in the sample, whose axes are leading axes.

        w0, v0 (..., d): the origin, and what ``start`` says, unless given.
        """
        lam, w = problem.lam(lam), problem.w(w0)
        lower, linear, cross, upper = _four(sample)
        w = self.solve_lower(problem, lam, w, lower)
        direct, rhs = self.upper_gradients(problem, lam, w, upper)
        v = self.solve_linear(problem, lam, w, rhs, self.first(problem, rhs, v0), linear)
        value = direct - self.indirect(problem, lam, w, v, cross)
        found = (value, w, v, rhs)
        leading = np.broadcast_shapes(self.groups(problem)[3].leading(upper), *(x.shape[:-1] for x in found))
        return SIDEstimate(*(problem.backend.broadcast(x, (*leading, x.shape[-1])) for x in found))

    def solve_lower(self, problem: Problem, lam: Array, w0: Array, sample: Any) -> Array:
        """Algorithm 1, line 1: w_t."""
        if self.lower is None:
            return self.lower_iteration.run(problem, lam, w0, sample)
        return self.lower.prepared(problem, lam, w0).run(problem, lam, w0).w

    def upper_gradients(self, problem: Problem, lam: Array, w: Array, sample: Any) -> tuple[Array, Array]:
        """Algorithm 1, line 2: ∇_λĒ_J and ∇_wĒ_J on the same draws ξ_1, …, ξ_J."""
        levels = self._drawn(problem.upper, sample)
        with overflow_allowed():  # what is then infinite is refused where it is used
            return _mean([F.grad_lam(lam, w) for F in levels]), _mean([F.grad_w(lam, w) for F in levels])

    def first(self, problem: Problem, rhs: Array, v0: Any = None) -> Array:
        """v_0."""
        return rhs if v0 is None and self.start == "gradient" else problem.w(v0)

    def solve_linear(
        self, problem: Problem, lam: Array, w: Array, rhs: Array, v0: Array, sample: Any
    ) -> Array:
        """Algorithm 1, line 3: v_k. Raises ``Diverged`` where the right side, at a finite w_t, has overflowed."""
        require_finite(problem.backend, rhs, "∇_wF, the right side of the linear system")
        if self.linear is None:
            return self.linear_iteration.adjoint(problem, lam, w, rhs, v0, sample)
        return self.linear.solve(problem.residual_w(lam, w).T, rhs, v0).v

    def indirect(self, problem: Problem, lam: Array, w: Array, v: Array, sample: Any) -> Array:
        """(1/J) Σ_j ∂_λ r̂(λ, w; ζ'_j)ᵀ v, which Algorithm 1, line 4, takes off."""
        drawn = (problem.with_level(level) for level in self._drawn(problem.level, sample))
        return _mean([one.residual_lam(lam, w).T @ v for one in drawn])

    def run(
        self,
        problem: Problem,
        lam: Any,
        *,
        rng: np.random.Generator | int,
        replicates: tuple[int, ...] = (),
        w0: Any = None,
        v0: Any = None,
    ) -> SIDRun:
        """∇̂f(λ) once in every replicate, on samples of its own.

        rng: a generator, or a seed. replicates: lengths, broadcast against the leading axes of λ, w0 and v0.

        >>> import refimpl as ri
        >>> problem = ri.zoo.maps.random(n=2, d=3, seed=0, terms=5)
        >>> found = SID(t=4, k=3, J=2).run(problem, problem.start(), rng=0, replicates=(6,))
        >>> found.value.shape, found.counts["phi.data"], found.counts["upper.data"]
        ((6, 2), 9, 2)
        """
        given = [problem.lam(lam), *(problem.w(x) for x in (w0, v0))]
        try:
            shape = tuple(np.broadcast_shapes(replicates, *(x.shape[:-1] for x in given)))
        except (ValueError, TypeError):
            raise BadInput(
                "the replicates do not fit the start",
                measured=f"replicates {replicates!r}, leading axes {[x.shape[:-1] for x in given]}",
                required="a tuple of lengths that broadcasts with them",
                advice="replicates=(1000,) with one λ (n,)",
            ) from None
        sample = self.space(problem).sample(rng, shape)
        watched, tally = counted(problem)
        found = self.estimate(watched, lam, sample, w0, v0)
        return SIDRun(found.value, found.w, found.v, found.rhs, dict(sorted(tally.items())))

    def _drawn(self, level: Any, sample: Any) -> list[Any]:
        """Levels whose mean is that over the J draws: one on all of their data where no mask is drawn."""
        draws = Draws(level, self.batch)
        repeated = Repeated(draws.space, self.J)
        if draws.space.factors[0].size > 1:
            return [draws.at(point) for point in repeated.each(sample)]
        leading = repeated.leading(sample)  # refuses what is no sample of J draws
        masks, data = sample
        if self.batch is None:
            return [draws.at((masks[..., 0], data[..., 0]))]
        together = self.J * self.batch
        return [Draws(level, together).at((masks[..., 0], data.reshape(*leading, together)))]


def _mean(terms: list[Array]) -> Array:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total / len(terms) if len(terms) > 1 else total


def _four(sample: Any) -> tuple[Any, Any, Any, Any]:
    if isinstance(sample, tuple) and len(sample) == 4:
        return sample
    raise BadInput(
        "not a sample of SID",
        measured=f"{type(sample).__name__} of {len(sample) if isinstance(sample, tuple) else 1}",
        required="the four groups of draws: of (6), of (7), of the cross derivatives, of the upper level",
        advice="draw it with sid.space(problem).sample(rng, replicates)",
    )
