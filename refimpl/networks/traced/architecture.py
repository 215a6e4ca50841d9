"""What every architecture that autograd differentiates says of itself: named parameters, dropout sites, one pass."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.networks.activations import activation
from refimpl.networks.mlp import require_length
from refimpl.objective import Movable
from refimpl.spaces import Bernoulli


@dataclass(frozen=True)
class Block:
    """Parameters that belong together: ``shape`` of the array, at random normal with variance gain²/``inputs``.

    ``bias``: the last column is a bias, at random 0. ``constant``: what all entries are at random instead.
    ``rows``: each row is a filter of its own, an output channel, and a random bias is drawn as the weights are: at 0 it
    would put every unit that sees a blank part of an image on its kink. Else the whole block is one filter.
    """

    name: str
    shape: tuple[int, ...]
    inputs: int = 1
    bias: bool = False
    constant: float | None = None
    rows: bool = False


@dataclass(frozen=True)
class Site:
    """A place of dropout: a mask of this shape, one row of units in C order, times the samples' axis behind it."""

    name: str
    shape: tuple[int, ...]

    @property
    def units(self) -> int:
        return math.prod(self.shape)


# Pre-activations (…, N) before kinked activations, and, on the host, which of them stand still at 0.
Kinked = list[tuple[Array, Any]]


class Architecture(Movable, ABC):
    """A network whose pass is written in the backend's vocabulary at one θ (size,) and differentiated by autograd.

    Samples stand on the last axis of everything inside. A block with a bias is a matrix (out, in + 1) in C order
    whose last column is the bias, as a layer of :class:`refimpl.networks.MLP` is.
    """

    if TYPE_CHECKING:  # a field of every architecture

        @property
        def backend(self) -> Backend:
            """Where its numbers live."""

    @property
    @abstractmethod
    def blocks(self) -> tuple[Block, ...]:
        """Its parameters, in the order in which they stand in θ."""

    @property
    @abstractmethod
    def sites(self) -> tuple[Site, ...]:
        """Where units may be dropped, in the order in which a mask covers them."""

    @property
    @abstractmethod
    def features(self) -> int:
        """Columns of X."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Scores at each position."""

    @property
    def positions(self) -> tuple[int, ...]:
        """Axes of the scores in front of the outputs: () for one prediction a sample, (T,) for a sequence."""
        return ()

    @property
    def tokens(self) -> int:
        """How many different tokens X holds; 0 where X holds real numbers."""
        return 0

    @abstractmethod
    def run(self, theta: Array, X: Array, mask: Array | None = None, kinked: Kinked | None = None) -> Array:
        """Scores (*positions, outputs, N) of rows X (N, features) at θ (size,), units times mask (units, 1 or N).

        kinked: a list that takes down what stands before each kinked activation.
        """

    # -- parameters ------------------------------------------------------------------------------------------
    @cached_property
    def size(self) -> int:
        """Number of parameters."""
        return sum(math.prod(block.shape) for block in self.blocks)

    @cached_property
    def spans(self) -> dict[str, slice]:
        """Where each block stands in θ, its bias column with it."""
        stops = np.cumsum([math.prod(block.shape) for block in self.blocks]).tolist()
        starts = (0, *stops)
        return {b.name: slice(i, j) for b, i, j in zip(self.blocks, starts, stops, strict=False)}

    @cached_property
    def biases(self) -> np.ndarray:
        """Indices of the entries of θ that are biases (bias columns, and shifts behind a normalisation)."""
        return np.flatnonzero(np.concatenate([_bias(block).ravel() for block in self.blocks]))

    def weights(self, name: str) -> np.ndarray:
        """Indices of a block's entries without its biases: the "parameter matrix" of that block."""
        if name not in self.spans:
            raise BadInput(
                "no block of parameters of that name",
                measured=name,
                required=", ".join(self.spans),
                advice="pick one of the names above",
            )
        return np.setdiff1d(np.arange(self.size)[self.spans[name]], self.biases)

    @cached_property
    def filters(self) -> tuple[slice, ...]:
        """Disjoint parts of θ that cover it, for filter normalisation: a row of a convolution, else a whole block.

        A bias belongs to its row's filter; :attr:`biases` says which entries those are.
        """
        found = []
        for block in self.blocks:
            span = self.spans[block.name]
            step = math.prod(block.shape[1:]) if block.rows else span.stop - span.start
            found += [slice(i, i + step) for i in range(span.start, span.stop, step)]
        return tuple(found)

    def split(self, theta: Array) -> dict[str, Array]:
        """Views of θ (size,) by name, each of its block's shape."""
        require_length(theta, self.size, "the network's parameters")
        B = self.backend
        return {b.name: B.reshape(theta[self.spans[b.name]], b.shape) for b in self.blocks}

    def random(self, rng: np.random.Generator | int, *, gain: float = 1.0) -> np.ndarray:
        """Host parameters (size,): as :class:`Block` says, scalings 1.

        rng: a generator, or a seed.
        """
        rng = np.random.default_rng(rng)
        return np.concatenate([_draw(block, rng, gain).ravel() for block in self.blocks])

    # -- units -------------------------------------------------------------------------------------------------
    @cached_property
    def units(self) -> int:
        """Number of units that a mask covers."""
        return sum(site.units for site in self.sites)

    def at_sites(self, mask: Array | None) -> dict[str, Array]:
        """Of each site, what multiplies it, (*shape, 1 or N); a single 1 where there is no mask."""
        found, start = {}, 0
        for site in self.sites:
            stop = start + site.units
            shape = (*site.shape, 0 if mask is None else mask.shape[-1])
            found[site.name] = 1 if mask is None else self.backend.reshape(mask[start:stop, :], shape)
            start = stop
        return found

    def unit_masks(self, keep: Any) -> Bernoulli:
        """Masks of the units, one variable each; keep: a keep probability for all sites, or one for each of them."""
        several = isinstance(keep, Sequence) or getattr(keep, "ndim", 0) > 0
        keeps = list(keep) if several else [keep] * len(self.sites)
        if len(keeps) != len(self.sites):
            raise BadInput(
                "keep probabilities do not fit the dropout sites",
                measured=f"{len(keeps)} for {len(self.sites)} sites",
                required="one number, or one for each of " + ", ".join(site.name for site in self.sites),
                advice="a site without dropout takes 1",
            )
        return Bernoulli([p for p, site in zip(keeps, self.sites, strict=True) for _ in range(site.units)])


def _bias(block: Block) -> np.ndarray:
    found = np.zeros(block.shape, dtype=bool)
    found[..., -1] = block.bias
    return found | (block.constant == 0)


def _draw(block: Block, rng: np.random.Generator, gain: float) -> np.ndarray:
    if block.constant is not None:
        return np.full(block.shape, block.constant)
    draw = rng.standard_normal(block.shape) * (gain / block.inputs**0.5)
    return draw if block.rows else np.where(_bias(block), 0.0, draw)


def require_whole_fields(thing: Any, least: dict[str, int]) -> None:
    """Each named field is a whole number at least so large."""
    wrong = {k: getattr(thing, k) for k, m in least.items() if not _whole(getattr(thing, k), m)}
    if wrong:
        raise BadInput(
            "these sizes make no network",
            measured=", ".join(f"{name} = {value!r}" for name, value in wrong.items()),
            required=", ".join(f"whole {name} >= {least[name]}" for name in wrong),
            advice="count channels, units and positions in whole numbers",
        )


def listed(value: Any) -> bool:
    """A tuple, or a list."""
    return isinstance(value, tuple | list)


def require_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    """value is one of the choices."""
    if value not in choices:
        raise BadInput(
            f"no {what} of that name",
            measured=value,
            required=", ".join(choices),
            advice="pick one of the names above",
        )


def dropped(mask: Array, h: Array) -> Array:
    """mask ∘ h, h itself where the mask is the number 1."""
    return h if isinstance(mask, int) else mask * h


def activate(B: Backend, name: str, z: Array, kinked: Kinked | None, still: Any = False) -> Array:
    """a(z), taking z down where a has a kink; ``still``: which entries do not move near θ."""
    kind = activation(name)
    if kinked is not None and kind.kinked:
        kinked.append((z, still))
    return kind.value(B, z)


def nearest(kinked: Kinked) -> np.ndarray:
    """The smallest pre-activation that moves, inf where there is none."""
    distances = [np.where(still, np.inf, np.abs(to_numpy(z))).min() for z, still in kinked]
    return np.asarray(min(distances, default=np.inf))


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
