"""Polynomials f(λ, w) over the rationals: derivatives, masked forms and means over masks are polynomials again."""

from __future__ import annotations

import itertools as it
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.objective import Objective
from refimpl.operators import Operator, matrix
from verification.claims.dropout_bilevel._masks import RATIONAL, Law, rationals


@dataclass(frozen=True)
class Polynomial(Objective):
    """f(λ, w) = Σ_k c_k Π_i W_i^e_ki, W = (λ, w): coefficients (..., K), and K rows of n + d exponents."""

    coefficients: Array
    exponents: tuple[tuple[int, ...], ...]
    n: int
    d: int
    backend: Backend = RATIONAL

    @property
    def leading(self) -> tuple[int, ...]:
        return tuple(self.coefficients.shape[:-1])

    @property
    def lead(self) -> int:
        return int(self.coefficients.ndim) - 1

    def derivative(self, i: int) -> Polynomial:
        """∂f/∂W_i: each exponent down by one, in front of its term."""
        factors = rationals([e[i] for e in self.exponents])
        lowered = tuple((*e[:i], max(e[i] - 1, 0), *e[i + 1 :]) for e in self.exponents)
        return Polynomial(self.coefficients * factors, lowered, self.n, self.d)

    def value(self, lam: Array, w: Array) -> Array:
        W = [lam[..., i] for i in range(self.n)] + [w[..., j] for j in range(self.d)]
        power = cache(lambda i, k: W[i] ** k)
        ahead = np.broadcast_shapes(lam.shape[:-1], w.shape[:-1])
        shape = np.broadcast_shapes(ahead, self.leading)
        monomials = np.empty((*ahead, len(self.exponents)), dtype=object)
        for row, e in enumerate(self.exponents):
            monomials[..., row] = math.prod((power(i, k) for i, k in enumerate(e) if k), start=1)
        # most coefficients are 0 where every monomial has a place of its own
        *places, k = np.nonzero(self.coefficients)
        there: Any = (..., *places)
        spread = np.broadcast_to(monomials, (*shape, len(self.exponents)))
        terms = self.coefficients[(*places, k)] * spread[*there, k]
        total = np.full(shape, RATIONAL.scalar(0), dtype=object)
        np.add.at(total, there, terms if places else terms.sum(axis=-1))
        return total

    def _gradient(self, lam: Array, w: Array, which: range) -> Array:
        shape = np.broadcast_shapes(lam.shape[:-1], w.shape[:-1], self.leading)
        parts = [self.derivative(i).value(lam, w) for i in which]
        return np.stack(parts, axis=-1) if parts else np.empty((*shape, 0), dtype=object)

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return self._gradient(lam, w, range(self.n))

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self._gradient(lam, w, range(self.n, self.n + self.d))

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        inner = range(self.n, self.n + self.d)
        rows = [self.derivative(i)._gradient(lam, w, inner) for i in inner]
        return matrix(self.backend, np.stack(rows, axis=-2), symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        inner = range(self.n, self.n + self.d)
        rows = [self.derivative(i)._gradient(lam, w, inner) for i in range(self.n)]
        shape = np.broadcast_shapes(lam.shape[:-1], w.shape[:-1], self.leading)
        empty = np.empty((*shape, 0, self.d), dtype=object)
        return matrix(self.backend, np.stack(rows, axis=-2) if rows else empty)

    def masked(self, m: Sequence[Any]) -> Polynomial:
        """W ↦ f(MW) as a polynomial: c_k Π_i m_i^e_ki, with 0⁰ = 1."""
        factors = [math.prod((x**k for x, k in zip(m, e, strict=True) if k), start=1) for e in self.exponents]
        return Polynomial(self.coefficients * rationals(factors), self.exponents, self.n, self.d)

    def mean(self, of: Law) -> Polynomial:
        """W ↦ E f(MW) as a polynomial: m^e = m for e >= 1, so a term keeps the probability of its variables."""
        lam = [("λ", g) for g in of.groups_lam]
        variable = lam + [("w", g) for g in of.groups_w]
        chance = dict(zip(variable, of.coordinates, strict=True))
        present = [{g for g, k in zip(variable, e, strict=True) if k} for e in self.exponents]
        kept = [math.prod((chance[g] for g in s), start=Fraction(1)) for s in present]
        return Polynomial(self.coefficients * rationals(kept), self.exponents, self.n, self.d)


def monomials(n: int, d: int, degree: int) -> Polynomial:
    """All monomials of at most that degree in each coordinate, along one leading axis."""
    exponents = tuple(it.product(range(degree + 1), repeat=n + d))
    return Polynomial(RATIONAL.eye(len(exponents)), exponents, n, d)


def random_polynomial(n: int, d: int, seed: int, *, terms: int, degree: int) -> Polynomial:
    """Small integer coefficients on ``terms`` random monomials of at most that total degree."""
    rng = np.random.default_rng(seed)
    exponents = np.zeros((terms, n + d), dtype=int)
    for row in exponents:
        np.add.at(row, rng.integers(0, n + d, rng.integers(1, degree + 1)), 1)
    coefficients = rationals(rng.choice([-2, -1, 1, 2, 3], terms).tolist())
    return Polynomial(coefficients, tuple(tuple(e) for e in exponents.tolist()), n, d)
