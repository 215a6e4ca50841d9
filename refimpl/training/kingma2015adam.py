"""Adam (D. P. Kingma, J. Ba, 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from refimpl.arrays.backend import Array
from refimpl.arrays.numbers import require_number
from refimpl.training.optimiser import Optimiser, State


@dataclass(frozen=True, eq=False)
class AdamState(State):
    """With running means of the gradient, m (..., d), and of its square, v (..., d): both biased towards 0."""

    m: Array
    v: Array


@dataclass(frozen=True)
class Adam(Optimiser):
    """Algorithm 1 of Kingma & Ba (2015), whose default β and ε these are; t = k + 1 and all operations entry by entry:

        m ← β₁m + (1 − β₁)g,   v ← β₂v + (1 − β₂)g²,   w ← w − η_k m̂ / (√v̂ + ε),
        m̂ = m/(1 − β₁^t),  v̂ = v/(1 − β₂^t).

    ε stands outside the root and is added to the corrected √v̂. (The article's faster variant after Algorithm 1 adds
    its ε̂ to the uncorrected √v: another ε.) The first step is η g/(|g| + ε). A step does not change when
    gradients and ε are scaled alike.
    """

    beta1: Any = 0.9
    beta2: Any = 0.999
    epsilon: Any = 1e-8
    state: ClassVar[type[State]] = AdamState

    def __post_init__(self) -> None:
        super().__post_init__()
        for value, name in ((self.beta1, "beta1"), (self.beta2, "beta2")):
            require_number(value, name, "the article's are 0.9 and 0.999", high=1, closed=True)
        require_number(self.epsilon, "epsilon", "0 would divide by zero where g = 0")

    def start(self, w: Array) -> AdamState:
        zero = self.backend.zeros(w.shape)
        return AdamState(0, w, zero, zero)

    def step(self, state: AdamState, gradient: Array) -> AdamState:
        B, t = self.backend, state.k + 1
        beta1, beta2, epsilon = (B.scalar(x) for x in (self.beta1, self.beta2, self.epsilon))
        m = beta1 * state.m + (1 - beta1) * gradient
        v = beta2 * state.v + (1 - beta2) * (gradient * gradient)
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        return AdamState(t, state.w - self.size(state) * (m_hat / (B.sqrt(v_hat) + epsilon)), m, v)
