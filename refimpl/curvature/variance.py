"""How much random vectors spread along given directions: from samples of them, or from their covariance.

Samples are rows: the parameters of consecutive steps (random trajectory data), or gradients at frozen parameters
(random gradient data).
"""

from __future__ import annotations

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.curvature.directions import array_of, require_directions
from refimpl.errors import BadInput


def projected_variance(samples: Array, directions: Array, *, backend: Backend | None = None) -> Array:
    """(1/S) Σ_s (v·x_s − mean)², the population variance of the samples' components along v (dropout-flatness,
    definition 3).

    samples (..., S, d), directions (..., k, d) -> (..., k); v is not normalised. The samples' mean is taken off
    before they are projected, so that nothing large cancels. Raises ``BadInput``, also for samples that are not finite.
    Cost S d k.

    >>> import numpy as np
    >>> projected_variance(np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])).tolist()
    [1.0, 0.0]
    """
    B = backend or Backend()
    samples, directions = array_of(B, samples, "samples"), array_of(B, directions, "directions")
    if samples.ndim < 2 or samples.shape[-2] < 2:
        raise BadInput(
            "a variance needs samples",
            measured=tuple(samples.shape),
            required="(..., S, d) with S >= 2",
            advice="one row for each step or draw",
        )
    require_directions(directions, samples.shape[-1])
    centred = samples - B.mean(samples, axis=-2)[..., None, :]
    components = centred @ B.mT(directions)
    return B.mean(components * components, axis=-2)


def along(matrix: Array, directions: Array, *, backend: Backend | None = None) -> Array:
    """vᵀMv: of a covariance the variance along v, of a Hessian the curvature along v.

    matrix (..., d, d), directions (..., k, d) -> (..., k); v is not normalised. Raises ``BadInput``. Cost d² k.
    """
    B = backend or Backend()
    matrix, directions = array_of(B, matrix, "the matrix"), array_of(B, directions, "directions")
    require_directions(directions, matrix.shape[-1])
    return B.sum((directions @ matrix) * directions)
