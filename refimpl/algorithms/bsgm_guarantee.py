"""What theorems 16 and 17 (contraction) say of a BSGM: its lengths and its steps, held to their conditions.

    16 (i)   t_s, k_s, J_s >= ⌈c₃(s+1)⌉          16 (ii)  t_s, k_s, J_s >= ⌈c₃S⌉           η_i = β/(γ+i) of theorem 8
    17       t_s, k_s >= ⌈c₃ log(s+1)⌉, J_s >= 1, c₃ >= 1/log(1/q), η_i = 1, all data in every draw and no noise

In all of them α_s = α <= 1/L. The theorems have = for >=: ρ(t), σ(k) and 1/J, in which the errors' bounds increase,
only fall with more steps and draws.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

from refimpl.algorithms.grazzi2023bsgm import BSGM
from refimpl.approximate import guarantees
from refimpl.approximate.conditions import Miss, at_least, at_most, beyond
from refimpl.approximate.solver_rates import SolverRates, of_map, require_same_map
from refimpl.arrays.numbers import as_number, require_number
from refimpl.constants import Constants, Noise
from refimpl.errors import BadInput, HypothesisViolated, OutsideTheory
from refimpl.lengths import Fixed, Growing, Length, Logarithmic
from refimpl.rates import Harmonic, Rate
from refimpl.solvers.lower import require_count

Theorem = Literal["16 (i)", "16 (ii)", "17"]
SYMBOLS = {
    "sigma1": "σ₁",
    "sigma2": "σ₂",
    "d_sigma1": "σ'₁",
    "d_sigma2": "σ'₂",
    "sigma1_E": "σ_{1,E}",
    "sigma2_E": "σ_{2,E}",
}


@dataclass(frozen=True)
class BSGMGuarantee:
    """One of the theorems for S = ``steps`` iterations, with what the method misses: ``bsgm_guarantee`` makes it.

    L: a Lipschitz constant of ∇f. The constants must hold wherever λ may go. Raises ``BadInput``.
    """

    method: BSGM
    constants: Constants
    noise: Noise
    theorem: Theorem
    c3: Any
    steps: int
    L: Any

    def __post_init__(self) -> None:
        require_count(self.steps, "steps", least=1)
        require_number(self.c3, "c3", "inner steps per upper-level step, as in the schedule ⌈c₃(s+1)⌉")
        require_number(self.L, "L", "leave it out for constants.L_f", closed=True)
        if not isinstance(self.method, BSGM) or self.theorem not in ("16 (i)", "16 (ii)", "17"):
            raise BadInput(
                "no theorem for this method",
                measured=f"{type(self.method).__name__}, theorem {self.theorem!r}",
                required="a BSGM, and '16 (i)', '16 (ii)' or '17'",
                advice="algorithms.BSGM(t=Growing(1), k=Growing(1), J=Growing(1), ...) is one for 16 (i)",
            )
        require_same_map(self.constants, self.noise)

    @property
    def kind(self) -> Literal["theory", "outside theory"]:
        """Is it what the theorem proves?"""
        return "outside theory" if self.misses else "theory"

    @cached_property
    def misses(self) -> tuple[Miss, ...]:
        """Every condition missed; of a length, where it lacks most. Cost: S values of each length."""
        deterministic, method = self.theorem == "17", self.method
        drawn = (Fixed(1), "1") if deterministic else self._least
        found = [
            *_short("t", method.t, *self._least, self.steps),
            *_short("k", method.k, *self._least, self.steps),
            *_short("J", method.J, *drawn, self.steps),
            *self._upper_steps(),
            *(self._deterministic() if deterministic else self._decreasing()),
            *self._rates.misses,
        ]
        return tuple(dict.fromkeys(found))

    @property
    def _least(self) -> tuple[Length, str]:
        if self.theorem == "17":
            return Logarithmic(self.c3), "⌈c₃ log(s + 1)⌉"
        if self.theorem == "16 (i)":
            return Growing(self.c3), "⌈c₃(s + 1)⌉"
        return Fixed(math.ceil(Fraction(as_number(self.c3)) * self.steps)), "⌈c₃S⌉"

    @property
    def _rates(self) -> SolverRates:
        """Theorem 8, for J = 1."""
        rate, linear = (of_map(self.constants, x) for x in (self.method.rate, self.method.linear_rate))
        return SolverRates(self.constants, self.noise, rate, linear, 1, self.method.start)

    def _upper_steps(self) -> list[Miss]:
        alpha = self.method.alpha
        if not alpha.constant:
            return [Miss("the same α in every iteration, not", repr(alpha))]
        return guarantees.long_step(self.L, alpha(0))

    def _decreasing(self) -> list[Miss]:
        return [
            Miss("η_i = β/(γ + i), not", repr(rate))
            for rate in (self._rates.rate, self._rates.linear_rate)
            if not isinstance(rate, Harmonic)
        ]

    def _deterministic(self) -> list[Miss]:
        batch, noise = self.method.batch, self.noise
        return [
            *guarantees.slow_pace(self.constants, self.c3),
            *_ones(self._rates.rate),
            *_ones(self._rates.linear_rate),
            *([] if batch is None else [Miss("all data in every draw, batch=None, not", repr(batch))]),
            *(
                Miss(f"{is_} = 0", x, 0, x)
                for name, is_ in SYMBOLS.items()
                if (x := getattr(noise, name)) != 0
            ),
        ]

    def bound(self, drop: Any, *, sharp: bool = False) -> Any:
        """Of the mean of E‖G_α(λ_s)‖², s < S; drop: Δ_f. ``sharp``: the theorem's sharp form, with ``W_sharp`` in 16.

        Raises ``HypothesisViolated`` outside the theorem, ``BadInput`` where drop is no number.
        """
        if self.misses:
            raise HypothesisViolated(
                f"theorem {self.theorem} says nothing about this BSGM",
                measured="; ".join(map(str, self.misses)),
                required=f"its conditions (contraction, theorem {self.theorem})",
                advice=self._advice,
            )
        given = {
            "L": self.L,
            "alpha": self.method.alpha(0),
            "c3": self.c3,
            "drop": drop,
            "steps": self.steps,
        }
        if self.theorem == "17":
            known = guarantees.theorem_17_sharp if sharp else guarantees.theorem_17
            return known(self.constants, **given)
        method = self.method
        corollary = guarantees.corollary_10(
            self.constants,
            self.noise,
            rate=method.rate,
            linear_rate=method.linear_rate,
            start=method.start,
        )
        g, W = guarantees, corollary.W_sharp if sharp else corollary.W
        growing = g.theorem_16_i_sharp if sharp else g.theorem_16_i
        fixed = g.theorem_16_ii_sharp if sharp else g.theorem_16_ii
        return (growing if self.theorem == "16 (i)" else fixed)(W=W, **given)

    @property
    def _advice(self) -> str:
        """A BSGM that meets the conditions, in numbers."""
        alpha = f"alpha <= {at_most(1 / self.L)}" if self.L else "any alpha"
        if self.theorem == "17":
            least = guarantees.least_pace(self.constants)
            lengths = f"c3 >= {at_least(least)}" if least else "any c3"
            return (
                f"take {lengths}, t and k Logarithmic(c3), J=1, rate={self.constants.step!r}, batch=None, "
                f'start="zero", {alpha}'
            )
        length = "Growing(c3)" if self.theorem == "16 (i)" else str(self._least[0](0))
        start = "" if self._rates.map_starts else 'start="zero", '
        return f"take {length} for t, k and J, {start}{alpha}, and the rate {self._rates.decreasing_advice}"


def bsgm_guarantee(
    method: BSGM,
    constants: Constants,
    noise: Noise | None = None,
    *,
    theorem: Theorem,
    c3: Any,
    steps: int,
    L: Any = None,
) -> BSGMGuarantee:
    """Theorem 16 (i), 16 (ii) or 17 for a BSGM, its conditions on t, k, J, α and η checked.

    noise: of the method's draws, ``noise(problem, lam, growth=2, batch=method.batch)``; None: there is none, which is
    refused in theorem 16 where the method draws data. L: ``constants.L_f`` unless given. Where a condition is missed,
    warns ``OutsideTheory`` with the number by which; the result is then of kind "outside theory" and has no bound.
    Raises ``BadInput``, also for constants and noise of two maps. Cost: S values of each length.

    >>> from refimpl.constants import Region
    >>> from refimpl.constants import constants as constants_of
    >>> from refimpl.zoo import maps
    >>> line = constants_of(maps.line(0.5), Region([0.0], [0.0], lam_radius=1.0, w_radius=1.0))
    >>> t = Logarithmic(1.5)
    >>> method = BSGM(t=t, k=t, J=1, alpha=0.5, batch=None)
    >>> found = bsgm_guarantee(method, line, theorem="17", c3=1.5, steps=100)
    >>> found.kind, round(found.bound(1.0), 3)
    ('theory', 0.818)
    """
    if noise is None and theorem != "17" and getattr(method, "batch", None) is not None:
        raise BadInput(
            f"theorem {theorem} needs the noise of the draws",
            measured=f"noise=None, batch={method.batch!r}",
            required="a Noise, or a method that takes all data in every draw",
            advice="noise(problem, lam, growth=2, batch=method.batch) states it; Noise() says that there is none",
        )
    known = Noise(step=constants.step) if noise is None else noise
    L = constants.L_f if L is None else L
    found = BSGMGuarantee(method, constants, known, theorem, c3, steps, L)
    if found.misses:
        text = "; ".join(map(str, found.misses))
        warnings.warn(OutsideTheory(f"outside the conditions of theorem {theorem}: {text}"), stacklevel=2)
    return found


def _short(name: str, length: Length | None, least: Length, text: str, steps: int) -> list[Miss]:
    """Where the length lacks most of what it should be; where a solver stands in its place there is none."""
    if length is None:
        return [Miss(f"{name}_s >= {text}, not", "a solver, of which the theorem says nothing")]
    by, s = max((least(s) - length(s), -s) for s in range(steps))
    return [Miss(f"{name}_s >= {text} at s = {-s}", length(-s), least(-s), by)] if by > 0 else []


def _ones(rate: Rate) -> list[Miss]:
    """η_i = 1."""
    if not rate.constant:
        return [Miss("η = 1, not", repr(rate))]
    eta = rate(0)
    return beyond("η = 1", eta, 1, abs(eta - 1))
