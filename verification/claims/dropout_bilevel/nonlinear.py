"""(12) and (13) on problems that are not quadratic, against the complex step through the lower level's solution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import exact_hypergradient
from refimpl.arrays import to_numpy
from refimpl.bounds import Region
from refimpl.exact import solution_jacobian
from refimpl.problem import BilevelProblem
from refimpl.zoo import logistic, uppers
from verification.claims.dropout_bilevel._masks import PARTS, Law, law
from verification.instances import EPS, size
from verification.model import Budget, Claim, Control, Measurement

H = 1e-30  # of the complex step, whose own error is H² times a third derivative: less than H
STEPS = 4  # each takes the imaginary part's error to its rounding, once the real part is solved


@dataclass(frozen=True)
class Smooth:
    """Logistic regression with learnt log-penalties below a log-cosh upper level, both under dropout."""

    plain: BilevelProblem
    noisy: BilevelProblem
    law: Law
    lam: np.ndarray

    @cached_property
    def exact(self) -> Any:
        return exact_hypergradient(self.noisy, self.lam, certify="never")

    @property
    def masks(self) -> tuple[np.ndarray, np.ndarray]:
        """P(m_w) and m_w of every mask of w: (K,), (K, d)."""
        chances, _, of_w = self.law.literal
        return to_numpy(chances), to_numpy(of_w)

    @cached_property
    def hessian(self) -> np.ndarray:
        return np.asarray(self.noisy.lower.hess_ww(self.lam, self.exact.w).dense())

    @cached_property
    def stepped(self) -> tuple[np.ndarray, np.ndarray]:
        """λ + iH e_j and w at it, for every j; a fixed point of the iteration has ∇_wḠ = 0, whatever matrix it uses."""
        lam = self.lam + 1j * H * np.eye(len(self.lam))
        w = self.exact.w + 0j * np.zeros((len(self.lam), self.noisy.d))
        for _ in range(STEPS):
            w = w - np.linalg.solve(self.hessian, self.noisy.lower.grad_w(lam, w).T).T
        return lam, w

    @cached_property
    def jacobian(self) -> np.ndarray:
        """dw/dλ, d x n."""
        return np.imag(self.stepped[1]).T / H

    @cached_property
    def total_derivative(self) -> np.ndarray:
        return np.imag(self.noisy.upper.value(*self.stepped)) / H

    @cached_property
    def rounding(self) -> tuple[float, float]:
        """What float64 may add to J and to ∇F̄: 10·d·eps of every quantity, amplified by κ = L/μ.

        w is off by κ(1 + ‖w‖) of these units, which moves ∇²_ww and ∇²_λw by their Lipschitz constants times that.
        """
        lower, point = self.noisy.lower, Region(self.lam, self.exact.w)
        bounds, unit = lower.bounds(point), 10 * self.noisy.d * EPS
        mu = float(np.linalg.eigvalsh(self.hessian)[0])
        off = unit * bounds.hess_ww / mu * (1 + size(self.exact.w))
        jac, cross = size(self.jacobian), size(lower.cross(self.lam, self.exact.w).dense())
        relative = unit * bounds.hess_ww / mu + bounds.hess_ww_by_w * off / mu
        of_jac = relative * jac + (unit * cross + bounds.cross_by_w * off) / mu + H
        upper = self.noisy.upper.bounds(point)
        return of_jac, upper.grad_w * of_jac + jac * (unit * upper.grad_w + upper.hess_ww * off) + H


def build(params: Mapping[str, Any]) -> Smooth:
    """Keep probabilities in eighths for λ's penalties and for w, the same at both levels."""
    d, seed = params["d"], params["seed"]
    problem = logistic.random(d=d, seed=seed, per_feature=bool(params["per_feature"]))
    n, rng = problem.n, np.random.default_rng([seed, 1])
    upper = uppers.log_cosh(rng.standard_normal((d + 1, d)), rng.standard_normal(d + 1), n=n)
    plain = BilevelProblem(upper, problem.lower)
    of = law({**params, "n": n})
    noisy = plain.with_dropout(lower=of.level, upper=of.level)
    return Smooth(plain, noisy, of, np.full(n, -1.0))


def formula_13(case: Smooth, problem: BilevelProblem, sign: int = -1) -> np.ndarray:
    """−(∇²_ww)⁻¹ (∇²_λw)ᵀ of ``problem``'s lower level at (λ, w(λ)), d x n."""
    at = (case.lam, case.exact.w)
    C = problem.lower.cross(*at).dense()
    return sign * np.linalg.solve(problem.lower.hess_ww(*at).dense(), C.T)


def compared(found: list[np.ndarray], expected: np.ndarray, rounding: float) -> Measurement:
    """The farthest of what is stated from what the complex step says."""
    gap = max(size(f - expected) for f in found)
    return Measurement(observed=gap, bound=0.0, rounding=rounding, detail={"scale": size(expected)})


def jacobian(plain: bool = False, sign: int = -1) -> Callable[[Smooth], Measurement]:
    """(13), and what the library returns."""

    def measure(case: Smooth) -> Measurement:
        found = [formula_13(case, case.plain if plain else case.noisy, sign)]
        if not plain and sign < 0:
            found.append(solution_jacobian(case.noisy, case.lam))
        return compared(found, case.jacobian, case.rounding[0])

    return measure


def mean(plain: bool = False, outer: bool = True) -> Callable[[Smooth], Measurement]:
    """E_M of (12), mask by mask, and the library's hypergradient."""

    def measure(case: Smooth) -> Measurement:
        J = formula_13(case, case.plain if plain else case.noisy)
        chances, m = case.masks
        g = case.plain.upper.grad_w(case.lam, m * case.exact.w)
        value = chances @ ((m * g if outer else g) @ J)
        found = [value] + ([case.exact.value] if outer and not plain else [])
        return compared(found, case.total_derivative, case.rounding[1])

    return measure


STRATEGY = st.fixed_dictionaries(
    {
        "d": st.integers(1, 3),
        "seed": st.integers(0, 999),
        "per_feature": st.integers(0, 1),
        "keep_lam": st.lists(st.integers(1, PARTS), min_size=3, max_size=3),
        "keep_w": st.lists(st.integers(1, PARTS), min_size=3, max_size=3),
        "groups_w": st.sampled_from([[0, 1, 2], [0, 0, 1], [0, 0, 0]]),
    }
)


def _at(d: int, per_feature: int = 0) -> dict[str, Any]:
    return {"d": d, "seed": 0, "per_feature": per_feature, "keep_lam": [4, 6, 8], "keep_w": [4, 6, 3]}


SHARED: dict[str, Any] = {
    "strategy": STRATEGY,
    "explicit": (_at(1), _at(2), _at(2, 1), _at(3, 1)),
    "build": build,
    "grade": "exact",
    "budget": Budget(quick=40, full=800),
}

CLAIMS = (
    Claim(
        id="dropout-bilevel/prop-1-jacobian@nonlinear",
        title="The Jacobian of the dropout problem's lower solution, where it is not affine",
        source="dropout-bilevel, (13)",
        statement=r"J(w(\lambda)) = -\left(\nabla^2_{ww}\bar G\right)^{-1}\left(\nabla^2_{\lambda w}\bar "
        r"G\right)^\top",
        measure=jacobian(),
        controls=(
            Control("G for Ḡ", kind="formula", measure=jacobian(plain=True)),
            Control("sign", kind="formula", measure=jacobian(sign=1)),
        ),
        notes="Masked logistic regression, masks enumerated. The judge is the complex step through an "
        "iteration whose fixed points have $\\nabla_w\\bar G = 0$: it uses gradients only, of complex "
        "arguments.",
        **SHARED,
    ),
    Claim(
        id="dropout-bilevel/eq-12@nonlinear",
        title="The mean of the masked hypergradients, on a problem that is not quadratic",
        source="dropout-bilevel, (11) and (12)",
        statement=r"E_M\nabla F_M(\lambda) = \nabla\bar F(\lambda)",
        measure=mean(),
        controls=(
            Control("J of the plain G", kind="formula", measure=mean(plain=True)),
            Control("outer M missing", kind="formula", measure=mean(outer=False)),
        ),
        notes="As @nonlinear of prop-1-jacobian, through the value of $\\bar F$ at $w(\\lambda + ihe_j)$. "
        "The upper level does not see λ itself; eq-12 over the rationals has that term.",
        **SHARED,
    ),
)
