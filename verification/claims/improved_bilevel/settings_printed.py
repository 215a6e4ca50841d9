"""Two settings with nothing to improve: the printed schedule, and weights that do not matter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

import refimpl as ri
from refimpl import BilevelProblem
from refimpl.solvers import Averaging, BiGSAM, contraction_of
from refimpl.zoo import overparametrised
from verification.claims.improved_bilevel._moving import RATIONAL, Residuals
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement, identity, reals

# -- the printed schedule ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """F = ½ Σ q_i (w_i − 1)², G = ½‖(1 + λ)w − 2‖² on R², q = (σ, L); ``params``: sigma, L, gamma, t, s, K."""

    params: Mapping[str, Any]

    @cached_property
    def beta(self) -> float:
        p = self.params
        return contraction_of(p["sigma"], p["L"], p["t"])

    @property
    def c(self) -> float:
        return 2 * self.params["gamma"] / (1 - self.beta)

    @cached_property
    def problem(self) -> BilevelProblem:
        root = np.sqrt([self.params["sigma"], self.params["L"]])
        still = np.zeros((2, 2))
        upper = Residuals(np.array([np.diag(root), still]), np.array([root, 0 * root]))
        lower = Residuals(np.array([np.eye(2), np.eye(2)]), np.array([[2.0, 2.0], [0.0, 0.0]]))
        return BilevelProblem(upper, lower)

    @cached_property
    def solver(self) -> BiGSAM:
        p = self.params
        return BiGSAM(p["K"], s=p["s"], t=p["t"], alpha=Averaging(self.beta, p["gamma"]))

    def descent(self) -> np.ndarray:
        """K steps of gradient descent on F alone."""
        w, lam = np.zeros(2), np.zeros(1)
        for _ in range(self.params["K"]):
            w = w - self.params["t"] * self.problem.upper.grad_w(lam, w)
        return w


def untouched(moved: bool = False) -> Callable[[Schedule], Measurement]:
    """w_K against descent on F, and dF(λ, w_K)/dλ against 0: bit by bit; mutant: G moves it."""

    def measure(run: Schedule) -> Measurement:
        found = ri.approximate.reverse(run.problem, np.zeros(1), lower=run.solver)
        expected = [*run.descent(), 1.0 if moved else 0.0]
        return identity([*found.w, *found.value], expected)

    return measure


def _never(run: Schedule) -> tuple[bool, float]:
    return run.c >= run.params["K"], run.c


def first_touch(power: int = 1) -> Callable[[Schedule], Measurement]:
    """2γ/(tσ_F) <= c: so many steps, at least, are spent on F alone; mutant: its square."""

    def measure(run: Schedule) -> Measurement:
        p = run.params
        # c is one division away from a square root: its relative rounding is that of 1 − β, eps/(1 − β) <= eps c/γ
        rounding = 10 * 2.0**-52 * run.c**2 / p["gamma"]
        return Measurement(
            observed=(2 * p["gamma"] / (p["t"] * p["sigma"])) ** power, bound=run.c, rounding=rounding
        )

    return measure


def settings(**more: Any) -> dict[str, Any]:
    """The document's numbers: s = t = 0.001, K = 100, γ = 1."""
    return {"sigma": 1.0, "L": 1.0, "gamma": 1.0, "t": 0.001, "s": 0.001, "K": 100, **more}


LAST = settings(t=0.75, s=0.1, K=4)  # β = ½: 2γ/(1 − β) = K exactly

# -- weights that do not matter ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weighted:
    """(1/N) Σ λ_i ½(x_i·w − y_i)² with small integer data; ``rows`` of which ``repeated`` are copies of the first."""

    params: Mapping[str, Any]

    @cached_property
    def X(self) -> np.ndarray:
        p, rng = self.params, np.random.default_rng(self.params["seed"])
        X = np.eye(p["rows"], p["rows"] + 1) + np.tril(rng.integers(-2, 3, (p["rows"], p["rows"] + 1)), -1)
        for i in range(p.get("repeated", 0)):
            X[i + 1] = X[0]
        return X

    @cached_property
    def problem(self) -> BilevelProblem:
        rng, (N, d) = np.random.default_rng([self.params["seed"], 1]), self.X.shape
        y, X_val, y_val = (
            rng.integers(-4, 5, N) + 0.5 * np.arange(N),
            rng.integers(-2, 3, (2, d)),
            rng.integers(-2, 3, 2),
        )
        options: dict[str, Any] = {"reg_upper": 0.5, "weights": "identity"}
        return overparametrised.least_squares(self.X, y, X_val, y_val, **options).to("rational")

    @cached_property
    def lam(self) -> np.ndarray:
        return np.asarray(RATIONAL.asarray(np.array(self.params["lam"][: len(self.X)], dtype=float) / 4))


def no_effect(
    weights: Callable[[np.ndarray], np.ndarray] = lambda lam: lam,
) -> Callable[[Weighted], Measurement]:
    """∇f against 0, and w_λ against the solution at equal weights."""

    def measure(data: Weighted) -> Measurement:
        found = ri.exact.improved_hypergradient(data.problem, weights(data.lam), certify="never")
        plain = ri.exact.solve_simple(data.problem, 0 * data.lam + 1)
        return identity([*found.value, *found.w], [*(0 * data.lam), *plain.w])

    return measure


def at_zero(data: Weighted) -> Measurement:
    """A mutant: the same at the least-norm point, w = 0, where the cross derivative is −x_i y_i/N."""
    lam, origin = data.lam, RATIONAL.zeros((data.problem.d,))
    cross = data.problem.lower.cross(lam, origin).dense()
    return identity(cross, 0 * cross)


def _independent(data: Weighted) -> tuple[bool, Any]:
    found = int(np.linalg.matrix_rank(data.X))
    return found == len(data.X), f"rank {found} of {len(data.X)} rows"


ROWS = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 3),
        "seed": st.integers(0, 999),
        "lam": st.tuples(*[st.integers(1, 9)] * 3).map(list),
    }
)
FREE: dict[str, Any] = {
    "sigma": reals(0.5, 1),
    "L": reals(1, 4),
    "gamma": reals(0.01, 1),
    "t": reals(1e-4, 0.2, log=True),
    "s": st.just(0.1),
    "K": st.sampled_from([5, 10]),
}
SCHEDULE: dict[str, Any] = {
    "source": "improved-bilevel, the settings of its experiments",
    "strategy": st.fixed_dictionaries(FREE),
    "build": lambda params: Schedule(dict(params)),
    "grade": "exact",
}

CLAIMS = (
    Claim(
        id="improved-bilevel/printed-schedule",
        title="With s = t = 0.001, K = 100 and γ = 1 BiG-SAM never touches the lower problem",
        statement=r"\frac{2\gamma}{1-\beta} \ge K \;\Rightarrow\; w_K = K \text{ steps on } F, \quad "
        r"\frac{dF(w_K)}{d\lambda} = 0 \text{ where } F \text{ does not depend on } \lambda",
        **SCHEDULE,
        hypotheses=(Hypothesis("all weights are 1", r"\tfrac{2\gamma}{1-\beta} \ge K", _never),),
        explicit=(settings(), settings(L=10.0), settings(K=5), LAST),
        measure=untouched(),
        controls=(
            Control("one step more than 2γ/(1 − β)", params={**LAST, "K": 5}),
            Control("γ = 0.01", params=settings(gamma=0.01)),
            Control("a derivative that is not 0", kind="formula", measure=untouched(moved=True)),
        ),
        budget=Budget(quick=20, full=300),
        notes="$\\alpha_k = 1$ for $k \\le 2\\gamma/(1-\\beta)$, which is 3998 at $\\sigma_F = L_F = 1$ and "
        "2198 at $L_F = 10$. So the experiments' weight was a constant, or $\\gamma$ at most about 0.02 at "
        "such $t$: with the printed numbers the weights of the samples would not move at all.",
    ),
    Claim(
        id="improved-bilevel/printed-schedule@length",
        title="BiG-SAM begins with at least 2γ/(tσ_F) steps on F alone",
        statement=r"\frac{2\gamma}{t\sigma_F} \le \frac{2\gamma}{1-\beta}",
        **SCHEDULE,
        explicit=(settings(), settings(L=10.0)),
        measure=first_touch(),
        controls=(Control("its square", kind="formula", measure=first_touch(2)),),
        equality=Equality(params=settings(t=1.0), reaches=0.999),
        budget=Budget(quick=60, full=1000),
        notes="$1 - \\beta \\le t\\sigma_F$, as $(1 - t\\sigma_F)^2 \\le \\beta^2$ for $t \\le "
        "2/(\\sigma_F+L_F)$, with equality at that step. Hence the exponent $e = 2\\gamma tq/(1-\\beta) \\ge "
        "2\\gamma$.",
    ),
    Claim(
        id="improved-bilevel/interpolating-weights",
        title="Weights have no effect in interpolating least squares: the improved model's hypergradient is "
        "0",
        source="improved-bilevel, (3) and (19)",
        statement=r"\mathrm{rank}\,X = N \;\Rightarrow\; \mathrm{Argmin}_w\sum_i\omega_i(x_i^\top w - y_i)^2 "
        r"= \{w : Xw = y\},\quad \nabla f = 0",
        hypotheses=(Hypothesis("independent rows", r"\mathrm{rank}\,X = N", _independent),),
        strategy=ROWS,
        explicit=({"rows": 1, "seed": 0, "lam": [1, 1, 1]}, {"rows": 2, "seed": 0, "lam": [1, 5, 1]}),
        build=lambda params: Weighted(dict(params)),
        measure=no_effect(),
        grade="proved",
        controls=(
            Control("two labels for one row", params={"rows": 2, "seed": 0, "lam": [1, 5, 1], "repeated": 1}),
            Control("the cross derivative at w = 0", kind="formula", measure=at_zero),
        ),
        budget=Budget(quick=12, full=600),
        notes="Every positive weighting has the same minimisers, so there is nothing for $\\lambda$ to "
        "choose. Reweighting acts on over-parametrised models only through labels that contradict each "
        "other, an early stop, or a ridge.",
    ),
)
