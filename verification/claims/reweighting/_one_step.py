"""One step of weighted least squares over the rationals, F quadratic with a known spectrum: L2RW, Meta-Weight-Net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl import BilevelProblem
from refimpl.algorithms.protocol import Algorithm, State
from refimpl.arrays.backend import Array
from refimpl.zoo.quadratic import Quadratic
from refimpl.zoo.ridge import HalfSquares
from refimpl.zoo.weighted_rows import WeightedRows
from refimpl.zoo.weights import SampleWeights
from verification.claims.reweighting._penalty import fraction, ratio, rational
from verification.claims.reweighting._rational import RATIONAL
from verification.claims.reweighting._systems import System


@dataclass(frozen=True)
class Step:
    """F(θ) = ½θᵀPθ + a·θ and L_i(θ) = ½(x_i·θ − y_i)² at θ, with weights ω; β = α/n, L_F >= ‖P‖."""

    P: Array
    L_F: fmpq
    a: Array
    x: Array
    y: Array
    omega: Array
    theta: Array
    alpha: fmpq
    eta: fmpq
    params: Mapping[str, Any]

    @property
    def beta(self) -> fmpq:
        return self.alpha / len(self.y)

    @cached_property
    def problem(self) -> BilevelProblem:
        n, d = self.x.shape
        zero = RATIONAL.zeros
        upper = Quadratic(
            self.P[None], zero((1, n, d)), zero((1, n, n)), self.a[None], zero((1, n)), backend=RATIONAL
        )
        rows = HalfSquares(self.x, self.y, n, backend=RATIONAL)
        return BilevelProblem(
            upper, WeightedRows(rows, SampleWeights("identity", backend=RATIONAL), RATIONAL)
        )

    def F(self, theta: Array) -> Any:
        return theta @ self.P @ theta / 2 + self.a @ theta

    def slope(self, theta: Array) -> Array:
        """F'(θ)."""
        return self.P @ theta + self.a

    def gradients(self, theta: Array) -> Array:
        """∇L_i, (n, d)."""
        return (self.x @ theta - self.y)[:, None] * self.x

    @cached_property
    def J(self) -> Array:
        """[∇L_1 … ∇L_n] at θ, (d, n)."""
        return self.gradients(self.theta).T

    def ahead(self, omega: Array | None = None) -> Array:
        """θ̂ = θ − βJω."""
        return self.theta - self.beta * (self.J @ (self.omega if omega is None else omega))

    @cached_property
    def moved(self) -> Array:
        """Jω."""
        return self.J @ self.omega

    @cached_property
    def derivative(self) -> Array:
        """−βJᵀF'(θ̂)."""
        return -self.beta * (self.J.T @ self.slope(self.ahead()))

    @cached_property
    def at_theta(self) -> Array:
        """−βJᵀF'(θ): (4), both gradients at θ."""
        return -self.beta * (self.J.T @ self.slope(self.theta))

    @cached_property
    def raised(self) -> Array:
        """a_i = max(F'(θ)ᵀ∇L_i, 0)."""
        return positive(self.J.T @ self.slope(self.theta))

    def after(self, algorithm: Algorithm) -> State:
        """One iteration of the package's, from ω and θ."""
        start = algorithm.init(self.problem, self.omega, self.theta)
        sample = algorithm.space(self.problem, 0).sample(0, ())
        return algorithm.step(self.problem, start, sample)

    @property
    def rates(self) -> dict[str, Any]:
        return {"alpha": fraction(self.alpha), "eta": fraction(self.eta)}


def step(params: Mapping[str, Any]) -> Step:
    """What ``seed`` draws; entries that ``params`` gives themselves stand instead.

    curvatures: eigenvalues of P, from −3 to 3, from 0 with ``convex``. ``flat``: P is 0 along Jω. ``zero``: ω = 0.
    ``over`` divides θ, y and a.
    """
    n, d, rng = params["n"], params["d"], np.random.default_rng(params["seed"])
    drawn = {
        "curvatures": rng.integers(0 if params.get("convex") else -3, 4, d),
        "mirror": rng.integers(-2, 3, d),
        "a": rng.integers(-3, 4, d),
        "x": rng.integers(-2, 3, (n, d)),
        "y": rng.integers(-3, 4, n),
        "omega": rng.integers(-1, 4, n),
        "theta": rng.integers(-2, 3, d),
    }
    given = {key: np.asarray(params.get(key, value)) for key, value in drawn.items()}
    spectrum = tuple(map(int, given["curvatures"]))
    P, L_F = System(spectrum, (0,) * d, tuple(map(int, given["mirror"]))).a, fmpq(max(map(abs, spectrum)))
    arrays = {key: rational(given[key]) for key in ("a", "x", "y", "omega", "theta")}
    for key in ("theta", "y", "a"):
        arrays[key] = arrays[key] / params.get("over", 1)
    if params.get("zero"):
        arrays["omega"] = 0 * arrays["omega"]
    if params.get("flat"):
        x, y, omega, theta = (arrays[key] for key in ("x", "y", "omega", "theta"))
        z = (omega * (x @ theta - y)) @ x
        off = (z @ z) * RATIONAL.eye(d) - z[:, None] * z
        P, L_F = off @ P @ off, (z @ z) ** 2 * L_F
    numbers = {key: ratio(params.get(key, (1, 1))) for key in ("alpha", "eta")}
    return Step(P, L_F, **arrays, **numbers, params=dict(params))


def positive(x: Array) -> Array:
    """max(x, 0), entry by entry."""
    return np.where(x > 0, x, 0 * x)


def one(
    n: int = 1, d: int = 1, seed: int = 0, alpha: tuple[int, int] = (1, 1), **more: Any
) -> dict[str, Any]:
    """Parameters of one instance."""
    return {"n": n, "d": d, "seed": seed, "alpha": list(alpha), **more}


def line(
    slopes: Any,
    omega: Any,
    *,
    theta: int = 1,
    curvature: int = 1,
    alpha: tuple[int, int] = (1, 1),
    **more: Any,
) -> dict[str, Any]:
    """d = 1: F = curvature θ²/2, and samples of which L_i' = slopes[i] at θ."""
    y = [theta - more.get("over", 1) * s for s in slopes]
    data = {"x": [[1]] * len(y), "y": y, "omega": list(omega), "theta": [theta]}
    return one(len(y), 1, 0, alpha, curvatures=[curvature], mirror=[0], a=[0], **data, **more)


ALPHAS = st.sampled_from([[p, q] for q in (8, 4, 2, 1) for p in (1, 3)] + [[4, 1], [16, 1]])


def sizes(**more: Any) -> Any:
    """Strategy: up to three samples and three parameters."""
    entries = {"n": st.integers(1, 3), "d": st.integers(1, 3), "seed": st.integers(0, 9999), "alpha": ALPHAS}
    return st.fixed_dictionaries({**entries, **more})
