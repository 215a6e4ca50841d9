r"""The conclusion, that other methods "can also be adapted": contraction's table 1 on dropout problems, in rationals.

Every level is an expectation over masks (and data), and a draw is a mask (and a minibatch). With draws of their own for
every use nothing of the analysis without dropout changes: the means settle at the stationary point of the dropout
problem. With one lower draw for all uses in an iteration, Z_s = (1/L)Σ_{i<K}(I − H_s/L)^i, s the draw, w = w(λ) and
w_s = w − β g_s(λ, w):

    estimates by PROD and SUM, w moved first (TTSA, ALSET, stocBiO):   ∇_λF = E[C_s Z_s ∇_wF(λ, w_s)]
    both moved from the old point (SMB, saBiAdam, SUSTAIN, MRBO …):    ∇_λF = E[C_s Z_s] ∇_wF
    one step on v (ALSET†, AmIGO with N = 1), v = H̄⁻¹∇_wF:             ∇_λF = C̄v − γ E[C_s(H_s v − ∇_wF(λ, w_s))]

E[C_s Z_s] ≠ C̄ Z̄ whatever the steps: PROD and SUM need independent masks in their factors and in the cross derivative.
One step on v is off by O(γ).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from refimpl.problem import BilevelProblem
from refimpl.zoo import quadratic
from verification.claims._algorithms import RATIONAL
from verification.claims._limits import SETTLES, settled, stated
from verification.claims.dropout_bilevel._adapts import (
    ONE_STEP,
    SEQUENTIAL,
    SIMULTANEOUS,
    Masked,
    masked,
    one_over_L,
    series,
)
from verification.claims.dropout_bilevel._masks import PARTS
from verification.model import Budget, Claim, Control, Correction, Hypothesis, Measurement, identity

AFFINE = ("bsa", *SEQUENTIAL, *SIMULTANEOUS, *ONE_STEP, "alset-dagger-det", "bsgm", "fsla", "vrbo")
SHARING = (*SIMULTANEOUS, *SEQUENTIAL, *ONE_STEP)


# -- fresh draws ----------------------------------------------------------------------------------------------------


def without_dropout(case: Masked) -> Measurement:
    """The limit against the stationary point of the problem without masks."""
    limit = case.own.limit(RATIONAL)
    plain = Masked(case.slug, case.algorithm, case.plain, case.params, case.law)
    point = stated(plain)
    return identity([*limit["lam"], *limit["w"]], [*point["lam"], *point["w"]])


# -- one draw for all uses ------------------------------------------------------------------------------------------


def limit_of_one_draw(case: Masked, wrong: str = "") -> tuple[Array, Array]:
    """λ and w by the formulas above; "apart": a cross derivative with a mask of its own."""
    M, F, step, terms = case.levels, case.problem.upper, one_over_L(), case.params["terms"]

    def h(lam: Array) -> Array:
        w = M.w(lam)
        if case.slug in ONE_STEP:
            v, gamma = M.v(lam, w), RATIONAL.scalar(case.algorithm.gamma(0))

            def off(C: Array, H: Array, m: Array, k: Array) -> Array:
                return C @ (H @ v - F.grad_w(lam, case.w_after(m, k, lam, w)))

            return F.grad_lam(lam, w) - M.C @ v + gamma * case.under_masks(off)

        def indirect(C: Array, H: Array, m: Array, k: Array) -> Array:
            at = case.w_after(m, k, lam, w) if case.slug in SEQUENTIAL else w
            return (M.C if wrong == "apart" else C) @ (series(H, terms, step) @ F.grad_w(lam, at))

        return F.grad_lam(lam, w) - case.under_masks(indirect)

    lam = M.zero(h)
    return lam, M.w(lam)


def one_draw(wrong: str = "printed") -> Callable[[Masked], Measurement]:
    """The limit of the means with one lower draw against the formulas; "printed": against the stationary point."""

    def measure(case: Masked) -> Measurement:
        limit = case.under_one_draw().limit(RATIONAL)
        point = stated(case)
        lam, w = (point["lam"], point["w"]) if wrong == "printed" else limit_of_one_draw(case, wrong)
        return identity([*limit["lam"], *limit["w"]], [*lam, *w], detail={"algorithm": case.slug})

    return measure


def error(case: Masked) -> Array:
    """How far from the stationary point λ settles with one lower draw."""
    return case.under_one_draw().limit(RATIONAL)["lam"] - stated(case)["lam"]


def scalar(p: dict[str, Any]) -> Masked:
    """G = ½hw² + cλw, F = bw + ½aλ², coefficients in halves, w kept with probability ``keep_w``."""
    case = masked({**line(p["slug"]), **p})
    h, c, a, b = (p.get(name, 2) / 2 for name in "hcab")
    lower, upper = quadratic.objective(ww=[[h]], lw=[[c]]), quadratic.objective(ww=[[0]], ll=[[a]], w1=[b])
    problem = BilevelProblem(upper, lower).to(RATIONAL).with_dropout(lower=case.law.level, upper=None)
    return replace(case, problem=problem)


def first_order(wrong: str = "") -> Callable[[Masked], Measurement]:
    """The error against −γ(1 − p)bc/a."""

    def measure(case: Masked) -> Measurement:
        c, a, b = (RATIONAL.scalar(case.params.get(name, 2) / 2) for name in "cab")
        p, gamma = (RATIONAL.scalar(x) for x in (case.law.keep_w[0], case.algorithm.gamma(0)))
        share = {"p": gamma * p, "bias": 1 - p}.get(wrong, gamma * (1 - p))
        stated_error = -share * (gamma if wrong == "γ²" else 1) * b * c / a
        return identity(error(case), [stated_error], detail={"algorithm": case.slug})

    return measure


def _one_step(case: Masked) -> tuple[bool, str]:
    steps = case.params["linear"]
    return case.slug in ONE_STEP and steps == 1, f"{case.slug}, N = {steps}"


# -- claims ---------------------------------------------------------------------------------------------------------


def line(slug: str, **more: Any) -> dict[str, Any]:
    """G = ½w² − λw, F = w + ½λ², w kept with probability ½."""
    return {**AT, "slug": slug, "simple": "line", **more}


AT = {
    "n": 1, "d": 1, "seed": 0, "terms": 2, "steps": 1, "linear": 1, "J": 1, "upper": 0,
    "keep_lam": [PARTS] * 2, "keep_w": [PARTS // 2] * 2, "groups_lam": [0, 0], "groups_w": [0, 0],
}  # fmt: skip


KEPT = {"slug": "amigo", "keep_w": [4, 4]}


def problems(slugs: tuple[str, ...], *, upper: tuple[int, ...] = (0,)) -> st.SearchStrategy[dict[str, Any]]:
    """Parameters of ``masked``: one mask variable of λ and one of w; none of λ and the upper level for VRBO."""

    def of(slug: str) -> st.SearchStrategy[dict[str, Any]]:
        light = slug == "vrbo"
        kept = st.integers(1, PARTS).map(lambda k: [k] * 2)
        return st.fixed_dictionaries(
            {
                **{name: st.just(value) for name, value in AT.items()},
                "slug": st.just(slug),
                "n": st.just(1) if light else st.integers(1, 2),
                "d": st.just(1) if light else st.integers(1, 2),
                "seed": st.integers(0, 999),
                "terms": st.integers(1, 2),
                "keep_lam": st.just([PARTS] * 2) if light else kept,
                "keep_w": kept,
                "upper": st.just(0) if light else st.sampled_from(upper),
            }
        )

    return st.sampled_from(slugs).flatmap(of)


SOURCE = "dropout-bilevel, conclusion; contraction, table 1"
MASKS = "Exact, from every mask that can be drawn. "
MEANS = "Means are exact, from the algorithms' own steps at every mask they can draw. "
LARGER = (
    "One draw has one mask for its whole minibatch: larger batches do not reduce the masks' noise (@batch), so that "
    "stocBiO, AmIGO and VRBO, whose complexity rests on batches O(1/ε), keep a floor here; each of BSGM's J draws has "
    "its own mask. "
)
CLAIMS = (
    Claim(
        id="dropout-bilevel/adapts",
        title="Other bilevel methods adapted to dropout: their means settle at the dropout problem's stationary point",
        source=SOURCE,
        statement=r"E\lambda_k \to \lambda^*,\; \nabla\bar F(\lambda^*) = 0, \text{ and with PROD}_K, \text{SUM}: "
        r"\nabla_\lambda\bar F = \bar C\,\tfrac1L\sum_{i<K}(I - \bar H/L)^i\,\nabla_w\bar F \text{ at } w(\lambda)",
        printed=r"\text{“other state-of-art bilevel methods can also be adapted”}",
        hypotheses=(SETTLES,),
        strategy=problems(AFFINE, upper=(0, 1)),
        explicit=tuple(line(slug) for slug in AFFINE),
        build=masked,
        measure=settled(),
        grade="proved",
        controls=(
            Control("λ runs away", params=line("ttsa", speed=512)),
            Control("the problem without masks", kind="formula", measure=without_dropout),
            Control("K + 1 terms", kind="formula", measure=settled("K + 1 terms")),
            Control("one lower draw for all uses", kind="formula", measure=one_draw(), params=line("ttsa")),
        ),
        budget=Budget(quick=8, full=150),
        notes=MEANS
        + "Constant steps, draws of their own for every use; BSA and BSGM with the ends of their loops in place "
        "of w(λ) and of the inverse. "
        + LARGER
        + "PROD and SUM need an L of the masked samples: @smoothness. STABLE and "
        "STABLE-VR invert masked Hessians, which are singular: @inverted. Noise floors: @run.",
    ),
    Claim(
        id="dropout-bilevel/adapts@shared",
        title="Other methods adapted as algorithm 1 is printed, with one draw of masks: they settle there too",
        source=SOURCE + "; Algorithm 1, lines 5 to 10",
        statement=r"E\lambda_k \to \lambda^* \text{ (truncated: } \lambda_K) \text{ with one lower draw per iteration}",
        printed=r"\text{line 4, once per iteration: “Generate random diagonal matrices } m^k_\lambda, m^k_w\text{”}",
        strategy=problems(SHARING),
        explicit=tuple(line(slug) for slug in SHARING),
        build=masked,
        measure=one_draw(),
        grade="proved",
        corrected=Correction(
            tex=r"\nabla_\lambda F = E[C_sZ_s\nabla_wF(\lambda, w_s)],\quad \text{SMB and its like: } E[C_sZ_s]"
            r"\nabla_wF,\quad \text{one step on } v: \bar Cv - \gamma E[C_s(H_sv - \nabla_wF(\lambda, w_s))]",
            measure=one_draw(""),
            proof="Take means of one iteration. $C_s$ and what is made with the same draw do not factorise. The w-step "
            "has no product of two quantities of one draw: w = w(λ). For G = ½w² − λw, F = w + ½λ², K = 2: "
            "$E[m(2 - m/L)] = p(2 - 1/L)$, not $p(2 - p/L)$. STORM and averages settle where the plain estimate does.",
        ),
        controls=(
            Control(
                "the cross derivative apart", kind="formula", measure=one_draw("apart"), params=line("smb")
            ),
        ),
        budget=Budget(quick=6, full=120),
        notes=MEANS
        + "Constant steps. FSLA: dropout-bilevel/shared-mask-bias. K = 1 needs no factor and is not biased.",
    ),
    Claim(
        id="dropout-bilevel/adapts@one-step",
        title="One draw of masks per iteration: with one step on v the error is proportional to that step",
        source=SOURCE,
        statement=r"G = \tfrac h2w^2 + c\lambda w,\; F = bw + \tfrac a2\lambda^2:\quad \lambda_\infty - \lambda^* = "
        r"-\gamma(1 - p)\tfrac{bc}a \text{ for ALSET† and AmIGO with } N = 1",
        hypotheses=(Hypothesis("one step on v", r"N = 1", _one_step),),
        strategy=st.fixed_dictionaries(
            {
                "slug": st.sampled_from(ONE_STEP),
                "keep_w": st.integers(1, PARTS).map(lambda k: [k] * 2),
                "slower": st.sampled_from([1, 2, 8, 64]),
                "h": st.integers(1, 6),
                **{name: st.sampled_from([-3, -2, -1, 1, 2, 3]) for name in "cb"},
                "a": st.integers(1, 6),
            }
        ),
        explicit=tuple({"slug": slug} for slug in ONE_STEP),
        build=scalar,
        measure=first_order(),
        grade="proved",
        controls=(
            Control("two steps on v", params={"slug": "amigo", "linear": 2}),
            Control(
                "p for 1 − p", kind="formula", measure=first_order("p"), params={**KEPT, "keep_w": [2, 2]}
            ),
            Control("γ² for γ", kind="formula", measure=first_order("γ²"), params=KEPT),
            Control("whatever γ is", kind="formula", measure=first_order("bias"), params=KEPT),
        ),
        budget=Budget(quick=4, full=60),
        notes=MEANS
        + "So it vanishes with the steps. PROD and SUM are biased inside their estimate: on the same problem with "
        "K = 2 no step size changes their error, 1/36. With more steps on v at constant γ it does not vanish either. "
        "Where F bends, and with n, d ≤ 2, the formula of @shared is exact; there the step on w adds a second order.",
    ),
)
