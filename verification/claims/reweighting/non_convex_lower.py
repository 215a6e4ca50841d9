"""(18) with a lower level that is not convex: ∇_vg = 0 admits maximisers, and the penalty method ends at one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flint import fmpq
from hypothesis import strategies as st

import refimpl as ri
from refimpl import BilevelProblem
from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import HypothesisViolated
from refimpl.objective import Objective
from refimpl.operators import Operator, matrix
from refimpl.zoo.quadratic import Quadratic
from verification.claims.reweighting._penalty import fraction, ratio, rational, square
from verification.claims.reweighting._systems import RATIONAL
from verification.model import Budget, Claim, Control, Correction, Hypothesis, Measurement

SOURCE = "reweighting, (18)"


@dataclass(frozen=True)
class Wells(Objective):
    """g with g'(v) = (v − a)(v − b)(v − c): of fourth degree, bounded below; d = 1, and no λ in it."""

    roots: Array
    backend: Backend = Backend()

    n, d, lead = 1, 1, 0

    def value(self, lam: Array, w: Array) -> Array:
        (a, b, c), v = self.roots, w[..., 0]
        pairs = a * b + b * c + a * c
        return v**4 / 4 - (a + b + c) * v**3 / 3 + pairs * v**2 / 2 - a * b * c * v

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return 0 * w

    def grad_w(self, lam: Array, w: Array) -> Array:
        a, b, c = self.roots
        return (w - a) * (w - b) * (w - c)

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        a, b, c = self.roots
        second = (w - a) * (w - b) + (w - b) * (w - c) + (w - a) * (w - c)
        return matrix(self.backend, second[..., None], symmetric=True)

    def cross(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, 0 * w[..., None])


@dataclass(frozen=True)
class Trapped:
    """f = (v − x)²/2 with x a stationary point of g: x is where f̃ = 0, its least value, for every γ."""

    problem: BilevelProblem
    x: Array
    gamma: fmpq

    @cached_property
    def lam(self) -> Array:
        return RATIONAL.zeros((1,))

    def run(self, check: bool) -> Any:
        """The package's penalty method, begun at x."""
        return ri.approximate.penalty(
            self.problem, self.lam, gamma=fraction(self.gamma), w0=self.x, check=check
        )

    @property
    def curvature(self) -> fmpq:
        """g'' where the unchecked method ends."""
        return self.problem.lower.hess_ww(self.lam, self.run(check=False).w).dense()[0, 0]

    @property
    def refused(self) -> bool:
        try:
            self.run(check=True)
        except HypothesisViolated:
            return True
        return False


def trapped(params: Mapping[str, Any]) -> Trapped:
    """Roots in any order; x is the one that ``pick`` numbers in their order, ``beside`` away from it."""
    roots = sorted(params["roots"])
    x = rational([roots[params["pick"]] + params.get("beside", 0)])
    zero = RATIONAL.zeros
    upper = Quadratic(
        RATIONAL.eye(1)[None], zero((1, 1, 1)), zero((1, 1, 1)), -x[None], zero((1, 1)), backend=RATIONAL
    )
    lower = Wells(rational(roots), backend=RATIONAL)
    return Trapped(BilevelProblem(upper, lower), x, ratio(params["gamma"]))


def at_a_minimum(t: Trapped) -> Measurement:
    """−g''(v_γ) <= 0."""
    return Measurement(observed=-t.curvature, bound=0)


def told_apart(
    test: Callable[[Trapped], bool] = lambda t: t.refused, strict: bool = True
) -> Callable[[Trapped], Measurement]:
    """Is the method's end refused exactly where g'' <= 0 there?"""

    def measure(t: Trapped) -> Measurement:
        bad = t.curvature <= 0 if strict else t.curvature < 0
        return Measurement(observed=abs(int(test(t)) - int(bad)), bound=0, detail={"g''": str(t.curvature)})

    return measure


def _least(t: Trapped) -> tuple[bool, Any]:
    """f̃ − f̃'s least value: f = ((v − x)² − x²)/2, so that is −x²/2."""
    w = t.run(check=False).w
    value = t.problem.upper.value(t.lam, w) + t.gamma / 2 * square(t.problem.lower.grad_w(t.lam, w))
    return value + square(t.x) / 2 == 0, str(value + square(t.x) / 2)


def wells(roots: list[int], pick: int, gamma: tuple[int, int] = (1, 1), **more: Any) -> dict[str, Any]:
    """Parameters of one instance."""
    return {"roots": roots, "pick": pick, "gamma": list(gamma), **more}


STRATEGY = st.builds(
    lambda a, b, c, pick, gamma: wells([a, b, c], pick, (gamma, 1)),
    *[st.integers(-3, 3)] * 3,
    st.integers(0, 2),
    st.sampled_from((1, 10, 1000)),
)
LEAST = Hypothesis("global minimiser", r"\tilde f(v_\gamma) = \min\tilde f", _least)
EXPLICIT = (wells([-1, 0, 1], 0), wells([-1, 0, 2], 2, (1000, 1)), wells([-1, 0, 1], 1))

CLAIMS = (
    Claim(
        id="reweighting/non-convex-lower",
        title="Reading (18) as the lower level for a g that is not convex",
        source=SOURCE,
        statement=r"$$g \text{ bounded below},\ v_\gamma = \mathrm{argmin}_v\, f + \tfrac\gamma2\|\nabla_vg\|^2$$ "
        r"$$\Rightarrow\; \nabla^2_{vv}g(v_\gamma) \succeq 0$$",
        printed=r"\min_{u,v} f(u, v) \text{ s.t. } \nabla_vg(u, v) = 0",
        hypotheses=(LEAST,),
        strategy=STRATEGY,
        explicit=EXPLICIT,
        build=trapped,
        measure=at_a_minimum,
        corrected=Correction(
            tex=r"where $\nabla^2_{vv}g(v_\gamma)$ is not positive definite the method refuses; elsewhere "
            r"$v_\gamma$ is near a strict local minimiser",
            measure=told_apart(),
            proof="See @refused. Near any stationary point of $g$ with $\\nabla^2_{vv}g$ invertible the "
            "penalty function has a minimiser once $\\gamma$ is large: its Hessian there is "
            "$\\gamma(\\nabla^2_{vv}g)^2 + O(1)$.",
        ),
        grade="proved",
        budget=Budget(quick=20, full=400),
        notes="$g = v^4/4 - v^2/2$, $f = v^2/2$: the penalty function's global minimiser is $v = 0$, the "
        "maximiser of $g$ between its minimisers $\\pm1$, for every $\\gamma$. With roots $-1, 0, 2$ "
        "the minimiser of $g$ is unique, and still missed. Degree 4 is the least with a lower solution.",
    ),
    Claim(
        id="reweighting/non-convex-lower@refused",
        title="The method refuses an end that is no strict minimum of the lower level",
        source=SOURCE,
        statement=r"$$\text{refused} \;\Leftrightarrow\; \nabla^2_{vv}g(v_\gamma) \not\succ 0$$",
        strategy=STRATEGY,
        explicit=(*EXPLICIT, wells([0, 0, 1], 0), wells([0, 0, 0], 0)),
        build=trapped,
        measure=told_apart(),
        grade="proved",
        controls=(
            Control("never refused", kind="formula", measure=told_apart(lambda t: False)),
            Control("always refused", kind="formula", measure=told_apart(lambda t: True)),
            Control("flat minima let through", kind="formula", measure=told_apart(strict=False)),
        ),
        budget=Budget(quick=20, full=400),
        notes="What passes is near a strict local minimiser of $g$, not a global one: that cannot be seen "
        "from $\\nabla_vg$. Starting the inner method at a lower solution avoids the refusal.",
    ),
)
