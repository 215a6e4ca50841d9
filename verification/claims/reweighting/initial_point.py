"""(16)'s first term: a start that depends on the upper variable; with v_0 = u that is MAML."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.objective import Map
from refimpl.operators import Operator, matrix
from refimpl.solvers import IdentityStart
from verification.claims.reweighting._rational import sizes
from verification.claims.reweighting._unrolled import (
    Unrolled,
    formula_16,
    in_floats,
    judged,
    over_rationals,
    rounding,
    through_the_loop,
)
from verification.claims.reweighting.reverse_equals_forward import FLOATS, SOLVERS, explicit, start
from verification.instances import size
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, identity

SOURCE = "reweighting, (16) and B_0 below it"
STATEMENT = (
    r"$$v_0 = \Phi_0(u):$$ $$\frac{d}{du}f(u, v_T(u)) = \nabla_uf + \sum_{t=0}^T B_t^\top A_{t+1}^\top\cdots "
    r"A_T^\top\nabla_vf$$ $$B_0 = d_u\Phi_0(u)$$"
)


@dataclass(frozen=True)
class Misstated(Map):
    """A start whose stated Jacobian is ``factor`` times its own."""

    inner: Map
    factor: int
    backend: Backend

    @property
    def n(self) -> int:
        return self.inner.n

    @property
    def d(self) -> int:
        return self.inner.d

    def value(self, lam: Array, w: Array) -> Array:
        return self.inner.value(lam, w)

    def d_w(self, lam: Array, w: Array) -> Operator:
        return self.inner.d_w(lam, w)

    def d_lam(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, self.factor * self.inner.d_lam(lam, w).dense())


def with_start(params: Mapping[str, Any]) -> Unrolled:
    """Over the rationals; w_0 = Sλ + s, or λ itself where ``maml`` and n = d."""
    u = over_rationals(params)
    begin = IdentityStart(u.problem.n, u.problem.backend) if _maml(params) else u.start
    if "misstated" in params:
        begin = Misstated(begin, params["misstated"], u.problem.backend)
    return Unrolled(u.problem, u.solver, u.lam, begin, params)


def _maml(params: Mapping[str, Any]) -> bool:
    return bool(params["maml"] and params["n"] == params["d"])


def agree(u: Unrolled) -> Measurement:
    """Reverse and forward given the start as a map, and (16)."""
    literal = formula_16(u.problem, u.solver, u.lam, u.w0, u.jacobian)
    return identity([u.reverse(u.start), u.forward(u.start), literal], [judged(u)] * 3)


def exactly(value: Callable[[Unrolled], Array]) -> Callable[[Unrolled], Measurement]:
    """A stated derivative against central differences."""
    return lambda u: identity(value(u), judged(u))


def not_carried(u: Unrolled) -> Array:
    """B_0ᵀ∇_vf without the steps' Jacobians."""
    return formula_16(u.problem, u.solver, u.lam, u.w0, u.jacobian, moved=False)


def dropped(u: Unrolled) -> Array:
    """The term t = 0 left out: w_0 handed over as a bare array."""
    return u.reverse(u.w0)


def _jacobian_known(u: Unrolled) -> tuple[bool, Any]:
    """Φ_0 is affine: its differences are its Jacobian, exactly."""
    units = np.eye(u.problem.n, dtype=int)
    moves = [u.start.value(u.lam + e, u.w0) - u.start.value(u.lam, u.w0) for e in units]
    gap = abs(np.stack(moves, axis=-1) - u.jacobian).max()
    return gap == 0, str(gap)


# -- in floats: MAML ---------------------------------------------------------------------------------------


def maml(params: Mapping[str, Any]) -> Unrolled:
    """λ ↦ w_0 = λ on a problem that is not quadratic, n = d; ``misstated`` as above."""
    u = in_floats({**params, "slope": 1})
    begin: Map = IdentityStart(u.problem.n)
    if "misstated" in params:
        begin = Misstated(begin, params["misstated"], begin.backend)
    return Unrolled(u.problem, u.solver, u.lam, begin, params)


def close(value: Callable[[Unrolled], Array] | None = None) -> Callable[[Unrolled], Measurement]:
    """Reverse and forward, or a mutant ``value``, against autograd through the loop."""

    def measure(u: Unrolled) -> Measurement:
        expected = through_the_loop(u)
        found = [u.reverse(u.start), u.forward(u.start)] if value is None else [value(u)]
        gap = max(size(v - expected) for v in found)
        return Measurement(observed=gap, bound=0.0, rounding=rounding(u), detail={"scale": size(expected)})

    return measure


def _identity_known(u: Unrolled) -> tuple[bool, Any]:
    gap = float(np.abs(u.jacobian - np.eye(u.problem.d)).max())
    return gap == 0, gap


CLAIMS = (
    Claim(
        id="reweighting/initial-point",
        title="The term of a start that depends on the upper variable",
        source=SOURCE,
        statement=STATEMENT,
        hypotheses=(Hypothesis("known Jacobian of the start", r"B_0 = d_u\Phi_0", _jacobian_known),),
        strategy=sizes(T=st.integers(0, 5), solver=SOLVERS, slope=st.just(1), maml=st.booleans()),
        explicit=(
            explicit(1, 1, 0, slope=1, maml=False),
            explicit(1, 1, 1, slope=1, maml=True),
            explicit(2, 2, 3, slope=1, maml=True),
            explicit(2, 1, 3, slope=1, maml=False),
            explicit(1, 2, 3, "heavy ball", slope=1, maml=False),
        ),
        build=with_start,
        measure=agree,
        grade="proved",
        controls=(
            Control(
                "a wrong Jacobian of the start", params=explicit(1, 1, 1, slope=1, maml=False, misstated=2)
            ),
            Control("B_0 dropped", kind="formula", measure=exactly(dropped)),
            Control("B_0 not carried through the steps", kind="formula", measure=exactly(not_carried)),
        ),
        budget=Budget(quick=80, full=1000),
        notes="Exact as in reverse-equals-forward. For heavy ball the state begins as $(v_0, v_0)$, so both "
        "halves of the cotangent reach $B_0$. $\\Phi_0(u) = u$ with $n = d$ is MAML.",
    ),
    Claim(
        id="reweighting/initial-point@maml",
        title="MAML: the start is the upper variable, on steps that are not affine",
        source=SOURCE,
        statement=STATEMENT + r" $$\Phi_0(u) = u$$",
        hypotheses=(Hypothesis("known Jacobian of the start", r"B_0 = I", _identity_known),),
        strategy=FLOATS,
        explicit=(start("tanh"), start("tanh", n=2, d=2), start("logistic", n=2, d=2, heavy=True)),
        build=maml,
        measure=close(),
        grade="exact",
        controls=(
            Control("a wrong Jacobian of the start", params=start("tanh", misstated=2)),
            Control("B_0 dropped", kind="formula", measure=close(dropped)),
            Control("B_0 not carried through the steps", kind="formula", measure=close(not_carried)),
        ),
        budget=Budget(quick=60, full=400),
        notes="The judge is autograd through the whole loop.",
    ),
)
