"""Dropout of the last hidden layer: what its masks can change of a sample's gradient, and that alone.

With F_oj = W_oj a_j and F_o,bias = c_o, the output is f_o = Σ_j (1 + η_j) F_oj + F_o,bias: a sample's gradient is

    g = Jᵀu,   u_oj = e_o (1 + η_j),   u_o,bias = e_o,   e = ∇ℓ(f_η),   J the Jacobian of F:

linear in the k (m + 1) random numbers u. Matrices of u go back to the parameters by :mod:`refimpl.networks.assembled`.
A loss's first derivative e takes the sample's weight; where masks are 0 or 1, a stands for the masks' mean p ∘ a.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from refimpl.arrays.backend import Array
from refimpl.networks.assembled import Head, Outputs, assemble
from refimpl.networks.forward import Forward
from refimpl.networks.last_layer import body

CELLS = 2**22  # numbers in the largest array at a time


@dataclass(frozen=True, eq=False)
class LastLayer:
    """One pass at the masks' mean, m units and k outputs; ``weights`` (N,): of the samples, 1 where they have none."""

    run: Forward
    out: Outputs
    weights: Array
    total: int  # samples that the outputs' shares count: N, also of a part of them

    @property
    def count(self) -> int:
        """N."""
        return int(self.weights.shape[-1])

    @property
    def sizes(self) -> tuple[int, int]:
        """k and m."""
        k, m = self.out.W.shape
        return int(k), int(m)

    @cached_property
    def x(self) -> Array:
        """(a, 1), samples in rows: (N, m + 1)."""
        return self.out.x

    @cached_property
    def parts(self) -> Array:
        """F_oj, the units' contributions to the outputs: (N, k, m)."""
        return self.out.W * self.x[:, None, :-1]

    @cached_property
    def errors(self) -> Array:
        """e at the masks' mean times the sample's weight, (N, k)."""
        B = self.run.net.backend
        return B.mT(self.out.excess) * self.total

    def chunks(self, cells: int) -> Iterator[slice]:
        """The samples, so many at a time that arrays of ``cells`` numbers for each stay small."""
        length = max(1, CELLS // cells)
        return (slice(start, min(start + length, self.count)) for start in range(0, self.count, length))

    def of(self, samples: slice) -> LastLayer:
        """The same for these samples alone."""
        out = self.out.of(samples)
        return LastLayer(out.run, out, self.weights[samples], self.total)

    def matrix(self, forms: Array, layers: Sequence[int]) -> Array:
        """Σ_i J_iᵀ K_i J_i over the parameters of these layers, for forms K (N, k (m + 1), k (m + 1)): (P, P)."""
        B, (k, m) = self.run.net.backend, self.sizes
        u = m + 1
        K = B.reshape(forms, (self.count, k, u, k, u))
        W, x = self.out.W, self.x
        left = B.sum(K[:, :, :m, :, :] * W[:, :, None, None], 1)  # da: Σ_o W_oj K, (N, m, k, u)

        def aa() -> Array:
            return B.sum(left[..., :m] * W, -2)

        def ua() -> Array:
            return B.mT(B.reshape(left * x[:, None, None, :], (self.count, m, k * u)))

        def uu() -> Array:
            weighted = K * x[:, None, :, None, None] * x[:, None, None, None, :]
            return B.reshape(B.sum(weighted, 0), (k * u, k * u))

        return assemble(self.run, Head(aa, ua, uu), layers)

    def pull(self, forms: Array, layers: Sequence[int]) -> Array:
        """Σ_i J_iᵀu_i for u (..., N, k (m + 1)): (..., P), the part of these layers."""
        B, (k, m) = self.run.net.backend, self.sizes
        net = self.run.net
        u = B.reshape(forms, (*forms.shape[:-1], k, m + 1))
        below = body(self.run).pull(B.mT(B.sum(u[..., :m] * self.out.W, -2))) if net.hidden else None
        head = B.sum(u * self.x[:, None, :], -3)
        whole = B.reshape(head, (*head.shape[:-2], k * (m + 1)))
        whole = whole if below is None else B.concat([below, whole])
        return B.concat([whole[..., net.spans[layer]] for layer in layers])
