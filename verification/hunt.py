"""The hunt: hypothesis drives the instances of a claim toward its worst case and shrinks what violates it.

Deterministic given the seed: fixed example counts, no database, no deadline, no clock, no state left by other
hunts.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, Phase, given, reject, settings, target
from hypothesis import seed as with_seed
from hypothesis.errors import Unsatisfiable
from hypothesis.internal.cache import LRUCache
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from verification.model import Claim, Measure, Measurement

SHRINKS = (
    500  # instances measured while shrinking: counted, not timed, so that every machine stops at the same one
)
CLOUD = 200  # pairs (allowed, observed) kept for the plot


class Broken(Exception):
    """A claim whose build, predicate or measure raised (or warned): no verdict can rest on it."""


@dataclass(frozen=True)
class Outcome:
    """One instance: its parameters, the hypotheses it breaks (name, measured), its measurement if used."""

    params: dict[str, Any]
    broken: tuple[tuple[str, Any], ...]
    measurement: Measurement | None


@dataclass(frozen=True)
class Hunt:
    """What a hunt found; ``used`` and ``rejected`` count distinct instances up to the first violation.

    ``worst`` is the used instance with the largest share of its bound (of its rounding, for an identity);
    ``counterexample`` the smallest violation, ``shrinks`` the instances measured to find it;
    ``error`` is set when the claim itself raised, and then nothing else may be believed.
    """

    used: int
    rejected: int
    worst: Outcome | None
    counterexample: Outcome | None
    shrinks: int
    error: str | None
    cloud: tuple[tuple[float, float], ...]


def canonical(params: Any) -> str:
    """The one JSON text of ``params``: sorted keys, floats by repr; raises ``Broken`` when there is none."""
    try:
        return json.dumps(params, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Broken(f"parameters are not JSON-able: {error}") from error


@contextlib.contextmanager
def strictly(what: str) -> Iterator[None]:
    """Run a claim's own code: every warning is an error, every error is ``Broken`` and names ``what``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # autograd says this of every legal objective that ignores lam or w
            warnings.filterwarnings("ignore", message="Output seems independent of input")
            yield
    except Exception as error:
        raise Broken(f"{type(error).__name__} while {what}: {error}") from error


def evaluate(claim: Claim, measure: Measure, key: str, *, breaking: bool = False) -> Outcome:
    """The outcome on the instance of the canonical parameters ``key``.

    Used (measured) are the instances that satisfy every hypothesis or, with ``breaking``, those that break
    one.
    """
    params = json.loads(key)
    with strictly(f"building {key}"):
        instance = claim.build(params)
    with strictly(f"checking the hypotheses on {key}"):
        checked = [(hypothesis.name, *hypothesis.predicate(instance)) for hypothesis in claim.hypotheses]
    broken = tuple((name, measured) for name, holds, measured in checked if not holds)
    if bool(broken) != breaking:
        return Outcome(params, broken, None)
    with strictly(f"measuring {key}"):
        measurement = measure(instance)
        if not isinstance(measurement, Measurement):
            raise TypeError(f"measure returned {type(measurement).__name__}, not a Measurement")
        if claim.grade == "proved" and not measurement.exact:
            raise TypeError("grade 'proved' needs exact numbers (int, Fraction, fmpz, fmpq)")
    return Outcome(params, broken, measurement)


def hunt(
    measure: Measure,
    claim: Claim,
    *,
    budget: int,
    seed: int,
    factor: float = 1.0,
    shrink: bool = True,
    memo: dict[str, Outcome] | None = None,
    strategy: Any = None,
    breaking: bool = False,
) -> Hunt:
    """Look for an instance with ``observed > factor * bound + rounding``: the explicit ones, then ``budget``
    generated.

    ``strategy`` replaces the claim's instances (explicit ones too); ``memo`` carries outcomes between hunts
    of the same measure; ``breaking`` uses the instances that break a hypothesis instead. Cost: at most ten
    tries per generated instance, then ``SHRINKS`` more when something is found.
    """
    tally = _Tally(claim, measure, factor, breaking, {} if memo is None else memo)
    search = claim.strategy if strategy is None else strategy
    explicit = list(claim.explicit) + ([claim.equality.params] if claim.equality else [])
    try:
        for params in explicit if strategy is None else ():
            tally.look(canonical(params))
            if tally.counterexample is not None:
                return tally.result()
        if search is not None:
            _search(tally, search, budget, seed, shrink)
    except Unsatisfiable:  # hypothesis gives up after some hundred rejections in a row: the counts say so
        return tally.result()
    except (Broken, _Abort) as error:
        return tally.result(error=str(error))
    except Exception as error:  # whatever the strategy itself raises
        return tally.result(error=f"{type(error).__name__} while drawing instances: {error}")
    return tally.result()


class _Violation(Exception):
    """The one exception that hypothesis sees and shrinks."""


class _Abort(BaseException):
    """Carries ``Broken`` through hypothesis, which would shrink an ordinary exception."""


@dataclass
class _Tally:
    """Counts and extremes of one running hunt."""

    claim: Claim
    measure: Measure
    factor: float
    breaking: bool
    memo: dict[str, Outcome]
    seen: dict[str, Outcome] = field(default_factory=dict)
    used: int = 0
    rejected: int = 0
    shrinks: int = 0
    worst: Outcome | None = None
    counterexample: Outcome | None = None
    cloud: list[tuple[float, float]] = field(default_factory=list)

    def look(self, key: str) -> Outcome | None:
        """The outcome of ``key``, counted once; None when shrinking has spent its allowance."""
        outcome = self.seen.get(key)
        if outcome is None:
            if self.counterexample is not None:
                if self.shrinks == SHRINKS:
                    return None
                self.shrinks += 1
            outcome = self.memo.get(key) or evaluate(self.claim, self.measure, key, breaking=self.breaking)
            self.memo[key] = self.seen[key] = outcome
            if self.counterexample is None:
                self._count(outcome)
        if outcome.measurement is not None and outcome.measurement.exceeds(self.factor):
            self.counterexample = outcome  # hypothesis replays the smallest one last
        return outcome

    def _count(self, outcome: Outcome) -> None:
        measurement = outcome.measurement
        if measurement is None:
            self.rejected += 1
            return
        self.used += 1
        if len(self.cloud) < CLOUD:
            self.cloud.append(measurement.pair)
        if self.worst is None or _severity(measurement) > _severity(self.worst.measurement):
            self.worst = outcome

    def result(self, error: str | None = None) -> Hunt:
        counts = (self.used, self.rejected, self.worst, self.counterexample, self.shrinks)
        return Hunt(*counts, error, tuple(self.cloud))


def _severity(measurement: Measurement | None) -> tuple[bool, float]:
    """Instances with a positive bound come first: rounding on a zero bound says nothing of the others."""
    return (not measurement.identity, measurement.used) if measurement is not None else (False, -1.0)


def _search(tally: _Tally, strategy: Any, budget: int, seed: int, shrink: bool) -> None:
    """Hypothesis's generation, its ``target`` ascent and its shrinking over ``strategy``."""

    def trial(params: Any) -> None:
        try:
            outcome = tally.look(canonical(params))
        except Broken as error:
            raise _Abort(str(error)) from error
        if outcome is None or outcome.measurement is None:
            reject()
        if outcome.measurement.exceeds(tally.factor):
            raise _Violation
        severity = outcome.measurement.used
        if abs(severity) < float("inf"):
            target(severity, label="identity" if outcome.measurement.identity else "bound")

    phases = [Phase.generate, Phase.target, *([Phase.shrink] if shrink else [])]
    options = settings(
        max_examples=budget,
        phases=phases,
        database=None,
        deadline=None,
        derandomize=True,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(
            HealthCheck
        ),  # slow or much-rejecting strategies are counted, not forbidden
        backend="hypothesis",
    )
    # Hypothesis also draws constants that it reads in the source of whatever modules happen to be loaded:
    # with them a hunt would depend on the claims imported or hunted before it, and on the process it runs in.
    none = mock.patch.object(providers, "_get_local_constants", Constants)
    empty: LRUCache[Any, Any] = LRUCache(1024)
    fresh = mock.patch.object(providers, "CONSTANTS_CACHE", empty)
    with none, fresh, contextlib.suppress(_Violation):
        with_seed(seed)(options(given(strategy)(trial)))()
