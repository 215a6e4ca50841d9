"""Early stopping at wrong weights: one parameter, a clean and a wrong sample (reweighting, 4.1.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl import BilevelProblem, exact_hypergradient, solvers
from refimpl.approximate import reverse
from refimpl.arrays.backend import Array
from refimpl.zoo.ridge import HalfSquares
from refimpl.zoo.weighted_rows import WeightedRows
from refimpl.zoo.weights import SampleWeights
from verification.claims.reweighting._penalty import fraction, rational
from verification.claims.reweighting._rational import RATIONAL
from verification.claims.reweighting.early_stopping import SOURCE, WINDOW
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, identity


@dataclass(frozen=True)
class Pair:
    """L = ½(θ − y)² at y = a (clean) and y = b (wrong), weights ω; F = ½(θ − a)²; θ_0 = 0, and α such that θ_1 = a."""

    a: fmpq
    b: fmpq
    omega: tuple[int, int]

    @property
    def full(self) -> fmpq:
        """θ_∞ = Σω_i y_i/Σω_i."""
        return (self.omega[0] * self.a + self.omega[1] * self.b) / sum(self.omega)

    @property
    def alpha(self) -> fmpq:
        """n a/Σω_i y_i."""
        return 2 * self.a / (self.full * sum(self.omega))

    @cached_property
    def problem(self) -> BilevelProblem:
        ones = rational([[1]])
        rows = HalfSquares(
            rational([[1], [1]]), np.array([self.a, self.b], dtype=object), 2, backend=RATIONAL
        )
        clean = HalfSquares(ones, np.array([self.a], dtype=object), 2, backend=RATIONAL)
        return BilevelProblem(
            clean, WeightedRows(rows, SampleWeights("identity", backend=RATIONAL), RATIONAL)
        )

    @property
    def lam(self) -> Array:
        return rational(self.omega)

    def step(self, alpha: Any = None) -> Any:
        """α as Python's fraction; another one if it is given."""
        return fraction(self.alpha if alpha is None else alpha)

    def after(self, t: int, alpha: Any = None) -> Any:
        """θ_t."""
        solver = solvers.GradientDescent(t, self.step(alpha))
        return solver.run(self.problem, self.lam, rational([0])).w[0]

    def F(self, theta: Any) -> Any:
        return self.problem.upper.value(self.lam, np.array([theta], dtype=object))


def pair(params: Mapping[str, Any]) -> Pair:
    """Small integers a and b, weights ω."""
    return Pair(fmpq(params["a"]), fmpq(params["b"]), tuple(params["omega"]))


def two(a: int = 1, b: int = 3, omega: tuple[int, int] = (1, 1)) -> dict[str, Any]:
    """Parameters of one instance."""
    return {"a": a, "b": b, "omega": list(omega)}


def _beyond(p: Pair) -> tuple[bool, Any]:
    return p.a > 0 and p.b > p.a and p.omega[1] > 0, f"a = {p.a}, b = {p.b}, ω = {p.omega}"


def _right(p: Pair) -> tuple[bool, Any]:
    return p.omega[1] == 0, f"ω = {p.omega}"


def learns(late: int = 1) -> Callable[[Pair], Measurement]:
    """F(θ_t) against ½(θ_∞ − a)²(1 − x^{t−1})², and how often it does not rise, t = 1, …; ``late`` is the power's 1."""

    def measure(p: Pair) -> Measurement:
        x, steps = 1 - p.a / p.full, range(1, WINDOW + 3)
        found = [p.F(p.after(t)) for t in steps]
        stated = [(p.full - p.a) ** 2 * (1 - x ** (t - late)) ** 2 / 2 for t in steps]
        still = sum(int(after <= before) for before, after in pairwise(found))
        return identity([*found, fmpq(still)], [*stated, fmpq(0)])

    return measure


def converges(power: int = 2) -> Callable[[Pair], Measurement]:
    """F(θ_t) against (1 − ηω_1/n)^{2t} F(θ_0), at step η = 1/4."""

    def measure(p: Pair) -> Measurement:
        x, steps = 1 - fmpq(1, 8) * p.omega[0], range(WINDOW + 1)
        found = [p.F(p.after(t, fmpq(1, 4))) for t in steps]
        return identity(found, [x ** (power * t) * p.a**2 / 2 for t in steps])

    return measure


def signal(formula: Callable[[Pair], Any]) -> Callable[[Pair], Measurement]:
    """The exact hypergradient at θ_∞ and its signs, and the unrolled one after the best step, against (formula, 0)."""

    def measure(p: Pair) -> Measurement:
        exact = exact_hypergradient(p.problem, p.lam).value
        one = solvers.GradientDescent(1, p.step())
        unrolled = reverse(p.problem, p.lam, lower=one, w0=rational([0])).value
        wrong = int(exact[0] >= 0) + int(exact[1] <= 0)
        return identity([*exact, *unrolled, fmpq(wrong)], [*formula(p), *([fmpq(0)] * 3)])

    return measure


def tells_apart(p: Pair) -> tuple[fmpq, fmpq]:
    """(−(θ_∞ − a)², (θ_∞ − a)(b − θ_∞))/Σω, with the sign that raises the clean weight."""
    off = p.full - p.a
    return -off * off / sum(p.omega), off * (p.b - p.full) / sum(p.omega)


PAIRS = {"a": st.integers(1, 5), "b": st.integers(-5, 12)}
WEIGHTS = st.tuples(st.integers(1, 4), st.integers(0, 4))
CLAIMS = (
    Claim(
        id="reweighting/early-stopping@wrong-weights",
        title="At wrong weights every step beyond the first one learns the wrong label",
        source=SOURCE,
        statement=r"$$F(\theta_t) = \tfrac12(\theta_\infty - a)^2(1 - x^{t-1})^2, \quad t \ge 1$$ $$x = 1 - "
        r"a/\theta_\infty, \quad \theta_\infty = \textstyle\sum\omega_iy_i/\sum\omega_i$$",
        hypotheses=(Hypothesis("wrong weights", r"\omega_2 > 0,\ y_2 = b > a > 0", _beyond),),
        strategy=st.fixed_dictionaries({**PAIRS, "omega": WEIGHTS}),
        explicit=(two(), two(2, 5, (3, 1))),
        build=pair,
        measure=learns(),
        grade="proved",
        controls=(
            Control("b on the other side", params=two(1, -1, (3, 1))),
            Control("x^t for x^{t−1}", kind="formula", measure=learns(0)),
        ),
        budget=Budget(quick=60, full=600),
        notes="One parameter, losses $\\frac12(\\theta - y)^2$, a clean sample $y_1 = a$ and a wrong one $y_2 = b$; "
        "the step is that with $\\theta_1 = a$. With $a = 1$, $b = 3$, $\\omega = (1, 1)$: $F = \\frac12, 0, "
        "\\frac18, \\frac9{32}, …$ towards $\\frac12$.",
    ),
    Claim(
        id="reweighting/early-stopping@right-weights",
        title="At right weights solving the training problem fully is best",
        source=SOURCE,
        statement=r"$$F(\theta_t) = \left(1 - \frac{\alpha\omega_1}n\right)^{2t}F(\theta_0)$$",
        hypotheses=(Hypothesis("right weights", r"\omega_2 = 0", _right),),
        strategy=st.fixed_dictionaries(
            {**PAIRS, "omega": st.tuples(st.integers(1, 4), st.sampled_from([0, 0, 0, 1]))}
        ),
        explicit=(two(omega=(1, 0)),),
        build=pair,
        measure=converges(),
        grade="proved",
        controls=(
            Control("wrong weights", params=two()),
            Control("t for 2t", kind="formula", measure=converges(1)),
        ),
        budget=Budget(quick=60, full=400),
        notes="So the warning is about the weights, not about solving.",
    ),
    Claim(
        id="reweighting/early-stopping@signal",
        title="Where stopping is best the unrolled derivative is zero; the fully solved one tells the samples apart",
        source=SOURCE,
        statement=r"$$\theta_1 = a: \quad \frac{\partial F(\theta_1)}{\partial\omega} = 0$$ $$\frac{\partial "
        r"F(\theta_\infty)}{\partial\omega} = \frac{1}{\sum\omega}\left(-(\theta_\infty - a)^2,\ (\theta_\infty - "
        r"a)(b - \theta_\infty)\right)$$",
        hypotheses=(Hypothesis("wrong weights", r"\omega_2 > 0,\ y_2 = b > a > 0", _beyond),),
        strategy=st.fixed_dictionaries({**PAIRS, "omega": WEIGHTS}),
        explicit=(two(), two(2, 5, (3, 1))),
        build=pair,
        measure=signal(tells_apart),
        grade="proved",
        controls=(
            Control("right weights", params=two(omega=(1, 0))),
            Control(
                "the other sign", kind="formula", measure=signal(lambda p: tuple(-x for x in tells_apart(p)))
            ),
        ),
        budget=Budget(quick=60, full=600),
        notes="The exact hypergradient at the noise that was "
        "learnt raises the right weight and lowers the wrong one, $(-\\frac12, \\frac12)$ with $a = 1$, $b = 3$, "
        "$\\omega = (1, 1)$. Stopping at the best step removes the signal that would mend the weights.",
    ),
)
