"""Data as networks take them, checked: samples in rows, targets in columns."""

from __future__ import annotations

from typing import Any

import numpy as np

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
