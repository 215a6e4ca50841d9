"""What every loader returns, and the two checks that they share: a readable file, labels in their range."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from refimpl.errors import BadInput

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class Dataset:
    """A labelled data set: X (N, features) float64 in [0, 1], y (N,) int64 in 0 … classes-1, and its name."""

    X: np.ndarray
    y: np.ndarray
    classes: int
    name: str


def read_bytes(path: str | PathLike[str]) -> bytes:
    """Return the file's content, unpacked when it begins with gzip's magic number (whatever its suffix).

    Raises BadInput when the file is missing, empty, or not a whole gzip stream (its checksum is verified).
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(
            f"{path} cannot be read",
            measured="a directory" if path.is_dir() else "no such file",
            required="a local file; nothing is downloaded",
            advice="fetch the data set from its publisher, then pass the path of the file",
        )
    content = path.read_bytes()
    if content.startswith(GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise BadInput(
                f"{path} is a damaged gzip file",
                measured=str(error),
                required="a complete gzip stream with a matching checksum",
                advice="fetch the file again: the copy is truncated or altered",
            ) from error
    if not content:
        raise BadInput(
            f"{path} is empty",
            measured="0 bytes",
            required="a header or at least one record",
            advice="fetch the file again: the download was probably interrupted",
        )
    return content


def checked_labels(y: np.ndarray, classes: int, path: str | PathLike[str], *, first: int = 0) -> np.ndarray:
    """Return y (N,) as int64; raise BadInput at a label outside first … first+classes-1."""
    last = first + classes - 1
    outside = np.flatnonzero((y < first) | (y > last))
    if outside.size:
        raise BadInput(
            f"{path} has a label out of range",
            measured=f"label {y[outside[0]]} at index {outside[0]}; {outside.size} of {y.size} are out",
            required=f"labels {first} … {last}",
            advice="check that this is the right file, and that the number of classes is the data set's",
        )
    return y.astype(np.int64)
