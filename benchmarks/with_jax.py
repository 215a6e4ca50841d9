"""The same problem in JAX: derivatives by jax.grad and jax.hessian, everything under jit; and jaxopt's implicit one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.by_hand import Task

Run = Callable[[], Any]


def _losses(p: Task) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import jax
    import jax.numpy as jnp

    X, Y, Xv, Yv = map(jnp.asarray, (p.X, p.Y, p.Xv, p.Yv))

    def cross_entropy(Z: Any, Y: Any) -> Any:
        return jax.nn.logsumexp(Z, 1) - (Z * Y).sum(1)

    def lower(w: Any, lam: Any) -> Any:
        weighted = jax.nn.sigmoid(lam) * cross_entropy(X @ w.reshape(p.shape), Y)
        return weighted.mean() + 0.5 * p.reg * (w * w).sum()

    def upper(w: Any) -> Any:
        return cross_entropy(Xv @ w.reshape(p.shape), Yv).mean()

    return lower, upper


def _hypergradient(p: Task) -> Callable[..., Any]:
    import jax

    lower, upper = _losses(p)

    def at(w: Any, lam: Any) -> Any:
        factor = jax.scipy.linalg.cho_factor(jax.hessian(lower)(w, lam))
        v = jax.scipy.linalg.cho_solve(factor, jax.grad(upper)(w))
        return -jax.vjp(lambda x: jax.grad(lower)(w, x), lam)[1](v)[0]

    return at


def dense_at(p: Task, w: np.ndarray) -> Run:
    """jax.hessian, Cholesky, and one vector-Jacobian product, at w*."""
    import jax
    import jax.numpy as jnp

    run, w, lam = jax.jit(_hypergradient(p)), jnp.asarray(w), jnp.asarray(p.lam)
    return lambda: np.asarray(run(w, lam))


def newton(p: Task, tol: float) -> Run:
    """The same after Newton from 0, in one compiled loop."""
    import jax
    import jax.numpy as jnp

    lower, _ = _losses(p)
    gradient, at = jax.grad(lower), _hypergradient(p)

    @jax.jit
    def run(lam: Any) -> Any:
        def body(w: Any) -> Any:
            factor = jax.scipy.linalg.cho_factor(jax.hessian(lower)(w, lam))
            return w - jax.scipy.linalg.cho_solve(factor, gradient(w, lam))

        w = jax.lax.while_loop(lambda w: jnp.abs(gradient(w, lam)).max() > tol, body, jnp.zeros(p.size))
        return at(w, lam)

    lam = jnp.asarray(p.lam)
    return lambda: np.asarray(run(lam))


def jaxopt_lbfgs(p: Task, tol: float, linear_tol: float) -> Run:
    """jaxopt's LBFGS from 0, differentiated implicitly with its conjugate gradients."""
    import jax
    import jax.numpy as jnp
    import jaxopt

    lower, upper = _losses(p)
    cg = functools.partial(jaxopt.linear_solve.solve_cg, tol=linear_tol, maxiter=2000)
    solver = jaxopt.LBFGS(lower, maxiter=2000, tol=tol, implicit_diff_solve=cg)
    run = jax.jit(jax.grad(lambda lam: upper(solver.run(jnp.zeros(p.size), lam).params)))
    lam = jnp.asarray(p.lam)
    return lambda: np.asarray(run(lam))
