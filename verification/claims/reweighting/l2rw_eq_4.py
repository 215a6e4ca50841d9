"""(4) with both gradients at θ: its error, where it is exact, and where it has the derivative's sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flint import fmpq
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.reweighting._one_step import Step, line, one, sizes, step
from verification.claims.reweighting._penalty import square
from verification.claims.reweighting.l2rw import EXPLICIT, UNIT, judged
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement, identity

SOURCE = "reweighting, (4)"


def error(s: Step) -> Array:
    """(4) less the derivative."""
    return s.at_theta - judged(s)


def bounded(
    scale: Any = 1, power: int = 2, largest: Callable[[Step], fmpq] = lambda s: s.L_F
) -> Callable[[Step], Measurement]:
    """error_i² against (β² L_F ‖Jω‖ ‖∇L_i‖)², where it uses the largest share."""

    def measure(s: Step) -> Measurement:
        each = [square(column) for column in s.J.T]
        bound = scale**2 * s.beta ** (2 * power) * largest(s) ** 2 * square(s.moved)
        made = [Measurement(observed=e * e, bound=bound * g) for e, g in zip(error(s), each, strict=True)]
        return max(made, key=lambda m: (m.ratio, m.observed))

    return measure


def exactly(error_of: Callable[[Step], Array]) -> Callable[[Step], Measurement]:
    """A stated error against the true one."""
    return lambda s: identity(error(s), error_of(s))


def curved(s: Step) -> Array:
    """β² JᵀPJω."""
    return s.beta**2 * (s.J.T @ s.P @ s.moved)


def zero(s: Step) -> Array:
    """No error."""
    return 0 * s.omega


def without_n(s: Step) -> Measurement:
    """(4) with α for α/n, against the derivative."""
    return identity(s.at_theta * len(s.y), judged(s))


def _affine(s: Step) -> tuple[bool, Any]:
    """F(θ̂) − F(θ) − F'(θ)(θ̂ − θ) = 0: on a line a quadratic is affine, or not."""
    way = s.ahead() - s.theta
    gap = s.F(s.ahead()) - s.F(s.theta) - s.slope(s.theta) @ way
    return gap == 0, str(gap)


def _convex(s: Step) -> tuple[bool, Any]:
    least = min(s.params.get("curvatures", [0] if s.params.get("convex") else [-1]))
    return least >= 0, f"at least {least}"


def _constant(s: Step) -> tuple[bool, Any]:
    gap = s.slope(s.ahead()) - s.slope(s.theta)
    return not (gap != 0).any(), [str(x) for x in gap]


def signs(share: Any = 1) -> Callable[[Step], Measurement]:
    """How many entries of (4) are large enough by the rule, and have the wrong sign or none."""

    def measure(s: Step) -> Measurement:
        known, wrong = s.J.T @ s.slope(s.theta), 0
        for stated, true, g, inner in zip(s.at_theta, judged(s), s.J.T, known, strict=True):
            sure = (share * s.beta * s.L_F) ** 2 * square(s.moved) * square(g) < inner * inner
            wrong += int(sure and stated * true <= 0)
        return Measurement(observed=wrong, bound=0)

    return measure


def reversed_signs(s: Step) -> Measurement:
    """How many entries of (4) have the opposite sign."""
    return Measurement(
        observed=sum(int(a * b < 0) for a, b in zip(s.at_theta, judged(s), strict=True)), bound=0
    )


FLIPPED = line([1], [1], alpha=(2, 1))
SADDLE = one(
    2,
    2,
    0,
    (2, 1),
    curvatures=[1, -1],
    mirror=[0, 0],
    a=[0, 0],
    x=[[1, 1], [1, -1]],
    y=[-1, -1],
    theta=[0, 0],
) | {"omega": [1, 0]}

CLAIMS = (
    Claim(
        id="reweighting/l2rw-eq-4",
        title="The error of (4) with both of its gradients taken at θ",
        source=SOURCE,
        statement=r"$$\left|\frac\alpha n\left(\nabla F(\hat\theta) - \nabla F(\theta)\right)^\top\nabla "
        r"L_i(\theta)\right| \le \left(\frac\alpha n\right)^2L_F\left\|\sum_k\omega_k\nabla "
        r"L_k(\theta)\right\|\|\nabla L_i(\theta)\|$$",
        printed=r"\nabla_\theta\mathcal{L}(f(x_j^v,\theta_t), y_j^v)^T\nabla_\theta\mathcal{L}(f(x_i,\theta_t), y_i)",
        strategy=sizes(),
        explicit=(UNIT, SADDLE, *EXPLICIT[1:], line([1], [1], curvature=-1, alpha=(1, 2))),
        build=step,
        measure=bounded(),
        grade="proved",
        controls=(
            Control("½ of the bound", kind="formula", measure=bounded(fmpq(1, 2))),
            Control("α/n for its square", kind="formula", measure=bounded(power=1)),
            Control(
                "the largest curvature for L_F",
                kind="formula",
                measure=bounded(largest=lambda s: fmpq(max(0, *s.params["curvatures"], 0))),
                params=line([1], [1], curvature=-1),
            ),
        ),
        equality=Equality(params=UNIT, reaches=1.0),
        budget=Budget(quick=80, full=2000),
        notes="Sides squared, so that they are rational. The constant is 1, not ½ as in the error of "
        "$F(\\hat\\theta)$ itself. For quadratic $F$ the error is known exactly (@identity), and is of second order "
        "in $\\alpha$.",
    ),
    Claim(
        id="reweighting/l2rw-eq-4@identity",
        title="The error of (4) on quadratics, exactly",
        source=SOURCE,
        statement=r"$$\nabla^2F = P: \quad -\beta J^\top\nabla F(\theta) + \beta J^\top\nabla F(\hat\theta) = "
        r"-\beta^2J^\top PJ\omega$$ $$\beta = \alpha/n, \quad J = [\nabla L_1(\theta) \dots \nabla L_n(\theta)]$$",
        strategy=sizes(),
        explicit=(*EXPLICIT, SADDLE),
        build=step,
        measure=exactly(lambda s: -curved(s)),
        grade="proved",
        controls=(
            Control("β for β²", kind="formula", measure=exactly(lambda s: -curved(s) / s.beta)),
            Control("the other sign", kind="formula", measure=exactly(curved)),
            Control(
                "P left out", kind="formula", measure=exactly(lambda s: -(s.beta**2) * (s.J.T @ s.moved))
            ),
        ),
        budget=Budget(quick=80, full=2000),
        notes="Linear in $\\omega$ and quadratic in the step; it needs $\\nabla^2F$ on the span of the gradients "
        "alone.",
    ),
    Claim(
        id="reweighting/l2rw-eq-4@affine",
        title="Reading “(4) is exact where F is affine along the step” without convexity",
        source=SOURCE,
        statement=r"$$F \text{ affine on } [\theta, \hat\theta] \;\Rightarrow\; \frac{\partial F(\hat\theta(\omega))}"
        r"{\partial\omega_i} = -\frac\alpha n\nabla F(\theta)^\top\nabla L_i(\theta)$$",
        printed=r"\propto \sum_j\nabla_\theta\mathcal{L}(f(x_j^v,\theta_t), "
        r"y_j^v)^T\nabla_\theta\mathcal{L}(f(x_i,\theta_t), y_i)",
        hypotheses=(
            Hypothesis(
                "affine along the step", r"(\hat\theta-\theta)^\top P(\hat\theta-\theta) = 0", _affine
            ),
        ),
        strategy=sizes(zero=st.booleans(), flat=st.booleans()),
        explicit=(line([1], [0]), SADDLE),
        build=step,
        measure=exactly(zero),
        grade="proved",
        corrected=Correction(
            tex=r"the error is $-\beta^2J^\top PJ\omega$: zero where $\nabla F$ is constant along the step",
            measure=exactly(lambda s: -curved(s)),
            proof="$\\nabla F(\\hat\\theta) - \\nabla F(\\theta) = -\\beta PJ\\omega$. For $P \\succeq 0$, "
            "$(J\\omega)^\\top PJ\\omega = 0$ gives $PJ\\omega = 0$; otherwise it does not.",
        ),
        budget=Budget(quick=60, full=1000),
        notes="Counterexample: $F = (\\theta_1^2 - \\theta_2^2)/2$ at $\\theta = 0$, $\\nabla L_1 = (1, 1)$, "
        "$\\nabla L_2 = (1, -1)$, $\\omega = (1, 0)$: $F$ is 0 on the whole step, the derivative in $\\omega_2$ is "
        "not, and (4) says 0. See @exact for what is true.",
    ),
    Claim(
        id="reweighting/l2rw-eq-4@exact",
        title="Where the validation gradient is constant along the step, (4) is exact",
        source=SOURCE,
        statement=r"$$\nabla F(\hat\theta) = \nabla F(\theta) \;\Rightarrow\; \frac{\partial F(\hat\theta(\omega))}"
        r"{\partial\omega_i} = -\frac\alpha n\nabla F(\theta)^\top\nabla L_i(\theta)$$",
        hypotheses=(Hypothesis("constant gradient", r"\nabla F(\hat\theta) = \nabla F(\theta)", _constant),),
        strategy=sizes(zero=st.booleans(), flat=st.booleans()),
        explicit=(line([1], [0]), one(2, 2, 2, zero=True), one(2, 2, 3, flat=True), one(3, 3, 5, flat=True)),
        build=step,
        measure=exactly(zero),
        grade="proved",
        controls=(
            Control("F curved along the step", params=UNIT),
            Control("1/n missing", kind="formula", measure=without_n),
        ),
        budget=Budget(quick=80, full=1500),
        notes="In particular where $\\sum_i\\omega_i\\nabla L_i(\\theta) = 0$, and so at $\\omega = 0$, where Ren "
        "et al. take the derivative: there the printed point is right for the method that is cited.",
    ),
    Claim(
        id="reweighting/l2rw-eq-4@convex",
        title="Where a convex validation loss is affine along the step, (4) is exact",
        source=SOURCE,
        statement=r"$$F \text{ convex, affine on } [\theta, \hat\theta] \;\Rightarrow\; \frac{\partial "
        r"F(\hat\theta(\omega))}{\partial\omega_i} = -\frac\alpha n\nabla F(\theta)^\top\nabla L_i(\theta)$$",
        hypotheses=(
            Hypothesis(
                "affine along the step", r"(\hat\theta-\theta)^\top P(\hat\theta-\theta) = 0", _affine
            ),
            Hypothesis("convex", r"P \succeq 0", _convex),
        ),
        strategy=sizes(convex=st.just(True), zero=st.booleans(), flat=st.booleans()),
        explicit=(line([1], [0]), one(2, 2, 3, convex=True, flat=True), one(3, 3, 5, convex=True, flat=True)),
        build=step,
        measure=exactly(zero),
        grade="proved",
        controls=(
            Control("a saddle", params=SADDLE),
            Control("F curved along the step", params=UNIT),
            Control("1/n missing", kind="formula", measure=without_n),
        ),
        budget=Budget(quick=80, full=1000),
        notes="For convex $F$ with an $L_F$-Lipschitz gradient $\\|\\Delta\\nabla F\\|^2 \\le L_F\\,\\Delta\\nabla "
        "F^\\top\\Delta\\theta$, and the right side is 0 where $F$ is affine.",
    ),
    Claim(
        id="reweighting/l2rw-eq-4@proportional",
        title="Reading the “∝” of (4) as: clipping both forms keeps the same samples",
        source=SOURCE,
        statement=r"$$\nabla F(\hat\theta)^\top\nabla L_i(\theta) \text{ and } \nabla F(\theta)^\top\nabla "
        r"L_i(\theta) \text{ have no opposite signs}$$",
        printed=r"\propto",
        strategy=sizes(),
        explicit=(UNIT, FLIPPED),
        build=step,
        measure=reversed_signs,
        grade="proved",
        corrected=Correction(
            tex=r"they have the same sign where $\frac\alpha nL_F\|J\omega\|\|\nabla L_i\| < |\nabla "
            r"F(\theta)^\top\nabla L_i|$",
            measure=signs(),
            proof="The error of reweighting/l2rw-eq-4 is then less than the number.",
        ),
        budget=Budget(quick=60, full=1000),
        notes="One sample, one parameter: $F = \\theta^2/2$, $L' = 1$, $\\theta = 1$, $\\alpha = 2$: $\\hat\\theta "
        "= -1$. The two are proportional, with the factor $-1$: the one keeps the sample, the other clips it.",
    ),
    Claim(
        id="reweighting/l2rw-eq-4@sign",
        title="Where (4) has the sign of the derivative",
        source=SOURCE,
        statement=r"$$\frac\alpha nL_F\|J\omega\|\,\|\nabla L_i(\theta)\| < |\nabla F(\theta)^\top\nabla "
        r"L_i(\theta)| \;\Rightarrow\; \operatorname{sign}\nabla F(\hat\theta)^\top\nabla L_i(\theta) = "
        r"\operatorname{sign}\nabla F(\theta)^\top\nabla L_i(\theta)$$",
        strategy=sizes(),
        explicit=(UNIT, line([1], [1], alpha=(1, 2)), one(2, 2, 2, (1, 8))),
        build=step,
        measure=signs(),
        grade="proved",
        controls=(
            Control("half of the left side", kind="formula", measure=signs(fmpq(1, 2))),
            Control("the left side dropped", kind="formula", measure=signs(fmpq(0))),
        ),
        budget=Budget(quick=80, full=1500),
        notes="Counted are the samples for which the condition holds and the signs differ. With the left side "
        "halved one sample and one parameter refute it: the bound is attained.",
    ),
)
