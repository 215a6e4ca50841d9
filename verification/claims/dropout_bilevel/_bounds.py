"""Instances of the claims about bounds: a quadratic plus a wave whose second derivatives are known everywhere.

    G(W) = ½ WᵀSW + a c(uᵀW) + linear terms,   W = (λ, w),
    c even, of period 2, with c''(x) = 2|x| − 1 for |x| <= 1:
c is twice continuously differentiable, |c''| <= 1 with ∓1 at the even and odd integers, c'' has Lipschitz modulus 2,
|c'| <= ¼. Hence, exactly: sup |∂²_ijG| = |S_ij| + |a u_i u_j|, and G(λ, ·) is μ-strongly convex iff S_ww − |a| u_w u_wᵀ
⪰ μI. All of it is rational at rational points. The linear terms make any given w the solution w(λ): no claim depends
on them.
"""

from __future__ import annotations

import itertools as it
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq, fmpq_mat
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.dropout_bilevel._masks import PARTS, Law, rationals
from verification.model import Hypothesis

N, D = 3, 3  # most coordinates of λ and of w that a strategy draws


def bend(x: Array) -> Array:
    """c''(x), any shape: the triangle wave."""
    return rationals([2 * abs(t - 2 * ((t + 1) / 2).floor()) - 1 for t in x.ravel()]).reshape(x.shape)


def root_above(x: Any) -> Fraction:
    """√x of a rational x >= 0 where it is one, else a rational above it by less than 2⁻⁶⁴ (1 + √x)."""
    square = fmpq(x)
    p, q = int(square.p), int(square.q)
    over, under = math.isqrt(p), math.isqrt(q)
    if over * over == p and under * under == q:
        return Fraction(over, under)
    return Fraction(math.isqrt((p << 128) // q) + 1, 1 << 64)


SHARES = [Fraction(k, 20) for k in range(1, 21)]  # keep probabilities at which curves are drawn


def uniform(law: Law, p: Fraction) -> Law:
    """The same groups, every variable kept with probability p."""
    return replace(law, keep_lam=tuple(p for _ in law.keep_lam), keep_w=tuple(p for _ in law.keep_w))


@dataclass(frozen=True)
class Wave:
    """G of the module at W under masks, with the constants μ and C_G that are claimed of it."""

    S: Array
    u: Array
    a: fmpq
    W: Array
    n: int
    law: Law
    mu: fmpq
    C: fmpq

    @property
    def size(self) -> int:
        return len(self.W)

    @cached_property
    def p(self) -> Array:
        """Keep probability of every coordinate of W."""
        return rationals(self.law.coordinates)

    @cached_property
    def variables(self) -> list[tuple[str, int]]:
        """The mask variable of every coordinate of W."""
        return [("λ", g) for g in self.law.groups_lam] + [("w", g) for g in self.law.groups_w]

    @cached_property
    def together(self) -> Array:
        """q_ij = E[m_i m_j], from the law: p_i where one variable covers both, else p_i p_j."""
        v, p = self.variables, self.p
        both = range(self.size)
        return rationals([[p[i] if v[i] == v[j] else p[i] * p[j] for j in both] for i in both])

    @cached_property
    def masks(self) -> tuple[Array, Array]:
        """P(m) and the diagonal of M, of every mask: (K,) and (K, n + d)."""
        chances, lam, w = self.law.literal
        return chances, np.concatenate([lam, w], axis=-1)

    @cached_property
    def hessians(self) -> Array:
        """∇²G(MW) of every mask, (K, n + d, n + d)."""
        angles = (self.masks[1] * self.W) @ self.u if self.size else np.zeros(0, dtype=object)
        return self.S + self.a * bend(angles)[:, None, None] * (self.u[:, None] * self.u)

    @cached_property
    def masked(self) -> Array:
        """∇²[G(M·)](W) = M ∇²G(MW) M of every mask."""
        m = self.masks[1]
        return m[:, :, None] * self.hessians * m[:, None, :]

    def mean(self, values: Array) -> Array:
        """E over the masks, which are the first axis."""
        chances = self.masks[0]
        return (chances.reshape(-1, *(1,) * (values.ndim - 1)) * values).sum(axis=0)

    @cached_property
    def variances(self) -> Array:
        """Var of every entry of ∇²[G(M·)](W)."""
        return self.mean(self.masked**2) - self.mean(self.masked) ** 2

    @property
    def largest(self) -> fmpq:
        """sup |∂²_ijG| over all entries and points."""
        return max((abs(self.S) + abs(self.a * self.u[:, None] * self.u)).ravel())

    @property
    def gap(self) -> Array:
        """S_ww − |a| u_w u_wᵀ − μI: semidefinite iff G(λ, ·) is μ-strongly convex."""
        n, u = self.n, self.u[self.n :]
        return self.S[n:, n:] - abs(self.a) * u[:, None] * u - self.mu * rationals(np.eye(len(u), dtype=int))


def wave(params: Mapping[str, Any]) -> Wave:
    """S_ww = μI + RᵀR + |a| u_w u_wᵀ, all other coefficients given; lists are cut to fit.

    Of S_λλ the upper half counts; ``keep_*`` count ``parts``; W counts halves; mu may be a text like
    "1/2". ``overstated`` multiplies the μ, ``understated`` divides the C_G that is claimed.
    """
    n, d = params["n"], params["d"]

    def given(name: str, *shape: int) -> Array:
        size = math.prod(shape)
        return rationals((list(params.get(name, [])) + [0] * size)[:size]).reshape(shape)

    a, mu = fmpq(params.get("a", 0)), fmpq(params.get("mu", 1))
    u = given("u", n + d)
    root, cross, ll = given("root", d, d), given("cross", n, d), np.triu(given("ll", n, n))
    ww = root.T @ root + mu * rationals(np.eye(d, dtype=int)) + abs(a) * u[n:, None] * u[n:]
    S = np.concatenate(
        [np.concatenate([ll + np.triu(ll, 1).T, cross], axis=1), np.concatenate([cross.T, ww], axis=1)],
        axis=0,
    )
    law = masks(params)
    made = Wave(S, u, a, given("W", n + d) / 2, n, law, mu * params.get("overstated", 1), fmpq(0))
    return Wave(S, u, a, made.W, n, law, made.mu, made.largest / params.get("understated", 1))


def masks(params: Mapping[str, Any]) -> Law:
    """The law of ``keep_lam``, ``keep_w`` in ``parts``, 8 unless given, and of the groups; 1 where nothing is given."""
    parts = params.get("parts", PARTS)

    def of(level: str, count: int) -> tuple[tuple[Fraction, ...], tuple[int, ...]]:
        groups = tuple(params.get(f"groups_{level}", range(count)))[:count]
        kept = [*params.get(f"keep_{level}", []), *[parts] * count][: max(groups, default=-1) + 1]
        return tuple(Fraction(k, parts) for k in kept), groups

    (lam, groups_lam), (w, groups_w) = of("lam", params["n"]), of("w", params["d"])
    return Law(lam, w, groups_lam, groups_w)


def small(n: int, d: int, *, keep: int = 4, **more: Any) -> dict[str, Any]:
    """Parameters of one instance, every coordinate kept with probability keep/8."""
    return {"n": n, "d": d, "keep_lam": [keep] * n, "keep_w": [keep] * d, **more}


def _list(entries: st.SearchStrategy[int], size: int) -> st.SearchStrategy[list[int]]:
    return st.lists(entries, min_size=size, max_size=size)


def waves(n: tuple[int, int] = (0, 2), d: tuple[int, int] = (1, D), **more: Any) -> st.SearchStrategy[Any]:
    """Strategy over instances; the keywords replace single boxes."""
    few = st.integers(-2, 2)
    keep = _list(st.integers(1, PARTS), D)
    boxes = {
        "n": st.integers(*n),
        "d": st.integers(*d),
        "keep_lam": keep,
        "keep_w": keep,
        "mu": st.integers(1, 3),
        "root": _list(few, D * D),
        "cross": _list(st.integers(-3, 3), N * D),
        "ll": _list(few, N * N),
        "u": _list(few, N + D),
        "a": few,
        "W": _list(st.integers(-3, 3), N + D),
    }
    return st.fixed_dictionaries({**boxes, **more})


GROUPS: dict[str, Any] = {
    "groups_lam": st.sampled_from([[0, 1, 2], [0, 0, 1], [0, 1, 1], [0, 0, 0]]),
    "groups_w": st.sampled_from([[0, 1, 2], [0, 0, 1], [0, 1, 1], [0, 0, 0]]),
}


def _convex(g: Wave) -> tuple[bool, float]:
    """All principal minors of the gap are >= 0."""
    rows = range(len(g.gap))
    minors = [
        fmpq_mat([[g.gap[i, j] for j in chosen] for i in chosen]).det()
        for k in range(1, len(rows) + 1)
        for chosen in it.combinations(rows, k)
    ]
    return all(minor >= 0 for minor in minors), float(g.mu)


def _bounded(g: Wave) -> tuple[bool, float]:
    return g.largest <= g.C, float(g.C)


CONVEX = Hypothesis("strongly convex", r"\nabla^2_{ww}G \succeq \mu I", _convex)
BOUNDED = Hypothesis("second derivatives bounded", r"|\partial^2_{ij}G| \le C_G", _bounded)
