"""The improved model's hypergradient: ∇f of f(λ) = F(λ, w_λ), w_λ = argmin F(λ, ·) over Argmin G(λ, ·), exactly.

Where the rank of H = ∇²_wwG is constant near λ, w_λ is differentiable, and differentiating ∇_wG(λ, w_λ) = 0 along λ
gives H dw/dλ = −(∇²_λwG)ᵀ; as ∇_wF = H v at w_λ, ∇f = ∇_λF − ∇²_λwG v: the hypergradient's formula with H⁺ in place
of H⁻¹. No derivative of H⁺ or of the null space N is needed (improved-bilevel, model (3)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from refimpl.arrays import Backend, factor_spd, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import HypothesisViolated, NotConverged
from refimpl.exact.attained import norm
from refimpl.exact.chosen import proved_error
from refimpl.exact.hypergradient import Kind, proved_or_why, require_certify
from refimpl.exact.simple import SimpleSolution, floors, rcond_of, shown, solve_simple, solved_beside, turned
from refimpl.problem import BilevelProblem
from refimpl.solvers.lower import overflow_allowed


@dataclass(frozen=True, eq=False)
class ImprovedHypergradient:
    """∇f(λ) of the improved model, (n,), with the solution it rests on and the adjoint v = H⁺∇_wF (d,).

    kind: "exact" (rational arithmetic); "bounded": ``bound`` of ‖value − ∇f(λ)‖₂ is proved, given that the derivatives
    are right and the levels convex; "estimated": exact but for rounding, whose size at first order is ``bound`` (inf
    where the rank is in doubt, or not the exact one), and ``why_not_bounded`` says why no more. residual_adjoint =
    ‖∇_wF − H v‖. rcond: of H on its range, the smallest over the largest singular value.
    """

    value: Array
    w: Array
    v: Array
    kind: Kind
    bound: Any
    rcond: Any
    residual_adjoint: Any
    solution: SimpleSolution
    why_not_bounded: str


def improved_hypergradient(
    problem: BilevelProblem,
    lam: Any,
    *,
    start: Any = None,
    certify: Literal["auto", "always", "never"] = "auto",
) -> ImprovedHypergradient:
    """∇f(λ) = ∇_λF − ∇²_λwG H⁺ ∇_wF at w_λ, f(λ) = min of F(λ, ·) over Argmin G(λ, ·) (improved-bilevel, (3)).

    Where G(λ, ·) has one minimiser it is ``exact_hypergradient``'s. ``certify``: as there; an enclosure needs a lower
    level with ``through()``, a matrix X with G(λ, w) = g(λ, Xw) at every λ: then the flat directions are ker X, taken
    exactly, and that the rank is constant near λ is proved with the bound. The zoo's families have one.
    Raises as :func:`solve_simple`, and ``HypothesisViolated`` where ∇²_λwG N ≠ 0: at some neighbours of λ ∇_wG has a
    part along a flat direction. Cost: that of ``solve_simple``, and the certificate, or two more for the estimate.

    >>> import numpy as np, refimpl as ri
    >>> G = ri.zoo.quadratic.objective(ww=[[1.0, 0.0], [0.0, 0.0]], lw=[[-1.0, 0.0]])
    >>> F = ri.zoo.quadratic.objective(ww=np.eye(2), w1=[0.0, -3.0], n=1)
    >>> improved_hypergradient(ri.BilevelProblem(F, G), [2.0]).value.tolist()  # f = λ²/2 − 9/2
    [2.0]
    """
    require_certify(certify)
    found = solve_simple(problem, lam, start=start)
    lam = problem.lam(lam)
    _require_neighbours_bounded(problem, lam, found)
    value, v = _formula(problem, lam, found)
    left = problem.upper.grad_w(lam, found.w) - problem.lower.hess_ww(lam, found.w) @ v
    kind, bound, why = _judged(problem, lam, found, v, value, certify)
    return ImprovedHypergradient(value, found.w, v, kind, bound, rcond_of(found), norm(left), found, why)


def _judged(
    problem: BilevelProblem, lam: Array, found: SimpleSolution, v: Array, value: Array, certify: str
) -> tuple[Kind, float, str]:
    if problem.backend.exact:
        return "exact", 0.0, ""
    proved, why = proved_or_why(lambda: proved_error(problem, lam, found, value), certify)
    if proved is not None:
        return "bounded", proved, ""
    if found.in_doubt:
        return "estimated", float("inf"), f"{found.in_doubt}; {why}"
    return (
        "estimated",
        _estimate(problem, lam, found, v) + _moved_by_rounding(problem, lam, found, value),
        why,
    )


def _formula(problem: BilevelProblem, lam: Array, found: SimpleSolution) -> tuple[Array, Array]:
    """∇_λF − ∇²_λwG v and v = R (RᵀHR)⁻¹ Rᵀ∇_wF at w_λ."""
    B, R, w = problem.backend, found.normal, found.w
    v = 0 * w
    if found.rank:
        H, rhs = problem.lower.hess_ww(lam, w), problem.upper.grad_w(lam, w)
        v = B.matvec(R, factor_spd(B, B.mT(R) @ H.dense() @ R).solve(B.rmatvec(R, rhs)))
    direct, cross = problem.upper.grad_lam(lam, w), problem.lower.cross(lam, w)
    return direct - cross @ v, v


def _moved_by_rounding(problem: BilevelProblem, lam: Array, found: SimpleSolution, value: Array) -> float:
    """What relative errors of eps in λ make of ∇f: it is computed again at λ(1 ± √eps), and √eps of the difference.

    The levels' own formulas may cancel in λ, as 1 − λ does, which no residual shows.
    """
    B = problem.backend
    root = B.eps**0.5
    for near in (lam * (1 + root), lam * (1 - root)):
        if problem.domain is None or bool(B.xp.all(problem.domain.contains(near, B))):
            try:
                there = solved_beside(problem, near, found)
            except (HypothesisViolated, NotConverged):  # the rank changes next to λ
                return float("inf")
            return root * norm(_formula(problem, near, there)[0] - value)
    return float("inf")


def _require_neighbours_bounded(problem: BilevelProblem, lam: Array, found: SimpleSolution) -> None:
    """∇²_λwG N = 0, which differentiating ∇_wG(λ, w_λ) = 0 asks for, as H N = 0."""
    cross = problem.lower.cross(lam, found.w).dense()
    along = _size(cross @ found.flat)
    at_origin = problem.lower.cross(lam, 0 * found.w).dense()  # what may have cancelled
    sizes = _size(cross) + _size(at_origin)
    floor = turned(problem.backend, found) * sizes
    if not along <= floor:
        raise HypothesisViolated(
            "near λ the lower level has no minimiser",
            measured=f"‖∇²_λwG N‖ = {along:.6g} along the flat directions; singular values {shown(found.singular)}",
            required=f"<= {floor:.3g}, its rounding floor",
            advice="moving λ gives G a slope along a flat direction: add a ridge to G (Tikhonov)",
        )


def _estimate(problem: BilevelProblem, lam: Array, found: SimpleSolution, v: Array) -> float:
    """First-order size of the error of ∇f at λ as the levels round it; inf where a difference leaves their domain.

    Gradients are known to a tenth of their rounding floors (no 10); ``_responses`` tell what that makes of ∇f by way of
    w. It makes H v = ∇_wF as uncertain again, besides H's own rounding: C H⁺ brings that into ∇f, C = ∇²_λwG.
    """
    B, F, G, w = problem.backend, problem.upper, problem.lower, found.w
    cross, at_origin = (
        _size(G.cross(lam, at).dense()) for at in (w, 0 * w)
    )  # there, what may have cancelled
    lower, upper = (x / 10 for x in floors(problem, lam, found))
    lower, upper = max(lower, found.residual_lower), max(upper, found.residual_upper)
    through, to_lower, to_upper = (_size(a) for a in _responses(problem, lam, found, v))
    eps = problem.d * B.eps
    adjoint = upper + eps * _size(G.hess_ww(lam, w).dense()) * norm(v)
    direct = eps * (norm(F.grad_lam(lam, w)) + (cross + at_origin) * norm(v))
    error = direct + through * adjoint + to_lower * lower + to_upper * upper
    return error if error < float("inf") else float("inf")


def _responses(
    problem: BilevelProblem, lam: Array, found: SimpleSolution, v: Array
) -> tuple[Array, Array, Array]:
    """C H⁺R (n, rank), and by what ∇f moves with Rᵀ∇_wG, (n, rank), and with Nᵀ∇_wF, (n, d − rank), to first order.

    Where Rᵀ∇_wG = α and Nᵀ∇_wF = β instead of 0, w moves by R a + N b, RᵀHR a = α, NᵀQN b = β − NᵀQR a, Q = ∇²_wwF.
    The formula ∇_λF − C v with H v = ∇_wF moves by K of it,

        K = ∇²_λwF − M − C H⁺(Q − T),   M = d/dh C(λ, w + h v),   T = d/dh H(λ, w + h v) at h = 0:

    third derivatives are symmetric, so that M u is by what C v moves along any u. Central differences along v, over
    eps^(1/3) (1 + ‖w‖). The products stand inside the norms: ‖C‖ ‖v‖ ‖H⁺‖ for them may be 10⁴ times as much.
    """
    B, F, G, w, R, N = problem.backend, problem.upper, problem.lower, found.w, found.normal, found.flat
    H, Q = G.hess_ww(lam, w).dense(), F.hess_ww(lam, w).dense()
    M, T = 0 * G.cross(lam, w).dense(), 0 * H
    if found.rank and (length := norm(v)):
        h = B.eps ** (1 / 3) * (1 + norm(w)) / length
        with overflow_allowed():
            M, T = (
                (level(lam, w + h * v).dense() - level(lam, w - h * v).dense()) / (2 * h)
                for level in (G.cross, G.hess_ww)
            )
    on_range, on_flat = _rows_solved(B, B.mT(R) @ H @ R), _rows_solved(B, B.mT(N) @ Q @ N)
    through = on_range(G.cross(lam, w).dense() @ R)
    K = F.cross(lam, w).dense() - M - through @ (B.mT(R) @ (Q - T))
    to_upper = on_flat(K @ N)
    return through, on_range(K @ R - to_upper @ (B.mT(N) @ Q @ R)), to_upper


def _rows_solved(B: Backend, A: Array) -> Callable[[Array], Array]:
    """rows ↦ rows A⁻¹ for a positive definite A, which may be 0 × 0."""
    return factor_spd(B, A).solve if A.shape[-1] else lambda rows: rows


def _size(a: Array) -> float:
    """The spectral norm; inf where an entry is not finite."""
    a = to_numpy(a)
    if not np.isfinite(a).all():
        return float("inf")
    return float(np.linalg.norm(a, 2)) if 0 not in a.shape else 0.0
