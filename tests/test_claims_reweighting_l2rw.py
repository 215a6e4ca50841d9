"""Claims on L2RW, Meta-Weight-Net, early stopping: their formulas by other channels, the numbers in their notes."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from autograd import grad
from autograd import numpy as anp
from flint import fmpq

from tests.rounding import EPS, assert_rounded
from verification.claims.reweighting import (
    _one_step,
    early_stopping,
    early_stopping_weights,
    l2rw,
    l2rw_eq_4,
    mwn,
    mwn_weight_function,
)
from verification.hunt import canonical, evaluate

MODULES = (l2rw, l2rw_eq_4, mwn, mwn_weight_function, early_stopping, early_stopping_weights)
CLAIMS = {claim.id.removeprefix("reweighting/"): claim for module in MODULES for claim in module.CLAIMS}


def measured(claim_id, params, measure=None):
    claim = CLAIMS[claim_id]
    return evaluate(claim, measure or claim.measure, canonical(params)).measurement


def fractions(x):
    return np.array([Fraction(int(e.p), int(e.q)) for e in map(fmpq, np.ravel(x))], dtype=object).reshape(
        np.shape(x)
    )


@pytest.mark.parametrize("seed", range(4))
def test_one_iteration_sample_by_sample(seed):
    """Kills: β for α, a sum over the other axis, θ for θ̂."""
    s = _one_step.step(_one_step.one(3, 2, seed, (3, 2), eta=[1, 2]))
    P, a, x, y, omega, theta = (fractions(v) for v in (s.P, s.a, s.x, s.y, s.omega, s.theta))
    beta = Fraction(3, 2) / 3
    gradients = [sum(x[i, j] * theta[j] for j in range(2)) * x[i] - y[i] * x[i] for i in range(3)]
    ahead = theta - beta * sum(omega[i] * gradients[i] for i in range(3))
    slope = lambda t: P @ t + a  # noqa: E731  # a line
    derivative = [-beta * sum(slope(ahead) * g) for g in gradients]
    assert fractions(s.derivative).tolist() == derivative
    assert fractions(l2rw.judged(s)).tolist() == derivative
    new = [w - Fraction(1, 2) * h for w, h in zip(omega, derivative, strict=True)]
    end = theta - beta * sum(w * g for w, g in zip(new, gradients, strict=True))
    weights, parameters = mwn.found(s)
    assert fractions(weights).tolist() == new
    assert fractions(parameters).tolist() == end.tolist()
    at_zero = [max(beta * sum(slope(theta) * g), Fraction(0)) for g in gradients]
    total = sum(at_zero)
    assert fractions(l2rw.clipped(s)).tolist() == [h / (total + (total == 0)) for h in at_zero]


def test_largest_curvature_bounds_the_matrix():
    """L_F >= ‖P‖, reached but where P is made flat. Kills: a spectrum that is not P's."""
    for seed, flat in product(range(6), (False, True)):
        s = _one_step.step(_one_step.one(2, 3, seed, flat=flat))
        P = np.array([[float(fmpq(e)) for e in row] for row in s.P])
        norm = np.linalg.norm(P, 2)
        assert norm <= float(s.L_F) * (1 + 30 * EPS["float64"]) + 30 * EPS["float64"]
        if flat:
            assert not (s.P @ s.moved != 0).any()
        else:
            assert_rounded(norm, float(s.L_F), terms=float(s.L_F), count=30)


def test_the_numbers_in_the_notes():
    end = _one_step.step(l2rw.IDENTICAL)
    after = end.theta - end.beta * (end.J @ end.raised)
    assert end.F(after) == 4 * end.F(end.theta)
    s = _one_step.step(l2rw.OVERSHOOTS)
    (theta,) = s.after(l2rw.L2RW(alpha=1)).w
    assert theta == fmpq(-3, 4)
    assert s.F(np.array([theta], dtype=object)) == 9 * s.F(s.theta)
    saddle = _one_step.step(l2rw_eq_4.SADDLE)
    assert saddle.F(saddle.ahead()) == saddle.F(saddle.theta) == 0
    assert saddle.derivative[1] != 0 == saddle.at_theta[1]
    flipped = _one_step.step(l2rw_eq_4.FLIPPED)
    assert flipped.derivative[0] == -flipped.at_theta[0] != 0
    current = _one_step.step(_one_step.line([1, -1], [1, 0], alpha=(4, 1), current=1))
    assert current.after(l2rw.L2RW(alpha=4, at="current")).w.tolist() == [3]
    uphill = _one_step.step(mwn.UPHILL)
    assert uphill.F(mwn.found(uphill)[1]) > uphill.F(uphill.theta)


@pytest.mark.parametrize("key", ["l2rw-eq-4@affine", "l2rw-eq-4@proportional", "l2rw-one-step@normalised"])
def test_refuted_readings_hold_on_their_first_instance_and_are_mended(key):
    claim = CLAIMS[key]
    first, *_, last = claim.explicit
    assert measured(key, first).holds
    assert not measured(key, last).holds
    assert measured(key, last, claim.corrected.measure).holds


def test_the_error_bound_is_violated_by_what_it_forgets():
    """An indefinite F, with its largest curvature for its norm; the halved bound at the equality case."""
    assert measured("l2rw-eq-4", l2rw.UNIT).used == 1
    assert not measured("l2rw-eq-4", l2rw.UNIT, l2rw_eq_4.bounded(fmpq(99, 100))).holds


def test_the_weight_functions_derivative_by_autograd():
    """The complex step against reverse mode. Kills: a mistake in V that formula and judge share."""
    s = mwn_weight_function.net({"samples": 4, "hidden": 2, "seed": 3, "step": 1.0})
    k = 2

    def losses(X, y, theta):
        z = anp.dot(X, theta.reshape(3, 2).T)
        return anp.log(anp.exp(z).sum(1)) - z[np.arange(len(y)), y]

    def value(Theta):
        loss, N = losses(s.X, s.y, s.theta), len(s.y)
        a, b, c, e = Theta[:k], Theta[k : 2 * k], Theta[2 * k : 3 * k], Theta[-1]
        V = 1 / (1 + anp.exp(-(anp.dot(anp.tanh(loss[:, None] * a + b), c) + e)))
        lower = lambda theta: anp.sum(losses(s.X, s.y, theta) * V) / N + 0.125 * anp.sum(theta**2) / 2  # noqa: E731  # a line
        return anp.mean(losses(s.X_val, s.y_val, s.theta - s.step * grad(lower)(s.theta)))

    assert_rounded(grad(value)(s.Theta), s.judged, terms=s.rounding / (10 * EPS["float64"]), count=1)


def test_the_latent_loss_by_differences():
    """∫₀^L V at two points, by Simpson's rule, exact for cubics. Kills: an integral without its constant's 0."""
    s = _one_step.step(_one_step.line([1], [1]) | {"V": [1, -1, 2]})
    V = mwn_weight_function.polynomial(s)
    for L in (fmpq(1), fmpq(3, 2)):
        simpson = L / 6 * (V(fmpq(0)) + 4 * V(L / 2) + V(L))
        assert V.integral()(L) == simpson


def test_early_stopping_by_hand():
    """The loop written out. Kills: a step counted twice, the limit of another problem."""
    p = early_stopping_weights.pair(early_stopping_weights.two())
    assert p.alpha == fmpq(1, 2)
    theta, found = Fraction(0), []
    for _ in range(5):
        found.append((theta - 1) ** 2 / 2)
        theta -= Fraction(1, 4) * (2 * theta - 4)
    assert found == [Fraction(*x) for x in ((1, 2), (0, 1), (1, 8), (9, 32), (49, 128))]
    assert [fractions([p.F(p.after(t))])[0] for t in range(5)] == found
    unit = early_stopping.noisy(early_stopping.modes((1, 1, 1, 1)))
    assert [unit.risk(t) for t in range(4)] == [fmpq(1, 2), fmpq(1, 4), fmpq(5, 16), fmpq(25, 64)]
    assert unit.risk(None) == fmpq(1, 2)


def test_expected_risk_over_all_signs():
    """All 2^d independent signs of the noise give the two runs' mean. Kills: noise with one sign only."""
    p = early_stopping.noisy(early_stopping.modes((1, 2, 3, 1), (3, 1, 1, 2), eta=(1, 8), seed=4))
    total = Fraction(0)
    for signs in product((1, -1), repeat=2):
        for (s, h, T, sigma), sign in zip(((1, 2, 3, 1), (3, 1, 1, 2)), signs, strict=True):
            theta = Fraction(0)
            for _ in range(3):
                theta -= Fraction(1, 8) * s * (theta - T - sign * sigma)
            total += Fraction(h) * (theta - T) ** 2 / 2 / 4
    assert fractions([p.risk(3)])[0] == total


def test_where_the_losses_have_no_common_eigenbasis():
    """H = I, K = 11ᵀ, η = ½: 2(xT)² + ½(1 − x)²·2σ² written out, x = 2^{−t}, in units of a tenth."""
    p = early_stopping.noisy(early_stopping.TURNED)
    for t in range(4):
        x = fmpq(1, 2**t)
        assert p.risk(t) == (2 * x * 17) ** 2 / 2 + (1 - x) ** 2 * 100
    assert (p.risk(1), p.risk(None)) == (fmpq(339, 2), 100)
    assert p.late() == 1


def test_where_nothing_is_noisy_solving_fully_is_best():
    p = early_stopping.noisy(early_stopping.SLOW)
    assert all(p.risk(t) > p.risk(None) for t in range(p.late(), 12))
