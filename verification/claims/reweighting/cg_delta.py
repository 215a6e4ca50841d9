"""(12)–(13) solved to a tolerance δ: three readings of what δ measures, and the hypergradient's error for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.operators import matrix
from refimpl.solvers import ConjugateGradient
from verification.claims.reweighting._shared import spectrum
from verification.instances import EPS, Case, case, cases, point, size, tidy
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement

SOURCE = "reweighting, (12) and (13)"
PRINTED = r"\|w - \nabla^2_{uv}g\,(\nabla^2_{vv}g)^{-1}\big|_{v=v^*(u)}\| \le \delta"


def parts(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """H, C = ∇²_λwG and b = ∇_wF at the lower-level point in use, w_0 (= w(λ) where B = 0)."""
    problem, lam, w = case.problem, case.lam, case.w0
    hessian = problem.residual_w(lam, w).dense()
    return hessian, problem.residual_lam(lam, w).dense().T, problem.upper.grad_w(lam, w)


def adjoint(case: Case, towards: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """An approximate z: k CG steps, or H⁻¹b moved by δ along a random direction, or along ``towards(H, C)``."""
    H, C, b = parts(case)
    if case.params["how"] == "steps":
        return ConjugateGradient(case.k).solve(matrix(case.problem.backend, H, symmetric=True), b).v
    moved = towards(H, C) if case.params["how"] == "worst" else np.cos(1 + np.arange(len(b)))
    return np.linalg.solve(H, b) + case.params["delta"] * moved / size(moved)


def error(case: Case, z: np.ndarray) -> float:
    """‖∇_λF − C z − ∇f(λ)‖."""
    return size(case.problem.hypergradient_at(case.lam, case.w0, z) - case.exact.value)


def _top_right(M: np.ndarray) -> np.ndarray:
    """The direction that M stretches most."""
    return np.linalg.svd(M)[2][0]


def rounding(case: Case, z: np.ndarray) -> float:
    """The exact answer's, and 10·d·eps of the products with this z and its residual, amplified by ‖C‖/μ at most."""
    H, C, b = parts(case)
    mu = spectrum(case)[0]
    terms = size(C) * (size(z) + (size(H) * size(z) + size(b)) / mu)
    return case.rounding + 10 * case.problem.d * EPS * terms


def by_residual(scale: Callable[[float, float], float] = lambda mu, L: mu) -> Callable[[Case], Measurement]:
    """δ = ‖b − Hz‖: error against ‖C‖δ/μ."""

    def measure(case: Case) -> Measurement:
        H, C, b = parts(case)
        z = adjoint(case, lambda H, C: np.linalg.solve(H, _top_right(C @ np.linalg.inv(H))))
        delta = size(b - H @ z)
        bound = float(np.linalg.norm(C, 2)) * delta / scale(*spectrum(case))
        return Measurement(
            observed=error(case, z), bound=bound, rounding=rounding(case, z), detail={"delta": delta}
        )

    return measure


def by_vector(
    cross: Callable[[np.ndarray], float] = lambda C: float(np.linalg.norm(C, 2)),
) -> Callable[[Case], Measurement]:
    """δ = ‖z − H⁻¹b‖: error against ‖C‖δ."""

    def measure(case: Case) -> Measurement:
        H, C, b = parts(case)
        z = adjoint(case, lambda H, C: _top_right(C))
        delta = size(z - np.linalg.solve(H, b))
        return Measurement(
            observed=error(case, z),
            bound=cross(C) * delta,
            rounding=rounding(case, z),
            detail={"delta": delta},
        )

    return measure


def by_matrix(gradient: Callable[[np.ndarray], float] = size) -> Callable[[Case], Measurement]:
    """δ = ‖W − CH⁻¹‖ for a matrix W: error of ∇_λF − W b against δ‖b‖."""

    def measure(case: Case) -> Measurement:
        H, C, b = parts(case)
        target = np.linalg.solve(H, C.T).T
        if case.params["how"] == "steps":  # one system per row, all at once
            W = ConjugateGradient(case.k).solve(matrix(case.problem.backend, H, symmetric=True), C).v
        else:
            right = b if case.params["how"] == "worst" and size(b) > 0 else np.cos(1 + np.arange(len(b)))
            left = np.cos(np.arange(len(C)))
            W = target + case.params["delta"] * np.outer(left, right) / (size(left) * size(right))
        delta = float(np.linalg.norm(W - target, 2))
        value = case.problem.upper.grad_lam(case.lam, case.w0) - W @ b
        mu = spectrum(case)[0]
        extra = 10 * case.problem.d * EPS * size(b) * (size(W) + size(H) * size(C) / mu**2)
        return Measurement(
            observed=size(value - case.exact.value),
            bound=delta * gradient(b),
            rounding=case.rounding + extra,
            detail={"delta": delta},
        )

    return measure


def _solved(case: Case) -> tuple[bool, Any]:
    gap = size(case.w0 - case.exact.w)
    return gap == 0, gap


SOLVED = Hypothesis("lower level solved", r"v = v^*(u)", _solved)
KINDS = ("well", "eigenvector", "quadratic", "logistic")


def start(kind: str, how: str = "worst", **more: Any) -> dict[str, Any]:
    """Parameters of one case at w(λ), z moved in the worst direction by default."""
    return {**point(kind, B=0.0), "how": how, "delta": 1.0, **more}


STRATEGY = st.builds(
    lambda p, how, delta: {**p, "B": 0.0, "how": how, "delta": delta},
    cases(KINDS, k=6),
    st.sampled_from(("steps", "worst", "random")),
    st.floats(0, 4).map(lambda x: tidy(10**-x)),
)
EXPLICIT = (
    start("well"),
    start("eigenvector", d=2),
    start("eigenvector", "steps", d=2, k=1),
    start("quadratic", d=3, n=2, upper="quadratic"),
)
UNSOLVED = start("quadratic", "steps", n=2, d=2, k=2, B=1.0, upper="product")


def reading(
    id: str, title: str, statement: str, measure: Any, mutants: Mapping[str, Any], note: str
) -> Claim:
    """The claim of one reading of δ."""
    return Claim(
        id=f"reweighting/cg-delta@{id}",
        title=title,
        source=SOURCE,
        statement=statement,
        printed=PRINTED,
        hypotheses=(SOLVED,),
        strategy=STRATEGY,
        explicit=EXPLICIT,
        build=case,
        measure=measure,
        grade="exact",
        controls=(
            Control("lower level not solved", params=UNSOLVED),
            *(Control(name, kind="formula", measure=mutant) for name, mutant in mutants.items()),
        ),
        equality=Equality(params=start("eigenvector", d=2), reaches=0.999),
        budget=Budget(quick=150, full=1000),
        notes=note,
    )


CLAIMS = (
    reading(
        "residual",
        "Reading δ as the residual of the adjoint system",
        r"$$\|\nabla_vf - Hz\| \le \delta$$ $$\;\Rightarrow\; \|\nabla_uf - \nabla^2_{uv}g\, z - \nabla "
        r"f(u)\| \le \frac{\|\nabla^2_{uv}g\|}{\mu}\,\delta$$",
        by_residual(),
        {
            "L for μ": by_residual(lambda mu, L: L),
            "√(μL) for μ": by_residual(lambda mu, L: (mu * L) ** 0.5),
        },
        "The error is $CH^{-1}(b - Hz)$, so $\\|CH^{-1}\\|\\delta$ is sharper and attained by every "
        "instance. The only reading whose $\\delta$ an algorithm can measure. Equality: the residual an "
        "eigenvector to $\\mu$.",
    ),
    reading(
        "vector",
        "Reading δ as the distance of z from the adjoint",
        r"$$\|z - H^{-1}\nabla_vf\| \le \delta$$ $$\;\Rightarrow\; \|\nabla_uf - \nabla^2_{uv}g\, z - \nabla "
        r"f(u)\| \le \|\nabla^2_{uv}g\|\,\delta$$",
        by_vector(),
        {
            "norm of ∇²_{uv}g dropped": by_vector(lambda C: 1.0),
            "smallest singular value": by_vector(lambda C: float(np.linalg.svd(C)[1][-1])),
        },
        "(12) with the vector $H^{-1}\\nabla_vf$ in place of the matrix: what (13) minimises once "
        "$\\nabla_vf$ stands in its linear term. Equality: $z - H^{-1}b$ along the first right singular "
        "vector of $\\nabla^2_{uv}g$.",
    ),
    reading(
        "matrix",
        "Reading δ as the distance of a matrix W from the one in (12)",
        r"$$\|W - \nabla^2_{uv}g\,H^{-1}\| \le \delta$$ $$\;\Rightarrow\; \|\nabla_uf - W\nabla_vf - \nabla "
        r"f(u)\| \le \delta\,\|\nabla_vf\|$$",
        by_matrix(),
        {
            "norm of ∇_vf dropped": by_matrix(lambda b: 1.0),
            "half of it": by_matrix(lambda b: size(b) / 2),
        },
        "(12) read literally, with $w$ a matrix of $n$ rows: $n$ systems in place of one. Equality: $W - "
        "CH^{-1}$ of rank one with $\\nabla_vf$ on its right.",
    ),
)
