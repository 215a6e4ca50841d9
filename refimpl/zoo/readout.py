"""The upper level of equilibrium models and graph networks: cross entropy of a linear readout, all of it in λ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.bounds import Bounds, Region
from refimpl.errors import BadInput
from refimpl.objective import Movable, Objective
from refimpl.operators import Operator
from refimpl.sets import Blocks, SpectralBall
from refimpl.zoo.maps import spectral_norm
from refimpl.zoo.softmax import THIRD


@dataclass(frozen=True)
class Layout(Movable):
    """Where A (hidden, hidden), B (hidden, features), c, D (classes, hidden) and b stand in λ."""

    hidden: int
    features: int
    classes: int
    backend: Backend = Backend()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        h, p, k = self.hidden, self.features, self.classes
        return {"A": (h, h), "B": (h, p), "c": (1, h), "D": (k, h), "b": (1, k)}

    @property
    def sizes(self) -> dict[str, int]:
        return {name: math.prod(shape) for name, shape in self.shapes.items()}

    @property
    def n(self) -> int:
        return sum(self.sizes.values())

    def split(self, lam: Array) -> dict[str, Array]:
        """The five parts of λ (..., n), as matrices; c and b as rows."""
        parts, begin = {}, 0
        for name, shape in self.shapes.items():
            size = self.sizes[name]
            parts[name] = self.backend.reshape(lam[..., begin : begin + size], (*lam.shape[:-1], *shape))
            begin += size
        return parts

    def join(self, leading: tuple[int, ...], **parts: Array) -> Array:
        """λ (*leading, n) from some parts; the others are 0."""
        B, flat = self.backend, []
        for name, size in self.sizes.items():
            given = parts.get(name)
            part = B.zeros((size,)) if given is None else B.reshape(given, (*given.shape[:-2], size))
            flat.append(B.broadcast(part, (*leading, size)))
        return B.concat(flat)

    def domain(self, radius: float) -> Blocks:
        """Λ of (24): ‖A‖₂ <= radius, the rest free."""
        ball = SpectralBall(self.hidden, self.hidden, radius)
        return Blocks(((self.sizes["A"], ball), (self.n - self.sizes["A"], None)))


def require_one(lead: int) -> None:
    """Refuse data with leading axes, for constants."""
    if lead:
        raise BadInput(
            "constants are stated for one data set",
            measured=f"data with {lead} leading axes",
            required="no leading axes",
            advice="ask before examples(...), or for one minibatch at a time",
        )


@dataclass(frozen=True, eq=False)
class ReadoutLoss(Objective):
    """F(λ, w) = mean over the labelled rows of logsumexp(z_i) − z_i[label], z_i = D w_i + b.

    Y (..., N, classes) one-hot rows; share (..., N): 1/(number of labelled rows) on those and 0 elsewhere.
    """

    Y: Array
    share: Array
    layout: Layout
    backend: Backend = Backend()

    @property
    def n(self) -> int:
        return self.layout.n

    @property
    def d(self) -> int:
        return int(self.Y.shape[-2]) * self.layout.hidden

    @property
    def lead(self) -> int:
        return int(self.Y.ndim) - 2

    def rows(self, w: Array) -> Array:
        """w (..., d) as (..., N, hidden)."""
        return self.backend.reshape(w, (*w.shape[:-1], -1, self.layout.hidden))

    def scores(self, lam: Array, w: Array) -> Array:
        """z (..., N, classes)."""
        part = self.layout.split(lam)
        return self.rows(w) @ self.backend.mT(part["D"]) + part["b"]

    def _excess(self, lam: Array, w: Array) -> Array:
        return (self.backend.softmax(self.scores(lam, w), -1) - self.Y) * self.share[..., None]

    def value(self, lam: Array, w: Array) -> Array:
        B, z = self.backend, self.scores(lam, w)
        return B.sum(self.share * (B.logsumexp(z, -1) - B.sum(self.Y * z)))

    def grad_lam(self, lam: Array, w: Array) -> Array:
        B, G = self.backend, self._excess(lam, w)
        return self.layout.join(G.shape[:-2], D=B.mT(G) @ self.rows(w), b=B.sum(G, -2)[..., None, :])

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self._flat(self._excess(lam, w) @ self.layout.split(lam)["D"])

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        """Block i is Dᵀ(diag p_i − p_i p_iᵀ)D share_i."""
        curved, D = self._curvature(lam, w), self.layout.split(lam)["D"]

        def apply(v: Array) -> Array:
            return self._flat(curved(self.rows(v) @ self.backend.mT(D)) @ D)

        return Operator(self.backend, (self.d, self.d), apply, apply, self.lead_of(lam, w), symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        """The derivative in λ of v ↦ Σ_i v_i·Dᵀ G_i, G = (p − y) share: through D twice, through b once."""
        B, rows, G = self.backend, self.rows(w), self._excess(lam, w)
        curved, D = self._curvature(lam, w), self.layout.split(lam)["D"]

        def apply(v: Array) -> Array:
            V = self.rows(v)
            turned = curved(V @ B.mT(D))
            both = B.mT(G) @ V + B.mT(turned) @ rows
            return self.layout.join(turned.shape[:-2], D=both, b=B.sum(turned, -2)[..., None, :])

        def apply_T(u: Array) -> Array:
            part = self.layout.split(u)
            turned = curved(rows @ B.mT(part["D"]) + part["b"])
            return self._flat(G @ part["D"] + turned @ D)

        return Operator(B, (self.n, self.d), apply, apply_T, self.lead_of(lam, w))

    def bounds(self, region: Region) -> Bounds:
        """With ψ_i = ‖(w_i, 1)‖, D grown by lam_radius and w_i by w_radius, σ_i = share_i.

        ‖p − y‖ <= √2, S_i = diag p − ppᵀ <= I/2, |D³ℓ[a, b, b]| <= THIRD ‖a‖‖b‖² as in ``SoftmaxLoss``. λ moves z_i by
        δz_i = δD w_i + δb, ‖δz_i‖ <= ψ_i‖δ‖. The third derivative along (δ, V, V) is
        Σ_i σ_i (2(δD V_i)ᵀS_i D V_i + D³ℓ_i[δz_i, DV_i, DV_i]), along (δ, δ', V)
        Σ_i σ_i ((δz'_i)ᵀS_i δD V_i + (δz_i)ᵀS_i δD'V_i + D³ℓ_i[δz_i, δz'_i, DV_i]).
        """
        require_one(self.lead)
        host, R = self.to("numpy"), region.lam_radius
        D = spectral_norm(host.layout.split(np.asarray(region.lam, dtype=float))["D"]) + R
        rows, share = host.rows(np.asarray(region.w, dtype=float)), host.share
        psi = np.sqrt((np.linalg.norm(rows, axis=1) + region.w_radius) ** 2 + 1)

        def together(each: np.ndarray) -> float:
            """Σ_i σ_i each_i ‖V_i‖ <= this ‖V‖."""
            return float(np.linalg.norm(share * each))

        by_both = float((share * (D + THIRD * psi * D**2)).max())
        return Bounds(
            grad_w=2**0.5 * D * together(np.ones(len(share))),
            hess_ww=float(share.max()) * D**2 / 2,
            hess_ww_min=0.0,
            cross=together(2**0.5 + psi * D / 2),
            hess_ll=float(share @ psi**2) / 2,
            hess_ww_by_w=float(share.max()) * THIRD * D**3,
            hess_ww_by_lam=by_both,
            cross_by_w=by_both,
            cross_by_lam=together(psi + THIRD * psi**2 * D),
        )

    def _curvature(self, lam: Array, w: Array) -> Any:
        """The map z ↦ share (diag p − ppᵀ) z of every row."""
        B, p = self.backend, self.backend.softmax(self.scores(lam, w), -1)

        def curved(z: Array) -> Array:
            pz = p * z
            return (pz - p * B.sum(pz)[..., None]) * self.share[..., None]

        return curved

    def _flat(self, rows: Array) -> Array:
        return self.backend.reshape(rows, (*rows.shape[:-2], self.d))
