r"""What a claim is: frozen descriptions only; :mod:`verification.hunt` executes them,
:mod:`verification.verdict` judges.

A module below ``verification.claims.<document>`` registers claims by a module-level tuple ``CLAIMS``; nothing
else is needed. Parameters are JSON-able dicts (numbers, strings, lists: no NaN, no arrays), the instance is
any object built from them. A complete example, executed by the tests:

>>> import numpy as np
>>> from hypothesis import strategies as st
>>> from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, reals
>>> def build(params):                        # A = q · (a rotation): its norm is q whatever the angle
...     c, s = np.cos(params["angle"]), np.sin(params["angle"])
...     return params["q"] * np.array([[c, -s], [s, c]])
>>> def norms(A):
...     return np.linalg.norm(A, 2), np.linalg.norm(np.linalg.inv(np.eye(2) - A), 2)
>>> def measure(A, bound=lambda q: 1 / (1 - q)):
...     q, inverse = norms(A)
...     eps = np.finfo(float).eps             # backward stability: 10·d relative errors of eps·cond
...     return Measurement(observed=inverse, bound=bound(q), rounding=20 * eps * (1 + q) * inverse**2)
>>> CLAIMS = (
...     Claim(
...         id="contraction/lemma-28",
...         title="I minus a contraction has a bounded inverse",
...         source="contraction, Lemma 28",
...         statement=r"\|A\| \le q < 1 \;\Rightarrow\; \|(I-A)^{-1}\| \le \frac{1}{1-q}",
...         hypotheses=(Hypothesis("contraction", r"\|A\| < 1", lambda A: (norms(A)[0] < 1, norms(A)[0])),),
...         strategy=st.fixed_dictionaries({"q": reals(0, 0.9), "angle": reals(0, 3)}),
...         explicit=({"q": 0.5, "angle": 0.0},),
...         build=build,
...         measure=measure,
...         grade="exact",
...         controls=(
...             Control("norm above one", params={"q": 1.5, "angle": 0.0}),
...             Control("1+q for 1-q", kind="formula", measure=lambda A: measure(A, lambda q: 1 / (1 + q))),
...         ),
...         equality=Equality(params={"q": 0.5, "angle": 0.0}, reaches=0.999),
...         budget=Budget(quick=100, full=2000),
...     ),
... )

Draw real parameters by :func:`reals` (a hunt climbs along integers, not between two floats). Texts
(``title``, ``statement``, ``notes`` …) may hold LaTeX between ``$…$``; a statement without a dollar sign
is one displayed formula. Readings of an ambiguous statement are ids like ``reweighting/cg-
delta@vector``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np
from flint import fmpq, fmpz
from hypothesis.strategies import SearchStrategy, integers

from refimpl.errors import BadInput

_STEPS = 2**20
_EXACT = (int, Fraction, fmpz, fmpq)

Params = Mapping[str, Any]
Grade = Literal["proved", "certified", "exact", "statistical", "illustrative"]
Verdict = Literal["holds", "not refuted", "refuted", "loose", "vacuous", "undecided"]
GRADES: tuple[Grade, ...] = get_args(Grade)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_ID = re.compile(r"[a-z0-9-]+(/[A-Za-z0-9.-]+)+(@[A-Za-z0-9.-]+)?")


def _exact(value: Any) -> Fraction:
    """An int, Fraction, fmpz or fmpq as a Fraction."""
    if isinstance(value, (fmpz, fmpq)):
        ratio = fmpq(value)
        return Fraction(int(ratio.p), int(ratio.q))
    return Fraction(value)


def _number(value: Any, name: str) -> float | Fraction:
    """A finite float, or a Fraction when ``value`` is exact; booleans are refused."""
    if isinstance(value, (bool, np.bool_)):
        advice = "measure a distance"
        raise BadInput(f"{name} is a truth value", measured=value, required="a number", advice=advice)
    if isinstance(value, (*_EXACT, np.integer)):
        return _exact(value)
    number = float(value)
    if not math.isfinite(number):
        advice = "an overflow or a 0/0 inside the measure is a defect of the claim, not a result"
        raise BadInput(f"{name} is not finite", measured=number, required="a finite number", advice=advice)
    return number


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The statement ``observed <= bound + rounding`` on one instance.

    An identity is ``observed = ||lhs - rhs||, bound = 0, rounding = a derived tolerance``; a rate is
    ``observed = |fitted - predicted|, bound = half-width``. Exact numbers (int, Fraction, fmpz, fmpq on both
    sides) are compared exactly and admit no rounding. ``detail`` holds JSON-able extras for the report; its
    key ``scale`` (the size of the quantities compared) makes the digits of agreement of an identity known,
    and an experiment that may stay undecided states ``smallest effect``, the least its budget would have seen.

    A lower bound ``a >= b`` is ``observed = b, bound = a``. Raises ``BadInput`` when a number is not finite,
    ``rounding`` is negative, or exact and float numbers mix.
    """

    observed: Any
    bound: Any
    rounding: float = 0.0
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        observed, bound = _number(self.observed, "observed"), _number(self.bound, "bound")
        rounding = float(_number(self.rounding, "rounding"))
        if rounding < 0:
            raise BadInput("negative rounding", measured=rounding, required=">= 0", advice="give its size")
        exact = isinstance(observed, Fraction) and isinstance(bound, Fraction)
        if exact and rounding:
            raise BadInput(
                "exact numbers with a rounding term", measured=rounding, required=0, advice="drop the term"
            )
        if not exact:
            if isinstance(self.observed, (Fraction, fmpq)) or isinstance(self.bound, (Fraction, fmpq)):
                measured = (type(self.observed).__name__, type(self.bound).__name__)
                advice = "convert both sides to one arithmetic before comparing"
                raise BadInput(
                    "exact and float numbers mix", measured=measured, required="one kind", advice=advice
                )
            observed, bound = float(observed), float(bound)
        for name, value in (("observed", observed), ("bound", bound), ("rounding", rounding)):
            object.__setattr__(self, name, value)

    @property
    def exact(self) -> bool:
        """Both sides are rational numbers."""
        return isinstance(self.observed, Fraction)

    @property
    def identity(self) -> bool:
        """The bound is zero: nothing but rounding is allowed."""
        return self.bound == 0

    def exceeds(self, factor: float = 1.0) -> bool:
        """Whether ``observed > factor * bound + rounding``; exact for exact numbers."""
        if self.exact:
            return bool(self.observed > Fraction(factor) * self.bound)
        return bool(self.observed > factor * self.bound + self.rounding)

    @property
    def holds(self) -> bool:
        """The statement is true on this instance."""
        return not self.exceeds()

    @property
    def ratio(self) -> float:
        """``observed / (bound + rounding)``, for display: above 1 exactly when violated."""
        return _quotient(self.observed, self.bound if self.exact else self.bound + self.rounding)

    @property
    def used(self) -> float:
        """``(observed - rounding) / bound``: the share of the bound that rounding cannot explain; what a hunt
        drives.

        For an identity it is ``ratio``. Unlike ``ratio`` it is not attracted by instances where rounding
        dominates.
        """
        if self.identity:
            return self.ratio
        return _quotient(self.observed if self.exact else self.observed - self.rounding, self.bound)

    @property
    def pair(self) -> tuple[float, float]:
        """What is allowed and what was observed, for a plot."""
        return float(self.bound) + self.rounding, float(self.observed)

    @property
    def digits(self) -> float | None:
        """Digits of agreement of an identity whose ``detail`` states its ``scale``; inf when exact."""
        scale = self.detail.get("scale")
        if not self.identity or not scale:
            return None
        return math.inf if self.observed == 0 else max(0.0, -math.log10(float(self.observed) / float(scale)))


def _quotient(above: Any, below: Any) -> float:
    if below <= 0:  # nothing, or less, is allowed (1/(1-q) where q > 1)
        return 0.0 if above <= below else math.inf
    try:
        return float(above / below)
    except OverflowError:
        return math.inf if above > 0 else -math.inf


def identity(
    lhs: Any, rhs: Any, *, rounding: float = 0.0, detail: Mapping[str, Any] | None = None
) -> Measurement:
    """``lhs = rhs``: the 2-norm of the difference for floats, its largest entry for exact entries (decided
    exactly).

    ``lhs`` and ``rhs`` are numbers or arrays (any nesting of lists) of one shape; raises ``BadInput``
    otherwise. The scale of the digits of agreement is the norm of ``rhs``.
    """
    left, right = np.asarray(lhs), np.asarray(rhs)
    if left.shape != right.shape:
        raise BadInput(
            "the sides differ in shape", measured=(left.shape, right.shape), required="equal shapes"
        )
    entries = [*left.ravel().tolist(), *right.ravel().tolist()]
    if entries and all(isinstance(entry, _EXACT) for entry in entries):
        gap = max(abs(_exact(a) - _exact(b)) for a, b in zip(left.flat, right.flat, strict=True))
        return Measurement(observed=gap, bound=0, rounding=rounding, detail=detail or {})
    target = right.astype(float)
    distance, scale = (float(np.linalg.norm(x.ravel())) for x in (left.astype(float) - target, target))
    return Measurement(
        observed=distance, bound=0.0, rounding=rounding, detail={"scale": scale, **(detail or {})}
    )


def reals(low: float, high: float, *, log: bool = False) -> SearchStrategy[float]:
    """Floats from ``low`` to ``high``, even or (``log``) by magnitude, on 2^20 steps; they shrink to ``low``.

    ``st.floats`` draws corner cases and stays there: hypothesis climbs towards a target by whole numbers.
    """
    if not low < high or (log and low <= 0):
        advice = "log needs positive ends"
        raise BadInput("the ends of reals", measured=(low, high), required="low < high", advice=advice)
    ratio, width = high / low if log else 1.0, high - low

    def at(step: int) -> float:
        share = step / _STEPS
        value = low * ratio**share if log else low + width * share
        return min(max(value, low), high)

    return integers(0, _STEPS).map(at)


def rate(fitted: float, predicted: float, half_width: float, **detail: Any) -> Measurement:
    """``|fitted - predicted| <= half_width``: a claimed rate fails both ways."""
    shown = {"fitted": float(fitted), "predicted": float(predicted), **detail}
    return Measurement(observed=abs(fitted - predicted), bound=half_width, detail=shown)


Build = Callable[[dict[str, Any]], Any]
Measure = Callable[[Any], Measurement]


@dataclass(frozen=True)
class Hypothesis:
    """A checked hypothesis: ``predicate(instance) -> (holds, measured)``; what fails it is not used."""

    name: str
    tex: str
    predicate: Callable[[Any], tuple[bool, Any]]


@dataclass(frozen=True)
class Control:
    """A negative control: it must fail, or the claim is vacuous.

    ``kind="formula"``: ``measure`` is a mutated formula (dropped term, wrong sign, missing 1/n …) that must
    be refuted by the same hunt (strategy, budget, seed), by a hunt over ``strategy`` when given, or on
    ``params`` when given. ``kind="hypothesis"``: the instance of ``params`` (or one found in ``strategy``)
    breaks a hypothesis, which the predicates must notice, and violates the statement (``measure`` when given,
    else the claim's).
    """

    name: str
    kind: Literal["hypothesis", "formula"] = "hypothesis"
    measure: Measure | None = None
    params: Params | None = None
    strategy: SearchStrategy[Any] | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("hypothesis", "formula"):
            raise BadInput(
                f"control {self.name!r}", measured=self.kind, required="kind hypothesis or formula"
            )
        if self.kind == "formula" and self.measure is None:
            raise BadInput(
                f"control {self.name!r} mutates nothing",
                required="measure",
                advice="give the mutated formula",
            )
        if self.kind == "hypothesis" and self.params is None and self.strategy is None:
            advice = "give the parameters of an instance that breaks a hypothesis"
            raise BadInput(
                f"control {self.name!r} has no instance", required="params or strategy", advice=advice
            )


@dataclass(frozen=True, kw_only=True)
class Equality:
    """Parameters where the bound is attained: there ``used`` must reach ``reaches`` (in (0, 1])."""

    params: Params
    reaches: float


@dataclass(frozen=True, kw_only=True)
class Correction:
    """The corrected statement of a claim that may fail: LaTeX, its measure, a sketch of its proof."""

    tex: str
    measure: Measure
    proof: str


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Generated instances per level; ``quick=None``: too dear, its last full result is shown, *not rerun*."""

    quick: int | None = 200
    full: int = 2000

    def at(self, level: str) -> int | None:
        """The number of instances at ``level`` (``"quick"`` or ``"full"``)."""
        return self.quick if level == "quick" else self.full


@dataclass(frozen=True, kw_only=True, eq=False)
class Claim:
    """One executed statement; see the module docstring for a complete example.

    ``explicit`` is tried first, smallest instances first (the first that fails is the counterexample shown);
    then ``strategy`` is hunted (None: the explicit instances are the whole class). ``complete`` says why
    passing on these instances proves the statement: the verdict is then *holds*, else *not refuted*.
    ``printed`` is what the document prints where it differs from ``statement``. An erratum measures the
    printed form and gives ``corrected``. ``loose`` says why no mutated formula can break the bound.
    ``curve(instance)`` returns the data of the plot: a dict ``x, predicted, measured`` (equally long) and
    optionally ``xlabel, ylabel, logx, logy``; it is drawn for the equality case, else for the worst instance.
    Where nothing is predicted, ``lines`` (name -> values) stands for ``predicted, measured``.
    ``registration`` is the file that fixed an experiment before its result was recorded, relative to the clone.
    """

    id: str
    title: str
    source: str
    statement: str
    hypotheses: Sequence[Hypothesis] = ()
    strategy: SearchStrategy[Any] | None = None
    explicit: Sequence[Params] = ()
    build: Build
    measure: Measure
    grade: Grade
    controls: Sequence[Control] = ()
    equality: Equality | None = None
    complete: str | None = None
    printed: str | None = None
    corrected: Correction | None = None
    loose: str | None = None
    curve: Callable[[Any], Mapping[str, Any]] | None = None
    budget: Budget = field(default_factory=Budget)
    registration: str | None = None
    notes: str = ""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise BadInput("claim id", measured=self.id, required="document/name or document/name@reading")
        if self.grade not in GRADES:
            raise BadInput(f"{self.id}: grade", measured=self.grade, required=", ".join(GRADES))
        if self.strategy is None and not self.explicit:
            raise BadInput(
                f"{self.id}: no instances", required="strategy or explicit", advice="give one of them"
            )
        if self.complete and self.grade not in ("proved", "certified", "exact"):
            advice = "sampling proves nothing: drop complete, or decide the instances without sampling"
            raise BadInput(
                f"{self.id}: complete",
                measured=self.grade,
                required="proved, certified or exact",
                advice=advice,
            )
        names = [control.name for control in self.controls]
        if len(set(names)) != len(names):
            raise BadInput(f"{self.id}: controls", measured=names, required="distinct names")

    @property
    def document(self) -> str:
        """The short name of the document that the claim belongs to."""
        return self.id.partition("/")[0]
