"""What the flatness experiments on digits share: a seed's training and test loss of a network, and where it starts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refimpl import networks
from refimpl.datasets import load_digits
from refimpl.networks import MLP, NetworkLoss
from verification.experiments.registration import Registration

SPLIT, INITIAL, TRAINING, GRADIENTS, MASKS = range(5)  # streams of random numbers of one seed
GAIN = 2**0.5  # of the initial weights: ReLU layers then keep the size of what passes through them


@dataclass(frozen=True, eq=False)
class Task:
    """One seed's losses, and the parameters that all its runs start from."""

    train: NetworkLoss
    test: NetworkLoss
    start: np.ndarray


def split(seed: int, train: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """X and y of the training samples, and of all others."""
    data = load_digits()
    order = np.random.default_rng([seed, SPLIT]).permutation(len(data.y))
    first, rest = order[:train], order[train:]
    return data.X[first], data.y[first], data.X[rest], data.y[rest]


def task(plan: Registration, seed: int, network: str = "fnn") -> Task:
    """The multi-layer perceptron of that name on the seed's split."""
    X, y, rest_X, rest_y = split(seed, plan["data"]["train"])
    widths = tuple(plan["networks"][network])
    net = MLP(widths, ("relu",) * (len(widths) - 2))
    start = net.random(np.random.default_rng([seed, INITIAL]), gain=GAIN)
    return Task(networks.loss(net, X, y), networks.loss(net, rest_X, rest_y), start)
