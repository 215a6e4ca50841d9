"""Gradient descent with Nesterov's momentum (Y. Nesterov, 1983), in the form that takes its gradient at w itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from refimpl.arrays.backend import Array
from refimpl.arrays.numbers import require_number
from refimpl.training.optimiser import Optimiser, State


@dataclass(frozen=True, eq=False)
class NesterovState(State):
    """With the momentum b (..., d), a discounted sum of all gradients."""

    b: Array


@dataclass(frozen=True)
class Nesterov(Optimiser):
    """b ← μb + g(w), w ← w − η_k (g(w) + μb) with the new b; from b = 0. μ is the momentum, 0 <= μ < 1.

    The other common form has a velocity and takes the gradient ahead of its own iterate (Sutskever et al. 2013):

        v ← μv − η g(x + μv),   x ← x + v.

    At a constant rate they are one: put w = x + μv, b = −v/η. Then g is taken at w; v ← μv − ηg is −η times
    b ← μb + g; and the new x + μv is (w − μv_old) + v + μv = w − ηg + μv = w − η(g + μb). So w here is the point ahead,
    and x = w + ημb. Where η changes they differ: b holds gradients, to which the new rate applies at once, v holds
    steps already scaled. Deep-learning frameworks have the form with b, and step drops are meant for it.

    On ½wᵀAw an eigenvector's coordinate obeys w_{k+1} = (1 − ηλ)((1 + μ)w_k − μw_{k−1}): of the roots
    r² − (1 + μ)(1 − ηλ)r + μ(1 − ηλ) = 0 the product is μ(1 − ηλ). (In heavy ball it is μ: no factor 1 − ηλ.)
    """

    momentum: Any = 0.9
    state: ClassVar[type[State]] = NesterovState

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number(self.momentum, "momentum", "0 is gradient descent", high=1, closed=True)

    def start(self, w: Array) -> NesterovState:
        return NesterovState(0, w, self.backend.zeros(w.shape))

    def step(self, state: NesterovState, gradient: Array) -> NesterovState:
        mu = self.backend.scalar(self.momentum)
        b = mu * state.b + gradient
        return NesterovState(state.k + 1, state.w - self.size(state) * (gradient + mu * b), b)
