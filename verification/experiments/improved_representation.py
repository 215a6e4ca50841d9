"""Hyper-representation (20) on rotated digits: a shared map λ, a linear head for each task, improved and basic model.

Training: heads start at 0 and take K steps, of BiG-SAM with the query loss as F or of gradient descent on the support
loss G; λ descends on the query loss through them. New tasks, from digits that no training task has: their query labels
are not known, so that F cannot choose a head, and heads are fitted by K steps on the support alone, for both models.
Squared heads can also be solved: the improved model's in closed form, the basic one's as the limit of its steps.
All seeds run at once, on a leading axis of the data, of λ and of w.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refimpl import BilevelProblem, networks
from refimpl.approximate import reverse
from refimpl.datasets import Dataset, load_digits
from refimpl.datasets.episodes import Episode, EpisodeSampler, rotate_classes, split_classes
from refimpl.exact import improved_hypergradient
from refimpl.networks import MLP, SharedLoss
from refimpl.solvers import Averaging, BiGSAM
from verification.experiments.registration import Registration, load

NAME = "improved_representation"
SOLVED = 0
SPLIT, INITIAL, POOL, NEW, DRAWS = range(5)  # streams of random numbers of one seed


class Case(NamedTuple):
    """What is run. heads: "softmax" or "squared"; inner: K, or ``SOLVED``; ``stream`` numbers other draws of tasks."""

    heads: str
    ways: int
    shots: int
    inner: int
    improved: bool = True
    stream: int = 0


@dataclass(frozen=True, eq=False)
class Curves:
    """One seed's run, each (records,): iteration, accuracy on new tasks' queries.

    ``seen``: the same with heads fitted as in training, of the improved model with the labels of these very queries.
    """

    iteration: np.ndarray
    accuracy: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True, eq=False)
class Tasks:
    """Losses of some tasks, (seeds, tasks, ...): on the queries, to which a head's ``ridge`` comes, on the support."""

    query: SharedLoss
    support: SharedLoss
    ridge: float

    def some(self, index: np.ndarray) -> BilevelProblem:
        """The problem of each seed's tasks of these numbers, (seeds, b)."""
        rows = np.arange(len(index))[:, None]
        query, support = (
            dataclasses.replace(loss, X=loss.X[rows, index], y=loss.y[rows, index])
            for loss in (self.query, self.support)
        )
        return dataclasses.replace(self, query=query, support=support).all

    @property
    def all(self) -> BilevelProblem:
        """That of all of them."""
        reg = self.ridge / self.query.X.shape[-3]  # a mean over the tasks
        return BilevelProblem(dataclasses.replace(self.query, reg=reg), self.support)


def body(plan: Registration) -> MLP:
    """λ's network."""
    return MLP(tuple(plan["networks"]["body"]), plan["networks"]["activation"], body=True)


@functools.cache  # some 4 MB, which every run reads
def turned() -> Dataset:
    """The digits and their rotations."""
    return rotate_classes(load_digits())


def tasks(plan: Registration, case: Case) -> tuple[Tasks, Tasks]:
    """Training tasks, and new ones from other digits; every seed has its own."""
    sizes, data = plan["data"], turned()
    shape = {"ways": case.ways, "shots": case.shots, "queries": sizes["queries"]}
    drawn: list[list[Episode]] = [[], []]
    for seed in plan.seeds:
        own = split_classes(data.classes, sizes["classes"], np.random.default_rng([seed, SPLIT]), copies=4)
        for k, (classes, stream, count) in enumerate(
            zip(own, (POOL, NEW), (sizes["tasks"], sizes["new_tasks"]), strict=True)
        ):
            rng = np.random.default_rng([seed, stream, case.ways, case.shots])
            drawn[k].append(EpisodeSampler(data.X, data.y, classes).batch(rng, count, **shape))
    first, second = (losses(plan, case, episodes) for episodes in drawn)
    return first, second


def losses(plan: Registration, case: Case, episodes: list[Episode]) -> Tasks:
    """Of squared heads the targets are 1 and −1."""

    def stacked(part: str) -> SharedLoss:
        each = []
        for e in episodes:
            X, y = getattr(e, f"{part}_X"), getattr(e, f"{part}_y")
            labels = y if case.heads == "softmax" else 2.0 * np.eye(case.ways)[y] - 1
            each.append(networks.shared(body(plan), X, labels, outputs=case.ways, loss=case.heads))
        X, y = (np.stack([getattr(loss, name) for loss in each]) for name in ("X", "y"))
        return dataclasses.replace(each[0], X=X, y=y)

    return Tasks(stacked("query"), stacked("support"), plan["algorithm"]["ridge"])


def inner(plan: Registration, case: Case, count: int, *, improved: bool) -> BiGSAM:
    """K steps on ``count`` tasks, whose losses are means over them: a step is that of one task."""
    rules = plan["algorithm"]
    # min{weight/k, 1}: as weight = 2γ/(1 − β), γ is (1 − β) weight/2 whatever the contraction β is
    steps, alpha = rules[case.heads], Averaging(0, rules["weight"] / 2) if improved else 0
    K = rules["limit"] if case.inner == SOLVED else case.inner
    return BiGSAM(K, s=steps["s"] * count, t=steps["t"] * count, alpha=alpha)


def hypergradient(plan: Registration, case: Case, problem: BilevelProblem, lam: np.ndarray) -> np.ndarray:
    """Every seed's, (seeds, n)."""
    if case.inner == SOLVED and case.improved:
        return np.stack([improved_hypergradient(alone(problem, i), x).value for i, x in enumerate(lam)])
    lower = inner(plan, case, plan["algorithm"]["tasks"], improved=case.improved)
    found = reverse(problem, lam, lower=lower, w0=np.zeros((len(lam), problem.d)))
    return np.asarray(found.value)


def alone(problem: BilevelProblem, i: int) -> BilevelProblem:
    """One seed's problem."""
    upper, lower = problem.upper, problem.lower
    assert isinstance(upper, SharedLoss)
    assert isinstance(lower, SharedLoss)
    own = (dataclasses.replace(loss, X=loss.X[i], y=loss.y[i]) for loss in (upper, lower))
    return BilevelProblem(next(own), next(own))


@functools.cache  # several claims read the same runs; some dozens of a few kB
def curves(case: Case, *, name: str = NAME) -> tuple[Curves, ...]:
    """The runs of all seeds."""
    plan = load(name)
    rules, every = plan["algorithm"], plan["statistic"]["every"]
    train, new = tasks(plan, case)
    draws = [np.random.default_rng([seed, DRAWS, case.stream]) for seed in plan.seeds]
    lam = np.stack([body(plan).random(np.random.default_rng([seed, INITIAL])) for seed in plan.seeds])
    found = []
    iterations = rules["solved_iterations" if case.inner == SOLVED else "iterations"]
    for k in range(iterations + 1):
        if k % every == 0:
            found.append((k, *(on_new(plan, case, new, lam, improved=i) for i in (False, case.improved))))
        index = np.stack([rng.choice(plan["data"]["tasks"], rules["tasks"], replace=False) for rng in draws])
        problem = train.some(index)
        lam = lam - rules[case.heads]["nu"] * hypergradient(plan, case, problem, lam)
    iteration, accuracy, seen = (np.array(column) for column in zip(*found, strict=True))
    return tuple(Curves(iteration, accuracy[:, i], seen[:, i]) for i in range(len(plan.seeds)))


def on_new(plan: Registration, case: Case, new: Tasks, lam: np.ndarray, *, improved: bool) -> np.ndarray:
    """Each seed's mean accuracy on new tasks' queries, (seeds,), the heads fitted by K inner steps."""
    problem = new.all
    lower = inner(plan, case, plan["data"]["new_tasks"], improved=improved)
    w = lower.run(problem, lam, np.zeros((len(lam), problem.d))).w
    return np.asarray(new.query.accuracy(lam, w).mean(-1))
