r"""Instances over the rationals whose errors have closed forms: a rate is an identity there, and nothing is fitted.

- **Turns.** Φ = qRw + λ on the plane, R a rotation by θ with tan(θ/2) rational: (qR)^k and (I − qR)⁻¹ scale every
  vector alike.
- **The ring.** S moves 2k points on by one, r > 1, ρ = (r−1)/(r+1), M = ½(r+1)(I − ρS). The eigenvalues of MᵀM,
  ½(r²+1) − ½(r²−1)cos(πj/k), are the extrema of T_k on [1, r²], the ends once and those between them twice, and a unit
  vector lies in all 2k eigenvectors alike. These are the weights for which no polynomial p of degree k, p(0) = 1, is
  better than T_k's: k conjugate gradient steps leave 1/T_k((r²+1)/(r²−1)) = 2ρ^k/(1 + ρ^{2k}), whose every number is
  rational.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl import BilevelProblem, exact_hypergradient
from refimpl.arrays.backend import Array
from refimpl.objective import Map, Objective
from refimpl.problem import FixedPointProblem, Problem
from refimpl.zoo.maps import AffineMap, BentLine
from refimpl.zoo.quadratic import Quadratic
from refimpl.zoo.uppers import Linear
from verification.claims.reweighting._penalty import ratio, rational, solve, square
from verification.claims.reweighting._systems import RATIONAL, System
from verification.model import Hypothesis, Measurement, identity


@dataclass(frozen=True)
class Attaining:
    """A problem over the rationals at λ with its start."""

    problem: Problem
    lam: Array
    w0: Array
    params: Mapping[str, Any]

    @cached_property
    def exact(self) -> Any:
        return exact_hypergradient(self.problem, self.lam)

    def off(self, value: Array) -> fmpq:
        """‖value − ∇f‖²."""
        return square(value - self.exact.value)

    def number(self, name: str) -> fmpq:
        """The parameter of this name, which is a ratio."""
        return ratio(self.params[name])


def quadratic(ww: Array, lw: Array | None = None, w1: Array | None = None) -> Quadratic:
    """½wᵀ(ww)w + λᵀ(lw)w + w1ᵀw; n = d."""
    d = len(ww)
    zero, vector = RATIONAL.zeros((d, d)), RATIONAL.zeros((d,))
    lw, w1 = zero if lw is None else lw, vector if w1 is None else w1
    return Quadratic(ww[None], lw[None], zero[None], w1[None], vector[None], RATIONAL)


def linear(c: Array) -> Linear:
    """cᵀw; n = d."""
    return Linear(c[None], RATIONAL.zeros((1, len(c))), RATIONAL)


def affine(A: Array, B: Array) -> AffineMap:
    """Aw + Bλ."""
    return AffineMap(A[None], B[None], RATIONAL.zeros((1, len(A))), RATIONAL)


# -- turns ------------------------------------------------------------------------------------------------


def cosine_and_sine(m: fmpq) -> tuple[fmpq, fmpq]:
    """Of the angle θ with tan(θ/2) = m."""
    return (1 - m * m) / (1 + m * m), 2 * m / (1 + m * m)


def turning(params: Mapping[str, Any]) -> Attaining:
    """Φ = qR diag(1, other)w + λ, F = gᵀw (with ``round``, + ½‖w‖²), w_0 = w(λ) + ``start``."""
    q, (c, s) = ratio(params["q"]), cosine_and_sine(ratio(params["m"]))
    A = np.array([[c, -s], [s, c]], dtype=object) * q * np.array([fmpq(1), ratio(params["other"])])
    g, eye = rational(params["g"]), RATIONAL.eye(2)
    upper: Objective = quadratic(eye, w1=g) if params["round"] else linear(g)
    lam = rational(params["lam"])
    made = Attaining(FixedPointProblem(upper, affine(A, eye)), lam, lam, params)
    return Attaining(made.problem, lam, made.exact.w + rational(params["start"]), params)


def turn(**more: Any) -> dict[str, Any]:
    """Parameters of one turn."""
    base = {"q": [1, 2], "m": [1, 2], "g": [1, 2], "lam": [1, -2], "start": [1, 1], "other": [1, 1]}
    return {**base, "round": False, **more}


def ratios(numerators: tuple[int, int], denominators: tuple[int, int]) -> Any:
    """Strategy: [p, q] with both between these ends."""
    return st.tuples(st.integers(*numerators), st.integers(*denominators)).map(list)


def turns(**more: Any) -> Any:
    """Strategy over the conformal turns, those that do not turn at all (m = 0) among them."""
    pair = st.tuples(st.integers(1, 3), st.integers(-3, 3)).map(list)
    boxes = {
        "q": st.integers(1, 19).map(lambda i: [i, 20]),
        "m": ratios((0, 6), (1, 4)),
        "g": pair,
        "lam": pair,
        "start": pair,
        "other": st.just([1, 1]),
        "round": st.just(False),
    }
    return st.fixed_dictionaries({**boxes, **more})


def _conformal(case: Attaining) -> tuple[bool, Any]:
    assert isinstance(case.problem, FixedPointProblem)
    phi, eye = case.problem.phi, RATIONAL.eye(2)
    A, B = phi.d_w(case.lam, case.w0).dense(), phi.d_lam(case.lam, case.w0).dense()
    gap = max(abs(A.T @ A - case.number("q") ** 2 * eye).max(), abs(B - eye).max())
    return gap == 0, str(gap)


CONFORMAL = Hypothesis("attaining", r"\partial_w\Phi = qR,\ \partial_\lambda\Phi = I", _conformal)

# -- the ring ---------------------------------------------------------------------------------------------


def shift(n: int) -> Array:
    """S: the unit vector i to i + 1, the last to the first."""
    return np.roll(RATIONAL.eye(n), 1, axis=0)


def rho(r: fmpq) -> fmpq:
    """(r − 1)/(r + 1)."""
    return (r - 1) / (r + 1)


def ring(params: Mapping[str, Any]) -> Attaining:
    """G = ½wᵀMᵀMw − λᵀMw, F = w_1: the hypergradient's error is the energy norm of v's, and κ(MᵀM) = r²."""
    r, n = ratio(params["r"]), params["points"]
    M = (r + 1) / 2 * (RATIONAL.eye(n) - rho(r) * shift(n))
    lower = quadratic(M.T @ M, lw=-M)
    return Attaining(
        BilevelProblem(linear(RATIONAL.eye(n)[0]), lower), RATIONAL.zeros((n,)), RATIONAL.zeros((n,)), params
    )


def ring_of_a_map(params: Mapping[str, Any]) -> Attaining:
    """Φ = ρSw + (I − ρS)λ, F = bᵀw, (I − ρSᵀ)b = e_1: the hypergradient's error is the residual of the adjoint system.

    The residual after k steps is p(AAᵀ)b, A = I − ρSᵀ; the 1/x of b's weights is the one that the energy norm has.
    """
    r, n = ratio(params["r"]), params["points"]
    A = RATIONAL.eye(n) - rho(r) * shift(n).T
    upper = linear(solve(A, RATIONAL.eye(n)[0]))
    phi: Map = affine(rho(r) * shift(n), A.T)
    return Attaining(FixedPointProblem(upper, phi), RATIONAL.zeros((n,)), RATIONAL.zeros((n,)), params)


def around(k: int, r: tuple[int, int] = (2, 1), points: int | None = None) -> dict[str, Any]:
    """Parameters of the ring that k steps find hardest."""
    return {"k": k, "r": list(r), "points": 2 * k if points is None else points}


def rings() -> Any:
    """Strategy: k <= 6, 1 < r <= 4."""
    ratio_above_one = ratios((1, 12), (4, 8)).map(lambda pair: [pair[0] + pair[1], pair[1]])
    return st.builds(lambda k, r: around(k, tuple(r)), st.integers(1, 6), ratio_above_one)


HARDEST = Hypothesis(
    "attaining",
    r"\text{the ring has } 2k \text{ points}",
    lambda case: (case.params["points"] == 2 * case.params["k"], case.params["points"]),
)


def steps_leave(
    errors: Callable[[Attaining], tuple[fmpq, fmpq]],
    rate: Callable[[fmpq], fmpq] = rho,
    two: int = 2,
) -> Callable[[Attaining], Measurement]:
    """(squared) error_k (1 + ρ^{2k})² = (2ρ^k)² error_0; ``two`` is the 2."""

    def measure(case: Attaining) -> Measurement:
        first, last = errors(case)
        reached = rate(case.number("r")) ** case.params["k"]
        return identity(last * (1 + reached**2) ** 2, (two * reached) ** 2 * first)

    return measure


# -- one eigenvector, and a bent line -----------------------------------------------------------------------


def eigenvector(params: Mapping[str, Any]) -> Attaining:
    """G = ½wᵀHw − λᵀw, H of a stated spectrum in a reflected basis, ∇_wF = Σ b_i × its eigenvector i."""
    spectrum, b, mirror = (tuple(params[name]) for name in ("spectrum", "b", "mirror"))
    made = System(spectrum, b, mirror)
    problem = BilevelProblem(linear(made.b), quadratic(made.a, lw=-RATIONAL.eye(len(b))))
    zero = RATIONAL.zeros((len(b),))
    return Attaining(problem, zero, zero, params)


def bent(params: Mapping[str, Any]) -> Attaining:
    """Φ = qw + λ(1 + νw), F = w, w_0 = w(λ) − B."""
    phi = BentLine(ratio(params["q"]), ratio(params["nu"]), RATIONAL)
    lam = RATIONAL.asarray([ratio(params["lam"])])
    made = Attaining(FixedPointProblem(linear(RATIONAL.eye(1)[0]), phi), lam, lam, params)
    return Attaining(made.problem, lam, made.exact.w - ratio(params["B"]), params)


def falls(
    errors: Callable[[Attaining], list[fmpq]], factor: Callable[[Attaining, int], Any]
) -> Callable[[Attaining], Measurement]:
    """(squared) error_k = factor(k)² × error_0 for every k."""

    def measure(case: Attaining) -> Measurement:
        found = errors(case)
        return identity(found, [factor(case, k) ** 2 * found[0] for k in range(len(found))])

    return measure
