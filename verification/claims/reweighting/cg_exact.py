"""Conjugate gradients over the rationals: they end exactly, and what falls at every step."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from flint import fmpq

from verification.claims.reweighting._systems import DEFINITE, System, params, system, systems
from verification.model import Budget, Claim, Control, Equality, Measurement, identity


def ends(fewer: int = 0) -> Callable[[System], Measurement]:
    """Residual after as many steps as there are distinct eigenvalues represented in b, less ``fewer``."""

    def measure(system: System) -> Measurement:
        steps = max(system.represented - fewer, 0)
        residual = system.conjugate_gradients(steps).residual
        return identity(residual, 0 * residual, detail={"steps": steps})

    return measure


def descends(system: System) -> Measurement:
    """The same number of steepest descent steps in place of conjugate directions."""
    x, r = 0 * system.b, system.b
    for _ in range(system.represented):
        if not (r != 0).any():
            break
        x = x + (r @ r) / (r @ (system.a @ r)) * r
        r = system.b - system.a @ x
    return identity(r, 0 * r)


def energies(system: System, residuals: bool = False) -> list[Any]:
    """‖x_k − x‖²_A (or ‖b − A x_k‖²) for every iterate, exactly."""
    solution = system.a_inverse_b
    found = system.conjugate_gradients(len(system.beta)).iterates
    errors = [x - solution for x in found]
    if residuals:
        return [(system.a @ e) @ (system.a @ e) for e in errors]
    return [e @ (system.a @ e) for e in errors]


def falls(
    factor: Callable[[fmpq], fmpq] = lambda kappa: ((kappa - 1) / (kappa + 1)) ** 2,
    residuals: bool = False,
) -> Callable[[System], Measurement]:
    """The step at which the squared norm of the error uses the largest share of factor(κ) × the one before."""

    def measure(system: System) -> Measurement:
        allowed = factor(fmpq(max(system.spectrum), min(system.spectrum)))
        values = energies(system, residuals)
        steps = [(after, allowed * before) for before, after in itertools.pairwise(values)]
        share = [a / b if b else fmpq(2 if a else 0) for a, b in steps]
        k = max(range(len(steps)), key=share.__getitem__, default=None)
        observed, bound = (fmpq(0), fmpq(0)) if k is None else steps[k]
        return Measurement(observed=observed, bound=bound, detail={} if k is None else {"step": k + 1})

    return measure


CLAIMS = (
    Claim(
        id="reweighting/cg-exact",
        title="Conjugate gradients end after as many steps as b has distinct eigenvalues",
        source="reweighting, after (13); Hestenes and Stiefel 1952",
        statement=r"b - Ax_m = 0 \text{ exactly, } m = \#\{\text{distinct eigenvalues of } A \text{ with a "
        r"component in } b\}",
        hypotheses=(DEFINITE,),
        strategy=systems(6),
        explicit=(
            params([3], [0]),
            params([3], [2]),
            params([5, 5, 5], [1, 2, 3], mirror=[1, 1, 1]),
            params([1, 2], [1, 1]),
            params([1, 2, 2, 7], [1, 1, 1, 0], mirror=[1, 2, 0, 1]),
        ),
        build=system,
        measure=ends(),
        grade="proved",
        controls=(
            Control("not symmetric", params=params([1, 2], [1, 1], skew=-1)),
            Control("one step fewer", kind="formula", measure=ends(fewer=1)),
            Control("steepest descent", kind="formula", measure=descends),
        ),
        budget=Budget(quick=150, full=1000),
        notes="The error is $p(A)x$ with $p(0) = 1$, smallest in the $A$-norm over all such $p$ of degree "
        "$m$; the polynomial that vanishes at the $m$ eigenvalues makes it 0. Includes one equation ($m = "
        "1$), $A = cI$ ($m = 1$) and $b = 0$ ($m = 0$).",
    ),
    Claim(
        id="reweighting/cg-delta@monotone",
        title="The energy norm of the error falls at every step, the residual need not",
        source="reweighting, after (13)",
        statement=r"\|x_{k+1} - x\|_A \le \frac{\kappa-1}{\kappa+1}\,\|x_k - x\|_A \text{ for every } k",
        hypotheses=(DEFINITE,),
        strategy=systems(30),
        explicit=(params([3], [1]), params([1, 9], [3, 1]), params([2, 2], [1, 1])),
        build=system,
        measure=falls(),
        grade="proved",
        controls=(
            Control("not symmetric", params=params([1, 2], [1, 1], skew=-1)),
            Control(
                "residual for error",
                kind="formula",
                measure=falls(lambda kappa: fmpq(1), residuals=True),
                params=params([1, 9], [3, 1]),
            ),
            Control(
                "the square of the factor",
                kind="formula",
                measure=falls(lambda kappa: ((kappa - 1) / (kappa + 1)) ** 4),
            ),
        ),
        equality=Equality(params=params([1, 9], [1, 1]), reaches=1.0),
        budget=Budget(quick=150, full=1000),
        notes="$x_{k+1}$ is at least as good as a steepest descent step from $x_k$, whose factor is "
        "Kantorovich's. Equality: eigenvalues $1, \\kappa$ and $b = (1, 1)$. The residual grows from 10 to "
        "160/9 (squared) on eigenvalues 1, 9 and $b = (3, 1)$: a tolerance on it is not a measure of "
        "progress, and the residual to report is the true one.",
    ),
)
