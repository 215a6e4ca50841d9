"""A loop over large arrays asks the operating system for memory once, not in every step."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

STEPS = 200
LOOP = f"""
import resource
import numpy as np
from refimpl.approximate import StochasticIteration
from refimpl.zoo import ridge

rng = np.random.default_rng(0)
problem = ridge.problem(rng.standard_normal((100, 20)), np.zeros(100), np.ones((1, 20)), np.zeros(1))
index = rng.integers(0, 100, (1000, {STEPS}, 1))
sample = (np.zeros(index.shape[:2], dtype=np.int64), index)
iteration = StochasticIteration({STEPS}, 0.001)
iteration.run(problem, np.array([0.01]), None, sample)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
iteration.run(problem, np.array([0.01]), None, sample)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is counted here is glibc's habit")
def test_steps_reuse_the_memory_that_they_free():
    done = subprocess.run([sys.executable, "-c", LOOP], check=True, capture_output=True, text=True)
    assert (
        int(done.stdout) < STEPS
    )  # new pages; five arrays a step, of 39 pages each, when memory is given back
