"""Objectives f(λ, w) and maps Φ(λ, w) with explicit first and second derivatives.

λ has shape (..., n), w has shape (..., d), in C order; leading axes broadcast. n = 0 is legal.
Derivative names follow the hypergradient: ``cross`` is ∇²_{λw} f, an n x d matrix.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from refimpl.arrays import Backend, backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.arrays.numbers import require_number
from refimpl.bounds import Bounds, MapBounds, Region
from refimpl.errors import BadInput
from refimpl.operators import Operator, identity
from refimpl.spaces import Bernoulli, Indices, Space
from refimpl.spaces.bernoulli import Scale

Site = Literal["weights", "activations"]


class Movable:
    """A frozen dataclass whose arrays and numbers can be moved to another backend, exactly where it is exact."""

    if TYPE_CHECKING:  # a field here, a property there

        @property
        def backend(self) -> Backend:
            """Where its arrays live."""

    def to(self, name: str | Backend, *, dtype: str = "float64", device: str | None = None) -> Self:
        """The same mathematical object on another backend ("cupy", "rational", "interval", "jax", …)."""
        target = backend(name, dtype=dtype, device=device)
        fields = dataclasses.fields(self)  # type: ignore[arg-type]  # every subclass is a dataclass
        moved = {f.name: _moved(getattr(self, f.name), target, f.name) for f in fields if f.init}
        return dataclasses.replace(self, **moved)  # type: ignore[type-var]  # as above

    @property
    def leading(self) -> tuple[int, ...]:
        """Leading axes of the data themselves."""
        return ()


def _moved(value: Any, target: Backend, name: str) -> Any:
    if isinstance(value, Backend):
        return target
    if isinstance(value, Movable):
        return value.to(target)
    if isinstance(value, tuple):
        return tuple(_moved(v, target, name) for v in value)
    if value is None or isinstance(value, str | bool | int | Space):
        return value
    if callable(value):
        if target.name in ("numpy", "autograd"):
            return value
        raise BadInput(
            f"an objective made from a bare function cannot move to backend {target.name!r}",
            measured=f"field {name!r} is a Python function differentiated by autograd",
            required="explicit grad_w, grad_lam, hess_ww and cross",
            advice="subclass refimpl.Objective and write these four derivatives in the backend's vocabulary",
        )
    if getattr(value, "ndim", None) is None:
        return target.scalar(value)
    if "int" in str(value.dtype):
        return target.indices(value)
    return target.asarray(value)


class Level(Movable, ABC):
    """What an objective f(λ, w) and a map Φ(λ, w) share: sizes, and a finite mean Σ_k p_k level.at(s_k)."""

    if TYPE_CHECKING:  # a field in some families, a property in others

        @property
        def n(self) -> int:
            """Length of λ."""

        @property
        def d(self) -> int:
            """Length of w."""

    @property
    def lead(self) -> int:
        """Number of leading axes that the data themselves carry (after ``at`` with an array of points)."""
        return 0

    @property
    def space(self) -> Space:
        """The finite space over which the level is an expectation; one point where there is no randomness."""
        return Indices(1)

    @property
    def enumerated(self) -> int:
        """How many points one evaluation visits: 1, or the number of masks of an expectation without closed form."""
        return 1

    def at(self, sample: Any) -> Any:  # of the same kind: an objective, a map
        """The level at the given points of ``space``: its data carry the points' leading axes."""
        return self.batch(self.backend.indices(self._terms_of(sample, axes=0))[..., None])

    def batch(self, sample: Any) -> Any:
        """The mean of the terms over the last axis of the points: of a minibatch what the level is of all data."""
        if self.space.size == 1:
            return self
        raise BadInput(
            "this level does not say what a minibatch of its terms is",
            measured=type(self).__name__,
            required="a method batch(sample)",
            advice="take single terms, at(sample), or write batch beside at",
        )

    def _terms_of(self, sample: Any, axes: int = 1) -> Any:
        """sample, checked where it is a host's: numbers of terms, with at least so many axes. One that wraps around
        would give a wrong minibatch without a word."""
        if not isinstance(sample, np.ndarray | int | list):
            return sample
        numbers = np.asarray(sample)
        if numbers.dtype.kind not in "iu" or numbers.size == 0 or numbers.ndim < axes:
            found = f"{numbers.dtype} of shape {numbers.shape}"
        elif numbers.view(f"u{numbers.itemsize}").max() >= self.space.size:  # a negative one is larger there
            found = f"numbers from {numbers.min()} to {numbers.max()}"
        else:
            return sample
        raise BadInput(
            "not numbers of the objective's terms",
            measured=found,
            required=f"integers 0 … {self.space.size - 1}, at least one; for a minibatch on a last axis",
            advice="draw them with space.sample(rng, shape)",
        )


class Objective(Level, ABC):
    """A twice differentiable function f(λ, w), possibly a finite mean Σ_k p_k f.at(s_k)."""

    def with_dropout(self, keep_prob: Any, **options: Any) -> Objective:
        """E f(m_λ λ, m_w w) over random masks, exactly: again an objective.

        Options groups, scale, site and max_masks as for :func:`refimpl.masks.dropout`, which this calls.
        """
        from refimpl.masks import dropout

        return dropout(self, keep_prob, **options)

    def kink_distance(self, lam: Array, w: Array, lam_moves: Any = None, w_moves: Any = None) -> Any:
        """How far (λ, w) is from where f has no derivative, on the host; inf for smooth f.

        lam_moves, w_moves: masks whose zeros stand still; a kink in what does not move is none.
        """
        return math.inf

    def through(self) -> Array | None:
        """X (m, d) with f(λ, w) = g(λ, Xw) at every λ: f is constant along ker X; None where none is known."""
        return None

    def dropout_mean(self, lam: Bernoulli, w: Bernoulli, scale: Scale) -> Objective | None:
        """The expectation over masks of λ and w in closed form, where the family knows it; else None."""
        return None

    @property
    def units(self) -> int:
        """Number of hidden units: of a network loss."""
        return 0

    def units_mean(self, masks: Bernoulli, scale: Scale) -> Objective | None:
        """The expectation over masks of the hidden units in closed form, where the family knows it; else None."""
        return None

    def drop_units(self, mask: Array) -> Objective:
        """The network whose hidden units' outputs are multiplied by mask (..., units); others have no units."""
        raise BadInput(
            "this objective has no hidden units to drop",
            measured=type(self).__name__,
            required="a loss of refimpl.networks",
            advice='mask the weights instead: site="weights"',
        )

    def drop_each(self, mask: Array) -> Objective:
        """As ``drop_units``, with a mask for every sample: (..., N, units)."""
        return self.drop_units(mask)  # what has no units refuses there

    @abstractmethod
    def value(self, lam: Array, w: Array) -> Array:
        """f(λ, w), (...)."""

    @abstractmethod
    def grad_lam(self, lam: Array, w: Array) -> Array:
        """∇_λ f, (..., n)."""

    @abstractmethod
    def grad_w(self, lam: Array, w: Array) -> Array:
        """∇_w f, (..., d)."""

    @abstractmethod
    def hess_ww(self, lam: Array, w: Array) -> Operator:
        """∇²_ww f, symmetric d x d."""

    @abstractmethod
    def cross(self, lam: Array, w: Array) -> Operator:
        """∇²_λw f, n x d: ``C @ v`` is in Rⁿ, ``C.T @ u`` is in R^d."""

    def bounds(self, region: Region) -> Bounds:
        """Proved bounds of this objective's derivatives over a region."""
        raise _no_bounds(self)

    def lead_of(self, lam: Array, w: Array) -> int:
        """Leading axes of a derivative at (λ, w): the longest of the point's and the data's."""
        return max(lam.ndim - 1, w.ndim - 1, self.lead)


class Made(Level):
    """A level made of another one, f, whose sizes, leading axes and terms it has."""

    if TYPE_CHECKING:  # a field, of the kind that the class is made of

        @property
        def f(self) -> Any:
            """What it is made of."""

    @property
    def n(self) -> int:
        return int(self.f.n)

    @property
    def d(self) -> int:
        return int(self.f.d)

    @property
    def leading(self) -> tuple[int, ...]:
        return tuple(self.f.leading)

    @property
    def lead(self) -> int:
        return int(self.f.lead)

    @property
    def space(self) -> Space:
        space: Space = self.f.space
        return space

    @property
    def enumerated(self) -> int:
        return int(self.f.enumerated)


class Around(Made, Objective, ABC):
    """An objective made of another one."""


class Map(Level, ABC):
    """A differentiable map w ↦ Φ(λ, w) of R^d with parameters λ, possibly a finite mean."""

    @abstractmethod
    def value(self, lam: Array, w: Array) -> Array:
        """Φ(λ, w), (..., d)."""

    @abstractmethod
    def d_w(self, lam: Array, w: Array) -> Operator:
        """∂_w Φ, d x d."""

    @abstractmethod
    def d_lam(self, lam: Array, w: Array) -> Operator:
        """∂_λ Φ, d x n."""

    def bounds(self, region: Region) -> MapBounds:
        """Proved bounds of this map's Jacobians over a region."""
        raise _no_bounds(self)


def _no_bounds(thing: Any) -> BadInput:
    return BadInput(
        "no constants are known for this family",
        measured=type(thing).__name__,
        required="a bounds(region) method with proved constants",
        advice="use a family of refimpl.zoo, or write bounds(region) and test it by hunting",
    )


@dataclass(frozen=True, eq=False)
class DescentMap(Made, Map):
    """Φ(λ, w) = w − η ∇_w G(λ, w): one gradient step on the lower level (contraction, (3))."""

    lower: Objective
    step: Any
    backend: Backend = Backend()

    @property
    def f(self) -> Objective:
        return self.lower

    def at(self, sample: Any) -> DescentMap:
        return dataclasses.replace(self, lower=self.lower.at(sample))

    def batch(self, sample: Any) -> DescentMap:
        return dataclasses.replace(self, lower=self.lower.batch(sample))

    def value(self, lam: Array, w: Array) -> Array:
        return w - self.step * self.lower.grad_w(lam, w)

    def d_w(self, lam: Array, w: Array) -> Operator:
        return identity(self.backend, self.d) + (-self.step) * self.lower.hess_ww(lam, w)

    def d_lam(self, lam: Array, w: Array) -> Operator:
        return (-self.step) * self.lower.cross(lam, w).T

    def bounds(self, region: Region) -> MapBounds:
        """The lower level's, scaled by η; ‖∂_wΦ‖ <= max(|1 − ημ|, |1 − ηL|)."""
        G, eta = self.lower.bounds(region), float(to_numpy(self.step))
        return MapBounds(
            d_w=max(abs(1 - eta * G.hess_ww_min), abs(1 - eta * G.hess_ww)),
            d_lam=eta * G.cross,
            d_w_by_w=eta * G.hess_ww_by_w,
            d_w_by_lam=eta * G.hess_ww_by_lam,
            d_lam_by_w=eta * G.cross_by_w,
            d_lam_by_lam=eta * G.cross_by_lam,
        )


def descent_map(lower: Objective, step: float) -> DescentMap:
    """w ↦ w − step ∇_w G; a contraction with q = max(|1−step μ|, |1−step L|) where μI ≤ ∇²_ww G ≤ LI."""
    require_number(step, "the step", "2/(mu + L) is the best one")
    return DescentMap(lower, lower.backend.scalar(step), lower.backend)


def hypergradient(upper: Objective, lower: Objective, lam: Array, w: Array) -> Array:
    """∇f(λ) = ∇_λF − ∇²_λw G (∇²_ww G)⁻¹ ∇_wF at w = w(λ): the definition, in two lines (reweighting, (11))."""
    from refimpl.arrays import solve_spd

    v = solve_spd(lower.backend, lower.hess_ww(lam, w).dense(), upper.grad_w(lam, w))
    return upper.grad_lam(lam, w) - lower.cross(lam, w) @ v
