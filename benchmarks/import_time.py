"""How long ``import refimpl`` takes beyond numpy, in fresh interpreters: ``python -m benchmarks.import_time``."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

GOAL_S = 0.25
# numpy first, so that only what refimpl adds is measured
PROBE = "import time, numpy; t = time.perf_counter(); import refimpl; print(time.perf_counter() - t)"
LAZY = ("scipy", "autograd", "flint", "sklearn", "matplotlib", "jax", "torch")
LOADED = f"import sys, refimpl; print(*[m for m in {LAZY!r} if m in sys.modules])"


def main() -> int:
    """Print the seconds; 1 where the median misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=9, help="fresh interpreters, after one that warms the file cache"
    )
    rounds = parser.parse_args().rounds
    seconds = [float(_printed(PROBE)) for _ in range(rounds + 1)][1:]
    median = statistics.median(seconds)
    print(f"import refimpl beyond numpy: median {median:.3f} s, min {min(seconds):.3f} s of {rounds}")
    print(f"# goal <= {GOAL_S} s: {'met' if median <= GOAL_S else 'MISSED'}")
    print(f"# loaded with it: {_printed(LOADED) or 'none of ' + ', '.join(LAZY)}")
    return int(median > GOAL_S)


def _printed(code: str) -> str:
    # where bytecode is not written every import compiles: an installed package has it
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
