"""Misprints of the reweighting part, (1)–(4): what is printed, executed on linear regression over the rationals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

from refimpl.arrays.backend import Array
from verification.claims.reweighting._rational import RATIONAL, central_differences
from verification.model import Budget, Claim, Control, Correction, Measurement, identity


@dataclass(frozen=True)
class Regression:
    """ℓ(x, y; θ) = (x·θ − y)²/2 on training samples (weights ω) and validation samples, small integers throughout."""

    x: Array
    y: Array
    omega: Array
    x_val: Array
    y_val: Array
    theta0: Array
    theta: Array
    alpha: fmpq
    used: int

    def gradients(self, theta: Array) -> Array:
        """∇L_i(θ), (N, d)."""
        return (self.x @ theta - self.y)[:, None] * self.x

    def lower(self, theta: Array) -> Any:
        """(2): (1/n) Σ ω_i L_i(θ)."""
        return (self.omega * (self.x @ theta - self.y) ** 2).sum() / 2 / len(self.y)

    def upper(self, theta: Array) -> Any:
        """(1): the mean validation loss."""
        return ((self.x_val @ theta - self.y_val) ** 2).sum() / 2 / len(self.y_val)

    def upper_gradient(self, theta: Array) -> Array:
        return ((self.x_val @ theta - self.y_val)[:, None] * self.x_val).sum(axis=0) / len(self.y_val)

    def step(self, at: Array, omega: Array | None = None) -> Array:
        """θ_t − (α/n) Σ ω_i ∇L_i(at)."""
        omega = self.omega if omega is None else omega
        return self.theta - self.alpha / len(self.y) * (omega[:, None] * self.gradients(at)).sum(axis=0)

    @cached_property
    def descent(self) -> Array:
        """θ_t − α∇(2) at θ_t, the gradient from differences of the objective itself (exact: it is quadratic)."""
        return self.theta - self.alpha * central_differences(self.lower, self.theta)


def regression(params: Mapping[str, Any]) -> Regression:
    """The regression of ``params``; the first ``used`` validation samples count in (1) as printed."""
    rng = np.random.default_rng(params["seed"])
    N, M, d = params["N"], params["M"], params["d"]

    def small(*shape: int) -> Array:
        return RATIONAL.asarray(rng.integers(-2, 3, shape).astype(float))

    x, y, omega, x_val, y_val = small(N, d), small(N), small(N) ** 2 + 1, small(M, d), small(M)
    return Regression(x, y, omega, x_val, y_val, small(d), small(d), fmpq(1, 2), min(params["used"], M))


def at(N: int, M: int, d: int, seed: int = 0, used: int = 9) -> dict[str, Any]:
    """Parameters of one regression."""
    return {"N": N, "M": M, "d": d, "seed": seed, "used": used}


STRATEGY = st.fixed_dictionaries(
    {
        "N": st.integers(1, 3),
        "M": st.integers(1, 3),
        "d": st.integers(1, 3),
        "seed": st.integers(0, 99),
        "used": st.integers(1, 3),
    }
)


def step_from(point: Callable[[Regression], Array]) -> Callable[[Regression], Measurement]:
    """The step with its gradient taken at ``point``, against gradient descent on the objective."""
    return lambda r: identity(r.step(point(r)), r.descent)


def not_parallel(direction: Callable[[Regression], Array]) -> Callable[[Regression], Measurement]:
    """The largest 2 x 2 minor of the stated direction and the true −∂F(θ̂(ω))/∂ω, 0 where they are parallel."""

    def measure(r: Regression) -> Measurement:
        true = -central_differences(lambda omega: r.upper(r.step(r.theta, omega)), r.omega)
        stated = direction(r)
        minors = stated[:, None] * true - true[:, None] * stated
        return identity(minors, 0 * minors)

    return measure


def printed_4(r: Regression) -> Array:
    """Σ_j ∇L_jᵛ(θ_t)ᵀ∇L_i(θ_t)."""
    return r.gradients(r.theta) @ r.upper_gradient(r.theta)


def corrected_4(r: Regression) -> Array:
    """Σ_j ∇L_jᵛ(θ̂_{t+1})ᵀ∇L_i(θ_t)."""
    return r.gradients(r.theta) @ r.upper_gradient(r.step(r.theta))


def validation_mean(count: Callable[[Regression], int]) -> Callable[[Regression], Measurement]:
    """(1) over the first ``count`` samples against the mean loss over the validation set."""

    def measure(r: Regression) -> Measurement:
        m = count(r)
        losses = (r.x_val @ r.theta - r.y_val) ** 2 / 2
        return identity(losses[:m].sum() / m, r.upper(r.theta))

    return measure


def differ(
    printed: Callable[[Regression], Any], corrected: Callable[[Regression], Any], params: Any
) -> Control:
    """The erratum's control: an instance on which the two forms are not the same."""
    return Control(
        "printed and corrected are the same",
        kind="formula",
        measure=lambda r: identity(printed(r), corrected(r)),
        params=params,
    )


CLAIMS = (
    Claim(
        id="reweighting/erratum-3",
        title="As printed: (3), with its gradient at θ, is a gradient step from θ_t",
        source="reweighting, (3)",
        statement=r"\hat\theta_{t+1} = \theta_t - \frac{\alpha}{n}\sum_i\omega_{i,t}\nabla_\theta\mathcal "
        r"L(f(x_i, \theta), y_i) \text{ is a gradient step on (2) from } \theta_t",
        printed=r"\nabla_\theta\mathcal{L}(f(x_i, \theta), y_i)",
        strategy=STRATEGY,
        explicit=(at(1, 1, 1), at(1, 1, 1, seed=2)),
        build=regression,
        measure=step_from(lambda r: r.theta0),
        grade="proved",
        controls=(differ(lambda r: r.step(r.theta0), lambda r: r.step(r.theta), at(1, 1, 1, seed=2)),),
        corrected=Correction(
            tex=r"\hat\theta_{t+1} = \theta_t - \frac{\alpha}{n}\sum_i\omega_{i,t}\nabla_\theta\mathcal "
            r"L(f(x_i, \theta_t), y_i)",
            measure=step_from(lambda r: r.theta),
            proof="The definition of a gradient step; (4) and (6) do write $\\theta_t$.",
        ),
        budget=Budget(quick=60, full=400),
        notes="A misprint of notation: $\\theta$ is bound by nothing in (3), which has no value as printed. The "
        "reading executed takes the start $\\theta_0$ of the training; any point other than $\\theta_t$ would do. The "
        "judge differences the objective (2).",
    ),
    Claim(
        id="reweighting/erratum-4",
        title="As printed: the derivative in (4) has its validation gradient at θ_t",
        source="reweighting, (4)",
        statement=r"-\frac{\partial F(\omega, \hat\theta_{t+1}(\omega))}{\partial\omega_{i,t}} \propto "
        r"\sum_j\nabla_\theta\mathcal L(f(x_j^v, \theta_t), y_j^v)^\top\nabla_\theta\mathcal L(f(x_i, "
        r"\theta_t), y_i)",
        printed=r"\propto \sum_{j=1}^m \nabla_\theta\mathcal{L}(f(x_j^v,\theta_t), "
        r"y_j^v)^T\nabla_\theta\mathcal{L}(f(x_i,\theta_t), y_i)",
        strategy=STRATEGY,
        explicit=(at(1, 1, 1), at(2, 1, 1), at(2, 2, 2), at(2, 2, 2, seed=1), at(2, 2, 2, seed=2)),
        build=regression,
        measure=not_parallel(printed_4),
        grade="proved",
        controls=(differ(printed_4, corrected_4, at(2, 2, 2, seed=2)),),
        corrected=Correction(
            tex=r"-\frac{\partial F}{\partial\omega_{i,t}} = \frac{\alpha}{nm}\sum_j\nabla_\theta\mathcal "
            r"L(f(x_j^v, \hat\theta_{t+1}), y_j^v)^\top\nabla_\theta\mathcal L(f(x_i, \theta_t), y_i)",
            measure=not_parallel(corrected_4),
            proof="Chain rule with $\\partial\\hat\\theta_{t+1}/\\partial\\omega_i = -(\\alpha/n)\\nabla "
            "L_i(\\theta_t)$; the outer gradient belongs at $\\hat\\theta_{t+1}$, as in the second line. The "
            "printed line is exact where $\\sum_i\\omega_i\\nabla L_i(\\theta_t) = 0$ (in particular at "
            "$\\omega = 0$, where Ren et al. take it) or where $\\nabla F$ is constant along the step (for "
            "convex F: where F is affine along it).",
        ),
        budget=Budget(quick=60, full=400),
        notes="Proportionality over i is tested by all 2 × 2 minors, so one weight or one parameter (d = 1) "
        "cannot show the difference; the true derivative is differenced in ω, exactly. A negative factor "
        "would pass for proportional, see l2rw-eq-4@proportional.",
    ),
    Claim(
        id="reweighting/erratum-counts",
        title="As printed: sums to m and n are means over sets of M and N elements",
        source="reweighting, section 1 against (1) and (2)",
        statement=r"F = \frac{1}{m}\sum_{j=1}^m\mathcal L(f(x_j^v, \theta), y_j^v) \text{ is the mean loss "
        r"over the validation set}\ \{(x_i^v, y_i^v),\ 1 \le i \le M\}",
        printed=r"\frac{1}{m}\sum_{j=1}^m \text{ beside } 1 \le i \le M",
        strategy=STRATEGY,
        explicit=(at(1, 1, 1, used=1), at(1, 2, 1, seed=2, used=1)),
        build=regression,
        measure=validation_mean(lambda r: r.used),
        grade="proved",
        controls=(
            differ(
                lambda r: ((r.x_val @ r.theta - r.y_val) ** 2)[: r.used].sum() / 2 / r.used,
                lambda r: r.upper(r.theta),
                at(1, 2, 1, seed=2, used=1),
            ),
        ),
        corrected=Correction(
            tex=r"F = \frac{1}{M}\sum_{j=1}^M\mathcal L(f(x_j^v, \theta), y_j^v), \quad \text{and likewise } "
            r"N \text{ in (2)}",
            measure=validation_mean(lambda r: len(r.y_val)),
            proof="m and n are defined nowhere; equal to M and N they give the means that the text "
            "describes. As sizes of mini-batches they would make F an estimate, which (1) and (2) do not "
            "say.",
        ),
        budget=Budget(quick=60, full=400),
        notes="A misprint of notation: m and n are bound by nothing, and equal to M and N they do no harm. The "
        "reading executed takes the first m ≤ M samples; the two objectives differ where m < M.",
    ),
)
