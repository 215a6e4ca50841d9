r"""Lemma 2 as printed, and the floor that its right side lacks.

Hold λ and take full data (σ = 0): what is left of (15) is E‖w_{k+1} − w(λ)‖² <= ι E‖w_k − w(λ)‖² with ι < 1, linear
convergence to w(λ). But w(λ) minimises Ḡ, not every masked G(M·): the mask noise V* = E‖m∇_wG(MW)‖² at w(λ) is
positive, and E‖w_{k+1} − w(λ)‖² = γ_k²V* from w_k = w(λ), where the printed right side is 0 for every ι and every
constant, whatever k and the schedule are. With γ_k → 0 the mean square does tend to 0, not linearly: it is at least
γ_k²E V(w_k) at every k.

Floor, with constant γ_k = γ, for quadratic samples 0 ⪯ ∇²_wwG(·; ξ) ⪯ L and γ < 2/L. Let e = w − w(λ), g the masked
stochastic gradient at w, g* at w(λ), X = E⟨∇²Ḡ e, e⟩ under the stationary law. There E e = 0, since the mean obeys
E e⁺ = (I − γ∇²Ḡ)E e, so that E⟨g − g*, g*⟩, linear in e, is 0, and 0 = E‖e⁺‖² − E‖e‖² = −2γX + γ²(E‖g − g*‖² + V*).
Each masked sample is convex and L-smooth: E‖g − g*‖² <= L X (co-coercivity); and E‖g − g*‖² >= E‖∇²Ḡ e‖² >= μ̄X
(Jensen). So γV*/(2 − γμ̄) <= X <= γV*/(2 − γL), and X/L̄ <= E‖e‖² <= X/μ̄. From w_0 = w(λ), E‖e_k‖² rises to the floor.
(Not quadratic: E‖g‖² <= 2E‖g − g*‖² + 2V* gives limsup E‖e_k‖² <= γV*/(μ̄(1 − γL)) for γ < 1/L.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flint import fmpq

from refimpl.moments import mean_square_curve, stationary
from verification.claims.dropout_bilevel._iterates import (
    COUPLED,
    CURVATURE,
    DATA,
    RATIONAL,
    THEORY,
    Step,
    semidefinite,
    small,
    spectrum,
    step,
    steps,
)
from verification.claims.dropout_bilevel.lemma_2_step import contracts
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement, identity


def floor(case: Step) -> fmpq:
    """lim E‖w_k − w(λ)‖², exactly."""
    return stationary(case.recursion).moments.mean_square


def at_solution(case: Step) -> fmpq:
    """V*: the variance at w(λ)."""
    return case.variance(case.solution)


def smoothness(case: Step) -> fmpq:
    """L of every sample, from above."""
    return max(spectrum(H)[1] for H in case.plain.ww)


def shrinks(case: Step) -> Measurement:
    """E‖w_{k+1} − w(λ)‖² <= ‖w_k − w(λ)‖², which is more than ι‖w_k − w(λ)‖² for every ι < 1."""
    after = case.mean_square_after
    shown = {"one step": str(after), "γ²V*": str(case.gamma**2 * at_solution(case))}
    return Measurement(observed=after, bound=(case.error**2).sum(), detail=shown)


def settles(case: Step) -> Measurement:
    """lim E‖w_k − w(λ)‖² = 6845/1351616."""
    return identity(floor(case), fmpq(6845, 1351616))


def above(
    stepped: Callable[[Step], fmpq] = lambda case: 2 - case.gamma * smoothness(case),
    noise: Callable[[Step], fmpq] = at_solution,
    curvature: Callable[[Step], fmpq] = lambda case: case.ends[0],
) -> Callable[[Step], Measurement]:
    """floor <= γV*/(μ̄(2 − γL))."""

    def measure(case: Step) -> Measurement:
        allowed = case.gamma * noise(case) / (curvature(case) * stepped(case))
        return Measurement(observed=floor(case), bound=allowed)

    return measure


def below(
    stepped: Callable[[Step], fmpq] = lambda case: 2 - case.gamma * case.ends[0],
    curvature: Callable[[Step], fmpq] = lambda case: case.ends[1],
) -> Callable[[Step], Measurement]:
    """γV*/(L̄(2 − γμ̄)) <= floor."""

    def measure(case: Step) -> Measurement:
        least = case.gamma * at_solution(case) / (curvature(case) * stepped(case))
        return Measurement(observed=least, bound=floor(case))

    return measure


def rising(case: Step) -> Mapping[str, Any]:
    """E‖w_k − w(λ)‖² from w_0 = w(λ), and the bound of its limit."""
    times = 60
    found = mean_square_curve(case.recursion, RATIONAL.zeros((case.plain.d,)), times)
    bound = above()(case).pair[0]
    return {
        "x": list(range(1, times + 1)),
        "predicted": [bound] * times,
        "measured": [float(x) for x in found[1:]],
        "xlabel": "k",
        "ylabel": "E‖w_k − w(λ)‖²",
    }


def _samples(case: Step) -> tuple[bool, Any]:
    smooth = case.gamma * smoothness(case)
    return smooth < 2 and all(semidefinite(H) for H in case.plain.ww), float(smooth)


def _printed_step(case: Step) -> tuple[bool, Any]:
    """γμ < 1 as printed, and γL < 2, without which even the mean need not converge."""
    mu, size = case.gamma * spectrum(case.plain.mean[0])[0], case.gamma * smoothness(case)
    return mu < 1 and size < 2, [float(mu), float(size)]


SAMPLES = Hypothesis(
    "convex samples", r"0 \preceq \nabla^2_{ww}G(\cdot;\xi) \preceq LI,\ \gamma L < 2", _samples
)
PRINTED_STEP = Hypothesis("step size", r"\gamma\mu < 1,\ \gamma L < 2", _printed_step)
LAM_MASKED = small(1, 1, keep_w=[8])

CLAIMS = (
    Claim(
        id="dropout-bilevel/lemma-2",
        title="As printed: a step of w contracts when λ rests and the data are exact",
        source="dropout-bilevel, lemma 2, (15)",
        statement=r"$$\sigma = 0,\ \lambda_k = \lambda,\ \gamma\mu < 1: \quad E\|w_{k+1} - w(\lambda)\|^2 \le "
        r"\iota\,E\|w_k - w(\lambda)\|^2 \text{ with some } \iota < 1$$ for any $w_k$, also $w_k = w(\lambda)$",
        printed=r"E\|w^{k+1} - w(\lambda_k)\|^2 \le \iota E\|w^k - w(\lambda_{k-1})\|^2 + "
        r"O(\alpha_k^2)E\|d^{k-1}\|^2 + O(\gamma_k^2)\bar p_w\sigma^2",
        hypotheses=(CURVATURE, PRINTED_STEP),
        strategy=steps(14),
        explicit=({**LAM_MASKED, "e": [0]}, {**THEORY, "e": [0, 0]}),
        build=step,
        measure=shrinks,
        grade="proved",
        corrected=Correction(
            tex=r"$$E\|w_{k+1} - w(\lambda)\|^2 \le \max(|1-\gamma\bar\mu|,|1-\gamma\bar L|)^2E\|w_k - "
            r"w(\lambda)\|^2 + \gamma^2E\,V(w_k),$$ $\gamma = \gamma_k$, $V$ the variance of $m_w\nabla_wG(MW)$ "
            r"over the "
            r"masks too",
            measure=contracts(),
            proof="The noise $g - E g$ of $w^+ = w - \\gamma g$ has mean zero and variance $V(w)$, which does not "
            "vanish at $w(\\lambda)$: $E\\|w_{k+1}-w(\\lambda)\\|^2 = \\gamma_k^2V^*$ from $w_k = w(\\lambda)$, $V^* = "
            "V(w(\\lambda))$, where the printed right side is 0 for every $\\iota$ and every constant, for every "
            "schedule and every $k$.",
        ),
        controls=(
            Control(
                "correction without V",
                kind="formula",
                measure=contracts(variance=lambda case: fmpq(0)),
            ),
        ),
        budget=Budget(quick=40, full=600),
        notes="One step of the algorithm itself, every mask enumerated; the bound tried is the larger one with "
        "$\\iota = "
        "1$. $G = \\frac12(w-\\lambda)^2$ with $\\lambda$ masked is the smallest case; with masks on w alone two "
        "coupled "
        "coordinates are needed (@example). With constant $\\gamma$ the error settles on a floor: @floor, @run. With "
        "$\\gamma_k = \\gamma\\delta/\\sqrt{k+1}$ it tends to 0, but is at least $\\gamma_k^2E\\,V(w_k)$: not "
        "linearly.",
    ),
    Claim(
        id="dropout-bilevel/lemma-2@example",
        title="The floor of a small example, to all its digits",
        source="dropout-bilevel, lemma 2; worked out here",
        statement=r"$$G = \tfrac12(w-a)^\top\begin{pmatrix}2&1\\1&2\end{pmatrix}(w-a),\ a = (1, -\tfrac12),\ p = "
        r"\tfrac45,\ \gamma_k = \gamma = \tfrac1{10}:$$ $$\lim_kE\|w_k - w(\lambda)\|^2 = \frac{6845}{1351616} = "
        r"0.00506430820588\ldots$$",
        explicit=(THEORY,),
        build=step,
        measure=settles,
        grade="proved",
        complete="the statement is about this one instance, decided in rational arithmetic",
        controls=(
            Control("p for 1 − p", kind="formula", measure=settles, params={**THEORY, "keep_w": [1, 1]}),
            Control("2γ for γ", kind="formula", measure=settles, params={**THEORY, "step": [1, 5]}),
        ),
        notes="$w(\\lambda) = (\\frac{25}{28}, -\\frac{5}{14})$ and $V^* = \\frac{29}{245}$.",
    ),
    Claim(
        id="dropout-bilevel/lemma-2@floor",
        title="How high the floor of w is at most",
        source="dropout-bilevel, lemma 2; corrected here",
        statement=r"G \text{ quadratic},\ \gamma_k = \gamma: \quad \lim_k E\|w_k - w(\lambda)\|^2 \le \frac{\gamma "
        r"V^*}{\bar\mu(2-\gamma "
        r"L)}, \qquad V^* = E\|m_w\nabla_wG(MW;\xi)\|^2 \text{ at } w(\lambda)",
        hypotheses=(CURVATURE, SAMPLES),
        strategy=steps(14, **DATA),
        explicit=(LAM_MASKED, THEORY, {**COUPLED, "w1": [1, 0]}),
        build=step,
        measure=above(),
        grade="proved",
        controls=(
            Control("μ̄ stated too large", params={**LAM_MASKED, "claimed": 2, "step": [1, 2]}),
            Control(
                "variance of the data alone",
                kind="formula",
                measure=above(noise=lambda case: case.variance(case.solution, data_only=True)),
            ),
            Control("no L", kind="formula", measure=above(stepped=lambda case: fmpq(2))),
            Control("L̄ for μ̄", kind="formula", measure=above(curvature=lambda case: case.ends[1])),
        ),
        equality=Equality(params=LAM_MASKED, reaches=1.0),
        curve=rising,
        budget=Budget(quick=40, full=600),
        notes="Stationarity: $2E\\langle\\nabla^2\\bar Ge, e\\rangle = \\gamma(E\\|g-g^*\\|^2 + V^*)$, and masked "
        "samples are convex and L-smooth, so $E\\|g-g^*\\|^2 \\le L\\,E\\langle\\nabla^2\\bar Ge,e\\rangle$. "
        "Equality: $G = \\frac12(w-\\lambda)^2$, $\\lambda$ masked. Not quadratic: $\\limsup \\le \\gamma "
        "V^*/(\\bar\\mu(1-\\gamma L))$ for $\\gamma < 1/L$, by $E\\|g\\|^2 \\le 2E\\|g-g^*\\|^2 + 2V^*$. The plot "
        "starts at $w(\\lambda)$.",
    ),
    Claim(
        id="dropout-bilevel/lemma-2@floor-below",
        title="How high the floor of w is at least",
        source="dropout-bilevel, lemma 2; corrected here",
        statement=r"G \text{ quadratic},\ \gamma_k = \gamma: \quad \lim_k E\|w_k - w(\lambda)\|^2 \ge \frac{\gamma "
        r"V^*}{\bar "
        r"L(2-\gamma\bar\mu)}",
        hypotheses=(CURVATURE, SAMPLES),
        strategy=steps(14, **DATA),
        explicit=(LAM_MASKED, THEORY, {**COUPLED, "w1": [1, 0]}),
        build=step,
        measure=below(),
        grade="proved",
        controls=(
            Control("μ̄ stated too large", params={**LAM_MASKED, "claimed": 2, "step": [1, 2]}),
            Control("μ̄ for L̄", kind="formula", measure=below(curvature=lambda case: case.ends[0])),
            Control("1 for 2", kind="formula", measure=below(lambda case: 1 - case.gamma * case.ends[0])),
        ),
        equality=Equality(params=LAM_MASKED, reaches=1.0),
        budget=Budget(quick=40, full=600),
        notes="As @floor, with $E\\|g-g^*\\|^2 \\ge E\\|\\nabla^2\\bar Ge\\|^2 \\ge \\bar\\mu "
        "E\\langle\\nabla^2\\bar Ge,e\\rangle$ and $\\langle\\nabla^2\\bar Ge,e\\rangle \\le \\bar L\\|e\\|^2$. "
        "There is no floor iff $V^* = 0$: every masked gradient vanishes at $w(\\lambda)$, as it does where the "
        "Hessian couples no two free coordinates of w and λ is not masked.",
    ),
)
