"""Remark 2 on the last term of theorem 1; formulas and proofs in ``_adjoint``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from verification.claims.dropout_bilevel._adjoint import FEW, LINE, Adjoint, adjoint, lists
from verification.claims.dropout_bilevel._bounds import waves
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement, identity


def vanishes(a: Adjoint) -> Measurement:
    """The mask noise is 0."""
    return identity(a.noise, 0 * a.noise)


def by_sensitivity(
    upper: bool = True, lower: bool = True, chance: int = 1
) -> Callable[[Adjoint], Measurement]:
    """The mask noise against Σ_k p_k(1−p_k) λ_k² (L_k² + ℓ_k²‖v‖²)."""

    def measure(a: Adjoint) -> Measurement:
        n, (of_F, of_G) = a.g.n, a.sensitivities
        p, lam = a.g.p[:n], a.g.W[:n]
        moved = (of_F if upper else 0 * of_F) + (of_G * (a.v**2).sum() if lower else 0 * of_G)
        return Measurement(observed=a.noise, bound=(p**chance * (1 - p) * lam**2 * moved).sum())

    return measure


def factors(params: Mapping[str, Any]) -> tuple[Fraction, Fraction]:
    """p_λ and p_w, in eighths."""
    return Fraction(params["keep_lam"], 8), Fraction(params["keep_w"], 8)


def printed_factor(p: tuple[Fraction, Fraction]) -> Fraction:
    """p_λ p_w (1 − p_λ p_w)."""
    return p[0] * p[1] * (1 - p[0] * p[1])


def _w_kept(a: Adjoint) -> tuple[bool, list[float]]:
    return set(a.g.law.keep_w) == {1}, [float(p) for p in a.g.law.keep_w]


KEPT = Hypothesis("no dropout of w", "p_w = 1", _w_kept)
KEPT_FACTOR = Hypothesis("no dropout of w", "p_w = 1", lambda p: (p[1] == 1, float(p[1])))
PRODUCT = {"n": 1, "d": 1, "keep_lam": [4], "W": [2], "K": [1]}  # G = w²/2, F = λw at λ = 1
STIFF = {
    "n": 1,
    "d": 1,
    "keep_lam": [4],
    "W": [2],
    "u": [1, 1],
    "a": 1,
    "v": [1],
}  # ∇²_wwG depends on λ, F = 0
ONES: dict[str, Any] = {"keep_w": st.just([8] * 3)}
NOISE: dict[str, Any] = {
    "source": "dropout-bilevel, remark 2",
    "build": adjoint,
    "strategy": waves((0, 2), **ONES, **lists(f=3, K=6, z=6, v=3), b=FEW),
    "grade": "proved",
    "budget": Budget(quick=60, full=1000),
}
SENSITIVE = (
    r"$$p_w = 1:\quad \operatorname{Var}\big(\nabla_wF(\bar m_\lambda\lambda, w) - \nabla^2_{ww}G(m_\lambda\lambda, "
    r"w)v\big) \le \sum_kp_k(1-p_k)\lambda_k^2\big(L_k^2 + \ell_k^2\|v\|^2\big)$$"
)
PROOF = (
    "The two masks are independent, so the variances add. Efron and Stein: each is at most $\\sum_kp_k(1-p_k)$ times "
    "the mean square of what switching $m_k$ changes, which $L_k|\\lambda_k|$ and $\\ell_k|\\lambda_k|\\|v\\|$ bound."
)

CLAIMS = (
    Claim(
        id="dropout-bilevel/remark-2",
        title="As printed: without dropout of w, dropout adds no noise to the adjoint's step",
        statement=r"p_w = 1 \;\Rightarrow\; \operatorname{Var}\big(\bar m_w\nabla_wF(\bar MW) - "
        r"m_w\nabla^2_{ww}G(MW)m_wv\big) = 0",
        printed=r"\text{The last term disappears when no dropout is applied to the network parametrized by } w",
        hypotheses=(KEPT,),
        explicit=({**LINE, "v": [1]}, PRODUCT, STIFF),
        measure=vanishes,
        corrected=Correction(tex=SENSITIVE, measure=by_sensitivity(), proof=PROOF),
        notes="Masks of λ reach the step through $\\nabla_wF(\\bar m_\\lambda\\lambda, w)$ and through "
        "$\\nabla^2_{ww}G(m_\\lambda\\lambda, w)$. $G = \\frac{1}{2}w^2$, $F = \\lambda w$: noise "
        "$p_\\lambda(1-p_\\lambda)\\lambda^2$.",
        **NOISE,
    ),
    Claim(
        id="dropout-bilevel/remark-2@corrected",
        title="The noise that dropout of λ alone adds to the adjoint's step",
        statement=SENSITIVE + " "
        r"with $L_k = \sup\|\partial_{\lambda_k}\nabla_wF\|$ and $\ell_k$ the Lipschitz modulus of $\nabla^2_{ww}G$ "
        r"in $\lambda_k$",
        hypotheses=(KEPT,),
        explicit=(PRODUCT, STIFF),
        measure=by_sensitivity(),
        controls=(
            Control("dropout of w", params={**LINE, "keep_w": [4], "v": [0]}),
            Control("F's part dropped", kind="formula", measure=by_sensitivity(upper=False)),
            Control("G's part dropped", kind="formula", measure=by_sensitivity(lower=False)),
            Control("p² for p", kind="formula", measure=by_sensitivity(chance=2)),
        ),
        equality=Equality(params=PRODUCT, reaches=1.0),
        notes="So the term does disappear with $p_w = 1$ exactly where neither $\\nabla_wF$ nor $\\nabla^2_{ww}G$ "
        "depends on a masked λ (data cleaning: λ weighs the training samples, F does not see it). Equality: F and G "
        "quadratic.",
        **NOISE,
    ),
    Claim(
        id="dropout-bilevel/remark-2@printed-factor",
        title="As printed: the factor of theorem 1's last term is zero without dropout of w",
        source="dropout-bilevel, remark 2 and theorem 1",
        statement=r"p_w = 1 \;\Rightarrow\; p_\lambda p_w(1 - p_\lambda p_w) = 0",
        hypotheses=(KEPT_FACTOR,),
        strategy=st.fixed_dictionaries({"keep_lam": st.integers(0, 8), "keep_w": st.just(8)}),
        explicit=({"keep_lam": 8, "keep_w": 8}, {"keep_lam": 4, "keep_w": 8}),
        build=factors,
        measure=lambda p: identity(printed_factor(p), Fraction(0)),
        grade="proved",
        corrected=Correction(
            tex=r"$p_w = 1 \Rightarrow p_\lambda p_w(1-p_\lambda p_w) = p_\lambda(1-p_\lambda)$, zero iff λ is not "
            r"random either",
            measure=lambda p: identity(printed_factor(p), p[0] * (1 - p[0])),
            proof="Put $p_w = 1$.",
        ),
        budget=Budget(quick=20, full=20),
        notes="The remark contradicts the theorem that it describes. Theorem 2's factor $p_w^2(1-p_w^2) + "
        "p_w(1-p_w)$ does vanish there, and remark 3 says that both p must be 1: three statements that agree nowhere "
        "on $p_w = 1 > p_\\lambda$. And $p_\\lambda = 0$ makes the factor zero while masks of w still act.",
    ),
)
