"""Iterations that differ by their step sizes alone: their operators on second moments, polynomials in them.

The weights of the averages are made of the step before, min(1, cη_{k−1}) or min(1, cη²_{k−1}), then the state moves by
η_k. The state's map has each of them to the first power, the second moments' operator to the second: of degree 4 in
η_{k−1} and 2 in η_k, while nothing is capped. FSLA's is of degree 3 in α_k, and 6. So a few of them give all, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refimpl.algorithms.khanduri2021sustain import SUSTAIN
from refimpl.algorithms.li2022fsla import FSLA
from refimpl.arrays.backend import Array
from refimpl.rates import Drops, Power

MOST = 0.5  # steps up to which no weight of the plans is capped, or every one


def nodes(degree: int) -> Array:
    """Chebyshev's in [0, MOST]."""
    places = (2 * np.arange(degree + 1) + 1) * np.pi / (2 * degree + 2)
    return np.asarray(MOST * (1 + np.cos(places)) / 2)


def lagrange(at: Array, x: Array) -> Array:
    """The values at x of the polynomials that are 1 at one node and 0 at the others, (len(x), len(at))."""
    others = ~np.eye(len(at), dtype=bool)
    found = [np.prod((x[:, None] - at[rest]) / (at[i] - at[rest]), axis=1) for i, rest in enumerate(others)]
    return np.stack(found, axis=1)


@dataclass(frozen=True)
class Grid:
    """Iterations k >= first: ``steps`` of k, and iteration 1 of ``make`` of such steps, which is the same one."""

    first: int
    degrees: tuple[int, ...]
    steps: Callable[[int], tuple[float, ...]]
    make: Callable[[tuple[float, ...]], Any]

    @property
    def points(self) -> list[tuple[float, ...]]:
        """All combinations of nodes, the last degree's fastest."""
        grids = np.meshgrid(*map(nodes, self.degrees), indexing="ij")
        return [tuple(map(float, x)) for x in np.stack([g.ravel() for g in grids], axis=1)]

    def weights(self, ks: Sequence[int]) -> Array:
        """Of the points, in the operators of the iterations ks, (len(ks), points)."""
        found, steps = np.ones((len(ks), 1)), np.array([self.steps(k) for k in ks])
        for degree, x in zip(self.degrees, steps.T, strict=True):
            found = (found[:, :, None] * lagrange(nodes(degree), x)[:, None, :]).reshape(len(ks), -1)
        return found


def grid(algorithm: Any) -> Grid | None:
    """None: its iterations differ by something else, or not at all."""
    if isinstance(algorithm, FSLA):
        if algorithm.schedule != "sqrt":
            return None
        return Grid(
            1,
            (6,),
            lambda k: (float(algorithm.sizes(k)[0]),),
            lambda x: replace(algorithm, delta=x[0], schedule="constant"),
        )
    name = "alpha" if isinstance(algorithm, SUSTAIN) else "eta"
    rate = getattr(algorithm, name, None)
    if not isinstance(rate, Power):
        return None
    first = next(k for k in range(1, 10**6) if rate(k - 1) <= MOST)
    return Grid(
        first,
        (4, 2),
        lambda k: (float(rate(k - 1)), float(rate(k))),
        lambda x: replace(algorithm, **{name: Drops(x[0], at=(1,), factor=x[0] / x[1])}),
    )
