"""MNIST's IDX format: images and labels, and QMNIST's extended labels.

The magic number is two zero bytes, a code of the element type and the number of axes; then one big-endian
uint32 per axis, then the elements in row-major order, big-endian.
"""

from __future__ import annotations

from math import prod
from os import PathLike

import numpy as np

from refimpl.datasets.dataset import Dataset, checked_labels, read_bytes
from refimpl.errors import BadInput

IMAGES = {0x0803: "u1"}  # magic number -> element type; its last byte is the number of axes
LABELS = {0x0801: "u1", 0x0C02: ">i4"}  # 0x0C02: QMNIST's table of eight int32 columns
QMNIST_COLUMNS = 8  # column 0 is the class; the others trace the digit to its writer and source


def load_idx(
    images: str | PathLike[str], labels: str | PathLike[str], *, classes: int = 10, name: str = "mnist"
) -> Dataset:
    """Load a pair of IDX files, gzipped or not: MNIST, QMNIST (both kinds of labels), and their like.

    X (N, rows * columns) is pixels / 255 in row-major order. Raises BadInput when a file is damaged, a label
    is not in 0 … classes-1, or the two files disagree on N. Cost: 9 bytes of memory per pixel.
    """
    X, y = _read(images, IMAGES), _read(labels, LABELS)
    if y.ndim == 2:
        if y.shape[1] != QMNIST_COLUMNS:
            raise BadInput(
                f"{labels} is not a table of extended labels",
                measured=f"{y.shape[1]} columns",
                required=f"{QMNIST_COLUMNS} columns, the class first",
                advice="pass QMNIST's labels file of type idx2-int, or a file of plain labels",
            )
        y = y[:, 0]
    if len(X) != len(y):
        raise BadInput(
            f"{images} and {labels} do not belong together",
            measured=f"{len(X)} images and {len(y)} labels",
            required="as many labels as images",
            advice="pass the two files of one split: both of training or both of testing",
        )
    return Dataset(X.reshape(len(X), -1) / 255.0, checked_labels(y, classes, labels), classes, name)


def _read(path: str | PathLike[str], types: dict[int, str]) -> np.ndarray:
    """Return the array in an IDX file whose magic number is one of `types` and whose length is right."""
    content = read_bytes(path)
    magic = int.from_bytes(content[:4], "big")
    if magic not in types:
        raise BadInput(
            f"{path} has the wrong magic number",
            measured=f"0x{content[:4].hex()}",
            required=" or ".join(f"0x{known:08x}" for known in types),
            advice="check that images and labels are not exchanged, and that no archive is left to unpack",
        )
    start = 4 + 4 * (magic & 0xFF)
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    dtype = np.dtype(types[magic])
    required = start + prod(shape) * dtype.itemsize
    if len(content) != required:
        raise BadInput(
            f"{path} is {'longer' if len(content) > required else 'shorter'} than its header announces",
            measured=f"{len(content)} bytes",
            required=f"{required} bytes for shape {shape}"
            if len(content) >= start
            else f"a header of {start} bytes",
            advice="fetch the file again: the copy is truncated or has something appended",
        )
    if not prod(shape):
        raise BadInput(
            f"{path} holds no data",
            measured=f"shape {shape}",
            required="at least one element along every axis",
            advice="fetch the file again, or pass one with at least one example",
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape)
