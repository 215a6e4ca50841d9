r"""Theorem 2 as printed, against the covariance it is about: false at minima, along training, at interpolation and
as p → 1.

The smallest minimum: one linear unit, x = ±1 with labels 1 and 0, any p. E_ηR is a ridge regression: f = ½ ± p/2, c
= ½. Where the unit is kept, f_η = ½ ± ½ is the label: g = 0. Where it is dropped, f_η = ½ and g = ±½e_c, e_c the
output bias. Hence

    Σ_one = ((1−p)/4) e_ce_cᵀ,   Σ_own = (p(1−p)/8) e_ce_cᵀ,   Σ_shared = 0,

while the printed matrix has rank 2 or more: it puts noise on the weights, which have none, and no p makes it right.

Where the proof leaves the road: its expansion to first order in η needs small η, but η_j = −1 with probability 1−p
however near p is to 1. Dropping unit j moves the gradient by −(f_jg₀ + (ε−f_j)g_j), not by −(f_jg₀ + εg_j): the
difference is of the first order in s = (1−p)/p, as the whole dropout part is; and so is the cross term that ∇(ε_i²)
= 0 removes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from refimpl.arrays.backend import Array
from refimpl.curvature.noise import Draw
from verification.claims.dropout_flatness._minima import either, minima, one_sided, pair
from verification.claims.dropout_flatness._noise import (
    AWAY,
    STATIONARY,
    Noise,
    Sample,
    build,
    equal_weights,
    outer,
    points,
    weighted,
)
from verification.claims.dropout_flatness._noise_figures import towards_one, training
from verification.claims.dropout_flatness._planted import at
from verification.claims.dropout_flatness.theorem_2_exact import SOURCE, three, three_measure
from verification.model import Budget, Claim, Correction, Measurement, identity

PRINTED = (
    r"\Sigma = \frac1n\sum_i\left[a_i\nabla f_i\nabla f_i^\top + b_i\tfrac{1-p}{p}\sum_j\nabla f^j_i\nabla "
    r"f^{j\top}_i\right], \quad "
    r"a_i = 2E_\eta\ell(f_\eta, y_i), \quad b_i = 2\ell(f, y_i)"
)
EXACT = Correction(
    tex=r"\Sigma_{\text{one}} = \frac1n\sum_i\left[\sum_j s\,c_jc_j^\top + \sum_{j<l}s^2N_{jl}N_{jl}^\top + "
    r"m_im_i^\top\right] - "
    r"\bar m\bar m^\top, \quad c_j = f_jg_0 + \varepsilon g_j + (s-1)f_jg_j, \quad N_{jl} = f_jg_l + f_lg_j, "
    r"\quad m_i = "
    r"\varepsilon g_0 + s\sum_j f_jg_j",
    measure=three_measure(three()),
    proof="$\\eta_j$ takes two values, so $\\eta_j^2 = s + (s-1)\\eta_j$ and the gradient is $m_i + "
    "\\sum_j\\eta_jc_j + "
    "\\sum_{j<l}\\eta_j\\eta_lN_{jl}$ with uncorrelated products of variances s and s². See @exact; with masks "
    "of their own the mean "
    "part is missing and the rest is divided by n; with a shared mask c and N are averaged before their "
    "squares.",
)


def is_printed(draw: Draw = "one sample") -> Callable[[Noise], Measurement]:
    """The printed matrix is this covariance."""
    return lambda of: identity(of.printed, of.exact(draw))


def is_multiple(draw: Draw) -> Callable[[Noise], Measurement]:
    """The printed matrix is a multiple of this covariance: ‖A‖²‖B‖² − ⟨A, B⟩² <= 0."""

    def measure(of: Noise) -> Measurement:
        A, B = of.printed.ravel(), of.exact(draw).ravel()
        return Measurement(observed=(A @ A) * (B @ B) - (A @ B) ** 2, bound=0)

    return measure


def taylor(x: Sample) -> Array:
    """E ggᵀ of the linearised loss: ε²g₀g₀ᵀ + Σ s_j (f_jg₀ + εg_j)(f_jg₀ + εg_j)ᵀ."""
    return x.e**2 * outer(x.g0) + weighted(x.s, x.singles(0 * x.s))


def is_sum(term: Callable[[Sample], Array]) -> Callable[[Noise], Measurement]:
    """The average of these matrices is the covariance of one sample's gradient."""
    return lambda of: identity(of.sum(term), of.exact("one sample"))


def trained(params: Mapping[str, Any]) -> Noise:
    """After ``steps`` (none if not given) of gradient descent on E_ηR at ``rate``, exactly."""
    of = build(params)
    for _ in range(params.get("steps", 0)):
        moved = of.at.theta - of.backend.scalar(Fraction(params["rate"])) * of.at.slope
        of = Noise(replace(of.at, theta=moved))
    return of


ANY = points()
TINY = at((1, 1, 1), "linear", theta=[1, 0, 1, 0], X=[[1]], y=[2], p="2/3")
TRAINED = {**TINY, "steps": 2, "rate": "1/4"}
MINIMA = (pair("1/2"), one_sided("1/2"))
NOTES = "The smallest minimum, Σ in closed form there, and where the proof leaves the road: see the module's text. "
NOT_STATIONARY = (
    "Counterexamples here have $\\nabla E_\\eta R \\ne 0$, so assumption 1 is broken, and where $\\varepsilon_i \\ne "
    "0$ so is $\\nabla(\\varepsilon_i^2) = 0$; those of @minima satisfy assumption 1. "
)


def at_minima(
    name: str, title: str, statement: str, measure: Callable[[Noise], Measurement], **more: Any
) -> Claim:
    """A refuted claim at stationary points."""
    notes = NOTES + more.pop("notes", "")
    options = {
        "source": SOURCE,
        "grade": "proved",
        "budget": Budget(quick=25, full=250),
        "build": either,
        **more,
    }
    return Claim(
        id=f"dropout-flatness/theorem-2@{name}",
        title=title,
        statement=statement,
        hypotheses=(STATIONARY, AWAY),
        strategy=minima(),
        explicit=MINIMA,
        measure=measure,
        corrected=EXACT,
        notes=notes,
        **options,
    )


def anywhere(
    name: str, title: str, statement: str, measure: Callable[[Noise], Measurement], **more: Any
) -> Claim:
    """A refuted claim at any θ."""
    options = {"corrected": EXACT, "source": SOURCE, "explicit": (TINY,), "strategy": ANY, **more}
    return Claim(
        id=f"dropout-flatness/theorem-2@{name}",
        title=title,
        statement=statement,
        build=options.pop("build", build),
        measure=measure,
        grade="proved",
        budget=Budget(quick=25, full=250),
        **options,
    )


CLAIMS = (
    at_minima(
        "minima",
        "At stationary points the covariance of dropout gradients is the printed matrix",
        PRINTED + r" \quad \text{at } \nabla E_\eta R = 0",
        is_printed(),
        curve=towards_one,
        notes="The plot: this minimum as p → 1, relative distances from $\\Sigma_{\\text{one}}$; they do not "
        "fall.",
    ),
    at_minima(
        "own-masks",
        "The printed matrix is a multiple of the full batch's noise, every sample with its own mask",
        r"\Sigma_{\text{own}} \;\propto\; \frac1n\sum_i\left[a_i\nabla f_i\nabla f_i^\top + b_is\sum_j\nabla "
        r"f^j_i\nabla "
        r"f^{j\top}_i\right] \quad \text{at } \nabla E_\eta R = 0",
        is_multiple("own masks"),
        source=SOURCE + ", as its experiments sample",
        notes="Full-batch noise has no part from the data: as p → 1 it vanishes, and the printed matrix tends "
        "to "
        "$\\frac1n\\sum\\varepsilon_i^2g_0g_0^\\top$.",
    ),
    at_minima(
        "shared-mask",
        "The printed matrix is the full batch's noise under one mask for all samples",
        r"\Sigma_{\text{shared}} = \frac1n\sum_i\left[a_i\nabla f_i\nabla f_i^\top + b_is\sum_j\nabla "
        r"f^j_i\nabla "
        r"f^{j\top}_i\right] \quad \text{at } \nabla E_\eta R = 0",
        is_printed("shared mask"),
        source=SOURCE + ", as its experiments sample",
        notes="On the smallest minimum the shared mask makes no noise at all.",
    ),
    at_minima(
        "b-equals-a",
        "With the expected loss in both sums the matrix is the covariance at stationary points",
        r"\Sigma_{\text{one}} = \frac1n\sum_i a_i\left[\nabla f_i\nabla f_i^\top + s\sum_j\nabla f^j_i\nabla "
        r"f^{j\top}_i\right] "
        r"\quad \text{at } \nabla E_\eta R = 0",
        is_sum(equal_weights),
        source=SOURCE + ", with the b that its identity suggests",
        notes="$a_i$ in both sums is what theorem-2-identity leaves when its covariance is dropped.",
    ),
    anywhere(
        "along-training",
        "At the points of a training run the covariance of dropout gradients is the printed matrix",
        PRINTED,
        is_printed(),
        curve=training,
        build=trained,
        explicit=(TRAINED, TINY),
        notes=NOT_STATIONARY
        + "The first: one linear unit, two steps of gradient descent on $E_\\eta R$ from θ = (1, 0, 1, 0), x = 1, y = "
        "2, in rationals; any other θ may be a point of a run. The plot: a (2, 8, 1) ReLU network, p = 0.8, gradient "
        "descent on $E_\\eta R$.",
    ),
    anywhere(
        "taylor",
        "The covariance of the loss's first-order expansion in the masks is that of the loss",
        r"\Sigma = \frac1n\sum_i\left[\varepsilon^2g_0g_0^\top + s\sum_j\nabla(\varepsilon "
        r"f^j)\nabla(\varepsilon "
        r"f^j)^\top\right]",
        is_sum(taylor),
        source="dropout-flatness, (3), before the cross term is dropped",
        notes=NOT_STATIONARY
        + "The expansion needs small $\\eta$; but $\\eta_j = -1$ where a unit is dropped, whatever p. "
        "Keeping the cross term does "
        "not mend the first order in s.",
    ),
)
