"""Certificates: the true w(λ), v and ∇f(λ) enclosed in balls, and a computed result judged against them.

The problem's own formulas run over ``flint.arb`` balls (one set of formulas): what is proved is proved given that
grad, hess and cross are the derivatives of their functions, which ``check_derivatives`` judges and one necessary
condition tests here. w(λ) is *the* solution in the box, a local minimiser of a minimisation; that it is the global
one is the family's strong convexity. Krawczyk's operator
K(W) = x − Y r(x) + (I − Y ∂_w r(W)) (W − x) maps a box W into its interior only if W holds exactly one
solution of r(λ, ·) = 0, which then lies in K(W).  R. Krawczyk, Computing 4 (1969) 187–201.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from refimpl.arrays import Backend, backend, factor, to_numpy
from refimpl.arrays.backend import Array
from refimpl.arrays.balls import around, midpoints, radius, upper_norm
from refimpl.errors import HypothesisViolated, NotCertified, RefimplError, TooLarge
from refimpl.exact.lower import rounding_floor
from refimpl.problem import Problem

P = TypeVar("P", bound=Problem)

LIMIT = 64  # largest d that is enclosed; the cost grows as d³ big-number operations
MASKS = 256  # most masks that are enumerated over balls: 1.5 s at d = 8, 3 s at d = 16
BITS = 256  # working precision: 60 digits are left after a condition number of 1e15
DIGITS = {"float64": 53, "float32": 24}  # bits of a computed result's own numbers


@dataclass(frozen=True, eq=False)
class Enclosure:
    """Balls that hold the lower solution (d,), the adjoint (d,) and the hypergradient (n,)."""

    w: Array
    v: Array
    value: Array


@dataclass(frozen=True)
class Certificate:
    """Proved 2-norm bounds of a result's errors: ``bound`` of value, w_error and v_error of its stages."""

    bound: float
    w_error: float
    v_error: float


def enclose(problem: Problem, lam: Any, w: Any) -> Enclosure:
    """Balls around w(λ), v and ∇f(λ), found from an approximate lower solution w (d,).

    Raises ``TooLarge`` above d = 64, ``NotCertified`` where no enclosure is found, ``BadInput`` where a
    formula needs comparisons. Cost: O(d³) operations on 256-bit balls, about 0.1 s at d = 40.
    """
    lam, w = problem.lam(lam), problem.w(w)
    _require_size(problem, lam, w)
    with balls_of(problem, BITS) as balls:
        B = balls.backend
        lam, w = B.asarray(lam), B.asarray(w)
        Y = B.asarray(_float_inverse(problem.to("numpy"), to_numpy(lam), to_numpy(w)))
        _require_enclosing(balls, lam, w)
        _require_derivatives(balls, lam, w)
        box, jacobian = _krawczyk(balls, lam, _refined(balls, lam, w, Y), Y)
        if problem.symmetric:
            require_positive(B, jacobian)
        v = factor(B, B.mT(jacobian)).solve(balls.upper.grad_w(lam, box))
        return Enclosure(box, v, balls.hypergradient_at(lam, box, v))


def certify(problem: Problem, lam: Any, *, w: Any, v: Any, value: Any) -> Certificate:
    """Bounds of the errors of a computed (w, v, value), or ``NotCertified`` naming the stage at fault.

    The bound alone would also hold for a wrong result, being large. A result is certified only if each
    stage's exact residual, given the computed result of the stage before, is what rounding explains: where a
    system was solved, the backward error of a stable solver; and 10 times the radius to which the stage's own
    formula rounds over balls of the result's precision (10: NumPy's exp and log are good to a few ulp).
    """
    B = problem.backend
    lam, w, v = problem.lam(lam), problem.w(w), B.vector(v, problem.d, "v")
    value = B.vector(value, problem.n, "value")
    _require_size(problem, lam, w)
    with balls_of(problem, DIGITS[B.dtype]) as balls:
        rounding = [radius(stage) for stage in _stages(balls, lam, w, v, value)]
    with balls_of(problem, BITS) as balls:
        residuals = [upper_norm(stage) for stage in _stages(balls, lam, w, v, value)]
    solving = (*_solver_errors(problem, *(to_numpy(x) for x in (lam, w, v))), 0.0)
    for name, residual, rounds, solves in zip(("w", "v", "value"), residuals, rounding, solving, strict=True):
        _require(name, residual, solves + 10 * rounds)
    true = enclose(problem, lam, w)
    with balls_of(problem, BITS) as balls:
        pairs = ((value, true.value), (w, true.w), (v, true.v))
        errors = [upper_norm(balls.backend.asarray(x) - y) for x, y in pairs]
    if not np.isfinite(errors).all():
        raise NotCertified(
            "the enclosure is unbounded",
            measured=f"errors of value, w and v <= {errors}",
            required="finite bounds",
            advice="a formula of the upper level leaves its domain near this solution",
        )
    return Certificate(*errors)


def _require_size(problem: Problem, lam: Array, w: Array) -> None:
    if problem.d > LIMIT or problem.enumerated > MASKS or lam.ndim != 1 or w.ndim != 1:
        raise TooLarge(
            "too large to enclose",
            measured=f"d = {problem.d}, {problem.enumerated} masks, λ of shape {tuple(lam.shape)}, "
            f"w of shape {tuple(w.shape)}",
            required=f"d <= {LIMIT}, at most {MASKS} masks and a single λ",
            advice="the first-order estimate (kind 'estimated') has no such limit; or certify a sub-problem",
        )


def _last_frame(error: BaseException) -> str:
    """Where it was raised: function and line."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.name}, line {frame.lineno}"


@contextmanager
def balls_of(problem: P, bits: int) -> Iterator[P]:
    """The problem over balls at that working precision; what its formulas raise there is ``NotCertified``."""
    backend("interval")  # says what to install where python-flint is absent
    import flint

    with flint.ctx.workprec(bits):
        try:
            # moved afresh: what an objective caches is rounded to the precision at hand
            yield problem.to("interval")
        except RefimplError:
            raise
        except (TypeError, ValueError, AttributeError, ArithmeticError) as e:
            raise NotCertified(
                "a formula does not run over balls",
                measured=f"{type(e).__name__}: {e} (in {_last_frame(e)})",
                required="formulas in the backend's vocabulary",
                advice="write them with the methods of self.backend, and never index a sum of a whole vector: it is a "
                "bare ball, so B.sum(x[..., None, :]) for B.sum(x)[..., None]; the first-order estimate stands",
            ) from e


def _stages(balls: Problem, *computed: Array) -> tuple[Array, Array, Array]:
    """r, ∇_wF − (∂_w r)ᵀv and value − formula: what w, v and value leave over, given the stage before."""
    lam, w, v, value = (balls.backend.asarray(x) for x in computed)
    left = balls.upper.grad_w(lam, w) - balls.residual_w(lam, w).T @ v
    return balls.residual(lam, w), left, value - balls.hypergradient_at(lam, w, v)


def _solver_errors(problem: Problem, lam: Array, w: Array, v: Array) -> tuple[float, float]:
    """What Newton and a backward stable solve may leave: its floor, and 10 d eps (‖∂_w r‖‖v‖ + ‖∇_wF‖)."""
    host = problem.to("numpy", dtype=problem.backend.dtype)
    jacobian, rhs = host.residual_w(lam, w).dense(), host.upper.grad_w(lam, w)
    size = np.linalg.norm(jacobian) * np.linalg.norm(v) + np.linalg.norm(rhs)
    return float(rounding_floor(host, lam, w, jacobian)), float(10 * problem.d * host.backend.eps * size)


def _require(stage: str, residual: float, allowed: float) -> None:
    if not residual <= allowed < np.inf:
        raise NotCertified(
            f"{stage} is further from solving its equation than rounding explains",
            measured=f"residual {residual:.3e}",
            required=f"<= {allowed:.3e}",
            advice=f"the mistake is in the stage that computes {stage}, given the stages before it",
        )


def _require_enclosing(balls: Problem, lam: Array, w: Array) -> None:
    """Over a wide ball around w every formula must hold its value at a corner; a cast to floats breaks that."""
    size = [abs(e) + 1 for e in w]
    corner = w + balls.backend.asarray(size) / 1024
    u = balls.backend.asarray(np.ones(balls.d))
    wide, inside = (
        (
            *balls.residual(lam, x),
            *(balls.residual_w(lam, x).T @ u),
            *balls.upper.grad_w(lam, x),
            *balls.hypergradient_at(lam, x, u),
        )
        for x in (around(w, [s / 1024 for s in size]), corner)
    )
    if not all(a.contains(b) for a, b in zip(wide, inside, strict=True)):
        raise NotCertified(
            "a formula does not enclose its values over balls",
            measured="its result over a ball lacks its result at a point of that ball",
            required="arithmetic on the backend's numbers throughout",
            advice="look for a conversion to floats: np.asarray(w, dtype=float), float(w[0])",
        )


def _require_derivatives(balls: Problem, lam: Array, w: Array) -> None:
    """The mean value theorem along one step in w and one in λ: g(b) − g(a) lies in g′(ball around both)(b − a).

    Necessary only, so no proof that the derivatives are those of r, F and G; a sign, a factor or a lost term shows.
    """
    B = balls.backend
    along_w = B.asarray([(abs(float(e.mid())) + 1) / 1024 for e in w])
    along_lam = B.asarray([abs(float(e.mid())) / 1024 or 2.0**-10 for e in lam])
    w2, wide_w = w + along_w, around(w, [2 * e for e in along_w])
    upper, lower = balls.upper, getattr(balls, "lower", None)
    r, F = balls.residual(lam, w), upper.value(lam, w)
    steps = {
        "∂_w r": (balls.residual(lam, w2) - r, balls.residual_w(lam, wide_w) @ along_w),
        "∇_wF": (upper.value(lam, w2) - F, B.dot(upper.grad_w(lam, wide_w), along_w)),
    }
    if balls.n:
        lam2, wide = lam + along_lam, around(lam, [2 * e for e in along_lam])
        steps["∂_λ r"] = (balls.residual(lam2, w) - r, balls.residual_lam(wide, w) @ along_lam)
        steps["∇_λF"] = (upper.value(lam2, w) - F, B.dot(upper.grad_lam(wide, w), along_lam))
    if lower is not None:
        steps["∇_wG"] = (
            lower.value(lam, w2) - lower.value(lam, w),
            B.dot(lower.grad_w(lam, wide_w), along_w),
        )
    for name, (change, allowed) in steps.items():
        pairs = zip(np.ravel(change), np.ravel(allowed), strict=True)
        if not all(b.overlaps(a) for a, b in pairs):
            raise NotCertified(
                f"{name} is not the derivative of its function",
                measured="a difference that the mean value theorem forbids",
                required=f"differences inside {name} over a ball, times the step",
                advice="check_derivatives says which method is wrong, and by how much",
            )


def _float_inverse(host: Problem, lam: Array, w: Array) -> np.ndarray:
    try:
        return np.linalg.inv(host.residual_w(lam, w).dense())
    except np.linalg.LinAlgError:
        raise HypothesisViolated(
            "∂_w r is singular",
            measured="a zero pivot",
            required="invertible",
            advice="the adjoint is not unique here",
        ) from None


def _refined(balls: Problem, lam: Array, x: Array, Y: Array) -> Array:
    """Newton with the fixed inverse Y on midpoints, to working precision: a factor κ eps per step."""
    B = balls.backend
    size = None
    for _ in range(60):
        step = midpoints(B.matvec(Y, balls.residual(lam, x)))
        new = max(float(e.abs_upper()) for e in step)
        if size is not None and new >= size:
            break
        x, size = midpoints(x - step), new
    return x


def _krawczyk(balls: Problem, lam: Array, x: Array, Y: Array) -> tuple[Array, Array]:
    """A box that holds w(λ), and ∂_w r over a box around it."""
    import flint

    B = balls.backend
    step = B.matvec(Y, balls.residual(lam, x))
    rounding = flint.arb(2) ** (40 - BITS)
    widths = [2 * s.abs_upper() + (c.abs_upper() + 1) * rounding for s, c in zip(step, x, strict=True)]
    for inflation in (0, 16, 48, 96):
        box = around(x, [r * flint.arb(2) ** inflation for r in widths])
        jacobian = balls.residual_w(lam, box).dense()
        defect = B.eye(len(x)) - Y @ jacobian
        image = x - step + B.matvec(defect, box - x)
        size = upper_norm(defect)
        if size < 1 and all(b.contains_interior(i) for b, i in zip(box, image, strict=True)):
            return image, jacobian
    raise NotCertified(
        "no box around the lower solution is mapped into itself",
        measured=f"‖I − Y ∂_w r‖_F <= {size:.3e} on the last box tried",
        required="< 1, and Krawczyk's image inside the box",
        advice="the system is too ill-conditioned, or too curved, for a proof at this point",
    )


def require_positive(B: Backend, a: Array) -> None:
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
    size = upper_norm(defect)
    if not size < 1:
        raise NotCertified(
            "positive definiteness could not be proved",
            measured=f"‖I − L⁻¹AL⁻ᵀ‖_F <= {size:.3e}",
            required="< 1",
            advice="the Hessian is too ill-conditioned for this proof",
        )
