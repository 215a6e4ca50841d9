"""The exact hypergradient: lower solution, adjoint, one formula, and how far the result can be trusted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, HypothesisViolated, NotCertified, RefimplError
from refimpl.exact.attained import require_attained
from refimpl.exact.lower import LowerSolution, floor_at, require_solved, solve_lower
from refimpl.problem import BilevelProblem, Problem

Kind = Literal["exact", "bounded", "estimated"]
PROBED = 64  # largest d for which G's slope is looked at on both sides of w, along d directions


@dataclass(frozen=True, eq=False)
class Hypergradient:
    """∇f(λ) with everything needed to judge it.

    value (..., n); w, v (..., d) the lower solution and the adjoint (∂_w r)ᵀ v = ∇_wF.
    kind: "exact" (rational arithmetic), "bounded" (``bound`` is proved), "estimated" (first order): the kind of
    ``bound``. It is proved given that the derivatives are right (``check_derivatives``), and for the solution w
    found: where G is not strongly convex another minimiser, with another hypergradient, may exist.
    bound: of ‖value − ∇f(λ)‖₂, of that kind; inf where no minimiser of G is told from rounding.
    rcond: reciprocal condition of ∂_w r, 1-norm, estimated.
    residual_lower = ‖r(λ, w)‖, residual_adjoint = ‖∇_wF − (∂_w r)ᵀ v‖, both as evaluated in ``dtype``.
    """

    value: Array
    w: Array
    v: Array
    kind: Kind
    bound: Any
    rcond: Any
    residual_lower: Any
    residual_adjoint: Any
    newton_steps: int
    why_not_bounded: str
    dtype: str
    versions: tuple[tuple[str, str], ...]


def exact_hypergradient(
    problem: Problem, lam: Any, *, start: Any = None, certify: Literal["auto", "always", "never"] = "auto"
) -> Hypergradient:
    """∇f(λ) = ∇_λF − (∂_λ r)ᵀ v with (∂_w r)ᵀ v = ∇_wF at w(λ), by direct solves.

    Parameters
    ----------
    problem : BilevelProblem or FixedPointProblem.
    lam : (n,), or (..., n) for many λ at once (then never certified).
    start : w to start Newton from, or a previous ``Hypergradient`` along a path of λ.
    certify : "auto" encloses the result in balls where the problem is small and its formulas allow it, and
        says in ``why_not_bounded`` why not otherwise; "always" raises ``NotCertified`` or ``TooLarge``
        instead; "never" saves the time.

    A fixed-point problem needs I − ∂_wΦ invertible at its solution, no more; whether Φ contracts, so that plain
    iterations find that solution, is what ``problem.check`` measures.
    Raises ``HypothesisViolated``, ``NotConverged``, ``BadInput``. Cost: per Newton step a d x d Jacobian
    and d³/3 operations; the certificate about 0.1 s at d = 40. Source: reweighting (11), contraction (4).

    >>> import refimpl as ri
    >>> problem = ri.zoo.quadratic.random(n=2, d=3, seed=0)
    >>> result = ri.exact_hypergradient(problem, problem.start())
    >>> result.kind, result.bound < 1e-13
    ('bounded', True)
    """
    require_certify(certify)
    if not isinstance(problem, Problem):
        raise BadInput(
            "not a problem",
            measured=type(problem).__name__,
            required="BilevelProblem or FixedPointProblem",
            advice="pair the lower level with an upper one: BilevelProblem(upper, lower)",
        )
    lam = problem.lam(lam)
    lower = solve_lower(problem, lam, start=start.w if isinstance(start, Hypergradient) else start)
    v, value, residual_adjoint = _adjoint_stage(problem, lam, lower)
    kind, bound, why = _judged(problem, lam, lower, v, value, certify)
    return Hypergradient(
        value=value,
        w=lower.w,
        v=v,
        kind=kind,
        bound=bound,
        rcond=lower.factor.rcond(),
        residual_lower=_norm(problem, lower.residual),
        residual_adjoint=_norm(problem, residual_adjoint),
        newton_steps=lower.steps,
        why_not_bounded=why,
        dtype=problem.backend.dtype if not problem.backend.exact else "rational",
        versions=_versions(),
    )


def require_certify(certify: str) -> None:
    """One of the three options, else ``BadInput``."""
    if certify not in ("auto", "always", "never"):
        raise BadInput(
            "unknown certify option",
            measured=certify,
            required="auto, always or never",
            advice="auto proves a bound where it can and says why where it cannot",
        )


def adjoint(problem: Problem, lam: Any, w: Any) -> Array:
    """v with (∂_w r)ᵀ v = ∇_wF at a lower solution w, (..., d).

    Raises ``NotConverged`` where w does not solve the lower level: the formula is exact only there
    (``approximate.implicit`` works at any w and says what that costs).
    """
    lam, w = problem.lam(lam), problem.w(w)
    return require_solved(problem, lam, w).factor.solve_T(problem.upper.grad_w(lam, w))


def _adjoint_stage(problem: Problem, lam: Array, lower: LowerSolution) -> tuple[Array, Array, Array]:
    rhs = problem.upper.grad_w(lam, lower.w)
    v = lower.factor.solve_T(rhs)
    residual = rhs - problem.backend.rmatvec(lower.jacobian, v)
    return v, problem.hypergradient_at(lam, lower.w, v), residual


def _judged(
    problem: Problem, lam: Array, lower: LowerSolution, v: Array, value: Array, certify: str
) -> tuple[Kind, Any, str]:
    from refimpl.exact.certificate import certify as prove

    if problem.backend.exact:
        return "exact", 0.0, ""
    bound, why = proved_or_why(lambda: prove(problem, lam, w=lower.w, v=v, value=value).bound, certify)
    return _estimated(problem, lam, lower, v, value, why) if bound is None else ("bounded", bound, "")


def proved_or_why(prove: Callable[[], float], certify: str) -> tuple[float | None, str]:
    """The bound proved and "", or None and why there is none; ``certify="always"`` raises instead."""
    if certify == "never":
        return None, "certify='never'"
    try:
        return prove(), ""
    except RefimplError as e:
        if certify == "always":
            if isinstance(e, BadInput):
                raise NotCertified(e.what, measured=e.measured, required=e.required, advice=e.advice) from e
            raise
        return None, str(e)


def _estimated(
    problem: Problem, lam: Array, lower: LowerSolution, v: Array, value: Array, why: str
) -> tuple[Kind, Any, str]:
    """The first-order estimate; inf where G is not seen to rise on all sides of w, of one λ and up to ``PROBED``."""
    if isinstance(problem, BilevelProblem) and max(lam.ndim, lower.w.ndim) == 1 and problem.d <= PROBED:
        floor = float(floor_at(problem, lam, lower.w, lower.jacobian, lower.residual))
        eye = problem.backend.eye(problem.d)
        try:
            require_attained("G(λ, ·)", problem.lower, lam, lower.w, lower.jacobian, eye, floor)
        except HypothesisViolated as e:
            return "estimated", float("inf"), f"{e}; {why}"
    return "estimated", first_order_estimate(problem, lam, lower, v, value), why


def first_order_estimate(problem: Problem, lam: Array, lower: LowerSolution, v: Array, value: Array) -> Array:
    """First-order error of the value, (...): an estimate, no bound.

    One Newton correction of w and one of v with the factorisation at hand show what solving left over;
    eps (‖∇_λF‖ + s / rcond) stands for what rounding hides from them, where s is the largest ‖(∂_λ r)ᵀv′‖ over v
    and two copies v′ with other signs: (∂_λ r)ᵀv itself may cancel, its rounding does not; for a fixed point
    1/rcond grows by (1 + ‖∂_w r‖)/‖∂_w r‖, since I − ∂_wΦ is rounded at the size of I.
    """
    B = problem.backend
    w = lower.w + lower.correction
    left = problem.upper.grad_w(lam, w) - problem.residual_w(lam, w).T @ v
    corrected = problem.hypergradient_at(lam, w, v + lower.factor.solve_T(left))
    direct = problem.upper.grad_lam(lam, lower.w)
    size = B.xp.max(B.sum(B.xp.abs(lower.jacobian)), axis=-1)
    condition = (size + problem.cancels) / (size * lower.factor.rcond())
    cross, indirect = problem.residual_lam(lam, lower.w).T, B.norm(value - direct)
    for period in (1, 2):  # + − + − …, + + − − …
        signs = B.asarray([(-1.0) ** (i // period) for i in range(problem.d)])
        other = B.norm(cross @ (v * signs))
        indirect = B.where(other > indirect, other, indirect)
    hidden = B.eps * (B.norm(direct) + indirect * condition)
    return B.norm(corrected - value) + hidden


def _norm(problem: Problem, x: Array) -> Any:
    B = problem.backend
    if not B.exact:
        return B.norm(x)
    return 0.0 if not (x != 0).any() else float(B.dot(x, x)) ** 0.5


@functools.cache  # reading the metadata takes longer than a small hypergradient
def _versions() -> tuple[tuple[str, str], ...]:
    import importlib.metadata  # here: it takes a tenth of the time of `import refimpl`

    found = []
    for name in ("refimpl", "numpy", "scipy", "python-flint"):
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found)
