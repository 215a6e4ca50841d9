"""SVHN's cropped digits: a MATLAB file with X (32, 32, 3, N) uint8 and y (N, 1); label 10 is the digit 0."""

from __future__ import annotations

from os import PathLike

import numpy as np

from refimpl.datasets.dataset import Dataset, checked_labels
from refimpl.datasets.matlab import read_matlab
from refimpl.errors import BadInput

IMAGE = (32, 32, 3)


def load_svhn(path: str | PathLike[str]) -> Dataset:
    """Load one of SVHN's cropped-digit files.

    X (N, 3072) is pixels / 255, plane by plane (red, green, blue; each row-major), as CIFAR's; y the digit.
    Raises BadInput when the file is damaged, X or y is missing or of another shape or type, or a label is not
    1 … 10. Cost: 9 bytes of memory per pixel.
    """
    variables = read_matlab(path)
    if missing := {"X", "y"} - variables.keys():
        raise BadInput(
            f"{path} lacks {' and '.join(sorted(missing))}",
            measured=f"variables {sorted(variables)}",
            required="X and y",
            advice="pass a file of the cropped digits (format 2), not of the full numbers",
        )
    X, y = variables["X"], variables["y"]
    if X.dtype != np.uint8 or X.shape[:-1] != IMAGE or X.shape[-1] == 0:
        raise BadInput(
            f"{path} has an X that is no stack of cropped digits",
            measured=f"shape {X.shape}, {X.dtype}",
            required="shape (32, 32, 3, N) with N >= 1, uint8",
            advice="pass a file of the cropped digits (format 2) as published",
        )
    N = X.shape[-1]
    if y.shape != (N, 1) or not np.array_equal(y, np.trunc(y)):
        raise BadInput(
            f"{path} has a y that does not label X",
            measured=f"shape {y.shape}, {y.dtype}",
            required=f"shape ({N}, 1), whole numbers",
            advice="pass a file of the cropped digits (format 2) as published",
        )
    digits = checked_labels(y[:, 0], 10, path, first=1) % 10
    return Dataset(X.transpose(3, 2, 0, 1).reshape(N, -1) / 255.0, digits, 10, "svhn")
