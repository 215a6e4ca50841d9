"""Implicit differentiation with fixed-point iterations on both levels: its error bound, and that it is its rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

import refimpl as ri
from refimpl.constants import Constants
from refimpl.solvers import LU, FixedPoint, FixedPointAdjoint
from verification.claims.reweighting._attaining import CONFORMAL, Attaining, falls, turn, turning, turns
from verification.claims.reweighting._shared import (
    CONTRACTION,
    Alter,
    dropped,
    unaltered,
    worst,
)
from verification.instances import EPS, Case, case, cases, point, tidy
from verification.model import Budget, Claim, Control, Equality, Measurement

SOURCE = "reweighting, (11)–(13), in the constants of contraction, Theorem 4 without noise"
KINDS = ("line", "bent", "parabola", "rotation", "affine", "tanh", "quadratic", "logistic")
ATTAINING = (
    point("line"),
    point("line", upper="square", k=30),
    point("line", upper="product", k=30),
    point("bent", k=30),
    point("parabola", nu=0.1, B=0.1, k=40),
)


def adjoint_iterates(case: Case, v0: Any = None) -> np.ndarray:
    """Errors of the hypergradient with v_0 … v_k at w_t."""
    found = ri.approximate.implicit(
        case.as_map,
        case.lam,
        lower=FixedPoint(case.t),
        linear=FixedPointAdjoint(case.k),
        w0=case.w0,
        v0=v0,
        exact=case.exact,
    )
    return np.asarray(found.curve)


def cold(c: Constants, t: int, k: np.ndarray) -> np.ndarray:
    """c₁ q^t B + L_Φ L_E κ_q q^k."""
    return c.c1 * c.q**t * c.B + c.L_Phi * c.L_E * c.kappa_q * c.q**k


def bounded(
    alter: Alter = unaltered,
    bound: Callable[[Constants, int, np.ndarray], np.ndarray] = cold,
) -> Callable[[Case], Measurement]:
    """The measure of the bound: the worst of v_0 … v_k."""

    def measure(case: Case) -> Measurement:
        errors = adjoint_iterates(case)
        limit = bound(alter(case.constants), case.t, np.arange(case.k + 1))
        return worst(errors, limit, case.rounding, t=case.t)

    return measure


def curve(case: Case) -> Mapping[str, Any]:
    """Errors of every step, and their bound."""
    errors, k = adjoint_iterates(case), np.arange(case.k + 1)
    predicted = cold(case.constants, case.t, k)
    return {
        "x": k,
        "predicted": predicted,
        "measured": errors,
        "logy": True,
        "xlabel": "adjoint steps k",
        "ylabel": "error of the hypergradient",
    }


def warm(moved: bool = True, plus: int = 0) -> Callable[[Case], Measurement]:
    """From any v_0: c₁ q^t B + (L_Φ + ν₂ q^t B) q^k ‖v_0 − v(w_t)‖."""

    def measure(case: Case) -> Measurement:
        c, problem = case.constants, case.as_map
        w = FixedPoint(case.t).run(problem, case.lam, case.w0).w
        system = np.eye(problem.d) - case.jacobians(w)[0]
        v = np.linalg.solve(system.T, problem.upper.grad_w(case.lam, w))
        v0 = case.params["v0"] * np.cos(np.arange(problem.d))
        path = c.L_Phi + (c.nu2 * c.q**case.t * c.B if moved else 0)
        k = np.arange(case.k + 1)
        limit = c.c1 * c.q**case.t * c.B + path * c.q ** (k + plus) * np.linalg.norm(v0 - v)
        # v_0 itself is a term of v_k: its rounding is carried along
        rounding = case.rounding + 10 * problem.d * EPS * c.L_Phi * c.kappa_q * float(np.linalg.norm(v0))
        return worst(adjoint_iterates(case, v0), limit, rounding, t=case.t)

    return measure


# -- the rate ----------------------------------------------------------------------------------------------

LAST = 12


def steps(case: Attaining) -> list[fmpq]:
    """Squared errors of w_0 … w_12 with their exact adjoints (F round), or of v_0 … v_12 at w(λ)."""
    problem, lam, w = case.problem, case.lam, case.exact.w
    if case.params["round"]:
        states = np.stack(FixedPoint(LAST).run(problem, lam, case.w0, keep=None).states)
        found = ri.approximate.implicit(problem, lam, lower=FixedPoint(0), linear=LU(), w0=states).value
    else:
        system, rhs = problem.residual_w(lam, w).T, problem.upper.grad_w(lam, w)
        iterates = FixedPointAdjoint(LAST).solve(system, rhs, keep=True).iterates
        found = [problem.hypergradient_at(lam, w, v) for v in iterates]
    return [case.off(value) for value in found]


CLAIMS = (
    Claim(
        id="reweighting/rate-aid-fp",
        title="Implicit differentiation by fixed-point iterations, from a zero adjoint",
        source=SOURCE,
        statement=r"$$\|\nabla_\lambda F(w_t) + \partial_\lambda\Phi(w_t)^\top v_k - \nabla f(\lambda)\|$$ "
        r"$$\quad \le c_1 q^t B + L_\Phi L_E \kappa_q\, q^k$$ $$v_0 = 0,\quad c_1 = \mu_2 + (\mu_1 L_\Phi + "
        r"\nu_2 L_E)\kappa_q + \nu_1 L_E L_\Phi \kappa_q^2$$",
        hypotheses=CONTRACTION,
        strategy=cases(KINDS, k=30),
        explicit=ATTAINING,
        build=case,
        measure=bounded(),
        grade="exact",
        controls=(
            Control("B stated too small", params=point("line", upper="square", k=30, halved="B")),
            Control("q stated too small", params=point("line", halved="q")),
            dropped("mu1", bounded),
            dropped("mu2", bounded),
            dropped("nu1", bounded),
            dropped("nu2", bounded),
            Control("k + 1 for k", kind="formula", measure=bounded(bound=lambda c, t, k: cold(c, t, k + 1))),
            Control("t + 1 for t", kind="formula", measure=bounded(bound=lambda c, t, k: cold(c, t + 1, k))),
        ),
        equality=Equality(params=point("line", k=12), reaches=0.999),
        curve=curve,
        budget=Budget(quick=120, full=1000),
        notes="Split $\\nabla_2E(w_t) - \\nabla_2E(w)$, $\\partial_2\\Phi(w)^\\top(v_k - v(w))$ and "
        "$(\\partial_2\\Phi(w_t) - \\partial_2\\Phi(w))^\\top v_k$; from $v_0 = 0$ the iterates are partial "
        "sums, so $\\|v_k\\| \\le L_E\\kappa_q$, and $L_\\Phi$ is needed at the solution only. Equality: "
        "$\\Phi = qw + \\lambda$, $E = w$; each of the four parts of $c_1$ is attained by one of the "
        "explicit instances (the $\\nu_1$ part as $B \\to 0$). Every iterate $v_0 … v_k$ is held to its own "
        "bound.",
    ),
    Claim(
        id="reweighting/rate-aid-fp@warm",
        title="Implicit differentiation by fixed-point iterations, from any starting adjoint",
        source=SOURCE,
        statement=r"$$\|\nabla_\lambda F(w_t) + \partial_\lambda\Phi(w_t)^\top v_k - \nabla f(\lambda)\|$$ "
        r"$$\quad \le c_1 q^t B + (L_\Phi + \nu_2 q^t B)\, q^k \|v_0 - v(w_t)\|$$",
        hypotheses=CONTRACTION,
        strategy=st.builds(lambda p, v0: {**p, "v0": v0}, cases(KINDS, k=30), st.floats(-20, 20).map(tidy)),
        explicit=tuple({**p, "v0": v0} for p in ATTAINING for v0 in (0.0, 5.0)),
        build=case,
        measure=warm(),
        grade="exact",
        controls=(
            Control("q stated too small", params={**point("line", halved="q"), "v0": 5.0}),
            Control("k + 1 for k", kind="formula", measure=warm(plus=1)),
            Control(
                "ν₂ dropped beside L_Φ",
                kind="formula",
                measure=warm(moved=False),
                params={**point("bent", t=0, k=0, B=0.5, nu=-1.0), "v0": 1e3},
            ),
        ),
        equality=Equality(params={**point("line"), "v0": 5.0}, reaches=0.999),
        budget=Budget(quick=120, full=1000),
        notes="As above with $\\|v_k\\| \\le L_E\\kappa_q + q^k\\|v_0 - v(w_t)\\|$: a far $v_0$ makes the "
        "second-order term visible, which the cold start does not have. Equality: $\\Phi = qw + \\lambda$, "
        "$E = w$.",
    ),
    Claim(
        id="reweighting/rate-aid-fp@rate",
        title="Fixed-point iterations converge at the rate q per step, in t and in k",
        source=SOURCE,
        statement=r"$$\Phi = qRw + \lambda,\ R^\top R = I:$$ $$F = \tfrac12\|w\|^2 + g^\top w,\ v = "
        r"v(w_t):\quad \|e_t\| = q^t\,\|e_0\|$$ $$F = g^\top w,\ w = w(\lambda):\quad \|e_k\| = q^k\,\|\nabla "
        r"f(\lambda)\|$$",
        hypotheses=(CONFORMAL,),
        strategy=turns(round=st.booleans()),
        explicit=tuple(turn(m=m, round=side) for m in ([0, 1], [1, 2]) for side in (False, True)),
        build=turning,
        measure=falls(steps, lambda case, k: case.number("q") ** k),
        grade="proved",
        controls=(
            Control("a faster direction than q", params=turn(other=[1, 2])),
            Control(
                "twice as fast",
                kind="formula",
                measure=falls(steps, lambda case, k: case.number("q") ** (2 * k)),
            ),
            Control(
                "1 % slower",
                kind="formula",
                measure=falls(steps, lambda case, k: (case.number("q") * fmpq(101, 100)) ** k),
            ),
        ),
        budget=Budget(quick=60, full=400),
        notes="$e$ is the error of the hypergradient, after t steps with the exact adjoint there, or after k "
        "adjoint steps from 0. It is $(I - qR^\\top)^{-1}(qR)^t(w_0 - w(\\lambda))$, or $(qR^\\top)^k(I - "
        "qR^\\top)^{-1}g$: $qR$ and $(I - qR^\\top)^{-1}$ scale every vector alike. The logarithm of the error "
        "is a straight line of slope $\\log q$, so that a method that were faster or slower would show in "
        "every step. R turns the plane by an angle with a rational tangent of its half, or not at all; the "
        "error is exact, and nothing is fitted.",
    ),
)
