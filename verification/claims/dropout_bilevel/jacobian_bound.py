"""The readings of the damaged bound of proposition 1; the proof of what holds is in ``_jacobian_bound``."""

from __future__ import annotations

from verification.claims.dropout_bilevel._bounds import Wave, small
from verification.claims.dropout_bilevel._jacobian_bound import (
    ATTAINED,
    BEST,
    BREAKERS,
    HYPOTHESES,
    ONES,
    TWO,
    kept,
    norm,
    reading,
    reading_a,
    reading_b,
    reading_c,
)
from verification.model import Control, Equality, Hypothesis


def _weakly_coupled(g: Wave) -> tuple[bool, float]:
    lam, w = kept(g)
    product = (lam**2).sum() * min(w) * w.sum()
    return product <= 1, float(product)


CLAIMS = (
    reading(
        "a",
        "As read: the Jacobian is at most the largest second derivative over the modulus",
        r"\|J(w(\lambda))\|_F \le \frac{C_G}{p_{\min}\mu}",
        reading_a,
        explicit=(small(1, 1, cross=[1]), TWO, small(2, 1, keep=8, cross=ONES), {**TWO, "keep_w": [7, 7]}),
        corrected=BEST,
        notes="True for $n = d = 1$. With all entries of $\\nabla^2_{\\lambda w}G$ equal to $C_G$ and $G = "
        "\\frac{\\mu}{2}\\|w\\|^2 + \\dots$ it fails as soon as $\\sqrt{nd}\\,p_\\lambda p_w > 1$ (equal "
        "probabilities): an entry-wise constant bounds a Frobenius norm only with the number of entries. See "
        "@a-weak-coupling for when it holds.",
    ),
    reading(
        "a-weak-coupling",
        "The bound of the first reading where few coordinates are kept",
        r"$$\|p_\lambda\|^2\, p_{\min}\textstyle\sum_j p_{w,j} \le 1 \;\Rightarrow\; \|J(w(\lambda))\|_F \le "
        r"\frac{C_G}{p_{\min}\mu}$$",
        reading_a,
        hypotheses=(
            *HYPOTHESES,
            Hypothesis(
                "weak coupling", r"\|p_\lambda\|^2\,p_{\min}\textstyle\sum_jp_{w,j} \le 1", _weakly_coupled
            ),
        ),
        explicit=(small(1, 1, keep=8, cross=[1]), small(2, 2, cross=[1] * 4)),
        controls=(
            *BREAKERS,
            Control("strong coupling", params=TWO),
            Control(
                "p_max for p_min",
                kind="formula",
                measure=norm(lambda g: (g.C / (max(kept(g)[1]) * g.mu)) ** 2),
                params={**TWO, "keep_w": [1, 8]},
            ),
        ),
        equality=Equality(params=small(1, 1, keep=8, cross=[1]), reaches=1.0),
        notes="The weighted bound over $\\sqrt{p_{\\min}}$; for equal probabilities the hypothesis is "
        "$\\sqrt{nd}\\,p_\\lambda p_w \\le 1$, and then it is necessary too (@a's counterexample). Equality: $n = d "
        "= 1$ without dropout.",
    ),
    reading(
        "b",
        "As read with the number of entries: true, and too large",
        r"\|J(w(\lambda))\|_F \le \frac{\sqrt{nd}\,C_G}{p_{\min}\mu}",
        reading_b,
        explicit=(small(1, 1, keep=8, cross=[1]), TWO, ATTAINED),
        controls=(
            *BREAKERS,
            Control(
                "√d for √(nd)",
                kind="formula",
                measure=norm(lambda g: reading_b(g) / g.n),
                params=small(2, 1, keep=8, cross=ONES),
            ),
            Control("√n for √(nd)", kind="formula", measure=norm(lambda g: g.n * reading_a(g)), params=TWO),
        ),
        equality=Equality(params=small(2, 2, keep=8, cross=[1] * 4), reaches=1.0),
        notes="Implied by @best and attained only without dropout: $\\|p_\\lambda\\| \\le \\sqrt n$ and $\\sum "
        "p_w/p_{\\min} \\le d/p_{\\min}$, so it exceeds the truth by at least $1/(\\sqrt{p_{\\min}}\\max "
        "p_\\lambda)$.",
    ),
    reading(
        "c",
        "As the text stands: the Jacobian is at most the largest second derivative",
        r"\|J(w(\lambda))\|_F \le C_G",
        reading_c,
        explicit=(
            small(1, 1, cross=[1]),
            {**small(1, 1, keep=8, cross=[2]), "mu": "1/2"},
            {**small(1, 1, cross=[2]), "mu": "1/2"},
        ),
        corrected=BEST,
        notes="Not even invariant under $G \\to tG$, which changes $C_G$ and not $w(\\lambda)$: $G = \\frac{1}{4}w^2 "
        "+ 2\\lambda w$ has $J = -4p_\\lambda$, $C_G = 2$.",
    ),
)
