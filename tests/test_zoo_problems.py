"""The zoo's problems: closed forms, sets, seeds, degenerate cases, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import refimpl as ri
from refimpl.arrays import backend, to_numpy
from refimpl.errors import BadInput, HypothesisViolated, NotConverged
from refimpl.zoo import degenerate, logistic, maps, quadratic, ridge, rows, uppers
from tests.zoo_things import EPS, THINGS, data, point, quantities, upper


# -- problems -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("per_feature", [False, True])
@pytest.mark.parametrize("log", [False, True])
def test_ridge_against_the_closed_form(per_feature: bool, log: bool) -> None:
    """∇f through the complex step of λ ↦ F((XᵀX/N + diag π)⁻¹ Xᵀy/N), with no formula of the zoo's."""
    # kills: λ for exp(λ), a ½ in the penalty, N_v for N
    problem = ridge.random(d=4, seed=22, per_feature=per_feature, log=log)
    (X, y), (Xv, yv) = ((f.X, f.y) for f in (problem.lower.data, problem.upper))
    lam = problem.start() * 0.75 + 0.125

    def f(lam: np.ndarray) -> Any:
        pi = (np.exp(lam) if log else lam) * np.ones(4)
        w = np.linalg.solve(X.T @ X / len(X) + np.diag(pi), X.T @ y / len(X))
        return ((Xv @ w - yv) ** 2).sum() / (2 * len(Xv))

    steps = lam + 1e-200j * np.eye(problem.n)
    expected = np.array([f(step).imag / 1e-200 for step in steps])
    result = ri.exact_hypergradient(problem, lam)
    condition = np.linalg.cond(problem.lower.hess_ww(lam, result.w).dense())
    size = np.linalg.norm(result.v) * np.linalg.norm(result.w) * max(1, np.exp(lam).max())
    assert result.kind == "bounded"
    assert np.abs(result.value - expected).max() <= 10 * 4 * EPS * condition * size


@pytest.mark.parametrize("per_feature", [False, True])
def test_log_penalty_is_the_chain_rule_of_the_penalty(per_feature: bool) -> None:
    X, y = data(23)
    X_val, y_val = data(24)
    plain = ridge.problem(X, y, X_val, y_val, per_feature=per_feature)
    log = ridge.problem(X, y, X_val, y_val, per_feature=per_feature, log=True)
    assert np.array_equal(plain.start(), np.exp(log.start()))
    lam = plain.start() * 0.5
    a, b = ri.exact_hypergradient(plain, lam), ri.exact_hypergradient(log, np.log(lam))
    assert (
        np.abs(lam * a.value - b.value).max() <= 10 * (a.bound + b.bound) + 10 * EPS * np.abs(b.value).max()
    )
    assert "penalty" in plain.name
    assert "log_penalty" in log.name


def test_the_lower_solutions_minimise() -> None:
    """Every random problem's w(λ) has a lower value than its neighbours, and is certified."""
    rng = np.random.default_rng(25)
    for problem in (
        logistic.random(d=3, seed=26),
        ridge.random(d=3, seed=27),
        logistic.random(d=3, seed=28, per_feature=True),
    ):
        lam = problem.start()
        result = ri.exact_hypergradient(problem, lam)
        around = result.w + rng.standard_normal((50, 3)) / 8
        assert (problem.lower.value(lam, around) > problem.lower.value(lam, result.w)).all()
        assert result.kind == "bounded"


def test_penalty_form_runs_over_the_rationals_with_its_set() -> None:
    problem = ridge.random(d=3, seed=29)
    exact = ri.exact_hypergradient(problem.to("rational"), problem.to("rational").start())
    floating = ri.exact_hypergradient(problem, problem.start())
    assert exact.kind == "exact"
    assert np.abs(to_numpy(exact.value) - floating.value).max() <= floating.bound
    with pytest.raises(HypothesisViolated, match="outside"):
        problem.to("rational").lam([0])


@pytest.mark.parametrize(
    ("lowest", "lam", "inside"),
    [(0.0, 1e-300, True), (0.0, 0.0, False), (0.5, 0.5, True), (0.5, 0.49, False)],
)
def test_the_set_of_the_penalty(lowest: float, lam: float, inside: bool) -> None:
    problem = ridge.random(d=3, seed=30, lowest=lowest)
    if inside:
        assert problem.lam([lam]) == lam
    else:
        with pytest.raises(HypothesisViolated, match="outside"):
            problem.lam([lam])


def test_an_upper_level_without_hyperparameters() -> None:
    """n = 0: the hypergradient is empty, and the lower level is still solved."""
    losses = upper(uppers.log_cosh, 0)
    lower = quadratic.objective(ww=np.diag([1.0, 2.0, 3.0, 4.0]), w1=np.ones(4), n=0)
    result = ri.exact_hypergradient(ri.BilevelProblem(losses, lower), np.zeros(0))
    assert result.value.shape == (0,)
    assert np.abs(result.w + 1 / np.arange(1.0, 5.0)).max() <= 10 * EPS


def whole(**changed: Any) -> dict[str, Any]:
    """The coefficients of a quadratic of 3 terms, n = 2, d = 4."""
    rng, shapes = np.random.default_rng(33), {"lw": (3, 2, 4), "w1": (3, 4), "l1": (3, 2)}
    ww, ll = (
        x + np.swapaxes(x, -1, -2) for x in (rng.standard_normal((3, 4, 4)), rng.standard_normal((3, 2, 2)))
    )
    return {"ww": ww, "ll": ll, **{k: rng.standard_normal(s) for k, s in shapes.items()}, **changed}


def mapped(**changed: Any) -> dict[str, Any]:
    """The coefficients of an affine map of 3 terms, n = 2, d = 4."""
    rng, shapes = np.random.default_rng(34), {"A": (3, 4, 4), "B": (3, 4, 2), "c": (3, 4)}
    return {**{k: rng.standard_normal(s) for k, s in shapes.items()}, **changed}


MISFITS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "one term of three": (quadratic.Quadratic, whole(lw=np.zeros((1, 2, 4)))),
    "one term too many": (quadratic.Quadratic, whole(w1=np.zeros((4, 4)))),
    "no terms": (quadratic.Quadratic, {k: x[:0] for k, x in whole().items()}),
    "no axis of the terms": (quadratic.Quadratic, {k: x[0] for k, x in whole().items()}),
    "ww not square": (quadratic.Quadratic, whole(ww=np.zeros((3, 4, 3)))),
    "lw the other way round": (quadratic.Quadratic, whole(lw=np.zeros((3, 4, 2)))),
    "a list": (quadratic.Quadratic, whole(l1=[[0.0, 0.0]] * 3)),
    "offsets of one map": (maps.AffineMap, mapped(c=np.zeros((1, 4)))),
    "more slopes than maps": (maps.AffineMap, mapped(A=np.zeros((6, 4, 4)))),
    "an axis in front of one": (maps.AffineMap, mapped(B=np.zeros((1, 3, 4, 2)))),
    "B the other way round": (maps.AffineMap, mapped(B=np.zeros((3, 2, 4)))),
    "a map between two spaces": (maps.AffineMap, mapped(A=np.zeros((3, 4, 5)))),
    "one entry of ww": (quadratic.Quadratic, whole(ww=whole()["ww"] + np.eye(4)[:1].T * np.eye(4)[2])),
    "one term of ll": (
        quadratic.Quadratic,
        whole(ll=whole()["ll"] + np.array([[[0, 0], [0, 0]]] * 2 + [[[0, 1e-9], [0, 0]]])),
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_coefficients_that_do_not_fit_are_refused(name: str) -> None:
    """Kills: a mean of one term broadcast over those of others, half of an asymmetric Hessian."""
    make, coefficients = MISFITS[name]
    with pytest.raises(BadInput, match=r"do not fit|is not symmetric"):
        make(**coefficients)


def test_a_hessian_is_symmetric_to_rounding_and_exactly_over_the_rationals() -> None:
    """A product X diag(s) Xᵀ of inner length d is off by at most d eps max|entry|."""
    rng = np.random.default_rng(35)
    X = rng.standard_normal((200, 6, 6))
    ww = (X * rng.random((200, 1, 6))) @ np.swapaxes(X, -1, -2)
    skew = np.abs(ww - np.swapaxes(ww, -1, -2)).max()
    rest = {
        "lw": np.zeros((200, 1, 6)),
        "ll": np.zeros((200, 1, 1)),
        "w1": np.zeros((200, 6)),
        "l1": np.zeros((200, 1)),
    }
    assert skew > 0
    assert quadratic.Quadratic(ww, **rest).d == 6
    with pytest.raises(BadInput, match="ww is not symmetric"):
        quadratic.Quadratic(ww, **rest).to("rational")
    off = np.array([[[1.0, 2.0], [2.0 * (1 + 8 * EPS), 4.0]]])
    rest = {
        "lw": np.zeros((1, 0, 2)),
        "ll": np.zeros((1, 0, 0)),
        "w1": np.zeros((1, 2)),
        "l1": np.zeros((1, 0)),
    }
    with pytest.raises(BadInput, match="ww is not symmetric"):
        quadratic.Quadratic(off, **rest)


@pytest.mark.parametrize("name", ["numpy", "strict", "rational", "interval"])
def test_minibatches_have_leading_axes(name: str) -> None:
    """What is checked once is not refused later, on any backend."""
    for level in (quadratic.Quadratic(**whole()).to(name), maps.AffineMap(**mapped()).to(name)):
        B = level.backend
        lam, w = B.zeros((2,)), B.zeros((4,))
        drawn = level.batch(B.indices([[0, 2], [1, 1]]))
        assert type(drawn) is type(level)
        assert (drawn.lead, drawn.backend) == (1, B)
        found = drawn.value(lam, w)
        assert found.shape[0] == 2
        moved = level.at(B.indices([1])).to("numpy")  # checked again, with the axis in front
        assert np.array_equal(to_numpy(found)[1], to_numpy(moved.value(np.zeros(2), np.zeros(4)))[0])


@pytest.mark.parametrize("make", [ridge.random, logistic.random])
def test_random_problems_have_their_seed_and_spectrum(make: Callable[..., Any]) -> None:
    spectrum = [1e-3, 0.5, 2.0]
    one, same, other = (make(d=3, seed=seed, rows=8, spectrum=spectrum) for seed in (1, 1, 2))
    assert np.array_equal(one.lower.data.X, same.lower.data.X)
    assert not np.array_equal(one.lower.data.X, other.lower.data.X)
    for X in (one.lower.data.X, one.upper.X):
        found = np.linalg.eigvalsh(X.T @ X / 8)
        assert np.abs(found - spectrum).max() <= 10 * 8 * EPS * max(spectrum)


@pytest.mark.parametrize("kind", ["affine", "tanh"])
def test_random_maps_have_their_norm(kind: str) -> None:
    phi = maps.random(n=2, d=5, seed=31, q=0.75, kind=kind).phi
    A = phi.A.mean(axis=0) if kind == "affine" else phi.A
    assert abs(np.linalg.norm(A, 2) - 0.75) <= 10 * 5 * EPS
    assert np.abs(A - A.T).max() > 0.1


# -- degenerate ---------------------------------------------------------------------------------------
def test_each_degenerate_case_has_its_label_and_reason() -> None:
    found = degenerate.cases()
    assert [case.label for case in found] == [
        "singular",
        "indefinite",
        "non-symmetric",
        "kink",
        "not a contraction",
        "rank changes",
    ]
    assert all(len(case.reason) > 40 for case in found)


@pytest.mark.parametrize(
    "make", [degenerate.singular_hessian, degenerate.indefinite_hessian, degenerate.rank_changes]
)
def test_no_minimiser_no_hypergradient(make: Callable[[], degenerate.Case]) -> None:
    case = make()
    assert not case.problem.residual(case.lam, case.w).any()
    with pytest.raises(HypothesisViolated, match="not positive definite"):
        ri.exact_hypergradient(case.problem, case.lam)


def test_a_non_symmetric_jacobian_needs_its_transpose() -> None:
    # kills: solving with ∂_w r in place of its transpose
    case = degenerate.non_symmetric(d=4, q=0.5)
    result = ri.exact_hypergradient(case.problem, case.lam)
    g = case.problem.upper.grad_w(case.lam, case.w)
    series = sum(0.5**k * np.roll(g, -k) for k in range(60))  # Pᵀ shifts back; 2⁻⁶⁰ is below rounding
    wrong = sum(0.5**k * np.roll(g, k) for k in range(60))
    allowed = 10 * 4 * EPS * np.linalg.norm(g) * 2
    assert np.abs(result.v - series).max() <= allowed
    assert np.abs(result.v - wrong).max() > 1e6 * allowed


def test_newton_cannot_rest_on_a_kink() -> None:
    case = degenerate.kink()
    with pytest.raises(NotConverged):
        ri.exact_hypergradient(case.problem, case.lam)
    smooth = ri.exact_hypergradient(case.problem, np.array([2.0, -3.0]), start=np.array([2.0, -3.0]))
    assert np.abs(smooth.w - [1.0, -2.0]).max() <= 10 * 2 * EPS * 3  # sign(λ)(|λ| − 1)
    assert smooth.kind == "estimated"  # comparisons are not decided over balls, so nothing is certified


def test_iterations_leave_the_fixed_point_of_an_expansion() -> None:
    case = degenerate.not_a_contraction(d=3, q=1.5)
    w = case.w + 2.0**-20
    distances = []
    for _ in range(20):
        w = case.problem.phi.value(case.lam, w)
        distances.append(np.linalg.norm(w - case.w))
    rates = np.array(distances[1:]) / np.array(distances[:-1])
    assert np.abs(rates - 1.5).max() <= 2.0**-20
    assert (
        np.abs(ri.exact_hypergradient(case.problem, case.lam).w - case.w).max()
        <= 10 * 3 * EPS * np.linalg.norm(case.w) * 5
    )


def test_the_lines_that_attain_the_rates() -> None:
    """w(λ) = λ/(1 − q), and λ/(1 − q − νλ), whose derivative is (1 − q)/(1 − q − νλ)²."""
    q, nu, lam = 0.5, 0.25, 0.5
    straight, bent = maps.line(q), maps.bent_line(q, nu)
    assert ri.exact_hypergradient(straight, [lam]).value == 1 / (1 - q)
    result = ri.exact_hypergradient(bent, [lam])
    left = 1 - q - nu * lam
    assert abs(result.w[0] - lam / left) <= 10 * EPS * lam / left
    assert abs(result.value[0] - (1 - q) / left**2) <= 10 * EPS / left**2 / left


# -- refusals -----------------------------------------------------------------------------------------
GOOD = ([[1.0, 2.0], [3.0, 4.0]], [1.0, -1.0])


@pytest.mark.parametrize(
    ("call", "measured"),
    [
        (lambda: ridge.problem([[1.0]], [1.0, 2.0], *GOOD), "1 rows, 2 targets"),
        (lambda: ridge.problem([[1.0]], [1.0], *GOOD), "1 and 2 columns"),
        (lambda: ridge.problem(np.zeros((0, 2)), [], *GOOD), r"\(0, 2\)"),
        (lambda: ridge.problem([[np.nan, 1.0]], [1.0], *GOOD), "1 NaN"),
        (lambda: ridge.problem([[1j, 1.0]], [1.0], *GOOD), "complex"),
        (lambda: ridge.problem([1.0, 2.0], [1.0], *GOOD), r"\(2,\)"),
        (lambda: logistic.problem(GOOD[0], [0, 1], *GOOD), r"\[0.0, 1.0\]"),
        (lambda: logistic.problem(*GOOD, GOOD[0], [1, 2]), r"\[1.0, 2.0\]"),
        (lambda: uppers.linear([[1.0], [2.0]], l=[[1.0]]), r"l \(1, 1\)"),
        (lambda: uppers.cross_entropy(GOOD[0], [0, 2], classes=2, n=1), "2 at index 1"),
        (lambda: rows.Penalised(ridge.HalfSquares(np.eye(3), np.ones(3), 2), False), "n = 2 for 3"),
        (lambda: rows.design(2, [1.0, 1.0, 1.0], np.random.default_rng(0)), "2 rows, 3"),
        (lambda: maps.affine(np.eye(2), np.eye(3)), r"B \(3, 3\)"),
        (lambda: maps.random(n=1, d=2, seed=0, kind="relu"), "relu"),
        (lambda: degenerate.non_symmetric(d=2), "d = 2"),
        (lambda: degenerate.not_a_contraction(q=1.0), "q = 1"),
    ],
)
def test_refusals_say_what_was_found(call: Callable[[], Any], measured: str) -> None:
    with pytest.raises(BadInput, match=measured) as caught:
        call()
    assert caught.value.required is not None
    assert caught.value.advice


def test_data_are_copied_not_shared() -> None:
    X = np.array(GOOD[0])
    problem = ridge.problem(X, GOOD[1], *GOOD)
    X[0, 0] = np.nan
    assert np.isfinite(problem.lower.data.X).all()


def test_single_precision_stays_single() -> None:
    for name, make in THINGS.items():
        thing = make().to("numpy", dtype="float32")
        lam, w = (x.astype(np.float32) for x in point(thing, 32))
        u, v = (x.astype(np.float32) for x in point(thing, 33))
        for quantity, f in quantities(thing).items():
            assert np.asarray(f(thing, lam, w, u, v)).dtype == np.float32, (name, quantity)


def test_backends_are_named_in_every_instance() -> None:
    for make in THINGS.values():
        assert make().backend == backend("numpy")
        assert make().to("strict").backend.name == "strict"
