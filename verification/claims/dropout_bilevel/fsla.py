"""Section 1.1: FSLA is called iterative differentiation; its v solves a linear system."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from verification.claims.dropout_bilevel._masks import RATIONAL, Model, at, central_differences, model
from verification.model import Budget, Claim, Control, Correction, Measurement, identity


@dataclass(frozen=True)
class Frozen:
    """λ held; ``steps`` steps of the w-line and of the v-line with one step size, from w_0 = 0 and a given v_0."""

    model: Model
    steps: int
    v0: Array

    @property
    def rate(self) -> Any:
        """A step 1/trace(H) < 2/L."""
        return 1 / sum(np.diag(self.hessian))

    @property
    def hessian(self) -> Array:
        return self.model.plain.lower.hess_ww(self.model.lam, RATIONAL.zeros((self.model.plain.d,))).dense()

    def w(self, lam: Array) -> Array:
        """w_K(λ): K steps of gradient descent, as FSLA's w-line takes."""
        w = RATIONAL.zeros((self.model.plain.d,))
        for _ in range(self.steps):
            w = w - self.rate * self.model.plain.lower.grad_w(lam, w)
        return w

    def v(self, w: Array, steps: int) -> Array:
        """The v-line with w held: v ← β∇_wF + (I − β∇²_wwG)v."""
        v, g = self.v0, self.model.plain.upper.grad_w(self.model.lam, w)
        for _ in range(steps):
            v = v + self.rate * (g - self.hessian @ v)
        return v

    def solved(self, w: Array) -> Array:
        """(∇²_wwG)⁻¹∇_wF."""
        return factor(RATIONAL, self.hessian).solve(self.model.plain.upper.grad_w(self.model.lam, w))

    def h(self, w: Array, v: Array) -> Array:
        """∇_λF − ∇²_λwG v."""
        problem, lam = self.model.plain, self.model.lam
        return problem.upper.grad_lam(lam, w) - problem.lower.cross(lam, w) @ v

    @property
    def unrolled(self) -> Array:
        """dF(λ, w_K(λ))/dλ, what iterative differentiation returns: F(λ, w_K(λ)) is quadratic in λ."""
        return central_differences(lambda lam: self.model.plain.upper.value(lam, self.w(lam)), self.model.lam)


def build(params: Mapping[str, Any]) -> Frozen:
    """A quadratic problem, and v_0 with small integers."""
    of = model(params)
    rng = np.random.default_rng(params["start"])
    return Frozen(of, params["steps"], RATIONAL.asarray(rng.integers(-3, 4, of.plain.d).astype(float)))


def is_unrolled(case: Frozen) -> Measurement:
    """h at the trajectory's end, with the v that the v-line converges to, against the unrolled derivative."""
    w = case.w(case.model.lam)
    return identity(case.h(w, case.solved(w)), case.unrolled)


def is_implicit(target: Callable[[Frozen, Array], Array] | None = None) -> Callable[[Frozen], Measurement]:
    """v_K − v* = (I − βH)^K (v_0 − v*), v* = H⁻¹∇_wF(λ, w): the solution of a system at w, whatever w's past."""

    def measure(case: Frozen) -> Measurement:
        w = case.w(case.model.lam)
        solution = target(case, w) if target else case.solved(w)
        error = case.v0 - solution
        for _ in range(case.steps):
            error = error - case.rate * (case.hessian @ error)
        return identity(case.v(w, case.steps) - solution, error)

    return measure


def gradient_itself(case: Frozen, w: Array) -> Array:
    """∇_wF."""
    return case.model.plain.upper.grad_w(case.model.lam, w)


CLAIMS = (
    Claim(
        id="dropout-bilevel/fsla-is-itd",
        title="As section 1.1 says: FSLA is iterative differentiation",
        source="dropout-bilevel, section 1.1",
        statement=r"\nabla_\lambda F - \nabla^2_{\lambda w}G\, v = \frac{d}{d\lambda}F(\lambda, "
        r"w_K(\lambda)) \text{ at } w = w_K \text{ and the limit } v \text{ of FSLA's } v\text{-line}",
        printed=r"\text{“we select an ITD method”}",
        strategy=st.fixed_dictionaries(
            {
                "n": st.integers(1, 2),
                "d": st.integers(1, 3),
                "seed": st.integers(0, 999),
                "steps": st.integers(0, 4),
                "start": st.integers(0, 99),
            }
        ),
        explicit=(at(1, 1, simple=1, steps=0, start=0), at(1, 2, simple=1, steps=1, start=0)),
        build=build,
        measure=is_unrolled,
        grade="proved",
        corrected=Correction(
            tex=r"v_K - v^* = \left(I - \beta\nabla^2_{ww}G\right)^K(v_0 - v^*),\qquad \nabla^2_{ww}G\,v^* = "
            r"\nabla_wF(\lambda, w)",
            measure=is_implicit(),
            proof="Subtract the fixed point from the v-line. $v^*$ depends on the current w alone: nothing "
            "of the way to it is remembered, any start does. That is approximate implicit differentiation, "
            "under which the same paragraph lists it too.",
        ),
        controls=(
            Control(
                "v converges to ∇_wF itself",
                kind="formula",
                measure=is_implicit(gradient_itself),
                params=at(1, 2, 1, steps=1, start=0),
            ),
        ),
        budget=Budget(quick=40, full=400),
        notes="Executed without dropout, λ and w held. The smallest instance takes no step at all: $w_0 = "
        "0$ does not depend on λ, so the unrolled derivative of F = w is 0, while FSLA's v tends to 1 and "
        "its estimate to 1, the right answer.",
    ),
)
