"""What the functions of this package are given, checked."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from refimpl.arrays import to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.masks import Dropout
from refimpl.networks import MLP, LastLayerDropout
from refimpl.objective import Objective


def point(f: Objective, lam: Any, w: Any, *, sampled: bool = False) -> tuple[Array, Array]:
    """(λ, w) on f's backend, away from kinks; λ may be left out where n = 0.

    Where masks are sampled, too many may be there to ask each for its kinks: the network without masks is asked.
    """
    B = f.backend
    if lam is None and f.n:
        raise BadInput(
            "λ is missing",
            measured="lam=None",
            required=f"a vector of length {f.n}",
            advice="pass lam=…, or an objective with n = 0",
        )
    lam = B.zeros((0,)) if lam is None else B.vector(lam, f.n, "lam")
    w = B.vector(w, f.d, "w")
    masked = isinstance(f, Dropout) and not (sampled or last_only(f))
    asked = f.f if isinstance(f, Dropout) and not masked else f
    nearest = float(np.min(to_numpy(asked.kink_distance(lam, w))))
    if nearest == 0:
        raise HypothesisViolated(
            "the loss is not differentiable here: a unit stands at its kink"
            + (" under a mask" if masked else ""),
            measured="smallest |pre-activation| 0",
            required="> 0",
            advice="move w: descent often ends at kinks, and where biases are 0 a mask that drops a whole layer puts "
            "the next one there",
        )
    return lam, w


def one_point(f: Objective, lam: Array, w: Array) -> None:
    """Vectors, and data without leading axes; else ``BadInput``."""
    if w.ndim > 1 or lam.ndim > 1 or f.lead:
        raise BadInput(
            "one point at a time",
            measured=f"shapes {tuple(lam.shape)} and {tuple(w.shape)}, {f.lead} leading axes of data",
            required="vectors",
            advice="call it for each of them: the matrices are large",
        )


def last_only(f: Dropout) -> bool:
    """Masks of the last hidden layer's outputs alone: no pre-activation depends on them."""
    net = getattr(f.f, "net", None)
    if not isinstance(net, MLP) or not net.hidden or f.site != "activations" or f.lam.free:
        return False
    return all(p == 1 for p in f.w.of_coordinates()[: net.units - net.hidden[-1]])


def net_of(f: Objective) -> Any:
    """The network of a loss, under its dropout or not."""
    inner = f
    while isinstance(inner, Dropout | LastLayerDropout):
        inner = inner.f
    net = getattr(inner, "net", None)
    if not isinstance(net, MLP):
        raise BadInput(
            "layers of what?",
            measured=type(inner).__name__,
            required="a loss of refimpl.networks.loss",
            advice="leave layers out, and take rows and columns of the whole matrix",
        )
    return net


def rows_of(net: MLP, layers: Sequence[int]) -> tuple[list[int], np.ndarray]:
    """The layers in ascending order, and their parameters' places in w."""
    known = range(len(net.shapes))
    chosen = list(layers) if isinstance(layers, Sequence | range | np.ndarray) else []
    numbers = all(isinstance(layer, Integral) and not isinstance(layer, bool) for layer in chosen)
    if not (chosen and numbers and chosen == sorted(set(chosen)) and {*chosen} <= {*known}):
        raise BadInput(
            "no such layers",
            measured=layers,
            required=f"some of 0 … {len(known) - 1} in ascending order, layers=(0, 1)",
            advice="layer 0 is the one that sees the data",
        )
    spans = [net.spans[layer] for layer in chosen]
    return chosen, np.concatenate([np.arange(span.start, span.stop) for span in spans])
