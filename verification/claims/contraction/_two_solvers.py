r"""Theorem 8's two iterations as one: what is stated of (11) and, with other constants, of (7).

By (17) the map of (7) has V[Ψ̂(v)] <= σ₁ + σ₂‖Ψ(v) − v‖² with σ₁ = 2σ'₁κ_q²G² and σ₂ = 2σ'₁κ_q², and the start is at
most B² = κ_q²G² away from v_0 = 0, q² times that from v_0 = ∇₁Ē_J: (13) and (14) become the bounds for σ(k).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flint import fmpq

from refimpl.arrays.backend import Array
from refimpl.rates import Constant, Harmonic, Rate
from verification.claims.contraction._noise import Noisy, Stated, build
from verification.model import Control, Measurement

Bound = Callable[[Noisy], fmpq]
Params = Mapping[str, Any]


def of_the_linear_system(known: Stated, first: Any = 1) -> Stated:
    """B², σ₁ and σ₂ of (7); ``first``: the start's share of κ_q²G²."""
    return replace(
        known, start=first * known.size, sigma1=2 * known.d_sigma1 * known.size, sigma2=known.growth
    )


# -- the bounds ---------------------------------------------------------------------------------------


def constant_steps(eta: Any, known: Stated, t: int) -> fmpq:
    """(1 − η(1−q²))^t (B² − ησ₁/(1−q²)) + ησ₁/(1−q²)."""
    floor = eta * known.sigma1 / known.gain
    return (1 - eta * known.gain) ** t * (known.start - floor) + floor


def largest(rate: Harmonic, known: Stated) -> fmpq:
    """max{γB², β²σ₁/(β(1−q²) − 1)}."""
    return max(rate.gamma * known.start, rate.beta**2 * known.sigma1 / (rate.beta * known.gain - 1))


# -- the sharper forms' steps ------------------------------------------------------------------------


def falling(first: fmpq, p: Params) -> Rate:
    """A first step and, where ``decreasing``, γ = (``gamma`` + 1)/2."""
    gamma = fmpq(p["gamma"] + 1, 2)
    return Harmonic(first * gamma, gamma) if p["decreasing"] else Constant(first)


def denominator(rate: Rate, known: Stated, sigma2: fmpq) -> fmpq:
    """2βm − 1 − β²m²(1+σ₂)/γ."""
    assert isinstance(rate, Harmonic)
    return 2 * rate.beta * known.m - 1 - rate.beta**2 * known.m**2 * (1 + sigma2) / rate.gamma


def positive(below: fmpq, rate: Rate, least: fmpq) -> tuple[bool, str]:
    """The denominator, and γ against its least."""
    assert isinstance(rate, Harmonic)
    return bool(below > 0 and rate.gamma >= least), f"{below}, γ = {rate.gamma}"


# -- one of the two ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Solver:
    """The errors of an iteration, and its B², σ₁ and σ₂."""

    error: Callable[[Noisy, int | None], Array]
    of: Callable[[Stated], Stated]
    steps: str  # what they are called
    label: str

    def schedule(self, known: Stated, p: Params) -> Rate:
        """η = ``share``/8 of its limit, or β and γ above theirs by ``beta``/8 and ``gamma``/8 of these."""
        growth = 1 + self.of(known).sigma2
        if not p["decreasing"]:
            return Constant(fmpq(p["share"], 8) / growth)
        beta = fmpq(8 + p["beta"], 8) / known.gain
        return Harmonic(beta, beta * growth * fmpq(8 + p["gamma"], 8))

    def case(self, p: Params) -> Noisy:
        """The instance of the parameters."""
        return build(p, self.schedule)

    def short(self, one: Noisy) -> tuple[bool, str]:
        """Whether the steps are as short as the theorem asks."""
        rate, growth = one.rate, 1 + self.of(one.stated).sigma2
        if isinstance(rate, Harmonic):
            ok = rate.beta * one.stated.gain > 1 and rate.gamma >= rate.beta * growth
            return bool(ok), f"β = {rate.beta}, γ = {rate.gamma}"
        return bool(rate(0) * growth <= 1), f"η = {rate(0)}"

    def bound(self, one: Noisy, steps: int | None = None) -> fmpq:
        """(13), or (14), (15)."""
        known, count = self.of(one.stated), one.steps if steps is None else steps
        if isinstance(one.rate, Harmonic):
            return largest(one.rate, known) / (one.rate.gamma + count)
        return constant_steps(one.rate(0), known, count)

    def measure(self, bound: Bound | None = None) -> Callable[[Noisy], Measurement]:
        """The error against a bound, its own by default."""

        def measured(one: Noisy) -> Measurement:
            return Measurement(observed=self.error(one, None)[-1], bound=(bound or self.bound)(one))

        return measured

    def mutant(self, name: str, bound: Bound, params: Params) -> Control:
        """Another right side."""
        return Control(name, kind="formula", measure=self.measure(bound), params=params)

    def curve(
        self, bound: Callable[[Noisy, int], fmpq] | None = None, times: int = 12
    ) -> Callable[[Noisy], dict[str, Any]]:
        """The error and a bound over the steps."""

        def data(one: Noisy) -> dict[str, Any]:
            at = range(times + 1)
            return {
                "x": list(at),
                "predicted": [float((bound or self.bound)(one, i)) for i in at],
                "measured": [float(e) for e in self.error(one, times)],
                "xlabel": self.steps,
                "ylabel": self.label,
                "logy": self.steps == "k",
            }

        return data


LOWER_SOLVER = Solver(Noisy.lower, lambda known: known, "t", "E‖w_t − w(λ)‖²")
FROM_ZERO = Solver(Noisy.linear, of_the_linear_system, "k", "E‖v_k − v̄‖²")
FROM_GRADIENT = Solver(
    lambda one, k: one.linear(k, "gradient"),
    lambda known: of_the_linear_system(known, known.q**2),
    "k",
    "E‖v_k − v̄‖²",
)
