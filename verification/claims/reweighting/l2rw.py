"""Learning to reweight: the derivative of one virtual step, (3) and (4), then clipped and normalised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from flint import fmpq
from hypothesis import strategies as st

from refimpl import solvers
from refimpl.algorithms import L2RW
from refimpl.approximate import one_step
from refimpl.arrays.backend import Array
from verification.claims.reweighting._one_step import Step, line, one, positive, sizes, step
from verification.claims.reweighting._penalty import square
from verification.claims.reweighting._rational import central_differences
from verification.model import Budget, Claim, Control, Correction, Equality, Hypothesis, Measurement, identity

SOURCE = "reweighting, (3) and (4)"
AFTER = "reweighting, after (4), the method of Ren et al. 2018"


# -- the derivative ----------------------------------------------------------------------------------------


def judged(s: Step) -> Array:
    """∂F(θ̂(ω))/∂ω by central differences: exact, as ω ↦ F(θ̂(ω)) is a quadratic polynomial."""
    return central_differences(lambda omega: s.F(s.ahead(omega)), s.omega)


def package(s: Step) -> Array:
    """What ``one_step`` returns from w_0 = θ."""
    lower = solvers.GradientDescent(1, s.rates["alpha"])
    return one_step(s.problem, s.omega, lower=lower, w0=s.theta).value


def agrees(*formulas: Callable[[Step], Array]) -> Callable[[Step], Measurement]:
    """All of them against the judge."""
    return lambda s: identity([f(s) for f in formulas], [judged(s)] * len(formulas))


# -- clip, normalise, step ---------------------------------------------------------------------------------


def clipped(s: Step) -> Array:
    """max(−η ∂F/∂ω, 0) at ω = 0, over its sum, η = ``params["eta"]``."""
    tilde = positive(-s.eta * s.at_theta)
    return tilde / (tilde.sum() + int(tilde.sum() == 0))


def clipped_late(s: Step) -> Array:
    """First normalised, then clipped."""
    u = -s.at_theta
    return positive(u / (u.sum() + int(u.sum() == 0)))


def absolute(s: Step) -> Array:
    """Absolute values for what is clipped."""
    u = abs(s.at_theta)
    return u / (u.sum() + int(u.sum() == 0))


def weights(of: Callable[[Step], Array] = clipped) -> Callable[[Step], Measurement]:
    """The package's weights; they lie in the simplex, or are 0."""

    def measure(s: Step) -> Measurement:
        found = s.after(L2RW(alpha=s.rates["alpha"])).lam
        outside = sum(max(-x, fmpq(0)) for x in found) + found.sum() * (found.sum() - 1)
        return identity([*found, outside], [*of(s), fmpq(0)])

    return measure


def downhill(of: Callable[[Step], fmpq]) -> Callable[[Step], Measurement]:
    """F'(θ)·(θ⁺ − θ), the derivative of F along the package's step."""

    def measure(s: Step) -> Measurement:
        at: Literal["zero", "current"] = "current" if s.params.get("current") else "zero"
        way = s.after(L2RW(alpha=s.rates["alpha"], at=at)).w - s.theta
        return identity(s.slope(s.theta) @ way, of(s))

    return measure


def steepness(s: Step) -> fmpq:
    """−β Σa²/Σa."""
    a = s.raised
    return -s.beta * square(a) / (a.sum() + int(a.sum() == 0))


def _from_zero(s: Step) -> tuple[bool, Any]:
    current = bool(s.params.get("current"))
    return not current, "the current ω" if current else "ω = 0"


def raised_columns(s: Step) -> fmpq:
    """‖J₊‖_F², of the columns that are not clipped."""
    return fmpq(0) + sum(square(g) for g, a in zip(s.J.T, s.raised, strict=True) if a > 0)


def largest_column(s: Step) -> fmpq:
    """The largest ‖∇L_i‖² alone."""
    return max(square(g) for g in s.J.T)


def decrease(size: Callable[[Step], fmpq] = raised_columns, share: Any = 1) -> Callable[[Step], Measurement]:
    """F(θ − βJa) − F(θ) + βΣa² against ½β²L_F‖J₊‖²Σa²."""

    def measure(s: Step) -> Measurement:
        a = s.raised
        change = s.F(s.theta - s.beta * (s.J @ a)) - s.F(s.theta)
        bound = share * s.beta**2 * s.L_F * size(s) * square(a) / 2
        return Measurement(observed=change + s.beta * square(a), bound=bound)

    return measure


def normalised_descends(s: Step) -> Measurement:
    """How far F grows over the package's step."""
    end = s.after(L2RW(alpha=s.rates["alpha"])).w
    return Measurement(observed=s.F(end) - s.F(s.theta), bound=0)


def normalised(share: Any = 1) -> Callable[[Step], Measurement]:
    """F(θ⁺) − F(θ) + βΣa²/Σa against ½β²L_F‖Ja‖²/(Σa)², θ⁺ the package's."""

    def measure(s: Step) -> Measurement:
        a, end = s.raised, s.after(L2RW(alpha=s.rates["alpha"])).w
        total = a.sum() + int(a.sum() == 0)
        bound = share * s.beta**2 * s.L_F * square(s.J @ a) / total**2 / 2
        return Measurement(observed=s.F(end) - s.F(s.theta) - steepness(s), bound=bound)

    return measure


def _short(s: Step) -> tuple[bool, Any]:
    """α L_F max‖∇L_i‖² <= 2n."""
    product = s.beta * s.L_F * largest_column(s)
    return product <= 2, str(product)


UNIT = line([1], [1])
OVERSHOOTS = line([1], [0], over=4)
IDENTICAL = line([1, 1], [0, 0], alpha=(3, 1))
EXPLICIT = (UNIT, one(2, 1, 1), one(2, 2, 2, (3, 1)), one(3, 2, 3, (1, 2)))
ETAS = st.sampled_from([[1, 8], [1, 1], [5, 1]])

CLAIMS = (
    Claim(
        id="reweighting/l2rw-one-step",
        title="The derivative of the one-step objective in a sample's weight",
        source=SOURCE,
        statement=r"$$\hat\theta(\omega) = \theta - \frac\alpha n\sum_i\omega_i\nabla L_i(\theta):$$ "
        r"$$\frac{\partial F(\hat\theta(\omega))}{\partial\omega_i} = -\frac\alpha n\nabla F(\hat\theta)^\top\nabla "
        r"L_i(\theta)$$",
        strategy=sizes(),
        explicit=EXPLICIT,
        build=step,
        measure=agrees(lambda s: s.derivative, package),
        grade="proved",
        controls=(
            Control("∇F at θ", kind="formula", measure=agrees(lambda s: s.at_theta)),
            Control("1/n missing", kind="formula", measure=agrees(lambda s: s.derivative * len(s.y))),
            Control("the other sign", kind="formula", measure=agrees(lambda s: -s.derivative)),
            Control(
                "∇L_i at θ̂",
                kind="formula",
                measure=agrees(lambda s: -s.beta * (s.gradients(s.ahead()) @ s.slope(s.ahead()))),
            ),
        ),
        budget=Budget(quick=80, full=2000),
        notes="The chain rule: $\\hat\\theta$ is affine in $\\omega$. The second line of (4), evaluated; $F$ is any "
        "quadratic, convex or not, and the judge differences it in $\\omega$, exactly. The package's `one_step` is "
        "the same number: unrolling with one step.",
    ),
    Claim(
        id="reweighting/l2rw-one-step@clip-normalise",
        title="Learning to reweight clips first, then normalises",
        source=AFTER,
        statement=r"$$\tilde\omega_i = \max(-\eta\,\partial F/\partial\omega_i, 0),\quad \omega = "
        r"\tilde\omega/\left(\textstyle\sum\tilde\omega + [\sum\tilde\omega = 0]\right)$$ at $\omega = 0$: the same "
        r"for every $\eta > 0$, in the simplex, or $0$ where no derivative is negative.",
        strategy=sizes(eta=ETAS),
        explicit=(
            UNIT | {"eta": [5, 1]},
            line([2, -1], [0, 0]),
            line([-1, -1], [0, 0]),
            line([1, -2], [1, 1]),
        ),
        build=step,
        measure=weights(),
        grade="proved",
        controls=(
            Control("normalised first, then clipped", kind="formula", measure=weights(clipped_late)),
            Control(
                "all derivatives positive, normalised first",
                kind="formula",
                measure=weights(clipped_late),
                params=line([-1, -1], [0, 0]),
            ),
            Control("absolute values", kind="formula", measure=weights(absolute)),
        ),
        budget=Budget(quick=80, full=1500),
        notes="Judged is the package's iteration, whose derivative is taken at $\\omega = 0$ as in the article: "
        "there the second line of (4) and its last line are the same. Normalising first turns $(1, -2)$ into $(-1, "
        "2)$, and keeps the sample that harms.",
    ),
    Claim(
        id="reweighting/l2rw-one-step@descent",
        title="Weights from the derivative at zero give a direction in which the validation loss does not rise",
        source=AFTER,
        statement=r"$$F'(\theta)^\top(\theta^+ - \theta) = -\frac\alpha n\,\frac{\sum a_i^2}{\sum a_i} \le 0$$ "
        r"$$\quad a_i = \max(\nabla F(\theta)^\top\nabla L_i(\theta), 0)$$ with the weights of @clip-normalise; $0$ "
        r"where all are clipped.",
        hypotheses=(Hypothesis("derivative at zero weights", r"\omega = 0", _from_zero),),
        strategy=sizes(),
        explicit=(UNIT, line([2, -1], [0, 0]), line([-1, -1], [0, 0])),
        build=step,
        measure=downhill(steepness),
        grade="proved",
        controls=(
            Control(
                "the derivative at the current weights", params=line([1, -1], [1, 0], alpha=(4, 1), current=1)
            ),
            Control("Σa for Σa²/Σa", kind="formula", measure=downhill(lambda s: -s.beta * s.raised.sum())),
            Control("1/n missing", kind="formula", measure=downhill(lambda s: steepness(s) * len(s.y))),
        ),
        budget=Budget(quick=80, full=1500),
        notes="With the exact derivative at the current $\\omega$ it fails: $F = \\theta^2/2$, $L' = (1, -1)$, "
        "$\\theta = 1$, $\\omega = (1, 0)$, $\\alpha/n = 2$: $\\hat\\theta = -1$ picks the second sample, and "
        "$\\theta^+ = 3$.",
    ),
    Claim(
        id="reweighting/l2rw-one-step@decrease",
        title="How long a step with clipped weights that are not normalised lowers the validation loss",
        source=AFTER,
        statement=r"$$F(\theta - sJa) \le F(\theta) - s\left(1 - \tfrac s2L_F\|J_+\|_F^2\right)\sum a_i^2$$ $J_+$: "
        r"the gradients $\nabla L_i(\theta)$ with $a_i = (F'(\theta)^\top\nabla L_i(\theta))_+ > 0$; so $F$ falls "
        r"for $s < 2/(L_F\|J_+\|_F^2)$.",
        strategy=sizes(),
        explicit=(UNIT, IDENTICAL, one(2, 2, 2, (3, 1))),
        build=step,
        measure=decrease(),
        grade="proved",
        controls=(
            Control(
                "the largest gradient for the sum over samples",
                kind="formula",
                measure=decrease(largest_column),
            ),
            Control("¼ for ½", kind="formula", measure=decrease(share=fmpq(1, 2))),
        ),
        equality=Equality(params=IDENTICAL, reaches=1.0),
        budget=Budget(quick=80, full=2000),
        notes="The descent lemma with $F'^\\top Ja = \\sum a_i^2$ and $\\|Ja\\| \\le \\|J_+\\|\\|a\\|$. With "
        "$\\|\\nabla L_i\\| \\le \\sigma$ and $s = \\alpha/n$ that is $\\alpha \\le 2/(L_F\\sigma^2)$; the factor "
        "$n$ more that is sometimes recalled fails for two identical samples, where $F(\\theta^+) = 4F(\\theta)$ at "
        "$\\alpha = 3$: the first control.",
    ),
    Claim(
        id="reweighting/l2rw-one-step@normalised",
        title="Nobody prints this: with normalised weights the validation loss falls for every short enough step",
        source=AFTER,
        statement=r"$$\alpha \le \frac{2n}{L_F\max_i\|\nabla L_i\|^2} \;\Rightarrow\; F(\theta^+) \le F(\theta)$$",
        printed=r"\omega = \tilde\omega/\sum\tilde\omega",
        hypotheses=(Hypothesis("short step", r"\alpha L_F\max_i\|\nabla L_i\|^2 \le 2n", _short),),
        strategy=sizes(over=st.sampled_from([1, 2, 8])),
        explicit=(line([1], [0]), OVERSHOOTS),
        build=step,
        measure=normalised_descends,
        grade="proved",
        corrected=Correction(
            tex=r"$$F(\theta^+) \le F(\theta) - \beta\frac{\sum a_i^2}{\sum a_i} + "
            r"\frac{\beta^2L_F}2\frac{\|Ja\|^2}{(\sum a_i)^2}$$ $\beta = \alpha/n$: it falls where $\beta < 2\sum "
            r"a_i^2\sum a_i/(L_F\|Ja\|^2)$, which tends to 0 with $\nabla F$.",
            measure=normalised(),
            proof="The descent lemma along $-\\beta Ja/\\sum a_i$, with $F'^\\top Ja = \\sum a_i^2$.",
        ),
        budget=Budget(quick=60, full=1000),
        notes="Nobody prints this: a reading that carries @decrease over to normalised weights. "
        "No $\\alpha > 0$ does for every $\\theta$: the step keeps its length while the derivatives vanish. "
        "One sample, $L' = 1$, $F = \\theta^2/2$, $\\theta = \\frac14$, $\\alpha = 1$: $\\omega = 1$, $\\theta^+ = "
        "-\\frac34$, and $F$ is 9 times as large.",
    ),
)
