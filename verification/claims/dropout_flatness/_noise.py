"""Noise of dropout gradients, written out: every mask in a loop, closed forms as sums, and what compares two
matrices.

Notation as in :mod:`verification.printed.flatness`: of a sample, ε, f_j = f^j, g₀ = ∇f, g_j = ∇f^j, s_j; and q = Σ
s_j f_j g_j, F = Σ f_j². Under a mask ε_η = ε + Σ η_j f_j, ∇f_η = g₀ + Σ η_j g_j, and the gradient of the loss is g
= ε_η ∇f_η.
"""

from __future__ import annotations

import itertools as it
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import curvature
from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.curvature.noise import Draw
from refimpl.networks import NetworkLoss
from verification.claims.dropout_flatness import _planted
from verification.claims.dropout_flatness._planted import PARTS, RATIONAL, Point
from verification.model import Hypothesis, Measurement
from verification.printed import flatness as printed

DRAWS: tuple[Draw, ...] = ("one sample", "own masks", "shared mask")


@dataclass(frozen=True, eq=False)
class Noise:
    """A point with everything that the claims on Σ compare."""

    at: Point

    @property
    def backend(self) -> Backend:
        return self.at.backend

    # -- every mask ------------------------------------------------------------------------------------------
    @cached_property
    def masked(self) -> tuple[Array, Array, Array]:
        """Of the 2^m masks: P(η) (K,), ε_η (K, n), ∇f_η (K, n, P)."""
        B, n = self.backend, self.at.n
        chances, loss = self.at.each_mask()
        assert isinstance(loss, NetworkLoss)
        mask = loss.mask
        assert mask is not None
        run = self.at.net.forward(self.at.theta, B.mT(self.at.X), mask[:, None])
        each = B.broadcast(B.reshape(B.eye(n), (n, 1, n)), (len(chances), n, 1, n))
        return chances, run.output[:, 0, 0] - self.at.y, run.pull(each)

    @cached_property
    def means(self) -> Array:
        """E_η g of every sample, (n, P)."""
        chances, errors, slopes = self.masked
        return self.backend.sum((chances[:, None] * errors)[..., None] * slopes, 0)

    @cached_property
    def seconds(self) -> Array:
        """E_η ggᵀ of every sample, (n, P, P)."""
        return self.mean_of(lambda errors: errors**2)

    def mean_of(self, of: Callable[[Array], Array]) -> Array:
        """E_η of(ε_η) ∇f_η∇f_ηᵀ of every sample, (n, P, P)."""
        chances, errors, slopes = self.masked
        weighted = (chances[:, None] * of(errors))[..., None] * slopes
        return np.einsum("kip,kiq->ipq", weighted, slopes, optimize=False)

    @cached_property
    def second(self) -> Array:
        """(1/n) Σ_i E_η ggᵀ."""
        return average(self.seconds)

    @cached_property
    def gauss_newton(self) -> Array:
        """(1/n) Σ_i E_η ∇f_η∇f_ηᵀ: H as theorem 1 prints it, mask by mask."""
        return average(self.mean_of(lambda errors: 1 + 0 * errors))

    @cached_property
    def errors_squared(self) -> tuple[Any, Any]:
        """The least and the largest ε_η² of all masks that occur, and of all samples."""
        chances, errors, _ = self.masked
        squares = (errors**2)[[i for i, p in enumerate(chances) if p != 0]]
        return squares.min(), squares.max()

    def literal(self, draw: Draw) -> Array:
        """The covariance of the random gradient, by enumeration of masks."""
        n = self.at.n
        if draw == "shared mask":
            chances, errors, slopes = self.masked
            batch = self.backend.sum(errors[..., None] * slopes, 1) / n
            mean = self.backend.sum(chances[:, None] * batch, 0)
            return (batch * chances[:, None]).T @ batch - outer(mean)
        if draw == "one sample":
            return self.second - outer(average(self.means))
        return average(self.seconds - outer(self.means)) / n

    # -- the library's and the document's ---------------------------------------------------------------------
    def exact(self, draw: Draw) -> Array:
        """The same by the library's closed forms."""
        return curvature.noise(self.at.dropout, self.at.theta, draw=draw)

    @cached_property
    def printed(self) -> Array:
        """Σ as theorem 2 prints it."""
        return printed.covariance(self.at.loss, self.at.theta, self.at.keep)

    # -- sums over units --------------------------------------------------------------------------------------
    @cached_property
    def samples(self) -> list[Sample]:
        t = self.at.terms
        return [
            Sample(t.errors[i], t.parts[:, i], t.whole[i], t.of_parts[:, i], self.at.spread)
            for i in range(self.at.n)
        ]

    def sum(self, of: Callable[[Sample], Array]) -> Array:
        """(1/n) Σ_i of(sample)."""
        return average(np.stack([of(sample) for sample in self.samples]))

    def kept(self, p: Fraction) -> Noise:
        """The same point with keep probability p."""
        return Noise(replace(self.at, keep=(p,) * self.at.m))


@dataclass(frozen=True, eq=False)
class Sample:
    """ε, f_j (m,), g₀ (P,), g_j (m, P), s_j (m,) of one sample."""

    e: Any
    f: Array
    g0: Array
    g: Array
    s: Array

    @property
    def m(self) -> int:
        return len(self.f)

    @property
    def a(self) -> Any:
        """E ε_η² = ε² + Σ s_j f_j²."""
        return self.e**2 + self.s @ (self.f * self.f)

    @property
    def q(self) -> Array:
        """Σ s_j f_j g_j."""
        return (self.s * self.f) @ self.g

    @property
    def M(self) -> Array:
        """E ∇f_η∇f_ηᵀ = g₀g₀ᵀ + Σ s_j g_jg_jᵀ."""
        return outer(self.g0) + (self.s[:, None] * self.g).T @ self.g

    def singles(self, step: Any) -> Array:
        """f_j g₀ + ε g_j + step_j f_j g_j, (m, P): c_j where step = s − 1."""
        return self.f[:, None] * self.g0 + (self.e + step * self.f)[:, None] * self.g

    def pairs(self) -> list[tuple[Any, Array]]:
        """(s_j s_l, N_jl = f_j g_l + f_l g_j) for j < l."""
        return [
            (self.s[j] * self.s[l], self.f[j] * self.g[l] + self.f[l] * self.g[j])
            for j, l in it.combinations(range(self.m), 2)  # noqa: E741  # a pair of units
        ]

    def of_pairs(self) -> Array:
        """Σ_{j<l} s_j s_l N_jl N_jlᵀ."""
        return sum((weight * outer(N) for weight, N in self.pairs()), 0 * outer(self.g0))

    def covariance(self) -> Array:
        """Σ s_j c_jc_jᵀ + Σ_{j<l} s_js_l N_jlN_jlᵀ."""
        return weighted(self.s, self.singles(self.s - 1)) + self.of_pairs()


def equal_weights(x: Sample) -> Array:
    """a_i M_i: b_i = a_i for both sums."""
    return x.a * x.M


def outer(x: Array) -> Array:
    """x xᵀ, over the last axis."""
    return x[..., :, None] * x[..., None, :]


def both(x: Array, y: Array) -> Array:
    """x yᵀ + y xᵀ."""
    return np.outer(x, y) + np.outer(y, x)


def weighted(weights: Array, rows: Array) -> Array:
    """Σ_j weights_j rows_j rows_jᵀ."""
    return (weights[:, None] * rows).T @ rows


def average(x: Array) -> Array:
    """Over the first axis; exact where x is."""
    return x.sum(axis=0) / len(x)


def size(x: Array) -> float:
    """Frobenius norm in floats."""
    return float(np.linalg.norm(to_numpy(x)))


# -- comparing symmetric matrices -------------------------------------------------------------------------------

GRID = 2**20
ROUNDS = 12


def worst_direction(small: Array, large: Array) -> Array:
    """A v that makes vᵀ large v / vᵀ small v small, vᵀ small v > 0: whole numbers, found in floats (Dinkelbach).

    Only where to look is decided in floats: what is then compared is exact, whatever v.
    """
    A, B = to_numpy(small), to_numpy(large)
    scale = max(np.abs(A).max(), np.abs(B).max(), 1e-300)
    A, B = A / scale, B / scale
    v, share = np.linalg.eigh(A)[1][:, -1], np.inf
    found = v
    for _ in range(ROUNDS):
        left, right = v @ A @ v, v @ B @ v
        if left <= 0:
            found = v if right < left else found  # the statement fails there, whatever the share
            break
        if right / left >= share:
            break
        found, share = v, right / left
        v = np.linalg.eigh(B - share * A)[1][:, 0]
    v = found
    whole = np.rint(GRID * v / np.abs(v).max())
    return np.array([int(x) for x in whole], dtype=object)


def below(small: Array, large: Array, **detail: Any) -> Measurement:
    """small ⪯ large for rational matrices: vᵀ small v <= vᵀ large v in the worst direction found."""
    v = worst_direction(small, large)
    v = RATIONAL.asarray([RATIONAL.scalar(x) for x in v])
    return Measurement(observed=v @ small @ v, bound=v @ large @ v, detail=detail)


def of_point(hypothesis: Hypothesis) -> Hypothesis:
    """The same about the point of a :class:`Noise`."""
    return Hypothesis(hypothesis.name, hypothesis.tex, lambda of: hypothesis.predicate(of.at))


STATIONARY, AWAY = of_point(_planted.STATIONARY), of_point(_planted.AWAY)

# -- building ---------------------------------------------------------------------------------------------------


def build(params: Mapping[str, Any]) -> Noise:
    """See :func:`._planted.build`; ``p`` ("1/3" or [1, 3]) overrides the keep probabilities, for all units."""
    at = _planted.build({"keep": [4], **params})
    return Noise(at).kept(Fraction(params["p"])) if "p" in params else Noise(at)


def build_float(params: Mapping[str, Any]) -> Noise:
    """The same in floats."""
    return Noise(_planted.build_float(params))


WIDTHS = ([1, 1, 1], [2, 1, 1], [1, 2, 1], [2, 2, 1], [1, 2, 1, 1], [2, 1, 2, 1], [1, 2, 2, 1], [2, 2, 2, 1])


def keeps(most: int = PARTS) -> Any:
    """Strategy over two keep probabilities in eighths, used in turn."""
    return st.tuples(st.integers(1, most), st.integers(1, most)).map(list)


def points(n: tuple[int, int] = (1, 3), *, least: int = 1, keep: Any = None, **more: Any) -> Any:
    """Strategy over random points, ``least`` units or more in the last hidden layer.

    A fixed number of choices, not lists: the hunt climbs through those much faster.
    """
    boxes = {
        "widths": st.sampled_from([widths for widths in WIDTHS if widths[-2] >= least]),
        "activation": st.sampled_from(["linear", "leaky_relu", "relu"]),
        "n": st.integers(*n),
        "seed": st.integers(0, 999),
        "keep": keeps() if keep is None else keep,
    }
    return st.fixed_dictionaries({**boxes, **more})
