"""SVHN's cropped digits: a MATLAB file with X (32, 32, 3, N) uint8 and y (N, 1); label 10 is the digit 0."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from io import BytesIO
from os import PathLike
from struct import unpack_from

import numpy as np

from refimpl.datasets.dataset import Dataset, checked_labels, read_bytes
from refimpl.errors import BadInput

IMAGE = (32, 32, 3)
# Codes of MATLAB's format, version 5.
MATRIX, COMPRESSED = 14, 15  # element types that hold other elements
PLAIN = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 16, 17, 18})  # element types that hold numbers or a name
NUMERIC_CLASSES = range(6, 16)  # double, single, and the integers of 1 to 8 bytes


def load_svhn(path: str | PathLike[str]) -> Dataset:
    """Load one of SVHN's cropped-digit files.

    X (N, 3072) is pixels / 255, plane by plane (red, green, blue; each row-major), as CIFAR's; y the digit.
    Raises BadInput when the file is damaged, X or y is missing or of another shape or type, or a label is not
    1 … 10. Cost: 9 bytes of memory per pixel.
    """
    variables = _variables(path)
    if missing := {"X", "y"} - variables.keys():
        raise BadInput(
            f"{path} lacks {' and '.join(sorted(missing))}",
            measured=f"variables {sorted(variables)}",
            required="X and y",
            advice="pass a file of the cropped digits (format 2), not of the full numbers",
        )
    X, y = np.asarray(variables["X"]), np.asarray(variables["y"])
    if X.dtype != np.uint8 or X.shape[:-1] != IMAGE or X.shape[-1] == 0:
        raise BadInput(
            f"{path} has an X that is no stack of cropped digits",
            measured=f"shape {X.shape}, {X.dtype}",
            required="shape (32, 32, 3, N) with N >= 1, uint8",
            advice="pass a file of the cropped digits (format 2) as published",
        )
    N = X.shape[-1]
    if y.shape != (N, 1) or y.dtype.kind not in "iuf" or not np.array_equal(y, np.trunc(y)):
        raise BadInput(
            f"{path} has a y that does not label X",
            measured=f"shape {y.shape}, {y.dtype}",
            required=f"shape ({N}, 1), whole numbers",
            advice="pass a file of the cropped digits (format 2) as published",
        )
    digits = checked_labels(y[:, 0], 10, path, first=1) % 10
    return Dataset(X.transpose(3, 2, 0, 1).reshape(N, -1) / 255.0, digits, 10, "svhn")


def _variables(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Return all variables of a MATLAB file; all, because only reading to the end shows what is appended."""
    from scipy.io import loadmat  # lazily: importing refimpl must not import SciPy

    content = read_bytes(path)
    try:
        _check_elements(content)
        return {key: value for key, value in loadmat(BytesIO(content)).items() if not key.startswith("__")}
    except Exception as error:  # on damaged files SciPy raises whatever its parser stumbles on
        raise BadInput(
            f"{path} is not a readable MATLAB file of numeric arrays",
            measured=f"{type(error).__name__}: {error}",
            required="a complete, little-endian MATLAB file of version 5, as SVHN publishes",
            advice="fetch the file again: the copy is truncated, altered, or has something appended",
        ) from error


def _check_elements(content: bytes) -> None:
    """Raise unless the file is numeric arrays end to end: SciPy's reader trusts type codes, and a wrong one kills it."""
    if content[124:128] != b"\x00\x01IM":
        raise ValueError(f"the header ends with {content[124:128]!r}")
    for kind, body in _elements(memoryview(content)[128:]):
        if kind == COMPRESSED:
            ((kind, body),) = _elements(memoryview(zlib.decompress(body)))
        if kind != MATRIX:
            raise ValueError(f"an element of type {kind} where an array must be")
        (_, flags), *parts = _elements(body)
        if flags[0] not in NUMERIC_CLASSES or not PLAIN.issuperset(part for part, _ in parts):
            raise ValueError(
                f"an array of class {flags[0]} from elements of types {[part for part, _ in parts]}"
            )


def _elements(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (type, body) of the elements that fill `content`; raise at one that does not fit."""
    start = 0
    while start < len(content):
        kind, size = unpack_from("<II", content, start)
        body = start + 8
        if (
            kind >> 16
        ):  # a small element: its size in the upper half of the type, its body in the size's place
            kind, size, body = kind & 0xFFFF, kind >> 16, start + 4
        if body + size > len(content):
            raise ValueError(f"an element of {size} bytes where {len(content) - body} are left")
        yield kind, content[body : body + size]
        start = body + size
        if kind != COMPRESSED:
            start += -start % 8  # padded
