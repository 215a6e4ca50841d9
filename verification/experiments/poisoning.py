"""Data poisoning on digits (contraction, section 7.3): every method's random search under one budget of samples.

The document's methods are Algorithm 2 with w, or w and v, kept from one λ to the next. With w_s, v_s where iteration s
ends, b data per draw of the lower level and all of the upper level's:

    w ← w − η ∇_wG(λ, w; ζ_i),  t times, from w_{s−1} (warm) or 0
    v ← v − η' (∇²_wwG(λ, w; ζ̂_i) v − ∇_wF(λ, w)),  k times, from v_{s−1} (warm) or 0
    λ ← P_Λ(λ − α (∇_λF − ∇²_λwG(λ, w; ζ') v)),  ζ' of J b data
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl import BilevelProblem
from refimpl.algorithms.protocol import projected
from refimpl.approximate.stochastic import StochasticIteration
from refimpl.counting import CountedObjective
from refimpl.draws import Draws
from refimpl.errors import NotConverged
from refimpl.rates import Harmonic, Rate, as_rate
from refimpl.solvers import GradientDescent
from refimpl.solvers.lower import overflow_allowed, require_finite
from refimpl.spaces import Product
from refimpl.zoo import poisoning
from verification.experiments.registration import Registration, load

NAME = "poisoning"
CLASSES = 10
SEARCH, DRAWS = range(2)  # streams of random numbers of one seed
COLUMNS = ("t", "k", "lower", "linear", "alpha", "decay")  # what a random search draws
COUNTS = ("t", "k")


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of table 2: lengths and the linear step are the names of columns, or the number 1.

    warm: are w and v kept? full: does each draw of the lower level take all of its data? decreasing: are η and η'
    multiplied by decay/(decay + i) in step i of each loop?
    """

    name: str
    warm: tuple[bool, bool]
    t: str | int
    k: str | int
    J: str | int
    linear: str
    full: bool = False
    decreasing: bool = False

    def of(self, drawn: Mapping[str, Any], batch: int) -> Configuration:
        """Its configuration in a row of the search."""
        t, k, J = (of if isinstance(of, int) else drawn[of] for of in (self.t, self.k, self.J))
        return Configuration(
            warm=self.warm,
            t=t,
            k=k,
            J=J,
            lower=drawn["lower"],
            linear=drawn[self.linear],
            alpha=drawn["alpha"],
            decay=drawn["decay"] if self.decreasing else None,
            batch=None if self.full else batch,
        )


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """t, k, J, the steps η (lower), η' (linear) and α; batch: data per draw, None: all, and then J is 1."""

    warm: tuple[bool, bool]
    t: int
    k: int
    J: int
    lower: float
    linear: float
    alpha: float
    decay: float | None
    batch: int | None

    def rate(self, step: float) -> Rate:
        """η_i of a loop."""
        return as_rate(step) if self.decay is None else Harmonic(step * self.decay, self.decay)

    def cost(self, train: int, validation: int) -> int:
        """Single-sample gradients and products of an iteration: (t + k + J) b of the lower level, all of the upper."""
        return (self.t + self.k + self.J) * (train if self.batch is None else self.batch) + validation


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class Iterate:
    """λ, and the w and v it was reached with."""

    lam: Any
    w: Any
    v: Any


def at_noise(problem: BilevelProblem, lam: Any) -> BilevelProblem:
    """The problem with the lower level at Γ = λ: a softmax loss, whose minibatches are cheaper; still counted."""
    level = problem.lower
    inner: Any = level.inner if isinstance(level, CountedObjective) else level
    fixed = inner.at_noise(lam)
    if isinstance(level, CountedObjective):
        fixed = dataclasses.replace(level, inner=fixed)
    return problem.with_level(fixed)


def step(problem: BilevelProblem, rules: Configuration, at: Iterate, rng: np.random.Generator) -> Iterate:
    """One iteration. Raises ``NotConverged`` where its numbers overflow."""
    fixed = at_noise(problem, at.lam)
    lower = StochasticIteration(rules.t, rules.rate(rules.lower), rules.batch)
    linear = StochasticIteration(rules.k, rules.rate(rules.linear), rules.batch)
    cross = Draws(problem.lower, rules.batch and rules.J * rules.batch)
    drawn = Product((lower.space(fixed), linear.space(fixed), cross.space)).sample(rng, ())
    F, G = Draws(problem.upper).at(((), ())), cross.at(drawn[2])
    w = lower.run(fixed, at.lam, at.w if rules.warm[0] else None, drawn[0])
    v = linear.adjoint(fixed, at.lam, w, F.grad_w(at.lam, w), at.v if rules.warm[1] else None, drawn[1])
    h = F.grad_lam(at.lam, w) - G.cross(at.lam, w) @ v
    lam = at.lam - rules.alpha * h
    require_finite(problem.backend, lam, "λ before its projection")
    return Iterate(projected(problem, lam), w, v)


def attack(problem: BilevelProblem, rules: Configuration, iterations: int, rng: np.random.Generator) -> Any:
    """Γ after these iterations from 0; None where the method diverges."""
    at = Iterate(problem.start(), problem.w(None), problem.w(None))
    try:
        with overflow_allowed():
            for _ in range(iterations):
                at = step(problem, rules, at, rng)
    except NotConverged:
        return None
    return at.lam


@dataclass(frozen=True, eq=False)
class Found:
    """A configuration, how often it moved λ, and the accuracies of the final model; 1 where it diverged."""

    rules: Configuration
    iterations: int
    validation: float
    test: float


@functools.cache  # all methods attack the same task
def task(seed: int, name: str = NAME) -> tuple[poisoning.Poisoning, BilevelProblem]:
    """The seed's split, poisoned samples, and problem (25)."""
    plan = load(name)
    rules, split = plan["algorithm"], {**plan["data"], "seed": seed}
    data = poisoning.digits_data(**split)
    reg = 2 * rules["penalty"] / (CLASSES * data.X.shape[1])
    return data, poisoning.digits(reg=reg, radius=rules["radius"], **split)


def columns(plan: Registration, seed: int, stream: int = 0) -> list[dict[str, Any]]:
    """The rows of a random search, log-uniform in the registered ranges, the same for all methods."""
    rules, rng = plan["algorithm"], np.random.default_rng([seed, SEARCH, stream])
    low, high = np.log(np.array([rules["ranges"][name] for name in COLUMNS], dtype=float)).T
    drawn = np.exp(rng.uniform(low, high, (rules["configurations"], len(COLUMNS))))
    return [
        {name: round(x) if name in COUNTS else float(x) for name, x in zip(COLUMNS, row, strict=True)}
        for row in drawn
    ]


def methods(plan: Registration) -> dict[str, Method]:
    """Those of the registration, by name."""
    rows = (Method(**{**row, "warm": tuple(row["warm"])}) for row in plan["algorithm"]["methods"])
    return {method.name: method for method in rows}


@functools.cache  # all claims read the same searches; some hundred accuracies
def search(method: str, seed: int, *, stream: int = 0, name: str = NAME) -> tuple[Found, ...]:
    """What each configuration of a method found; ``stream`` numbers searches with other configurations and draws."""
    plan, (data, problem) = load(name), task(seed, name)
    rules, own, place = plan["algorithm"], methods(plan)[method], list(methods(plan)).index(method)
    results = []
    for i, row in enumerate(columns(plan, seed, stream)):
        configuration = own.of(row, rules["batch"])
        iterations = rules["budget"] // configuration.cost(len(data.y), len(data.y_val))
        rng = np.random.default_rng([seed, DRAWS, stream, place, i])
        lam = attack(problem, configuration, iterations, rng)
        scores = (1.0, 1.0) if lam is None else accuracies(plan, seed, lam, name)
        results.append(Found(configuration, iterations, *scores))
    return tuple(results)


def untouched(seed: int, *, name: str = NAME) -> Found:
    """A method that makes no iteration: the model without an attack."""
    plan, problem = load(name), task(seed, name)[1]
    own, row = next(iter(methods(plan).values())), columns(plan, seed)[0]
    return Found(own.of(row, plan["algorithm"]["batch"]), 0, *accuracies(plan, seed, problem.start(), name))


def accuracies(plan: Registration, seed: int, lam: Any, name: str = NAME) -> tuple[float, float]:
    """On the validation and the test samples, of the model trained on the data that Γ poisons."""
    data, problem = task(seed, name)
    final = plan["algorithm"]["final"]
    fixed = at_noise(problem, lam)
    w = GradientDescent(final["steps"], final["step"]).run(fixed, lam, problem.w(None)).w
    return (
        float(poisoning.accuracy(data.X_val, data.y_val, w)),
        float(poisoning.accuracy(data.X_test, data.y_test, w)),
    )
