"""Implicit differentiation with conjugate gradients on the normal equations: for Jacobians that are not symmetric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flint import fmpq

import refimpl as ri
from refimpl.solvers import FixedPoint, NormalCG
from verification.claims.reweighting._attaining import (
    HARDEST,
    Attaining,
    around,
    rho,
    ring_of_a_map,
    rings,
    steps_leave,
)
from verification.claims.reweighting._penalty import root_above
from verification.claims.reweighting._shared import (
    CONTRACTION,
    Alter,
    dropped,
    unaltered,
    worst,
)
from verification.instances import Case, case, cases, point
from verification.model import Budget, Claim, Control, Equality, Measurement

SOURCE = "reweighting, (11)–(13) for the fixed-point form; constants of contraction, Theorem 4 without noise"


def adjoint_iterates(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """w_t and the errors of the hypergradient with v_0 … v_k there."""
    found = ri.approximate.implicit(
        case.as_map,
        case.lam,
        lower=FixedPoint(case.t),
        linear=NormalCG(case.k),
        w0=case.w0,
        exact=case.exact,
    )
    return found.w, np.asarray(found.curve)


def singular(case: Case, w: np.ndarray) -> np.ndarray:
    """Singular values of I − ∂_wΦ(w), descending."""
    return np.linalg.svd(np.eye(case.problem.d) - case.jacobians(w)[0], compute_uv=False)


def contraction(kappa: float) -> float:
    """(κ − 1)/(κ + 1)."""
    return (kappa - 1) / (kappa + 1)


def plain(kappa: float, k: np.ndarray) -> np.ndarray:
    """2κ((κ−1)/(κ+1))^k."""
    return 2 * kappa * contraction(kappa) ** k


def bounded(
    alter: Alter = unaltered,
    factor: Callable[[float, np.ndarray], np.ndarray] = plain,
) -> Callable[[Case], Measurement]:
    """The measure of c₁ q^t B + L_Φ · 2κ((κ−1)/(κ+1))^k · L_E κ_q."""

    def measure(case: Case) -> Measurement:
        w, errors = adjoint_iterates(case)
        s, c = singular(case, w), alter(case.constants)
        kappa = float(s[0] / s[-1])
        limit = c.c1 * c.q**case.t * c.B + c.L_Phi * factor(kappa, np.arange(len(errors))) * c.L_E * c.kappa_q
        # forming AᵀA squares the condition of the system, and what rounding does to its solution
        return worst(errors, limit, kappa * case.rounding, kappa=kappa)

    return measure


def in_residual(half: bool = False, plus: int = 0) -> Callable[[Case], Measurement]:
    """The measure of c₁ q^t B + ‖∂_λΦ(w(λ))ᵀ (I − ∂_wΦ(w_t)ᵀ)⁻¹‖ · 2ρ^k/(1 + ρ^{2k}) · ‖∇_wF(w_t)‖."""

    def measure(case: Case) -> Measurement:
        w, errors = adjoint_iterates(case)
        s, c = singular(case, w), case.constants
        kappa = float(s[0] / s[-1])
        inverse = np.linalg.inv(np.eye(case.problem.d) - case.jacobians(w)[0])
        amplified = float(np.linalg.norm(inverse @ case.jacobians(case.exact.w)[1], 2))
        reached = contraction(kappa) ** (np.arange(len(errors)) + plus)
        factor = (1 if half else 2) * reached / (1 + reached**2)
        gradient = float(np.linalg.norm(case.problem.upper.grad_w(case.lam, w)))
        limit = c.c1 * c.q**case.t * c.B + amplified * factor * gradient
        return worst(errors, limit, kappa * case.rounding, kappa=kappa)

    return measure


def curve(case: Case) -> Mapping[str, Any]:
    """Errors of every step, and their bound."""
    w, errors = adjoint_iterates(case)
    s, c, k = singular(case, w), case.constants, np.arange(len(errors))
    predicted = c.c1 * c.q**case.t * c.B + c.L_Phi * plain(float(s[0] / s[-1]), k) * c.L_E * c.kappa_q
    labels = {
        "xlabel": "steps k on the normal equations",
        "ylabel": "error of the hypergradient",
        "logy": True,
    }
    return {"x": k, "predicted": predicted, "measured": errors, **labels}


def extremal(kappa: float, degree: int, **more: Any) -> dict[str, Any]:
    """The instance that ``degree`` steps find hardest, at w(λ)."""
    return point("extremal-normal", kappa=kappa, degree=degree, k=degree, **more)


# -- the rate ----------------------------------------------------------------------------------------------


def residuals(case: Attaining) -> tuple[fmpq, fmpq]:
    """‖r_0‖² and ‖r_k‖² on the ring."""
    options: dict[str, Any] = {"lower": FixedPoint(0), "w0": case.exact.w}
    ends = (NormalCG(steps) for steps in (0, case.params["k"]))
    first, last = (
        case.off(ri.approximate.implicit(case.problem, case.lam, linear=end, **options).value) for end in ends
    )
    return first, last


KINDS = ("line", "rotation", "affine", "tanh", "bent", "parabola", "quadratic")
EXPLICIT = (
    point("line"),
    point("affine", n=2, d=2),
    extremal(2.0, 3),
    extremal(2.0, 8),
    extremal(3.0, 8),
    point("bent", k=10),
    point("line", upper="square", k=10),
    point("line", upper="product", k=10),
    point("parabola", nu=0.1, B=0.1, k=10),
)


CLAIMS = (
    Claim(
        id="reweighting/rate-aid-cgnr",
        title="Implicit differentiation by conjugate gradients on the normal equations",
        source=SOURCE,
        statement=r"$$\|\nabla_\lambda F(w_t) + \partial_\lambda\Phi(w_t)^\top v_k - \nabla f(\lambda)\|$$ "
        r"$$\quad \le c_1 q^t B + L_\Phi \cdot 2\kappa\left(\frac{\kappa-1}{\kappa+1}\right)^{k} \cdot "
        r"L_E\kappa_q$$ $$\kappa = \operatorname{cond}(I - \partial_w\Phi(w_t)),\ v_0 = 0$$",
        hypotheses=CONTRACTION,
        strategy=cases(KINDS, k=12),
        explicit=EXPLICIT,
        build=case,
        measure=bounded(),
        grade="exact",
        controls=(
            Control("B stated too small", params=point("line", upper="square", k=10, halved="B")),
            Control(
                "the rate of CG on an SPD matrix of this condition",
                kind="formula",
                measure=bounded(
                    factor=lambda kappa, k: 2 * np.sqrt(kappa) * contraction(np.sqrt(kappa)) ** k
                ),
            ),
            dropped("mu1", bounded),
            dropped("mu2", bounded),
            dropped("nu1", bounded),
            dropped("nu2", bounded),
        ),
        curve=curve,
        budget=Budget(quick=120, full=1000),
        notes="CG on $AA^\\top$ minimises the residual, $\\|r_k\\| \\le 2\\rho^k\\|b\\|$ with $\\rho = "
        "(\\kappa-1)/(\\kappa+1)$, and $\\|v_k - v\\| \\le \\|r_k\\|/\\sigma_{\\min} \\le "
        "2\\kappa\\rho^k\\|v\\|$. It needs no symmetry. For a contraction $\\kappa \\le (1+q)/(1-q)$, so "
        "$\\rho \\le q$: never slower than the fixed-point iteration, but for SPD systems a waste ($\\kappa$ "
        "where plain CG has $\\sqrt\\kappa$). The first term is attained on a line, where one step solves the "
        "system; of the second the worst known case, the extremal one, uses 22 % at κ = 2: see @sharp.",
    ),
    Claim(
        id="reweighting/rate-aid-cgnr@sharp",
        title="Conjugate gradients on the normal equations, through the residual: the bound is attained",
        source=SOURCE,
        statement=r"$$\|\hat\nabla f - \nabla f(\lambda)\|$$ $$\quad \le c_1 q^t B + "
        r"\left\|\partial_\lambda\Phi(w(\lambda))^\top (I - \partial_w\Phi(w_t)^\top)^{-1}\right\| \cdot "
        r"\frac{2\rho^k}{1+\rho^{2k}} \cdot \|\nabla_wF(w_t)\|$$ $$\rho = \tfrac{\kappa-1}{\kappa+1}$$",
        hypotheses=CONTRACTION,
        strategy=cases(KINDS, k=12),
        explicit=EXPLICIT,
        build=case,
        measure=in_residual(),
        grade="exact",
        controls=(
            Control("B stated too small", params=point("line", upper="square", k=10, halved="B")),
            Control("the 2 dropped", kind="formula", measure=in_residual(half=True)),
            Control("k + 1 for k", kind="formula", measure=in_residual(plus=1)),
        ),
        equality=Equality(params=extremal(3.0, 4), reaches=0.999),
        budget=Budget(quick=120, full=1000),
        notes="Equality: squared singular values at the extrema of $T_k$, $b_i^2 \\propto "
        "1/(x_i\\prod_{j\\ne i}|x_i-x_j|)$ and $\\partial_\\lambda\\Phi = I - \\partial_w\\Phi$, not "
        "symmetric.",
    ),
    Claim(
        id="reweighting/rate-aid-cgnr@rate",
        title="Conjugate gradients on the normal equations converge at the rate (κ − 1)/(κ + 1) per step",
        source=SOURCE,
        statement=r"$$\frac{\|r_k\|}{\|r_0\|} = \frac{2\rho^k}{1+\rho^{2k}} \in [\rho^k, 2\rho^k], \quad \rho "
        r"= \tfrac{\kappa-1}{\kappa+1}$$ on the ring of $2k$ points: $\Phi = \rho Sw + (I - \rho S)\lambda$, S "
        r"the cyclic shift, $\kappa = \operatorname{cond}(I - \rho S)$, $(I - \rho S^\top)\nabla_wF = (1, 0, "
        r"…, 0)$",
        hypotheses=(HARDEST,),
        strategy=rings(),
        explicit=(around(1), around(2), around(5, (3, 2)), around(6, (7, 4))),
        build=ring_of_a_map,
        measure=steps_leave(residuals),
        grade="proved",
        controls=(
            Control("one map for every k", params=around(4, points=16)),
            Control(
                "the rate of CG on a matrix of the condition κ",
                kind="formula",
                params=around(3),
                measure=steps_leave(residuals, lambda kappa: rho(root_above(kappa))),
            ),
            Control(
                "a condition 1 % larger",
                kind="formula",
                params=around(3),
                measure=steps_leave(residuals, lambda kappa: rho(kappa * fmpq(101, 100))),
            ),
            Control("the 2 dropped", kind="formula", params=around(3), measure=steps_leave(residuals, two=1)),
        ),
        budget=Budget(quick=20, full=400),
        notes="As for conjugate gradients, with $\\kappa^2$ the condition of the normal equations: "
        "$\\sqrt{\\kappa^2} = \\kappa$. The hypergradient's error is the residual, as $\\partial_\\lambda\\Phi "
        "= I - \\partial_w\\Phi$. Here $\\|\\partial_w\\Phi\\| = \\rho$: with $\\rho = q$ the fixed-point "
        "iteration is as fast, $\\kappa = (1+q)/(1-q)$ being the largest that a contraction allows. "
        "$\\partial_w\\Phi$ is not symmetric for $k \\ge 2$. The slope of every secant of the logarithm is "
        "enclosed as in rate-aid-cg@rate; nothing is fitted.",
    ),
)
