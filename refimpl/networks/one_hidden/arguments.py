"""What a caller hands to the expectations over hidden units' masks, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput


def known(what: str, value: str, names: tuple[str, ...]) -> None:
    """``value`` is one of the names; else ``BadInput``."""
    if value not in names:
        raise BadInput(
            f"no {what} of that name", measured=value, required=", ".join(names), advice="pick one of these"
        )


def per_unit(keep_prob: Any, n: int) -> Any:
    """A number, or one for each of the n hidden units; ``Bernoulli`` checks what they are."""
    count = np.shape(to_numpy(keep_prob) if hasattr(keep_prob, "ndim") else keep_prob)
    if count not in ((), (n,)):
        raise BadInput(
            "keep_prob does not fit the hidden layer",
            measured=f"shape {count}",
            required=f"a number, or {n} of them: one per hidden unit",
            advice="a number stands for all units",
        )
    return keep_prob


def number(B: Backend, value: Any, name: str) -> Any:
    """A finite number as the backend holds it; else ``BadInput``."""
    try:
        out = B.scalar(value)
    except (TypeError, ValueError, OverflowError):  # ValueError: ``BadInput`` too
        out = None
    if out is None or not (B.exact or np.isfinite(to_numpy(out))):
        raise BadInput(
            f"{name} is not finite",
            measured=value,
            required="one finite number",
            advice=f"pass {name} as a number",
        )
    return out


def checked(B: Backend, X: Any, y: Any, W: Any, b: Any, a: Any, loss: str) -> tuple[Array, ...]:
    """The arrays, of this backend, of fitting shapes, finite; labels ±1 for the logistic loss."""
    X, W = _matrix(B, X, "X"), _matrix(B, W, "W")
    if X.shape[1] != W.shape[1] or X.shape[0] == 0 or W.shape[0] == 0:
        raise BadInput(
            "X and W do not fit each other",
            measured=f"X {tuple(X.shape)}, W {tuple(W.shape)}",
            required="X (B, d) and W (n, d), B and n at least 1",
            advice="samples are the rows of X, hidden units the rows of W",
        )
    vectors = [
        B.vector(v, size, name)
        for v, size, name in ((y, X.shape[0], "y"), (b, W.shape[0], "b"), (a, W.shape[0], "a"))
    ]
    for v, name in zip(vectors, ("y", "b", "a"), strict=True):
        if v.ndim != 1:
            raise BadInput(
                f"{name} is not a vector",
                measured=tuple(v.shape),
                required="one axis",
                advice="one network at a time",
            )
    labels = to_numpy(vectors[0])
    if loss == "logistic" and (wrong := np.flatnonzero(np.abs(labels) != 1)).size:
        raise BadInput(
            "a label of the logistic loss is not 1 or −1",
            measured=f"y[{wrong[0]}] = {labels[wrong[0]]:g} and {wrong.size - 1} more",
            required="y = ±1",
            advice="from 0 and 1 take 2 y − 1",
        )
    return X, vectors[0], W, vectors[1], vectors[2]


def _matrix(B: Backend, x: Any, name: str) -> Array:
    shape: tuple[int, ...] = np.shape(x) if isinstance(x, list | tuple) else getattr(x, "shape", ())
    if len(shape) != 2:
        raise BadInput(
            f"{name} is not a matrix",
            measured=tuple(shape),
            required="two axes",
            advice="samples or units are rows",
        )
    return B.vector(x, shape[1], name)
