"""Direct solves, over leading axes, on every backend."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refimpl.arrays.backend import Array, Backend
from refimpl.errors import HypothesisViolated


@dataclass(frozen=True)
class Factor:
    """A factorised square matrix: ``solve(b)`` for A x = b, ``solve_T(b)`` for Aᵀ x = b, b (..., d).

    ``rcond()`` is LAPACK's estimate of the reciprocal condition number in the 1-norm where there is one
    matrix on the host, else computed from the inverse; exactly 1-norm based, an estimate, not a bound.
    """

    solve: Callable[[Array], Array]
    solve_T: Callable[[Array], Array]
    rcond: Callable[[], Array]


def solve_spd(backend: Backend, a: Array, b: Array) -> Array:
    """x with A x = b, A symmetric positive definite (..., d, d); b (..., d).

    Raises ``HypothesisViolated`` when A is not positive definite. Cost d³/3.
    """
    return factor_spd(backend, a).solve(b)


def factor_spd(backend: Backend, a: Array) -> Factor:
    """Cholesky factorisation (exact pivots over the rationals)."""
    if backend.name == "rational":
        require_positive_pivots(a)
        return factor(backend, a)
    if backend.name == "interval":
        return factor(backend, a)
    if backend.name == "numpy" and a.ndim == 2 and a.dtype.kind == "f":
        return _factor_lapack(a)
    lower = _cholesky(backend, a)
    upper = backend.mT(lower)

    def solve(b: Array) -> Array:
        return _general_solve(backend, upper, _general_solve(backend, lower, b))

    return Factor(solve, solve, lambda: _rcond(backend, a))


def factor(backend: Backend, a: Array) -> Factor:
    """LU factorisation of a general square matrix."""
    if backend.name in ("rational", "interval"):
        return Factor(
            lambda b: _solve_flint(backend, a, b),
            lambda b: _solve_flint(backend, backend.mT(a), b),
            lambda: _rcond(backend, a),
        )
    if backend.name == "numpy" and a.ndim == 2 and a.dtype.kind == "f":
        import scipy.linalg as sl

        lu, pivots, info = sl.lapack.dgetrf(a) if a.dtype.itemsize == 8 else sl.lapack.sgetrf(a)
        if info > 0:
            raise _singular(0.0)

        def solve(b: Array, trans: int = 0) -> Array:
            flat = b.reshape(-1, b.shape[-1])
            return sl.lu_solve((lu, pivots), flat.T, trans=trans, check_finite=False).T.reshape(b.shape)

        return Factor(solve, lambda b: solve(b, 1), lambda: _rcond(backend, a))
    return Factor(
        lambda b: _general_solve(backend, a, b),
        lambda b: _general_solve(backend, backend.mT(a), b),
        lambda: _rcond(backend, a),
    )


def _factor_lapack(a: Array) -> Factor:
    import numpy as np
    from scipy.linalg import blas, cho_solve, lapack

    kind = "d" if a.dtype.itemsize == 8 else "s"
    trsv = getattr(blas, kind + "trsv")
    potrf, pocon, lange = (getattr(lapack, kind + name) for name in ("potrf", "pocon", "lange"))
    # a.T is Fortran ordered, so LAPACK copies it in one pass; the matrix is symmetric
    c, info = potrf(a.T, lower=1, clean=0)
    if info != 0:
        raise not_positive(f"pivot {info} of {a.shape[-1]} is not positive", np.linalg.eigvalsh(a)[0])

    def solve(b: Array) -> Array:
        if b.ndim == 1:  # for one vector the vector routine takes a third of the time
            return trsv(c, trsv(c, b, lower=1), lower=1, trans=1)
        flat = b.reshape(-1, b.shape[-1])
        return cho_solve((c, True), flat.T, check_finite=False).T.reshape(b.shape)

    @functools.cache  # the estimate and the result both ask for it
    def rcond() -> float:
        return float(pocon(c, lange("1", a.T), uplo="L")[0])

    return Factor(solve, solve, rcond)


def _cholesky(backend: Backend, a: Array) -> Array:
    try:
        lower = backend.xp.linalg.cholesky(a)
    except Exception as e:  # each library has its own LinAlgError
        if "LinAlgError" not in type(e).__name__:
            raise
        raise not_positive(str(e), None) from None
    if backend.name in ("jax", "cupy") and not bool(backend.xp.all(backend.xp.isfinite(lower))):
        raise not_positive("Cholesky returned NaN", None)
    return lower


def _general_solve(backend: Backend, a: Array, b: Array) -> Array:
    """One right-hand side per matrix; leading axes of both broadcast."""
    try:
        return backend.xp.linalg.solve(a, b[..., None])[..., 0]
    except Exception as e:
        if "LinAlgError" not in type(e).__name__:
            raise
        raise _singular(0.0) from None


def _solve_flint(backend: Backend, a: Array, b: Array) -> Array:
    import flint
    import numpy as np

    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-1])
    d = a.shape[-1]
    a, b = np.broadcast_to(a, (*lead, d, d)), np.broadcast_to(b, (*lead, d))
    kind: Any = flint.fmpq_mat if backend.name == "rational" else flint.arb_mat
    out = np.empty((*lead, d), dtype=object)
    for index in np.ndindex(*lead):
        try:
            x = kind(a[index].tolist()).solve(kind([[e] for e in b[index].tolist()]))
        except ZeroDivisionError:
            raise _singular("0 (exact)" if backend.exact else "not separated from 0") from None
        out[index] = [x[i, 0] for i in range(d)]
    return out


def require_positive_pivots(a: Array) -> None:
    """Exact LDLᵀ over the rationals: positive definite iff every pivot is positive."""
    import numpy as np

    for index in np.ndindex(*a.shape[:-2]):
        m = a[index].copy()
        for i in range(m.shape[0]):
            if not m[i, i] > 0:
                raise not_positive(f"exact pivot {i} of {m.shape[0]}", m[i, i])
            m[i + 1 :, i:] = m[i + 1 :, i:] - np.outer(m[i + 1 :, i] / m[i, i], m[i, i:])


def _rcond(backend: Backend, a: Array) -> Array:
    import numpy as np

    from refimpl.arrays.backend import to_numpy

    rcond = 1 / np.linalg.cond(to_numpy(a), 1)  # 0 where the matrix is singular in floating point
    return float(rcond) if a.ndim == 2 or backend.exact else backend.asarray(rcond)


def not_positive(how: str, smallest: Any) -> HypothesisViolated:
    """The error for a Hessian that is not positive definite; ``smallest`` is None where it is not known."""
    measured = how if smallest is None else f"{how}; smallest eigenvalue or pivot {smallest}"
    return HypothesisViolated(
        "the lower-level Hessian is not positive definite",
        measured=measured,
        required="strong convexity: every eigenvalue of the Hessian in w above 0",
        advice="move to a minimiser, or add a ridge term; where G has many minimisers improved_hypergradient takes "
        "the one that is best for F; a non-symmetric Jacobian needs a FixedPointProblem",
    )


def _singular(smallest: Any) -> HypothesisViolated:
    return HypothesisViolated(
        "the linear system is singular",
        measured=f"pivot {smallest}",
        required="an invertible Jacobian of the lower-level equation",
        advice="the adjoint is not unique here; remove the flat directions or regularise them",
    )
