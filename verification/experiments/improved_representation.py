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
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refimpl import BilevelProblem, networks
from refimpl.approximate import reverse
from refimpl.counting import counted
from refimpl.datasets import Dataset, load_digits
from refimpl.datasets.episodes import Episode, EpisodeSampler, rotate_classes, split_classes
from refimpl.exact import improved_hypergradient
from refimpl.networks import MLP, SharedLoss
from refimpl.solvers import Averaging, BiGSAM
from verification.experiments.registration import Registration, load

NAME = "improved_representation"
CALLS_NAME = "improved_representation_calls"  # registered for equal numbers of derivative calls
SOLVED = 0
SPLIT, INITIAL, POOL, NEW, DRAWS = range(5)  # streams of random numbers of one seed


class Case(NamedTuple):
    """What is run. heads: "softmax" or "squared"; inner: K, or ``SOLVED``; ``stream`` numbers other draws of tasks.

    per_call: the basic model takes as many iterations as the derivative calls of the improved model's allow.
    """

    heads: str
    ways: int
    shots: int
    inner: int
    improved: bool = True
    stream: int = 0
    per_call: bool = False


@dataclass(frozen=True, eq=False)
class Curves:
    """One seed's run, each (records,): iteration, accuracy on new tasks' queries.

    ``seen``: the same with heads fitted as in training, of the improved model with the labels of these very queries.
    ``calls``: derivative calls of the training until then, gradients and products; ``matrices``: Hessians and cross
    derivatives that are assembled instead, where heads are solved.
    """

    iteration: np.ndarray
    accuracy: np.ndarray
    seen: np.ndarray
    calls: np.ndarray
    matrices: np.ndarray


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


class Found(NamedTuple):
    """Every seed's hypergradient, (seeds, n), and what one seed's costs: the mean over the seeds."""

    value: np.ndarray
    calls: float
    matrices: float


def hypergradient(plan: Registration, case: Case, problem: BilevelProblem, lam: np.ndarray) -> Found:
    """Counted by ``refimpl.counting``."""
    if case.inner == SOLVED and case.improved:
        values, tally = [], Counter[str]()
        for i, x in enumerate(lam):
            watched, own = counted(alone(problem, i))
            assert isinstance(watched, BilevelProblem)
            values.append(improved_hypergradient(watched, x, certify="never").value)
            tally += own
        return Found(np.stack(values), *(count / len(lam) for count in spent(tally)))
    lower = inner(plan, case, plan["algorithm"]["tasks"], improved=case.improved)
    found = reverse(problem, lam, lower=lower, w0=np.zeros((len(lam), problem.d)))
    return Found(np.asarray(found.value), *spent(found.calls))


def spent(counts: Mapping[str, int]) -> tuple[int, int]:
    """Gradients and products; assembled matrices."""
    matrices = sum(count for key, count in counts.items() if key.endswith("dense"))
    return sum(counts.values()) - matrices, matrices


def alone(problem: BilevelProblem, i: int) -> BilevelProblem:
    """One seed's problem."""
    upper, lower = problem.upper, problem.lower
    assert isinstance(upper, SharedLoss)
    assert isinstance(lower, SharedLoss)
    own = (dataclasses.replace(loss, X=loss.X[i], y=loss.y[i]) for loss in (upper, lower))
    return BilevelProblem(next(own), next(own))


def length(plan: Registration, case: Case, problem: BilevelProblem, lam: np.ndarray) -> int:
    """The number of iterations; every one of a case has as many calls as that of this problem."""
    registered = int(plan["algorithm"]["solved_iterations" if case.inner == SOLVED else "iterations"])
    if case.improved or not case.per_call:
        return registered
    improved, basic = (
        hypergradient(plan, c, problem, lam).calls for c in (case._replace(improved=True), case)
    )
    return int(registered * improved // basic)


@functools.cache  # several claims read the same runs; some dozens of a few kB
def curves(case: Case, *, name: str = NAME) -> tuple[Curves, ...]:
    """The runs of all seeds. Records are at equal shares of the iterations, as many for either model."""
    plan = load(name)
    rules, data = plan["algorithm"], plan["data"]
    train, new = tasks(plan, case)
    draws = [np.random.default_rng([seed, DRAWS, case.stream]) for seed in plan.seeds]
    lam = np.stack([body(plan).random(np.random.default_rng([seed, INITIAL])) for seed in plan.seeds])
    some = train.some(np.tile(np.arange(rules["tasks"]), (len(lam), 1)))
    iterations = length(plan, case, some, lam)
    records = length(plan, case._replace(per_call=False), some, lam) // plan["statistic"]["every"]
    at, found, calls, matrices = np.linspace(0, iterations, records + 1).round().astype(int), [], 0.0, 0.0
    for k in range(iterations + 1):
        if k in at:
            accuracies = (on_new(plan, case, new, lam, improved=i) for i in (False, case.improved))
            found.append((k, *accuracies, calls, matrices))
        index = np.stack([rng.choice(data["tasks"], rules["tasks"], replace=False) for rng in draws])
        step = hypergradient(plan, case, train.some(index), lam)
        lam = lam - rules[case.heads]["nu"] * step.value
        calls, matrices = calls + step.calls, matrices + step.matrices
    iteration, accuracy, seen, *costs = (np.array(column) for column in zip(*found, strict=True))
    return tuple(Curves(iteration, accuracy[:, i], seen[:, i], *costs) for i in range(len(plan.seeds)))


def on_new(plan: Registration, case: Case, new: Tasks, lam: np.ndarray, *, improved: bool) -> np.ndarray:
    """Each seed's mean accuracy on new tasks' queries, (seeds,), the heads fitted by K inner steps."""
    problem = new.all
    lower = inner(plan, case, plan["data"]["new_tasks"], improved=improved)
    w = lower.run(problem, lam, np.zeros((len(lam), problem.d))).w
    return np.asarray(new.query.accuracy(lam, w).mean(-1))
