"""A lower level that falls for ever has no hypergradient, whatever rounding makes of its slope."""

from __future__ import annotations

import numpy as np
import pytest

import refimpl as ri
from refimpl.zoo import quadratic
from refimpl.zoo.logistic import SoftLabelLoss
from refimpl.zoo.weighted_rows import WeightedRows

np_ = pytest.importorskip("autograd.numpy")


def bilevel(lower, d):
    return ri.BilevelProblem(quadratic.objective(ww=np.eye(d), n=1), ri.from_function(lower, n=1, d=d))


ROWS = np.random.default_rng(0).standard_normal((3, 3))  # independent: a plane separates any labels
FALLING = {
    "exp": bilevel(lambda lam, w: np_.exp(w[0]) + w[1] ** 2 / 2 - lam[0] * w[1], 2),
    "a plane separates": ri.BilevelProblem(
        quadratic.objective(ww=np.eye(3), w1=np.ones(3), n=3),
        WeightedRows(SoftLabelLoss(ROWS, np.ones(3), 3)),
    ),
}


@pytest.mark.parametrize("certify", ["auto", "never"])
@pytest.mark.parametrize("name", FALLING)
def test_what_falls_for_ever_has_no_finite_bound(name, certify):
    # kills: exact/attained-unchecked
    found = ri.exact_hypergradient(FALLING[name], np.ones(FALLING[name].n), certify=certify)
    assert (found.kind, found.bound) == ("estimated", float("inf"))
    assert found.why_not_bounded.startswith("no minimiser of G(λ, ·) is told from rounding")


def test_what_levels_off_but_has_a_minimum_keeps_its_estimate():
    attained = bilevel(lambda lam, w: np_.sum(np_.log(np_.cosh(w - lam[0]))), 2)
    assert ri.exact_hypergradient(attained, [0.5]).bound < 1e-12


@pytest.mark.parametrize("power", range(0, -13, -3))
def test_ill_conditioned_but_attained(power):
    """κ = 10^−power: the estimate stays, and so does its growth with κ."""
    spectrum = np.geomspace(10.0**power, 1, 5).tolist()
    problem = quadratic.random(n=2, d=5, seed=1, spectrum=spectrum)
    found = ri.exact_hypergradient(problem, problem.start(), certify="never")
    assert 0 < found.bound < np.inf
