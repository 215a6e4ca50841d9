"""Quadratic objectives, as finite sums, and bilevel problems with chosen spectra.

f(λ, w) = (1/N) Σ_k ½ wᵀA_k w + λᵀK_k w + ½ λᵀM_k λ + a_kᵀ w + c_kᵀ λ.  Polynomial: runs on every backend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.bounds import Bounds, Region
from refimpl.errors import BadInput
from refimpl.objective import Objective
from refimpl.operators import Operator, matrix
from refimpl.problem import BilevelProblem
from refimpl.spaces import Bernoulli
from refimpl.spaces.bernoulli import Scale
from refimpl.zoo import dyadic
from refimpl.zoo.terms import Terms


@dataclass(frozen=True, eq=False)
class Quadratic(Terms, Objective):
    """The mean of N quadratics; each coefficient has the terms' axis N in front of its own axes.

    ww (N, d, d) symmetric, lw (N, n, d), ll (N, n, n) symmetric, w1 (N, d), l1 (N, n). Raises ``BadInput``: symmetric
    is exactly so over the rationals, and up to d eps times its largest entry in floats, the rounding of a product.
    """

    ww: Array
    lw: Array
    ll: Array
    w1: Array
    l1: Array
    backend: Backend = Backend()

    along: ClassVar[dict[str, int]] = {"w1": -2, "ww": -3, "lw": -3, "ll": -3, "l1": -2}

    def __post_init__(self) -> None:
        require_terms(
            ww=(self.ww, "dd"), lw=(self.lw, "nd"), ll=(self.ll, "nn"), w1=(self.w1, "d"), l1=(self.l1, "n")
        )
        for name in ("ww", "ll"):
            _require_symmetric(self.backend, getattr(self, name), name)

    @property
    def n(self) -> int:
        return int(self.l1.shape[-1])

    @property
    def d(self) -> int:
        return int(self.w1.shape[-1])

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

    def through(self) -> Array:
        """The rows of the mean's ww, lw and w1: by no others does w enter."""
        ww, lw, _, w1, _ = self.mean
        return self.backend.concat([ww, lw, w1[..., None, :]], axis=-2)

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
    """A single quadratic (N = 1) from its coefficients; missing ones are zero. n is needed where no λ-term is given.

    Raises ``BadInput``, as ``Quadratic`` does.
    """
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
    return Quadratic(ww[None], full["lw"][None], full["ll"][None], full["w1"][None], full["l1"][None])


def require_terms(**coefficients: tuple[Array, str]) -> None:
    """Coefficients (leading axes, N, own axes), all axes but their own in common, N >= 1; else ``BadInput``.

    Own axes are letters: equal letters, equal lengths. ``A=(A, "dd")``, say.
    """
    lengths: dict[str, Any] = {}
    fits = True
    for x, own in coefficients.values():
        shape = tuple(getattr(x, "shape", ()))  # lists have none
        ahead = len(shape) - len(own)
        for letter, length in (("terms", shape[:ahead]), *zip(own, shape[ahead:], strict=False)):
            fits = fits and ahead > 0 and lengths.setdefault(letter, length) == length
    if fits and lengths["terms"][-1] > 0:
        return
    raise BadInput(
        "the coefficients do not fit",
        measured=", ".join(f"{name} {np.shape(x)}" for name, (x, _) in coefficients.items()),
        required=", ".join(f"{name} (N, {', '.join(own)})" for name, (_, own) in coefficients.items()),
        advice="arrays of the same N >= 1 terms; x[None] is a single term",
    )


def _require_symmetric(B: Backend, x: Array, name: str) -> None:
    """Of matrices (..., m, m), x = xᵀ to rounding; balls, which cannot be compared, are taken as they are."""
    if not B.ordered or 0 in x.shape:
        return
    skew = B.xp.abs(x - B.mT(x))
    largest = B.xp.max(B.xp.abs(x), axis=(-2, -1), keepdims=True)
    if not bool(B.xp.all(skew <= (0 if B.exact else x.shape[-1] * B.eps * largest))):
        raise BadInput(
            f"{name} is not symmetric",
            measured=f"largest difference {to_numpy(skew).max():.3g}",
            required=f"{name} = {name}ᵀ, in floats up to {x.shape[-1]} eps times its largest entry",
            advice=f"pass ({name} + {name}ᵀ)/2",
        )


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


def singular(
    *,
    n: int,
    d: int,
    rank: int,
    seed: int,
    spectrum: Sequence[float] | None = None,
    across: Sequence[float] | None = None,
    flat: Sequence[float] | None = None,
) -> BilevelProblem:
    """G = ½ wᵀHw − b(λ)ᵀw with H of this rank and b(λ) in its range for every λ; F a strongly convex quadratic.

    U is orthogonal and U = [R N], R spanning the range of H = R diag(spectrum) Rᵀ; b = R (Kλ + a); F has a cross
    term in (λ, w) and Q = U [[diag(across), E], [Eᵀ, diag(flat)]] Uᵀ with E ≠ 0 where both blocks exist. So
    NᵀQN = diag(flat) and q = λ_min(NᵀQN) = min(flat); σ_F >= ½ min(across, flat). Entries are exact: the rank is the
    same over the rationals. Chosen values (1, 2, … by default) are rounded to 36 bits, see ``dyadic``.

    Parameters
    ----------
    spectrum : the rank positive eigenvalues of H.
    across, flat : rank and d − rank positive numbers, of Q on the range and on the null space of H.

    Raises ``BadInput``.

    >>> problem = singular(n=2, d=5, rank=3, seed=0, spectrum=[1, 2, 4])
    >>> H = problem.lower.hess_ww(problem.start(), problem.w(None)).dense()
    >>> abs(np.linalg.eigvalsh(H)).round(12).tolist()
    [0.0, 0.0, 1.0, 2.0, 4.0]
    """
    if not 0 <= rank <= d or d < 1 or n < 0:
        raise BadInput(
            "no matrix has this rank",
            measured=f"n = {n}, d = {d}, rank = {rank}",
            required="n >= 0, d >= 1, 0 <= rank <= d",
            advice="rank < d leaves F something to choose",
        )
    rng = np.random.default_rng(seed)
    U = dyadic.orthogonal(d, rng)
    sizes = {"spectrum": (spectrum, rank), "across": (across, rank), "flat": (flat, d - rank)}
    s, p, q = (
        dyadic.rounded(np.arange(1.0, k + 1).tolist() if x is None else x, name, k)
        for name, (x, k) in sizes.items()
    )
    middle = np.diag(np.concatenate([p, q]))
    if 0 < rank < d:  # ‖E‖² <= ‖E‖_F² <= min(across) min(flat)/4 keeps Q positive definite
        largest = np.sqrt(p.min() * q.min() / (4 * rank * (d - rank)))
        middle[:rank, rank:] = 2.0 ** np.floor(np.log2(largest)) * rng.choice([-1.0, 1.0], (rank, d - rank))
        middle[rank:, :rank] = middle[:rank, rank:].T

    def drawn(*shape: int) -> np.ndarray:
        return rng.integers(-6, 7, shape) / 4

    R = U[:, :rank]
    lower = objective(ww=(R * s) @ R.T, lw=-(R @ drawn(rank, n)).T, w1=-R @ drawn(rank), n=n)
    upper = objective(ww=U @ middle @ U.T, lw=drawn(n, d), ll=np.eye(n), w1=drawn(d), l1=drawn(n), n=n)
    name = f"quadratic.singular (n={n}, d={d}, rank={rank}, seed={seed})"
    return BilevelProblem(upper, lower, name=name, initial=drawn(n))
