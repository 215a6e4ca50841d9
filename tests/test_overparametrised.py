"""Lower levels whose minimisers are a known affine set: what is found there, and the families' own promises."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import refimpl as ri
from refimpl.arrays import to_numpy
from refimpl.bounds import Region
from refimpl.combined import Combined
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.exact import improved_hypergradient, solve_simple
from refimpl.zoo import degenerate, dyadic, overparametrised, quadratic, weighted_softmax
from tests.backends import Place, on_cpu
from tests.rounding import EPS, assert_rounded, condition_number, exactly

CHECKED = EPS["float64"]


def _softmax() -> Any:
    """Five samples of four features, of rank 3."""
    rng = np.random.default_rng(3)
    X = rng.integers(-4, 5, (5, 3)) / 2 @ rng.integers(-2, 3, (3, 4))
    return weighted_softmax.problem(
        X, [0, 1, 2, 1, 0], rng.standard_normal((6, 4)), [2, 0, 1, 1, 0, 2],
        classes=3, reg=0, singular=True, reg_upper=0.5, smoothing=0.4,
    )  # fmt: skip


FAMILIES: dict[str, Callable[[], Any]] = {
    "squares": lambda: overparametrised.random(d=5, rank=2, seed=1),
    "squares, raw": lambda: overparametrised.random(d=6, rank=3, seed=2, weights="identity"),
    "logistic": lambda: overparametrised.random(d=5, rank=3, seed=3, loss="logistic"),
    "logistic, raw": lambda: overparametrised.random(
        d=6, rank=2, seed=4, loss="logistic", weights="identity"
    ),
    "squares of digits": lambda: overparametrised.digits(
        images=4, pool=2, validation=20, loss="least squares"
    ),
    "logistic of digits": lambda: overparametrised.digits(images=4, pool=2, validation=20),
    "quadratic": lambda: quadratic.singular(n=3, d=7, rank=4, seed=5),
    "softmax": _softmax,
}
POLYNOMIAL = ["squares, raw", "quadratic"]
every_family = pytest.mark.parametrize("name", FAMILIES)


def _point(problem: Any, seed: int = 0) -> np.ndarray:
    """Weights that differ: λ away from its start, inside its set."""
    lam = problem.start()
    return np.asarray(lam + np.random.default_rng(seed).uniform(-0.25, 0.25, lam.shape))


def _known(problem: Any) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal U and N, (d, rank) and (d, d − rank): the range and the null space that the family promises."""
    G = problem.lower
    if isinstance(G, quadratic.Quadratic):
        rows = G.ww[0]
    elif hasattr(G, "data"):
        rows = G.data.X
    else:  # what differences of classes of X W tell
        apart = np.eye(G.classes)[1:] - np.eye(G.classes)[:-1]
        rows = np.kron(apart, G.X)
    _, values, right = np.linalg.svd(rows)
    rank = int((values > len(right) * CHECKED * values[0]).sum())
    return right[:rank].T, right[rank:].T


# -- the set of minimisers, and the one that F chooses ---------------------------------------------------
@every_family
def test_the_flat_directions_are_the_ones_promised(name: str) -> None:
    # kills: a row or a class left out, a ridge that makes the minimiser unique
    problem = FAMILIES[name]()
    lam = _point(problem)
    found, (U, N) = solve_simple(problem, lam), _known(problem)
    H = problem.lower.hess_ww(lam, found.w).dense()
    condition = 1 / float(np.asarray(found.singular)[found.rank - 1] / np.asarray(found.singular)[0])
    assert 0 < found.rank == U.shape[1] < problem.d
    assert_rounded(
        found.normal.T @ N,
        np.zeros((found.rank, N.shape[1])),
        terms=1.0,
        count=problem.d,
        condition=condition,
    )
    along = found.w + N @ np.random.default_rng(1).standard_normal(N.shape[1])
    values = [float(problem.lower.value(lam, w)) for w in (found.w, along)]
    size = np.linalg.norm(H) * (1 + np.linalg.norm(along)) ** 2 + 1 + abs(values[0])
    assert_rounded(values[1], values[0], terms=size, count=problem.d + problem.lower.space.size)


@every_family
@on_cpu
def test_the_derivative_is_that_of_the_value(name: str, place: Place) -> None:
    """λ ↦ F(λ, w_λ) in the complex plane: Newton on Uᵀ∇_wG = 0, Nᵀ∇_wF = 0 with U, N of the family's data alone."""
    # kills: H⁻¹ of a regularised H for H⁺, ∇_λF left out, a transpose, the range's part of ∇_wF alone
    problem = FAMILIES[name]()
    F, G, lam = problem.upper, problem.lower, _point(problem)
    found = improved_hypergradient(place.move(problem), place.array(lam))
    U, N = _known(problem)

    def stationary(lam: Any, w: Any) -> tuple[Any, Any]:
        r = np.concatenate([U.T @ G.grad_w(lam, w), N.T @ F.grad_w(lam, w)])
        return r, np.concatenate([U.T @ G.hess_ww(lam, w).dense(), N.T @ F.hess_ww(lam, w).dense()])

    w, tiny = to_numpy(found.w), 1e-200
    derivative, moves = np.zeros(problem.n), np.zeros((problem.n, problem.d))
    for i in range(problem.n):
        there, at = lam + 1j * tiny * np.eye(problem.n)[i], w + 0j
        for _ in range(2):  # w is a solution to rounding: one step moves it, one more tells that this is all
            r, J = stationary(there, at)
            at = at - np.linalg.solve(J, r)
        derivative[i], moves[i] = np.imag(F.value(there, at)) / tiny, np.imag(at) / tiny
    _, J = stationary(lam, w)
    size = np.linalg.norm(F.grad_lam(lam, w)) + np.linalg.norm(F.grad_w(lam, w)) * (1 + np.linalg.norm(moves))
    allowed = 10 * (problem.n + problem.d) * CHECKED * condition_number(J) * size
    assert np.abs(to_numpy(found.value) - derivative).max() <= allowed + found.bound
    assert allowed + found.bound <= 2.0**-24 * np.linalg.norm(derivative)  # else it would say nothing


@pytest.mark.parametrize("name", ["squares", "squares, raw", "squares of digits", "quadratic"])
def test_the_solution_is_that_of_the_kkt_system(name: str) -> None:
    """w = [Q U; Uᵀ 0]⁻¹ [−∇_wF(λ, 0); Uᵀ w₀], w₀ by scipy's least squares."""
    import scipy.linalg

    problem = FAMILIES[name]()
    F, G, lam = problem.upper, problem.lower, _point(problem)
    U, _ = _known(problem)
    if name == "quadratic":
        A, b = G.ww[0], -(G.lw[0].T @ lam + G.w1[0])
    else:
        root = np.sqrt(lam if G.weights.kind == "identity" else 1 / (1 + np.exp(-lam)))
        A, b = root[:, None] * G.data.X, root * G.data.y
    some = scipy.linalg.lstsq(A, b)[0]
    zero = np.zeros(problem.d)
    Q, rank = F.hess_ww(lam, zero).dense(), U.shape[1]
    K = np.block([[Q, U], [U.T, np.zeros((rank, rank))]])
    w = np.linalg.solve(K, np.concatenate([-F.grad_w(lam, zero), U.T @ some]))[: problem.d]
    values = np.linalg.svd(A, compute_uv=False)[:rank]
    condition = condition_number(K) * (values[0] / values[-1]) ** 2
    found = solve_simple(problem, lam).w
    size = np.linalg.norm(w) + np.linalg.norm(some)
    assert_rounded(found, w, terms=size, count=problem.d + len(A), condition=condition)


@pytest.mark.parametrize("name", POLYNOMIAL)
def test_the_rationals_agree_and_have_the_same_rank(name: str) -> None:
    # kills: data whose rank is r in floats alone
    problem = FAMILIES[name]()
    lam, exact = _point(problem), problem.to("rational")
    found = improved_hypergradient(problem, lam)
    true = improved_hypergradient(exact, exact.backend.asarray(lam))
    assert (true.kind, true.solution.rank) == ("exact", found.solution.rank)
    assert not float(true.solution.residual_lower)
    assert np.abs(found.value - to_numpy(true.value)).max() <= found.bound


def test_over_the_rationals_the_derivative_is_a_difference_quotient() -> None:
    """f(λ) = F(λ, w_λ) of the quadratic family is quadratic in λ: (f(λ + e) − f(λ − e))/2 is its derivative."""
    problem = FAMILIES["quadratic"]().to("rational")
    B, lam = problem.backend, problem.start()

    def f(lam: Any) -> Fraction:
        value = problem.upper.value(lam, solve_simple(problem, lam).w)
        return Fraction(int(value.p), int(value.q))

    steps = [B.asarray(e) for e in np.eye(problem.n)]
    assert exactly(improved_hypergradient(problem, lam).value) == [
        (f(lam + e) - f(lam - e)) / 2 for e in steps
    ]


@every_family
def test_a_vanishing_ridge_leads_there(name: str) -> None:
    """The hypergradient with G + εF below is smooth in ε: two extrapolations, to what the last one changed."""
    problem = FAMILIES[name]()
    lam = _point(problem)
    found = improved_hypergradient(problem, lam)
    steps = []
    for eps in 2.0 ** -np.arange(14, 17):
        lower = Combined(1, problem.lower, float(eps), problem.upper)
        near = ri.exact_hypergradient(
            ri.BilevelProblem(problem.upper, lower, problem.domain), lam, certify="never"
        )
        steps.append((near.value, float(near.bound)))
    (a, _), (b, _), (c, _) = steps
    once, twice = 2 * c - b, (4 * (2 * c - b) - (2 * b - a)) / 3
    rounding = found.bound + 8 * sum(bound for _, bound in steps)
    assert np.linalg.norm(twice - found.value) <= np.linalg.norm(twice - once) + rounding
    assert np.linalg.norm(once - found.value) < np.linalg.norm(c - found.value) / 4  # O(ε²) against O(ε)


def test_independent_rows_leave_the_weights_without_effect() -> None:
    """r = N: every row is fitted whatever its weight, so f does not depend on λ."""
    problem = overparametrised.random(d=6, rank=3, rows=3, seed=6)
    for certify in ("never", "always"):
        found = improved_hypergradient(problem, _point(problem), certify=certify)
        assert np.linalg.norm(found.value) <= found.bound
    other = overparametrised.random(d=6, rank=3, rows=4, seed=6)
    assert np.linalg.norm(improved_hypergradient(other, _point(other)).value) > 0.01


# -- what the builders promise ------------------------------------------------------------------------------
@pytest.mark.parametrize("d", [1, 3, 4, 7, 33])
def test_orthogonal_matrices_are_exactly_so(d: int) -> None:
    # kills: a reflection by the wrong factor, reflections that undo each other
    for seed in range(10):
        U = dyadic.orthogonal(d, np.random.default_rng(seed))
        assert np.array_equal(U.T @ U, np.eye(d))
        assert np.array_equal(16 * U, np.rint(16 * U))
        assert d < 4 or np.count_nonzero(U, axis=1).mean() >= 3  # mixed, from d = 4 on


def _rank(matrix: np.ndarray) -> int:
    import flint

    rationals = ri.arrays.backend("rational").asarray(matrix)
    return int(flint.fmpq_mat(rationals.tolist()).rref()[1])


def test_random_rows_have_their_spectrum_and_rank() -> None:
    # kills: √rows left out, singular values for eigenvalues
    spectrum = [2.0, 0.7, 0.1]
    one, same, other = (
        overparametrised.random(d=9, rank=3, rows=11, seed=seed, spectrum=spectrum) for seed in (1, 1, 2)
    )
    X = one.lower.data.X
    found = np.linalg.svd(X / np.sqrt(11), compute_uv=False)
    assert np.abs(found[:3] - spectrum).max() <= 2 * (2.0**-dyadic.BITS + 9 * CHECKED)
    assert _rank(X) == 3
    assert X.shape == (11, 9)
    assert one.n == 11
    assert np.array_equal(X, same.lower.data.X)
    assert not np.array_equal(X, other.lower.data.X)
    assert overparametrised.random(d=9, rank=3, seed=1).n == 8
    logistic = overparametrised.random(d=9, rank=3, seed=1, loss="logistic")
    assert 0 < logistic.lower.data.y.min() < 0.5 < logistic.lower.data.y.max() < 1
    assert np.linalg.matrix_rank(one.upper.f.X) == 9  # the validation rows see all directions


def test_raw_weights_are_positive() -> None:
    raw = overparametrised.random(d=4, rank=2, seed=1, weights="identity")
    assert set(raw.start()) == {0.5}
    assert overparametrised.random(d=4, rank=2, seed=1).domain is None
    with pytest.raises(HypothesisViolated, match="outside"):
        raw.lam(np.zeros(raw.n))


def test_the_upper_level_is_a_mean_loss_and_a_ridge() -> None:
    """σ_F >= reg_upper, and its value by hand."""
    problem = overparametrised.least_squares(
        [[1, 1], [2, 2]], [1, 0], [[1, 0], [3, 1]], [1, 2], reg_upper=0.5
    )
    value = problem.upper.value(problem.start(), np.array([2.0, -1.0]))
    assert value == ((2 - 1) ** 2 + (5 - 2) ** 2) / 4 + 0.5 * 5 / 2
    region = Region(problem.start(), np.zeros(2), 0.0, 1.0)
    assert problem.upper.bounds(region).hess_ww_min >= 0.5


def test_chosen_spectra_of_the_quadratic() -> None:
    # kills: H's eigenvalues on the null space, b(λ) outside the range, E = 0, q not chosen
    spectrum, across, flat = [0.25, 3.0, 1.0], [5.0, 2.0, 4.0], [0.125, 0.5]
    problem = quadratic.singular(n=2, d=5, rank=3, seed=8, spectrum=spectrum, across=across, flat=flat)
    H, Q = problem.lower.ww[0], problem.upper.ww[0]
    values, vectors = np.linalg.eigh(H)
    N, R = vectors[:, :2], vectors[:, 2:]
    assert_rounded(values, [0, 0, *sorted(spectrum)], terms=3.0, count=5)
    assert_rounded(np.linalg.eigvalsh(N.T @ Q @ N), flat, terms=5.0, count=5, condition=12.0)
    assert_rounded(np.linalg.eigvalsh(R.T @ Q @ R), sorted(across), terms=5.0, count=5, condition=12.0)
    assert np.linalg.norm(R.T @ Q @ N) > 0.1
    assert np.linalg.eigvalsh(Q)[0] >= min(*across, *flat) / 2
    assert problem.upper.lw.any()
    b = np.stack([problem.lower.w1[0], *problem.lower.lw[0]], axis=1)
    assert [_rank(H), _rank(np.concatenate([H, b], axis=1))] == [3, 3]
    assert _rank(b) == 3  # it moves in all of the range


@pytest.mark.parametrize("rank", [0, 5])
def test_the_quadratic_at_either_end(rank: int) -> None:
    """Rank 0: F alone decides, and f(λ) = min F(λ, ·). Rank d: the minimiser is unique, and so is the derivative."""
    problem = quadratic.singular(n=2, d=5, rank=rank, seed=9)
    found = improved_hypergradient(problem, problem.start())
    level = problem.upper if rank == 0 else problem.lower
    alone = ri.exact_hypergradient(ri.BilevelProblem(problem.upper, level), problem.start())
    assert found.solution.rank == rank
    assert np.abs(found.value - alone.value).max() <= found.bound + alone.bound


def test_digits_are_labelled_several_times() -> None:
    options: dict[str, Any] = {"images": 5, "validation": 30, "pool": 2, "seed": 3}
    data = overparametrised.several_labels(copies=4, corrupted=0.3, **options)
    clean = weighted_softmax.digits_data(
        train=5, validation=30, corrupted=0.0, classes=(3, 8), pool=2, seed=3
    )
    assert data.X.shape == (20, 16)
    assert all(np.array_equal(data.X[5 * k : 5 * k + 5], clean.X) for k in range(4))
    assert np.array_equal(data.y != np.tile(clean.y, 4), data.corrupted)
    assert data.corrupted.sum() == 6
    assert np.array_equal(data.y_val, clean.y_val)
    squares = overparametrised.digits(loss="least squares", copies=4, corrupted=0.3, **options)
    logistic = overparametrised.digits(copies=4, corrupted=0.3, smoothing=0.5, **options)
    assert np.array_equal(squares.lower.data.y, 2 * data.y - 1)
    assert np.array_equal(squares.upper.f.y, 2 * data.y_val - 1)
    assert np.array_equal(logistic.lower.data.y, np.where(data.y == 1, 0.75, 0.25))
    assert np.array_equal(logistic.upper.f.y, data.y_val)
    assert _rank(squares.lower.data.X) == 5
    assert overparametrised.digits().d == 64 > overparametrised.digits().n


def test_the_hypergradient_points_away_from_wrong_labels() -> None:
    """At equal weights a wrong label's derivative exceeds a right one's of the same image, more often than not."""
    options: dict[str, Any] = {"images": 30, "copies": 5, "corrupted": 0.2, "pool": 1, "seed": 4}
    problem, data = overparametrised.digits(**options), overparametrised.several_labels(**options)
    value = improved_hypergradient(problem, problem.start()).value.reshape(5, 30)
    wrong = data.corrupted.reshape(5, 30)
    mixed = wrong.any(axis=0) & ~wrong.all(axis=0)
    higher = [value[wrong[:, j], j].mean() > value[~wrong[:, j], j].mean() for j in np.flatnonzero(mixed)]
    assert np.mean(higher) > 0.5


# -- where the rank changes, and what is refused ----------------------------------------------------------------
def test_where_a_weight_reaches_zero_the_value_jumps() -> None:
    case = degenerate.rank_changes()
    with pytest.raises(HypothesisViolated, match=r"0\.5, 0 at λ") as caught:
        improved_hypergradient(case.problem, case.lam)
    assert "rank" in str(caught.value)
    near = solve_simple(case.problem, [1.0, 2.0**-20]).w
    allowed = 10 * 2 * CHECKED * 2.0**20  # the Hessian's condition
    assert np.abs(near - [0.0, 1.0]).max() <= allowed
    values = [float(case.problem.upper.value(case.lam, w)) for w in (near, case.w)]
    assert abs(values[0] - values[1] - 2) <= 3 * allowed  # 3/2 against −1/2; ‖∇F‖ < 3


X, Y = np.array([[1.0, 2.0], [2.0, 4.0]]), np.array([0.25, 0.75])
BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "a certain label": (lambda: overparametrised.logistic(X, [1, 0.5], X, Y, reg_upper=1), "1 of 2, the first 1"),
    "a label above one": (lambda: overparametrised.logistic(X, Y, X, [0, 1.5], reg_upper=1), "the first 1.5"),
    "labels in words": (lambda: overparametrised.logistic(X, ["a", "b"], X, Y, reg_upper=1), "<U1"),
    "no ridge above": (lambda: overparametrised.least_squares(X, Y, X, Y, reg_upper=0), "reg_upper = 0"),
    "other features": (
        lambda: overparametrised.least_squares(X, Y, X[:, :1], Y, reg_upper=1), "2 and 1 columns",
    ),
    "other weights": (
        lambda: overparametrised.least_squares(X, Y, X, Y, reg_upper=1, weights="none"), "'none'",
    ),
    "no rank": (lambda: overparametrised.random(d=3, rank=0, seed=0), "rank 0"),
    "too large a rank": (lambda: overparametrised.random(d=3, rank=3, rows=2, seed=0), "rank 3 of 2 rows"),
    "another loss": (lambda: overparametrised.random(d=3, rank=1, seed=0, loss="hinge"), "'hinge'"),
    "three classes": (lambda: overparametrised.digits(classes=(1, 2, 3)), "3 classes"),
    "no smoothing": (lambda: overparametrised.digits(smoothing=0.0), "36 of 36"),
    "rank above d": (lambda: quadratic.singular(n=1, d=2, rank=3, seed=0), "rank = 3"),
    "too few eigenvalues": (lambda: quadratic.singular(n=1, d=3, rank=2, seed=0, spectrum=[1.0]), "1 values"),
    "an eigenvalue of 0": (lambda: quadratic.singular(n=1, d=3, rank=2, seed=0, flat=[0.0]), "from 0"),
    "no number": (lambda: quadratic.singular(n=1, d=3, rank=2, seed=0, across=[1.0, np.nan]), "nan"),
    "a spread too wide": (
        lambda: quadratic.singular(n=1, d=3, rank=2, seed=0, spectrum=[1.0, 1e-9]), "smallest 1e-09",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case: str) -> None:
    call, measured = BAD[case]
    with pytest.raises(BadInput) as caught:
        call()
    assert measured in str(caught.value)
    assert caught.value.required
    assert caught.value.advice
