"""SID with t = k = J and decreasing steps, for corollary 10: affine lines by moments, curved ones by all paths."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.approximate import SID
from refimpl.approximate.guarantees import SolverRates
from refimpl.approximate.sid_moments import sid_moments
from refimpl.constants import Constants, Noise, Region, constants, noise
from refimpl.rates import Harmonic
from verification.claims.contraction._sid import Trial, square
from verification.claims.contraction._sid_instances import UNIT, build
from verification.claims.contraction._trials import letter

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Matched:
    """SID with t = k = J on a line, η_i = β/(γ + i), and the constants of A to C as stated."""

    p: Params

    @cached_property
    def mean_square_error(self) -> Any:
        """E‖∇̂f − ∇f‖², exact, over the rationals."""
        t = self.p["t"]
        one = build({**self.p, "k": 0, "J": 1, "t": 0})
        sid = SID(t=t, k=t, J=t, rate=self.rate)
        return sid_moments(sid, one.problem, one.lam, w0=one.w0).mean_square_error

    @property
    def rate(self) -> Harmonic:
        """η_i."""
        a, b, c = self.p["steps"]
        return Harmonic(Fraction(a, c), Fraction(b, c))

    @cached_property
    def reach(self) -> float:
        """No w_i is farther from w(λ) = 0, whatever is drawn."""
        p, far = self.p, abs(Fraction(self.p["w0"][0], UNIT))
        most = far
        for i in range(p["t"]):
            eta = self.rate(i)
            factor = max(
                abs(1 - eta + eta * Fraction(p.get("q", 0) + s, UNIT))
                for s in (p.get("s", 0), -p.get("s", 0))
            )
            far = factor * far + eta * abs(Fraction(p.get("n", 0), UNIT))
            most = max(most, far)
        return float(most)

    @cached_property
    def least(self) -> tuple[Constants, Noise]:
        """The constants, as small as the instance allows."""
        problem = build({**self.p, "k": 0, "J": 1, "t": 0}).problem.to("numpy")
        region = Region(np.zeros(1), np.zeros(1), 0.0, self.reach)
        found = dataclasses.replace(constants(problem, region), B=abs(self.p["w0"][0]) / UNIT)
        both = self.p.get("n") and self.p.get("s")
        return found, noise(problem, region, growth=2 if both else 1)

    @cached_property
    def stated(self) -> tuple[Constants, Noise]:
        """As stated."""
        (c, n), (name, factor) = self.least, self.p.get("understated", ("", 1))
        value = factor * getattr(c, name, getattr(n, name, 0.0))
        return altered(c, **{name: value}), altered(n, **{name: value})

    def error(self) -> float:
        """t E‖∇̂f − ∇f‖²."""
        return float(self.p["t"] * self.mean_square_error)


@dataclass(frozen=True)
class Curved(Matched):
    """With ν₁, ν₂ in the map's mean and t <= 2: every path."""

    @cached_property
    def trial(self) -> Trial:
        """All four groups of draws."""
        t = self.p["t"]
        return build({**self.p, "k": t, "J": t})

    @property
    def mean_square_error(self) -> Any:
        return self.trial.error

    @cached_property
    def reach(self) -> float:
        """The largest of |w_0|, …, |w_t|."""
        runs = (build({**self.p, "t": i, "k": 0, "J": 1}).visited for i in range(self.p["t"] + 1))
        return float(max(max(square(w)) for w in runs)) ** 0.5

    @cached_property
    def least(self) -> tuple[Constants, Noise]:
        """On the ball of the iterates, L_Φ at w(λ); V[Φ̂(w)] = (n + sw)² and |Φ(w) − w| >= (1 − q)|w|."""
        found = constants(self.trial.problem.to("numpy"), Region(np.zeros(1), np.zeros(1), 0.0, self.reach))
        start, slope = abs(self.p["w0"][0]) / UNIT, abs(self.p.get("b", 0)) / UNIT
        n, s = (self.p.get(name, 0) / UNIT for name in "ns")
        growth = 2 if n and s else 1
        spread = {"sigma1": growth * n**2, "sigma2": growth * (s * found.kappa_q) ** 2}
        return dataclasses.replace(found, B=start, L_Phi=slope), dataclasses.replace(
            self.trial.noise[0], **spread
        )


def case(p: Params) -> Matched:
    """Of the parameters."""
    return Curved(p) if p.get("nu1") or p.get("nu2") else Matched(p)


def altered(x: Any, **values: float) -> Any:
    """Constants with some replaced; names of others are passed over."""
    return dataclasses.replace(x, **{name: value for name, value in values.items() if name in vars(x)})


# -- hypotheses and parameters ----------------------------------------------------------------------------


def kept(one: Matched) -> tuple[bool, Any]:
    short = [
        letter(name)
        for stated, least in zip(one.stated, one.least, strict=True)
        for name in vars(least)
        if getattr(stated, name) < getattr(least, name)
    ]
    return not short, short or "as measured"


def steps(one: Matched) -> tuple[bool, Any]:
    misses = SolverRates(*one.stated, one.rate, one.rate, 1, "zero").misses
    return not misses, "; ".join(map(str, misses)) or "theorem 8's"


def _from(p: Params) -> dict[str, Any]:
    """β = (1 + gap)/(1 − q²), γ = slow·β·max{1 + σ₂, 1 + 2σ'₁κ²}, over 1000, both rounded up, γ by one more.

    Of a curved map q is |q| + |ν₁|R, R at least what a step <= 1 can reach.
    """
    q, s, n, bent = (Fraction(p.get(name, 0), UNIT) for name in ("q", "s", "n", "nu1"))
    spread = (s / (1 - q)) ** 2 * (2 if p["n"] else 1)
    if "nu1" in p:
        q = abs(q) + abs(bent) * (abs(Fraction(p["w0"][0], UNIT)) * (1 + s) ** 2 + 3 * n)
        spread = 2 * (s / (1 - q)) ** 2
    growth = 1 + max(spread, 2 * (s / (1 - abs(q))) ** 2)
    beta = -(-1000 * (1 + Fraction(p["gap"], 8)) // (1 - q * q))
    gamma = 1 - (-beta * growth * (8 + p["slow"]) // 8)
    return {
        **{k: v for k, v in p.items() if k not in ("gap", "slow")},
        "steps": [int(beta), int(gamma), 1000],
    }


def _some(low: int, high: int) -> st.SearchStrategy[int]:
    return st.one_of(st.just(0), st.integers(low, high))


def lines(**boxes: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Affine lines, with ``boxes`` in place of or beside their parameters."""
    return st.fixed_dictionaries(
        {
            "kind": st.just("line"),
            "q": st.integers(-36, 36),
            **{name: _some(-12, 12) for name in ("s", "n")},
            **{name: _some(-48, 48) for name in ("b", "r", "e", "a", "m1", "x", "m2")},
            "w0": st.tuples(_some(-48, 48)).map(list),
            "t": st.integers(1, 12),
            "gap": st.integers(1, 16),
            "slow": _some(1, 8),
            **boxes,
        }
    ).map(_from)


STRATEGY = st.one_of(
    lines(),
    lines(
        q=st.integers(-20, 20),
        **{name: _some(0, 12) for name in ("s", "n")},
        nu1=_some(-6, 6),
        nu2=st.integers(-24, 24),
        t=st.integers(1, 2),
    ),
)
