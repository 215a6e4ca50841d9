"""What the claims on registered experiments share: intervals over seeds, and the fields of a claim.

*Not refuted*: it reproduces, every interval lies above 0. *Refuted*: one lies below its smallest effect of interest.
*Undecided*: neither. Where an interval lies above 0 and ends below the smallest effect the first rule decides; every
claim's notes say what such an effect is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from verification.experiments.registration import Registration, load
from verification.experiments.statistics import Interval, every, interval, one_does_not_matter
from verification.model import Budget, Claim, Control, Correction, Params

OUTCOMES = (
    "“Not refuted” means here that it reproduces at this scale, “refuted” that it does not; “undecided”, that an "
    "interval neither lies above 0 nor leaves out effects that would matter. Where an interval lies above 0 and yet "
    "below the smallest effect of interest it counts as reproduced: the effect is there, and too small to matter."
)
INTERVAL = "No proof: a confidence interval of the registered level, over the registered seeds."

Statistic = Callable[[Any], float]


@dataclass(frozen=True)
class Experiment:
    """A registered experiment: ``measured(case, seed)`` is what one run found, cases are numbers or names."""

    plan: Registration
    measured: Callable[..., Any]

    def each(self, statistic: Statistic, case: Any) -> np.ndarray:
        """The statistic of every seed's run, (seeds,)."""
        return np.array([statistic(self.measured(case, seed)) for seed in self.plan.seeds])

    def interval(self, statistic: Statistic, case: Any) -> Interval:
        """Over the seeds. Claims need all of their intervals on one side, so that none is widened for their number."""
        return interval(self.each(statistic, case), self.plan["decision"]["confidence"])

    def first(self, case: Any) -> Any:
        """What the first seed's run found: the one that is drawn."""
        return self.measured(case, self.plan.seeds[0])

    def smallest(self, effect: str) -> float:
        return float(self.plan["decision"]["smallest_effect"][effect])


Effects = Callable[[Experiment], dict[str, Interval]]
Detail = Callable[[Experiment], dict[str, Any]]  # extras of a measurement, or a plot's data


def experiment(measured: Callable[..., Any]) -> Callable[[Params], Experiment]:
    """Builds an instance from its parameters, whose ``registration`` is a name that ``measured`` takes."""

    def build(params: Params) -> Experiment:
        name = params["registration"]
        return Experiment(load(name), lambda case, seed: measured(case, seed, name=name))

    return build


def registered(
    *,
    effects: Effects,
    effect: str,
    control: tuple[str, Effects],
    otherwise: str,
    detail: Detail,
    params: Mapping[str, Any],
    **fields: Any,
) -> Claim:
    """The claim that all effects are positive; ``effect`` names the smallest one of interest in the registration.

    otherwise: what is said where it does not reproduce. control: a name, and the effects with the cause switched off.
    """
    null, switched_off = control
    smallest = load(params["registration"])["decision"]["smallest_effect"][effect]
    fields["notes"] = f"{fields.get('notes', '')} The smallest effect of interest is {smallest:g}.".lstrip()
    return Claim(
        explicit=(dict(params),),
        measure=lambda e: every(effects(e), **detail(e)),
        grade="illustrative",
        controls=(Control(null, kind="formula", measure=lambda e: every(switched_off(e))),),
        corrected=Correction(
            tex=otherwise,
            measure=lambda e: one_does_not_matter(
                found := effects(e), dict.fromkeys(found, e.smallest(effect)), **detail(e)
            ),
            proof=INTERVAL,
        ),
        budget=Budget(quick=None, full=1),
        registration=load(params["registration"]).path,
        **fields,
    )


def shown(intervals: Mapping[str, Interval]) -> dict[str, str]:
    """Intervals beside those that decide."""
    return {name: f"{found.mean:+.4g} ± {found.half:.2g}" for name, found in intervals.items()}
