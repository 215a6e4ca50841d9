"""Second-order forms of a network as dense matrices, assembled by structure.

A form on what the last layer sees, pulled back to the parameters: with a the last hidden outputs of a sample, U the
last layer and K a symmetric form on (da, dU), the matrix is

    Σ_i (da, dU)ᵀ K_i (da, dU) + Σ_i e_i · ∇²a_i,

where e is a cotangent of a. Every block of layers r ≥ l is a sum over samples of a small matrix (width_r x width_l)
times an outer product of the layers' inputs, hence one product of (width_r width_l, N) by (N, inputs_r inputs_l). Going
down with D_{r,l} = ∂h_r/∂z_l, s, δ, e as in :mod:`.forward` and x_l = (h_{l−1}, 1):

    K^z_r = s K^h_r s + diag(m a''(z_r) e_r),  K^h_{r−1} = W_rᵀ K^z_r W_r,
    block (r, r) = Σ K^z_r ⊗ x_r x_rᵀ,
    block (r, l) = Σ K^z_r W_r D_{r−1,l} ⊗ x_r x_lᵀ + Σ δ_r ⊗ D_{r−1,l} ⊗ x_l.

The last sum, the derivative of δ_r h_{r−1}ᵀ through h_{r−1}, is what makes cross-layer blocks of a piecewise linear
network differ from their Gauss–Newton part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.networks.forward import Forward, transposed
from refimpl.networks.losses import OutputLoss


@dataclass(frozen=True, eq=False)
class Head:
    """A form on (da, dU), U the last layer in C order: samples first; made when asked for, as few layers need all.

    ``aa`` (..., N, m, m); ``ua`` (..., N, u, m); ``uu`` (..., u, u), summed over samples; ``pull`` (..., m, N), a
    cotangent of a, or None.
    """

    aa: Callable[[], Array]
    ua: Callable[[], Array]
    uu: Callable[[], Array]
    pull: Array | None = None


def assemble(run: Forward, head: Head, layers: Sequence[int]) -> Array:
    """The form's matrix over the parameters of these layers (ascending): (..., P, P), P their number together.

    Cost: N Σ_{r≥l} width_r width_l inputs_r inputs_l, besides N products of widths.
    """
    down = _Down(run, head, layers)
    last = len(run.layers) - 1
    blocks = {(last, last): head.uu()} if last in layers else {}
    for r in reversed(range(min(layers), last)):
        blocks.update(down.to(r))
    if last in layers and len(layers) > 1:
        ua = head.ua()
        blocks.update({(last, low): down.below_head(ua, low) for low in layers if low < last})
    return _symmetric(run.net.backend, blocks, layers)


def _symmetric(B: Backend, blocks: dict[tuple[int, int], Array], layers: Sequence[int]) -> Array:
    """The matrix of blocks (r, l), l ≤ r, and their transposes."""
    if B.name != "numpy":
        rows = [B.concat([blocks[r, c] if r >= c else B.mT(blocks[c, r]) for c in layers]) for r in layers]
        return B.concat(rows, axis=-2)
    stops = np.cumsum([0, *(blocks[r, r].shape[-1] for r in layers)]).tolist()
    spans = {r: slice(a, b) for r, a, b in zip(layers, stops, stops[1:], strict=False)}
    first = blocks[layers[0], layers[0]]
    found = np.empty((*first.shape[:-2], stops[-1], stops[-1]), dtype=first.dtype)  # half of concat's copies
    for (high, low), block in blocks.items():
        found[..., spans[high], spans[low]] = block
        if low < high:
            found[..., spans[low], spans[high]] = B.mT(block)
    return found


class _Down:
    """The way down from the head: forms K^h and cotangents e of the layer that was reached, and every D_{r,l}."""

    def __init__(self, run: Forward, head: Head, layers: Sequence[int]) -> None:
        self.run, self.head, self.layers, self.B = run, head, layers, run.net.backend
        self.slopes = tuple(self.B.mT(s) for s in run.slopes)
        self.weights = tuple(W[..., None, :, :-1] for W in run.layers)
        self.e = head.pull
        self.K = head.aa() if min(layers) < len(run.slopes) else None
        self.motions: dict[tuple[int, int], Array] = {}
        self.inputs: dict[int, Array] = {}

    def to(self, r: int) -> dict[tuple[int, int], Array]:
        """The blocks (r, l), l ≤ r, of the layers asked for; then K^h and e of the layer below r."""
        B, run, found = self.B, self.run, {}
        s = self.slopes[r]
        K = s[..., :, None] * self.K * s[..., None, :]
        delta = None
        if self.e is not None:
            delta = run.slopes[r] * self.e
            K = K + _diagonal(B, B.mT(_bends(run, r) * self.e))
        if r in self.layers:
            found[r, r] = contract(B, K, self.features(r), self.features(r))
            for l in self.layers:  # noqa: E741  # l is the layer in every formula
                if l < r:
                    found[r, l] = self._cross(K, delta, r, l)
        if r:
            self.K = self._down(K, r)
            self.e = None if delta is None else transposed(B, run.layers[r], delta)
        return found

    def _down(self, K: Array, r: int) -> Array:
        W = self.weights[r]
        return self.B.mT(W) @ (K @ W)

    def _cross(self, K: Array, delta: Array | None, r: int, l: int) -> Array:  # noqa: E741  # as above
        """Block (r, l), l < r."""
        B, x = self.B, self.features(l)
        block = contract(B, self._through(K @ self.weights[r], r - 1, l), self.features(r), x)
        if delta is None:
            return block
        rows = B.mT(delta)
        if l == r - 1:  # D is the diagonal of the slopes
            small = _over_samples(B, _pairs(B, rows, self.slopes[l]), x)  # (width_r · k, inputs_l)
            k, width = self.slopes[l].shape[-1], rows.shape[-1]
            small = B.reshape(small, (*small.shape[:-2], width, k, 1, x.shape[-1]))
            moved = small * B.reshape(B.eye(k), (k, k, 1))
        else:
            D = self.motion(r - 1, l)
            flat = B.reshape(D, (*D.shape[:-2], D.shape[-2] * D.shape[-1]))
            moved = _over_samples(B, _pairs(B, rows, x), flat)
            moved = B.reshape(moved, (*moved.shape[:-2], rows.shape[-1], x.shape[-1], *D.shape[-2:]))
            moved = B.moveaxis(moved, -3, -1)  # (j, k, a, b)
        moved = B.reshape(moved, (*moved.shape[:-2], moved.shape[-2] * moved.shape[-1]))
        bias = 0 * moved[..., :1, :]  # x_r's last entry, 1, does not move
        moved = B.concat([moved, bias], axis=-2)
        return block + B.reshape(moved, block.shape)

    def motion(self, r: int, l: int) -> Array:  # noqa: E741  # as above
        """D_{r,l} = ∂h_r/∂z_l, (..., N, width_r, width_l), for l < r."""
        if (r, l) not in self.motions:
            self.motions[r, l] = self.slopes[r][..., :, None] * self._through(self.weights[r], r - 1, l)
        return self.motions[r, l]

    def _through(self, left: Array, r: int, l: int) -> Array:  # noqa: E741  # as above
        """left D_{r,l} for left (..., N or 1, any, width_r)."""
        return left * self.slopes[l][..., None, :] if r == l else left @ self.motion(r, l)

    def below_head(self, ua: Array, l: int) -> Array:  # noqa: E741  # as above
        """The block of the last layer and layer l."""
        B, x = self.B, self.features(l)
        T = self._through(ua, len(self.slopes) - 1, l)
        flat = B.reshape(T, (*T.shape[:-2], T.shape[-2] * T.shape[-1]))
        block = _over_samples(B, flat, x)
        return B.reshape(block, (*block.shape[:-2], T.shape[-2], T.shape[-1] * x.shape[-1]))

    def features(self, l: int) -> Array:  # noqa: E741  # as above
        if l not in self.inputs:
            self.inputs[l] = features(self.run, l)
        return self.inputs[l]


def features(run: Forward, l: int) -> Array:  # noqa: E741  # the layer in every formula
    """x_l = (h_{l−1}, 1), samples in rows: (..., N, inputs + 1)."""
    B = run.net.backend
    h = B.mT(run.inputs[l])
    return B.concat([h, 1 + 0 * h[..., :1]])


def contract(B: Backend, T: Array, x: Array, y: Array) -> Array:
    """Σ_i T_i ⊗ x_i y_iᵀ as a matrix (..., r f, c g) of T (..., N, r, c), x (..., N, f), y (..., N, g)."""
    r, c = T.shape[-2:]
    f, g = x.shape[-1], y.shape[-1]
    flat = _over_samples(B, B.reshape(T, (*T.shape[:-2], r * c)), _pairs(B, x, y))
    lead = flat.shape[:-2]
    return B.reshape(B.moveaxis(B.reshape(flat, (*lead, r, c, f, g)), -3, -2), (*lead, r * f, c * g))


def _over_samples(B: Backend, x: Array, y: Array) -> Array:
    return B.mT(x) @ y


def _pairs(B: Backend, x: Array, y: Array) -> Array:
    """x_i ⊗ y_i, flat: (..., N, f g)."""
    both = x[..., :, None] * y[..., None, :]
    return B.reshape(both, (*both.shape[:-2], both.shape[-2] * both.shape[-1]))


def _diagonal(B: Backend, x: Array) -> Array:
    return x[..., :, None] * B.eye(x.shape[-1])


def _bends(run: Forward, r: int) -> Array:
    """m a''(z_r), (..., width, N)."""
    second = run.net.activation(r).second(run.values[r], run.first[r])
    return second if run.masks is None else run.masks[r] * second


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a loss gives a network's last layer: ∇ℓ ``excess`` (..., k, N) and weights of the samples, both with 1/N.

    With ``spread`` (m,), the variance s_j of dropout's η_j on a_j, the squared loss has (1/2)Σ_j s_j a_j²‖W_j‖² more.
    """

    run: Forward
    loss: OutputLoss
    mean: Array
    excess: Array
    shares: Array  # (..., 1, N)
    spread: Array | None = None

    @property
    def _backend(self) -> Backend:
        return self.run.net.backend

    def of(self, samples: slice) -> Outputs:
        """The same for these samples alone; shares stay as they are, 1/N of all samples."""
        return replace(
            self,
            run=self.run.of(samples),
            mean=self.mean[..., samples],
            excess=self.excess[..., samples],
            shares=self.shares[..., samples],
        )

    @cached_property
    def a(self) -> Array:
        """Columns (..., m, N)."""
        return self.run.inputs[-1]

    @cached_property
    def W(self) -> Array:
        """The last layer without its biases, (..., k, m)."""
        return self.run.layers[-1][..., :-1]

    @cached_property
    def x(self) -> Array:
        return features(self.run, len(self.run.layers) - 1)

    def curve(self, u: Array) -> Array:
        """ℓ''(z_i) times the sample's share, times u (..., k, N)."""
        return self.shares * self.loss.curve(self._backend, self.mean, u)

    @cached_property
    def curvature(self) -> Array:
        """The matrices of ``curve``, (..., N, k, k)."""
        B, k = self._backend, self.excess.shape[-2]
        basis = B.reshape(B.eye(k), (k, *(1,) * (self.excess.ndim - 2), k, 1)) + 0 * self.excess
        return B.moveaxis(B.moveaxis(self.curve(basis), 0, -1), -3, -2)

    @cached_property
    def shrink(self) -> Array:
        """Σ_o W_oj² s_j, (..., m, 1)."""
        B = self._backend
        return (B.sum(self.W * self.W, -2) * self.spread)[..., None]

    def pull(self) -> Array:
        """The cotangent of a, (..., m, N): Wᵀ∇ℓ, and s_j a_j‖W_j‖²."""
        down = transposed(self._backend, self.run.layers[-1], self.excess)
        return down if self.spread is None else down + self.shares * self.shrink * self.a

    def head(self) -> Head:
        """∇²ℓ along (da, dU): ℓ''(W da + dU x) and the two cross terms ∇ℓ·dW da and 2 s_j a_j W_j·dW_j da_j."""
        return Head(self._aa, self._ua, self._uu, self.pull())

    def _aa(self) -> Array:
        B, W = self._backend, self.W[..., None, :, :]
        plain = B.mT(W) @ self.curvature @ W
        return plain if self.spread is None else plain + _diagonal(B, B.mT(self.shares * self.shrink))

    def _ua(self) -> Array:
        B, W = self._backend, self.W[..., None, :, :]
        through = (self.curvature @ W)[..., :, None, :] * self.x[..., None, :, None]  # (..., N, k, m + 1, m)
        own = B.mT(self.excess)[..., :, None]  # moves W_oj only with a_j
        if self.spread is not None:
            own = own + B.mT(2 * self.shares * self.a * self.spread[:, None])[..., None, :] * W
        moved = own[..., :, None, :] * _biased_eye(B, self.a.shape[-2])
        both = through + moved
        return B.reshape(both, (*both.shape[:-3], both.shape[-3] * both.shape[-2], both.shape[-1]))

    def _uu(self) -> Array:
        B = self._backend
        plain = contract(B, self.curvature, self.x, self.x)
        if self.spread is None:
            return plain
        k, m = self.W.shape[-2:]
        square = B.sum(self.shares * self.a * self.a) * self.spread  # (..., m)
        square = B.concat([square, 0 * square[..., :1]])[..., None, :] * B.reshape(1 + B.zeros((k,)), (k, 1))
        return plain + _diagonal(B, B.reshape(square, (*square.shape[:-2], k * (m + 1))))


def _biased_eye(B: Backend, m: int) -> Array:
    """The identity with a row of zeros for the bias, (m + 1, m)."""
    return B.concat([B.eye(m), B.zeros((1, m))], axis=-2)
