"""Where flatness and noise are measured: a loss at frozen parameters, some of which the directions move.

For a multi-layer perceptron the loss is cut: with everything below a layer frozen, it is the loss of the smaller
network whose data are what that layer sees; directions of the layer and masks of units above it mean the same in both,
and a gradient costs a fraction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl import networks
from refimpl.curvature import hessian
from refimpl.curvature.directions import EigenDirections, embedded
from refimpl.curvature.flatness import interval_flatness
from refimpl.masks import Dropout
from refimpl.networks import MLP, NetworkLoss
from refimpl.objective import Objective
from refimpl.training import Draws
from refimpl.training.draws import Draw

NO_LAM = np.zeros(0)
AT_ONCE = 4  # gradients or points in one call: more of them leave the cache and are slower each


@dataclass(frozen=True, eq=False)
class Place:
    """A loss, the same under dropout, the point w (d,), and the places ``rows`` in it of the measured parameters.

    layer: which layer of an MLP they are, whose Hessian then is assembled.
    """

    plain: Any
    dropped: Dropout
    w: np.ndarray
    rows: np.ndarray
    layer: int | None = None

    def gradients(self, draw: Draw, samples: int, rng: np.random.Generator) -> np.ndarray:
        """Random gradient data (samples, measured): full batch under drawn masks; "one sample": without dropout."""
        source: Objective = self.plain if draw == "one sample" else self.dropped
        draws, found = Draws(source, draw), []
        for start in range(0, samples, AT_ONCE):
            drawn = draws.sample(rng, (min(AT_ONCE, samples - start),))
            found.append(drawn.grad_w(NO_LAM, self.w)[..., self.rows])
        return np.concatenate(found)

    def hessian(self) -> np.ndarray:
        """Of the loss without dropout, over the measured parameters: (measured, measured)."""
        if self.layer is not None:
            return np.asarray(hessian(self.plain, self.w, layers=(self.layer,)))
        product, columns = self.plain.hess_ww(NO_LAM, self.w), np.eye(self.plain.d)[self.rows]
        rows = np.array([(product @ v)[self.rows] for v in columns])
        return np.asarray((rows + rows.T) / 2)

    def widths(
        self, directions: EigenDirections, factor: float = 2.0, masks: int = 0, seed: int = 0
    ) -> np.ndarray:
        """Interval flatness along each, of the loss without dropout or of its mean over so many masks a sample."""
        f = self.under(masks, seed) if masks else self.plain
        V = embedded(directions.vectors, self.rows, f.d)
        return interval_flatness(f, self.w, V, factor=factor, start=2.0**-6, chunk=AT_ONCE).width

    def under(self, masks: int, seed: int) -> Any:
        """The plain loss's mean over ``masks`` masks of every sample, drawn once: a sample stands in it so often."""
        f, count = self.plain, self.plain.count
        points = self.dropped.w.sample(np.random.default_rng(seed), (masks * count,))
        copies = f.batch(np.tile(np.arange(count), masks))
        return copies.drop_each(self.dropped.w.mask(points, f.backend, self.dropped.scale))


def between_layers(f: NetworkLoss, w: np.ndarray, layer: int, keep_prob: float) -> Place:
    """The place of an MLP's layer, weights and biases, with dropout of the last hidden layer's units."""
    net = f.net
    inputs = np.ascontiguousarray(net.forward(w, f.X.T).inputs[layer].T)
    upper = MLP(net.widths[layer:], net.activations[layer:])
    loss = networks.loss(upper, inputs, np.argmax(f.y, axis=0))
    dropped = with_dropout(loss, upper.last_masks(keep_prob))
    return Place(loss, dropped, w[net.spans[layer].start :], np.arange(upper.spans[0].stop), 0)


def with_dropout(f: Any, masks: Any) -> Dropout:
    """Masks m/p of hidden units, one for each unit: 1 + η of the document."""
    dropped: Dropout = f.with_dropout(masks, site="activations", scale="inverse")
    return dropped
