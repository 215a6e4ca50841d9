"""The augmented Lagrangian with conjugate gradients inside against descent, after equally many units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

import refimpl as ri
from refimpl import BilevelProblem
from refimpl.arrays.backend import Array
from refimpl.solvers import ConjugateGradient, GradientDescent
from refimpl.zoo.quadratic import Quadratic
from verification.claims.reweighting._penalty import fraction, ratio, rational, square
from verification.claims.reweighting._priced import OURS, spent
from verification.claims.reweighting._systems import RATIONAL, System
from verification.claims.reweighting.equal_cost_inside import MANY, updated
from verification.model import Budget, Claim, Control, Hypothesis, Measurement


@dataclass(frozen=True)
class Race:
    """f = ½q‖Hv‖² + a·v and g = ½(v − v*)ᵀH(v − v*) + u·v at u = 0; a and v* have entries >= 0 in H's eigenvectors."""

    a: System
    at: System
    q: fmpq
    mu: fmpq
    K: int
    rival: str

    @property
    def H(self) -> Array:
        return self.a.a

    @property
    def m(self) -> int:
        """Distinct eigenvalues of H."""
        return len(set(self.a.spectrum))

    @property
    def units(self) -> int:
        return (2 * self.m + 7) * self.K

    @property
    def ends(self) -> tuple[int, int]:
        return min(self.a.spectrum), max(self.a.spectrum)

    @cached_property
    def factors(self) -> tuple[fmpq, fmpq]:
        """r = q/(q + μ) of an update, and ρ = (κ − 1)/(κ + 1) of a step."""
        low, high = self.ends
        return self.q / (self.q + self.mu), fmpq(high - low, high + low)

    @cached_property
    def problem(self) -> BilevelProblem:
        d = len(self.H)
        none, eye = RATIONAL.zeros((1, d, d)), RATIONAL.eye(d)[None]
        lower = Quadratic(self.H[None], eye, none, -(self.H @ self.at.b)[None], none[:, 0], backend=RATIONAL)
        Q = self.q * self.H @ self.H
        upper = Quadratic(Q[None], none, none, self.a.b[None], none[:, 0], backend=RATIONAL)
        return BilevelProblem(upper, lower)

    @property
    def lam(self) -> Array:
        return RATIONAL.zeros((len(self.H),))

    def steps(self, units: int) -> int:
        """The rival's steps of descent: two units each, or one and m more for conjugate gradients at the end."""
        return (units + 1) // 2 if self.rival == "unrolling" else units - self.m

    @cached_property
    def rivals(self) -> Any:
        """The rival's result, at most ``units`` spent."""
        step: Any = fraction(fmpq(2, sum(self.ends)))  # a rational stays exact
        descent = GradientDescent(self.steps(self.units), step)
        if self.rival == "unrolling":
            return ri.approximate.reverse(self.problem, self.lam, lower=descent)
        linear = ConjugateGradient(self.m)
        return ri.approximate.implicit(self.problem, self.lam, lower=descent, linear=linear)

    @cached_property
    def adjoint(self) -> tuple[Array, Array]:
        """The two parts of λ* = H⁻¹∇_vf(v*), in H's eigenvectors: of the quadratic term, and of a."""
        h = rational(self.a.spectrum)
        return self.q * h * rational(self.at.beta), rational(self.a.beta) / h

    @cached_property
    def slowest(self) -> fmpq:
        """At least this is the rival's error over ρ^T, squared: in the eigenvectors of the least eigenvalue."""
        curved, straight = self.adjoint
        kept = curved + straight if self.rival == "unrolling" else curved
        low = self.ends[0]
        return sum((x * x for x, h in zip(kept, self.a.spectrum, strict=True) if h == low), fmpq(0))


def race(params: Mapping[str, Any]) -> Race:
    """Eigenvalues ``h``, and what the seed draws."""
    rng = np.random.default_rng(params["seed"])
    d = len(params["h"])
    mirror, a, at = (tuple(map(int, rng.integers(low, high, d))) for low, high in ((-2, 3), (0, 3), (1, 4)))
    h = tuple(params["h"])
    return Race(
        System(h, a, mirror),
        System(h, at, mirror),
        ratio(params["q"]),
        ratio(params["mu"]),
        params["K"],
        params["rival"],
    )


def ahead(r: Race, price: int | None = None, steps: int | None = None) -> bool:
    """Is r^K < ρ^T? Mutants: units for an update, steps of the rival."""
    factor, descent = r.factors
    K = r.K if price is None else r.units // price
    return bool(factor**K < descent ** (r.steps(r.units) if steps is None else steps))


def ordered(rule: Callable[[Race], bool] = ahead) -> Callable[[Race], Measurement]:
    """The squared error of whichever ``rule`` says is ahead, against the other's."""

    def measure(r: Race) -> Measurement:
        inside = updated(r.problem, r.lam, r.mu, r.K, r.m)
        truth = -(r.a.reflection @ (r.adjoint[0] + r.adjoint[1]))
        mine, theirs = (square(x.value - truth) for x in (inside, r.rivals))
        first, second = (mine, theirs) if rule(r) else (theirs, mine)
        units = [spent(inside.calls), spent(r.rivals.calls)]
        return Measurement(
            observed=first,
            bound=second,
            detail={"squared errors": [float(mine), float(theirs)], "units": units},
        )

    return measure


def _apart(r: Race) -> tuple[bool, Any]:
    """r^K ‖λ*‖ <= ρ^T × the slowest part, or r^K >= 3ρ^T."""
    (factor, descent), (curved, straight) = r.factors, r.adjoint
    size = square(curved + straight)
    mine, theirs = factor ** (2 * r.K), descent ** (2 * r.steps(r.units))
    says = f"r^K = {float(mine) ** 0.5:.3g}, ρ^T = {float(theirs) ** 0.5:.3g}"
    return mine * size <= theirs * r.slowest or mine >= 9 * theirs, says


def at(h: list[int], rival: str, mu: list[int], K: int = 1, **more: Any) -> dict[str, Any]:
    """Parameters of one race."""
    return {"h": h, "rival": rival, "q": [1, 1], "mu": mu, "K": K, "seed": 0, **more}


APART = Hypothesis(
    "enough units to tell",
    r"r^K\|\lambda^*\| \le \rho^T\|e_1\| \text{ or } r^K \ge 3\rho^T",
    _apart,
)
SPECTRA = [[2], [1, 2], [1, 10], [1, 1, 6], [1, 2, 3], [2, 5, 9], [1, 3, 3, 8], [1, 2, 4, 7]]
CLAIMS = (
    Claim(
        id="reweighting/equal-cost@ahead",
        title="The augmented Lagrangian with conjugate gradients inside against descent, after equally many units",
        source=OURS,
        statement=r"$$\text{after } n = (2m+7)K \text{ units its error is the smaller one iff } r^K < \rho^T$$ $$r = "
        r"\frac{q}{q+\mu},\quad \rho = \frac{\kappa-1}{\kappa+1},\quad T = \begin{cases} \lfloor (n+1)/2 \rfloor & "
        r"\text{unrolling} \\ n - m & \text{descent, then conjugate gradients} \end{cases}$$",
        hypotheses=(APART,),
        strategy=st.fixed_dictionaries(
            {
                "h": st.sampled_from(SPECTRA),
                "rival": st.sampled_from(["unrolling", "descent, CG"]),
                "q": st.sampled_from([[1, 1], [1, 4], [4, 1], [0, 1]]),
                "mu": st.sampled_from([[1, 4], [1, 1], [3, 1], [9, 1], [30, 1], [100, 1]]),
                "K": st.integers(1, 3),
                "seed": st.integers(0, 9999),
            }
        ),
        explicit=(
            at([1, 10], "unrolling", [9, 1], 2),
            at([1, 10], "descent, CG", [1, 1]),
            at([1, 2, 3, 4, 5, 6, 8, 10], "unrolling", [100, 1], 3),
            at([1, 2, 3, 4, 5, 6, 8, 10], "unrolling", [1, 1], 3),
            at(MANY, "unrolling", [100, 1], 2),
            at(MANY, "descent, CG", [100, 1], 2),
            at(list(range(1, 11)) * 2, "unrolling", [1, 1]),
        ),
        build=race,
        measure=ordered(),
        grade="proved",
        controls=(
            Control("too few units to tell", params=at([1, 10], "unrolling", [1, 1])),
            Control(
                "the number of variables for m",
                kind="formula",
                measure=ordered(lambda r: ahead(r, price=2 * len(r.H) + 7)),
                params=at(MANY, "unrolling", [100, 1], 3),
            ),
            Control(
                "an unrolled step for one unit",
                kind="formula",
                measure=ordered(lambda r: ahead(r, steps=r.units)),
                params=at([1, 5], "unrolling", [30, 1]),
            ),
            Control(
                "the seven units of an update forgotten",
                kind="formula",
                measure=ordered(lambda r: ahead(r, price=2 * r.m)),
                params=at(MANY, "descent, CG", [3, 1], 2),
            ),
        ),
        budget=Budget(quick=25, full=200),
        notes="$g = \\frac12(v - v^*)^\\top H(v - v^*) + u^\\top v$, $f = \\frac q2\\|Hv\\|^2 + a^\\top v$, $u = 0$; "
        "in the eigenvectors of $H$, $a$ and $v^*$ have no negative entry. Then the augmented Lagrangian's error is "
        "$r^K\\|\\lambda^*\\|$ (@cg-inside); unrolling's has entries $\\rho_i^T((2 - \\rho_i^T)qh_iv^*_i + a_i/h_i)$, "
        "from one to three times $|\\rho_i|^T\\lambda^*_i$; that of descent, then conjugate gradients, "
        "$\\rho_i^Tqh_iv^*_i$. $e_1$: the part of the rival's error at the least eigenvalue, over $\\rho^T$, at the "
        "least. Per unit $r^{1/(2m+7)}$ stands against $\\rho^{1/2}$ and $\\rho$: few distinct eigenvalues, or a large "
        "$\\mu$, put the augmented Lagrangian ahead. The large $\\mu$ is free over the rationals only: in floats $m$ "
        "steps do not end at 0 where $m$ is large (cg-float), and before their end they are no faster than unrolling "
        "(@stopped).",
    ),
)
