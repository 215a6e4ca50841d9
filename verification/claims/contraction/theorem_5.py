r"""Theorem 5: variance I, E V[∇̂f | w_t], what the upper level, the linear solver and ∂₂Φ̂ draw.

With X = ∇₂Ē_J, D = ∂₂Φ(w_t)ᵀ and N̄_J the centred mean of the J draws of ∂₂Φ̂, independent of (ξ, ζ̂):
    V[∇̂f | w_t] = V[X + Dv_k | w_t] + E‖N̄_Jᵀv_k‖²                                    (Lemma 27)
and for (7), E[v_k | ξ] = Q_k∇₁Ē_J with ‖Q_k‖ <= κ_k = κ_q(1 − π_k):
    V[X + Dv_k | w_t] = V_ξ[X + DQ_k∇₁Ē_J] + E‖D(v_k − E[v_k | ξ])‖².
The first is at most (√σ_{2,E} + ‖D‖κ_k√σ_{1,E})²/J (Minkowski; the sum of the squares if the two gradients have draws
of their own), the second ‖D‖²V_k. The printed style pays V[X + Y] <= 2V[X] + 2V[Y] and 2(a² + b²) instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from refimpl.approximate import guarantees
from verification.claims.contraction._sid import Trial
from verification.claims.contraction._sid_instances import build
from verification.claims.contraction._sizes import Bound, Sizes, theorem_5_any, theorem_5_b
from verification.claims.contraction._trials import (
    A_AND_B,
    FROM_ZERO,
    FULL,
    INDEPENDENT,
    LOWER,
    ONE,
    SMALL,
    C,
    D,
    Params,
    dropped,
    halved,
    line,
    measure,
    mutated,
    shared,
    trials,
    understated,
)
from verification.model import Budget, Claim, Control, Equality, Hypothesis

SOURCE = "contraction, Theorem 5; its statement is lost, "


def upper(trial: Trial) -> Any:
    """E V[∇̂f | w_t]."""
    return trial.variance_upper


def printed(s: Sizes) -> float:
    """(2/J)[σ₂E + 2σ'₂G²κ² + 4L_Φ²σ₁Eκ²] + (4σ'₂/J + 8L_Φ²)σ + 8ν₂²ρ(σ + σ₁Eκ²/J)."""
    return float(guarantees.theorem_5(s.of, s.noise, s.rho, s.sigma, s.J))


def sharp(s: Sizes) -> float:
    """(2/J)[σ₂E + σ'₂G²κ² + 2L_Φ²σ₁Eκ²] + (2σ'₂/J + 4L_Φ²)σ + 4ν₂²ρ(σ + σ₁Eκ²/J)."""
    return float(guarantees.theorem_5_sharp(s.of, s.noise, s.rho, s.sigma, s.J))


def linear(s: Sizes) -> float:
    """(√σ₂E + Lκ_k√σ₁E)²/J + L²V_k + (σ'₂/J)(V_k + κ_k²G²), L = L_Φ + ν₂√ρ."""
    return float(guarantees.theorem_5_linear(s.of, s.operator, s.rho, s.stage, s.J))


def separate(s: Sizes) -> float:
    """The sum of the squares for the first square."""
    return float(guarantees.theorem_5_linear(s.of, s.operator, s.rho, s.stage, s.J, independent=True))


def doubled(bound: Bound) -> Bound:
    """2J for J."""
    return lambda s: bound(dataclasses.replace(s, J=2 * s.J))


# one cause of variance at a time
DIRECT = line(x=ONE)  # ∇₂Ê = ξ
CROSS = line(r=ONE, e=ONE)  # ∂₂Φ̂ = ζ', v = 1
RIGHT = line(b=ONE, a=ONE)  # ∇₁Ê = ξ, ∂₂Φ = 1
SOLVER = line(b=ONE, e=ONE, s=ONE, k=2)  # v_2 = 1 + ζ̂_2
BENT = line(nu2=ONE, a=ONE, w0=[ONE])  # ∂₂Φ = w_0
BEST = line(b=ONE, a=ONE, x=4 * ONE)  # (4 + 1)² against 2·16 + 8, the most that the printed form can be used
COPIES = {"x": ONE, "J": 3}
HEAVY = line(  # ζ' = ζ̂_2 with a fourth moment of 8 variances squared
    s=16 * ONE, r=16 * ONE, e=ONE, k=2, law="outlier"
)  # fmt: skip

NEEDS = {  # of each constant, an instance that needs it
    "sigma2_E": DIRECT,
    "d_sigma2": CROSS,
    "sigma1_E": RIGHT,
    "L_E": CROSS,
    "L_Phi": RIGHT,
    "nu2": BENT,
    "q": {**RIGHT, "q": 40, "k": 30},
    "sigma": SOLVER,
    "rho": BENT,
}
TERMS: dict[
    str, tuple[Bound, Params]
] = {  # for (7); of each, an instance whose bound is too small without it
    "σ'₂σ(k)/J": (
        lambda s: s.noise.d_sigma2 * s.sigma / s.J,
        line(r=ONE, e=ONE, s=2 * ONE, k=2),
    ),
    "σ'₂σ_{1,E}κ_q²/J²": (
        lambda s: s.noise.d_sigma2 * s.noise.sigma1_E * (s.of.kappa_q / s.J) ** 2,
        line(r=ONE, a=ONE),
    ),
    "ν₂²ρσ": (
        lambda s: s.of.nu2**2 * s.rho * s.sigma,
        line(nu2=ONE, w0=[ONE], a=ONE, s=4 * ONE, k=2),
    ),
}
ANY = {"σ'₂σ(k)/J": line(r=ONE, off=ONE)}  # of the forms whose slack only another solver outweighs


def kinds(*explicit: Params, solvers: bool = True) -> dict[str, Any]:
    """What claims on SID's variance or error share; ``solvers``: others than (7) from 0, too."""
    return {
        "strategy": trials(linear=not solvers),
        "explicit": explicit,
        "build": build,
        "grade": "exact",
        "budget": Budget(quick=25, full=1000),
    }


INSTANCES = (DIRECT, CROSS, RIGHT, SOLVER, BENT, SMALL)
COMMON, LINEAR = (kinds(*INSTANCES, BEST, FULL, solvers=solvers) for solvers in (True, False))


def needed(
    observed: Callable[[Trial], Any], bound: Bound, needs: Mapping[str, Params], weak: float = 0.1
) -> tuple[Control, ...]:
    """Of the forms with σ(k); ``weak``: a factor small enough for every constant to be missed."""
    removed = ("sigma2_E", "d_sigma2", "sigma1_E", "sigma", "rho")
    return (
        *(understated(name, params, weak) for name, params in needs.items()),
        shared("upper", "upper", line(**COPIES)),
        shared("linear", "cross", HEAVY),
        *(dropped(observed, bound, name, needs[name]) for name in removed if name in needs),
    )


def without_terms(
    observed: Callable[[Trial], Any],
    bound: Bound,
    factors: Mapping[str, float],
    instances: Mapping[str, Params] | None = None,
) -> tuple[Control, ...]:
    """Single terms of the right side left out; ``factors``: how often it has them; ``instances`` of their own."""

    def less(name: str) -> Bound:
        return lambda s: bound(s) - factors[name] * TERMS[name][0](s)

    chosen = {name: (instances or {}).get(name, TERMS[name][1]) for name in factors}
    return tuple(mutated(f"without {name}", observed, less(name), params) for name, params in chosen.items())


def controls(bound: Bound) -> tuple[Control, ...]:
    """Of the forms with σ(k)."""
    square_of_J = mutated(
        "J² for J", upper, lambda s: bound(s) / s.J, line(x=ONE, a=ONE, r=ONE, e=ONE, b=ONE, J=4)
    )
    return (*needed(upper, bound, NEEDS), square_of_J)


def linear_controls(bound: Bound, **more: Any) -> tuple[Control, ...]:
    """Of the forms for (7), on instances that attain them, with parameters ``more``."""
    full, bent = FULL | more, BENT | more
    names = ("sigma1_E", "sigma2_E", "d_sigma1", "d_sigma2")
    return (
        *(halved(name, full) for name in ("L_E", "L_Phi")),
        halved("nu2", bent),
        *(understated(name, full) for name in names),
        understated("q", full),
        understated("rho", bent),
        shared("linear", "cross", {**SMALL, "s": ONE, "k": 2, **more}),
        shared("upper", "upper", {**DIRECT, "J": 2, **more}),
        *(dropped(upper, bound, name, full) for name in names),
        mutated("2J for J", upper, doubled(bound), full),
        mutated("k − 1 for k", upper, lambda s: bound(dataclasses.replace(s, k=s.k - 1)), full),
    )


def _split(trial: Trial) -> tuple[bool, Any]:
    return trial.split, "draws of their own" if trial.split else "the same draws"


SPLIT = Hypothesis(
    "two minibatches", r"\nabla_1\bar E_J,\ \nabla_2\bar E_J\ \text{from independent draws}", _split
)

CLAIMS = (
    Claim(
        id="contraction/theorem-5",
        title="Variance from the upper level, the linear system and the cross derivative",
        source=SOURCE + "re-derived in the style of its proof (A.3)",
        statement=r"$$E\,V[\hat\nabla f\mid w_t]\le\frac2J\bigl[\sigma_{2,E}+2\sigma'_2G^2\kappa_q^2+4L_\Phi^2"
        r"\sigma_{1,E}\kappa_q^2\bigr]+\Bigl(\frac{4\sigma'_2}J+8L_\Phi^2\Bigr)\sigma(k)+8\nu_2^2\rho(t)\Bigl("
        r"\sigma(k)+\frac{\sigma_{1,E}\kappa_q^2}J\Bigr)$$ with $G^2=L_E^2+\sigma_{1,E}/J$",
        hypotheses=(*A_AND_B, *C, *D),
        measure=measure(upper, printed),
        controls=(
            *controls(printed),
            *without_terms(upper, printed, dict(zip(TERMS, (4, 4, 8), strict=True)), ANY),
        ),
        notes=r"The factor 2 of $V[X+Y]\le2V[X]+2V[Y]$ on everything; @b is the other reading of the proof. The most "
        r"that can be used is $\frac58$: $\sigma_{2,E}=16$, $\sigma_{1,E}=1$, nothing else. Any solvers that keep to "
        r"D; $\rho$, $\sigma$ as small as the instance allows.",
        **COMMON,
    ),
    Claim(
        id="contraction/theorem-5@b",
        title="Variance I in the other reading of the proof: by Lemma 27 no factor 2 on the cross derivative's noise",
        source=SOURCE + "re-derived from “in virtue of Lemma 27” (A.3)",
        statement=r"$$E\,V[\hat\nabla f\mid w_t]\le\frac2J\bigl[\sigma_{2,E}+\sigma'_2G^2\kappa_q^2+4L_\Phi^2"
        r"\sigma_{1,E}\kappa_q^2\bigr]+\Bigl(\frac{2\sigma'_2}J+8L_\Phi^2\Bigr)\sigma(k)+8\nu_2^2\rho(t)\Bigl("
        r"\sigma(k)+\frac{\sigma_{1,E}\kappa_q^2}J\Bigr)$$",
        hypotheses=(*A_AND_B, *C, *D),
        measure=measure(upper, theorem_5_b),
        controls=(
            *controls(theorem_5_b),
            *without_terms(upper, theorem_5_b, dict(zip(TERMS, (2, 2, 8), strict=True)), ANY),
        ),
        notes=r"$V[\hat\nabla f\mid w_t]=V[\nabla_2\bar E_J+\partial_2\Phi^{\top}v_k\mid w_t]+E\|\bar "
        r"N_J^{\top}v_k\|^2$ exactly, so that only the first part pays the factor 2. Both readings hold.",
        **COMMON,
    ),
    Claim(
        id="contraction/theorem-5@sharp",
        title="Variance I for the linear iteration (7): what V[v_k] and E‖v_k‖² really are",
        source=SOURCE + "sharper for (7)",
        statement=r"$$v_0=0,\ \eta_i\le1:\quad E\,V[\hat\nabla f\mid w_t]\le\frac2J\bigl[\sigma_{2,E}+\sigma'_2G^2"
        r"\kappa_q^2+2L_\Phi^2\sigma_{1,E}\kappa_q^2\bigr]+\Bigl(\frac{2\sigma'_2}J+4L_\Phi^2\Bigr)\sigma(k)+4"
        r"\nu_2^2\rho(t)\Bigl(\sigma(k)+\frac{\sigma_{1,E}\kappa_q^2}J\Bigr)$$",
        hypotheses=(*A_AND_B, *C, *D, FROM_ZERO),
        measure=measure(upper, sharp),
        controls=(
            *controls(sharp),
            *without_terms(upper, sharp, dict(zip(TERMS, (2, 2, 4), strict=True))),
        ),
        notes=r"Given $\xi$: $V[v_k\mid\xi]\le E\|v_k-\bar v\|^2$ and $E[v_k\mid\xi]=Q_k\nabla_1\bar E_J$ with "
        r"$\|Q_k\|\le\kappa_q$, so $V[v_k\mid w_t]\le\sigma(k)+\sigma_{1,E}\kappa_q^2/J$ and $E\|v_k\|^2\le\sigma(k)+"
        r"G^2\kappa_q^2$. The most that can be used is $\frac34$. @minkowski is attained.",
        **LINEAR,
    ),
    Claim(
        id="contraction/theorem-5@minkowski",
        title="Variance I of (7), attained: one square of a sum, and the scatter of the linear iteration",
        source=SOURCE + "sharpest form for (7), found here",
        statement=r"$$v_0=0,\ \eta_i\le1:\quad E\,V[\hat\nabla f\mid w_t]\le\frac1J\bigl(\sqrt{\sigma_{2,E}}+\tilde "
        r"L\kappa_k\sqrt{\sigma_{1,E}}\bigr)^2+\tilde L^2V_k+\frac{\sigma'_2}J(V_k+\kappa_k^2G^2)$$ $$\tilde L=L_\Phi+"
        r"\nu_2\sqrt{\rho(t)},\ \kappa_k=\kappa_q(1-\pi_k),\ V_0=0,\ V_{i+1}=(a_i^2+\eta_i^2\sigma'_1)V_i+\eta_i^2"
        r"\sigma'_1\kappa_i^2G^2,\ a_i=1-\eta_i(1-q)$$",
        hypotheses=(*A_AND_B, *C, INDEPENDENT, LOWER, FROM_ZERO),
        measure=measure(upper, linear),
        controls=(
            *linear_controls(linear),
            Control("v₀ is not 0", params=line(r=ONE, v0=[ONE], k=0)),
            mutated("two minibatches' bound", upper, separate, SMALL),
        ),
        equality=Equality(params=FULL, reaches=0.999),
        notes=r"$\sigma'_1,\sigma'_2$ are $\|E[NN^{\top}]\|$ here, at most the variance in the spectral norm: all "
        r"that is used is $E\|N^{\top}v\|^2\le\sigma'\|v\|^2$. Equality with every term on: $q=\frac12$, $s=\frac14$, "
        r"$r=\frac13$, $\nabla_1\hat E=1+\frac\xi2$, $\nabla_2\hat E=\xi+w$, $J=2$, $k=3$, $\eta_i=2/(2+i)$: $V_I="
        r"63551/36864$. The smallest: $\hat\Phi=\lambda(1+\zeta')$, $\hat E=w(1+\xi)+\xi\lambda$: 6, where the printed "
        r"form allows 18.",
        **LINEAR,
    ),
    Claim(
        id="contraction/theorem-5@two-minibatches",
        title="Variance I of (7) when the two gradients of the upper level have independent minibatches",
        source=SOURCE + "the form with independent minibatches",
        statement=r"$$\nabla_1\bar E_J,\nabla_2\bar E_J\text{ from independent draws:}\quad E\,V[\hat\nabla f\mid "
        r"w_t]\le\frac1J\bigl(\sigma_{2,E}+\tilde L^2\kappa_k^2\sigma_{1,E}\bigr)+\tilde L^2V_k+\frac{\sigma'_2}J(V_k+"
        r"\kappa_k^2G^2)$$",
        hypotheses=(*A_AND_B, *C, INDEPENDENT, LOWER, FROM_ZERO, SPLIT),
        measure=measure(upper, separate),
        controls=(
            *linear_controls(separate, split=1),
            Control("one minibatch for both", params=SMALL),
        ),
        equality=Equality(params=FULL | {"split": 1}, reaches=0.999),
        notes=r"Independent parts add their variances: no factor 2, no cross term of the square. It costs J more draws "
        r"of $\xi$. Equality as in @minkowski.",
        **{
            **kinds(*(p | {"split": 1} for p in (*INSTANCES, FULL))),
            "strategy": trials(linear=True).map(lambda p: {**p, "split": 1}),
        },
    ),
    Claim(
        id="contraction/theorem-5@any-solver",
        title="Variance I for any solvers, without the factor 2",
        source=SOURCE + "sharper for solvers of which only D is known; found here",
        statement=r"$$E\,V[\hat\nabla f\mid w_t]\le\Bigl(\sqrt{\tfrac{\sigma_{2,E}}J}+\tilde L\bigl(\sqrt{\sigma(k)}+"
        r"\kappa_q\sqrt{\tfrac{\sigma_{1,E}}J}\bigr)\Bigr)^2+\frac{\sigma'_2}J\bigl(\sqrt{\sigma(k)}+\kappa_qG"
        r"\bigr)^2$$",
        hypotheses=(*A_AND_B, *C, *D),
        measure=measure(upper, theorem_5_any),
        controls=(
            *controls(theorem_5_any),
            *(halved(name, SMALL) for name in ("L_Phi", "L_E")),
            mutated("2J for J", upper, doubled(theorem_5_any), SMALL),
        ),
        equality=Equality(params=SMALL, reaches=0.999),
        notes=r"Minkowski in $L^2$: $\sqrt{V[v_k\mid w_t]}\le\sqrt{\sigma(k)}+\kappa_q\sqrt{\sigma_{1,E}/J}$ and "
        r"$\sqrt{E\|v_k\|^2}\le\sqrt{\sigma(k)}+\kappa_qG$, whatever the solver. Never worse than the printed form.",
        **COMMON,
    ),
)
