r"""Theorem 8, lower level: what its proof uses of A(i) is that Φ moves every point towards w(λ), by the factor q.

In one step (see ``theorem_8_ll``) only ‖Φ(w) − w(λ)‖ <= q‖w − w(λ)‖ enters, at the iterates: Φ need be no contraction
between other points, nor continuous.
"""

from __future__ import annotations

import itertools as it
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flint import fmpq
from hypothesis import strategies as st

from verification.claims.contraction._noise import FAIR, QUIET, Noisy
from verification.claims.contraction._two_solvers import LOWER_SOLVER
from verification.claims.contraction.theorem_8_ll import STEPS, rho
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement


@dataclass(frozen=True)
class Broken:
    """Φ(w) = slope(w) w on R with a slope for each interval between ``breaks``; noise as the parameters say."""

    slopes: tuple[fmpq, ...]
    like: Noisy  # its constants, steps and start; its Φ̂ is not used

    breaks = (fmpq(-1), fmpq(-1, 2), fmpq(0), fmpq(1, 2), fmpq(1))

    def value(self, w: fmpq) -> fmpq:
        """Φ(w)."""
        return self.slopes[sum(w > edge for edge in self.breaks)] * w

    def mean_square(self) -> fmpq:
        """E w_t² by all paths of (11) with Φ̂ = Φ + √σ₂(Φ − w)ε + √σ₁ε'."""
        p, known = self.like.params, self.like.stated
        s, plain = fmpq(p["strength"], 4), fmpq(p["plain"], 2)
        draws = [(x, y) for x, y in it.product(FAIR, FAIR) if (s or x > 0) and (plain or y > 0)]
        at = {fmpq(p["reach"], 2): fmpq(1)}
        for i in range(self.like.steps):
            eta, after = self.like.rate(i), dict[fmpq, fmpq]()
            for w, chance in at.items():
                b = self.value(w)
                for x, y in draws:
                    drawn = b + (s * (b - w) * x if s else 0) + (plain * y if plain else 0)
                    new = (1 - eta) * w + eta * drawn
                    after[new] = after.get(new, fmpq(0)) + chance / len(draws)
            at = after
        assert known.sigma2 >= s**2
        return sum((chance * w**2 for w, chance in at.items()), fmpq(0))


def broken(p: dict[str, Any]) -> Broken:
    """Slopes in 8ths of q."""
    like = LOWER_SOLVER.case({**QUIET, **p})
    return Broken(tuple(like.stated.q * fmpq(k, 8) for k in p["slopes"]), like)


def quasi(bound: Callable[[Noisy], fmpq] = rho) -> Callable[[Broken], Measurement]:
    """E w_t² against a bound."""

    def measure(one: Broken) -> Measurement:
        return Measurement(observed=one.mean_square(), bound=bound(one.like))

    return measure


def _shrinks(one: Broken) -> tuple[bool, str]:
    most = max(abs(slope) for slope in one.slopes)
    return bool(most <= one.like.stated.q < 1), f"|Φ(w)| <= {most}|w|"


def _lengths(one: Broken) -> tuple[bool, Any]:
    return STEPS.predicate(one.like)


STEPPED = {**QUIET, "slopes": [8, -8, 8, -8, 8, -8], "plain": 2, "steps": 3}
SLOPES = st.tuples(*[st.integers(-8, 8)] * 6).map(list)
CLAIMS = (
    Claim(
        id="contraction/theorem-8-ll@quasi",
        title="The lower solver's rate needs a contraction towards the solution only, not even a "
        "continuous map",
        source="contraction, Theorem 8, (13), (14); what of A(i) they use",
        statement=r"\|\Phi(w)-w(\lambda)\|\le q\|w-w(\lambda)\|\text{ for every "
        r"}w,\;\text{C(ii)}\;\Rightarrow\;\mathbb E\|w_t-w(\lambda)\|^2\le\rho(t)\text{ of (13), (14)}",
        hypotheses=(
            Hypothesis("towards w(λ)", r"\|\Phi(w)-w(\lambda)\|\le q\|w-w(\lambda)\|,\;q<1", _shrinks),
            Hypothesis(STEPS.name, STEPS.tex, _lengths),
        ),
        strategy=st.fixed_dictionaries(
            {
                "q": st.integers(1, 15),
                "slopes": SLOPES,
                "strength": st.integers(0, 4),
                "plain": st.integers(0, 4),
                "reach": st.integers(0, 4),
                "share": st.integers(1, 8),
                "decreasing": st.booleans(),
                "beta": st.integers(1, 8),
                "gamma": st.integers(0, 8),
                "steps": st.integers(1, 4),
            }
        ),
        explicit=(STEPPED, {**STEPPED, "decreasing": True}, {**STEPPED, "strength": 2, "slopes": [8] * 6}),
        build=broken,
        measure=quasi(),
        grade="proved",
        controls=(
            Control("one slope of 2q", params={**STEPPED, "slopes": [8, -8, 8, -8, 16, -8], "plain": 0}),
            Control("a step of 2 where Φ = 0", params={**STEPPED, "slopes": [0] * 6, "share": 16, "q": 1}),
            Control(
                "half of σ₁",
                kind="formula",
                measure=quasi(lambda one: rho(one.but(sigma1=one.stated.sigma1 / 2))),
                params=STEPPED,
            ),
        ),
        equality=Equality(params=STEPPED, reaches=1.0),
        budget=Budget(quick=60, full=800),
        notes=r"$\Phi(w)=s(w)w$ on $\mathbb R$ with $|s|\le q$ of either sign on six intervals: "
        r"discontinuous, so no contraction. All paths of (11) enumerated. The equality case flips its sign "
        r"at every break: only $|\Phi(w)|=q|w|$ matters at $\eta=1$.",
    ),
)
