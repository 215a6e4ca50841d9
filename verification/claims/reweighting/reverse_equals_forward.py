"""Reverse mode, forward mode and (16) give one derivative: that of the solver's own result."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

import refimpl as ri
from verification.claims.reweighting._rational import (
    at,
    sizes,
)
from verification.claims.reweighting._unrolled import (
    Unrolled,
    formula_16,
    in_floats,
    judged,
    over_rationals,
    rounding,
    through_the_loop,
)
from verification.instances import cases, point, size
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, identity

SOURCE = "reweighting, (14)–(16)"
STATEMENT = (
    r"\frac{d}{du}f(u, v_T(u)) = \nabla_uf + \sum_{t=1}^T B_t^\top A_{t+1}^\top \cdots A_T^\top\nabla_vf, "
    r"\text{ in reverse and in forward mode}"
)


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


SOLVERS = st.sampled_from(("descent", "heavy ball", "map"))
FIXED = Hypothesis("fixed start", r"dv_0/du = 0", _start_fixed)


def explicit(n: int, d: int, T: int, solver: str = "descent", **more: Any) -> dict[str, Any]:
    """Parameters of one instance, its start fixed by default."""
    return at(n, d, T=T, solver=solver, **{"slope": 0, **more})


# -- in floats ---------------------------------------------------------------------------------------------


def close(u: Unrolled) -> Measurement:
    """Reverse, forward and (16) against autograd, w_0 held fixed."""
    found = [u.reverse(u.w0), u.forward(u.w0), formula_16(u.problem, u.solver, u.lam, u.w0)]
    expected = through_the_loop(u)
    gap = max(size(value - expected) for value in found)
    return Measurement(observed=gap, bound=0.0, rounding=rounding(u), detail={"scale": size(expected)})


def mutated_float(**options: Any) -> Any:
    """(16) with a mistake in it, against autograd."""

    def measure(u: Unrolled) -> Measurement:
        gap = size(formula_16(u.problem, u.solver, u.lam, u.w0, **options) - through_the_loop(u))
        return Measurement(observed=gap, bound=0.0, rounding=rounding(u))

    return measure


def start(kind: str, **more: Any) -> dict[str, Any]:
    """Parameters of one instance in floats, its start fixed by default."""
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
        strategy=sizes(T=st.integers(0, 5), solver=SOLVERS, slope=st.just(0)),
        explicit=(
            explicit(1, 1, 0),
            explicit(1, 1, 1),
            explicit(2, 1, 3),
            explicit(1, 2, 3),
            explicit(1, 1, 3, "heavy ball"),
            explicit(2, 2, 4, "map"),
        ),
        build=over_rationals,
        measure=agree,
        grade="proved",
        controls=(
            Control("a start that depends on u", params=explicit(1, 1, 2, slope=1)),
            Control("A for its transpose", kind="formula", measure=mutated(transposed=False)),
            Control("A_{t+1} left out", kind="formula", measure=mutated(late=1)),
            Control("the last term only", kind="formula", measure=last_term_only),
        ),
        budget=Budget(quick=80, full=1000),
        notes="Affine steps and a quadratic F make $f(u, v_T(u))$ a quadratic polynomial in u: central "
        "differences are exact. For heavy ball the differentiated map is that of $(v, v_{prev})$, $2d "
        "\\times 2d$. A lost transpose shows on maps that are not symmetric only: gradient descent's are, "
        "and heavy ball's, though not symmetric, is turned into its transpose by $\\mathrm{diag}(I, -\\beta "
        "I)$, which hides the mistake.",
    ),
    Claim(
        id="reweighting/reverse-equals-forward@float",
        title="Reverse mode equals forward mode on steps that are not affine",
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
        budget=Budget(quick=60, full=400),
        notes="The judge is autograd through the whole loop, which sees values of the step only.",
    ),
)
