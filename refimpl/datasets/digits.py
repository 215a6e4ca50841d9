"""The real data that needs no file: scikit-learn's bundled digits; and label noise for any data set."""

from __future__ import annotations

import numpy as np

from refimpl.datasets.dataset import Dataset
from refimpl.errors import BackendUnavailable, BadInput


def load_digits() -> Dataset:
    """Load scikit-learn's 1797 digits of 8 x 8 pixels: X (1797, 64) is pixels / 16, ten classes.

    Raises BackendUnavailable when scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as bundled  # lazily: an optional dependency, slow to import
    except ImportError as error:
        raise BackendUnavailable(
            "the digits come with scikit-learn, which cannot be imported",
            measured=str(error),
            required="scikit-learn",
            advice="pip install 'refimpl[verify]'",
        ) from error
    X, y = bundled(return_X_y=True)
    return Dataset(X / 16.0, y.astype(np.int64), 10, "digits")


def corrupt_labels(
    y: np.ndarray, share: float, classes: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels (N,) of which round(share * N) are wrong, and the boolean mask (N,) of those.

    The wrong ones are drawn without replacement; each takes one of the classes - 1 other labels, all equally
    likely. Raises BadInput when y is no non-empty vector of integers 0 … classes-1, or share outside [0, 1].

    >>> corrupt_labels(np.array([0, 1, 1]), share=1.0, classes=2, rng=np.random.default_rng(0))
    (array([1, 0, 0]), array([ True,  True,  True]))
    """
    y = np.asarray(y)
    _check(y, share, classes)
    mask = np.zeros(y.shape, dtype=bool)
    mask[rng.choice(y.size, size=round(share * y.size), replace=False)] = True
    corrupted = y.astype(np.int64)
    # A shift is uniform on 1 … classes-1: never back to the same class, and equally often to each other one.
    shift = rng.integers(1, classes, size=np.count_nonzero(mask))
    corrupted[mask] = (corrupted[mask] + shift) % classes
    return corrupted, mask


def _check(y: np.ndarray, share: float, classes: int) -> None:
    if y.ndim != 1 or y.size == 0 or y.dtype.kind not in "iu":
        raise BadInput(
            "the labels are not a vector of integers",
            measured=f"shape {y.shape}, {y.dtype}",
            required="shape (N,) with N >= 1, an integer dtype",
            advice="pass class indices, not one-hot rows or floats",
        )
    if classes < 2:
        raise BadInput(
            "there is no other class to corrupt a label to",
            measured=f"{classes} classes",
            required="at least 2",
            advice="pass the data set's number of classes",
        )
    if y.min() < 0 or y.max() >= classes:
        raise BadInput(
            "a label is out of range",
            measured=f"labels {y.min()} … {y.max()}",
            required=f"0 … {classes - 1}",
            advice="pass the data set's number of classes, and labels that count from 0",
        )
    if not 0 <= share <= 1:  # written so that NaN is refused too
        raise BadInput(
            "the share of corrupted labels is no share",
            measured=share,
            required="a number in [0, 1]",
            advice="pass 0.3 for 30 %",
        )
