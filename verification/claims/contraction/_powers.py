r"""How the constants of theorems 8, 16 and 17 grow with κ = 1/(1 − q), all others fixed: rational functions of κ.

Every quantity is made of κ and of fixed rational numbers by sums, products, quotients and maxima; so for all large κ it
is one rational function, and its power of κ is that function's degree (``_at_infinity``), exactly.

Equal steps without loss: η(m² + σ'₁) <= m, m = 1 − q, makes (1 − ηm)² + η²σ'₁ <= 1 − ηm. So for β > 1/m and γ >=
β max{1 + σ₂, (m² + σ'₁)/m} a step of (7) leaves E‖v_k − E[v_k|ξ]‖² <= d_V/(γ + k), d_V = β²σ'₁κ²G²/(βm − 1), and its
mean is off by κG Π(1 − η_im) <= κG √(γ/(γ + k)): σ(k) = d_v/(γ + k), d_v = κ²G²(γ + β²σ'₁/(βm − 1)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from refimpl.constants import Constants, Noise
from refimpl.rates import Harmonic
from verification.claims.contraction._at_infinity import AtInfinity

CONSTANTS = ("L_E", "L_Phi", "nu1", "nu2", "mu1", "mu2", "nu1_bar", "nu2_bar", "mu1_bar", "mu2_bar", "B")
NOISES = ("sigma1", "sigma2", "d_sigma1", "d_sigma2", "sigma1_E", "sigma2_E")


@dataclass(frozen=True)
class InKappa(Constants):
    """Constants whose q is a function of κ: between 0 and 1 for all large κ, and no number."""

    def __post_init__(self) -> None:
        assert 0 <= self.q < 1


@dataclass(frozen=True)
class Family:
    """One instance for every κ: q = 1 − 1/κ, all other constants fixed."""

    fixed: Mapping[str, Fraction]

    def at(self, kappa: Any) -> tuple[Constants, Noise]:
        """At a rational number κ, or at the function κ."""
        q: Any = 1 - 1 / kappa
        known: dict[str, Any] = {name: self.fixed[name] for name in CONSTANTS}
        kind = InKappa if isinstance(kappa, AtInfinity) else Constants
        return kind(q, **known), Noise(**{name: self.fixed[name] for name in NOISES})

    @property
    def drop(self) -> Fraction:
        """Δ_f."""
        return self.fixed["drop"]


def build(p: Mapping[str, Any]) -> Family:
    """Constants between ¼ and 4 from a seed; those named in ``zero`` are 0."""
    rng = np.random.default_rng(p["seed"])
    names = (*CONSTANTS, *NOISES, "drop")
    drawn = {
        name: Fraction(int(k), 4) for name, k in zip(names, rng.integers(1, 17, len(names)), strict=True)
    }
    return Family({name: Fraction(0) if name in p.get("zero", ()) else x for name, x in drawn.items()})


@dataclass(frozen=True)
class Steps:
    """β and γ of β/(γ + i): numbers, or functions of κ."""

    beta: Any
    gamma: Any

    @property
    def rate(self) -> Harmonic:
        return Harmonic(self.beta, self.gamma)


@dataclass(frozen=True)
class Rates:
    """The steps of (6) and (7), and d_w, d_v of ρ(t) = d_w/(γ + t), σ(k) = d_v/(γ' + k)."""

    lower: Steps
    linear: Steps
    d_w: Any
    d_v: Any


def theorem_8(c: Constants, x: Noise, lower: Steps, linear: Steps) -> Rates:
    """Its d_w, d_v with J = 1, v_0 = 0."""
    gain, size = 1 - c.q**2, c.kappa_q**2 * (c.L_E**2 + x.sigma1_E)
    d_w = max(lower.gamma * c.B**2, lower.beta**2 * x.sigma1 / (lower.beta * gain - 1))
    slow = 2 * linear.beta**2 * x.d_sigma1 / (linear.beta * gain - 1)
    return Rates(lower, linear, d_w, size * max(linear.gamma, slow))


def without_loss(c: Constants, x: Noise) -> Rates:
    """The equal steps of the module's docstring, β = 2/m."""
    m = 1 - c.q
    beta = 2 / m
    gamma = beta * max(1 + x.sigma2, (m**2 + x.d_sigma1) / m)
    size = c.kappa_q**2 * (c.L_E**2 + x.sigma1_E)
    d_w = max(gamma * c.B**2, beta**2 * x.sigma1 / (beta * (1 - c.q**2) - 1))
    both = Steps(beta, gamma)
    return Rates(both, both, d_w, size * (gamma + beta**2 * x.d_sigma1 / (beta * m - 1)))


def corollary_10(
    c: Constants, x: Noise, rates: Rates, *, everywhere: bool = False, product: bool = True
) -> tuple[Any, Any]:
    """c_b and c_I of Corollary 10 with these d_w, d_v.

    everywhere: ‖∂₂Φ(w, λ)‖ <= L_Φ at every w, without ν₂; product=False: ρσ <= d_wd_v/t in place of d_wd_v/((γ+1)t).
    """
    k2, gammas = c.kappa_q**2, (rates.lower.gamma, rates.linear.gamma)
    nu2 = 0 if everywhere else c.nu2
    both = nu2**2 * rates.d_w * rates.d_v / ((max(gammas) if product else 0) + 1)
    c_b = 3 * (c.c1**2 * rates.d_w + c.L_Phi**2 * rates.d_v) + 3 * both
    drawn = (4 * x.d_sigma2 * (c.L_E**2 + x.sigma1_E) + 8 * c.L_Phi**2 * x.sigma1_E) * k2
    mixed = 8 * both + 8 * nu2**2 * rates.d_w * x.sigma1_E * k2 / (gammas[0] + 1)
    return c_b, 2 * x.sigma2_E + drawn + (4 * x.d_sigma2 + 8 * c.L_Phi**2) * rates.d_v + mixed
