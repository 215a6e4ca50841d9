"""Weighted softmax regression against its definition in loops, its constants hunted, and digits hyper-cleaning."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

import refimpl as ri
from refimpl.arrays import Backend, to_numpy
from refimpl.checks import check_derivatives
from refimpl.constants import Region
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.zoo import weighted_softmax
from refimpl.zoo.softmax import SoftmaxLoss, one_hot
from refimpl.zoo.weighted_softmax import WeightedSoftmax
from refimpl.zoo.weights import SampleWeights
from tests.backends import Place, everywhere, on_cpu, round_trip
from tests.rounding import EPS, assert_rounded
from tests.zoo_things import point, quantities

N, FEATURES, CLASSES, REG = 5, 3, 4, 0.25
SEPARATE = 40.0  # a difference of scores at which p is one-hot: exp(−40) < eps


def _problem(seed: int = 0, rows: int = N, **options: Any) -> Any:
    rng = np.random.default_rng(seed)
    return weighted_softmax.problem(
        rng.standard_normal((rows, FEATURES)),
        rng.integers(0, CLASSES, rows),
        rng.standard_normal((rows + 1, FEATURES)),
        rng.integers(0, CLASSES, rows + 1),
        **{"classes": CLASSES, "reg": REG, **options},
    )


def _raw() -> Any:
    return _problem(weights="identity").lower


def _flat(seed: int = 0, **options: Any) -> Any:
    """Without a ridge, and with smooth labels."""
    return _problem(seed, **{"reg": 0.0, "singular": True, "reg_upper": 0.5, "smoothing": 0.4, **options})


THINGS = {
    "raw": _raw,
    "raw, a sample twice": lambda: _raw().batch(np.array([2, 0, 2])),
    "a sample twice": lambda: _problem().lower.batch(np.array([2, 0, 2])),
    "no ridge": lambda: _flat().lower,
    "lower": lambda: _problem().lower,
    "upper": lambda: _problem().upper,
    "one sample": lambda: _problem(rows=1).lower,
    "a sample's term": lambda: _problem().lower.at(3),
    "a sample's term, upper": lambda: _problem().upper.at(3),
}


# -- the definition, sample by sample ---------------------------------------------------------------
def _by_definition(f: Any, lam: np.ndarray, w: np.ndarray) -> dict[str, np.ndarray]:
    """Value and derivatives of one (λ, w), in loops over samples and classes; shares no code with the zoo."""
    weighted, W = isinstance(f, WeightedSoftmax), w.reshape(CLASSES, FEATURES)
    rows, n, d = len(f.X), len(lam), len(w)
    value, grad_lam, grad_w = f.reg * float(w @ w) / 2, np.zeros(n), f.reg * w
    hess, cross = f.reg * np.eye(d), np.zeros((n, d))
    for i in range(rows):
        x, share = f.X[i], f.y[:, i]
        scores = [float(W[k] @ x) for k in range(CLASSES)]
        total = math.fsum(math.exp(s) for s in scores)
        p = np.array([math.exp(s) / total for s in scores])
        loss = math.fsum(a * (math.log(total) - b) for a, b in zip(share, scores, strict=True))
        s = 1 / (1 + math.exp(-lam[i])) if weighted else 1.0
        slope = s * (1 - s) if weighted else 0.0
        if weighted and f.weights.kind == "identity":
            s, slope = lam[i], 1.0
        e = p - share
        value += s * loss / rows
        grad_w = grad_w + s * np.kron(e, x) / rows
        hess = hess + s * np.kron(np.diag(p) - np.outer(p, p), np.outer(x, x)) / rows
        if weighted:
            grad_lam[i] = slope * loss / rows
            cross[i] = slope * np.kron(e, x) / rows
    return {"value": np.array(value), "grad_lam": grad_lam, "grad_w": grad_w, "hess_ww": hess, "cross": cross}


def _size(f: Any, lam: np.ndarray, w: np.ndarray) -> float:
    """Bounds every sum of magnitudes in the formulas: losses, first and second derivatives."""
    length = 1 + float(np.linalg.norm(to_numpy(f.X)))
    return length**2 * (1 + float(np.linalg.norm(w))) + float(np.linalg.norm(w)) ** 2 + math.log(CLASSES)


@pytest.mark.parametrize("name", ["lower", "upper", "one sample", "raw", "no ridge"])
@everywhere
@pytest.mark.parametrize("lead", [((), ()), ((2, 1), (3,)), ((3,), (3,)), ((), (2,)), ((2,), ())], ids=str)
def test_every_quantity_is_the_definition(name: str, place: Place, lead: tuple[Any, Any]) -> None:
    # kills: 1/N dropped, σ for σ', weights or classes on the wrong axis, features before classes, reg/2 for reg
    f = THINGS[name]()
    lam, w = point(f, 1, *lead)
    there = place.move(f)
    LAM, W = place.array(lam), place.array(w)
    full = np.broadcast_shapes(*lead)
    for quantity in ("value", "grad_lam", "grad_w", "hess_ww", "cross"):
        found = getattr(there, quantity)(LAM, W)
        found = to_numpy(found.dense() if quantity in ("hess_ww", "cross") else found)
        for index in np.ndindex(*full):
            at = np.broadcast_to(lam, (*full, f.n))[index], np.broadcast_to(w, (*full, f.d))[index]
            expected = _by_definition(f, *at)[quantity]
            got = np.broadcast_to(found, (*full, *expected.shape))[index]
            assert_rounded(got, expected, terms=_size(f, *at), count=f.d + f.count)


@pytest.mark.parametrize("name", THINGS)
@on_cpu
@pytest.mark.parametrize("seed", range(3))
def test_every_derivative_agrees_through_two_channels(name: str, place: Place, seed: int) -> None:
    # kills: a flipped sign, a transpose or a dropped term in any derivative
    f = THINGS[name]()
    lam, w = point(f, seed)
    channels: dict[str, set[str]] = {}
    for row in check_derivatives(place.move(f), lam, w, seed=seed):
        channels.setdefault(row.quantity, set()).add(row.channel)
    for quantity in ("grad_lam", "grad_w", "hess_ww", "cross", "cross.T"):
        assert {"autograd", "complex step"} <= channels[quantity], quantity


# -- the finite sum -----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["lower", "upper", "raw", "raw, a sample twice"])
@everywhere
def test_the_samples_average_to_the_whole(name: str, place: Place) -> None:
    # kills: the ridge counted N times, σ(λ_0) for σ(λ_i) after at(i), the sample's axis behind λ's
    f = THINGS[name]()
    there, (lam, w), (u, v) = place.move(f), point(f, 2, (2, 1), (3,)), point(f, 3)
    arrays = [place.array(x) for x in (lam, w, u, v)]
    samples = np.arange(f.count)[:, None, None]  # in front of the axes (2, 3) of λ and w
    for of in quantities(f).values():
        whole = np.asarray(of(f, lam, w, u, v))
        terms = to_numpy(of(there.at(samples), *arrays))
        mean = np.broadcast_to(terms, (f.count, *terms.shape[1:])).mean(axis=0)
        size = _size(f, lam, w) * max(1.0, np.linalg.norm(u), np.linalg.norm(v))
        assert_rounded(*np.broadcast_arrays(mean, whole), terms=size, count=f.d + f.count)


def test_a_term_keeps_all_of_lambda_and_its_own_weight() -> None:
    f = _problem().lower
    lam, w = point(f, 4)
    for i in range(N):
        term = f.at(i)
        assert (term.n, term.d, term.space.size) == (N, f.d, 1)
        others = np.arange(N) != i
        assert not term.grad_lam(lam, w)[others].any()
        assert not np.asarray(term.cross(lam, w).dense())[others].any()
        again = term.at(np.zeros(2, dtype=int))  # a term is itself a sum of one
        assert np.array_equal(np.broadcast_to(term.grad_lam(lam, w), (2, N)), again.grad_lam(lam, w))


def test_data_with_leading_axes() -> None:
    """Three data sets on one axis: every quantity is that of each set, and samples go in front of that axis."""
    sets = [_problem(seed).lower for seed in range(3)]
    stacked = dataclasses.replace(sets[0], X=np.stack([f.X for f in sets]), y=np.stack([f.y for f in sets]))
    lam, w = point(sets[0], 5, (2, 1))
    (u, v) = point(sets[0], 6)
    term = stacked.at(np.array([[4], [1]])[..., None])
    assert term.leading == (2, 1, 1, 3)
    for quantity, of in quantities(sets[0]).items():
        together, terms = of(stacked, lam, w, u, v), of(term, lam, w, u, v)
        for k, f in enumerate(sets):
            single = np.asarray(of(f, lam, w, u, v))  # (2, 1, …), or without axes where λ does not enter
            got = np.moveaxis(_lead(together, quantity, (2, 3)), 1, 0)[k]
            want = _lead(single, quantity, (2, 1))[:, 0]
            assert_rounded(got, want, terms=_size(f, lam, w) * 10, count=f.d + f.count)
            for j, sample in enumerate((4, 1)):
                one = _lead(np.asarray(of(f.at(sample), lam, w, u, v)), quantity, (2, 1))[:, 0]
                at = np.moveaxis(_lead(terms, quantity, (2, 1, 2, 3)), 3, 0)[k][j, 0]
                assert_rounded(at, one, terms=_size(f, lam, w) * 10, count=f.d + f.count)


def _lead(x: Any, quantity: str, lead: tuple[int, ...]) -> np.ndarray:
    """x with exactly these leading axes."""
    own = 2 if quantity.endswith("dense") else 0 if quantity == "value" else 1
    x = np.asarray(x)
    return np.broadcast_to(x, (*lead, *x.shape[x.ndim - own :]))


# -- balls, complex numbers, single precision, layouts --------------------------------------------------
@pytest.mark.parametrize("scale", [1.0, SEPARATE])
def test_balls_enclose_the_floats(scale: float) -> None:
    # kills: a shift or a block that is right in floats only; at SEPARATE the probabilities are 0 and 1
    import flint

    f = _problem().lower
    (lam, w), (u, v) = point(f, 7), point(f, 8)
    w = scale * w
    with flint.ctx.workprec(200):
        balls = f.to("interval")
        B = balls.backend
        arrays = [B.asarray(x) for x in (lam, w, u, v)]
        for quantity, of in quantities(f).items():
            enclosure = np.asarray(of(balls, *arrays))
            radius = max(float(e.rad()) for e in enclosure.ravel())
            assert radius <= 2.0**-150 * _size(f, lam, w) * 10 * (f.d + N), quantity
            size = _size(f, lam, w) * max(1.0, np.linalg.norm(u), np.linalg.norm(v))
            assert_rounded(of(f, lam, w, u, v), to_numpy(enclosure), terms=size, count=f.d + N)


def test_single_precision_stays_single() -> None:
    f = _problem().lower
    single = f.to("numpy", dtype="float32")
    points = [x for seed in (9, 10) for x in point(f, seed)]
    for quantity, of in quantities(f).items():
        got = of(single, *(x.astype(np.float32) for x in points))
        assert np.asarray(got).dtype == np.float32, quantity
        size = _size(f, *points[:2]) * max(1.0, *(float(np.linalg.norm(x)) for x in points[2:]))
        assert_rounded(got, of(f, *points), terms=size, count=f.d + N, dtype="float32")


def test_layouts_for_users() -> None:
    # kills: class-major and feature-major mixed up
    f = _problem().lower
    weights = np.random.default_rng(11).standard_normal((2, FEATURES, CLASSES))
    w = f.pack(weights)
    assert w.shape == (2, f.d)
    assert np.array_equal(f.unpack(w), weights)
    scores = f.X @ weights
    logsumexp = np.log(np.exp(scores).sum(axis=-1))
    losses = logsumexp - np.take_along_axis(scores, np.argmax(f.y, axis=0)[None, :, None], axis=-1)[..., 0]
    assert_rounded(f.losses(w), losses, terms=_size(f, np.zeros(N), w), count=f.d)


@pytest.mark.parametrize("name", ["lower", "raw"])
def test_the_dense_hessian_is_symmetric_to_the_last_bit(name: str) -> None:
    f = THINGS[name]()
    dense = f.hess_ww(*point(f, 12)).dense()
    assert np.array_equal(dense, dense.T)


def test_pickles_after_use() -> None:
    problem = _problem()
    before = ri.exact_hypergradient(problem, problem.start(), certify="never").value
    assert np.array_equal(
        ri.exact_hypergradient(round_trip(problem), problem.start(), certify="never").value, before
    )


# -- work ------------------------------------------------------------------------------------------------
def test_probabilities_are_computed_once_per_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    # kills: softmax inside the product
    calls, softmax = [], Backend.softmax
    monkeypatch.setattr(Backend, "softmax", lambda *a: calls.append(1) or softmax(*a))
    f = _problem().lower
    (lam, w), (u, v) = point(f, 13), point(f, 14)
    hess, cross = f.hess_ww(lam, w), f.cross(lam, w)
    assert len(calls) == 2
    for _ in range(3):
        assert np.isfinite(hess @ v).all()
        assert np.isfinite(cross @ v).all()
        assert np.isfinite(cross.T @ u).all()
    assert np.isfinite(hess.dense()).all()
    assert np.isfinite(cross.dense()).all()
    assert len(calls) == 2


def test_at_a_solution_the_hessian_is_assembled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # kills: a second dense Hessian for the adjoint, the estimate or the condition number
    problem = _problem()
    start = ri.exact_hypergradient(problem, problem.start(), certify="never")
    calls, dense = [], SoftmaxLoss._dense_hessian
    monkeypatch.setattr(SoftmaxLoss, "_dense_hessian", lambda *a: calls.append(1) or dense(*a))
    ri.exact_hypergradient(problem, problem.start(), start=start, certify="never")
    assert len(calls) == 1


# -- constants ---------------------------------------------------------------------------------------------
def _norm(m: Any) -> float:
    return float(np.linalg.norm(m, 2)) if np.size(m) else 0.0


def _ratios(f: Any, a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """What each constant must be at least, from two points: norms at a, difference quotients from a to b."""
    (lam, w), (lam2, w2) = a, b

    def dense(name: str, *at: np.ndarray) -> np.ndarray:
        return np.asarray(getattr(f, name)(*at).dense())

    step_w, step_lam = _norm(w - w2) or math.inf, _norm(lam - lam2) or math.inf
    grads = np.asarray(f.grad_lam(lam, w)) - np.asarray(f.grad_lam(lam2, w))
    return {
        "grad_w": _norm(f.grad_w(lam, w)),
        "hess_ww": _norm(dense("hess_ww", lam, w)),
        "cross": _norm(dense("cross", lam, w)),
        "hess_ll": _norm(grads) / step_lam,
        "hess_ww_by_w": _norm(dense("hess_ww", lam, w) - dense("hess_ww", lam, w2)) / step_w,
        "hess_ww_by_lam": _norm(dense("hess_ww", lam, w) - dense("hess_ww", lam2, w)) / step_lam,
        "cross_by_w": _norm(dense("cross", lam, w) - dense("cross", lam, w2)) / step_w,
        "cross_by_lam": _norm(dense("cross", lam, w) - dense("cross", lam2, w)) / step_lam,
    }


def _rounded(f: Any, a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], name: str) -> float:
    """What rounding adds to a ratio: that of the terms, over the step that a quotient divides by."""
    step = _norm(a[1] - b[1]) if name.endswith("_by_w") else _norm(a[0] - b[0])
    divided = step if "_by_" in name or name == "hess_ll" else 1.0
    return 10 * (f.d + f.n + f.count) * EPS["float64"] * _size(f, *a) / (divided or math.inf)


KINDS = ["lower", "upper", "one sample", "a sample's term", "a sample twice", "raw", "raw, a sample twice"]
NAMES = [
    "grad_w", "hess_ww", "cross", "hess_ll", "hess_ww_by_w", "hess_ww_by_lam", "cross_by_w", "cross_by_lam"
]  # fmt: skip
unit = st.integers(-8, 8).map(
    lambda tick: tick / 8
)  # of a ball's radius: its surface and its centre are met often


def _in_ball(centre: np.ndarray, radius: float, coordinates: list[float]) -> np.ndarray:
    x = np.array(coordinates)
    return centre + radius * x / max(1.0, _norm(x))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_no_constant_is_exceeded(kind: str, data: st.DataObject) -> None:
    # kills: ‖x‖² for ½‖x‖², a missing 1/N, √2 dropped, σ' of the centre for its supremum over the ball
    f = THINGS[kind]()
    lam, w = point(f, data.draw(st.integers(0, 3)))
    region = Region(
        lam, w, data.draw(st.sampled_from([0.0, 0.5, 3.0])), data.draw(st.sampled_from([0.0, 1.0, 9.0]))
    )
    bounds = f.bounds(region)

    def drawn() -> tuple[np.ndarray, np.ndarray]:
        return (
            _in_ball(lam, region.lam_radius, data.draw(st.lists(unit, min_size=f.n, max_size=f.n))),
            _in_ball(w, region.w_radius, data.draw(st.lists(unit, min_size=f.d, max_size=f.d))),
        )

    a, b = drawn(), drawn()
    for name, measured in _ratios(f, a, b).items():
        constant = getattr(bounds, name)
        if constant:
            target(measured / constant, label=name)
        assert measured <= constant + _rounded(f, a, b, name), name
    smallest = float(np.linalg.eigvalsh(f.hess_ww(*a).dense())[0])
    assert smallest >= bounds.hess_ww_min - _rounded(f, a, b, "hess_ww")


def _attaining(name: str, h: float, times: int) -> tuple[WeightedSoftmax, Any, Any]:
    """One sample, two classes and two points at distance h where the constant is attained, as h → 0.

    Drawn ``times`` times it is the same function, with one entry of λ for several samples.
    """
    x = np.array([[1.5, 2.0]])
    f = WeightedSoftmax(x, one_hot([0], 2), 0.0, 1).batch(np.zeros(times, dtype=int))
    along = np.array([1.0, -1.0]) @ np.kron(np.eye(2), x) / _norm(x) / math.sqrt(2)  # unit, moves z_0 − z_1
    per = math.sqrt(2) * _norm(x)  # by which a unit step along it moves z_0 − z_1
    even, wrong = 0 * along, -SEPARATE / per * along  # p = (½, ½), and p one-hot at the wrong class
    q = (1 - 1 / math.sqrt(3)) / 2
    skew = math.log(q / (1 - q)) / per * along  # p = (q, 1 − q), the extreme third moment
    peak = np.array([math.log(2 + math.sqrt(3))])  # the extreme of σ''
    flat = np.zeros(1)
    at = {
        "grad_w": (flat, wrong),
        "hess_ww": (flat, even),
        "cross": (flat, wrong),
        "hess_ll": (peak, wrong),
        "hess_ww_by_w": (flat, skew),
        "hess_ww_by_lam": (flat, even),
        "cross_by_w": (flat, even),
        "cross_by_lam": (peak, wrong),
    }[name]
    return f, at, (at[0] + h, at[1] + h * along)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("times", [1, 3])
@settings(max_examples=20)
@given(exponent=st.integers(6, 14))
def test_every_constant_is_attained(name: str, times: int, exponent: int) -> None:
    """A constant lowered by 10 % would be refuted: the worst ratio is 1 up to the step and rounding."""
    # kills: a constant that is only valid because it is too large; a sample drawn twice whose λ counts once
    f, a, b = _attaining(name, 2.0**-exponent, times)
    constant = getattr(f.bounds(Region(*a)), name)
    measured = _ratios(f, a, b)[name]
    assert measured <= constant + 2.0**-exponent * _size(f, *b) + _rounded(f, a, b, name)  # b is just outside
    assert measured > 0.9 * constant


def test_the_smallest_eigenvalue_is_the_ridge() -> None:
    # kills: a lower bound of the spectrum that is not attained
    f = _problem().lower
    lam, w = point(f, 15)
    shift = np.kron(np.ones(CLASSES), np.eye(FEATURES)[0])  # all classes alike
    product = f.hess_ww(lam, w) @ shift
    assert_rounded(product, REG * shift, terms=_size(f, lam, w) * _norm(shift), count=f.d + N)
    assert f.bounds(Region(lam, w, 1.0, 1.0)).hess_ww_min == REG


def test_a_negative_weight_lowers_the_spectrum() -> None:
    """Attained at p = (½, ½): the Hessian of a loss of weight −1 has the eigenvalue −½‖x‖² beside the ridge."""
    # kills: the ridge as the smallest eigenvalue whatever the weights are, |λ| for λ
    x = np.array([[1.5, 2.0]])
    f = WeightedSoftmax(x, one_hot([0], 2), REG, 1, weights=SampleWeights("identity"))
    found = f.bounds(Region(np.array([-0.75]), np.zeros(4), 0.25, 1.0))
    values = np.linalg.eigvalsh(f.hess_ww(np.array([-1.0]), np.zeros(4)).dense())
    assert_rounded(found.hess_ww_min, values[0], terms=float(x[0] @ x[0]), count=4)
    assert_rounded(found.hess_ww_min, REG - float(x[0] @ x[0]) / 2, terms=float(x[0] @ x[0]), count=4)
    assert_rounded(found.hess_ww, -values[0], terms=float(x[0] @ x[0]), count=4)


def test_raw_weights_are_a_set_and_start_where_sigmoids_do() -> None:
    plain, raw, flat = _problem(), _problem(weights="identity"), _flat(weights="identity")
    assert raw.lower.weights.value(raw.start()).tolist() == plain.lower.weights.value(plain.start()).tolist()
    assert plain.domain is None
    assert raw.lam(np.zeros(N)).tolist() == [0.0] * N  # no weight at all leaves the ridge
    for problem, lam in ((raw, -1.0), (flat, 0.0)):
        with pytest.raises(HypothesisViolated, match="outside"):
            problem.lam(np.full(N, lam))


def test_without_a_ridge_the_null_space_is_known() -> None:
    """Equal shifts of all classes, and rows in null(X): they leave every score's differences as they are."""
    # kills: a ridge that stays, smoothing of the validation labels, a ridge of F left out
    f, upper = _flat(rows=2).lower, _flat(rows=2).upper
    lam, w = point(f, 17)
    _, values, right = np.linalg.svd(f.X)
    null = right[values.size :]  # FEATURES − 2 of them
    shifts = np.kron(np.ones(CLASSES), np.eye(FEATURES))
    flat = np.stack([*shifts, *(np.kron(e, row) for e in np.eye(CLASSES) for row in null)])
    H = f.hess_ww(lam, w).dense()
    found = np.linalg.eigvalsh(H)
    known = np.linalg.matrix_rank(flat)
    assert known == FEATURES + (CLASSES - 1) * len(null)
    assert_rounded(H @ flat.T, 0 * H @ flat.T, terms=_size(f, lam, w) * _norm(flat), count=f.d + f.count)
    assert found[known] > found[-1] * 2.0**-20  # and no other direction is flat
    labels = np.argmax(_problem(rows=2).lower.y, axis=0)
    assert_rounded(f.y, 0.6 * one_hot(labels, CLASSES) + 0.1, terms=1.0, count=2)
    assert set(upper.y.ravel()) == {0.0, 1.0}
    assert float(upper.reg) == 0.5


def test_constants_are_for_one_data_set() -> None:
    f = _problem().lower
    with pytest.raises(BadInput, match="leading axes"):
        f.at(np.arange(2)).bounds(Region(*point(f, 16)))


# -- digits ----------------------------------------------------------------------------------------------
def test_digits_are_split_and_corrupted_as_said() -> None:
    data = weighted_softmax.digits_data(train=200, validation=100, corrupted=0.3, seed=3)
    assert data.X.shape == (200, 64)
    assert data.X_val.shape == (100, 64)
    assert data.corrupted.sum() == 60
    clean = weighted_softmax.digits_data(train=200, validation=100, corrupted=0.0, seed=3)
    assert np.array_equal(data.X, clean.X)
    assert np.array_equal(data.y != clean.y, data.corrupted)
    assert np.array_equal(data.y_val, clean.y_val)
    together = np.concatenate([data.X, data.X_val])
    whole = weighted_softmax.digits_data(train=300, validation=1, corrupted=0.0, seed=3)
    assert np.array_equal(whole.X, together)  # consecutive parts of one permutation: disjoint
    again = weighted_softmax.digits_data(train=200, validation=100, corrupted=0.3, seed=3)
    other = weighted_softmax.digits_data(train=200, validation=100, corrupted=0.3, seed=4)
    assert np.array_equal(again.y, data.y)
    assert not np.array_equal(other.X, data.X)


def test_digits_can_be_fewer_and_coarser() -> None:
    fine = weighted_softmax.digits_data(train=30, validation=30, corrupted=0.0, classes=(7, 2), pool=1)
    coarse = weighted_softmax.digits_data(train=30, validation=30, corrupted=0.0, classes=(7, 2), pool=4)
    assert set(fine.y) | set(fine.y_val) == {0, 1}
    images = fine.X.reshape(30, 8, 8)
    quarters = [images[:, r : r + 4, c : c + 4].mean(axis=(1, 2)) for r in (0, 4) for c in (0, 4)]
    assert_rounded(coarse.X, np.stack(quarters, axis=1), terms=1.0, count=16)


def test_the_default_is_the_published_size() -> None:
    problem = weighted_softmax.digits()
    assert (problem.n, problem.d) == (500, 640)
    assert np.array_equal(problem.start(), np.zeros(500))


def test_a_digits_sub_problem_is_certified_and_the_whole_is_not() -> None:
    small = weighted_softmax.digits(train=60, validation=60, classes=(1, 4, 7), pool=2)
    result = ri.exact_hypergradient(small, small.start())
    assert small.d == 48
    assert result.kind == "bounded"
    assert result.bound <= 10 * small.d * EPS["float64"] * np.linalg.norm(result.value) / result.rcond
    whole = weighted_softmax.digits()
    result = ri.exact_hypergradient(whole, whole.start())
    assert result.kind == "estimated"
    assert "640" in result.why_not_bounded


def test_the_hypergradient_points_away_from_wrong_labels() -> None:
    """At equal weights, a corrupted sample's derivative exceeds a clean one's nine times in ten."""
    # kills: the sign of the hypergradient
    options = {"train": 200, "validation": 200, "seed": 1}
    problem, data = weighted_softmax.digits(**options), weighted_softmax.digits_data(**options)
    value = ri.exact_hypergradient(problem, problem.start(), certify="never").value
    wrong, right = value[data.corrupted], value[~data.corrupted]
    assert np.mean(wrong[:, None] > right[None, :]) > 0.9


# -- weights that are λ, and no ridge ------------------------------------------------------------------------
@pytest.mark.parametrize("kept", [12, 9, 1, 0])
def test_without_a_ridge_exact_results_refuse(kept: int) -> None:
    """On the closed set λ >= 0; the improved model only where the rank changes: where few λ_i are not 0."""
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((12, 2)), rng.integers(0, 3, 12)
    p = weighted_softmax.problem(
        X, y, X[:5] + 1, y[:5], classes=3, reg=0, weights="identity", reg_upper=0.1, smoothing=0.2
    )
    lam = np.where(np.arange(12) < kept, p.start(), 0.0)
    with pytest.raises(HypothesisViolated, match="not positive definite"):
        ri.exact_hypergradient(p, lam)
    if kept >= 9:
        found = ri.exact.improved_hypergradient(p, lam)
        assert (found.kind, found.solution.rank) == ("bounded", 4)
        return
    for of in (ri.exact.solve_simple, ri.exact.improved_hypergradient):
        with pytest.raises(HypothesisViolated, match="rank of the lower Hessian changes"):
            of(p, lam)


# -- input that is refused -----------------------------------------------------------------------------------
X, Y = np.eye(3), np.array([0, 1, 1])
GOOD: dict[str, Any] = {"X": X, "y": Y, "X_val": X, "y_val": Y, "classes": 2, "reg": 0.1}
BAD = {
    "no samples": ({"X": np.zeros((0, 3)), "y": Y[:0]}, "(0, 3)"),
    "no features": ({"X": np.zeros((3, 0)), "X_val": np.zeros((3, 0))}, "(3, 0)"),
    "no validation samples": ({"X_val": X[:0], "y_val": Y[:0]}, "(0, 3)"),
    "a label too large": ({"y": [0, 1, 2]}, "2 at index 2"),
    "a negative label": ({"y_val": [0, -1, 1]}, "-1 at index 1"),
    "a label between": ({"y": [0, 0.5, 1]}, "0.5 at index 1"),
    "no classes": ({"classes": 0}, "3 of 3"),
    "labels in words": ({"y": ["a", "b", "b"]}, "<U1"),
    "fewer labels": ({"y": Y[:2]}, "2 targets"),
    "samples not in rows": ({"X": X[0]}, "(3,)"),
    "other features": ({"X_val": np.ones((3, 2))}, "3 and 2"),
    "NaN": ({"X": X * [1, np.nan, 1]}, "3 NaN"),
    "complex": ({"X": X + 0j}, "complex128"),
    "no ridge": ({"reg": 0.0}, "reg = 0.0"),
    "a negative ridge": ({"reg": -1.0}, "reg = -1.0"),
    "a negative ridge, weights λ": ({"reg": -1.0, "weights": "identity"}, "reg = -1.0"),
    "no number, weights λ": ({"reg": np.nan, "weights": "identity"}, "reg = nan"),
    "no number for a ridge": ({"reg": np.nan}, "reg = nan"),
    "other weights": ({"weights": "softmax"}, "'softmax'"),
    "singular, with a ridge": ({"singular": True, "reg_upper": 0.1, "smoothing": 0.1}, "reg = 0.1"),
    "singular, no ridge above": ({"singular": True, "reg": 0, "smoothing": 0.1}, "reg_upper = 0.0"),
    "singular, certain labels": ({"singular": True, "reg": 0, "reg_upper": 0.1}, "smoothing = 0.0"),
    "too smooth": ({"smoothing": 1.0}, "smoothing = 1.0"),
    "a negative ridge above": ({"reg_upper": -1.0}, "reg_upper = -1.0"),
}
BAD_DIGITS = {
    "too many": ({"train": 1000, "validation": 1000}, "1000 + 1000 of 1797"),
    "none": ({"train": 0}, "0 + 500"),
    "a class twice": ({"classes": (1, 1, 2)}, "(1, 1, 2)"),
    "one class": ({"classes": (1,)}, "(1,)"),
    "no such digit": ({"classes": (1, 10)}, "(1, 10)"),
    "blocks that do not fit": ({"pool": 3}, "pool = 3"),
    "no share": ({"corrupted": 1.5}, "1.5"),
    "no ridge": ({"reg": 0}, "reg = 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_refused(case: str) -> None:
    changed, measured = BAD[case]
    with pytest.raises(BadInput) as caught:
        weighted_softmax.problem(**GOOD | changed)
    assert measured in str(caught.value)
    assert caught.value.required
    assert caught.value.advice


@pytest.mark.parametrize("case", BAD_DIGITS)
def test_bad_choices_of_digits_are_refused(case: str) -> None:
    changed, measured = BAD_DIGITS[case]
    with pytest.raises(BadInput) as caught:
        weighted_softmax.digits(**changed)
    assert measured in str(caught.value)
    assert caught.value.required
    assert caught.value.advice
