"""What an optimiser is: a pure map of states, which is handed the gradient at the state's own point.

    state = optimiser.start(w)
    state = optimiser.step(state, f.grad_w(lam, state.w))

Nothing in it is random and nothing depends on f, so that one source serves full batches, minibatches, dropout and
added noise. Leading axes of w are replicates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.objective import Movable
from refimpl.rates import Rate, as_rate


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class State:
    """After k steps: the parameters w (..., d), where the next gradient is taken; subclasses remember more."""

    k: int
    w: Array


@dataclass(frozen=True)
class Optimiser(Movable, ABC):
    """A map (state, gradient) ↦ state. rate: a positive number, or a :class:`~refimpl.rates.Rate`."""

    rate: Any
    backend: Backend = field(default=Backend(), kw_only=True)
    state: ClassVar[type[State]] = State  # what start returns and step takes

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", as_rate(self.rate))

    @abstractmethod
    def start(self, w: Array) -> State:
        """The state before the first step."""

    @abstractmethod
    def step(self, state: Any, gradient: Array) -> State:
        """The state after one more step, given the gradient (..., d) at ``state.w``."""

    def size(self, state: State) -> Any:
        """η_k, the rate of the step that follows ``state``."""
        rate: Rate = self.rate
        return self.backend.scalar(rate(state.k))
