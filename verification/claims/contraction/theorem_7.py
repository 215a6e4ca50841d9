"""Theorem 7: the mean square error (8) of SID, bias² + variance I + variance II."""

from __future__ import annotations

import dataclasses
from typing import Any

from refimpl.approximate import guarantees
from verification.claims.contraction._sid import Trial
from verification.claims.contraction._sizes import Bound, Sizes
from verification.claims.contraction._trials import (
    A_AND_B,
    FROM_ZERO,
    FULL,
    INDEPENDENT,
    LOWER,
    LOWER_ONLY,
    ONE,
    SMALL,
    C,
    D,
    dropped,
    halved,
    line,
    measure,
    mutated,
    shared,
    understated,
)
from verification.claims.contraction.theorem_5 import DIRECT, INSTANCES, NEEDS, kinds, needed, without_terms
from verification.claims.contraction.theorem_6 import CURVED, ITERATED, PRODUCT
from verification.model import Claim, Control, Equality


def error(trial: Trial) -> Any:
    """E‖∇̂f − ∇f‖²."""
    return trial.error


def printed(s: Sizes) -> float:
    """Theorem 5 + 6(c₁²ρ + L_Φ²σ + ν₂²ρσ)."""
    return float(guarantees.theorem_7(s.of, s.noise, s.rho, s.sigma, s.J))


def sharp(s: Sizes) -> float:
    """Theorem 5, sharp, + 3(c₁²ρ + L_Φ²σ + ν₂²ρσ)."""
    return float(guarantees.theorem_7_sharp(s.of, s.noise, s.rho, s.sigma, s.J))


def linear(s: Sizes) -> float:
    """(c₁√ρ + L_ΦL_Eκ_qπ_k)² and theorem 5's form for (7)."""
    return float(guarantees.theorem_7_linear(s.of, s.operator, s.rho, s.stage, s.J))


def apart(s: Sizes) -> float:
    """bias² and variance I without variance II."""
    return (
        float(guarantees.theorem_5_linear(s.of, s.operator, s.rho, s.stage, s.J))
        + linear_bias(s)
        - s.of.c1**2 * s.rho
    )


def linear_bias(s: Sizes) -> float:
    """(c₁√ρ + L_ΦL_Eκ_qπ_k)²."""
    return float(guarantees.theorem_4_linear(s.of, s.rho, s.stage)) ** 2


FAR = line(q=ONE // 2, b=ONE, e=ONE, m2=ONE, k=3, w0=[-ONE])  # no noise: bias alone
PARTS = {  # w_1 = ±n, and one part of c₁ at a time
    "mu2": line(n=ONE, m2=ONE, t=1),
    "mu1": line(n=ONE, b=ONE, m1=ONE, t=1),
    "nu2": line(n=ONE, nu2=ONE, e=ONE, t=1),
    "L_E": line(n=ONE, nu2=ONE, e=ONE, t=1),
    "nu1": line(n=4, nu1=16, b=ONE, e=ONE, t=1, k=3),
}
COMMON = kinds(*INSTANCES, LOWER_ONLY, FAR, CURVED, FULL)
LINEAR = kinds(*INSTANCES, LOWER_ONLY, FAR, FULL, solvers=False)
STILL = FAR | {"m2": 0}


def controls(bound: Bound) -> tuple[Control, ...]:
    """Of the two forms with σ(k)."""
    needs = {
        name: params for name, params in {**NEEDS, **PARTS, "rho": LOWER_ONLY}.items() if name != "sigma"
    }
    return (
        *needed(error, bound, needs),
        understated("sigma", STILL, 0.05),
        dropped(error, bound, "sigma", STILL),
    )


CLAIMS = (
    Claim(
        id="contraction/theorem-7",
        title="Mean square error of SID",
        source="contraction, Theorem 7; its statement is lost, re-derived from theorems 4, 5 and 6",
        statement=r"$$E\|\hat\nabla f(\lambda)-\nabla f(\lambda)\|^2\le\frac2J\bigl[\sigma_{2,E}+\bigl(2\sigma'_2G^2+4"
        r"L_\Phi^2\sigma_{1,E}\bigr)\kappa_q^2\bigr]+6c_1^2\rho(t)+\Bigl(\frac{4\sigma'_2}J+14L_\Phi^2\Bigr)\sigma(k)+"
        r"\nu_2^2\rho(t)\Bigl(14\sigma(k)+\frac{8\sigma_{1,E}\kappa_q^2}J\Bigr)$$",
        hypotheses=(*A_AND_B, *C, *D),
        measure=measure(error, printed),
        controls=(
            *controls(printed),
            *without_terms(error, printed, {"ν₂²ρσ": 14}, {"ν₂²ρσ": PRODUCT}),
        ),
        notes=r"bias² and variance II, each at most $3(c_1^2\rho+L_\Phi^2\sigma+\nu_2^2\rho\sigma)$, and theorem 5. "
        r"Any solvers that keep to D; every path enumerated. Sharing one draw between two groups hardly hurts: the "
        r"control needs noise with a heavy tail, while what is lost in the mean is in theorem 4.",
        **COMMON,
    ),
    Claim(
        id="contraction/theorem-7@sharp",
        title="Mean square error of SID with (7): bias and variance II bounded together",
        source="contraction, Theorem 7, sharper for (7)",
        statement=r"$$v_0=0,\ \eta_i\le1:\quad E\|\hat\nabla f-\nabla "
        r"f\|^2\le\frac2J\bigl[\sigma_{2,E}+\bigl(\sigma'_2G^2+2L_\Phi^2\sigma_{1,E}\bigr)\kappa_q^2\bigr]+3c_1^2"
        r"\rho(t)+\Bigl(\frac{2\sigma'_2}J+7L_\Phi^2\Bigr)\sigma(k)+\nu_2^2\rho(t)\Bigl(7\sigma(k)+\frac{4"
        r"\sigma_{1,E}\kappa_q^2}J\Bigr)$$",
        hypotheses=(*A_AND_B, *C, *D, FROM_ZERO),
        measure=measure(error, sharp),
        controls=(*controls(sharp), *without_terms(error, sharp, {"ν₂²ρσ": 7})),
        notes=r"$\|E\hat\nabla f-\nabla f\|^2+V[E[\hat\nabla f\mid w_t]]=E\|E[\hat\nabla f\mid w_t]-\nabla f\|^2$ "
        r"needs theorem 4 (i) once: 3 in place of 6; and theorem-5@sharp.",
        **LINEAR,
    ),
    Claim(
        id="contraction/theorem-7@minkowski",
        title="Mean square error of SID with (7), attained",
        source="contraction, Theorem 7, sharpest form for (7), found here",
        statement=r"$$v_0=0,\ \eta_i\le1:\quad E\|\hat\nabla f-\nabla f\|^2\le\bigl(c_1\sqrt{\rho(t)}+L_\Phi "
        r"L_E\kappa_q\pi_k\bigr)^2+\frac1J\bigl(\sqrt{\sigma_{2,E}}+\tilde "
        r"L\kappa_k\sqrt{\sigma_{1,E}}\bigr)^2+\tilde L^2V_k+\frac{\sigma'_2}J(V_k+\kappa_k^2G^2)$$ with $\tilde L$, "
        r"$\kappa_k$, $\pi_k$, $V_k$ as in theorem 5",
        hypotheses=(*A_AND_B, *C, INDEPENDENT, LOWER, FROM_ZERO),
        measure=measure(error, linear),
        controls=(
            *(halved(name, FULL) for name in ("L_E", "L_Phi", "mu2")),
            *(halved(name, ITERATED) for name in ("nu1", "nu2", "mu1")),
            *(
                understated(name, FULL)
                for name in ("sigma1_E", "sigma2_E", "d_sigma1", "d_sigma2", "rho", "q")
            ),
            shared("linear", "cross", {**SMALL, "s": ONE, "k": 2}),
            shared("upper", "cross", SMALL),
            shared("upper", "upper", {**DIRECT, "J": 2}),
            Control("v₀ is not 0", params=line(r=ONE, v0=[ONE], k=0)),
            *(
                dropped(error, linear, name, FULL)
                for name in ("sigma1_E", "sigma2_E", "d_sigma1", "d_sigma2", "rho")
            ),
            mutated("2J for J", error, lambda s: linear(dataclasses.replace(s, J=2 * s.J)), FULL),
            mutated("variance II forgotten", error, apart, LOWER_ONLY),
        ),
        equality=Equality(params=FULL, reaches=0.999),
        notes=r"theorem-4-i@sharp in mean square, and theorem-5@minkowski. Equality with every term on, in rationals: "
        r"$\hat\Phi=(\frac12+\frac\zeta4)w+(1+\frac{\zeta}3)\lambda$, $\hat E=w(1+\frac\xi2)+\lambda(\xi+w)$, "
        r"$w_0=-1$, $t=0$, $J=2$, $k=3$, $\eta_i=2/(2+i)$: $146495/36864$, of which the printed form allows four "
        r"times as much. Where $w_t$ is noisy and $\pi_k>0$ both, a triangle inequality between the two stays strict.",
        **LINEAR,
    ),
)
