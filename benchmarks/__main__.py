"""Run every benchmark, each in a process of its own with one BLAS thread: ``python -m benchmarks [options]``."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.harness import one_thread

MODULES = ("benchmarks.import_time", "benchmarks.hyper_cleaning")


def main() -> int:
    """Return the number of benchmarks that missed a goal or could not run."""
    failed = 0
    for module in MODULES:
        failed += (
            subprocess.run([sys.executable, "-m", module, *sys.argv[1:]], env=one_thread()).returncode != 0
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
