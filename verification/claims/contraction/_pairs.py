"""Pairs λ, λ' of a ball Λ with their exact answers: the instances of Lemma 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl import Hypergradient
from refimpl.arrays.backend import Array
from verification.claims.contraction._instances import (
    Case,
    Place,
    Rounding,
    case,
    path_region,
    rounding,
    unit,
)
from verification.model import Hypothesis, Measurement


@dataclass(frozen=True)
class Pair:
    """λ and λ' with their exact answers (none where Φ is not proved to contract)."""

    of: Case
    place: Place
    lams: tuple[Array, Array]
    answers: tuple[Hypergradient, ...]

    @property
    def ends(self) -> list[tuple[Array, Hypergradient]]:
        return list(zip(self.lams, self.answers, strict=False))

    @property
    def grid(self) -> tuple[Sequence[Array], Sequence[Array]]:
        """λ, λ' and w(λ), w(λ')."""
        return self.lams, [e.w for e in self.answers]

    @property
    def distance(self) -> float:
        return float(np.linalg.norm(self.lams[1] - self.lams[0]))

    def roundings(self) -> tuple[Rounding, ...]:
        return tuple(rounding(self.of, self.place.constants, lam, e.w, e.v) for lam, e in self.ends)

    def quotient(self, x: Array, y: Array, errors: list[float], bound: float) -> Measurement:
        """‖x − y‖/‖λ − λ'‖ against a Lipschitz constant; the errors of both ends are magnified alike."""
        order = 2 if x.ndim == 2 else None
        observed = float(np.linalg.norm(x - y, order)) / self.distance
        return Measurement(observed=observed, bound=bound, rounding=sum(errors) / self.distance)


def build(p: dict[str, Any]) -> Pair:
    """λ' lies ``ahead`` radii from the centre of Λ and λ ``behind`` radii on the other side of it."""
    of = case(p)
    place = path_region(of, p["radius"]).stated(p)
    direction = p["radius"] * unit(of.problem.n, p["direction"])
    lams = (of.lam - p["behind"] * direction, of.lam + p["ahead"] * direction)
    answers = () if place.proved is None else tuple(of.exact(lam) for lam in lams)
    return Pair(of, place, lams, answers)


def _contracts(pair: Pair) -> tuple[bool, Any]:
    return pair.place.contracts(pair.of, *((lam, e.w) for lam, e in pair.ends))


def _inside(pair: Pair) -> tuple[bool, float]:
    """λ, λ' in Λ, and both solutions in the ball that the region promises; measured: of Λ's radius."""
    r, norm = pair.place.region, np.linalg.norm
    eps = 10 * pair.of.problem.d * pair.of.problem.backend.eps
    share = max(float(norm(lam - r.lam)) for lam in pair.lams) / r.lam_radius
    reached = max((float(norm(e.w - r.w)) for e in pair.answers), default=0.0)
    near = share <= 1 + eps * (1 + float(norm(r.lam)) / r.lam_radius)
    return near and reached <= r.w_radius + eps * (1 + float(norm(r.w))), share


HYPOTHESES = (
    Hypothesis("A(i)", r"\|\partial_1\Phi(w,\lambda)\|\le q<1\ \text{on the region}", _contracts),
    Hypothesis("λ, λ' in Λ", r"\lambda,\lambda'\in\Lambda\ \text{(a ball: closed and convex)}", _inside),
)
