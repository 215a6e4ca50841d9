"""The mean loss of a network over a data set, with or without a learnt weight on every sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.networks.assembled import Outputs, assemble
from refimpl.networks.data import (
    non_negative,
    require_inputs,
    require_mask,
    require_whole,
    smoothed_labels,
    targets,
    terms,
)
from refimpl.networks.forward import Forward, kink_distance
from refimpl.networks.losses import OutputLoss, output_loss
from refimpl.networks.mlp import MLP
from refimpl.objective import Objective
from refimpl.operators import Operator
from refimpl.spaces import Bernoulli, Indices, Space
from refimpl.spaces.bernoulli import Scale
from refimpl.zoo.rows import numbers, zero_cross


@dataclass(frozen=True, eq=False)
class NetworkLoss(Objective):
    """f(λ, w) = (1/N) Σ_i s_i ℓ(net_w(x_i), y_i) + (reg/2)‖w‖²; s_i = σ(λ_i) where ``weighted``, else 1.

    X (..., N, inputs); y (..., outputs, N): one-hot columns for the softmax loss, targets for the squared one. A mean
    over samples, each with the whole ridge. ``mask`` (..., units, 1 or N) multiplies the hidden units' outputs, not it.
    ``pick`` (..., b, n), rows of the identity, says which weights the samples of a minibatch have; None: all in order.
    A gradient costs 6 N d operations, a product with the Hessian 12 N d, besides the pass.
    """

    net: MLP
    X: Array
    y: Array
    loss: str
    reg: Any
    n: int
    weighted: bool = False
    mask: Array | None = None
    pick: Array | None = None
    backend: Backend = Backend()

    @property
    def d(self) -> int:
        return self.net.size

    @property
    def units(self) -> int:
        return self.net.units

    @property
    def count(self) -> int:
        """N, the number of samples."""
        return int(self.X.shape[-2])

    @property
    def leading(self) -> tuple[int, ...]:
        masks = () if self.mask is None else self.mask.shape[:-2]
        return tuple(np.broadcast_shapes(self.X.shape[:-2], masks))

    @property
    def lead(self) -> int:
        return len(self.leading)

    @property
    def space(self) -> Space:
        return Indices(self.count)

    def batch(self, sample: Any) -> Self:
        """The mean over the last axis of the samples, whose other axes go in front of the data's and the mask's."""
        B, index = self.backend, self.backend.indices(self._terms_of(sample))
        fields = {"X": self._terms(self.X, index, -2), "y": self._terms(self.y, index, -1)}
        if self.mask is not None and self.mask.shape[-1] > 1:
            fields["mask"] = self._terms(self.mask, index, -1)
        if self.weighted and self.pick is not None:
            fields["pick"] = self._terms(self.pick, index, -2)
        elif self.weighted:
            host = np.asarray(to_numpy(sample))
            rows = (host[..., None] == np.arange(self.n)).astype(np.float64)
            fields["pick"] = B.asarray(rows.reshape(*host.shape[:-1], *(1,) * self.lead, *rows.shape[-2:]))
        return dataclasses.replace(self, **fields)

    def _terms(self, x: Array, index: Array, axis: int) -> Array:
        """Samples of x, with an axis of length 1 for each that the mask has and x has not."""
        return terms(self.backend, x, self.lead + 2 - x.ndim, index, axis)

    def drop_units(self, mask: Array) -> Self:
        """The loss whose hidden units' outputs are multiplied by mask (..., units) too; any numbers are allowed."""
        require_mask(mask, self.units)
        return self._dropped(mask[..., None])

    def drop_each(self, mask: Array) -> Self:
        """As :meth:`drop_units`, with a mask for every sample: (..., N, units)."""
        require_mask(mask, self.units)
        if mask.ndim < 2 or mask.shape[-2] != self.count:
            raise BadInput(
                "not a mask for every sample",
                measured=tuple(mask.shape),
                required=f"(..., {self.count}, {self.units})",
                advice="drop_units takes one mask for all samples",
            )
        return self._dropped(self.backend.mT(mask))

    def _dropped(self, mask: Array) -> Self:
        return dataclasses.replace(self, mask=mask if self.mask is None else self.mask * mask)

    # -- what the formulas share -------------------------------------------------------------------------
    @cached_property
    def _columns(self) -> Array:
        """Xᵀ as a copy in C order, with which products are faster than with a view."""
        B, turned = self.backend, self.backend.mT(self.X)
        return B.reshape(B.reshape(turned, (-1,)), turned.shape)

    @property
    def _output(self) -> OutputLoss:
        return output_loss(self.loss)

    def _pass(self, w: Array) -> Forward:
        return self.net.forward(w, self._columns, self.mask)

    def own(self, lam: Array) -> Array:
        """Each sample's entry of λ, (..., N)."""
        return lam if self.pick is None else self.backend.matvec(self.pick, lam)

    def own_T(self, terms: Array) -> Array:
        """The transpose, (..., N) -> (..., n)."""
        return terms if self.pick is None else self.backend.rmatvec(self.pick, terms)

    def shares(self, lam: Array) -> Array:
        """s_i/N, (..., N)."""
        B, N = self.backend, self.count
        return B.sigmoid(self.own(lam)) / N if self.weighted else (1 + B.zeros((N,))) / N

    def slopes(self, lam: Array) -> Array:
        """σ'(λ_i)/N = σ(λ_i) σ(−λ_i)/N: accurate at both ends."""
        B, own = self.backend, self.own(lam)
        return B.sigmoid(own) * B.sigmoid(-own) / self.count

    # -- the objective ---------------------------------------------------------------------------------------
    def losses(self, w: Array) -> Array:
        """ℓ of every sample, (..., N)."""
        return self._output.values(self.backend, self.scores(w), self.y)

    def value(self, lam: Array, w: Array) -> Array:
        B = self.backend
        return B.dot(self.shares(lam), self.losses(w)) + self.reg * B.dot(w, w) / 2

    def grad_lam(self, lam: Array, w: Array) -> Array:
        if self.weighted:
            return self.own_T(self.slopes(lam) * self.losses(w))
        lead = np.broadcast_shapes(lam.shape[:-1], w.shape[:-1], self.leading)
        return self.backend.zeros((*lead, self.n))

    def grad_w(self, lam: Array, w: Array) -> Array:
        run = self._pass(w)
        excess = self._output.mean(self.backend, run.output) - self.y
        return run.pull(excess * self.shares(lam)[..., None, :]) + self.reg * w

    def outputs(self, lam: Array, w: Array, spread: Array | None = None) -> tuple[Forward, Outputs]:
        """The pass at w, and what the loss gives its last layer; ``spread``: see :class:`.assembled.Outputs`."""
        run, shares = self._pass(w), self.shares(lam)[..., None, :]
        mean = self._output.mean(self.backend, run.output)
        return run, Outputs(run, self._output, mean, (mean - self.y) * shares, shares, spread)

    def assembled(self, lam: Array, w: Array, layers: Sequence[int]) -> Array:
        """∇²_ww f over the parameters of these layers (ascending), (..., P, P), by structure: see :mod:`.assembled`."""
        return self._assembled(*self.outputs(lam, w), layers, self.lead_of(lam, w))

    def _assembled(self, run: Forward, out: Outputs, layers: Sequence[int], lead: int) -> Array:
        """With so many leading axes."""
        return self.with_ridge(assemble(run, out.head(), layers), lead)

    def with_ridge(self, matrix: Array, lead: int) -> Array:
        """The Hessian of the mean loss plus that of the ridge, with as many leading axes as asked for."""
        B = self.backend
        shape = (*(1,) * (lead + 2 - matrix.ndim), *matrix.shape)
        ridge = self.reg * B.eye(matrix.shape[-1]) if self.reg != 0 else None
        return B.reshape(matrix if ridge is None else matrix + ridge, shape)

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        """One forward and one backward pass here, once; each product then costs 12 N d."""
        B, (run, out) = self.backend, self.outputs(lam, w)
        product = run.hessian(out.excess, out.curve)

        def apply(v: Array) -> Array:
            return product(v) + self.reg * v

        def dense() -> Array:
            return self._assembled(run, out, range(len(self.net.shapes)), self.lead_of(lam, w))

        return Operator(B, (self.d, self.d), apply, apply, self.lead_of(lam, w), dense, symmetric=True)

    def units_mean(self, masks: Bernoulli, scale: Scale) -> Objective | None:
        """Squared loss, last hidden layer only: in closed form (:mod:`.last_layer`)."""
        from refimpl.networks.last_layer import expected

        return expected(self, masks, scale)

    def cross(self, lam: Array, w: Array) -> Operator:
        """Row i is σ'(λ_i)/N ∇_w ℓ_i: one pass forward for ``@ v``, one backward for ``.T @ u``."""
        if not self.weighted:
            return zero_cross(self)
        B, run = self.backend, self._pass(w)
        scaled = (self._output.mean(B, run.output) - self.y) * self.slopes(lam)[..., None, :]

        def apply(v: Array) -> Array:
            return self.own_T(B.sum(scaled * run.push(v)[1][-1], -2))

        def apply_T(u: Array) -> Array:
            return run.pull(scaled * self.own(u)[..., None, :])

        return Operator(B, (self.n, self.d), apply, apply_T, self.lead_of(lam, w))

    # -- for users -----------------------------------------------------------------------------------------------
    def scores(self, w: Array) -> Array:
        """The network's outputs, (..., outputs, N)."""
        return self._pass(w).output

    def predictions(self, w: Array) -> np.ndarray:
        """The class of the largest output, on the host: (..., N)."""
        return np.asarray(np.argmax(to_numpy(self.scores(w)), axis=-2))

    def accuracy(self, lam: Array, w: Array) -> np.ndarray:
        """The share of samples whose prediction is the class of y, (...)."""
        return np.asarray(np.mean(self.predictions(w) == np.argmax(to_numpy(self.y), axis=-2), axis=-1))

    def kink_distance(
        self, lam: Array, w: Array, lam_moves: Array | None = None, w_moves: Array | None = None
    ) -> np.ndarray:
        """Smallest pre-activation of the piecewise linear layers, (...): see :func:`.forward.kink_distance`.

        lam_moves, w_moves: masks that broadcast to λ and w, whose entries 0 stand still. λ moves no pre-activation.
        """
        return kink_distance(self._pass(w), w_moves)


def loss(
    net: MLP,
    X: Any,
    y: Any,
    *,
    loss: str = "softmax",
    reg: float = 0.0,
    n: int = 0,
    weighted: bool = False,
    smoothing: float = 0.0,
) -> NetworkLoss:
    """The mean loss of ``net`` over rows X (N, inputs), w = all its parameters. Raises ``BadInput``.

    y: classes 0 … outputs − 1 (N,) for "softmax"; targets (N, outputs), or (N,) for one output, for "squared".
    n: length of a λ that does not enter; ``weighted``: λ ∈ R^N and sample i has weight σ(λ_i).
    smoothing: of the labels, (1 − ε) one-hot + ε/outputs; for "softmax".

    >>> f = loss(MLP((2, 3, 2), "tanh"), [[1, 0], [0, 1], [1, 1]], [0, 1, 1], reg=0.1, weighted=True)
    >>> f.n, f.d
    (3, 17)
    """
    if net.body:
        raise BadInput(
            "the network's outputs would be activated",
            measured=f"MLP({net.widths}) with body=True",
            required="a last layer without activation, which the loss follows",
            advice="leave body=True out; refimpl.networks.shared puts heads on a body",
        )
    X = numbers(X, 2, "X")
    columns = targets(y, (len(X),), net.widths[-1], loss)
    if smoothing:
        columns = smoothed_labels(columns, smoothing, loss)
    require_inputs(net, X)
    n = require_whole(
        n, "n, the length of λ,", 0, "0 is none; weighted=True sets it to the number of samples"
    )
    if weighted and n not in (0, len(X)):
        raise BadInput(
            "every sample has one weight",
            measured=f"n = {n} for {len(X)} samples",
            required="n = N",
            advice="leave n out: weighted=True sets it",
        )
    penalty = non_negative(reg)
    on = net.backend
    made = NetworkLoss(net.to("numpy"), X, columns, loss, penalty, len(X) if weighted else n, weighted)
    return made if on == made.backend else made.to(on)
