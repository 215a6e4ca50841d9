"""The gradient mapping: what stands for the gradient where λ is confined to a set."""

from __future__ import annotations

from typing import Any

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.arrays.numbers import require_number
from refimpl.sets.base import ConvexSet


def gradient_mapping(
    domain: ConvexSet | None, lam: Array, gradient: Array, alpha: Any, backend: Backend
) -> Array:
    """G_α(λ) = (λ − P_Λ(λ − α∇f(λ)))/α, (..., n) (contraction, definition 11); the gradient itself where Λ is Rⁿ.

    Zero exactly at stationary points of f on Λ. Raises ``BadInput``, and what ``project`` raises.
    """
    require_number(alpha, "the step size", "1/L_f is one")
    if domain is None:
        return gradient
    return (lam - domain.project(lam - alpha * gradient, backend)) / alpha
