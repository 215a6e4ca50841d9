"""The exact Hessian of a loss, of its dropout expectation too, over all parameters or some layers'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from refimpl.arrays.backend import Array
from refimpl.curvature.arguments import net_of, point, rows_of
from refimpl.masks import Dropout
from refimpl.networks import NetworkLoss
from refimpl.networks.last_layer import LastLayerDropout
from refimpl.objective import Objective


def hessian(f: Objective, w: Any, *, lam: Any = None, layers: Sequence[int] | None = None) -> Array:
    """∇²_ww f(λ, w) at points (..., P), (..., P, P), exact; of a dropout expectation ∇²E f = E ∇²f, away from kinks
    (dropout-flatness, theorem 1, with the cross-layer terms that its print leaves out).

    Networks: assembled by structure (:mod:`refimpl.networks.assembled`), and so is the expected squared loss under
    dropout of the last hidden layer; any other dropout visits every mask. ``layers``: only these layers' parameters, in
    ascending order; ``net.block(H, k, l)`` is the view of two layers' block of a whole matrix. Raises
    ``HypothesisViolated`` at a kink, ``TooLarge``.

    >>> import numpy as np, refimpl as ri
    >>> net = ri.networks.MLP((1, 1, 1), "linear")
    >>> f = ri.networks.loss(net, [[1.0]], [2.0], loss="squared")
    >>> D = f.with_dropout(net.last_masks(0.5), site="activations", scale="inverse")
    >>> hessian(D, np.array([1.0, 0.0, 1.0, 0.0])).tolist()
    [[2.0, 2.0, 2.0, 1.0], [2.0, 2.0, 2.0, 1.0], [2.0, 2.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    lam, w = point(f, lam, w)
    exact = f.closed if isinstance(f, Dropout) and f.closed is not None else f
    if isinstance(exact, NetworkLoss | LastLayerDropout):
        every = range(len(net_of(f).shapes))
        return exact.assembled(lam, w, every if layers is None else rows_of(net_of(f), layers)[0])
    if layers is None:
        return exact.hess_ww(lam, w).dense()
    rows = rows_of(net_of(f), layers)[1]
    if isinstance(exact, Dropout):
        lead = exact.lead_of(lam, w)
        return exact.mean(lambda g: _part(g.hess_ww(lam, w).dense(), rows), 2, lead)
    return _part(exact.hess_ww(lam, w).dense(), rows)


def _part(matrix: Array, rows: np.ndarray) -> Array:
    return matrix[..., rows[:, None], rows]
