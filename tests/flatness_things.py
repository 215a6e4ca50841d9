"""Which measures of flatness the symmetries of a network leave alone: the scenes, the measures, and the table of them.

``python -m tests.flatness_things`` writes the table of docs/flatness.md anew.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from refimpl.arrays import to_numpy
from refimpl.curvature.alignment import alignment
from refimpl.curvature.directions import eigen_directions, filter_normalised, network_filters
from refimpl.curvature.flatness import interval_flatness
from refimpl.curvature.profiles import profile
from refimpl.curvature.variance import along
from refimpl.networks import MLP, loss
from refimpl.networks.symmetries import permute, rescale
from refimpl.spaces import covariance
from tests.rounding import EPS, exactly

NONE = np.zeros(0)  # λ where there is none
PAGE = Path(__file__).resolve().parents[1] / "docs" / "flatness.md"


def short(seed: Any, *shape: int) -> np.ndarray:
    """Random multiples of 1/8: short fractions."""
    return np.round(8 * np.random.default_rng(seed).standard_normal(shape)) / 8


# -- moves and scenes ---------------------------------------------------------------------------------------
MOVES = {
    "permuted units": lambda net, x, inverse: permute(net, x, 0, [1, 2, 0] if inverse else [2, 0, 1]),
    "a layer times a number": lambda net, x, inverse: rescale(net, x, 0, _thirds([6, 6, 6], inverse)),
    "each unit times its own": lambda net, x, inverse: rescale(net, x, 0, _thirds([1, 6, 12], inverse)),
}
ALPHAS = (Fraction(-1, 2), Fraction(1, 4), Fraction(1))


def _thirds(c: list[int], inverse: bool) -> list[Fraction]:
    return [Fraction(3, k) if inverse else Fraction(k, 3) for k in c]


@dataclass(frozen=True, eq=False)
class Numbers:
    """Values of a measure, and the rounding that each is allowed: 0 where the value is an exact fraction."""

    values: list[Any]
    allowed: list[float]


def _exact(x: Any) -> Numbers:
    values = exactly(np.atleast_1d(np.asarray(x, dtype=object)).ravel())
    return Numbers(values, [0.0] * len(values))


@dataclass(frozen=True, eq=False)
class Scene:
    """A loss under dropout at θ, over the rationals, with directions, a run of parameters and a raw direction."""

    D: Any
    theta: Any
    fixed: Any  # directions that stay
    carried: Any  # directions that are moved as θ is
    run: Any  # rows of parameters
    raw: np.ndarray

    @classmethod
    def of(cls, seed: int) -> Scene:
        """A leaky-ReLU network 2-3-2-1, five samples, dropout with keep probability 1/2 behind both hidden layers."""
        net = MLP((2, 3, 2, 1), "leaky_relu")
        f = loss(net, short([seed, 0], 5, 2), short([seed, 1], 5), loss="squared")
        D = f.with_dropout(net.unit_masks([0.5, 0.5]), site="activations", scale="inverse").to("rational")
        theta, run = short([seed, 2], net.size), short([seed, 3], 6, net.size)
        V, raw = short([seed, 4], 2, net.size), np.random.default_rng([seed, 5]).standard_normal(net.size)
        rational = D.backend.asarray
        return cls(D, rational(theta), rational(V), rational(V), rational(theta + run / 8), raw)

    def moved(self, name: str) -> Scene:
        """θ, the run and the carried directions under the symmetry. A raw direction is permuted with the units, which
        leaves its law alone; no law of raw directions follows a rescaling, so there it is the same draw."""

        def to(x: Any) -> Any:
            return MOVES[name](self.D.f.net, x, False)

        raw = (
            permute(MLP((2, 3, 2, 1), "relu"), self.raw, 0, [2, 0, 1])
            if name == "permuted units"
            else self.raw
        )
        return Scene(self.D, to(self.theta), self.fixed, to(self.carried), to(self.run), raw)

    @property
    def B(self) -> Any:
        return self.D.backend

    @functools.cached_property
    def hessian(self) -> Any:
        return self.D.hess_ww(self.B.zeros((0,)), self.theta).dense()

    @functools.cached_property
    def noise(self) -> Any:
        """Covariance of the gradient of one random sample under one mask, by enumeration."""
        lam = self.B.zeros((0,))
        return covariance(self.D.space, lambda s: self.D.at(s).grad_w(lam, self.theta), self.B)

    @functools.cached_property
    def alignment(self) -> Any:
        return alignment(self.hessian, self.noise, backend=self.B)

    @functools.cached_property
    def eigen(self) -> Any:
        return eigen_directions(to_numpy(self.hessian))

    @functools.cached_property
    def loose(self) -> np.ndarray:
        """What rounding may turn each unit eigenvector by: 10 P eps ‖H‖ over the distance to the next eigenvalue."""
        values = self.eigen.values
        gaps = np.array([np.min(np.abs(np.delete(values, i) - v)) for i, v in enumerate(values)])
        return 10 * values.size * EPS["float64"] * np.linalg.norm(values) / gaps

    def flatness(self, V: Any) -> Any:
        return interval_flatness(self.D, self.theta, V, start=0.25, limit=64.0, growth=2.0)

    def eigen_flatness(self) -> Numbers:
        """Of the two largest eigenvalues; moving v by δ moves a crossing t by t ∇L·δ/∇L·v."""
        V = self.eigen.vectors[:2]
        found, theta, total = self.flatness(self.B.asarray(V)), to_numpy(self.theta), 0.0
        D = self.D.to("numpy")
        for t in (found.left, found.right):
            gradients = D.grad_w(NONE, theta + np.where(np.isfinite(t), t, 0)[:, None] * V)
            lever = np.linalg.norm(gradients, axis=-1) / np.abs(np.sum(gradients * V, -1))
            total = total + np.where(np.isfinite(t), np.abs(t), 0) * (
                lever * self.loose[:2] + 8 * EPS["float64"]
            )
        return Numbers(found.width.tolist(), np.broadcast_to(total, (2,)).tolist())

    def eigen_variance(self, S: Any) -> Numbers:
        S = to_numpy(S)
        values = along(S, self.eigen.vectors[:3])
        allowed = np.linalg.norm(S, 2) * (2 * self.loose[:3] + 10 * len(S) * EPS["float64"])
        return Numbers(values.tolist(), allowed.tolist())

    def largest(self) -> Numbers:
        values = self.eigen.values
        return Numbers([values[0]], [10 * values.size * EPS["float64"] * np.linalg.norm(values)])

    def profile(self, **filters: Any) -> Numbers:
        """Each entry of the direction is good to P eps; the loss is then evaluated exactly."""
        theta, net = to_numpy(self.theta), self.D.f.net.to("numpy")
        v = filter_normalised(theta, self.raw, network_filters(net, **filters))
        values = profile(self.D, self.theta, self.B.asarray(v), self.B.asarray(list(ALPHAS))).values
        D, allowed = self.D.to("numpy"), []
        for a in map(float, ALPHAS):
            slope = np.linalg.norm(D.grad_w(NONE, theta + a * v))
            allowed.append(10 * v.size * EPS["float64"] * abs(a) * slope * float(np.linalg.norm(v)))
        return Numbers(to_numpy(values).tolist(), allowed)

    @functools.cached_property
    def run_covariance(self) -> Any:
        centred = self.run - self.B.mean(self.run, 0)
        return self.B.mT(centred) @ centred / len(self.run)


def _squared_cosine(s: Scene) -> Any:
    a = s.alignment
    return a.trace * abs(a.trace) / (a.hessian_squared * a.noise_squared)


MEASURES: dict[str, Callable[[Scene], Numbers]] = {
    "expected dropout loss": lambda s: _exact(s.D.value(s.B.zeros((0,)), s.theta)),
    "interval flatness F_v, v carried along": lambda s: _bitwise(s.flatness(s.carried).width),
    "interval flatness F_v, v fixed": lambda s: _bitwise(s.flatness(s.fixed).width),
    "interval flatness along eigenvectors of H": Scene.eigen_flatness,
    "curvature vᵀHv, v carried along": lambda s: _exact(along(s.hessian, s.carried, backend=s.B)),
    "λ_max(H)": Scene.largest,
    "Tr H": lambda s: _exact(s.alignment.hessian),
    "Tr Σ": lambda s: _exact(s.alignment.noise),
    "Tr(HΣ)": lambda s: _exact(s.alignment.trace),
    "isotropic reference Tr H Tr Σ/D": lambda s: _exact(s.alignment.isotropic),
    "ratio Tr(HΣ) D/(Tr H Tr Σ)": lambda s: _exact(s.alignment.ratio),
    "cosine ⟨H, Σ⟩/(‖H‖‖Σ‖) (its square, signed)": lambda s: _exact(_squared_cosine(s)),
    "variance of gradients along v, carried along": lambda s: _exact(along(s.noise, s.carried, backend=s.B)),
    "variance of gradients along eigenvectors of H": lambda s: s.eigen_variance(s.noise),
    "variance of a run's parameters along eigenvectors of H": lambda s: s.eigen_variance(s.run_covariance),
    **{
        f"filter-normalised profile, filters per {per}, biases {text}": (
            lambda s, per=per, biases=biases: s.profile(per=per, biases=biases)
        )
        for per in ("layer", "row")
        for biases, text in (("own", "their own"), ("part", "part of them"), ("zero", "zero"))
    },
}  # fmt: skip
SEEDS = range(2)


def _bitwise(widths: np.ndarray) -> Numbers:
    """Over the rationals the search visits the same points, and every comparison is decided: equal to the last bit."""
    return Numbers(widths.tolist(), [0.0] * widths.size)


@functools.cache
def scene(seed: int, move: str | None) -> Scene:
    return Scene.of(seed) if move is None else scene(seed, None).moved(move)


@functools.cache
def measured(measure: str, seed: int, move: str | None) -> Numbers:
    return MEASURES[measure](scene(seed, move))


def entry(measure: str, move: str) -> str:
    """ "equal" where no network shows a difference above rounding; else the largest one found, relative to the two."""
    worst = (0.0, "")
    for seed in SEEDS:
        before, after = (measured(measure, seed, m) for m in (None, move))
        for x, y, e, o in zip(before.values, after.values, before.allowed, after.allowed, strict=True):
            if x == y or abs(x - y) <= e + o:
                continue
            gap = math.inf if math.isinf(x - y) else float(abs(x - y) / max(abs(x), abs(y)))
            worst = max(worst, (gap, f"{float(x):.3g} → {float(y):.3g}"))
    return worst[1] or "equal"


def row(measure: str) -> str:
    """A row of the table of docs/flatness.md."""
    return _line(measure, *(entry(measure, move) for move in MOVES))


def table() -> str:
    """The table of docs/flatness.md."""
    return "\n".join([_line("measure", *MOVES), _line(*["---"] * (1 + len(MOVES))), *map(row, MEASURES)])


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def page(new: str) -> str:
    """The page with this table between its marks."""
    before, rest = PAGE.read_text(encoding="utf-8").split("<!-- table -->\n")
    return f"{before}<!-- table -->\n{new}\n<!-- end of table -->{rest.split('<!-- end of table -->')[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(table()), encoding="utf-8")
