"""Lemmas 20 and 21: how far the adjoint and ∂₂Φ move when the lower problem is not solved exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import Hypergradient, approximate, solvers
from refimpl.arrays.backend import Array
from refimpl.constants import Constants
from verification.claims.contraction._assumptions import assumptions, too_small
from verification.claims.contraction._instances import (
    Case,
    Place,
    case,
    cases,
    point_region,
    rounding,
    scalar,
    symbol,
    unit,
)
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement

Constant = Callable[[Constants], float]


@dataclass(frozen=True)
class Point:
    """w near w(λ), and constants on a ball around w(λ); no answer where Φ is not proved to contract."""

    of: Case
    place: Place
    w: Array
    answer: Hypergradient | None

    @property
    def exact(self) -> Hypergradient:
        """The exact answer at λ, of a point that has one."""
        assert self.answer is not None
        return self.answer

    @property
    def grid(self) -> tuple[Sequence[Array], Sequence[Array]]:
        """λ, and w(λ) with w."""
        return [self.of.lam], [self.place.region.w, self.w]

    @property
    def distance(self) -> float:
        """‖w − w(λ)‖."""
        return float(np.linalg.norm(self.w - self.exact.w))

    def d_lam(self, w: Array) -> float:
        """‖∂₂Φ(w, λ)‖."""
        return float(np.linalg.norm(self.of.problem.phi.d_lam(self.of.lam, w).dense(), 2))


def build(p: dict[str, Any]) -> Point:
    """w lies ``reach`` radii from w(λ), the centre of the ball."""
    of = case(p)
    place = point_region(of, p["radius"]).stated(p)
    answer = None if place.proved is None else of.exact(of.lam)
    w = place.region.w + p["reach"] * p["radius"] * unit(of.problem.d, p["direction"])
    return Point(of, place, w, answer)


def _contracts(point: Point) -> tuple[bool, Any]:
    return point.place.contracts(point.of, (point.of.lam, point.place.region.w))


def _inside(point: Point) -> tuple[bool, float]:
    """w in the ball; measured: the share of its radius."""
    r = point.place.region
    share = float(np.linalg.norm(point.w - r.w)) / r.w_radius
    eps = 10 * point.of.problem.d * point.of.problem.backend.eps  # w = centre + offset was rounded
    return share <= 1 + eps * (1 + float(np.linalg.norm(r.w)) / r.w_radius), share


HYPOTHESES = (
    Hypothesis("A(i)", r"\|\partial_1\Phi(w,\lambda)\|\le q<1\ \text{on the ball}", _contracts),
    Hypothesis("w in the ball", r"\|w-w(\lambda)\|\le\text{the radius on which the constants hold}", _inside),
)
STRATEGY = cases(radius=st.floats(1e-4, 1), reach=st.floats(0.1, 1), direction=st.integers(0, 9))
HERE = {"radius": 1e-4, "reach": 1.0, "direction": 0}
# everything positive: each term is attained as the radius shrinks
ALL = {**scalar(q=0.5, b=0.5, nu1=0.4, nu2=0.3, nu2_bar=0.6, nu3=0.5, e=0.7, m1=0.5, m2=0.8, m3=2.0), **HERE}


# -- Lemma 20 ---------------------------------------------------------------------------------------


def adjoint_slope(c: Constants) -> float:
    """ν₁L_Eκ_q² + μ₁κ_q."""
    return c.nu1 * c.L_E * c.kappa_q**2 + c.mu1 * c.kappa_q


def adjoint(point: Point, slope: Constant = adjoint_slope) -> Measurement:
    """‖v(w, λ) − v(w(λ), λ)‖ against slope times ‖w − w(λ)‖."""
    of, c, e = point.of, point.place.constants, point.exact
    exact_at_w = {"lower": solvers.FixedPoint(0), "linear": solvers.LU(), "w0": point.w}
    v = approximate.implicit(of.problem, of.lam, **exact_at_w).v
    errors = (rounding(of, c, of.lam, point.w, v, solved=False), rounding(of, c, of.lam, e.w, e.v))
    # the distance itself is known to the rounding of w(λ), which moves v(w(λ)) and so is counted there
    return Measurement(
        observed=float(np.linalg.norm(v - e.v)),
        bound=slope(c) * point.distance,
        rounding=sum(error.v for error in errors),
    )


def _dropped(name: str) -> Control:
    def measure(point: Point) -> Measurement:
        return adjoint(point, lambda c: adjoint_slope(replace(c, **{name: 0.0})))

    return Control(f"without {symbol(name)}", kind="formula", measure=measure)


# -- Lemma 21 ---------------------------------------------------------------------------------------


def cross(point: Point, slope: Constant = lambda c: c.nu2, on_path: float = 1.0) -> Measurement:
    """‖∂₂Φ(w, λ)‖ against its size on the path plus slope times ‖w − w(λ)‖."""
    on_the_path, here, problem = point.d_lam(point.exact.w), point.d_lam(point.w), point.of.problem
    bound = on_path * on_the_path + slope(point.place.constants) * point.distance
    # two norms of n x d matrices, and w(λ) known to its rounding, which ν₂ carries on
    w = rounding(point.of, point.place.constants, point.of.lam, point.exact.w, point.exact.v).w
    eps = 10 * max(problem.n, problem.d) * problem.backend.eps
    moved = point.place.constants.nu2 * w
    return Measurement(observed=here, bound=bound, rounding=eps * (on_the_path + here) + moved)


def _curve(measure: Callable[[Point], Measurement], ylabel: str) -> Callable[[Point], dict[str, Any]]:
    """Both sides along the ray through w, out to the ball's edge."""

    def curve(point: Point) -> dict[str, Any]:
        centre = point.place.region.w
        shares = np.geomspace(1e-2, 1, 12)
        on_ray = [measure(replace(point, w=centre + s * (point.w - centre))) for s in shares]
        return {
            "x": [s * point.distance for s in shares],
            "predicted": [m.bound for m in on_ray],
            "measured": [m.observed for m in on_ray],
            "xlabel": "‖w − w(λ)‖",
            "ylabel": ylabel,
            "logx": True,
            "logy": True,
        }

    return curve


OUTSIDE = Control("w outside the ball", params={**ALL, "radius": 0.01, "reach": 100.0})
COMMON: dict[str, Any] = {
    "strategy": STRATEGY,
    "build": build,
    "grade": "exact",
    "budget": Budget(quick=200, full=4000),
}

CLAIMS = (
    Claim(
        id="contraction/lemma-20",
        title="The adjoint at an approximate lower solution is off by at most a constant times the distance",
        source="contraction, Lemma 20, (35); its right side is lost and restored from its proof",
        statement=r"\|v(w,\lambda)-v(w(\lambda),\lambda)\|\le(\nu_1L_E\kappa_q^2+\mu_1\kappa_q)\|w-w(\lambda)\|",
        hypotheses=(*HYPOTHESES, *assumptions("nu1", "mu1", "L_E")),
        explicit=({**scalar(e=1.0, m1=1.0), **HERE}, ALL),
        measure=adjoint,
        controls=(
            OUTSIDE,
            *(too_small(name, ALL) for name in ("nu1", "mu1", "L_E")),
            _dropped("nu1"),
            _dropped("mu1"),
            Control(
                "κ_q for κ_q²",
                kind="formula",
                measure=lambda point: adjoint(point, lambda c: (c.nu1 * c.L_E + c.mu1) * c.kappa_q),
            ),
        ),
        equality=Equality(params=ALL, reaches=0.999),
        curve=_curve(adjoint, "‖v(w, λ) − v(w(λ), λ)‖"),
        notes=r"$v=H^{-\top}\nabla_1E$ with $H=I-\partial_1\Phi$. With $H,g$ at $w$ and $H_*,g_*$ at "
        r"$w(\lambda)$: $v-v_*=H^{-\top}(g-g_*)+H^{-\top}(H_*-H)^{\top}H_*^{-\top}g_*$, then Lemma 28 twice. "
        r"Only $\|g_*\|\le L_E$ is needed, so $L_E$ may be taken at $w(\lambda)$ alone. Equality in the "
        r"limit of a small ball: $n=d=1$, all derivatives positive.",
        **COMMON,
    ),
    Claim(
        id="contraction/lemma-21",
        title="The derivative ∂₂Φ off the solution path is bounded by its size on the path plus ν₂ times the distance",
        source="contraction, Lemma 21, (36); its right side is lost and restored from B(iv) and A(ii)",
        statement=r"\|\partial_2\Phi(w,\lambda)\|\le L_\Phi+\nu_2\|w-w(\lambda)\|,\qquad "
        r"L_\Phi=\|\partial_2\Phi(w(\lambda),\lambda)\|",
        hypotheses=(*HYPOTHESES, *assumptions("nu2")),
        explicit=({**scalar(b=1.0, nu2=1.0), **HERE}, {**ALL, "radius": 0.1}),
        measure=cross,
        controls=(
            OUTSIDE,
            too_small("nu2", {**scalar(b=1.0, nu2=1.0), **HERE, "radius": 0.5}),
            Control("without ν₂", kind="formula", measure=lambda point: cross(point, slope=lambda c: 0.0)),
            Control("ν₁ for ν₂", kind="formula", measure=lambda point: cross(point, slope=lambda c: c.nu1)),
            Control("without L_Φ", kind="formula", measure=lambda point: cross(point, on_path=0.0)),
        ),
        equality=Equality(params={**scalar(b=1.0, nu2=1.0), **HERE, "radius": 0.5}, reaches=0.999),
        curve=_curve(cross, "‖∂₂Φ(w, λ)‖"),
        notes=r"The triangle inequality. $L_\Phi$ is measured at this $\lambda$, the weakest form of B(iv) "
        r"and so the strongest form of the lemma. Equality: $\Phi=qw+\lambda(1+\nu_2w)$ with "
        r"$w>w(\lambda)=0$.",
        **COMMON,
    ),
)
