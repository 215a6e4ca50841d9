"""ρ(t) and σ(k) of SID with any solvers: theorem 8's for its own iterations, else what the solver states.

Assumption D of contraction is all that theorems 4 to 7 ask of the two stages: ``guarantees.theorem_7(constants, noise,
rates.rho, rates.sigma, sid.J)`` bounds SID's error whatever solves them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from refimpl.approximate.solver_rates import SolverRates, gradient_square, of_map, require_same_map
from refimpl.approximate.stochastic import SID
from refimpl.constants import Constants, Noise


@dataclass(frozen=True)
class StatedRates:
    """E‖w_t − w(λ)‖² <= rho, E‖v_k − v̄(w)‖² <= sigma at every w of the region; in Φ scaling: SID's v is s times it."""

    rho: Any
    sigma: Any


def stated_rates(sid: SID, constants: Constants, noise: Noise) -> StatedRates:
    """What the two stages of ``sid`` leave at most, from w_0 with ‖w_0 − w(λ)‖ <= B and v_0 as ``sid.start`` says.

    noise: of one draw of ``sid.batch`` data; of a solver's stage only the upper level's enters, as it draws nothing.
    Raises ``HypothesisViolated`` where theorem 8's conditions are missed, or a solver states no rate.

    >>> import numpy as np
    >>> from refimpl.constants import Region, constants
    >>> from refimpl.solvers import LU, FixedPoint
    >>> from refimpl.zoo import maps
    >>> line = constants(maps.line(0.5), Region(np.zeros(1), np.zeros(1), w_radius=1.0))
    >>> stated_rates(SID(lower=FixedPoint(2), k=1), line, Noise())
    StatedRates(rho=0.0625, sigma=1.0)
    >>> stated_rates(SID(lower=FixedPoint(2), linear=LU()), line, Noise())
    StatedRates(rho=0.0625, sigma=0.0)
    """
    require_same_map(constants, noise)
    square = gradient_square(constants, noise, sid.J)
    if sid.lower is not None and sid.linear is not None:
        return StatedRates(sid.lower.rho(constants), sid.linear.sigma(constants, square, start=sid.start))
    if sid.lower is not None:
        drawn = replace(noise, sigma1=0, sigma2=0)  # (6) is not run: no condition on its steps
        rates = _theorem_8(sid, constants, drawn, sid.linear_rate, sid.linear_rate)
        return StatedRates(sid.lower.rho(constants), rates.sigma(sid.k))
    if sid.linear is not None:
        rates = _theorem_8(
            replace(sid, start="zero"), constants, replace(noise, d_sigma1=0), sid.rate, sid.rate
        )
        return StatedRates(rates.rho(sid.t), sid.linear.sigma(constants, square, start=sid.start))
    rates = _theorem_8(sid, constants, noise, sid.rate, sid.linear_rate)
    return StatedRates(rates.rho(sid.t), rates.sigma(sid.k))


def _theorem_8(sid: SID, constants: Constants, noise: Noise, rate: Any, linear_rate: Any) -> SolverRates:
    """Its conditions are checked where a rate is asked for."""
    steps, linear = of_map(constants, rate), of_map(constants, linear_rate)
    return SolverRates(constants, noise, steps, linear, sid.J, sid.start)
