"""Interval flatness: how far w may move along a direction, to either side, before the loss is multiplied by a factor.

Along a ray, t > 0: L is above where L(w + t v) >= factor · L(w). The points start · growth^j are tried in turn, up to
``limit``, until one is above; where ``start`` is above already it is halved until a point is not. Between the last
point that is not above and the next, which is, a sign change is enclosed by interpolate-truncate-project steps
(Oliveira, Takahashi 2020: at most one step more than bisection) to a relative width of 2 eps.

What that promises: a crossing of the loss as it is computed, to 2 eps of its place, and no *tried* point nearer to w is
above. Values alone cannot promise more: between two points tried, or nearer than the first of them, the loss may rise
and fall again. Where it is convex along the ray, or has one crossing for another reason, it is the nearest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, HypothesisViolated, TooLarge
from refimpl.objective import Objective
from refimpl.solvers.lower import overflow_allowed
from refimpl.spaces import CHUNK

LEAST = 5e-324  # the smallest number above 0: a sign for what is nearer to 0 than any float
NORMAL = 2.0**-1022  # below it start · growth may round to start
MOST_POINTS = 10**4  # tried outwards on each side


@dataclass(frozen=True, eq=False)
class IntervalFlatness:
    """F_v = right − left for every direction v, in units of v; arrays (...) on the host.

    left < 0 < right: the places of the crossings, −inf and inf where no point up to ``limit`` was above.
    residuals (2, ...): |L(w + δv)/L(w) − factor| at left and right; 0 where there is no crossing. One that rounding
    does not explain says that the loss jumps there, or that w + δv takes no steps so small.
    """

    left: np.ndarray
    right: np.ndarray
    residuals: np.ndarray
    loss: float
    factor: float
    limit: float
    growth: float
    evaluations: int

    @property
    def width(self) -> np.ndarray:
        """right − left, inf where one of them is."""
        return self.right - self.left


def interval_flatness(
    f: Objective,
    w: Array,
    directions: Array,
    *,
    lam: Array | None = None,
    factor: float = 2.0,
    start: float = 2.0**-16,
    limit: float = 2.0**10,
    growth: float = 2.0**0.5,
    chunk: int = CHUNK,
) -> IntervalFlatness:
    """F_v at w (d,) along each of the directions (..., d), all of them in one call; the loss is whatever f is
    (dropout-flatness, definition 2, where factor = 2).

    growth: the resolution, nearest neighbours among the points tried are this far apart. v is not normalised.
    lam: needed where f has a λ. Raises ``HypothesisViolated`` where L(w) <= 0, which no factor raises, where L(w) or
    its multiple is not finite, and where a point tried has a loss of NaN, which is on neither side (∞ is above);
    ``BadInput``, also where w + limit · v rounds to w, so that nothing moves; ``TooLarge`` above 10⁴ points on a side.
    Cost: log(limit/start)/log(growth) values of f per side at most, and about ten more for a crossing.

    >>> import refimpl as ri
    >>> f = ri.zoo.quadratic.objective(ww=[[2.0, 0.0], [0.0, 8.0]], n=0)  # w₁² + 4 w₂², at (1, 0)
    >>> found = interval_flatness(f, np.array([1.0, 0.0]), np.eye(2))
    >>> [round(x, 12) for x in (*found.left.tolist(), *found.right.tolist())]
    [-2.414213562373, -0.5, 0.414213562373, 0.5]
    """
    _require_options(f, factor, start, limit, growth, chunk)
    B, lam, w = f.backend, known_lam(f, lam), one_point(f, w)
    V = some_directions(f, directions)
    lead = tuple(V.shape[:-1])
    V = B.reshape(V, (math.prod(lead), f.d))
    if not bool(B.xp.all(B.xp.any(V != 0, axis=-1))):
        raise BadInput(
            "a direction is zero", measured="0", required="v ≠ 0", advice="the loss does not change along it"
        )
    with overflow_allowed():
        if not bool(B.xp.all(B.xp.any(w + V * B.scalar(limit) != w, axis=-1))):
            raise BadInput(
                "w does not move along a direction",
                measured=f"w + {float(limit):g} v rounds to w in every coordinate",
                required="an entry of v that, times the limit, is more than the rounding of w's",
                advice="take a longer direction, or a larger limit; over the rationals nothing is rounded",
            )
        here = f.value(lam, w)
        level = here * B.scalar(factor)
    loss = float(to_numpy(here))
    if not math.isfinite(float(to_numpy(level))):
        raise HypothesisViolated(
            "the level is no finite number: nothing crosses it",
            measured=f"L(w) = {loss}, times {factor}",
            required="a finite multiple of a finite loss",
            advice="look for an overflow in the loss at w; a loss divided by a constant has the same widths",
        )
    if not loss > 0:
        raise HypothesisViolated(
            "the loss at w is not positive: no multiple of it lies above it",
            measured=f"L(w) = {loss}",
            required="L(w) > 0",
            advice="at interpolation take the curvature (along, eigen_directions), or the loss with dropout",
        )
    rays = _Rays(f, lam, w, B.concat([-V, V], axis=0), level, chunk)
    bracket = _Bracket.found(rays, (1 - factor) * loss, start, limit, growth)
    places, gaps = bracket.refined(rays, B.eps or Backend().eps)
    shape = (2, *lead)
    places, gaps = places.reshape(shape), gaps.reshape(shape)
    evaluated = rays.evaluated + 1
    return IntervalFlatness(-places[0], places[1], gaps / loss, loss, factor, limit, growth, evaluated)


def quadratic_width(loss: Any, slope: Any, curvature: Any, *, factor: float = 2.0) -> np.ndarray:
    """F_v of L + gδ + hδ²/2: 2 √(g² + 2h(factor − 1)L)/h where h > 0, else inf (one side never gets there).

    loss, slope g = ∇L·v and curvature h = vᵀHv broadcast, on the host. With g = 0: 2 √(2(factor − 1)L/h). Raises
    ``HypothesisViolated`` where a loss is not positive, ``BadInput`` where factor <= 1 or a number is not finite.

    >>> quadratic_width(1.0, 0.0, [8.0, -1.0]).tolist()
    [1.0, inf]
    """
    L, g, h = (np.asarray(to_numpy(x), dtype=np.float64) for x in (loss, slope, curvature))
    if not (1 < factor < math.inf and all(np.all(np.isfinite(x)) for x in (L, g, h))):
        raise BadInput(
            "no parabola that rises to a multiple of its value",
            measured=f"factor {factor}, loss {L}, slope {g}, curvature {h}",
            required="finite numbers, factor > 1",
            advice="leave factor out for 2; look at how the others were computed",
        )
    if not np.all(L > 0):
        raise HypothesisViolated(
            "a loss is not positive: no multiple of it lies above it",
            measured=f"smallest loss {L.min()}",
            required="L > 0",
            advice="at interpolation take the curvature itself, or the loss with dropout",
        )
    curved = np.where(h > 0, h, 1.0)
    width = 2 * np.sqrt(g * g + 2 * curved * (factor - 1) * L) / curved
    return np.asarray(np.where(h > 0, width, np.inf))


@dataclass(eq=False)
class _Rays:
    """Rays w + t v, and how far the loss on them is above the level; counts the values taken."""

    f: Objective
    lam: Array
    w: Array
    V: Array
    level: Any
    chunk: int
    evaluated: int = 0

    def __call__(self, lanes: np.ndarray, t: np.ndarray) -> np.ndarray:
        """L(w + t v) − level on the host, for each of these lanes: < 0 exactly where it is so on the backend."""
        B, found = self.f.backend, []
        for begin in range(0, lanes.size, self.chunk):
            some = slice(begin, begin + self.chunk)
            steps = B.asarray(t[some])[:, None] * B.take(self.V, B.indices(lanes[some]))
            with overflow_allowed():  # far away a loss may overflow: that is above
                excess = self.f.value(self.lam, self.w + steps) - self.level
            below, gap = np.asarray(to_numpy(excess < 0), dtype=bool), to_numpy(excess)
            self._require_numbers(gap, lanes[some], t[some])
            found.append(np.where(below, np.minimum(gap, -LEAST), np.maximum(gap, 0)))
        self.evaluated += lanes.size
        return np.concatenate(found)

    def _require_numbers(self, gap: np.ndarray, lanes: np.ndarray, t: np.ndarray) -> None:
        nowhere = np.flatnonzero(np.isnan(gap))
        if nowhere.size:
            side, number = divmod(int(lanes[nowhere[0]]), self.V.shape[0] // 2)
            raise HypothesisViolated(
                "the loss is not a number at a point that was tried: it is on neither side of the level",
                measured=f"NaN at δ = {(1 if side else -1) * t[nowhere[0]]:g} along direction {number}",
                required="a loss that is a number, or infinite, on the way to its crossing",
                advice="lower limit, or growth, so that the points tried stay where the loss is defined",
            )


@dataclass(eq=False)
class _Bracket:
    """Of every lane a point lo that is not above and a point hi > lo that is (inf: none), and the gaps there."""

    lo: np.ndarray
    hi: np.ndarray
    at_lo: np.ndarray
    at_hi: np.ndarray

    @classmethod
    def found(cls, rays: _Rays, at_w: float, start: float, limit: float, growth: float) -> _Bracket:
        """By trying points outwards, or, where the first is above, inwards (at t = 0 none is)."""
        lanes = np.arange(rays.V.shape[0])
        hi = np.full(lanes.size, float(start))
        b = cls(0 * hi, hi, 0 * hi + at_w, rays(lanes, hi))
        inwards, outwards = lanes[~(b.at_hi < 0)], lanes[b.at_hi < 0]
        while inwards.size:
            t = b.hi[inwards] / 2
            if not np.all(t > 0):
                raise HypothesisViolated(
                    "the loss is above the level as near to w as numbers go",
                    measured=f"L(w) - level = {at_w:.3g}, and not below 0 at the smallest t",
                    required="a loss at w whose rounding is smaller than itself",
                    advice="the loss at w is 0 up to rounding: take the curvature, or the loss with dropout",
                )
            inwards = b._narrowed(inwards, t, rays(inwards, t))
        while outwards.size:
            t = b.hi[outwards]
            b.lo[outwards], b.at_lo[outwards] = t, b.at_hi[outwards]
            b.hi[outwards[t >= limit]] = np.inf
            outwards = outwards[t < limit]
            if outwards.size:
                b.hi[outwards] = np.minimum(b.hi[outwards] * growth, limit)
                b.at_hi[outwards] = rays(outwards, b.hi[outwards])
                outwards = outwards[b.at_hi[outwards] < 0]
        return b

    def _narrowed(self, lanes: np.ndarray, t: np.ndarray, gap: np.ndarray) -> np.ndarray:
        """Put points inside the brackets in the place of lo or of hi; the lanes where it was hi."""
        below = gap < 0
        self.lo[lanes[below]], self.at_lo[lanes[below]] = t[below], gap[below]
        self.hi[lanes[~below]], self.at_hi[lanes[~below]] = t[~below], gap[~below]
        return lanes[~below]

    def refined(self, rays: _Rays, eps: float) -> tuple[np.ndarray, np.ndarray]:
        """Places of the crossings, the end with the smaller gap of brackets not wider than 2 eps hi; and these gaps."""
        finite = np.isfinite(self.hi)
        width = np.where(finite, self.hi, 1.0) - np.where(finite, self.lo, 0.0)
        close = eps * np.where(finite, self.hi, 1.0)  # half of the width asked for
        halvings, bend = np.ceil(np.log2(np.maximum(width / (2 * close), 1))), 0.2 / width
        lanes, step = np.flatnonzero(finite & (width > 2 * close)), 0
        while lanes.size:
            reach = np.maximum(close[lanes] * 2.0 ** (halvings[lanes] + 1 - step) - self._half(lanes), 0)
            t = self._projected(lanes, bend[lanes], reach)
            self._narrowed(lanes, t, rays(lanes, t))
            lanes, step = lanes[2 * self._half(lanes) > 2 * close[lanes]], step + 1
        lower = -self.at_lo < np.abs(self.at_hi)
        place, gap = np.where(lower, self.lo, self.hi), np.where(lower, -self.at_lo, np.abs(self.at_hi))
        return np.where(finite, place, np.inf), np.where(finite, gap, 0.0)

    def _half(self, lanes: np.ndarray) -> np.ndarray:
        return (self.hi[lanes] - self.lo[lanes]) / 2

    def _projected(self, lanes: np.ndarray, bend: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """Regula falsi, moved towards the middle by bend · width², and brought to within ``reach`` of the middle."""
        a, b, at_a, at_b = self.lo[lanes], self.hi[lanes], self.at_lo[lanes], self.at_hi[lanes]
        middle = (a + b) / 2
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            secant = (at_b * a - at_a * b) / (at_b - at_a)
            secant = np.where(np.isfinite(secant), secant, middle)
        towards, moved = np.sign(middle - secant), bend * (b - a) ** 2
        t = np.where(moved <= np.abs(middle - secant), secant + towards * moved, middle)
        t = np.where(np.abs(t - middle) <= reach, t, middle - towards * reach)
        return np.where((a < t) & (t < b), t, middle)


def require_objective(f: Any) -> None:
    """An objective; else ``BadInput``."""
    if not isinstance(f, Objective):
        raise BadInput(
            "not an objective",
            measured=type(f).__name__,
            required="a refimpl.Objective",
            advice="refimpl.functions.from_function(f, n=0, d=…) makes one of a function of (lam, w)",
        )


def some_directions(f: Objective, directions: Any) -> Array:
    """Directions (..., d), at least one, on f's backend; else ``BadInput``."""
    V = f.backend.vector(directions, f.d, "directions")
    if 0 in V.shape:
        raise BadInput(
            "no directions",
            measured=tuple(V.shape),
            required=f"(..., {f.d}), at least one",
            advice="pass one or more, each a vector on the last axis",
        )
    return V


def known_lam(f: Objective, lam: Array | None) -> Array:
    """λ (n,) as given, or the empty one of an objective that has none; else ``BadInput``."""
    if lam is None and f.n:
        raise BadInput(
            "the loss depends on λ", measured="lam=None", required=f"lam ({f.n},)", advice="pass lam=…"
        )
    lam = f.backend.zeros((0,)) if lam is None else f.backend.vector(lam, f.n, "lam")
    return single(lam, f.n, "lam")


def one_point(f: Objective, w: Array) -> Array:
    """w checked to be one point (d,) of an objective whose data carry no leading axes; else ``BadInput``."""
    if f.lead:
        raise BadInput(
            "several losses at once",
            measured=f"data with leading axes {f.leading}",
            required="one loss",
            advice="take f itself, or one of its terms",
        )
    return single(f.backend.vector(w, f.d, "w"), f.d, "w")


def single(x: Array, size: int, name: str) -> Array:
    """One vector (size,); else ``BadInput``."""
    if x.ndim != 1:
        raise BadInput(
            f"{name} is several points",
            measured=tuple(x.shape),
            required=f"({size},)",
            advice="call it for one at a time; the directions of profiles and widths may have leading axes",
        )
    return x


def _require_options(
    f: Objective, factor: float, start: float, limit: float, growth: float, chunk: int
) -> None:
    require_objective(f)
    if not f.backend.ordered:
        raise BadInput(
            "a crossing cannot be searched for over balls",
            measured=f"backend {f.backend.name!r}",
            required="numbers that can be compared",
            advice="search in floats or in rationals",
        )
    fits = factor > 1 and growth > 1 and NORMAL <= start < limit and chunk >= 1
    if not fits or not all(math.isfinite(x) for x in (factor, growth, limit)):
        raise BadInput(
            "nothing can be searched for with these options",
            measured=f"factor {factor}, start {start}, limit {limit}, growth {growth}, chunk {chunk}",
            required="factor > 1, growth > 1, 2⁻¹⁰²² <= start < limit, all finite; chunk >= 1",
            advice="leave them out: factor 2, limit 1024, growth √2",
        )
    points = (math.log(limit) - math.log(start)) / math.log(growth)
    if points > MOST_POINTS:
        raise TooLarge(
            "too many points to try",
            measured=f"log(limit/start)/log(growth) = {points:.3g} on each side",
            required=f"<= {MOST_POINTS}",
            advice="raise growth, the resolution, or start nearer to the limit",
        )
