"""One step w ↦ w⁺ of Algorithm 1 on quadratic lower levels over the rationals, by the algorithm itself, and the
quantities that bound it, as literal sums over masks and data.

Parameters are small integers: H = RᵀR + I from ``root`` R, ``lw`` and ``lam`` plain, ``w1`` in halves; two data differ
by ± ``noise`` in the linear term and ± ``noise_ww``·11ᵀ in the Hessian, both in halves; keep probabilities in
``parts``-ths; γ = ``gamma``/16 of 2/(μ̄ + L̄), or ``step`` exactly; w = w(λ) + ``e``.
"""

from __future__ import annotations

import itertools as it
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl import BilevelProblem
from refimpl.algorithms import DropoutFSLA
from refimpl.arrays import factor, to_numpy
from refimpl.arrays.backend import Array
from refimpl.moments import AffineStep, affine_step
from refimpl.zoo import quadratic
from refimpl.zoo.quadratic import Quadratic
from verification.claims.dropout_bilevel._masks import PARTS, RATIONAL, Law, rationals
from verification.model import Hypothesis


@dataclass(frozen=True)
class Step:
    """A lower level, the masks' law, λ, w and a step size."""

    problem: BilevelProblem
    plain: Quadratic
    law: Law
    lam: Array
    params: Mapping[str, Any]

    @cached_property
    def mean_hessian(self) -> Array:
        """H̄ = E m_w H m_w, d x d."""
        H = self.plain.mean[0]
        return self.law.mean(lambda _, m: m[:, :, None] * H * m[:, None, :])

    @cached_property
    def solution(self) -> Array:
        """w(λ)."""
        _, lw, _, w1, _ = self.plain.mean
        rhs = self.law.mean(lambda mlam, m: m * ((mlam * self.lam) @ lw + w1))
        return -factor(RATIONAL, self.mean_hessian).solve(rhs)

    @cached_property
    def error(self) -> Array:
        """e = w − w(λ)."""
        return rationals(self.params["e"][: self.plain.d])

    @property
    def w(self) -> Array:
        return self.solution + self.error

    @cached_property
    def ends(self) -> tuple[fmpq, fmpq]:
        """μ̄ and L̄ as stated; ``claimed`` multiplies μ̄ (a control's)."""
        low, high = spectrum(self.mean_hessian)
        return low * self.params.get("claimed", 1), high

    @cached_property
    def gamma(self) -> fmpq:
        if "step" in self.params:
            return fmpq(*self.params["step"])
        return fmpq(self.params["gamma"], 8) / sum(self.ends)

    @property
    def shrink(self) -> fmpq:
        """max(|1 − γμ̄|, |1 − γL̄|)²."""
        return max((1 - self.gamma * c) ** 2 for c in self.ends)

    def gradients(self, w: Array) -> Array:
        """m_w ∇_wG(m_λλ, m_w w; ξ) for every mask and datum, literally: (masks, data, d)."""
        _, mlam, m = self.law.literal
        g = (self.plain.ww @ (m * w)[:, None, :, None])[..., 0]
        shift = ((mlam * self.lam)[:, None, None, :] @ self.plain.lw)[..., 0, :]
        return m[:, None, :] * (g + shift + self.plain.w1)

    def variance(self, w: Array, *, data_only: bool = False) -> fmpq:
        """V(w) = E‖m∇_wG(MW; ξ) − ∇_wḠ‖²; ``data_only``: around the mean over the data under each mask."""
        g = self.gradients(w)
        centre = g.mean(axis=1)[:, None, :] if data_only else self.mean_hessian @ (w - self.solution)
        return (self.law.literal[0] * ((g - centre) ** 2).sum(axis=-1).mean(axis=1)).sum()

    @cached_property
    def algorithm(self) -> DropoutFSLA:
        batch = 1 if self.plain.space.size > 1 else None
        gamma = Fraction(int(self.gamma.p), int(self.gamma.q))
        return DropoutFSLA(delta=1, gamma=gamma, beta=1, eta=1, schedule="constant", lower_batch=batch)

    def images(self, points: Any, w: Array) -> Array:
        """w⁺ by the algorithm, (points, ..., d), for w (..., d) at these points of its space."""
        state = self.algorithm.init(self.problem, self.lam, w)
        ahead = self.algorithm.space(self.problem).ahead(points, w.ndim - 1)
        return np.broadcast_to(
            self.algorithm.step(self.problem, state, ahead).w, (len(points[0][0][1]), *w.shape)
        )

    @cached_property
    def mean_square_after(self) -> fmpq:
        """E‖w⁺ − w(λ)‖², every point of the algorithm's space."""
        space = self.algorithm.space(self.problem)
        index = np.arange(space.size)
        chances = rationals(space.exact_probabilities(index))
        return (
            chances * ((self.images(space.points(index), self.w) - self.solution) ** 2).sum(axis=-1)
        ).sum()

    @cached_property
    def recursion(self) -> AffineStep:
        """e ↦ e⁺ as an affine random recursion, its coefficients read off the algorithm."""
        d = self.plain.d
        basis = np.concatenate([RATIONAL.zeros((1, d)), RATIONAL.eye(d)])

        def coefficients(points: Any) -> tuple[Array, Array]:
            new = self.images(points, self.solution + basis) - self.solution
            b = new[:, 0]
            return np.swapaxes(new[:, 1:] - b[:, None], -1, -2), b

        found = affine_step(self.algorithm.space(self.problem), coefficients, RATIONAL)
        assert isinstance(found, AffineStep)
        return found


def semidefinite(M: Array) -> bool:
    """M ⪰ 0, exactly: no principal minor is negative."""
    d = len(M)
    subsets = (s for k in range(1, d + 1) for s in it.combinations(range(d), k))
    return all(determinant(M[np.ix_(s, s)]) >= 0 for s in subsets)


def determinant(M: Array) -> Any:
    """By the first row: d is at most 3 here."""
    if len(M) == 1:
        return M[0, 0]
    minors = (np.delete(M[1:], j, axis=1) for j in range(len(M)))
    return sum((-1) ** j * M[0, j] * determinant(minor) for j, minor in enumerate(minors))


def spectrum(H: Array) -> tuple[fmpq, fmpq]:
    """Rational c, C with c <= H <= C, decided exactly: the ends of the spectrum where they are simple fractions."""
    d = len(H)
    values = np.linalg.eigvalsh(to_numpy(H))

    def end(value: float, sign: int) -> fmpq:
        found, away = Fraction(float(value)).limit_denominator(5000), Fraction(0)
        while True:
            c = fmpq(found.numerator, found.denominator) - sign * fmpq(away.numerator, away.denominator)
            if semidefinite(sign * (H - c * RATIONAL.eye(d))):
                return c
            away = 4 * away or Fraction(1, 2**26)

    return end(values[0], 1), end(values[-1], -1)


def step(params: Mapping[str, Any]) -> Step:
    """The case of these parameters; lists are cut to n and d."""
    n, d = params["n"], params["d"]
    root = np.array([row[:d] for row in params["root"][:d]], dtype=float)
    ww = root.T @ root + np.eye(d)
    lw = np.array([row[:d] for row in params["lw"][:n]], dtype=float).reshape(n, d)
    w1 = np.array(params["w1"][:d]) / 2
    plain = quadratic.objective(ww=ww, lw=lw, w1=w1, n=n)
    spread_w1, spread_ww = np.array(params.get("noise", [0] * d)[:d]) / 2, params.get("noise_ww", 0) / 2
    if spread_ww or spread_w1.any():
        sign = np.array([1.0, -1.0])
        plain = Quadratic(
            ww + spread_ww * sign[:, None, None] * np.ones((d, d)),
            np.stack([lw, lw]),
            np.zeros((2, n, n)),
            w1 + sign[:, None] * spread_w1,
            np.zeros((2, n)),
        )
    upper = quadratic.objective(ww=np.zeros((d, d)), n=n)
    of = law(params)
    problem = BilevelProblem(upper, plain).to("rational")
    exact = problem.lower
    assert isinstance(exact, Quadratic)
    noisy = problem.with_dropout(lower=of.level, upper=None)
    return Step(noisy, exact, of, rationals(params["lam"][:n]), dict(params))


def law(params: Mapping[str, Any]) -> Law:
    """One mask variable per coordinate of λ; those of w as ``groups_w`` says."""
    n, d, parts = params["n"], params["d"], params.get("parts", PARTS)
    groups = tuple(params.get("groups_w", range(d)))[:d]
    keep_lam, keep_w = (
        tuple(Fraction(k, parts) for k in params[name][:count])
        for name, count in (("keep_lam", n), ("keep_w", max(groups) + 1))
    )
    return Law(keep_lam, keep_w, tuple(range(n)), groups)


def small(n: int = 0, d: int = 1, **more: Any) -> dict[str, Any]:
    """Parameters of G = ½‖w‖² − λ·Σw (n = 0: ½‖w − 1/2‖²) at λ = 1, every mask a fair coin."""
    base = {"n": n, "d": d, "root": [[0] * d] * d, "lw": [[-1] * d] * n, "w1": [0] * d, "lam": [1] * n}
    return {**base, "e": [1] + [0] * (d - 1), "keep_lam": [4] * n, "keep_w": [4] * d, "gamma": 4, **more}


THEORY = small(
    0, 2, root=[[1, 1], [0, 0]], w1=[-3, 0], keep_w=[4, 4], parts=5, step=[1, 10]
)  # H = [[2,1],[1,2]], a = (1, −½), p = 0.8, γ = 0.1
COUPLED = small(0, 2, root=[[1, 1], [0, 0]], e=[1, -1])


def steps(most: int = 20, **more: Any) -> Any:
    """Strategy over cases with up to two coordinates of λ and three of w; γ up to ``most``/16 of 2/(μ̄ + L̄)."""
    entry = st.integers(-2, 2)

    def row(count: int) -> Any:
        return st.lists(entry, min_size=count, max_size=count)

    keep = st.integers(1, PARTS)
    boxes = {
        "n": st.integers(0, 2),
        "d": st.integers(1, 3),
        "root": st.lists(row(3), min_size=3, max_size=3),
        "lw": st.lists(row(3), min_size=2, max_size=2),
        "w1": row(3),
        "lam": row(2),
        "e": row(3),
        "keep_lam": st.lists(keep, min_size=2, max_size=2),
        "keep_w": st.lists(keep, min_size=3, max_size=3),
        "groups_w": st.sampled_from([[0, 1, 2], [0, 0, 1], [0, 1, 1]]),
        "gamma": st.integers(1, most),
    }
    return st.fixed_dictionaries({**boxes, **more})


DATA = {
    "noise": st.lists(st.integers(-2, 2), min_size=3, max_size=3),
    "noise_ww": st.integers(0, 2),
}


def _curvature(case: Step) -> tuple[bool, Any]:
    (low, high), H, one = case.ends, case.mean_hessian, RATIONAL.eye(case.plain.d)
    fits = low > 0 and semidefinite(H - low * one) and semidefinite(high * one - H)
    return fits, [float(low), float(high)]


def _short(case: Step) -> tuple[bool, Any]:
    return case.gamma * sum(case.ends) <= 2, float(case.gamma * sum(case.ends))


CURVATURE = Hypothesis("curvature of Ḡ", r"\bar\mu I \preceq \nabla^2_{ww}\bar G \preceq \bar LI", _curvature)
SHORT = Hypothesis("step size", r"\gamma \le 2/(\bar\mu + \bar L)", _short)
