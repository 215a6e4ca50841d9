"""Instances shared by the claims of this document: a network, samples, keep probabilities and a point θ, in
rationals or floats, and *planted stationary points*.

For a fixed θ the errors ε that make ∇E_ηR vanish solve a linear system, since with f^j = w_j a_j

    n ∇E_ηR = Σ_i ε_i ∇f_i + Σ_i Σ_j s_j f^j_i ∇f^j_i ,

and y = f − ε makes them the errors. The smallest solution is taken, plus a chosen element of the null space. Over the
rationals it is exact; in floats two refinements follow and :data:`STATIONARY` measures what is left. Where the system
has no solution y = f − (its least squares solution), which :data:`STATIONARY` rejects.
"""

from __future__ import annotations

import itertools as it
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import flint
import numpy as np
from hypothesis import strategies as st

from refimpl import curvature
from refimpl.arrays import Backend, backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.masks import Dropout
from refimpl.networks import MLP, NetworkLoss
from refimpl.networks.forward import Forward, kink_distance
from refimpl.objective import Objective
from verification.model import Hypothesis
from verification.printed import flatness as printed

RATIONAL = backend("rational")
PARTS = 8  # keep probabilities are counted in eighths: exact in floats too
MARGIN = (
    2.0**-10
)  # of a pre-activation from its kink: 10^12 times its rounding where weights and inputs are below 10
STILL = 1e-12  # a gradient this small beside the sum of its terms' sizes counts as zero in floats


@dataclass(frozen=True, eq=False)
class Point:
    """A network with one output at θ: samples X (n, d) and y (n,), a keep probability for every last hidden unit."""

    net: MLP
    theta: Array
    X: Array
    y: Array
    keep: tuple[Any, ...]
    params: Mapping[str, Any]

    @property
    def backend(self) -> Backend:
        return self.net.backend

    @property
    def n(self) -> int:
        return len(self.X)

    @property
    def m(self) -> int:
        """Units of the last hidden layer."""
        return self.net.hidden[-1]

    @cached_property
    def loss(self) -> NetworkLoss:
        """R, the squared loss without dropout."""
        return NetworkLoss(self.net, self.X, self.y[None], "squared", 0, 0, backend=self.backend)

    @cached_property
    def dropout(self) -> Dropout:
        """E_ηR, by the library."""
        masks = self.net.last_masks(list(self.keep))
        made = self.loss.with_dropout(masks, site="activations", scale="inverse")
        assert isinstance(made, Dropout)
        return made

    @cached_property
    def run(self) -> Forward:
        return self.net.forward(self.theta, self.backend.mT(self.X))

    @cached_property
    def terms(self) -> printed.Terms:
        """ε, f^j, ∇f and ∇f^j."""
        return printed.terms(self.loss, self.theta)

    @property
    def errors(self) -> Array:
        """ε_i, (n,)."""
        return self.terms.errors

    @cached_property
    def spread(self) -> Array:
        """s_j, (m,)."""
        return self.terms.spread(self.keep)

    @property
    def w(self) -> Array:
        """The last layer's weights, (m,)."""
        return self.net.layers(self.theta)[-1][0, :-1]

    @cached_property
    def pulls(self) -> Array:
        """r_ij = ε_i + s_j f^j_i, (m, n): with them ∇E_ηR = (1/n) Σ r_ij ∇f^j_i, but for the output bias."""
        return self.errors + self.spread[:, None] * self.terms.parts

    @cached_property
    def slope(self) -> Array:
        """∇E_ηR, the literal sum, (P,)."""
        t = self.terms
        return (self.errors @ t.whole + _dropped(t, self.spread)) / self.n

    @cached_property
    def stillness(self) -> float:
        """‖∇E_ηR‖ over the sum of the norms of its terms; 0 where there are none."""
        t, s = self.terms, to_numpy(self.spread)
        plain = np.abs(to_numpy(self.errors)) @ np.linalg.norm(to_numpy(t.whole), axis=-1)
        dropped = s @ (np.abs(to_numpy(t.parts)) * np.linalg.norm(to_numpy(t.of_parts), axis=-1)).sum(axis=1)
        size = float(plain + dropped) / self.n
        return float(np.linalg.norm(to_numpy(self.slope))) / size if size else 0.0

    @cached_property
    def margin(self) -> float:
        """Distance of the nearest pre-activation from its kink."""
        return float(kink_distance(self.run))

    @cached_property
    def printed(self) -> Array:
        """H as theorem 1 prints it."""
        return printed.hessian(self.loss, self.theta, self.keep)

    @cached_property
    def hessian(self) -> Array:
        """∇²E_ηR, by the library's closed form."""
        return curvature.hessian(self.dropout, self.theta)

    def each_mask(self) -> tuple[Array, Objective]:
        """Probabilities (K,) of the 2^m masks, each unit's two values in a loop, and the loss under all of them."""
        B, before = self.backend, [1] * (self.net.units - self.m)
        bits = list(it.product((1, 0), repeat=self.m))
        chances = [_product(p if b else 1 - p for p, b in zip(self.keep, row, strict=True)) for row in bits]
        rows = [[*before, *(b / p for p, b in zip(self.keep, row, strict=True))] for row in bits]
        numbers = B.asarray([[B.scalar(x) for x in row] for row in rows])
        return B.asarray([B.scalar(x) for x in chances]), self.loss.drop_units(numbers)

    @cached_property
    def enumerated(self) -> Array:
        """∇²E_ηR = Σ_η P(η) ∇²R_η: every mask, Hessians from their products with unit vectors."""
        B, (chances, masked) = self.backend, self.each_mask()
        columns = masked.hess_ww(self.lam, self.theta) @ B.eye(self.net.size)[:, None, :]  # (P, K, P)
        return B.sum(chances[:, None] * columns, 1)

    def value(self, theta: Array) -> Array:
        """E_ηR at θ (..., P): every mask, from the network's outputs alone."""
        chances, masked = self.each_mask()
        return self.backend.sum(chances * masked.value(self.lam, theta[..., None, :]), -1)

    @property
    def lam(self) -> Array:
        return self.backend.zeros((0,))

    def with_errors(self, errors: Array) -> Point:
        """The same with y = f − ε."""
        return replace(self, y=self.run.output[0] - errors)


def _product(numbers: Any) -> Any:
    found = 1
    for x in numbers:
        found = found * x
    return found


def _dropped(t: printed.Terms, spread: Array) -> Array:
    """Σ_i Σ_j s_j f^j_i ∇f^j_i, (P,)."""
    B = t.backend
    weights = spread[:, None] * t.parts
    return B.sum(B.sum(weights[..., None] * t.of_parts, 0), 0)


# -- planted stationary points ---------------------------------------------------------------------------------


def planted(at: Point, shift: Sequence[Any] = ()) -> Point:
    """y such that θ is stationary for E_ηR; ``shift`` multiplies the null vectors of Jᵀ, J = (∇f_i) (n, P)."""
    J, right = at.terms.whole, -_dropped(at.terms, at.spread)
    if at.backend.exact:
        return at.with_errors(smallest(J, right) + _along(null_vectors(J.T), shift, at.backend))
    found = np.linalg.lstsq(J.T, right, rcond=None)[0]
    for _ in range(2):  # refinement: the residual of the first solve carries the condition of J once
        found = found + np.linalg.lstsq(J.T, right - J.T @ found, rcond=None)[0]
    _, sizes, V = np.linalg.svd(J.T)
    rank = int((sizes > max(J.shape) * at.backend.eps * sizes[0]).sum())
    return at.with_errors(found + _along(V[rank:], shift, at.backend))


def _along(vectors: Array, shift: Sequence[Any], B: Backend) -> Any:
    total = B.zeros((vectors.shape[-1],))
    for vector, share in zip(vectors, shift, strict=False):
        total = total + B.scalar(Fraction(share)) * vector
    return total


def reduced(A: Array) -> tuple[list[list[Any]], list[int]]:
    """The reduced row echelon form of a rational matrix, without its zero rows, and its pivots' columns."""
    form, rank = flint.fmpq_mat(A.tolist()).rref()
    rows = [list(row) for row in form.tolist()[:rank]]
    return rows, [next(j for j, x in enumerate(row) if x != 0) for row in rows]


def rank(A: Array) -> int:
    """Of a rational matrix, exactly."""
    return len(reduced(A)[1])


def null_vectors(A: Array) -> Array:
    """A basis of {x : A x = 0}, one vector for each column without a pivot, (k, columns), whole numbers."""
    rows, pivots = reduced(A)
    width, found = A.shape[-1], []
    for free in sorted(set(range(width)) - set(pivots)):
        x = RATIONAL.zeros((width,))
        x[free] = RATIONAL.scalar(1)
        for row, pivot in zip(rows, pivots, strict=True):
            x[pivot] = -row[free]
        found.append(x * RATIONAL.scalar(int(np.lcm.reduce([int(e.q) for e in x]))))
    return np.array(found, dtype=object).reshape(len(found), width)


def smallest(J: Array, right: Array) -> Array:
    """The least ε = J z with JᵀJ z = ``right``, exactly; where there is none, of the equations that have a pivot."""
    gram = J.T @ J
    rows, pivots = reduced(np.concatenate([gram, right[:, None]], axis=1))
    z = RATIONAL.zeros((len(gram),))
    for row, pivot in zip(rows, pivots, strict=True):
        if pivot < len(gram):
            z[pivot] = row[-1]
    return J @ z


# -- hypotheses ----------------------------------------------------------------------------------------------------


def _still(at: Point) -> tuple[bool, Any]:
    if at.backend.exact:
        return all(x == 0 for x in at.slope), at.stillness
    return at.stillness <= STILL, at.stillness


STATIONARY = Hypothesis(
    "stationary", r"\nabla E_\eta R = 0 \text{ (floats: } 10^{-12} \text{ of its terms)}", _still
)
AWAY = Hypothesis(
    "off the kinks",
    r"\min_{i,k} |z_{ik}| \ge 2^{-10}, \text{ the distance of the nearest kink}",
    lambda at: (at.margin >= MARGIN, at.margin),
)


# -- building ---------------------------------------------------------------------------------------------------


def point(net: MLP, theta: Any, X: Any, y: Any, keep: Sequence[Any], params: Mapping[str, Any]) -> Point:
    """A point from plain numbers (ints, Fractions, floats): keep one for each last hidden unit."""
    B = net.backend

    def numbers(x: Any) -> Array:
        given = np.asarray(x, dtype=object)
        flat = [B.scalar(e) for e in given.ravel()]
        return B.reshape(B.asarray(flat), given.shape)

    kept = tuple(Fraction(k) if B.exact else float(k) for k in keep)
    return Point(net, numbers(theta), numbers(X), numbers(y), kept, params)


def fractions(values: Any) -> Any:
    """JSON numbers and texts like "7/3", in any nesting of lists, as Fractions."""
    if isinstance(values, list | tuple):
        return [fractions(x) for x in values]
    return Fraction(values)


def build(params: Mapping[str, Any], arithmetic: str = "rational") -> Point:
    """From ``widths``, ``activation``, ``keep`` (eighths, repeated to fit) and either

    - ``theta``, ``X`` and ``y``: numbers or texts like "7/3"; or
    - ``n`` and ``seed``: small random fractions, none zero; ``zero``: so many of w_1, w_2, … are 0 after all.

    y is replaced by a planted one where ``planted``; ``shift`` (eighths) are its steps along the null vectors.
    """
    widths, given = tuple(params["widths"]), params["keep"]
    net = MLP(widths, params["activation"]).to(arithmetic)
    keep = [Fraction(k, PARTS) for k in it.islice(it.cycle(given), widths[-2])]
    if "theta" in params:
        theta, X, y = (fractions(params[name]) for name in ("theta", "X", "y"))
    else:
        rng, n = np.random.default_rng(params["seed"]), params["n"]
        theta, X, y = _weights(net, rng), _draw(rng, 6, 2, n, widths[0]), _draw(rng, 6, 2, n)
        last = net.size - widths[-2] - 1
        theta[last : last + params.get("zero", 0)] = [Fraction(0)] * params.get("zero", 0)
    at = point(net, theta, X, y, keep, params)
    if not params.get("planted"):
        return at
    return planted(at, [Fraction(k, 8) for k in params.get("shift", ())])


def _weights(net: MLP, rng: np.random.Generator) -> list[Fraction]:
    """Halves, and biases of layer l in parts of its own prime: no unit of a piecewise linear network is at its kink."""
    found = []
    for prime, (rows, columns) in zip((3, 5, 7, 11, 13), net.shapes, strict=False):
        for _ in range(rows):
            found += [*_draw(rng, 4, 2, columns - 1), *_draw(rng, prime - 1, prime, 1)]
    return found


def _draw(rng: np.random.Generator, largest: int, parts: int, *shape: int) -> list[Any]:
    """k/parts, 1 <= |k| <= largest."""
    drawn = rng.integers(1, largest + 1, shape) * rng.choice([-1, 1], shape)
    return fractions([[Fraction(k, parts) for k in row] for row in np.atleast_2d(drawn).tolist()])[
        slice(None) if len(shape) > 1 else 0
    ]


def build_float(params: Mapping[str, Any]) -> Point:
    """The same in floats."""
    return build(params, "numpy")


KEEP = st.lists(st.integers(1, PARTS), min_size=1, max_size=2)


def points(widths: Any, activations: Sequence[str], *, n: tuple[int, int], **more: Any) -> Any:
    """Strategy over random points of ``build``; ``widths`` a strategy."""
    boxes = {
        "widths": widths,
        "activation": st.sampled_from(list(activations)),
        "n": st.integers(*n),
        "seed": st.integers(0, 999),
        "keep": KEEP,
    }
    return st.fixed_dictionaries({**boxes, **more})


def networks(hidden: tuple[int, int], width: int = 2, inputs: int = 2) -> Any:
    """Strategy over widths: inputs, that many hidden layers of up to ``width`` units, one output."""
    units = st.lists(st.integers(1, width), min_size=hidden[0], max_size=hidden[1])
    return st.tuples(st.integers(1, inputs), units).map(lambda drawn: [drawn[0], *drawn[1], 1])


def at(widths: Sequence[int], activation: str = "relu", **more: Any) -> dict[str, Any]:
    """Parameters of one point, every last hidden unit kept with probability ½ unless said otherwise."""
    return {"widths": list(widths), "activation": activation, "keep": [4], **more}
