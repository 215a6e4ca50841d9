"""A representation shared by several tasks: λ is the body of the network, w one linear head for each task."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.networks.data import (
    non_negative,
    require_inputs,
    require_mask,
    require_whole,
    targets,
    terms,
)
from refimpl.networks.forward import Forward, affine, gradient, kink_distance, transposed
from refimpl.networks.losses import OutputLoss, output_loss
from refimpl.networks.mlp import MLP, require_length
from refimpl.objective import Objective
from refimpl.operators import Operator
from refimpl.spaces import Indices, Space
from refimpl.zoo.rows import numbers


@dataclass(frozen=True, eq=False)
class SharedLoss(Objective):
    """f(λ, w) = (1/T) Σ_j (1/N) Σ_i ℓ(W_j (body_λ(x_ji), 1), y_ji) + (reg/2)‖w‖², w = (W_1, …, W_T).

    X (..., T, N, inputs); y (..., T, outputs, N). A head W_j is (outputs, features + 1) in C order, its last column the
    bias. A mean over i: a sample is the i-th of every task. ∇²_ww is block diagonal, one block for each task.
    ``mask`` (..., units) multiplies the outputs of the body's hidden units, the same for all tasks; not the ridge.
    """

    body: MLP
    X: Array
    y: Array
    loss: str
    reg: Any
    mask: Array | None = None
    backend: Backend = Backend()

    @property
    def n(self) -> int:
        return self.body.size

    @property
    def units(self) -> int:
        """Number of the body's hidden units: those of its last layer are the features."""
        return self.body.units

    @property
    def head(self) -> tuple[int, int, int]:
        """(T, outputs, features + 1)."""
        return int(self.y.shape[-3]), int(self.y.shape[-2]), self.body.widths[-1] + 1

    @property
    def d(self) -> int:
        tasks, outputs, columns = self.head
        return tasks * outputs * columns

    @property
    def count(self) -> int:
        """N, the number of samples of a task."""
        return int(self.X.shape[-2])

    @property
    def leading(self) -> tuple[int, ...]:
        masks = () if self.mask is None else self.mask.shape[:-1]
        return tuple(np.broadcast_shapes(self.X.shape[:-3], masks))

    @property
    def lead(self) -> int:
        return len(self.leading)

    @property
    def space(self) -> Space:
        return Indices(self.count)

    def batch(self, sample: Any) -> Self:
        """The mean over the last axis of the samples, whose other axes go in front of the data's and the mask's."""
        index = self.backend.indices(self._terms_of(sample))
        return dataclasses.replace(self, X=self._terms(self.X, index, -2), y=self._terms(self.y, index, -1))

    def _terms(self, x: Array, index: Array, axis: int) -> Array:
        """Samples of x, with an axis of length 1 for each that the mask has and x has not."""
        return terms(self.backend, x, self.lead + 3 - x.ndim, index, axis)

    def drop_units(self, mask: Array) -> Self:
        """The loss whose body's hidden units are multiplied by mask (..., units) too; any numbers are allowed."""
        require_mask(mask, self.units)
        return dataclasses.replace(self, mask=mask if self.mask is None else self.mask * mask)

    def heads(self, w: Array) -> Array:
        """Views (..., T, outputs, features + 1) of w (..., d)."""
        require_length(w, self.d, "the heads' weights")
        return self.backend.reshape(w, (*w.shape[:-1], *self.head))

    def pack(self, heads: Array) -> Array:
        """w (..., d) from heads (..., T, outputs, features + 1)."""
        return self.backend.reshape(heads, (*heads.shape[:-3], self.d))

    # -- what the formulas share -------------------------------------------------------------------------
    @cached_property
    def _columns(self) -> Array:
        return self.backend.mT(self.X)

    @property
    def _output(self) -> OutputLoss:
        return output_loss(self.loss)

    @property
    def _each(self) -> int:
        """T N: what every sample's loss is divided by."""
        return self.head[0] * self.count

    def _pass(self, lam: Array) -> Forward:
        mask = None if self.mask is None else self.mask[..., None, :, None]
        return self.body.forward(lam[..., None, :], self._columns, mask)

    def _at(self, lam: Array, w: Array) -> tuple[Forward, Array, Array, Array]:
        """The pass through the body, W, the output's mean, and the cotangent of the scores."""
        run, W = self._pass(lam), self.heads(w)
        mean = self._output.mean(self.backend, affine(W, run.output))
        return run, W, mean, (mean - self.y) / self._each

    def _curve(self, mean: Array, u: Array) -> Array:
        return self._output.curve(self.backend, mean, u) / self._each

    def _pull(self, run: Forward, e: Array) -> Array:
        """Cotangents of all tasks' features -> (..., n)."""
        return self.backend.sum(run.pull(e), -2)

    # -- the objective ---------------------------------------------------------------------------------------
    def value(self, lam: Array, w: Array) -> Array:
        B = self.backend
        return B.mean(B.mean(self.losses(lam, w))) + self.reg * B.dot(w, w) / 2

    def grad_lam(self, lam: Array, w: Array) -> Array:
        run, W, _, e = self._at(lam, w)
        return self._pull(run, transposed(self.backend, W, e))

    def grad_w(self, lam: Array, w: Array) -> Array:
        run, _, _, e = self._at(lam, w)
        return self.pack(gradient(self.backend, e, run.output)) + self.reg * w

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        B = self.backend
        run, _, mean, _ = self._at(lam, w)

        def apply(v: Array) -> Array:
            moved = self._curve(mean, affine(self.heads(v), run.output))
            return self.pack(gradient(B, moved, run.output)) + self.reg * v

        return Operator(B, (self.d, self.d), apply, apply, self.lead_of(lam, w), symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        """With z = W (φ, 1) and its cotangent e: along V the cotangent Wᵀe of φ moves by Wᵀ ℓ''(V (φ, 1)) + Vᵀe.

        Along u in λ, with φ̇ the motion of the features, e (φ, 1)ᵀ moves by ℓ''(W φ̇) (φ, 1)ᵀ + e (φ̇, 0)ᵀ.
        """
        B = self.backend
        run, W, mean, e = self._at(lam, w)

        def apply(v: Array) -> Array:
            V = self.heads(v)
            moved = self._curve(mean, affine(V, run.output))
            return self._pull(run, transposed(B, W, moved) + transposed(B, V, e))

        def apply_T(u: Array) -> Array:
            features = run.push(u[..., None, :])[1][-1]
            moved = self._curve(mean, W[..., :-1] @ features)
            weights = moved @ B.mT(run.output) + e @ B.mT(features)
            return self.pack(B.concat([weights, B.sum(moved)[..., None]]))

        return Operator(B, (self.n, self.d), apply, apply_T, self.lead_of(lam, w))

    # -- for users -----------------------------------------------------------------------------------------------
    def scores(self, lam: Array, w: Array) -> Array:
        """(..., T, outputs, N)."""
        return affine(self.heads(w), self._pass(lam).output)

    def losses(self, lam: Array, w: Array) -> Array:
        """ℓ of every sample, (..., T, N)."""
        return self._output.values(self.backend, self.scores(lam, w), self.y)

    def accuracy(self, lam: Array, w: Array) -> np.ndarray:
        """The share of each task's samples that are classified as in y, (..., T)."""
        right = np.argmax(to_numpy(self.scores(lam, w)), axis=-2) == np.argmax(to_numpy(self.y), axis=-2)
        return np.asarray(np.mean(right, axis=-1))

    def kink_distance(
        self, lam: Array, w: Array, lam_moves: Array | None = None, w_moves: Array | None = None
    ) -> np.ndarray:
        """Smallest pre-activation of the body's piecewise linear layers, (...): see :func:`.forward.kink_distance`.

        lam_moves, w_moves: masks that broadcast to λ and w, whose entries 0 stand still. w moves no pre-activation.
        """
        nearest = kink_distance(self._pass(lam), None if lam_moves is None else lam_moves[..., None, :])
        return nearest.min(axis=-1) if nearest.ndim else nearest


def shared(body: MLP, X: Any, y: Any, *, outputs: int, loss: str = "softmax", reg: float = 0.0) -> SharedLoss:
    """The mean over T tasks of the mean loss over their N samples: X (T, N, inputs). Raises ``BadInput``.

    y: classes 0 … outputs − 1 (T, N) for "softmax"; targets (T, N, outputs), or (T, N), for "squared".

    >>> f = shared(MLP((2, 3), "tanh", body=True), [[[1, 0], [0, 1]], [[1, 1], [0, 2]]], [[0, 1], [1, 0]], outputs=2)
    >>> f.n, f.d
    (9, 16)
    """
    if not body.body:
        raise BadInput(
            "the shared network's last layer has no activation",
            measured=f"MLP({body.widths}) without body=True",
            required="a body",
            advice="MLP(widths, activation, body=True); the heads are linear layers of their own",
        )
    X = numbers(X, 3, "X")
    require_inputs(body, X)
    outputs = require_whole(outputs, "outputs", 1, "one for each class or target of a task's head")
    columns = targets(y, X.shape[:2], outputs, loss)
    made = SharedLoss(body.to("numpy"), X, columns, loss, non_negative(reg))
    return made if body.backend == made.backend else made.to(body.backend)
