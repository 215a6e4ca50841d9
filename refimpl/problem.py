"""Bilevel problems: an upper objective, and a lower level given by an equation r(λ, w) = 0.

Both kinds of lower level are one thing, a residual with its two Jacobians:

=================== ==================== ================ ==================
problem             r(λ, w)              ∂_w r            ∂_λ r
=================== ==================== ================ ==================
BilevelProblem      ∇_w G                ∇²_ww G          (∇²_λw G)ᵀ
FixedPointProblem   w − Φ(λ, w)          I − ∂_w Φ        −∂_λ Φ
=================== ==================== ================ ==================

With (∂_w r)ᵀ v = ∇_wF the hypergradient is ∇_λF − (∂_λ r)ᵀ v for both (contraction, (4); reweighting, (11)).
The adjoint v of a minimisation and v_Φ of its descent map are two vectors: v_Φ = v/η.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.objective import Map, Movable, Objective, descent_map
from refimpl.operators import Operator, identity
from refimpl.sets import ConvexSet
from refimpl.spaces import Bernoulli, Space


class Problem(Movable):
    """min over λ of f(λ) = F(λ, w(λ)), where w(λ) solves r(λ, w) = 0."""

    upper: Objective
    domain: ConvexSet | None
    symmetric: bool  # is ∂_w r symmetric positive definite at solutions?
    cancels: float  # ‖I‖₂ where ∂_w r = I − ∂_wΦ, whose two terms may cancel; else 0

    @property
    def n(self) -> int:
        return self.upper.n

    @property
    def d(self) -> int:
        return self.upper.d

    @abstractmethod
    def residual(self, lam: Array, w: Array) -> Array:
        """r(λ, w), (..., d); zero exactly at the lower-level solution."""

    @abstractmethod
    def residual_w(self, lam: Array, w: Array) -> Operator:
        """∂_w r, d x d."""

    @abstractmethod
    def residual_lam(self, lam: Array, w: Array) -> Operator:
        """∂_λ r, d x n."""

    @property
    @abstractmethod
    def level(self) -> Any:
        """The lower level: an objective G, or a map Φ."""

    @abstractmethod
    def with_level(self, level: Any) -> Self:
        """The same problem with another lower level of this kind: a minibatch of it, say."""

    @property
    def space(self) -> Space:
        """The finite space over which the lower level, and so r, is an expectation."""
        space: Space = self.level.space
        return space

    @property
    def enumerated(self) -> int:
        """How many masks one evaluation visits, at the level that visits more; 1 where nothing is enumerated."""
        return max(self.upper.enumerated, self.level.enumerated)

    def at(self, sample: Any) -> Self:
        """The problem with the lower level at these points: Σ_k p_k problem.at(s_k).residual = residual."""
        return self.with_level(self.level.at(sample))

    def hypergradient_at(self, lam: Array, w: Array, v: Array) -> Array:
        """∇_λF − (∂_λ r)ᵀ v: the hypergradient when w = w(λ) and v is the adjoint there."""
        return self.upper.grad_lam(lam, w) - self.residual_lam(lam, w).T @ v

    def kink_distance(self, lam: Array, w: Array) -> Any:
        """How far (λ, w) is from where a level has no derivative, on the host; inf where both are smooth."""
        return self.upper.kink_distance(lam, w)

    def lam(self, lam: Any) -> Array:
        """λ checked: backend, shape, dtype, finite, inside Λ."""
        lam = self.backend.vector(lam, self.n, "lam")
        if self.domain is not None:
            self.domain.require(lam, self.backend)
        return lam

    def w(self, w: Any) -> Array:
        """w checked: backend, shape, dtype, finite; None is the origin."""
        return self.backend.zeros((self.d,)) if w is None else self.backend.vector(w, self.d, "w")

    def check(self, lam: Any, w: Any, **options: Any) -> Any:
        """Measured numbers and violated hypotheses at one point: see ``refimpl.measure.check``."""
        from refimpl.measure import check

        return check(self, lam, w, **options)

    def _require_same_sizes(self, lower: Objective | Map, kind: type) -> None:
        if not (isinstance(self.upper, Objective) and isinstance(lower, kind)):
            raise BadInput(
                "the two levels are of the wrong kind",
                measured=f"upper {type(self.upper).__name__}, lower {type(lower).__name__}",
                required=f"upper an Objective, lower {'an Objective' if kind is Objective else 'a Map'}",
                advice="wrap bare functions: refimpl.from_function, refimpl.map_from_function",
            )
        if (lower.n, lower.d) != (self.upper.n, self.upper.d) or lower.backend != self.upper.backend:
            raise BadInput(
                "the two levels do not fit together",
                measured=f"upper (n={self.upper.n}, d={self.upper.d}, {self.upper.backend}), "
                f"lower (n={lower.n}, d={lower.d}, {lower.backend})",
                required="the same n, d and backend",
                advice="build both levels over the same (λ, w); move both with .to(...)",
            )


@dataclass(frozen=True, eq=False)
class BilevelProblem(Problem):
    """The lower level minimises G(λ, ·), strongly convex: r = ∇_wG.

    ``name`` and ``initial`` (the λ that ``start()`` returns) are the family's; neither enters any formula.
    """

    upper: Objective
    lower: Objective
    domain: ConvexSet | None = None
    name: str = "bilevel problem"
    initial: Any = None

    symmetric = True
    cancels = 0.0

    def __post_init__(self) -> None:
        self._require_same_sizes(self.lower, Objective)

    @property
    def backend(self) -> Backend:
        return self.lower.backend

    @property
    def level(self) -> Objective:
        return self.lower

    def with_level(self, level: Any) -> BilevelProblem:
        return dataclasses.replace(self, lower=level)

    def start(self) -> Array:
        """A λ to begin with: the family's, else the origin."""
        return self.backend.zeros((self.n,)) if self.initial is None else self.initial

    def kink_distance(self, lam: Array, w: Array) -> Any:
        return np.minimum(self.upper.kink_distance(lam, w), self.lower.kink_distance(lam, w))

    def residual(self, lam: Array, w: Array) -> Array:
        return self.lower.grad_w(lam, w)

    def residual_w(self, lam: Array, w: Array) -> Operator:
        return self.lower.hess_ww(lam, w)

    def residual_lam(self, lam: Array, w: Array) -> Operator:
        return self.lower.cross(lam, w).T

    def with_dropout(
        self,
        *,
        lower: Any,
        upper: Any,
        groups: Any = None,
        **options: Any,
    ) -> BilevelProblem:
        """The dropout model (dropout-bilevel (9)): each level's expectation over random masks; again a problem.

        lower, upper: that level's keep probabilities, as :func:`refimpl.masks.dropout` takes them (a number, one per
        mask variable, a ``Bernoulli``, or {"lam": …, "w": …}); None leaves the level as it is. groups and the options
        scale, site, max_masks: as there, for both levels. Raises ``HypothesisViolated`` where the lower level would
        lose a coordinate of w.
        """
        levels = {"upper": upper, "lower": lower}
        masked = {
            level: getattr(self, level).with_dropout(keep_prob, groups=groups, **options)
            for level, keep_prob in levels.items()
            if keep_prob is not None
        }
        if "lower" in masked and masked["lower"].site == "weights":
            _require_kept(masked["lower"].w)
        return dataclasses.replace(self, **masked, name=f"{self.name} with dropout")

    def as_fixed_point(self, step: float) -> FixedPointProblem:
        """The same lower level as the fixed point of w − step ∇_wG; its adjoint is v/step."""
        phi = descent_map(self.lower, step)
        return FixedPointProblem(self.upper, phi, self.domain, self.name, self.initial)


@dataclass(frozen=True, eq=False)
class FixedPointProblem(Problem):
    """The lower level is the fixed point of a contraction Φ(λ, ·): r = w − Φ(λ, w)."""

    upper: Objective
    phi: Map
    domain: ConvexSet | None = None
    name: str = "fixed-point problem"
    initial: Any = None

    symmetric = False
    cancels = 1.0

    def __post_init__(self) -> None:
        self._require_same_sizes(self.phi, Map)

    @property
    def backend(self) -> Backend:
        return self.phi.backend

    @property
    def level(self) -> Map:
        return self.phi

    def with_level(self, level: Any) -> FixedPointProblem:
        return dataclasses.replace(self, phi=level)

    start = BilevelProblem.start

    def residual(self, lam: Array, w: Array) -> Array:
        return w - self.phi.value(lam, w)

    def residual_w(self, lam: Array, w: Array) -> Operator:
        eye = identity(self.backend, self.d)
        return eye + (-1) * self.phi.d_w(lam, w)

    def residual_lam(self, lam: Array, w: Array) -> Operator:
        return (-1) * self.phi.d_lam(lam, w)


def _require_kept(masks: Bernoulli) -> None:
    never = [i for i, p in enumerate(masks.of_coordinates()) if p == 0]
    if never:
        raise HypothesisViolated(
            "the lower level does not depend on a coordinate of w that is never kept: it is not strongly convex",
            measured=f"keep_prob 0 at w{never[:5]}"
            + (f" and {len(never) - 5} more" if len(never) > 5 else ""),
            required="keep_prob > 0 on all of w (proposition 1: the modulus is p_min μ)",
            advice="leave these coordinates out of w, or keep them with a positive probability",
        )
