"""G = ½(w−λ)², F = ½aw² + ½cλ² without noise: a cone that grows, Routh's numbers, a Lyapunov function.

The mathematics is in ``theorem_2_time_scales``.
"""

from __future__ import annotations

import itertools as it
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

import numpy as np

from refimpl import BilevelProblem
from refimpl.algorithms import FSLA
from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from refimpl.spaces import Space
from refimpl.zoo import quadratic
from verification.claims.dropout_bilevel._masks import RATIONAL, rationals

Poly = list[Fraction]  # coefficients of 1, α, α², …


def combine(*terms: tuple[Any, Sequence[Any]]) -> Poly:
    """Σ c_i p_i."""
    size = max(len(p) for _, p in terms)
    return [sum((c * p[i] for c, p in terms if i < len(p)), start=Fraction(0)) for i in range(size)]


def shifted(p: Sequence[Any]) -> Poly:
    """α p."""
    return [Fraction(0), *p]


def nonnegative(p: Sequence[Any]) -> bool:
    """Are the Bernstein coefficients on [0, 1] nonnegative, and so the polynomial there?"""
    n = len(p) - 1
    return all(
        sum((Fraction(math.comb(i, j), math.comb(n, j)) * p[j] for j in range(i + 1)), start=Fraction(0)) >= 0
        for i in range(n + 1)
    )


@dataclass(frozen=True)
class Scales:
    """G = ½(w−λ)², F = ½aw² + ½cλ² and step sizes, all Fractions."""

    a: Fraction
    c: Fraction
    gamma: Fraction
    beta: Fraction
    delta: Fraction
    reading: Literal["new", "old"]
    omega: Fraction = Fraction(1, 2)
    nu: Fraction = Fraction(1, 4)

    @property
    def cone_grows(self) -> bool:
        """Is 0 <= w <= ωλ, 0 <= v <= νλ invariant with λ⁺ >= λ, for every α in [0, 1]?"""
        one: Poly = [Fraction(1)]
        w_over = combine((self.omega, one), (self.gamma * (1 - self.omega), shifted(one)))
        v_over = combine(
            (self.nu, one), (-self.beta * self.nu, shifted(one)), (self.beta * self.a, shifted(w_over))
        )
        used = v_over if self.reading == "new" else [self.nu]
        grows = combine((-self.c, one), (Fraction(-1), used))  # λ⁺ >= (1 + α·this) λ
        ratio = combine((Fraction(1), one), (Fraction(1), shifted(grows)))
        needed = (
            grows,
            combine((self.omega, ratio), (Fraction(-1), w_over)),
            combine((self.nu, ratio), (Fraction(-1), v_over)),
            [Fraction(1), -self.gamma],
            [Fraction(1), -self.beta],
            [self.a],
        )
        return all(nonnegative(p) for p in needed)

    @property
    def routh(self) -> Fraction:
        """The least of the three numbers that must be positive."""
        total, product = self.gamma + self.beta, self.gamma * self.beta
        last = product * (self.a + self.c)
        return min(total + self.c, last, (total + self.c) * (product + self.c * total) - last)

    @cached_property
    def powers(self) -> list[Array]:
        """The step's matrix in (λ, w, v) as a polynomial in α: I, 𝒜, ….

        Read off the three lines of ``theorem_2_time_scales``; the tests compare it with the algorithm's own step.
        """
        one, zero = [Fraction(1)], [Fraction(0)]
        w = [shifted([self.gamma]), combine((1, one), (-self.gamma, shifted(one))), zero]
        v = [combine((self.beta * self.a, shifted(p))) for p in w]
        v[2] = combine((1, one), (-self.beta, shifted(one)))
        used = v if self.reading == "new" else [zero, zero, one]
        lam = [combine((Fraction(-1), shifted(p))) for p in used]
        lam[0] = combine((1, lam[0]), (1, one), (-self.c, shifted(one)))
        rows = [lam, w, v]
        degree = max(len(p) for p in it.chain(*rows))
        full = [[p + [Fraction(0)] * (degree - len(p)) for p in row] for row in rows]
        return [rationals([[p[k] for p in row] for row in full]) for k in range(degree)]

    @cached_property
    def X(self) -> Array:
        """𝒜ᵀX + X𝒜 = −I."""
        A, eye = self.powers[1], RATIONAL.eye(3)
        system = np.kron(A.T, eye) + np.kron(eye, A.T)
        return factor(RATIONAL, system).solve(-eye.reshape(9)).reshape(3, 3)

    @cached_property
    def step_size(self) -> Any:
        """δ times min(1, 1/(2K))."""
        M, X = self.powers, self.X
        R = [
            sum(M[i].T @ X @ M[j - i] for i in range(len(M)) if 0 <= j - i < len(M))
            for j in range(2, 2 * len(M) - 1)
        ]
        K = sum(abs(r).sum() for r in R)
        return RATIONAL.scalar(self.delta) * min(1, 1 / (2 * K))

    @property
    def problem(self) -> BilevelProblem:
        lower = quadratic.objective(ww=[[1.0]], lw=[[-1.0]], ll=[[1.0]])
        upper = quadratic.objective(ww=[[float(self.a)]], ll=[[float(self.c)]])
        return BilevelProblem(upper, lower).to("rational")

    def run(self, algorithm: FSLA, steps: int) -> list[Any]:
        """λ_0, …, λ_steps of the algorithm itself, from λ = 1, w = v = 0."""
        problem, one = self.problem, RATIONAL.asarray(np.ones(1))
        state, found = algorithm.init(problem, one), [one[0]]
        sample = only(algorithm.space(problem))
        for _ in range(steps):
            state = algorithm.step(problem, state, sample)
            found.append(state.lam[0])
        return found


def only(space: Space) -> Any:
    """The point of a space that has one."""
    return space.points(np.zeros((), dtype=np.int64))


def scales(params: dict[str, Any]) -> Scales:
    """γ, β, δ, a, c in sixteenths."""
    names = ("a", "c", "gamma", "beta", "delta")
    a, c, gamma, beta, delta = (Fraction(params[name], 16) for name in names)
    return Scales(a, c, gamma, beta, delta, params["reading"])
