"""Exact mean and second moment of SID, nothing sampled, and over the rationals nothing rounded (contraction, (9)–(10)).

Given the samples, and at one λ, four maps make up the estimate, one after the other:

    w ↦ w − η r̂(λ, w)                          t times: a random affine recursion
    w_t ↦ (h, g, v_0),  h = ∇_λĒ_J, g = ∇_wĒ_J     the mean of J draws
    (g, v) ↦ (g, v − η (∂_w r̂ᵀ v − g))            k times: a random affine recursion; h is carried along
    (h, g, v_k) ↦ h − ∂_λ r̂ᵀ v_k                 the mean of J draws

where r̂ and ∇Ê are affine in w, and ∂_λ r̂ does not depend on w. Each is read off the code's own step
(``sid_reading``) and pushed through by ``refimpl.moments``. J, and the data of a minibatch, cost nothing: see
``moments.averaged``. Coordinates are errors: w − w(λ), h − ∇_λE, g − ∇_wE, and v − v̄(w_t), v̄ the solution of the linear
system for the drawn right side; so nothing cancels near the solution.

Where ∂_λ r̂ is affine in w (a penalty λ‖w‖²/2, say), the estimate is bilinear in (w_t, v_k): its mean is still exact
through their second moment, its variance is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refimpl.approximate.sid_reading import not_affine
from refimpl.approximate.sid_stages import Propagation
from refimpl.approximate.stochastic import SID
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.exact import Hypergradient
from refimpl.moments import Moments, curve, mean_square_curve
from refimpl.problem import Problem
from refimpl.solvers.lower import overflow_allowed, require_finite


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class SIDMoments:
    """Of ∇̂f(λ): expectations over all samples, rounded in floats, exact over the rationals; without draws no variance.

    exact: ∇f(λ), w(λ), the adjoint, which all errors are measured from: of the kind that it was passed with, or
    "estimated", rounded and not certified, where it was left out; over the rationals "exact".
    lower, linear: moments of w_t − w(λ), and of v_k − v(λ), v(λ) = ``exact.v``: E v_k is ``exact.v + linear.mean``.
    bias: E ∇̂f − ∇f(λ), (n,).
    sigma: E‖v_k − v̄(w_t)‖², v̄ the solution for the drawn right side (assumption D, here a mean over w_t, too);
    of a minimisation in the scale of v = (∇²_wwG)⁻¹∇_wF: over s² it is the σ of constants of w − s ∇_wG.
    error, conditional: moments of ∇̂f − ∇f(λ) and of E[∇̂f | w_t] − ∇f(λ); None where ∂_λ r̂ depends on w: what is
    computed from them then raises ``HypothesisViolated``.
    """

    exact: Hypergradient
    lower: Moments
    linear: Moments
    bias: Array
    sigma: Any
    error: Moments | None
    conditional: Moments | None

    @property
    def mean(self) -> Array:
        """E ∇̂f, (n,)."""
        return self.exact.value + self.bias

    @property
    def bias_square(self) -> Any:
        """‖E ∇̂f − ∇f‖²; summed as mean squares are, so that a difference of equal ones is 0."""
        return Moments.at(self.lower.backend, self.bias).mean_square

    @property
    def rho(self) -> Any:
        """E‖w_t − w(λ)‖²."""
        return self.lower.mean_square

    @property
    def second(self) -> Array:
        """E ∇̂f ∇̂fᵀ, (n, n)."""
        return _known(self.error).about(-self.exact.value).second

    @property
    def mean_square_error(self) -> Any:
        """E‖∇̂f − ∇f‖² = ‖bias‖² + variance (9)."""
        return _known(self.error).mean_square

    @property
    def variance(self) -> Any:
        """V[∇̂f] = variance I + variance II (10)."""
        return self.variance_upper + self.variance_lower

    @property
    def variance_upper(self) -> Any:
        """Variance I, E V[∇̂f | w_t]: what the upper level, the linear system and the cross derivative draw."""
        return _known(self.error).mean_square - _known(self.conditional).mean_square

    @property
    def variance_lower(self) -> Any:
        """Variance II, V[E[∇̂f | w_t]]: what the lower level draws."""
        return _known(self.conditional).mean_square - self.bias_square


def sid_moments(
    sid: SID,
    problem: Problem,
    lam: Any,
    *,
    w0: Any = None,
    v0: Any = None,
    exact: Hypergradient | None = None,
) -> SIDMoments:
    """Mean, second moment, bias and both variances of ``sid.estimate`` at one λ (n,), from w0 and v0 (d,).

    exact: the hypergradient at λ, where it is known already.

    Cost, D = d + 1 and D = 2d + 1: t and k steps of 4·points·D³ operations, or, for constant steps, powers of an
    operator of size D(D+1)/2; points are those of one datum under one pair of masks. Raises ``HypothesisViolated``
    where an iteration is not affine in (w, v), ``NotConverged`` where the moments overflow, ``TooLarge`` for too many
    points, ``BadInput`` for several λ.

    >>> import refimpl as ri
    >>> from refimpl.approximate import SID
    >>> found = sid_moments(SID(t=3, k=3, J=2), ri.zoo.maps.line(0.5), [1.0])
    >>> float(found.bias[0]), float(found.mean_square_error)  # λ ↦ λ/(1 − q): v_k = 2 − 2^(1−k), and no noise
    (-0.25, 0.0625)
    """
    with overflow_allowed():
        found = _moments(Propagation.of(sid, problem, lam, w0, v0, exact))
        of_two = (m.homogeneous for m in (found.linear, found.error) if m)
        for x in (found.rho, found.sigma, found.bias, *of_two):
            require_finite(problem.backend, x, "the moments of SID")
    return found


def _moments(run: Propagation) -> SIDMoments:
    B, d, lower, upper = run.B, run.problem.d, run.lower(), run.upper()
    ended, means = run.linear(upper.moments(lower))
    through = means @ upper.mean_matrix  # E[(h, g, v_k, 1) | w_t], v_k as an error, of (w_t, 1)
    sigma, linear = Moments(B, ended.homogeneous[-d - 1 :, -d - 1 :]).mean_square, run.adjoint(ended)
    # what is sure has no variance: the rounding of two ways to one number is none
    of_lower, of_linear, of_cross, of_upper = (g.size > 1 for g in run.sid.groups(run.problem))
    if not (of_lower or of_linear or of_upper):
        linear = Moments.at(B, linear.mean)
    if not run.whole:
        return SIDMoments(run.exact, lower, linear, run.bilinear_bias(lower, through), sigma, None, None)
    cross = run.cross()
    error, given = cross.moments(ended), cross.mean_matrix @ through
    conditional = Moments(B, given @ lower.homogeneous @ B.mT(given))
    if not of_lower:
        conditional = Moments.at(B, error.mean)
    if not (of_linear or of_cross or of_upper):
        error = conditional
    return SIDMoments(run.exact, lower, linear, error.mean, sigma, error, conditional)


def lower_curve(
    sid: SID, problem: Problem, lam: Any, *, w0: Any = None, exact: Hypergradient | None = None
) -> Array:
    """ρ(i) = E‖w_i − w(λ)‖² for i = 0, …, t, (t + 1,); arguments, cost and errors as for ``sid_moments``."""
    run = Propagation.of(sid, problem, lam, w0, None, exact)
    t = _steps(sid.t, "t")
    with overflow_allowed():
        rho = mean_square_curve(run.lower_recursion(), run.w0 - run.exact.w, t)
    require_finite(problem.backend, rho, f"ρ(0), …, ρ({t})")
    return rho


def linear_curve(
    sid: SID,
    problem: Problem,
    lam: Any,
    *,
    w0: Any = None,
    v0: Any = None,
    exact: Hypergradient | None = None,
) -> Array:
    """σ(i) = E‖v_i − v̄(w_t)‖² for i = 0, …, k, (k + 1,); arguments, cost and errors as for ``sid_moments``."""
    run = Propagation.of(sid, problem, lam, w0, v0, exact)
    k, n, d = _steps(sid.k, "k"), problem.n, problem.d
    with overflow_allowed():
        begun = run.upper().moments(run.lower())
        along = curve(run.linear_recursion(), Moments(problem.backend, begun.homogeneous[n:, n:]), k)
        sigma = Moments(problem.backend, along.homogeneous[..., d:, d:]).mean_square
    require_finite(problem.backend, sigma, f"σ(0), …, σ({k})")
    return sigma


def _known(moments: Moments | None) -> Moments:
    if moments is not None:
        return moments
    raise not_affine("the cross derivative depends on w: mean and bias are exact, the variance is not known")


def _steps(steps: int | None, name: str) -> int:
    if steps is not None:
        return steps
    raise BadInput(
        "a curve over the iterations of a solver?",
        measured=f"{name}=None",
        required=f"{name} steps of the stochastic iteration",
        advice=f"leave the solver out and give {name}",
    )
