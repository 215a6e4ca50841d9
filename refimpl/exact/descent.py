"""The minimiser of a convex function on an affine set, to rounding: Newton's method with Armijo's rule on the value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from refimpl.arrays import factor_spd, to_numpy
from refimpl.arrays.backend import Array
from refimpl.combined import Restricted
from refimpl.errors import BadInput, HypothesisViolated, NotConverged
from refimpl.exact.attained import norm
from refimpl.exact.lower import floor_at
from refimpl.objective import Objective
from refimpl.problem import BilevelProblem
from refimpl.solvers.lower import overflow_allowed
from refimpl.solvers.newton import ARMIJO

STEPS = 100  # of Newton's method


def minimised(f: Objective, lam: Array, w: Array, columns: Array) -> Array:
    """argmin of f(λ, ·) on w + span(columns), to the rounding of ∇_wf, which the columns do not make smaller.

    f(λ, ·) convex, w (d,), columns C (d, k). Raises ``NotConverged``, and ``HypothesisViolated`` where CᵀHC, H =
    ∇²_wwf, has an eigenvalue below 0 that rounding does not explain; over the rationals also where it is 0. Cost of a
    step: H, a factorisation of CᵀHC, one of its eigendecomposition where floats see no curvature, three gradients.
    """
    B, whole = f.backend, BilevelProblem(f, f)
    origin = B.zeros((columns.shape[-1],))
    if not columns.shape[-1]:
        return w
    for step in range(STEPS):
        inside, H = Restricted(f, w, columns, B), f.hess_ww(lam, w).dense()
        r = inside.grad_w(lam, origin)
        correction = -_solver(f, lam, w, H, columns)(r)
        floor = floor_at(whole, lam, w, H, r)
        if bool(B.dot(r, r) <= floor * floor):
            left = inside.grad_w(lam, correction)  # one more correction, where it helps
            return inside.point(correction) if bool(B.dot(left, left) < B.dot(r, r)) else w
        if not B.exact:
            w = inside.point(_length(inside, lam, r, correction, float(floor) / 10) * correction)
        elif step < 2:  # nothing to search: an affine gradient is solved by the full step
            w = inside.point(correction)
        else:
            raise BadInput(
                "the problem has no closed form over the rationals",
                measured="the gradient is not 0 after two Newton steps",
                required="∇_wG and ∇_wF affine in w (quadratic levels)",
                advice="use float64",
            )
    raise _not_converged(
        "Newton's method does not solve the simple bilevel problem",
        f"gradient {norm(r):.3e} after {STEPS} steps",
        f"<= {float(floor):.3e}, its rounding floor",
    )


def _solver(f: Objective, lam: Array, w: Array, H: Array, columns: Array) -> Callable[[Array], Array]:
    """b ↦ (CᵀHC)⁻¹b for a positive semidefinite H = ∇²_wwf(λ, w), dense.

    An eigenvalue that floats do not tell from 0 counts as rounding's floor: the direction descends still. A level that
    saturates far out has such eigenvalues of either sign there; it is not the less convex.
    """
    B = f.backend
    inside = B.mT(columns) @ H @ columns
    try:
        return factor_spd(B, inside).solve
    except HypothesisViolated:
        if B.exact:
            raise
    floor = hessian_floor(f, lam, w, H)
    values, vectors = B.xp.linalg.eigh(inside)
    least = float(values[0])
    if least < -floor:
        raise HypothesisViolated(
            "the function is not convex",
            measured=f"smallest eigenvalue of its Hessian {least:.6g}",
            required=f">= 0, up to rounding {floor:.3g}",
            advice="Newton's method minimises convex functions here",
        )
    if floor == 0:
        raise _not_converged(
            "the Hessian is 0", "∇²_wwf = 0 in floats", "some curvature where the slope is not 0"
        )
    kept = B.where(values > floor, values, 0 * values + floor)
    return lambda b: B.matvec(vectors, B.rmatvec(vectors, b) / kept)


def hessian_floor(f: Objective, lam: Array, w: Array, H: Array) -> float:
    """What rounding makes of an eigenvalue 0 of H = ∇²_wwf(λ, w): 10 d eps ‖H‖, of H here or, if finite, at w = 0.

    Terms that cancel here may stand alone there, as p − p² of a probability near 1 does.
    """
    with overflow_allowed():
        there = to_numpy(f.hess_ww(lam, 0 * w).dense())
    sizes = [float(np.linalg.norm(a, 2)) for a in (to_numpy(H), there) if np.isfinite(a).all()]
    return 10 * H.shape[-1] * f.backend.eps * max(sizes)


def _length(inside: Restricted, lam: Array, r: Array, p: Array, hidden: float) -> float:
    """t = 1, ½, ¼, …, the first with φ'(t/2) + φ'(t) <= 2cφ'(0) for φ(t) = f(λ, w + t C p), r = φ's gradient at 0.

    As f is convex, φ' does not fall, and

        φ(t) − φ(0) = ∫₀ᵗ φ' <= (t/2) (φ'(t/2) + φ'(t)) <= c t φ'(0),

    Armijo's condition on the value, from slopes: near the minimum, where values agree to their last bit, slopes still
    tell. A full step on a quadratic has φ'(½) = φ'(0)/2 and φ'(1) = 0. ‖∇f‖ is no merit: where f saturates it may fall
    while f rises, and a step into a region without curvature is taken. ``hidden``: what rounding
    leaves unknown of ∇f, and is allowed for: within some thousand of it a step may pass that does not descend.
    """
    B = inside.backend
    start, size = float(B.dot(r, p)), norm(p)
    allowed = 2 * (start / ARMIJO + hidden * size)
    with overflow_allowed():

        def slope(t: float) -> float:
            return float(B.dot(inside.grad_w(lam, t * p), p))

        t, at_end = 1.0, slope(1.0)
        while t * size > B.eps * norm(inside.origin):  # else w stands still
            halfway = slope(t / 2)
            if halfway + at_end <= allowed:
                return t
            t, at_end = t / 2, halfway
    raise _not_converged(
        "no step along the Newton direction makes the function smaller",
        f"slope {start:.3e} along it; at {t:.3e} of the step {at_end:.3e}",
        "a decrease of the value, as of a convex function with these derivatives",
    )


def _not_converged(what: str, measured: str, required: str) -> NotConverged:
    return NotConverged(
        what,
        measured=measured,
        required=required,
        advice="start nearer; slow convergence means that the curvature vanishes where the minimum is, or that "
        "there is none, as of exp(w)",
    )
