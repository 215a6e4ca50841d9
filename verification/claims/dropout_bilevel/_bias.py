"""What a draw of masks or data that is used twice does to the means of Algorithm 1: formulas beside the algorithm's own
step, over the rationals. The formulas are derived in ``shared_draws``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from refimpl import BilevelProblem, exact_hypergradient
from refimpl.algorithms import FSLA
from refimpl.arrays.backend import Array
from verification.claims.dropout_bilevel._descent import (
    Means,
    gradient,
    masked_model,
    mean,
    one_step,
    root,
)
from verification.claims.dropout_bilevel._masks import RATIONAL, Model, rationals
from verification.model import Hypothesis, Measurement, identity

EPS = float(np.finfo(float).eps)
WITHIN = 10**6  # iterations in which what settles has settled
SLOW = FSLA(
    delta=Fraction(1, 8), gamma=Fraction(2), beta=Fraction(3, 2), eta=Fraction(5, 2), schedule="constant"
)


def algorithm(case: Any, **changed: Any) -> FSLA:
    """Constant steps α = ⅛; ``reading`` of the parameters."""
    return replace(SLOW, **{"reading": case.params.get("reading", "new"), **changed})


# -- the bias, from literal sums -------------------------------------------------------------------------------


def by_projection(case: Model, b: Array, *, whole: bool = False) -> Array:
    """P_λ C (I−P) b."""
    C = case.plain.lower.cross(case.lam, b).dense()
    lam, w = (rationals(keep) for keep in (case.law.coordinates[: len(C)], case.law.coordinates[len(C) :]))
    return lam * (C @ ((1 if whole else 1 - w) * b))


def second_part(case: Model, lam: Array, w: Array) -> Array:
    """E[(Ĉ − C̄) F̄_ww ĝ], literal sums."""
    G, bent = case.plain.lower, case.noisy.upper.hess_ww(lam, w).dense()
    C = G.cross(lam, w).dense()
    cross_mean = case.law.mean(lambda m, k: m[:, :, None] * C * k[:, None, :])

    def term(m: Array, k: Array) -> Array:
        off = m[:, :, None] * C * k[:, None, :] - cross_mean
        gradient = k * G.grad_w(m * lam, k * w)
        return (off @ (gradient @ bent)[..., None])[..., 0]

    return case.law.mean(term)


def bias_of_masks(case: Model, a: FSLA, lam: Array, w: Array, v: Array, *, wrong: str = "") -> Array:
    """β P_λ C (I−P) H̄ v + βγ E[(Ĉ−C̄) F̄_ww ĝ] in the first iteration's sizes; ``wrong`` mutates it."""
    _, gamma, beta, _ = a.sizes(0)
    H, _ = case.normal_equations(lam)
    first = by_projection(case, H @ v, whole=wrong == "I for I−P")
    second = second_part(case, lam, w)
    if wrong == "first":
        second = 0 * second
    return RATIONAL.scalar(beta) * (first + RATIONAL.scalar(gamma) * second) * (-1 if wrong == "sign" else 1)


def state(case: Any) -> tuple[Array, Array, Array]:
    """A point (λ, w, v) of small halves."""
    rng = np.random.default_rng(case.params["seed"] + 1)
    n, d = case.plain.n, case.plain.d
    lam, w, v = (RATIONAL.asarray(rng.integers(-2, 3, k) + 0.5) for k in (n, d, d))
    return lam, w, v


def gap(a: FSLA, problem: BilevelProblem, lam: Array, w: Array, v: Array) -> Array:
    """E h − h̄(λ, Ew⁺, Ev⁺) of the algorithm's own first step (v for v⁺ in reading "old")."""
    after, p = one_step(a, problem, lam, w, v)
    new_w, new_v = mean(p, after.w), mean(p, after.v)
    h_mean = problem.upper.grad_lam(lam, new_w)
    h_mean = h_mean - problem.lower.cross(lam, new_w) @ (v if a.reading == "old" else new_v)
    return mean(p, after.d) - h_mean


def one_step_bias(wrong: str = "", **changed: Any) -> Callable[[Model], Measurement]:
    """The gap of one step against the formula; ``wrong="none"``: against 0."""

    def measure(case: Model) -> Measurement:
        a, point = algorithm(case, **changed), state(case)
        found = gap(a, case.noisy, *point)
        stated = 0 * found if wrong == "none" else bias_of_masks(case, a, *point, wrong=wrong)
        return identity(found, stated)

    return measure


# -- the limit -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Watched(Model):
    """A model that computes the means of an algorithm on it once."""

    @cached_property
    def known(self) -> dict[FSLA, Means]:
        return {}

    def means(self, a: FSLA) -> Means:
        return self.known.setdefault(a, Means(a, self.noisy, self.lam))


def watched(case: Model) -> Watched:
    return Watched(case.plain, case.law, case.lam, case.params)


def watched_model(params: dict[str, Any]) -> Watched:
    return watched(masked_model(params))


def at_the_limit(wrong: str = "", **changed: Any) -> Callable[[Watched], Measurement]:
    """∇F̄ where the means settle against −b/η."""

    def measure(case: Watched) -> Measurement:
        a = algorithm(case, **changed)
        lam = case.means(a).limit["lam"]
        found = gradient(case.noisy, lam)
        if wrong == "none":
            return identity(found, 0 * found)
        exact = exact_hypergradient(case.noisy, lam, certify="never")
        eta = RATIONAL.scalar(a.sizes(0)[3])
        return identity(found, -bias_of_masks(case, a, lam, exact.w, exact.v, wrong=wrong) / eta)

    return measure


def settles(**changed: Any) -> Hypothesis:
    def predicate(case: Watched) -> tuple[bool, float]:
        radius = case.means(algorithm(case, **changed)).radius
        return radius < 1 and radius**WITHIN < EPS, radius

    return Hypothesis("the means settle", r"\rho(E\,T) < 1", predicate)


# -- for every k: start where the means stay --------------------------------------------------------------------


def ratio(case: Any) -> Fraction:
    """β/η."""
    return Fraction(*case.params.get("ratio", (1, 1)))


def resting(case: Any, bias: Callable[[Array], Array]) -> Array:
    """λ with ∇F̄(λ) + bias(λ) = 0."""
    return root(lambda lam: gradient(case.noisy, lam) + bias(lam), case.plain.n)


def path(case: Any, lam: Array, **changed: Any) -> list[Array]:
    """E ∇F̄(λ_k), k = 0, 1, …, under α_k = 1/√(k+1), η = 1, β = ratio, from λ, w(λ), v(λ)."""
    a = FSLA(delta=1, beta=ratio(case), reading=case.params.get("reading", "new"), **changed)
    exact = exact_hypergradient(case.noisy, lam, certify="never")
    steps = case.params.get("steps", 3)
    return [gradient(case.noisy, x) for x in Means(a, case.noisy, lam).along(steps, exact.w, exact.v)]


def mask_limit(case: Model) -> Callable[[Array], Array]:
    """λ ↦ (β/η) P_λ C (I−P) b(λ), b = H̄ v(λ)."""

    def bias(lam: Array) -> Array:
        exact = exact_hypergradient(case.noisy, lam, certify="never")
        H, _ = case.normal_equations(lam)
        return RATIONAL.scalar(ratio(case)) * by_projection(case, H @ exact.v)

    return bias


def stays_away(case: Model) -> Measurement:
    """min_k ‖E∇F̄(λ_k)‖² <= 0; by Jensen it is a lower bound of E‖∇F̄(λ_k)‖²."""
    values = path(case, resting(case, mask_limit(case)))
    return Measurement(observed=min(g @ g for g in values), bound=0)


def is_where_stated(case: Model) -> Measurement:
    """E∇F̄(λ_k) = −(β/η) P_λ C (I−P) b for every k."""
    bias = mask_limit(case)
    lam = resting(case, bias)
    return identity(path(case, lam), [-bias(lam)] * (case.params.get("steps", 3) + 1))


# -- the upper level's masks, and the w- and v-steps ------------------------------------------------------------


def next_means(a: FSLA, problem: BilevelProblem, lam: Array, x: Array) -> Array:
    """E of the state after a later iteration, from the states x (m, size): (m, size)."""
    B, space = problem.backend, a.space(problem)
    start = replace(a.init(problem, lam), k=1)
    names, index = tuple(start.arrays), np.arange(space.size)
    new = a.step(problem, start.with_vector(x, names), space.ahead(space.points(index), 1))
    images = B.broadcast(new.vector(B, names), (space.size, *x.shape))
    chances = RATIONAL.asarray([RATIONAL.scalar(p) for p in space.exact_probabilities(index)])
    return (chances[:, None, None] * images).sum(axis=0)


def same_next(one: str, other: str) -> Callable[[Model], Measurement]:
    """E[x⁺ | x] under two uses of randomness at 0, the unit vectors and (1, …, 1): an affine map is known by these."""

    def measure(case: Model) -> Measurement:
        upper = None if case.params.get("only_lower") else case.law.level
        problem = case.plain.with_dropout(lower=case.law.level, upper=upper)
        first, second = (algorithm(case, randomness=use) for use in (one, other))
        start = first.init(problem, case.lam)
        size = len(start.vector(RATIONAL, tuple(start.arrays)))
        eye = RATIONAL.eye(size)
        x = np.concatenate([0 * eye[:1], eye, 0 * eye[:1] + 1])
        return identity(next_means(first, problem, case.lam, x), next_means(second, problem, case.lam, x))

    return measure


def own_draws_apart() -> Hypothesis:
    """Is line h read @b, or ∇²_λwG the same at w = 0, 1 and 2?"""

    def predicate(case: Model) -> tuple[bool, str]:
        at_w = [
            case.plain.lower.cross(case.lam, RATIONAL.zeros((case.plain.d,)) + k).dense() for k in range(3)
        ]
        change = max(abs(C - at_w[0]).max() for C in at_w)
        return case.params.get("reading") == "old" or change == 0, str(change)

    return Hypothesis(
        "the cross derivative does not depend on w, or is multiplied by the v before",
        r"\nabla^2_{\lambda w}G \text{ constant in } w, \text{ or } \hat v = v",
        predicate,
    )


def same_means(one: str, other: str, *, second: bool = False) -> Callable[[Model], Measurement]:
    """The mean maps of the whole state under two uses of randomness; ``second``: of second moments."""

    def measure(case: Model) -> Measurement:
        problem = case.noisy
        if case.params.get("only_upper"):
            problem = case.plain.with_dropout(lower=None, upper=case.law.level)
        maps = [Means(algorithm(case, randomness=use), problem, case.lam) for use in (one, other)]
        if not second:
            return identity(maps[0].matrix, maps[1].matrix)
        one_in_all = RATIONAL.zeros((1,)) + np.ones((len(maps[0].matrix),) * 2, dtype=int)
        return identity(*(m.step.second(one_in_all) for m in maps))

    return measure
