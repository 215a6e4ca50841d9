"""Losses whose interval flatness is known: quadratics and quartics around w = 0; how widths are compared exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.curvature import interval_flatness
from refimpl.objective import Objective
from refimpl.operators import Operator, matrix
from verification.claims.dropout_flatness._planted import RATIONAL, fractions
from verification.instances import EPS
from verification.model import Measurement

FACTORS = (Fraction(3, 2), Fraction(2), Fraction(4))
# the places are found to a bracket of relative width 2 eps: a width is wrong by this share of itself at most
SHARE = Fraction(2 * EPS) / (1 - Fraction(2 * EPS))


@dataclass(frozen=True, eq=False)
class Bowl(Objective):
    """L(w) = L₀ + gᵀw + ½ wᵀHw + Σ_i q_i w_i⁴: level L₀, g (d,), H (d, d), q (d,)."""

    level: Any
    g: Array
    H: Array
    q: Array
    backend: Backend = RATIONAL

    n = 0

    @property
    def d(self) -> int:
        return len(self.g)

    def value(self, lam: Array, w: Array) -> Array:
        B = self.backend
        return self.level + B.dot(w, self.g + B.matvec(self.H, w) / 2) + B.dot(w * w, self.q * w * w)

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return lam

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self.g + self.backend.matvec(self.H, w) + 4 * self.q * w * w * w

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        eye = self.backend.eye(self.d)
        return matrix(self.backend, self.H + 12 * (self.q * w * w)[..., None] * eye, symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, self.backend.zeros((0, self.d)))


@dataclass(frozen=True, eq=False)
class Ray:
    """A loss at w along v with a factor c; ``loss``, ``slope`` and ``curvature`` there, and whether more is."""

    f: Objective
    w: Array
    v: Array
    factor: Fraction

    @property
    def lam(self) -> Array:
        return self.f.backend.zeros((0,))

    @property
    def loss(self) -> Any:
        return self.f.value(self.lam, self.w)

    @property
    def slope(self) -> Any:
        return self.f.grad_w(self.lam, self.w) @ self.v

    @property
    def curvature(self) -> Any:
        return self.v @ (self.f.hess_ww(self.lam, self.w) @ self.v)

    @property
    def quartic(self) -> Any:
        """The fourth difference along v: 24 times the coefficient of t⁴, 0 for a parabola."""
        steps = RATIONAL.asarray(np.arange(-2.0, 3.0))
        values = self.f.value(self.lam, self.w + steps[:, None] * self.v)
        return sum(k * x for k, x in zip((1, -4, 6, -4, 1), values, strict=True))

    def width(self) -> Fraction:
        """F_v by the library, over the rationals: right − left, without the rounding of that difference."""
        found = interval_flatness(self.f, self.w, self.v[None], factor=float(self.factor), limit=2.0**20)
        return Fraction(float(found.right[0])) - Fraction(float(found.left[0]))


def square(ray: Ray, *, slope: int = 1, more: int = 1) -> Any:
    """F_v² of the parabola through the ray's loss, slope and curvature: 4 (g² + 2h(c − more)L)/h²."""
    g, h = slope * ray.slope, ray.curvature
    return 4 * (g * g + 2 * h * RATIONAL.scalar(ray.factor - more) * ray.loss) / (h * h)


def agrees(ray: Ray, target: Any) -> Measurement:
    """|F_v² − target| within what the bracket of the places leaves: everything rational."""
    exact = Fraction(int(target.p), int(target.q))
    gap = abs(ray.width() ** 2 - exact)
    return Measurement(
        observed=gap, bound=exact * ((1 + SHARE) ** 2 - 1), detail={"squared width": float(exact)}
    )


def ray(params: Mapping[str, Any]) -> Ray:
    """``rows`` of G with H = GᵀG, direction ``v``, ``slope`` and ``level`` (fractions), ``quartic``, factor ``c``."""

    def numbers(x: Any) -> Array:
        given = np.asarray(fractions(x), dtype=object)
        return RATIONAL.reshape(RATIONAL.asarray([RATIONAL.scalar(e) for e in given.ravel()]), given.shape)

    G, v = numbers(params["rows"]), numbers(params["v"])
    g = RATIONAL.scalar(Fraction(params["slope"])) * v / (v @ v)  # gᵀv = slope
    level = RATIONAL.scalar(Fraction(params["level"]))
    q = RATIONAL.scalar(Fraction(params.get("quartic", 0))) + 0 * v
    return Ray(Bowl(level, g, G.T @ G, q), 0 * v, v, Fraction(params["c"]))


def in_floats(f: Bowl) -> Bowl:
    """The same on NumPy."""
    B = Backend()
    return replace(f, level=float(f.level), g=to_numpy(f.g), H=to_numpy(f.H), q=to_numpy(f.q), backend=B)
