"""The augmented Lagrangian (21) at a fixed u where g is not quadratic: its multiplier, and a global linear rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from verification.claims.reweighting._bent import CONVEX, STATIONARY, Backward, at, backward, bent, line
from verification.claims.reweighting._penalty import solve, square
from verification.claims.reweighting.auglag_rate import SOURCE
from verification.model import (
    Budget,
    Claim,
    Control,
    Correction,
    Equality,
    Hypothesis,
    Measurement,
    identity,
)


def adjoint_there(
    expected: Callable[[Backward], Any] = lambda b: solve(b.H, b.slope), sign: int = 1
) -> Callable[[Backward], Measurement]:
    """λ_{k+1} = λ_k − μ∇_vg as the package updates it, against ``expected``; sign −1: the update's sign is wrong."""

    def measure(b: Backward) -> Measurement:
        new = b.phi.multiplier(b.w)
        return identity(new if sign == 1 else 2 * b.v - new, expected(b))

    return measure


def at_once(b: Backward) -> Measurement:
    """λ_{k+1} = λ*."""
    return identity(b.phi.multiplier(b.w), b.adjoint)


def contracting(
    less: int = -1, more: int = 1, only_above: bool = False, double: int = 1, bent: tuple[int, int] = (1, 1)
) -> Callable[[Backward], Measurement]:
    """‖δ⁺‖² against q²‖δ‖², q = max(s⁺/(s⁺ + μ), s_/(μ − s_)); mutants change signs, drop a term, double μ."""

    def measure(b: Backward) -> Measurement:
        (below, above), mu = b.curved(*bent), double * b.mu
        q = above / (above + mu) if more == 1 else above / (2 * above + mu)
        if not only_above:
            q = max(q, below / (mu + less * below))
        new, old = square(b.phi.multiplier(b.w) - b.adjoint), square(b.v - b.adjoint)
        return Measurement(
            observed=new, bound=q * q * old, detail={"s_": float(below), "s+": float(above), "q": float(q)}
        )

    return measure


def _small(b: Backward) -> tuple[bool, Any]:
    if b.m <= 0:
        return False, str(b.m)
    return b.mu > b.curvature[0], f"μ = {b.mu}, s_ = {float(b.curvature[0]):.4g}"


def _affine(b: Backward) -> tuple[bool, Any]:
    return not any(b.q.spectrum), f"spectrum of ∇²_vv f {b.q.spectrum}"


AFFINE = Hypothesis("f affine in v", r"\nabla^2_{vv}f = 0", _affine)
ANY: dict[str, Any] = {"multiplier": True}
WAVE = {"c": [1], "e": [1]}  # r = v + v² + v³


def bending(**more: Any) -> dict[str, Any]:
    """f = v, r = v + v² + v³, v_k = 1/over."""
    return line(1, 0, **{**WAVE, **ANY, **more})


CONVEX_BENT = line(1, 1, (10, 1), c=[1], e=[0], p=[-1], over=64, **ANY)  # f = v²/2 − v, r = v + v³
AFFINE_BENT = line(10, 0, (1, 64), c=[1], e=[1], p=[4], over=1024, **ANY)  # f = 4v, r = 10v + v² + v³
CLAIMS = (
    Claim(
        id="reweighting/auglag-rate@multiplier",
        title="After any update the multiplier is the adjoint at the point reached",
        source=SOURCE,
        statement=r"$$\nabla_v\mathcal L(v_k; \lambda_k) = 0 \;\Rightarrow\; \lambda_k - \mu\nabla_vg(v_k) = "
        r"\left(\nabla^2_{vv}g(v_k)\right)^{-1}\nabla_vf(v_k)$$",
        hypotheses=(STATIONARY,),
        strategy=bent(convex=st.booleans(), multiplier=st.just(True)),
        explicit=(
            line(1, 1, **ANY),
            bending(over=4),
            at((3, 1), d=2, seed=1, over=4, **ANY),
            at((10, 1), d=3, seed=2, over=16, convex=False, **ANY),
        ),
        build=backward,
        measure=adjoint_there(),
        grade="proved",
        controls=(
            Control("not a stationary point", params=line(1, 1, off=1, **ANY)),
            Control("the update's sign", kind="formula", measure=adjoint_there(sign=-1)),
            Control("the multiplier before it", kind="formula", measure=adjoint_there(lambda b: b.v)),
            Control("the adjoint at v*", kind="formula", measure=adjoint_there(lambda b: b.adjoint)),
        ),
        budget=Budget(quick=100, full=2000),
        notes="Whatever $f$ and $g$ are, where $\\nabla^2_{vv}g(v_k)$ is invertible. Hence the $u$-gradient "
        "of (21) at $v_k$ is formula (11) at $v_k$, whatever $\\lambda_k$ was. Instances are made "
        "backwards: $v_k$ is chosen, then $\\lambda_k$.",
    ),
    Claim(
        id="reweighting/auglag-rate@affine",
        title="Nobody prints this: one update is exact for affine f, without asking g to be quadratic",
        source=SOURCE,
        statement=r"$$\nabla^2_{vv}f = 0,\ \nabla^2_{vv}g \succeq mI \;\Rightarrow\; \lambda_{k+1} = \lambda^*$$",
        printed=r"\lambda \leftarrow \lambda - \mu\nabla_vg",
        hypotheses=(CONVEX, AFFINE),
        strategy=st.builds(lambda p: {**p, "q": [0] * p["d"]}, bent(multiplier=st.just(True))),
        explicit=(line(1, 0, **ANY), bending(over=1)),
        build=backward,
        measure=at_once,
        corrected=Correction(
            tex=r"$\lambda_{k+1} = (\nabla^2_{vv}g(v_k))^{-1}\nabla_vf$, which is $\lambda^*$ for every start iff "
            r"$\nabla^2_{vv}g$ is constant",
            measure=adjoint_there(),
            proof="See @multiplier: the Hessian at $v_k$ is not the Hessian at $v^*$. For quadratic $g$ see @one-step.",
        ),
        grade="proved",
        budget=Budget(quick=60, full=600),
        notes="Nobody prints this: a reading of the update that drops @one-step's quadratic $g$. "
        "In $y = \\nabla_vg$ an affine $f$ has the Hessian "
        "$-H^{-1}\\sum_k\\lambda_k\\nabla^2\\partial_kg\\,H^{-1}$. With $f = v/2$, $\\nabla_vg = v + "
        "v^2 + v^3$ it is $-1$ at the solution: the updates diverge from near it for $1 < \\mu < 2$, "
        "and approach it by $-\\frac12$ at $\\mu = 3$.",
    ),
    Claim(
        id="reweighting/auglag-rate@nonlinear",
        title="A global linear rate for any strongly convex lower level",
        source=SOURCE,
        statement=r"$$\|\lambda_{k+1} - \lambda^*\| \le \max\left(\frac{s^+}{s^+ + \mu}, \frac{s_-}{\mu - "
        r"s_-}\right)\|\lambda_k - \lambda^*\|, \quad \mu > s_-$$ $$s^+ = \frac{L_f + \nu "
        r"M/m}{m^2},\quad s_- = \frac{\rho + \nu M/m}{m^2}$$",
        hypotheses=(CONVEX, Hypothesis("curvature below μ", r"\mu > s_-", _small)),
        strategy=bent(convex=st.booleans(), multiplier=st.just(True)),
        explicit=(
            line(1, 1, **ANY),
            line(1, -1, (3, 2), **ANY),
            line(1, -1, (3, 1), **ANY),
            CONVEX_BENT,
            AFFINE_BENT,
            bending(over=1024, gamma=[100, 1]),
            at((100, 1), d=2, seed=1, over=1024, **ANY),
        ),
        build=backward,
        measure=contracting(),
        grade="proved",
        controls=(
            Control("m stated twice too large", params=line(1, 1, overstated=2, **ANY)),
            Control("μ below s_", params=line(1, -1, (1, 2), **ANY)),
            Control("s_ dropped", kind="formula", measure=contracting(only_above=True)),
            Control(
                "νM/m dropped from s⁺", kind="formula", measure=contracting(bent=(1, 0)), params=CONVEX_BENT
            ),
            Control(
                "νM/m dropped from s_", kind="formula", measure=contracting(bent=(0, 1)), params=AFFINE_BENT
            ),
            Control("μ + s_ for μ − s_", kind="formula", measure=contracting(less=1)),
            Control("2s⁺ + μ for s⁺ + μ", kind="formula", measure=contracting(more=2)),
            Control("2μ for μ", kind="formula", measure=contracting(double=2)),
        ),
        equality=Equality(params=line(1, -1, (3, 2), **ANY), reaches=1.0),
        budget=Budget(quick=100, full=2000),
        notes="Constants as in penalty-rate@curvature. $\\delta = (\\bar S + \\mu)y$ and $\\delta^+ = \\bar "
        "Sy$ with $\\bar S = \\int_0^1\\nabla^2\\varphi(ty)\\,dt$ symmetric and $-s_-I \\preceq \\bar S "
        "\\preceq s^+I$. A contraction for $\\mu > 2s_-$, from every start if the constants hold "
        "everywhere; near the solution iff $S(v^*) + \\frac\\mu2I \\succ 0$. $s_-$ is positive even for "
        "convex $f$ where $g$ is not quadratic. Equality: one variable, quadratic.",
    ),
)
