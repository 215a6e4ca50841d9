"""Data hyper-cleaning (19) on digits: the improved model by BiG-SAM against the basic model by gradient descent on G.

The weights of the training samples are σ(λ_i); a sample with σ(λ_i) < ½ is flagged as wrongly labelled. All seeds run
at once, on a leading axis of the data, of λ and of w.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refimpl import BilevelProblem, networks
from refimpl.algorithms import Improved, run
from refimpl.datasets import corrupt_labels, load_digits
from refimpl.networks import MLP, NetworkLoss
from refimpl.solvers import Averaging, BiGSAM, contraction_of
from verification.experiments.data_cleaning import f1
from verification.experiments.registration import Registration, load

NAME = "improved_cleaning"
ANEW = {
    ("one-hidden", 0.4, "right"): "improved_cleaning_right"
}  # cells of table 1 with a registration of their own
SPLIT, LABELS, INITIAL = range(3)  # streams of random numbers of one seed
BASIC = 0


class Case(NamedTuple):
    """What is run. every: the F-step in every T-th inner step, ``BASIC`` for none; inner: K, 0 for the registered one.

    ``stream`` numbers other draws of w_0.
    """

    network: str
    corrupted: float
    every: int = 1
    inner: int = 0
    stream: int = 0


@dataclass(frozen=True, eq=False)
class Task:
    """The seeds' problems on a leading axis, which training labels are wrong (seeds, N), the test samples' loss."""

    problem: BilevelProblem
    wrong: np.ndarray
    test: NetworkLoss


@dataclass(frozen=True, eq=False)
class Curves:
    """One seed's run. After k iterations, each (iterations + 1,): F1 of the wrong labels and F1 of the right ones.

    F(λ_k, w_K), ‖∇_wG(λ_k, w_K)‖ and the test accuracy of w_K have entries k = 0 … iterations − 1. calls: derivative
    calls of an iteration. ``end``: the iteration at which the run has converged; where it has not, the last one.
    """

    wrong: np.ndarray
    right: np.ndarray
    upper: np.ndarray
    residual: np.ndarray
    test: np.ndarray
    calls: float
    end: int
    converged: bool
    window: int

    @property
    def iteration(self) -> np.ndarray:
        return np.arange(len(self.wrong))

    def final(self, curve: str) -> float:
        """Mean over the window that ends where the run has converged."""
        return float(np.mean(getattr(self, curve)[: self.end + 1][-self.window :]))

    def reaches(self, curve: str, level: float) -> int:
        """The first iteration at which a curve is at ``level`` or above; one more than there are if it never is."""
        above = np.flatnonzero(getattr(self, curve) >= level)
        return int(above[0]) if above.size else len(self.wrong)


def task(plan: Registration, network: str, corrupted: float) -> Task:
    """A seed has one split whatever is corrupted."""
    data, net = load_digits(), MLP(tuple(plan["networks"][network]), plan["networks"]["activation"])
    sizes = [plan["data"][name] for name in ("train", "validation", "test")]
    levels: list[list[NetworkLoss]] = [[], [], []]
    masks = []
    for seed in plan.seeds:
        order = np.random.default_rng([seed, SPLIT]).permutation(len(data.y))
        first, second, third, _ = np.split(order, np.cumsum(sizes))
        labels = np.random.default_rng([seed, LABELS])
        y, wrong = corrupt_labels(data.y[first], corrupted, data.classes, labels)
        levels[0].append(networks.loss(net, data.X[first], y, weighted=True))
        levels[1].append(
            networks.loss(net, data.X[second], data.y[second], n=len(first), reg=plan["algorithm"]["ridge"])
        )
        levels[2].append(networks.loss(net, data.X[third], data.y[third], n=len(first)))
        masks.append(wrong)
    lower, upper, test = (stacked(losses) for losses in levels)
    return Task(BilevelProblem(upper, lower), np.array(masks), test)


def stacked(losses: list[NetworkLoss]) -> NetworkLoss:
    """The same loss of several data sets, on a leading axis."""
    X, y = (np.stack([getattr(loss, name) for loss in losses]) for name in ("X", "y"))
    return dataclasses.replace(losses[0], X=X, y=y)


def algorithm(plan: Registration, case: Case) -> Improved:
    """Algorithm 5; of the basic model, which is ``every = BASIC``, algorithm 6."""
    rules = plan["algorithm"]
    beta = contraction_of(rules["ridge"], rules["smoothness"], rules["t"])
    improved = case.every != BASIC
    lower = BiGSAM(
        case.inner or rules["inner"],
        s=rules["s"],
        t=rules["t"],
        alpha=Averaging(beta, rules["gamma"]) if improved else 0,
        every=case.every if improved else 1,
    )
    return Improved(lower=lower, nu=rules["nu"])


@functools.cache  # several claims read the same runs; a dozen of some 10 kB
def curves(case: Case, *, name: str = NAME) -> tuple[Curves, ...]:
    """The runs of all seeds. Cost: some 0.1 s to 0.5 s for an iteration of 100 inner steps."""
    plan = load(name)
    found, rules, net = task(plan, case.network, case.corrupted), plan["algorithm"], plan["networks"]
    problem, iterations = found.problem, rules["iterations"]
    widths = MLP(tuple(net[case.network]), net["activation"])
    w0 = np.stack(
        [
            widths.random(np.random.default_rng([seed, INITIAL, case.stream]), gain=net["gain"])
            for seed in plan.seeds
        ]
    )
    method = algorithm(plan, case)
    start = method.init(problem, np.zeros((len(plan.seeds), problem.n)), w0)
    ran = run(method, problem, start, steps=iterations, rng=0, keep=("lam", "w"))
    lam, w = ran.trajectory["lam"], ran.trajectory["w"][1:]  # that of state k + 1 was found at λ_k
    before = lam[:-1]
    columns = (
        problem.upper.value(before, w),
        np.linalg.norm(problem.lower.grad_w(before, w), axis=-1),
        found.test.accuracy(before, w),
    )
    calls = sum(ran.counts.values()) / iterations
    window = plan["statistic"]["window"]
    out = []
    for i in range(len(plan.seeds)):
        upper, residual, test = (column[:, i] for column in columns)
        flagged, wrong = lam[:, i] < 0, found.wrong[i]
        end = settled(upper, window, plan["statistic"]["settled"])
        out.append(
            Curves(
                f1(flagged, wrong),
                f1(~flagged, ~wrong),
                upper,
                residual,
                test,
                calls,
                iterations if end is None else end,
                end is not None,
                window,
            )
        )
    return tuple(out)


def settled(upper: np.ndarray, window: int, share: float) -> int | None:
    """The first iteration over whose last ``window`` ones F has fallen by less than ``share`` of itself; or None."""
    fall = 1 - upper[window:] / upper[:-window]
    small = np.flatnonzero(fall < share)
    return int(small[0]) + window if small.size else None
