"""Simple bilevel problems with known constants: min F over the minimisers of a convex G, and BiG-SAM's runs on them.

In the coordinates u = Rᵀw, R orthogonal, G(w) = Σ_i x_i h(u_i) with 0 <= h'' <= 1 and 0 <= x_i <= 1, so L_G = 1; a
coordinate with x_i = 0 is flat. F(w) = ½ (w − a)ᵀQ(w − a), so σ_F, L_F are Q's extreme eigenvalues. Profiles h:

    quadratic ½u²;  huber (½u² up to the knee δ, then linear);  quartic (u⁴/12 up to 1, then a parabola);
    slab ½ max(|u| − δ, 0)², whose minimisers are no affine set (Q a multiple of I, so that w_λ is a projection).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.rates import Rate
from refimpl.solvers import Averaging, contraction_of
from verification.model import Hypothesis, Measurement, reals

EPS = float(np.finfo(float).eps)
Step = Callable[[Any], Any]
KINDS = ("quadratic", "huber", "quartic", "slab")


def bigsam(
    grad_G: Step,
    grad_F: Step,
    w0: Any,
    *,
    s: Any,
    t: Any,
    alpha: Rate,
    steps: int,
    prox: Step | None = None,
    every: int = 1,
) -> tuple[list[Any], list[Any]]:
    """w_0 … w_K and y_1 … y_K, in any arithmetic and on any leading axes; the library's ``BiGSAM`` as three lines.

    ``alpha(k − 1)`` weighs z_k; ``every`` T: the F-step in every T-th iteration only.
    """
    states, lower = [w0], []
    for k in range(1, steps + 1):
        w = states[-1]
        y = w - s * grad_G(w)
        y = y if prox is None else prox(y)
        weight = 0 if k % every else alpha(k - 1)
        states.append(weight * (w - t * grad_F(w)) + (1 - weight) * y)
        lower.append(y)
    return states, lower


def orthogonal(d: int, seed: int) -> np.ndarray:
    """The Q factor of a Gaussian matrix; the identity for seed 0."""
    if seed == 0:
        return np.eye(d)
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def profile(kind: str, u: np.ndarray, knee: float) -> tuple[np.ndarray, np.ndarray]:
    """h and h' at u."""
    size = np.abs(u)
    if kind == "quadratic":
        return u * u / 2, u
    if kind == "huber":
        return np.where(size <= knee, u * u / 2, knee * (size - knee / 2)), np.clip(u, -knee, knee)
    if kind == "quartic":
        inner = np.clip(u, -1, 1)
        beyond = u - inner
        return inner**4 / 12 + inner**3 / 3 * beyond + beyond**2 / 2, inner**3 / 3 + beyond
    beyond = u - np.clip(u, -knee, knee)
    return beyond * beyond / 2, beyond


@dataclass(frozen=True)
class Case:
    """One problem and one method; ``params`` as in :data:`STRATEGY`, every list cut to d entries."""

    params: Mapping[str, Any]

    @property
    def d(self) -> int:
        return int(self.params["d"])

    @cached_property
    def R(self) -> np.ndarray:
        return orthogonal(self.d, self.params["turn"])

    @cached_property
    def x(self) -> np.ndarray:
        return np.array(self.params["x"][: self.d], dtype=float)

    @property
    def kind(self) -> str:
        return str(self.params["kind"])

    @cached_property
    def spectrum(self) -> np.ndarray:
        """Eigenvalues of Q; all the same for a slab."""
        q = np.array(self.params["q"][: self.d], dtype=float)
        return np.full(self.d, q[0]) if self.kind == "slab" else q

    @cached_property
    def Q(self) -> np.ndarray:
        S = orthogonal(self.d, self.params["tilt"])
        return (S * self.spectrum) @ S.T

    @cached_property
    def a(self) -> np.ndarray:
        return np.array(self.params["a"][: self.d], dtype=float)

    @property
    def sigma(self) -> float:
        return float(self.spectrum.min())

    @property
    def smoothness(self) -> float:
        return float(self.spectrum.max())

    @property
    def s(self) -> float:
        return float(self.params["s"])

    @cached_property
    def t(self) -> float:
        """``share`` of the longest step 2/(σ_F + L_F); ``within`` 1/L_F where that is shorter."""
        longest = 2 / (self.sigma + self.smoothness)
        return float(self.params["share"]) * (min(longest, 1 / self.smoothness) if self.within else longest)

    @property
    def within(self) -> bool:
        return bool(self.params.get("within", False))

    @property
    def gamma(self) -> float:
        return float(self.params["gamma"])

    @cached_property
    def beta(self) -> float:
        """β as the method states it; for longer t what the same formula gives, at least 0."""
        if self.t * (self.sigma + self.smoothness) <= 2:
            return contraction_of(self.sigma, self.smoothness, self.t)
        harmonic = 2 * self.sigma * self.smoothness / (self.sigma + self.smoothness)
        return math.sqrt(max(0.0, 1 - self.t * harmonic))

    @property
    def c(self) -> float:
        """α_k = min{c/k, 1}."""
        return 2 * self.gamma / (1 - self.beta)

    @property
    def alpha(self) -> Rate:
        return Averaging(self.beta, self.gamma)

    def G(self, w: np.ndarray) -> np.ndarray:
        return profile(self.kind, w @ self.R, self.params["knee"])[0] @ self.x

    def grad_G(self, w: np.ndarray) -> np.ndarray:
        return (profile(self.kind, w @ self.R, self.params["knee"])[1] * self.x) @ self.R.T

    def F(self, w: np.ndarray) -> np.ndarray:
        return ((w - self.a) @ self.Q * (w - self.a)).sum(axis=-1) / 2

    def grad_F(self, w: np.ndarray) -> np.ndarray:
        return (w - self.a) @ self.Q

    @cached_property
    def flat(self) -> np.ndarray:
        """Columns that span the directions in which G is constant."""
        return self.R[:, self.x == 0]

    @cached_property
    def solution(self) -> np.ndarray:
        """w_λ: the minimiser of F over those of G, in closed form."""
        if self.kind == "slab":
            u, knee = self.a @ self.R, self.params["knee"]
            return np.asarray(self.R @ np.where(self.x > 0, np.clip(u, -knee, knee), u))
        N = self.flat
        if N.shape[1] == 0:
            return np.zeros(self.d)
        return np.asarray(N @ np.linalg.solve(N.T @ self.Q @ N, N.T @ self.Q @ self.a))

    @cached_property
    def g(self) -> np.ndarray:
        """∇F(w_λ)."""
        return self.grad_F(self.solution)

    @cached_property
    def w0(self) -> np.ndarray:
        return np.asarray(self.solution + self.R @ np.array(self.params["start"][: self.d], dtype=float))

    @cached_property
    def C(self) -> float:
        """max{‖w_0 − w_λ‖, t‖∇F(w_λ)‖/(1 − β)}."""
        return max(self.far, self.t * float(np.linalg.norm(self.g)) / (1 - self.beta))

    @property
    def far(self) -> float:
        return float(np.linalg.norm(self.w0 - self.solution))

    @property
    def J(self) -> int:
        return int(2 / (1 - self.beta))

    @cached_property
    def run(self) -> tuple[np.ndarray, np.ndarray]:
        """w_0 … w_K and y_1 … y_K, stacked."""
        states, lower = bigsam(
            self.grad_G, self.grad_F, self.w0, s=self.s, t=self.t, alpha=self.alpha, steps=self.params["K"]
        )
        return np.array(states), np.array(lower)

    @cached_property
    def ks(self) -> np.ndarray:
        return np.arange(1, self.params["K"] + 1)

    @cached_property
    def distances(self) -> np.ndarray:
        """‖w_k − w_λ‖ for k = 0 … K."""
        return np.asarray(np.linalg.norm(self.run[0] - self.solution, axis=1))

    @cached_property
    def rounding(self) -> float:
        """What K steps, none of which expands, make of 10·d roundings each of numbers as large as these."""
        size = self.far + self.C + float(np.linalg.norm(self.a)) + float(np.linalg.norm(self.solution))
        # the closed form of w_λ is a solve with NᵀQN
        condition = 1 + self.smoothness / self.sigma / self.params["K"]
        return 10 * self.d * self.params["K"] * EPS * size * condition


def worst(observed: Any, bound: Any, rounding: Any, **detail: Any) -> Measurement:
    """The entry that uses the largest share of its bound."""
    observed, bound = np.asarray(observed, float), np.asarray(bound, float)
    rounding = np.broadcast_to(np.asarray(rounding, float), observed.shape)
    tiny = np.finfo(float).tiny
    at = int(np.argmax((observed - rounding) / np.maximum(bound, tiny)))
    return Measurement(
        observed=float(observed[at]),
        bound=float(bound[at]),
        rounding=float(rounding[at]),
        detail={"entry": at, **detail},
    )


# -- hypotheses ---------------------------------------------------------------------------------------------------


def _touches(case: Case) -> tuple[bool, float]:
    return case.c < case.params["K"], case.c


def _lower_step(case: Case) -> tuple[bool, float]:
    return 0 < case.s * float(case.x.max()) <= 1, case.s * float(case.x.max())


def _upper_step(case: Case) -> tuple[bool, float]:
    reached = case.t * (case.sigma + case.smoothness) / 2
    return 0 < reached <= 1 + 4 * EPS, reached


def _away(case: Case) -> tuple[bool, float]:
    return case.C > 0, case.C


TOUCHES = Hypothesis("the schedule touches G", r"\tfrac{2\gamma}{1-\beta} < K", _touches)
LOWER_STEP = Hypothesis("step on G", r"0 < s \le 1/L_G", _lower_step)
UPPER_STEP = Hypothesis("step on F", r"0 < t \le 2/(\sigma_F+L_F)", _upper_step)
AWAY = Hypothesis("not at the solution already", r"C > 0", _away)
STEPS = (TOUCHES, LOWER_STEP, UPPER_STEP, AWAY)
GAMMA = Hypothesis(
    "γ above one half", r"\tfrac12 < \gamma \le 1", lambda case: (0.5 < case.gamma <= 1, case.gamma)
)


def _affine(case: Case) -> tuple[bool, str]:
    return case.kind == "quadratic", case.kind


QUADRATIC = Hypothesis("quadratic lower level", r"G(w) = \tfrac12w^\top Hw", _affine)


# -- strategies ---------------------------------------------------------------------------------------------------


def three(of: Any) -> Any:
    """Three numbers, of which the first d are used."""
    return st.tuples(of, of, of).map(list)


def cases(kinds: tuple[str, ...] = KINDS, *, least: float = 0.0, K: int = 120, **fixed: Any) -> Any:
    """Strategy of parameters; γ > ``least``. ``fixed`` entries replace their own."""
    boxes: dict[str, Any] = {
        "kind": st.sampled_from(kinds),
        "d": st.integers(1, 3),
        "x": three(st.one_of(st.just(0.0), reals(1e-3, 1, log=True))).filter(lambda x: x[0] > 0),
        "q": three(st.sampled_from([1.0, 1.0, 0.25, 2.0, 5.0, 16.0])),
        "knee": reals(1e-2, 2, log=True),
        "turn": st.integers(0, 9),
        "tilt": st.integers(0, 9),
        "a": three(reals(-3, 3)),
        "start": three(st.one_of(st.just(0.0), reals(-2, 2))),
        "s": st.sampled_from([1.0, 1.0, 0.5, 0.1]),
        "share": st.sampled_from([1.0, 1.0, 0.75, 0.5, 0.1]),
        "gamma": reals(least + (1 - least) / 64, 1).map(lambda g: round(g, 6)),
        "K": st.just(K),
    }
    return st.fixed_dictionaries(
        {**boxes, **{k: v if isinstance(v, st.SearchStrategy) else st.just(v) for k, v in fixed.items()}}
    )


def line(**more: Any) -> dict[str, Any]:
    """d = 1: G = ½w², F = ½(w − 1)², w_0 = w_λ = 0, s = t = γ = 1: β = 0 and C = 1; ``more`` changes it."""
    return {
        "kind": "quadratic",
        "d": 1,
        "x": [1.0],
        "q": [1.0],
        "knee": 1.0,
        "turn": 0,
        "tilt": 0,
        "a": [1.0],
        "start": [0.0],
        "s": 1.0,
        "share": 1.0,
        "gamma": 1.0,
        "K": 120,
        **more,
    }


def plane(**more: Any) -> dict[str, Any]:
    """d = 2: G = ½w_1², one flat direction, Q with eigenvalues 1 and 4 on axes turned against G's."""
    return line(
        **{"d": 2, "x": [1.0, 0.0], "q": [1.0, 4.0], "tilt": 3, "a": [1.0, 2.0], "start": [1.0, 1.0], **more}
    )
