"""The augmented Lagrangian (21) at a fixed u on quadratics: the exact map of its multiplier, and when it contracts."""

from __future__ import annotations

import itertools as it
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

import refimpl as ri
from refimpl.approximate import InnerDescent
from refimpl.arrays.backend import Array
from verification.claims.reweighting._penalty import (
    Penalised,
    definite,
    fraction,
    largest,
    one,
    penalised,
    rational,
    root_above,
    scalar,
    sizes,
    solve,
    square,
)
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement, identity

SOURCE = "reweighting, (21)"


def updated(p: Penalised, v0: Array, steps: int = 1, **options: Any) -> Any:
    """The package's own, over the rationals: exact where ``inner`` is left out."""
    return ri.approximate.augmented_lagrangian(
        p.problem, p.lam, mu=fraction(p.gamma), steps=steps, v0=v0, **options
    )


def begun(p: Penalised) -> Array:
    """v_0: small integers, 0 where ``start`` is 0."""
    rng = np.random.default_rng([p.params["seed"], 1])
    return p.params.get("start", 1) * rational(rng.integers(-3, 4, len(p.S)))


def eye(p: Penalised) -> Array:
    """I."""
    return rational(np.eye(len(p.S), dtype=int))


def factor(p: Penalised) -> Array:
    """M = S(S + μI)⁻¹; (I + μHQ⁻¹H)⁻¹ where Q is invertible."""
    if 0 in p.s.spectrum:
        return solve(p.shifted(), p.S)
    return solve(eye(p) + p.gamma * p.H @ solve(p.Q, p.H), eye(p))


# -- the exact map -----------------------------------------------------------------------------------------


def mapped(
    matrix: Callable[[Penalised], Array] = factor, plus: int = 0
) -> Callable[[Penalised], Measurement]:
    """v_K − λ*, v_K − v*, the hypergradient's error against M's powers; ``plus``: one power more or less."""

    def measure(p: Penalised) -> Measurement:
        steps = p.params["K"]
        found = updated(p, begun(p), steps)
        before = delta = begun(p) - p.adjoint
        for _ in range(steps + plus):
            before, delta = delta, matrix(p) @ delta
        away = solve(p.H, solve(p.shifted(), before))
        seen = [found.v - p.adjoint, found.w - p.w_star, found.value - p.hypergradient]
        return identity(np.concatenate(seen), np.concatenate([delta, away, p.B @ away - p.C @ delta]))

    return measure


# -- its size ----------------------------------------------------------------------------------------------


def ratios(p: Penalised) -> tuple[fmpq, fmpq]:
    """The least and the largest |σ/(σ + μ)|."""
    shares = [abs(fmpq(s) / (s + p.gamma)) for s in p.s.spectrum]
    return min(shares), max(shares)


def doubled(p: Penalised) -> tuple[fmpq, fmpq]:
    """The same for 2μ."""
    shares = [abs(fmpq(s) / (s + 2 * p.gamma)) for s in p.s.spectrum]
    return min(shares), max(shares)


def bounded(
    between: Callable[[Penalised], tuple[fmpq, fmpq]] = ratios, power: int = 2
) -> Callable[[Penalised], Measurement]:
    """q_min‖δ_k‖ <= ‖δ_{k+1}‖ <= q‖δ_k‖ for three updates, and their ratios do not fall."""

    def measure(p: Penalised) -> Measurement:
        v, sizes = begun(p), [square(begun(p) - p.adjoint)]
        for _ in range(3):
            v = updated(p, v).v
            sizes.append(square(v - p.adjoint))
        low, high = (q**power for q in between(p))
        pairs = [(b, high * a) for a, b in it.pairwise(sizes)]
        pairs += [(low * a, b) for a, b in it.pairwise(sizes)]
        pairs += [(b * b, a * c) for a, b, c in zip(sizes, sizes[1:], sizes[2:], strict=False)]
        return largest(*pairs)

    return measure


def curve(p: Penalised) -> Mapping[str, Any]:
    """‖v_k − λ*‖ against q^k."""
    found = [begun(p)]
    for _ in range(12):
        found.append(updated(p, found[-1]).v)
    size = [float(square(v - p.adjoint)) ** 0.5 for v in found]
    predicted = [size[0] * float(ratios(p)[1]) ** k for k in range(13)]
    labels = {"xlabel": "multiplier updates k", "ylabel": "‖λ_k − λ*‖", "logy": True}
    return {"x": list(range(13)), "predicted": predicted, "measured": size, **labels}


# -- when it contracts -------------------------------------------------------------------------------------


def contracts(p: Penalised) -> bool:
    """I − MᵀM positive definite, the columns of M from updates that begin at λ* + e_i."""
    columns = [updated(p, p.adjoint + e).v - p.adjoint for e in eye(p)]
    M = np.stack(columns, axis=-1)
    return definite(eye(p) - M.T @ M)


def rule(share: fmpq) -> Callable[[Penalised], Measurement]:
    """Does it contract iff Q + share μH² is positive definite?"""

    def measure(p: Penalised) -> Measurement:
        predicted = definite(p.Q + share * p.gamma * p.H @ p.H)
        return Measurement(observed=abs(int(contracts(p)) - int(predicted)), bound=0)

    return measure


def always(p: Penalised) -> Measurement:
    """1 where it does not contract."""
    return Measurement(observed=1 - int(contracts(p)), bound=0)


# -- one update --------------------------------------------------------------------------------------------


def at_once(half: bool = True) -> Callable[[Penalised], Measurement]:
    """λ_1 = λ*; ``half`` false: ½ missing in (21)."""

    def measure(p: Penalised) -> Measurement:
        v = updated(p, begun(p)).v if half else _without_half(p)
        return identity(v, p.adjoint)

    return measure


def _without_half(p: Penalised) -> Array:
    """The minimiser for μ‖∇_vg‖², then the update by μ."""
    mu, v0 = p.gamma, begun(p)
    w = ri.approximate.augmented_lagrangian(p.problem, p.lam, mu=fraction(2 * mu), steps=1, v0=v0).w
    return v0 - mu * p.problem.lower.grad_w(p.lam, w)


def _flat(p: Penalised) -> tuple[bool, Any]:
    """S(v_0 − λ*) = 0."""
    gap = max(abs(x) for x in p.S @ (begun(p) - p.adjoint))
    return gap == 0, str(gap)


# -- inexact inner solves ----------------------------------------------------------------------------------


def inexact(
    share: Callable[[Penalised], fmpq] = lambda p: fmpq(1),
) -> Callable[[Penalised], Measurement]:
    """‖δ⁺‖ against q‖δ‖ + ε/m, ε = ‖∇_vL_A‖; and δ⁺ = Mδ − (I − M)ζ, ζ = H⁻¹∇_vL_A, exactly."""

    def measure(p: Penalised) -> Measurement:
        v0, top = begun(p), 1 + sum(abs(x) for x in (p.Q + p.gamma * p.H @ p.H).ravel())
        found = updated(p, v0, inner=InnerDescent(p.params["inner"], fraction(1 / top)), check=False)
        left = p.problem.upper.grad_w(p.lam, found.w) - p.H @ found.v
        M, zeta, delta = factor(p), solve(p.H, left), v0 - p.adjoint
        gap = max(abs(x) for x in (found.v - p.adjoint) - (M @ delta - zeta + M @ zeta))
        allowed = ratios(p)[1] * root_above(square(delta))
        allowed += share(p) * root_above(square(left)) / min(p.h.spectrum)
        return largest((square(found.v - p.adjoint), allowed**2), (gap, 0))

    return measure


def _convex(p: Penalised) -> tuple[bool, Any]:
    return min(p.s.spectrum) >= 0, f"σ_min = {min(p.s.spectrum)}"


EXPLICIT = (
    scalar(1, 1, K=1),
    scalar(1, 0, K=2),
    scalar(2, 3, B=[[1]], lam=[1], b=[1], K=3),
    scalar(1, -2, (4, 1), K=2),
    one((3, 1), n=2, d=2, seed=1, K=2),
)
DIVERGES = scalar(1, -1, (1, 2))
CLAIMS = (
    Claim(
        id="reweighting/auglag-rate",
        title="What a multiplier update does to the adjoint's error on quadratics",
        source=SOURCE,
        statement=r"$$\lambda_{k+1} - \lambda^* = (I + \mu HQ^{-1}H)^{-1}(\lambda_k - \lambda^*)$$ $$v_k - v^* = "
        r"H^{-1}(S + \mu I)^{-1}(\lambda_k - \lambda^*), \quad S = H^{-1}QH^{-1},\ \mu > -\sigma_{\min}$$ "
        r"$$\lambda^* = H^{-1}\nabla_vf(v^*)$$",
        strategy=sizes(convex=st.booleans(), K=st.integers(1, 3)),
        explicit=EXPLICIT,
        build=penalised,
        measure=mapped(),
        grade="proved",
        controls=(
            Control(
                "H for H²",
                kind="formula",
                measure=mapped(lambda p: solve(p.S + p.gamma * solve(p.H, eye(p)), p.S)),
            ),
            Control(
                "μ/2 for μ", kind="formula", measure=mapped(lambda p: solve(p.shifted(p.gamma / 2), p.S))
            ),
            Control("the other sign", kind="formula", measure=mapped(lambda p: -factor(p))),
            Control("an update more", kind="formula", measure=mapped(plus=1)),
        ),
        budget=Budget(quick=40, full=800),
        notes="$(I + \\mu HQ^{-1}H)^{-1} = S(S + \\mu I)^{-1}$, which stands also where $Q$ is singular. In "
        "$y = \\nabla_vg$ the inner problem is $\\varphi(y) - \\lambda_k^\\top y + "
        "\\frac\\mu2\\|y\\|^2$ with $\\nabla\\varphi = \\lambda^* + Sy$. This μ is no strong convexity "
        "constant. The returned hypergradient's error is $\\nabla^2_{uv}f(v_k - v^*) - "
        "\\nabla^2_{uv}g(\\lambda_{k+1} - \\lambda^*)$: there is no floor.",
    ),
    Claim(
        id="reweighting/auglag-rate@bound",
        title="The multiplier's error falls linearly at a fixed μ, at ratios that do not fall",
        source=SOURCE,
        statement=r"$$q_{\min} \le \frac{\|\lambda_{k+1} - \lambda^*\|}{\|\lambda_k - \lambda^*\|} \le q$$ "
        r"$$\quad q, q_{\min} = \max, \min \left|\frac{\sigma}{\sigma+\mu}\right|$$ and the ratios "
        r"are nondecreasing in $k$; $\sigma$: the eigenvalues of $H^{-1}QH^{-1}$, $\mu > "
        r"-\sigma_{\min}$.",
        strategy=sizes(convex=st.booleans()),
        explicit=tuple({k: v for k, v in params.items() if k != "K"} for params in EXPLICIT),
        build=penalised,
        measure=bounded(),
        grade="proved",
        controls=(
            Control("q² for q", kind="formula", measure=bounded(power=4)),
            Control(
                "σ_max alone",
                kind="formula",
                measure=bounded(
                    lambda p: (ratios(p)[0], abs(max(p.s.spectrum) / (max(p.s.spectrum) + p.gamma)))
                ),
            ),
            Control("2μ for μ", kind="formula", measure=bounded(doubled)),
        ),
        equality=Equality(params=scalar(1, 1), reaches=1.0),
        curve=curve,
        budget=Budget(quick=30, full=600),
        notes="For convex $f$, $q = \\frac{\\sigma_{\\max}}{\\sigma_{\\max}+\\mu} \\le \\frac{1}{1 + \\mu "
        "m^2/L_f} < 1$ for every $\\mu > 0$. The ratios do not fall because $M$ is symmetric "
        "(Cauchy–Schwarz), so they test the rate without a fit. Otherwise see @half-mu.",
    ),
    Claim(
        id="reweighting/auglag-rate@every-mu",
        title="Reading “linear at a fixed μ” for every μ that makes the inner problem strictly convex",
        source=SOURCE,
        statement=r"$$Q + \mu H^2 \succ 0 \;\Rightarrow\; \|\lambda_{k+1} - \lambda^*\| \le q\,\|\lambda_k - "
        r"\lambda^*\|,\ q < 1$$",
        printed=r"\lambda \leftarrow \lambda - \mu\nabla_vg \text{ at a fixed } \mu",
        strategy=sizes(convex=st.booleans()),
        explicit=(scalar(1, 1), scalar(1, 0), scalar(1, -1, (3, 2)), DIVERGES),
        build=penalised,
        measure=always,
        corrected=Correction(
            tex=r"it contracts iff $Q + \frac\mu2H^2 \succ 0$",
            measure=rule(fmpq(1, 2)),
            proof="$|\\sigma/(\\sigma + \\mu)| < 1 \\Leftrightarrow 0 < \\mu(2\\sigma + \\mu)$.",
        ),
        grade="proved",
        budget=Budget(quick=20, full=300),
        notes="True for convex $f$. Counterexample: $H = 1$, $Q = -1$, $\\mu = \\frac32$: the inner problem "
        "is strictly convex, $f$ restricted to $\\nabla_vg = 0$ is one point, and the error is "
        "multiplied by $-2$ in every update.",
    ),
    Claim(
        id="reweighting/auglag-rate@half-mu",
        title="The updates contract exactly where half of μ makes the inner problem convex",
        source=SOURCE,
        statement=r"$$\mu > -\sigma_{\min}: \quad \lambda_k \to \lambda^* \text{ from every } \lambda_0 "
        r"\;\Leftrightarrow\; Q + \tfrac\mu2H^2 \succ 0$$",
        strategy=sizes(convex=st.booleans()),
        explicit=(
            scalar(1, 1),
            scalar(1, -1, (1, 4)),
            DIVERGES,
            scalar(1, -1, (1, 1)),
            scalar(1, -1, (2, 1)),
            one((1, 1), d=2, seed=3, convex=False),
        ),
        build=penalised,
        measure=rule(fmpq(1, 2)),
        grade="proved",
        controls=(
            Control("μ for μ/2", kind="formula", measure=rule(fmpq(1))),
            Control("μ/4 for μ/2", kind="formula", measure=rule(fmpq(1, 4))),
        ),
        budget=Budget(quick=20, full=400),
        notes="With $H = 1$, $Q = -1$ the factor is $-4, -2, -1, -\\frac12$ at $\\mu = \\frac54, \\frac32, 2, "
        "3$. The columns of the map are found by updates that begin at $\\lambda^* + e_i$; it contracts "
        "iff $I - M^\\top M \\succ 0$, decided by exact pivots.",
    ),
    Claim(
        id="reweighting/auglag-rate@one-step",
        title="One update is exact where f has no curvature along the multiplier's error",
        source=SOURCE,
        statement=r"$$H^{-1}\nabla^2_{vv}f\,H^{-1}(\lambda_0 - \lambda^*) = 0,\ g \text{ quadratic} "
        r"\;\Rightarrow\; \lambda_1 = \lambda^*$$",
        hypotheses=(Hypothesis("no curvature", r"S(\lambda_0 - \lambda^*) = 0", _flat),),
        strategy=st.builds(lambda p: {**p, "s": [0] * p["d"]}, sizes()),
        explicit=(scalar(1, 0), one((1, 4), d=2, seed=1, s=[0, 0])),
        build=penalised,
        measure=at_once(),
        grade="proved",
        controls=(
            Control("f curved", params=scalar(1, 1)),
            Control("½ missing in (21)", kind="formula", measure=at_once(half=False)),
        ),
        budget=Budget(quick=60, full=1000),
        notes="For every start iff $f$ is affine in $v$. As $M$ is symmetric there is no finite end later "
        "than at the first update. With ½ missing the same update halves the error only: the mistake "
        "still converges, and shows here.",
    ),
    Claim(
        id="reweighting/auglag-rate@inexact",
        title="The multiplier's error when the inner problem is solved inexactly",
        source=SOURCE,
        statement=r"$$\|\nabla_v\mathcal L\| \le \varepsilon,\ f \text{ convex} \;\Rightarrow\; "
        r"\|\lambda_{k+1} - \lambda^*\| \le q\,\|\lambda_k - \lambda^*\| + \frac{\varepsilon}{m}$$ "
        r"$$q = \frac{\sigma_{\max}}{\sigma_{\max}+\mu}$$",
        hypotheses=(Hypothesis("convex upper level", r"\nabla^2_{vv}f \succeq 0", _convex),),
        strategy=sizes(inner=st.integers(0, 3)),
        explicit=(
            scalar(1, 1, inner=0),
            scalar(1, 0, inner=0, start=0),
            one((3, 1), d=2, seed=1, inner=2),
        ),
        build=penalised,
        measure=inexact(),
        grade="proved",
        controls=(
            Control("f concave", params=scalar(1, -1, (1, 4), b=[-2], seed=2, inner=0)),
            Control("ε dropped", kind="formula", measure=inexact(lambda p: fmpq(0))),
            Control("m² for m", kind="formula", measure=inexact(lambda p: 1 / fmpq(min(p.h.spectrum)))),
        ),
        equality=Equality(params=scalar(1, 0, inner=0, start=0), reaches=0.999),
        budget=Budget(quick=60, full=800),
        notes="Exactly $\\delta^+ = M\\delta - (I - M)\\zeta$ with $\\zeta = H^{-1}\\nabla_v\\mathcal L$, "
        "checked beside the bound. So a fixed $\\varepsilon$ leaves an error of at most "
        "$\\varepsilon/(m(1-q))$, and $\\varepsilon_k$ that falls linearly keeps the rate. Here the "
        "inner method is gradient descent stopped after up to three steps.",
    ),
)
