"""Assumptions 2 (i) and 3 (i): the objective itself, or its gradient, is Lipschitz; a sign was lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from refimpl.bounds import Region
from refimpl.objective import Objective
from refimpl.zoo import quadratic, uppers
from verification.claims.dropout_bilevel._iterates import determinant, semidefinite
from verification.claims.dropout_bilevel._masks import RATIONAL
from verification.instances import EPS
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement, reals

SMALL = st.integers(-3, 3)


@dataclass(frozen=True)
class Convex:
    """G = ½wᵀHw + aᵀw with λ absent, μ <= λ_min(H), a stated Lipschitz constant, and a point far from the origin."""

    f: Objective
    H: Array
    a: Array
    stated: Fraction
    mu: Any

    @cached_property
    def far(self) -> Array:
        """w = t e_1 with t = 2(L + ‖a‖_1)/μ + 2."""
        t = 2 * (RATIONAL.scalar(self.stated) + abs(self.a).sum()) / self.mu + 2
        return t * RATIONAL.eye(len(self.a))[0]

    @cached_property
    def quotient(self) -> Any:
        """(G(w) − G(0))/‖w‖ at that point: G cannot have a smaller Lipschitz constant."""
        zero, none = 0 * self.far, RATIONAL.zeros((0,))
        return (self.f.value(none, self.far) - self.f.value(none, zero)) / abs(self.far).sum()


def build(params: Mapping[str, Any]) -> Convex:
    """H = RᵀR + μI with an integer triangular R."""
    d = params["d"]
    R = np.zeros((3, 3))
    R[np.triu_indices(3)] = params["root"]
    H = R[:d, :d].T @ R[:d, :d] + params["mu"] * np.eye(d)
    f = quadratic.objective(ww=H, w1=params["a"][:d], n=0).to("rational")
    mu = RATIONAL.scalar(params["mu"])
    return Convex(
        f, RATIONAL.asarray(H), RATIONAL.asarray(np.array(params["a"][:d], float)), Fraction(params["L"]), mu
    )


def lipschitz_itself(case: Convex) -> Measurement:
    """The difference quotient is at most the stated L."""
    return Measurement(observed=case.quotient, bound=case.stated, detail={"w": [str(x) for x in case.far]})


def no_constant(half: int = 2) -> Callable[[Convex], Measurement]:
    """L < μt/2 − ‖a‖ + 1 and μt/2 − ‖a‖ <= quotient: every stated L is exceeded."""

    def measure(case: Convex) -> Measurement:
        t = abs(case.far).sum()
        proved = case.mu * t / half - abs(case.a).sum()
        worst = max(RATIONAL.scalar(case.stated) - proved, proved - case.quotient)
        return Measurement(observed=worst, bound=0)

    return measure


def gradient_lipschitz(share: Fraction = Fraction(1)) -> Callable[[Convex], Measurement]:
    """‖∇G(x) − ∇G(y)‖² <= L²‖x − y‖² with L² = ‖H‖_F² >= ‖H‖², between the far point and the origin."""

    def measure(case: Convex) -> Measurement:
        none = RATIONAL.zeros((0,))
        g = case.f.grad_w(none, case.far) - case.f.grad_w(none, 0 * case.far)
        L2 = RATIONAL.scalar(share) * (case.H**2).sum()
        return Measurement(observed=(g**2).sum(), bound=L2 * (case.far**2).sum())

    return measure


def value_lipschitz(case: Convex) -> Measurement:
    """The same constant for G itself."""
    return Measurement(observed=case.quotient**2, bound=(case.H**2).sum())


def _convex(case: Convex) -> tuple[bool, Any]:
    """μ > 0 and no principal minor of H − μI is negative, exactly; measured: the last minor. Only a wrong H fails."""
    shifted = case.H - case.mu * RATIONAL.eye(len(case.a))
    return case.mu > 0 and semidefinite(shifted), float(determinant(shifted))


STRONG = Hypothesis("strongly convex", r"H \succeq \mu I,\ \mu > 0", _convex)


def _at(d: int = 1, **more: Any) -> dict[str, Any]:
    return {"d": d, "root": [0] * 6, "mu": 1, "a": [0] * 3, "L": 1, **more}


STRATEGY = st.fixed_dictionaries(
    {
        "d": st.integers(1, 3),
        "root": st.lists(SMALL, min_size=6, max_size=6),
        "mu": st.integers(1, 4),
        "a": st.lists(SMALL, min_size=3, max_size=3),
        "L": st.integers(1, 10**6),
    }
)


# -- F --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Upper:
    """A log-cosh upper level, its stated Lipschitz constant and two points at any distance."""

    f: Objective
    x: np.ndarray
    y: np.ndarray


def build_upper(params: Mapping[str, Any]) -> Upper:
    """``aligned``: two points on the diagonal, where every term grows; else random ones, ``far`` from the origin."""
    d, rng = params["d"], np.random.default_rng(params["seed"])
    x, y = (params["far"] * rng.standard_normal(d) for _ in range(2))
    X = np.eye(d) if params["aligned"] else rng.standard_normal((2 * d, d))
    if params["aligned"]:
        x, y = params["far"] * np.ones(d), 2 * params["far"] * np.ones(d)
    return Upper(uppers.log_cosh(X, np.zeros(len(X)), n=0), x, y)


def upper_lipschitz(share: float = 1.0) -> Callable[[Upper], Measurement]:
    """|F(x) − F(y)| <= L‖x − y‖ with the family's own bound of the gradient, over all of R^d."""

    def measure(case: Upper) -> Measurement:
        none, radius = np.zeros(0), 1e6
        L = case.f.bounds(Region(none, 0 * case.x, 0.0, radius)).grad_w
        values = [float(case.f.value(none, w)) for w in (case.x, case.y)]
        gap = float(np.linalg.norm(case.x - case.y))
        rounding = 10 * len(case.x) * EPS * (1 + sum(abs(v) for v in values))
        return Measurement(observed=abs(values[0] - values[1]), bound=share * L * gap, rounding=rounding)

    return measure


CLAIMS = (
    Claim(
        id="dropout-bilevel/lipschitz-assumption@a",
        title="Read as it stands: some strongly convex G on all of space is Lipschitz",
        source="dropout-bilevel, assumption 3 (i) and (ii)",
        statement=r"|G(\lambda, w) - G(\lambda, w')| \le L_G\|w - w'\| \text{ for all } w, w' \in \mathbb "
        r"R^d",
        printed=r"G(\lambda, w) \text{ is Lipschitz continuous with modulus } L_G",
        hypotheses=(STRONG,),
        strategy=STRATEGY,
        explicit=(_at(),),
        build=build,
        measure=lipschitz_itself,
        grade="proved",
        corrected=Correction(
            tex=r"\frac{G(te_1) - G(0)}{t} \ge \frac{\mu t}{2} - \|\nabla G(0)\| > L_G \text{ at } t = "
            r"\tfrac{2}{\mu}(L_G + \|\nabla G(0)\|_1) + 2",
            measure=no_constant(),
            proof="Strong convexity: $G(te_1) \\ge G(0) + t\\,\\partial_1G(0) + \\frac{\\mu}{2}t^2$. So "
            "assumptions 3 (i) and (ii) have no common instance on $\\mathbb R^d$; on a ball of radius R "
            "they have, with $L_G = LR + \\|\\nabla G(0)\\|$.",
        ),
        budget=Budget(quick=60, full=600),
        notes="For every stated constant a point where it fails, G = w²/2 being the smallest instance: with "
        "$L_G = 1$ the quotient at w = 4 is 2. All statements that rest on assumption 3 would be vacuous in "
        "this reading; the project reads @b.",
    ),
    Claim(
        id="dropout-bilevel/lipschitz-assumption@b",
        title="Read with the lost nabla: the gradient of G is Lipschitz",
        source="dropout-bilevel, assumption 3 (i) and (ii)",
        statement=r"\|\nabla G(\lambda, w) - \nabla G(\lambda, w')\| \le L_G\|w - w'\|",
        strategy=STRATEGY,
        explicit=(_at(), _at(2, root=[1, 1, 0, 1, 0, 0])),
        build=build,
        measure=gradient_lipschitz(),
        grade="proved",
        equality=Equality(params=_at(), reaches=1.0),
        controls=(
            Control("G in place of its gradient", kind="formula", measure=value_lipschitz),
            Control("half of the constant", kind="formula", measure=gradient_lipschitz(Fraction(1, 4))),
        ),
        budget=Budget(quick=60, full=600),
        notes="Satisfiable together with strong convexity: every strongly convex quadratic has it, with "
        "$L_G = \\|H\\|_F$ (an upper bound of ‖H‖ that is rational when squared). Equality for one "
        "coordinate.",
    ),
    Claim(
        id="dropout-bilevel/lipschitz-assumption@upper",
        title="Assumption 2 (i), read as it stands, has instances: F need not be convex, nor grow",
        source="dropout-bilevel, assumption 2 (i) and (iii)",
        statement=r"|F(\lambda, w) - F(\lambda, w')| \le L_F\|w - w'\|,\qquad F = "
        r"\tfrac1N\sum_i\log\cosh(x_i\cdot w)",
        strategy=st.fixed_dictionaries(
            {
                "d": st.integers(1, 4),
                "seed": st.integers(0, 999),
                "far": reals(0.1, 100, log=True),
                "aligned": st.integers(0, 1),
            }
        ),
        explicit=(
            {"d": 1, "seed": 0, "far": 1.0, "aligned": 1},
            {"d": 2, "seed": 0, "far": 10.0, "aligned": 0},
        ),
        build=build_upper,
        measure=upper_lipschitz(),
        grade="exact",
        equality=Equality(params={"d": 1, "seed": 0, "far": 100.0, "aligned": 1}, reaches=0.999),
        controls=(Control("nine tenths of the constant", kind="formula", measure=upper_lipschitz(0.9)),),
        budget=Budget(quick=60, full=600),
        notes="Here (iii) says the same: the gradient is bounded. Equality far from the origin, where log "
        "cosh is a line.",
    ),
)
