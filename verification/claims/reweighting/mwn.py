"""Meta-Weight-Net's steps (5) and (6) with free weights, over the rationals: one step on F, preconditioned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flint import fmpq
from hypothesis import strategies as st

from refimpl.algorithms import MetaWeightNet
from refimpl.arrays.backend import Array
from verification.claims.reweighting._one_step import Step, line, one, sizes, step
from verification.claims.reweighting._penalty import square
from verification.claims.reweighting.l2rw import judged
from verification.model import Budget, Claim, Control, Equality, Measurement, identity

SOURCE = "reweighting, (5) and (6)"
End = Callable[[Step], tuple[Array, Array]]


def new_weights(s: Step, rate: Any = None) -> Array:
    """ω + ηβJᵀF'(θ̂)."""
    return s.omega + (s.eta if rate is None else rate) * s.beta * (s.J.T @ s.slope(s.ahead()))


def stated(s: Step) -> tuple[Array, Array]:
    """ω⁺ and θ̂ − ηβ²JJᵀF'(θ̂)."""
    pull = s.eta * s.beta**2 * (s.J @ (s.J.T @ s.slope(s.ahead())))
    return new_weights(s), s.ahead() - pull


def printed(s: Step) -> tuple[Array, Array]:
    """(5) with the derivative differenced, then (6) with ∇Σω_i⁺L_i at θ: exact."""
    omega = s.omega - s.eta * judged(s)
    return omega, s.ahead(omega)


def found(s: Step) -> tuple[Array, Array]:
    """The package's iteration."""
    end = s.after(MetaWeightNet(**s.rates))
    return end.lam, end.w


def agree(*ends: End) -> Callable[[Step], Measurement]:
    """Weights and parameters after the iteration, against the printed lines."""

    def measure(s: Step) -> Measurement:
        expected = [x for part in printed(s) for x in part]
        return identity([[x for part in end(s) for x in part] for end in ends], [expected] * len(ends))

    return measure


def old_weights(s: Step) -> tuple[Array, Array]:
    """(6) with ω for ω⁺."""
    return new_weights(s), s.ahead()


def moved_gradients(s: Step) -> tuple[Array, Array]:
    """(6) with its new part's ∇L_i at θ̂."""
    there = s.gradients(s.ahead()).T
    return new_weights(s), s.ahead() - s.beta * (there @ (new_weights(s) - s.omega))


def other_sign(s: Step) -> tuple[Array, Array]:
    """+ in (5)."""
    omega = new_weights(s, -s.eta)
    return omega, s.ahead(omega)


def both_over_n(s: Step) -> tuple[Array, Array]:
    """η/n for η."""
    omega = new_weights(s, s.eta / (1 + len(s.y)))
    return omega, s.ahead(omega)


def decrease(share: Any = 1, start: Callable[[Step], Array] = Step.ahead) -> Callable[[Step], Measurement]:
    """F(θ⁺) − F(θ̂) + ηβ²g against ½(ηβ²)²L_F‖J‖_F²g, g = ‖JᵀF'(θ̂)‖²."""

    def measure(s: Step) -> Measurement:
        rate, g = s.eta * s.beta**2, square(s.J.T @ s.slope(s.ahead()))
        change = s.F(found(s)[1]) - s.F(start(s))
        bound = share * rate**2 * s.L_F * square(s.J.ravel()) * g / 2
        return Measurement(observed=change + rate * g, bound=bound)

    return measure


UNIT = line([1], [1], alpha=(1, 2))
UPHILL = line([-1], [1], eta=[1, 8])
ETAS = st.sampled_from([[1, 8], [1, 2], [1, 1], [3, 1]])
CLAIMS = (
    Claim(
        id="reweighting/mwn-step",
        title="Meta-Weight-Net with free weights is one preconditioned step on the validation loss",
        source=SOURCE,
        statement=r"$$\omega^+ = \omega + \eta\beta J^\top\nabla F(\hat\theta)$$ $$\theta^+ = \hat\theta - "
        r"\eta\beta^2JJ^\top\nabla F(\hat\theta)$$ $$\hat\theta = \theta - \beta J\omega, \quad J = [\nabla "
        r"L_1(\theta) \dots \nabla L_n(\theta)], \quad \beta = \alpha/n$$",
        strategy=sizes(eta=ETAS),
        explicit=(UNIT, one(2, 1, 1), one(2, 2, 2, (3, 1), eta=[1, 2]), one(3, 2, 3, (1, 2))),
        build=step,
        measure=agree(stated, found),
        grade="proved",
        controls=(
            Control("the old weights in (6)", kind="formula", measure=agree(old_weights)),
            Control("∇L_i at θ̂ in the new part of (6)", kind="formula", measure=agree(moved_gradients)),
            Control("the other sign in (5)", kind="formula", measure=agree(other_sign)),
            Control("η/(n + 1) for η", kind="formula", measure=agree(both_over_n)),
        ),
        budget=Budget(quick=80, full=2000),
        notes="(5) and (6) as printed, $\\partial F/\\partial\\omega$ differenced exactly, against the formula and "
        "the package's iteration. So the weights carry one gradient step on $F$ from the virtual point "
        "$\\hat\\theta$, preconditioned by the Gram matrix of the training gradients, and lie still where "
        "$J^\\top\\nabla F(\\hat\\theta) = 0$, wrong as they may be.",
    ),
    Claim(
        id="reweighting/mwn-step@decrease",
        title="The step with new weights lowers the validation loss below that of the virtual step",
        source=SOURCE,
        statement=r"$$F(\theta^+) \le F(\hat\theta) - \eta\beta^2\left(1 - \tfrac12\eta\beta^2L_F\|J\|_F^2\right)"
        r"\|J^\top\nabla F(\hat\theta)\|^2$$",
        strategy=sizes(eta=ETAS),
        explicit=(UNIT, UPHILL, one(2, 2, 2, (3, 1))),
        build=step,
        measure=decrease(),
        grade="proved",
        controls=(
            Control("¼ for ½", kind="formula", measure=decrease(share=fmpq(1, 2))),
            Control(
                "F(θ) for F(θ̂)", kind="formula", measure=decrease(start=lambda s: s.theta), params=UPHILL
            ),
        ),
        equality=Equality(params=UNIT, reaches=1.0),
        budget=Budget(quick=80, full=2000),
        notes="The descent lemma on the identity of reweighting/mwn-step: a decrease for "
        "$\\eta\\beta^2L_F\\|J\\|_F^2 \\le 2$, against $\\hat\\theta$. Against $\\theta$ there is none: with $F = "
        "\\theta^2/2$, $L' = -1$, $\\omega = 1$, $\\theta = 1$ the weights are wrong, and a small $\\eta$ leaves "
        "$\\theta^+ \\approx 2$: the second control.",
    ),
)
