"""Bi-level descent aggregation (Liu et al.) and BiG-SAM: one step, as long as nothing is projected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from refimpl.sets import Box
from refimpl.solvers import Averaging, BiGSAM, Projection
from verification.claims.improved_bilevel._moving import RATIONAL, Moving, at, moving, sizes
from verification.model import Budget, Claim, Control, Correction, Hypothesis, Measurement, identity

SOURCE = "improved-bilevel, after (4); Liu, Mu, Yuan, Zeng and Zhang 2020"


@dataclass(frozen=True)
class Pair:
    """Both methods from the same w_0; ``params``: K, alpha and box, the lower bound of a projection or None."""

    case: Moving
    params: Mapping[str, Any]

    @property
    def steps(self) -> tuple[Fraction, Fraction]:
        """s, t."""
        return Fraction(1, 8), Fraction(1, 4)

    @property
    def projected(self) -> bool:
        return self.params.get("low") is not None

    def project(self, w: Array) -> Array:
        low = self.params.get("low")
        return w if low is None else np.maximum(w, RATIONAL.scalar(low))

    @property
    def start(self) -> Array:
        return self.project(RATIONAL.asarray(np.array(self.params["w"][: self.case.problem.d], dtype=float)))

    @property
    def solver(self) -> BiGSAM:
        (s, t), low = self.steps, self.params.get("low")
        prox = Projection(Box(low, None)) if low is not None else None
        return BiGSAM(self.params["K"], s=s, t=t, alpha=Averaging(Fraction(1, 2), Fraction(1, 4)), prox=prox)

    def iterates(self) -> list[Array]:
        return list(self.solver.run(self.case.problem, self.case.lam, self.start, keep=None).states)

    def aggregated(self, swapped: bool = False, matched: bool = True, inside: bool = True) -> list[Array]:
        """w ← P(w − (α d_F + (1 − α) d_G)), d_F = t∇_wF, d_G = s∇_wG; mutants: α on d_G, d_F with s.

        ``inside=False``: the projection of the step on G alone.
        """
        (s, t), lam = (map(RATIONAL.scalar, self.steps)), self.case.lam
        path = [self.start]
        for k in range(1, self.params["K"] + 1):
            w, alpha = path[-1], RATIONAL.scalar(self.solver.weight(k))
            alpha = 1 - alpha if swapped else alpha
            dF = (t if matched else s) * self.case.upper.grad_w(lam, w)
            dG = s * self.case.lower.grad_w(lam, w)
            if inside:
                path.append(self.project(w - (alpha * dF + (1 - alpha) * dG)))
            else:
                path.append(alpha * (w - dF) + (1 - alpha) * self.project(w - dG))
        return path


def same(**options: Any) -> Callable[[Pair], Measurement]:
    """BiG-SAM's iterates against the aggregated ones."""
    return lambda pair: identity(pair.iterates(), pair.aggregated(**options))


def pair(params: Mapping[str, Any]) -> Pair:
    """Both methods on the problem of these parameters."""
    return Pair(moving(params), dict(params))


def run(n: int, d: int, r: int, K: int, **more: Any) -> dict[str, Any]:
    """Parameters of one pair."""
    return at(n, d, r, K=K, **{"w": [1, -1, 2], **more})


STARTS = st.tuples(*[st.integers(-2, 2)] * 3).map(list)
NOT_PROJECTED = Hypothesis("no projection", r"P = I", lambda p: (not p.projected, str(p.params.get("low"))))
COMMON: dict[str, Any] = {"source": SOURCE, "build": pair, "grade": "proved"}
ONE = run(1, 1, 1, 2, low=0)

CLAIMS = (
    Claim(
        id="improved-bilevel/bda",
        title="Without projection BiG-SAM is bi-level descent aggregation with matched steps",
        statement=r"\alpha z + (1-\alpha)y = w - (\alpha t\nabla_wF + (1-\alpha)s\nabla_wG)",
        **COMMON,
        hypotheses=(NOT_PROJECTED,),
        strategy=sizes(K=st.integers(1, 4), w=STARTS),
        explicit=(run(1, 1, 1, 1), run(1, 2, 1, 3), run(2, 3, 2, 4)),
        measure=same(),
        controls=(
            Control("projected", params=ONE),
            Control("α on the step on G", kind="formula", measure=same(swapped=True)),
            Control("one step size for both", kind="formula", measure=same(matched=False)),
        ),
        budget=Budget(quick=50, full=1000),
        notes="An identity; so what is proved for one method is proved for the other, and any difference "
        "between their reported results lies in step sizes, weights and starts.",
    ),
    Claim(
        id="improved-bilevel/bda@projected",
        title="Read with a projection: the projected aggregated step is BiG-SAM's",
        statement=r"\alpha z + (1-\alpha)P(w - s\nabla_wG) = P\left(w - (\alpha t\nabla_wF + "
        r"(1-\alpha)s\nabla_wG)\right)",
        **COMMON,
        strategy=sizes(K=st.integers(1, 3), w=STARTS, low=st.integers(-1, 1)),
        explicit=(ONE, run(1, 2, 1, 3, low=0)),
        measure=same(),
        controls=(Control("α on the step on G", kind="formula", measure=same(swapped=True, inside=False)),),
        corrected=Correction(
            tex=r"w_k = \alpha_k(w - t\nabla_wF) + (1-\alpha_k)P(w - s\nabla_wG)",
            measure=same(inside=False),
            proof="BiG-SAM projects the step on $G$ alone, so its iterates may leave the set. Smallest: $W = "
            "[0, \\infty)$, $w = 0$, $\\nabla G = 1$, $\\nabla F = -1$, $s = t = 1$, $\\alpha = \\frac12$: "
            "BiG-SAM goes to $\\frac12$, the projected aggregate stays at 0.",
        ),
        budget=Budget(quick=50, full=1000),
        notes="The two agree where the projection does nothing.",
    ),
)
