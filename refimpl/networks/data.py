"""Data as networks take them, checked: samples in rows, targets in columns."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.networks.losses import output_loss
from refimpl.networks.mlp import MLP
from refimpl.zoo.rows import numbers
from refimpl.zoo.softmax import one_hot


def targets(y: Any, lead: tuple[int, ...], outputs: int, name: str) -> np.ndarray:
    """y (*lead[:-1], outputs, N) for the loss of that name, from classes (*lead) or targets (*lead, outputs)."""
    output_loss(name)
    y = np.asarray(y)
    if name == "squared" and outputs == 1 and y.shape == lead:
        y = y[..., None]
    wanted = lead if name == "softmax" else (*lead, outputs)
    y = numbers(y, len(wanted), "y")
    if y.shape != wanted:
        raise BadInput(
            "X and y do not fit",
            measured=f"y of shape {y.shape} for samples {lead} and {outputs} outputs",
            required=str(wanted),
            advice="classes for the softmax loss, one target for each output for the squared one",
        )
    if name == "squared":
        return np.moveaxis(y, -1, -2)
    return np.moveaxis(one_hot(y.ravel(), outputs).reshape(outputs, *lead), 0, -2)


def smoothed(targets: Any, smoothing: float) -> np.ndarray:
    """Label smoothing: (1 − ε) y + ε/K for one-hot columns y (..., K, N), on the host (Szegedy et al. 2016).

    All K classes share ε, the right one too, which keeps 1 − ε + ε/K. Columns still sum to 1, as the softmax loss
    needs; it then is at least the entropy of a column, not 0. Raises ``BadInput``.

    >>> smoothed([[1], [0]], 0.5).ravel().tolist()
    [0.75, 0.25]
    """
    y = numbers(targets, np.ndim(targets), "targets")
    if y.ndim < 2 or not (np.all((y == 0) | (y == 1)) and np.all(y.sum(axis=-2) == 1)):
        raise BadInput(
            "only one-hot targets are smoothed",
            measured=f"targets of shape {y.shape}",
            required="(..., classes, N), a single 1 in every column",
            advice="label smoothing is the softmax loss's; it is applied once",
        )
    if not 0 <= smoothing < 1:
        raise BadInput(
            "smoothing is out of range",
            measured=smoothing,
            required="0 <= smoothing < 1",
            advice="0 is none; 0.1 is the transformer's",
        )
    return (1 - smoothing) * y + smoothing / y.shape[-2]


def smoothed_labels(columns: np.ndarray, smoothing: float, name: str) -> np.ndarray:
    """:func:`smoothed`, refused where targets are no classes."""
    if name != "softmax":
        raise BadInput(
            "label smoothing is the softmax loss's",
            measured=f"smoothing {smoothing}, loss {name!r}",
            required='loss="softmax"',
            advice="leave smoothing out: targets of the squared loss are numbers, not classes",
        )
    return smoothed(columns, smoothing)


def terms(B: Backend, x: Array, missing: int, index: Array, axis: int) -> Array:
    """Samples of x on ``axis``, after ``missing`` axes of length 1 in front of its own: of masks that x has not."""
    return B.terms(B.reshape(x, (*(1,) * missing, *x.shape)), index, axis)


def require_mask(mask: Array, units: int) -> None:
    """One entry for each hidden unit."""
    if mask.ndim == 0 or mask.shape[-1] != units:
        raise BadInput(
            "the mask does not fit the hidden units",
            measured=tuple(mask.shape),
            required=f"(..., {units})",
            advice="net.unit_masks(keep).mask(points, backend) has one entry for each hidden unit",
        )


def require_whole(value: Any, name: str, least: int, advice: str) -> int:
    """value, checked to be a whole number >= least."""
    if not isinstance(value, Integral) or value < least:
        raise BadInput(
            f"{name} must be a whole number", measured=value, required=f">= {least}", advice=advice
        )
    return int(value)


def require_inputs(net: MLP, X: np.ndarray) -> None:
    """The network must take what the data have."""
    if X.shape[-1] != net.widths[0]:
        raise BadInput(
            "the network does not take these samples",
            measured=f"{X.shape[-1]} features, {net.widths[0]} inputs",
            required="as many inputs as features",
            advice="the first width is the number of features",
        )


def non_negative(reg: float) -> float:
    """reg, checked."""
    if not 0 <= reg < np.inf:
        raise BadInput(
            "the ridge must not be negative", measured=reg, required="0 <= reg < inf", advice="0 is none"
        )
    return float(reg)
