"""Simple bilevel problems: w_λ = argmin F(λ, ·) over the minimisers of G(λ, ·), exactly.

G(λ, ·) is convex, its minimisers an affine set {o + N u}: N spans the null space of H = ∇²_wwG. With the columns of R
spanning its range (both orthonormal in floats; R the rows of H's echelon form over the rationals):

    Rᵀ∇_wG(λ, w) = 0 and Nᵀ∇_wF(λ, w) = 0 at w = w_λ, with all of ∇_wG = 0 (improved-bilevel, model (3)).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend, factor_spd, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BackendUnavailable, BadInput, HypothesisViolated
from refimpl.exact.attained import norm, require_attained
from refimpl.exact.descent import hessian_floor, minimised
from refimpl.exact.lower import floor_at, require_smooth
from refimpl.objective import Objective
from refimpl.problem import BilevelProblem
from refimpl.solvers.lower import overflow_allowed

PRIME = 2**61 - 1
ROUNDED = (
    "round the data to fewer bits before they are multiplied or centred, or scale the columns alike, unless curvature "
    "vanishes here; over the rationals a quadratic G has its exact rank"
)


@dataclass(frozen=True, eq=False)
class SimpleSolution:
    """w_λ (d,) and what it rests on.

    rank of ∇²_wwG at w and its ``singular`` values (d,), the largest first; ``normal`` (d, rank) spans its range and
    ``flat`` (d, d − rank) its null space, the directions along which F chooses.
    residual_lower = ‖∇_wG(λ, w)‖, residual_upper = ‖Nᵀ∇_wF(λ, w)‖: both 0 at w_λ.
    in_doubt: why the rank may be another one, "" where nothing says so: G says through which matrix it sees w, and the
    exact rank of that matrix is another; or G does not, and the largest singular value taken for 0 is more than
    rounding makes of 0 in a product of d terms, d eps times the largest.
    """

    w: Array
    rank: int
    singular: Any
    normal: Array
    flat: Array
    residual_lower: Any
    residual_upper: Any
    in_doubt: str = ""

    @property
    def gap(self) -> tuple[float, float]:
        """The smallest singular value that is counted (inf: none is) and the largest taken for 0 (0: none is)."""
        counted = float(self.singular[self.rank - 1]) if self.rank else float("inf")
        return counted, float(self.singular[self.rank]) if self.rank < len(self.singular) else 0.0


def solve_simple(problem: BilevelProblem, lam: Any, *, start: Any = None) -> SimpleSolution:
    """w_λ = argmin F(λ, ·) over Argmin G(λ, ·): Newton's method on G along the range of H, on F along its null space.

    From ``start`` (the origin), twice, or until H's rank stays: the last time near the solution, with H there. One λ at
    a time: the ranks of several may differ, and leading axes are refused. Cost: three eigendecompositions of H (d³),
    two at each pair of λ's neighbours, the Newton steps, 2 d gradients around w, and the rank of G's ``through()``
    modulo a prime. Raises ``NotConverged``, as also where G has no minimiser and its slope's rounding falls with it,
    and ``HypothesisViolated``, with the singular values measured, where

    - the rank of H is higher at a neighbour λ ± δ s, projected onto λ's set, δ = eps^(1/4) (1 + max|λ|): w_λ need not
      be continuous there (in floats a singular value of order δ⁴ is none);
    - ∇_wG cannot be made 0: G(λ, ·) is not bounded below, or its minimisers are no affine set; or it has a slope along
      N elsewhere (asked at 2 (d − rank) points, where G does not say through which matrix it sees w);
    - G, or F along the minimisers, does not rise on both sides of w along an eigenvector of its Hessian, as far as the
      slope's rounding reaches: it may have no minimiser, as exp(w) or the logistic loss of data that a plane separates
      (measured, not proved, in these directions; a certificate proves that w_λ exists);
    - the exact rank is known (G says through which matrix it sees w), singular values near their floor leave in doubt
      which floats see, and it is higher;
    - G is not convex, or F not strictly convex along the minimisers.

    >>> import numpy as np, refimpl as ri
    >>> G = ri.zoo.quadratic.objective(ww=[[1.0, 0.0], [0.0, 0.0]], lw=[[-1.0, 0.0]])
    >>> F = ri.zoo.quadratic.objective(ww=np.eye(2), w1=[0.0, -3.0], n=1)
    >>> solve_simple(ri.BilevelProblem(F, G), [2.0]).w.tolist()
    [2.0, 3.0]
    """
    problem, lam, w = _checked(problem, lam, start)
    exact = _exact_rank(problem.lower)
    found = _chosen(problem, lam, w, exact)
    found = dataclasses.replace(found, in_doubt=_rank_in_doubt(problem, found, exact))
    _require_minimiser(problem, lam, found, exact)
    return found


def solved_beside(problem: BilevelProblem, lam: Array, found: SimpleSolution) -> SimpleSolution:
    """``solve_simple`` at a λ next to that of ``found``, where the rank is the same."""
    there = _chosen(problem, lam, found.w, found.rank)
    _require_minimiser(problem, lam, there, found.rank)
    return there


def _chosen(problem: BilevelProblem, lam: Array, w: Array, expected: int | None) -> SimpleSolution:
    """The point where both levels' slopes are 0, from w: not yet asked whether it is a minimiser."""
    B = problem.backend
    passes, rank = 0, -1
    normal, flat, singular = _bases(problem, lam, w, expected)
    # twice, from nearby: H may have moved, and a long way along rounded directions leaves errors; and while H's rank
    # moves, as from where a level saturates: it can rise d times
    while passes < 2 or (normal.shape[-1] != rank and passes < 2 + problem.d):
        passes, rank = passes + 1, normal.shape[-1]
        try:
            w = minimised(problem.lower, lam, w, normal)
        except HypothesisViolated as error:
            raise _not_convex(error.measured, str(error.required)) from None
        try:
            w = minimised(problem.upper, lam, w, flat)
            factor_spd(B, B.mT(flat) @ problem.upper.hess_ww(lam, w).dense() @ flat)
        except HypothesisViolated as error:
            raise HypothesisViolated(
                "F is not strictly convex along the minimisers of G",
                measured=error.measured,
                required="every eigenvalue of Nᵀ∇²_wwF N above 0",
                advice="add a ridge term to F: it then chooses one of them",
            ) from None
        normal, flat, singular = _bases(problem, lam, w, expected)
    lower, upper = problem.lower.grad_w(lam, w), B.rmatvec(flat, problem.upper.grad_w(lam, w))
    return SimpleSolution(w, int(normal.shape[-1]), singular, normal, flat, norm(lower), norm(upper))


def _checked(problem: Any, lam: Any, start: Any) -> tuple[BilevelProblem, Array, Array]:
    if not isinstance(problem, BilevelProblem):
        raise BadInput(
            "a simple bilevel problem has a lower objective",
            measured=type(problem).__name__,
            required="BilevelProblem",
            advice="a fixed-point problem with one solution leaves F nothing to choose: exact_hypergradient",
        )
    lam, w = problem.lam(lam), problem.w(start)
    if not lam.ndim == w.ndim == 1 or problem.upper.lead or problem.lower.lead or not problem.backend.ordered:
        raise BadInput(
            "one λ and one start at a time, in numbers that can be compared",
            measured=f"λ {tuple(lam.shape)}, start {tuple(w.shape)}, {problem.upper.lead} and {problem.lower.lead} "
            f"leading axes of F and G, backend {problem.backend.name!r}",
            required=f"({problem.n},), ({problem.d},), none, floats or rationals",
            advice="loop over them: the rank may differ between them",
        )
    return problem, lam, w


def _bases(problem: BilevelProblem, lam: Array, w: Array, expected: int | None) -> tuple[Array, Array, Any]:
    """Columns that span the range and the null space of H, which must have no eigenvalue < 0; its singular values.

    Where an eigenvalue is too small for that, or more than ``expected`` count, what cancels in H is looked at, too.
    """
    B, H = problem.backend, problem.lower.hess_ww(lam, w).dense()
    if B.exact:
        return (*exact_bases(B, H), np.sort(np.abs(np.linalg.eigvalsh(to_numpy(H))))[::-1])
    values, vectors = B.xp.linalg.eigh(H)
    singular = to_numpy(values)[::-1]
    d, small = len(singular), _small(singular, B.eps)
    more = expected is not None and expected < d and singular[expected] > small
    if d and (more or singular[-1] < -small):
        small = hessian_floor(problem.lower, lam, w, H)
        if singular[-1] < -small:
            measured = f"smallest eigenvalue of its Hessian {singular[-1]:.6g}"
            raise _not_convex(measured, f">= 0, up to rounding {small:.3g}")
    rank = int((singular > small).sum())
    flat, normal = vectors[:, : d - rank], vectors[:, d - rank :]
    return normal, flat, np.sort(np.abs(singular))[::-1]


def _small(singular: np.ndarray, eps: float) -> float:
    """What rounding makes of an eigenvalue 0 of H, 10 d eps times the largest: none up to here counts."""
    return float(10 * len(singular) * eps * np.abs(singular).max(initial=0.0))


def _rank_in_doubt(problem: BilevelProblem, found: SimpleSolution, exact: int | None) -> str:
    """Why the rank may be another one, or "".

    Where G says through which matrix it sees w, that matrix's exact rank decides: where it is another one, floats solve
    another problem, as of data that were centred in floats. Else a singular value that is taken for 0 and above d eps
    of the largest leaves doubt: d eps is what a product of d terms leaves of 0, 10 d eps what ``_small`` allows for, as
    H may come from longer sums.
    """
    B, d, rank, singular = problem.backend, problem.d, found.rank, found.singular
    if B.exact or exact == rank:
        return ""
    counted, dropped = found.gap
    unclear = rank < d and dropped > d * B.eps * singular[0]
    if exact is None:
        return (
            f"the rank is in doubt: the singular value {dropped:.3g} is taken for 0, of {singular[0]:.3g} the "
            f"largest; rounding makes at least {d * B.eps * singular[0]:.3g} of 0, at most ten times as much"
            if unclear
            else ""
        )
    if exact > rank and unclear:
        raise HypothesisViolated(
            "floats do not see the rank of the lower Hessian",
            measured=f"{rank} singular values above rounding, of {shown(singular)}",
            required=f"{exact}, the exact rank of the matrix through which G sees w",
            advice=ROUNDED,
        )
    advice = (
        ROUNDED
        if exact > rank
        else "through() lacks rows by which w enters, or rounding passes for curvature"
    )
    return (
        f"the rank counted in floats is {rank}, that of the matrix through which G sees w is {exact}: the singular "
        f"value {counted:.3g} counts, {dropped:.3g} does not, of {singular[0]:.3g} the largest; {advice}"
    )


def _exact_rank(lower: Objective) -> int | None:
    """Of the matrix through which G sees w; None where G tells none, or none over the rationals, or without flint.

    Modulo a prime, where no number grows: never above the exact rank, and below it only where the prime divides every
    larger minor (of data not made for it one chance in 10¹⁸, about). Where a bound is proved, elimination decides.
    """
    rows: Any = lower.through()
    if lower.backend.exact or rows is None or rows.ndim != 2 or rows.shape[-1] != lower.d:
        return None
    try:
        rows = lower.to("rational").through()
    except (BadInput, BackendUnavailable):
        return None
    import flint

    whole, _ = flint.fmpq_mat(len(rows), lower.d, rows.reshape(-1).tolist()).numer_denom()
    return int(flint.nmod_mat(whole, PRIME).rank())


def _not_convex(measured: Any, required: str) -> HypothesisViolated:
    return HypothesisViolated(
        "the lower level is not convex",
        measured=measured,
        required=required,
        advice="the improved model chooses among the minimisers of a convex G",
    )


def exact_bases(B: Backend, rows: Array) -> tuple[Array, Array]:
    """Columns that span the rows of a rational matrix (m, d) and its null space, from its reduced echelon form.

    Its nonzero rows are the former; each free column gives a null vector.
    """
    import flint

    d = rows.shape[-1]
    reduced, rank = flint.fmpq_mat(rows.tolist()).rref()
    spanning = [[reduced[i, j] for j in range(d)] for i in range(rank)]
    pivots = [next(j for j in range(d) if row[j] != 0) for row in spanning]
    flat = B.zeros((d, d - rank))
    for column, j in enumerate(j for j in range(d) if j not in pivots):
        flat[j, column] = B.scalar(1)
        for row, pivot in zip(spanning, pivots, strict=True):
            flat[pivot, column] = -row[j]
    normal = B.zeros((d, rank))
    for column, row in enumerate(spanning):
        normal[:, column] = row
    return normal, flat


def neighbours(problem: BilevelProblem, lam: Array) -> Iterator[Array]:
    """λ ± δ s projected onto λ's set, δ = eps^(1/4) (1 + max|λ|), s_i = ½(x_i + sign x_i) for x_i = sin i, and cos i.

    On patterns of signs a form such as λ_1 − λ_2 − λ_3 + λ_4 may be 0 throughout; no linear form with rational
    coefficients is 0 at s, since 1, sin 1, sin 2, … are linearly independent over them (Lindemann and Weierstrass).
    """
    B, domain = problem.backend, problem.domain
    reach = (B.eps or 2.0**-52) ** 0.25 * (1 + float(np.abs(to_numpy(lam)).max(initial=0.0)))
    for wave in (np.sin, np.cos) if problem.n else ():
        x = wave(np.arange(1.0, problem.n + 1))
        s = B.asarray((x + np.sign(x)) / 2)
        for near in (lam + B.scalar(reach) * s, lam - B.scalar(reach) * s):
            try:
                yield near if domain is None else domain.project(near, B)
            except (BadInput, HypothesisViolated):  # an open set; a ball over the rationals
                continue


def floors(problem: BilevelProblem, lam: Array, found: SimpleSolution) -> tuple[float, float]:
    """The sizes of ‖∇_wG‖ and ‖Nᵀ∇_wF‖ at w that count as 0."""
    w, sizes = found.w, []
    for level in (problem.lower, problem.upper):
        slope, H = level.grad_w(lam, w), level.hess_ww(lam, w).dense()
        sizes.append(float(floor_at(BilevelProblem(level, level), lam, w, H, slope)))
    turn = turned(problem.backend, found) * norm(problem.upper.grad_w(lam, w))
    return sizes[0], sizes[1] + turn


def _require_minimiser(
    problem: BilevelProblem, lam: Array, found: SimpleSolution, expected: int | None
) -> None:
    """∇_wG = 0 and Nᵀ∇_wF = 0 at w, no kink there, and at λ's neighbours H has no higher rank."""
    w, values = found.w, shown(found.singular)
    lower, upper = floors(problem, lam, found)
    if not (found.residual_lower <= lower and found.residual_upper <= upper):
        raise HypothesisViolated(
            "no minimiser of G(λ, ·) was found along its flat directions",
            measured=f"‖∇_wG‖ = {found.residual_lower:.6g}, ‖Nᵀ∇_wF‖ = {found.residual_upper:.6g}; "
            f"singular values of the Hessian of G {values}",
            required=f"<= {lower:.3g} and <= {upper:.3g}, their rounding floors",
            advice="G is not bounded below (its slope has a part along a flat direction), or its minimisers are "
            "no affine set",
        )
    require_smooth(problem, lam, w)
    _require_flat(problem, lam, found, lower)
    H, Q = (level.hess_ww(lam, w).dense() for level in (problem.lower, problem.upper))
    require_attained("G(λ, ·)", problem.lower, lam, w, H, found.normal, lower)
    require_attained("F(λ, ·) along the minimisers of G", problem.upper, lam, w, Q, found.flat, upper)
    for near in neighbours(problem, lam):
        normal, _, singular = _bases(problem, near, w, expected)
        if normal.shape[-1] > found.rank:  # a lower one is another λ's affair: near λ no rank is lower
            raise HypothesisViolated(
                "the rank of the lower Hessian changes at λ",
                measured=f"singular values {values} at λ, {shown(singular)} at a neighbour",
                required="a constant rank near λ",
                advice="w_λ may jump here, and has no derivative: move λ, or add a ridge (Tikhonov) and let it vanish",
            )


def _require_flat(problem: BilevelProblem, lam: Array, found: SimpleSolution, floor: float) -> None:
    """G(λ, ·) has no slope along N at w ± (1 + ‖w‖) u either, for every column u of N.

    A convex function that is constant along a line is so along its parallels: where w + span N are minimisers, Nᵀ∇_wG
    is 0 everywhere. exp(−w) far out is flat in floats, too, and has no minimiser. What rounding makes of 0 there: the
    floor, and N turned by it, times the gradient's growth along the way.
    """
    B, w, N = problem.backend, found.w, found.flat
    if B.exact or not N.shape[-1] or problem.lower.through() is not None:
        return
    reach = 1 + norm(w)
    ways = B.concat([B.mT(N), -B.mT(N)], axis=-2)
    with overflow_allowed():
        slopes = to_numpy(problem.lower.grad_w(lam, w + reach * ways) @ N)
    size = float(found.singular[0])
    allowed = floor + (turned(B, found) + len(found.singular) * B.eps) * size * reach
    if np.abs(slopes).max() > allowed:
        raise HypothesisViolated(
            "the minimisers of G(λ, ·) are no affine set",
            measured=f"its Hessian is 0 along {N.shape[-1]} directions at the point found; {reach:.3g} from it on one "
            f"of them the slope is {np.abs(slopes).max():.3g}",
            required=f"<= {allowed:.3g}, its rounding",
            advice="it may have none, as exp(w) has none, or a flat piece with an end; add a ridge",
        )


def shown(singular: np.ndarray) -> str:
    """The values on either side of where a rank may be cut: all, or the five smallest."""
    return ("… " if len(singular) > 5 else "") + ", ".join(f"{x:.3g}" for x in singular[-5:])


def rcond_of(found: SimpleSolution) -> float:
    """Of H on its range: the smallest over the largest singular value; 1 where there is none."""
    return float(found.singular[found.rank - 1] / found.singular[0]) if found.rank else 1.0


def turned(B: Backend, found: SimpleSolution) -> float:
    """How far rounding may turn the null space of H: the error of H over the smallest curvature that counts.

    An error of 10 d eps of the largest, or d times what is left of the zeros, which tells the size of its entries.
    """
    if B.exact:
        return 0.0
    d, left = len(found.singular), found.gap[1]
    largest = float(found.singular[0]) if found.rank else 1.0
    return max(10 * d * B.eps, d * left / largest) / rcond_of(found)
