"""Misprints of the bilevel part, (7), (12), (13) and (21): what is printed, executed over the rationals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from refimpl.operators import matrix
from refimpl.solvers import ConjugateGradient
from verification.claims.reweighting._rational import RATIONAL, Exact, at, central_differences, problem, sizes
from verification.claims.reweighting.hypergradient import formula_11
from verification.model import Budget, Claim, Control, Correction, Measurement, identity

Value = Callable[[Exact], Any]


def against_total(value: Value) -> Callable[[Exact], Measurement]:
    """A stated hypergradient against central differences of u ↦ f(u, v*(u))."""
    return lambda case: identity(value(case), case.total_derivative)


def differ(printed: Value, corrected: Value, params: Any) -> Control:
    """The erratum's control: an instance on which the two forms are not the same."""

    def measure(case: Exact) -> Measurement:
        a, b = np.broadcast_arrays(np.asarray(printed(case)), np.asarray(corrected(case)))
        return identity(a, b)

    return Control("printed and corrected are the same", kind="formula", measure=measure, params=params)


def v_held(case: Exact) -> Array:
    """(7) as printed: the derivative of u ↦ f(u, v) with v held at v*(u)."""
    return central_differences(lambda lam: case.problem.upper.value(lam, case.w), case.lam)


# -- (12) and (13) -----------------------------------------------------------------------------------------


def target(case: Exact) -> Array:
    """∇²_{uv}g (∇²_{vv}g)⁻¹, n x d."""
    H, C, _, _ = case.parts
    return factor(RATIONAL, H).solve(C)


def nearest_vector(case: Exact) -> Measurement:
    """Squared Frobenius distance of the matrix from the nearest 1wᵀ: what w − matrix is, executed."""
    rows = target(case)
    w = rows.sum(axis=0) / len(rows)
    return Measurement(
        observed=((w - rows) ** 2).sum(), bound=0, detail={"shape of w − matrix": list(rows.shape)}
    )


def through_vector(case: Exact) -> Array:
    """∇_uf − C z with z = H⁻¹∇_vf, the vector for which δ = 0 is possible."""
    H, C, direct, gradient = case.parts
    return direct - C @ factor(RATIONAL, H).solve(gradient)


def printed_13(case: Exact) -> Array:
    """∇_uf − wᵀ∇_vf, w minimising the sum of the n components that ½wᵀHw − wᵀ∇²_{uv}g has."""
    H, C, direct, gradient = case.parts
    w = factor(RATIONAL, H).solve(C.sum(axis=0)) / len(C)
    return direct - (w @ gradient)


def corrected_13(case: Exact) -> Array:
    """∇_uf − ∇²_{uv}g z, z minimising ½zᵀHz − zᵀ∇_vf: conjugate gradients until they end."""
    H, C, direct, gradient = case.parts
    z = ConjugateGradient(len(H)).solve(matrix(RATIONAL, H, symmetric=True), gradient).v
    return direct - C @ z


# -- (21) --------------------------------------------------------------------------------------------------


def printed_21(case: Exact) -> Array:
    """f − λ∇_vg + (μ/2)(∇_vg)² as it executes: with d components."""
    r, multiplier = lagrangian_parts(case)
    return case.problem.upper.value(case.lam, case.w) - multiplier * r + r * r / 2


def corrected_21(case: Exact) -> Any:
    """f − λᵀ∇_vg + (μ/2)‖∇_vg‖², μ = 1."""
    r, multiplier = lagrangian_parts(case)
    return case.problem.upper.value(case.lam, case.w) - multiplier @ r + r @ r / 2


def lagrangian_parts(case: Exact) -> tuple[Array, Array]:
    """∇_vg at v, and the multiplier H⁻¹∇_vf."""
    H, _, _, gradient = case.parts
    return case.problem.residual(case.lam, case.w), factor(RATIONAL, H).solve(gradient)


def scalar_21(case: Exact) -> Measurement:
    """One function of (u, v): every component is the same number, that of the Lagrangian with the inner product."""
    printed = printed_21(case)
    return identity(
        printed,
        np.array([corrected_21(case)] * len(printed), dtype=object),
        detail={"components": len(printed)},
    )


def stationary_21(case: Exact) -> Measurement:
    """At v*(u) and λ = H⁻¹∇_vf the corrected form has no derivative in v, and the hypergradient as the one in u."""
    _, multiplier = lagrangian_parts(Exact(case.problem, case.lam, {}))
    p, lam, w = case.problem, case.lam, case.w_star

    def lagrangian(lam: Array, w: Array) -> Any:
        r = p.residual(lam, w)
        return p.upper.value(lam, w) - multiplier @ r + r @ r / 2

    in_v = central_differences(lambda v: lagrangian(lam, v), w)
    in_u = central_differences(lambda u: lagrangian(u, w), lam)
    return identity(np.concatenate([in_v, in_u]), np.concatenate([0 * in_v, case.total_derivative]))


def erratum(id: str, *, explicit: Any, off: int = 0, **fields: Any) -> Claim:
    """The claim of one misprint; ``off`` evaluates away from v*(u)."""
    return Claim(
        id=f"reweighting/erratum-{id}",
        source=f"reweighting, ({id})",
        strategy=sizes(off=st.just(off)),
        explicit=explicit,
        build=problem,
        grade="proved",
        budget=Budget(quick=60, full=400),
        **fields,
    )


CLAIMS = (
    erratum(
        "7",
        title="As printed: ∇_u f with v held at v*(u), (7), is the hypergradient",
        statement=r"\nabla_uf(u, v)\big|_{v = v^*(u)} \text{ is the gradient of the bilevel problem (7)–(8)}",
        printed=r"\min_u f(u, v)",
        explicit=(at(1, 1), at(1, 1, 1), at(1, 1, 2)),
        measure=against_total(v_held),
        controls=(differ(v_held, formula_11, at(1, 1, 1)),),
        corrected=Correction(
            tex=r"\min_u f(u, v^*(u)), \qquad v^*(u) = \operatorname{argmin}_v g(u, v)",
            measure=against_total(formula_11),
            proof="(9) is what (7) means; v depends on u, and (10) adds $\\frac{dv}{du}\\nabla_vf$.",
        ),
        notes="A misprint of notation, executed: as printed v is a constant for the minimisation over u, "
        "whose gradient lacks the implicit term.",
    ),
    erratum(
        "12",
        title="As printed: (12) brings a vector w within δ of a matrix",
        statement=r"\text{for every } \delta > 0 \text{ some vector } w \text{ has } \|w - "
        r"\nabla^2_{uv}g\,(\nabla^2_{vv}g)^{-1}\| \le \delta",
        printed=r"\|\boldsymbol{w} - \nabla_{uv}^2 g(\nabla_{vv}^2 g)^{-1}|_{v=v^*(u)}\| \le \delta, \quad w "
        r"\text{ a vector}",
        explicit=(at(1, 1), at(1, 2), at(2, 1), at(2, 1, 1), at(2, 2)),
        measure=nearest_vector,
        controls=(
            Control(
                "one row is enough for all",
                kind="formula",
                measure=lambda case: identity(
                    target(case), np.broadcast_to(target(case)[:1], target(case).shape)
                ),
                params=at(2, 2),
            ),
        ),
        corrected=Correction(
            tex=r"\|z - (\nabla^2_{vv}g)^{-1}\nabla_vf\| \le \delta, \qquad \frac{df}{du} \approx \nabla_uf "
            r"- \nabla^2_{uv}g\, z",
            measure=against_total(through_vector),
            proof="The vector of d entries that multiplies $\\nabla^2_{uv}g$ in (11); with $\\delta = 0$ it "
            "gives the hypergradient. With w a matrix of n rows (12) is right as it stands; see cg-delta for "
            "all three readings.",
        ),
        notes="Executed as arrays are: $w$ is subtracted from every row. Right for one hyperparameter, $n = "
        "1$; for $n \\ge 2$ no vector comes nearer than the spread of the rows.",
    ),
    erratum(
        "13",
        title="As printed: the minimiser of (13), with ∇²_uv g in its linear term, gives the hypergradient",
        statement=r"w = \operatorname{argmin}\ \tfrac{1}{2}w^\top(\nabla^2_{vv}g)w - w^\top\nabla^2_{uv}g "
        r"\;\Rightarrow\; \frac{df}{du} = \nabla_uf - w^\top\nabla_vf",
        printed=r"\min_{\boldsymbol{w}} \tfrac{1}{2}\boldsymbol{w}^T(\nabla_{vv}^2 g)\boldsymbol{w} - "
        r"\boldsymbol{w}^T\nabla_{uv}^2 g",
        explicit=(at(1, 1), at(1, 2), at(2, 1), at(2, 1, 1), at(2, 2)),
        measure=against_total(printed_13),
        controls=(differ(printed_13, corrected_13, at(2, 2)),),
        corrected=Correction(
            tex=r"\min_z \tfrac{1}{2}z^\top(\nabla^2_{vv}g)z - z^\top\nabla_vf, \qquad \frac{df}{du} = "
            r"\nabla_uf - \nabla^2_{uv}g\, z",
            measure=against_total(corrected_13),
            proof="Its minimiser is $(\\nabla^2_{vv}g)^{-1}\\nabla_vf$; conjugate gradients need one system, "
            "not n.",
        ),
        notes="$w^\\top\\nabla^2_{uv}g$ does not even conform for $\\nabla^2_{uv}g$ of shape $n \\times d$; "
        "transposed it has n components, which are added here. Right for n = 1.",
    ),
    erratum(
        "21",
        title="As printed: (21), with a product and a square of vectors, is a number",
        statement=r"f - \lambda\nabla_vg + \tfrac{\mu}{2}(\nabla_vg)^2 \text{ is a function with values in } "
        r"\mathbb R",
        printed=r"f(u, v) - \lambda\nabla_v g(u, v) + \tfrac{\mu}{2}(\nabla_v g(u, v))^2",
        explicit=(at(1, 1, off=1), at(1, 2, off=1)),
        off=1,
        measure=scalar_21,
        controls=(differ(printed_21, corrected_21, at(1, 2, off=1)),),
        corrected=Correction(
            tex=r"f - \lambda^\top\nabla_vg + \tfrac{\mu}{2}\|\nabla_vg\|^2",
            measure=stationary_21,
            proof="Scalar, and exact: at $v^*(u)$ with $\\lambda = (\\nabla^2_{vv}g)^{-1}\\nabla_vf$ it is "
            "stationary in v, and its derivative in u is the hypergradient (11), for every $\\mu$.",
        ),
        notes="As printed the expression has d components; it is a number for d = 1 only.",
    ),
)
