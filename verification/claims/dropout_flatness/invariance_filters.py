r"""Are filter-normalised profiles properties of the function? A direction d becomes d_f ‖θ_f‖/‖d_f‖ on every filter f.

Under T (rescaled units, as in :mod:`.invariance`) the profile stays, d the same draw, if the direction becomes T times
the old one. T multiplies a whole layer's weights by one number c, and the next layer's by 1/c: so it does where every
filter is multiplied by one number. With a factor of its own for each unit the next layer's rows are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from refimpl.curvature import filter_normalised, network_filters
from refimpl.networks import MLP
from refimpl.networks.symmetries import rescale
from verification.claims.dropout_flatness.invariance import UNDER
from verification.instances import EPS
from verification.model import Budget, Claim, Control, Correction, Hypothesis, Measurement, identity, reals


@dataclass(frozen=True, eq=False)
class Filtered:
    """θ, Tθ for units of hidden layer 1 times ``factors``, a raw direction d; filters per layer or row."""

    net: MLP
    theta: np.ndarray
    d: np.ndarray
    factors: np.ndarray
    per: Any

    def moved(self, x: Array) -> Array:
        return rescale(self.net, x, 0, self.factors)


def filtered(params: Mapping[str, Any]) -> Filtered:
    """A random ReLU network ``widths``, ``seed``; ``per``; ``factors``, repeated to fit."""
    net = MLP(tuple(params["widths"]), "relu")
    rng = np.random.default_rng(params["seed"])
    theta, d = rng.standard_normal((2, net.size))
    factors = np.array(params["factors"], dtype=float)
    return Filtered(net, theta, d, np.resize(factors, net.hidden[0]), params["per"])


def profile_stays(filters: Callable[[Filtered], Any]) -> Callable[[Filtered], Measurement]:
    """The direction normalised at Tθ is T times the one normalised at θ, so that L(T(θ + αd)) = L(θ + αd)."""

    def measure(case: Filtered) -> Measurement:
        f = filters(case)
        there = filter_normalised(case.moved(case.theta), case.d, f)
        here = case.moved(filter_normalised(case.theta, case.d, f))
        return identity(there, here, rounding=20 * case.net.size * EPS * float(np.linalg.norm(here)))

    return measure


def by_document(case: Filtered, biases: Any = "own") -> Any:
    """Filters of a layer or a row, as the library has them."""
    return network_filters(case.net, per=case.per, biases=biases)


def by_entry(case: Filtered) -> Any:
    """Every parameter a filter of its own."""
    return [[k] for k in range(case.net.size)]


ONE_FACTOR = Hypothesis(
    "one factor for the layer",
    r"c_1 = \cdots = c_m",
    lambda case: (float(np.ptp(case.factors)) == 0, case.factors.tolist()),
)
FILTERED = {
    "widths": st.sampled_from([[1, 1, 1], [2, 2, 1], [2, 3, 2, 1]]),
    "seed": st.integers(0, 999),
    "per": st.sampled_from(["layer", "row"]),
}
WIDE = {"widths": [2, 2, 1], "seed": 0, "per": "row", "factors": [2]}

CLAIMS = (
    Claim(
        id="dropout-flatness/invariance@filters",
        title="A filter-normalised profile does not change when a whole layer is rescaled by one number",
        source="dropout-flatness, section 5",
        statement=r"c_1 = \cdots = c_m: \quad d_{\text{norm}}(T\theta) = T\,d_{\text{norm}}(\theta) \text{ for "
        r"the same draw } d",
        hypotheses=(ONE_FACTOR,),
        strategy=st.fixed_dictionaries(
            {**FILTERED, "factors": reals(0.1, 10.0, log=True).map(lambda c: [c])}
        ),
        explicit=(WIDE, {**WIDE, "per": "layer", "factors": [0.5]}),
        build=filtered,
        measure=profile_stays(by_document),
        grade="exact",
        controls=(
            Control("each unit its own factor", params={**WIDE, "factors": [1, 4]}),
            Control(
                "biases in the filter of their weights",
                kind="formula",
                measure=profile_stays(lambda case: by_document(case, "part")),
            ),
        ),
        budget=Budget(quick=100, full=1000),
        notes="Filters per layer or per row, biases with filters of their own: c multiplies the layer's "
        "filters and divides the next weights', whose "
        "biases stay. Then $L(T(\\theta + \\alpha d)) = L(\\theta + \\alpha d)$.",
    ),
    Claim(
        id="dropout-flatness/invariance@filters-of-units",
        title="Is a filter-normalised profile unchanged when each unit has its own factor?",
        source="dropout-flatness, section 5",
        statement=UNDER + r"d_{\text{norm}}(T\theta) = T\,d_{\text{norm}}(\theta)",
        strategy=st.fixed_dictionaries(
            {**FILTERED, "factors": st.lists(st.integers(1, 8), min_size=1, max_size=3)}
        ),
        explicit=(WIDE, {**WIDE, "factors": [1, 4]}, {**WIDE, "per": "layer", "factors": [1, 4]}),
        build=filtered,
        measure=profile_stays(by_document),
        grade="exact",
        corrected=Correction(
            tex=r"d_k \leftarrow d_k\,|\theta_k|/|d_k| \text{ for every parameter } k",
            measure=profile_stays(by_entry),
            proof="T is diagonal: $|(T\\theta)_k| = T_{kk}|\\theta_k|$. A row of the next layer has one factor "
            "for each of its entries, which no "
            "norm of the row carries.",
        ),
        budget=Budget(quick=100, full=1000),
        notes="Filters per row carry a unit's own row, not what reads the unit. So profiles of two minima "
        "compare only up to the scales of "
        "their units.",
    ),
)
