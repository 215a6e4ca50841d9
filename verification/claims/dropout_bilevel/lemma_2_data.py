r"""Lemma 2: what the data add under masks, printed as p_max σ².

D = E_M E_ξ‖m_w(∇_wG(MW; ξ) − ∇_wG(MW))‖² with E_ξ‖·‖² <= σ² at every masked point is 0 where all masks of w vanish,
and at most σ² elsewhere: D <= P(m_w ≠ 0)σ². G = ‖w‖² + ξ√(1 + ‖w‖²), ξ = ±1, has E_ξ‖·‖² = ‖w‖²/(1 + ‖w‖²) < 1 = σ²,
and D → P(m_w ≠ 0) as all |w_i| → ∞: sharp. P(m_w ≠ 0) = 1 − Π_g(1 − p_g) exceeds p_max as soon as two variables are
free. p_max σ² is right for one variable, and for noise in one coordinate that does not depend on w.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.dropout_bilevel._iterates import law
from verification.claims.dropout_bilevel._masks import PARTS, RATIONAL, Law, rationals
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement


@dataclass(frozen=True)
class Noise:
    """``at(w)``: E_ξ of the squares of the coordinates of ∇_wG(w; ξ) − ∇_wG(w), (..., d) -> (..., d)."""

    at: Callable[[Array], Array]
    law: Law
    w: Array
    sigma: fmpq

    @property
    def masked(self) -> fmpq:
        """D, a literal sum over the masks."""
        return self.law.mean(lambda _, m: (m * self.at(m * self.w)).sum(axis=-1))

    @property
    def present(self) -> Fraction:
        """P(m_w ≠ 0)."""
        return 1 - math.prod((1 - p for p in self.law.keep_w), start=Fraction(1))


def radial(params: Mapping[str, Any]) -> Noise:
    """G = ‖w‖² + ξ√(1 + ‖w‖²); σ² = ``share``, which is 1 unless a control says less."""

    def at(w: Array) -> Array:
        square = (w**2).sum(axis=-1)
        return w**2 / (1 + square)[..., None]

    w = rationals(params["w"][: params["d"]])
    return Noise(at, law({**params, "n": 0}), w, fmpq(*params.get("share", (1, 1))))


def bilinear(params: Mapping[str, Any]) -> Noise:
    """G = ‖w‖² + ξ w₁(w₂ − 1); σ² at w itself."""

    def at(w: Array) -> Array:
        return np.stack([(w[..., 1] - 1) ** 2, w[..., 0] ** 2], axis=-1)

    w = rationals(params["w"])
    return Noise(at, law({"n": 0, "d": 2, "keep_lam": [], **params}), w, at(w).sum())


def stays_below(share: Callable[[Noise], Any]) -> Callable[[Noise], Measurement]:
    """D <= share·σ²."""
    return lambda case: Measurement(observed=case.masked, bound=RATIONAL.scalar(share(case)) * case.sigma)


def at_all_points(case: Noise) -> Measurement:
    """D <= P(m_w ≠ 0) max over masked points."""
    _, _, m = case.law.literal
    most = max(case.at(m * case.w).sum(axis=-1))
    return Measurement(observed=case.masked, bound=RATIONAL.scalar(case.present) * most)


def largest(case: Noise) -> Fraction:
    """p_max."""
    return max(case.law.keep_w)


def _bounded(case: Noise) -> tuple[bool, Any]:
    _, _, m = case.law.literal
    most = max(case.at(m * case.w).sum(axis=-1))
    return most <= case.sigma, [float(most), float(case.sigma)]


def point(d: int, w: int, **more: Any) -> dict[str, Any]:
    """Parameters of (w, …, w), every mask a fair coin."""
    return {"d": d, "w": [w] * 3, "keep_lam": [], "keep_w": [4] * 3, **more}


POINTS = st.fixed_dictionaries(
    {
        "d": st.integers(1, 3),
        "w": st.lists(st.integers(0, 100), min_size=3, max_size=3),
        "keep_lam": st.just([]),
        "keep_w": st.lists(st.integers(1, PARTS), min_size=3, max_size=3),
        "groups_w": st.sampled_from([[0, 1, 2], [0, 0, 1], [0, 0, 0]]),
    }
)
BOUNDED = Hypothesis(
    "σ at masked points", r"E_\xi\|\nabla_wG(MW;\xi) - \nabla_wG(MW)\|^2 \le \sigma^2", _bounded
)
PRESENT = Correction(
    tex=r"E_M E_\xi\|m_w(\nabla_wG(MW;\xi) - \nabla_wG(MW))\|^2 \le P(m_w \ne 0)\,\sigma^2, \quad \sigma^2 \ge "
    r"E_\xi\|\nabla_wG(MW;\xi) - \nabla_wG(MW)\|^2 \text{ at every masked point}",
    measure=at_all_points,
    proof="The masked noise is 0 where every mask of w is 0, and elsewhere its mean square over ξ is at most σ². "
    "$P(m_w \\ne 0) = 1 - \\prod_g(1-p_g)$ over mask variables.",
)

SOURCE = "dropout-bilevel, lemma 2, (15)"

CLAIMS = (
    Claim(
        id="dropout-bilevel/lemma-2@data-part",
        title="As printed: the data add at most p_max σ²",
        source=SOURCE,
        statement=r"E_M E_\xi\|m_w(\nabla_wG(MW;\xi) - \nabla_wG(MW))\|^2 \le \max_ip_{w,i}\,\sigma^2",
        printed=r"O(\gamma_k^2)\bar p_w\sigma^2",
        hypotheses=(BOUNDED,),
        strategy=POINTS,
        explicit=(point(1, 1), point(2, 1), point(2, 2)),
        build=radial,
        measure=stays_below(largest),
        grade="proved",
        corrected=PRESENT,
        budget=Budget(quick=100, full=1000),
        notes="$G = \\|w\\|^2 + \\xi\\sqrt{1+\\|w\\|^2}$, $\\xi = \\pm1$: $\\sigma^2 = 1$ bounds the noise at every "
        "point; at $w = (2, 2)$, $p = \\frac12$ the data add $\\frac{28}{45} > \\frac12$. As $m_i$ and the noise at "
        "$m w$ are correlated, $E\\,m_i$ may not be taken out. Right up to the factor $\\min(\\text{variables}, "
        "1/p_{\\max})$.",
    ),
    Claim(
        id="dropout-bilevel/lemma-2@data-part-iterate",
        title="The data's variance at the iterate bounds what the data add under masks",
        source="dropout-bilevel, assumption 4 and lemma 2",
        statement=r"E_M E_\xi\|m_w(\nabla_wG(MW;\xi) - \nabla_wG(MW))\|^2 \le \max_ip_{w,i}\,E_\xi\|\nabla_wG(W;\xi) "
        r"- \nabla_wG(W)\|^2",
        strategy=st.fixed_dictionaries(
            {
                "w": st.lists(st.integers(0, 3), min_size=2, max_size=2),
                "keep_w": st.lists(st.integers(1, PARTS), min_size=2, max_size=2),
            }
        ),
        explicit=({"w": [1, 2], "keep_w": [4, 8]}, {"w": [0, 1], "keep_w": [4, 4]}),
        build=bilinear,
        measure=stays_below(largest),
        grade="proved",
        corrected=PRESENT,
        budget=Budget(quick=100, full=1000),
        notes="$G = \\|w\\|^2 + \\xi w_1(w_2-1)$ at $w = (0, 1)$: no variance at w, and $p_1(1-p_2)$ under masks. "
        "Assumption 4 asks for σ at every point, which excludes this G on the whole space; on a bounded set σ has to "
        "be taken at the masked points.",
    ),
    Claim(
        id="dropout-bilevel/lemma-2@data-part-corrected",
        title="The data add at most σ² times the chance that some mask is on",
        source="dropout-bilevel, lemma 2; corrected here",
        statement=PRESENT.tex,
        hypotheses=(BOUNDED,),
        strategy=POINTS,
        explicit=(point(1, 1), point(2, 2), point(3, 9)),
        build=radial,
        measure=stays_below(lambda case: case.present),
        grade="proved",
        controls=(
            Control("σ² exceeded at masked points", params=point(2, 9, share=[1, 2])),
            Control("p_max", kind="formula", measure=stays_below(largest)),
            Control(
                "all masks on",
                kind="formula",
                measure=stays_below(lambda case: math.prod(case.law.keep_w)),
            ),
            Control(
                "one variable per group forgotten",
                kind="formula",
                measure=stays_below(lambda case: 1 - math.prod(1 - p for p in case.law.keep_w[1:])),
            ),
        ),
        equality=Equality(params=point(2, 100), reaches=0.999),
        budget=Budget(quick=100, full=1000),
        notes=PRESENT.proof
        + " Attained in the limit $|w_i| \\to \\infty$ by $\\xi\\sqrt{1+\\|w\\|^2}$. Also $\\le "
        "\\sum_ip_i\\sigma_i^2$ with $\\sigma_i$ for each coordinate.",
    ),
)
