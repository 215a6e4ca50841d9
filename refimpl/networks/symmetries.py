"""Two symmetries of a network's parameters that leave its outputs unchanged: rescaled units, and permuted units.

Both are linear in theta, θ' = Tθ. Where L(Tθ) = L(θ) for every θ, derivatives move as ∇L(Tθ) = T⁻ᵀ∇L(θ) and
H(Tθ) = T⁻ᵀ H(θ) T⁻¹: a measure of flatness that is no property of the function alone changes with T.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.networks.mlp import MLP


def rescale(net: MLP, theta: Array, layer: int, factors: Any) -> Array:
    """θ with the row of hidden layer ``layer``'s unit j times c_j > 0, bias included, and what reads it divided by c_j.

    a(cz) = c a(z) for c > 0, so the outputs stay, under every mask of the units too. theta (..., size); factors: one
    number, or one for each unit (width,). Raises ``HypothesisViolated`` where the activation is not positively
    homogeneous, ``BadInput`` where a factor is not positive and finite or no layer reads the units.

    >>> net = MLP((1, 1, 1), "relu")
    >>> rescale(net, np.array([3.0, 1.0, 4.0, 5.0]), 0, 2.0).tolist()
    [6.0, 2.0, 2.0, 5.0]
    """
    B, layers = net.backend, _layers(net, theta, layer)
    if not net.activation(layer).homogeneous:
        raise HypothesisViolated(
            "rescaling the units of this layer changes the network",
            measured=f"activation {net.activations[layer]!r}",
            required="a(cz) = c a(z) for c > 0: linear, relu or leaky_relu",
            advice="permute keeps the outputs with every activation",
        )
    c = _factors(net, layer, factors)
    after = layers[layer + 1]
    layers[layer] = layers[layer] * c[:, None]
    layers[layer + 1] = B.concat([after[..., :-1] / c, after[..., -1:]])
    return net.pack(layers)


def permute(net: MLP, theta: Array, layer: int, order: Any) -> Array:
    """θ whose hidden layer ``layer`` has at place i the unit that stood at order[i]; what reads it follows.

    The outputs stay, whatever the activation; masks of the units stay where the masks are permuted alike. theta
    (..., size); order: each of 0 … width − 1 once. Raises ``BadInput``.

    >>> net = MLP((1, 2, 1), "tanh")
    >>> permute(net, np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), 0, [1, 0]).tolist()
    [3.0, 4.0, 1.0, 2.0, 6.0, 5.0, 7.0]
    """
    B, layers = net.backend, _layers(net, theta, layer)
    width, given = net.hidden[layer], np.asarray(order)
    if (
        given.dtype.kind not in "iu"
        or sorted(given.ravel().tolist()) != list(range(width))
        or given.ndim != 1
    ):
        raise BadInput(
            "not an order of the layer's units",
            measured=given.tolist(),
            required=f"each of 0 … {width - 1} once",
            advice="rng.permutation(width) draws one",
        )
    index, after = B.indices(given), layers[layer + 1]
    layers[layer] = B.terms(layers[layer], index, -2)
    layers[layer + 1] = B.concat([B.terms(after[..., :-1], index, -1), after[..., -1:]])
    return net.pack(layers)


def _layers(net: MLP, theta: Array, layer: int) -> list[Array]:
    """θ's layers, where ``layer`` is a hidden one that another layer of theta reads."""
    read = len(net.shapes) - 1
    if not 0 <= layer < read:
        raise BadInput(
            "no such hidden layer, or none whose outputs this network's parameters read",
            measured=layer,
            required=f"0 <= layer < {read}",
            advice="hidden layers are numbered from 0; what reads a body's last layer is not in its parameters",
        )
    return list(net.layers(theta))


def _factors(net: MLP, layer: int, factors: Any) -> Array:
    """One for each unit, on the backend, all positive."""
    B, width = net.backend, net.hidden[layer]
    single = not isinstance(factors, list | tuple) and getattr(factors, "ndim", 0) == 0
    c = B.asarray([factors] * width if single else factors)
    if tuple(c.shape) != (width,) or not bool(B.xp.all(B.comparable(c) > 0)):
        raise BadInput(
            "these factors rescale no layer",
            measured=factors,
            required=f"a number > 0, or one for each of {width} units",
            advice="a factor below 0 turns a ReLU's active side around",
        )
    return B.vector(c, width, "a factor")
