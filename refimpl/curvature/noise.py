"""Exact covariance of a stochastic gradient: which sample, which masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from refimpl.arrays.backend import Array
from refimpl.curvature import squared
from refimpl.curvature.arguments import last_only, net_of, one_point, point, rows_of
from refimpl.curvature.halves import Variables, moments
from refimpl.curvature.last_layer import LastLayer
from refimpl.errors import BadInput, TooLarge
from refimpl.masks import Dropout
from refimpl.networks import NetworkLoss
from refimpl.networks.last_layer import spread_of
from refimpl.networks.losses import OutputLoss, output_loss
from refimpl.objective import Objective
from refimpl.spaces import Product, covariance, expect, second_moment

Draw = Literal["one sample", "own masks", "shared mask"]
DRAWS = ("one sample", "own masks", "shared mask")


def noise(
    f: Objective,
    w: Any,
    *,
    draw: Draw,
    lam: Any = None,
    layers: Sequence[int] | None = None,
    max_masks: int = 2**22,
) -> Array:
    """The covariance of a random gradient of f at w, (P, P), exact (dropout-flatness, theorem 2 and section 3.4.2).

    f is a dropout expectation (``objective.with_dropout``) or, for "one sample", any finite sum. Three matrices:

    - "one sample": ∇ℓ_i under one mask, i uniform: over masks and data. Without dropout it is the noise of SGD.
    - "own masks": the full batch's gradient, every sample with a mask of its own: (1/N²) Σ_i Cov ∇ℓ_i.
    - "shared mask": the full batch's gradient under one mask for all samples.

    Squared loss, dropout of the last hidden layer: closed form. Another loss there: every mask, in the k (m + 1)
    dimensions that the mask can change ("shared mask": in P). Any other site or network: every mask and sample, in P
    dimensions. ``layers``: only these layers' parameters. Rounding is relative to the second moment, of which the
    covariance may be a small part. Raises ``TooLarge`` above ``max_masks``: see :func:`.estimated_noise`.
    """
    require_draw(f, draw)
    if isinstance(f, Dropout) and not last_only(f) and f.masks.size > max_masks:
        raise TooLarge(
            "too many masks to visit",
            measured=f"2^{math.log2(f.masks.size):.0f} masks",
            required=f"<= max_masks = {max_masks}",
            advice="estimate it with a stated confidence (estimated_noise), or raise max_masks",
        )
    lam, w = point(f, lam, w)
    one_point(f, lam, w)
    rows = None if layers is None else rows_of(net_of(f), layers)[1]
    structure = _LastLayerNoise.of(f, lam, w, max_masks)
    if structure is None or (draw == "shared mask" and structure.spread is None):
        return _visited(f, lam, w, draw, rows, max_masks)
    chosen = range(len(net_of(f).shapes)) if layers is None else layers
    return structure.covariance(draw, chosen)


def require_draw(f: Objective, draw: Draw) -> None:
    """A draw that f has; else ``BadInput``."""
    if draw not in DRAWS:
        raise BadInput("no such draw", measured=draw, required=", ".join(DRAWS), advice="see help(noise)")
    if draw != "one sample" and not isinstance(f, Dropout):
        raise BadInput(
            "the gradient of the full batch is not random without dropout",
            measured=f"{type(f).__name__}, draw {draw!r}",
            required="a dropout expectation: objective.with_dropout(…)",
            advice='draw="one sample" is the noise of stochastic gradients',
        )


@dataclass(frozen=True, eq=False)
class _LastLayerNoise:
    """Dropout of the last hidden layer alone: ``spread`` (m,) for the closed form, else every mask."""

    last: LastLayer
    loss: OutputLoss
    y: Array
    variables: Variables
    spread: Array | None
    max_masks: int

    @classmethod
    def of(cls, f: Objective, lam: Array, w: Array, max_masks: int) -> _LastLayerNoise | None:
        """None where the masks reach further than the last hidden layer's outputs."""
        if not isinstance(f, Dropout) or f.site != "activations" or any(p < 1 for p in f.lam.keep_prob):
            return None
        inner, masks, B = f.f, f.w, f.backend
        if not isinstance(inner, NetworkLoss) or not inner.net.hidden:
            return None
        if f.scale == "none":
            inner = inner.drop_units(B.asarray([B.scalar(p) for p in masks.of_coordinates()]))
        m = inner.net.hidden[-1]
        variables = Variables.of_last(masks, m)
        if variables is None:
            return None
        run, out = inner.outputs(lam, w)
        weights = inner.count * inner.shares(lam)
        spread = spread_of(inner.net, masks) if inner.loss == "squared" else None
        known = None if spread is None else B.asarray([B.scalar(x) for x in spread])
        last = LastLayer(run, out, weights, inner.count)
        return cls(last, output_loss(inner.loss), inner.y, variables, known, max_masks)

    def covariance(self, draw: Draw, layers: Sequence[int]) -> Array:
        if draw == "shared mask" and self.spread is not None:
            return squared.shared(self.last, self.spread, layers)
        N, B = self.last.count, self.last.run.net.backend
        total, mean = B.zeros(()), B.zeros(())
        for part in self.last.chunks(self._cells()):
            some = self.last.of(part)
            of_u, spreads = self._moments(some, part)
            forms = spreads + of_u[..., :, None] * of_u[..., None, :] if draw == "one sample" else spreads
            total = total + some.matrix(forms, layers)
            mean = mean + some.pull(of_u, layers)
        if draw == "own masks":
            return total / N**2
        mean = mean / N
        return total / N - mean[:, None] * mean

    def _cells(self) -> int:
        """Numbers that one sample needs at a time."""
        k, m = self.last.sizes
        masks = 0 if self.spread is not None else min(self.variables.space.size, self.max_masks)
        return (k * (m + 1)) ** 2 + k * k * masks

    def _moments(self, some: LastLayer, part: slice) -> tuple[Array, Array]:
        """E u and Cov u of these samples."""
        if self.spread is not None:
            return squared.mean(some, self.spread), squared.covariance(some, self.spread)
        mean, second = moments(some, self.loss, self.y[:, part], self.variables, self.max_masks)
        return mean, second - mean[..., :, None] * mean[..., None, :]


def _visited(
    f: Objective, lam: Array, w: Array, draw: Draw, rows: np.ndarray | None, max_points: int
) -> Array:
    """Every mask (and sample), in the P dimensions of the parameters."""
    B = f.backend

    def gradient(of: Callable[[Any], Objective]) -> Callable[[Any], Array]:
        def at(points: Any) -> Array:
            found = of(points).grad_w(lam, w)
            return found if rows is None else found[..., rows]

        return at

    if not isinstance(f, Dropout):
        return covariance(f.space, gradient(f.at), B, max_points=max_points)
    if draw == "shared mask":

        def shared(masks: Any) -> Array:
            found = gradient(f.masked)(masks)  # without an axis of masks where none is random
            return found if found.ndim > 1 else B.broadcast(found, (len(masks[0]), found.shape[0]))

        return covariance(f.masks, shared, B, max_points=max_points)
    if draw == "one sample":
        return covariance(f.space, gradient(f.at), B, max_points=max_points)
    every = np.arange(f.f.space.size)
    each = gradient(lambda masks: f.at((tuple(m[:, None] for m in masks), every + 0 * masks[1][:, :1])))
    means = expect(f.masks, each, B, max_points=max_points)
    deviation = gradient(f.at)
    pairs = Product((f.masks, f.f.space))
    own = second_moment(
        pairs, lambda pair: deviation(pair) - B.take(means, B.indices(pair[1])), B, max_points=max_points
    )
    return own / len(every)
