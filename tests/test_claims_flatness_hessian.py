"""The claims of ``dropout-flatness`` on the loss and theorem 1: complete, runnable, built from checked formulas."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from flint import fmpq

from refimpl import curvature
from refimpl.arrays import to_numpy
from refimpl.errors import BadInput
from refimpl.networks import MLP, loss
from verification.claims.dropout_flatness import (
    _planted,
    _second,
    planted,
    theorem_1,
    theorem_1_deep,
    theorem_1_settings,
    theorem_1_two_layers,
)
from verification.printed import flatness

EPS = float(np.finfo(float).eps)


# -- the formulas as printed, by hand and by differences --------------------------------------------------------


def test_the_printed_formulas_by_hand():
    """f = w(ux + b) + c at (u, b, w, c) = (1, 0, 2, 0), x = 3, y = 5, p = ½: f = f¹ = 6, ε = 1, s = 1."""
    net = MLP((1, 1, 1), "linear")
    f = loss(net, [[3.0]], [5.0], loss="squared")
    theta = np.array([1.0, 0.0, 2.0, 0.0])
    whole, part = np.array([6.0, 2, 3, 1]), np.array([6.0, 2, 3, 0])
    H = np.outer(whole, whole) + np.outer(part, part)
    covariance = (1 + 36) * np.outer(whole, whole) + 1 * np.outer(part, part)
    assert (flatness.hessian(f, theta, 0.5) == H).all()
    assert (flatness.covariance(f, theta, 0.5) == covariance).all()
    assert (flatness.hessian(f, theta, [0.5]) == H).all()
    assert (flatness.hessian(f, theta, 1) == np.outer(whole, whole)).all()


@pytest.mark.parametrize("widths", [(2, 3, 1), (2, 2, 3, 1)])
def test_the_gradients_of_outputs_and_of_units_by_differences(widths):
    rng = np.random.default_rng(0)
    net = MLP(widths, "tanh")
    theta, X, y = rng.standard_normal(net.size), rng.standard_normal((4, 2)), rng.standard_normal(4)
    found = flatness.terms(loss(net, X, y, loss="squared"), theta)

    def parts(theta):
        run = net.forward(theta, X.T)
        return theta[-1 - widths[-2] : -1, None] * run.inputs[-1]

    h = EPS ** (1 / 3)
    moved = np.array([(parts(theta + h * e) - parts(theta - h * e)) / (2 * h) for e in np.eye(net.size)])
    allowed = 1e3 * EPS ** (2 / 3)  # h² times third derivatives, and eps/h
    assert found.of_parts == pytest.approx(np.moveaxis(moved, 0, -1), abs=allowed)
    assert found.whole == pytest.approx(found.of_parts.sum(axis=0) + np.eye(net.size)[-1], abs=100 * EPS)
    assert found.parts == pytest.approx(parts(theta), abs=100 * EPS)
    assert found.errors == pytest.approx(net.scores(theta, X)[0] - y, abs=100 * EPS)


def test_the_printed_formulas_refuse_what_their_settings_exclude():
    theta = np.zeros(6)
    with pytest.raises(BadInput, match="settings"):
        flatness.hessian(loss(MLP((1, 1, 2), "relu"), [[1.0]], [[0.0, 1.0]], loss="squared"), theta, 0.5)
    with pytest.raises(BadInput, match="settings"):
        flatness.covariance(loss(MLP((1, 1, 2), "relu"), [[1.0]], [1]), theta, 0.5)
    f = loss(MLP((1, 2, 1), "relu"), [[1.0]], [1.0], loss="squared")
    for wrong in (0, 1.5, [0.5], [0.5, 0.5, 0.5]):
        with pytest.raises(BadInput, match="keep"):
            flatness.hessian(f, np.ones(7), wrong)


def expected(case):
    """E_ηR, the library's closed form."""
    return case.dropout.closed


# -- planted points ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [4, 5])
def test_a_planted_point_is_stationary_for_the_library(seed):
    params = _planted.at([2, 2, 1], n=8, seed=seed, planted=True, keep=[4, 2], shift=[8])
    exact, floats = _planted.build(params), _planted.build_float(params)
    gradient = expected(exact).grad_w(exact.lam, exact.theta)
    assert all(x == 0 for x in gradient)
    assert floats.stillness < _planted.STILL
    found = expected(floats).grad_w(floats.lam, floats.theta)
    assert found == pytest.approx(floats.slope, abs=_second.rounding(floats))
    assert floats.margin == pytest.approx(exact.margin, abs=100 * EPS)


def test_the_errors_of_a_planted_point_are_the_smallest_but_for_the_shift():
    params = _planted.at([1, 1, 1], n=5, seed=1, planted=True)
    least, moved = _planted.build(params), _planted.build({**params, "shift": [8, -4]})
    null = _planted.null_vectors(least.terms.whole.T)
    assert len(null) == 5 - _planted.rank(least.terms.whole)
    assert (least.terms.whole.T @ null.T == 0).all()
    assert all(x == 0 for x in null @ least.errors)  # orthogonal to the null space: of least norm
    assert (moved.errors - least.errors == null[0] - null[1] / 2).all()
    assert all(x == 0 for x in moved.slope)


def test_a_point_that_cannot_be_planted_is_rejected():
    for build in (_planted.build, _planted.build_float):
        found = build({**planted.ALWAYS, "planted": True})
        assert not _planted.STATIONARY.predicate(found)[0]
        assert found.stillness > 1e-3


def test_random_points_stand_off_their_kinks():
    for seed in range(20):
        for widths in ([2, 2, 1], [1, 2, 2, 1]):
            assert _planted.build(_planted.at(widths, n=4, seed=seed)).margin >= _planted.MARGIN


def test_the_enumerated_expectation_is_the_closed_one():
    case = _planted.build(_planted.at([2, 2, 2, 1], "leaky_relu", n=3, seed=2, keep=[3, 6]))
    assert case.value(case.theta) == expected(case).value(case.lam, case.theta)
    assert (case.enumerated == case.hessian).all()
    assert (case.hessian == curvature.hessian(case.dropout, case.theta)).all()
    chances, _ = case.each_mask()
    assert sum(chances) == 1
    assert len(chances) == 4


# -- helpers of the second derivatives ------------------------------------------------------------------------------


def test_the_second_derivative_along_a_direction_needs_values_alone():
    case = _planted.build(_planted.at([2, 2, 2, 1], n=2, seed=5))
    for v in _second.directions(case):
        assert _second.along(case, v) == v @ case.hessian @ v


def test_the_inertia_of_known_matrices():
    rng = np.random.default_rng(0)
    for _ in range(20):
        root = rng.integers(-2, 3, (5, 5))
        signs = np.diag(rng.integers(-1, 2, 5))
        matrix = root.T @ signs @ root
        eigenvalues = np.linalg.eigvalsh(matrix.astype(float))
        tiny = 1e3 * EPS * max(1.0, np.abs(eigenvalues).max())
        expected = tuple(int(k) for k in ((eigenvalues > tiny).sum(), (eigenvalues < -tiny).sum()))
        found = _second.inertia(_planted.RATIONAL.asarray(matrix.astype(float)))
        assert found == (*expected, 5 - sum(expected))


def test_the_tangents_of_rescalings_leave_outputs_alone():
    case = _planted.build(_planted.at([2, 2, 2, 1], "leaky_relu", n=3, seed=4))
    T = _second.scalings(case)
    assert T.shape == (4, case.net.size)
    assert all(x == 0 for x in (case.terms.whole @ T.T).ravel())
    assert any(x != 0 for x in (case.terms.whole @ abs(T).T).ravel())


def test_the_rounding_of_a_hessian_covers_its_error_and_little_more():
    for seed in range(10):
        params = _planted.at([2, 2, 2, 1], n=4, seed=seed, keep=[2, 5])
        exact, floats = _planted.build(params), _planted.build_float(params)
        gap = np.linalg.norm(floats.enumerated - to_numpy(exact.enumerated))
        assert gap <= _second.rounding(floats) <= 1e-6 * np.linalg.norm(floats.enumerated)


def test_the_row_blocks_of_tanh_by_the_librarys_hessian():
    case = _planted.build_float(_planted.at([2, 2, 1], "tanh", n=3, seed=1, keep=[3, 6]))
    assert theorem_1_settings.bent()(case) == pytest.approx(case.hessian, abs=_second.rounding(case))


def test_the_smallest_counterexamples_by_hand():
    """w = 0, u = 0, b = 1, x = (0, 1), y = (−1, 1): ε = (1, −1), ∂_u∂_w = (1/n) Σ ε_i x_i = −½."""
    zero = _planted.build(theorem_1_two_layers.ZERO)
    assert all(x == 0 for x in zero.slope)
    assert zero.hessian[0, 2] == fmpq(-1, 2)
    assert zero.printed[0, 2] == 0
    trivial = _planted.build(theorem_1_two_layers.TRIVIAL)
    assert [[int(x) for x in row] for row in trivial.hessian[::2, ::2]] == [[0, -1], [-1, 0]]
    assert _second.inertia(trivial.hessian)[1] == 1
    assert (trivial.printed[:3, :3] == 0).all()


def test_the_deep_counterexamples():
    minimum, saddle = (_planted.build(params) for params in (theorem_1_deep.MINIMUM, theorem_1_deep.SADDLE))
    assert _second.inertia(minimum.hessian) == (6, 0, 3)
    assert _second.inertia(saddle.hessian)[1] > 0
    eigenvalues = np.linalg.eigvalsh(to_numpy(minimum.hessian))
    assert (np.sort(np.abs(eigenvalues))[:3] < 1e3 * EPS * eigenvalues.max()).all()
    hinges = _planted.build(theorem_1_deep.HINGES)
    assert all(x == 0 for x in hinges.slope)
    assert hinges.margin == 0.25
    assert len(_second.shifts(hinges)) == 1
    assert all(x == 0 for x in (_second.shifts(hinges) @ hinges.terms.of_parts[0].T).ravel())
    assert hinges.keep == (Fraction(1, 2),) * 2


def test_one_unit_in_the_last_hidden_layer_is_not_enough():
    case = _planted.build(theorem_1_deep.LAST_NARROW)
    assert case.net.hidden == (1, 2, 1)
    assert all(x == 0 for x in case.slope)
    assert case.margin >= _planted.MARGIN
    assert all(W[:, :-1].all() for W in map(to_numpy, case.net.layers(case.theta)[1:]))
    assert (case.hessian != case.printed).any()
    assert (case.hessian == case.enumerated).all()


def test_the_network_of_two_outputs():
    """x = ±(1, 0) with ±(2, 2), x = ±(0, 1) with ±(1, −1), u = (1, 0), W = (1, 1): C_r = −½(0, ±1) in row u."""
    case = theorem_1_settings.two_outputs({"a": 1, "b": 1, "first": 2, "second": 1, "keep": 4})
    assert all(x == 0 for x in case.slope)
    gap = case.hessian - case.summed(theorem_1.printed_matrix)
    assert {(i, j): gap[i, j] for i, j in zip(*np.nonzero(gap), strict=True) if i < j} == {
        (1, 3): fmpq(-1, 2),
        (1, 5): fmpq(1, 2),
    }
