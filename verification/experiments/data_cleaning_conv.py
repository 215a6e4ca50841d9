"""Data cleaning on digits by Algorithm 1 with a convolutional network, dropout after each convolution."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from refimpl import BilevelProblem
from refimpl.algorithms import DropoutFSLA, run
from refimpl.datasets import corrupt_labels, load_digits
from refimpl.networks.traced import Convolutional, TracedLoss, traced_loss
from verification.experiments.data_cleaning import INITIAL, SAMPLES, SPLIT, Curves, f1
from verification.experiments.registration import Registration, load

NAME = "data_cleaning_conv"


@dataclass(frozen=True, eq=False)
class Task:
    """One seed's data: the training loss (weighted), the validation and test losses, and which labels are wrong."""

    train: TracedLoss
    clean: TracedLoss  # the training samples with their true labels
    validation: TracedLoss
    test: TracedLoss
    corrupted: np.ndarray


def task(plan: Registration, network: str, seed: int, corrupted: float) -> Task:
    """The losses of a seed; the split is the same whatever share of the labels is corrupted."""
    sizes, fields = plan["data"], dict(plan["networks"][network])
    net = Convolutional(**fields | {"stages": tuple(map(tuple, fields["stages"]))})
    data, rng = load_digits(), np.random.default_rng([seed, SPLIT])
    order = rng.permutation(len(data.y))
    first, second, rest = np.split(order, np.cumsum([sizes["train"], sizes["validation"]]))
    X = sizes["scale"] * (data.X - data.X[first].mean(axis=0))
    wrong, mask = corrupt_labels(data.y[first], corrupted, data.classes, rng)
    n = len(first)
    return Task(
        traced_loss(net, X[first], wrong, reg=plan["algorithm"]["reg"], weighted=True),
        traced_loss(net, X[first], data.y[first], n=n),
        traced_loss(net, X[second], data.y[second], n=n),
        traced_loss(net, X[rest], data.y[rest], n=n),
        mask,
    )


@functools.cache  # several claims read the same runs; some dozens of curves of a few kB
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

    Cost: some 440 iterations of 10 to 20 ms.
    """
    plan = load(name)
    rules, every = dict(plan["algorithm"]), plan["statistic"]["every"]
    steps = rules.pop("iterations")
    gain = rules.pop("gain")
    rules.pop("reg")
    keep_probs = [1.0, *rules.pop("keep_probs")]
    data = task(plan, network, seed, plan["data"]["corrupted"] if corrupted is None else corrupted)
    net = data.train.architecture
    problem = BilevelProblem(data.validation, data.train).with_dropout(
        lower=net.unit_masks(keep_prob), upper=None, site="activations", scale="none"
    )
    algorithm = DropoutFSLA(**rules)
    w = net.random(np.random.default_rng([seed, INITIAL]), gain=gain)
    start = algorithm.init(problem, np.zeros(problem.n), w)
    rng = np.random.default_rng([seed, SAMPLES, stream, keep_probs.index(keep_prob)])
    found = run(algorithm, problem, start, steps=steps, rng=rng, every=every, keep=("lam", "w"))
    lam, w = found.trajectory["lam"], found.trajectory["w"]
    mean = np.full(net.units, keep_prob)
    train, clean, test = (
        loss.drop_units(mean).accuracy(lam, w) for loss in (data.train, data.clean, data.test)
    )
    return Curves(np.array(found.times), train, clean, test, f1(lam < 0, data.corrupted))
