"""What ``import refimpl`` and a first result cost, in fresh interpreters: ``python -m benchmarks.import_time``."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

# What is timed, in CPU seconds from the start of the program, NumPy included, and at most how many.
# A room is loaded when it is first asked for: the second row says what the first one leaves for later,
# and a user who asks for one result waits for the third.
PROGRAMS = {
    "import refimpl": ("import refimpl", 0.15),
    "every room of it": ("import refimpl; [getattr(refimpl, name) for name in refimpl.__all__]", 0.4),
    "a first exact_hypergradient": (
        "import refimpl as ri; p = ri.zoo.quadratic.random(n=2, d=3, seed=0); ri.exact_hypergradient(p, p.start())",
        0.5,
    ),
}
PARTIES = ("numpy", "scipy", "autograd", "flint", "sklearn", "matplotlib", "jax", "torch")
TIMED = "import time; _start = time.process_time(); {}; print(time.process_time() - _start)"
LOADED = f"{{}}; import sys; print(*[m for m in {PARTIES!r} if m in sys.modules])"


def main() -> int:
    """Print the seconds; 1 where a median misses its goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=9, help="fresh interpreters, after one that warms the file cache"
    )
    rounds = parser.parse_args().rounds
    missed = 0
    for name, (program, goal) in PROGRAMS.items():
        seconds = [float(_printed(TIMED.format(program))) for _ in range(rounds + 1)][1:]
        median = statistics.median(seconds)
        print(f"{name}: median {median:.3f} s CPU, min {min(seconds):.3f} s of {rounds}")
        print(f"# goal <= {goal} s: {'met' if median <= goal else 'MISSED'}")
        print(f"# loaded of third parties: {_printed(LOADED.format(program)) or 'none'}")
        missed += median > goal
    return int(missed > 0)


def _printed(code: str) -> str:
    # where bytecode is not written every import compiles: an installed package has it
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
