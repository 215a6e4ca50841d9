"""What the other tests let pass: values by their definitions in plain Python, the axes that operators declare, the
constants of a problem from those of its levels, and each channel of the derivative check on its own.

A helper that a value and its derivatives share, changed, leaves them consistent: only the definition tells.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

import refimpl as ri
from refimpl import arrays, checks
from refimpl.bounds import Bounds, Region, best_step
from refimpl.constants import Constants, around, constants
from refimpl.datasets import Episode
from refimpl.draws import Draws
from refimpl.objective import Map, descent_map
from refimpl.operators import Operator
from refimpl.spaces import Bernoulli, estimate
from refimpl.zoo import quadratic
from refimpl.zoo.weighted_rows import WeightedRows
from refimpl.zoo.weights import SampleWeights
from tests.zoo_things import THINGS

N, FEATURES, CLASSES = 4, 2, 3
RNG = np.random.default_rng(41)
X, Y, SIGNS = RNG.standard_normal((N, FEATURES)), RNG.standard_normal(N), np.array([1.0, -1.0, -1.0, 1.0])
LABELS = np.array([0, 2, 1, 2])


def _scores(w: np.ndarray) -> list[float]:
    return [math.fsum(a * b for a, b in zip(x, w, strict=True)) for x in X]


def _softmax_losses(w: np.ndarray, X: np.ndarray = X, labels: np.ndarray = LABELS) -> list[float]:
    """−log p(label) with p ∝ exp(W x), W class-major."""
    W = [w[k * FEATURES : (k + 1) * FEATURES] for k in range(CLASSES)]
    found = []
    for x, label in zip(X, labels, strict=True):
        p = [math.exp(math.fsum(a * b for a, b in zip(row, x, strict=True))) for row in W]
        found.append(-math.log(p[label] / math.fsum(p)))
    return found


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _quadratic(lam: np.ndarray, w: np.ndarray) -> float:
    f = QUADRATIC
    terms = []
    for k in range(len(f.w1)):
        ww = sum(f.ww[k, i, j] * w[i] * w[j] for i in range(3) for j in range(3)) / 2
        lw = sum(f.lw[k, i, j] * lam[i] * w[j] for i in range(2) for j in range(3))
        ll = sum(f.ll[k, i, j] * lam[i] * lam[j] for i in range(2) for j in range(2)) / 2
        terms.append(ww + lw + ll + sum(f.w1[k] * w) + sum(f.l1[k] * lam))
    return sum(terms) / len(terms)


zoo = ri.zoo
QUADRATIC = zoo.quadratic.random(n=2, d=3, seed=42, terms=4).lower
AFFINE = zoo.maps.random(n=2, d=3, seed=43, terms=4).phi
TANH = zoo.maps.random(n=2, d=3, seed=44, kind="tanh").phi
RIDGE = zoo.ridge.problem(X, Y, X, Y, per_feature=True)
LOG_RIDGE = zoo.ridge.problem(X, Y, X, Y, log=True)
BY_LOSS = zoo.weight_function.problem(
    X, LABELS, X, LABELS, classes=CLASSES, hidden=2, step=0.75, reg=0.3, seed=46
)
CLEANING = zoo.weighted_softmax.problem(X, LABELS, X, LABELS, classes=CLASSES, reg=0.3)
C, L = RNG.standard_normal((N, 3)), RNG.standard_normal((N, 2))
RAW, SOFT = SampleWeights("identity"), np.array([0.25, 0.9, 0.5, 0.1])


def _soft_losses(w: np.ndarray) -> list[float]:
    """−y log p − (1 − y) log(1 − p), p = σ(z)."""
    p = [_sigmoid(z) for z in _scores(w)]
    return [-y * math.log(q) - (1 - y) * math.log(1 - q) for y, q in zip(SOFT, p, strict=True)]


# -- the families of tasks --------------------------------------------------------------------------------
HIDDEN, LABELLED, POISONED = 2, (3, 1), (2, 0)
GRAPH, OTHER_LABELS = RNG.standard_normal((N, N)) / N, np.array([1, 1, 0, 2])
_MODEL: dict[str, Any] = {"classes": CLASSES, "hidden": HIDDEN}
MODEL = zoo.equilibrium.problem(X, LABELS, **_MODEL)
GRAPH_MODEL = zoo.equilibrium.problem(X, LABELS, P=GRAPH, labelled=LABELLED, **_MODEL)
POISONING = zoo.poisoning.problem(X, LABELS, X, OTHER_LABELS, classes=CLASSES, poisoned=POISONED, reg=0.3)
TASKS, TASK_LABELS = np.stack([X, X[::-1] - 1]), np.stack([LABELS, OTHER_LABELS])
META = zoo.biased.problem(Episode(TASKS, TASK_LABELS, TASKS + 1, TASK_LABELS), ways=CLASSES, strength=0.7)


def _parts(lam: np.ndarray) -> list[np.ndarray]:
    """A, B, c, D, b, one after the other."""
    shapes = [(HIDDEN, HIDDEN), (HIDDEN, FEATURES), (HIDDEN,), (CLASSES, HIDDEN), (CLASSES,)]
    flat = list(lam)
    return [np.array([flat.pop(0) for _ in range(math.prod(shape))]).reshape(shape) for shape in shapes]


def _states(P: np.ndarray, lam: np.ndarray, w: np.ndarray) -> list[float]:
    """tanh(A Σ_j P_ij w_j + B x_i + c), entry by entry."""
    (A, B, c, _, _), states = _parts(lam), w.reshape(N, HIDDEN)
    found = []
    for i in range(N):
        mixed = sum(P[i, j] * states[j] for j in range(N))
        found += [math.tanh(sum(A[k] * mixed) + sum(B[k] * X[i]) + c[k]) for k in range(HIDDEN)]
    return found


def _readout(labelled: Sequence[int], lam: np.ndarray, w: np.ndarray) -> float:
    (*_, D, b), states = _parts(lam), w.reshape(N, HIDDEN)
    losses = []
    for i in labelled:
        p = [math.exp(sum(D[k] * states[i]) + b[k]) for k in range(CLASSES)]
        losses.append(-math.log(p[LABELS[i]] / sum(p)))
    return sum(losses) / len(labelled)


def _poisoned(lam: np.ndarray, w: np.ndarray) -> float:
    """Row j of the noise is added to sample POISONED[j]."""
    noisy = [
        x + sum((lam[j * FEATURES : (j + 1) * FEATURES] for j in range(2) if POISONED[j] == i), np.zeros(2))
        for i, x in enumerate(X)
    ]
    return sum(_softmax_losses(w, np.array(noisy))) / N + 0.3 * sum(w * w) / 2


def _weighted_by_loss(lam: np.ndarray, w: np.ndarray) -> list[float]:
    """w − 0.75 ((1/N) Σ V(ℓ_i) ∇ℓ_i + 0.3 w), V = σ(Σ_k c_k tanh(a_k ℓ + b_k) + e)."""
    a, b, c, e = lam[:2], lam[2:4], lam[4:6], lam[6]
    step = 0.3 * w
    for x, label, loss in zip(X, LABELS, _softmax_losses(w), strict=True):
        p = [math.exp(math.fsum(row * x)) for row in w.reshape(CLASSES, FEATURES)]
        slope = [(p[k] / math.fsum(p) - (k == label)) * x[j] for k in range(CLASSES) for j in range(FEATURES)]
        inner = sum(c[k] * math.tanh(a[k] * loss + b[k]) for k in range(2)) + e
        step = step + _sigmoid(inner) * np.array(slope) / N
    return list(w - 0.75 * step)


def _biased(samples: np.ndarray, strength: float, lam: np.ndarray, w: np.ndarray) -> float:
    tasks = []
    for x, y, own in zip(samples, TASK_LABELS, w.reshape(2, -1), strict=True):
        tasks.append(sum(_softmax_losses(own, x, y)) / N + strength * sum((own - lam) ** 2) / 2)
    return sum(tasks) / len(tasks)


# thing -> its value at (λ, w) by the definition
DEFINITIONS: dict[str, tuple[Any, Callable[[np.ndarray, np.ndarray], Any]]] = {
    "quadratic": (QUADRATIC, _quadratic),
    "half squares": (
        RIDGE.upper,
        lambda lam, w: sum((z - y) ** 2 for z, y in zip(_scores(w), Y, strict=True)) / (2 * N),
    ),
    "ridge.penalty": (
        RIDGE.lower,
        lambda lam, w: (
            sum((z - y) ** 2 for z, y in zip(_scores(w), Y, strict=True)) / (2 * N) + sum(lam * w * w) / 2
        ),
    ),
    "ridge.log_penalty": (
        LOG_RIDGE.lower,
        lambda lam, w: (
            sum((z - y) ** 2 for z, y in zip(_scores(w), Y, strict=True)) / (2 * N)
            + math.exp(lam[0]) * sum(w * w) / 2
        ),
    ),
    "logistic": (
        zoo.logistic.problem(X, SIGNS, X, SIGNS).upper,
        lambda lam, w: (
            sum(math.log(1 + math.exp(-y * z)) for z, y in zip(_scores(w), SIGNS, strict=True)) / N
        ),
    ),
    "linear": (
        zoo.uppers.linear(C, l=L),
        lambda lam, w: sum(sum(c * w) + sum(a * lam) for c, a in zip(C, L, strict=True)) / N,
    ),
    "log-cosh": (
        zoo.uppers.log_cosh(X, Y, n=1),
        lambda lam, w: sum(math.log(math.cosh(z - y)) for z, y in zip(_scores(w), Y, strict=True)) / N,
    ),
    "cross entropy": (CLEANING.upper, lambda lam, w: sum(_softmax_losses(w)) / N),
    "weight function": (BY_LOSS.phi, _weighted_by_loss),
    "weighted softmax": (
        CLEANING.lower,
        lambda lam, w: (
            sum(_sigmoid(a) * loss for a, loss in zip(lam, _softmax_losses(w), strict=True)) / N
            + 0.3 * sum(w * w) / 2
        ),
    ),
    "raw softmax": (
        dataclasses.replace(CLEANING.lower, weights=RAW),
        lambda lam, w: (
            sum(a * loss for a, loss in zip(lam, _softmax_losses(w), strict=True)) / N + 0.3 * sum(w * w) / 2
        ),
    ),
    "weighted squares": (
        WeightedRows(zoo.ridge.HalfSquares(X, Y, N)),
        lambda lam, w: (
            sum(_sigmoid(a) * (z - y) ** 2 for a, z, y in zip(lam, _scores(w), Y, strict=True)) / (2 * N)
        ),
    ),
    "raw logistic": (
        WeightedRows(zoo.logistic.SoftLabelLoss(X, SOFT, N), RAW),
        lambda lam, w: sum(a * b for a, b in zip(lam, _soft_losses(w), strict=True)) / N,
    ),
    "soft labels": (zoo.logistic.SoftLabelLoss(X, SOFT, 1), lambda lam, w: sum(_soft_losses(w)) / N),
    "soft threshold": (
        zoo.degenerate.SoftThreshold(0.75, 3),
        lambda lam, w: sum((w - lam) ** 2) / 2 + 0.75 * sum(abs(w)),
    ),
    "affine map": (
        AFFINE,
        lambda lam, w: sum(AFFINE.A[k] @ w + AFFINE.B[k] @ lam + AFFINE.c[k] for k in range(4)) / 4,
    ),
    "tanh map": (
        TANH,
        lambda lam, w: [math.tanh(z) for z in TANH.A @ w + TANH.B @ lam + TANH.c],
    ),
    "bent line": (
        zoo.maps.bent_line(0.5, 0.75).phi,
        lambda lam, w: [0.5 * w[0] + lam[0] * (1 + 0.75 * w[0])],
    ),
    "equilibrium map": (MODEL.phi, lambda lam, w: _states(np.eye(N), lam, w)),
    "graph map": (GRAPH_MODEL.phi, lambda lam, w: _states(GRAPH, lam, w)),
    "readout": (MODEL.upper, lambda lam, w: _readout(range(N), lam, w)),
    "readout, two labels": (GRAPH_MODEL.upper, lambda lam, w: _readout(LABELLED, lam, w)),
    "poisoned": (POISONING.lower, _poisoned),
    "poisoning's validation": (
        POISONING.upper,
        lambda lam, w: -sum(_softmax_losses(w, labels=OTHER_LABELS)) / N,
    ),
    "scaled": (zoo.uppers.Scaled(2.5, QUADRATIC), lambda lam, w: 2.5 * _quadratic(lam, w)),
    "biased": (META.lower, lambda lam, w: _biased(TASKS, 0.7, lam, w)),
    "biased queries": (META.upper, lambda lam, w: _biased(TASKS + 1, 0.0, lam, w)),
}


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("seed", [45, 46])
def test_a_value_is_its_definition(name: str, seed: int) -> None:
    """And the derivatives are those of this value."""
    # kills: a mean that sums, a constant term lost, τ, reg or a bias left out of value and derivatives alike; a factor
    # left out of a derivative, P for Pᵀ
    thing, definition = DEFINITIONS[name]
    rng = np.random.default_rng(seed)
    lam, w = rng.standard_normal(thing.n), rng.standard_normal(thing.d)
    data = 1 + sum(np.linalg.norm(x) for x in (X, Y, C, L, QUADRATIC.ww, QUADRATIC.lw, AFFINE.A, AFFINE.B))
    size = data * (1 + np.linalg.norm(lam) + np.linalg.norm(w)) ** 2
    allowed = 10 * (thing.n + thing.d + N) * 2.0**-52 * size
    assert np.abs(np.asarray(thing.value(lam, w)) - definition(lam, w)).max() <= allowed
    ri.check_derivatives(thing, lam, w)


@pytest.mark.parametrize("name", [*THINGS, "weighted softmax"])
@pytest.mark.parametrize("leads", [((), ()), ((2, 1), (3,)), ((), (3,)), ((2,), ())], ids=str)
@pytest.mark.parametrize("terms", [False, True])
def test_operators_declare_their_leading_axes(name: str, leads: Any, terms: bool) -> None:
    """``lead`` says where other families of vectors go: in front of all axes of the matrix, and of none beyond the
    longest that λ, w and the data have (a matrix independent of λ may lack λ's)."""
    # kills: lead of the point alone, or of the data alone, one too many, one too few
    thing = DEFINITIONS[name][0] if name == "weighted softmax" else THINGS[name]()
    if terms and thing.space.size > 1:
        thing = thing.at(np.arange(2).reshape(2, *(1,) * max(len(lead) for lead in leads)))
    rng = np.random.default_rng(47)
    lam, w = (
        rng.standard_normal((*lead, size)) for lead, size in zip(leads, (thing.n, thing.d), strict=True)
    )
    for quantity in ("d_w", "d_lam") if isinstance(thing, Map) else ("hess_ww", "cross"):
        operator = getattr(thing, quantity)(lam, w)
        longest = max(lam.ndim - 1, w.ndim - 1, thing.lead)
        assert operator.dense().ndim - 2 <= operator.lead <= longest, quantity
        assert operator.T.lead == operator.lead, quantity


@pytest.mark.parametrize("name", [*THINGS, "weighted softmax"])
def test_the_matrix_of_a_term_agrees_with_its_products(name: str) -> None:
    # kills: a matrix assembled without the selection that a single term of the sum makes
    thing = DEFINITIONS[name][0] if name == "weighted softmax" else THINGS[name]()
    if thing.space.size == 1:
        return
    rng = np.random.default_rng(48)
    lam, w = rng.standard_normal(thing.n), rng.standard_normal(thing.d)
    for quantity in ("d_w", "d_lam") if isinstance(thing, Map) else ("hess_ww", "cross"):
        for sample in (1, np.array([2, 0, 1])):
            operator = getattr(thing.at(sample), quantity)(lam, w)
            x, y = (rng.standard_normal(size) for size in operator.shape[::-1])
            dense = operator.dense()
            allowed = (
                10
                * (thing.n + thing.d)
                * 2.0**-52
                * np.linalg.norm(dense)
                * (np.linalg.norm(x) + np.linalg.norm(y))
            )
            assert np.abs(dense @ x - operator @ x).max(initial=0.0) <= allowed, quantity
            assert np.abs(y @ dense - operator.T @ y).max(initial=0.0) <= allowed, quantity


@pytest.mark.parametrize("name", ["cross entropy", "weighted softmax", "raw softmax"])
def test_the_assembled_hessian_is_symmetric_to_the_last_bit(name: str) -> None:
    # kills: one triangle's rounding for both
    thing = DEFINITIONS[name][0]
    rng = np.random.default_rng(49)
    for _ in range(5):
        dense = thing.hess_ww(rng.standard_normal(thing.n), rng.standard_normal(thing.d)).dense()
        assert np.array_equal(dense, dense.T)


def test_weights_are_packed_class_major() -> None:
    # kills: features and classes exchanged
    thing = CLEANING.lower
    weights = np.arange(FEATURES * CLASSES, dtype=float).reshape(FEATURES, CLASSES)
    w = thing.pack(weights)
    assert w.tolist() == [weights[j, k] for k in range(CLASSES) for j in range(FEATURES)]
    assert np.array_equal(thing.unpack(w), weights)
    layout = (
        MODEL.phi.layout
    )  # of λ the set of an equilibrium model restricts A, and has a place for all the rest
    assert layout.domain(0.5).shape == (layout.n,)


@pytest.mark.parametrize(
    "level", [AFFINE, descent_map(QUADRATIC, 0.5)], ids=lambda level: type(level).__name__
)
def test_a_minibatch_of_maps_is_the_mean_of_those_drawn(level: Map) -> None:
    # kills: all of the data for those drawn, one of them for all, A of some and c of others
    rng = np.random.default_rng(55)
    lam, w, index = (
        rng.standard_normal(level.n),
        rng.standard_normal(level.d),
        np.array([[3, 1, 3], [0, 2, 2]]),
    )
    drawn = Draws(level, 3).at((np.zeros(2, dtype=int), index))
    for k, batch in enumerate(index):
        values = [level.at(i).value(lam, w) for i in batch]
        slopes = [level.at(i).d_lam(lam, w).dense() for i in batch]
        allowed = 10 * (level.n + level.d + 3) * 2.0**-52 * (1 + np.abs(values).max() + np.abs(slopes).max())
        assert np.abs(drawn.value(lam, w)[k] - np.mean(values, axis=0)).max() <= allowed
        assert np.abs(drawn.d_lam(lam, w).dense()[k] - np.mean(slopes, axis=0)).max() <= allowed


# -- constants ----------------------------------------------------------------------------------------
def _constants() -> Constants:
    """Different primes, so that no two terms can be exchanged; κ_q = 2."""
    names = [f.name for f in dataclasses.fields(Constants) if f.name not in ("q", "step")]
    primes = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    return Constants(q=Fraction(1, 2), **dict(zip(names, primes, strict=True)))  # type: ignore[arg-type]


def test_the_constants_of_lemma_3_and_theorem_4() -> None:
    # kills: a term left out, a power of κ_q, ν₂ for ν̄₁
    c = _constants()
    k, P = 2, c.L_Phi
    assert c.kappa_q == 2
    assert c.L_w == 2 * P
    assert c.L_dw == c.nu2_bar * k + (c.nu2 + c.nu1_bar) * P * k**2 + c.nu1 * P**2 * k**3
    assert c.L_f == c.mu2_bar + (c.mu1_bar + c.mu2) * P * k + c.mu1 * P**2 * k**2 + c.L_E * c.L_dw
    assert c.c1 == c.mu2 + (c.mu1 * P + c.nu2 * c.L_E) * k + c.nu1 * c.L_E * P * k**2


def test_the_constants_of_a_problem_are_those_of_its_levels() -> None:
    # kills: ν₁ for ν₂, the bar left out, the upper level's curvature for its cross derivative
    problem, lam, w = ri.FixedPointProblem(QUADRATIC, TANH), np.ones(2) / 4, np.ones(3) / 8
    region = Region(lam, w, 0.25, 0.5)
    phi, E, found = problem.phi.bounds(region), problem.upper.bounds(region), constants(problem, region)
    assert (found.q, found.L_Phi) == (phi.d_w, phi.d_lam)
    assert (found.nu1, found.nu1_bar) == (phi.d_w_by_w, phi.d_w_by_lam)
    assert (found.nu2, found.nu2_bar) == (phi.d_lam_by_w, phi.d_lam_by_lam)
    assert (found.L_E, found.mu1, found.mu2) == (E.grad_w, E.hess_ww, E.cross)
    assert (found.mu1_bar, found.mu2_bar, found.B) == (E.cross, E.hess_ll, 0.5)
    assert len({*dataclasses.astuple(phi), E.grad_w, E.hess_ww, E.cross, E.hess_ll}) == 10  # told apart


@pytest.mark.parametrize(
    "step", [0.125, 0.25, 0.5]
)  # below, at and above the best one, where the ends change over
def test_the_constants_of_a_descent_map_are_scaled_by_its_step(step: float) -> None:
    # kills: a step left out, q from one end of the spectrum
    lower = zoo.weighted_softmax.problem(X, LABELS, X, LABELS, classes=CLASSES, reg=0.3).lower
    region = Region(np.zeros(lower.n), np.ones(lower.d), 0.25, 0.5)
    G, phi = lower.bounds(region), descent_map(lower, step).bounds(region)
    assert phi.d_w == max(abs(1 - step * G.hess_ww_min), abs(1 - step * G.hess_ww))
    assert (phi.d_lam, phi.d_w_by_w) == (step * G.cross, step * G.hess_ww_by_w)
    assert (phi.d_w_by_lam, phi.d_lam_by_w) == (step * G.hess_ww_by_lam, step * G.cross_by_w)
    assert phi.d_lam_by_lam == step * G.cross_by_lam
    quadratic = zoo.quadratic.objective(ww=np.diag([1.0, 7.0]), n=0)
    point = Region(np.zeros(0), np.zeros(2))
    assert best_step(quadratic.bounds(point)) == 0.25
    assert descent_map(quadratic, step).bounds(point).d_w == {0.125: 0.875, 0.25: 0.75, 0.5: 2.5}[step]
    assert best_step(Bounds(grad_w=0, hess_ww=3, hess_ww_min=1, cross=0, hess_ll=0)) == 0.5


def test_the_region_around_has_the_distance_for_its_radius() -> None:
    # kills: half of it, its square
    problem = zoo.maps.line(0.5)
    region = around(problem, [1.0], [2.0], [5.0], 0.25)
    assert (region.lam, region.w, region.lam_radius, region.w_radius) == ([1.0], [2.0], 0.25, 3.0)


# -- arrays -------------------------------------------------------------------------------------------
def test_batches_of_products_conjugate_nothing() -> None:
    # kills: x̄ y over leading axes, where a single product has a formula of its own
    B, x = arrays.backend(), np.array([[1j, 2.0], [3.0, 4j]])
    assert B.dot(x, x).tolist() == [3, -7]
    assert B.dot(x, x[0]).tolist() == [3, 11j]


# -- the check of derivatives, channel by channel -----------------------------------------------------
def _with(operator: Operator, **changes: Any) -> Operator:
    return dataclasses.replace(operator, **changes)


WRONG: dict[str, Callable[[Operator], Operator]] = {
    "adjoint": lambda a: _with(a, apply_T=lambda u: 2 * a.apply_T(u), symmetric=False),
    "dense": lambda a: _with(a, assemble=lambda: 2 * a.dense()),
}


@pytest.mark.parametrize("channel", WRONG)
@pytest.mark.parametrize("quantity", ["hess_ww", "cross"])
def test_each_structural_channel_fails_alone(
    channel: str, quantity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # kills: a channel that compares something with itself, hidden by another channel that notices too
    thing = QUADRATIC
    lam, w = np.ones(2), np.ones(3)
    right = list(checks._structure(thing, lam, w, 1e-9))
    assert all(row.ok for row in right)
    operators = checks._operators(thing, lam, w) | {
        quantity: WRONG[channel](getattr(thing, quantity)(lam, w))
    }
    monkeypatch.setattr(checks, "_operators", lambda *_: operators)
    wrong = {(row.quantity, row.channel) for row in checks._structure(thing, lam, w, 1e-9) if not row.ok}
    assert (quantity, channel) in wrong
    assert all(name == quantity for name, _ in wrong)


def test_a_matrix_wrong_in_batches_alone_is_seen_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    thing, rng = QUADRATIC, np.random.default_rng(50)
    original = checks._operators

    def broken(thing: Any, lam: np.ndarray, w: np.ndarray) -> dict[str, Operator]:
        found = original(thing, lam, w)
        return {k: WRONG["dense"](a) for k, a in found.items()} if lam.ndim > 1 else found

    monkeypatch.setattr(checks, "_operators", broken)
    rows = checks._leading(thing, np.ones(2), np.ones(3), np.ones(2), np.ones(3), rng, 1e-9)
    wrong = {row.channel.split()[0] for row in rows if not row.ok}
    assert wrong == {"dense", "products"}


def test_a_gap_is_the_largest_difference() -> None:
    # kills: the mean difference, the signed one
    assert checks._gap(np.array([0.0, -3.0, 1.0]), np.zeros(3)) == 3.0


def test_an_estimate_is_wider_for_more_entries():
    """Bonferroni: with the same draws, 100 copies of a mean need the quantile of a hundredth of the risk."""

    def wide(m):
        return 1.0 * m[..., [0] * 100]

    space = Bernoulli([0.5])
    one, many = (estimate(space, f, np.random.default_rng(0), samples=99) for f in (lambda m: 1.0 * m, wide))
    ratio = NormalDist().inv_cdf(1 - 0.01 / 200) / NormalDist().inv_cdf(1 - 0.01 / 2)
    assert np.allclose(many.half_width / one.half_width[0], ratio, rtol=2**-40)  # the quantile's own accuracy


def test_masked_points_lie_in_the_ball_that_bounds_take():
    """What Dropout.bounds asks f for: a ball with every m∘w' in it, touched at the corners m ∈ {0, 1}^d of w."""
    asked = []

    @dataclasses.dataclass(frozen=True)
    class Spy(quadratic.Quadratic):
        def bounds(self, region):
            asked.append(region)
            return super().bounds(region)

    f = quadratic.objective(ww=np.eye(2), n=1)
    spy = Spy(f.ww, f.lw, f.ll, f.w1, f.l1)
    w = np.array([3.0, -4.0])
    for scale, s in (("none", np.ones(2)), ("inverse", np.array([2.0, 4.0]))):
        spy.with_dropout([0.5, 0.25], scale=scale).bounds(Region(np.zeros(1), w, 0.0, 0.5))
        ball = asked[-1]
        for m in np.ndindex(2, 2):
            distance = np.linalg.norm(np.array(m) * s * w - ball.w)
            assert np.isclose(distance + s.max() * 0.5, ball.w_radius, rtol=8 * 2.0**-52, atol=0)
