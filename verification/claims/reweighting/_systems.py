"""Symmetric systems over the rationals with a known integer spectrum, for conjugate gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refimpl.arrays import backend, factor
from refimpl.operators import Operator, matrix
from refimpl.solvers import ConjugateGradient, LinearSolution
from verification.model import Hypothesis

RATIONAL = backend("rational")


@dataclass(frozen=True)
class System:
    """A x = b with A = Q diag(spectrum) Q and b = Q β, Q = I − 2vvᵀ/vᵀv rational and orthogonal.

    ``skew`` adds to A's upper right corner: then A is no longer symmetric.
    """

    spectrum: tuple[int, ...]
    beta: tuple[int, ...]
    mirror: tuple[int, ...]
    skew: int = 0

    @cached_property
    def reflection(self) -> np.ndarray:
        v = RATIONAL.asarray(np.array(self.mirror))
        vv = v @ v
        return RATIONAL.eye(len(v)) - (2 * v[:, None] * v / vv if vv != 0 else 0)

    @cached_property
    def a(self) -> np.ndarray:
        a = (self.reflection * RATIONAL.asarray(np.array(self.spectrum))) @ self.reflection
        a[0, -1] += self.skew
        return a

    @cached_property
    def b(self) -> np.ndarray:
        return self.reflection @ RATIONAL.asarray(np.array(self.beta))

    @cached_property
    def a_inverse_b(self) -> np.ndarray:
        return factor(RATIONAL, self.a).solve(self.b)

    @property
    def operator(self) -> Operator:
        """A, said to be symmetric whether it is or not: the hypothesis is what the claim checks."""
        return matrix(RATIONAL, self.a, symmetric=True)

    @property
    def represented(self) -> int:
        """How many distinct eigenvalues have a component in b."""
        return len({s for s, c in zip(self.spectrum, self.beta, strict=True) if c})

    def conjugate_gradients(self, steps: int) -> LinearSolution:
        """The package's own, over the rationals, every iterate kept."""
        return ConjugateGradient(steps).solve(self.operator, self.b, keep=True)


def system(params: Mapping[str, Any]) -> System:
    """The system of ``params``."""
    spectrum, b, mirror = (tuple(params[name]) for name in ("spectrum", "b", "mirror"))
    return System(spectrum, b, mirror, params.get("skew", 0))


def params(spectrum: list[int], b: list[int], **more: Any) -> dict[str, Any]:
    """Parameters, with Q = I by default."""
    return {"spectrum": spectrum, "b": b, "mirror": [0] * len(b), **more}


def systems(largest: int) -> Any:
    """Strategy: up to four equations, integer eigenvalues up to ``largest``."""

    def sized(d: int) -> Any:
        entries = {
            "spectrum": st.lists(st.integers(1, largest), min_size=d, max_size=d),
            "b": st.lists(st.integers(-3, 3), min_size=d, max_size=d),
            "mirror": st.lists(st.integers(-2, 2), min_size=d, max_size=d),
        }
        return st.fixed_dictionaries(entries)

    return st.integers(1, 4).flatmap(sized)


def _definite(system: System) -> tuple[bool, Any]:
    asymmetry = abs(system.a - system.a.T).max()
    return asymmetry == 0 and min(system.spectrum) > 0, f"largest asymmetry {asymmetry}"


DEFINITE = Hypothesis("symmetric positive definite", r"A = A^\top \succ 0", _definite)
