r"""The two matrices of dropout-flatness as its theorems print them: literal sums over samples and last hidden units.

A network with one output, f = Σ_j f^j + c with f^j = w_j a_j, a the last hidden layer's outputs, which dropout keeps
with probability p (a number, or one for each unit), s_j = (1 − p_j)/p_j, ε_i = f(x_i) − y_i, and the loss ½ε²:

    H = (1/n) Σ_i [∇f ∇fᵀ + Σ_j s_j ∇f^j ∇f^jᵀ]                                                        (theorem 1)
    Σ = (1/n) Σ_i [a_i ∇f ∇fᵀ + b_i Σ_j s_j ∇f^j ∇f^jᵀ],  a_i = ε_i² + Σ_j s_j (f^j)²,  b_i = ε_i²      (theorem 2)

a_i is twice the expected loss over masks, b_i twice the loss without them. The document has one p for all units.
What is true of them is judged by the claims dropout-flatness/theorem-1 and theorem-2; ``refimpl.curvature`` has the
exact matrices.

>>> import numpy as np
>>> from refimpl.networks import MLP, loss
>>> f = loss(MLP((1, 1, 1), "linear"), [[1.0]], [2.0], loss="squared")
>>> hessian(f, np.array([1.0, 0.0, 1.0, 0.0]), 0.5).tolist()
[[2.0, 2.0, 2.0, 1.0], [2.0, 2.0, 2.0, 1.0], [2.0, 2.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.networks import NetworkLoss


@dataclass(frozen=True, eq=False)
class Terms:
    """What the sums are made of: ε (n,), f^j (m, n), ∇f (n, P), ∇f^j (m, n, P)."""

    backend: Backend
    errors: Array
    parts: Array
    whole: Array
    of_parts: Array

    def spread(self, keep_prob: Any) -> Array:
        """s_j = (1 − p_j)/p_j, (m,), of one keep probability or one for each unit. Raises ``BadInput``."""
        B, m = self.backend, self.parts.shape[0]
        several = isinstance(keep_prob, Sequence) or getattr(keep_prob, "ndim", 0) > 0
        given = list(keep_prob) if several else [keep_prob] * m
        if len(given) != m or not all(0 < p <= 1 for p in given):
            raise BadInput(
                "no keep probabilities of the last hidden layer",
                measured=keep_prob,
                required=f"a number in (0, 1], or {m} of them",
                advice="p is the probability of keeping a unit",
            )
        return B.asarray([B.scalar((1 - p) / p) for p in given])


def terms(loss: NetworkLoss, w: Array) -> Terms:
    """Errors, outputs and gradients of every sample and last hidden unit. Cost: n m backward passes of all samples.

    Raises ``BadInput`` for what settings 1 to 3 do not cover: another loss, several outputs, sample weights, a ridge.
    """
    net, B = loss.net, loss.backend
    covered = loss.loss == "squared" and net.widths[-1] == 1 and net.hidden
    if not covered or loss.weighted or loss.reg != 0 or loss.mask is not None or loss.X.ndim > 2:
        raise BadInput(
            "settings 1 to 3 do not cover this objective",
            measured=f"{loss.loss} loss of MLP({net.widths}), reg {loss.reg}, weighted {loss.weighted}",
            required="the plain squared loss of a network with a hidden layer and one output",
            advice="refimpl.curvature.hessian and noise have no such limits",
        )
    X, (n, m) = B.mT(loss.X), (loss.count, net.hidden[-1])
    run = net.forward(w, X)
    each = B.reshape(B.eye(n), (n, 1, n))
    before = B.zeros((m, net.units - m)) + 1
    masks = B.reshape(B.concat([before, B.eye(m)]), (m, 1, net.units, 1))
    alone = net.forward(w, X, masks)  # f^j + c: one unit kept, the others dropped
    of_bias = B.eye(net.size)[-1, :]
    return Terms(
        B,
        (run.output - loss.y)[0, :],
        alone.output[:, 0, 0, :] - w[-1],
        run.pull(each),
        alone.pull(B.broadcast(each, (m, n, 1, n))) - of_bias,
    )


def hessian(loss: NetworkLoss, w: Array, keep_prob: Any) -> Array:
    """H as theorem 1 prints it, (P, P): what is left when second derivatives of f and f^j are dropped."""
    t = terms(loss, w)
    n = loss.count
    return (_outer(t, t.whole) + _units(t, t.spread(keep_prob)[:, None] + 0 * t.parts)) / n


def covariance(loss: NetworkLoss, w: Array, keep_prob: Any) -> Array:
    """Σ as theorem 2 prints it, (P, P): after its expansion of the loss, and with ∇(ε_i²) = 0."""
    t = terms(loss, w)
    B, n, s = t.backend, loss.count, t.spread(keep_prob)[:, None]
    b = t.errors * t.errors
    a = b + B.sum(s * t.parts * t.parts, 0)
    return (_outer(t, t.whole, a) + _units(t, s * b)) / n


def _outer(t: Terms, g: Array, weights: Any = 1) -> Array:
    """Σ_i weights_i g_i g_iᵀ."""
    B = t.backend
    left = g if isinstance(weights, int) else weights[:, None] * g
    return B.mT(left) @ g


def _units(t: Terms, weights: Array) -> Array:
    """Σ_i Σ_j weights_ji ∇f^j_i ∇f^j_iᵀ."""
    return t.backend.sum(t.backend.mT(weights[..., None] * t.of_parts) @ t.of_parts, 0)
