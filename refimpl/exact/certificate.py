"""Certificates: the true w(λ), v and ∇f(λ) enclosed in balls, and a computed result judged against them.

The problem's own formulas run over ``flint.arb`` balls (one set of formulas). Krawczyk's operator
K(W) = x − Y r(x) + (I − Y ∂_w r(W)) (W − x) maps a box W into its interior only if W holds exactly one
solution of r(λ, ·) = 0, which then lies in K(W).  R. Krawczyk, Computing 4 (1969) 187–201.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import HypothesisViolated, NotCertified, TooLarge
from refimpl.exact.lower import rounding_floor
from refimpl.problem import Problem

LIMIT = 64  # largest d that is enclosed; the cost grows as d³ big-number operations
BITS = 256  # working precision: 60 digits are left after a condition number of 1e15


@dataclass(frozen=True)
class Enclosure:
    """Balls that hold the lower solution (d,), the adjoint (d,) and the hypergradient (n,)."""

    w: Array
    v: Array
    value: Array
    inverse: Array  # floating-point Y near (∂_w r)⁻¹
    defect: float  # >= ‖I − Y ∂_w r‖_F on the box, < 1: ‖(∂_w r)⁻¹‖ <= ‖Y‖_F / (1 − defect)


@dataclass(frozen=True)
class Certificate:
    """Proved 2-norm bounds of the errors of a result: ``bound`` of the value, w_error and v_error of its stages."""

    bound: float
    w_error: float
    v_error: float


def enclose(problem: Problem, lam: Any, w: Any) -> Enclosure:
    """Balls around w(λ), v and ∇f(λ), found from an approximate lower solution w (d,).

    Raises ``TooLarge`` above d = 64, ``NotCertified`` where no enclosure is found, ``BadInput`` where a
    formula needs comparisons. Cost: O(d³) operations on 256-bit balls, about 0.1 s at d = 40.
    """
    flint = _flint()
    lam, w = to_numpy(lam), to_numpy(w)
    if problem.d > LIMIT or lam.ndim != 1:
        raise TooLarge(
            "too large to enclose",
            measured=f"d = {problem.d}, λ of shape {lam.shape}",
            required=f"d <= {LIMIT} and a single λ",
            advice="the first-order estimate (kind 'estimated') has no such limit; or certify a sub-problem",
        )
    with flint.ctx.workprec(BITS):
        balls = problem.to("interval")
        B = balls.backend
        lam = B.asarray(lam)
        jacobian = to_numpy(balls.residual_w(lam, B.asarray(w)).dense())
        inverse = _float_inverse(jacobian)
        Y = B.asarray(inverse)
        x = _refined(balls, lam, B.asarray(w), Y)
        box, defect = _krawczyk(balls, lam, x, Y)
        at_box = balls.residual_w(lam, box)
        if problem.symmetric:
            _require_positive(B, at_box.dense())
        v = _solve(B, B.mT(at_box.dense()), balls.upper.grad_w(lam, box))
        value = balls.hypergradient_at(lam, box, v)
    return Enclosure(box, v, value, inverse, defect)


def certify(problem: Problem, lam: Any, *, w: Any, v: Any, value: Any) -> Certificate:
    """Bounds of the errors of a computed (w, v, value), or ``NotCertified`` naming the stage at fault.

    The bound alone would also hold for a wrong result, being large. A result is certified only if every
    stage, given the one before it, is as near as rounding explains, with d-fold sums and a backward stable
    solve: 10 d eps times the size of the terms, times ‖(∂_w r)⁻¹‖ where a system was solved.
    """
    flint = _flint()
    true = enclose(problem, lam, w)
    eps = problem.backend.eps
    lam, w, v, value = (to_numpy(x) for x in (lam, w, v, value))
    with flint.ctx.workprec(BITS):
        balls = problem.to("interval")
        B = balls.backend
        L, W, V = B.asarray(lam), B.asarray(w), B.asarray(v)
        # the stages' own exact answers, each at the computed result of the stage before
        system = B.mT(balls.residual_w(L, W).dense())
        rhs = balls.upper.grad_w(L, W)
        direct = balls.upper.grad_lam(L, W)
        indirect = balls.residual_lam(L, W).T
        w_error = upper_norm(B, W - true.w)
        v_stage = upper_norm(B, V - _solve(B, system, rhs))
        value_stage = upper_norm(B, B.asarray(value) - (direct - indirect @ V))
        inverse_norm = float(np.linalg.norm(true.inverse)) / (1 - true.defect)
        system_norm, rhs_norm = float(np.linalg.norm(to_numpy(system))), float(np.linalg.norm(to_numpy(rhs)))
        cross_norm = float(np.linalg.norm(to_numpy(indirect.dense())))
        unit = 10 * problem.d * eps
        floor = float(rounding_floor(_host(problem), lam, w, to_numpy(system).T)) * eps / 2.0**-52
        _require("w", w_error, inverse_norm * floor)
        _require("v", v_stage, inverse_norm * unit * (system_norm * float(np.linalg.norm(v)) + rhs_norm))
        terms = float(np.linalg.norm(to_numpy(direct))) + cross_norm * float(np.linalg.norm(v))
        _require("value", value_stage, unit * terms)
        v_error = upper_norm(B, V - true.v)
        bound = upper_norm(B, B.asarray(value) - true.value)
    return Certificate(bound, w_error, v_error)


def _host(problem: Problem) -> Problem:
    return problem if problem.backend.name == "numpy" else problem.to("numpy")


def _flint() -> Any:
    import flint

    return flint


def _require(stage: str, error: float, allowed: float) -> None:
    if not error <= allowed:
        raise NotCertified(
            f"{stage} is further from its exact value than rounding explains",
            measured=f"error {error:.3e}",
            required=f"<= {allowed:.3e}",
            advice=f"the mistake is in the stage that computes {stage}, given the stages before it",
        )


def upper_norm(B: Backend, x: Array) -> float:
    """A float >= the 2-norm of every vector in the balls x."""
    flint = _flint()
    total = sum((e.abs_upper() ** 2 for e in x.ravel()), flint.arb(0))
    largest = total.sqrt().abs_upper()
    return float(np.nextafter(float(largest), np.inf)) if largest != 0 else 0.0


def _float_inverse(jacobian: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.inv(jacobian)
    except np.linalg.LinAlgError:
        raise HypothesisViolated(
            "∂_w r is singular",
            measured="a zero pivot",
            required="invertible",
            advice="the adjoint is not unique here",
        ) from None


def _mid(B: Backend, x: Array) -> Array:
    out = np.empty(x.shape, dtype=object)
    out.ravel()[:] = [e.mid() for e in x.ravel()]
    return out


def _refined(balls: Problem, lam: Array, x: Array, Y: Array) -> Array:
    """Newton with the fixed inverse Y on midpoints, to about the working precision; each step gains a factor κ eps."""
    B = balls.backend
    size = None
    for _ in range(60):
        step = _mid(B, B.matvec(Y, balls.residual(lam, x)))
        new = max((float(e.abs_upper()) for e in step), default=0.0)
        if size is not None and new >= size:
            break
        x, size = _mid(B, x - step), new
    return x


def _krawczyk(balls: Problem, lam: Array, x: Array, Y: Array) -> tuple[Array, float]:
    flint = _flint()
    B = balls.backend
    step = B.matvec(Y, balls.residual(lam, x))
    for inflation in (0, 16, 48, 96):
        radius = [
            (2 * s.abs_upper() + (c.abs_upper() + 1) * flint.arb(2) ** (40 - BITS))
            * flint.arb(2) ** inflation
            for s, c in zip(step, x, strict=True)
        ]
        spread = np.empty(len(radius), dtype=object)
        spread[:] = [flint.arb(0, r.abs_upper()) for r in radius]
        box = x + spread
        defect = B.eye(len(x)) - Y @ balls.residual_w(lam, box).dense()
        image = x - step + B.matvec(defect, spread)
        size = upper_norm(B, defect)
        if size < 1 and all(b.contains_interior(i) for b, i in zip(box, image, strict=True)):
            return image, size
    raise NotCertified(
        "no box around the lower solution is mapped into itself",
        measured=f"‖I − Y ∂_w r‖_F <= {size:.3e} on the last box tried",
        required="< 1, and Krawczyk's image inside the box",
        advice="the system is too ill-conditioned, or too curved, for a proof at this point",
    )


def _solve(B: Backend, a: Array, b: Array) -> Array:
    from refimpl.arrays import factor

    return factor(B, a).solve(b)


def _require_positive(B: Backend, a: Array) -> None:
    """A = L(I − E)Lᵀ with ‖E‖ < 1 is positive definite (Sylvester); L from the midpoints' Cholesky factor."""
    mid = to_numpy(a)
    try:
        lower_inverse = B.asarray(np.linalg.inv(np.linalg.cholesky(mid)))
    except np.linalg.LinAlgError:
        smallest = float(np.linalg.eigvalsh(mid)[0])
        raise HypothesisViolated(
            "the lower-level Hessian is not positive definite at the solution",
            measured=f"smallest eigenvalue {smallest:.3e}",
            required="> 0",
            advice="a stationary point that is no minimiser has no hypergradient in this sense",
        ) from None
    defect = B.eye(a.shape[0]) - lower_inverse @ a @ B.mT(lower_inverse)
    size = upper_norm(B, defect)
    if not size < 1:
        raise NotCertified(
            "positive definiteness could not be proved",
            measured=f"‖I − L⁻¹AL⁻ᵀ‖_F <= {size:.3e}",
            required="< 1",
            advice="the Hessian is too ill-conditioned for this proof",
        )
