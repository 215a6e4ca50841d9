"""What the rates that solvers state are made of: ρ(t) and σ(k) of assumption D (contraction, sections 3 and 4).

    ‖w_t − w(λ)‖² <= ρ(t),        E‖v_k − v̄‖² <= σ(k),    v̄ = (I − ∂_wΦᵀ)⁻¹ ∇_wĒ_J the solution for the drawn right side

from the constants of Φ = w − s ∇_wG, s = ``constants.step``, or of a map, s = 1: ‖w_0 − w(λ)‖ <= B, and all that is
known of the lower level is ‖∂_wΦ‖ <= q, so that the spectrum of s ∇²_wwG lies in [1 − q, 1 + q]. A solver's own step is
one along the problem's residual, η = step/s; its v is s times that of Φ, its E‖v_k − v̄‖² at most s²σ(k).
"""

from __future__ import annotations

from typing import Any, Literal

from refimpl.arrays.numbers import require_number
from refimpl.constants import Constants
from refimpl.errors import BadInput, HypothesisViolated

Start = Literal["zero", "gradient"]


def unstated(solver: object, measured: str, required: str, advice: str) -> HypothesisViolated:
    """The error of a solver that states no rate."""
    return HypothesisViolated(
        f"{type(solver).__name__} states no rate", measured=measured, required=required, advice=advice
    )


def relative_step(constants: Constants, step: Any) -> Any:
    """η = step/s; whole numbers stay exact."""
    return step if constants.step == 1 else step / constants.step


def relaxed_factor(solver: object, constants: Constants, eta: Any) -> Any:
    """|1 − η| + ηq, which bounds ‖(1 − η)I + η∂_wΦ‖: what a step of length η leaves of an error, w's or v's."""
    factor = abs(1 - eta) + eta * constants.q
    if factor < 1:
        return factor
    raise unstated(
        solver,
        f"η = step/s = {float(eta):.6g} and q = {float(constants.q):.6g}: |1 − η| + ηq = {float(factor):.6g}",
        "a factor below 1, that is η < 2/(1 + q)",
        "take step <= constants.step, the s of the map w − s ∇_wG that the constants belong to",
    )


def require_square(square: Any) -> None:
    """G² is a number >= 0; else ``BadInput``."""
    require_number(square, "square", "G² = L_E² + σ_{1,E}/J, of the drawn upper gradient", closed=True)


def condition(constants: Constants) -> Any:
    """κ = (1 + q)/(1 − q): no singular value of I − ∂_wΦ is κ times another; L/μ where s = 2/(μ + L)."""
    return (1 + constants.q) / (1 - constants.q)


def require_constant_jacobian(solver: object, constants: Constants) -> None:
    """ν₁ = 0: G is quadratic, a map affine, in w. Else ``HypothesisViolated``."""
    if constants.nu1 != 0:
        raise unstated(
            solver,
            f"ν₁ = {float(constants.nu1):.6g}, the Lipschitz constant of ∂_wΦ in w",
            "0: a quadratic G, an affine map",
            "GradientDescent and FixedPoint state a rate for every contraction",
        )


def first_share(solver: object, constants: Constants, start: Start) -> Any:
    """‖v_0 − v̄‖² over ‖v̄‖², at most: 1 from v_0 = 0, q² from v_0 = ∇_wĒ_J, as that is v̄ − ∂_wΦᵀv̄ where s = 1."""
    if start == "zero":
        return 1
    if start != "gradient":
        raise BadInput(
            "no such start of the linear solver",
            measured=repr(start),
            required="'zero' or 'gradient'",
            advice="from any other v_0 the error after k steps is another",
        )
    if constants.step == 1:
        return constants.q**2
    raise unstated(
        solver,
        f"v_0 = ∇_wĒ_J, s = {float(constants.step):.6g}",
        "s = 1, so that v_0 = ∇_wĒ_J is the adjoint's first step from 0",
        'start="zero", or constants with step=1 where w − ∇_wG contracts',
    )
