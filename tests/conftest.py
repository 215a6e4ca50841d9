"""What every test shares: one BLAS thread, hypothesis profiles, and the skip of `gpu` tests without a GPU."""

from __future__ import annotations

import importlib.util
import os

# Read by the BLAS when numpy loads, so these lines stand before any import that may load it.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import pytest  # noqa: E402 (after the thread counts)

if importlib.util.find_spec("hypothesis"):  # a GPU machine may lack it; the `gpu` tests do not need it
    from hypothesis import HealthCheck, settings

    # No database and no deadline: a test's outcome depends on neither an earlier run nor the machine's load.
    _fixed = {"database": None, "deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("dev", max_examples=50, derandomize=True, **_fixed)
    settings.register_profile("ci", max_examples=200, derandomize=True, **_fixed)
    settings.register_profile("nightly", max_examples=1000, print_blob=True, **_fixed)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def _missing_gpu() -> str | None:
    """Say why no `gpu` test can run here, or None where it can."""
    try:
        import cupy

        return None if cupy.cuda.runtime.getDeviceCount() else "CuPy sees no CUDA device"
    except Exception as error:  # CuPy raises its own types, and others when the driver is absent
        return f"no CuPy with a CUDA device: {error}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `gpu` where there is no device; without such a test CuPy is not touched."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and (reason := _missing_gpu()):
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))
