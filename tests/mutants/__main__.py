"""``python -m tests.mutants``: break each formula in turn, and fail unless a test notices or a reason is on file."""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before numpy loads
    os.environ.setdefault(_variable, "1")

from tests.mutants.command import main  # noqa: E402 (after the thread counts)

if __name__ == "__main__":
    raise SystemExit(main())
