"""Simple bilevel problems: the KKT system in fractions and by SciPy, Tikhonov's limit, complex steps, and refusals."""

from __future__ import annotations

import dataclasses
import itertools
from fractions import Fraction as Q

import numpy as np
import pytest

import refimpl as ri
from refimpl.arrays import backend, to_numpy
from refimpl.combined import Combined, Restricted
from refimpl.errors import BadInput, HypothesisViolated, NotConverged
from refimpl.exact import improved_hypergradient, solve_simple
from refimpl.exact.descent import _length, minimised
from refimpl.exact.improved import _responses
from refimpl.exact.simple import floors
from refimpl.operators import matrix
from refimpl.sets import Ball, Box
from refimpl.solvers.newton import ARMIJO
from refimpl.zoo import logistic, overparametrised, quadratic, uppers, weighted_softmax
from tests.backends import everywhere, on_cpu
from tests.rounding import EPS, assert_rounded, exactly, squared_distance


@dataclasses.dataclass(frozen=True)
class Parts:
    """G = ½‖Xw − Zλ − z‖², F = ½wᵀPw + λᵀCw + pᵀw + ½‖λ‖² in whole numbers: X (r, d) of rank r."""

    X: np.ndarray
    Z: np.ndarray
    z: np.ndarray
    P: np.ndarray
    C: np.ndarray
    p: np.ndarray

    @property
    def problem(self):
        n = self.Z.shape[1]
        lower = quadratic.objective(ww=self.X.T @ self.X, lw=-self.Z.T @ self.X, w1=-self.X.T @ self.z, n=n)
        upper = quadratic.objective(ww=self.P, lw=self.C, ll=np.eye(n), w1=self.p, n=n)
        return ri.BilevelProblem(upper, lower)


def parts(n, d, r, seed, ridge=1.0):
    rng = np.random.default_rng([seed, n, d, r])
    draw = lambda *shape: rng.integers(-2, 3, shape).astype(float)  # noqa: E731 (one expression)
    X = draw(r, d)
    while np.linalg.matrix_rank(X) < r:
        X = draw(r, d)
    A = draw(d, d)
    return Parts(X, draw(r, n), draw(r), A @ A.T + ridge * np.eye(d), draw(n, d), draw(d))


SIZES = [(n, d, r) for n in (0, 1, 3) for d in (1, 2, 5) for r in (0, 1, 2, 5) if r <= d]
sizes = pytest.mark.parametrize(("n", "d", "r"), SIZES)
PARTS = parts(2, 5, 2, 0)
LAM = np.array([1.0, -2.0])


def eliminated(a, b):
    """Gauss's elimination with Fractions."""
    a = [[Q(float(x)) for x in row] + [Q(y)] for row, y in zip(a, b, strict=True)]
    for i in range(len(a)):
        k = next(k for k in range(i, len(a)) if a[k][i] != 0)
        a[i], a[k] = a[k], a[i]
        a[i] = [x / a[i][i] for x in a[i]]
        for k in range(len(a)):
            if k != i:
                a[k] = [x - a[k][i] * y for x, y in zip(a[k], a[i], strict=True)]
    return [row[-1] for row in a]


def times(a, x):
    return [sum((Q(float(e)) * y for e, y in zip(row, x, strict=True)), Q(0)) for row in a]


def by_kkt(m, lam):
    """w of min F subject to Xw = Zλ + z: Pw + Xᵀμ = −(Cᵀλ + p), in Fractions."""
    r, d = m.X.shape
    K = np.block([[m.P, m.X.T], [m.X, np.zeros((r, r))]])
    first = [-x - Q(float(y)) for x, y in zip(times(m.C.T, lam), m.p, strict=True)]
    second = [x + Q(float(y)) for x, y in zip(times(m.Z, lam), m.z, strict=True)]
    return eliminated(K, first + second)[:d]


def upper_value(m, lam, w):
    Pw, Cw = times(m.P, w), times(m.C, w)
    return (
        sum((x * y for x, y in zip(w, Pw, strict=True)), Q(0)) / 2
        + sum((x * (y + x / 2) for x, y in zip(lam, Cw, strict=True)), Q(0))
        + sum((Q(float(x)) * y for x, y in zip(m.p, w, strict=True)), Q(0))
    )


def by_differences(m, lam):
    """∇f: f is quadratic in λ, so its central difference is its derivative."""

    def f(lam):
        return upper_value(m, lam, by_kkt(m, lam))

    moved = [[x + (i == j) * s for j, x in enumerate(lam)] for i in range(len(lam)) for s in (1, -1)]
    return [(f(a) - f(b)) / 2 for a, b in zip(moved[::2], moved[1::2], strict=True)]


def at(n):
    return [Q(k % 3 - 1, 2) for k in range(n)]


# -- three channels for w, differences for the hypergradient --------------------------------------------
@sizes
def test_over_the_rationals_there_is_no_error(n, d, r):
    # kills: every simple/ mutant of a formula
    m = parts(n, d, r, 0)
    problem = m.problem.to("rational")
    lam = at(n)
    found = improved_hypergradient(problem, problem.backend.asarray(lam))
    assert exactly(found.w) == by_kkt(m, lam)
    assert exactly(found.value) == by_differences(m, lam)
    assert (found.kind, found.bound, found.residual_adjoint) == ("exact", 0.0, 0.0)
    solution = found.solution
    assert (solution.rank, solution.residual_lower, solution.residual_upper) == (r, 0.0, 0.0)
    assert (solution.normal.shape, solution.flat.shape) == ((d, r), (d, d - r))
    # v = H⁺∇_wF: in the range of H, so orthogonal to its null space
    assert not np.any(solution.flat.T @ found.v)
    assert exactly(problem.lower.hess_ww(problem.backend.asarray(lam), found.w) @ found.v) == exactly(
        problem.upper.grad_w(problem.backend.asarray(lam), found.w)
    )


@everywhere
@sizes
def test_floats_are_within_their_estimate(place, n, d, r):
    # kills: simple/rank-floor mutants, simple/estimate mutants
    m = parts(n, d, r, 0)
    problem, lam = place.move(m.problem), at(n)
    found = improved_hypergradient(problem, place.array([float(x) for x in lam]), certify="never")
    assert (found.kind, found.why_not_bounded) == ("estimated", "certify='never'")
    assert found.solution.rank == r
    assert squared_distance(to_numpy(found.value), by_differences(m, lam)) <= Q(float(found.bound)) ** 2
    normal, flat = to_numpy(found.solution.normal), to_numpy(found.solution.flat)
    both, condition = np.concatenate([normal, flat], axis=1), np.linalg.cond(m.X) ** 2 if r else 1.0
    assert_rounded(both.T @ both, np.eye(d), terms=1.0, count=d)
    assert_rounded(m.X @ flat, np.zeros((r, d - r)), terms=np.linalg.norm(m.X), count=d, condition=condition)


@pytest.mark.parametrize("seed", range(20))
def test_the_estimate_covers_scales_and_conditions(seed):
    """Levels scaled apart by up to 2¹⁰, F nearly flat: the error stays below the estimate, and the estimate tells."""
    rng = np.random.default_rng(seed)
    m = parts(2, 5, 3, seed, ridge=2.0 ** -int(rng.integers(0, 10)))
    m = dataclasses.replace(
        m, X=m.X * 2.0 ** rng.integers(0, 10, (3, 1)), p=m.p * 2.0 ** int(rng.integers(-9, 10))
    )
    lam = at(2)
    found = improved_hypergradient(m.problem, np.array([float(x) for x in lam]), certify="never")
    wanted = by_differences(m, lam)
    assert squared_distance(found.value, wanted) <= Q(float(found.bound)) ** 2
    H = m.X.T @ m.X
    # not empty words: three solves in a row, each with a floor of 10 d eps and a condition number
    H, P = np.linalg.norm(m.X.T @ m.X), np.linalg.norm(m.P)
    chain = (10 * 5) ** 2 * EPS["float64"] * np.linalg.cond(m.X) ** 4 * np.linalg.cond(m.P) ** 2
    sizes = (
        (1 + np.linalg.norm(found.w) + np.linalg.norm(m.p)) * (1 + H) * (1 + P) * (1 + np.linalg.norm(m.C))
    )
    assert found.bound <= chain * sizes


@pytest.mark.parametrize("r", [0, 1, 2, 4, 5])
def test_against_scipys_least_squares_and_null_space(r):
    """w = X⁺(Zλ + z) + N u, NᵀPN u = −Nᵀ(P w_0 + Cᵀλ + p), with lstsq and null_space."""
    from scipy.linalg import lstsq, null_space

    m = parts(2, 5, r, 1)
    w0 = lstsq(m.X, m.Z @ LAM + m.z)[0] if r else np.zeros(5)
    N = null_space(m.X) if r else np.eye(5)
    w = w0 - N @ np.linalg.solve(N.T @ m.P @ N, N.T @ (m.P @ w0 + m.C.T @ LAM + m.p)) if r < 5 else w0
    v = (
        np.linalg.pinv(m.X.T @ m.X, rcond=10 * 5 * EPS["float64"]) @ (m.P @ w + m.C.T @ LAM + m.p)
        if r
        else np.zeros(5)
    )
    found = improved_hypergradient(m.problem, LAM)
    condition = (np.linalg.cond(m.X) if r else 1.0) ** 2 * np.linalg.cond(m.P)
    assert_rounded(found.w, w, terms=1 + np.linalg.norm(w0) + np.linalg.norm(w), count=5, condition=condition)
    assert_rounded(
        found.v, v, terms=1 + np.linalg.norm(v) + np.linalg.norm(w), count=5, condition=condition**2
    )
    assert_rounded(found.solution.residual_lower, 0.0, terms=100.0, count=5)


def test_tikhonovs_path_ends_there():
    """w_ε = argmin G + εF = w_λ + c ε + O(ε²), over the rationals: extrapolated once, the error falls fourfold."""
    problem = PARTS.problem.to("rational")
    B, lam = problem.backend, problem.backend.asarray(LAM)
    wanted = exactly(solve_simple(problem, lam).w)

    def path(eps):
        ridged = Combined(1, problem.lower, eps, problem.upper, B)
        w = ri.exact.solve_lower(ri.BilevelProblem(problem.upper, ridged), lam).w
        return exactly(w)

    def extrapolated(eps):
        return [2 * a - b for a, b in zip(path(eps / 2), path(eps), strict=True)]

    def error(w):
        return sum(((a - b) ** 2 for a, b in zip(w, wanted, strict=True)), Q(0))  # squared

    eps = Q(1, 2**20)
    assert Q(399, 100) < error(path(eps)) / error(path(eps / 2)) < Q(401, 100)
    ratio = error(extrapolated(eps)) / error(extrapolated(eps / 2))
    assert Q(1599, 100) < ratio < Q(1601, 100)
    assert error(extrapolated(Q(1, 2**60))) < Q(1, 2**200)


def test_one_minimiser_is_the_ordinary_problem():
    for problem in (quadratic.random(n=2, d=3, seed=0), logistic.random(d=3, seed=5)):
        plain, found = (
            ri.exact_hypergradient(problem, problem.start()),
            improved_hypergradient(problem, problem.start()),
        )
        assert found.solution.flat.shape == (problem.d, 0)
        H = problem.lower.hess_ww(problem.start(), plain.w).dense()
        for mine, true in ((found.w, plain.w), (found.v, plain.v), (found.value, plain.value)):
            terms = 10 * (1 + np.linalg.norm(true) + np.linalg.norm(plain.v))
            assert_rounded(mine, true, terms=terms, count=problem.d, condition=np.linalg.cond(H) ** 2)


# -- levels that are not quadratic ------------------------------------------------------------------------
def over_parametrised(seed=0):
    """G = mean log cosh(Xw − y) + ½|Xw|² − λᵀZᵀXw: fewer rows (3) than weights (6), so the minimisers are Xw = z(λ)."""
    rng = np.random.default_rng(seed)
    X, y, Z, C = (rng.standard_normal(s) for s in ((3, 6), 3, (3, 2), (2, 6)))
    H = X.T @ X
    tail = quadratic.objective(ww=(H + H.T) / 2, lw=-Z.T @ X)
    lower = Combined(1, uppers.log_cosh(X, y, n=2), 1, tail)
    upper = quadratic.objective(ww=np.diag([1.0, 2, 3, 4, 5, 6]), lw=C, ll=np.eye(2), w1=np.ones(6))
    return ri.BilevelProblem(upper, lower), X, y, Z, C


@pytest.mark.parametrize("start", [None, np.array([3.0, -2.0, 0.0, 5.0, 1.0, -4.0])], ids=["origin", "far"])
@on_cpu
def test_over_parametrised_by_complex_steps(place, start):
    """z(λ) by Newton in R³, then w by the KKT system, both in the complex plane: f(λ + ih e)."""
    # kills: simple/H-at-start
    problem, X, y, Z, C = over_parametrised()
    lam, P = np.array([0.5, -1.0]), np.diag([1.0, 2, 3, 4, 5, 6])
    K = np.block([[P, X.T], [X, np.zeros((3, 3))]])

    def f(lam, z):
        for _ in range(30):
            slope = np.tanh(z - y) / 3 + z - Z @ lam
            z = z - slope / ((1 - np.tanh(z - y) ** 2) / 3 + 1)
        w = np.linalg.solve(K, np.concatenate([-(C.T @ lam + 1), z]))[:6]
        return w @ P @ w / 2 + lam @ C @ w + lam @ lam / 2 + w.sum(), w

    true_w = f(lam, np.zeros(3))[1]
    wanted = [f(lam + 1e-200j * e, np.zeros(3) + 0j)[0].imag / 1e-200 for e in np.eye(2)]
    found = improved_hypergradient(
        place.move(problem), place.array(lam), start=None if start is None else place.array(start)
    )
    assert found.solution.rank == 3
    H = problem.lower.hess_ww(lam, true_w).dense()
    values = np.linalg.eigvalsh(H)[::-1]
    assert_rounded(
        found.solution.singular, np.abs(values), terms=values[0], count=6, condition=np.linalg.cond(X) ** 2
    )
    condition = np.linalg.cond(X) ** 2 * 6
    size = 1 + np.linalg.norm(true_w) * 6 + np.linalg.norm(found.solution.singular)
    assert_rounded(found.w, true_w, terms=size, count=6, condition=condition)
    assert_rounded(found.value, wanted, terms=size * 10, count=6, condition=condition)


def weighted():
    """G = ½ Σ_i exp(λ_i)(x_i·w − y_i)², x_i in a plane of R⁴: three rows of rank 2, weighted by λ: H moves with λ."""
    import autograd.numpy as anp

    A = np.array([[1.0, 2.0], [-1.0, 0.5], [2.0, 1.0]])
    basis = np.array([[1.0, 0.0, 2.0, -1.0], [0.0, 1.0, 1.0, 1.0]])
    X, y = A @ basis, np.array([1.0, -2.0, 0.5])
    lower = ri.from_function(lambda lam, w: anp.sum(anp.exp(lam) * (X @ w - y) ** 2) / 2, n=3, d=4)
    upper = ri.from_function(lambda lam, w: anp.sum((w - 1) ** 2) / 2 + anp.sum(lam * w[:3]), n=3, d=4)
    return ri.BilevelProblem(upper, lower), A, basis, y


def test_a_hessian_that_moves_with_lambda_by_complex_steps():
    """Weighted least squares u(λ) in the plane; w is then the nearest point of {Bw = u} to 1 − λ."""
    problem, A, basis, y = weighted()
    lam = np.array([0.3, -0.5, 0.1])

    def f(lam):
        u = np.linalg.solve(A.T @ (np.exp(lam)[:, None] * A), A.T @ (np.exp(lam) * y))
        aim = np.ones(4) - np.append(lam, 0)
        w = aim + basis.T @ np.linalg.solve(basis @ basis.T, u - basis @ aim)
        return np.sum((w - 1) ** 2) / 2 + np.sum(lam * w[:3]), w

    wanted = [f(lam + 1e-200j * e)[0].imag / 1e-200 for e in np.eye(3)]
    found = improved_hypergradient(problem, lam)
    condition = np.linalg.cond(A @ basis[:, :2]) ** 4 * np.exp(np.ptp(lam)) ** 2
    size = 10 * (1 + np.linalg.norm(wanted) + np.linalg.norm(f(lam)[1]) + np.linalg.norm(found.v))
    assert_rounded(found.value, wanted, terms=size, count=4, condition=condition)


# -- where the search starts, nearly singular, shapes, numbers ---------------------------------------------
@pytest.mark.parametrize("scale", [1.0, 1e8])
def test_from_the_solution_and_from_far_away(scale):
    """The minimum-norm solution, whose flat part is 0: nothing may be asked to be smaller than its rounding."""
    # kills: simple/one-pass
    rng = np.random.default_rng(3)
    for seed in range(10):
        m = dataclasses.replace(parts(2, 5, 3, seed), P=np.eye(5), C=np.zeros((2, 5)), p=np.zeros(5))
        found = solve_simple(m.problem, LAM, start=scale * rng.standard_normal(5))
        again = solve_simple(m.problem, LAM, start=found.w)
        wanted = np.linalg.pinv(m.X) @ (m.Z @ LAM + m.z)
        for w in (found.w, again.w):
            size = 1 + np.linalg.norm(wanted)
            assert_rounded(w, wanted, terms=size, count=5, condition=np.linalg.cond(m.X) ** 2)


def test_a_small_singular_value_is_counted_above_the_floor_only():
    """10 d eps σ_1: 2⁻⁴⁷ is a curvature, 2⁻⁵¹ = d eps is rounding; rcond is what the result rests on."""
    # kills: simple/rank-floor-higher, simple/rank-floor-lower, simple/doubt-higher
    for power, rank in ((-47, 2), (-51, 1)):
        H = np.diag([1.0, 2.0**power])
        G = quadratic.objective(ww=H, lw=-np.array([[1.0, 0.0]]))
        problem = ri.BilevelProblem(quadratic.objective(ww=np.eye(2), n=1), G)
        found = improved_hypergradient(problem, np.array([3.0]))
        assert found.solution.rank == rank
        assert found.rcond == (2.0**power if rank == 2 else 1.0)
        assert found.solution.gap == ((2.0**power, 0.0) if rank == 2 else (1.0, 2.0**power))
        assert found.kind == ("bounded" if rank == 2 else "estimated")
        assert (
            rank == 2 or "required: 2, the rank of the matrix through which G sees w" in found.why_not_bounded
        )
        assert found.value.tolist() == [3.0]
        exact = improved_hypergradient(problem.to("rational"), backend("rational").asarray([3.0]))
        assert exact.solution.rank == 2


@pytest.mark.parametrize("seed", range(4))
def test_single_precision_stays_single(seed):
    # kills: simple/rank-floor-of-doubles
    m = parts(2, 5, 3, seed)
    m = dataclasses.replace(m, X=m.X / 3)  # H is rounded on the way there, and its null space with it
    told = m.problem.to("numpy", dtype="float32")
    silent = Combined(
        1, told.lower, 0, told.lower, told.backend
    )  # tells no matrix: its rank is the one counted
    problem = ri.BilevelProblem(told.upper, silent)
    found = improved_hypergradient(problem, LAM.astype(np.float32), certify="never")
    assert found.value.dtype == found.w.dtype == found.v.dtype == np.float32
    assert found.solution.rank == 3
    wanted = by_differences(m, [Q(x) for x in LAM])
    assert squared_distance(found.value, wanted) <= Q(float(found.bound)) ** 2


def test_the_floor_of_the_rank_is_that_of_the_numbers():
    """2⁻¹⁹ is below 10 d eps in single precision, and above in double; G tells no matrix."""
    # kills: simple/rank-floor-of-doubles
    G = quadratic.objective(ww=np.diag([1.0, 2.0**-19]), lw=[[-1.0, 0.0]])
    for dtype, rank in (("float32", 1), ("float64", 2)):
        problem = ri.BilevelProblem(quadratic.objective(ww=np.eye(2), n=1), G).to("numpy", dtype=dtype)
        silent = Combined(1, problem.lower, 0, problem.lower, problem.backend)
        assert solve_simple(ri.BilevelProblem(problem.upper, silent), [3.0]).rank == rank


def test_the_estimate_knows_that_the_direct_term_is_rounded():
    """w = v = 0: all of the error is that of ∇_λF, a mean of three numbers."""
    # kills: improved/estimate-without-the-direct-term
    none, ones = np.zeros((3, 1, 1)), np.ones((3, 1, 1))
    F = quadratic.Quadratic(ones, none, none, np.zeros((3, 1)), np.array([[0.1], [0.2], [0.7]]))
    G = quadratic.objective(ww=np.eye(1), n=1)
    found = improved_hypergradient(ri.BilevelProblem(F, G), [1.0], certify="never")
    wanted = (Q(0.1) + Q(0.2) + Q(0.7)) / 3
    assert 0 < abs(Q(float(found.value[0])) - wanted) <= Q(found.bound)


def test_dropout_problems():
    """E over masks of w: H becomes diagonal but for its off-diagonal products, and stays singular where w_2 is free."""
    G = quadratic.objective(ww=np.diag([2.0, 0.0, 1.0]), lw=np.array([[-1.0, 0.0, 1.0]]))
    F = quadratic.objective(ww=np.eye(3) + 1, w1=[0.0, -3.0, 1.0], n=1)
    problem = (
        ri.BilevelProblem(F, G)
        .with_dropout(lower={"w": 0.5, "lam": 1}, upper={"w": 0.5, "lam": 1})
        .to("rational")
    )
    lam = problem.backend.asarray([2.0])
    found = improved_hypergradient(problem, lam)
    ones = problem.backend.asarray([1.0])

    def f(lam):
        return problem.upper.value(lam, solve_simple(problem, lam).w)

    assert list(found.value) == [(f(lam + ones) - f(lam - ones)) / 2]
    assert found.solution.rank == 2


@pytest.mark.parametrize("name", ["numpy", "rational"])
def test_no_hyperparameters(name):
    m = parts(0, 3, 1, 0)
    found = improved_hypergradient(m.problem.to(name), backend(name).zeros((0,)))
    assert found.value.shape == (0,)


# -- refusals -------------------------------------------------------------------------------------------------
def powers(power):
    """G = ½ w_1² + ½ λ_1^power w_2²: the rank is 1 at λ = 0 and 2 beside it."""
    return ri.BilevelProblem(
        ri.from_function(lambda lam, w: ((w - 1) ** 2).sum() / 2, n=1, d=2),
        ri.from_function(lambda lam, w: (w[0] ** 2 + lam[0] ** power * w[1] ** 2) / 2, n=1, d=2),
    )


def test_a_rank_that_changes_is_refused_with_the_singular_values():
    # kills: simple/rank-change-unchecked
    delta = 2.0**-13 * (np.sin(1) + 1) / 2
    with pytest.raises(HypothesisViolated, match="rank of the lower Hessian changes") as caught:
        solve_simple(powers(2), [0.0])
    assert caught.value.measured == f"singular values 1, 0 at λ, 1, {delta**2:.3g} at a neighbour"
    found = solve_simple(powers(2), [0.5])
    assert found.rank == 2
    # F pulls w_2 to 1 where G leaves it free, and G to 0 elsewhere: so w_λ does jump
    assert np.abs(found.w).max() <= 10 * 2 * EPS["float64"]
    # a singular value of order δ⁴ is below the floor: the documented limit
    assert solve_simple(powers(4), [0.0]).rank == 1


@pytest.mark.parametrize("corner", [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.5, 0.0]], ids=str)
def test_the_rank_is_compared_inside_the_domain_too(corner):
    """G = ½ Σ λ_i (w_i − 1)² on a cube Λ: at λ_i = 0 the weight w_i is free, and beside it it is not."""
    # kills: simple/neighbours-outside-dropped
    import autograd.numpy as anp

    n = len(corner)
    lower = ri.from_function(lambda lam, w: anp.sum(lam * (w - 1) ** 2) / 2, n=n, d=n)
    upper = ri.from_function(lambda lam, w: anp.sum(w**2) / 2, n=n, d=n)
    problem = ri.BilevelProblem(upper, lower, Box(0.0, 1.0))
    with pytest.raises(HypothesisViolated, match="rank of the lower Hessian changes"):
        solve_simple(problem, corner)
    assert solve_simple(problem, [0.5, *[1.0] * (n - 1)]).rank == n
    # nearer to the edge than δ the rank is that of the inside, and does not change
    assert solve_simple(problem, [2.0**-20, *[1.0] * (n - 1)]).rank == n


def test_domains_that_know_no_nearest_point():
    """An open box, a ball over the rationals: neighbours outside are passed over."""
    for name, domain in (("numpy", Box(None, 1.0 + 2.0**-20, open=True)), ("rational", Ball(1.0))):
        problem = dataclasses.replace(parts(1, 3, 2, 0).problem, domain=domain).to(name)
        assert solve_simple(problem, problem.backend.asarray([1.0])).rank == 2


def test_a_slope_along_a_flat_direction_is_refused():
    # kills: simple/residual-unchecked
    G = quadratic.objective(ww=np.diag([1.0, 0.0]), w1=[0.0, 0.5], n=1)
    F = quadratic.objective(ww=np.eye(2), n=1)
    for name in ("numpy", "rational"):
        problem = ri.BilevelProblem(F, G).to(name)
        with pytest.raises(HypothesisViolated, match="not bounded below") as caught:
            solve_simple(problem, problem.backend.asarray([1.0]))
        assert caught.value.measured.startswith("‖∇_wG‖ = 0.5, ")
        assert "singular values of the Hessian of G 1, 0" in caught.value.measured


def test_minimisers_that_are_no_affine_set_are_refused():
    """G = ½w_1² + ¼w_2⁴ has one minimiser, 0, where its Hessian is singular all the same; F pulls w_2 to 3."""
    G = ri.from_function(lambda lam, w: w[0] ** 2 / 2 + w[1] ** 4 / 4, n=1, d=2)
    F = ri.from_function(lambda lam, w: w[0] ** 2 / 2 + (w[1] - 3) ** 2 / 2, n=1, d=2)
    with pytest.raises(HypothesisViolated, match=r"‖Nᵀ∇_wF‖ = 3; singular values"):
        solve_simple(ri.BilevelProblem(F, G), [0.0])


def test_a_slope_that_appears_when_lambda_moves_is_refused():
    """G = ½w_1² − λw_2 at λ = 0 has the minimisers w_1 = 0, and none beside it: there is nothing to differentiate."""
    # kills: simple/neighbours-bounded-unchecked
    G = quadratic.objective(ww=np.diag([1.0, 0.0]), lw=[[0.0, -1.0]])
    F = quadratic.objective(ww=np.eye(2), n=1)
    for name in ("numpy", "rational"):
        problem = ri.BilevelProblem(F, G).to(name)
        lam = problem.backend.asarray([0.0])
        assert solve_simple(problem, lam).rank == 1
        with pytest.raises(HypothesisViolated, match="near λ the lower level has no minimiser") as caught:
            improved_hypergradient(problem, lam)
        assert caught.value.measured == "‖∇²_λwG N‖ = 1 along the flat directions; singular values 1, 0"


def test_levels_of_the_wrong_curvature_are_refused():
    # kills: simple/convexity-unchecked
    F = quadratic.objective(ww=np.eye(2), n=1)
    G = quadratic.objective(ww=np.diag([1.0, -0.25]), n=1)
    with pytest.raises(HypothesisViolated, match="not convex") as caught:
        solve_simple(ri.BilevelProblem(F, G), [0.0])
    assert caught.value.measured == "smallest eigenvalue of its Hessian -0.25"
    there = ri.BilevelProblem(F, G).to("rational")
    with pytest.raises(HypothesisViolated, match="-1/4"):
        solve_simple(there, there.backend.asarray([0.0]))
    flat = ri.BilevelProblem(
        quadratic.objective(ww=np.diag([1.0, 0.0]), n=1), quadratic.objective(ww=np.diag([1.0, 0.0]), n=1)
    )
    for name in ("numpy", "rational"):
        problem = flat.to(name)
        with pytest.raises(HypothesisViolated, match="F is not strictly convex along the minimisers"):
            solve_simple(problem, problem.backend.asarray([0.0]))


def test_a_kink_at_the_solution_is_refused():
    # kills: simple/kink-unchecked
    @dataclasses.dataclass(frozen=True)
    class Kinked(quadratic.Quadratic):
        def kink_distance(self, lam, w, lam_moves=None, w_moves=None):
            return abs(float(w[0]))

    F = quadratic.objective(ww=np.eye(2), n=1)
    kinked = Kinked(F.ww, F.lw, F.ll, F.w1, F.l1)
    G = quadratic.objective(ww=np.diag([1.0, 0.0]), lw=[[-1.0, 0.0]])
    assert solve_simple(ri.BilevelProblem(kinked, G), [1.0]).w.tolist() == [1.0, 0.0]
    with pytest.raises(HypothesisViolated, match="at its kink"):
        solve_simple(ri.BilevelProblem(kinked, G), [0.0])


def test_what_is_asked_one_at_a_time():
    problem = PARTS.problem
    with pytest.raises(BadInput, match=r"λ \(3, 2\), start \(5,\)"):
        solve_simple(problem, np.ones((3, 2)))
    with pytest.raises(BadInput, match=r"start \(3, 5\)"):
        solve_simple(problem, LAM, start=np.ones((3, 5)))
    many = quadratic.random(n=2, d=3, seed=0, terms=4)
    with pytest.raises(BadInput, match="0 and 1 leading axes"):
        solve_simple(ri.BilevelProblem(many.upper, many.lower.at(np.arange(4))), LAM)
    with pytest.raises(BadInput, match="measured: FixedPointProblem"):
        improved_hypergradient(many.as_fixed_point(0.1), LAM)
    balls = problem.to("interval")
    with pytest.raises(BadInput, match="backend 'interval'"):
        solve_simple(balls, balls.backend.asarray(LAM))
    quartic = ri.BilevelProblem(many.upper, Quartic(many.lower)).to("rational")
    with pytest.raises(BadInput, match="no closed form over the rationals"):
        solve_simple(quartic, quartic.backend.asarray(LAM))


@dataclasses.dataclass(frozen=True)
class Quartic(ri.objective.Around):
    """f + ¼ Σ w_j⁴: polynomial, and ∇_w is not affine."""

    f: ri.Objective
    backend: ri.arrays.Backend = ri.arrays.Backend()

    def value(self, lam, w):
        return self.f.value(lam, w) + self.backend.sum(w**4) / 4

    def grad_lam(self, lam, w):
        return self.f.grad_lam(lam, w)

    def grad_w(self, lam, w):
        return self.f.grad_w(lam, w) + w * w * w

    def hess_ww(self, lam, w):
        return self.f.hess_ww(lam, w) + matrix(
            self.backend, self.backend.eye(self.d) * (3 * w * w), symmetric=True
        )

    def cross(self, lam, w):
        return self.f.cross(lam, w)


def test_newton_gives_up_where_curvature_vanishes():
    """G = ¼w⁴ from 1: a third of the way at each step, and the rounding floor falls with it."""
    G = ri.from_function(lambda lam, w: ((w - lam) ** 4).sum() / 4, n=1, d=1)
    F = ri.from_function(lambda lam, w: (w**2).sum() / 2, n=1, d=1)
    with pytest.raises(NotConverged, match="after 100 steps"):
        solve_simple(ri.BilevelProblem(F, G), [0.0], start=[1.0])


def hidden_drop():
    """G = ½w_1² + ½(a·λ)²(w_2 − 1)² with a = (1, −1, −1, 1): a form that is 0 on patterns of signs."""
    a = np.array([1.0, -1.0, -1.0, 1.0])

    def lower(lam, w):
        return (w[..., 0] ** 2 + (lam @ a) ** 2 * (w[..., 1] - 1) ** 2) / 2

    def upper(lam, w):
        return (w[..., 0] ** 2 + (w[..., 1] - 3) ** 2) / 2

    return ri.BilevelProblem(ri.from_function(upper, n=4, d=2), ri.from_function(lower, n=4, d=2))


def test_a_rank_that_is_kept_along_patterns_of_signs_is_seen_to_change():
    """Kills: neighbours along + − + −… only."""
    with pytest.raises(HypothesisViolated, match="rank of the lower Hessian changes"):
        improved_hypergradient(hidden_drop(), np.zeros(4))
    assert improved_hypergradient(hidden_drop(), np.array([1.0, 0.0, 0.0, 0.0])).solution.rank == 2


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6])
def test_the_bound_sees_what_cancels_in_lam(gap):
    """G = ½(A(λ)w − 1)², A = 1.1 − 1.37λ near 0, F = ½(w − 0.3)²: ∇f = (w − 0.3) 1.37/A² in fractions, w = 1/A.

    A relative error of eps in λ moves ∇f by 3λ eps/gap of itself, about. Kills: the residuals alone.
    """
    G = ri.from_function(lambda lam, w: ((1.1 - 1.37 * lam) * w - 1)[..., 0] ** 2 / 2, n=1, d=1)
    F = ri.from_function(lambda lam, w: (w[..., 0] - 0.3) ** 2 / 2, n=1, d=1)
    lam = np.array([1.1 / 1.37 - gap])
    found = improved_hypergradient(ri.BilevelProblem(F, G), lam)
    A = Q(1.1) - Q(1.37) * Q(float(lam[0]))
    exact = (1 / A - Q(0.3)) * Q(1.37) / A**2
    assert abs(float(Q(float(found.value[0])) - exact)) <= found.bound
    assert found.bound <= 100 * 2.0**-52 / gap * abs(float(exact))


# -- levels that saturate: convex, but floats see no curvature far out ----------------------------------------
PLANE = np.array([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0]])


def saturating():
    """G = log(2 cosh(z_1 − λ)) + cosh z_2 with z = PLANE w, F = ½‖w‖² − w_3: w_λ = λ PLANE_1 + e_3."""
    anp = pytest.importorskip("autograd.numpy")

    def lower(lam, w):
        z = PLANE @ w
        return anp.logaddexp(z[0] - lam[0], lam[0] - z[0]) + anp.cosh(z[1])

    upper = quadratic.objective(ww=np.eye(3), w1=[0.0, 0.0, -1.0], n=1)
    return ri.BilevelProblem(upper, ri.from_function(lower, n=1, d=3))


@pytest.mark.parametrize("start", [(2.0, 3.0), (2.0, 12.0), (3.0, 3.0), (-3.0, 8.0), (12.0, -5.0)])
def test_a_level_that_saturates_is_convex_all_the_same(start):
    """‖∇G‖ falls with z_2 while z_1 runs to 10⁹, where log cosh is straight: the value says that this is no descent."""
    found = solve_simple(saturating(), [0.5], start=np.array(start) @ PLANE)
    size = 10 * (1 + np.linalg.norm(start))
    assert_rounded(found.w, np.array([0.3, 0.4, 1.0]), terms=size, count=3)
    assert found.rank == 2


@pytest.mark.parametrize("seed", range(20))
def test_a_step_has_armijos_share_of_the_value(seed):
    """From far out on the straight part, down a slope of 1 and up a wall: the slopes promise what the values show."""
    # kills: simple/armijo-from-halfway-alone, simple/merit-of-the-slope
    G, rng, lam = saturating().lower, np.random.default_rng(seed), np.array([0.5])
    w = np.array([1000.0, 0.0]) @ PLANE
    inside = Restricted(G, w, PLANE.T)
    r = inside.grad_w(lam, np.zeros(2))
    p = 10.0 ** rng.uniform(-1, 2) * np.array([-(10.0 ** rng.uniform(0, 2)), 1.0])
    t = _length(inside, lam, r, p, 0.0)
    with np.errstate(over="ignore"):
        before, after = (inside.value(lam, x) for x in (np.zeros(2), t * p))
    assert after <= before + t * (r @ p) / ARMIJO + 10 * EPS["float64"] * abs(before)
    # no shorter than it must be: twice as long a step does not have the share that the slopes promise
    assert t == 1 or inside.grad_w(lam, t * p) @ p + inside.grad_w(lam, 2 * t * p) @ p > 2 * (r @ p) / ARMIJO


def test_newton_leaves_a_region_without_curvature():
    """sech²(19.5) = 4e-17 beside cosh z_2: Cholesky fails, or sees rounding; the slope still leads back."""
    # kills: simple/no-curvature-refused
    G = saturating().lower
    for first in (18.0, 20.0, 30.0, -200.0):
        w = minimised(G, np.array([0.5]), np.array([first, 1.0]) @ PLANE, PLANE.T)
        assert_rounded(w, np.array([0.3, 0.4, 0.0]), terms=10 * abs(first), count=3)


def test_what_is_not_convex_is_said_with_its_eigenvalue():
    """G = −cos w: its Hessian is cos w, −0.42 at 2; and an affine G has no curvature at all."""
    # kills: simple/negative-curvature-as-rounding
    anp = pytest.importorskip("autograd.numpy")
    G = ri.from_function(lambda lam, w: -anp.sum(anp.cos(w)), n=1, d=1)
    with pytest.raises(HypothesisViolated, match="not convex") as caught:
        minimised(G, np.zeros(1), np.array([2.0]), np.eye(1))
    assert caught.value.measured == f"smallest eigenvalue of its Hessian {np.cos(2.0):.6g}"
    affine = quadratic.objective(ww=np.zeros((1, 1)), w1=[1.0], n=1)
    with pytest.raises(NotConverged, match="the Hessian is 0"):
        minimised(affine, np.zeros(1), np.zeros(1), np.eye(1))


def test_derivatives_that_are_not_of_one_function_are_no_descent():
    """A gradient that is 1 on both sides of 0: no step makes a function with this slope and curvature smaller."""

    @dataclasses.dataclass(frozen=True)
    class Wrong(quadratic.Quadratic):
        def grad_w(self, lam, w):
            return 0 * w + np.where(w == 1.0, 1.0, -1.0)

    F = quadratic.objective(ww=np.eye(1), n=1)
    with pytest.raises(NotConverged, match="no step along the Newton direction makes the function smaller"):
        minimised(Wrong(F.ww, F.lw, F.ll, F.w1, F.l1), np.zeros(1), np.ones(1), np.eye(1))


@pytest.mark.parametrize("rows", [[0.25, 8.0], [0.25, 4.0], [1.0, 64.0], [0.125, 8.0]], ids=str)
@pytest.mark.parametrize("classes", [2, 3])
def test_what_cancels_in_the_hessian_is_neither_curvature_nor_its_lack(rows, classes):
    """p near 1: p − p² leaves more than 10 d eps of H, of either sign, along the equal shifts of all classes."""
    # kills: simple/hessian-floor-here-alone, simple/rank-of-noise
    X, y = np.array(rows)[:, None], np.zeros(2, int)
    for smoothing in (0.03, 0.01):
        task = weighted_softmax.problem(
            X, y, [[1.0]], [0], classes=classes, reg=0, singular=True, reg_upper=0.1, smoothing=smoothing
        )
        found = improved_hypergradient(task, task.start(), certify="always")
        assert (found.kind, found.solution.rank) == ("bounded", classes - 1)


def test_hundreds_of_weights_that_saturate():
    """Softmax of ten digits, 640 weights, a rank of 9 · 56: from the origin what Tikhonov's path leads to."""
    task = weighted_softmax.digits(
        train=200, validation=100, singular=True, reg=0.0, reg_upper=0.1, smoothing=0.3
    )
    lam = task.start()
    found = solve_simple(task, lam)
    assert (found.rank, found.in_doubt) == (504, "")
    lower, upper = floors(task, lam, found)
    assert np.linalg.norm(task.lower.grad_w(lam, found.w)) <= lower
    assert np.linalg.norm(found.flat.T @ task.upper.grad_w(lam, found.w)) <= upper


def test_a_start_that_saturates_is_left():
    """320 weights from ‖w‖ = 180, where floats see a lower rank: the value is the one from the origin, to rounding."""
    # kills: simple/two-passes-while-the-rank-moves
    task = weighted_softmax.digits(
        train=150, validation=100, classes=range(5), singular=True, reg=0.0, reg_upper=0.1, smoothing=0.3
    )
    far = 10 * np.random.default_rng(2).standard_normal(task.d)
    near, found = (improved_hypergradient(task, task.start(), start=w, certify="never") for w in (None, far))
    assert (near.solution.rank, found.solution.rank) == (216, 216)
    assert (
        np.linalg.norm(near.value - found.value)
        <= near.bound + found.bound
        < 1e-3 * np.linalg.norm(near.value)
    )


# -- by what errors of the slopes move ∇f ----------------------------------------------------------------------
@pytest.mark.parametrize("loss", ["least squares", "logistic"])
@pytest.mark.parametrize("which", ["lower", "upper"])
def test_the_responses_are_those_of_tilted_levels(loss, which):
    """G + α·w or F + β·w: ∇_wG, or Nᵀ∇_wF, is −α, −β at the tilted w_λ. The remainder is of second order."""
    # kills: simple/response mutants
    problem = overparametrised.random(d=5, rank=3, seed=7, loss=loss)
    lam = problem.start() + np.linspace(-1, 1, problem.n)
    found = improved_hypergradient(problem, lam, certify="never")
    at, (_, to_lower, to_upper) = found.solution, _responses(problem, lam, found.solution, found.v)
    columns, matrix = (at.normal, to_lower) if which == "lower" else (at.flat, to_upper)
    direction = np.array([1.0, -2.0, 0.5])[: columns.shape[1]]

    def formula(tilt):
        """∇_λF − ∇²_λwG H⁺∇_wF at the tilted solution, with NumPy's pseudoinverse, cut where the rank is."""
        slope = quadratic.objective(ww=np.zeros((5, 5)), w1=columns @ direction, n=problem.n)
        levels = {"upper": problem.upper, "lower": problem.lower}
        levels[which] = Combined(1, levels[which], tilt, slope)
        w = solve_simple(ri.BilevelProblem(**levels), lam).w
        H = np.linalg.pinv(problem.lower.hess_ww(lam, w).dense(), rcond=at.gap[0] / at.singular[0] / 2)
        direct, cross = problem.upper.grad_lam(lam, w), problem.lower.cross(lam, w).dense()
        return direct - cross @ H @ problem.upper.grad_w(lam, w)

    def remainder(tilt):
        return np.linalg.norm(formula(tilt) - found.value + tilt * matrix @ direction)

    tilts = 2.0 ** -np.arange(12, 15)
    errors = [remainder(t) for t in tilts]
    hidden = 10 * found.bound + EPS["float64"] ** (2 / 3) * tilts[0] * np.linalg.norm(matrix) * 10
    assert np.linalg.norm(matrix @ direction) * tilts[-1] > 10 * hidden  # not lost in what rounding hides
    for coarse, fine in itertools.pairwise(errors):
        assert fine <= coarse / 3 + hidden
    assert errors[0] <= 0.5 * tilts[0] * np.linalg.norm(matrix @ direction)


def test_an_estimate_that_leaves_the_domain_is_none():
    """∇²_wwG is a number within 10⁻⁶ of w_λ = λ only, nearer than where third derivatives are looked for."""

    @dataclasses.dataclass(frozen=True)
    class Edged(quadratic.Quadratic):
        def hess_ww(self, lam, w):
            return (1.0 if np.abs(w - lam).max() < 1e-6 else np.nan) * super().hess_ww(lam, w)

    F = quadratic.objective(ww=np.eye(1), n=1)
    G = quadratic.objective(ww=np.eye(1), lw=[[-1.0]])
    problem = ri.BilevelProblem(F, Edged(G.ww, G.lw, G.ll, G.w1, G.l1))
    found = improved_hypergradient(problem, [2.0], start=[2.0], certify="never")
    assert (found.value, found.bound) == (2.0, np.inf)
    assert improved_hypergradient(ri.BilevelProblem(F, G), [2.0], certify="never").bound < np.inf
