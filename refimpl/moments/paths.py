"""Every sample path, literally: what the moment recursions are judged by on small cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, TooLarge
from refimpl.moments.schedules import Recursion, Relaxed, Schedule, require_steps
from refimpl.moments.step import AffineStep


@dataclass(frozen=True, eq=False)
class Paths:
    """Ends (paths, ..., d) and probabilities (paths,) of all sample paths, the first step's point slowest."""

    backend: Backend
    probabilities: Array
    ends: Array

    def mean(self) -> Array:
        """Σ p x, (..., d)."""
        return self._expect(self.ends)

    def second(self) -> Array:
        """Σ p x xᵀ, (..., d, d)."""
        return self._expect(self.ends[..., :, None] * self.ends[..., None, :])

    def _expect(self, values: Array) -> Array:
        weights = self.backend.reshape(self.probabilities, (-1, *(1,) * (values.ndim - 1)))
        return self.backend.sum(weights * values, axis=0)


def paths(recursion: Recursion, x0: Any, time: int, *, max_paths: int = 2**20) -> Paths:
    """All sample paths of ``time`` steps from x0 (..., d).

    Cost: points^time ends. Raises ``TooLarge`` above ``max_paths``, and ``BadInput`` for a step without transitions.
    """
    require_steps(recursion, time)
    B, D = recursion.backend, recursion.D
    x = B.vector(x0 if B.owns(x0) else B.asarray(x0), D - 1, "the start")
    p, x = B.zeros((1,)) + B.scalar(1), x[None, ...]
    count = 1
    for k in range(time):
        step = _step(recursion, k)
        count *= step.points
        if count > max_paths:
            raise TooLarge(
                "too many sample paths",
                measured=f"at least {count} after {k + 1} of {time} steps",
                required=f"<= max_paths = {max_paths}",
                advice="the moment recursion does not enumerate paths: mean_and_second, curve",
            )
        p = B.reshape(p[:, None] * step.probabilities[None, :], (-1,))
        A, b = step.transitions[:, :-1, :-1], step.transitions[:, :-1, -1]
        shape = (1, step.points, *(1,) * (x.ndim - 2))
        A, b = B.reshape(A, (*shape, D - 1, D - 1)), B.reshape(b, (*shape, D - 1))
        moved = (A @ x[:, None, ..., None])[..., 0] + b
        if isinstance(recursion, Relaxed):
            eta = B.scalar(recursion.sizes[k])
            moved = (1 - eta) * x[:, None] + eta * moved
        x = B.reshape(moved, (-1, *moved.shape[2:]))
    return Paths(B, p, x)


def _step(recursion: Recursion, k: int) -> AffineStep:
    step = recursion
    if isinstance(step, Schedule):
        step = step.steps[k]
    elif isinstance(step, Relaxed):
        step = step.step
    if not isinstance(step, AffineStep):
        raise BadInput(
            "a step without transitions has no paths to enumerate",
            measured=type(step).__name__,
            required="AffineStep",
            advice="raise max_bytes in affine_step, so that the transitions are kept",
        )
    return step
