r"""Interval flatness where it is known, and whether its pre-factor 2 matters.

Along v a loss with value L, slope g and curvature h > 0 and nothing else meets cL where ½ht² + gt − (c − 1)L = 0, so

    F_v = 2 √(g² + 2h(c − 1)L)/h,   and   F_v = 2 √(2(c − 1)L/h) where g = 0.

With g = 0 log F_v is ½ log(c − 1) plus what c does not enter: slopes, correlations and ranks over directions are the
same for every c. With g ≠ 0 it is not: for c → 1 F_v → 2|g|/h, for c → ∞ 2 √(2(c − 1)L/h). With a fourth-order term
½ht² + qt⁴, q > 0, the parabola's width F° is too large: at t = F°/2 the term is ρ = 2qt²/h times ½ht², and for t' =
t/√(1 + ρ) the loss is at most L + ½ht'²(1 + ρ) = cL. So F°/√(1 + ρ) <= F_v <= F°, and ρ grows with c − 1.

A network's loss is exactly quadratic in its last layer's parameters, with dropout before it and without. At a
stationary point of E_ηR the first has no slope; the second, R = E_ηR − (1/2n) Σ_i Σ_j s_j (f^j_i)², has slope
−(1/n) Σ_i Σ_j s_j f^j_i ∇f^j_i·v. Which of them F_v means is not said in the document.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.curvature import interval_flatness
from verification.claims.dropout_flatness._bowls import (
    FACTORS,
    Bowl,
    Ray,
    agrees,
    in_floats,
    ray,
    square,
)
from verification.claims.dropout_flatness._planted import AWAY, MARGIN, RATIONAL, STATIONARY, Point, at, build
from verification.claims.dropout_flatness.theorem_1_two_layers import SMALLEST
from verification.instances import EPS
from verification.model import Budget, Claim, Control, Correction, Hypothesis, Measurement, identity, reals

SOURCE = "dropout-flatness, definition 2 and the remark after it"
CHOICES = st.sampled_from([str(c) for c in FACTORS])
BUDGET = Budget(quick=40, full=300)

# -- quadratics and quartics --------------------------------------------------------------------------------------

PARABOLA = Hypothesis(
    "quadratic along v", r"L(w + tv) = L + gt + \tfrac12ht^2", lambda r: (r.quartic == 0, float(r.quartic))
)
RISES = Hypothesis(
    "positive loss and curvature",
    r"L > 0, \; h > 0",
    lambda r: (r.loss > 0 and r.curvature > 0, [float(r.loss), float(r.curvature)]),
)


def closed(**mutation: int) -> Callable[[Ray], Measurement]:
    """The library's width against 2 √(g² + 2h(c − 1)L)/h."""
    return lambda r: agrees(r, square(r, **mutation))


def rays(slope: Any) -> Any:
    """Strategy over quadratics of two or three parameters."""
    return st.integers(2, 3).flatmap(
        lambda d: st.fixed_dictionaries(
            {
                "rows": st.lists(
                    st.lists(st.integers(-3, 3), min_size=d, max_size=d), min_size=1, max_size=3
                ),
                "v": st.lists(st.integers(1, 4), min_size=d, max_size=d),
                "slope": slope.map(lambda k: f"{k}/3"),
                "level": st.integers(1, 20).map(lambda k: f"{k}/3"),
                "c": CHOICES,
            }
        )
    )


ONE = {"rows": [[1]], "v": [1], "slope": 0, "level": 1, "c": 2}


# -- slopes over directions ---------------------------------------------------------------------------------------


def widths(f: Bowl, factor: float) -> np.ndarray:
    """F along the coordinate axes."""
    return interval_flatness(f, 0 * f.g, np.eye(f.d), factor=factor, limit=2.0**20).width


def fitted(x: np.ndarray, y: np.ndarray) -> float:
    """The slope of the least squares line of log y over log x."""
    u = np.log(x) - np.log(x).mean()
    return float(u @ np.log(y) / (u @ u))


def diagonal(params: Mapping[str, Any]) -> tuple[Bowl, np.ndarray]:
    """L = level + Σ_i (g_i w_i + ½h_i w_i² + q_i w_i⁴), and numbers λ_i: the noise's eigenvalues, κh_i."""
    h = np.array(params["h"], dtype=float)
    zero = np.zeros(len(h))
    q = np.array(params.get("q", zero), dtype=float)
    g = np.array(params.get("g", zero), dtype=float)
    f = Bowl(
        RATIONAL.scalar(Fraction(params["level"])),
        RATIONAL.asarray(g),
        RATIONAL.asarray(np.diag(h)),
        RATIONAL.asarray(q),
    )
    return in_floats(f), params.get("kappa", 1.0) * h


def fit_rounding(lam: np.ndarray, factor: float) -> float:
    """Of log F: the bracket's 2 eps, and 10 roundings of L, each of which moves a place by c/(c − 1) at most."""
    u = np.log(lam) - np.log(lam).mean()
    return float(
        (2 + 10 * factor / (factor - 1) + np.abs(np.log(lam)).max()) * EPS * np.abs(u).sum() / (u @ u)
    )


def same_slopes(which: Callable[[float], float] = lambda c: c) -> Callable[[Any], Measurement]:
    """The fitted slopes of log F_c over log λ for c = 3/2, 2, 4, and −1/2."""

    def measure(case: tuple[Bowl, np.ndarray]) -> Measurement:
        f, lam = case
        slopes = [fitted(lam, widths(f, float(c)) ** which(1)) for c in FACTORS]
        return identity(slopes, [-0.5] * 3, rounding=math.sqrt(3) * fit_rounding(lam, 1.5))

    return measure


def opposite(case: tuple[Bowl, np.ndarray]) -> Measurement:
    """How far slopes of both signs occur among c = 3/2, 2, 4."""
    f, lam = case
    slopes = [fitted(lam, widths(f, float(c))) for c in FACTORS]
    crossed = min(max(slopes), -min(slopes))
    rounding = fit_rounding(lam, 1.5)
    return Measurement(observed=max(crossed, 0.0), bound=0.0, rounding=rounding, detail={"slopes": slopes})


def within(case: tuple[Bowl, np.ndarray]) -> Measurement:
    """F°/√(1 + ρ) <= F <= F°, F° the parabola's, for every direction and factor: the worst excess, relative."""
    f, _ = case
    h, level, worst = np.diag(f.H), float(f.level), -1.0
    for c in map(float, FACTORS):
        half = np.sqrt(2 * (c - 1) * level / h)
        rho = 2 * f.q * half**2 / h
        share = widths(f, c) / (2 * half)
        worst = max(worst, float((share - 1).max()), float((1 / np.sqrt(1 + rho) - share).max()))
    return Measurement(observed=max(worst, 0.0), bound=0.0, rounding=(4 + 10 * 1.5 / 0.5) * EPS)


def slope_curve(case: tuple[Bowl, np.ndarray]) -> dict[str, Any]:
    """Fitted slopes over the factor."""
    f, lam = case
    factors = np.linspace(1.1, 6, 12)
    return {
        "x": (factors - 1).tolist(),
        "predicted": [-0.5] * len(factors),
        "measured": [fitted(lam, widths(f, c)) for c in factors],
        "xlabel": "factor − 1",
        "ylabel": "slope of log F over log λ",
    }


TWO = {"h": [2, 0.5], "q": [0, 0.75], "level": 1}
DIAGONAL = {
    "h": st.lists(reals(0.25, 8.0, log=True), min_size=2, max_size=5),
    "level": st.integers(1, 4),
}
SPREAD = Hypothesis(
    "curvatures differ",
    r"\max_i\lambda_i \ge 2\min_i\lambda_i",
    lambda case: (case[1].max() >= 2 * case[1].min(), float(case[1].max() / case[1].min())),
)
NO_SLOPE = Hypothesis(
    "no slope, no higher order",
    r"\nabla L = 0, \; L \text{ quadratic}",
    lambda case: (not (case[0].g.any() or case[0].q.any()), float(np.abs([case[0].g, case[0].q]).max())),
)

# -- networks, along the last layer -------------------------------------------------------------------------------


def last_layer(dropped: bool) -> Callable[[Point], Ray]:
    """The loss with or without dropout at the point, along a direction of the last layer drawn from its seed."""

    def found(case: Point) -> Ray:
        rng = np.random.default_rng(case.net.size)
        v, span = np.zeros(case.net.size), case.net.spans[-1]
        v[span] = rng.integers(1, 4, span.stop - span.start)
        f = case.dropout.closed if dropped else case.loss
        assert f is not None
        return Ray(f, case.theta, RATIONAL.asarray(v), Fraction(case.params.get("c", "2")))

    return found


def on_network(dropped: bool, **mutation: int) -> Callable[[Point], Measurement]:
    """The library's width along the last layer against the formula."""
    ray_of = last_layer(dropped)
    return lambda case: agrees(ray_of(case), square(ray_of(case), **mutation))


def positive(dropped: bool) -> Hypothesis:
    """L > 0 and vᵀHv > 0."""
    ray_of = last_layer(dropped)

    def found(case: Point) -> tuple[bool, Any]:
        if case.margin < MARGIN:
            return False, "at a kink"
        return RISES.predicate(ray_of(case))

    return Hypothesis(RISES.name, r"L > 0, \; v^{\top}Hv > 0", found)


PLANTED = st.fixed_dictionaries(
    {
        "widths": st.sampled_from([[1, 1, 1], [1, 2, 1], [2, 1, 1]]),
        "activation": st.sampled_from(["relu", "leaky_relu"]),
        "n": st.integers(3, 8),
        "seed": st.integers(0, 999),
        "keep": st.lists(st.integers(1, 7), min_size=1, max_size=2),
        "planted": st.just(True),
        "shift": st.lists(st.integers(-8, 8), max_size=2),
        "c": CHOICES,
    }
)
PLAIN = r"F_v = 2\sqrt{\frac{2(c-1)L(\theta)}{v^{\top}Hv}}"

CLAIMS = (
    Claim(
        id="dropout-flatness/prefactor@quadratic",
        title="Interval flatness of a quadratic, with slope and for any pre-factor",
        source=SOURCE,
        statement=r"L(w+tv) = L + gt + \tfrac12ht^2: \quad F_v = \frac{2\sqrt{g^2 + 2h(c-1)L}}h",
        hypotheses=(PARABOLA, RISES),
        strategy=rays(st.integers(-20, 20)),
        explicit=(
            ONE,
            {**ONE, "slope": "1/3", "c": "3/2"},
            {**ONE, "rows": [[1, 2], [0, 1]], "v": [1, 2], "c": 4},
        ),
        build=ray,
        measure=closed(),
        grade="proved",
        controls=(
            Control("a fourth-order term", params={**ONE, "quartic": 1}),
            Control("c for c − 1", kind="formula", measure=closed(more=0)),
            Control("no slope", kind="formula", measure=closed(slope=0)),
        ),
        budget=BUDGET,
        notes="Over the rationals: the squares are compared, to the relative width 2 eps of the library's "
        "brackets. h < 0 or h = 0 ≠ "
        "g: the loss is never c times as large on one side, and $F_v = \\infty$.",
    ),
    Claim(
        id="dropout-flatness/prefactor@no-slope",
        title="On quadratics at their minimum the pre-factor enters no slope, and noise like the Hessian gives "
        "−1/2",
        source=SOURCE,
        statement=r"\nabla L = 0, \; \Sigma = \kappa H: \quad \frac{\mathrm d\log F_{v_i(\Sigma)}}{\mathrm "
        r"d\log\lambda_i"
        r"(\Sigma)} = -\tfrac12 \text{ for } c = \tfrac32, 2, 4",
        hypotheses=(NO_SLOPE, SPREAD),
        strategy=st.fixed_dictionaries({**DIAGONAL, "kappa": reals(0.1, 10.0, log=True)}),
        explicit=({"h": [2, 0.5], "level": 1}, {"h": [4, 2, 1], "level": 3, "kappa": 0.5}),
        build=diagonal,
        measure=same_slopes(),
        grade="exact",
        controls=(
            Control("a fourth-order term", params=TWO),
            Control("a slope", params={"h": [2, 0.5], "g": [0, 2], "level": 1}),
            Control("F² for F", kind="formula", measure=same_slopes(lambda c: 2)),
        ),
        budget=BUDGET,
        notes="$F_c = \\sqrt{c-1}\\,F_2$ in every direction, whatever Σ is: ranks, correlations and slopes do "
        "not see c. Measured with "
        "the library's root finder. Control: slopes −.25, −.354, −.444 for c = 3/2, 2, 4 arise from one "
        "direction with a slope.",
    ),
    Claim(
        id="dropout-flatness/prefactor@any-loss",
        title="Insensitivity to the pre-factor for any smooth loss at its minimum, weakest reading: the sign "
        "of the relation",
        source=SOURCE,
        statement=r"\nabla L = 0, \; \Sigma = \kappa H: \text{ the slopes of } \log F_{v_i(\Sigma)} \text{ "
        r"over } \log\lambda_i"
        r"(\Sigma) \text{ have one sign for } c = \tfrac32, 2, 4",
        hypotheses=(SPREAD,),
        strategy=st.fixed_dictionaries(
            {
                **DIAGONAL,
                "h": st.lists(reals(0.25, 8.0, log=True), min_size=3, max_size=3),
                "q": st.lists(reals(0.0, 2.0), min_size=3, max_size=3),
            }
        ),
        explicit=({"h": [2, 1], "q": [0, 0], "level": 1}, TWO),
        build=diagonal,
        measure=opposite,
        grade="exact",
        corrected=Correction(
            tex=r"\frac1{\sqrt{1+\rho_i}} \le \frac{F_i}{2\sqrt{2(c-1)L/h_i}} \le 1 \text{ for } L + "
            r"\tfrac12h_it^2 + q_it^4, "
            r"\quad \rho_i = \frac{4q_i(c-1)L}{h_i^2}",
            measure=within,
            proof="$L(t) \\ge L + \\frac12ht^2$ gives the right side. At $t' = t_c/\\sqrt{1+\\rho}$, $t_c$ the "
            "parabola's half "
            "width, the fourth-order term is at most ρ times the second, so $L(t') \\le cL$: the left side. "
            "Pre-factors do not "
            "matter while $\\rho \\ll 1$, that is while the doubled loss is still in the quadratic region.",
        ),
        curve=slope_curve,
        budget=BUDGET,
        notes="$L = 1 + w_1^2 + \\frac14w_2^2 + \\frac34w_2^4$: slopes −0.10, 0 and +0.18 for c = 3/2, 2 and "
        "4, and −½ for c → 1.",
    ),
    Claim(
        id="dropout-flatness/prefactor@with-dropout",
        title="Interval flatness of the expected dropout loss along the last layer: the closed form without "
        "slope",
        source=SOURCE + ", first reading of the loss",
        statement=r"\nabla E_\eta R = 0, \; v \text{ in the last layer}: \quad "
        + PLAIN
        + r", \; L = E_\eta R",
        hypotheses=(STATIONARY, AWAY, positive(True)),
        strategy=PLANTED,
        explicit=(
            {**SMALLEST, "c": "3/2"},
            {**at([1, 2, 1], "leaky_relu", n=9, seed=1, planted=True, keep=[4, 2]), "c": "4"},
        ),
        build=build,
        measure=on_network(True, slope=0),
        grade="proved",
        controls=(
            Control("not stationary", params=at([1, 1, 1], n=3, seed=2)),
            Control("c for c − 1", kind="formula", measure=on_network(True, slope=0, more=0)),
        ),
        budget=Budget(quick=40, full=400),
        notes="f is linear in the last layer's weights and bias and no unit before it moves, so E_ηR is a "
        "parabola along v without limit. "
        "Along other layers it is one up to the nearest kink.",
    ),
    Claim(
        id="dropout-flatness/prefactor@without-dropout",
        title="Interval flatness of the loss without dropout, at a stationary point of the one with dropout",
        source=SOURCE + ", second reading of the loss",
        statement=r"\nabla E_\eta R = 0, \; v \text{ in the last layer}: \quad "
        + PLAIN
        + r", \; L = R, \; H = \nabla^2R",
        hypotheses=(STATIONARY, AWAY, positive(False)),
        strategy=PLANTED,
        explicit=(SMALLEST, {**at([1, 2, 1], "leaky_relu", n=9, seed=1, planted=True, keep=[4, 2])}),
        build=build,
        measure=on_network(False, slope=0),
        grade="proved",
        corrected=Correction(
            tex=r"F_v = \frac{2\sqrt{g^2 + 2h(c-1)L}}h, \quad g = \nabla R\cdot v = -\frac1n\sum_i\sum_j "
            r"s_jf^j_i\,\nabla f^j_i"
            r"\cdot v, \; h = v^{\top}\nabla^2R\,v",
            measure=on_network(False),
            proof="$R = E_\\eta R - \\frac1{2n}\\sum_i\\sum_j s_j(f^j_i)^2$ and $\\nabla E_\\eta R = 0$: R has "
            "the slope that the penalty "
            "balances. It does not depend on c while $2h(c-1)L$ does, so with this reading the pre-factor "
            "matters on quadratics too.",
        ),
        budget=Budget(quick=40, full=400),
        notes="The document does not say which loss F_v takes. With dropout it is at its minimum; without, θ "
        "is on a slope.",
    ),
)
