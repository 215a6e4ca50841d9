"""What γ does to condition numbers: over (u, v) together it grows in proportion, at a fixed u it saturates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl.arrays import to_numpy
from refimpl.arrays.backend import Array
from verification.claims.reweighting._penalty import Penalised, definite, one, penalised, scalar, sizes
from verification.claims.reweighting._systems import RATIONAL
from verification.claims.reweighting.penalty_joint import SMALLEST, SOURCE, Joint, joint
from verification.instances import EPS
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement


def _floats(*arrays: Array) -> list[np.ndarray]:
    return [np.asarray(to_numpy(a), dtype=float) for a in arrays]


def condition(j: Joint, gamma: float) -> tuple[float, float, float]:
    """κ over (u, v), and its bounds."""
    P, J = _floats(j.P, j.J)
    values = np.linalg.eigvalsh(P + gamma * J.T @ J)
    Z = np.linalg.svd(J)[2][len(J) :].T
    low = gamma * np.linalg.norm(J, 2) ** 2 / np.linalg.eigvalsh(Z.T @ P @ Z)[0]
    first = np.linalg.eigvalsh(P + float(j.at.gamma) * J.T @ J)[0]
    high = (gamma * np.linalg.norm(J, 2) ** 2 + np.linalg.eigvalsh(P)[-1]) / first
    return float(values[-1] / values[0]), float(low), float(high)


def _of_floats(kappa: float, pairs: list[tuple[float, float]], size: int) -> Measurement:
    """The tighter pair; an eigenvalue's error is 10·size·eps of the largest, so κ's is that times κ."""
    observed, bound = max(pairs, key=lambda pair: pair[0] / pair[1])
    rounding = 10 * size * EPS * kappa * max(kappa, bound, observed)
    return Measurement(
        observed=observed, bound=bound, rounding=rounding, detail={"scale": kappa, "kappa": kappa}
    )


def grows(times: float = 10.0, power: float = 1.0, half: float = 1.0) -> Callable[[Joint], Measurement]:
    """κ at ``times`` γ_0 between its bounds; mutants: √γ for γ, half the constant."""

    def measure(j: Joint) -> Measurement:
        gamma = times * float(j.at.gamma)
        kappa, low, high = condition(j, gamma)
        scale = gamma ** (power - 1) * half
        return _of_floats(kappa, [(low / half, kappa), (kappa, high * scale)], len(j.P))

    return measure


def growth(j: Joint) -> Mapping[str, Any]:
    """κ(γ), and its lower bound."""
    gammas = np.geomspace(1, 1e4, 9)
    found = [condition(j, float(g)) for g in gammas]
    labels = {"xlabel": "γ", "ylabel": "condition number over (u, v)", "logx": True, "logy": True}
    return {
        "x": gammas.tolist(),
        "predicted": [x[1] for x in found],
        "measured": [x[0] for x in found],
        **labels,
    }


def saturates(power: int = 2, growing: bool = False) -> Callable[[Penalised], Measurement]:
    """κ(Q + γH²) against (γL² + Q_max)/(γm² + Q_min); mutants: κ(H) for κ(H)², or the claim that it grows as γ."""

    def measure(p: Penalised) -> Measurement:
        Q, H = _floats(p.Q, p.H)
        gamma, ends = float(p.gamma), np.linalg.eigvalsh(Q)
        values = np.linalg.eigvalsh(Q + gamma * H @ H)
        kappa = float(values[-1] / values[0])
        m, L = (float(x(p.h.spectrum)) ** power for x in (min, max))
        bound = float((gamma * L + ends[-1]) / (gamma * m + ends[0]))
        return _of_floats(kappa, [(gamma, kappa) if growing else (kappa, bound)], len(Q))

    return measure


def _convex(p: Penalised) -> tuple[bool, Any]:
    return min(p.s.spectrum) >= 0, f"σ_min = {min(p.s.spectrum)}"


def _joint_convex(j: Joint) -> tuple[bool, Any]:
    tiny = fmpq(1, 2**60) * RATIONAL.eye(len(j.P))
    return definite(j.P + tiny) and definite(
        j.uu
    ), f"least eigenvalue {np.linalg.eigvalsh(_floats(j.P)[0])[0]:.4g}"


CLAIMS = (
    Claim(
        id="reweighting/penalty-joint@condition",
        title="The joint problem's condition number grows in proportion to γ",
        source=SOURCE,
        statement=r"$$\frac{\gamma\|J\|^2}{\lambda_{\min}(Z^\top PZ)} \le \kappa\left(P + \gamma J^\top "
        r"J\right) \le \frac{\gamma\|J\|^2 + \lambda_{\max}(P)}{\lambda_{\min}(P + \gamma_0J^\top "
        r"J)}, \quad \gamma \ge \gamma_0$$ $$P = \nabla^2f \succeq 0,\ J = [\nabla^2_{vu}g,\ "
        r"\nabla^2_{vv}g],\ \text{columns of } Z \text{ orthonormal in } \ker J$$",
        hypotheses=(Hypothesis("convex", r"P \succeq 0,\ \varphi_{uu} \succ 0", _joint_convex),),
        strategy=sizes(gamma=st.sampled_from([[1, 1], [3, 1], [10, 1]])),
        explicit=(
            SMALLEST,
            one(n=1, d=2, seed=1, coupled=False),
            one((3, 1), n=2, d=2, seed=1, coupled=False),
        ),
        build=joint,
        measure=grows(),
        grade="exact",
        controls=(
            Control("f concave in v", params=scalar(1, -4, C=[[0]])),
            Control("√γ for γ", kind="formula", measure=grows(power=0.5)),
            Control("half the constant", kind="formula", measure=grows(half=0.5)),
        ),
        equality=Equality(params=SMALLEST, reaches=0.999),
        curve=growth,
        budget=Budget(quick=20, full=500),
        notes="$\\kappa/\\gamma \\to \\|J\\|^2/\\lambda_{\\min}(Z^\\top PZ)$: the rank of $J$ is that of $v$, "
        "so $u$ is what stays soft. Measured at $10\\gamma_0$. Equality above: $f = \\frac12(u^2 + "
        "(v-1)^2)$, $g = \\frac12(v-u)^2$, $\\kappa = 1 + 2\\gamma$, which with the error "
        "$\\frac{1}{2(1+2\\gamma)}$ makes their product ½ at every $\\gamma$.",
    ),
    Claim(
        id="reweighting/penalty-joint@fixed-u",
        title="At a fixed u the condition number does not grow with γ but saturates",
        source=SOURCE,
        statement=r"$$\kappa(Q + \gamma H^2) \le \frac{\gamma L^2 + Q_{\max}}{\gamma m^2 + Q_{\min}}$$",
        hypotheses=(Hypothesis("convex upper level", r"Q \succeq 0", _convex),),
        strategy=sizes(),
        explicit=(
            scalar(1, 1),
            one((10, 1), d=2, seed=0, h=[1, 4], s=[1, 1]),
            one((10_000, 1), d=3, seed=2),
        ),
        build=penalised,
        measure=saturates(),
        grade="exact",
        controls=(
            Control("f concave", params=one((1, 1), d=2, seed=0, raw=True, h=[1, 2], s=[-2, -2])),
            Control("κ(H) for its square", kind="formula", measure=saturates(power=1)),
            Control("κ at least γ", kind="formula", measure=saturates(growing=True)),
        ),
        equality=Equality(params=one((10, 1), d=2, seed=0, h=[1, 4], s=[1, 1]), reaches=0.999),
        budget=Budget(quick=60, full=1000),
        notes="The limit is $\\kappa(H)^2$. So “the condition number grows as γ” is true of the joint problem "
        "only; what a large $\\gamma$ costs at a fixed $u$ is digits of the multiplier, read off as "
        "$\\gamma\\nabla_vg$.",
    ),
)
