"""The mean loss of an architecture that autograd differentiates, over images or sequences."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.networks.data import require_mask, terms
from refimpl.networks.losses import output_loss
from refimpl.networks.traced.architecture import Architecture, Kinked, nearest
from refimpl.networks.traced.derivatives import curvature, pullback, pushforward
from refimpl.networks.traced.leading import each, entry, product
from refimpl.objective import Objective
from refimpl.operators import Operator
from refimpl.spaces import Indices, Space
from refimpl.zoo.rows import zero_cross


@dataclass(frozen=True, eq=False)
class TracedLoss(Objective):
    """f(λ, w) = (1/N) Σ_i s_i ℓ_i(w) + (reg/2)‖w‖²; s_i = σ(λ_i) where ``weighted``, else 1.

    ℓ_i is the loss of sample i, its mean over the positions of a sequence. X (..., N, features), integers where it
    holds tokens; y (..., *positions, outputs, N): probabilities of classes (one-hot, or smoothed) for the softmax
    loss, targets for the squared one. ``mask`` (..., units, 1 or N) multiplies the units of the architecture's dropout
    sites, ``pick`` is as in :class:`refimpl.networks.NetworkLoss`.

    Values are there on every backend on which the architecture's operations are; derivatives in w are autograd's, on
    NumPy in double precision, else ``BadInput``. Leading axes are looped over. Each product with the Hessian is a
    pullback through the trace of one gradient, which a single point keeps for all its products.
    """

    architecture: Architecture
    X: Array
    y: Array
    loss: str
    reg: Any
    n: int
    weighted: bool = False
    mask: Array | None = None
    pick: Array | None = None
    backend: Backend = Backend()

    @property
    def d(self) -> int:
        return self.architecture.size

    @property
    def units(self) -> int:
        return self.architecture.units

    @property
    def count(self) -> int:
        """N, the number of samples."""
        return int(self.X.shape[-2])

    @property
    def _own(self) -> dict[str, int]:
        """How many axes of its own each array has, behind the leading ones."""
        return {"X": 2, "y": 2 + len(self.architecture.positions), "mask": 2, "pick": 2}

    @property
    def leading(self) -> tuple[int, ...]:
        masks = () if self.mask is None else self.mask.shape[:-2]
        return tuple(np.broadcast_shapes(self.X.shape[:-2], masks))

    @property
    def lead(self) -> int:
        return len(self.leading)

    @property
    def space(self) -> Space:
        return Indices(self.count)

    # -- samples and masks -------------------------------------------------------------------------------------
    def batch(self, sample: Any) -> Self:
        """The mean over the last axis of the samples, whose other axes go in front of the data's and the mask's."""
        B, index = self.backend, self.backend.indices(self._terms_of(sample))
        axes = {"X": -2, "y": -1}
        if self.mask is not None and self.mask.shape[-1] > 1:
            axes["mask"] = -1
        if self.weighted and self.pick is not None:
            axes["pick"] = -2
        fields = {
            name: terms(B, x := getattr(self, name), self.lead + self._own[name] - x.ndim, index, axis)
            for name, axis in axes.items()
        }
        if self.weighted and self.pick is None:
            host = np.asarray(to_numpy(sample))
            rows = (host[..., None] == np.arange(self.n)).astype(np.float64)
            fields["pick"] = B.asarray(rows.reshape(*host.shape[:-1], *(1,) * self.lead, *rows.shape[-2:]))
        return dataclasses.replace(self, **fields)

    def drop_units(self, mask: Array) -> Self:
        """The loss whose units are multiplied by mask (..., units) too; any numbers are allowed."""
        require_mask(mask, self.units)
        return self._dropped(mask[..., None])

    def drop_each(self, mask: Array) -> Self:
        """As :meth:`drop_units`, with a mask for every sample: (..., N, units)."""
        require_mask(mask, self.units)
        if mask.ndim < 2 or mask.shape[-2] != self.count:
            raise BadInput(
                "not a mask for every sample",
                measured=tuple(mask.shape),
                required=f"(..., {self.count}, {self.units})",
                advice="drop_units takes one mask for all samples",
            )
        return self._dropped(self.backend.mT(mask))

    def _dropped(self, mask: Array) -> Self:
        return dataclasses.replace(self, mask=mask if self.mask is None else self.mask * mask)

    # -- one entry of the leading axes -----------------------------------------------------------------------
    def _entry(self, index: tuple[int, ...]) -> Self:
        """The loss at one index of (..., *leading): its data and mask have no leading axes."""
        if not self.lead:
            return self
        fields = {}
        for name in ("X", "y", "mask"):
            x = getattr(self, name)
            lead = () if x is None else x.shape[: x.ndim - self._own[name]]
            here = index[len(index) - len(lead) :]
            fields[name] = x[(*entry(here, lead), ...)] if lead else x
        return dataclasses.replace(self, pick=None, **fields)

    def _scores(self, w: Array, kinked: Kinked | None = None) -> Array:
        return self.architecture.run(w, self.X, self.mask, kinked)

    def _nearest_kink(self, w: Array) -> np.ndarray:
        kinked: Kinked = []
        self._scores(w, kinked)
        return nearest(kinked)

    def _losses(self, w: Array) -> Array:
        """ℓ of every sample at one w and one entry, (N,)."""
        B = self.backend
        found = output_loss(self.loss).values(B, self._scores(w), self.y)
        for _ in self.architecture.positions:
            found = B.mean(found, axis=0)
        return found

    def _over(self, quantity: Callable[..., Array], own: tuple[int, ...], *vectors: Array) -> Array:
        """A quantity (entry, *plain vectors) at every index of the vectors' and the data's leading axes."""
        return each(self.backend, lambda i, *v: quantity(self._entry(i), *v), own, self.leading, *vectors)

    @cached_property
    def _traced(self) -> TracedLoss:
        """The same on autograd's backend."""
        if self.backend.name == "autograd":
            return self
        if (self.backend.name, self.backend.dtype) != ("numpy", "float64"):
            raise BadInput(
                f"a {type(self.architecture).__name__} network is not differentiated on backend {self.backend.name!r}",
                measured=f"backend {self.backend.name!r}, {self.backend.dtype}",
                required="backend 'numpy' or 'autograd' in float64, on which autograd works",
                advice="take derivatives of f.to('numpy'); with JAX or torch, differentiate f.value by theirs",
            )
        return self.to("autograd")

    # -- weights of the samples ------------------------------------------------------------------------------
    def _mine(self, lam: Array) -> Array:
        """Each sample's entry of λ, (..., N)."""
        return lam if self.pick is None else self.backend.matvec(self.pick, lam)

    def _mine_T(self, x: Array) -> Array:
        """The transpose, (..., N) -> (..., n)."""
        return x if self.pick is None else self.backend.rmatvec(self.pick, x)

    def _shares(self, lam: Array) -> Array:
        """s_i/N, (..., N)."""
        B, N = self.backend, self.count
        return B.sigmoid(self._mine(lam)) / N if self.weighted else (1 + B.zeros((N,))) / N

    def _slopes(self, lam: Array) -> Array:
        """σ'(λ_i)/N = σ(λ_i) σ(−λ_i)/N."""
        B, mine = self.backend, self._mine(lam)
        return B.sigmoid(mine) * B.sigmoid(-mine) / self.count

    # -- the objective ---------------------------------------------------------------------------------------
    def losses(self, w: Array) -> Array:
        """ℓ of every sample, (..., N)."""
        return self._over(lambda f, w: f._losses(w), (self.count,), w)

    def value(self, lam: Array, w: Array) -> Array:
        B = self.backend
        return B.dot(self._shares(lam), self.losses(w)) + self.reg * B.dot(w, w) / 2

    def grad_lam(self, lam: Array, w: Array) -> Array:
        if self.weighted:
            return self._mine_T(self._slopes(lam) * self.losses(w))
        lead = np.broadcast_shapes(lam.shape[:-1], w.shape[:-1], self.leading)
        return self.backend.zeros((*lead, self.n))

    def grad_w(self, lam: Array, w: Array) -> Array:
        return self._pull(self._shares(lam), w) + self.reg * w

    def _pull(self, s: Array, w: Array) -> Array:
        """Σ_i s_i ∇ℓ_i, (..., d)."""
        return self._traced._over(lambda f, s, w: pullback(f._losses, w)[0](s), (self.d,), s, w)

    def hess_ww(self, lam: Array, w: Array) -> Operator:
        f, shares = self._traced, self._shares(lam)
        apply = product(
            self.backend,
            lambda i, s, w: curvature(f._entry(i)._losses, w, s),
            self.d,
            self.leading,
            shares,
            w,
        )
        ridge = self.reg
        return Operator(
            self.backend,
            (self.d, self.d),
            lambda v: apply(v) + ridge * v,
            lambda v: apply(v) + ridge * v,
            self.lead_of(lam, w),
            symmetric=True,
        )

    def cross(self, lam: Array, w: Array) -> Operator:
        """Row i is σ'(λ_i)/N ∇_w ℓ_i."""
        if not self.weighted:
            return zero_cross(self)
        f, slopes, N = self._traced, self._slopes(lam), self.count
        push = product(self.backend, lambda i, w: pushforward(f._entry(i)._losses, w, N), N, self.leading, w)
        return Operator(
            self.backend,
            (self.n, self.d),
            lambda v: self._mine_T(slopes * push(v)),
            lambda u: self._pull(slopes * self._mine(u), w),
            self.lead_of(lam, w),
        )

    # -- for users -----------------------------------------------------------------------------------------------
    def scores(self, w: Array) -> Array:
        """The network's outputs, (..., *positions, outputs, N)."""
        shape = (*self.architecture.positions, self.architecture.outputs, self.count)
        return self._over(lambda f, w: f._scores(w), shape, w)

    def predictions(self, w: Array) -> np.ndarray:
        """The class of the largest output, on the host: (..., *positions, N)."""
        return np.asarray(np.argmax(to_numpy(self.scores(w)), axis=-2))

    def accuracy(self, lam: Array, w: Array) -> np.ndarray:
        """The share of samples, or of their positions, whose prediction is y's likeliest class, (...)."""
        right = self.predictions(w) == np.argmax(to_numpy(self.y), axis=-2)
        return np.asarray(np.mean(right, axis=tuple(range(-1 - len(self.architecture.positions), 0))))

    def kink_distance(self, lam: Array, w: Array, lam_moves: Any = None, w_moves: Any = None) -> np.ndarray:
        """Smallest pre-activation of piecewise linear units, (...) on the host; inf where there are none.

        Units of a residual sum that dropped and inactive units hold at 0 are left out: they do not move. Dropped units
        count and w_moves is not looked at, so this is at most what :class:`refimpl.networks.NetworkLoss` would say.
        """
        host = self if self.backend.name == "numpy" else self.to("numpy")
        return host._over(lambda f, w: f._nearest_kink(w), (), to_numpy(w))
