"""The four stages of SID's moments, in coordinates of errors, composed of what ``sid_reading`` reads off."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from refimpl.approximate.sid_reading import OneDraw, Reading, require_affine
from refimpl.approximate.stochastic import SID
from refimpl.arrays import Backend, factor
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.exact import Hypergradient, exact_hypergradient
from refimpl.moments import (
    AffineDraw,
    AffineStep,
    Moments,
    PackedStep,
    Relaxed,
    affine_draw,
    affine_step,
    averaged,
    mean_and_second,
    mixture,
)
from refimpl.problem import Problem
from refimpl.rates import Rate

Recursion = AffineStep | PackedStep | Relaxed


@dataclass(frozen=True, eq=False)
class Propagation:
    """The four stages in coordinates of errors; ``whole``: the last one is affine too."""

    one: OneDraw
    sid: SID
    w0: Array
    exact: Hypergradient
    whole: bool

    @classmethod
    def of(
        cls, sid: SID, problem: Problem, lam: Any, w0: Any, v0: Any, exact: Hypergradient | None
    ) -> Propagation:
        lam, w0 = problem.lam(lam), problem.w(w0)
        v0 = None if v0 is None else problem.w(v0)
        if any(x is not None and x.ndim != 1 for x in (lam, w0, v0)):
            raise BadInput(
                "moments are of one start at a time",
                measured=f"shapes {[tuple(x.shape) for x in (lam, w0, v0) if x is not None]}",
                required="one λ (n,), one w0 and one v0 (d,)",
                advice="loop over the starts",
            )
        if not problem.backend.ordered:
            raise BadInput(
                "the moments of SID are not computed over balls",
                measured=f"backend {problem.backend.name!r}",
                required="floats or rationals",
                advice="over the rationals they are exact: problem.to('rational')",
            )
        one = OneDraw.of(sid, problem, lam, v0)
        whole = require_affine(one)
        if exact is None:
            exact = exact_hypergradient(problem, lam, certify="never")
        if not isinstance(exact, Hypergradient) or exact.w.shape != w0.shape:
            raise BadInput(
                "not the hypergradient of this problem",
                measured=type(exact).__name__,
                required=f"a Hypergradient with w of shape {tuple(w0.shape)}",
                advice="exact=exact_hypergradient(problem, lam), or leave it out",
            )
        return cls(one, sid, w0, exact, whole)

    @property
    def problem(self) -> Problem:
        return self.one.problem

    @property
    def B(self) -> Backend:
        return self.problem.backend

    @cached_property
    def solution(self) -> Array:
        """K with v̄ = v(λ) + K (g − ∇_wE(λ, w(λ))): (∂_w r)⁻ᵀ, (d, d)."""
        jacobian = self.problem.residual_w(self.one.lam, self.exact.w).dense()
        return self.B.mT(factor(self.B, jacobian).solve_T(self.B.eye(self.problem.d)))

    @cached_property
    def gradients(self) -> tuple[Array, Array]:
        """∇_λE and ∇_wE at w(λ), where the errors of h and g begin."""
        F = self.problem.upper
        return F.grad_lam(self.one.lam, self.exact.w), F.grad_w(self.one.lam, self.exact.w)

    def lower_recursion(self) -> Recursion:
        """(6), of w − w(λ)."""
        eye, w = self.B.eye(self.problem.d), self.exact.w
        return self._recursion("lower", (eye, w, eye, w), self.sid.rate, self.sid.t)

    def lower(self) -> Moments:
        """Of w_t − w(λ)."""
        if self.sid.t is not None:
            return mean_and_second(self.lower_recursion(), self.w0 - self.exact.w, self.sid.t)
        w = self.sid.solve_lower(self.problem, self.one.lam, self.w0, None)
        return Moments.at(self.B, w - self.exact.w)

    def upper(self) -> AffineDraw:
        """w_t − w(λ) ↦ (h, g, v_0) as errors, the mean of J draws."""
        n, d = self.problem.n, self.problem.d
        Q = _block(self.B, (n, d, d), (n, d, d), {(2, 1): -self.solution}, diagonal=True)
        to = self.B.concat([*self.gradients, self.exact.v])
        return self._draw("upper", (self.B.eye(d), self.exact.w, Q, to))

    def linear_recursion(self) -> Recursion:
        """(7), of (g, v) as errors; w does not enter."""
        B, d, K = self.B, self.problem.d, self.solution
        P = _block(B, (d, d, d), (d, d), {(1, 0): B.eye(d), (2, 0): K, (2, 1): B.eye(d)})
        Q = _block(B, (d, d), (d, d), {(1, 0): -K}, diagonal=True)
        to = B.concat([self.gradients[1], self.exact.v])
        at = B.concat([self.exact.w, to])
        return self._recursion("linear", (P, at, Q, to), self.sid.linear_rate, self.sid.k)

    def linear(self, begun: Moments) -> tuple[Moments, Array]:
        """Of (h, g, v_k) as errors from those of (h, g, v_0), and the matrix of their means.

        h is carried along: E[h xᵀ] follows the mean of x = (g, v, 1), so that h is no coordinate of the recursion.
        """
        B, n, S = self.B, self.problem.n, begun.homogeneous
        recursion, times = self.linear_recursion(), 1 if self.sid.k is None else self.sid.k
        inner = mean_and_second(recursion, Moments(B, S[n:, n:]), times).homogeneous
        mean = _mean_power(recursion, times)
        beside = S[:n, n:] @ B.mT(mean)
        sizes = (n, mean.shape[0])
        entries = {(0, 0): S[:n, :n], (0, 1): beside, (1, 0): B.mT(beside), (1, 1): inner}
        mean = _block(B, sizes, sizes, {(1, 1): mean}, diagonal=True)
        return Moments(B, _block(B, sizes, sizes, entries)), mean

    @cached_property
    def of_v(self) -> Array:
        """The errors of (g, v_k) to v_k − v(λ): v_k − v̄ and v̄ − v(λ) = K (g − ∇_wE), added."""
        return self.B.concat([self.solution, self.B.eye(self.problem.d)])

    def adjoint(self, ended: Moments) -> Moments:
        """Of v_k − v(λ), from those of (h, g, v_k) as errors."""
        d = self.problem.d
        P = _block(self.B, (d, 1), (2 * d, 1), {(0, 0): self.of_v, (1, 1): self.B.eye(1)})
        return Moments(self.B, P @ ended.homogeneous[-2 * d - 1 :, -2 * d - 1 :] @ self.B.mT(P))

    def cross(self) -> AffineDraw:
        """(h, g, v_k) ↦ the estimate, as errors, the mean of J draws; w does not enter."""
        B, n, d = self.B, self.problem.n, self.problem.d
        P = _block(B, (d, n, d), (n, d, d), {(1, 0): B.eye(n), (2, 1): self.solution, (2, 2): B.eye(d)})
        at = B.concat([self.exact.w, self.gradients[0], self.exact.v])
        return self._draw("cross", (P, at, B.eye(n), self.exact.value))

    def bilinear_bias(self, lower: Moments, through: Array) -> Array:
        """E[h − c(w_t, v_k)] − ∇f for c = (∂_λ r(w))ᵀ v, affine in w: with ω, ν the errors of w_t and v_k,

        c(w, v) − c(w(λ), v(λ)) = c(w(λ), ν) + Σ_i ω_i (D_i v(λ) + D_i ν),  D_i = ∂c/∂w_i: E[ω νᵀ] is what it takes.
        """
        B, n, d, exact = self.B, self.problem.n, self.problem.d, self.exact
        together = through @ lower.homogeneous  # E (h, g, v_k, 1)(w_t, 1)ᵀ
        of_v = self.of_v @ together[n : n + 2 * d, :]  # E ν (ω, 1)ᵀ
        w = B.concat([exact.w[None, :], B.zeros((1, d)), B.eye(d)], axis=0)
        c = self.problem.residual_lam(self.one.lam, w[:, None, :]).T @ B.eye(d)  # of each v = e_j
        c = B.broadcast(c, (d + 2, d, n))
        at_solution, D = c[0], c[2:] - c[1:2]
        moving = B.mT(of_v[:, :d]) + lower.mean[:, None] * exact.v  # E ω (v(λ) + ν)ᵀ
        indirect = B.rmatvec(at_solution, of_v[:, d]) + B.sum(B.sum(moving[..., None] * D, axis=0), axis=0)
        return together[:n, d] - indirect

    def _readings(
        self, name: str, frame: tuple[Array, Array, Array, Array]
    ) -> tuple[list[Any], list[Reading]]:
        parts = list(self.one.parts)
        return [weight for weight, _ in parts], [Reading(part, name, *frame) for _, part in parts]

    def _recursion(
        self, name: str, frame: tuple[Array, Array, Array, Array], rate: Rate, steps: int | None
    ) -> Recursion:
        """Constant steps are those of the reading; a solver (steps None) is one sure step."""
        weights, readings = self._readings(name, frame)
        step = mixture(weights, [affine_step(reading.space, reading, self.B) for reading in readings])
        if steps is None or rate.constant:
            return step
        return Relaxed(step, [rate(i) for i in range(steps)])

    def _draw(self, name: str, frame: tuple[Array, Array, Array, Array]) -> AffineDraw:
        weights, readings = self._readings(name, frame)
        once = mixture(weights, [affine_draw(reading.space, reading, self.B) for reading in readings])
        return averaged(once, self.sid.J)


def _mean_power(recursion: Recursion, times: int) -> Array:
    """The matrix of the mean after ``times`` steps, in homogeneous coordinates."""
    B = recursion.backend
    power = B.eye(recursion.D)
    if isinstance(recursion, Relaxed):
        for i in range(times):
            eta = B.scalar(recursion.sizes[i])
            power = (1 - eta) * power + eta * (recursion.step.mean_matrix @ power)
        return power
    square = recursion.mean_matrix
    while times:
        power = power @ square if times & 1 else power
        times >>= 1
        square = square @ square if times else square
    return power


def _block(
    B: Backend,
    heights: tuple[int, ...],
    widths: tuple[int, ...],
    entries: dict[tuple[int, int], Array],
    *,
    diagonal: bool = False,
) -> Array:
    """A block matrix; what is not among the entries is zero, on the diagonal the identity where asked for."""

    def block(i: int, j: int) -> Array:
        if (i, j) in entries:
            return entries[i, j]
        return B.eye(heights[i]) if diagonal and i == j else B.zeros((heights[i], widths[j]))

    rows = [B.concat([block(i, j) for j in range(len(widths))]) for i in range(len(heights))]
    return B.concat(rows, axis=0)
