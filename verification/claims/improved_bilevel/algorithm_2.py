"""Algorithm 2: the reverse sweep through BiG-SAM is the derivative of λ ↦ F(λ, w_K(λ)), over the rationals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

import refimpl as ri
from refimpl.arrays.backend import Array
from refimpl.sets import Box
from refimpl.solvers import Averaging, BiGSAM, Projection
from verification.claims.improved_bilevel._dual import along, clipped
from verification.claims.improved_bilevel._instances import bigsam
from verification.claims.improved_bilevel._moving import RATIONAL, Moving, at, half_square, moving, sizes
from verification.model import Budget, Claim, Control, Hypothesis, Measurement, identity

SOURCE = "improved-bilevel, (13)–(15) and algorithm 2"
STATEMENT = (
    r"\frac{d}{d\lambda}F(\lambda, w_K(\lambda)) = \nabla_\lambda F + \sum_{k=1}^K B_k^\top "
    r"A_{k+1}^\top\cdots A_K^\top\nabla_wF, \text{ in reverse and in forward mode}"
)


@dataclass(frozen=True)
class Loop:
    """BiG-SAM on one problem; ``params``: K, every = T, gamma as a pair, box.

    ``moves``: what depends on λ and must not, "s", "t", "gamma" or "start".
    """

    case: Moving
    params: Mapping[str, Any]

    @cached_property
    def solver(self) -> BiGSAM:
        s, t, gamma = (Fraction(int(x.p), int(x.q)) for x in self.method(self.case.lam)[:3])
        alpha = Averaging(Fraction(1, 2), gamma)
        prox = Projection(Box(*self.box)) if self.box else None
        return BiGSAM(self.params["K"], s=s, t=t, alpha=alpha, every=self.params["every"], prox=prox)

    @property
    def box(self) -> tuple[float, float] | None:
        return (-0.375, 0.625) if self.params.get("box") else None

    def method(self, lam: Any) -> tuple[Any, Any, Any, Array]:
        """s = 1/tr H, t = 1/tr Q, γ and w_0 = 1, frozen at this λ but for what ``moves``."""
        here, moves = self.case.lam, self.params.get("moves", "")
        s, t = (
            1 / np.trace(A.T @ A)
            for A in (
                self.case.lower.at_lam(lam if moves == "s" else here)[0],
                self.case.upper.at_lam(lam if moves == "t" else here)[0],
            )
        )
        shift, gamma = lam[0] - here[0], fmpq(*self.params["gamma"])
        start = np.full(self.case.problem.d, 1 + 0 * here[0], dtype=object)
        return (
            s,
            t,
            gamma + shift if moves == "gamma" else gamma,
            start + shift if moves == "start" else start,
        )

    def run(self, lam: Any) -> tuple[list[Array], Any]:
        """w_0 … w_K and F(λ, w_K): gradients only, in the arithmetic of λ."""
        (A, c), (M, m) = self.case.lower.at_lam(lam), self.case.upper.at_lam(lam)
        s, t, gamma, start = self.method(lam)

        def alpha(k: int) -> Any:
            share = gamma * 4 / (k + 1)  # 2γ/(1 − β), β = 1/2
            return share if getattr(share, "value", share) < 1 else fmpq(1)

        states, _ = bigsam(
            lambda w: A.T @ (A @ w - c),
            lambda w: M.T @ (M @ w - m),
            start,
            s=s,
            t=t,
            alpha=alpha,  # type: ignore[arg-type]  # a weight over dual numbers is no Rate
            steps=self.params["K"],
            every=self.params["every"],
            prox=(lambda y: clipped(y, *map(fmpq_of, box))) if (box := self.box) else None,
        )
        states = [plain(w) for w in states[:-1]] + [states[-1]]
        return states, half_square(M @ states[-1] - m)

    @cached_property
    def states(self) -> list[Array]:
        """w_0 … w_K at λ."""
        return [plain(w) for w in self.run(self.case.lam)[0]]

    @cached_property
    def derivative(self) -> Array:
        """dF(λ, w_K(λ))/dλ by dual numbers through the loop."""
        n = self.case.problem.n
        return np.array([self.run(along(self.case.lam, j))[1].slope for j in range(n)], dtype=object)


def fmpq_of(x: float) -> fmpq:
    """A float, exactly."""
    return fmpq(*x.as_integer_ratio())


def plain(w: Array) -> Array:
    """Values of an array that may hold dual numbers."""
    return np.array([getattr(x, "value", x) for x in w], dtype=object)


def loop(params: Mapping[str, Any]) -> Loop:
    """The run of these parameters."""
    return Loop(moving(params), dict(params))


def sweep(
    shift: int = 0, swapped: bool = False, without: str = "", early: bool = False, everywhere: bool = False
) -> Callable[[Loop], Array]:
    """Algorithm 2 as printed: q ← ∇_wF, g ← ∇_λF; k = K … 1: g ← g + B_kᵀq, q ← A_kᵀq.

    Mutants: α_{k+shift} for α_k, the functions' Hessians exchanged, a term of B_k left out, q updated before g,
    the projection's derivative on both parts.
    """

    def value(run: Loop) -> Array:
        upper, lower, lam = run.case.upper, run.case.lower, run.case.lam
        s, t, _, _ = run.method(lam)
        eye = np.eye(run.case.problem.d, dtype=int)
        w = run.states[-1]
        q, g = upper.grad_w(lam, w), upper.grad_lam(lam, w)
        for k in range(run.params["K"], 0, -1):
            w, alpha = run.states[k - 1], RATIONAL.scalar(run.solver.weight(k + shift))
            Q, H = upper.hess_ww(lam, w).dense(), lower.hess_ww(lam, w).dense()
            CF, CG = upper.cross(lam, w).dense(), lower.cross(lam, w).dense()
            inside = bound_free(run, w)
            Q, H = (H, Q) if swapped else (Q, H)
            on_upper = eye - t * Q
            A = alpha * (inside @ on_upper if everywhere else on_upper) + (1 - alpha) * inside @ (eye - s * H)
            B = 0 * CF.T
            if without != "F":
                B = B - alpha * t * CF.T
            if without != "G":
                B = B - (1 - alpha) * s * inside @ CG.T
            q, g = (A.T @ q, g + B.T @ (A.T @ q)) if early else (A.T @ q, g + B.T @ q)
        return np.asarray(g)

    return value


def descended(run: Loop, w: Array) -> Array:
    """w − s∇_wG."""
    return np.asarray(w - run.method(run.case.lam)[0] * run.case.lower.grad_w(run.case.lam, w))


def bound_free(run: Loop, w: Array) -> Array:
    """The derivative of the projection, diagonal: 1 where it does nothing."""
    if not run.box:
        return np.eye(len(w), dtype=int)
    low, high = map(fmpq_of, run.box)
    return np.diag([int(low < y < high) for y in descended(run, w)])


def both_modes(run: Loop) -> Measurement:
    """The literal sweep and the library's two modes against dual numbers through the loop."""
    _, _, _, w0 = run.method(run.case.lam)
    modes = (ri.approximate.reverse, ri.approximate.forward)
    found = [mode(run.case.problem, run.case.lam, lower=run.solver, w0=w0).value for mode in modes]
    return identity([sweep()(run), *found], [run.derivative] * 3)


def mutated(**options: Any) -> Callable[[Loop], Measurement]:
    """A mutant of the literal sweep against dual numbers."""
    return lambda run: identity(sweep(**options)(run), run.derivative)


def last_term_only(run: Loop) -> Measurement:
    """The sum without all terms but the last."""
    *_, w0 = run.method(run.case.lam)
    found = ri.approximate.truncated(
        run.case.problem, run.case.lam, lower=run.solver, last=min(1, run.solver.steps), w0=w0
    )
    return identity(found.value, run.derivative)


def fixed(part: int) -> Callable[[Loop], tuple[bool, Any]]:
    """Whether s, t, γ or w_0 has no derivative in λ."""

    def holds(run: Loop) -> tuple[bool, Any]:
        slopes = []
        for j in range(run.case.problem.n):
            found = run.method(along(run.case.lam, j))[part]
            slopes += [getattr(x, "slope", fmpq(0)) for x in np.ravel(np.asarray(found, dtype=object))]
        worst = max(map(abs, slopes))
        return worst == 0, str(worst)

    return holds


def _off_the_box(run: Loop) -> tuple[bool, Any]:
    low, high = map(fmpq_of, run.box or (0.0, 0.0))
    nearest = min(
        (min(abs(y - low), abs(y - high)) for w in run.states[:-1] for y in descended(run, w)), default=low
    )
    return nearest != 0, str(nearest)


HYPOTHESES = tuple(
    Hypothesis(f"{name} does not depend on λ", rf"d{tex}/d\lambda = 0", fixed(part))
    for part, (name, tex) in enumerate((("s", "s"), ("t", "t"), ("α_k", r"\alpha_k"), ("w_0", "w_0")))
)
OFF_THE_BOX = Hypothesis("no iterate at a bound", r"(w - s\nabla_wG)_i \ne \text{its bounds}", _off_the_box)


def steps(n: int, d: int, r: int, K: int, gamma: tuple[int, int] = (1, 2), **more: Any) -> dict[str, Any]:
    """Parameters of one run."""
    return at(n, d, r, K=K, gamma=list(gamma), **{"every": 1, **more})


METHODS = {
    "K": st.integers(0, 4),
    "every": st.integers(1, 2),
    "gamma": st.sampled_from(([1, 1], [1, 2], [1, 4], [1, 8])),
}
MOVED = (("s", "s = 1/L_G(λ)"), ("t", "t = 1/L_F(λ)"), ("gamma", "weights from L_F(λ)"), ("start", "w_0(λ)"))
COMMON: dict[str, Any] = {"source": SOURCE, "statement": STATEMENT, "build": loop, "grade": "proved"}
MUTANTS = (
    Control("α_{k+1} for α_k", kind="formula", measure=mutated(shift=1)),
    Control("the two Hessians exchanged", kind="formula", measure=mutated(swapped=True)),
    Control("B_k without F's term", kind="formula", measure=mutated(without="F")),
    Control("B_k without G's term", kind="formula", measure=mutated(without="G")),
    Control("q updated before g", kind="formula", measure=mutated(early=True)),
    Control("the last term only", kind="formula", measure=last_term_only),
)

CLAIMS = (
    Claim(
        id="improved-bilevel/algorithm-2",
        title="The reverse sweep through BiG-SAM is the derivative of its own result",
        **COMMON,
        hypotheses=HYPOTHESES,
        strategy=sizes(**METHODS),
        explicit=(
            steps(1, 1, 1, 0),
            steps(1, 1, 1, 2),
            steps(1, 1, 1, 3, every=2),
            steps(1, 2, 1, 3),
            steps(2, 3, 2, 4, (1, 4)),
        ),
        measure=both_modes,
        controls=(
            *(Control(name, params=steps(1, 2, 1, 3, (1, 8), seed=2, moves=moves)) for moves, name in MOVED),
            *MUTANTS,
        ),
        budget=Budget(quick=30, full=600),
        notes="Chain rule. Everything in $F$ and $G$ depends on $\\lambda$. The judge is dual numbers "
        "through the literal loop, which sees gradients only. What must be frozen: $\\beta$ holds "
        "$\\sigma_F$ and $L_F$, $s$ holds $L_G$, so automatic differentiation through a loop that recomputes "
        "them finds another derivative: $(z_k - y_k)\\,d\\alpha_k - \\alpha_k\\nabla_wF\\,dt - "
        "(1-\\alpha_k)\\nabla_wG\\,ds$ in every step, and $A_K\\cdots A_1\\,dw_0$.",
    ),
    Claim(
        id="improved-bilevel/algorithm-2@projected",
        title="With a projection its derivative stands on the step on G alone",
        **{
            **COMMON,
            "statement": r"$$A_k = \alpha_k(I - t\nabla^2_{ww}F) + (1-\alpha_k)P'(I - s\nabla^2_{ww}G)$$ "
            r"$$B_k = -\alpha_kt\nabla^2_{w\lambda}F - (1-\alpha_k)sP'\nabla^2_{w\lambda}G$$",
        },
        hypotheses=(*HYPOTHESES, OFF_THE_BOX),
        strategy=sizes(**METHODS, box=st.just(True)),
        explicit=(
            steps(1, 1, 1, 3, box=True),
            steps(1, 2, 1, 3, box=True),
            steps(2, 3, 2, 4, (1, 4), box=True),
        ),
        measure=both_modes,
        controls=(
            Control("s = 1/L_G(λ)", params=steps(1, 2, 1, 4, (1, 8), seed=3, box=True, moves="s")),
            Control("P' on both parts", kind="formula", measure=mutated(everywhere=True)),
            *MUTANTS[:2],
        ),
        budget=Budget(quick=30, full=600),
        notes="$z_k$ is not projected, so $w_k$ may leave the box, and $F$, $G$ must be defined beyond it. "
        "At a bound the step has no derivative: such iterates are rejected.",
    ),
)
