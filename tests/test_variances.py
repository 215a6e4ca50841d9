"""Assumption C's constants: by exact enumeration, by what they promise at every w, and where they are refused."""

from __future__ import annotations

import itertools as it
from dataclasses import dataclass
from fractions import Fraction
from math import inf, pi
from typing import ClassVar

import numpy as np
import pytest

from refimpl.arrays import Backend
from refimpl.constants import Noise, Region, around, noise
from refimpl.errors import BadInput, HypothesisViolated
from refimpl.objective import Map
from refimpl.operators import matrix
from refimpl.problem import BilevelProblem, FixedPointProblem
from refimpl.variances import largest_on_ball
from refimpl.zoo import logistic, maps, quadratic, ridge, uppers
from refimpl.zoo.terms import Terms
from tests.rounding import EPS, assert_rounded

ONE = np.ones(1)


def line(slopes, offsets, *, lam=None, upper=None):
    """Φ̂ = a_k w + b_k λ + c_k on R, b_k = 1 by default."""
    a, c = np.asarray(slopes, dtype=float), np.asarray(offsets, dtype=float)
    b = np.ones(len(a)) if lam is None else np.asarray(lam, dtype=float)
    phi = maps.AffineMap(a[:, None, None], b[:, None, None], c[:, None])
    return FixedPointProblem(uppers.linear([1.0], n=1) if upper is None else upper, phi)


# -- in closed form -------------------------------------------------------------------------------------------------
def test_additive_noise():
    """Φ̂ = qw ± r (contraction, theorem 8, (a))."""
    # kills: σ₂ > 0 without noise in the slope
    assert noise(line([0.5, 0.5], [1.5, -1.5]), ONE, growth=2) == Noise(sigma1=2.25)


def test_multiplicative_noise():
    """Φ̂ = (q ± s)w at λ = 0: σ₂ = s²κ_q², σ'₁ = s² (contraction, theorem 8, (b))."""
    # kills: M = 1 for (I − A)ᵀ(I − A), Q for M
    found = noise(line([0.75, 0.25], [0.0, 0.0]), 0 * ONE, growth=1)
    assert found == Noise(sigma2=0.25, d_sigma1=0.0625)


def test_both_at_once():
    """Φ̂ = (q + sε)w + rε: the rest of V = (sw + r)² above growth s²w² is at most r² growth/(growth − 1)."""
    # kills: growth left out of sigma2 or of sigma1, V's value at w(λ) alone
    problem = line([0.75, 0.25], [0.5, -0.5])
    for growth, sigma1 in ((2, 0.5), (1.25, 1.25), (5, 0.3125)):
        found = noise(problem, 0 * ONE, growth=growth)
        assert_rounded(np.array([found.sigma1, found.sigma2]), [sigma1, growth * 0.25], terms=2, count=4)
    with pytest.raises(HypothesisViolated, match="no sigma1 is finite with the smallest"):
        noise(problem, 0 * ONE, growth=1)


def test_the_square_loss_needs_growth():
    """ℓ̂ = ζw²/2, ζ ∈ {1/2, 3/2}: V[∇ℓ̂] = ‖∇ℓ‖²/4, so σ₁ = 0 and σ₂ = 1/4 (contraction, remark 1 (v))."""
    # kills: σ₁ = step σ₁ of the loss, a step that does not cancel in σ₂
    lower = quadratic.Quadratic(
        np.array([[[0.5]], [[1.5]]]),
        *(np.zeros((2, 1, 1)) for _ in range(2)),
        *(np.zeros((2, 1)) for _ in range(2)),
    )
    problem = BilevelProblem(uppers.linear([1.0], n=1), lower)
    for step in (0.25, 0.5):
        found = noise(problem, ONE, growth=1, step=step)
        assert found == Noise(sigma2=0.25, d_sigma1=step**2 / 4, step=step)
    assert noise(problem, ONE, growth=1).d_sigma1 == 0.25  # the best step is 2/(1 + 1)


def test_the_upper_level():
    # kills: the two gradients exchanged, a mean square for a variance
    upper = uppers.linear([[3.0], [1.0]], l=[[0.0], [0.5]])
    assert noise(line([0.5], [0.0], upper=upper), ONE, growth=2) == Noise(sigma1_E=1.0, sigma2_E=0.0625)


def test_draws_that_are_the_same_have_no_noise():
    """0.1 is not its mean over three draws, in floats."""
    # kills: deviations from the mean alone, whose rounding looks like noise and ruins sigma1
    assert noise(line([0.1] * 3, [0.0, 1.0, 2.0]), ONE, growth=2).sigma2 == 0.0
    assert noise(line([0.1] * 3, [0.7] * 3, upper=uppers.linear([[0.1]] * 3, n=1)), ONE, growth=2) == Noise()


# -- by exact enumeration --------------------------------------------------------------------------------------------
def solved(A, b):
    """A⁻¹b over the fractions, by elimination."""
    rows = [[*row, e] for row, e in zip(A, b, strict=True)]
    for i in range(len(rows)):
        pivot = next(r for r in range(i, len(rows)) if rows[r][i] != 0)
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [e / rows[i][i] for e in rows[i]]
        for r in range(len(rows)):
            if r != i:
                rows[r] = [a - rows[r][i] * c for a, c in zip(rows[r], rows[i], strict=True)]
    return [row[-1] for row in rows]


def fractions(x):
    return np.vectorize(lambda e: Fraction(float(e)), otypes=[object])(x)


def literal(phi, lam):
    """Φ̂'s A_k (N, d, d) and Φ̂_k(0) (N, d), over the fractions."""
    A, B, c = (fractions(x) for x in (phi.A, phi.B, phi.c))
    return A, B @ fractions(lam) + c


def exact_sigma1(A, b, sigma2):
    """max over w of V[Φ̂(w)] − σ₂‖Φ(w) − w‖²: V and the norm expanded in w, the maximiser solved for."""
    N, d = b.shape
    DA, Db = A - A.sum(0) / N, b - b.sum(0) / N
    H = np.array([[Fraction(int(i == j)) for j in range(d)] for i in range(d)]) - A.sum(0) / N
    h = b.sum(0) / N
    quadratic_part = sum(D.T @ D for D in DA) / N - sigma2 * H.T @ H
    half_linear = sum(D.T @ e for D, e in zip(DA, Db, strict=True)) / N + sigma2 * H.T @ h
    constant = sum(e @ e for e in Db) / N - sigma2 * h @ h
    w = solved(-quadratic_part, half_linear)
    return constant + half_linear @ np.array(w)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("growth", [1.125, 2.0, 9.0])
def test_sigma1_is_the_exact_maximum(seed, growth):
    """For the sigma2 that is stated, which a float can state exactly."""
    # kills: a slope not carried to y = (I − A)u, an inverse for its transpose, w(λ) forgotten
    problem = maps.random(n=2, d=3, seed=seed, terms=4)
    found = noise(problem, problem.start(), growth=growth)
    A, b = literal(problem.phi, problem.start())
    expected = exact_sigma1(A, b, Fraction(found.sigma2))
    kappa = 1 / (1 - 0.5)
    size = float(expected) * (1 + 1 / (growth - 1)) * kappa**2  # what 1/(sigma2 − θ) magnifies
    assert_rounded(np.array([found.sigma1]), [float(expected)], terms=size, count=3 * 4)


@pytest.mark.parametrize("seed", range(6))
def test_sigma2_is_the_smallest(seed):
    # kills: an eigenvalue of Q, the largest of M⁻¹Q in another norm
    problem = maps.random(n=2, d=3, seed=seed, terms=4)
    A, _ = (x.astype(float) for x in literal(problem.phi, problem.start()))
    D, H = A - A.mean(0), np.eye(3) - A.mean(0)
    Q, M = np.mean(D.swapaxes(-1, -2) @ D, axis=0), H.T @ H
    smallest = noise(problem, problem.start(), growth=2).sigma2 / 2
    assert np.linalg.eigvalsh(Q - (1 - 2**-20) * smallest * M)[-1] > 0
    assert np.linalg.eigvalsh(Q - (1 + 2**-20) * smallest * M)[-1] < 0


@pytest.mark.parametrize("make", [maps.random, quadratic.random])
def test_no_w_has_more_variance(make):
    """What the numbers promise, at random w, also far away."""
    problem = make(n=2, d=3, seed=7, terms=5)
    lam = problem.start()
    found = noise(problem, lam, growth=1.5)
    if isinstance(problem, BilevelProblem):
        problem = problem.as_fixed_point(2 / 11)  # the best step: its Hessian has the spectrum 1 … 10
    rng = np.random.default_rng(8)
    w = rng.standard_normal((300, 3)) * 10 ** rng.uniform(-2, 3, (300, 1))
    each = problem.phi.at(np.arange(5)).value(lam, w[:, None, :])
    mean = problem.phi.value(lam, w)
    variance = ((each - each.mean(axis=1, keepdims=True)) ** 2).sum(-1).mean(1)
    allowed = found.sigma1 + found.sigma2 * ((mean - w) ** 2).sum(-1)
    assert np.all(variance <= allowed * (1 + 10 * 15 * EPS["float64"]))
    A = problem.phi.at(np.arange(5)).d_w(lam, 0 * w[0]).dense()
    expected = np.mean(np.linalg.norm(A - A.mean(0), 2, axis=(-2, -1)) ** 2)
    assert_rounded(np.array(found.d_sigma1), expected, terms=np.mean(A**2) * 9, count=15)
    B = problem.phi.at(np.arange(5)).d_lam(lam, 0 * w[0]).dense()
    expected = np.mean(np.linalg.norm(B - B.mean(0), 2, axis=(-2, -1)) ** 2)
    assert_rounded(np.array(found.d_sigma2), expected, terms=np.mean(B**2) * 6, count=15)


def test_matrices_in_two_norms():
    """diag(±1, ±1)/4: E‖N‖₂² = ‖E[NNᵀ]‖₂ = 1/16; the column (±1, ±1)ᵀ/4: E‖N‖₂² = 1/8, ‖E[NNᵀ]‖₂ = 1/16."""
    # kills: E[NᵀN] for E[NNᵀ], the norm of the mean for the mean of norms
    signs = np.array(list(it.product((1.0, -1.0), repeat=2))) / 4
    diagonal = maps.AffineMap(signs[:, :, None] * np.eye(2), signs[:, :, None], 0 * signs)
    problem = FixedPointProblem(uppers.linear([1.0, 1.0], n=1), diagonal)
    spectral = noise(problem, 0 * ONE, growth=2)
    operator = noise(problem, 0 * ONE, growth=2, matrices="operator")
    assert_rounded(np.array([spectral.d_sigma1, spectral.d_sigma2]), [1 / 16, 1 / 8], terms=1 / 8, count=2)
    assert (operator.d_sigma1, operator.d_sigma2) == (1 / 16, 1 / 16)


def test_a_minibatch_divides_what_the_theorems_use():
    """‖E[NNᵀ]‖₂ of the mean of two draws is exactly half; E‖N‖₂² is 3/4 of one draw's (contraction, section 3)."""
    # kills: a variance divided by b², or not at all
    signs = np.array(list(it.product((1.0, -1.0), repeat=2))) / 4
    problem = FixedPointProblem(
        uppers.linear([[1.0, 1.0], [3.0, 1.0]], n=1),
        maps.AffineMap(signs[:, :, None] * np.eye(2), np.zeros((4, 2, 1)), signs),
    )
    one, two = (noise(problem, 0 * ONE, growth=2, batch=b, matrices="operator") for b in (1, 2))
    assert [2 * x for x in (*vars(two).values(),)[:-1]] == [*vars(one).values()][:-1]  # without the step
    pairs = np.array(list(it.product(range(4), repeat=2)))
    N = problem.phi.batch(pairs).A.mean(axis=-3)
    assert np.linalg.norm(np.mean(N @ N.swapaxes(-1, -2), axis=0), 2) == two.d_sigma1
    assert np.mean(np.linalg.norm(N, 2, axis=(-2, -1)) ** 2) == 0.75 / 16
    assert noise(problem, 0 * ONE, growth=2, batch=None) == Noise()


def test_dropout_is_noise_as_well():
    """A draw is a mask and a datum: the same by enumerating both."""
    problem = quadratic.random(n=1, d=2, seed=3, terms=3)
    masked = problem.with_dropout(lower={"lam": 1.0, "w": 0.75}, upper=None)
    lam = problem.start()
    found = noise(masked, lam, growth=2, step=0.125)
    draws = []
    for mask in it.product((0.0, 1.0), repeat=2):
        m, p = np.array(mask), np.prod([0.75 if e else 0.25 for e in mask])
        for k in range(3):
            H = m[:, None] * problem.lower.ww[k] * m
            draws.append(
                (
                    p / 3,
                    np.eye(2) - 0.125 * H,
                    -0.125 * m * (problem.lower.lw[k].T @ lam + problem.lower.w1[k]),
                )
            )
    share = np.array([p for p, _, _ in draws])
    A, b = np.array([A for _, A, _ in draws]), np.array([b for _, _, b in draws])
    mean = np.einsum("k,kij->ij", share, A)
    expected = share @ np.linalg.norm(A - mean, 2, axis=(-2, -1)) ** 2
    assert_rounded(np.array(found.d_sigma1), expected, terms=1, count=12)
    w = np.random.default_rng(4).standard_normal((200, 2)) * 30
    each = np.einsum("kij,wj->wki", A, w) + b
    centre = np.einsum("k,wki->wi", share, each)
    variance = ((each - centre[:, None]) ** 2).sum(-1) @ share
    allowed = found.sigma1 + found.sigma2 * ((centre - w) ** 2).sum(-1)
    assert np.all(variance <= allowed * (1 + 10 * 24 * EPS["float64"]))
    with pytest.raises(BadInput, match="minibatch of what"):
        noise(masked, lam, growth=2, step=0.125, batch=2)


# -- the largest value on a ball -------------------------------------------------------------------------------------
def test_the_largest_value_in_closed_form():
    # kills: μ = 0 taken where p is not orthogonal to the top eigenvector, or never taken
    assert largest_on_ball(np.array([[4.0, 1.0], [1.0, 3.0]]), 0.5) == 4 * 0.25 + 2 * 0.5 + 3
    hard = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.25], [0.0, 0.25, 1.0]])
    assert largest_on_ball(hard, 1.0) == 1 + 2.0625  # 2x² + y² + y/2 on the circle: at y = 1/4
    assert largest_on_ball(hard, 0.0) == 1.0
    for flat in (np.diag([0.0, 0.0, 5.0]), np.diag([0.0, 5.0])):
        assert largest_on_ball(flat, 7.0) == largest_on_ball(flat, inf) == 5.0


@pytest.mark.parametrize("seed", range(8))
def test_the_largest_value_by_going_round_the_circle(seed):
    """A convex function is largest on the sphere; between neighbours of K angles it grows by curvature/8 (2π/K)²."""
    # kills: an upper bound that is not attained
    rng, radius, K = np.random.default_rng(seed), 10.0 ** (seed - 4), 100_000
    root = rng.standard_normal((4, 3))
    S = root.T @ root
    angle = 2 * pi * np.arange(K) / K
    u = radius * np.stack([np.cos(angle), np.sin(angle)])
    around_it = np.einsum("ik,ij,jk->k", u, S[:2, :2], u) + 2 * S[2, :2] @ u + S[2, 2]
    found = largest_on_ball(S, radius)
    curvature = 4 * radius**2 * np.linalg.norm(S[:2, :2], 2) + 2 * radius * np.linalg.norm(S[2, :2])
    rounding = 10 * 3 * EPS["float64"] * found
    assert (
        around_it.max() - rounding <= found <= around_it.max() + curvature / 8 * (2 * pi / K) ** 2 + rounding
    )


def test_the_upper_noise_of_a_ball_of_iterates():
    problem = ridge.random(d=3, seed=0)
    lam, w_star, w0 = np.array([0.5]), np.array([0.1, -0.2, 0.3]), np.array([1.0, 1.0, -1.0])
    region = around(problem, lam, w_star, w0)
    found = noise(problem, region, growth=2)
    N = problem.upper.space.size
    u = np.random.default_rng(1).standard_normal((400, 3))
    w = w_star + region.w_radius * u / np.linalg.norm(u, axis=-1, keepdims=True)
    each = problem.upper.at(np.arange(N)).grad_w(lam, w[:, None, :])
    variance = ((each - each.mean(axis=1, keepdims=True)) ** 2).sum(-1).mean(1)
    assert variance.max() <= found.sigma1_E * (1 + 10 * 3 * N * EPS["float64"])
    assert (
        variance.max() > noise(problem, Region(lam, w_star), growth=2).sigma1_E
    )  # kills: the centre's for the ball's
    assert found.sigma2_E == 0.0
    with pytest.raises(HypothesisViolated, match="no maximum over w"):
        noise(problem, lam, growth=2)


# -- refusals ---------------------------------------------------------------------------------------------------------
NOISY = maps.random(n=2, d=3, seed=0, terms=3)
REFUSED = {
    **{
        f"{name} = {value}": (BadInput, lambda name=name, value=value: Noise(**{name: value}))
        for name in ("sigma1", "sigma2", "d_sigma1", "d_sigma2", "sigma1_E", "sigma2_E", "step")
        for value in (-1, Fraction(-1, 2**70), inf, float("nan"), "one")
    },
    "a step of 0": (BadInput, lambda: Noise(step=0)),
    "growth below 1": (BadInput, lambda: noise(NOISY, NOISY.start(), growth=0.5)),
    "growth not a number": (BadInput, lambda: noise(NOISY, NOISY.start(), growth=float("nan"))),
    "growth infinite": (BadInput, lambda: noise(NOISY, NOISY.start(), growth=inf)),
    "two λ": (BadInput, lambda: noise(NOISY, np.zeros((2, 2)), growth=2)),
    "a ball of λ": (BadInput, lambda: noise(NOISY, Region(np.zeros(2), np.zeros(3), 1.0, 1.0), growth=2)),
    "batch 0": (BadInput, lambda: noise(NOISY, NOISY.start(), growth=2, batch=0)),
    "batch not whole": (BadInput, lambda: noise(NOISY, NOISY.start(), growth=2, batch=1.5)),
    "another norm": (BadInput, lambda: noise(NOISY, NOISY.start(), growth=2, matrices="frobenius")),
    "not affine": (HypothesisViolated, lambda: noise(logistic.random(d=2, seed=0), [1.0], growth=2)),
    "no contraction": (HypothesisViolated, lambda: noise(line([1.5, 0.75], [0.0, 0.0]), ONE, growth=2)),
    "too long a step": (
        HypothesisViolated,
        lambda: noise(quadratic.random(n=1, d=2, seed=0, terms=2), ONE, growth=2, step=1.0),
    ),
    "an upper level that is not": (
        HypothesisViolated,
        lambda: noise(
            line([0.5], [0.0], upper=uppers.log_cosh(np.ones((3, 1)), np.arange(3.0), n=1)), ONE, growth=2
        ),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_to_do(case):
    error, call = REFUSED[case]
    with pytest.raises(error) as caught:
        call()
    assert caught.value.advice
    assert caught.value.measured is not None


@dataclass(frozen=True)
class Bent(Terms, Map):
    """Φ̂_k = w/2 + a_k w² + λ(1 + b_k w), on R: polynomial, and affine in no variable."""

    a: np.ndarray
    b: np.ndarray
    backend: Backend = Backend()

    n = 1
    d = 1
    along: ClassVar[dict[str, int]] = {"a": -1, "b": -1}

    def value(self, lam, w):
        a, b = (self.backend.mean(x)[..., None] for x in (self.a, self.b))
        return w / 2 + a * w * w + lam * (1 + b * w)

    def d_w(self, lam, w):
        a, b = (self.backend.mean(x)[..., None] for x in (self.a, self.b))
        return matrix(self.backend, (self.backend.scalar(0.5) + 2 * a * w + lam * b)[..., None])

    def d_lam(self, lam, w):
        return matrix(self.backend, (1 + self.backend.mean(self.b)[..., None] * w)[..., None])


@pytest.mark.parametrize(("a", "b"), [([0.25, -0.25], [0.0, 0.0]), ([0.0, 0.0], [1.0, -1.0])])
def test_draws_that_bend_are_refused(a, b):
    """∂_wΦ̂ that depends on w; ∂_λΦ̂ whose noise does. Where all draws bend alike, only the first matters."""
    linear = uppers.linear([1.0], n=1)
    with pytest.raises(HypothesisViolated, match="not affine in w") as caught:
        noise(FixedPointProblem(linear, Bent(np.array(a), np.array(b))), 0 * ONE, growth=2)
    assert "Bent: a drawn Jacobian that depends on w" in caught.value.measured
    alike = FixedPointProblem(linear, Bent(np.zeros(2), np.array([0.5, 0.5])))
    assert noise(alike, 0 * ONE, growth=2) == Noise()
    with pytest.raises(HypothesisViolated, match="not affine in w") as caught:
        noise(logistic.random(d=2, seed=0), [1.0], growth=2)
    assert "not available on backend 'rational'" in caught.value.measured


@dataclass(frozen=True)
class Ridge(Terms, Map):
    """Φ̂ = w/4 ± (24 w_1 − 35 w_2)²/1000 in the first entry: straight along w = (7/3, 8/5)."""

    s: np.ndarray
    backend: Backend = Backend()
    n = 1
    d = 2
    along: ClassVar[dict[str, int]] = {"s": -1}

    def _fold(self, w):
        return self.backend.mean(self.s) * (24 * w[..., 0] - 35 * w[..., 1])

    def value(self, lam, w):
        fold, first = self._fold(w) * (24 * w[..., 0] - 35 * w[..., 1]), self.backend.asarray([1.0, 0.0])
        return w / 4 + fold[..., None] / 1000 * first + 0 * lam

    def d_w(self, lam, w):
        B = self.backend
        row = B.asarray([[24.0, -35.0], [0.0, 0.0]])
        return matrix(B, B.eye(2) / 4 + self._fold(w)[..., None, None] / 500 * row)

    def d_lam(self, lam, w):
        return matrix(self.backend, self.backend.zeros((2, 1)) * self._fold(w)[..., None, None])


def test_a_bend_that_one_ray_does_not_show_is_refused():
    """Kills: Jacobians compared along a single ray."""
    problem = FixedPointProblem(uppers.linear([1.0, 0.0], n=1), Ridge(np.array([1.0, -1.0])))
    with pytest.raises(HypothesisViolated, match="not affine in w") as caught:
        noise(problem, 0 * ONE, growth=2)
    assert "a drawn Jacobian that depends on w" in caught.value.measured


class Wave(Bent):
    """Φ̂ = w/2 + a(w³/3 − w²/2) + λ: the slope at 1 is that at 0."""

    def value(self, lam, w):
        return w / 2 + self.backend.mean(self.a)[..., None] * (2 * w - 3) * w * w / 6 + lam

    def d_w(self, lam, w):
        a = self.backend.mean(self.a)[..., None]
        return matrix(self.backend, (self.backend.scalar(0.5) + a * w * (w - 1))[..., None])


def test_a_bend_that_unit_vectors_do_not_show_is_refused():
    """Kills: Jacobians compared at 0 and at unit vectors alone."""
    wave = Wave(np.array([0.25, -0.25]), np.zeros(2))
    with pytest.raises(HypothesisViolated, match="not affine in w"):
        noise(FixedPointProblem(uppers.linear([1.0], n=1), wave), 0 * ONE, growth=2)


def test_one_draw_is_no_noise_whatever_it_is():
    """A single term has no variance; nothing has to be affine then."""
    assert noise(maps.random(n=2, d=3, seed=0, kind="tanh"), np.zeros(2), growth=2) == Noise()


@pytest.mark.parametrize("name", ["strict", "rational"])
def test_other_backends_give_the_same_numbers(name):
    problem = maps.random(n=2, d=3, seed=5, terms=3)
    moved = problem.to(name)
    assert noise(moved, moved.start(), growth=2) == noise(problem, problem.start(), growth=2)
