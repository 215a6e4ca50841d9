"""Implicit differentiation with a Neumann series of the Hessian: its error bound, and that it is its rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

import refimpl as ri
from refimpl.constants import Constants
from refimpl.solvers import GradientDescent, Neumann
from verification.claims.reweighting._attaining import Attaining, eigenvector, falls
from verification.claims.reweighting._penalty import fraction, square
from verification.claims.reweighting._shared import (
    CONTRACTION,
    Alter,
    cross_norm,
    dropped,
    spectrum,
    unaltered,
    worst,
)
from verification.instances import Case, case, cases, point, tidy
from verification.model import Budget, Claim, Control, Equality, Hypothesis, Measurement

SOURCE = "reweighting, (11) with a Neumann series; constants of contraction, Theorem 4 without noise"


def neumann_step(case: Case) -> float:
    """η = share × 2/(L + μ)."""
    return float(case.params["share"] * 2 / sum(spectrum(case)))


def sums(case: Case) -> np.ndarray:
    """Errors of the hypergradient with 0 … k terms at w_t."""
    found = ri.approximate.implicit(
        case.problem,
        case.lam,
        lower=GradientDescent(case.t, step=case.step),
        linear=Neumann(case.k, neumann_step(case)),
        w0=case.w0,
        exact=case.exact,
    )
    return np.asarray(found.curve)


def without_step(case: Case, everywhere: bool) -> np.ndarray:
    """The same with the step factor forgotten on every term, or on all terms but the first."""
    problem, lam, eta = case.problem, case.lam, neumann_step(case)
    w = GradientDescent(case.t, step=case.step).run(problem, lam, case.w0).w
    hessian, term = problem.residual_w(lam, w), problem.upper.grad_w(lam, w)
    v, errors = 0 * term, []
    for i in range(case.k + 1):
        value = problem.hypergradient_at(lam, w, v)
        errors.append(float(np.linalg.norm(value - case.exact.value)))
        v = v + (term if i or everywhere else eta * term)
        term = term - eta * (hessian @ term)
    return np.array(errors)


def bound(c: Constants, case: Case, k: np.ndarray) -> np.ndarray:
    """c₁ q^t B + ‖∇²_λwG(w(λ))‖ (1 − ημ)^k L_E/μ."""
    mu, _ = spectrum(case)
    return c.c1 * c.q**case.t * c.B + cross_norm(case) * (1 - neumann_step(case) * mu) ** k * c.L_E / mu


def bounded(
    alter: Alter = unaltered,
    plus: int = 0,
    errors: Callable[[Case], np.ndarray] = sums,
) -> Callable[[Case], Measurement]:
    """The measure: the worst of 0 … k terms; ``errors`` may be those of a mistaken series."""

    def measure(case: Case) -> Measurement:
        limit = bound(alter(case.constants), case, np.arange(case.k + 1) + plus)
        # a shorter step makes the series amplify by 1/(ημ) where the descent map amplifies by κ_q
        return worst(errors(case), limit, case.rounding / min(1.0, case.params["share"]), t=case.t)

    return measure


def curve(case: Case) -> Mapping[str, Any]:
    """Errors of every number of terms, and their bound."""
    k = np.arange(case.k + 1)
    labels = {"xlabel": "terms K", "ylabel": "error of the hypergradient", "logy": True}
    return {"x": k, "predicted": bound(case.constants, case, k), "measured": sums(case), **labels}


def _step_short_enough(case: Case) -> tuple[bool, Any]:
    return 0 < case.params[
        "share"
    ] <= 1, f"η = {neumann_step(case):.4g}, 2/(L + μ) = {2 / sum(spectrum(case)):.4g}"


STEP = Hypothesis("step", r"0 < \eta \le 2/(L + \mu)", _step_short_enough)

# -- the rate ----------------------------------------------------------------------------------------------

LAST = 12


def eta_and_mu(case: Attaining) -> tuple[fmpq, fmpq]:
    """η = share × 2/(L + μ), and μ."""
    mu, L = (fmpq(end(case.params["spectrum"])) for end in (min, max))
    return case.number("share") * 2 / (L + mu), mu


def terms(case: Attaining) -> list[fmpq]:
    """Squared errors of 0 … 12 terms at w(λ)."""
    problem, lam, w = case.problem, case.lam, case.exact.w
    system, rhs = problem.residual_w(lam, w).T, problem.upper.grad_w(lam, w)
    eta: Any = fraction(eta_and_mu(case)[0])
    iterates = Neumann(LAST, eta).solve(system, rhs, keep=True).iterates
    return [case.off(problem.hypergradient_at(lam, w, v)) for v in iterates]


def per_term(factor: Callable[[fmpq, fmpq], fmpq]) -> Callable[[Attaining], Measurement]:
    """The error of K terms is factor(η, μ)^K times that of none."""
    return falls(terms, lambda case, k: factor(*eta_and_mu(case)) ** k)


def _slowest(case: Attaining) -> tuple[bool, Any]:
    """∇_wF is an eigenvector to μ."""
    assert isinstance(case.problem, ri.BilevelProblem)
    gradient = case.problem.upper.grad_w(case.lam, case.exact.w)
    image = case.problem.lower.hess_ww(case.lam, case.exact.w) @ gradient
    gap = square(image - eta_and_mu(case)[1] * gradient)
    return gap == 0 and square(gradient) > 0, str(gap)


def of_spectrum(rest: list[int], b: list[int], mu: int = 1, **more: Any) -> dict[str, Any]:
    """Parameters: eigenvalues μ and μ + each of ``rest``."""
    spectrum = [mu, *(mu + i for i in rest)]
    return {"spectrum": spectrum, "b": b, "mirror": [0] * len(b), "share": [1, 2], **more}


SLOWEST = st.integers(0, 4).flatmap(
    lambda others: st.builds(
        lambda mu, rest, size, mirror, share: of_spectrum(
            rest, [size] + [0] * others, mu, mirror=mirror, share=[share, 10]
        ),
        st.integers(1, 3),
        st.lists(st.integers(0, 29), min_size=others, max_size=others),
        st.integers(1, 3),
        st.lists(st.integers(-2, 2), min_size=others + 1, max_size=others + 1),
        st.integers(1, 9),
    )
)


KINDS = ("well", "eigenvector", "quadratic", "logistic")
EXPLICIT = (
    {**point("well"), "share": 0.5},
    {**point("eigenvector", d=2, k=8), "share": 0.5},
    {**point("eigenvector", d=2, k=8), "share": 1.0},
    {**point("quadratic", upper="square", d=3, k=60), "share": 1.0},
    {**point("quadratic", upper="product", n=3, d=3, k=60), "share": 1.0},
)


CLAIMS = (
    Claim(
        id="reweighting/rate-neumann",
        title="Implicit differentiation by a Neumann series of K terms",
        source=SOURCE,
        statement=r"$$v_K = \eta\sum_{i<K}(I - \eta H)^i\nabla_wF,\ H = \nabla^2_{ww}G(w_t):$$ "
        r"$$\|\nabla_\lambda F(w_t) - \nabla^2_{\lambda w}G(w_t)\, v_K - \nabla f(\lambda)\|$$ $$\quad \le "
        r"c_1 q^t B + \|\nabla^2_{\lambda w}G(w(\lambda))\|\,(1 - \eta\mu)^K\,\frac{L_E}{\mu}$$",
        hypotheses=(*CONTRACTION, STEP),
        strategy=st.builds(
            lambda p, share: {**p, "share": share}, cases(KINDS, k=60), st.floats(0.05, 1).map(tidy)
        ),
        explicit=EXPLICIT,
        build=case,
        measure=bounded(),
        grade="exact",
        controls=(
            Control(
                "a step above 2/(L + μ)", params={**point("quadratic", d=3, k=20, kappa=4.0), "share": 1.6}
            ),
            Control("B stated too small", params={**EXPLICIT[4], "halved": "B", "t": 0}),
            Control("one term more", kind="formula", measure=bounded(plus=1)),
            Control(
                "step forgotten",
                kind="formula",
                measure=bounded(errors=lambda c: without_step(c, everywhere=True)),
            ),
            Control(
                "step on the first term only",
                kind="formula",
                measure=bounded(errors=lambda c: without_step(c, everywhere=False)),
            ),
            dropped("mu1", bounded),
            dropped("mu2", bounded),
        ),
        equality=Equality(params={**point("eigenvector", d=2, k=8), "share": 0.5}, reaches=0.999),
        curve=curve,
        budget=Budget(quick=120, full=1000),
        notes="$\\|I - \\eta H\\| \\le 1 - \\eta\\mu$ exactly where $\\eta \\le 2/(L+\\mu)$; the sum of the "
        "missing terms is at most $(1-\\eta\\mu)^K\\|\\nabla_wF\\|/\\mu$, and $\\|v_K\\| \\le "
        "\\|\\nabla_wF\\|/\\mu$, so that $c_1$ covers the rest. K terms need K − 1 products with H; the step "
        "multiplies every term. Equality: $\\nabla_wF$ an eigenvector to $\\mu$, F linear.",
    ),
    Claim(
        id="reweighting/rate-neumann@rate",
        title="The Neumann series converges at the rate 1 − ημ per term",
        source=SOURCE,
        statement=r"H\nabla_wF = \mu\nabla_wF,\ w = w(\lambda):\quad \|e_K\| = (1 - \eta\mu)^K\, \|e_0\|",
        hypotheses=(Hypothesis("attaining", r"H\nabla_wF = \mu\nabla_wF \ne 0", _slowest),),
        strategy=SLOWEST,
        explicit=(
            of_spectrum([], [1]),
            of_spectrum([3], [1, 0]),
            of_spectrum([3, 5], [2, 0, 0], mirror=[1, 2, -1]),
        ),
        build=eigenvector,
        measure=per_term(lambda eta, mu: 1 - eta * mu),
        grade="proved",
        controls=(
            Control("a right side in all directions", params=of_spectrum([1, 3], [1, 1, 1], share=[9, 10])),
            Control(
                "1 + ημ turned round", kind="formula", measure=per_term(lambda eta, mu: 1 / (1 + eta * mu))
            ),
            Control("squared", kind="formula", measure=per_term(lambda eta, mu: (1 - eta * mu) ** 2)),
        ),
        budget=Budget(quick=20, full=400),
        notes="$v_K - v = -(I - \\eta H)^K H^{-1}\\nabla_wF$, and the hypergradient's error $e_K$ is as long, "
        "as $\\nabla^2_{\\lambda w}G = -I$: the logarithm of the error is a straight line of slope "
        "$\\log(1-\\eta\\mu)$. Exact, and nothing is fitted; H in a reflected basis, the lower level solved "
        "exactly.",
    ),
)
