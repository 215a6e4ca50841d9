"""Mean losses over the rows of a data set, and a weight penalty whose strength is λ."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.bounds import Bounds, Region
from refimpl.errors import BadInput
from refimpl.objective import Around, Objective
from refimpl.operators import Operator
from refimpl.zoo.terms import OverRows, unchecked


@dataclass(frozen=True, eq=False)
class LinearModelLoss(OverRows, Objective):
    """f(λ, w) = (1/N) Σ_i ℓ(x_i·w, y_i), ℓ convex in the score z = x_i·w: X (N, d), y (N,).

    λ does not enter; ``n`` is its length, which only the shapes of the derivatives see, and 0 is legal.
    ℓ'' is largest at the score ``peak()``, symmetric about it, and does not increase away from it.
    ``third`` = sup |ℓ'''|.
    """

    X: Array
    y: Array
    n: int
    backend: Backend = Backend()

    third: ClassVar[float]

    @property
    def d(self) -> int:
        return int(self.X.shape[-1])

    def through(self) -> Array:
        return self.X

    def grad_lam(self, lam: Array, w: Array) -> Array:
        lead = np.broadcast_shapes(lam.shape[:-1], w.shape[:-1], self.leading)
        return self.backend.zeros((*lead, self.n))

    def cross(self, lam: Array, w: Array) -> Operator:
        return zero_cross(self)

    @abstractmethod
    def loss(self, z: Array) -> Array:
        """ℓ at the scores z (..., N)."""

    @abstractmethod
    def slope(self, z: Array) -> Array:
        """ℓ' = ∂ℓ/∂z."""

    @abstractmethod
    def curvature(self, z: Array) -> Array:
        """ℓ'' = ∂²ℓ/∂z²."""

    @abstractmethod
    def peak(self) -> Array:
        """The scores at which ℓ'' is largest, (N,)."""

    def value(self, lam: Array, w: Array) -> Array:
        return self.backend.mean(self.loss(self.backend.matvec(self.X, w)))

    def grad_w(self, lam: Array, w: Array) -> Array:
        B, X, N = self.backend, self.X, self.X.shape[-2]
        total = B.rmatvec(X, self.slope(B.matvec(X, w)))
        return total if N == 1 else total / N  # batches of one: one pass over the replicates less

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        B, X, N = self.backend, self.X, self.X.shape[-2]
        h = self.curvature(B.matvec(X, w))

        def apply(v: Array) -> Array:
            return B.rmatvec(X, h * B.matvec(X, v)) / N

        def assemble() -> Array:
            return B.mT(X) @ (h[..., None] * X) / N

        lead = max(w.ndim - 1, self.lead)
        return Operator(B, (self.d, self.d), apply, apply, lead, assemble, symmetric=True)

    def curvature_bounds(self, region: Region) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and largest ℓ''_i on the region, (N,) each.

        Score i stays within ‖x_i‖ r of its centre; ℓ'' is smallest at the end further from its peak.
        """
        host = self.to("numpy")
        first, last = self._scores(region)
        peak = host.peak()
        near, far = np.clip(peak, first, last), np.where(peak - first > last - peak, first, last)
        return host.curvature(far), host.curvature(near)

    def slope_bounds(self, region: Region) -> np.ndarray:
        """The largest |ℓ'_i| on the region, (N,): at an end of the scores' range, as ℓ' is monotone."""
        host = self.to("numpy")
        return np.max([np.abs(host.slope(z)) for z in self._scores(region)], axis=0)

    def loss_bounds(self, region: Region) -> np.ndarray:
        """The largest ℓ_i on the region, (N,): at an end of the scores' range, as ℓ is convex."""
        first, last = (self.to("numpy").loss(z) for z in self._scores(region))
        return np.maximum(first, last)

    def hess_between(self, region: Region) -> tuple[np.ndarray, np.ndarray]:
        """Matrices with low <= ∇²_ww f <= high (Loewner) on the region: XᵀDX/N grows with the diagonal D."""
        X, _ = self.host_rows()
        low, high = self.curvature_bounds(region)
        return X.T @ (low[:, None] * X) / len(X), X.T @ (high[:, None] * X) / len(X)

    def _scores(self, region: Region) -> tuple[np.ndarray, np.ndarray]:
        X, norms = self.host_rows()
        middle, reach = X @ region.w, norms * region.w_radius
        return middle - reach, middle + reach

    def bounds(self, region: Region) -> Bounds:
        """Eigenvalues of ``hess_between``; ‖∇²f(w) − ∇²f(w')‖ <= λ_max(Σ_i third ‖x_i‖ x_i x_iᵀ/N) ‖w − w'‖.

        ‖∇_w f‖ <= its value at the centre + sup‖∇²f‖ r. And |ℓ'_i| <= m_i,
        so ‖Xᵀℓ'‖/N <= Σ m_i‖x_i‖/N and <= ‖X‖‖m‖/N. The smallest of the three.
        """
        host, (X, norms) = self.to("numpy"), self.host_rows()
        low, high = self.hess_between(region)
        hess_ww = float(np.linalg.eigvalsh(high)[-1])
        centre = float(np.linalg.norm(host.grad_w(np.zeros(self.n), region.w)))
        m = self.slope_bounds(region)
        third = self.third * X.T @ (norms[:, None] * X) / len(X)
        return Bounds(
            grad_w=min(
                centre + hess_ww * region.w_radius,
                float(m @ norms) / len(X),
                float(np.linalg.norm(X, 2) * np.linalg.norm(m)) / len(X),
            ),
            hess_ww=hess_ww,
            hess_ww_min=max(float(np.linalg.eigvalsh(low)[0]), 0.0),
            cross=0.0,
            hess_ll=0.0,
            hess_ww_by_w=float(np.linalg.eigvalsh(third)[-1]),
        )


@dataclass(frozen=True, eq=False)
class Penalised(Around):
    """f(λ, w) = data(w) + ½ Σ_j π_j w_j², with π = λ, or π = exp(λ) where ``log``.

    λ has one entry for all weights (n = 1) or one for each (n = d). π = λ is polynomial, and needs λ > 0.
    """

    data: LinearModelLoss
    log: bool
    backend: Backend = Backend()

    def __post_init__(self) -> None:
        if self.n not in (1, self.d):
            raise BadInput(
                "the penalty has the wrong number of strengths",
                measured=f"n = {self.n} for {self.d} weights",
                required=f"1 or {self.d}",
                advice="use one strength, or one for each weight",
            )

    @property
    def f(self) -> LinearModelLoss:
        return self.data

    def batch(self, sample: Any) -> Penalised:
        """Some terms of the data's mean; the penalty stays whole."""
        some: Penalised = unchecked(self, {"data": self.data.batch(sample)})
        return some

    def strength(self, lam: Array) -> Array:
        """π(λ), (..., n)."""
        return self.backend.exp(lam) if self.log else lam

    def _slope(self, lam: Array) -> Array:
        """dπ/dλ, entry by entry; also d²π/dλ² where ``log`` (it is 0 otherwise)."""
        return self.backend.exp(lam) if self.log else 1 + 0 * lam

    def _gather(self, x: Array) -> Array:
        """(..., d) -> (..., n): the sum over the weights that share a strength, with the data's axes."""
        return spread(self, x if self.n == self.d else self.backend.sum(x[..., None, :]))

    def value(self, lam: Array, w: Array) -> Array:
        return self.data.value(lam, w) + self.backend.sum(self.strength(lam) * w * w) / 2

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return self._gather(self._slope(lam) * w * w) / 2

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self.data.grad_w(lam, w) + self.strength(lam) * w

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        B, d, strength = self.backend, self.d, self.strength(lam)

        def apply(v: Array) -> Array:
            return strength * v

        def assemble() -> Array:
            return B.eye(d) * strength[..., None, :]

        penalty = Operator(B, (d, d), apply, apply, lam.ndim - 1, assemble, symmetric=True)
        return self.data.hess_ww(lam, w) + penalty

    def cross(self, lam: Array, w: Array) -> Operator:
        sw = self._slope(lam) * w  # entry j of w moves π_j w_j²/2 by π_j w_j

        def apply(v: Array) -> Array:
            return self._gather(sw * v)

        def apply_T(u: Array) -> Array:
            return spread(self, sw * u)

        return Operator(self.backend, (self.n, self.d), apply, apply_T, self.lead_of(lam, w))

    def bounds(self, region: Region) -> Bounds:
        """The data's Loewner bounds plus diag(π) at the smallest and largest λ of the ball.

        With s_j = sup dπ_j/dλ and m_j = sup|w_j| (‖w‖ for a shared strength): ∇²_λw has entries s_j w_j and
        moves by s_j‖Δw‖, diag(π) by s_j‖Δλ‖. Where π = exp(λ), d²π = dπ = π: ∇²_λw moves by s_j m_j‖Δλ‖ too
        and ∇²_λλ has entries π_j w_j²/2. ‖∇_w f‖ <= its value at the centre + sup‖∇²_ww‖ r + sup‖∇²_λw‖ R,
        and <= the data's bound + sup|π| sup‖w‖.
        """
        host, data, r, R = self.to("numpy"), self.data.bounds(region), region.w_radius, region.lam_radius
        low, high = self.data.hess_between(region)
        strongest = np.broadcast_to(host.strength(region.lam + R), (self.d,))
        weakest = np.broadcast_to(host.strength(region.lam - R), (self.d,))
        smallest = float(np.linalg.eigvalsh(low + np.diag(weakest))[0])
        hess_ww = max(float(np.linalg.eigvalsh(high + np.diag(strongest))[-1]), -smallest)
        s = host._slope(region.lam + R)
        m = (np.abs(region.w) if self.n == self.d else np.linalg.norm(region.w)) + r
        cross = float(np.max(s * m))
        centre = float(np.linalg.norm(host.grad_w(region.lam, region.w)))
        by_parts = data.grad_w + float(np.abs([weakest, strongest]).max()) * (np.linalg.norm(region.w) + r)
        return Bounds(
            grad_w=min(centre + hess_ww * r + cross * R, float(by_parts)),
            hess_ww=hess_ww,
            hess_ww_min=smallest,
            cross=cross,
            hess_ll=float(np.max(s * m * m)) / 2 if self.log else 0.0,
            hess_ww_by_w=data.hess_ww_by_w,
            hess_ww_by_lam=float(np.max(s)),
            cross_by_w=float(np.max(s)),
            cross_by_lam=cross if self.log else 0.0,
        )


def spread(f: Objective, x: Array) -> Array:
    """x (..., k) with the leading axes of f's data, which a term without data lacks."""
    return x + f.backend.zeros((*f.leading, 1)) if f.leading else x


def zero_cross(f: Objective) -> Operator:
    """∇²_λw of an objective in which λ and w do not meet."""
    B, n, d = f.backend, f.n, f.d
    return Operator(
        B,
        (n, d),
        lambda v: spread(f, B.zeros((*v.shape[:-1], n))),
        lambda u: spread(f, B.zeros((*u.shape[:-1], d))),
        f.lead,
        lambda: B.zeros((*f.leading, n, d)),
    )


def numbers(x: Any, ndim: int, name: str) -> np.ndarray:
    """A float64 copy of real, finite host data with ``ndim`` axes, none of them empty; else ``BadInput``."""
    x = np.asarray(x)
    what = f"array of dtype {x.dtype} and shape {x.shape}"
    if x.dtype.kind not in "iuf" or x.ndim != ndim:
        raise BadInput(
            f"{name} is not a real array with {ndim} axes",
            measured=what,
            required=f"integers or floats with {ndim} axes",
            advice="rows are samples, columns are features; labels and targets are vectors",
        )
    if x.size == 0:
        raise BadInput(
            f"{name} is empty",
            measured=what,
            required="at least one row and one column",
            advice="check how the data were split",
        )
    if bad := int(x.size - np.isfinite(x).sum()):
        raise BadInput(
            f"{name} is not finite",
            measured=f"{bad} NaN or infinite entries",
            required="finite numbers",
            advice="drop or impute the samples concerned",
        )
    return np.array(x, dtype=np.float64)


def samples(X: Any, y: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """X (N, features) and y (N,), checked to belong together."""
    X, y = numbers(X, 2, f"X of the {name} data"), numbers(y, 1, f"y of the {name} data")
    if len(X) != len(y):
        raise BadInput(
            f"X and y of the {name} data do not fit",
            measured=f"{len(X)} rows, {len(y)} targets",
            required="one target for each row",
            advice="pass the same selection of both",
        )
    return X, y


def require_same_features(X: np.ndarray, X_val: np.ndarray) -> None:
    """Both levels must share the weights."""
    if X.shape[1] != X_val.shape[1]:
        raise BadInput(
            "training and validation data have different features",
            measured=f"{X.shape[1]} and {X_val.shape[1]} columns",
            required="the same columns",
            advice="apply the same preprocessing to both",
        )


def design(rows: int, spectrum: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """X (rows, d) such that XᵀX/rows has these eigenvalues (to rounding) in a random orthonormal basis."""
    d = len(spectrum)
    if rows < d or min(spectrum) < 0:
        raise BadInput(
            "no design has this spectrum",
            measured=f"{rows} rows, {d} eigenvalues, the smallest {min(spectrum)}",
            required="rows >= d, eigenvalues >= 0",
            advice="ask for more rows",
        )
    left = np.linalg.qr(rng.standard_normal((rows, d)))[0]
    right = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return np.sqrt(rows) * (left * np.sqrt(np.asarray(spectrum))) @ right.T
