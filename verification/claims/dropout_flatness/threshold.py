r"""The threshold of proposition 1: the output is clipped into [δ, 1−δ].

Where f is beyond the thresholds its clip is constant: ∇ clip(f) = 0 there, and the sample adds nothing to H or Σ,
however large its loss. Clip the *masked* outputs: a gradient that is not 0 then has f_η ∈ (δ, 1−δ), so δ² < ε_η² <
(1−δ)² for a label 0 or 1, and averaging ggᵀ = 1[unclipped] ε_η²∇f_η∇f_ηᵀ gives both parts of proposition 1 mask by
mask: with the clipped network's own matrices, in which f_η is no longer linear in η and the printed formulas do not
apply. Clipping f alone does not help: at the minimum of theorem-2's text every kept unit makes the output the
label.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.dropout_flatness._minima import either, minima, pair
from verification.claims.dropout_flatness._noise import AWAY, Noise, average, below
from verification.claims.dropout_flatness._planted import at
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, identity

SOURCE = "dropout-flatness, Proposition 1, threshold activation"
STEP = Fraction(1, 2**24)


def threshold(of: Noise) -> Any:
    """δ."""
    return of.backend.scalar(Fraction(of.at.params["delta"]))


def clip(of: Noise, f: Array) -> Array:
    """f moved into [δ, 1−δ]."""
    low = threshold(of)
    return np.array([max(low, min(1 - low, x)) for x in f], dtype=object)


def seen(of: Noise, outputs: Array) -> Array:
    """1 where δ < f < 1−δ, else 0."""
    low = threshold(of)
    return np.vectorize(lambda x: of.backend.scalar(int(low < x < 1 - low)), otypes=[object])(outputs)


def quotients(of: Noise) -> Array:
    """Central differences of the clipped outputs, (n, P): exact where all is affine in each parameter alone."""
    h, columns = of.backend.scalar(STEP), of.backend.mT(of.at.X)
    found = []
    for e in of.backend.eye(of.at.net.size):
        ends = [clip(of, of.at.net.forward(of.at.theta + d * e, columns).output[0]) for d in (h, -h)]
        found.append((ends[0] - ends[1]) / (2 * h))
    return np.stack(found, axis=-1)


def gradient_is(factor: Callable[[Noise], Array]) -> Callable[[Noise], Measurement]:
    """∇ clip(f) of every sample is factor ∇f."""
    return lambda of: identity(quotients(of), factor(of)[:, None] * of.at.terms.whole)


def off_thresholds(of: Noise) -> tuple[bool, float]:
    """Measured: the distance of the nearest output from its threshold."""
    low = threshold(of)
    gap = min(min(abs(x - low), abs(x - 1 + low)) for x in of.at.run.output[0])
    return float(gap) >= 2.0**-10, float(gap)


def unclipped(of: Noise) -> Array:
    """1[δ < f_η < 1−δ] of every mask and sample, (K, n)."""
    _, errors, _ = of.masked
    return seen(of, errors + of.at.y)


def some_seen(of: Noise) -> tuple[bool, int]:
    """Measured: how many pairs of mask and sample are clipped."""
    shown = unclipped(of)
    clipped = int(shown.size - sum(int(x) for x in shown.ravel()))
    return clipped < shown.size, clipped


def averaged(of: Noise, weights: Array) -> Array:
    """(1/n) Σ E weights ∇f_η∇f_ηᵀ for weights (K, n)."""
    chances, _, slopes = of.masked
    weighted = (chances[:, None] * weights)[..., None] * slopes
    return average(np.einsum("kip,kiq->ipq", weighted, slopes, optimize=False))


def between(*, of_masked: bool = True, low: int = 1) -> Callable[[Noise], Measurement]:
    """δ²H ⪯ E ggᵀ ⪯ (1−δ)²H of the clipped network; not ``of_masked``: clipped where f is, whatever the mask."""

    def measure(of: Noise) -> Measurement:
        _, errors, _ = of.masked
        shown = unclipped(of) if of_masked else seen(of, of.at.run.output[0]) + 0 * errors
        H, second, d = averaged(of, shown), averaged(of, shown * errors**2), threshold(of)
        return max(
            below((low * d) ** 2 * H, second), below(second, (1 - d) ** 2 * H), key=lambda found: found.used
        )

    return measure


DELTAS = st.sampled_from(["1/4", "1/8", "1/16"])
LABELLED = Hypothesis(
    "labels", r"y_i \in \{0, 1\}", lambda of: (all(y in (0, 1) for y in of.at.y), [float(y) for y in of.at.y])
)
SILENT = at((1, 1, 1), "linear", theta=[1, 0, 0, "1001/4000"], X=[[1]], y=[0], delta="1/4")

CLAIMS = (
    Claim(
        id="dropout-flatness/threshold",
        title="Samples whose output is clipped have no gradient",
        source=SOURCE,
        statement=r"\nabla_\theta\,\operatorname{clip}_{[\delta, 1-\delta]}(f(x_i)) = \mathbf 1[\delta < "
        r"f(x_i) < 1-\delta]\;\nabla f(x_i)",
        hypotheses=(
            AWAY,
            Hypothesis("off the thresholds", r"|f - \delta|, |f - 1 + \delta| \ge 2^{-10}", off_thresholds),
        ),
        strategy=minima(delta=DELTAS),
        explicit=(
            at((1, 1, 1), "linear", theta=[1, 0, 1, 0], X=[[1], [2]], y=[1, 0], delta="1/4"),
            at((1, 1, 1), "linear", theta=[1, 0, 1, 0], X=[["1/2"], [2]], y=[1, 0], delta="1/4"),
        ),
        build=either,
        measure=gradient_is(lambda of: seen(of, of.at.run.output[0])),
        grade="proved",
        controls=(
            Control(
                "no indicator", kind="formula", measure=gradient_is(lambda of: 1 + 0 * of.at.run.output[0])
            ),
            Control(
                "an output at the threshold",
                params=at((1, 1, 1), "linear", theta=[1, 0, 1, 0], X=[["1/4"]], y=[0], delta="1/4"),
            ),
        ),
        budget=Budget(quick=30, full=300),
        notes="Central differences, exact away from kinks and thresholds. Such a sample adds nothing to H or "
        "Σ: where all outputs are clipped "
        "both are 0, θ is stationary whatever the loss, and proposition 1 says 0 ⪯ 0.",
    ),
    Claim(
        id="dropout-flatness/threshold@masked",
        title="With the threshold on every masked output proposition 1's bounds hold for the true second "
        "moment",
        source=SOURCE + ", on $f_\\eta$; derived here",
        statement=r"\delta^2H \preceq \frac1n\sum_iE_\eta\,gg^\top \preceq (1-\delta)^2H, \quad H = "
        r"\frac1n\sum_iE_\eta\,\mathbf 1[\delta < "
        r"f_\eta < 1-\delta]\,\nabla f_\eta\nabla f_\eta^\top, \quad g = \mathbf "
        r"1[\dots]\,\varepsilon_\eta\nabla f_\eta",
        hypotheses=(
            LABELLED,
            Hypothesis("not all clipped", r"\text{some } f_\eta(x_i) \in (\delta, 1-\delta)", some_seen),
        ),
        strategy=minima(delta=DELTAS),
        explicit=(SILENT, pair("1/2", delta="1/4")),
        build=either,
        measure=between(),
        grade="proved",
        controls=(
            Control("threshold on f alone", kind="formula", measure=between(of_masked=False)),
            Control("2δ for δ", kind="formula", measure=between(low=2)),
            Control(
                "a label between the thresholds",
                params=at((1, 1, 1), "linear", theta=[1, 0, 0, "1/2"], X=[[1]], y=["1/2"], delta="1/4"),
            ),
        ),
        equality=Equality(params=SILENT, reaches=0.99),
        budget=Budget(quick=40, full=300),
        notes="The predicate counts the clipped pairs of mask and sample. H is the Gauss–Newton matrix of the "
        "clipped network. The printed "
        "formulas do not apply to it: $f_\\eta$ is no longer linear in the mask.",
    ),
)
