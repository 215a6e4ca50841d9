"""A small convolutional network in the manner of VGG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refimpl.arrays import Backend
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
class Convolutional(Architecture):
    """Stages of convolutions, each followed by the activation, a mean pooling behind each stage; then a dense layer.

    stages: the channels of every convolution, e.g. ((4,), (8,)): one in each of two stages. Convolutions keep the side.
    dropout: units stand "pooling", behind every pooling (dropout-flatness), or "convolution", behind the activation of
    every convolution (dropout-bilevel, data cleaning). drop: "entries", every number is a unit, or "channels".

    Pooling takes means and no maxima: a maximum has a kink wherever two of its entries tie, and behind a ReLU whole
    regions of θ tie at 0, so that no point there would have a distance to the nearest kink; a mean is linear.

    >>> net = Convolutional(side=8, stages=((4,), (8,)), classes=10)
    >>> net.size, net.units, list(net.spans)
    (666, 96, ['convolution 1', 'convolution 2', 'dense'])
    """

    side: int
    stages: tuple[tuple[int, ...], ...]
    classes: int
    planes: int = 1
    kernel: int = 3
    pool: int = 2
    activation: str = "relu"
    dropout: Literal["pooling", "convolution"] = "pooling"
    drop: Literal["entries", "channels"] = "entries"
    backend: Backend = Backend()

    def __post_init__(self) -> None:
        require_whole_fields(self, {"side": 1, "classes": 1, "planes": 1, "kernel": 1, "pool": 1})
        require_kernel(self.kernel)
        require_choice("dropout site", self.dropout, ("pooling", "convolution"))
        require_choice("kind of unit", self.drop, ("entries", "channels"))
        activation(self.activation)
        nested = listed(self.stages) and all(listed(stage) for stage in self.stages)
        channels = [c for stage in self.stages for c in stage] if nested else []
        whole = nested and all(self.stages) and all(isinstance(c, int) and c >= 1 for c in channels)
        if not (whole and channels and self.side % self.pool ** len(self.stages) == 0):
            raise BadInput(
                "these stages make no network",
                measured=f"stages {self.stages}, side {self.side}, pool {self.pool}",
                required="channels >= 1 in every stage, and a side that each stage's pooling divides",
                advice="((4,), (8,)) are two stages of one convolution; 8 × 8 images take up to three with pool=2",
            )

    @property
    def features(self) -> int:
        return self.planes * self.side**2

    @property
    def outputs(self) -> int:
        return self.classes

    @property
    def _convolutions(self) -> list[tuple[str, int, int, int, bool]]:
        """Name, planes in, channels out, side, and whether it is its stage's last."""
        found: list[tuple[str, int, int, int, bool]] = []
        planes = self.planes
        for k, stage in enumerate(self.stages):
            for i, channels in enumerate(stage):
                side = self.side // self.pool**k
                found.append((f"convolution {len(found) + 1}", planes, channels, side, i == len(stage) - 1))
                planes = channels
        return found

    @property
    def blocks(self) -> tuple[Block, ...]:
        found = [convolution_block(name, p, c, self.kernel) for name, p, c, *_ in self._convolutions]
        inputs = self.stages[-1][-1] * (self.side // self.pool ** len(self.stages)) ** 2
        return (*found, Block("dense", (self.classes, inputs + 1), inputs, bias=True))

    @property
    def sites(self) -> tuple[Site, ...]:
        found = []
        for name, _, channels, side, last in self._convolutions:
            if self.dropout == "convolution" or last:
                left = side if self.dropout == "convolution" else side // self.pool
                spread = left if self.drop == "entries" else 1
                found.append(Site(name, (channels, spread, spread)))
        return tuple(found)

    def run(self, theta: Array, X: Array, mask: Array | None = None, kinked: Kinked | None = None) -> Array:
        B, W, masks = self.backend, self.split(theta), self.at_sites(mask)
        h = as_images(B, X, self.planes, self.side)
        for name, _, _, _, last in self._convolutions:
            h = activate(B, self.activation, convolve(B, W[name], h, self.kernel), kinked)
            if self.dropout == "convolution":
                h = dropped(masks[name], h)
            if last:
                h = mean_pool(B, h, self.pool)
                if self.dropout == "pooling":
                    h = dropped(masks[name], h)
        return dense(B, W["dense"], h)
