"""Multi-layer perceptrons: where each weight stands in the parameter vector, and which masks cover which weights.

Parameters lie layer by layer; a layer is a matrix (out, in + 1) in C order whose last column is the bias, so that all
that goes into one unit, a row, is contiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.networks.activations import Activation, activation
from refimpl.networks.forward import Forward, forward
from refimpl.objective import Movable
from refimpl.spaces import Bernoulli


@dataclass(frozen=True)
class MLP(Movable):
    """h_0 = x, h_l = a_l(W_l h_{l−1} + b_l) in hidden layers, and a last layer W h + b without activation.

    widths: (inputs, hidden …, outputs). activations: one name for all hidden layers, or one name each.
    Where ``body``, other layers follow, and the last one is hidden like the others: activated, its units droppable.

    >>> net = MLP((2, 3, 1), "tanh")
    >>> net.size, net.units, net.shapes
    (13, 3, ((3, 3), (1, 4)))
    """

    widths: tuple[int, ...]
    activations: str | tuple[str, ...] = ()
    body: bool = False
    backend: Backend = Backend()

    def __post_init__(self) -> None:
        widths, given = _whole(self.widths), self.activations
        if len(widths) < 2 or min(widths) < 1:
            raise BadInput(
                "these widths make no network",
                measured=self.widths,
                required="inputs, hidden layers if any, outputs: whole numbers, each at least 1",
                advice="MLP((64, 32, 10), 'relu') has one hidden layer of 32 units",
            )
        hidden = len(widths) - (1 if self.body else 2)
        names = (given,) * hidden if isinstance(given, str) else tuple(given)
        if len(names) != hidden:
            raise BadInput(
                "each hidden layer needs an activation",
                measured=f"{len(names)} activations for {hidden} hidden layers",
                required="one name for all of them, or one name each",
                advice="the last layer has none unless body=True: a loss follows it",
            )
        for name in names:
            activation(name)
        object.__setattr__(self, "widths", widths)
        object.__setattr__(self, "activations", names)

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(out, in + 1) of every layer."""
        return tuple((out, into + 1) for into, out in zip(self.widths, self.widths[1:], strict=False))

    @cached_property
    def size(self) -> int:
        """Number of parameters."""
        return sum(rows * columns for rows, columns in self.shapes)

    @property
    def hidden(self) -> tuple[int, ...]:
        """Number of units of every hidden layer."""
        return self.widths[1 : 1 + len(self.activations)]

    @property
    def units(self) -> int:
        """Number of hidden units."""
        return sum(self.hidden)

    def activation(self, layer: int) -> Activation:
        """That of hidden layer 0, 1, …"""
        return activation(self.activations[layer])

    def layers(self, theta: Array) -> tuple[Array, ...]:
        """Views (..., out, in + 1) of theta (..., size)."""
        require_length(theta, self.size, "the network's parameters")
        found, start = [], 0
        for rows, columns in self.shapes:
            stop = start + rows * columns
            found.append(self.backend.reshape(theta[..., start:stop], (*theta.shape[:-1], rows, columns)))
            start = stop
        return tuple(found)

    def pack(self, layers: Sequence[Array]) -> Array:
        """theta (..., size) from layers (..., out, in + 1) with the same leading axes."""
        B = self.backend
        return B.concat([B.reshape(a, (*a.shape[:-2], a.shape[-2] * a.shape[-1])) for a in layers])

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """Where each layer's parameters stand in theta."""
        stops = np.cumsum([rows * columns for rows, columns in self.shapes]).tolist()
        return tuple(slice(a, b) for a, b in zip([0, *stops], stops, strict=False))

    def block(self, matrix: Array, k: int, l: int) -> Array:  # noqa: E741  # layers, as in every formula
        """The view (..., P_k, P_l) of a matrix (..., size, size) that belongs to layers k and l."""
        known = range(len(self.shapes))
        if tuple(matrix.shape[-2:]) != (self.size, self.size) or k not in known or l not in known:
            raise BadInput(
                "no such block",
                measured=f"a matrix of shape {tuple(matrix.shape)}, layers {k} and {l}",
                required=f"(..., {self.size}, {self.size}), layers 0 … {len(known) - 1}",
                advice="a matrix of some layers only has their blocks in ascending order",
            )
        return matrix[..., self.spans[k], self.spans[l]]

    def layer(self, matrix: Array, l: int) -> Array:  # noqa: E741  # as above
        """The diagonal block of layer l."""
        return self.block(matrix, l, l)

    def split_units(self, mask: Array) -> tuple[Array, ...]:
        """Views (..., width, columns), one for each hidden layer, of mask (..., units, columns)."""
        stops = np.cumsum(self.hidden).tolist()
        return tuple(mask[..., stop - k : stop, :] for k, stop in zip(self.hidden, stops, strict=True))

    def forward(self, theta: Array, X: Array, mask: Array | None = None) -> Forward:
        """A pass over columns X (..., inputs, N), hidden outputs multiplied by mask (..., units, 1 or N)."""
        self._require_inputs(X.shape[-2:-1])
        return forward(self, theta, X, mask)

    def scores(self, theta: Array, X: Array) -> Array:
        """Outputs (..., outputs, N) for rows X (..., N, inputs)."""
        self._require_inputs(X.shape[-1:] if X.ndim > 1 else ())
        return forward(self, theta, self.backend.mT(X)).output

    def _require_inputs(self, features: tuple[int, ...]) -> None:
        if tuple(features) != self.widths[:1]:
            raise BadInput(
                "the network does not take these samples",
                measured=f"{features[0]} features, {self.widths[0]} inputs" if features else "no matrix",
                required="as many inputs as features",
                advice="the first width is the number of features; samples are rows of data, columns of a pass",
            )

    def rows(self, keep: Any) -> Bernoulli:
        """Masks of the parameters: one variable for each hidden unit's row, weights and bias; other rows are kept.

        keep: a keep probability for all hidden layers, or one for each of them.
        """
        kept = [*self._of_units(keep), *[1] * (sum(self.widths[1:]) - self.units)]
        columns = [c for rows, c in self.shapes for _ in range(rows)]
        return Bernoulli(kept, groups=[row for row, c in enumerate(columns) for _ in range(c)])

    def unit_masks(self, keep: Any) -> Bernoulli:
        """Masks of the hidden units' outputs, one variable each; keep as in :meth:`rows`."""
        return Bernoulli(self._of_units(keep))

    def last_masks(self, keep: Any) -> Bernoulli:
        """Masks of the hidden units' outputs, random in the last hidden layer only; keep: one number, or one a unit.

        >>> MLP((2, 3, 2, 1), "relu").last_masks(0.5).size
        4
        """
        if not self.hidden:
            raise BadInput(
                "the network has no hidden layer",
                measured=f"MLP({self.widths})",
                required="at least one, whose units may be dropped",
                advice='mask input features as groups of weights instead: site="weights"',
            )
        width = self.hidden[-1]
        several = isinstance(keep, Sequence) or getattr(keep, "ndim", 0) > 0
        keeps = list(keep) if several else [keep] * width
        if len(keeps) != width:
            raise BadInput(
                "keep probabilities do not fit the last hidden layer",
                measured=f"{len(keeps)} for {width} units",
                required="one number, or one for each unit",
                advice="unit_masks takes one for each hidden layer",
            )
        return Bernoulli([*[1] * (self.units - width), *keeps])

    def _of_units(self, keep: Any) -> list[Any]:
        """The keep probability of every hidden unit."""
        several = isinstance(keep, Sequence) or getattr(keep, "ndim", 0) > 0
        keeps = list(keep) if several else [keep] * len(self.hidden)
        if len(keeps) != len(self.hidden):
            raise BadInput(
                "keep probabilities do not fit the hidden layers",
                measured=f"{len(keeps)} for {len(self.hidden)} hidden layers",
                required="one number, or one for each hidden layer",
                advice="a layer without dropout takes 1",
            )
        return [p for p, width in zip(keeps, self.hidden, strict=True) for _ in range(width)]

    def random(self, rng: np.random.Generator | int, *, gain: float = 1.0) -> np.ndarray:
        """Host parameters (size,): weights normal with variance gain²/inputs of their layer, biases 0.

        rng: a generator, or a seed.
        """
        rng = np.random.default_rng(rng)
        scales = [np.r_[np.full(c - 1, gain / (c - 1) ** 0.5), 0.0] for _, c in self.shapes]
        draws = [rng.standard_normal(shape) * s for shape, s in zip(self.shapes, scales, strict=True)]
        return np.concatenate([x.ravel() for x in draws])


def require_length(x: Array, length: int, name: str) -> None:
    """x is (..., length); else ``BadInput``."""
    if x.ndim == 0 or x.shape[-1] != length:
        raise BadInput(
            f"{name} have the wrong shape",
            measured=tuple(x.shape),
            required=f"(..., {length})",
            advice="put the vector on the last axis; leading axes are batches",
        )


def _whole(widths: Any) -> tuple[int, ...]:
    """The widths as ints; () where they are none."""
    try:
        return tuple(index(k) for k in widths)
    except TypeError:
        return ()
