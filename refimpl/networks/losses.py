"""Losses ℓ(z, y) of a network's output z, samples in columns; both have ∂ℓ/∂z = mean(z) − y."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput


@dataclass(frozen=True)
class OutputLoss:
    """z, y (..., outputs, N). ``curve(B, mean(z), u)`` is the product of ∂²ℓ/∂z², the Jacobian of mean, with u."""

    values: Callable[[Backend, Array, Array], Array]
    mean: Callable[[Backend, Array], Array]
    curve: Callable[[Backend, Array, Array], Array]


def _cross_entropy(B: Backend, z: Array, y: Array) -> Array:
    return B.logsumexp(z, -2) - B.sum(y * z, -2)


def _softmax(B: Backend, z: Array) -> Array:
    return B.softmax(z, -2)


def _covariance(B: Backend, p: Array, u: Array) -> Array:
    pu = p * u
    return pu - p * B.sum(pu, -2)[..., None, :]


def _half_square(B: Backend, z: Array, y: Array) -> Array:
    return B.sum((z - y) * (z - y), -2) / 2


def _itself(B: Backend, z: Array) -> Array:
    return z


def _unchanged(B: Backend, z: Array, u: Array) -> Array:
    return u


LOSSES = {
    "softmax": OutputLoss(_cross_entropy, _softmax, _covariance),  # y one-hot
    "squared": OutputLoss(_half_square, _itself, _unchanged),
}


def output_loss(name: str) -> OutputLoss:
    """The loss of that name; else ``BadInput``."""
    if name not in LOSSES:
        raise BadInput(
            "no loss of that name",
            measured=name,
            required=", ".join(LOSSES),
            advice="pick one of the names above",
        )
    return LOSSES[name]
