"""What the tests of the exact hypergradient and of its certificate let pass, each on the smallest case that tells."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import refimpl as ri
from refimpl import arrays
from refimpl.arrays import Backend, to_numpy
from refimpl.errors import NotCertified
from refimpl.exact import certificate, enclose, solution_jacobian, solve_lower
from refimpl.exact.certificate import BITS, _krawczyk, require_positive
from refimpl.exact.hypergradient import first_order_estimate
from refimpl.exact.lower import LowerSolution, factorised, rounding_floor
from refimpl.objective import Map, Objective
from refimpl.operators import Operator, matrix, zero

flint = pytest.importorskip("flint")

EPS = 2.0**-52
TURNED = ri.zoo.maps.affine([[0.0, 0.5, 0.0], [0.0, 0.0, 0.25], [0.125, 0.0, 0.0]], np.eye(3)[:, :2])
UPPER = ri.zoo.quadratic.random(n=2, d=3, seed=61).upper
NON_SYMMETRIC = ri.FixedPointProblem(UPPER, TURNED)
LAM = np.array([1.0, -2.0])


# -- lower level and adjoint --------------------------------------------------------------------------
def test_the_residual_of_the_adjoint_is_that_of_the_transposed_system() -> None:
    # kills: ∇_wF − ∂_w r v
    result = ri.exact_hypergradient(NON_SYMMETRIC, LAM)
    J = np.eye(3) - TURNED.A[0]
    size = np.linalg.norm(J) * np.linalg.norm(result.v) + np.linalg.norm(UPPER.grad_w(LAM, result.w))
    assert result.residual_adjoint <= 10 * 3 * EPS * size
    exact = NON_SYMMETRIC.to("rational")
    assert ri.exact_hypergradient(exact, exact.backend.asarray(LAM)).residual_adjoint == 0


def test_the_jacobian_of_a_fixed_point_that_is_not_symmetric() -> None:
    """w = A w + B λ + c: w' = (I − A)⁻¹ B, exactly over the rationals."""
    # kills: the transposed system
    exact = NON_SYMMETRIC.to("rational")
    found = solution_jacobian(exact, exact.backend.asarray(LAM))
    left = exact.backend.eye(3) - exact.phi.A[0]
    assert np.array_equal(left @ found, exact.phi.B[0])


def test_the_rounding_floor_is_its_formula() -> None:
    """10 d eps (‖∂_w r‖_F ‖w‖ + ‖r(λ, 0)‖) in every lane, for a fixed point + ‖w‖, and 0 over the rationals.

    ‖r(λ, 0)‖ counts for at most ‖∂_w r‖_F (1 + ‖w‖).
    """
    # kills: the constant term left out, its cap left out, a factor, the square of the norm, what cancels in w − Φ
    problem = ri.zoo.logistic.random(d=3, seed=62)
    lam, w = np.array([[-1.0], [0.5]]), np.array([[1.0, 2.0, -1.0], [0.25, 0.0, 0.5]])
    jacobian = problem.residual_w(lam, w).dense()
    found = rounding_floor(problem, lam, w, jacobian)
    capped = rounding_floor(problem, lam, w, jacobian / 1000)
    for lane in range(2):
        constant = np.linalg.norm(problem.residual(lam[lane], np.zeros(3)))
        matrix_norm, length = np.linalg.norm(jacobian[lane]), np.linalg.norm(w[lane])
        assert matrix_norm * (1 + length) > constant > matrix_norm * (1 + length) / 1000
        floor = 10 * 3 * EPS * (matrix_norm * length + constant)
        assert abs(found[lane] - floor) <= 10 * 9 * EPS * floor
        floor = 10 * 3 * EPS * matrix_norm / 1000 * (length + 1 + length)
        assert abs(capped[lane] - floor) <= 10 * 9 * EPS * floor
    at, jacobian = np.array([1.0, 2.0, -1.0]), np.eye(3) - TURNED.A[0]
    size = (np.linalg.norm(jacobian) + 1) * np.linalg.norm(at) + np.linalg.norm(TURNED.B[0] @ LAM)
    floor = 10 * 3 * EPS * size
    assert abs(rounding_floor(NON_SYMMETRIC, LAM, at, jacobian) - floor) <= 10 * 9 * EPS * floor
    exact = NON_SYMMETRIC.to("rational")
    point = exact.backend.asarray(np.ones(3))
    assert rounding_floor(exact, exact.backend.asarray(LAM), point, exact.backend.eye(3)) == 0


def _below_the_floor(problem: Any, lam: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, float]:
    """A point as far from w, along the flattest direction, as the rounding floor lets pass; and ‖r‖ there."""
    jacobian, _ = factorised(problem, lam, w)
    values, vectors = np.linalg.eigh(jacobian)
    start = w + float(rounding_floor(problem, lam, w, jacobian)) / (2 * values[0]) * vectors[:, 0]
    return start, float(np.linalg.norm(problem.residual(lam, start)))


def test_a_solution_at_the_rounding_floor_is_polished() -> None:
    """From a start that the floor accepts, one correction still decreases ‖r‖ and is kept; not where it does not."""
    # kills: no polish, the worse of the two kept
    problem = ri.zoo.quadratic.random(n=2, d=4, seed=63, mu=1.0, L=1e4)
    lam = problem.start()
    exact = ri.exact_hypergradient(problem.to("rational"), problem.to("rational").backend.asarray(lam))
    start, before = _below_the_floor(problem, lam, to_numpy(exact.w))
    found = solve_lower(problem, lam, start=start)
    assert found.steps == 0
    assert np.linalg.norm(found.residual) < before / 2
    again = solve_lower(problem, lam, start=found.w)
    assert np.linalg.norm(again.residual) <= np.linalg.norm(found.residual)


def test_a_polished_solution_has_its_own_jacobian() -> None:
    # kills: the factorisation of the point before the polish kept, where the polish moved w by more than rounding
    problem = ri.zoo.logistic.random(d=3, seed=65, spectrum=[1e-6, 1e-2, 1.0])
    lam = np.array([-14.0])
    start, _ = _below_the_floor(problem, lam, ri.exact_hypergradient(problem, lam, certify="never").w)
    found = solve_lower(problem, lam, start=start)
    assert found.steps == 0
    assert np.linalg.norm(found.w - start) > 100 * 3 * EPS * np.linalg.norm(start)
    assert np.array_equal(found.jacobian, problem.residual_w(lam, found.w).dense())
    assert not np.array_equal(found.jacobian, problem.residual_w(lam, start).dense())
    assert np.array_equal(found.correction, -found.factor.solve(found.residual))


def _lower_at(problem: Any, lam: np.ndarray, w: np.ndarray) -> LowerSolution:
    jacobian, factor = factorised(problem, lam, w)
    residual = problem.residual(lam, w)
    return LowerSolution(w, residual, -factor.solve(residual), factor, jacobian, 0)


@pytest.mark.parametrize("stage", ["w", "v"])
def test_the_estimate_sees_what_each_stage_left_over(stage: str) -> None:
    """On a quadratic one correction is the whole error: the estimate is the true one, up to rounding's share."""
    # kills: the correction of w left out, that of v left out
    problem = ri.zoo.quadratic.random(n=2, d=4, seed=64)
    lam = problem.start()
    exact = ri.exact_hypergradient(problem, lam)
    shift = 1e-3 * np.array([1.0, -1.0, 0.5, 2.0])
    lower = _lower_at(problem, lam, exact.w + shift if stage == "w" else exact.w)
    v = lower.factor.solve_T(problem.upper.grad_w(lam, lower.w)) + (shift if stage == "v" else 0)
    value = problem.hypergradient_at(lam, lower.w, v)
    error = np.linalg.norm(value - exact.value)
    estimate = first_order_estimate(problem, lam, lower, v, value)
    assert error > 1e-4
    assert abs(estimate - error) <= 1e-6 * error  # rounding's share is 1e-12 of the shift's


# -- certificate --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Bounded(Map):
    """Φ = w − (c + tanh w) with n = 0: r = c + tanh w, which has no zero for c > 1."""

    c: Any
    backend: Backend = Backend()

    n = 0
    d = 1

    def value(self, lam: Any, w: Any) -> Any:
        return w - (self.c + self.backend.tanh(w))

    def d_w(self, lam: Any, w: Any) -> Operator:
        t = self.backend.tanh(w)
        return matrix(self.backend, (t * t)[..., None])

    def d_lam(self, lam: Any, w: Any) -> Operator:
        return zero(self.backend, 1, 0)


def _krawczyk_at(problem: Any, lam: Any, x: Any, Y: Any) -> Any:
    with flint.ctx.workprec(BITS):
        balls = problem.to("interval")
        B = balls.backend
        box = _krawczyk(balls, B.asarray(lam), B.asarray(x), B.asarray(Y))
    return box[0] if isinstance(box, tuple) else box


def test_no_box_holds_a_solution_that_does_not_exist() -> None:
    """At x = 0 the slope is 1 and Newton's step −1.2 lies in the box; over the box the slope falls to 0.03."""
    # kills: the Jacobian of the centre for that of the box, an image outside the box accepted
    none = ri.FixedPointProblem(ri.zoo.uppers.linear([1.0]), Bounded(1.2))
    with pytest.raises(NotCertified, match="no box"):
        _krawczyk_at(none, np.zeros(0), [0.0], [[1.0]])
    separable = ri.zoo.logistic.LogisticLoss(np.ones((1, 1)), np.ones(1), 0)  # its infimum is not attained
    with pytest.raises(NotCertified):
        enclose(ri.BilevelProblem(ri.zoo.uppers.linear([1.0]), separable), np.zeros(0), np.array([5.0]))
    some = dataclasses.replace(none, phi=Bounded(0.5))
    (zero_of_r,) = _krawczyk_at(some, np.zeros(0), [-np.arctanh(0.5)], [[4 / 3]])
    with flint.ctx.workprec(BITS):
        assert zero_of_r.contains(-flint.arb(3).log() / 2)


@pytest.mark.parametrize("seed", range(4))
def test_a_box_around_a_rough_point_holds_the_exact_solution(seed: int) -> None:
    """Krawczyk's image of a box around floats: it holds the rational solution, and its radius is far below the step."""
    # kills: the step −Y r(x) left out of the image, the image of the centre alone
    problem = ri.zoo.quadratic.random(n=2, d=3, seed=seed)
    rational = problem.to("rational")
    lam, x = problem.start(), np.ones(3) / 8
    exact = ri.exact_hypergradient(rational, rational.backend.asarray(lam)).w
    Y = np.linalg.inv(problem.lower.hess_ww(lam, x).dense())
    box = _krawczyk_at(problem, lam, x, Y)
    with flint.ctx.workprec(BITS):
        assert all(ball.contains(w) for ball, w in zip(box, exact, strict=True))
        assert all(float(ball.rad()) < 1e-12 for ball in box)


@pytest.mark.parametrize("seed", range(4))
def test_an_enclosure_holds_the_rational_answer(seed: int) -> None:
    # kills: one stage's balls for another's, the untransposed adjoint
    for problem in (ri.zoo.quadratic.random(n=2, d=3, seed=seed), ri.zoo.maps.random(n=2, d=3, seed=seed)):
        rational = problem.to("rational")
        lam = problem.start()
        exact = ri.exact_hypergradient(rational, rational.backend.asarray(lam))
        balls = enclose(problem, lam, to_numpy(exact.w))
        with flint.ctx.workprec(BITS):
            for name in ("w", "v", "value"):
                pairs = zip(getattr(balls, name), getattr(exact, name), strict=True)
                assert all(ball.contains(x) for ball, x in pairs), name


@pytest.mark.parametrize(("radius", "proved"), [(0.25, True), (0.75, False)])
def test_definiteness_is_proved_for_every_matrix_in_the_balls(radius: float, proved: bool) -> None:
    """[1 ± r] is positive for r < 1; the proof in the Frobenius norm on R² asks for √2 r < 1."""
    # kills: a proof for the midpoints alone
    with flint.ctx.workprec(BITS):
        B = arrays.backend("interval")
        a = B.asarray([[flint.arb(1, radius), 0], [0, flint.arb(1, radius)]])
        if proved:
            require_positive(B, a)
        else:
            with pytest.raises(NotCertified, match="definiteness"):
                require_positive(B, a)


@dataclass(frozen=True)
class Doubled(Objective):
    """An objective of which one quantity is twice what it should be."""

    inner: Objective
    quantity: str
    backend: Backend = Backend()

    @property
    def n(self) -> int:  # type: ignore[override]  # a property here, a field elsewhere
        return self.inner.n

    @property
    def d(self) -> int:  # type: ignore[override]  # a property here, a field elsewhere
        return self.inner.d

    def _of(self, quantity: str, lam: Any, w: Any) -> Any:
        return (2 if quantity == self.quantity else 1) * getattr(self.inner, quantity)(lam, w)

    def value(self, lam: Any, w: Any) -> Any:
        return self._of("value", lam, w)

    def grad_lam(self, lam: Any, w: Any) -> Any:
        return self._of("grad_lam", lam, w)

    def grad_w(self, lam: Any, w: Any) -> Any:
        return self._of("grad_w", lam, w)

    def hess_ww(self, lam: Any, w: Any) -> Operator:
        return self._of("hess_ww", lam, w)

    def cross(self, lam: Any, w: Any) -> Operator:
        return self._of("cross", lam, w)


@pytest.mark.parametrize(
    ("level", "quantity", "named"),
    [
        ("lower", "hess_ww", "∂_w r"),
        ("lower", "cross", "∂_λ r"),
        ("lower", "value", "∇_wG"),
        ("upper", "grad_w", "∇_wF"),
        ("upper", "grad_lam", "∇_λF"),
    ],
)
def test_each_derivative_that_a_certificate_rests_on_is_tried(level: str, quantity: str, named: str) -> None:
    # kills: a difference compared with itself
    problem = ri.zoo.quadratic.random(n=2, d=3, seed=66)
    wrong = dataclasses.replace(problem, **{level: Doubled(getattr(problem, level), quantity)})
    with flint.ctx.workprec(BITS):
        for candidate in (problem, wrong):
            balls = candidate.to("interval")
            at = [balls.backend.asarray(x) for x in (problem.start(), np.ones(3))]
            if candidate is problem:
                certificate._require_derivatives(balls, *at)
            else:
                with pytest.raises(NotCertified, match=named):
                    certificate._require_derivatives(balls, *at)


@dataclass(frozen=True)
class Cast(Map):
    """Φ = (w_1/2, 3 w_2), with the midpoint for w_2."""

    backend: Backend = Backend()

    n = 0
    d = 2

    def value(self, lam: Any, w: Any) -> Any:
        B = self.backend
        return w * B.asarray([0.5, 0.0]) + B.asarray(to_numpy(w)) * B.asarray([0.0, 3.0])

    def d_w(self, lam: Any, w: Any) -> Operator:
        return matrix(self.backend, self.backend.asarray([[0.5, 0.0], [0.0, 3.0]]))

    def d_lam(self, lam: Any, w: Any) -> Operator:
        return zero(self.backend, 2, 0)


def test_a_cast_in_one_coordinate_is_no_enclosure() -> None:
    # kills: any coordinate for all of them
    problem = ri.FixedPointProblem(ri.zoo.uppers.linear([1.0, 1.0]), Cast())
    with flint.ctx.workprec(BITS):
        balls = problem.to("interval")
        at = [balls.backend.asarray(x) for x in (np.zeros(0), np.ones(2))]
        with pytest.raises(NotCertified, match="does not enclose"):
            certificate._require_enclosing(balls, *at)


def test_a_bound_that_is_not_finite_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    # kills: the bound NaN or inf handed out
    problem = ri.zoo.quadratic.random(n=2, d=3, seed=67)
    lam = problem.start()
    found = ri.exact_hypergradient(problem, lam)
    enclosed = enclose(problem, lam, found.w)

    def unbounded(*_: Any) -> Any:
        return dataclasses.replace(enclosed, value=enclosed.value + flint.arb(0, float("inf")))

    certificate.certify(problem, lam, w=found.w, v=found.v, value=found.value)
    monkeypatch.setattr(certificate, "enclose", unbounded)
    with pytest.raises(NotCertified, match="unbounded"):
        certificate.certify(problem, lam, w=found.w, v=found.v, value=found.value)


def test_each_bound_is_that_of_its_own_stage() -> None:
    """With λ scaled up the errors of w, v and the value are orders apart: none may stand for another."""
    # kills: the bound of v for that of the value
    lower = ri.zoo.quadratic.objective(ww=np.diag([1.0, 3.0]), lw=[[1e6, 7e5]], w1=[1.0, 1.0])
    problem = ri.BilevelProblem(ri.zoo.quadratic.objective(ww=np.eye(2), w1=[1.0, 2.0], n=1), lower)
    found = ri.exact_hypergradient(problem, [1e-6])
    true = ri.exact_hypergradient(problem.to("rational"), problem.to("rational").backend.asarray([1e-6]))
    judged = certificate.certify(problem, np.array([1e-6]), w=found.w, v=found.v, value=found.value)
    for bound, name in ((judged.bound, "value"), (judged.w_error, "w"), (judged.v_error, "v")):
        exact, computed = getattr(true, name), getattr(found, name)
        error = exact - arrays.backend("rational").asarray(computed)
        size = float(sum(e * e for e in error)) ** 0.5
        assert size <= bound <= 1.01 * size + 2.0**-60, name
    assert judged.bound > 100 * judged.v_error
