"""Second moments of what is drawn of a level, a minibatch of b at the cost of the points of a single datum.

Given the masks, b data are independent draws, of which the minibatch is the mean: for X the deviation of any derivative
from its expectation, and any quadratic form of it,
    E[X S Xᵀ]  is  1/b of that of one datum  +  (1 − 1/b) of that of all data under the same masks.
The second is 0 where no mask is random. Derivatives are taken at one λ (n,) and w (d,).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from refimpl.arrays.backend import Array
from refimpl.draws import Draws
from refimpl.errors import BadInput
from refimpl.moments import AffineStep, PackedStep, affine_step
from refimpl.objective import Objective
from refimpl.spaces import expect, second_moment

Quantity = Callable[[Any], Array]  # of a level: a vector, a matrix


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class HessianSpread:
    """S -> E[(H − EH) S (H − EH)ᵀ] for S (..., d, d) and H = ∇²_wwG drawn, on a minibatch of any size (None: all data).

    The law of H is kept as matrices, d² numbers for every point of one datum's space, or, where these do not fit, as
    their operator, d⁴ numbers. Raises ``TooLarge``, and ``BadInput`` for several λ or w.
    """

    draws: Draws
    lam: Array
    w: Array

    @cached_property
    def mean(self) -> Array:
        """E H, (d, d)."""
        return one_point(self.draws, self.lam, self.w).hess_ww(self.lam, self.w).dense()

    def __call__(self, S: Array, batch: int | None) -> Array:
        B, total = self.draws.level.backend, 0 * S
        padded = B.concat([S, B.zeros((*S.shape[:-1], 1))])
        padded = B.concat([padded, B.zeros((*S.shape[:-2], 1, S.shape[-1] + 1))], axis=-2)
        for weight, one in _parts(self.draws, batch):
            step = self._single if one.batch else self._masked
            total = total + B.scalar(weight) * step.second(padded)[..., :-1, :-1]
        return total

    @cached_property
    def _single(self) -> AffineStep | PackedStep:
        return self._step(replace(self.draws, batch=1))

    @cached_property
    def _masked(self) -> AffineStep | PackedStep:
        return self._step(replace(self.draws, batch=None))

    def _step(self, one: Draws) -> AffineStep | PackedStep:
        """x⁺ = (H − EH) x: its second moments are those asked for."""
        B, d = one.level.backend, one.level.d
        of = _Deviation(one, lambda level: level.hess_ww(self.lam, self.w).dense(), self.mean)
        return affine_step(one.space, lambda points: (of(points), B.zeros((len(points[1]), d))), B)


def cross_spread(draws: Draws, lam: Array, w: Array, S: Array) -> Array:
    """E[(C − EC) S (C − EC)ᵀ], (n, n), for C = ∇²_λwG drawn and S (d, d). Raises as ``HessianSpread``."""
    B = draws.level.backend
    mean = one_point(draws, lam, w).cross(lam, w).dense()
    total = B.zeros((mean.shape[0], mean.shape[0]))
    for weight, one in _parts(draws, draws.batch):
        of = _Deviation(one, lambda level: level.cross(lam, w).dense(), mean)
        total = total + B.scalar(weight) * expect(one.space, _Form(of, S), B)
    return total


def vector_covariance(draws: Draws, of: Quantity) -> Array:
    """The covariance (m, m) of a vector (m,) that is linear in the drawn level. Raises ``TooLarge``."""
    B, mean = draws.level.backend, of(draws.level)
    total = B.zeros((mean.shape[-1], mean.shape[-1]))
    for weight, one in _parts(draws, draws.batch):
        total = total + B.scalar(weight) * second_moment(one.space, _Deviation(one, of, mean), B)
    return total


def one_point(draws: Draws, lam: Array, w: Array) -> Objective:
    """The level, an objective without leading axes at one λ (n,) and w (d,); else ``BadInput``."""
    level = draws.level
    if isinstance(level, Objective) and lam.ndim == 1 and w.ndim == 1 and not level.lead:
        return level
    raise BadInput(
        "second moments are of the draws of an objective at one point",
        measured=f"{type(level).__name__} with {level.lead} leading axes, λ {tuple(lam.shape)}, w {tuple(w.shape)}",
        required="an Objective without leading axes, one λ (n,) and one w (d,)",
        advice="loop over the points",
    )


def _parts(draws: Draws, batch: int | None) -> Iterator[tuple[Fraction, Draws]]:
    """Draws and the weights of their quadratic forms in that of ``batch`` data; without those that are sure."""
    weight = Fraction(1, batch) if batch else Fraction(0)
    for part, size in ((weight, 1), (1 - weight, None)):
        if part and (one := replace(draws, batch=size)).space.size > 1:
            yield part, one


@dataclass(frozen=True, eq=False)
class _Deviation:
    """points -> a quantity of the level drawn minus its mean, with the points' axis in front."""

    draws: Draws
    quantity: Quantity
    mean: Array

    def __call__(self, points: Any) -> Array:
        values = self.quantity(self.draws.at(points)) - self.mean
        return self.draws.level.backend.broadcast(values, (len(points[1]), *self.mean.shape))


@dataclass(frozen=True, eq=False)
class _Form:
    """points -> X S Xᵀ, X the deviation."""

    deviation: _Deviation
    S: Array

    def __call__(self, points: Any) -> Array:
        X = self.deviation(points)
        return X @ self.S @ self.deviation.draws.level.backend.mT(X)
