"""How fast covariance and Hessian become proportional as the common error grows: see :mod:`.closing_similarity`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from refimpl.arrays.backend import Array
from verification.claims.dropout_flatness._noise import Noise, size
from verification.claims.dropout_flatness.closing_similarity import (
    ANY,
    SILENT,
    SOURCE,
    TWO,
    WINDOW,
    distances,
    equal,
    of_outputs,
    off,
    printed_matrix,
    second_moment,
    with_errors,
)
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, rate

LEADS = 20.0


def leads(of: Noise) -> tuple[bool, float]:
    """The distances of sK and of the covariance's part that is linear in e, beside what stays at e = 0."""
    H, none = of.at.printed, with_errors(of, 0)
    linear = with_errors(of, 1).second - with_errors(of, -1).second  # twice the part that is linear in e
    fixed = size(none.second) + size(H)
    share = 2.0 ** WINDOW[0] * min(off(linear, H) / 2, off(of_outputs(of), H) * 2.0 ** WINDOW[0]) / fixed
    return share >= LEADS, share


def exponent(which: Callable[[Noise], Array], predicted: float) -> Callable[[Noise], Measurement]:
    """The slope of log distance against log e."""

    def measure(of: Noise) -> Measurement:
        e, found = distances(of, which)
        fitted = float(np.polyfit(np.log(e), np.log(np.maximum(found, 1e-300)), 1)[0])
        return rate(fitted, predicted, 0.05, window="e = 2^8 … 2^14")

    return measure


LEADING = Hypothesis(
    "the leading terms lead",
    r"2^8\,\text{dist}(\text{part linear in } e) \ge 20\,(\|\text{rest}\| + \|H\|), \text{ and for } sK \text{ "
    r"with } 2^{16}",
    leads,
)


CLAIMS = (
    Claim(
        id="dropout-flatness/closing-similarity@rate",
        title="The printed covariance approaches a multiple of the Hessian as the inverse square of the common "
        "error",
        source=SOURCE + ", derived here",
        statement=r"$$\frac{\operatorname{dist}(\Sigma_{\text{printed}}, \mathbb "
        r"RH)}{\|\Sigma_{\text{printed}}\|} \sim e^{-2}$$: the exponent "
        r"fitted on $e = 2^8 \dots 2^{14}$ is −2 ± 0.05",
        hypotheses=(LEADING,),
        strategy=ANY,
        explicit=(TWO,),
        build=equal,
        measure=exponent(printed_matrix, -2.0),
        grade="exact",
        controls=(
            Control("e⁻¹", kind="formula", measure=exponent(printed_matrix, -1.0)),
            Control("silent units: proportional at once", params=SILENT),
        ),
        budget=Budget(quick=10, full=40),
        notes="θ fixed, $y_i = f(x_i) \\mp e$. The distance itself is that of sK and does not depend on e.",
    ),
    Claim(
        id="dropout-flatness/closing-similarity@true-rate",
        title="The true second moment approaches a multiple of the Hessian only as the inverse of the common "
        "error",
        source=SOURCE + ", derived here",
        statement=r"$$\frac{\operatorname{dist}(\frac1n\sum E\,gg^\top, \mathbb RH)}{\|\frac1n\sum "
        r"E\,gg^\top\|} \sim e^{-1}$$: the exponent "
        r"fitted on $e = 2^8 \dots 2^{14}$ is −1 ± 0.05",
        hypotheses=(LEADING,),
        strategy=ANY,
        explicit=(TWO,),
        build=equal,
        measure=exponent(second_moment, -1.0),
        grade="exact",
        controls=(
            Control("e⁻², as printed", kind="formula", measure=exponent(second_moment, -2.0)),
            Control("silent units: proportional at once", params=SILENT),
        ),
        budget=Budget(quick=10, full=40),
        notes="H as theorem 1 prints it. $\\operatorname{Cov}(\\varepsilon_\\eta^2, \\nabla f_\\eta\\nabla "
        "f_\\eta^\\top)$ is linear in ε.",
    ),
)
