"""Which weight, set to 1, turns BiG-SAM's step into gradient descent on G: the symbol is lost from the text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from refimpl.solvers import BiGSAM
from verification.claims.improved_bilevel._moving import RATIONAL, Moving, at, moving, sizes
from verification.model import Budget, Claim, Control, Correction, Hypothesis, Measurement, identity

SOURCE = "improved-bilevel, algorithm 1 and the settings of its experiments"


@dataclass(frozen=True)
class Step:
    """One step from w with the symbol at ``value``."""

    case: Moving
    params: Mapping[str, Any]

    @property
    def s(self) -> Fraction:
        return Fraction(1, 4)

    @property
    def t(self) -> Fraction:
        return Fraction(1, 2)

    @property
    def w(self) -> Array:
        return RATIONAL.asarray(np.array(self.params["w"][: self.case.problem.d], dtype=float))

    @property
    def value(self) -> Fraction:
        return Fraction(*self.params["value"])

    def taken(self, weighs: str, value: Fraction | None = None) -> Array:
        """The step when the symbol weighs ``weighs``: "z", the F-step, or "y", the G-step."""
        alpha = self.value if value is None else value
        solver = BiGSAM(1, s=self.s, t=self.t, alpha=alpha if weighs == "z" else 1 - alpha)
        return solver.run(self.case.problem, self.case.lam, self.w).w

    def descent(self, level: str) -> Array:
        """w − s∇_wG, or w − t∇_wF."""
        lower = level == "G"
        objective, step = (self.case.lower, self.s) if lower else (self.case.upper, self.t)
        return np.asarray(self.w - RATIONAL.scalar(step) * objective.grad_w(self.case.lam, self.w))


def is_descent(weighs: str, level: str, value: Fraction | None = None) -> Callable[[Step], Measurement]:
    """The step against gradient descent on one level."""
    return lambda step: identity(step.taken(weighs, value), step.descent(level))


def ends(swapped: bool = False) -> Callable[[Step], Measurement]:
    """α = 0 gives descent on G and α = 1 descent on F; mutant: exchanged."""

    def measure(step: Step) -> Measurement:
        found = [step.taken("z", Fraction(end)) for end in (0, 1)]
        expected = [step.descent("G"), step.descent("F")]
        return identity(found, expected[::-1] if swapped else expected)

    return measure


def built(params: Mapping[str, Any]) -> Step:
    """The step of these parameters."""
    return Step(moving(params), dict(params))


def _at_one(step: Step) -> tuple[bool, Any]:
    return step.value == 1, str(step.value)


def point(n: int, d: int, r: int, **more: Any) -> dict[str, Any]:
    """Parameters of one step, the symbol at 1."""
    return at(n, d, r, **{"w": [1, -1, 2], "value": [1, 1], **more})


ONE = Hypothesis("the symbol is 1", r"\text{symbol} = 1", _at_one)
STRATEGY = sizes(w=st.tuples(*[st.integers(3, 9)] * 3).map(list), value=st.just([1, 1]))
EXPLICIT = (point(1, 1, 1), point(1, 2, 1), point(2, 3, 2))
COMMON: dict[str, Any] = {
    "source": SOURCE,
    "strategy": STRATEGY,
    "explicit": EXPLICIT,
    "build": built,
    "grade": "proved",
    "budget": Budget(quick=50, full=600),
}

CLAIMS = (
    Claim(
        id="improved-bilevel/convention",
        title="With α on the step on F, 0 is gradient descent on G and 1 is gradient descent on F",
        statement=r"\alpha = 0: w_k = w - s\nabla_wG, \qquad \alpha = 1: w_k = w - t\nabla_wF",
        **COMMON,
        measure=ends(),
        controls=(Control("the ends exchanged", kind="formula", measure=ends(swapped=True)),),
        notes="The project's convention. The other one exchanges the ends: the two exclude each other "
        "wherever $t\\nabla_wF \\ne s\\nabla_wG$.",
    ),
    Claim(
        id="improved-bilevel/convention@z",
        title="Read with the symbol on the step on F: set to 1 it gives gradient descent on the lower "
        "problem",
        statement=r"w_k = \alpha z_k + (1-\alpha)y_k,\ \alpha = 1 \;\Rightarrow\; w_k = w - s\nabla_wG",
        **COMMON,
        measure=is_descent("z", "G"),
        controls=(Control("the other reading", kind="formula", measure=is_descent("y", "F")),),
        corrected=Correction(
            tex=r"\alpha = 0 \;\Rightarrow\; w_k = w - s\nabla_wG",
            measure=is_descent("z", "G", Fraction(0)),
            proof="$\\alpha = 1$ leaves $z_k = w - t\\nabla_wF$, which never sees the lower problem.",
        ),
        notes="Under this reading the printed experiments, which set the symbol to 1 now and then, would "
        "have left the lower problem out in those steps.",
    ),
    Claim(
        id="improved-bilevel/convention@y",
        title="Read with the symbol on the step on G: set to 1 it gives gradient descent on the lower "
        "problem",
        statement=r"w_k = (1-\alpha)z_k + \alpha y_k,\ \alpha = 1 \;\Rightarrow\; w_k = w - s\nabla_wG",
        **COMMON,
        hypotheses=(ONE,),
        measure=is_descent("y", "G"),
        controls=(
            Control("the symbol is 1/2", params=point(1, 1, 1, value=[1, 2])),
            Control("the other reading", kind="formula", measure=is_descent("z", "G")),
        ),
        notes="The reading under which the document's text says what it must mean; its $\\alpha$ is then one "
        "minus ours.",
    ),
)
