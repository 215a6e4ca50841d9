"""The constants of penalty-rate@curvature and auglag-rate@nonlinear: how far f bends in the variable y = ∇_vg.

There f's gradient is H⁻¹∇_vf and its Hessian S(v) = H⁻¹(∇²_vvf − Σ_k(H⁻¹∇_vf)_k∇²∂_kg)H⁻¹. Both rates rest on −s_I ⪯ S
⪯ s⁺I alone; here it is measured at a point, where every part of the constants decides somewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays import to_numpy
from refimpl.arrays.backend import Array
from verification.claims.reweighting._bent import CONVEX, Backward, at, backward, bent, line
from verification.claims.reweighting._penalty import largest, rational, square
from verification.model import Budget, Claim, Control, Equality, Measurement

WITNESS = 2**20  # directions are rounded to this denominator
Pair = tuple[int, int]
ANY: dict[str, Any] = {"multiplier": True}


def directions(S: Array) -> tuple[Array, Array]:
    """Rational vectors near the eigenvectors of the least and of the largest eigenvalue: any vectors will do."""
    found = np.linalg.eigh(np.asarray(to_numpy(S), dtype=float))[1]
    least, most = (rational(np.rint(found[:, i] * WITNESS).astype(int)) for i in (0, -1))
    return least, most


def within(
    nu: Pair = (1, 1), slope: Pair = (1, 1), ends: Pair = (1, 1), divided: int = 1, power: int = 2
) -> Callable[[Backward], Measurement]:
    """xᵀSx against s⁺‖x‖² and −xᵀSx against s_‖x‖²; mutants drop a part of ν, of M, ρ or L_f, or change m's powers."""

    def measure(b: Backward) -> Measurement:
        bending = sum(i * x for i, x in zip(nu, b.bends, strict=True)) / b.m**divided
        bending *= sum(i * x for i, x in zip(slope, b.slopes, strict=True))
        below, above = ((i * x + bending) / b.m**power for i, x in zip(ends, b.ends, strict=True))
        least, most = directions(b.S)
        return largest(
            (most @ b.S @ most, above * square(most)), (-(least @ b.S @ least), below * square(least))
        )

    return measure


STRAIGHT = line(1, 1, **ANY)  # f = v²/2 + v, r = v: S = 1
CUBIC = line(1, 0, c=[1], e=[0], **ANY)  # f = v, r = v + v³ at v = 1: S = −3/32
TURNING = line(4, 0, c=[1], e=[1], over=64, **ANY)  # f = v, r = 4v + v² + v³ at v = 1/64
STILL = line(1, 1, c=[1], e=[0], p=[0], **ANY)  # f = v²/2, r = v + v³ at v = 1: S = −1/32
CLAIMS = (
    Claim(
        id="reweighting/penalty-rate@second-derivative",
        title="How far f bends in the variable of the constraint, for a lower level that is not quadratic",
        source="reweighting, (19)",
        statement=r"$$-s_-I \preceq H^{-1}\left(\nabla^2_{vv}f - \sum_k(H^{-1}\nabla_vf)_k\nabla^2\partial_kg\right)"
        r"H^{-1} \preceq s^+I$$ $$s^+ = \frac{L_f + \nu M/m}{m^2},\quad s_- = \frac{\rho + \nu M/m}{m^2},\quad "
        r"-\rho I \preceq \nabla^2_{vv}f \preceq L_fI$$",
        hypotheses=(CONVEX,),
        strategy=bent(convex=st.booleans(), multiplier=st.just(True)),
        explicit=(STRAIGHT, CUBIC, TURNING, STILL, at(d=2, seed=1, over=16, **ANY)),
        build=backward,
        measure=within(),
        grade="proved",
        controls=(
            Control("m stated twice too large", params={**STRAIGHT, "overstated": 2}),
            Control("ν taken at v* alone", kind="formula", measure=within(nu=(1, 0)), params=CUBIC),
            Control("ν without its part at v*", kind="formula", measure=within(nu=(0, 1)), params=TURNING),
            Control("M taken at v* alone", kind="formula", measure=within(slope=(1, 0)), params=STILL),
            Control("M without its part at v*", kind="formula", measure=within(slope=(0, 1)), params=CUBIC),
            Control("L_f dropped", kind="formula", measure=within(ends=(1, 0)), params=STRAIGHT),
            Control("ρ dropped", kind="formula", measure=within(ends=(0, 1)), params=line(1, -1, **ANY)),
            Control("νM/m² for νM/m", kind="formula", measure=within(divided=2), params=TURNING),
            Control("m³ for m²", kind="formula", measure=within(power=3), params=line(2, 1, **ANY)),
        ),
        equality=Equality(params=STRAIGHT, reaches=1.0),
        budget=Budget(quick=100, full=2000),
        notes="$\\nabla^2_{vv}g$ is $\\nu$-Lipschitz and $\\|\\nabla_vf\\| \\le M$ where $\\|v - v^*\\| \\le "
        "\\|\\nabla_vg(v)\\|/m$. The matrix is the Hessian of $f$ in $y = \\nabla_vg$. It is indefinite even for "
        "convex $f$ with its minimum at the lower solution: $f = v^2/2$, $\\nabla_vg = v + v^3$ have $-\\frac1{32}$ at "
        "$v = 1$, where $M$ at $v^*$ is 0. penalty-rate@curvature and auglag-rate@nonlinear average it.",
    ),
)
