"""One class per kind of array, each differing from :class:`Backend` where its library does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refimpl.arrays.backend import Array, Backend, to_numpy, unavailable
from refimpl.arrays.balls import Balls, balls
from refimpl.errors import BackendUnavailable, BadInput


@dataclass(frozen=True)
class Cupy(Backend):
    """CuPy arrays on the current GPU."""

    module = "cupy"

    def __post_init__(self) -> None:
        try:
            import cupy
        except ImportError:
            raise unavailable("CuPy", "cuda12") from None
        try:
            cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as e:
            raise BackendUnavailable(
                "CuPy finds no usable GPU",
                measured=str(e),
                required="a CUDA device and driver",
                advice="use .to('numpy'), or run on a machine with a GPU",
            ) from None

    def concat(self, xs: list[Array], axis: int = -1) -> Array:
        return self.xp.concatenate(xs, axis=axis)


@dataclass(frozen=True)
class Jax(Backend):
    """JAX arrays; refuses to start without x64."""

    module = "jax.numpy"

    def __post_init__(self) -> None:
        try:
            import jax
        except ImportError:
            raise unavailable("JAX", "bench") from None
        if self.dtype == "float64" and not jax.config.jax_enable_x64:
            raise BackendUnavailable(
                "JAX would silently compute in float32",
                measured="jax_enable_x64 = False",
                required="jax_enable_x64 = True",
                advice='call jax.config.update("jax_enable_x64", True) before any array is made',
            )

    def owns(self, x: Any) -> bool:
        import jax

        return isinstance(x, jax.Array)


@dataclass(frozen=True)
class _Standard(Backend):
    """Where ``take`` is no more than the array-API standard asks for: one axis of indices."""

    def take(self, x: Array, index: Array) -> Array:
        flat = self.xp.take(x, self.reshape(index, (-1,)), axis=0)
        return self.reshape(flat, (*index.shape, *x.shape[1:]))


@dataclass(frozen=True)
class Torch(_Standard):
    """PyTorch tensors, through array_api_compat."""

    module = "array_api_compat.torch"

    def __post_init__(self) -> None:
        try:
            import torch
        except ImportError:
            raise unavailable("PyTorch", "bench") from None
        del torch

    def owns(self, x: Any) -> bool:
        import torch

        return isinstance(x, torch.Tensor)


@dataclass(frozen=True)
class Strict(_Standard):
    """array_api_strict on a device that refuses implicit conversion, as a GPU does."""

    module = "array_api_strict"

    def __post_init__(self) -> None:
        try:
            import array_api_strict
        except ImportError:
            raise unavailable("array_api_strict", "test") from None
        del array_api_strict
        if self.device is None:
            object.__setattr__(self, "device", "device1")

    @property
    def _on(self) -> dict[str, Any]:
        return {"device": self.xp.Device(self.device)}

    def owns(self, x: Any) -> bool:
        return isinstance(x, type(self.xp.zeros(1))) and x.device == self.xp.Device(self.device)


@dataclass(frozen=True)
class Autograd(Backend):
    """NumPy arrays and autograd's boxes: any formula becomes differentiable."""

    module = "autograd.numpy"

    def owns(self, x: Any) -> bool:
        import numpy as np
        from autograd.tracer import isbox

        return isbox(x) or isinstance(x, np.ndarray)

    def vector(self, x: Any, size: int, name: str) -> Array:
        from autograd.tracer import isbox

        return x if isbox(x) else super().vector(x, size, name)

    def asarray(self, x: Any) -> Array:
        return backend_numpy.asarray(x)

    def indices(self, x: Any) -> Array:
        return backend_numpy.indices(x)

    def concat(self, xs: list[Array], axis: int = -1) -> Array:
        return self.xp.concatenate(xs, axis=axis)

    def broadcast(self, x: Array, shape: tuple[int, ...]) -> Array:
        return x + self.zeros(shape)  # its broadcast_to cannot add axes to a box

    def take(self, x: Array, index: Array) -> Array:
        return x[index]

    def _shift(self, z: Array, axis: int) -> Array:
        from autograd.tracer import isbox

        while isbox(z):  # the shift cancels, so it need not be differentiated
            z = z._value
        return z.max(axis=axis, keepdims=True)

    def _real(self, x: Array) -> Array:
        return x


@dataclass(frozen=True)
class _Objects(Backend):
    """NumPy object arrays of python-flint numbers."""

    module = "numpy"

    def __post_init__(self) -> None:
        try:
            import flint
        except ImportError:
            raise BackendUnavailable(
                "python-flint is not installed",
                measured="its import fails",
                required="the core dependency python-flint",
                advice="pip install python-flint; without it results are exact or estimated, never bounded",
            ) from None
        del flint

    def _number(self, x: Any) -> Any:
        raise AssertionError("abstract")

    def _is_finite_number(self, x: Any) -> bool:
        raise AssertionError("abstract")

    def asarray(self, x: Any) -> Array:
        import numpy as np

        if not self.owns(x):
            x = np.asarray(x) if isinstance(x, list | tuple) else to_numpy(x)
        out = np.empty(x.size, dtype=object)
        out[:] = [self._number(e) for e in x.ravel().tolist()]
        return out.reshape(x.shape)

    def scalar(self, x: Any) -> Any:
        return self._number(x)

    def zeros(self, shape: tuple[int, ...]) -> Array:
        import numpy as np

        return np.full(shape, self._number(0.0), dtype=object)  # one number, which nothing alters

    def eye(self, n: int) -> Array:
        import numpy as np

        return self.asarray(np.eye(n))

    def owns(self, x: Any) -> bool:
        import numpy as np

        return isinstance(x, np.ndarray) and x.dtype == object

    def vector(self, x: Any, size: int, name: str) -> Array:
        import numpy as np

        if isinstance(x, np.ndarray) and x.dtype != object:
            raise BadInput(
                f"{name} belongs to another backend than the problem",
                measured=f"numpy array of dtype {x.dtype}",
                required=f"an object array of backend {self.name!r}",
                advice=f'convert it exactly: refimpl.arrays.backend("{self.name}").asarray({name})',
            )
        return super().vector(x, size, name)

    def _checked_numbers(self, x: Array, name: str) -> Array:
        wrong = [e for e in x.ravel().tolist() if not self._is_finite_number(e)]
        if wrong:
            raise BadInput(
                f"{name} does not hold finite numbers of backend {self.name!r}",
                measured=f"{len(wrong)} others, the first {wrong[0]!r} of {type(wrong[0]).__name__}",
                required="python-flint's fmpq (rational) or finite arb (interval) throughout",
                advice=f'convert it: refimpl.arrays.backend("{self.name}").asarray({name})',
            )
        return x

    def _real(self, x: Array) -> Array:
        return x


def _no(what: str) -> Callable[..., Array]:
    def refuse(self: Backend, *args: Any, **kwargs: Any) -> Array:
        raise BadInput(
            f"{what} is not available on backend {self.name!r}",
            measured=what,
            required="formulas that are polynomial"
            if self.exact
            else "formulas without comparisons: on balls they may not decide",
            advice="use the floating-point backends for this problem"
            + (", or 'interval' for enclosures" if self.exact else ""),
        )

    return refuse


@dataclass(frozen=True)
class Rational(_Objects):
    """Exact rationals: evaluates what is polynomial, decides every comparison."""

    exact = True
    eps = 0.0  # a constant stands in for the base class's property

    def _number(self, x: Any) -> Any:
        import flint

        if isinstance(x, flint.fmpq):
            return x
        if isinstance(x, float):
            if x - x != 0:
                raise BadInput(
                    "a rational needs a finite number",
                    measured=x,
                    required="no NaN and no infinity",
                    advice="look at how it was computed",
                )
            return flint.fmpq(*x.as_integer_ratio())
        if hasattr(x, "numerator"):
            return flint.fmpq(int(x.numerator), int(x.denominator))
        raise _not_a_number(x, "an int, float, Fraction or fmpq")

    def _is_finite_number(self, x: Any) -> bool:
        import flint

        return isinstance(x, flint.fmpq)

    exp = _no("exp")
    log = _no("log")
    tanh = _no("tanh")
    sqrt = _no("a square root")
    sigmoid = _no("sigmoid")
    softplus = _no("softplus")
    logcosh = _no("logcosh")
    softmax = _no("softmax")
    logsumexp = _no("logsumexp")


@dataclass(frozen=True)
class Interval(_Objects):
    """Balls of python-flint at its current working precision: every result encloses the exact one."""

    ordered = False

    @property
    def eps(self) -> float:
        import flint

        return float(2.0 ** (1 - flint.ctx.prec))

    def _number(self, x: Any) -> Any:
        import flint

        if isinstance(x, flint.arb):
            return x
        if hasattr(x, "numerator"):
            x = flint.fmpq(int(x.numerator), int(x.denominator))
        if not isinstance(x, float | flint.fmpq):
            raise _not_a_number(x, "an int, float, Fraction, fmpq or arb")
        return flint.arb(x)

    def _is_finite_number(self, x: Any) -> bool:
        import flint

        return isinstance(x, flint.arb) and x.is_finite()

    def asarray(self, x: Any) -> Array:
        return balls(super().asarray(x))

    def comparable(self, x: Any) -> Any:
        return x.decided() if isinstance(x, Balls) else x

    def sigmoid(self, x: Array) -> Array:
        return 1 / (1 + self.exp(-x))

    def softplus(self, x: Array) -> Array:
        return self.xp.log1p(self.exp(x))

    def logcosh(self, x: Array) -> Array:
        return self.log((self.exp(x) + self.exp(-x)) / 2)

    def _shift(self, z: Array, axis: int) -> Array:
        """Any shift is exact; the largest midpoint keeps exp in range."""
        return self.asarray(to_midpoint(z).max(axis=axis, keepdims=True))

    where = _no("where")


def _not_a_number(x: Any, required: str) -> BadInput:
    return BadInput(
        "not a number that converts exactly",
        measured=f"{x!r} of {type(x).__name__}",
        required=required,
        advice="convert it first",
    )


def to_midpoint(x: Array) -> Any:
    """Float midpoints of an array of balls."""
    import numpy as np

    return np.asarray([float(e.mid()) for e in x.ravel()]).reshape(x.shape)


def nearest_float(x: Any) -> float:
    """The float64 nearest to a rational, or to the midpoint of a ball."""
    if hasattr(x, "mid"):
        return float(x.mid())
    if hasattr(x, "p"):
        from fractions import Fraction

        return float(Fraction(int(x.p), int(x.q)))
    return float(x)


backend_numpy = Backend()

BY_NAME: dict[str, type[Backend]] = {
    "numpy": Backend,
    "cupy": Cupy,
    "jax": Jax,
    "torch": Torch,
    "strict": Strict,
    "autograd": Autograd,
    "rational": Rational,
    "interval": Interval,
}
