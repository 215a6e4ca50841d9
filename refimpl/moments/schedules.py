"""Recursions whose coefficients change from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.moments.step import AffineStep, PackedStep


@dataclass(frozen=True, eq=False)
class Schedule:
    """Step k is ``steps[k]``: any sequence of affine steps of one dimension and backend."""

    steps: Sequence[AffineStep | PackedStep]

    def __post_init__(self) -> None:
        kinds = {(step.backend, step.D) for step in self.steps}
        if len(kinds) != 1:
            raise BadInput(
                "a schedule's steps do not fit together",
                measured=f"{len(self.steps)} steps, (backend, D) in {sorted(kinds, key=str)}",
                required="at least one step, all of one backend and dimension",
                advice="build them by the same function of the step size",
            )

    @property
    def backend(self) -> Backend:
        return self.steps[0].backend

    @property
    def D(self) -> int:
        return self.steps[0].D

    def about(self, point: Array) -> Schedule:
        """The same schedule for x − point."""
        return Schedule(tuple(step.about(point) for step in self.steps))


@dataclass(frozen=True, eq=False)
class Relaxed:
    """x⁺ = (1 − η_k) x + η_k (A(s) x + b(s)) with step sizes η_k = sizes[k]; contraction (6).

    E z⁺z⁺ᵀ = (1−η)² S + η(1−η)(E T S + S E Tᵀ) + η² E[T S Tᵀ]: one operator serves every step size, and for
    0 <= η <= 1 no term is negative. A gradient step of size η is the relaxation of x − ∇g(x; s).
    """

    step: AffineStep | PackedStep
    sizes: Sequence[Any]

    @property
    def backend(self) -> Backend:
        return self.step.backend

    @property
    def D(self) -> int:
        return self.step.D

    def about(self, point: Array) -> Relaxed:
        """The same recursion for x − point."""
        return replace(self, step=self.step.about(point))

    def mixed(self, S: Array, moved: Array, k: int) -> Array:
        """E z⁺z⁺ᵀ of step k from S and moved = E[T S Tᵀ]."""
        eta = self.backend.scalar(self.sizes[k])
        drift = self.step.mean_matrix @ S
        rest = 1 - eta
        return rest * rest * S + eta * rest * (drift + self.backend.mT(drift)) + eta * eta * moved


Recursion = AffineStep | PackedStep | Schedule | Relaxed


def steps_of(recursion: Recursion) -> int | None:
    """How many steps it defines; None: any number."""
    if isinstance(recursion, Schedule):
        return len(recursion.steps)
    return len(recursion.sizes) if isinstance(recursion, Relaxed) else None


def require_steps(recursion: Recursion, times: int) -> None:
    """Refuse a negative number of steps, or more than are scheduled."""
    defined = steps_of(recursion)
    if not isinstance(times, Integral):
        raise BadInput(
            "the number of steps must be a whole number",
            measured=times,
            required=">= 0",
            advice="a recursion has no state between two steps",
        )
    if times < 0 or (defined is not None and times > defined):
        raise BadInput(
            "not so many steps",
            measured=times,
            required=">= 0" if defined is None else f"0 … {defined}, what the schedule defines",
            advice="extend the schedule, or ask for an earlier time",
        )
