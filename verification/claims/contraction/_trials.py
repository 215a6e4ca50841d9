"""What the claims about SID's error share: hypotheses, instances, and comparing an exact number with a bound."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from math import inf, sqrt
from typing import Any

from hypothesis import strategies as st

from refimpl.constants import Noise
from verification.claims.contraction._assumptions import assumptions
from verification.claims.contraction._instances import symbol
from verification.claims.contraction._sid import Trial, square
from verification.claims.contraction._sid_instances import UNIT
from verification.claims.contraction._sizes import Bound, Sizes, without
from verification.model import Control, Hypothesis, Measurement

EPS = 2.0**-52
Params = dict[str, Any]

# -- measures -------------------------------------------------------------------------------------------


def at_most(observed: Callable[[Trial], Any], bound: Bound, trial: Trial) -> Measurement:
    """An exact number against a bound of floats."""
    found, allowed = float(observed(trial)), bound(trial.sizes)
    return Measurement(observed=found, bound=allowed, rounding=trial.rounding * allowed + 4 * EPS * found)


def measure(observed: Callable[[Trial], Any], bound: Bound) -> Callable[[Trial], Measurement]:
    """The comparison as a measure."""
    return partial(at_most, observed, bound)


def bias(trial: Trial) -> float:
    """‖E ∇̂f − ∇f‖."""
    return sqrt(square(trial.bias))


def conditional_bias(bound: Callable[[Sizes, float], float]) -> Callable[[Trial], Measurement]:
    """‖E[∇̂f | w_t] − ∇f‖ against a bound that depends on ‖w_t − w(λ)‖², at the w_t that uses most of it."""

    def used(pair: tuple[float, float]) -> float:
        found, allowed = pair
        return found / allowed if allowed > 0 else inf if found > 0 else -1.0

    def measured(trial: Trial) -> Measurement:
        squares = zip(square(trial.conditional), square(trial.reached), strict=True)
        pairs = [(sqrt(error), bound(trial.sizes, float(rho))) for error, rho in squares]
        found, allowed = max(pairs, key=used)
        return Measurement(observed=found, bound=allowed, rounding=trial.rounding * allowed + 4 * EPS * found)

    return measured


# -- hypotheses -----------------------------------------------------------------------------------------


def _contracts(trial: Trial) -> tuple[bool, Any]:
    return trial.place.contracts(trial.of, *((trial.of.lam, w) for w in trial.grid[1]))


def _independent(trial: Trial) -> tuple[bool, Any]:
    return not trial.share, " = ".join(trial.share) or "independent"


def _stated(*names: str) -> Callable[[Trial], tuple[bool, Any]]:
    """Whether the constants are at least what is measured."""

    def predicate(trial: Trial) -> tuple[bool, Any]:
        if trial.place.proved is None:
            return False, "no constants are proved on the ball"
        stated, least = (_numbers(s) for s in (trial.sizes, trial.least))
        short = {
            name: f"{stated[name]:.4g} < {least[name]:.4g}" for name in names if stated[name] < least[name]
        }
        return not short, short or "as measured"

    return predicate


def _numbers(s: Sizes) -> dict[str, float]:
    """C's and D's constants; those with ‖E[NNᵀ]‖₂ are never above the others, and are stated with them."""
    fields = {field.name: getattr(s.noise, field.name) for field in dataclasses.fields(Noise)}
    return {**fields, "rho": s.rho, "sigma": s.sigma}


def _linear(trial: Trial) -> tuple[bool, Any]:
    steps = [trial.sid.linear_iteration.rate(i) for i in range(trial.sid.k or 0)]
    from_zero = trial.v0 is None or not any(trial.v0)
    measured = {"v0 is 0": from_zero, "(7)": trial.off is None, "largest step": float(max(steps, default=0))}
    return from_zero and trial.off is None and all(eta <= 1 for eta in steps), measured


IN_W = ("nu1", "nu2", "mu1", "mu2", "L_E")
A_AND_B = (
    Hypothesis(
        "A(i)", r"\|\partial_1\Phi(w,\lambda)\|\le q<1\ \text{on a ball that holds every }w_t", _contracts
    ),
    *assumptions(*IN_W, "L_Phi"),
)
C = (
    Hypothesis(
        "C(iii)",
        r"V[\partial_1\hat\Phi]\le\sigma'_1,\ V[\partial_2\hat\Phi]\le\sigma'_2",
        _stated("d_sigma1", "d_sigma2"),
    ),
    Hypothesis(
        "C(iv)",
        r"V[\nabla_1\hat E]\le\sigma_{1,E},\ V[\nabla_2\hat E]\le\sigma_{2,E}",
        _stated("sigma1_E", "sigma2_E"),
    ),
)
INDEPENDENT = Hypothesis(
    "D: independence",
    r"\text{the draws of the four groups, and those within each, are independent}",
    _independent,
)
LOWER = Hypothesis("D: ρ(t)", r"E\|w_t-w(\lambda)\|^2\le\rho(t)", _stated("rho"))
LINEAR = Hypothesis("D: σ(k)", r"\sup_wE\|v_k(w)-\bar v(w)\|^2\le\sigma(k)", _stated("sigma"))
D = (INDEPENDENT, LOWER, LINEAR)
FROM_ZERO = Hypothesis("(7) from 0", r"v_k\ \text{by (7)},\ v_0=0,\ \eta_i\le1", _linear)

# -- instances -------------------------------------------------------------------------------------------

_STEPS = st.sampled_from([[1, 1], [1, 2], [3, 4], [2, 2, 1], [2, 3, 1], [4, 5, 2]])


def _some(low: int, high: int) -> st.SearchStrategy[int]:
    """0 in half of all instances: a bound is seen best where few of its terms are there."""
    return st.one_of(st.just(0), st.integers(low, high))


_LINE = {
    "kind": st.just("line"),
    "q": st.integers(-40, 40),
    **{name: _some(-24, 24) for name in ("s", "r", "h", "n", "l", "y", "nu2")},
    **{name: _some(-6, 6) for name in ("nu1", "g")},
    **{name: _some(-96, 96) for name in ("b", "e", "a", "m1", "x", "m2")},
    "w0": st.tuples(_some(-48, 48)).map(list),
    "steps": _STEPS,
    "t": st.integers(0, 2),
    "k": st.integers(0, 3),
    "J": st.integers(1, 2),
}
_RANDOM = {
    "kind": st.just("random"),
    "seed": st.integers(0, 30),
    "d": st.integers(1, 2),
    "n": st.integers(1, 2),
    "q": st.integers(4, 40),
    "bent": _some(1, 6),
    "noise": _some(1, 24),
    "law": st.just("signs"),
    "upper_law": st.sampled_from(["sure", "signs"]),
    "w0": st.tuples(_some(-48, 48), _some(-48, 48)).map(list),
    "steps": _STEPS,
    "t": st.integers(0, 2),
    "k": st.integers(0, 2),
    "J": st.integers(1, 2),
}
_LOOSE = {"off": _some(-48, 48), "v0": st.tuples(_some(-96, 96), _some(-96, 96)).map(list)}


def trials(*, linear: bool = False) -> st.SearchStrategy[Params]:
    """Lines, the same with any v_k or v_0 unless ``linear``, and random maps of up to two variables."""
    kinds = [st.fixed_dictionaries(_LINE), st.fixed_dictionaries(_RANDOM)]
    if not linear:
        kinds.append(st.fixed_dictionaries({**_LINE, "off": _LOOSE["off"]}))
        kinds.append(st.fixed_dictionaries({**_LINE, "v0": _LOOSE["v0"]}))
    return st.one_of(*kinds)


def line(**given: Any) -> Params:
    """Parameters of a line at λ = 0 = w(λ) with one exact step η = 1; what is not given is 0."""
    return {"kind": "line", "w0": [0], "steps": [1, 1], "t": 0, "k": 1, "J": 1, **given}


ONE = UNIT
SMALL = line(b=ONE, r=ONE, e=ONE, a=ONE, x=ONE)  # Φ̂ = λ(1 + ζ'), Ê = w(1 + ξ) + ξλ
FULL = line(  # every term of the linear forms at once
    q=ONE // 2, s=ONE // 4, b=ONE, r=ONE // 3, e=ONE, a=ONE // 2, x=ONE, m2=ONE,
    J=2, k=3, steps=[2, 2, 1], w0=[-ONE],
)  # fmt: skip
LOWER_ONLY = line(q=ONE // 2, n=ONE, m2=ONE, t=3, k=0)  # Φ̂ = w/2 ± 1, E = λw: V_II = ρ = 21/16
DIRECTIONS = line(  # all derivatives positive, close to w(λ): each part of c₁ counts
    q=24, b=24, nu1=16, nu2=16, e=36, m1=24, m2=24, w0=[1], off=0,
)  # fmt: skip


# -- controls --------------------------------------------------------------------------------------------

LETTERS = {
    "sigma1": "σ₁",
    "sigma2": "σ₂",
    "sigma1_E": "σ_{1,E}",
    "sigma2_E": "σ_{2,E}",
    "d_sigma1": "σ'₁",
    "d_sigma2": "σ'₂",
    "rho": "ρ",
    "sigma": "σ",
    "q": "q",
}


def letter(name: str) -> str:
    """A constant as the document writes it."""
    return LETTERS.get(name) or symbol(name)


def halved(name: str, params: Mapping[str, Any]) -> Control:
    """A constant of A or B stated too small by half, on an instance that needs all of it."""
    return Control(f"{letter(name)} stated too small", params={**params, "halved": name})


def understated(name: str, params: Mapping[str, Any], factor: float = 0.5) -> Control:
    """Any constant stated too small by a factor."""
    too_small = f"{letter(name)} stated {1 / factor:g} times too small"
    return Control(too_small, params={**params, "understated": [name, factor]})


def shared(one: str, other: str, params: Mapping[str, Any]) -> Control:
    """Two groups that share a draw, or one whose draws are all one."""
    name = f"all draws of the {one} group are one" if one == other else f"{one} and {other} share a draw"
    return Control(name, params={**params, "share": [one, other]})


def mutated(
    name: str, observed: Callable[[Trial], Any], bound: Bound, params: Mapping[str, Any] | None = None
) -> Control:
    """Another right side."""
    return Control(name, kind="formula", measure=measure(observed, bound), params=params)


def dropped(observed: Callable[[Trial], Any], bound: Bound, name: str, params: Mapping[str, Any]) -> Control:
    """The right side without everything that one constant multiplies."""
    return mutated(f"without {letter(name)}", observed, without(bound, name), params)
