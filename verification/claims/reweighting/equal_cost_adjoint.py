"""Conjugate gradients against unrolling at the same lower iterate: what one product more buys, over the rationals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, cast

import numpy as np
from hypothesis import strategies as st

import refimpl as ri
from refimpl.arrays.backend import Array
from refimpl.solvers import ConjugateGradient, GradientDescent, HeavyBall
from refimpl.solvers.lower import Iteration
from verification.claims.reweighting._penalty import Penalised, one, penalised, solve
from verification.claims.reweighting._priced import OURS
from verification.model import Budget, Claim, Control, Equality, Measurement


def compared(params: Mapping[str, Any]) -> Penalised:
    """G's cross derivative I and F's 0: what is returned is minus the adjoint that was used."""
    d = params["d"]
    alone = {
        "A": np.zeros((d, d), int),
        "B": np.zeros((d, d), int),
        "C": np.eye(d, dtype=int),
        "lam": [0] * d,
    }
    return penalised({**params, **alone, "n": d, "gamma": [1, 1]})


def descent(p: Penalised) -> Iteration:
    """T steps, with momentum or without."""
    T = p.params["T"]
    step, momentum = cast(
        Any, (Fraction(*p.params["step"]), Fraction(*p.params["momentum"]))
    )  # rationals stay exact
    return HeavyBall(T, step, momentum) if momentum else GradientDescent(T, step)


def energy(p: Penalised, error: Array) -> Any:
    """‖error‖²_H."""
    return error @ (p.H @ error)


def at_most(
    fewer: int = 0, size: Callable[[Penalised, Array], Any] = energy
) -> Callable[[Penalised], Measurement]:
    """T − ``fewer`` steps of CG against T steps unrolled, by ``size``; mutants: as many products, other norms."""

    def measure(p: Penalised) -> Measurement:
        lower = descent(p)
        unrolled = ri.approximate.reverse(p.problem, p.lam, lower=lower)
        solved = ri.approximate.implicit(
            p.problem, p.lam, lower=lower, linear=ConjugateGradient(p.params["T"] - fewer)
        )
        exact = solve(p.H, p.problem.upper.grad_w(p.lam, solved.w))
        return Measurement(
            observed=size(p, solved.v - exact),
            bound=size(p, -unrolled.value - exact),
            detail={"products": [x.calls.get("lower.hess_ww", 0) for x in (solved, unrolled)]},
        )

    return measure


def at(T: int, *, d: int = 1, seed: int = 0, **more: Any) -> dict[str, Any]:
    """Parameters of one instance."""
    return {**one(d=d, seed=seed, convex=False), "T": T, "step": [1, 4], "momentum": [0, 1], **more}


def diagonal(step: list[int]) -> dict[str, Any]:
    """H = diag(3, 1), z = (1/3, 1): one step of conjugate gradients has length 1/2."""
    return at(1, d=2, h=[1, 3], s=[0, 0], a=[1, 1], b=[0, 0], seed=1, step=step)


STRATEGY = st.fixed_dictionaries(
    {
        "d": st.integers(1, 4),
        "seed": st.integers(0, 9999),
        "convex": st.booleans(),
        "T": st.integers(1, 5),
        "step": st.sampled_from([[1, 4], [1, 3], [2, 5], [1, 2], [1, 1]]),
        "momentum": st.sampled_from([[0, 1], [1, 4], [1, 2]]),
    }
)

CLAIMS = (
    Claim(
        id="reweighting/equal-cost@cg",
        title="For one product more, conjugate gradients' adjoint is at least as near as the unrolled one",
        source=OURS,
        statement=r"$$\|z_T - z\|_H \le \|y_T - z\|_H, \quad z = H^{-1}\nabla_vf(v_T)$$ $$z_T: T \text{ steps of "
        r"conjugate gradients}; \quad y_T: \text{the adjoint in reverse mode through } v_1, \dots, v_T$$ for $g$ "
        r"quadratic, descent of any step and momentum.",
        strategy=STRATEGY,
        explicit=(
            at(1),
            at(2, d=2, seed=1),
            at(3, d=3, seed=2, momentum=[1, 2]),
            at(6, d=20, h=list(range(1, 21)), a=[1] * 20, b=[2] * 20, seed=3, step=[2, 21]),
            at(6, d=20, h=list(range(1, 21)), seed=4, step=[1, 15], momentum=[1, 4]),
        ),
        build=compared,
        measure=at_most(),
        grade="proved",
        controls=(
            Control(
                "as many products as unrolling",
                kind="formula",
                measure=at_most(fewer=1),
                params=at(2, d=20, h=list(range(1, 21)), seed=4, step=[2, 21]),
            ),
            Control(
                "the Euclidean norm",
                kind="formula",
                measure=at_most(size=lambda p, error: error @ error),
                params=diagonal([2, 3]),
            ),
            Control(
                "one entry of the hypergradient",
                kind="formula",
                measure=at_most(size=lambda p, error: error[0] * error[0]),
                params=diagonal([1, 3]),
            ),
        ),
        equality=Equality(params=diagonal([1, 2]), reaches=1.0),
        budget=Budget(quick=60, full=800),
        notes="Reverse mode's adjoint through $T$ steps lies in the Krylov space of $T$ dimensions of $H$ and "
        "$\\nabla_vf(v_T)$, and so does that of any iteration whose step is a polynomial in $H$; conjugate gradients "
        "minimise the $H$-norm there. Unrolling spends $T - 1$ products for it and conjugate gradients $T$ "
        "(@counts): the last one fixes their step, and with as many products as unrolling they often lose. Beside "
        "them are the same $T$ lower gradients. So one unit more always suffices, however descent's step and "
        "momentum were chosen; how far ahead, see rate-aid-cg@sharp. It is a statement in the $H$-norm of the "
        "adjoint: the hypergradient is one linear image of it, and of one image unrolling may be nearer by luck.",
    ),
)
