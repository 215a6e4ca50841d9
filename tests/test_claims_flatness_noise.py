"""The claims of ``dropout-flatness`` on gradient noise: complete, runnable, built from checked formulas."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from flint import fmpq

from refimpl.arrays import to_numpy
from verification.claims.dropout_flatness import (
    _minima,
    _noise,
    _planted,
    closing_similarity,
    prop_1,
    theorem_2,
    theorem_2_error,
    theorem_2_exact,
    theorem_2_hypothesis,
    theorem_2_limits,
    theorem_2_wide,
    threshold,
)
from verification.claims.dropout_flatness._planted import RATIONAL, at

EPS = float(np.finfo(float).eps)


# -- the smallest minima, by hand --------------------------------------------------------------------------------


def of_bias(number):
    """number e_ce_cᵀ for the network (1, 1, 1)."""
    found = RATIONAL.zeros((4, 4))
    found[3, 3] = RATIONAL.scalar(number)
    return found


@pytest.mark.parametrize("p", ["1/2", "3/4", "1/5"])
def test_one_linear_unit_and_two_labels(p):
    """f = ½ ± p/2; kept, the output is the label; dropped, it is ½."""
    of, keep = _minima.minimum(_minima.pair(p)), Fraction(p)
    assert [Fraction(str(x)) for x in of.at.run.output[0]] == [(1 + keep) / 2, (1 - keep) / 2]
    assert all(x == 0 for x in of.at.slope)
    numbers = ((1 - keep) / 4, keep * (1 - keep) / 8, 0)
    for draw, number in zip(_noise.DRAWS, numbers, strict=True):
        assert (of.exact(draw) == of_bias(number)).all()
    assert {Fraction(str(x.a)) for x in of.samples} == {(1 - keep) / 4}
    v = RATIONAL.asarray([RATIONAL.scalar(x) for x in (0, -keep, 0, 1)])  # w = 1
    assert Fraction(str(v @ of.at.hessian @ v)) == 1 - keep
    assert Fraction(str(prop_1.delta(of))) == (1 - keep) / 2


@pytest.mark.parametrize("p", ["1/2", "3/4"])
def test_one_relu_unit_that_sees_one_sample(p):
    of, s = _noise.build(_minima.one_sided(p)), (1 - Fraction(p)) / Fraction(p)
    w = 1 / (1 + 2 * s)
    assert all(x == 0 for x in of.at.slope)
    assert (of.exact("one sample") == of_bias(w * w * s * (1 + 2 * s) / 2)).all()
    assert {abs(Fraction(str(e))) for e in of.at.errors} == {s * w}


@pytest.mark.parametrize("activation", ["linear", "leaky_relu"])
def test_minima_are_local_minima(activation):
    found = 0
    for seed in range(12):
        of = _minima.minimum({"d": 2, "m": 2, "n": 4, "activation": activation, "seed": seed, "keep": [4, 6]})
        if not (_noise.STATIONARY.predicate(of)[0] and _noise.AWAY.predicate(of)[0]):
            continue
        found += 1
        assert all(
            x == 0 for x in of.means.sum(axis=0)
        )  # by the masks, not by the closed form of the gradient
        H = to_numpy(of.at.hessian)
        values = np.linalg.eigvalsh(H)
        assert values[0] >= -10 * len(H) * EPS * values[-1]
    assert found >= 6


# -- formulas beneath, by a second channel ------------------------------------------------------------------------


@pytest.mark.parametrize("p", [Fraction(1, 2), Fraction(3, 4), Fraction(1, 5)])
def test_moments_of_the_masks(p):
    s = (1 - p) / p
    values = ((s, p), (Fraction(-1), 1 - p))
    third, fourth = (sum(chance * x**k for x, chance in values) for k in (3, 4))
    assert theorem_2_exact.third(s) == third == (1 - p) ** 3 / p**2 - (1 - p)
    assert theorem_2_exact.fourth(s) == fourth == (1 - p) ** 4 / p**3 + (1 - p)


def test_variances_under_the_masks():
    of = _noise.build(at((2, 3, 1), "leaky_relu", n=2, seed=4, keep=[3]))
    chances, errors, slopes = of.masked
    squares = errors**2
    variance = (chances[:, None] * squares**2).sum(axis=0) - ((chances[:, None] * squares).sum(axis=0)) ** 2
    assert [theorem_2_error.square_variance(x) for x in of.samples] == list(variance)
    literal = [
        sum(
            chance * ((_noise.outer(g[i]) - x.M) ** 2).sum()
            for chance, g in zip(chances, slopes, strict=True)
        )
        for i, x in enumerate(of.samples)
    ]
    assert list(theorem_2_error.spread_of_matrix(of)) == literal


def test_the_least_and_largest_masked_error_leave_out_what_never_happens():
    """f = 1, y = 1: with p = 1 no mask makes an error."""
    params = at((1, 1, 1), "linear", theta=[1, 0, 1, 0], X=[[1]], y=[1], p="1")
    assert _noise.build(params).errors_squared == (0, 0)
    assert _noise.build({**params, "p": "1/2"}).errors_squared == (1, 1)


def test_the_slope_of_a_cubic():
    values = [np.array([fmpq(7) + 5 * s - 3 * s**2 + 2 * s**3], dtype=object) for s in range(4)]
    assert theorem_2_limits.cubic_slope(values)[0] == 5


def matrix(rows):
    return np.array([[fmpq(x) for x in row] for row in rows], dtype=object)


@pytest.mark.parametrize(
    ("large", "holds"),
    [
        ([[2, 0], [0, 2]], True),
        ([[1, 0], [0, 2]], True),
        ([[2, 1], [1, 1]], False),  # in the direction (1, −1) alone
        ([[2, 0], [0, 0]], False),  # in the kernel of the large one
        ([[2, 0], [0, -1]], False),
    ],
)
def test_the_worst_direction_decides(large, holds):
    small = matrix([[1, 0], [0, 1]])
    found = _noise.below(small, matrix(large))
    assert found.exact
    assert found.holds is holds


def test_the_worst_direction_in_the_kernel_of_the_small_matrix():
    # vᵀ small v = 0 > vᵀ large v: no quotient sees it
    assert not _noise.below(matrix([[0, 0], [0, 1]]), matrix([[-1, 0], [0, 1]])).holds


def test_multiples_and_their_distance():
    A, B = matrix([[1, 0], [0, 0]]), matrix([[1, 0], [0, 1]])
    assert closing_similarity.defect(3 * B, B) == 0
    assert closing_similarity.defect(A, B) == 1
    assert closing_similarity.sine(A, B) == pytest.approx(0.5**0.5, rel=4 * EPS)
    assert closing_similarity.sine(0 * A, B) == 0


def test_the_clip():
    of = _noise.build(at((1, 1, 1), "linear", theta=[1, 0, 1, 0], X=[[1]], y=[1], delta="1/4"))
    f = np.array([fmpq(k, 8) for k in (-1, 1, 3, 7)], dtype=object)
    assert list(threshold.clip(of, f)) == [fmpq(1, 4), fmpq(1, 4), fmpq(3, 8), fmpq(3, 4)]
    assert list(threshold.seen(of, f)) == [0, 0, 1, 0]


def test_the_printed_trace_of_many_copies_is_p_times_the_true_one():
    ratios = [
        float(theorem_2_wide.trace_ratio(theorem_2_wide.copied({**theorem_2_wide.WIDE, "m": m})))
        for m in (2, 4, 8)
    ]
    gaps = [abs(ratio - 2 / 3) for ratio in ratios]
    assert gaps[0] > gaps[1] > gaps[2]
    assert 3 * gaps[2] < gaps[0]  # they fall as 1/m


# -- points by hand ----------------------------------------------------------------------------------------------


def test_two_steps_of_training_by_hand():
    """f = w(ux + b) + c, x = 1, y = 2, s = ½: at (1, 0, 1, 0) ε = −1, f¹ = 1, ∇ = −(1, 1, 1, 1) + ½(1, 1, 1, 0)."""
    one = theorem_2.trained({**theorem_2.TRAINED, "steps": 1}).at.theta
    assert [Fraction(int(x.p), int(x.q)) for x in one] == [
        Fraction(9, 8),
        Fraction(1, 8),
        Fraction(9, 8),
        Fraction(1, 4),
    ]
    two = theorem_2.trained(theorem_2.TRAINED)
    slope = _planted.build({**theorem_2.TINY, "theta": [str(x) for x in one]})
    slope = _noise.Noise(slope).kept(Fraction(2, 3)).at.slope
    assert (two.at.theta == one - slope / 4).all()
    assert any(x != 0 for x in two.at.slope)  # assumption 1 is broken along the run


def test_the_floor_for_own_masks_is_the_average_of_its_samples():
    """n Σ_own − (m² H − (1/n) Σ m_im_iᵀ) = (1/n) Σ E (ε_η² − m²) ∇f_η∇f_ηᵀ, at any θ."""
    of = _noise.build(at((2, 2, 1), "relu", n=3, seed=4, keep=[3, 6]))
    least = of.errors_squared[0]
    floor = least * of.at.printed - _noise.average(_noise.outer(of.means))
    rest = _noise.average(of.mean_of(lambda errors: errors**2 - least))
    assert (3 * of.exact("own masks") - floor == rest).all()


@pytest.mark.parametrize("p", ["1/3", "7/8", "1"])
def test_the_smallest_minimum_has_no_noise_on_its_weights(p):
    of = _minima.either(_minima.pair(p))
    assert prop_1.smallest_minimum(of).holds
    assert not prop_1.smallest_minimum(of, own=Fraction(1, 4)).holds or p == "1"
    assert all(x == 0 for draw in _noise.DRAWS for x in of.exact(draw)[0])
    assert of.at.hessian[0, 0] > 0


def test_errors_bound_the_units_but_for_units_that_are_always_kept():
    kept = _noise.build(theorem_2_hypothesis.UNDROPPED)
    assert all(x == 0 for x in (*kept.at.slope, *kept.at.errors))
    assert theorem_2_hypothesis.balance(kept).holds  # the balance says nothing there
    assert not theorem_2_hypothesis.silenced(kept).holds
    assert not theorem_2_hypothesis.DROPPED.predicate(kept)[0]
