"""What ``problem.check`` measures, and which violations it names."""

from __future__ import annotations

import numpy as np
import pytest

import refimpl as ri
from refimpl.constants import Region, around
from refimpl.errors import BadInput
from refimpl.zoo import degenerate, logistic, maps, quadratic, ridge, weighted_softmax
from tests.backends import Place, everywhere

EPS = 2.0**-52


@everywhere
def test_a_solved_problem_has_no_violations(place: Place) -> None:
    host = quadratic.random(n=2, d=3, seed=0, mu=0.5, L=8.0)
    lam = host.start()
    w = np.linalg.solve(host.lower.mean[0], -host.lower.grad_w(lam, np.zeros(3)))
    found = place.move(host).check(place.array(lam), place.array(w))
    assert found.violations == ()
    assert found.solved
    assert found.inside
    assert found.residual <= found.floor
    # kills: singular values in place of eigenvalues, 1/condition; the spectrum is the chosen one
    for measured, chosen in ((found.smallest, 0.5), (found.largest, 8.0), (found.condition, 16.0)):
        assert abs(measured - chosen) <= 10 * 3 * EPS * 16 * chosen
    assert found.contraction is None
    assert found.constants is not None
    assert found.constants.q == pytest.approx(15 / 17, rel=10 * 3 * EPS * 16)  # (κ − 1)/(κ + 1)


def test_an_unsolved_w_is_named() -> None:
    problem = logistic.random(d=3, seed=1)
    solved = ri.exact_hypergradient(problem, problem.start()).w
    near = problem.check(problem.start(), solved)
    assert near.solved
    # a residual of 100 floors is seen: the smallest eigenvalue turns this shift into at least that much
    shifted = problem.check(problem.start(), solved + 100 * near.floor / near.smallest)
    assert shifted.residual > shifted.floor
    assert not shifted.solved
    found = problem.check(problem.start(), solved + 1e-6)
    assert not found.solved
    assert [v.split(":")[0] for v in found.violations] == ["w does not solve the lower level"]


def test_a_lambda_outside_is_reported_not_raised() -> None:
    found = ridge.random(d=3, seed=2).check([-1.0], [0.0, 0.0, 0.0])
    assert not found.inside
    assert any("outside" in v for v in found.violations)


def test_every_degenerate_case_is_recognised() -> None:
    expected = {
        "singular": ("smallest eigenvalue is 0",),
        "indefinite": ("smallest eigenvalue is -1",),
        "non-symmetric": (),
        "kink": ("does not solve the lower level",),
        "not a contraction": ("‖∂_wΦ‖ = 1.5",),
        "rank changes": ("smallest eigenvalue is 0",),
    }
    for case in degenerate.cases():
        found = case.problem.check(case.lam, case.w)
        assert len(found.violations) == len(expected[case.label]), case.label
        for said, part in zip(found.violations, expected[case.label], strict=True):
            assert part in said
        assert (found.constants is None) == (case.label != "non-symmetric")
        assert bool(found.why_no_constants) == (found.constants is None)


def test_a_singular_fixed_point_equation_is_named() -> None:
    problem = ri.FixedPointProblem(
        quadratic.objective(ww=np.eye(2), n=1), maps.affine(np.eye(2), np.ones((2, 1)))
    )
    found = problem.check([0.0], [1.0, 2.0])
    assert found.condition == np.inf
    assert [v.split(":")[0] for v in found.violations] == ["I − ∂_wΦ is singular", "Φ does not contract"]


def test_contraction_factor_and_singular_values_of_a_map() -> None:
    problem = maps.random(n=2, d=4, seed=3, q=0.75)
    found = problem.check(problem.start(), ri.exact_hypergradient(problem, problem.start()).w)
    A = problem.phi.A[0]
    singular = np.linalg.svd(np.eye(4) - A, compute_uv=False)
    assert found.violations == ()
    assert abs(found.contraction - 0.75) <= 10 * 4 * EPS
    assert abs(found.smallest - singular[-1]) <= 10 * 4 * EPS
    assert abs(found.largest - singular[0]) <= 10 * 4 * EPS * singular[0]


def test_constants_on_a_region_and_their_absence() -> None:
    problem = logistic.random(d=3, seed=4)
    lam, w = problem.start(), ri.exact_hypergradient(problem, problem.start()).w
    region = around(problem, lam, w, np.zeros(3), lam_radius=0.5)
    at_point, on_region = problem.check(lam, w), problem.check(lam, w, region=region)
    assert at_point.constants is not None
    assert on_region.constants is not None
    assert on_region.region is region
    assert on_region.constants.B == np.linalg.norm(w)
    assert on_region.constants.q > at_point.constants.q  # a supremum over more points
    bare = ri.BilevelProblem(problem.upper, ri.from_function(lambda lam, w: (w * w).sum(), n=1, d=3))
    without = bare.check(lam, np.zeros(3))
    assert without.constants is None
    assert "no constants are known" in without.why_no_constants


def test_rational_and_balls_are_measured_too() -> None:
    problem = ridge.random(d=2, seed=5)
    exact = problem.to("rational")
    found = exact.check(exact.start(), ri.exact_hypergradient(exact, exact.start()).w)
    assert found.residual == found.floor == 0
    assert found.violations == ()
    balls = problem.to("interval")
    assert balls.check(balls.start(), balls.backend.zeros((2,))).smallest == pytest.approx(
        found.smallest, rel=10 * 2 * EPS * found.condition
    )


def test_batches_and_foreign_arrays_are_refused() -> None:
    problem = ridge.random(d=2, seed=6)
    for lam, w in (([[1.0], [2.0]], [0.0, 0.0]), ([1.0], np.zeros((2, 2))), ([1.0, 2.0], [0.0, 0.0])):
        with pytest.raises(BadInput):
            problem.check(lam, w)


def test_region_radii_are_not_negative() -> None:
    with pytest.raises(BadInput, match="negative"):
        Region(np.zeros(1), np.zeros(1), w_radius=-1.0)


def test_hyper_cleaning_is_checked_like_any_other() -> None:
    rng = np.random.default_rng(7)
    X, y = rng.standard_normal((8, 3)), np.arange(8) % 2
    problem = weighted_softmax.problem(X, y, X, y, classes=2, reg=0.1)
    w = ri.exact_hypergradient(problem, problem.start(), certify="never").w
    found = problem.check(problem.start(), w)
    assert found.violations == ()
    assert found.smallest >= 0.1 * (1 - 10 * 6 * EPS * found.condition)
