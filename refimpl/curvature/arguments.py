"""What the functions of this package are given, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refimpl.arrays import to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.masks import Dropout
from refimpl.networks import MLP
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
    asked = f.f if isinstance(f, Dropout) and (sampled or _last_only(f)) else f
    nearest = float(np.min(to_numpy(asked.kink_distance(lam, w))))
    if nearest == 0:
        raise HypothesisViolated(
            "the loss has no second derivative here: a unit stands at its kink",
            measured="smallest |pre-activation| 0",
            required="> 0",
            advice="move w; points that descent finds often stand at kinks",
        )
    return lam, w


def _last_only(f: Dropout) -> bool:
    """Masks of the last hidden layer's outputs alone: no pre-activation depends on them."""
    net = getattr(f.f, "net", None)
    if not isinstance(net, MLP) or not net.hidden or f.site != "activations" or f.lam.free:
        return False
    return all(p == 1 for p in f.w.of_coordinates()[: net.units - net.hidden[-1]])


def net_of(f: Objective) -> Any:
    """The network of a loss, under its dropout or not."""
    inner = f.f if isinstance(f, Dropout) else f
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
    chosen = sorted(set(layers))
    if not chosen or any(layer not in known for layer in chosen):
        raise BadInput(
            "no such layers",
            measured=list(layers),
            required=f"some of 0 … {len(known) - 1}",
            advice="layer 0 is the one that sees the data",
        )
    spans = [net.spans[layer] for layer in chosen]
    return chosen, np.concatenate([np.arange(span.start, span.stop) for span in spans])
