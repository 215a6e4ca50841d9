"""Every constant of the zoo is hunted: never exceeded, and a lower one is refuted where it is attained."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from math import atanh, log, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings, target
from hypothesis import strategies as st

import refimpl as ri
from refimpl.constants import MapBounds, Region, around, best_step, constants
from refimpl.datasets import Episode
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.objective import Map
from refimpl.zoo import (
    biased,
    degenerate,
    equilibrium,
    logistic,
    maps,
    poisoning,
    quadratic,
    ridge,
    rows,
    uppers,
)
from refimpl.zoo.weighted_rows import WeightedRows
from refimpl.zoo.weights import SampleWeights
from tests.zoo_things import THINGS

EPS = 2.0**-52
FINE = 8  # ticks from the centre of a ball to its surface: the surface is met often, and what is near too
LOWER = 0.9  # the share of an attained constant that the same hunt must refute


def _norm(M: Any) -> float:
    return float(np.linalg.norm(M, 2)) if np.size(M) else 0.0


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two points of the region, and the derivatives of a thing there."""

    thing: Any
    lam: np.ndarray
    w: np.ndarray
    lam2: np.ndarray
    w2: np.ndarray

    @functools.cached_property
    def _known(self) -> dict[tuple[str, str], np.ndarray]:
        return {}

    def dense(self, name: str, variable: str = "") -> np.ndarray:
        """The derivative at the first point, or with one variable at the second; computed once."""
        if (name, variable) not in self._known:
            lam, w = self.lam2 if variable == "lam" else self.lam, self.w2 if variable == "w" else self.w
            self._known[name, variable] = np.asarray(getattr(self.thing, name)(lam, w).dense())
        return self._known[name, variable]

    def moved(self, name: str, variable: str) -> tuple[float, float]:
        """‖A(z) − A(z')‖ and ‖z − z'‖ with the other variable held at the first point."""
        step = self.w - self.w2 if variable == "w" else self.lam - self.lam2
        return _norm(self.dense(name) - self.dense(name, variable)), float(np.linalg.norm(step))

    @functools.cached_property
    def size(self) -> float:
        """10 (n + d + N) eps times the size of the point."""
        point = 1 + sum(float(np.linalg.norm(x)) for x in (self.lam, self.w, self.lam2, self.w2))
        return 10 * (self.thing.n + self.thing.d + self.thing.space.size) * EPS * point

    def rounding(self, bound: float) -> float:
        """That, times the sizes of what is compared."""
        return self.size * (1 + bound + self._second)

    @functools.cached_property
    def _second(self) -> float:
        return (
            0.0 if isinstance(self.thing, Map) else _norm(self.dense("hess_ww")) + _norm(self.dense("cross"))
        )


def _hess_ll(p: Pair) -> tuple[float, float]:
    change = np.asarray(p.thing.grad_lam(p.lam, p.w)) - np.asarray(p.thing.grad_lam(p.lam2, p.w))
    return float(np.linalg.norm(change)), float(np.linalg.norm(p.lam - p.lam2))


# constant: pair -> (measured, per), to be compared as measured <= constant * per
MEASURED: dict[str, Callable[[Pair], tuple[float, float]]] = {
    "grad_w": lambda p: (float(np.linalg.norm(p.thing.grad_w(p.lam, p.w))), 1.0),
    "hess_ww": lambda p: (_norm(p.dense("hess_ww")), 1.0),
    "cross": lambda p: (_norm(p.dense("cross")), 1.0),
    "hess_ll": _hess_ll,
    "d_w": lambda p: (_norm(p.dense("d_w")), 1.0),
    "d_lam": lambda p: (_norm(p.dense("d_lam")), 1.0),
}
for _first in ("hess_ww", "cross", "d_w", "d_lam"):
    for _second in ("w", "lam"):
        MEASURED[f"{_first}_by_{_second}"] = lambda p, a=_first, b=_second: p.moved(a, b)


def _smallest(p: Pair) -> float:
    return float(np.linalg.eigvalsh(p.dense("hess_ww"))[0])


def _names(thing: Any) -> list[str]:
    kind = MapBounds if isinstance(thing, Map) else ri.constants.Bounds
    return [f.name for f in dataclasses.fields(kind)]


def hunt(thing: Any, region: Region, names: list[str], *, share: float = 1.0, shrink: bool = False) -> None:
    """Assert each named constant, times ``share``, at pairs that hypothesis drives toward the worst ratio."""
    proved = thing.bounds(region)
    ticks = st.integers(-FINE, FINE)  # hypothesis draws an integer in a third of the time of a float

    def ball(size: int) -> Any:
        return st.lists(ticks, min_size=size, max_size=size).map(lambda drawn: np.asarray(drawn) / FINE)

    def into(centre: Any, radius: float, x: np.ndarray) -> np.ndarray:
        return np.asarray(centre) + radius * x / max(1.0, float(np.linalg.norm(x)))

    one_point = region.lam_radius == region.w_radius == 0  # every pair is the same
    most = 1 if one_point else settings.default.max_examples

    @settings(phases=[Phase.generate, Phase.target, *([Phase.shrink] if shrink else [])], max_examples=most)
    @given(ball(thing.n), ball(thing.d), ball(thing.n), ball(thing.d))
    def attack(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> None:
        pair = Pair(
            thing,
            into(region.lam, region.lam_radius, a),
            into(region.w, region.w_radius, b),
            into(region.lam, region.lam_radius, c),
            into(region.w, region.w_radius, d),
        )
        for name in names:
            bound = getattr(proved, name)
            if name == "hess_ww_min":  # a lower bound, so it is raised by the share
                found = _smallest(pair)
                target(-found, label=name)
                assert found >= bound / share - pair.rounding(abs(bound)), name
                continue
            measured, per = MEASURED[name](pair)
            if bound * per > 0:
                target(measured / (bound * per), label=name)
            assert measured <= share * bound * per + pair.rounding(bound), name

    attack()


# -- never exceeded -----------------------------------------------------------------------------------
REGIONS = {"point": (0.0, 0.0), "small": (0.25, 0.5), "large": (2.0, 3.0)}
# The constants of "cross entropy" have their own test; the weight function states none.
SMOOTH = [name for name in THINGS if "cross entropy" not in name and name != "weight function"]


def _region(thing: Any, lam_radius: float, w_radius: float) -> Region:
    rng = np.random.default_rng(0)
    w = rng.standard_normal(thing.d)
    if isinstance(thing, degenerate.SoftThreshold):
        w = w + (w_radius + 1) * np.sign(w)  # away from the kinks
    return Region(rng.standard_normal(thing.n), w, lam_radius, w_radius)


@pytest.mark.parametrize("size", REGIONS)
@pytest.mark.parametrize("name", SMOOTH)
def test_no_point_of_the_region_exceeds_a_constant(name: str, size: str) -> None:
    # kills: a radius left out, an infimum for a supremum, the centre's value for the region's
    thing = THINGS[name]()
    hunt(thing, _region(thing, *REGIONS[size]), _names(thing), shrink=True)


# -- attained -----------------------------------------------------------------------------------------
def _penalised(data: Any, log: bool, n: int = 1) -> rows.Penalised:
    return rows.Penalised(dataclasses.replace(data, n=n), log)


def _one(x: float) -> np.ndarray:
    return np.array([x])


SQUARES = ridge.HalfSquares(np.array([[2.0]]), np.array([1.0]), 1)
LOGISTIC = logistic.LogisticLoss(np.array([[2.0]]), np.array([1.0]), 1)
LOGCOSH = uppers.LogCosh(np.array([[2.0]]), np.array([1.0]), 1)
RAW = SampleWeights("identity")
AXES = ridge.HalfSquares(np.sqrt(2) * np.eye(2), np.zeros(2), 2)  # XᵀX/N = I
LOG = log(2 + sqrt(3))  # |σ''| is largest at ±log(2 + √3)
TANH = atanh(1 / sqrt(3))  # |tanh''| is largest at ±artanh(1/√3)
WIDE, NARROW = (
    (0.5, 0.5),
    (0.02, 0.02),
)  # radii: suprema at the boundary, and Lipschitz constants by continuity
LIPSCHITZ = ["hess_ww_by_lam", "cross_by_w"]

SOFT = logistic.SoftLabelLoss(np.array([[2.0]]), np.array([0.25]), 1)
TWICE = WeightedRows(SQUARES).batch(np.array([0, 0]))  # one row, drawn twice: its weight is one entry of λ

# of tasks: two classes, one or two examples; terms that cannot be attained together are made small beside the others
ODDS = log((sqrt(3) + 1) / (sqrt(3) - 1))  # log p/(1 − p) where |p(1 − p)(1 − 2p)| is largest
TINY = (0.001, 0.001)
STATE = equilibrium.problem([[1.0]], [0], classes=1, hidden=1, radius=None).phi  # λ = (A, B, c, D, b)
READOUT = equilibrium.problem(
    [[1.0]], [1], classes=2, hidden=1, radius=None
).upper  # λ = (A, B, c, D₁, D₂, b₁, b₂)
POISONED = poisoning.problem([[0.0, 20.0]], [1], [[1.0, 1.0]], [0], classes=2, poisoned=[0], reg=0.5).lower
TWO_TASKS = Episode(
    np.full((2, 1, 1), 2.0), np.ones((2, 1), dtype=int), np.ones((2, 1, 1)), np.ones((2, 1), dtype=int)
)
BIASED = biased.problem(TWO_TASKS, ways=2, strength=0.5).lower


def _read(scores: float) -> np.ndarray:
    """λ with ‖D‖ = 2 and z₁ − z₂ = scores at w = 20."""
    b = (scores - 20 * 2 * sqrt(2)) / 2
    return np.array([0.0, 0.0, 0.0, sqrt(2), -sqrt(2), b, -b])


def _weights(scores: float) -> np.ndarray:
    """‖W‖ = 20, but for second order, and z₁ − z₂ = scores at x = (0, 20)."""
    return np.array([20 / sqrt(2), scores / 40, -20 / sqrt(2), -scores / 40])


# (thing, centre λ, centre w, (λ's radius, w's radius), the constants attained there)
ATTAINED: dict[str, tuple[Any, np.ndarray, np.ndarray, tuple[float, float], list[str]]] = {
    "quadratic": (
        quadratic.objective(ww=[[3.0]], lw=[[2.0]], ll=[[5.0]], w1=[1.0]),
        _one(1.0), _one(1.0), WIDE, ["grad_w", "hess_ww", "hess_ww_min", "cross", "hess_ll"],
    ),
    "squares": (SQUARES, _one(0.0), _one(1.0), WIDE, ["grad_w", "hess_ww", "hess_ww_min"]),
    "logistic": (LOGISTIC, _one(0.0), _one(0.0), WIDE, ["grad_w", "hess_ww", "hess_ww_min"]),
    "logistic, curved": (LOGISTIC, _one(0.0), _one(LOG / 2), NARROW, ["hess_ww_by_w"]),
    "log-cosh": (LOGCOSH, _one(0.0), _one(0.5), WIDE, ["grad_w", "hess_ww", "hess_ww_min"]),
    "log-cosh, curved": (LOGCOSH, _one(0.0), _one((1 + TANH) / 2), NARROW, ["hess_ww_by_w"]),
    "linear": (uppers.linear([3.0, 4.0]), np.zeros(0), np.zeros(2), WIDE, ["grad_w"]),
    "penalty": (
        _penalised(SQUARES, False), _one(1.0), _one(1.0), WIDE,
        ["grad_w", "hess_ww", "hess_ww_min", "cross", *LIPSCHITZ],
    ),
    "penalty per feature": (
        _penalised(AXES, False, 2), np.array([1.0, 3.0]), np.array([1.0, 3.0]), WIDE,
        ["hess_ww", "hess_ww_min", "cross", *LIPSCHITZ],
    ),
    "penalty, shared": (
        _penalised(AXES, False, 1), _one(1.0), np.array([3.0, 4.0]), WIDE, ["cross", *LIPSCHITZ],
    ),
    "log penalty": (
        _penalised(SQUARES, True), _one(0.0), _one(1.0), WIDE, ["grad_w", "hess_ww", "hess_ww_min", "cross"],
    ),
    "log penalty, shared": (
        _penalised(AXES, True, 1), _one(0.0), np.array([3.0, 4.0]), NARROW,
        ["hess_ll", "cross_by_lam", *LIPSCHITZ],
    ),
    "log penalty per feature": (
        _penalised(AXES, True, 2), np.array([0.0, 1.0]), np.array([1.0, 3.0]), NARROW,
        ["hess_ll", "cross", "cross_by_lam", *LIPSCHITZ],
    ),
    "log penalty of logistic": (
        _penalised(LOGISTIC, True), _one(-3.0), _one(LOG / 2), NARROW, ["hess_ww_by_w"],
    ),
    "soft labels": (SOFT, _one(0.0), _one(0.0), WIDE, ["grad_w", "hess_ww", "hess_ww_min"]),
    "soft labels, curved": (SOFT, _one(0.0), _one(LOG / 2), NARROW, ["hess_ww_by_w"]),
    "raw weights": (
        WeightedRows(SQUARES, RAW), _one(1.0), _one(1.0), WIDE,
        ["grad_w", "hess_ww", "hess_ww_min", "cross", "hess_ww_by_lam", "cross_by_w"],
    ),
    "negative weights": (
        WeightedRows(SQUARES, RAW), _one(-1.0), _one(1.0), WIDE, ["grad_w", "hess_ww", "cross"],
    ),
    "raw weights, curved": (WeightedRows(SOFT, RAW), _one(1.0), _one(LOG / 2), NARROW, ["hess_ww_by_w"]),
    "weights": (
        WeightedRows(SQUARES), _one(0.0), _one(1.0), WIDE,
        ["grad_w", "hess_ww", "hess_ww_min", "cross", "hess_ww_by_lam", "cross_by_w"],
    ),
    "weights, curved": (WeightedRows(SQUARES), _one(LOG), _one(20.0), NARROW, ["hess_ll", "cross_by_lam"]),
    "a row drawn twice": (
        TWICE, _one(0.0), _one(1.0), WIDE, ["grad_w", "hess_ww", "cross", "hess_ww_by_lam", "cross_by_w"],
    ),
    "a row drawn twice, curved": (TWICE, _one(LOG), _one(20.0), NARROW, ["hess_ll", "cross_by_lam"]),
    "soft threshold": (
        degenerate.SoftThreshold(0.5, 1), _one(0.0), _one(2.0), WIDE,
        ["grad_w", "hess_ww", "hess_ww_min", "cross", "hess_ll"],
    ),
    "affine map": (maps.affine([[0.5]], [[2.0]]), _one(0.0), _one(0.0), WIDE, ["d_w", "d_lam"]),
    "tanh map": (maps.tanh([[0.5]], [[2.0]]), _one(0.0), _one(0.0), WIDE, ["d_w", "d_lam"]),
    "tanh map, curved": (
        maps.tanh([[0.5]], [[2.0]]), _one(TANH / 2), _one(0.0), NARROW,
        ["d_w_by_w", "d_w_by_lam", "d_lam_by_w", "d_lam_by_lam"],
    ),
    "bent line": (
        maps.BentLine(0.5, 0.75), _one(0.25), _one(1.0), WIDE, ["d_w", "d_lam", "d_w_by_lam", "d_lam_by_w"],
    ),
    "twice a quadratic": (
        uppers.Scaled(2.0, quadratic.objective(ww=[[3.0]], lw=[[2.0]], ll=[[5.0]], w1=[1.0])),
        _one(1.0), _one(1.0), WIDE, ["grad_w", "hess_ww", "hess_ww_min", "cross", "hess_ll"],
    ),
    "minus a quadratic": (
        uppers.Scaled(-1.0, quadratic.objective(ww=[[3.0]], lw=[[2.0]], ll=[[5.0]], w1=[1.0])),
        _one(1.0), _one(1.0), WIDE, ["grad_w", "hess_ww", "cross", "hess_ll"],
    ),
    "equilibrium map": (
        STATE, np.array([0.5, 0.0, -1.0, 0.0, 0.0]), _one(2.0), NARROW, ["d_w", "d_lam"],
    ),
    "equilibrium map, curved": (
        STATE, np.array([0.5, 0.0, -10.0 - TANH, 0.0, 0.0]), _one(20.0), TINY,
        ["d_w_by_w", "d_w_by_lam", "d_lam_by_w", "d_lam_by_lam"],
    ),
    "readout": (READOUT, _read(0.0), _one(20.0), TINY, ["hess_ww", "cross", "hess_ll"]),
    "readout, curved": (
        READOUT, _read(-ODDS), _one(20.0), TINY, ["hess_ww_by_w", "cross_by_lam", *LIPSCHITZ],
    ),
    "readout, wrong and sure": (READOUT, _read(40.0), _one(20.0), TINY, ["grad_w"]),
    "poisoned": (
        POISONED, np.zeros(2), _weights(0.0), TINY, ["grad_w", "hess_ww", "hess_ww_min", "cross", "hess_ll"],
    ),
    "poisoned, curved": (
        POISONED, np.zeros(2), _weights(-ODDS), TINY, ["hess_ww_by_w", "cross_by_lam", *LIPSCHITZ],
    ),
    "biased": (
        BIASED, np.array([-1.0, 1.0]), np.zeros(4), NARROW,
        ["grad_w", "hess_ww", "hess_ww_min", "cross", "hess_ll"],
    ),
    "biased, curved": (
        BIASED, np.zeros(2), np.array([ODDS / 4, -ODDS / 4, 0.0, 0.0]), NARROW, ["hess_ww_by_w"],
    ),
}  # fmt: skip


def _attained(name: str) -> tuple[Any, Region, list[str]]:
    thing, lam, w, (lam_radius, w_radius), names = ATTAINED[name]
    return thing, Region(lam, w, lam_radius, w_radius), names


ROWS = [(name, constant) for name in ATTAINED for constant in ATTAINED[name][4]]


@pytest.mark.parametrize("name", ATTAINED)
def test_the_attaining_instances_exceed_nothing(name: str) -> None:
    thing, region, _ = _attained(name)
    hunt(thing, region, _names(thing), shrink=True)


@pytest.mark.parametrize(("name", "constant"), ROWS)
def test_a_lower_constant_is_refuted_where_it_is_attained(name: str, constant: str) -> None:
    # kills: a hunt that cannot fail, and constants needlessly large on these instances
    thing, region, _ = _attained(name)
    with pytest.raises(AssertionError, match=constant):
        hunt(thing, region, [constant], share=LOWER)


def test_every_constant_that_a_family_states_is_attained_somewhere() -> None:
    """The rows above leave out no constant that is not 0."""
    families: dict[str, set[str]] = {}
    for name in ATTAINED:
        thing, region, names = _attained(name)
        families.setdefault(type(thing).__name__, set()).update(names)
    for name in ATTAINED:
        thing, region, _ = _attained(name)
        proved = thing.bounds(region)
        stated = {constant for constant in _names(thing) if getattr(proved, constant) != 0}
        assert stated <= families[type(thing).__name__], name


# -- of problems ----------------------------------------------------------------------------------------
def test_the_region_around_contains_the_iterates() -> None:
    problem = maps.random(n=2, d=4, seed=1, q=0.75, kind="tanh")
    lam = problem.start()
    w, centre = np.full(4, 3.0), ri.exact_hypergradient(problem, lam).w
    region = around(problem, lam, centre, w)
    for _ in range(30):
        w = problem.phi.value(lam, w)
        assert np.linalg.norm(w - centre) <= region.w_radius
    assert np.linalg.norm(w - centre) <= 0.75**30 * region.w_radius + 10 * 4 * EPS * (
        1 + np.linalg.norm(centre)
    )


@pytest.mark.parametrize("step", [None, 0.25])
def test_the_descent_map_contracts_with_the_stated_factor(step: float | None) -> None:
    # kills: q from one end of the spectrum alone, a step missing from L_Φ, ν₁ or ν₂
    problem = logistic.random(d=3, seed=2, per_feature=True)
    lam = problem.start()
    w = ri.exact_hypergradient(problem, lam).w
    region = Region(lam, w, 0.25, 0.5)
    stated = constants(problem, region, step=step)
    G = problem.lower.bounds(region)
    taken = best_step(G) if step is None else step
    phi = problem.as_fixed_point(taken).phi
    rng = np.random.default_rng(3)
    for _ in range(50):
        x, y = (w + 0.5 * e / np.linalg.norm(e) for e in rng.standard_normal((2, 3)))
        at = lam + 0.25 * rng.uniform(-1, 1, 3) / sqrt(3)
        assert _norm(phi.d_w(at, x).dense()) <= stated.q + 10 * 6 * EPS
        assert _norm(phi.d_lam(at, x).dense()) <= stated.L_Phi + 10 * 6 * EPS
        distance = float(np.linalg.norm(x - y))
        assert _norm(phi.d_w(at, x).dense() - phi.d_w(at, y).dense()) <= stated.nu1 * distance + 10 * 6 * EPS
        assert (
            _norm(phi.d_lam(at, x).dense() - phi.d_lam(at, y).dense()) <= stated.nu2 * distance + 10 * 6 * EPS
        )


def test_the_solution_moves_at_most_by_its_constant() -> None:
    """‖w(λ) − w(λ')‖ <= L_w ‖λ − λ'‖ (Lemma 3 i), with equality on Φ = qw + λ."""
    line = maps.line(0.5)
    stated = constants(line, Region(np.zeros(1), np.zeros(1), 1.0, 1.0))
    assert stated.L_w == 2.0
    a, b = (ri.exact_hypergradient(line, [x]).w[0] for x in (0.0, 1.0))
    assert b - a == stated.L_w


@pytest.mark.parametrize(
    ("thing", "region"),
    [
        (degenerate.not_a_contraction().problem, Region(np.zeros(3), np.zeros(3))),
        (degenerate.indefinite_hessian().problem, Region(np.zeros(1), np.zeros(2))),
        (degenerate.singular_hessian().problem, Region(np.zeros(1), np.zeros(2))),
        (ridge.random(d=3, seed=4), Region(np.full(1, 0.1), np.zeros(3), 2.0, 1.0)),  # λ < 0 in the ball
    ],
)
def test_no_constants_without_a_contraction(thing: Any, region: Region) -> None:
    with pytest.raises(HypothesisViolated):
        constants(thing, region)


def test_constants_belong_to_a_whole_data_set() -> None:
    f = ridge.random(d=3, seed=5).lower.at([0, 1])
    with pytest.raises(BadInput, match="whole data set"):
        f.bounds(Region(np.ones(1), np.zeros(3)))


def test_a_ball_with_a_kink_has_no_constants() -> None:
    case = degenerate.kink()
    with pytest.raises(BadInput, match="kink"):
        constants(case.problem, Region(case.lam, case.w, 0.0, 0.1))
