"""Data cleaning on digits by Algorithm 1: what happens to accuracy, its spread and the detection of wrong labels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refimpl import BilevelProblem, networks
from refimpl.algorithms import DropoutFSLA, run
from refimpl.datasets import corrupt_labels, load_digits
from refimpl.networks import MLP, NetworkLoss
from refimpl.spaces import Bernoulli
from verification.experiments.registration import Registration, load

NAME = "data_cleaning"
SPLIT, INITIAL, SAMPLES = range(3)  # streams of random numbers of one seed


@dataclass(frozen=True, eq=False)
class Task:
    """One seed's data: the training loss (weighted), the validation and test losses, and which labels are wrong."""

    train: NetworkLoss
    clean: NetworkLoss  # the training samples with their true labels
    validation: NetworkLoss
    test: NetworkLoss
    corrupted: np.ndarray


@dataclass(frozen=True, eq=False)
class Curves:
    """What is recorded, each (records,): iteration, accuracies, F1 of "σ(λ_i) < ½ means a wrong label"."""

    iteration: np.ndarray
    train: np.ndarray
    clean: np.ndarray
    test: np.ndarray
    f1: np.ndarray

    def window(self, share: Sequence[float]) -> np.ndarray:
        """The records between these shares of the iterations."""
        done = self.iteration / self.iteration[-1]
        return (share[0] <= done) & (done <= share[1])


def task(plan: Registration, network: str, seed: int, corrupted: float) -> Task:
    """The losses of a seed; the split is the same whatever share of the labels is corrupted."""
    sizes, widths = plan["data"], tuple(plan["networks"][network])
    data, rng = load_digits(), np.random.default_rng([seed, SPLIT])
    order = rng.permutation(len(data.y))
    first, second, rest = np.split(order, np.cumsum([sizes["train"], sizes["validation"]]))
    wrong, mask = corrupt_labels(data.y[first], corrupted, data.classes, rng)
    net, n = MLP(widths, ("relu",) * (len(widths) - 2)), len(first)
    return Task(
        networks.loss(net, data.X[first], wrong, reg=plan["algorithm"]["reg"], weighted=True),
        networks.loss(net, data.X[first], data.y[first], n=n),
        networks.loss(net, data.X[second], data.y[second], n=n),
        networks.loss(net, data.X[rest], data.y[rest], n=n),
        mask,
    )


def masks(net: MLP, keep_prob: float) -> Bernoulli:
    """One variable per hidden unit's row; without hidden units one per input feature, whose column it covers."""
    if net.units:
        return net.rows(keep_prob)
    rows, columns = net.shapes[0]
    return Bernoulli([keep_prob] * (columns - 1) + [1], groups=list(range(columns)) * rows)


@functools.cache  # several claims read the same runs; some hundred curves of a few kB
def curves(
    network: str,
    keep_prob: float,
    seed: int,
    *,
    stream: int = 0,
    corrupted: float | None = None,
    name: str = NAME,
) -> Curves:
    """One run; ``stream`` numbers other draws of masks and minibatches, ``corrupted`` replaces the registered share.

    Cost: some 1200 iterations of 1 to 5 ms.
    """
    plan = load(name)
    rules, every = dict(plan["algorithm"]), plan["statistic"]["every"]
    steps = rules.pop("iterations")
    rules.pop("reg")
    keep_probs = [1.0, *rules.pop("keep_probs")]
    share = plan["data"]["corrupted"] if corrupted is None else corrupted
    data = task(plan, network, seed, share)
    net = data.train.net
    space = masks(net, keep_prob)
    problem = BilevelProblem(data.validation, data.train).with_dropout(lower=space, upper=None)
    algorithm = DropoutFSLA(**rules)
    w = net.random(np.random.default_rng([seed, INITIAL]), gain=2**0.5)
    start = algorithm.init(problem, np.zeros(problem.n), w)
    rng = np.random.default_rng([seed, SAMPLES, stream, keep_probs.index(keep_prob)])
    found = run(algorithm, problem, start, steps=steps, rng=rng, every=every, keep=("lam", "w"))
    lam = found.trajectory["lam"]
    w = found.trajectory["w"] * [float(p) for p in space.of_coordinates()]  # the mean network
    train, clean, test = (loss.accuracy(lam, w) for loss in (data.train, data.clean, data.test))
    return Curves(np.array(found.times), train, clean, test, f1(lam < 0, data.corrupted))


def f1(flagged: np.ndarray, corrupted: np.ndarray) -> np.ndarray:
    """2 TP / (flagged + corrupted), (...) from flags (..., N); 1 where nothing is flagged and nothing corrupted."""
    both, either = (flagged & corrupted).sum(-1), flagged.sum(-1) + corrupted.sum()
    return np.where(either == 0, 1.0, 2 * both / np.maximum(either, 1))
