r"""Proposition 1: labels 0 or 1, outputs in [δ, 1−δ]: δ²H ⪯ Σ, and Σ ⪯ (δ+ϵ)²H where ℓ(f, y) and E_ηℓ(f_η, y) are
<= (δ+ϵ)²/2.

Printed matrices. H and Σ are sums of the same squares with weights 1 and a_i or b_i, and δ² <= ε_i² = b_i <= a_i <=
(δ+ϵ)²: both parts hold for any θ.

True matrices. g = ε_η∇f_η and H = E∇f_η∇f_ηᵀ (at minima of two-layer networks): what counts are the errors ε_η of
*masked* outputs, and |ε_i| >= δ bounds none of them. At the minimum of theorem-2's text (one linear unit, x = ±1,
labels 1 and 0) a kept unit makes the output the label: Σ_one = ((1−p)/4)e_ce_cᵀ, while H has rank above 1: part (i)
fails for every δ > 0, for full-batch noise too. There a_i = (1−p)/4, and with v_c = 1, v_b = −p/w, else 0, v·∇f_η
is 0 where the unit is kept and 1 where it is dropped: vᵀHv = 1−p, so that vᵀΣ_onev = (1−p)/4 > ((1−p)/4)vᵀHv for
every p < 1: part (ii) fails too; for own masks, p(1−p)/8 > (1−p)²/4 where p > 2/3.

Corrected (pathwise). If m² <= ε_η² <= M² for all samples and masks, m²H ⪯ Σ_one ⪯ M²H at stationary points, as ggᵀ
= ε_η²∇f_η∇f_ηᵀ; with theorem-2@order, Σ_shared ⪯ nΣ_own ⪯ M²H, but no lower bound: full-batch noise has no part
from the data. At the minimum above Σ_shared = 0 and Σ_own = (p(1−p)/8)e_ce_cᵀ, while e_uᵀHe_u = w²/p. What is left
for own masks, at any θ: with m_i = E_η g the same average gives nΣ_own = (1/n) Σ (E ggᵀ − m_im_iᵀ) ⪰ m²H_printed
− (1/n) Σ m_im_iᵀ.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from refimpl.curvature.noise import Draw
from verification.claims.dropout_flatness._minima import either, minima, pair
from verification.claims.dropout_flatness._noise import AWAY, STATIONARY, Noise, average, below, outer
from verification.claims.dropout_flatness._planted import at
from verification.claims.dropout_flatness.theorem_2_hypothesis import LABELS
from verification.model import (
    Budget,
    Claim,
    Control,
    Correction,
    Equality,
    Hypothesis,
    Measurement,
    identity,
)

I = "dropout-flatness, Proposition 1 (i)"  # noqa: E741  # the part's number
II = "dropout-flatness, Proposition 1 (ii)"
READINGS: tuple[tuple[Draw, str, str], ...] = (
    ("one sample", "exact", r"\Sigma_{\text{one}}"),
    ("own masks", "own-masks", r"\Sigma_{\text{own}}"),
    ("shared mask", "shared-mask", r"\Sigma_{\text{shared}}"),
)


def delta(of: Noise) -> Any:
    """The largest δ with all outputs in [δ, 1−δ]."""
    f = of.at.run.output[0]
    return min(min(f), min(1 - f))


def cap(of: Noise) -> Any:
    """(δ+ϵ)²: the sharpest cap, the least that Ω allows; or what the parameters state."""
    return Fraction(of.at.params["cap"]) if "cap" in of.at.params else largest_loss(of)


def largest_loss(of: Noise) -> Any:
    """max a_i; a_i >= ε_i², so it is the largest of both losses, twice."""
    return max(x.a for x in of.samples)


OMEGA = Hypothesis(
    "Ω",
    r"2\ell(f, y_i),\; 2E_\eta\ell(f_\eta, y_i) \le (\delta + \epsilon)^2",
    lambda of: (bool(largest_loss(of) <= of.backend.scalar(cap(of))), float(largest_loss(of))),
)


def printed_lower(factor: int = 1, *, half: bool = False) -> Callable[[Noise], Measurement]:
    """(factor δ)² H ⪯ Σ, both as printed; ``half``: a and b are the losses, not twice them."""
    return lambda of: below((factor * delta(of)) ** 2 * of.at.printed, of.printed / (2 if half else 1))


def printed_upper(top: Callable[[Noise], Any] = cap) -> Callable[[Noise], Measurement]:
    """Σ ⪯ (δ+ϵ)² H, both as printed."""
    return lambda of: below(of.printed, of.backend.scalar(top(of)) * of.at.printed)


def exact_lower(draw: Draw) -> Callable[[Noise], Measurement]:
    """δ² H ⪯ Σ, the true matrices."""
    return lambda of: below(delta(of) ** 2 * of.at.hessian, of.exact(draw))


def exact_upper(draw: Draw) -> Callable[[Noise], Measurement]:
    """Σ ⪯ (δ+ϵ)² H, the true matrices."""
    return lambda of: below(of.exact(draw), of.backend.scalar(cap(of)) * of.at.hessian)


def pathwise_lower(of: Noise, least: Callable[[Noise], Any] = lambda of: of.errors_squared[0]) -> Measurement:
    """min ε_η² H ⪯ Σ_one."""
    return below(least(of) * of.at.hessian, of.exact("one sample"))


def pathwise_upper(
    draw: Draw, most: Callable[[Noise], Any] = lambda of: of.errors_squared[1]
) -> Callable[[Noise], Measurement]:
    """Σ ⪯ max ε_η² H, for own masks over n."""

    def measure(of: Noise) -> Measurement:
        n = of.at.n if draw == "own masks" else 1
        return below(n * of.exact(draw), most(of) * of.at.hessian)

    return measure


def own_lower(of: Noise, *, mean: bool = True) -> Measurement:
    """min ε_η² H_printed − (1/n) Σ m_im_iᵀ ⪯ nΣ_own at any θ; ``mean``: the subtracted part."""
    lost = average(outer(of.means)) if mean else 0
    return below(of.errors_squared[0] * of.at.printed - lost, of.at.n * of.exact("own masks"))


def smallest_minimum(of: Noise, *, own: Fraction = Fraction(1, 8)) -> Measurement:
    """At ``pair``: Σ_shared = 0, Σ_own = p(1−p) ``own`` e_ce_cᵀ, e_uᵀHe_u = 1/p."""
    B, p = of.backend, of.backend.scalar(of.at.keep[0])
    corner = outer(B.eye(of.at.net.size)[-1])
    found = [of.exact("own masks").ravel(), of.exact("shared mask").ravel(), of.at.hessian[0, :1]]
    expected = [(B.scalar(own) * p * (1 - p) * corner).ravel(), 0 * corner.ravel(), np.array([1 / p])]
    return identity(np.concatenate(found), np.concatenate(expected))


def and_no_multiple(measure: Callable[[Noise], Measurement]) -> Callable[[Noise], Measurement]:
    """This, and that no multiple of H bounds the full batch's noise: the smallest minimum with the same p."""

    def both(of: Noise) -> Measurement:
        least = either(pair(str(of.at.keep[0])))
        return max(measure(of), smallest_minimum(least), key=lambda found: found.used)

    return both


NOTHING = (
    r"e_u^\top He_u = \tfrac1p \; (w = 1), \quad \Sigma_{\text{own}} = \tfrac{p(1-p)}8e_ce_c^\top, \quad "
    r"\Sigma_{\text{shared}} = 0"
)
PATHWISE = Correction(
    tex=r"\min_{i,\eta}(f_\eta(x_i) - y_i)^2\;H \preceq \Sigma_{\text{one}} \quad \text{at minima of two-layer "
    r"networks}",
    measure=pathwise_lower,
    proof="$gg^\\top = \\varepsilon_\\eta^2\\nabla f_\\eta\\nabla f_\\eta^\\top$: average over masks and "
    "samples; the mean gradient is 0, and "
    "$H = E\\nabla f_\\eta\\nabla f_\\eta^\\top$ by theorem 1 where it holds. The clip must act on masked "
    "outputs: see threshold.",
)
OWN = Correction(
    tex=r"n\Sigma_{\text{own}} \succeq \min_{i,\eta}(f_\eta(x_i) - y_i)^2\;H_{\text{printed}} - "
    r"\frac1n\sum_im_im_i^\top, \quad m_i = E_\eta\,g_i; \text{ no multiple of } H \text{ but } 0\text{: at the "
    r"smallest minimum } " + NOTHING,
    measure=and_no_multiple(own_lower),
    proof="$n\\Sigma_{\\text{own}} = \\frac1n\\sum_i(E_\\eta\\,gg^\\top - m_im_i^\\top)$ and $E_\\eta\\,gg^\\top = "
    "E_\\eta\\,\\varepsilon_\\eta^2\\nabla f_\\eta\\nabla f_\\eta^\\top$, at any θ. The smallest minimum: one "
    "linear unit, x = ±1, labels 1 and 0.",
)
SHARED = Correction(
    tex=r"\Sigma_{\text{shared}} \succeq 0, \text{ and no multiple of } H \text{ but } 0\text{: at the smallest "
    r"minimum } " + NOTHING,
    measure=and_no_multiple(lambda of: below(0 * of.at.hessian, of.exact("shared mask"))),
    proof="A covariance is positive semidefinite. One linear unit, x = ±1, labels 1 and 0: $f = \\frac12 \\pm "
    "\\frac p2$; dropped, the unit leaves gradients $\\pm\\frac12e_c$, which cancel in the batch; kept, none.",
)
LOWER = {"one sample": PATHWISE, "own masks": OWN, "shared mask": SHARED}


def upper(draw: Draw) -> Correction:
    """Of part (ii), for this covariance."""
    n = "n\\," if draw == "own masks" else ""
    symbol = next(tex for known, _, tex in READINGS if known == draw)
    return Correction(
        tex=rf"{n}{symbol} \preceq \max_{{i,\eta}}(f_\eta(x_i) - y_i)^2\;H \quad \text{{at minima of two-layer "
        r"networks}",
        measure=pathwise_upper(draw),
        proof="$gg^\\top = \\varepsilon_\\eta^2\\nabla f_\\eta\\nabla f_\\eta^\\top$ for every mask and "
        "sample; and $\\Sigma_{\\text{shared}} "
        "\\preceq n\\Sigma_{\\text{own}} \\preceq \\Sigma_{\\text{one}}$. The loss averaged over masks is not "
        "enough: a rare mask may have "
        "a large error.",
    )


SILENT = at((1, 1, 1), "linear", theta=[1, 0, 0, "1/4"], X=[[1]], y=[0])  # w = 0: all masked outputs are c
ON_LABEL = at((1, 1, 1), "linear", theta=[1, 0, 0, "1/4"], X=[[1]], y=["1/4"])
STATEMENT = r"y_i \in \{0,1\},\; f(x_i) \in [\delta, 1-\delta] \;\Rightarrow\; "
NOTES = (
    "The smallest instance, for every p, in the module's text: a global minimum with outputs $\\frac12 "
    "\\pm \\frac p2$, one linear unit. "
)
CAP = "$(\\delta+\\epsilon)^2$ is the sharpest cap, $\\max_i2E_\\eta\\ell(f_\\eta, y_i)$. "
FOUND = {
    "one sample": (pair("1/2"),),
    "own masks": (pair("3/4"),),
    "shared mask": (pair("9/10", m=2),),
}


def refuted(draw: Draw, name: str, symbol: str, part: int) -> Claim:
    """Part (i) or (ii) for the true Hessian and this covariance."""
    lower = part == 1
    which = {
        "one sample": "one sample",
        "own masks": "the full batch, own masks",
        "shared mask": "the full batch, one mask",
    }[draw]
    said = (
        rf"{symbol} \succeq \delta^2H"
        if lower
        else rf"{symbol} \preceq (\delta+\epsilon)^2H \text{{ on }} \Omega"
    )
    share = "least δ²" if lower else "most (δ+ϵ)²"
    return Claim(
        id=f"dropout-flatness/prop-1-{'i' if lower else 'ii'}@{name}",
        title=f"Covariance at {share} times Hessian: {which}",
        source=(I if lower else II) + ", for the true matrices",
        statement=STATEMENT + said + r" \quad \text{where } \nabla E_\eta R = 0",
        hypotheses=(STATIONARY, AWAY, LABELS) if lower else (STATIONARY, AWAY, LABELS, OMEGA),
        strategy=minima(),
        explicit=(pair("1/2"),) if lower else FOUND[draw],
        build=either,
        measure=exact_lower(draw) if lower else exact_upper(draw),
        grade="proved",
        corrected=LOWER[draw] if lower else upper(draw),
        budget=Budget(quick=25, full=250),
        notes=("" if lower else CAP)
        + (
            NOTES
            if lower or draw != "shared mask"
            else "Two linear units in the smallest instance, a global minimum; with one unit a shared mask makes no "
            "noise there."
        ),
    )


CLAIMS = (
    Claim(
        id="dropout-flatness/prop-1-i@printed",
        title="Covariance at least δ² times Hessian, both as printed",
        source=I,
        statement=STATEMENT + r"\Sigma_{\text{printed}} \succeq \delta^2H_{\text{printed}}",
        hypotheses=(LABELS,),
        strategy=minima(),
        explicit=(pair("1/2"), SILENT),
        build=either,
        measure=printed_lower(),
        grade="proved",
        controls=(
            Control("the label is the output", params=ON_LABEL),
            Control("2δ for δ", kind="formula", measure=printed_lower(2)),
            Control("ℓ for 2ℓ", kind="formula", measure=printed_lower(half=True)),
        ),
        equality=Equality(params=SILENT, reaches=1.0),
        budget=Budget(quick=40, full=300),
        notes="Both matrices are sums of the same squares, with weights 1 and $a_i, b_i \\ge \\varepsilon_i^2 "
        "\\ge \\delta^2$: no stationarity "
        "is needed. Equality: one sample with f = δ, y = 0 and silent units.",
    ),
    Claim(
        id="dropout-flatness/prop-1-ii@printed",
        title="Covariance at most (δ+ϵ)² times Hessian, both as printed",
        source=II,
        statement=STATEMENT + r"\Sigma_{\text{printed}} \preceq (\delta+\epsilon)^2H_{\text{printed}} \text{ "
        r"on } \Omega",
        hypotheses=(LABELS, OMEGA),
        strategy=minima(),
        explicit=(pair("1/2"), SILENT),
        build=either,
        measure=printed_upper(),
        grade="proved",
        controls=(
            Control("losses above the bound", params={**SILENT, "cap": "1/17"}),
            Control(
                "the loss without dropout alone",
                kind="formula",
                measure=printed_upper(lambda of: max(of.at.errors**2)),
            ),
            Control(
                "ℓ for 2ℓ in Ω",
                kind="formula",
                measure=printed_upper(lambda of: largest_loss(of) / 2),
            ),
        ),
        equality=Equality(params=SILENT, reaches=1.0),
        budget=Budget(quick=40, full=300),
        notes=CAP + "$b_i \\le a_i \\le (\\delta+\\epsilon)^2$; the bound on ℓ(f, y) follows from that on "
        "$E_\\eta\\ell(f_\\eta, y)$.",
    ),
    *(refuted(draw, name, symbol, part) for part in (1, 2) for draw, name, symbol in READINGS),
)
