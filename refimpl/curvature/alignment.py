"""How well a Hessian H and a noise covariance Σ point the same way: Tr(HΣ), beside what isotropic noise would give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.curvature.directions import array_of
from refimpl.errors import BadInput, HypothesisViolated


@dataclass(frozen=True, eq=False)
class Alignment:
    """Traces of H, Σ and HΣ, the squared Frobenius norms, and D; each (...). Rational where H and Σ are."""

    trace: Array
    hessian: Array
    noise: Array
    hessian_squared: Array
    noise_squared: Array
    dimension: int
    backend: Backend

    @property
    def isotropic(self) -> Array:
        """Tr(H) Tr(Σ)/D: Tr(HΣ̄) for the isotropic noise Σ̄ of the same trace."""
        return self.hessian * self.noise / self.dimension

    @property
    def ratio(self) -> Array:
        """Tr(HΣ) D / (Tr H Tr Σ). Raises ``HypothesisViolated`` where a trace is not positive: the ratio then says
        nothing, as a negative one of two negative numbers shows.
        """
        for name, trace in (("Tr H", self.hessian), ("Tr Σ", self.noise)):
            if not bool(self.backend.xp.all(self.backend.comparable(_array(self.backend, trace)) > 0)):
                raise HypothesisViolated(
                    "the isotropic reference is not positive, and no ratio to it means anything",
                    measured=f"{name} = {trace}",
                    required=f"{name} > 0",
                    advice="report the trace of the product and its reference, or the scale-free cosine",
                )
        return self.trace / self.isotropic

    @property
    def cosine(self) -> Array:
        """⟨H, Σ⟩_F / (‖H‖ ‖Σ‖), in [−1, 1]; ``HypothesisViolated`` where one of them is 0. Has a square root."""
        B = self.backend
        return self.trace / B.sqrt(self._positive(self.hessian_squared * self.noise_squared))

    @property
    def isotropic_cosine(self) -> Array:
        """Tr H / (√D ‖H‖): the cosine of isotropic noise, to compare with."""
        B = self.backend
        return self.hessian / B.sqrt(self._positive(self.dimension * self.hessian_squared))

    def _positive(self, product: Any) -> Array:
        if not bool(self.backend.xp.all(self.backend.comparable(_array(self.backend, product)) > 0)):
            raise HypothesisViolated(
                "a matrix that is 0 has no direction",
                measured=f"‖H‖² = {self.hessian_squared}, ‖Σ‖² = {self.noise_squared}",
                required="‖H‖ > 0 and ‖Σ‖ > 0",
                advice="at keep probability 1 and on equal samples there is no noise",
            )
        return product


def alignment(hessian: Array, noise: Array, *, backend: Backend | None = None) -> Alignment:
    """Traces and norms of H and Σ, symmetric (..., D, D); their leading axes broadcast. Cost D²
    (dropout-flatness, section 3.6).

    Raises ``BadInput``, also for entries that are not finite.

    >>> import numpy as np
    >>> found = alignment(np.diag([3.0, 1.0]), np.diag([2.0, 0.0]))
    >>> float(found.trace), float(found.isotropic), float(found.ratio)
    (6.0, 4.0, 1.5)
    """
    B = backend or Backend()
    hessian, noise = array_of(B, hessian, "H"), array_of(B, noise, "Σ")
    shapes = tuple(hessian.shape), tuple(noise.shape)
    if any(len(s) < 2 or s[-1] != s[-2] for s in shapes) or shapes[0][-1] != shapes[1][-1]:
        raise BadInput(
            "H and Σ do not fit",
            measured=f"{shapes[0]} and {shapes[1]}",
            required="two square matrices (..., D, D) of the same D",
            advice="restrict both to the same layers",
        )
    return Alignment(
        _both(B, hessian * noise),  # Tr(HΣ): both are symmetric
        _trace(B, hessian),
        _trace(B, noise),
        _both(B, hessian * hessian),
        _both(B, noise * noise),
        int(hessian.shape[-1]),
        B,
    )


def _both(B: Backend, a: Array) -> Array:
    """The sum over the last two axes."""
    return B.sum(B.sum(a))


def _trace(B: Backend, a: Array) -> Array:
    return _both(B, a * B.eye(a.shape[-1]))


def _array(B: Backend, x: Any) -> Array:
    """x as an array: sums of object arrays are bare numbers."""
    return x if hasattr(x, "ndim") else B.asarray([x])
