"""What theorem 1 leaves out, Σ_i Σ_j r_ij ∇²f^j_i with r_ij = ε_i + s_j f^j_i, and channels that judge the Hessian.

From E_ηR = (1/n) Σ_i [½ε_i² + ½ Σ_j s_j (f^j_i)²] and ∇²f = Σ_j ∇²f^j (the output bias enters linearly):

    ∇²E_ηR = (1/n) Σ_i [∇f∇fᵀ + Σ_j s_j ∇f^j∇f^jᵀ] + (1/n) Σ_i Σ_j (ε_i + s_j f^j_i) ∇²f^j_i .
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refimpl import curvature
from refimpl.arrays import factor, to_numpy
from refimpl.arrays.backend import Array
from refimpl.networks.forward import Forward
from verification.claims.dropout_flatness._planted import RATIONAL, Point, point
from verification.instances import EPS

# moves pre-activations of networks this small by less than MARGIN: no unit switches at a point that is off its kinks
STEP = RATIONAL.scalar(1) / 2**40


def one_unit(at: Point) -> Array:
    """For every last hidden unit the mask that keeps it and drops the others of its layer, (m, units)."""
    B = at.backend
    return B.concat([B.zeros((at.m, at.net.units - at.m)) + 1, B.eye(at.m)])


def alone(at: Point) -> Forward:
    """f^j + c for every j, (m, 1, n)."""
    return at.net.forward(at.theta, at.backend.mT(at.X), one_unit(at)[..., None])


def bends(at: Point, weights: Array | None = None) -> Array:
    """(1/n) Σ_i Σ_j weights_ji ∇²f^j_i, (P, P), by products with unit vectors; weights (m, n) are r_ij."""
    B, given = at.backend, at.pulls if weights is None else weights
    product = alone(at).hessian(given[:, None, :] / at.n, lambda u: 0 * u)
    return B.sum(product(B.eye(at.net.size)[:, None, :]), 1)


def along(at: Point, direction: Array) -> Any:
    """d²/dt² E_ηR(θ + t v) at t = 0, exactly, from its values: a polynomial of degree 2L while no unit switches."""
    degree = 2 * len(at.net.shapes)
    whole = RATIONAL.asarray(np.arange(degree + 1) - degree // 2)
    values = at.value(at.theta + (STEP * whole)[:, None] * direction)
    powers = np.stack([whole**k for k in range(degree + 1)], axis=-1)
    return 2 * factor(RATIONAL, powers).solve(values)[2] / STEP**2


def directions(at: Point, layer: int | None = None) -> Array:
    """Two directions of small whole numbers, (2, P); of one layer's parameters when given."""
    size = at.net.size
    drawn = np.random.default_rng(size).integers(-2, 3, (2, size))
    if layer is not None:
        span = at.net.spans[layer]
        drawn[:, : span.start] = drawn[:, span.stop :] = 0
    return at.backend.asarray(drawn.astype(float))


def rounding(at: Point) -> float:
    """10·P·eps times the Hessian of the network of absolute values, over the smallest p².

    That network (linear, |θ|, |x|, errors f + |y|) dominates every sum in f^j, its gradients and second derivatives;
    a mask multiplies f^j by at most 1/p.
    """
    theta, X = (np.abs(to_numpy(x)) for x in (at.theta, at.X))
    net = type(at.net)(at.net.widths, "linear")
    whole = point(net, theta, X, -np.abs(to_numpy(at.y)), [1.0] * at.m, {})
    size = np.linalg.norm(curvature.hessian(whole.loss, whole.theta))
    return 10 * at.net.size * EPS * float(size) / min(float(p) for p in at.keep) ** 2


def scalings(at: Point) -> Array:
    """Tangents of the rescalings of every hidden unit, (units, P): its row times 1 + t, its outgoing weights less t."""
    net, found = at.net, []
    layers = net.layers(at.theta)
    for layer, width in enumerate(net.hidden):
        for k in range(width):
            moved = [0 * W for W in layers]
            moved[layer][k] = layers[layer][k]
            moved[layer + 1][:, k] = -layers[layer + 1][:, k]
            found.append(net.pack(moved))
    return np.stack(found)


def shifts(at: Point) -> Array:
    """Tangents of bias shifts, (k, P): a unit below the last hidden layer that is active on every sample has its bias
    moved by t, the biases it feeds by −t times their weights on it."""
    net, found = at.net, [at.backend.zeros((0, at.net.size))]
    layers = net.layers(at.theta)
    for layer, z in enumerate(at.run.before[:-1]):
        for k in np.flatnonzero((z > 0).all(axis=-1)):
            moved = [0 * W for W in layers]
            moved[layer][k, -1] = moved[layer][k, -1] + 1
            moved[layer + 1][:, -1] = -layers[layer + 1][:, k]
            found.append(net.pack(moved)[None])
    return np.concatenate(found)


def inertia(matrix: Array) -> tuple[int, int, int]:
    """Numbers of positive, negative and zero eigenvalues of a symmetric rational matrix, exactly (Sylvester).

    Symmetric elimination; where the diagonal is zero and an entry q is not, its plane has one of either sign.
    """
    m = matrix.copy()
    positive = negative = 0
    while len(m):
        found = _pivot(m)
        if found is None:
            break
        i, j = found
        if i == j:
            positive, negative = positive + int(m[i, i] > 0), negative + int(m[i, i] < 0)
            rest = [k for k in range(len(m)) if k != i]
            m = m[np.ix_(rest, rest)] - np.outer(m[rest, i], m[i, rest]) / m[i, i]
        else:
            positive, negative = positive + 1, negative + 1
            rest = [k for k in range(len(m)) if k not in (i, j)]
            cross = np.outer(m[rest, i], m[j, rest]) / m[i, j]
            m = m[np.ix_(rest, rest)] - cross - cross.T
    return positive, negative, len(matrix) - positive - negative


def _pivot(m: Array) -> tuple[int, int] | None:
    """An entry that is not zero, on the diagonal where there is one."""
    for i in range(len(m)):
        if m[i, i] != 0:
            return i, i
    return next(((i, j) for i in range(len(m)) for j in range(i) if m[i, j] != 0), None)
