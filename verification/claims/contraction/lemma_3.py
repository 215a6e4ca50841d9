"""Lemma 3: bounds on w', its Lipschitz constant, and those of v and ∇f, over pairs λ, λ' of a ball Λ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from refimpl.constants import Constants
from refimpl.exact import solution_jacobian
from verification.claims.contraction._assumptions import assumptions, too_small
from verification.claims.contraction._instances import cases, scalar, symbol
from verification.claims.contraction._pairs import HYPOTHESES, Pair, build
from verification.model import Budget, Claim, Control, Equality, Measurement

Constant = Callable[[Constants], float]


# -- what is measured -------------------------------------------------------------------------------


def _jacobians(pair: Pair) -> list[Array]:
    return [solution_jacobian(pair.of.problem, lam, w=e.w) for lam, e in pair.ends]


def solution(pair: Pair, constant: Constant = lambda c: c.L_w) -> Measurement:
    """The larger of ‖w'‖ at both ends and of the difference quotient of w(·)."""
    a, b = pair.answers
    errors, bound = pair.roundings(), constant(pair.place.constants)
    slope = pair.quotient(a.w, b.w, [e.w for e in errors], bound)
    steepest = max(float(np.linalg.norm(x, 2)) for x in _jacobians(pair))
    return Measurement(
        observed=max(slope.observed, steepest),
        bound=bound,
        rounding=max(slope.rounding, *(e.dw for e in errors)),
    )


def jacobian(pair: Pair, constant: Constant = lambda c: c.L_dw) -> Measurement:
    """The difference quotient of w'."""
    a, b = _jacobians(pair)
    return pair.quotient(a, b, [e.dw for e in pair.roundings()], constant(pair.place.constants))


def hypergradient(pair: Pair, constant: Constant = lambda c: c.L_f) -> Measurement:
    """The difference quotient of ∇f."""
    a, b = pair.answers
    return pair.quotient(
        a.value, b.value, [e.value for e in pair.roundings()], constant(pair.place.constants)
    )


def adjoint_constant(c: Constants) -> float:
    """L_v = (μ̄₁ + μ₁L_w)κ_q + L_E(ν̄₁ + ν₁L_w)κ_q²."""
    k = c.kappa_q
    return (c.mu1_bar + c.mu1 * c.L_w) * k + c.L_E * (c.nu1_bar + c.nu1 * c.L_w) * k**2


def adjoint(pair: Pair, constant: Constant = adjoint_constant) -> Measurement:
    """The difference quotient of v."""
    a, b = pair.answers
    return pair.quotient(a.v, b.v, [e.v for e in pair.roundings()], constant(pair.place.constants))


def through_adjoint(c: Constants) -> float:
    """L_f once more, through v: equal to ``Constants.L_f`` term by term (a test expands both)."""
    direct = c.mu2_bar + c.mu2 * c.L_w + (c.nu2_bar + c.nu2 * c.L_w) * c.L_E * c.kappa_q
    return direct + c.L_Phi * adjoint_constant(c)


# -- instances, controls ----------------------------------------------------------------------------

STRATEGY = cases(
    radius=st.floats(1e-4, 0.5),
    ahead=st.floats(0.1, 1),
    behind=st.floats(0, 1),
    direction=st.integers(0, 9),
)
_near = {"radius": 1e-4, "ahead": 1.0, "behind": 0.0, "direction": 0}
_signed_near = {**_near, "behind": 1.0}
# every term of every constant is positive and attained together as the radius of Λ shrinks
ALL = {
    **scalar(q=0.5, b=0.5, nu1=0.4, nu2=0.3, nu2_bar=0.6, nu3=0.5, e=0.7, m1=0.5, m2=0.8, m3=2.0),
    **_signed_near,
}
LINE = {**scalar(b=1.0, e=1.0), **_signed_near}
ELSEWHERE = {"radius": 0.01, "ahead": 10.0, "behind": 0.0, "direction": 0}


def drop(
    measure: Callable[..., Measurement], constant: Constant, *names: str
) -> Callable[[Pair], Measurement]:
    """The measure against the constant without the terms in ``names``."""
    return lambda pair: measure(pair, lambda c: constant(replace(c, **dict.fromkeys(names, 0.0))))


def controls(measure: Callable[..., Measurement], constant: Constant, *names: str) -> tuple[Control, ...]:
    """One control per dropped term, one with a smaller κ_q, and λ' outside Λ where constants grow."""
    outside = {**ALL, **ELSEWHERE}
    dropped = (
        Control(f"without {symbol(name)}", kind="formula", measure=drop(measure, constant, name))
        for name in names
    )
    tamer = Control(
        "1/(1 − q²) for one κ_q",
        kind="formula",
        measure=lambda pair: measure(pair, lambda c: constant(c) * (1 - c.q) / (1 - c.q**2)),
    )
    return (Control("λ' outside Λ", params=outside), tamer, *dropped)


IN_PHI = ("nu1", "nu2", "nu1_bar", "nu2_bar", "L_Phi")
IN_E = ("mu1", "mu2", "mu1_bar", "mu2_bar", "L_E")
SOURCE = "contraction, Lemma 3; the constant is lost in the text, restored from its proof"
WHERE = (
    r"$\Lambda$ is a ball of $\lambda$; the constants are proved on $\Lambda$ times a ball around "
    r"$w(\lambda_c)$ of radius "
    r"$\kappa_q\sup_\Lambda\|\partial_2\Phi(w(\lambda_c),\cdot)\|\,\mathrm{radius}(\Lambda)$, which holds "
    r"every $w(\lambda')$. "
)
FAMILIES = (
    "Instances: one-dimensional quadratic maps, affine and tanh maps, quadratic, ridge and logistic lower "
    "levels through their descent map. "
)
COMMON: dict[str, Any] = {
    "source": SOURCE,
    "strategy": STRATEGY,
    "explicit": (LINE, ALL),
    "build": build,
    "grade": "exact",
    "budget": Budget(quick=120, full=2400),
}

CLAIMS = (
    Claim(
        id="contraction/lemma-3@i",
        title="The lower solution moves at most L_Φ κ_q times as fast as λ",
        statement=r"\|w'(\lambda)\|\le L_w:=L_\Phi\kappa_q,\qquad \|w(\lambda)-w(\lambda')\|\le "
        r"L_w\|\lambda-\lambda'\|",
        hypotheses=(*HYPOTHESES, *assumptions("L_Phi")),
        measure=solution,
        controls=(*controls(solution, lambda c: c.L_w, "L_Phi"), too_small("L_Phi", LINE)),
        equality=Equality(params=LINE, reaches=0.999),
        notes=WHERE
        + FAMILIES
        + r"Equality: $\Phi=qw+\lambda$. $w'=(I-\partial_1\Phi)^{-1}\partial_2\Phi$ and Lemma 28; "
        r"the second part integrates $w'$ over the segment, which lies in $\Lambda$.",
        **COMMON,
    ),
    Claim(
        id="contraction/lemma-3@ii",
        title="The Jacobian of the lower solution is Lipschitz",
        statement=r"\|w'(\lambda)-w'(\lambda')\|\le L_{w'}\|\lambda-\lambda'\|,\quad "
        r"L_{w'}=\bar\nu_2\kappa_q+(\nu_2+\bar\nu_1)L_\Phi\kappa_q^2+\nu_1L_\Phi^2\kappa_q^3",
        hypotheses=(*HYPOTHESES, *assumptions(*IN_PHI)),
        measure=jacobian,
        controls=(
            *controls(jacobian, lambda c: c.L_dw, "nu1", "nu2", "nu1_bar", "nu2_bar"),
            *(too_small(name, ALL) for name in ("nu1", "nu2_bar")),
        ),
        equality=Equality(params=ALL, reaches=0.999),
        notes=WHERE + FAMILIES + r"Equality as $\Lambda$ shrinks: $n=d=1$ and all derivatives positive. "
        r"$w'=H^{-1}C$ with $\|\Delta C\|\le(\bar\nu_2+\nu_2L_w)\|\Delta\lambda\|$, $\|\Delta "
        r"H\|\le(\bar\nu_1+\nu_1L_w)\|\Delta\lambda\|$ and $\|\Delta(H^{-1}C)\|\le\kappa_q\|\Delta "
        r"C\|+\kappa_q^2\|\Delta H\|L_\Phi$.",
        **COMMON,
    ),
    Claim(
        id="contraction/lemma-3@iii",
        title="The hypergradient is Lipschitz",
        statement=r"\|\nabla f(\lambda)-\nabla f(\lambda')\|\le L_f\|\lambda-\lambda'\|,\quad "
        r"L_f=\bar\mu_2+(\bar\mu_1+\mu_2)L_\Phi\kappa_q+\mu_1L_\Phi^2\kappa_q^2+L_EL_{w'}",
        hypotheses=(*HYPOTHESES, *assumptions(*IN_PHI, *IN_E)),
        measure=hypergradient,
        controls=(
            *controls(hypergradient, lambda c: c.L_f, *IN_E, "nu1", "nu2", "nu1_bar", "nu2_bar"),
            *(too_small(name, ALL) for name in ("mu1", "L_E", "mu2_bar")),
        ),
        equality=Equality(params=ALL, reaches=0.999),
        notes=WHERE
        + FAMILIES
        + r"Equality as in (ii). $\nabla f=\nabla_2E+w'^{\top}\nabla_1E$ along $w(\cdot)$. "
        r"$L_f=O(\kappa_q^3)$; the same constant follows through $v$ (reading $v$), term by term.",
        **COMMON,
    ),
    Claim(
        id="contraction/lemma-3@v",
        title="The adjoint is Lipschitz, and gives the hypergradient's constant once more",
        statement=r"\|v(\lambda)-v(\lambda')\|\le L_v\|\lambda-\lambda'\|,\quad "
        r"L_v=(\bar\mu_1+\mu_1L_w)\kappa_q+L_E(\bar\nu_1+\nu_1L_w)\kappa_q^2,\quad "
        r"L_f=\bar\mu_2+\mu_2L_w+(\bar\nu_2+\nu_2L_w)L_E\kappa_q+L_\Phi L_v",
        hypotheses=(*HYPOTHESES, *assumptions("mu1", "mu1_bar", "nu1", "nu1_bar", "L_E", "L_Phi")),
        measure=adjoint,
        controls=(
            *controls(adjoint, adjoint_constant, "mu1", "mu1_bar", "nu1", "nu1_bar", "L_E"),
            *(too_small(name, ALL) for name in ("nu1", "mu1_bar")),
        ),
        equality=Equality(params=ALL, reaches=0.999),
        notes=WHERE
        + FAMILIES
        + r"Not stated by the document, which needs it implicitly; $v(\lambda)=v(w(\lambda),\lambda)$ "
        r"in the scaling of $\Phi$. $v=H^{-\top}\nabla_1E$: $\kappa_q\|\Delta\nabla_1E\|+\kappa_q^2\|\Delta "
        r"H\|L_E$.",
        **COMMON,
    ),
)
