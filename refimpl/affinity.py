"""Is a function affine in some of its coordinates? Its second differences decide, over numbers without rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from refimpl.arrays.backend import Array, Backend

PAIRS = 512  # second differences along pairs of unit vectors that are looked at, over all points together
SPREAD = 2**20  # generic directions have whole entries up to this

Image = Callable[[np.ndarray, Array], Array]  # points' numbers, states (m, size) -> (points, m, out)


def second_differences(
    backend: Backend, image: Image, index: np.ndarray, bases: np.ndarray, moving: int
) -> Iterator[Array]:
    """f(a + x + y) − f(a + x) − f(a + y) + f(a), (points, pairs, out): all 0 where f is affine in a's first entries.

    At every point for generic a, x, y, so that no polynomial of degree 2 or more passes but by chance; and at each of
    the bases a for all pairs of the first ``moving`` unit vectors, a vector with itself included: that decides for
    polynomials of degree 2. The latter at as many points as ``PAIRS`` allows, at least one; more than ``PAIRS`` pairs
    are replaced by the unit vectors against two generic directions, which miss a form only if it vanishes there.

    Parameters
    ----------
    backend : of the states; rational, for a decision.
    index : numbers of the points; image(part of them, states) has their images.
    bases : (b, size) whole numbers.
    """
    size, rng = bases.shape[-1], np.random.default_rng(0)

    def generic(count: int) -> np.ndarray:
        x = np.zeros(size)
        x[:count] = rng.integers(-SPREAD, SPREAD, count, endpoint=True)
        return x

    def along(points: np.ndarray, a: np.ndarray, ways: np.ndarray, i: np.ndarray, j: np.ndarray) -> Array:
        """For the pairs (ways[i], ways[j]): one call of ``image`` for all of them."""
        start, moves = backend.asarray(a[None]), backend.asarray(ways)
        f = image(points, backend.concat([start, start + moves, start + moves[i] + moves[j]], axis=0))
        ends = f[:, 1 : 1 + len(ways)]
        return f[:, 1 + len(ways) :] - ends[:, i] - ends[:, j] + f[:, :1]

    x, y = generic(moving), generic(moving)
    yield along(index, generic(size), np.stack([x, y]), np.array([0, 0]), np.array([0, 1]))
    ways = np.eye(size)[:moving]
    i, j = np.triu_indices(len(ways))
    if len(bases) * len(i) > PAIRS:
        ways = np.concatenate([[x, y], ways])
        i, j = np.repeat([0, 1], moving), np.tile(np.arange(2, 2 + moving), 2)
    few = index[:: -(-len(index) * len(bases) * len(i) // PAIRS) or 1]
    for a in bases:
        yield along(few, a, ways, i, j)
