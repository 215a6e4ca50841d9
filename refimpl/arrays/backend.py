"""The vocabulary in which every formula of the package is written.

Vectors live on the last axis; every function acts over any number of leading axes. Nothing here
conjugates: products are bilinear, so that a formula may be stepped in the complex plane.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from typing import Any

from refimpl.errors import BackendUnavailable, BadInput

Array = Any  # whatever the named backend calls an array


_library = functools.cache(importlib.import_module)  # importing again costs 10 µs, and every formula asks


@dataclass(frozen=True)
class Backend:
    """Arrays of one library, dtype and device; equal, hashable and picklable by these three names."""

    name: str = "numpy"
    dtype: str = "float64"
    device: str | None = None

    exact = False  # no rounding at all
    ordered = True  # comparisons decide (False on balls, where they may not)
    module = "numpy"

    @property
    def xp(self) -> Any:
        return _library(self.module)

    @property
    def eps(self) -> float:
        return {"float64": 2.0**-52, "float32": 2.0**-23}[self.dtype]

    # -- making arrays ------------------------------------------------------------------------
    def asarray(self, x: Any) -> Array:
        """Floating array of this backend from host data."""
        xp, host = self.xp, to_numpy(x)
        if host.dtype.kind not in "biuf":  # a cast would drop the imaginary part with no more than a warning
            raise BadInput(
                "not an array of real numbers",
                measured=f"dtype {host.dtype}",
                required="real numbers",
                advice="pass real arrays, or lists of floats",
            )
        return xp.asarray(host, dtype=getattr(xp, self.dtype), **self._on)

    def indices(self, x: Any) -> Array:
        """Integer array of this backend from host data."""
        xp = self.xp
        return xp.asarray(to_numpy(x), dtype=xp.int64, **self._on)

    def scalar(self, x: Any) -> Any:
        """A number as this backend's fields hold it; ``BadInput`` where none does."""
        try:
            return float(x)
        except OverflowError:
            raise BadInput(
                "a number is too large for a float",
                measured=f"{type(x).__name__} of more than 1024 binary places before the point",
                required="a number below 1.8e308",
                advice='rescale it, or compute over backend "rational"',
            ) from None

    def zeros(self, shape: tuple[int, ...]) -> Array:
        xp = self.xp
        return xp.zeros(shape, dtype=getattr(xp, self.dtype), **self._on)

    def eye(self, n: int) -> Array:
        xp = self.xp
        return xp.eye(n, dtype=getattr(xp, self.dtype), **self._on)

    @property
    def _on(self) -> dict[str, Any]:
        return {} if self.device is None else {"device": self.device}

    # -- elementwise --------------------------------------------------------------------------
    def exp(self, x: Array) -> Array:
        return self.xp.exp(x)

    def log(self, x: Array) -> Array:
        return self.xp.log(x)

    def tanh(self, x: Array) -> Array:
        return self.xp.tanh(x)

    def sqrt(self, x: Array) -> Array:
        return self.xp.sqrt(x)

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        return self.xp.where(condition, x, y)

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)), to full relative accuracy on both sides."""
        positive = self._real(x) >= 0
        e = self.exp(self.where(positive, -x, x))  # never overflows
        return self.where(positive, 1 + 0 * e, e) / (1 + e)

    def softplus(self, x: Array) -> Array:
        """log(1 + exp(x)), to full relative accuracy on both sides."""
        positive = self._real(x) >= 0
        e = self.exp(self.where(positive, -x, x))
        return self.where(positive, x, 0 * x) + self.xp.log1p(e)

    def logcosh(self, x: Array) -> Array:
        """log(cosh(x)) = x + log1p(exp(-2x)) - log 2 for x >= 0, and even."""
        a = self.where(self._real(x) >= 0, x, -x)
        return a + self.xp.log1p(self.exp(-2 * a)) - 0.6931471805599453

    def comparable(self, x: Any) -> Any:
        """x, to be compared where only a certain answer is taken for yes (balls refuse it elsewhere)."""
        return x

    # -- reductions over one axis -------------------------------------------------------------
    def sum(self, x: Array, axis: int = -1) -> Array:
        return self.xp.sum(x, axis=axis)

    def mean(self, x: Array, axis: int = -1) -> Array:
        return self.sum(x, axis=axis) / x.shape[axis]

    def dot(self, x: Array, y: Array) -> Array:
        """Bilinear product of vectors on the last axis."""
        return x @ y if x.ndim == y.ndim == 1 else self.sum(x * y, axis=-1)

    def norm(self, x: Array) -> Array:
        """Euclidean norm of vectors on the last axis."""
        return self.sqrt(self.dot(x, x))

    def softmax(self, z: Array, axis: int) -> Array:
        e = self.exp(z - self._shift(z, axis))
        return e / self.xp.sum(e, axis=axis, keepdims=True)

    def logsumexp(self, z: Array, axis: int) -> Array:
        shift = self._shift(z, axis)
        return self.log(self.sum(self.exp(z - shift), axis=axis)) + self.sum(shift, axis=axis)

    def _shift(self, z: Array, axis: int) -> Array:
        return self.xp.max(self._real(z), axis=axis, keepdims=True)

    def _real(self, x: Array) -> Array:
        kind = getattr(x.dtype, "kind", "")  # NumPy's letter; spelling a dtype out takes longer than a sum
        return self.xp.real(x) if (kind == "c" if kind else "complex" in str(x.dtype)) else x

    # -- linear algebra over leading axes -----------------------------------------------------
    def matvec(self, a: Array, x: Array) -> Array:
        """A x with A (..., m, n) and x (..., n)."""
        return x @ a.T if a.ndim == 2 else (a @ x[..., None])[..., 0]

    def rmatvec(self, a: Array, y: Array) -> Array:
        """Aᵀ y with A (..., m, n) and y (..., m)."""
        if a.ndim == 2:
            return y @ a
        if a.shape[-2] == 1:  # a multiple of the only row: many small products take eight times as long
            return y * a[..., 0, :]
        return (self.mT(a) @ y[..., None])[..., 0]

    def mT(self, a: Array) -> Array:
        """Transpose of the last two axes."""
        return self.moveaxis(a, -1, -2)

    # -- shapes -------------------------------------------------------------------------------
    def moveaxis(self, x: Array, source: int, destination: int) -> Array:
        return self.xp.moveaxis(x, source, destination)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return self.xp.reshape(x, shape)

    def concat(self, xs: list[Array], axis: int = -1) -> Array:
        return self.xp.concat(xs, axis=axis)

    def broadcast(self, x: Array, shape: tuple[int, ...]) -> Array:
        return self.xp.broadcast_to(x, shape)

    def take(self, x: Array, index: Array) -> Array:
        """Rows x[index] for an integer array of any shape: (..., *x.shape[1:])."""
        return self.xp.take(x, index, axis=0)

    def terms(self, x: Array, index: Array, axis: int) -> Array:
        """Entries of x's ``axis`` (< 0): index (*points, b) puts b there and the points in front of all axes."""
        if x.ndim == -axis:  # nothing to move: moving axes takes NumPy as long as a small gradient
            return self.take(x, index)
        return self.moveaxis(self.take(self.moveaxis(x, axis, 0), index), index.ndim - 1, axis)

    # -- what users hand in -------------------------------------------------------------------
    def owns(self, x: Any) -> bool:
        xp = self.xp
        return isinstance(x, getattr(xp, "ndarray", None) or type(xp.zeros(1)))

    def vector(self, x: Any, size: int, name: str) -> Array:
        """``x`` checked to be a finite (..., size) array of this backend; host lists are converted."""
        if isinstance(x, list | tuple | int | float):
            x = self._from_host(x, name)
        if not self.owns(x):
            raise BadInput(
                f"{name} belongs to another backend than the problem",
                measured=f"{type(x).__module__}.{type(x).__qualname__} on {getattr(x, 'device', 'the host')}",
                required=f"an array of backend {self.name!r}",
                advice=f'convert it, refimpl.arrays.backend("{self.name}").asarray({name}), or move the '
                "problem with .to(...)",
            )
        if x.ndim == 0 or x.shape[-1] != size:
            raise BadInput(
                f"{name} has the wrong shape",
                measured=tuple(x.shape),
                required=f"(..., {size})",
                advice="put the vector on the last axis; leading axes are batches",
            )
        return self._checked_numbers(x, name)

    def _from_host(self, x: Any, name: str) -> Array:
        try:
            if _has_truth_values(x):  # which NumPy would count as 0 and 1
                raise TypeError("truth values")
            return self.asarray(x)
        except (TypeError, ValueError) as e:
            raise BadInput(
                f"{name} is not an array of real numbers",
                measured=getattr(e, "measured", e),
                required="a rectangular list of numbers",
                advice="look for a missing entry, a string, a truth value or a complex number in it",
            ) from None

    def _checked_numbers(self, x: Array, name: str) -> Array:
        if str(x.dtype).split(".")[-1] != self.dtype:
            if "int" in str(x.dtype):
                return self.asarray(x)
            raise BadInput(
                f"{name} has the wrong dtype",
                measured=str(x.dtype),
                required=self.dtype,
                advice="float64 is the default; for single precision build the problem from float32 data",
            )
        finite = self.xp.isfinite(x)
        if not bool(self.xp.all(finite)):
            raise BadInput(
                f"{name} is not finite",
                measured=f"{int(self.xp.count_nonzero(~finite))} NaN or infinite entries",
                required="finite numbers",
                advice=f"look at how {name} was computed; too long an upper-level step is the usual cause",
            )
        return x


def backend(name: str | Backend = "numpy", *, dtype: str = "float64", device: str | None = None) -> Backend:
    """The backend of that name; refuses, with what to install or switch on, when it cannot work."""
    if isinstance(name, Backend):
        return name
    from refimpl.arrays import kinds

    try:
        make = kinds.BY_NAME[name]
    except KeyError:
        raise BadInput(
            "no backend of that name",
            measured=name,
            required=", ".join(sorted(kinds.BY_NAME)),
            advice="pick one of the names above",
        ) from None
    if dtype not in ("float64", "float32"):
        raise BadInput(
            "no such precision", measured=dtype, required="float64 or float32", advice="use float64"
        )
    if name == "autograd" and dtype != "float64":
        raise BadInput(
            "autograd differentiates in double precision here",
            measured=dtype,
            required="float64",
            advice="compare single-precision results with derivatives taken in float64",
        )
    made: Backend = make(name, dtype, device)
    return made


def to_numpy(x: Any) -> Any:
    """Host array of any backend's array; midpoints of balls, nearest floats of rationals."""
    import numpy as np

    if type(x) is np.ndarray and x.dtype != object:
        return x
    if type(x).__module__.startswith("cupy"):
        return x.get()
    if type(x).__module__.startswith("array_api_strict"):
        import array_api_strict

        return np.asarray(x.to_device(array_api_strict.Device("CPU_DEVICE")))
    if type(x).__module__.startswith("torch"):
        return x.detach().cpu().numpy()
    if type(x).__module__.startswith("autograd"):
        return np.asarray(x._value)
    out = np.asarray(x)
    if out.dtype == object:
        from refimpl.arrays.kinds import nearest_float

        out = np.asarray([nearest_float(e) for e in out.ravel()], dtype=np.float64).reshape(out.shape)
    return out


def unavailable(what: str, extra: str) -> BackendUnavailable:
    """The error that names the extra to install."""
    return BackendUnavailable(
        f"{what} is not installed",
        measured="its import fails",
        required=f"the extra {extra!r}",
        advice=f"pip install 'refimpl[{extra}]'",
    )


def _has_truth_values(x: Any) -> bool:
    return any(map(_has_truth_values, x)) if isinstance(x, list | tuple) else isinstance(x, bool)
