"""Quadratic penalised problems over the rationals: the spectra of H and of S = H⁻¹QH⁻¹ known, everything else small."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl import BilevelProblem
from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from refimpl.arrays.linalg import require_positive_pivots
from refimpl.errors import HypothesisViolated
from refimpl.zoo.quadratic import Quadratic
from verification.claims.reweighting._systems import RATIONAL, System
from verification.model import Measurement

DIGITS = 2**60  # roots are rounded up in this denominator


def rational(x: Any) -> Array:
    """Nested lists of integers as an array of rationals."""
    return RATIONAL.asarray(np.array(x))


def ratio(pair: Any) -> fmpq:
    """[p, q] as p/q."""
    return fmpq(int(pair[0]), int(pair[1]))


def fraction(x: Any) -> Fraction:
    """A rational as Python's: what the package takes for a number."""
    return Fraction(int(fmpq(x).p), int(fmpq(x).q))


def solve(a: Array, x: Array) -> Array:
    """a⁻¹x; x (d,) or, column by column, (d, m)."""
    made = factor(RATIONAL, a)
    return made.solve(x) if x.ndim == 1 else np.stack([made.solve(column) for column in x.T], axis=-1)


def square(x: Array) -> fmpq:
    """‖x‖²."""
    return fmpq(0) + (x * x).sum()


def root_above(x: fmpq) -> fmpq:
    """√x, rounded up to a rational; exact where it is one."""
    x, scaled = fmpq(x), DIGITS * DIGITS
    whole = int(x.p) * int(x.q) * scaled
    found = math.isqrt(whole)
    return fmpq(found + (found * found < whole), int(x.q) * DIGITS)


def definite(a: Array) -> bool:
    """Is the symmetric a positive definite?"""
    try:
        require_positive_pivots(a)
    except HypothesisViolated:
        return False
    return True


def largest(*pairs: tuple[Any, Any], **detail: Any) -> Measurement:
    """The pair (observed, bound) that uses the largest share of its bound; a violated zero bound comes first."""
    made = [Measurement(observed=a, bound=b, detail=detail) for a, b in pairs]
    return max(made, key=lambda m: m.ratio if m.bound > 0 else math.inf if m.observed > 0 else 0.0)


@dataclass(frozen=True)
class Penalised:
    """F = ½wᵀQw + λᵀBw + ½λᵀAλ + a·w and G = ½wᵀHw + λᵀCw + b·w at λ; H's and S's eigenvalues are h and s."""

    h: System
    s: System
    A: Array
    B: Array
    C: Array
    a: Array
    b: Array
    lam: Array
    gamma: fmpq
    params: Mapping[str, Any]

    @property
    def H(self) -> Array:
        return self.h.a

    @property
    def S(self) -> Array:
        return self.s.a

    @cached_property
    def Q(self) -> Array:
        return self.H @ self.S @ self.H

    @cached_property
    def problem(self) -> BilevelProblem:
        n, zero = len(self.C), RATIONAL.zeros
        lower = Quadratic(
            self.H[None], self.C[None], zero((1, n, n)), self.b[None], zero((1, n)), backend=RATIONAL
        )
        upper = Quadratic(
            self.Q[None], self.B[None], self.A[None], self.a[None], zero((1, n)), backend=RATIONAL
        )
        return BilevelProblem(upper, lower)

    @cached_property
    def w_star(self) -> Array:
        return -solve(self.H, self.C.T @ self.lam + self.b)

    @cached_property
    def adjoint(self) -> Array:
        """λ* = H⁻¹∇_wF(w(λ))."""
        return solve(self.H, self.Q @ self.w_star + self.B.T @ self.lam + self.a)

    @cached_property
    def hypergradient(self) -> Array:
        return self.A @ self.lam + self.B @ self.w_star - self.C @ self.adjoint

    @cached_property
    def coupling(self) -> Array:
        """BH⁻¹ − CS: ∇²_uy of φ(u, y) = f(u, v(u, y))."""
        return solve(self.H, self.B.T).T - self.C @ self.S

    def shifted(self, gamma: Any = None) -> Array:
        """S + γI."""
        return self.S + (self.gamma if gamma is None else gamma) * RATIONAL.eye(len(self.S))

    @property
    def subproblem_convex(self) -> tuple[bool, Any]:
        """Q + γH² positive definite, by its pivots."""
        return definite(
            self.Q + self.gamma * self.H @ self.H
        ), f"γ = {self.gamma}, σ_min = {min(self.s.spectrum)}"


def penalised(params: Mapping[str, Any]) -> Penalised:
    """What ``seed`` draws; entries that ``params`` gives themselves (h, s, A, B, C, a, b, lam) stand instead.

    h: eigenvalues of H from 1 to 4. s: those of S, from 0 to 5, or from −4 with ``convex`` false. ``coupled``
    false: B = 0. ``aligned``: one eigenbasis for both. γ is counted from −σ_min where that is
    positive (there f̃ becomes convex), from 0 with ``raw``.
    """
    n, d, rng = params["n"], params["d"], np.random.default_rng(params["seed"])
    drawn = {
        "h": rng.integers(1, 5, d),
        "s": rng.integers(0 if params.get("convex", True) else -4, 6, d),
        "A": (rng.integers(0, 3) + 1) * np.eye(n, dtype=int),
        "B": rng.integers(-2, 3, (n, d)) * params.get("coupled", True),
        "C": rng.integers(-2, 3, (n, d)),
        "a": rng.integers(-3, 4, d),
        "b": rng.integers(-3, 4, d),
        "lam": rng.integers(-2, 3, n),
    }
    mirrors = rng.integers(-2, 3, (2, d))
    given = {key: np.asarray(params.get(key, value)) for key, value in drawn.items()}
    h, s = (
        System(tuple(map(int, given[key])), (0,) * d, tuple(map(int, mirror)))
        for key, mirror in (("h", mirrors[0]), ("s", mirrors[1 - params.get("aligned", False)]))
    )
    arrays = {key: rational(given[key]) for key in ("A", "B", "C", "a", "b", "lam")}
    above = 0 if params.get("raw") else max(0, -min(s.spectrum))
    return Penalised(h, s, gamma=ratio(params["gamma"]) + above, params=dict(params), **arrays)


def one(
    gamma: tuple[int, int] = (1, 1), *, n: int = 1, d: int = 1, seed: int = 0, **more: Any
) -> dict[str, Any]:
    """Parameters of one instance."""
    return {"n": n, "d": d, "seed": seed, "gamma": list(gamma), **more}


def scalar(h: int, s: int, gamma: tuple[int, int] = (1, 1), **more: Any) -> dict[str, Any]:
    """One variable on each level, λ = 0, C = −1, a = 1, b = B = 0: then w(λ) = 0 and λ* = 1/h."""
    one_variable = {"h": [h], "s": [s], "A": [[1]], "B": [[0]], "C": [[-1]], "a": [1], "b": [0], "lam": [0]}
    return one(gamma, **{**one_variable, **more})


GAMMAS = st.sampled_from([[p, q] for q in (4, 2, 1) for p in (1, 3)] + [[p, 1] for p in (5, 10, 100, 10_000)])


def sizes(**more: Any) -> Any:
    """Strategy: up to three variables on each level."""
    entries = {
        "n": st.integers(1, 3),
        "d": st.integers(1, 3),
        "seed": st.integers(0, 9999),
        "gamma": GAMMAS,
    }
    return st.fixed_dictionaries({**entries, **more})
