"""An iteration in stages, each with randomness of its own: its exact moments then cost the stages' points added up.

A long iteration has as many points as its draws' numbers multiplied, too many to enumerate; yet each of its lines is an
affine map of the arrays under one draw, and second moments go through such maps one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from refimpl.approximate.inverse import HessianInverse, ProductNeumann, SumNeumann
from refimpl.approximate.iteration import linear_step, lower_step
from refimpl.arrays.backend import Array
from refimpl.draws import SURE, Draws
from refimpl.problem import Problem
from refimpl.spaces import Bernoulli, Space

Arrays = dict[str, Array]
Point = tuple[str, str]  # the names of a λ and of a w
HERE: tuple[Point, ...] = (("lam", "w"),)
BOTH: tuple[Point, ...] = (("lam", "w"), ("lam_prev", "w_prev"))


@dataclass(frozen=True, eq=False)
class Part:
    """``move``: all arrays, and a point of ``space`` -> the arrays that change."""

    space: Space
    move: Callable[[Arrays, Any], Arrays]


@dataclass(frozen=True, eq=False)
class Stage:
    """One of the parts, drawn with these weights, as far as second moments can see; see ``moments.averaged``.

    copies: the mean of what so many independent draws make of the arrays. key: equal ones belong to the same map, which
    is then read off once; None: to this stage only.
    """

    parts: Sequence[tuple[Fraction, Part]]
    copies: int = 1
    key: Hashable = None


@dataclass(frozen=True, eq=False)
class Stages:
    """One after the other they are an iteration; ``scratch``: lengths of arrays of its own, zero before the first."""

    stages: Sequence[Stage]
    scratch: dict[str, int]


def whole(key: Hashable, part: Part) -> Stage:
    """A stage of one part."""
    return Stage(((Fraction(1), part),), key=key)


def sure(key: Hashable, move: Callable[[Arrays], Arrays]) -> Stage:
    """A stage without randomness."""
    return whole(key, Part(SURE, lambda x, _: move(x)))


def drawn(
    level: Any, batch: int | None, key: Hashable, move: Callable[[Any, Arrays], Arrays], copies: int = 1
) -> Stage:
    """A stage with one draw of a level, of which ``move`` gets it as drawn and has to be an affine function.

    b data are then one with probability 1/b and otherwise all, under the same masks: N points in place of N^b.
    """
    parts = []
    share = Fraction(1, batch) if batch else Fraction(0)
    for weight, size in ((share, 1), (1 - share, None)):
        if not weight:
            continue
        draws = Draws(level, size)

        def moved(x: Arrays, point: Any, draws: Draws = draws) -> Arrays:
            return move(draws.at(point), x)

        parts.append((weight, Part(draws.space, moved)))
    return Stage(tuple(parts), copies, (key, batch))


@dataclass(frozen=True, eq=False)
class Lines:
    """The lines that algorithms have in common, on a problem whose levels are drawn with these batches.

    Arrays: λ "lam", w "w", the linear system's iterate "v". What is taken at several points with the same draws has
    the point's number behind its name: "h_0" is the hypergradient being made, "r_0" = ∇_wF, "z_0" ≈ (∇²_wwG)⁻¹ r.
    """

    problem: Problem
    lower_batch: int | None
    upper_batch: int | None

    def scratch(self, points: int = 1) -> dict[str, int]:
        """The lengths of what these lines need."""
        sizes = {"h": self.problem.n, "r": self.problem.d, "z": self.problem.d}
        return {f"{name}_{i}": size for i in range(points) for name, size in sizes.items()}

    def lower(
        self, key: Hashable, move: Callable[[Problem, Arrays], Arrays], *, batch: Any = ..., copies: int = 1
    ) -> Stage:
        """A stage with a draw of the lower level: ``move`` gets the problem as drawn."""
        problem, batch = self.problem, self.lower_batch if batch is ... else batch
        return drawn(
            problem.level,
            batch,
            ("lower", key),
            lambda level, x: move(problem.with_level(level), x),
            copies,
        )

    def descent(self, rate: Any) -> Stage:
        """w ← w − η r̂(λ, w), r̂ = ∇_wG for a minimisation."""
        eta = self.problem.backend.scalar(rate)
        return self.lower(("w", rate), lambda drawn, x: {"w": lower_step(drawn, x["lam"], x["w"], eta)})

    def refinement(self, rate: Any) -> Stage:
        """v ← v − η (∂_w r̂(λ, w)ᵀ v − r_0)."""
        eta = self.problem.backend.scalar(rate)

        def move(drawn: Problem, x: Arrays) -> Arrays:
            return {"v": linear_step(drawn, x["lam"], x["w"], x["v"], x["r_0"], eta)}

        return self.lower(("v", rate), move)

    def gradients(self, points: Sequence[Point] = HERE, copies: int = 1) -> Stage:
        """h_i ← ∇_λF, r_i ← ∇_wF, z_i ← 0, all with one draw."""

        def move(F: Any, x: Arrays) -> Arrays:
            new = {}
            for i, (lam, w) in enumerate(points):
                new[f"h_{i}"], new[f"r_{i}"] = F.grad_lam(x[lam], x[w]), F.grad_w(x[lam], x[w])
                new[f"z_{i}"] = 0 * new[f"r_{i}"]
            return new

        return drawn(self.problem.upper, self.upper_batch, ("gradients", *points), move, copies)

    def indirect(self, adjoints: Sequence[str], points: Sequence[Point] = HERE, copies: int = 1) -> Stage:
        """h_i ← h_i − ∂_λ r̂(λ, w)ᵀ v_i, v_i the array of that name."""

        def move(drawn: Problem, x: Arrays) -> Arrays:
            return {
                f"h_{i}": x[f"h_{i}"] - drawn.residual_lam(x[lam], x[w]).T @ x[v]
                for i, ((lam, w), v) in enumerate(zip(points, adjoints, strict=True))
            }

        return self.lower(("indirect", *points), move, copies=copies)

    def sampled(self, inverse: HessianInverse, points: Sequence[Point] = HERE) -> list[Stage]:
        """h_i ← ∇̄F at every point, with the same draws: ``SampledHypergradient``."""
        if isinstance(inverse, SumNeumann):
            system = self._sum(inverse, points)
        else:
            assert isinstance(inverse, ProductNeumann)
            system = self._product(inverse, points)
        z = [f"z_{i}" for i in range(len(points))]
        return [self.gradients(points), *system, self.indirect(z, points)]

    def _sum(self, inverse: SumNeumann, points: Sequence[Point]) -> list[Stage]:
        """z ← η Σ r, r ← r − η H r."""
        eta = self.problem.backend.scalar(inverse.step)
        batches = inverse.batches or (self.lower_batch,) * inverse.terms
        collected = self._collected(Fraction(1), eta, points, kept=1)
        factors = [self._factor(eta, points, batch) for batch in batches]
        return [collected, *(stage for factor in factors for stage in (factor, collected))]

    def _product(self, inverse: ProductNeumann, points: Sequence[Point]) -> list[Stage]:
        """τ is uniform on 0 … K − 1 where factor i + 1 is not taken with probability 1/(K − i), if no end was before.

        There (K/L) times the product so far goes to z, and what is left of it is 0: later ends add nothing.
        """
        step, K = 1 / self.problem.backend.scalar(inverse.L), inverse.terms
        stages = []
        for i in range(K):
            stages += [self._factor(step, points, self.lower_batch)] if i else []
            stages.append(self._collected(Fraction(1, K - i), K * step, points, kept=0))
        return stages

    def _factor(self, step: Any, points: Sequence[Point], batch: int | None) -> Stage:
        """r ← r − step H r."""

        def move(drawn: Problem, x: Arrays) -> Arrays:
            r = {f"r_{i}": x[f"r_{i}"] for i in range(len(points))}
            return {
                name: linear_step(drawn, x[lam], x[w], r[name], 0 * r[name], step)
                for name, (lam, w) in zip(r, points, strict=True)
            }

        return self.lower(("factor", *points), move, batch=batch)

    def _collected(self, probability: Fraction, scale: Any, points: Sequence[Point], *, kept: int) -> Stage:
        """With this probability z ← z + scale r and, where it is not kept, r ← 0."""
        B, space = self.problem.backend, Bernoulli((probability,))

        def move(x: Arrays, point: Any) -> Arrays:
            on, new = space.mask(point, B), {}
            for i in range(len(points)):
                r, z = x[f"r_{i}"], x[f"z_{i}"]
                new[f"z_{i}"], new[f"r_{i}"] = z + on * scale * r, r - (1 - kept) * on * r
            return new

        return whole(("collected", probability, scale, kept, *points), Part(space, move))
