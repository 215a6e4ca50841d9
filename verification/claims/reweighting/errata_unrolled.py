"""Misprints of the unrolled part, (14) and (15): what is printed, executed over the rationals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.reweighting._rational import (
    Exact,
    at,
    central_differences,
    problem,
    sizes,
)
from verification.claims.reweighting._unrolled import (
    Unrolled,
    formula_16,
    judged,
    over_rationals,
)
from verification.claims.reweighting.reverse_equals_forward import explicit
from verification.model import Budget, Claim, Control, Correction, Measurement, identity

# -- (14) --------------------------------------------------------------------------------------------------


def printed_start(u: Unrolled, lam: Array) -> Array:
    """Φ_1(u), the first step of the iteration, from the origin."""
    return u.solver.map(u.problem, lam, u.w0, 1).value(lam, u.problem.w(None))


def sum_14(u: Unrolled) -> Array:
    """(16) with its B_0 = d_uΦ_0(u), along the iteration started at Φ_1(u)."""
    return formula_16(u.problem, u.solver, u.lam, printed_start(u, u.lam), u.jacobian)


def derivative_14(u: Unrolled) -> Array:
    """What that iteration's result really does when u changes."""

    def value(lam: Array) -> Any:
        return u.problem.upper.value(lam, u.solver.run(u.problem, lam, printed_start(u, lam)).w)

    return central_differences(value, u.lam)


def corrected_14(u: Unrolled) -> Measurement:
    """(16) along the iteration started at Φ_0(u), against differences of its result."""
    return identity(formula_16(u.problem, u.solver, u.lam, u.w0, u.jacobian), judged(u))


# -- (15) --------------------------------------------------------------------------------------------------


def stays(gradient: Callable[[Exact], Array]) -> Callable[[Exact], Measurement]:
    """v*(u) − α·gradient against v*(u), α = 1/8."""
    return lambda case: identity(case.w_star - gradient(case) / 8, case.w_star)


def in_u(case: Exact) -> Array:
    """∇_ug at v*(u)."""
    return case.problem.lower.grad_lam(case.lam, case.w_star)


def in_v(case: Exact) -> Array:
    """∇_vg at v*(u)."""
    return case.problem.lower.grad_w(case.lam, case.w_star)


CLAIMS = (
    Claim(
        id="reweighting/erratum-14",
        title="As printed: the iterates of (14) start from Φ_{t+1}(u)",
        source="reweighting, (14)",
        statement=r"$$v_0 = \Phi_{t+1}(u) \text{ at } t = 0:$$ $$\frac{df(u, v_T(u))}{du} = \nabla_uf + "
        r"\sum_{t=0}^T B_t^\top A_{t+1}^\top\cdots A_T^\top\nabla_vf$$ $$B_0 = d_u\Phi_0(u)$$",
        printed=r"v_0 = \Phi_{t+1}(u) \text{ at } t = 0",
        strategy=sizes(T=st.integers(0, 4), solver=st.just("descent"), slope=st.just(1)),
        explicit=(explicit(1, 1, 0, slope=1), explicit(1, 1, 1, slope=1)),
        build=over_rationals,
        measure=lambda u: identity(sum_14(u), derivative_14(u)),
        grade="proved",
        controls=(
            Control(
                "printed and corrected are the same",
                kind="formula",
                measure=lambda u: identity(printed_start(u, u.lam), u.w0),
                params=explicit(1, 1, 0, slope=1),
            ),
        ),
        corrected=Correction(
            tex=r"v_0 = \Phi_0(u), \qquad B_0 = d_u\Phi_0(u)",
            measure=corrected_14,
            proof="$\\Phi_1$ is the first step and takes two arguments; (16) differentiates $\\Phi_0$. See "
            "initial-point.",
        ),
        budget=Budget(quick=50, full=400),
        notes="A misprint of notation. $\\Phi_1(u)$ lacks an argument: as printed it has no value. The reading "
        "executed takes it as the first step from the origin, and another reading may differ.",
    ),
    Claim(
        id="reweighting/erratum-15",
        title="As printed: steps along ∇_u g, (15), leave the lower-level solution where it is",
        source="reweighting, (15)",
        statement=r"\Phi(v, u) = v - \alpha\nabla_ug(v, u) \text{ leaves the lower-level solution } v^*(u) "
        r"\text{ where it is}",
        printed=r"\Phi_{t+1}(v_t, u) = v_t - \alpha\nabla_u g(v_t, u)",
        strategy=sizes().map(lambda p: {**p, "n": p["d"]}),
        explicit=(at(1, 1), at(1, 1, 1), at(1, 1, 2)),
        build=problem,
        measure=stays(in_u),
        grade="proved",
        controls=(
            Control(
                "printed and corrected are the same",
                kind="formula",
                measure=lambda case: identity(in_u(case), in_v(case)),
                params=at(1, 1, 1),
            ),
        ),
        corrected=Correction(
            tex=r"\Phi_{t+1}(v_t, u) = v_t - \alpha\nabla_vg(u, v_t)",
            measure=stays(in_v),
            proof="Gradient descent on the lower level (8), in its variable and in its order of arguments; "
            "$\\nabla_vg = 0$ at $v^*(u)$.",
        ),
        budget=Budget(quick=50, full=400),
        notes="For $n \\ne d$ the printed step does not even conform, so the instances have $n = d$.",
    ),
)
