"""Quadratic objectives, as finite sums, and bilevel problems with chosen spectra.

f(λ, w) = (1/N) Σ_k ½ wᵀA_k w + λᵀK_k w + ½ λᵀM_k λ + a_kᵀ w + c_kᵀ λ.  Polynomial: runs on every backend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.bounds import Bounds, Region
from refimpl.errors import BadInput
from refimpl.objective import Objective
from refimpl.operators import Operator, matrix
from refimpl.problem import BilevelProblem
from refimpl.spaces import Bernoulli, Indices, Space
from refimpl.spaces.bernoulli import Scale


@dataclass(frozen=True)
class Quadratic(Objective):
    """The mean of N quadratics; each coefficient has the terms' axis N in front of its own axes.

    ww (N, d, d) symmetric, lw (N, n, d), ll (N, n, n) symmetric, w1 (N, d), l1 (N, n).
    """

    ww: Array
    lw: Array
    ll: Array
    w1: Array
    l1: Array
    backend: Backend = Backend()

    @property
    def n(self) -> int:
        return int(self.l1.shape[-1])

    @property
    def d(self) -> int:
        return int(self.w1.shape[-1])

    @property
    def lead(self) -> int:
        return int(self.w1.ndim) - 2

    @property
    def space(self) -> Space:
        return Indices(int(self.w1.shape[-2]))

    def batch(self, sample: Any) -> Quadratic:
        """The terms of the last axis of the samples, whose other axes go in front of the data's."""
        B, index = self.backend, self.backend.indices(self._terms_of(sample))
        axes = {"ww": -3, "lw": -3, "ll": -3, "w1": -2, "l1": -2}
        taken = {k: B.terms(getattr(self, k), index, axis) for k, axis in axes.items()}
        return dataclasses.replace(self, **taken)

    def dropout_mean(self, lam: Bernoulli, w: Bernoulli, scale: Scale) -> Quadratic:
        """Masks of λ and of w are independent: every coefficient times the first or second moment of its masks."""
        B = self.backend

        def moments(space: Bernoulli) -> tuple[Array, Array]:
            second = space.second_moments(scale)
            first = [p if scale == "none" else p / p for p in space.of_coordinates(scale)]
            shape = (len(first), len(first))
            of_both = B.reshape(B.asarray([B.scalar(e) for row in second for e in row]), shape)
            return B.asarray([B.scalar(e) for e in first]), of_both

        (lam1, lam2), (w1, w2) = moments(lam), moments(w)
        return dataclasses.replace(
            self,
            ww=self.ww * w2,
            lw=self.lw * lam1[:, None] * w1,
            ll=self.ll * lam2,
            w1=self.w1 * w1,
            l1=self.l1 * lam1,
        )

    @cached_property
    def mean(self) -> tuple[Array, Array, Array, Array, Array]:
        """The five coefficients of the mean."""
        mean = self.backend.mean
        return mean(self.ww, -3), mean(self.lw, -3), mean(self.ll, -3), mean(self.w1, -2), mean(self.l1, -2)

    def value(self, lam: Array, w: Array) -> Array:
        B, (ww, lw, ll, w1, l1) = self.backend, self.mean
        halves = B.dot(w, B.matvec(ww, w)) + B.dot(lam, B.matvec(ll, lam))
        return halves / 2 + B.dot(B.rmatvec(lw, lam), w) + B.dot(w1, w) + B.dot(l1, lam)

    def grad_lam(self, lam: Array, w: Array) -> Array:
        B, (_, lw, ll, _, l1) = self.backend, self.mean
        return B.matvec(lw, w) + B.matvec(ll, lam) + l1

    def grad_w(self, lam: Array, w: Array) -> Array:
        B, (ww, lw, _, w1, _) = self.backend, self.mean
        return B.matvec(ww, w) + B.rmatvec(lw, lam) + w1

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, self.mean[0], symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, self.mean[1])

    def bounds(self, region: Region) -> Bounds:
        """Second derivatives are constant; ‖∇_w f‖ is bounded by its value at the centre plus what the radii add."""
        ww, lw, ll, w1, _ = (to_numpy(x) for x in self.mean)
        eigenvalues = np.linalg.eigvalsh(ww)
        cross = float(np.linalg.norm(lw, 2)) if lw.size else 0.0
        hess_ww = float(np.abs(eigenvalues).max())
        centre = float(np.linalg.norm(ww @ region.w + lw.T @ region.lam + w1))
        return Bounds(
            grad_w=centre + hess_ww * region.w_radius + cross * region.lam_radius,
            hess_ww=hess_ww,
            hess_ww_min=float(eigenvalues[0]),
            cross=cross,
            hess_ll=float(np.abs(np.linalg.eigvalsh(ll)).max()) if ll.size else 0.0,
        )


def objective(
    *, ww: Any, lw: Any = None, ll: Any = None, w1: Any = None, l1: Any = None, n: int | None = None
) -> Quadratic:
    """A single quadratic (N = 1) from its coefficients; missing ones are zero. n is needed where no λ-term is given."""
    ww = np.asarray(ww, dtype=np.float64)
    d = ww.shape[-1]
    known = [np.shape(x)[0] for x in (lw, ll, l1) if x is not None]
    n = known[0] if known else n
    if n is None or ww.shape != (d, d):
        raise BadInput(
            "coefficients do not fit",
            measured=f"ww {ww.shape}, n = {n}",
            required="ww (d, d) and a known n",
            advice="pass n=... where no coefficient mentions λ",
        )
    shapes = {"lw": (n, d), "ll": (n, n), "w1": (d,), "l1": (n,)}
    given = {"lw": lw, "ll": ll, "w1": w1, "l1": l1}
    full = {
        k: np.zeros(s) if given[k] is None else np.asarray(given[k], dtype=np.float64)
        for k, s in shapes.items()
    }
    for k, s in shapes.items():
        if full[k].shape != s:
            raise BadInput(
                f"{k} has the wrong shape", measured=full[k].shape, required=s, advice="see Quadratic"
            )
    for name, m in (("ww", ww), ("ll", full["ll"])):
        if not np.array_equal(m, m.T):
            raise BadInput(
                f"{name} is not symmetric",
                measured=f"largest difference {np.abs(m - m.T).max():.3g}",
                required=f"{name} = {name}ᵀ exactly",
                advice=f"pass ({name} + {name}.T) / 2",
            )
    return Quadratic(ww[None], full["lw"][None], full["ll"][None], full["w1"][None], full["l1"][None])


def spectrum_matrix(eigenvalues: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Symmetric matrix with these eigenvalues (to rounding) in a random orthonormal basis."""
    d = len(eigenvalues)
    q, r = np.linalg.qr(rng.standard_normal((d, d)))
    q = q * np.sign(np.diag(r))
    a = (q * np.asarray(eigenvalues)) @ q.T
    return (a + a.T) / 2


def random(
    *,
    n: int,
    d: int,
    seed: int,
    mu: float = 1.0,
    L: float = 10.0,
    spectrum: Sequence[float] = (),
    terms: int = 1,
) -> BilevelProblem:
    """A random quadratic problem: the lower Hessian has the given spectrum (else log-spaced in [mu, L]).

    ``terms`` > 1 makes the lower level a finite sum whose mean has that spectrum.

    >>> problem = random(n=2, d=3, seed=0)
    >>> problem.lower.hess_ww(problem.start(), problem.w(None)).dense().shape
    (3, 3)
    """
    if len(spectrum) == 0:
        spectrum = np.geomspace(mu, L, d).tolist() if d > 1 else [mu]
    if len(spectrum) != d:
        raise BadInput(
            "one eigenvalue per coordinate of w",
            measured=len(spectrum),
            required=d,
            advice="pass d eigenvalues",
        )
    if min(spectrum) <= 0:
        raise BadInput(
            "the lower level would not be strongly convex",
            measured=f"smallest eigenvalue {min(spectrum)}",
            required="> 0",
            advice="zoo.degenerate has the singular and indefinite cases, labelled",
        )
    rng = np.random.default_rng(seed)
    spread = rng.standard_normal((terms, d, d))
    spread = (spread + np.swapaxes(spread, -1, -2)) / 2
    spread = spread - spread.mean(axis=0)
    lower = Quadratic(
        spectrum_matrix(spectrum, rng) + (spread if terms > 1 else 0 * spread),
        rng.standard_normal((terms, n, d)),
        np.broadcast_to(np.eye(n), (terms, n, n)).copy(),
        rng.standard_normal((terms, d)),
        rng.standard_normal((terms, n)),
    )
    half = rng.standard_normal((1, d, d)) / np.sqrt(d)
    upper = Quadratic(
        half @ np.swapaxes(half, -1, -2),
        rng.standard_normal((1, n, d)),
        np.eye(n)[None],
        rng.standard_normal((1, d)),
        rng.standard_normal((1, n)),
    )
    return BilevelProblem(
        upper, lower, name=f"quadratic (n={n}, d={d}, seed={seed})", initial=rng.standard_normal(n)
    )
