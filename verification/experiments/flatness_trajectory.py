"""Trajectory data against flatness (figures 2 and 3): under dropout, and by descent alone from the same point."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from refimpl.curvature.exploration import stationary_from
from refimpl.masks import Dropout
from refimpl.training import Draws, GradientDescent, Isotropic, Noise, train
from refimpl.training.draws import Draw
from verification.experiments.flatness_digits import GRADIENTS, TRAINING, task
from verification.experiments.flatness_place import AT_ONCE, NO_LAM, between_layers, with_dropout
from verification.experiments.flatness_relations import leading
from verification.experiments.flatness_variance import LAYER, Scatter, scatter
from verification.experiments.registration import load

NAME = "flatness_trajectory"
WAYS = ("dropout", "drift", "isotropic")


@dataclass(frozen=True, eq=False)
class Found:
    """One run: the scatters of the ways that go on from one point, each at that point's Hessian and loss.

    first: where the exploration rule first calls a window of training under dropout stationary, −1 for nowhere.
    """

    scatters: Mapping[str, Scatter]
    first: int
    train: float


@functools.cache  # several claims read the same runs; some 100 kB each
def measured(run: int, seed: int, *, name: str = NAME) -> Found:
    """The run of that number in the registration; some seconds."""
    plan = load(name)
    rules, wanted = plan["algorithm"], plan["statistic"]
    keep_prob, rate, draw = (rules["runs"][run][key] for key in ("keep_prob", "rate", "draw"))
    own, samples = task(plan, seed), wanted["samples"]
    f, optimiser, span = own.train, GradientDescent(rate), own.train.net.spans[LAYER]
    D = with_dropout(f, f.net.last_masks(keep_prob))
    rng = np.random.default_rng([seed, TRAINING, run])
    before = train(D, own.start, optimiser, steps=rules["steps"], rng=rng, draw=draw)
    dropout = train(D, before.state, optimiser, steps=samples, rng=rng, draw=draw, last=samples)

    def without_masks(noise: Noise | None) -> np.ndarray:
        done = train(
            f, before.state, optimiser, steps=samples, rng=other, noise=noise, every=samples, last=samples
        )
        return np.asarray(done.path)[:, span]

    other = np.random.default_rng([seed, GRADIENTS, run])
    trace = spread(D, before.w, draw, rules["probes"], other)
    data_of = {
        "dropout": np.asarray(dropout.path)[:, span],
        "drift": without_masks(None),
        "isotropic": without_masks(Isotropic(trace)),
    }
    place = between_layers(f, before.w, LAYER, keep_prob)
    H = place.hessian()
    top = leading(H, min(place.rows.size, samples - 1))
    losses = np.concatenate([before.records["loss"], dropout.records["loss"][1:]])
    first = stationary_from(losses, samples).first
    return Found(
        {way: scatter(place, H, top, data_of[way], wanted, way, seed) for way in WAYS},
        -1 if first is None else first,
        float(f.accuracy(NO_LAM, before.w)),
    )


def spread(D: Dropout, w: np.ndarray, draw: Draw, probes: int, rng: np.random.Generator) -> float:
    """Tr Σ of the gradients that a step draws at w, unbiased, from so many; AT_ONCE of them in one call."""
    draws = Draws(D, draw)
    sizes = [min(AT_ONCE, probes - done) for done in range(0, probes, AT_ONCE)]
    found = np.concatenate([draws.sample(rng, (size,)).grad_w(NO_LAM, w) for size in sizes])
    return float(found.var(axis=0, ddof=1).sum())
