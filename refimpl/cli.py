"""The console script ``refimpl``."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence

from refimpl.arrays import backend
from refimpl.errors import BackendUnavailable

PACKAGES = {  # distribution: the extra that brings it
    "numpy": "core",
    "scipy": "core",
    "autograd": "core",
    "array-api-compat": "core",
    "python-flint": "core",
    "matplotlib": "verify",
    "jinja2": "verify",
    "rich": "verify",
    "hypothesis": "verify",
    "scikit-learn": "verify",
    "latex2mathml": "verify",
    "pytest": "test",
    "array-api-strict": "test",
    "mpmath": "test",
    "jax": "bench",
    "torch": "bench",
    "cupy-cuda12x": "cuda12",
    "cupy-cuda13x": "cuda13",
}
BACKENDS = ("numpy", "rational", "interval", "autograd", "strict", "cupy", "jax", "torch")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="refimpl", description="Reference implementation of bilevel optimisation."
    )
    parser.add_argument(
        "--version", action="version", version=f"refimpl {importlib.metadata.version('refimpl')}"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "doctor", help="versions, backends, threads, float64: what works here and what to install"
    )
    parser.parse_args(argv)
    return doctor()


def doctor() -> int:
    """Print what is installed and which backends work; 1 where a core package is missing."""
    import refimpl

    print(
        f"refimpl {refimpl.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
    missing_core = False
    for package, extra in PACKAGES.items():
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found = "not installed" if extra == "core" else f"not installed (pip install 'refimpl[{extra}]')"
            missing_core |= extra == "core"
        print(f"  {package:18} {found}")
    print("backends")
    for name in BACKENDS:
        print(f"  {name:18} {_backend_state(name)}")
    print("threads")
    for variable in THREADS:
        print(f"  {variable:22} {os.environ.get(variable, 'not set')}")
    print(f"  {'usable cores':22} {_cores()}")
    if not any(os.environ.get(v) for v in THREADS):
        print(
            "  advice: export OMP_NUM_THREADS=1 before Python starts; small matrices run slower on many BLAS threads"
        )
    return int(missing_core)


def _backend_state(name: str) -> str:
    try:
        made = backend(name)
    except BackendUnavailable as e:
        return f"no: {e.what}; {e.advice}"
    try:
        total = made.sum(made.asarray([1.0, 2.0]))
    except ImportError as e:
        return f"no: {e}"
    return "works" if float(total) == 3.0 else f"wrong: 1 + 2 = {total}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
