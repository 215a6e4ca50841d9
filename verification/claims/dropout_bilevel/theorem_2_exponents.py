"""The exponent beside the theorem of ``theorem_2_rates``: E‖∇F̄(λ_k)‖² falls like 1/√k, the order of the step size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from verification.claims.dropout_bilevel._decay import Decay
from verification.claims.dropout_bilevel.theorem_2_rates import QUADRATIC, UNBIASED, at, problems
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, rate

WINDOW = (
    1000,
    4000,
)  # of the fit, fixed beforehand; the variance lags behind α_k by 1/(4|Re 𝒜|δ√k) of itself


def fitted(predicted: float = -0.5) -> Callable[[Decay], Measurement]:
    """The slope of log E‖∇F̄(λ_k)‖² against log(k+1) in the window."""

    def measure(case: Decay) -> Measurement:
        low, high = WINDOW
        k = np.unique(np.geomspace(low, high - 1, 40).astype(int))
        values = np.log(case.squares(high)[k])
        slope = float(np.polyfit(np.log(k + 1.0), values, 1)[0])
        return rate(slope, predicted, 0.1, window=list(WINDOW))

    return measure


def _settled(case: Decay) -> tuple[bool, float]:
    transient = float(np.exp(4 * case.abscissa * case.delta * np.sqrt(WINDOW[0])))
    return transient < 1e-8, transient


SETTLED = Hypothesis(
    "transients are over", r"e^{4\operatorname{Re}\mathcal A\,\delta\sqrt k} < 10^{-8}", _settled
)


CLAIMS = tuple(
    Claim(
        id=f"dropout-bilevel/theorem-2@{name}-rate",
        title=title,
        source="dropout-bilevel, Theorem 2 for $\\nabla\\bar F$; derived here",
        statement=r"$$E\|\nabla\bar F(\lambda_k)\|^2 \sim k^{-1/2}$$ for " + QUADRATIC,
        hypotheses=(SETTLED, UNBIASED),
        strategy=problems([use], readings, [8]),
        explicit=tuple(at(use, reading) for reading in readings),
        build=Decay,
        measure=fitted(),
        grade="exact",
        controls=(
            Control("shared, h at v⁺", params=at("shared", beta=4)),
            Control("1/k", kind="formula", measure=fitted(-1.0)),
            Control("1/√√k", kind="formula", measure=fitted(-0.25)),
        ),
        budget=Budget(quick=4, full=60),
        notes="Slope of the exact curve between k = 1000 and 4000. $\\nabla\\bar F$ is the noise of λ, "
        "whose variance is of the order of the step size. The controls' shared masks with h at v⁺ leave "
        "a constant.",
    )
    for use, readings, name, title in (
        ("fresh", ["new", "old"], "fresh", "The rate with own masks for every use"),
        (
            "fresh-cross",
            ["new", "old"],
            "fresh-cross",
            "The rate with own masks for the cross derivative",
        ),
        ("shared", ["old"], "shared-old", "The rate with shared masks and h at the v before"),
    )
)
