r"""Which measures of flatness are properties of the function, and not of its parameters: one claim for each.

Rescaled units (row of a hidden layer, bias included, times c > 0, what reads it divided by c) and permuted units are
linear maps T of θ that change neither f_η, for piecewise linear activations, nor its law. From E_ηR(Tθ) = E_ηR(θ) and
the same for every masked gradient,

    H(Tθ) = T⁻ᵀ H(θ) T⁻¹,   Σ(Tθ) = T⁻ᵀ Σ(θ) T⁻¹ .

Permutations are orthogonal: every function of the eigenvalues of H and Σ and of the angles between their eigenvectors
stays. Rescalings are not, and of such functions only those of the pencil (H, Σ) do: T⁻ᵀ(Σ − αH)T⁻¹ has the signs of
Σ − αH (Sylvester), so the order αH ⪯ Σ ⪯ βH, Σ = κH and the generalised eigenvalues are properties of the function. So
is Σ_k θ_k² H_kk, since T is diagonal. Tr H is not: on an orbit of T it has no upper bound, as 1/c² of one row shows.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays import to_numpy
from refimpl.curvature import alignment
from verification.claims.dropout_flatness._bowls import Ray, agrees, square
from verification.claims.dropout_flatness._moves import NOISY, PERMUTED, Matrices, Move, move
from verification.claims.dropout_flatness._noise import DRAWS
from verification.claims.dropout_flatness._planted import RATIONAL, at, networks, points
from verification.claims.dropout_flatness._second import inertia
from verification.instances import EPS
from verification.model import Budget, Claim, Control, Correction, Hypothesis, Measurement, identity

SOURCE = "dropout-flatness, sections 3.5, 3.6 and 5: measures of flatness"
BUDGET = Budget(quick=40, full=300)


# -- matrices -------------------------------------------------------------------------------------------------------


def stays(of: Callable[[Matrices], Any]) -> Callable[[Move], Measurement]:
    """The value at Tθ is that at θ."""
    return lambda case: identity(of(case.pairs[1]), of(case.pairs[0]))


def carried(of: Callable[[Matrices], Any]) -> Callable[[Move], Measurement]:
    """The value at Tθ is that of T⁻ᵀHT⁻¹ and T⁻ᵀΣT⁻¹."""
    return lambda case: identity(of(case.pairs[1]), of(case.pairs[2]))


def congruent(*, backward: bool = True) -> Callable[[Move], Measurement]:
    """H, Σ of all three draws, and both printed matrices at Tθ; ``backward``: T⁻¹, else T."""

    def measure(case: Move) -> Measurement:
        T = case.inverse if backward else case.T
        before, after = (
            [x.at.hessian, x.at.printed, x.printed, *(x.exact(draw) for draw in DRAWS)]
            for x in (case.before, case.after)
        )
        return identity(after, [T.T @ matrix @ T for matrix in before])

    return measure


def same_loss(*, outgoing: bool = True) -> Callable[[Move], Measurement]:
    """E_ηR at θ and Tθ; without ``outgoing`` only half of T is applied: the rows, not what reads them."""

    def measure(case: Move) -> Measurement:
        theta = case.after.at.theta
        if not outgoing:
            theta = np.where(case.T.diagonal() > 1, theta, case.before.at.theta)
        return identity(case.after.at.value(theta), case.before.at.value(case.before.at.theta))

    return measure


def signs(pair: Matrices) -> list[int]:
    """Positive, negative and zero eigenvalues of Σ − αH for some α."""
    return [k for alpha in (0, 1, 4) for k in inertia(pair.noise - alpha * pair.H)]


def levels(pair: Matrices) -> list[int]:
    """The same with the identity for H."""
    eye = RATIONAL.eye(len(pair.H))
    return [k for alpha in (1, 4) for k in inertia(pair.noise - alpha * eye)]


def spectral(pair: Matrices) -> list[Any]:
    """Traces of H, Σ, HΣ, H², Σ² and H³."""
    H, S = pair.H, pair.noise
    return [x.trace() for x in (H, S, H @ S, H @ H, S @ S, H @ H @ H)]


def corner(pair: Matrices) -> Any:
    """The curvature along a direction that stays: the first parameter's."""
    return pair.H[0, 0]


def weighted(case: Move, *, plain: bool = False) -> Measurement:
    """Σ_k θ_k² H_kk before and after; ``plain``: Σ_k H_kk."""
    ends = [
        (x.at.hessian.diagonal() * (1 if plain else x.at.theta**2)).sum() for x in (case.before, case.after)
    ]
    return identity(ends[1], ends[0])


def trace(pair: Matrices) -> Any:
    """Tr H."""
    return pair.H.trace()


def aligned(pair: Matrices) -> Any:
    """Tr(HΣ)."""
    return (pair.H @ pair.noise).trace()


def ratio(pair: Matrices) -> Any:
    """Tr(HΣ) D/(Tr H Tr Σ)."""
    return alignment(pair.H, pair.noise, backend=RATIONAL).ratio


def cosine(pair: Matrices) -> Any:
    """Its square."""
    t = alignment(pair.H, pair.noise, backend=RATIONAL)
    return t.trace**2 / (t.hessian_squared * t.noise_squared)


def top(pair: Matrices) -> float:
    """λ_max(H), in floats."""
    return float(np.linalg.eigvalsh(to_numpy(pair.H))[-1])


def top_moved(which: int) -> Callable[[Move], Measurement]:
    """λ_max(H) at Tθ against that at θ (0), or that of T⁻ᵀHT⁻¹ (2)."""

    def measure(case: Move) -> Measurement:
        size = 10 * len(case.T) * EPS * float(np.linalg.norm(to_numpy(case.pairs[1].H)))
        return identity(top(case.pairs[1]), top(case.pairs[which]), rounding=size)

    return measure


def width(*, moved: bool) -> Callable[[Move], Measurement]:
    """F_v of E_ηR at Tθ along v, or along Tv (``moved``), against F_v at θ; v in the last layer."""

    def measure(case: Move) -> Measurement:
        before, after = case.before.at, case.after.at
        v = RATIONAL.zeros((before.net.size,))
        v[before.net.spans[-1]] = RATIONAL.scalar(1)
        v = v + RATIONAL.zeros(v.shape)
        losses = [x.dropout.closed or x.dropout for x in (before, after)]
        target = square(Ray(losses[0], before.theta, v, Fraction(2)))
        return agrees(Ray(losses[1], after.theta, case.T @ v if moved else v, Fraction(2)), target)

    return measure


def _rises(case: Move) -> tuple[bool, Any]:
    loss = case.before.at.value(case.before.at.theta)
    return loss > 0, float(loss)


# -- claims ---------------------------------------------------------------------------------------------------------

HALVES = st.lists(st.integers(1, 8), min_size=1, max_size=3)
MOVED = {"layer": st.integers(0, 1), "factors": HALVES}
NETS = networks((1, 2))
ACTIVE = ["linear", "relu", "leaky_relu"]
RESCALED = points(NETS, ACTIVE, n=(1, 3), **MOVED)
EITHER = points(NETS, ACTIVE, n=(1, 3), **MOVED, reverse=st.booleans())
REVERSED = points(networks((1, 2)), ACTIVE, n=(1, 3), layer=st.integers(0, 1), reverse=st.just(True))
# f = w·σ(ux + b) + c at u = 1, b = 0, w = ½, c = 0, one sample x = 1, y = 2, p = ½; then the unit times 2
DOUBLED = at([1, 1, 1], theta=[1, 0, "1/2", 0], X=[[1]], y=[2], factors=[4])
TWO_SAMPLES = at([1, 2, 1], n=2, seed=1, factors=[4, 1])
SWAPPED = at([1, 2, 1], n=2, seed=1, reverse=True)
UNITS = r"\theta' = T\theta, \; T \text{ rescales or permutes hidden units}: \quad "
UNDER = r"\theta' = T\theta, \; T \text{ rescales hidden units}: \quad "
POSITIVE = Hypothesis("positive loss", r"L > 0", _rises)
PROOF = (
    "$E_\\eta R(T\\theta) = E_\\eta R(\\theta)$ for all θ; differentiate twice. The gradient of each masked "
    "sample moves by "
    "$T^{-\\top}$, so Σ moves like H. What is printed here for the value at $T\\theta$ is its definition on "
    "the moved matrices."
)


def refuted(
    name: str,
    title: str,
    tex: str,
    of: Callable[[Matrices], Any],
    moved: str,
    notes: str,
    hypotheses: tuple[Hypothesis, ...] = (),
) -> Claim:
    """A function of H and Σ that rescaling changes, and its value on the moved matrices."""
    return Claim(
        id=f"dropout-flatness/invariance@{name}",
        title=title,
        source=SOURCE,
        statement=UNDER + tex,
        hypotheses=hypotheses,
        strategy=RESCALED,
        explicit=(DOUBLED, TWO_SAMPLES) if not hypotheses else (TWO_SAMPLES,),
        build=move,
        measure=stays(of),
        grade="proved",
        corrected=Correction(tex=moved, measure=carried(of), proof=PROOF),
        budget=BUDGET,
        notes=notes,
    )


CLAIMS = (
    Claim(
        id="dropout-flatness/invariance@loss",
        title="The expected dropout loss does not change with rescaled or permuted units",
        source=SOURCE,
        statement=UNITS + r"E_\eta R(\theta') = E_\eta R(\theta)",
        strategy=EITHER,
        explicit=(DOUBLED, TWO_SAMPLES, SWAPPED),
        build=move,
        measure=same_loss(),
        grade="proved",
        controls=(
            Control("rows alone", kind="formula", measure=same_loss(outgoing=False), strategy=RESCALED),
        ),
        budget=BUDGET,
        notes="Masks multiply outputs of units: $\\eta_j\\sigma(cz) = c\\,\\eta_j\\sigma(z)$. Keep "
        "probabilities are permuted with the units.",
    ),
    Claim(
        id="dropout-flatness/invariance@congruence",
        title="How the Hessian and all noise matrices move with rescaled or permuted units",
        source=SOURCE,
        statement=UNITS + r"H(\theta') = T^{-\top}H(\theta)T^{-1}, \; \Sigma(\theta') = "
        r"T^{-\top}\Sigma(\theta)T^{-1}",
        strategy=EITHER,
        explicit=(DOUBLED, TWO_SAMPLES, SWAPPED),
        build=move,
        measure=congruent(),
        grade="proved",
        controls=(Control("T for its inverse", kind="formula", measure=congruent(backward=False)),),
        budget=BUDGET,
        notes="The exact H, Σ for all three draws, and the printed H and Σ. Curvature, variance and interval "
        "flatness along a direction that is "
        "carried along, $v' = Tv$, therefore stay.",
    ),
    Claim(
        id="dropout-flatness/invariance@order",
        title="The order between Hessian and noise is a property of the function",
        source="dropout-flatness, proposition 1",
        statement=UNITS + r"\operatorname{inertia}(\Sigma' - \alpha H') = \operatorname{inertia}(\Sigma - "
        r"\alpha H)",
        strategy=EITHER,
        explicit=(DOUBLED, TWO_SAMPLES, SWAPPED),
        build=move,
        measure=stays(signs),
        grade="proved",
        controls=(Control("αI for αH", kind="formula", measure=stays(levels)),),
        budget=BUDGET,
        notes="Sylvester. So the constants of proposition 1, $\\Sigma \\propto H$ and the generalised "
        "eigenvalues of (Σ, H) do not depend on the "
        "parametrisation, unlike every measure that the document plots.",
    ),
    Claim(
        id="dropout-flatness/invariance@weighted-trace",
        title="The trace of the Hessian with every parameter measured in its own size does not change",
        source=SOURCE + "; a measure that does not depend on the scales of units",
        statement=UNITS + r"\sum_k\theta_k'^2H_{kk}(\theta') = \sum_k\theta_k^2H_{kk}(\theta)",
        strategy=EITHER,
        explicit=(DOUBLED, TWO_SAMPLES, SWAPPED),
        build=move,
        measure=weighted,
        grade="proved",
        controls=(Control("without θ²", kind="formula", measure=lambda case: weighted(case, plain=True)),),
        budget=BUDGET,
        notes="T is diagonal, or a permutation.",
    ),
    Claim(
        id="dropout-flatness/invariance@permutation",
        title="Permuted units change no measure made of eigenvalues and traces",
        source=SOURCE,
        statement=r"T \text{ permutes hidden units}: \quad \operatorname{Tr}H, \operatorname{Tr}\Sigma, "
        r"\operatorname{Tr}(H\Sigma), "
        r"\operatorname{Tr}H^2, \operatorname{Tr}\Sigma^2, \operatorname{Tr}H^3 \text{ stay}",
        hypotheses=(PERMUTED,),
        strategy=REVERSED,
        explicit=(SWAPPED, at([1, 2, 2, 1], n=2, seed=3, layer=1, keep=[4, 2], reverse=True)),
        build=move,
        measure=stays(spectral),
        grade="proved",
        controls=(
            Control("rescaled units", params=TWO_SAMPLES),
            Control("curvature along a fixed direction", kind="formula", measure=stays(corner)),
        ),
        budget=BUDGET,
        notes="A permutation is orthogonal, so these hold for the ratio and the cosine of alignment, for "
        "eigenvalues and for what is measured "
        "along eigenvectors. A direction fixed in the space of parameters is not carried along.",
    ),
    refuted(
        "trace",
        "Is the trace of the Hessian a property of the function?",
        r"\operatorname{Tr} H(\theta') = \operatorname{Tr} H(\theta)",
        trace,
        r"\operatorname{Tr} H(\theta') = \operatorname{Tr}(H(\theta)(T^{\top}T)^{-1})",
        "Hessian flatness, definition 4. One unit, one sample, p = ½: 4 → 37/4 when the unit doubles.",
    ),
    Claim(
        id="dropout-flatness/invariance@top-eigenvalue",
        title="Is the largest eigenvalue of the Hessian a property of the function?",
        source=SOURCE,
        statement=UNDER + r"\lambda_{\max}(H(\theta')) = \lambda_{\max}(H(\theta))",
        strategy=RESCALED,
        explicit=(DOUBLED, TWO_SAMPLES),
        build=move,
        measure=top_moved(0),
        grade="exact",
        corrected=Correction(
            tex=r"\lambda_{\max}(H(\theta')) = \lambda_{\max}(T^{-\top}H(\theta)T^{-1})",
            measure=top_moved(2),
            proof=PROOF,
        ),
        budget=BUDGET,
        notes="Hessian flatness, definition 4.",
    ),
    refuted(
        "alignment",
        "Is the alignment Tr(HΣ) a property of the function?",
        r"\operatorname{Tr}(H'\Sigma') = \operatorname{Tr}(H\Sigma)",
        aligned,
        r"\operatorname{Tr}(H'\Sigma') = \operatorname{Tr}(HM\Sigma M), \quad M = (T^{\top}T)^{-1}",
        "Section 3.6: T enters four times, where each of the traces has it twice.",
    ),
    refuted(
        "ratio",
        "Is the ratio of alignment to isotropic noise a property of the function?",
        r"\frac{\operatorname{Tr}(H'\Sigma')}{\operatorname{Tr}H'\operatorname{Tr}\Sigma'} = "
        r"\frac{\operatorname{Tr}(H\Sigma)}"
        r"{\operatorname{Tr}H\operatorname{Tr}\Sigma}",
        ratio,
        r"\frac{\operatorname{Tr}(HM\Sigma M)}{\operatorname{Tr}(HM)\operatorname{Tr}(\Sigma M)}, \quad M = "
        r"(T^{\top}T)^{-1}",
        "“Much larger than isotropic noise” compares with noise that is isotropic in this parametrisation.",
        (NOISY,),
    ),
    refuted(
        "cosine",
        "Is the cosine between Hessian and noise a property of the function?",
        r"\cos^2(H', \Sigma') = \cos^2(H, \Sigma)",
        cosine,
        r"\cos^2(H', \Sigma') = \frac{\operatorname{Tr}(HM\Sigma "
        r"M)^2}{\operatorname{Tr}(HMHM)\operatorname{Tr}(\Sigma M\Sigma M)}, "
        r"\quad M = (T^{\top}T)^{-1}",
        "Free of the scales of H and Σ as wholes, not of the units'.",
        (NOISY,),
    ),
    Claim(
        id="dropout-flatness/invariance@width",
        title="Is interval flatness along a fixed direction a property of the function?",
        source=SOURCE,
        statement=UNDER + r"F_v(\theta') = F_v(\theta)",
        hypotheses=(POSITIVE,),
        strategy=points(networks((1, 1)), ACTIVE, n=(1, 3), **MOVED),
        explicit=(DOUBLED, TWO_SAMPLES),
        build=move,
        measure=width(moved=False),
        grade="proved",
        corrected=Correction(
            tex=r"F_{Tv}(\theta') = F_v(\theta)",
            measure=width(moved=True),
            proof="$E_\\eta R(T\\theta + \\delta Tv) = E_\\eta R(\\theta + \\delta v)$. Along a row of one "
            "unit F is multiplied by its factor: "
            "any value in (0, ∞) occurs for the same function.",
        ),
        budget=Budget(quick=20, full=300),
        notes="Of E_ηR, v in the last layer, squares compared over the rationals.",
    ),
)
