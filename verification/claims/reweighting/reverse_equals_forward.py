"""Reverse mode, forward mode and (16) give one derivative: that of the solver's own result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

import refimpl as ri
from refimpl.arrays.backend import Array
from refimpl.objective import Map
from refimpl.problem import Problem
from refimpl.solvers import FixedPoint, GradientDescent, HeavyBall
from refimpl.solvers.lower import Iteration
from refimpl.zoo import maps
from verification.claims.reweighting._rational import (
    RATIONAL,
    Exact,
    at,
    central_differences,
    problem,
    sizes,
    value_after_steps,
)
from verification.claims.reweighting._unrolled import formula_16, states
from verification.instances import EPS, case, cases, point, size
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, identity

SOURCE = "reweighting, (14)–(16)"
STATEMENT = (
    r"\frac{d}{du}f(u, v_T(u)) = \nabla_uf + \sum_{t=1}^T B_t^\top A_{t+1}^\top \cdots A_T^\top\nabla_vf, "
    r"\text{ in reverse and in forward mode}"
)


@dataclass(frozen=True)
class Unrolled:
    """A problem, a solver of T steps, and the start as a map of λ."""

    problem: Problem
    solver: Iteration
    lam: Array
    start: Map
    params: Mapping[str, Any]

    @cached_property
    def w0(self) -> Array:
        return self.start.value(self.lam, self.problem.w(None))

    @cached_property
    def jacobian(self) -> Array:
        """B_0."""
        return self.start.d_lam(self.lam, self.w0).dense()

    def reverse(self, w0: Any) -> Array:
        return ri.approximate.reverse(self.problem, self.lam, lower=self.solver, w0=w0).value

    def forward(self, w0: Any) -> Array:
        return ri.approximate.forward(self.problem, self.lam, lower=self.solver, w0=w0).value


def over_rationals(params: Mapping[str, Any]) -> Unrolled:
    """Gradient descent (1/8) or heavy ball (1/8, 1/2), w_0 = Sλ + s with integer S; ``slope`` multiplies S."""
    inner: Exact = problem(params)
    rng = np.random.default_rng(params["seed"] + 1)
    S, s = rng.integers(-2, 3, (params["d"], params["n"])), rng.integers(-2, 3, params["d"])
    S[0, 0] += 3  # never 0
    start = maps.affine(np.zeros((params["d"],) * 2), params["slope"] * S.astype(float), s.astype(float))
    solver = HeavyBall(params["T"], 0.125, 0.5) if params["heavy"] else GradientDescent(params["T"], 0.125)
    return Unrolled(inner.problem, solver, inner.lam, start.to("rational"), dict(params))


def judged(u: Unrolled) -> Array:
    """d/dλ F(λ, w_T(λ)) by central differences of a quadratic polynomial, w_0(λ) included."""
    return central_differences(value_after_steps(u.problem, u.solver, u.start), u.lam)


def agree(u: Unrolled) -> Measurement:
    """Reverse, forward and (16) with w_0 held fixed."""
    found = [u.reverse(u.w0), u.forward(u.w0), formula_16(u.problem, u.solver, u.lam, u.w0)]
    return identity(found, [judged(u)] * 3)


def mutated(**options: Any) -> Any:
    """(16) with a mistake in it."""
    return lambda u: identity(formula_16(u.problem, u.solver, u.lam, u.w0, **options), judged(u))


def last_term_only(u: Unrolled) -> Measurement:
    """The sum without all terms but the last."""
    last = min(1, u.solver.steps)
    found = ri.approximate.truncated(u.problem, u.lam, lower=u.solver, last=last, w0=u.w0)
    return identity(found.value, judged(u))


def _start_fixed(u: Unrolled) -> tuple[bool, Any]:
    return not (u.jacobian != 0).any(), str(abs(u.jacobian).max())


FIXED = Hypothesis("fixed start", r"dv_0/du = 0", _start_fixed)


def explicit(n: int, d: int, T: int, heavy: bool = False, **more: Any) -> dict[str, Any]:
    return at(n, d, T=T, heavy=heavy, **{"slope": 0, **more})


# -- in floats ------------------------------------------------------------------------------------------------


def in_floats(params: Mapping[str, Any]) -> Unrolled:
    """A family of ``instances`` with its solver; the start is w_0, or λ itself where ``slope`` is 1 and n = d."""
    made = case({**params, "n": params["d"]} if params["slope"] else params)
    T, lam = params["t"], made.lam
    inner: Problem = made.problem
    if isinstance(inner, ri.BilevelProblem):
        solver: Iteration = (
            HeavyBall(T, made.step, 0.5) if params["heavy"] else GradientDescent(T, made.step)
        )
    else:
        solver = FixedPoint(T)
    zero = np.zeros((inner.d, inner.d))
    S = np.eye(inner.d, inner.n) if params["slope"] else np.zeros((inner.d, inner.n))
    return Unrolled(inner, solver, lam, maps.affine(zero, S, 0 * made.w0 if params["slope"] else made.w0), params)


def through_the_loop(u: Unrolled) -> np.ndarray:
    """Autograd's derivative of the whole loop, values of the step only."""
    from autograd import grad

    boxed, start = u.problem.to("autograd"), u.start.to("autograd")

    def value(lam: Array) -> Any:
        w0 = start.value(lam, np.zeros(u.problem.d))
        step, state = u.solver.map(boxed, lam, w0), u.solver.lift(w0, boxed)
        for _ in range(u.solver.steps):
            state = step.value(lam, state)
        return boxed.upper.value(lam, state[..., : u.problem.d])

    return np.asarray(grad(value)(u.lam))


def rounding(u: Unrolled) -> float:
    """10·d·eps × steps × what a step may amplify × the sizes of the terms: no contraction is assumed."""
    step, path = u.solver.map(u.problem, u.lam, u.w0), states(u.problem, u.solver, u.lam, u.w0)
    growth = np.prod([max(1.0, float(np.linalg.norm(step.d_w(u.lam, s).dense(), 2))) for s in path])
    B = max([size(u.jacobian), *(size(step.d_lam(u.lam, s).dense()) for s in path)])
    w, zero = path[-1][..., : u.problem.d], np.zeros(u.problem.d)
    gradients = sum(size(u.problem.upper.grad_w(u.lam, x)) for x in (w, zero))
    direct = sum(size(u.problem.upper.grad_lam(u.lam, x)) for x in (w, zero))
    # one factor more for the states, whose rounding the derivatives of F and Φ pass on
    moved = 1 + sum(size(s) for s in path)
    return float(10 * u.problem.d * EPS * (1 + u.solver.steps) * growth**2 * moved * (direct + (1 + B) ** 2 * (1 + gradients)))


def close(u: Unrolled) -> Measurement:
    """Reverse, forward and (16) against autograd, w_0 held fixed."""
    found = [u.reverse(u.w0), u.forward(u.w0), formula_16(u.problem, u.solver, u.lam, u.w0)]
    expected = through_the_loop(u)
    gap = max(size(value - expected) for value in found)
    return Measurement(observed=gap, bound=0.0, rounding=rounding(u), detail={"scale": size(expected)})


def mutated_float(**options: Any) -> Any:
    def measure(u: Unrolled) -> Measurement:
        gap = size(formula_16(u.problem, u.solver, u.lam, u.w0, **options) - through_the_loop(u))
        return Measurement(observed=gap, bound=0.0, rounding=rounding(u))

    return measure


def start(kind: str, **more: Any) -> dict[str, Any]:
    return {**point(kind, nu=0.5), "heavy": False, "slope": 0, **more}


FLOATS = st.builds(
    lambda p, heavy: {**p, "heavy": heavy, "slope": 0},
    cases(("tanh", "logistic", "bent", "quadratic"), t=8),
    st.booleans(),
)

CLAIMS = (
    Claim(
        id="reweighting/reverse-equals-forward",
        title="Reverse mode, forward mode and the sum are one derivative",
        source=SOURCE,
        statement=STATEMENT,
        hypotheses=(FIXED,),
        strategy=sizes(T=st.integers(0, 5), heavy=st.booleans(), slope=st.just(0)),
        explicit=(
            explicit(1, 1, 0),
            explicit(1, 1, 1),
            explicit(2, 1, 3),
            explicit(1, 2, 3),
            explicit(1, 1, 3, heavy=True),
            explicit(2, 2, 4, heavy=True),
        ),
        build=over_rationals,
        measure=agree,
        grade="proved",
        controls=(
            Control("a start that depends on u", params=explicit(1, 1, 2, slope=1)),
            Control("A for its transpose (heavy ball)", kind="formula", measure=mutated(transposed=False)),
            Control("A_{t+1} left out", kind="formula", measure=mutated(late=1)),
            Control("the last term only", kind="formula", measure=last_term_only),
        ),
        budget=Budget(quick=80, full=1600),
        notes="Affine steps and a quadratic F make $f(u, v_T(u))$ a quadratic polynomial in u: central differences are "
        "exact. For heavy ball the differentiated map is that of $(v, v_{prev})$, $2d \\times 2d$ and not symmetric; "
        "for gradient descent on a quadratic a lost transpose would not show.",
    ),
    Claim(
        id="reweighting/reverse-equals-forward@float",
        title="The same on steps that are not affine",
        source=SOURCE,
        statement=STATEMENT,
        hypotheses=(FIXED,),
        strategy=FLOATS,
        explicit=(start("tanh"), start("tanh", n=2, d=2), start("logistic", d=2, heavy=True)),
        build=in_floats,
        measure=close,
        grade="exact",
        controls=(
            Control("a start that depends on u", params=start("tanh", slope=1)),
            Control("A for its transpose", kind="formula", measure=mutated_float(transposed=False)),
            Control("A_{t+1} left out", kind="formula", measure=mutated_float(late=1)),
        ),
        budget=Budget(quick=60, full=1200),
        notes="The judge is autograd through the whole loop, which sees values of the step only.",
    ),
)
