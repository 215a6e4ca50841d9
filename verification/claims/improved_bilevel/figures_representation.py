r"""Figures 4 and 5 at teaching scale: hyper-representation, improved and basic model, a registered experiment.

Omniglot and MiniImageNet are replaced by turned digits with two kinds of linear heads: cross entropy (figure 4) and
least squares (figure 5). The text does not say how the heads of its evaluation tasks are fitted. The improved inner
problem holds the query labels, which are what is asked for: here both models' heads are fitted on the support alone,
and "seen" is what the other way would show.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from verification.claims._figures import OUTCOMES, Effects, Experiment, experiment, registered
from verification.experiments import improved_representation
from verification.experiments.improved_representation import SOLVED, Case, Curves
from verification.experiments.registration import load
from verification.experiments.statistics import Interval, interval
from verification.model import Claim

NAME, CALLS_NAME = improved_representation.NAME, improved_representation.CALLS_NAME
PLAN = load(NAME)
WAYS, SHOTS, INNER = PLAN["data"]["ways"], PLAN["data"]["shots"], PLAN["algorithm"]["inner"]
FIGURES = {4: ("softmax", "softmax heads"), 5: ("squared", "least-squares heads")}
Gain = Callable[[Experiment, Case, Case], np.ndarray]  # (seeds,) by which the first is better


def measured(case: Case, seed: int, *, name: str) -> Curves:
    """One seed's curves."""
    return improved_representation.curves(case, name=name)[load(name).seeds.index(seed)]


def of(e: Experiment, differences: np.ndarray) -> Interval:
    """Over the seeds."""
    return interval(differences, e.plan["decision"]["confidence"])


def cells(heads: str, *, shots: list[int] | None = None, per_call: bool = False) -> dict[str, Case]:
    """All settings, of the improved model."""
    grid = product(WAYS, SHOTS if shots is None else shots, INNER)
    return {f"{w}-way {k}-shot, {K} steps": Case(heads, w, k, K, per_call=per_call) for w, k, K in grid}


def basic(case: Case, stream: int = 0) -> Case:
    """The basic model in the same setting."""
    return case._replace(improved=False, stream=stream)


def again(case: Case) -> Case:
    """What stands for the improved model in the control."""
    return basic(case, stream=1)


def itself(case: Case) -> Case:
    """The improved model."""
    return case


# -- statistics of two runs ----------------------------------------------------------------------------------


def final(e: Experiment, one: Case, other: Case) -> np.ndarray:
    """Of the last records' accuracies."""
    late = e.plan["statistic"]["late"]
    return np.asarray(
        e.each(lambda c: c.accuracy[-late:].mean(), one) - e.each(lambda c: c.accuracy[-late:].mean(), other)
    )


def whole(e: Experiment, one: Case, other: Case) -> np.ndarray:
    """Of the mean accuracy over all records but the start."""
    return np.asarray(
        e.each(lambda c: c.accuracy[1:].mean(), one) - e.each(lambda c: c.accuracy[1:].mean(), other)
    )


def seen(e: Experiment, one: Case, other: Case) -> np.ndarray:
    """The first with heads fitted as in training."""
    late = e.plan["statistic"]["late"]
    return np.asarray(
        e.each(lambda c: c.seen[-late:].mean(), one) - e.each(lambda c: c.accuracy[-late:].mean(), other)
    )


Arm = Callable[[Case], Case]
Reading = Callable[[str, Arm], Effects]  # effects of the heads, the improved model or what stands for it


def over_cells(gain: Gain, what: str, *, per_call: bool = False) -> Reading:
    """The mean gain over all cells."""

    def reading(heads: str, arm: Arm) -> Effects:
        def effects(e: Experiment) -> dict[str, Interval]:
            settings = cells(heads, per_call=per_call).values()
            each = [gain(e, arm(case), basic(case)) for case in settings]
            return {what: of(e, np.mean(each, 0))}

        return effects

    return reading


def each_of(settings: Callable[[str], dict[str, Case]]) -> Reading:
    """The gain in every one of them."""

    def reading(heads: str, arm: Arm) -> Effects:
        return lambda e: {
            name: of(e, final(e, arm(case), basic(case))) for name, case in settings(heads).items()
        }

    return reading


def one_shot(heads: str, arm: Arm) -> Effects:
    """The mean gain of the fewest shots less that of the most."""

    def effects(e: Experiment) -> dict[str, Interval]:
        few, many = (
            np.mean([final(e, arm(case), basic(case)) for case in cells(heads, shots=[shots]).values()], 0)
            for shots in (min(SHOTS), max(SHOTS))
        )
        return {f"gain at {min(SHOTS)} shot less that at {max(SHOTS)}": of(e, few - many)}

    return effects


def solved(heads: str) -> dict[str, Case]:
    """The setting whose heads are solved."""
    ways, shots = PLAN["data"]["solved"]
    return {f"{ways}-way {shots}-shot, solved": Case(heads, ways, shots, SOLVED)}


def levels(settings: dict[str, Case]) -> Callable[[Experiment], dict[str, Any]]:
    """Every cell's gain, the basic model's accuracy and both costs; in how many cells the mean gain is positive."""

    def cost(c: Curves) -> str:
        assembled = f" and {c.matrices[-1]:.0f} matrices" if c.matrices[-1] else ""
        return f"{c.calls[-1]:.0f} calls{assembled} in {c.iteration[-1]} iterations"

    def detail(e: Experiment) -> dict[str, Any]:
        late, gains = e.plan["statistic"]["late"], {}
        shown: dict[str, Any] = {}
        for name, case in settings.items():
            gains[name] = float(final(e, case, basic(case)).mean())
            level = float(e.each(lambda c: c.accuracy[-late:].mean(), basic(case)).mean())
            costs = "; ".join(cost(e.first(c)) for c in (basic(case), case))
            shown[name] = f"{level:.4f} and {gains[name]:+.4f}; {costs}"
        return {"cells with a gain": f"{sum(g > 0 for g in gains.values())} of {len(gains)}", **shown}

    return detail


def drawn_for(case: Case) -> Callable[[Experiment], dict[str, Any]]:
    """Accuracies over the iterations, or over the derivative calls."""

    def drawn(e: Experiment) -> dict[str, Any]:
        improved, other = ([e.measured(c, seed) for seed in e.plan.seeds] for c in (case, basic(case)))
        x, at = ((c.calls if case.per_call else c.iteration) for c in (improved[0], other[0]))
        return {
            "x": x,
            "lines": {
                "improved": np.mean([c.accuracy for c in improved], 0),
                "basic": np.interp(x, at, np.mean([c.accuracy for c in other], 0)),
                "improved, query labels seen": np.mean([c.seen for c in improved], 0),
            },
            "xlabel": "derivative calls" if case.per_call else "iteration",
            "ylabel": f"accuracy on new tasks, {case.ways}-way {case.shots}-shot",
        }

    return drawn


READINGS: dict[str, tuple[str, str, Reading, str]] = {
    "accuracy": (
        "The improved model has better accuracy on new tasks, over all settings",
        "the mean over all settings of the final accuracy on new tasks is higher with the improved model",
        over_cells(final, "mean gain over the settings"),
        "The mean gain over the settings is below the smallest effect of interest",
    ),
    "every-setting": (
        "The improved model has better accuracy on new tasks in every setting",
        "in every setting the final accuracy on new tasks is higher with the improved model",
        each_of(cells),
        "In some setting the gain is below the smallest effect of interest",
    ),
    "one-shot": (
        "The improved model gains most with one shot",
        f"the mean gain in accuracy is larger with {min(SHOTS)} shot than with {max(SHOTS)}",
        one_shot,
        "The gain with one shot exceeds the other by less than the smallest effect of interest",
    ),
    "sooner": (
        "The improved model's accuracy on new tasks rises sooner",
        "the mean over the run and over all settings of the accuracy on new tasks is higher with the improved model",
        over_cells(whole, "mean gain over the runs"),
        "The mean gain over the runs is below the smallest effect of interest",
    ),
    "accuracy-calls": (
        "The improved model has better accuracy on new tasks for equally many derivative calls",
        "for equally many derivative calls, the mean over all settings of the final accuracy on new tasks is higher "
        "with the improved model",
        over_cells(final, "mean gain over the settings", per_call=True),
        "For equally many calls the mean gain over the settings is below the smallest effect of interest",
    ),
    "sooner-calls": (
        "The improved model's accuracy on new tasks rises sooner per derivative call",
        "for equally many derivative calls, the mean over the run and over all settings of the accuracy on new tasks "
        "is higher with the improved model",
        over_cells(whole, "mean gain over the runs", per_call=True),
        "For equally many calls the mean gain over the runs is below the smallest effect of interest",
    ),
    "seen": (
        "With heads that have seen the query labels the improved model looks better",
        "where its heads are fitted by its own inner problem, the labels of the very queries included, the mean "
        "over all settings of the final accuracy is higher with the improved model",
        over_cells(seen, "mean gain, labels seen"),
        "The mean gain with the labels seen is below the smallest effect of interest",
    ),
    "solved": (
        "The improved model has better accuracy on new tasks where the inner problem is solved",
        "where the inner problem is solved the final accuracy on new tasks is higher with the improved model",
        each_of(solved),
        "Where the inner problem is solved the gain is below the smallest effect of interest",
    ),
}
ASIDES = {
    "seen": " (not the document's claim, but what its figure may show)",
    **dict.fromkeys(
        ("accuracy-calls", "sooner-calls"), " (not the document's claim, but what an iteration costs)"
    ),
}
CALLS_NOTE = (
    " Calls: gradients and products with second derivatives of either level, in training. The basic model's iteration "
    "has about half as many, and it takes as many iterations more."
)
SOLVED_NOTE = (
    f" There $K = {PLAN['algorithm']['limit']}$, near the limit: the solution nearest 0. The improved model trains "
    "with heads in closed form, which fit the support, and of all those that do the queries best."
)


def figure(number: int, reading: str) -> Claim:
    """One statement on one kind of heads."""
    (heads, kind), (title, statement, effects, otherwise) = FIGURES[number], READINGS[reading]
    per_call = reading.endswith("-calls")
    hardest = Case(heads, max(WAYS), min(SHOTS), min(INNER), per_call=per_call)
    settings, note = cells(heads, per_call=per_call), CALLS_NOTE if per_call else ""
    where = f"ways {WAYS}, shots {SHOTS}, inner steps $K$ of {INNER}"
    if reading == "solved":
        settings = solved(heads)
        (where, hardest), note = next(iter(settings.items())), SOLVED_NOTE
        where += r", $K = \infty$"
    return registered(
        id=f"improved-bilevel/figure-{number}@{reading}",
        title=f"{title} ({kind})",
        source=f"improved-bilevel, figure {number} and section 5.2{ASIDES.get(reading, '')}",
        statement=f"With {kind}, {statement}: {where}.",
        effects=effects(heads, itself),
        effect="accuracy",
        control=("the basic model twice, other tasks drawn", effects(heads, again)),
        otherwise=rf"{otherwise}: $\Delta < \varepsilon$.",
        detail=levels(settings),
        params={"registration": CALLS_NAME if per_call else NAME},
        build=experiment(measured),
        curve=drawn_for(hardest),
        notes=f"{OUTCOMES} On new tasks the query labels are not known: except in @seen, both models' heads are "
        f"fitted by $K$ gradient steps on the support.{note}",
    )


CLAIMS = tuple(
    figure(number, reading)
    for number, (heads, _) in FIGURES.items()
    for reading in READINGS
    if reading != "solved" or heads == "squared"
)
