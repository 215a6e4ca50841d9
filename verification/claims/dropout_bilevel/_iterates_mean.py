"""Steps of Algorithm 1 on quadratics with log cosh, with every constant that bounds them, in floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import BilevelProblem
from refimpl.arrays.backend import Array
from refimpl.zoo.quadratic import Quadratic
from verification.claims.dropout_bilevel._iterates_bump import Bump, Moduli
from verification.claims.dropout_bilevel._iterates_v import Adjoint
from verification.claims.dropout_bilevel._masks import PARTS, Law
from verification.model import reals

EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Iteration:
    """A step with its constants; ``before`` is λ_{k−1}, whose distance from λ_k is α‖d‖."""

    case: Adjoint
    before: Array
    lower: Moduli
    upper: Moduli
    r: float | None

    @cached_property
    def target_before(self) -> Array:
        return self.case.target(self.before)

    @property
    def x(self) -> float:
        return float(self.case.beta * self.lower.low)

    @property
    def solution_by_lam(self) -> float:
        """L_w."""
        return self.lower.gradient_by_lam / self.lower.low

    @property
    def target_by_lam(self) -> float:
        """L_v, with v̄ at λ_k: v̄ − v̄' = A'⁻¹[b − b' + (A' − A)v̄] for two systems Av̄ = b and A'v̄' = b'."""
        F, G, L_w = self.upper, self.lower, self.solution_by_lam
        size = float(np.linalg.norm(self.case.v_star))
        of_gradient = F.gradient_by_lam + F.gradient_by_w * L_w
        return (of_gradient + size * (G.hessian_by_lam + G.hessian_by_w * L_w)) / G.low

    @property
    def rounding(self) -> float:
        """At most 100·d rounding errors on the way to an entry (means are pairwise sums), magnified by systems of
        condition L̄/μ̄, all at the size of the largest vectors that are added up.
        """
        case = self.case
        vectors = (case.v, case.v_star, self.target_before, case.w, case.w_star)
        size = sum(float(np.linalg.norm(z)) for z in vectors) + case.beta * self.upper.high + 1
        return 100 * len(case.w) * EPS * (self.lower.high / self.lower.low) ** 2 * size**2


def build(params: Mapping[str, Any]) -> Iteration:
    """Random levels from ``seed``: H = XᵀX/d + I/2 below, ``curve``·XᵀX/d above, ``kappa`` and ``kappa_upper`` log
    cosh on top; with ``noise`` two data each. ``claimed`` multiplies μ̄ and L̄ (a control's).

    β, γ as shares of 2/(μ̄ + L̄); w, v and λ_{k−1} at random directions, ``e``, ``u``, ``move`` away; r = ``ball``·‖v̄‖.
    """
    n, d, rng = params["n"], params["d"], np.random.default_rng(params["seed"])

    def level(curve: float, ridge: float, kappa: float) -> Bump:
        X, sign = rng.standard_normal((d, d)), np.array([1.0, -1.0]) * params["noise"]
        q = Quadratic(
            curve * X.T @ X / d + ridge * np.eye(d) + 0.2 * sign[:, None, None] * np.ones((d, d)),
            np.tile(rng.standard_normal((n, d)), (2, 1, 1)),
            np.zeros((2, n, n)),
            rng.standard_normal(d) + sign[:, None] * rng.standard_normal(d),
            np.zeros((2, n)),
        )
        q = q if params["noise"] else q.batch(np.array([0]))
        return Bump(q, rng.standard_normal(d), rng.standard_normal(n), kappa)

    lower, upper = level(1.0, 0.5, params["kappa"]), level(params["curve"], 0.0, params["kappa_upper"])

    def law(name: str) -> Law:
        keep_lam, keep_w = (
            tuple(Fraction(k, PARTS) for k in params[f"{name}_{v}"][:m]) for v, m in (("lam", n), ("w", d))
        )
        return Law(keep_lam, keep_w, tuple(range(n)), tuple(range(d)))

    laws = law("lower"), law("upper")
    found = Moduli.of(lower, laws[0])
    claimed = params.get("claimed", 1)
    stated = replace(found, low=claimed * found.low, high=claimed * found.high)
    moduli = stated, Moduli.of(upper, laws[1])

    def away(count: int, by: float) -> np.ndarray:
        z = rng.standard_normal(count)
        return by * z / np.linalg.norm(z) if count else z

    lam, zero, share = rng.standard_normal(n), np.zeros(d), 2 / (moduli[0].low + moduli[0].high)
    sizes = params["beta"] * share, params["gamma"] * share
    plain = BilevelProblem(upper, lower)
    case = Adjoint(plain, *laws, lam, zero, zero, *sizes, params["randomness"])
    w, v = case.w_star + away(d, params["e"]), case.v_star
    before = lam + away(n, params["move"])
    v = case.target(before) + away(d, params["u"])
    r = params["ball"] * float(np.linalg.norm(case.v_star)) if params["ball"] else None
    return Iteration(replace(case, w=w, v=v, r=r), before, *moduli, r)


def at(n: int, d: int, seed: int = 0, **more: Any) -> dict[str, Any]:
    """Parameters of quadratics without data, every mask a fair coin, λ at rest, r = ‖v̄‖."""
    base = {
        "n": n,
        "d": d,
        "seed": seed,
        "kappa": 0.0,
        "kappa_upper": 0.0,
        "curve": 1.0,
        "noise": 0,
        "ball": 1.0,
    }
    sizes = {"beta": 0.5, "gamma": 0.5, "e": 0.5, "u": 0.5, "move": 0.0}
    keep = {f"{level}_{v}": [4] * 2 for level in ("lower", "upper") for v in ("lam", "w")}
    return {**base, **sizes, **keep, "randomness": "shared", **more}


def iterations(randomness: list[str]) -> Any:
    """Strategy over such steps with up to one coordinate of λ and two of w."""
    kept = st.lists(st.integers(1, PARTS), min_size=2, max_size=2)
    boxes = {
        "n": st.integers(0, 1),
        "d": st.integers(1, 2),
        "seed": st.integers(0, 99),
        "kappa": st.sampled_from([0.0, 0.5, 2.0]),
        "kappa_upper": st.sampled_from([0.0, 1.0]),
        "curve": st.sampled_from([0.0, 1.0]),
        "noise": st.integers(0, 1),
        "ball": st.sampled_from([0.0, 1.0, 1.5]),
        "beta": reals(1e-4, 1, log=True),
        "gamma": reals(1e-3, 1, log=True),
        "e": st.sampled_from([0.0, 0.1, 1.0]),
        "u": st.sampled_from([0.0, 0.1, 1.0]),
        "move": st.sampled_from([0.0, 0.01, 0.3]),
        "randomness": st.sampled_from(randomness),
        **{f"{level}_{v}": kept for level in ("lower", "upper") for v in ("lam", "w")},
    }
    return st.fixed_dictionaries(boxes)


CERTAIN: dict[str, Any] = {f"{level}_{v}": [PARTS] * 2 for level in ("lower", "upper") for v in ("lam", "w")}
