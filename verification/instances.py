"""Instances shared by the claims of several documents: bilevel problems from small JSON parameters.

:class:`Case` is one problem at one λ with a start w_0, its exact answer and its constants on the ball of centre
w(λ) and radius B = ‖w_0 − w(λ)‖, which contains every iterate. All constants are the problem's own; a hypothesis
control sets ``halved`` to the name of one, which is then stated too small by half: the predicates must notice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

import refimpl as ri
from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.constants import Constants, MapBounds, Region, around, best_step, constants
from refimpl.objective import Map
from refimpl.operators import Operator, matrix
from refimpl.problem import BilevelProblem, FixedPointProblem
from refimpl.zoo import logistic, maps, quadratic, uppers

EPS = 2.0**-52
NUMPY = Backend()
Family = tuple[BilevelProblem | FixedPointProblem, np.ndarray]  # a problem and a λ


@dataclass(frozen=True)
class Parabola(Map):
    """Φ(λ, w) = q w + λ + ν w²/2 on R: ∂_wΦ = q + νw alone varies, so ν₁ = |ν| and ν₂ = 0."""

    q: Any
    nu: Any
    backend: Backend = NUMPY

    n = 1
    d = 1

    def value(self, lam: Array, w: Array) -> Array:
        return self.q * w + lam + self.nu * w * w / 2

    def d_w(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, (self.q + self.nu * w)[..., None])

    def d_lam(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, (1 + 0 * self.nu * w)[..., None])

    def bounds(self, region: Region) -> MapBounds:
        """∂_wΦ is affine in w: |q + νw| <= |q + ν centre| + |ν| radius, attained; ∂_λΦ = 1."""
        q, nu = float(self.q), float(self.nu)
        return MapBounds(
            d_w=abs(q + nu * float(region.w[0])) + abs(nu) * region.w_radius, d_lam=1.0, d_w_by_w=abs(nu)
        )


@dataclass(frozen=True)
class Case:
    """A problem at λ with a start w_0, and whatever else its parameters say; see the module's docstring."""

    problem: BilevelProblem | FixedPointProblem
    lam: Array
    w0: Array
    exact: Any
    params: Mapping[str, Any]

    @property
    def t(self) -> int:
        return int(self.params["t"])

    @property
    def k(self) -> int:
        return int(self.params["k"])

    @cached_property
    def region(self) -> Region:
        return around(self.problem, self.lam, self.exact.w, self.w0)

    @cached_property
    def step(self) -> float | None:
        """The step 2/(μ + L) of gradient descent on the region; None where the lower level is a map already."""
        problem = self.problem
        return best_step(problem.lower.bounds(self.region)) if isinstance(problem, BilevelProblem) else None

    @cached_property
    def constants(self) -> Constants:
        """On the region; L_Φ on the solution path alone (contraction, B iv), the rest wherever the iterates are."""
        on_ball = constants(self.problem, self.region, step=self.step)
        here = constants(self.problem, Region(self.region.lam, self.region.w), step=self.step)
        stated = dataclasses.replace(on_ball, L_Phi=here.L_Phi)
        halved = self.params.get("halved")
        return (
            stated if halved is None else dataclasses.replace(stated, **{halved: getattr(stated, halved) / 2})
        )

    @cached_property
    def as_map(self) -> FixedPointProblem:
        """The lower level as the fixed point of a map."""
        if isinstance(self.problem, FixedPointProblem):
            return self.problem
        return self.problem.as_fixed_point(float(self.step or 0))

    def jacobians(self, w: Array) -> tuple[np.ndarray, np.ndarray]:
        """∂_wΦ and ∂_λΦ at w."""
        phi = self.as_map.phi
        return phi.d_w(self.lam, w).dense(), phi.d_lam(self.lam, w).dense()

    @cached_property
    def rounding(self) -> float:
        """What float64 may add to an error of the hypergradient: 10·d·eps × (sizes × how much they are amplified).

        Each step of a q-contraction adds eps × the size of its terms and shrinks what it inherits: w and v are off
        by κ_q times that; c₁ and L_Φ carry both into the hypergradient. The size of the terms of a sum is seen at
        (λ, w(λ)), (λ, w_0), (λ, 0) and (0, 0).
        """
        c, upper, phi = self.constants, self.problem.upper, self.as_map.phi
        zero = 0 * self.w0
        points = ((self.lam, self.exact.w), (self.lam, self.w0), (self.lam, zero), (0 * self.lam, zero))
        sizes = {
            "w": sum(size(w) + size(phi.value(lam, w)) for lam, w in points),
            "E": sum(size(upper.grad_w(lam, w)) for lam, w in points),
            "direct": sum(size(upper.grad_lam(lam, w)) for lam, w in points),
        }
        k = c.kappa_q
        amplified = sizes["direct"] + c.c1 * k * sizes["w"] + k * k * (c.L_Phi + c.nu2 * c.B) * sizes["E"]
        return 10 * self.problem.d * EPS * float(amplified)


def size(x: Array) -> float:
    """Euclidean norm as a float."""
    return float(np.linalg.norm(x))


# -- families ----------------------------------------------------------------------------------------------


def _upper(name: str, n: int, d: int, rng: np.random.Generator) -> Any:
    """ "w" (E = Σw), "square" (‖w‖²/2), "product" (λ·w), "bowl" (mean of log cosh w_i), "quadratic", "log-cosh"."""
    if name == "w":
        return uppers.linear(np.ones(d), n=n)
    if name == "square":
        return quadratic.objective(ww=np.eye(d), n=n)
    if name == "bowl":
        return uppers.log_cosh(np.eye(d), np.zeros(d), n=n)
    if name == "product":
        return quadratic.objective(ww=np.zeros((d, d)), lw=np.eye(n, d))
    if name == "log-cosh":
        return uppers.log_cosh(rng.standard_normal((d + 1, d)), rng.standard_normal(d + 1), n=n)
    half = rng.standard_normal((d, d))
    return quadratic.objective(
        ww=(half + half.T) / 2, lw=rng.standard_normal((n, d)), ll=np.eye(n), w1=rng.standard_normal(d)
    )


def orthogonal(d: int, rng: np.random.Generator) -> np.ndarray:
    """A random orthogonal matrix, the identity for d = 1."""
    q, r = np.linalg.qr(rng.standard_normal((d, d)))
    return q * np.sign(np.diag(r))


def _line(p: Mapping[str, Any], rng: np.random.Generator) -> Family:
    phi = maps.affine([[p["q"]]], [[1.0]])
    return FixedPointProblem(_upper(p["upper"], 1, 1, rng), phi), np.zeros(1)


def _bent(p: Mapping[str, Any], rng: np.random.Generator) -> Family:
    return FixedPointProblem(_upper(p["upper"], 1, 1, rng), maps.BentLine(p["q"], p["nu"])), np.zeros(1)


def _parabola(p: Mapping[str, Any], rng: np.random.Generator) -> Family:
    """ν₁ = nu (1 − q)/max(1, B) keeps q + ν₁B < 1."""
    bend = p["nu"] * (1 - p["q"]) / max(1.0, p["B"])
    return FixedPointProblem(_upper(p["upper"], 1, 1, rng), Parabola(p["q"], bend)), np.zeros(1)


def _rotation(p: Mapping[str, Any], rng: np.random.Generator) -> Family:
    """A = q × an orthogonal matrix, never symmetric for d > 1: every vector shrinks by exactly q."""
    n, d = p["n"], p["d"]
    phi = maps.affine(p["q"] * orthogonal(d, rng), rng.standard_normal((d, n)), rng.standard_normal(d))
    return FixedPointProblem(_upper(p["upper"], n, d, rng), phi), rng.standard_normal(n)


def _map(p: Mapping[str, Any], rng: np.random.Generator) -> Family:
    """Affine or tanh with ‖A‖ = q, not symmetric (singular values down to q/2)."""
    n, d = p["n"], p["d"]
    A = (orthogonal(d, rng) * np.linspace(p["q"], p["q"] / 2, d)) @ orthogonal(d, rng)
    make = maps.tanh if p["kind"] == "tanh" else maps.affine
    phi = make(A, rng.standard_normal((d, n)), rng.standard_normal(d))
    return FixedPointProblem(_upper(p["upper"], n, d, rng), phi), rng.standard_normal(n)


def _well(p: Mapping[str, Any], rng: np.random.Generator) -> Family:
    """G = μw²/2 − λw with μ = 1 and F of one's choice: the smallest minimisation."""
    lower = quadratic.objective(ww=[[1.0]], lw=[[-1.0]])
    return BilevelProblem(_upper(p["upper"], 1, 1, rng), lower), np.zeros(1)


def _quadratic(p: Mapping[str, Any], rng: np.random.Generator) -> Family:
    """Lower Hessian with the spectrum of [1, κ], log-spaced, in a random basis."""
    n, d = p["n"], p["d"]
    spectrum = np.geomspace(1, p["kappa"], d) if d > 1 else np.ones(1)
    ww = quadratic.spectrum_matrix(list(spectrum), rng)
    lower = quadratic.objective(ww=ww, lw=rng.standard_normal((n, d)), w1=rng.standard_normal(d))
    return BilevelProblem(_upper(p["upper"], n, d, rng), lower), rng.standard_normal(n)


def _eigenvector(p: Mapping[str, Any], rng: np.random.Generator) -> Family:
    """H = diag(1 … κ), E = w_1, ∇²_λwG = −I: the adjoint system's right side is the slowest eigenvector."""
    d = p["d"]
    lower = quadratic.objective(ww=np.diag(np.geomspace(1, p["kappa"], d)), lw=-np.eye(d))
    return BilevelProblem(uppers.linear(np.eye(d)[0], n=d), lower), rng.standard_normal(d)


def _extremal(p: Mapping[str, Any], rng: np.random.Generator) -> Family:
    """The worst case of ``degree`` steps of conjugate gradients: eigenvalues at the degree + 1 extrema of T_degree
    over [1, κ], b_i² ∝ 1/Π_{j≠i}|x_i − x_j|, and ∇²_λwG = −H^½, so that the hypergradient's error is ‖error‖_H.
    """
    k, kappa = p["degree"], p["kappa"]
    nodes = (kappa + 1) / 2 - (kappa - 1) / 2 * np.cos(np.pi * np.arange(k + 1) / k)
    b = np.ones(k + 1)
    b[[0, -1]] = 0.5**0.5  # the products are equal inside and twice as large at the ends
    lower = quadratic.objective(ww=np.diag(nodes), lw=-np.diag(np.sqrt(nodes)))
    return BilevelProblem(uppers.linear(b, n=k + 1), lower), rng.standard_normal(k + 1)


def _extremal_normal(p: Mapping[str, Any], rng: np.random.Generator) -> Family:
    """The worst case of ``degree`` CG steps on the normal equations, not symmetric: I − A = R S with a rotation R by
    less than 1/4, singular values S whose squares are the extrema of T_degree over [s_min², s_max²], s_max/s_min = κ,
    b_i² ∝ 1/(x_i Π_{j≠i}|x_i − x_j|), and ∂_λΦ = I − A, so that the hypergradient's error is the residual.
    """
    k, kappa = p["degree"], p["kappa"]
    low, high = (2 / (1 + kappa)) ** 2, (2 * kappa / (1 + kappa)) ** 2
    squares = (high + low) / 2 - (high - low) / 2 * np.cos(np.pi * np.arange(k + 1) / k)
    b = 1 / np.sqrt(squares)
    b[[0, -1]] *= 0.5**0.5
    turn = np.eye(k + 1)
    for i in range(0, k, 2):
        turn[i : i + 2, i : i + 2] = np.array([[1, -0.25], [0.25, 1]]) / np.hypot(1, 0.25)
    left = turn * np.sqrt(squares)
    phi = maps.affine(np.eye(k + 1) - left, left)
    return FixedPointProblem(uppers.linear(b, n=k + 1), phi), rng.standard_normal(k + 1)


def _logistic(p: Mapping[str, Any], rng: np.random.Generator) -> Family:
    """Logistic regression with the log of the penalty as λ; not quadratic, Lipschitz upper level."""
    problem = logistic.random(d=p["d"], seed=p["seed"], per_feature=p["n"] > 1)
    return problem, np.full(problem.n, -1.0)


FAMILIES: dict[str, Callable[..., Family]] = {
    "line": _line,
    "bent": _bent,
    "parabola": _parabola,
    "rotation": _rotation,
    "affine": _map,
    "tanh": _map,
    "well": _well,
    "eigenvector": _eigenvector,
    "extremal": _extremal,
    "extremal-normal": _extremal_normal,
    "quadratic": _quadratic,
    "logistic": _logistic,
}


def case(params: Mapping[str, Any]) -> Case:
    """The case of ``params``: a family, its sizes, and the distance B of w_0 from w(λ) in a random direction.

    On the line w_0 lies below w(λ): with λ = 0 that attains most rates.
    """
    rng = np.random.default_rng(params["seed"])
    problem, lam = FAMILIES[params["kind"]](params, rng)
    exact = ri.exact_hypergradient(problem, lam, certify="never")
    direction = rng.standard_normal(problem.d) if problem.d > 1 else -np.ones(1)
    w0 = exact.w + params["B"] * direction / np.linalg.norm(direction)
    return Case(problem, lam, w0, exact, dict(params))


def point(kind: str, **more: Any) -> dict[str, Any]:
    """Parameters of one case, the defaults being those of the smallest instance that attains most rates."""
    base = {
        "kind": kind,
        "upper": "w",
        "n": 1,
        "d": 1,
        "q": 0.5,
        "nu": 1.0,
        "kappa": 4.0,
        "B": 1.0,
        "seed": 0,
    }
    return {**base, "t": 3, "k": 3, **more}


def cases(kinds: tuple[str, ...], *, t: int = 20, k: int = 20, upper: tuple[str, ...] = ()) -> Any:
    """Strategy over the named families; simplest first, so that shrinking ends there."""
    boxes = {
        "kind": st.sampled_from(kinds),
        "upper": st.sampled_from(upper or ("w", "square", "product", "quadratic", "log-cosh")),
        "n": st.integers(1, 3),
        "d": st.integers(1, 4),
        "q": st.floats(0.05, 0.9).map(tidy),
        "nu": st.floats(0, 0.9).map(tidy),
        "kappa": st.floats(1, 30).map(tidy),
        "B": st.floats(0, 2).map(tidy),
        "seed": st.integers(0, 999),
        "t": st.integers(0, t),
        "k": st.integers(0, k),
    }
    return st.fixed_dictionaries(boxes)


def tidy(x: float) -> float:
    """Three decimals: counterexamples that a person can read."""
    return round(x, 3)
