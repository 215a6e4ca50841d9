"""Lemma 1 corrected: the exact variance of the masked Hessian, and two bounds; proofs in ``_hessian_variance``."""

from __future__ import annotations

from verification.claims.dropout_bilevel._bounds import BOUNDED, CONVEX, GROUPS, wave, waves
from verification.claims.dropout_bilevel._hessian_variance import (
    chances,
    constant,
    decomposed,
    printed,
    total,
    variance_given_both,
    varying,
)
from verification.model import Budget, Claim, Control, Equality, identity

HALF = {"n": 0, "d": 1, "keep_w": [4]}
SHARED = {"n": 2, "d": 1, "keep_lam": [4], "keep_w": [4], "groups_lam": [0, 0], "ll": [0, 1], "cross": [1, 1]}
# G = c(λ_1 + λ_2 + λ_3) + (λ_1 + λ_2 + λ_3)w + w²/2 at λ = (1, 1, 1), w always kept: every |∂²_ijG| is C_G = 1
WAVING = {
    "n": 3,
    "d": 1,
    "keep_lam": [4, 4, 4],
    "keep_w": [8],
    "cross": [1, 1, 1],
    "u": [1, 1, 1, 0],
    "a": 1,
    "W": [2, 2, 2, 0],
}
ODD = {**WAVING, "n": 2, "keep_lam": [5, 3], "u": [1, 1, 0], "W": [2, 1, 0]}
SOURCE = "dropout-bilevel, lemma 1, (14)"
WHERE = (
    r"with $X = M\nabla^2G(MW)M$ and $q_{ij} = E[m_im_j]$: $p_ip_j$ for different mask variables, $p_i$ for $i = j$ "
    r"or one variable"
)

CLAIMS = (
    Claim(
        id="dropout-bilevel/lemma-1@identity",
        title="The variance of the masked Hessian, exactly",
        source=SOURCE + "; corrected form derived here",
        statement=r"$$\operatorname{Var}X_{ij} = q_{ij}(1-q_{ij})\,\bar h_{ij}^2 + q_{ij}V_{ij}$$ "
        + WHERE
        + r"; $\bar h_{ij}$, "
        r"$V_{ij}$ mean and variance of $\partial^2_{ij}G(MW)$ given $m_i = m_j = 1$",
        strategy=waves((0, 2), **GROUPS),
        explicit=(HALF, SHARED, ODD, WAVING),
        build=wave,
        measure=lambda g: identity(g.variances, decomposed(g)),
        grade="proved",
        controls=(
            Control(
                "V dropped",
                kind="formula",
                measure=lambda g: identity(g.variances, decomposed(g, within=False)),
            ),
            Control(
                "p_i p_j also for i = j",
                kind="formula",
                measure=lambda g: identity(g.variances, decomposed(g, chance=lambda g: g.p[:, None] * g.p)),
            ),
        ),
        budget=Budget(quick=80, full=1000),
        notes="The law of total variance over the event that both coordinates are kept. Constant Hessian: $V = 0$, "
        "and the sum is $\\sum q_{ij}(1-q_{ij})H_{ij}^2$.",
    ),
    Claim(
        id="dropout-bilevel/lemma-1@corrected",
        title="The variance of the masked Hessian by constants of G",
        source=SOURCE + "; corrected form derived here",
        statement=r"$$E\|X - EX\|_F^2 \le \sum_{i,j}\big[q_{ij}(1-q_{ij})C_G^2 + q_{ij}^2V_{ij}\big],$$ $$V_{ij} = "
        r"\min\{C_G^2,\ \sum_{k \ne g(i),g(j)}p_k(1-p_k)\min(4C_G^2, L_k^2\|W_{(k)}\|^2)\}$$ "
        + WHERE
        + "; k runs over "
        r"mask variables with coordinates $W_{(k)}$, $L_k$ is the Lipschitz modulus of $\partial^2_{ij}G$ in them",
        hypotheses=(CONVEX, BOUNDED),
        strategy=waves((0, 2), **GROUPS),
        explicit=(HALF, SHARED, ODD, WAVING),
        build=wave,
        measure=total(varying),
        grade="proved",
        controls=(
            Control("C_G halved", params={**HALF, "understated": 2}),
            Control("V dropped", kind="formula", measure=total(constant)),
            Control("as printed", kind="formula", measure=total(printed)),
            Control(
                "V with p² for p(1−p)",
                kind="formula",
                measure=total(
                    lambda g: constant(g) + g.together**2 * variance_given_both(g) * (1 - g.together)
                ),
            ),
        ),
        equality=Equality(params=WAVING, reaches=1.0),
        budget=Budget(quick=80, full=1000),
        notes="Equality: all $|\\partial^2_{ij}G| = C_G$ where kept, with $V = C_G^2$ in the entries of λ (three "
        "masks of ½ balance the sign) and 0 in those of w; also $\\frac{1}{2}w^2$. For constant Hessians every "
        "$V_{ij} = 0$.",
    ),
    Claim(
        id="dropout-bilevel/lemma-1@chances",
        title="The variance of the masked Hessian without smoothness",
        source=SOURCE + "; corrected form derived here",
        statement=r"$$E\|X - EX\|_F^2 \le C_G^2\sum_{i,j}q_{ij} = C_G^2\,E\big(\textstyle\sum_im_i\big)^2$$ "
        + WHERE,
        hypotheses=(CONVEX, BOUNDED),
        strategy=waves((0, 2), **GROUPS),
        explicit=(HALF, SHARED, WAVING),
        build=wave,
        measure=total(chances),
        grade="proved",
        controls=(
            Control("C_G halved", params={**WAVING, "understated": 2}),
            Control(
                "q² for q",
                kind="formula",
                measure=total(lambda g: g.together * chances(g)),
                params=WAVING,
            ),
            Control(
                "p_i p_j also for i = j",
                kind="formula",
                measure=total(lambda g: g.p[:, None] * g.p * g.C**2),
                params={**WAVING, "n": 0, "d": 1, "keep_lam": [], "keep_w": [2], "u": [0], "W": [0]},
            ),
        ),
        equality=Equality(params={**WAVING, "parts": 64, "keep_lam": [32] * 3, "keep_w": [1]}, reaches=0.999),
        budget=Budget(quick=80, full=1000),
        notes="No bound below it holds for all G: entries of λ attain it (three masks of ½ balance the sign of "
        "each), and those of w in the limit $p_w \\to 0$, the equality case. In general "
        "$\\sup\\operatorname{Var}X_{ij} = C_G^2\\,q_{ij}(1 - q_{ij}\\tau^2)$, $\\tau$ the least $|E[\\pm1 \\mid m_i "
        "= m_j = 1]|$ over signs chosen by the other masks.",
    ),
)
