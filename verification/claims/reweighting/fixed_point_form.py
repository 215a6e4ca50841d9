"""The hypergradient of a minimisation and of its descent map: one value, two adjoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

import refimpl as ri
from refimpl.arrays.backend import Array
from refimpl.problem import FixedPointProblem
from refimpl.zoo import maps
from verification.claims.reweighting._rational import RATIONAL, Exact, at, problem, sizes
from verification.claims.reweighting._shared import worst
from verification.instances import Case, case, cases, point, size
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, identity

SOURCE = "reweighting, (11); contraction, (3) and (4)"
STATEMENT = (
    r"$$\Phi = w - \eta\nabla_wG:$$ $$\nabla_\lambda F + \partial_\lambda\Phi^\top v_\Phi = \nabla_\lambda F "
    r"- \nabla^2_{\lambda w}G\, v$$ $$v_\Phi = v/\eta$$"
)


@dataclass(frozen=True)
class Both:
    """A minimisation and the fixed point of w − D∇_wG, D diagonal; a descent map where D = ηI."""

    case: Exact
    steps: tuple[Any, ...]

    @property
    def eta(self) -> Any:
        return self.steps[0]

    @cached_property
    def as_map(self) -> FixedPointProblem:
        inner = self.case.problem
        if len(set(self.steps)) == 1:
            return inner.as_fixed_point(self.eta)
        origin = inner.w(None)
        (H, C, *_), D = self.case.parts, np.array(self.steps, dtype=object)
        constant = -D * inner.lower.grad_w(0 * self.case.lam, origin)
        A, B = RATIONAL.eye(len(D)) - D[:, None] * H, -D[:, None] * C.T
        phi = maps.AffineMap(A[None], B[None], constant[None], RATIONAL)
        return FixedPointProblem(inner.upper, phi)

    @cached_property
    def of_map(self) -> Any:
        return ri.exact_hypergradient(self.as_map, self.case.lam)


def both(params: Mapping[str, Any]) -> Both:
    """η = p/q from ``eta``; ``uneven`` multiplies the first step by 2."""
    eta = fmpq(*params["eta"])
    steps = [eta] * params["d"]
    steps[0] = steps[0] * params.get("uneven", 1)
    return Both(problem(params), tuple(steps))


def agree(
    adjoint: Callable[[Both], Array] = lambda b: b.eta * b.of_map.v,
    value: Callable[[Both], Array] = lambda b: b.of_map.value,
) -> Callable[[Both], Measurement]:
    """Both values and both adjoints, the second brought to the scale of the first."""

    def measure(b: Both) -> Measurement:
        exact = b.case.hypergradient
        return identity(np.concatenate([value(b), adjoint(b)]), np.concatenate([exact.value, exact.v]))

    return measure


def mixed(b: Both) -> Array:
    """The map's formula with the minimisation's adjoint."""
    lam, exact = b.case.lam, b.case.hypergradient
    return b.as_map.hypergradient_at(lam, exact.w, exact.v)


def _one_step(b: Both) -> tuple[bool, Any]:
    return len(set(b.steps)) == 1, [str(s) for s in b.steps]


def stated(case: Case) -> float:
    """The η of the statement: the map's own step, times ``misstated``."""
    return float(case.step or 0) * float(case.params.get("misstated", 1))


def _descent(case: Case) -> tuple[bool, Any]:
    """Φ(w_0) − (w_0 − η∇_wG(w_0)), both as they are computed."""
    gradient = case.problem.residual(case.lam, case.w0)
    gap = size(case.as_map.phi.value(case.lam, case.w0) - (case.w0 - stated(case) * gradient))
    return gap == 0, gap


def in_floats(scale: Callable[[float], float] = lambda eta: eta) -> Callable[[Case], Measurement]:
    """The same on any minimisation, in float64."""

    def measure(case: Case) -> Measurement:
        eta = stated(case)
        other = ri.exact_hypergradient(case.as_map, case.lam, start=case.exact.w, certify="never")
        gaps = [
            size(other.value - case.exact.value),
            # v enters the hypergradient through ‖∇²_λwG‖ = L_Φ/η: in its units
            case.constants.L_Phi / eta * size(scale(eta) * other.v - case.exact.v),
        ]
        return worst(gaps, 0.0, case.rounding, scale=size(case.exact.value))

    return measure


CLAIMS = (
    Claim(
        id="reweighting/fixed-point-form",
        title="A minimisation and its descent map have one hypergradient and two adjoints",
        source=SOURCE,
        statement=STATEMENT,
        hypotheses=(
            Hypothesis("one step size", r"\Phi = w - \eta\nabla_wG,\ \eta \ne 0 \text{ a number}", _one_step),
        ),
        strategy=sizes(eta=st.tuples(st.integers(1, 9), st.integers(1, 9)).map(list)),
        explicit=(at(1, 1, eta=[1, 2]), at(2, 2, eta=[1, 3]), at(1, 3, eta=[7, 2])),
        build=both,
        measure=agree(),
        grade="proved",
        controls=(
            Control("two step sizes", params=at(1, 2, eta=[1, 2], uneven=2)),
            Control("v_Φ = ηv", kind="formula", measure=agree(lambda b: b.of_map.v / b.eta)),
            Control("v_Φ = v", kind="formula", measure=agree(lambda b: b.of_map.v)),
            Control("v in the map's formula", kind="formula", measure=agree(value=mixed)),
        ),
        budget=Budget(quick=100, full=1000),
        notes="$I - \\partial_w\\Phi = \\eta H$ and $\\partial_\\lambda\\Phi = -\\eta(\\nabla^2_{\\lambda "
        "w}G)^\\top$: η cancels in the value and not in the adjoint. $\\eta$ need not make $\\Phi$ a "
        "contraction. With a preconditioner in place of $\\eta$ the value still agrees, the adjoint is "
        "$D^{-1}v$.",
    ),
    Claim(
        id="reweighting/fixed-point-form@nonlinear",
        title="One hypergradient and two adjoints where the lower level is not quadratic",
        source=SOURCE,
        statement=STATEMENT,
        hypotheses=(Hypothesis("one step size", r"\Phi = w - \eta\nabla_wG", _descent),),
        strategy=cases(("logistic", "quadratic")),
        explicit=(point("logistic"), point("logistic", n=2, d=2), point("quadratic", d=2, upper="log-cosh")),
        build=case,
        measure=in_floats(),
        grade="exact",
        controls=(
            Control("another step than stated", params=point("logistic", n=2, d=2, misstated=2)),
            Control("v_Φ = ηv", kind="formula", measure=in_floats(lambda eta: 1 / eta)),
            Control("v_Φ = v", kind="formula", measure=in_floats(lambda eta: 1.0)),
        ),
        budget=Budget(quick=60, full=400),
        notes="Rounding: both are solved to their own floor.",
    ),
)
