"""One pass through a network at fixed parameters, and the products of its first and second derivatives.

h_l = m_l a(z_l), z_l = W_l h_{l−1} + b_l, samples in columns; W_l is a layer without its bias column b_l. With slopes
s_l = m_l a'(z_l), and cotangents e_l of h_l and δ_l of z_l:

    δ_l = s_l e_l,   e_{l−1} = W_lᵀ δ_l,   gradient of layer l = δ_l (h_{l−1}, 1)ᵀ.

A dot is the derivative along a direction of the parameters, whose layers are V_l, and U_l without the bias column:

    ż_l = V_l (h_{l−1}, 1) + W_l ḣ_{l−1},   ḣ_l = s_l ż_l,
    δ̇_l = s_l ė_l + m_l a''(z_l) e_l ż_l,   ė_{l−1} = W_lᵀ δ̇_l + U_lᵀ δ_l,
    gradient of layer l, moved: δ̇_l (h_{l−1}, 1)ᵀ + δ_l (ḣ_{l−1}, 0)ᵀ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array

if TYPE_CHECKING:
    from refimpl.networks.mlp import MLP


@dataclass(frozen=True, eq=False)
class Forward:
    """What a pass leaves behind: ``output`` (..., out, N), and what derivatives at these parameters need.

    Products with each parameter and sample: 1 for the pass, 2 for a pullback, 2 for a pushforward, 6 for a product with
    the Hessian; all of them are matrix products.
    """

    net: MLP
    layers: tuple[Array, ...]
    inputs: tuple[Array, ...]  # h_{l−1}
    before: tuple[Array, ...]  # z_l of the hidden layers
    values: tuple[Array, ...]  # a(z_l)
    first: tuple[Array, ...]  # a'(z_l)
    masks: tuple[Array, ...] | None
    output: Array

    def of(self, samples: slice) -> Forward:
        """The pass for these samples alone."""

        def cut(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
            return tuple(x[..., samples] if x.shape[-1] > 1 else x for x in arrays)

        masks = None if self.masks is None else cut(self.masks)
        kept = (cut(self.inputs), cut(self.before), cut(self.values), cut(self.first), masks)
        return Forward(self.net, self.layers, *kept, self.output[..., samples])

    @property
    def _backend(self) -> Backend:
        return self.net.backend

    @cached_property
    def slopes(self) -> tuple[Array, ...]:
        """s_l = m_l a'(z_l)."""
        return self._masked(self.first)

    def _masked(self, hidden: tuple[Array, ...]) -> tuple[Array, ...]:
        return hidden if self.masks is None else tuple(m * x for m, x in zip(self.masks, hidden, strict=True))

    def _through(self, layer: int, x: Array) -> Array:
        """s_l x in a hidden layer, x after the last one of a network that is no body."""
        return self.slopes[layer] * x if layer < len(self.slopes) else x

    def backward(self, e: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """(e_1, …, e_L) and (δ_1, …, δ_L) for the cotangent e = e_L of the output."""
        es, deltas = [e], []
        for l in reversed(range(len(self.layers))):  # noqa: E741  # l is the layer in every formula
            deltas.append(self._through(l, es[-1]))
            if l:
                es.append(transposed(self._backend, self.layers[l], deltas[-1]))
        return tuple(es[::-1]), tuple(deltas[::-1])

    def pull(self, e: Array) -> Array:
        """The transposed Jacobian of the output with respect to the parameters, times e: (..., size)."""
        _, deltas = self.backward(e)
        B = self._backend
        return self.net.pack([gradient(B, d, h) for d, h in zip(deltas, self.inputs, strict=True)])

    def push(self, v: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """(ż_1, …, ż_L) and (ḣ_1, …, ḣ_L) along v (..., size); ḣ_L is the Jacobian's product with v."""
        zs: list[Array] = []
        hs: list[Array] = []
        for l, V in enumerate(self.net.layers(v)):  # noqa: E741  # as above
            z = affine(V, self.inputs[l])
            if l:
                z = z + self.layers[l][..., :-1] @ hs[-1]
            zs.append(z)
            hs.append(self._through(l, z))
        return tuple(zs), tuple(hs)

    def hessian(self, e: Array, curve: Callable[[Array], Array]) -> Callable[[Array], Array]:
        """v ↦ ∇²L v for a loss L(output) with gradient e and Hessian ``curve``; what needs no v is done here."""
        B, net = self._backend, self.net
        es, deltas = self.backward(e)
        known = zip(self.values, self.first, strict=True)
        seconds = tuple(net.activation(i).second(a, s) for i, (a, s) in enumerate(known))
        bends = tuple(c * e for c, e in zip(self._masked(seconds), es, strict=False))

        def apply(v: Array) -> Array:
            zs, hs = self.push(v)
            directions, e_dot, found = net.layers(v), curve(hs[-1]), []
            for l in reversed(range(len(self.layers))):  # noqa: E741  # as above
                d_dot = self._through(l, e_dot)
                if l < len(bends):
                    d_dot = d_dot + bends[l] * zs[l]
                moved = d_dot @ B.mT(self.inputs[l])
                if l:
                    moved = moved + deltas[l] @ B.mT(hs[l - 1])
                    e_dot = transposed(B, self.layers[l], d_dot) + transposed(B, directions[l], deltas[l])
                found.append(B.concat([moved, B.sum(d_dot)[..., None]]))
            return net.pack(found[::-1])

        return apply


def forward(net: MLP, theta: Array, X: Array, mask: Array | None = None) -> Forward:
    """The pass over columns X (..., inputs, N) at theta (..., size), hidden outputs times mask (..., units, 1 or N)."""
    layers = net.layers(theta)
    masks = None if mask is None else net.split_units(mask)
    h, inputs, before, values, first = X, [], [], [], []
    for l, W in enumerate(layers):  # noqa: E741  # the layer in every formula
        inputs.append(h)
        h = affine(W, h)
        if l < len(net.hidden):
            activation = net.activation(l)
            before.append(h)
            values.append(activation.value(net.backend, h))
            first.append(activation.first(net.backend, h, values[-1]))
            h = values[-1] if masks is None else masks[l] * values[-1]
    return Forward(net, layers, tuple(inputs), tuple(before), tuple(values), tuple(first), masks, h)


def affine(W: Array, h: Array) -> Array:
    """W (h, 1): the last column of W (..., out, in + 1) is the bias of columns h (..., in, N)."""
    return W[..., :-1] @ h + W[..., -1:]


def transposed(B: Backend, W: Array, e: Array) -> Array:
    """Wᵀ e without the bias column."""
    return B.mT(W[..., :-1]) @ e


def gradient(B: Backend, delta: Array, h: Array) -> Array:
    """δ (h, 1)ᵀ, (..., out, in + 1), summed over the samples."""
    return B.concat([delta @ B.mT(h), B.sum(delta)[..., None]])


def kink_distance(run: Forward, moves: Array | None = None) -> np.ndarray:
    """Smallest |z| over samples and units of piecewise linear layers, (...) on the host; inf where there are none.

    Units with mask 0 are left out. At 0 the loss has one-sided derivatives only: what differentiates it must refuse.
    moves: a mask that broadcasts to the parameters, whose entries 0 stand still (f(m w) moves m ∘ dw only). Units
    whose z cannot move then, whose row stands still and sees only units that do, are left out: no kink is crossed.
    """
    smallest = np.array(np.inf)
    still = _still(run, moves)
    for l, z in enumerate(run.before):  # noqa: E741  # l is the layer
        if run.net.activation(l).kinked:
            host = np.abs(to_numpy(z))
            if run.masks is not None:
                host = np.where(to_numpy(run.masks[l]) == 0, np.inf, host)
            host = np.where(still[l][..., None], np.inf, host)
            smallest = np.minimum(smallest, host.min(axis=(-2, -1)))
    return smallest


def _still(run: Forward, moves: Array | None) -> list[np.ndarray]:
    """Of every hidden layer, which units' pre-activations do not depend on what moves: (..., width)."""
    if moves is None:
        return [np.zeros(width, dtype=bool) for width in run.net.hidden]
    host, size = np.asarray(to_numpy(moves)), (run.net.size,)
    rows = run.net.to("numpy").layers(np.broadcast_to(host, np.broadcast_shapes(host.shape, size)))
    inputs, found = np.ones(run.net.widths[0], dtype=bool), []  # the data stand still
    for l in range(len(run.before)):  # noqa: E741  # as above
        unseen = inputs[..., None, :] | (to_numpy(run.layers[l])[..., :-1] == 0)
        found.append(~rows[l].any(axis=-1) & unseen.all(axis=-1))
        dropped = False if run.masks is None else (to_numpy(run.masks[l]) == 0).all(axis=-1)
        inputs = found[-1] | dropped
    return found
