"""Products of first and second derivatives of a function R^d → R^N by autograd, each from a trace kept for many."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from refimpl.arrays.backend import Array

Function = Callable[[Array], Array]


def pullback(f: Function, w: Array) -> tuple[Function, Array]:
    """(s ↦ Jᵀ s, f(w)): one pass here, about two for every product."""
    from autograd import make_vjp

    with warnings.catch_warnings():  # a network whose masks are all 0 depends on nothing: zero is right
        warnings.filterwarnings("ignore", message="Output seems independent of input")
        pull, values = make_vjp(f)(w)
    return pull, values


def pushforward(f: Function, w: Array, count: int) -> Function:
    """v ↦ J v, J (count, d): the pullback is linear in s, so that its own pullback is J."""
    pull, _ = pullback(f, w)
    return pullback(pull, np.zeros(count))[0]


def curvature(f: Function, w: Array, s: Array) -> Function:
    """v ↦ ∇²(s·f)(w) v, symmetric: the pullback of the gradient Jᵀ s in w."""

    def gradient(w: Array) -> Any:
        return pullback(f, w)[0](s)

    return pullback(gradient, w)[0]
