"""A traced loss from what a user has: rows or tokens, classes or targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.errors import BadInput
from refimpl.networks.data import non_negative, require_whole, smoothed_labels, targets
from refimpl.networks.traced.architecture import Architecture
from refimpl.networks.traced.objective import TracedLoss
from refimpl.zoo.rows import numbers


def traced_loss(
    architecture: Architecture,
    X: Any,
    y: Any,
    *,
    loss: str = "softmax",
    reg: float = 0.0,
    n: int = 0,
    weighted: bool = False,
    smoothing: float = 0.0,
) -> TracedLoss:
    """The mean loss of ``architecture`` over rows X (N, features), w = all its parameters. Raises ``BadInput``.

    y: classes 0 … outputs − 1, (N,) or (N, T) for T positions, for "softmax"; targets with one more axis, of the
    outputs, for "squared". n: length of a λ that does not enter; ``weighted``: λ ∈ R^N, sample i has weight σ(λ_i).
    smoothing: of the labels, (1 − ε) one-hot + ε/outputs, 0 <= ε < 1.

    >>> from refimpl.networks.traced import Convolutional
    >>> f = traced_loss(Convolutional(side=2, stages=((2,),), classes=3), np.zeros((5, 4)), [0, 1, 2, 0, 1])
    >>> f.d, f.units, f.y.shape
    (29, 2, (3, 5))
    """
    if not isinstance(architecture, Architecture):
        raise BadInput(
            "not an architecture of refimpl.networks.traced",
            measured=type(architecture).__name__,
            required="a Convolutional, Residual or Transformer",
            advice="refimpl.networks.loss takes a multi-layer perceptron",
        )
    X = tokens(architecture, X) if architecture.tokens else numbers(X, 2, "X")
    if X.shape[-1] != architecture.features:
        raise BadInput(
            "the network does not take these samples",
            measured=f"{X.shape[-1]} columns, {architecture.features} inputs",
            required="as many inputs as columns",
            advice="images are flattened plane by plane; a sequence is the source, then the decoder's tokens",
        )
    positions = architecture.positions
    front = np.moveaxis(np.atleast_1d(y), 0, min(len(positions), max(np.ndim(y) - 1, 0)))
    columns = targets(front, (*positions, len(X)), architecture.outputs, loss)
    if weighted and n not in (0, len(X)):
        raise BadInput(
            "every sample has one weight",
            measured=f"n = {n} for {len(X)} samples",
            required="n = N",
            advice="leave n out: weighted=True sets it",
        )
    length = require_whole(
        n, "n, the length of λ,", 0, "0 is none; weighted=True sets it to the number of samples"
    )
    made = TracedLoss(
        architecture.to("numpy"),
        X,
        smoothed_labels(columns, smoothing, loss) if smoothing else columns,
        loss,
        non_negative(reg),
        len(X) if weighted else length,
        weighted,
    )
    return made if architecture.backend == made.backend else made.to(architecture.backend)


def tokens(architecture: Architecture, X: Any) -> np.ndarray:
    """X (N, features) of integers 0 … tokens − 1."""
    X = np.asarray(X)
    if X.ndim != 2 or X.size == 0 or X.dtype.kind not in "iu":
        found = f"{X.dtype} of shape {X.shape}"
    elif X.min() < 0 or X.max() >= architecture.tokens:
        found = f"tokens from {X.min()} to {X.max()}"
    else:
        return X.astype(np.int64)
    raise BadInput(
        "X holds no tokens of the network's",
        measured=found,
        required=f"integers 0 … {architecture.tokens - 1}, one row for each sample",
        advice="datasets.translation makes such rows; the largest token begins the decoder's",
    )
