"""Simple bilevel problems as square systems, for levels that say through which matrix they see w; their enclosure.

Let G(λ, w) = g(λ, Xw), R span the rows of X, N the null space of X, both over the rationals. Then at every (λ, w) ∇_wG
lies in the range of R, ∇²_wwG N = 0 and ∇²_λwG N = 0, so that w_λ solves d equations in d unknowns:

    r(λ, w) = (Rᵀ∇_wG, Nᵀ∇_wF) = 0,    (∂_w r)ᵀ(a, b) = H R a + Q N b,    H = ∇²_wwG, Q = ∇²_wwF.

Where r = 0, Nᵀ of H R a + Q N b = ∇_wF is NᵀQN b = 0: b = 0, v = R a, and the hypergradient of this equation,
∇_λF − (∂_λ r)ᵀ(a, b), is ∇_λF − ∇²_λwG v. So ``enclose`` holds the improved model's, as Krawczyk's operator on r proves
that w_λ exists. If, over that box, RᵀHR and NᵀQN are positive definite, then of a convex G and F

- w_λ is a minimiser of G, and the others are w_λ + span N: G'' is 0 on the segment to another, which lies in ker H;
- it is the one that F chooses, alone;
- the rank of H is that of X at w_λ, nowhere higher, and by continuity no lower near it: constant. No eigenvalue of H
  is bounded in floats, and no singular value is counted.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.arrays.balls import upper_norm
from refimpl.errors import BadInput, NotCertified, TooLarge
from refimpl.exact.certificate import BITS, LIMIT, balls_of, enclose, require_positive
from refimpl.exact.simple import SimpleSolution, exact_bases, neighbours
from refimpl.objective import Objective
from refimpl.operators import Operator, matrix
from refimpl.problem import BilevelProblem, Problem
from refimpl.sets import ConvexSet


@dataclass(frozen=True, eq=False)
class Chosen(Problem):
    """r = (Rᵀ∇_wG, Nᵀ∇_wF), for bases R (d, rank) and N (d, d − rank) that hold at every λ; no symmetric Jacobian."""

    upper: Objective
    lower: Objective
    normal: Array
    flat: Array
    domain: ConvexSet | None = None

    symmetric = False
    cancels = 0.0

    @property
    def backend(self) -> Backend:
        return self.lower.backend

    @property
    def level(self) -> Objective:
        return self.lower

    def with_level(self, level: Any) -> Chosen:
        return dataclasses.replace(self, lower=level)

    def residual(self, lam: Array, w: Array) -> Array:
        B = self.backend
        lower, upper = self.lower.grad_w(lam, w), self.upper.grad_w(lam, w)
        return B.concat([B.rmatvec(self.normal, lower), B.rmatvec(self.flat, upper)])

    def _stacked(self, lower: Array, upper: Array) -> Operator:
        """Rᵀ times the one, above Nᵀ times the other."""
        B = self.backend
        return matrix(B, B.concat([B.mT(self.normal) @ lower, B.mT(self.flat) @ upper], axis=-2))

    def residual_w(self, lam: Array, w: Array) -> Operator:
        return self._stacked(self.lower.hess_ww(lam, w).dense(), self.upper.hess_ww(lam, w).dense())

    def residual_lam(self, lam: Array, w: Array) -> Operator:
        return self._stacked(self.lower.cross(lam, w).T.dense(), self.upper.cross(lam, w).T.dense())

    def curvatures(self, lam: Array, w: Array) -> tuple[Array, Array]:
        """RᵀHR and NᵀQN."""
        B, R, N = self.backend, self.normal, self.flat
        along = self.upper.hess_ww(lam, w).dense()
        return B.mT(R) @ self.lower.hess_ww(lam, w).dense() @ R, B.mT(N) @ along @ N


def proved_error(problem: BilevelProblem, lam: Array, found: SimpleSolution, value: Array) -> float:
    """A proved bound of ‖value − ∇f(λ)‖₂, given that the derivatives are right and that G(λ, ·) and F(λ, ·) are convex.

    Raises ``NotCertified`` where the lower level is flat and does not say through which matrix it sees w, or where the
    exact rank is not the one counted in floats; and as ``enclose``. Cost: that of ``enclose``, and X's echelon form.
    """
    chosen = _chosen(problem, found.rank)
    true = enclose(chosen, lam, found.w)
    with balls_of(chosen, BITS) as balls:
        B = balls.backend
        for point in (lam, *neighbours(problem, lam)):
            _require_flat(balls, B.asarray(point), true.w)
        for block in balls.curvatures(B.asarray(lam), true.w):
            if block.size:
                require_positive(B, block)
        error = upper_norm(B.asarray(value) - true.value)
    if not error < float("inf"):
        raise NotCertified(
            "the enclosure is unbounded",
            measured=f"error of the value <= {error}",
            required="a finite bound",
            advice="a formula of the upper level leaves its domain near this solution",
        )
    return error


def _chosen(problem: BilevelProblem, rank: int) -> Chosen:
    B, d = problem.backend, problem.d
    if d > LIMIT:
        raise TooLarge(
            "too large to enclose",
            measured=f"d = {d}",
            required=f"d <= {LIMIT}",
            advice="the first-order estimate (kind 'estimated') has no such limit",
        )
    rows = problem.lower.through()
    if rows is not None and (rows.ndim != 2 or rows.shape[-1] != d):
        raise BadInput(
            "through() is no matrix",
            measured=f"shape {tuple(rows.shape)}",
            required=f"(m, d) with d = {d}",
            advice="one row for each linear form of w that G sees, at every λ",
        )
    if rows is not None:
        exact = problem.lower.to("rational")
        normal, flat = exact_bases(exact.backend, exact.through())
    else:  # all of w is seen, as far as is known
        normal, flat = B.eye(d), B.zeros((d, 0))
    if normal.shape[-1] == rank:
        return Chosen(problem.upper, problem.lower, normal, flat, problem.domain)
    if rows is None:
        raise NotCertified(
            "no enclosure is made of a lower level that may be flat along directions which it does not tell",
            measured=f"rank {rank} of {d}; {type(problem.lower).__name__}.through() is None",
            required="a matrix X, independent of λ, with G(λ, w) = g(λ, Xw)",
            advice="over balls a rank is not decided; write through() where such an X is known",
        )
    raise NotCertified(
        "the rank counted in floats is not the exact one",
        measured=f"{rank} singular values above rounding",
        required=f"{normal.shape[-1]}, the rank of the matrix through which G sees w",
        advice="through() lacks rows by which w enters"
        if rank > normal.shape[-1]
        else "its entries were rounded, or its singular values are too small for floats: round the data to fewer "
        "bits before they are multiplied, or rescale the columns; or the rank changes here",
    )


def _require_flat(balls: Chosen, lam: Array, w: Array) -> None:
    """Nᵀ∇_wG = 0, and ∇_wG the same beside w along N, as where G sees Xw alone, at any λ: necessary only."""
    B, N = balls.backend, balls.flat
    slope = balls.lower.grad_w(lam, w)
    change = balls.lower.grad_w(lam, w + B.sum(N)) - slope
    along = B.rmatvec(N, slope)
    if not all(e.contains(0) for e in (*change, *along)):
        raise NotCertified(
            "G is not constant along the directions that it calls flat",
            measured=f"a slope of {upper_norm(along):.3e}, which changes by {upper_norm(change):.3e} along their sum",
            required="0",
            advice="through() must return every row by which w enters, at every λ",
        )
