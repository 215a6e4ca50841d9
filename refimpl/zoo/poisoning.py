"""Data poisoning (contraction, (25)): noise Γ on some training samples that makes the trained model bad.

lower G(Γ, W) = (1/N) Σ_i CE(y_i, W(x_i + Γ_i)) + (reg/2)‖W‖²; upper F(W) = −(1/N') Σ_i CE(y'_i, W x'_i): the attacker
minimises the negative validation loss. λ = Γ has one row for each poisoned sample; the others have Γ_i = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.bounds import Bounds, Region
from refimpl.datasets import load_digits
from refimpl.errors import BadInput
from refimpl.objective import Objective
from refimpl.operators import Operator
from refimpl.problem import BilevelProblem
from refimpl.sets import Ball, Rows
from refimpl.zoo.rows import require_same_features, samples
from refimpl.zoo.softmax import THIRD, SoftmaxLoss, one_hot
from refimpl.zoo.terms import OverRows
from refimpl.zoo.uppers import Scaled


@dataclass(frozen=True, eq=False)
class PoisonedSoftmax(OverRows, Objective):
    """G(Γ, w): X (..., N, features), y (..., classes, N) one-hot, pick (..., N, poisoned) rows of 0 with at most one 1.

    Sample i is x_i + Σ_j pick_ij Γ_j. At a given Γ it is a ``SoftmaxLoss``, whose formulas in w these are.
    """

    X: Array
    y: Array
    pick: Array
    reg: Any
    backend: Backend = Backend()

    along: ClassVar[dict[str, int]] = {"X": -2, "y": -1, "pick": -2}

    @property
    def poisoned(self) -> int:
        return int(self.pick.shape[-1])

    @property
    def features(self) -> int:
        return int(self.X.shape[-1])

    @property
    def n(self) -> int:
        return self.poisoned * self.features

    @cached_property
    def d(self) -> int:
        return int(self.y.shape[-2]) * self.features

    def at_noise(self, lam: Array) -> SoftmaxLoss:
        """The loss on the poisoned data."""
        return SoftmaxLoss(self.X + self.pick @ self._noise(lam), self.y, self.reg, self.n, self.backend)

    def _noise(self, lam: Array) -> Array:
        return self.backend.reshape(lam, (*lam.shape[:-1], self.poisoned, self.features))

    def _to_lam(self, rows: Array) -> Array:
        """The sum of the samples' rows (..., N, features) over what each of them belongs to, flat."""
        own = self.backend.mT(self.pick) @ rows
        return self.backend.reshape(own, (*own.shape[:-2], self.n))

    def _weights(self, w: Array) -> Array:
        return self.backend.reshape(w, (*w.shape[:-1], -1, self.features))

    def value(self, lam: Array, w: Array) -> Array:
        return self.at_noise(lam).value(lam, w)

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self.at_noise(lam).grad_w(lam, w)

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        return self.at_noise(lam).hess_ww(lam, w)

    def grad_lam(self, lam: Array, w: Array) -> Array:
        """Row i: Wᵀ(p_i − y_i)/N."""
        G = self.at_noise(lam).excess(w) / self.X.shape[-2]
        return self._to_lam(self.backend.mT(G) @ self._weights(w))

    def cross(self, lam: Array, w: Array) -> Operator:
        """Along V: row i is (Vᵀ(p_i − y_i) + Wᵀ(diag p_i − p_i p_iᵀ) V x̃_i)/N."""
        B, loss, N, W = self.backend, self.at_noise(lam), self.X.shape[-2], self._weights(w)
        G, p, X = loss.excess(w), loss.excess(w) + self.y, loss.X

        def curved(z: Array) -> Array:
            """(diag p_i − p_i p_iᵀ) z_i in columns."""
            pz = p * z
            return pz - p * B.sum(pz, -2)[..., None, :]

        def apply(v: Array) -> Array:
            V = self._weights(v)
            turned = curved(V @ B.mT(X))
            return self._to_lam((B.mT(G) @ V + B.mT(turned) @ W) / N)

        def apply_T(u: Array) -> Array:
            U = self.pick @ self._noise(u)
            rows = (curved(W @ B.mT(U)) @ X + G @ U) / N
            return B.reshape(rows, (*rows.shape[:-2], self.d))

        return Operator(B, (self.n, self.d), apply, apply_T, self.lead_of(lam, w))

    def bounds(self, region: Region) -> Bounds:
        """With x̃_i = x_i + Γ_i, b_i >= ‖x̃_i‖, X̃ and X̃_I (the poisoned rows) grown by the radius, ω = ‖W‖ + w_radius.

        ‖p − y‖ <= √2, S_i = diag p − ppᵀ <= I/2, |D³ℓ[a, b, b]| <= THIRD ‖a‖‖b‖² as in ``SoftmaxLoss``. With rows δ_i
        of the noise's direction Δ, ∂_Γ∇_W = (1/N) Σ_i (p_i − y_i)δ_iᵀ + S_i W δ_i x̃_iᵀ; both parts are products of
        matrices, ‖EᵀΔ‖ <= √(2|I|)‖Δ‖ and ‖(SWΔᵀ)X̃_I‖ <= (ω/2)‖X̃_I‖‖Δ‖. ∂_Γ∇²_WW[V, V] is (1/N) Σ_i 2(Vδ_i)ᵀS_i(Vx̃_i)
        + D³ℓ_i[Wδ_i, Vx̃_i, Vx̃_i] <= (1/N)(‖X̃_I‖ + THIRD ω‖X̃_I‖²)‖V‖²‖Δ‖, symmetric in its two V, hence also the
        bound of ∂_W∇²_ΓW (Banach 1938). In Γ all is diagonal in i.
        """
        if self.lead:
            raise BadInput(
                "constants are stated for one data set",
                measured=f"data with leading axes {self.leading}",
                required="no leading axes",
                advice="call bounds before at(...), or for one sample at a time",
            )
        host, N, R, r = self.to("numpy"), int(self.X.shape[-2]), region.lam_radius, region.w_radius
        lam, w = np.asarray(region.lam, dtype=float), np.asarray(region.w, dtype=float)
        X, which = host.at_noise(lam).X, host.pick.sum(axis=1)
        most = float(host.pick.sum(axis=0).max())  # a minibatch may hold a sample twice, whose noise is one
        lengths, grown = np.linalg.norm(X, axis=1), most**0.5 * R
        whole = float(np.linalg.norm(X, 2)) + grown
        own = float(np.linalg.norm(X * which[:, None], 2)) + grown
        omega, reg = float(np.linalg.norm(w)) + r, float(to_numpy(self.reg))
        hess_ww = reg + whole**2 / (2 * N)
        cross = most**0.5 * ((2 * float(which.sum())) ** 0.5 + omega * own / 2) / N
        by_both = most**0.5 * (own + THIRD * omega * own**2) / N
        return Bounds(
            grad_w=float(np.linalg.norm(host.grad_w(lam, w))) + hess_ww * r + cross * R,
            hess_ww=hess_ww,
            hess_ww_min=reg,
            cross=cross,
            hess_ll=most * omega**2 / (2 * N),
            hess_ww_by_w=THIRD * float((lengths + R * which).max()) * whole**2 / N,
            hess_ww_by_lam=by_both,
            cross_by_w=by_both,
            cross_by_lam=most * (omega + THIRD * omega**2 * float((which * (lengths + R)).max())) / N,
        )


def problem(
    X: Any,
    y: Any,
    X_val: Any,
    y_val: Any,
    *,
    classes: int,
    poisoned: Any,
    reg: float,
    radius: float | None = 5.0,
    name: str = "data poisoning",
) -> BilevelProblem:
    """(25) on any data; ``poisoned`` are the numbers of the samples that get noise, of norm at most ``radius`` each.

    Γ begins at 0. ``reg`` is the strong convexity: the document's (λ/(cp))‖W‖² is reg = 2λ/(cp). Raises ``BadInput``.

    >>> small = problem([[1, 0], [0, 1], [1, 1]], [0, 1, 1], [[1, 2]], [1], classes=2, poisoned=[2], reg=0.1)
    >>> small.n, small.d
    (2, 4)
    """
    X, y = samples(X, y, "training")
    X_val, y_val = samples(X_val, y_val, "validation")
    require_same_features(X, X_val)
    which = np.asarray(poisoned)
    if (
        which.ndim != 1
        or which.dtype.kind not in "iu"
        or not (0 <= which).all()
        or not (which < len(X)).all()
        or len(set(which.tolist())) != len(which)
        or not len(which)
    ):
        raise BadInput(
            "which samples are poisoned?",
            measured=poisoned,
            required=f"different numbers 0 … {len(X) - 1}, at least one",
            advice="poisoned=rng.choice(N, size=N // 5, replace=False)",
        )
    if not 0 < reg < np.inf:
        raise BadInput(
            "the lower level would not be strongly convex",
            measured=f"reg = {reg}",
            required="0 < reg < inf",
            advice="without a ridge the Hessian is singular: the loss ignores equal shifts of all classes",
        )
    pick = (np.arange(len(X))[:, None] == which[None, :]).astype(np.float64)
    lower = PoisonedSoftmax(X, one_hot(y, classes), pick, float(reg))
    upper = Scaled(-1.0, SoftmaxLoss(X_val, one_hot(y_val, classes), 0.0, lower.n))
    domain = None if radius is None else Rows(len(which), Ball(radius))
    return BilevelProblem(upper, lower, domain, name, np.zeros(lower.n))


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class Poisoning:
    """Data of a poisoning task: training, validation (the attacker's) and test samples."""

    X: np.ndarray
    y: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    poisoned: np.ndarray


def digits_data(*, train: int = 600, validation: int = 200, share: float = 0.2, seed: int = 0) -> Poisoning:
    """scikit-learn's digits, shuffled and split: the rest are test samples. ``share`` of training is poisoned."""
    data, rng = load_digits(), np.random.default_rng(seed)
    order = rng.permutation(len(data.y))
    if not (
        train >= 1
        and validation >= 1
        and train + validation < len(order)
        and 0 < round(share * train) <= train
    ):
        raise BadInput(
            "the split does not fit the data",
            measured=f"{train} + {validation} of {len(order)} samples, a share {share}",
            required="three sets of at least one sample, at least one sample poisoned",
            advice="ask for fewer samples",
        )
    first, second, rest = np.split(order, [train, train + validation])
    poisoned = np.sort(rng.choice(train, size=round(share * train), replace=False))
    X, y = data.X, data.y
    return Poisoning(X[first], y[first], X[second], y[second], X[rest], y[rest], poisoned)


def digits(*, reg: float = 0.01, radius: float | None = 5.0, **options: Any) -> BilevelProblem:
    """(25) on scikit-learn's digits; the other options are those of :func:`digits_data`, which has the test samples.

    >>> small = digits(train=20, validation=10, share=0.5)
    >>> small.n, small.d
    (640, 640)
    """
    data = digits_data(**options)
    said = ", ".join(f"{k}={v}" for k, v in options.items())
    return problem(
        data.X,
        data.y,
        data.X_val,
        data.y_val,
        classes=10,
        poisoned=data.poisoned,
        reg=reg,
        radius=radius,
        name=f"data poisoning of digits ({said})" if said else "data poisoning of digits",
    )


def accuracy(X: np.ndarray, y: np.ndarray, w: Any, classes: int = 10) -> Any:
    """Share of samples whose largest score is their label's, over the leading axes of w (..., classes · features)."""
    rows = np.reshape(to_numpy(w), (*np.shape(w)[:-1], classes, X.shape[1]))
    return np.mean((X @ np.swapaxes(rows, -1, -2)).argmax(axis=-1) == y, axis=-1)
