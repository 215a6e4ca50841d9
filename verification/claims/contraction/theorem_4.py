"""Theorem 4 (i) without noise: the error of the hypergradient built from any w_t and any v_k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import Hypergradient, approximate, solvers
from refimpl.approximate import Approximation
from refimpl.arrays.backend import Array
from verification.claims.contraction._assumptions import IN_W, assumptions, too_small
from verification.claims.contraction._instances import (
    Case,
    Place,
    case,
    cases,
    point_region,
    rounding,
    scalar,
    unit,
)
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement


@dataclass(frozen=True)
class Run:
    """t lower steps from w_0 in the ball around w(λ), then k adjoint steps from v_0 at w_t; no noise."""

    of: Case
    place: Place
    w0: Array
    off: Array  # v_0 − v(w_t)
    t: int
    k: int
    answer: Hypergradient | None

    @property
    def grid(self) -> tuple[Sequence[Array], Sequence[Array]]:
        """λ, and w(λ) with w_0."""
        return [self.of.lam], [self.place.region.w, self.w0]

    def adjoint_at(self, w: Array) -> Array:
        """v(w, λ), by a direct solve."""
        return self._implicit(w, 0, solvers.LU(), None).v

    def result(self) -> tuple[Approximation, Array]:
        """What the method returns, and v(w_t, λ)."""
        w = solvers.FixedPoint(self.t).run(self.of.problem, self.of.lam, self.w0).w
        v = self.adjoint_at(w)
        return self._implicit(self.w0, self.t, solvers.FixedPointAdjoint(self.k), v + self.off), v

    def _implicit(self, w0: Array, t: int, linear: solvers.LinearSolver, v0: Array | None) -> Approximation:
        lower = solvers.FixedPoint(t)
        return approximate.implicit(self.of.problem, self.of.lam, lower=lower, linear=linear, w0=w0, v0=v0)


def build(p: dict[str, Any]) -> Run:
    """w_0 lies ``reach`` radii from w(λ), and v_0 is ``off`` away from v(w_t)."""
    of = case(p)
    place = point_region(of, p["radius"]).stated(p)
    answer = None if place.proved is None else of.exact(of.lam)
    d = of.problem.d
    w0 = place.region.w + p["reach"] * p["radius"] * unit(d, p["direction"])
    return Run(of, place, w0, p["off"] * unit(d, p["direction"] + p["turn"]), p["t"], p["k"], answer)


def bias(run: Run, terms: dict[str, float] | None = None, k: int = 0) -> Measurement:
    """The error against c₁δ + L_Φε + ν₂δε, δ = ‖w_t − w(λ)‖, ε = ‖v_k − v(w_t)‖; ``terms``: their factors."""
    assert run.answer is not None  # the hypotheses have been checked
    factor = {"c1": 1.0, "L_Phi": 1.0, "nu2": 1.0, **(terms or {})}
    of, e = run.of, run.answer
    # B(iv) asks for L_Φ on the solution path alone: at this λ it is the norm there
    at_solution = float(np.linalg.norm(of.problem.phi.d_lam(of.lam, e.w).dense(), 2))
    c = replace(run.place.constants, L_Phi=at_solution)
    near, v = run.result()
    delta = float(np.linalg.norm(near.w - e.w))
    eps = float(np.linalg.norm(near.v - v))
    bound = (
        factor["c1"] * c.c1 * delta + factor["L_Phi"] * c.L_Phi * eps + factor["nu2"] * c.nu2 * delta * eps
    )
    errors = (
        rounding(of, c, of.lam, near.w, near.v, solved=False),
        rounding(of, c, of.lam, e.w, e.v),
    )
    return Measurement(
        observed=float(np.linalg.norm(near.value - e.value)),
        bound=bound,
        # both values, and v(w_t), whose error enters ε, as both stages see it
        rounding=sum(error.value for error in errors) + (c.L_Phi + c.nu2 * delta) * errors[0].v,
    )


def _contracts(run: Run) -> tuple[bool, Any]:
    return run.place.contracts(run.of, (run.of.lam, run.place.region.w))


def _inside(run: Run) -> tuple[bool, float]:
    r = run.place.region
    share = float(np.linalg.norm(run.w0 - r.w)) / r.w_radius
    eps = 10 * run.of.problem.d * run.of.problem.backend.eps  # w_0 = centre + offset was rounded
    return share <= 1 + eps * (1 + float(np.linalg.norm(r.w)) / r.w_radius), share


def _curve(run: Run) -> dict[str, Any]:
    runs = [replace(run, t=t, k=t) for t in range(0, 31, 2)]
    seen = [bias(one) for one in runs]
    return {
        "x": [one.t for one in runs],
        "predicted": [m.bound + m.rounding for m in seen],
        "measured": [m.observed for m in seen],
        "xlabel": "t = k",
        "ylabel": "error of the hypergradient",
        "logy": True,
    }


HERE = {"radius": 1e-4, "reach": 1.0, "direction": 0, "off": 1e-4, "turn": 0, "t": 0, "k": 0}
ALL = {**scalar(q=0.5, b=0.5, nu1=0.4, nu2=0.3, nu2_bar=0.6, nu3=0.5, e=0.7, m1=0.5, m2=0.8, m3=2.0), **HERE}
LINE = {**scalar(b=1.0, e=1.0), **HERE, "off": 1.0, "t": 3, "k": 3}
PRODUCT = {**scalar(nu2=1.0), **HERE, "radius": 0.5, "off": 1.0}  # L_Φ = c₁ = 0: only the product is left


def _without(name: str, label: str) -> Control:
    return Control(f"without the term {label}", kind="formula", measure=lambda run: bias(run, {name: 0.0}))


CLAIMS = (
    Claim(
        id="contraction/theorem-4-i@deterministic",
        title="Bias of the hypergradient estimate: both stages' errors, and their product",
        source="contraction, Theorem 4 (i), deterministic solvers; its right side is lost, restored from the "
        "proof",
        statement=r"\|\tilde\nabla f(\lambda)-\nabla f(\lambda)\|\le "
        r"c_1\delta+L_\Phi\varepsilon+\nu_2\delta\varepsilon,"
        r"\quad\delta=\|w_t-w(\lambda)\|,\;\varepsilon=\|v_k-v(w_t,\lambda)\|,\quad "
        r"c_1=\mu_2+(\mu_1L_\Phi+\nu_2L_E)\kappa_q+\nu_1L_EL_\Phi\kappa_q^2",
        hypotheses=(
            Hypothesis("A(i)", r"\|\partial_1\Phi(w,\lambda)\|\le q<1\ \text{on the ball}", _contracts),
            Hypothesis("w₀ in the ball", r"\|w_0-w(\lambda)\|\le\text{its radius}", _inside),
            *assumptions(*IN_W),
        ),
        strategy=cases(
            radius=st.floats(1e-4, 1),
            reach=st.floats(0.1, 1),
            direction=st.integers(0, 9),
            off=st.floats(-2, 2),
            turn=st.integers(0, 2),
            t=st.integers(0, 6),
            k=st.integers(0, 6),
        ),
        explicit=(LINE, ALL, PRODUCT),
        build=build,
        measure=bias,
        grade="exact",
        controls=(
            Control("w₀ outside the ball", params={**ALL, "radius": 0.01, "reach": 70.0}),
            *(too_small(name, ALL) for name in IN_W),
            _without("c1", "c₁δ"),
            _without("L_Phi", "L_Φε"),
            _without("nu2", "ν₂δε"),
            Control("c₁ halved", kind="formula", measure=lambda run: bias(run, {"c1": 0.5})),
        ),
        equality=Equality(params=ALL, reaches=0.999),
        curve=_curve,
        budget=Budget(quick=150, full=3000),
        notes=r"Without noise $\sqrt{\sigma(k)}$ is $\varepsilon$ itself; at $t=k$, with both solvers' rates: "
        r"theorem-17@error. With $t=k=0$ the instances include "
        r"arbitrary $w$ and $v$. Split $\partial_2\Phi(w_t)^{\top}v_k-\partial_2\Phi(w(\lambda))^{\top}v$ "
        r"into $\partial_2\Phi(w(\lambda))^{\top}(v_k-v) "
        r"+(\partial_2\Phi(w_t)-\partial_2\Phi(w(\lambda)))^{\top}v_k$ and use Lemma 20 and $\|v_k\|\le "
        r"L_E\kappa_q+\varepsilon$. $L_\Phi$ is the norm of $\partial_2\Phi$ at $w(\lambda)$ alone. "
        r"Equality: $\Phi=qw+\lambda$, $E=w$ (only $L_\Phi\varepsilon$); all terms at once in the limit of a "
        r"small ball with positive derivatives.",
    ),
)
