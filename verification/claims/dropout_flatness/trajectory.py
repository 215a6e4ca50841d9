r"""Random trajectory data: what a relation between gradient noise and Hessian says of the parameters of a descent.

Near a minimum of a quadratic, θ⁺ = θ − γ(Hθ + ξ) with independent ξ of covariance Σ. In the long run C = Cov θ solves
C = (I − γH)C(I − γH) + γ²Σ, that is

    HC + CH − γHCH = γΣ .

Where Σ and H commute C has the eigenvalues γσ_i/(λ_i(2 − γλ_i)): the gradient's variance over λ_i, but for a factor. So
Var ∝ λ^a of gradients is Var ∝ λ^(a−1) of parameters, and Σ = κH gives C = γκ(2I − γH)⁻¹: the same variance in flat
and in sharp directions, while γλ ≪ 1.

N consecutive steps do not show C. With q = 1 − γλ, E(θ_{t+k} − θ_t)² = 2c(1 − q^k), and the population variance,
(1/2N²) times the sum of these over pairs, has the mean

    v_N = c (1 − (1 + q)/(N(1 − q)) + 2q(1 − q^N)/(N²(1 − q)²)) <= γσ/(2 − γλ) · min(1/λ, γ(N² − 1)/(3N)),

since v_N <= c, and 1 − q^k <= k(1 − q) for 0 <= q <= 1. A direction with γλN ≪ 1 is not explored within N steps: there
v_N ∝ σ, like the gradient. For Σ = κH that is a slope of +1, of a random walk, in the same data whose other
directions have slope 0.

Dropout of a quadratic model is no additive noise, since ∇²R_η depends on the mask. C = γX + O(γ²) with HX + XH = Σ(θ*)
for it too: what multiplies θ − θ* is smaller by √γ.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.dropout_flatness._planted import RATIONAL
from verification.claims.dropout_flatness._trajectories import Descent, Regression, descent, regression
from verification.model import Budget, Claim, Control, Correction, Equality, Measurement, identity, rate

SOURCE = "dropout-flatness, section 3.4.1"
BUDGET = Budget(quick=60, full=600)


def proportional(case: Descent) -> Measurement:
    """C Tr H = H Tr C."""
    C, H = case.covariance, case.H
    return identity(C * np.trace(H), H * np.trace(C))


def inverse(share: int = 2) -> Callable[[Descent], Measurement]:
    """C(2I − γH) = γκI, κ = s."""

    def measure(case: Descent) -> Measurement:
        eye = RATIONAL.eye(len(case.H))
        kappa = RATIONAL.scalar((1 - case.p) / case.p)
        return identity(case.covariance @ (share * eye - case.step * case.H), case.step * kappa * eye)

    return measure


def lyapunov(second: int = 1, noise: int = 1) -> Callable[[Descent], Measurement]:
    """HC + CH − γHCH = γΣ."""

    def measure(case: Descent) -> Measurement:
        H, C, step = case.H, case.covariance, case.step
        return identity(H @ C + C @ H - second * step * (H @ C @ H), noise * step * case.noise)

    return measure


# -- windows of N steps ---------------------------------------------------------------------------------------------


def mean_variance(q: Any, N: int, *, ends: int = 1) -> Any:
    """v_N/c."""
    plain = (1 + q) / (N * (1 - q))
    return 1 - plain + ends * 2 * q * (1 - q**N) / (N * (1 - q)) ** 2


def one(params: Any) -> tuple[Descent, int]:
    """d = 1, H = λ = 1, and a step in eighths of 1/λ; a window of N."""
    return descent({"d": 1, "upper": [], "p": params["p"], "step": params["step"]}), params["N"]


def _number(x: Any) -> Fraction:
    return Fraction(int(x.p), int(x.q))


def is_window(**mutation: int) -> Callable[[tuple[Descent, int]], Measurement]:
    """The formula against the moments of (θ, θ_1 + … + θ) after N steps."""

    def measure(case: tuple[Descent, int]) -> Measurement:
        of, N = case
        q, c = _number(of.contraction[0, 0]), _number(of.covariance[0, 0])
        return identity(c * mean_variance(q, N, **mutation), _number(of.window(N)))

    return measure


def slow(params: Any) -> tuple[Fraction, int]:
    """γλ = 2^-k and N."""
    return Fraction(1, 2 ** params["k"]), params["N"]


def explored(third: int = 3) -> Callable[[tuple[Fraction, int]], Measurement]:
    """v_N/c <= min(1, γλ(N² − 1)/(3N))."""

    def measure(case: tuple[Fraction, int]) -> Measurement:
        x, N = case
        return Measurement(observed=mean_variance(1 - x, N), bound=min(1, x * Fraction(N * N - 1, third * N)))

    return measure


def _cheap(q: Fraction, N: int) -> Any:
    """q as a float where nothing cancels in v_N/c, for a long window: q^N would have millions of digits."""
    return q if (1 - q) * N < 1 else float(q)


def exponent(predicted: float) -> Callable[[list[tuple[Fraction, int]]], Measurement]:
    """The fitted exponent of v_N in λ, Σ = κH."""

    def measure(cases: list[tuple[Fraction, int]]) -> Measurement:
        x = np.log([float(x) for x, _ in cases])
        v = np.log([float(mean_variance(_cheap(1 - x, N), N) / (2 - x)) for x, N in cases])
        u = x - x.mean()
        return rate(float(u @ v / (u @ u)), predicted, 0.05)

    return measure


def eight(low: int) -> Callable[[Any], list[tuple[Fraction, int]]]:
    """γλ over eight powers of two; N times the largest is 2^low, or the smallest where low > 0."""

    def found(params: Any) -> list[tuple[Fraction, int]]:
        N = 2 ** params["k"]
        shift = params["k"] - low - (7 if low > 0 else 0)
        return [(Fraction(1, 2 ** (shift + j)), N) for j in range(8)]

    return found


def window_curve(cases: list[tuple[Fraction, int]]) -> dict[str, Any]:
    """v_N over γλ from the unexplored to the explored directions, in units of γκ/2."""
    N = 64
    x = [Fraction(1, 2**k) for k in range(2, 24)]
    return {
        "x": [float(e) for e in x],
        "lines": {
            f"window of {N} steps": [float(2 * mean_variance(1 - e, N) / (2 - e)) for e in x],
            "in the long run": [float(2 / (2 - e)) for e in x],
            "gradients": [float(e) for e in x],
        },
        "xlabel": "γλ",
        "ylabel": "variance along the eigenvector",
        "logx": True,
        "logy": True,
    }


# -- dropout ----------------------------------------------------------------------------------------------------------

STEPS = tuple(2.0**-k for k in range(6, 11))  # over Tr H


def first_order(of: Callable[[Regression], Array]) -> Callable[[Regression], Measurement]:
    """The exponent of ‖C/γ − X‖ in γ."""

    def measure(case: Regression) -> Measurement:
        size = float(np.trace(case.hessian))
        steps = np.array(STEPS) / size
        gaps = [np.linalg.norm(case.covariance(step) / step - of(case)) for step in steps]
        x = np.log(steps) - np.log(steps).mean()
        return rate(float(x @ np.log(gaps) / (x @ x)), 1.0, 0.2)

    return measure


SMALL = st.integers(-2, 2)
DESCENTS = {
    "upper": st.lists(SMALL, min_size=3, max_size=3),
    "p": st.integers(1, 7),
    "step": st.integers(1, 7),
}
LIKE_H = st.fixed_dictionaries({"d": st.integers(2, 3), **DESCENTS})
ANY_NOISE = st.integers(1, 3).flatmap(
    lambda d: st.fixed_dictionaries(
        {
            "d": st.just(d),
            "noise": st.lists(st.lists(SMALL, min_size=d, max_size=d), min_size=1, max_size=3),
            **DESCENTS,
        }
    )
)
DIAGONAL = {"d": 2, "upper": [0], "p": 4, "step": 4}
WINDOW = {"p": 4, "step": 4, "N": 2}

CLAIMS = (
    Claim(
        id="dropout-flatness/inverse-variance-flatness@trajectory",
        title="Noise proportional to the Hessian: are the parameters' variances proportional to its "
        "eigenvalues too?",
        source=SOURCE + " and 3.5: one relation for both kinds of data",
        statement=r"\operatorname{Cov}\xi = \kappa H \;\Rightarrow\; \operatorname{Cov}\theta_\infty \propto "
        r"H, \quad "
        r"\theta_{t+1} = \theta_t - \gamma(H\theta_t + \xi_t)",
        strategy=LIKE_H,
        explicit=(DIAGONAL, {"d": 3, "upper": [1, 0, 1], "p": 2, "step": 7}),
        build=descent,
        measure=proportional,
        grade="proved",
        corrected=Correction(
            tex=r"\operatorname{Cov}\theta_\infty = \gamma\kappa\,(2I - \gamma H)^{-1}",
            measure=inverse(),
            proof="$HC + CH - \\gamma HCH = \\gamma\\kappa H$ is solved by a function of H: $2\\lambda c - "
            "\\gamma\\lambda^2c = "
            "\\gamma\\kappa\\lambda$. So the slope of $\\log\\operatorname{Var}$ over $\\log\\lambda_i$ is "
            "$\\gamma\\lambda/(2 - "
            "\\gamma\\lambda)$, near 0 and not +1.",
        ),
        budget=BUDGET,
        notes="Exact moments of a linear recursion with two-valued dropout noise, in rationals. H = diag(1, "
        "4), p = ½, γ = 1/10: the "
        "variances are 1/19 and 1/16. So trajectory data in the long run and gradient data cannot have the "
        "same slope.",
    ),
    Claim(
        id="dropout-flatness/trajectory-data@lyapunov",
        title="The covariance of a descent with any noise at a quadratic minimum",
        source=SOURCE + ", derived here",
        statement=r"HC + CH - \gamma HCH = \gamma\Sigma, \quad C = \operatorname{Cov}\theta_\infty, \; \Sigma "
        r"= \operatorname{Cov}\xi",
        strategy=ANY_NOISE,
        explicit=(
            {**DIAGONAL, "noise": [[1, 1]]},
            {"d": 3, "upper": [1, 0, 1], "p": 2, "step": 7, "noise": [[1, 0, 2]]},
        ),
        build=descent,
        measure=lyapunov(),
        grade="proved",
        controls=(
            Control("without γHCH", kind="formula", measure=lyapunov(second=0)),
            Control("twice the noise", kind="formula", measure=lyapunov(noise=2)),
        ),
        budget=BUDGET,
        notes="Along common eigenvectors $c_i = \\gamma\\sigma_i/(\\lambda_i(2 - \\gamma\\lambda_i))$: a power "
        "law $\\sigma \\propto \\lambda^a$ of "
        "gradients becomes $\\lambda^{a-1}$ of parameters. From interval flatness $F \\propto \\lambda^{-1/2}$ "
        "alone no relation of the two "
        "kinds of data can be read.",
    ),
    Claim(
        id="dropout-flatness/trajectory-data@window",
        title="The mean population variance of N consecutive steps",
        source=SOURCE + ", derived here",
        statement=r"\mathbb E\operatorname{Var}\{\theta_1, \ldots, \theta_N\} = c\left(1 - \frac{1+q}{N(1-q)} "
        r"+ \frac{2q(1-q^N)}"
        r"{N^2(1-q)^2}\right), \quad q = 1 - \gamma\lambda, \; c = \operatorname{Var}\theta_\infty",
        strategy=st.fixed_dictionaries(
            {"p": st.integers(1, 7), "step": st.integers(1, 15), "N": st.integers(2, 9)}
        ),
        explicit=(WINDOW, {"p": 2, "step": 1, "N": 5}, {"p": 6, "step": 12, "N": 4}),
        build=one,
        measure=is_window(),
        grade="proved",
        controls=(Control("without the last term", kind="formula", measure=is_window(ends=0)),),
        budget=BUDGET,
        notes="Against exact moments of $(\\theta_t, \\theta_1 + \\cdots + \\theta_t)$, step by step from the "
        "long-run distribution.",
    ),
    Claim(
        id="dropout-flatness/trajectory-data@unexplored",
        title="What N steps can show of a flat direction",
        source=SOURCE + ", derived here",
        statement=r"\frac{\mathbb E\operatorname{Var}\{\theta_1, \ldots, "
        r"\theta_N\}}{\operatorname{Var}\theta_\infty} \le \min\left(1, "
        r"\gamma\lambda\,\frac{N^2-1}{3N}\right), \quad 0 < \gamma\lambda \le 1",
        strategy=st.fixed_dictionaries({"k": st.integers(0, 24), "N": st.integers(2, 64)}),
        explicit=({"k": 0, "N": 2}, {"k": 3, "N": 8}),
        build=slow,
        measure=explored(),
        grade="proved",
        controls=(Control("4 for 3", kind="formula", measure=explored(4)),),
        equality=Equality(params={"k": 24, "N": 2}, reaches=0.999),
        budget=Budget(quick=100, full=1000),
        notes="Attained as γλ → 0, where the steps are a random walk. Directions with $\\gamma\\lambda N \\ll "
        "1$ have the variance "
        "$\\gamma^2\\sigma(N^2-1)/(6N)$, that of the gradient.",
    ),
    Claim(
        id="dropout-flatness/trajectory-data@flat-slope",
        title="Noise proportional to the Hessian: slope +1 in directions that N steps do not explore",
        source=SOURCE + ", derived here",
        statement=r"\Sigma = \kappa H, \; \gamma\lambda N \le \tfrac1{16}: \quad \mathbb "
        r"E\operatorname{Var}\{\theta_1, \ldots, \theta_N\} "
        r"\propto \lambda^{1 \pm 0.05}",
        strategy=st.fixed_dictionaries({"k": st.integers(1, 8)}),
        explicit=({"k": 1}, {"k": 5}),
        build=eight(-4),
        measure=exponent(1.0),
        grade="exact",
        controls=(Control("slope 0", kind="formula", measure=exponent(0.0)),),
        curve=window_curve,
        budget=Budget(quick=8, full=8),
        notes="Fit over eight powers of two of γλ below 2⁻⁴/N. So a slope of +1 in trajectory data is what a "
        "run too short for its flat "
        "directions shows: it says nothing that gradient data do not, and vanishes with N.",
    ),
    Claim(
        id="dropout-flatness/trajectory-data@sharp-slope",
        title="Noise proportional to the Hessian: slope 0 in directions that N steps do explore",
        source=SOURCE + ", derived here",
        statement=r"\Sigma = \kappa H, \; \gamma\lambda N \ge 2^7, \; \gamma\lambda \le \tfrac1{16}: \quad "
        r"\mathbb E\operatorname{Var}"
        r"\{\theta_1, \ldots, \theta_N\} \propto \lambda^{0 \pm 0.05}",
        strategy=st.fixed_dictionaries({"k": st.integers(18, 22)}),
        explicit=({"k": 18},),
        build=eight(7),
        measure=exponent(0.0),
        grade="exact",
        controls=(Control("slope 1", kind="formula", measure=exponent(1.0)),),
        budget=Budget(quick=3, full=5),
        notes="Fit over eight powers of two of γλ, the smallest 2⁷/N: the mean of the window is a share "
        "2/(γλN) of the variance. "
        "Which of the two slopes an experiment meets is decided by its step and its number of steps, not by "
        "its noise.",
    ),
    Claim(
        id="dropout-flatness/trajectory-data@dropout",
        title="With dropout in a linear model the covariance is γX + O(γ²), HX + XH = Σ at the minimum",
        source=SOURCE + ", derived here",
        statement=r"\left\|\tfrac1\gamma\operatorname{Cov}\theta_\infty - X\right\| \propto \gamma^{1 \pm "
        r"0.2}, \quad HX + XH = "
        r"\operatorname{Cov}\nabla R_\eta(\theta^*)",
        strategy=st.fixed_dictionaries(
            {
                "m": st.integers(1, 3),
                "n": st.integers(5, 8),
                "seed": st.integers(0, 999),
                "p": st.integers(3, 7),
            }
        ),
        explicit=({"m": 1, "n": 5, "seed": 0, "p": 4}, {"m": 2, "n": 6, "seed": 1, "p": 6}),
        build=regression,
        measure=first_order(Regression.lyapunov),
        grade="exact",
        controls=(
            Control(
                "the gradients' covariance for X",
                kind="formula",
                measure=first_order(lambda case: case.noise),
            ),
            Control("twice X", kind="formula", measure=first_order(lambda case: 2 * case.lyapunov())),
        ),
        budget=Budget(quick=30, full=600),
        notes="Exact stationary moments of the random recursion, whose matrices depend on the mask too, for "
        "five step sizes. So at small steps "
        "what holds for additive noise holds for dropout.",
    ),
)
