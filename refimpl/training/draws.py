"""The random objectives whose gradients a step may take: what is drawn of the masks, and what of the data.

``"expected"``: the objective itself (of a Dropout, the exact expectation over masks). ``"shared mask"``: one mask for
the whole batch. ``"own masks"``: one for every sample of the batch, what frameworks do. ``"one sample"``: one sample
under one mask. ``batch``: that many samples, drawn with replacement, instead of all; their masks as above.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from refimpl.errors import BadInput
from refimpl.masks import Dropout
from refimpl.objective import Objective
from refimpl.solvers.lower import require_count
from refimpl.spaces import Minibatch

Draw = Literal["expected", "shared mask", "own masks", "one sample"]


@dataclass(frozen=True, eq=False)
class Draws:
    """What every step draws of ``objective``; ``sample`` draws it. Raises ``BadInput`` for what cannot be drawn."""

    objective: Objective
    draw: Draw = "expected"
    batch: int | None = None

    def __post_init__(self) -> None:
        f, masked = self.objective, isinstance(self.objective, Dropout)
        if self.draw not in get_args(Draw):
            raise _refusal(f"draw {self.draw!r}", ", ".join(map(repr, get_args(Draw))), "pick one of these")
        if self.batch is not None:
            require_count(self.batch, "the batch size", least=1)
            if self.draw == "one sample":
                raise _refusal(f"a batch of {self.batch}", "no batch", 'draw="shared mask" with this batch')
        if self.draw in ("shared mask", "own masks") and not masked:
            raise _refusal(
                f"{type(f).__name__}, which has no masks",
                "an objective with dropout",
                'f.with_dropout(net.unit_masks(keep), site="activations"), or draw="expected"',
            )
        if self.random and f.lead:
            raise _refusal(
                f"data with {f.lead} leading axes",
                "none: replicates are leading axes of w",
                "draw from the objective on all of its data",
            )
        if self.draw == "own masks":
            _require_own_masks(f)

    @property
    def random(self) -> bool:
        """Is anything drawn?"""
        return self.draw != "expected" or self.batch is not None

    def sample(self, rng: np.random.Generator, leading: tuple[int, ...]) -> Objective:
        """An objective whose gradient is unbiased for that of the mean; independent draws along ``leading`` axes."""
        D = self.objective
        if not self.random:
            return D
        if not isinstance(D, Dropout):
            return D.batch(self._data(D, rng, leading))
        data = None if not self._size else self._data(D.f, rng, leading)
        if self.draw == "expected":
            return replace(D, f=D.f.batch(data))
        if self.draw == "own masks":
            f: Any = D.f if data is None else D.f.batch(data)
            points = D.w.sample(rng, (*leading, self._size or D.f.space.size))
            each: Objective = f.drop_each(D.w.mask(points, D.backend, D.scale))
            return each
        masks = D.masks.sample(rng, leading)
        return D.masked(masks) if data is None else D.batch((masks, data))

    @property
    def _size(self) -> int | None:
        return 1 if self.draw == "one sample" else self.batch

    def _data(self, f: Objective, rng: np.random.Generator, leading: tuple[int, ...]) -> np.ndarray:
        return Minibatch(f.space.size, self._size or 1).sample(rng, leading)


def _require_own_masks(f: Any) -> None:
    """Hidden units of a network, and a λ that is not masked."""
    if f.site != "activations" or not hasattr(f.f, "drop_each"):
        raise _refusal(
            f"{type(f.f).__name__} with masks of {f.site}",
            'a loss of refimpl.networks with site="activations"',
            'draw="shared mask", or "one sample", which is any objective\'s',
        )
    if f.lam.free:
        raise _refusal(
            "random masks of λ",
            "masks of w alone",
            'leave λ without masks, or draw="shared mask"',
        )


def _refusal(measured: str, required: str, advice: str) -> BadInput:
    return BadInput("this cannot be drawn", measured=measured, required=required, advice=advice)
