"""The algorithms of table 1 under their articles' schedules, each with a control, and the scalar problem they run on.

G = ½w² − λw, F = ½w² − w + ¼λ², with two data: ∇_wG, ∇²_wwG, ∇²_λwG, ∇_λF, ∇_wF have deviations NOISE. f' = 3λ/2 − 1.
K is fixed, so that the logarithms of Õ, which come from K = O(log N), are absent; its truncation is of the order 2^−K.
"""

from __future__ import annotations

import itertools as it
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Any

import numpy as np

from refimpl.algorithms.arbel2021amigo import AmIGO
from refimpl.algorithms.chen2021alset import ALSET
from refimpl.algorithms.chen2021alset_dagger import ALSETDagger
from refimpl.algorithms.chen2022stable import STABLE
from refimpl.algorithms.ghadimi2018bsa import BSA, neumann_terms
from refimpl.algorithms.grazzi2023bsgm import BSGM
from refimpl.algorithms.guo2021smb import SMB
from refimpl.algorithms.guo2021stablevr import STABLEVR
from refimpl.algorithms.hong2020ttsa import TTSA
from refimpl.algorithms.huang2021sabiadam import SaBiAdam
from refimpl.algorithms.huang2021vrsabiadam import VRSaBiAdam
from refimpl.algorithms.ji2021stocbio import StocBiO, hessian_batches
from refimpl.algorithms.khanduri2021sustain import SUSTAIN
from refimpl.algorithms.li2022fsla import FSLA
from refimpl.algorithms.yang2021mrbo import MRBO
from refimpl.algorithms.yang2021vrbo import VRBO
from refimpl.approximate.inverse import ProductNeumann, SumNeumann
from refimpl.arrays.backend import Array
from refimpl.lengths import Growing
from refimpl.problem import BilevelProblem
from refimpl.rates import Constant, Harmonic, Power
from refimpl.zoo.quadratic import Quadratic

NOISE = {"g": 1.5, "H": 0.3, "C": 0.3, "f_lam": 1.5, "f_w": 1.5}
TERMS, SMOOTH, STRONG = 8, 2.0, 1.0  # K, L, μ
PRODUCT, SUM = ProductNeumann(TERMS, SMOOTH), SumNeumann(1 / SMOOTH, TERMS - 1)
SLOPE, ZERO, START = 1.5, -1.0, 3.0  # f' = SLOPE λ + ZERO, λ_0
OFF = 1e9  # times any square: a momentum weight capped at 1
Make = Callable[[int], Any]  # number of iterations -> the algorithm


def problem(*, exact_matrices: bool = False) -> BilevelProblem:
    """The problem; ``exact_matrices``: without noise in ∇²_wwG and ∇²_λwG."""
    noise = NOISE | ({"H": 0.0, "C": 0.0} if exact_matrices else {})

    def two(mean: float, off: str, *shape: int) -> Array:
        return np.array([mean + noise.get(off, 0.0), mean - noise.get(off, 0.0)]).reshape(2, *shape)

    lower = Quadratic(two(1, "H", 1, 1), two(-1, "C", 1, 1), two(0, "", 1, 1), two(0, "g", 1), two(0, "", 1))
    upper = Quadratic(
        two(1, "", 1, 1), two(0, "", 1, 1), two(0.5, "", 1, 1), two(-1, "f_w", 1), two(0, "f_lam", 1)
    )
    return BilevelProblem(upper, lower)


# -- schedules -------------------------------------------------------------------------------------------------------

ONE: dict[str, Any] = {"lower_batch": 1, "upper_batch": 1}


def bsa(scale: Callable[[int], float]) -> Make:
    """α of N iterations; t_k = ⌈√(k+1)⌉, β_j = 2/(4 + j), K_k as its article has it."""
    inner: dict[str, Any] = {
        "beta": Harmonic(2.0, 4.0),
        "terms": neumann_terms(STRONG, SMOOTH),
        "inverse": PRODUCT,
    }
    return lambda N: BSA(alpha=scale(N), **inner, **ONE)


def stocbio(batch: Make) -> Make:
    """Batches O(batch) throughout, the Hessians' as ``hessian_batches`` has them."""

    def make(N: int) -> StocBiO:
        S = batch(N)
        batches = hessian_batches(S, TERMS - 1, 1 - STRONG / SMOOTH)
        inverse = SumNeumann(1 / SMOOTH, TERMS - 1, batches)
        return StocBiO(alpha=0.3, beta=0.5, steps=2, inverse=inverse, lower_batch=S, upper_batch=S)

    return make


def amigo(batch: Make) -> Make:
    """T = N = 2 and batches O(batch)."""
    steps = {"alpha": 0.3, "beta": 0.5, "gamma": 0.5, "steps": 2, "linear_steps": 2}
    return lambda N: AmIGO(**steps, lower_batch=batch(N), upper_batch=batch(N))


def bsgm(length: Any, J: Any = None) -> Make:
    """t = k, and J unless it is given, as ``length`` of N says."""
    return lambda N: BSGM(
        t=length(N), k=length(N), J=length(N) if J is None else J, alpha=0.3, rate=Harmonic(2.0, 4.0)
    )


def sabiadam(eta: Any) -> Make:
    """A = B = I."""
    return lambda N: SaBiAdam(
        alpha=0.5, beta=0.5, rho=1.0, adaptive=False, eta=eta, c_f=2.0, c_g=2.0, inverse=PRODUCT, **ONE
    )


def vr_sabiadam(weight: float) -> Make:
    """A = B = I."""
    return lambda N: VRSaBiAdam(
        alpha=0.5,
        beta=0.5,
        rho=1.0,
        adaptive=False,
        eta=Power(2.0, 1 / 3, 8),
        c_f=weight,
        c_g=weight,
        inverse=PRODUCT,
        **ONE,
    )


def sustain(weight: float) -> Make:
    """c_f = c_g = weight."""
    return lambda N: SUSTAIN(alpha=Power(1.0, 1 / 3, 8), c_f=weight, c_g=weight, inverse=PRODUCT, **ONE)


def mrbo(weight: float) -> Make:
    """c_f = c_g = weight."""
    return lambda N: MRBO(
        alpha=1.0, beta=1.0, eta=Power(1.0, 1 / 3, 8), c_f=weight, c_g=weight, inverse=SUM, **ONE
    )


def vrbo(period: Make) -> Make:
    """Batches S_1 = N and S_2 = √N."""
    return lambda N: VRBO(
        alpha=0.3,
        beta=0.5,
        period=period(N),
        inner=1,
        inverse=SUM,
        lower_batch=isqrt(N),
        upper_batch=isqrt(N),
        large_lower_batch=N,
        large_upper_batch=N,
    )


def stable(power: float) -> Make:
    """α = β = τ = N^−power."""
    return lambda N: STABLE(mu=STRONG / 2, alpha=N**-power, beta=N**-power, tau=N**-power, **ONE)


def stable_vr(weight: float) -> Make:
    """c = weight."""
    return lambda N: STABLEVR(mu=STRONG / 2, alpha=1.0, beta=1.0, c=weight, eta=Power(1.0, 1 / 3, 8), **ONE)


def fsla(schedule: Any) -> Make:
    """δ = ½."""
    steps: dict[str, Any] = {"delta": 0.5, "gamma": 2.0, "beta": 2.0, "eta": 1.0}
    return lambda N: FSLA(**steps, randomness="fresh", schedule=schedule, **ONE)


@dataclass(frozen=True)
class Plan:
    """How an algorithm is run, and its control.

    power: of the complexity ε^(−power). iterations: pairs of N to compare, those of ``matched`` budgets. later:
    steps do not depend on N, and means are over the second half of the iterations. logs: A/(1 + ln N) is judged (BSGM
    (i), whose logarithm is that of the sum over 1/(s + 1)). exact_matrices: see ``problem``. without: the control.
    """

    make: Make
    power: Fraction
    iterations: tuple[tuple[int, int], ...]
    control: str
    without: Make
    later: bool = False
    logs: bool = False
    exact_matrices: bool = False


def _tight(power: float, make: Any, **fixed: Any) -> Make:
    """One step size N^−power for all of ``rates``."""
    rates = fixed.pop("rates")
    return lambda N: make(**dict.fromkeys(rates, N ** (-power)), **fixed, **ONE)


TWO, THREE_HALVES = Fraction(2), Fraction(3, 2)
BUDGETS = (2**12, 2**14, 2**16, 2**18)  # samples


def matched(*least: int) -> tuple[tuple[int, int], ...]:
    """The least N, multiples of 4 (VRBO: squares), that spend BUDGETS, or those from one of them on, as pairs."""
    return tuple(it.pairwise(least))


HORIZON = matched(632, 2524, 10084, 40332)
ALSETS = {"inverse": PRODUCT, "rates": ("alpha", "beta")}
DAGGER = {"rates": ("alpha", "beta", "gamma")}
SLOW = "steps N^(−1/4)"


def _smb(power: float) -> Make:
    return lambda N: SMB(alpha=N**-power / 2, beta=N**-power, b=2 / N**0.5, inverse=PRODUCT, **ONE)


PLANS = {
    "bsa": Plan(
        bsa(lambda N: N**-0.5),
        Fraction(3),
        matched(276, 736, 1932),
        "α ∝ N^(−1/4)",
        bsa(lambda N: N**-0.25),
    ),
    "ttsa": Plan(
        lambda N: TTSA(alpha=N**-0.6, beta=N**-0.4, inverse=PRODUCT, **ONE),
        Fraction(5, 2),
        HORIZON,
        "constant steps",
        lambda N: TTSA(alpha=0.2, beta=0.5, inverse=PRODUCT, **ONE),
    ),
    "stocbio": Plan(
        stocbio(lambda N: N), TWO, matched(16, 32, 64, 124), "batches of one", stocbio(lambda N: 1)
    ),
    "smb": Plan(_smb(0.5), TWO, HORIZON, SLOW, _smb(0.25)),
    "sabiadam": Plan(
        sabiadam(Power(2.0, 0.5, 9)),
        TWO,
        matched(632, 2524, 10084),
        "constant η",
        sabiadam(Constant(0.6)),
        later=True,
    ),
    "alset": Plan(_tight(0.5, ALSET, **ALSETS), TWO, HORIZON, SLOW, _tight(0.25, ALSET, **ALSETS)),
    "alset-dagger": Plan(
        _tight(0.5, ALSETDagger, **DAGGER),
        TWO,
        matched(1024, 4096, 16384, 65536),
        SLOW,
        _tight(0.25, ALSETDagger, **DAGGER),
    ),
    "amigo": Plan(amigo(lambda N: N), TWO, matched(28, 56, 108, 212), "batches of one", amigo(lambda N: 1)),
    "bsgm": Plan(bsgm(lambda N: N), TWO, matched(32, 64, 128), "J = 1", bsgm(lambda N: N, J=1)),
    "bsgm-i": Plan(
        bsgm(lambda N: Growing(1)),
        TWO,
        ((8, 32), (48, 92)),
        "J = 1",
        bsgm(lambda N: Growing(1), J=1),
        logs=True,
    ),
    "stable": Plan(
        stable(0.5), TWO, matched(1368, 5464, 21848, 87384), SLOW, stable(0.25), exact_matrices=True
    ),
    "fsla": Plan(
        fsla("sqrt"), TWO, matched(820, 3280, 13108), "constant steps", fsla("constant"), later=True
    ),
    "stable-vr": Plan(
        stable_vr(4.0),
        THREE_HALVES,
        matched(1368, 5464, 21848),
        "no momentum",
        stable_vr(OFF),
        later=True,
        exact_matrices=True,
    ),
    "sustain": Plan(
        sustain(4.0), THREE_HALVES, matched(632, 2524, 10084), "no momentum", sustain(OFF), later=True
    ),
    "vr-sabiadam": Plan(
        vr_sabiadam(1.0), THREE_HALVES, matched(632, 2524, 10084), "no momentum", vr_sabiadam(OFF), later=True
    ),
    "mrbo": Plan(mrbo(4.0), THREE_HALVES, matched(412, 1640, 6556), "no momentum", mrbo(OFF), later=True),
    "vrbo": Plan(vrbo(isqrt), THREE_HALVES, matched(64, 144, 361), "never refreshed", vrbo(lambda N: 2 * N)),
}
