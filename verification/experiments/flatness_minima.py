"""Where training ends with dropout and without, from one start (figure 1): flatness, sharpness, profile, accuracy."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.curvature.directions import Filters, filter_normalised, network_filters
from refimpl.curvature.flatness import interval_flatness
from refimpl.curvature.profiles import profile
from refimpl.networks import MLP
from refimpl.training import Adam, GradientDescent, Optimiser, train
from verification.experiments.flatness_digits import GAIN, INITIAL, MASKS, TRAINING, task
from verification.experiments.flatness_place import AT_ONCE, NO_LAM, with_dropout
from verification.experiments.registration import load

NAME = "flatness_minima"
OPTIMISERS = {"gradient descent": GradientDescent, "Adam": Adam}


@dataclass(frozen=True, eq=False)
class End:
    """Of the loss without dropout, at an end point.

    width: the geometric mean of F along filter-normalised random directions; top: the Hessian's largest eigenvalue;
    rise: the mean rise of the loss on the profiles, of which ``profile`` (alphas,) is the mean over directions.
    """

    width: float
    top: float
    rise: float
    profile: np.ndarray
    loss: float
    train: float
    test: float


@functools.cache  # several claims read the same runs; some kB each
def measured(run: int, seed: int, *, name: str = NAME) -> tuple[End, End]:
    """The run of that number in the registration, without dropout and with it; some seconds."""
    keep_probs = load(name)["algorithm"]["runs"][run]["keep_probs"]
    return _ended(run, seed, None, name), _ended(run, seed, keep_probs, name)


@functools.cache
def switched_off(run: int, seed: int, *, name: str = NAME) -> End:
    """Where training without dropout ends from another initialisation."""
    return _ended(run, seed, None, name, another=True)


def _ended(
    run: int, seed: int, keep_probs: Sequence[float] | None, name: str, *, another: bool = False
) -> End:
    """Random directions are the same for every end point of a seed; the end point's own filters give their lengths."""
    plan = load(name)
    own, steps, data = plan["algorithm"]["runs"][run], plan["algorithm"]["steps"], task(plan, seed)
    optimiser: Optimiser = OPTIMISERS[own["optimiser"]](own["rate"])
    start = data.start
    if another:
        start = data.train.net.random(np.random.default_rng([seed, INITIAL, 1]), gain=GAIN)
    if keep_probs is None:
        done = train(data.train, start, optimiser, steps=steps, every=steps)
    else:
        D = with_dropout(data.train, data.train.net.unit_masks(keep_probs))
        rng = np.random.default_rng([seed, TRAINING, run])
        done = train(D, start, optimiser, steps=steps, every=steps, rng=rng, draw="shared mask")
    return end(data.train, data.test, done.w, filters(data.train.net), plan["statistic"], seed)


def filters(net: MLP) -> Filters:
    """The document's for a fully connected network: a layer is a filter; its biases are one of their own."""
    return network_filters(net, per="layer", biases="own")


def end(f: Any, test: Any, w: np.ndarray, parts: Filters, wanted: Mapping[str, Any], seed: int) -> End:
    """What is measured of a loss f at w."""
    rng = np.random.default_rng([seed, MASKS])
    V = filter_normalised(w, rng.standard_normal((wanted["directions"], f.d)), parts)
    alphas = np.linspace(-wanted["reach"], wanted["reach"], wanted["points"])
    found = interval_flatness(f, w, V, start=2.0**-6, chunk=AT_ONCE).width
    values = profile(f, w, V, alphas, chunk=AT_ONCE).values
    loss = float(f.value(NO_LAM, w))
    return End(
        float(np.exp(np.log(found).mean())),
        sharpest(f, w),
        float(np.mean(values) - loss),
        np.asarray(values).mean(axis=0),
        loss,
        float(f.accuracy(NO_LAM, w)),
        float(test.accuracy(NO_LAM, w)),
    )


def sharpest(f: Any, w: np.ndarray) -> float:
    """The Hessian's largest eigenvalue, by Lanczos' method to its default, rounding."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    product = f.hess_ww(NO_LAM, w)
    operator = LinearOperator((f.d, f.d), matvec=lambda v: product @ v.ravel(), dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(f.d)
    return float(eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False)[0])
