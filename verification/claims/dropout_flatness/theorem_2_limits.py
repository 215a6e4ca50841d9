r"""Theorem 2 where it should be best: at interpolation, ε → 0, and as p → 1.

Both matrices are polynomials in ε, so the limit ε → 0 is the value at ε = 0. Dropping unit j then moves the gradient by
−f_j(g₀ − g_j); the printed matrix has f_jg₀ in its place.

At fixed θ and y both are cubics in s = (1−p)/p that agree at s = 0: their derivatives there follow from s = 0, 1, 2, 3.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from refimpl.arrays.backend import Array
from verification.claims.dropout_flatness._noise import (
    Noise,
    Sample,
    average,
    both,
    build,
    outer,
    points,
    weighted,
)
from verification.claims.dropout_flatness.theorem_2 import NOT_STATIONARY, PRINTED, anywhere, is_printed
from verification.model import Correction, Measurement, identity

# -- as p → 1 ------------------------------------------------------------------------------------------------------


def cubic_slope(values: list[Array]) -> Array:
    """The derivative at 0 of a cubic known at 0, 1, 2, 3."""
    return (-11 * values[0] + 18 * values[1] - 9 * values[2] + 2 * values[3]) / 6


def by_masks(of: Noise, s: int) -> Array:
    """(1/n) Σ E ggᵀ at keep probability 1/(1+s), mask by mask: a cubic in s at fixed θ and y."""
    return of.kept(Fraction(1, 1 + s)).second


def first_error(x: Sample) -> Array:
    """The limit of (E ggᵀ − printed)/s."""
    squares = x.f * x.f
    G, Q = x.f @ x.g, squares @ x.g
    return 2 * x.e * both(G, x.g0) - both(Q, x.g0) + weighted(squares - 2 * x.e * x.f, x.g)


def slope_of_error(of: Noise) -> Array:
    """d/ds of (1/n) Σ E ggᵀ − printed at s = 0."""
    exact = [by_masks(of, s) for s in range(4)]
    printed = [of.kept(Fraction(1, 1 + s)).printed for s in range(4)]
    return cubic_slope(exact) - cubic_slope(printed)


def slope_vanishes(of: Noise) -> Measurement:
    """The printed dropout part is right to first order in s."""
    slope = slope_of_error(of)
    return identity(slope, 0 * slope)


def slope_known(of: Noise) -> Measurement:
    """It is the average of Δ₁."""
    return identity(slope_of_error(of), of.sum(first_error))


def interpolating(params: Any) -> Noise:
    """y = f."""
    of = build(params)
    return Noise(of.at.with_errors(0 * of.at.errors))


def at_interpolation(of: Noise) -> Measurement:
    """Σ_one at ε = 0."""

    def term(x: Sample) -> Array:
        moved = x.f[:, None] * (x.g0 + (x.s - 1)[:, None] * x.g)
        return weighted(x.s, moved) + x.of_pairs() + outer(x.q)

    mean = average(np.stack([x.q for x in of.samples]))
    return identity(of.sum(term) - outer(mean), of.exact("one sample"))


CLAIMS = (
    anywhere(
        "interpolation",
        "Where the network interpolates, the covariance of dropout gradients is the printed matrix",
        PRINTED + r" \quad \text{at } \varepsilon_i = 0",
        is_printed(),
        build=interpolating,
        corrected=Correction(
            tex=r"\Sigma_{\text{one}} = \frac1n\sum_i\left[\sum_j s f_j^2(g_0 + (s-1)g_j)(g_0 + (s-1)g_j)^\top "
            r"+ \sum_{j<l} "
            r"s^2N_{jl}N_{jl}^\top + qq^\top\right] - \bar q\bar q^\top, \quad q = s\sum_jf_jg_j, \quad "
            r"\varepsilon = 0",
            measure=at_interpolation,
            proof="@exact at ε = 0; both matrices are polynomials in ε, so the limit ε → 0 is the value. "
            "Dropping unit j moves the "
            "gradient by $-f_j(g_0-g_j)$; the printed matrix has $f_jg_0$ in its place.",
        ),
        notes="Interpolation is no stationary point of $E_\\eta R$ unless all $f^j = 0$: see "
        "theorem-2-hypothesis@stationary.",
    ),
    anywhere(
        "p-to-1",
        "As p tends to 1 the printed dropout part becomes the true one",
        r"\lim_{p\to1}\frac1s\left(\frac1n\sum_iE_\eta\,gg^\top - \Sigma_{\text{printed}}\right) = 0",
        slope_vanishes,
        strategy=points((1, 2)),
        corrected=Correction(
            tex=r"\lim_{p\to1}\frac1s\left(\frac1n\sum_iE_\eta\,gg^\top - \Sigma_{\text{printed}}\right) = "
            r"\frac1n\sum_i\left[2\varepsilon(Gg_0^\top + g_0G^\top) - (Qg_0^\top + g_0Q^\top) + \sum_j(f_j^2 "
            r"- "
            r"2\varepsilon f_j)g_jg_j^\top\right], \quad G = \sum_jf_jg_j, \quad Q = \sum_jf_j^2g_j",
            measure=slope_known,
            proof="At fixed θ and y both are cubics in s = (1−p)/p with the same value at s = 0, known from p "
            "= 1, 1/2, 1/3, 1/4. In "
            "@exact-moments $\\mu_3 = s^2 - s$ and $\\mu_4 - 3s^2 = s - 4s^2 + s^3$: collect the terms in s.",
        ),
        notes=NOT_STATIONARY
        + "The dropout part is itself of order s, so its relative error does not vanish. The whole printed matrix is "
        "right to relative $O(s)$ where some $\\varepsilon_i\\nabla f_i \\ne 0$: it tends to "
        "$\\frac1n\\sum_i\\varepsilon_i^2\\nabla f_i\\nabla f_i^\\top \\ne 0$.",
    ),
)
