r"""What one draw of masks or data, used twice in one iteration, does to the direction d and to the limit of λ.

Quadratic levels, no projection; the draw s gives the cross derivative C_s (n × d), the Hessian H_s and the gradient
g_s(λ, w) = H_s w + C_sᵀλ + a_s of the lower level; bars are means. Reading @a puts v⁺ = v + β(F̄_ww w⁺ + … − H_s v) and
w⁺ = w − γ g_s into h = ∇_λF − C_s v⁺, and (λ, w, v) are independent of s, so exactly

    E h − h̄(λ, Ew⁺, Ev⁺) = −(E[C_s v⁺] − C̄ E v⁺) = β E[(C_s−C̄)(H_s−H̄)] v + βγ E[(C_s−C̄) F̄_ww g_s].         (1)

For masks of one sample m m = m gives E[(C_s−C̄)(H_s−H̄)] = P_λ C (I−P) H̄, groups included (m_w m_w H m_w = m_w H m_w).
Upper masks enter h additively and C_s carries lower masks only: sharing them changes no mean. In the w- and v-steps no
product of two quantities of one draw occurs, and C_s does not depend on w: sharing there changes no mean either. (Where
∇²_λwG depends on w, Ĉ holds w⁺, and a draw that the w- and v-steps share correlates Ĉ(w⁺) with v⁺: it does.) Reading @b
has v in place of v⁺, which is independent of s, and the bias is 0 where ∇²_λwG does not depend on w.

Momentum: let e = d − h̄(λ_prev, w, v). The subtracted h is taken at points independent of s, so
E e⁺ = (1−η) E e + b, with b the right side of (1): e accumulates b/η. At a fixed point of the means d = 0, w = w(λ),
v = v(λ) and ∇F̄(λ) = −b/η: with β_k = βα_k, η_k = ηα_k the first term of b/η is (β/η) P_λ C (I−P) ∇_wF̄, free of α.
No step size removes it; β_k/η_k → 0 does, and so does an own draw for C_s.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from verification.claims.dropout_bilevel._bias import (
    at_the_limit,
    is_where_stated,
    one_step_bias,
    settles,
    stays_away,
    watched_model,
)
from verification.claims.dropout_bilevel._descent import masked_model, random_problems
from verification.model import Budget, Claim, Control, Correction

SOURCE = "dropout-bilevel, Algorithm 1, lines 7, 9 and 10"
LINE = {"kind": "line", "seed": 0}
HALF = {**LINE, "keep_lam": [1, 1], "keep_w": [1, 2]}
MEANS = "Means are exact: transition matrices of the algorithm's own step, over the rationals. "
NOT_REMOVED = (
    "The first term does not contain the step size α: it is removed by an own draw for the cross derivative "
    "(randomness fresh-cross), by $\\beta_k/\\eta_k \\to 0$ and, for these quadratics, by reading @b; not by "
    "$\\delta \\to 0$. "
)


def point(n: int, d: int, seed: int = 0, **more: Any) -> dict[str, Any]:
    """Parameters of a random problem, everything kept with probability ½."""
    return {"n": n, "d": d, "seed": seed, "bent": 1, "keep_lam": [1, 2], "keep_w": [1, 2], **more}


SMALL = (point(1, 1), point(1, 1, 2), point(1, 2), point(2, 1))
CLAIMS = (
    Claim(
        id="dropout-bilevel/shared-mask-bias",
        title="What one step of line h is biased by when v⁺ and the cross derivative share their masks",
        source=SOURCE + ", reading @a",
        statement=r"$$E[\hat Cv^+] - \bar C\,E[v^+] = -\beta P_\lambda C(I-P)\bar Hv - \beta\gamma\,E[(\hat "
        r"C - \bar C)\nabla^2_{ww}\bar F\,\hat g]$$ with $C = \nabla^2_{\lambda w}G$ constant, $\hat C = "
        r"m_\lambda Cm_w$, $\hat g = m_w\nabla_wG(m_\lambda\lambda, m_ww)$, $P = E\,m_w$",
        strategy=random_problems(),
        explicit=SMALL,
        build=masked_model,
        measure=one_step_bias(),
        grade="proved",
        controls=(
            Control("no bias", kind="formula", measure=one_step_bias("none")),
            Control("I for I−P", kind="formula", measure=one_step_bias("I for I−P")),
            Control("the term βγ dropped", kind="formula", measure=one_step_bias("first")),
            Control("sign", kind="formula", measure=one_step_bias("sign")),
            Control("own masks in Ĉ", kind="formula", measure=one_step_bias(randomness="fresh-cross")),
        ),
        budget=Budget(quick=25, full=500),
        notes=MEANS
        + "Left: every mask of both levels, at a random point (λ, w, v). $m_wm_w = m_w$ is all there is to "
        "the first term: $E[\\hat C\\hat H] = P_\\lambda C\\bar H$, while $\\bar C\\bar H = P_\\lambda "
        "CP\\bar H$. What $\\nabla_\\lambda F$ and the v-step share of the upper masks does not enter. In h "
        "the bias has the opposite sign.",
    ),
    Claim(
        id="dropout-bilevel/shared-mask-bias@old",
        title="With the v before, line h is unbiased although all masks are shared",
        source=SOURCE + ", reading @b",
        statement=r"E\left[\nabla_\lambda F - \hat Cv\right] = E\,\nabla_\lambda\bar F(\lambda, w^+) - \bar "
        r"Cv \text{ where } \nabla^2_{\lambda w}G \text{ is constant}",
        strategy=random_problems(),
        explicit=SMALL,
        build=masked_model,
        measure=one_step_bias("none", reading="old"),
        grade="proved",
        controls=(Control("v⁺ for v", kind="formula", measure=one_step_bias("none", reading="new")),),
        budget=Budget(quick=25, full=500),
        notes=MEANS + "v was made before this iteration's masks were drawn.",
    ),
    Claim(
        id="dropout-bilevel/shared-mask-bias@limit",
        title="Where λ settles when v⁺ and the cross derivative share their masks",
        source=SOURCE + ", reading @a; derived here",
        statement=r"$$E\lambda_k \to \lambda_\infty: \quad \nabla\bar F(\lambda_\infty) = -\frac\beta\eta "
        r"P_\lambda C(I-P)\nabla_w\bar F - \alpha\,\frac{\beta\gamma}\eta E[(\hat C-\bar C)\nabla^2_{ww}\bar "
        r"F\,\hat g]$$ for constant steps $\alpha, \gamma\alpha, \beta\alpha, \eta\alpha$, at "
        r"$(\lambda_\infty, w(\lambda_\infty))$",
        hypotheses=(settles(),),
        strategy=random_problems(),
        explicit=(*SMALL, HALF),
        build=watched_model,
        measure=at_the_limit(),
        grade="proved",
        controls=(
            Control("λ runs away", params={**HALF, "flat": 1}),
            Control("no bias", kind="formula", measure=at_the_limit("none")),
            Control("I for I−P", kind="formula", measure=at_the_limit("I for I−P")),
            Control("the term α dropped", kind="formula", measure=at_the_limit("first")),
            Control("sign", kind="formula", measure=at_the_limit("sign")),
            Control("own masks in Ĉ", kind="formula", measure=at_the_limit(randomness="fresh-cross")),
        ),
        budget=Budget(quick=8, full=150),
        notes=MEANS + NOT_REMOVED + "As $\\alpha \\to 0$ the second term goes.",
    ),
    Claim(
        id="dropout-bilevel/theorem-2@shared-new",
        title="Masks shared as printed, h at v⁺: the hypergradient tends to zero",
        source="dropout-bilevel, Theorem 2 for $\\nabla\\bar F$, line h read @a",
        statement=r"E\|\nabla\bar F(\lambda_k)\|^2 \to 0 \text{ for Algorithm 1 with one draw of masks per "
        r"iteration}",
        printed=r"h(\lambda_k, w_{k+1}, v_{k+1}) \text{ with the masks } m_\lambda, m_w \text{ that made } v_{k+1}",
        strategy=random_problems(
            bent=(0,),
            n=st.just(1),
            ratio=st.sampled_from([[1, 1], [1, 2], [2, 1]]),
            steps=st.integers(1, 2),
        ),
        explicit=({**HALF, "steps": 6},),
        build=masked_model,
        measure=stays_away,
        grade="proved",
        corrected=Correction(
            tex=r"E\nabla\bar F(\lambda_k) \to \nabla\bar F(\lambda_\infty) = -\tfrac\beta\eta P_\lambda "
            r"C(I-P)\nabla_w\bar F, \quad \text{so } \liminf E\|\nabla\bar F(\lambda_k)\|^2 \ge \|\nabla\bar "
            r"F(\lambda_\infty)\|^2",
            measure=is_where_stated,
            proof="$G = w^2/2 - \\lambda w$, $F = w + \\lambda^2/2$, w kept with probability p on both "
            "levels, $\\beta = \\eta = 1/\\delta$: $\\nabla\\bar F = p + \\lambda$. From $\\lambda_0 = "
            "-p^2$, $v_0 = 1$: $E h(x_k) = E\\lambda_k + p\\,E v_k - \\beta_kp(1-p)$ (bias), so $E d = 0$ in "
            "the first iteration ($\\eta_0 = 1$), and by induction $E d_k = (\\eta_{k-1} - "
            "\\beta_{k-1})p(1-p) = 0$ and $E\\lambda_k = -p^2$ for every k, whatever $\\gamma$ and δ: "
            "$E\\|\\nabla\\bar F(\\lambda_k)\\|^2 \\ge (p-p^2)^2 = 1/16$ at p = ½. Line 8 changes nothing "
            "for $r \\ge 1 \\ge |v_0|$: in $mv^+$ it never acts, $s_k = d_{k+1} - \\lambda_k$ obeys $s_k = "
            "(1-\\eta_k)s_{k-1} + \\eta_km\\bar m$, and $\\lambda_k$ stays in [−1, 0], so that outside F may "
            "be continued with bounded gradient, and the assumptions hold (3 (i) for ∇G).",
        ),
        budget=Budget(quick=6, full=100),
        notes=MEANS
        + "Executed: $E\\nabla\\bar F(\\lambda_k)$ under $\\alpha_k = 1/\\sqrt{k+1}$, started at rest, F "
        "affine in w; "
        "by Jensen its square is a lower bound. " + NOT_REMOVED,
    ),
    Claim(
        id="dropout-bilevel/theorem-2@shared-old",
        title="Masks shared as printed, h at the v before: the mean settles at a stationary point",
        source="dropout-bilevel, Theorem 2 for $\\nabla\\bar F$, line h read @b",
        statement=r"E\lambda_k \to \lambda_\infty \text{ with } \nabla\bar F(\lambda_\infty) = 0 \text{ for constant "
        r"steps, where } \nabla^2_{\lambda w}G \text{ is constant}",
        hypotheses=(settles(reading="old"),),
        strategy=random_problems(),
        explicit=(*SMALL, HALF),
        build=watched_model,
        measure=at_the_limit("none", reading="old"),
        grade="proved",
        controls=(
            Control("λ runs away", params={**HALF, "flat": 1}),
            Control("v⁺ for v", kind="formula", measure=at_the_limit("none", reading="new")),
        ),
        budget=Budget(quick=8, full=150),
        notes=MEANS
        + "Steps $\\alpha_k = \\delta$. For the mean squares under $\\alpha_k = \\delta/\\sqrt{k+1}$ see "
        "@shared-old-bound. With a cross derivative that depends on w a bias γ/η stays: "
        "@shared-old-varying.",
    ),
)
