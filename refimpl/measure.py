"""Measured numbers at a point: do (λ, w) satisfy the hypotheses of the hypergradient's formula?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import to_numpy
from refimpl.bounds import Region
from refimpl.constants import Constants, constants
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.exact.lower import floor_at, require_smooth
from refimpl.problem import BilevelProblem, FixedPointProblem, Problem


@dataclass(frozen=True, eq=False)
class Check:
    """What was measured at one (λ, w). ``violations``: the hypotheses that fail, a sentence each.

    residual = ‖r(λ, w)‖; rounding lets it be brought to ``floor``; ``solved``: residual <= floor.
    smallest, largest: eigenvalues of ∂_w r for a minimisation, singular values for a fixed point.
    condition: largest/smallest singular value of ∂_w r.
    contraction: ‖∂_wΦ‖₂ at the point, None for a minimisation.  inside: is λ in its set?
    constants: the family's proved ones on ``region``, or None and ``why_no_constants``.
    """

    residual: float
    floor: float
    solved: bool
    smallest: float
    largest: float
    condition: float
    contraction: float | None
    inside: bool
    region: Region
    constants: Constants | None
    why_no_constants: str
    violations: tuple[str, ...]


def check(problem: Problem, lam: Any, w: Any, *, region: Region | None = None) -> Check:
    """Measure a problem at lam (n,), w (d,); constants are taken on ``region``, by default the point itself.

    Raises ``BadInput`` for wrong shapes and backends; a hypothesis that fails is reported, not raised.
    Cost: one dense Jacobian and its singular values, O(d³), on the host.

    >>> import refimpl as ri
    >>> case = ri.zoo.degenerate.indefinite_hessian()
    >>> check(case.problem, case.lam, case.w).violations
    ('the lower Hessian is not positive definite: its smallest eigenvalue is -1',)
    """
    lam, w = problem.backend.vector(lam, problem.n, "lam"), problem.w(w)
    if lam.ndim != 1 or w.ndim != 1:
        raise BadInput(
            "a check is made at one point",
            measured=f"lam {tuple(lam.shape)}, w {tuple(w.shape)}",
            required=f"({problem.n},) and ({problem.d},)",
            advice="call it for one λ of the batch at a time",
        )
    r = problem.residual(lam, w)
    residual = float(np.linalg.norm(to_numpy(r)))
    dense = problem.residual_w(lam, w).dense()
    floor = float(to_numpy(floor_at(problem, lam, w, dense, r)))
    jacobian = to_numpy(dense)
    singular = np.linalg.svd(jacobian, compute_uv=False)
    spectrum = np.linalg.eigvalsh(jacobian) if problem.symmetric else singular[::-1]
    contraction = None
    if isinstance(problem, FixedPointProblem):
        contraction = float(np.linalg.norm(np.eye(problem.d) - jacobian, 2))
    region = Region(to_numpy(lam), to_numpy(w)) if region is None else region
    outside = _outside(problem, lam)
    known, why = _constants(problem, region)
    measured = Check(
        residual=residual,
        floor=floor,
        solved=residual <= floor,
        smallest=float(spectrum[0]),
        largest=float(spectrum[-1]),
        condition=float(singular[0] / singular[-1]) if singular[-1] > 0 else float("inf"),
        contraction=contraction,
        inside=not outside,
        region=region,
        constants=known,
        why_no_constants=why,
        violations=(),
    )
    found = _violations(measured, problem, outside)
    return Check(**{**vars(measured), "violations": (*found, *_kinks(problem, lam, w))})


def _outside(problem: Problem, lam: Any) -> str:
    """Why λ is not in its set; empty where it is."""
    if problem.domain is None:
        return ""
    try:
        problem.domain.require(lam, problem.backend)
    except HypothesisViolated as e:
        return f"{e.what}: {e.measured}, required {e.required}"
    return ""


def _kinks(problem: Problem, lam: Any, w: Any) -> tuple[str, ...]:
    try:
        require_smooth(problem, lam, w)
    except HypothesisViolated as e:
        return (f"{e.what}: {e.measured}",)
    return ()


def _constants(problem: Problem, region: Region) -> tuple[Constants | None, str]:
    if not isinstance(problem, BilevelProblem | FixedPointProblem):
        return None, f"constants are defined for no {type(problem).__name__}"
    try:
        return constants(problem, region), ""
    except (BadInput, HypothesisViolated) as e:
        return None, f"{e.what} ({e.measured})"


def _violations(m: Check, problem: Problem, outside: str) -> tuple[str, ...]:
    rounding = problem.d * 2.0**-52 * abs(m.largest)  # of an eigenvalue computed in double precision
    found = [outside] if outside else []
    if not m.solved:
        found.append(
            f"w does not solve the lower level: ‖r‖ = {m.residual:.3g}, rounding explains {m.floor:.3g}"
        )
    if problem.symmetric and not m.smallest > rounding:
        found.append(
            f"the lower Hessian is not positive definite: its smallest eigenvalue is {m.smallest:.6g}"
        )
    if not problem.symmetric and not m.smallest > rounding:
        found.append(f"I − ∂_wΦ is singular: its smallest singular value is {m.smallest:.3g}")
    if m.contraction is not None and not m.contraction < 1:
        found.append(f"Φ does not contract: ‖∂_wΦ‖ = {m.contraction:.6g} at the point")
    return tuple(found)
