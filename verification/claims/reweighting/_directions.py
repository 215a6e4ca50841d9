"""Truncated reverse mode on quadratics over the rationals, with its hypotheses: the instances of k-rmd-descent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from flint import fmpq
from hypothesis import strategies as st

import refimpl as ri
from refimpl.arrays.backend import Array
from refimpl.problem import BilevelProblem
from refimpl.solvers import GradientDescent
from refimpl.zoo.quadratic import Quadratic
from verification.claims.reweighting._systems import RATIONAL, System
from verification.model import Hypothesis


@dataclass(frozen=True)
class Direction:
    """G = ½wᵀHw + λᵀCw with H's integer spectrum known, F = b·w + ``slope`` Σλ, α = 1/(``slower`` L), K steps."""

    system: System
    cross: Array
    slower: int
    K: int
    slope: int = 0

    @property
    def extremes(self) -> tuple[int, int]:
        return min(self.system.spectrum), max(self.system.spectrum)

    @property
    def step(self) -> fmpq:
        return fmpq(1, self.slower * self.extremes[1])

    @cached_property
    def problem(self) -> BilevelProblem:
        n, d = self.cross.shape
        H, zero = self.system.a, RATIONAL.zeros
        lower = Quadratic(H[None], self.cross[None], zero((1, n, n)), zero((1, d)), zero((1, n)), RATIONAL)
        upper = Quadratic(
            zero((1, d, d)),
            zero((1, n, d)),
            zero((1, n, n)),
            self.system.b[None],
            zero((1, n)) + self.slope,
            RATIONAL,
        )
        return BilevelProblem(upper, lower)

    @property
    def direct(self) -> fmpq:
        """The largest |∇_λF| at 0 and at the unit vectors: an affine function that is 0 there is 0."""
        (n, d), gradient = self.cross.shape, self.problem.upper.grad_lam
        lam, w = RATIONAL.zeros((n,)), RATIONAL.zeros((d,))
        seen = [
            gradient(lam, w),
            *(gradient(e, w) for e in RATIONAL.eye(n)),
            *(gradient(lam, e) for e in RATIONAL.eye(d)),
        ]
        return max(abs(x) for at in seen for x in at)

    @cached_property
    def exact(self) -> Array:
        """∇f."""
        return ri.exact_hypergradient(self.problem, RATIONAL.zeros((len(self.cross),))).value

    @cached_property
    def kept(self) -> Array:
        """h: the last K terms (H is constant and F linear, so they are the same whatever T >= K is)."""
        lower = GradientDescent(self.K + 1, cast(Any, self.step))  # a rational stays exact
        lam = RATIONAL.zeros((len(self.cross),))
        return ri.approximate.truncated(self.problem, lam, lower=lower, last=self.K).value


def direction(params: Mapping[str, Any]) -> Direction:
    """The direction of ``params``."""
    system = System(tuple(params["spectrum"]), tuple(params["b"]), tuple(params["mirror"]))
    return Direction(
        system,
        RATIONAL.asarray(np.array(params["cross"])),
        params["slower"],
        params["K"],
        params.get("slope", 0),
    )


def _rank(d: Direction) -> int:
    from flint import fmpq_mat

    rows = [[int(x) for x in row] for row in d.cross]
    return int(fmpq_mat(len(rows), len(rows[0]), [x for row in rows for x in row]).rref()[1])


def full(d: Direction) -> tuple[bool, Any]:
    """rank C = d <= n."""
    n, w = d.cross.shape
    rank = _rank(d)
    return n >= w == rank, f"n = {n}, d = {w}, rank {rank}"


def few(d: Direction) -> tuple[bool, Any]:
    """rank C = n < d."""
    n, w = d.cross.shape
    rank = _rank(d)
    return n < w and rank == n, f"n = {n}, d = {w}, rank {rank}"


def orthogonal_columns(d: Direction) -> tuple[bool, Any]:
    """CᵀC is a multiple of the identity, exactly."""
    gram = d.cross.T @ d.cross
    gap = abs(gram - gram[0, 0] * RATIONAL.eye(len(gram))).max()
    return gap == 0 and gram[0, 0] != 0, str(gap)


def _steps_short(d: Direction) -> tuple[bool, Any]:
    says = f"α = {d.step}, L = {d.extremes[1]}, K = {d.K}, max |∇_uf| = {d.direct}"
    return d.slower >= 1 and d.K >= 1 and d.extremes[0] > 0 and d.direct == 0, says


SHORT = Hypothesis(
    "globally strongly convex, short steps", r"\alpha \le 1/L,\ K \ge 1,\ \nabla_uf = 0", _steps_short
)


def directions(extra_rows: tuple[int, int], isotropic: bool = False) -> Any:
    """Strategy: d <= 3, n between d + extra_rows; with ``isotropic`` C is a multiple of a signed permutation."""

    def sized(d: int) -> Any:
        few, many = (max(1, d + e) for e in extra_rows)
        row = st.lists(st.integers(-3, 3), min_size=d, max_size=d)
        rows = st.integers(few, many).flatmap(lambda n: st.lists(row, min_size=n, max_size=n))
        if isotropic:
            rows = st.builds(
                lambda order, signs, c: [
                    [c * signs[i] * (order[i] == j) for j in range(d)] for i in range(d)
                ],
                st.permutations(range(d)),
                st.lists(st.sampled_from((1, -1)), min_size=d, max_size=d),
                st.integers(1, 3),
            )
        entries = {
            "spectrum": st.lists(st.integers(1, 9), min_size=d, max_size=d),
            "b": st.lists(st.integers(-3, 3), min_size=d, max_size=d),
            "mirror": st.lists(st.integers(-2, 2), min_size=d, max_size=d),
            "cross": rows,
            "slower": st.integers(1, 4),
            "K": st.integers(1, 6),
        }
        return st.fixed_dictionaries(entries)

    return st.integers(1, 3).flatmap(sized)


def small(cross: list[list[int]], spectrum: list[int], b: list[int], **more: Any) -> dict[str, Any]:
    """Parameters of one direction, α = 1/L and K = 1."""
    return {"cross": cross, "spectrum": spectrum, "b": b, "mirror": [0] * len(b), "slower": 1, "K": 1, **more}
