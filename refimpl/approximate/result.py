"""What an approximation returns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import to_numpy
from refimpl.arrays.backend import Array
from refimpl.counting import uncounted
from refimpl.errors import BadInput
from refimpl.exact import Hypergradient, ImprovedHypergradient
from refimpl.objective import Map
from refimpl.problem import Problem
from refimpl.solvers.lower import require_finite


@dataclass(frozen=True, eq=False)
class Approximation:
    """An approximate hypergradient; always of kind "estimated".

    value (..., n); w (..., d) the lower iterate used; v (..., d) the adjoint iterate, None for unrolled methods.
    residual_lower = ‖r(λ, w)‖; residual_adjoint = ‖∇_wF − (∂_w r)ᵀ v‖ at w, None without v.
    calls: derivative calls by quantity, residual checks not counted (see ``refimpl.counting``).
    curve: ‖value_i − exact‖ per iterate i of the method, where ``exact`` was given; its index is the method's.
    """

    value: Array
    w: Array
    v: Array | None
    residual_lower: Array
    residual_adjoint: Array | None
    calls: dict[str, int]
    curve: Array | None
    kind: str = "estimated"


def finished(
    problem: Problem,
    lam: Array,
    value: Array,
    w: Array,
    tally: Counter[str],
    *,
    v: Array | None = None,
    adjoint_residual: Array | None = None,
    curve: Array | None = None,
) -> Approximation:
    """The result with its residuals, which cost no calls, not even where the caller counts ``problem``'s.

    ``Diverged`` where the value is not finite: finite iterates may be too large for a derivative through them.
    """
    require_finite(problem.backend, value, "the hypergradient")
    problem = problem.with_level(uncounted(problem.level))
    return Approximation(
        value=value,
        w=w,
        v=v,
        residual_lower=_norm(problem, problem.residual(lam, w)),
        residual_adjoint=None if adjoint_residual is None else _norm(problem, adjoint_residual),
        calls=dict(sorted(tally.items())),
        curve=curve,
    )


def _norm(problem: Problem, x: Array) -> Any:
    """Euclidean norm; over the rationals, where square roots do not stay, floats within rounding of it."""
    B = problem.backend
    return np.sqrt(to_numpy(B.dot(x, x))) if B.exact else B.norm(x)


EXAMPLES = {  # of every kind of solver that is asked for
    "LowerSolver": "lower=refimpl.solvers.Newton()",
    "Iteration": "lower=refimpl.solvers.GradientDescent(100)",
    "LinearSolver": "linear=refimpl.solvers.ConjugateGradient(20)",
    "Inner": "inner=refimpl.approximate.InnerGaussNewton(), or InnerDescent(steps, step) there",
}


def require_solvers(*pairs: Any) -> None:
    """Every even argument is an instance of the class after it; else ``BadInput``."""
    for given, kind in zip(pairs[::2], pairs[1::2], strict=True):
        if not isinstance(given, kind):
            name = ("an " if kind.__name__[0] in "AEIOU" else "a ") + kind.__name__
            raise BadInput(
                f"not {name}",
                measured=repr(given)[:80],
                required=f"{name} of {'.'.join(kind.__module__.split('.')[:2])}",
                advice=f"{EXAMPLES[kind.__name__]}, for example",
            )


def start_point(problem: Problem, lam: Array, w0: Any) -> tuple[Array, Map | None]:
    """w_0 and, where it depends on λ, its map: ``w0`` is None (the origin), an array (..., d), or a Map Φ_0(λ)."""
    origin = problem.w(None)
    if isinstance(w0, Map):
        if (w0.n, w0.d) != (problem.n, problem.d):
            raise BadInput(
                "the starting map does not fit the problem",
                measured=f"n = {w0.n}, d = {w0.d}",
                required=f"n = {problem.n}, d = {problem.d}",
                advice="w0 = λ (solvers.IdentityStart) needs n = d",
            )
        return w0.value(lam, origin), w0
    return problem.w(w0), None


def reference(problem: Problem, exact: Any) -> Array | None:
    """The value that iterates are compared with, (..., n), from ``exact=``; None where none was given.

    ``exact`` is a result of ``exact_hypergradient`` or ``improved_hypergradient``, or such a value.
    """
    if exact is None:
        return None
    if isinstance(exact, Hypergradient | ImprovedHypergradient):
        if exact.w.shape[-1] != problem.d:
            raise BadInput(
                "exact is another problem's hypergradient",
                measured=f"its w has {exact.w.shape[-1]} variables",
                required=f"d = {problem.d}",
                advice="exact=exact_hypergradient(problem, lam), or leave it out",
            )
        exact = exact.value
    return problem.backend.vector(exact, problem.n, "exact")


def errors_against(problem: Problem, exact: Array, values: Array) -> Array:
    """‖values[i] − exact‖ along the first axis."""
    if exact.ndim > 1 and exact.shape != values.shape[1:]:
        raise BadInput(
            "exact does not fit the result",
            measured=f"exact {tuple(exact.shape)}, value {tuple(values.shape[1:])}",
            required="one vector (n,), or one for each entry of the leading axes",
            advice="ask for exact_hypergradient(problem, lam) at the same lam",
        )
    return _norm(problem, values - exact)
