r"""Figures 1, 2 and 3 at teaching scale: registered experiments, each with three outcomes.

*Not refuted*: it reproduces, a confidence interval lies on the claimed side of 0. *Refuted*: it does not reproduce, all
intervals lie below the smallest effect of interest. *Undecided*: neither. What is run, measured and decided by is read
from the registrations beside ``verification.experiments``; the control is the same run with the effect switched off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from verification.experiments import data_cleaning, few_shot
from verification.experiments.registration import Registration, load
from verification.experiments.statistics import (
    Interval,
    every,
    interval,
    none_matters,
    one_does_not_matter,
    some,
)
from verification.model import Budget, Claim, Control, Correction, Measurement

OUTCOMES = (
    "“Not refuted” means here that it reproduces at this scale, “refuted” that it does not; “undecided”, that an "
    "interval neither lies above 0 nor leaves out effects that would matter."
)
INTERVAL = "No proof: a confidence interval of the registered level, over the registered seeds."
OTHER = 1  # the stream of the null run: other minibatches


@dataclass(frozen=True)
class Experiment:
    """A registered experiment: ``run(keep_prob, seed, **options)`` is a record of curves with windows."""

    plan: Registration
    run: Callable[..., Any]

    @property
    def keep_probs(self) -> list[float]:
        return list(self.plan["algorithm"]["keep_probs"])

    def each(self, statistic: Callable[[Any], Any], keep_prob: float, **options: Any) -> np.ndarray:
        """The statistic of every seed's run, (seeds, ...)."""
        return np.array([statistic(self.run(keep_prob, seed, **options)) for seed in self.plan.seeds])

    def late(self, name: str) -> Callable[[Any], float]:
        """Mean of a curve over the last iterations."""
        return lambda c: float(getattr(c, name)[c.window(self.plan["statistic"]["late"])].mean())

    def spread(self, name: str) -> Callable[[Any], float]:
        """Standard deviation of a curve over the last iterations."""
        return lambda c: float(getattr(c, name)[c.window(self.plan["statistic"]["late"])].std())

    def gain(self, name: str) -> Callable[[Any], float]:
        """How far a curve's last iterations lie above its early ones."""
        early = self.plan["statistic"]["early"]
        return lambda c: self.late(name)(c) - float(getattr(c, name)[c.window(early)].mean())

    def interval(self, differences: np.ndarray, comparisons: int = 1) -> Interval:
        return interval(differences, self.plan["decision"]["confidence"], comparisons)

    def smallest(self, name: str) -> float:
        return float(self.plan["decision"]["smallest_effect"][name])

    def curve(self, name: str, keep_prob: float) -> np.ndarray:
        """A curve's mean over the seeds."""
        return self.each(lambda c: getattr(c, name), keep_prob).mean(0)

    def iterations(self) -> np.ndarray:
        return np.asarray(self.run(1.0, self.plan.seeds[0]).iteration)


def cleaning(params: Mapping[str, Any]) -> Experiment:
    """Data cleaning with one of its networks."""
    run = partial(data_cleaning.curves, params["network"], name=params["registration"])
    return Experiment(load(params["registration"]), run)


def episodes(params: Mapping[str, Any]) -> Experiment:
    """Few-shot learning with dropout on one shared layer, numbered from 1; keep probability 1 is the same for all."""

    def run(keep_prob: float, seed: int, **options: Any) -> few_shot.Curves:
        layer = None if keep_prob == 1 else params["layer"] - 1
        return few_shot.curves(layer, keep_prob, seed, name=params["registration"], **options)

    return Experiment(load(params["registration"]), run)


# -- figure 1 ------------------------------------------------------------------------------------------------
def _overfits(e: Experiment, **options: Any) -> dict[str, Interval]:
    """How far test accuracy falls and training accuracy rises without dropout; both are needed, so no correction."""
    return {
        "fall": e.interval(-e.each(e.gain("test"), 1.0, **options)),
        "rise": e.interval(e.each(e.gain("train"), 1.0, **options)),
    }


def _levels(e: Experiment) -> dict[str, float]:
    """What was reached without dropout: did it fit at all?"""
    names = ("train", "clean", "test")
    return {f"final {name} accuracy": float(e.each(e.late(name), 1.0).mean()) for name in names}


def _figure_1(network: str, hidden: str) -> Claim:
    return Claim(
        id=f"dropout-bilevel/figure-1@{network}",
        title=f"Data cleaning overfits: test accuracy falls while training accuracy rises ({hidden})",
        source="dropout-bilevel, figure 1 and section 1",
        statement="Without dropout ($p = 1$), test accuracy falls from the early to the late window of iterations, and "
        "training accuracy, on the labels as trained, rises.",
        explicit=({"registration": data_cleaning.NAME, "network": network},),
        build=cleaning,
        measure=lambda e: every(_overfits(e), **_levels(e)),
        grade="illustrative",
        controls=(
            Control(
                "no corrupted labels", kind="formula", measure=lambda e: every(_overfits(e, corrupted=0.0))
            ),
        ),
        corrected=Correction(
            tex="Without dropout ($p = 1$), test accuracy falls, or training accuracy rises, by less than "
            "the smallest effect of interest.",
            measure=lambda e: one_does_not_matter(
                _overfits(e), {name: e.smallest(name) for name in ("fall", "rise")}, **_levels(e)
            ),
            proof=INTERVAL,
        ),
        curve=lambda e: {
            "x": e.iterations(),
            "lines": {
                "training accuracy": e.curve("train", 1.0),
                "on the true labels": e.curve("clean", 1.0),
                "test accuracy": e.curve("test", 1.0),
            },
            "xlabel": "iteration",
            "ylabel": "accuracy",
        },
        budget=Budget(quick=None, full=1),
        registration=load(data_cleaning.NAME).path,
        notes=f"{OUTCOMES} With hidden layers the lower level is not convex, so that the assumptions do not hold.",
    )


# -- figures 2 and 3: some keep probability below 1 is better than 1 ---------------------------------------------
Better = Callable[[Experiment], Callable[[Any], float]]  # a statistic of a run that is claimed to rise


def _against_one(e: Experiment, better: Better) -> dict[str, Interval]:
    """The paired differences of every keep probability from 1."""
    base, count = e.each(better(e), 1.0), len(e.keep_probs)
    return {f"keep {p:g}": e.interval(e.each(better(e), p) - base, count) for p in e.keep_probs}


def _null(e: Experiment, better: Better) -> Measurement:
    """Keep probability 1 against itself with other minibatches: there is no effect to see."""
    other, base = (e.each(better(e), 1.0, stream=stream) for stream in (OTHER, 0))
    return some({"keep 1 again": e.interval(other - base, len(e.keep_probs))})


def _against(name: str, better: Better, effect: str) -> dict[str, Any]:
    """The fields of a claim that some keep probability below 1 raises a statistic."""

    def detail(e: Experiment) -> dict[str, Any]:
        return {f"{name} at keep 1": float(e.each(better(e), 1.0).mean())}

    return {
        "measure": lambda e: some(_against_one(e, better), **detail(e)),
        "controls": (
            Control(
                "keep probability 1 twice, other minibatches",
                kind="formula",
                measure=lambda e: _null(e, better),
            ),
        ),
        "corrected": Correction(
            tex=f"No keep probability $p < 1$ that was tried betters the {name} by the smallest effect of "
            "interest.",
            measure=lambda e: none_matters(_against_one(e, better), e.smallest(effect), **detail(e)),
            proof=INTERVAL,
        ),
        "grade": "illustrative",
        "budget": Budget(quick=None, full=1),
    }


def _over_time(name: str, ylabel: str) -> Callable[[Experiment], dict[str, Any]]:
    """A curve's mean over the seeds, a line for every keep probability."""
    return lambda e: {
        "x": e.iterations(),
        "lines": {f"keep {p:g}": e.curve(name, p) for p in (1.0, *e.keep_probs)},
        "xlabel": "iteration",
        "ylabel": ylabel,
    }


def _spreads(e: Experiment) -> dict[str, Any]:
    keeps = [*sorted(e.keep_probs), 1.0]
    values = [float(e.each(e.spread("test"), p).mean()) for p in keeps]
    return {
        "x": keeps,
        "lines": {"spread of test accuracy": values},
        "xlabel": "keep probability",
        "ylabel": "standard deviation",
    }


READINGS: dict[str, tuple[str, str, Better, Callable[[Experiment], dict[str, Any]]]] = {
    "accuracy": (
        "Dropout raises the final test accuracy of data cleaning",
        "final test accuracy",
        lambda e: e.late("test"),
        _over_time("test", "test accuracy"),
    ),
    "stable": (
        "Dropout steadies the final test accuracy of data cleaning",
        "negative spread of the final test accuracy",
        lambda e: lambda c: -e.spread("test")(c),
        _spreads,
    ),
    "f1": (
        "Dropout detects corrupted labels better",
        "final F1 of the detection",
        lambda e: e.late("f1"),
        _over_time("f1", "F1 of the detection"),
    ),
}


def _figure_2(reading: str, network: str, hidden: str) -> Claim:
    title, name, better, curve = READINGS[reading]
    inputs = " There being no hidden layer, the masks are on input features." if network == "linear" else ""
    printed = "not the document's claim, but what data cleaning is for" if reading == "f1" else "section 5"
    return Claim(
        id=f"dropout-bilevel/figure-2@{reading}-{network}",
        title=f"{title} ({hidden})",
        source=f"dropout-bilevel, figure 2 ({printed})",
        statement=f"For some keep probability $p < 1$, the {name} is larger than for $p = 1$.",
        explicit=({"registration": data_cleaning.NAME, "network": network},),
        build=cleaning,
        curve=curve,
        registration=load(data_cleaning.NAME).path,
        notes=f"{OUTCOMES}{inputs}",
        **_against(name, better, reading),
    )


def _figure_3(layer: int) -> Claim:
    return Claim(
        id=f"dropout-bilevel/figure-3@layer-{layer}",
        title=f"Dropout on shared layer {layer} raises the accuracy on new few-shot tasks",
        source="dropout-bilevel, figure 3 (section 5: a proper dropout to any layer)",
        statement="For some keep probability $p < 1$ on this layer alone, the final accuracy on tasks from classes not "
        "trained on is larger than without dropout.",
        explicit=({"registration": few_shot.NAME, "layer": layer},),
        build=episodes,
        curve=_over_time("test", "accuracy on new tasks"),
        registration=load(few_shot.NAME).path,
        notes=f"{OUTCOMES} Both levels are masked, as in (9). A digit that looks the same upside down is two "
        "classes that no network can tell apart.",
        **_against("final accuracy on new tasks", lambda e: e.late("test"), "accuracy"),
    )


HIDDEN = {
    network: {0: "linear", 1: "one hidden layer"}.get(len(widths) - 2, f"{len(widths) - 2} hidden layers")
    for network, widths in load(data_cleaning.NAME)["networks"].items()
}
LAYERS = range(1, len(load(few_shot.NAME)["networks"]["body"]))

CLAIMS = (
    *(_figure_1(network, hidden) for network, hidden in HIDDEN.items()),
    *(_figure_2(reading, network, hidden) for network, hidden in HIDDEN.items() for reading in READINGS),
    *(_figure_3(layer) for layer in LAYERS),
)
