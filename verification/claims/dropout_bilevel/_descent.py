"""Quadratic problems for whole runs of Algorithm 1, over the rationals, and the exact means of its state.

Keep probabilities are given as [numerator, denominator], one for every mask variable of λ and one for w's. Means come
from the transition matrices that ``refimpl.algorithms.exact`` reads off the algorithm's own step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import BilevelProblem, exact_hypergradient
from refimpl.algorithms import FSLA, FSLAState
from refimpl.algorithms.exact import whole_state
from refimpl.arrays import factor
from refimpl.arrays.backend import Array
from refimpl.errors import HypothesisViolated
from refimpl.moments import Schedule
from refimpl.objective import Objective
from refimpl.zoo import quadratic
from verification.claims.dropout_bilevel._masks import RATIONAL, Law, Model, rationals
from verification.claims.dropout_bilevel._polynomials import Polynomial

PLANE: dict[str, Any] = {
    "ww": [[0.0]],
    "ll": [[1.0, 1.0], [1.0, 1.0]],
    "l1": [-1.0, -1.0],
}  # ½(λ₁+λ₂−1)² − ½


def same_keep(n: int, d: int, lam: Sequence[int], w: Sequence[int]) -> Law:
    """One keep probability for all of λ and one for all of w, one mask variable for every coordinate."""
    return Law((Fraction(*lam),) * n, (Fraction(*w),) * d, tuple(range(n)), tuple(range(d)))


def masked_model(params: Mapping[str, Any]) -> Model:
    """The problem of ``params`` under masks: ``kind`` is "plane", "line", "bent" or "random".

    plane: G = ½w², F = ½(λ₁ + λ₂ − 1)². line: G = ½w² − λw, F = w + ½λ² (``flat``: F = w).
    bent: G = w² − w + ¼λw², F = w + ½λ²: the cross derivative depends on w.
    random: H = I + ¼RᵀR, the rest multiples of ¼; ``bent``: F has a term quadratic in w.
    """
    kind = params.get("kind", "random")
    lower: Objective
    if kind == "plane":
        n, d = 2, 1
        lower, upper = quadratic.objective(ww=[[1.0]], n=2), quadratic.objective(**PLANE)
    elif kind == "line":
        n, d = 1, 1
        lower, upper = line_levels(params)
    elif kind == "bent":
        n, d = 1, 1
        _, upper = line_levels(params)
        lower = Polynomial(rationals([1, -1, Fraction(1, 4)]), ((0, 2), (0, 1), (1, 2)), 1, 1)
    else:
        n, d = params["n"], params["d"]
        lower, upper = random_levels(n, d, params["seed"], bent=params.get("bent", 0))
    law = same_keep(n, d, params["keep_lam"], params["keep_w"])
    lam = RATIONAL.asarray(np.array(params.get("lam", [0.0] * n), dtype=float))
    return Model(BilevelProblem(upper.to("rational"), lower.to("rational")), law, lam, dict(params))


def line_levels(params: Mapping[str, Any]) -> tuple[quadratic.Quadratic, quadratic.Quadratic]:
    """G = ½w² − λw and F = w + ½λ², without the last term where ``flat``."""
    upper = quadratic.objective(ww=[[0.0]], ll=[[0.0 if params.get("flat") else 1.0]], w1=[1.0])
    return quadratic.objective(ww=[[1.0]], lw=[[-1.0]]), upper


def random_levels(n: int, d: int, seed: int, *, bent: int) -> tuple[quadratic.Quadratic, quadratic.Quadratic]:
    """Lower and upper level with small coefficients; every entry is a multiple of ¹⁄₁₆, so exact in floats too."""
    rng = np.random.default_rng(seed)

    def small(*shape: int) -> np.ndarray:
        return rng.integers(-2, 3, shape) / 4

    root, half = small(d, d), small(d, d)
    lower = quadratic.objective(ww=np.eye(d) + root.T @ root, lw=small(n, d) + np.eye(n, d) / 2, w1=small(d))
    upper = quadratic.objective(
        ww=bent * half.T @ half, lw=small(n, d), ll=np.eye(n), w1=small(d) + 1, l1=small(n)
    )
    return lower, upper


def random_problems(*, bent: tuple[int, ...] = (0, 1), **more: Any) -> Any:
    """Strategy over ``masked_model``'s random kind, with keep probabilities in quarters."""
    keep = st.integers(1, 4).map(lambda q: [q, 4])
    boxes = {
        "n": st.integers(1, 2),
        "d": st.integers(1, 2),
        "seed": st.integers(0, 999),
        "bent": st.sampled_from(bent),
        "keep_lam": keep,
        "keep_w": keep,
    }
    return st.fixed_dictionaries({**boxes, **more})


# -- exact means of the state ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Means:
    """E of all arrays of the state of ``algorithm`` on ``problem``."""

    algorithm: FSLA
    problem: BilevelProblem
    lam: Array

    def along(self, steps: int, w: Array, v: Array) -> list[Array]:
        """E λ_k, k = 0, …, steps, from (λ, w, v)."""
        whole = whole_state(self.algorithm, self.problem, self.lam, w, v, steps=steps)
        names = tuple(whole.start.arrays)
        mean = whole.start.vector(self.problem.backend, names)
        found = [self.lam]
        assert isinstance(whole.later, Schedule)  # the steps change
        for step in (whole.first, *whole.later.steps)[:steps]:
            T = step.mean_matrix
            mean = T[:-1, :-1] @ mean + T[:-1, -1]
            found.append(mean[: self.problem.n])
        return found

    @cached_property
    def step(self) -> Any:
        """An iteration with constant steps, after the first."""
        return whole_state(self.algorithm, self.problem, self.lam).later

    @property
    def matrix(self) -> Array:
        """E T of that iteration, in homogeneous coordinates."""
        return self.step.mean_matrix

    @property
    def radius(self) -> float:
        """Spectral radius of the mean recursion: below 1 the mean of the state converges from every start."""
        drift = np.array([[float(x.p) / float(x.q) for x in row] for row in self.matrix[:-1, :-1]])
        return float(abs(np.linalg.eigvals(drift)).max())

    @cached_property
    def limit(self) -> dict[str, Array]:
        """The fixed point of the means, by name; where there is not exactly one, 64 iterations from the origin."""
        T, start = self.matrix, self.algorithm.init(self.problem, self.lam)
        try:
            x = factor(RATIONAL, RATIONAL.eye(len(T) - 1) - T[:-1, :-1]).solve(T[:-1, -1])
        except HypothesisViolated:
            x = T[:-1, -1]
            for _ in range(64):
                x = T[:-1, :-1] @ x + T[:-1, -1]
        return start.with_vector(x, tuple(start.arrays)).arrays


def one_step(
    algorithm: FSLA, problem: BilevelProblem, lam: Array, w: Array, v: Array
) -> tuple[FSLAState, Array]:
    """The state after the first iteration for every point of the algorithm's space, and the points' probabilities."""
    space = algorithm.space(problem)
    index = np.arange(space.size)
    state = algorithm.init(problem, lam, w, v)
    chances = RATIONAL.asarray([RATIONAL.scalar(p) for p in space.exact_probabilities(index)])
    return algorithm.step(problem, state, space.points(index)), chances


def mean(chances: Array, x: Array) -> Array:
    """Σ p x over the points' axis; an x that no point changes has none."""
    x = np.asarray(x)
    return (chances[:, None] * x).sum(axis=0) if x.ndim == 2 else x


def gradient(problem: BilevelProblem, lam: Array) -> Array:
    """∇F̄(λ)."""
    return exact_hypergradient(problem, lam, certify="never").value


def root(affine: Any, n: int) -> Array:
    """The zero of an affine map of R^n, from its values at 0 and at the unit vectors."""
    zero = RATIONAL.zeros((n,))
    at_zero = affine(zero)
    columns = np.array([affine(e) - at_zero for e in RATIONAL.eye(n)], dtype=object).T
    return -factor(RATIONAL, columns).solve(at_zero)
