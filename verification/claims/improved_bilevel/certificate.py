"""How far a point and a hypergradient of the improved model may be from the true ones, from residuals and constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from verification.claims.improved_bilevel._instances import EPS, orthogonal
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, reals

SOURCE = "improved-bilevel, (3)"


@dataclass(frozen=True)
class Near:
    """G = ½(w − p)ᵀH(w − p), F = ½(w − a)ᵀQ(w − a) in R^d, and a point ŵ = w_λ + ``off``; n = 1.

    H(λ) = H + λH', b(λ) = Hp + λ b' with H' = M H + H Mᵀ and b' = H'p + H m, which keep b in the range of H.
    """

    params: Mapping[str, Any]

    @property
    def d(self) -> int:
        return int(self.params["d"])

    def _numbers(self, name: str) -> np.ndarray:
        return np.array(self.params[name][: self.d], dtype=float)

    @cached_property
    def rank(self) -> int:
        return int((self._numbers("h") > 0).sum())

    @cached_property
    def Q(self) -> np.ndarray:
        S = orthogonal(self.d, self.params["tilt"])
        return np.asarray((S * self._numbers("q")) @ S.T)

    @property
    def sigma(self) -> float:
        return float(self._numbers("q").min())

    @property
    def L(self) -> float:
        return float(self._numbers("q").max())

    @cached_property
    def basis(self) -> tuple[np.ndarray, np.ndarray]:
        """Bases of the range and the null space of H."""
        R = self.turned
        return R[:, self._numbers("h") > 0], R[:, self._numbers("h") == 0]

    @cached_property
    def turned(self) -> np.ndarray:
        """A rotation by ``angle`` in the first two coordinates."""
        R = np.eye(self.d)
        if self.d > 1:
            c, s = np.cos(self.params["angle"]), np.sin(self.params["angle"])
            R[:2, :2] = [[c, -s], [s, c]]
        return R

    @cached_property
    def H(self) -> np.ndarray:
        return np.asarray((self.turned * self._numbers("h")) @ self.turned.T)

    @property
    def least(self) -> float:
        """h, the least eigenvalue of H that is not 0, as stated."""
        h = self._numbers("h")
        return float(h[h > 0].min()) * self.params.get("overstated", 1.0)

    @cached_property
    def solution(self) -> np.ndarray:
        """w_λ: p plus what F wants along the flat directions."""
        N, p = self.basis[1], self._numbers("p")
        if not N.size:
            return p
        return np.asarray(p + N @ np.linalg.solve(N.T @ self.Q @ N, N.T @ self.Q @ (self._numbers("a") - p)))

    @cached_property
    def near(self) -> np.ndarray:
        return np.asarray(self.solution + self._numbers("off"))

    def slope(self, w: np.ndarray) -> np.ndarray:
        """∇_wF."""
        return np.asarray(self.Q @ (w - self._numbers("a")))

    @cached_property
    def residuals(self) -> tuple[float, float]:
        """‖∇_wG(ŵ)‖ and ‖Nᵀ∇_wF(ŵ)‖."""
        lower, upper = self.H @ (self.near - self._numbers("p")), self.basis[1].T @ self.slope(self.near)
        return float(np.linalg.norm(lower)), float(np.linalg.norm(upper))

    def distance(self, kappa: Callable[[float, float], float] | None = None, flat: int = 1) -> float:
        """E = (L + σ)/(2√(Lσ)) ‖r‖/h + ‖ρ‖/σ, the bound of ‖ŵ − w_λ‖."""
        kappa = kappa or (lambda L, sigma: (L + sigma) / (2 * np.sqrt(L * sigma)))
        r, rho = self.residuals
        return float(kappa(self.L, self.sigma)) * r / self.least + flat * rho / self.sigma

    @property
    def rounding(self) -> float:
        """10·d·eps × the sizes of the points × the condition numbers of H on its range and of Q."""
        h = self._numbers("h")
        size = sum(float(np.linalg.norm(x)) for x in (self.near, self._numbers("a"), self._numbers("p")))
        return 10 * self.d * EPS * (1 + size) * (1 + h.max() / self.least) * (self.L / self.sigma)

    # the hypergradient: F does not depend on λ

    @cached_property
    def moved(self) -> tuple[np.ndarray, np.ndarray]:
        """H' and b'."""
        M = np.random.default_rng(self.params["tilt"]).uniform(-1, 1, (self.d, self.d))
        turn = M @ self.H + self.H @ M.T
        return turn, turn @ self._numbers("p") + self.H @ M[0]

    def hypergradient(self, w: np.ndarray, extra: float = 0.0) -> tuple[float, np.ndarray, float]:
        """−cross v̂ with v̂ = H⁺∇_wF(w) + extra·Hu in the range of H; cross at w; ‖H v̂ − P∇_wF‖, P onto that range."""
        U = self.basis[0]
        v = U @ np.linalg.solve(U.T @ self.H @ U, U.T @ self.slope(w)) + extra * self.H @ np.ones(self.d)
        turn, b = self.moved
        cross = turn @ w - b
        left = U.T @ (self.H @ v - self.slope(w))
        return float(-cross @ v), cross, float(np.linalg.norm(left))


def of_point(**options: Any) -> Callable[[Near], Measurement]:
    """‖ŵ − w_λ‖ <= E."""

    def measure(near: Near) -> Measurement:
        gap = float(np.linalg.norm(near.near - near.solution))
        return Measurement(observed=gap, bound=near.distance(**options), rounding=near.rounding)

    return measure


def of_hypergradient(points: int = 1, adjoint: int = 1, crosses: int = 1) -> Callable[[Near], Measurement]:
    """|ĝ − ∇f| <= ‖H'‖E(‖g‖ + L E)/h + ‖cross‖(L E + ‖r_v‖)/h; mutants leave a part out."""

    def measure(near: Near) -> Measurement:
        extra = float(near.params["extra"])
        true, *_ = near.hypergradient(near.solution)
        found, cross, left = near.hypergradient(near.near, extra)
        E, g = near.distance(), float(np.linalg.norm(near.slope(near.near)))
        spread = float(np.linalg.norm(near.moved[0], 2))
        of_cross = crosses * spread * E * (g + near.L * E)
        of_adjoint = float(np.linalg.norm(cross)) * (points * near.L * E + adjoint * left)
        rounding = (
            near.rounding
            * (1 + spread)
            * (1 + g)
            * (1 + float(np.linalg.norm(cross)))
            * (1 + near.L)
            / near.least
        )
        return Measurement(
            observed=abs(found - true), bound=(of_cross + of_adjoint) / near.least, rounding=rounding
        )

    return measure


def _stated(near: Near) -> tuple[bool, float]:
    return near.params.get("overstated", 1.0) <= 1, near.params.get("overstated", 1.0)


def of(h: list[float], off: list[float], q: list[float], angle: float = 0.0, **more: Any) -> dict[str, Any]:
    """Parameters of one point near a solution."""
    d = len(h)
    base = {
        "d": d,
        "h": h,
        "off": off,
        "q": q,
        "angle": angle,
        "tilt": 0,
        "a": [1.0] * d,
        "p": [0.5] * d,
        "extra": 0.0,
    }
    return {**base, **more}


def three(of: Any) -> Any:
    """Three numbers, of which the first d are used."""
    return st.tuples(of, of, of).map(list)


# H = n nᵀ and Q = diag(1, 4): ‖Π‖ = 5/4 is attained at n = (−1, 2)/√5, Πn = √5/4 (−2, 1)
WORST = of(
    [1.0, 0.0],
    [-(5**0.5) / 2, 5**0.5 / 4],
    [1.0, 4.0],
    float(np.pi / 2 + np.arctan2(1, 2)),
)
STRATEGY = st.fixed_dictionaries(
    {
        "d": st.integers(1, 3),
        "h": st.tuples(reals(0.1, 2), *[st.one_of(st.just(0.0), reals(0.1, 2))] * 2).map(list),
        "q": three(reals(0.2, 5)),
        "angle": reals(0, 3.1),
        "tilt": st.integers(0, 9),
        "a": three(reals(-2, 2)),
        "p": three(reals(-2, 2)),
        "off": three(st.one_of(st.just(0.0), reals(-1, 1))),
        "extra": st.sampled_from([0.0, 0.0, 0.01, 1.0]),
    }
)
KNOWN = Hypothesis("h", r"h \le \text{every eigenvalue of } H \text{ that is not } 0", _stated)
COMMON: dict[str, Any] = {
    "source": SOURCE,
    "hypotheses": (KNOWN,),
    "strategy": STRATEGY,
    "build": lambda params: Near(dict(params)),
    "grade": "exact",
}

CLAIMS = (
    Claim(
        id="improved-bilevel/improved-hypergradient@point",
        title="How far a point is from the improved model's solution, from two residuals and three constants",
        statement=r"\|\hat w - w_\lambda\| \le "
        r"\frac{L_F+\sigma_F}{2\sqrt{L_F\sigma_F}}\,\frac{\|\nabla_wG(\hat w)\|}{h} + "
        r"\frac{\|N^\top\nabla_wF(\hat w)\|}{\sigma_F}",
        **COMMON,
        explicit=(of([1.0], [0.5], [1.0]), WORST, of([1.0, 0.0, 0.5], [0.1, 0.2, 0.3], [1.0, 4.0, 2.0], 0.7)),
        measure=of_point(),
        controls=(
            Control("h overstated", params={**WORST, "overstated": 1.25}),
            Control(
                "1 for (κ + 1)/(2√κ)",
                kind="formula",
                measure=of_point(kappa=lambda L, sigma: 1.0),
                params=WORST,
            ),
            Control("without F's residual", kind="formula", measure=of_point(flat=0)),
            Control(
                "half the first constant",
                kind="formula",
                measure=of_point(kappa=lambda L, sigma: (L + sigma) / (4 * np.sqrt(L * sigma))),
            ),
        ),
        equality=Equality(params=WORST, reaches=0.999),
        budget=Budget(quick=80, full=3000),
        notes="$\\hat w - w_\\lambda = \\Pi H^+r + N(N^\\top QN)^{-1}\\rho$, $\\Pi = I - N(N^\\top "
        "QN)^{-1}N^\\top Q$ the $Q$-orthogonal projection along $\\ker H$, whose norm is at most "
        "$(\\kappa+1)/(2\\sqrt\\kappa)$, $\\kappa = L_F/\\sigma_F$. For a general $F$ the same with $\\bar Q "
        "= \\int\\nabla^2_{ww}F$ along the segment. With $h$, $\\sigma_F$, $L_F$ proved this is an "
        "enclosure. Equality: $Q = \\mathrm{diag}(1, 4)$, $\\frac54$.",
    ),
    Claim(
        id="improved-bilevel/improved-hypergradient@certificate",
        title="How far an inexact hypergradient of the improved model is from the true one",
        statement=r"$$|\hat g - \nabla f| \le \frac{\|\partial_\lambda H\|\,E\,(\|\nabla_wF(\hat w)\| + L_FE) "
        r"+ \|\nabla^2_{\lambda w}G(\hat w)\|\,(L_FE + \|r_v\|)}{h}$$ $$\|\hat w - w_\lambda\| \le E,\quad "
        r"\hat v \in \mathrm{range}\,H,\quad r_v = H\hat v - P\nabla_wF(\hat w)$$",
        **COMMON,
        explicit=(
            of([1.0], [0.5], [1.0]),
            of([1.0, 0.0], [0.1, 0.2], [1.0, 4.0], 0.7, extra=0.1),
            of([1.0, 0.0, 0.5], [0.1, 0.2, 0.3], [1.0, 4.0, 2.0], 0.7),
        ),
        measure=of_hypergradient(),
        controls=(
            Control("h overstated", params=of([0.5], [0.0], [1.0], extra=1.0, overstated=4.0)),
            Control("without the adjoint's residual", kind="formula", measure=of_hypergradient(adjoint=0)),
            Control(
                "without the move of ∇F",
                kind="formula",
                measure=of_hypergradient(points=0),
                params=of([1.0], [0.01], [1.0], a=[0.5]),
            ),
            Control(
                "without the move of the cross derivative",
                kind="formula",
                measure=of_hypergradient(crosses=0),
            ),
        ),
        equality=Equality(params=of([1.0], [0.5], [1.0]), reaches=0.999),
        budget=Budget(quick=80, full=3000),
        notes="$F$ does not depend on $\\lambda$ here; else $L^F_{\\lambda w}E$ is added. The adjoint must "
        "be projected onto the range of $H$: off $\\mathrm{Argmin}\\,G$ the cross derivative sees the flat "
        "directions. For a $G$ that is not quadratic $\\|\\partial_\\lambda H\\|$ is a Lipschitz constant of "
        "the cross derivative in $w$. Equality: one variable, $\\hat w$ at the minimiser of $F$.",
    ),
)
