"""The penalty method's floor: what no budget, no inner method and no rate takes from its error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import refimpl as ri
from refimpl.approximate import InnerGaussNewton
from refimpl.approximate.penalty import Inner
from refimpl.solvers import ConjugateGradient
from verification.claims.reweighting._priced import OURS, Priced, point, priced, spent
from verification.instances import EPS
from verification.model import Budget, Claim, Control, Equality, Measurement, reals


@dataclass(frozen=True)
class Penalty:
    """γ = μ of ``of``, and an inner method with its number of steps."""

    of: Priced
    steps: int
    method: str

    @property
    def inner(self) -> Inner:
        if self.method == "CG":
            return InnerGaussNewton(1, ConjugateGradient(self.steps))
        return self.of.inner(self.of.mu, self.steps)


def penalty(params: Mapping[str, Any]) -> Penalty:
    """The instance of ``params``."""
    return Penalty(priced(params), params["steps"], params["method"])


def above(floors: float = 1, residual: float = 1, power: float = 1) -> Callable[[Penalty], Measurement]:
    """(q‖Cλ*‖ − γ‖CH⁻¹‖ε)/(γ + q) against the error; mutants: another floor, the residual ε dropped, another power."""

    def measure(p: Penalty) -> Measurement:
        problem, lam, gamma, q = p.of.problem, np.zeros(2), p.of.mu, p.of.q
        found = ri.approximate.penalty(problem, lam, gamma=gamma, inner=p.inner, check=False)
        exact = ri.exact_hypergradient(problem, lam, certify="never")
        C, H = problem.lower.cross(lam, found.w).dense(), problem.lower.hess_ww(lam, found.w).dense()
        floor = floors * q * float(np.linalg.norm(C @ exact.v)) / (gamma + q) ** power
        left = gamma * float(np.linalg.norm(np.linalg.solve(H, C.T), 2)) * float(found.residual_adjoint or 0)
        # ∇_vg is rounded to eps of its terms; γ carries that into v = −γ∇_vg, and H once more into ε
        size, kappa = float(np.linalg.norm(found.w)), p.of.kappa
        slope = kappa * size + float(np.linalg.norm(problem.lower.grad_w(lam, 0 * found.w)))
        outer = q * kappa**2 * size + float(np.linalg.norm(problem.upper.grad_w(lam, 0 * found.w)))
        return Measurement(
            observed=floor - residual * left / (gamma + q),
            bound=float(np.linalg.norm(found.value - exact.value)),
            rounding=10 * p.of.d * EPS * float(np.linalg.norm(C, 2)) * (gamma * (1 + kappa) * slope + outer),
            detail={"floor": floor, "units": spent(found.calls)},
        )

    return measure


def at(steps: int, method: str, **more: Any) -> dict[str, Any]:
    """Parameters of one instance."""
    return point(q=1.0, mu=10.0, steps=steps, method=method, **more)


CLAIMS = (
    Claim(
        id="reweighting/equal-cost@floor",
        title="No budget takes the penalty method below its floor, which is of the order 1/γ",
        source=OURS,
        statement=r"$$\left\|\nabla_u\tilde f(v) - \nabla f(u)\right\| \ge \frac{q\,\|\nabla^2_{uv}g\,\lambda^*\| - "
        r"\gamma\,\|\nabla^2_{uv}g\,H^{-1}\|\,\|\nabla_v\tilde f(v)\|}{\gamma + q}, \quad Q = qH^2,\ "
        r"\nabla^2_{uv}f = 0$$ wherever an inner method stops.",
        strategy=st.fixed_dictionaries(
            {
                "kappa": reals(1.5, 12),
                "q": reals(0, 4),
                "mu": reals(0.05, 1000, log=True),
                "j": st.just(1),
                "share": reals(0.25, 1.0),
                "d": st.sampled_from([2, 3, 20]),
                "seed": st.integers(0, 99),
                "steps": st.integers(1, 60),
                "method": st.sampled_from(["descent", "CG"]),
            }
        ),
        explicit=(
            at(1, "descent"),
            at(40, "descent", kappa=2.0),
            at(2, "CG"),
            at(5, "CG", d=20),
            at(60, "descent", d=20),
        ),
        build=penalty,
        measure=above(),
        grade="exact",
        controls=(
            Control(
                "the floor while it is on the way",
                kind="formula",
                measure=above(residual=0),
                params=at(38, "descent"),
            ),
            Control("twice the floor", kind="formula", measure=above(floors=2)),
            Control("1/√γ", kind="formula", measure=above(power=0.5)),
        ),
        equality=Equality(params=at(20, "CG", d=20), reaches=0.999),
        budget=Budget(quick=40, full=1000),
        notes="$\\nabla_u\\tilde f$ stands for what the method returns, $\\nabla_uf + \\gamma\\nabla^2_{uv}g\\,"
        "\\nabla_vg$ at $v$. Its error is exactly $\\frac{1}{\\gamma+q}(q\\nabla^2_{uv}g\\,\\lambda^* + "
        "\\gamma\\nabla^2_{uv}g\\,H^{-1}\\nabla_v\\tilde f(v))$: the first term is the floor "
        "(penalty-rate@hypergradient with $S = qI$), the second what the inner method left. On the way the error may "
        "be below the floor; with the inner problem solved it stays there, at whatever budget. Every other method's "
        "error tends to 0 at a fixed setting: descent with conjugate gradients (rate-aid-cg), unrolling (rate-itd), "
        "the augmented Lagrangian at the same $\\mu = \\gamma$, whose first update this is (@cg-inside; by descent "
        "where it converges, @converges). Equality: the inner problem solved.",
    ),
)
