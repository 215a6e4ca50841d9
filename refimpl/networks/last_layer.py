"""Dropout of the last hidden layer under the squared loss: its expectation in closed form (dropout-flatness, 8).

The output is linear in a mask on its last hidden layer, f_η = W((1 + η) ∘ a) + c, with Eη = 0 and Var η_j = s_j =
(1 − p_j)/p_j, whatever the scaling: where masks are 0 or 1, a stands for the mean p ∘ a. Hence

    E ½‖f_η − y‖² = ½‖f − y‖² + ½ Σ_j s_j a_j² ‖W_j‖²      (appendix B, loss-identity).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.networks.assembled import Outputs, assemble
from refimpl.networks.forward import Forward
from refimpl.networks.mlp import MLP
from refimpl.networks.objective import NetworkLoss
from refimpl.objective import Around
from refimpl.operators import Operator
from refimpl.spaces import Bernoulli
from refimpl.spaces.bernoulli import Scale


@dataclass(frozen=True, eq=False)
class LastLayerDropout(Around):
    """f̄(λ, w) = f + Σ_i (share_i/2) Σ_j s_j a_ij² ‖W_j‖², f a network's squared loss at the masks' mean.

    ``spread`` (m,): s_j. The shares are f's: 1/N, or σ(λ_i)/N. Cost: that of f, half as much again for products.
    """

    f: NetworkLoss
    spread: Array
    backend: Backend = Backend()

    def batch(self, sample: Any) -> Self:
        """The expected loss of the mean over the last axis of the samples."""
        return dataclasses.replace(self, f=self.f.batch(sample))

    def _at(self, lam: Array, w: Array) -> tuple[Forward, Outputs]:
        return self.f.outputs(lam, w, self.spread)

    def _penalties(self, out: Outputs) -> Array:
        """½ Σ_j s_j a_j²‖W_j‖² of every sample, (..., N)."""
        return self.backend.sum(out.shrink * out.a * out.a, -2) / 2

    def value(self, lam: Array, w: Array) -> Array:
        out = self._at(lam, w)[1]
        return self.f.value(lam, w) + self.backend.dot(out.shares[..., 0, :], self._penalties(out))

    def grad_lam(self, lam: Array, w: Array) -> Array:
        plain = self.f.grad_lam(lam, w)
        if not self.f.weighted:
            return plain
        return plain + self.f.own_T(self.f.slopes(lam) * self._penalties(self._at(lam, w)[1]))

    def grad_w(self, lam: Array, w: Array) -> Array:
        run, out = self._at(lam, w)
        return self.f.grad_w(lam, w) + self._pull(body(run), out, out.shares)

    def _pull(self, below: Forward, out: Outputs, shares: Array) -> Array:
        """The gradient of Σ_i shares_i penalty_i: shares (..., 1, N)."""
        B = self.backend
        weights = out.W * (B.sum(shares * out.a * out.a) * self.spread)[..., None, :]
        return self._pack(below.pull(shares * out.shrink * out.a), weights)

    def _pack(self, below: Array, weights: Array) -> Array:
        """w from the body's part (..., P_body) and the last layer's weights (..., k, m); its biases get 0."""
        B = self.backend
        head = B.concat([weights, 0 * weights[..., :1]])
        return B.concat([below, B.reshape(head, (*head.shape[:-2], head.shape[-2] * head.shape[-1]))])

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        B, plain = self.backend, self.f.hess_ww(lam, w)
        run, out = self._at(lam, w)
        below, squares = body(run), B.sum(out.shares * out.a * out.a) * self.spread

        def apply(v: Array) -> Array:
            first, V = self._split(v)
            shrink = 2 * (B.sum(out.W * V, -2) * self.spread)[..., None]
            da = below.push(first)[1][-1]
            product = below.hessian(
                out.shares * out.shrink * out.a,
                lambda da: out.shares * (out.shrink * da + shrink * out.a),
            )
            dsquares = 2 * B.sum(out.shares * out.a * da) * self.spread
            weights = V * squares[..., None, :] + out.W * dsquares[..., None, :]
            return plain @ v + self._pack(product(first), weights)

        def dense() -> Array:
            every = range(len(self.f.net.shapes))
            return self.f.with_ridge(assemble(run, out.head(), every), self.lead_of(lam, w))

        return Operator(B, (self.d, self.d), apply, apply, self.lead_of(lam, w), dense, symmetric=True)

    def assembled(self, lam: Array, w: Array, layers: Sequence[int]) -> Array:
        """∇²_ww over the parameters of these layers, (..., P, P): theorem 1's matrix with its cross-layer terms."""
        run, out = self._at(lam, w)
        return self.f.with_ridge(assemble(run, out.head(), layers), self.lead_of(lam, w))

    def _split(self, v: Array) -> tuple[Array, Array]:
        """The body's part of v, and the last layer's weights (..., k, m)."""
        last = self.f.net.spans[-1]
        rows, columns = self.f.net.shapes[-1]
        head = self.backend.reshape(v[..., last], (*v.shape[:-1], rows, columns))
        return v[..., : last.start], head[..., :-1]

    def cross(self, lam: Array, w: Array) -> Operator:
        plain = self.f.cross(lam, w)
        if not self.f.weighted:
            return plain
        B = self.backend
        run, out = self._at(lam, w)
        below, slopes = body(run), self.f.slopes(lam)

        def apply(v: Array) -> Array:
            first, V = self._split(v)
            shrink = 2 * (B.sum(out.W * V, -2) * self.spread)[..., None]
            da = below.push(first)[1][-1]
            moved = B.sum(out.shrink * out.a * da + shrink * out.a * out.a / 2, -2)
            return plain @ v + self.f.own_T(slopes * moved)

        def apply_T(u: Array) -> Array:
            return plain.T @ u + self._pull(below, out, (slopes * self.f.own(u))[..., None, :])

        return Operator(B, (self.n, self.d), apply, apply_T, self.lead_of(lam, w))

    def kink_distance(self, lam: Array, w: Array, lam_moves: Any = None, w_moves: Any = None) -> Any:
        return self.f.kink_distance(lam, w, lam_moves, w_moves)


def body(run: Forward) -> Forward:
    """The pass through the hidden layers alone, whose output is a."""
    net = MLP(run.net.widths[:-1], run.net.activations, body=True, backend=run.net.backend)
    below = (run.layers[:-1], run.inputs[:-1], run.before, run.values, run.first, run.masks)
    return Forward(net, *below, run.inputs[-1])


def spread_of(net: MLP, masks: Bernoulli) -> list[Any] | None:
    """s_j of every unit of the last hidden layer; None unless its units alone are dropped, each by its own variable.

    A unit that is never kept has a = 0, and any s_j serves: 0.
    """
    m = net.hidden[-1] if net.hidden else 0
    keep = masks.of_coordinates("none")
    last = masks.groups[net.units - m :]
    if not m or any(0 < p < 1 for p in keep[: net.units - m]) or len(set(last)) < m:
        return None
    return [(1 - p) / p if p else 0 * p for p in keep[net.units - m :]]


def expected(f: NetworkLoss, masks: Bernoulli, scale: Scale) -> LastLayerDropout | None:
    """E f over these masks of the hidden units' outputs, where it has the closed form; else None."""
    spread = spread_of(f.net, masks) if f.loss == "squared" else None
    if spread is None:
        return None
    B = f.backend
    if scale == "none":
        f = f.drop_units(B.asarray([B.scalar(p) for p in masks.of_coordinates()]))
    return LastLayerDropout(f, B.asarray([B.scalar(x) for x in spread]), B)
