"""Exact E‖∇F̄(λ_k)‖² of thousands of iterations of Algorithm 1 with decaying steps, in floating point.

n = d = 1, quadratic levels, masks on w alone (lower and upper level, keep probability p), no projection, ηδ = 1. In
α = α_k the matrices of an iteration are polynomials of degree 3: they are read off the algorithm's own step at the four
Chebyshev nodes of [0, δ] and interpolated, which loses no digits. What is quadratic in them has degree 6: its values at
the seven nodes are interpolated in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from scipy.linalg import solve_continuous_lyapunov

from refimpl import BilevelProblem, exact_hypergradient
from refimpl.algorithms import FSLA
from refimpl.algorithms.affine import Iteration
from refimpl.moments import AffineStep
from refimpl.moments.packed import pack, unpack
from refimpl.zoo import quadratic

EPS = float(np.finfo(float).eps)
DEGREE = 6
ENTRIES = 28  # of a packed second moment in six coordinates and the constant one


def nodes(degree: int) -> np.ndarray:
    """The Chebyshev nodes of [−1, 1] that determine a polynomial of this degree."""
    return np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))


NODES = nodes(DEGREE)


def interpolate(values: np.ndarray) -> np.ndarray:
    """Chebyshev coefficients, as many as ``values``, of the polynomial with these values at the nodes."""
    count = len(values)
    weights = np.full(count, 2.0)
    weights[0] = 1.0
    basis = chebyshev.chebvander(nodes(count - 1), count - 1)
    return np.tensordot((weights[:, None] * basis.T) / count, values, axes=1)


@dataclass(frozen=True)
class Decay:
    """The problem and the use of randomness in ``params``; the rest follows."""

    params: Mapping[str, Any]

    @cached_property
    def plain(self) -> BilevelProblem:
        """G = ½hw² − bλw, F = ½aw² + kλw + ½cλ² + ew + fλ, coefficients in quarters."""
        h, b, a, k, c, e, f = (self.params[name] / 4 for name in "hbakcef")
        lower = quadratic.objective(ww=[[h]], lw=[[-b]])
        return BilevelProblem(quadratic.objective(ww=[[a]], lw=[[k]], ll=[[c]], w1=[e], l1=[f]), lower)

    @cached_property
    def problem(self) -> BilevelProblem:
        keep = Fraction(self.params["keep"], 8)
        return self.plain.with_dropout(lower=keep, upper=keep)

    @property
    def delta(self) -> float:
        return self.params["delta"] / 32

    @cached_property
    def algorithm(self) -> FSLA:
        """ηδ = 1, γ and β in quarters of η."""
        eta = 1 / self.delta
        return FSLA(
            delta=self.delta,
            gamma=eta * self.params["gamma"] / 4,
            beta=eta * self.params["beta"] / 4,
            eta=eta,
            randomness=self.params["randomness"],
            reading=self.params["reading"],
        )

    @cached_property
    def curvature(self) -> float:
        """F̄″."""
        values = [
            exact_hypergradient(self.problem, np.array([x]), certify="never").value[0] for x in (0.0, 1.0)
        ]
        return float(values[1] - values[0])

    @cached_property
    def rest(self) -> np.ndarray:
        """λ, w, v, d = 0 and the previous λ (and v) at the stationary point of F̄."""
        zero = exact_hypergradient(self.problem, np.zeros(1), certify="never").value[0]
        lam = np.array([-zero / self.curvature])
        exact = exact_hypergradient(self.problem, lam, certify="never")
        parts = [lam, exact.w, exact.v, np.zeros(1), lam]
        return np.concatenate([*parts, exact.v] if self.params["reading"] == "old" else parts)

    def read(self, alpha: float, *, tested: bool = True) -> AffineStep:
        """The later iterations at the constant step size ``alpha``, around ``rest``; ``tested``: for being affine."""
        a = replace(self.algorithm, delta=alpha, schedule="constant")
        state = replace(a.init(self.problem, np.zeros(1)), k=1)
        found = Iteration(a, self.problem, state, tuple(state.arrays)).recursion({}, tested=tested)
        assert isinstance(found, AffineStep)  # its space is small
        return found.about(self.rest)

    @cached_property
    def steps(self) -> list[AffineStep]:
        """The iteration at the nodes' constant step sizes, around ``rest``."""
        alphas = (nodes(DEGREE // 2) + 1) * self.delta / 2
        read = [self.read(float(a), tested=a in (alphas.min(), alphas.max())) for a in alphas]
        coefficients = interpolate(np.stack([step.transitions for step in read]))
        first = read[0]
        return [
            AffineStep(first.backend, np.tensordot(weights, coefficients, axes=1), first.probabilities)
            for weights in chebyshev.chebvander(NODES, DEGREE // 2)
        ]

    def alphas(self, times: int) -> np.ndarray:
        return self.delta / np.sqrt(np.arange(times) + 1.0)

    def basis(self, times: int) -> np.ndarray:
        """Chebyshev polynomials at α_0, …, (times, 7)."""
        return chebyshev.chebvander(2 * self.alphas(times) / self.delta - 1, DEGREE)

    @property
    def start(self) -> np.ndarray:
        """The state's difference from ``rest``: λ and the previous λ off by ``offset``."""
        z = np.zeros(len(self.rest))
        z[[0, 4]] = self.params["offset"]
        return z

    def seconds(self, times: int) -> np.ndarray:
        """Packed second moments around ``rest``, (times, entries); the first iteration is no exception, as η_0 = 1."""
        operators = interpolate(np.stack([step.operator for step in self.steps]))
        z = np.append(self.start, 1.0)
        s = pack(self.problem.backend, np.outer(z, z))
        found = np.empty((times, len(s)))
        for k, weights in enumerate(self.basis(times)):
            found[k] = s
            s = weights @ (operators @ s)
        return found

    def squares(self, times: int) -> np.ndarray:
        """E‖∇F̄(λ_k)‖², k = 0, …, times − 1."""
        return self.curvature**2 * self.seconds(times)[:, 0]

    def rounding(self, values: np.ndarray) -> float:
        """Every step errs by its sums, each relative to the largest second moment; a contraction forgets none of it."""
        scale = max(1.0, float(np.abs(values).max()))
        return len(values) * (ENTRIES + DEGREE) * EPS * scale

    @property
    def mean_error(self) -> float:
        """sup ‖E x⁺ − x‖/α at ``rest`` over the nodes: 0 if the mean of the state rests where ∇F̄ = 0."""
        alphas = (NODES + 1) * self.delta / 2
        moves = np.stack([step.mean_matrix[:-1, -1] for step in self.steps])
        return float(np.abs(moves / alphas[:, None]).max())

    @cached_property
    def plainest(self) -> Decay:
        """The same with own masks for the cross derivative and reading @a: its 𝒜 is that of every unbiased use."""
        params = {**self.params, "randomness": "fresh-cross", "reading": "new"}
        return self if params == self.params else Decay(params)

    @cached_property
    def abscissa(self) -> float:
        """The largest real part of 𝒜's eigenvalues."""
        return float(np.linalg.eigvals(self.plainest.drift).real.max())

    # -- the constants of the theorem ---------------------------------------------------------------------------

    @cached_property
    def h_mean(self) -> np.ndarray:
        """The coefficients of λ, w and v in h̄."""
        F, G, one = self.problem.upper, self.problem.lower, np.ones(1)
        zero = 0 * one
        direct = (F.grad_lam(one, zero) - F.grad_lam(zero, zero))[0]
        through = (F.grad_lam(zero, one) - F.grad_lam(zero, zero))[0]
        return np.array([direct, through, -G.cross(zero, zero).dense()[0, 0]])

    @property
    def to_error(self) -> np.ndarray:
        """The matrix of (λ, w, v, d, λ_prev) ↦ (λ, w, v, ε); for reading @b (…, v_prev) ↦ (…, v − v_prev)."""
        old = len(self.rest) - 5
        out = np.eye(4 + old, 5 + old)
        out[3, [4, 1, 5 if old else 2]] = -self.h_mean
        if old:
            out[4] = [0, 0, 1, 0, 0, -1]
        return out

    @property
    def from_error(self) -> np.ndarray:
        """A right inverse of ``to_error``: λ_prev = λ, on which the rest does not depend."""
        old = len(self.rest) - 5
        into = np.zeros((5 + old, 4 + old))
        into[[0, 1, 2, 4], [0, 1, 2, 0]] = 1
        if old:
            into[5, [2, 4]] = [1, -1]
        into[3] = self.h_mean @ into[[4, 1, 5 if old else 2]]
        into[3, 3] += 1
        return into

    @cached_property
    def transitions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """p_s, A_s and b_s at the nodes, of z̃ = (λ, w, v, ε) − z*, with u = v − v_prev behind it for reading @b."""
        out, size = self.to_error, len(self.rest)
        T = np.stack([step.transitions for step in self.steps])
        A, b = T[..., :size, :size], T[..., :size, size]
        return self.steps[0].probabilities, out @ A @ self.from_error, b @ out.T

    @cached_property
    def drift(self) -> np.ndarray:
        """𝒜, the derivative of E A in (λ, w, v, ε) at α = 0."""
        p, A, _ = self.transitions
        A = A[..., :4, :4]
        coefficients = interpolate(np.einsum("s,nsij->nij", p, A))
        slope = chebyshev.chebder(coefficients)
        return np.asarray(chebyshev.chebval(-1.0, slope)) * 2 / self.delta

    def lyapunov(self, times: int) -> tuple[np.ndarray, int, np.ndarray]:
        """X, k_1, and ν_k of E V_{k+1} <= E V_k − α_k E λ̃_k² + ν_k for k_1 <= k < times, V = z̃ᵀXz̃.

        𝒜ᵀX + X𝒜 = −(e_λe_λᵀ + I/8), and X_uu = X_εε + E[A_s(0)ᵀXA_s(0)]_uu in reading @b.
        k_1 = times where W_k = X − α_k e_λe_λᵀ − E[AᵀXA] is not ≻ 0 to the end.
        """
        p, A, b = self.transitions
        size = A.shape[-1]
        e, at_zero, X = (np.zeros((size, size)) for _ in range(3))
        e[0, 0] = 1.0
        at_zero[:4, :4] = np.eye(4)  # E A at α = 0; there v_prev⁺ = v and u⁺ = 0
        solved = solve_continuous_lyapunov(self.drift.T, -(e + np.eye(size) / 8)[:4, :4])
        X[:4, :4] = (solved + solved.T) / 2
        if size > 4:
            of_u = chebyshev.chebval(-1.0, interpolate(A[..., :4, 4]))
            X[4, 4] = X[3, 3] + np.einsum("s,si,ij,sj->", p, of_u, X[:4, :4], of_u)
        M = interpolate(np.einsum("s,nsji,jk,nskl->nil", p, A, X, A))
        q = interpolate(np.einsum("s,nsji,jk,nsk->ni", p, A - at_zero, X, b))
        n = interpolate(np.einsum("s,nsj,jk,nsk->n", p, b, X, b))
        basis = self.basis(times)
        M, q, n = (np.tensordot(basis, x, axes=1) for x in (M, q, n))
        W = X - self.alphas(times)[:, None, None] * e - (M + M.swapaxes(1, 2)) / 2
        bad = np.flatnonzero(np.linalg.eigvalsh(W)[:, 0] <= 0)
        first = int(bad[-1]) + 1 if len(bad) else 0
        cross = np.einsum("ki,ki->k", q[first:], np.linalg.solve(W[first:], q[first:, :, None])[..., 0])
        return X, first, n[first:] + cross

    def energy(self, second: np.ndarray, X: np.ndarray) -> float:
        """E V from a packed second moment."""
        B, out = self.problem.backend, self.to_error
        size = len(self.rest)
        S = unpack(B, second, size + 1)[:size, :size]
        return float(np.trace(X @ out @ S @ out.T))
