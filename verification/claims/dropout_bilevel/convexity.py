"""Proposition 1: strong convexity of the mean over masks, and what dropout does to conditioning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.masks import Dropout, dropout
from refimpl.objective import Objective
from refimpl.zoo import logistic, quadratic
from verification.claims.dropout_bilevel._masks import PARTS, law
from verification.instances import EPS
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, reals


@dataclass(frozen=True)
class Lower:
    """A strongly convex G(λ, ·) with the modulus that is stated of it, its masks, and a point."""

    f: Objective
    mu: float
    params: Mapping[str, Any]
    w: np.ndarray

    @property
    def lam(self) -> np.ndarray:
        return np.full(self.f.n, np.log(self.params["mu"]))

    @cached_property
    def over(self) -> Dropout:
        return dropout(self.f, self.law.level["w"])

    @cached_property
    def law(self) -> Any:
        return law({**self.params, "n": 0})

    @cached_property
    def keep(self) -> np.ndarray:
        """The keep probability of every coordinate."""
        return np.array([float(p) for p in self.law.coordinates])

    @cached_property
    def mean(self) -> np.ndarray:
        """∇²_wwḠ."""
        return np.asarray(self.over.hess_ww(self.lam, self.w).dense())

    @cached_property
    def of_masks(self) -> np.ndarray:
        """∇²_wwG(m_ww) for every mask."""
        masks = self.over.w.mask(self.over.w.points(np.arange(self.over.w.size)), self.f.backend)
        H = self.f.hess_ww(self.lam, masks * self.w).dense()
        return np.broadcast_to(H, (len(masks), self.f.d, self.f.d))

    @cached_property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest eigenvalue of ∇²_wwG over all masked points."""
        values = np.linalg.eigvalsh(self.of_masks)
        return float(values.min()), float(values.max())

    @property
    def rounding(self) -> float:
        """Of an eigenvalue of a sum of masked Hessians: 10·d·eps of the largest."""
        return 10 * self.f.d * EPS * self.ends[1]


def build(params: Mapping[str, Any]) -> Lower:
    """``kind``: a quadratic with spectrum μ … μκ in a random basis, or logistic loss plus (μ/2)‖w‖²."""
    d, mu, rng = params["d"], params["mu"], np.random.default_rng(params["seed"])
    if params["kind"] == "quadratic":
        spectrum = (mu * np.geomspace(1, params["kappa"], d)).tolist()
        f: Objective = quadratic.objective(ww=quadratic.spectrum_matrix(spectrum, rng), n=0)
    else:
        f = logistic.random(d=d, seed=params["seed"]).lower
    stated = mu * params.get("stated", 1)
    return Lower(f, stated, params, rng.standard_normal(d))


def modulus(share: Callable[[Lower], float], mean: Callable[[Lower], np.ndarray] | None = None) -> Any:
    """share · μ <= λ_min(∇²_wwḠ)."""

    def measure(case: Lower) -> Measurement:
        H = case.mean if mean is None else mean(case)
        least = float(np.linalg.eigvalsh(H)[0])
        detail = {"condition of Ḡ": float(np.linalg.cond(H)), "condition of G": case.ends[1] / case.ends[0]}
        return Measurement(observed=share(case) * case.mu, bound=least, rounding=case.rounding, detail=detail)

    return measure


def only_off_diagonal(case: Lower) -> np.ndarray:
    """p_i p_j on the diagonal too: D H D for a quadratic."""
    return case.keep[:, None] * case.of_masks[-1] * case.keep


def conditioning(ratio: Callable[[Lower], float]) -> Any:
    """κ(∇²_wwḠ) <= ratio · (largest over smallest eigenvalue of ∇²_wwG at masked points)."""

    def measure(case: Lower) -> Measurement:
        values = np.linalg.eigvalsh(case.mean)
        bound = ratio(case) * case.ends[1] / case.ends[0]
        # each eigenvalue is off by ``rounding``, which the smallest divides
        found = float(values[-1] / values[0])
        return Measurement(
            observed=found, bound=bound, rounding=2 * (found + bound) * case.rounding / float(values[0])
        )

    return measure


def _strongly_convex(case: Lower) -> tuple[bool, Any]:
    return case.mu <= case.ends[0] + case.rounding, f"{case.ends[0]:.6g} against {case.mu:.6g}"


CONVEX = Hypothesis(
    "strongly convex", r"\nabla^2_{ww}G \succeq \mu I \text{ at all masked points}", _strongly_convex
)


def _at(**more: Any) -> dict[str, Any]:
    base = {"kind": "quadratic", "d": 1, "mu": 1.0, "kappa": 1.0, "seed": 0, "keep_w": [4, 8, 8, 8]}
    return {**base, "groups_w": [0, 1, 2, 3], **more}


STRATEGY = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["quadratic", "logistic"]),
        "d": st.integers(1, 4),
        "mu": reals(0.1, 2),
        "kappa": reals(1, 30),
        "seed": st.integers(0, 999),
        "keep_w": st.lists(st.integers(1, PARTS), min_size=4, max_size=4),
        "groups_w": st.sampled_from([[0, 1, 2, 3], [0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]),
    }
)
EXPLICIT = (
    _at(),
    _at(d=2),
    _at(d=2, kappa=4.0),
    _at(d=3, kappa=4.0, groups_w=[0, 0, 1, 1]),
    _at(kind="logistic", d=3),
)

CLAIMS = (
    Claim(
        id="dropout-bilevel/prop-1-convexity",
        title="The mean over masks is strongly convex with the smallest keep probability times the modulus",
        source="dropout-bilevel, proposition 1",
        statement=r"\nabla^2_{ww}G \succeq \mu I \;\Rightarrow\; \nabla^2_{ww}\bar G \succeq p_w\mu "
        r"I,\qquad p_w = \min_ip_{i,w}",
        hypotheses=(CONVEX,),
        strategy=STRATEGY,
        explicit=EXPLICIT,
        build=build,
        measure=modulus(lambda case: case.keep.min()),
        grade="exact",
        equality=Equality(params=_at(d=2), reaches=0.999),
        controls=(
            Control("modulus of G stated too large", params=_at(d=2, stated=2)),
            Control("p_max for p_min", kind="formula", measure=modulus(lambda case: case.keep.max())),
            Control("μ without p", kind="formula", measure=modulus(lambda case: 1.0)),
            Control(
                "p² for p on the diagonal",
                kind="formula",
                measure=modulus(lambda case: case.keep.min(), only_off_diagonal),
            ),
        ),
        budget=Budget(quick=150, full=3000),
        notes="$v^\\top E[m\\nabla^2G(m\\cdot)m]v \\ge \\mu E\\|mv\\|^2 = \\mu\\sum_ip_iv_i^2$, for grouped "
        "masks too. Equality for $G = \\frac{\\mu}{2}\\|w\\|^2$. With $p_w = 0$, which the document allows, "
        "the modulus is 0 and w(λ) is not unique: the library refuses that. The condition numbers stand in "
        "the details.",
    ),
    Claim(
        id="dropout-bilevel/prop-1-convexity@conditioning",
        title="What dropout does to the condition number of the lower level",
        source="dropout-bilevel, proposition 1 (a companion, not printed)",
        statement=r"$$\kappa(\nabla^2_{ww}\bar G) \le \frac{\max_ip_{i,w}}{\min_ip_{i,w}}\,\frac{L}{\mu}$$ "
        r"where $\mu$ and L are the extreme eigenvalues of $\nabla^2_{ww}G$ over all masked points",
        strategy=STRATEGY,
        explicit=EXPLICIT,
        build=build,
        measure=conditioning(lambda case: case.keep.max() / case.keep.min()),
        grade="exact",
        equality=Equality(params=_at(d=2), reaches=0.999),
        controls=(
            Control(
                "ratio of keep probabilities dropped", kind="formula", measure=conditioning(lambda case: 1.0)
            ),
            Control(
                "its square root",
                kind="formula",
                measure=conditioning(lambda case: (case.keep.max() / case.keep.min()) ** 0.5),
            ),
        ),
        budget=Budget(quick=150, full=3000),
        notes="Both ends of the spectrum, as for the modulus. So one keep probability everywhere never "
        "worsens the conditioning: the mean's off-diagonal entries have $p^2$, its diagonal p, and for "
        "$\\begin{pmatrix}2 & 1\\\\1 & 2\\end{pmatrix}$ κ falls from 3 to $(2+p)/(2-p)$. Different ones "
        "can: G = ‖w‖²/2 with p = (½, 1) goes from 1 to 2, the equality case. With one mask for all of w "
        "nothing changes, κ(pH) = κ(H).",
    ),
)
