"""Lower-level maps: affine, tanh, and the one-dimensional ones that attain the predicted rates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.bounds import MapBounds, Region
from refimpl.errors import BadInput
from refimpl.objective import Map
from refimpl.operators import Operator, matrix
from refimpl.problem import FixedPointProblem
from refimpl.zoo.quadratic import Quadratic, require_terms
from refimpl.zoo.rows import numbers
from refimpl.zoo.terms import Terms
from refimpl.zoo.uppers import linear

TANH_CURVATURE = 4 / (3 * sqrt(3))  # sup |tanh''| = sup 2t(1 − t²), attained at t² = 1/3


@dataclass(frozen=True, eq=False)
class AffineMap(Terms, Map):
    """Φ(λ, w) = (1/N) Σ_k A_k w + B_k λ + c_k: A (N, d, d), in general not symmetric, B (N, d, n), c (N, d).

    Raises ``BadInput``.
    """

    A: Array
    B: Array
    c: Array
    backend: Backend = Backend()

    along: ClassVar[dict[str, int]] = {"c": -2, "A": -3, "B": -3}

    def __post_init__(self) -> None:
        require_terms(A=(self.A, "dd"), B=(self.B, "dn"), c=(self.c, "d"))

    @property
    def n(self) -> int:
        return int(self.B.shape[-1])

    @property
    def d(self) -> int:
        return int(self.c.shape[-1])

    @cached_property
    def mean(self) -> tuple[Array, Array, Array]:
        """The coefficients of the mean."""
        xp = self.backend
        return xp.mean(self.A, -3), xp.mean(self.B, -3), xp.mean(self.c, -2)

    def value(self, lam: Array, w: Array) -> Array:
        xp, (A, B, c) = self.backend, self.mean
        return xp.matvec(A, w) + xp.matvec(B, lam) + c

    def d_w(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, self.mean[0])

    def d_lam(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, self.mean[1])

    def bounds(self, region: Region) -> MapBounds:
        """The Jacobians are constant: q = ‖mean A‖ and ‖mean B‖, all Lipschitz constants 0."""
        A, B, _ = (to_numpy(x) for x in self.mean)
        return MapBounds(d_w=spectral_norm(A), d_lam=spectral_norm(B))


@dataclass(frozen=True, eq=False)
class TanhMap(Map):
    """Φ(λ, w) = tanh(A w + B λ + c), entry by entry: A (d, d), B (d, n), c (d,); a contraction if ‖A‖ < 1."""

    A: Array
    B: Array
    c: Array
    backend: Backend = Backend()

    @property
    def n(self) -> int:
        return int(self.B.shape[-1])

    @property
    def d(self) -> int:
        return int(self.c.shape[-1])

    @property
    def lead(self) -> int:
        return int(self.c.ndim) - 1

    def _inner(self, lam: Array, w: Array) -> Array:
        return self.backend.matvec(self.A, w) + self.backend.matvec(self.B, lam) + self.c

    def _slope(self, u: Array) -> Array:
        """tanh' = 1 − tanh², without cancellation."""
        return 4 * self.backend.sigmoid(2 * u) * self.backend.sigmoid(-2 * u)

    def value(self, lam: Array, w: Array) -> Array:
        return self.backend.tanh(self._inner(lam, w))

    def d_w(self, lam: Array, w: Array) -> Operator:
        return self._scaled(self.A, lam, w)

    def d_lam(self, lam: Array, w: Array) -> Operator:
        return self._scaled(self.B, lam, w)

    def _scaled(self, M: Array, lam: Array, w: Array) -> Operator:
        """diag(tanh'(u)) M."""
        return matrix(self.backend, self._slope(self._inner(lam, w))[..., None] * M)

    def bounds(self, region: Region) -> MapBounds:
        """‖diag(s)M‖ grows with s >= 0, so every constant is such a norm with the largest s on the region.

        u_i stays within reach_i = ‖a_i‖r + ‖b_i‖R of its centre and s_i = tanh'(u_i) is largest nearest 0.
        With T = sup|tanh''| = 4/(3√3), s_i moves by at most T‖a_i‖‖Δw‖ and T‖b_i‖‖Δλ‖.
        """
        host = self.to("numpy")
        A, B = host.A, host.B
        a, b = np.linalg.norm(A, axis=1), np.linalg.norm(B, axis=1)
        nearest = np.abs(host._inner(region.lam, region.w)) - a * region.w_radius - b * region.lam_radius
        s = host._slope(np.maximum(nearest, 0))[:, None]
        by_w, by_lam = TANH_CURVATURE * a[:, None], TANH_CURVATURE * b[:, None]
        return MapBounds(
            d_w=spectral_norm(s * A),
            d_lam=spectral_norm(s * B),
            d_w_by_w=spectral_norm(by_w * A),
            d_w_by_lam=spectral_norm(by_lam * A),
            d_lam_by_w=spectral_norm(by_w * B),
            d_lam_by_lam=spectral_norm(by_lam * B),
        )


@dataclass(frozen=True, eq=False)
class BentLine(Map):
    """Φ(λ, w) = q w + λ (1 + ν w) on R, n = d = 1: ∂_wΦ = q + νλ and ∂_λΦ = 1 + νw are |ν|-Lipschitz."""

    q: Any
    nu: Any
    backend: Backend = Backend()

    n = 1
    d = 1

    def value(self, lam: Array, w: Array) -> Array:
        return self.q * w + lam * (1 + self.nu * w)

    def d_w(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, (self.q + self.nu * lam)[..., None])

    def d_lam(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, (1 + self.nu * w)[..., None])

    def bounds(self, region: Region) -> MapBounds:
        """Both Jacobians are affine: on a ball, |.| <= |value at the centre| + |ν| radius, attained."""
        q, nu = float(to_numpy(self.q)), float(to_numpy(self.nu))
        return MapBounds(
            d_w=abs(q + nu * float(region.lam[0])) + abs(nu) * region.lam_radius,
            d_lam=abs(1 + nu * float(region.w[0])) + abs(nu) * region.w_radius,
            d_w_by_lam=abs(nu),
            d_lam_by_w=abs(nu),
        )


def spectral_norm(M: np.ndarray) -> float:
    """‖M‖₂, 0 for a matrix without entries."""
    return float(np.linalg.norm(M, 2)) if M.size else 0.0


def affine(A: Any, B: Any, c: Any = None) -> AffineMap:
    """Φ = A w + B λ + c from A (d, d), B (d, n) and c (d,), 0 by default. Raises ``BadInput``."""
    A, B, c = _coefficients(A, B, c)
    return AffineMap(A[None], B[None], c[None])


def tanh(A: Any, B: Any, c: Any = None) -> TanhMap:
    """Φ = tanh(A w + B λ + c). Raises ``BadInput``; ‖A‖ is not restricted here, ``bounds`` states it."""
    return TanhMap(*_coefficients(A, B, c))


def line(q: float) -> FixedPointProblem:
    """Φ = q w + λ with E = w: w(λ) = λ/(1 − q), f' = 1/(1 − q); attains most of the predicted rates.

    >>> import refimpl as ri
    >>> float(ri.exact_hypergradient(line(0.5), [3.0]).value[0])
    2.0
    """
    return FixedPointProblem(linear([1.0], n=1), affine([[q]], [[1.0]]), name=f"line (q={q})")


def bent_line(q: float, nu: float) -> FixedPointProblem:
    """Φ = q w + λ(1 + ν w) with E = w, taken near λ = 0: attains the factor t of unrolled differentiation.

    >>> import refimpl as ri
    >>> float(ri.exact_hypergradient(bent_line(0.5, 1.0), [0.0]).value[0])
    2.0
    """
    return FixedPointProblem(
        linear([1.0], n=1), BentLine(float(q), float(nu)), name=f"bent line (q={q}, nu={nu})"
    )


def random(
    *, n: int, d: int, seed: int, q: float = 0.5, kind: str = "affine", terms: int = 1
) -> FixedPointProblem:
    """A random non-symmetric map with ‖A‖ = q (singular values evenly spaced down to q/2) and a quadratic E.

    A contraction where q < 1. ``kind`` "affine" or "tanh"; an affine map may be the mean of ``terms`` maps.

    >>> random(n=2, d=3, seed=0, kind="tanh").phi.d
    3
    """
    if kind not in ("affine", "tanh") or (kind == "tanh" and terms != 1) or not q > 0:
        raise BadInput(
            "no such map",
            measured=f"kind = {kind!r}, terms = {terms}, q = {q}",
            required="'affine', or 'tanh' with one term; q > 0",
            advice="only affine maps are finite sums here",
        )
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    A = (left * np.linspace(q, q / 2, d)) @ right.T
    B, c = rng.standard_normal((d, n)), rng.standard_normal(d)
    upper = Quadratic(
        np.eye(d)[None],
        rng.standard_normal((1, n, d)),
        np.eye(n)[None],
        rng.standard_normal((1, d)),
        rng.standard_normal((1, n)),
    )
    if kind == "tanh":
        phi: Map = TanhMap(A, B, c)
    else:
        phi = AffineMap(*(x + _centred(terms, x.shape, rng) for x in (A, B, c)))
    return FixedPointProblem(
        upper, phi, name=f"{kind} map (n={n}, d={d}, seed={seed})", initial=rng.standard_normal(n)
    )


def _centred(terms: int, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Deviations (terms, *shape) of mean 0."""
    x = rng.standard_normal((terms, *shape))
    return x - x.mean(axis=0)


def _coefficients(A: Any, B: Any, c: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    A = numbers(A, 2, "A")
    B = np.zeros((len(A), 0)) if np.shape(B) == (len(A), 0) else numbers(B, 2, "B")
    c = np.zeros(len(A)) if c is None else numbers(c, 1, "c")
    if A.shape[0] != A.shape[1] or len(B) != len(A) or len(c) != len(A):
        raise BadInput(
            "the coefficients do not fit",
            measured=f"A {A.shape}, B {B.shape}, c {c.shape}",
            required="(d, d), (d, n) and (d,)",
            advice="one row for each entry of w",
        )
    return A, B, c
