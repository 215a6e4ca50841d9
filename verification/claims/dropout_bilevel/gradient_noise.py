"""Remark 1, the variance of the lower-level step; formulas and proofs in ``_gradient_noise``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from verification.claims.dropout_bilevel._bounds import SHARES, uniform
from verification.claims.dropout_bilevel._gradient_noise import Noise, instances, noise
from verification.claims.dropout_bilevel._masks import RATIONAL
from verification.model import Budget, Claim, Control, Correction, Hypothesis, Measurement, identity


def variance(g: Noise) -> Any:
    """The whole variance, literally."""
    return sum(g.literal)


def proportional(g: Noise) -> Measurement:
    """V = p V(1), one p for all of w, λ not masked."""
    return identity(variance(g), g.p[1][0] * variance(g.whole))


def smaller(g: Noise) -> Measurement:
    """V <= V(1)."""
    return Measurement(observed=variance(g), bound=variance(g.whole))


def curve(g: Noise) -> dict[str, Any]:
    """The variance as one keep probability of w varies, and the line to its value without dropout."""
    kept = [replace(g, law=replace(g.law, keep_w=uniform(g.law, p).keep_w)) for p in SHARES]
    return {
        "x": SHARES,
        "predicted": [p * float(variance(g.whole)) for p in SHARES],
        "measured": [variance(place) for place in kept],
        "xlabel": "keep probability",
        "ylabel": "variance of the masked gradient",
    }


def formula(
    within: bool = True, library: bool = True, data: bool = True, mask: bool = True
) -> Callable[[Noise], Measurement]:
    """Both parts against the literal sums, their sum against the library's."""

    def measure(g: Noise) -> Measurement:
        zero = RATIONAL.scalar(0)
        closed = [g.mask_part(within) if mask else zero, g.data_part(within) if data else zero]
        literal = list(g.literal)
        if library:
            closed, literal = [*closed, sum(closed)], [*literal, g.library]
        return identity(closed, literal)

    return measure


def additive(power: int = 1) -> Callable[[Noise], Measurement]:
    """The data part against Σ p_i E(c_ξ − c̄)_i²."""

    def measure(g: Noise) -> Measurement:
        return identity(g.literal[1], (g.p[1] ** power * (g.c - g.mean[2]) ** 2).sum() / len(g.c))

    return measure


def at_solution(without: str = "") -> Callable[[Noise], Measurement]:
    """The mask part at w(λ) against Σ_i p_i o_i, with or without the masks of λ or of w."""

    def measure(g: Noise) -> Measurement:
        still = (
            replace(g, lam=0 * g.lam) if without == "λ" else replace(g, w=0 * g.w) if without == "w" else g
        )
        return identity(g.literal[0], (g.p[1] * still.moments(*g.mean)[1]).sum())

    return measure


def _uniform(g: Noise) -> tuple[bool, list[float]]:
    return len(set(g.law.keep_w)) == 1 and set(g.law.keep_lam) <= {1}, [float(p) for p in g.law.keep_w]


def _additive(g: Noise) -> tuple[bool, float]:
    spread = max((abs(x - x[:1]).max() for x in (g.H, g.K) if x.size), default=0)
    return spread == 0, float(spread)


def _solved(g: Noise) -> tuple[bool, float]:
    off = max(abs(g.moments(*g.mean)[0]))
    return off == 0, float(off)


UNIFORM = Hypothesis("one p for w, λ kept", r"p_{w,i} = p,\ p_\lambda = 1", _uniform)
ADDITIVE = Hypothesis("additive noise", r"\nabla^2G(\cdot;\xi) \text{ the same for all } \xi", _additive)
SOLVED = Hypothesis("at the solution", r"w = w(\lambda)", _solved)
LINE = {
    "n": 0,
    "d": 1,
    "keep_w": [4],
    "H": [[1]],
    "K": [],
    "c": [0],
    "lam": [],
    "w": [1],
}  # G = w²/2 at w = 1
PLANE = {
    "n": 0,
    "d": 2,
    "keep_w": [4, 4],
    "H": [[2, 1], [1, 2]],
    "K": [],
    "c": [-3, 0],
    "lam": [],
    "w": [1, 0],
}


SAME: dict[str, Any] = {"keep_w": st.integers(1, 8).map(lambda k: [k] * 3), "keep_lam": st.just([8] * 3)}
TWO = {"n": 1, "d": 2, "samples": 2, "seed": 3, "keep_w": [4, 6], "keep_lam": [2]}
EXACT = Correction(
    tex=r"$$V = \sum_ip_i\Sigma_{ii} + \sum_i\big[p_i(1-p_i)a_i^2 + p_io_i\big]$$ for additive noise of covariance "
    r"$\Sigma$: $a_i = E[(\nabla_wG(MW))_i \mid m_i = 1]$, $o_i = \sum_{j \ne "
    r"i}p_j(1-p_j)(\partial^2_{ij}G)^2W_j^2$, j over the coordinates of λ and w; only the first sum is linear",
    measure=formula(),
    proof="Total variance over ξ given M. Entry i is $m_i$ times a number that given $m_i = 1$ has mean $a_i$ and "
    "variance $o_i$, a sum over independent masks. For noise in the Hessian the first sum has the same form in "
    "$H_\\xi - \\bar H$.",
)


def remark(id: str, title: str, statement: str, **fields: Any) -> Claim:
    """One claim about the variance."""
    return Claim(
        id=f"dropout-bilevel/remark-1{id}",
        title=title,
        source="dropout-bilevel, remark 1",
        statement=statement,
        build=noise,
        grade="proved",
        **{"strategy": instances(), "budget": Budget(quick=60, full=800), **fields},
    )


PRINTED = r"\text{the variance term in (15) decreases linearly with the maximum dropout rate}"
CLAIMS = (
    remark(
        "",
        "As printed: the gradient's variance falls linearly with the keep probability",
        r"V(p) = p\,V(1),\qquad V(p) = E\big\|m_w\nabla_wG(\lambda, m_ww;\xi) - \nabla_w\bar G(\lambda, w)\big\|^2,\ "
        r"m_w \sim \operatorname{Bernoulli}(p)",
        printed=PRINTED,
        hypotheses=(UNIFORM,),
        strategy=instances(**SAME),
        explicit=({**LINE, "keep_w": [8]}, LINE, PLANE, {**PLANE, "solution": True}),
        measure=proportional,
        curve=curve,
        corrected=EXACT,
        notes="Without data noise $V(1) = 0$, and dropout creates the variance: $G = \\frac{1}{2}w^2$ at $w = 1$ has "
        "$V(p) = p(1-p)$; at the solution two coupled coordinates suffice (the last instances). (15) leaves this "
        "part out. What the remark calls the dropout rate is $p$, the keep probability.",
    ),
    remark(
        "@decreasing",
        "As printed, at least: dropout does not raise the gradient's variance",
        r"V(p) \le V(1) \text{ for every } p,\ V(p) = E\big\|m_w\nabla_wG(\lambda, m_ww;\xi) - \nabla_w\bar "
        r"G(\lambda, w)\big\|^2",
        printed=PRINTED,
        hypotheses=(UNIFORM,),
        strategy=instances(**SAME),
        explicit=({**LINE, "keep_w": [8]}, LINE, PLANE, {**PLANE, "solution": True}),
        measure=smaller,
        corrected=EXACT,
        notes="Near $p = 1$ the variance at $w(\\lambda)$ changes by $(1-p)\\big(\\sum_{i \\ne j}H_{ij}^2\\bar w_j^2 "
        "- \\operatorname{tr}\\Sigma\\big)$: it rises as the keep probability falls from 1 wherever "
        "coupling outweighs data noise.",
    ),
    remark(
        "@data",
        "The data part of the gradient's variance is linear in p for additive noise",
        r"E_M\operatorname{Var}_\xi\big(m_w\nabla_wG(MW;\xi)\big) = \sum_ip_i\,\Sigma_{ii},\qquad \Sigma = "
        r"\operatorname{Cov}_\xi(\nabla_wG(W;\xi))",
        hypotheses=(ADDITIVE,),
        strategy=instances(spread=st.just("c")),
        explicit=(LINE, {**TWO, "spread": "c"}),
        measure=additive(),
        controls=(
            Control("noise in the Hessian", params=TWO),
            Control("p² for p", kind="formula", measure=additive(power=2)),
        ),
        notes="What remark 1 describes. With noise in the Hessian the data part is a cubic in p (@corrected). The "
        "printed order $(p_w)^2\\sigma^2$ of theorem 1 fails the second control: $m^2 = m$.",
    ),
    remark(
        "@corrected",
        "The variance of the masked stochastic gradient of a quadratic, exactly",
        r"$$V = \sum_i\big[p_i(1-p_i)a_i(\bar X)^2 + p_io_i(\bar X)\big] + E_\xi\sum_ip_i\big[a_i(X_\xi - \bar X)^2 "
        r"+ o_i(X_\xi - \bar X)\big]$$ $$a_i(H,K,c) = H_{ii}w_i + c_i + \sum_{j \ne i}p_jH_{ij}w_j + "
        r"\sum_kp_kK_{ki}\lambda_k$$ $$o_i(H,K,c) = \sum_{j \ne i}p_j(1-p_j)H_{ij}^2w_j^2 + "
        r"\sum_kp_k(1-p_k)K_{ki}^2\lambda_k^2$$",
        explicit=(LINE, PLANE, TWO),
        measure=formula(),
        controls=(
            Control("o dropped", kind="formula", measure=formula(within=False)),
            Control("data part dropped", kind="formula", measure=formula(data=False)),
            Control("mask part dropped", kind="formula", measure=formula(mask=False)),
        ),
        notes="$G(\\cdot;\\xi) = \\frac{1}{2}w^\\top H_\\xi w + \\lambda^\\top K_\\xi w + c_\\xi^\\top w$, $X_\\xi = "
        "(H_\\xi, K_\\xi, c_\\xi)$; decided against the literal sum over masks and samples and against the library's "
        "space.",
    ),
    remark(
        "@at-solution",
        "The mask noise that remains at the solution of the lower level",
        r"$$V_{\text{mask}}(w(\lambda)) = \sum_{i \ne j}p_ip_j(1-p_j)H_{ij}^2\,w_j(\lambda)^2 + "
        r"\sum_{i,k}p_{w,i}\,p_{\lambda,k}(1-p_{\lambda,k})K_{ki}^2\lambda_k^2$$",
        hypotheses=(SOLVED,),
        strategy=instances(solution=st.just(True)),
        explicit=({**LINE, "solution": True}, {**PLANE, "solution": True}, {**TWO, "solution": True}),
        measure=at_solution(),
        controls=(
            Control("away from the solution", params=LINE),
            Control("masks of λ dropped", kind="formula", measure=at_solution(without="λ")),
            Control("masks of w dropped", kind="formula", measure=at_solution(without="w")),
        ),
        notes="Zero iff no random $w_j(\\lambda) \\ne 0$ is coupled to another kept coordinate (and no masked "
        "$\\lambda_k \\ne 0$ enters): then, and only then, the w-iterates converge without a floor. $H = "
        "\\begin{pmatrix}2&1\\\\1&2\\end{pmatrix}$: $p^2(1-p)\\|w(\\lambda)\\|^2$.",
    ),
)
