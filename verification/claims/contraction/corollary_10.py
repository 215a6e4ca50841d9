r"""Corollary 10: with t = k = J and decreasing steps the mean square error of SID is O(1/t), with its constant.

W_# comes from theorem-7@minkowski: ρ(t) <= d/(γ+t) with the step's own factor (1 − ηm)² + η²σ₂m², m = 1 − q, where
theorem 8 has 1 − η(1 − q²); V_t <= d_V/(γ+t); π_t² <= γ/(γ+t), since π_t <= (γ/(γ+t))^{βm} and 2βm > β(1 − q²) > 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import sqrt
from typing import Any

from refimpl.approximate.guarantees import corollary_10, gradient_square
from refimpl.constants import Constants, Noise
from refimpl.rates import Harmonic
from verification.claims.contraction._matched import (
    STRATEGY,
    Curved,
    Matched,
    Params,
    altered,
    case,
    kept,
    steps,
)
from verification.claims.contraction._trials import EPS, ONE, letter, line
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement

Bound = Callable[[Constants, Noise, Harmonic], float]


def printed(c: Constants, n: Noise, rate: Harmonic) -> float:
    """2c_b + c_I."""
    return float(corollary_10(c, n, rate=rate).W)


def joint(c: Constants, n: Noise, rate: Harmonic) -> float:
    """c_b + c_I."""
    return float(corollary_10(c, n, rate=rate).W_sharp)


def sharp(c: Constants, n: Noise, rate: Harmonic, left: float = 1, scattered: float = 1) -> float:
    """W_#; see the statement. Factors of L_ΦL_Eκ_q√γ and of d_V."""
    beta, gamma, m, k = float(rate.beta), float(rate.gamma), 1 - c.q, c.kappa_q
    d = gamma * c.B**2
    if n.sigma1:
        d = max(d, beta**2 * n.sigma1 / (2 * beta * m - 1 - beta**2 * m**2 * (1 + n.sigma2) / gamma))
    G2 = gradient_square(c, n, 1)
    d_V = scattered * beta**2 * n.d_sigma1 * k**2 * G2 / (beta * (1 - c.q**2) - 1)
    L = c.L_Phi + c.nu2 * sqrt(d / (gamma + 1))
    far = c.c1 * sqrt(d) + left * c.L_Phi * c.L_E * k * sqrt(gamma)
    own = sqrt(n.sigma2_E) + L * k * sqrt(n.sigma1_E)
    return float(far**2 + own**2 + L**2 * d_V + n.d_sigma2 * (d_V / (gamma + 1) + k**2 * G2))


def at_most(bound: Bound, **zeros: float) -> Callable[[Matched], Measurement]:
    """t E‖∇̂f − ∇f‖² <= W; zeros: constants replaced in it."""

    def measure(one: Matched) -> Measurement:
        found = one.error()
        c, n = (altered(x, **zeros) for x in one.stated)
        allowed = bound(c, n, one.rate)
        # a dozen factors of eps each, κ_q to the fourth power, and β(1 − q²) − 1 below
        beta, q = float(one.rate.beta), c.q
        amplified = 120 * c.kappa_q + 10 * beta / (beta * (1 - q * q) - 1)
        return Measurement(observed=found, bound=allowed, rounding=EPS * (amplified * allowed + 4 * found))

    return measure


def at(t: int, steps: tuple[int, int, int] = (2, 2, 1), **given: Any) -> dict[str, Any]:
    """A line with η_i = β/(γ + i), ``steps`` = β, γ over the third."""
    return {**line(**given), "t": t, "steps": list(steps)}


DIRECT = at(7, x=ONE)  # ∇₂Ê = ξ alone: t · MSE = 1 for every t
ALL = at(5, n=ONE, b=ONE, r=ONE, e=ONE, a=ONE, x=ONE, m2=ONE)  # t · MSE = 7 at 1, 19/3 in the limit
CROSS = at(4, r=ONE, e=ONE)
RIGHT = at(4, b=ONE, a=ONE)
START = at(1, (2, 4, 1), m2=ONE, w0=[ONE])
NOISE = at(9, n=ONE, m2=ONE)
SCATTER = at(6, (2, 6, 1), s=ONE, b=ONE, e=ONE)  # Φ̂ = ζw + λ: what (7) draws
TURNED = at(1, (2, 4, 1), nu2=ONE, a=ONE, w0=[ONE])  # ∂₂Φ = w, v = ξ: nothing without ν₂
CURVED = at(
    2, (4, 12, 1), q=8, nu1=12, nu2=24, n=12, s=8, b=24, r=12, e=24, a=24, m1=12, x=12, m2=24, w0=[24]
)
SCATTERED = at(12, (8, 24, 1), s=ONE, r=ONE, e=ONE)  # E v_k² > v̄² = 1: more is scattered than is missing
LATE = at(1, (2, 4, 1), b=ONE, e=ONE)  # no noise: v_1 = ½ for 1
FORWARD = at(1, (4, 1, 1), s=ONE, m2=ONE, w0=[ONE])  # γ far too small: the first step leaves 25 for 1

CURVE_TIMES = (1, 2, 3, 4, 6, 9)


def curve(bound: Bound) -> Callable[[Matched], Mapping[str, Any]]:
    """t E‖∇̂f − ∇f‖² over t."""

    def draw(one: Matched) -> Mapping[str, Any]:
        times = CURVE_TIMES[:2] if isinstance(one, Curved) else CURVE_TIMES
        seen = [case({**one.p, "t": t}) for t in times]
        return {
            "x": list(times),
            "predicted": [bound(*each.stated, each.rate) * (1 + 1e3 * EPS) for each in seen],
            "measured": [each.error() for each in seen],
            "xlabel": "t = k = J",
            "ylabel": "t · mean square error",
            "logx": True,
        }

    return draw


HYPOTHESES = (
    Hypothesis("A to C", r"\text{every constant is at least what the instance has}", kept),
    Hypothesis(
        "steps",
        r"\eta_i=\tfrac\beta{\gamma+i},\ \beta(1-q^2)>1,\ \gamma\ge\beta\max\{1+\sigma_2,1+2\sigma'_1\kappa_q^2\}",
        steps,
    ),
)
COMMON: dict[str, Any] = {
    "hypotheses": HYPOTHESES,
    "strategy": STRATEGY,
    "explicit": (DIRECT, ALL, CROSS, RIGHT, START, NOISE, SCATTER, TURNED, CURVED, SCATTERED),
    "build": case,
    "grade": "exact",
    "budget": Budget(quick=6, full=300),
}


def understated(name: str, params: Params, factor: float) -> Control:
    """A constant stated too small."""
    return Control(
        f"{letter(name)} stated {1 / factor:g} times too small",
        params={**params, "understated": [name, factor]},
    )


def controls(bound: Bound, weak: float, of_start: float) -> tuple[Control, ...]:
    """weak: a factor that no form's slack makes up for; of_start: the form's factor of c₁²γB², evaluated anywhere."""
    return (
        understated("sigma2_E", DIRECT, weak),
        understated("d_sigma2", CROSS, weak),
        understated("sigma1_E", RIGHT, weak),
        understated("B", START, weak),
        understated("sigma1", NOISE, weak),
        understated("nu2", TURNED, weak),
        Control(
            "γ too small",
            measure=at_most(lambda c, n, rate: of_start * c.c1**2 * float(rate.gamma) * c.B**2),
            params=FORWARD,
        ),
        *(
            Control(
                f"without {letter(name)}",
                kind="formula",
                measure=at_most(bound, **{name: 0.0}),
                params=params,
            )
            for name, params in (
                ("sigma2_E", DIRECT),
                ("d_sigma2", CROSS),
                ("sigma1_E", RIGHT),
                ("B", START),
                ("sigma1", NOISE),
                ("nu2", TURNED),
            )
        ),
    )


W_JOINT = (
    r"c_b=3\Bigl(c_1^2d_w+L_\Phi^2d_v+\frac{\nu_2^2d_wd_v}{\gamma+1}\Bigr),\quad "
    r"c_I=2\sigma_{2,E}+\bigl(4\sigma'_2(L_E^2+\sigma_{1,E})+8L_\Phi^2\sigma_{1,E}\bigr)\kappa_q^2+(4\sigma'_2+8L_"
    r"\Phi^2)d_v+\frac{8\nu_2^2d_w(d_v+\sigma_{1,E}\kappa_q^2)}{\gamma+1}"
)
INSTANCES = (
    r"$n=d=1$, over the rationals: exact moments where $\hat\Phi$ is affine, every path where it is curved, $t\le2$. "
    r"No instance was found that needs the part of $\nu_1$ in $c_1$: what (7) leaves is larger."
)

CLAIMS = (
    Claim(
        id="contraction/corollary-10",
        title="Mean square error of SID is O(1/t) when t = k = J and the steps decrease",
        source="contraction, Corollary 10; its statement is lost, re-derived from theorems 4, 5, 6 and 8",
        statement=r"$$t=k=J\ge1,\ \eta_i=\tfrac\beta{\gamma+i}:\quad E\|\hat\nabla f-\nabla f\|^2\le\frac{2c_b+c_I}t$$ "
        "$$" + W_JOINT + "$$",
        measure=at_most(printed),
        controls=controls(printed, 0.02, 6),
        curve=curve(printed),
        notes=r"bias² is at most $c_b/t$ and the variance at most $(c_b+c_I)/t$, $d_w$ and $d_v$ as in theorem 8 "
        r"(14), (15) "
        rf"with $\sigma_{{1,E}}$ for $\sigma_{{1,E}}/J$. {INSTANCES} The second entry of the maximum in $d_v$ is not "
        r"needed: theorem-8-ls@sharp-printed-steps. At most half of $W$ is used: where $\nabla_2\hat E$ alone is "
        r"drawn, $E\|\cdot\|^2=\sigma_{2,E}/t$ and $c_I=2\sigma_{2,E}$.",
        **COMMON,
    ),
    Claim(
        id="contraction/corollary-10@sharp",
        title="Mean square error at t = k = J with the bias counted once",
        source="contraction, Corollary 10, sharper",
        statement=r"$$t=k=J\ge1,\ \eta_i=\tfrac\beta{\gamma+i}:\quad E\|\hat\nabla f-\nabla "
        r"f\|^2\le\frac{c_b+c_I}t$$ with $c_b,c_I$ as in the printed form",
        measure=at_most(joint),
        controls=controls(joint, 0.02, 3),
        notes=rf"eq-9-10@sharp: bias² and variance II are one expectation, at most $c_b/t$. {INSTANCES}",
        **COMMON,
    ),
    Claim(
        id="contraction/corollary-10@minkowski",
        title="Mean square error at t = k = J with a constant that is attained",
        source="contraction, Corollary 10, sharpest form for (7), found here",
        statement=r"$$v_0=0:\quad E\|\hat\nabla f-\nabla f\|^2\le\frac{W_\#}t,\quad W_\#=\bigl(c_1\sqrt d+L_\Phi "
        r"L_E\kappa_q\sqrt\gamma\bigr)^2+\bigl(\sqrt{\sigma_{2,E}}+L\kappa_q\sqrt{\sigma_{1,E}}\bigr)^2+L^2d_V+"
        r"\sigma'_2\Bigl(\frac{d_V}{\gamma+1}+\kappa_q^2G^2\Bigr)$$ $$d=\max\Bigl(\gamma "
        r"B^2,\frac{\beta^2\sigma_1}{2\beta m-1-\beta^2m^2(1+\sigma_2)/\gamma}\Bigr),\ "
        r"d_V=\frac{\beta^2\sigma'_1\kappa_q^2G^2}{\beta(1-q^2)-1},\ L=L_\Phi+\nu_2\sqrt{\tfrac d{\gamma+1}},\ "
        r"m=1-q,\ G^2=L_E^2+\sigma_{1,E}$$",
        measure=at_most(sharp),
        controls=(
            *controls(sharp, 0.2, 1),
            understated("L_E", CROSS, 0.5),
            understated("L_Phi", RIGHT, 0.5),
            *(
                Control(name, kind="formula", measure=at_most(bound), params=params)
                for name, bound, params in (
                    ("without L_ΦL_Eκ_q√γ", partial(sharp, left=0), LATE),
                    ("without d_V", partial(sharp, scattered=0), SCATTERED),
                )
            ),
        ),
        equality=Equality(params=DIRECT, reaches=0.999),
        curve=curve(sharp),
        notes=rf"theorem-7@minkowski with the rates of theorem 8's own step. {INSTANCES} Attained for every $t$ where "
        r"$\nabla_2\hat E$ alone is drawn, and where $\partial_2\hat\Phi$ alone is. With "
        r"$\hat\Phi=\lambda(1+\zeta')+\zeta$, $\hat E=w(1+\xi)+\lambda(\xi+w)$, $\beta=\gamma=2$ the error times $t$ "
        r"falls from 7 to $\frac{19}3$; $W_\#\approx17.7$, the printed constant 114.",
        **COMMON,
    ),
)
