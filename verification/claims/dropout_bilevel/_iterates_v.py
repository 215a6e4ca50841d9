"""One step v ↦ v⁺ of Algorithm 1, by the algorithm itself, and the quantities that bound it, as literal sums over
masks and data. Works over any backend: small rational quadratics, and floats where a level has a log cosh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from refimpl import BilevelProblem
from refimpl.algorithms import DropoutFSLA
from refimpl.arrays import Backend, factor
from refimpl.arrays.backend import Array
from refimpl.masks import Dropout
from refimpl.objective import Objective
from refimpl.spaces import Product, Space
from verification.claims.dropout_bilevel._masks import Law, rationals

NEWTON = 40  # iterations at most: some of them overshoot where log cosh is flat


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Every outcome of an iteration that w⁺ and v⁺ depend on: chances (points,), w⁺ and v⁺ (points, d), and the upper
    level's masks (points, n) and (points, d).
    """

    chances: Array
    w: Array
    v: Array
    upper: tuple[Array, Array]

    def mean(self, values: Array) -> Any:
        """E of values (points, ...)."""
        return (self.chances.reshape(-1, *(1,) * (values.ndim - 1)) * values).sum(axis=0)

    def mean_square(self, values: Array) -> Any:
        """E‖x‖² of x (points, d)."""
        return self.mean((values**2).sum(axis=-1))


@dataclass(frozen=True, eq=False)
class Adjoint:
    """Both levels without masks, the masks' laws, and a state (λ, w, v) with its step sizes."""

    plain: BilevelProblem
    lower_law: Law
    upper_law: Law
    lam: Array
    w: Array
    v: Array
    beta: Any
    gamma: Any
    randomness: str = "shared"
    r: Any = None

    @property
    def B(self) -> Backend:
        return self.plain.backend

    @cached_property
    def problem(self) -> BilevelProblem:
        return self.plain.with_dropout(lower=self.lower_law.level, upper=self.upper_law.level)

    # -- literal sums ------------------------------------------------------------------------------------------

    def literal(self, law: Law) -> tuple[Array, Array, Array]:
        """P(m), m_λ, m_w of every mask in this backend."""
        if self.B.exact:
            return law.literal
        chances, lam, w = (x.astype(float) for x in law.literal)
        return chances, lam.reshape(len(chances), self.plain.n), w

    def lower_gradients(self, lam: Array, w: Array) -> Array:
        """m∇_wG(MW; ξ): (masks, data, d)."""
        _, mlam, m = self.literal(self.lower_law)
        g = _terms(self.plain.lower).grad_w((mlam * lam)[:, None], (m * w)[:, None])
        return m[:, None] * g

    def lower_hessians(self, lam: Array, w: Array) -> Array:
        """m∇²_wwG(MW; ξ)m: (masks, data, d, d)."""
        _, mlam, m = self.literal(self.lower_law)
        H = _terms(self.plain.lower).hess_ww((mlam * lam)[:, None], (m * w)[:, None]).dense()
        return m[:, None, :, None] * H * m[:, None, None, :]

    def upper_gradients(self, lam: Array, w: Array) -> Array:
        """m∇_wF(MW; ζ) for w (..., d): (masks, data, ..., d)."""
        _, mlam, m = self.literal(self.upper_law)
        mlam, m = (x.reshape(len(x), *(1,) * (w.ndim - 1), x.shape[-1]) for x in (mlam, m))
        f = self.plain.upper
        terms = [m * f.at(np.array(i)).grad_w(mlam * lam, m * w) for i in range(f.space.size)]
        return np.stack(terms, axis=1)

    def mean(self, law: Law, values: Array) -> Any:
        """E over masks and data of values (masks, data, ...)."""
        chances = self.literal(law)[0]
        return (chances.reshape(-1, *(1,) * (values.ndim - 2)) * values.mean(axis=1)).sum(axis=0)

    def mean_hessian(self, lam: Array, w: Array) -> Array:
        return self.mean(self.lower_law, self.lower_hessians(lam, w))

    def solution(self, lam: Array) -> Array:
        """w(λ) by Newton's iteration on ∇_wḠ = 0: one step, exactly, over the rationals; else until nothing moves."""
        w = 0 * self.w
        for _ in range(1 if self.B.exact else NEWTON):
            g = self.mean(self.lower_law, self.lower_gradients(lam, w))
            move = factor(self.B, self.mean_hessian(lam, w)).solve(g)
            w = w - move
            if not self.B.exact and np.linalg.norm(move) <= self.B.eps * np.linalg.norm(w):
                break
        return w

    def target(self, lam: Array) -> Array:
        """v̄(λ) = (∇²_wwḠ)⁻¹∇_wF̄ at w(λ)."""
        w = self.solution(lam)
        b = self.mean(self.upper_law, self.upper_gradients(lam, w))
        return factor(self.B, self.mean_hessian(lam, w)).solve(b)

    @cached_property
    def w_star(self) -> Array:
        return self.solution(self.lam)

    @cached_property
    def v_star(self) -> Array:
        return self.target(self.lam)

    @cached_property
    def hessian_noise(self) -> Any:
        """V_A = E‖(Â − E Â)v‖², Â = m∇²_wwG(MW; ξ)m at (λ, w)."""
        A = self.lower_hessians(self.lam, self.w) @ self.v
        return self.mean(self.lower_law, ((A - self.mean(self.lower_law, A)) ** 2).sum(axis=-1))

    @cached_property
    def gradient_noise(self) -> Any:
        """V_b = E‖b − E b‖², b = m∇_wF(MW⁺; ζ), over the law of w⁺, upper masks and data."""
        g = self.lower_gradients(self.lam, self.w)
        chances = (self.literal(self.lower_law)[0][:, None] / g.shape[1] + 0 * g[..., 0]).ravel()
        b = self.upper_gradients(self.lam, (self.w - self.gamma * g).reshape(-1, g.shape[-1]))

        def expect(values: Array) -> Any:
            inner = self.mean(self.upper_law, values)
            return (chances.reshape(-1, *(1,) * (inner.ndim - 1)) * inner).sum(axis=0)

        return expect(((b - expect(b)) ** 2).sum(axis=-1))

    def adjoints_of(self, masks: tuple[Array, Array]) -> Array:
        """v_m = (∇²_wwḠ)⁻¹ m∇_wF(MW) at w(λ), of masks (points, n) and (points, d): (points, d)."""
        mlam, m = masks
        b = m * self.plain.upper.grad_w(mlam * self.lam, m * self.w_star)
        system = factor(self.B, self.mean_hessian(self.lam, self.w_star))
        return np.stack([system.solve(row) for row in b])

    # -- the algorithm -----------------------------------------------------------------------------------------

    @cached_property
    def algorithm(self) -> DropoutFSLA:
        gamma, beta = (Fraction(int(x.p), int(x.q)) if self.B.exact else x for x in (self.gamma, self.beta))
        lower, upper = (1 if f.space.size > 1 else None for f in (self.plain.lower, self.plain.upper))
        return DropoutFSLA(
            delta=Fraction(1),
            gamma=gamma,
            beta=beta,
            eta=1,
            schedule="constant",
            randomness=self.randomness,  # type: ignore[arg-type]  # a parameter read from JSON; checked by FSLA
            lower_batch=lower,
            upper_batch=upper,
            r=self.r,
        )

    @cached_property
    def outcomes(self) -> Outcomes:
        """Every point of the algorithm's space, up to draws that w⁺ and v⁺ do not use."""
        space = self.algorithm.space(self.problem)
        low, up = (factor.factors for factor in space.factors if isinstance(factor, Product))
        used = 2 if self.randomness == "fresh" else 1
        draws = [*low[:used], up[0]]
        sizes = [draw.size for draw in draws]
        index = np.unravel_index(np.arange(math.prod(sizes)), sizes)
        still = 0 * index[0]
        lower = tuple(f.points(index[i] if i < used else still) for i, f in enumerate(low))
        upper = tuple(f.points(still if i else index[-1]) for i, f in enumerate(up))
        chances = math.prod(self._chances(draw)[i] for draw, i in zip(draws, index, strict=True))
        new = self.algorithm.step(
            self.problem, self.algorithm.init(self.problem, self.lam, self.w, self.v), (lower, upper)
        )
        shape = (len(still), self.plain.d)
        return Outcomes(
            chances,
            np.broadcast_to(new.w, shape),
            np.broadcast_to(new.v, shape),
            self._masks(upper[0][0], len(still)),
        )

    def _chances(self, draw: Space) -> Array:
        index = np.arange(draw.size)
        return rationals(draw.exact_probabilities(index)) if self.B.exact else draw.probabilities(index)

    def _masks(self, points: Any, count: int) -> tuple[Array, Array]:
        """The upper masks at these points of their space, which has a single one where no mask is random."""
        level = self.problem.upper
        assert isinstance(level, Dropout)
        if level.masks.size == 1:
            points = level.masks.points(np.zeros(count, dtype=np.int64))
        lam, w = points
        return level.lam.mask(lam, self.B), level.w.mask(w, self.B)


def _terms(f: Objective) -> Objective:
    """All terms of f, along one leading axis."""
    return f.at(np.arange(f.space.size))
