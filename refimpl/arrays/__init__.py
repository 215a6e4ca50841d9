"""Backends by name: the only place that knows that backends exist.

A formula is written once, in the vocabulary of :class:`Backend`, and runs on

========== ============================================================ =========================
name       arrays                                                       numbers
========== ============================================================ =========================
numpy      ``numpy.ndarray`` (also complex, for the complex step)       float64, float32 if asked
cupy       ``cupy.ndarray``                                             as numpy, on the GPU
jax        ``jax.Array`` (x64 must be switched on)                      float64
torch      ``torch.Tensor``                                             float64
strict     ``array_api_strict`` on its second device                    float64
autograd   ``autograd.numpy`` boxes over NumPy                          float64
rational   object arrays of ``flint.fmpq``                              exact, host only
interval   object arrays of ``flint.arb`` balls                         enclosures, host only
========== ============================================================ =========================
"""

from refimpl.arrays.backend import Backend, backend, to_numpy
from refimpl.arrays.linalg import Factor, factor, factor_spd, solve_spd

__all__ = ["Backend", "Factor", "backend", "factor", "factor_spd", "solve_spd", "to_numpy"]
