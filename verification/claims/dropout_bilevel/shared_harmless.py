r"""What else is shared: one training sample instead of masks, the upper level's masks, those of the w- and v-steps.

The formulas are derived in ``shared_draws``: with a cross derivative that does not depend on w, only a draw that
stands in Ĉ and has made v⁺ or w⁺ gives a bias.
"""

from __future__ import annotations

from hypothesis import strategies as st

from verification.claims.dropout_bilevel._bias import own_draws_apart, same_means, same_next, settles
from verification.claims.dropout_bilevel._descent import masked_model, random_problems
from verification.claims.dropout_bilevel._one_sample import sample_limit, samples
from verification.claims.dropout_bilevel.shared_draws import MEANS, SOURCE, point
from verification.model import Budget, Claim, Control

SEVERAL = st.fixed_dictionaries(
    {
        "n": st.integers(1, 2),
        "d": st.integers(1, 2),
        "N": st.integers(1, 2),
        "seed": st.integers(0, 999),
        "bent": st.integers(0, 1),
    }
)
ONE_SAMPLE = {"n": 1, "d": 1, "N": 1, "seed": 0, "line": 1}
TWO_SAMPLES = tuple({"n": n, "d": d, "N": 2, "seed": 3, "bent": 1} for n, d in ((1, 1), (1, 2), (2, 2)))

BENT = {"kind": "bent", "keep_lam": [1, 1], "keep_w": [1, 2], "only_lower": 1}

CLAIMS = (
    Claim(
        id="dropout-bilevel/one-shared-sample",
        title="FSLA without dropout: one training sample per iteration leaves a bias",
        source=SOURCE + ", every keep probability 1",
        statement=r"$$\nabla f(\lambda_\infty) = -\frac\beta\eta E[(C_\xi - C)(H_\xi - H)]\,v - "
        r"\alpha\,\frac{\beta\gamma}\eta E[(C_\xi - C)\nabla^2_{ww}F\,g_\xi]$$ for one ξ per iteration, "
        r"$C_\xi, H_\xi, g_\xi$ the sample's cross derivative, Hessian and gradient, $f(\lambda) = "
        r"F(\lambda, w(\lambda))$",
        hypotheses=(settles(lower_batch=1),),
        strategy=SEVERAL,
        explicit=(ONE_SAMPLE, *TWO_SAMPLES),
        build=samples,
        measure=sample_limit(),
        grade="proved",
        controls=(
            Control("λ runs away", params={**ONE_SAMPLE, "flat": 1}),
            Control("no bias", kind="formula", measure=sample_limit("none")),
            Control("sign", kind="formula", measure=sample_limit("sign")),
            Control("the term α dropped", kind="formula", measure=sample_limit("first")),
            Control("an own sample in C_ξ", kind="formula", measure=sample_limit(randomness="fresh-cross")),
            Control("v for v⁺", kind="formula", measure=sample_limit(reading="old")),
        ),
        budget=Budget(quick=20, full=400),
        notes=MEANS
        + "Smallest: $G = h_\\xi w^2/2 - h_\\xi\\lambda w$ with $h_\\xi \\in \\{1/2, 3/2\\}$, $F = w + "
        "\\lambda^2/2$: $\\nabla f(\\lambda_\\infty) = \\beta/(4\\eta)$, that is $\\lambda_\\infty = -1 + "
        "\\beta/(4\\eta)$ for −1. So the printed algorithm is biased for p = 1 too, unless the cross "
        "derivative has a sample of its own, or the batch is full.",
    ),
    Claim(
        id="dropout-bilevel/upper-masks-harmless",
        title="Sharing the upper masks changes no mean",
        source=SOURCE,
        statement=r"E[x_{k+1} \mid x_k] \text{ is the same whether } \nabla_wF \text{ of line v and } "
        r"\nabla_\lambda F \text{ of line h share their masks or not, } x = (\lambda, w, v, d, \lambda_{k-1})",
        strategy=random_problems(
            n=st.just(1), d=st.integers(1, 2), only_upper=st.just(1), reading=st.sampled_from(["new", "old"])
        ),
        explicit=(point(1, 1, only_upper=1), point(1, 1, only_upper=1, reading="old")),
        build=masked_model,
        measure=same_means("shared", "fresh"),
        grade="proved",
        controls=(
            Control("second moments too", kind="formula", measure=same_means("shared", "fresh", second=True)),
            Control(
                "lower masks shared too",
                kind="formula",
                measure=same_means("shared", "fresh"),
                params=point(1, 1),
            ),
        ),
        budget=Budget(quick=20, full=300),
        notes=MEANS
        + "Line h is the sum of a term of upper masks and of $\\hat Cv^+$, whose Ĉ has lower masks only; so "
        "sharing upper masks changes variances, not means. See @lower for the w- and v-steps.",
    ),
    Claim(
        id="dropout-bilevel/upper-masks-harmless@lower",
        title="Where the cross derivative does not depend on w, it alone needs its own masks",
        source=SOURCE,
        statement=r"$E[x_{k+1} \mid x_k]$ does not change between randomness fresh-cross (own masks for the cross "
        r"derivative alone) and fresh (own masks for every use), where $\nabla^2_{\lambda w}G$ does not depend on $w$, "
        r"or line h is read @b",
        hypotheses=(own_draws_apart(),),
        strategy=random_problems(
            n=st.just(1), d=st.just(1), reading=st.sampled_from(["new", "old"]), keep_lam=st.just([1, 1])
        ),
        explicit=(
            point(1, 1),
            point(1, 1, reading="old", keep_lam=[1, 1]),
            {**BENT, "reading": "old"},
        ),
        build=masked_model,
        measure=same_next("fresh-cross", "fresh"),
        grade="proved",
        controls=(
            Control("∇²_λwG depends on w, h at v⁺", params=BENT),
            Control(
                "second moments too",
                kind="formula",
                measure=same_means("fresh-cross", "fresh", second=True),
                params=point(1, 1),
            ),
            Control(
                "the cross derivative's shared too", kind="formula", measure=same_next("shared", "fresh")
            ),
        ),
        budget=Budget(quick=8, full=100),
        notes="Every mask is enumerated in one iteration of the algorithm itself; for quadratic levels the states "
        "tried decide all. The Hessian of line v is taken at $w_k$ and multiplies $v_k$, both older than the masks. "
        "Line h holds $\\hat C(w^+)v^+$: with $\\nabla^2_{\\lambda w}G$ constant the own draw of Ĉ is all that counts, "
        "else the draw that made $w^+$ and $v^+$ correlates them. Smallest: $G = w^2 - w + \\lambda w^2/4$, $F = w + "
        "\\lambda^2/2$, w kept with probability ½ below, λ = 0, w = v = 1, $\\alpha = 1/8$, $\\gamma = \\beta = 1$: "
        "$E d^+ = -15/64$ for fresh, $-121/512$ for fresh-cross.",
    ),
)
