"""CIFAR-10 and CIFAR-100 in their binary version: records without header or separator.

A record is the label bytes (CIFAR-10: one; CIFAR-100: coarse, then fine) and 3072 pixel bytes: the red, green
and blue planes of 32 x 32, each in row-major order.
"""

from __future__ import annotations

from os import PathLike

import numpy as np

from refimpl.datasets.dataset import Dataset, checked_labels, read_bytes
from refimpl.errors import BadInput

PIXELS = 3 * 32 * 32
CIFAR100_CLASSES = {"coarse": 20, "fine": 100}  # in the order of the label bytes


def load_cifar10(*paths: str | PathLike[str]) -> Dataset:
    """Load CIFAR-10's binary batches, joined in the given order.

    X (N, 3072) is pixels / 255, plane by plane. Raises BadInput when a file is not a whole number of records
    or holds a label above 9. Cost: 9 bytes of memory per pixel.
    """
    records = _read(paths, {"class": 10})
    return Dataset(records[:, 1:] / 255.0, records[:, 0].astype(np.int64), 10, "cifar10")


def load_cifar100(*paths: str | PathLike[str], labels: str = "fine") -> Dataset:
    """Load CIFAR-100's binary files, joined in the given order, with the 100 fine or the 20 coarse labels.

    X (N, 3072) is pixels / 255, plane by plane. Raises BadInput when a file is not a whole number of records
    or holds a label (coarse or fine, whichever is asked for) out of range. Cost: 9 bytes of memory per pixel.
    """
    if labels not in CIFAR100_CLASSES:
        raise BadInput(
            "CIFAR-100 has no such labels",
            measured=repr(labels),
            required=" or ".join(map(repr, CIFAR100_CLASSES)),
            advice="ask for labels='fine' (100 classes) or labels='coarse' (20 superclasses)",
        )
    records = _read(paths, CIFAR100_CLASSES)
    y = records[:, list(CIFAR100_CLASSES).index(labels)].astype(np.int64)
    return Dataset(records[:, 2:] / 255.0, y, CIFAR100_CLASSES[labels], f"cifar100-{labels}")


def _read(paths: tuple[str | PathLike[str], ...], classes: dict[str, int]) -> np.ndarray:
    """Return the records (N, label bytes + 3072) of all files, every label within its number of classes."""
    if not paths:
        raise BadInput(
            "no file was named",
            measured="0 paths",
            required="at least one binary file",
            advice="pass the paths of the unpacked .bin files",
        )
    return np.concatenate([_records(path, classes) for path in paths])


def _records(path: str | PathLike[str], classes: dict[str, int]) -> np.ndarray:
    """Return the checked records of one file."""
    content, size = read_bytes(path), len(classes) + PIXELS
    if len(content) % size:
        raise BadInput(
            f"{path} is not a whole number of records: truncated, or with something appended",
            measured=f"{len(content)} bytes = {len(content) // size} records + {len(content) % size} bytes",
            required=f"a multiple of {size} bytes",
            advice="pass unpacked .bin files of the binary version, each to its own version's loader",
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    for column, count in enumerate(classes.values()):
        checked_labels(records[:, column], count, path)
    return records
