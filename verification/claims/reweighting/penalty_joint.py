"""The penalty function and the augmented Lagrangian minimised over (u, v) together, (20) and (21), on quadratics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq

from refimpl.approximate.penalty import AugmentedLagrangian
from refimpl.arrays.backend import Array
from verification.claims.reweighting._penalty import (
    Penalised,
    definite,
    one,
    penalised,
    rational,
    scalar,
    sizes,
    solve,
    square,
)
from verification.claims.reweighting._systems import RATIONAL
from verification.claims.reweighting.auglag_rate import begun
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, identity

SOURCE = "reweighting, (20)"
Matrix = Callable[["Joint"], Array]


@dataclass(frozen=True)
class Joint:
    """A quadratic problem at its bilevel solution u*: ``at.lam`` is u*, ``at.adjoint`` λ*."""

    at: Penalised

    @cached_property
    def W(self) -> Array:
        """dv*/du."""
        return -solve(self.at.H, self.at.C.T)

    @cached_property
    def uu(self) -> Array:
        """The hyperobjective's Hessian."""
        p, W = self.at, self.W
        return p.A + p.B @ W + (p.B @ W).T + W.T @ p.Q @ W

    @cached_property
    def lever(self) -> Array:
        """φ_uu⁻¹φ_uy."""
        return solve(self.uu, self.at.coupling)

    @cached_property
    def S(self) -> Array:
        """S₀ − φ_yu φ_uu⁻¹ φ_uy."""
        return self.at.S - self.at.coupling.T @ self.lever

    @property
    def P(self) -> Array:
        """∇²f over (u, v)."""
        p = self.at
        return np.block([[p.A, p.B], [p.B.T, p.Q]])

    @property
    def J(self) -> Array:
        """∇(∇_vg)ᵀ over (u, v)."""
        return np.concatenate([self.at.C.T, self.at.H], axis=1)

    def gradient(self, x: Array, v: Array) -> Array:
        """Of f̃ − vᵀ∇_vg over (u, v), from the package's pieces."""
        problem, n = self.at.problem, len(self.at.lam)
        lam, w = x[:n], x[n:]
        phi = AugmentedLagrangian(problem, lam, v, self.at.gamma)
        return np.concatenate([problem.hypergradient_at(lam, w, phi.multiplier(w)), phi.grad(w)])

    def minimiser(self, v: Array) -> tuple[Array, Array]:
        """(u, v) where that gradient, an affine function, is 0."""
        n = len(self.at.lam)
        zero = RATIONAL.zeros((n + len(v),))
        rest = self.gradient(zero, v)
        columns = [self.gradient(e, v) - rest for e in RATIONAL.eye(len(zero))]
        x = solve(np.stack(columns, axis=-1), -rest)
        return x[:n], x[n:]

    def residual(self, u: Array, w: Array) -> Array:
        return self.at.problem.lower.grad_w(u, w)


def solved(p: Penalised) -> Joint:
    """The same problem with λ at the stationary point of u ↦ f(u, v*(u))."""
    origin = dataclasses.replace(p, lam=0 * p.lam)
    return Joint(dataclasses.replace(p, lam=-solve(Joint(origin).uu, origin.hypergradient)))


def drawn(params: Mapping[str, Any]) -> Joint:
    """A = a multiple of I that makes φ_uu positive definite, unless given."""
    p = penalised(params)
    if "A" not in params:
        rest = Joint(p).uu - p.A
        p = dataclasses.replace(p, A=(1 + abs(rest).sum()) * rational(np.eye(len(p.A), dtype=int)))
    return solved(p)


def joint(params: Mapping[str, Any]) -> Joint:
    """The same with a γ large enough for S + γI."""
    made = drawn(params)
    if definite(shifted(made, made.S)):
        return made
    return solved(dataclasses.replace(made.at, gamma=made.at.gamma + abs(made.S).sum()))


# -- identities --------------------------------------------------------------------------------------------


def _schur(j: Joint) -> Array:
    return j.S


def _lever(j: Joint) -> Array:
    return j.lever


def shifted(j: Joint, S: Array) -> Array:
    """S + γI."""
    return S + j.at.gamma * RATIONAL.eye(len(S))


def penalty(S: Matrix = _schur, lever: Matrix = _lever) -> Callable[[Joint], Measurement]:
    """∇_vg and u_γ − u* at the joint minimiser, against their formulas."""

    def measure(j: Joint) -> Measurement:
        u, w = j.minimiser(0 * j.at.adjoint)
        y = -solve(shifted(j, S(j)), j.at.adjoint)
        return identity(
            np.concatenate([j.residual(u, w), u - j.at.lam]), np.concatenate([y, -(lever(j) @ y)])
        )

    return measure


def updates(S: Matrix = _schur, lever: Matrix = _lever, sign: int = 1) -> Callable[[Joint], Measurement]:
    """Two updates of the multiplier: its errors and those of u, against their formulas."""

    def measure(j: Joint) -> Measurement:
        v, seen, expected = begun(j.at), [], []
        for _ in range(2):
            y = solve(shifted(j, S(j)), v - j.at.adjoint)
            u, w = j.minimiser(v)
            v = v - sign * j.at.gamma * j.residual(u, w)
            seen += [u - j.at.lam, v - j.at.adjoint]
            expected += [-(lever(j) @ y), S(j) @ y]
        return identity(np.concatenate(seen), np.concatenate(expected))

    return measure


# -- the size of u's error ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """‖u_γ − u*‖², ‖φ_uu⁻¹φ_uy‖_F², ‖λ*‖², γ; are f convex and φ_uu positive definite?"""

    error: fmpq
    lever: fmpq
    adjoint: fmpq
    gamma: fmpq
    convex: bool
    hyper: bool


def measured(params: Mapping[str, Any]) -> Sizes:
    """Of a problem; ``flat`` = k: of f = u⁴/4 + v(1 + u), g = v²/2, φ_uu stated as 1, at γ = (1 + u)/u³, u = 2⁻ᵏ."""
    if "flat" in params:
        u = fmpq(1, 2 ** params["flat"])
        gamma = (1 + u) / u**3
        v = -(1 + u) / gamma
        assert u**3 + v == 0  # ∂f̃/∂u
        assert 1 + u + gamma * v == 0  # ∂f̃/∂v
        return Sizes(u * u, fmpq(1), fmpq(1), gamma, False, False)
    j = joint(params)
    u = j.minimiser(0 * j.at.adjoint)[0]
    tiny = fmpq(1, 2**60) * RATIONAL.eye(len(j.P))
    return Sizes(
        square(u - j.at.lam),
        square(j.lever),
        square(j.at.adjoint),
        j.at.gamma,
        definite(j.P + tiny),
        definite(j.uu),
    )


def falls(
    power: int = 2, lever: Callable[[Sizes], fmpq] = lambda s: s.lever
) -> Callable[[Sizes], Measurement]:
    """‖u_γ − u*‖²γ² against ‖φ_uu⁻¹φ_uy‖²‖λ*‖²."""
    return lambda s: Measurement(observed=s.error * s.gamma**power, bound=lever(s) * s.adjoint)


SMALLEST = scalar(1, 1, a=[-1])  # f = (u² + (v − 1)²)/2, g = (v − u)²/2
RANK_ONE = scalar(1, 1, B=[[1]])  # f = (u + v)²/2 + v
EXPLICIT = (SMALLEST, RANK_ONE, one(n=1, d=2, seed=1), one((3, 1), n=2, d=2, seed=1), one(n=3, d=2, seed=4))
CLAIMS = (
    Claim(
        id="reweighting/penalty-joint",
        title="Where the penalty function is least over both variables",
        source=SOURCE,
        statement=r"$$\nabla_vg(u_\gamma, v_\gamma) = -(S + \gamma I)^{-1}\lambda^*$$ $$u_\gamma - u^* = "
        r"\varphi_{uu}^{-1}\varphi_{uy}(S + \gamma I)^{-1}\lambda^*$$ $$S = H^{-1}QH^{-1} - "
        r"\varphi_{yu}\varphi_{uu}^{-1}\varphi_{uy},\quad \varphi_{uu} = \nabla^2f(u^*) \succ 0,\ S "
        r"+ \gamma I \succ 0$$",
        strategy=sizes(),
        explicit=EXPLICIT,
        build=joint,
        measure=penalty(),
        grade="proved",
        controls=(
            Control("S of a fixed u", kind="formula", measure=penalty(lambda j: j.at.S)),
            Control("the other sign of φ_uy", kind="formula", measure=penalty(lever=lambda j: -j.lever)),
            Control("φ_uu dropped", kind="formula", measure=penalty(lever=lambda j: j.at.coupling)),
            Control("2S for S", kind="formula", measure=penalty(lambda j: 2 * j.S)),
        ),
        budget=Budget(quick=20, full=500),
        notes="In $y = \\nabla_vg$, $\\varphi(u, y) = f(u, v(u, y))$, whose restriction to $y = 0$ is the "
        "hyperobjective; $\\varphi_{uy} = \\nabla^2_{uv}f\\,H^{-1} - \\nabla^2_{uv}g\\,H^{-1}QH^{-1}$. "
        "So the error of $u$ is $O(1/\\gamma)$, and 0 at every $\\gamma$ where $\\varphi_{uy} = 0$. "
        "Smallest: $f = \\frac12(u^2 + (v-1)^2)$, $g = \\frac12(v-u)^2$: the error is "
        "$\\frac{1}{2(1+2\\gamma)}$ and the condition number $1 + 2\\gamma$.",
    ),
    Claim(
        id="reweighting/penalty-joint@error",
        title="The joint penalty method's error in u is at most a constant over γ",
        source=SOURCE,
        statement=r"$$\|u_\gamma - u^*\| \le \frac{\|\varphi_{uu}^{-1}\varphi_{uy}\|_F\,\|\lambda^*\|}{\gamma}$$",
        hypotheses=(
            Hypothesis(
                "convex upper level",
                r"\nabla^2f \succeq 0 \text{ over } (u, v)",
                lambda s: (s.convex, s.convex),
            ),
            Hypothesis(
                "strongly convex hyperobjective", r"\varphi_{uu} \succ 0", lambda s: (s.hyper, s.hyper)
            ),
        ),
        strategy=sizes(),
        explicit=(
            SMALLEST,
            RANK_ONE,
            one(n=1, d=2, seed=1, coupled=False),
            one((3, 1), n=2, d=2, seed=1, coupled=False),
        ),
        build=measured,
        measure=falls(),
        grade="proved",
        controls=(
            Control("a flat hyperobjective", params={"flat": 3}),
            Control("γ² for γ", kind="formula", measure=falls(power=4)),
            Control("half the constant", kind="formula", measure=falls(lever=lambda s: s.lever / 4)),
        ),
        equality=Equality(params=RANK_ONE, reaches=1.0),
        budget=Budget(quick=20, full=500),
        notes="For convex $f$, $S \\succeq 0$. Equality: $f = \\frac12(u+v)^2 + v$, where $S = 0$. A strongly "
        "convex hyperobjective is needed: $f = u^4/4 + v(1+u)$, $g = v^2/2$ have $\\gamma = (1+u)/u^3$ "
        "at $u_\\gamma = u$ ($u = \\frac12, \\frac14, \\frac18$ at $\\gamma = 12, 80, 576$): the error "
        "falls as $\\gamma^{-1/3}$.",
    ),
    Claim(
        id="reweighting/penalty-joint@auglag",
        title="The augmented Lagrangian over both variables reaches the solution at a bounded μ",
        source=SOURCE + " and (21)",
        statement=r"$$\lambda_{k+1} - \lambda^* = S(S + \mu I)^{-1}(\lambda_k - \lambda^*)$$ $$u_k - u^* = "
        r"-\varphi_{uu}^{-1}\varphi_{uy}(S + \mu I)^{-1}(\lambda_k - \lambda^*)$$ $$S = H^{-1}QH^{-1} - "
        r"\varphi_{yu}\varphi_{uu}^{-1}\varphi_{uy}$$",
        strategy=sizes(),
        explicit=EXPLICIT,
        build=joint,
        measure=updates(),
        grade="proved",
        controls=(
            Control("S of a fixed u", kind="formula", measure=updates(lambda j: j.at.S)),
            Control("the update's sign", kind="formula", measure=updates(sign=-1)),
            Control("the other sign of φ_uy", kind="formula", measure=updates(lever=lambda j: -j.lever)),
        ),
        budget=Budget(quick=15, full=400),
        notes="For convex $f$, $0 \\preceq S \\preceq H^{-1}QH^{-1}$: the rate is never worse than at a fixed "
        "$u$, and errors of $u$ and $\\lambda$ vanish with $k$ whatever $\\mu > 0$ is. Smallest: factor "
        "$\\frac{1}{1+2\\mu}$.",
    ),
)
