"""Bounds of SID's and BSGM's errors (contraction, theorems 4 to 17), as functions of constants and solver rates.

``rho`` and ``sigma`` are numbers, ρ(t) and σ(k) of assumption D: from ``theorem_8``, from exact moments, or stated by
another solver; with the constants of w − s ∇_wG, σ is that of Φ's adjoint: ``sid_moments(...).sigma / s**2``.
Everything is the theory's exact arithmetic, evaluated; square roots aside, exact for rational numbers.

V_I = E V[∇̂f | w_t] and V_II = V[E[∇̂f | w_t]] are the variance's parts (10); SE = σ_{1,E}/J, G² = L_E² + SE.
The forms called ``_sharp`` and ``_linear`` are for the iteration (7) from v_0 = 0 or v_0 = ∇_wĒ_J.

Theorems 16 and 17 are for the lengths and steps that they name: ``algorithms.bsgm_guarantee`` looks at a BSGM's.
All raise ``BadInput`` for what is no such number: a negative rate, J = 0, half a step. ρ and σ may be arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from refimpl.approximate.conditions import Miss as Miss
from refimpl.approximate.conditions import at_least, beyond
from refimpl.approximate.solver_rates import LinearStage as LinearStage
from refimpl.approximate.solver_rates import SolverRates as SolverRates
from refimpl.approximate.solver_rates import Start, gradient_square, of_map, require_same_map
from refimpl.approximate.solver_rates import linear_recursion as linear_recursion
from refimpl.approximate.solver_rates import lower_recursion as lower_recursion
from refimpl.approximate.solver_rates import theorem_8 as theorem_8
from refimpl.arrays.numbers import as_number, require_number
from refimpl.constants import Constants, Noise
from refimpl.errors import HypothesisViolated
from refimpl.rates import Harmonic
from refimpl.solvers.lower import require_count


def theorem_4(constants: Constants, rho: Any, sigma: Any) -> Any:
    """‖E ∇̂f − ∇f‖ <= c₁√ρ + L_Φ√σ + ν₂√(ρσ); (i), given w_t: the same with ρ = ‖w_t − w(λ)‖²."""
    _require_rates(rho=rho, sigma=sigma)
    c, near, linear = constants, _root(rho), _root(sigma)
    return c.c1 * near + c.L_Phi * linear + c.nu2 * near * linear


def theorem_4_linear(constants: Constants, rho: Any, stage: LinearStage) -> Any:
    """‖E ∇̂f − ∇f‖ <= c₁√ρ + L_ΦL_Eκ_qπ_k: noise in (7) does not enter."""
    _require_rates(rho=rho)
    c = constants
    return c.c1 * _root(rho) + c.L_Phi * c.L_E * c.kappa_q * stage.pi


def theorem_5(constants: Constants, noise: Noise, rho: Any, sigma: Any, J: int) -> Any:
    """V_I <= (2/J)[σ_{2,E} + 2σ'₂G²κ_q² + 4L_Φ²σ_{1,E}κ_q²] + (4σ'₂/J + 8L_Φ²)σ + 8ν₂²ρ(σ + SE κ_q²)."""
    _require_drawn(constants, noise, J, rho=rho, sigma=sigma)
    c, n, k2, SE = constants, noise, constants.kappa_q**2, noise.sigma1_E / J
    drawn = n.sigma2_E + 2 * n.d_sigma2 * (c.L_E**2 + SE) * k2 + 4 * c.L_Phi**2 * n.sigma1_E * k2
    return (
        2 * drawn / J + (4 * n.d_sigma2 / J + 8 * c.L_Phi**2) * sigma + 8 * c.nu2**2 * rho * (sigma + SE * k2)
    )


def theorem_5_sharp(
    constants: Constants, noise: Noise, rho: Any, sigma: Any, J: int, *, independent: bool = False
) -> Any:
    """V_I <= (2/J)[σ_{2,E} + σ'₂G²κ_q² + 2L_Φ²σ_{1,E}κ_q²] + (2σ'₂/J + 4L_Φ²)σ + 4ν₂²ρ(σ + SE κ_q²).

    Half of it where ∇_wĒ_J and ∇_λĒ_J have independent draws.
    """
    _require_drawn(constants, noise, J, rho=rho, sigma=sigma)
    c, n, k2, SE = constants, noise, constants.kappa_q**2, noise.sigma1_E / J
    drawn = n.sigma2_E + n.d_sigma2 * (c.L_E**2 + SE) * k2 + 2 * c.L_Phi**2 * n.sigma1_E * k2
    by_solvers = (n.d_sigma2 / J + 2 * c.L_Phi**2) * sigma + 2 * c.nu2**2 * rho * (sigma + SE * k2)
    return (1 if independent else 2) * (drawn / J + by_solvers)


def theorem_5_linear(
    constants: Constants, noise: Noise, rho: Any, stage: LinearStage, J: int, *, independent: bool = False
) -> Any:
    """V_I <= (√σ_{2,E} + Lκ_k√σ_{1,E})²/J + L²V_k + (σ'₂/J)(V_k + κ_k²G²), L = L_Φ + ν₂√ρ, κ_k = κ_q(1 − π_k).

    The sum of the squares in place of the first square where the two gradients have independent draws.
    """
    _require_drawn(constants, noise, J, rho=rho)
    c, n = constants, noise
    L, reached = c.L_Phi + c.nu2 * _root(rho), c.kappa_q * (1 - stage.pi)
    parts = _root(n.sigma2_E), L * reached * _root(n.sigma1_E)
    both = parts[0] ** 2 + parts[1] ** 2 if independent else (parts[0] + parts[1]) ** 2
    carried = stage.variance + reached**2 * gradient_square(c, n, J)
    return both / J + L**2 * stage.variance + n.d_sigma2 / J * carried


def theorem_6(constants: Constants, rho: Any, sigma: Any) -> Any:
    """V_II <= 3(c₁²ρ + L_Φ²σ + ν₂²ρσ)."""
    _require_rates(rho=rho, sigma=sigma)
    c = constants
    return 3 * (c.c1**2 * rho + c.L_Phi**2 * sigma + c.nu2**2 * rho * sigma)


def theorem_6_linear(constants: Constants, rho: Any) -> Any:
    """V_II <= c₁²ρ."""
    _require_rates(rho=rho)
    return constants.c1**2 * rho


def theorem_7(constants: Constants, noise: Noise, rho: Any, sigma: Any, J: int) -> Any:
    """E‖∇̂f − ∇f‖² <= theorem 5 + 6(c₁²ρ + L_Φ²σ + ν₂²ρσ): bias² and V_II, each bounded by half of the latter."""
    return theorem_5(constants, noise, rho, sigma, J) + 2 * theorem_6(constants, rho, sigma)


def theorem_7_sharp(constants: Constants, noise: Noise, rho: Any, sigma: Any, J: int) -> Any:
    """E‖∇̂f − ∇f‖² <= the sharp theorem 5 + 3(c₁²ρ + L_Φ²σ + ν₂²ρσ), as bias² + V_II = E‖E[∇̂f | w_t] − ∇f‖²."""
    return theorem_5_sharp(constants, noise, rho, sigma, J) + theorem_6(constants, rho, sigma)


def theorem_7_linear(constants: Constants, noise: Noise, rho: Any, stage: LinearStage, J: int) -> Any:
    """E‖∇̂f − ∇f‖² <= (theorem 4, linear)² + (theorem 5, linear)."""
    return theorem_4_linear(constants, rho, stage) ** 2 + theorem_5_linear(constants, noise, rho, stage, J)


@dataclass(frozen=True)
class Corollary10:
    """For t = k = J >= 1 and η_i = β/(γ + i): bias² <= c_b/t, V_I <= c_I/t, variance <= c_v/t."""

    c_b: Any
    c_I: Any

    @property
    def c_v(self) -> Any:
        """c_b + c_I."""
        return self.c_b + self.c_I

    @property
    def W(self) -> Any:
        """E‖∇̂f − ∇f‖² <= W/t, W = c_b + c_v."""
        return self.c_b + self.c_v

    @property
    def W_sharp(self) -> Any:
        """The same with c_b + c_I."""
        return self.c_b + self.c_I


def corollary_10(
    constants: Constants, noise: Noise, *, rate: Harmonic, start: Start = "zero", linear_rate: Any = None
) -> Corollary10:
    """c_b = 3(c₁²d_w + L_Φ²d_v + ν₂²d_wd_v/(γ+1)), with d_v that of J = 1, and

    c_I = 2σ_{2,E} + (4σ'₂(L_E² + σ_{1,E}) + 8L_Φ²σ_{1,E})κ_q² + (4σ'₂ + 8L_Φ²)d_v + 8ν₂²d_w(d_v + σ_{1,E}κ_q²)/(γ+1).

    Where (7) has steps of its own, γ is the larger one under d_wd_v and that of (6) under d_wσ_{1,E}. Raises
    ``HypothesisViolated`` outside theorem 8's conditions, ``BadInput`` for constant steps. Rates as in ``theorem_8``.
    """
    linear = rate if linear_rate is None else linear_rate
    rates = SolverRates(constants, noise, of_map(constants, rate), of_map(constants, linear), 1, start)
    c, n, k2, d_w, d_v = constants, noise, constants.kappa_q**2, rates.d_w, rates.d_v
    gammas = rates.gammas
    product = c.nu2**2 * d_w * d_v / (max(gammas) + 1)  # (γ + t)(γ' + t) >= t (max(γ, γ') + 1) for t >= 1
    c_b = 3 * (c.c1**2 * d_w + c.L_Phi**2 * d_v) + 3 * product
    drawn = (4 * n.d_sigma2 * (c.L_E**2 + n.sigma1_E) + 8 * c.L_Phi**2 * n.sigma1_E) * k2
    mixed = 8 * product + 8 * c.nu2**2 * d_w * n.sigma1_E * k2 / (gammas[0] + 1)
    c_I = 2 * n.sigma2_E + drawn + (4 * n.d_sigma2 + 8 * c.L_Phi**2) * d_v + mixed
    return Corollary10(c_b, c_I)


def theorem_12(*, L: Any, alpha: Any, drop: Any, errors: Any, steps: int) -> Any:
    """(1/S) Σ‖G_α(λ_s)‖² <= (1/S)[8Δ_f/(α(2−Lα)) + 2(1 + 4/(2−Lα)²) Σ‖δ_s‖²] for 0 < α < 2/L.

    drop: Δ_f = f(λ_0) − inf f, or f(λ_0) − f(λ_S); errors: Σ‖δ_s‖², of which the expectation gives corollary 13.
    """
    _require_run(L, alpha, 2, drop, steps, errors=errors)
    left = 2 - L * alpha
    return (8 * drop / (alpha * left) + 2 * (1 + 4 / left**2) * errors) / steps


def theorem_12_sharp(*, L: Any, alpha: Any, drop: Any, errors: Any, steps: int) -> Any:
    """(1/S) Σ‖G_α(λ_s)‖² <= (1/S)[2h/(α(2−h)) (f(λ_0) − f(λ_S)) + h²/(2−h)² Σ‖δ_s‖²], 0 < α < 2/L, h = max(1, Lα).

    For α <= 1/L the constants are 2/α and 1, both optimal; beyond, equality at δ = (2−h)/h G.
    """
    _require_run(L, alpha, 2, drop, steps, errors=errors)
    h = max(1, L * alpha)
    return (2 * h * drop / (alpha * (2 - h)) + h**2 * errors / (2 - h) ** 2) / steps


def theorem_16_i(*, W: Any, L: Any, alpha: Any, c3: Any, drop: Any, steps: int) -> Any:
    """t_s = k_s = J_s = ⌈c₃(s+1)⌉, α <= 1/L: (1/S) Σ E‖G_α(λ_s)‖² <= (1/S)[8Δ_f/α + (10W/c₃)(1 + log S)]."""
    _require_run(L, alpha, 1, drop, steps, c3=c3, W=W)
    return (8 * drop / alpha + 10 * W / c3 * (1 + math.log(steps))) / steps


def theorem_16_i_sharp(*, W: Any, L: Any, alpha: Any, c3: Any, drop: Any, steps: int) -> Any:
    """(1/S) Σ E‖G_α(λ_s)‖² <= (1/S)[2Δ_f/α + (W/c₃)(1 + log S)]."""
    _require_run(L, alpha, 1, drop, steps, c3=c3, W=W)
    return (2 * drop / alpha + W / c3 * (1 + math.log(steps))) / steps


def theorem_16_ii(*, W: Any, L: Any, alpha: Any, c3: Any, drop: Any, steps: int) -> Any:
    """t_s = k_s = J_s = ⌈c₃S⌉, α <= 1/L: (1/S) Σ E‖G_α(λ_s)‖² <= (1/S)[8Δ_f/α + 10W/c₃]."""
    _require_run(L, alpha, 1, drop, steps, c3=c3, W=W)
    return (8 * drop / alpha + 10 * W / c3) / steps


def theorem_16_ii_sharp(*, W: Any, L: Any, alpha: Any, c3: Any, drop: Any, steps: int) -> Any:
    """(1/S) Σ E‖G_α(λ_s)‖² <= (1/S)[2Δ_f/α + W/c₃]."""
    _require_run(L, alpha, 1, drop, steps, c3=c3, W=W)
    return (2 * drop / alpha + W / c3) / steps


def theorem_17(constants: Constants, *, L: Any, alpha: Any, c3: Any, drop: Any, steps: int) -> Any:
    """t_s = k_s = ⌈c₃ log(s+1)⌉, η_i = 1, no noise, c₃ >= 1/log(1/q), α <= 1/L: the mean of ‖G_α(λ_s)‖², s < S, is

    <= (1/S)[8Δ_f/α + (10π²/6)C²], C = c₁B + L_ΦL_Eκ_q + ν₂BL_Eκ_q.
    """
    c = constants
    _require_run(L, alpha, 1, drop, steps, c3=c3)
    _require_pace(c, c3)
    C = _deterministic(c) + c.nu2 * c.B * c.L_E * c.kappa_q
    return (8 * drop / alpha + 10 * math.pi**2 / 6 * C**2) / steps


def theorem_17_sharp(constants: Constants, *, L: Any, alpha: Any, c3: Any, drop: Any, steps: int) -> Any:
    """(1/S) Σ‖G_α(λ_s)‖² <= (1/S)[2Δ_f/α + (π²/6)(c₁B + L_ΦL_Eκ_q)²], where v_0 = 0."""
    _require_run(L, alpha, 1, drop, steps, c3=c3)
    _require_pace(constants, c3)
    return (2 * drop / alpha + math.pi**2 / 6 * _deterministic(constants) ** 2) / steps


def _deterministic(c: Constants) -> Any:
    """c₁B + L_ΦL_Eκ_q: from v_0 = 0, ‖δ_s‖ is at most q^t_s times it."""
    return c.c1 * c.B + c.L_Phi * c.L_E * c.kappa_q


def slow_pace(constants: Constants, c3: Any) -> list[Miss]:
    """Theorem 17's condition c₃ >= 1/log(1/q), where it is missed."""
    least = least_pace(constants)
    return beyond("c₃ >= 1/log(1/q)", float(c3), least, least - float(c3))


def least_pace(constants: Constants) -> float:
    """1/log(1/q), 0 for q = 0. Near 1 type −1/log q: 1/q rounds before the logarithm, which is then off by as much."""
    return 1 / _log_inverse(constants.q) if constants.q else 0.0


def _log_inverse(q: Any) -> float:
    """log(1/q), as well near 1 as near 0, and of rationals of any size."""
    x = as_number(q)
    if 2 * x > 1:
        return -math.log1p(float(x - 1))
    return math.log(x.denominator) - math.log(x.numerator) if isinstance(x, Fraction) else -math.log(x)


def _require_pace(constants: Constants, c3: Any) -> None:
    for missed in slow_pace(constants, c3):
        raise HypothesisViolated(
            "theorem 17 takes more inner steps",
            measured=str(missed),
            required="c₃ >= 1/log(1/q)",
            advice=f"take c3 >= {at_least(missed.limit)}",
        )


def _require_run(L: Any, alpha: Any, most: int, drop: Any, steps: int, **sizes: Any) -> None:
    """All are numbers, and αL is below 2, or at most 1."""
    require_count(steps, "steps", least=1)
    require_number(L, "L", "a Lipschitz constant of ∇f, such as constants(problem, region).L_f", closed=True)
    require_number(alpha, "alpha", "the upper level's step, at most 1/L", low=-math.inf)
    require_number(drop, "drop", "f(λ_0) − inf f, which may be estimated by f(λ_0) − f(λ_S)", low=-math.inf)
    for name, size in sizes.items():
        require_number(size, name, SIZES[name], closed=name != "c3")
    by = L * alpha - most
    if 0 < alpha and (by < 0 if most == 2 else not long_step(L, alpha)):
        return
    raise HypothesisViolated(
        "the upper-level step is outside the theorem",
        measured=f"α = {float(alpha):.6g}, L = {float(L):.6g}"
        + (f": Lα is {float(by):.6g} above {most}" if 0 < alpha else ""),
        required=f"0 < α {'<' if most == 2 else '<='} {most}/L",
        advice="1/L is legal in all of these theorems",
    )


def long_step(L: Any, alpha: Any) -> list[Miss]:
    """The condition α <= 1/L, where it is missed."""
    return beyond("αL <= 1", L * alpha, 1, L * alpha - 1)


SIZES = {
    "c3": "inner steps per upper-level step, as in the schedule ⌈c₃(s+1)⌉",
    "W": "corollary_10(...).W or .W_sharp",
    "errors": "the sum of the squared errors ‖δ_s‖²",
}


def _require_drawn(constants: Constants, noise: Noise, J: int, **rates: Any) -> None:
    require_same_map(constants, noise)
    require_count(J, "J", least=1)
    _require_rates(**rates)


def _require_rates(**rates: Any) -> None:
    """ρ and σ, numbers or arrays of them: finite, >= 0."""
    for name, rate in rates.items():
        for x in rate.flat if isinstance(rate, np.ndarray) else (rate,):
            require_number(x, name, "a mean square error: theorem_8(...) states one", closed=True)


def _root(x: Any) -> Any:
    return np.sqrt(x) if isinstance(x, np.ndarray) else math.sqrt(x)
