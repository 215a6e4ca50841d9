"""Noise against flatness (figures 2 and 3): of dropout, of single samples, and isotropic, where training ended."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.curvature.directions import EigenDirections
from refimpl.curvature.exploration import stationary_from
from refimpl.curvature.variance import projected_variance
from refimpl.training import GradientDescent, train
from verification.experiments.flatness_digits import GRADIENTS, MASKS, TRAINING, task
from verification.experiments.flatness_place import NO_LAM, Place, between_layers, with_dropout
from verification.experiments.flatness_relations import (
    Relation,
    aligned,
    leading,
    principal,
    relation,
    thinned,
)
from verification.experiments.registration import load

NAME = "flatness_variance"
LAYER = 1  # between the two hidden layers, 50 → 50, numbered from 0
NOISES = ("trajectory", "dropout", "sgd", "isotropic")
HALVES = ("first half", "second half")  # of dropout's gradients


@dataclass(frozen=True, eq=False)
class Scatter:
    """What one kind of noise shows.

    interval: {λ_i(Σ), F_{v_i(Σ)}}, by the name of the loss's reading, "plain" or "dropout", or of a factor other than
    2; hessian: {λ_i(H), Var Proj_{v_i(H)}}; ratio: Tr(HΣ) D/(Tr H Tr Σ).
    """

    interval: Mapping[str, Relation]
    hessian: Relation
    ratio: float


@dataclass(frozen=True, eq=False)
class Found:
    """One run: the scatters by noise, the exploration rule's drifts in standard errors, and what was reached.

    first: where the rule first calls a window stationary, −1 for nowhere. loss: after every step.
    """

    scatters: Mapping[str, Scatter]
    early: float
    sampled: float
    first: int
    loss: np.ndarray
    train: float
    test: float


@functools.cache  # several claims read the same runs; some 100 kB each
def measured(run: int, seed: int, *, name: str = NAME) -> Found:
    """The run of that number in the registration; about half a minute."""
    plan = load(name)
    rules, wanted = plan["algorithm"], plan["statistic"]
    keep_prob, rate, draw = (rules["runs"][run][key] for key in ("keep_prob", "rate", "draw"))
    own, samples, steps = task(plan, seed), wanted["samples"], rules["steps"]
    net = own.train.net
    done = train(
        with_dropout(own.train, net.last_masks(keep_prob)),
        own.start,
        GradientDescent(rate),
        steps=steps + samples,
        rng=np.random.default_rng([seed, TRAINING, run]),
        draw=draw,
        last=samples,
    )
    place = between_layers(own.train, done.w, LAYER, keep_prob)
    rng = np.random.default_rng([seed, GRADIENTS, run])
    gradients = place.gradients(draw, samples, rng)
    data_of = {"trajectory": np.asarray(done.path)[:, net.spans[LAYER]], "dropout": gradients}
    data_of |= dict(zip(HALVES, np.split(gradients, [samples // 2]), strict=True))
    if rules["runs"][run]["all"]:
        spread = np.sqrt(gradients.var(axis=0).mean())
        data_of["sgd"] = place.gradients("one sample", samples, rng)
        data_of["isotropic"] = spread * rng.standard_normal(gradients.shape)
    H = place.hessian()
    top = leading(H, min(place.rows.size, samples - 1))
    loss = np.asarray(done.records["loss"])
    return Found(
        {kind: scatter(place, H, top, data, wanted, kind, seed) for kind, data in data_of.items()},
        drift(loss[:samples], samples),
        drift(loss[-samples:], samples),
        _first(loss, samples),
        loss,
        float(own.train.accuracy(NO_LAM, done.w)),
        float(own.test.accuracy(NO_LAM, done.w)),
    )


def scatter(
    place: Place,
    H: np.ndarray,
    top: EigenDirections,
    samples: np.ndarray,
    wanted: Mapping[str, Any],
    kind: str,
    seed: int,
) -> Scatter:
    """The relations of one set of samples with the Hessian H, whose leading eigenvectors are ``top``.

    wanted: how many ``directions``, which other ``factors``, how many ``masks`` in the loss under dropout, 0 for none;
    the ``factor`` in the place of 2.
    """
    axes = thinned(principal(samples, len(H)), wanted["directions"])
    interval = {"plain": relation(axes.values, place.widths(axes, wanted.get("factor", 2.0)))}
    if kind == "dropout" and wanted["masks"]:
        own = np.random.default_rng([seed, MASKS]).integers(2**32)
        interval["dropout"] = relation(axes.values, place.widths(axes, masks=wanted["masks"], seed=int(own)))
    if kind == "dropout":
        for factor in wanted["factors"]:
            interval[f"{factor:g}"] = relation(axes.values, place.widths(axes, factor))
    variance = projected_variance(samples, top.vectors)
    return Scatter(interval, relation(top.values, variance), float(aligned(H, samples).ratio))


def drift(losses: np.ndarray, window: int) -> float:
    """|difference of the two halves' means| in standard errors, of one window of losses."""
    found = stationary_from(losses, window)
    return float(np.abs(found.differences[0]) / found.errors[0])


def _first(losses: np.ndarray, window: int) -> int:
    found = stationary_from(losses, window).first
    return -1 if found is None else found
