"""Data hyper-cleaning by softmax regression: training sample i has a weight ω_i(λ), learnt on clean data.

lower G(λ, w) = (1/N) Σ_i ω_i ℓ_i(w) + (reg/2)‖w‖²; upper F(w) = mean of ℓ over the validation samples. The weights
are σ(λ_i), or λ_i themselves. Without a ridge the minimisers of G are an affine set, among which a strongly convex F,
with a ridge of its own, chooses (improved-bilevel, (3)).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from refimpl.arrays.backend import Array
from refimpl.bounds import Region
from refimpl.datasets import corrupt_labels, load_digits
from refimpl.errors import BadInput
from refimpl.operators import Operator
from refimpl.problem import BilevelProblem
from refimpl.zoo.rows import require_same_features, samples
from refimpl.zoo.softmax import SoftmaxLoss, one_hot
from refimpl.zoo.weights import SIGMOID, Kind, SampleWeights, WeightBounds, domain, initial


@dataclass(frozen=True, eq=False)
class WeightedSoftmax(SoftmaxLoss):
    """G(λ, w) = (1/N) Σ_i ω_i(λ) ℓ_i(w) + (reg/2)‖w‖² with λ ∈ R^N."""

    weights: SampleWeights = SIGMOID

    def batch(self, sample: Any) -> Self:
        weights = self.weights.batch(self._terms_of(sample), n=self.n, lead=self.lead)
        return dataclasses.replace(super().batch(sample), weights=weights)

    def _shares(self, lam: Array) -> Array:
        return self.weights.value(lam) / self.count

    def _outer(self, p: Array, shares: Array) -> Array:
        if self.weights.kind == "sigmoid":
            return super()._outer(p, shares)
        outer = self._columns(p * shares) @ self.backend.mT(self._columns(p))  # a weight < 0 has no root
        return (outer + self.backend.mT(outer)) / 2

    def _slopes(self, lam: Array) -> Array:
        """ω'_i/N."""
        return self.weights.slope(lam) / self.count

    def grad_lam(self, lam: Array, w: Array) -> Array:
        return self.weights.own_T(self._slopes(lam) * self.losses(w))

    def cross(self, lam: Array, w: Array) -> Operator:
        """Row i is ω'_i/N (p_i − y_i) ⊗ x_i."""
        B, weights = self.backend, self.weights
        scaled = self.excess(w) * self._slopes(lam)[..., None, :]

        def apply(v: Array) -> Array:
            return weights.own_T(B.sum(scaled * self._scores(v), -2))

        def apply_T(u: Array) -> Array:
            return self._flat((scaled * weights.own(u)[..., None, :]) @ self.X)

        def assemble() -> Array:
            return weights.rows(B.mT(self._columns(scaled)))

        return Operator(B, (self.n, self.d), apply, apply_T, self.lead_of(lam, w), assemble)

    def weight_bounds(self, region: Region) -> WeightBounds:
        return self.weights.bounds(region)


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class Cleaning:
    """Data of a hyper-cleaning task; ``corrupted`` (N,) marks the training labels ``y`` that are wrong."""

    X: np.ndarray
    y: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray
    classes: int
    corrupted: np.ndarray


def problem(
    X: Any,
    y: Any,
    X_val: Any,
    y_val: Any,
    *,
    classes: int,
    reg: float,
    weights: Kind = "sigmoid",
    singular: bool = False,
    reg_upper: float = 0.0,
    smoothing: float = 0.0,
    name: str = "hyper-cleaning",
) -> BilevelProblem:
    """Hyper-cleaning of any data: X (N, features), y (N,) in 0 … classes − 1, and a clean validation set.

    Parameters
    ----------
    reg : the lower level's strong convexity. 0 is for ``singular``, which says that the improved model is meant, and
        for ``weights="identity"``, with methods that only step (L2RW); exact results refuse its singular Hessian.
    weights : "sigmoid": ω_i = σ(λ_i), any λ. "identity": ω_i = λ_i on the set λ >= 0 (λ > 0 where ``singular``).
        λ begins where every weight is 1/2.
    singular : no ridge. The minimisers W of G are W* + V, V = equal shifts of all classes plus rows in null(X); F
        chooses among them, and is strongly convex with modulus ``reg_upper`` > 0. They exist if every class has a
        share of every label, which ``smoothing`` > 0 gives.
    reg_upper : the ridge of F.
    smoothing : a training label is one-hot times 1 − smoothing plus smoothing/classes for every class.

    Raises ``BadInput``.

    >>> task = problem([[1, 0], [0, 1], [1, 1]], [0, 1, 1], [[1, 2]], [1], classes=2, reg=0.1)
    >>> task.n, task.d
    (3, 4)
    """
    _require_ridges(reg, reg_upper, smoothing, singular, weights)
    X, y = samples(X, y, "training")
    X_val, y_val = samples(X_val, y_val, "validation")
    require_same_features(X, X_val)
    n, of_samples = len(X), SampleWeights(weights)
    hot = one_hot(y, classes)
    share = np.rint(smoothing / classes * 2**53) / 2**53  # on this grid a label sums to 1 without rounding
    labels = (1 - classes * share) * hot + share
    upper = SoftmaxLoss(X_val, one_hot(y_val, classes), float(reg_upper), n)
    lower = WeightedSoftmax(X, labels, float(reg), n, weights=of_samples)
    inside = domain(of_samples, zero=not singular)
    return BilevelProblem(upper, lower, inside, name, initial(of_samples, n))


def _require_ridges(reg: float, reg_upper: float, smoothing: float, singular: bool, weights: Kind) -> None:
    if not (0 <= reg_upper < np.inf and 0 <= smoothing < 1):
        raise BadInput(
            "no such ridge or smoothing",
            measured=f"reg_upper = {reg_upper}, smoothing = {smoothing}",
            required="0 <= reg_upper < inf, 0 <= smoothing < 1",
            advice="0 leaves either out",
        )
    if not singular and not (0 < reg < np.inf or (reg == 0 and weights == "identity")):
        raise BadInput(
            "the lower level would not be strongly convex",
            measured=f"reg = {reg}",
            required="0 < reg < inf",
            advice="without a ridge the Hessian is singular: the loss ignores equal shifts of all classes. If the "
            "improved model is meant, say singular=True; methods that only step take weights='identity'",
        )
    if singular and not (reg == 0 and reg_upper > 0 and smoothing > 0):
        raise BadInput(
            "the improved model needs a lower level that has minimisers, and an upper level that chooses one",
            measured=f"reg = {reg}, reg_upper = {reg_upper}, smoothing = {smoothing}",
            required="reg = 0, reg_upper > 0 and smoothing > 0",
            advice="data that a line separates have no minimiser where a label is certain: smooth the labels",
        )


def digits_data(
    *,
    train: int = 500,
    validation: int = 500,
    corrupted: float = 0.3,
    seed: int = 0,
    classes: Sequence[int] = tuple(range(10)),
    pool: int = 1,
) -> Cleaning:
    """scikit-learn's digits, shuffled, split, and a share of the training labels changed to a wrong class.

    ``classes`` keeps these digits only, numbered in that order; ``pool`` averages pool x pool pixels of 8 x 8.
    """
    data, kept = load_digits(), list(classes)
    if pool not in (1, 2, 4, 8) or not set(kept) <= set(range(10)) or len(set(kept)) < max(len(kept), 2):
        raise BadInput(
            "no such selection of digits",
            measured=f"classes = {tuple(kept)}, pool = {pool}",
            required="two or more different digits of 0 … 9; pool 1, 2, 4 or 8",
            advice="pool divides the 8 pixels of a side",
        )
    number = np.full(10, -1)
    number[kept] = np.arange(len(kept))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data.y))
    order = order[number[data.y[order]] >= 0]
    if not (train >= 1 and validation >= 1 and train + validation <= order.size):
        raise BadInput(
            "the split does not fit the data",
            measured=f"{train} + {validation} of {order.size} samples",
            required="two disjoint sets of at least one sample",
            advice="ask for fewer samples, or keep more classes",
        )
    first, second = order[:train], order[train : train + validation]
    side = 8 // pool
    X = data.X.reshape(-1, side, pool, side, pool).mean(axis=(2, 4)).reshape(-1, side * side)
    y, wrong = corrupt_labels(number[data.y[first]], corrupted, len(kept), rng)
    return Cleaning(X[first], y, X[second], number[data.y[second]], len(kept), wrong)


def digits(
    *,
    reg: float = 0.01,
    weights: Kind = "sigmoid",
    singular: bool = False,
    reg_upper: float = 0.0,
    smoothing: float = 0.0,
    **options: Any,
) -> BilevelProblem:
    """Hyper-cleaning of scikit-learn's digits; the other options are those of :func:`digits_data`.

    >>> small = digits(train=40, validation=40, classes=(1, 4, 7), pool=2)
    >>> small.n, small.d
    (40, 48)
    """
    data, said = digits_data(**options), ", ".join(f"{k}={v}" for k, v in options.items())
    return problem(
        data.X,
        data.y,
        data.X_val,
        data.y_val,
        classes=data.classes,
        reg=reg,
        weights=weights,
        singular=singular,
        reg_upper=reg_upper,
        smoothing=smoothing,
        name=f"hyper-cleaning of digits ({said})",
    )
