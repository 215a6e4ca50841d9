"""One hidden layer with dropout: the exact expected loss and its gradient over all 2ⁿ masks of the hidden units.

    z_b(m) = Σ_j a_j s_j m_j h_bj + c,   h = act(X Wᵀ + b),   P(m_j = 1) = keep_prob_j,   s_j = 1 or 1/keep_prob_j

The output is linear in the mask: everything follows from E ℓ(z_b), E ℓ'(z_b) and E ℓ'(z_b) m_j, (1 + n) numbers per
sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from refimpl import arrays
from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.networks.activations import activation as named
from refimpl.networks.one_hidden import methods
from refimpl.networks.one_hidden.arguments import checked, known, number, per_unit
from refimpl.networks.one_hidden.tables import Moments, Sums, columns
from refimpl.spaces import Bernoulli

Method = Literal["auto", "literal", "split", "nodes", "closed"]


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class ExpectedLoss:
    """E loss and its gradient. kind: "exact" (up to rounding), or "bounded": each entry of ``flat`` within ``bound``.

    The bound is on what the enumeration adds; the rounding of h and of the chain rule is the same for every method.
    """

    value: Array  # ()
    dW: Array  # (n, d)
    db: Array  # (n,)
    da: Array  # (n,)
    dc: Array  # ()
    kind: Literal["exact", "bounded"]
    bound: Array | None  # as flat
    method: str

    @property
    def flat(self) -> Array:
        """[value, dW by rows, db, da, dc]: (2 + n d + 2 n,), on the host."""
        parts = (self.value, self.dW, self.db, self.da, self.dc)
        return np.concatenate([to_numpy(part).ravel() for part in parts])


def expected_one_hidden(
    X: Any,
    y: Any,
    W: Any,
    b: Any,
    a: Any,
    c: float | Fraction,
    *,
    keep_prob: float | Fraction | Sequence[float | Fraction],
    loss: Literal["squared", "logistic"],
    scale: Literal["none", "inverse"] = "none",
    activation: str = "tanh",
    method: Method = "auto",
    backend: str | Backend = "numpy",
    executor: Executor | None = None,
    max_masks: int = 2**26,
) -> ExpectedLoss:
    """E over all masks of mean_b ℓ(z_b): value and gradient. X (B, d), y (B,), W (n, d), b (n,), a (n,), c a number.

    loss: "squared" (z − y)²/2, "logistic" log(1 + exp(−y z)) with y = ±1. Units with keep_prob 0 or 1
    are not enumerated.
    method:
    - "literal": a row of bits per mask, n B 2ⁿ products: the judge; on every backend;
    - "split": every mask, at O(1) each (``halves``); NumPy only;
    - "nodes": logistic loss, to rounding, in O(2^(n/2)) (``nodes``); NumPy only;
    - "closed": squared loss, from the mean and variance of z, O(n); on every backend;
    - "auto": closed for the squared loss, else split or, above 14 units, nodes; literal on other backends than NumPy.
    Over the rationals "literal" and "closed" round nothing, and take Fractions (lists, keep_prob, c) as they are: for
    the squared loss of linear, relu and leaky_relu units; other losses and units are refused there.
    ``executor`` shares the blocks of "literal" and "split": the result is bitwise the same.

    >>> one = expected_one_hidden([[1.0]], [0.0], [[1.0]], [0.0], [2.0], 0.0, keep_prob=0.25,
    ...     loss="squared", activation="linear")
    >>> float(one.value), one.method  # E (2m)²/2 = 4 · 0.25 / 2
    (0.5, 'closed')
    """
    B = arrays.backend(backend)
    known("loss", loss, ("squared", "logistic"))
    known("scale", scale, ("none", "inverse"))
    known("method", method, ("auto", *methods.NAMES))
    X, y, W, b, a = checked(B, X, y, W, b, a, loss)
    c = number(B, c, "c")
    n = W.shape[0]
    space = Bernoulli(per_unit(keep_prob, n), groups=tuple(range(n)))
    keep = space.of_coordinates(scale)
    act = named(activation)
    inner = B.matvec(W, X) + b
    h = act.value(B, inner)
    layer = _Layer(
        X,
        h,
        act.first(B, inner, h),
        a,
        B.asarray([B.scalar(1 / p) if scale == "inverse" else B.scalar(1) for p in keep]),
        B,
    )
    sums = Sums(
        columns(B, layer.terms, list(space.free)),
        c + B.sum(columns(B, layer.terms, [j for j in range(n) if keep[j] == 1]), axis=-1),
        _as_held(B, [keep[j] for j in space.free]),
        y,
        loss,
        B,
    )
    used = methods.chosen(method, sums, max_masks)
    found, errors = methods.moments(used, sums, executor)
    value, dW, db, da, dc = layer.gradient(_all_units(found, keep, B))
    bound = None
    if errors is not None:
        bound = np.concatenate(
            [np.ravel(part) for part in layer.absolute.gradient(_all_units(errors, keep, B))]
        )
    return ExpectedLoss(value, dW, db, da, dc, "exact" if bound is None else "bounded", bound, used)


def _as_held(B: Backend, keep: list[Fraction]) -> np.ndarray:
    """Keep probabilities on the host: Fractions where the backend's numbers take them exactly, else floats."""
    exact = B.exact or not B.ordered
    return np.array(keep if exact else [float(p) for p in keep], dtype=object if exact else np.float64)


@dataclass(frozen=True, eq=False)
class _Layer:
    """What the chain rule needs: h and act' (B, n), a and s (n,)."""

    X: Array
    h: Array
    slope: Array
    a: Array
    s: Array
    backend: Backend

    @property
    def terms(self) -> Array:
        return self.a * self.s * self.h

    @property
    def absolute(self) -> _Layer:
        """The same chain rule for bounds on errors."""
        return replace(self, X=abs(self.X), h=abs(self.h), slope=abs(self.slope), a=abs(self.a))

    def gradient(self, m: Moments) -> tuple[Array, ...]:
        """∂/∂a_j = mean_b E ℓ' m_j s_j h_bj, ∂/∂(W X + b)_bj = E ℓ' m_j s_j a_j act'_bj / B."""
        B, batch = self.backend, self.X.shape[0]
        of_units = m.joint * self.s / batch
        inner = of_units * self.a * self.slope
        return (
            m.loss / batch,
            B.mT(inner) @ self.X,
            B.sum(inner, axis=0),
            B.sum(of_units * self.h, axis=0),
            B.sum(m.slope, axis=0) / batch,
        )


def _all_units(m: Moments, keep: list[Fraction], B: Backend) -> Moments:
    """The moments with the units that are always kept (m_j = 1) and never (m_j = 0) in their places."""
    order = [j for j, p in enumerate(keep) if 0 < p < 1]
    fixed = [j for j, p in enumerate(keep) if not 0 < p < 1]
    if not fixed:
        return m
    constant = m.slope[:, None] * B.asarray([float(keep[j]) for j in fixed])
    back = np.argsort(order + fixed).tolist()
    return replace(m, joint=columns(B, B.concat([m.joint, constant], axis=-1), back))
