"""Activations a(z) by name, each one row: value, first and second derivative, and what dropout asks of it.

Values have full relative accuracy. Derivatives that are written in a(z) or a'(z), such as 1 − a² and a (1 − a), are
accurate to a few eps absolutely: where the unit saturates they are 0 or a multiple of eps, not their own tiny size.
(The product σ(z) σ(−z) would keep it, and lengthen a small network's gradient by two fifths.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput

LEAK = 8  # the leaky ReLU's slope is 1/8: exact in floats and in rationals


@dataclass(frozen=True)
class Activation:
    """z ↦ a(z), entry by entry; derivatives are written in what is known already: z, a(z), a'(z).

    ``zero_at_zero``: a(0) = 0, so that masks 0 or 1 may act on a unit's weights or on its output alike.
    ``homogeneous``: a(cz) = c a(z) for c >= 0, so that any masks >= 0 may.
    ``kinked``: piecewise linear with a kink at 0, where the derivatives are those of the left-hand side.
    """

    value: Callable[[Backend, Array], Array]
    first: Callable[[Backend, Array, Array], Array]
    second: Callable[[Array, Array], Array]
    zero_at_zero: bool
    homogeneous: bool = False
    kinked: bool = False


def _linear(B: Backend, z: Array) -> Array:
    return z


def _relu(B: Backend, z: Array) -> Array:
    return B.where(z > 0, z, 0 * z)


def _step(B: Backend, z: Array, a: Array) -> Array:
    return B.where(z > 0, 1 + 0 * z, 0 * z)


def _leaky_relu(B: Backend, z: Array) -> Array:
    return B.where(z > 0, z, z / LEAK)


def _leaky_step(B: Backend, z: Array, a: Array) -> Array:
    one = 1 + 0 * z
    return B.where(z > 0, one, one / LEAK)


def _tanh(B: Backend, z: Array) -> Array:
    return B.tanh(z)


def _sigmoid(B: Backend, z: Array) -> Array:
    return B.sigmoid(z)


def _centred(B: Backend, z: Array) -> Array:
    return B.tanh(z / 2) / 2  # σ(z) − ½ without its cancellation at 0


def _softplus(B: Backend, z: Array) -> Array:
    return B.softplus(z)


def _one(B: Backend, z: Array, a: Array) -> Array:
    return 1 + 0 * z


def _sech2(B: Backend, z: Array, a: Array) -> Array:
    return 1 - a * a


def _bell(B: Backend, z: Array, a: Array) -> Array:
    return a * (1 - a)


def _centred_bell(B: Backend, z: Array, a: Array) -> Array:
    return (1 - 2 * a) * (1 + 2 * a) / 4


def _sigmoid_at(B: Backend, z: Array, a: Array) -> Array:
    return B.sigmoid(z)


def _flat(a: Array, s: Array) -> Array:
    return 0 * s


def _odd(a: Array, s: Array) -> Array:
    return -2 * a * s


def _tilted(a: Array, s: Array) -> Array:
    return (1 - 2 * a) * s


def _logistic(a: Array, s: Array) -> Array:
    return s * (1 - s)


ACTIVATIONS = {
    "linear": Activation(_linear, _one, _flat, zero_at_zero=True, homogeneous=True),
    "relu": Activation(_relu, _step, _flat, zero_at_zero=True, homogeneous=True, kinked=True),
    "leaky_relu": Activation(
        _leaky_relu, _leaky_step, _flat, zero_at_zero=True, homogeneous=True, kinked=True
    ),
    "tanh": Activation(_tanh, _sech2, _odd, zero_at_zero=True),
    "centred_sigmoid": Activation(_centred, _centred_bell, _odd, zero_at_zero=True),
    "sigmoid": Activation(_sigmoid, _bell, _tilted, zero_at_zero=False),
    "softplus": Activation(_softplus, _sigmoid_at, _logistic, zero_at_zero=False),
}


def activation(name: str) -> Activation:
    """The activation of that name; else ``BadInput``."""
    if name not in ACTIVATIONS:
        raise BadInput(
            "no activation of that name",
            measured=name,
            required=", ".join(ACTIVATIONS),
            advice="pick one of the names above",
        )
    return ACTIVATIONS[name]
