"""Hand-written derivatives against channels that share no code with them.

Channels: ``autograd`` (reverse mode through the same source one order lower), ``complex step``
(Im f(x + ih)/h with h = 1e-200: no cancellation, exact to rounding where f is holomorphic), and for structure
``adjoint`` (C.T is the transpose of C), ``dense`` (assembled matrix against products), ``leading axes``
(batches against single points, with different and with equal lengths), ``finite sum`` (Σ p_k f.at(s_k) = f,
in every quantity, over leading axes too).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import RefimplError, WrongDerivative
from refimpl.objective import Map, Objective
from refimpl.operators import Operator
from refimpl.spaces import expect

INDEPENDENT = frozenset({"autograd", "complex step"})  # they share no line with the derivative they judge
STEP = 1e-200  # its square underflows, so the complex step has no truncation error


@dataclass(frozen=True)
class Row:
    """One comparison: largest error of ``quantity`` by ``channel``, and the rounding it is allowed."""

    quantity: str
    channel: str
    error: float
    allowed: float

    @property
    def ok(self) -> bool:
        return bool(self.error <= self.allowed)


def check_derivatives(
    thing: Objective | Map, lam: Any = None, w: Any = None, *, seed: int = 0
) -> tuple[Row, ...]:
    """Compare every derivative of an Objective or Map with all channels that can judge it.

    lam (n,), w (d,): the point, drawn from ``seed`` by default. Allowed: 10 (n + d) eps times the size of the
    function and its derivatives there. Returns the rows; raises ``WrongDerivative`` naming the worst one.
    A channel that does not apply (not holomorphic, not differentiable by autograd) gives no row; for no
    derivative must both of the first two channels be missing.

    >>> import refimpl as ri
    >>> rows = check_derivatives(ri.zoo.quadratic.random(n=2, d=3, seed=0).lower)
    >>> {row.channel for row in rows} >= {"autograd", "complex step", "adjoint"}
    True
    """
    host = thing if thing.backend.name == "numpy" else thing.to("numpy")
    rng = np.random.default_rng(seed)
    lam = rng.standard_normal(host.n) if lam is None else to_numpy(lam)
    w = rng.standard_normal(host.d) if w is None else to_numpy(w)
    rows = tuple(_rows(host, lam, w, rng))
    wrong = [row for row in rows if not row.ok]
    if wrong:
        worst = max(wrong, key=lambda row: row.error / row.allowed if row.allowed else np.inf)
        raise WrongDerivative(
            f"{type(thing).__name__}.{worst.quantity} disagrees with {worst.channel}",
            measured=f"largest error {worst.error:.3e}; {len(wrong)} of {len(rows)} comparisons fail",
            required=f"<= {worst.allowed:.3e}",
            advice="look for a sign, a transpose, a missing 1/N or a dropped term in that method",
        )
    judged = {row.quantity for row in rows if row.channel in INDEPENDENT}
    if unjudged := sorted({row.quantity for row in rows} - judged - {"value"}):
        raise WrongDerivative(
            f"{type(thing).__name__} could not be judged",
            measured=f"neither autograd nor the complex step applies to {', '.join(unjudged)}",
            required="one independent channel for each derivative",
            advice="write value() in the backend's vocabulary, without int() or float() conversions",
        )
    return rows


Formula = Callable[[Any, Array, Array], Array]


def _formulas(thing: Objective | Map, u: Array, v: Array) -> dict[str, tuple[Formula, Formula, str]]:
    """quantity: (its product with a vector, what it differentiates, in which variable).

    Every derivative is tested through products, Σ over its output with a fixed vector, so that one scalar
    function per quantity is differentiated: d/dx (g(x)·y) must equal the product of the derivative with y.
    """
    if isinstance(thing, Map):
        return {
            "d_w": (lambda f, la, x: f.d_w(la, x).T @ v, lambda f, la, x: f.value(la, x) * v, "w"),
            "d_lam": (lambda f, la, x: f.d_lam(la, x).T @ v, lambda f, la, x: f.value(la, x) * v, "lam"),
        }
    return {
        "grad_w": (lambda f, la, x: f.grad_w(la, x), lambda f, la, x: f.value(la, x), "w"),
        "grad_lam": (lambda f, la, x: f.grad_lam(la, x), lambda f, la, x: f.value(la, x), "lam"),
        "hess_ww": (lambda f, la, x: f.hess_ww(la, x) @ v, lambda f, la, x: f.grad_w(la, x) * v, "w"),
        "cross": (lambda f, la, x: f.cross(la, x) @ v, lambda f, la, x: f.grad_w(la, x) * v, "lam"),
        "cross.T": (lambda f, la, x: f.cross(la, x).T @ u, lambda f, la, x: f.grad_lam(la, x) * u, "w"),
    }


def _rows(thing: Objective | Map, lam: Array, w: Array, rng: np.random.Generator) -> Iterator[Row]:
    u, v = rng.standard_normal(thing.n), rng.standard_normal(thing.d)
    allowed = 10 * (thing.n + thing.d) * thing.backend.eps * _size(thing, lam, w, u, v)
    for name, (product, below, variable) in _formulas(thing, u, v).items():
        mine = to_numpy(product(thing, lam, w))
        for channel, differentiate in (("autograd", _by_autograd), ("complex step", _by_complex_step)):
            if (other := differentiate(thing, below, variable, lam, w)) is not None:
                yield Row(name, channel, _gap(mine, other), allowed)
    yield from _structure(thing, lam, w, allowed)
    yield from _finite_sum(thing, lam, w, u, v, allowed)
    yield from _leading(thing, lam, w, u, v, rng, allowed)


def _size(thing: Objective | Map, lam: Array, w: Array, u: Array, v: Array) -> float:
    """Size of the terms that rounding acts on: function and derivatives, times point and directions."""
    point = 1 + np.linalg.norm(lam) + np.linalg.norm(w)
    direction = 1 + np.linalg.norm(u) + np.linalg.norm(v)
    if isinstance(thing, Map):
        parts = [thing.value(lam, w), thing.d_w(lam, w).dense(), thing.d_lam(lam, w).dense()]
        return float(point * direction * sum(np.linalg.norm(p) for p in parts))
    first = [thing.value(lam, w), thing.grad_lam(lam, w), thing.grad_w(lam, w)]
    second = [thing.hess_ww(lam, w).dense(), thing.cross(lam, w).dense()]
    return float(point * direction * sum(np.linalg.norm(p) for p in first + second))


def _by_autograd(thing: Any, below: Formula, variable: str, lam: Array, w: Array) -> Array | None:
    from autograd import grad

    def scalar(x: Array) -> Any:
        at = (x, w) if variable == "lam" else (lam, x)
        out = below(thing.to("autograd"), *at)
        return out.sum() if hasattr(out, "sum") else out

    try:
        return grad(scalar)(lam if variable == "lam" else w)
    # what autograd cannot trace gives no row; a quantity that no independent channel judges is refused above
    except (TypeError, ValueError, AttributeError, NotImplementedError, RefimplError):
        return None


def _by_complex_step(thing: Any, below: Formula, variable: str, lam: Array, w: Array) -> Array | None:
    """Im f(x + ih e_i)/h for every i, or None where f is not holomorphic or refuses complex numbers."""
    x = lam if variable == "lam" else w

    def scalar(x: Array, zero: complex) -> Any:
        return np.sum(below(thing, *((x, w + zero) if variable == "lam" else (lam + zero, x))))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", np.exceptions.ComplexWarning
            )  # a cast to floats is no complex step
            out = [scalar(x + 1j * STEP * e, 0j).imag / STEP for e in np.eye(x.size)]
    except (TypeError, ValueError, AttributeError, RefimplError, np.exceptions.ComplexWarning):
        return None
    found = np.asarray(out, dtype=float).reshape(x.shape)
    # not holomorphic (abs, conj): then Im f(x + ih)/h is not even near a central difference
    h, direction = np.cbrt(thing.backend.eps), np.cos(1 + np.arange(x.size))
    slope = (scalar(x + h * direction, 0.0) - scalar(x - h * direction, 0.0)) / (2 * h)
    size = abs(slope) + np.abs(found).sum() + abs(scalar(x, 0.0))
    return found if abs(slope - found @ direction) <= np.sqrt(h) * size else None


def _operators(thing: Any, lam: Array, w: Array) -> dict[str, Operator]:
    names = ("d_w", "d_lam") if isinstance(thing, Map) else ("hess_ww", "cross")
    return {name: getattr(thing, name)(lam, w) for name in names}


def _structure(thing: Any, lam: Array, w: Array, allowed: float) -> Iterator[Row]:
    for name, operator in _operators(thing, lam, w).items():
        m, n = operator.shape
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal(n), rng.standard_normal(m)
        dense = to_numpy(operator.dense())
        yield Row(name, "adjoint", abs(float(y @ (operator @ x) - x @ (operator.T @ y))), allowed * 10)
        yield Row(
            name, "dense", _gap(dense @ x, operator @ x) + _gap(y @ dense, operator.T @ y), allowed * 10
        )


def _with_lead(x: Array, own: int, lead: tuple[int, ...]) -> Array:
    """x, whose last ``own`` axes are its own, over all leading axes."""
    x = to_numpy(x)
    return np.broadcast_to(x, (*lead, *x.shape[x.ndim - own :]))


def _finite_sum(thing: Any, lam: Array, w: Array, u: Array, v: Array, allowed: float) -> Iterator[Row]:
    """Σ p_k f.at(s_k) = f in every quantity: at one point, and with the terms' axis in front of two λ."""
    space = thing.space
    quantities: dict[str, tuple[int, Formula]] = {
        "value": (int(isinstance(thing, Map)), lambda f, la, x: f.value(la, x))
    }
    quantities |= {name: (1, product) for name, (product, *_) in _formulas(thing, u, v).items()}
    for lead in ((), (2,)) if space.size > 1 else ():
        lams = np.broadcast_to(lam, (*lead, thing.n)) / (1 + np.arange(2.0)[:, None] if lead else 1)
        for name, (own, quantity) in quantities.items():
            try:
                mean = expect(space, _Term(thing, quantity, own, lead, lams, w))
                error = _gap(_with_lead(quantity(thing, lams, w), own, lead), mean)
            except ValueError:  # shapes that do not broadcast: the terms' axis is not where it belongs
                error = np.inf
            yield Row(name, f"finite sum {lead}", error, allowed * 10)


@dataclass(frozen=True, eq=False)
class _Term:
    """points -> the quantity of ``thing.at(points)``, one per point."""

    thing: Any
    quantity: Formula
    own: int
    lead: tuple[int, ...]
    lams: Array
    w: Array

    def __call__(self, points: Any) -> Array:
        first = points
        while isinstance(first, tuple):
            first = first[0]
        term = self.quantity(self.thing.at(self.thing.space.ahead(points, len(self.lead))), self.lams, self.w)
        return _with_lead(term, self.own, (len(first), *self.lead))


def _leading(
    thing: Any, lam: Array, w: Array, u: Array, v: Array, rng: np.random.Generator, allowed: float
) -> Iterator[Row]:
    """λ with leading axes (2, 1) and w with (3,), then both (2,): every entry must be the single point's."""
    for lam_lead, w_lead in (((2, 1), (3,)), ((2,), (2,))):
        lams = lam + rng.standard_normal((*lam_lead, thing.n)) / 8
        ws = w + rng.standard_normal((*w_lead, thing.d)) / 8
        lead = np.broadcast_shapes(lam_lead, w_lead)
        full_lam, full_w = np.broadcast_to(lams, (*lead, thing.n)), np.broadcast_to(ws, (*lead, thing.d))
        at = f"{lam_lead}+{w_lead}"
        for name, (product, *_) in _formulas(thing, u, v).items():
            batch = _with_lead(product(thing, lams, ws), 1, lead)
            single = np.stack([product(thing, full_lam[i], full_w[i]) for i in np.ndindex(*lead)])
            yield Row(name, f"leading axes {at}", _gap(batch.reshape(single.shape), single), 100 * allowed)
        batch = _with_lead(thing.value(lams, ws), int(isinstance(thing, Map)), lead)
        single = np.stack([thing.value(full_lam[i], full_w[i]) for i in np.ndindex(*lead)])
        yield Row("value", f"leading axes {at}", _gap(batch.reshape(single.shape), single), 100 * allowed)
        singles = [_operators(thing, full_lam[i], full_w[i]) for i in np.ndindex(*lead)]
        for name, operator in _operators(thing, lams, ws).items():
            dense = _with_lead(operator.dense(), 2, lead)
            single = np.stack([s[name].dense() for s in singles]).reshape(dense.shape)
            yield Row(name, f"dense over {at}", _gap(dense, single), 100 * allowed)
            m, n = operator.shape
            front = (4, *(1,) * len(lead))  # other families of vectors go in front of all leading axes
            x, y = rng.standard_normal((*front, n)), rng.standard_normal((*front, m))
            forth, back = _with_lead(operator @ x, 1, (4, *lead)), _with_lead(operator.T @ y, 1, (4, *lead))
            error = _gap(forth, (dense @ x[..., None])[..., 0]) + _gap(
                back, (y[..., None, :] @ dense)[..., 0, :]
            )
            yield Row(name, f"products over {at}", error, 100 * allowed)


def _gap(a: Any, b: Any) -> float:
    a, b = to_numpy(a), to_numpy(b)
    return float(np.abs(a - b).max()) if a.size else 0.0
