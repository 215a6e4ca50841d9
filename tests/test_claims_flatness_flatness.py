"""The claims of ``dropout-flatness`` on its measures of flatness: complete, runnable, built from checked formulas."""

from __future__ import annotations

import itertools as it
from fractions import Fraction

import numpy as np
import pytest
from flint import fmpq

from refimpl import curvature
from refimpl.arrays import to_numpy
from refimpl.networks import MLP, loss
from verification.claims.dropout_flatness import (
    _aligned,
    _bowls,
    _moves,
    _trajectories,
    alignment,
    definitions,
    invariance,
    prefactor,
    trajectory,
)
from verification.claims.dropout_flatness._noise import build
from verification.claims.dropout_flatness._planted import RATIONAL, at

EPS = float(np.finfo(float).eps)


# -- the formulas beneath, by a second channel --------------------------------------------------------


def test_the_derivatives_of_a_bowl():
    # kills: 4 or 12 of the fourth-order term lost, ½ of the second
    w, step = _trajectories.rational([1, Fraction(-2, 3)]), RATIONAL.scalar(Fraction(1, 7))
    f = _bowls.Bowl(
        fmpq(2),
        _trajectories.rational([1, -3]),
        _trajectories.rational([[2, 1], [1, 5]]),
        _trajectories.rational([1, Fraction(1, 2)]),
    )
    lam, units = RATIONAL.zeros((0,)), step * RATIONAL.eye(2)

    def derivative(of):
        """Of polynomials of degree four, exactly."""
        return np.array(
            [(8 * (of(w + e) - of(w - e)) - (of(w + 2 * e) - of(w - 2 * e))) / (12 * step) for e in units]
        )

    assert (derivative(lambda x: f.value(lam, x)) == f.grad_w(lam, w)).all()
    assert (derivative(lambda x: f.grad_w(lam, x)) == f.hess_ww(lam, w).dense()).all()


def test_the_quartic_part_along_a_ray():
    ray = _bowls.ray({**prefactor.ONE, "v": [2], "quartic": "1/3"})
    assert ray.quartic == 24 * 2**4 * fmpq(1, 3)
    assert (ray.loss, ray.slope, ray.curvature) == (1, 0, 4)


def test_slopes_that_the_notes_state():
    f, lam = prefactor.diagonal(prefactor.TWO)
    slopes = [prefactor.fitted(lam, prefactor.widths(f, c)) for c in (1.5, 2, 4.5)]
    exact = [np.log(2 / 3**0.5) / np.log(0.25), 0, np.log(7 / 4) / 2 / np.log(4)]
    assert slopes == pytest.approx(exact, abs=100 * EPS)
    tilted, lam = prefactor.diagonal({"h": [4, 1], "g": [2, 0], "level": 1})
    ratios = [np.divide(*prefactor.widths(tilted, c)) ** 2 for c in (1.5, 2, 4)]
    assert ratios == pytest.approx([1 / 2, 3 / 8, 7 / 24], rel=100 * EPS)


@pytest.mark.parametrize("X", [1, 2, 5])
def test_the_ratio_of_the_one_sided_unit(X):
    # kills: D without the biases, a noise that is not centred
    case = build(alignment.one_sided(X))
    assert all(x == 0 for x in case.at.slope)
    for which in ("one sample", "own masks", "shared mask"):
        assert _aligned.of_network(case, which).traces.ratio == fmpq(2, X * X + 1)


def test_the_printed_counterexample_is_a_minimum_of_given_labels():
    case = alignment.either(alignment.LEAKY)
    assert all(hypothesis.predicate(case)[0] for hypothesis in alignment.MINIMUM)
    ratio = fmpq(369725121950282995074136989454, 541058990888847860196437102545)  # 0.683
    assert _aligned.of_network(case, "printed").traces.ratio == ratio
    block = alignment.either(alignment.BLOCK)
    assert _aligned.of_network(block, "one sample", 0).traces.ratio == fmpq(2, 33)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("which", _aligned.EVERY)
def test_the_constants_order_noise_and_hessian(which, seed):
    # kills: ε² for ε_η², a_i for ε_i², the 1/n of own masks
    params = {"d": 1, "m": 2, "n": 3, "activation": "linear", "seed": seed, "y": [0, 1, 1], "keep": [4, 6]}
    pair = _aligned.of_network(alignment.either(params), which)
    assert _aligned.ordered(pair)[0]
    assert not _aligned.ordered(_aligned.Pair(pair.H, pair.noise, pair.alpha, pair.beta / 100))[0]


@pytest.mark.parametrize(
    ("q", "N"), list(it.product((Fraction(0), Fraction(1, 2), Fraction(-1, 3)), (2, 3, 7)))
)
def test_the_mean_variance_of_a_window_is_its_double_sum(q, N):
    literal = sum(1 - q ** abs(j - k) for j in range(N) for k in range(N)) / N**2
    assert trajectory.mean_variance(q, N) == literal


def test_the_covariance_of_a_descent_is_what_its_recursion_leaves():
    of = _trajectories.descent({"d": 2, "upper": [1], "p": 2, "step": 3, "noise": [[1, 2]]})
    C, A = of.covariance, of.contraction
    assert (A @ C @ A + of.step**2 * of.noise == C).all()
    assert (of.noise == 3 * _trajectories.rational([[1, 2], [2, 4]])).all()  # s = (1 − ¼)/¼


def test_the_regression_is_the_librarys_last_layer():
    # kills: masks that are not scaled, a bias that is dropped, a noise that is not centred
    of = _trajectories.regression({"m": 2, "n": 5, "seed": 1, "p": 6})
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((5, 2)), rng.standard_normal(5)
    net = MLP((2, 2, 1), "linear")
    w = np.concatenate([[1, 0, 0, 0, 1, 0], of.minimum])
    D = loss(net, X, y, loss="squared").with_dropout(
        net.last_masks(0.75), site="activations", scale="inverse"
    )
    rounding = 100 * EPS * np.linalg.norm(of.hessian)
    assert np.abs(of.chances @ of.gradients).max() <= rounding
    assert np.abs(curvature.hessian(D, w, layers=[1]) - of.hessian).max() <= rounding
    assert np.abs(curvature.noise(D, w, draw="shared mask", layers=[1]) - of.noise).max() <= rounding
    X_ = of.lyapunov()
    assert np.abs(of.hessian @ X_ + X_ @ of.hessian - of.noise).max() <= rounding


@pytest.mark.parametrize("more", [{"factors": [3, 1]}, {"reverse": True}])
@pytest.mark.parametrize("layer", [0, 1])
def test_a_move_is_a_symmetry(more, layer):
    case = _moves.move({**at([1, 2, 2, 1], n=2, seed=4, keep=[4, 2]), "layer": layer, **more})
    before, after = case.before.at, case.after.at
    assert (case.T @ before.theta == after.theta).all()
    assert (case.inverse @ after.theta == before.theta).all()
    assert (before.run.output == after.run.output).all()
    assert before.value(before.theta) == after.value(after.theta)
    assert (before.theta != after.theta).any()


def test_the_doubled_unit():
    case = _moves.move(invariance.DOUBLED)
    traces = [pair.H.trace() for pair in case.pairs]
    assert traces == [4, fmpq(37, 4), fmpq(37, 4)]


def test_samples_are_whole_numbers_on_both_backends():
    exact, floats = (definitions.samples({"S": 3, "d": 2, "seed": 5}, exact=x) for x in (True, False))
    assert (to_numpy(exact.rows) == floats.rows).all()
    assert to_numpy(exact.covariance()) == pytest.approx(np.cov(floats.rows.T, bias=True), abs=100 * EPS)
