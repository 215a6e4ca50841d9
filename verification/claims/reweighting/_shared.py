"""What the claims of this document share: hypotheses with measured numbers, and measurements of whole curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

import refimpl as ri
from refimpl.constants import Bounds, Constants
from refimpl.problem import BilevelProblem
from verification.instances import EPS, Case, size
from verification.model import Control, Hypothesis, Measurement

Alter = Callable[[Constants], Constants]

# -- hypotheses --------------------------------------------------------------------------------------------


def _within(measured: float, stated: float, d: int) -> tuple[bool, str]:
    """measured <= stated up to rounding: 10·d·eps of its size and, as I − ηH cancels, of 1."""
    return measured <= stated + 10 * d * EPS * (1 + stated), f"{measured:.6g} against {stated:.6g}"


def _contracts(case: Case) -> tuple[bool, Any]:
    ends = (case.exact.w, case.w0, (case.exact.w + case.w0) / 2)
    norm = max(float(np.linalg.norm(case.jacobians(w)[0], 2)) for w in ends)
    ok, says = _within(norm, case.constants.q, case.problem.d)
    return ok and case.constants.q < 1, says


def _starts(case: Case) -> tuple[bool, Any]:
    return _within(float(np.linalg.norm(case.w0 - case.exact.w)), case.constants.B, case.problem.d)


def _lipschitz(case: Case) -> tuple[bool, Any]:
    gradients = (case.problem.upper.grad_w(case.lam, w) for w in (case.exact.w, case.w0))
    return _within(max(size(g) for g in gradients), case.constants.L_E, case.problem.d)


def _path(case: Case) -> tuple[bool, Any]:
    norm = float(np.linalg.norm(case.jacobians(case.exact.w)[1], 2))
    return _within(norm, case.constants.L_Phi, case.problem.d)


def _smooth(case: Case) -> tuple[bool, Any]:
    """Difference quotients between w_0 and w(λ) against ν₁, ν₂, μ₁, μ₂, up to what rounding adds to each."""
    c, upper, lam = case.constants, case.problem.upper, case.lam
    gap = float(np.linalg.norm(case.w0 - case.exact.w))
    here, there = case.jacobians(case.exact.w), case.jacobians(case.w0)
    moved = [float(np.linalg.norm(a - b, 2)) for a, b in zip(here, there, strict=True)]
    sizes = [float(np.linalg.norm(a, 2) + np.linalg.norm(b, 2)) for a, b in zip(here, there, strict=True)]
    for gradient in (upper.grad_w, upper.grad_lam):
        ends = [gradient(lam, w) for w in (case.exact.w, case.w0)]
        moved.append(size(ends[0] - ends[1]))
        sizes.append(size(ends[0]) + size(ends[1]) + size(gradient(lam, 0 * case.w0)))
    stated = (c.nu1, c.nu2, c.mu1, c.mu2)
    slack = 10 * case.problem.d * EPS
    ok = all(m <= s * gap * (1 + slack) + slack * z for m, s, z in zip(moved, stated, sizes, strict=True))
    return ok, ", ".join(f"{m:.4g} against {s * gap:.4g}" for m, s in zip(moved, stated, strict=True))


CONTRACTION = (
    Hypothesis("contraction", r"\|\partial_w\Phi\| \le q < 1 \text{ on the ball}", _contracts),
    Hypothesis("start", r"\|w_0 - w(\lambda)\| \le B", _starts),
    Hypothesis("Lipschitz upper level", r"\|\nabla_w F\| \le L_E \text{ on the ball}", _lipschitz),
    Hypothesis("solution path", r"\|\partial_\lambda\Phi(w(\lambda),\lambda)\| \le L_\Phi", _path),
    Hypothesis(
        "smoothness",
        r"\partial_w\Phi,\ \partial_\lambda\Phi,\ \nabla_wF,\ \nabla_\lambda F\ \text{Lipschitz in } w "
        r"\text{ with } \nu_1, \nu_2, \mu_1, \mu_2",
        _smooth,
    ),
)


# -- measurements ------------------------------------------------------------------------------------------


def worst(observed: Any, bound: Any, rounding: float, **detail: Any) -> Measurement:
    """The entry of a whole curve that uses the largest share of its bound; ``detail`` says which, counted from 0."""
    observed, bound = np.broadcast_arrays(np.asarray(observed, float), np.asarray(bound, float))
    beyond = observed - rounding
    # what rounding explains counts by its distance; a bound that has underflowed divides nothing
    share = np.where(beyond > 0, beyond / np.maximum(bound, np.finfo(float).tiny), beyond)
    i = int(np.argmax(share))
    return Measurement(
        observed=float(observed[i]), bound=float(bound[i]), rounding=rounding, detail={"index": i, **detail}
    )


def apart(case: Case, problem: Any, fewer: int = 0, **options: Any) -> float:
    """How far ``truncated`` with half of the steps, less ``fewer``, is from that half of reverse mode's sum."""
    half = (case.t + 1) // 2
    kept = ri.approximate.truncated(problem, case.lam, last=half - fewer, w0=case.w0, **options).value
    found = ri.approximate.reverse(problem, case.lam, w0=case.w0, exact=kept, **options)
    return float(np.asarray(found.curve)[half])


def fitted_exponent(x: Any, y: Any) -> float:
    """Least-squares slope of y against x."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    return float(np.dot(x - x.mean(), y - y.mean()) / np.dot(x - x.mean(), x - x.mean()))


def unaltered(c: Constants) -> Constants:
    return c


def without(**changed: float) -> Alter:
    """The constants with some of them changed."""
    return lambda c: dataclasses.replace(c, **changed)


def dropped(name: str, measure: Callable[[Alter], Callable[[Any], Measurement]]) -> Control:
    """The formula control that sets one constant of the bound to 0."""
    return Control(f"{name} dropped", kind="formula", measure=measure(without(**{name: 0.0})))


def spectrum(case: Case) -> tuple[float, float]:
    """μ and L of a minimisation's lower Hessian on the region."""
    bounds = lower_bounds(case)
    return bounds.hess_ww_min, bounds.hess_ww


def lower_bounds(case: Case) -> Bounds:
    """Proved bounds of a minimisation's lower level on the region."""
    assert isinstance(case.problem, BilevelProblem)
    bounds: Bounds = case.problem.lower.bounds(case.region)
    return bounds


def cross_norm(case: Case) -> float:
    """‖∇²_λwG(w(λ))‖ of a minimisation, through L_Φ = step × that norm."""
    assert case.step is not None
    return case.constants.L_Phi / case.step
