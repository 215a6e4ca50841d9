"""Lower levels that are not quadratic, over the rationals, and upper levels that make a chosen point stationary.

r(λ, w) = ∇_wG = A z + Σ_j c_j (t_j³ + e_j t_j²) b_j with z = w − Kλ, t_j = b_jᵀz: strongly convex with
m = λ_min(A) − Σ_j c_j e_j²‖b_j‖²/3, and w(λ) = Kλ. F = ½wᵀQw + p·w, its p chosen last: no equation is solved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl import BilevelProblem
from refimpl.approximate.penalty import AugmentedLagrangian
from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.objective import Objective
from refimpl.operators import Operator, matrix
from refimpl.zoo.quadratic import Quadratic
from verification.claims.reweighting._penalty import definite, ratio, rational, root_above, solve, square
from verification.claims.reweighting._systems import RATIONAL, System
from verification.model import Hypothesis


@dataclass(frozen=True)
class Bent(Objective):
    """G as above; a (d, d) is A, rows (J, d) the b_j, c and e (J,), slope (d, n) is K."""

    a: Array
    rows: Array
    c: Array
    e: Array
    slope: Array
    backend: Backend = Backend()

    lead = 0

    @property
    def n(self) -> int:
        return int(self.slope.shape[-1])

    @property
    def d(self) -> int:
        return int(self.a.shape[-1])

    def _at(self, lam: Array, w: Array) -> tuple[Array, Array]:
        z = w - lam @ self.slope.T
        return z, z @ self.rows.T

    def value(self, lam: Array, w: Array) -> Array:
        z, t = self._at(lam, w)
        return ((z @ self.a) * z).sum(axis=-1) / 2 + (self.c * (t**4 / 4 + self.e * t**3 / 3)).sum(axis=-1)

    def grad_w(self, lam: Array, w: Array) -> Array:
        z, t = self._at(lam, w)
        return z @ self.a + (self.c * (t**3 + self.e * t**2)) @ self.rows

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return -(self.grad_w(lam, w) @ self.slope)

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        t = self._at(lam, w)[1]
        bend = (self.rows.T * (self.c * (3 * t**2 + 2 * self.e * t))[..., None, :]) @ self.rows
        return matrix(self.backend, self.a + bend, symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, -(self.slope.T @ self.hess_ww(lam, w).dense()))


@dataclass(frozen=True)
class Backward:
    """λ = 0, w(λ) = 0; ``w`` makes F − vᵀ∇_wG + (μ/2)‖∇_wG‖² stationary: with v = 0 through F's p, and where
    ``multiplier`` is set, with p as drawn, through v."""

    lower: Bent
    q: System
    w: Array
    drawn_p: Array
    mu: fmpq
    least: int
    params: Mapping[str, Any]

    @cached_property
    def lam(self) -> Array:
        return RATIONAL.zeros((self.lower.n,))

    @cached_property
    def r(self) -> Array:
        return self.lower.grad_w(self.lam, self.w)

    @cached_property
    def H(self) -> Array:
        return self.lower.hess_ww(self.lam, self.w).dense()

    @cached_property
    def H_star(self) -> Array:
        return self.lower.hess_ww(self.lam, 0 * self.w).dense()

    @cached_property
    def p(self) -> Array:
        """∇_wF at w(λ) = 0; ``off`` moves it from what makes w stationary for the penalty function."""
        if self.params.get("multiplier"):
            return self.drawn_p
        return -(self.q.a @ self.w) - self.mu * (self.H @ self.r) + self.params.get("off", 0)

    @cached_property
    def slope(self) -> Array:
        """∇_wF(w)."""
        return self.q.a @ self.w + self.p

    @cached_property
    def v(self) -> Array:
        """The multiplier for which w is stationary; 0 for the penalty function, whose stationarity is p's."""
        if not self.params.get("multiplier"):
            return 0 * self.w
        return solve(self.H, self.slope) + self.mu * self.r + self.params.get("off", 0)

    @cached_property
    def adjoint(self) -> Array:
        """λ* = H(w(λ))⁻¹∇_wF(w(λ))."""
        return solve(self.H_star, self.p)

    @cached_property
    def problem(self) -> BilevelProblem:
        n, d = self.lower.n, self.lower.d
        zero = RATIONAL.zeros
        upper = Quadratic(
            self.q.a[None], zero((1, n, d)), zero((1, n, n)), self.p[None], zero((1, n)), backend=RATIONAL
        )
        return BilevelProblem(upper, self.lower)

    @cached_property
    def phi(self) -> AugmentedLagrangian:
        """The package's own."""
        return AugmentedLagrangian(self.problem, self.lam, self.v, self.mu)

    @cached_property
    def m(self) -> fmpq:
        """λ_min(A) − Σ c e²‖b‖²/3, times ``overstated``."""
        g = self.lower
        bent = sum((c * e * e * square(b) for c, e, b in zip(g.c, g.e, g.rows, strict=True)), fmpq(0))
        return (self.least - bent / 3) * self.params.get("overstated", 1)

    @cached_property
    def radius(self) -> fmpq:
        """‖r‖/m, no less than ‖w‖ on the curve from w(λ) to w along which r grows in proportion."""
        return root_above(square(self.r)) / self.m

    @cached_property
    def bends(self) -> tuple[fmpq, fmpq]:
        """ν where ‖w‖ <= radius, in two parts: H's Lipschitz constant at w(λ), and what the radius adds to it."""
        here, more = fmpq(0), fmpq(0)
        for c, e, b in zip(self.lower.c, self.lower.e, self.lower.rows, strict=True):
            size = root_above(square(b))
            here += 2 * c * abs(e) * size**3
            more += 6 * c * size**4 * self.radius
        return here, more

    @cached_property
    def ends(self) -> tuple[fmpq, fmpq]:
        """(ρ, L_F) with −ρ I ⪯ Q ⪯ L_F I."""
        below, above = (max(0, *(sign * x for x in self.q.spectrum)) for sign in (-1, 1))
        return fmpq(below), fmpq(above)

    @cached_property
    def slopes(self) -> tuple[fmpq, fmpq]:
        """M where ‖w‖ <= radius, in two parts: ‖∇_wF‖ at w(λ), and what the radius adds to it."""
        return root_above(square(self.p)), max(self.ends) * self.radius

    @cached_property
    def bending(self) -> fmpq:
        """νM/m."""
        return sum(self.bends, fmpq(0)) * sum(self.slopes, fmpq(0)) / self.m

    def curved(self, below: int = 1, above: int = 1) -> tuple[fmpq, fmpq]:
        """(s_, s⁺) with −s_ I ⪯ S ⪯ s⁺ I wherever ‖w‖ <= radius: (ρ + νM/m)/m² and (L_F + νM/m)/m².

        A 0 is a mistake: that one without νM/m.
        """
        least, most = self.ends
        return (least + below * self.bending) / self.m**2, (most + above * self.bending) / self.m**2

    @cached_property
    def curvature(self) -> tuple[fmpq, fmpq]:
        """(s_, s⁺)."""
        return self.curved()

    @cached_property
    def S(self) -> Array:
        """φ's Hessian at w: H⁻¹(Q − Σ_k (H⁻¹∇_wF)_k ∇²r_k)H⁻¹, the sum by differences: H is quadratic in w."""
        v, hess = solve(self.H, self.slope), self.lower.hess_ww
        units = RATIONAL.eye(len(self.w))
        bend = np.stack(
            [(hess(self.lam, self.w + e) @ v - hess(self.lam, self.w - e) @ v) / 2 for e in units]
        )
        return solve(self.H, solve(self.H, self.q.a - bend).T)


def backward(params: Mapping[str, Any]) -> Backward:
    """What ``seed`` draws; entries that ``params`` gives (a, rows, c, e, q, w, p, slope) stand instead. w is divided by
    ``over``; ``convex`` false: Q may be indefinite; ``bend`` false: c = 0, G is quadratic."""
    d, rng = params["d"], np.random.default_rng(params["seed"])
    bend = params.get("bend", True)
    drawn = {
        "a": rng.integers(2, 6, d),
        "rows": rng.integers(-1, 2, (2, d)),
        "c": rng.integers(0, 2, 2) * bend,
        "e": rng.integers(-1, 2, 2),
        "q": rng.integers(0 if params.get("convex", True) else -3, 4, d),
        "w": rng.integers(-3, 4, d),
        "p": rng.integers(-3, 4, d),
        "slope": rng.integers(-2, 3, (d, 1)),
    }
    mirrors = rng.integers(-2, 3, (2, d))
    given = {key: np.asarray(params.get(key, value)) for key, value in drawn.items()}
    a, q = (
        System(tuple(map(int, given[key])), (0,) * d, tuple(map(int, mirror)))
        for key, mirror in zip("aq", mirrors, strict=True)
    )
    rows, c, e, slope = (rational(given[key]) for key in ("rows", "c", "e", "slope"))
    lower = Bent(a.a, rows, c, e, slope, backend=RATIONAL)
    w = rational(given["w"]) / params.get("over", 1)
    p = rational(given["p"])
    return Backward(lower, q, w, p, ratio(params["gamma"]), int(min(given["a"])), dict(params))


def at(gamma: tuple[int, int] = (1, 1), *, d: int = 1, seed: int = 0, **more: Any) -> dict[str, Any]:
    """Parameters of one instance."""
    return {"d": d, "seed": seed, "gamma": list(gamma), **more}


def line(a: int, q: int, gamma: tuple[int, int] = (1, 1), **more: Any) -> dict[str, Any]:
    """One variable, r = a w + c(w³ + e w²), w = 1 unless given."""
    entries = {"a": [a], "rows": [[1]], "c": [0], "e": [0], "q": [q], "w": [1], "p": [1], "slope": [[1]]}
    return at(gamma, **{**entries, **more})


def bent(**more: Any) -> Any:
    """Strategy: up to three variables, w down to 1/4096 of small integers."""
    entries = {
        "d": st.integers(1, 3),
        "seed": st.integers(0, 9999),
        "gamma": st.sampled_from([[p, q] for q in (2, 1) for p in (1, 3)] + [[10, 1], [100, 1], [1000, 1]]),
        "over": st.sampled_from([4**k for k in range(7)]),
    }
    return st.fixed_dictionaries({**entries, **more})


def _stationary(b: Backward) -> tuple[bool, Any]:
    worst = max(abs(x) for x in b.phi.grad(b.w))
    return worst == 0, str(worst)


def _convex(b: Backward) -> tuple[bool, Any]:
    """H − mI positive semidefinite at w, half way and at w(λ): definite when m is a 2⁻³⁰ smaller."""
    if b.m <= 0:
        return False, str(b.m)
    shift = b.m * (1 - fmpq(1, 2**30)) * RATIONAL.eye(len(b.w))
    points = (b.w, b.w / 2, 0 * b.w)
    return all(definite(b.lower.hess_ww(b.lam, w).dense() - shift) for w in points), f"m = {b.m}"


STATIONARY = Hypothesis("stationary", r"\nabla_v\tilde f = 0", _stationary)
CONVEX = Hypothesis("strongly convex lower level", r"\nabla^2_{vv}g \succeq mI,\ m > 0", _convex)
