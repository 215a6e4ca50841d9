"""The sentence after (17), on how many iterates must be kept: executed over the rationals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flint import fmpq
from hypothesis import strategies as st

import refimpl as ri
from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.objective import Map
from refimpl.operators import Operator, matrix
from refimpl.problem import FixedPointProblem
from refimpl.solvers import FixedPoint
from refimpl.zoo import uppers
from verification.claims.reweighting._rational import (
    RATIONAL,
)
from verification.claims.reweighting._unrolled import formula_16, states
from verification.model import Budget, Claim, Control, Correction, Hypothesis, Measurement, identity


@dataclass(frozen=True)
class Cubic(Map):
    """Φ(u, v) = u v + k(v³ − v) on R: three points may have one image, and ∂_uΦ = v tells them apart."""

    k: Any
    backend: Backend = RATIONAL

    n = 1
    d = 1

    def value(self, lam: Array, w: Array) -> Array:
        return lam * w + self.k * (w * w * w - w)

    def d_w(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, (lam + self.k * (3 * w * w - 1))[..., None])

    def d_lam(self, lam: Array, w: Array) -> Operator:
        return matrix(self.backend, w[..., None])


@dataclass(frozen=True)
class Twins:
    """E = v, u = k(1 − s²): v_0 = s and v_0 = 0 both go to 0 in the first step; K = T steps."""

    k: fmpq
    s: fmpq
    other: fmpq
    K: int

    @cached_property
    def problem(self) -> FixedPointProblem:
        return FixedPointProblem(uppers.linear([1.0], n=1).to("rational"), Cubic(self.k))

    @property
    def lam(self) -> Array:
        return RATIONAL.asarray([self.k * (1 - self.s**2)])

    @property
    def solver(self) -> FixedPoint:
        return FixedPoint(self.K)

    def path(self, v: fmpq) -> list[Array]:
        """v_0 … v_K."""
        return states(self.problem, self.solver, self.lam, RATIONAL.asarray([v]))

    def h(self, v: fmpq) -> Array:
        """h_{T−K} of the run from v."""
        w0 = RATIONAL.asarray([v])
        return ri.approximate.truncated(self.problem, self.lam, lower=self.solver, last=self.K, w0=w0).value


def twins(params: Mapping[str, Any]) -> Twins:
    """Two starts, s and ``other`` × s."""
    s = fmpq(*params["s"])
    return Twins(fmpq(*params["k"]), s, s * params["other"], params["K"])


def same_h(t: Twins) -> Measurement:
    """h of both runs."""
    return identity(t.h(t.s), t.h(t.other))


def from_stored(t: Twins) -> Measurement:
    """h of both runs from the K + 1 iterates v_{T−K} … v_T and nothing else."""
    found = [
        formula_16(t.problem, t.solver, t.lam, stored[0], path=stored)
        for stored in (t.path(t.s), t.path(t.other))
    ]
    return identity(found, [t.h(t.s), t.h(t.other)])


def _last_agree(t: Twins) -> tuple[bool, Any]:
    """v_{T−K+1} … v_T."""
    gap = max(abs(a - b).max() for a, b in zip(t.path(t.s)[1:], t.path(t.other)[1:], strict=True))
    return gap == 0, str(gap)


def _contracts(t: Twins) -> tuple[bool, Any]:
    q = 2 * t.k * t.s**2
    return 0 < q < 1, str(q)


def pair(k: tuple[int, int], s: tuple[int, int], K: int, other: int = 0) -> dict[str, Any]:
    """Parameters of one pair."""
    return {"k": list(k), "s": list(s), "K": K, "other": other}


CLAIMS = (
    Claim(
        id="reweighting/erratum-17",
        title="As printed: storing K iterates suffices for K-RMD",
        source="reweighting, after (17)",
        statement=r"h_{T-K} \text{ is a function of the last } K \text{ iterates } v_{T-K+1}, \dots, v_T",
        printed=r"\text{This approach requires storing only the last } K \text{ iterates } v_t",
        hypotheses=(
            Hypothesis("equal iterates", r"v_{T-K+1}, \dots, v_T \text{ agree in both runs}", _last_agree),
            Hypothesis("contraction", r"|\partial_v\Phi| < 1 \text{ between the starts}", _contracts),
        ),
        strategy=st.builds(
            pair,
            st.tuples(st.integers(1, 3), st.integers(8, 12)),
            st.tuples(st.integers(1, 3), st.integers(2, 4)),
            st.integers(1, 4),
            st.sampled_from((0, -1)),
        ),
        explicit=(pair((1, 4), (1, 1), 1),),
        build=twins,
        measure=same_h,
        grade="proved",
        controls=(Control("iterates that differ", params=pair((1, 4), (1, 1), 2, other=2)),),
        corrected=Correction(
            tex=r"h_{T-K} \text{ is a function of the } K + 1 \text{ iterates } v_{T-K}, \dots, v_T",
            measure=from_stored,
            proof="The first term kept, $B_{T-K+1} = \\nabla_u\\Phi(v_{T-K}, u)$, is taken at $v_{T-K}$; "
            "$\\nabla_vf$ at $v_T$.",
        ),
        budget=Budget(quick=50, full=400),
        notes="Two runs of $\\Phi = uv + k(v^3 - v)$ meet after one step and stay together: their last K "
        "iterates are equal, their $h$ are not. truncated() keeps K + 1 states.",
    ),
)
