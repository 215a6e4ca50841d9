"""The bounds on the Jacobian of w(λ) that hold, attained; proofs in ``_jacobian_bound``."""

from __future__ import annotations

from verification.claims.dropout_bilevel._bounds import GROUPS, small, wave, waves
from verification.claims.dropout_bilevel._jacobian_bound import (
    ATTAINED,
    BREAKERS,
    HYPOTHESES,
    RARE,
    TWO,
    best,
    kept,
    norm,
    reading,
    scale,
    weighted,
    weighted_by,
)
from verification.model import Budget, Claim, Control, Equality, Measurement

CLAIMS = (
    reading(
        "best",
        "The Jacobian under dropout, with constants that do not grow with the number of rare coordinates",
        r"$$\|J\|_F \le \frac{C_G}{\mu}\,\|p_\lambda\|\min\{\tfrac{1}{2}\Big(\sqrt d + "
        r"\sqrt{\textstyle\sum_jp_{w,j}/p_{\min}}\Big),\ \Big(\textstyle\sum_j\big(1 + "
        r"\tfrac{C_G}{\mu}\sqrt{s_js}\big)^2\Big)^{1/2}\}$$ with $s = \sum_jp_{w,j}$, and $s_j$ the same sum without "
        r"the coordinates of $j$'s mask variable",
        best,
        explicit=(small(1, 1, cross=[1]), TWO, ATTAINED, RARE),
        controls=(
            *BREAKERS,
            Control(
                "p_λ squared",
                kind="formula",
                measure=norm(lambda g: (g.C / g.mu) ** 2 * (kept(g)[0] ** 4).sum() * best(g) / scale(g)),
            ),
            Control("d forgotten", kind="formula", measure=norm(lambda g: best(g) / (g.size - g.n))),
            Control(
                "√d ‖p_λ‖ C_G/μ for unequal probabilities",
                kind="formula",
                measure=norm(lambda g: scale(g) * (g.size - g.n)),
                params=RARE,
            ),
        ),
        equality=Equality(params=ATTAINED, reaches=1.0),
        notes="Equality for equal $p_w$ and $G = \\frac{\\mu}{2}\\|w\\|^2 - C_G\\sum\\lambda_iw_j$, where it is "
        "$\\sqrt d\\,\\|p_\\lambda\\|C_G/\\mu$: dropout of w alone does not change it. The last control is that "
        "formula for unequal $p_w$, where mixed signs in $\\nabla^2_{ww}G$ break it by 0.4 %. Roots are rounded up "
        "by less than $2^{-64}$.",
    ),
    Claim(
        id="dropout-bilevel/prop-1-bound@weighted",
        title="The Jacobian weighted by keep probabilities",
        source="dropout-bilevel, proposition 1; sharper form derived here",
        statement=r"\|P^{1/2}J\|_F \le "
        r"\frac{C_G}{\mu}\,\|p_\lambda\|\,\big(\textstyle\sum_jp_{w,j}\big)^{1/2},\qquad P = "
        r"\operatorname{diag}(p_w)",
        hypotheses=HYPOTHESES,
        strategy=waves((1, 2), **GROUPS),
        explicit=(small(1, 1, cross=[1]), ATTAINED),
        build=wave,
        measure=weighted,
        grade="proved",
        controls=(
            *BREAKERS,
            Control("unweighted", kind="formula", measure=weighted_by(lambda g: kept(g)[1] ** 0)),
            Control(
                "p_w once more",
                kind="formula",
                measure=lambda g: Measurement(
                    observed=weighted(g).observed, bound=scale(g) * (kept(g)[1] ** 2).sum()
                ),
            ),
        ),
        equality=Equality(params={**ATTAINED, "keep_w": [2, 7]}, reaches=1.0),
        budget=Budget(quick=150, full=1500),
        notes="Attained for every $p_w$, equal or not, by $G = \\frac{\\mu}{2}\\|w\\|^2 + C_G\\sum\\lambda_iw_j$. It "
        "is what a difference of masked solutions sees, $E\\|m_w(w(\\lambda) - w(\\lambda'))\\|^2 = "
        "\\|P^{1/2}(\\cdot)\\|^2$.",
    ),
)
