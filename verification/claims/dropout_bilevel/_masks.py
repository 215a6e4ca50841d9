"""Instances shared by the claims of this document: small quadratic problems over the rationals, and the masks' law
written out, apart from the library's own enumeration.

``keep`` holds one keep probability per mask variable, in eighths (1 … 8); ``groups`` the variable of each coordinate.
"""

from __future__ import annotations

import itertools as it
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import BilevelProblem
from refimpl.arrays import backend, factor
from refimpl.arrays.backend import Array
from refimpl.spaces import Bernoulli
from refimpl.zoo import quadratic

RATIONAL = backend("rational")
PARTS = 8  # keep probabilities are counted in eighths: exact in floats too


def rationals(values: Any) -> Array:
    """An array of any shape of ints and Fractions as rationals."""
    given = np.asarray(values, dtype=object)
    flat = [RATIONAL.scalar(x) for x in given.ravel()]
    return np.array(flat, dtype=object).reshape(given.shape)


# -- the law of the masks ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Law:
    """Independent masks of λ and of w: keep probabilities (Fractions) and the variable of each coordinate."""

    keep_lam: tuple[Fraction, ...]
    keep_w: tuple[Fraction, ...]
    groups_lam: tuple[int, ...]
    groups_w: tuple[int, ...]

    @property
    def coordinates(self) -> list[Fraction]:
        """The keep probability of every coordinate of W = (λ, w)."""
        lam = [self.keep_lam[g] for g in self.groups_lam]
        return lam + [self.keep_w[g] for g in self.groups_w]

    @property
    def level(self) -> dict[str, Bernoulli]:
        """What ``with_dropout`` takes for one level."""
        return {
            "lam": Bernoulli(self.keep_lam, groups=self.groups_lam),
            "w": Bernoulli(self.keep_w, groups=self.groups_w),
        }

    @cached_property
    def literal(self) -> tuple[Array, Array, Array]:
        """P(m), m_λ and m_w of every mask, each variable's two values in a loop: (K,), (K, n), (K, d)."""
        keep = [*self.keep_lam, *self.keep_w]
        shift = len(self.keep_lam)
        chances, of_lam, of_w = [], [], []
        for bits in it.product((1, 0), repeat=len(keep)):
            chance = math.prod(
                (p if b else 1 - p for p, b in zip(keep, bits, strict=True)), start=Fraction(1)
            )
            if chance:
                chances.append(chance)
                of_lam.append([bits[g] for g in self.groups_lam])
                of_w.append([bits[shift + g] for g in self.groups_w])
        return rationals(chances), rationals(of_lam), rationals(of_w)

    def mean(self, f: Callable[[Array, Array], Array]) -> Array:
        """Σ_m P(m) f(m_λ, m_w), for f of all masks at once, (K, n) and (K, d)."""
        chances, of_lam, of_w = self.literal
        values = f(of_lam, of_w)
        return (chances.reshape(-1, *(1,) * (values.ndim - 1)) * values).sum(axis=0)


def law(params: Mapping[str, Any]) -> Law:
    """Masks of ``keep_lam`` and ``keep_w`` (eighths, cut to fit) and ``groups_lam``, ``groups_w`` (one each)."""

    def of(level: str, count: int) -> tuple[tuple[Fraction, ...], tuple[int, ...]]:
        groups = tuple(params.get(f"groups_{level}", range(count)))[:count]
        kept = params.get(f"keep_{level}", [PARTS] * count)[: max(groups, default=-1) + 1]
        return tuple(Fraction(k, PARTS) for k in kept), groups

    (keep_lam, groups_lam), (keep_w, groups_w) = of("lam", params["n"]), of("w", params["d"])
    return Law(keep_lam, keep_w, groups_lam, groups_w)


# -- quadratic bilevel problems --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A quadratic problem over the rationals, the masks of both its levels, and a λ."""

    plain: BilevelProblem
    law: Law
    lam: Array
    params: Mapping[str, Any]

    @cached_property
    def noisy(self) -> BilevelProblem:
        """The dropout problem (9), by the library."""
        return self.plain.with_dropout(lower=self.law.level, upper=self.law.level)

    def normal_equations(self, lam: Array) -> tuple[Array, Array]:
        """E[m_w H m_w] and −E[m_w ∇_wG(m_λλ, 0)], literal sums: w(λ) solves the one for the other."""
        G, zero = self.plain.lower, RATIONAL.zeros((self.plain.d,))
        H = G.hess_ww(lam, zero).dense()
        left = self.law.mean(lambda _, w: w[:, :, None] * H * w[:, None, :])
        return left, -self.law.mean(lambda m, w: w * G.grad_w(m * lam, w * zero))

    def w_star(self, lam: Array) -> Array:
        """w(λ) of (9)."""
        H, right = self.normal_equations(lam)
        return factor(RATIONAL, H).solve(right)

    @cached_property
    def w(self) -> Array:
        return self.w_star(self.lam)

    @cached_property
    def jacobian(self) -> Array:
        """dw/dλ, d x n, by central differences of the literal solution: exact, as w(λ) is affine."""
        return central_differences(self.w_star, self.lam).T


def central_differences(f: Callable[[Array], Any], x: Array) -> Array:
    """(f(x + e_j) − f(x − e_j))/2, one row for every j: the derivative, exactly, of polynomials of degree two."""
    return np.array([(f(x + e) - f(x - e)) / 2 for e in RATIONAL.eye(len(x))], dtype=object)


def model(params: Mapping[str, Any]) -> Model:
    """H = RᵀR + I with small integers R, all other coefficients small integers, and λ too.

    ``simple``: G = ½‖w‖² − Σ_{j <= i} λ_i w_j and F = Σ w_j at λ = 0, for counterexamples that a person can check.
    """
    n, d = params["n"], params["d"]
    if params.get("simple"):
        lower = quadratic.objective(ww=np.eye(d), lw=-np.tri(n, d))
        upper = quadratic.objective(ww=np.zeros((d, d)), w1=np.ones(d), n=n)
        problem = BilevelProblem(upper, lower).to("rational")
        return Model(problem, law(params), RATIONAL.zeros((n,)), dict(params))
    rng = np.random.default_rng(params["seed"])

    def small(*shape: int) -> np.ndarray:
        return rng.integers(-2, 3, shape).astype(float)

    root, symmetric = small(d, d), small(d, d)
    lower = quadratic.objective(ww=root.T @ root + np.eye(d), lw=small(n, d), w1=small(d))
    upper = quadratic.objective(
        ww=symmetric + symmetric.T, lw=small(n, d), ll=2 * np.eye(n), w1=small(d), l1=small(n)
    )
    lam = RATIONAL.asarray(small(n))
    return Model(BilevelProblem(upper, lower).to("rational"), law(params), lam, dict(params))


def at(n: int, d: int, seed: int = 0, **more: Any) -> dict[str, Any]:
    """Parameters of one model, all of whose variables are kept with probability ½."""
    return {"n": n, "d": d, "seed": seed, "keep_lam": [4] * 3, "keep_w": [4] * 3, **more}


KEEP = st.lists(st.integers(1, PARTS), min_size=3, max_size=3)


def models(**more: Any) -> Any:
    """Strategy over models with up to three variables on each level, w's masks grouped or not."""
    boxes = {
        "n": st.integers(1, 3),
        "d": st.integers(1, 3),
        "seed": st.integers(0, 999),
        "keep_lam": KEEP,
        "keep_w": KEEP,
        "groups_w": st.sampled_from([[0, 1, 2], [0, 0, 1], [0, 1, 1], [0, 0, 0]]),
    }
    return st.fixed_dictionaries({**boxes, **more})
