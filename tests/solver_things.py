"""Systems and problems of known spectra on which the solvers and the approximations are judged."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np

from refimpl.arrays import backend, to_numpy
from refimpl.objective import Map
from refimpl.operators import Operator, matrix
from refimpl.problem import BilevelProblem, FixedPointProblem
from refimpl.zoo import logistic, maps, quadratic, rows, uppers

D = 5
SPECTRUM = np.array([1.0, 2.0, 2.5, 6.0, 10.0])
KAPPA = 10.0
STEP = 2 / 11  # 2/(μ + L)
RNG = np.random.default_rng(7)
SPD = quadratic.spectrum_matrix(SPECTRUM, RNG)
SKEWED = 0.6 * np.linalg.qr(RNG.standard_normal((D, D)))[0] + np.diag(
    [0.3, 0.1, 0.0, -0.1, -0.3]
)  # ‖·‖ <= 0.9
SHIFTED = np.eye(D) - SKEWED  # a fixed point's system, not symmetric
B0 = RNG.standard_normal(D)

QUADRATIC = quadratic.random(n=2, d=D, seed=3, spectrum=SPECTRUM.tolist())
AFFINE = maps.random(n=2, d=3, seed=4, q=0.8)
TANH = maps.random(n=2, d=3, seed=4, q=0.8, kind="tanh")
LOGISTIC = logistic.random(d=3, seed=5, rows=9)
# log cosh has almost no curvature far out: full Newton steps overshoot
FLAT = BilevelProblem(
    uppers.log_cosh([[1.0]], [0.0], n=1), rows.Penalised(uppers.log_cosh([[1.0]], [0.5], n=1), True)
)


@dataclasses.dataclass(frozen=True)
class Misdirected(maps.AffineMap):
    """An affine contraction that says 2I of its Jacobian: Newton's direction is uphill."""

    def d_w(self, lam, w):
        return matrix(self.backend, 2 * self.backend.eye(self.d))


MISDIRECTED = FixedPointProblem(AFFINE.upper, Misdirected(AFFINE.phi.A / 2, AFFINE.phi.B, AFFINE.phi.c))


def operator(a, name="numpy"):
    """The operator of a on a backend; known to be symmetric where it is."""
    xp = backend(name)
    return matrix(xp, xp.asarray(a), symmetric=bool(np.array_equal(a, np.swapaxes(a, -1, -2))))


def tallied(a):
    """The operator of a, and the list that its products fill."""
    calls = []
    apply, apply_T = (lambda v: calls.append(1) or v @ a.T), (lambda v: calls.append(1) or v @ a)
    return Operator(backend(), a.shape, apply, apply_T, symmetric=bool((a == a.T).all())), calls


def exactly(a):
    """Floats as the fractions that they are."""
    return np.vectorize(lambda x: Fraction(float(x)), otypes=[object])(a)


def fractions(x):
    """Rational arrays as Fractions, whose arithmetic is Python's."""
    return np.array([Fraction(int(e.p), int(e.q)) for e in x.ravel()], dtype=object).reshape(x.shape)


def solved(problem):
    """w(λ) at the start, by Newton steps written out: no SciPy, so that a GPU machine needs none."""
    lam, w = problem.start(), np.zeros(problem.d)
    for _ in range(50):
        w = w - np.linalg.solve(problem.residual_w(lam, w).dense(), problem.residual(lam, w))
    return w


def start_of(problem, kind):
    """w_0 in its three forms, and the function λ ↦ w_0(λ)."""
    rng, B = np.random.default_rng(3), problem.backend
    point = B.asarray(rng.integers(-3, 4, problem.d).astype(float))
    if kind == "origin":
        return None, lambda lam: 0 * point
    if kind == "point":
        return point, lambda lam: point
    slope = rng.integers(-3, 4, (problem.d, problem.n)).astype(float)
    phi = maps.affine(np.zeros((problem.d, problem.d)), slope, to_numpy(point)).to(B)
    return phi, lambda lam: B.matvec(B.asarray(slope), lam) + point


def dense_sum(problem, solver, lam, w0, last):
    """∇_λF + Σ_{t > T − K} B_tᵀ A_{t+1}ᵀ … A_Tᵀ ∇_wF, written with dense matrices from the first step on."""
    states = solver.run(problem, lam, w0, keep=None).states
    w = states[-1][..., : problem.d]
    Z = 0 * solver.map(problem, lam, w0, 1).d_lam(lam, states[0]).dense()
    for k in range(len(states) - last, len(states)):
        step, state = solver.map(problem, lam, w0, k), states[k - 1]
        Z = step.d_w(lam, state).dense() @ Z + step.d_lam(lam, state).dense()
    through = Z[: problem.d].T @ problem.upper.grad_w(lam, w)
    return problem.upper.grad_lam(lam, w) + through


class Shrink(Map):
    """w/2 + λ, without matrices of its own."""

    n, backend = 1, backend()

    def __init__(self, d):
        self.d = d

    def value(self, lam, w):
        return w / 2 + lam

    def d_w(self, lam, w):
        half = lambda v: v / 2  # noqa: E731 (one product, both ways)
        return Operator(self.backend, (self.d, self.d), half, half, symmetric=True)

    def d_lam(self, lam, w):
        return matrix(self.backend, np.ones((self.d, 1)))
