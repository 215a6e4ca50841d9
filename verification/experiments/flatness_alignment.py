"""Tr(HΣ) along gradient descent without dropout (figure 4), Σ from gradients under dropout added for the purpose."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refimpl.networks import MLP, NetworkLoss
from refimpl.training import GradientDescent, train
from verification.experiments.flatness_digits import GRADIENTS, task
from verification.experiments.flatness_place import NO_LAM, Place, between_layers, with_dropout
from verification.experiments.flatness_relations import aligned
from verification.experiments.registration import load

NAME = "flatness_alignment"
LAYER = 1  # between the two hidden layers, 50 → 50, numbered from 0
SITES = (1, 2)  # hidden layer behind which dropout is added, numbered from 1
READINGS = ("biases", "weights")  # D = 2550, weights and biases, or 2500


@dataclass(frozen=True, eq=False)
class Along:
    """At every record, (records,): Tr(HΣ) and Tr(H) Tr(Σ)/D."""

    trace: np.ndarray
    isotropic: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """(records,)"""
        return self.trace / self.isotropic


@dataclass(frozen=True, eq=False)
class Found:
    """One run: the records' steps and losses, and what noise shows at them, by (noise, reading of D).

    Noise: "site 1", "site 2", or "isotropic", as many normal vectors of the trace of site 2.
    """

    step: np.ndarray
    loss: np.ndarray
    along: Mapping[tuple[str, str], Along]


@functools.cache  # several claims read the same runs; some kB each
def measured(run: int, seed: int, *, name: str = NAME) -> Found:
    """The run of that number in the registration; some ten seconds. Refuses a point where Tr H <= 0."""
    plan = load(name)
    rate, keep_prob = (plan["algorithm"]["runs"][run][key] for key in ("rate", "keep_prob"))
    steps, samples = np.array(plan["statistic"]["steps"]), plan["statistic"]["samples"]
    loss, start = (data := task(plan, seed)).train, data.start
    record = {"w": lambda w: w, "loss": lambda w: loss.value(NO_LAM, w)}
    done = train(loss, start, GradientDescent(rate), steps=int(steps[-1]), record=record)
    rng = np.random.default_rng([seed, GRADIENTS, run])
    weights, everything = of_weights(loss.net), np.arange(math.prod(loss.net.shapes[LAYER]))
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for w in np.asarray(done.records["w"])[steps]:
        places = {f"site {site}": added(loss, w, site, keep_prob) for site in SITES}
        H = places["site 2"].hessian()
        data_of = {noise: place.gradients("shared mask", samples, rng) for noise, place in places.items()}
        spread = np.sqrt(data_of["site 2"].var(axis=0).mean())
        data_of["isotropic"] = spread * rng.standard_normal(data_of["site 2"].shape)
        for reading, rows in zip(READINGS, (everything, weights), strict=True):
            restricted = H[rows][:, rows]
            for noise, g in data_of.items():
                found = aligned(restricted, g[:, rows])
                trace = float(found.trace)
                pairs.setdefault((noise, reading), []).append((trace, trace / float(found.ratio)))
    along = {key: Along(*np.array(each).T) for key, each in pairs.items()}
    return Found(steps, np.asarray(done.records["loss"])[steps], along)


def added(loss: NetworkLoss, w: np.ndarray, site: int, keep_prob: float) -> Place:
    """The measured layer at w, with dropout behind hidden layer ``site`` alone."""
    if site == len(loss.net.hidden):
        return between_layers(loss, w, LAYER, keep_prob)
    keeps = [keep_prob if layer == site else 1.0 for layer in range(1, len(loss.net.hidden) + 1)]
    span = loss.net.spans[LAYER]
    return Place(
        loss, with_dropout(loss, loss.net.unit_masks(keeps)), w, np.arange(span.start, span.stop), LAYER
    )


def of_weights(net: MLP) -> np.ndarray:
    """Places of the measured layer's weights among its weights and biases."""
    rows, columns = net.shapes[LAYER]
    return np.arange(rows * columns).reshape(rows, columns)[:, :-1].ravel()
