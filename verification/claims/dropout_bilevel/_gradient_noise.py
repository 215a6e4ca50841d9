r"""Remark 1: how the variance of the masked stochastic gradient m_w ∇_wG(MW; ξ) depends on keep probabilities.

Quadratic samples G(·; ξ) = ½wᵀH_ξw + λᵀK_ξw + c_ξᵀw, a mask variable for each coordinate. For X = (H, K, c) let
    a_i(X) = H_ii w_i + c_i + Σ_{j≠i} p_j H_ij w_j + Σ_k p_k K_ki λ_k,
    o_i(X) = Σ_{j≠i} p_j(1−p_j) H_ij² w_j² + Σ_k p_k(1−p_k) K_ki² λ_k²:
given m_i = 1, entry i of ∇_wG(MW) has mean a_i and variance o_i (independent masks, and m_i w_i = w_i). Off m_i = 1
the masked entry is 0. Hence, with X̄ = E X_ξ,
    mask part, the variance of m_w∇_wG(MW) for the mean G:     Σ_i [p_i(1−p_i) a_i(X̄)² + p_i o_i(X̄)]
    data part, E_M Var_ξ of m_w∇_wG(MW; ξ):                    E_ξ Σ_i p_i [a_i(X_ξ − X̄)² + o_i(X_ξ − X̄)]
and the variance is their sum. Additive noise (H_ξ, K_ξ fixed): the data part is Σ p_i E(c_ξ − c̄)_i², linear in p.
At w(λ) all a_i(X̄) = 0, as p_i a_i = (∇_wḠ)_i: the mask part is Σ p_i o_i(X̄), not 0 where masks are coupled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from refimpl.spaces import expect
from refimpl.zoo.quadratic import Quadratic
from verification.claims.dropout_bilevel._bounds import masks, uniform
from verification.claims.dropout_bilevel._masks import KEEP, RATIONAL, Law, rationals


@dataclass(frozen=True)
class Noise:
    """Quadratic samples (H, K, c with the samples' axis in front) at λ, w under masks."""

    H: Array
    K: Array
    c: Array
    lam: Array
    w: Array
    law: Law

    @cached_property
    def p(self) -> tuple[Array, Array]:
        """Keep probabilities of the coordinates of λ and of w."""
        both = rationals(self.law.coordinates)
        return both[: len(self.lam)], both[len(self.lam) :]

    def moments(self, H: Array, K: Array, c: Array) -> tuple[Array, Array]:
        """a and o of coefficients without a samples' axis, or with one."""
        (pl, pw), diagonal = self.p, rationals(np.eye(len(self.w), dtype=int))
        inside, outside = (H * diagonal).sum(axis=-1), H * (1 - diagonal)
        a = inside * self.w + c + outside @ (pw * self.w) + (pl * self.lam) @ K
        o = outside**2 @ (pw * (1 - pw) * self.w**2) + (pl * (1 - pl) * self.lam**2) @ K**2
        return a, o

    @property
    def mean(self) -> tuple[Array, Array, Array]:
        """X̄."""
        n = RATIONAL.scalar(len(self.c))
        return self.H.sum(axis=0) / n, self.K.sum(axis=0) / n, self.c.sum(axis=0) / n

    def mask_part(self, within: bool = True) -> Any:
        """The formula of the module."""
        a, o = self.moments(*self.mean)
        p = self.p[1]
        return (p * (1 - p) * a**2 + (p * o if within else 0 * o)).sum()

    def data_part(self, within: bool = True) -> Any:
        """The formula of the module."""
        a, o = self.moments(*(x - m for x, m in zip((self.H, self.K, self.c), self.mean, strict=True)))
        return (self.p[1] * (a**2 + (o if within else 0 * o))).sum() / len(self.c)

    @cached_property
    def literal(self) -> tuple[Any, Any]:
        """Mask part and data part from all masks and samples."""

        def gradients(m_lam: Array, m_w: Array) -> Array:
            samples = zip(self.H, self.K, self.c, strict=True)
            inner = [m_w * ((m_w * self.w) @ H + (m_lam * self.lam) @ K + c) for H, K, c in samples]
            return np.stack(inner, axis=1)  # (masks, samples, d)

        def of_mean(m_lam: Array, m_w: Array) -> Array:
            return gradients(m_lam, m_w).sum(axis=1) / len(self.c)

        within = self.law.mean(
            lambda *m: ((gradients(*m) - of_mean(*m)[:, None]) ** 2).sum(axis=(1, 2)) / len(self.c)
        )
        centre = self.law.mean(of_mean)
        return self.law.mean(lambda *m: ((of_mean(*m) - centre) ** 2).sum(axis=1)), within

    @property
    def library(self) -> Any:
        """E‖g‖² − ‖E g‖² over the space of the library's dropout objective."""
        S, n = len(self.c), len(self.lam)
        f = Quadratic(self.H, self.K, RATIONAL.zeros((S, n, n)), self.c, RATIONAL.zeros((S, n)), RATIONAL)
        over = f.with_dropout(self.law.level)
        second = expect(
            over.space, lambda s: (over.at(s).grad_w(self.lam, self.w) ** 2).sum(axis=-1), RATIONAL
        )
        first = expect(over.space, lambda s: over.at(s).grad_w(self.lam, self.w), RATIONAL)
        return second - first @ first

    @property
    def whole(self) -> Noise:
        """The same without dropout."""
        return replace(self, law=uniform(self.law, Fraction(1)))


def noise(params: Mapping[str, Any]) -> Noise:
    """Small integers from a seed; ``spread`` "c": the samples differ in c alone; ``solution``: w is w(λ) of Ḡ."""
    n, d, count = params["n"], params["d"], params.get("samples", 1)
    rng = np.random.default_rng([params.get("seed", 0), n, d])
    root = rng.integers(-1, 2, (count, d, d))
    H = rationals(root.swapaxes(1, 2) @ root + np.eye(d, dtype=int))
    K, c = rationals(rng.integers(-2, 3, (count, n, d))), rationals(rng.integers(-2, 3, (count, d)))
    lam, w = rationals(rng.integers(-2, 3, n)), rationals(rng.integers(-2, 3, d))
    if params.get("spread") == "c":
        H, K = (np.concatenate([x[:1]] * count) for x in (H, K))
    if "w" in params:  # one sample, written out
        H, K, c, lam, w = (rationals(params[key]) for key in ("H", "K", "c", "lam", "w"))
        H, K, c = H[None], K.reshape(1, n, d), c[None]
    made = Noise(H, K, c, lam, w, masks(params))
    return replace(made, w=_solution(made)) if params.get("solution") else made


def _solution(g: Noise) -> Array:
    """w(λ): p_i a_i = 0 is linear in w."""
    (pl, pw), (H, K, c) = g.p, g.mean
    diagonal = rationals(np.eye(len(c), dtype=int))
    left = H * diagonal + H * (1 - diagonal) * pw
    symmetric = pw[:, None] * left  # diag(p) times it is ∇²_wwḠ
    return factor(RATIONAL, symmetric).solve(-pw * (c + (pl * g.lam) @ K))


def instances(**more: Any) -> st.SearchStrategy[Any]:
    """Strategy over seeded instances."""
    boxes = {
        "n": st.integers(0, 2),
        "d": st.integers(1, 3),
        "samples": st.integers(1, 3),
        "seed": st.integers(0, 999),
    }
    return st.fixed_dictionaries({**boxes, "keep_w": KEEP, "keep_lam": KEEP, **more})
