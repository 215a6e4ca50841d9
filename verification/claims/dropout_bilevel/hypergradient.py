"""(11), (12) and (16): the hypergradient of the dropout problem and its masked parts, over the rationals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refimpl import exact_hypergradient
from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from refimpl.problem import BilevelProblem
from verification.claims.dropout_bilevel._masks import (
    RATIONAL,
    Model,
    at,
    central_differences,
    model,
    models,
)
from verification.claims.dropout_bilevel.jacobian import formula_13
from verification.model import Budget, Claim, Control, Correction, Measurement, identity

BETA = RATIONAL.scalar(1) / 3  # of the fixed-point form; its value does not matter

# -- (12): the masked hypergradient ----------------------------------------------------------------------------


def masked_upper(case: Model, mlam: Array, mw: Array) -> tuple[Array, Array]:
    """m_λ∇_λF and m_w∇_wF at (m_λλ, m_ww(λ)), for all masks at once."""
    F, point = case.plain.upper, (mlam * case.lam, mw * case.w)
    return mlam * F.grad_lam(*point), mw * F.grad_w(*point)


def mean_of_12(
    case: Model, J: Array | None = None, *, through: Callable[[Array, Array], Array] | None = None
) -> Array:
    """E_M of (12) as a literal sum, with the Jacobian J; ``through`` alters (m_w, m_w∇_wF)."""
    jac = case.jacobian if J is None else J

    def term(mlam: Array, mw: Array) -> Array:
        direct, inner = masked_upper(case, mlam, mw)
        inner = through(mw, inner) if through else inner
        return direct + inner @ jac

    return case.law.mean(term)


def hyperobjective(case: Model) -> Array:
    """∇F̄ by central differences of λ ↦ E F(m_λλ, m_w w(λ)), literal sums only: exact, F̄ being quadratic."""

    def value(lam: Array) -> Any:
        w = case.w_star(lam)
        return case.law.mean(lambda mlam, mw: case.plain.upper.value(mlam * lam, mw * w))

    return central_differences(value, case.lam)


def unbiased(mean: Callable[[Model], Array], *, library: bool = False) -> Callable[[Model], Measurement]:
    """A stated mean (and the library's hypergradient of the dropout problem) against ∇F̄."""

    def measure(case: Model) -> Measurement:
        both = [mean(case)]
        if library:
            both.append(exact_hypergradient(case.noisy, case.lam).value)
        return identity(both, [hyperobjective(case)] * len(both))

    return measure


def without_outer(case: Model) -> Array:
    """∇F(MW) without the outer masks."""
    F = case.plain.upper

    def term(mlam: Array, mw: Array) -> Array:
        point = (mlam * case.lam, mw * case.w)
        return F.grad_lam(*point) + F.grad_w(*point) @ case.jacobian

    return case.law.mean(term)


# -- (16): through the adjoint ---------------------------------------------------------------------------------


def each_mask(case: Model) -> Array:
    """∇F_M for every mask: central differences of λ ↦ F(m_λλ, m_w w(λ)), (K, n)."""
    _, of_lam, of_w = case.law.literal
    F = case.plain.upper

    def values(lam: Array) -> Array:
        return F.value(of_lam * lam, of_w * case.w_star(lam))

    return central_differences(values, case.lam).T


def adjoints(case: Model, problem: BilevelProblem) -> tuple[Array, Array, Array, Array]:
    """m_λ∇_λF, m_w∇_wF and v_m = (∇²_ww)⁻¹ m_w∇_wF for every mask, and ∇²_λw, by ``problem``'s lower level."""
    _, of_lam, of_w = case.law.literal
    direct, inner = masked_upper(case, of_lam, of_w)
    H = problem.lower.hess_ww(case.lam, case.w).dense()
    C = problem.lower.cross(case.lam, case.w).dense()
    return direct, inner, factor(RATIONAL, H).solve(inner), C


def formula_16(mean: bool = True, sign: int = -1, cross: bool = True) -> Callable[[Model], Measurement]:
    """m_λ∇_λF − ∇²_λwG v_m for every mask, with Ḡ (``mean``) or G in both second derivatives."""

    def measure(case: Model) -> Measurement:
        direct, _, v, C = adjoints(case, case.noisy if mean else case.plain)
        if not cross:
            C = case.plain.lower.cross(case.lam, case.w).dense()
        return identity(direct + sign * v @ C.T, each_mask(case))

    return measure


def fixed_point(beta_twice: bool = True, mean: bool = True) -> Callable[[Model], Measurement]:
    """v ↦ β m_w∇_wF + (I − β∇²_wwḠ)v, ∇²_wwḠ a literal sum, leaves v_m where the library puts it, by Ḡ or by G."""

    def measure(case: Model) -> Measurement:
        _, inner, v, _ = adjoints(case, case.noisy if mean else case.plain)
        H, _ = case.normal_equations(case.lam)
        return identity((BETA * inner if beta_twice else inner) + v - BETA * (v @ H), v)

    return measure


SHARED: dict[str, Any] = {
    "strategy": models(),
    "build": model,
    "grade": "proved",
    "budget": Budget(quick=60, full=1000),
}
SMALL = (at(1, 1), at(1, 1, 1), at(1, 2), at(2, 1), at(2, 2))

CLAIMS = (
    Claim(
        id="dropout-bilevel/eq-12",
        title="The mean of the masked hypergradients is the hypergradient of the dropout problem",
        source="dropout-bilevel, (11) and (12)",
        statement=r"E_M\left[m_\lambda\nabla_\lambda F(m_\lambda\lambda, m_ww(\lambda)) + J(w(\lambda))^\top "
        r"m_w\nabla_wF(m_\lambda\lambda, m_ww(\lambda))\right] = \nabla\bar F(\lambda)",
        explicit=SMALL,
        measure=unbiased(mean_of_12, library=True),
        controls=(
            Control("outer M missing", kind="formula", measure=unbiased(without_outer)),
            Control(
                "J of the plain G",
                kind="formula",
                measure=unbiased(lambda c: mean_of_12(c, formula_13(c.plain, c))),
            ),
            Control("J dropped", kind="formula", measure=unbiased(lambda c: mean_of_12(c, 0 * c.jacobian))),
            Control(
                "an independent mask in front of ∇_wF",
                kind="formula",
                measure=unbiased(
                    lambda c: mean_of_12(c, through=lambda m, g: c.law.mean(lambda _, w: w) * g)
                ),
            ),
        ),
        notes="$w(\\lambda)$ does not depend on the upper masks, and differentiation passes the finite sum. "
        "The judge knows values only: central differences of $\\lambda \\mapsto E F(m_\\lambda\\lambda, "
        "m_ww(\\lambda))$, a quadratic polynomial here, with $w(\\lambda)$ from literal sums.",
        **SHARED,
    ),
    Claim(
        id="dropout-bilevel/eq-16@a",
        title="The masked hypergradient through its adjoint, with the mean Ḡ",
        source="dropout-bilevel, (16), read with Ḡ",
        statement=r"\nabla F_M(\lambda) = m_\lambda\nabla_\lambda F - \nabla^2_{\lambda w}\bar G\, v_m, "
        r"\qquad v_m = \left(\nabla^2_{ww}\bar G\right)^{-1}m_w\nabla_wF",
        explicit=SMALL,
        measure=formula_16(),
        controls=(
            Control("sign", kind="formula", measure=formula_16(sign=1)),
            Control("G for Ḡ in both", kind="formula", measure=formula_16(mean=False)),
            Control("G for Ḡ in ∇²_λw", kind="formula", measure=formula_16(cross=False)),
        ),
        notes="Decided for every mask of the instance: the judge is the central difference of $\\lambda "
        "\\mapsto F(m_\\lambda\\lambda, m_ww(\\lambda))$.",
        **SHARED,
    ),
    Claim(
        id="dropout-bilevel/eq-16@b",
        title="The masked hypergradient through its adjoint, with G as the text stands",
        source="dropout-bilevel, (16), read without bars",
        statement=r"\nabla F_M(\lambda) = m_\lambda\nabla_\lambda F - \nabla^2_{\lambda w}G\, v_m, \qquad "
        r"v_m = \left(\nabla^2_{ww}G\right)^{-1}m_w\nabla_wF \text{ at } (\lambda, w(\lambda))",
        printed=r"\nabla F_M(\lambda) = m_\lambda\nabla_\lambda F(m_\lambda\lambda, m_ww(\lambda)) - "
        r"\nabla^2_{\lambda w}G(\lambda, w(\lambda))\,v_{m_w,\lambda}",
        explicit=(at(1, 1, simple=1, keep_lam=[8]), at(1, 1, simple=1, keep_w=[8])),
        measure=formula_16(mean=False),
        corrected=Correction(
            tex=r"\nabla F_M(\lambda) = m_\lambda\nabla_\lambda F - \nabla^2_{\lambda w}\bar "
            r"G\left(\nabla^2_{ww}\bar G\right)^{-1}m_w\nabla_wF",
            measure=formula_16(),
            proof="(13) is about $\\bar G$, whose argmin $w(\\lambda)$ is; put it into (12).",
        ),
        notes="With one coordinate on each level, $G = w^2/2 - \\lambda w$, F = w and λ kept with "
        "probability p, $J(w(\\lambda)) = p$, while $-(\\nabla^2_{ww}G)^{-1}\\nabla^2_{\\lambda w}G = 1$. "
        "Without masks on λ two coupled coordinates of w are needed, as a mask of w alone cancels from one.",
        **SHARED,
    ),
    Claim(
        id="dropout-bilevel/eq-16@fixed-point",
        title="The adjoint is the fixed point that the v-line iterates towards",
        source="dropout-bilevel, below (16)",
        statement=r"v_m = \beta\, m_w\nabla_wF + \left(I - \beta\nabla^2_{ww}\bar G\right)v_m",
        explicit=SMALL,
        measure=fixed_point(),
        controls=(
            Control("β missing before ∇_wF", kind="formula", measure=fixed_point(beta_twice=False)),
            Control("G for Ḡ", kind="formula", measure=fixed_point(mean=False)),
        ),
        notes="For every mask, with $\\beta = 1/3$: the equation is linear in β. $v_m$ is solved for by the library; "
        "$E[m_w\\nabla^2_{ww}G\\,m_w]$ in the iteration is a literal sum over masks. Without β before "
        "$m_w\\nabla_wF$ the fixed point is $v_m/\\beta$: the two factors of the v-line have to be the same.",
        **SHARED,
    ),
)
