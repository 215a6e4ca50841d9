"""A small residual network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from refimpl.arrays import Backend, to_numpy
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput
from refimpl.networks.activations import activation
from refimpl.networks.traced.architecture import (
    Architecture,
    Block,
    Kinked,
    Site,
    activate,
    dropped,
    listed,
    require_choice,
    require_whole_fields,
)
from refimpl.networks.traced.images import (
    as_images,
    convolution_block,
    convolve,
    dense,
    mean_pool,
    require_kernel,
)


@dataclass(frozen=True)
class Residual(Architecture):
    """A convolution, stages of residual blocks, a mean over the image, and a dense layer.

    He et al. 2016, with shortcuts that have no parameters.
    Block: h ↦ a(short(h) + m₂ C₂(m₁ a(C₁ h))) with 3 × 3 convolutions C. From one stage to the next the image's side is
    halved (mean pooling) and channels are added, which are 0 in the shortcut. channels: those of each stage, not
    decreasing; ``depth`` blocks in each. Dropout "after the convolutional layers" (dropout-flatness): masks behind the
    activation of the first convolution and of each C₁, and behind C₂ before the sum. drop: as in ``Convolutional``.

    There is no batch normalisation: its mean and variance over a batch make each sample's loss a function of all the
    others', and a loss that is no sum over samples has neither a gradient noise of samples nor a mask for each.

    >>> net = Residual(side=8, channels=(4, 8), classes=10)
    >>> net.size, [site.name for site in net.sites]
    (1306, ['stem', 'block 1.first', 'block 1.second', 'block 2.first', 'block 2.second'])
    """

    side: int
    channels: tuple[int, ...]
    classes: int
    depth: int = 1
    planes: int = 1
    kernel: int = 3
    activation: str = "relu"
    drop: Literal["entries", "channels"] = "entries"
    backend: Backend = Backend()

    def __post_init__(self) -> None:
        require_whole_fields(self, {"side": 1, "classes": 1, "depth": 1, "planes": 1, "kernel": 1})
        require_kernel(self.kernel)
        require_choice("kind of unit", self.drop, ("entries", "channels"))
        activation(self.activation)
        whole = listed(self.channels) and all(isinstance(c, int) and c >= 1 for c in self.channels)
        rising = whole and list(self.channels) == sorted(self.channels)
        if not (rising and self.channels and self.side % 2 ** (len(self.channels) - 1) == 0):
            raise BadInput(
                "these stages make no residual network",
                measured=f"channels {self.channels}, side {self.side}",
                required="channels >= 1 that do not decrease, and a side that can be halved between stages",
                advice="channels=(4, 8) are two stages; 8 × 8 images take up to four",
            )

    @property
    def features(self) -> int:
        return self.planes * self.side**2

    @property
    def outputs(self) -> int:
        return self.classes

    @property
    def _blocks(self) -> list[tuple[str, int, int, int, bool]]:
        """Name, channels in, channels out, side, and whether the image is halved first."""
        found: list[tuple[str, int, int, int, bool]] = []
        before = self.channels[0]
        for stage, channels in enumerate(self.channels):
            for i in range(self.depth):
                halved = stage > 0 and i == 0
                found.append((f"block {len(found) + 1}", before, channels, self.side // 2**stage, halved))
                before = channels
        return found

    @property
    def blocks(self) -> tuple[Block, ...]:
        found = [convolution_block("stem", self.planes, self.channels[0], self.kernel)]
        for name, before, channels, *_ in self._blocks:
            found.append(convolution_block(f"{name}.first", before, channels, self.kernel))
            found.append(convolution_block(f"{name}.second", channels, channels, self.kernel))
        last = self.channels[-1]
        return (*found, Block("dense", (self.classes, last + 1), last, bias=True))

    @property
    def sites(self) -> tuple[Site, ...]:
        found = [("stem", self.channels[0], self.side)]
        for name, _, channels, side, _ in self._blocks:
            found += [(f"{name}.first", channels, side), (f"{name}.second", channels, side)]
        spread = self.drop == "entries"
        return tuple(Site(name, (c, s if spread else 1, s if spread else 1)) for name, c, s in found)

    def run(self, theta: Array, X: Array, mask: Array | None = None, kinked: Kinked | None = None) -> Array:
        B, W, masks = self.backend, self.split(theta), self.at_sites(mask)
        z = convolve(B, W["stem"], as_images(B, X, self.planes, self.side), self.kernel)
        h = dropped(masks["stem"], activate(B, self.activation, z, kinked))
        still = None if kinked is None else self._inactive(z) | _zeros(masks["stem"], z.shape)
        for name, before, channels, side, halved in self._blocks:
            first, second = masks[f"{name}.first"], masks[f"{name}.second"]
            if halved:
                h = mean_pool(B, h, 2)
            z = convolve(B, W[f"{name}.first"], h, self.kernel)
            inner = dropped(first, activate(B, self.activation, z, kinked))
            if channels > before:
                h = B.concat([h, B.zeros((channels - before, side, side, X.shape[0]))], axis=0)
            z = h + dropped(second, convolve(B, W[f"{name}.second"], inner, self.kernel))
            if still is not None:
                still = _shortcut(still, z.shape) & _zeros(second, z.shape)
            h = activate(B, self.activation, z, kinked, still)
            if still is not None:
                still = still | self._inactive(z)
        return dense(B, W["dense"], mean_pool(B, h, h.shape[1]))

    def _inactive(self, z: Array) -> np.ndarray:
        """Where the activation is 0 all around z: below 0, for the ReLU."""
        return to_numpy(z) < (0 if self.activation == "relu" else -np.inf)


def _zeros(mask: Array, shape: tuple[int, ...]) -> np.ndarray:
    """Where a mask is 0, on the host."""
    return np.broadcast_to(np.asarray(to_numpy(mask)) == 0, shape)


def _shortcut(still: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What stands still behind a shortcut: a mean of entries that all do, and a channel that is new."""
    channels, side, N = still.shape[0], shape[1], shape[-1]
    pool = still.shape[1] // side
    found = np.ones(shape, dtype=bool)
    found[:channels] = still.reshape(channels, side, pool, side, pool, N).all(axis=(2, 4))
    return found
