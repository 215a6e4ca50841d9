"""Reweighting digits with wrong labels: L2RW, Meta-Weight-Net and hyper-cleaning at equal numbers of derivative calls.

Also hyper-cleaning that solves its lower level in every iteration, and gradient descent at weights that stay ½.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl import BilevelProblem
from refimpl.algorithms import L2RW, Algorithm, MetaWeightNet, run
from refimpl.approximate import implicit
from refimpl.datasets import corrupt_labels, load_digits
from refimpl.problem import FixedPointProblem
from refimpl.solvers import ConjugateGradient, GradientDescent, NewtonCG
from refimpl.solvers.lower import LowerSolver
from refimpl.zoo import weight_function, weighted_softmax
from refimpl.zoo.weight_function import WeightFunctionMap
from refimpl.zoo.weighted_softmax import Cleaning
from verification.experiments.data_cleaning import f1
from verification.experiments.registration import Registration, load

NAME = "reweighting_methods"
L2RW_NAME = "reweighting_methods_l2rw"  # registered anew, without a ridge
SPLIT, INITIAL = range(2)  # streams of random numbers of one seed
CALLS = ("lower.grad_w", "lower.hess_ww", "lower.cross", "upper.grad_w", "phi.value", "phi.d_lam")


@dataclass(frozen=True, eq=False)
class Task:
    """One seed's data, and its test samples."""

    data: Cleaning
    X_test: np.ndarray
    y_test: np.ndarray
    reg: float

    def problem(self, **options: Any) -> BilevelProblem:
        """With this ridge, unless ``options`` has another."""
        d = self.data
        return weighted_softmax.problem(
            d.X, d.y, d.X_val, d.y_val, classes=d.classes, **{"reg": self.reg, **options}
        )

    def mapped(self, **options: Any) -> FixedPointProblem:
        """With a weight function."""
        d = self.data
        return weight_function.problem(d.X, d.y, d.X_val, d.y_val, classes=d.classes, reg=self.reg, **options)

    def accuracy(self, w: np.ndarray) -> np.ndarray:
        """On the test samples, (...) from w (..., d)."""
        scores = self.X_test @ np.swapaxes(w.reshape(*w.shape[:-1], self.data.classes, -1), -1, -2)
        return np.asarray((scores.argmax(-1) == self.y_test).mean(-1))


@dataclass(frozen=True, eq=False)
class Curves:
    """What is recorded, each (records,): calls, test accuracy, F1 and ROC area of "small weights are wrong labels"."""

    calls: np.ndarray
    accuracy: np.ndarray
    f1: np.ndarray
    auc: np.ndarray

    def window(self, share: Sequence[float]) -> np.ndarray:
        """The records between these shares of the calls."""
        done = self.calls / self.calls[-1]
        return (share[0] <= done) & (done <= share[1])


@dataclass(frozen=True, eq=False)
class Path:
    """Records of a run: calls (records,), weights (records, N), those that count as small, w (records, d)."""

    calls: np.ndarray
    weights: np.ndarray
    small: np.ndarray
    w: np.ndarray


def task(plan: Registration, seed: int, corrupted: float | None = None) -> Task:
    """The split is the same whatever share of the labels is corrupted."""
    sizes, data, rng = plan["data"], load_digits(), np.random.default_rng([seed, SPLIT])
    X, order = np.c_[data.X, np.ones(len(data.y))], rng.permutation(len(data.y))
    first, second, rest = np.split(order, np.cumsum([sizes["train"], sizes["validation"]]))
    share = sizes["corrupted"] if corrupted is None else corrupted
    y, wrong = corrupt_labels(data.y[first], share, data.classes, rng)
    clean = Cleaning(X[first], y, X[second], data.y[second], data.classes, wrong)
    return Task(clean, X[rest], data.y[rest], plan["algorithm"]["reg"])


def start(plan: Registration, seed: int, d: int, stream: int) -> np.ndarray:
    """w_0."""
    return plan["algorithm"]["start"] * np.random.default_rng([seed, INITIAL, stream]).standard_normal(d)


def spent(counts: Mapping[str, int]) -> int:
    """Gradients and products."""
    return sum(counts.get(key, 0) for key in CALLS)


def iterated(
    plan: Registration, problem: BilevelProblem | FixedPointProblem, algorithm: Algorithm, w0: np.ndarray
) -> tuple[Any, np.ndarray]:
    """A run within the budget with every state's λ and w, and the calls spent in each."""
    lam = np.asarray(problem.initial)
    each = spent(run(algorithm, problem, algorithm.init(problem, lam, w0), steps=1, rng=0).counts)
    steps, begin = plan["algorithm"]["budget"] // each, algorithm.init(problem, lam, w0)
    found = run(algorithm, problem, begin, steps=steps, rng=0, keep=("lam", "w"))
    return found.trajectory, each * np.arange(steps + 1)


def recorded(plan: Registration, count: int) -> np.ndarray:
    """Indices of the records among 0 … count − 1, without the start."""
    return np.linspace(0, count - 1, plan["statistic"]["records"] + 1).round().astype(int)[1:]


def l2rw(plan: Registration, t: Task, w0: np.ndarray) -> Path:
    """Weights are their mean over the iterations before, as a sample's weight is often 0 in one and not in the next.

    It has a ridge of its own: one that suits weights of about ½ outweighs the data N-fold where the weights' sum is 1.
    """
    rules = plan["algorithm"]["l2rw"]
    problem = t.problem(weights="identity", reg=rules["reg"])
    states, calls = iterated(plan, problem, L2RW(alpha=rules["alpha"]), w0)
    at, width = recorded(plan, len(calls)), plan["statistic"]["average"]
    weights = np.array([states["lam"][max(1, k - width + 1) : k + 1].mean(0) for k in at])
    return Path(calls[at], weights, weights < 1 / problem.n, states["w"][at])


def mwn(plan: Registration, t: Task, w0: np.ndarray) -> Path:
    """Free weights."""
    states, calls = iterated(
        plan, t.problem(weights="identity"), MetaWeightNet(**plan["algorithm"]["mwn"]), w0
    )
    at = recorded(plan, len(calls))
    return Path(calls[at], states["lam"][at], states["lam"][at] < 0.5, states["w"][at])


def mwn_function(plan: Registration, t: Task, w0: np.ndarray, seed: int) -> Path:
    """A weight function of the loss."""
    rules = plan["algorithm"]["mwn-function"]
    problem = t.mapped(hidden=plan["networks"]["hidden"], step=rules["step"], seed=seed)
    assert isinstance(problem.phi, WeightFunctionMap)
    states, calls = iterated(plan, problem, MetaWeightNet(alpha=1.0, eta=rules["eta"]), w0)
    at = recorded(plan, len(calls))
    weights = np.array([problem.phi.weights(states["lam"][k], states["w"][k]) for k in at])
    return Path(calls[at], weights, weights < 0.5, states["w"][at])


def cleaned(
    plan: Registration, t: Task, w0: np.ndarray, rules: Mapping[str, Any], lower: LowerSolver
) -> Path:
    """Hyper-cleaning by the implicit hypergradient; the lower level goes on from the last w."""
    problem, linear = t.problem(), ConjugateGradient(rules["linear"])
    calls, budget, w = [0], plan["algorithm"]["budget"], w0
    lams, ws = [np.zeros(problem.n)], [w0]
    while calls[-1] < budget:
        found = implicit(problem, lams[-1], lower=lower, linear=linear, w0=w)
        w = found.w
        lams.append(lams[-1] - rules["eta"] * found.value)
        ws.append(w)
        calls.append(calls[-1] + spent(found.calls))
    at = recorded(plan, len(calls))
    lam = np.array(lams)[at]
    return Path(np.array(calls)[at], lam, lam < 0, np.array(ws)[at])


def path(plan: Registration, method: str, t: Task, w0: np.ndarray, seed: int) -> Path:
    """The method of that name in the registration."""
    rules = plan["algorithm"][method]
    if method == "cleaning":
        return cleaned(plan, t, w0, rules, GradientDescent(rules["lower"], rules["step"]))
    if method == "solved":
        return cleaned(plan, t, w0, rules, NewtonCG(rules["tolerance"]))
    if method == "mwn-function":
        return mwn_function(plan, t, w0, seed)
    simple: dict[str, Callable[[Registration, Task, np.ndarray], Path]] = {"l2rw": l2rw, "mwn": mwn}
    return simple[method](plan, t, w0)


@functools.cache  # several claims read the same runs; some curves of a few hundred bytes
def curves(method: str, seed: int, *, stream: int = 0, name: str = NAME) -> Curves:
    """One run; ``stream`` numbers other w_0. Cost: some 6000 calls of half a millisecond."""
    plan = load(name)
    t = task(plan, seed)
    w0 = start(plan, seed, t.data.X.shape[1] * t.data.classes, stream)
    found, wrong = path(plan, method, t, w0, seed), t.data.corrupted
    area = np.array([auc(weights, wrong) for weights in found.weights])
    return Curves(found.calls, t.accuracy(found.w), f1(found.small, wrong), area)


@dataclass(frozen=True, eq=False)
class Descent:
    """Test accuracies at weights ½: after 0, 1, … steps of gradient descent on G, and of the solution."""

    steps: np.ndarray
    solution: float


@functools.cache
def descent(seed: int, *, corrupted: float | None = None, name: str = NAME) -> Descent:
    """``corrupted`` replaces the registered share of wrong labels."""
    plan = load(name)
    t, rules = task(plan, seed, corrupted), plan["algorithm"]["half"]
    problem, step = t.problem(), plan["algorithm"]["cleaning"]["step"]
    lam, w0 = np.zeros(problem.n), start(plan, seed, problem.d, 0)
    states = GradientDescent(rules["steps"], step).run(problem, lam, w0, keep=None).states
    solution = NewtonCG(rules["tolerance"]).run(problem, lam, w0).w
    return Descent(t.accuracy(np.array(states)), float(t.accuracy(solution)))


def auc(weights: np.ndarray, wrong: np.ndarray) -> float:
    """The share of pairs of a wrong and a right label where the wrong one has the smaller weight; ties count ½."""
    from scipy.stats import rankdata

    ranks, count = rankdata(-weights), int(wrong.sum())
    return float((ranks[wrong].sum() - count * (count + 1) / 2) / (count * (len(wrong) - count)))
