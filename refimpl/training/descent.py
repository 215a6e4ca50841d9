"""Gradient descent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from refimpl.arrays.backend import Array
from refimpl.training.optimiser import Optimiser, State


@dataclass(frozen=True)
class GradientDescent(Optimiser):
    """w ← w − η_k g.

    On ½wᵀAw an eigenvector's coordinate is multiplied by 1 − ηλ: it falls where 0 < ηλ < 2.

    >>> import numpy as np
    >>> gd = GradientDescent(0.5)
    >>> gd.step(gd.start(np.array([1.0, 2.0])), np.array([1.0, 0.0])).w.tolist()
    [0.5, 2.0]
    """

    def start(self, w: Array) -> State:
        return State(0, w)

    def step(self, state: State, gradient: Array) -> State:
        return replace(state, k=state.k + 1, w=state.w - self.size(state) * gradient)
