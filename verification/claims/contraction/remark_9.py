r"""Remark 9: what warm start puts in the place of B, in Theorem 8 and without noise.

Iteration s runs t steps (6) at λ_s, from where iteration s−1 ended. With e_s = E‖w − w(λ_s)‖² at its end,
√(E‖w_0 − w(λ_s)‖²) <= √e_{s−1} + ‖w(λ_s) − w(λ_{s−1})‖ (Minkowski) <= √e_{s−1} + L_w‖λ_s − λ_{s−1}‖, L_w = L_Φκ_q:
that is the B of iteration s, and only the first iteration has one of its own; ‖λ_s − λ_{s−1}‖ <= α‖g_{s−1}‖ is the
dependence on the upper step. Without noise, at η = 1, the recursion unrolls: remark 19.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl import FixedPointProblem
from refimpl.approximate.sid_stages import Propagation
from refimpl.approximate.stochastic import SID
from refimpl.arrays import backend
from refimpl.arrays.backend import Array
from refimpl.exact import solve_lower
from refimpl.moments import Moments, mean_and_second
from refimpl.zoo.maps import AffineMap
from refimpl.zoo.uppers import linear
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, reals

RATIONAL = backend("rational")
EPS = float(np.finfo(float).eps)

# -- with noise -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Warm:
    """Φ̂ = Aw + Bλ ± noise, ‖A‖ <= q and ‖B‖ <= L_Φ as stated; λ_0, …, λ_S; t steps η of each iteration."""

    problem: FixedPointProblem
    q: float
    L_Phi: float
    sigma1: float
    eta: float
    t: int
    lams: Array
    w0: Array
    B: float  # ‖w_0 − w(λ_0)‖ as stated

    @cached_property
    def solutions(self) -> Array:
        """w(λ_s)."""
        return solve_lower(self.problem, self.lams).w

    def errors(self, warm: bool = True) -> list[float]:
        """E‖w − w(λ_s)‖² after iteration s = 0, …, S, by moments; else every iteration begins at w_0.

        As errors the recursion is one and the same for every λ: λ and the noise are only added.
        """
        sid, B = SID(t=self.t, k=0, rate=self.eta), self.problem.backend
        step = Propagation.of(sid, self.problem, self.lams[0], self.w0, None, None).lower_recursion()
        now = Moments.at(B, self.w0 - self.solutions[0])
        found: list[float] = []
        for s, solution in enumerate(self.solutions):
            if s:
                drifted = now.about(solution - self.solutions[s - 1])
                now = drifted if warm else Moments.at(B, self.w0 - solution)
            now = mean_and_second(step, now, self.t)
            found.append(float(now.mean_square))
        return found

    def bounds(self, drift: float = 1.0, forget: bool = False) -> list[float]:
        """(13) with B at first, then with √e_{s−1} + L_w‖λ_s − λ_{s−1}‖ in its place."""
        gain, L_w = 1 - self.q**2, self.L_Phi / (1 - self.q)
        shrink, floor = (1 - self.eta * gain) ** self.t, self.eta * self.sigma1 / gain
        found: list[float] = []
        start = self.B
        for s in range(len(self.lams)):
            if s:
                moved = drift * L_w * float(np.linalg.norm(self.lams[s] - self.lams[s - 1]))
                start = (0.0 if forget else math.sqrt(found[-1])) + moved
            found.append(shrink * (start**2 - floor) + floor)
        return found


def warm(p: dict[str, Any]) -> Warm:
    """‖A‖ = q; λ a random walk of step ``pace``, or a line."""
    d, n, rng = p["d"], p["n"], np.random.default_rng(p["seed"])
    left, right = (np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2))
    A = p["q"] * (np.eye(d) if p["aligned"] else (left * np.linspace(1, 0.5, d)) @ right.T)
    C = np.ones((1, 1)) if p["aligned"] else rng.standard_normal((d, n))
    u = p["noise"] * left[:, 0]
    phi = AffineMap(np.stack([A, A]), np.stack([C, C]), np.stack([u, -u]))
    problem = FixedPointProblem(linear(np.ones(d), n=n), phi)
    steps = p["pace"] * (np.ones((p["S"], n)) if p["aligned"] else rng.standard_normal((p["S"], n)))
    lams = np.concatenate([np.zeros((1, n)), np.cumsum(steps, axis=0)])
    w0 = p["B"] * right[:, 0]  # w(0) = 0
    stated = p.get("stated", {})
    L_Phi = float(np.linalg.norm(C, 2)) * stated.get("L_Phi", 1.0)
    q, sigma1 = p["q"] * stated.get("q", 1.0), p["noise"] ** 2 * stated.get("sigma1", 1.0)
    return Warm(problem, q, L_Phi, sigma1, p["eta"], p["t"], lams, w0, p["B"] * stated.get("B", 1.0))


def after(drift: float = 1.0, forget: bool = False, warm: bool = True) -> Callable[[Warm], Measurement]:
    """The error after the last iteration."""

    def measure(one: Warm) -> Measurement:
        observed, bound = one.errors(warm)[-1], one.bounds(drift, forget)[-1]
        size = float(np.max(np.sum(one.solutions**2, axis=1))) + one.B**2 + one.sigma1
        # second moments of d + 1 coordinates, moved to and fro between solutions: S t steps of sums of (d+1)² terms
        terms = 10 * len(one.lams) * one.t * (one.problem.d + 1) ** 2
        rounding = terms * EPS * size * (1 + 1 / (1 - one.q) ** 2)
        return Measurement(observed=observed, bound=bound, rounding=rounding)

    return measure


def _contracts(one: Warm) -> tuple[bool, float]:
    norm = float(np.linalg.norm(one.problem.phi.d_w(one.lams[0], one.w0).dense(), 2))
    return norm <= one.q + 10 * one.problem.d * EPS and one.q < 1, norm


def _bounded(one: Warm) -> tuple[bool, float]:
    norm = float(np.linalg.norm(one.problem.phi.d_lam(one.lams[0], one.w0).dense(), 2))
    return norm <= one.L_Phi * (1 + 10 * one.problem.d * EPS), norm


def _noise(one: Warm) -> tuple[bool, float]:
    phi = one.problem.phi
    assert isinstance(phi, AffineMap)
    spread = float(np.mean(np.sum((phi.c - np.mean(phi.c, axis=0)) ** 2, axis=1)))
    return spread <= one.sigma1 * (1 + 10 * one.problem.d * EPS), spread


def _near(one: Warm) -> tuple[bool, float]:
    distance = float(np.linalg.norm(one.w0 - one.solutions[0]))
    return distance <= one.B + 10 * one.problem.d * EPS * (1 + one.B), distance


def _short(one: Warm) -> tuple[bool, float]:
    return one.eta <= 1, one.eta


# -- claims -----------------------------------------------------------------------------------------------

LINE = {
    "d": 1, "n": 1, "seed": 0, "aligned": True, "q": 0.5, "noise": 0.0, "eta": 1.0, "t": 1, "S": 4,
    "pace": 1.0, "B": 1.0,
}  # fmt: skip
NOISY = {**LINE, "noise": 0.5, "eta": 0.5}
PLANE = {**NOISY, "d": 2, "n": 2, "aligned": False, "t": 2}
CLAIMS = (
    Claim(
        id="contraction/remark-9",
        title="With warm start the last error and the move of λ take the place of B in the lower rate",
        source="contraction, Remark 9; Theorem 8, (13)",
        statement=r"\mathbb E\|w-w(\lambda_s)\|^2\le e_s,\quad e_s=(1-\eta(1-q^2))^t"
        r"\Bigl((\sqrt{e_{s-1}}+L_\Phi\kappa_q\|\lambda_s-\lambda_{s-1}\|)^2-\frac{\eta\sigma_1}{1-q^2}"
        r"\Bigr)+\frac{\eta\sigma_1}{1-q^2},\quad e_0\text{ by (13)}",
        hypotheses=(
            Hypothesis("A(i)", r"\|\partial_1\Phi\|\le q<1", _contracts),
            Hypothesis("B(iv)", r"\|\partial_2\Phi\|\le L_\Phi", _bounded),
            Hypothesis("C(ii)", r"\mathbb V[\hat\Phi]\le\sigma_1\;(\sigma_2=0)", _noise),
            Hypothesis("w₀", r"\|w_0-w(\lambda_0)\|\le B", _near),
            Hypothesis("the steps", r"\eta\le1", _short),
        ),
        strategy=st.fixed_dictionaries(
            {
                "d": st.integers(1, 3),
                "n": st.integers(1, 2),
                "seed": st.integers(0, 999),
                "aligned": st.just(False),
                "q": reals(0, 0.9),
                "noise": st.sampled_from([0.0, 0.25, 1.0]),
                "eta": reals(0.25, 1),
                "t": st.integers(1, 4),
                "S": st.integers(1, 4),
                "pace": st.sampled_from([0.0, 0.25, 1.0, 4.0]),
                "B": st.sampled_from([0.0, 1.0, 4.0]),
            }
        ),
        explicit=(LINE, NOISY, PLANE),
        build=warm,
        measure=after(),
        grade="exact",
        controls=(
            Control("L_Φ stated too small", params={**LINE, "B": 0.0, "stated": {"L_Phi": 0.5}}),
            Control("q stated too small", params={**LINE, "stated": {"q": 0.5}}),
            Control(
                "σ₁ stated too small",
                params={**LINE, "noise": 1.0, "pace": 0.0, "B": 0.0, "stated": {"sigma1": 0.5}},
            ),
            Control("B stated too small", params={**LINE, "pace": 0.0, "stated": {"B": 0.5}}),
            Control("half of the drift", kind="formula", measure=after(drift=0.5), params={**LINE, "B": 0.0}),
            Control(
                "the last error forgotten",
                kind="formula",
                measure=after(forget=True),
                params={**LINE, "B": 0.0},
            ),
            Control(
                "cold start",
                kind="formula",
                measure=after(warm=False),
                params={**LINE, "B": 0.0, "q": 0.25, "S": 8},
            ),
        ),
        equality=Equality(params={**LINE, "B": 0.0}, reaches=0.999),
        budget=Budget(quick=4, full=150),
        notes=r"Exact second moments along the whole sequence of $\lambda_s$, any sequence. So the rates "
        r"depend on $\|\lambda_s-\lambda_{s-1}\|\le\alpha\|g_{s-1}\|$, on the upper step, as the remark "
        r"says, and on $B$ in the first iteration only. Equality: $\Phi=qw+\lambda$ and $\lambda$ that "
        r"keeps its direction. A cold start, $w_0$ the same in every iteration, exceeds it where $\lambda$ "
        r"wanders off (control). Without noise: remark-19.",
    ),
)
