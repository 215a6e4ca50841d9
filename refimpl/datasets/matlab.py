"""MATLAB files of version 5 that hold numeric arrays, and nothing else.

A 128-byte header, then elements: type and size as uint32, the body, padding to 8 bytes. The body of an array
is elements again (flags, lengths of the axes, name, numbers column-major), perhaps compressed by zlib.
SciPy's reader is not used: it trusts the type codes, and an altered file can crash the interpreter.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from os import PathLike

import numpy as np

from refimpl.datasets.dataset import read_bytes
from refimpl.errors import BadInput

HEADER, VERSION = 128, b"\x00\x01IM"  # the header's last four bytes: version 5, little-endian
ARRAY, COMPRESSED, AXES = 14, 15, 5  # element types
INTEGERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 12: "<i8", 13: "<u8"}
NUMBERS = INTEGERS | {7: "<f4", 9: "<f8"}  # element type -> dtype
NUMERIC = range(6, 16)  # array classes: floats and integers; not cells, structures, objects, text or sparse


def read_matlab(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Return the arrays by name, in the type that they are stored in; gzipped files are unpacked.

    Raises BadInput unless the file is such arrays from end to end. Cost: one copy of what is compressed.
    """
    content = read_bytes(path)
    try:
        if content[HEADER - 4 : HEADER] != VERSION:
            raise ValueError(f"{len(content)} bytes, of which the header's last are {content[124:128]!r}")
        return dict(_array(kind, body) for kind, body in _elements(memoryview(content)[HEADER:]))
    except (ValueError, IndexError, struct.error, zlib.error) as error:
        raise BadInput(
            f"{path} is not a readable MATLAB file of numeric arrays",
            measured=str(error),
            required="a complete, little-endian MATLAB file of version 5",
            advice="fetch the file again: the copy is truncated, altered, or has something appended",
        ) from error


def _array(kind: int, body: memoryview) -> tuple[str, np.ndarray]:
    if kind == COMPRESSED:
        ((kind, body),) = _elements(memoryview(zlib.decompress(body)))
    if kind != ARRAY:
        raise ValueError(f"an element of type {kind} where an array must be")
    types, (flags, axes, name, *numbers) = zip(*_elements(body), strict=True)
    if flags[0] not in NUMERIC or len(numbers) != 1 or types[1] != AXES or types[3] not in NUMBERS:
        raise ValueError(f"an array of class {flags[0]} from elements of types {list(types)}")
    # Lengths as unsigned numbers: a negative one must not read as reshape's "whatever fits".
    shape = [int(length) for length in np.frombuffer(axes, "<u4")]
    return bytes(name).decode("ascii"), np.frombuffer(numbers[0], NUMBERS[types[3]]).reshape(shape, order="F")


def _elements(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (type, body) of the elements that fill `content`; raise at one that does not fit."""
    start = 0
    while start < len(content):
        kind, size = struct.unpack_from("<II", content, start)
        body = start + 8
        if kind >> 16:  # a small element: its size is in the type's upper half, its body in the size's place
            kind, size, body = kind & 0xFFFF, kind >> 16, start + 4
        if body + size > len(content):
            raise ValueError(f"an element of {size} bytes where {len(content) - body} are left")
        yield kind, content[body : body + size]
        start = body + size
        if kind != COMPRESSED:
            start += -start % 8  # padding
