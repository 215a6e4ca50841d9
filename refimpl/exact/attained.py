"""Is a point where the slope is rounding a minimiser, or are slope and curvature dying out together?"""

from __future__ import annotations

import numpy as np

from refimpl.arrays import to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import HypothesisViolated
from refimpl.objective import Objective
from refimpl.solvers.lower import overflow_allowed


def require_attained(
    name: str, f: Objective, lam: Array, w: Array, H: Array, columns: Array, floor: float
) -> None:
    """f rises on both sides of w along every eigenvector u of CᵀHC, C = ``columns`` the directions that matter.

    H = ∇²_wwf(λ, w), dense. Cost: an eigendecomposition of CᵀHC, and a gradient on both sides along each u.

    A slope g, known to ``floor`` or better, and a curvature c leave the minimum along u within (g + floor)/c if c lasts
    as far, and w is rounded itself. So at four times that the slope must point outward, by more than rounding makes of
    0 there: a tenth of the floors. Where c dies out with the slope (exp(w)), or the slope is rounding, it does not.
    """
    B = f.backend
    if B.exact or not columns.shape[-1]:
        return
    curvature, vectors = B.xp.linalg.eigh(B.mT(columns) @ H @ columns)
    along, slope = B.mT(columns @ vectors), norm(B.rmatvec(columns, f.grad_w(lam, w)))
    reach = 4 * ((slope + floor) / curvature + B.eps * (1 + norm(w)))
    with overflow_allowed():
        rise, fall = (
            B.dot(f.grad_w(lam, w + side * reach[..., None] * along), along) for side in (1.0, -1.0)
        )
    outward = B.where(rise < -fall, rise, -fall)
    hidden = floor / 10
    rises = to_numpy((curvature > 0) & (outward > hidden))
    if not rises.all():
        c, r, o = (float(to_numpy(x)[np.flatnonzero(~rises)[0]]) for x in (curvature, reach, outward))
        raise HypothesisViolated(
            f"no minimiser of {name} is told from rounding",
            measured=f"slope {slope:.3g} and curvature {c:.3g} at the point found; at {r:.3g} from it along an "
            f"eigenvector of the Hessian the slope points outward by {o:.3g}",
            required=f"> {hidden:.3g}, its rounding",
            advice="it may have none, as exp(w), or the logistic loss of data that a plane separates, has none: smooth "
            "certain labels, add a ridge, or bring the curvature well above rounding",
        )


def norm(x: Array) -> float:
    """Euclidean, of a vector on any backend."""
    return float(np.linalg.norm(to_numpy(x)))
