"""Convolutional, residual and transformer networks: where training ends with or without dropout, and its noise."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.datasets import translation
from refimpl.masks import Dropout
from refimpl.networks.traced import (
    Architecture,
    Convolutional,
    Residual,
    TracedLoss,
    Transformer,
    traced_loss,
)
from refimpl.training import Adam, Drops, GradientDescent, Nesterov, Optimiser, WarmUp, train
from verification.experiments.flatness_digits import GRADIENTS, INITIAL, SPLIT, TRAINING, split
from verification.experiments.flatness_minima import End, end
from verification.experiments.flatness_place import Place, with_dropout
from verification.experiments.flatness_relations import leading
from verification.experiments.flatness_variance import Scatter, scatter
from verification.experiments.registration import Registration, load

NAME = "flatness_networks"
KINDS: dict[str, type[Architecture]] = {
    "convolutional": Convolutional,
    "residual": Residual,
    "transformer": Transformer,
}


@dataclass(frozen=True, eq=False)
class Task:
    """One seed's losses of a network, and the parameters that both its runs start from."""

    train: TracedLoss
    test: TracedLoss
    start: np.ndarray


def task(plan: Registration, network: str, seed: int) -> Task:
    """The seed's digits, or its sentences of a language pair of its own."""
    net, rules, data = architecture(plan, network), plan["algorithm"][network], plan["data"]
    if isinstance(net, Transformer):
        count = data["sentences"]
        pair = translation(
            np.random.default_rng([seed, SPLIT]),
            count=count + data["test_sentences"],
            length=data["length"],
            words=data["words"],
        )
        rows = (pair.rows[:count], pair.target[:count], pair.rows[count:], pair.target[count:])
    else:
        rows = split(seed, data["train"])
    X, y, rest_X, rest_y = rows
    start = net.random(np.random.default_rng([seed, INITIAL]), gain=rules["gain"])
    return Task(
        traced_loss(net, X, y, smoothing=rules["smoothing"]),
        traced_loss(net, rest_X, rest_y, smoothing=rules["smoothing"]),
        start,
    )


def architecture(plan: Registration, network: str) -> Architecture:
    """As its table says, whose ``measured`` names a block and is no field."""
    fields = {k: _frozen(v) for k, v in plan["networks"][network].items() if k != "measured"}
    return KINDS[network](**fields)


def optimiser(rules: Mapping[str, Any], width: int) -> Optimiser:
    """The document's for each network; ``width`` of the model, for the warm-up."""
    if rules["optimiser"] == "Nesterov":
        return Nesterov(Drops(rules["rate"], at=tuple(rules["drops"])))
    if rules["optimiser"] == "Adam":
        return Adam(WarmUp(width, rules["warm"], rules["scale"]), beta2=rules["beta2"])
    return GradientDescent(rules["rate"])


@dataclass(frozen=True, eq=False)
class Found:
    """One run: the end points without dropout and with it, and by noise what it shows at the latter."""

    without: End
    dropped: End
    scatters: Mapping[str, Scatter]


@functools.cache  # several claims read the same runs; some 10 kB each
def measured(run: int, seed: int, *, name: str = NAME) -> Found:
    """The network of that number in the registration; some 20 seconds. Refuses where its Tr H <= 0."""
    plan = load(name)
    network = names(plan)[run]
    rules = plan["algorithm"][network]
    wanted = plan["statistic"] | {"factor": rules.get("factor", 2.0)}
    data, keep = task(plan, network, seed), keep_prob(plan, network)
    plain, dropped = (trained(plan, network, data, seed, p) for p in (None, keep))
    rows = data.train.architecture.weights(plan["networks"][network]["measured"])
    place = Place(data.train, masked(data.train, keep), dropped[-1], rows)
    rng = np.random.default_rng([seed, GRADIENTS])
    gradients = place.gradients("shared mask", wanted["samples"], rng)
    spread = float(np.sqrt(gradients.var(axis=0).mean()))
    samples = {
        "gradients": gradients,
        "trajectory": dropped[:, rows],
        "isotropic": spread * rng.standard_normal(gradients.shape),
    }
    H = place.hessian()
    top = leading(H, min(rows.size, wanted["samples"] - 1))
    return Found(
        ended(plan, data, plain[-1], seed),
        ended(plan, data, dropped[-1], seed),
        {kind: scatter(place, H, top, of, wanted, kind, seed) for kind, of in samples.items()},
    )


@functools.cache
def switched_off(run: int, seed: int, *, name: str = NAME) -> End:
    """Where training under dropout ends if its keep probabilities are 1."""
    plan = load(name)
    network = names(plan)[run]
    data = task(plan, network, seed)
    return ended(plan, data, trained(plan, network, data, seed, 1.0)[-1], seed)


def names(plan: Registration) -> list[str]:
    """Of the networks, in the order in which they are numbered."""
    return list(plan["networks"])


def keep_prob(plan: Registration, network: str) -> float:
    """Of the units at all of the network's dropout sites."""
    return float(plan["algorithm"][network]["keep_prob"])


def masked(f: TracedLoss, keep: float) -> Dropout:
    """f under masks of the units at all of its network's dropout sites."""
    return with_dropout(f, f.architecture.unit_masks(keep))


def trained(plan: Registration, network: str, data: Task, seed: int, keep: float | None) -> np.ndarray:
    """The parameters after each of the last steps, (samples, d), under masks with this keep probability or none."""
    rules, samples = plan["algorithm"][network], plan["statistic"]["samples"]
    steps = rules["steps"] + samples
    done = train(
        data.train if keep is None else masked(data.train, keep),
        data.start,
        optimiser(rules, getattr(data.train.architecture, "d_model", 1)),
        steps=steps,
        rng=np.random.default_rng([seed, TRAINING]),
        draw="expected" if keep is None else "shared mask",
        every=steps,
        last=samples,
    )
    return np.asarray(done.path)


def ended(plan: Registration, data: Task, w: np.ndarray, seed: int) -> End:
    """What is measured of the training loss without dropout at w."""
    net = data.train.architecture
    parts = [np.arange(net.size)[part] for part in net.filters]
    return end(
        data.train,
        data.test,
        w,
        parts,
        plan["statistic"] | {"directions": plan["statistic"]["profiles"]},
        seed,
    )


def _frozen(value: Any) -> Any:
    """Lists of a registration as tuples."""
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value
