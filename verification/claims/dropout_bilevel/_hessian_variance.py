r"""The variance of the masked Hessian X = M∇²G(MW)M, entry by entry: formulas for the claims about lemma 1.

q_ij = E[m_i m_j] is p_i p_j for different mask variables and p_i for i = j or one variable, as m² = m. Given
B = {m_i = m_j = 1}, of probability q, let h = ∂²_ijG(MW) have mean h̄ and variance V. Then X_ij = h on B and 0 off it:

    Var X_ij = q(h̄² + V) − q²h̄² = q(1−q) h̄² + qV.                                                    (identity)

|h| <= C_G gives h̄² <= C_G² − V, so Var X_ij <= q(1−q) C_G² + q²V <= q C_G². And V <= C_G², or by Efron and Stein
(the law given B is a product) V <= Σ_k p_k(1−p_k) E(h|_{m_k=1} − h|_{m_k=0})² over the other variables k, a difference
being at most 2C_G and at most L_k‖W_(k)‖: L_k the Lipschitz modulus of ∂²_ijG in the coordinates W_(k) of k.
Equality: |h| = C_G on B; then the two bounds agree iff h̄ = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refimpl.arrays.backend import Array
from verification.claims.dropout_bilevel._bounds import SHARES, Wave, uniform
from verification.claims.dropout_bilevel._masks import rationals
from verification.model import Measurement

Entries = Callable[[Wave], Array]  # an (n + d, n + d) array of bounds, one for each entry


def total(bound: Entries, *, off_diagonal: bool = False) -> Callable[[Wave], Measurement]:
    """E‖X − EX‖_F², summed over all entries or over those with i ≠ j, against the sum of the entries' bounds."""

    def measure(g: Wave) -> Measurement:
        chosen = 1 - rationals(np.eye(g.size, dtype=int)) if off_diagonal else 1
        return Measurement(observed=(chosen * g.variances).sum(), bound=(chosen * bound(g)).sum())

    return measure


def curve(g: Wave) -> dict[str, Any]:
    """The printed bound and the variance, as one keep probability of all coordinates varies."""
    places = [replace(g, law=uniform(g.law, p)) for p in SHARES]
    return {
        "x": SHARES,
        "predicted": [printed(place).sum() for place in places],
        "measured": [place.variances.sum() for place in places],
        "xlabel": "keep probability",
        "ylabel": "variance of the masked Hessian",
    }


def printed(g: Wave) -> Array:
    """p_i p_j (1 − p_i p_j) C_G² for every entry, i = j too."""
    both = g.p[:, None] * g.p
    return both * (1 - both) * g.C**2


def constant(g: Wave) -> Array:
    """q(1 − q) C_G²."""
    return g.together * (1 - g.together) * g.C**2


def chances(g: Wave) -> Array:
    """q C_G²."""
    return g.together * g.C**2


def varying(g: Wave) -> Array:
    """q(1 − q) C_G² + q² V, V bounded by constants of G."""
    return constant(g) + g.together**2 * variance_given_both(g)


def variance_given_both(g: Wave) -> Array:
    """min{C_G², Σ_k p_k(1 − p_k) min(4C_G², L_k²‖W_(k)‖²)}; of the wave, L_k = 2|a u_i u_j| ‖u_(k)‖."""
    slope = 4 * (g.a * g.u[:, None] * g.u) ** 2  # (2 a u_i u_j)²
    found = 0 * slope
    for k in sorted(set(g.variables)):
        own = [i for i, v in enumerate(g.variables) if v == k]
        p, u, W = g.p[own[0]], (g.u[own] ** 2).sum(), (g.W[own] ** 2).sum()
        jump = np.minimum(slope * u * W, 4 * g.C**2 + 0 * slope)
        elsewhere = rationals([[int(k not in (v, w)) for w in g.variables] for v in g.variables])
        found = found + elsewhere * p * (1 - p) * jump
    return np.minimum(found, g.C**2 + 0 * found)


def given_both(g: Wave) -> tuple[Array, Array]:
    """h̄ and V of every entry, from the masks that keep both coordinates; 0 where there is none."""
    m = g.masks[1]
    both = m[:, :, None] * m[:, None, :]
    chance = g.mean(both)
    chance = chance + rationals((chance == 0).astype(int))  # where never both, 0/1 for 0/0
    mean = g.mean(both * g.hessians) / chance
    return mean, g.mean(both * (g.hessians - mean) ** 2) / chance


def decomposed(g: Wave, *, within: bool = True, chance: Entries = lambda g: g.together) -> Array:
    """q(1 − q) h̄² + qV."""
    q, (mean, spread) = chance(g), given_both(g)
    return q * (1 - q) * mean**2 + (q * spread if within else 0 * q)


def excess(g: Wave) -> Any:
    """E‖X − EX‖_F² minus the printed bound."""
    return (g.variances - printed(g)).sum()
