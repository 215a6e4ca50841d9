"""(12), Tikhonov's proxy argmin G + εF: how far it is from w_λ, and where it is w_λ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

import refimpl as ri
from refimpl import BilevelProblem
from refimpl.approximate.penalty import tikhonov
from refimpl.exact.lower import solve_lower
from refimpl.zoo.quadratic import Quadratic
from verification.claims.improved_bilevel._moving import RATIONAL, inverse
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement, identity

SOURCE = "improved-bilevel, (12)"


def rational(rows: Any) -> np.ndarray:
    """Small integers or pairs' quotients as an array of rationals."""
    return np.asarray(RATIONAL.asarray(np.asarray(rows, dtype=float)))


def quadratic(A: np.ndarray, centre: np.ndarray) -> Quadratic:
    """½(w − centre)ᵀA(w − centre) without its constant, over the rationals; n = 1, and λ moves nothing."""
    d = len(centre)
    zero = [RATIONAL.zeros(shape) for shape in ((1, 1, d), (1, 1, 1), (1, 1))]
    return Quadratic(A[None], zero[0], zero[1], (-A @ centre)[None], zero[2], RATIONAL)


@dataclass(frozen=True)
class Spectral:
    """Q = LLᵀ, H = L R diag(h) RᵀLᵀ, R orthogonal over the rationals: h are the eigenvalues of Q^{-1/2}HQ^{-1/2}.

    ``params``: d, h (as many as d are used, one at least not 0), seed, eps a pair; ``overstated``: a factor on h_min.
    """

    params: Mapping[str, Any]

    @property
    def d(self) -> int:
        return int(self.params["d"])

    @cached_property
    def h(self) -> list[fmpq]:
        return [fmpq(x) for x in self.params["h"][: self.d]]

    @cached_property
    def extremes(self) -> tuple[fmpq, fmpq]:
        """The least (as stated) and the largest of the h that are not 0."""
        nonzero = [x for x in self.h if x]
        return self.params.get("overstated", 1) * min(nonzero), max(nonzero)

    @cached_property
    def eps(self) -> fmpq:
        return fmpq(*self.params["eps"])

    @cached_property
    def problem(self) -> BilevelProblem:
        rng, d = np.random.default_rng(self.params["seed"]), self.d
        L = rational(np.tril(rng.integers(-1, 2, (d, d)), -1) + np.eye(d) * rng.integers(1, 3, d))
        v = rational(rng.integers(1, 3, d))
        R = rational(np.eye(d)) - 2 * v[:, None] * v / (v @ v)
        H = L @ R @ (np.array(self.h, dtype=object)[:, None] * R.T) @ L.T
        upper = quadratic(L @ L.T, rational(rng.integers(-3, 4, d)))
        return BilevelProblem(upper, quadratic(H, rational(rng.integers(-2, 3, d))))

    @cached_property
    def lam(self) -> np.ndarray:
        return rational([0])

    @cached_property
    def solution(self) -> np.ndarray:
        return np.asarray(ri.exact.solve_simple(self.problem, self.lam).w)

    @cached_property
    def proxy(self) -> np.ndarray:
        return np.asarray(solve_lower(tikhonov(self.problem, Fraction(*self.params["eps"])), self.lam).w)

    @cached_property
    def sizes(self) -> tuple[fmpq, fmpq]:
        """‖w_ε − w_λ‖²_Q and ‖g‖²_{Q⁻¹}, g = ∇F(w_λ)."""
        Q = self.problem.upper.hess_ww(self.lam, self.solution).dense()
        off, g = self.proxy - self.solution, self.problem.upper.grad_w(self.lam, self.solution)
        return off @ Q @ off, g @ inverse(Q) @ g


def two_sided(
    upper: Callable[[fmpq, fmpq, fmpq], fmpq] = lambda eps, least, most: eps / (least + eps),
    lower: Callable[[fmpq, fmpq, fmpq], fmpq] = lambda eps, least, most: eps / (most + eps),
) -> Callable[[Spectral], Measurement]:
    """The side of lower ‖g‖ <= ‖w_ε − w_λ‖ <= upper ‖g‖ that is nearer, squared."""

    def measure(s: Spectral) -> Measurement:
        (off, g), at = s.sizes, (s.eps, *s.extremes)
        above, below = (off, upper(*at) ** 2 * g), (lower(*at) ** 2 * g, off)
        observed, bound = max(above, below, key=lambda side: side[0] / side[1] if side[1] else fmpq(0))
        return Measurement(observed=observed, bound=bound)

    return measure


def against_eps(s: Spectral) -> dict[str, Any]:
    """‖w_ε − w_λ‖_Q against the upper bound, for ε from 4⁻⁶ to 4⁶."""
    powers = range(-6, 7)
    at = [Spectral({**s.params, "eps": [4**k, 1] if k >= 0 else [1, 4**-k]}) for k in powers]
    upper = [float(x.eps / (x.extremes[0] + x.eps)) * float(x.sizes[1]) ** 0.5 for x in at]
    measured = [float(x.sizes[0]) ** 0.5 for x in at]
    axes = {"xlabel": "ε", "ylabel": "distance from the solution", "logx": True, "logy": True}
    return {"x": [float(x.eps) for x in at], "predicted": upper, "measured": measured, **axes}


def _stated(s: Spectral) -> tuple[bool, Any]:
    return s.extremes[0] <= min(x for x in s.h if x), str(s.extremes[0])


def spectral(params: Mapping[str, Any]) -> Spectral:
    """The problem of these parameters."""
    return Spectral(dict(params))


def of(*h: int, seed: int = 0, eps: tuple[int, int] = (1, 2), **more: Any) -> dict[str, Any]:
    """Parameters: all h, then seed, ε and what is overstated."""
    return {"d": len(h), "h": list(h), "seed": seed, "eps": list(eps), **more}


# -- powers: no order that holds for every G -----------------------------------------------------------------------


@dataclass(frozen=True)
class Power:
    """G = w^{2p}/(2p), F = ½(w − 1)², w_λ = 0: w_ε = 1/m where ε = 1/(m^{2p−2}(m − 1))."""

    params: Mapping[str, Any]

    def at(self, m: int) -> tuple[fmpq, fmpq]:
        """ε and w_ε."""
        p = self.params["p"]
        return fmpq(1, m ** (2 * p - 2) * (m - 1)), fmpq(1, m)

    def slope(self, m: int) -> fmpq:
        """d(G + εF)/dw there: 0."""
        eps, w = self.at(m)
        return w ** (2 * self.params["p"] - 1) + eps * (w - 1)


def linear(power: Power) -> Measurement:
    """w_ε <= C ε with C from m = 2."""
    first, here = power.at(2), power.at(power.params["m"])
    return Measurement(observed=here[1], bound=first[1] / first[0] * here[0])


def values(parts: int = 1) -> Callable[[Power], Measurement]:
    """G(w_ε) − min G <= ε(F(w_λ) − F(w_ε)); mutant: a part of the right side."""

    def measure(power: Power) -> Measurement:
        p, (eps, w) = power.params["p"], power.at(power.params["m"])
        return Measurement(observed=w ** (2 * p) / (2 * p), bound=eps * (1 - (w - 1) ** 2) / (2 * parts))

    return measure


# -- polyhedral G --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """G = c·w on [0, 1]^d (a linear program), F = ½‖w − a/2‖²; ε is ``share``, a pair, of the threshold."""

    params: Mapping[str, Any]

    @cached_property
    def c(self) -> list[fmpq]:
        return [fmpq(x) for x in self.params["c"]]

    @cached_property
    def a(self) -> list[fmpq]:
        return [fmpq(x, 2) for x in self.params["a"]]

    @cached_property
    def solution(self) -> list[fmpq]:
        """0 or 1 where c is not 0, else a's nearest."""
        return [clip(a) if not c else fmpq(c < 0) for c, a in zip(self.c, self.a, strict=True)]

    @cached_property
    def threshold(self) -> fmpq:
        """The least |c_i|/|w_i − a_i| over the coordinates that F draws away from their end; 1 where none is."""
        drawn = [(c, w - a) for c, w, a in zip(self.c, self.solution, self.a, strict=True) if c * (w - a) < 0]
        return min((-c / off for c, off in drawn), default=fmpq(1))

    @cached_property
    def eps(self) -> fmpq:
        return fmpq(*self.params["share"]) * self.threshold

    def proxy(self) -> list[fmpq]:
        """argmin of G + εF on the box, coordinate by coordinate."""
        return [clip(a - c / self.eps) for c, a in zip(self.c, self.a, strict=True)]

    def step(self, w: list[fmpq], s: fmpq) -> list[fmpq]:
        """P(w − s∇(G + εF)): w_ε is its fixed point."""
        return [clip(x - s * (c + self.eps * (x - a))) for x, c, a in zip(w, self.c, self.a, strict=True)]


def clip(x: fmpq) -> fmpq:
    """The nearest number in [0, 1]."""
    return max(fmpq(0), min(fmpq(1), x))


def exact_at(w: Callable[[Program], list[fmpq]] = lambda p: p.solution) -> Callable[[Program], Measurement]:
    """w_ε, and a projected step from w_λ, against w_λ; mutants: another point."""

    def measure(p: Program) -> Measurement:
        return identity([p.proxy(), p.step(w(p), fmpq(1, 3))], [w(p), w(p)])

    return measure


def _below(p: Program) -> tuple[bool, Any]:
    return p.eps <= p.threshold, f"{p.eps} against {p.threshold}"


def lp(c: list[int], a: list[int], share: tuple[int, int] = (1, 1)) -> dict[str, Any]:
    """Parameters of one linear program."""
    return {"c": c, "a": a, "share": list(share)}


SMALL = st.tuples(*[st.integers(-3, 3)] * 3).map(list)
SHARES = ([1, 1], [1, 2], [1, 10])
COMMON: dict[str, Any] = {"source": SOURCE, "grade": "proved"}

CLAIMS = (
    Claim(
        id="improved-bilevel/tikhonov",
        title="On quadratics Tikhonov's error is of order ε: both sides",
        statement=r"$$\frac{\varepsilon}{h_{\max}+\varepsilon}\|g\|_{Q^{-1}} \le \|w_\varepsilon - "
        r"w_\lambda\|_Q \le \frac{\varepsilon}{h_{\min}+\varepsilon}\|g\|_{Q^{-1}}$$ $$g = "
        r"\nabla_wF(w_\lambda),\quad h = \text{eigenvalues other than 0 of } Q^{-1/2}HQ^{-1/2}$$",
        **COMMON,
        hypotheses=(Hypothesis("h_min", r"h_{\min} \le \text{every } h_i \ne 0", _stated),),
        strategy=st.fixed_dictionaries(
            {
                "d": st.integers(1, 3),
                "h": st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)).map(list),
                "seed": st.integers(0, 999),
                "eps": st.sampled_from(([1, 1000], [1, 10], [1, 1], [10, 1])),
            }
        ),
        explicit=(of(1), of(1, 0), of(4, 1, 0, seed=1), of(9, 3, 1, seed=2, eps=(1, 1000))),
        build=spectral,
        measure=two_sided(),
        controls=(
            Control("h_min overstated", params=of(2, 0, seed=1, overstated=2)),
            Control(
                "h_max in the upper bound",
                kind="formula",
                measure=two_sided(upper=lambda eps, least, most: eps / (most + eps)),
                params=of(9, 1, 0, seed=1),
            ),
            Control(
                "ε dropped from the lower denominator",
                kind="formula",
                measure=two_sided(lower=lambda eps, least, most: eps / most),
            ),
            Control(
                "ε² for ε",
                kind="formula",
                measure=two_sided(upper=lambda eps, least, most: eps**2 / (least + eps)),
            ),
        ),
        equality=Equality(params=of(3, 0, seed=1), reaches=1.0),
        curve=against_eps,
        budget=Budget(quick=25, full=1500),
        notes="In $u = Q^{1/2}w$, $\\tilde H = Q^{-1/2}HQ^{-1/2}$: $u_\\varepsilon - u_\\lambda = "
        "-\\varepsilon(\\tilde H + \\varepsilon)^{-1}\\tilde g$, and $\\tilde g$ lies in the range of "
        "$\\tilde H$. So the error is 0 only where $g = 0$. Equality: one $h_i \\ne 0$. A third channel for "
        "$w_\\lambda$: the KKT system, Tikhonov's limit, BiG-SAM.",
    ),
    Claim(
        id="improved-bilevel/tikhonov@order",
        title="Nobody prints this: for every convex G Tikhonov's error is of order ε",
        statement=r"\|w_\varepsilon - w_\lambda\| \le C\varepsilon, \quad C \text{ from the first } "
        r"\varepsilon",
        **COMMON,
        strategy=st.fixed_dictionaries({"p": st.integers(2, 4), "m": st.integers(3, 40)}),
        explicit=({"p": 2, "m": 3}, {"p": 3, "m": 3}, {"p": 2, "m": 100}),
        build=lambda params: Power(dict(params)),
        measure=linear,
        controls=(Control("a tenth of the right side", kind="formula", measure=values(10)),),
        corrected=Correction(
            tex=r"G(w_\varepsilon) - \min G \le \varepsilon\,(F(w_\lambda) - F(w_\varepsilon))",
            measure=values(),
            proof="$w_\\varepsilon$ minimises $G + \\varepsilon F$: compare with $w_\\lambda$. $G = "
            "\\frac14w^4$, $F = \\frac12(w-1)^2$: $w_\\varepsilon^3 = \\varepsilon(1 - w_\\varepsilon)$, so "
            "the error is of order $\\varepsilon^{1/3}$, and $\\varepsilon^{1/(2p-1)}$ for $w^{2p}$: no "
            "exponent holds for every $G$.",
        ),
        budget=Budget(quick=60, full=110),
        notes="Nobody prints this: a reading that takes the quadratics' order for every convex G. "
        "With quadratic growth $G - \\min G \\ge \\frac\\sigma2\\mathrm{dist}^2$ the distance from "
        "Argmin G is at most $2\\varepsilon\\|\\nabla F\\|/\\sigma$.",
    ),
    Claim(
        id="improved-bilevel/tikhonov@polyhedral",
        title="On a linear program Tikhonov's solution is exact below a threshold, and only below it",
        statement=r"$$G = c^\top w \text{ on } [0,1]^d,\ F = \tfrac12\|w - a\|^2:\quad w_\varepsilon = "
        r"w_\lambda \text{ for } \varepsilon \le \min_i\frac{|c_i|}{|w_{\lambda,i} - a_i|}$$ over the $i$ "
        r"where $F$ draws away from the end that $c_i$ wants",
        **COMMON,
        hypotheses=(Hypothesis("ε below the threshold", r"\varepsilon \le \bar\varepsilon", _below),),
        strategy=st.fixed_dictionaries({"c": SMALL, "a": SMALL, "share": st.sampled_from(SHARES)}),
        explicit=(lp([1], [2]), lp([1, 0], [2, 1]), lp([-1, 2, 0], [0, 3, -1], (1, 2))),
        build=lambda params: Program(dict(params)),
        measure=exact_at(),
        controls=(
            Control("ε 1 % above the threshold", params=lp([1, 0], [2, 1], (101, 100))),
            Control(
                "the minimiser of F on the box",
                kind="formula",
                measure=exact_at(lambda p: [clip(a) for a in p.a]),
            ),
            Control(
                "the program's vertex at 0", kind="formula", measure=exact_at(lambda p: [fmpq(0)] * len(p.a))
            ),
        ),
        budget=Budget(quick=100, full=2000),
        notes="Ferris and Mangasarian. In general $G - \\min G \\ge \\kappa\\,\\mathrm{dist}(w, "
        "\\mathrm{Argmin}\\,G)$ and $\\varepsilon\\|\\nabla F(w_\\lambda)\\| \\le \\kappa$ suffice: "
        "$\\langle\\nabla F(w_\\lambda), w - w_\\lambda\\rangle \\ge -\\|\\nabla "
        "F(w_\\lambda)\\|\\,\\mathrm{dist}$. A smooth $G$ is never exact unless $\\nabla F(w_\\lambda) = 0$: "
        "at $w_\\lambda$ its gradient is 0, and $\\varepsilon\\nabla F$ is not.",
    ),
)
