r"""The time scales once more, with an upper level that meets assumption 2 (i) and (iii): its gradient is bounded.

G = ½(w−λ)², F = 100(log cosh(w/10) − ½ log cosh(λ/10)), so that ∂_wF = 10 tanh(w/10), ∂_λF = −5 tanh(λ/10), and
F̄ = 50 log cosh(λ/10) with ∇F̄ = 5 tanh(λ/10), which is below 5. At 0 the step has the 𝒜 of ``theorem_2_time_scales``
with a = 1, c = −½, so where Routh's conditions fail 0 repels. λ cannot run away, as −5 is small beside v's 10: it
goes round a cycle instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st

from refimpl import BilevelProblem
from refimpl.algorithms import FSLA
from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.objective import Objective
from refimpl.operators import Operator, matrix
from refimpl.zoo import quadratic
from verification.claims.dropout_bilevel._scales import only, scales
from verification.claims.dropout_bilevel.theorem_2_time_scales import ROUTH, SOURCE
from verification.model import Budget, Claim, Control, Hypothesis, Measurement

EPS = float(np.finfo(float).eps)
TIME = 400  # Σ α_k of a run


@dataclass(frozen=True)
class Saturated(Objective):
    """100(log cosh(w/10) − ½ log cosh(λ/10)); n = d = 1."""

    backend: Backend

    n = 1
    d = 1
    lead = 0
    leading = ()

    def value(self, lam: Array, w: Array) -> Array:
        return (100 * (np.log(np.cosh(w / 10)) - np.log(np.cosh(lam / 10)) / 2))[..., 0]

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return -5 * np.tanh(lam / 10) + 0 * w

    def grad_w(self, lam: Array, w: Array) -> Array:
        return 10 * np.tanh(w / 10) + 0 * lam

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, (1 / np.cosh(w / 10) ** 2 + 0 * lam)[..., None], symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, (0 * lam * w)[..., None])


@dataclass(frozen=True)
class Cycle:
    """γ and β, the schedule of the steps, and the reading of line h."""

    gamma: float
    beta: float
    delta: float
    schedule: Literal["sqrt", "constant"]
    reading: Literal["new", "old"]

    @property
    def routh(self) -> Any:
        """The least of Routh's numbers at 0."""
        params = {"gamma": 16 * self.gamma, "beta": 16 * self.beta, "delta": 16, "a": 16, "c": -8}
        whole = {name: round(x) for name, x in params.items()}
        return scales({**whole, "reading": self.reading}).routh

    def gradients(self) -> np.ndarray:
        """∇F̄(λ_k) of the algorithm itself from λ = 1, w = v = 0, until Σ α_k is ``TIME``."""
        sqrt = self.schedule == "sqrt"
        steps = math.ceil((TIME / (2 * self.delta)) ** 2 if sqrt else TIME / self.delta)
        lower = quadratic.objective(ww=[[1.0]], lw=[[-1.0]], ll=[[1.0]])
        problem = BilevelProblem(Saturated(Backend()), lower)
        a = FSLA(
            delta=self.delta,
            gamma=self.gamma,
            beta=self.beta,
            eta=1 / self.delta,
            schedule=self.schedule,
            reading=self.reading,
        )
        state = a.init(problem, np.ones(1))
        sample, found = only(a.space(problem)), np.empty(steps)
        for k in range(steps):
            state = a.step(problem, state, sample)
            found[k] = state.lam[0]
        return 5 * np.tanh(found / 10)


def build(params: dict[str, Any]) -> Cycle:
    """γ and β in sixteenths."""
    rest = {name: params[name] for name in ("delta", "schedule", "reading")}
    return Cycle(params["gamma"] / 16, params["beta"] / 16, **rest)


def stays(stated: float = 4.9, *, both: bool = True) -> Callable[[Cycle], Measurement]:
    """The stated number against the largest ∇F̄ and −∇F̄ (``both``: the smaller of these) in the second half."""

    def measure(case: Cycle) -> Measurement:
        values = case.gradients()
        late = values[len(values) // 2 :]
        ends = float(late.max()), float(-late.min())
        bound = min(ends) if both else max(ends)
        return Measurement(observed=stated, bound=bound, rounding=4 * EPS * stated)

    return measure


def _unstable(case: Cycle) -> tuple[bool, str]:
    return case.routh < 0, str(case.routh)


def at(rate: int, **more: Any) -> dict[str, Any]:
    """γ = β = rate/16, constant steps."""
    return {"gamma": rate, "beta": rate, "delta": 1.0, "schedule": "constant", "reading": "new", **more}


CLAIMS = (
    Claim(
        id="dropout-bilevel/theorem-2@time-scales-cycle",
        title="With bounded gradients too a small δ is not enough: a cycle",
        source=SOURCE + ", “there exist small δ”, executed without noise; derived here",
        statement=r"$$F = 100\left(\log\cosh\tfrac{w}{10} - \tfrac12\log\cosh\tfrac{\lambda}{10}\right),\ G = "
        r"\tfrac12(w-\lambda)^2: \quad \max_{K/2 \le k \le K}\nabla\bar F(\lambda_k) \ge 4.9, \ \min_{K/2 \le k \le "
        r"K}\nabla\bar F(\lambda_k) \le -4.9$$ for $\gamma, \beta \le \tfrac14$, from $\lambda_0 = 1$, $w_0 = v_0 = "
        r"0$, with $K$ steps of sum 400, while $\sup\nabla\bar F = 5$",
        hypotheses=(
            Hypothesis("0 repels", r"\text{not } " + ROUTH + r",\ a = 1,\ c = -\tfrac12", _unstable),
        ),
        strategy=st.fixed_dictionaries(
            {
                "gamma": st.integers(2, 4),
                "beta": st.integers(2, 4),
                "delta": st.sampled_from([1.0, 0.5, 0.25]),
                "schedule": st.just("constant"),
                "reading": st.sampled_from(["new", "old"]),
            }
        ),
        explicit=(at(2), at(2, reading="old"), at(2, delta=0.125), at(2, delta=2.0, schedule="sqrt")),
        build=build,
        measure=stays(),
        grade="exact",
        controls=(
            Control("γ = β = 3/2", params=at(24, delta=0.25)),
            Control("5.1 for 4.9", kind="formula", measure=stays(5.1)),
            Control("5.1, at one end", kind="formula", measure=stays(5.1, both=False)),
        ),
        budget=Budget(quick=10, full=100),
        notes="Runs of the algorithm itself in floats, not a proof that the cycle lasts; that 0 repels is Routh's "
        "condition, exact. Assumption 2 holds, assumption 3 with (i) for the gradient, and σ = 0. The steps are "
        "constant, 400/δ of them, or $\\alpha_k = \\delta/\\sqrt{k+1}$. @time-scales proves more for an F that "
        "grows quadratically.",
    ),
)
