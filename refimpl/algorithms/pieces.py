"""What the algorithms of contraction's table 1 share: their schedules, their loops on the lower level, their λ-step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, TypeVar

from refimpl.algorithms.protocol import Algorithm, State, projected, require_minimisation
from refimpl.approximate.inverse import HessianInverse
from refimpl.approximate.iteration import linear_step, lower_step
from refimpl.approximate.sampled import SampledHypergradient
from refimpl.arrays.backend import Array
from refimpl.arrays.numbers import as_number
from refimpl.draws import Draws
from refimpl.errors import BadInput
from refimpl.lengths import Length, as_length
from refimpl.problem import BilevelProblem, Problem
from refimpl.rates import Rate, as_rate
from refimpl.solvers.lower import require_count
from refimpl.spaces import Product, Repeated

S = TypeVar("S", bound=State)


@dataclass(frozen=True, kw_only=True)
class Scheduled(Algorithm):
    """Step sizes and lengths are given as numbers or schedules; lower_batch, upper_batch: data per draw, None: all.

    None is the default, where SID and BSGM draw one datum. rates, lengths: the fields that are made schedules. It
    refuses (``BadInput``) what is neither, batches below 1, and what is no ``BilevelProblem``.
    """

    lower_batch: int | None = None
    upper_batch: int | None = None

    rates: ClassVar[tuple[str, ...]] = ("alpha", "beta")
    lengths: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for names, schedule in ((self.rates, as_rate), (self.lengths, as_length)):
            for name in names:
                try:
                    object.__setattr__(self, name, schedule(getattr(self, name)))
                except BadInput as e:
                    raise BadInput(
                        f"{name}: {e.what}", measured=e.measured, required=e.required, advice=e.advice
                    ) from None
        for name in ("lower_batch", "upper_batch"):
            if getattr(self, name) is not None:
                require_count(getattr(self, name), name, least=1)

    def init(self, problem: Any, lam: Any, w: Any = None) -> State:
        return super().init(require_minimisation(problem, type(self).__name__), lam, w)


@dataclass(frozen=True, kw_only=True)
class Estimating(Scheduled):
    """One whose hypergradient is estimated by ``inverse``, an estimator of (∇²_wwG)⁻¹∇_wF from independent draws."""

    inverse: HessianInverse

    def __post_init__(self) -> None:
        super().__post_init__()
        self.estimator()  # refuses an inverse that is none

    def estimator(self, inverse: HessianInverse | None = None) -> SampledHypergradient:
        """h(λ, w; ξ, ζ) = ∇_λF(ξ) − ∇²_λwG(ζ⁰) z, z ≈ (∇²_wwG)⁻¹∇_wF(ξ) from draws of its own."""
        inverse = self.inverse if inverse is None else inverse
        return SampledHypergradient(inverse, lower_batch=self.lower_batch, upper_batch=self.upper_batch)


@dataclass(frozen=True, kw_only=True)
class Alternating(Estimating):
    """T steps on w, from the w of the iteration before, then one on λ: TTSA (T = 1), ALSET, stocBiO, apart from z."""

    alpha: Any
    beta: Any
    steps: Any

    warm_start: ClassVar[tuple[bool, bool]] = (True, False)
    lengths: ClassVar[tuple[str, ...]] = ("steps",)

    @property
    def constant_from(self) -> int | None:
        return 0 if constant(self.alpha, self.beta, self.steps) else None

    def space(self, problem: BilevelProblem, k: int = 0) -> Product:
        """(T draws of the lower level, the estimator's)."""
        loop = repeated(problem.lower, self.lower_batch, self.steps(k))
        return Product((loop, self.estimator().space(problem)))

    def step(self, problem: BilevelProblem, state: State, sample: Any) -> State:
        k, lam, (loop, drawn) = state.k, state.lam, sample
        w = descend(problem, self.lower_batch, loop, lam, state.w, [self.beta(k)] * self.steps(k))
        h = self.estimator().at(problem, lam, w, drawn)
        return State(k + 1, moved(problem, lam, self.alpha(k), h), w)


def constant(*schedules: Rate | Length) -> bool:
    """Does none of them change from one iteration to the next?"""
    return all(schedule.constant for schedule in schedules)


def capped(c: Any, rate: Any, power: int = 1) -> Any:
    """min(1, c rate^power), the weight of a momentum; where no float holds a square, in exact numbers."""
    try:
        return min(1, c * rate**power)
    except OverflowError:
        return min(1, Fraction(as_number(c)) * Fraction(as_number(rate)) ** power)


def repeated(level: Any, batch: int | None, times: int) -> Repeated:
    """Independent draws of a level."""
    return Repeated(Draws(level, batch).space, times)


def descend(
    problem: Problem, batch: int | None, points: Any, lam: Array, w: Array, rates: Sequence[Any]
) -> Array:
    """w ← w − β_j ∇_wG(λ, w; ζ_j), for each of the rates β_j one of the ``repeated`` draws. Cost: a gradient each."""
    for drawn, beta in _drawn(problem, batch, points, rates):
        w = lower_step(drawn, lam, w, beta)
    return w


def refine(
    problem: Problem,
    batch: int | None,
    points: Any,
    lam: Array,
    w: Array,
    v: Array,
    rhs: Array,
    rates: Sequence[Any],
) -> Array:
    """v ← v − γ_j (∇²_wwG(λ, w; ζ_j) v − rhs), likewise. Cost: a product with the Hessian each."""
    for drawn, gamma in _drawn(problem, batch, points, rates):
        v = linear_step(drawn, lam, w, v, rhs, gamma)
    return v


def _drawn(
    problem: Problem, batch: int | None, points: Any, rates: Sequence[Any]
) -> Iterator[tuple[Problem, Any]]:
    """The problem under each of the draws, with its rate."""
    draws = Draws(problem.level, batch)
    each = Repeated(draws.space, len(rates)).each(points)
    for point, rate in zip(each, rates, strict=True):
        yield problem.with_level(draws.at(point)), problem.backend.scalar(rate)


def moved(problem: Problem, lam: Array, rate: Any, direction: Array) -> Array:
    """P_Λ(λ − α h)."""
    return projected(problem, lam - problem.backend.scalar(rate) * direction)


def adjoint_start(problem: Problem, v: Any) -> Array:
    """v checked: backend, shape, dtype, finite; None is 0."""
    return problem.w(None) if v is None else problem.backend.vector(v, problem.d, "v")


def require_state(state: Any, kind: type[S], algorithm: Algorithm) -> S:
    """The state, if this algorithm's ``init`` or ``step`` made it; else ``BadInput``."""
    if isinstance(state, kind):
        return state
    wanted = ", ".join(f.name for f in dataclasses.fields(kind))
    raise BadInput(
        "this is not a state of this algorithm",
        measured=type(state).__name__,
        required=f"{kind.__name__}: {wanted}",
        advice=f"start with {type(algorithm).__name__}.init(problem, lam, …)",
    )
