"""Hand-written derivatives against channels that share no code with them.

Channels: ``autograd`` (reverse mode through the same source one order lower), ``complex step``
(Im f(x + ih)/h with h = 1e-200: no cancellation, exact to rounding where f is holomorphic), and for structure
``adjoint`` (C.T is the transpose of C), ``dense`` (assembled matrix against products), ``leading axes``
(batches against single points, with different and with equal lengths), ``finite sum`` (Σ p_k f.at(s_k) = f).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import RefimplError, WrongDerivative
from refimpl.objective import Map, Objective
from refimpl.spaces import expect

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
    A channel that does not apply (not holomorphic, not differentiable by autograd) gives no row; the two first
    channels must not both be missing.

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
    if not {row.channel for row in rows} & {"autograd", "complex step"}:
        raise WrongDerivative(
            f"{type(thing).__name__} could not be judged",
            measured="neither autograd nor the complex step applies",
            required="one independent channel",
            advice="write value() in the backend's vocabulary, without int() or float() conversions",
        )
    return rows


Formula = Callable[[Any, Array, Array], Array]


def _formulas(thing: Objective | Map, u: Array, v: Array) -> dict[str, tuple[Formula, Formula, str, Array]]:
    """quantity: (its product with a vector, what it differentiates, in which variable, the vector's place).

    Every derivative is tested through products, Σ over its output with a fixed vector, so that one scalar
    function per quantity is differentiated: d/dx (g(x)·y) must equal the product of the derivative with y.
    """
    if isinstance(thing, Map):
        return {
            "d_w": (lambda f, la, x: f.d_w(la, x).T @ v, lambda f, la, x: f.value(la, x) * v, "w", v),
            "d_lam": (lambda f, la, x: f.d_lam(la, x).T @ v, lambda f, la, x: f.value(la, x) * v, "lam", v),
        }
    return {
        "grad_w": (lambda f, la, x: f.grad_w(la, x), lambda f, la, x: f.value(la, x), "w", v),
        "grad_lam": (lambda f, la, x: f.grad_lam(la, x), lambda f, la, x: f.value(la, x), "lam", u),
        "hess_ww": (lambda f, la, x: f.hess_ww(la, x) @ v, lambda f, la, x: f.grad_w(la, x) * v, "w", v),
        "cross": (lambda f, la, x: f.cross(la, x) @ v, lambda f, la, x: f.grad_w(la, x) * v, "lam", v),
        "cross.T": (lambda f, la, x: f.cross(la, x).T @ u, lambda f, la, x: f.grad_lam(la, x) * u, "w", u),
    }


def _rows(thing: Objective | Map, lam: Array, w: Array, rng: np.random.Generator) -> Iterator[Row]:
    u, v = rng.standard_normal(thing.n), rng.standard_normal(thing.d)
    allowed = 10 * (thing.n + thing.d) * thing.backend.eps * _size(thing, lam, w, u, v)
    for name, (product, below, variable, _) in _formulas(thing, u, v).items():
        mine = to_numpy(product(thing, lam, w))
        for channel, differentiate in (("autograd", _by_autograd), ("complex step", _by_complex_step)):
            if (other := differentiate(thing, below, variable, lam, w)) is not None:
                yield Row(name, channel, _gap(mine, other), allowed)
    yield from _structure(thing, lam, w, u, v, allowed)
    yield from _leading(thing, lam, w, u, v, rng, allowed)


def _size(thing: Objective | Map, lam: Array, w: Array, u: Array, v: Array) -> float:
    """Size of the terms that rounding acts on: the function and its derivatives times the point and the directions."""
    point = 1 + np.linalg.norm(lam) + np.linalg.norm(w)
    direction = 1 + np.linalg.norm(u) + np.linalg.norm(v)
    if isinstance(thing, Map):
        parts = [thing.value(lam, w), thing.d_w(lam, w).dense(), thing.d_lam(lam, w).dense()]
        return float(point * direction * sum(np.linalg.norm(p) for p in parts))
    first = [thing.value(lam, w), thing.grad_lam(lam, w), thing.grad_w(lam, w)]
    second = [thing.hess_ww(lam, w).dense(), thing.cross(lam, w).dense()]
    return float(point * direction * (1 + sum(np.linalg.norm(p) for p in first + second)))


def _by_autograd(thing: Any, below: Formula, variable: str, lam: Array, w: Array) -> Array | None:
    from autograd import grad

    def scalar(x: Array) -> Any:
        at = (x, w) if variable == "lam" else (lam, x)
        out = below(thing.to("autograd"), *at)
        return out.sum() if hasattr(out, "sum") else out

    try:
        return grad(scalar)(lam if variable == "lam" else w)
    except (TypeError, ValueError, AttributeError, NotImplementedError, RefimplError):
        return None


def _by_complex_step(thing: Any, below: Formula, variable: str, lam: Array, w: Array) -> Array | None:
    """Row i of a batch is stepped in coordinate i, so one call gives the whole gradient."""
    x = lam if variable == "lam" else w
    steps = x + 1j * STEP * np.eye(x.size)
    out = []
    try:
        for step in steps:
            at = (step, w + 0j) if variable == "lam" else (lam + 0j, step)
            out.append(np.sum(below(thing, *at)).imag / STEP)
    except (TypeError, ValueError, AttributeError, RefimplError):
        return None
    return np.asarray(out, dtype=float).reshape(x.shape)


def _structure(thing: Any, lam: Array, w: Array, u: Array, v: Array, allowed: float) -> Iterator[Row]:
    operators = (
        {"d_w": thing.d_w(lam, w), "d_lam": thing.d_lam(lam, w)}
        if isinstance(thing, Map)
        else {"hess_ww": thing.hess_ww(lam, w), "cross": thing.cross(lam, w)}
    )
    for name, operator in operators.items():
        m, n = operator.shape
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal(n), rng.standard_normal(m)
        dense = to_numpy(operator.dense())
        yield Row(name, "adjoint", abs(float(y @ (operator @ x) - x @ (operator.T @ y))), allowed * 10)
        yield Row(
            name, "dense", _gap(dense @ x, operator @ x) + _gap(y @ dense, operator.T @ y), allowed * 10
        )
    space = thing.space
    if space.size > 1 and not isinstance(thing, Map):
        for name in ("value", "grad_w", "grad_lam"):
            whole = getattr(thing, name)(lam, w)

            def part(points: Any, name: str = name, shape: tuple[int, ...] = np.shape(whole)) -> Array:
                term = getattr(thing.at(points), name)(lam, w)
                return np.broadcast_to(term, (len(points), *shape))

            yield Row(name, "finite sum", _gap(whole, expect(space, part)), allowed * 10)


def _leading(
    thing: Any, lam: Array, w: Array, u: Array, v: Array, rng: np.random.Generator, allowed: float
) -> Iterator[Row]:
    """λ with leading axes (2, 1) and w with (3,), then both (2,): every entry must be the single point's."""
    for lam_lead, w_lead in (((2, 1), (3,)), ((2,), (2,))):
        lams = lam + rng.standard_normal((*lam_lead, thing.n)) / 8
        ws = w + rng.standard_normal((*w_lead, thing.d)) / 8
        lead = np.broadcast_shapes(lam_lead, w_lead)
        full_lam, full_w = np.broadcast_to(lams, (*lead, thing.n)), np.broadcast_to(ws, (*lead, thing.d))
        for name, (product, *_) in _formulas(thing, u, v).items():
            batch = product(thing, lams, ws)
            batch = np.broadcast_to(batch, (*lead, batch.shape[-1]))
            single = np.stack([product(thing, full_lam[i], full_w[i]) for i in np.ndindex(*lead)])
            yield Row(
                name,
                f"leading axes {lam_lead}+{w_lead}",
                _gap(batch.reshape(single.shape), single),
                100 * allowed,
            )
        for name in ("d_w", "d_lam") if isinstance(thing, Map) else ("hess_ww", "cross"):
            dense = getattr(thing, name)(lams, ws).dense()
            dense = np.broadcast_to(dense, (*lead, *dense.shape[-2:]))
            single = np.stack(
                [getattr(thing, name)(full_lam[i], full_w[i]).dense() for i in np.ndindex(*lead)]
            )
            yield Row(
                name,
                f"dense over {lam_lead}+{w_lead}",
                _gap(dense.reshape(single.shape), single),
                100 * allowed,
            )


def _gap(a: Any, b: Any) -> float:
    a, b = to_numpy(a), to_numpy(b)
    return float(np.abs(a - b).max()) if a.size else 0.0
