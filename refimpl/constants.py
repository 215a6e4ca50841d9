"""The constants of a bilevel problem on a stated region (contraction, section 3), from bounds of its two levels.

Every number is a proved upper (lower, for ``mu``) bound on the region, per instance; a family states them in
``bounds(region)``. The region is a product of two balls; ``around`` builds the one that provably contains
the iterates of a q-contraction: centre w(λ), radius ‖w_0 − w(λ)‖, as every step shortens that distance. The constants
of assumption C are ``noise``'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from refimpl.arrays import to_numpy
from refimpl.arrays.numbers import require_number
from refimpl.bounds import Bounds as Bounds
from refimpl.bounds import MapBounds as MapBounds
from refimpl.bounds import Region as Region
from refimpl.bounds import best_step as best_step
from refimpl.errors import HypothesisViolated
from refimpl.objective import descent_map
from refimpl.problem import BilevelProblem, FixedPointProblem
from refimpl.variances import Noise as Noise
from refimpl.variances import noise as noise


@dataclass(frozen=True)
class Constants:
    """The constants of contraction.md, sections 3 and 4; ``_bar`` marks those in λ. Φ scaling throughout.

    step: s where Φ = w − s ∇_wG, and 1 for a map. A residual w − Φ is then s times that of the problem: the steps of an
    iteration on ∇_wG itself are s times the theory's, its adjoint s times the one of Φ.
    Raises ``BadInput`` unless 0 <= q < 1, step > 0, and the others are >= 0, all of them finite.
    """

    q: float
    L_E: float
    L_Phi: float
    nu1: float
    nu2: float
    mu1: float
    mu2: float
    nu1_bar: float
    nu2_bar: float
    mu1_bar: float
    mu2_bar: float
    B: float
    step: Any = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            require_number(
                getattr(self, field.name),
                field.name,
                "constants(problem, region) states them; most are finite on a region of finite radius only",
                high=1 if field.name == "q" else math.inf,
                closed=field.name != "step",
            )

    @property
    def kappa_q(self) -> float:
        """κ_q = 1/(1 − q) (L28)."""
        return 1 / (1 - self.q)

    @property
    def L_w(self) -> float:
        """Lipschitz constant of w(·) (Lemma 3 i)."""
        return self.L_Phi * self.kappa_q

    @property
    def L_dw(self) -> float:
        """Lipschitz constant of w'(·) (Lemma 3 ii)."""
        k = self.kappa_q
        return (
            self.nu2_bar * k + (self.nu2 + self.nu1_bar) * self.L_Phi * k**2 + self.nu1 * self.L_Phi**2 * k**3
        )

    @property
    def L_f(self) -> float:
        """Lipschitz constant of ∇f (Lemma 3 iii)."""
        k, P = self.kappa_q, self.L_Phi
        return (
            self.mu2_bar + (self.mu1_bar + self.mu2) * P * k + self.mu1 * P**2 * k**2 + self.L_E * self.L_dw
        )

    @property
    def c1(self) -> float:
        """Theorem 4's constant: μ₂ + (μ₁L_Φ + ν₂L_E)κ_q + ν₁L_E L_Φ κ_q²."""
        k = self.kappa_q
        return (
            self.mu2
            + (self.mu1 * self.L_Phi + self.nu2 * self.L_E) * k
            + self.nu1 * self.L_E * self.L_Phi * k**2
        )


def around(
    problem: BilevelProblem | FixedPointProblem, lam: Any, w_star: Any, w0: Any, lam_radius: float = 0.0
) -> Region:
    """The region λ's ball x the ball of centre w(λ) and radius ‖w_0 − w(λ)‖, which contains all w_t for this λ."""
    import numpy as np

    centre = to_numpy(w_star)
    return Region(to_numpy(lam), centre, lam_radius, float(np.linalg.norm(to_numpy(w0) - centre)))


def constants(
    problem: BilevelProblem | FixedPointProblem, region: Region, *, step: float | None = None
) -> Constants:
    """The constants on a region. A BilevelProblem is taken through Φ = w − step ∇_wG; the best step by default.

    Raises ``HypothesisViolated`` where the bounds do not prove a contraction, ``BadInput`` where a level states none,
    or an infinite one.
    """
    E = problem.upper.bounds(region)
    if isinstance(problem, FixedPointProblem):
        phi, step = problem.phi.bounds(region), 1
    else:
        step = best_step(problem.lower.bounds(region)) if step is None else step
        phi = descent_map(problem.lower, step).bounds(region)
    if not phi.d_w < 1:
        raise HypothesisViolated(
            "the lower-level map is not proved to contract on this region",
            measured=f"q <= {phi.d_w:.6g}",
            required="q < 1",
            advice="take a step below 2/L, a smaller region, or a strongly convex lower level",
        )
    return Constants(
        q=phi.d_w,
        L_E=E.grad_w,
        L_Phi=phi.d_lam,
        nu1=phi.d_w_by_w,
        nu2=phi.d_lam_by_w,
        mu1=E.hess_ww,
        mu2=E.cross,
        nu1_bar=phi.d_w_by_lam,
        nu2_bar=phi.d_lam_by_lam,
        mu1_bar=E.cross,
        mu2_bar=E.hess_ll,
        B=region.w_radius,
        step=step,
    )
