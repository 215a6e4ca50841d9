"""Fixed-point problems with proved constants: the instances of the claims of ``contraction``.

A ``Case`` is drawn from JSON parameters; ``path_region`` and ``point_region`` say where its constants hold. A control
sets ``halved`` to the name of a constant, which is then stated too small by half: the predicates must notice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

import refimpl as ri
from refimpl import FixedPointProblem, Hypergradient
from refimpl.arrays.backend import Array
from refimpl.constants import Constants, Region, best_step, constants
from refimpl.errors import HypothesisViolated
from refimpl.exact.lower import rounding_floor
from refimpl.objective import Objective
from refimpl.zoo import logistic, maps, quadratic, ridge, uppers
from verification.claims.contraction._scalar_map import ScalarMap

Params = Mapping[str, Any]
Boxes = dict[str, st.SearchStrategy[Any]]


@dataclass(frozen=True)
class Case:
    """A problem, a λ in the middle of Λ, a point to start Newton from, and its constants on any region."""

    problem: FixedPointProblem
    lam: Array
    start: Array
    constants: Callable[[Region], Constants]

    def exact(self, lam: Array) -> Hypergradient:
        """w(λ), v and ∇f(λ), to rounding."""
        return ri.exact_hypergradient(self.problem, lam, start=self.start, certify="never")


def case(p: Params) -> Case:
    """The case of the parameters: ``family`` and what that family needs."""
    if p["family"] == "scalar":
        return _scalar(p)
    if p["family"] in ("affine", "tanh"):
        return _map(p)
    return _minimisation(p)


def _scalar(p: Params) -> Case:
    """w(0) = ``w``; E = e w + m1 w²/2 + m2 λw + m3 λ²/2."""
    q, w, nu1 = p["q"], p["w"], p["nu1"]
    phi = ScalarMap(
        w - q * w - nu1 * w * w / 2, q, *(p[name] for name in ("b", "nu1", "nu2", "nu2_bar", "nu3"))
    )
    upper = quadratic.objective(ww=[[p["m1"]]], lw=[[p["m2"]]], ll=[[p["m3"]]], w1=[p["e"]])
    return _with_own_bounds(FixedPointProblem(upper, phi), np.zeros(1), np.array([w]))


def _map(p: Params) -> Case:
    """‖A‖ = q with singular values down to q·``low``, B and c of size ``scale``; three upper levels."""
    d, n, rng = p["d"], p["n"], np.random.default_rng(p["seed"])
    left, right = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    A = p["q"] * (left * np.linspace(1, p["low"], d)) @ right.T
    B, c = p["scale"] * rng.standard_normal((d, n)), p["scale"] * rng.standard_normal(d)
    phi = (maps.affine if p["family"] == "affine" else maps.tanh)(A, B, c)
    upper: Objective
    if p["upper"] == "linear":
        upper = uppers.linear(rng.standard_normal(d), n=n)
    elif p["upper"] == "log_cosh":
        upper = uppers.log_cosh(rng.standard_normal((d + 1, d)), rng.standard_normal(d + 1), n=n)
    else:
        upper = quadratic.random(n=n, d=d, seed=p["seed"]).upper
    return _with_own_bounds(FixedPointProblem(upper, phi), p["scale"] * rng.standard_normal(n), np.zeros(d))


def _minimisation(p: Params) -> Case:
    """Φ = w − η∇_wG with η = ``share`` of the best step at w(λ), the same all over a region."""
    d, seed = p["d"], p["seed"]
    if p["family"] == "quadratic":
        problem = quadratic.random(n=p["n"], d=d, seed=seed, L=p["condition"])
        lam = problem.start()
    else:
        options = {"d": d, "seed": seed, "per_feature": p["n"] > 1}
        problem = (
            logistic.random(**options)
            if p["family"] == "logistic"
            else ridge.random(**options, log=p["family"] == "ridge.log", lowest=0.0)
        )
        lam = np.full(problem.n, p["penalty"] if p["family"] == "ridge" else np.log(p["penalty"]))
    w = ri.exact_hypergradient(problem, lam, certify="never").w
    step = p["share"] * best_step(problem.lower.bounds(Region(lam, w)))
    return Case(problem.as_fixed_point(step), lam, w, lambda region: constants(problem, region, step=step))


def _with_own_bounds(problem: FixedPointProblem, lam: Array, start: Array) -> Case:
    return Case(problem, lam, start, lambda region: constants(problem, region))


# -- where the constants hold ---------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A region, and the constants proved there; none where Φ is not proved to contract on it."""

    region: Region
    proved: Constants | None

    @property
    def constants(self) -> Constants:
        """The constants, of a place where there are some."""
        assert self.proved is not None
        return self.proved

    def stated(self, p: Params) -> Place:
        """The place with its constant ``p["halved"]``, if any is named, stated too small by half."""
        if self.proved is None or "halved" not in p:
            return self
        half = getattr(self.proved, p["halved"]) / 2
        return replace(self, proved=replace(self.proved, **{p["halved"]: half}))

    def contracts(self, of: Case, *points: tuple[Array, Array]) -> tuple[bool, Any]:
        """A(i): some q < 1 is proved on the region, and ‖∂₁Φ‖ at the points (λ, w) does not exceed it."""
        if self.proved is None:
            return False, "no q < 1 is proved on the region"
        norms = [np.linalg.norm(of.problem.phi.d_w(*at).dense(), 2) for at in points]
        measured = float(max(norms, default=self.proved.q))
        return measured <= self.proved.q + 10 * of.problem.d * of.problem.backend.eps, measured


def path_region(of: Case, radius: float) -> Place:
    """Λ = {‖λ − λ_c‖ <= radius} and a ball around w_c = w(λ_c) that provably holds w(λ) for every λ ∈ Λ.

    With D = sup_Λ ‖∂₂Φ(w_c, λ)‖ radius >= ‖Φ(w_c, λ) − w_c‖, a q-contraction on the ball of radius ρ >= κ_q D
    maps that ball into itself, so its fixed point lies there.
    """
    region = Region(of.lam, of.start, radius, 0.0)
    try:
        region = Region(of.lam, of.exact(of.lam).w, radius, 0.0)
        at = of.constants(region)
        reach = at.L_Phi * radius
        for _ in range(50):
            if at.kappa_q * reach <= region.w_radius:
                return Place(region, at)
            region = Region(of.lam, region.w, radius, 1.01 * at.kappa_q * reach)
            at = of.constants(region)
    except HypothesisViolated:
        pass
    return Place(region, None)


def point_region(of: Case, radius: float) -> Place:
    """One λ and the ball of that radius around w(λ): it holds every iterate that starts there."""
    region = Region(of.lam, of.start, 0.0, radius)
    try:
        region = Region(of.lam, of.exact(of.lam).w, 0.0, radius)
        return Place(region, of.constants(region))
    except HypothesisViolated:
        return Place(region, None)


def unit(size: int, seed: int) -> Array:
    """A unit vector."""
    x = np.random.default_rng(seed).standard_normal(size)
    return x / np.linalg.norm(x)


# -- rounding ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rounding:
    """How far rounding may move w(λ), w'(λ), v and ∇f(λ) (Euclidean and Frobenius norms)."""

    w: float
    dw: float
    v: float
    value: float


def rounding(of: Case, c: Constants, lam: Array, w: Array, v: Array, *, solved: bool = True) -> Rounding:
    """First order: 10 max(n, d) eps times the terms of each stage, carried on by the stages' own constants.

    w: ‖r‖ is at its floor, so κ_q times that (0 where w is given, not solved for). A solve with J = I − ∂_wΦ
    is backward stable: κ_q eps (‖J‖‖x‖ + ‖b‖). An error of w moves w', v, ∇f by their slopes in w.
    """
    problem, norm = of.problem, np.linalg.norm
    eps = 10 * max(problem.n, problem.d) * problem.backend.eps
    J, C = problem.residual_w(lam, w).dense(), problem.residual_lam(lam, w).dense()
    k, in_w = c.kappa_q, float(rounding_floor(problem, lam, w, J)) * c.kappa_q if solved else 0.0
    size, origin = float(norm(w)), 0 * w
    rhs = norm(problem.upper.grad_w(lam, origin)) + c.mu1 * size
    cross = norm(problem.residual_lam(lam, origin).dense()) + c.nu2 * size
    direct = norm(problem.upper.grad_lam(lam, origin)) + c.mu2 * size
    in_v = k * eps * (norm(J) * norm(v) + rhs)
    return Rounding(
        in_w,
        float(k * eps * (norm(J) * k * norm(C) + cross) + (k * c.nu2 + k**2 * c.nu1 * c.L_Phi) * in_w),
        float(in_v + (c.nu1 * c.L_E * k**2 + c.mu1 * k) * in_w),
        float(c.c1 * in_w + norm(C) * in_v + eps * (direct + cross * norm(v))),
    )


# -- strategies -------------------------------------------------------------------------------------

_SCALARS = ("w", "b", "nu1", "nu2", "nu2_bar", "nu3", "e", "m1", "m2", "m3")
_seeds = st.integers(0, 30)
_signed = st.floats(-1, 1)
_sizes: Boxes = {"d": st.integers(1, 4), "n": st.integers(1, 3), "seed": _seeds}
_penalised: Boxes = {
    "d": st.integers(1, 3),
    "n": st.integers(1, 2),
    "seed": _seeds,
    "share": st.floats(0.3, 1),
}


_mapped: Boxes = {
    **_sizes,
    "low": st.floats(0, 1),
    "scale": st.floats(0.1, 2),
    "upper": st.sampled_from(["linear", "log_cosh", "quadratic"]),
}


def cases(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Parameters of cases of every family, with the claim's own parameters ``more``."""
    scalar = dict.fromkeys(_SCALARS, _signed)
    families: dict[str, Boxes] = {
        "scalar": {"q": st.floats(-0.9, 0.9), **scalar},
        "affine": {"q": st.floats(0.05, 0.95), **_mapped},
        "tanh": {"q": st.floats(0.05, 0.95), **_mapped},
        "quadratic": {**_sizes, "condition": st.floats(1, 50), "share": st.floats(0.3, 1)},
        "ridge": {**_penalised, "penalty": st.floats(0.1, 2)},
        "ridge.log": {**_penalised, "penalty": st.floats(0.1, 2)},
        "logistic": {**_penalised, "penalty": st.floats(0.1, 2)},
    }
    return st.one_of(
        *(st.fixed_dictionaries({"family": st.just(name), **own, **more}) for name, own in families.items())
    )


def scalar(**given: float) -> dict[str, Any]:
    """Parameters of a one-dimensional case; what is not given is 0 (q is 1/2)."""
    return {"family": "scalar", "q": 0.5, **dict.fromkeys(_SCALARS, 0.0), **given}


def symbol(name: str) -> str:
    """A field of ``Constants`` as the document writes it: ν̄₁ for nu1_bar."""
    letter = name.translate(str.maketrans("12", "₁₂")).replace("_bar", "\u0304")
    for latin, greek in (("nu", "ν"), ("mu", "μ"), ("Phi", "Φ")):
        letter = letter.replace(latin, greek)
    return letter[0] + letter[-1] + letter[1:-1] if letter.endswith("\u0304") else letter
