"""What keeps a loop over large arrays from asking the operating system for the same memory in each of its steps."""

from __future__ import annotations

import numpy as np

from refimpl.arrays.backend import Array

TEMPORARIES = 16  # arrays of a step that may be free at once
LARGEST = 2**25 - 2**12  # glibc learns nothing from a block above 32 MiB


def keep_freed(x: Array) -> None:
    """Let the C library keep what steps free whose arrays are like NumPy's ``x``; call it once, early in the loop.

    glibc gives the free end of its heap back above twice the largest block that was ever freed, and gets it anew page
    by page: for 1,000 x 20 numbers that takes as long as the arithmetic. One block of a step's size, freed, is the
    lesson; it is never written, and so costs nothing. Other C libraries ignore it.
    """
    if isinstance(x, np.ndarray):
        np.empty(min(TEMPORARIES * x.nbytes, LARGEST), dtype=np.uint8)
