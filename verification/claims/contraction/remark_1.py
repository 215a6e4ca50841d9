"""Remark 1 (i) and (iii): ridge regression, the penalty λ as upper variable, in rational arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl import FixedPointProblem, exact_hypergradient
from refimpl.arrays.backend import Array
from refimpl.exact import solve_lower
from refimpl.zoo import ridge
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement


@dataclass(frozen=True)
class Ridge:
    """G = ‖Xw − y‖²/(2N) + λ‖w‖²/2 through Φ = w − η∇_wG, a vector u, and a floor λ_min; all rational."""

    problem: FixedPointProblem
    X: Array
    y: Array
    u: Array
    lam: Array
    step: fmpq
    lowest: fmpq

    @property
    def pull(self) -> fmpq:
        """ηλ: by how much Φ contracts along the kernel of X."""
        return self.step * self.lam[0]


def build(p: dict[str, Any]) -> Ridge:
    """X has the given integer ``rows``, projected onto the complement of u (times ‖u‖²) where ``project``."""
    u, X = np.array(p["u"], dtype=float), np.array(p["rows"], dtype=float)
    if p["project"]:
        X = X * (u @ u) - np.outer(X @ u, u)
    y = np.array(p["y"], dtype=float)
    minimisation = ridge.problem(X, y, np.eye(len(u)), u + 1)
    problem = minimisation.as_fixed_point(p["step"]).to("rational")
    B = problem.backend
    X, y, u, lam = (B.asarray(x) for x in (X, y, u, np.array([p["lam"]])))
    return Ridge(problem, X, y, u, lam, B.scalar(p["step"]), B.scalar(p["lowest"]))


def square(x: Array) -> fmpq:
    """‖x‖², exactly."""
    return sum((e * e for e in x.ravel()), fmpq(0))


# -- (i) --------------------------------------------------------------------------------------------


def along_kernel(one: Ridge, factor: Callable[[Ridge], fmpq] = lambda one: 1 - one.pull) -> Measurement:
    """(1 − ηλ)²‖u‖² <= ‖∂₁Φ u‖²: with Xu = 0 an equality."""
    moved = one.problem.phi.d_w(one.lam, 0 * one.u) @ one.u
    return Measurement(observed=factor(one) ** 2 * square(one.u), bound=square(moved))


def adjoint_along_kernel(one: Ridge, divisor: Callable[[Ridge], fmpq] = lambda one: one.pull) -> Measurement:
    """(∇₁E·u)²/(ηλ)² <= ‖v‖²‖u‖²."""
    exact = exact_hypergradient(one.problem, one.lam)
    slope = one.problem.upper.grad_w(one.lam, exact.w)
    inner = one.problem.backend.dot(slope, one.u)
    return Measurement(observed=inner**2 / divisor(one) ** 2, bound=square(exact.v) * square(one.u))


def _in_kernel(one: Ridge) -> tuple[bool, str]:
    outside = square(one.problem.backend.matvec(one.X, one.u))
    return bool(outside == 0 and square(one.u) > 0), f"‖Xu‖² = {outside}"


# -- (iii) ------------------------------------------------------------------------------------------


def path_bound(one: Ridge) -> fmpq:
    """η²‖y‖²/(4Nλ_min), the square of the bound of ‖∂₂Φ(w(λ), λ)‖ = η‖w(λ)‖."""
    return one.step**2 * square(one.y) / (4 * len(one.y) * one.lowest)


def on_path(
    one: Ridge,
    bound: Callable[[Ridge], fmpq] = path_bound,
    place: Callable[[Ridge], Array] = lambda one: solve_lower(one.problem, one.lam).w,
) -> Measurement:
    """‖∂₂Φ‖² at w(λ), or at another place, against the square of its bound."""
    jacobian = one.problem.phi.d_lam(one.lam, place(one)).dense()
    return Measurement(observed=square(jacobian), bound=bound(one))


def far(one: Ridge) -> Array:
    """A point off the path at which ∂₂Φ exceeds the bound, as some point must for any bound: ∂₂Φ = −ηw."""
    return one.u + 1 + path_bound(one) / one.step**2


def _squared_floor(one: Ridge) -> fmpq:
    return path_bound(one) / one.lowest


def _above_floor(one: Ridge) -> tuple[bool, str]:
    return bool(one.lam[0] >= one.lowest > 0), f"λ = {one.lam[0]}, λ_min = {one.lowest}"


_entry = st.integers(-4, 4)


def _rows(d: int) -> st.SearchStrategy[dict[str, Any]]:
    row = st.lists(_entry, min_size=d, max_size=d)
    eighths = st.integers(1, 64).map(lambda k: k / 8)
    return st.integers(1, 3).flatmap(
        lambda N: st.fixed_dictionaries(
            {
                "rows": st.lists(row, min_size=N, max_size=N),
                "y": st.lists(_entry, min_size=N, max_size=N),
                "u": row.filter(any),
                "project": st.booleans(),
                "lam": eighths,
                "lowest": eighths,
                "step": eighths,
            }
        )
    )


RANDOM = st.integers(1, 3).flatmap(_rows)
KERNEL = RANDOM.map(lambda p: {**p, "project": True})
PATH = RANDOM.map(lambda p: {**p, "lowest": min(p["lam"], p["lowest"]), "lam": max(p["lam"], p["lowest"])})

# d = 1: X = 0 has the kernel R
FLAT = {"rows": [[0.0]], "y": [1.0], "u": [1.0], "project": True, "lam": 0.125, "lowest": 0.125, "step": 0.5}
FULL = {**FLAT, "rows": [[1.0]], "project": False, "lam": 0.5}
TIGHT = {**FULL, "rows": [[1.0], [1.0]], "y": [1.0, 1.0], "lam": 1.0, "lowest": 1.0}  # singular value² = Nλ
KERNEL_TEX = Hypothesis("a flat direction", r"Xu=0,\;u\ne0", _in_kernel)

CLAIMS = (
    Claim(
        id="contraction/remark-1-i",
        title="A contraction uniform in the penalty λ needs λ bounded away from zero",
        source="contraction, Remark 1 (i); the formulas in it are lost",
        statement=r"Xu=0\;\Rightarrow\;\|\partial_1\Phi(w,\lambda)\|\ge|1-\eta\lambda|,\quad\text{so A(i) on "
        r"}\Lambda\text{ forces }\lambda\ge\frac{1-q}{\eta}\text{ for every }\lambda\in\Lambda",
        hypotheses=(KERNEL_TEX,),
        strategy=KERNEL,
        explicit=(FLAT, {**FLAT, "rows": [[1.0, 0.0]], "u": [0.0, 1.0]}),
        build=build,
        measure=along_kernel,
        grade="proved",
        controls=(
            Control("full rank", params=FULL),
            Control("1 + ηλ", kind="formula", measure=lambda one: along_kernel(one, lambda o: 1 + o.pull)),
            Control(
                "without the step η",
                kind="formula",
                measure=lambda one: along_kernel(one, lambda o: 1 - o.lam[0]),
            ),
        ),
        equality=Equality(params=FLAT, reaches=1.0),
        budget=Budget(quick=200, full=4000),
        notes=r"$\partial_1\Phi u=(I-\eta(X^{\top}X/N+\lambda))u=(1-\eta\lambda)u$, exactly. Hence "
        r"$\kappa_q\ge1/(\eta\lambda)\to\infty$ and no constant of Lemma 3 is uniform on "
        r"$\Lambda=(0,\infty)$. The remark needs a flat direction: with $X$ of full rank $\lambda=0$ is as "
        r"good as any (the control). Two things it does not say: at a fixed step $\lambda$ must also stay "
        r"below $(1+q)/\eta-L_0$, and for ridge itself $w'(\lambda)$ stays bounded, because "
        r"$w(\lambda)\perp\ker X$; it is the constants that blow up, and the adjoint (reading adjoint).",
    ),
    Claim(
        id="contraction/remark-1-i@adjoint",
        title="Not only the constants blow up: the adjoint does, like 1/λ",
        source="contraction, Remark 1 (i), sharpened here",
        statement=r"Xu=0\;\Rightarrow\;\|v(\lambda)\|\ge\frac{|\langle\nabla_1E,u\rangle|}{\eta\lambda\|u\|}",
        hypotheses=(KERNEL_TEX,),
        strategy=KERNEL,
        explicit=(FLAT, {**FLAT, "rows": [[1.0, 0.0]], "u": [0.0, 1.0]}),
        build=build,
        measure=adjoint_along_kernel,
        grade="proved",
        controls=(
            Control("full rank", params=FULL),
            Control(
                "without the step η (v for v_Φ)",
                kind="formula",
                measure=lambda one: adjoint_along_kernel(one, lambda o: o.lam[0]),
                params={**FLAT, "step": 2.0},
            ),
            Control(
                "1/(ηλ)²", kind="formula", measure=lambda one: adjoint_along_kernel(one, lambda o: o.pull**2)
            ),
        ),
        equality=Equality(params=FLAT, reaches=1.0),
        budget=Budget(quick=120, full=2400),
        notes=r"$\langle\nabla_1E,u\rangle=\langle v,(I-\partial_1\Phi)u\rangle=\eta\lambda\langle "
        r"v,u\rangle$. So $\|v\|\le L_E\kappa_q$ cannot hold with one $\kappa_q$ for all $\lambda>0$. "
        r"Equality where $v\parallel u$.",
    ),
    Claim(
        id="contraction/remark-1-iii",
        title="The derivative ∂₂Φ is bounded along the solution path of ridge regression though it is unbounded in w",
        source="contraction, Remark 1 (iii); the formulas in it are lost",
        statement=r"\lambda\ge\lambda_{\min}>0\;\Rightarrow\;\|\partial_2\Phi(w(\lambda),\lambda)\|=\eta\|w(\lambda)\|"
        r"\le\frac{\eta\|y\|}{2\sqrt{N\lambda_{\min}}},\qquad\sup_w\|\partial_2\Phi(w,\lambda)\|=\sup_w\eta\|w\|=\infty",
        hypotheses=(Hypothesis("the penalty's floor", r"\lambda\ge\lambda_{\min}>0", _above_floor),),
        strategy=PATH,
        explicit=({**FULL, "lowest": 0.5}, TIGHT),
        build=build,
        measure=on_path,
        grade="proved",
        controls=(
            Control("λ below λ_min", params={**FULL, "rows": [[0.5]], "lam": 0.25, "lowest": 1.0}),
            Control("uniformly in w", kind="formula", measure=lambda one: on_path(one, place=far)),
            Control(
                "¼ for ½",
                kind="formula",
                measure=lambda one: on_path(one, lambda o: path_bound(o) / 4),
            ),
            Control(
                "sum for mean",
                kind="formula",
                measure=lambda one: on_path(one, lambda o: path_bound(o) / len(o.y)),
            ),
            Control(
                "λ_min for its square root", kind="formula", measure=lambda one: on_path(one, _squared_floor)
            ),
        ),
        equality=Equality(params=TIGHT, reaches=1.0),
        budget=Budget(quick=200, full=4000),
        notes=r"The document argues by compactness of $\Lambda$; for ridge the bound is explicit and needs "
        r"none: in the singular values $s$ of $X$, $w(\lambda)$ has the coefficients "
        r"$s/(s^2+N\lambda)\cdot\langle y,\cdot\rangle$, and $s/(s^2+N\lambda)\le1/(2\sqrt{N\lambda})$ with "
        r"equality at $s^2=N\lambda$. Squares are compared, exactly. The uniform reading is the control that "
        r"fails: $\partial_2\Phi(w,\lambda)=-\eta w$.",
    ),
)
