"""Training: the loop that draws a gradient, adds noise where asked, and applies the optimiser's map."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refimpl.arrays import Backend
from refimpl.arrays.backend import Array
from refimpl.errors import BadInput, Diverged
from refimpl.masks import Dropout
from refimpl.objective import Objective
from refimpl.solvers.lower import overflow_allowed, require_count, require_finite
from refimpl.training.draws import Draw, Draws
from refimpl.training.noise import Noise
from refimpl.training.optimiser import Optimiser, State


@dataclass(frozen=True, eq=False)  # eq=False: arrays have no single truth value
class Run:
    """Where training ended, and what it recorded on the way.

    state: the last one; ``train`` goes on from it. times: the k recorded; records: what was recorded then, by name,
    each (times, ...). path: the parameters after each of the last steps, oldest first, (last, ..., d).
    interrupted: stopped by Ctrl-C.
    """

    state: State
    times: tuple[int, ...]
    records: dict[str, Array]
    path: Array
    interrupted: bool

    @property
    def w(self) -> Array:
        """The last parameters, (..., d)."""
        return self.state.w


def train(
    objective: Objective,
    start: Any,
    optimiser: Optimiser,
    *,
    steps: int,
    rng: np.random.Generator | int | None = None,
    draw: Draw = "expected",
    batch: int | None = None,
    noise: Noise | None = None,
    lam: Any = None,
    every: int = 1,
    record: Mapping[str, Callable[[Array], Any]] | None = None,
    last: int = 0,
    callback: Callable[[State], object] | None = None,
) -> Run:
    """``steps`` steps from ``start``: w (..., d), whose leading axes are replicates, or the state of an earlier run.

    Parameters
    ----------
    rng : a generator, or a seed; needed where anything is random. All replicates draw from this one stream,
        independently, in every step anew: masks and data, then noise.
    draw, batch : which gradient a step takes, see :mod:`refimpl.training.draws`; by default that of ``objective``.
    noise : added to every gradient.
    lam : λ (..., n); may be left out where n = 0.
    every : records are made at the start, then every so many steps, then at the end.
    record : functions of w to record, by name; by default ``loss``, the objective's value without its masks.
    last : how many consecutive steps, up to the end, to keep all parameters of: random trajectory data.
    callback : called with every state recorded after the start.

    Going on from a state with the generator that made it is, bit for bit, one longer run. Ctrl-C ends the run early.
    Raises ``BadInput``, and ``Diverged``, looked for where records are made, with what was computed until then.

    >>> import refimpl as ri
    >>> from refimpl.training import GradientDescent
    >>> f = ri.zoo.quadratic.objective(ww=[[1.0, 0.0], [0.0, 2.0]], n=0)
    >>> found = train(f, [1.0, 1.0], GradientDescent(0.5), steps=2)
    >>> found.records["loss"].tolist(), found.w.tolist()
    ([1.5, 0.125, 0.03125], [0.25, 0.0])
    """
    for value, name, least in ((steps, "steps", 0), (every, "every", 1), (last, "last", 0)):
        require_count(value, name, least=least)
    _require_kind("objective", objective, Objective)
    _require_kind("optimiser", optimiser, Optimiser)
    if noise is not None:
        _require_kind("noise", noise, Noise)
    B = objective.backend
    optimiser, draws, lam = optimiser.to(B), Draws(objective, draw, batch), _lam(objective, lam)
    rng = _generator(rng, draws.random or noise is not None)
    state = _started(objective, start, optimiser, lam)
    leading = tuple(state.w.shape[:-1])
    if record is None:
        plain = objective.f if isinstance(objective, Dropout) else objective
        record = {"loss": lambda w: plain.value(lam, w)}
    times: list[int] = []
    values: dict[str, list[Any]] = {name: [] for name in record}
    path: deque[Array] = deque(maxlen=last)

    def recorded() -> None:
        if not (times and times[-1] == state.k):
            times.append(state.k)
            for name, of in record.items():
                values[name].append(of(state.w))

    def result(interrupted: bool = False) -> Run:
        recorded()
        kept = B.xp.stack(list(path)) if path else B.zeros((0, *state.w.shape))
        stacked = {name: _stacked(B, seen) for name, seen in values.items()}
        return Run(state, tuple(times), stacked, kept, interrupted)

    recorded()
    try:
        with overflow_allowed():
            for i in range(1, steps + 1):
                gradient = draws.sample(rng, leading).grad_w(lam, state.w)
                if noise is not None:
                    gradient = gradient + B.asarray(noise.draw(rng, state.w))
                state = optimiser.step(state, gradient)
                path.append(state.w)
                if i % every == 0 or i == steps:
                    recorded()
                    require_finite(B, state.w, f"w after step {state.k}", "lower the learning rate")
                    if callback is not None:
                        callback(state)
    except KeyboardInterrupt:
        return result(interrupted=True)
    except Diverged as e:
        e.result = result()
        raise
    return result()


def _require_kind(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise BadInput(
            f"{name} cannot be trained with",
            measured=f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__,
            required=f"an instance of {kind.__module__}.{kind.__name__}",
            advice="train(objective, start, GradientDescent(0.1), steps=100) is the order",
        )


def _lam(objective: Objective, lam: Any) -> Array:
    if lam is None and objective.n:
        raise BadInput(
            "the objective depends on λ",
            measured=f"n = {objective.n}, lam=None",
            required=f"lam (..., {objective.n})",
            advice="pass lam=…, the value at which w is trained",
        )
    B = objective.backend
    return B.zeros((0,)) if lam is None else B.vector(lam, objective.n, "lam")


def _generator(rng: np.random.Generator | int | None, needed: bool) -> np.random.Generator:
    """The generator; where nothing is drawn it is never used."""
    if rng is None and needed:
        raise BadInput(
            "training draws at random from no generator",
            measured="rng=None",
            required="a generator, or a seed",
            advice="rng=np.random.default_rng(0); draw='expected' without batch and noise needs none",
        )
    return np.random.default_rng(0 if rng is None else rng)


def _started(objective: Objective, start: Any, optimiser: Optimiser, lam: Array) -> Any:
    """The state to start from, with all leading axes that the data and λ will give it."""
    B, d = objective.backend, objective.d
    if not isinstance(start, State):
        w = B.vector(start, d, "w")
        leading = np.broadcast_shapes(w.shape[:-1], lam.shape[:-1], objective.leading)
        return optimiser.start(B.broadcast(w, (*leading, d)))
    if type(start) is not optimiser.state:
        raise BadInput(
            "the state is of another optimiser",
            measured=type(start).__name__,
            required=optimiser.state.__name__,
            advice="go on with the optimiser of the earlier run, or start from its w",
        )
    B.vector(start.w, d, "w")
    return start


def _stacked(B: Backend, seen: list[Any]) -> Array:
    """On the backend where the values are its arrays, else on the host."""
    if all(B.owns(x) for x in seen):
        return B.xp.stack(seen)
    return np.stack([np.asarray(x) for x in seen])
