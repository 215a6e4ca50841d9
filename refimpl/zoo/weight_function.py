"""Sample weights as a function of the samples' losses, ω_i = V(ℓ_i(w); λ): Meta-Weight-Net's lower level, as a map.

V(ℓ; λ) = σ(Σ_k c_k tanh(a_k ℓ + b_k) + e) is a network of one hidden layer, λ = (a, b, c, e). In place of tanh Shu
et al. (2019) have ReLU, which has no derivative at 0. The lower level is the step Φ = w − η ∇_wG(ω, w) with
G(ω, w) = (1/N) Σ_i ω_i ℓ_i(w) + (reg/2)‖w‖² and the weights of that w; the upper one the mean loss of clean samples.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.objective import Made, Map
from refimpl.operators import Operator
from refimpl.problem import FixedPointProblem
from refimpl.zoo import weighted_softmax
from refimpl.zoo.weighted_softmax import WeightedSoftmax, digits_data


@dataclass(frozen=True, eq=False)
class WeightFunctionMap(Made, Map):
    """Φ(λ, w) = w − η ((1/N) Σ_i V(ℓ_i(w); λ) ∇ℓ_i(w) + reg w), n = 3 hidden + 1; a mean over samples.

    data: the weighted loss, a weight for each of its own N samples: n = N, kind "identity".
    ∂_wΦ is symmetric: Φ is the gradient step on (1/N) Σ_i ∫₀^{ℓ_i} V + (reg/2)‖w‖². Where V falls, as it does to
    leave out what is mislabelled, that need not be convex, nor Φ a contraction: ``problem.check`` measures it.
    Cost of a value: two gradients of the loss and 6 N hidden operations; of a product: a Hessian product and two with
    the cross derivative.
    """

    data: WeightedSoftmax
    hidden: int
    step: Any
    backend: Backend = Backend()

    @property
    def n(self) -> int:
        return 3 * self.hidden + 1

    @property
    def f(self) -> WeightedSoftmax:
        return self.data

    def batch(self, sample: Any) -> WeightFunctionMap:
        """A sample drawn twice has two weights, which are equal."""
        drawn = self.data.batch(sample)
        weights = dataclasses.replace(drawn.weights, pick=None)
        return dataclasses.replace(self, data=dataclasses.replace(drawn, n=drawn.count, weights=weights))

    def _layers(self, lam: Array, w: Array) -> tuple[Array, Array, Array, Array, Array]:
        """ℓ (..., N, 1), a and c (..., 1, hidden), tanh (..., N, hidden) and what σ is taken of, (..., N)."""
        B, h = self.backend, self.hidden
        losses = self.data.losses(w)[..., None]
        a, b, c = (lam[..., None, k * h : (k + 1) * h] for k in range(3))
        t = B.tanh(a * losses + b)
        return losses, a, c, t, B.sum(c * t, -1) + lam[..., -1:]

    def weights(self, lam: Array, w: Array) -> Array:
        """ω_i = V(ℓ_i(w); λ), (..., N)."""
        return self.backend.sigmoid(self._layers(lam, w)[-1])

    def value(self, lam: Array, w: Array) -> Array:
        return w - self.step * self.data.grad_w(self.weights(lam, w), w)

    def d_w(self, lam: Array, w: Array) -> Operator:
        """I − η (∇²_wwG + Cᵀ ∂_wω) with C = ∇²_ωwG, whose row i is ∇ℓ_i/N: ∂_wω = diag(N V'(ℓ_i)) C."""
        B = self.backend
        _, a, c, t, u = self._layers(lam, w)
        omega = B.sigmoid(u)
        slopes = omega * B.sigmoid(-u) * B.sum(c * (1 - t * t) * a, -1)
        hess, cross = self.data.hess_ww(omega, w), self.data.cross(omega, w)

        def apply(v: Array) -> Array:
            moved = self.data.count * slopes * (cross @ v)
            return v - self.step * (hess @ v + cross.T @ moved)

        return Operator(B, (self.d, self.d), apply, apply, omega.ndim - 1, symmetric=True)

    def d_lam(self, lam: Array, w: Array) -> Operator:
        """−η Cᵀ ∂_λω, the rows of ∂_λω being σ'(u_i) (c s ℓ_i, c s, t, 1) with t = tanh and s = 1 − t²."""
        B = self.backend
        losses, _, c, t, u = self._layers(lam, w)
        omega = B.sigmoid(u)
        inner = c * (1 - t * t)
        rows = B.concat([inner * losses, inner, t, 1 + 0 * u[..., None]])
        by_lam = (omega * B.sigmoid(-u))[..., None] * rows
        cross = self.data.cross(omega, w)

        def apply(v: Array) -> Array:
            return -self.step * (cross.T @ B.matvec(by_lam, v))

        def apply_T(v: Array) -> Array:
            return -self.step * B.rmatvec(by_lam, cross @ v)

        return Operator(B, (self.d, self.n), apply, apply_T, omega.ndim - 1)


def problem(
    X: Any,
    y: Any,
    X_val: Any,
    y_val: Any,
    *,
    classes: int,
    hidden: int,
    step: float,
    reg: float,
    seed: int = 0,
    name: str = "weight function",
) -> FixedPointProblem:
    """Training samples X (N, features), y weighted by their losses, and a clean validation set.

    λ begins at random, from ``seed``, with e = 0: weights about 1/2. step: η; reg > 0. Raises ``BadInput``.

    >>> task = problem([[1, 0], [0, 1]], [0, 1], [[1, 2]], [1], classes=2, hidden=3, step=0.5, reg=0.1)
    >>> task.n, task.d
    (10, 4)
    """
    if not (isinstance(hidden, int) and hidden >= 1 and 0 < step < np.inf and reg > 0):
        raise BadInput(
            "no such weight function",
            measured=f"hidden = {hidden}, step = {step}, reg = {reg}",
            required="a whole number hidden >= 1, 0 < step < inf, reg > 0",
            advice="one hidden unit makes a weight that rises or falls with the loss",
        )
    free = weighted_softmax.problem(X, y, X_val, y_val, classes=classes, reg=reg, weights="identity")
    assert isinstance(free.lower, WeightedSoftmax)
    phi = WeightFunctionMap(free.lower, hidden, float(step))
    upper = dataclasses.replace(free.upper, n=phi.n)  # type: ignore[type-var]  # SoftmaxLoss, a dataclass
    initial = np.append(np.random.default_rng(seed).standard_normal(3 * hidden), 0.0)
    initial[2 * hidden :] /= hidden**0.5  # Σ c_k t_k of the order of 1
    return FixedPointProblem(upper, phi, name=name, initial=initial)


def digits(
    *, hidden: int = 8, step: float = 0.1, reg: float = 0.01, seed: int = 0, **options: Any
) -> FixedPointProblem:
    """scikit-learn's digits; the other options are those of ``weighted_softmax.digits_data``.

    >>> small = digits(train=40, validation=40, classes=(1, 4, 7), pool=2)
    >>> small.n, small.d
    (25, 48)
    """
    data = digits_data(seed=seed, **options)
    return problem(
        data.X,
        data.y,
        data.X_val,
        data.y_val,
        classes=data.classes,
        hidden=hidden,
        step=step,
        reg=reg,
        seed=seed,
        name="weight function on digits",
    )
