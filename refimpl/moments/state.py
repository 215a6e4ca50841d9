"""Mean and second moment of a random vector, kept together as E zzᵀ with z = (x, 1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class Moments:
    """E zzᵀ = [[E xxᵀ, E x], [E xᵀ, 1]], (..., d+1, d+1); the leading axes are several starts, or times."""

    backend: Backend
    homogeneous: Array

    @classmethod
    def at(cls, backend: Backend, x: Any) -> Moments:
        """Of the sure points x (..., d)."""
        x = backend.asarray(x) if not backend.owns(x) else x
        x = backend.vector(x, x.shape[-1] if x.ndim else 0, "the start")
        z = backend.concat([x, backend.zeros((*x.shape[:-1], 1)) + backend.scalar(1)])
        return cls(backend, z[..., :, None] * z[..., None, :])

    @classmethod
    def of(cls, backend: Backend, mean: Any, second: Any) -> Moments:
        """Of a random start with that mean (..., d) and second moment E xxᵀ (..., d, d), not the covariance.

        Raises ``BadInput`` when the second moment is not symmetric to rounding, or of the wrong shape.
        """
        mean, second = (x if backend.owns(x) else backend.asarray(x) for x in (mean, second))
        d = mean.shape[-1] if mean.ndim else 0
        if d == 0 or tuple(second.shape) != (*mean.shape, d):
            raise BadInput(
                "mean and second moment do not fit together",
                measured=f"shapes {tuple(mean.shape)} and {tuple(second.shape)}",
                required="(..., d) and (..., d, d) with the same leading axes, d >= 1",
                advice="pass E xxᵀ: the covariance plus the mean's outer product",
            )
        host = to_numpy(second)
        skew = abs(host - host.swapaxes(-1, -2)).max(initial=0.0)
        if not skew <= d * backend.eps * abs(host).max(initial=0.0):
            raise BadInput(
                "the second moment is not symmetric",
                measured=f"entries that differ by {skew}",
                required="E xxᵀ, symmetric to rounding",
                advice="pass (S + Sᵀ)/2 if the difference is rounding",
            )
        second = (second + backend.mT(second)) / backend.scalar(2)
        column = mean[..., :, None]
        one = backend.zeros((*mean.shape[:-1], 1, 1)) + backend.scalar(1)
        top = backend.concat([second, column])
        return cls(backend, backend.concat([top, backend.concat([backend.mT(column), one])], axis=-2))

    @property
    def kind(self) -> str:
        """ "exact", or "bounded" where the numbers are balls."""
        return "exact" if self.backend.ordered else "bounded"

    @property
    def d(self) -> int:
        """Number of coordinates of x."""
        return int(self.homogeneous.shape[-1]) - 1

    @property
    def mean(self) -> Array:
        """E x, (..., d)."""
        return self.homogeneous[..., :-1, -1]

    @property
    def second(self) -> Array:
        """E xxᵀ, (..., d, d)."""
        return self.homogeneous[..., :-1, :-1]

    @property
    def covariance(self) -> Array:
        """E xxᵀ − E x E xᵀ, (..., d, d); rounded at the size of E xxᵀ: move the origin near first (``about``)."""
        return self.second - self.mean[..., :, None] * self.mean[..., None, :]

    @property
    def mean_square(self) -> Array:
        """E‖x‖², (...)."""
        return self.backend.sum(self.backend.sum(self.second * self.backend.eye(self.d)))

    def about(self, point: Array) -> Moments:
        """Moments of x − point, point (d,); rounded at the size of the moments that are there."""
        C = translation(self.backend, -point)
        return replace(self, homogeneous=C @ self.homogeneous @ self.backend.mT(C))


def translation(B: Backend, c: Array) -> Array:
    """The matrix of x -> x + c in homogeneous coordinates, (d+1, d+1)."""
    d = c.shape[-1]
    top = B.concat([B.eye(d), c[:, None]])
    return B.concat([top, B.concat([B.zeros((1, d)), B.zeros((1, 1)) + B.scalar(1)])], axis=0)
