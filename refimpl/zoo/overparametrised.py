"""Lower levels with more weights than the data determine: the minimisers are an affine set, and F chooses among them.

lower G(λ, w) = (1/N) Σ_i ω_i(λ) ℓ(x_i·w, y_i), no ridge, rank X = r < d; upper F(w) = mean validation loss +
(reg_upper/2)‖w‖². ω > 0 and ℓ'' > 0, so ∇²_wwG = Xᵀ D(λ, w) X/N has the null space of X, at every λ and w, and
Argmin G(λ, ·) = w(λ) + null(X): a simple bilevel problem of constant rank (improved-bilevel, (3)).

Where the rows are linearly independent, r = N, every sample is fitted as well as it can be whatever its weight is:
the minimisers do not depend on λ, and ∇f = 0. So r < min(N, d) here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from refimpl.combined import Combined
from refimpl.datasets import corrupt_labels
from refimpl.errors import BadInput
from refimpl.problem import BilevelProblem
from refimpl.zoo import dyadic, quadratic
from refimpl.zoo.logistic import SoftLabelLoss
from refimpl.zoo.ridge import HalfSquares
from refimpl.zoo.rows import LinearModelLoss, require_same_features, samples
from refimpl.zoo.weighted_rows import WeightedRows
from refimpl.zoo.weighted_softmax import Cleaning, digits_data
from refimpl.zoo.weights import Kind, SampleWeights, domain, initial

Loss = Literal["least squares", "logistic"]


def least_squares(
    X: Any,
    y: Any,
    X_val: Any,
    y_val: Any,
    *,
    reg_upper: float,
    weights: Kind = "sigmoid",
    name: str = "weighted least squares",
) -> BilevelProblem:
    """Half squares of the rows X (N, d) against y (N,), row i weighted by λ: n = N.

    ``weights``: "sigmoid", ω_i = σ(λ_i), any λ; "identity", ω_i = λ_i on the set λ > 0, polynomial: runs over the
    rationals. λ begins where every weight is 1/2. Raises ``BadInput``.

    >>> p = least_squares([[1, 1], [2, 2]], [1, 0], [[1, 0]], [1], reg_upper=0.5)
    >>> p.lower.hess_ww(p.start(), p.w(None)).dense().tolist()
    [[1.25, 1.25], [1.25, 1.25]]
    """
    return _problem(HalfSquares, X, y, X_val, y_val, reg_upper, weights, name)


def logistic(
    X: Any,
    y: Any,
    X_val: Any,
    y_val: Any,
    *,
    reg_upper: float,
    weights: Kind = "sigmoid",
    name: str = "weighted logistic regression",
) -> BilevelProblem:
    """Cross entropy of σ(x_i·w) against labels 0 < y_i < 1 of the training rows, 0 <= y <= 1 of the validation rows.

    Strictly inside (0, 1), so that a minimiser exists: with certain labels, a data set that a plane separates has
    none, and few rows of many features always are. Options as for :func:`least_squares`. Raises ``BadInput``.

    >>> logistic([[1, 1], [2, 2]], [0.9, 0.1], [[1, 0]], [1], reg_upper=0.5).n
    2
    """
    for labels, of, closed in ((y, "training", False), (y_val, "validation", True)):
        _require_shares(np.asarray(labels), of, closed=closed)
    return _problem(SoftLabelLoss, X, y, X_val, y_val, reg_upper, weights, name)


def _require_shares(y: np.ndarray, of: str, *, closed: bool) -> None:
    if y.dtype.kind not in "iuf":
        return  # refused as no numbers, with the rest of the data
    inside = (y >= 0) & (y <= 1) if closed else (y > 0) & (y < 1)
    if not inside.all():
        raise BadInput(
            f"a {of} label is outside {'[0, 1]' if closed else '(0, 1)'}",
            measured=f"{y.size - inside.sum()} of {y.size}, the first {y[~inside].ravel()[0]:g}",
            required="0 <= y <= 1" if closed else "0 < y < 1: else G may have no minimiser",
            advice="smooth certain labels: (1 - 0.1) * y + 0.1 / 2",
        )


def _problem(
    loss: Callable[[np.ndarray, np.ndarray, int], LinearModelLoss],
    X: Any,
    y: Any,
    X_val: Any,
    y_val: Any,
    reg_upper: float,
    weights: Kind,
    name: str,
) -> BilevelProblem:
    X, y = samples(X, y, "training")
    X_val, y_val = samples(X_val, y_val, "validation")
    require_same_features(X, X_val)
    if not 0 < reg_upper < np.inf:
        raise BadInput(
            "the upper level would not be strongly convex",
            measured=f"reg_upper = {reg_upper}",
            required="0 < reg_upper < inf",
            advice="it is what chooses one of the lower level's minimisers",
        )
    (n, d), of_rows = X.shape, SampleWeights(weights)
    ridge = quadratic.objective(ww=np.eye(d), n=n)
    upper = Combined(1, loss(X_val, y_val, n), float(reg_upper), ridge)
    lower = WeightedRows(loss(X, y, n), of_rows)
    return BilevelProblem(upper, lower, domain(of_rows, zero=False), name, initial(of_rows, n))


def random(
    *,
    d: int,
    rank: int,
    seed: int,
    rows: int | None = None,
    loss: Loss = "least squares",
    weights: Kind = "sigmoid",
    spectrum: Sequence[float] | None = None,
    reg_upper: float = 0.5,
) -> BilevelProblem:
    """Random rows X (rows, d) of exactly this rank, in floats and over the rationals.

    rows: n of them, 2 rank + 2 by default. spectrum: the ``rank`` singular values of X/√rows, log-spaced in [1/4, 1]
    by default; those of X are rounded to 36 bits, see ``dyadic``. Targets (labels in [1/16, 15/16]) and the d + 1
    validation rows are drawn without regard to X. Raises ``BadInput``.

    >>> problem = random(d=5, rank=2, seed=0)
    >>> problem.n, np.linalg.matrix_rank(problem.lower.data.X)
    (6, np.int64(2))
    """
    rows = 2 * rank + 2 if rows is None else rows
    if not 0 < rank <= min(rows, d):
        raise BadInput(
            "no data have this rank",
            measured=f"rank {rank} of {rows} rows and {d} features",
            required="0 < rank <= min(rows, d)",
            advice="rank < d leaves F something to choose, and rank < rows lets λ matter",
        )
    rng = np.random.default_rng(seed)
    values = np.geomspace(1, 1 / 4, rank) if spectrum is None else np.asarray(spectrum, dtype=float)
    s = dyadic.rounded((np.sqrt(rows) * values).tolist(), "spectrum", rank)
    X = (dyadic.orthogonal(rows, rng)[:, :rank] * s) @ dyadic.orthogonal(d, rng)[:rank]
    X_val = rng.integers(-16, 17, (d + 1, d)) / 8

    def targets(count: int) -> np.ndarray:
        drawn = rng.integers(1, 16, count) / 16
        return drawn if loss == "logistic" else 4 * (drawn - 1 / 2)

    options: dict[str, Any] = {"reg_upper": reg_upper, "weights": weights}
    name = f"overparametrised {loss} (n={rows}, d={d}, rank={rank}, seed={seed})"
    return _family(loss)(X, targets(rows), X_val, targets(d + 1), **options, name=name)


def _family(loss: Loss) -> Callable[..., BilevelProblem]:
    families: dict[Loss, Callable[..., BilevelProblem]] = {
        "least squares": least_squares,
        "logistic": logistic,
    }
    if loss not in families:
        raise BadInput(
            "no such loss",
            measured=repr(loss),
            required=" or ".join(map(repr, families)),
            advice="for more classes use zoo.weighted_softmax with singular=True",
        )
    return families[loss]


def several_labels(
    *, images: int = 12, copies: int = 3, corrupted: float = 0.25, seed: int = 0, **options: Any
) -> Cleaning:
    """A few digits of two classes, each labelled ``copies`` times, a share of these labels wrong.

    Rows i, i + images, i + 2 images, … are the same image, so the rank is at most ``images``, fewer than the rows
    and the pixels, and the weights decide between labels that contradict each other. Other options as for
    :func:`refimpl.zoo.weighted_softmax.digits_data`.
    """
    options = {"classes": (3, 8), "validation": 100, **options}
    data = digits_data(train=images, corrupted=0.0, seed=seed, **options)
    y, wrong = corrupt_labels(
        np.tile(data.y, copies), corrupted, data.classes, np.random.default_rng([seed, 1])
    )
    return dataclasses.replace(data, X=np.tile(data.X, (copies, 1)), y=y, corrupted=wrong)


def digits(
    *,
    loss: Loss = "logistic",
    reg_upper: float = 0.01,
    weights: Kind = "sigmoid",
    smoothing: float = 0.2,
    **options: Any,
) -> BilevelProblem:
    """Hyper-cleaning of a few digits with contradicting labels; other options as for :func:`several_labels`.

    Targets are ±1 for least squares; labels are 0 and 1, smoothed to smoothing/2 and 1 − smoothing/2, for the
    logistic loss. The pixels are multiples of 1/16: the same data over the rationals.

    >>> small = digits(images=6, pool=2)
    >>> small.n, small.d
    (18, 16)
    """
    data, said = several_labels(**options), ", ".join(f"{k}={v}" for k, v in options.items())
    make = _family(loss)
    if data.classes != 2:
        raise BadInput(
            "a score tells two classes apart",
            measured=f"{data.classes} classes",
            required="2",
            advice="for more classes use zoo.weighted_softmax with singular=True",
        )
    name = f"overparametrised {loss} of digits ({said})"
    y, y_val = (
        (2 * data.y - 1.0, 2 * data.y_val - 1.0)
        if loss == "least squares"
        else ((1 - smoothing) * data.y + smoothing / 2, data.y_val)
    )
    return make(data.X, y, data.X_val, y_val, reg_upper=reg_upper, weights=weights, name=name)
